#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/ogelctl.h"
#include "agent/pgconf.h"
#include "agent/pgdata.h"
#include "agent/proc.h"
#include "agent/steps.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "protocol/names.h"
#include "protocol/order.h"

enum { PATH_SIZE = 1024, SOURCE_DEADLINE_MS = 5000, CONTROL_DEADLINE_MS = 10000 };

/* Held from child_end_orphans() on; children inherit it. */
static int lock_fd = -1;

/* ogelctl tells its progress on a descriptor of its own, which is none of the three that a program
 * has, nor the lock. It comes out where its output does. */
static int progress_fd(void)
{
    return lock_fd + 1;
}

/* --- what it says
 * ----------------------------------------------------------------------------------- */

/* A number of a flat JSON object. */
static bool line_number(const char *line, const char *name, double *value)
{
    const char *at = strstr(line, name);

    return at != NULL && sscanf(at + strlen(name), " : %lf", value) == 1;
}

static void take_line(struct child_output *output)
{
    const char *open = strrchr(output->line, '('), *sign = open ? strchr(open, '%') : NULL;
    double done, total;
    char *end;
    unsigned long percent;

    if (output->used == 0)
        return;
    if (output->line[0] == '{') {
        if (line_number(output->line, "\"done_bytes\"", &done) && done >= 0 &&
            line_number(output->line, "\"total_bytes\"", &total) && total > 0)
            output->percent = done < total ? (uint32_t)(100 * done / total) : 100;
        return;
    }
    if (open && sign) {
        percent = strtoul(open + 1, &end, 10);
        if (end == sign && end > open + 1 && percent <= 100) {
            output->percent = (uint32_t)percent;
            return;
        }
    }
    if (strstr(output->line, "no rewind required"))
        output->no_rewind_required = true;
    memcpy(output->last, output->line, sizeof output->last);
}

void child_output_take(struct child_output *output, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n' || data[i] == '\r') {
            output->line[output->used] = '\0';
            take_line(output);
            output->used = 0;
        } else if (output->used < sizeof output->line - 1) {
            output->line[output->used++] = data[i];
        }
    }
}

/* --- the programs
 * ------------------------------------------------------------------------------ */

/* A passfile for the tools, with one password for any server. */
static char *write_passfile(const struct step_run *run, const char *user, enum password password,
                            struct err *err)
{
    const char *state_directory = run->hands->config->options.state_directory;
    char *path = xasprintf("%s/child-passfile", state_directory);
    char *line = xasprintf("*:*:*:%s:%s\n", user, run->secrets->password[password]);
    int rc = file_write_atomic(path, line, strlen(line), 0600, err);

    explicit_bzero(line, strlen(line));
    free(line);
    if (rc < 0) {
        free(path);
        return NULL;
    }
    return path;
}

static int use_passfile(struct step_run *run, struct command_line *command, const char *user,
                        enum password password)
{
    char *path = write_passfile(run, user, password, &run->err);

    if (!path)
        return -1;
    command_add_env(command, xasprintf("PGPASSFILE=%s", path));
    command_add_env(command, xstrdup("PGCONNECT_TIMEOUT=10"));
    free(path);
    return 0;
}

static int make_initdb(struct step_run *run, struct command_line *command)
{
    const struct agent_options *options = &run->hands->config->options;

    command_add(command, xasprintf("%s/initdb", options->postgres_bindir));
    command_add(command, xasprintf("--pgdata=%s", options->data_directory));
    command_add(command, xstrdup("--username=postgres"));
    command_add(command, xasprintf("--pwfile=%s", options->passwords.path[PASSWORD_SUPERUSER]));
    command_add(command, xstrdup("--auth-local=peer"));
    command_add(command, xstrdup("--auth-host=scram-sha-256"));
    command_add(command, xstrdup("--encoding=UTF8"));
    command_add(command, xasprintf("--locale=%s", options->locale));
    command_add(command, xstrdup("--data-checksums"));
    command_add(command, xstrdup("--no-instructions"));
    command_add(command, xstrdup("--no-sync"));
    return 0;
}

static int make_rewind(struct step_run *run, struct command_line *command)
{
    const struct agent_options *options = &run->hands->config->options;

    command_add(command, xasprintf("%s/pg_rewind", options->postgres_bindir));
    command_add(command, xasprintf("--target-pgdata=%s", options->data_directory));
    command_add(command,
                xasprintf("--source-server=host=%s port=%u user=ogel_rewind dbname=postgres"
                          " application_name=ogel_rewind options='-c statement_timeout=0'",
                          run->upstream.host, run->upstream.port));
    command_add(command, xstrdup("--no-ensure-shutdown"));
    command_add(command, xstrdup("--no-sync"));
    command_add(command, xstrdup("--progress"));
    return use_passfile(run, command, "ogel_rewind", PASSWORD_REWIND);
}

/* Its own name: one that stands in no synchronous_standby_names (design section 5, trap 2). */
static int make_clone(struct step_run *run, struct command_line *command)
{
    const struct agent_config *config = run->hands->config;
    uint32_t number = run->durable.incarnations[config->self].number;
    char role[REPLICATION_NAME_SIZE], name[REPLICATION_NAME_SIZE];

    replication_role(role, config->ids[config->self], number);
    replication_name(name, config->ids[config->self], number, run->durable.promise.generation,
                     false);
    command_add(command, xasprintf("%s/pg_basebackup", config->options.postgres_bindir));
    command_add(command, xasprintf("--pgdata=%s", config->options.data_directory));
    command_add(command, xasprintf("--dbname=host=%s port=%u user=%s application_name=%s",
                                   run->upstream.host, run->upstream.port, role, name));
    command_add(command, xstrdup("--wal-method=stream"));
    command_add(command, xstrdup("--checkpoint=fast"));
    command_add(command, xstrdup("--no-sync"));
    command_add(command, xstrdup("--progress"));
    command_add(command, xstrdup("--no-password"));
    return use_passfile(run, command, role, PASSWORD_REPLICATION);
}

static int make_restore(struct step_run *run, struct command_line *command)
{
    const struct agent_options *options = &run->hands->config->options;
    const struct snapshot_source *source = &run->step.source;

    if ((int)(source->pg_version / 10000) != run->hands->pg_major)
        return err_set(&run->err, ERR_REFUSED,
                       "snapshot %s is of PostgreSQL %u, this node runs %d: install the snapshot's "
                       "major version and set postgres_bindir",
                       source->id, source->pg_version / 10000, run->hands->pg_major);
    command_add(command, xstrdup(ogelctl_path()));
    command_add(command, xstrdup("snapshot"));
    command_add(command, xstrdup("restore"));
    command_add(command, xstrdup(source->id));
    command_add(command, xasprintf("--store=%s", source->store));
    if (run->snapshots.credentials_file)
        command_add(command, xasprintf("--store-credentials=%s", run->snapshots.credentials_file));
    if (run->snapshots.jobs > 0)
        command_add(command, xasprintf("--jobs=%lld", (long long)run->snapshots.jobs));
    if (run->snapshots.temporary_directory)
        command_add_env(command, xasprintf("TMPDIR=%s", run->snapshots.temporary_directory));
    command_add(command, xasprintf("--target=%s", options->data_directory));
    command_add(command, xasprintf("--progress-fd=%d", progress_fd()));
    return 0;
}

/* --- before a clone
 * ----------------------------------------------------------------------------------- */

static const char source_sql[] = "SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database WHERE "
                                 "datallowconn OR datistemplate),"
                                 " current_setting('shared_preload_libraries'),"
                                 " (SELECT pg_collation_actual_version(oid) FROM pg_collation"
                                 "   WHERE collprovider = 'c' AND collversion IS NOT NULL LIMIT 1)";

static const char tablespaces_sql[] = "SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace"
                                      " WHERE pg_tablespace_location(oid) <> '' LIMIT 64";

static size_t read_tablespaces(const struct pg_result *result, struct pgdata_tablespace *list)
{
    size_t count = 0;

    for (int i = 0; i < pg_result_rows(result) && i < PGDATA_TABLESPACES_MAX; i++) {
        list[count].oid = (uint32_t)strtoul(pg_result_value(result, i, 0), NULL, 10);
        snprintf(list[count].path, sizeof list[count].path, "%s", pg_result_value(result, i, 1));
        count++;
    }
    return count;
}

static struct pg_conn *open_source(struct step_run *run)
{
    char port[8];
    const char *keywords[] = {"host", "port", "user", "password", "dbname", "application_name",
                              NULL};
    const char *values[] = {run->upstream.host,
                            port,
                            "ogel_monitor",
                            run->secrets->password[PASSWORD_MONITOR],
                            "postgres",
                            "ogel_clone_preflight",
                            NULL};
    struct pg_outcome outcome;

    snprintf(port, sizeof port, "%u", run->upstream.port);
    return pg_open(&(struct pg_conninfo){keywords, values}, SOURCE_DEADLINE_MS, &outcome,
                   &run->err);
}

static int preflight(struct step_run *run)
{
    const struct agent_options *options = &run->hands->config->options;
    struct pgdata_tablespace *list = xcalloc(PGDATA_TABLESPACES_MAX, sizeof *list);
    struct pg_result *facts = NULL, *spaces = NULL;
    struct pg_conn *conn = open_source(run);
    struct pgdata_source source;
    const char *size;
    int rc = -1;

    if (!conn ||
        pg_exec(conn, SOURCE_DEADLINE_MS, source_sql, 0, NULL, &facts, NULL, &run->err) < 0 ||
        pg_exec(conn, SOURCE_DEADLINE_MS, tablespaces_sql, 0, NULL, &spaces, NULL, &run->err) < 0)
        goto out;
    size = pg_result_value(facts, 0, 0);
    source = (struct pgdata_source){
        .version_num = pg_server_version(conn),
        .size_bytes = size ? strtoull(size, NULL, 10) : 0,
        .shared_preload_libraries = pg_result_value(facts, 0, 1),
        .libc_version = pg_result_value(facts, 0, 2),
        .tablespaces = list,
        .tablespace_count = read_tablespaces(spaces, list),
    };
    rc = pgdata_clone_preflight(options->postgres_bindir, options->data_directory, &source,
                                &run->err);
out:
    pg_result_free(facts);
    pg_result_free(spaces);
    pg_close(conn);
    free(list);
    return rc < 0
               ? err_context(&run->err, "clone from %s:%u", run->upstream.host, run->upstream.port)
               : 0;
}

/* pg_basebackup wants empty directories. */
static int empty_directory(struct step_run *run)
{
    const char *data_directory = run->hands->config->options.data_directory;
    struct pgdata_tablespace *list = xcalloc(PGDATA_TABLESPACES_MAX, sizeof *list);
    size_t count = 0;
    int rc = 0;

    if (!file_exists(data_directory)) {
        free(list);
        return 0;
    }
    if (pgdata_tablespaces(data_directory, list, PGDATA_TABLESPACES_MAX, &count, NULL) < 0)
        count = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        if (file_exists(list[i].path))
            rc = file_remove_contents(list[i].path, &run->err);
    if (rc == 0)
        rc = file_remove_contents(data_directory, &run->err);
    free(list);
    return rc;
}

/* --- starting
 * ------------------------------------------------------------------------------------------ */

/* Between fork and exec: async-signal-safe calls only. */
static void child_exec(const struct command_line *command, int output, pid_t parent)
{
    int null;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setsid();
    null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 ||
        chdir("/") != 0)
        _exit(127);
    proc_child_reset();
    file_lock_inherit(lock_fd);
    if (dup2(1, progress_fd()) < 0)
        _exit(127);
    execve(command->argv[0], command->argv, command->env);
    dprintf(2, "cannot run %s: errno %d\n", command->argv[0], errno);
    _exit(127);
}

static void write_pid_file(const char *state_directory, pid_t pid)
{
    char path[PATH_SIZE], line[64];
    struct proc_stat stat = {0};

    snprintf(path, sizeof path, "%s/child.pid", state_directory);
    (void)proc_stat_read(pid, &stat);
    snprintf(line, sizeof line, "%d %llu\n", (int)pid, (unsigned long long)stat.start_ticks);
    if (file_write_atomic(path, line, strlen(line), 0600, NULL) < 0)
        return; /* the lock tells of it all the same; only its pid is then not known */
}

static int spawn(struct step_run *run, struct command_line *command, enum child kind)
{
    int pipes[2];
    pid_t pid, parent = getpid();

    command_add_env(command, xstrdup("LC_ALL=C"));
    command_add_env(command, xstrdup("PATH=/usr/bin:/bin"));
    if (pipe2(pipes, O_CLOEXEC) != 0)
        return err_set_errno(&run->err, errno, "cannot make a pipe");
    pid = fork();
    if (pid == 0)
        child_exec(command, pipes[1], parent);
    close(pipes[1]);
    if (pid < 0) {
        close(pipes[0]);
        return err_set_errno(&run->err, errno, "cannot fork for %s", command->argv[0]);
    }
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    run->child = (struct child_process){.kind = kind,
                                        .pid = pid,
                                        .pidfd = pidfd_open(pid, 0),
                                        .output = pipes[0],
                                        .data_id = run->step.data_id,
                                        .cluster = run->durable.cluster,
                                        .birth = run->durable.marker == MARKER_RESTORE};
    run->hands->child_pid = pid;
    write_pid_file(run->hands->config->options.state_directory, pid);
    return 0;
}

int child_start(struct step_run *run)
{
    struct command_line command = {.argc = 0};
    enum child kind;
    int rc = -1;

    switch (run->step.kind) {
    case STEP_INITDB:
        kind = CHILD_INITDB;
        rc = empty_directory(run) == 0 ? make_initdb(run, &command) : -1;
        break;
    case STEP_REWIND:
        kind = CHILD_REWIND;
        rc = make_rewind(run, &command);
        break;
    default:
        kind = source_is_none(&run->step.source) ? CHILD_CLONE : CHILD_RESTORE;
        if (kind == CHILD_RESTORE) {
            bool joins = run->durable.marker != MARKER_RESTORE; /* a leader that is there */

            rc = make_restore(run, &command);
            if (rc == 0 && joins)
                rc = preflight(run);
            if (rc == 0)
                rc = empty_directory(run);
            break;
        }
        rc = preflight(run) == 0 && empty_directory(run) == 0 ? make_clone(run, &command) : -1;
        break;
    }
    if (rc == 0)
        rc = spawn(run, &command, kind);
    command_line_free(&command);
    if (rc < 0 && kind == CHILD_RESTORE)
        err_context(&run->err, "restore failed");
    return rc;
}

/* --- ending
 * --------------------------------------------------------------------------------------------- */

/* The children run with --no-sync: one syncfs() instead of an fsync() for each of thousands of
 * files. It fails where anything on the file system could not be written since it was last asked.
 */
static int sync_filesystem(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (syncfs(fd) != 0)
        rc = err_set_errno(err, errno, "cannot sync the file system of %s", path);
    close(fd);
    return rc;
}

static int sync_data(const char *data_directory, struct err *err)
{
    struct pgdata_tablespace *list = xcalloc(PGDATA_TABLESPACES_MAX, sizeof *list);
    char wal[PATH_SIZE];
    size_t count = 0;
    int rc;

    snprintf(wal, sizeof wal, "%s/pg_wal", data_directory);
    rc = pgdata_tablespaces(data_directory, list, PGDATA_TABLESPACES_MAX, &count, err);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = sync_filesystem(list[i].path, err);
    free(list);
    if (rc == 0)
        rc = sync_filesystem(wal, err);
    return rc == 0 ? sync_filesystem(data_directory, err) : rc;
}

/* The archive is the other cluster's, and for a node of this one the rest would be, too. */
static int finish_restore(const char *data_directory, const struct child_process *child,
                          struct err *err)
{
    struct cluster_id from;
    char removed[512];

    if (child->birth)
        return pgdata_auto_conf_forget(data_directory, removed, sizeof removed, err);
    if (pgdata_cluster_read(data_directory, &from, err) < 0)
        return -1;
    if (cluster_id_is_none(&from))
        return err_set(err, ERR_REFUSED,
                       "the snapshot does not say which cluster it is of (it has no "
                       "ogel_cluster_id): take a new one");
    if (!cluster_id_equal(&from, &child->cluster))
        return err_set(
            err, ERR_REFUSED,
            "the snapshot is not of this cluster, though of the same system: one of them "
            "was born of the other");
    return 0;
}

int child_finish(const char *data_directory, const struct child_process *child, struct err *err)
{
    /* the source's own, which a copy brings along; ours live outside of the directory */
    static const char *const foreign[] = {"postmaster.pid", "postmaster.opts", "recovery.signal",
                                          "standby.signal", "promote"};
    char path[PATH_SIZE], removed[512];

    if (child->kind != CHILD_INITDB) {
        for (size_t i = 0; i < OGEL_ARRAY_LEN(foreign); i++) {
            snprintf(path, sizeof path, "%s/%s", data_directory, foreign[i]);
            if (file_remove(path, err) < 0)
                return -1;
        }
        if (pgdata_auto_conf_strip(data_directory, removed, sizeof removed, err) < 0)
            return -1;
    }
    if (child->kind == CHILD_RESTORE && finish_restore(data_directory, child, err) < 0)
        return -1;
    /* pg_basebackup leaves a directory that was there as it is, and Postgres wants it private */
    if (chmod(data_directory, 0700) != 0)
        return err_set_errno(err, errno, "cannot make %s private", data_directory);
    if (pgdata_standby_signal(data_directory, err) < 0 || sync_data(data_directory, err) < 0)
        return -1;
    return pgdata_id_write(data_directory, child->data_id, err);
}

void child_signal(const struct child_process *child, bool hard)
{
    if (child->kind == CHILD_NONE)
        return;
    /* pg_basebackup forks: its group is its session */
    if (kill(-child->pid, hard ? SIGKILL : SIGTERM) != 0)
        (void)pidfd_send_signal(child->pidfd, hard ? SIGKILL : SIGTERM, NULL, 0);
}

static void kill_orphan(const char *state_directory)
{
    char path[PATH_SIZE], *text;
    unsigned long long ticks;
    struct proc_stat stat;
    int pid;

    snprintf(path, sizeof path, "%s/child.pid", state_directory);
    if (file_read(path, 256, &text, NULL, NULL) < 0)
        return;
    if (sscanf(text, "%d %llu", &pid, &ticks) == 2 && pid > 1) {
        /* the leader may be gone while its group lives on: the lock is held by somebody of it */
        if (!proc_stat_read(pid, &stat) || stat.start_ticks == ticks)
            (void)kill(-pid, SIGKILL);
    }
    free(text);
}

int child_end_orphans(const char *state_directory, int64_t timeout_ms, struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    char path[PATH_SIZE];

    snprintf(path, sizeof path, "%s/child.lock", state_directory);
    while (file_lock_acquire(path, &lock_fd, err) < 0) {
        if (err->code != ERR_CONFLICT)
            return -1;
        if (clock_mono_ms() > deadline)
            return err_set(
                err, ERR_TIMEOUT,
                "a pg_basebackup, pg_rewind, initdb or ogelctl of an earlier agent still runs and "
                "holds %s: end it",
                path);
        err_clear(err);
        kill_orphan(state_directory);
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    return 0;
}
