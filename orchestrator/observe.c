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
    POLL_WAIT_MS = 400, /* an agent answers at the latest after so long, with or without news */
    POLL_WAIT_FOLLOWER_MS = 1000, /* at most failure_timeout: its silence stops nothing */
    POLL_GRACE_MS = 200,          /* beyond that it counts as not answering */
    RETRY_MS = 100,               /* between calls to an agent that does not answer */
    RETRY_CALL_MS = 500,
    EVENTS_CALL_MS = 5000,
    EVENTS_PAUSE_MS = 200,
    PROBE_DEADLINE_MS = 700,
    PROBE_PAUSE_MS = 150, /* between probes of one node, however urgent */
    REPORT_DEPTH = 16,
    URL_SIZE = 1024,
};

/* What is wrong with an agent's answers. Above COMPLAINT_ANSWER: it answers, but this (an HTTP
 * status, added to it). */
enum { COMPLAINT_SILENT = 1, COMPLAINT_ANSWER, COMPLAINT_MALFORMED, COMPLAINT_MISPLACED };

static void poll_start(struct node *node);

/* --- agents
 * --------------------------------------------------------------------------------------- */

void node_url(const struct node *node, const char *path, char *url, size_t size)
{
    struct units_address address;
    char where[UNITS_ADDRESS_SIZE];

    memset(&address, 0, sizeof address);
    snprintf(address.host, sizeof address.host, "%s", node->agent.host);
    address.port = node->agent.port;
    snprintf(url, size, "http://%s%s", units_format_address(&address, where), path);
}

/* Tells an agent what this orchestrator heard of its peers, so that a leader that is cut off from
 * them only knows that they still stand with it. */
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
        used += (size_t)snprintf(url + used, size - used, "%s%s:%u:%lld", separator, peer->id,
                                 peer->view.report.promise.generation,
                                 (long long)(now_ms - peer->answered_ms));
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
    if (changed && node->complaint)
        log_event(LOG_LEVEL_INFO, "agent_answers", "{s:s,s:s}", "cluster", node->cluster->name,
                  "node", node->id);
    node->complaint = 0;
    if (changed)
        cluster_changed(node->cluster);
}

/* The call failed, or its answer was none that can be read: its last report need not hold any more.
 * What is wrong is logged when it begins; COMPLAINT tells one thing from another. */
static void node_failed(struct node *node, bool refuses, int complaint, const char *error)
{
    bool changed = node->view.reachable || node->view.refuses != refuses;

    if (node->failing_since_ms == 0)
        node->failing_since_ms = node->answered_ms ? node->answered_ms
                                                   : node->cluster->orchestrator->started_ms;
    node->view.reachable = false;
    node->view.refuses = refuses;
    node->since = 0; /* a new process may count up to the same number */
    if (node->complaint == 0 || (complaint > COMPLAINT_ANSWER && complaint != node->complaint)) {
        node->complaint = complaint;
        log_event(complaint > COMPLAINT_ANSWER ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "agent_fails",
                  "{s:s,s:s,s:s}", "cluster", node->cluster->name, "node", node->id, "error",
                  error);
    }
    if (changed)
        cluster_changed(node->cluster);
}

/* What changes all the time tells nothing that an agent would log. */
static void drop_measures(struct report *report)
{
    report->sequence = 0;
    report->sampled_age_ms = 0;
    report->write_lsn = report->flush_lsn = report->replay_lsn = report->oldest_lsn = 0;
    report->replay_lag_ms = report->local_probe_failing_ms = 0;
    report->disk_free_bytes = 0;
    report->receiver.message_age_ms = 0;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct standby_view *standby = &report->standbys[slot];

        standby->flush_lsn = standby->replay_lsn = 0;
        standby->reply_age_ms = standby->replay_lag_ms = 0;
        report->peers[slot].agent_age_ms = report->peers[slot].postgres_age_ms = 0;
    }
}

static bool only_measures_differ(const struct report *a, const struct report *b)
{
    struct report x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    drop_measures(&x);
    drop_measures(&y);
    return memcmp(&x, &y, sizeof x) == 0;
}

static int take_report(struct node *node, const char *body, size_t size)
{
    struct report report;
    struct err err = {0};
    const json_t *json = NULL;
    int rc;

    memset(&report, 0, sizeof report); /* what lies between its members is compared, too */
    rc = json_parse_scratch(body, size, REPORT_DEPTH, &json, &err) ||
         report_from_json(json, &report, &err);
    json_scratch_done(json);
    if (rc) {
        err_context(&err, "the agent's report cannot be read");
        node_failed(node, false, COMPLAINT_MALFORMED, err.text);
        return -1;
    }
    if (report.node != node->slot) {
        err_set(&err, ERR_INVALID,
                "the agent at this address says that it is node %d of 3, in the order of their "
                "ids, and not %d: check "
                "the node ids of both configurations",
                report.node + 1, node->slot + 1);
        node_failed(node, false, COMPLAINT_MISPLACED, err.text);
        return -1;
    }
    node_answered(node);
    if (!node->view.known || !only_measures_differ(&report, &node->view.report))
        node->events_wanted = true;
    memcpy(&node->view.report, &report, sizeof report);
    node->view.known = true;
    node->view.refused_message = false;
    node->since = report.sequence;
    node->reported_ms = clock_mono_ms();
    cluster_changed(node->cluster);
    return 0;
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
    json_array_foreach(json_object_get(json, "events"), i, event)
    {
        json_t *sequence = json_object_get(event, "sequence");

        if (json_is_integer(sequence) &&
            json_integer_value(sequence) > (json_int_t)node->events_since)
            node->events_since = (uint64_t)json_integer_value(sequence);
        history_add(node->cluster, node->id, json_incref(event));
    }
    /* a replaced machine counts anew */
    if (json_field_int(json, "last", JSON_OPTIONAL, 0, INT64_MAX, &last, &err) == 0 &&
        (uint64_t)last < node->events_since) {
        node->events_since = 0;
        node->events_wanted = true;
    }
    json_decref(json);
}

/* An agent's log is asked for when its report changed: it may have written something. */
static void events_start(struct node *node)
{
    int64_t age_ms = clock_mono_ms() - node->events_ms;
    char path[64], url[URL_SIZE];

    if (node->events_call || age_ms < EVENTS_PAUSE_MS ||
        (!node->events_wanted && age_ms < EVENTS_CALL_MS))
        return;
    node->events_wanted = false;
    snprintf(path, sizeof path, "/v1/events?since=%llu", (unsigned long long)node->events_since);
    node_url(node, path, url, sizeof url);
    node->events_call = http_call(
        node->cluster->client,
        &(struct http_call_spec){.url = url,
                                 .token = node->cluster->orchestrator->peer_token,
                                 .timeout_ms = EVENTS_CALL_MS},
        take_events, node);
}

static int take_answer(struct node *node, const struct http_result *result)
{
    struct err err = {0};

    if (result->outcome != HTTP_CALL_OK) {
        node_failed(node, result->outcome == HTTP_CALL_REFUSED,
                    result->outcome == HTTP_CALL_TOO_LARGE || result->outcome == HTTP_CALL_OTHER
                        ? COMPLAINT_MALFORMED
                        : COMPLAINT_SILENT,
                    result->error);
        return -1;
    }
    if (result->status == 200)
        return take_report(node, result->body, result->body_size);
    if (result->status == 204 && node->view.known) {
        node_answered(node);
        return 0;
    }
    if (result->status == 401 || result->status == 403)
        err_set(
            &err, ERR_AUTH,
            "the agent does not accept this orchestrator's peer token: both must hold the same");
    else
        err_set(&err, ERR_INVALID, "the agent answers %d: %.200s", result->status, result->body);
    node_failed(node, false, COMPLAINT_ANSWER + result->status, err.text);
    return -1;
}

static void poll_done(const struct http_result *result, void *arg)
{
    struct node *node = arg;

    node->poll = NULL;
    cluster_hold(node->cluster);
    if (take_answer(node, result) == 0) {
        events_start(node);
        poll_start(node);
    } else {
        loop_timer_start(node->retry, result->outcome == HTTP_CALL_OK ? POLL_WAIT_MS : RETRY_MS);
    }
    cluster_release(node->cluster);
}

static int poll_wait_ms(const struct node *node)
{
    const struct cluster *cluster = node->cluster;
    int wait_ms = (int)cluster->options.failure_timeout_ms;

    if (cluster->plan.leader == NODE_NONE || cluster->plan.leader == node->slot ||
        wait_ms < POLL_WAIT_MS)
        return POLL_WAIT_MS;
    return wait_ms < POLL_WAIT_FOLLOWER_MS ? wait_ms : POLL_WAIT_FOLLOWER_MS;
}

static void poll_start(struct node *node)
{
    char path[128], url[URL_SIZE];
    bool failing = node->failing_since_ms != 0 || node->answered_ms == 0;
    int wait_ms = failing ? 0 : poll_wait_ms(node);

    if (node->poll)
        return;
    snprintf(path, sizeof path, "/v1/report?since=%llu&run=%016llx&wait_ms=%d",
             (unsigned long long)node->since, (unsigned long long)node->view.report.agent_run,
             wait_ms);
    node_url(node, path, url, sizeof url);
    append_relay(node, url, sizeof url);
    node->poll = http_call(
        node->cluster->client,
        &(struct http_call_spec){.url = url,
                                 .token = node->cluster->orchestrator->peer_token,
                                 .timeout_ms = failing ? RETRY_CALL_MS : wait_ms + POLL_GRACE_MS,
                                 .connect_timeout_ms = POLL_GRACE_MS,
                                 .no_reuse = failing},
        poll_done, node);
}

static void retry(void *arg)
{
    poll_start(arg);
}

/* --- Postgres itself
 * ------------------------------------------------------------------------------ */

static enum probe_verdict probe_meaning(const struct node *node, const struct pg_outcome *outcome,
                                        const struct pg_result *result)
{
    switch (outcome->status) {
    case PG_OK:
        if (result && pg_result_rows(result) == 1 && pg_result_value(result, 0, 0))
            return strcmp(pg_result_value(result, 0, 0), "t") == 0 ? PROBE_STANDBY : PROBE_PRIMARY;
        return PROBE_BROKEN;
    case PG_REFUSED: return PROBE_REFUSED;
    case PG_STARTING_UP: return PROBE_STARTING;
    case PG_TIMEOUT:
    case PG_UNREACHABLE: return PROBE_SILENT;
    case PG_AUTH:
        if (!node->cluster->orchestrator->monitor_password[0])
            return PROBE_UNKNOWN; /* it answers; what it is, one without a password is not told */
        return PROBE_BROKEN;
    default: return PROBE_BROKEN;
    }
}

static void probe_done(const struct pg_outcome *outcome, const struct pg_result *result,
                       int64_t duration_us, void *arg)
{
    struct node *node = arg;
    enum probe_verdict verdict = probe_meaning(node, outcome, result);
    bool fine = verdict == PROBE_PRIMARY || verdict == PROBE_STANDBY || verdict == PROBE_UNKNOWN;

    (void)duration_us;
    node->probe = NULL;
    if (verdict != node->view.postgres && !fine)
        log_event(LOG_LEVEL_WARNING, "postgres_probe", "{s:s,s:s,s:s,s:s}", "cluster",
                  node->cluster->name, "node", node->id, "verdict", probe_verdict_name(verdict),
                  "error", outcome->message);
    node->view.postgres = verdict;
    node->probed_ms = clock_mono_ms();
    if (fine)
        node->postgres_failing_since_ms = 0;
    else if (node->postgres_failing_since_ms == 0)
        node->postgres_failing_since_ms = node->probe_started_ms;
    cluster_changed(node->cluster);
}

/* In recovery: 't'. Else a real write, so that a server whose disk hangs does not look fine; it
 * waits for no standby. */
static const char probe_sql[] =
    "select case when pg_is_in_recovery() then 't' else "
    "(select 'f' from pg_logical_emit_message(true, 'ogel', 'probe')) end";

void observe_probe(struct node *node)
{
    struct orchestrator *orchestrator = node->cluster->orchestrator;
    const struct address *address = &node->view.report.postgres;
    int64_t now_ms = clock_mono_ms();
    char port[8], where[RESOLVE_ADDRESS_SIZE];

    if (node->probe || !node->view.known || address->port == 0 ||
        now_ms - node->probed_ms < PROBE_PAUSE_MS ||
        !resolve_get(orchestrator->resolver, address->host, where, NULL, 0))
        return;
    snprintf(port, sizeof port, "%u", address->port);
    node->probe_started_ms = now_ms;
    node->probe = pg_probe_start(
        orchestrator->loop,
        &(struct pg_conninfo){
            .keywords = (const char *const[]){"hostaddr", "port", "user", "dbname", "password",
                                              "application_name", "options", NULL},
            .values = (const char *const[]){where, port, "ogel_monitor", "postgres",
                                            orchestrator->monitor_password, "ogel_probe",
                                            "-c synchronous_commit=local", NULL}},
        probe_sql, PROBE_DEADLINE_MS, probe_done, node);
}

/* --- start and stop
 * ------------------------------------------------------------------------------- */

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
