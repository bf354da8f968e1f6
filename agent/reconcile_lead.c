#include "agent/reconcile_internal.h"

#include "protocol/order.h"

static bool both_peers_higher(const struct inputs *in)
{
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        if (peer == in->durable->node)
            continue;
        if (!peer_of_cluster(in, peer) ||
            in->peers[peer].report->promise.generation <= in->durable->promise.generation)
            return false;
    }
    return true;
}

/* After an override nobody else can elect a leader while one of the others' slots is void: a
 * machine for it registers here first. Nobody is left to confirm this leader then, and nobody to
 * replace it. */
bool leads_unopposed(const struct inputs *in)
{
    const struct durable *d = in->durable;

    for (int32_t peer = 0; peer < NODE_COUNT; peer++)
        if (peer != d->node && declared_destroyed(d, peer))
            return true;
    return false;
}

/* Urgent: asked first, and by the shell also while another step hangs. A leader that cannot show
 * that somebody still stands with it stops, so that its clients do not wait on a quorum that has
 * moved on. */
bool self_fence(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;

    if (!is_primary(in) || d->document.maintenance || d->role != ROLE_LEADER)
        return false;
    if (!d->grant.spent || in->flushed.timeline > d->grant.generation)
        return choose(step, STEP_KILL, AGENT_REASON_NO_GRANT);
    if (in->names_violated)
        return choose(step, STEP_KILL, AGENT_REASON_NAMES_VIOLATED);
    if (both_peers_higher(in))
        return choose(step, STEP_KILL, AGENT_REASON_OVERTAKEN);
    if (in->now_ms - in->confirmed_ms > in->options.fence_timeout_ms && !leads_unopposed(in))
        return choose(step, STEP_KILL, AGENT_REASON_UNCONFIRMED);
    return false;
}

/* Runs initdb, or restores the snapshot that the birth names. */
static bool make_data(const struct inputs *in, struct step *step, bool restores)
{
    enum agent_reason reason = restores ? AGENT_REASON_RESTORE : AGENT_REASON_INITDB;
    int64_t pause_ms = restores ? RESTORE_BACKOFF_MS : CHILD_BACKOFF_MS;
    bool ours = in->child_data_id == in->durable->data_id;

    if (in->child_state == CHILD_FAILED && ours && in->now_ms - in->child_ended_ms < pause_ms)
        return choose_wait(step, reason, WAKE_SOON_MS);
    step->data_id = in->durable->data_id;
    step->source = in->durable->birth_source;
    return choose(step, restores ? STEP_CLONE : STEP_INITDB, reason);
}

/* Birth: the first leader, and only it, makes the data. */
static bool initialise(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    bool restores = !source_is_none(&d->birth_source);
    enum marker marker = restores ? MARKER_RESTORE : MARKER_INIT;
    struct durable next = *d;

    if (d->complete)
        return false;
    if (d->birth_ended || !d->birth_promised || d->birth_leader != d->node)
        return choose_wait(step, AGENT_REASON_WAIT_ELECTION, WAKE_MS);
    if (data_is_foreign(in))
        return choose_wait(step, AGENT_REASON_DATA_FOREIGN, WAKE_MS);
    if (is_running(in)) /* on data of an earlier birth */
        return choose_stop(in, step, AGENT_REASON_CLONE_STOP);
    if (d->marker != marker || d->data_id == 0) {
        next.marker = marker;
        next.marker_done = false;
        next.data_id = in->nonce;
        if (d->followed < d->birth_source.timeline)
            next.followed = d->birth_source
                                .timeline; /* its WAL comes with it, and is nobody's but ours */
        return choose_persist(step, &next,
                              restores ? AGENT_REASON_RESTORE_MARK : AGENT_REASON_INIT_MARK);
    }
    if (in->child_state == CHILD_RUNNING && in->child_data_id == d->data_id)
        return choose_wait(step, restores ? AGENT_REASON_RESTORE : AGENT_REASON_INITDB, WAKE_MS);
    if (in->child_state == CHILD_RUNNING) /* of an earlier birth */
        return choose(step, STEP_STOP_CHILD, AGENT_REASON_WAIT);
    if (in->data_present && in->data_id == d->data_id) {
        next.marker = MARKER_NONE;
        next.complete = true;
        return choose_persist(step, &next,
                              restores ? AGENT_REASON_RESTORE_DONE : AGENT_REASON_INIT_DONE);
    }
    return make_data(in, step, restores);
}

/* From a grant to a promotion: names first, then the spent grant, then and only then the promotion.
 */
static bool take_lead(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication locked = replication_locked(d);
    struct replication names = replication_names(d);
    struct durable next = *d;

    if (initialise(in, step))
        return true;
    if (is_primary(in) || in->pg == PG_STOPPING)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    if (!is_running(in))
        return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
    /* The names are only ever written once the fence was shown, and without the key no receiver
     * comes back. */
    if (!(in->replication_known && replication_equal(&in->replication, &names)) && fence(in, step))
        return true;
    if (!in->names_at_start)
        return choose_stop(in, step, AGENT_REASON_STOP_UNNAMED);
    if (replication_ensure(in, step, &names, AGENT_REASON_NAMES))
        return true;
    if (in->pg != PG_UP)
        return choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
    /* A server that was restarted since its vote may hold less: what had not reached the disk, or
     * a volume that was rolled back. identity_check_data() compares with the floor. */
    if (position_read(in, step) || disown_wal(in, step))
        return true;
    /* A snapshot may end on a later timeline than it began on: the promotion would take another id
     * than this generation's. A new birth begins above it. */
    if (in->record_end.timeline >= d->grant.generation)
        return choose_wait(step, AGENT_REASON_RESTORE_ABOVE, WAKE_MS);
    /* It would stand in the new timeline's history, and nobody has its segments: no standby could
     * come past it. A start clears it away. */
    if (in->newest_history > in->record_end.timeline)
        return choose_stop(in, step, AGENT_REASON_STOP_SET_OUT);
    if (!in->planted)
        return choose(step, STEP_PLANT, AGENT_REASON_PLANT);
    if (!in->names_shown)
        return choose(step, STEP_CHECK_NAMES, AGENT_REASON_CHECK_NAMES);
    next.grant.spent = true;
    next.followed = d->grant.generation;
    return choose_persist(step, &next, AGENT_REASON_SPEND);
}

static bool leader_job(const struct inputs *in, struct step *step)
{
    struct durable next = *in->durable;

    if (in->durable->job.id == 0 || in->durable->job_state != JOB_RUNNING)
        return false;
    if (in->durable->job.kind == JOB_RESTART && !in->job_stopped)
        return choose_stop(in, step, AGENT_REASON_JOB_RESTART);
    next.job_state = in->durable->job.kind == JOB_RESTART ? JOB_DONE : JOB_FAILED;
    return choose_persist(
        step, &next, next.job_state == JOB_DONE ? AGENT_REASON_JOB_DONE : AGENT_REASON_JOB_REFUSED);
}

static bool keep_lead(const struct inputs *in, struct step *step)
{
    struct replication names = replication_names(in->durable);

    if (replication_ensure(in, step, &names, AGENT_REASON_NAMES_CHANGED))
        return true;
    if (in->old_senders)
        return choose(step, STEP_END_OLD_SENDERS, AGENT_REASON_END_OLD_SENDERS);
    if (!in->roles_done)
        return choose(step, STEP_ROLES, AGENT_REASON_ROLES);
    if (!in->checkpointed && !in->checkpoint_running)
        return choose(step, STEP_CHECKPOINT, AGENT_REASON_CHECKPOINT_AFTER);
    return leader_job(in, step);
}

/* A spent grant is never used again: whatever stopped this leader, it stands for election like any
 * other node. */
static bool led_before(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication locked = replication_locked(d);

    /* after a restart in between the placeholders are gone: the promotion would take another
     * timeline id */
    if (in->due && in->pg == PG_UP && in->planted && in->names_shown)
        return choose(step, STEP_PROMOTE, AGENT_REASON_PROMOTE);
    if (!is_running(in)) {
        if (d->document.maintenance && in->pg == PG_CRASHED)
            return choose_wait(step, AGENT_REASON_WAIT_ELECTION, WAKE_MS);
        if (in->pg == PG_CRASHED && in->now_ms - in->pg_since_ms < CRASH_PAUSE_MS)
            return choose_wait(step, AGENT_REASON_WAIT_ELECTION, WAKE_SOON_MS);
        return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
    }
    if (in->job_stopped && d->job_state == JOB_RUNNING && d->job.kind == JOB_RESTART &&
        in->pg == PG_UP) {
        struct durable next = *d;

        next.job_state = JOB_DONE;
        return choose_persist(step, &next, AGENT_REASON_JOB_DONE);
    }
    /* A promotion in progress must not be disturbed: it still shows as recovery. */
    return choose_wait(step, AGENT_REASON_WAIT_ELECTION, WAKE_MS);
}

bool role_leader(const struct inputs *in, struct step *step)
{
    if (!in->durable->grant.spent)
        return take_lead(in, step);
    if (is_primary(in))
        return keep_lead(in, step);
    if (in->pg == PG_STOPPING)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    return led_before(in, step);
}

bool discard_permitted(const struct inputs *in, int32_t node, uint32_t generation,
                       int32_t outstanding)
{
    int32_t self = in->durable->node;
    int32_t other = NODE_COUNT - self - node; /* the slots add up to 0+1+2 */
    const struct report *report;

    if (node == self || node < 0 || node >= NODE_COUNT || !is_leader(in) ||
        in->durable->promise.generation != generation)
        return false;
    if (outstanding == other || !peer_of_cluster(in, other))
        return false;
    report = in->peers[other].report;
    return report->complete && report->registered && report->promise.generation == generation &&
           report->role == ROLE_FOLLOWER && report->pg == PG_UP;
}
