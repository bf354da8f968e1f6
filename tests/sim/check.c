/*
 * The invariants (docs/protocol.md, section 1): those of a state after every step, those of a move
 * – something becomes durable, a server is promoted, a commit is acknowledged – when it is made.
 */
#include <string.h>

#include "tests/sim/sim.h"

/* I4 and I5, as far as the promise file shows them. */
void check_persist(int index, const struct durable *before, const struct durable *after)
{
    const struct machine *m = &world.machines[index];
    bool born = after->birth_promised && !after->birth_ended && after->birth_leader == after->node;

    if (after->promise.generation < before->promise.generation)
        violate("I4: n%d's promise goes back from %u to %u", m->slot + 1,
                before->promise.generation, after->promise.generation);
    if (after->promise.generation == before->promise.generation &&
        before->promise.generation != 0 && after->promise.proposer != before->promise.proposer &&
        after->role != ROLE_FOLLOWER)
        violate("I4: n%d changes its promise within generation %u", m->slot + 1,
                after->promise.generation);
    if (after->grant.generation != before->grant.generation && after->grant.generation != 0 &&
        !after->complete && !born)
        violate("I5: n%d is granted generation %u without complete data", m->slot + 1,
                after->grant.generation);
    if (before->grant.spent && !after->grant.spent &&
        after->grant.generation == before->grant.generation)
        violate("I4: n%d's spent grant of %u is forgotten", m->slot + 1, after->grant.generation);
}

/* Section 14: whoever counts gives its data up only while the other follower has all of it. A copy
 * that somebody spoiled is given up without being asked, and the others hear of it later. */
void check_discard(int index)
{
    const struct machine *m = &world.machines[index];

    for (int i = 0; i < MACHINES; i++) {
        const struct machine *other = &world.machines[i];

        if (i == index || other->retired || other->slot == NODE_NONE ||
            other->slot == m->durable.leader.node || other->slot == m->slot)
            continue;
        if (!other->disk.durable.complete && !other->disk.durable.rewound &&
            !other->disk.durable.whole_before_rewind && other->disk.durable.registered &&
            !other->disk.spoiled && !other->disk.mended)
            violate("I6: n%d discards its data while n%d has none: by nobody's fault one is left",
                    m->slot + 1, other->slot + 1);
    }
}

/* I1: all that earlier generations acknowledged is in what this one begins with. */
static void check_acknowledged(int index, int branch, const char *does)
{
    const struct branch *new = &world.branches[branch];

    for (int b = 0; b < world.branch_count; b++) {
        const struct branch *old = &world.branches[b];

        if (old->generation != 0 && old->generation < new->generation && old->acked > old->begin &&
            !branch_contains(new->parent, new->begin, b, old->acked))
            violate("I1: n%d %s generation %u from %u:%llu, but %u:%llu was acknowledged",
                    world.machines[index].slot + 1, does, new->generation,
                    world.branches[new->parent].timeline, (unsigned long long)new->begin,
                    old->timeline, (unsigned long long)old->acked);
    }
}

/* I1 and I2: every commit that an earlier generation acknowledged is in what this one begins with.
 * BRANCH is filled in but the generation. */
static void check_elected(int index, int branch)
{
    struct machine *m = &world.machines[index];
    struct branch *new = &world.branches[branch];
    const struct grant *grant = &m->disk.durable.grant;

    new->generation = grant->generation;
    world.measure[MEASURE_ELECTIONS]++;
    if (!m->disk.durable.complete)
        violate("I5: n%d is promoted without complete data", m->slot + 1);
    if (world.branch_of_generation[grant->generation] != 0)
        violate("I2: n%d is promoted under generation %u, which n%d led", m->slot + 1,
                grant->generation,
                world.machines[world.branches[world.branch_of_generation[grant->generation] - 1]
                                   .machine]
                        .slot +
                    1);
    world.branch_of_generation[grant->generation] = branch + 1;
    check_acknowledged(index, branch, "leads");
}

void check_promotion(int index, int branch)
{
    if (!world.machines[index].server.by_hand)
        check_elected(index, branch);
}

/* One that was promoted by hand and then, before its agent had looked, granted the generation that
 * its timeline happens to be, leads like any other: from the position that it voted with. */
static void check_granted_later(int index, int branch)
{
    const struct grant *grant = &world.machines[index].disk.durable.grant;

    if (world.branches[branch].generation == 0 && grant->spent &&
        grant->generation == world.branches[branch].timeline)
        check_elected(index, branch);
}

/* I3: whoever was promoted under a later generation has it. */
void check_ack(int index, int branch, uint64_t upto)
{
    const struct branch *mine = &world.branches[branch];

    check_granted_later(index, branch);
    if (mine->generation == 0)
        violate("I3: n%d acknowledges on timeline %u, which nobody granted",
                world.machines[index].slot + 1, mine->timeline);
    for (int b = 0; b < world.branch_count; b++) {
        const struct branch *later = &world.branches[b];

        if (later->generation > mine->generation &&
            !branch_contains(later->parent, later->begin, branch, upto))
            violate("I3: n%d (generation %u) acknowledges %llu after generation %u was elected "
                    "without it",
                    world.machines[index].slot + 1, mine->generation, (unsigned long long)upto,
                    later->generation);
    }
}

/* A client that is sent to this leader reads. */
void check_read(int index)
{
    const struct machine *m = &world.machines[index];

    if (!m->report.leading || !m->report.accepts_writes || m->server.by_hand)
        return;
    figures.reads++;
    check_acknowledged(index, m->disk.wal.branch, "is read as leader of");
}

/* I5: checked when it begins to stream. (One that is marked for a clone goes on until it is
 * stopped: its data is whole until then, and whatever it acknowledges lies below the target that it
 * has to reach later.) */
void check_counted(int standby, const struct conn *conn)
{
    const struct machine *m = &world.machines[standby];

    bool new_copy = !m->disk.durable.complete && m->disk.data_id == m->disk.durable.data_id;

    if (conn->name.counted && (new_copy || m->disk.torn))
        violate("I5: n%d streams under a counted name without complete data", m->slot + 1);
}

/* I5: only complete data votes, or rewound data. */
void check_vote(int index)
{
    const struct machine *m = &world.machines[index];
    const struct durable *d = &m->disk.durable;

    if (m->report.vote.valid && ((!d->complete && !d->rewound) || !d->registered))
        violate("I5: n%d votes in generation %u without complete data", m->slot + 1,
                d->promise.generation);
}

/* --- in every state --- */

/* I4: a promise goes back only with its disk, WAL only by a rewind, a clone, or with the disk. */
static void check_backwards(int index)
{
    const struct machine *m = &world.machines[index];
    struct promise *promise = &world.promise_seen[index];
    struct wal *wal = &world.wal_seen[index];
    uint64_t end = record_end(m->disk.wal.flushed), before = record_end(wal->flushed);

    if (m->disk.durable.promise.generation < promise->generation)
        violate("I4: n%d's durable promise went back from %u to %u", m->slot + 1,
                promise->generation, m->disk.durable.promise.generation);
    *promise = m->disk.durable.promise;
    if (m->disk.wal.branch == wal->branch && m->disk.wal.flushed == wal->flushed)
        return;
    if (!world.wal_replaced[index] &&
        !branch_contains(m->disk.wal.branch, end, branch_at(wal->branch, before), before))
        violate("I4: n%d's WAL went back from %llu to %llu without rewind or clone", m->slot + 1,
                (unsigned long long)before, (unsigned long long)end);
    world.wal_replaced[index] = false;
    *wal = m->disk.wal;
}

/* I5: an unfinished copy acknowledges nothing. */
static void check_unfinished(int index)
{
    const struct machine *m = &world.machines[index];

    if (m->disk.torn && m->server.running && m->server.receiver == RECEIVER_STREAMING)
        violate("I5: n%d streams into half-copied data", m->slot + 1);
}

static void check_machine(int index)
{
    if (world.machines[index].slot == NODE_NONE)
        return;
    check_backwards(index);
    check_unfinished(index);
}

void check_step(const struct event *event)
{
    if (event->kind == EVENT_CONN) {
        check_machine(world.conns[event->a].standby);
        check_machine(world.conns[event->a].leader);
    } else if (event->kind >= EVENT_OWNED || event->kind == EVENT_SERVER) {
        if (event->a < MACHINES)
            check_machine(event->a);
    } else {
        for (int i = 0; i < MACHINES; i++)
            check_machine(i);
    }
}

/* --- after the faults --- */

static bool counts(const struct machine *m)
{
    return m->slot != NODE_NONE && !m->retired;
}

/* A leader serves writes and both others stream, counted. */
bool check_whole(void)
{
    int leaders = 0, followers = 0;

    for (int i = 0; i < MACHINES; i++) {
        const struct machine *m = &world.machines[i];

        if (!counts(m))
            continue;
        leaders += m->report.leading && m->report.accepts_writes && m->server.primary;
        followers += m->report.role == ROLE_FOLLOWER && m->report.complete &&
                     m->report.receiver.streaming;
    }
    return leaders == 1 && followers == 2;
}

/* Superseded by a machine that is gone and that only a retired one knew of: it takes an operator
 * who empties the node. */
static bool is_misled(const struct durable *d)
{
    struct incarnation own = d->incarnations[d->node];

    for (int i = 0; world.misled[d->node] && i < MACHINES; i++) {
        struct incarnation known = world.machines[i].disk.durable.incarnations[d->node];

        if (counts(&world.machines[i]) && !incarnation_equal(incarnation_later(own, known), own))
            return true;
    }
    return false;
}

static bool has_data(int index)
{
    const struct durable *d = &world.machines[index].disk.durable;

    return counts(&world.machines[index]) && d->complete && d->registered && !is_misled(d);
}

/* I6 speaks of two nodes with complete data, of one cluster: a birth that began again just when a
 * node had recorded the end of the first leaves that node alone (section 15). */
bool check_recovery_due(void)
{
    for (int i = 0; i < MACHINES; i++) {
        int complete = 0;

        for (int other = 0; other < MACHINES; other++)
            complete += has_data(i) && has_data(other) &&
                        cluster_id_equal(&world.machines[i].disk.durable.cluster,
                                         &world.machines[other].disk.durable.cluster);
        if (complete >= QUORUM)
            return true;
    }
    return false;
}

/* From then on it is a cluster like any other, of which I6 says nothing where fewer than two nodes
 * have complete data. */
bool check_birth_ended(void)
{
    for (int i = 0; i < MACHINES; i++) {
        const struct durable *d = &world.machines[i].disk.durable;

        if (counts(&world.machines[i]) && d->registered && d->complete && d->birth_ended)
            return true;
    }
    return false;
}
