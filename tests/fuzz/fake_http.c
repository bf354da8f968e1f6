#include "tests/fuzz/fake_http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_client.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/resolve.h"

enum { PAIRS_MAX = 16, STREAM_SENDS_MAX = 1000 };

struct http_server {
    const struct http_route *routes;
    size_t count;
};

struct pair {
    char *name, *value;
};

/* Freed once it is answered, as the real one is: a handler that touches it then is found out. */
struct exchange {
    struct http_request request;
    struct exchange *next;
    char *params[HTTP_PARAMS_MAX];
    const char *param_names[HTTP_PARAMS_MAX];
    char *names; /* of the parameters, cut into pieces */
    struct pair query[PAIRS_MAX];
    int query_count;
    char *header, *body;
    http_wake_fn *wake;
    void *wake_arg;
    struct http_stream *stream;
};

struct http_stream {
    void (*on_close)(struct http_stream *stream, void *arg);
    void *arg;
    bool ending;
    int sends;
};

struct http_call {
    struct http_call *next;
    http_call_fn *fn;
    void *arg;
};

struct http_reply {
    int status;
};

static struct http_server server;
static struct exchange *waiting;
static struct http_call *calls;
static struct exchange *handling; /* the request whose handler runs; NULL once it is answered */

/* --- requests ------------------------------------------------------------------------------- */

static char *take_until(const uint8_t **data, size_t *size, uint8_t end)
{
    const uint8_t *stop = *size > 0 ? memchr(*data, end, *size) : NULL;
    size_t len = stop != NULL ? (size_t)(stop - *data) : *size;
    char *text = xstrndup((const char *)*data, len);

    *data += len + (stop != NULL);
    *size -= len + (stop != NULL);
    return text;
}

static uint8_t take_byte(const uint8_t **data, size_t *size)
{
    if (*size == 0)
        return 0;
    --*size;
    return *(*data)++;
}

static void free_exchange(struct exchange *exchange)
{
    for (int i = 0; i < HTTP_PARAMS_MAX; i++)
        free(exchange->params[i]);
    for (int i = 0; i < exchange->query_count; i++) {
        free(exchange->query[i].name);
        free(exchange->query[i].value);
    }
    free(exchange->names);
    free(exchange->header);
    free(exchange->body);
    free(exchange);
}

/* "a=b&c": values have been decoded, so that any byte may be in them. */
static void parse_query(struct exchange *exchange, char *text)
{
    char *pair, *rest = text;

    while ((pair = strsep(&rest, "&")) != NULL && exchange->query_count < PAIRS_MAX) {
        char *value = pair, *name = strsep(&value, "=");

        if (*name == '\0')
            continue;
        exchange->query[exchange->query_count++] = (struct pair){
            xstrdup(name), xstrdup(value == NULL ? "" : value)};
    }
    free(text);
}

/* Each {name} of the pattern gets the next word of the line, "c1" or "n1" where there is none. */
static void parse_params(struct exchange *exchange, const char *pattern, char *text)
{
    char *at, *rest = text;
    int count = 0;

    at = exchange->names = xstrdup(pattern);
    while ((at = strchr(at, '{')) != NULL && count < HTTP_PARAMS_MAX) {
        const char *word = rest == NULL ? NULL : strsep(&rest, " ");

        exchange->param_names[count] = ++at;
        at += strcspn(at, "}");
        *at++ = '\0';
        if (word == NULL || *word == '\0')
            word = count == 0 ? "c1" : "n1";
        exchange->params[count++] = xstrdup(word);
    }
    free(text);
}

static void answered(struct http_request *request, int status)
{
    struct exchange *exchange = (struct exchange *)request, **place = &waiting;

    OGEL_CHECK(status >= 200 && status < 600);
    if (exchange == handling) {
        handling = NULL;
    } else {
        while (*place != NULL && *place != exchange)
            place = &(*place)->next;
        OGEL_CHECK(*place == exchange);
        *place = exchange->next;
    }
    free_exchange(exchange);
}

void fake_http_request(const uint8_t **data, size_t *size)
{
    static const enum http_role roles[] = {HTTP_ROLE_ADMIN, HTTP_ROLE_PEER, HTTP_ROLE_READ};
    int route = take_byte(data, size) % (int)server.count;
    struct exchange *exchange = xcalloc(1, sizeof *exchange);
    struct http_request *request = &exchange->request;

    request->role = roles[take_byte(data, size) % 3];
    if (server.routes[route].access == HTTP_ADMIN)
        request->role = HTTP_ROLE_ADMIN;
    parse_params(exchange, server.routes[route].pattern, take_until(data, size, '\n'));
    parse_query(exchange, take_until(data, size, '\n'));
    exchange->header = take_until(data, size, '\n');
    exchange->body = take_until(data, size, 0);
    request->method = server.routes[route].methods & HTTP_POST ? HTTP_POST : HTTP_GET;
    request->path = server.routes[route].pattern;
    request->route = route;
    request->body = exchange->body;
    request->body_size = strlen(exchange->body);
    request->peer = "192.0.2.1";
    request->token_name = "admin";
    request->server = &server;
    handling = exchange;
    server.routes[route].handler(request, server.routes[route].arg);
    /* answered, or waiting for its answer */
    OGEL_CHECK(handling == NULL);
}

const char *http_request_param(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = (const struct exchange *)request;

    for (int i = 0; i < HTTP_PARAMS_MAX && exchange->params[i] != NULL; i++)
        if (strcmp(exchange->param_names[i], name) == 0)
            return exchange->params[i];
    return NULL;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = (const struct exchange *)request;

    for (int i = 0; i < exchange->query_count; i++)
        if (strcmp(exchange->query[i].name, name) == 0)
            return exchange->query[i].value;
    return NULL;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    const struct exchange *exchange = (const struct exchange *)request;

    (void)name;
    return exchange->header[0] != '\0' ? exchange->header : NULL;
}

void http_request_query_each(const struct http_request *request,
                             bool (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    const struct exchange *exchange = (const struct exchange *)request;

    for (int i = 0; i < exchange->query_count; i++)
        if (!fn(arg, exchange->query[i].name, exchange->query[i].value))
            return;
}

/* --- answers -------------------------------------------------------------------------------- */

void http_response_header(struct http_request *request, const char *name, const char *value)
{
    (void)request;
    OGEL_CHECK(*name != '\0' && strpbrk(value, "\r\n") == NULL);
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  const void *body, size_t size)
{
    (void)content_type;
    OGEL_CHECK(body != NULL || size == 0);
    answered(request, status);
}

void http_respond_take(struct http_request *request, int status, const char *content_type,
                       void *body, size_t size)
{
    http_respond(request, status, content_type, body, size);
    free(body);
}

void http_respond_json(struct http_request *request, int status, json_t *json)
{
    char *text;

    OGEL_CHECK(json != NULL);
    text = json_dump_line(json);
    json_decref(json);
    http_respond_take(request, status, "application/json", text, strlen(text));
}

void http_respond_problem_with(struct http_request *request, int status, const char *title,
                               json_t *members, const char *detail_format, ...)
{
    char detail[1024];
    va_list ap;

    (void)title;
    OGEL_CHECK(status >= 400 && members != NULL);
    va_start(ap, detail_format);
    vsnprintf(detail, sizeof detail, detail_format, ap);
    va_end(ap);
    OGEL_CHECK(detail[0] != '\0');
    http_respond_json(request, status, members);
}

void http_respond_problem(struct http_request *request, int status, const char *title,
                          const char *detail_format, ...)
{
    char detail[1024];
    va_list ap;

    va_start(ap, detail_format);
    vsnprintf(detail, sizeof detail, detail_format, ap);
    va_end(ap);
    http_respond_problem_with(request, status, title, json_object(), "%s", detail);
}

struct http_reply *http_reply_new(int status, const char *content_type, const void *body,
                                  size_t size)
{
    struct http_reply *reply = xcalloc(1, sizeof *reply);

    OGEL_CHECK(content_type != NULL && body != NULL && size > 0);
    reply->status = status;
    return reply;
}

void http_reply_header(struct http_reply *reply, const char *name, const char *value)
{
    (void)reply;
    (void)name;
    (void)value;
}

void http_reply_free(struct http_reply *reply)
{
    free(reply);
}

void http_respond_reply(struct http_request *request, struct http_reply *reply)
{
    answered(request, reply->status);
}

void http_suspend(struct http_request *request, int64_t timeout_ms, http_wake_fn *fn, void *arg)
{
    struct exchange *exchange = (struct exchange *)request;

    OGEL_CHECK(exchange == handling && timeout_ms > 0);
    handling = NULL;
    exchange->wake = fn;
    exchange->wake_arg = arg;
    exchange->next = waiting;
    waiting = exchange;
}

/* --- streams -------------------------------------------------------------------------------- */

struct http_stream *http_stream_start(struct http_request *request, const char *content_type,
                                      void (*on_close)(struct http_stream *stream, void *arg),
                                      void *arg)
{
    struct exchange *exchange = (struct exchange *)request;

    OGEL_CHECK(exchange == handling && content_type != NULL);
    handling = NULL;
    exchange->stream = xcalloc(1, sizeof *exchange->stream);
    exchange->stream->on_close = on_close;
    exchange->stream->arg = arg;
    exchange->next = waiting;
    waiting = exchange;
    return exchange->stream;
}

int http_stream_send(struct http_stream *stream, const void *data, size_t size)
{
    OGEL_CHECK(data != NULL && size > 0);
    return stream->ending || ++stream->sends > STREAM_SENDS_MAX ? -1 : 0;
}

void http_stream_end(struct http_stream *stream)
{
    stream->ending = true;
}

/* --- calls ---------------------------------------------------------------------------------- */

struct http_call *http_call(struct http_client *client, const struct http_call_spec *spec,
                            http_call_fn *fn, void *arg)
{
    struct http_call *call = xcalloc(1, sizeof *call), **place = &calls;

    (void)client;
    OGEL_CHECK(spec->url != NULL && strncmp(spec->url, "http://", 7) == 0);
    call->fn = fn;
    call->arg = arg;
    while (*place != NULL)
        place = &(*place)->next;
    *place = call;
    return call;
}

void http_call_cancel(struct http_call *call)
{
    struct http_call **place = &calls;

    if (call == NULL)
        return;
    while (*place != NULL && *place != call)
        place = &(*place)->next;
    OGEL_CHECK(*place == call);
    *place = call->next;
    free(call);
}

const char *http_call_status_name(enum http_call_status status)
{
    return status == HTTP_CALL_OK ? "ok" : "other";
}

void fake_http_answer_calls(const uint8_t **data, size_t *size)
{
    static const int statuses[] = {200, 200, 200, 204, 400, 409, 500, 503};

    while (calls != NULL && *size > 0) {
        struct http_call *call = calls;
        uint8_t how = take_byte(data, size);
        char *body = take_until(data, size, 0);
        struct http_result result = {.status = statuses[how & 7],
                                     .outcome = how < 0xf0 ? HTTP_CALL_OK
                                                           : (enum http_call_status)(how & 7),
                                     .body = body,
                                     .body_size = strlen(body)};

        calls = call->next;
        call->fn(&result, call->arg);
        free(call);
        free(body);
    }
}

/* --- names: nobody is found, so that nobody is connected to ---------------------------------- */

bool resolve_get(struct resolver *resolver, const char *host, char address[RESOLVE_ADDRESS_SIZE],
                 char *why, size_t why_size)
{
    (void)resolver;
    (void)host;
    (void)address;
    if (why_size > 0)
        *why = '\0';
    return false;
}

bool resolve_wait(struct resolver *resolver, const char *host, int timeout_ms,
                  char address[RESOLVE_ADDRESS_SIZE], char *why, size_t why_size)
{
    (void)resolver;
    (void)host;
    (void)timeout_ms;
    (void)why;
    (void)why_size;
    snprintf(address, RESOLVE_ADDRESS_SIZE, "192.0.2.9");
    return true;
}

bool resolve_is_literal(const char *host)
{
    (void)host;
    return false;
}

/* --- the server ----------------------------------------------------------------------------- */

int http_server_start(struct http_server **out, struct loop *loop,
                      const struct http_server_config *config, struct err *err)
{
    (void)loop;
    (void)err;
    server = (struct http_server){config->routes, config->n_routes};
    *out = &server;
    return 0;
}

void http_server_stop(struct http_server *stopped)
{
    (void)stopped;
}

int http_server_port(const struct http_server *of)
{
    (void)of;
    return 80;
}

int http_server_set_tokens(struct http_server *of, const struct http_token *tokens, size_t n,
                           struct err *err)
{
    (void)of;
    (void)tokens;
    (void)n;
    (void)err;
    return 0;
}

void http_server_stats(const struct http_server *of, struct http_server_stats *stats)
{
    (void)of;
    *stats = (struct http_server_stats){0};
}

void fake_http_settle(bool deadline)
{
    while (waiting != NULL) {
        struct exchange *exchange = waiting;

        if (exchange->stream != NULL) {
            struct http_stream *stream = exchange->stream;

            waiting = exchange->next;
            free_exchange(exchange);
            stream->on_close(stream, stream->arg);
            free(stream);
        } else if (exchange->wake == NULL) {
            answered(&exchange->request, 503); /* woken and not answered */
        } else {
            http_wake_fn *wake = exchange->wake;

            exchange->wake = NULL;
            wake(&exchange->request, deadline ? HTTP_WAKE_DEADLINE : HTTP_WAKE_CLOSED,
                 exchange->wake_arg);
        }
    }
}

void fake_http_drop_calls(void)
{
    while (calls != NULL)
        http_call_cancel(calls);
}
