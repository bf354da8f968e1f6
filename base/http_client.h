/*
 * HTTP/1.1 calls, over libcurl: many at once in the loop, or one that blocks. Connections are kept
 * and reused; two calls to one host never queue behind each other (each that finds no idle
 * connection opens its own). No proxy from the environment, no redirects, no signals; TCP_NODELAY,
 * TCP_USER_TIMEOUT. With a resolver, names never block the loop. A kept connection that breaks
 * before the first byte of an answer is replaced once: the request may then arrive twice (not so
 * with no_reuse).
 */
#ifndef OGEL_BASE_HTTP_CLIENT_H
#define OGEL_BASE_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct resolver;
struct http_client;
struct http_call;

enum http_call_status {
    HTTP_CALL_OK,          /* an HTTP answer came, whatever its status code */
    HTTP_CALL_REFUSED,     /* the host answers, nobody listens there: proof that the process is not
                              serving */
    HTTP_CALL_UNREACHABLE, /* no route to host or network: says as little as silence, only sooner */
    HTTP_CALL_TIMEOUT,     /* silence: no connection or no complete answer in time */
    HTTP_CALL_RESET, /* the connection broke before a complete answer: the request may have been
                        carried out */
    HTTP_CALL_UNRESOLVED, /* the host name has no address yet */
    HTTP_CALL_TOO_LARGE,  /* the answer exceeds max_body */
    HTTP_CALL_OTHER       /* not HTTP, bad URL, aborted by on_data, … see error */
};

/* Zero (or NULL) means the default in brackets. Strings need to live only until http_call()
 * returns. */
struct http_call_spec {
    const char *method; /* ["GET"] */
    const char *url;    /* http://host:port/path?query, percent-encoded by the caller */
    const char *token;  /* sent as Authorization: Bearer; [none] */
    const char *body;   /* [none] */
    size_t body_size;
    const char *content_type;   /* of body ["application/json"] */
    const char *const *headers; /* further "Name: value" lines, NULL at the end [none] */
    int timeout_ms;             /* whole call, connection included [10 s] */
    int connect_timeout_ms;     /* [2 s, at most timeout_ms] */
    size_t max_body;            /* [4 MiB] */
    bool no_reuse;              /* a fresh connection, closed afterwards: as a probe */

    /* For streams: gets the body piece by piece instead of having it collected; returns false to
     * abort. max_body does not apply. It must not start or cancel calls. */
    bool (*on_data)(void *arg, const char *data, size_t size);
    void *on_data_arg;
};

struct http_result {
    enum http_call_status outcome;
    int status;       /* HTTP status code, 0 without an answer */
    const char *body; /* NUL-terminated, "" if none */
    size_t body_size;
    const char *content_type; /* "" if none */
    int retry_after_s;        /* -1 without that header */
    int64_t connect_us;       /* time to a connection (0: an idle one was reused) */
    int64_t total_us;
    char error[256]; /* for people: what failed, to where; "" when OK */
};

/* result and what it points to are the caller's for the time of the callback only. Exactly one
 * callback per call, never from within http_call(); none after http_call_cancel(). */
typedef void http_call_fn(const struct http_result *result, void *arg);

const char *http_call_status_name(enum http_call_status status); /* "refused" */

/* resolver may be NULL if all URLs have literal addresses (other hosts then fail UNRESOLVED). It
 * must outlive the client. */
OGEL_MUST_CHECK int http_client_new(struct http_client **client, struct loop *loop,
                                    struct resolver *resolver, struct err *err);

/* Cancels what is under way and frees. Not from a callback of its own. NULL is allowed. */
void http_client_free(struct http_client *client);

/* Starts a call. The handle is valid until its callback returns or it is cancelled. Never NULL:
 * every error, a bad URL too, comes through the callback. */
struct http_call *http_call(struct http_client *client, const struct http_call_spec *spec,
                            http_call_fn *fn, void *arg);
void http_call_cancel(struct http_call *call); /* NULL is allowed */

/* One call, waiting for it; any thread, not a loop's. With a resolver names come from it (waiting
 * at most connect_timeout_ms for a first answer), without one from the system. Free result with
 * http_result_free(). */
void http_call_blocking(struct resolver *resolver, const struct http_call_spec *spec,
                        struct http_result *result);
void http_result_free(struct http_result *result);

/* Once, before any thread starts and before the first use of this module. */
void http_client_global_init(void);

#endif
