/*
 * Proves that a snapshot is one: restores it into a scratch directory, starts PostgreSQL there
 * where nobody else reaches it, lets pg_amcheck look through all databases, counts the rows of the
 * largest tables, and deletes it all again. docs/operations/backup.md, "Drills".
 */
#ifndef OGEL_SNAPSHOTS_DRILL_H
#define OGEL_SNAPSHOTS_DRILL_H

#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "snapshots/manifest.h"
#include "snapshots/progress.h"
#include "snapshots/store.h"

enum { DRILL_TABLES = 5 }; /* of each database, counted */

#define DRILL_START_TIMEOUT_MS (4 * INT64_C(3600000)) /* replaying WAL may take long */

struct drill_options {
    const char *scratch; /* absolute; a directory of its own is made in it, and removed */
    const char *bindir;  /* of PostgreSQL's programs of the snapshot's major version */
    const char *user;    /* a superuser of the snapshot's; NULL: postgres, or who runs this */
    int jobs;            /* that fetch; 0: FETCH_JOBS_DEFAULT */
    int64_t renew_ms;    /* as restore_options */
    struct err *warning; /* as restore_options */
    snapshot_progress_fn *progress;
    void *progress_arg;
};

/*
 * Must not run as root. On success the store has the marks verified and drilled of ID, MANIFEST is
 * the caller's to free, and *REPORT a new reference: {"seconds": {"restore", "start", "check"},
 * "tables": [{"database", "table", "rows", "bytes"}]}. ERR_CORRUPT: what was restored is damaged,
 * does not start, or pg_amcheck found something; the marks are taken away then. ERR_REFUSED: it
 * cannot be tried here (another major version, root, no superuser of that name). Whatever happens,
 * no server is left running, also where this process is killed; what that leaves in the scratch
 * directory, the next drill there removes.
 */
OGEL_MUST_CHECK int drill_run(struct store *store, const char *id,
                              const struct drill_options *options, struct manifest *manifest,
                              json_t **report, struct err *err);

#endif
