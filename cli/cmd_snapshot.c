#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/units.h"
#include "cli/operation.h"
#include "cli/options.h"
#include "cli/report.h"
#include "cli/snapshot_orders.h"
#include "cli/snapshot_verbs.h"
#include "cli/table.h"
#include "snapshots/backup.h"
#include "snapshots/catalog.h"
#include "snapshots/fetch.h"
#include "snapshots/job.h"
#include "snapshots/marks.h"
#include "snapshots/restore.h"

enum { BAR_WIDTH = 24, QUIET_STEP_PERCENT = 25, MAPPINGS_MAX = ARGS_MAX };

static const struct arg_row options[] = {
    {"store", 0, "URL",
     "Where snapshots are kept: /DIRECTORY, s3://HOST[:PORT]/BUCKET[/PREFIX], or the same with "
     "s3+http:// where there is no TLS; instead of $OGEL_STORE.",
     NULL, false},
    {"store-credentials", 0, "FILE",
     "File with the line ACCESS_KEY:SECRET_KEY, mode 0600, instead of $AWS_ACCESS_KEY_ID and "
     "$AWS_SECRET_ACCESS_KEY.",
     "@file", false},
    {"conninfo", 0, "CONNINFO",
     "create: how to reach the server, as for psql; the role needs REPLICATION. A password comes "
     "from a passfile. A follower spares the leader.",
     NULL, false},
    {"parent", 0, "ID",
     "create: the snapshot to build on, or none for one that shares nothing; instead of the newest "
     "of the same system.",
     NULL, false},
    {"level", 0, "NUMBER", "create: zstd's level, 1 to 19 (default 3).", NULL, false},
    {"max-rate", 0, "SIZE", "create: what the server sends in a second at most, 32kB to 1GB.", NULL,
     false},
    {"spread-checkpoint", 0, NULL,
     "create: do not hurry the server's checkpoint; begins later, disturbs less.", NULL, false},
    {"target", 0, "DIR", "restore: the new data directory; must be empty or not there.", "@file",
     false},
    {"tablespace-mapping", 0, "OLD=NEW",
     "restore: the tablespace that was at OLD comes to NEW; may be given more than once.", NULL,
     false},
    {"note", 0, "TEXT", "pin: why; list and show tell it.", NULL, false},
    {"keep-daily", 0, "NUMBER",
     "gc: expire snapshots too, and keep the newest verified one of so many days (default 7).",
     NULL, false},
    {"keep-weekly", 0, "NUMBER", "gc: the same of so many weeks (default 4).", NULL, false},
    {"keep-monthly", 0, "NUMBER", "gc: the same of so many months (default 3).", NULL, false},
    {"keep-least", 0, "NUMBER", "gc: keep so many of the last in any case (default 5).", NULL,
     false},
    {"grace", 0, "DURATION",
     "gc: how long nothing must have led to an object before it is deleted, 1s to 31d (default "
     "1h).",
     NULL, false},
    {"dry-run", 0, NULL, "gc: change nothing, and explain every decision.", NULL, false},
    {"scratch", 0, "DIR",
     "drill: where the snapshot is restored for the time being, instead of $TMPDIR or /var/tmp.",
     "@file", false},
    {"bindir", 0, "DIR", "drill: where PostgreSQL's programs are.", "@file", false},
    {"user", 0, "NAME",
     "drill: a superuser that the snapshot has, instead of postgres or who runs this.", NULL,
     false},
    {"renew", 0, "DURATION",
     "create, restore, verify, drill: how often the job says in the store that it runs, 100ms to "
     "1h "
     "(default 1min); gc takes it for dead after ten times as long without a word.",
     NULL, false},
    {"jobs", 'j', "NUMBER",
     "How many threads compress (create; default: one for each processor) or fetch (restore, "
     "verify, drill; default 4).",
     NULL, false},
    {"node", 0, "NODE",
     "Through an orchestrator: the node that does it, instead of the follower with the least lag.",
     "@node", false},
    {"wait", 0, "DURATION",
     "Through an orchestrator: how long to wait for the end at most, instead of until it is there.",
     NULL, false},
    {"no-wait", 0, NULL, "Through an orchestrator: come back as soon as it has begun.", NULL,
     false},
    {"refresh", 0, NULL, "list through an orchestrator: have the store read again.", NULL, false},
    {"progress-fd", 0, "NUMBER",
     "Tell how it goes as JSON lines on this open file descriptor instead of on the terminal, and "
     "what came of it in the last one; for programs.",
     NULL, false},
    {0},
};

/* What came of it as an exit code; a wrong command line is told apart before. */
enum ctl_exit snapshot_exit_of(const struct err *err)
{
    switch (err->code) {
    case ERR_NONE: return CTL_OK;
    case ERR_CORRUPT: return CTL_DAMAGED;
    case ERR_AUTH:
    case ERR_UNAVAILABLE:
    case ERR_TIMEOUT: return CTL_STORE;
    case ERR_NO_SPACE: return CTL_NO_SPACE;
    default: return CTL_REFUSED;
    }
}

static int open_store(const struct args *args, struct store **store, struct err *err)
{
    const struct store_options store_options = {
        .credentials_file = args_value(args, "store-credentials"),
    };
    const char *url = args_value(args, "store");

    if (url == NULL)
        url = getenv("OGEL_STORE");
    if (url == NULL || url[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "snapshot: where is the store? --store URL or $OGEL_STORE says it");
    return store_open(url, &store_options, store, err);
}

int snapshot_take_number(const struct args *args, const char *name, int max, int *value,
                         struct err *err)
{
    const char *text = args_value(args, name);
    int64_t number;

    *value = 0;
    if (text == NULL)
        return 0;
    if (units_parse_int(text, 1, max, &number, err) < 0)
        return err_context(err, "option \"--%s\"", name);
    *value = (int)number;
    return 0;
}

int snapshot_take_renew(const struct args *args, int64_t *renew_ms, struct err *err)
{
    const char *text = args_value(args, "renew");

    *renew_ms = 0;
    if (text == NULL)
        return 0;
    if (units_parse_duration(text, renew_ms, err) < 0)
        return err_context(err, "option \"--renew\"");
    if (*renew_ms < JOB_RENEW_MIN_MS || *renew_ms > JOB_RENEW_MAX_MS)
        return err_set(err, ERR_INVALID, "option \"--renew\": \"%s\" (allowed: 100ms to 1h)", text);
    return 0;
}

void snapshot_warn(const char *what, const struct err *warning)
{
    if (warning->code != ERR_NONE)
        fprintf(stderr, "ogelctl: warning: %s: %s\n", what, warning->text);
}

/* --- progress ------------------------------------------------------------------------------- */

struct bar {
    struct progress progress;
    const char *phase;
    int64_t phase_began_ms;
    int percent; /* last told where there is no terminal */
};

static void bar_text(const struct bar *bar, const struct snapshot_progress *now, int percent,
                     char *out, size_t size)
{
    double seconds = (double)(clock_mono_ms() - bar->phase_began_ms) / 1000;
    double rate = seconds > 0 ? (double)now->done_bytes / seconds : 0;
    char cells[BAR_WIDTH + 1], done[32], total[32], speed[32], left[32] = "";

    memset(cells, '.', BAR_WIDTH);
    memset(cells, '#', (size_t)(percent * BAR_WIDTH / 100));
    cells[BAR_WIDTH] = '\0';
    if (rate > 0 && percent < 100)
        snprintf(left, sizeof(left), ", %.0f s left",
                 (double)(now->total_bytes - now->done_bytes) / rate);
    snprintf(out, size, "%s [%s] %3d %%  %s of %s, %s/s%s", now->phase, cells, percent,
             size_text(now->done_bytes, done), size_text(now->total_bytes, total),
             size_text((uint64_t)rate, speed), left);
}

static void bar_show(const struct snapshot_progress *now, void *arg)
{
    struct bar *bar = arg;
    char text[200];
    int percent;

    if (report_wanted(bar->progress.ctl->report)) {
        report_progress(bar->progress.ctl->report, now);
        return;
    }
    if (bar->phase != now->phase) {
        bar->phase = now->phase;
        bar->phase_began_ms = clock_mono_ms();
        bar->percent = -1;
    }
    /* WAL comes on top of what the server estimated. */
    percent = now->done_bytes >= now->total_bytes ? 100
                                                  : (int)(now->done_bytes * 100 / now->total_bytes);
    if (now->total_bytes == 0 || now->done_bytes == 0)
        snprintf(text, sizeof(text), "%s", now->phase);
    else
        bar_text(bar, now, percent, text, sizeof(text));
    if (!bar->progress.terminal && bar->percent >= 0 &&
        percent / QUIET_STEP_PERCENT == bar->percent / QUIET_STEP_PERCENT)
        return;
    bar->percent = percent;
    progress_show(&bar->progress, text);
}

/* --- telling -------------------------------------------------------------------------------- */

static double ratio_percent(const struct manifest *manifest)
{
    return manifest->logical_bytes == 0
               ? 0
               : 100.0 * (double)manifest->stored_bytes / (double)manifest->logical_bytes;
}

/* "2026-11-27T10:00:00Z", or nothing. */
static const char *mark_time(int64_t ms, char out[CLOCK_ISO8601_SIZE])
{
    if (ms == 0)
        return "";
    clock_format_iso8601(ms, out);
    memcpy(out + strlen("2026-11-27T10:00:00"), "Z", 2);
    return out;
}

static void tell_marks(const struct marks_entry *marks)
{
    char time[CLOCK_ISO8601_SIZE];

    printf("verified          %s\n",
           marks->verified_ms != 0 ? mark_time(marks->verified_ms, time) : "never");
    printf("drilled           %s\n",
           marks->drilled_ms != 0 ? mark_time(marks->drilled_ms, time) : "never");
    if (marks->pinned)
        printf("pinned            %s\n", marks->note[0] != '\0' ? marks->note : "yes");
    if (marks->job[0] != '\0')
        printf("pinned            by job %s\n", marks->job);
}

static json_t *ms_json(int64_t ms)
{
    return ms != 0 ? json_integer(ms) : json_null();
}

/* Onto what the manifest says. */
static void add_marks(json_t *json, const struct marks_entry *marks)
{
    json_object_set_new(json, "verified_ms", ms_json(marks->verified_ms));
    json_object_set_new(json, "drilled_ms", ms_json(marks->drilled_ms));
    json_object_set_new(json, "pinned", json_boolean(marks->pinned));
    json_object_set_new(json, "pin_note", json_text(marks->note));
    json_object_set_new(json, "pin_job", json_string(marks->job));
}

static void tell_manifest(const struct manifest *manifest)
{
    char time[CLOCK_ISO8601_SIZE], lsn[UNITS_TEXT_SIZE], size[32];
    double seconds = (double)(manifest->stopped_ms - manifest->started_ms) / 1000;

    printf("snapshot          %s\n", manifest->id);
    printf("parent            %s\n", manifest->parent[0] != '\0' ? manifest->parent : "none");
    printf("cluster           %s\n", manifest->cluster);
    printf("system            %" PRIu64 "\n", manifest->system_id);
    printf("PostgreSQL        %" PRIu32 ".%" PRIu32 "\n", manifest->postgres_version / 10000,
           manifest->postgres_version % 10000);
    printf("timeline          %" PRIu32 "\n", manifest->timeline);
    printf("WAL               from %s", units_format_lsn(manifest->start_lsn, lsn));
    printf(" to %s\n", units_format_lsn(manifest->stop_lsn, lsn));
    printf("taken             %s, in %.1f s, by ogel %s\n",
           clock_format_iso8601(manifest->stopped_ms, time), seconds, manifest->tool);
    printf("size              %s in %" PRIu64 " files\n", size_text(manifest->logical_bytes, size),
           manifest->files);
    printf("stored new        %s (%.1f %%) in %" PRIu64 " packs\n",
           size_text(manifest->stored_bytes, size), ratio_percent(manifest), manifest->packs);
    printf("slices            %" PRIu64 ": %" PRIu64 " stored, %" PRIu64 " of the parent, %" PRIu64
           " of zeroes\n",
           manifest->slices, manifest->slices - manifest->zero_slices - manifest->reused_slices,
           manifest->reused_slices, manifest->zero_slices);
    for (uint32_t i = 0; i < manifest->tablespace_count; i++)
        printf("tablespace        %" PRIu32 " at %s\n", manifest->tablespaces[i].oid,
               manifest->tablespaces[i].location);
}

static void tell(const struct ctl *ctl, const struct manifest *manifest)
{
    json_t *json;

    report_snapshot(ctl->report, manifest);
    if (!ctl->json) {
        tell_manifest(manifest);
        return;
    }
    json = manifest_json(manifest);
    print_json(json);
    json_decref(json);
}

static void say_done(const struct ctl *ctl, const struct bar *bar, const char *what,
                     const struct manifest *manifest)
{
    double seconds = progress_seconds(&bar->progress);
    char size[32], rate[32];

    if (ctl->json) {
        tell(ctl, manifest);
        return;
    }
    report_snapshot(ctl->report, manifest);
    printf(
        "%s: %s in %.1f s (%s/s)\n", what, size_text(manifest->logical_bytes, size), seconds,
        size_text(seconds > 0 ? (uint64_t)((double)manifest->logical_bytes / seconds) : 0, rate));
}

/* --- the verbs ------------------------------------------------------------------------------ */

static enum ctl_exit create(struct ctl *ctl, const struct args *args, struct store *store,
                            struct err *err)
{
    const char *rate = args_value(args, "max-rate");
    struct backup_options backup = {
        .conninfo = args_value(args, "conninfo"),
        .parent = args_value(args, "parent"),
        .spread_checkpoint = args_given(args, "spread-checkpoint"),
        .progress = bar_show,
    };
    struct bar bar = {.percent = -1};
    struct manifest manifest;
    struct err warning = {0};
    int64_t bytes;
    int rc;

    if (backup.conninfo == NULL) {
        err_set(err, ERR_INVALID, "snapshot create: which server? --conninfo says it");
        return CTL_USAGE;
    }
    if (snapshot_take_number(args, "jobs", BACKUP_JOBS_MAX, &backup.jobs, err) < 0 ||
        snapshot_take_number(args, "level", BACKUP_LEVEL_MAX, &backup.level, err) < 0 ||
        snapshot_take_renew(args, &backup.renew_ms, err) < 0)
        return CTL_USAGE;
    if (rate != NULL) {
        if (units_parse_size(rate, &bytes, err) < 0) {
            err_context(err, "option \"--max-rate\"");
            return CTL_USAGE;
        }
        backup.max_rate_kb = bytes / 1024;
        if (backup.max_rate_kb < 32 || backup.max_rate_kb > 1024 * 1024) {
            err_set(err, ERR_INVALID, "option \"--max-rate\": \"%s\" (allowed: 32kB to 1GB)", rate);
            return CTL_USAGE;
        }
    }
    progress_begin(&bar.progress, ctl);
    backup.progress_arg = &bar;
    rc = backup_run(store, &backup, &manifest, &warning, err);
    progress_end(&bar.progress);
    snapshot_warn("the parent is damaged, what it lacks was stored anew", &warning);
    if (rc < 0)
        return snapshot_exit_of(err);
    tell(ctl, &manifest);
    manifest_free(&manifest);
    return CTL_OK;
}

static void list_row(struct table *table, const struct catalog_entry *entry,
                     const struct marks_entry *marks)
{
    const struct manifest *manifest = &entry->manifest;
    char time[CLOCK_ISO8601_SIZE], lsn[UNITS_TEXT_SIZE], size[32], stored[32];

    table_row(table);
    table_cell(table, STYLE_BOLD, "%s", entry->id);
    if (entry->damage.code != ERR_NONE) {
        for (int i = 0; i < 10; i++)
            table_cell(table, STYLE_PLAIN, "%s", "");
        table_cell(table, STYLE_BAD, "%s", entry->damage.text);
        return;
    }
    table_cell(table, STYLE_PLAIN, "%s", manifest->cluster);
    table_cell(table, STYLE_PLAIN, "%.19sZ", clock_format_iso8601(manifest->stopped_ms, time));
    table_cell(table, STYLE_PLAIN, "%s", size_text(manifest->logical_bytes, size));
    table_cell(table, STYLE_PLAIN, "%s", size_text(manifest->stored_bytes, stored));
    table_cell(table, STYLE_PLAIN, "%.1f %%", ratio_percent(manifest));
    table_cell(table, STYLE_PLAIN, "%" PRIu32 ":%s", manifest->timeline,
               units_format_lsn(manifest->stop_lsn, lsn));
    table_cell(table, STYLE_PLAIN, "%s", mark_time(marks->verified_ms, time));
    table_cell(table, STYLE_PLAIN, "%s", mark_time(marks->drilled_ms, time));
    table_cell(table, STYLE_PLAIN, "%s",
               marks->note[0] != '\0'  ? marks->note
               : marks->pinned         ? "yes"
               : marks->job[0] != '\0' ? "by a job"
                                       : "");
    table_cell(table, STYLE_PLAIN, "%s", manifest->parent);
}

static void list_json(const struct catalog *catalog, const struct marks *marks)
{
    json_t *list = json_array();

    for (size_t i = 0; i < catalog->count; i++) {
        const struct catalog_entry *entry = &catalog->entries[i];
        json_t *json = entry->damage.code == ERR_NONE
                           ? manifest_json(&entry->manifest)
                           : json_pack("{s:s,s:o}", "id", entry->id, "damage",
                                       json_text(entry->damage.text));

        add_marks(json, marks_find(marks, entry->id));
        json_array_append_new(list, json);
    }
    print_json(list);
    json_decref(list);
}

/* Damaged ones are listed, and make the exit code. */
static enum ctl_exit list(const struct ctl *ctl, struct store *store, struct err *err)
{
    static const char *const headings[] = {"SNAPSHOT", "CLUSTER", "TAKEN",    ">SIZE",   ">NEW",
                                           ">OF SIZE", "STOP",    "VERIFIED", "DRILLED", "PINNED",
                                           "PARENT",   "DAMAGE",  NULL};
    enum ctl_exit rc = CTL_OK;
    struct catalog catalog;
    struct marks marks;
    struct table *table;

    if (catalog_load(store, &catalog, err) < 0)
        return snapshot_exit_of(err);
    if (marks_load(store, &marks, err) < 0) {
        catalog_free(&catalog);
        return snapshot_exit_of(err);
    }
    table = table_new(headings);
    for (size_t i = 0; i < catalog.count; i++) {
        list_row(table, &catalog.entries[i], marks_find(&marks, catalog.entries[i].id));
        if (catalog.entries[i].damage.code != ERR_NONE)
            rc = CTL_DAMAGED;
    }
    if (ctl->json)
        list_json(&catalog, &marks);
    else if (catalog.count == 0)
        printf("there are no snapshots in %s\n", store_name(store));
    else
        table_print(table, stdout, ctl->color_out);
    table_free(table);
    marks_free(&marks);
    catalog_free(&catalog);
    return rc;
}

static enum ctl_exit show(const struct ctl *ctl, struct store *store, const char *id,
                          struct err *err)
{
    struct manifest manifest;
    struct marks marks;
    json_t *json;

    if (manifest_load(store, id, &manifest, err) < 0)
        return snapshot_exit_of(err);
    if (marks_load(store, &marks, err) < 0) {
        manifest_free(&manifest);
        return snapshot_exit_of(err);
    }
    if (ctl->json) {
        json = manifest_json(&manifest);
        add_marks(json, marks_find(&marks, id));
        print_json(json);
        json_decref(json);
    } else {
        tell_manifest(&manifest);
        tell_marks(marks_find(&marks, id));
    }
    report_snapshot(ctl->report, &manifest);
    marks_free(&marks);
    manifest_free(&manifest);
    return CTL_OK;
}

static enum ctl_exit drill(struct ctl *ctl, const struct args *args, struct store *store,
                           const char *id, struct err *err)
{
    struct bar bar = {.percent = -1};
    enum ctl_exit rc;

    progress_begin(&bar.progress, ctl);
    rc = snapshot_drill(ctl, args, store, id, bar_show, &bar, err);
    progress_end(&bar.progress);
    return rc;
}

static enum ctl_exit verify(struct ctl *ctl, const struct args *args, struct store *store,
                            const char *id, struct err *err)
{
    struct bar bar = {.percent = -1};
    struct err warning = {0};
    struct restore_options reading = {
        .progress = bar_show, .progress_arg = &bar, .warning = &warning};
    struct manifest manifest;
    int rc;

    if (snapshot_take_number(args, "jobs", FETCH_JOBS_MAX, &reading.jobs, err) < 0 ||
        snapshot_take_renew(args, &reading.renew_ms, err) < 0)
        return CTL_USAGE;
    progress_begin(&bar.progress, ctl);
    rc = restore_verify(store, id, &reading, &manifest, err);
    progress_end(&bar.progress);
    snapshot_warn("the store takes no pin", &warning);
    if (rc < 0) {
        /* It is no longer what retention may rely on. */
        if (err->code == ERR_CORRUPT && marks_remove(store, id, &warning) < 0)
            snapshot_warn("its mark could not be taken away", &warning);
        return snapshot_exit_of(err);
    }
    rc = marks_put(store, VERIFIED_PREFIX, id, progress_seconds(&bar.progress), err);
    if (rc == 0)
        say_done(ctl, &bar, "verified", &manifest);
    manifest_free(&manifest);
    return rc < 0 ? snapshot_exit_of(err) : CTL_OK;
}

/* "OLD=NEW" of each --tablespace-mapping; the texts are the caller's. */
static int take_mappings(const struct args *args, struct restore_mapping *mappings, size_t *count,
                         struct err *err)
{
    const char *text;
    int at = 0;

    *count = 0;
    while ((text = args_next(args, "tablespace-mapping", &at)) != NULL) {
        const char *equals = strchr(text, '=');

        if (equals == NULL || equals == text || equals[1] == '\0')
            return err_set(err, ERR_INVALID,
                           "option \"--tablespace-mapping\": \"%s\" (allowed: OLD=NEW)", text);
        mappings[*count].from = xstrndup(text, (size_t)(equals - text));
        mappings[(*count)++].to = equals + 1;
    }
    return 0;
}

static enum ctl_exit restore(struct ctl *ctl, const struct args *args, struct store *store,
                             const char *id, struct err *err)
{
    struct restore_mapping mappings[MAPPINGS_MAX] = {0};
    struct err warning = {0};
    struct restore_options restore = {
        .target = args_value(args, "target"),
        .mappings = mappings,
        .progress = bar_show,
        .warning = &warning,
    };
    struct bar bar = {.percent = -1};
    struct manifest manifest;
    enum ctl_exit rc = CTL_USAGE;

    if (restore.target == NULL) {
        err_set(err, ERR_INVALID, "snapshot restore: where to? --target says it");
        return CTL_USAGE;
    }
    if (snapshot_take_number(args, "jobs", FETCH_JOBS_MAX, &restore.jobs, err) < 0 ||
        snapshot_take_renew(args, &restore.renew_ms, err) < 0 ||
        take_mappings(args, mappings, &restore.mapping_count, err) < 0)
        goto out;
    progress_begin(&bar.progress, ctl);
    restore.progress_arg = &bar;
    rc = restore_run(store, id, &restore, &manifest, err) == 0 ? CTL_OK : snapshot_exit_of(err);
    progress_end(&bar.progress);
    snapshot_warn("the store takes no pin", &warning);
    if (rc == CTL_OK) {
        say_done(ctl, &bar, "restored", &manifest);
        manifest_free(&manifest);
    }
out:
    for (size_t i = 0; i < restore.mapping_count; i++)
        free((char *)(uintptr_t)mappings[i].from);
    return rc;
}

/* --- the command ---------------------------------------------------------------------------- */

enum verb { CREATE, LIST, SHOW, VERIFY, RESTORE, DELETE, PIN, UNPIN, GC, DRILL, VERBS };

static enum ctl_exit call_verb(enum verb verb, struct ctl *ctl, const struct args *args,
                               struct store *store, const char *id, struct err *err)
{
    switch (verb) {
    case CREATE: return create(ctl, args, store, err);
    case LIST: return list(ctl, store, err);
    case SHOW: return show(ctl, store, id, err);
    case VERIFY: return verify(ctl, args, store, id, err);
    case RESTORE: return restore(ctl, args, store, id, err);
    case DELETE: return snapshot_delete(ctl, store, id, err);
    case PIN: return snapshot_pin(ctl, args, store, id, err);
    case UNPIN: return snapshot_unpin(ctl, store, id, err);
    case GC: return snapshot_gc(ctl, args, store, err);
    case DRILL: return drill(ctl, args, store, id, err);
    case VERBS: break;
    }
    die("there is no such verb");
}

static enum ctl_exit run_verb(struct ctl *ctl, const struct args *args, struct err *err)
{
    static const struct {
        const char *name;
        int operands_min, operands_max;
    } verbs[VERBS] = {
        [CREATE] = {"create", 1, 1}, [LIST] = {"list", 1, 1},       [SHOW] = {"show", 2, 2},
        [VERIFY] = {"verify", 2, 2}, [RESTORE] = {"restore", 2, 2}, [DELETE] = {"delete", 2, 2},
        [PIN] = {"pin", 2, 2},       [UNPIN] = {"unpin", 2, 2},     [GC] = {"gc", 1, 1},
        [DRILL] = {"drill", 1, 2},
    };
    const char *verb = args->operands[0], *id = args->operand_count > 1 ? args->operands[1] : NULL;
    struct store *store = NULL;
    enum ctl_exit rc;
    int i;

    for (i = 0; i < VERBS && strcmp(verbs[i].name, verb) != 0; i++)
        continue;
    if (i == VERBS || args->operand_count < verbs[i].operands_min ||
        args->operand_count > verbs[i].operands_max) {
        err_set(err, ERR_INVALID,
                "snapshot: \"%s\" (allowed: create, list, show ID, verify ID, restore ID, delete "
                "ID, pin ID, unpin ID, gc, drill [ID])",
                verb);
        return CTL_USAGE;
    }
    if (open_store(args, &store, err) < 0)
        return err->code == ERR_INVALID ? CTL_USAGE : snapshot_exit_of(err);
    rc = call_verb((enum verb)i, ctl, args, store, id, err);
    store_close(store);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    struct report report;
    enum ctl_exit rc;

    if (snapshot_is_order(args))
        return snapshot_order(ctl, args, err);
    if (options_load_local(ctl, args, err) < 0 || report_open(&report, args, err) < 0)
        return CTL_USAGE;
    ctl->report = &report;
    rc = run_verb(ctl, args, err);
    report_end(&report, err);
    ctl->report = NULL;
    return rc;
}

const struct ctl_command cmd_snapshot = {
    .name = "snapshot",
    .arguments = "create|list|show ID|verify ID|restore ID|delete ID|pin ID|unpin ID|gc|drill [ID]|"
                 "schedule [show|set TEXT|off]",
    .summary = "take snapshots of a server, look at them, bring them back",
    .description =
        "A snapshot is a base backup with the WAL it needs, compressed and checksummed, in a "
        "directory or an S3 bucket. Each one is complete in itself to whoever restores it, but "
        "stores only what the one before it, its parent, lacks.\n\n"
        "Where neither --store, $OGEL_STORE nor --conninfo is given, create, list, show, verify, "
        "drill and gc go through an orchestrator, which has an agent of the cluster do it: the "
        "cluster document says where the store is (ogelctl config set snapshots.store=URL) and an "
        "agent's configuration how to be let in. One task at a time runs in a cluster; one that "
        "failed is tried once more on another node. schedule shows or sets when snapshots are "
        "taken by themselves: 'every 15min', or five fields as in cron, in UTC. With a store "
        "given, "
        "the command itself does it and needs no orchestrator, and for create --conninfo says "
        "which "
        "server; restore, delete, pin and unpin are always done so.\n\n"
        "create takes one; it exists once it has been read back whole, and a failure leaves none. "
        "list and show tell what there is. verify reads all of one and checks every piece. restore "
        "writes a data directory that PostgreSQL starts from, as the user that runs it (that is "
        "postgres, as a rule): every piece is checked, and pg_control comes last, so that what is "
        "not finished does not start. A restored server starts on its own, not as a standby; keep "
        "it away from the cluster that it came from.\n\n"
        "drill proves one (the newest, unless ID names another): it is restored to a scratch "
        "directory and started there where nobody reaches it, pg_amcheck looks through all "
        "databases, the rows of the largest tables are counted, and all of it is deleted again. "
        "verify and drill leave a mark that list shows and that retention relies on.\n\n"
        "delete takes a snapshot away, unless it is pinned; pin and unpin say which must stay. gc "
        "gives the space of what nothing refers to any more back, a grace period after it was seen "
        "first, and so needs two runs; with any of the --keep options it expires snapshots before "
        "that. Both may run at any time, while snapshots are taken and restored.",
    .options = options,
    .words = "create list show verify restore delete pin unpin gc drill schedule",
    .operands_min = 1,
    .operands_max = 3,
    .local = true,
    .run = run,
};
