#include "tests/unit/decide_scene.h"

#include <string.h>

static const struct cluster_id cluster = {{0xc1}};

void scene_init(struct scene *scene)
{
    struct view *view = &scene->view;

    memset(scene, 0, sizeof(*scene));
    view->now_ms = 100000;
    view->proposer = SCENE_PROPOSER;
    view->chance = 12345;
    view->options.failure_timeout_ms = 1000;
    view->options.election_timeout_ms = 3000;
    view->options.promotion_timeout_ms = 5000;
    view->options.failover_backoff_ms = 10000;
    view->options.probe_interval_ms = 1000;
    view->memory.old_leader = NODE_NONE;
    view->memory.target = NODE_NONE;
    view->memory.granted_to = NODE_NONE;
    view->request.target = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        view->nodes[i].postgres_age_ms = AGE_NEVER;
        view->nodes[i].report_age_ms = AGE_NEVER;
    }
}

static void answer(struct scene *scene, int32_t node)
{
    struct node_view *view = &scene->view.nodes[node];

    memset(view, 0, sizeof(*view));
    view->known = true;
    view->reachable = true;
    view->postgres_age_ms = AGE_NEVER;
    view->report.protocol = PROTOCOL_VERSION;
    view->report.node = node;
    view->report.receiver.upstream = NODE_NONE;
    view->report.receiver.message_age_ms = AGE_NEVER;
}

void scene_blank(struct scene *scene)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        answer(scene, i);
        scene->view.nodes[i].report.blank = true;
    }
}

static void join(struct scene *scene, int32_t node, const struct leadership *leader)
{
    struct report *report = &scene->view.nodes[node].report;

    report->cluster = cluster;
    report->promise.generation = leader->generation;
    report->promise.proposer = leader->proposer;
    report->leader = *leader;
    report->role = ROLE_FOLLOWER;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        report->incarnations[i].number = 1;
        report->incarnations[i].nonce = 11;
    }
    report->registered = true;
    report->birth_promised = true;
    report->birth_ended = true;
    report->complete = true;
    report->document.version.generation = leader->generation;
    report->document.version.counter = 1;
    report->pg = PG_UP;
    report->in_recovery = true;
    report->local_probe_ok = true;
    report->timeline = leader->generation;
    report->flush_lsn = 0x1000;
    report->replay_lsn = 0x1000;
}

void scene_healthy(struct scene *scene, int32_t leader, uint32_t generation)
{
    struct leadership fact = {generation, leader, {1, 11}, SCENE_OLD_PROPOSER};

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        answer(scene, i);
        join(scene, i, &fact);
        scene->view.nodes[i].postgres = i == leader ? PROBE_PRIMARY : PROBE_STANDBY;
        scene->view.nodes[i].postgres_age_ms = 500;
    }
    for (int32_t i = 0; i < NODE_COUNT; i++)
        scene_peers_see(scene, i, true, i == leader ? PROBE_PRIMARY : PROBE_STANDBY);
    scene->view.nodes[leader].report.grant.generation = generation;
    scene->view.nodes[leader].report.grant.proposer = SCENE_OLD_PROPOSER;
    scene->view.nodes[leader].report.grant.incarnation = fact.incarnation;
    scene_lead(scene, leader);
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != leader)
            scene_stream(scene, i);
    }
}

void scene_stream(struct scene *scene, int32_t node)
{
    struct report *report = &scene->view.nodes[node].report;
    int32_t leader = report->leader.node;
    struct standby_view *standby = &scene->view.nodes[leader].report.standbys[node];

    report->role = ROLE_FOLLOWER;
    report->pg = PG_UP;
    report->in_recovery = true;
    report->fenced = false;
    report->timeline = report->leader.generation;
    report->receiver.alive = true;
    report->receiver.streaming = true;
    report->receiver.upstream = leader;
    report->receiver.message_age_ms = 10;
    standby->attached = true;
    standby->streaming = true;
    standby->counted = true;
    standby->generation = report->leader.generation;
    standby->incarnation = report->incarnations[node].number;
    scene->view.nodes[leader].report.accepts_writes = true;
}

static void older(uint32_t *age_ms, uint32_t ms)
{
    *age_ms = *age_ms > AGE_NEVER - ms ? AGE_NEVER : *age_ms + ms;
}

void scene_advance(struct scene *scene, uint32_t ms)
{
    scene->view.now_ms += ms;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct node_view *node = &scene->view.nodes[i];

        older(&node->postgres_age_ms, ms);
        if (node->postgres_failing_ms > 0)
            node->postgres_failing_ms += ms;
        if (!node->reachable) {
            node->unreachable_ms += ms;
            older(&node->report_age_ms, ms);
            continue;
        }
        if (node->report.local_probe_failing_ms > 0)
            node->report.local_probe_failing_ms += ms;
        for (int32_t j = 0; j < NODE_COUNT; j++) {
            struct peer_view *peer = &node->report.peers[j];

            if (!peer->agent_reachable)
                older(&peer->agent_age_ms, ms);
            if (peer->postgres != PROBE_PRIMARY && peer->postgres != PROBE_STANDBY)
                older(&peer->postgres_age_ms, ms);
        }
    }
}

void scene_decide(struct scene *scene)
{
    decide(&scene->view, &scene->plan);
    scene->view.memory = scene->plan.memory;
    if (scene->plan.request_settled)
        scene->view.request.kind = REQUEST_NONE;
}

void scene_cut(struct scene *scene, int32_t node)
{
    struct report *report = &scene->view.nodes[node].report;

    report->receiver.alive = false;
    report->receiver.streaming = false;
    report->receiver.upstream = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct report *upstream = &scene->view.nodes[i].report;
        bool streams = false;

        if (!scene->view.nodes[i].reachable)
            continue;
        memset(&upstream->standbys[node], 0, sizeof(upstream->standbys[node]));
        for (int32_t j = 0; j < NODE_COUNT; j++)
            streams = streams || upstream->standbys[j].streaming;
        upstream->accepts_writes = upstream->accepts_writes && streams;
    }
}

static void obey_birth(struct report *report, const struct desired *message)
{
    report->cluster = message->cluster;
    report->birth_promised = true;
    report->registered = true;
    report->blank = false;
    if (report->incarnations[report->node].number == 0) {
        report->incarnations[report->node].number = 1;
        report->incarnations[report->node].nonce = 11;
    }
}

void scene_obey(struct scene *scene, int32_t node)
{
    struct report *report = &scene->view.nodes[node].report;
    const struct desired *message = &scene->plan.message[node];

    if (!scene->plan.send[node])
        return;
    scene->view.nodes[node].refused_message = false;
    report->role = message->role;
    report->promise.generation = message->generation;
    report->promise.proposer = message->proposer;
    memset(&report->vote, 0, sizeof(report->vote));
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (message->destroyed_number[i] > report->void_number[i])
            report->void_number[i] = message->destroyed_number[i];
    }
    if (message->job.id != 0)
        report->job = message->job;
    if (message->birth)
        obey_birth(report, message);
    switch (message->role) {
    case ROLE_FENCED:
        memset(&report->leader, 0, sizeof(report->leader));
        report->fenced = true;
        report->leading = false;
        report->accepts_writes = false;
        scene_cut(scene, node);
        break;
    case ROLE_LEADER:
        report->leader = message->leader;
        report->promise.proposer = message->leader.proposer;
        if (report->grant.generation == message->generation)
            break;
        report->grant.generation = message->generation;
        report->grant.proposer = message->leader.proposer;
        report->grant.incarnation = message->leader.incarnation;
        report->grant.spent = false;
        break;
    case ROLE_FOLLOWER:
        report->leader = message->leader;
        report->promise.proposer = message->leader.proposer;
        report->leading = false;
        scene_cut(scene, node);
        break;
    case ROLE_NONE: break;
    }
}

void scene_vote(struct scene *scene, int32_t node, uint32_t timeline, uint64_t lsn)
{
    struct report *report = &scene->view.nodes[node].report;

    report->fenced = true;
    report->leading = false;
    report->in_recovery = true;
    report->pg = PG_UP;
    report->vote.valid = true;
    report->vote.promise = report->promise;
    report->vote.position.timeline = timeline;
    report->vote.position.lsn = lsn;
    report->vote.replay_lsn = lsn;
    report->vote.complete = report->complete;
}

void scene_lead(struct scene *scene, int32_t node)
{
    struct report *report = &scene->view.nodes[node].report;

    report->role = ROLE_LEADER;
    report->grant.spent = true;
    report->pg = PG_UP;
    report->complete = true;
    report->in_recovery = false;
    report->leading = true;
    report->fenced = false;
    report->timeline = report->grant.generation;
    report->receiver.streaming = false;
    report->receiver.upstream = NODE_NONE;
    memset(&report->vote, 0, sizeof(report->vote));
    memset(report->standbys, 0, sizeof(report->standbys));
    report->accepts_writes = false;
}

void scene_lose(struct scene *scene, int32_t node, bool refuses)
{
    struct node_view *view = &scene->view.nodes[node];

    scene_cut(scene, node);
    view->reachable = false;
    view->refuses = refuses;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct report *report = &scene->view.nodes[i].report;

        if (report->receiver.upstream == node)
            report->receiver.streaming = false;
    }
}

void scene_peers_see(struct scene *scene, int32_t node, bool agent, enum probe_verdict postgres)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct peer_view *peer = &scene->view.nodes[i].report.peers[node];

        if (i == node)
            continue;
        peer->agent_reachable = agent;
        peer->agent_refuses = postgres == PROBE_REFUSED && !agent;
        if (agent)
            peer->agent_age_ms = 50;
        peer->postgres = postgres;
        peer->postgres_age_ms = 50;
    }
}

bool scene_has_event(const struct scene *scene, enum reason reason)
{
    for (uint32_t i = 0; i < scene->plan.event_count; i++) {
        if (scene->plan.events[i].reason == reason)
            return true;
    }
    return false;
}

bool scene_has_blocker(const struct scene *scene, enum reason reason, int32_t node)
{
    for (uint32_t i = 0; i < scene->plan.blocker_count; i++) {
        if (scene->plan.blockers[i].reason == reason && scene->plan.blockers[i].node == node)
            return true;
    }
    return false;
}
