#include "snapshots/drill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "snapshots/marks.h"
#include "snapshots/restore.h"

enum {
    POLL_MS = 50,
    STOP_TIMEOUT_MS = 60000,
    LOG_TAIL = 64 * 1024,
    LINE_MAX = 300,
    VERSION_MAX = 200,
    DATABASES_MAX = 1000,
};

#define SCRATCH_NAME "ogel-drill-"
#define PORT         "5432" /* of the socket's name alone: nothing listens on TCP */

struct drill {
    const struct drill_options *options;
    const struct manifest *manifest;
    char *dir; /* in the scratch directory; lock, data, space, socket, logs */
    int lock;
    char user[64];
    pid_t postmaster; /* 0: none */
    json_t *report, *seconds, *tables;
};

static char *within(const struct drill *drill, const char *name)
{
    return xasprintf("%s/%s", drill->dir, name);
}

static void show(const struct drill *drill, const char *phase)
{
    const struct snapshot_progress progress = {.phase = phase};

    if (drill->options->progress != NULL)
        drill->options->progress(&progress, drill->options->progress_arg);
}

/* --- programs ------------------------------------------------------------------------------- */

/* Starts ARGV (argv[0] a path) with its output in the file LOG. It ends when this process does,
 * however that ends. */
static int start(const char *const *argv, const char *log, pid_t *pid, struct err *err)
{
    pid_t parent = getpid();
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || null < 0) {
        err_set_errno(err, errno, "cannot open %s", fd < 0 ? log : "/dev/null");
        *pid = -1;
    } else if ((*pid = fork()) < 0) {
        err_set_errno(err, errno, "cannot start %s", argv[0]);
    } else if (*pid == 0) {
        /* SIGQUIT: a postmaster ends at once, and its children with it. */
        if (prctl(PR_SET_PDEATHSIG, SIGQUIT) < 0 || getppid() != parent || dup2(null, 0) < 0 ||
            dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(126);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    if (fd >= 0)
        close(fd);
    if (null >= 0)
        close(null);
    return *pid < 0 ? -1 : 0;
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Of a program's output the line that says most: the last that names an error, else the last. */
static void telling_line(const char *log, char line[LINE_MAX])
{
    char *text = NULL, *from;
    size_t len = 0;

    line[0] = '\0';
    if (file_read(log, 256 * 1024 * 1024, &text, &len, NULL) < 0)
        return;
    from = len > LOG_TAIL ? text + len - LOG_TAIL : text;
    for (char *save = NULL, *at = strtok_r(from, "\n", &save); at != NULL;
         at = strtok_r(NULL, "\n", &save)) {
        bool bad = strstr(at, "FATAL") != NULL || strstr(at, "PANIC") != NULL ||
                   strstr(at, "ERROR") != NULL || strstr(at, "error:") != NULL;

        if (bad || (strstr(line, "FATAL") == NULL && strstr(line, "PANIC") == NULL &&
                    strstr(line, "ERROR") == NULL && strstr(line, "error:") == NULL))
            snprintf(line, LINE_MAX, "%s", at);
    }
    free(text);
}

static int check_version(const struct drill *drill, struct err *err)
{
    char *program = xasprintf("%s/postgres", drill->options->bindir),
         *log = within(drill, "version");
    const char *const argv[] = {program, "--version", NULL};
    unsigned major = drill->manifest->postgres_version / 10000, found = 0;
    char *text = NULL;
    pid_t pid;
    int rc;

    rc = start(argv, log, &pid, err);
    if (rc == 0 && wait_for(pid) != 0)
        rc = err_set(err, ERR_REFUSED,
                     "cannot run %s (--bindir says where PostgreSQL's programs are)", program);
    if (rc == 0)
        rc = file_read(log, VERSION_MAX, &text, NULL, err);
    if (rc == 0 && (sscanf(text, "postgres (PostgreSQL) %u", &found) != 1 || found != major))
        rc = err_set(err, ERR_REFUSED,
                     "the snapshot is of PostgreSQL %u, and %s is of %u (--bindir names another)",
                     major, program, found);
    free(text);
    free(log);
    free(program);
    return rc;
}

/* --- the scratch directory ------------------------------------------------------------------ */

/* What a drill that was killed left: nobody has its lock. */
static void remove_left(const char *scratch)
{
    DIR *dir = opendir(scratch);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char *path, *lock;
        struct err err = {0};
        int fd = -1;

        if (strncmp(entry->d_name, SCRATCH_NAME, strlen(SCRATCH_NAME)) != 0)
            continue;
        path = xasprintf("%s/%s", scratch, entry->d_name);
        lock = xasprintf("%s/lock", path);
        if (file_exists(lock) && file_lock_acquire(lock, &fd, &err) == 0 &&
            file_remove_tree(path, &err) < 0)
            log_err(LOG_LEVEL_WARNING, "snapshot_drill_left", &err);
        if (fd >= 0)
            close(fd);
        free(lock);
        free(path);
    }
    if (dir != NULL)
        closedir(dir);
}

static int make_scratch(struct drill *drill, struct err *err)
{
    static const struct sockaddr_un address;
    char *lock, *socket;
    int rc;

    if (drill->options->scratch[0] != '/')
        return err_set(err, ERR_INVALID, "scratch directory \"%s\" (allowed: an absolute path)",
                       drill->options->scratch);
    if (file_mkdir_p(drill->options->scratch, 0700, err) < 0)
        return -1;
    remove_left(drill->options->scratch);
    drill->dir = xasprintf("%s/" SCRATCH_NAME "XXXXXX", drill->options->scratch);
    if (strlen(drill->dir) + strlen("/s/.s.PGSQL." PORT) >= sizeof(address.sun_path))
        rc = err_set(err, ERR_INVALID,
                     "scratch directory %s: its name is too long for a socket in it",
                     drill->options->scratch);
    else
        rc = mkdtemp(drill->dir) != NULL
                 ? 0
                 : err_set_errno(err, errno, "cannot create %s", drill->dir);
    if (rc < 0) {
        free(drill->dir);
        drill->dir = NULL;
        return -1;
    }
    lock = within(drill, "lock");
    socket = within(drill, "s");
    rc = file_lock_acquire(lock, &drill->lock, err);
    if (rc == 0 && mkdir(socket, 0700) < 0)
        rc = err_set_errno(err, errno, "cannot create %s", socket);
    free(socket);
    free(lock);
    return rc;
}

static int restore_there(struct drill *drill, struct store *store, struct err *err)
{
    const struct manifest *manifest = drill->manifest;
    struct restore_mapping *mappings = xcalloc(manifest->tablespace_count + 1, sizeof(mappings[0]));
    char *target = within(drill, "data");
    struct restore_options restore = {
        .target = target,
        .mappings = mappings,
        .jobs = drill->options->jobs,
        .progress = drill->options->progress,
        .progress_arg = drill->options->progress_arg,
        .renew_ms = drill->options->renew_ms,
        .warning = drill->options->warning,
    };
    struct manifest seen;
    int rc;

    for (uint32_t i = 0; i < manifest->tablespace_count; i++) {
        const struct manifest_tablespace *one = &manifest->tablespaces[i];

        if (one->location[0] == '/')
            mappings[restore.mapping_count++] = (struct restore_mapping){
                one->location, xasprintf("%s/space-%" PRIu32, drill->dir, one->oid)};
    }
    rc = restore_run(store, manifest->id, &restore, &seen, err);
    if (rc == 0)
        manifest_free(&seen);
    for (size_t i = 0; i < restore.mapping_count; i++)
        free((char *)(uintptr_t)mappings[i].to);
    free(mappings);
    free(target);
    return rc;
}

/* --- the server ----------------------------------------------------------------------------- */

/* On the command line they have the last word, whatever the snapshot brought. Transactions that are
 * prepared need as much room as they had. */
static const char *const settings[] = {
    "listen_addresses=",
    "port=" PORT,
    "unix_socket_permissions=0700",
    "unix_socket_group=",
    "external_pid_file=",
    "ssl=off",
    "archive_mode=off",
    "archive_command=",
    "restore_command=",
    "primary_conninfo=",
    "synchronous_standby_names=",
    "logging_collector=off",
    "log_destination=stderr",
    "log_min_messages=warning",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "restart_after_crash=off",
    "max_prepared_transactions=1000",
    "max_connections=20",
    "jit=off",
    "default_transaction_read_only=off",
};

static int write_configuration(const struct drill *drill, struct err *err)
{
    static const char hba_line[] = "local all all trust\n";
    char *empty = within(drill, "empty.conf"), *hba = within(drill, "hba.conf");
    int rc = file_write_atomic(empty, "", 0, 0600, err);

    if (rc == 0)
        rc = file_write_atomic(hba, hba_line, sizeof(hba_line) - 1, 0600, err);
    free(empty);
    free(hba);
    return rc;
}

/* With files of the drill's own: a cluster's own may lie outside its data directory. */
static int start_server(struct drill *drill, struct err *err)
{
    char *program = xasprintf("%s/postgres", drill->options->bindir), *data = within(drill, "data");
    char *own[] = {xasprintf("config_file=%s/empty.conf", drill->dir),
                   xasprintf("hba_file=%s/hba.conf", drill->dir),
                   xasprintf("ident_file=%s/empty.conf", drill->dir),
                   xasprintf("unix_socket_directories=%s/s", drill->dir)};
    const char *argv[2 * (OGEL_ARRAY_LEN(own) + OGEL_ARRAY_LEN(settings)) + 4] = {program, "-D",
                                                                                  data};
    char *log = within(drill, "log");
    size_t argc = 3;
    int rc = write_configuration(drill, err);

    for (size_t i = 0; i < OGEL_ARRAY_LEN(own); i++) {
        argv[argc++] = "-c";
        argv[argc++] = own[i];
    }
    for (size_t i = 0; i < OGEL_ARRAY_LEN(settings); i++) {
        argv[argc++] = "-c";
        argv[argc++] = settings[i];
    }
    if (rc == 0)
        rc = start(argv, log, &drill->postmaster, err);
    if (rc < 0)
        drill->postmaster = 0;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(own); i++)
        free(own[i]);
    free(log);
    free(data);
    free(program);
    return rc;
}

static PGconn *connect_to(const struct drill *drill, const char *database)
{
    char *host = within(drill, "s");
    const char *const names[] = {
        "host",     "port",    "user",       "dbname", "connect_timeout", "application_name",
        "passfile", "sslmode", "gssencmode", NULL};
    const char *const values[] = {host,         PORT,        drill->user, database,  "10",
                                  "ogel_drill", "/dev/null", "disable",   "disable", NULL};
    PGconn *conn = PQconnectdbParams(names, values, 0);

    free(host);
    return conn;
}

/* 1: it is up; 0: not yet; -1: it has ended, or lets nobody in. */
static int try_server(struct drill *drill, struct err *err)
{
    char line[LINE_MAX], *log;
    PGconn *conn;
    bool up, no_role;

    if (waitpid(drill->postmaster, &(int){0}, WNOHANG) != 0) {
        drill->postmaster = 0;
        log = within(drill, "log");
        telling_line(log, line);
        free(log);
        return err_set(err, ERR_CORRUPT, "what was restored does not start: %s", line);
    }
    conn = connect_to(drill, "template1");
    up = PQstatus(conn) == CONNECTION_OK;
    no_role = !up && strstr(PQerrorMessage(conn), "does not exist") != NULL &&
              strstr(PQerrorMessage(conn), "role") != NULL;
    PQfinish(conn);
    if (up || !no_role)
        return up;
    return err_set(err, ERR_REFUSED,
                   "the snapshot has no role \"%s\" (--user names a superuser that it has)",
                   drill->user);
}

static int wait_server(struct drill *drill, struct err *err)
{
    const struct passwd *own = getpwuid(geteuid());
    int64_t end_ms = clock_mono_ms() + DRILL_START_TIMEOUT_MS;
    bool other = drill->options->user == NULL && own != NULL;

    snprintf(drill->user, sizeof(drill->user), "%s",
             drill->options->user != NULL ? drill->options->user : "postgres");
    while (clock_mono_ms() < end_ms) {
        int rc = try_server(drill, err);

        if (rc < 0 && err->code == ERR_REFUSED && other) {
            other = false;
            snprintf(drill->user, sizeof(drill->user), "%s", own->pw_name);
            err_clear(err);
            continue;
        }
        if (rc != 0)
            return rc < 0 ? -1 : 0;
        usleep(POLL_MS * 1000);
    }
    return err_set(err, ERR_TIMEOUT, "what was restored did not accept connections in time");
}

static void stop_server(struct drill *drill)
{
    int64_t end_ms = clock_mono_ms() + STOP_TIMEOUT_MS;

    if (drill->postmaster <= 0)
        return;
    kill(drill->postmaster, SIGINT);
    while (waitpid(drill->postmaster, NULL, WNOHANG) == 0) {
        if (clock_mono_ms() >= end_ms) {
            kill(drill->postmaster, SIGQUIT);
            end_ms = INT64_MAX;
        }
        usleep(POLL_MS * 1000);
    }
    drill->postmaster = 0;
}

/* --- looking through it --------------------------------------------------------------------- */

static int run_amcheck(struct drill *drill, struct err *err)
{
    char *program = xasprintf("%s/pg_amcheck", drill->options->bindir);
    char *host = within(drill, "s"), *log = within(drill, "amcheck");
    const char *const argv[] = {
        program, "--all",      "--install-missing", "--host",        host, "--port",
        PORT,    "--username", drill->user,         "--no-password", NULL};
    char line[LINE_MAX];
    pid_t pid;
    int rc = start(argv, log, &pid, err), ended = rc == 0 ? wait_for(pid) : -1;

    telling_line(log, line);
    /* 2: it found something (PostgreSQL's manual, pg_amcheck). */
    if (rc == 0 && ended == 2)
        rc = err_set(err, ERR_CORRUPT, "pg_amcheck found damage: %s", line);
    else if (rc == 0 && ended != 0)
        rc = err_set(err, ERR_REFUSED, "pg_amcheck could not look (exit %d): %s", ended, line);
    free(log);
    free(host);
    free(program);
    return rc;
}

static PGresult *ask(PGconn *conn, const char *sql, struct err *err)
{
    PGresult *result = PQexec(conn, sql);
    const char *text = PQerrorMessage(conn);

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    err_set(err, ERR_CORRUPT, "what was restored does not answer: %.*s", (int)strcspn(text, "\n"),
            text);
    PQclear(result);
    return NULL;
}

/* Rows read by a scan, which touches every page. */
static int count_table(struct drill *drill, PGconn *conn, const char *database, const char *table,
                       const char *bytes, struct err *err)
{
    char *sql = xasprintf("SELECT count(*) FROM ONLY %s", table);
    PGresult *result = ask(conn, sql, err);

    free(sql);
    if (result == NULL)
        return err_context(err, "table %s of database %s", table, database);
    json_array_append_new(drill->tables,
                          json_pack("{s:o,s:o,s:I,s:I}", "database", json_text(database), "table",
                                    json_text(table), "rows",
                                    (json_int_t)strtoll(PQgetvalue(result, 0, 0), NULL, 10),
                                    "bytes", (json_int_t)strtoll(bytes, NULL, 10)));
    PQclear(result);
    return 0;
}

static int count_database(struct drill *drill, const char *database, struct err *err)
{
    static const char largest[] =
        "SELECT format('%I.%I', n.nspname, c.relname), pg_relation_size(c.oid)"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p'"
        " AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " ORDER BY 2 DESC, 1 LIMIT ";
    PGconn *conn = connect_to(drill, database);
    char *sql = xasprintf("%s%d", largest, DRILL_TABLES);
    PGresult *result = ask(conn, sql, err);
    int rc = result != NULL ? 0 : -1;

    free(sql);
    for (int i = 0; rc == 0 && i < PQntuples(result); i++)
        rc = count_table(drill, conn, database, PQgetvalue(result, i, 0), PQgetvalue(result, i, 1),
                         err);
    PQclear(result);
    PQfinish(conn);
    return rc < 0 ? err_context(err, "database %s", database) : 0;
}

static int count_rows(struct drill *drill, struct err *err)
{
    PGconn *conn = connect_to(drill, "template1");
    PGresult *result = ask(conn,
                           "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn"
                           " AND NOT datistemplate ORDER BY 1",
                           err);
    int rc = result != NULL ? 0 : -1;

    for (int i = 0; rc == 0 && i < PQntuples(result) && i < DATABASES_MAX; i++)
        rc = count_database(drill, PQgetvalue(result, i, 0), err);
    PQclear(result);
    PQfinish(conn);
    return rc;
}

/* --- the whole ------------------------------------------------------------------------------ */

static void took(struct drill *drill, const char *what, int64_t *since_ms)
{
    int64_t now_ms = clock_mono_ms();

    json_object_set_new(drill->seconds, what, json_real((double)(now_ms - *since_ms) / 1000));
    *since_ms = now_ms;
}

static int run(struct drill *drill, struct store *store, struct err *err)
{
    int64_t since_ms = clock_mono_ms();

    if (make_scratch(drill, err) < 0 || check_version(drill, err) < 0 ||
        restore_there(drill, store, err) < 0)
        return -1;
    took(drill, "restore", &since_ms);
    show(drill, "starting");
    if (start_server(drill, err) < 0 || wait_server(drill, err) < 0)
        return -1;
    took(drill, "start", &since_ms);
    show(drill, "checking");
    if (run_amcheck(drill, err) < 0)
        return -1;
    show(drill, "counting");
    if (count_rows(drill, err) < 0)
        return -1;
    took(drill, "check", &since_ms);
    return 0;
}

static void clean_up(struct drill *drill)
{
    struct err err = {0};

    stop_server(drill);
    if (drill->dir != NULL && file_remove_tree(drill->dir, &err) < 0)
        log_err(LOG_LEVEL_WARNING, "snapshot_drill_left", &err);
    if (drill->lock >= 0)
        close(drill->lock);
    free(drill->dir);
}

static int mark(struct store *store, const struct drill *drill, int64_t began_ms, struct err *err)
{
    double seconds = (double)(clock_mono_ms() - began_ms) / 1000;
    const char *id = drill->manifest->id;

    if (marks_put(store, VERIFIED_PREFIX, id, seconds, err) < 0)
        return -1;
    return marks_put(store, DRILLED_PREFIX, id, seconds, err);
}

int drill_run(struct store *store, const char *id, const struct drill_options *options,
              struct manifest *manifest, json_t **report, struct err *err)
{
    struct drill drill = {.options = options, .manifest = manifest, .lock = -1};
    int64_t began_ms = clock_mono_ms();
    int rc;

    *report = NULL;
    if (geteuid() == 0)
        return err_set(
            err, ERR_REFUSED,
            "PostgreSQL does not run as root: run the drill as the user that it runs as");
    pg_environment_clear();
    if (manifest_load(store, id, manifest, err) < 0)
        return -1;
    drill.seconds = json_object();
    drill.tables = json_array();
    drill.report = json_pack("{s:o,s:o}", "seconds", drill.seconds, "tables", drill.tables);
    OGEL_CHECK(drill.report != NULL);
    rc = run(&drill, store, err);
    clean_up(&drill);
    if (rc == 0)
        rc = mark(store, &drill, began_ms, err);
    else if (err->code == ERR_CORRUPT && marks_remove(store, id, NULL) < 0)
        err_context(err, "its marks could not be taken away");
    if (rc == 0) {
        *report = drill.report;
        return 0;
    }
    json_decref(drill.report);
    manifest_free(manifest);
    return -1;
}
