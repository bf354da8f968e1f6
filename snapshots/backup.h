/*
 * Takes a snapshot: a base backup of a running server, cut into slices, compressed, laid into packs
 * and put into a store while it comes. Needs no orchestrator. A failure, whenever it happens,
 * leaves no snapshot, only objects that belong to none.
 */
#ifndef OGEL_SNAPSHOTS_BACKUP_H
#define OGEL_SNAPSHOTS_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/manifest.h"
#include "snapshots/progress.h"
#include "snapshots/store.h"

enum { BACKUP_LEVEL = 3, BACKUP_LEVEL_MAX = 19, BACKUP_JOBS_MAX = 64 };

struct backup_options {
    const char *conninfo;   /* of the server, see source.h */
    const char *parent;     /* id of the snapshot to build on; "none"; NULL: the newest that fits */
    int level;              /* of zstd; 0: BACKUP_LEVEL */
    int jobs;               /* threads that compress; 0: one for each processor, at most 8 */
    int64_t max_rate_kb;    /* 0: no limit */
    bool spread_checkpoint; /* do not hurry the server's checkpoint */
    int64_t renew_ms;       /* of the job in the store, see job.h; 0: JOB_RENEW_MS */
    snapshot_progress_fn *progress; /* NULL: nobody looks */
    void *progress_arg;
};

/* Fills MANIFEST with what was published; the caller frees it with manifest_free(). WARNING is what
 * an operator should know although the snapshot is whole (code ERR_NONE: nothing): a damaged
 * parent. Errors: those of the store; ERR_REFUSED by the server, or for a parent of another system;
 * ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_CORRUPT; ERR_CONFLICT: the job
 * could not say for long that it runs, and gave itself up. */
OGEL_MUST_CHECK int backup_run(struct store *store, const struct backup_options *options,
                               struct manifest *manifest, struct err *warning, struct err *err);

#endif
