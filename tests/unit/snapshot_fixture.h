/* A small snapshot of every kind of file, made without a server, in a directory as its store. */
#ifndef OGEL_TESTS_UNIT_SNAPSHOT_FIXTURE_H
#define OGEL_TESTS_UNIT_SNAPSHOT_FIXTURE_H

#include "tests/unit/store_contract.h"

#include "snapshots/filetable.h"
#include "snapshots/manifest.h"
#include "snapshots/map.h"
#include "snapshots/pack.h"
#include "snapshots/spool.h"

#define FIXTURE_ID     "20260203T040506Z-1a2b3c4d"
#define FIXTURE_SYSTEM UINT64_C(7123456789012345678)

enum {
    FIXTURE_BIG_SLICES = TABLE_INLINE_SLICES + 6,
    FIXTURE_ODD_SIZE = 19 * SLICE_SIZE + 4196, /* more than one write, and no whole block */
};

struct fixture {
    struct store *store;
    struct manifest manifest;
    struct manifest_tablespace tablespaces[1];
    struct codec *codec;
    char *pack;
    uint32_t pack_len;
    int table_fd;
    struct table_writer *table;
    uint8_t map_digest[MAP_DIGEST_SIZE]; /* of the big file */
};

/* What a file has at a place: zeroes in each fifth slice, except of base/3, elsewhere something of
 * its own. */
static inline char fixture_byte(const char *path, uint64_t at)
{
    uint64_t slice = at / SLICE_SIZE;

    return slice % 5 == 3 && strcmp(path, "base/3") != 0
               ? '\0'
               : (char)('a' + (at + slice * 7 + strlen(path)) % 23);
}

static inline void fixture_fill(const char *path, uint64_t size, uint64_t slice, char *out)
{
    for (size_t i = 0; i < slice_len(size, slice); i++)
        out[i] = fixture_byte(path, slice * SLICE_SIZE + i);
    if (strcmp(path, "global/pg_control") == 0)
        memcpy(out, &(uint64_t){FIXTURE_SYSTEM}, 8);
}

static inline void fixture_slice(struct fixture *f, struct map *map, const char *data, size_t len)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t stored;

    f->manifest.slices++;
    if (slice_is_zero(data, len)) {
        f->manifest.zero_slices++;
        map_add(map, NULL, 0, 0, 0, NULL, NULL);
        return;
    }
    slice_hash(data, len, hash);
    stored = codec_encode(f->codec, data, len, f->pack + f->pack_len);
    map_add(map, FIXTURE_ID, 0, f->pack_len, (uint32_t)stored, hash, NULL);
    f->pack_len += (uint32_t)stored;
}

static inline void fixture_file(struct fixture *f, const char *path, uint64_t size)
{
    struct table_entry entry = {.type = TABLE_FILE, .mode = 0600, .size = size};
    static char data[SLICE_SIZE];
    struct map map = {0};
    char key[STORE_KEY_MAX], *encoded;
    size_t len;

    snprintf(entry.path, sizeof(entry.path), "%s", path);
    for (uint64_t i = 0; i < slice_count(size); i++) {
        fixture_fill(path, size, i, data);
        fixture_slice(f, &map, data, slice_len(size, i));
    }
    encoded = map_encode(&map, &len);
    entry.map_len = (uint32_t)len;
    if (map.slice_count > TABLE_INLINE_SLICES) {
        const struct store_body body = {.data = encoded, .size = len};

        map_digest(encoded, len, entry.map_digest);
        memcpy(f->map_digest, entry.map_digest, MAP_DIGEST_SIZE);
        memcpy(entry.map_owner, FIXTURE_ID, sizeof(FIXTURE_ID));
        map_key(FIXTURE_ID, entry.map_digest, key);
        must(store_put(f->store, key, &body, CONTRACT_MS, &err_));
    } else {
        entry.map = encoded;
    }
    must(table_write(f->table, &entry, &err_));
    f->manifest.files++;
    f->manifest.logical_bytes += size;
    free(encoded);
    map_free(&map);
}

static inline void fixture_directory(struct fixture *f, const char *path)
{
    struct table_entry entry = {.type = TABLE_DIRECTORY, .mode = 0700};

    snprintf(entry.path, sizeof(entry.path), "%s", path);
    must(table_write(f->table, &entry, &err_));
}

static inline void fixture_publish(struct fixture *f, const struct manifest *manifest)
{
    char key[STORE_KEY_MAX];
    size_t len;
    char *data = manifest_encode(manifest, &len);
    const struct store_body body = {.data = data, .size = len};

    manifest_key(manifest->id, key);
    must(store_put(f->store, key, &body, CONTRACT_MS, &err_));
    free(data);
}

/* In the directory "store" of the test's own. */
static inline void fixture_make(struct fixture *f)
{
    char key[STORE_KEY_MAX];
    struct store_body body;

    memset(f, 0, sizeof(*f));
    must(store_open(tmp_path("store"), NULL, &f->store, &err_));
    f->codec = codec_new(1);
    f->pack = xmalloc(PACK_TARGET);
    f->table_fd = spool_open(NULL);
    f->table = table_writer_new(f->table_fd);
    f->manifest = (struct manifest){.id = FIXTURE_ID,
                                    .tool = "test",
                                    .cluster = "main",
                                    .system_id = FIXTURE_SYSTEM,
                                    .timeline = 1,
                                    .stop_lsn = 0x100,
                                    .postgres_version = 150000,
                                    .tablespaces = f->tablespaces,
                                    .tablespace_count = 1,
                                    .packs = 1};
    f->tablespaces[0].oid = 16385;
    snprintf(f->tablespaces[0].location, sizeof(f->tablespaces[0].location), "%s",
             tmp_path("old-space"));
    fixture_directory(f, "pg_tblspc/16385/PG_15_202209061");
    fixture_file(f, "pg_tblspc/16385/PG_15_202209061/5", 9000);
    fixture_directory(f, "global");
    fixture_directory(f, "base");
    fixture_directory(f, "pg_tblspc");
    fixture_file(f, "PG_VERSION", 3);
    fixture_file(f, "standby.signal", 0);
    fixture_file(f, "empty", 0);
    fixture_file(f, "base/1", 3 * SLICE_SIZE + 100);
    fixture_file(f, "base/2", (uint64_t)FIXTURE_BIG_SLICES * SLICE_SIZE);
    fixture_file(f, "base/3", FIXTURE_ODD_SIZE);
    fixture_file(f, "global/pg_control", 8192);
    pack_key(FIXTURE_ID, 0, key);
    body = (struct store_body){.data = f->pack, .size = f->pack_len};
    must(store_put(f->store, key, &body, CONTRACT_MS, &err_));
    must(table_finish(f->table, &f->manifest.table_bytes, f->manifest.table_digest, &err_));
    file_table_key(FIXTURE_ID, key);
    body = (struct store_body){.fd = f->table_fd, .size = f->manifest.table_bytes};
    must(store_put(f->store, key, &body, CONTRACT_MS, &err_));
    fixture_publish(f, &f->manifest);
}

static inline void fixture_free(struct fixture *f)
{
    store_close(f->store);
    codec_free(f->codec);
    table_writer_free(f->table);
    close(f->table_fd);
    free(f->pack);
}

#endif
