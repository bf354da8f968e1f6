#include "agent/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "agent/pgconf.h"
#include "agent/pgdata.h"
#include "agent/proc.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "base/units.h"
#include "protocol/names.h"
#include "protocol/order.h"

enum {
    CONTROL_TIMEOUT_MS = 10000,
    WAL_END_TIMEOUT_MS = 120000,
    KILL_TIMEOUT_MS = 10000,
    RECEIVERS_MAX = 64,
    RECEIVER_GRACE_MS = 2,
};

static const char *data_directory(const struct step_run *run)
{
    return run->hands->config->options.data_directory;
}

static const char *bindir(const struct step_run *run)
{
    return run->hands->config->options.postgres_bindir;
}

/* --- looking
 * ---------------------------------------------------------------------------------------- */

/* A copy of a primary that nobody has started yet: what its pg_control says is its origin's. */
static bool is_base_backup(const char *datadir)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/backup_label", datadir);
    return access(path, F_OK) == 0;
}

static int look_stopped(struct hands *hands, struct look *look, struct err *err)
{
    const struct agent_options *options = &hands->config->options;
    struct pgdata_control control;

    if (!look->present)
        return 0;
    if (pgdata_control_read(options->postgres_bindir, options->data_directory, CONTROL_TIMEOUT_MS,
                            &control, err) < 0)
        return -1;
    look->system_id = control.system_id;
    look->clean = control.state == PGDATA_STATE_SHUT_DOWN ||
                  control.state == PGDATA_STATE_SHUT_DOWN_RECOVERY;
    look->was_primary = control.state != PGDATA_STATE_ARCHIVE_RECOVERY &&
                        control.state != PGDATA_STATE_SHUT_DOWN_RECOVERY &&
                        !is_base_backup(options->data_directory);
    return 0;
}

static bool started_by_agent(const struct hands *hands, pid_t pid)
{
    char path[PGCONF_PATH_SIZE], title[PROC_TITLE_SIZE];

    return proc_title(pid, title, sizeof title) &&
           strstr(title, pgconf_path(hands->config->options.state_directory, path));
}

/* A server that somebody started by hand waits for no standby and takes any connection. */
static int end_foreign(struct hands *hands, struct look *look, struct err *err)
{
    const struct agent_options *options = &hands->config->options;
    struct postmaster_exit status;

    if (postmaster_send(&look->pm, POSTMASTER_FAST, err) < 0 && err->code != ERR_NOT_FOUND)
        return -1;
    if (postmaster_wait(&look->pm, options->stop_timeout_ms, &status, err) < 0)
        postmaster_release(&look->pm);
    look->found = POSTMASTER_REMAINS;
    return 0;
}

int step_look(struct hands *hands, bool kill_remains, struct look *look, struct err *err)
{
    const struct agent_options *options = &hands->config->options;
    enum pgdata_kind kind;

    memset(look, 0, sizeof *look);
    if (pgdata_inspect(options->data_directory, &kind, NULL, err) < 0)
        return -1;
    if (kind == PGDATA_ABSENT)
        return 0;
    if (postmaster_adopt(options->data_directory, &look->found, &look->pm, err) < 0)
        return -1;
    if (look->found == POSTMASTER_RUNNING && kill_remains &&
        !started_by_agent(hands, look->pm.pid) && end_foreign(hands, look, err) < 0)
        return -1;
    if (look->found == POSTMASTER_REMAINS && kill_remains) {
        if (proc_kill_directory(options->data_directory, options->cgroup, KILL_TIMEOUT_MS, err) < 0)
            return -1;
        look->found = POSTMASTER_NONE;
    }
    if (pgdata_id_read(options->data_directory, &look->data_id, err) < 0) {
        /* a copy that was cut off has its files before what is in them, and pg_control last */
        if (kind == PGDATA_INITIALISED || err->code != ERR_CORRUPT)
            return -1;
        err_clear(err);
    }
    look->present = kind == PGDATA_INITIALISED;
    look->foreign = kind != PGDATA_EMPTY && look->data_id == 0;
    if (look->found == POSTMASTER_RUNNING)
        return 0;
    return look_stopped(hands, look, err);
}

/* --- starting
 * ---------------------------------------------------------------------------------------- */

/* The history file of a lineage, as Postgres writes it. */
static char *history_text(const struct lineage *lineage)
{
    char *text = xstrdup(""), lsn[UNITS_TEXT_SIZE];

    for (uint32_t i = 0; i + 1 < lineage->count; i++) {
        char *longer = xasprintf("%s%u\t%s\togel\n", text, lineage->begin[i].timeline,
                                 units_format_lsn(lineage->begin[i + 1].lsn, lsn));
        free(text);
        text = longer;
    }
    return text;
}

/* The report keeps the newest forks only; the file itself has them all. */
static char *history_fetch(struct step_run *run, uint32_t timeline)
{
    char port[8], user[REPLICATION_NAME_SIZE], sql[64], *text = NULL;
    const struct agent_config *config = run->hands->config;
    const char *keywords[] = {"host", "port", "user", "password", "replication", NULL};
    const char *values[] = {
        run->upstream.host, port, user, run->secrets->password[PASSWORD_REPLICATION], "true", NULL};
    struct pg_result *result = NULL;
    struct pg_outcome outcome;
    struct pg_conn *conn;

    snprintf(port, sizeof port, "%u", run->upstream.port);
    replication_role(user, config->ids[config->self],
                     run->durable.incarnations[config->self].number);
    snprintf(sql, sizeof sql, "TIMELINE_HISTORY %u", timeline);
    conn = pg_open(&(struct pg_conninfo){keywords, values}, STEP_CALL_MS, &outcome, &run->err);
    if (conn && pg_exec(conn, STEP_CALL_MS, sql, 0, NULL, &result, NULL, &run->err) == 0 &&
        pg_result_value(result, 0, 1))
        text = xstrdup(pg_result_value(result, 0, 1));
    pg_result_free(result);
    pg_close(conn);
    return text;
}

static int install_history(struct step_run *run, uint32_t above)
{
    const struct lineage *lineage = &run->leader_lineage;
    uint32_t timeline;
    char *text;
    int rc = -1;

    if (!run->leader_known || lineage->count == 0)
        return 0;
    timeline = lineage->begin[lineage->count - 1].timeline;
    if (timeline <= above || timeline < 2)
        return 0;
    text = lineage->truncated ? history_fetch(run, timeline) : history_text(lineage);
    if (!text)
        return -1;
    if (pgdata_history_install(data_directory(run), timeline, text, &run->err) == 0 &&
        pgdata_history_plant(data_directory(run), above + 1, timeline - 1, &run->err) == 0)
        rc = 0;
    free(text);
    return rc;
}

/* History files above the timeline of the last complete record would send recovery after WAL that
 * is nobody's. Reading where WAL ends takes long and is done only where there is such a file at
 * all. */
static int clean_history(struct step_run *run, const struct pgdata_control *control,
                         uint32_t *above)
{
    uint32_t *timelines = xcalloc(PGDATA_HISTORIES_MAX, sizeof *timelines);
    struct position end;
    size_t count;
    int rc = -1;

    if (pgdata_history_list(data_directory(run), timelines, PGDATA_HISTORIES_MAX, &count,
                            &run->err) < 0)
        goto out;
    *above = control->redo.timeline;
    if (count > 0 && timelines[count - 1] > control->redo.timeline) {
        if (pgdata_wal_end(bindir(run), data_directory(run), WAL_END_TIMEOUT_MS, &end, NULL,
                           &run->err) < 0)
            goto out;
        *above = end.timeline;
        if (pgdata_history_clean(data_directory(run), end.timeline, &run->err) < 0)
            goto out;
    }
    rc = 0;
out:
    free(timelines);
    return rc;
}

/* What is written from here on is this cluster's, and says so wherever it is copied to. */
static int name_cluster(struct step_run *run)
{
    struct cluster_id there;
    struct err damaged = {0};

    if (pgdata_cluster_read(data_directory(run), &there, &damaged) == 0 &&
        cluster_id_equal(&there, &run->durable.cluster))
        return 0;
    return pgdata_cluster_write(data_directory(run), &run->durable.cluster, &run->err);
}

static int start(struct step_run *run)
{
    const struct agent_options *options = &run->hands->config->options;
    char config_file[PGCONF_PATH_SIZE];
    struct postmaster_spec spec = {
        .bindir = options->postgres_bindir,
        .datadir = options->data_directory,
        .config_file = pgconf_path(options->state_directory, config_file),
        .state_dir = options->state_directory,
        .socket_dir = run->hands->config->socket_directory,
        .cgroup = options->cgroup,
        .oom_score_adj = -900,
    };
    struct pgdata_control control;
    char removed[256];
    uint32_t above;
    int rc;

    if (step_look(run->hands, true, &run->look, &run->err) < 0)
        return -1;
    if (run->look.found == POSTMASTER_RUNNING) {
        postmaster_release(&run->look.pm);
        return err_set(&run->err, ERR_CONFLICT, "a server runs in %s already",
                       options->data_directory);
    }
    if (pgdata_control_read(bindir(run), data_directory(run), CONTROL_TIMEOUT_MS, &control,
                            &run->err) < 0)
        return -1;
    run->at_least = control.needs;
    rc = conf_write(run, &run->step.replication);
    run->at_least = NULL;
    if (rc < 0 ||
        pgdata_auto_conf_strip(options->data_directory, removed, sizeof removed, &run->err) < 0 ||
        clean_history(run, &control, &above) < 0)
        return -1;
    if (removed[0])
        snprintf(run->note, sizeof run->note, "taken out of postgresql.auto.conf: %.100s", removed);
    if (run->step.replication.upstream != NODE_NONE && install_history(run, above) < 0)
        return -1;
    if (pgdata_standby_signal(options->data_directory, &run->err) < 0 || name_cluster(run) < 0)
        return -1;
    if (postmaster_start(&spec, &run->look.pm, &run->err) < 0)
        return -1;
    run->hands->server_pid = run->look.pm.pid;
    return 0;
}

/* --- processes
 * --------------------------------------------------------------------------------------- */

static int stop(struct step_run *run)
{
    if (run->pm.pid == 0)
        return 0;
    if (postmaster_send(&run->pm, POSTMASTER_FAST, &run->err) < 0 && run->err.code != ERR_NOT_FOUND)
        return -1;
    return 0;
}

static int kill_all(struct step_run *run)
{
    const struct agent_options *options = &run->hands->config->options;

    /* the postmaster first, through its pidfd: that needs no disk */
    if (run->pm.pid != 0 && postmaster_send(&run->pm, POSTMASTER_KILL, NULL) < 0)
        err_clear(&run->err);
    return proc_kill_directory(options->data_directory, options->cgroup, KILL_TIMEOUT_MS,
                               &run->err);
}

/* A process is signalled only while it is that postmaster's child: its id may have been given away.
 */
static void signal_receiver(pid_t pid, pid_t postmaster, int signo)
{
    int fd = pidfd_open(pid, 0);
    struct proc_stat stat;

    if (fd < 0)
        return;
    if (proc_stat_read(pid, &stat) && stat.ppid == postmaster)
        (void)pidfd_send_signal(fd, signo, NULL, 0);
    close(fd);
}

static bool contains(const pid_t *pids, int count, pid_t pid)
{
    for (int i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

/* Until none is left in the process table, or the deadline. A child whose title is not set yet is
 * most often a client's session: only one that is still there at the next look is signalled. SIGNO
 * 0: just looks. */
static int await_receivers(struct step_run *run, int signo, int64_t timeout_ms)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    pid_t pids[RECEIVERS_MAX], before[RECEIVERS_MAX];
    int count, count_before = 0;

    run->receivers = true;
    for (;;) {
        count = proc_receivers(run->pm.pid, pids, RECEIVERS_MAX);
        if (count < 0)
            return err_set(&run->err, ERR_IO, "cannot list the server's processes");
        run->receivers = count > 0;
        if (count == 0 || clock_mono_ms() >= deadline)
            return 0;
        count = count < RECEIVERS_MAX ? count : RECEIVERS_MAX;
        for (int i = 0; signo != 0 && i < count; i++)
            if (contains(before, count_before, pids[i]))
                signal_receiver(pids[i], run->pm.pid, signo);
        memcpy(before, pids, sizeof before);
        count_before = count;
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
}

/* --- configuration
 * ------------------------------------------------------------------------------------ */

static int reload(struct step_run *run)
{
    if (run->pm.pid == 0)
        return 0;
    if (postmaster_send(&run->pm, POSTMASTER_RELOAD, &run->err) < 0) {
        if (run->err.code != ERR_NOT_FOUND)
            return -1;
        err_clear(&run->err);
    }
    return 0;
}

static int write_replication(struct step_run *run)
{
    if (conf_write(run, &run->step.replication) < 0 || reload(run) < 0)
        return -1;
    /* one that loses its leader goes by itself, and sessions that are being made get their titles
     */
    if (run->step.replication.upstream != NODE_NONE)
        run->receivers = true;
    else if (run->pm.pid != 0 && await_receivers(run, 0, RECEIVER_GRACE_MS) < 0)
        return -1;
    if (run->pg == PG_UP && !run->in_recovery)
        step_nudge(run);
    return 0;
}

static int apply_document(struct step_run *run)
{
    char removed[256];

    if (conf_write(run, &run->replication) < 0 ||
        pgdata_auto_conf_strip(data_directory(run), removed, sizeof removed, &run->err) < 0)
        return -1;
    return reload(run);
}

static int plant(struct step_run *run)
{
    return pgdata_history_plant(data_directory(run), run->record_end.timeline + 1,
                                run->durable.grant.generation - 1, &run->err);
}

/* What a killed server had written stands in the kernel's memory only. A vote that rests on it
 * would not survive a power cut, and this machine would come back as a new one. */
static int flush_wal(struct step_run *run)
{
    char path[PGCONF_PATH_SIZE];
    int fd, rc;

    snprintf(path, sizeof path, "%s/pg_wal", data_directory(run));
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(&run->err, errno, "cannot open %s", path);
    rc = syncfs(fd);
    if (rc != 0)
        rc = err_set_errno(&run->err, errno, "cannot flush %s", path);
    close(fd);
    return rc;
}

/* A position of a stopped directory is one only while nobody runs there. */
static int nobody_runs(struct step_run *run)
{
    struct stat st;
    pid_t pid;

    if (stat(data_directory(run), &st) != 0)
        return err_set_errno(&run->err, errno, "cannot look at %s", data_directory(run));
    if (proc_servers_in_directory(st.st_dev, st.st_ino, &pid, 1) != 0)
        return err_set(&run->err, ERR_CONFLICT, "a server runs in %s", data_directory(run));
    return 0;
}

static int read_position(struct step_run *run)
{
    if (run->pm.pid != 0)
        return step_read_position_online(run);
    if (nobody_runs(run) < 0)
        return -1;
    if (!run->clean && flush_wal(run) < 0)
        return -1;
    if (pgdata_wal_end(bindir(run), data_directory(run), WAL_END_TIMEOUT_MS, &run->end,
                       &run->consistent, &run->err) < 0)
        return -1;
    run->position = run->end;
    run->replay_lsn = run->end.lsn;
    return pgdata_history_read(data_directory(run), run->end.timeline, &run->lineage, &run->err);
}

/* --- the one entry
 * ------------------------------------------------------------------------------------- */

static int execute(struct step_run *run)
{
    switch (run->step.kind) {
    case STEP_PERSIST: return durable_write(run->hands->promise, &run->step.durable, &run->err);
    case STEP_REPLICATION: return write_replication(run);
    case STEP_END_RECEIVERS:
        return await_receivers(run, SIGTERM, run->hands->config->options.receiver_timeout_ms);
    case STEP_KILL_RECEIVERS:
        return await_receivers(run, SIGKILL, run->hands->config->options.receiver_timeout_ms);
    case STEP_CHECKPOINT: return step_checkpoint(run);
    case STEP_STOP: return stop(run);
    case STEP_KILL: return kill_all(run);
    case STEP_START: return start(run);
    case STEP_READ_POSITION: return read_position(run);
    case STEP_UNBLOCK_REPLAY: return step_unblock_replay(run);
    case STEP_PLANT: return plant(run);
    case STEP_CHECK_NAMES: return step_check_names(run);
    case STEP_PROMOTE: return step_promote(run);
    case STEP_ROLES: return step_roles(run);
    case STEP_END_OLD_SENDERS: return step_end_old_senders(run);
    case STEP_INITDB:
    case STEP_REWIND:
    case STEP_CLONE: return child_start(run);
    case STEP_FETCH_DOCUMENT: return document_write(run->hands->document, run->document, &run->err);
    case STEP_APPLY_DOCUMENT: return apply_document(run);
    default: return err_set(&run->err, ERR_INTERNAL, "step %d is not the worker's", run->step.kind);
    }
}

void step_execute(void *arg)
{
    struct step_run *run = arg;

    run->rc = execute(run);
}
