#include "agent/pgconf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/conftext.h"
#include "agent/pgdata.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    PASSFILE_BYTES = 512, /* a sector: written whole or not at all */
    OTHER_NODES = 2,
    ROLE_RULES_BYTES = 256, /* what a leader has for each of them, and a follower has not */
    DEFAULT_TIMEOUT_MS = 5000,
    CLUSTER_NAME_MAX = 32, /* keeps titles short: see proc.c */
    ALLOW_ALTER_SYSTEM_SINCE = 17,
};

#define CONF_DIR  "conf"
#define CHECK_DIR "check"

/* --- paths ---------------------------------------------------------------------------------------
 */

const char *pgconf_path(const char *state_dir, char buf[PGCONF_PATH_SIZE])
{
    snprintf(buf, PGCONF_PATH_SIZE, "%s/" CONF_DIR "/postgresql.conf", state_dir);
    return buf;
}

const char *pgconf_passfile_path(const char *state_dir, char buf[PGCONF_PATH_SIZE])
{
    snprintf(buf, PGCONF_PATH_SIZE, "%s/" CONF_DIR "/passfile", state_dir);
    return buf;
}

const char *pgconf_log_dir(const char *state_dir, char buf[PGCONF_PATH_SIZE])
{
    snprintf(buf, PGCONF_PATH_SIZE, "%s/log", state_dir);
    return buf;
}

/* --- the parts
 * ------------------------------------------------------------------------------------ */

uint64_t pgconf_wal_keep_mib(uint64_t disk_total_bytes)
{
    uint64_t mib = disk_total_bytes / 32 / 1048576;
    return mib < 64 ? 64 : mib > 8192 ? 8192 : mib;
}

static void put_defaults(struct conftext *text, const struct pgconf *conf)
{
    static const struct pgconf_setting plain[] = {
        {"wal_level", "replica"},
        {"max_wal_senders", "10"},
        {"max_replication_slots", "10"},
        {"max_connections", "200"},
        {"hot_standby_feedback", "on"},
        /* A commit that was acknowledged can be read on the standby that acknowledged it. */
        {"synchronous_commit", "remote_apply"},
        /* A query on a standby that conflicts with replay would hold up commits and failovers. */
        {"max_standby_streaming_delay", "1s"},
        {"max_standby_archive_delay", "1s"},
        {"checkpoint_timeout", "5min"},
        {"checkpoint_completion_target", "0.9"},
        /* Walking through all files before recovery takes seconds. */
        {"recovery_init_sync_method", "syncfs"},
        {"password_encryption", "scram-sha-256"},
        {"timezone", "UTC"},
        {"log_timezone", "UTC"},
        {"lc_messages", "C"},
        {"log_destination", "stderr"},
        /* The kind of process lets the agent tell a client's error from the server's. */
        {"log_line_prefix", "%m [%p] %b %q%u@%d "},
        {"log_checkpoints", "on"},
        {"log_lock_waits", "on"},
    };
    uint64_t keep_mib = pgconf_wal_keep_mib(conf->disk_total_bytes);
    fputs("# Defaults; the cluster's settings override them.\n", text->out);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(plain); i++)
        conftext_put(text, plain[i].name, plain[i].value);
    conftext_put_format(text, "wal_keep_size", "%" PRIu64 "MB", keep_mib);
    /* No slot, whoever makes it, may fill the disk. */
    conftext_put_format(text, "max_slot_wal_keep_size", "%" PRIu64 "MB", keep_mib * 2);
    /* What a crashed server must replay before it is back. */
    conftext_put_format(text, "max_wal_size", "%" PRIu64 "MB", keep_mib < 1024 ? keep_mib : 1024);
    conftext_put_size(text, "shared_buffers", conf->memory.shared_buffers_bytes);
    conftext_put_size(text, "effective_cache_size", conf->memory.effective_cache_size_bytes);
    conftext_put_size(text, "maintenance_work_mem", conf->memory.maintenance_work_mem_bytes);
    conftext_put_size(text, "work_mem", conf->memory.work_mem_bytes);
}

static void put_required(struct conftext *text, const struct pgconf *conf, const char *dir)
{
    static const struct pgconf_setting plain[] = {
        {"unix_socket_permissions", "0700"},
        {"external_pid_file", ""},
        {"fsync", "on"},
        {"full_page_writes", "on"},
        {"wal_log_hints", "on"},
        {"hot_standby", "on"},
        /* What the server comes back as after a crash is the agent's decision. */
        {"restart_after_crash", "off"},
        {"recovery_target_timeline", "latest"},
        {"recovery_min_apply_delay", "0"},
        {"archive_cleanup_command", ""},
        {"recovery_end_command", ""},
        {"primary_slot_name", ""},
        {"wal_receiver_create_temp_slot", "off"},
        /* At its default of 5 s half of all re-attachments stall. */
        {"wal_retrieve_retry_interval", "20ms"},
        {"wal_receiver_status_interval", "1s"},
        {"logging_collector", "on"},
        {"log_filename", "postgresql-%Y%m%d-%H%M%S.log"},
        {"log_rotation_size", "16MB"},
        {"log_rotation_age", "1d"},
        {"log_truncate_on_rotation", "off"},
        {"log_file_mode", "0600"},
    };
    int timeout_ms = conf->timeout_ms > 0 ? conf->timeout_ms : DEFAULT_TIMEOUT_MS;
    char log_dir[PGCONF_PATH_SIZE];
    fputs("\n# What replication and the agent need.\n", text->out);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(plain); i++)
        conftext_put(text, plain[i].name, plain[i].value);
    conftext_put(text, "data_directory", conf->datadir);
    conftext_put_format(text, "hba_file", "%s/pg_hba.conf", dir);
    conftext_put_format(text, "ident_file", "%s/pg_ident.conf", dir);
    conftext_put(text, "listen_addresses", conf->listen_addresses);
    conftext_put_format(text, "port", "%u", (unsigned)conf->port);
    /* A list: double quotes keep blanks and commas. */
    const char *quote = strpbrk(conf->socket_dir, ", ") == NULL ? "" : "\"";
    conftext_put_format(text, "unix_socket_directories", "%s%s%s", quote, conf->socket_dir, quote);
    conftext_put(text, "cluster_name", conf->cluster_name);
    conftext_put_format(text, "wal_sender_timeout", "%dms", timeout_ms);
    conftext_put_format(text, "wal_receiver_timeout", "%dms", timeout_ms);
    conftext_put(text, "log_directory", pgconf_log_dir(conf->state_dir, log_dir));
    if (conf->pg_major >= ALLOW_ALTER_SYSTEM_SINCE)
        conftext_put(text, "allow_alter_system", "off");
}

static int write_static(const struct pgconf *conf, const char *dir, unsigned *changed,
                        struct err *err)
{
    struct conftext text;
    char path[PATH_MAX];
    conftext_open(&text, err);
    fputs("# Written by ogel-agent; changes are lost. Settings: ogelctl config set.\n", text.out);
    put_defaults(&text, conf);
    fputs("\ninclude 'users.conf'\n", text.out);
    put_required(&text, conf, dir);
    fputs("\ninclude 'ogel.conf'\n", text.out);
    snprintf(path, sizeof path, "%s/postgresql.conf", dir);
    return conftext_store(&text, path, CONFTEXT_DURABLE, PGCONF_CHANGED_STATIC, changed);
}

/* In force without at_least; the agent's default or PostgreSQL's own where the document has
 * none. */
static long need_set(const struct pgconf *conf, size_t need)
{
    static const long defaults[PGDATA_NEEDS] = {200, 8, 10, 0, 64};
    long value = defaults[need];

    for (size_t i = 0; i < conf->setting_count; i++)
        if (strcasecmp(conf->settings[i].name, pgdata_need_names[need]) == 0)
            value = strtol(conf->settings[i].value, NULL, 0);
    return value;
}

/* A standby that has less than its leader had does not start. */
static void put_needs(struct conftext *text, const struct pgconf *conf)
{
    for (size_t i = 0; conf->at_least != NULL && i < PGDATA_NEEDS; i++)
        if (need_set(conf, i) < (long)conf->at_least[i])
            conftext_put_format(text, pgdata_need_names[i], "%" PRIu32, conf->at_least[i]);
}

static int write_users(const struct pgconf *conf, const char *dir, unsigned *changed,
                       struct err *err)
{
    struct conftext text;
    char path[PATH_MAX];
    const char *reason;
    conftext_open(&text, err);
    fputs("# Written by ogel-agent: the settings of the cluster document.\n", text.out);
    for (size_t i = 0; i < conf->setting_count; i++)
        if (!pgconf_setting_refused(conf->settings[i].name, conf->settings[i].value, &reason))
            conftext_put(&text, conf->settings[i].name, conf->settings[i].value);
    put_needs(&text, conf);
    snprintf(path, sizeof path, "%s/users.conf", dir);
    return conftext_store(&text, path, CONFTEXT_DURABLE, PGCONF_CHANGED_USERS, changed);
}

static int write_dynamic(const struct pgconf *conf, const char *dir, unsigned *changed,
                         struct err *err)
{
    struct conftext text;
    char path[PATH_MAX];
    char *conninfo = pgconf_primary_conninfo(conf);
    conftext_open(&text, err);
    fputs("# Written by ogel-agent: what changes with the node's role.\n", text.out);
    conftext_put(&text, "primary_conninfo", conninfo);
    conftext_put(&text, "restore_command", "");
    conftext_put(&text, "synchronous_standby_names",
                 conf->sync_names == NULL ? PGCONF_NOBODY : conf->sync_names);
    snprintf(path, sizeof path, "%s/ogel.conf", dir);
    free(conninfo);
    return conftext_store(&text, path, CONFTEXT_VOLATILE, PGCONF_CHANGED_DYNAMIC, changed);
}

/* --- access rules
 * --------------------------------------------------------------------------------- */

/* Ours are made by the agent: anything else than a plain name is a mistake. */
static bool role_is_plain(const char *role)
{
    size_t length = strspn(role, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return length > 0 && length < 64 && role[length] == '\0';
}

static void put_replication_rules(struct conftext *text, const struct pgconf *conf)
{
    static const char *const anywhere[] = {"all"};
    const char *const *from = conf->replication_from_count > 0 ? conf->replication_from : anywhere;
    size_t count = conf->replication_from_count > 0 ? conf->replication_from_count : 1;
    fputs("# Replication: the keys of the fence. First, and ending in reject.\n", text->out);
    fprintf(text->out, "local replication \"%s\" peer map=ogel\n", conf->superuser);
    for (size_t i = 0; i < conf->replication_role_count; i++)
        for (size_t k = 0; k < count; k++)
            fprintf(text->out, "host replication \"%s\" %s scram-sha-256\n",
                    conf->replication_roles[i], from[k]);
    fputs("local replication all reject\n"
          "host replication all all reject\n",
          text->out);
    /* `replication=database` connections are matched by their database, and may stream all the
     * same: no receiver's role gets in that way. */
    if (conf->replication_group != NULL)
        fprintf(text->out, "local all +\"%s\" reject\nhost all +\"%s\" all reject\n",
                conf->replication_group, conf->replication_group);
    for (size_t i = 0; i < conf->replication_role_count; i++)
        fprintf(text->out, "local all \"%s\" reject\nhost all \"%s\" all reject\n",
                conf->replication_roles[i], conf->replication_roles[i]);
}

/* What the file grows by when this node is granted fits into the blocks that it has. */
static void put_room(struct conftext *text, const struct pgconf *conf)
{
    size_t roles = conf->replication_role_count;

    conftext_pad(text, roles < OTHER_NODES ? (OTHER_NODES - roles) * ROLE_RULES_BYTES : 0);
}

static int check_access(const struct pgconf *conf, struct err *err)
{
    const char *const roles[] = {conf->superuser, conf->monitor_role, conf->rewind_role,
                                 conf->replication_group};
    const char *reason;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(roles); i++)
        if ((i == 0 || roles[i] != NULL) && (roles[i] == NULL || !role_is_plain(roles[i])))
            return err_set(err, ERR_INVALID, "role \"%s\": only a-z, 0-9, _ and - are taken",
                           roles[i] == NULL ? "" : roles[i]);
    for (size_t i = 0; i < conf->replication_role_count; i++)
        if (!role_is_plain(conf->replication_roles[i]))
            return err_set(err, ERR_INVALID, "role \"%s\": only a-z, 0-9, _ and - are taken",
                           conf->replication_roles[i]);
    for (size_t i = 0; i < conf->replication_from_count; i++) {
        char line[512];
        snprintf(line, sizeof line, "host x x %s reject", conf->replication_from[i]);
        if (pgconf_hba_refused(line, &reason))
            return err_set(err, ERR_INVALID, "replication from \"%s\": %s",
                           conf->replication_from[i], reason);
    }
    if (conf->os_user == NULL || conf->os_user[0] == '/' || !conftext_is_one_line(conf->os_user) ||
        strpbrk(conf->os_user, "\" ") != NULL)
        return err_set(err, ERR_INVALID, "the operating system's user name cannot be written");
    return 0;
}

static int write_access(const struct pgconf *conf, const char *dir, unsigned *changed,
                        struct err *err)
{
    struct conftext text;
    char path[PATH_MAX];
    const char *reason;
    const char *const ours[] = {conf->superuser, conf->monitor_role, conf->rewind_role};

    if (check_access(conf, err) != 0)
        return -1;
    conftext_open(&text, err);
    fputs("# Written by ogel-agent; changes are lost. Rules: the cluster document's hba.\n",
          text.out);
    put_replication_rules(&text, conf);
    /* The socket's directory is 0700, and peer asks the kernel who it is: no password is in play.
     */
    fprintf(text.out, "# The agent's own roles.\nlocal all \"%s\" peer map=ogel\n",
            conf->superuser);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(ours); i++) {
        if (ours[i] == NULL)
            continue;
        if (i > 0)
            fprintf(text.out, "local all \"%s\" scram-sha-256\n", ours[i]);
        fprintf(text.out, "host all \"%s\" all scram-sha-256\n", ours[i]);
    }
    fputs("# The cluster document's.\n", text.out);
    for (size_t i = 0; i < conf->hba_count; i++)
        if (!pgconf_hba_refused(conf->hba[i], &reason))
            fprintf(text.out, "%s\n", conf->hba[i]);
    put_room(&text, conf);
    snprintf(path, sizeof path, "%s/pg_hba.conf", dir);
    if (conftext_store(&text, path, CONFTEXT_DURABLE, PGCONF_CHANGED_ACCESS, changed) != 0)
        return -1;

    conftext_open(&text, err);
    fprintf(text.out, "ogel \"%s\" \"%s\"\n", conf->os_user, conf->superuser);
    snprintf(path, sizeof path, "%s/pg_ident.conf", dir);
    return conftext_store(&text, path, CONFTEXT_DURABLE, PGCONF_CHANGED_ACCESS, changed);
}

/* --- writing
 * --------------------------------------------------------------------------------------- */

static int make_socket_dir(const struct pgconf *conf, struct err *err)
{
    struct sockaddr_un address;
    struct stat st;
    /* Postgres appends /.s.PGSQL.<port> and would not start. */
    size_t length = strlen(conf->socket_dir) + strlen("/.s.PGSQL.65535");
    if (length >= sizeof address.sun_path)
        return err_set(err, ERR_INVALID,
                       "the socket directory %s is too long: the path of a socket in it would have "
                       "%zu bytes, %zu are allowed; choose a shorter one (option socket_dir)",
                       conf->socket_dir, length, sizeof address.sun_path - 1);
    if (conf->socket_dir[0] != '/' || strpbrk(conf->socket_dir, "\"\n\r") != NULL)
        return err_set(err, ERR_INVALID, "the socket directory %s cannot be written",
                       conf->socket_dir);
    if (file_mkdir_p(conf->socket_dir, 0700, err) != 0)
        return -1;
    if (stat(conf->socket_dir, &st) != 0)
        return err_set_errno(err, errno, "cannot look at %s", conf->socket_dir);
    if (st.st_uid != geteuid())
        return err_set(err, ERR_REFUSED, "the socket directory %s belongs to another user",
                       conf->socket_dir);
    if ((st.st_mode & 0777) != 0700 && chmod(conf->socket_dir, 0700) != 0)
        return err_set_errno(err, errno, "cannot make %s private", conf->socket_dir);
    return 0;
}

static int write_all(const struct pgconf *conf, const char *dir, unsigned *changed, struct err *err)
{
    if (strlen(conf->cluster_name) > CLUSTER_NAME_MAX)
        return err_set(err, ERR_INVALID, "cluster name \"%s\": at most %d bytes",
                       conf->cluster_name, CLUSTER_NAME_MAX);
    if (file_mkdir_p(dir, 0700, err) != 0)
        return -1;
    /* postgresql.conf last: a first start that dies in between finds no half configuration. */
    if (write_users(conf, dir, changed, err) != 0 || write_dynamic(conf, dir, changed, err) != 0 ||
        write_access(conf, dir, changed, err) != 0 || write_static(conf, dir, changed, err) != 0)
        return -1;
    return 0;
}

int pgconf_write(const struct pgconf *conf, unsigned *changed, struct err *err)
{
    char dir[PGCONF_PATH_SIZE];
    *changed = 0;
    if (make_socket_dir(conf, err) != 0 ||
        file_mkdir_p(pgconf_log_dir(conf->state_dir, dir), 0700, err) != 0)
        return -1;
    snprintf(dir, sizeof dir, "%s/" CONF_DIR, conf->state_dir);
    return write_all(conf, dir, changed, err);
}

int pgconf_write_dynamic(const struct pgconf *conf, unsigned *changed, struct err *err)
{
    char dir[PGCONF_PATH_SIZE];
    *changed = 0;
    snprintf(dir, sizeof dir, "%s/" CONF_DIR, conf->state_dir);
    return write_dynamic(conf, dir, changed, err);
}

/* What `postgres -C NAME` says with that configuration; a refusal's own words in ERR. */
static int ask_postgres(const char *program, const char *file, const char *name, int64_t timeout_ms,
                        char value[1024], struct err *err)
{
    struct command_result result;
    const char *argv[] = {program, file, "-C", name, NULL};
    int rc = 0;
    if (command_run(argv, timeout_ms, &result, err) != 0)
        return -1;
    snprintf(value, 1024, "%.*s", (int)strcspn(result.output, "\n"), result.output);
    if (result.exit_code != 0) {
        /* The last of these names a setting; FATAL, behind them, only the file. */
        char *line = result.errors;
        for (char *at = line; (at = strstr(at, "LOG:  ")) != NULL; line = at)
            at += strlen("LOG:  ");
        line[strcspn(line, "\n")] = '\0';
        rc = err_set(err, ERR_INVALID, "PostgreSQL refuses these settings: %s", line);
    }
    command_result_free(&result);
    return rc;
}

/* Postgres is always started as a standby here, so that these can be raised, never lowered. */
static int check_needs(const struct pgconf *conf, struct err *err)
{
    for (size_t i = 0; conf->at_least != NULL && i < PGDATA_NEEDS; i++)
        if (need_set(conf, i) < (long)conf->at_least[i])
            return err_set(err, ERR_INVALID,
                           "%s: %ld is less than %" PRIu32 ", which the leader runs with: standbys "
                           "would not start; it can only be raised",
                           pgdata_need_names[i], need_set(conf, i), conf->at_least[i]);
    return 0;
}

int pgconf_check(const struct pgconf *conf, const char *bindir, int64_t timeout_ms, struct err *err)
{
    char dir[PGCONF_PATH_SIZE];
    char program[PATH_MAX];
    char connections[1024], reserved[1024], libraries[1024];
    char *file = NULL;
    unsigned changed = 0;
    int rc = -1;

    snprintf(dir, sizeof dir, "%s/" CHECK_DIR, conf->state_dir);
    if (check_needs(conf, err) != 0 || write_all(conf, dir, &changed, err) != 0)
        return -1;
    snprintf(program, sizeof program, "%s/postgres", bindir);
    file = xasprintf("--config-file=%s/postgresql.conf", dir);
    if (ask_postgres(program, file, "max_connections", timeout_ms, connections, err) != 0 ||
        ask_postgres(program, file, "superuser_reserved_connections", timeout_ms, reserved, err) !=
            0 ||
        ask_postgres(program, file, "shared_preload_libraries", timeout_ms, libraries, err) != 0)
        goto out;
    /* These two it would find out only at its start. */
    if (strtol(reserved, NULL, 10) >= strtol(connections, NULL, 10))
        err_set(err, ERR_INVALID,
                "superuser_reserved_connections (%s) must be less than max_connections (%s)",
                reserved, connections);
    else
        rc = pgdata_libraries_check(bindir, libraries, err);
out:
    free(file);
    return rc;
}

/* --- the key
 * ---------------------------------------------------------------------------------------- */

/* In a passfile ':' separates and '\' escapes. */
static void put_passfile_field(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == ':' || *value == '\\')
            fputc('\\', out);
        fputc(*value, out);
    }
}

int pgconf_passfile_write(const char *state_dir, const struct pgconf_key *key, struct err *err)
{
    char path[PGCONF_PATH_SIZE];
    struct conftext text;
    struct stat st;
    unsigned changed = 0;

    snprintf(path, sizeof path, "%s/" CONF_DIR, state_dir);
    if (file_mkdir_p(path, 0700, err) != 0)
        return -1;
    pgconf_passfile_path(state_dir, path);
    /* libpq ignores a passfile that others may read. */
    if (stat(path, &st) == 0 && (st.st_mode & 077) != 0 && chmod(path, 0600) != 0)
        return err_set_errno(err, errno, "cannot make %s private", path);
    conftext_open(&text, err);
    if (key != NULL) {
        if (!conftext_is_one_line(key->host) || !conftext_is_one_line(key->user) ||
            !conftext_is_one_line(key->password)) {
            err_set(err, ERR_INVALID, "a host, user name or password has a line break");
            text.failed = true;
        }
        put_passfile_field(text.out, key->host);
        fprintf(text.out, ":%u:*:", (unsigned)key->port);
        put_passfile_field(text.out, key->user);
        fputc(':', text.out);
        put_passfile_field(text.out, key->password);
        fputc('\n', text.out);
    }
    conftext_fill(&text, PASSFILE_BYTES);
    return conftext_store(&text, path, CONFTEXT_IN_PLACE, 1, &changed);
}

/* --- values
 * ------------------------------------------------------------------------------------------ */

char *pgconf_sync_names(const char *const *names, size_t count)
{
    char *data = NULL;
    size_t size = 0;
    if (count == 0)
        return xstrdup(PGCONF_NOBODY);
    FILE *out = open_memstream(&data, &size);
    OGEL_CHECK(out != NULL);
    fputs("ANY 1 (", out);
    for (size_t i = 0; i < count; i++) {
        /* "*" would be anybody; quoting makes it a name like any other, but nobody has it. */
        OGEL_CHECK(names[i][0] != '\0' && conftext_is_one_line(names[i]));
        size_t plain = strspn(names[i], "abcdefghijklmnopqrstuvwxyz0123456789_");
        bool quoted = names[i][plain] != '\0' || isdigit((unsigned char)names[i][0]);
        fputs(i > 0 ? ", " : "", out);
        if (quoted)
            fputc('"', out);
        for (const char *c = names[i]; *c != '\0'; c++) {
            if (*c == '"')
                fputc('"', out);
            fputc(*c, out);
        }
        if (quoted)
            fputc('"', out);
    }
    fputc(')', out);
    OGEL_CHECK(fclose(out) == 0);
    return data;
}

static void put_conninfo(FILE *out, const char *name, const char *value)
{
    fprintf(out, "%s='", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            fputc('\\', out);
        fputc(*value, out);
    }
    fputs("' ", out);
}

char *pgconf_primary_conninfo(const struct pgconf *conf)
{
    int timeout_ms = conf->timeout_ms > 0 ? conf->timeout_ms : DEFAULT_TIMEOUT_MS;
    char passfile[PGCONF_PATH_SIZE];
    char *data = NULL;
    size_t size = 0;
    if (conf->upstream_host == NULL)
        return xstrdup("");
    FILE *out = open_memstream(&data, &size);
    OGEL_CHECK(out != NULL);
    put_conninfo(out, "host", conf->upstream_host);
    fprintf(out, "port=%u ", (unsigned)conf->upstream_port);
    put_conninfo(out, "user", conf->upstream_user);
    put_conninfo(out, "application_name", conf->application_name);
    put_conninfo(out, "passfile", pgconf_passfile_path(conf->state_dir, passfile));
    /* 2 s is libpq's least. GSS would look for tickets of the operating system's user. */
    fprintf(out,
            "connect_timeout=2 keepalives=1 keepalives_idle=1 keepalives_interval=1 "
            "keepalives_count=3 tcp_user_timeout=%d gssencmode=disable",
            timeout_ms);
    OGEL_CHECK(fclose(out) == 0);
    return data;
}

/* --- the log
 * ------------------------------------------------------------------------------------------ */

struct log_file {
    char name[64];
    uint64_t size;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct log_file *)a)->name, ((const struct log_file *)b)->name);
}

int pgconf_log_prune(const char *state_dir, uint64_t max_bytes, struct err *err)
{
    char path[PGCONF_PATH_SIZE];
    struct log_file *files = NULL;
    size_t count = 0;
    uint64_t total = 0;
    struct dirent *entry;
    int rc = -1;

    DIR *dir = opendir(pgconf_log_dir(state_dir, path));
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot read %s", path);
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (strncmp(entry->d_name, "postgresql-", 11) != 0 || strlen(entry->d_name) >= 64 ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        files = xreallocarray(files, count + 1, sizeof *files);
        memcpy(files[count].name, entry->d_name, strlen(entry->d_name) + 1);
        files[count++].size = (uint64_t)st.st_size;
        total += (uint64_t)st.st_size;
    }
    /* Their names begin with the time, so that the order of names is that of age. */
    if (count > 0)
        qsort(files, count, sizeof *files, compare_names);
    for (size_t i = 0; i + 1 < count && total > max_bytes; i++) {
        if (unlinkat(dirfd(dir), files[i].name, 0) != 0 && errno != ENOENT) {
            err_set_errno(err, errno, "cannot remove %s/%s", path, files[i].name);
            goto out;
        }
        total -= files[i].size;
    }
    rc = 0;
out:
    closedir(dir);
    free(files);
    return rc;
}
