#include "agent/reconcile_internal.h"

#include <string.h>

#include "protocol/order.h"

/* A later life of this node: everything that rested on the lost or swapped state is void, the
 * promise is not. */
static void become_new(const struct inputs *in, struct durable *next, uint32_t number)
{
    next->incarnations[next->node].number = number;
    next->incarnations[next->node].nonce = in->nonce;
    for (int32_t peer = 0; peer < NODE_COUNT; peer++)
        next->registered_at[peer] = false;
    next->registered = false;
    next->complete = next->rewound = next->whole_before_rewind = false;
    next->marker = MARKER_CLONE;
    next->marker_done = false;
    next->data_id = 0;
    next->role = ROLE_NONE;
    next->grant = (struct grant){0};
    next->leader = (struct leadership){.node = NODE_NONE};
    next->floor = next->fork = next->complete_target = (struct position){0};
}

static uint32_t max_number(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* A machine without a promise, or with that of a birth of another cluster, next to peers that know
 * a cluster past its birth. A birth needs all three, so that one has come to nothing: nothing rests
 * on it but the promise itself, which stays. */
static bool learn_new_machine(const struct inputs *in, struct step *step)
{
    struct durable next = *in->durable;
    uint32_t number = 0;
    bool found = false;

    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        const struct peer_input *p = &in->peers[peer];

        if (peer == next.node || !p->known || !p->fresh ||
            cluster_id_is_none(&p->report->cluster) || !p->report->birth_ended ||
            p->report->node != peer || !p->report->registered)
            continue;
        if (cluster_id_equal(&in->durable->cluster, &p->report->cluster))
            return false;
        if (found && !cluster_id_equal(&next.cluster, &p->report->cluster))
            continue;
        found = true;
        next.cluster = p->report->cluster;
        number = max_number(number, p->report->incarnations[next.node].number);
        number = max_number(number, p->report->void_number[next.node]);
    }
    if (!found)
        return false;
    memset(next.incarnations, 0, sizeof next.incarnations);
    memset(next.void_number, 0, sizeof next.void_number);
    next.birth_promised = false;
    next.birth_ended = true;
    next.birth_leader = NODE_NONE;
    next.birth_source = (struct snapshot_source){.id = ""};
    become_new(in, &next, number + 1);
    if (in->durable->data_id != 0)
        next.data_id = in->nonce; /* what lies there is this node's, and may go */
    return choose_persist(step, &next, AGENT_REASON_NEW_MACHINE);
}

static bool merge_incarnations(struct durable *next, const struct incarnation from[NODE_COUNT],
                               const uint32_t void_number[NODE_COUNT])
{
    bool changed = false;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct incarnation later = incarnation_later(next->incarnations[slot], from[slot]);

        if (!incarnation_equal(later, next->incarnations[slot])) {
            next->incarnations[slot] = later;
            /* what an older machine answered to a registration is void; the newer one is asked */
            next->registered_at[slot] = false;
            changed = true;
        }
        if (void_number[slot] > next->void_number[slot]) {
            next->void_number[slot] = void_number[slot];
            changed = true;
        }
    }
    return changed;
}

/* Knowledge that only grows: incarnations, voided ones, the end of birth. Durable before anything
 * rests on it. A machine's own slot is never overwritten: that another took its place shows in
 * superseded(). */
bool identity_learn(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct durable next = *d;
    bool changed = false;

    if (cluster_id_is_none(&d->cluster))
        return learn_new_machine(in, step);
    if (d->birth_promised && !d->birth_ended && !d->complete && learn_new_machine(in, step))
        return true;
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        const struct report *report;
        struct incarnation known[NODE_COUNT];

        if (!peer_of_cluster(in, peer) || !in->peers[peer].report->registered)
            continue;
        report = in->peers[peer].report;
        for (int32_t slot = 0; slot < NODE_COUNT; slot++)
            known[slot] = report->incarnations[slot];
        known[d->node] = d->incarnations[d->node];
        changed |= merge_incarnations(&next, known, report->void_number);
        if (report->birth_ended && !next.birth_ended) {
            next.birth_ended = true;
            changed = true;
        }
    }
    return changed && choose_persist(step, &next, AGENT_REASON_LEARN);
}

/* An earlier life of this node may have been one of the two agents that held a change of the
 * cluster document. The other one is a peer, and has it. */
static bool fetch_document_of(const struct inputs *in, struct step *step, int32_t peer)
{
    const struct peer_input *p = &in->peers[peer];

    if (!p->known)
        return choose_wait(step, AGENT_REASON_WAIT_REGISTER, WAKE_SOON_MS);
    if (document_version_compare(p->report->document.version, in->durable->document.version) <= 0)
        return false;
    step->peer = peer;
    return choose(step, STEP_FETCH_DOCUMENT, AGENT_REASON_DOCUMENT_FETCH);
}

/* What one peer answered to this machine's registration. */
static bool take_answer(const struct inputs *in, struct step *step, int32_t peer)
{
    const struct durable *d = in->durable;
    const struct registration_answer *answer = &in->answers[peer];
    struct durable next = *d;
    struct incarnation known[NODE_COUNT];
    uint32_t number;

    if (!answer->valid || !incarnation_equal(answer->self, d->incarnations[d->node]) ||
        !cluster_id_equal(&answer->cluster, &d->cluster))
        return false;
    if (!answer->accepted) {
        number = max_number(answer->incarnations[d->node].number, answer->void_number[d->node]);
        become_new(in, &next, max_number(number, d->incarnations[d->node].number) + 1);
        return choose_persist(step, &next, AGENT_REASON_NEW_MACHINE);
    }
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        known[slot] = answer->incarnations[slot];
    known[d->node] = d->incarnations[d->node];
    merge_incarnations(&next, known, answer->void_number);
    /* an answer from a machine that has been replaced is void: the newer one is asked */
    if (!incarnation_equal(next.incarnations[peer], answer->incarnations[peer])) {
        next.registered_at[peer] = false;
        if (incarnation_equal(d->incarnations[peer], next.incarnations[peer]))
            return false;
        return choose_persist(step, &next, AGENT_REASON_LEARN);
    }
    if (fetch_document_of(in, step, peer))
        return true;
    next.registered_at[peer] = true;
    if (answer->promise.generation > next.promise.generation)
        next.promise = answer->promise;
    next.birth_ended = next.birth_ended || answer->birth_ended;
    return choose_persist(step, &next, AGENT_REASON_REGISTER);
}

bool declared_destroyed(const struct durable *d, int32_t slot)
{
    return d->void_number[slot] > 0 && d->incarnations[slot].number <= d->void_number[slot];
}

/* Registers this new incarnation at both peers; nothing else is done until both have it durably. */
bool identity_register(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    const struct incarnation own = d->incarnations[d->node];
    struct durable next = *d;
    int32_t ask = NODE_NONE;
    bool all = true;

    if (d->registered || cluster_id_is_none(&d->cluster))
        return false;
    if (is_running(in))
        return choose(step, STEP_KILL, AGENT_REASON_DATA_SWAPPED);
    /* Another machine may have drawn the same number for this place and be gone again, registered
     * at some agent that no peer is. Nothing rests on this one's yet: it takes a higher one. */
    if (!incarnation_equal(incarnation_later(own, in->self_known), own) ||
        own.number <= in->self_void) {
        become_new(in, &next, max_number(in->self_known.number, in->self_void) + 1);
        return choose_persist(step, &next, AGENT_REASON_NEW_MACHINE);
    }
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        if (peer == d->node || d->registered_at[peer])
            continue;
        if (take_answer(in, step, peer))
            return true;
        if (declared_destroyed(d, peer))
            continue;
        all = false;
        if (ask == NODE_NONE && in->peers[peer].fresh)
            ask = peer;
    }
    if (all) {
        next.registered = true;
        return choose_persist(step, &next, AGENT_REASON_REGISTERED);
    }
    if (ask == NODE_NONE)
        return choose_wait(step, AGENT_REASON_WAIT_REGISTER, WAKE_MS);
    step->peer = ask;
    return choose(step, STEP_REGISTER, AGENT_REASON_REGISTER);
}

/* A standby's pages are written only once the WAL behind them is safe: pg_control speaks of WAL
 * that this copy held, and has no more. Started, it would wait for that WAL, for ever where nobody
 * has it. */
static bool lacks_wal_of_its_pages(const struct inputs *in)
{
    return in->record_end.lsn < in->consistent.lsn;
}

/* Is the data directory the one that this promise speaks of, and does it still hold what it is
 * known to have held? While a marker stands another one means that its step is unfinished: what a
 * clone or rewind had made went with the volume. */
bool identity_check_data(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct durable next = *d;

    if (d->marker_done && (!in->data_present || in->data_id != d->data_id)) {
        next.marker = MARKER_CLONE;
        next.marker_done = next.complete = next.rewound = next.whole_before_rewind = false;
        next.data_id = in->nonce;
        next.floor = next.fork = next.complete_target = (struct position){0};
        return choose_persist(step, &next,
                              d->marker == MARKER_REWIND ? AGENT_REASON_REWIND_FAILED
                                                         : AGENT_REASON_CLONE_FAILED);
    }
    if (d->data_id == 0 || d->marker != MARKER_NONE)
        return false;
    if (!in->data_present || in->data_id != d->data_id) {
        become_new(in, &next, d->incarnations[d->node].number + 1);
        return choose_persist(step, &next, AGENT_REASON_DATA_SWAPPED);
    }
    if (position_known(in) &&
        (position_compare(in->record_end, d->floor) < 0 || lacks_wal_of_its_pages(in))) {
        become_new(in, &next, d->incarnations[d->node].number + 1);
        return choose_persist(step, &next, AGENT_REASON_DATA_ROLLED_BACK);
    }
    return false;
}

/* A peer's new incarnation: durable first; if this node leads, the old name is out of N and its
 * walsenders are gone; only then the answer. In any state the access rules forget the old
 * incarnation's role. */
bool identity_admit_peer(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    const struct registration *r = &in->registration;
    struct durable next = *d;

    if (!r->pending || !d->registered || r->node == d->node)
        return false;
    step->peer = r->node;
    if (r->incarnation.number > d->incarnations[r->node].number &&
        r->incarnation.number > d->void_number[r->node]) {
        next.incarnations[r->node] = r->incarnation;
        next.registered_at[r->node] = false;
        return choose_persist(step, &next, AGENT_REASON_ADMIT_PEER);
    }
    step->accepted = incarnation_equal(r->incarnation, d->incarnations[r->node]) &&
                     r->incarnation.number > d->void_number[r->node];
    /* a leader that this agent found running, and has not seen yet, still counts the old name */
    if (step->accepted && in->pg == PG_STARTING && d->role == ROLE_LEADER && d->grant.spent)
        return false;
    if (step->accepted && is_running(in)) {
        struct replication want = in->replication;

        /* it stops first: what it would have to show needs a server that answers */
        if (is_primary(in) && d->role != ROLE_LEADER)
            return false;
        for (int32_t slot = 0; slot < NODE_COUNT; slot++)
            if (want.names || slot == d->node)
                want.incarnations[slot] = d->incarnations[slot];
        if (replication_ensure(in, step, &want, AGENT_REASON_NAMES_CHANGED))
            return true;
        /* a reload that was only sent is none: a fresh session shows that the old name is out, and
         * behind that no connection of the old machine is admitted any more */
        if (is_primary(in) && !in->names_shown)
            return choose(step, STEP_CHECK_NAMES, AGENT_REASON_CHECK_NAMES);
        if (in->old_senders)
            return choose(step, STEP_END_OLD_SENDERS, AGENT_REASON_END_OLD_SENDERS);
    }
    return choose(step, STEP_ANSWER_REGISTRATION, AGENT_REASON_ADMIT_PEER);
}

/* The greatest number that the message or a peer knows of this node: an earlier machine in its
 * place may have promised a birth that came to nothing. */
static uint32_t number_known(const struct inputs *in)
{
    int32_t own = in->durable->node;
    uint32_t number = in->message->incarnations[own].number;

    for (int32_t peer = 0; peer < NODE_COUNT; peer++)
        if (peer != own && in->peers[peer].known)
            number = max_number(number, in->peers[peer].report->incarnations[own].number);
    return number;
}

/* An earlier attempt made or copied data here: the new first leader's replaces it, and so does data
 * that is to be made of something else. (A restore that came to nothing is begun anew, whatever it
 * was of.) */
static bool gives_up_data(const struct desired *m, const struct durable *d)
{
    bool same = source_equal(&d->birth_source, &m->source) &&
                (d->complete || source_is_none(&m->source));

    return d->data_id != 0 && (m->leader.node != d->node || !same);
}

static void take_birth(const struct inputs *in, struct durable *next)
{
    const struct desired *m = in->message;

    if (gives_up_data(m, next)) {
        next->complete = next->rewound = next->marker_done = false;
        next->marker = MARKER_CLONE;
        next->data_id = in->nonce;
        next->floor = (struct position){0};
    }
    next->cluster = m->cluster;
    next->birth_promised = true;
    next->birth_ended = false;
    next->birth_leader = m->leader.node;
    next->birth_source = m->source;
    next->registered = true;
    if (next->incarnations[next->node].number == 0)
        next->incarnations[next->node] = (struct incarnation){.number = number_known(in) + 1,
                                                              .nonce = in->nonce};
}

static void take_grant(const struct desired *m, struct durable *next)
{
    /* only data known to be complete may lead (I5), or the first leader of a birth that has not
     * ended */
    bool born = next->birth_promised && !next->birth_ended && next->birth_leader == next->node;

    if (next->grant.generation == m->generation || (!next->complete && !born))
        return;
    next->grant = (struct grant){.generation = m->generation,
                                 .proposer = m->proposer,
                                 .incarnation = next->incarnations[next->node],
                                 .spent = false};
    next->leader = m->leader;
    next->role = ROLE_LEADER;
    next->planned = false;
}

static enum agent_reason take_role(const struct inputs *in, struct durable *next, bool promise)
{
    const struct desired *m = in->message;
    bool known = next->leader.generation == next->promise.generation &&
                 next->leader.generation != 0;

    switch (m->role) {
    case ROLE_FENCED:
        if (promise) {
            next->promise = (struct promise){.generation = m->generation, .proposer = m->proposer};
            next->leader = (struct leadership){.node = NODE_NONE};
            next->role = ROLE_FENCED;
            next->planned = m->planned;
            if (m->birth)
                take_birth(in, next);
        } else if (!known) {
            next->role = ROLE_FENCED;
        }
        /* else: a late copy of the promise request; the generation has its leader by now */
        return m->birth ? AGENT_REASON_BIRTH : AGENT_REASON_PROMISE;
    case ROLE_LEADER: take_grant(m, next); return AGENT_REASON_GRANT;
    case ROLE_FOLLOWER:
        if (promise)
            next->promise = (struct promise){.generation = m->generation,
                                             .proposer = m->leader.proposer};
        next->leader = m->leader;
        next->role = ROLE_FOLLOWER;
        next->planned = false;
        return AGENT_REASON_ADOPT_FACT;
    default: return AGENT_REASON_WAIT;
    }
}

/* What was granted, all three had promised; and a later promise may have been a vote. */
static bool is_past_birth(const struct report *report, uint32_t generation)
{
    return report->birth_ended || report->promise.generation > generation ||
           report->leader.generation >= generation || report->grant.generation >= generation;
}

/* A birth concerns all three, so all three can be asked. A request that was delayed until this
 * machine's disk was lost would otherwise make it a member without its registering, as if it had
 * never promised anything. */
static bool birth_contradicted(const struct inputs *in)
{
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        const struct peer_input *p = &in->peers[peer];

        if (peer != in->durable->node &&
            (!p->known || !p->fresh || is_past_birth(p->report, in->message->generation)))
            return true;
    }
    return false;
}

/* Does it declare incarnations destroyed that were not known to be? */
static bool declares_destroyed(const struct desired *m, const struct durable *d)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (m->destroyed_number[slot] > d->void_number[slot])
            return true;
    return false;
}

/* The last message, if it is to be obeyed: what it changes is made durable before anything is done
 * about it. */
bool promise_admit(const struct inputs *in, struct step *step)
{
    const struct desired *m = in->message;
    struct durable next = *in->durable;
    struct standing standing;
    struct incarnation known[NODE_COUNT];
    enum agent_reason reason;
    enum verdict verdict;
    bool changed;

    if (!in->has_message)
        return false;
    durable_standing(in->durable, &standing);
    verdict = desired_admit(&standing, m);
    if (verdict != VERDICT_OBEY && verdict != VERDICT_PROMISE)
        return false;
    /* nor is a first leader that leads asked: another node may have ended that birth just now */
    if (verdict == VERDICT_PROMISE && m->birth && (birth_contradicted(in) || is_leader(in)))
        return false;
    /* it may be a first leader whose promotion is under way: data is not given up under a server */
    if (verdict == VERDICT_PROMISE && m->birth && is_running(in) && gives_up_data(m, in->durable))
        return choose_stop(in, step, AGENT_REASON_CLONE_STOP);
    reason = take_role(in, &next, verdict == VERDICT_PROMISE);
    if (declares_destroyed(m, in->durable))
        reason = AGENT_REASON_OVERRIDE;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        known[slot] = m->incarnations[slot];
    known[next.node] = next.incarnations[next.node];
    changed = merge_incarnations(&next, known, m->destroyed_number);
    if (m->job.id != 0 && m->job.id != next.job.id && m->job_after == next.job.id) {
        next.job = m->job;
        next.job_state = JOB_RUNNING;
        next.job_source = m->source;
        changed = true;
        reason = AGENT_REASON_JOB_ACCEPT;
    }
    changed |= !promise_equal(next.promise, in->durable->promise) ||
               next.role != in->durable->role ||
               !leadership_equal(&next.leader, &in->durable->leader) ||
               next.grant.generation != in->durable->grant.generation ||
               next.birth_promised != in->durable->birth_promised ||
               next.birth_leader != in->durable->birth_leader ||
               !cluster_id_equal(&next.cluster, &in->durable->cluster);
    return changed && choose_persist(step, &next, reason);
}
