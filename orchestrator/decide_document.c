/*
 * A change of the cluster document while there is no leader: promises of a new generation, which is
 * never granted, then one write at two of the agents that hold them. The write is the shell's; here
 * stand when it may be made, where, and when it is done. Source: docs/protocol.md, "The cluster
 * document".
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

static const struct report *report_of(const struct core *core, int32_t node)
{
    return &core->view->nodes[node].report;
}

bool document_waits(const struct core *core)
{
    return request_waits(core) && core->view->request.kind == REQUEST_DOCUMENT;
}

/* A leader is better than none: an election that can be held goes first, and the document is then
 * changed at its leader's agent. */
void document_request(struct core *core, enum reason judgement)
{
    int32_t leader = core->facts.incumbent;

    if (!document_waits(core))
        return;
    if (leader != NODE_NONE && node_leads(core, leader) && node_answers(core, leader))
        request_settle(core, true, REASON_DOCUMENT_AT_LEADER, leader);
    else if (judgement == REASON_KEEP_AGENT_DOWN || judgement == REASON_KEEP_LINK_CUT)
        request_settle(core, false, judgement, leader);
    else if (cluster_is_unborn(core))
        request_settle(core, false, REASON_BLOCKED_UNBORN, NODE_NONE);
    else if (voter_count(core) < QUORUM)
        request_settle(core, false, REASON_BLOCKED_NO_QUORUM, NODE_NONE);
    else if (reason_is_death(judgement) && core->facts.document.maintenance &&
             core->view->now_ms >= core->memory->wait_until_ms)
        document_open(core);
}

void document_open(struct core *core)
{
    struct memory *memory = core->memory;
    uint32_t before = memory->generation;

    memset(memory->destroyed_number, 0, sizeof(memory->destroyed_number));
    election_open(core, REASON_DOCUMENT_OPENED, NODE_NONE);
    if (memory->generation == before)
        return;
    memory->phase = PHASE_DOCUMENT;
    memory->request = core->view->request.id;
}

/* --- whom to ask --- */

/* In maintenance mode a server that is down is left as it is, where the others suffice: to promise
 * is to give a position, and for that it would be started. */
static bool better_left_alone(const struct core *core, int32_t node)
{
    return core->facts.document.maintenance && report_of(core, node)->pg != PG_UP;
}

bool document_asks(const struct core *core, int32_t node)
{
    int ready = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        ready += node_may_vote(core, i) && !better_left_alone(core, i);
    return node_may_vote(core, node) && (ready < QUORUM || !better_left_alone(core, node));
}

/* --- promises and the write --- */

/* Asked for it and gave it. One without complete data may have this promise from the peer it
 * registered at, in place of one that it gave to another proposer before its disk was lost. */
static bool promised(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);
    struct promise own = {core->memory->generation, core->view->proposer};

    return core->facts.speaks[node] && report->registered &&
           (report->complete || report->rewound) && promise_equal(report->promise, own);
}

/* Both in one report: whatever this agent votes for later, it tells of the change. */
static bool holds_change(const struct core *core, int32_t node)
{
    return promised(core, node) &&
           report_of(core, node)->document.version.generation == core->memory->generation;
}

/* What was confirmed earlier is held by one at least of any two that promised since, so the
 * greatest document of two is what the change is made on. */
static void plan_write(struct core *core)
{
    struct document_write *write = &core->plan->write;
    int count = 0;

    write->at = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        write->promised[i] = promised(core, i) && node_answers(core, i);
        count += write->promised[i];
        if (write->promised[i] &&
            (write->at == NODE_NONE ||
             document_version_compare(report_of(core, i)->document.version,
                                      report_of(core, write->at)->document.version) > 0))
            write->at = i;
    }
    write->due = count >= QUORUM;
}

static void settle_change(struct core *core)
{
    struct memory *memory = core->memory;

    core_event(core, REASON_DOCUMENT_CHANGED, NODE_NONE, memory->generation);
    request_settle(core, true, REASON_DOCUMENT_CHANGED, NODE_NONE);
    memory->request = 0;
    memory->phase = PHASE_IDLE;
    facts_gather(core);
}

/* The generation is given up in the end, come what may: its two writers would be the shell, for
 * this change, and its leader, for the next, and both would take the same version. */
void document_advance(struct core *core)
{
    struct memory *memory = core->memory;
    int64_t until_ms = memory->opened_ms + core->view->options.election_timeout_ms;
    int holders = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        holders += holds_change(core, i);
    if (!document_waits(core) || core->view->request.id != memory->request) {
        core_give_up(core, REASON_ELECTION_EXPIRED, false); /* the shell gave up first */
    } else if (holders >= QUORUM) {
        settle_change(core);
    } else if (election_overtaken(core)) {
        core_give_up(core, REASON_ELECTION_OVERTAKEN, true);
    } else {
        plan_write(core);
        if (core->plan->write.due)
            return;
        core_wake_at(core, until_ms);
        if (core->view->now_ms >= until_ms)
            core_give_up(core, REASON_ELECTION_EXPIRED, true);
    }
}
