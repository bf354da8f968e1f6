/*
 * Two orchestrators and three model agents in a storm: lost, late and repeated messages, crashes,
 * cut links. The agents obey desired_admit() and keep the order of the rules, the rest of them is a
 * few lines. Checked: one leader per generation, no acknowledged entry missing on a later leader,
 * and a writable cluster once the storm is over.
 *
 * OGEL_STORM_SEED=n replays one seed, OGEL_STORM_SEEDS=n tries so many.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "orchestrator/decide.h"
#include "protocol/order.h"

enum {
    TICK_MS = 50,
    STORM_TICKS = 1200,
    CALM_TICKS = 1600, /* within which it has to be whole again */
    ORCHESTRATORS = 2,
    LOG_MAX = 8192,
    GENERATIONS_MAX = 4096,
    QUEUE_MAX = 64,
};

/* A log is the generation that wrote each entry; position = (last entry's generation, length). */
struct agent {
    bool up;        /* the agent itself */
    bool pg;        /* its Postgres */
    int restart_in; /* ticks until Postgres is back */
    struct report report;
    uint32_t log[LOG_MAX];
    uint32_t length;
    uint32_t complete_at; /* leader's length that makes it complete */
    uint32_t fork;        /* rewound: what it held in common */
    uint32_t fork_timeline;
    int vote_in;
    int promote_in;
    int unconfirmed; /* ticks */
};

struct late {
    int in; /* ticks */
    struct desired message;
};

struct storm {
    uint64_t seed;
    uint64_t random;
    int64_t now_ms;
    bool calm;
    int32_t dead; /* for good, once the storm is over; or NODE_NONE */
    struct agent agents[NODE_COUNT];
    bool link[NODE_COUNT][NODE_COUNT];
    bool reach[ORCHESTRATORS][NODE_COUNT];
    bool alive[ORCHESTRATORS];
    struct view views[ORCHESTRATORS];
    struct plan plans[ORCHESTRATORS];
    struct late queue[QUEUE_MAX];
    int32_t leader_of[GENERATIONS_MAX]; /* slot + 1 */
    uint32_t acked[LOG_MAX];
    uint32_t acked_by[LOG_MAX]; /* generation */
    uint32_t acked_length;
    int elections;
};

static struct storm storm;

static uint32_t dice(uint32_t sides)
{
    storm.random ^= storm.random << 13;
    storm.random ^= storm.random >> 7;
    storm.random ^= storm.random << 17;
    return (uint32_t)(storm.random >> 11) % sides;
}

static void violated(const char *what, int32_t node, uint32_t generation)
{
    fail_msg("seed %" PRIu64 " at %" PRId64 " ms: %s (n%d, generation %" PRIu32 ")", storm.seed,
             storm.now_ms, what, node + 1, generation);
}

/* --- an agent --- */

static uint32_t last_timeline(const struct agent *agent)
{
    return agent->length > 0 ? agent->log[agent->length - 1] : 1;
}

static void stop_leading(struct agent *agent)
{
    struct report *report = &agent->report;

    report->leading = false;
    report->accepts_writes = false;
    report->in_recovery = true;
    agent->promote_in = 0;
    memset(report->standbys, 0, sizeof(report->standbys));
}

static void stop_receiver(struct agent *agent)
{
    agent->report.receiver.streaming = false;
    agent->report.receiver.upstream = NODE_NONE;
}

static void take_grant(struct agent *agent, const struct desired *message)
{
    struct report *report = &agent->report;
    int32_t *leader = &storm.leader_of[message->generation % GENERATIONS_MAX];

    if (report->grant.generation == message->generation || !report->complete)
        return;
    if (*leader != 0 && *leader != report->node + 1)
        violated("second leader", report->node, message->generation);
    *leader = report->node + 1;
    report->grant.generation = message->generation;
    report->grant.proposer = message->proposer;
    report->grant.incarnation = report->incarnations[report->node];
    report->grant.spent = false;
    report->leader = message->leader;
    report->role = ROLE_LEADER;
    memset(&report->vote, 0, sizeof(report->vote));
    agent->promote_in = 1 + (int)dice(4);
}

static void take_message(struct agent *agent, const struct desired *message)
{
    struct report *report = &agent->report;
    bool promise;

    struct standing standing = {.cluster = report->cluster,
                                .node = report->node,
                                .promise = report->promise,
                                .leader = report->leader,
                                .registered = true,
                                .birth_promised = true,
                                .birth_ended = true};
    memcpy(standing.incarnations, report->incarnations, sizeof(standing.incarnations));
    enum verdict verdict = desired_admit(&standing, message);

    if (verdict != VERDICT_OBEY && verdict != VERDICT_PROMISE)
        return;
    promise = verdict == VERDICT_PROMISE;
    switch (message->role) {
    case ROLE_FENCED:
        if (!promise)
            break;
        report->promise.generation = message->generation;
        report->promise.proposer = message->proposer;
        report->leader = (struct leadership){.node = NODE_NONE};
        report->role = ROLE_FENCED;
        memset(&report->vote, 0, sizeof(report->vote));
        stop_leading(agent);
        stop_receiver(agent);
        agent->vote_in = 1 + (int)dice(10);
        break;
    case ROLE_LEADER: take_grant(agent, message); break;
    case ROLE_FOLLOWER:
        if (promise) {
            report->promise.generation = message->generation;
            report->promise.proposer = message->leader.proposer;
            stop_receiver(agent);
        }
        if (report->role == ROLE_LEADER)
            stop_leading(agent);
        report->leader = message->leader;
        report->role = ROLE_FOLLOWER;
        memset(&report->vote, 0, sizeof(report->vote));
        break;
    case ROLE_NONE: break;
    }
}

static void agent_vote(struct agent *agent)
{
    struct report *report = &agent->report;

    if (report->role != ROLE_FENCED || !agent->pg || report->vote.valid || --agent->vote_in > 0 ||
        !(report->complete || report->rewound))
        return;
    report->vote.valid = true;
    report->vote.promise = report->promise;
    report->vote.complete = report->complete;
    report->vote.position.timeline = last_timeline(agent);
    report->vote.position.lsn = agent->length;
    report->vote.replay_lsn = agent->length;
    if (!report->complete &&
        (agent->fork_timeline > last_timeline(agent) ||
         (agent->fork_timeline == last_timeline(agent) && agent->fork > agent->length))) {
        report->vote.position.timeline = agent->fork_timeline;
        report->vote.position.lsn = agent->fork;
    }
}

static void agent_promote(struct agent *agent)
{
    struct report *report = &agent->report;

    if (report->role != ROLE_LEADER || !agent->pg || report->leading || agent->promote_in == 0 ||
        --agent->promote_in > 0)
        return;
    if (report->grant.spent)
        return;
    /* It may still be promoted below a later leader, but nobody stands with it. */
    report->grant.spent = true;
    for (uint32_t i = 0; i < storm.acked_length; i++) {
        if (storm.acked_by[i] < report->grant.generation &&
            (i >= agent->length || agent->log[i] != storm.acked[i]))
            violated("an acknowledged entry is missing", report->node, report->grant.generation);
    }
    report->leading = true;
    report->in_recovery = false;
    agent->unconfirmed = 0;
    if (agent->length < LOG_MAX)
        agent->log[agent->length++] = report->grant.generation;
    storm.elections++;
}

static uint32_t common_length(const struct agent *a, const struct agent *b)
{
    uint32_t i = 0;

    while (i < a->length && i < b->length && a->log[i] == b->log[i])
        i++;
    return i;
}

/* Attach, rewind where it diverged, take a few entries. */
static void agent_follow(struct agent *agent)
{
    struct report *report = &agent->report;
    struct agent *leader;
    uint32_t common;

    if (report->role != ROLE_FOLLOWER || report->leader.node < 0)
        return;
    leader = &storm.agents[report->leader.node];
    if (!agent->pg || !leader->pg || !storm.link[report->node][report->leader.node] ||
        !leader->report.leading || leader->report.grant.generation != report->leader.generation) {
        stop_receiver(agent);
        return;
    }
    common = common_length(agent, leader);
    if (common < agent->length) {
        report->complete = false;
        report->rewound = true;
        agent->fork = common;
        agent->fork_timeline = common > 0 ? agent->log[common - 1] : 1;
        agent->length = common;
        agent->complete_at = 0;
    }
    if (!report->complete && agent->complete_at == 0)
        agent->complete_at = leader->length;
    report->receiver.streaming = true;
    report->receiver.upstream = report->leader.node;
    for (int i = 0; i < 4 && agent->length < leader->length; i++) {
        agent->log[agent->length] = leader->log[agent->length];
        agent->length++;
    }
    if (!report->complete && agent->length >= agent->complete_at) {
        report->complete = true;
        report->rewound = false;
    }
}

static void agent_lead(struct agent *agent)
{
    struct report *report = &agent->report;
    bool confirmed = false;

    if (!report->leading || !agent->pg)
        return;
    report->accepts_writes = false;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct agent *peer = &storm.agents[i];
        bool streams = i != report->node && peer->pg && peer->report.receiver.streaming &&
                       leadership_equal(&peer->report.leader, &report->leader);

        memset(&report->standbys[i], 0, sizeof(report->standbys[i]));
        if (!streams)
            continue;
        confirmed = true;
        report->standbys[i].attached = true;
        report->standbys[i].streaming = true;
        report->standbys[i].counted = peer->report.complete;
        /* Nobody waits for what earlier leaders wrote: only its own entries are acknowledged. */
        if (!peer->report.complete || last_timeline(peer) != report->grant.generation)
            continue;
        report->accepts_writes = true;
        for (uint32_t j = storm.acked_length; j < peer->length; j++) {
            storm.acked_by[j] = report->grant.generation;
            storm.acked[storm.acked_length++] = peer->log[j];
        }
    }
    if (agent->length < LOG_MAX && dice(4) == 0)
        agent->log[agent->length++] = report->grant.generation;
    agent->unconfirmed = confirmed ? 0 : agent->unconfirmed + 1;
    if (agent->unconfirmed * TICK_MS > 3000)
        stop_leading(agent);
}

static void agent_see_peers(struct agent *agent)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct peer_view *view = &agent->report.peers[i];
        const struct agent *peer = &storm.agents[i];
        bool reached = storm.link[agent->report.node][i];

        view->agent_reachable = reached && peer->up;
        view->agent_age_ms = view->agent_reachable ? 0 : view->agent_age_ms + TICK_MS;
        view->postgres_age_ms = 0;
        view->postgres = !reached                   ? PROBE_SILENT
                         : !peer->pg                ? PROBE_REFUSED
                         : peer->report.in_recovery ? PROBE_STANDBY
                                                    : PROBE_PRIMARY;
    }
}

static void agent_tick(struct agent *agent)
{
    struct report *report = &agent->report;

    if (!agent->pg && agent->up && --agent->restart_in <= 0) {
        agent->pg = true; /* as a standby, whatever it was */
        stop_leading(agent);
        agent->vote_in = 2;
    }
    report->pg = agent->pg ? PG_UP : PG_CRASHED;
    agent_lead(agent);
    agent_follow(agent);
    if (!agent->up)
        return;
    agent_vote(agent);
    agent_promote(agent);
    agent_see_peers(agent);
    report->timeline = last_timeline(agent);
    report->fenced = report->role == ROLE_FENCED;
    report->local_probe_ok = agent->pg;
}

/* --- the world --- */

static void deliver(const struct desired *message)
{
    struct agent *agent = &storm.agents[message->node];

    if (agent->up)
        take_message(agent, message);
}

static void send(const struct desired *message)
{
    if (!storm.calm && dice(5) == 0)
        return;
    if (storm.calm || dice(3) != 0)
        deliver(message);
    if (!storm.calm && dice(3) == 0) {
        struct late *late = &storm.queue[dice(QUEUE_MAX)];

        late->in = 1 + (int)dice(100);
        late->message = *message;
    }
}

static void queue_tick(void)
{
    for (int i = 0; i < QUEUE_MAX; i++) {
        if (storm.queue[i].in > 0 && --storm.queue[i].in == 0)
            deliver(&storm.queue[i].message);
    }
}

static void orchestrator_look(int who)
{
    struct view *view = &storm.views[who];

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct node_view *node = &view->nodes[i];
        const struct agent *agent = &storm.agents[i];
        bool reached = storm.reach[who][i];

        node->reachable = reached && agent->up;
        node->refuses = reached && !agent->up;
        node->unreachable_ms = node->reachable ? 0 : node->unreachable_ms + TICK_MS;
        node->report_age_ms = node->reachable ? 0 : node->report_age_ms + TICK_MS;
        if (node->reachable) {
            node->known = true;
            node->report = agent->report;
        }
        node->postgres_age_ms = 0;
        node->postgres = !reached                    ? PROBE_SILENT
                         : !agent->pg                ? PROBE_REFUSED
                         : agent->report.in_recovery ? PROBE_STANDBY
                                                     : PROBE_PRIMARY;
        if (node->postgres == PROBE_PRIMARY || node->postgres == PROBE_STANDBY)
            node->postgres_failing_ms = 0;
        else
            node->postgres_failing_ms += TICK_MS;
    }
}

/* Now and then an operator wants something; the shell offers it until it is settled or too late. */
static void operator_tick(struct view *view, const struct plan *plan)
{
    struct request *request = &view->request;

    if (plan->request_settled || dice(200) == 0)
        memset(request, 0, sizeof(*request));
    if (storm.calm || request->kind != REQUEST_NONE || dice(300) != 0)
        return;
    request->id = 1 + dice(UINT32_MAX);
    request->kind = dice(2) == 0 ? REQUEST_FAILOVER : REQUEST_SWITCHOVER;
    request->target = (int32_t)dice(NODE_COUNT + 1) - 1;
}

static void orchestrator_tick(int who)
{
    struct view *view = &storm.views[who];
    struct plan *plan = &storm.plans[who];

    if (!storm.alive[who])
        return;
    orchestrator_look(who);
    view->now_ms = storm.now_ms;
    view->chance = dice(UINT32_MAX);
    decide(view, plan);
    view->memory = plan->memory;
    operator_tick(view, plan);
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (plan->send[i] && storm.reach[who][i])
            send(&plan->message[i]);
    }
}

static void orchestrator_restart(int who)
{
    struct decide_options options = {1000, 3000, 5000, 10000, 1000};

    memset(&storm.views[who], 0, sizeof(storm.views[who]));
    storm.views[who].options = options;
    storm.views[who].proposer = 1000 + dice(1000000);
    storm.views[who].request.target = NODE_NONE;
    storm.alive[who] = true;
}

static void crash_postgres(struct agent *agent)
{
    agent->pg = false;
    agent->report.leading = false;
    agent->report.accepts_writes = false;
    agent->report.in_recovery = false;
    agent->restart_in = 5 + (int)dice(60);
    memset(&agent->report.vote, 0, sizeof(agent->report.vote));
    stop_receiver(agent);
}

static void trouble(void)
{
    int32_t a = (int32_t)dice(NODE_COUNT);
    int32_t b = (int32_t)dice(NODE_COUNT);
    int who = (int)dice(ORCHESTRATORS);

    switch (dice(9)) {
    case 0: crash_postgres(&storm.agents[a]); break;
    case 1: storm.agents[a].up = false; break;
    case 2: storm.agents[a].up = true; break;
    case 3: storm.link[a][b] = storm.link[b][a] = a == b; break;
    case 4: storm.link[a][b] = storm.link[b][a] = true; break;
    case 5: storm.reach[who][a] = false; break;
    case 6: storm.reach[who][a] = true; break;
    case 7: orchestrator_restart(who); break;
    case 8: storm.alive[who] = false; break;
    }
}

static void begin(uint64_t seed)
{
    const struct leadership fact = {2, 0, {1, 5}, 99};

    memset(&storm, 0, sizeof(storm));
    storm.seed = seed;
    storm.random = seed * 0x9e3779b97f4a7c15ULL + 1;
    storm.now_ms = 100000;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct agent *agent = &storm.agents[i];
        struct report *report = &agent->report;

        agent->up = agent->pg = true;
        report->protocol = PROTOCOL_VERSION;
        report->cluster.bytes[0] = 1;
        report->node = i;
        report->promise.generation = 2;
        report->promise.proposer = 99;
        report->leader = fact;
        report->role = i == 0 ? ROLE_LEADER : ROLE_FOLLOWER;
        report->registered = report->birth_promised = report->birth_ended = true;
        report->complete = true;
        report->in_recovery = true;
        report->receiver.upstream = NODE_NONE;
        for (int32_t j = 0; j < NODE_COUNT; j++) {
            report->incarnations[j] = fact.incarnation;
            storm.link[i][j] = true;
        }
    }
    storm.agents[0].report.grant = (struct grant){2, 99, {1, 5}, false};
    storm.agents[0].promote_in = 1;
    storm.leader_of[2] = 1;
    for (int who = 0; who < ORCHESTRATORS; who++) {
        orchestrator_restart(who);
        for (int32_t i = 0; i < NODE_COUNT; i++)
            storm.reach[who][i] = true;
    }
}

static void calm_down(void)
{
    storm.calm = true;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        storm.agents[i].up = true;
        for (int32_t j = 0; j < NODE_COUNT; j++)
            storm.link[i][j] = true;
    }
    for (int who = 0; who < ORCHESTRATORS; who++) {
        for (int32_t i = 0; i < NODE_COUNT; i++)
            storm.reach[who][i] = true;
        if (!storm.alive[who])
            orchestrator_restart(who);
    }
    if (storm.dead != NODE_NONE) {
        crash_postgres(&storm.agents[storm.dead]);
        storm.agents[storm.dead].up = false;
    }
}

static bool is_whole(void)
{
    for (int who = 0; who < ORCHESTRATORS; who++) {
        const struct plan *plan = &storm.plans[who];

        if (!plan->writable)
            return false;
        if (storm.dead == NODE_NONE && (!plan->failover_possible || plan->blocker_count > 0))
            return false;
    }
    return true;
}

/* Without the third, a rewound node that is ahead blocks for good: only an operator can answer for
 * the rest. */
static bool lacks_data(void)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (i != storm.dead && !storm.agents[i].report.complete)
            return storm.dead != NODE_NONE;
    }
    return false;
}

static void tick(void)
{
    storm.now_ms += TICK_MS;
    queue_tick();
    for (int32_t i = 0; i < NODE_COUNT; i++)
        agent_tick(&storm.agents[i]);
    for (int who = 0; who < ORCHESTRATORS; who++)
        orchestrator_tick((who + (int)dice(2)) % ORCHESTRATORS);
}

static int run(uint64_t seed)
{
    int ticks = 0;

    begin(seed);
    storm.dead = (int32_t)dice(2 * NODE_COUNT) - NODE_COUNT;
    if (storm.dead < 0)
        storm.dead = NODE_NONE;
    for (int i = 0; i < STORM_TICKS; i++) {
        if (dice(12) == 0)
            trouble();
        tick();
    }
    calm_down();
    while (!is_whole()) {
        if (++ticks > CALM_TICKS && lacks_data())
            return 0;
        if (ticks > CALM_TICKS)
            violated("not whole again", storm.plans[0].leader, storm.plans[0].generation);
        tick();
    }
    return ticks;
}

static void test_storm__keeps_what_it_acknowledged_and_recovers(void **state)
{
    const char *one = getenv("OGEL_STORM_SEED");
    const char *many = getenv("OGEL_STORM_SEEDS");
    uint64_t seeds = many != NULL ? strtoull(many, NULL, 10) : 200;
    uint64_t elections = 0;
    int longest = 0;

    (void)state;
    if (one != NULL) {
        run(strtoull(one, NULL, 10));
        return;
    }
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        int ticks = run(seed);

        elections += (uint64_t)storm.elections;
        longest = ticks > longest ? ticks : longest;
    }
    printf("%" PRIu64 " elections, longest recovery %d ms\n", elections, longest * TICK_MS);
    assert_true(elections > seeds); /* the storm does blow */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_storm__keeps_what_it_acknowledged_and_recovers),
    };

    return cmocka_run_group_tests_name("decide_storm", tests, NULL, NULL);
}
