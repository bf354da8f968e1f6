/*
 * Brings a snapshot back as a data directory, or checks that it could be. Needs the store and
 * nothing else: no orchestrator, no agent, no server.
 */
#ifndef OGEL_SNAPSHOTS_RESTORE_H
#define OGEL_SNAPSHOTS_RESTORE_H

#include <stddef.h>

#include "base/err.h"
#include "snapshots/manifest.h"
#include "snapshots/progress.h"
#include "snapshots/store.h"

/* A tablespace that was at FROM comes to TO; both absolute. */
struct restore_mapping {
    const char *from, *to;
};

struct restore_options {
    const char *target; /* absolute; made if it is not there, otherwise empty; verify: NULL */
    const struct restore_mapping *mappings;
    size_t mapping_count;
    int jobs; /* that fetch; 0: FETCH_JOBS_DEFAULT */
    snapshot_progress_fn *progress;
    void *progress_arg;
    int64_t renew_ms;    /* of the job in the store, see job.h; 0: JOB_RENEW_MS */
    struct err *warning; /* NULL, or what an operator should know although it went well: the store
                            took no pin, so that a collector may get in the way */
};

#define RESTORE_MARKER "ogel_restore_unfinished"

/*
 * Restores the snapshot ID. Every slice is checked; all is durable before pg_control, without which
 * no server starts, gets its name. On failure TARGET is left as it is, unusable: it holds no
 * pg_control, and the file RESTORE_MARKER.
 *
 * What makes a server a standby (standby.signal, recovery.signal) is left out: the restored one
 * starts on its own, at the end of the WAL that the snapshot brought, on the same timeline. It must
 * not be let near the cluster that it came from.
 *
 * The snapshot is pinned for the time being; a store that takes no pin is no hindrance, see
 * WARNING.
 *
 * MANIFEST is filled, and freed by the caller. ERR_REFUSED: TARGET or a tablespace's directory is
 * not empty, or in use. ERR_CORRUPT names file and slice. ERR_NO_SPACE. ERR_INVALID: a mapping of
 * what the snapshot has not.
 */
OGEL_MUST_CHECK int restore_run(struct store *store, const char *id,
                                const struct restore_options *options, struct manifest *manifest,
                                struct err *err);

/* Reads all of the snapshot ID and checks every slice, as a restore would, writing nothing; of the
 * options jobs, progress, renew_ms and warning count. */
OGEL_MUST_CHECK int restore_verify(struct store *store, const char *id,
                                   const struct restore_options *options, struct manifest *manifest,
                                   struct err *err);

#endif
