/*
 * The agent's shell: inputs gathered, the core asked, one step at a time handed on; what is seen of
 * Postgres and of the data directory. Mirrors agent/node.c and agent/observe.c: where those keep,
 * drop or delay something, so does this.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    PEER_FRESH_MS = 2500,
    RETRY_FIRST_MS = 10,
    RETRY_MAX_MS = 1000,
    REPEAT_FREE = 3,
    TURNS_MAX = 20,
    BURST_MS = 2000,
    NAMES_SETTLE_MS = 2000,
    PROBE_FAILS_MS = 1000,
};

static const struct options core_options = {.fence_timeout_ms = 3000,
                                            .receiver_timeout_ms = 300,
                                            .stop_timeout_ms = 5000,
                                            .checkpoint_timeout_ms = 3000,
                                            .position_timeout_ms = 2000,
                                            .recheck_timeout_ms = 5000,
                                            .start_backoff_ms = 500};

/* --- a turn --- */

void agent_gather(int index)
{
    struct machine *m = &world.machines[index];
    struct inputs *in = &m->in;

    in->now_ms = own_clock(m);
    in->nonce = rnd() >> 1;
    in->discard_allowed = in->now_ms < m->discard_until_ms;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        in->peers[slot].fresh = in->peers[slot].known &&
                                in->now_ms - m->peers[slot].asked_ms < PEER_FRESH_MS;
}

static bool is_urgent(enum step_kind kind)
{
    return kind == STEP_STOP || kind == STEP_KILL;
}

static bool dispatch(int index, const struct step *step)
{
    struct machine *m = &world.machines[index];

    trace("n%d/%d g%u %s %s", m->slot + 1, index, m->durable.promise.generation,
          agent_reason_code(step->reason),
          step->kind == STEP_NONE ? "wait" : agent_reason_text(step->reason));
    switch (step->kind) {
    case STEP_NONE: return false;
    case STEP_STOP:
    case STEP_KILL:
        if (m->runs[RUN_URGENT].active)
            return false;
        if (m->pm_life != 0)
            m->end_asked = true;
        step_dispatch(index, RUN_URGENT, step);
        return false;
    case STEP_CHECKPOINT:
        if (m->runs[RUN_CHECKPOINT].active)
            return true;
        m->in.checkpoint_running = true;
        m->in.checkpoint_since_ms = own_clock(m);
        step_dispatch(index, RUN_CHECKPOINT, step);
        return true;
    case STEP_STOP_CHILD: agent_child_stop(index); return false;
    case STEP_REGISTER: peers_register(index, step->peer); return false;
    case STEP_ASK_DISCARD: peers_ask_discard(index); return false;
    case STEP_FETCH_DOCUMENT: peers_fetch_document(index, step->peer); return false;
    case STEP_ANSWER_REGISTRATION: peers_answer_registration(index, step->accepted); return true;
    case STEP_PROMOTE:
    case STEP_REWIND: m->in.due = false; break;
    default: break;
    }
    step_dispatch(index, RUN_STEP, step);
    return false;
}

static bool may_dispatch(const struct machine *m, const struct step *step)
{
    if (!m->runs[RUN_STEP].active && !m->looking)
        return !m->runs[RUN_URGENT].active;
    return is_urgent(step->kind);
}

static int64_t turn_once(int index, bool *again)
{
    struct machine *m = &world.machines[index];
    struct step *step = &m->step;

    *again = false;
    agent_gather(index);
    reconcile(&m->in, step);
    cover_agent(step->reason);
    if (step->kind != STEP_NONE && step->kind == m->last_kind && step->reason == m->last_reason &&
        m->not_before_ms > own_clock(m))
        return m->not_before_ms - own_clock(m);
    if (step->kind != STEP_NONE && may_dispatch(m, step))
        *again = dispatch(index, step);
    return step->kind == STEP_NONE && step->wake_ms > 0 ? step->wake_ms : RETRY_MAX_MS;
}

static void timer_post(int index);

void agent_turn(int index)
{
    struct machine *m = &world.machines[index];
    int64_t wake_ms = RETRY_MAX_MS;
    bool again = true;

    m->turn_posted = false;
    if (!m->in.looked && !m->looking)
        agent_look(index);
    for (int i = 0; again && i < TURNS_MAX; i++)
        wake_ms = turn_once(index, &again);
    report_update(index);
    m->wake_ms = own_clock(m) + (wake_ms > 0 ? wake_ms : 1);
    timer_post(index);
}

/* One timer event is on its way at most; a later wake is found when it fires. */
static void timer_post(int index)
{
    struct machine *m = &world.machines[index];

    if (m->timer_ms != 0 && m->timer_ms <= m->wake_ms)
        return;
    m->timer_ms = m->wake_ms;
    post_event(
        m->wake_ms - own_clock(m),
        (struct event){.kind = EVENT_TIMER, .a = index, .life = world.endpoints[index].life});
}

void agent_timer(int index)
{
    struct machine *m = &world.machines[index];

    if (own_clock(m) < m->timer_ms)
        return; /* one that was overtaken */
    m->timer_ms = 0;
    if (own_clock(m) >= m->wake_ms)
        agent_turn(index);
    else
        timer_post(index);
}

void agent_changed(int index)
{
    struct machine *m = &world.machines[index];

    if (m->turn_posted || !world.endpoints[index].up)
        return;
    m->turn_posted = true;
    post(0, EVENT_TURN, index, 0);
}

/* --- Postgres' state --- */

static void set_pg(struct machine *m, enum pg_state state)
{
    m->in.pg = state;
    m->in.pg_since_ms = own_clock(m);
    if (state == PG_UP)
        m->in.failed_starts = 0;
}

static void forget_life(struct machine *m)
{
    struct inputs *in = &m->in;

    in->receivers = in->streaming = in->old_senders = false;
    in->planted = in->names_shown = in->names_violated = false;
    in->position_valid = false;
    in->position_failing_ms = 0;
    in->checkpointed = in->roles_done = false;
    in->in_recovery = true;
    in->pg_clean = false;
    in->not_streaming_since_ms = own_clock(m);
    m->sampled = false;
    m->probe_failing_ms = 0;
    m->lineage = (struct lineage){0};
    m->changed_ms = own_clock(m);
}

static void observe_server(int index)
{
    struct machine *m = &world.machines[index];

    m->pm_life = m->server.life;
    forget_life(m);
    m->in.receivers = true;
    set_pg(m, PG_STARTING);
    m->burst_until_ms = own_clock(m) + BURST_MS;
    agent_changed(index);
}

void agent_exited(int index, uint32_t life)
{
    struct machine *m = &world.machines[index];
    bool starting = m->in.pg == PG_STARTING;

    if (m->pm_life != life)
        return;
    m->pm_life = 0;
    forget_life(m);
    if (starting && !m->end_asked)
        m->in.failed_starts++;
    set_pg(m, m->end_asked ? PG_DOWN : PG_CRASHED);
    agent_look(index);
    agent_changed(index);
}

/* --- the data directory --- */

void agent_look(int index)
{
    struct machine *m = &world.machines[index];

    m->in.looked = false;
    if (m->looking)
        return;
    m->looking = true;
    post(between(1, 15), EVENT_LOOKED, index, 0);
}

void agent_looked(int index)
{
    struct machine *m = &world.machines[index];
    struct inputs *in = &m->in;

    m->looking = false;
    if (!m->server.running && m->server.remains)
        server_kill(index, false);
    in->looked = true;
    in->data_present = m->disk.present;
    in->data_foreign = m->disk.foreign || (m->disk.torn && m->disk.data_id == 0);
    in->data_id = m->disk.data_id;
    if (m->server.running && m->pm_life == 0) {
        in->names_at_start = true;
        m->end_asked = false;
        observe_server(index);
        return;
    }
    agent_changed(index);
    if (m->pm_life != 0)
        return;
    in->pg_clean = m->disk.clean;
    in->was_primary = m->disk.primary;
    if (!m->disk.present)
        set_pg(m, PG_ABSENT);
    else if (in->pg != PG_CRASHED)
        in->pg = PG_DOWN;
}

/* --- samples --- */

static void sample_senders(int index, struct sample *sample)
{
    const struct machine *m = &world.machines[index];

    for (int i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &world.conns[i];
        struct standby_view *view;
        int32_t slot;

        if (!c->used || c->leader != index || !c->sender_alive)
            continue;
        slot = world.machines[c->standby].slot;
        view = &sample->standbys[slot];
        if (c->incarnation < m->durable.incarnations[slot].number)
            sample->old_senders = true;
        else
            peers_confirm(index, slot, c->name.generation,
                          c->reply_ms + world.endpoints[index].leap_ms);
        if (view->attached &&
            (view->generation > c->name.generation || (view->counted && !c->name.counted)))
            continue;
        *view = (struct standby_view){.attached = true,
                                      .streaming = true,
                                      .generation = c->name.generation,
                                      .incarnation = c->incarnation,
                                      .flush_lsn = c->acked,
                                      .replay_lsn = c->acked};
        view->counted = c->name.counted && m->in.replication_known &&
                        names_list(&m->in.replication, slot, c->incarnation, c->name.generation) &&
                        names_list(&c->names, slot, c->incarnation, c->name.generation);
    }
}

void agent_sample(int index)
{
    struct machine *m = &world.machines[index];
    const struct server *s = &m->server;
    struct sample *sample = &m->sample;

    post(own_clock(m) < m->burst_until_ms ? between(20, 60) : between(150, 800), EVENT_SAMPLE,
         index, 0);
    if (m->pm_life == 0 || sample->pending)
        return;
    memset(sample, 0, sizeof *sample);
    sample->pending = true;
    sample->life = m->pm_life;
    sample->taken_ms = own_clock(m);
    if (s->life == m->pm_life && s->running && !s->frozen) {
        sample->starting = s->starting;
        sample->stopping = s->stopping;
        sample->ok = !s->starting && !s->stopping;
        sample->in_recovery = !s->primary;
        sample->streaming = s->receiver == RECEIVER_STREAMING &&
                            world.conns[s->conn].receiver_alive;
        sample->flushed = wal_position(&m->disk.wal, m->disk.wal.flushed);
        if (s->primary)
            sample->flushed.timeline = world.branches[m->disk.wal.branch].timeline;
        sample->write_lsn = m->disk.wal.written;
        sample->names = s->conf;
        sample_senders(index, sample);
    }
    post(happens(900) ? between(0, 3) : between(0, 60), EVENT_SAMPLED, index, 0);
}

static bool same_names(const struct replication *a, const struct replication *b)
{
    if (a->names != b->names)
        return false;
    if (!a->names)
        return true;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (a->incarnations[slot].number != b->incarnations[slot].number)
            return false;
    return a->generation == b->generation;
}

static void take_state(int index, const struct sample *sample)
{
    struct machine *m = &world.machines[index];
    struct inputs *in = &m->in;

    if (sample->taken_ms <= m->changed_ms && in->pg != PG_STARTING)
        return;
    if (in->pg == PG_STARTING) {
        set_pg(m, PG_UP);
        if (!sample->in_recovery)
            in->confirmed_ms = own_clock(m);
        m->burst_until_ms = own_clock(m) + BURST_MS;
    }
    in->in_recovery = sample->in_recovery;
    if (!in->in_recovery)
        in->position_valid = false;
    in->flushed = sample->flushed;
    in->streaming = sample->streaming;
    if (sample->streaming)
        in->not_streaming_since_ms = 0;
    else if (in->not_streaming_since_ms == 0)
        in->not_streaming_since_ms = sample->taken_ms;
    in->old_senders = sample->old_senders;
    m->seen = *sample;
    m->sampled = true;
    if (in->replication_known && sample->taken_ms - in->replication_since_ms >= NAMES_SETTLE_MS)
        in->names_violated = !same_names(&sample->names, &in->replication);
    wal_lineage(branch_at(m->disk.wal.branch, m->disk.wal.flushed), &m->lineage);
    if (!sample->in_recovery)
        wal_lineage(m->disk.wal.branch, &m->lineage);
}

void agent_sampled(int index)
{
    struct machine *m = &world.machines[index];
    struct sample sample = m->sample;

    m->sample.pending = false;
    if (sample.life != m->pm_life)
        return;
    if (sample.ok) {
        take_state(index, &sample);
        m->probe_failing_ms = 0;
    } else if (sample.stopping && m->in.pg == PG_UP) {
        set_pg(m, PG_STOPPING);
    } else if (!sample.starting && m->in.pg == PG_UP && m->probe_failing_ms == 0) {
        m->probe_failing_ms = sample.taken_ms;
    }
    agent_changed(index);
}

/* --- children --- */

static bool copy_from_leader(int index, bool rewind)
{
    struct machine *m = &world.machines[index];
    const struct machine *source = &world.machines[m->child_source];
    struct disk *disk = &m->disk;

    if (!linked(index, m->child_source) || !server_alive(source) || source->server.starting ||
        source->server.stopping ||
        (rewind && (!source->server.primary || !source->server.checkpointed)))
        return false;
    if (source->disk.torn || !source->disk.present)
        violate("I5: n%d copies from half-copied data", m->slot + 1);
    disk->wal.branch = source->disk.wal.branch;
    disk->wal.written = record_end(source->disk.wal.flushed);
    /* a base may be older than what the node itself had acknowledged: a snapshot's */
    if (!rewind && happens(world.old_bases)) {
        uint64_t oldest = source->disk.oldest_lsn + RECORD * 10;

        if (disk->wal.written > oldest)
            disk->wal.written -= RECORD *
                                 (uint64_t)dice((uint32_t)((disk->wal.written - oldest) / RECORD));
    }
    disk->consistent_branch = disk->wal.branch;
    disk->consistent_at = disk->wal.written;
    disk->headless = rewind && happens(20);
    if (rewind && happens(300)) { /* the last piece was not copied: it has to be streamed */
        uint64_t begin = world.branches[disk->wal.branch].begin + RECORD;
        uint32_t records = (uint32_t)((disk->wal.written - begin) / RECORD);

        disk->consistent_at = record_end(source->disk.wal.written);
        if (disk->wal.written > begin)
            disk->wal.written -= RECORD * (1 + (uint64_t)dice(records < 4 ? records : 4));
    }
    disk->wal.branch = branch_at(disk->wal.branch, disk->wal.written);
    disk->wal.flushed = disk->wal.written;
    world.wal_replaced[index] = true;
    disk->oldest_lsn = source->disk.oldest_lsn;
    memset(disk->histories, 0, sizeof disk->histories);
    for (int b = disk->wal.branch; b >= 0; b = world.branches[b].parent)
        history_set(disk, world.branches[b].timeline, true);
    return true;
}

static bool child_result(int index)
{
    struct machine *m = &world.machines[index];
    struct disk *disk = &m->disk;

    if (happens(world.step_failures) || m->full)
        return false;
    switch (m->child) {
    case CHILD_INITDB:
        if (world.branch_count == BRANCHES_MAX)
            return false;
        world.branches[world.branch_count] = (struct branch){
            .parent = NOBODY, .timeline = 1, .machine = index};
        disk->wal = (struct wal){
            .branch = world.branch_count++, .written = 10 * RECORD, .flushed = 10 * RECORD};
        world.wal_replaced[index] = true;
        disk->consistent_branch = disk->wal.branch;
        disk->consistent_at = disk->oldest_lsn = 0;
        disk->headless = false;
        memset(disk->histories, 0, sizeof disk->histories);
        return true;
    case CHILD_REWIND:
        if (!disk->clean || !disk->present || !consistent(disk))
            return false;
        return copy_from_leader(index, true);
    case CHILD_CLONE: return copy_from_leader(index, false);
    case CHILD_RESTORE: return snapshot_restore(index);
    default: return false;
    }
}

/* Signalled; what it has left half-way stays. */
void agent_child_stop(int index)
{
    struct machine *m = &world.machines[index];

    if (m->child == CHILD_NONE || m->runs[RUN_STEP].active)
        return;
    trace("n%d/%d child %d is stopped", m->slot + 1, index, m->child);
    m->child = CHILD_NONE;
    m->in.child_state = CHILD_FAILED;
    m->in.child_ended_ms = own_clock(m);
    agent_look(index);
    agent_changed(index);
}

void agent_child_end(int index, uint32_t number)
{
    struct machine *m = &world.machines[index];
    bool ok;

    if (m->child == CHILD_NONE || m->child_number != number)
        return;
    if (m->runs[RUN_STEP].active) { /* its end is waited for from the end of that step on */
        post_event(3, (struct event){.kind = EVENT_CHILD,
                                     .a = index,
                                     .number = number,
                                     .life = world.endpoints[index].life});
        return;
    }
    ok = child_result(index);
    trace("n%d/%d child %d %s", m->slot + 1, index, m->child, ok ? "done" : "failed");
    if (ok) {
        m->disk.primary = false; /* whatever its source was: it has a backup_label */
        m->disk.mended = m->disk.mended || m->disk.spoiled;
        m->disk.torn = m->disk.rolled_back = m->disk.spoiled = false;
        m->disk.present = true;
        m->disk.clean = true;
        m->disk.data_id = m->child_data_id;
    }
    m->child = CHILD_NONE;
    m->in.child_state = ok ? CHILD_OK : CHILD_FAILED;
    m->in.child_ended_ms = own_clock(m);
    agent_look(index);
    agent_changed(index);
}

/* --- life --- */

/* What recall.c does: believed only if the files are as they were left. */
static void recall(struct machine *m)
{
    if (!m->disk.conf_written || m->disk.note_digest != m->disk.conf_digest)
        return;
    m->in.replication = m->disk.note;
    m->in.replication_known = true;
    m->in.replication_loaded = false;
    m->in.replication_since_ms = own_clock(m);
}

void agent_start(int index)
{
    struct machine *m = &world.machines[index];

    if (!m->powered || world.endpoints[index].up)
        return;
    memset((char *)m + offsetof(struct machine, durable), 0,
           sizeof *m - offsetof(struct machine, durable));
    world.endpoints[index].up = true;
    world.endpoints[index].frozen = false;
    world.endpoints[index].life = ++world.life;
    /* what was written and not synced is written once more, with a sync */
    if (m->disk.unsynced)
        m->disk.durable = m->disk.cached;
    m->disk.unsynced = false;
    m->durable = m->disk.durable;
    m->durable.document = m->disk.document;
    m->run_id = rnd();
    m->started_ms = own_clock(m);
    m->in.options = core_options;
    m->in.durable = &m->durable;
    m->in.message = &m->message;
    m->in.replication.upstream = NODE_NONE;
    m->in.in_recovery = true;
    m->in.registration.node = NODE_NONE;
    m->message.leader.node = NODE_NONE;
    m->discard_given_to = NODE_NONE;
    m->sequence = m->run_id >> 32 << 20;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        m->in.peers[slot].report = &m->peer_reports[slot];
    recall(m);
    trace("n%d/%d agent starts, promise %u", m->slot + 1, index, m->durable.promise.generation);
    agent_look(index);
    agent_changed(index);
    post(between(5, 30), EVENT_SAMPLE, index, 0);
    peers_start(index);
}

void agent_die(int index)
{
    struct machine *m = &world.machines[index];

    if (!world.endpoints[index].up)
        return;
    trace("n%d/%d agent dies%s", m->slot + 1, index, m->runs[RUN_STEP].active ? " in a step" : "");
    /* its children die with it, half-way */
    world.endpoints[index].up = false;
    world.endpoints[index].frozen = false;
    world.endpoints[index].life = ++world.life;
}
