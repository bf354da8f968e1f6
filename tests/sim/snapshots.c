/*
 * Snapshots: bases that are as old as you like, of servers that may be gone since, and what
 * children make of them.
 */
#include <stdio.h>
#include <string.h>

#include "protocol/order.h"
#include "tests/sim/sim.h"

/* One that a cluster may be born of, as if of another one; "B" and its timeline. */
static void foreign_source(struct snapshot_source *source)
{
    *source = (struct snapshot_source){.id = "B",
                                       .timeline = 1 + (uint32_t)dice(FOREIGN_TIMELINES)};
    source->stop_lsn = RECORD * 10;
}

/* What the server of a member holds, on disk. Who has a copy that is no longer the cluster's own is
 * asked for none. */
void snapshot_take(void)
{
    int index = victim();
    const struct machine *m = &world.machines[index];
    uint64_t end = record_end(m->disk.wal.flushed);
    struct snapshot *s = &world.snapshots[world.snapshot_count % SNAPSHOTS_MAX];

    if (!m->disk.present || m->disk.torn || m->disk.spoiled || m->disk.rolled_back ||
        !m->server.running || m->server.starting || !m->durable.complete || !consistent(&m->disk))
        return;
    *s = (struct snapshot){
        .cluster = m->durable.cluster, .branch = branch_at(m->disk.wal.branch, end), .end = end};
    world.snapshot_count++;
    trace("n%d/%d a snapshot is taken, timeline %u up to %llu", m->slot + 1, index,
          world.branches[s->branch].timeline, (unsigned long long)end);
}

/* Some are asked for, of any age. None where there is none. */
void snapshot_choose(enum request_kind kind, struct snapshot_source *source)
{
    uint32_t number;

    memset(source, 0, sizeof *source);
    if (kind == REQUEST_INIT && happens(300))
        foreign_source(source);
    if (kind != REQUEST_JOB || world.snapshot_count == 0 || happens(400))
        return;
    number = world.snapshot_count - 1;
    number -= (uint32_t)dice(number < SNAPSHOTS_MAX ? number + 1 : SNAPSHOTS_MAX);
    snprintf(source->id, sizeof source->id, "%u", number);
    source->timeline = world.branches[world.snapshots[number % SNAPSHOTS_MAX].branch].timeline;
    source->stop_lsn = world.snapshots[number % SNAPSHOTS_MAX].end;
    source->system_id = system_of(world.snapshots[number % SNAPSHOTS_MAX].branch);
    if (happens(150))
        source->system_id += BRANCHES_MAX; /* of one that was never here */
}

static void copy_comes(struct disk *disk, int branch, uint64_t end)
{
    disk->wal = (struct wal){.branch = branch, .written = end, .flushed = end};
    disk->consistent_branch = branch;
    disk->consistent_at = end;
    disk->headless = false;
    disk->oldest_lsn = end > 2 * RECORD ? end - 2 * RECORD : 0;
    memset(disk->histories, 0, sizeof disk->histories);
    for (int b = branch; b >= 0; b = world.branches[b].parent)
        history_set(disk, world.branches[b].timeline, true);
}

/* Another cluster's, which this one begins with: a root of its own, the same each time. */
static bool restore_for_birth(int index)
{
    struct machine *m = &world.machines[index];
    int *root = &world.foreign_roots[m->child_from.timeline];

    if (*root == 0) {
        if (world.branch_count == BRANCHES_MAX)
            return false;
        world.branches[world.branch_count] = (struct branch){
            .parent = NOBODY, .timeline = m->child_from.timeline, .machine = index};
        *root = ++world.branch_count;
    }
    copy_comes(&m->disk, *root - 1, m->child_from.stop_lsn);
    return true;
}

/* In between its number may have been given to another: as good as damaged. */
static bool restore_for_node(int index)
{
    struct machine *m = &world.machines[index];
    const struct snapshot *s;
    uint32_t number = 0;

    if (sscanf(m->child_from.id, "%u", &number) != 1 || number >= world.snapshot_count ||
        number + SNAPSHOTS_MAX < world.snapshot_count)
        return false;
    s = &world.snapshots[number % SNAPSHOTS_MAX];
    if (s->end != m->child_from.stop_lsn || !cluster_id_equal(&s->cluster, &m->durable.cluster))
        return false;
    copy_comes(&m->disk, s->branch, s->end);
    return true;
}

bool snapshot_restore(int index)
{
    world.wal_replaced[index] = true;
    return world.machines[index].child_from.id[0] == 'B' ? restore_for_birth(index)
                                                         : restore_for_node(index);
}
