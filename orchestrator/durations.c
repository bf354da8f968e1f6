/* How long failovers take, part by part, as this orchestrator sees them. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "orchestrator/shell.h"

const char *const part_names[PART_COUNT] = {"detection", "fencing", "promotion", "total"};

static void note(struct cluster *cluster, enum part part, int64_t from_ms, int64_t to_ms)
{
    struct prom_histogram *histogram = &cluster->durations[part];

    histogram->bounds = prom_duration_bounds;
    histogram->bound_count = PROM_DURATION_BOUNDS;
    if (from_ms > 0 && to_ms >= from_ms)
        prom_histogram_observe(histogram, (double)(to_ms - from_ms) / 1e3);
}

/* Detection: from the first sign (the last answer of a silent leader, the report of a dead one) to
 * the decision. Fencing: to the grant, with promises and positions. Promotion: to the report of a
 * leader that leads. */
void durations_note(struct cluster *cluster, const struct memory *before, const struct plan *plan)
{
    const struct memory *after = &plan->memory;
    int64_t now_ms = clock_mono_ms();

    if (before->phase == PHASE_IDLE && after->phase != PHASE_IDLE) {
        cluster->sign_ms = before->suspect_since_ms ? before->suspect_since_ms : now_ms;
        cluster->decided_ms = now_ms;
    }
    if (before->phase != PHASE_GRANTED && after->phase == PHASE_GRANTED)
        cluster->granted_ms = now_ms;
    if (before->phase == PHASE_GRANTED && after->phase == PHASE_IDLE &&
        plan->leader == before->granted_to && plan->generation == before->generation) {
        note(cluster, PART_DETECTION, cluster->sign_ms, cluster->decided_ms);
        note(cluster, PART_FENCING, cluster->decided_ms, cluster->granted_ms);
        note(cluster, PART_PROMOTION, cluster->granted_ms, now_ms);
        note(cluster, PART_TOTAL, cluster->sign_ms, now_ms);
        cluster->failovers_by_reason[before->why]++;
        log_event(LOG_LEVEL_INFO, "election_done", "{s:s,s:s,s:I,s:s,s:I,s:I,s:I}", "cluster",
                  cluster->name, "node", cluster->nodes[plan->leader].id, "generation",
                  (json_int_t)plan->generation, "reason", reason_code(before->why), "detection_ms",
                  (json_int_t)(cluster->decided_ms - cluster->sign_ms), "fencing_ms",
                  (json_int_t)(cluster->granted_ms - cluster->decided_ms), "promotion_ms",
                  (json_int_t)(now_ms - cluster->granted_ms));
    }
}
