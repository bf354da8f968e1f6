/* ogelctl snapshot drill */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/operation.h"
#include "cli/report.h"
#include "cli/snapshot_verbs.h"
#include "cli/table.h"
#include "config.h"
#include "snapshots/drill.h"
#include "snapshots/fetch.h"

static int find_newest(struct store *store, char id[SNAPSHOT_ID_SIZE], struct err *err)
{
    struct catalog catalog;
    int64_t newest_ms = -1;

    id[0] = '\0';
    if (catalog_load(store, &catalog, err) < 0)
        return -1;
    for (size_t i = 0; i < catalog.count; i++) {
        const struct catalog_entry *entry = &catalog.entries[i];

        if (entry->damage.code != ERR_NONE || entry->manifest.stopped_ms < newest_ms)
            continue;
        newest_ms = entry->manifest.stopped_ms;
        memcpy(id, entry->id, SNAPSHOT_ID_SIZE);
    }
    catalog_free(&catalog);
    return id[0] != '\0'
               ? 0
               : err_set(err, ERR_NOT_FOUND, "there is no whole snapshot in %s", store_name(store));
}

static void say(const struct ctl *ctl, const char *id, json_t *result)
{
    const json_t *tables = json_object_get(result, "tables"), *table;
    const json_t *seconds = json_object_get(result, "seconds");
    size_t i;

    json_object_set_new(result, "id", json_string(id));
    report_result(ctl->report, result);
    if (ctl->json) {
        print_json(result);
        return;
    }
    printf("drilled %s: restored in %.1f s, started in %.1f s, checked in %.1f s\n", id,
           json_real_value(json_object_get(seconds, "restore")),
           json_real_value(json_object_get(seconds, "start")),
           json_real_value(json_object_get(seconds, "check")));
    json_array_foreach(tables, i, table)
    {
        char size[32];

        printf("  %s %s: %" JSON_INTEGER_FORMAT " rows, %s\n",
               json_string_value(json_object_get(table, "database")),
               json_string_value(json_object_get(table, "table")),
               json_integer_value(json_object_get(table, "rows")),
               size_text((uint64_t)json_integer_value(json_object_get(table, "bytes")), size));
    }
}

enum ctl_exit snapshot_drill(struct ctl *ctl, const struct args *args, struct store *store,
                             const char *id, snapshot_progress_fn *progress, void *progress_arg,
                             struct err *err)
{
    const char *scratch = args_value(args, "scratch"), *temporary = getenv("TMPDIR");
    const char *bindir = args_value(args, "bindir");
    struct err warning = {0};
    struct drill_options drill = {
        .scratch = scratch != NULL                            ? scratch
                   : temporary != NULL && temporary[0] == '/' ? temporary
                                                              : "/var/tmp",
        .bindir = bindir != NULL ? bindir : OGEL_PG_BINDIR,
        .user = args_value(args, "user"),
        .warning = &warning,
        .progress = progress,
        .progress_arg = progress_arg,
    };
    char newest[SNAPSHOT_ID_SIZE];
    struct manifest manifest;
    json_t *result;
    int rc;

    if (snapshot_take_number(args, "jobs", FETCH_JOBS_MAX, &drill.jobs, err) < 0 ||
        snapshot_take_renew(args, &drill.renew_ms, err) < 0)
        return CTL_USAGE;
    if (id == NULL && find_newest(store, newest, err) < 0)
        return snapshot_exit_of(err);
    rc = drill_run(store, id != NULL ? id : newest, &drill, &manifest, &result, err);
    snapshot_warn("the store takes no pin", &warning);
    if (rc < 0)
        return snapshot_exit_of(err);
    say(ctl, manifest.id, result);
    json_decref(result);
    manifest_free(&manifest);
    return CTL_OK;
}
