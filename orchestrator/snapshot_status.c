/* A cluster's snapshots as people see them, problems first, and as Prometheus does. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/prom.h"
#include "orchestrator/snapshots.h"

enum { OVERDUE_GRACE_MS = 300000 };

static json_t *time_or_null(int64_t wall_ms)
{
    char text[CLOCK_ISO8601_SIZE];

    return wall_ms > 0 ? json_string(clock_format_iso8601(wall_ms, text)) : json_null();
}

static json_t *outcome_json(const struct snapshot_outcome *outcome, int64_t now_ms)
{
    int64_t age_ms = now_ms > outcome->ended_ms ? now_ms - outcome->ended_ms : 0;

    if (outcome->ended_ms == 0)
        return json_null();
    return json_pack("{s:s,s:o,s:I,s:I,s:I,s:I}", "id", outcome->id, "time",
                     time_or_null(outcome->ended_ms), "age_s", (json_int_t)(age_ms / 1000),
                     "duration_ms", (json_int_t)outcome->duration_ms, "logical_bytes",
                     (json_int_t)outcome->logical_bytes, "stored_bytes",
                     (json_int_t)outcome->stored_bytes);
}

/* Two slots and a little have gone by since the last one. */
static bool is_overdue(const struct snapshots *s, int64_t now_ms)
{
    const struct snapshot_outcome *create = &s->outcomes[SNAPSHOT_CREATE];
    const struct schedule *schedule = &s->settings.schedules[SNAPSHOT_CREATE];
    int64_t second_ms;

    if (!s->settings.timed[SNAPSHOT_CREATE] || create->ended_ms == 0)
        return false;
    second_ms = schedule_next(schedule, schedule_next(schedule, create->ended_ms));
    return second_ms < now_ms - OVERDUE_GRACE_MS;
}

static void describe_problem(const struct snapshots *s, int64_t now_ms, char *out, size_t size)
{
    char time[CLOCK_ISO8601_SIZE];

    out[0] = '\0';
    if (s->settings.problem[0]) {
        snprintf(out, size, "%s", s->settings.problem);
        return;
    }
    for (int kind = 0; kind < SNAPSHOT_KINDS; kind++)
        if (s->outcomes[kind].failed_ms) {
            snprintf(out, size, "the last %s failed at %s: %s", snapshot_kind_names[kind],
                     clock_format_iso8601(s->outcomes[kind].failed_ms, time),
                     s->outcomes[kind].failure);
            return;
        }
    if (s->index.failed)
        snprintf(out, size, "%s", s->index.error);
    else if (is_overdue(s, now_ms))
        snprintf(out, size,
                 "the last snapshot is of %s, and more are due since: ogelctl events "
                 "says why",
                 clock_format_iso8601(s->outcomes[SNAPSHOT_CREATE].ended_ms, time));
}

json_t *snapshots_status_json(const struct cluster *cluster)
{
    const struct snapshots *s = cluster->snapshots;
    int64_t now_ms = clock_wall_ms();
    char problem[2 * SNAPSHOT_TEXT_SIZE];
    json_t *json;

    if (!s || !s->settings.store)
        return json_null();
    describe_problem(s, now_ms, problem, sizeof problem);
    json = json_pack("{s:s,s:o}", "store", s->settings.store, "problem", json_text(problem));
    for (int kind = 0; kind < SNAPSHOT_TIMED; kind++) {
        const char *name = kind == SNAPSHOT_CREATE ? "schedule" : snapshot_kind_names[kind];
        json_t *text = json_object_get(s->settings.section, name);

        json_object_set_new(json, name, text ? json_incref(text) : json_null());
    }
    json_object_set_new(json, "last", outcome_json(&s->outcomes[SNAPSHOT_CREATE], now_ms));
    json_object_set_new(json, "last_verify", outcome_json(&s->outcomes[SNAPSHOT_VERIFY], now_ms));
    json_object_set_new(json, "last_drill", outcome_json(&s->outcomes[SNAPSHOT_DRILL], now_ms));
    json_object_set_new(json, "next", time_or_null(s->outcomes[SNAPSHOT_CREATE].next_ms));
    json_object_set_new(json, "task", snapshot_run_active(s) ? snapshot_run_json(s) : json_null());
    return json;
}

/* --- metrics -----------------------------------------------------------------------------------
 */

/* The value of one kind in one cluster; below 0: there is none. */
typedef double kind_value(const struct snapshots *s, int kind);

static void each_kind(FILE *out, const struct orchestrator *o, const char *name, const char *type,
                      const char *help, kind_value *value)
{
    prom_family(out, name, type, help);
    for (uint32_t c = 0; c < o->cluster_count; c++) {
        const struct snapshots *s = o->clusters[c].snapshots;

        for (int kind = 0; s && s->settings.store && kind < SNAPSHOT_KINDS; kind++)
            if (value(s, kind) >= 0)
                prom_sample(
                    out, name,
                    PROM_LABELS("cluster", o->clusters[c].name, "kind", snapshot_kind_names[kind]),
                    value(s, kind));
    }
}

static double value_last(const struct snapshots *s, int kind)
{
    return s->outcomes[kind].ended_ms ? (double)s->outcomes[kind].ended_ms / 1e3 : -1;
}

static double value_duration(const struct snapshots *s, int kind)
{
    return s->outcomes[kind].ended_ms && s->outcomes[kind].duration_ms > 0
               ? (double)s->outcomes[kind].duration_ms / 1e3
               : -1;
}

static double value_failed(const struct snapshots *s, int kind)
{
    return (double)s->outcomes[kind].failed_total;
}

static double value_next(const struct snapshots *s, int kind)
{
    return s->outcomes[kind].next_ms ? (double)s->outcomes[kind].next_ms / 1e3 : -1;
}

static double value_running(const struct snapshots *s, int kind)
{
    return snapshot_run_active(s) && (int)s->run.wish.kind == kind;
}

static double value_logical(const struct snapshots *s, int kind)
{
    return kind == SNAPSHOT_CREATE && s->outcomes[kind].ended_ms
               ? (double)s->outcomes[kind].logical_bytes
               : -1;
}

static double value_stored(const struct snapshots *s, int kind)
{
    return kind == SNAPSHOT_CREATE && s->outcomes[kind].ended_ms
               ? (double)s->outcomes[kind].stored_bytes
               : -1;
}

static void print_skipped(FILE *out, const struct orchestrator *o)
{
    prom_family(out, "ogel_snapshot_skipped_total", "counter",
                "Scheduled runs that were skipped since this orchestrator started, by reason.");
    for (uint32_t c = 0; c < o->cluster_count; c++) {
        const struct snapshots *s = o->clusters[c].snapshots;

        for (int kind = 0; s && s->settings.store && kind < SNAPSHOT_KINDS; kind++)
            for (int reason = 0; reason < SKIP_REASONS; reason++)
                if (s->outcomes[kind].skipped_total[reason])
                    prom_sample(out, "ogel_snapshot_skipped_total",
                                PROM_LABELS("cluster", o->clusters[c].name, "kind",
                                            snapshot_kind_names[kind], "reason",
                                            skip_reason_names[reason]),
                                (double)s->outcomes[kind].skipped_total[reason]);
    }
}

void snapshots_print_metrics(FILE *out, const struct orchestrator *o)
{
    each_kind(out, o, "ogel_snapshot_last_success_timestamp_seconds", "gauge",
              "When the last snapshot was taken, verified or drilled, or garbage collected; UTC.",
              value_last);
    each_kind(out, o, "ogel_snapshot_last_duration_seconds", "gauge",
              "How long the last success took.", value_duration);
    each_kind(out, o, "ogel_snapshot_size_bytes", "gauge", "Size of the last snapshot.",
              value_logical);
    each_kind(out, o, "ogel_snapshot_stored_bytes", "gauge",
              "What the last snapshot stored that its parent lacks.", value_stored);
    each_kind(out, o, "ogel_snapshot_failed_total", "counter",
              "Tasks that failed for good since this orchestrator started.", value_failed);
    print_skipped(out, o);
    each_kind(out, o, "ogel_snapshot_next_run_timestamp_seconds", "gauge",
              "When the schedule begins the next one; UTC.", value_next);
    each_kind(out, o, "ogel_snapshot_running", "gauge", "1 while such a task is under way.",
              value_running);
}
