/*
 * An HTTP/1.1 server in the loop, over libmicrohttpd: routes, bearer tokens, bounds on everything a
 * client sends, answers now or later, server-sent streams. One thread, the loop's. It knows nothing
 * of what is served.
 *
 * Handled here, so that handlers need not: 400 malformed, 401 (with WWW-Authenticate), 403, 404,
 * 405 (with Allow), 413, 414, 431, HEAD wherever GET is allowed, OPTIONS (204 with Allow) unless
 * the route lists HTTP_OPTIONS itself, slow and idle clients. All errors are
 * application/problem+json (RFC 9457), except those of requests too malformed or too large for
 * libmicrohttpd to hand over.
 */
#ifndef OGEL_BASE_HTTP_SERVER_H
#define OGEL_BASE_HTTP_SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct http_reply;
struct http_server;
struct http_stream;
struct http_tls; /* certificates come later; NULL until then */

enum http_method {
    HTTP_GET = 1,
    HTTP_HEAD = 2,
    HTTP_POST = 4,
    HTTP_PUT = 8,
    HTTP_PATCH = 16,
    HTTP_DELETE = 32,
    HTTP_OPTIONS = 64
};

/* What a route asks of a token. */
enum http_access {
    HTTP_OPEN,  /* nothing; a valid token is recognised, any other ignored */
    HTTP_READ,  /* any valid token */
    HTTP_ADMIN, /* role admin */
    HTTP_PEER   /* role peer: another part of the same system */
};

enum http_role { HTTP_ROLE_NONE, HTTP_ROLE_READ, HTTP_ROLE_ADMIN, HTTP_ROLE_PEER };

struct http_token {
    const char *name; /* for audit; not secret */
    enum http_role role;
    const char *secret; /* at least 16 bytes, at most 256 */
};

enum { HTTP_PARAMS_MAX = 4 };

/* What a handler gets. The fields are for reading; strings live until the answer has been given. */
struct http_request {
    enum http_method method; /* HEAD arrives as HTTP_GET unless the route lists HTTP_HEAD */
    const char *path;        /* percent-decoded, without the query */
    int route;               /* index in the table */
    const char *body;        /* NUL-terminated; "" if there is none */
    size_t body_size;
    const char *peer; /* the client's address, without the port */
    enum http_role role;
    const char *token_name; /* NULL without a token */
    struct http_server *server;
    void *user; /* the handler's own, NULL at first */
};

typedef void http_handler_fn(struct http_request *request, void *arg);

struct http_route {
    unsigned methods;    /* HTTP_* or-ed */
    const char *pattern; /* "/v1/clusters/{name}/events"; {} matches one non-empty segment; literals
                            win over {} */
    enum http_access access;
    http_handler_fn *handler;
    void *arg;
};

/* Called after each answer was handed to the kernel or the client went away: route (-1: none
 * matched), status, the time from the complete header to the end of the answer, and whether the
 * request was suspended or a stream in between. */
typedef void http_observe_fn(void *arg, int route, int status, int64_t duration_us, bool waited);

/* Zero (or NULL) means the default in brackets. */
struct http_server_config {
    const char *address;             /* IPv4 or IPv6 literal ["127.0.0.1"] */
    int port;                        /* 0: the kernel picks one; http_server_port() tells */
    const struct http_route *routes; /* not copied: they and their patterns outlive the server */
    size_t n_routes;
    const struct http_token *tokens; /* copied */
    size_t n_tokens;
    size_t body_max_bytes;        /* [1 MiB] */
    size_t header_max_bytes;      /* request line and headers together [8 KiB]; at most 64 KiB */
    int connections_max;          /* [1024]; when full the connection idle for longest makes room */
    int connections_per_peer_max; /* [0: no limit of its own] */
    int idle_timeout_ms;          /* between requests on a kept connection [60 s] */
    int request_timeout_ms; /* first byte to complete request; and for reading the answer [10 s] */
    size_t stream_backlog_max_bytes; /* unsent bytes of a stream's slow reader [256 KiB] */
    http_observe_fn *observe;
    void *observe_arg;
    const struct http_tls *tls; /* must be NULL */
};

/* Listens and serves from now on. On error nothing is left behind; a taken port is named with what
 * to do. */
OGEL_MUST_CHECK int http_server_start(struct http_server **server, struct loop *loop,
                                      const struct http_server_config *config, struct err *err);

/* Closes every connection (suspended requests and streams get their close callbacks) and frees. Not
 * from a handler. NULL is allowed. */
void http_server_stop(struct http_server *server);

int http_server_port(const struct http_server *server);

/* Replaces all tokens; requests already under way keep what they were given. */
OGEL_MUST_CHECK int http_server_set_tokens(struct http_server *server,
                                           const struct http_token *tokens, size_t n,
                                           struct err *err);

struct http_server_stats {
    int connections;
    int suspended;
    int streams;
    int64_t requests_total;
    int64_t slow_dropped_total;     /* timed out while sending a request or reading an answer */
    int64_t refused_tokens_total;   /* 401 and 403 */
    int64_t overflow_dropped_total; /* closed to make room for a new connection */
};

void http_server_stats(const struct http_server *server, struct http_server_stats *stats);

/* ---- reading a request: NULL where absent; "" for a query parameter without a value. Live as long
 * as the request. */
const char *http_request_param(const struct http_request *request,
                               const char *name); /* {name} of the pattern */
const char *http_request_query(const struct http_request *request,
                               const char *name); /* decoded; the first one */
const char *http_request_header(const struct http_request *request,
                                const char *name); /* any case */

/* Calls fn for each query parameter (value "" if none) until it returns false; to refuse unknown
 * ones. */
void http_request_query_each(const struct http_request *request,
                             bool (*fn)(void *arg, const char *name, const char *value), void *arg);

/* ---- answering. Exactly one of these per request: from the handler, or later if it was suspended.
 * After it the request must not be touched. A handler that does neither is a bug: answered 500 and
 * logged. */

/* Adds a header to the answer that follows. Values with line breaks are refused (dropped and
 * logged). At most eight. */
void http_response_header(struct http_request *request, const char *name, const char *value);

/* body is copied; NULL with size 0 for none. content_type NULL: none sent. */
void http_respond(struct http_request *request, int status, const char *content_type,
                  const void *body, size_t size);

/* The same, taking over a malloc()ed body. */
void http_respond_take(struct http_request *request, int status, const char *content_type,
                       void *body, size_t size);

/* Takes over the reference to json. */
void http_respond_json(struct http_request *request, int status, json_t *json);

/* application/problem+json: {"type":"about:blank","title","status","detail"}; title NULL: the
 * status' usual phrase. */
void http_respond_problem(struct http_request *request, int status, const char *title,
                          const char *detail_format, ...) OGEL_PRINTF(4, 5);

/* The same with members of your own, {"reason":…,"blockers":[…]}; takes over the reference to
 * members. */
void http_respond_problem_with(struct http_request *request, int status, const char *title,
                               json_t *members, const char *detail_format, ...) OGEL_PRINTF(5, 6);

/* A prepared answer for hot paths: built once, sent any number of times without copying.
 * content_type as above; body is copied. Free it at any time; answers under way keep it.
 * http_response_header() does not apply to it. */
struct http_reply *http_reply_new(int status, const char *content_type, const void *body,
                                  size_t size);
/* Before its first use only. */
void http_reply_header(struct http_reply *reply, const char *name, const char *value);
void http_reply_free(struct http_reply *reply); /* NULL is allowed */
void http_respond_reply(struct http_request *request, struct http_reply *reply);

/* ---- answering later */
enum http_wake {
    HTTP_WAKE_DEADLINE, /* answer now; unanswered after the callback it gets 503 */
    HTTP_WAKE_CLOSED    /* the client went away, or the server stops: the request is gone when the
                           callback returns */
};
typedef void http_wake_fn(struct http_request *request, enum http_wake why, void *arg);

/* Keeps the request for an answer from the loop later; the handler returns without one. fn is
 * called at most once, and not after the answer. timeout_ms must be positive. */
void http_suspend(struct http_request *request, int64_t timeout_ms, http_wake_fn *fn, void *arg);

/* ---- server-sent streams */

/* Answers 200 with a body of unknown length, kept open ("text/event-stream", with Cache-Control:
 * no-store). on_close is called exactly once, when the client went away, fell behind, or the server
 * stops – or after http_stream_end(), when all was sent; the stream is gone when it returns. Never
 * called from within http_stream_send(). */
struct http_stream *http_stream_start(struct http_request *request, const char *content_type,
                                      void (*on_close)(struct http_stream *stream, void *arg),
                                      void *arg);

/* Queues a copy. Returns -1 when the stream is ending or its backlog is over the bound (it is then
 * closed). */
int http_stream_send(struct http_stream *stream, const void *data, size_t size);

/* Sends what is queued and ends the body. */
void http_stream_end(struct http_stream *stream);

#endif
