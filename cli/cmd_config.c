#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/table.h"
#include "cli/view.h"

enum { HBA_FILE_MAX = 65536 };

static const char snapshots_prefix[] = "snapshots.", keep_prefix[] = "keep.";

static const struct arg_row options[] = {
    {"listen", 0, "ADDRESSES",
     "set: the addresses that Postgres listens on, as in listen_addresses.", NULL, false},
    {"hba", 0, "FILE", "set: replaces the access rules by the lines of FILE, as in pg_hba.conf.",
     "@file", false},
    {"address", 0, "NODE=HOST:PORT",
     "set: where a node's Postgres is reached; may be given more than "
     "once.",
     NULL, false},
    {0},
};

static enum ctl_exit fetch(struct ctl *ctl, json_t **document, struct err *err)
{
    enum ctl_exit rc = client_find_cluster(ctl, err);
    char *path;

    *document = NULL;
    if (rc != CTL_OK)
        return rc;
    path = client_cluster_path(ctl, "/settings");
    rc = client_get(ctl, path, document, err);
    free(path);
    return rc;
}

/* --- show ----------------------------------------------------------------------------------- */

static void print_version(const json_t *document)
{
    const json_t *version = json_object_get(document, "version");

    printf("document %" PRId64 ".%" PRId64 "%s\n", view_number(version, "generation", 0),
           view_number(version, "counter", 0),
           view_flag(document, "maintenance") ? ", MAINTENANCE MODE is on" : "");
}

/* As they are set: snapshots.keep.daily=7. */
static void print_snapshots(const char *prefix, const json_t *section)
{
    const json_t *value;
    const char *name;

    json_object_foreach((json_t *)(uintptr_t)section, name, value)
    {
        char *path = xasprintf("%s%s", prefix, name), *below = xasprintf("%s.", path);

        if (json_is_object(value))
            print_snapshots(below, value);
        else if (json_is_string(value))
            printf("  %s=%s\n", path, json_string_value(value));
        else if (json_is_integer(value))
            printf("  %s=%" JSON_INTEGER_FORMAT "\n", path, json_integer_value(value));
        free(below);
        free(path);
    }
}

static void print_rest(const json_t *document)
{
    const json_t *section = json_object_get(document, "snapshots"), *item;
    const char *id;
    size_t i;

    printf("\nlisten_addresses  %s\ndatabase          %s, owned by %s\n",
           view_text(document, "listen_addresses"), view_text(document, "database"),
           view_text(document, "owner"));
    json_object_foreach((json_t *)(uintptr_t)json_object_get(document, "nodes"), id, item)
        printf("address of %-5s  %s:%" PRId64 "\n", id, view_text(item, "host"),
               view_number(item, "port", 0));
    json_array_foreach(json_object_get(document, "fenced"), i, item)
        printf("fenced            %s\n", json_string_value(item));
    if (json_array_size(json_object_get(document, "hba")) > 0)
        puts("\naccess rules:");
    json_array_foreach(json_object_get(document, "hba"), i, item)
        printf("  %s\n", json_string_value(item));
    if (json_object_size(section) > 0)
        puts("\nsnapshots:");
    print_snapshots(snapshots_prefix, section);
}

static enum ctl_exit show(struct ctl *ctl, struct err *err)
{
    static const char *const headings[] = {"SETTING", "VALUE", NULL};
    struct table *table;
    json_t *document, *value;
    const char *name;
    enum ctl_exit rc = fetch(ctl, &document, err);

    if (rc != CTL_OK)
        return rc;
    if (ctl->json) {
        print_json(document);
    } else {
        table = table_new(headings);
        json_object_foreach(json_object_get(document, "settings"), name, value)
        {
            table_row(table);
            table_cell(table, STYLE_BOLD, "%s", name);
            table_cell(table, STYLE_PLAIN, "%s", json_string_value(value));
        }
        print_version(document);
        if (json_object_size(json_object_get(document, "settings")) == 0)
            puts("no settings of your own: ogelctl config set NAME=VALUE");
        else
            table_print(table, stdout, ctl->color_out);
        print_rest(document);
        table_free(table);
    }
    json_decref(document);
    return rc;
}

/* --- diff ----------------------------------------------------------------------------------- */

/* Older than the document: the change has not arrived there. */
static bool is_behind(const json_t *node, const json_t *version)
{
    const json_t *has = json_object_get(node, "document");
    int64_t generation = view_number(has, "generation", 0);

    return generation < view_number(version, "generation", 0) ||
           (generation == view_number(version, "generation", 0) &&
            view_number(has, "counter", 0) < view_number(version, "counter", 0));
}

/* What PostgreSQL 15 to 18 take only at a start, of the settings that users may change. A node says
 * that something waits for a restart, not what. */
static const char *const restart_settings[] = {
    "archive_mode",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "autovacuum_worker_slots",
    "commit_timestamp_buffers",
    "dynamic_shared_memory_type",
    "event_source",
    "huge_page_size",
    "huge_pages",
    "io_max_combine_limit",
    "io_max_concurrency",
    "io_method",
    "jit_provider",
    "logging_collector",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_logical_replication_workers",
    "max_notify_queue_pages",
    "max_pred_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "min_dynamic_shared_memory",
    "multixact_member_buffers",
    "multixact_offset_buffers",
    "notify_buffers",
    "old_snapshot_threshold",
    "reserved_connections",
    "serializable_buffers",
    "shared_buffers",
    "shared_memory_type",
    "shared_preload_libraries",
    "subtransaction_buffers",
    "superuser_reserved_connections",
    "track_activity_query_size",
    "track_commit_timestamp",
    "transaction_buffers",
    "wal_buffers",
    "wal_decode_buffer_size",
    "wal_level",
};

static bool needs_restart(const char *name)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(restart_settings); i++) {
        if (strcmp(restart_settings[i], name) == 0)
            return true;
    }
    return strchr(name, '.') != NULL; /* an extension's: it may be one */
}

static const char in_force[] = "in force";

static const char *difference(const json_t *node, const json_t *version, const char *name)
{
    if (!json_is_object(json_object_get(node, "document")))
        return "not known";
    if (is_behind(node, version))
        return "not there yet";
    return view_flag(node, "pending_restart") && needs_restart(name) ? "waits for a restart"
                                                                     : in_force;
}

static bool differs(const json_t *nodes, const json_t *version, const char *name)
{
    const json_t *node;
    size_t i;

    json_array_foreach(nodes, i, node)
    {
        if (difference(node, version, name) != in_force)
            return true;
    }
    return false;
}

/* {"setting": {"value": …, "nodes": {"n1": "in force", …}}} of those that differ somewhere. */
static json_t *differences(const json_t *document, const json_t *nodes)
{
    const json_t *version = json_object_get(document, "version"), *node;
    json_t *all = json_object(), *value;
    const char *name;
    size_t i;

    json_object_foreach(json_object_get(document, "settings"), name, value)
    {
        json_t *states = json_object();

        json_array_foreach(nodes, i, node) json_object_set_new(
            states, view_text(node, "id"), json_string(difference(node, version, name)));
        if (differs(nodes, version, name))
            json_object_set_new(all, name, json_pack("{s:O,s:O}", "value", value, "nodes", states));
        json_decref(states);
    }
    return all;
}

static void print_differences(const struct ctl *ctl, json_t *all, const json_t *nodes)
{
    const char *headings[3 + 3] = {"SETTING", "VALUE"};
    const json_t *node;
    struct table *table;
    const char *name;
    json_t *one;
    size_t i;

    for (i = 0; i < 3; i++)
        headings[2 + i] = view_text(json_array_get(nodes, i), "id");
    table = table_new(headings);
    json_object_foreach(all, name, one)
    {
        table_row(table);
        table_cell(table, STYLE_BOLD, "%s", name);
        table_cell(table, STYLE_PLAIN, "%s", view_text(one, "value"));
        json_array_foreach(nodes, i, node)
        {
            const char *state = view_text(json_object_get(one, "nodes"), view_text(node, "id"));

            table_cell(table, strcmp(state, in_force) == 0 ? STYLE_GOOD : STYLE_WARN, "%s", state);
        }
    }
    table_print(table, stdout, ctl->color_out);
    table_free(table);
}

static enum ctl_exit diff(struct ctl *ctl, struct err *err)
{
    json_t *document = NULL, *cluster = NULL, *all = NULL;
    const json_t *nodes, *node;
    enum ctl_exit rc = fetch(ctl, &document, err);
    bool pending = false;
    size_t i;

    if (rc == CTL_OK)
        rc = operation_cluster(ctl, &cluster, err);
    if (rc != CTL_OK)
        goto out;
    nodes = json_object_get(cluster, "nodes");
    all = differences(document, nodes);
    json_array_foreach(nodes, i, node) pending = pending || view_flag(node, "pending_restart");
    if (ctl->json)
        print_json(all);
    else if (json_object_size(all) > 0)
        print_differences(ctl, all, nodes);
    else if (!pending)
        puts("all settings of the document are in force on all three nodes");
    json_array_foreach(nodes, i, node)
    {
        if (!ctl->json && view_flag(node, "pending_restart"))
            printf("%s has settings that wait for a restart\n", view_text(node, "id"));
    }
    if (pending && !ctl->json)
        puts("ogelctl restart --rolling applies them");
out:
    json_decref(all);
    json_decref(cluster);
    json_decref(document);
    return rc;
}

/* --- set and unset -------------------------------------------------------------------------- */

/* "level" and "keep.daily" are numbers; the rest are texts. */
static json_t *snapshot_value(const char *name, const char *text)
{
    int64_t number;

    if ((strcmp(name, "level") == 0 || strncmp(name, keep_prefix, strlen(keep_prefix)) == 0) &&
        units_parse_int(text, 0, INT32_MAX, &number, NULL) == 0)
        return json_integer(number);
    return json_string(text);
}

/* A name behind "snapshots.": no setting of Postgres, but a member of that part of the document. */
static void set_snapshot(json_t *change, const char *name, json_t *value)
{
    json_t *section = json_object_get(change, "snapshots"), *keep;

    if (section == NULL) {
        section = json_object();
        json_object_set_new(change, "snapshots", section);
    }
    if (strncmp(name, keep_prefix, strlen(keep_prefix)) != 0) {
        json_object_set_new(section, name, value);
        return;
    }
    keep = json_object_get(section, "keep");
    if (keep == NULL) {
        keep = json_object();
        json_object_set_new(section, "keep", keep);
    }
    json_object_set_new(keep, name + strlen(keep_prefix), value);
}

/* "NAME=VALUE" of the operands from the second on; for unset "NAME". Postgres' names have no case.
 * Those of snapshots go straight into CHANGE. */
static json_t *read_settings(const struct args *args, bool unset, json_t *change, struct err *err)
{
    json_t *settings = json_object();

    for (int i = 1; i < args->operand_count; i++) {
        const char *text = args->operands[i];
        size_t len = strcspn(text, "=");
        char *name = xstrndup(text, len);

        for (char *at = name; *at != '\0'; at++)
            *at = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
        if (len == 0 || (text[len] == '=') == unset) {
            err_set(err, ERR_INVALID, "config: \"%.100s\" (allowed: %s)", text,
                    unset ? "the name of a setting" : "NAME=VALUE");
            free(name);
            json_decref(settings);
            return NULL;
        }
        if (strncmp(name, snapshots_prefix, strlen(snapshots_prefix)) == 0)
            set_snapshot(change, name + strlen(snapshots_prefix),
                         unset ? json_null()
                               : snapshot_value(name + strlen(snapshots_prefix), text + len + 1));
        else
            json_object_set_new(settings, name, unset ? json_null() : json_string(text + len + 1));
        free(name);
    }
    return settings;
}

/* The lines of a file, without comments and empty ones. */
static json_t *read_rules(const char *path, struct err *err)
{
    char *data, *line, *next;
    json_t *rules;

    if (file_read(path, HBA_FILE_MAX, &data, NULL, err) < 0)
        return NULL;
    rules = json_array();
    for (line = data; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line += strspn(line, " \t\r");
        line[strcspn(line, "#\r")] = '\0';
        for (size_t len = strlen(line); len > 0 && strchr(" \t", line[len - 1]) != NULL; len--)
            line[len - 1] = '\0';
        if (line[0] != '\0')
            json_array_append_new(rules, json_string(line));
    }
    free(data);
    return rules;
}

/* "n1=10.0.0.1:5432" into {"n1": {"host", "port"}}. */
static int add_address(json_t *nodes, const char *text, struct err *err)
{
    size_t len = strcspn(text, "=");
    struct units_address address;
    char *id;

    if (len == 0 || text[len] == '\0')
        return err_set(err, ERR_INVALID,
                       "option \"--address\": \"%.100s\" (allowed: NODE=HOST:PORT)", text);
    if (units_parse_address(text + len + 1, 0, &address, err) < 0)
        return err_context(err, "option \"--address\"");
    id = xstrndup(text, len);
    json_object_set_new(nodes, id,
                        json_pack("{s:s,s:i}", "host", address.host, "port", address.port));
    free(id);
    return 0;
}

/* The change as the API takes it; NULL with err. */
static json_t *read_change(const struct args *args, bool unset, struct err *err)
{
    const char *listen = args_value(args, "listen"), *hba = args_value(args, "hba"), *text;
    json_t *change = json_object(), *part = read_settings(args, unset, change, err);
    int at = 0, rc = part != NULL ? 0 : -1;

    if (rc == 0 && json_object_size(part) > 0)
        json_object_set(change, "settings", part);
    json_decref(part);
    if (rc == 0 && listen != NULL)
        json_object_set_new(change, "listen_addresses", json_string(listen));
    if (rc == 0 && hba != NULL) {
        part = read_rules(hba, err);
        rc = part != NULL ? json_object_set_new(change, "hba", part) : -1;
    }
    while (rc == 0 && (text = args_next(args, "address", &at)) != NULL) {
        if (json_object_get(change, "nodes") == NULL)
            json_object_set_new(change, "nodes", json_object());
        rc = add_address(json_object_get(change, "nodes"), text, err);
    }
    if (rc == 0 && json_object_size(change) == 0)
        rc = err_set(err, ERR_INVALID, "config %s: nothing to change (%s)", unset ? "unset" : "set",
                     unset ? "NAME…" : "NAME=VALUE…, --listen, --hba or --address");
    if (rc == 0)
        return change;
    json_decref(change);
    return NULL;
}

static enum ctl_exit change(struct ctl *ctl, const struct args *args, bool unset, struct err *err)
{
    json_t *body = read_change(args, unset, err), *answer = NULL;
    const json_t *version;
    struct progress progress;
    enum ctl_exit rc;

    if (body == NULL)
        return CTL_USAGE;
    rc = client_find_cluster(ctl, err);
    if (rc == CTL_OK) {
        progress_begin(&progress, ctl);
        rc = operation_post(ctl, &progress, "/settings", body, NULL, &answer, err);
    }
    version = json_object_get(answer, "version");
    if (rc == CTL_OK && ctl->json)
        print_json(answer);
    else if (rc == CTL_OK)
        printf("changed: document %" PRId64 ".%" PRId64
               " is kept by two nodes and goes to all; ogelctl "
               "config diff shows what waits for a restart\n",
               view_number(version, "generation", 0), view_number(version, "counter", 0));
    json_decref(answer);
    json_decref(body);
    return rc;
}

/* --- the command ---------------------------------------------------------------------------- */

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *verb = args->operands[0];

    if (strcmp(verb, "set") == 0)
        return change(ctl, args, false, err);
    if (strcmp(verb, "unset") == 0)
        return change(ctl, args, true, err);
    if (args->operand_count == 1 && strcmp(verb, "show") == 0)
        return show(ctl, err);
    if (args->operand_count == 1 && strcmp(verb, "diff") == 0)
        return diff(ctl, err);
    err_set(err, ERR_INVALID, "config: \"%s\" (allowed: show, diff, set NAME=VALUE…, unset NAME…)",
            args->operand_count > 1 && (strcmp(verb, "show") == 0 || strcmp(verb, "diff") == 0)
                ? args->operands[1]
                : verb);
    return CTL_USAGE;
}

const struct ctl_command cmd_config = {
    .name = "config",
    .arguments = "show|diff|set NAME=VALUE...|unset NAME...",
    .summary = "show and change the settings of Postgres on all nodes",
    .description = "Settings, access rules and addresses stand in one versioned document that the "
                   "agents keep. A "
                   "change is made at the leader's agent, only if nobody changed it meanwhile, and "
                   "is durable at one "
                   "more node before the command returns; then all nodes apply it. While there is "
                   "no leader it is "
                   "made at two agents, which must answer.\n\n"
                   "show prints the document. diff shows what is not in force yet: settings that "
                   "have not arrived at "
                   "a node, or that wait for a restart there (ogelctl restart --rolling). set "
                   "changes settings; ones "
                   "that would break replication or durability are refused with the reason. unset "
                   "takes settings "
                   "out, so that defaults hold again.\n\n"
                   "Names that begin with snapshots. are no settings of Postgres but say where "
                   "snapshots of the cluster go and when: snapshots.store, .schedule, .verify and "
                   ".drill ('every 1d', or five fields as in cron), .node (follower, leader or a "
                   "node's id), .max_rate, .level, .keep.daily, .keep.weekly, .keep.monthly, "
                   ".keep.least.",
    .options = options,
    .words = "show diff set unset",
    .operands_min = 1,
    .operands_max = ARGS_MAX,
    .run = run,
};
