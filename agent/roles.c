/* The roles that the agent keeps, on the leader, from where they reach all nodes:
 *   postgres            superuser; agents use it over the socket
 *   ogel_<node>_i<k>    replication, one per incarnation known of another node; older ones are
 * dropped ogel_replication    group of those ogel_rewind         what pg_rewind needs of its
 * source, nothing else ogel_monitor        probes of peers, orchestrators and exporters: pg_monitor
 *   <owner>             owner of the application's database; both named in the cluster document
 * Source: docs/operations/, "Roles". */
#include "agent/steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "agent/scram.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "protocol/names.h"

enum { ROLES_MAX = 16, DATABASE_DEADLINE_MS = 60000, CHECKED_MAX = 16 };

/* Verifiers that were compared already: each comparison costs thousands of hashes. */
struct roles_cache {
    struct {
        char *verifier;
        char *password;
    } checked[CHECKED_MAX];
    size_t next;
};

struct login {
    char name[REPLICATION_NAME_SIZE];
    const char *attributes;
    const char *password; /* NULL: none */
    bool machine;         /* only programs log in with it */
    const char *grants;   /* statements after its creation; NULL: none */
};

static const char rewind_grants[] =
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO ogel_rewind;"
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO ogel_rewind;"
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO ogel_rewind;"
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)"
    " TO ogel_rewind";

static bool verified(struct step_run *run, const char *verifier, const char *password)
{
    struct roles_cache *cache = run->hands->roles;

    if (!verifier)
        return false;
    if (!cache)
        cache = run->hands->roles = xcalloc(1, sizeof *cache);
    for (size_t i = 0; i < CHECKED_MAX; i++)
        if (cache->checked[i].verifier && strcmp(cache->checked[i].verifier, verifier) == 0 &&
            strcmp(cache->checked[i].password, password) == 0)
            return true;
    if (!scram_matches(verifier, password))
        return false;
    free(cache->checked[cache->next].verifier);
    free(cache->checked[cache->next].password);
    cache->checked[cache->next].verifier = xstrdup(verifier);
    cache->checked[cache->next].password = xstrdup(password);
    cache->next = (cache->next + 1) % CHECKED_MAX;
    return true;
}

static int run_sql(struct step_run *run, int deadline_ms, char *sql)
{
    struct pg_conn *conn = step_sql(run);
    int rc = conn ? pg_exec(conn, deadline_ms, sql, 0, NULL, NULL, NULL, &run->err) : -1;

    explicit_bzero(sql, strlen(sql));
    free(sql);
    return rc;
}

static struct login *add(struct login *roles, size_t *count, const char *name,
                         const char *attributes, const char *password, const char *grants)
{
    struct login *role = &roles[(*count)++];

    OGEL_CHECK(*count <= ROLES_MAX);
    snprintf(role->name, sizeof role->name, "%s", name);
    role->attributes = attributes;
    role->password = password;
    role->machine = strncmp(name, "ogel_", 5) == 0; /* our own; nobody types these passwords */
    role->grants = grants;
    return role;
}

static size_t list_roles(const struct step_run *run, const struct document_rules *rules,
                         struct login roles[ROLES_MAX])
{
    const struct agent_config *config = run->hands->config;
    const struct durable *durable = &run->durable;
    char name[REPLICATION_NAME_SIZE];
    size_t count = 0;

    add(roles, &count, "ogel_replication", "NOLOGIN", NULL, NULL);
    add(roles, &count, "postgres", "LOGIN SUPERUSER", run->secrets->password[PASSWORD_SUPERUSER],
        NULL);
    add(roles, &count, "ogel_rewind", "LOGIN", run->secrets->password[PASSWORD_REWIND],
        rewind_grants);
    add(roles, &count, "ogel_monitor", "LOGIN IN ROLE pg_monitor",
        run->secrets->password[PASSWORD_MONITOR], NULL);
    add(roles, &count, rules->owner, "LOGIN", run->secrets->password[PASSWORD_OWNER], NULL);
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        if (durable->incarnations[slot].number <= durable->void_number[slot])
            continue;
        replication_role(name, config->ids[slot], durable->incarnations[slot].number);
        add(roles, &count, name, "LOGIN REPLICATION IN ROLE ogel_replication",
            run->secrets->password[PASSWORD_REPLICATION], NULL);
    }
    return count;
}

/* Row of ROLE in the answer, -1: it does not exist. */
static int find_row(const struct pg_result *existing, const char *role)
{
    for (int i = 0; i < pg_result_rows(existing); i++)
        if (strcmp(pg_result_value(existing, i, 0), role) == 0)
            return i;
    return -1;
}

static int create_role(struct step_run *run, const struct login *role, const char *quoted)
{
    char *verifier = role->password ? scram_verifier(role->password, role->machine) : NULL;
    char *sql;

    if (verifier)
        sql = xasprintf("CREATE ROLE %s PASSWORD '%s' %s;%s", quoted, verifier, role->attributes,
                        role->grants ? role->grants : "");
    else
        sql = xasprintf("CREATE ROLE %s %s", quoted, role->attributes);
    free(verifier);
    return run_sql(run, STEP_CALL_MS, sql);
}

static int ensure_role(struct step_run *run, const struct pg_result *existing,
                       const struct login *role)
{
    int row = find_row(existing, role->name);
    char *quoted, *verifier;
    int rc = 0;

    if (row >= 0 &&
        (!role->password || verified(run, pg_result_value(existing, row, 1), role->password)))
        return 0;
    quoted = pg_quote_identifier(step_sql(run), role->name);
    if (!quoted)
        return err_set(&run->err, ERR_INVALID, "role %s: its name cannot be quoted", role->name);
    if (row < 0) {
        rc = create_role(run, role, quoted);
    } else {
        verifier = scram_verifier(role->password, role->machine);
        rc = run_sql(run, STEP_CALL_MS, xasprintf("ALTER ROLE %s PASSWORD '%s'", quoted, verifier));
        free(verifier);
    }
    free(quoted);
    return rc < 0 ? err_context(&run->err, "role %s", role->name) : 0;
}

/* Roles of machines that have been replaced or declared destroyed, and of a cluster whose snapshot
 * this one was born of. */
static int drop_old(struct step_run *run, const struct pg_result *existing,
                    const struct login *roles, size_t count)
{
    for (int i = 0; i < pg_result_rows(existing); i++) {
        const char *name = pg_result_value(existing, i, 0);
        char id[NODE_ID_SIZE], expect[REPLICATION_NAME_SIZE];
        unsigned number;
        bool wanted = false;

        if (sscanf(name, "ogel_%16[a-z0-9]_i%u", id, &number) != 2 ||
            strcmp(pg_result_value(existing, i, 2), "t") != 0)
            continue;
        replication_role(expect, id, number);
        if (strcmp(expect, name) != 0)
            continue;
        for (size_t k = 0; k < count; k++)
            wanted = wanted || strcmp(roles[k].name, name) == 0;
        if (!wanted && run_sql(run, STEP_CALL_MS, xasprintf("DROP ROLE %s", name)) < 0)
            return err_context(&run->err, "role %s", name);
    }
    return 0;
}

static int ensure_database(struct step_run *run, const struct document_rules *rules)
{
    const char *params[] = {rules->database};
    struct pg_conn *conn = step_sql(run);
    struct pg_result *result = NULL;
    char *database, *owner;
    int rc, rows;

    if (!conn || pg_exec(conn, STEP_CALL_MS, "SELECT FROM pg_database WHERE datname = $1", 1,
                         params, &result, NULL, &run->err) < 0)
        return -1;
    rows = pg_result_rows(result);
    pg_result_free(result);
    if (rows > 0)
        return 0;
    database = pg_quote_identifier(conn, rules->database);
    owner = pg_quote_identifier(conn, rules->owner);
    if (database && owner)
        rc = run_sql(run, DATABASE_DEADLINE_MS,
                     xasprintf("CREATE DATABASE %s OWNER %s", database, owner));
    else
        rc = err_set(&run->err, ERR_INVALID, "names of database and owner cannot be quoted");
    free(database);
    free(owner);
    return rc < 0 ? err_context(&run->err, "database %s", rules->database) : 0;
}

int step_roles(struct step_run *run)
{
    struct login roles[ROLES_MAX];
    struct document_rules *rules = xcalloc(1, sizeof *rules);
    struct pg_result *existing = NULL;
    struct pg_conn *conn = step_sql(run);
    size_t count;
    int rc = -1;

    document_rules(run->document, rules);
    count = list_roles(run, rules, roles);
    if (!conn ||
        pg_exec(conn, STEP_CALL_MS, "SELECT rolname, rolpassword, rolreplication FROM pg_authid", 0,
                NULL, &existing, NULL, &run->err) < 0)
        goto out;
    for (size_t i = 0; i < count; i++)
        if (ensure_role(run, existing, &roles[i]) < 0)
            goto out;
    if (drop_old(run, existing, roles, count) < 0 || ensure_database(run, rules) < 0)
        goto out;
    rc = 0;
out:
    pg_result_free(existing);
    free(rules);
    return rc;
}
