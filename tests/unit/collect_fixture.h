/* A store with a snapshot, a collector whose time is a value, and a store in between that runs what
 * a test wants at the moment it wants. */
#ifndef OGEL_TESTS_UNIT_COLLECT_FIXTURE_H
#define OGEL_TESTS_UNIT_COLLECT_FIXTURE_H

#include "tests/unit/snapshot_fixture.h"

#include "base/clock.h"
#include "snapshots/collect.h"
#include "snapshots/expire.h"
#include "snapshots/job.h"
#include "snapshots/marks.h"
#include "snapshots/restore.h"
#include "snapshots/store_internal.h"

#define CHILD  "20260203T050000Z-0000000c"
#define OTHER  "20260203T060000Z-0000000d"
#define JOB    "20260203T070000Z-0000000e"
#define READER "20260203T080000Z-0000000f"
#define HOUR   INT64_C(3600000)
#define MINUTE INT64_C(60000)

static struct fixture f;
static int64_t now_ms;
static const char *observer;

/* --- a store in between --------------------------------------------------------------------- */

/* Before the listing of PREFIX, or the reading of the object of that name, once. */
static struct {
    struct store base;
    const char *prefix;
    void (*run)(void);
    const char *hidden; /* a name that no listing gives */
    store_list_fn *fn;
    void *arg;
} between;

static inline int filter(const char *key, uint64_t size, void *arg, struct err *err)
{
    (void)arg;
    return between.hidden != NULL && strcmp(key, between.hidden) == 0
               ? 0
               : between.fn(key, size, between.arg, err);
}

static inline void run_before(const char *name)
{
    void (*run)(void) = between.run;

    if (run != NULL && strcmp(name, between.prefix) == 0) {
        between.run = NULL;
        run();
    }
}

static inline int between_list(struct store *store, const char *prefix, store_list_fn *fn,
                               void *arg, int64_t deadline_ms, struct err *err)
{
    (void)store;
    run_before(prefix);
    between.fn = fn;
    between.arg = arg;
    return f.store->ops->list(f.store, prefix, filter, NULL, deadline_ms, err);
}

static inline int between_put(struct store *store, const char *key, const struct store_body *body,
                              bool only_new, int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->put(f.store, key, body, only_new, deadline_ms, err);
}

static inline int between_get(struct store *store, const char *key, uint64_t offset, size_t len,
                              void *buf, size_t *got, int64_t deadline_ms, struct err *err)
{
    (void)store;
    run_before(key);
    return f.store->ops->get(f.store, key, offset, len, buf, got, deadline_ms, err);
}

static inline int between_head(struct store *store, const char *key, uint64_t *size,
                               int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->head(f.store, key, size, deadline_ms, err);
}

static inline int between_remove(struct store *store, const char *key, int64_t deadline_ms,
                                 struct err *err)
{
    (void)store;
    return f.store->ops->remove(f.store, key, deadline_ms, err);
}

static inline int between_list_unfinished(struct store *store, store_list_fn *fn, void *arg,
                                          int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->list_unfinished(f.store, fn, arg, deadline_ms, err);
}

static inline int between_remove_unfinished(struct store *store, const char *name, struct err *err)
{
    (void)store;
    return f.store->ops->remove_unfinished(f.store, name, err);
}

static const struct store_ops between_ops = {
    .put = between_put,
    .get = between_get,
    .head = between_head,
    .list = between_list,
    .remove = between_remove,
    .list_unfinished = between_list_unfinished,
    .remove_unfinished = between_remove_unfinished,
};

static inline int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    fixture_make(&f);
    memset(&between, 0, sizeof(between));
    between.base = (struct store){&between_ops, f.store->name};
    now_ms = 1000 * HOUR;
    observer = "here";
    return 0;
}

static inline int teardown(void **state)
{
    fixture_free(&f);
    return tmpdir_remove(state);
}

/* --- helpers -------------------------------------------------------------------------------- */

static inline bool there(const char *key)
{
    struct err err = {0};
    uint64_t size;

    if (store_head(f.store, key, &size, CONTRACT_MS, &err) == 0)
        return true;
    assert_int_equal(err.code, ERR_NOT_FOUND);
    return false;
}

static inline bool pack_there(const char *id)
{
    char key[STORE_KEY_MAX];

    pack_key(id, 0, key);
    return there(key);
}

static inline int64_t clock_of_test(void *arg)
{
    (void)arg;
    return now_ms;
}

static struct collect_result result;

static inline int try_collect(bool dry_run, struct err *err)
{
    const struct collect_options options = {
        .dry_run = dry_run, .observer = observer, .now_ms = clock_of_test};

    return collect_run(&between.base, &options, &result, err);
}

static inline void collect(void)
{
    must(try_collect(false, &err_));
}

/* A look, the whole grace, and another. */
static inline void collect_all(void)
{
    collect();
    now_ms += HOUR;
    collect();
}

static inline void assert_restorable(const char *id)
{
    const struct restore_options options = {.jobs = 2};
    struct manifest manifest;

    must(restore_verify(f.store, id, &options, &manifest, &err_));
    manifest_free(&manifest);
}

/* A snapshot ID that refers to everything of the fixture's and has a pack of its own besides. */
static inline void make_child(const char *id)
{
    struct table_entry entry = {.type = TABLE_FILE, .mode = 0600, .size = 5, .path = "more"};
    struct manifest manifest = f.manifest;
    struct table_writer *writer;
    struct table_reader *reader;
    struct map map = {0};
    uint8_t hash[SLICE_HASH_SIZE];
    char frame[SLICE_SIZE], key[STORE_KEY_MAX];
    int fd = spool_open(NULL), old;
    struct store_body body;
    size_t len;

    memcpy(manifest.id, id, SNAPSHOT_ID_SIZE);
    memcpy(manifest.parent, FIXTURE_ID, SNAPSHOT_ID_SIZE);
    writer = table_writer_new(fd);
    must(spool_file_table(f.store, &f.manifest, &old, &err_));
    must(table_open(old, f.manifest.table_bytes, &reader, &err_));
    for (;;) {
        struct table_entry from;
        struct err err = {0};

        if (table_next(reader, &from, &err) <= 0)
            break;
        must(table_write(writer, &from, &err_));
    }
    table_close(reader);
    close(old);
    slice_hash("child", 5, hash);
    body = (struct store_body){.data = frame, .size = codec_encode(f.codec, "child", 5, frame)};
    map_add(&map, id, 0, 0, (uint32_t)body.size, hash, NULL);
    pack_key(id, 0, key);
    must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
    entry.map = map_encode(&map, &len);
    entry.map_len = (uint32_t)len;
    must(table_write(writer, &entry, &err_));
    free((void *)(uintptr_t)entry.map);
    map_free(&map);
    manifest.files++;
    manifest.slices++;
    manifest.logical_bytes += 5;
    must(table_finish(writer, &manifest.table_bytes, manifest.table_digest, &err_));
    table_writer_free(writer);
    file_table_key(id, key);
    body = (struct store_body){.fd = fd, .size = manifest.table_bytes};
    must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
    close(fd);
    fixture_publish(&f, &manifest);
}

static inline void delete_manifest(const char *id)
{
    char key[STORE_KEY_MAX];

    manifest_key(id, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
}

static inline void put_at(const char *key, const char *text)
{
    put_text(f.store, key, text);
}

/* What a killed job leaves: its word, a pin, some packs. */
static inline void leave_job(void)
{
    put_at("jobs/" JOB, "{\"renew_ms\": 60000, \"sequence\": 1}");
    put_at("pins/" FIXTURE_ID "/" JOB, "");
    put_at("data/" JOB "/pack-00000000", "half of it");
}

#endif
