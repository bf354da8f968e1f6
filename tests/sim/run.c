/*
 * One schedule: a birth, a storm, and the calm after it in which the cluster has to become whole
 * again. Most schedules begin with one of a few births that are kept; the others have their own,
 * some of them disturbed.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    BIRTH_MS = 30000,
    WRITES_MS = 120000,
    WHOLE_MS = 300000,
    HOPELESS_MS = 60000,
    OVERRIDE_MS = 4000,
    KEPT_BIRTHS = 16,
    OWN_BIRTH = 8, /* one schedule out of so many */
    BIRTH_SEEDS = 1 << 30,
};

/* --- one event --- */

static void probed(const struct event *e)
{
    struct peer *peer;

    if (e->a >= MACHINES) {
        boss_probed(e->a - MACHINES, e->b, (enum probe_verdict)e->x);
        return;
    }
    peer = &world.machines[e->a].peers[e->b];
    peer->probing = false;
    peer->probed_ms = clock_of(e->a);
    peer->postgres = (enum probe_verdict)e->x;
    agent_changed(e->a);
}

static void discarded(const struct event *e)
{
    struct machine *m = &world.machines[e->a];

    if (e->number == m->durable.promise.generation && (int64_t)e->y > m->discard_void_ms)
        m->discard_until_ms = (int64_t)e->y + DISCARD_VALID_MS;
    agent_changed(e->a);
}

/* A process does something by itself. */
static void handle_own(const struct event *e)
{
    int a = e->a;

    switch (e->kind) {
    case EVENT_TURN: agent_turn(a); break;
    case EVENT_TIMER: agent_timer(a); break;
    case EVENT_EFFECT: step_effect(a, e->b, e->number); break;
    case EVENT_DONE: step_done(a, e->b, e->number); break;
    case EVENT_LOOKED: agent_looked(a); break;
    case EVENT_SAMPLE: agent_sample(a); break;
    case EVENT_SAMPLED: agent_sampled(a); break;
    case EVENT_EXITED: agent_exited(a, e->number); break;
    case EVENT_CHILD: agent_child_end(a, e->number); break;
    case EVENT_POLL_START: poll_start(a, (int32_t)e->x); break;
    case EVENT_POLL_EXPIRE: poll_expire(a, e->b, (int32_t)e->x); break;
    case EVENT_POLL_OVERDUE: poll_overdue(a, (int32_t)e->x); break;
    case EVENT_STORED: document_stored(a); break;
    case EVENT_CHANGE_AGAIN: document_again(a - MACHINES); break;
    case EVENT_ROUND:
        if (e->number == world.bosses[a - MACHINES].round_number)
            boss_round(a - MACHINES);
        break;
    default: violate("event %d is nobody's: the simulator itself", e->kind); break;
    }
}

/* Something reaches a process from elsewhere. */
static void handle_message(const struct event *e)
{
    int a = e->a;

    count_step();
    switch (e->kind) {
    case EVENT_POLL_ARRIVE: poll_arrive(a, e->b, (int32_t)e->x, e->number); break;
    case EVENT_POLL_ANSWER: poll_answer(a, (int32_t)e->x, e->number); break;
    case EVENT_PROBED: probed(e); break;
    case EVENT_LETTER: letter_arrive(a, e->b); break;
    case EVENT_REFUSED: boss_refused(a - MACHINES, e->b, (struct promise){e->number, e->x}); break;
    case EVENT_REGISTER:
        peers_registration(a, e->b, e->number, &(struct incarnation){(uint32_t)e->x, e->y});
        break;
    case EVENT_REGISTERED: peers_registered(a, e->b); break;
    case EVENT_DISCARD: peers_discard(a, e->b, e->number, (uint32_t)e->x, (int64_t)e->y); break;
    case EVENT_DISCARDED: discarded(e); break;
    case EVENT_DOCUMENT: peers_document(a, e->b); break;
    case EVENT_CHANGE: document_edit(a, e->b); break;
    case EVENT_CHANGED: document_answered(a - MACHINES, (int)e->x, (int)e->number); break;
    default: violate("event %d is nobody's: the simulator itself", e->kind); break;
    }
}

static void handle_process(const struct event *e)
{
    struct endpoint *endpoint = &world.endpoints[e->a];

    if (!endpoint->up || endpoint->life != e->life)
        return;
    if (endpoint->frozen) /* it happens when the process goes on */
        post_event(endpoint->thaw_ms - world.now_ms + (int64_t)dice(8), *e);
    else if (e->kind >= EVENT_MESSAGE)
        handle_message(e);
    else
        handle_own(e);
}

static void thaw_server(const struct event *e)
{
    struct server *s = &world.machines[e->a].server;

    if (s->life != e->number)
        return;
    s->frozen = false;
    server_poke(e->a, 1);
}

static void handle(const struct event *e)
{
    struct endpoint *endpoint = &world.endpoints[e->a];

    switch (e->kind) {
    case EVENT_SERVER:
        if (e->number == world.machines[e->a].server.life)
            server_tick(e->a, (uint32_t)e->x);
        break;
    case EVENT_CONN: conn_tick(e->a, (uint32_t)e->x); break;
    case EVENT_CLIENT: client_tick(); break;
    case EVENT_FAULT: fault(e->number); break;
    case EVENT_THEME: theme_tick(); break;
    case EVENT_STING: sting(e->a); break;
    case EVENT_AGENT_START: agent_start(e->a); break;
    case EVENT_POWER: machine_power(e->a, true); break;
    case EVENT_THAW:
        if (endpoint->life == e->number)
            endpoint->frozen = false;
        break;
    case EVENT_THAW_SERVER: thaw_server(e); break;
    case EVENT_DISK_WELL: disk_well(e->a, e->x); break;
    case EVENT_BOSS_START: boss_start(e->a); break;
    default: handle_process(e); break;
    }
}

static bool step(void)
{
    struct event event;

    if (world.violated || !next_event(&event))
        return false;
    world.now_ms = event.at_ms;
    world.events_handled++;
    chance_for(&event);
    handle(&event);
    check_step(&event);
    project_changes();
    return true;
}

/* --- birth --- */

static void begin(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.now_ms = 1000000;
    world.seed = seed;
    world.old_bases = OLD_BASES;
    world.busy = NOBODY;
    chance_for(&(struct event){.at_ms = world.now_ms});
    world.branches[world.branch_count++].parent = NOBODY; /* of an empty directory */
    for (int e = 0; e < ENDPOINTS; e++)
        for (int32_t slot = 0; slot < NODE_COUNT; slot++)
            world.endpoints[e].route[slot] = slot;
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];

        m->slot = i < NODE_COUNT ? i : NODE_NONE;
        m->disk.durable.node = m->slot;
        m->disk.durable.leader.node = m->disk.durable.birth_leader = NODE_NONE;
        m->disk.conf.upstream = NODE_NONE;
        if (i < NODE_COUNT)
            machine_power(i, true);
    }
    for (int b = 0; b < BOSSES; b++)
        boss_start(b);
    post(0, EVENT_CLIENT, 0, 0);
}

/* Orchestrators that do not know of each other may be asked at once. */
static void ask_for_birth(bool contested)
{
    int first = (int)dice(BOSSES);

    for (int b = 0; b < BOSSES; b++)
        if (b == first || (contested && happens(500)))
            boss_ask(b, REQUEST_INIT, (int32_t)dice(NODE_COUNT + 1) - 1, NULL);
}

static void be_born(uint64_t seed, bool disturbed)
{
    int64_t until, ask_ms;
    bool stormy = disturbed;

    begin(seed);
    until = world.now_ms + 4 * BIRTH_MS;
    ask_ms = world.now_ms + (stormy ? 2000 : 200);
    world.calm = !stormy;
    if (stormy)
        faults_begin();
    while (world.now_ms < until && step()) {
        if (world.now_ms > ask_ms) { /* until it has ended, a birth may begin again */
            ask_for_birth(disturbed);
            ask_ms = world.now_ms + between(3000, 20000);
        }
        if (stormy && world.now_ms > until - 3 * BIRTH_MS - between(0, 20000)) {
            faults_end();
            stormy = false;
        }
        if (!stormy && check_whole()) {
            world.born = true;
            return;
        }
    }
    if (check_recovery_due() || !check_birth_ended())
        violate("I6: not born in time");
}

/* The world in which the storm begins. */
static void be_born_for(uint64_t seed)
{
    static struct world kept[KEPT_BIRTHS];
    static bool ready[KEPT_BIRTHS];
    uint64_t which = seed / OWN_BIRTH % KEPT_BIRTHS;

    if (seed % OWN_BIRTH == 0) {
        be_born(seed, seed / OWN_BIRTH % 2 == 0);
    } else if (ready[which]) {
        world = kept[which];
    } else {
        be_born(BIRTH_SEEDS + which, false);
        if (!world.violated) {
            kept[which] = world;
            ready[which] = true;
        }
    }
    world.seed = seed;
    memset(world.measure, 0, sizeof world.measure);
}

/* --- the calm after the storm --- */

static bool writes_go_on(void)
{
    return (uint64_t)world.measure[MEASURE_ACKED] > world.acked_at_calm + 5;
}

static void become_whole(void)
{
    int64_t override_ms = world.now_ms + OVERRIDE_MS;

    while (world.now_ms < world.calm_ms + WHOLE_MS && step()) {
        if (check_whole() && writes_go_on())
            break;
        if (world.now_ms > override_ms) {
            operators_recover();
            override_ms += OVERRIDE_MS;
        }
        if (world.now_ms > world.calm_ms + HOPELESS_MS && !check_recovery_due())
            break; /* fewer than two nodes have complete data: I6 says nothing */
        if (world.now_ms > world.calm_ms + WRITES_MS && !writes_go_on() && check_recovery_due())
            violate("I6: no writes %d s after the faults ended", WRITES_MS / 1000);
    }
    if (!world.violated && check_recovery_due() && !check_whole())
        violate("I6: not whole %d s after the faults ended", WHOLE_MS / 1000);
}

static void remember(uint64_t seed)
{
    figures.schedules++;
    for (int i = 0; i < MEASURES; i++)
        figures.total[i] += (uint64_t)world.measure[i];
    figures.recovered += check_whole();
    figures.overridden += world.overridden;
    if (!check_whole())
        trace("not whole: fewer than two nodes have complete data");
    else if (world.now_ms - world.calm_ms > figures.slowest_ms) {
        figures.slowest_ms = world.now_ms - world.calm_ms;
        figures.slowest_seed = seed;
    }
}

void run_schedule(uint64_t seed)
{
    int64_t storm_ms;

    be_born_for(seed);
    if (world.violated || !world.born)
        return;
    chance_for(&(struct event){.at_ms = world.now_ms, .b = 1});
    storm_ms = world.now_ms + between(STORM_SHORTEST_MS, STORM_LONGEST_MS);
    world.doomed = happens(60);
    world.calm = false;
    if (theme_begin())
        storm_ms = world.now_ms +
                   between(STORM_SHORTEST_MS, STORM_SHORTEST_MS + STORM_LONGEST_MS / 4);
    while (world.theme.plot && step())
        ;
    faults_begin();
    while (world.now_ms < storm_ms && step())
        ;
    faults_end();
    become_whole();
    if (!world.violated)
        remember(seed);
}
