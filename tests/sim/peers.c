/*
 * Agents among themselves, and long polls, which orchestrators use as well. Mirrors agent/peers.c,
 * agent/api.c and agent/report.c. A poll is owned by an endpoint and a slot; one is under way at
 * most.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    WAIT_MS = 400,
    GRACE_MS = 200,
    RETRY_MS = 100,
    PAUSE_MS = 200,
    QUIET_BUMP_MS = 1000,
    PROBE_DEADLINE_MS = 500,
    PROBE_SUSPECT_MS = 200,
    PROBE_INTERVAL_MS = 2000,
    DISCARD_SETTLE_MS = 2000,
};

/* --- the report --- */

static void put_durable(const struct machine *m, struct report *r)
{
    const struct durable *d = &m->durable;

    r->protocol = PROTOCOL_VERSION;
    r->cluster = d->cluster;
    r->node = d->node;
    r->agent_run = m->run_id;
    r->promise = d->promise;
    r->leader = d->leader;
    r->grant = d->grant;
    r->role = d->role;
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        r->incarnations[slot] = d->incarnations[slot];
        r->void_number[slot] = d->void_number[slot];
    }
    r->blank = cluster_id_is_none(&d->cluster) && d->promise.generation == 0 && m->in.looked &&
               !m->in.data_present && !m->in.data_foreign;
    r->registered = d->registered;
    r->birth_promised = d->birth_promised;
    r->birth_ended = d->birth_ended;
    r->complete = d->complete;
    r->rewound = d->rewound;
    r->marker = d->marker;
    r->document = d->document;
    r->job = d->job;
    r->job_state = d->job_state;
}

static void put_server(const struct machine *m, struct report *r)
{
    const struct inputs *in = &m->in;

    r->pg = in->pg;
    r->in_recovery = in->pg == PG_UP && in->in_recovery;
    r->checkpointed = in->pg == PG_UP && !in->in_recovery && in->checkpointed;
    r->local_probe_ok = in->pg == PG_UP && m->probe_failing_ms == 0;
    if (in->pg == PG_UP && m->probe_failing_ms != 0)
        r->local_probe_failing_ms = (uint32_t)(own_clock(m) - m->probe_failing_ms) + 1;
    r->receiver.message_age_ms = AGE_NEVER;
    r->oldest_lsn = m->disk.oldest_lsn;
    r->sampled_age_ms = AGE_NEVER;
    if (m->sampled) {
        r->sampled_age_ms = (uint32_t)(own_clock(m) - m->seen.taken_ms);
        r->timeline = m->seen.flushed.timeline;
        r->write_lsn = m->seen.write_lsn;
        r->flush_lsn = m->seen.flushed.lsn;
        r->replay_lsn = m->seen.flushed.lsn;
        r->receiver.streaming = in->streaming;
        memcpy(r->standbys, m->seen.standbys, sizeof r->standbys);
    }
    r->receiver.alive = in->receivers;
    r->receiver.upstream = in->receivers && in->replication_known ? in->replication.upstream
                                                                  : NODE_NONE;
    r->lineage = m->lineage;
    r->system_id = m->disk.present ? system_of(m->disk.wal.branch) : 0;
    if (in->position_valid) {
        r->lineage = in->lineage;
        if (r->timeline == 0)
            r->timeline = in->record_end.timeline;
    } else if (r->timeline == 0 && m->lineage.count > 0) {
        r->timeline = m->lineage.begin[m->lineage.count - 1].timeline;
    }
}

static void build(int index, struct report *r)
{
    struct machine *m = &world.machines[index];
    struct standing_now now;

    memset(r, 0, sizeof *r);
    put_durable(m, r);
    put_server(m, r);
    reconcile_standing(&m->in, &now);
    r->vote = now.vote;
    r->leading = now.leading;
    r->fenced = now.fenced;
    r->confirmed = now.confirmed;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        r->accepts_writes |= now.leading && r->standbys[slot].counted &&
                             r->standbys[slot].streaming;
        peers_view(index, slot, &r->peers[slot]);
    }
    r->sequence = m->sequence;
}

static void strip(struct report *r, bool positions)
{
    r->sequence = 0;
    r->sampled_age_ms = 0;
    r->local_probe_failing_ms /= 100;
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        r->peers[slot].agent_age_ms = r->peers[slot].postgres_age_ms = 0;
        r->standbys[slot].reply_age_ms = 0;
        if (positions)
            r->standbys[slot].flush_lsn = r->standbys[slot].replay_lsn = 0;
    }
    if (positions)
        r->write_lsn = r->flush_lsn = r->replay_lsn = 0;
}

/* Positions alone tell their news once a second. */
void report_update(int index)
{
    struct machine *m = &world.machines[index];
    static struct report left;
    bool quiet = own_clock(m) - m->bumped_ms < QUIET_BUMP_MS;

    build(index, &m->report);
    check_vote(index);
    if (m->report.leading != (m->leading_since_ms != 0))
        m->leading_since_ms = m->report.leading ? own_clock(m) : 0;
    left = m->report;
    strip(&left, true);
    if (memcmp(&left, &m->report_seen, sizeof left) == 0 &&
        (quiet || m->report.write_lsn == m->bumped_lsn))
        return;
    m->report_seen = left;
    m->bumped_ms = own_clock(m);
    m->bumped_lsn = m->report.write_lsn;
    m->report.sequence = ++m->sequence;
    poll_wake(index);
}

/* --- long polls --- */

static struct event poll_event(enum event_kind kind, int at, int owner, int32_t slot,
                               uint32_t number)
{
    return (struct event){.kind = kind,
                          .a = at,
                          .b = owner,
                          .x = (uint64_t)slot,
                          .number = number,
                          .life = world.endpoints[at].life};
}

/* One such event is on its way at most; when it fires it looks which poll is due. */
static void overdue_post(int owner, int32_t slot)
{
    struct poll *poll = &world.polls[owner][slot];

    if (poll->overdue_posted)
        return;
    poll->overdue_posted = true;
    post_event(poll->overdue_ms - world.now_ms,
               poll_event(EVENT_POLL_OVERDUE, owner, owner, slot, 0));
}

void poll_start(int owner, int32_t slot)
{
    struct poll *poll = &world.polls[owner][slot];
    int target = world.endpoints[owner].route[slot];
    int64_t delay;

    if (poll->active)
        return;
    poll->active = true;
    poll->parked = poll->news = poll->refused = false;
    poll->number = ++world.number;
    poll->target = target;
    poll->asked_ms = clock_of(owner);
    poll->overdue_ms = world.now_ms + WAIT_MS + GRACE_MS;
    overdue_post(owner, slot);
    if (!packet(owner, target, &delay))
        return;
    if (world.endpoints[target].up && world.machines[target].powered) {
        post_event(delay, poll_event(EVENT_POLL_ARRIVE, target, owner, slot, poll->number));
    } else if (world.machines[target].powered && packet(target, owner, &delay)) {
        poll->refused = true;
        post_event(delay, poll_event(EVENT_POLL_ANSWER, owner, owner, slot, poll->number));
    }
}

static void reply(int owner, int32_t slot, bool news)
{
    struct poll *poll = &world.polls[owner][slot];
    int64_t delay;

    poll->parked = false;
    poll->news = news;
    if (news)
        poll->report = world.machines[poll->target].report;
    if (packet(poll->target, owner, &delay))
        post_event(delay, poll_event(EVENT_POLL_ANSWER, owner, owner, slot, poll->number));
}

static void take_relay(int index, const struct poll *poll)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (poll->relay_generation[slot] != 0)
            peers_confirm(index, slot, poll->relay_generation[slot],
                          clock_of(index) - poll->relay_age_ms[slot]);
}

/* As with overdue ones. */
static void expire_post(int owner, int32_t slot)
{
    struct poll *poll = &world.polls[owner][slot];

    if (poll->expire_target_life == world.endpoints[poll->target].life)
        return;
    poll->expire_target_life = world.endpoints[poll->target].life;
    post_event(poll->expires_ms - world.now_ms,
               poll_event(EVENT_POLL_EXPIRE, poll->target, owner, slot, 0));
}

void poll_arrive(int target, int owner, int32_t slot, uint32_t number)
{
    struct poll *poll = &world.polls[owner][slot];

    if (!poll->active || poll->number != number)
        return;
    if (owner >= MACHINES)
        take_relay(target, poll);
    if (poll->since != world.machines[target].sequence) {
        report_update(target);
        reply(owner, slot, true);
        return;
    }
    poll->parked = true;
    poll->expires_ms = world.now_ms + WAIT_MS;
    expire_post(owner, slot);
}

void poll_expire(int target, int owner, int32_t slot)
{
    struct poll *poll = &world.polls[owner][slot];

    if (poll->expire_target_life == world.endpoints[target].life)
        poll->expire_target_life = 0;
    if (!poll->active || !poll->parked || poll->target != target)
        return;
    if (world.now_ms >= poll->expires_ms)
        reply(owner, slot, false);
    else
        expire_post(owner, slot);
}

void poll_wake(int target)
{
    for (int owner = 0; owner < ENDPOINTS; owner++) {
        for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
            struct poll *poll = &world.polls[owner][slot];

            if (poll->active && poll->parked && poll->target == target)
                reply(owner, slot, true);
        }
    }
}

static void silent(int owner, int32_t slot, bool refuses)
{
    struct poll *poll = &world.polls[owner][slot];

    poll->active = false;
    poll->since = 0;
    post_event(RETRY_MS, poll_event(EVENT_POLL_START, owner, owner, slot, 0));
    if (owner >= MACHINES) {
        boss_silent(owner - MACHINES, slot, refuses);
    } else {
        struct peer *peer = &world.machines[owner].peers[slot];

        if (peer->reachable || peer->refuses != refuses)
            agent_changed(owner);
        peer->reachable = false;
        peer->refuses = refuses;
        peers_probe_if_due(owner, slot);
    }
}

void poll_overdue(int owner, int32_t slot)
{
    struct poll *poll = &world.polls[owner][slot];

    poll->overdue_posted = false;
    if (!poll->active)
        return;
    if (world.now_ms >= poll->overdue_ms)
        silent(owner, slot, false);
    else
        overdue_post(owner, slot);
}

static void confirm_by_report(int index, int32_t slot, int64_t asked_ms)
{
    struct machine *m = &world.machines[index];
    const struct report *r = &m->peer_reports[slot];

    if (cluster_id_equal(&r->cluster, &m->durable.cluster) && r->registered &&
        r->incarnations[slot].number >= m->durable.incarnations[slot].number)
        peers_confirm(index, slot, r->promise.generation, asked_ms);
}

void poll_answer(int owner, int32_t slot, uint32_t number)
{
    struct poll *poll = &world.polls[owner][slot];
    struct machine *m;

    if (!poll->active || poll->number != number)
        return; /* late: its owner has given up on it */
    if (poll->refused) {
        silent(owner, slot, true);
        return;
    }
    poll->active = false;
    if (poll->news)
        poll->since = poll->report.sequence;
    if (owner >= MACHINES) {
        boss_polled(owner - MACHINES, slot, poll);
        poll_start(owner, slot);
        return;
    }
    m = &world.machines[owner];
    if (!m->peers[slot].reachable || m->peers[slot].refuses || poll->news)
        agent_changed(owner);
    m->peers[slot].reachable = true;
    m->peers[slot].refuses = false;
    m->peers[slot].heard_ms = clock_of(owner);
    m->peers[slot].asked_ms = poll->asked_ms;
    if (poll->news) {
        m->peer_reports[slot] = poll->report;
        m->in.peers[slot].known = true;
        m->in.peers[slot].asked_ms = poll->asked_ms;
    }
    if (m->in.peers[slot].known)
        confirm_by_report(owner, slot, poll->asked_ms);
    peers_probe_if_due(owner, slot);
    poll_start(owner, slot);
}

/* --- what an agent thinks of a peer --- */

void peers_start(int index)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        memset(&world.polls[index][slot], 0, sizeof world.polls[index][slot]);
        if (slot != world.machines[index].slot)
            post_event(between(0, 5), poll_event(EVENT_POLL_START, index, index, slot, 0));
    }
}

void peers_confirm(int index, int32_t slot, uint32_t generation, int64_t at_ms)
{
    struct machine *m = &world.machines[index];

    if (slot == m->slot || generation == 0 || generation != m->durable.grant.generation ||
        at_ms <= m->in.confirmed_ms || at_ms > clock_of(index))
        return;
    m->in.confirmed_ms = at_ms;
}

static uint32_t age(const struct machine *m, int64_t then_ms)
{
    return then_ms == 0 ? AGE_NEVER : (uint32_t)(own_clock(m) - then_ms);
}

void peers_view(int index, int32_t slot, struct peer_view *view)
{
    const struct machine *m = &world.machines[index];
    const struct peer *peer = &m->peers[slot];

    view->agent_age_ms = view->postgres_age_ms = AGE_NEVER;
    if (slot == m->slot)
        return;
    view->agent_reachable = peer->reachable;
    view->agent_refuses = peer->refuses;
    view->agent_age_ms = age(m, peer->heard_ms);
    if (m->in.peers[slot].known)
        view->generation = m->peer_reports[slot].promise.generation;
    view->postgres = peer->postgres;
    view->postgres_age_ms = age(m, peer->probed_ms);
}

static bool suspicious(const struct machine *m, int32_t slot)
{
    const struct peer *peer = &m->peers[slot];
    const struct report *r = &m->peer_reports[slot];

    if (!m->in.peers[slot].known)
        return false;
    return !peer->reachable || (r->leading && r->local_probe_failing_ms > 0) ||
           (peer->postgres != PROBE_UNKNOWN && peer->postgres != PROBE_PRIMARY &&
            peer->postgres != PROBE_STANDBY && r->pg == PG_UP) ||
           (m->durable.leader.node == slot && m->durable.role == ROLE_FOLLOWER && r->leading &&
            m->in.not_streaming_since_ms != 0);
}

/* A probe that finds nobody takes its deadline. */
void peers_probe_if_due(int index, int32_t slot)
{
    struct machine *m = &world.machines[index];
    struct peer *peer = &m->peers[slot];
    bool leads = m->in.peers[slot].known && m->peer_reports[slot].leading,
         suspect = suspicious(m, slot);
    enum probe_verdict verdict;

    if (peer->probing || !(suspect || leads) ||
        own_clock(m) - peer->probed_ms < (suspect ? PROBE_SUSPECT_MS : PROBE_INTERVAL_MS))
        return;
    peer->probing = true;
    verdict = server_probe(index, world.endpoints[index].route[slot]);
    post_event(verdict == PROBE_SILENT ? PROBE_DEADLINE_MS : between(1, 12),
               (struct event){.kind = EVENT_PROBED,
                              .a = index,
                              .b = slot,
                              .x = (uint64_t)verdict,
                              .life = world.endpoints[index].life});
}

/* --- registration --- */

void peers_register(int index, int32_t slot)
{
    struct machine *m = &world.machines[index];
    struct peer *peer = &m->peers[slot];
    int target = world.endpoints[index].route[slot];
    int64_t delay;

    if (own_clock(m) - peer->registered_ms < PAUSE_MS)
        return;
    peer->registered_ms = own_clock(m);
    m->in.answers[slot].valid = false;
    if (world.endpoints[target].up && packet(index, target, &delay))
        post_event(delay, (struct event){.kind = EVENT_REGISTER,
                                         .a = target,
                                         .b = index,
                                         .life = world.endpoints[target].life,
                                         .number = world.endpoints[index].life,
                                         .x = m->durable.incarnations[m->slot].number,
                                         .y = m->durable.incarnations[m->slot].nonce});
}

void peers_registration(int index, int from, uint32_t from_life,
                        const struct incarnation *incarnation)
{
    struct machine *m = &world.machines[index];

    if (!m->durable.registered || m->in.registration.pending ||
        world.machines[from].slot == m->slot)
        return;
    m->in.registration = (struct registration){
        .pending = true, .node = world.machines[from].slot, .incarnation = *incarnation};
    m->registrant = from;
    m->registrant_life = from_life;
    agent_changed(index);
}

void peers_answer_registration(int index, bool accepted)
{
    struct machine *m = &world.machines[index];
    const struct durable *d = &m->durable;
    struct answer *answer = &world.answers[index];
    int64_t delay;

    m->in.registration.pending = false;
    if (accepted && m->retired)
        world.misled[world.machines[m->registrant].slot] = true;
    if (accepted)
        project_answer(index, m->registrant, &m->in.registration.incarnation);
    memset(answer, 0, sizeof *answer);
    answer->to_life = m->registrant_life;
    answer->answer = (struct registration_answer){.valid = true,
                                                  .accepted = accepted,
                                                  .self = m->in.registration.incarnation,
                                                  .cluster = d->cluster,
                                                  .promise = d->promise,
                                                  .birth_ended = d->birth_ended};
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        answer->answer.incarnations[slot] = d->incarnations[slot];
        answer->answer.void_number[slot] = d->void_number[slot];
    }
    if (packet(index, m->registrant, &delay))
        post_event(delay, (struct event){.kind = EVENT_REGISTERED,
                                         .a = m->registrant,
                                         .b = index,
                                         .life = m->registrant_life});
}

void peers_registered(int index, int from)
{
    if (world.answers[from].to_life != world.endpoints[index].life)
        return;
    world.machines[index].in.answers[world.machines[from].slot] = world.answers[from].answer;
    agent_changed(index);
}

/* --- permission to discard --- */

void peers_ask_discard(int index)
{
    struct machine *m = &world.machines[index];
    int32_t leader = m->durable.leader.node;
    int64_t delay;
    int target;

    if (leader < 0 || leader == m->slot || own_clock(m) - m->discard_asked_ms < PAUSE_MS)
        return;
    m->discard_asked_ms = own_clock(m);
    m->discard_generation = m->durable.promise.generation;
    target = world.endpoints[index].route[leader];
    if (world.endpoints[target].up && packet(index, target, &delay))
        post_event(delay, (struct event){.kind = EVENT_DISCARD,
                                         .a = target,
                                         .b = index,
                                         .life = world.endpoints[target].life,
                                         .number = m->discard_generation,
                                         .x = world.endpoints[index].life,
                                         .y = (uint64_t)own_clock(m)});
}

static int32_t outstanding(struct machine *m)
{
    int32_t slot = m->discard_given_to;
    const struct report *r;

    if (slot == NODE_NONE)
        return NODE_NONE;
    r = &m->peer_reports[slot];
    if (m->in.peers[slot].known &&
        m->in.peers[slot].asked_ms > m->discard_given_ms + DISCARD_SETTLE_MS && r->complete &&
        r->marker == MARKER_NONE)
        m->discard_given_to = NODE_NONE;
    return m->discard_given_to;
}

void peers_discard(int index, int from, uint32_t generation, uint32_t from_life, int64_t asked_ms)
{
    struct machine *m = &world.machines[index];
    int32_t slot = world.machines[from].slot;
    int64_t delay;

    agent_gather(index);
    if (own_clock(m) - m->started_ms < DISCARD_SETTLE_MS || m->leading_since_ms == 0 ||
        own_clock(m) - m->leading_since_ms < DISCARD_SETTLE_MS ||
        !discard_permitted(&m->in, slot, generation, outstanding(m)))
        return;
    m->discard_given_to = slot;
    m->discard_given_ms = own_clock(m);
    trace("n%d/%d lets n%d discard its data", m->slot + 1, index, slot + 1);
    if (packet(index, from, &delay))
        post_event(delay, (struct event){.kind = EVENT_DISCARDED,
                                         .a = from,
                                         .life = from_life,
                                         .number = generation,
                                         .y = (uint64_t)asked_ms});
}

/* --- the document --- */

void peers_fetch_document(int index, int32_t slot)
{
    struct machine *m = &world.machines[index];
    int target = world.endpoints[index].route[slot];
    int64_t delay, back;

    if (own_clock(m) - m->document_asked_ms < PAUSE_MS)
        return;
    m->document_asked_ms = own_clock(m);
    if (world.endpoints[target].up && packet(index, target, &delay) && packet(target, index, &back))
        post_event(delay + back, (struct event){.kind = EVENT_DOCUMENT,
                                                .a = index,
                                                .b = target,
                                                .life = world.endpoints[index].life});
}

void peers_document(int index, int from)
{
    struct machine *m = &world.machines[index];
    const struct document_facts *theirs = &world.machines[from].durable.document;

    if (world.endpoints[from].up && !m->store.active &&
        document_version_compare(theirs->version, m->durable.document.version) > 0)
        document_take(m, &world.machines[from]);
    agent_changed(index);
}
