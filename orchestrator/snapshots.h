/*
 * The snapshots of one cluster, as its orchestrator looks after them. An agent takes, verifies,
 * drills or collects them in a child process, as its one task; the leader's agent permits one at a
 * time in the whole cluster, so that two orchestrators need not know of each other. All that is
 * remembered here can be found again at the agents.
 *
 *   snapshot_due.c     what is due now, which node takes it (pure)
 *   snapshots.c        the document's section, what agents say of their tasks, the clock
 *   snapshot_run.c     one task: begun, followed, tried once more elsewhere
 *   snapshot_index.c   what the store holds; a copy in Redis
 *   snapshot_status.c  as people and Prometheus see it
 *   snapshot_api.c     the routes
 *
 * None of it enters decide(): snapshots are no decision of high availability.
 */
#ifndef OGEL_ORCHESTRATOR_SNAPSHOTS_H
#define OGEL_ORCHESTRATOR_SNAPSHOTS_H

#include <jansson.h>
#include <stdio.h>

#include "orchestrator/cluster.h"
#include "orchestrator/snapshot_due.h"
#include "snapshots/names.h"

struct document_call;
struct http_result;

enum { TASK_ID_SIZE = 17, SNAPSHOT_TEXT_SIZE = 512, SNAPSHOT_WHO_SIZE = 64 };

/* What the cluster document says; unparsed texts stay in the section. */
struct snapshot_settings {
    bool known; /* a document has been read */
    struct document_version version;
    json_t *section;   /* NULL: it has none */
    const char *store; /* in the section; NULL: snapshots are off */
    bool timed[SNAPSHOT_TIMED];
    struct schedule schedules[SNAPSHOT_TIMED];
    int32_t node; /* NODE_NONE: any */
    bool prefer_leader;
    char problem[SNAPSHOT_TEXT_SIZE]; /* a schedule that cannot be read; "": none */
};

/* What one agent says of its task. */
struct snapshot_watch {
    struct snapshots *snapshots;
    int32_t slot;
    struct http_call *call;
    int64_t asked_ms; /* 0: never */
    int64_t heard_ms; /* when the last call that has ended was begun; 0: none has */
    uint64_t since;   /* of the process RUN; "": not known */
    char run[TASK_ID_SIZE];
    bool answered; /* once, or failed to, since the settings were known */
    json_t *task;  /* the last it told; NULL: nothing yet */
};

struct snapshot_wish {
    enum snapshot_kind kind;
    int32_t node; /* the only one that will do, or NODE_NONE */
    bool scheduled;
    int64_t slot_ms;                 /* of the schedule; 0: none */
    char snapshot[SNAPSHOT_ID_SIZE]; /* "": none */
    json_t *options;                 /* borrowed; NULL: the document's */
    char who[SNAPSHOT_WHO_SIZE];
};

enum run_state {
    RUN_NONE,
    RUN_STARTING, /* the agent was asked */
    RUN_GOING,
    RUN_AGAIN, /* failed; to be tried on another node */
};

struct snapshot_run {
    enum run_state state;
    struct snapshot_wish wish; /* options: owned */
    char id[TASK_ID_SIZE];
    int32_t slot;
    int32_t avoid;         /* the node that failed, or NODE_NONE */
    bool second;           /* it is the second try */
    bool own;              /* begun by this process, not found running */
    bool certain;          /* the agent said that it runs it */
    int64_t begun_ms;      /* UTC */
    int64_t lost_since_ms; /* its agent does not answer since; 0: it does */
    int64_t again_ms;      /* RUN_AGAIN: not before */
    int64_t until_ms;      /* RUN_AGAIN: not after */
    struct http_call *call;
    json_t *task; /* as last told; NULL: nothing yet */
    char failure[SNAPSHOT_TEXT_SIZE];
};

struct snapshot_index {
    json_t *list;    /* as the agent gave it; NULL: not known */
    char *store;     /* of which */
    int64_t read_ms; /* UTC */
    struct http_call *call;
    bool asked[NODE_COUNT]; /* in this attempt */
    bool again;             /* something changed while it was being read */
    bool failed;            /* the last attempt; error says why */
    int64_t tried_ms;
    char error[SNAPSHOT_TEXT_SIZE];
    struct snapshot_index_call *waiting;
};

/* What came of the tasks of one kind. */
struct snapshot_outcome {
    int64_t ended_ms; /* of the last success, UTC; 0: none known */
    int64_t duration_ms;
    int64_t logical_bytes, stored_bytes;
    char id[SNAPSHOT_ID_SIZE];
    int64_t failed_ms; /* of the last failure; 0: none */
    char failure[SNAPSHOT_TEXT_SIZE];
    uint64_t failed_total;
    uint64_t skipped_total[SKIP_REASONS];
    enum skip_reason last_skip; /* told of; SKIP_REASONS: none since a run */
    int64_t served_ms;          /* slots up to here are served */
    int64_t refused_since_ms;   /* the slot that is due is refused since; 0: it is not */
    int64_t waiting_ms;         /* a slot that waits for another task; 0: none */
    int64_t next_ms;            /* when the next run begins; 0: not known, or never */
};

struct snapshots {
    struct cluster *cluster;
    struct loop_timer *timer;
    struct document_call *fetching;
    int64_t fetched_ms; /* when the document was asked for last */
    int64_t since_ms;   /* monotonic: when the store became known */
    struct snapshot_settings settings;
    struct snapshot_watch watches[NODE_COUNT];
    struct snapshot_run run;
    struct snapshot_index index;
    struct snapshot_outcome outcomes[SNAPSHOT_KINDS];
    struct snapshot_call *calls; /* who waits for the run */
    int64_t hold_until_ms;       /* a run was refused: none of the schedule before this */
    int64_t gc_ms;               /* collect after this; 0: not */
};

/* --- for the rest of the orchestrator ----------------------------------------------------------
 */

struct snapshots *snapshots_new(struct cluster *cluster);
void snapshots_free(struct snapshots *snapshots); /* NULL is allowed */
void snapshots_start(struct cluster *cluster);
void snapshots_stop(struct cluster *cluster);  /* ends what is under way; tasks go on */
void snapshots_round(struct cluster *cluster); /* after a round: there may be a newer document */

/* The URL of the store that the cluster document names, the cluster's until the next document;
 * NULL: none, or no document is known yet. */
const char *snapshots_store(const struct cluster *cluster);

/* "snapshots" of a change of the document, as far as protocol/document.h cannot judge it. */
OGEL_MUST_CHECK int snapshots_check_change(const json_t *change, struct err *err);

/* For GET /v1/clusters/NAME; null while snapshots are off. New reference. */
json_t *snapshots_status_json(const struct cluster *cluster);
void snapshots_print_metrics(FILE *out, const struct orchestrator *orchestrator);

/* The copy in Redis is there and no older than what is known here. */
void snapshots_check_redis(struct cluster *cluster);

/* --- among the files above ---------------------------------------------------------------------
 */

/* snapshots.c */
void snapshots_wake(struct snapshots *s);              /* looks soon at what is to be done */
void snapshots_ask(struct snapshots *s, int32_t slot); /* its agent for its task, now */
void snapshots_ask_all(struct snapshots *s);
/* Where a task of KIND may run; *leads: only the leader was left. */
int32_t snapshots_choose(const struct snapshots *s, enum snapshot_kind kind, int32_t wanted,
                         int32_t avoid, bool *leads);
/* An event "snapshot" of the history and the log; node is a slot or NODE_NONE. The codes are
 * explained in docs/operations/backup.md. */
void snapshots_event(struct snapshots *s, const char *code, int32_t node, const char *fmt, ...)
    OGEL_PRINTF(4, 5);
bool snapshots_healthy(const struct snapshots *s);
int64_t snapshots_ms_of(const json_t *object, const char *name); /* a number; 0: none */

/* snapshot_run.c */
typedef void snapshot_fn(int status, const json_t *task, const char *detail, void *arg);
struct snapshot_call;
/* Begins a task; 0, or an HTTP status with ERR that says why not. The callback comes once and never
 * from within the call: 202 with the task once an agent has taken it, or, with WAIT, 200 or 502
 * with the task when it has ended; otherwise an HTTP status and a sentence. FN may be NULL. */
OGEL_MUST_CHECK int snapshot_run_begin(struct snapshots *s, const struct snapshot_wish *wish,
                                       bool wait, snapshot_fn *fn, void *arg,
                                       struct snapshot_call **call, struct err *err);
void snapshot_call_forget(struct snapshot_call *call); /* the caller went away */
/* An agent told of its task; TASK is borrowed. */
void snapshot_run_seen(struct snapshots *s, int32_t slot, const json_t *task);
/* Its id says so, whichever orchestrator began it. */
bool snapshot_task_is_scheduled(const json_t *task);
void snapshot_run_tick(struct snapshots *s, int64_t now_ms);
void snapshot_run_stop(struct snapshots *s);
bool snapshot_run_active(const struct snapshots *s);
json_t *snapshot_run_json(const struct snapshots *s); /* the last or running task; new reference */

/* snapshot_index.c. The callback comes once, with a status, the list (borrowed, NULL unless 200)
 * and unless 200 a sentence; perhaps within the call: then NULL is returned. */
typedef void snapshot_index_fn(int status, const json_t *list, const char *detail, void *arg);
struct snapshot_index_call;
struct snapshot_index_call *snapshot_index_get(struct snapshots *s, bool refresh,
                                               snapshot_index_fn *fn, void *arg);
void snapshot_index_forget(struct snapshot_index_call *call);
void snapshot_index_refresh(struct snapshots *s);
/* What a task that is done tells of its snapshot, until the store has been read again. */
void snapshot_index_note(struct snapshots *s, enum snapshot_kind kind, const json_t *task);
void snapshot_index_tick(struct snapshots *s, int64_t now_ms);
void snapshot_index_drop(struct snapshots *s); /* of another store */
void snapshot_index_stop(struct snapshots *s);
/* The newest whole one of this cluster; borrowed, NULL: none is known. */
const json_t *snapshot_index_newest(const struct snapshots *s);
const json_t *snapshot_index_entry(const struct snapshots *s, const char *id);

#endif
