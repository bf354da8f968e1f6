#include "cli/snapshot_orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/options.h"
#include "cli/table.h"
#include "cli/view.h"
#include "snapshots/names.h"
#include "snapshots/schedule.h"

enum {
    LOOK_MS = 200,
    SILENT_MS = 30000, /* orchestrators may be away so long while a task is followed */
    READ_MS = 200000,  /* an agent may read a large store */
    BAR_WIDTH = 24,
    LEVEL_MAX = 19,
    QUIET_STEP_PERCENT = 25,
};

/* --- the task ------------------------------------------------------------------------------- */

static enum ctl_exit exit_of_code(const char *code)
{
    static const struct {
        const char *code;
        enum ctl_exit exit;
    } exits[] = {{"corrupt", CTL_DAMAGED},
                 {"auth", CTL_STORE},
                 {"unavailable", CTL_STORE},
                 {"timeout", CTL_STORE},
                 {"no_space", CTL_NO_SPACE}};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(exits); i++) {
        if (strcmp(exits[i].code, code) == 0)
            return exits[i].exit;
    }
    return CTL_REFUSED;
}

static int percent_of(const json_t *task)
{
    int64_t done = view_number(task, "done_bytes", 0), total = view_number(task, "total_bytes", 0);

    if (total <= 0 || done <= 0)
        return -1;
    return done >= total ? 100 : (int)(done * 100 / total);
}

static void task_text(const json_t *task, char *out, size_t size)
{
    const char *phase = view_text(task, "phase");
    int64_t left = view_number(task, "seconds_left", -1);
    char cells[BAR_WIDTH + 1], done[32], total[32], speed[32], rest[48] = "";
    int percent = percent_of(task);

    if (phase[0] == '\0')
        phase = "begins";
    if (percent < 0) {
        snprintf(out, size, "%.60s on %s", phase, view_text(task, "node"));
        return;
    }
    memset(cells, '.', BAR_WIDTH);
    memset(cells, '#', (size_t)(percent * BAR_WIDTH / 100));
    cells[BAR_WIDTH] = '\0';
    if (left >= 0 && percent < 100)
        snprintf(rest, sizeof(rest), ", %" PRId64 " s left", left);
    snprintf(out, size, "%.60s [%s] %3d %%  %s of %s, %s/s%s", phase, cells, percent,
             size_text((uint64_t)view_number(task, "done_bytes", 0), done),
             size_text((uint64_t)view_number(task, "total_bytes", 0), total),
             size_text((uint64_t)view_number(task, "bytes_per_second", 0), speed), rest);
}

struct follow {
    struct progress progress;
    char phase[64];
    int percent; /* last told where there is no terminal */
};

static void follow_show(struct follow *follow, const json_t *task)
{
    int percent = percent_of(task);
    bool same = strcmp(follow->phase, view_text(task, "phase")) == 0;
    char text[200];

    if (!follow->progress.terminal && same &&
        percent / QUIET_STEP_PERCENT == follow->percent / QUIET_STEP_PERCENT)
        return;
    snprintf(follow->phase, sizeof(follow->phase), "%s", view_text(task, "phase"));
    follow->percent = percent;
    task_text(task, text, sizeof(text));
    progress_show(&follow->progress, text);
}

static void say_done(const json_t *task)
{
    const json_t *snapshot = json_object_get(task, "snapshot");
    double seconds = (double)(view_number(task, "ended_ms", 0) - view_number(task, "begun_ms", 0)) /
                     1000;
    uint64_t logical = (uint64_t)view_number(snapshot, "logical_bytes", 0);
    uint64_t stored = (uint64_t)view_number(snapshot, "stored_bytes", 0);
    const char *kind = view_text(task, "kind"), *node = view_text(task, "node");
    char size[32], new[32];

    if (strcmp(kind, "create") == 0)
        printf("snapshot %s: taken on %s in %.1f s, %s, %s (%.1f %%) new in the store\n",
               view_text(snapshot, "id"), node, seconds, size_text(logical, size),
               size_text(stored, new), logical > 0 ? 100.0 * (double)stored / (double)logical : 0);
    else if (strcmp(kind, "gc") == 0)
        printf("gc: done on %s in %.1f s\n", node, seconds);
    else
        printf("%s: %s passed on %s in %.1f s\n", kind, view_text(snapshot, "id"), node, seconds);
}

static enum ctl_exit ended(const struct ctl *ctl, const json_t *task, struct err *err)
{
    const json_t *error = json_object_get(task, "error");

    if (ctl->json)
        print_json(task);
    if (strcmp(view_text(task, "state"), "done") == 0) {
        if (!ctl->json)
            say_done(task);
        return CTL_OK;
    }
    err_set(err, ERR_REFUSED, "the %s failed on %s: %s", view_text(task, "kind"),
            view_text(task, "node"), view_text(error, "text"));
    return exit_of_code(view_text(error, "code"));
}

/* The same task, or its second try on another node. */
static bool is_same(const json_t *task, const char *id, const char *kind)
{
    return strcmp(view_text(task, "id"), id) == 0 ||
           (view_flag(task, "second_try") && strcmp(view_text(task, "kind"), kind) == 0);
}

/* Whether it will be tried once more shows soon after it failed. */
static bool is_over(const json_t *task, int *failed_looks)
{
    const char *state = view_text(task, "state");

    if (strcmp(state, "failed") == 0)
        return view_flag(task, "second_try") || ++*failed_looks > 10;
    return strcmp(state, "done") == 0;
}

/* Until it has ended, LIMIT_MS at most (0: however long it takes). */
static enum ctl_exit follow(struct ctl *ctl, const json_t *begun, int64_t limit_ms, struct err *err)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    const char *id = view_text(begun, "id"), *kind = view_text(begun, "kind");
    char *path = client_cluster_path(ctl, "/snapshots/task");
    int64_t began_ms = clock_mono_ms(), heard_ms = began_ms;
    struct follow follow = {.percent = -1};
    enum ctl_exit rc = CTL_UNDECIDED;
    int failed_looks = 0;

    progress_begin(&follow.progress, ctl);
    while (true) {
        json_t *answer = NULL, *task;
        int64_t now_ms = clock_mono_ms();

        err_clear(err);
        rc = client_get(ctl, path, &answer, err);
        task = json_object_get(answer, "task");
        if (rc == CTL_OK)
            heard_ms = now_ms;
        if (rc == CTL_OK && is_same(task, id, kind)) {
            follow_show(&follow, task);
            if (is_over(task, &failed_looks)) {
                progress_end(&follow.progress);
                rc = ended(ctl, task, err);
                json_decref(answer);
                break;
            }
        }
        json_decref(answer);
        if (now_ms - heard_ms > SILENT_MS)
            break;
        if (limit_ms > 0 && now_ms - began_ms > limit_ms) {
            err_set(err, ERR_TIMEOUT, "not done after %.1f s; it goes on: see ogelctl status",
                    (double)limit_ms / 1000);
            rc = CTL_UNDECIDED;
            break;
        }
        nanosleep(&pause, NULL);
    }
    progress_end(&follow.progress);
    free(path);
    return rc;
}

/* --- ordering one --------------------------------------------------------------------------- */

static int take_options(const struct args *args, json_t *body, struct err *err)
{
    static const char *const texts[] = {"parent", "max-rate"}, *const names[] = {"parent",
                                                                                 "max_rate"};
    const char *level = args_value(args, "level");
    int64_t number;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(texts); i++) {
        if (args_value(args, texts[i]) != NULL)
            json_object_set_new(body, names[i], json_string(args_value(args, texts[i])));
    }
    if (level == NULL)
        return 0;
    if (units_parse_int(level, 1, LEVEL_MAX, &number, err) < 0)
        return err_context(err, "option \"--level\"");
    json_object_set_new(body, "level", json_integer(number));
    return 0;
}

static enum ctl_exit order(struct ctl *ctl, const struct args *args, const char *kind,
                           const char *snapshot, struct err *err)
{
    json_t *body = json_object(), *answer = NULL;
    const char *wait = args_value(args, "wait");
    int64_t limit_ms = ctl->timeout_given ? ctl->timeout_ms : 0;
    char *suffix = NULL, *path;
    enum ctl_exit rc = CTL_USAGE;

    if (wait != NULL && units_parse_duration(wait, &limit_ms, err) < 0) {
        err_context(err, "option \"--wait\"");
        goto out;
    }
    if (args_value(args, "node") != NULL)
        json_object_set_new(body, "node", json_string(args_value(args, "node")));
    if (strcmp(kind, "create") == 0) {
        suffix = xstrdup("/snapshots");
        if (take_options(args, body, err) < 0)
            goto out;
    } else if (snapshot == NULL) {
        suffix = xasprintf("/snapshots/%s", kind);
    } else {
        suffix = xasprintf("/snapshots/%s/%s", snapshot, kind);
    }
    path = client_cluster_path(ctl, suffix);
    rc = client_post(ctl, path, body, &answer, err);
    free(path);
    if (rc == CTL_OK && !args_given(args, "no-wait")) {
        rc = follow(ctl, json_object_get(answer, "task"), limit_ms, err);
    } else if (rc == CTL_OK && ctl->json) {
        print_json(json_object_get(answer, "task"));
    } else if (rc == CTL_OK) {
        printf("a %s begins on %s: ogelctl status shows how it goes\n", kind,
               view_text(json_object_get(answer, "task"), "node"));
    } else if (rc == CTL_REFUSED) {
        err_context(err, "refused");
    }
    json_decref(answer);
out:
    free(suffix);
    json_decref(body);
    return rc;
}

/* --- looking -------------------------------------------------------------------------------- */

static const char *short_time(int64_t ms, char buf[CLOCK_ISO8601_SIZE])
{
    buf[0] = '\0';
    if (ms > 0) {
        clock_format_iso8601(ms, buf);
        snprintf(buf + 19, CLOCK_ISO8601_SIZE - 19, "Z");
    }
    return buf;
}

static void list_row(struct table *table, const json_t *entry)
{
    uint64_t logical = (uint64_t)view_number(entry, "logical_bytes", 0);
    uint64_t stored = (uint64_t)view_number(entry, "stored_bytes", 0);
    bool damaged = json_object_get(entry, "damage") != NULL;
    char time[CLOCK_ISO8601_SIZE], size[32];

    table_row(table);
    table_cell(table, STYLE_BOLD, "%s", view_text(entry, "id"));
    table_cell(table, STYLE_PLAIN, "%s", view_text(entry, "cluster"));
    table_cell(table, STYLE_PLAIN, "%s", short_time(view_number(entry, "stopped_ms", 0), time));
    table_cell(table, STYLE_PLAIN, "%s", damaged ? "" : size_text(logical, size));
    table_cell(table, STYLE_PLAIN, "%s", damaged ? "" : size_text(stored, size));
    table_cell(table, STYLE_PLAIN, "%s", view_text(entry, "stop_lsn"));
    table_cell(table, STYLE_GOOD, "%s", short_time(view_number(entry, "verified_ms", 0), time));
    table_cell(table, STYLE_GOOD, "%s", short_time(view_number(entry, "drilled_ms", 0), time));
    table_cell(table, STYLE_PLAIN, "%s", view_flag(entry, "pinned") ? "pinned" : "");
    table_cell(table, STYLE_PLAIN, "%s", view_text(entry, "parent"));
    table_cell(table, STYLE_BAD, "%s", view_text(entry, "damage"));
}

/* Damaged ones are listed, and make the exit code. */
static enum ctl_exit list(struct ctl *ctl, const struct args *args, struct err *err)
{
    static const char *const headings[] = {"SNAPSHOT", "CLUSTER", "TAKEN",    ">SIZE",
                                           ">NEW",     "STOP",    "VERIFIED", "DRILLED",
                                           "PIN",      "PARENT",  "DAMAGE",   NULL};
    char *path = client_cluster_path(ctl, args_given(args, "refresh") ? "/snapshots?refresh=1"
                                                                      : "/snapshots");
    json_t *answer = NULL, *entry;
    enum ctl_exit rc = client_get_waiting(ctl, path, READ_MS, &answer, err);
    const json_t *entries = json_object_get(answer, "snapshots");
    struct table *table = table_new(headings);
    size_t i;

    json_array_foreach(entries, i, entry)
    {
        list_row(table, entry);
        if (json_object_get(entry, "damage") != NULL)
            rc = CTL_DAMAGED;
    }
    if (answer != NULL && ctl->json)
        print_json(entries);
    else if (answer != NULL && json_array_size(entries) == 0)
        printf("there are no snapshots in %s\n", view_text(answer, "store"));
    else if (answer != NULL)
        table_print(table, stdout, ctl->color_out);
    table_free(table);
    json_decref(answer);
    free(path);
    return rc;
}

static void print_entry(const json_t *entry)
{
    char time[CLOCK_ISO8601_SIZE], size[32];

    printf("snapshot          %s\n", view_text(entry, "id"));
    if (json_object_get(entry, "damage") != NULL) {
        printf("damage            %s\n", view_text(entry, "damage"));
        return;
    }
    printf("parent            %s\n",
           view_text(entry, "parent")[0] != '\0' ? view_text(entry, "parent") : "none");
    printf("cluster           %s\n", view_text(entry, "cluster"));
    printf("system            %s\n", view_text(entry, "system_id"));
    printf("timeline          %" PRId64 "\n", view_number(entry, "timeline", 0));
    printf("WAL               from %s to %s\n", view_text(entry, "start_lsn"),
           view_text(entry, "stop_lsn"));
    printf("taken             %s\n", short_time(view_number(entry, "stopped_ms", 0), time));
    printf("size              %s\n",
           size_text((uint64_t)view_number(entry, "logical_bytes", 0), size));
    printf("stored new        %s\n",
           size_text((uint64_t)view_number(entry, "stored_bytes", 0), size));
    if (view_number(entry, "verified_ms", 0) > 0)
        printf("verified          %s\n", short_time(view_number(entry, "verified_ms", 0), time));
    if (view_number(entry, "drilled_ms", 0) > 0)
        printf("drilled           %s\n", short_time(view_number(entry, "drilled_ms", 0), time));
    if (view_flag(entry, "pinned"))
        printf("pinned            %s\n",
               view_text(entry, "pin_note")[0] != '\0' ? view_text(entry, "pin_note") : "yes");
}

static enum ctl_exit show(struct ctl *ctl, const char *id, struct err *err)
{
    char *suffix = xasprintf("/snapshots/%s", id), *path = client_cluster_path(ctl, suffix);
    json_t *answer = NULL;
    enum ctl_exit rc = client_get_waiting(ctl, path, READ_MS, &answer, err);

    if (rc == CTL_OK && ctl->json)
        print_json(answer);
    else if (rc == CTL_OK)
        print_entry(answer);
    json_decref(answer);
    free(path);
    free(suffix);
    return rc;
}

/* --- the schedule --------------------------------------------------------------------------- */

static void print_schedule(const json_t *document, const json_t *cluster)
{
    static const char *const members[] = {"store", "schedule", "verify",   "drill",
                                          "node",  "level",    "max_rate", "keep"};
    const json_t *section = json_object_get(document, "snapshots");
    const json_t *status = json_object_get(cluster, "snapshots");

    if (view_text(section, "store")[0] == '\0')
        puts("snapshots are off: ogelctl config set snapshots.store=URL turns them on");
    for (size_t i = 0; i < OGEL_ARRAY_LEN(members); i++) {
        const json_t *value = json_object_get(section, members[i]);
        char *text = json_is_string(value) ? xstrdup(json_string_value(value))
                     : value != NULL       ? json_dumps(value, JSON_ENCODE_ANY)
                                           : NULL;

        if (text != NULL)
            printf("%-17s %s\n", members[i], text);
        free(text);
    }
    if (view_text(status, "next")[0] != '\0')
        printf("%-17s %s\n", "next", view_text(status, "next"));
}

static enum ctl_exit schedule_show(struct ctl *ctl, struct err *err)
{
    char *path = client_cluster_path(ctl, "/settings");
    json_t *document = NULL, *cluster = NULL, *section;
    enum ctl_exit rc = client_get(ctl, path, &document, err);

    free(path);
    if (rc == CTL_OK)
        rc = operation_cluster(ctl, &cluster, err);
    section = json_object_get(document, "snapshots");
    if (rc == CTL_OK && ctl->json) {
        section = section != NULL ? json_incref(section) : json_object();
        print_json(section);
        json_decref(section);
    } else if (rc == CTL_OK) {
        print_schedule(document, cluster);
    }
    json_decref(cluster);
    json_decref(document);
    return rc;
}

static enum ctl_exit schedule_set(struct ctl *ctl, const char *text, struct err *err)
{
    json_t *body = json_pack("{s:{s:s?}}", "snapshots", "schedule", text), *answer = NULL;
    char *path = client_cluster_path(ctl, "/settings");
    struct schedule schedule;
    enum ctl_exit rc = CTL_USAGE;

    if (text != NULL && schedule_parse(text, &schedule, err) < 0) {
        err_context(err, "snapshot schedule set");
        goto out;
    }
    rc = client_post(ctl, path, body, &answer, err);
    if (rc == CTL_OK && ctl->json) {
        print_json(answer);
    } else if (rc == CTL_OK) {
        const json_t *section = json_object_get(json_object_get(answer, "document"), "snapshots");

        if (text == NULL)
            puts("no snapshot is taken by itself any more");
        else
            printf("snapshots are taken: %s\n", text);
        if (text != NULL && view_text(section, "store")[0] == '\0')
            puts("but no store is named yet: ogelctl config set snapshots.store=URL");
    }
out:
    json_decref(answer);
    json_decref(body);
    free(path);
    return rc;
}

static enum ctl_exit schedule(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *verb = args->operand_count > 1 ? args->operands[1] : "show";

    if (strcmp(verb, "show") == 0 && args->operand_count <= 2)
        return schedule_show(ctl, err);
    if (strcmp(verb, "off") == 0 && args->operand_count == 2)
        return schedule_set(ctl, NULL, err);
    if (strcmp(verb, "set") == 0 && args->operand_count == 3)
        return schedule_set(ctl, args->operands[2], err);
    err_set(err, ERR_INVALID,
            "snapshot schedule: \"%s\" (allowed: show, set 'every 15min', set '0 3 * * *', off)",
            verb);
    return CTL_USAGE;
}

/* --- the command ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int least, most; /* operands, itself included */
} verbs[] = {{"create", 1, 1}, {"list", 1, 1}, {"show", 2, 2},    {"verify", 2, 2},
             {"drill", 1, 2},  {"gc", 1, 1},   {"schedule", 1, 3}};

static int verb_of(const struct args *args)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, args->operands[0]) == 0)
            return (int)i;
    }
    return -1;
}

bool snapshot_is_order(const struct args *args)
{
    const char *store = getenv("OGEL_STORE");

    if (strcmp(args->operands[0], "schedule") == 0)
        return true;
    return verb_of(args) >= 0 && args_value(args, "store") == NULL &&
           args_value(args, "conninfo") == NULL && (store == NULL || store[0] == '\0');
}

/* The newest whole one, for a drill that names none. */
static enum ctl_exit find_newest(struct ctl *ctl, char id[SNAPSHOT_ID_SIZE], struct err *err)
{
    json_t *cluster = NULL;
    enum ctl_exit rc = operation_cluster(ctl, &cluster, err);
    const json_t *last = json_object_get(json_object_get(cluster, "snapshots"), "last");

    if (rc == CTL_OK && !snapshot_id_valid(view_text(last, "id"))) {
        err_set(err, ERR_NOT_FOUND, "there is no snapshot of cluster %s yet", ctl->cluster);
        rc = CTL_REFUSED;
    }
    if (rc == CTL_OK)
        snprintf(id, SNAPSHOT_ID_SIZE, "%s", view_text(last, "id"));
    json_decref(cluster);
    return rc;
}

/* What only this command itself can do: silently left out, gc --dry-run would delete. */
static int refuse_direct_options(const struct args *args, struct err *err)
{
    static const char *const direct[] = {"dry-run",
                                         "keep-daily",
                                         "keep-weekly",
                                         "keep-monthly",
                                         "keep-least",
                                         "grace",
                                         "scratch",
                                         "bindir",
                                         "user",
                                         "renew",
                                         "spread-checkpoint",
                                         "jobs",
                                         "target",
                                         "note",
                                         "progress-fd",
                                         "store-credentials",
                                         "tablespace-mapping"};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(direct); i++) {
        if (args_given(args, direct[i]))
            return err_set(
                err, ERR_INVALID,
                "option \"--%s\" goes with --store, where this command does it itself; "
                "the orchestrator was meant, as neither --store nor $OGEL_STORE is given",
                direct[i]);
    }
    return 0;
}

enum ctl_exit snapshot_order(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *verb = args->operands[0],
               *given = args->operand_count > 1 ? args->operands[1] : NULL;
    bool names_one = strcmp(verb, "schedule") != 0 && given != NULL;
    char id[SNAPSHOT_ID_SIZE] = "";
    enum ctl_exit rc;
    int at = verb_of(args);

    if (options_load(ctl, args, err) < 0 || refuse_direct_options(args, err) < 0)
        return CTL_USAGE;
    if (args->operand_count < verbs[at].least || args->operand_count > verbs[at].most ||
        (names_one && !snapshot_id_valid(given)) ||
        (args_given(args, "wait") && args_given(args, "no-wait"))) {
        err_set(err, ERR_INVALID,
                "snapshot %s: %s (allowed: create, list, show ID, verify ID, drill [ID], gc, "
                "schedule [show|set TEXT|off])",
                verb, names_one ? "that is no id of a snapshot" : "which one?");
        return CTL_USAGE;
    }
    rc = client_find_cluster(ctl, err);
    if (rc != CTL_OK)
        return rc;
    if (strcmp(verb, "schedule") == 0)
        return schedule(ctl, args, err);
    if (strcmp(verb, "list") == 0)
        return list(ctl, args, err);
    if (strcmp(verb, "show") == 0)
        return show(ctl, given, err);
    if (given != NULL)
        snprintf(id, sizeof(id), "%s", given);
    else if (strcmp(verb, "drill") == 0)
        rc = find_newest(ctl, id, err);
    return rc == CTL_OK ? order(ctl, args, verb, id[0] != '\0' ? id : NULL, err) : rc;
}
