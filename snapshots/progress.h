/* How far a snapshot, a restore or a verification is. */
#ifndef OGEL_SNAPSHOTS_PROGRESS_H
#define OGEL_SNAPSHOTS_PROGRESS_H

#include <stdint.h>

struct snapshot_progress {
    const char *phase;     /* what is being done, for people; static */
    uint64_t done_bytes;   /* of the cluster's files */
    uint64_t total_bytes;  /* 0: not known; where a server estimated it, done may pass it */
    uint64_t stored_bytes; /* that went into the store, or came out of it */
};

/* Called a few times a second, by one thread at a time. */
typedef void snapshot_progress_fn(const struct snapshot_progress *progress, void *arg);

enum { SNAPSHOT_PROGRESS_MS = 200 };

#endif
