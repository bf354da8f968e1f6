/*
 * The health checks that load balancers know from Patroni, with its meanings, answered from a
 * report in memory. Source: Patroni's documentation, "REST API: Health check endpoints".
 */
#ifndef OGEL_AGENT_HEALTH_H
#define OGEL_AGENT_HEALTH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "protocol/types.h"

enum health_check {
    HEALTH_PRIMARY,      /* /primary /read-write /master: runs and leads */
    HEALTH_LEADER,       /* /leader: the same here */
    HEALTH_REPLICA,      /* /replica: a running standby, within ?lag= where given */
    HEALTH_READ_ONLY,    /* /read-only: either of them */
    HEALTH_SYNCHRONOUS,  /* /synchronous /sync: a standby that the leader counts */
    HEALTH_ASYNCHRONOUS, /* /asynchronous /async: a standby that it does not count */
    HEALTH_RUNNING,      /* /health: Postgres is up and answers */
    HEALTH_LIVENESS,     /* /liveness: the agent's loop runs (it answers) */
    HEALTH_READINESS,    /* /readiness: leads, or is a standby that streams, within ?lag= */
};

/* What stands in the report and what only the agent knows. */
struct health {
    const struct report *report;
    bool counted; /* the leader counts this standby */
    bool lag_known;
    uint64_t lag_bytes;  /* of replay, behind the leader's last known position */
    int64_t beat_age_ms; /* since the agent last looked at its state */
    int64_t beat_max_ms; /* /liveness fails above this */
};

/* A server that has answered no fresh connection for so long is not up, whatever its process says.
 * One late answer of a busy machine does not take it out of the load balancer. */
enum { HEALTH_FAILING_MS = 1000 };

/* Postgres runs and answers. */
bool health_answers(const struct report *report);

/* 200 or 503. MAX_LAG_BYTES < 0: any lag will do. */
int health_status(const struct health *health, enum health_check check, int64_t max_lag_bytes);

/* The body: {"state","role","server_version","timeline","xlog":{…},"lag","sync",…}, with the names
 * that Patroni uses. A new reference. */
json_t *health_body(const struct health *health, const char *cluster, const char *node);

/* Reads ?lag=: "1048576", "16MB". Bytes in *MAX_LAG_BYTES; NULL (absent) gives -1. */
OGEL_MUST_CHECK int health_parse_lag(const char *text, int64_t *max_lag_bytes, struct err *err);

#endif
