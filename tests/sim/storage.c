/*
 * What goes wrong with disks, and machines that take another's place. A disk is lost only while
 * both other nodes hold complete data: more than that nobody promises to survive – but for
 * schedules where an operator will have to accept the loss of data.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum { WELL_FULL, WELL_SLOW, WELL_FOREIGN };

/* All but INDEX hold all there is to hold. */
bool may_lose(int index)
{
    if (!world.born || world.machines[index].retired)
        return false;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        int other = machine_of(slot);
        const struct disk *disk = &world.machines[other].disk;

        if (other != index && (!disk->durable.complete || !disk->durable.registered ||
                               !disk->durable.birth_ended || disk->spoiled))
            return false;
    }
    return true;
}

void storage_wipe(int index)
{
    struct machine *m = &world.machines[index];

    memset(&m->disk, 0, sizeof m->disk);
    memset(&m->snapshot, 0, sizeof m->snapshot);
    m->disk.durable.node = m->slot;
    m->disk.durable.leader.node = NODE_NONE;
    m->disk.durable.birth_leader = NODE_NONE;
    m->disk.conf.upstream = NODE_NONE;
    world.promise_seen[index] = (struct promise){0};
    world.wal_replaced[index] = true;
}

static void get_well_in(int64_t ms, int index, uint64_t what)
{
    post_event(ms, (struct event){.kind = EVENT_DISK_WELL, .a = index, .x = what});
}

void disk_well(int index, uint64_t what)
{
    struct machine *m = &world.machines[index];

    switch (what) {
    case WELL_FULL: m->full = false; break;
    case WELL_SLOW: m->slow = false; break;
    default: m->disk.foreign = false; break;
    }
    server_poke(index, 1);
    if (world.endpoints[index].up)
        agent_look(index);
}

void lose_disk(int index, const char *how, int64_t for_ms)
{
    befall("disk_lost", index, "loses its disk%s", how);
    machine_power(index, false);
    storage_wipe(index);
    world.disks_lost++;
    post(for_ms, EVENT_POWER, index, 0);
}

/* A promise file of which both copies are damaged is refused at the start: the machine is emptied.
 */
void lose_a_disk(void)
{
    int index = victim();

    if (may_lose(index))
        lose_disk(index,
                  happens(300) ? ": its promise file is damaged, an operator empties it" : "",
                  a_while());
}

/* The data directory alone goes back to what it was some time ago; the promise file does not. */
void roll_back(int index)
{
    struct machine *m = &world.machines[index];
    struct disk now;

    if (m->snapshot.data_id == 0 || happens(300)) {
        if (!m->disk.torn)
            m->snapshot = m->disk;
        return;
    }
    /* what only its acknowledgements knew, nobody notices: a disk that forgets what was flushed is
     * not defended against */
    if (!may_lose(index) ||
        (m->snapshot.data_id == m->disk.durable.data_id &&
         position_compare(wal_position(&m->snapshot.wal, record_end(m->snapshot.wal.written)),
                          m->disk.durable.floor) >= 0))
        return;
    befall("volume_rolled_back", index, "data directory rolled back");
    machine_power(index, false);
    now = m->disk;
    m->disk = m->snapshot;
    m->disk.durable = now.durable;
    m->disk.cached = now.cached;
    m->disk.unsynced = now.unsynced;
    m->disk.document = now.document;
    m->disk.text = now.text;
    m->disk.conf = now.conf;
    m->disk.conf_digest = now.conf_digest;
    m->disk.conf_written = now.conf_written;
    m->disk.note = now.note;
    m->disk.note_digest = now.note_digest;
    m->disk.clean = false;
    m->disk.rolled_back = m->disk.spoiled = true;
    world.wal_replaced[index] = true;
    world.disks_lost++;
    post(a_while(), EVENT_POWER, index, 0);
}

void roll_back_a_volume(void)
{
    roll_back(victim());
}

/* Old segments are removed; enough is kept for one follower at least (wal_keep_size). */
void recycle_some_wal(void)
{
    int index = victim();
    struct machine *m = &world.machines[index];
    uint64_t end = 0;

    for (int i = 0; i < CONNS_MAX; i++)
        if (world.conns[i].used && world.conns[i].leader == index && world.conns[i].name.counted &&
            world.conns[i].acked > end)
            end = record_end(world.conns[i].acked);
    end -= end < RECORD * 20 ? end : RECORD * (uint64_t)dice(20);
    if (!m->server.primary || end <= m->disk.oldest_lsn)
        return;
    befall("wal_recycled", index, "old WAL removed up to %llu", (unsigned long long)end);
    m->disk.oldest_lsn = end;
}

/* --- sick disks --- */

void fill_a_disk(void)
{
    int index = victim();

    if (world.machines[index].full)
        return;
    befall("disk_full", index, "disk is full");
    world.machines[index].full = true;
    get_well_in(a_while(), index, WELL_FULL);
}

void slow_a_disk(void)
{
    int index = victim();

    if (world.machines[index].slow)
        return;
    befall("disk_slow", index, "disk is slow");
    world.machines[index].slow = true;
    get_well_in(a_while(), index, WELL_SLOW);
}

/* --- other machines --- */

static int spare_machine(void)
{
    for (int i = 0; i < MACHINES; i++)
        if (world.machines[i].slot == NODE_NONE)
            return i;
    return NOBODY;
}

/* The old machine may go on unseen, or wake up later. */
void replace_machine(int index, int goes_on)
{
    struct machine *m = &world.machines[index];
    int spare = spare_machine();

    if (spare == NOBODY || m->retired) /* by now somebody else has */
        return;
    befall("machine_replaced", index, "machine %d takes the place of %d", spare, index);
    m->retired = true;
    world.machines[spare].slot = m->slot;
    storage_wipe(spare);
    for (int i = 0; i < ENDPOINTS; i++)
        world.endpoints[i].route[m->slot] = spare;
    world.disks_lost++;
    /* one that takes itself for a new machine would claim the slot once more */
    if (!happens(goes_on) || !m->disk.durable.registered || m->disk.spoiled) {
        machine_power(index, false);
        post(a_while(), EVENT_POWER, index, 0);
    }
    if (goes_on == GOES_ON && happens(150)) { /* it is not empty; an operator sees to that later */
        world.machines[spare].disk.foreign = true;
        get_well_in(a_while(), spare, WELL_FOREIGN);
    }
    machine_power(spare, true);
}

void replace_a_machine(void)
{
    int index = victim();

    if (may_lose(index))
        replace_machine(index, GOES_ON);
}

/* Nobody alive can tell any more what was acknowledged. */
void lose_two(void)
{
    int32_t kept = (int32_t)dice(NODE_COUNT);
    bool replaced = happens(500);

    if (!world.doomed || world.two_lost || !may_lose(machine_of(kept)) ||
        !world.machines[machine_of(kept)].disk.durable.complete)
        return;
    world.two_lost = true;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (slot != kept && replaced)
            replace_machine(machine_of(slot), GOES_ON);
        else if (slot != kept)
            lose_disk(machine_of(slot), ", as does another", a_while());
    }
}

/* A machine of another cluster that bears the same name, where orchestrators look for ours. */
void let_a_stranger_in(void)
{
    int spare = spare_machine();
    struct machine *m = &world.machines[spare == NOBODY ? 0 : spare];
    struct durable *d = &m->disk.durable;

    if (spare == NOBODY || !world.born || world.branch_count == BRANCHES_MAX)
        return;
    m->slot = (int32_t)dice(NODE_COUNT);
    m->retired = m->stranger = true;
    storage_wipe(spare);
    d->cluster.bytes[15] = (uint8_t)(0xe0 + spare); /* each of its own */
    d->incarnations[m->slot] = (struct incarnation){.number = 1, .nonce = rnd()};
    d->registered = d->birth_promised = d->birth_ended = d->complete = true;
    d->birth_leader = (m->slot + 1) % NODE_COUNT;
    d->promise = (struct promise){.generation = FIRST_GENERATION, .proposer = rnd()};
    d->role = ROLE_FENCED;
    m->disk.data_id = d->data_id = rnd();
    m->disk.present = true;
    world.branches[world.branch_count] = (struct branch){
        .parent = NOBODY, .timeline = 1, .machine = spare};
    m->disk.wal = (struct wal){
        .branch = world.branch_count++, .written = 10 * RECORD, .flushed = 10 * RECORD};
    befall("stranger", spare, "a machine of another cluster answers at its address for some");
    for (int i = MACHINES; i < ENDPOINTS; i++)
        if (happens(600))
            world.endpoints[i].route[m->slot] = spare;
    machine_power(spare, true);
}

void storage_calm(void)
{
    for (int i = 0; i < MACHINES; i++) {
        world.machines[i].full = world.machines[i].slow = false;
        world.machines[i].disk.foreign = false;
        if (world.endpoints[i].up)
            agent_look(i);
    }
}
