/*
 * Postgres, as far as the protocol leans on it: WAL is a tree of branches, a server a few flags, a
 * replication connection two ends with a wire between them that may lag, outlive its receiver, and
 * deliver late.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    SENDER_TIMEOUT_MS = 5000,
    CATCH_UP = 40 * RECORD,
    RECEIVER_PAUSE_MS = 20, /* wal_retrieve_retry_interval */
};

/* --- WAL --- */

uint64_t record_end(uint64_t lsn)
{
    return lsn / RECORD * RECORD;
}

/* The branch that the byte before LSN belongs to. */
int branch_at(int branch, uint64_t lsn)
{
    while (world.branches[branch].parent >= 0 && lsn <= world.branches[branch].begin)
        branch = world.branches[branch].parent;
    return branch;
}

/* Does WAL that ends at (BRANCH, END) hold OTHER's up to LSN? */
bool branch_contains(int branch, uint64_t end, int other, uint64_t lsn)
{
    while (branch >= 0) {
        if (branch == other)
            return lsn <= end;
        if (world.branches[branch].begin < end)
            end = world.branches[branch].begin;
        branch = world.branches[branch].parent;
    }
    return false;
}

struct position wal_position(const struct wal *wal, uint64_t lsn)
{
    int branch = branch_at(wal->branch, record_end(lsn));

    return (struct position){.timeline = world.branches[branch].timeline, .lsn = lsn};
}

void wal_lineage(int branch, struct lineage *lineage)
{
    uint32_t depth = 0;

    memset(lineage, 0, sizeof *lineage);
    for (int b = branch; b >= 0; b = world.branches[b].parent)
        depth++;
    lineage->truncated = depth > LINEAGE_MAX;
    lineage->count = depth > LINEAGE_MAX ? LINEAGE_MAX : depth;
    for (uint32_t i = lineage->count; i > 0; i--) {
        lineage->begin[i - 1] = (struct position){world.branches[branch].timeline,
                                                  world.branches[branch].begin};
        branch = world.branches[branch].parent;
    }
}

bool history_has(const struct disk *disk, uint32_t timeline)
{
    return timeline < TIMELINES_MAX && (disk->histories[timeline / 64] >> (timeline % 64) & 1);
}

void history_set(struct disk *disk, uint32_t timeline, bool there)
{
    if (timeline >= TIMELINES_MAX)
        return;
    if (there)
        disk->histories[timeline / 64] |= UINT64_C(1) << (timeline % 64);
    else
        disk->histories[timeline / 64] &= ~(UINT64_C(1) << (timeline % 64));
}

/* --- starting and stopping --- */

bool server_alive(const struct machine *m)
{
    return m->powered && (m->server.running || m->server.remains) && !m->server.frozen;
}

bool server_receivers(const struct machine *m)
{
    return m->server.running && m->server.receiver != RECEIVER_NONE;
}

static void next_tick(int index, int64_t in_ms)
{
    post_event(in_ms, (struct event){.kind = EVENT_SERVER,
                                     .a = index,
                                     .number = world.machines[index].server.life});
}

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

/* Connections in which this life of a server took part. */
static void drop_conns(int index, bool senders_too)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &world.conns[i];

        if (c->used && c->leader == index && senders_too)
            c->sender_alive = false;
        if (c->used && c->standby == index && c->standby_life == world.machines[index].server.life)
            c->receiver_alive = false;
    }
}

bool server_start(int index, const struct replication *conf)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;

    if (m->disk.torn)
        violate("n%d starts a half-copied data directory (machine %d)", m->slot + 1, index);
    if (!m->disk.present || s->running || s->remains)
        return false;
    drop_conns(index, true);
    /* a record that was cut off is gone; what was in the kernel's hands is flushed now */
    m->disk.wal.written = record_end(m->disk.wal.written);
    m->disk.wal.branch = branch_at(m->disk.wal.branch, m->disk.wal.written);
    m->disk.wal.flushed = m->disk.wal.written;
    m->disk.clean = m->disk.primary = false;
    memset(s, 0, sizeof *s);
    s->running = s->starting = true;
    s->conf = *conf;
    s->life = ++world.life;
    s->since_ms = world.now_ms;
    s->ready_ms = world.now_ms + (happens(50) ? between(200, 3000) : between(20, 100));
    s->conn = NOBODY;
    s->applied = 0;
    next_tick(index, 5);
    return true;
}

static void server_gone(int index, bool clean)
{
    struct machine *m = &world.machines[index];
    uint32_t life = m->server.life;

    m->disk.clean = clean;
    m->server.running = m->server.starting = m->server.stopping = m->server.promoting = false;
    m->server.receiver = RECEIVER_NONE;
    if (m->server.frozen)
        m->server.frozen = false;
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
    drop_conns(index, !remains);
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

static void promoted(int index)
{
    struct machine *m = &world.machines[index];
    struct wal *wal = &m->disk.wal;
    uint64_t begin = record_end(wal->written);
    int parent = branch_at(wal->branch, begin);
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
    trace("n%d/%d Postgres promoted: timeline %u at %llu", m->slot + 1, index, timeline,
          (unsigned long long)begin);
}

/* --- receivers --- */

void server_end_receiver(int index, int64_t in_ms)
{
    struct server *s = &world.machines[index].server;

    if (s->receiver != RECEIVER_NONE &&
        (s->receiver_ends_ms == 0 || s->receiver_ends_ms > world.now_ms + in_ms))
        s->receiver_ends_ms = world.now_ms + in_ms + 1;
}

static int free_conn(void)
{
    for (int i = 0; i < CONNS_MAX; i++)
        if (!world.conns[i].used)
            return i;
    violate("too many connections: the simulator itself");
    return 0;
}

/* Both lineages as their history files tell them: by timeline ids. */
static bool may_stream(const struct machine *m, const struct machine *leader)
{
    struct lineage mine, theirs;
    struct position fork, end = wal_position(&m->disk.wal, record_end(m->disk.wal.written));

    wal_lineage(branch_at(m->disk.wal.branch, end.lsn), &mine);
    wal_lineage(leader->disk.wal.branch, &theirs);
    if (lineage_fork(&mine, end, &theirs, &fork) != FORK_PREFIX ||
        leader->disk.wal.flushed < end.lsn || leader->disk.oldest_lsn > end.lsn)
        return false;
    if (!branch_contains(leader->disk.wal.branch, leader->disk.wal.flushed,
                         branch_at(m->disk.wal.branch, end.lsn), end.lsn))
        violate("n%d streams from n%d although its WAL differs under the same timeline id",
                m->slot + 1, leader->slot + 1);
    return true;
}

/* Authenticates with the key that is on disk now; the leader admits the role of the incarnation
 * that it knows. */
static void receiver_connect(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;
    int32_t upstream = s->receiver_upstream;
    int target = world.endpoints[index].route[upstream];
    struct machine *leader = &world.machines[target];
    uint32_t incarnation = s->receiver_conf.incarnations[m->slot].number;
    struct conn *c;
    int slot;

    if (!linked(index, target) || !server_alive(leader)) {
        if (world.now_ms - s->receiver_since_ms > 2000 ||
            (linked(index, target) && !leader->server.frozen))
            drop_receiver(m, true);
        return;
    }
    if (m->disk.conf.upstream == NODE_NONE || leader->slot != upstream || leader->server.starting ||
        leader->server.stopping ||
        leader->server.conf.incarnations[m->slot].number != incarnation || !may_stream(m, leader)) {
        drop_receiver(m, true);
        return;
    }
    slot = free_conn();
    c = &world.conns[slot];
    *c = (struct conn){.used = true,
                       .standby = index,
                       .leader = target,
                       .standby_life = s->life,
                       .leader_life = leader->server.life,
                       .name = s->receiver_conf,
                       .incarnation = incarnation,
                       .receiver_alive = true,
                       .sender_alive = true,
                       .lazy = happens(150),
                       .names = leader->server.conf,
                       .reply_ms = world.now_ms,
                       .heard_ms = world.now_ms};
    /* what lay beyond the last whole record is streamed anew */
    m->disk.wal.written = record_end(m->disk.wal.written);
    if (m->disk.wal.flushed > m->disk.wal.written)
        m->disk.wal.flushed = m->disk.wal.written;
    check_counted(index, c);
    s->receiver = RECEIVER_STREAMING;
    s->conn = slot;
    s->receiver_since_ms = world.now_ms;
    post(between(0, 3), EVENT_CONN, slot, 0);
    trace("n%d/%d streams from n%d/%d as g%u%s", m->slot + 1, index, leader->slot + 1, target,
          c->name.generation, c->name.counted ? "" : " uncounted");
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
    /* the startup process drops a receiver of other settings when it next wants WAL */
    if (s->receiver != RECEIVER_NONE && !s->replay_held &&
        !conf_same_stream(&s->receiver_conf, &s->conf))
        server_end_receiver(index, 0);
    if (s->receiver == RECEIVER_NONE && s->conf.upstream != NODE_NONE && !s->promoting &&
        !s->stopping && !s->replay_held && s->applied == record_end(m->disk.wal.written) &&
        world.now_ms - s->receiver_since_ms > RECEIVER_PAUSE_MS) {
        s->receiver = RECEIVER_CONNECTING;
        s->receiver_since_ms = world.now_ms;
        s->receiver_upstream = s->conf.upstream;
        s->receiver_conf = s->conf;
        s->receiver_ends_ms = 0;
    }
}

/* --- a server goes on --- */

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
    }
    for (int i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &world.conns[i];

        if (c->used && c->leader == index && c->sender_alive && c->acked < m->disk.wal.flushed)
            return;
    }
    if (!s->shutdown_written)
        return;
    trace("n%d/%d Postgres stopped, led until %llu", m->slot + 1, index,
          (unsigned long long)m->disk.wal.flushed);
    drop_conns(index, true);
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

void server_tick(int index)
{
    struct machine *m = &world.machines[index];
    struct server *s = &m->server;
    bool quick = s->starting || s->stopping || s->promoting || s->reload_ms ||
                 s->receiver_ends_ms || s->receiver == RECEIVER_CONNECTING;

    if (!m->powered || !s->running)
        return;
    next_tick(index, quick ? between(1, 6) : between(5, 30));
    if (s->frozen)
        return;
    if (s->reload_ms && world.now_ms >= s->reload_ms) {
        s->reload_ms = 0;
        s->conf = m->disk.conf;
    }
    if (s->starting && world.now_ms >= s->ready_ms &&
        m->disk.wal.written >= m->disk.consistent_at &&
        s->applied == record_end(m->disk.wal.written))
        s->starting = false;
    if (!s->primary)
        standby_tick(index);
    if (s->stopping)
        stopping_tick(index);
}

/* --- replication connections --- */

bool names_list(const struct replication *names, int32_t slot, uint32_t incarnation,
                uint32_t generation)
{
    return names->names && names->generation == generation && incarnation != 0 &&
           names->incarnations[slot].number == incarnation;
}

/* ANY 1: a walsender whose name stands in N, as that walsender last read it, releases those who
 * wait. */
static void release(const struct conn *c)
{
    struct machine *leader = &world.machines[c->leader];
    struct branch *branch = &world.branches[leader->disk.wal.branch];
    int32_t slot = world.machines[c->standby].slot;
    uint64_t upto = record_end(c->acked < leader->disk.wal.flushed ? c->acked
                                                                   : leader->disk.wal.flushed);

    if (!leader->server.primary || leader->server.stopping || !c->name.counted ||
        !names_list(&c->names, slot, c->incarnation, c->name.generation) || upto <= branch->acked ||
        upto <= branch->begin + RECORD)
        return;
    if (c->receiver_alive && world.machines[c->standby].disk.torn)
        violate("I5: n%d acknowledges from half-copied data", slot + 1);
    check_ack(c->leader, leader->disk.wal.branch, upto);
    world.acked += (int)((upto - branch->acked) / RECORD);
    branch->acked = upto;
}

static bool conn_receive(struct conn *c)
{
    struct machine *m = &world.machines[c->standby];
    const struct machine *leader = &world.machines[c->leader];
    uint64_t have = m->disk.wal.written, there = leader->disk.wal.flushed;

    if (!branch_contains(leader->disk.wal.branch, there, branch_at(m->disk.wal.branch, have), have))
        return false;
    if (there > have) {
        /* one that is far behind takes its time */
        m->disk.wal.written = happens(800) && there - have < CATCH_UP
                                  ? there
                                  : have + 1 +
                                        dice(there - have < CATCH_UP ? (uint32_t)(there - have)
                                                                     : CATCH_UP);
        m->disk.wal.branch = branch_at(leader->disk.wal.branch, m->disk.wal.written);
        for (int b = m->disk.wal.branch; b >= 0; b = world.branches[b].parent)
            history_set(&m->disk, world.branches[b].timeline, true);
    }
    if (happens(850)) {
        m->disk.wal.flushed = m->disk.wal.written;
        c->wire = m->disk.wal.flushed;
    }
    return true;
}

void conn_tick(int slot)
{
    struct conn *c = &world.conns[slot];
    struct machine *m = &world.machines[c->standby], *leader = &world.machines[c->leader];
    bool there = world.now_ms - c->heard_ms < SENDER_TIMEOUT_MS,
         both = linked(c->standby, c->leader);
    bool sends = server_alive(leader) && !world.cut[c->leader][c->standby];
    int64_t delay;

    if (leader->server.life != c->leader_life ||
        !(leader->server.running || leader->server.remains))
        c->sender_alive = false;
    if (m->server.life != c->standby_life || !m->server.running)
        c->receiver_alive = false;
    if (!server_alive(leader) && !c->sender_alive && both)
        c->receiver_alive = c->receiver_alive && m->server.frozen;
    if (!c->receiver_alive && !c->sender_alive) {
        c->used = false;
        return;
    }
    post(happens(world.slow) ? between(1, 120) : between(2, 12), EVENT_CONN, slot, 0);
    if (c->receiver_alive && c->sender_alive && sends && !m->server.frozen) {
        c->heard_ms = world.now_ms;
        if (!conn_receive(c))
            c->receiver_alive = false;
    }
    if (c->sender_alive && server_alive(leader) && packet(c->standby, c->leader, &delay)) {
        if (c->receiver_alive || c->acked < c->wire)
            c->reply_ms = world.now_ms;
        c->acked = c->wire;
        release(c);
        if (!c->receiver_alive)
            c->sender_alive = false;
        if (happens(c->lazy ? 10 : 700))
            c->names = leader->server.conf;
    }
    if (c->sender_alive && world.now_ms - c->reply_ms > SENDER_TIMEOUT_MS && server_alive(leader))
        c->sender_alive = false;
    if (c->receiver_alive && !m->server.frozen && (!there || (both && !c->sender_alive)))
        c->receiver_alive = false;
}

/* --- clients --- */

void client_tick(void)
{
    post(between(5, 40), EVENT_CLIENT, 0, 0);
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];
        struct wal *wal = &m->disk.wal;

        if (!server_alive(m) || !m->server.primary || m->server.stopping)
            continue;
        if (happens(800))
            wal->written += RECORD * (1 + dice(3));
        if (happens(900))
            wal->flushed = wal->written;
        for (int c = 0; c < CONNS_MAX; c++)
            if (world.conns[c].used && world.conns[c].leader == i && world.conns[c].sender_alive)
                release(&world.conns[c]);
    }
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
