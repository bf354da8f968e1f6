#include "orchestrator/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/http_server.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/prom.h"
#include "base/redis.h"
#include "config.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"
#include "orchestrator/topology.h"

enum { ROUTES = 48 };

/* Requests are the process', not a cluster's. */
static struct {
    const char *pattern;
    const char *method;
    struct prom_histogram latency;
    uint64_t by_class[6]; /* status / 100 */
} routes[ROUTES];

/* Two routes may share a pattern: their methods tell them apart. */
static const char *method_name(unsigned methods)
{
    switch (methods) {
    case HTTP_GET: return "get";
    case HTTP_POST: return "post";
    default: return "any";
    }
}

void metrics_observe_request(const struct http_route *entry, int route, int status,
                             int64_t duration_us, bool waited)
{
    int i = route < 0 || route >= ROUTES - 1 ? ROUTES - 1 : route;

    routes[i].pattern = entry ? entry->pattern : "none";
    routes[i].method = method_name(entry ? entry->methods : 0);
    routes[i].latency.bounds = prom_latency_bounds;
    routes[i].latency.bound_count = PROM_LATENCY_BOUNDS;
    if (status >= 100 && status < 600)
        routes[i].by_class[status / 100]++;
    if (!waited)
        prom_histogram_observe(&routes[i].latency, (double)duration_us / 1e6);
}

static const struct node_view *view_of(const struct cluster *cluster, int32_t slot)
{
    return &cluster->nodes[slot].view;
}

/* One sample for each node of each cluster. */
typedef double node_value(const struct cluster *cluster, int32_t slot);

static void each_node(FILE *out, const struct orchestrator *o, const char *name, const char *help,
                      node_value *value)
{
    prom_family(out, name, "gauge", help);
    for (uint32_t c = 0; c < o->cluster_count; c++)
        for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
            double v = value(&o->clusters[c], slot);

            if (!isnan(v))
                prom_sample(out, name,
                            PROM_LABELS("cluster", o->clusters[c].name, "node",
                                        o->clusters[c].nodes[slot].id),
                            v);
        }
}

static double value_up(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->reachable && view_of(cluster, slot)->report.pg == PG_UP;
}

static double value_agent_age(const struct cluster *cluster, int32_t slot)
{
    const struct node_view *view = view_of(cluster, slot);

    if (view->reachable)
        return 0;
    return view->unreachable_ms / 1e3;
}

static double value_generation(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? view_of(cluster, slot)->report.promise.generation : NAN;
}

static double value_timeline(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? view_of(cluster, slot)->report.timeline : NAN;
}

static double value_lag_bytes(const struct cluster *cluster, int32_t slot)
{
    uint64_t lag = cluster->topology->nodes[slot].lag_bytes;

    return lag == UINT64_MAX ? NAN : (double)lag;
}

static double value_lag_seconds(const struct cluster *cluster, int32_t slot)
{
    uint32_t lag = cluster->topology->nodes[slot].lag_ms;

    return lag == UINT32_MAX ? NAN : lag / 1e3;
}

static double value_sync(const struct cluster *cluster, int32_t slot)
{
    return cluster->topology->nodes[slot].sync;
}

static double value_complete(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? view_of(cluster, slot)->report.complete : NAN;
}

static double value_disk_free(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? (double)view_of(cluster, slot)->report.disk_free_bytes
                                         : NAN;
}

static double value_disk_size(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? (double)view_of(cluster, slot)->report.disk_total_bytes
                                         : NAN;
}

static double value_pending_restart(const struct cluster *cluster, int32_t slot)
{
    return view_of(cluster, slot)->known ? view_of(cluster, slot)->report.pending_restart : NAN;
}

static void print_nodes(FILE *out, const struct orchestrator *o)
{
    prom_family(out, "ogel_node_role", "gauge",
                "1 for the role the node has: leader, follower, fenced, none.");
    for (uint32_t c = 0; c < o->cluster_count; c++)
        for (int32_t slot = 0; slot < NODE_COUNT; slot++)
            prom_sample(out, "ogel_node_role",
                        PROM_LABELS("cluster", o->clusters[c].name, "node",
                                    o->clusters[c].nodes[slot].id, "role",
                                    role_name(o->clusters[c].topology->nodes[slot].role)),
                        1);
    each_node(out, o, "ogel_up",
              "1 while the node's agent answers and its Postgres accepts connections.", value_up);
    each_node(out, o, "ogel_agent_contact_age_seconds",
              "How long the node's agent has not answered; 0 while it does.", value_agent_age);
    each_node(out, o, "ogel_node_generation", "Generation the node has promised.",
              value_generation);
    each_node(out, o, "ogel_node_timeline", "Timeline of the node's WAL.", value_timeline);
    each_node(out, o, "ogel_replication_lag_bytes", "WAL the node has still to replay.",
              value_lag_bytes);
    each_node(out, o, "ogel_replication_lag_seconds", "Replay delay of the node.",
              value_lag_seconds);
    each_node(out, o, "ogel_node_sync",
              "1 while the node is counted: its acknowledgement completes a commit.", value_sync);
    each_node(out, o, "ogel_node_complete", "1 when the node's data is known to be complete.",
              value_complete);
    each_node(out, o, "ogel_disk_free_bytes", "Free space where the node's data lies.",
              value_disk_free);
    each_node(out, o, "ogel_disk_size_bytes", "Size of the file system where the node's data lies.",
              value_disk_size);
    each_node(out, o, "ogel_pending_restart",
              "1 while settings wait for a restart of the node's Postgres.", value_pending_restart);
}

typedef double cluster_value(const struct cluster *cluster);

static void each_cluster(FILE *out, const struct orchestrator *o, const char *name,
                         const char *help, cluster_value *value)
{
    prom_family(out, name, "gauge", help);
    for (uint32_t c = 0; c < o->cluster_count; c++)
        prom_sample(out, name, PROM_LABELS("cluster", o->clusters[c].name), value(&o->clusters[c]));
}

static double value_cluster_generation(const struct cluster *cluster)
{
    return cluster->plan.generation;
}

static double value_has_leader(const struct cluster *cluster)
{
    return cluster->plan.leader >= 0;
}

static double value_writable(const struct cluster *cluster)
{
    return cluster->plan.writable;
}

static double value_maintenance(const struct cluster *cluster)
{
    return cluster->plan.maintenance;
}

static double value_possible(const struct cluster *cluster)
{
    return cluster->plan.failover_possible;
}

static void print_clusters(FILE *out, const struct orchestrator *o)
{
    each_cluster(out, o, "ogel_cluster_generation", "Generation of the cluster's leader.",
                 value_cluster_generation);
    each_cluster(out, o, "ogel_cluster_has_leader", "1 while a node leads.", value_has_leader);
    each_cluster(out, o, "ogel_cluster_writable", "1 while commits are acknowledged by a quorum.",
                 value_writable);
    each_cluster(out, o, "ogel_maintenance", "1 while the cluster is in maintenance mode.",
                 value_maintenance);
    each_cluster(out, o, "ogel_failover_possible", "1 while a failover would succeed now.",
                 value_possible);
    prom_family(out, "ogel_failover_blocker", "gauge",
                "1 for each reason why a failover would not succeed now.");
    for (uint32_t c = 0; c < o->cluster_count; c++) {
        const struct cluster *cluster = &o->clusters[c];
        const struct plan *plan = &cluster->plan;

        for (uint32_t i = 0; i < plan->blocker_count; i++)
            prom_sample(out, "ogel_failover_blocker",
                        PROM_LABELS("cluster", cluster->name, "node",
                                    plan->blockers[i].node >= 0
                                        ? cluster->nodes[plan->blockers[i].node].id
                                        : "",
                                    "reason", reason_code(plan->blockers[i].reason)),
                        1);
    }
    prom_family(out, "ogel_failovers_total", "counter",
                "Elections won since this orchestrator started, by reason.");
    for (uint32_t c = 0; c < o->cluster_count; c++)
        for (int reason = 0; reason < REASON_COUNT; reason++)
            if (o->clusters[c].failovers_by_reason[reason])
                prom_sample(
                    out, "ogel_failovers_total",
                    PROM_LABELS("cluster", o->clusters[c].name, "reason", reason_code(reason)),
                    o->clusters[c].failovers_by_reason[reason]);
}

static void print_durations(FILE *out, const struct orchestrator *o)
{
    prom_family(out, "ogel_failover_duration_seconds", "histogram",
                "Parts of failovers and switchovers: detection, fencing, promotion, total.");
    for (uint32_t c = 0; c < o->cluster_count; c++) {
        const struct cluster *cluster = &o->clusters[c];

        for (int part = 0; part < PART_COUNT; part++)
            if (cluster->durations[part].count)
                prom_histogram_print(
                    out, "ogel_failover_duration_seconds",
                    PROM_LABELS("cluster", cluster->name, "part", part_names[part]),
                    &cluster->durations[part]);
    }
}

static void print_process(FILE *out, const struct orchestrator *o)
{
    struct http_server_stats stats;

    prom_family(out, "ogel_build_info", "gauge", "1, with the version as a label.");
    prom_sample(out, "ogel_build_info",
                PROM_LABELS("version", PACKAGE_VERSION, "part", "orchestrator"), 1);
    http_server_stats(o->server, &stats);
    prom_family(out, "ogel_http_connections", "gauge", "Open client connections.");
    prom_sample(out, "ogel_http_connections", NULL, stats.connections);
    prom_family(out, "ogel_http_refused_tokens_total", "counter", "Requests answered 401 or 403.");
    prom_sample(out, "ogel_http_refused_tokens_total", NULL, (double)stats.refused_tokens_total);
    prom_family(out, "ogel_http_requests_total", "counter",
                "Answered requests by route and class of status.");
    for (int i = 0; i < ROUTES; i++)
        for (int class = 1; routes[i].pattern && class < 6; class ++) {
            char text[16];

            snprintf(text, sizeof text, "%dxx", class);
            if (routes[i].by_class[class])
                prom_sample(out, "ogel_http_requests_total",
                            PROM_LABELS("route", routes[i].pattern, "method", routes[i].method,
                                        "status", text),
                            (double)routes[i].by_class[class]);
        }
    prom_family(out, "ogel_http_request_duration_seconds", "histogram",
                "Time to answer requests that need not wait, by route.");
    for (int i = 0; i < ROUTES; i++)
        if (routes[i].pattern && routes[i].latency.count)
            prom_histogram_print(
                out, "ogel_http_request_duration_seconds",
                PROM_LABELS("route", routes[i].pattern, "method", routes[i].method),
                &routes[i].latency);
    prom_family(out, "ogel_log_dropped_total", "counter",
                "Log lines dropped because standard error was stuck.");
    prom_sample(out, "ogel_log_dropped_total", NULL, (double)log_dropped_total());
    if (o->redis) {
        struct redis_status status;

        redis_status(o->redis, &status);
        prom_family(out, "ogel_redis_up", "gauge", "1 while Redis answers.");
        prom_sample(out, "ogel_redis_up", NULL, status.state == REDIS_UP);
        prom_family(out, "ogel_redis_dropped_total", "counter",
                    "Commands to Redis that were not sent or not answered.");
        prom_sample(out, "ogel_redis_dropped_total", NULL, (double)status.dropped_total);
    }
}

char *metrics_text(struct orchestrator *orchestrator, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    if (!out)
        die("metrics: out of memory");
    print_clusters(out, orchestrator);
    print_nodes(out, orchestrator);
    print_durations(out, orchestrator);
    snapshots_print_metrics(out, orchestrator);
    print_process(out, orchestrator);
    if (fclose(out))
        die("metrics: out of memory");
    return text;
}
