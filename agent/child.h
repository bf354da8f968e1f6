/*
 * initdb, pg_rewind, pg_basebackup and `ogelctl snapshot restore` as children that are watched: by
 * pidfd, with progress from their output. Each holds a lock on the state directory, so that one
 * whose agent was killed is known at the next start.
 */
#ifndef OGEL_AGENT_CHILD_H
#define OGEL_AGENT_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/reconcile.h"
#include "base/err.h"

struct step_run;

struct child_process {
    enum child kind; /* CHILD_NONE: none runs */
    pid_t pid;
    int pidfd;
    int output;       /* its stdout and stderr; non-blocking, to be read until it ends */
    uint64_t data_id; /* to be written once the copy is whole */
    struct cluster_id cluster;
    bool birth; /* CHILD_RESTORE: the snapshot is another cluster's, and this one begins with it */
};

enum { CHILD_LINE_SIZE = 256 };

/* What its output told so far. */
struct child_output {
    char line[CHILD_LINE_SIZE]; /* being read */
    size_t used;
    char last[CHILD_LINE_SIZE]; /* last whole line that is no progress */
    uint32_t percent;
    bool no_rewind_required;
};

/* Takes DATA of its output; progress lines end in CR or LF and hold "(NN%)", or are ogelctl's: a
 * JSON object with done_bytes and total_bytes. */
void child_output_take(struct child_output *output, const char *data, size_t size);

/* Empties what must be empty, then starts the child that run->step asks for; run->child is the
 * caller's to watch. */
OGEL_MUST_CHECK int child_start(struct step_run *run);

/* After it exited with status 0: takes away what was copied from the other server, makes the
 * directory a standby's, writes the data id last. ERR_REFUSED where a node was to be cloned from a
 * snapshot of another cluster. */
OGEL_MUST_CHECK int child_finish(const char *data_directory, const struct child_process *child,
                                 struct err *err);

/* At the start of the agent: ends a child of an earlier one, waits until it is gone, and holds the
 * lock from then on. ERR_TIMEOUT. */
OGEL_MUST_CHECK int child_end_orphans(const char *state_directory, int64_t timeout_ms,
                                      struct err *err);

/* SIGTERM, or with HARD SIGKILL, to all of it. */
void child_signal(const struct child_process *child, bool hard);

#endif
