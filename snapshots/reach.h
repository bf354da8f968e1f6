/* Which objects a snapshot refers to: its file table names maps, the maps name packs. */
#ifndef OGEL_SNAPSHOTS_REACH_H
#define OGEL_SNAPSHOTS_REACH_H

#include "base/err.h"
#include "snapshots/keyset.h"
#include "snapshots/manifest.h"
#include "snapshots/store.h"

/*
 * Adds to REACHED the names of all objects that the snapshot ID refers to, its own file table too;
 * new ones get VALUE. A map that is in REACHED is not read again: so start with an empty set, and
 * use it for nothing else. MANIFEST NULL: it is gone, and only a pin keeps the snapshot; where its
 * file table is gone too, it refers to nothing. ERR_CORRUPT: what cannot be read cannot be
 * followed.
 */
OGEL_MUST_CHECK int reach_snapshot(struct store *store, const char *id,
                                   const struct manifest *manifest, int64_t value,
                                   struct keyset *reached, struct err *err);

#endif
