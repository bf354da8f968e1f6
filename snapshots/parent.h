/*
 * The snapshot that a new one builds on: what it has need not be stored again. A pin in the store
 * keeps it from collection while it is open; nothing but pinned snapshots is ever built on.
 * docs/snapshot-format.md, "Pins".
 */
#ifndef OGEL_SNAPSHOTS_PARENT_H
#define OGEL_SNAPSHOTS_PARENT_H

#include "base/err.h"
#include "snapshots/filetable.h"
#include "snapshots/manifest.h"
#include "snapshots/map.h"
#include "snapshots/store.h"

struct parent;

/* Pins the snapshot ID for JOB and reads its file table into a spool. */
OGEL_MUST_CHECK int parent_open(struct store *store, const char *id, const char *job,
                                struct parent **parent, struct err *err);

/* The same for the snapshot that MANIFEST is becoming, whose parent it sets: ASKED is an id; NULL:
 * the newest of the same system and major version; "none", or there is none, or it is the newest
 * and so damaged that it has no file table, which WARNING tells: *PARENT is NULL. ERR_REFUSED for
 * one of another system. */
OGEL_MUST_CHECK int parent_choose(struct store *store, const char *asked, struct manifest *manifest,
                                  struct parent **parent, struct err *warning, struct err *err);

/* Where its base backup began. */
uint64_t parent_start_lsn(const struct parent *parent);

/* The entry of PATH and its map: 1, or 0 if there is no such file. Where it is damaged, -1:
 * whatever it is good for is stored anew. The caller frees MAP. entry->map is not to be looked at.
 */
OGEL_MUST_CHECK int parent_find(struct parent *parent, const char *path, struct table_entry *entry,
                                struct map *map, struct err *err);

/* Unpins. NULL is allowed. */
void parent_close(struct parent *parent);

#endif
