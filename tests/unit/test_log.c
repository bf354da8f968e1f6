#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#define QUEUE 65536

static int fds[2]; /* what the log writes comes out of fds[0] */

static int setup(void **state)
{
    (void)state;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    log_set_fd(fds[1]);
    log_set_level(LOG_LEVEL_INFO);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_set_fd(STDERR_FILENO);
    close(fds[0]);
    return close(fds[1]);
}

/* The next line without its end; NULL when the pipe is empty after TIMEOUT_MS. The caller frees. */
static char *next_text(int timeout_ms)
{
    char *text = NULL;
    size_t len = 0;
    struct pollfd poll_fd = {.fd = fds[0], .events = POLLIN};

    for (;;) {
        text = xreallocarray(text, len + 1, 1);
        if (poll(&poll_fd, 1, timeout_ms) != 1 || read(fds[0], text + len, 1) != 1) {
            assert_int_equal(len, 0);
            free(text);
            return NULL;
        }
        if (text[len] == '\n') {
            text[len] = '\0';
            return text;
        }
        len++;
    }
}

static json_t *next_line(void)
{
    char *text = next_text(5000);
    json_t *line;
    struct err err;

    assert_non_null(text);
    assert_int_equal(json_parse_bounded(text, strlen(text), 8, &line, &err), 0);
    free(text);
    return line;
}

static void assert_field(const json_t *line, const char *name, const char *expected)
{
    const char *is = json_string_value(json_object_get(line, name));

    assert_non_null(is);
    assert_string_equal(is, expected);
}

static int64_t int_field(const json_t *line, const char *name)
{
    assert_true(json_is_integer(json_object_get(line, name)));
    return json_integer_value(json_object_get(line, name));
}

/* --- lines ---------------------------------------------------------------------------------- */

static void test_log__line__begins_with_time_level_event(void **state)
{
    char *text;
    int64_t ms;
    json_t *line;

    (void)state;
    log_event(LOG_LEVEL_INFO, "started", "{s:s,s:I}", "path", "/a", "generation", (json_int_t)7);
    text = next_text(5000);
    assert_non_null(text);
    assert_memory_equal(text, "{\"time\":\"20", 11);
    assert_int_equal(strcmp(strchr(text, ','), ",\"level\":\"info\",\"event\":\"started\","
                                               "\"path\":\"/a\",\"generation\":7}"),
                     0);
    assert_int_equal(json_parse_bounded(text, strlen(text), 8, &line, NULL), 0);
    assert_int_equal(
        clock_parse_iso8601(json_string_value(json_object_get(line, "time")), &ms, NULL), 0);
    assert_true(llabs(clock_wall_ms() - ms) < 60000);
    json_decref(line);
    free(text);
}

static void test_log__context__is_in_every_line_until_removed(void **state)
{
    json_t *line;

    (void)state;
    log_context_set("cluster", "main");
    log_context_set("node", "a");
    log_context_set("node", "b");
    log_event(LOG_LEVEL_INFO, "x", NULL);
    line = next_line();
    assert_field(line, "cluster", "main");
    assert_field(line, "node", "b");
    json_decref(line);
    log_event(LOG_LEVEL_INFO, "x", "{s:s}", "node", "c");
    line = next_line();
    assert_field(line, "node", "c");
    json_decref(line);
    log_context_set("cluster", NULL);
    log_context_set("node", NULL);
    log_event(LOG_LEVEL_INFO, "x", NULL);
    line = next_line();
    assert_null(json_object_get(line, "node"));
    json_decref(line);
}

static void test_log__below_the_level__is_not_written(void **state)
{
    json_t *line;

    (void)state;
    log_set_level(LOG_LEVEL_WARNING);
    assert_false(log_enabled(LOG_LEVEL_INFO));
    log_event(LOG_LEVEL_INFO, "quiet", "{s:o}", "given", json_object());
    log_event(LOG_LEVEL_WARNING, "loud", NULL);
    line = next_line();
    assert_field(line, "event", "loud");
    assert_field(line, "level", "warning");
    json_decref(line);
}

static void test_log__bytes_that_are_no_text__keep_the_line_valid(void **state)
{
    json_t *line, *given = json_integer(9);

    (void)state;
    log_event(LOG_LEVEL_INFO, "x", "{s:s, s:I, s:s, s:b, s:i, s:f, s:O, s:o}", "bad", "a\xff\xc3(b",
              "number", (json_int_t)INT64_MAX, "none", NULL, "flag", 1, "int", -1, "real", 0.5,
              "ref", given, "taken", json_object());
    line = next_line();
    assert_field(line, "bad", "a\xef\xbf\xbd\xef\xbf\xbd(b");
    assert_true(int_field(line, "number") == INT64_MAX);
    assert_true(json_is_null(json_object_get(line, "none")));
    assert_true(json_is_true(json_object_get(line, "flag")));
    assert_true(int_field(line, "int") == -1);
    assert_true(int_field(line, "ref") == 9);
    json_decref(line);
    json_decref(given);
}

static void test_log__line_breaks__stay_inside(void **state)
{
    json_t *line;
    struct err err;

    (void)state;
    err_set(&err, ERR_IO, "first\nsecond\x01");
    log_err(LOG_LEVEL_ERROR, "failed", &err);
    line = next_line();
    assert_field(line, "code", "io");
    assert_field(line, "error", "first\nsecond\x01");
    json_decref(line);
    assert_null(next_text(0));
}

static void test_log__errno__survives(void **state)
{
    (void)state;
    errno = ENOTTY;
    log_event(LOG_LEVEL_INFO, "x", NULL);
    assert_int_equal(errno, ENOTTY);
}

static void test_log__bad_format__aborts_in_debug_and_is_named_otherwise(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        log_event(LOG_LEVEL_INFO, "x", "{s:s", "a", "b");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGABRT);
        json_decref(next_line());
    } else { /* the library was built with NDEBUG */
        json_t *line = next_line();

        assert_non_null(json_object_get(line, "log_error"));
        json_decref(line);
    }
}

/* --- the thread ----------------------------------------------------------------------------- */

static void test_log_thread__stop__writes_what_is_queued_in_order(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(log_thread_start(QUEUE, &err), 0);
    for (int i = 0; i < 200; i++)
        log_event(LOG_LEVEL_INFO, "x", "{s:i}", "n", i);
    log_thread_stop(5000);
    for (int i = 0; i < 200; i++) {
        json_t *line = next_line();

        assert_int_equal(int_field(line, "n"), i);
        json_decref(line);
    }
    log_event(LOG_LEVEL_INFO, "direct", NULL);
    json_decref(next_line());
}

static size_t fill_pipe(void)
{
    char page[4096];
    int flags = fcntl(fds[1], F_GETFL);
    size_t filled = 0;
    ssize_t put;

    memset(page, 'x', sizeof(page));
    page[sizeof(page) - 1] = '\n';
    assert_int_equal(fcntl(fds[1], F_SETFL, flags | O_NONBLOCK), 0);
    while ((put = write(fds[1], page, sizeof(page))) > 0)
        filled += (size_t)put;
    assert_int_equal(fcntl(fds[1], F_SETFL, flags), 0);
    return filled;
}

/* 5000 lines into a pipe that takes nothing: it would never return if callers could block. Then
 * whoever reads gets the queue, a word about what was lost, and what comes after. */
static void test_log_thread__stuck_descriptor__drops_counts_and_says_so(void **state)
{
    uint64_t before = log_dropped_total(), dropped;
    size_t filled;
    json_t *line;
    int got = 0;
    struct err err;

    (void)state;
    filled = fill_pipe();
    assert_int_equal(log_thread_start(4096, &err), 0);
    for (int i = 0; i < 5000; i++)
        log_event(LOG_LEVEL_INFO, "x", "{s:i}", "n", i);
    dropped = log_dropped_total() - before;
    assert_true(dropped > 4000 && dropped < 5000);
    while (filled > 0) {
        char *text = next_text(5000);

        assert_non_null(text);
        filled -= strlen(text) + 1;
        free(text);
    }
    for (got = 0; got < 5000 - (int)dropped; got++) {
        line = next_line();
        assert_int_equal(int_field(line, "n"), got);
        json_decref(line);
    }
    log_event(LOG_LEVEL_INFO, "after", NULL);
    line = next_line();
    assert_field(line, "event", "log_dropped");
    assert_true(int_field(line, "lines") == (int64_t)dropped);
    json_decref(line);
    line = next_line();
    assert_field(line, "event", "after");
    json_decref(line);
    log_thread_stop(5000);
}

static void *chatter(void *arg)
{
    for (int i = 0; i < 100; i++)
        log_event(LOG_LEVEL_INFO, "x", "{s:s,s:i}", "who", (const char *)arg, "n", i);
    return NULL;
}

static void test_log_thread__several_callers__no_line_is_torn_or_lost(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    int next[4] = {0};

    (void)state;
    assert_int_equal(log_thread_start(1 << 20, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, (void *)names[i]), 0);
    for (int i = 0; i < 400; i++) {
        json_t *line = next_line();
        int who = json_string_value(json_object_get(line, "who"))[0] - 'a';

        assert_int_equal(int_field(line, "n"), next[who]++);
        json_decref(line);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    log_thread_stop(5000);
}

/* In a child: the thread that was given up stays in its write(). */
static void test_log_thread__stop_while_stuck__returns_after_its_timeout(void **state)
{
    uint64_t before = log_dropped_total();
    int status;
    pid_t pid;

    (void)state;
    fill_pipe();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(20); /* only ends a test that has failed */
        if (log_thread_start(4096, NULL) < 0)
            _exit(1);
        log_event(LOG_LEVEL_INFO, "x", NULL);
        log_thread_stop(50);
        log_event(LOG_LEVEL_INFO, "must not hang", NULL);
        _exit(log_dropped_total() == before + 1 ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define WITH_PIPE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PIPE(test_log__line__begins_with_time_level_event),
        WITH_PIPE(test_log__context__is_in_every_line_until_removed),
        WITH_PIPE(test_log__below_the_level__is_not_written),
        WITH_PIPE(test_log__bytes_that_are_no_text__keep_the_line_valid),
        WITH_PIPE(test_log__line_breaks__stay_inside),
        WITH_PIPE(test_log__errno__survives),
        WITH_PIPE(test_log__bad_format__aborts_in_debug_and_is_named_otherwise),
        WITH_PIPE(test_log_thread__stop__writes_what_is_queued_in_order),
        WITH_PIPE(test_log_thread__stuck_descriptor__drops_counts_and_says_so),
        WITH_PIPE(test_log_thread__several_callers__no_line_is_torn_or_lost),
        WITH_PIPE(test_log_thread__stop_while_stuck__returns_after_its_timeout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
