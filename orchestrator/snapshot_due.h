/*
 * What of a cluster's snapshots is due now, and which node takes one. Pure: time and what is known
 * come in as values; nothing is remembered here.
 *
 * A schedule names slots (snapshots/schedule.h). Each begins a little late, the same for every
 * orchestrator of a cluster, so that hundreds of clusters do not begin at once. Slots that were
 * missed are one run, not many. Source: docs/operations/backup.md, "On a schedule".
 */
#ifndef OGEL_ORCHESTRATOR_SNAPSHOT_DUE_H
#define OGEL_ORCHESTRATOR_SNAPSHOT_DUE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/types.h"
#include "snapshots/schedule.h"

enum snapshot_kind {
    SNAPSHOT_NONE = -1,
    SNAPSHOT_CREATE,
    SNAPSHOT_VERIFY,
    SNAPSHOT_DRILL,
    SNAPSHOT_GC,
    SNAPSHOT_KINDS,
    SNAPSHOT_TIMED = SNAPSHOT_GC, /* those before it have a schedule of their own */
};

extern const char *const snapshot_kind_names[SNAPSHOT_KINDS + 1]; /* NULL at the end */

enum skip_reason {
    SKIP_RUNNING, /* the one before it still ran, or waited */
    SKIP_MAINTENANCE,
    SKIP_UNHEALTHY, /* no leader, or commits are not acknowledged */
    SKIP_NO_NODE,
    SKIP_NO_SNAPSHOT, /* to verify, or to restore in a drill */
    SKIP_REASONS,
};

extern const char *const skip_reason_names[SKIP_REASONS];

struct due_view {
    int64_t now_ms;  /* UTC */
    uint64_t spread; /* of the cluster's name: snapshot_spread() */
    const struct schedule *schedule;
    int64_t served_ms; /* slots up to here are served */
    enum snapshot_kind kind;
    enum snapshot_kind running; /* what the cluster's one task is now */
    bool maintenance, healthy, has_node, has_snapshot;
};

enum due_verdict {
    DUE_LATER,
    DUE_WAIT, /* due, but a task of another kind runs: after it */
    DUE_RUN,
    DUE_SKIP,
};

struct due {
    enum due_verdict verdict;
    enum skip_reason reason; /* of DUE_SKIP */
    int64_t slot_ms;         /* the newest that is due; 0: none is */
    int64_t begin_ms;        /* when the next run begins; now or earlier if one is due; 0: never */
};

/* For each kind that has a schedule, again and again; the caller moves served_ms to slot_ms or
 * later once it was run or skipped. */
struct due snapshot_due(const struct due_view *view);

/* A stable number for a cluster's name. */
uint64_t snapshot_spread(const char *name);

/* One node as a place where a task may run. */
struct source_view {
    bool usable; /* its agent answers; for create also: complete, up, and leading or streaming */
    bool leads;
    uint64_t lag_bytes; /* UINT64_MAX: not known */
};

/* The follower with the least lag; with PREFER_LEADER the leader. WANTED (a slot or NODE_NONE) is
 * the only one that counts then, AVOID (the same) counts as not usable. Where no follower fits, the
 * leader. NODE_NONE: none fits. */
int32_t snapshot_source(const struct source_view nodes[NODE_COUNT], int32_t wanted,
                        bool prefer_leader, int32_t avoid);

#endif
