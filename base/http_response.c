/* Answers: now, later, prepared, and as a stream. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_internal.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"

struct http_reply {
    struct MHD_Response *response;
    int status;
    int references; /* the owner's, and one for each answer not yet queued */
};

/* Bytes between read and end wait to be sent. */
struct http_stream {
    struct http_conn *conn;
    char *data;
    size_t start, end, capacity;
    bool parked; /* libmicrohttpd waits for us to resume it */
    bool ending;
    bool failed; /* the reader fell behind: nothing more will be sent */
    void (*on_close)(struct http_stream *stream, void *arg);
    void *arg;
};

/* ---- handing over */

static void resume(struct http_conn *conn, enum http_stage stage)
{
    http_conn_watch_closed(conn, false);
    loop_timer_stop(conn->timer);
    conn->request.server->stats.suspended--;
    http_conn_enter(conn, stage);
    if (conn->parked)
        http_conn_resume(conn);
    conn->parked = false;
}

/* Takes over the response. Whoever answers a request whose client has gone is heard out. */
static void give(struct http_conn *conn, int status, struct MHD_Response *response)
{
    OGEL_CHECK(response != NULL && conn->response == NULL);
    OGEL_CHECK(conn->stage == HTTP_STAGE_HANDLING || conn->stage == HTTP_STAGE_SUSPENDED ||
               conn->stage == HTTP_STAGE_GONE);
    conn->response = response;
    if (conn->stage == HTTP_STAGE_GONE) {
        http_conn_forget_answer(conn);
        return;
    }
    conn->status = status;
    if (conn->stage == HTTP_STAGE_SUSPENDED)
        resume(conn, HTTP_STAGE_ANSWERED);
    else
        conn->stage = HTTP_STAGE_ANSWERED;
}

void http_conn_forget_answer(struct http_conn *conn)
{
    for (int i = 0; i < conn->n_extra; i++) {
        free(conn->extra[i].name);
        free(conn->extra[i].value);
    }
    conn->n_extra = 0;
    if (conn->reply != NULL)
        http_reply_free(conn->reply);
    else if (conn->response != NULL)
        MHD_destroy_response(conn->response);
    conn->reply = NULL;
    conn->response = NULL;
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (MHD_add_response_header(response, name, value) != MHD_YES)
        log_event(LOG_LEVEL_ERROR, "http_header_refused", "{s:s}", "name", name);
}

static void respond(struct http_conn *conn, int status, const char *content_type, void *body,
                    size_t size, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, body, mode);

    OGEL_CHECK(response != NULL);
    if (content_type != NULL)
        add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    for (int i = 0; i < conn->n_extra; i++)
        add_header(response, conn->extra[i].name, conn->extra[i].value);
    give(conn, status, response);
}

void http_response_header(struct http_request *request, const char *name, const char *value)
{
    struct http_conn *conn = http_conn_of(request);

    if (conn->n_extra == HTTP_EXTRA_HEADERS_MAX || strpbrk(name, "\r\n") != NULL ||
        strpbrk(value, "\r\n") != NULL) {
        log_event(LOG_LEVEL_ERROR, "http_header_refused", "{s:s}", "name", name);
        return;
    }
    conn->extra[conn->n_extra++] = (struct http_header){.name = xstrdup(name),
                                                        .value = xstrdup(value)};
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  const void *body, size_t size)
{
    respond(http_conn_of(request), status, content_type, (void *)(uintptr_t)body, size,
            size > 0 ? MHD_RESPMEM_MUST_COPY : MHD_RESPMEM_PERSISTENT);
}

void http_respond_take(struct http_request *request, int status, const char *content_type,
                       void *body, size_t size)
{
    respond(http_conn_of(request), status, content_type, body, size, MHD_RESPMEM_MUST_FREE);
}

static void respond_json(struct http_request *request, int status, const char *content_type,
                         json_t *json)
{
    char *text = json_dump_line(json);

    json_decref(json);
    http_respond_take(request, status, content_type, text, strlen(text));
}

void http_respond_json(struct http_request *request, int status, json_t *json)
{
    respond_json(request, status, "application/json", json);
}

static void respond_problem(struct http_request *request, int status, const char *title,
                            json_t *members, const char *detail_format, va_list args)
{
    char detail[1024];
    json_t *problem = json_object();

    OGEL_CHECK(problem != NULL);
    vsnprintf(detail, sizeof(detail), detail_format, args);
    if (title == NULL)
        title = MHD_get_reason_phrase_for((unsigned)status);
    json_object_set_new(problem, "type", json_string("about:blank"));
    json_object_set_new(problem, "title", json_text(title));
    json_object_set_new(problem, "status", json_integer(status));
    json_object_set_new(problem, "detail", json_text(detail));
    if (members != NULL)
        json_object_update_missing(problem, members);
    json_decref(members);
    respond_json(request, status, "application/problem+json", problem);
}

void http_respond_problem(struct http_request *request, int status, const char *title,
                          const char *detail_format, ...)
{
    va_list args;

    va_start(args, detail_format);
    respond_problem(request, status, title, NULL, detail_format, args);
    va_end(args);
}

void http_respond_problem_with(struct http_request *request, int status, const char *title,
                               json_t *members, const char *detail_format, ...)
{
    va_list args;

    va_start(args, detail_format);
    respond_problem(request, status, title, members, detail_format, args);
    va_end(args);
}

/* ---- what is answered instead of calling a handler */

static const char *role_name(enum http_role role)
{
    static const char *const names[] = {"none", "read", "admin", "peer"};

    return names[role];
}

static void allow_header(struct http_conn *conn)
{
    static const struct {
        enum http_method method;
        const char *name;
    } methods[] = {{HTTP_GET, "GET"},        {HTTP_HEAD, "HEAD"},   {HTTP_POST, "POST"},
                   {HTTP_PUT, "PUT"},        {HTTP_PATCH, "PATCH"}, {HTTP_DELETE, "DELETE"},
                   {HTTP_OPTIONS, "OPTIONS"}};
    char list[64] = "";
    size_t len = 0;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(methods); i++) {
        if (conn->match.allowed & methods[i].method)
            len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "",
                                    methods[i].name);
    }
    http_response_header(&conn->request, MHD_HTTP_HEADER_ALLOW, list);
}

void http_respond_refusal(struct http_conn *conn)
{
    struct http_request *request = &conn->request;
    const struct http_server_config *config = &request->server->config;
    bool has_token = http_request_header(request, MHD_HTTP_HEADER_AUTHORIZATION) != NULL;

    switch (conn->refusal) {
    case 204:
        allow_header(conn);
        http_respond(request, 204, NULL, NULL, 0);
        break;
    case 400: http_respond_problem(request, 400, NULL, "the URL contains a NUL"); break;
    case 401:
        http_response_header(request, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                             has_token ? "Bearer realm=\"ogel\", error=\"invalid_token\""
                                       : "Bearer realm=\"ogel\"");
        http_respond_problem(request, 401, NULL, "%s",
                             has_token ? "this token is not known here"
                                       : "this needs a header \"Authorization: Bearer <token>\"");
        break;
    case 403:
        http_respond_problem(request, 403, NULL,
                             "this needs a token of role %s; token \"%s\" has role %s",
                             config->routes[request->route].access == HTTP_ADMIN ? "admin" : "peer",
                             request->token_name, role_name(request->role));
        break;
    case 404:
        http_respond_problem(request, 404, NULL, "there is nothing at %s", request->path);
        break;
    case 405:
        allow_header(conn);
        http_respond_problem(request, 405, NULL, "%s does not take this method", request->path);
        break;
    case 413:
        http_respond_problem(request, 413, NULL, "the body may have at most %zu bytes",
                             config->body_max_bytes);
        break;
    case 414:
        http_respond_problem(request, 414, NULL,
                             "the path may have at most %d bytes, the URL at most %d",
                             HTTP_PATH_SIZE - 1, HTTP_URI_MAX);
        break;
    case 431:
        http_respond_problem(request, 431, NULL,
                             "request line and headers may have at most %zu bytes together",
                             config->header_max_bytes);
        break;
    default: die("http: no answer for refusal %d", conn->refusal);
    }
}

/* ---- prepared answers */

struct http_reply *http_reply_new(int status, const char *content_type, const void *body,
                                  size_t size)
{
    struct http_reply *reply = xcalloc(1, sizeof(*reply));

    reply->status = status;
    reply->references = 1;
    reply->response = MHD_create_response_from_buffer(
        size, (void *)(uintptr_t)body, size > 0 ? MHD_RESPMEM_MUST_COPY : MHD_RESPMEM_PERSISTENT);
    OGEL_CHECK(reply->response != NULL);
    if (content_type != NULL)
        http_reply_header(reply, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    return reply;
}

void http_reply_header(struct http_reply *reply, const char *name, const char *value)
{
    add_header(reply->response, name, value);
}

void http_reply_free(struct http_reply *reply)
{
    if (reply == NULL || --reply->references > 0)
        return;
    MHD_destroy_response(reply->response);
    free(reply);
}

void http_respond_reply(struct http_request *request, struct http_reply *reply)
{
    struct http_conn *conn = http_conn_of(request);

    OGEL_CHECK(conn->reply == NULL);
    conn->reply = reply;
    reply->references++;
    give(conn, reply->status, reply->response);
}

/* ---- answers later */

static void deadline_passed(void *arg)
{
    http_conn_wake(arg, HTTP_WAKE_DEADLINE);
}

void http_suspend(struct http_request *request, int64_t timeout_ms, http_wake_fn *fn, void *arg)
{
    struct http_conn *conn = http_conn_of(request);

    OGEL_CHECK(conn->stage == HTTP_STAGE_HANDLING && timeout_ms > 0);
    http_conn_enter(conn, HTTP_STAGE_SUSPENDED);
    conn->waited = true;
    conn->wake = fn;
    conn->wake_arg = arg;
    conn->request.server->stats.suspended++;
    if (conn->timer == NULL)
        conn->timer = loop_timer_new(request->server->loop, deadline_passed, conn);
    loop_timer_start(conn->timer, timeout_ms);
}

void http_conn_park(struct http_conn *conn)
{
    OGEL_CHECK(conn->stage == HTTP_STAGE_SUSPENDED);
    MHD_suspend_connection(conn->mhd);
    conn->parked = true;
    http_conn_watch_closed(conn, true);
}

void http_conn_wake(struct http_conn *conn, enum http_wake why)
{
    if (why == HTTP_WAKE_CLOSED) {
        resume(conn, HTTP_STAGE_GONE);
        conn->wake(&conn->request, why, conn->wake_arg);
        return;
    }
    conn->wake(&conn->request, why, conn->wake_arg);
    if (conn->stage == HTTP_STAGE_SUSPENDED)
        http_respond_problem(&conn->request, 503, NULL, "there was no answer in time");
}

/* ---- streams */

/* Called by libmicrohttpd whenever it can send more. */
static ssize_t stream_read(void *arg, uint64_t position, char *buffer, size_t max)
{
    struct http_stream *stream = arg;
    size_t size = stream->end - stream->start;

    (void)position;
    if (stream->failed || stream->conn->shut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (size == 0 && stream->ending)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (size == 0) {
        stream->parked = true;
        MHD_suspend_connection(stream->conn->mhd);
        http_conn_watch_closed(stream->conn, true);
        return 0;
    }
    if (size > max)
        size = max;
    memcpy(buffer, stream->data + stream->start, size);
    stream->start += size;
    if (stream->start == stream->end)
        stream->start = stream->end = 0;
    return (ssize_t)size;
}

/* The client may have gone: libmicrohttpd finds out when it runs the connection again. */
void http_stream_unpark(struct http_conn *conn)
{
    struct http_stream *stream = conn->stream;

    if (stream == NULL || !stream->parked)
        return;
    stream->parked = false;
    http_conn_watch_closed(conn, false);
    http_conn_resume(conn);
}

struct http_stream *http_stream_start(struct http_request *request, const char *content_type,
                                      void (*on_close)(struct http_stream *stream, void *arg),
                                      void *arg)
{
    struct http_conn *conn = http_conn_of(request);
    struct http_stream *stream = xcalloc(1, sizeof(*stream));
    struct MHD_Response *response;

    OGEL_CHECK(conn->stream == NULL && conn->stage != HTTP_STAGE_GONE);
    *stream = (struct http_stream){.conn = conn, .on_close = on_close, .arg = arg};
    conn->stream = stream;
    conn->waited = true;
    request->server->stats.streams++;
    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, stream, NULL);
    OGEL_CHECK(response != NULL);
    add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    for (int i = 0; i < conn->n_extra; i++)
        add_header(response, conn->extra[i].name, conn->extra[i].value);
    give(conn, 200, response);
    return stream;
}

int http_stream_send(struct http_stream *stream, const void *data, size_t size)
{
    size_t waiting = stream->end - stream->start;

    if (stream->failed || stream->ending)
        return -1;
    if (waiting + size > stream->conn->request.server->config.stream_backlog_max_bytes) {
        stream->failed = true;
        stream->conn->request.server->stats.slow_dropped_total++;
        http_conn_shut(stream->conn);
        http_stream_unpark(stream->conn);
        return -1;
    }
    if (stream->end + size > stream->capacity) {
        if (stream->start > 0)
            memmove(stream->data, stream->data + stream->start, waiting);
        stream->start = 0;
        stream->end = waiting;
        while (stream->end + size > stream->capacity)
            stream->capacity = stream->capacity == 0 ? 1024 : stream->capacity * 2;
        stream->data = xreallocarray(stream->data, stream->capacity, 1);
    }
    memcpy(stream->data + stream->end, data, size);
    stream->end += size;
    http_stream_unpark(stream->conn);
    return 0;
}

void http_stream_end(struct http_stream *stream)
{
    stream->ending = true;
    http_stream_unpark(stream->conn);
}

void http_stream_finish(struct http_conn *conn)
{
    struct http_stream *stream = conn->stream;

    if (stream == NULL)
        return;
    http_conn_watch_closed(conn, false);
    conn->stream = NULL;
    conn->request.server->stats.streams--;
    stream->ending = true;
    if (stream->on_close != NULL)
        stream->on_close(stream, stream->arg);
    free(stream->data);
    free(stream);
}
