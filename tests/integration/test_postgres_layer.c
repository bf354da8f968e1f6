/*
 * What the agent does to a Postgres on its own machine, against real servers: start, adopt, end;
 * the managed configuration; where WAL ends; history files; the fence's two locks. Each fact about
 * PostgreSQL that this code rests on has its test here.
 *
 * Not as root. OGEL_PG_BINDIR names the server's programs, TMPDIR where to work. Exit status 77:
 * skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/pgconf.h"
#include "agent/pgdata.h"
#include "agent/postmaster.h"
#include "agent/proc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"
#include "tests/unit/tmpdir.h"

enum { DEADLINE_MS = 60000, PATH_SIZE = 512 };

#define SUPERUSER "ogel"
#define ROLE_B    "ogel_b_i1"
#define PASSWORD  "key'of\\b:1"

static const char *bindir;
static char os_user[64];

struct node {
    char name[16];
    char datadir[PATH_SIZE];
    char state_dir[PATH_SIZE];
    char socket_dir[PATH_SIZE];
    char sync_names[256];
    uint16_t port;
    struct pgconf conf;
    struct postmaster pm;
};

static struct node nodes[2]; /* a leads, b follows */

#define check(call)                                                                                \
    do {                                                                                           \
        struct err err_ = {0};                                                                     \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, err_.text);                                                  \
    } while (0)

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Waits for a condition; the deadline only ends a test that has failed. */
#define wait_until(condition)                                                                      \
    do {                                                                                           \
        int64_t deadline_ = clock_mono_ms() + DEADLINE_MS;                                         \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() > deadline_)                                                       \
                fail_msg("did not happen: %s", #condition);                                        \
            pause_ms(5);                                                                           \
        }                                                                                          \
    } while (0)

static void run(const char *const *argv)
{
    struct command_result result;
    check(command_run(argv, DEADLINE_MS, &result, &err_));
    if (result.exit_code != 0)
        fail_msg("%s: %s", argv[0], result.errors);
    command_result_free(&result);
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* --- nodes
 * --------------------------------------------------------------------------------------------- */

static const char *const replication_roles[] = {ROLE_B};

static void node_init(struct node *node, const char *name)
{
    *node = (struct node){.pm = {.pidfd = -1}};
    snprintf(node->name, sizeof node->name, "%s", name);
    snprintf(node->datadir, sizeof node->datadir, "%.200s/%s/data", tmpdir, name);
    snprintf(node->state_dir, sizeof node->state_dir, "%.200s/%s/state", tmpdir, name);
    snprintf(node->socket_dir, sizeof node->socket_dir, "%.200s/%s/s", tmpdir, name);
    node->port = free_port();
    node->conf = (struct pgconf){
        .pg_major = 15,
        .datadir = node->datadir,
        .state_dir = node->state_dir,
        .socket_dir = node->socket_dir,
        .os_user = os_user,
        .disk_total_bytes = UINT64_C(4) << 30,
        .cluster_name = "layer",
        .listen_addresses = "127.0.0.1",
        .port = node->port,
        .superuser = SUPERUSER,
        .monitor_role = "ogel_monitor",
        .rewind_role = "ogel_rewind",
        .replication_group = "ogel_replication",
        .replication_roles = replication_roles,
        .replication_role_count = 1,
    };
    memory_plan_make(UINT64_C(512) << 20, 25, 200, &node->conf.memory);
    check(file_mkdir_p(node->state_dir, 0700, &err_));
}

/* initdb once, copied for each test. */
static char template_dir[PATH_SIZE];

static int group_setup(void **state)
{
    const char *top = getenv("TMPDIR");
    char program[PATH_SIZE];
    (void)state;
    snprintf(template_dir, sizeof template_dir, "%s/ogel-template-XXXXXX",
             top != NULL ? top : "/tmp");
    if (mkdtemp(template_dir) == NULL)
        return -1;
    snprintf(program, sizeof program, "%s/initdb", bindir);
    /* No password at all: peer through the socket is the only way in. */
    const char *argv[] = {program, "-D",        template_dir, "-U",   SUPERUSER,
                          "-k",    "--no-sync", "-A",         "peer", NULL};
    run(argv);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return file_remove_tree(template_dir, NULL);
}

static void node_initdb(struct node *node)
{
    const char *argv[] = {"/bin/cp", "-a", template_dir, node->datadir, NULL};
    run(argv);
}

static void node_configure(struct node *node)
{
    unsigned changed;
    check(pgconf_write(&node->conf, &changed, &err_));
}

static void node_start(struct node *node)
{
    char config[PGCONF_PATH_SIZE];
    struct postmaster_spec spec = {.bindir = bindir,
                                   .datadir = node->datadir,
                                   .config_file = pgconf_path(node->state_dir, config),
                                   .state_dir = node->state_dir,
                                   .socket_dir = node->socket_dir};
    check(postmaster_start(&spec, &node->pm, &err_));
}

static PGconn *try_connect(const struct node *node, const char *more)
{
    char conninfo[PATH_SIZE * 2];
    snprintf(conninfo, sizeof conninfo,
             "host='%s' port=%u user=" SUPERUSER " dbname=postgres connect_timeout=5 %s",
             node->socket_dir, node->port, more);
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) == CONNECTION_OK)
        return conn;
    PQfinish(conn);
    return NULL;
}

static PGconn *node_connect(struct node *node)
{
    PGconn *conn = NULL;
    int64_t deadline = clock_mono_ms() + DEADLINE_MS;
    while ((conn = try_connect(node, "")) == NULL) {
        if (clock_mono_ms() > deadline || postmaster_exited(&node->pm)) {
            char log_dir[PGCONF_PATH_SIZE];
            char cause[POSTMASTER_CAUSE_SIZE];
            struct postmaster_exit status = {0};
            fail_msg("node %s: no connection: %s", node->name,
                     postmaster_describe_exit(&status, node->state_dir,
                                              pgconf_log_dir(node->state_dir, log_dir), cause));
        }
        pause_ms(5);
    }
    return conn;
}

/* First column of the first row, from four buffers in turn. */
static const char *query(PGconn *conn, const char *sql)
{
    static char values[4][256];
    static unsigned turn;
    char *value = values[turn++ % 4];
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    snprintf(value, sizeof values[0], "%s",
             status == PGRES_TUPLES_OK && PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

static const char *node_query(struct node *node, const char *sql)
{
    PGconn *conn = node_connect(node);
    const char *value = query(conn, sql);
    PQfinish(conn);
    return value;
}

static void node_kill(struct node *node)
{
    struct postmaster_exit status;
    check(proc_kill_directory(node->datadir, NULL, DEADLINE_MS, &err_));
    check(postmaster_wait(&node->pm, DEADLINE_MS, &status, &err_));
}

static struct postmaster_exit node_stop(struct node *node)
{
    struct postmaster_exit status;
    check(postmaster_send(&node->pm, POSTMASTER_FAST, &err_));
    check(postmaster_wait(&node->pm, DEADLINE_MS, &status, &err_));
    return status;
}

/* As an agent does it: a standby first, then promoted; acknowledging alone (tests write with
 * local). */
static void node_lead(struct node *node, uint32_t timeline)
{
    uint32_t now;
    node_configure(node);
    check(pgdata_standby_signal(node->datadir, &err_));
    node_start(node);
    PGconn *conn = node_connect(node);
    now = (uint32_t)strtoul(query(conn, "SELECT timeline_id FROM pg_control_checkpoint()"), NULL,
                            10);
    check(pgdata_history_plant(node->datadir, now + 1, timeline - 1, &err_));
    assert_string_equal(query(conn, "SELECT pg_promote()"), "t");
    PQfinish(conn);
}

static const char *const write_some =
    "SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS t (a int, b text);"
    "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i; "
    "SELECT pg_current_wal_insert_lsn()";

/* b as a clone of a, following it. */
static void clone_and_follow(struct node *a, struct node *b)
{
    char program[PATH_SIZE];
    char sql[256];
    PGconn *conn = node_connect(a);
    query(conn, "SET synchronous_commit = local");
    query(conn, "CREATE ROLE ogel_replication");
    char *literal = PQescapeLiteral(conn, PASSWORD, strlen(PASSWORD));
    snprintf(sql, sizeof sql,
             "CREATE ROLE " ROLE_B " LOGIN REPLICATION IN ROLE ogel_replication "
             "PASSWORD %s",
             literal);
    query(conn, sql);
    PQfreemem(literal);
    PQfinish(conn);
    snprintf(program, sizeof program, "%s/pg_basebackup", bindir);
    char port[8];
    snprintf(port, sizeof port, "%u", a->port);
    const char *argv[] = {program,   "-D", b->datadir, "-h", a->socket_dir, "-p",        port, "-U",
                          SUPERUSER, "-c", "fast",     "-X", "stream",      "--no-sync", NULL};
    run(argv);
    b->conf.upstream_host = "127.0.0.1";
    b->conf.upstream_port = a->port;
    b->conf.upstream_user = ROLE_B;
    b->conf.application_name = "ogel_b_i1_g2";
    node_configure(b);
    check(pgconf_passfile_write(b->state_dir, ROLE_B, PASSWORD, &err_));
    check(pgdata_standby_signal(b->datadir, &err_));
    node_start(b);
}

/* How often the node's log says so. */
static long log_count(struct node *node, const char *text)
{
    char command[PATH_SIZE + 256];
    struct command_result result;
    snprintf(command, sizeof command, "grep -hs '%s' '%s'/log/* | wc -l", text, node->state_dir);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    check(command_run(argv, DEADLINE_MS, &result, &err_));
    long count = strtol(result.output, NULL, 10);
    command_result_free(&result);
    return count;
}

static bool streams(struct node *a)
{
    return strcmp(node_query(a,
                             "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                             "AND application_name = 'ogel_b_i1_g2'"),
                  "1") == 0;
}

/* --- fixture
 * --------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    if (tmpdir_make(state) != 0)
        return -1;
    node_init(&nodes[0], "a");
    node_init(&nodes[1], "b");
    node_initdb(&nodes[0]);
    return 0;
}

/* By what lives in the directories, so that a failed test leaves nothing either. */
static int teardown(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct postmaster_exit status;
        if (proc_kill_directory(nodes[i].datadir, NULL, DEADLINE_MS, NULL) != 0)
            fprintf(stderr, "node %s: left running\n", nodes[i].name);
        if (nodes[i].pm.pid != 0 && postmaster_wait(&nodes[i].pm, 1000, &status, NULL) != 0)
            fprintf(stderr, "node %s: not collected\n", nodes[i].name);
    }
    proc_reap_orphans(NULL, 0);
    return tmpdir_remove(state);
}

/* --- configuration
 * ----------------------------------------------------------------------------------------- */

static void test_pgconf__server_started_with_it__shows_every_setting_as_written(void **state)
{
    struct node *a = &nodes[0];
    const char *value = "%m [%p] %b it's a \\ \"test\" ";
    const struct pgconf_setting settings[] = {
        {"work_mem", "5MB"},
        {"log_line_prefix", value},
        {"fsync", "off"},
        {"max_wal_senders", "12"},
    };
    (void)state;
    a->conf.settings = settings;
    a->conf.setting_count = 4;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    assert_string_equal(
        query(conn, "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL"), "0");
    assert_string_equal(
        query(conn, "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL"), "0");
    assert_string_equal(
        query(conn, "SELECT count(*) FROM pg_ident_file_mappings WHERE error IS NOT NULL"), "0");
    assert_string_equal(query(conn, "SELECT count(*) FROM pg_settings WHERE pending_restart"), "0");
    assert_string_equal(query(conn, "SHOW work_mem"), "5MB");
    assert_string_equal(query(conn, "SHOW log_line_prefix"), value);
    assert_string_equal(query(conn, "SHOW fsync"), "on");
    assert_string_equal(query(conn, "SHOW max_wal_senders"), "12");
    assert_string_equal(query(conn, "SHOW synchronous_standby_names"), PGCONF_NOBODY);
    assert_string_equal(query(conn, "SHOW synchronous_commit"), "remote_apply");
    assert_string_equal(query(conn, "SHOW wal_retrieve_retry_interval"), "20ms");
    assert_string_equal(query(conn, "SHOW unix_socket_directories"), a->socket_dir);
    assert_string_equal(query(conn, "SHOW restart_after_crash"), "off");
    assert_string_equal(query(conn, "SHOW data_checksums"), "on");
    PQfinish(conn);
}

static void test_pgconf_check__value_postgres_would_not_start_with__is_refused_with_its_words(
    void **state)
{
    struct node *a = &nodes[0];
    struct pgconf_setting setting = {"work_mem", "plenty"};
    struct err err = {0};
    (void)state;
    node_configure(a);
    a->conf.settings = &setting;
    a->conf.setting_count = 1;
    assert_int_equal(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "work_mem"));
    setting = (struct pgconf_setting){"no_such_setting", "1"};
    assert_int_equal(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err), -1);
    assert_non_null(strstr(err.text, "no_such_setting"));
    setting = (struct pgconf_setting){"shared_preload_libraries", "no_such_library"};
    assert_int_equal(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err), -1);
    assert_non_null(strstr(err.text, "no_such_library"));
    setting = (struct pgconf_setting){"superuser_reserved_connections", "200"};
    assert_int_equal(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err), -1);
    assert_non_null(strstr(err.text, "max_connections"));
    setting = (struct pgconf_setting){"work_mem", "6MB"};
    check(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err_));
}

static void test_auto_conf__reserved_names__are_stripped_and_the_rest_stays_in_force(void **state)
{
    struct node *a = &nodes[0];
    char removed[256];
    (void)state;
    node_lead(a, 2);
    PGconn *conn = node_connect(a);
    query(conn, "ALTER SYSTEM SET synchronous_standby_names = ''");
    query(conn, "ALTER SYSTEM SET work_mem = '7MB'");
    query(conn, "ALTER SYSTEM SET log_line_prefix = 'it''s # = \\ '");
    /* postgresql.auto.conf overrides what is included: without the stripping N would be gone. */
    query(conn, "SELECT pg_reload_conf()");
    PQfinish(conn);
    wait_until(strcmp(node_query(a, "SHOW synchronous_standby_names"), "") == 0);
    check(pgdata_auto_conf_strip(a->datadir, removed, sizeof removed, &err_));
    assert_string_equal(removed, "synchronous_standby_names");
    check(postmaster_send(&a->pm, POSTMASTER_RELOAD, &err_));
    wait_until(strcmp(node_query(a, "SHOW synchronous_standby_names"), PGCONF_NOBODY) == 0);
    assert_string_equal(node_query(a, "SHOW work_mem"), "7MB");
    assert_string_equal(node_query(a, "SHOW log_line_prefix"), "it's # = \\ ");
    check(pgdata_auto_conf_strip(a->datadir, removed, sizeof removed, &err_));
    assert_string_equal(removed, "");
}

/* --- process
 * -------------------------------------------------------------------------------------------------
 */

static void test_start__environment__has_its_own_home_and_no_pg_variables(void **state)
{
    struct node *a = &nodes[0];
    char path[64], home[PATH_SIZE + 16], *env = NULL;
    size_t size = 0;
    (void)state;
    setenv("PGPASSFILE", "/somewhere", 1);
    setenv("NOTIFY_SOCKET", "/nowhere", 1);
    setenv("OGEL_TEST_KEPT", "yes", 1);
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    unsetenv("PGPASSFILE");
    unsetenv("NOTIFY_SOCKET");
    PQfinish(node_connect(a));
    snprintf(path, sizeof path, "/proc/%d/environ", a->pm.pid);
    check(file_read(path, 65536, &env, &size, &err_));
    bool kept = false, own_home = false;
    snprintf(home, sizeof home, "HOME=%s/home", a->state_dir);
    for (char *entry = env; entry < env + size; entry += strlen(entry) + 1) {
        assert_true(strncmp(entry, "PG", 2) != 0 || strncmp(entry, "PG_OOM_", 7) == 0);
        assert_true(strncmp(entry, "NOTIFY_", 7) != 0);
        kept = kept || strcmp(entry, "OGEL_TEST_KEPT=yes") == 0;
        own_home = own_home || strcmp(entry, home) == 0;
    }
    assert_true(kept);
    assert_true(own_home);
    assert_int_not_equal(getsid(a->pm.pid), getsid(0));
    free(env);
}

static void test_start__missing_program__is_an_error_that_names_it(void **state)
{
    struct node *a = &nodes[0];
    struct postmaster_spec spec = {.bindir = "/nowhere",
                                   .datadir = a->datadir,
                                   .config_file = "/x",
                                   .state_dir = a->state_dir};
    struct err err = {0};
    (void)state;
    assert_int_equal(postmaster_start(&spec, &a->pm, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere/postgres"));
    assert_int_equal(a->pm.pid, 0);
}

static void test_start__configuration_postgres_refuses__is_told_as_the_cause(void **state)
{
    struct node *a = &nodes[0];
    struct pgconf_setting setting = {"work_mem", "plenty"};
    struct postmaster_exit status;
    char log_dir[PGCONF_PATH_SIZE], cause[POSTMASTER_CAUSE_SIZE];
    (void)state;
    a->conf.settings = &setting;
    a->conf.setting_count = 1;
    node_configure(a);
    node_start(a);
    check(postmaster_wait(&a->pm, DEADLINE_MS, &status, &err_));
    assert_true(status.known);
    assert_int_equal(status.code, 1);
    postmaster_describe_exit(&status, a->state_dir, pgconf_log_dir(a->state_dir, log_dir), cause);
    assert_non_null(strstr(cause, "exited with code 1"));
    assert_non_null(strstr(cause, "FATAL:  configuration file"));
}

static void test_exit__killed_backend__ends_the_server_and_is_told_as_the_cause(void **state)
{
    struct node *a = &nodes[0];
    struct postmaster_exit status;
    char log_dir[PGCONF_PATH_SIZE], cause[POSTMASTER_CAUSE_SIZE];
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    kill(PQbackendPID(conn), SIGKILL);
    check(postmaster_wait(&a->pm, DEADLINE_MS, &status, &err_));
    PQfinish(conn);
    assert_true(status.known);
    assert_int_equal(status.code, 1);
    postmaster_describe_exit(&status, a->state_dir, pgconf_log_dir(a->state_dir, log_dir), cause);
    assert_non_null(strstr(cause, "was terminated by signal 9"));
}

static void test_adopt__running_server__is_found_and_its_end_is_seen(void **state)
{
    struct node *a = &nodes[0];
    struct postmaster adopted;
    struct postmaster_exit status;
    enum postmaster_found found;
    (void)state;
    check(postmaster_adopt(a->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_NONE);
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PQfinish(node_connect(a));
    check(postmaster_adopt(a->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_RUNNING);
    assert_int_equal(adopted.pid, a->pm.pid);
    assert_true(adopted.start_ticks == a->pm.start_ticks);
    assert_false(postmaster_exited(&adopted));
    node_stop(a);
    assert_true(postmaster_exited(&adopted));
    check(postmaster_wait(&adopted, DEADLINE_MS, &status, &err_));
    assert_false(status.known);
}

static pid_t start_bystander(const char *dir)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (chdir(dir) == 0)
            execl("/bin/sleep", "postgres", "600", (char *)NULL);
        _exit(1);
    }
    char path[PATH_SIZE];
    wait_until(proc_executable(pid, path, sizeof path) && strstr(path, "sleep") != NULL);
    return pid;
}

static void end_bystander(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void test_adopt__stale_pid_file_naming_another_process__is_not_believed(void **state)
{
    struct node *a = &nodes[0];
    struct postmaster adopted;
    enum postmaster_found found;
    char path[PATH_SIZE + 32], text[PATH_SIZE + 64];
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    /* Of the same user, even in the same directory: a shell that somebody has open there. */
    pid_t bystander = start_bystander(a->datadir);
    snprintf(path, sizeof path, "%s/postmaster.pid", a->datadir);
    int length = snprintf(text, sizeof text, "%d\n%s\n1\n%u\n%s\n", bystander, a->datadir, a->port,
                          a->socket_dir);
    check(file_write_atomic(path, text, (size_t)length, 0600, &err_));
    check(postmaster_adopt(a->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_NONE);
    /* Postgres itself would refuse: "lock file already exists". */
    node_start(a);
    PQfinish(node_connect(a));
    assert_int_equal(waitpid(bystander, NULL, WNOHANG), 0);
    end_bystander(bystander);
}

static void test_adopt__pid_file_naming_another_server__is_not_believed(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    struct postmaster adopted;
    enum postmaster_found found;
    char from[PATH_SIZE + 32], to[PATH_SIZE + 32];
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PQfinish(node_connect(a));
    check(file_mkdir_p(b->datadir, 0700, &err_));
    snprintf(from, sizeof from, "%s/postmaster.pid", a->datadir);
    snprintf(to, sizeof to, "%s/postmaster.pid", b->datadir);
    const char *argv[] = {"/bin/cp", from, to, NULL};
    run(argv);
    check(postmaster_adopt(b->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_NONE);
}

static void test_adopt__backends_that_outlive_their_postmaster__are_remains_until_killed(
    void **state)
{
    struct node *a = &nodes[0];
    struct postmaster adopted;
    struct postmaster_exit status;
    enum postmaster_found found;
    struct err err = {0};
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    pid_t backend = PQbackendPID(conn);
    kill(backend, SIGSTOP);
    check(postmaster_send(&a->pm, POSTMASTER_KILL, &err_));
    check(postmaster_wait(&a->pm, DEADLINE_MS, &status, &err_));
    assert_int_equal(status.signal, SIGKILL);
    check(postmaster_adopt(a->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_REMAINS);
    assert_int_equal(postmaster_file_remove_stale(a->datadir, a->socket_dir, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    check(proc_kill_directory(a->datadir, NULL, DEADLINE_MS, &err_));
    PQfinish(conn);
    check(postmaster_adopt(a->datadir, &found, &adopted, &err_));
    assert_int_equal(found, POSTMASTER_NONE);
    check(postmaster_file_remove_stale(a->datadir, a->socket_dir, &err_));
}

static void test_start__zombie_of_the_last_postmaster__does_not_block(void **state)
{
    struct node *a = &nodes[0];
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PQfinish(node_connect(a));
    pid_t old = a->pm.pid;
    check(proc_kill_directory(a->datadir, NULL, DEADLINE_MS, &err_));
    /* Not collected yet: kill(old, 0) still succeeds, and Postgres would believe its lock file. */
    assert_int_equal(kill(old, 0), 0);
    postmaster_release(&a->pm);
    node_start(a);
    PQfinish(node_connect(a));
    assert_int_equal(waitpid(old, NULL, 0), old);
}

/* --- the fence
 * ------------------------------------------------------------------------------------------------
 */

static void test_fence__key_taken_and_receiver_ended__no_receiver_comes_back(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    pid_t pids[16];
    unsigned changed;
    (void)state;
    node_lead(a, 2);
    clone_and_follow(a, b);
    PQfinish(node_connect(b));
    wait_until(streams(a));
    /* A child that was forked just now counts for a moment. */
    wait_until(proc_receivers(b->pm.pid, pids, 16) == 1);
    wait_until(proc_receivers(a->pm.pid, pids, 16) == 0);

    /* Only the key: the receiver that runs goes on; once it is gone none can authenticate, although
     * the server still knows its upstream and tries every 20 ms. */
    check(pgconf_passfile_write(b->state_dir, NULL, NULL, &err_));
    wait_until(proc_receivers(b->pm.pid, pids, 16) == 1);
    pid_t first = pids[0];
    kill(first, SIGTERM);
    wait_until(log_count(b, "no password supplied") >= 3);
    assert_false(streams(a));

    /* The upstream too: then there is no process that could try. */
    b->conf.upstream_host = NULL;
    check(pgconf_write_dynamic(&b->conf, &changed, &err_));
    assert_int_equal(changed, PGCONF_CHANGED_DYNAMIC);
    check(postmaster_send(&b->pm, POSTMASTER_RELOAD, &err_));
    wait_until(strcmp(node_query(b, "SHOW primary_conninfo"), "") == 0);
    wait_until(proc_receivers(b->pm.pid, pids, 16) == 0);

    /* And back. */
    b->conf.upstream_host = "127.0.0.1";
    check(pgconf_passfile_write(b->state_dir, ROLE_B, PASSWORD, &err_));
    check(pgconf_write_dynamic(&b->conf, &changed, &err_));
    check(postmaster_send(&b->pm, POSTMASTER_RELOAD, &err_));
    wait_until(streams(a));
}

static void test_access__role_not_listed__cannot_replicate_even_with_a_rule_for_all(void **state)
{
    struct node *a = &nodes[0];
    const char *const hba[] = {"host all all 127.0.0.1/32 trust", "host replication all all trust"};
    static const char *const none[] = {"ogel_b_i2"};
    static const char *const modes[] = {"replication=true", "replication=database dbname=postgres",
                                        ""};
    (void)state;
    a->conf.hba = hba;
    a->conf.hba_count = 2;
    a->conf.replication_roles = none; /* incarnation 1 was replaced */
    node_lead(a, 2);
    PGconn *conn = node_connect(a);
    query(conn, "SET synchronous_commit = local");
    query(conn, "CREATE ROLE ogel_replication");
    query(conn, "CREATE ROLE " ROLE_B " LOGIN REPLICATION IN ROLE ogel_replication");
    query(conn, "CREATE ROLE app LOGIN REPLICATION");
    PQfinish(conn);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(modes); i++) {
        char conninfo[256];
        snprintf(conninfo, sizeof conninfo,
                 "host=127.0.0.1 port=%u user=" ROLE_B " dbname=postgres %s", a->port, modes[i]);
        conn = PQconnectdb(conninfo);
        assert_int_equal(PQstatus(conn), CONNECTION_BAD);
        assert_non_null(strstr(PQerrorMessage(conn), "pg_hba.conf rejects"));
        PQfinish(conn);
    }
    char conninfo[256];
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=app dbname=postgres", a->port);
    conn = PQconnectdb(conninfo); /* the user's own rule works, */
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    PQfinish(conn);
    strcat(conninfo, " replication=true"); /* and admits no replication */
    conn = PQconnectdb(conninfo);
    assert_int_equal(PQstatus(conn), CONNECTION_BAD);
    PQfinish(conn);
}

static void test_receivers__title_updates_off__are_seen_all_the_same(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    const struct pgconf_setting setting = {"update_process_title", "off"};
    pid_t pids[16];
    (void)state;
    node_lead(a, 2);
    b->conf.settings = &setting;
    b->conf.setting_count = 1;
    clone_and_follow(a, b);
    PQfinish(node_connect(b));
    wait_until(streams(a));
    wait_until(proc_receivers(b->pm.pid, pids, 16) == 1);
}

/* --- where WAL ends
 * ---------------------------------------------------------------------------------------------- */

/* What the server itself finds: started as a standby without upstream it replays to the end, and
 * IDENTIFY_SYSTEM names timeline and end. */
static struct position server_end(struct node *node)
{
    struct position end = {0};
    node->conf.upstream_host = NULL;
    node_configure(node);
    check(pgdata_standby_signal(node->datadir, &err_));
    node_start(node);
    PQfinish(node_connect(node));
    /* The startup process waits for more WAL only at the very end. */
    wait_until(
        strcmp(node_query(
                   node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'startup' AND "
                         "wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream')"),
               "1") == 0);
    PGconn *conn = try_connect(node, "replication=true");
    assert_non_null(conn);
    PGresult *result = PQexec(conn, "IDENTIFY_SYSTEM");
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    end.timeline = (uint32_t)strtoul(PQgetvalue(result, 0, 1), NULL, 10);
    check(units_parse_lsn(PQgetvalue(result, 0, 2), &end.lsn, &err_));
    PQclear(result);
    PQfinish(conn);
    node_kill(node);
    return end;
}

static struct position wal_end(struct node *node)
{
    struct position end;
    check(pgdata_wal_end(bindir, node->datadir, DEADLINE_MS, &end, &err_));
    return end;
}

static uint64_t as_lsn(const char *text)
{
    uint64_t lsn = 0;
    check(units_parse_lsn(text, &lsn, &err_));
    return lsn;
}

static void assert_end(struct node *node, uint32_t timeline, uint64_t at_least)
{
    struct position mine = wal_end(node);
    assert_int_equal(mine.timeline, timeline);
    assert_true(mine.lsn >= at_least);
    struct position theirs = server_end(node);
    assert_int_equal(mine.timeline, theirs.timeline);
    if (mine.lsn != theirs.lsn)
        fail_msg("node %s: WAL ends at %" PRIX64 ", the server says %" PRIX64, node->name, mine.lsn,
                 theirs.lsn);
}

static void test_wal_end__clean_shutdown__is_the_end_of_the_shutdown_checkpoint(void **state)
{
    struct node *a = &nodes[0];
    struct pgdata_control control;
    (void)state;
    node_lead(a, 2);
    node_query(a, write_some);
    node_query(a, "CHECKPOINT");
    assert_int_equal(node_stop(a).code, 0);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    assert_int_equal(control.state, PGDATA_STATE_SHUT_DOWN);
    assert_true(control.checksums && control.wal_log_hints);
    struct position end = wal_end(a);
    assert_true(end.lsn > control.checkpoint.lsn && end.lsn - control.checkpoint.lsn < 256);
    assert_end(a, 2, control.checkpoint.lsn);
}

static void test_wal_end__killed_while_it_writes__is_what_recovery_finds(void **state)
{
    struct node *a = &nodes[0];
    (void)state;
    node_lead(a, 2);
    uint64_t written = as_lsn(node_query(a, write_some));
    PGconn *conn = node_connect(a);
    assert_int_equal(PQsendQuery(conn,
                                 "SET synchronous_commit = off; INSERT INTO t SELECT i, 'x' FROM "
                                 "generate_series(1, 100000000) i"),
                     1);
    wait_until(as_lsn(node_query(a, "SELECT pg_current_wal_flush_lsn()")) >
               written + (UINT64_C(40) << 20));
    node_kill(a);
    PQfinish(conn);
    assert_end(a, 2, written + (UINT64_C(40) << 20));
}

static void test_wal_end__segment_just_switched__is_its_end(void **state)
{
    struct node *a = &nodes[0];
    struct pgdata_control control;
    (void)state;
    node_lead(a, 2);
    node_query(a, write_some);
    node_query(a, "SELECT pg_switch_wal()");
    node_kill(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    struct position end = wal_end(a);
    assert_int_equal(end.timeline, 2);
    assert_int_equal(end.lsn % control.wal_segment_bytes, 0);
}

static void
test_wal_end__killed_right_after_promotion__is_on_the_new_timeline_that_pg_control_does_not_name(
    void **state)
{
    struct node *a = &nodes[0];
    struct pgdata_control control;
    (void)state;
    /* fast promotion asks for a checkpoint and does not wait for it; a throttled one takes long */
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    pid_t checkpointer = (pid_t)atoi(
        query(conn, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"));
    check(pgdata_history_plant(a->datadir, 2, 4, &err_));
    kill(checkpointer, SIGSTOP);
    assert_string_equal(query(conn, "SELECT pg_promote(true)"), "t");
    PQfinish(conn);
    node_query(a, "SET synchronous_commit = local; CREATE TABLE promoted ()");
    node_kill(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    assert_int_equal(control.redo.timeline, 1);
    assert_end(a, 5, control.redo.lsn);
}

static void
test_wal_end__old_segment_renamed_by_archiving__is_found_through_its_copy_on_the_new_timeline(
    void **state)
{
    struct node *a = &nodes[0];
    const struct pgconf_setting settings[] = {{"archive_mode", "on"}, {"archive_command", "true"}};
    struct pgdata_control control;
    char path[PATH_SIZE + 64];
    (void)state;
    a->conf.settings = settings;
    a->conf.setting_count = 2;
    node_lead(a, 2);
    node_query(a, "CHECKPOINT");
    /* Several segments past the redo point, and an end in the middle of one. */
    node_query(
        a, "SET synchronous_commit = local; CREATE TABLE big AS SELECT i, repeat('x', 100) FROM "
           "generate_series(1, 400000) i");
    node_kill(a);
    struct position before = wal_end(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    kill((pid_t)atoi(
             query(conn, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")),
         SIGSTOP);
    assert_string_equal(query(conn, "SELECT pg_promote(true)"), "t");
    PQfinish(conn);
    uint64_t written = as_lsn(node_query(a, write_some));
    node_kill(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    assert_int_equal(control.redo.timeline, 2);
    assert_true(before.lsn - control.redo.lsn > control.wal_segment_bytes);
    snprintf(path, sizeof path, "%s/pg_wal/00000002%08X%08X.partial", a->datadir, 0,
             (unsigned)(before.lsn / control.wal_segment_bytes));
    assert_true(file_exists(path));
    assert_end(a, 3, written);
}

static void
test_wal_end__history_of_a_leader_that_forked_earlier__changes_nothing_without_its_records(
    void **state)
{
    struct node *a = &nodes[0];
    struct lineage lineage;
    struct pgdata_control control;
    char text[128], lsn[UNITS_TEXT_SIZE];
    (void)state;
    node_lead(a, 2);
    node_query(a, "CHECKPOINT");
    node_query(a, write_some);
    node_kill(a);
    struct position before = wal_end(a);
    check(pgdata_history_read(a->datadir, 2, &lineage, &err_));
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    int length = snprintf(text, sizeof text, "1\t%s\tx\n",
                          units_format_lsn(lineage.begin[1].lsn, lsn));
    snprintf(text + length, sizeof text - (size_t)length, "2\t%s\tx\n",
             units_format_lsn(control.checkpoint.lsn, lsn));
    check(pgdata_history_install(a->datadir, 3, text, &err_));
    struct position after = wal_end(a);
    assert_int_equal(after.timeline, 2);
    assert_true(after.lsn == before.lsn);
}

static void test_wal_end__rewound_node__holds_what_pg_rewind_copied_of_the_leader(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    struct lineage lineage;
    char program[PATH_SIZE], source[PATH_SIZE * 2];
    (void)state;
    node_lead(a, 2);
    clone_and_follow(a, b);
    PQfinish(node_connect(b));
    wait_until(streams(a));
    node_kill(b);
    node_query(a, write_some); /* only here */
    node_kill(a);
    b->conf.upstream_host = NULL;
    node_lead(b, 3);
    node_query(b, write_some);
    node_query(b, "CHECKPOINT");
    /* Replayed to its end and stopped cleanly first: the rewind's own crash recovery refuses a
     * standby. */
    struct position diverged = server_end(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PQfinish(node_connect(a));
    node_stop(a);
    snprintf(program, sizeof program, "%s/pg_rewind", bindir);
    snprintf(source, sizeof source, "host='%s' port=%u user=" SUPERUSER " dbname=postgres",
             b->socket_dir, b->port);
    const char *argv[] = {
        program, "-D", a->datadir, "--source-server", source, "--no-ensure-shutdown", NULL};
    run(argv);
    check(pgdata_history_read(b->datadir, 3, &lineage, &err_));
    struct position end = wal_end(a);
    assert_int_equal(diverged.timeline, 2);
    assert_true(diverged.lsn > lineage.begin[lineage.count - 1].lsn);
    assert_int_equal(end.timeline, 3);
    assert_true(end.lsn > lineage.begin[lineage.count - 1].lsn);
}

static void test_start__reload_before_it_has_handlers__does_not_end_it(void **state)
{
    struct node *a = &nodes[0];
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    check(postmaster_send(&a->pm, POSTMASTER_RELOAD, &err_));
    PQfinish(node_connect(a));
    assert_int_equal(node_stop(a).code, 0);
}

static void test_wal_end__history_and_segment_but_no_record_of_the_new_timeline__is_on_the_old_one(
    void **state)
{
    struct node *a = &nodes[0];
    struct position before, fork;
    struct lineage lineage;
    char from[PATH_SIZE + 64], to[PATH_SIZE + 64], text[128], lsn[UNITS_TEXT_SIZE];
    (void)state;
    node_lead(a, 2);
    node_query(a, write_some);
    node_kill(a);
    before = wal_end(a);
    /* As a promotion leaves it that dies before its first record: history file, and the old
     * segment's copy. */
    check(pgdata_history_read(a->datadir, 2, &lineage, &err_));
    int length = snprintf(text, sizeof text, "1\t%s\tx\n",
                          units_format_lsn(lineage.begin[1].lsn, lsn));
    snprintf(text + length, sizeof text - (size_t)length, "2\t%s\tx\n",
             units_format_lsn(before.lsn, lsn));
    check(pgdata_history_install(a->datadir, 3, text, &err_));
    uint64_t segment = before.lsn / (16 << 20);
    snprintf(from, sizeof from, "%s/pg_wal/00000002%08X%08X", a->datadir, 0, (unsigned)segment);
    snprintf(to, sizeof to, "%s/pg_wal/00000003%08X%08X", a->datadir, 0, (unsigned)segment);
    const char *argv[] = {"/bin/cp", from, to, NULL};
    run(argv);
    fork = wal_end(a);
    assert_int_equal(fork.timeline, 2);
    assert_true(fork.lsn == before.lsn);
    /* What the agent does before every start. */
    check(pgdata_history_clean(a->datadir, fork.timeline, &err_));
    assert_int_equal(unlink(to), 0);
    assert_end(a, 2, before.lsn);
}

static void test_wal_end__standby_stopped_in_mid_stream__is_the_last_complete_record_it_got(
    void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    (void)state;
    node_lead(a, 2);
    clone_and_follow(a, b);
    PQfinish(node_connect(b));
    wait_until(streams(a));
    PGconn *conn = node_connect(a);
    uint64_t written = as_lsn(query(conn, write_some));
    assert_int_equal(
        PQsendQuery(conn,
                    "SET synchronous_commit = off; INSERT INTO t SELECT i, repeat('y', 500) FROM "
                    "generate_series(1, 100000000) i"),
        1);
    wait_until(as_lsn(node_query(b, "SELECT coalesce(pg_last_wal_receive_lsn(), '0/0')")) >
               written + (UINT64_C(20) << 20));
    node_kill(b);
    node_kill(a);
    PQfinish(conn);
    assert_end(b, 2, written + (UINT64_C(20) << 20));
    /* Cleanly stopped as a standby: the same end, nothing is written by a shutdown. */
    struct position before = wal_end(b);
    check(pgdata_standby_signal(b->datadir, &err_));
    node_start(b);
    PQfinish(node_connect(b));
    node_stop(b);
    struct position after = wal_end(b);
    assert_int_equal(after.timeline, before.timeline);
    assert_true(after.lsn == before.lsn);
}

static void test_wal_end__standby_that_followed_a_switch__is_on_the_leaders_timeline(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    struct pgdata_control control;
    char *history = NULL;
    (void)state;
    node_lead(a, 2);
    clone_and_follow(a, b);
    PQfinish(node_connect(b));
    wait_until(streams(a));
    /* a stops cleanly, comes back as a standby of nobody, and is promoted to 5. */
    node_query(a, write_some);
    node_stop(a);
    node_lead(a, 5);
    uint64_t written = as_lsn(node_query(a, write_some));
    wait_until(streams(a));
    wait_until(as_lsn(node_query(b, "SELECT pg_last_wal_replay_lsn()")) >= written);
    node_kill(b);
    check(pgdata_control_read(bindir, b->datadir, DEADLINE_MS, &control, &err_));
    assert_int_equal(control.redo.timeline, 2);
    check(pgdata_history_text(b->datadir, 5, &history, &err_));
    free(history);
    assert_end(b, 5, written);
}

static void test_wal_end__fresh_clone_never_started__begins_at_its_backup_label(void **state)
{
    struct node *a = &nodes[0];
    struct node *b = &nodes[1];
    (void)state;
    node_lead(a, 2);
    uint64_t written = as_lsn(node_query(a, write_some));
    clone_and_follow(a, b);
    node_kill(b);
    struct position end = wal_end(b);
    assert_int_equal(end.timeline, 2);
    assert_true(end.lsn > written);
}

static void test_wal_end__segment_missing_in_between__is_an_error_and_no_position(void **state)
{
    struct node *a = &nodes[0];
    struct position end;
    struct pgdata_control control;
    struct err err = {0};
    char path[PATH_SIZE + 64];
    (void)state;
    node_lead(a, 2);
    node_query(a, "CHECKPOINT");
    node_kill(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    snprintf(path, sizeof path, "%s/pg_wal/00000002%08X%08X", a->datadir, 0,
             (unsigned)(control.redo.lsn / control.wal_segment_bytes));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pgdata_wal_end(bindir, a->datadir, DEADLINE_MS, &end, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(end.timeline, 0);
}

/* --- history files
 * -----------------------------------------------------------------------------------------------
 */

static void test_history__placeholders_for_skipped_generations__let_a_promotion_take_its_generation(
    void **state)
{
    struct node *a = &nodes[0];
    struct lineage lineage;
    uint32_t list[16];
    size_t count;
    (void)state;
    node_lead(a, 7);
    assert_string_equal(node_query(a, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"),
                        "00000007");
    check(pgdata_history_read(a->datadir, 7, &lineage, &err_));
    assert_int_equal(lineage.count, 2);
    assert_int_equal(lineage.begin[0].timeline, 1);
    assert_int_equal(lineage.begin[1].timeline, 7);
    check(pgdata_history_list(a->datadir, list, 16, &count, &err_));
    assert_int_equal(count, 6);
    /* Followers fetch each one and attach. */
    clone_and_follow(a, &nodes[1]);
    PQfinish(node_connect(&nodes[1]));
    wait_until(streams(a));
}

static void test_history__left_over_placeholder_above_the_wal__is_poison_and_cleaned(void **state)
{
    struct node *a = &nodes[0];
    (void)state;
    node_lead(a, 2);
    node_query(a, write_some);
    node_stop(a);
    check(pgdata_history_plant(a->datadir, 3, 4, &err_));
    struct position end = wal_end(a);
    assert_int_equal(end.timeline, 2);
    check(pgdata_history_clean(a->datadir, end.timeline, &err_));
    assert_end(a, 2, end.lsn);
}

int main(void)
{
#define LAYER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        LAYER_TEST(test_pgconf__server_started_with_it__shows_every_setting_as_written),
        LAYER_TEST(
            test_pgconf_check__value_postgres_would_not_start_with__is_refused_with_its_words),
        LAYER_TEST(test_auto_conf__reserved_names__are_stripped_and_the_rest_stays_in_force),
        LAYER_TEST(test_start__environment__has_its_own_home_and_no_pg_variables),
        LAYER_TEST(test_start__missing_program__is_an_error_that_names_it),
        LAYER_TEST(test_start__configuration_postgres_refuses__is_told_as_the_cause),
        LAYER_TEST(test_start__reload_before_it_has_handlers__does_not_end_it),
        LAYER_TEST(
            test_wal_end__old_segment_renamed_by_archiving__is_found_through_its_copy_on_the_new_timeline),
        LAYER_TEST(
            test_wal_end__history_of_a_leader_that_forked_earlier__changes_nothing_without_its_records),
        LAYER_TEST(test_wal_end__rewound_node__holds_what_pg_rewind_copied_of_the_leader),
        LAYER_TEST(test_start__zombie_of_the_last_postmaster__does_not_block),
        LAYER_TEST(test_exit__killed_backend__ends_the_server_and_is_told_as_the_cause),
        LAYER_TEST(test_adopt__running_server__is_found_and_its_end_is_seen),
        LAYER_TEST(test_adopt__stale_pid_file_naming_another_process__is_not_believed),
        LAYER_TEST(test_adopt__pid_file_naming_another_server__is_not_believed),
        LAYER_TEST(test_adopt__backends_that_outlive_their_postmaster__are_remains_until_killed),
        LAYER_TEST(test_fence__key_taken_and_receiver_ended__no_receiver_comes_back),
        LAYER_TEST(test_access__role_not_listed__cannot_replicate_even_with_a_rule_for_all),
        LAYER_TEST(test_receivers__title_updates_off__are_seen_all_the_same),
        LAYER_TEST(test_wal_end__clean_shutdown__is_the_end_of_the_shutdown_checkpoint),
        LAYER_TEST(test_wal_end__killed_while_it_writes__is_what_recovery_finds),
        LAYER_TEST(test_wal_end__segment_just_switched__is_its_end),
        LAYER_TEST(
            test_wal_end__killed_right_after_promotion__is_on_the_new_timeline_that_pg_control_does_not_name),
        LAYER_TEST(
            test_wal_end__history_and_segment_but_no_record_of_the_new_timeline__is_on_the_old_one),
        LAYER_TEST(test_wal_end__standby_stopped_in_mid_stream__is_the_last_complete_record_it_got),
        LAYER_TEST(test_wal_end__standby_that_followed_a_switch__is_on_the_leaders_timeline),
        LAYER_TEST(test_wal_end__fresh_clone_never_started__begins_at_its_backup_label),
        LAYER_TEST(test_wal_end__segment_missing_in_between__is_an_error_and_no_position),
        LAYER_TEST(
            test_history__placeholders_for_skipped_generations__let_a_promotion_take_its_generation),
        LAYER_TEST(test_history__left_over_placeholder_above_the_wal__is_poison_and_cleaned),
    };
    if (geteuid() == 0) {
        fprintf(stderr, "PostgreSQL refuses root: run as another user\n");
        return 77;
    }
    const struct passwd *user = getpwuid(geteuid());
    snprintf(os_user, sizeof os_user, "%s", user == NULL ? "" : user->pw_name);
    bindir = getenv("OGEL_PG_BINDIR");
    if (bindir == NULL)
        bindir = "/usr/lib/postgresql/15/bin";
    if (getenv("OGEL_TEST_FILTER") != NULL)
        cmocka_set_test_filter(getenv("OGEL_TEST_FILTER"));
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
