/*
 * When is a leader dead? The table of the design, row by row. A row that needs time counts from
 * memory.suspect_since_ms, so that nothing is concluded from one sample; what only a fresh look can
 * tell is asked for by plan.probe.
 */
#include "orchestrator/decide_internal.h"

bool reason_is_death(enum reason reason)
{
    return reason == REASON_LEADER_FROZEN ||
           (reason >= REASON_LEADER_EXITED && reason <= REASON_LEADER_NONE);
}

bool reason_is_proof(enum reason reason)
{
    return reason == REASON_LEADER_EXITED || reason == REASON_LEADER_IN_RECOVERY ||
           reason == REASON_LEADER_REFUSES || reason == REASON_LEADER_NONE;
}

/* How long a situation has stood, given since when; notes its beginning. */
static uint32_t standing_for(struct core *core, int64_t *since_ms, int64_t began_ms)
{
    int64_t elapsed;

    if (*since_ms == 0)
        *since_ms = began_ms > 0 ? began_ms : 1;
    elapsed = core->view->now_ms - *since_ms;
    return elapsed < 0 ? 0 : elapsed < AGE_NEVER ? (uint32_t)elapsed : AGE_NEVER - 1;
}

/* --- its agent answers --- */

/* A granted node takes its time, but not for ever. Its WAL is on an earlier timeline until the
 * promotion has happened: one that is in recovery on its own timeline led once and stopped. */
static bool promotion_under_way(struct core *core, int32_t node)
{
    const struct memory *memory = core->memory;
    const struct report *report = &core->view->nodes[node].report;
    uint32_t generation = core->facts.fact.generation;
    uint32_t timeout_ms = core->view->options.promotion_timeout_ms;

    if (memory->phase == PHASE_GRANTED && report->grant.generation != generation)
        return report->promise.generation <= generation; /* the grant is on its way */
    if (report->role != ROLE_LEADER || report->grant.generation != generation ||
        report->promise.generation != generation)
        return false;
    if (report->grant.spent &&
        (report->pg != PG_UP || (report->in_recovery && report->timeline >= generation)))
        return false;
    if (memory->phase == PHASE_GRANTED)
        return true; /* the election has its own deadline */
    if (standing_for(core, &core->memory->suspect_since_ms, core->view->now_ms) >= timeout_ms)
        return false;
    core_wake_at(core, core->memory->suspect_since_ms + timeout_ms);
    return true;
}

/* Neither leading nor in recovery: on its way down, or its guarantee was broken and it demotes.
 * Where it has promised a higher generation, another orchestrator has it stopped, politely, and
 * gets the time to go on from there. */
static enum reason judge_stopping(struct core *core, int32_t node)
{
    const struct report *report = &core->view->nodes[node].report;
    struct memory *memory = core->memory;
    uint32_t timeout_ms = core->view->options.failure_timeout_ms;

    if (report->promise.generation > core->facts.fact.generation) {
        int64_t until_ms = core->view->now_ms + timeout_ms;

        if (memory->wait_until_ms < until_ms && report->promise.proposer != core->view->proposer)
            memory->wait_until_ms = until_ms;
        timeout_ms = core->view->options.election_timeout_ms;
    }
    if (standing_for(core, &memory->suspect_since_ms, core->view->now_ms) >= timeout_ms)
        return REASON_LEADER_NONE;
    core_wake_at(core, memory->suspect_since_ms + timeout_ms);
    return REASON_KEEP_WAITING;
}

static enum reason judge_stopped(struct core *core, int32_t node)
{
    const struct report *report = &core->view->nodes[node].report;

    if (promotion_under_way(core, node))
        return REASON_KEEP_WAITING;
    switch (report->pg) {
    case PG_ABSENT:
    case PG_DOWN:
    case PG_CRASHED: return REASON_LEADER_EXITED;
    case PG_STARTING: return REASON_LEADER_IN_RECOVERY;
    case PG_STOPPING:
    case PG_UP: break;
    }
    if (report->pg == PG_UP && report->in_recovery)
        return REASON_LEADER_IN_RECOVERY;
    return judge_stopping(core, node);
}

static bool verdict_is_dead_silence(enum probe_verdict verdict)
{
    return verdict == PROBE_SILENT || verdict == PROBE_REFUSED;
}

/* Nobody gets through to its Postgres, though its agent is content. One witness at least beside the
 * orchestrator. */
static bool frozen_to_all(const struct core *core, int32_t node)
{
    int witnesses = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i == node || !node_answers(core, i))
            continue;
        if (!verdict_is_dead_silence(core->view->nodes[i].report.peers[node].postgres))
            return false;
        witnesses++;
    }
    return witnesses > 0 && verdict_is_dead_silence(core->view->nodes[node].postgres);
}

/* Told to follow, up, and nothing but the way is missing: WAL of its own would first have to be
 * rewound. */
static bool follower_cut_off(const struct core *core, int32_t node, int32_t leader)
{
    const struct report *report = &core->view->nodes[node].report;
    const struct lineage *lineage = &core->view->nodes[leader].report.lineage;
    struct position end = {report->timeline, report->flush_lsn};
    struct position fork;

    return node_may_lead(core, node) && report->pg == PG_UP && report->role == ROLE_FOLLOWER &&
           leadership_equal(&report->leader, &core->facts.fact) && !report->receiver.streaming &&
           lineage_fork(&report->lineage, end, lineage, &fork) != FORK_DIVERGED;
}

/* Both others are ready to stream, reach each other, and neither gets anything from this leader. */
static bool cut_off(const struct core *core, int32_t node)
{
    const struct report *report = &core->view->nodes[node].report;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i == node)
            continue;
        if (report->standbys[i].streaming || !follower_cut_off(core, i, node))
            return false;
        for (int32_t j = 0; j < NODE_COUNT; j++) {
            if (j != i && j != node && !core->view->nodes[i].report.peers[j].agent_reachable)
                return false;
        }
    }
    return true;
}

static enum reason judge_leading(struct core *core, int32_t node)
{
    const struct node_view *view = &core->view->nodes[node];
    const struct report *report = &view->report;
    struct memory *memory = core->memory;
    uint32_t timeout_ms = core->view->options.failure_timeout_ms;
    uint32_t local_ms = report->local_probe_failing_ms;
    bool suspect = false;

    if (local_ms > 0) {
        local_ms = age_add(local_ms, view->report_age_ms);
        if (local_ms >= timeout_ms)
            return REASON_LEADER_PROBE_FAILS;
        core_wake_at(core, core->view->now_ms + (timeout_ms - local_ms));
        suspect = true;
    }
    if (view->postgres_failing_ms > 0) {
        core->plan->probe[node] = view->postgres_age_ms > timeout_ms / 4;
        core_wake_at(core, core->view->now_ms + timeout_ms / 4);
    }
    if (view->postgres_failing_ms > 0 && frozen_to_all(core, node)) {
        if (standing_for(core, &memory->suspect_since_ms, core->view->now_ms) >= timeout_ms)
            return REASON_LEADER_FROZEN;
        core_wake_at(core, memory->suspect_since_ms + timeout_ms);
        suspect = true;
    } else {
        memory->suspect_since_ms = 0;
    }
    if (cut_off(core, node)) {
        uint32_t cut_ms = standing_for(core, &memory->cut_off_since_ms, core->view->now_ms);

        if (cut_ms >= timeout_ms)
            return REASON_LEADER_CUT_OFF;
        core_wake_at(core, memory->cut_off_since_ms + timeout_ms);
        suspect = suspect ||
                  cut_ms >= timeout_ms / 2; /* followers of a new leader are on their way */
    } else {
        memory->cut_off_since_ms = 0;
    }
    return suspect ? REASON_KEEP_WAITING : REASON_NONE;
}

/* --- its agent refuses or is silent --- */

/* What the others' reports say of it. A peer that answers tells at once when it loses sight of the
 * leader, so what its report says is true now; only the ages in it are as old as the report. */
struct witness {
    bool linked; /* somebody reaches its agent, and its Postgres was not seen to be bad since */
    uint32_t linked_age_ms; /* when it last did, at the latest */
    bool primary;           /* somebody found it out of recovery lately */
    uint32_t primary_age_ms;
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ELAPSED_MS: since the suspicion began. A bad verdict of long before says nothing. */
static void witness_hear(struct witness *witness, const struct node_view *peer, int32_t node,
                         uint32_t elapsed_ms, uint32_t timeout_ms)
{
    const struct peer_view *view = &peer->report.peers[node];
    uint32_t agent_age_ms = age_add(view->agent_age_ms, peer->report_age_ms);
    uint32_t postgres_age_ms = age_add(view->postgres_age_ms, peer->report_age_ms);
    bool postgres_bad = view->postgres != PROBE_PRIMARY && view->postgres != PROBE_UNKNOWN &&
                        postgres_age_ms <= age_add(elapsed_ms, timeout_ms);

    if (view->agent_reachable && !postgres_bad) {
        witness->linked = true;
        witness->linked_age_ms = least(witness->linked_age_ms, agent_age_ms);
    }
    if (view->postgres == PROBE_PRIMARY && postgres_age_ms < timeout_ms) {
        witness->primary = true;
        witness->primary_age_ms = least(witness->primary_age_ms, postgres_age_ms);
    }
}

/* Receivers notice the end of their leader before anybody else does. */
static bool anybody_streams(const struct core *core)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (node_streams(core, i))
            return true;
    }
    return false;
}

static enum reason judge_silent(struct core *core, int32_t node)
{
    const struct node_view *view = &core->view->nodes[node];
    uint32_t timeout_ms = core->view->options.failure_timeout_ms;
    uint32_t elapsed_ms = standing_for(core, &core->memory->suspect_since_ms,
                                       core->view->now_ms - view->unreachable_ms);
    bool looked = view->postgres_age_ms <= elapsed_ms; /* since the suspicion began */
    bool fresh = looked && view->postgres_age_ms < timeout_ms;
    uint32_t patience_ms = anybody_streams(core) ? timeout_ms / 4 : timeout_ms / 16;
    struct witness witness = {false, AGE_NEVER, false, AGE_NEVER};

    core->plan->probe[node] = !looked || view->postgres_age_ms > patience_ms;
    core_wake_at(core, core->view->now_ms + (looked ? patience_ms : timeout_ms / 16));
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != node && node_answers(core, i))
            witness_hear(&witness, &core->view->nodes[i], node, elapsed_ms, timeout_ms);
    }

    /* Both refuse: at once, unless somebody got through even later than this refusal. */
    if (view->refuses && fresh && view->postgres == PROBE_REFUSED &&
        view->postgres_age_ms <= witness.linked_age_ms &&
        view->postgres_age_ms <= witness.primary_age_ms)
        return REASON_LEADER_REFUSES;
    if ((fresh && view->postgres == PROBE_PRIMARY) ||
        (witness.primary && age_add(witness.primary_age_ms, timeout_ms / 2) <= elapsed_ms))
        return witness.linked && elapsed_ms >= timeout_ms ? REASON_KEEP_LINK_CUT
                                                          : REASON_KEEP_AGENT_DOWN;
    if (elapsed_ms < timeout_ms) {
        core_wake_at(core, core->memory->suspect_since_ms + timeout_ms);
        return REASON_KEEP_WAITING;
    }
    if (witness.linked)
        return REASON_KEEP_LINK_CUT;
    /* A probe under way gets its time, too. */
    if (witness.primary || (!looked && elapsed_ms < 2 * timeout_ms))
        return REASON_KEEP_WAITING;
    return REASON_LEADER_SILENT;
}

/* A machine without any data stands in its place. */
static bool was_emptied(const struct node_view *node)
{
    return node->known && node->reachable && node->report.pg == PG_ABSENT &&
           cluster_id_is_none(&node->report.cluster);
}

enum reason leader_judge(struct core *core)
{
    int32_t node = core->facts.incumbent;
    enum reason reason;

    if (node == NODE_NONE)
        reason = REASON_LEADER_NONE;
    else if (was_emptied(&core->view->nodes[node]))
        return REASON_LEADER_EXITED;
    else if (!node_answers(core, node))
        return judge_silent(core, node);
    else if (node_leads(core, node))
        reason = judge_leading(core, node);
    else
        return judge_stopped(core, node);
    if (node == NODE_NONE || reason == REASON_NONE)
        core->memory->suspect_since_ms = 0;
    return reason;
}
