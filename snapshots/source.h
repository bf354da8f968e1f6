/*
 * A base backup as PostgreSQL streams it: the replication command BASE_BACKUP of a server from 15
 * on, a leader or a standby. (PostgreSQL's manual, "Streaming Replication Protocol".) A temporary
 * slot of the same session keeps the WAL that the backup needs until it has been sent along.
 */
#ifndef OGEL_SNAPSHOTS_SOURCE_H
#define OGEL_SNAPSHOTS_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/manifest.h"

struct source_options {
    const char *conninfo;    /* of libpq; without a password */
    int64_t max_rate_kb;     /* kB/s that the server sends at most; 0: as fast as it can */
    bool spread_checkpoint;  /* begin with an unhurried checkpoint */
    int64_t idle_timeout_ms; /* for any answer of the server; 0: five minutes */
};

/* What is sent, in this order: for each archive its begin, its content in pieces; the same for the
 * backup manifest. Each returns 0, or -1 with err, which ends the backup. */
struct source_handler {
    int (*archive)(void *arg, uint32_t tablespace, struct err *err); /* 0: the data directory */
    int (*content)(void *arg, const char *data, size_t len, struct err *err);
    int (*manifest)(void *arg, const char *data, size_t len, struct err *err);
    /* Does a little while nothing has come; false: there is nothing to do. */
    bool (*meanwhile)(void *arg);
};

struct source;

/* Connects and asks who the server is: system_id, timeline, postgres_version and cluster of
 * MANIFEST. A server of the same machine and user reads at this process' nice value, where that is
 * above zero. */
OGEL_MUST_CHECK int source_open(const struct source_options *options, struct source **source,
                                struct manifest *manifest, struct err *err);
int64_t source_wal_segment_size(const struct source *source);

/* Whether its pages have checksums, and are as pages.h knows them. */
bool source_has_checksums(const struct source *source);

/* Begins the backup: start_lsn, timeline and tablespaces of MANIFEST; *TOTAL is the server's
 * estimate of the bytes to come, without WAL. CHECKS: the server checks every page that has a
 * checksum; source_run() fails where one does not fit. */
OGEL_MUST_CHECK int source_start(struct source *source, const char *label, bool checks,
                                 struct manifest *manifest, uint64_t *total, struct err *err);

/* Takes all of it; stop_lsn of MANIFEST. */
OGEL_MUST_CHECK int source_run(struct source *source, const struct source_handler *handler,
                               void *arg, struct manifest *manifest, struct err *err);

void source_close(struct source *source); /* NULL is allowed */

#endif
