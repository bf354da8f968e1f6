/*
 * The orchestrator's configuration, one table (options.c); docs/ogel-orchestrator.yaml is printed
 * from it.
 */
#ifndef OGEL_ORCHESTRATOR_OPTIONS_H
#define OGEL_ORCHESTRATOR_OPTIONS_H

#include "base/conf.h"
#include "orchestrator/decide.h"

struct orchestrator_tokens {
    char *read; /* file; NULL: no such token */
    char *admin;
    char *peer;
};

struct orchestrator_redis {
    struct units_address address; /* port 0: no Redis */
    char *password_file;
    int64_t database;
};

struct node_options {
    char *id;
    struct units_address agent;
};

struct cluster_options {
    char *name;
    struct node_options nodes[NODE_COUNT]; /* ascending by id */
};

struct orchestrator_options {
    struct units_address listen;
    struct orchestrator_tokens tokens;
    char *monitor_password; /* file: password of ogel_monitor, for probes */
    struct orchestrator_redis redis;
    int64_t failure_timeout_ms;
    int64_t election_timeout_ms;
    int64_t promotion_timeout_ms;
    int64_t failover_backoff_ms;
    int64_t probe_interval_ms;
    int64_t request_timeout_ms;
    bool metrics_open;
    int log_level;
    struct cluster_options *clusters;
    uint32_t cluster_count;
};

extern const struct opt orchestrator_option_table[];

/* Reads and checks FILE. On failure options holds nothing that must be freed. */
OGEL_MUST_CHECK int orchestrator_options_load(const char *file,
                                              struct orchestrator_options *options,
                                              struct err *err);
void orchestrator_options_release(struct orchestrator_options *options);

#endif
