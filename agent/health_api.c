#include "agent/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

enum { BEAT_MAX_MS = 5000 };

static const struct {
    const char *path;
    enum health_check check;
} checks[] = {
    {"/", HEALTH_PRIMARY},
    {"/primary", HEALTH_PRIMARY},
    {"/read-write", HEALTH_PRIMARY},
    {"/master", HEALTH_PRIMARY},
    {"/leader", HEALTH_LEADER},
    {"/replica", HEALTH_REPLICA},
    {"/read-only", HEALTH_READ_ONLY},
    {"/synchronous", HEALTH_SYNCHRONOUS},
    {"/sync", HEALTH_SYNCHRONOUS},
    {"/asynchronous", HEALTH_ASYNCHRONOUS},
    {"/async", HEALTH_ASYNCHRONOUS},
    {"/health", HEALTH_RUNNING},
    {"/liveness", HEALTH_LIVENESS},
    {"/readiness", HEALTH_READINESS},
};

/* How far replay is behind: measured against the leader's last word where there is one. */
static void put_lag(const struct agent *agent, struct health *health)
{
    const struct report *report = &agent->report;
    uint64_t ahead = report->flush_lsn;

    health->lag_known = report->receiver.streaming;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct report *peer = &agent->peer_reports[slot];

        if (slot == agent->config.self || !agent->in.peers[slot].known || !peer->leading)
            continue;
        health->lag_known = true;
        if (peer->write_lsn > ahead)
            ahead = peer->write_lsn;
        health->counted = peer->standbys[agent->config.self].counted &&
                          peer->standbys[agent->config.self].streaming;
    }
    health->lag_bytes = ahead > report->replay_lsn ? ahead - report->replay_lsn : 0;
}

static void get_health(struct http_request *request, void *arg)
{
    const struct health_route *route = arg;
    const struct agent *agent = route->agent;
    struct health health = {.report = &agent->report,
                            .beat_age_ms = clock_boot_ms() - agent->turned_ms,
                            .beat_max_ms = BEAT_MAX_MS};
    struct err err = {0};
    int64_t max_lag;
    int status;

    if (health_parse_lag(http_request_query(request, "lag"), &max_lag, &err) < 0) {
        http_respond_problem(request, 400, NULL, "lag: %s", err.text);
        return;
    }
    put_lag(agent, &health);
    status = health_status(&health, route->check, max_lag);
    if (request->method == HTTP_OPTIONS)
        http_respond(request, status, NULL, NULL, 0);
    else
        http_respond_json(
            request, status,
            health_body(&health, agent->config.options.cluster, agent->config.options.node));
}

static void get_metrics(struct http_request *request, void *arg)
{
    char *text = metrics_text(arg);

    http_respond_take(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, strlen(text));
}

void health_routes(struct agent *agent, struct api *api)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(checks); i++) {
        api->health[i] = (struct health_route){.agent = agent, .check = checks[i].check};
        api->routes[api->route_count++] = (struct http_route){.methods = HTTP_GET | HTTP_OPTIONS,
                                                              .pattern = checks[i].path,
                                                              .access = HTTP_OPEN,
                                                              .handler = get_health,
                                                              .arg = &api->health[i]};
    }
    api->routes[api->route_count++] = (struct http_route){
        .methods = HTTP_GET,
        .pattern = "/metrics",
        .access = agent->config.options.metrics_open ? HTTP_OPEN : HTTP_READ,
        .handler = get_metrics,
        .arg = agent};
    OGEL_CHECK(api->route_count <= ROUTES_MAX);
}
