/* ogelctl snapshot delete, pin, unpin, gc: which snapshots stay, and what of the others is left. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/operation.h"
#include "cli/report.h"
#include "cli/snapshot_verbs.h"
#include "cli/table.h"
#include "snapshots/collect.h"
#include "snapshots/expire.h"
#include "snapshots/keep.h"

#define GRACE_MAX_MS (31 * INT64_C(86400000))

/* --- delete, pin, unpin --------------------------------------------------------------------- */

/* The result as JSON, or a line for people. */
static void say(const struct ctl *ctl, const char *id, const char *what, const char *more)
{
    json_t *json = json_pack("{s:s,s:s}", "id", id, "done", what);

    report_result(ctl->report, json);
    if (ctl->json)
        print_json(json);
    else
        printf("snapshot %s: %s%s\n", id, what, more);
    json_decref(json);
}

enum ctl_exit snapshot_delete(struct ctl *ctl, struct store *store, const char *id, struct err *err)
{
    char question[200];
    enum ctl_exit rc;

    snprintf(question, sizeof(question),
             "Snapshot %.64s is deleted from its store for good; others that share pieces with it "
             "stay whole.",
             id);
    rc = operation_ask(ctl, question, err);
    if (rc != CTL_OK)
        return rc;
    if (expire_snapshot(store, id, err) < 0)
        return snapshot_exit_of(err);
    say(ctl, id, "deleted", "; gc gives its space back");
    return CTL_OK;
}

enum ctl_exit snapshot_pin(const struct ctl *ctl, const struct args *args, struct store *store,
                           const char *id, struct err *err)
{
    const char *note = args_value(args, "note");

    if (marks_pin(store, id, note != NULL ? note : "", ctl->who, err) < 0)
        return snapshot_exit_of(err);
    say(ctl, id, "pinned", "; nothing expires or deletes it until it is unpinned");
    return CTL_OK;
}

enum ctl_exit snapshot_unpin(const struct ctl *ctl, struct store *store, const char *id,
                             struct err *err)
{
    if (marks_unpin(store, id, err) < 0)
        return snapshot_exit_of(err);
    say(ctl, id, "unpinned", "");
    return CTL_OK;
}

/* --- gc ------------------------------------------------------------------------------------- */

struct gc {
    struct ctl *ctl;
    bool expires; /* a --keep-… was given */
    struct keep_rule rule;
    struct keep_entry *entries;
    size_t count;
    struct collect_options collect;
    struct collect_result result;
    struct table *table; /* of decisions */
    json_t *decisions;
};

static int take_rule(const struct args *args, struct gc *gc, struct err *err)
{
    struct {
        const char *name;
        int *value;
    } numbers[] = {{"keep-daily", &gc->rule.daily},
                   {"keep-weekly", &gc->rule.weekly},
                   {"keep-monthly", &gc->rule.monthly},
                   {"keep-least", &gc->rule.least}};

    gc->rule = (struct keep_rule)KEEP_RULE_DEFAULT;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(numbers); i++) {
        const char *text = args_value(args, numbers[i].name);
        int64_t number;

        if (text == NULL)
            continue;
        if (units_parse_int(text, 0, KEEP_MAX, &number, err) < 0)
            return err_context(err, "option \"--%s\"", numbers[i].name);
        *numbers[i].value = (int)number;
        gc->expires = true;
    }
    return 0;
}

static int take_options(const struct args *args, struct gc *gc, struct err *err)
{
    const char *grace = args_value(args, "grace");

    gc->collect.dry_run = args_given(args, "dry-run");
    if (grace != NULL) {
        if (units_parse_duration(grace, &gc->collect.grace_ms, err) < 0)
            return err_context(err, "option \"--grace\"");
        if (gc->collect.grace_ms < 1000 || gc->collect.grace_ms > GRACE_MAX_MS)
            return err_set(err, ERR_INVALID, "option \"--grace\": \"%s\" (allowed: 1s to 31d)",
                           grace);
    }
    return take_rule(args, gc, err);
}

static void note_decision(const struct collect_item *item, void *arg)
{
    struct gc *gc = arg;
    char size[32];

    json_array_append_new(gc->decisions,
                          json_pack("{s:s,s:I,s:I,s:s,s:s}", "what", item->what, "objects",
                                    (json_int_t)item->count, "bytes", (json_int_t)item->bytes,
                                    "verdict", collect_verdict_names[item->verdict], "reason",
                                    item->reason));
    table_row(gc->table);
    table_cell(gc->table, STYLE_PLAIN, "%s", item->what);
    table_cell(gc->table, STYLE_PLAIN, "%" PRIu64, item->count);
    table_cell(gc->table, STYLE_PLAIN, "%s", size_text(item->bytes, size));
    table_cell(gc->table, item->verdict == COLLECT_DELETED ? STYLE_WARN : STYLE_PLAIN, "%s",
               collect_verdict_names[item->verdict]);
    table_cell(gc->table, STYLE_PLAIN, "%s", item->reason);
}

static void note_snapshots(struct gc *gc)
{
    for (size_t i = 0; i < gc->count; i++) {
        const struct keep_entry *entry = &gc->entries[i];
        const char *verdict = entry->keep ? "kept" : "expired";

        json_array_append_new(gc->decisions,
                              json_pack("{s:s+,s:s,s:s}", "what", MANIFEST_PREFIX, entry->id,
                                        "verdict", verdict, "reason", entry->reason));
        table_row(gc->table);
        table_cell(gc->table, STYLE_PLAIN, MANIFEST_PREFIX "%s", entry->id);
        table_cell(gc->table, STYLE_PLAIN, "%s", "");
        table_cell(gc->table, STYLE_PLAIN, "%s", "");
        table_cell(gc->table, entry->keep ? STYLE_PLAIN : STYLE_WARN, "%s", verdict);
        table_cell(gc->table, STYLE_PLAIN, "%s", entry->reason);
    }
}

static json_t *result_json(const struct gc *gc, uint64_t expired)
{
    const struct collect_result *result = &gc->result;

    return json_pack("{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "dry_run",
                     gc->collect.dry_run, "expired", (json_int_t)expired, "snapshots",
                     (json_int_t)result->snapshots, "deleted_objects",
                     (json_int_t)result->objects[COLLECT_DELETED], "deleted_bytes",
                     (json_int_t)result->bytes[COLLECT_DELETED], "waiting_objects",
                     (json_int_t)result->objects[COLLECT_WAITS], "waiting_bytes",
                     (json_int_t)result->bytes[COLLECT_WAITS], "kept_objects",
                     (json_int_t)result->objects[COLLECT_KEPT], "kept_bytes",
                     (json_int_t)result->bytes[COLLECT_KEPT], "live_jobs",
                     (json_int_t)result->live_jobs, "dead_jobs", (json_int_t)result->dead_jobs);
}

static void say_collected(const struct gc *gc)
{
    char size[32], name[100];
    uint64_t expired = 0;
    json_t *json;

    for (size_t i = 0; i < gc->count; i++)
        expired += !gc->entries[i].keep;
    json = result_json(gc, expired);
    report_result(gc->ctl->report, json);
    if (gc->ctl->json) {
        json_object_set(json, "decisions", gc->decisions);
        print_json(json);
        json_decref(json);
        return;
    }
    json_decref(json);
    if (gc->collect.dry_run)
        table_print(gc->table, stdout, gc->ctl->color_out);
    snprintf(name, sizeof(name), "%s", gc->collect.dry_run ? "would be " : "");
    printf("%" PRIu64 " snapshots %sexpired, %" PRIu64 " left\n", expired, name,
           gc->result.snapshots - (gc->collect.dry_run ? expired : 0));
    printf("%" PRIu64 " objects %sdeleted (%s)", gc->result.objects[COLLECT_DELETED], name,
           size_text(gc->result.bytes[COLLECT_DELETED], size));
    printf(", %" PRIu64 " wait for their grace to end (%s)", gc->result.objects[COLLECT_WAITS],
           size_text(gc->result.bytes[COLLECT_WAITS], size));
    printf("; %" PRIu64 " dead jobs, %" PRIu64 " running\n", gc->result.dead_jobs,
           gc->result.live_jobs);
}

enum ctl_exit snapshot_gc(struct ctl *ctl, const struct args *args, struct store *store,
                          struct err *err)
{
    static const char *const headings[] = {"WHAT", ">OBJECTS", ">SIZE", "VERDICT", "WHY", NULL};
    const struct snapshot_progress phase = {.phase = "collecting"};
    struct gc gc = {.ctl = ctl, .collect = {.tell = note_decision}};
    int rc = 0;

    if (take_options(args, &gc, err) < 0)
        return CTL_USAGE;
    gc.collect.tell_arg = &gc;
    gc.table = table_new(headings);
    gc.decisions = json_array();
    report_progress(ctl->report, &phase);
    if (gc.expires) {
        rc = expire_plan(store, &gc.rule, &gc.entries, &gc.count, err);
        if (rc == 0 && !gc.collect.dry_run)
            rc = expire_run(store, gc.entries, gc.count, err);
        note_snapshots(&gc);
    }
    if (rc == 0)
        rc = collect_run(store, &gc.collect, &gc.result, err);
    if (rc == 0)
        say_collected(&gc);
    table_free(gc.table);
    json_decref(gc.decisions);
    free(gc.entries);
    return rc == 0 ? CTL_OK : snapshot_exit_of(err);
}
