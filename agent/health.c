#include "agent/health.h"

#include "base/json.h"
#include "base/units.h"
#include "protocol/names.h"

bool health_answers(const struct report *report)
{
    return report->pg == PG_UP && report->local_probe_failing_ms < HEALTH_FAILING_MS;
}

static bool leads(const struct health *health)
{
    return health_answers(health->report) && health->report->leading;
}

static bool is_standby(const struct health *health)
{
    return health_answers(health->report) && health->report->in_recovery;
}

static bool within_lag(const struct health *health, int64_t max_lag_bytes)
{
    return max_lag_bytes < 0 || (health->lag_known && health->lag_bytes <= (uint64_t)max_lag_bytes);
}

static bool passes(const struct health *health, enum health_check check, int64_t max_lag_bytes)
{
    bool replica = is_standby(health) && within_lag(health, max_lag_bytes);

    switch (check) {
    case HEALTH_PRIMARY:
    case HEALTH_LEADER: return leads(health);
    case HEALTH_REPLICA: return replica;
    case HEALTH_READ_ONLY: return leads(health) || replica;
    case HEALTH_SYNCHRONOUS: return replica && health->counted;
    case HEALTH_ASYNCHRONOUS: return replica && !health->counted;
    case HEALTH_RUNNING: return health_answers(health->report);
    case HEALTH_LIVENESS: return health->beat_age_ms <= health->beat_max_ms;
    case HEALTH_READINESS: return leads(health) || (replica && health->report->receiver.streaming);
    }
    return false;
}

int health_status(const struct health *health, enum health_check check, int64_t max_lag_bytes)
{
    return passes(health, check, max_lag_bytes) ? 200 : 503;
}

/* Patroni's words for what a load balancer's operator looks for first. */
static const char *state_word(const struct report *report)
{
    switch (report->pg) {
    case PG_UP: return report->in_recovery && report->receiver.streaming ? "streaming" : "running";
    case PG_STARTING: return "starting";
    case PG_STOPPING: return "stopping";
    case PG_CRASHED: return "crashed";
    default: return "stopped";
    }
}

static const char *role_word(const struct health *health)
{
    if (leads(health))
        return "primary";
    return is_standby(health) ? "replica" : "uninitialized";
}

json_t *health_body(const struct health *health, const char *cluster, const char *node)
{
    const struct report *report = health->report;
    json_t *body = json_object(), *xlog = json_object(), *ogel = json_object();
    char lsn[UNITS_TEXT_SIZE];

    json_object_set_new(body, "state", json_string(state_word(report)));
    json_object_set_new(body, "role", json_string(role_word(health)));
    json_object_set_new(body, "server_version", json_integer(report->pg_version));
    json_object_set_new(body, "timeline", json_integer(report->timeline));
    if (report->in_recovery) {
        json_object_set_new(xlog, "received_location",
                            json_string(units_format_lsn(report->flush_lsn, lsn)));
        json_object_set_new(xlog, "replayed_location",
                            json_string(units_format_lsn(report->replay_lsn, lsn)));
        json_object_set_new(body, "sync_standby", json_boolean(health->counted));
        json_object_set_new(body, "lag",
                            health->lag_known ? json_integer((json_int_t)health->lag_bytes)
                                              : json_null());
    } else {
        json_object_set_new(xlog, "location",
                            json_string(units_format_lsn(report->write_lsn, lsn)));
    }
    json_object_set_new(body, "xlog", xlog);
    json_object_set_new(body, "pending_restart", json_boolean(report->pending_restart));
    json_object_set_new(body, "pause", json_boolean(report->document.maintenance));
    json_object_set_new(ogel, "cluster", json_text(cluster));
    json_object_set_new(ogel, "node", json_text(node));
    json_object_set_new(ogel, "generation", json_integer(report->promise.generation));
    json_object_set_new(body, "ogel", ogel);
    if (report->cause[0])
        json_object_set_new(body, "cause", json_text(report->cause));
    return body;
}

int health_parse_lag(const char *text, int64_t *max_lag_bytes, struct err *err)
{
    if (!text) {
        *max_lag_bytes = -1;
        return 0;
    }
    return units_parse_size(text, max_lag_bytes, err);
}
