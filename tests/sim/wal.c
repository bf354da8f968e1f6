/*
 * WAL as a tree of branches: what one promotion wrote is one branch, whatever timeline id it bears.
 */
#include <string.h>

#include "tests/sim/sim.h"

uint64_t record_end(uint64_t lsn)
{
    return lsn / RECORD * RECORD;
}

/* The branch that the byte before LSN belongs to. */
int branch_at(int branch, uint64_t lsn)
{
    while (world.branches[branch].parent >= 0 && lsn <= world.branches[branch].begin)
        branch = world.branches[branch].parent;
    return branch;
}

/* Does WAL that ends at (BRANCH, END) hold OTHER's up to LSN? */
/* What initdb made is a system of its own. */
uint64_t system_of(int branch)
{
    while (world.branches[branch].parent != NOBODY)
        branch = world.branches[branch].parent;
    return (uint64_t)branch + 1;
}

bool branch_contains(int branch, uint64_t end, int other, uint64_t lsn)
{
    while (branch >= 0) {
        if (branch == other)
            return lsn <= end;
        if (world.branches[branch].begin < end)
            end = world.branches[branch].begin;
        branch = world.branches[branch].parent;
    }
    return false;
}

bool consistent(const struct disk *disk)
{
    return branch_contains(disk->wal.branch, record_end(disk->wal.written),
                           branch_at(disk->consistent_branch, disk->consistent_at),
                           disk->consistent_at);
}

bool consistent_possible(const struct disk *disk)
{
    uint64_t end = record_end(disk->wal.written);

    return consistent(disk) || branch_contains(disk->consistent_branch, disk->consistent_at,
                                               branch_at(disk->wal.branch, end), end);
}

bool branch_descends(int branch, int ancestor)
{
    while (branch >= 0 && branch != ancestor)
        branch = world.branches[branch].parent;
    return branch == ancestor;
}

struct position wal_position(const struct wal *wal, uint64_t lsn)
{
    int branch = branch_at(wal->branch, record_end(lsn));

    return (struct position){.timeline = world.branches[branch].timeline, .lsn = lsn};
}

void wal_lineage(int branch, struct lineage *lineage)
{
    uint32_t depth = 0;

    memset(lineage, 0, sizeof *lineage);
    for (int b = branch; b >= 0; b = world.branches[b].parent)
        depth++;
    lineage->truncated = depth > LINEAGE_MAX;
    lineage->count = depth > LINEAGE_MAX ? LINEAGE_MAX : depth;
    for (uint32_t i = lineage->count; i > 0; i--) {
        lineage->begin[i - 1] = (struct position){world.branches[branch].timeline,
                                                  world.branches[branch].begin};
        branch = world.branches[branch].parent;
    }
}

bool history_has(const struct disk *disk, uint32_t timeline)
{
    return timeline < TIMELINES_MAX && (disk->histories[timeline / 64] >> (timeline % 64) & 1);
}

void history_set(struct disk *disk, uint32_t timeline, bool there)
{
    if (timeline >= TIMELINES_MAX)
        return;
    if (there)
        disk->histories[timeline / 64] |= UINT64_C(1) << (timeline % 64);
    else
        disk->histories[timeline / 64] &= ~(UINT64_C(1) << (timeline % 64));
}
