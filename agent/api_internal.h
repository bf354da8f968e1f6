/* Shared by the files of the agent's HTTP API (api.c, health_api.c, document_api.c, source_api.c,
 * task_api.c, listing.c, metrics.c). */
#ifndef OGEL_AGENT_API_INTERNAL_H
#define OGEL_AGENT_API_INTERNAL_H

#include <stdint.h>

#include "agent/health.h"
#include "agent/node.h"
#include "base/http_server.h"
#include "base/prom.h"
#include "base/resolve.h"

enum { ROUTES_MAX = 32, HEALTH_ROUTES_MAX = 16, STATUS_CLASSES = 6 };

struct waiter;
struct document_waiter;
struct task_waiter;
struct lookup;

struct health_route {
    struct agent *agent;
    enum health_check check;
};

struct api {
    struct http_route routes[ROUTES_MAX];
    size_t route_count;
    struct health_route health[HEALTH_ROUTES_MAX];
    struct waiter *waiters;
    struct document_waiter *document_waiters;
    struct task_waiter *task_waiters;
    struct http_request *registration; /* waits for its answer */
    struct lookup *source_lookup;      /* of source_api.c; NULL: none under way */

    /* for metrics */
    uint64_t requests[ROUTES_MAX + 1]
                     [STATUS_CLASSES]; /* by route (last: none matched) and status / 100 */
    struct prom_histogram latency;
};

/* health_api.c: the health checks and /metrics. */
void health_routes(struct agent *agent, struct api *api);

/* source_api.c */
void api_source_post(struct http_request *request, void *agent);

/* metrics.c */
void metrics_request(struct agent *agent, int route, int status, int64_t duration_us);

#endif
