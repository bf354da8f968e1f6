/*
 * What goes wrong. Each fault ends by itself after a while or when the storm is over. A disk is
 * lost only while both other nodes hold complete data: more than that nobody promises to survive.
 */
#include <string.h>

#include "tests/sim/sim.h"

static int current(int32_t slot)
{
    for (int i = 0; i < MACHINES; i++)
        if (world.machines[i].slot == slot && !world.machines[i].retired)
            return i;
    return NOBODY;
}

void machine_power(int index, bool on)
{
    struct machine *m = &world.machines[index];

    /* one that was replaced before it had registered, or that takes itself for a new machine, would
     * claim the slot once more */
    if (m->powered == on ||
        (on && m->retired && (!m->disk.durable.registered || m->disk.rolled_back)))
        return;
    if (on) {
        trace("n%d/%d power on", m->slot + 1, index);
        m->powered = true;
        post(between(10, 500), EVENT_AGENT_START, index, 0);
        return;
    }
    trace("n%d/%d power cut", m->slot + 1, index);
    agent_die(index);
    server_power_cut(index);
    m->powered = false;
}

static void freeze(int endpoint, int64_t ms)
{
    if (!world.endpoints[endpoint].up || world.endpoints[endpoint].frozen)
        return;
    trace("endpoint %d frozen for %lld ms", endpoint, (long long)ms);
    world.endpoints[endpoint].frozen = true;
    world.endpoints[endpoint].thaw_ms = world.now_ms + ms;
    post_event(ms, (struct event){.kind = EVENT_THAW,
                                  .a = endpoint,
                                  .number = world.endpoints[endpoint].life});
}

static void freeze_server(int index, int64_t ms)
{
    struct machine *m = &world.machines[index];

    if (!m->server.running || m->server.frozen)
        return;
    trace("n%d/%d Postgres frozen for %lld ms", m->slot + 1, index, (long long)ms);
    m->server.frozen = true;
    post_event(ms, (struct event){.kind = EVENT_THAW_SERVER, .a = index, .number = m->server.life});
}

static int64_t a_while(void)
{
    switch (dice(4)) {
    case 0: return between(20, 300);
    case 1: return between(300, 2000);
    case 2: return between(2000, 6000);
    default: return between(5000, 15000);
    }
}

static void kill_agent(int index)
{
    agent_die(index);
    post(a_while(), EVENT_AGENT_START, index, 0);
}

static void cut_links(void)
{
    int a = (int)dice(ENDPOINTS), b = (int)dice(ENDPOINTS);
    bool one_way = happens(300), alone = happens(350);

    for (int i = 0; i < ENDPOINTS; i++) {
        if (i == a || (!alone && i != b))
            continue;
        world.cut[a][i] = true;
        if (!one_way)
            world.cut[i][a] = true;
    }
    trace("cut: %d %s %d%s", a, one_way ? "to" : "and", alone ? -1 : b, alone ? " (all)" : "");
}

static void heal_links(void)
{
    trace("links healed");
    memset(world.cut, 0, sizeof world.cut);
}

/* --- disks and machines --- */

static bool may_lose(int index)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        int other = current(slot);
        const struct durable *d = &world.machines[other].disk.durable;

        if (other == index)
            continue;
        if (other == NOBODY || !d->complete || !d->registered || !d->birth_ended)
            return false;
    }
    return world.born && !world.machines[index].retired;
}

static void wipe(int index)
{
    struct machine *m = &world.machines[index];

    memset(&m->disk, 0, sizeof m->disk);
    m->disk.durable.node = m->slot;
    m->disk.durable.leader.node = NODE_NONE;
    m->disk.durable.birth_leader = NODE_NONE;
    m->disk.conf.upstream = NODE_NONE;
}

static void lose_disk(int index)
{
    if (!may_lose(index))
        return;
    trace("n%d/%d loses its disk", world.machines[index].slot + 1, index);
    machine_power(index, false);
    wipe(index);
    world.disks_lost++;
    post(a_while(), EVENT_POWER, index, 0);
}

/* The data directory alone goes back to what it was some time ago; the promise file does not. */
static void roll_back(int index)
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
    trace("n%d/%d data directory rolled back", m->slot + 1, index);
    machine_power(index, false);
    now = m->disk;
    m->disk = m->snapshot;
    m->disk.durable = now.durable;
    m->disk.document = now.document;
    m->disk.conf = now.conf;
    m->disk.conf_digest = now.conf_digest;
    m->disk.conf_written = now.conf_written;
    m->disk.note = now.note;
    m->disk.note_digest = now.note_digest;
    m->disk.clean = false;
    m->disk.rolled_back = true;
    world.disks_lost++;
    post(a_while(), EVENT_POWER, index, 0);
}

/* Old segments are removed; enough is kept for one follower at least (wal_keep_size). */
static void recycle_wal(int index)
{
    struct machine *m = &world.machines[index];
    uint64_t end = 0;

    for (int i = 0; i < CONNS_MAX; i++)
        if (world.conns[i].used && world.conns[i].leader == index && world.conns[i].name.counted &&
            world.conns[i].acked > end)
            end = record_end(world.conns[i].acked);
    end -= end < RECORD * 60 ? end : RECORD * (uint64_t)dice(60);
    if (m->server.primary && end > m->disk.oldest_lsn)
        m->disk.oldest_lsn = end;
}

/* The old machine may go on unseen, or wake up later. */
static void replace_machine(int index)
{
    struct machine *m = &world.machines[index];
    int spare = NOBODY;

    for (int i = 0; i < MACHINES; i++)
        if (world.machines[i].slot == NODE_NONE)
            spare = i;
    if (spare == NOBODY || !may_lose(index))
        return;
    trace("n%d: machine %d takes the place of %d", m->slot + 1, spare, index);
    m->retired = true;
    world.machines[spare].slot = m->slot;
    wipe(spare);
    for (int i = 0; i < ENDPOINTS; i++)
        world.endpoints[i].route[m->slot] = spare;
    world.disks_lost++;
    if (happens(700) || !m->disk.durable.registered) {
        machine_power(index, false);
        post(a_while(), EVENT_POWER, index, 0);
    }
    machine_power(spare, true);
}

/* Who answers at an address that two machines claim? */
static void confuse_routes(void)
{
    int index = (int)dice(MACHINES);
    struct machine *m = &world.machines[index];

    if (m->slot == NODE_NONE || !m->retired)
        return;
    for (int i = 0; i < ENDPOINTS; i++)
        if (happens(400))
            world.endpoints[i].route[m->slot] = index;
    trace("n%d's address leads to machine %d for some", m->slot + 1, index);
}

/* --- operators --- */

static void change_document(int kind)
{
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];
        struct document_facts next = m->durable.document;

        if (!world.endpoints[i].up || world.endpoints[i].frozen || !m->report.leading)
            continue;
        next.version = next.version.generation == m->durable.promise.generation
                           ? (struct document_version){next.version.generation,
                                                       next.version.counter + 1}
                           : (struct document_version){m->durable.promise.generation, 1};
        if (kind == 0)
            next.maintenance = !next.maintenance;
        else
            next.fenced[dice(NODE_COUNT)] ^= true;
        trace("n%d/%d document: maintenance %d, fences %d%d%d", m->slot + 1, i, next.maintenance,
              next.fenced[0], next.fenced[1], next.fenced[2]);
        m->disk.document = m->durable.document = next;
        agent_changed(i);
        return;
    }
}

static void operate(void)
{
    int which = (int)dice(BOSSES);
    int32_t target = (int32_t)dice(NODE_COUNT + 1) - 1;

    switch (dice(8)) {
    case 0:
    case 1: boss_ask(which, REQUEST_FAILOVER, target); break;
    case 2:
    case 3:
    case 4: boss_ask(which, REQUEST_SWITCHOVER, target); break;
    case 5: boss_ask(which, REQUEST_JOB, (int32_t)dice(NODE_COUNT)); break;
    case 6: change_document(0); break;
    default: change_document(1); break;
    }
}

/* A message of long ago arrives once more, wherever. */
static void repeat_letter(void)
{
    int letter = (int)dice(LETTERS_MAX);
    int target;

    if (!world.letters[letter].used)
        return;
    target = world.endpoints[happens(500) ? MACHINES : (int)dice(MACHINES)]
                 .route[world.letters[letter].message.node];
    if (world.endpoints[target].up)
        post_event(0, (struct event){.kind = EVENT_LETTER,
                                     .a = target,
                                     .b = letter,
                                     .life = world.endpoints[target].life});
}

static void weather(void)
{
    world.loss = happens(600) ? 0 : (int)dice(80);
    world.slow = happens(500) ? 0 : (int)dice(250);
    world.step_failures = happens(600) ? 0 : (int)dice(150);
    world.sting = happens(500) ? 0 : (int)dice(25);
}

static void disturb(int index)
{
    struct machine *m = &world.machines[index];

    switch (dice(8)) {
    case 0:
    case 1:
        if (m->server.running)
            server_kill(index, happens(500));
        break;
    case 2: freeze_server(index, a_while()); break;
    case 3: kill_agent(index); break;
    case 4: freeze(index, a_while()); break;
    case 5:
        machine_power(index, false);
        post(a_while(), EVENT_POWER, index, 0);
        break;
    case 6: {
        int64_t ms = a_while();

        freeze(index, ms);
        freeze_server(index, ms + between(-3, 3));
        break;
    }
    default: m->server.replay_held = true; break;
    }
}

/* Something dies while the agent is in the middle of a step. */
void sting(int index)
{
    struct machine *m = &world.machines[index];

    if (world.calm)
        return;
    world.faults++;
    switch (dice(8)) {
    case 0:
    case 1: kill_agent(index); break;
    case 2:
    case 3:
        machine_power(index, false);
        post(a_while(), EVENT_POWER, index, 0);
        break;
    case 4:
    case 5:
        if (m->server.running)
            server_kill(index, happens(300));
        break;
    case 6: freeze(index, a_while()); break;
    default: roll_back(index); break;
    }
}

/* Half of all trouble befalls whoever leads. */
static int victim(void)
{
    int index = current((int32_t)dice(NODE_COUNT));

    for (int i = 0; i < MACHINES && happens(500); i++)
        if (world.machines[i].server.primary)
            index = i;
    if (happens(50))
        index = (int)dice(MACHINES);
    return world.machines[index].slot == NODE_NONE ? current(0) : index;
}

static void disturb_somebody(void)
{
    disturb(victim());
}

static void disturb_boss(void)
{
    int which = (int)dice(BOSSES);

    if (happens(400)) {
        freeze(MACHINES + which, a_while());
        return;
    }
    boss_die(which);
    post(a_while(), EVENT_BOSS_START, which, 0);
}

static void lose_a_disk(void)
{
    lose_disk(victim());
}

static void replace_a_machine(void)
{
    replace_machine(victim());
}

static void roll_back_a_volume(void)
{
    roll_back(victim());
}

static void recycle_some_wal(void)
{
    recycle_wal(victim());
}

/* Somebody's pg_promote(), on a standby that nobody granted anything, before its agent's eyes: the
 * copy is as good as lost. */
static void promote_by_hand(void)
{
    int index = victim();
    struct machine *m = &world.machines[index];

    /* both at once, on the copy of a leader, can look like the leader itself */
    if (m->disk.rolled_back || !world.endpoints[index].up || world.endpoints[index].frozen ||
        !may_lose(index) || !m->server.running || m->server.starting || m->server.primary ||
        m->server.conf.names || m->disk.conf.names)
        return;
    trace("n%d: promoted by hand", m->slot + 1);
    m->server.promoting = m->server.by_hand = true;
}

static const struct {
    void (*act)(void);
    int share;
} kinds[KINDS] = {
    {disturb_somebody, 40}, {cut_links, 12},         {heal_links, 12}, {disturb_boss, 12},
    {operate, 8},           {repeat_letter, 8},      {lose_a_disk, 3}, {replace_a_machine, 3},
    {confuse_routes, 3},    {roll_back_a_volume, 3}, {weather, 5},     {recycle_some_wal, 4},
    {promote_by_hand, 1},
};

/* Each schedule has its own mixture: some kinds not at all, some all the time. */
void faults_begin(void)
{
    static const int factors[] = {0, 1, 1, 4};

    world.shares = 0;
    for (int i = 0; i < KINDS; i++) {
        world.share[i] = kinds[i].share * factors[dice(4)];
        world.shares += world.share[i];
    }
    world.share[0] += 1;
    world.shares += 1;
    weather();
    post(0, EVENT_FAULT, 0, 0);
}

void fault(void)
{
    int choice = (int)dice((uint32_t)world.shares), kind = 0;

    if (world.calm)
        return;
    world.faults++;
    post(happens(300) ? between(1, 60) : between(50, 2500), EVENT_FAULT, 0, 0);
    while (choice >= world.share[kind])
        choice -= world.share[kind++];
    kinds[kind].act();
}

/* --- calm --- */

static void clear_documents(void)
{
    struct document_version version = {0, 0};

    for (int i = 0; i < MACHINES; i++)
        if (document_version_compare(world.machines[i].disk.document.version, version) > 0)
            version = world.machines[i].disk.document.version;
    version.counter++;
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];

        m->disk.document.maintenance = false;
        memset(m->disk.document.fenced, 0, sizeof m->disk.document.fenced);
        m->disk.document.version = version;
        m->durable.document = m->disk.document;
    }
}

void faults_end(void)
{
    trace("faults end");
    world.calm = true;
    world.calm_ms = world.now_ms;
    world.loss = world.slow = world.step_failures = world.sting = 0;
    heal_links();
    clear_documents();
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];

        m->server.frozen = false;
        m->server.replay_held = false;
        if (m->slot == NODE_NONE || m->retired)
            continue;
        for (int e = 0; e < ENDPOINTS; e++)
            world.endpoints[e].route[m->slot] = i;
        machine_power(i, true);
        post(between(0, 500), EVENT_AGENT_START, i, 0);
    }
    for (int e = 0; e < ENDPOINTS; e++)
        world.endpoints[e].frozen = false;
    for (int b = 0; b < BOSSES; b++)
        boss_start(b);
    world.acked_at_calm = (uint64_t)world.acked;
}
