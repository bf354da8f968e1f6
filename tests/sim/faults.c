/*
 * What goes wrong with processes, links, clocks and messages. Each fault ends by itself after a
 * while or when the storm is over. Each has a number of its own in its schedule, and chance of its
 * own, so that the shrinker can leave it out.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define STING_ID (UINT64_C(1) << 62)

void befall(const char *what, int machine, const char *format, ...)
{
    char text[160], line[200];
    va_list args;

    world.measure[MEASURE_FAULTS]++;
    count_step();
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (machine == NOBODY)
        snprintf(line, sizeof line, "%s", text);
    else
        snprintf(line, sizeof line, "n%d/%d %s", world.machines[machine].slot + 1, machine, text);
    trace("FAULT %s", line);
    fault_record(line);
    project_fault(what, machine);
}

int machine_of(int32_t slot)
{
    for (int i = 0; i < MACHINES; i++)
        if (world.machines[i].slot == slot && !world.machines[i].retired)
            return i;
    return NOBODY;
}

int64_t a_while(void)
{
    switch (dice(4)) {
    case 0: return between(20, 300);
    case 1: return between(300, 2000);
    case 2: return between(1500, 5000);
    default: return between(4000, 9000);
    }
}

int victim(void)
{
    int index = machine_of((int32_t)dice(NODE_COUNT));

    for (int i = 0; i < MACHINES && happens(500); i++)
        if (world.machines[i].server.primary)
            index = i;
    if (happens(50))
        index = (int)dice(MACHINES);
    return world.machines[index].slot == NODE_NONE ? machine_of(0) : index;
}

/* --- processes --- */

/* What was written and not synced may be on the disk or not; half of it never counts. */
static void promise_cut(struct disk *disk)
{
    if (disk->unsynced && happens(350))
        disk->durable = disk->cached;
    disk->unsynced = false;
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
        post(between(10, world.theme.plot ? 60 : 500), EVENT_AGENT_START, index, 0);
        return;
    }
    trace("n%d/%d power off", m->slot + 1, index);
    agent_die(index);
    server_power_cut(index);
    promise_cut(&m->disk);
    m->powered = false;
}

void cut_power(int index, int64_t for_ms)
{
    if (!world.machines[index].powered)
        return;
    befall("power_cut", index, "loses power%s",
           world.machines[index].disk.unsynced ? " while it writes its promise" : "");
    machine_power(index, false);
    post(for_ms, EVENT_POWER, index, 0);
}

void freeze(int endpoint, int64_t ms)
{
    if (!world.endpoints[endpoint].up || world.endpoints[endpoint].frozen)
        return;
    if (endpoint < MACHINES)
        befall("agent_frozen", endpoint, "agent frozen for %lld ms", (long long)ms);
    else
        befall("orchestrator_frozen", NOBODY, "orchestrator %d frozen for %lld ms",
               endpoint - MACHINES, (long long)ms);
    world.endpoints[endpoint].frozen = true;
    world.endpoints[endpoint].thaw_ms = world.now_ms + ms;
    post_event(ms, (struct event){.kind = EVENT_THAW,
                                  .a = endpoint,
                                  .number = world.endpoints[endpoint].life});
}

void freeze_server(int index, int64_t ms)
{
    struct machine *m = &world.machines[index];

    if (!m->server.running || m->server.frozen)
        return;
    befall("server_frozen", index, "Postgres frozen for %lld ms", (long long)ms);
    m->server.frozen = true;
    post_event(ms, (struct event){.kind = EVENT_THAW_SERVER, .a = index, .number = m->server.life});
}

void kill_server(int index, bool remains)
{
    if (!world.machines[index].server.running)
        return;
    befall("server_killed", index,
           remains ? "postmaster killed, backends live on" : "Postgres killed");
    server_kill(index, remains);
}

static void kill_agent(int index)
{
    if (!world.endpoints[index].up)
        return;
    befall("agent_killed", index, "agent killed%s",
           world.machines[index].runs[RUN_STEP].active ? " in a step" : "");
    agent_die(index);
    post(a_while(), EVENT_AGENT_START, index, 0);
}

static void hold_replay(int index)
{
    if (!world.machines[index].server.running)
        return;
    befall("replay_held", index, "replay held up");
    world.machines[index].server.replay_held = true;
}

static void disturb_somebody(void)
{
    int index = victim();
    int64_t ms;

    switch (dice(8)) {
    case 0:
    case 1: kill_server(index, happens(500)); break;
    case 2: freeze_server(index, a_while()); break;
    case 3: kill_agent(index); break;
    case 4: freeze(index, a_while()); break;
    case 5: cut_power(index, a_while()); break;
    case 6:
        ms = a_while();
        freeze(index, ms);
        freeze_server(index, ms + between(-3, 3));
        break;
    default: hold_replay(index); break;
    }
}

static void disturb_boss(void)
{
    int which = (int)dice(BOSSES);

    if (happens(400)) {
        freeze(MACHINES + which, a_while());
        return;
    }
    if (!world.endpoints[MACHINES + which].up)
        return;
    befall("orchestrator_killed", NOBODY, "orchestrator %d killed", which);
    boss_die(which);
    post(a_while(), EVENT_BOSS_START, which, 0);
}

/* As after a suspend: the clock went on while nothing else did. */
static void leap(void)
{
    int endpoint = happens(300) ? MACHINES + (int)dice(BOSSES) : victim();
    int64_t ms = happens(500) ? between(200, 5000) : between(5000, 60000);

    befall("clock_leaps", endpoint < MACHINES ? endpoint : NOBODY,
           "clock of %s %d leaps by %lld ms", endpoint < MACHINES ? "machine" : "orchestrator",
           endpoint < MACHINES ? endpoint : endpoint - MACHINES, (long long)ms);
    world.endpoints[endpoint].leap_ms += ms;
}

/* Something dies while the agent is in the middle of a step. */
void sting(int index)
{
    if (world.calm || fault_masked(STING_ID | (uint64_t)world.now_ms << 4 | (uint64_t)index))
        return;
    switch (dice(8)) {
    case 0:
    case 1: kill_agent(index); break;
    case 2:
    case 3: cut_power(index, a_while()); break;
    case 4:
    case 5: kill_server(index, happens(300)); break;
    case 6: freeze(index, a_while()); break;
    default: roll_back(index); break;
    }
}

/* --- the network --- */

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
    if (alone)
        befall("link_cut", NOBODY, "cut: %d %s all", a, one_way ? "to" : "and");
    else
        befall("link_cut", NOBODY, "cut: %d %s %d", a, one_way ? "to" : "and", b);
}

static void heal_links(void)
{
    befall("links_healed", NOBODY, "links healed");
    memset(world.cut, 0, sizeof world.cut);
}

/* Who answers at an address that two machines claim? */
static void confuse_routes(void)
{
    int index = (int)dice(MACHINES);
    struct machine *m = &world.machines[index];

    if (m->slot == NODE_NONE || !m->retired)
        return;
    /* agents of different clusters have different secrets */
    for (int i = m->stranger ? MACHINES : 0; i < ENDPOINTS; i++)
        if (happens(400))
            world.endpoints[i].route[m->slot] = index;
    befall("address_confused", index, "its address leads to machine %d for some", index);
}

static void deliver(int letter, int target)
{
    if (world.endpoints[target].up)
        post_event(0, (struct event){.kind = EVENT_LETTER,
                                     .a = target,
                                     .b = letter,
                                     .life = world.endpoints[target].life});
}

/* A machine that has lost everything is where an old birth would do harm. */
static int letter_to_repeat(void)
{
    int letter = (int)dice(LETTERS_MAX), blank = NOBODY;

    for (int i = 0; i < MACHINES; i++)
        if (world.endpoints[i].up && cluster_id_is_none(&world.machines[i].durable.cluster))
            blank = i;
    for (int i = 0; i < LETTERS_MAX && blank != NOBODY; i++) {
        const struct letter *old = &world.letters[(letter + i) % LETTERS_MAX];

        if (old->used && old->message.birth && old->message.node == world.machines[blank].slot)
            return (letter + i) % LETTERS_MAX;
    }
    return letter;
}

/* A message of long ago arrives once more, wherever. */
static void repeat_letter(void)
{
    int letter = letter_to_repeat(), target;

    if (!world.letters[letter].used)
        return;
    target = world.endpoints[happens(500) ? MACHINES : (int)dice(MACHINES)]
                 .route[world.letters[letter].message.node];
    if (!world.endpoints[target].up)
        return;
    befall("message_repeated", target, "hears an old message of generation %u, role %d, again",
           world.letters[letter].message.generation, world.letters[letter].message.role);
    deliver(letter, target);
}

/* A grant to a node that has not promised it, or to another proposer. */
static void forge_grant(struct desired *message, const struct durable *d)
{
    bool open = d->role == ROLE_FENCED && d->leader.generation != d->promise.generation;

    message->cluster = d->cluster;
    message->role = ROLE_LEADER;
    message->birth = false;
    message->generation = d->promise.generation + (open ? 0 : dice(2));
    message->proposer = d->promise.proposer ^ 1;
    message->leader = (struct leadership){.generation = message->generation,
                                          .node = d->node,
                                          .incarnation = d->incarnations[d->node],
                                          .proposer = message->proposer};
}

/* A second birth within one generation. */
static void forge_birth(struct desired *message, const struct durable *d)
{
    message->cluster = d->cluster;
    message->role = ROLE_FENCED;
    message->birth = true;
    message->generation = d->promise.generation;
    message->proposer = d->promise.proposer ^ dice(2);
    message->cluster.bytes[15] ^= message->proposer == d->promise.proposer;
    message->leader.node = d->birth_leader;
}

/* What the members of its cluster know of the machine of D: a lie about that would end it for good.
 */
static void tell_of_self(struct desired *message, const struct durable *d)
{
    int32_t slot = d->node;

    message->incarnations[slot] = d->incarnations[slot];
    message->destroyed_number[slot] = d->void_number[slot];
    for (int i = 0; i < MACHINES; i++) {
        const struct durable *other = &world.machines[i].durable;

        /* what a machine drew for itself nobody knows before it has registered */
        if (!cluster_id_equal(&other->cluster, &d->cluster) ||
            (other->node == slot && !other->registered))
            continue;
        message->incarnations[slot] = incarnation_later(message->incarnations[slot],
                                                        other->incarnations[slot]);
        if (other->void_number[slot] > message->destroyed_number[slot])
            message->destroyed_number[slot] = other->void_number[slot];
    }
}

static void forge(struct desired *message, const struct durable *d)
{
    message->node = d->node;
    if (d->birth_promised && !d->birth_ended && happens(500)) {
        forge_birth(message, d);
        return;
    }
    if (d->role == ROLE_FENCED && happens(500)) {
        forge_grant(message, d);
        return;
    }
    switch (dice(8)) {
    case 0: message->protocol++; break;
    case 1: message->cluster.bytes[15] ^= 1; break;
    case 2: message->node = (d->node + 1) % NODE_COUNT; break;
    case 3: message->role = ROLE_NONE; break;
    case 4: message->leader.node = d->node; break;
    case 5:
        message->cluster = d->cluster;
        tell_of_self(message, d);
        break;
    case 6: forge_grant(message, d); break;
    default: /* another leader where there is one */
        message->generation = d->promise.generation;
        message->leader = d->leader;
        message->leader.proposer ^= 1;
        message->birth = false;
        message->role = d->leader.node == d->node ? ROLE_LEADER : ROLE_FOLLOWER;
        break;
    }
}

/* Some machine that was declared destroyed and listens; NOBODY: none. */
static int void_machine(void)
{
    int first = (int)dice(MACHINES);

    for (int i = 0; i < MACHINES; i++) {
        int index = (first + i) % MACHINES;

        if (world.endpoints[index].up && world.machines[index].slot != NODE_NONE &&
            is_void(&world.machines[index]))
            return index;
    }
    return NOBODY;
}

/* A message that nobody sent to this node: of another version, another cluster, for another node,
 * or one that contradicts what it says or what is known. Only such as have to be refused. */
static void stray_letter(void)
{
    struct letter *letter = &world.letters[dice(LETTERS_MAX)], *stray = &world.letters[0];
    int outcast = world.overridden ? void_machine() : NOBODY, target = victim();
    struct standing standing;
    enum verdict verdict;

    if (outcast != NOBODY)
        target = outcast;
    if (!letter->used || !world.endpoints[target].up)
        return;
    *stray = *letter;
    stray->used = false;
    if (outcast == NOBODY) {
        forge(&stray->message, &world.machines[target].durable);
    } else {
        stray->message.node = world.machines[target].slot;
        stray->message.cluster = world.machines[target].durable.cluster;
        stray->message.birth = false;
        tell_of_self(&stray->message, &world.machines[target].durable);
    }
    durable_standing(&world.machines[target].durable, &standing);
    verdict = cover_verdict(&standing, &stray->message);
    if (verdict == VERDICT_OBEY || verdict == VERDICT_PROMISE)
        return;
    befall("message_strays", target, "hears a message that is not for it: %s",
           verdict_name(verdict));
    letter_arrive(target, 0);
}

void weather(void)
{
    world.loss = happens(600) ? 0 : (int)dice(80);
    world.slow = happens(500) ? 0 : (int)dice(250);
    world.step_failures = happens(600) ? 0 : (int)dice(150);
    world.sting = happens(500) ? 0 : (int)dice(25);
    befall("weather", NOBODY, "per mille: %d lost, %d slow, %d steps fail, %d stung", world.loss,
           world.slow, world.step_failures, world.sting);
}

/* --- all of them --- */

static const struct {
    void (*act)(void);
    int share;
} kinds[KINDS] = {
    {disturb_somebody, 50},
    {cut_links, 12},
    {heal_links, 12},
    {disturb_boss, 12},
    {operate, 16},
    {repeat_letter, 8},
    {stray_letter, 4},
    {lose_a_disk, 3},
    {lose_two, 1},
    {replace_a_machine, 4},
    {confuse_routes, 3},
    {let_a_stranger_in, 1},
    {roll_back_a_volume, 4},
    {recycle_some_wal, 4},
    {fill_a_disk, 3},
    {slow_a_disk, 3},
    {leap, 3},
    {weather, 5},
    {promote_by_hand, 1},
    {tamper_with_names, 1},
    {accept_data_loss, 2},
};

enum { REPLACING_SHARE = 40 };

/* Each schedule has its own mixture: some kinds not at all, some all the time; in some machines are
 * replaced, and woken up, one after another. */
void faults_begin(void)
{
    static const int factors[] = {0, 1, 1, 4};
    bool replacing = happens(120);

    world.shares = 0;
    for (int i = 0; i < KINDS; i++) {
        world.share[i] = kinds[i].share * factors[dice(4)];
        if (replacing && (kinds[i].act == replace_a_machine || kinds[i].act == confuse_routes))
            world.share[i] = REPLACING_SHARE;
        world.shares += world.share[i];
    }
    world.share[0] += 1;
    world.shares += 1;
    if (!fault_masked(0))
        weather();
    world.busy = NOBODY;
    post_event(0, (struct event){.kind = EVENT_FAULT, .number = 1});
}

void fault(uint32_t number)
{
    int64_t next_ms = happens(300) ? between(1, 60) : between(50, 1400);
    int choice = (int)dice((uint32_t)world.shares), kind = 0;

    if (world.calm)
        return;
    post_event(next_ms, (struct event){.kind = EVENT_FAULT, .number = number + 1});
    if (fault_masked(number))
        return;
    while (choice >= world.share[kind])
        choice -= world.share[kind++];
    kinds[kind].act();
}

void faults_end(void)
{
    trace("faults end");
    world.calm = true;
    world.calm_ms = world.now_ms;
    world.loss = world.slow = world.step_failures = world.sting = 0;
    memset(world.cut, 0, sizeof world.cut);
    documents_calm();
    storage_calm();
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];

        m->server.frozen = false;
        m->server.replay_held = false;
        server_poke(i, 1);
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
    world.acked_at_calm = (uint64_t)world.measure[MEASURE_ACKED];
}
