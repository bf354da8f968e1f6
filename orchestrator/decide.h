/*
 * The orchestrator's core: decide(view) → plan. Pure: no I/O, no clock, no allocation, no
 * randomness, no state of its own. Time, reports, probes and chance come in as values; messages,
 * probes to take and reasons go out as values.
 *
 * All that an orchestrator may remember between two calls is struct memory, and losing it is
 * harmless: only the process that opened a generation may grant it, so a fresh process takes the
 * next one.
 *
 * Source: docs/protocol.md; design "When is a leader dead?", "Election", "Switchover", "Birth".
 */
#ifndef OGEL_ORCHESTRATOR_DECIDE_H
#define OGEL_ORCHESTRATOR_DECIDE_H

#include "protocol/types.h"

enum reason {
#define REASON(id, code, text) REASON_##id,
#include "orchestrator/reasons.def"
#undef REASON
    REASON_COUNT
};

const char *reason_code(enum reason reason); /* "L1" */
const char *reason_text(enum reason reason); /* one sentence */

struct decide_options {
    uint32_t failure_timeout_ms;   /* silence until a leader counts as dead */
    uint32_t election_timeout_ms;  /* an open generation without a grant is given up */
    uint32_t promotion_timeout_ms; /* a grant without a leader is given up */
    /* one failover per window, unless the leader is provably dead */
    uint32_t failover_backoff_ms;
    uint32_t probe_interval_ms; /* fresh SELECT on every Postgres in quiet times */
};

/* One node as this orchestrator sees it. Ages are AGE_NEVER when it never happened. */
struct node_view {
    bool known; /* report is filled */
    /* the last one received, however old; while the node is reachable it holds, for a change
     * is answered at once. Only the ages in it are as old as it is */
    struct report report;
    uint32_t report_age_ms;
    /* its last call was answered and the present one is not overdue */
    bool reachable;
    bool refuses;            /* its last call was refused: nobody listens there */
    uint32_t unreachable_ms; /* 0 while reachable */
    /* own fresh connection; PROBE_PRIMARY only if a write went through too */
    enum probe_verdict postgres;
    uint32_t postgres_age_ms;
    /* how long own probes have found neither primary nor standby; 0: fine */
    uint32_t postgres_failing_ms;
    bool refused_message;        /* it refused this orchestrator's last message … */
    struct promise refused_with; /* … standing at this promise */
};

enum request_kind {
    REQUEST_NONE,
    REQUEST_INIT,       /* target: first leader or NODE_NONE; cluster: the id drawn for it */
    REQUEST_FAILOVER,   /* an election now; target or NODE_NONE */
    REQUEST_SWITCHOVER, /* the leader first, politely; target or NODE_NONE */
    REQUEST_JOB,        /* target, job */
    REQUEST_DOCUMENT,   /* the cluster document is to be changed, and no leader was seen */
};

/* One operator's request at a time and cluster; the shell queues and keeps offering it until it is
 * settled. */
struct request {
    uint64_t id;
    enum request_kind kind;
    int32_t target;
    struct cluster_id cluster;
    struct job job;
    /* of REQUEST_INIT: what the first leader restores; of a reinit: what the node is cloned from */
    struct snapshot_source source;
    bool destroyed[NODE_COUNT]; /* failover --accept-data-loss --destroyed */
};

enum phase {
    PHASE_IDLE,
    PHASE_BIRTH,        /* birth promises asked for */
    PHASE_LEADER_FIRST, /* switchover: the leader promises, is fenced and gives its position */
    PHASE_PROMISING,    /* promises asked for, votes come in */
    PHASE_GRANTED,      /* granted; waiting for it to lead */
    PHASE_DOCUMENT,     /* promises for one change of the document; nobody is granted */
};

struct memory {
    enum phase phase;
    uint32_t generation; /* the one this process opened */
    enum reason why;     /* the L or O reason that opened it */
    uint64_t request;    /* operator's request it serves, 0: none */
    int32_t target;      /* preferred candidate */
    int32_t old_leader;  /* who led when it was opened */
    int32_t granted_to;
    struct desired grant;          /* resent unchanged until it is obeyed */
    struct cluster_id cluster;     /* birth */
    struct snapshot_source source; /* birth, of a snapshot */
    int64_t opened_ms;
    int64_t granted_ms;
    int64_t suspect_since_ms; /* the leader fails a test since; 0: it does not */
    int64_t cut_off_since_ms; /* no standby streams since */
    int64_t last_failover_ms; /* 0: none by this process */
    /* random back-off after meeting another orchestrator or a lost election */
    int64_t wait_until_ms;
    uint32_t lost_elections;     /* own ones given up since a leader was seen */
    uint32_t highest_generation; /* ever heard of */
    uint64_t last_settled_request;
    uint64_t job_request; /* the last job that was sent, and the job that its node had before */
    uint64_t job_after;
    enum reason last_reason;   /* so that a standing situation is reported once */
    int64_t stranded_since_ms; /* a node stands above a healthy leader since; 0: none does */
    int64_t asked_all_ms;      /* since when all voters are asked, not the leader alone */
    /* the leader of this generation has been reported as seen */
    uint32_t adopted_generation;
    uint32_t told_generation[NODE_COUNT]; /* told to follow its leader: reported once */
    /* by the operator's override of this election */
    uint32_t destroyed_number[NODE_COUNT];
};

struct view {
    int64_t now_ms; /* monotonic */
    uint64_t proposer;
    uint32_t chance; /* fresh random number, for back-off */
    struct decide_options options;
    struct node_view nodes[NODE_COUNT];
    struct request request;
    struct memory memory;
};

enum { PLAN_EVENTS_MAX = 8, BLOCKERS_MAX = 8 };

struct plan_event {
    enum reason reason;
    int32_t node; /* or NODE_NONE */
    uint32_t generation;
};

/* A change of the document without a leader, for REQUEST_DOCUMENT. While it is due the shell makes
 * that request's change, once and at one node, under the promise (memory.generation, proposer);
 * what comes out of it is written at the others that hold the promise. */
struct document_write {
    bool due;
    int32_t at; /* holds the greatest document of those that promised */
    bool promised[NODE_COUNT];
};

struct blocker {
    enum reason reason;
    int32_t node;
};

struct plan {
    struct memory memory; /* to be handed in next time */
    /* a message differs from what the node reports, so it is to be sent (again) */
    bool send[NODE_COUNT];
    struct desired message[NODE_COUNT];
    bool probe[NODE_COUNT]; /* take a fresh probe now: suspicion */
    /* call again after at most this long, also if nothing happens */
    uint32_t wake_ms;
    uint32_t event_count;
    struct plan_event events[PLAN_EVENTS_MAX];

    /* what the operator's request came to */
    bool request_settled;
    bool request_ok;
    enum reason request_reason;
    int32_t request_node; /* whom request_reason speaks of, or NODE_NONE */
    struct document_write write;

    /* the cluster as people see it */
    int32_t leader;      /* slot or NODE_NONE */
    uint32_t generation; /* of that leader; else the highest granted one */
    /* the leader leads, N is in force and a counted standby streams */
    bool writable;
    enum reason not_writable; /* why not */
    bool failover_possible;
    uint32_t blocker_count;
    struct blocker blockers[BLOCKERS_MAX];
    bool maintenance;
};

/* Fills *plan, all of it. Messages are level-triggered: one is sent as long as the node's report
 * does not show what the message wants. Standing reasons (K, X) come as an event when they change,
 * all others when they happen. */
void decide(const struct view *view, struct plan *plan);

#endif
