/*
 * Themes: faults that belong together, each made for a rule whose loss a storm of faults that know
 * nothing of each other hardly ever shows. A plot is a few stages; each waits for something that
 * the cluster does, then for a random while, and then does harm. What does not come to pass ends
 * it. The storm comes afterwards.
 */
#include <string.h>

#include "tests/sim/sim.h"

#define THEME_ID (UINT64_C(1) << 61)

enum {
    THEMED = 300,       /* per mille of schedules */
    PATIENCE_MS = 4000, /* for what a stage waits for */
    LONG_MS = 9000,
};

struct stage {
    bool (*comes)(const struct theme *theme);
    void (*act)(struct theme *theme);
    int shortest_ms, longest_ms; /* after it came */
};

enum { STAGES_MAX = 6 };

struct theme_plot {
    const char *name;
    struct stage stages[STAGES_MAX];
};

static struct machine *machine(int index)
{
    return &world.machines[index];
}

/* --- what is waited for --- */

static bool at_once(const struct theme *theme)
{
    (void)theme;
    return true;
}

static bool some_acked(const struct theme *theme)
{
    return world.measure[MEASURE_ACKED] > theme->acked + 2;
}

static int present(const struct theme *theme)
{
    return theme->fresh == NOBODY ? theme->gone : theme->fresh;
}

static bool copy_streams(const struct theme *theme)
{
    const struct machine *m = machine(present(theme));

    return m->server.receiver == RECEIVER_STREAMING && m->disk.durable.marker == MARKER_CLONE &&
           m->disk.durable.marker_done;
}

static bool copy_complete(const struct theme *theme)
{
    return machine(present(theme))->disk.durable.complete;
}

static bool fresh_registers(const struct theme *theme)
{
    return !cluster_id_is_none(&machine(theme->fresh)->durable.cluster);
}

/* Of a generation after the first, and it has acknowledged something. */
static int later_leader(const struct theme *theme)
{
    for (int i = 0; i < MACHINES; i++) {
        const struct machine *m = machine(i);
        const struct branch *branch = &world.branches[m->disk.wal.branch];

        if (m->server.primary && branch->generation > theme->generation)
            return i;
    }
    return NOBODY;
}

static bool another_leads(const struct theme *theme)
{
    return later_leader(theme) != NOBODY;
}

static bool another_acknowledged(const struct theme *theme)
{
    int index = later_leader(theme);
    const struct branch *branch;

    if (index == NOBODY)
        return false;
    branch = &world.branches[machine(index)->disk.wal.branch];
    return branch->acked > branch->begin;
}

static bool another_is_ahead(const struct theme *theme)
{
    int index = later_leader(theme);
    const struct branch *branch;

    if (index == NOBODY)
        return false;
    branch = &world.branches[machine(index)->disk.wal.branch];
    return branch->acked > branch->begin + (CLIENTS + 2) * RECORD;
}

static bool whole(const struct theme *theme)
{
    (void)theme;
    return check_whole();
}

static bool old_machine_answered(const struct theme *theme)
{
    return machine(theme->fresh)->disk.durable.registered_at[machine(theme->other)->slot];
}

static bool fresh_counts(const struct theme *theme)
{
    return copy_complete(theme) && some_acked(theme);
}

/* --- what happens --- */

static void part(int a, int b, bool cut)
{
    world.cut[a][b] = world.cut[b][a] = cut;
}

static void isolate(int index)
{
    for (int e = 0; e < ENDPOINTS; e++)
        if (e != index)
            part(index, e, true);
    befall("link_cut", NOBODY, "cut: %d and all", index);
}

static void heal(struct theme *theme)
{
    (void)theme;
    befall("links_healed", NOBODY, "links healed");
    memset(world.cut, 0, sizeof world.cut);
}

static void thaw_servers(struct theme *theme)
{
    (void)theme;
    for (int i = 0; i < MACHINES; i++) {
        machine(i)->server.frozen = false;
        server_poke(i, 1);
    }
}

static void replace(struct theme *theme, int goes_on)
{
    int32_t slot = machine(theme->gone)->slot;

    if (!may_lose(theme->gone))
        return;
    replace_machine(theme->gone, goes_on);
    theme->fresh = machine_of(slot);
}

static void strike_leader(struct theme *theme)
{
    int index = machine(theme->leader)->server.primary ? theme->leader : later_leader(theme);

    if (index == NOBODY)
        return;
    if (happens(400))
        kill_server(index, false);
    else
        cut_power(index, between(3000, LONG_MS));
}

static void strike(struct theme *theme)
{
    strike_leader(theme);
    if (happens(800))
        thaw_servers(theme);
}

/* --- a copy is made while the third lags --- */

static void third_lags(struct theme *theme)
{
    world.old_bases = 800;
    world.thin = true;
    freeze_server(theme->other, LONG_MS);
}

static void copy_anew(struct theme *theme)
{
    switch (dice(4)) {
    case 0:
        if (may_lose(theme->gone))
            lose_disk(theme->gone, "", between(5, 200));
        break;
    case 1: replace(theme, 0); break;
    default:
        if (boss_ask((int)dice(BOSSES), REQUEST_JOB, machine(theme->gone)->slot, NULL))
            befall("operator_asks", NOBODY, "an operator asks for a job");
        break;
    }
}

static void leader_hangs(struct theme *theme)
{
    freeze_server(theme->leader, LONG_MS);
}

/* --- a machine that was replaced goes on --- */

static void goes_on_unaware(struct theme *theme)
{
    freeze_server(theme->other, LONG_MS);
    freeze(theme->gone, LONG_MS);
    if (happens(700))
        world.busy = theme->leader;
    for (int i = 0; i < CONNS_MAX; i++)
        if (world.conns[i].used && world.conns[i].standby == theme->gone && happens(800))
            world.conns[i].lazy = true;
    replace(theme, 1000);
}

static void new_one_lags(struct theme *theme)
{
    freeze_server(theme->fresh, LONG_MS);
    if (happens(500))
        freeze(theme->leader, between(300, 2000));
}

/* --- a machine is replaced at an election --- */

static void replace_at_election(struct theme *theme)
{
    if (happens(600))
        world.busy = theme->other;
    replace(theme, happens(500) ? 1000 : 0);
}

static void ask_for_failover(struct theme *theme)
{
    if (boss_ask((int)dice(BOSSES), REQUEST_FAILOVER, machine(theme->other)->slot, NULL))
        befall("operator_asks", NOBODY, "an operator asks for a failover, n%d",
               machine(theme->other)->slot + 1);
}

/* --- a leader that does not know that another was elected --- */

static void depose_unnoticed(struct theme *theme)
{
    world.old_bases = 800;
    world.thin = true;
    isolate(theme->leader);
    ask_for_failover(theme);
}

/* … and takes no commits for a while, which its clients then bring to the new one. */
static void hang_and_depose(struct theme *theme)
{
    freeze_server(theme->leader, LONG_MS);
    depose_unnoticed(theme);
}

/* Those who elected the new leader are both lost at once: nobody is to act as if nothing had been.
 * Of a cluster of which the third has lost its data too, nothing would be left. */
static void replace_both(struct theme *theme)
{
    int goes_on = happens(300) ? 1000 : 0;

    if (!may_lose(theme->leader) || !machine(theme->leader)->disk.durable.complete)
        return;
    world.doomed = world.two_lost = true;
    for (int i = 0; i < 2; i++) {
        int index = i == 0 ? theme->gone : theme->other;

        if (goes_on)
            isolate(index);
        replace_machine(index, goes_on);
    }
    for (int e = 0; e < ENDPOINTS; e++)
        if (e != theme->gone && e != theme->other)
            part(theme->leader, e, false);
}

static void declare_destroyed(struct theme *theme)
{
    (void)theme;
    accept_data_loss();
}

/* The follower of the new one is lost; what takes its place hears of both. */
static void replace_follower(struct theme *theme)
{
    int index = later_leader(theme);

    thaw_servers(theme);
    theme->gone = index == theme->gone ? theme->other : theme->gone;
    replace(theme, 0);
    if (theme->fresh != NOBODY)
        part(theme->fresh, theme->leader, false);
}

static void strike_later_leader(struct theme *theme)
{
    int index = later_leader(theme);

    heal(theme);
    if (index != NOBODY)
        cut_power(index, between(3000, LONG_MS));
}

/* --- a machine that was replaced answers for its slot --- */

static void third_is_replaced(struct theme *theme)
{
    if (!may_lose(theme->other))
        return;
    isolate(theme->other);
    replace_machine(theme->other, 1000);
}

/* Two sides that know nothing of each other: the leader with the machine that is to come, and the
 * third with what that one replaces. */
static void answered_by_the_old(struct theme *theme)
{
    int third = machine_of(machine(theme->other)->slot), there = MACHINES + (int)dice(BOSSES);

    if (third == theme->other || !may_lose(theme->gone))
        return;
    isolate(theme->gone);
    part(third, theme->leader, true);
    part(there, theme->leader, true);
    part(third, MACHINES + MACHINES + BOSSES - 1 - there, true);
    replace(theme, 1000);
    if (theme->fresh == NOBODY)
        return;
    isolate(theme->fresh);
    part(theme->fresh, theme->other, false);
    world.endpoints[theme->fresh].route[machine(theme->other)->slot] = theme->other;
}

static void hears_of_the_leader(struct theme *theme)
{
    part(theme->fresh, theme->other, true);
    for (int b = MACHINES; b < ENDPOINTS; b++)
        if (!world.cut[b][theme->leader])
            part(theme->fresh, b, false);
    part(theme->fresh, theme->leader, false);
}

static void old_side_wakes(struct theme *theme)
{
    int third = machine_of(machine(theme->other)->slot);

    for (int e = 0; e < ENDPOINTS; e++) {
        if (e != third && (e < MACHINES || !world.cut[e][theme->fresh]))
            continue;
        part(e, theme->gone, false);
        world.endpoints[e].route[machine(theme->gone)->slot] = theme->gone;
    }
    befall("address_confused", theme->gone, "its address leads to machine %d for some",
           theme->gone);
}

/* --- votes are split --- */

static void split(struct theme *theme)
{
    part(MACHINES, theme->gone, true);
    part(MACHINES + 1, theme->leader, true);
    if (happens(500))
        part(MACHINES + 1, theme->other, true);
    kill_server(theme->leader, false);
    for (int b = 0; b < BOSSES; b++)
        boss_ask(b, REQUEST_FAILOVER, NODE_NONE, NULL);
    befall("operator_asks", NOBODY, "operators ask both orchestrators for a failover");
}

/* --- a leader is lost before a follower has any of its WAL --- */

static bool set_out(const struct theme *theme)
{
    int index = later_leader(theme);

    for (int i = 0; index != NOBODY && i < MACHINES; i++)
        if (i != index && machine(i)->server.running &&
            machine(i)->server.bound == machine(index)->disk.wal.branch)
            return true;
    return false;
}

static void lose_later_leader(struct theme *theme)
{
    int index = later_leader(theme);

    if (index == NOBODY)
        return;
    for (int i = 0; i < MACHINES; i++)
        if (i != index)
            part(i, index, true);
    cut_power(index, between(3000, LONG_MS));
}

/* --- a rewound copy needs its leader's WAL to start up --- */

static void followers_hang(struct theme *theme)
{
    freeze_server(theme->gone, LONG_MS);
    freeze_server(theme->other, LONG_MS);
}

static void leader_dies_with_its_tail(struct theme *theme)
{
    kill_server(theme->leader, false);
    thaw_servers(theme);
}

static bool rewound_starts(const struct theme *theme)
{
    const struct machine *m = machine(theme->leader);

    return m->disk.durable.marker == MARKER_REWIND && m->disk.durable.marker_done &&
           m->server.running && m->server.starting;
}

/* What it was copied from has WAL that nobody else has, and is gone. */
static void third_hangs(struct theme *theme)
{
    int index = later_leader(theme);

    freeze_server(index == theme->gone ? theme->other : theme->gone, LONG_MS);
}

static void source_is_lost(struct theme *theme)
{
    thaw_servers(theme);
    lose_later_leader(theme);
}

/* --- the document is changed while nobody leads --- */

static void ask_for_maintenance(struct theme *theme)
{
    (void)theme;
    document_ask((int)dice(BOSSES), NODE_NONE, true);
}

static void ask_for_fences(struct theme *theme)
{
    document_ask(0, machine(theme->gone)->slot, true);
    document_ask(1, machine(theme->other)->slot, true);
}

static bool document_is_there(const struct theme *theme)
{
    const struct document_facts *facts = &machine(theme->leader)->disk.document;

    return facts->maintenance || (facts->fenced[machine(theme->gone)->slot] &&
                                  facts->fenced[machine(theme->other)->slot]);
}

static void lose_leader(struct theme *theme)
{
    if (happens(500))
        kill_server(theme->leader, false);
    else
        cut_power(theme->leader, between(500, LONG_MS));
}

/* Both at once may be asked for. */
static void ask_for_changes(struct theme *theme)
{
    for (int b = 0; b < BOSSES; b++)
        if (happens(700))
            document_ask(b, (int32_t)dice(NODE_COUNT), happens(500));
    if (happens(250))
        freeze(MACHINES + (int)dice(BOSSES), between(100, 3000));
    if (happens(250))
        freeze((int)dice(NODE_COUNT), between(100, 3000));
    if (happens(150))
        part(MACHINES + (int)dice(BOSSES), (int)dice(NODE_COUNT), true);
    if (happens(100))
        replace(theme, GOES_ON);
}

static void ask_for_calm(struct theme *theme)
{
    heal(theme);
    document_ask((int)dice(BOSSES), NODE_NONE, false);
}

/* --- all of them --- */

static const struct theme_plot plots[] = {
    {"a copy while the third lags",
     {{at_once, third_lags, 0, 200},
      {some_acked, copy_anew, 0, 400},
      {copy_streams, leader_hangs, 0, 15},
      {at_once, strike, 20, 200}}},
    {"goes on unaware",
     {{at_once, goes_on_unaware, 0, 100},
      {copy_complete, new_one_lags, 0, 20},
      {at_once, strike, 50, 900}}},
    {"replaced at an election",
     {{at_once, replace_at_election, 0, 100}, {fresh_registers, ask_for_failover, 0, 120}}},
    {"two lost behind the leader's back",
     {{at_once, depose_unnoticed, 0, 100},
      {another_acknowledged, replace_both, 0, 100},
      {at_once, declare_destroyed, 500, 3000}}},
    {"one lost behind the leader's back",
     {{at_once, hang_and_depose, 0, 100},
      {another_is_ahead, replace_follower, 0, 50},
      {copy_complete, strike_later_leader, 0, 60}}},
    {"the old machine answers",
     {{at_once, third_is_replaced, 0, 100},
      {whole, answered_by_the_old, 0, 100},
      {old_machine_answered, hears_of_the_leader, 0, 20},
      {fresh_counts, old_side_wakes, 0, 200},
      {another_leads, heal, 0, 500}}},
    {"votes are split", {{at_once, split, 0, 100}, {another_leads, heal, 0, 500}}},
    {"set out for a lost timeline",
     {{at_once, ask_for_failover, 0, 100},
      {set_out, lose_later_leader, 0, 3},
      {at_once, heal, 500, 1500}}},
    {"a rewound copy that cannot start up",
     {{at_once, followers_hang, 0, 100},
      {at_once, leader_dies_with_its_tail, 200, 600},
      {rewound_starts, strike_later_leader, 0, 20}}},
    {"a rewound copy whose source is lost",
     {{at_once, followers_hang, 0, 100},
      {at_once, leader_dies_with_its_tail, 200, 600},
      {another_leads, third_hangs, 0, 100},
      {rewound_starts, source_is_lost, 0, 20},
      {at_once, heal, 2000, LONG_MS}}},
    {"maintenance without a leader",
     {{at_once, ask_for_maintenance, 0, 100},
      {document_is_there, lose_leader, 0, 300},
      {at_once, ask_for_changes, 0, 1500},
      {at_once, ask_for_changes, 0, 1500},
      {at_once, ask_for_changes, 0, 2000},
      {at_once, ask_for_calm, 0, 1000}}},
    {"nobody may be elected",
     {{at_once, ask_for_fences, 0, 100},
      {document_is_there, lose_leader, 0, 300},
      {at_once, ask_for_changes, 0, 3000},
      {at_once, ask_for_changes, 0, 1500},
      {at_once, ask_for_calm, 0, 1000}}},
};

enum { PLOTS = sizeof plots / sizeof *plots };

static void end(void)
{
    trace("theme ends");
    world.theme.plot = NULL;
    world.old_bases = OLD_BASES;
    world.thin = false;
    if (happens(500))
        memset(world.cut, 0, sizeof world.cut);
}

static void look_again(void)
{
    post(between(2, 8), EVENT_THEME, 0, 0);
}

static void next_stage(struct theme *theme)
{
    const struct stage *stage = &theme->plot->stages[theme->stage];
    uint64_t id = THEME_ID | (uint64_t)theme->stage;

    if (!fault_masked(id))
        stage->act(theme);
    theme->acked = world.measure[MEASURE_ACKED];
    theme->since_ms = world.now_ms;
    theme->due = false;
    theme->stage++;
    if (theme->stage == STAGES_MAX || !theme->plot->stages[theme->stage].act)
        end();
    else
        look_again();
}

void theme_tick(void)
{
    struct theme *theme = &world.theme;
    const struct stage *stage;

    if (!theme->plot || world.calm)
        return;
    stage = &theme->plot->stages[theme->stage];
    if (theme->due) {
        next_stage(theme);
    } else if (stage->comes(theme)) {
        theme->due = true;
        post(between(stage->shortest_ms, stage->longest_ms), EVENT_THEME, 0, 0);
    } else if (world.now_ms - theme->since_ms > PATIENCE_MS) {
        end();
    } else {
        look_again();
    }
}

static bool cast(struct theme *theme)
{
    int order = (int)dice(2);

    theme->leader = theme->gone = theme->other = theme->fresh = NOBODY;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        int index = machine_of(slot);

        if (machine(index)->report.leading)
            theme->leader = index;
        else if (order-- == 0 || theme->other != NOBODY)
            theme->gone = index;
        else
            theme->other = index;
    }
    theme->generation = theme->leader == NOBODY
                            ? 0
                            : machine(theme->leader)->durable.promise.generation;
    return theme->leader != NOBODY && theme->gone != NOBODY && theme->other != NOBODY;
}

bool theme_begin(void)
{
    struct theme *theme = &world.theme;

    memset(theme, 0, sizeof *theme);
    if (!happens(THEMED) || !cast(theme))
        return false;
    theme->plot = &plots[dice(PLOTS)];
    theme->since_ms = world.now_ms;
    theme->acked = world.measure[MEASURE_ACKED];
    trace("theme: %s", theme->plot->name);
    if (happens(300) && !fault_masked(THEME_ID | STAGES_MAX))
        weather();
    look_again();
    return true;
}
