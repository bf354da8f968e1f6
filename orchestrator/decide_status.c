/*
 * The cluster as people see it, and what would stand in an election's way if the leader died now.
 */
#include "orchestrator/decide_internal.h"

static bool is_block(enum reason reason)
{
    return reason >= REASON_BLOCKED_MAINTENANCE && reason <= REASON_BLOCKED_VOID;
}

static void add_blocker(struct core *core, enum reason reason, int32_t node)
{
    struct plan *plan = core->plan;

    for (uint32_t i = 0; i < plan->blocker_count; i++) {
        if (plan->blockers[i].reason == reason && plan->blockers[i].node == node)
            return;
    }
    if (plan->blocker_count == BLOCKERS_MAX)
        return;
    plan->blockers[plan->blocker_count].reason = reason;
    plan->blockers[plan->blocker_count].node = node;
    plan->blocker_count++;
}

/* --- one node --- */

/* The first thing that keeps this node from voting, or from being a good successor. */
static enum reason node_obstacle(const struct core *core, int32_t node)
{
    const struct node_view *view = &core->view->nodes[node];
    const struct report *report = &view->report;

    if (core->facts.foreign[node])
        return REASON_BLOCKED_FOREIGN;
    if (!view->known || !view->reachable)
        return REASON_BLOCKED_SILENT;
    if (core->facts.outdated[node])
        return REASON_BLOCKED_VOID;
    if (!core->facts.speaks[node] || !report->registered)
        return REASON_BLOCKED_UNREGISTERED;
    if (core->plan->leader != NODE_NONE && node != core->plan->leader &&
        report->promise.generation > core->facts.fact.generation)
        return REASON_BLOCKED_STRANDED;
    if (!report->complete)
        return REASON_BLOCKED_NOT_COMPLETE;
    if (core->facts.document.fenced[node])
        return REASON_BLOCKED_OPERATOR_FENCE;
    if (report->pg != PG_UP)
        return REASON_BLOCKED_POSTGRES_DOWN;
    if (core->plan->leader != NODE_NONE && node != core->plan->leader && !node_streams(core, node))
        return REASON_BLOCKED_NOT_STREAMING;
    return REASON_NONE;
}

/* --- the cluster --- */

/* Two that may vote, of whom one may lead, without the leader that is there. */
static bool failover_possible(const struct core *core, int *voters)
{
    int candidates = 0;

    *voters = 0;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i == core->plan->leader)
            continue;
        *voters += node_may_vote(core, i);
        candidates += node_may_lead(core, i);
    }
    return *voters >= QUORUM && candidates > 0 && !core->facts.document.maintenance;
}

/* A leader that was found dead is none; one that is merely cut off or failing still leads. */
static bool still_leads(const struct core *core, enum reason judgement)
{
    enum phase phase = core->memory->phase;

    if (core->facts.incumbent == NODE_NONE || !node_leads(core, core->facts.incumbent) ||
        (phase != PHASE_IDLE && phase != PHASE_LEADER_FIRST))
        return false;
    return judgement != REASON_LEADER_REFUSES && judgement != REASON_LEADER_SILENT;
}

static enum reason why_not_writable(const struct core *core, enum reason judgement)
{
    switch (core->memory->phase) {
    case PHASE_BIRTH: return REASON_BIRTH_OPENED;
    case PHASE_PROMISING: return REASON_ELECTION_OPENED;
    case PHASE_GRANTED:
        return core->memory->why == REASON_BIRTH_OPENED ? REASON_BIRTH_GRANTED
                                                        : REASON_ELECTION_GRANTED;
    case PHASE_LEADER_FIRST:
    case PHASE_DOCUMENT: return core->memory->why;
    case PHASE_IDLE: break;
    }
    if (is_block(core->stance) && core->plan->leader == NODE_NONE)
        return core->stance;
    if (reason_is_death(judgement) || core->plan->leader == NODE_NONE)
        return judgement;
    return REASON_BLOCKED_NOT_STREAMING;
}

static void list_blockers(struct core *core, int voters)
{
    struct plan *plan = core->plan;

    if (plan->maintenance)
        add_blocker(core, REASON_BLOCKED_MAINTENANCE, NODE_NONE);
    if (cluster_is_unborn(core))
        add_blocker(core, REASON_BLOCKED_UNBORN, NODE_NONE);
    else if (voters < QUORUM)
        add_blocker(core, REASON_BLOCKED_NO_QUORUM, NODE_NONE);
    if (is_block(core->stance))
        add_blocker(core, core->stance, core->stance_node);
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        enum reason reason = node_obstacle(core, i);

        if (reason == REASON_BLOCKED_UNREGISTERED && core->view->nodes[i].report.blank &&
            cluster_is_unborn(core))
            continue; /* an empty machine is all that a birth wants */
        if (reason != REASON_NONE)
            add_blocker(core, reason, i);
    }
}

void status_write(struct core *core, enum reason judgement)
{
    struct plan *plan = core->plan;
    int32_t incumbent = core->facts.incumbent;
    int voters;

    plan->maintenance = core->facts.document.maintenance;
    plan->generation = core->facts.fact.generation;
    plan->leader = still_leads(core, judgement) ? incumbent : NODE_NONE;
    plan->writable = plan->leader != NODE_NONE && !reason_is_death(judgement) &&
                     core->view->nodes[incumbent].report.accepts_writes;
    plan->not_writable = plan->writable ? REASON_NONE : why_not_writable(core, judgement);
    plan->failover_possible = failover_possible(core, &voters);
    list_blockers(core, voters);
}
