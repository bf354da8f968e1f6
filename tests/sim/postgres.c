/*
 * Postgres, as far as the protocol leans on it: a server is a few flags that move one after
 * another, and its receiver, which outlives a reload as long as replay does not want WAL.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    RECEIVER_PAUSE_MS = 20, /* wal_retrieve_retry_interval */
    CONNECT_TIMEOUT_MS = 2000,
    FOR_EVER_MS = 1000000000,
};

/* --- looking after it --- */

bool server_alive(const struct machine *m)
{
    return m->powered && (m->server.running || m->server.remains) && !m->server.frozen;
}

bool server_receivers(const struct machine *m)
{
    return m->server.running && m->server.receiver != RECEIVER_NONE;
}

void server_poke(int index, int64_t in_ms)
{
    struct server *s = &world.machines[index].server;

    if (!s->running || (s->tick_ms != 0 && s->tick_ms <= world.now_ms + in_ms))
        return;
    s->tick_ms = world.now_ms + in_ms;
    post_event(in_ms,
               (struct event){.kind = EVENT_SERVER, .a = index, .number = s->life, .x = ++s->tick});
}

/* When something of it will move by itself; 0: not until somebody pokes it. */
static int64_t next_move_ms(const struct machine *m)
{
    const struct server *s = &m->server;

    if (s->starting)
        return between(3, 12);
    if (s->stopping || s->promoting || s->receiver_ends_ms)
        return between(1, 6);
    if (s->reload_ms)
        return s->reload_ms > world.now_ms ? s->reload_ms - world.now_ms : 1;
    if (s->primary || s->replay_held)
        return 0;
    if (s->receiver == RECEIVER_CONNECTING)
        return between(2, 15);
    if (s->applied < record_end(m->disk.wal.written))
        return between(2, 12);
    return s->receiver == RECEIVER_NONE && s->conf.upstream != NODE_NONE ? between(10, 40) : 0;
}

/* --- whom commits wait for --- */

/* Where nobody is named, agent/conftext.c writes a name that no receiver has. */
enum { UNNAMED_IS_EMPTY = false };

static bool list_is_empty(const struct replication *conf)
{
    return UNNAMED_IS_EMPTY && !conf->names;
}

/* From empty to a list: in force once the checkpointer has come to it. */
static void load_conf(struct machine *m)
{
    struct server *s = &m->server;
    bool was_empty = list_is_empty(&s->conf);

    s->conf = m->disk.conf;
    if (was_empty && !list_is_empty(&s->conf))
        s->list_read_ms = world.now_ms + (happens(600) ? between(1, 10) : between(100, 4000));
}

bool server_waits_for_nobody(const struct machine *m)
{
    return list_is_empty(&m->server.conf) || world.now_ms < m->server.list_read_ms;
}

/* --- starting and stopping --- */

/* What was received is flushed when the receiver leaves in order. */
static void drop_receiver(struct machine *m, bool orderly)
{
    struct server *s = &m->server;

    if (s->receiver == RECEIVER_STREAMING) {
        world.conns[s->conn].receiver_alive = false;
        if (orderly)
            m->disk.wal.flushed = m->disk.wal.written;
    }
    s->receiver = RECEIVER_NONE;
    s->receiver_ends_ms = 0;
    s->receiver_since_ms = world.now_ms;
}

/* History files above the end of WAL are poison: recovery looks for a timeline that is not there,
 * for ever. */
static bool poisoned(const struct disk *disk)
{
    uint32_t end = wal_position(&disk->wal, record_end(disk->wal.written)).timeline;

    for (uint32_t word = (end + 1) / 64; word < TIMELINES_MAX / 64; word++) {
        uint64_t bits = disk->histories[word];

        if (word == (end + 1) / 64)
            bits &= ~UINT64_C(0) << ((end + 1) % 64);
        if (bits != 0)
            return true;
    }
    return false;
}

/* A crash recovery begins anew when it is interrupted: a long one has to be let be. (A newborn
 * cluster has no WAL for one.) */
static int64_t recovery_ms(bool crashed)
{
    if (crashed && world.born && happens(3))
        return between(20000, 90000);
    return happens(50) ? between(200, 3000) : between(20, 100);
}

bool server_start(int index, const struct replication *conf)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;

    if (m->disk.torn)
        violate("I5: n%d starts a half-copied data directory", m->slot + 1);
    if (!m->disk.present || s->running || s->remains)
        return false;
    conns_drop(index, true);
    /* a record that was cut off is gone; what was in the kernel's hands is flushed now */
    m->disk.wal.written = record_end(m->disk.wal.written);
    m->disk.wal.branch = branch_at(m->disk.wal.branch, m->disk.wal.written);
    m->disk.wal.flushed = m->disk.wal.written;
    memset(s, 0, sizeof *s);
    s->running = s->starting = true;
    s->conf = *conf;
    s->life = ++world.life;
    s->since_ms = world.now_ms;
    s->ready_ms = world.now_ms + recovery_ms(!m->disk.clean);
    m->disk.clean = m->disk.primary = false;
    if (poisoned(&m->disk) || m->disk.headless)
        s->ready_ms = world.now_ms + FOR_EVER_MS;
    s->conn = NOBODY;
    s->bound = m->disk.wal.branch;
    s->applied = 0;
    count_step();
    server_poke(index, 5);
    return true;
}

static void server_gone(int index, bool clean)
{
    struct machine *m = &world.machines[index];
    uint32_t life = m->server.life;

    count_step();
    m->disk.clean = clean;
    m->server.running = m->server.starting = m->server.stopping = m->server.promoting = false;
    m->server.receiver = RECEIVER_NONE;
    m->server.frozen = false;
    conns_poke(index);
    if (world.endpoints[index].up && m->pm_life == life)
        post_event(between(0, 2), (struct event){.kind = EVENT_EXITED,
                                                 .a = index,
                                                 .number = life,
                                                 .life = world.endpoints[index].life});
}

/* REMAINS: only the postmaster dies; its backends go on for seconds. */
void server_kill(int index, bool remains)
{
    struct machine *m = &world.machines[index];
    bool was_running = m->server.running;

    if (m->server.receiver == RECEIVER_STREAMING)
        drop_receiver(m, false);
    conns_drop(index, !remains);
    if (m->server.running || m->server.remains)
        trace("n%d/%d Postgres killed%s", m->slot + 1, index,
              remains ? ", its backends live on" : "");
    m->server.remains = remains && was_running && m->server.primary && !m->server.stopping;
    if (was_running)
        server_gone(index, false);
    if (!m->server.remains)
        m->server.primary = false;
}

void server_stop(int index)
{
    struct server *s = &world.machines[index].server;

    if (!s->running || s->stopping)
        return;
    s->stopping = true;
    s->since_ms = world.now_ms;
    if (s->receiver != RECEIVER_NONE)
        server_end_receiver(index, between(0, 3));
    server_poke(index, 1);
}

/* Unflushed WAL is lost, in part or whole. */
void server_power_cut(int index)
{
    struct machine *m = &world.machines[index];
    struct wal *wal = &m->disk.wal;

    server_kill(index, false);
    if (wal->written > wal->flushed)
        wal->written = wal->flushed + dice((uint32_t)(wal->written - wal->flushed) + 1);
    wal->branch = branch_at(wal->branch, wal->written);
}

/* --- promotion --- */

/* Postgres forks off the timeline that recovery has set out for, though it may have none of its
 * WAL. */
static int promotes_from(const struct machine *m, uint64_t begin)
{
    int own = branch_at(m->disk.wal.branch, begin), bound = m->server.bound;

    return world.branches[bound].begin == begin && branch_descends(bound, own) ? bound : own;
}

static void promoted(int index)
{
    struct machine *m = &world.machines[index];
    struct wal *wal = &m->disk.wal;
    uint64_t begin = record_end(wal->written);
    int parent = promotes_from(m, begin);
    uint32_t timeline = world.branches[parent].timeline + 1;
    struct branch *branch = &world.branches[world.branch_count];

    while (history_has(&m->disk, timeline))
        timeline++;
    if (world.branch_count == BRANCHES_MAX || timeline >= TIMELINES_MAX) {
        violate("too many branches: the simulator itself");
        return;
    }
    *branch = (struct branch){
        .parent = parent, .timeline = timeline, .begin = begin, .acked = begin, .machine = index};
    history_set(&m->disk, timeline, true);
    check_promotion(index, world.branch_count);
    wal->branch = world.branch_count++;
    wal->written = wal->flushed = begin + RECORD; /* end of recovery */
    m->server.promoting = false;
    m->server.primary = m->disk.primary = true;
    m->server.checkpointed = false;
    m->server.applied = wal->written;
    count_step();
    trace("n%d/%d Postgres promoted: timeline %u at %llu", m->slot + 1, index, timeline,
          (unsigned long long)begin);
    project_promoted(index, branch);
}

/* --- receivers --- */

void server_end_receiver(int index, int64_t in_ms)
{
    struct server *s = &world.machines[index].server;

    if (s->receiver != RECEIVER_NONE &&
        (s->receiver_ends_ms == 0 || s->receiver_ends_ms > world.now_ms + in_ms))
        s->receiver_ends_ms = world.now_ms + in_ms + 1;
    server_poke(index, 1);
}

/* A receiver fetches the histories of its leader before any of its WAL; from then on recovery
 * follows nobody who is not on that way. */
static bool set_out_for(struct machine *m, const struct machine *leader)
{
    if (!branch_descends(leader->disk.wal.branch, m->server.bound))
        return false;
    m->server.bound = leader->disk.wal.branch;
    for (int b = m->server.bound; b >= 0; b = world.branches[b].parent)
        history_set(&m->disk, world.branches[b].timeline, true);
    return true;
}

/* Is there a timeline on the way that the leader never had any WAL of? Its segment with the fork is
 * asked for, and is not there. */
static bool has_gap(const struct machine *leader, uint64_t from)
{
    int parent;

    for (int b = leader->disk.wal.branch; (parent = world.branches[b].parent) >= 0; b = parent)
        if (world.branches[b].begin <= world.branches[parent].begin &&
            from <= world.branches[b].begin)
            return true;
    return false;
}

/* Both lineages as their history files tell them: by timeline ids. */
static bool may_stream(const struct machine *m, const struct machine *leader)
{
    struct lineage mine, theirs;
    struct position fork, end = wal_position(&m->disk.wal, record_end(m->disk.wal.written));

    wal_lineage(branch_at(m->disk.wal.branch, end.lsn), &mine);
    wal_lineage(leader->disk.wal.branch, &theirs);
    if (lineage_fork(&mine, end, &theirs, &fork) != FORK_PREFIX ||
        leader->disk.wal.flushed < end.lsn || leader->disk.oldest_lsn > end.lsn ||
        has_gap(leader, end.lsn))
        return false;
    if (!branch_contains(leader->disk.wal.branch, leader->disk.wal.flushed,
                         branch_at(m->disk.wal.branch, end.lsn), end.lsn))
        violate("I4: n%d's WAL is overwritten by n%d's, which differs under the same timeline id",
                m->slot + 1, leader->slot + 1);
    return true;
}

/* Authenticates with the key that is on disk now, which is that of one server; the leader admits
 * the role of the incarnation that it knows, of its own cluster. */
static bool admitted(const struct machine *m, const struct machine *leader)
{
    const struct server *s = &m->server;
    uint32_t incarnation = s->receiver_conf.incarnations[m->slot].number;

    return m->disk.conf.upstream == s->receiver_upstream && leader->slot == s->receiver_upstream &&
           !leader->server.starting && !leader->server.stopping &&
           leader->server.conf.incarnations[m->slot].number == incarnation &&
           cluster_id_equal(&m->disk.durable.cluster, &leader->disk.durable.cluster) &&
           may_stream(m, leader);
}

static void receiver_connect(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;
    int target = world.endpoints[index].route[s->receiver_upstream], slot;
    struct machine *leader = &world.machines[target];

    if (!linked(index, target) || !server_alive(leader)) {
        if (world.now_ms - s->receiver_since_ms > CONNECT_TIMEOUT_MS ||
            (linked(index, target) && !leader->server.frozen))
            drop_receiver(m, true);
        return;
    }
    if (!admitted(m, leader) || !set_out_for(m, leader)) {
        drop_receiver(m, true);
        return;
    }
    slot = conn_open(index, target);
    if (slot == NOBODY)
        return;
    /* what lay beyond the last whole record is streamed anew */
    m->disk.wal.written = record_end(m->disk.wal.written);
    if (m->disk.wal.flushed > m->disk.wal.written)
        m->disk.wal.flushed = m->disk.wal.written;
    check_counted(index, &world.conns[slot]);
    s->receiver = RECEIVER_STREAMING;
    s->conn = slot;
    s->receiver_since_ms = world.now_ms;
    count_step();
    trace("n%d/%d streams from n%d/%d as g%u%s", m->slot + 1, index, leader->slot + 1, target,
          s->receiver_conf.generation, s->receiver_conf.counted ? "" : " uncounted");
}

static bool conf_same_stream(const struct replication *a, const struct replication *b)
{
    return a->upstream == b->upstream && a->generation == b->generation &&
           a->counted == b->counted &&
           incarnation_equal(a->upstream_incarnation, b->upstream_incarnation);
}

static void receiver_tick(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;

    if (s->receiver_ends_ms && world.now_ms >= s->receiver_ends_ms)
        drop_receiver(m, true);
    if (s->receiver == RECEIVER_CONNECTING && happens(600))
        receiver_connect(index);
    if (s->receiver == RECEIVER_STREAMING && !world.conns[s->conn].receiver_alive)
        drop_receiver(m, true);
    /* the startup process drops a receiver of other settings when it next wants WAL; one that is
     * about to flush does so and acknowledges it first */
    if (s->receiver != RECEIVER_NONE && !s->replay_held && s->receiver_ends_ms == 0 &&
        !conf_same_stream(&s->receiver_conf, &s->conf))
        server_end_receiver(index, happens(850) ? between(0, 3) : between(20, 400));
    if (s->receiver == RECEIVER_NONE && s->conf.upstream != NODE_NONE && !s->promoting &&
        !s->stopping && !s->replay_held && !m->full &&
        s->applied == record_end(m->disk.wal.written) &&
        world.now_ms - s->receiver_since_ms > RECEIVER_PAUSE_MS) {
        s->receiver = RECEIVER_CONNECTING;
        s->receiver_since_ms = world.now_ms;
        s->receiver_upstream = s->conf.upstream;
        s->receiver_conf = s->conf;
        s->receiver_ends_ms = 0;
    }
}

/* --- a server goes on --- */

static bool senders_behind(int index)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &world.conns[i];

        if (c->used && c->leader == index && c->sender_alive &&
            c->acked < world.machines[index].disk.wal.flushed)
            return true;
    }
    return false;
}

/* A fast shutdown sends everything to standbys that answer, then leaves. */
static void stopping_tick(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;

    if (!s->primary) {
        if (s->receiver == RECEIVER_NONE && world.now_ms - s->since_ms > 5) {
            m->disk.wal.written = m->disk.wal.flushed = record_end(m->disk.wal.written);
            trace("n%d/%d Postgres stopped", m->slot + 1, index);
            server_gone(index, true);
        }
        return;
    }
    if (!s->shutdown_written && world.now_ms - s->since_ms > 30) {
        m->disk.wal.written = m->disk.wal.flushed = m->disk.wal.written + RECORD;
        s->shutdown_written = true;
        conns_poke(index);
    }
    if (!s->shutdown_written || senders_behind(index))
        return;
    trace("n%d/%d Postgres stopped, led until %llu", m->slot + 1, index,
          (unsigned long long)m->disk.wal.flushed);
    conns_drop(index, true);
    s->primary = false;
    server_gone(index, true);
}

static void standby_tick(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;
    uint64_t end = record_end(m->disk.wal.written);

    if (!s->replay_held && s->applied < end)
        s->applied = happens(700) ? end : s->applied + (end - s->applied) / 2 / RECORD * RECORD;
    if (s->applied > end)
        s->applied = end;
    receiver_tick(index);
    if (s->promoting && s->receiver != RECEIVER_NONE)
        server_end_receiver(index, 0);
    if (s->promoting && s->receiver == RECEIVER_NONE && s->applied == end && !s->stopping &&
        happens(500))
        promoted(index);
}

void server_tick(int index, uint32_t tick)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;
    int64_t next;

    if (!m->powered || !s->running || tick != s->tick)
        return;
    s->tick_ms = 0;
    if (s->frozen)
        return;
    if (s->reload_ms && world.now_ms >= s->reload_ms) {
        s->reload_ms = 0;
        load_conf(m);
        count_step();
        conns_poke(index);
    }
    if (s->starting && world.now_ms >= s->ready_ms && consistent(&m->disk) &&
        s->applied == record_end(m->disk.wal.written)) {
        s->starting = false;
        /* a page is written after its WAL has been flushed */
        m->disk.consistent_branch = m->disk.wal.branch;
        m->disk.consistent_at = record_end(m->disk.wal.flushed);
        count_step();
    }
    if (s->starting && !consistent_possible(&m->disk)) {
        /* "unexpected timeline ID in checkpoint record, before reaching minimum recovery point" */
        trace("n%d/%d Postgres panics: its data is ahead of this history", m->slot + 1, index);
        server_kill(index, false);
        return;
    }
    if (!s->primary)
        standby_tick(index);
    if (s->stopping)
        stopping_tick(index);
    next = next_move_ms(m);
    if (next > 0)
        server_poke(index, next);
}

enum probe_verdict server_probe(int from, int target)
{
    const struct machine *m = &world.machines[target];

    if (!linked(from, target) || !m->powered || m->server.frozen)
        return PROBE_SILENT;
    if (!m->server.running)
        return PROBE_REFUSED;
    if (m->server.starting || m->server.stopping)
        return PROBE_STARTING;
    return m->server.primary ? PROBE_PRIMARY : PROBE_STANDBY;
}
