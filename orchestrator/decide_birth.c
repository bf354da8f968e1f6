/*
 * Birth: all three promise (cluster id, generation, first leader), then that one is granted. Begins
 * by an operator's command only, and may begin again until it has ended.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

static const struct report *report_of(const struct core *core, int32_t node)
{
    return &core->view->nodes[node].report;
}

/* Another cluster's data or promise is never part of a birth; an earlier birth that has not ended
 * may be. */
static bool is_born(const struct report *report)
{
    if (report->birth_promised)
        return report->birth_ended;
    return !report->blank;
}

bool cluster_is_unborn(const struct core *core)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (!core->view->nodes[i].known || is_born(report_of(core, i)))
            return false;
    }
    return true;
}

/* A birth under an earlier cluster id makes its reports foreign, but its promises still bind. */
static uint32_t highest_promise(const struct core *core)
{
    uint32_t highest = core->memory->highest_generation;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct report *report = report_of(core, i);

        if (report->promise.generation > highest)
            highest = report->promise.generation;
        if (report->grant.generation > highest)
            highest = report->grant.generation;
        if (report->timeline > highest)
            highest = report->timeline;
    }
    return highest;
}

/* Whoever has been initialised already keeps its data. */
static int32_t first_leader(const struct core *core)
{
    if (core->view->request.target != NODE_NONE)
        return core->view->request.target;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (report_of(core, i)->complete)
            return i;
    }
    return 0;
}

void birth_request(struct core *core)
{
    const struct view *view = core->view;
    struct memory *memory = core->memory;
    uint32_t generation;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct node_view *node = &view->nodes[i];

        if (node->known && (is_born(&node->report) || node_leads(core, i))) {
            request_settle(core, false, REASON_BIRTH_REFUSED, i);
            return;
        }
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct node_view *node = &view->nodes[i];

        if (node->known && node->reachable)
            continue;
        if (node->unreachable_ms >= view->options.election_timeout_ms)
            request_settle(core, false, REASON_BLOCKED_SILENT, i);
        return; /* it may have been started a moment ago */
    }
    if (view->now_ms < memory->wait_until_ms) {
        core_wake_at(core, memory->wait_until_ms);
        return;
    }
    generation = highest_promise(core);
    if (generation < view->request.source.timeline)
        generation = view->request.source.timeline; /* its WAL is the beginning of the leader's */
    generation++;
    if (generation < FIRST_GENERATION)
        generation = FIRST_GENERATION;
    memory->phase = PHASE_BIRTH;
    memory->generation = generation;
    memory->highest_generation = generation;
    memory->why = REASON_BIRTH_OPENED;
    memory->request = view->request.id;
    memory->cluster = view->request.cluster;
    memory->source = view->request.source;
    memory->target = first_leader(core);
    memory->old_leader = NODE_NONE;
    memory->granted_to = NODE_NONE;
    memory->opened_ms = view->now_ms;
    memset(memory->destroyed_number, 0, sizeof(memory->destroyed_number));
    core_event(core, REASON_BIRTH_OPENED, memory->target, generation);
}

static bool birth_promised(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);
    struct promise promise = {core->memory->generation, core->view->proposer};

    return core->view->nodes[node].known && promise_equal(report->promise, promise) &&
           cluster_id_equal(&report->cluster, &core->memory->cluster) && report->birth_promised &&
           !report->birth_ended;
}

/* Overtaken, or one of the three turned out to belong to a cluster. */
static enum reason birth_obstacle(const struct core *core, int32_t *node)
{
    for (*node = 0; *node < NODE_COUNT; (*node)++) {
        const struct report *report = report_of(core, *node);

        if (core->view->nodes[*node].known && is_born(report))
            return REASON_BIRTH_REFUSED;
    }
    for (*node = 0; *node < NODE_COUNT; (*node)++) {
        if (node_lost(core, *node))
            return REASON_ELECTION_OVERTAKEN;
    }
    *node = NODE_NONE;
    return highest_promise(core) > core->memory->generation ? REASON_ELECTION_OVERTAKEN
                                                            : REASON_NONE;
}

void birth_advance(struct core *core)
{
    const bool all[NODE_COUNT] = {true, true, true};
    struct memory *memory = core->memory;
    uint32_t timeout_ms = core->view->options.election_timeout_ms;
    int promised = 0;
    int32_t node;
    enum reason obstacle = birth_obstacle(core, &node);

    if (obstacle == REASON_BIRTH_REFUSED) {
        memory->phase = PHASE_IDLE;
        request_settle_election(core, false, obstacle, node);
        return;
    }
    if (obstacle != REASON_NONE) {
        core_give_up(core, obstacle, true);
        return;
    }
    for (int32_t i = 0; i < NODE_COUNT; i++)
        promised += birth_promised(core, i);
    if (promised == NODE_COUNT)
        election_grant(core, memory->target, all);
    else if (core->view->now_ms - memory->opened_ms >= (int64_t)timeout_ms)
        core_give_up(core, REASON_ELECTION_EXPIRED, true);
    else
        core_wake_at(core, memory->opened_ms + timeout_ms);
}
