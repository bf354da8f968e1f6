/*
 * Replication connections: two ends with a wire between them that may lag, outlive its receiver,
 * and deliver late.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum { SENDER_TIMEOUT_MS = 5000, AT_ONCE = 40 * RECORD, AT_ONCE_THIN = 3 * RECORD };

static void poke(int slot, int64_t in_ms)
{
    struct conn *c = &world.conns[slot];

    if (c->tick_ms != 0 && c->tick_ms <= world.now_ms + in_ms)
        return;
    c->tick_ms = world.now_ms + in_ms;
    post_event(in_ms, (struct event){.kind = EVENT_CONN, .a = slot, .x = ++c->tick});
}

int conn_open(int standby, int leader)
{
    const struct server *s = &world.machines[standby].server;
    int slot = 0;
    uint32_t tick;

    while (slot < CONNS_MAX && world.conns[slot].used)
        slot++;
    if (slot == CONNS_MAX) {
        violate("too many connections: the simulator itself");
        return NOBODY;
    }
    tick = world.conns[slot].tick;
    world.conns[slot] = (struct conn){
        .used = true,
        .standby = standby,
        .leader = leader,
        .standby_life = s->life,
        .leader_life = world.machines[leader].server.life,
        .name = s->receiver_conf,
        .incarnation = s->receiver_conf.incarnations[world.machines[standby].slot].number,
        .receiver_alive = true,
        .sender_alive = true,
        .lazy = happens(150),
        .tick = tick,
        .names = world.machines[leader].server.conf,
        .reply_ms = world.now_ms,
        .heard_ms = world.now_ms};
    poke(slot, between(0, 3));
    return slot;
}

void conns_drop(int index, bool senders_too)
{
    for (int i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &world.conns[i];

        if (c->used && c->leader == index && senders_too)
            c->sender_alive = false;
        if (c->used && c->standby == index && c->standby_life == world.machines[index].server.life)
            c->receiver_alive = false;
    }
}

void conns_poke(int leader)
{
    for (int i = 0; i < CONNS_MAX; i++)
        if (world.conns[i].used && world.conns[i].leader == leader)
            poke(i, between(0, happens(world.slow) ? 100 : 6));
}

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
    int32_t slot = world.machines[c->standby].slot;
    uint64_t upto = record_end(c->acked < leader->disk.wal.flushed ? c->acked
                                                                   : leader->disk.wal.flushed);

    if (!leader->server.primary || leader->server.stopping || !c->name.counted ||
        !names_list(&c->names, slot, c->incarnation, c->name.generation))
        return;
    if (c->receiver_alive && world.machines[c->standby].disk.torn)
        violate("I5: n%d acknowledges from half-copied data", slot + 1);
    clients_release(c->leader, c->standby, upto);
}

static bool receive(struct conn *c)
{
    struct machine *m = &world.machines[c->standby];
    const struct machine *leader = &world.machines[c->leader];
    struct wal *wal = &m->disk.wal;
    uint64_t have = wal->written, there = leader->disk.wal.flushed;
    uint32_t at_once = world.thin ? AT_ONCE_THIN : AT_ONCE;

    if (!branch_contains(leader->disk.wal.branch, there, branch_at(wal->branch, have), have))
        return false;
    if (there > have && m->full)
        return false; /* it cannot keep what it receives, and leaves */
    if (there > have) {
        int before = wal->branch;

        /* one that is far behind takes its time */
        wal->written = happens(800) && there - have < at_once
                           ? there
                           : have + 1 +
                                 dice(there - have < at_once ? (uint32_t)(there - have) : at_once);
        wal->branch = branch_at(leader->disk.wal.branch, wal->written);
        for (int b = wal->branch; b >= 0 && b != before; b = world.branches[b].parent)
            history_set(&m->disk, world.branches[b].timeline, true);
        count_step();
        server_poke(c->standby, between(1, 8));
    }
    if (happens(m->slow ? 60 : 850)) {
        wal->flushed = wal->written;
        c->wire = wal->flushed;
    }
    return true;
}

/* Does something move, or have to be noticed soon? */
static bool busy(const struct conn *c)
{
    const struct machine *m = &world.machines[c->standby], *leader = &world.machines[c->leader];

    return !c->receiver_alive || !c->sender_alive || c->wire > c->acked ||
           m->disk.wal.flushed < m->disk.wal.written || c->wire < leader->disk.wal.flushed ||
           memcmp(&c->names, &leader->server.conf, sizeof c->names) != 0;
}

/* A walsender hears what its receiver last sent, which may be long gone. */
static void sender_hears(struct conn *c)
{
    const struct machine *leader = &world.machines[c->leader];

    if (c->receiver_alive || c->acked < c->wire)
        c->reply_ms = world.now_ms;
    if (c->acked < c->wire)
        count_step();
    c->acked = c->wire;
    release(c);
    if (!c->receiver_alive)
        c->sender_alive = false;
    if (happens(c->lazy ? 10 : 700))
        c->names = leader->server.conf;
}

/* Processes that are gone have no ends; a frozen one keeps what the kernel holds. */
static void ends_look(struct conn *c, bool both)
{
    const struct machine *m = &world.machines[c->standby], *leader = &world.machines[c->leader];

    if (leader->server.life != c->leader_life ||
        !(leader->server.running || leader->server.remains))
        c->sender_alive = false;
    if (m->server.life != c->standby_life || !m->server.running)
        c->receiver_alive = false;
    if (!server_alive(leader) && !c->sender_alive && both)
        c->receiver_alive = c->receiver_alive && m->server.frozen;
}

void conn_tick(int slot, uint32_t tick)
{
    struct conn *c = &world.conns[slot];
    struct machine *m = &world.machines[c->standby], *leader = &world.machines[c->leader];
    bool there = world.now_ms - c->heard_ms < SENDER_TIMEOUT_MS,
         both = linked(c->standby, c->leader);
    bool sends = server_alive(leader) && !world.cut[c->leader][c->standby];
    int64_t delay;

    if (tick != c->tick || !c->used)
        return;
    c->tick_ms = 0;
    ends_look(c, both);
    if (!c->receiver_alive && !c->sender_alive) {
        c->used = false;
        server_poke(c->standby, 1);
        return;
    }
    if (c->receiver_alive && c->sender_alive && sends && !m->server.frozen) {
        c->heard_ms = world.now_ms;
        if (!receive(c))
            c->receiver_alive = false;
    }
    if (c->sender_alive && server_alive(leader) && packet(c->standby, c->leader, &delay))
        sender_hears(c);
    if (c->sender_alive && world.now_ms - c->reply_ms > SENDER_TIMEOUT_MS && server_alive(leader))
        c->sender_alive = false;
    if (c->receiver_alive && !m->server.frozen && (!there || (both && !c->sender_alive)))
        c->receiver_alive = false;
    if (!c->receiver_alive)
        server_poke(c->standby, 1);
    if (happens(world.slow))
        poke(slot, between(1, 120));
    else
        poke(slot, busy(c) ? between(3, 15) : between(60, 250));
}
