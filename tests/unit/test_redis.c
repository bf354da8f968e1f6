/* The Redis client against a server that follows a script; against the real one in
 * tests/integration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/redis.h"

enum { PATIENCE_MS = 5000 };

enum script {
    SERVE,
    FREEZE,            /* reads and never answers */
    FREEZE_AFTER_PING, /* comes up first */
    WANT_PASSWORD,
    HANG_UP,      /* at the first SET */
    NO_REDIS,     /* another line protocol */
    TALK_UNASKED, /* a second answer to PING, later */
    LOADING
};

/* Serves one connection after the other in a thread. */
struct server {
    int listener;
    int port;
    pthread_t thread;
    _Atomic enum script script;
    atomic_int connections;
    char key[64], value[64], channel[64];
};

static bool read_word(FILE *in, char *word, size_t size)
{
    char line[32];
    size_t len;

    if (fgets(line, sizeof(line), in) == NULL || line[0] != '$')
        return false;
    len = strtoul(line + 1, NULL, 10);
    char *data = malloc(len + 2);
    bool whole = fread(data, 1, len + 2, in) == len + 2;

    if (whole)
        snprintf(word, size, "%.*s", (int)len, data);
    free(data);
    return whole;
}

static const char *answer(struct server *server, char words[3][64])
{
    static char text[128];

    switch (server->script) {
    case FREEZE: return "";
    case FREEZE_AFTER_PING: return strcmp(words[0], "PING") == 0 ? "+PONG\r\n" : "";
    case HANG_UP: return strcmp(words[0], "PING") == 0 ? "+PONG\r\n" : NULL;
    case NO_REDIS: return "+OK ready\r\n";
    case LOADING: return "-LOADING Redis is loading the dataset in memory\r\n";
    case TALK_UNASKED:
    case SERVE:
    case WANT_PASSWORD: break;
    }
    if (strcmp(words[0], "AUTH") == 0)
        return strcmp(words[1], "sesame") == 0 ? "+OK\r\n" : "-ERR invalid password\r\n";
    if (strcmp(words[0], "SELECT") == 0)
        return strcmp(words[1], "3") == 0 ? "+OK\r\n" : "-ERR no\r\n";
    if (strcmp(words[0], "SET") == 0) {
        snprintf(server->key, sizeof(server->key), "%s", words[1]);
        snprintf(server->value, sizeof(server->value), "%s", words[2]);
        return "+OK\r\n";
    }
    if (strcmp(words[0], "GET") == 0) {
        if (strcmp(words[1], server->key) != 0)
            return "$-1\r\n";
        snprintf(text, sizeof(text), "$%zu\r\n%s\r\n", strlen(server->value), server->value);
        return text;
    }
    if (strcmp(words[0], "PUBLISH") == 0) {
        snprintf(server->channel, sizeof(server->channel), "%s", words[1]);
        return ":1\r\n";
    }
    return server->script == WANT_PASSWORD ? "-NOAUTH Authentication required.\r\n" : "+PONG\r\n";
}

static void serve(struct server *server, int fd)
{
    FILE *in = fdopen(fd, "r");
    char line[32];

    while (fgets(line, sizeof(line), in) != NULL && line[0] == '*') {
        char words[3][64] = {"", "", ""};
        int n = atoi(line + 1);

        for (int i = 0; i < n; i++)
            if (!read_word(in, words[i], sizeof(words[i])))
                break;
        bool talk = server->script == TALK_UNASKED;
        const char *text = answer(server, words);

        if (text == NULL)
            break;
        if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
            break;
        if (talk) {
            while (server->script == TALK_UNASKED)
                usleep(1000);
            (void)!send(fd, "+SURPRISE\r\n", 11, MSG_NOSIGNAL);
        }
    }
    fclose(in);
}

static void *server_main(void *arg)
{
    struct server *server = arg;
    int fd;

    while ((fd = accept(server->listener, NULL, NULL)) >= 0) {
        server->connections++;
        serve(server, fd);
    }
    return NULL;
}

struct fixture {
    struct server server;
    struct loop *loop;
    struct redis *redis;
    int ups, downs;
    int replies;
    bool ok;
    char value[64];
    char error[128];
    char password_file[64];
};

static int set_up(void **state)
{
    struct fixture *fx = test_calloc(1, sizeof(*fx));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    assert_int_equal(loop_new(&fx->loop, NULL), 0);
    fx->server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fx->server.listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fx->server.listener, 16), 0);
    assert_int_equal(getsockname(fx->server.listener, (struct sockaddr *)&address, &size), 0);
    fx->server.port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&fx->server.thread, NULL, server_main, &fx->server), 0);
    *state = fx;
    return 0;
}

static void server_stop(struct fixture *fx)
{
    if (fx->server.listener < 0)
        return;
    shutdown(fx->server.listener, SHUT_RDWR);
    pthread_join(fx->server.thread, NULL);
    close(fx->server.listener);
    fx->server.listener = -1;
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;

    redis_free(fx->redis);
    server_stop(fx);
    loop_free(fx->loop);
    if (fx->password_file[0] != '\0')
        unlink(fx->password_file);
    test_free(fx);
    return 0;
}

static void on_state(struct redis *redis, enum redis_state state, void *arg)
{
    struct fixture *fx = arg;

    assert_ptr_equal(redis, fx->redis);
    if (state == REDIS_UP)
        fx->ups++;
    else
        fx->downs++;
}

static void start(struct fixture *fx, enum script script, struct redis_config config)
{
    fx->server.script = script;
    config.port = config.port != 0 ? config.port : fx->server.port;
    config.on_state = on_state;
    config.arg = fx;
    assert_int_equal(redis_new(&fx->redis, fx->loop, &config, NULL), 0);
}

static void reply(bool ok, const char *value, size_t size, const char *error, void *arg)
{
    struct fixture *fx = arg;

    assert_int_equal(ok, error == NULL);
    fx->replies++;
    fx->ok = ok;
    if (value != NULL)
        snprintf(fx->value, sizeof(fx->value), "%.*s", (int)size, value);
    else
        snprintf(fx->value, sizeof(fx->value), "(none)");
    snprintf(fx->error, sizeof(fx->error), "%s", error != NULL ? error : "");
}

static struct redis_status status_of(struct fixture *fx)
{
    struct redis_status status;

    redis_status(fx->redis, &status);
    return status;
}

#define RUN_UNTIL(fx, condition)                                                                   \
    do {                                                                                           \
        int64_t until_ms_ = clock_mono_ms() + PATIENCE_MS;                                         \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() >= until_ms_)                                                      \
                fail_msg("did not happen: %s (%s)", #condition, status_of(fx).error);              \
            assert_int_equal(loop_run_once((fx)->loop, 20, NULL), 0);                              \
        }                                                                                          \
    } while (0)

static void test_redis__set_get_publish__are_answered(void **state)
{
    struct fixture *fx = *state;

    start(fx, SERVE, (struct redis_config){.database = 3});
    RUN_UNTIL(fx, fx->ups == 1);
    assert_int_equal(status_of(fx).state, REDIS_UP);
    assert_string_equal(status_of(fx).error, "");
    redis_set(fx->redis, "k", "v 1", 3, reply, fx);
    redis_get(fx->redis, "k", reply, fx);
    assert_int_equal(fx->replies, 0);
    RUN_UNTIL(fx, fx->replies == 2);
    assert_string_equal(fx->value, "v 1");
    redis_get(fx->redis, "missing", reply, fx);
    RUN_UNTIL(fx, fx->replies == 3);
    assert_true(fx->ok);
    assert_string_equal(fx->value, "(none)");
    redis_publish(fx->redis, "c", "x", 1, reply, fx);
    RUN_UNTIL(fx, fx->replies == 4);
    assert_true(fx->ok);
    assert_string_equal(fx->server.channel, "c");
    assert_int_equal(status_of(fx).outstanding, 0);
}

static void write_password(struct fixture *fx, const char *password)
{
    snprintf(fx->password_file, sizeof(fx->password_file), "/tmp/ogel-test-redis-%d", getpid());
    FILE *file = fopen(fx->password_file, "w");

    assert_non_null(file);
    fputs(password, file);
    fclose(file);
    assert_int_equal(chmod(fx->password_file, 0600), 0);
}

static void test_redis__password__is_read_again_at_each_attempt(void **state)
{
    struct fixture *fx = *state;

    write_password(fx, "wrong\n");
    start(fx, WANT_PASSWORD,
          (struct redis_config){.password_file = fx->password_file, .backoff_max_ms = 100});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "invalid password"));
    assert_null(strstr(status_of(fx).error, "wrong"));
    assert_int_equal(fx->ups, 0);
    write_password(fx, "sesame\n");
    fx->server.script = SERVE;
    RUN_UNTIL(fx, fx->ups == 1);
    assert_string_equal(status_of(fx).error, "");
}

static void test_redis__password_file_missing__is_an_error_and_no_connection(void **state)
{
    struct fixture *fx = *state;

    start(fx, SERVE, (struct redis_config){.password_file = "/nonexistent/password"});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "/nonexistent/password"));
    assert_int_equal(fx->server.connections, 0);
}

static void test_redis__not_there__drops_what_is_sent_and_says_so(void **state)
{
    struct fixture *fx = *state;

    server_stop(fx);
    start(fx, SERVE, (struct redis_config){0});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "refused"));
    redis_set(fx->redis, "k", "v", 1, reply, fx);
    redis_set(fx->redis, "k", "v", 1, NULL, NULL);
    assert_int_equal(fx->replies, 0);
    RUN_UNTIL(fx, fx->replies == 1);
    assert_false(fx->ok);
    assert_int_equal(status_of(fx).dropped_total, 2);
    assert_int_equal(fx->ups + fx->downs, 0);
}

static void test_redis__that_accepts_and_is_frozen__never_counts_as_up(void **state)
{
    struct fixture *fx = *state;

    start(fx, FREEZE, (struct redis_config){.deadline_ms = 50});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "no answer within 50 ms"));
    assert_int_equal(fx->ups, 0);
}

static void test_redis__that_freezes_later__is_dropped_after_the_deadline(void **state)
{
    struct fixture *fx = *state;
    static char big[1 << 20];
    int64_t begin_ms;

    start(fx, FREEZE_AFTER_PING, (struct redis_config){.deadline_ms = 1000, .outstanding_max = 3});
    RUN_UNTIL(fx, fx->ups == 1);
    begin_ms = clock_mono_ms();
    for (int i = 0; i < 5; i++)
        redis_set(fx->redis, "k", big, sizeof(big), reply, fx);
    assert_true(clock_mono_ms() - begin_ms < 1000);
    assert_int_equal(status_of(fx).outstanding, 3);
    RUN_UNTIL(fx, fx->replies == 2); /* two were over the bound */
    RUN_UNTIL(fx, fx->replies == 5);
    assert_true(clock_mono_ms() - begin_ms >= 995);
    assert_false(fx->ok);
    assert_int_equal(fx->downs, 1);
    assert_int_equal(status_of(fx).dropped_total, 5);
    assert_int_equal(status_of(fx).outstanding, 0);
}

static void test_redis__size_of_what_is_outstanding__is_bounded(void **state)
{
    struct fixture *fx = *state;
    static char value[1000];

    start(fx, FREEZE_AFTER_PING, (struct redis_config){.outstanding_max_bytes = 2500});
    RUN_UNTIL(fx, fx->ups == 1);
    for (int i = 0; i < 5; i++)
        redis_set(fx->redis, "k", value, sizeof(value), NULL, NULL);
    assert_int_equal(status_of(fx).outstanding, 2);
    assert_int_equal(status_of(fx).dropped_total, 3);
}

static void test_redis__connection_lost__comes_back_by_itself(void **state)
{
    struct fixture *fx = *state;

    start(fx, HANG_UP, (struct redis_config){.backoff_max_ms = 100});
    RUN_UNTIL(fx, fx->ups == 1);
    redis_set(fx->redis, "k", "v", 1, reply, fx);
    redis_get(fx->redis, "k", reply, fx);
    RUN_UNTIL(fx, fx->downs == 1 && fx->replies == 2);
    assert_false(fx->ok);
    fx->server.script = SERVE;
    RUN_UNTIL(fx, fx->ups == 2);
    assert_int_equal(status_of(fx).connects_total, 2);
    redis_set(fx->redis, "k", "v", 1, reply, fx);
    RUN_UNTIL(fx, fx->replies == 3);
    assert_true(fx->ok);
}

static void test_redis__loading__is_tried_again(void **state)
{
    struct fixture *fx = *state;

    start(fx, LOADING, (struct redis_config){.backoff_max_ms = 100});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "LOADING"));
    fx->server.script = SERVE;
    RUN_UNTIL(fx, fx->ups == 1);
}

static void test_redis__something_else_answers__is_an_error(void **state)
{
    struct fixture *fx = *state;

    start(fx, NO_REDIS, (struct redis_config){0});
    RUN_UNTIL(fx, status_of(fx).error[0] != '\0');
    assert_non_null(strstr(status_of(fx).error, "not Redis"));
    assert_int_equal(fx->ups, 0);
}

/* hiredis would abort the process. */
static void test_redis__unasked_answer__ends_the_connection(void **state)
{
    struct fixture *fx = *state;

    start(fx, TALK_UNASKED, (struct redis_config){0});
    RUN_UNTIL(fx, fx->ups == 1);
    fx->server.script = SERVE;
    RUN_UNTIL(fx, fx->downs == 1);
    assert_non_null(strstr(status_of(fx).error, "not asked"));
}

static void test_redis__freed_with_commands_outstanding__tells_them(void **state)
{
    struct fixture *fx = *state;

    start(fx, FREEZE_AFTER_PING, (struct redis_config){.outstanding_max = 1});
    RUN_UNTIL(fx, fx->ups == 1);
    redis_set(fx->redis, "k", "v", 1, reply, fx);
    redis_set(fx->redis, "k", "v", 1, reply, fx);
    redis_free(fx->redis);
    fx->redis = NULL;
    assert_int_equal(fx->replies, 2);
    assert_false(fx->ok);
}

static void test_redis__bad_configuration__is_refused(void **state)
{
    struct fixture *fx = *state;
    struct err err = {0};

    assert_int_equal(
        redis_new(&fx->redis, fx->loop, &(struct redis_config){.host = "redis.local"}, &err), -1);
    assert_non_null(strstr(err.text, "redis.local"));
    assert_int_equal(redis_new(&fx->redis, fx->loop, &(struct redis_config){.port = 65536}, &err),
                     -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_redis__set_get_publish__are_answered),
        TEST(test_redis__password__is_read_again_at_each_attempt),
        TEST(test_redis__password_file_missing__is_an_error_and_no_connection),
        TEST(test_redis__not_there__drops_what_is_sent_and_says_so),
        TEST(test_redis__that_accepts_and_is_frozen__never_counts_as_up),
        TEST(test_redis__that_freezes_later__is_dropped_after_the_deadline),
        TEST(test_redis__size_of_what_is_outstanding__is_bounded),
        TEST(test_redis__connection_lost__comes_back_by_itself),
        TEST(test_redis__loading__is_tried_again),
        TEST(test_redis__something_else_answers__is_an_error),
        TEST(test_redis__unasked_answer__ends_the_connection),
        TEST(test_redis__freed_with_commands_outstanding__tells_them),
        TEST(test_redis__bad_configuration__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
