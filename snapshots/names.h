/* Identities of snapshots, and the names of the objects they are made of: docs/snapshot-format.md,
 * "Objects". */
#ifndef OGEL_SNAPSHOTS_NAMES_H
#define OGEL_SNAPSHOTS_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/store.h"

enum {
    SNAPSHOT_ID_LEN = 25, /* "20260203T040506Z-1a2b3c4d" */
    SNAPSHOT_ID_SIZE = SNAPSHOT_ID_LEN + 1,
    SNAPSHOT_ID_SECOND_LEN = 16, /* of its begin that is the time */
    MAP_DIGEST_SIZE = 32,
    PIN_NAME_SIZE = 64,
};

/* A new one: the time in UTC, so that ids sort by it, and chance, so that two never meet. */
void snapshot_id_make(int64_t wall_ms, char id[SNAPSHOT_ID_SIZE]);

bool snapshot_id_valid(const char *id);

#define MANIFEST_PREFIX "manifests/"
#define DATA_PREFIX     "data/"
#define PIN_PREFIX      "pins/"
#define JOB_PREFIX      "jobs/"
#define VERIFIED_PREFIX "verified/"
#define DRILLED_PREFIX  "drilled/"
#define COLLECT_PREFIX  "gc/"

#define PIN_OPERATOR "operator" /* the name of the pin that a person sets */

void manifest_key(const char *id, char key[STORE_KEY_MAX]);
void file_table_key(const char *id, char key[STORE_KEY_MAX]);
void pack_key(const char *id, uint32_t number, char key[STORE_KEY_MAX]);
void map_key(const char *id, const uint8_t digest[MAP_DIGEST_SIZE], char key[STORE_KEY_MAX]);
/* The snapshot PARENT is kept from collection while JOB needs it. */
void pin_key(const char *parent, const char *job, char key[STORE_KEY_MAX]);
void job_key(const char *job, char key[STORE_KEY_MAX]);
/* PREFIX: one of those above. */
void prefixed_key(const char *prefix, const char *name, char key[STORE_KEY_MAX]);

/* The snapshot's id behind PREFIX in KEY ("data/ID/files", "verified/ID"), and what follows it and
 * a "/" ("" for nothing); false where KEY has another form. */
bool key_split(const char *key, const char *prefix, char id[SNAPSHOT_ID_SIZE], const char **rest);

/* Of a file's path in the data directory. It spreads them; which file it is, they say themselves.
 */
uint64_t path_hash(const char *path);

#endif
