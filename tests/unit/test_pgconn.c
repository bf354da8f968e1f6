/* The connections to PostgreSQL against a server that follows a script; against the real one in
 * tests/integration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/pgconn.h"

enum { PATIENCE_MS = 5000 };

/* ---- the scripted server: one connection, in a thread */

struct server;
typedef void script_fn(struct server *server, int fd);

struct server {
    int listener;
    char port[8];
    pthread_t thread;
    script_fn *script;
    const char *code; /* SQLSTATE to fail with */
    char startup[1024];
    size_t startup_size;
    char heard[1024]; /* the statement, or the parameter bound */
};

static void send_message(int fd, char type, const void *data, size_t size)
{
    unsigned char head[5] = {(unsigned char)type, 0, 0, (unsigned char)((size + 4) >> 8),
                             (unsigned char)(size + 4)};

    (void)!write(fd, head, sizeof(head));
    (void)!write(fd, data, size);
}

#define SEND(fd, type, literal) send_message(fd, type, literal, sizeof(literal) - 1)

static bool read_fully(int fd, void *data, size_t size)
{
    return size == 0 || recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static size_t read_body(int fd, char *body, size_t max)
{
    unsigned char length[4];
    size_t size;

    if (!read_fully(fd, length, 4))
        return 0;
    size = ((size_t)length[2] << 8 | length[3]) - 4;
    assert_true(size < max && length[0] == 0 && length[1] == 0);
    body[size] = '\0';
    return read_fully(fd, body, size) ? size : 0;
}

static void send_error(int fd, const char *severity, const char *code)
{
    char body[256];
    int size = snprintf(body, sizeof(body), "S%s%cV%s%cC%s%cM%s%cFpostmaster.c%cL1%cRx%c", severity,
                        0, severity, 0, code, 0, "because of\nthe script", 0, 0, 0, 0);

    send_message(fd, 'E', body, (size_t)size + 1);
}

static void welcome(int fd)
{
    SEND(fd, 'R', "\0\0\0\0");
    SEND(fd, 'S', "server_version\00015.20\0");
    SEND(fd, 'K', "\0\0\0\x2a\0\0\0\1");
    SEND(fd, 'Z', "I");
}

/* Reads until the message of this type; its body is what was heard. */
static bool await(struct server *server, int fd, char type)
{
    char got;

    while (read_fully(fd, &got, 1)) {
        char body[sizeof(server->heard)];
        size_t size = read_body(fd, body, sizeof(body));

        if (got == 'B' && size > 10)
            snprintf(server->heard, sizeof(server->heard), "%s", body + 10);
        else if (got == 'Q')
            snprintf(server->heard, sizeof(server->heard), "%s", body);
        if (got == type)
            return true;
    }
    return false;
}

static void send_rows(int fd)
{
    SEND(fd, 'T',
         "\0\2a\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0"
         "b\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0");
    SEND(fd, 'D', "\0\2\0\0\0\3one\0\0\0\0");
    SEND(fd, 'D', "\0\2\377\377\377\377\0\0\0\3two");
    SEND(fd, 'C', "SELECT 2\0");
}

static void wait_for_close(int fd)
{
    char byte;

    while (read(fd, &byte, 1) > 0)
        ;
}

static void script_refuse(struct server *server, int fd)
{
    send_error(fd, "FATAL", server->code);
}

static void script_rows(struct server *server, int fd)
{
    welcome(fd);
    while (await(server, fd, 'Q')) {
        send_rows(fd);
        SEND(fd, 'Z', "I");
    }
}

static void script_parameters(struct server *server, int fd)
{
    welcome(fd);
    if (!await(server, fd, 'S'))
        return;
    SEND(fd, '1', "");
    SEND(fd, '2', "");
    send_rows(fd);
    SEND(fd, 'Z', "I");
    wait_for_close(fd);
}

/* Rows first, then an error: what went well before does not count. */
static void script_sql_error(struct server *server, int fd)
{
    welcome(fd);
    await(server, fd, 'Q');
    send_rows(fd);
    send_error(fd, "ERROR", "42703");
    SEND(fd, 'Z', "I");
    script_rows(server, fd);
}

static void script_shut_down(struct server *server, int fd)
{
    welcome(fd);
    await(server, fd, 'Q');
    send_error(fd, "FATAL", "57P01");
}

static void script_cut(struct server *server, int fd)
{
    welcome(fd);
    await(server, fd, 'Q');
}

static void script_freeze(struct server *server, int fd)
{
    welcome(fd);
    await(server, fd, 'Q');
    wait_for_close(fd);
}

/* Does not even read. */
static void script_deaf(struct server *server, int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLRDHUP};

    (void)server;
    welcome(fd);
    poll(&end, 1, PATIENCE_MS);
}

static void script_copy(struct server *server, int fd)
{
    welcome(fd);
    await(server, fd, 'Q');
    SEND(fd, 'W', "\0\0\0");
    wait_for_close(fd);
}

static void script_nonsense(struct server *server, int fd)
{
    (void)server;
    (void)!write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    wait_for_close(fd);
}

static void script_wants_password(struct server *server, int fd)
{
    (void)server;
    SEND(fd, 'R', "\0\0\0\3");
    wait_for_close(fd);
}

/* Accepts in the kernel only: what a stopped postmaster looks like. */
static void script_silent(struct server *server, int fd)
{
    (void)server;
    wait_for_close(fd);
}

static void *server_main(void *arg)
{
    struct server *server = arg;
    int fd = accept(server->listener, NULL, NULL);

    if (fd < 0)
        return NULL;
    server->startup_size = read_body(fd, server->startup, sizeof(server->startup));
    server->script(server, fd);
    close(fd);
    return NULL;
}

static void server_start(struct server *server, script_fn *script, const char *code)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    *server = (struct server){.script = script, .code = code};
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(server->listener, 4), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &size), 0);
    snprintf(server->port, sizeof(server->port), "%d", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, server_main, server), 0);
}

static void server_stop(struct server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

/* ---- the client's side */

struct probed {
    bool done;
    struct pg_outcome outcome;
    bool has_result;
    char first[32];
    int64_t duration_us;
    struct pg_probe *probe;
};

static void note(const struct pg_outcome *outcome, const struct pg_result *result,
                 int64_t duration_us, void *arg)
{
    struct probed *probed = arg;

    assert_false(probed->done);
    probed->done = true;
    probed->outcome = *outcome;
    probed->has_result = result != NULL;
    probed->duration_us = duration_us;
    if (result != NULL && pg_result_value(result, 0, 0) != NULL)
        snprintf(probed->first, sizeof(probed->first), "%s", pg_result_value(result, 0, 0));
    pg_probe_cancel(probed->probe); /* within its own callback: nothing left to cancel */
}

static struct probed probe(const char *address, const char *port, const char *sql, int deadline_ms)
{
    const char *keywords[] = {"hostaddr", "port", "user", "dbname", "application_name", NULL};
    const char *values[] = {address, port, "u", "d", NULL, NULL};
    struct pg_conninfo info = {keywords, values};
    struct probed probed = {0};
    struct loop *loop;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    assert_int_equal(loop_new(&loop, NULL), 0);
    probed.probe = pg_probe_start(loop, &info, sql, deadline_ms, note, &probed);
    assert_false(probed.done);
    while (!probed.done) {
        assert_true(clock_mono_ms() < until_ms);
        assert_int_equal(loop_run_once(loop, 100, NULL), 0);
    }
    loop_free(loop);
    return probed;
}

static struct pg_conn *open_at(const char *address, const char *port, int deadline_ms,
                               struct pg_outcome *outcome, struct err *err)
{
    const char *keywords[] = {"hostaddr", "port", "user", "dbname", NULL};
    const char *values[] = {address, port, "u", "d", NULL};
    struct pg_conninfo info = {keywords, values};

    return pg_open(&info, deadline_ms, outcome, err);
}

/* What comes of a script, the same way for a probe and for a worker's statement. */
static void assert_outcome(script_fn *script, const char *code, enum pg_status status,
                           const char *sqlstate)
{
    for (int blocking = 0; blocking <= 1; blocking++) {
        struct pg_outcome outcome;
        struct server server;
        struct err err = {0};
        struct pg_conn *conn = NULL;

        server_start(&server, script, code);
        if (blocking == 0) {
            outcome = probe("127.0.0.1", server.port, "SELECT 1", 300).outcome;
        } else {
            conn = open_at("127.0.0.1", server.port, 300, &outcome, &err);
            if (conn != NULL)
                assert_int_equal(pg_exec(conn, 300, "SELECT 1", 0, NULL, NULL, &outcome, &err), -1);
        }
        assert_string_equal(pg_status_name(outcome.status), pg_status_name(status));
        assert_string_equal(outcome.sqlstate, sqlstate);
        assert_string_not_equal(outcome.message, "");
        assert_null(strchr(outcome.message, '\n'));
        assert_null(strstr(outcome.message, "LOCATION"));
        if (blocking == 1)
            assert_string_equal(err.text, outcome.message);
        if (conn != NULL)
            assert_int_equal(pg_is_open(conn), status == PG_SQL_ERROR);
        pg_close(conn);
        server_stop(&server);
    }
}

static void free_port(char port[8])
{
    struct server server;

    server_start(&server, script_silent, NULL);
    server_stop(&server);
    memcpy(port, server.port, sizeof(server.port));
}

static void test_connect__nobody_listens__is_refused(void **state)
{
    struct pg_outcome outcome;
    struct err err = {0};
    char port[8];

    (void)state;
    free_port(port);
    assert_int_equal(probe("127.0.0.1", port, NULL, 1000).outcome.status, PG_REFUSED);
    assert_null(open_at("127.0.0.1", port, 1000, &outcome, &err));
    assert_int_equal(outcome.status, PG_REFUSED);
    assert_non_null(strstr(err.text, port));
}

static void test_connect__missing_socket__is_refused(void **state)
{
    const char *keywords[] = {"host", "user", NULL}, *values[] = {"/nonexistent", "u", NULL};
    struct pg_conninfo info = {keywords, values};
    struct pg_outcome outcome;

    (void)state;
    assert_null(pg_open(&info, 1000, &outcome, NULL));
    assert_int_equal(outcome.status, PG_REFUSED);
}

static void test_connect__accepted_and_silent__is_a_timeout_on_time(void **state)
{
    int64_t begin_ms = clock_mono_ms();

    (void)state;
    assert_outcome(script_silent, NULL, PG_TIMEOUT, "");
    assert_in_range(clock_mono_ms() - begin_ms, 590, 2 * PATIENCE_MS);
}

static void test_connect__server_says_no__sqlstate_decides(void **state)
{
    (void)state;
    assert_outcome(script_refuse, "57P03", PG_STARTING_UP, "57P03");
    assert_outcome(script_refuse, "28P01", PG_AUTH, "28P01");
    assert_outcome(script_refuse, "28000", PG_AUTH, "28000");
    assert_outcome(script_refuse, "53300", PG_OTHER, "53300");
    assert_outcome(script_refuse, "3D000", PG_OTHER, "3D000");
}

static void test_connect__password_wanted_and_none_given__is_auth(void **state)
{
    (void)state;
    assert_outcome(script_wants_password, NULL, PG_AUTH, "");
}

static void test_connect__something_else_listens__is_other(void **state)
{
    (void)state;
    assert_outcome(script_nonsense, NULL, PG_OTHER, "");
}

static void test_connect__host_name__is_refused_without_a_lookup(void **state)
{
    static const char *const hosts[] = {"localhost", "db.example.org", "127.0.0.1,127.0.0.2", ""};
    const char *keywords[] = {"host", "user", NULL};
    struct pg_outcome outcome;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(hosts); i++) {
        const char *values[] = {hosts[i], "u", NULL};
        struct pg_conninfo info = {keywords, values};

        assert_null(pg_open(&info, 1000, &outcome, NULL));
        assert_int_equal(outcome.status, PG_OTHER);
        assert_non_null(strstr(outcome.message, "hostaddr"));
    }
    assert_int_equal(probe("not-an-address", "1", NULL, 1000).outcome.status, PG_OTHER);
}

static void test_query__ends_badly__says_how(void **state)
{
    (void)state;
    assert_outcome(script_sql_error, NULL, PG_SQL_ERROR, "42703");
    assert_outcome(script_shut_down, NULL, PG_LOST, "57P01");
    assert_outcome(script_cut, NULL, PG_LOST, "");
    assert_outcome(script_freeze, NULL, PG_TIMEOUT, "");
    assert_outcome(script_copy, NULL, PG_OTHER, "");
}

static void test_probe__rows__reach_the_callback(void **state)
{
    struct server server;
    struct probed probed;

    (void)state;
    server_start(&server, script_rows, NULL);
    probed = probe("127.0.0.1", server.port, "SELECT 1", 1000);
    server_stop(&server);
    assert_int_equal(probed.outcome.status, PG_OK);
    assert_string_equal(probed.outcome.message, "");
    assert_true(probed.has_result);
    assert_string_equal(probed.first, "one");
    assert_true(probed.duration_us > 0);
    assert_string_equal(server.heard, "SELECT 1");
}

static void test_probe__without_a_statement__only_connects(void **state)
{
    struct server server;
    struct probed probed;

    (void)state;
    server_start(&server, script_rows, NULL);
    probed = probe("127.0.0.1", server.port, NULL, 1000);
    server_stop(&server);
    assert_int_equal(probed.outcome.status, PG_OK);
    assert_false(probed.has_result);
    assert_string_equal(server.heard, "");
}

static void test_probe__cancelled__calls_nobody_and_closes(void **state)
{
    const char *keywords[] = {"hostaddr", "port", "user", NULL};
    struct probed probed = {0};
    struct server server;
    struct loop *loop;

    (void)state;
    server_start(&server, script_silent, NULL);
    const char *values[] = {"127.0.0.1", server.port, "u", NULL};
    struct pg_conninfo info = {keywords, values};

    assert_int_equal(loop_new(&loop, NULL), 0);
    pg_probe_cancel(pg_probe_start(loop, &info, NULL, 100, note, &probed));
    keywords[0] = "host"; /* fails at once, but is told later */
    values[0] = "localhost";
    pg_probe_cancel(pg_probe_start(loop, &info, NULL, 100, note, &probed));
    assert_int_equal(loop_run_once(loop, 20, NULL), 0);
    assert_false(probed.done);
    pg_probe_cancel(NULL);
    loop_free(loop);
    server_stop(&server);
}

static void test_exec__rows_and_nulls__come_back_as_text(void **state)
{
    struct pg_result *result = NULL;
    struct pg_outcome outcome;
    struct server server;
    struct pg_conn *conn;

    (void)state;
    server_start(&server, script_rows, NULL);
    conn = open_at("127.0.0.1", server.port, 1000, &outcome, NULL);
    assert_non_null(conn);
    assert_int_equal(pg_backend_pid(conn), 42);
    assert_int_equal(pg_server_version(conn), 150020);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pg_exec(conn, 1000, "SELECT 2", 0, NULL, &result, &outcome, NULL), 0);
        assert_int_equal(pg_result_rows(result), 2);
        assert_int_equal(pg_result_columns(result), 2);
        assert_int_equal(pg_result_column(result, "b"), 1);
        assert_int_equal(pg_result_column(result, "c"), -1);
        assert_string_equal(pg_result_value(result, 0, 0), "one");
        assert_string_equal(pg_result_value(result, 0, 1), "");
        assert_null(pg_result_value(result, 1, 0));
        assert_null(pg_result_value(result, 2, 0));
        assert_null(pg_result_value(result, 0, 2));
        assert_int_equal(pg_result_affected(result), 2);
        pg_result_free(result);
    }
    char *quoted = pg_quote_literal(conn, "it's");

    assert_string_equal(quoted, "'it''s'");
    free(quoted);
    pg_close(conn);
    server_stop(&server);
}

static void test_exec__parameters__are_sent_apart_from_the_statement(void **state)
{
    const char *params[] = {"'; DROP TABLE t; --"};
    struct pg_result *result = NULL;
    struct pg_outcome outcome;
    struct server server;
    struct pg_conn *conn;

    (void)state;
    server_start(&server, script_parameters, NULL);
    conn = open_at("127.0.0.1", server.port, 1000, &outcome, NULL);
    assert_non_null(conn);
    assert_int_equal(pg_exec(conn, 1000, "SELECT $1", 1, params, &result, &outcome, NULL), 0);
    assert_int_equal(pg_result_rows(result), 2);
    pg_result_free(result);
    pg_close(conn);
    server_stop(&server);
    assert_string_equal(server.heard, params[0]);
}

static void test_exec__after_a_timeout__the_connection_is_closed(void **state)
{
    struct pg_outcome outcome;
    struct server server;
    struct err err = {0};
    struct pg_conn *conn;

    (void)state;
    server_start(&server, script_freeze, NULL);
    conn = open_at("127.0.0.1", server.port, 1000, &outcome, NULL);
    assert_non_null(conn);
    assert_int_equal(pg_exec(conn, 50, "SELECT 1", 0, NULL, NULL, &outcome, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(outcome.status, PG_TIMEOUT);
    assert_false(pg_is_open(conn));
    assert_int_equal(pg_exec(conn, 50, "SELECT 1", 0, NULL, NULL, &outcome, &err), -1);
    assert_int_equal(outcome.status, PG_LOST);
    assert_null(pg_quote_literal(conn, "x"));
    pg_close(conn);
    server_stop(&server);
}

static void test_exec__statement_that_cannot_be_sent__ends_at_the_deadline(void **state)
{
    size_t size = 32 << 20;
    char *sql = test_malloc(size + 1);
    struct pg_outcome outcome;
    struct server server;
    struct pg_conn *conn;
    int64_t begin_ms;

    (void)state;
    memset(sql, ' ', size);
    sql[size] = '\0';
    server_start(&server, script_deaf, NULL);
    conn = open_at("127.0.0.1", server.port, 1000, &outcome, NULL);
    assert_non_null(conn);
    begin_ms = clock_mono_ms();
    assert_int_equal(pg_exec(conn, 200, sql, 0, NULL, NULL, &outcome, NULL), -1);
    assert_int_equal(outcome.status, PG_TIMEOUT);
    assert_true(clock_mono_ms() - begin_ms < PATIENCE_MS / 2);
    pg_close(conn);
    server_stop(&server);
    test_free(sql);
}

static void test_environment__once_cleared__has_no_say(void **state)
{
    struct pg_outcome outcome;
    struct server server;
    struct pg_conn *conn;

    (void)state;
    setenv("PGOPTIONS", "-c geqo=off", 1);
    setenv("PGAPPNAME", "intruder", 1);
    setenv("PGSERVICE", "nothing", 1);
    setenv("PGPORT", "1", 1);
    setenv("PATH_PG", "stays", 1);
    pg_environment_clear();
    assert_null(getenv("PGOPTIONS"));
    assert_null(getenv("PGSERVICE"));
    assert_null(getenv("PGPORT"));
    assert_string_equal(getenv("PATH_PG"), "stays");
    server_start(&server, script_rows, NULL);
    conn = open_at("127.0.0.1", server.port, 1000, &outcome, NULL);
    assert_non_null(conn);
    pg_close(conn);
    server_stop(&server);
    assert_null(memmem(server.startup, server.startup_size, "intruder", 8));
    assert_non_null(memmem(server.startup, server.startup_size, "client_encoding\0UTF8", 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect__nobody_listens__is_refused),
        cmocka_unit_test(test_connect__missing_socket__is_refused),
        cmocka_unit_test(test_connect__accepted_and_silent__is_a_timeout_on_time),
        cmocka_unit_test(test_connect__server_says_no__sqlstate_decides),
        cmocka_unit_test(test_connect__password_wanted_and_none_given__is_auth),
        cmocka_unit_test(test_connect__something_else_listens__is_other),
        cmocka_unit_test(test_connect__host_name__is_refused_without_a_lookup),
        cmocka_unit_test(test_query__ends_badly__says_how),
        cmocka_unit_test(test_probe__rows__reach_the_callback),
        cmocka_unit_test(test_probe__without_a_statement__only_connects),
        cmocka_unit_test(test_probe__cancelled__calls_nobody_and_closes),
        cmocka_unit_test(test_exec__rows_and_nulls__come_back_as_text),
        cmocka_unit_test(test_exec__parameters__are_sent_apart_from_the_statement),
        cmocka_unit_test(test_exec__after_a_timeout__the_connection_is_closed),
        cmocka_unit_test(test_exec__statement_that_cannot_be_sent__ends_at_the_deadline),
        cmocka_unit_test(test_environment__once_cleared__has_no_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
