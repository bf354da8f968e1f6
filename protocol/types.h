/* The values that orchestrator and agents exchange and that both pure cores reason about: plain,
 * fixed-size, without pointers, so that they can be copied, compared and stored in a simulator
 * by the million.
 *
 * docs/protocol.md explains the rules these values obey; order.h holds the ones both sides
 * share. */
#ifndef OGEL_PROTOCOL_TYPES_H
#define OGEL_PROTOCOL_TYPES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    NODE_COUNT = 3, /* a cluster is three nodes; its majority is two */
    QUORUM = 2,
    NODE_NONE = -1,
    NODE_ID_SIZE = 17, /* [a-z][a-z0-9]{0,15} and NUL */
    CLUSTER_NAME_SIZE = 64,
    HOST_SIZE = 128,
    CAUSE_SIZE = 160,     /* one line for people: why a node is as it is */
    STORE_URL_SIZE = 256, /* where snapshots are kept */
    SOURCE_ID_SIZE = 32,  /* of a snapshot, and NUL */
    /* newest timelines kept; an older fork means re-clone, never a guess */
    LINEAGE_MAX = 32,
    /* initdb makes timeline 1; the first leader is promoted to 2 */
    FIRST_GENERATION = 2,
};

/* A node is named by its slot: its index among the cluster's three node ids in ascending order. */

struct cluster_id {
    uint8_t bytes[16]; /* all zero: none yet */
};

/* One life of one node's durable state. A replaced or emptied machine is a later one. number 0:
 * unknown. */
struct incarnation {
    uint32_t number;
    uint64_t nonce; /* tells two machines apart that would claim the same number */
};

/* Durable: nothing below this (generation, proposer) is obeyed any more. */
struct promise {
    uint32_t generation;
    uint64_t proposer; /* fresh for each start of an orchestrator process */
};

/* The fact that a generation has been granted: one generation, one leader. generation 0: none
 * known. */
struct leadership {
    uint32_t generation;
    int32_t node; /* slot */
    struct incarnation incarnation;
    uint64_t proposer; /* of the grant */
};

/* Held by the agent that was granted a generation. spent is durable before the promotion starts. */
struct grant {
    uint32_t generation; /* 0: none */
    uint64_t proposer;
    struct incarnation incarnation;
    bool spent;
};

/* A place in WAL. Compared timeline first: timeline ids are generations, so a later timeline
 * wins. */
struct position {
    uint32_t timeline; /* 0: not known */
    uint64_t lsn;
};

/* Where each timeline of a node's WAL began: entry i is timeline i's id and the LSN at which it
 * forked off entry i-1; ascending. Only the newest LINEAGE_MAX are kept; truncated says that
 * older ones were dropped. */
struct lineage {
    uint32_t count;
    bool truncated;
    struct position begin[LINEAGE_MAX];
};

struct document_version {
    uint32_t generation;
    uint32_t counter;
};

/* A snapshot that a copy is made of, in place of initdb or of a base backup of the leader. What its
 * manifest says comes along, so that both cores can judge it without looking into a store. */
struct snapshot_source {
    char store[STORE_URL_SIZE];
    char id[SOURCE_ID_SIZE]; /* "": none */
    uint32_t timeline;       /* that it was begun on */
    uint64_t stop_lsn;       /* its own WAL ends here */
    uint64_t system_id;
    uint32_t pg_version; /* 150020 */
};

struct address {
    char host[HOST_SIZE];
    uint16_t port;
};

enum role { ROLE_NONE, ROLE_FENCED, ROLE_LEADER, ROLE_FOLLOWER };

enum job_kind { JOB_NONE, JOB_RESTART, JOB_REINIT };

/* An operator's job for one node. */
struct job {
    uint64_t id; /* 0: none */
    enum job_kind kind;
};

enum job_state { JOB_IDLE, JOB_RUNNING, JOB_DONE, JOB_FAILED };

/* What the pure cores need of the cluster document; the rest of it (settings, access rules) is
 * text to them. */
struct document_facts {
    struct document_version version;
    bool maintenance;
    bool fenced[NODE_COUNT];            /* by an operator */
    struct address address[NODE_COUNT]; /* of each node's Postgres */
};

/* Birth promises travel as a fenced state with birth set; leader.node is then the first leader. */
struct desired {
    uint32_t protocol;
    struct cluster_id cluster;
    int32_t node; /* whom it is for */
    uint32_t generation;
    uint64_t proposer; /* of the sender */
    enum role role;
    bool birth;
    /* a leader to be fenced: checkpoint first, then stop politely */
    bool planned;
    /* ROLE_LEADER, ROLE_FOLLOWER; in a birth promise only .node */
    struct leadership leader;
    /* greatest known to the sender; in a grant: to R */
    struct incarnation incarnations[NODE_COUNT];
    /* operator's override: incarnations up to this one are void */
    uint32_t destroyed_number[NODE_COUNT];
    struct job job;
    /* taken on only by a node whose last job is this one, so that a late copy is not done again */
    uint64_t job_after;
    /* in a birth promise: what the first leader restores, rather than running initdb; with a
     * reinit: what it is to be cloned from */
    struct snapshot_source source;
    struct document_version document; /* of the text that came along; {0,0}: none did */
};

enum pg_state {
    PG_ABSENT, /* no data directory */
    PG_DOWN,   /* stopped */
    PG_STARTING,
    PG_UP, /* accepts connections */
    PG_STOPPING,
    PG_CRASHED, /* exited without being asked; cause says how */
};

/* Why the data directory is not known to be whole (a durable marker stands). */
enum marker { MARKER_NONE, MARKER_INIT, MARKER_CLONE, MARKER_REWIND, MARKER_RESTORE };

/* The answer to one promise request; valid only for exactly this promise. */
struct vote {
    bool valid;
    struct promise promise;
    struct position position; /* flushed end, read after the fence */
    uint64_t replay_lsn;
    bool complete; /* false: rewound, it counts for legality but cannot lead */
};

enum probe_verdict {
    PROBE_UNKNOWN,
    PROBE_PRIMARY,  /* a fresh connection found it out of recovery */
    PROBE_STANDBY,  /* … in recovery */
    PROBE_REFUSED,  /* nobody listens */
    PROBE_STARTING, /* 57P03: starting up or shutting down */
    PROBE_SILENT,   /* deadline passed */
    PROBE_BROKEN,   /* answered with an error */
};

/* How this agent sees another node. Ages count from the last good answer; AGE_NEVER if there was
 * none. */
#define AGE_NEVER UINT32_MAX
struct peer_view {
    bool agent_reachable;
    bool agent_refuses; /* connection refused: nobody listens */
    uint32_t agent_age_ms;
    uint32_t generation; /* promised, by its last answer */
    enum probe_verdict postgres;
    uint32_t postgres_age_ms; /* since that verdict was taken */
};

/* A walsender of this leader (index: slot of its standby). */
struct standby_view {
    bool attached;
    bool streaming;
    bool counted;        /* its name stands in N and its row shows sync_priority > 0 */
    uint32_t generation; /* out of its name */
    uint32_t incarnation;
    uint64_t flush_lsn;
    uint64_t replay_lsn;
    uint32_t reply_age_ms;
    uint32_t replay_lag_ms;
};

struct receiver_view {
    bool alive; /* a receiver process exists */
    bool streaming;
    int32_t upstream;        /* slot or NODE_NONE */
    uint32_t message_age_ms; /* AGE_NEVER: none yet */
};

/* What one agent says of itself. Sent to orchestrators and to the peers; also what health and
 * metrics show. */
struct report {
    uint32_t protocol;
    struct cluster_id cluster;
    int32_t node;
    uint64_t sequence;  /* grows with each change; what a long poll waits on */
    uint64_t agent_run; /* fresh for each start of the agent */

    /* durable */
    struct promise promise;
    struct leadership leader; /* whom it promised to follow, or itself */
    struct grant grant;
    enum role role;                              /* last desired */
    struct incarnation incarnations[NODE_COUNT]; /* known; its own slot: itself */
    /* incarnations up to this one are void by override */
    uint32_t void_number[NODE_COUNT];
    bool blank; /* no data and no promise: may be part of a birth */
    /* false: a new incarnation whose registration is not finished */
    bool registered;
    bool birth_promised;
    bool birth_ended; /* known to have ended */
    bool complete;
    bool rewound; /* not complete, but votes by the rewound exception */
    enum marker marker;
    struct document_facts document;

    /* now */
    enum pg_state pg;
    bool in_recovery;
    /* leader: a checkpoint completed since its promotion, so that others may rewind from it */
    bool checkpointed;
    uint64_t oldest_lsn; /* start of the oldest WAL it still has; 0: not known */
    bool leading;        /* out of recovery by its own spent grant, N in force */
    bool fenced;         /* shown: no receiver, no key */
    /* leader: another node stood at its generation within fence_timeout */
    bool confirmed;
    bool accepts_writes;             /* leader: a counted standby streams */
    bool local_probe_ok;             /* fresh local connection and, when leading, a write */
    uint32_t local_probe_failing_ms; /* 0: fine */
    /* since what follows, to replay_lag_ms, was read, and the standbys; AGE_NEVER: it was not */
    uint32_t sampled_age_ms;
    uint32_t timeline;
    uint64_t write_lsn; /* leader: insert; standby: received */
    uint64_t flush_lsn;
    uint64_t replay_lsn;
    uint32_t replay_lag_ms;
    struct lineage lineage; /* of the WAL that is there, when known */
    struct vote vote;
    struct receiver_view receiver;
    struct standby_view standbys[NODE_COUNT];
    struct peer_view peers[NODE_COUNT];

    /* for people and jobs */
    struct address postgres; /* where its Postgres listens */
    uint64_t system_id;
    uint32_t pg_version; /* 150020 */
    bool pending_restart;
    uint64_t disk_free_bytes;
    uint64_t disk_total_bytes;
    struct job job; /* the last one it was given */
    enum job_state job_state;
    uint32_t progress_percent; /* of clone, rewind, init; 0..100 */
    /* reason code and name of what it is doing now, "" when settled */
    char step[48];
    char cause[CAUSE_SIZE]; /* what stands in the way, or how Postgres died */
};

#endif
