#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/pgconn.h"
#include "base/resolve.h"
#include "base/units.h"
#include "orchestrator/shell.h"
#include "protocol/codec.h"

enum {
    POLL_WAIT_MS = 400,         /* an agent answers at the latest after so long, with or without news */
    POLL_GRACE_MS = 200,        /* beyond that it counts as not answering */
    RETRY_MS = 100,             /* between calls to an agent that does not answer */
    RETRY_CALL_MS = 500,
    EVENTS_CALL_MS = 5000,
    EVENTS_PAUSE_MS = 200,
    PROBE_DEADLINE_MS = 700,
    PROBE_PAUSE_MS = 150,       /* between probes of one node, however urgent */
    REPORT_DEPTH = 16,
    URL_SIZE = 1024,
};

static void poll_start(struct node *node);

/* --- agents --------------------------------------------------------------------------------------- */

void node_url(const struct node *node, const char *path, char *url, size_t size)
{
    struct units_address address;
    char where[UNITS_ADDRESS_SIZE];

    memset(&address, 0, sizeof address);
    snprintf(address.host, sizeof address.host, "%s", node->agent.host);
    address.port = node->agent.port;
    snprintf(url, size, "http://%s%s", units_format_address(&address, where), path);
}

/* Tells an agent what this orchestrator heard of its peers, so that a leader that is cut off from them only knows that
 * they still stand with it. */
static void append_relay(const struct node *node, char *url, size_t size)
{
    const struct cluster *cluster = node->cluster;
    int64_t now_ms = clock_mono_ms();
    size_t used = strlen(url);
    const char *separator = "&relay=";

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node *peer = &cluster->nodes[slot];

        if (slot == node->slot || !peer->view.known || peer->answered_ms == 0)
            continue;
        used += (size_t) snprintf(url + used, size - used, "%s%s:%u:%lld", separator, peer->id,
                                  peer->view.report.promise.generation,
                                  (long long) (now_ms - peer->answered_ms));
        separator = ",";
    }
}

static void node_answered(struct node *node)
{
    bool changed = !node->view.reachable;

    node->answered_ms = clock_mono_ms();
    node->failing_since_ms = 0;
    node->view.reachable = true;
    node->view.refuses = false;
    if (changed)
        cluster_changed(node->cluster);
}

static void node_failed(struct node *node, enum http_call_status outcome)
{
    bool refuses = outcome == HTTP_CALL_REFUSED;
    bool changed = node->view.reachable || node->view.refuses != refuses;

    if (node->failing_since_ms == 0)
        node->failing_since_ms = node->answered_ms ? node->answered_ms : node->cluster->orchestrator->started_ms;
    node->view.reachable = false;
    node->view.refuses = refuses;
    if (changed)
        cluster_changed(node->cluster);
}

static void take_report(struct node *node, const char *body, size_t size)
{
    struct report report;
    struct err err = {0};
    json_t *json = NULL;

    if (json_parse_bounded(body, size, REPORT_DEPTH, &json, &err) || report_from_json(json, &report, &err)) {
        log_event(LOG_LEVEL_ERROR, "report_malformed", "{s:s,s:s,s:s}", "cluster", node->cluster->name, "node",
                  node->id, "error", err.text);
        json_decref(json);
        return;
    }
    json_decref(json);
    if (report.node != node->slot) {
        log_event(LOG_LEVEL_ERROR, "report_misplaced", "{s:s,s:s,s:i,s:s}", "cluster", node->cluster->name, "node",
                  node->id, "slot", report.node, "error",
                  "the agent at this address says it is another node: check the node ids of both configurations");
        return;
    }
    node->view.report = report;
    node->view.known = true;
    node->view.refused_message = false;
    node->since = report.sequence;
    node->reported_ms = clock_mono_ms();
    cluster_changed(node->cluster);
}

static void take_events(const struct http_result *result, void *arg)
{
    struct node *node = arg;
    int64_t last = INT64_MAX;
    struct err err = {0};
    json_t *json = NULL;
    json_t *event;
    size_t i;

    node->events_call = NULL;
    node->events_ms = clock_mono_ms();
    if (result->outcome != HTTP_CALL_OK || result->status != 200 ||
        json_parse_bounded(result->body, result->body_size, REPORT_DEPTH, &json, &err))
        return;
    json_array_foreach(json_object_get(json, "events"), i, event) {
        json_t *sequence = json_object_get(event, "sequence");

        if (json_is_integer(sequence) && (uint64_t) json_integer_value(sequence) > node->events_since)
            node->events_since = (uint64_t) json_integer_value(sequence);
        history_add(node->cluster, node->id, json_incref(event));
    }
    /* a replaced machine counts anew */
    if (json_field_int(json, "last", JSON_OPTIONAL, 0, INT64_MAX, &last, &err) == 0 &&
        (uint64_t) last < node->events_since)
        node->events_since = 0;
    json_decref(json);
}

/* An agent's log is asked for when its report changed: it may have written something. */
static void events_start(struct node *node)
{
    char path[64], url[URL_SIZE];

    if (node->events_call || clock_mono_ms() - node->events_ms < EVENTS_PAUSE_MS)
        return;
    snprintf(path, sizeof path, "/v1/events?since=%llu", (unsigned long long) node->events_since);
    node_url(node, path, url, sizeof url);
    node->events_call = http_call(node->cluster->orchestrator->client,
                                  &(struct http_call_spec) {.url = url,
                                                            .token = node->cluster->orchestrator->peer_token,
                                                            .timeout_ms = EVENTS_CALL_MS},
                                  take_events, node);
}

static void poll_done(const struct http_result *result, void *arg)
{
    struct node *node = arg;

    node->poll = NULL;
    if (result->outcome != HTTP_CALL_OK) {
        node_failed(node, result->outcome);
        loop_timer_start(node->retry, RETRY_MS);
        return;
    }
    node_answered(node);
    if (result->status == 200) {
        take_report(node, result->body, result->body_size);
    } else if (result->status != 204) {
        if (node->complained_status != result->status)
            log_event(LOG_LEVEL_ERROR, "agent_refuses_poll", "{s:s,s:s,s:i,s:s}", "cluster", node->cluster->name,
                      "node", node->id, "status", result->status, "error",
                      result->status == 401 || result->status == 403
                          ? "the agent does not accept this orchestrator's peer token: both must hold the same"
                          : result->body);
        node->complained_status = result->status;
        loop_timer_start(node->retry, POLL_WAIT_MS);
        return;
    }
    node->complained_status = 0;
    if (result->status == 200 || clock_mono_ms() - node->events_ms > EVENTS_CALL_MS)
        events_start(node);
    poll_start(node);
}

static void poll_start(struct node *node)
{
    char path[64], url[URL_SIZE];
    bool failing = node->failing_since_ms != 0 || node->answered_ms == 0;

    if (node->poll)
        return;
    snprintf(path, sizeof path, "/v1/report?since=%llu&wait_ms=%d", (unsigned long long) node->since,
             failing ? 0 : POLL_WAIT_MS);
    node_url(node, path, url, sizeof url);
    append_relay(node, url, sizeof url);
    node->poll = http_call(node->cluster->orchestrator->client,
                           &(struct http_call_spec) {.url = url,
                                                     .token = node->cluster->orchestrator->peer_token,
                                                     .timeout_ms = failing ? RETRY_CALL_MS
                                                                           : POLL_WAIT_MS + POLL_GRACE_MS,
                                                     .connect_timeout_ms = POLL_GRACE_MS,
                                                     .no_reuse = failing},
                           poll_done, node);
}

static void retry(void *arg)
{
    poll_start(arg);
}

/* --- Postgres itself ------------------------------------------------------------------------------ */

static enum probe_verdict probe_meaning(const struct pg_outcome *outcome, const struct pg_result *result)
{
    switch (outcome->status) {
    case PG_OK:
        if (result && pg_result_rows(result) == 1 && pg_result_value(result, 0, 0))
            return strcmp(pg_result_value(result, 0, 0), "t") == 0 ? PROBE_STANDBY : PROBE_PRIMARY;
        return PROBE_BROKEN;
    case PG_REFUSED:
        return PROBE_REFUSED;
    case PG_STARTING_UP:
        return PROBE_STARTING;
    case PG_TIMEOUT:
    case PG_UNREACHABLE:
        return PROBE_SILENT;
    default:
        return PROBE_BROKEN;
    }
}

static void probe_done(const struct pg_outcome *outcome, const struct pg_result *result, int64_t duration_us,
                       void *arg)
{
    struct node *node = arg;
    enum probe_verdict verdict = probe_meaning(outcome, result);
    bool fine = verdict == PROBE_PRIMARY || verdict == PROBE_STANDBY;

    (void) duration_us;
    node->probe = NULL;
    if (verdict != node->view.postgres && !fine)
        log_event(LOG_LEVEL_WARNING, "postgres_probe", "{s:s,s:s,s:s,s:s}", "cluster", node->cluster->name, "node",
                  node->id, "verdict", probe_verdict_name(verdict), "error", outcome->message);
    node->view.postgres = verdict;
    node->probed_ms = clock_mono_ms();
    if (fine)
        node->postgres_failing_since_ms = 0;
    else if (node->postgres_failing_since_ms == 0)
        node->postgres_failing_since_ms = node->probe_started_ms;
    cluster_changed(node->cluster);
}

/* In recovery: 't'. Else a real write, so that a server whose disk hangs does not look fine; it waits for no standby. */
static const char probe_sql[] =
    "select case when pg_is_in_recovery() then 't' else "
    "(select 'f' from pg_logical_emit_message(true, 'ogel', 'probe')) end";

void observe_probe(struct node *node)
{
    struct orchestrator *orchestrator = node->cluster->orchestrator;
    const struct address *address = &node->view.report.postgres;
    int64_t now_ms = clock_mono_ms();
    char port[8], where[RESOLVE_ADDRESS_SIZE];

    if (node->probe || !node->view.known || address->port == 0 || now_ms - node->probed_ms < PROBE_PAUSE_MS ||
        !orchestrator->monitor_password[0] ||
        !resolve_get(orchestrator->resolver, address->host, where, NULL, 0))
        return;
    snprintf(port, sizeof port, "%u", address->port);
    node->probe_started_ms = now_ms;
    node->probe = pg_probe_start(
        orchestrator->loop,
        &(struct pg_conninfo) {
            .keywords = (const char *const[]) {"hostaddr", "port", "user", "dbname", "password",
                                               "application_name", "options", NULL},
            .values = (const char *const[]) {where, port, "ogel_monitor", "postgres",
                                             orchestrator->monitor_password, "ogel_probe",
                                             "-c synchronous_commit=local", NULL}},
        probe_sql, PROBE_DEADLINE_MS, probe_done, node);
}

/* --- start and stop ------------------------------------------------------------------------------- */

void observe_start(struct cluster *cluster)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        node->retry = loop_timer_new(cluster->orchestrator->loop, retry, node);
        poll_start(node);
    }
}

void observe_stop(struct cluster *cluster)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        http_call_cancel(node->poll);
        http_call_cancel(node->events_call);
        pg_probe_cancel(node->probe);
        loop_timer_free(node->retry);
        node->poll = node->events_call = NULL;
        node->probe = NULL;
        node->retry = NULL;
    }
}
