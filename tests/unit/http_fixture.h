/* What the HTTP tests share: a real server and a real client in one loop; what no decent client
 * sends goes through plain sockets. */
#ifndef OGEL_TESTS_UNIT_HTTP_FIXTURE_H
#define OGEL_TESTS_UNIT_HTTP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/http_server.h"
#include "base/loop.h"
#include "base/mem.h"

enum { PATIENCE_MS = 5000 };

#define READ_TOKEN  "read-token-0123456789"
#define ADMIN_TOKEN "admin-token-0123456789"
#define PEER_TOKEN  "peer-token-0123456789"

struct observed {
    int count;
    int route;
    int status;
    bool waited;
};

struct fixture {
    struct loop *loop;
    struct http_server *server;
    struct http_client *client;
    char base[64];

    struct http_request *suspended;
    int wakes;
    enum http_wake wake;
    bool answer_at_deadline;
    int64_t suspend_ms;
    struct http_stream *stream;
    int streams_closed;
    struct http_reply *reply;
    char seen[256];
    struct observed observed;
};

/* What came of a call; strings are copies. */
struct answer {
    bool done;
    enum http_call_status outcome;
    int status;
    char body[4096];
    size_t body_size;
    char content_type[64];
    int retry_after_s;
    int64_t connect_us;
    char error[256];
};

/* ---- handlers */

static inline void hello(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond(request, 200, "text/plain", "hello", 5);
}

static inline bool add_query(void *arg, const char *name, const char *value)
{
    char *list = arg;

    snprintf(list + strlen(list), 128 - strlen(list), "%s=%s;", name, value);
    return true;
}

static inline void item(struct http_request *request, void *arg)
{
    const char *q = http_request_query(request, "q");
    char list[128] = "";

    (void)arg;
    http_request_query_each(request, add_query, list);
    http_response_header(request, "Retry-After", "7");
    http_respond_json(request, 200,
                      json_pack("{s:s, s:s*, s:s, s:i, s:s, s:i, s:s*}", "id",
                                http_request_param(request, "id"), "q", q, "list", list, "bytes",
                                (int)request->body_size, "peer", request->peer, "method",
                                (int)request->method, "x", http_request_header(request, "x-note")));
}

static inline void special(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond(request, 200, NULL, "special", 7);
}

static inline void who(struct http_request *request, void *arg)
{
    char text[128];

    (void)arg;
    snprintf(text, sizeof(text), "%d %s", request->role,
             request->token_name != NULL ? request->token_name : "-");
    http_respond(request, 200, "text/plain", text, strlen(text));
}

static inline void echo(struct http_request *request, void *arg)
{
    char *copy = xmalloc(request->body_size + 1);

    (void)arg;
    memcpy(copy, request->body, request->body_size + 1);
    http_respond_take(request, 201, "application/octet-stream", copy, request->body_size);
}

static inline void woken(struct http_request *request, enum http_wake why, void *arg)
{
    struct fixture *fx = arg;

    assert_ptr_equal(request, fx->suspended);
    fx->suspended = NULL;
    fx->wakes++;
    fx->wake = why;
    if (why == HTTP_WAKE_DEADLINE && fx->answer_at_deadline)
        http_respond(request, 200, "text/plain", "late", 4);
}

static inline void wait_long(struct http_request *request, void *arg)
{
    struct fixture *fx = arg;

    fx->suspended = request;
    http_suspend(request, fx->suspend_ms, woken, fx);
}

/* Suspends and answers before the handler is over: allowed, and easy to get wrong. */
static inline void wait_not(struct http_request *request, void *arg)
{
    http_suspend(request, 1000, woken, arg);
    http_respond(request, 200, "text/plain", "at once", 7);
}

static inline void stream_closed(struct http_stream *stream, void *arg)
{
    struct fixture *fx = arg;

    assert_ptr_equal(stream, fx->stream);
    assert_int_equal(http_stream_send(stream, "x", 1), -1);
    fx->stream = NULL;
    fx->streams_closed++;
}

static inline void stream(struct http_request *request, void *arg)
{
    struct fixture *fx = arg;

    fx->stream = http_stream_start(request, "text/event-stream", stream_closed, fx);
    assert_int_equal(http_stream_send(fx->stream, "data: 1\n\n", 9), 0);
}

static inline void prepared(struct http_request *request, void *arg)
{
    http_respond_reply(request, ((struct fixture *)arg)->reply);
}

static inline void wait_prepared(struct http_request *request, void *arg)
{
    wait_long(request, arg);
}

static inline void ignore_wake(struct http_request *request, enum http_wake why, void *arg)
{
    (void)request;
    (void)why;
    (void)arg;
}

static inline void wait_quietly(struct http_request *request, void *arg)
{
    http_suspend(request, ((struct fixture *)arg)->suspend_ms, ignore_wake, NULL);
}

static inline void forgot(struct http_request *request, void *arg)
{
    (void)request;
    (void)arg;
}

static inline void problem(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond_problem_with(
        request, 503, NULL, json_pack("{s:s, s:i}", "reason", "L0", "status", 1), "no leader of %s",
        "c\xff"
        "1");
}

static inline void probe(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond(request, request->method == HTTP_OPTIONS ? 503 : 200, NULL, NULL, 0);
}

static inline void observe(void *arg, int route, int status, int64_t duration_us, bool waited)
{
    struct fixture *fx = arg;

    assert_true(duration_us >= 0);
    fx->observed = (struct observed){
        .count = fx->observed.count + 1, .route = route, .status = status, .waited = waited};
}

/* ---- the fixture */

static struct http_route routes[] = {
    {HTTP_GET, "/hello", HTTP_OPEN, hello, NULL},
    {HTTP_GET | HTTP_POST, "/items/{id}", HTTP_OPEN, item, NULL},
    {HTTP_GET, "/items/special", HTTP_OPEN, special, NULL},
    {HTTP_GET, "/open", HTTP_OPEN, who, NULL},
    {HTTP_GET, "/read", HTTP_READ, who, NULL},
    {HTTP_POST, "/admin", HTTP_ADMIN, who, NULL},
    {HTTP_POST, "/peer", HTTP_PEER, who, NULL},
    {HTTP_POST | HTTP_PUT, "/echo", HTTP_OPEN, echo, NULL},
    {HTTP_GET, "/wait", HTTP_OPEN, wait_long, NULL},
    {HTTP_GET, "/wait-not", HTTP_OPEN, wait_not, NULL},
    {HTTP_GET, "/stream", HTTP_OPEN, stream, NULL},
    {HTTP_GET, "/prepared", HTTP_OPEN, prepared, NULL},
    {HTTP_GET, "/wait-prepared", HTTP_OPEN, wait_prepared, NULL},
    {HTTP_GET, "/wait-quietly", HTTP_OPEN, wait_quietly, NULL},
    {HTTP_GET, "/forgot", HTTP_OPEN, forgot, NULL},
    {HTTP_GET, "/problem", HTTP_OPEN, problem, NULL},
    {HTTP_GET | HTTP_OPTIONS, "/probe", HTTP_OPEN, probe, NULL},
    {HTTP_DELETE, "/items/{id}", HTTP_ADMIN, who, NULL},
};

static const struct http_token tokens[] = {
    {"grafana", HTTP_ROLE_READ, READ_TOKEN},
    {"alice", HTTP_ROLE_ADMIN, ADMIN_TOKEN},
    {"agent-a", HTTP_ROLE_PEER, PEER_TOKEN},
};

static inline void start(struct fixture *fx, const struct http_server_config *limits)
{
    struct http_server_config config = limits != NULL ? *limits : (struct http_server_config){0};
    struct err err = {0};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(routes); i++)
        routes[i].arg = fx;
    config.routes = routes;
    config.n_routes = OGEL_ARRAY_LEN(routes);
    config.tokens = tokens;
    config.n_tokens = OGEL_ARRAY_LEN(tokens);
    config.observe = observe;
    config.observe_arg = fx;
    http_server_stop(fx->server);
    fx->server = NULL;
    if (http_server_start(&fx->server, fx->loop, &config, &err) != 0)
        fail_msg("%s", err.text);
    snprintf(fx->base, sizeof(fx->base), "http://127.0.0.1:%d", http_server_port(fx->server));
}

static inline int set_up(void **state)
{
    struct fixture *fx = test_calloc(1, sizeof(*fx));

    assert_int_equal(loop_new(&fx->loop, NULL), 0);
    assert_int_equal(http_client_new(&fx->client, fx->loop, NULL, NULL), 0);
    fx->reply = http_reply_new(200, "application/json", "{\"a\":1}", 7);
    http_reply_header(fx->reply, "Cache-Control", "no-store");
    fx->suspend_ms = 60 * 1000;
    start(fx, NULL);
    *state = fx;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *fx = *state;

    http_client_free(fx->client);
    http_server_stop(fx->server);
    assert_null(fx->suspended);
    assert_null(fx->stream);
    http_reply_free(fx->reply);
    loop_free(fx->loop);
    test_free(fx);
    return 0;
}

/* Runs the loop until condition, which is evaluated again and again, holds. */
#define RUN_UNTIL(fx, condition)                                                                   \
    do {                                                                                           \
        int64_t until_ms_ = clock_mono_ms() + PATIENCE_MS;                                         \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() >= until_ms_)                                                      \
                fail_msg("did not happen: %s", #condition);                                        \
            assert_int_equal(loop_run_once((fx)->loop, 50, NULL), 0);                              \
        }                                                                                          \
    } while (0)

/* One more round: what is ready is handled. */
static inline void settle(struct fixture *fx, int timeout_ms)
{
    assert_int_equal(loop_run_once(fx->loop, timeout_ms, NULL), 0);
}

static inline void keep(const struct http_result *result, void *arg)
{
    struct answer *answer = arg;

    assert_false(answer->done);
    *answer = (struct answer){.done = true,
                              .outcome = result->outcome,
                              .status = result->status,
                              .body_size = result->body_size,
                              .retry_after_s = result->retry_after_s,
                              .connect_us = result->connect_us};
    snprintf(answer->body, sizeof(answer->body), "%s", result->body);
    snprintf(answer->content_type, sizeof(answer->content_type), "%s", result->content_type);
    snprintf(answer->error, sizeof(answer->error), "%s", result->error);
}

static const char *url(struct fixture *fx, const char *path)
{
    static char text[8192];

    snprintf(text, sizeof(text), "%s%s", fx->base, path);
    return text;
}

static inline struct answer call(struct fixture *fx, const struct http_call_spec *spec)
{
    struct answer answer = {0};

    http_call(fx->client, spec, keep, &answer);
    assert_false(answer.done);
    RUN_UNTIL(fx, answer.done);
    return answer;
}

static inline struct answer get(struct fixture *fx, const char *path)
{
    return call(fx, &(struct http_call_spec){.url = url(fx, path)});
}

static inline struct answer ask(struct fixture *fx, const char *method, const char *path,
                                const char *token)
{
    return call(fx,
                &(struct http_call_spec){.method = method, .url = url(fx, path), .token = token});
}

static inline void assert_problem(const struct answer *answer, int status)
{
    json_error_t error;
    json_t *json = json_loads(answer->body, 0, &error);

    assert_int_equal(answer->outcome, HTTP_CALL_OK);
    assert_int_equal(answer->status, status);
    assert_string_equal(answer->content_type, "application/problem+json");
    assert_non_null(json);
    assert_int_equal(json_integer_value(json_object_get(json, "status")), status);
    assert_string_equal(json_string_value(json_object_get(json, "type")), "about:blank");
    assert_true(json_is_string(json_object_get(json, "title")));
    assert_true(json_is_string(json_object_get(json, "detail")));
    json_decref(json);
}

/* ---- plain sockets */

struct raw {
    int fd;
    char text[65536];
    size_t size;
    bool closed;
};

static inline void raw_open(struct fixture *fx, struct raw *raw)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)http_server_port(fx->server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    memset(raw, 0, sizeof(*raw));
    raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(raw->fd >= 0);
    assert_int_equal(connect(raw->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(fcntl(raw->fd, F_SETFL, O_NONBLOCK), 0);
}

static inline void raw_read(struct raw *raw)
{
    ssize_t n = recv(raw->fd, raw->text + raw->size, sizeof(raw->text) - 1 - raw->size, 0);

    if (n > 0)
        raw->size += (size_t)n;
    else if (n == 0 || errno != EAGAIN)
        raw->closed = true;
    raw->text[raw->size] = '\0';
}

static inline void raw_send(struct fixture *fx, struct raw *raw, const char *data, size_t size)
{
    while (size > 0 && !raw->closed) {
        ssize_t n = send(raw->fd, data, size, MSG_NOSIGNAL);

        if (n > 0) {
            data += n;
            size -= (size_t)n;
        } else if (errno != EAGAIN) {
            return;
        }
        assert_int_equal(loop_run_once(fx->loop, n > 0 ? 0 : 10, NULL), 0);
    }
}

#define RAW_UNTIL(fx, raw, condition) RUN_UNTIL(fx, (raw_read(raw), (condition)))

static inline void raw_say(struct fixture *fx, struct raw *raw, const char *text)
{
    raw_send(fx, raw, text, strlen(text));
}

static inline bool raw_has(const struct raw *raw, const char *text)
{
    return strstr(raw->text, text) != NULL;
}

#endif
