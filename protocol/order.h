/*
 * The ordering rules that orchestrator and agents share. Pure: values in, values out.
 * Source: docs/protocol.md, "Order".
 */
#ifndef OGEL_PROTOCOL_ORDER_H
#define OGEL_PROTOCOL_ORDER_H

#include "protocol/types.h"

/* <0, 0, >0 as a is before, equal to, after b: timeline first, then LSN. */
int position_compare(struct position a, struct position b);

/* <0, 0, >0 by (generation, counter). */
int document_version_compare(struct document_version a, struct document_version b);

bool promise_equal(struct promise a, struct promise b);

/* Same number and nonce. */
bool incarnation_equal(struct incarnation a, struct incarnation b);

/* The greater number; on a tie the greater nonce, so that every node settles on the same one. */
struct incarnation incarnation_later(struct incarnation a, struct incarnation b);

bool leadership_equal(const struct leadership *a, const struct leadership *b);

/* The same snapshot of the same store, or both none. */
bool source_equal(const struct snapshot_source *a, const struct snapshot_source *b);
bool source_is_none(const struct snapshot_source *source);

bool cluster_id_equal(const struct cluster_id *a, const struct cluster_id *b);
bool cluster_id_is_none(const struct cluster_id *id);

/* Where does WAL that ends at `end` with lineage `mine` stop being part of `theirs`?
 *
 *   FORK_PREFIX    all of it is part of theirs: it may attach
 *   FORK_DIVERGED  it has WAL of its own; *fork is the last common position
 *   FORK_UNKNOWN   the common ancestor is older than what is kept, or the two contradict each
 *                  other (one timeline id with two beginnings): re-clone
 *
 * `end` is the end of the last complete record; timelines of `mine` above it hold no record yet and
 * are ignored. Timeline ids are unique per promotion, so up to the shorter end an equal id means
 * equal WAL. The newest timeline of `theirs` is taken as open-ended: `theirs` must be the lineage
 * of that timeline's leader, from which all WAL on it came. Both are of the same system identifier;
 * the caller has compared. *fork is filled for FORK_DIVERGED only. */
enum fork { FORK_PREFIX, FORK_DIVERGED, FORK_UNKNOWN };

/* Does WAL that ends at `end` belong to this history, as far as is kept of it? Said of a copy that
 * is not there yet, by its word alone: lineage_fork() looks at it once it is. */
bool lineage_holds(const struct lineage *lineage, struct position end);

enum fork lineage_fork(const struct lineage *mine, struct position end,
                       const struct lineage *theirs, struct position *fork);

/* What the ordering rules need of an agent's durable state. cluster none: a blank machine,
 * whatever the rest says. */
struct standing {
    struct cluster_id cluster;
    int32_t node;
    struct promise promise;
    /* the fact known for promise.generation; generation 0: none */
    struct leadership leader;
    struct incarnation incarnations[NODE_COUNT]; /* own slot: this machine's */
    uint32_t void_number[NODE_COUNT]; /* incarnations up to this one are void by override */
    /* part of the cluster: born with it, or known to both peers */
    bool registered;
    bool birth_promised;
    bool birth_ended;
};

enum verdict {
    VERDICT_OBEY, /* nothing new to promise */
    /* obey, once (generation, proposer of the message or of the grant) is durable */
    VERDICT_PROMISE,
    /* another protocol version, or a message that contradicts itself */
    VERDICT_PROTOCOL,
    VERDICT_CLUSTER, /* another cluster */
    VERDICT_NODE,    /* meant for another node */
    /* a lower generation, or a promise request for one that has been granted */
    VERDICT_STALE,
    /* promise request or grant of a proposer that was not promised */
    VERDICT_PROPOSER,
    /* another leader for a generation that has one; or a node told to follow itself */
    VERDICT_SECOND_LEADER,
    /* to, or about, a machine that has been replaced or declared destroyed */
    VERDICT_INCARNATION,
    /* this machine is not (yet) part of the cluster: it promises nothing */
    VERDICT_UNREGISTERED,
    VERDICT_BIRTH, /* a birth at a node that belongs to a cluster already */
};

/* Is this message to be obeyed, and does it need a new promise first? Source: docs/protocol.md,
 * "What an agent admits".
 *
 * The promise to make is (generation, proposer), for ROLE_FOLLOWER (generation,
 * leader.proposer). A grant's leader.proposer is its sender. ROLE_LEADER that repeats exactly
 * the fact known here is no grant and is obeyed from any sender: so a job reaches a leader that
 * another orchestrator granted. Whether a machine that is to promise a birth is empty of data, only
 * its agent can see; it checks that besides. */
enum verdict desired_admit(const struct standing *standing, const struct desired *message);

/* A stable word for logs and the API: "stale", "second_leader", … */
const char *verdict_name(enum verdict verdict);

#endif
