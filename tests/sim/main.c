/*
 * sim [--seed N | --from N] [--seconds S] [--schedules N]: schedules until the time is over. A
 * violation is replayed with a trace, and ends the run with 1.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

enum { BIRTH_MS = 30000, WRITES_MS = 120000, WHOLE_MS = 300000 };

/* --- one event --- */

static void handle_owned(const struct event *e)
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
    case EVENT_POLL_ARRIVE: poll_arrive(a, e->b, (int32_t)e->x, e->number); break;
    case EVENT_POLL_EXPIRE: poll_expire(a, e->b, (int32_t)e->x, e->number); break;
    case EVENT_POLL_ANSWER: poll_answer(a, (int32_t)e->x, e->number); break;
    case EVENT_POLL_OVERDUE: poll_overdue(a, (int32_t)e->x, e->number); break;
    case EVENT_PROBED:
        if (a >= MACHINES) {
            boss_probed(a - MACHINES, e->b, (enum probe_verdict)e->x);
        } else {
            world.machines[a].peers[e->b].probing = false;
            world.machines[a].peers[e->b].probed_ms = world.now_ms;
            world.machines[a].peers[e->b].postgres = (enum probe_verdict)e->x;
            agent_changed(a);
        }
        break;
    case EVENT_LETTER: letter_arrive(a, e->b); break;
    case EVENT_REFUSED: boss_refused(a - MACHINES, e->b, (struct promise){e->number, e->x}); break;
    case EVENT_REGISTER:
        peers_registration(a, e->b, e->number, &(struct incarnation){(uint32_t)e->x, e->y});
        break;
    case EVENT_REGISTERED: peers_registered(a, e->b); break;
    case EVENT_DISCARD: peers_discard(a, e->b, e->number, (uint32_t)e->x, (int64_t)e->y); break;
    case EVENT_DISCARDED:
        if (e->number == world.machines[a].durable.promise.generation)
            world.machines[a].discard_until_ms = (int64_t)e->y + 3000;
        agent_changed(a);
        break;
    case EVENT_DOCUMENT: peers_document(a, e->b); break;
    case EVENT_ROUND:
        if (e->number == world.bosses[a - MACHINES].round_number)
            boss_round(a - MACHINES);
        break;
    default: violate("event %d is nobody's", e->kind); break;
    }
}

static void handle(const struct event *e)
{
    struct endpoint *endpoint = &world.endpoints[e->a];

    if (e->kind >= EVENT_OWNED) {
        if (!endpoint->up || endpoint->life != e->life)
            return;
        if (endpoint->frozen) { /* it happens when the process goes on */
            struct event later = *e;

            post_event(endpoint->thaw_ms - world.now_ms + (int64_t)dice(8), later);
            return;
        }
        handle_owned(e);
        return;
    }
    switch (e->kind) {
    case EVENT_SERVER:
        if (e->number == world.machines[e->a].server.life)
            server_tick(e->a);
        break;
    case EVENT_CONN: conn_tick(e->a); break;
    case EVENT_CLIENT: client_tick(); break;
    case EVENT_FAULT: fault(); break;
    case EVENT_STING: sting(e->a); break;
    case EVENT_AGENT_START: agent_start(e->a); break;
    case EVENT_POWER: machine_power(e->a, true); break;
    case EVENT_THAW:
        if (endpoint->life == e->number)
            endpoint->frozen = false;
        break;
    case EVENT_THAW_SERVER:
        if (world.machines[e->a].server.life == e->number)
            world.machines[e->a].server.frozen = false;
        break;
    case EVENT_BOSS_START: boss_start(e->a); break;
    default: break;
    }
}

static bool step(void)
{
    struct event event;

    if (world.violated || !next_event(&event))
        return false;
    world.now_ms = event.at_ms;
    world.steps++;
    handle(&event);
    return true;
}

/* --- one schedule --- */

static void begin(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.seed = seed;
    world.random = (seed + 1) * 0x9e3779b97f4a7c15ULL;
    for (int i = 0; i < 8; i++)
        (void)rnd();
    world.now_ms = 1000000;
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

static bool be_born(void)
{
    int64_t until = world.now_ms + 4 * BIRTH_MS, ask_ms = world.now_ms + 2000;
    bool stormy = happens(150);

    if (stormy)
        faults_begin();

    while (world.now_ms < until && step()) {
        if (world.now_ms > ask_ms) { /* until it has ended, a birth may begin again */
            boss_ask((int)dice(BOSSES), REQUEST_INIT, (int32_t)dice(NODE_COUNT + 1) - 1);
            ask_ms = world.now_ms + between(3000, 20000);
        }
        if (stormy && world.now_ms > until - 3 * BIRTH_MS) {
            faults_end();
            stormy = false;
        }
        if (!stormy && check_whole()) {
            world.born = true;
            return true;
        }
    }
    violate("I6: not born in time");
    return false;
}

static void run(uint64_t seed)
{
    int64_t storm_ms;

    begin(seed);
    if (!be_born())
        return;
    storm_ms = world.now_ms + between(5000, 60000);
    world.calm = false;
    faults_begin();
    while (world.now_ms < storm_ms && step())
        ;
    faults_end();
    while (!world.violated && world.now_ms < world.calm_ms + WHOLE_MS && step()) {
        if (check_whole() && (uint64_t)world.acked > world.acked_at_calm + 10)
            break;
        if (world.now_ms > world.calm_ms + WRITES_MS &&
            (uint64_t)world.acked <= world.acked_at_calm + 10 && check_recovery_due())
            violate("I6: no writes %d s after the faults ended", WRITES_MS / 1000);
    }
    if (!world.violated && check_recovery_due() && !check_whole())
        violate("I6: not whole %d s after the faults ended", WHOLE_MS / 1000);
    if (!world.violated && check_whole())
        figures.recovered++;
    else
        trace("not whole: fewer than two nodes have complete data");
    if (world.now_ms - world.calm_ms > figures.slowest_ms) {
        figures.slowest_ms = world.now_ms - world.calm_ms;
        figures.slowest_seed = seed;
    }
}

/* --- the whole --- */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_figures(double took)
{
    printf("%" PRIu64 " schedules in %.1f s, %" PRIu64 " steps, %" PRIu64 " elections, %" PRIu64
           " acknowledged commits, %" PRIu64 " faults, %" PRIu64
           " recovered, slowest %.1f s (seed %" PRIu64 ")\n",
           figures.schedules, took, figures.steps, figures.elections, figures.acked, figures.faults,
           figures.recovered, (double)figures.slowest_ms / 1e3, figures.slowest_seed);
    printf("not reached:");
    for (int i = 0; i < AGENT_REASON_COUNT; i++)
        if (figures.agent_reasons[i] == 0)
            printf(" %s", agent_reason_code((enum agent_reason)i));
    printf(" |");
    for (int i = 1; i < REASON_COUNT; i++)
        if (figures.boss_reasons[i] == 0)
            printf(" %s", reason_code((enum reason)i));
    printf("\n");
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, last = UINT64_MAX;
    double limit = 15, started = seconds();
    bool one = false;

    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 10);
            one = trace_on = true;
        } else if (strcmp(argv[i], "--from") == 0) {
            seed = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            limit = strtod(argv[i + 1], NULL);
        } else if (strcmp(argv[i], "--schedules") == 0) {
            last = strtoull(argv[i + 1], NULL, 10);
        }
    }
    for (uint64_t n = 0; n < last && (one ? n < 1 : seconds() - started < limit); n++, seed++) {
        run(seed);
        figures.schedules++;
        figures.steps += (uint64_t)world.steps;
        figures.elections += (uint64_t)world.elections;
        figures.acked += (uint64_t)world.acked;
        figures.faults += (uint64_t)world.faults;
        if (world.violated) {
            printf("seed %" PRIu64 ": %s\nreplay: sim --seed %" PRIu64 "\n", seed, world.violation,
                   seed);
            return 1;
        }
    }
    print_figures(seconds() - started);
    return 0;
}
