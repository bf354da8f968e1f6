#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/resolve.h"

enum { PATIENCE_MS = 5000 };

struct seen {
    struct loop *loop;
    struct loop_timer *timer;
    struct loop_watch *watch;
    int count;
    int want;
    unsigned events;
    int64_t at_us;
    pthread_t thread;
    int order[64];
};

static int set_up(void **state)
{
    struct err err = {0};
    struct seen *seen = test_calloc(1, sizeof(*seen));

    assert_int_equal(loop_new(&seen->loop, &err), 0);
    seen->want = 1;
    *state = seen;
    return 0;
}

static int tear_down(void **state)
{
    struct seen *seen = *state;

    loop_timer_free(seen->timer);
    loop_watch_free(seen->watch);
    loop_free(seen->loop);
    test_free(seen);
    return 0;
}

/* Runs until what is wanted was seen. */
static void run(struct seen *seen)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct err err = {0};

    while (seen->count < seen->want) {
        assert_true(clock_mono_ms() < until_ms);
        assert_int_equal(loop_run_once(seen->loop, 100, &err), 0);
    }
}

static void note(void *arg)
{
    struct seen *seen = arg;

    seen->count++;
    seen->at_us = clock_mono_us();
    seen->thread = pthread_self();
}

static void note_watch(int fd, unsigned events, void *arg)
{
    struct seen *seen = arg;

    (void)fd;
    seen->events = events;
    note(seen);
}

static void test_timer__fires_once_and_not_early(void **state)
{
    struct seen *seen = *state;

    seen->timer = loop_timer_new(seen->loop, note, seen);
    assert_false(loop_timer_armed(seen->timer));
    /* Short and often: a coarse clock is wrong by a tick at some of these moments only. */
    for (seen->want = 1; seen->want <= 50; seen->want++) {
        int64_t before_us = clock_mono_us();

        loop_timer_start(seen->timer, 2);
        assert_true(loop_timer_armed(seen->timer));
        run(seen);
        assert_true(seen->at_us - before_us >= 2 * 1000);
        assert_false(loop_timer_armed(seen->timer));
    }
    assert_int_equal(loop_run_once(seen->loop, 10, NULL), 0);
    assert_int_equal(seen->count, 50);
}

static void spin_us(int64_t us)
{
    int64_t until_us = clock_mono_us() + us;

    while (clock_mono_us() < until_us)
        ;
}

/* Long before, for the moment at which the round began; and past the kernel's next tick after, for
 * the clock that libevent reads. */
static void arm_within_a_long_callback(void *arg)
{
    struct seen *seen = arg;

    spin_us(30 * 1000 + seen->want * 700);
    seen->at_us = -clock_mono_us();
    loop_timer_start(seen->timer, 25);
    spin_us(6 * 1000);
}

static void note_delay(void *arg)
{
    struct seen *seen = arg;

    seen->at_us += clock_mono_us();
    seen->count++;
}

static void test_timer__armed_late_in_a_long_callback__is_not_early(void **state)
{
    struct seen *seen = *state;

    seen->timer = loop_timer_new(seen->loop, note_delay, seen);
    for (seen->want = 1; seen->want <= 10; seen->want++) {
        loop_post(seen->loop, arm_within_a_long_callback, seen);
        run(seen);
        assert_true(seen->at_us >= 25 * 1000);
    }
}

static void test_timer__repeats_until_stopped(void **state)
{
    struct seen *seen = *state;

    seen->want = 4;
    seen->timer = loop_timer_new(seen->loop, note, seen);
    loop_timer_repeat(seen->timer, 2);
    run(seen);
    loop_timer_stop(seen->timer);
    assert_int_equal(loop_run_once(seen->loop, 20, NULL), 0);
    assert_int_equal(seen->count, 4);
}

static void free_own_timer(void *arg)
{
    struct seen *seen = arg;

    loop_timer_free(seen->timer);
    seen->timer = NULL;
    seen->count++;
}

static void test_timer__may_be_freed_by_its_own_callback(void **state)
{
    struct seen *seen = *state;

    seen->timer = loop_timer_new(seen->loop, free_own_timer, seen);
    loop_timer_repeat(seen->timer, 1);
    run(seen);
    assert_int_equal(loop_run_once(seen->loop, 10, NULL), 0);
    assert_int_equal(seen->count, 1);
}

static void test_watch__readable__is_reported_while_data_is_left(void **state)
{
    struct seen *seen = *state;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    seen->watch = loop_watch_new(seen->loop, pair[0], LOOP_READ, note_watch, seen);
    assert_int_equal(write(pair[1], "x", 1), 1);
    seen->want = 3;
    run(seen);
    assert_int_equal(seen->events, LOOP_READ);
    loop_watch_set(seen->watch, 0);
    assert_int_equal(loop_run_once(seen->loop, 5, NULL), 0);
    assert_int_equal(seen->count, 3);
    loop_watch_set(seen->watch, LOOP_WRITE);
    seen->want = 4;
    run(seen);
    assert_int_equal(seen->events, LOOP_WRITE);
    close(pair[0]);
    close(pair[1]);
}

static void test_closed__pipelined_data__is_not_mistaken_for_it(void **state)
{
    struct seen *seen = *state;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    seen->watch = loop_watch_new(seen->loop, pair[0], LOOP_CLOSED, note_watch, seen);
    assert_int_equal(write(pair[1], "GET", 3), 3);
    assert_int_equal(loop_run_once(seen->loop, 5, NULL), 0);
    assert_int_equal(seen->count, 0);
    close(pair[1]);
    run(seen);
    assert_int_equal(seen->events, LOOP_CLOSED);
    close(pair[0]);
}

/* libevent hides EPOLLERR from an event that only asked for EV_CLOSED. */
static void test_closed__reset_connection__is_reported(void **state)
{
    struct seen *seen = *state;
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct linger reset = {.l_onoff = 1};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, size), 0);
    int server = accept(listener, NULL, NULL);

    assert_true(server >= 0);
    seen->watch = loop_watch_new(seen->loop, server, LOOP_CLOSED, note_watch, seen);
    assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(client);
    run(seen);
    assert_int_equal(seen->events, LOOP_CLOSED);
    close(server);
    close(listener);
}

static void note_order(void *arg)
{
    int *slot = arg;
    static int next;

    if (*slot < 0)
        next = 0;
    *slot = ++next;
}

static void *post_three(void *arg)
{
    struct seen *seen = arg;

    seen->order[0] = -1;
    for (int i = 0; i < 3; i++)
        loop_post(seen->loop, note_order, &seen->order[i]);
    loop_post(seen->loop, note, seen);
    return NULL;
}

static void test_post__from_another_thread__runs_in_order_in_the_loops(void **state)
{
    struct seen *seen = *state;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, post_three, seen), 0);
    run(seen);
    pthread_join(thread, NULL);
    assert_true(pthread_equal(seen->thread, pthread_self()));
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen->order[i], i + 1);
}

static void post_again(void *arg)
{
    struct seen *seen = arg;

    seen->order[0]++;
    if (seen->count == 0)
        loop_post(seen->loop, post_again, seen);
}

static void test_post__that_posts_for_ever__starves_no_timer(void **state)
{
    struct seen *seen = *state;

    seen->timer = loop_timer_new(seen->loop, note, seen);
    loop_timer_start(seen->timer, 5);
    loop_post(seen->loop, post_again, seen);
    run(seen);
    assert_true(seen->order[0] > 1);
}

static void stop(void *arg)
{
    struct seen *seen = arg;

    note(seen);
    loop_stop(seen->loop);
}

static void *wake_then_stop(void *arg)
{
    struct seen *seen = arg;

    loop_wake(seen->loop);
    loop_post(seen->loop, stop, seen);
    return NULL;
}

static void test_run__returns_after_stop_and_can_run_again(void **state)
{
    struct seen *seen = *state;
    struct err err = {0};

    for (int i = 1; i <= 2; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, wake_then_stop, seen), 0);
        assert_int_equal(loop_run(seen->loop, &err), 0);
        pthread_join(thread, NULL);
        assert_int_equal(seen->count, i);
    }
}

static void test_signal__is_delivered_in_the_loop(void **state)
{
    struct seen *seen = *state;
    struct loop_signal *usr1 = loop_signal_new(seen->loop, SIGUSR1, note, seen);

    raise(SIGUSR1);
    assert_int_equal(seen->count, 0);
    run(seen);
    loop_signal_free(usr1);
}

static void test_pidfd__exit_of_the_process__is_reported(void **state)
{
    struct seen *seen = *state;
    int pipe_fd[2];
    char byte;

    assert_int_equal(pipe(pipe_fd), 0);
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        close(pipe_fd[1]);
        _exit(read(pipe_fd[0], &byte, 1) == 0 ? 7 : 1);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    assert_true(pidfd >= 0);
    seen->watch = loop_watch_pidfd(seen->loop, pidfd, note_watch, seen);
    assert_int_equal(loop_run_once(seen->loop, 10, NULL), 0);
    assert_int_equal(seen->count, 0);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    run(seen);
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 7);
    loop_watch_free(seen->watch);
    seen->watch = NULL;
    close(pidfd);
}

/* ---- names */

static void test_literal__is_told_from_a_name(void **state)
{
    (void)state;
    assert_true(resolve_is_literal("127.0.0.1"));
    assert_true(resolve_is_literal("::1"));
    assert_true(resolve_is_literal("fe80::1%eth0"));
    assert_false(resolve_is_literal("127.0.0.1.example"));
    assert_false(resolve_is_literal("10.1"));
    assert_false(resolve_is_literal("node-a"));
    assert_false(resolve_is_literal(""));
}

static void test_resolver__literal__is_answered_at_once(void **state)
{
    struct resolver *resolver;
    char address[RESOLVE_ADDRESS_SIZE];

    (void)state;
    assert_int_equal(resolver_new(&resolver, 0, NULL), 0);
    assert_true(resolve_get(resolver, "192.0.2.7", address, NULL, 0));
    assert_string_equal(address, "192.0.2.7");
    resolver_free(resolver);
}

static void test_resolver__name__is_known_after_the_thread_asked(void **state)
{
    struct resolver *resolver;
    char address[RESOLVE_ADDRESS_SIZE], why[64] = "";

    (void)state;
    assert_int_equal(resolver_new(&resolver, 0, NULL), 0);
    assert_false(resolve_get(resolver, "localhost", address, why, sizeof(why)));
    assert_string_equal(why, "no answer yet");
    assert_true(resolve_wait(resolver, "localhost", PATIENCE_MS, address, why, sizeof(why)));
    assert_true(resolve_is_literal(address));
    assert_true(resolve_get(resolver, "localhost", address, NULL, 0));
    resolver_free(resolver);
}

static void test_resolver__bad_name__says_why(void **state)
{
    struct resolver *resolver;
    char address[RESOLVE_ADDRESS_SIZE], why[64] = "";

    (void)state;
    assert_int_equal(resolver_new(&resolver, 0, NULL), 0);
    /* Refused by the resolver itself, before any packet. */
    assert_false(resolve_wait(resolver, "a..b", PATIENCE_MS, address, why, sizeof(why)));
    assert_string_not_equal(why, "");
    assert_string_not_equal(why, "no answer yet");
    resolver_free(resolver);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_timer__fires_once_and_not_early),
        TEST(test_timer__armed_late_in_a_long_callback__is_not_early),
        TEST(test_timer__repeats_until_stopped),
        TEST(test_timer__may_be_freed_by_its_own_callback),
        TEST(test_watch__readable__is_reported_while_data_is_left),
        TEST(test_closed__pipelined_data__is_not_mistaken_for_it),
        TEST(test_closed__reset_connection__is_reported),
        TEST(test_post__from_another_thread__runs_in_order_in_the_loops),
        TEST(test_post__that_posts_for_ever__starves_no_timer),
        TEST(test_run__returns_after_stop_and_can_run_again),
        TEST(test_signal__is_delivered_in_the_loop),
        TEST(test_pidfd__exit_of_the_process__is_reported),
        cmocka_unit_test(test_literal__is_told_from_a_name),
        cmocka_unit_test(test_resolver__literal__is_answered_at_once),
        cmocka_unit_test(test_resolver__name__is_known_after_the_thread_asked),
        cmocka_unit_test(test_resolver__bad_name__says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
