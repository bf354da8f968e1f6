/*
 * Operators' requests: refused with a reason before anything is promised, or begun.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

bool request_waits(const struct core *core)
{
    return core->view->request.kind != REQUEST_NONE && !core->plan->request_settled &&
           core->view->request.id != core->memory->last_settled_request;
}

void request_settle(struct core *core, bool ok, enum reason reason, int32_t node)
{
    if (!request_waits(core))
        return;
    core->plan->request_settled = true;
    core->plan->request_ok = ok;
    core->plan->request_reason = reason;
    core->plan->request_node = node;
    core->memory->last_settled_request = core->view->request.id;
    if (ok)
        return;
    if (reason == REASON_BIRTH_REFUSED)
        core_event(core, reason, node, core->facts.fact.generation);
    core_event(core, REASON_REQUEST_REFUSED, node, core->facts.fact.generation);
}

void request_settle_election(struct core *core, bool ok, enum reason reason, int32_t node)
{
    struct memory *memory = core->memory;

    if (ok && memory->why == REASON_SWITCHOVER_OPENED) {
        reason = REASON_SWITCHOVER_OTHER;
        if (switchover_kept_its_word(memory)) {
            reason = REASON_SWITCHOVER_DONE;
            core_event(core, reason, node, memory->generation);
        }
    }
    if (memory->request != 0 && memory->request == core->view->request.id)
        request_settle(core, ok, reason, node);
    memory->request = 0;
    memset(memory->destroyed_number, 0, sizeof(memory->destroyed_number));
}

/* --- who may take over --- */

/* REASON_NONE, or why this node cannot be granted. */
static enum reason candidate_obstacle(const struct core *core, int32_t node)
{
    const struct node_view *view = &core->view->nodes[node];

    if (core->facts.foreign[node])
        return REASON_BLOCKED_FOREIGN;
    if (core->facts.outdated[node])
        return REASON_BLOCKED_VOID;
    if (!node_answers(core, node))
        return REASON_BLOCKED_SILENT;
    if (!view->report.registered)
        return REASON_BLOCKED_UNREGISTERED;
    if (core->facts.document.fenced[node])
        return REASON_BLOCKED_OPERATOR_FENCE;
    if (!node_may_lead(core, node))
        return REASON_BLOCKED_NOT_COMPLETE;
    return REASON_NONE;
}

static bool refuse_target(struct core *core, int32_t node)
{
    enum reason obstacle = candidate_obstacle(core, node);

    if (obstacle != REASON_NONE)
        request_settle(core, false, obstacle, node);
    return obstacle != REASON_NONE;
}

/* --- switchover --- */

/* Somebody beside the leader has to be able to take over, and to be close behind. */
static bool refuse_without_successor(struct core *core, int32_t leader)
{
    enum reason obstacle = REASON_NONE;
    int32_t blocker = NODE_NONE;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        enum reason reason;

        if (i == leader)
            continue;
        reason = candidate_obstacle(core, i);
        if (reason == REASON_NONE && !node_streams(core, i))
            reason = REASON_BLOCKED_NOT_STREAMING;
        if (reason == REASON_NONE)
            return false;
        obstacle = reason;
        blocker = i;
    }
    request_settle(core, false, obstacle, blocker);
    return true;
}

static void request_switchover(struct core *core)
{
    const struct request *request = &core->view->request;
    int32_t leader = core->facts.incumbent;

    if (leader == NODE_NONE || !node_leads(core, leader) || !node_answers(core, leader)) {
        /* Stopped for this very request, and its successor was lost: no politeness is left to keep.
         */
        if (core->memory->request == request->id && voter_count(core) >= QUORUM) {
            election_open(core, REASON_FAILOVER_ASKED, request->target);
            return;
        }
        request_settle(core, false, REASON_LEADER_NONE, leader);
        return;
    }
    if (request->target == leader) {
        request_settle(core, true, REASON_SWITCHOVER_DONE, leader);
        return;
    }
    if (request->target != NODE_NONE) {
        if (refuse_target(core, request->target))
            return;
        if (!node_streams(core, request->target)) {
            request_settle(core, false, REASON_BLOCKED_NOT_STREAMING, request->target);
            return;
        }
    } else if (refuse_without_successor(core, leader)) {
        return;
    }
    core->memory->request = request->id;
    election_open(core, REASON_SWITCHOVER_OPENED, request->target);
}

/* --- failover --- */

/* The override is for nodes that are gone: one that could still vote contradicts it. */
static bool refuse_destroyed(struct core *core)
{
    const struct request *request = &core->view->request;
    int voters = 0;
    int destroyed = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        bool votes = node_may_vote(core, i);

        if (request->destroyed[i] && votes) {
            request_settle(core, false, REASON_REQUEST_REFUSED, i);
            return true;
        }
        voters += votes;
        destroyed += request->destroyed[i];
    }
    if (voters >= QUORUM || (destroyed > 0 && voters > 0 && voters + destroyed == NODE_COUNT))
        return false;
    request_settle(core, false, REASON_BLOCKED_NO_QUORUM, NODE_NONE);
    return true;
}

static void request_failover(struct core *core)
{
    const struct request *request = &core->view->request;
    struct memory *memory = core->memory;
    bool destroyed = false;

    if (refuse_destroyed(core) ||
        (request->target != NODE_NONE && refuse_target(core, request->target)))
        return;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        memory->destroyed_number[i] = 0;
        if (!request->destroyed[i])
            continue;
        /* An incarnation that nobody knows is number 1 at least. */
        memory->destroyed_number[i] = core->facts.latest[i].number > 0
                                          ? core->facts.latest[i].number
                                          : 1;
        destroyed = true;
    }
    memory->request = request->id;
    election_open(core, REASON_FAILOVER_ASKED, request->target);
    if (destroyed)
        core_event(core, REASON_DATA_LOSS_ACCEPTED, request->target, memory->generation);
}

/* --- jobs --- */

/* Somebody else's job has come in since this one was sent first: whether this one was taken on
 * before it nobody can tell any more, and it is not to be done twice. */
static bool job_was_passed(struct core *core, const struct node_view *node)
{
    struct memory *memory = core->memory;

    if (memory->job_request != core->view->request.id) {
        memory->job_request = core->view->request.id;
        memory->job_after = node->report.job.id;
    }
    return node->report.job.id != memory->job_after;
}

static void request_job(struct core *core)
{
    const struct request *request = &core->view->request;
    const struct node_view *node = &core->view->nodes[request->target];
    const struct leadership *fact = &core->facts.fact;

    if (node->known && node->report.job.id == request->job.id) {
        core_event(core, REASON_JOB_SENT, request->target, fact->generation);
        request_settle(core, true, REASON_JOB_SENT, request->target);
    } else if (!node_answers(core, request->target)) {
        request_settle(core, false, REASON_BLOCKED_SILENT, request->target);
    } else if (job_was_passed(core, node) || fact->generation == 0 ||
               node->report.promise.generation > fact->generation ||
               (request->target != fact->node && !node->report.registered)) {
        request_settle(core, false, REASON_REQUEST_REFUSED, request->target);
    }
}

void request_advance(struct core *core)
{
    const struct request *request = &core->view->request;

    if (!request_waits(core))
        return;
    if (request->target < NODE_NONE || request->target >= NODE_COUNT ||
        (request->kind == REQUEST_JOB && request->target == NODE_NONE)) {
        request_settle(core, false, REASON_REQUEST_REFUSED, NODE_NONE);
        return;
    }
    switch (request->kind) {
    case REQUEST_NONE: break;
    case REQUEST_INIT: birth_request(core); break;
    case REQUEST_FAILOVER: request_failover(core); break;
    case REQUEST_SWITCHOVER: request_switchover(core); break;
    case REQUEST_JOB: request_job(core); break;
    case REQUEST_DOCUMENT: break; /* document_request(): after what can be done about a leader */
    }
}
