/*
 * Deletes from a store what no snapshot refers to any more and no running job will: what killed
 * jobs left, and what belonged to snapshots that were deleted or expired. Safe while snapshots are
 * taken, restored, expired and collected by anybody; ADR 9 says why.
 *
 * One run looks once: it lists the objects, then jobs and pins, then manifests, in this order, and
 * follows what the snapshots refer to. What nothing leads to is noted in the store, and deleted by
 * a later run that has seen nothing lead to it for the whole grace period, on its own clock. So the
 * first run deletes nothing, and two runs that far apart are needed.
 */
#ifndef OGEL_SNAPSHOTS_COLLECT_H
#define OGEL_SNAPSHOTS_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/store.h"

#define COLLECT_GRACE_MS            INT64_C(3600000)
#define COLLECT_UNFINISHED_GRACE_MS INT64_C(3600000) /* of half a put, at least */

enum collect_verdict {
    COLLECT_KEPT,
    COLLECT_WAITS,   /* nothing leads to it, and its grace runs */
    COLLECT_DELETED, /* in a dry run: it would be */
    COLLECT_VERDICTS,
};

extern const char *const collect_verdict_names[]; /* "kept", "waits", "deleted" */

/* What was decided about COUNT objects that have verdict and reason in common. */
struct collect_item {
    const char *what; /* "data/ID", "jobs/ID", "incoming/NAME" */
    uint64_t count, bytes;
    enum collect_verdict verdict;
    const char *reason;
};

typedef void collect_tell_fn(const struct collect_item *item, void *arg);

struct collect_options {
    int64_t grace_ms; /* 0: COLLECT_GRACE_MS */
    bool dry_run;     /* decide and tell, change nothing */
    collect_tell_fn *tell;
    void *tell_arg;

    /* Whose clock it is, and the clock; NULL: this machine's since its boot. A time says nothing to
     * an observer of another name. */
    const char *observer;
    int64_t (*now_ms)(void *arg);
    void *now_arg;
};

struct collect_result {
    uint64_t objects[COLLECT_VERDICTS], bytes[COLLECT_VERDICTS];
    uint64_t snapshots, live_jobs, dead_jobs;
};

/*
 * ERR_CORRUPT: a manifest, file table or map cannot be read, so that it is not known what it refers
 * to: nothing is deleted, and the text names the snapshot. ERR_INVALID: one is of a newer format.
 * Otherwise the store's errors: what was deleted until then stays deleted, and is all right.
 */
OGEL_MUST_CHECK int collect_run(struct store *store, const struct collect_options *options,
                                struct collect_result *result, struct err *err);

#endif
