/*
 * A job that is at work on a store and says so, in order that a collector leaves alone what it
 * writes and reads. The object jobs/ID is rewritten as long as the job runs; a collector that saw
 * it unchanged for JOB_DEAD_FACTOR times as long as the job promised to need, on its own clock,
 * takes the job for dead. No two clocks need agree. docs/snapshot-format.md, "Jobs"; ADR 9.
 */
#ifndef OGEL_SNAPSHOTS_JOB_H
#define OGEL_SNAPSHOTS_JOB_H

#include <stdint.h>

#include "base/err.h"
#include "snapshots/names.h"
#include "snapshots/store.h"

enum {
    JOB_RENEW_MS = 60000, /* unless the caller says otherwise */
    JOB_RENEW_MIN_MS = 100,
    JOB_RENEW_MAX_MS = 3600000,
    JOB_DEAD_FACTOR = 10, /* a collector waits so long */
    JOB_LOST_FACTOR = 5,  /* a job gives itself up earlier, by a clock that runs twice as slow */
    JOB_BYTES_MAX = 4096,
};

struct job;

/*
 * Says that the job ID (NULL: a new id; KIND: "create", "restore", …) runs, and goes on saying it
 * every RENEW_MS (0: JOB_RENEW_MS) from a thread of its own. With SNAPSHOT (NULL: none) that one is
 * pinned too: what is read of it afterwards stays. Errors: the store's; there is no job then, and
 * nothing is left but perhaps an object that a collector removes.
 */
OGEL_MUST_CHECK int job_begin(struct store *store, const char *kind, const char *id,
                              const char *snapshot, int64_t renew_ms, struct job **job,
                              struct err *err);

/*
 * Whether a collector can have taken the job for dead: asks the store, or, where that does not
 * answer, decides by how long ago it was told last. ERR_CONFLICT: it can, and what the job wrote
 * may be gone.
 */
OGEL_MUST_CHECK int job_check(struct job *job, struct err *err);

/* The same without asking the store: cheap, for the middle of long work. */
OGEL_MUST_CHECK int job_check_quick(struct job *job, struct err *err);

/* Unpins and says that the job has ended. NULL is allowed. */
void job_end(struct job *job);

/* What an object jobs/ID with the content DATA promises: its renewal in ms; JOB_RENEW_MS where that
 * cannot be read. */
int64_t job_renew_ms(const char *data, size_t len);

#endif
