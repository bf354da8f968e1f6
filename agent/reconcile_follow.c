#include "agent/reconcile_internal.h"

#include "protocol/order.h"

/* --- complete data --- */

/* Did the leader read its insert LSN after this node attached, and after the step that made the
 * copy had ended? The report was put together after it was asked for, from a sample of then or
 * earlier. */
static bool target_is_new(const struct inputs *in, const struct report *leader)
{
    const struct peer_input *peer = &in->peers[in->durable->leader.node];
    int64_t read_ms = peer->asked_ms - (int64_t)leader->sampled_age_ms;

    return read_ms > in->replication_since_ms && read_ms > in->child_ended_ms;
}

/* After a clone or rewind: complete once it has flushed past an insert LSN that the leader of this
 * very generation read, and reported, after it attached. */
static bool become_complete(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    const struct report *leader = leader_report(in);
    struct durable next = *d;

    if (d->complete || !d->marker_done || in->pg != PG_UP || !in->streaming)
        return false;
    if (d->complete_target.timeline != d->promise.generation) {
        if (!leader || !target_is_new(in, leader))
            return choose_wait(step, AGENT_REASON_TARGET, WAKE_SOON_MS);
        next.complete_target = (struct position){.timeline = d->promise.generation,
                                                 .lsn = leader->write_lsn};
        return choose_persist(step, &next, AGENT_REASON_TARGET);
    }
    if (position_compare(in->flushed, d->complete_target) < 0)
        return choose_wait(step, AGENT_REASON_TARGET, WAKE_SOON_MS);
    next.complete = true;
    next.rewound = next.whole_before_rewind = next.marker_done = false;
    next.marker = MARKER_NONE;
    next.complete_target = next.fork = (struct position){0};
    next.birth_ended = true;
    return choose_persist(step, &next, AGENT_REASON_COMPLETE);
}

/* Marked by this run and not begun, and still the same leader's: it may begin. */
static bool rewind_due(const struct inputs *in)
{
    return in->due && in->durable->rewind_tried == in->durable->promise.generation;
}

/* --- children --- */

/* What a clone or rewind came to is recorded in every role: a rewound node may be needed for an
 * election. */
bool child_results(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct durable next = *d;
    bool whole = in->data_present && in->data_id == d->data_id && d->data_id != 0;

    if (d->marker_done || in->child_state == CHILD_RUNNING)
        return false;
    if (d->marker == MARKER_REWIND && !rewind_due(in)) {
        if (whole) {
            next.marker_done = true;
            next.rewound = d->whole_before_rewind;
            return choose_persist(step, &next, AGENT_REASON_REWIND_DONE);
        }
        next.marker = MARKER_CLONE;
        next.data_id = in->nonce;
        return choose_persist(step, &next, AGENT_REASON_REWIND_FAILED);
    }
    if (d->marker == MARKER_CLONE && whole) {
        next.marker_done = true;
        return choose_persist(step, &next, AGENT_REASON_CLONE_DONE);
    }
    return false;
}

/* Right after a promotion a leader may still tell the history it had before: without its own
 * timeline, and so without the fork. */
static bool history_is_told(const struct report *leader)
{
    const struct lineage *lineage = &leader->lineage;

    return lineage->count > 0 && lineage->count <= LINEAGE_MAX &&
           lineage->begin[lineage->count - 1].timeline == leader->grant.generation;
}

/* An operator wants this node cloned from a snapshot. It is over with the copy, also where that is
 * of no use. */
static bool from_snapshot(const struct durable *d)
{
    return d->job.kind == JOB_REINIT && d->job_state == JOB_RUNNING &&
           !source_is_none(&d->job_source);
}

/* May this node be cloned from that snapshot? Whatever it holds, it counts only past what its
 * leader had when it attached; but it has to be the beginning of what the leader has, and the
 * leader must still have what follows. AGENT_REASON_CLONE_RESTORE, or what speaks against it. */
static enum agent_reason judge_snapshot(const struct inputs *in, const struct report *leader)
{
    const struct snapshot_source *source = &in->durable->job_source;
    struct position end = {.timeline = source->timeline, .lsn = source->stop_lsn};

    if (in->child == CHILD_RESTORE && in->child_state == CHILD_FAILED &&
        in->child_data_id == in->durable->data_id)
        return AGENT_REASON_SNAPSHOT_FAILED;
    if (source->system_id != leader->system_id || !lineage_holds(&leader->lineage, end))
        return AGENT_REASON_SNAPSHOT_FOREIGN;
    return leader->oldest_lsn > source->stop_lsn ? AGENT_REASON_SNAPSHOT_OLD
                                                 : AGENT_REASON_CLONE_RESTORE;
}

/* A child is at work on the directory: waited for, unless it makes something else of it than what
 * is wanted now. */
static bool await_copy(const struct inputs *in, struct step *step)
{
    bool restores = from_snapshot(in->durable);

    if (in->child_state != CHILD_RUNNING)
        return false;
    if (in->child != (restores ? CHILD_RESTORE : CHILD_CLONE))
        return choose(step, STEP_STOP_CHILD, AGENT_REASON_WAIT);
    return choose_wait(step, restores ? AGENT_REASON_CLONE_RESTORE : AGENT_REASON_CLONE, WAKE_MS);
}

/* The leave rests on the other follower's data. This node may have heard of their loss before the
 * leader has. */
static bool other_has_none(const struct inputs *in)
{
    const struct peer_input
        *other = &in->peers[NODE_COUNT - in->durable->node - in->durable->leader.node]; /* 0+1+2 */

    return other->known && other->fresh && !other->report->complete;
}

static bool clone(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication locked = replication_locked(d);
    enum agent_reason way = AGENT_REASON_CLONE;
    struct durable next = *d;

    if (await_copy(in, step))
        return true;
    if (data_is_foreign(in))
        return choose_wait(step, AGENT_REASON_DATA_FOREIGN, WAKE_MS);
    if (!leader_report(in) || (from_snapshot(d) && !history_is_told(leader_report(in))))
        return choose_wait(step, AGENT_REASON_WAIT_LEADER, WAKE_MS);
    if (from_snapshot(d))
        way = judge_snapshot(in, leader_report(in));
    if (way != AGENT_REASON_CLONE && way != AGENT_REASON_CLONE_RESTORE) {
        next.job_source = (struct snapshot_source){.id = ""};
        return choose_persist(step, &next, way);
    }
    /* what counts for the quorum is given up only with the leader's leave, one node at a time */
    if ((d->complete || d->rewound) && (!in->discard_allowed || other_has_none(in))) {
        /* no primary meanwhile: the machine whose data the leave waits for may have to register
         * here, and no primary but the leader can answer it */
        if (is_primary(in))
            return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
        /* up meanwhile: the leave that the other follower may need rests on this one's data; but
         * what was a primary is not started unread */
        if (!is_running(in) && d->complete && !(in->was_primary && in->position_failing_ms))
            return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
        return choose(step, STEP_ASK_DISCARD, AGENT_REASON_CLONE_ASK);
    }
    if (d->marker != MARKER_CLONE || d->data_id == 0 || d->marker_done ||
        d->followed < d->promise.generation) {
        next.followed = d->promise.generation; /* that leader's WAL comes with the copy */
        next.marker = MARKER_CLONE;
        next.marker_done = next.complete = next.rewound = next.whole_before_rewind = false;
        next.data_id = in->nonce;
        next.floor = next.fork = next.complete_target = (struct position){0};
        return choose_persist(step, &next, AGENT_REASON_CLONE_MARK);
    }
    if (is_running(in))
        return choose_stop(in, step, AGENT_REASON_CLONE_STOP);
    if (in->child_state == CHILD_FAILED && in->child != CHILD_RESTORE &&
        way == AGENT_REASON_CLONE && in->now_ms - in->child_ended_ms < CHILD_BACKOFF_MS)
        return choose_wait(step, AGENT_REASON_CLONE_FAILED, WAKE_SOON_MS);
    if (way == AGENT_REASON_CLONE_RESTORE) {
        /* It was attached, maybe, and would be again. But what a snapshot really holds has not been
         * compared with what the leader has: see join(). */
        if (replication_ensure(in, step, &locked, AGENT_REASON_LOCK_KEY))
            return true;
        step->source = d->job_source;
    }
    step->data_id = d->data_id;
    return choose(step, STEP_CLONE, way);
}

/* Tried once per need: the marker is durable before it begins, and after a restart a marked one is
 * not begun again. */
static bool rewind_to_leader(const struct inputs *in, struct step *step, struct position fork)
{
    const struct durable *d = in->durable;
    struct replication locked = replication_locked(d);
    struct durable next = *d;

    if (!leader_report(in)->checkpointed)
        return choose_wait(step, AGENT_REASON_WAIT_CHECKPOINT, WAKE_SOON_MS);
    if (is_running(in))
        return choose_stop(in, step, AGENT_REASON_REWIND_STOP);
    if (!in->pg_clean)
        return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
    next.marker = MARKER_REWIND;
    next.marker_done = false;
    next.data_id = in->nonce;
    next.whole_before_rewind = d->complete || d->rewound;
    next.complete = next.rewound = false;
    next.complete_target = (struct position){0};
    next.fork = next.floor = fork;
    next.rewind_tried = next.followed = d->promise.generation;
    return choose_persist(step, &next, AGENT_REASON_REWIND_MARK);
}

/* --- attaching --- */

static bool attach(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication want = replication_attached(d);
    enum agent_reason reason = d->complete ? AGENT_REASON_ATTACH : AGENT_REASON_ATTACH_UNCOUNTED;
    struct durable next = *d;

    if (d->followed < d->promise.generation) {
        next.followed = d->promise.generation;
        return choose_persist(step, &next, AGENT_REASON_FOLLOWED);
    }
    if (!is_running(in))
        return choose_start(in, step, &want, reason);
    return replication_ensure(in, step, &want, reason);
}

/* A standby that learnt of a timeline sets out for it before it has any of its WAL, and then
 * follows nobody who does not have it. Only a start changes its mind: history files that are ahead
 * of the WAL are removed then. */
static bool set_out_elsewhere(const struct inputs *in, const struct lineage *leader)
{
    if (!is_running(in) || in->newest_history <= in->record_end.timeline)
        return false;
    for (uint32_t i = 0; i < leader->count; i++)
        if (leader->begin[i].timeline == in->newest_history)
            return false;
    return true;
}

/* A rewind copies pages from a server that goes on writing. What it copied is of use only with WAL
 * up to where that server was by then; another leader may not have that. */
static bool can_become_consistent(const struct inputs *in, const struct lineage *leader)
{
    struct position need = in->consistent;

    return need.timeline == 0 || lineage_holds(leader, need) ||
           (need.lsn <= in->record_end.lsn && lineage_holds(&in->lineage, need));
}

/* A rewind leaves the WAL that its source had, and recovery may have to begin before that. */
static bool copy_is_unreadable(const struct inputs *in)
{
    return !in->durable->complete && in->pg == PG_DOWN && in->position_failing_ms &&
           in->position_unreadable &&
           in->now_ms - in->position_failing_ms > in->options.position_timeout_ms;
}

/* What is missing here is nowhere any more: the reason to ask for leave. */
static bool clone_for_wal(const struct inputs *in, struct step *step)
{
    bool chosen = clone(in, step);

    if (step->kind == STEP_ASK_DISCARD)
        step->reason = AGENT_REASON_WAL_GONE;
    return chosen;
}

/* Compares the history of the WAL that is there with the leader's, and goes the way it says. */
static bool join(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    const struct report *leader;
    struct position fork;

    if (fence(in, step))
        return true;
    if (copy_is_unreadable(in))
        return clone(in, step);
    if (position_read(in, step) || disown_wal(in, step))
        return true;
    leader = leader_report(in);
    if (!leader || !history_is_told(leader))
        return choose_wait(step, AGENT_REASON_WAIT_LEADER, WAKE_MS);
    if (!can_become_consistent(in, &leader->lineage))
        return clone(in, step);
    switch (lineage_fork(&in->lineage, in->record_end, &leader->lineage, &fork)) {
    case FORK_PREFIX:
        if (leader->oldest_lsn > in->record_end.lsn)
            return clone_for_wal(in, step);
        if (set_out_elsewhere(in, &leader->lineage))
            return choose_stop(in, step, AGENT_REASON_ATTACH_STOP);
        return attach(in, step);
    case FORK_DIVERGED:
        if (d->rewind_tried == d->promise.generation || d->marker == MARKER_CLONE)
            return clone(in, step);
        return rewind_to_leader(in, step, fork);
    default: return clone(in, step);
    }
}

static bool follower_job(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct durable next = *d;

    if (d->job.id == 0 || d->job_state != JOB_RUNNING)
        return false;
    next.job_state = JOB_DONE;
    if (d->job.kind == JOB_RESTART) {
        if (!in->job_stopped)
            return choose_stop(in, step, AGENT_REASON_JOB_RESTART);
        return in->pg == PG_UP && choose_persist(step, &next, AGENT_REASON_JOB_DONE);
    }
    /* reinit: a clone that began after the job did; complete or not, the old data is gone by then
     */
    if (d->complete || d->rewound)
        return clone(in, step);
    if (d->marker_done)
        return choose_persist(step, &next, AGENT_REASON_JOB_DONE);
    return false;
}

/* A rewound copy that still starts up needs WAL that its leader may meanwhile have removed. Only a
 * look at where its own ends tells; what is known of that may be old, so it is not the last word.
 */
static bool starts_in_vain(const struct inputs *in, const struct report *leader)
{
    return in->pg == PG_STARTING && !in->durable->complete && leader &&
           leader->oldest_lsn > in->record_end.lsn &&
           in->now_ms - in->replication_since_ms > in->options.recheck_timeout_ms;
}

/* Attached in this generation: keep it running, make it complete, keep its name and access rules
 * right. */
static bool stay_attached(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication want = replication_attached(d);
    struct replication locked = replication_locked(d);
    const struct report *leader = leader_report(in);

    if (in->pg == PG_STOPPING)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    if (!is_running(in)) {
        if (d->document.maintenance && in->pg == PG_CRASHED)
            return choose_wait(step, AGENT_REASON_WAIT, WAKE_MS);
        /* After a reboot: is the volume still what it was? Once it has streamed again, nothing
         * would show that it lacks what it had acknowledged. */
        if ((in->was_primary || (in->pg == PG_DOWN && !in->job_stopped)) &&
            (position_read(in, step) || disown_wal(in, step)))
            return true;
        return choose_start(in, step, &want, AGENT_REASON_RESTART_STANDBY);
    }
    if (starts_in_vain(in, leader) && !d->document.maintenance)
        return replication_ensure(in, step, &locked, AGENT_REASON_RECHECK);
    if (in->pg != PG_UP)
        return choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
    if (replication_ensure(in, step, &want, AGENT_REASON_COUNTED))
        return true;
    if (in->not_streaming_since_ms && leader && !d->document.maintenance &&
        in->now_ms - in->not_streaming_since_ms > in->options.recheck_timeout_ms &&
        in->now_ms - in->replication_since_ms > in->options.recheck_timeout_ms)
        return replication_ensure(in, step, &locked, AGENT_REASON_RECHECK);
    return become_complete(in, step);
}

static bool attached(const struct inputs *in)
{
    struct replication want = replication_attached(in->durable);

    return in->replication_known && in->replication.upstream == want.upstream &&
           in->replication.generation == want.generation &&
           incarnation_equal(in->replication.upstream_incarnation, want.upstream_incarnation);
}

bool role_follower(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;

    if (!data_usable(d)) {
        if (d->marker == MARKER_REWIND) {
            step->data_id = d->data_id;
            if (rewind_due(in) && leader_report(in))
                return choose(step, STEP_REWIND, AGENT_REASON_REWIND);
            return choose_wait(step, AGENT_REASON_REWIND, WAKE_MS);
        }
        return clone(in, step);
    }
    if (d->document.fenced[d->node]) {
        struct replication locked = replication_locked(d);

        if (fence(in, step))
            return true;
        if (!is_running(in) && d->complete)
            return choose_start(in, step, &locked, AGENT_REASON_OPERATOR_FENCE);
        return choose_wait(step, AGENT_REASON_OPERATOR_FENCE, WAKE_MS);
    }
    if (follower_job(in, step))
        return true;
    if (attached(in) && !is_primary(in))
        return stay_attached(in, step);
    return join(in, step);
}
