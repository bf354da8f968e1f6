/*
 * decide(): gather the facts, move on as far as they allow, then write down what each node is told
 * and how the cluster looks. The phases are in struct memory; every move between them is made here
 * or in elect.c, birth.c and document.c.
 */
#include "orchestrator/decide.h"

#include <string.h>

#include "orchestrator/decide_internal.h"

enum {
    WAKE_MAX_MS = 1000,
    LOST_ELECTIONS_MAX = 1000, /* beyond what the longest pause takes */
    RIVAL_PAUSE_MS = 30000,
};

void core_event(struct core *core, enum reason reason, int32_t node, uint32_t generation)
{
    struct plan *plan = core->plan;

    if (plan->event_count == PLAN_EVENTS_MAX)
        return;
    plan->events[plan->event_count].reason = reason;
    plan->events[plan->event_count].node = node;
    plan->events[plan->event_count].generation = generation;
    plan->event_count++;
}

void core_stance(struct core *core, enum reason reason, int32_t node)
{
    core->stance = reason;
    core->stance_node = node;
}

void core_wake_at(struct core *core, int64_t at_ms)
{
    int64_t in_ms = at_ms - core->view->now_ms;

    if (in_ms < 1)
        in_ms = 1;
    if (in_ms < (int64_t)core->plan->wake_ms)
        core->plan->wake_ms = (uint32_t)in_ms;
}

/* Orchestrators that met would meet again: between one and two failure timeouts, at random. And
 * longer the more elections were lost like that: where one needs a node that is long in recovery,
 * to outbid each other ends nothing, and each generation costs the leader to come a placeholder
 * file. Changes of the document are done in a moment, and are waited for. */
static void wait_at_random(struct core *core)
{
    int64_t pause_ms = core->view->options.failure_timeout_ms;
    bool elects = core->memory->phase != PHASE_DOCUMENT && !core->facts.document.maintenance;
    int64_t lost = elects ? core->memory->lost_elections : 0;

    if (pause_ms < RIVAL_PAUSE_MS) {
        pause_ms += pause_ms * lost * lost / 64;
        if (pause_ms > RIVAL_PAUSE_MS)
            pause_ms = RIVAL_PAUSE_MS;
    }
    core->memory->wait_until_ms = core->view->now_ms + pause_ms +
                                  core->view->chance % (pause_ms > 0 ? pause_ms : 1);
}

/* What is opened to change the document elects nobody. */
static void count_lost_election(struct memory *memory)
{
    if (memory->phase != PHASE_DOCUMENT && memory->lost_elections < LOST_ELECTIONS_MAX)
        memory->lost_elections++;
}

void core_give_up(struct core *core, enum reason reason, bool wait)
{
    struct memory *memory = core->memory;

    core_event(core, reason, memory->granted_to, memory->generation);
    if (wait) {
        wait_at_random(core);
        count_lost_election(memory);
    }
    memory->phase = PHASE_IDLE;
    memory->suspect_since_ms = 0;
    facts_gather(core);
    /* A lost grant is followed by the next generation for the same request; a birth is begun again.
     */
    if (reason != REASON_ELECTION_GRANT_LOST && memory->why != REASON_BIRTH_OPENED)
        request_settle_election(core, false, reason, NODE_NONE);
}

/* --- nothing under way --- */

/* An open generation of another orchestrator: let it finish. */
static void notice_rivals(struct core *core)
{
    const struct memory *before = &core->view->memory;

    if (before->highest_generation != 0 && core->facts.highest > before->highest_generation &&
        core->facts.highest > core->facts.fact.generation)
        wait_at_random(core);
}

static void elect_if_possible(struct core *core, enum reason why, int32_t target)
{
    struct memory *memory = core->memory;
    int64_t backoff_end_ms = memory->last_failover_ms + core->view->options.failover_backoff_ms;

    if (core->facts.document.maintenance) {
        core_stance(core, REASON_BLOCKED_MAINTENANCE, NODE_NONE);
    } else if (voter_count(core) < QUORUM) {
        core_stance(core, REASON_BLOCKED_NO_QUORUM, NODE_NONE);
    } else if (reason_is_death(why) && !reason_is_proof(why) && memory->last_failover_ms != 0 &&
               core->view->now_ms < backoff_end_ms) {
        core_stance(core, REASON_KEEP_BACKOFF, core->facts.incumbent);
        core_wake_at(core, backoff_end_ms);
    } else if (core->view->now_ms < memory->wait_until_ms) {
        core_stance(core, REASON_KEEP_RIVAL, core->facts.incumbent);
        core_wake_at(core, memory->wait_until_ms);
    } else {
        election_open(core, why, target);
    }
}

static bool is_stranded(const struct core *core, int32_t node)
{
    return node_answers(core, node) && core->view->nodes[node].report.registered &&
           core->view->nodes[node].report.promise.generation > core->facts.fact.generation;
}

/* A healthy leader with a node above it. While the other follower streams it can wait for a quiet
 * moment; else the leader cannot commit anything. The one that streams is the target: it gets all
 * WAL and takes over without a start. */
static void take_back_stranded(struct core *core)
{
    struct memory *memory = core->memory;
    const struct decide_options *options = &core->view->options;
    int32_t leader = core->facts.incumbent;
    int32_t stranded = NODE_NONE;
    int32_t streaming = NODE_NONE;
    int64_t quiet_ms;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != leader && is_stranded(core, i))
            stranded = i;
        else if (i != leader && node_streams(core, i) && node_may_lead(core, i))
            streaming = i;
    }
    if (stranded == NODE_NONE) {
        memory->stranded_since_ms = 0;
        return;
    }
    if (memory->stranded_since_ms == 0)
        memory->stranded_since_ms = core->view->now_ms;
    quiet_ms = memory->stranded_since_ms + options->failure_timeout_ms;
    if (streaming != NODE_NONE) {
        quiet_ms = memory->stranded_since_ms + options->failover_backoff_ms;
        if (memory->last_failover_ms != 0 &&
            memory->last_failover_ms + options->failover_backoff_ms > quiet_ms)
            quiet_ms = memory->last_failover_ms + options->failover_backoff_ms;
    }
    core_stance(core, REASON_BLOCKED_STRANDED, stranded);
    if (core->view->now_ms < quiet_ms)
        core_wake_at(core, quiet_ms);
    else
        elect_if_possible(core, REASON_ELECTION_STRANDED, streaming);
}

/* A change that one agent holds is not confirmed: another leader's would have to be waited for. */
static bool document_is_confirmed(const struct core *core)
{
    int holders = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        holders += core->facts.speaks[i] &&
                   document_version_compare(core->view->nodes[i].report.document.version,
                                            core->facts.document.version) == 0;
    return holders >= QUORUM;
}

/* An operator fenced the leader itself: somebody else leads first, if there is somebody. */
static bool move_off_fenced_leader(struct core *core)
{
    int32_t leader = core->facts.incumbent;

    if (!core->facts.document.fenced[leader])
        return false;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != leader && node_may_lead(core, i) && node_streams(core, i) &&
            document_is_confirmed(core)) {
            elect_if_possible(core, REASON_SWITCHOVER_OPENED, NODE_NONE);
            return true;
        }
    }
    core_stance(core, REASON_BLOCKED_OPERATOR_FENCE, leader);
    return true;
}

static void watch_healthy_leader(struct core *core)
{
    struct memory *memory = core->memory;

    memory->lost_elections = 0;
    if (memory->adopted_generation != core->facts.fact.generation) {
        /* A failover by another orchestrator counts for the back-off like an own one. */
        if (memory->adopted_generation != 0)
            memory->last_failover_ms = core->view->now_ms;
        memory->adopted_generation = core->facts.fact.generation;
        memory->wait_until_ms = 0; /* whoever was waited for is done */
        core_event(core, REASON_FOLLOW_READOPT, core->facts.incumbent, memory->adopted_generation);
    }
    if (!move_off_fenced_leader(core))
        take_back_stranded(core);
}

static enum reason idle_advance(struct core *core)
{
    enum reason judgement;

    notice_rivals(core);
    request_advance(core);
    if (core->memory->phase != PHASE_IDLE)
        return REASON_NONE;
    judgement = leader_judge(core);
    if (judgement == REASON_NONE) {
        watch_healthy_leader(core);
    } else if (!reason_is_death(judgement)) {
        core_stance(core, judgement, core->facts.incumbent);
    } else if (cluster_is_unborn(core)) {
        core_stance(core, REASON_BLOCKED_UNBORN, NODE_NONE);
    } else {
        elect_if_possible(core, judgement, NODE_NONE);
    }
    if (core->memory->phase == PHASE_IDLE)
        document_request(core, judgement);
    return judgement;
}

/* --- the whole --- */

void decide(const struct view *view, struct plan *plan)
{
    struct core core;
    enum reason judgement = REASON_NONE;
    enum phase before;
    int moves = 0;

    memset(plan, 0, sizeof(*plan));
    plan->memory = view->memory;
    plan->wake_ms = WAKE_MAX_MS;
    plan->request_node = NODE_NONE;
    memset(&core, 0, sizeof(core));
    core.view = view;
    core.plan = plan;
    core.memory = &plan->memory;
    core.stance_node = NODE_NONE;
    facts_gather(&core);

    do {
        before = core.memory->phase;
        if (before == PHASE_IDLE)
            judgement = idle_advance(&core);
        else if (before == PHASE_BIRTH)
            birth_advance(&core);
        else if (before == PHASE_DOCUMENT)
            document_advance(&core);
        else
            election_advance(&core);
    } while (core.memory->phase != before && ++moves < NODE_COUNT * 2);

    messages_write(&core);
    status_write(&core, judgement);
    if (core.stance != core.memory->last_reason && core.stance != REASON_NONE)
        core_event(&core, core.stance, core.stance_node, core.facts.fact.generation);
    core.memory->last_reason = core.stance;
}
