/*
 * The manifest of a snapshot: a small object that names everything else, published last. A snapshot
 * exists when its manifest does. docs/snapshot-format.md, "Manifest".
 */
#ifndef OGEL_SNAPSHOTS_MANIFEST_H
#define OGEL_SNAPSHOTS_MANIFEST_H

#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "snapshots/filetable.h"
#include "snapshots/names.h"

enum {
    MANIFEST_VERSION = 1,
    MANIFEST_BYTES_MAX = 1024 * 1024,
    MANIFEST_TABLESPACES_MAX = 1024,
};

struct manifest_tablespace {
    uint32_t oid;
    char location[TABLE_PATH_MAX + 1]; /* where it was; relative: inside the data directory */
};

struct manifest {
    char id[SNAPSHOT_ID_SIZE];
    char parent[SNAPSHOT_ID_SIZE]; /* "": none */
    char tool[32];                 /* version of the program that took it */
    char cluster[64];              /* cluster_name of the server */
    uint64_t system_id;
    uint32_t timeline; /* of the start; in a cluster of ogel it is the generation too */
    uint64_t start_lsn, stop_lsn;
    uint32_t postgres_version; /* 150018 */
    int64_t started_ms, stopped_ms;

    uint64_t files, logical_bytes;
    uint64_t slices, zero_slices, reused_slices;
    uint64_t stored_bytes; /* new in the store: packs, maps and file table */
    uint64_t packs;

    uint64_t table_bytes;
    uint8_t table_digest[TABLE_DIGEST_SIZE];

    struct manifest_tablespace *tablespaces;
    uint32_t tablespace_count;
};

void manifest_free(struct manifest *manifest); /* what it holds */

/* For programs: a new reference. What stands in the object is the same. */
json_t *manifest_json(const struct manifest *manifest);

/* As an object; the caller frees. */
char *manifest_encode(const struct manifest *manifest, size_t *len);

/* Fills MANIFEST. ERR_CORRUPT, or ERR_INVALID for a newer format. On failure it holds nothing. */
OGEL_MUST_CHECK int manifest_decode(const char *data, size_t len, struct manifest *manifest,
                                    struct err *err);

/* Fetches and decodes the manifest of ID, and checks that it is that one's. ERR_NOT_FOUND: there is
 * no such snapshot. */
OGEL_MUST_CHECK int manifest_load(struct store *store, const char *id, struct manifest *manifest,
                                  struct err *err);

#endif
