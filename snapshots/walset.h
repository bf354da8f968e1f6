/* Which segments of WAL a base backup brought: those that it needs must be among them. Pure. */
#ifndef OGEL_SNAPSHOTS_WALSET_H
#define OGEL_SNAPSHOTS_WALSET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct wal_set {
    int64_t segment_size;
    uint64_t first; /* number of the segment that the backup begins in */
    bool *seen;     /* from there on */
    uint64_t room;
};

/* Whether PATH, below the data directory, is named as a segment is. */
bool wal_is_segment(const char *path);

/* SET is all zero before. */
void wal_set_begin(struct wal_set *set, int64_t segment_size, uint64_t start_lsn);

/* A file of the backup; only whole segments below pg_wal count. */
void wal_set_note(struct wal_set *set, const char *path, uint64_t size);

/* Whether all are there, up to the one that the backup ends in: ERR_CORRUPT names one that is not.
 */
OGEL_MUST_CHECK int wal_set_check(const struct wal_set *set, uint64_t stop_lsn, struct err *err);

void wal_set_free(struct wal_set *set);

#endif
