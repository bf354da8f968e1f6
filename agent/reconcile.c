#include "agent/reconcile_internal.h"

#include <string.h>

#include "protocol/order.h"

/* --- choosing --- */

bool choose(struct step *step, enum step_kind kind, enum agent_reason reason)
{
    step->kind = kind;
    step->reason = reason;
    return true;
}

bool choose_wait(struct step *step, enum agent_reason reason, int64_t wake_ms)
{
    step->wake_ms = wake_ms;
    return choose(step, STEP_NONE, reason);
}

bool choose_persist(struct step *step, const struct durable *durable, enum agent_reason reason)
{
    step->durable = *durable;
    return choose(step, STEP_PERSIST, reason);
}

/* What is to be seen of a stopped directory before a start: a primary's trace, which a start erases
 * (WAL that nobody granted would look like a leader's afterwards); and, after a reboot, that the
 * volume is still what it was, as far as that can be read. */
static bool look_before_start(const struct inputs *in)
{
    bool found_down = in->pg == PG_DOWN && !in->job_stopped && !in->position_failing_ms;

    return (in->was_primary || found_down) && !position_known(in);
}

/* Every start is a standby's, with a configuration that waits for nobody it does not know. */
bool choose_start(const struct inputs *in, struct step *step, const struct replication *replication,
                  enum agent_reason reason)
{
    uint32_t doublings = in->failed_starts < START_BACKOFF_STEPS ? in->failed_starts
                                                                 : START_BACKOFF_STEPS;
    int64_t pause_ms = in->failed_starts ? (int64_t)in->options.start_backoff_ms << doublings : 0;

    if (in->now_ms - in->pg_since_ms < pause_ms)
        return choose_wait(step, reason, WAKE_SOON_MS);
    if (look_before_start(in))
        return choose(step, STEP_READ_POSITION, AGENT_REASON_READ_POSITION);
    if (disown_wal(in, step))
        return true;
    step->replication = *replication;
    return choose(step, STEP_START, reason);
}

/* Fast shutdown first; past its deadline everything that runs in the directory is killed. */
bool choose_stop(const struct inputs *in, struct step *step, enum agent_reason reason)
{
    if (in->pg == PG_STARTING)
        return choose(step, STEP_KILL, reason);
    if (in->pg != PG_STOPPING)
        return choose(step, STEP_STOP, reason);
    if (in->now_ms - in->pg_since_ms > in->options.stop_timeout_ms)
        return choose(step, STEP_KILL, AGENT_REASON_KILL_LEADER);
    return choose_wait(step, reason, WAKE_SOON_MS);
}

/* --- looking --- */

bool is_primary(const struct inputs *in)
{
    return in->pg == PG_UP && !in->in_recovery;
}

bool is_running(const struct inputs *in)
{
    return in->pg == PG_UP || in->pg == PG_STARTING || in->pg == PG_STOPPING;
}

bool is_leader(const struct inputs *in)
{
    const struct durable *d = in->durable;

    return is_primary(in) && d->role == ROLE_LEADER && d->grant.spent &&
           d->grant.generation == d->promise.generation && in->replication_known &&
           in->flushed.timeline == d->grant.generation && in->replication.names &&
           !in->names_violated && !superseded(in);
}

bool peer_of_cluster(const struct inputs *in, int32_t peer)
{
    const struct durable *d = in->durable;
    const struct peer_input *p = &in->peers[peer];
    uint32_t number;

    if (peer == d->node || !p->known || !p->fresh || p->report->node != peer ||
        !cluster_id_equal(&p->report->cluster, &d->cluster))
        return false;
    number = p->report->incarnations[peer].number;
    return number >= d->incarnations[peer].number && number > d->void_number[peer];
}

const struct report *leader_report(const struct inputs *in)
{
    const struct durable *d = in->durable;
    const struct report *report;

    if (d->leader.generation == 0 || d->leader.generation != d->promise.generation ||
        d->leader.node == d->node || d->leader.node < 0 || !peer_of_cluster(in, d->leader.node))
        return NULL;
    report = in->peers[d->leader.node].report;
    if (!report->leading || report->grant.generation != d->leader.generation ||
        !incarnation_equal(report->incarnations[d->leader.node], d->leader.incarnation))
        return NULL;
    return report;
}

bool data_is_foreign(const struct inputs *in)
{
    return in->data_foreign && (in->durable->data_id == 0 || in->durable->marker == MARKER_NONE);
}

bool data_usable(const struct durable *durable)
{
    return durable->marker == MARKER_NONE ? durable->complete : durable->marker_done;
}

/* Another machine has registered for this slot: this one is void for ever. */
bool superseded(const struct inputs *in)
{
    const struct durable *d = in->durable;
    struct incarnation self = d->incarnations[d->node];

    if (cluster_id_is_none(&d->cluster) || !d->registered)
        return false;
    if (self.number <= d->void_number[d->node] || self.number <= in->self_void ||
        !incarnation_equal(incarnation_later(self, in->self_known), self))
        return true;
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        struct incarnation known;

        if (!peer_of_cluster(in, peer))
            continue;
        known = in->peers[peer].report->incarnations[d->node];
        if (!incarnation_equal(incarnation_later(self, known), self))
            return true;
    }
    return false;
}

bool message_learn(struct inputs *in, const struct durable *durable, const struct desired *message)
{
    int32_t self = durable->node;
    struct incarnation known;

    if (cluster_id_is_none(&durable->cluster) || message->node != self ||
        message->protocol != PROTOCOL_VERSION ||
        !cluster_id_equal(&message->cluster, &durable->cluster))
        return false;
    known = incarnation_later(in->self_known, message->incarnations[self]);
    if (incarnation_equal(known, in->self_known) &&
        message->destroyed_number[self] <= in->self_void)
        return false;
    in->self_known = known;
    if (message->destroyed_number[self] > in->self_void)
        in->self_void = message->destroyed_number[self];
    return true;
}

/* --- replication as it ought to be
 * -------------------------------------------------------------------------------- */

/* Only a leader admits replication connections. From anybody else a node could get WAL of a
 * generation that it was not told of, and could not tell from WAL that nobody granted. */
static struct replication replication_base(const struct durable *durable, bool leads)
{
    struct replication r;

    memset(&r, 0, sizeof r);
    r.upstream = NODE_NONE;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if ((leads || slot == durable->node) &&
            durable->incarnations[slot].number > durable->void_number[slot])
            r.incarnations[slot] = durable->incarnations[slot];
    return r;
}

/* Until this agent knows durably that its birth has ended it neither counts anybody nor is counted:
 * if the one node that does know lost its disk, the birth could begin again over what was
 * acknowledged. */
static bool is_unborn(const struct durable *durable)
{
    return durable->birth_promised && !durable->birth_ended;
}

struct replication replication_locked(const struct durable *durable)
{
    return replication_base(durable, false);
}

struct replication replication_names(const struct durable *durable)
{
    struct replication r = replication_base(durable, true);

    r.generation = is_unborn(durable) ? FIRST_GENERATION - 1 : durable->grant.generation;
    r.names = true;
    return r;
}

struct replication replication_attached(const struct durable *durable)
{
    struct replication r = replication_base(durable, false);

    r.generation = durable->promise.generation;
    r.upstream = durable->leader.node;
    r.upstream_incarnation = durable->leader.incarnation;
    r.counted = durable->complete;
    if (is_unborn(durable))
        r.counted = false;
    return r;
}

bool replication_equal(const struct replication *a, const struct replication *b)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (!incarnation_equal(a->incarnations[slot], b->incarnations[slot]))
            return false;
    return a->upstream == b->upstream && a->generation == b->generation &&
           a->counted == b->counted && a->names == b->names &&
           (a->upstream == NODE_NONE ||
            incarnation_equal(a->upstream_incarnation, b->upstream_incarnation));
}

bool replication_ensure(const struct inputs *in, struct step *step, const struct replication *want,
                        enum agent_reason reason)
{
    bool written = in->replication_known && replication_equal(&in->replication, want);

    if (written && (in->replication_loaded || !is_running(in)))
        return false;
    step->replication = *want;
    return choose(step, STEP_REPLICATION, written ? AGENT_REASON_RELOAD : reason);
}

/* --- the one entry --- */

static bool role_none(const struct inputs *in, struct step *step)
{
    if (cluster_id_is_none(&in->durable->cluster))
        return choose_wait(step, AGENT_REASON_WAIT_BIRTH, WAKE_MS);
    if (is_running(in))
        return fence(in, step) || choose_wait(step, AGENT_REASON_WAIT, WAKE_MS);
    return choose_wait(step, AGENT_REASON_WAIT, WAKE_MS);
}

static bool stand_down(const struct inputs *in, struct step *step)
{
    struct replication locked = replication_locked(in->durable);

    if (!superseded(in))
        return false;
    if (is_running(in))
        return choose(step, STEP_KILL, AGENT_REASON_SUPERSEDED);
    return replication_ensure(in, step, &locked, AGENT_REASON_SUPERSEDED) ||
           choose_wait(step, AGENT_REASON_SUPERSEDED, WAKE_MS);
}

static bool by_role(const struct inputs *in, struct step *step)
{
    switch (in->durable->role) {
    case ROLE_FENCED: return role_fenced(in, step);
    case ROLE_LEADER: return role_leader(in, step);
    case ROLE_FOLLOWER: return role_follower(in, step);
    default: return role_none(in, step);
    }
}

static bool document_newer(const struct inputs *in, struct step *step)
{
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        if (!peer_of_cluster(in, peer) ||
            document_version_compare(in->peers[peer].report->document.version,
                                     in->durable->document.version) <= 0)
            continue;
        step->peer = peer;
        return choose(step, STEP_FETCH_DOCUMENT, AGENT_REASON_DOCUMENT_FETCH);
    }
    return false;
}

static bool document_apply_due(const struct inputs *in, struct step *step)
{
    if (document_version_compare(in->document_applied, in->durable->document.version) == 0)
        return false;
    return choose(step, STEP_APPLY_DOCUMENT, AGENT_REASON_DOCUMENT_APPLY);
}

void reconcile(const struct inputs *in, struct step *step)
{
    struct step later;

    memset(step, 0, sizeof *step);
    step->peer = NODE_NONE;
    step->wake_ms = WAKE_MS;
    if (self_fence(in, step))
        return;
    if (!in->looked) {
        choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
        return;
    }
    if (stand_down(in, step) || identity_learn(in, step) || identity_check_data(in, step) ||
        promise_admit(in, step) || identity_register(in, step) || identity_admit_peer(in, step) ||
        disown_primary(in, step) || child_results(in, step))
        return;
    by_role(in, step);
    if (step->kind != STEP_NONE)
        return;
    /* Only a node that has nothing better to do looks after the document. */
    later = *step;
    if (document_newer(in, &later) || (is_running(in) && document_apply_due(in, &later)))
        *step = later;
}

/* The position that was read is kept durably, and is not below what this data was known to hold:
 * a copy that was rolled back is found out by identity_check_data(), and until that is durable
 * it must not speak either. (What a rewind has cut off stands in the floor, and in the vote.) */
static bool floor_kept(const struct inputs *in)
{
    int order = position_compare(in->durable->floor, in->record_end);

    return order == 0 || (order > 0 && in->durable->marker == MARKER_REWIND);
}

void reconcile_standing(const struct inputs *in, struct standing_now *now)
{
    const struct durable *d = in->durable;

    memset(now, 0, sizeof *now);
    now->fenced = fence_shown(in);
    now->leading = is_leader(in);
    now->confirmed = now->leading &&
                     (in->now_ms - in->confirmed_ms <= in->options.fence_timeout_ms ||
                      leads_unopposed(in));
    if (d->role != ROLE_FENCED || !d->registered || superseded(in) || !now->fenced ||
        !position_known(in) || !data_usable(d) || !(d->complete || d->rewound) || !floor_kept(in))
        return;
    now->vote.valid = true;
    now->vote.promise = d->promise;
    now->vote.position = in->position;
    now->vote.replay_lsn = in->replay_lsn;
    now->vote.complete = d->complete;
    if (!d->complete && position_compare(now->vote.position, d->fork) < 0)
        now->vote.position = d->fork;
}

void durable_standing(const struct durable *durable, struct standing *standing)
{
    memset(standing, 0, sizeof *standing);
    standing->cluster = durable->cluster;
    standing->node = durable->node;
    standing->promise = durable->promise;
    standing->leader = durable->leader;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        standing->incarnations[slot] = durable->incarnations[slot];
        standing->void_number[slot] = durable->void_number[slot];
    }
    standing->registered = durable->registered;
    standing->birth_promised = durable->birth_promised;
    standing->birth_ended = durable->birth_ended;
}
