/* Which snapshots a store has, from their manifests. */
#ifndef OGEL_SNAPSHOTS_CATALOG_H
#define OGEL_SNAPSHOTS_CATALOG_H

#include <stddef.h>

#include "base/err.h"
#include "snapshots/manifest.h"
#include "snapshots/map.h"
#include "snapshots/store.h"

struct catalog_entry {
    char id[SNAPSHOT_ID_SIZE];
    struct err damage;        /* code ERR_NONE: the manifest is whole */
    struct manifest manifest; /* if it is */
};

struct catalog {
    struct catalog_entry *entries; /* the oldest first */
    size_t count, room;
};

/* Reads all manifests. One that cannot be read, damaged or of a newer format, is listed with its
 * error; a store that does not answer is an error of the call. */
OGEL_MUST_CHECK int catalog_load(struct store *store, struct catalog *catalog, struct err *err);
void catalog_free(struct catalog *catalog); /* what it holds */

/* The newest whole one of that system and major version of PostgreSQL; NULL: there is none. */
const struct catalog_entry *catalog_newest(const struct catalog *catalog, uint64_t system_id,
                                           uint32_t postgres_version);

/* The map of a file of a snapshot, from its table or from the store; checked. */
OGEL_MUST_CHECK int map_load(struct store *store, const struct table_entry *entry, struct map *map,
                             struct err *err);

#endif
