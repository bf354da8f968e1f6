/*
 * What the parts of the orchestrator's core share. Only they include this; everybody else sees
 * decide.h.
 *
 *   decide_facts.c    what the reports say together: cluster, incarnations, generation, leader
 *   decide_leader.c   is the leader dead? design "When is a leader dead?"
 *   decide_elect.c    an election from its promise requests to the node that leads
 *   decide_ballot.c   R and its candidate; design "Election"
 *   decide_birth.c    design "Birth"
 *   decide_request.c  operators' requests
 *   decide_document.c the cluster document without a leader
 *   decide_message.c  what each node is told
 *   decide_status.c   the cluster as people see it, and what stands in an election's way
 */
#ifndef OGEL_ORCHESTRATOR_DECIDE_INTERNAL_H
#define OGEL_ORCHESTRATOR_DECIDE_INTERNAL_H

#include "orchestrator/decide.h"
#include "protocol/order.h"
#include "protocol/types.h"

/* What all reports say together. */
struct facts {
    struct cluster_id cluster;             /* none: no cluster yet, or no saying which */
    bool foreign[NODE_COUNT];              /* its report belongs to another cluster */
    bool outdated[NODE_COUNT];             /* its incarnation was replaced or declared destroyed */
    bool speaks[NODE_COUNT];               /* its last report counts */
    struct incarnation latest[NODE_COUNT]; /* greatest known to anyone registered */
    uint32_t void_number[NODE_COUNT];      /* incarnations up to this one are void */
    uint32_t highest;                      /* generation or timeline ever heard of */
    struct leadership fact;                /* of the greatest generation granted */
    int32_t incumbent;                     /* its node, unless that incarnation is over */
    struct document_facts document;        /* of the greatest version */
};

struct core {
    const struct view *view;
    struct plan *plan;
    struct memory *memory; /* the plan's: what is handed in next time */
    struct facts facts;
    enum reason stance; /* the standing situation of this call: K or X */
    int32_t stance_node;
};

/* --- decide.c --- */
void core_event(struct core *core, enum reason reason, int32_t node, uint32_t generation);
void core_stance(struct core *core, enum reason reason, int32_t node);
/* Call again when AT_MS has come. */
void core_wake_at(struct core *core, int64_t at_ms);
/* Gives the present phase up; elections wait a random while. */
void core_give_up(struct core *core, enum reason reason, bool wait);

/* --- decide_facts.c --- */
void facts_gather(struct core *core);
bool node_answers(const struct core *core, int32_t node);
/* May its vote make R legal? */
bool node_may_vote(const struct core *core, int32_t node);
/* May it be granted a generation, if none has more? */
bool node_may_lead(const struct core *core, int32_t node);
/* Leads by its own word, under the greatest generation granted. */
bool node_leads(const struct core *core, int32_t node);
int voter_count(const struct core *core);
/* Its receiver, of the leader's generation, gets WAL from the leader. */
bool node_streams(const struct core *core, int32_t node);
/* A sum of ages; AGE_NEVER stays. */
uint32_t age_add(uint32_t a, uint32_t b);

/* --- decide_leader.c --- */
/* REASON_NONE (fine), a K (kept, or not yet sure) or an L (dead). Takes note of the time in memory
 * and asks for probes. */
enum reason leader_judge(struct core *core);
bool reason_is_death(enum reason reason);
/* Certain without having waited: not subject to the back-off. */
bool reason_is_proof(enum reason reason);

/* --- decide_ballot.c --- */
struct ballot {
    bool member[NODE_COUNT]; /* of R */
    int32_t candidate;       /* NODE_NONE: nobody may be granted … */
    enum reason blocked;     /* … because of this … */
    int32_t blocker;         /* … and this node */
};
/* R out of the votes that have come in, and its candidate. */
void ballot_count(const struct core *core, struct ballot *ballot);
/* Is its vote in? */
bool node_voted(const struct core *core, int32_t node);
/* Has it promised this election's generation to somebody else, or a higher one? */
bool node_lost(const struct core *core, int32_t node);

/* --- decide_elect.c --- */
/* TARGET: preferred candidate or NODE_NONE. Opens the generation after the highest. */
void election_open(struct core *core, enum reason why, int32_t target);
void election_advance(struct core *core);
bool election_overtaken(const struct core *core);
/* Is the leader to be fenced politely? */
bool election_planned(const struct memory *memory);
/* Was the one granted that was asked for? */
bool switchover_kept_its_word(const struct memory *memory);
void election_grant(struct core *core, int32_t node, const bool member[NODE_COUNT]);

/* --- decide_birth.c --- */
/* Begins a birth, or refuses the request. */
void birth_request(struct core *core);
void birth_advance(struct core *core);
/* All three say that no birth has ended. */
bool cluster_is_unborn(const struct core *core);

/* --- decide_request.c --- */
/* Takes up an operator's request; only in PHASE_IDLE. */
void request_advance(struct core *core);
void request_settle(struct core *core, bool ok, enum reason reason, int32_t node);
/* Settles the request that the election just ended was opened for, if any. */
void request_settle_election(struct core *core, bool ok, enum reason reason, int32_t node);
/* Is there a request to serve? */
bool request_waits(const struct core *core);

/* --- decide_document.c --- */
/* Is an operator's change of the document to be made? */
bool document_waits(const struct core *core);
/* In PHASE_IDLE, where no election is opened: refused, left to the leader's agent, or begun. */
void document_request(struct core *core, enum reason judgement);
void document_open(struct core *core);
void document_advance(struct core *core);
/* Is it to promise? */
bool document_asks(const struct core *core, int32_t node);

/* --- decide_message.c --- */
void messages_write(struct core *core);

/* --- decide_status.c --- */
void status_write(struct core *core, enum reason judgement);

#endif
