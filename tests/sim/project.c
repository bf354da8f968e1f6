/*
 * The trace in the terms of the protocol's machine to model: docs/testing.md says the format.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { LINE_SIZE = 1536 };

static FILE *out;
static char seen[MACHINES][LINE_SIZE];
static char seen_positions[MACHINES][LINE_SIZE];

struct line {
    char text[LINE_SIZE];
    size_t used;
};

static void add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct line *line, const char *format, ...)
{
    va_list args;
    int more;

    va_start(args, format);
    more = vsnprintf(line->text + line->used, LINE_SIZE - line->used, format, args);
    va_end(args);
    line->used += (size_t)more;
    if (line->used >= LINE_SIZE)
        violate("a projected line is too long: the simulator itself");
}

static void put(const char *kind, const struct line *line)
{
    fprintf(out, "%s step=%" PRIu64 " ms=%" PRId64 "%s\n", kind, world.events_handled, world.now_ms,
            line->text);
}

/* --- values --- */

static void add_incarnation(struct line *line, struct incarnation incarnation)
{
    add(line, "%u.%" PRIx64, incarnation.number, incarnation.nonce);
}

static void add_fact(struct line *line, const struct leadership *fact)
{
    if (fact->generation == 0) {
        add(line, "-");
        return;
    }
    add(line, "%u.%d.", fact->generation, fact->node);
    add_incarnation(line, fact->incarnation);
    add(line, ".%" PRIx64, fact->proposer);
}

static void add_position(struct line *line, const char *key, struct position position)
{
    if (position.timeline == 0)
        add(line, " %s=-", key);
    else
        add(line, " %s=%u/%" PRIu64, key, position.timeline, position.lsn);
}

static void add_incarnations(struct line *line, const struct incarnation *incarnations)
{
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        add(line, "%s", slot ? "," : "");
        add_incarnation(line, incarnations[slot]);
    }
}

static void add_numbers(struct line *line, const char *key, const uint32_t *numbers)
{
    add(line, " %s=%u,%u,%u", key, numbers[0], numbers[1], numbers[2]);
}

static const char *role_name(enum role role)
{
    static const char *const names[] = {"none", "fenced", "leader", "follower"};

    return names[role];
}

static const char *marker_name(enum marker marker)
{
    static const char *const names[] = {"none", "init", "clone", "rewind", "restore"};

    return names[marker];
}

/* --- a machine --- */

static void add_durable(struct line *line, const struct durable *d)
{
    add(line, " inc=");
    add_incarnation(line, d->incarnations[d->node]);
    add(line, " known=");
    add_incarnations(line, d->incarnations);
    add_numbers(line, "void", d->void_number);
    add(line, " registered=%d regat=%d,%d,%d", d->registered, d->registered_at[0],
        d->registered_at[1], d->registered_at[2]);
    add(line, " promise=%u.%" PRIx64 " fact=", d->promise.generation, d->promise.proposer);
    add_fact(line, &d->leader);
    add(line, " grant=");
    if (d->grant.generation == 0) {
        add(line, "-");
    } else {
        add(line, "%u.%" PRIx64 ".", d->grant.generation, d->grant.proposer);
        add_incarnation(line, d->grant.incarnation);
        add(line, ".%s", d->grant.spent ? "spent" : "unspent");
    }
    add(line, " role=%s birth=%s birthleader=", role_name(d->role),
        d->birth_ended      ? "ended"
        : d->birth_promised ? "promised"
                            : "-");
    if (d->birth_leader == NODE_NONE)
        add(line, "-");
    else
        add(line, "%d", d->birth_leader);
    add(line, " marker=%s done=%d complete=%d rewound=%d", marker_name(d->marker), d->marker_done,
        d->complete, d->rewound);
    add_position(line, "fork", d->fork);
    add_position(line, "target", d->complete_target);
    add_position(line, "floor", d->floor);
}

static void add_names(struct line *line, const struct machine *m)
{
    const struct replication *names = &m->server.conf;
    const char *comma = "";

    if (!m->server.running || !names->names) {
        add(line, " N=%s", m->server.running ? "nobody" : "-");
        return;
    }
    add(line, " N=%u:", names->generation);
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        if (slot == m->slot || names->incarnations[slot].number == 0)
            continue;
        add(line, "%s%d.%u", comma, slot, names->incarnations[slot].number);
        comma = ",";
    }
}

static void add_server(struct line *line, const struct machine *m)
{
    const struct server *s = &m->server;
    const struct conn *c = s->receiver == RECEIVER_STREAMING ? &world.conns[s->conn] : NULL;
    const struct vote *vote = &m->report.vote;

    add(line, " pg=%s",
        s->primary && (s->running || s->remains) ? "primary"
        : s->running                             ? "standby"
                                                 : "down");
    if (c && s->running && c->receiver_alive)
        add(line, " from=%d as=%u.%u.%s", c->leader, c->name.generation, c->incarnation,
            c->name.counted ? "counted" : "uncounted");
    else
        add(line, " from=- as=-");
    add_names(line, m);
    if (!vote->valid || !world.endpoints[m - world.machines].up)
        add(line, " vote=-");
    else
        add(line, " vote=%u.%" PRIx64 "@%u/%" PRIu64 ".%s", vote->promise.generation,
            vote->promise.proposer, vote->position.timeline, vote->position.lsn,
            vote->complete ? "complete" : "rewound");
}

static void add_log(struct line *line, const struct machine *m)
{
    const struct wal *wal = &m->disk.wal;
    int chain[BRANCHES_MAX], depth = 0;

    if (!m->disk.present) {
        add(line, " log=- end=- flushed=-");
        return;
    }
    for (int b = branch_at(wal->branch, record_end(wal->written)); b >= 0;
         b = world.branches[b].parent)
        chain[depth++] = b;
    add(line, " log=");
    while (depth-- > 0)
        add(line, "%u@%" PRIu64 "%s", world.branches[chain[depth]].timeline,
            world.branches[chain[depth]].begin, depth ? "," : "");
    add_position(line, "end", wal_position(wal, record_end(wal->written)));
    add_position(line, "flushed", wal_position(wal, wal->flushed));
}

static void put_machine(int index, bool always)
{
    const struct machine *m = &world.machines[index];
    struct line line = {.used = 0}, positions = {.used = 0};

    if (m->slot == NODE_NONE)
        return;
    add(&line, " m=%d slot=%d why=%s up=%d frozen=%d", index, m->slot,
        agent_reason_code(m->step.reason), world.endpoints[index].up,
        world.endpoints[index].frozen);
    add_durable(&line, &m->disk.durable);
    add_server(&line, m);
    add_log(&positions, m);
    if (strcmp(line.text, seen[index]) == 0 &&
        (!always || strcmp(positions.text, seen_positions[index]) == 0))
        return;
    strcpy(seen[index], line.text);
    strcpy(seen_positions[index], positions.text);
    fprintf(out, "node step=%" PRIu64 " ms=%" PRId64 "%s%s\n", world.events_handled, world.now_ms,
            line.text, positions.text);
}

/* Positions alone are told with the next change of something else. */
void project_changes(void)
{
    struct line line;
    bool changed = false;

    if (!out)
        return;
    for (int i = 0; i < MACHINES && !changed; i++) {
        const struct machine *m = &world.machines[i];

        line.used = 0;
        if (m->slot == NODE_NONE)
            continue;
        add(&line, " m=%d slot=%d why=%s up=%d frozen=%d", i, m->slot,
            agent_reason_code(m->step.reason), world.endpoints[i].up, world.endpoints[i].frozen);
        add_durable(&line, &m->disk.durable);
        add_server(&line, m);
        changed = strcmp(line.text, seen[i]) != 0;
    }
    for (int i = 0; i < MACHINES && changed; i++)
        put_machine(i, true);
}

/* --- moves --- */

void project_send(int which, int32_t to, const struct desired *message)
{
    struct line line = {.used = 0};

    if (!out)
        return;
    add(&line, " boss=%d proposer=%" PRIx64 " to=%d role=%s birth=%d planned=%d generation=%u",
        which, message->proposer, to, role_name(message->role), message->birth, message->planned,
        message->generation);
    add(&line, " leader=");
    if (message->role == ROLE_FENCED && message->birth)
        add(&line, "%d", message->leader.node);
    else
        add_fact(&line, &message->leader);
    add(&line, " known=");
    add_incarnations(&line, message->incarnations);
    add_numbers(&line, "destroyed", message->destroyed_number);
    add(&line, " job=%" PRIx64, message->job.id);
    put("send", &line);
}

void project_plan(int which, const struct plan *plan)
{
    const struct memory *before = &world.bosses[which].memory, *after = &plan->memory;
    struct line line = {.used = 0};

    if (!out)
        return;
    if (after->generation != before->generation) {
        add(&line, " boss=%d proposer=%" PRIx64 " generation=%u why=%s birth=%d", which,
            world.bosses[which].proposer, after->generation, reason_code(after->why),
            after->why == REASON_BIRTH_OPENED);
        put("open", &line);
    }
    if (after->phase == PHASE_GRANTED &&
        (before->phase != PHASE_GRANTED || before->generation != after->generation)) {
        line.used = 0;
        add(&line, " boss=%d proposer=%" PRIx64 " generation=%u to=%d", which,
            world.bosses[which].proposer, after->generation, after->granted_to);
        put("granted", &line);
    }
}

void project_promoted(int index, const struct branch *branch)
{
    struct line line = {.used = 0};

    if (!out)
        return;
    add(&line, " m=%d generation=%u timeline=%u begin=%" PRIu64, index, branch->generation,
        branch->timeline, branch->begin);
    put("promoted", &line);
}

void project_ack(int leader, int standby, uint64_t upto)
{
    const struct branch *branch = &world.branches[world.machines[leader].disk.wal.branch];
    struct line line = {.used = 0};

    if (!out)
        return;
    put_machine(leader, true);
    put_machine(standby, true);
    add(&line, " m=%d by=%d generation=%u upto=%" PRIu64, leader, standby, branch->generation,
        upto);
    put("ack", &line);
}

void project_answer(int index, int registrant, const struct incarnation *incarnation)
{
    const struct durable *d = &world.machines[index].durable;
    struct line line = {.used = 0};

    if (!out)
        return;
    put_machine(index, true);
    add(&line, " m=%d to=%d inc=", index, registrant);
    add_incarnation(&line, *incarnation);
    add(&line, " promise=%u.%" PRIx64, d->promise.generation, d->promise.proposer);
    put("answer", &line);
}

void project_fault(const char *what, int machine)
{
    struct line line = {.used = 0};

    if (!out)
        return;
    if (machine != NOBODY)
        put_machine(machine, true); /* what it had until then */
    if (machine == NOBODY)
        add(&line, " what=%s m=-", what);
    else
        add(&line, " what=%s m=%d", what, machine);
    put("fault", &line);
}

/* --- the file --- */

bool project_open(const char *path, uint64_t seed, const char *commit)
{
    out = fopen(path, "w");
    if (out)
        fprintf(out, "trace version=1 seed=%" PRIu64 " commit=%s\n", seed, commit);
    return out != NULL;
}

bool project_close(void)
{
    bool ok = !ferror(out);

    return fclose(out) == 0 && ok;
}
