#include "agent/reconcile_internal.h"

#include "protocol/order.h"

/* Two locks (design, "Fencing a standby"): without the key no new receiver can authenticate, and
 * the ones that existed are gone from the process table. A stopped server with the key taken away
 * is fenced as well. */
bool fence_shown(const struct inputs *in)
{
    if (!in->replication_known || in->replication.upstream != NODE_NONE)
        return false;
    if (!is_running(in))
        return true;
    return in->pg == PG_UP && in->in_recovery && in->replication_loaded && !in->receivers;
}

/* A checkpoint before the stop makes the stop short. Nobody leads meanwhile, so it gets only so
 * much time; what it has written by then is written. */
static bool fence_leader(const struct inputs *in, struct step *step)
{
    int64_t left_ms = in->options.checkpoint_timeout_ms - (in->now_ms - in->checkpoint_since_ms);

    if (!in->durable->planned || in->durable->role != ROLE_FENCED || in->checkpointed)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    if (!in->checkpoint_running)
        return choose(step, STEP_CHECKPOINT, AGENT_REASON_CHECKPOINT_FIRST);
    if (left_ms <= 0)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    return choose_wait(step, AGENT_REASON_CHECKPOINT_FIRST, left_ms < WAKE_MS ? left_ms : WAKE_MS);
}

/* Brings about what fence_shown() asks for; false once it holds. */
bool fence(const struct inputs *in, struct step *step)
{
    struct replication locked = replication_locked(in->durable);
    int64_t locked_for_ms = in->now_ms - in->replication_since_ms;

    if (is_primary(in))
        return fence_leader(in, step);
    if (in->pg == PG_STOPPING)
        return choose_stop(in, step, AGENT_REASON_STOP_LEADER);
    if (replication_ensure(in, step, &locked, AGENT_REASON_LOCK_KEY))
        return true;
    if (in->pg == PG_STARTING) {
        /* A rewound copy may need its leader's WAL before it accepts connections at all.
         * Stopped, it can be read. */
        if (!in->durable->complete &&
            in->now_ms - in->pg_since_ms > in->options.position_timeout_ms)
            return choose(step, STEP_STOP, AGENT_REASON_STOP_TO_READ);
        return choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
    }
    if (in->pg == PG_UP && in->receivers) {
        if (locked_for_ms < in->options.receiver_timeout_ms)
            return choose(step, STEP_END_RECEIVERS, AGENT_REASON_END_RECEIVER);
        if (locked_for_ms < 2 * (int64_t)in->options.receiver_timeout_ms)
            return choose(step, STEP_KILL_RECEIVERS, AGENT_REASON_KILL_RECEIVER);
        return choose(step, STEP_KILL, AGENT_REASON_STOP_UNPROVEN);
    }
    return false;
}

bool position_known(const struct inputs *in)
{
    return in->position_valid && promise_equal(in->position_promise, in->durable->promise);
}

/* Gets a position read for the present promise; only called once the fence is shown. False once it
 * is known. */
bool position_read(const struct inputs *in, struct step *step)
{
    struct replication locked = replication_locked(in->durable);

    if (position_known(in))
        return false;
    /* A copy that is not complete may crash at every start, for want of WAL that nobody has any
     * more: what it needs is read from it as it lies. */
    if (in->pg == PG_CRASHED && (in->durable->complete || in->position_failing_ms)) {
        if (in->now_ms - in->pg_since_ms < CRASH_PAUSE_MS)
            return choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
        return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
    }
    if (in->pg == PG_UP && in->position_failing_ms) {
        if (!in->replay_unblocked)
            return choose(step, STEP_UNBLOCK_REPLAY, AGENT_REASON_UNBLOCK_REPLAY);
        if (in->now_ms - in->position_failing_ms > in->options.position_timeout_ms)
            return choose_stop(in, step, AGENT_REASON_STOP_TO_READ);
    }
    return choose(step, STEP_READ_POSITION, AGENT_REASON_READ_POSITION);
}

static bool disown(const struct inputs *in, struct step *step)
{
    struct durable next = *in->durable;

    next.complete = next.rewound = false;
    next.marker = MARKER_CLONE;
    next.marker_done = false;
    next.data_id = in->nonce;
    next.floor = (struct position){0};
    return choose_persist(step, &next, AGENT_REASON_NO_GRANT);
}

/* May this node have led that timeline? It is its last grant's, if that is spent; or an earlier
 * one's: then it has voted since, with that leader's WAL, and the floor says so. Somebody's
 * promotion takes an id above that of all WAL that it voted with. (Until a birth has ended there is
 * only the first leader's WAL, and that of the snapshot that it began with.) */
static bool may_have_led(const struct durable *d, uint32_t timeline)
{
    if (timeline > d->grant.generation)
        return false;
    if (!d->birth_ended)
        return timeline <= d->followed;
    return timeline <= d->floor.timeline || (d->grant.spent && timeline == d->grant.generation);
}

/* WAL that this node itself wrote as a primary, on a timeline that it was not granted: somebody's
 * pg_promote(). It may bear the id of a generation that others granted meanwhile, even of the one
 * that this node follows, so no history may be compared with it and no vote rest on it: the copy is
 * given up. (A follower that merely has WAL of a generation it was not told of is another matter:
 * its leader was elected once more.) */
bool disown_wal(const struct inputs *in, struct step *step)
{
    if (!in->was_primary || in->record_end.timeline < FIRST_GENERATION ||
        may_have_led(in->durable, in->record_end.timeline) || !data_usable(in->durable))
        return false;
    return disown(in, step);
}

/* The same, seen while that primary runs: its own spent grant is all that makes one, and its
 * timeline is that generation. On a lower one somebody was faster than the agent: no follower would
 * ever find its leader's timeline here. */
bool disown_primary(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct replication locked = replication_locked(d);

    if (!is_primary(in) || (d->grant.spent && in->flushed.timeline == d->grant.generation))
        return false;
    if (data_usable(d))
        return disown(in, step);
    /* in maintenance it is left alone, but it never counts again, and nobody waits for it */
    if (d->document.maintenance)
        return replication_ensure(in, step, &locked, AGENT_REASON_NO_GRANT) ||
               choose_wait(step, AGENT_REASON_NO_GRANT, WAKE_MS);
    return choose(step, STEP_KILL, AGENT_REASON_NO_GRANT);
}

bool role_fenced(const struct inputs *in, struct step *step)
{
    const struct durable *d = in->durable;
    struct durable next = *d;

    if (!data_usable(d)) {
        if (is_running(in))
            return choose_stop(in, step, AGENT_REASON_CLONE_STOP);
        return choose_wait(step, AGENT_REASON_WAIT, WAKE_MS);
    }
    if (fence(in, step))
        return true;
    if (!d->complete && !d->rewound)
        return choose_wait(step, AGENT_REASON_WAIT, WAKE_MS);
    if (position_read(in, step))
        return true;
    if (disown_wal(in, step))
        return true;
    /* the floor is a whole record: the flushed end may lie inside one that a restart drops */
    if (position_compare(d->floor, in->record_end) < 0) {
        next.floor = in->record_end;
        return choose_persist(step, &next, AGENT_REASON_FLOOR);
    }
    /* The vote is out. A server that was stopped to give it comes back by itself if nobody wants it
     * otherwise. */
    if (!is_running(in)) {
        struct replication locked = replication_locked(d);

        if (in->now_ms - in->pg_since_ms < 2 * WAKE_MS)
            return choose_wait(step, AGENT_REASON_WAIT, WAKE_SOON_MS);
        return choose_start(in, step, &locked, AGENT_REASON_START_FENCED);
    }
    return choose_wait(step, AGENT_REASON_SETTLED, WAKE_MS);
}
