/*
 * What each node is told, by the present phase. A message goes out while the node's report does not
 * show what it wants.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

static const struct report *report_of(const struct core *core, int32_t node)
{
    return &core->view->nodes[node].report;
}

/* The part all messages share. */
static struct desired *message_begin(struct core *core, int32_t node, enum role role,
                                     uint32_t generation)
{
    struct desired *message = &core->plan->message[node];

    memset(message, 0, sizeof(*message));
    message->protocol = PROTOCOL_VERSION;
    message->cluster = core->facts.cluster;
    message->node = node;
    message->generation = generation;
    message->proposer = core->view->proposer;
    message->role = role;
    message->leader.node = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        message->incarnations[i] = core->facts.latest[i];
        message->destroyed_number[i] = core->facts.void_number[i];
    }
    core->plan->send[node] = true;
    return message;
}

/* --- promises --- */

static void ask_promise(struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);
    struct promise promise = {core->memory->generation, core->view->proposer};
    struct desired *message;

    if (node_voted(core, node) || node_lost(core, node) ||
        (promise_equal(report->promise, promise) && report->role == ROLE_FENCED))
        return;
    message = message_begin(core, node, ROLE_FENCED, promise.generation);
    message->planned = election_planned(core->memory) && node == core->memory->old_leader;
}

static void ask_birth(struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);
    struct promise promise = {core->memory->generation, core->view->proposer};
    struct desired *message;

    if (!core->view->nodes[node].reachable)
        return;
    if (promise_equal(report->promise, promise) && report->birth_promised &&
        cluster_id_equal(&report->cluster, &core->memory->cluster))
        return;
    message = message_begin(core, node, ROLE_FENCED, promise.generation);
    message->cluster = core->memory->cluster;
    message->birth = true;
    message->leader.node = core->memory->target;
    message->source = core->memory->source;
}

/* --- the leader and its followers --- */

static void tell_leader(struct core *core)
{
    int32_t node = core->memory->granted_to;
    const struct report *report = report_of(core, node);

    if (!core->view->nodes[node].reachable ||
        (report->grant.generation == core->memory->generation &&
         report->promise.generation == core->memory->generation && report->role == ROLE_LEADER))
        return;
    core->plan->message[node] = core->memory->grant;
    core->plan->send[node] = true;
}

static struct desired *begin_follower(struct core *core, int32_t node)
{
    struct desired *message = message_begin(core, node, ROLE_FOLLOWER, core->facts.fact.generation);

    message->leader = core->facts.fact;
    return message;
}

static void tell_follower(struct core *core, int32_t node)
{
    const struct leadership *fact = &core->facts.fact;
    const struct report *report = report_of(core, node);
    struct promise promise = {fact->generation, fact->proposer};

    if (!node_answers(core, node) || !report->registered ||
        report->promise.generation > fact->generation)
        return;
    if (report->role == ROLE_FOLLOWER && promise_equal(report->promise, promise) &&
        leadership_equal(&report->leader, fact))
        return;
    begin_follower(core, node);
    if (core->memory->told_generation[node] != fact->generation) {
        core->memory->told_generation[node] = fact->generation;
        core_event(core, REASON_FOLLOW_LEADER, node, fact->generation);
    }
}

static void tell_followers(struct core *core)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != core->facts.fact.node)
            tell_follower(core, i);
    }
}

/* --- jobs --- */

/* Its present desired state once more, with the job. */
static void send_job(struct core *core)
{
    const struct request *request = &core->view->request;
    const struct leadership *fact = &core->facts.fact;
    struct desired *message;

    if (request->target == fact->node) {
        message = message_begin(core, request->target, ROLE_LEADER, fact->generation);
        message->leader = *fact;
    } else {
        message = begin_follower(core, request->target);
    }
    message->job = request->job;
    message->source = request->source;
    message->job_after = core->memory->job_after;
}

/* In maintenance nothing is touched, but what an operator's own election began is finished. */
static bool may_tell(const struct core *core)
{
    return !core->facts.document.maintenance ||
           core->facts.fact.generation == core->memory->generation;
}

static void idle_messages(struct core *core)
{
    int32_t leader = core->facts.incumbent;

    if (leader != NODE_NONE && node_leads(core, leader) && may_tell(core))
        tell_followers(core);
    if (request_waits(core) && core->view->request.kind == REQUEST_JOB)
        send_job(core);
}

void messages_write(struct core *core)
{
    switch (core->memory->phase) {
    case PHASE_IDLE: idle_messages(core); break;
    case PHASE_BIRTH:
        for (int32_t i = 0; i < NODE_COUNT; i++)
            ask_birth(core, i);
        break;
    case PHASE_LEADER_FIRST:
        if (node_answers(core, core->memory->old_leader))
            ask_promise(core, core->memory->old_leader);
        break;
    case PHASE_PROMISING:
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            if (node_may_vote(core, i) || (i == core->memory->old_leader && node_answers(core, i)))
                ask_promise(core, i);
        }
        break;
    case PHASE_DOCUMENT:
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            if (document_asks(core, i))
                ask_promise(core, i);
        }
        break;
    case PHASE_GRANTED:
        tell_leader(core);
        tell_followers(core);
        break;
    }
}
