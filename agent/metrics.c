#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api_internal.h"
#include "agent/health.h"
#include "agent/lane.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/prom.h"
#include "protocol/names.h"

#ifdef HAVE_CONFIG_H
#    include "config.h"
#else
#    define PACKAGE_VERSION "unknown"
#endif

void metrics_request(struct agent *agent, int route, int status, int64_t duration_us)
{
    struct api *api = agent->api;
    int row = route >= 0 && route < ROUTES_MAX ? route : ROUTES_MAX;

    if (!api)
        return;
    api->requests[row][status / 100 < STATUS_CLASSES ? status / 100 : 0]++;
    prom_histogram_observe(&api->latency, (double)duration_us / 1e6);
}

static void gauge(FILE *out, const char *name, const char *help, double value)
{
    prom_family(out, name, "gauge", help);
    prom_sample(out, name, NULL, value);
}

static void put_node(FILE *out, const struct agent *agent)
{
    static const enum role roles[] = {ROLE_NONE, ROLE_FENCED, ROLE_LEADER, ROLE_FOLLOWER};
    const struct report *r = &agent->report;

    gauge(out, "ogel_up", "1 while this node's Postgres answers fresh connections.",
          health_answers(r));
    prom_family(out, "ogel_node_role", "gauge", "1 for the role that this node was given.");
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        prom_sample(out, "ogel_node_role", PROM_LABELS("role", role_name(roles[i])),
                    r->role == roles[i]);
    gauge(out, "ogel_node_generation", "Generation that this node has promised.",
          r->promise.generation);
    gauge(out, "ogel_node_timeline", "Timeline of this node's WAL.", r->timeline);
    gauge(out, "ogel_node_leading", "1 while it leads by its own grant, with its names in force.",
          r->leading);
    gauge(out, "ogel_node_writable", "1 while it leads and a counted standby streams.",
          r->accepts_writes);
    gauge(out, "ogel_node_fenced", "1 while it is shown that nothing can be received here.",
          r->fenced);
    gauge(out, "ogel_node_complete", "1 when its data is known to be complete.", r->complete);
    gauge(out, "ogel_node_registered", "1 once this machine has finished registering.",
          r->registered);
    gauge(out, "ogel_receiver_streaming", "1 while it streams from its leader.",
          r->receiver.streaming);
    gauge(out, "ogel_local_probe_failing_seconds",
          "How long fresh local connections or writes have failed; 0 while they do not.",
          r->local_probe_failing_ms / 1e3);
    gauge(out, "ogel_maintenance", "1 while the cluster is in maintenance mode.",
          r->document.maintenance);
    gauge(out, "ogel_pending_restart", "1 while settings wait for a restart of Postgres.",
          r->pending_restart);
    gauge(out, "ogel_job_progress_ratio", "Progress of a clone, rewind or initdb that runs.",
          r->progress_percent / 100.0);
    gauge(out, "ogel_disk_free_bytes", "Free space where the data directory lies.",
          (double)r->disk_free_bytes);
    gauge(out, "ogel_disk_size_bytes", "Size of the file system where the data directory lies.",
          (double)r->disk_total_bytes);
}

static void put_replication(FILE *out, const struct agent *agent)
{
    const struct report *r = &agent->report;
    uint64_t lag = r->flush_lsn > r->replay_lsn ? r->flush_lsn - r->replay_lsn : 0;

    gauge(out, "ogel_replication_lag_bytes", "WAL that this standby has still to replay.",
          r->in_recovery ? (double)lag : 0);
    gauge(out, "ogel_replication_lag_seconds", "How far replay on this standby is behind.",
          r->in_recovery ? r->replay_lag_ms / 1e3 : 0);
    prom_family(out, "ogel_standby_sync", "gauge",
                "1 while this leader counts that standby: its acknowledgement completes a commit.");
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot != agent->config.self)
            prom_sample(out, "ogel_standby_sync", PROM_LABELS("standby", agent->config.ids[slot]),
                        r->standbys[slot].counted && r->standbys[slot].streaming);
    prom_family(out, "ogel_standby_lag_bytes", "gauge",
                "WAL of this leader that the standby has not flushed.");
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot != agent->config.self && r->standbys[slot].attached)
            prom_sample(out, "ogel_standby_lag_bytes",
                        PROM_LABELS("standby", agent->config.ids[slot]),
                        r->write_lsn > r->standbys[slot].flush_lsn
                            ? (double)(r->write_lsn - r->standbys[slot].flush_lsn)
                            : 0);
}

static void put_peers(FILE *out, struct agent *agent)
{
    struct peer_view view;

    prom_family(out, "ogel_peer_reachable", "gauge", "1 while the peer's agent answers this one.");
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (slot == agent->config.self)
            continue;
        peers_view(agent, slot, &view);
        prom_sample(out, "ogel_peer_reachable", PROM_LABELS("peer", agent->config.ids[slot]),
                    view.agent_reachable);
    }
    gauge(out, "ogel_confirmed_age_seconds",
          "Leader: since another node was last seen to stand at its generation.",
          agent->report.leading ? (double)(clock_boot_ms() - agent->in.confirmed_ms) / 1e3 : 0);
}

static void put_snapshots(FILE *out, const struct agent *agent)
{
    const struct task *task = lane_task(agent);
    bool runs = task->state == TASK_RUNNING;

    prom_family(out, "ogel_snapshot_task_running", "gauge",
                "1 while this node works on a snapshot task of that kind.");
    for (int kind = 0; kind < TASK_KINDS; kind++)
        prom_sample(out, "ogel_snapshot_task_running", PROM_LABELS("kind", task_kind_names[kind]),
                    runs && (int)task->request.kind == kind);
    gauge(out, "ogel_snapshot_task_done_bytes",
          "How much of the database the running task has worked through; 0 without one.",
          runs ? (double)task->done_bytes : 0);
    gauge(out, "ogel_snapshot_task_size_bytes",
          "How much the running task has to work through, as far as it is known.",
          runs ? (double)task->total_bytes : 0);
    gauge(out, "ogel_snapshot_task_stored_bytes",
          "What the running task has put into the store, or taken out of it.",
          runs ? (double)task->stored_bytes : 0);
    prom_family(out, "ogel_snapshot_last_success_timestamp_seconds", "gauge",
                "When a task of that kind ended well here last, since the agent started.");
    for (int kind = 0; kind < TASK_KINDS; kind++)
        if (lane_last_success_ms(agent, (enum task_kind)kind) != 0)
            prom_sample(out, "ogel_snapshot_last_success_timestamp_seconds",
                        PROM_LABELS("kind", task_kind_names[kind]),
                        (double)(lane_last_success_ms(agent, (enum task_kind)kind) / 1000));
    prom_family(out, "ogel_snapshot_failures_total", "counter",
                "Tasks of that kind that failed here or were cancelled.");
    for (int kind = 0; kind < TASK_KINDS; kind++)
        prom_sample(out, "ogel_snapshot_failures_total", PROM_LABELS("kind", task_kind_names[kind]),
                    (double)lane_failures(agent, (enum task_kind)kind));
}

static const char *route_pattern(const struct api *api, size_t row)
{
    return row < api->route_count ? api->routes[row].pattern : "none";
}

/* Of all methods of a path together, at the first of them: a sample must not stand there twice. */
static uint64_t requests_of(const struct api *api, size_t row, int status)
{
    uint64_t count = 0;

    for (size_t i = 0; i <= ROUTES_MAX; i++) {
        if (strcmp(route_pattern(api, i), route_pattern(api, row)) != 0)
            continue;
        if (i < row)
            return 0;
        count += api->requests[i][status];
    }
    return count;
}

static void put_api(FILE *out, const struct agent *agent)
{
    const struct api *api = agent->api;
    struct http_server_stats stats;
    char class[4] = "0xx";

    http_server_stats(agent->server, &stats);
    gauge(out, "ogel_http_connections", "Open client connections.", stats.connections);
    prom_family(out, "ogel_http_refused_tokens_total", "counter", "Requests answered 401 or 403.");
    prom_sample(out, "ogel_http_refused_tokens_total", NULL, (double)stats.refused_tokens_total);
    prom_family(out, "ogel_http_requests_total", "counter",
                "Answered requests by route and class of status.");
    for (size_t row = 0; row <= ROUTES_MAX; row++)
        for (int status = 1; status < STATUS_CLASSES; status++) {
            const char *pattern = route_pattern(api, row);
            uint64_t count = requests_of(api, row, status);

            if (count == 0)
                continue;
            class[0] = (char)('0' + status);
            prom_sample(out, "ogel_http_requests_total",
                        PROM_LABELS("route", pattern, "code", class), (double)count);
        }
    prom_family(out, "ogel_http_request_duration_seconds", "histogram",
                "From a complete request to its answer, without those that wait for news.");
    prom_histogram_print(out, "ogel_http_request_duration_seconds", NULL, &api->latency);
}

char *metrics_text(struct agent *agent)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    OGEL_CHECK(out != NULL);
    prom_family(out, "ogel_build_info", "gauge", "1, with the version as a label.");
    prom_sample(out, "ogel_build_info", PROM_LABELS("version", PACKAGE_VERSION, "part", "agent"),
                1);
    put_node(out, agent);
    put_replication(out, agent);
    put_peers(out, agent);
    put_snapshots(out, agent);
    put_api(out, agent);
    prom_family(out, "ogel_events_total", "counter", "Entries ever written to the event log.");
    prom_sample(out, "ogel_events_total", NULL, (double)events_last(agent->events));
    prom_family(out, "ogel_log_dropped_total", "counter",
                "Log lines dropped because standard error was stuck.");
    prom_sample(out, "ogel_log_dropped_total", NULL, (double)log_dropped_total());
    OGEL_CHECK(fclose(out) == 0);
    return text;
}
