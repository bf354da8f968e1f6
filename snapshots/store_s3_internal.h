/* S3 as a store: what its parts share. store_s3_call.c drives one call through libs3, store_s3.c
 * and store_s3_list.c say what the calls are. */
#ifndef OGEL_SNAPSHOTS_STORE_S3_INTERNAL_H
#define OGEL_SNAPSHOTS_STORE_S3_INTERNAL_H

#include <libs3.h>
#include <pthread.h>

#include "config.h"
#include "snapshots/store_internal.h"

/* From version 4 on the calls take a timeout; ours does it. */
#ifdef HAVE_LIBS3_TIMEOUT
#    define S3_NO_TIMEOUT 0,
#else
#    define S3_NO_TIMEOUT
#endif

enum { S3_CONTEXTS_MAX = 16 };

struct s3_store {
    struct store base;
    char *host, *bucket, *prefix, *region;
    char access_key[256], secret_key[256];
    bool tls;
    pthread_mutex_t lock;
    S3RequestContext *idle[S3_CONTEXTS_MAX];
    int idle_count;
    int64_t slow_until_ms; /* the server asked everybody to slow down */
};

/* The keys of one page of a listing. */
struct s3_page {
    char **keys;
    uint64_t *sizes;
    size_t count, room;
};

/* One request, and what came of it. */
struct s3_request {
    S3Status status;
    bool complete;
    char detail[200];
    char etag[128];
    uint64_t announced; /* Content-Length of the answer */
    uint64_t moved;     /* bytes of the body, sent or received */
    /* put */
    const struct store_body *body;
    /* get */
    char *buf;
    size_t room;
    /* list */
    struct s3_page *page;
    size_t prefix_len;
    bool truncated;
    char marker[STORE_KEY_MAX * 2];
};

struct s3_store *s3_of(struct store *store);
char *s3_object_name(struct store *store, const char *key); /* the caller frees */

/* What all handlers begin with; their argument is the request. */
S3Status s3_on_properties(const S3ResponseProperties *properties, void *request);
void s3_on_complete(S3Status status, const S3ErrorDetails *details, void *request);

/* Adds the request to CONTEXT. */
typedef void s3_start_fn(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                         struct s3_request *request, const void *arg);
/* Looks at a request that the server calls done: 0, or -1 with err, and *AGAIN if another try may
 * mend it. */
typedef int s3_check_fn(struct s3_request *request, const void *arg, bool *again, struct err *err);

struct s3_call {
    s3_start_fn *start;
    s3_check_fn *check; /* NULL: nothing to check */
    const void *arg;
    uint64_t bytes; /* that travel: big bodies get more time */
    bool only_once; /* the caller tries again itself */
};

/* Tries until it is done, cannot be, or the deadline passes; REQUEST is reset for every try to what
 * it is now. */
OGEL_MUST_CHECK int s3_run_call(struct s3_store *s3, const char *name, const struct s3_call *call,
                                struct s3_request *request, int64_t deadline_ms, struct err *err);

/* True if what ended so may work when tried again. */
bool s3_may_work_later(const struct s3_request *request);

/* The pauses between the tries of one call; zero-initialised it is at its begin. */
struct s3_backoff {
    int64_t next_ms;
};

/* Waits before the next try; false if the deadline leaves no time for one. Where one call is told
 * to slow down, the others wait as well. */
bool s3_back_off(struct s3_store *s3, struct s3_backoff *backoff, bool slow_down,
                 int64_t deadline_ms);

int s3_list(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
            int64_t deadline_ms, struct err *err);

#endif
