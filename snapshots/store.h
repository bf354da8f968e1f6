/*
 * Where snapshots are kept: objects with names in a store. Two backends: a directory ("file", which
 * needs no server) and S3 ("s3", through libs3; MinIO is the reference).
 *
 * Objects are immutable: they are written once, whole, and read or deleted afterwards; nobody
 * changes one. What a call returned without an error is durable.
 *
 * Every call ends by its deadline, counted from the call on, with ERR_TIMEOUT at the latest. (A
 * directory on a disk that hangs is the exception: a system call cannot be taken back.) Other
 * errors: ERR_NOT_FOUND, ERR_CONFLICT (store_put_new()), ERR_AUTH (credentials, clock),
 * ERR_REFUSED, ERR_NO_SPACE, ERR_CORRUPT (what came is not what was announced), ERR_UNAVAILABLE,
 * ERR_IO. Each names the store and the object. Calls may be made from any thread.
 */
#ifndef OGEL_SNAPSHOTS_STORE_H
#define OGEL_SNAPSHOTS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    STORE_KEY_MAX = 512,            /* bytes of a name */
    STORE_CALL_TIMEOUT_MS = 120000, /* what callers give where nothing else is asked for */
    STORE_OBJECT_MAX = 1024 * 1024 * 1024,
};

struct store;

/* NULL or zero: the defaults. Strings are copied. */
struct store_options {
    const char *credentials_file; /* one line ACCESS_KEY:SECRET_KEY, private; NULL: the
                                     environment's AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY */
    const char *region;           /* for signature v4; NULL: us-east-1 */
};

/*
 * Opens what URL names:
 *   file:///DIRECTORY or /DIRECTORY      made if it is not there, mode 0700
 *   s3://HOST[:PORT]/BUCKET[/PREFIX]     over TLS; the bucket must exist
 *   s3+http://HOST[:PORT]/BUCKET[/PREFIX] without TLS
 * The server is not asked yet. ERR_INVALID names what is wrong with URL; a secret in it is refused.
 */
OGEL_MUST_CHECK int store_open(const char *url, const struct store_options *options,
                               struct store **store, struct err *err);
void store_close(struct store *store); /* NULL is allowed */

/* What it was opened as, for messages. */
const char *store_name(const struct store *store);

/* Content of a new object: DATA, or, where that is NULL, the first SIZE bytes of FD (which is read
 * with pread(), so that a retry can begin again). */
struct store_body {
    const void *data;
    int fd;
    uint64_t size;
};

/* Writes an object. One of that name that is there is replaced. */
OGEL_MUST_CHECK int store_put(struct store *store, const char *key, const struct store_body *body,
                              int64_t timeout_ms, struct err *err);

/* Whether store_put_new() tells for sure: a directory does; S3 through libs3 cannot. */
bool store_has_put_new(const struct store *store);

/* Writes an object unless one of that name is there: ERR_CONFLICT. ERR_REFUSED where the backend
 * cannot tell. */
OGEL_MUST_CHECK int store_put_new(struct store *store, const char *key,
                                  const struct store_body *body, int64_t timeout_ms,
                                  struct err *err);

/* LEN bytes from OFFSET on into BUF. Where the object ends before that, ERR_CORRUPT says so. */
OGEL_MUST_CHECK int store_get(struct store *store, const char *key, uint64_t offset, size_t len,
                              void *buf, int64_t timeout_ms, struct err *err);

/* The whole object, with a NUL after it that *LEN does not count; the caller frees. More than MAX
 * bytes is ERR_CORRUPT. */
OGEL_MUST_CHECK int store_get_all(struct store *store, const char *key, size_t max, char **data,
                                  size_t *len, int64_t timeout_ms, struct err *err);

OGEL_MUST_CHECK int store_head(struct store *store, const char *key, uint64_t *size,
                               int64_t timeout_ms, struct err *err);

/* Called for each object, in no order that may be relied on; a return other than 0 ends the
 * listing, which returns the same. */
typedef int store_list_fn(const char *key, uint64_t size, void *arg, struct err *err);

/* All objects whose names begin with PREFIX, "" for all; PREFIX ends with "/" or is empty. What a
 * listing lacks is not proven to be missing: ask store_head() before anything depends on it. */
OGEL_MUST_CHECK int store_list(struct store *store, const char *prefix, store_list_fn *fn,
                               void *arg, int64_t timeout_ms, struct err *err);

/* What is not there is no error. */
OGEL_MUST_CHECK int store_delete(struct store *store, const char *key, int64_t timeout_ms,
                                 struct err *err);

/* What puts that were killed left behind, which is no object yet: for a collector. A directory has
 * such files; S3 keeps none that could be listed. Each has a name of its own that is never used
 * again; one that is still being written is listed too. */
OGEL_MUST_CHECK int store_list_unfinished(struct store *store, store_list_fn *fn, void *arg,
                                          int64_t timeout_ms, struct err *err);
OGEL_MUST_CHECK int store_delete_unfinished(struct store *store, const char *name, struct err *err);

#endif
