/*
 * An election: opened above everything heard of, promises, votes, one grant, a leader. What is sent
 * meanwhile is in message.c.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

/* Generations that the destroyed nodes may have opened without the survivor's knowledge: one failed
 * election a second for longer than an operator takes to decide. Each costs the new leader a
 * placeholder file, so not more. */
enum { DESTROYED_GAP = 100 };

/* initdb takes seconds, and nothing waits for it but the operator. */
enum { BIRTH_PATIENCE_MS = 60000 };

bool election_planned(const struct memory *memory)
{
    return memory->why == REASON_SWITCHOVER_OPENED || memory->why == REASON_ELECTION_STRANDED ||
           memory->why == REASON_LEADER_CUT_OFF;
}

bool switchover_kept_its_word(const struct memory *memory)
{
    return memory->target == NODE_NONE ? memory->granted_to != memory->old_leader
                                       : memory->granted_to == memory->target;
}

/* The leader is stopped first, and the standbys get its last WAL. One that is cut off could not
 * deliver it. */
static bool leader_first(const struct memory *memory)
{
    return election_planned(memory) && memory->why != REASON_LEADER_CUT_OFF &&
           memory->old_leader != NODE_NONE;
}

void election_open(struct core *core, enum reason why, int32_t target)
{
    struct memory *memory = core->memory;
    uint32_t generation = memory->highest_generation + 1;
    bool destroyed = false;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        destroyed = destroyed || memory->destroyed_number[i] != 0;
    if (destroyed)
        generation += DESTROYED_GAP;
    if (generation < FIRST_GENERATION)
        generation = FIRST_GENERATION;
    if (generation <= memory->highest_generation)
        return; /* timeline ids are used up; a number that has wrapped would elect a second leader
                 */

    memory->generation = generation;
    memory->highest_generation = generation;
    memory->why = why;
    memory->target = target;
    memory->old_leader = core->facts.incumbent;
    memory->granted_to = NODE_NONE;
    memory->opened_ms = core->view->now_ms;
    memory->asked_all_ms = core->view->now_ms;
    memory->suspect_since_ms = 0;
    memory->cut_off_since_ms = 0;
    memory->stranded_since_ms = 0;
    memory->phase = leader_first(memory) ? PHASE_LEADER_FIRST : PHASE_PROMISING;
    facts_gather(core); /* what was declared destroyed is void from here on */
    core_event(core, why, memory->old_leader, generation);
    core_event(core, REASON_ELECTION_OPENED, NODE_NONE, generation);
}

/* Another orchestrator is further on: somebody heard of a higher generation, or too few are left
 * for this one. */
bool election_overtaken(const struct core *core)
{
    const struct memory *memory = core->memory;
    int lost = 0;

    if (core->facts.highest > memory->generation)
        return true;
    if (memory->phase == PHASE_GRANTED)
        return core->facts.fact.generation == memory->generation &&
               !leadership_equal(&core->facts.fact, &memory->grant.leader);
    for (int32_t i = 0; i < NODE_COUNT; i++)
        lost += node_lost(core, i);
    return lost >= QUORUM || core->facts.fact.generation == memory->generation;
}

static bool timed_out(const struct core *core, int64_t since_ms, uint32_t timeout_ms)
{
    return core->view->now_ms - since_ms >= (int64_t)timeout_ms;
}

static struct promise own_promise(const struct core *core)
{
    struct promise promise = {core->memory->generation, core->view->proposer};

    return promise;
}

/* --- the leader first --- */

static void leader_first_advance(struct core *core)
{
    struct memory *memory = core->memory;
    int32_t node = memory->old_leader;
    const struct node_view *view = &core->view->nodes[node];
    bool promised = promise_equal(view->report.promise, own_promise(core));
    bool gone = !node_answers(core, node) &&
                view->unreachable_ms >= core->view->options.failure_timeout_ms;
    bool late = timed_out(core, memory->opened_ms, core->view->options.election_timeout_ms);

    core_wake_at(core, memory->opened_ms + core->view->options.election_timeout_ms);
    if (node_voted(core, node) || (promised && (gone || late))) {
        memory->phase = PHASE_PROMISING;
        memory->asked_all_ms = core->view->now_ms;
    } else if (node_lost(core, node)) {
        core_give_up(core, REASON_ELECTION_OVERTAKEN, true);
    } else if (late) {
        core_give_up(core, REASON_ELECTION_EXPIRED, true);
    }
}

/* --- votes --- */

static bool vote_expected(const struct core *core, int32_t node)
{
    return node_may_vote(core, node) && !node_voted(core, node) && !node_lost(core, node);
}

/* A short wait for the vote that would make the wanted candidate possible: the target's, or one
 * that spares granting the node that has just failed. */
static bool worth_waiting(struct core *core, const struct ballot *ballot)
{
    const struct memory *memory = core->memory;
    uint32_t patience_ms = core->view->options.failure_timeout_ms;
    bool wait = false;

    if (timed_out(core, memory->asked_all_ms, patience_ms))
        return false;
    if (memory->target != NODE_NONE && memory->target != ballot->candidate)
        wait = vote_expected(core, memory->target);
    for (int32_t i = 0; i < NODE_COUNT && ballot->candidate == memory->old_leader; i++)
        wait = wait || (i != memory->old_leader && vote_expected(core, i));
    if (wait)
        core_wake_at(core, memory->asked_all_ms + patience_ms);
    return wait;
}

/* An election stays open while two that promised, or will, are there: their request is answered as
 * soon as it can be, and another generation would only begin the same work again. */
static bool can_still_succeed(const struct core *core)
{
    const struct memory *memory = core->memory;
    int there = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        bool promised = core->facts.speaks[i] &&
                        promise_equal(core->view->nodes[i].report.promise, own_promise(core));

        there += node_voted(core, i) || (promised && node_may_vote(core, i)) ||
                 memory->destroyed_number[i] != 0;
    }
    return there >= QUORUM;
}

/* Another orchestrator holds a promise of this very generation, and too few others answer: nobody
 * can win it. Waiting for election_timeout would only prolong that. */
static bool votes_are_split(struct core *core)
{
    int64_t patience_ms = core->view->options.failure_timeout_ms, look_again_ms = 0;
    int lost = 0, hopes = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        int64_t left_ms = patience_ms - core->view->nodes[i].unreachable_ms;

        if (node_lost(core, i)) {
            lost++;
        } else if (node_voted(core, i) || node_answers(core, i) ||
                   core->memory->destroyed_number[i] != 0) {
            hopes++;
        } else if (left_ms > 0) {
            hopes++;
            look_again_ms = core->view->now_ms + left_ms;
        }
    }
    if (lost > 0 && look_again_ms != 0)
        core_wake_at(core, look_again_ms);
    return lost > 0 && hopes < QUORUM;
}

static void promising_advance(struct core *core)
{
    struct memory *memory = core->memory;
    uint32_t timeout_ms = core->view->options.election_timeout_ms;
    struct ballot ballot;

    if (election_overtaken(core) || votes_are_split(core)) {
        core_give_up(core, REASON_ELECTION_OVERTAKEN, true);
        return;
    }
    ballot_count(core, &ballot);
    if (ballot.candidate != NODE_NONE && !worth_waiting(core, &ballot)) {
        election_grant(core, ballot.candidate, ballot.member);
        return;
    }
    /* What an operator changes may be what it waits for: a fence, for one. */
    if (document_waits(core) && (ballot.blocked == REASON_BLOCKED_OPERATOR_FENCE ||
                                 timed_out(core, memory->asked_all_ms, timeout_ms))) {
        document_open(core);
        return;
    }
    if (timed_out(core, memory->asked_all_ms, timeout_ms)) {
        bool override = request_waits(core) && core->view->request.kind == REQUEST_FAILOVER &&
                        core->view->request.id != memory->request;

        if (override || !can_still_succeed(core)) {
            core_give_up(core, REASON_ELECTION_EXPIRED, !override);
            return;
        }
        core_stance(core, ballot.blocked, ballot.blocker);
    } else {
        core_wake_at(core, memory->asked_all_ms + timeout_ms);
        if (ballot.blocked == REASON_BLOCKED_REWOUND_AHEAD ||
            ballot.blocked == REASON_BLOCKED_OPERATOR_FENCE)
            core_stance(core, ballot.blocked, ballot.blocker);
    }
}

/* --- the grant --- */

/* A birth whose first leader makes its data of a snapshot. */
static bool restores(const struct memory *memory)
{
    return memory->why == REASON_BIRTH_OPENED && !source_is_none(&memory->source);
}

/* Once for each generation: the phase leaves PROMISING for good, and every election opens a
 * generation of its own. */
void election_grant(struct core *core, int32_t node, const bool member[NODE_COUNT])
{
    struct memory *memory = core->memory;
    struct desired *grant = &memory->grant;

    memset(grant, 0, sizeof(*grant));
    grant->protocol = PROTOCOL_VERSION;
    grant->cluster = memory->phase == PHASE_BIRTH ? memory->cluster : core->facts.cluster;
    grant->node = node;
    grant->generation = memory->generation;
    grant->proposer = core->view->proposer;
    grant->role = ROLE_LEADER;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct report *report = &core->view->nodes[i].report;

        if (!member[i])
            continue;
        for (int32_t j = 0; j < NODE_COUNT; j++)
            grant->incarnations[j] = incarnation_later(grant->incarnations[j],
                                                       report->incarnations[j]);
        if (document_version_compare(report->document.version, grant->document) > 0)
            grant->document = report->document.version;
    }
    for (int32_t i = 0; i < NODE_COUNT; i++)
        grant->destroyed_number[i] = core->facts.void_number[i];
    grant->leader.generation = memory->generation;
    grant->leader.node = node;
    grant->leader.incarnation = core->view->nodes[node].report.incarnations[node];
    grant->leader.proposer = core->view->proposer;

    memory->granted_to = node;
    memory->granted_ms = core->view->now_ms;
    core_event(core, memory->phase == PHASE_BIRTH ? REASON_BIRTH_GRANTED : REASON_ELECTION_GRANTED,
               node, memory->generation);
    if (memory->why == REASON_SWITCHOVER_OPENED && !switchover_kept_its_word(memory))
        core_event(core, REASON_SWITCHOVER_OTHER, node, memory->generation);
    /* A restore takes as long as it takes: the operator looks on, or asks anew. */
    if (restores(memory))
        request_settle_election(core, true, REASON_BIRTH_GRANTED, node);
    memory->phase = PHASE_GRANTED;
    facts_gather(core);
}

static uint32_t promotion_patience_ms(const struct core *core)
{
    uint32_t timeout_ms = core->view->options.promotion_timeout_ms;

    if (core->memory->why == REASON_BIRTH_OPENED && timeout_ms < BIRTH_PATIENCE_MS)
        return BIRTH_PATIENCE_MS;
    return timeout_ms;
}

static void granted_advance(struct core *core)
{
    struct memory *memory = core->memory;
    uint32_t patience_ms = promotion_patience_ms(core);
    enum reason judgement;

    if (node_leads(core, memory->granted_to) && core->facts.fact.generation == memory->generation) {
        memory->phase = PHASE_IDLE;
        memory->adopted_generation = memory->generation;
        if (memory->why != REASON_BIRTH_OPENED)
            memory->last_failover_ms = core->view->now_ms;
        memory->suspect_since_ms = 0;
        core_event(core, REASON_ELECTION_WON, memory->granted_to, memory->generation);
        request_settle_election(core, true, REASON_ELECTION_WON, memory->granted_to);
        return;
    }
    if (election_overtaken(core)) {
        core_give_up(core, REASON_ELECTION_OVERTAKEN, true);
        return;
    }
    judgement = leader_judge(core);
    if (restores(memory) && !reason_is_death(judgement)) {
        if (request_waits(core) && core->view->request.kind == REQUEST_INIT)
            core_give_up(core, REASON_ELECTION_GRANT_LOST, false); /* begun again */
        return;
    }
    if (reason_is_death(judgement) || timed_out(core, memory->granted_ms, patience_ms))
        core_give_up(core, REASON_ELECTION_GRANT_LOST, false);
    else
        core_wake_at(core, memory->granted_ms + patience_ms);
}

void election_advance(struct core *core)
{
    switch (core->memory->phase) {
    case PHASE_LEADER_FIRST: leader_first_advance(core); break;
    case PHASE_PROMISING: promising_advance(core); break;
    case PHASE_GRANTED: granted_advance(core); break;
    case PHASE_IDLE:
    case PHASE_BIRTH:
    case PHASE_DOCUMENT: break;
    }
}
