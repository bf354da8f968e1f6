/*
 * A Redis client in the loop, over hiredis, for things that may be lost: a dead, slow or frozen
 * Redis costs the caller nothing but the answer. Nothing here waits; what cannot be sent is dropped
 * and counted.
 */
#ifndef OGEL_BASE_REDIS_H
#define OGEL_BASE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct redis;
struct resolver;

enum redis_state { REDIS_DOWN, REDIS_CONNECTING, REDIS_UP };

/* Zero (or NULL) means the default in brackets. Strings are copied. */
struct redis_config {
    const char *host; /* ["127.0.0.1"]; a name needs a resolver */
    int port;         /* [6379] */
    const char
        *password_file;  /* its first line is the password, read again at each connection [none] */
    int database;        /* [0] */
    int deadline_ms;     /* for connecting and for each command [1 s] */
    int backoff_max_ms;  /* between attempts: 100 ms doubling to this, jittered [5 s] */
    int outstanding_max; /* commands without an answer [256] */
    size_t outstanding_max_bytes; /* and their size [4 MiB] */
    struct resolver *resolver;    /* outlives the client */

    /* Called when a connection is ready (authenticated), and when it is gone; NULL allowed. The
     * place to write again what an emptied Redis lacks. */
    void (*on_state)(struct redis *redis, enum redis_state state, void *arg);
    void *arg;
};

struct redis_status {
    enum redis_state state;
    int outstanding;
    int64_t connects_total;
    int64_t dropped_total; /* commands not sent or not answered */
    int64_t state_age_ms;
    char error[256]; /* the last one; "" if there was none since it came up */
};

/* ok: Redis answered without an error. value: for GET, not NUL-terminated; NULL if absent. error:
 * NULL if ok. */
typedef void redis_reply_fn(bool ok, const char *value, size_t size, const char *error, void *arg);

/* Starts connecting in the background; fails only for a configuration that can never work. */
OGEL_MUST_CHECK int redis_new(struct redis **redis, struct loop *loop,
                              const struct redis_config *config, struct err *err);

/* Outstanding commands get their callbacks with ok = false. NULL is allowed. */
void redis_free(struct redis *redis);

void redis_status(const struct redis *redis, struct redis_status *status);

/* Each is queued or dropped at once; fn (NULL allowed) is called exactly once either way, never
 * from within the call. */
void redis_set(struct redis *redis, const char *key, const void *value, size_t size,
               redis_reply_fn *fn, void *arg);
void redis_get(struct redis *redis, const char *key, redis_reply_fn *fn, void *arg);
void redis_publish(struct redis *redis, const char *channel, const void *value, size_t size,
                   redis_reply_fn *fn, void *arg);

#endif
