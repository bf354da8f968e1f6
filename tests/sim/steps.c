/*
 * What each step does to the machine (its effect), and what the shell makes of it afterwards
 * (mirrors agent/steps*.c and agent/apply.c). A step takes its time, may fail before or after its
 * effect, and is lost with an agent that dies in it.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum { NAMES_SETTLE_MS = 2000, PROMOTE_MS = 5000, BURST_MS = 2000 };

static int64_t duration(const struct machine *m, enum step_kind kind)
{
    if ((m->slow || (int)(m - world.machines) == world.busy) && happens(600))
        return between(20, 900);
    if (happens(world.slow) && happens(300))
        return between(50, 1500);
    switch (kind) {
    case STEP_PERSIST: return between(1, 3);
    case STEP_CHECKPOINT: return between(5, 400);
    case STEP_START: return between(5, 40);
    case STEP_READ_POSITION: return between(1, 20);
    case STEP_ROLES: return between(2, 40);
    default: return between(0, 8);
    }
}

static void post_run(int64_t in_ms, enum event_kind kind, int index, int which, uint32_t number)
{
    post_event(in_ms, (struct event){.kind = kind,
                                     .a = index,
                                     .b = which,
                                     .number = number,
                                     .life = world.endpoints[index].life});
}

void step_dispatch(int index, int which, const struct step *step)
{
    struct machine *m = &world.machines[index];
    struct run *run = &m->runs[which];

    memset(run, 0, sizeof *run);
    run->active = true;
    run->number = ++world.number;
    run->step = *step;
    run->durable = m->durable;
    run->life = m->pm_life;
    run->had_server = m->pm_life != 0;
    run->pg = m->in.pg;
    run->in_recovery = m->in.in_recovery;
    run->end = m->in.record_end;
    run->fails = happens(world.step_failures);
    run->fails_late = run->fails && happens(500);
    if (happens(world.sting))
        post(between(0, 12), EVENT_STING, index, 0);
    post_run(duration(m, step->kind), EVENT_EFFECT, index, which, run->number);
}

/* --- effects --- */

/* The server that the agent had in mind still runs. */
static bool same_server(const struct machine *m, const struct run *run)
{
    return run->had_server && m->server.running && m->server.life == run->life;
}

static bool effect_conf(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    m->disk.conf = run->step.replication;
    m->disk.conf_digest++;
    m->disk.conf_written = true;
    /* half-way: the key is taken first and given last */
    if (m->full || (run->fails && !run->fails_late)) {
        m->disk.conf.upstream = NODE_NONE;
        return false;
    }
    return true;
}

static bool effect_replication(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    if (!effect_conf(index, run))
        return false;
    if (same_server(m, run) && (m->server.reload_ms == 0)) {
        m->server.reload_ms = world.now_ms + (happens(950) ? between(1, 8) : between(10, 400));
        server_poke(index, m->server.reload_ms - world.now_ms);
    }
    run->receivers = run->had_server && server_receivers(m);
    return true;
}

static void clean_histories(struct disk *disk)
{
    uint32_t above = wal_position(&disk->wal, record_end(disk->wal.written)).timeline;

    for (uint32_t t = above + 1; t < TIMELINES_MAX; t++)
        if (t % 64 == 0 && disk->histories[t / 64] == 0)
            t += 63;
        else
            history_set(disk, t, false);
}

static bool effect_start(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    if (m->server.running)
        return false;
    if (m->server.remains)
        server_kill(index, false);
    if (!effect_conf(index, run) || !m->disk.present)
        return false;
    clean_histories(&m->disk);
    if (!server_start(index, &m->disk.conf))
        return false;
    run->new_life = m->server.life;
    return true;
}

static bool effect_read_position(int index, struct run *run)
{
    struct machine *m = &world.machines[index];
    const struct wal *wal = &m->disk.wal;

    run->replay_lsn = run->had_server ? m->server.applied : record_end(wal->written);
    if (!run->had_server) {
        if (!m->disk.present || m->disk.torn || m->disk.headless || m->server.running)
            return false;
        m->disk.wal.flushed = m->disk.wal.written; /* syncfs() */
        run->position = run->end = wal_position(wal, record_end(wal->written));
        run->consistent = (struct position){
            world.branches[branch_at(m->disk.consistent_branch, m->disk.consistent_at)].timeline,
            m->disk.consistent_at};
    } else {
        if (!same_server(m, run) || m->server.frozen || m->server.starting || m->server.stopping ||
            m->server.primary || m->server.replay_held || m->server.reload_ms ||
            m->server.applied != record_end(wal->written))
            return false;
        run->end = wal_position(wal, record_end(wal->written));
        run->newest_history = world.branches[m->server.bound].timeline;
        run->position = (struct position){
            run->end.timeline, wal->flushed > run->end.lsn ? wal->flushed : run->end.lsn};
    }
    wal_lineage(branch_at(wal->branch, run->end.lsn), &run->lineage);
    return true;
}

static enum child clone_kind(const struct step *step)
{
    return source_is_none(&step->source) ? CHILD_CLONE : CHILD_RESTORE;
}

static bool effect_child(int index, struct run *run, enum child kind)
{
    struct machine *m = &world.machines[index];

    if (m->server.running || m->server.remains)
        return false;
    m->child = kind;
    m->child_data_id = run->step.data_id;
    m->child_from = run->step.source;
    m->child_source = kind == CHILD_INITDB || kind == CHILD_RESTORE
                          ? NOBODY
                          : world.endpoints[index].route[run->durable.leader.node];
    m->child_number = ++world.number;
    m->disk.torn = true;
    if (kind != CHILD_REWIND) {
        m->disk.present = false;
        m->disk.data_id = 0;
    }
    post_event(kind == CHILD_INITDB ? between(100, 800) : between(100, happens(800) ? 600 : 5000),
               (struct event){.kind = EVENT_CHILD,
                              .a = index,
                              .number = m->child_number,
                              .life = world.endpoints[index].life});
    return true;
}

static bool effect_plant(int index, struct run *run)
{
    struct disk *disk = &world.machines[index].disk;

    if (world.machines[index].full)
        return false;
    for (uint32_t t = run->end.timeline + 1; t < run->durable.grant.generation; t++)
        history_set(disk, t, true);
    return true;
}

static bool effect_promote(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    if (!same_server(m, run) || m->server.starting || m->server.frozen || m->server.primary ||
        m->server.stopping)
        return false;
    m->server.promoting = true;
    server_poke(index, 1);
    run->deadline_ms = own_clock(m) + PROMOTE_MS;
    return true;
}

static bool effect_end_old_senders(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    if (!same_server(m, run) || m->server.frozen)
        return false;
    for (int i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &world.conns[i];

        if (c->used && c->leader == index &&
            c->incarnation < run->durable.incarnations[world.machines[c->standby].slot].number)
            c->sender_alive = false;
    }
    conns_poke(index);
    return true;
}

static bool effect_persist(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    /* two slots in turn: until it is synced a power cut leaves this record or the one before */
    if (run->step.reason == AGENT_REASON_CLONE_MARK && (m->durable.complete || m->durable.rewound))
        check_discard(index);
    m->disk.cached = run->step.durable;
    m->disk.unsynced = true;
    return true;
}

static bool effect_sql(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    return same_server(m, run) && !m->server.frozen && !m->server.starting && !m->server.stopping;
}

static bool effect(int index, struct run *run)
{
    struct machine *m = &world.machines[index];

    switch (run->step.kind) {
    case STEP_PERSIST: return effect_persist(index, run);
    case STEP_REPLICATION: return effect_replication(index, run);
    case STEP_END_RECEIVERS:
    case STEP_KILL_RECEIVERS:
        run->deadline_ms = own_clock(m) + m->in.options.receiver_timeout_ms;
        return true;
    case STEP_CHECKPOINT:
        if (!effect_sql(index, run))
            return false;
        m->server.checkpointed = m->server.primary;
        return true;
    case STEP_STOP:
        if (run->had_server && m->server.life == run->life)
            server_stop(index);
        return true;
    case STEP_KILL: server_kill(index, false); return true;
    case STEP_START: return effect_start(index, run);
    case STEP_READ_POSITION: return effect_read_position(index, run);
    case STEP_UNBLOCK_REPLAY:
        m->server.replay_held = m->server.replay_held && happens(200);
        server_poke(index, 1);
        return effect_sql(index, run);
    case STEP_PLANT: return effect_plant(index, run);
    case STEP_CHECK_NAMES:
        run->names_shown = m->disk.conf.names == m->server.conf.names &&
                           memcmp(m->disk.conf.incarnations, m->server.conf.incarnations,
                                  sizeof m->disk.conf.incarnations) == 0 &&
                           m->disk.conf.generation == m->server.conf.generation;
        return effect_sql(index, run);
    case STEP_PROMOTE: return effect_promote(index, run);
    case STEP_ROLES: return effect_sql(index, run);
    case STEP_END_OLD_SENDERS: return effect_end_old_senders(index, run);
    case STEP_INITDB: return effect_child(index, run, CHILD_INITDB);
    case STEP_REWIND: return effect_child(index, run, CHILD_REWIND);
    case STEP_CLONE: return effect_child(index, run, clone_kind(&run->step));
    case STEP_APPLY_DOCUMENT: return true;
    default: violate("step %d has no meaning here", run->step.kind); return false;
    }
}

void step_effect(int index, int which, uint32_t number)
{
    struct run *run = &world.machines[index].runs[which];
    bool conf = run->step.kind == STEP_REPLICATION || run->step.kind == STEP_START;

    if (!run->active || run->number != number)
        return;
    if (run->fails && !run->fails_late && !conf)
        run->failed = true;
    else
        run->failed = !effect(index, run);
    run->effective = !run->failed;
    run->failed = run->failed || (run->fails_late && run->step.kind != STEP_INITDB &&
                                  run->step.kind != STEP_REWIND && run->step.kind != STEP_CLONE &&
                                  run->step.kind != STEP_START);
    post_run(happens(world.slow) ? between(0, 60) : between(0, 3), EVENT_DONE, index, which,
             number);
}

/* --- the end of a step --- */

/* Some return only once they have seen it, or their deadline. */
static bool still_waiting(int index, struct run *run)
{
    struct machine *m = &world.machines[index];
    bool hard = run->step.kind == STEP_KILL_RECEIVERS;

    if (run->failed)
        return false;
    if (run->step.kind == STEP_END_RECEIVERS || hard) {
        if (m->server.life != run->life || !server_receivers(m))
            return false;
        run->receivers = true;
        if (own_clock(m) >= run->deadline_ms)
            return false;
        if (hard)
            server_kill(index, false);
        else
            server_end_receiver(index, happens(900) ? between(0, 3) : between(50, 800));
        run->receivers = server_receivers(m);
        return true;
    }
    if (run->step.kind == STEP_PROMOTE) {
        run->promoted = m->server.running && m->server.life == run->life && m->server.primary;
        if (run->promoted) {
            run->timeline = world.branches[m->disk.wal.branch].timeline;
            wal_lineage(m->disk.wal.branch, &run->lineage);
            run->failed = run->timeline != run->durable.grant.generation;
            return false;
        }
        run->failed = m->server.life != run->life || !m->server.running ||
                      own_clock(m) >= run->deadline_ms;
        return !run->failed;
    }
    return false;
}

static void note_retry(struct machine *m, const struct run *run)
{
    bool same = m->last_kind == run->step.kind && m->last_reason == run->step.reason;
    int64_t max = run->step.kind == STEP_READ_POSITION ? 50 : 1000, pause = 0;

    m->repeats = same ? m->repeats + 1 : 1;
    m->last_kind = run->step.kind;
    m->last_reason = run->step.reason;
    if (run->failed || m->repeats > 3) {
        pause = INT64_C(10) << (m->repeats < 8 ? m->repeats : 8);
        pause = pause < max ? pause : max;
    }
    m->not_before_ms = own_clock(m) + pause;
}

void step_done(int index, int which, uint32_t number)
{
    struct machine *m = &world.machines[index];
    struct run *run = &m->runs[which];

    if (!run->active || run->number != number)
        return;
    if (still_waiting(index, run)) {
        post_run(2, EVENT_DONE, index, which, number);
        return;
    }
    if (run->step.kind == STEP_END_RECEIVERS || run->step.kind == STEP_KILL_RECEIVERS)
        run->receivers = m->server.life == run->life && server_receivers(m);
    run->active = false;
    if (which == RUN_CHECKPOINT)
        m->in.checkpoint_running = false;
    if (run->failed)
        trace("n%d/%d %s failed", m->slot + 1, index, agent_reason_code(run->step.reason));
    step_applied(index, run);
    note_retry(m, run);
    agent_changed(index);
}

/* --- agent/apply.c --- */

static bool incarnations_equal(const struct durable *a, const struct durable *b)
{
    for (int slot = 0; slot < NODE_COUNT; slot++)
        if (!incarnation_equal(a->incarnations[slot], b->incarnations[slot]) ||
            a->void_number[slot] != b->void_number[slot])
            return false;
    return true;
}

static void forget_discard(struct machine *m)
{
    m->discard_until_ms = 0;
    m->discard_void_ms = own_clock(m);
}

static void persisted(int index, const struct run *run)
{
    struct machine *m = &world.machines[index];
    struct inputs *in = &m->in;
    const struct durable *next = &run->step.durable;
    struct document_facts facts = m->durable.document;

    check_persist(index, &m->disk.durable, next);
    m->disk.durable = *next;
    m->disk.unsynced = false;
    m->disk.mended = m->disk.mended && !next->complete;
    if (!promise_equal(next->promise, m->durable.promise)) {
        in->checkpointed = false;
        in->position_failing_ms = 0;
        in->replay_unblocked = false;
        forget_discard(m);
    }
    if (next->data_id != m->durable.data_id) {
        in->position_failing_ms = 0;
        forget_discard(m);
    }
    if (next->job.id != m->durable.job.id)
        in->job_stopped = false;
    if (!incarnations_equal(next, &m->durable)) {
        in->roles_done = false;
        forget_discard(m);
    }
    if (next->grant.generation != m->durable.grant.generation)
        in->planted = false;
    m->durable = *next;
    m->durable.document = facts;
    if (run->step.reason == AGENT_REASON_SPEND || run->step.reason == AGENT_REASON_REWIND_MARK)
        in->due = true;
}

static void written(struct machine *m, const struct run *run, bool running)
{
    struct inputs *in = &m->in;

    in->names_shown = in->names_violated = false;
    if (run->step.replication.upstream != NODE_NONE)
        in->position_valid = false;
    if (running)
        in->was_primary = false;
    if (run->failed) {
        in->replication_known = false;
        return;
    }
    in->replication = run->step.replication;
    in->replication_known = true;
    in->replication_loaded = running;
    in->replication_since_ms = own_clock(m);
    in->document_applied = run->durable.document.version;
    if (in->not_streaming_since_ms == 0)
        in->not_streaming_since_ms = in->replication_since_ms;
    m->disk.note = in->replication;
    m->disk.note_digest = m->disk.conf_digest;
    m->burst_until_ms = own_clock(m) + BURST_MS;
}

static void receivers_seen(struct machine *m, const struct run *run)
{
    m->in.receivers = run->receivers;
    m->changed_ms = own_clock(m);
}

static void started(int index, const struct run *run)
{
    struct machine *m = &world.machines[index];

    if (run->failed) {
        m->in.failed_starts++;
        if (m->in.pg != PG_CRASHED)
            m->in.pg = PG_DOWN;
        m->in.pg_since_ms = own_clock(m);
        agent_look(index);
        return;
    }
    m->in.names_at_start = true;
    m->end_asked = false;
    m->pm_life = run->new_life;
    m->in.receivers = m->in.replication.upstream != NODE_NONE;
    m->in.streaming = m->in.old_senders = false;
    m->in.planted = m->in.names_shown = m->in.names_violated = m->in.position_valid = false;
    m->in.position_failing_ms = 0;
    m->in.checkpointed = m->in.roles_done = m->in.pg_clean = false;
    m->in.in_recovery = true;
    m->in.not_streaming_since_ms = own_clock(m);
    m->sampled = false;
    m->probe_failing_ms = 0;
    m->changed_ms = own_clock(m);
    m->in.pg = PG_STARTING;
    m->in.pg_since_ms = own_clock(m);
    m->burst_until_ms = own_clock(m) + 30000;
    /* it may be gone again before the agent looked */
    if (!m->server.running || m->server.life != run->new_life)
        post_event(0, (struct event){.kind = EVENT_EXITED,
                                     .a = index,
                                     .number = run->new_life,
                                     .life = world.endpoints[index].life});
}

static void position_read(struct machine *m, const struct run *run)
{
    struct inputs *in = &m->in;

    if (run->failed) {
        in->position_unreadable = !run->had_server && m->disk.headless;
        if (in->position_failing_ms == 0)
            in->position_failing_ms = own_clock(m);
        return;
    }
    if (run->life != m->pm_life)
        return;
    in->position_valid = true;
    in->position_promise = run->durable.promise;
    in->position = run->position;
    in->record_end = run->end;
    in->consistent = run->consistent;
    in->replay_lsn = run->replay_lsn;
    in->lineage = run->lineage;
    in->newest_history = run->newest_history;
    in->position_failing_ms = 0;
    in->replay_unblocked = false;
}

static void promoted(struct machine *m, const struct run *run)
{
    struct inputs *in = &m->in;

    in->planted = false;
    if (!run->promoted || run->life != m->pm_life)
        return;
    in->in_recovery = false;
    in->flushed.timeline = run->timeline;
    in->confirmed_ms = own_clock(m);
    in->checkpointed = in->roles_done = false;
    in->position_valid = false;
    m->changed_ms = own_clock(m);
    m->seen.flushed.timeline = run->timeline;
    if (!run->failed)
        m->lineage = run->lineage;
    m->burst_until_ms = own_clock(m) + BURST_MS;
}

static void child_started(int index, const struct run *run, enum child kind)
{
    struct machine *m = &world.machines[index];

    m->in.position_valid = false; /* other data from here on */
    m->in.child = kind;
    m->in.child_data_id = run->step.data_id;
    m->in.child_state = run->failed ? CHILD_ABSENT : CHILD_RUNNING;
    if (run->failed)
        agent_look(index);
}

void step_applied(int index, struct run *run)
{
    struct machine *m = &world.machines[index];
    struct inputs *in = &m->in;
    bool ok = !run->failed;

    switch (run->step.kind) {
    case STEP_PERSIST:
        if (ok)
            persisted(index, run);
        break;
    case STEP_REPLICATION:
        written(m, run, run->had_server && run->life == m->pm_life);
        if (ok)
            receivers_seen(m, run);
        break;
    case STEP_END_RECEIVERS:
    case STEP_KILL_RECEIVERS: receivers_seen(m, run); break;
    case STEP_CHECKPOINT:
        if (run->life == m->pm_life && run->in_recovery == in->in_recovery &&
            promise_equal(run->durable.promise, m->durable.promise))
            in->checkpointed = ok || m->durable.role == ROLE_FENCED;
        break;
    case STEP_STOP:
        if (ok && m->pm_life != 0 && run->life == m->pm_life) {
            in->pg = PG_STOPPING;
            in->pg_since_ms = own_clock(m);
        }
        if (ok && run->step.reason == AGENT_REASON_JOB_RESTART)
            in->job_stopped = true;
        break;
    case STEP_START:
        written(m, run, ok);
        started(index, run);
        break;
    case STEP_READ_POSITION: position_read(m, run); break;
    case STEP_UNBLOCK_REPLAY: in->replay_unblocked = true; break;
    case STEP_PLANT: in->planted = ok && run->life == m->pm_life; break;
    case STEP_CHECK_NAMES:
        if (!ok)
            break;
        in->names_shown = run->names_shown;
        if (in->names_shown && in->pg == PG_UP && !in->in_recovery) {
            in->old_senders = true;
            m->changed_ms = own_clock(m);
        }
        if (!in->names_shown && own_clock(m) - in->replication_since_ms > NAMES_SETTLE_MS)
            in->names_violated = true;
        break;
    case STEP_PROMOTE: promoted(m, run); break;
    case STEP_ROLES: in->roles_done = ok && incarnations_equal(&run->durable, &m->durable); break;
    case STEP_END_OLD_SENDERS:
        in->old_senders = in->old_senders && !ok;
        m->burst_until_ms = own_clock(m) + BURST_MS;
        break;
    case STEP_INITDB: child_started(index, run, CHILD_INITDB); break;
    case STEP_REWIND: child_started(index, run, CHILD_REWIND); break;
    case STEP_CLONE: child_started(index, run, clone_kind(&run->step)); break;
    case STEP_APPLY_DOCUMENT:
        if (ok) {
            in->document_applied = run->durable.document.version;
            in->roles_done = false;
        }
        break;
    default: break;
    }
}
