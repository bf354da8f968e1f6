/*
 * The orchestrator's shell. Mirrors orchestrator/observe.c, act.c and cluster.c.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    RESEND_MS = 200,
    PROBE_DEADLINE_MS = 700,
    PROBE_PAUSE_MS = 150,
    REQUEST_WAIT_MS = 60000,
    DOCUMENT_WAIT_MS = 15000,
};

static const struct decide_options core_options = {.failure_timeout_ms = 1000,
                                                   .election_timeout_ms = 5000,
                                                   .promotion_timeout_ms = 30000,
                                                   .failover_backoff_ms = 10000,
                                                   .probe_interval_ms = 10000};

static int endpoint_of(int which)
{
    return MACHINES + which;
}

static int64_t own_now(int which)
{
    return clock_of(endpoint_of(which));
}

void boss_start(int which)
{
    struct boss *boss = &world.bosses[which];
    struct endpoint *endpoint = &world.endpoints[endpoint_of(which)];

    if (endpoint->up)
        return;
    memset(boss, 0, sizeof *boss);
    boss->proposer = rnd() >> 1;
    boss->started_ms = own_now(which);
    boss->plan.leader = NODE_NONE;
    boss->request.target = NODE_NONE;
    endpoint->up = true;
    endpoint->frozen = false;
    endpoint->life = ++world.life;
    trace("boss %d starts, proposer %llx", which, (unsigned long long)boss->proposer);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        memset(&world.polls[endpoint_of(which)][slot], 0, sizeof world.polls[0][0]);
        post_event(between(0, 10), (struct event){.kind = EVENT_POLL_START,
                                                  .a = endpoint_of(which),
                                                  .b = endpoint_of(which),
                                                  .x = (uint64_t)slot,
                                                  .life = endpoint->life});
    }
    boss_changed(which);
}

void boss_die(int which)
{
    struct endpoint *endpoint = &world.endpoints[endpoint_of(which)];

    if (!endpoint->up)
        return;
    trace("boss %d dies", which);
    endpoint->up = endpoint->frozen = false;
    endpoint->life = ++world.life;
}

static void post_round(int which, int64_t in_ms)
{
    struct boss *boss = &world.bosses[which];

    post_event(in_ms, (struct event){.kind = EVENT_ROUND,
                                     .a = endpoint_of(which),
                                     .number = ++boss->round_number,
                                     .life = world.endpoints[endpoint_of(which)].life});
}

void boss_changed(int which)
{
    struct boss *boss = &world.bosses[which];

    if (boss->round_posted)
        return;
    boss->round_posted = true;
    post_round(which, 0);
}

/* --- observe --- */

static void relay(int which, int32_t to)
{
    struct boss *boss = &world.bosses[which];
    struct poll *poll = &world.polls[endpoint_of(which)][to];

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct boss_node *node = &boss->nodes[slot];
        bool tell = slot != to && node->view.known && node->answered_ms != 0;

        poll->relay_generation[slot] = tell ? node->view.report.promise.generation : 0;
        poll->relay_age_ms[slot] = own_now(which) - node->answered_ms;
    }
}

void boss_polled(int which, int32_t slot, struct poll *poll)
{
    struct boss_node *node = &world.bosses[which].nodes[slot];

    if (!node->view.reachable || poll->news)
        boss_changed(which);
    node->answered_ms = own_now(which);
    node->failing_since_ms = 0;
    node->view.reachable = true;
    node->view.refuses = false;
    if (poll->news && poll->report.node == slot) {
        node->view.report = poll->report;
        node->view.known = true;
        node->view.refused_message = false;
        node->reported_ms = own_now(which);
    }
    document_look(which);
    relay(which, slot);
}

void boss_silent(int which, int32_t slot, bool refuses)
{
    struct boss *boss = &world.bosses[which];
    struct boss_node *node = &boss->nodes[slot];

    if (node->view.reachable || node->view.refuses != refuses)
        boss_changed(which);
    if (node->failing_since_ms == 0)
        node->failing_since_ms = node->answered_ms ? node->answered_ms : boss->started_ms;
    node->view.reachable = false;
    node->view.refuses = refuses;
    relay(which, slot);
}

static void probe(int which, int32_t slot)
{
    struct boss_node *node = &world.bosses[which].nodes[slot];
    int endpoint = endpoint_of(which);
    enum probe_verdict verdict;

    if (node->probing || !node->view.known || own_now(which) - node->probed_ms < PROBE_PAUSE_MS)
        return;
    node->probing = true;
    node->probe_started_ms = own_now(which);
    verdict = server_probe(endpoint, world.endpoints[endpoint].route[slot]);
    post_event(verdict == PROBE_SILENT ? PROBE_DEADLINE_MS : between(1, 12),
               (struct event){.kind = EVENT_PROBED,
                              .a = endpoint,
                              .b = slot,
                              .x = (uint64_t)verdict,
                              .life = world.endpoints[endpoint].life});
}

void boss_probed(int which, int32_t slot, enum probe_verdict verdict)
{
    struct boss_node *node = &world.bosses[which].nodes[slot];

    node->probing = false;
    node->view.postgres = verdict;
    node->probed_ms = own_now(which);
    if (verdict == PROBE_PRIMARY || verdict == PROBE_STANDBY)
        node->postgres_failing_since_ms = 0;
    else if (node->postgres_failing_since_ms == 0)
        node->postgres_failing_since_ms = node->probe_started_ms;
    boss_changed(which);
}

void boss_refused(int which, int32_t slot, struct promise promise)
{
    struct boss_node *node = &world.bosses[which].nodes[slot];

    node->view.refused_message = true;
    node->view.refused_with = promise;
    boss_changed(which);
}

/* --- act --- */

static int free_letter(void)
{
    int letter = 1 + (int)dice(LETTERS_MAX - 1);

    for (int i = 1; i < LETTERS_MAX; i++) /* 0 is for strays */
        if (!world.letters[i].used)
            return i;
    return letter; /* the oldest ones are repeated no more */
}

static bool same_message(const struct desired *a, const struct desired *b)
{
    return a->generation == b->generation && a->proposer == b->proposer && a->role == b->role &&
           a->birth == b->birth && a->planned == b->planned && a->job.id == b->job.id &&
           a->job_after == b->job_after && leadership_equal(&a->leader, &b->leader) &&
           memcmp(a->destroyed_number, b->destroyed_number, sizeof a->destroyed_number) == 0;
}

static void post_letter(int64_t in_ms, int target, int letter)
{
    if (world.endpoints[target].up)
        post_event(in_ms, (struct event){.kind = EVENT_LETTER,
                                         .a = target,
                                         .b = letter,
                                         .life = world.endpoints[target].life});
}

static void send(int which, int32_t slot, const struct desired *message)
{
    struct boss_node *node = &world.bosses[which].nodes[slot];
    int target = world.endpoints[endpoint_of(which)].route[slot], letter;
    int64_t delay;

    if (same_message(message, &node->sent) && own_now(which) - node->sent_ms < RESEND_MS)
        return;
    node->sent = *message;
    node->sent_ms = own_now(which);
    letter = free_letter();
    world.letters[letter] = (struct letter){.used = true,
                                            .message = *message,
                                            .from = which,
                                            .from_life = world.endpoints[endpoint_of(which)].life};
    trace("boss %d -> n%d: g%u role %d", which, slot + 1, message->generation, message->role);
    project_send(which, slot, message);
    if (packet(endpoint_of(which), target, &delay))
        post_letter(delay, target, letter);
    if (happens(world.slow)) /* again, later */
        post_letter(between(1, 5000), target, letter);
}

static const char *const requests[] = {"none",       "init", "failover",
                                       "switchover", "job",  "a change of the document"};

bool boss_ask(int which, enum request_kind kind, int32_t target, const bool destroyed[NODE_COUNT])
{
    struct boss *boss = &world.bosses[which];

    if (boss->request.kind != REQUEST_NONE || !world.endpoints[endpoint_of(which)].up)
        return false;
    boss->request = (struct request){.id = rnd() >> 1, .kind = kind, .target = target};
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        boss->request.destroyed[slot] = destroyed && destroyed[slot];
    boss->request.job.id = boss->request.id;
    boss->request.job.kind = happens(500) ? JOB_RESTART : JOB_REINIT;
    if (kind != REQUEST_JOB || boss->request.job.kind == JOB_REINIT)
        snapshot_choose(kind, &boss->request.source);
    boss->request.cluster.bytes[0] = (uint8_t)(1 + dice(250));
    boss->request.cluster.bytes[1] = (uint8_t)dice(250);
    boss->request_until_ms = own_now(which) +
                             (kind == REQUEST_DOCUMENT ? DOCUMENT_WAIT_MS : REQUEST_WAIT_MS);
    trace("boss %d is asked for %s, target %d%s", which, requests[kind], target + 1,
          destroyed ? ", data loss accepted" : "");
    boss_changed(which);
    return true;
}

void boss_request_ends(int which)
{
    struct request *request = &world.bosses[which].request;

    memset(request, 0, sizeof *request);
    request->target = NODE_NONE;
}

static void fill_view(int which, struct view *view)
{
    struct boss *boss = &world.bosses[which];

    view->now_ms = own_now(which);
    view->proposer = boss->proposer;
    view->chance = (uint32_t)rnd();
    view->options = core_options;
    view->memory = boss->memory;
    view->request = boss->request;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct boss_node *node = &boss->nodes[slot];
        struct node_view *v = &node->view;

        v->report_age_ms = node->reported_ms ? (uint32_t)(own_now(which) - node->reported_ms)
                                             : AGE_NEVER;
        v->unreachable_ms = v->reachable || !node->failing_since_ms
                                ? 0
                                : (uint32_t)(own_now(which) - node->failing_since_ms);
        v->postgres_age_ms = node->probed_ms ? (uint32_t)(own_now(which) - node->probed_ms)
                                             : AGE_NEVER;
        v->postgres_failing_ms = node->postgres_failing_since_ms
                                     ? (uint32_t)(own_now(which) - node->postgres_failing_since_ms)
                                     : 0;
        view->nodes[slot] = *v;
    }
}

void boss_round(int which)
{
    static struct view view;
    struct boss *boss = &world.bosses[which];
    struct plan *plan = &boss->plan;
    int64_t wake_ms;

    boss->round_posted = false;
    fill_view(which, &view);
    decide(&view, plan);
    cover_boss(&view, plan);
    project_plan(which, plan);
    boss->memory = plan->memory;
    document_round(which);
    wake_ms = plan->wake_ms;
    for (uint32_t i = 0; i < plan->event_count; i++) {
        trace("boss %d %s n%d g%u: %s", which, reason_code(plan->events[i].reason),
              plan->events[i].node + 1, plan->events[i].generation,
              reason_text(plan->events[i].reason));
    }
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (plan->send[slot]) {
            send(which, slot, &plan->message[slot]);
            wake_ms = wake_ms < RESEND_MS ? wake_ms : RESEND_MS;
        }
        if (plan->probe[slot] ||
            own_now(which) - boss->nodes[slot].probed_ms > core_options.probe_interval_ms)
            probe(which, slot);
    }
    if (boss->request.kind != REQUEST_NONE &&
        ((plan->request_settled && plan->memory.last_settled_request == boss->request.id) ||
         own_now(which) > boss->request_until_ms)) {
        bool document = boss->request.kind == REQUEST_DOCUMENT;

        trace("boss %d request ends: %s", which, reason_text(plan->request_reason));
        boss_request_ends(which);
        if (document)
            document_settled(which, plan->request_settled && plan->request_ok,
                             plan->request_reason);
    }
    post_round(which, wake_ms > 0 ? wake_ms : 1);
}

/* --- at the agent: POST /v1/desired --- */

void letter_arrive(int target, int index)
{
    struct machine *m = &world.machines[target];
    const struct letter *letter = &world.letters[index];
    struct standing standing;
    enum verdict verdict;
    int64_t delay;

    durable_standing(&m->durable, &standing);
    verdict = desired_admit(&standing, &letter->message);
    cover_admit(&standing, &letter->message, verdict);
    if (message_learn(&m->in, &m->durable, &letter->message))
        agent_changed(target);
    if (verdict == VERDICT_OBEY || verdict == VERDICT_PROMISE) {
        m->message = letter->message;
        m->in.has_message = true;
        agent_changed(target);
        return;
    }
    trace("n%d/%d refuses g%u role %d: %s", m->slot + 1, target, letter->message.generation,
          letter->message.role, verdict_name(verdict));
    if (packet(target, endpoint_of(letter->from), &delay))
        post_event(delay, (struct event){.kind = EVENT_REFUSED,
                                         .a = endpoint_of(letter->from),
                                         .b = m->slot,
                                         .life = letter->from_life,
                                         .number = m->durable.promise.generation,
                                         .x = m->durable.promise.proposer});
}
