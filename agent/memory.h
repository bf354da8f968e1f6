/* Memory settings of Postgres derived from the machine. */
#ifndef OGEL_AGENT_MEMORY_H
#define OGEL_AGENT_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What this process may use: the machine's RAM, or less where a cgroup (v1 or v2, at any level
 * above it) sets a limit. ROOT is "" outside of tests: the directory under which /proc and /sys
 * are. */
OGEL_MUST_CHECK int memory_available(const char *root, uint64_t *bytes, struct err *err);

struct memory_plan {
    uint64_t available_bytes;            /* what it was derived from, */
    unsigned percent;                    /* and how much of that */
    uint64_t shared_buffers_bytes;       /* a quarter, 16 GiB at most */
    uint64_t effective_cache_size_bytes; /* three quarters: a hint, nothing is allocated */
    uint64_t maintenance_work_mem_bytes; /* a sixteenth, 1 GiB at most */
    uint64_t work_mem_bytes;             /* a quarter shared by max_connections, 4 to 64 MiB */
};

/* PERCENT of AVAILABLE_BYTES (1..100) is this server's budget: three nodes on one machine take 30
 * each. */
void memory_plan_make(uint64_t available_bytes, unsigned percent, unsigned max_connections,
                      struct memory_plan *plan);

/* "shared_buffers 6GB, … (derived from 100 % of 24105 MiB)". Returns BUF. */
const char *memory_describe(const struct memory_plan *plan, char *buf, size_t size);

#endif
