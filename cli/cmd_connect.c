#include "cli/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"intent", 0, "INTENT",
     "write: the leader, only while commits are acknowledged (the default); read: "
     "a replica, each in turn.",
     "write read", false},
    {"max-lag", 0, "SIZE", "Reads: no further behind than this (16MB).", NULL, false},
    {"min-lsn", 0, "LSN", "Reads: a node that has replayed this position, to read your own writes.",
     NULL, false},
    {"no-leader", 0, NULL, "Reads: fail instead of falling back to the leader.", NULL, false},
    {"wait", 0, "DURATION", "Wait so long for a fitting node instead of failing (at most 60s).",
     NULL, false},
    {"database", 'd', "NAME",
     "Database; otherwise $PGDATABASE or the one the cluster was made with.", NULL, false},
    {"user", 'U', "NAME", "User; otherwise $PGUSER or the owner of that database.", NULL, false},
    {"multi-host", 0, NULL,
     "Print a URI of all nodes, from which libpq finds the right one by itself.", NULL, false},
    {0},
};

struct target {
    char *database, *user; /* NULL: libpq's own default */
    const char *intent;
    int64_t wait_ms;
};

/* --- the question --------------------------------------------------------------------------- */

/* What was not said comes from the environment of the program, else from the cluster document;
 * where that cannot be had, from libpq. */
static void find_names(struct ctl *ctl, const struct args *args, struct target *target)
{
    const char *database = args_value(args, "database"), *user = args_value(args, "user");
    bool need_database = database == NULL && getenv("PGDATABASE") == NULL;
    bool need_user = user == NULL && getenv("PGUSER") == NULL;
    struct err ignored = {0};
    json_t *document = NULL;
    char *path;

    target->database = xstrdup(database);
    target->user = xstrdup(user);
    if (!need_database && !need_user)
        return;
    path = client_cluster_path(ctl, "/settings");
    if (client_get(ctl, path, &document, &ignored) == CTL_OK) {
        database = json_string_value(json_object_get(document, "database"));
        user = json_string_value(json_object_get(document, "owner"));
        if (need_database)
            target->database = xstrdup(database);
        if (need_user)
            target->user = xstrdup(user);
    }
    json_decref(document);
    free(path);
}

static void add_query(FILE *out, const char *name, const char *value)
{
    char *text;

    if (value == NULL)
        return;
    text = client_encode(value);
    fprintf(out, "&%s=%s", name, text);
    free(text);
}

/* Path and query of GET /connect; the caller frees. NULL with err for a wait that is no duration.
 */
static char *question(const struct ctl *ctl, const struct args *args, const struct target *target)
{
    char *path = NULL, number[24];
    size_t size;
    FILE *out = open_memstream(&path, &size);

    OGEL_CHECK(out != NULL);
    fprintf(out, "/connect?intent=%s", target->intent);
    add_query(out, "cluster", ctl->cluster);
    add_query(out, "max_lag", args_value(args, "max-lag"));
    add_query(out, "min_lsn", args_value(args, "min-lsn"));
    add_query(out, "allow_leader", args_given(args, "no-leader") ? "false" : NULL);
    snprintf(number, sizeof(number), "%lld", (long long)target->wait_ms);
    add_query(out, "wait_ms", target->wait_ms > 0 ? number : NULL);
    add_query(out, "database", target->database);
    add_query(out, "user", target->user);
    OGEL_CHECK(fclose(out) == 0);
    return path;
}

/* --- a program ------------------------------------------------------------------------------ */

static void add_host(FILE *hosts, FILE *ports, bool first, const char *host, int64_t port)
{
    fprintf(hosts, "%s%s", first ? "" : ",", host);
    fprintf(ports, "%s%lld", first ? "" : ",", (long long)port);
}

/* For writes all nodes, the leader first, so that the program's next connection finds a new leader;
 * for reads the one that was chosen. */
static void set_hosts(const json_t *answer, const json_t *cluster, bool write)
{
    char *hosts = NULL, *ports = NULL;
    size_t size, i;
    FILE *host_out = open_memstream(&hosts, &size), *port_out = open_memstream(&ports, &size);
    const json_t *node;

    OGEL_CHECK(host_out != NULL && port_out != NULL);
    add_host(host_out, port_out, true, view_text(answer, "host"), view_number(answer, "port", 0));
    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        if (write && view_number(node, "port", 0) > 0 &&
            strcmp(view_text(node, "id"), view_text(answer, "node")) != 0)
            add_host(host_out, port_out, false, view_text(node, "host"),
                     view_number(node, "port", 0));
    }
    OGEL_CHECK(fclose(host_out) == 0 && fclose(port_out) == 0);
    setenv("PGHOST", hosts, 1);
    setenv("PGPORT", ports, 1);
    setenv("PGTARGETSESSIONATTRS", write ? "read-write" : "any", 1);
    unsetenv("PGHOSTADDR");
    unsetenv("PGSERVICE"); /* it would win over all of these */
    free(hosts);
    free(ports);
}

static enum ctl_exit execute(struct ctl *ctl, const struct target *target, const json_t *answer,
                             char **argv, struct err *err)
{
    bool write = strcmp(target->intent, "write") == 0;
    struct err ignored = {0};
    json_t *cluster = NULL;

    if (write)
        (void)operation_cluster(ctl, &cluster, &ignored);
    set_hosts(answer, cluster, write);
    json_decref(cluster);
    if (target->database != NULL)
        setenv("PGDATABASE", target->database, 1);
    if (target->user != NULL)
        setenv("PGUSER", target->user, 1);
    fflush(stdout);
    execvp(argv[0], argv);
    err_set_errno(err, errno, "cannot run %.100s", argv[0]);
    return CTL_REFUSED;
}

/* --- the command ---------------------------------------------------------------------------- */

static enum ctl_exit check(const struct args *args, struct target *target, struct err *err)
{
    const char *intent = args_value(args, "intent"), *wait = args_value(args, "wait");

    target->intent = intent != NULL ? intent : "write";
    if (wait != NULL && units_parse_duration(wait, &target->wait_ms, err) < 0)
        err_context(err, "option \"--wait\"");
    else if (intent != NULL && strcmp(intent, "read") != 0 && strcmp(intent, "write") != 0)
        err_set(err, ERR_INVALID, "option \"--intent\": \"%s\" (allowed: write, read)", intent);
    else if (args->operand_count > 0)
        err_set(err, ERR_INVALID,
                "connect: what stands before \"%s\" is missing: ogelctl connect -- %s",
                args->operands[0], args->operands[0]);
    else if (args->rest != NULL && args->rest[0] == NULL)
        err_set(err, ERR_INVALID, "connect: a program must stand behind \"--\"");
    else
        return CTL_OK;
    return CTL_USAGE;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    struct target target = {0};
    json_t *answer = NULL;
    char *path = NULL;
    enum ctl_exit rc = check(args, &target, err);

    if (rc == CTL_OK)
        rc = client_find_cluster(ctl, err);
    if (rc != CTL_OK)
        return rc;
    find_names(ctl, args, &target);
    path = question(ctl, args, &target);
    rc = client_get_waiting(ctl, path, target.wait_ms, &answer, err);
    if (rc == CTL_OK && args->rest != NULL)
        rc = execute(ctl, &target, answer, args->rest, err);
    else if (rc == CTL_OK && ctl->json)
        print_json(answer);
    else if (rc == CTL_OK)
        puts(view_text(answer, args_given(args, "multi-host") ? "multi_host_uri" : "uri"));
    json_decref(answer);
    free(path);
    free(target.database);
    free(target.user);
    return rc;
}

const struct ctl_command cmd_connect = {
    .name = "connect",
    .arguments = "[OPTION]... [-- PROGRAM [ARGUMENT]...]",
    .summary = "print where to connect, or run psql and the like there",
    .description =
        "Prints a URI of the node that fits: for writes the leader, only while commits are "
        "acknowledged; "
        "for reads a healthy replica. It never holds a password.\n\n"
        "With -- PROGRAM it runs that program instead, with PGHOST, PGPORT, PGDATABASE, PGUSER and "
        "PGTARGETSESSIONATTRS set; psql, pg_dump, pgbench and everything that uses libpq "
        "understand them. "
        "For writes they name all nodes, so that psql finds the new leader when it connects again. "
        "Passwords come from ~/.pgpass or PGPASSWORD as always.",
    .options = options,
    .operands_max = ARGS_MAX,
    .run = run,
};
