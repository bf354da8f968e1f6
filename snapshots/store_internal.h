/* What a backend of the store is made of. Names are checked and deadlines absolute when it is
 * called. */
#ifndef OGEL_SNAPSHOTS_STORE_INTERNAL_H
#define OGEL_SNAPSHOTS_STORE_INTERNAL_H

#include "snapshots/store.h"

struct store_ops {
    bool has_put_new;
    int (*put)(struct store *store, const char *key, const struct store_body *body, bool only_new,
               int64_t deadline_ms, struct err *err);
    /* *GOT < LEN only at the object's end. */
    int (*get)(struct store *store, const char *key, uint64_t offset, size_t len, void *buf,
               size_t *got, int64_t deadline_ms, struct err *err);
    int (*head)(struct store *store, const char *key, uint64_t *size, int64_t deadline_ms,
                struct err *err);
    int (*list)(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
                int64_t deadline_ms, struct err *err);
    int (*remove)(struct store *store, const char *key, int64_t deadline_ms, struct err *err);
    /* Both NULL where nothing unfinished can stay. */
    int (*list_unfinished)(struct store *store, store_list_fn *fn, void *arg, int64_t deadline_ms,
                           struct err *err);
    int (*remove_unfinished)(struct store *store, const char *name, struct err *err);
    void (*close)(struct store *store);
};

/* The first member of each backend's own struct. */
struct store {
    const struct store_ops *ops;
    char *name; /* the URL */
};

/* The text behind "file://" or a path of its own. */
int store_file_open(const char *directory, struct store **store, struct err *err);

/* HOST[:PORT]/BUCKET[/PREFIX] */
int store_s3_open(const char *place, bool tls, const struct store_options *options,
                  struct store **store, struct err *err);

/* True if KEY can be a name in every backend. */
bool store_key_valid(const char *key);

#endif
