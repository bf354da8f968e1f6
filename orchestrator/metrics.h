/*
 * What Prometheus scrapes from the orchestrator, in its text format 0.0.4.
 */
#ifndef OGEL_ORCHESTRATOR_METRICS_H
#define OGEL_ORCHESTRATOR_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_route;
struct orchestrator;

/* Everything, as malloc()ed text. */
char *metrics_text(struct orchestrator *orchestrator, size_t *size);

/* One answered request; route is its index, entry its row (NULL: none matched). Waits (long polls,
 * operations, streams) are counted, not timed. */
void metrics_observe_request(const struct http_route *entry, int route, int status,
                             int64_t duration_us, bool waited);

#endif
