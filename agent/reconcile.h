/*
 * The agent's core: reconcile(inputs) → the next step. Pure: no I/O, no clock, no allocation, no
 * randomness, no state of its own. It is called whenever an input changed and no step is under way;
 * it names one step; the shell carries that out, looks again and calls again. So a step that fails
 * or is interrupted is simply asked for anew, and an agent that is killed anywhere picks up from
 * what is durable and what can be seen.
 *
 * The order of steps is the safety argument: a promise is durable before it is acted on, a fence is
 * shown before a position is read, a floor is durable before a vote is out, a grant is spent before
 * a promotion.
 *
 * Source: docs/protocol.md; design sections 3 and 4.
 */
#ifndef OGEL_AGENT_RECONCILE_H
#define OGEL_AGENT_RECONCILE_H

#include "protocol/types.h"

enum agent_reason {
#define REASON(id, code, text) AGENT_REASON_##id,
#include "agent/reasons.def"
#undef REASON
    AGENT_REASON_COUNT
};

const char *agent_reason_code(enum agent_reason reason);
const char *agent_reason_text(enum agent_reason reason);

/* All that outlives the agent (besides the document and the event log). One record of the promise
 * file; .document is not part of that record: the shell fills it from the document's own file. */
struct durable {
    int32_t node;
    struct cluster_id cluster;
    struct incarnation incarnations[NODE_COUNT]; /* greatest known; own slot: this machine's */
    uint32_t void_number[NODE_COUNT];
    bool registered_at[NODE_COUNT]; /* own incarnation, at that peer */
    bool registered;
    bool birth_promised;
    bool birth_ended;
    int32_t birth_leader;
    struct promise promise;
    struct leadership leader; /* of the promised generation; generation 0: not known yet */
    struct grant grant;
    enum role role;
    bool planned;     /* the promise was asked for politely */
    uint64_t data_id; /* stands in the data directory too; 0: no data yet */
    enum marker marker;
    bool marker_done; /* the copy is there and starts; what is missing is being complete */
    bool complete;
    bool rewound;
    bool whole_before_rewind; /* it had complete data when the rewind was marked */
    uint32_t followed;     /* greatest generation it led or attached to: WAL of a later timeline is
                              nobody's */
    uint32_t rewind_tried; /* generation in which a rewind was tried last */
    struct position fork;  /* of that rewind: last common position */
    struct position complete_target; /* {generation, lsn}: past this its data is complete */
    struct position floor;
    struct job job;
    enum job_state job_state;
    struct snapshot_source job_source;   /* of a reinit; none: a base backup of the leader */
    struct snapshot_source birth_source; /* of the first leader's data; none: initdb */
    struct document_facts document;
};

/* Where Postgres is to stream from and whom it may wait for: the managed, dynamic part of its
 * configuration. */
struct replication {
    int32_t upstream; /* slot; NODE_NONE: none, and the key is taken away */
    struct incarnation upstream_incarnation;
    /* in the own name, and in N, where one that nobody leads counts nobody; 0: neither */
    uint32_t generation;
    bool counted;
    bool names; /* N lists the others' names of this generation; else nobody */
    struct incarnation
        incarnations[NODE_COUNT]; /* in names and in access rules; number 0: void, in neither */
};

enum child { CHILD_NONE, CHILD_INITDB, CHILD_REWIND, CHILD_CLONE, CHILD_RESTORE };
enum child_state { CHILD_ABSENT, CHILD_RUNNING, CHILD_OK, CHILD_FAILED };

struct options {
    uint32_t fence_timeout_ms;      /* a leader unconfirmed for so long stops */
    uint32_t receiver_timeout_ms;   /* SIGTERM to SIGKILL of a receiver */
    uint32_t stop_timeout_ms;       /* fast shutdown to SIGKILL */
    uint32_t checkpoint_timeout_ms; /* a planned fence waits for its checkpoint for so long */
    uint32_t position_timeout_ms;   /* until replay must have come to its end */
    uint32_t recheck_timeout_ms;    /* not streaming for so long: compare histories again */
    uint32_t start_backoff_ms;      /* between failed starts, doubled up to 32 times that */
};

/* A peer's last answer, as fresh as the shell has it. */
struct peer_input {
    bool known;       /* report is filled */
    bool fresh;       /* answered within the last few seconds */
    int64_t asked_ms; /* when that report was asked for (monotonic) */
    const struct report *report;
};

/* A peer that registers its new incarnation here and waits for the answer. */
struct registration {
    bool pending;
    int32_t node;
    struct incarnation incarnation;
};

/* What a peer answered to this node's own registration. */
struct registration_answer {
    bool valid;
    bool accepted;           /* else: it knows a later one; incarnations[] says which */
    struct incarnation self; /* the incarnation it answered for */
    struct incarnation incarnations[NODE_COUNT];
    uint32_t void_number[NODE_COUNT];
    struct cluster_id cluster;
    struct promise promise;
    bool birth_ended;
};

struct inputs {
    int64_t now_ms; /* monotonic, CLOCK_BOOTTIME */
    uint64_t nonce; /* fresh random number */
    struct options options;
    const struct durable *durable;
    bool has_message;
    const struct desired *message; /* the last one received that was admitted */
    /* of this slot, the latest that any message named and the greatest that one declared destroyed:
     * see message_learn() */
    struct incarnation self_known;
    uint32_t self_void;

    /* What this run of the agent made durable but has not acted on yet: set by the shell when a
     * STEP_PERSIST for SPEND or REWIND_MARK succeeds, cleared when STEP_PROMOTE or STEP_REWIND
     * begins. Both are done once, never after a restart. */
    bool due;

    /* data directory */
    bool looked;       /* what follows has been looked at since the agent started */
    bool data_present; /* initialised */
    bool data_foreign; /* not empty, and without a data id of ours */
    uint64_t data_id;  /* 0: none */

    /* Postgres */
    enum pg_state pg;
    bool pg_clean; /* PG_DOWN after a clean shutdown */
    /* last found stopped, it had been a primary; until it may have received WAL from elsewhere */
    bool was_primary;
    bool in_recovery;               /* PG_UP only */
    int64_t pg_since_ms;            /* of the present state */
    uint32_t failed_starts;         /* in a row */
    struct replication replication; /* as written (durable) */
    bool replication_known;
    bool replication_loaded; /* the running server was told since it was written */
    int64_t replication_since_ms;
    bool names_at_start; /* the running server started with a non-empty N */
    bool names_shown;    /* a fresh session showed N as written, since it was loaded */
    bool names_violated; /* … showed something else */
    bool receivers;      /* a receiver process, or a child that may become one, exists */
    bool streaming;
    int64_t not_streaming_since_ms; /* 0: it is */
    bool old_senders; /* leader: a walsender of an incarnation older than known exists */
    bool planted;     /* placeholders for the granted generation are there */
    bool checkpoint_running;
    int64_t checkpoint_since_ms; /* the last one was begun */
    bool checkpointed;           /* leader: since its promotion; planned fence: since the promise */
    bool job_stopped; /* the server was stopped for the running job by this run of the agent */
    bool roles_done;
    struct position flushed; /* now, as sampled */
    struct document_version document_applied;

    /* last read position; for exactly that promise and that life of the server */
    bool position_valid;
    struct promise position_promise;
    struct position position;   /* end of flushed WAL */
    struct position record_end; /* end of the last complete record */
    struct position consistent; /* stopped: it starts up once it has WAL up to there; 0: any */
    uint64_t replay_lsn;
    struct lineage lineage;
    uint32_t newest_history; /* the greatest timeline that a running server may have set out for */
    int64_t position_failing_ms; /* since when reading it fails; 0: it does not */
    bool position_unreadable;    /* by what the last try said: the WAL itself, not a hanging disk */
    bool replay_unblocked;       /* tried since then */

    enum child child;
    enum child_state child_state;
    int64_t child_ended_ms;
    uint64_t child_data_id; /* of the step that it was started for */

    /* peers */
    struct peer_input peers[NODE_COUNT];
    struct registration registration;
    struct registration_answer answers[NODE_COUNT];
    bool discard_allowed; /* the leader of the promised generation said so, just now */
    int64_t confirmed_ms; /* another node stood at this generation (grant's), last seen */
};

enum step_kind {
    STEP_NONE,           /* settled or waiting */
    STEP_PERSIST,        /* durable: fsync before anything else */
    STEP_REPLICATION,    /* write managed configuration and key, reload */
    STEP_END_RECEIVERS,  /* SIGTERM; returns when they are gone or receiver_timeout_ms has passed */
    STEP_KILL_RECEIVERS, /* SIGKILL: takes the server down */
    STEP_CHECKPOINT,     /* returns once begun; inputs.checkpoint_running, .checkpointed */
    STEP_STOP,           /* fast shutdown; returns once signalled */
    STEP_KILL,  /* everything of this data directory; urgent: also while another step hangs */
    STEP_START, /* as a standby; history files cleaned first */
    STEP_READ_POSITION, /* of a fenced standby, or of a stopped directory */
    STEP_UNBLOCK_REPLAY,
    STEP_PLANT,
    STEP_CHECK_NAMES,
    STEP_PROMOTE, /* ends what blocks replay, promotes, waits briefly; in_recovery tells the outcome
                   */
    STEP_ROLES,
    STEP_END_OLD_SENDERS,
    STEP_INITDB, /* children: start; they report through inputs.child */
    STEP_REWIND,
    STEP_CLONE, /* from the leader, or from step.source where there is one */
    STEP_STOP_CHILD,
    STEP_REGISTER,            /* peer */
    STEP_ANSWER_REGISTRATION, /* peer */
    STEP_ASK_DISCARD,
    STEP_FETCH_DOCUMENT, /* peer */
    STEP_APPLY_DOCUMENT,
};

struct step {
    enum step_kind kind;
    enum agent_reason reason;
    int32_t peer;
    struct durable durable;         /* STEP_PERSIST: what is to be written */
    struct replication replication; /* STEP_REPLICATION, STEP_START */
    uint64_t data_id;              /* INITDB, CLONE, REWIND: written last, once the copy is whole */
    struct snapshot_source source; /* CLONE: none: from the leader */
    int64_t wake_ms;               /* STEP_NONE: look again after at most this long */
    bool accepted;                 /* STEP_ANSWER_REGISTRATION */
};

/* What follows from the inputs alone, for the report. */
struct standing_now {
    struct vote vote;
    bool leading;
    bool fenced;
    bool confirmed;
};

void reconcile(const struct inputs *in, struct step *step);
void reconcile_standing(const struct inputs *in, struct standing_now *now);

/* What a message says about this machine itself counts whether it is admitted or not: it would be
 * refused for the very reason that it knows a later machine in this one's place. True if it said
 * something new. */
bool message_learn(struct inputs *in, const struct durable *durable, const struct desired *message);

/* Why the cluster document may not be changed at this node now, as a sentence; NULL: it may. The
 * first as the leader's; the second while there is no leader, by the process that was promised
 * PROMISE and for its sake alone. Each such generation is written in once: see document_api.c. */
const char *document_obstacle(const struct inputs *in);
const char *document_obstacle_leaderless(const struct durable *durable, struct promise promise);

/* The message a durable state was last given obeys these; see order.h. */
struct standing;
void durable_standing(const struct durable *durable, struct standing *standing);

/* May `node` discard its data now? Asked at the leader's agent. `outstanding` is the node that was
 * last allowed and has not become complete since (NODE_NONE: none). */
bool discard_permitted(const struct inputs *in, int32_t node, uint32_t generation,
                       int32_t outstanding);

#endif
