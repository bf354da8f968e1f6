/* What the files of the HTTP server share. Internal to it. */
#ifndef OGEL_BASE_HTTP_INTERNAL_H
#define OGEL_BASE_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <netinet/in.h>

#include "base/http_route.h"
#include "base/http_server.h"

enum {
    HTTP_EXTRA_HEADERS_MAX = 8,
    HTTP_TOKEN_NAME_SIZE = 64,
    HTTP_URI_MAX = 4096,
    HTTP_SECRET_SIZE = 257
};

/* Where a connection's current request stands. */
enum http_stage {
    HTTP_STAGE_IDLE,      /* no byte of a request line complete */
    HTTP_STAGE_HEADER,    /* request line seen */
    HTTP_STAGE_BODY,      /* header complete, body coming in */
    HTTP_STAGE_HANDLING,  /* within the handler */
    HTTP_STAGE_SUSPENDED, /* an answer will come from the loop */
    HTTP_STAGE_ANSWERED,  /* the answer is chosen or being sent */
    HTTP_STAGE_STREAMING, /* the answer is a stream */
    HTTP_STAGE_GONE       /* suspended, and the client went away */
};

struct http_header {
    char *name;
    char *value;
};

/* A connection, and the one request it carries at a time: reused, so that a request costs no
 * allocation. */
struct http_conn {
    struct http_request request; /* first: what handlers see is converted back to this */
    struct http_conn *prev, *next;
    struct MHD_Connection *mhd;
    int fd;
    char peer[INET6_ADDRSTRLEN];

    enum http_stage stage;
    int64_t since_ms; /* of the stage */
    bool shut;        /* we shut the socket down; libmicrohttpd will notice */

    int64_t started_us;
    bool is_head;
    bool bad_uri;
    bool waited;
    int refusal; /* status to answer with instead of calling the handler; 0: none */
    struct http_match match;
    char token_name[HTTP_TOKEN_NAME_SIZE];
    char *body;
    size_t body_capacity;
    size_t received_bytes;

    int status;
    struct MHD_Response *response; /* ours until it is queued */
    struct http_reply *reply;      /* where the response comes from, if it was a prepared one */
    struct http_header extra[HTTP_EXTRA_HEADERS_MAX];
    int n_extra;

    http_wake_fn *wake;
    void *wake_arg;
    bool parked;               /* suspended in libmicrohttpd's eyes too */
    struct loop_timer *timer;  /* deadline of a suspended request */
    struct loop_watch *closed; /* of a suspended request or a waiting stream */
    struct http_stream *stream;
};

struct http_secret {
    char name[HTTP_TOKEN_NAME_SIZE];
    char secret[HTTP_SECRET_SIZE]; /* zeros to the end */
    enum http_role role;
};

struct http_server {
    struct loop *loop;
    struct http_server_config config;
    struct http_routes *routes;
    struct http_secret *tokens;
    size_t n_tokens;
    int port;
    struct MHD_Daemon *daemon;
    struct loop_watch *watch;
    struct loop_timer *again; /* libmicrohttpd has more to do at once */
    struct loop_timer *sweep; /* slow and idle clients */
    struct http_conn *conns;
    struct http_server_stats stats;
    bool stopping;
};

static inline struct http_conn *http_conn_of(const struct http_request *request)
{
    return (struct http_conn *)(uintptr_t)request;
}

int64_t http_conn_enter(struct http_conn *conn, enum http_stage stage); /* returns now in µs */
void http_conn_shut(struct http_conn *conn);

/* Watches for the client's going away while libmicrohttpd does not. */
void http_conn_watch_closed(struct http_conn *conn, bool on);

/* libmicrohttpd, driven from outside, does not tell the loop about connections that were resumed.
 */
void http_conn_resume(struct http_conn *conn);

/* http_response.c */
void http_conn_forget_answer(struct http_conn *conn);
void http_respond_refusal(struct http_conn *conn);
void http_conn_wake(struct http_conn *conn, enum http_wake why);
void http_conn_park(struct http_conn *conn);     /* after a handler that called http_suspend() */
void http_stream_finish(struct http_conn *conn); /* the connection is done with it */
void http_stream_unpark(struct http_conn *conn);

#endif
