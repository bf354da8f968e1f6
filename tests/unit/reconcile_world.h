/*
 * An ideal shell around the agent's core: every step succeeds, and what it did is written down as a
 * line of reason codes. What a test claims is that line, or that a code is missing from it.
 */
#ifndef OGEL_TESTS_UNIT_RECONCILE_WORLD_H
#define OGEL_TESTS_UNIT_RECONCILE_WORLD_H

#include "agent/reconcile.h"

enum { SELF = 0, LEADER = 1, OTHER = 2, P = 77, Q = 88 };

struct world {
    struct inputs in;
    struct durable durable;
    struct desired message;
    struct report peers[NODE_COUNT];
    struct step step;
    char trace[1024];
    struct position wal_end;    /* what READ_POSITION finds */
    struct position consistent; /* of a stopped server */
    struct position copy_end;   /* … after a clone or rewind */
    struct lineage lineage;
    bool receiver_sticks; /* outlives SIGTERM */
    bool position_fails;
    bool child_fails;
    enum step_kind stop_before; /* the run ends when this is asked for */
};

extern const struct cluster_id world_cluster;

struct lineage world_lineage_of(uint32_t count, const struct position *begin);
void world_make_follower(struct world *w);
void world_make_leader(struct world *w);
void world_make_blank(struct world *w);
void world_tell(struct world *w, enum role role, uint32_t generation, uint64_t proposer);
void world_tell_follow(struct world *w, uint32_t generation, uint64_t proposer, int32_t leader);
/* The other follower leads GENERATION, which began at BEGIN_LSN, and has written 100 bytes since.
 */
void world_lead_elsewhere(struct world *w, uint32_t generation, uint64_t begin_lsn);
void world_tell_grant(struct world *w, uint32_t generation, uint64_t proposer);
void world_end_server(struct world *w, enum pg_state state, bool clean);
void world_do_read_position(struct world *w);
void world_carry_out(struct world *w);
const char *world_run(struct world *w);
bool world_voted(struct world *w);

#endif
