/*
 * What the agent does to a Postgres on its own machine, against real servers: start, adopt, end;
 * the managed configuration; the two locks of the fence. Each fact about PostgreSQL that this code
 * rests on has its test here.
 *
 * Not as root. OGEL_PG_BINDIR names the server's programs, TMPDIR where to work. Exit status 77:
 * skipped.
 */
#include "tests/integration/postgres_node.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pgdata.h"
#include "agent/proc.h"
#include "base/file.h"
#include "base/mem.h"
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
    /* A node without data may be asked as well. */
    setting = (struct pgconf_setting){"work_mem", "plenty"};
    a->conf.datadir = "/nowhere";
    assert_int_equal(pgconf_check(&a->conf, bindir, DEADLINE_MS, &err), -1);
    assert_non_null(strstr(err.text, "work_mem"));
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
    check(pgconf_passfile_write(b->state_dir, NULL, &err_));
    wait_until(proc_receivers(b->pm.pid, pids, 16) == 1);
    pid_t first = pids[0];
    kill(first, SIGTERM);
    wait_until(log_count(b, "no password supplied") >= 3);
    assert_false(streams(a));

    /* Nor with the key to another server, which it will have been given once its node follows that.
     */
    long refused = log_count(b, "no password supplied");
    node_give_key(b, a->port + 1u);
    wait_until(log_count(b, "no password supplied") >= refused + 3);
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
    node_give_key(b, a->port);
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
    /* The user's own rule works, and admits no replication. */
    for (int replication = 0; replication < 2; replication++) {
        char conninfo[256];
        snprintf(conninfo, sizeof conninfo,
                 "host=127.0.0.1 port=%u user=app dbname=postgres replication=%d", a->port,
                 replication);
        conn = PQconnectdb(conninfo);
        assert_int_equal(PQstatus(conn), replication ? CONNECTION_BAD : CONNECTION_OK);
        PQfinish(conn);
    }
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

int main(void)
{
#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, nodes_make, nodes_remove)
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_pgconf__server_started_with_it__shows_every_setting_as_written),
        NODE_TEST(
            test_pgconf_check__value_postgres_would_not_start_with__is_refused_with_its_words),
        NODE_TEST(test_auto_conf__reserved_names__are_stripped_and_the_rest_stays_in_force),
        NODE_TEST(test_start__environment__has_its_own_home_and_no_pg_variables),
        NODE_TEST(test_start__missing_program__is_an_error_that_names_it),
        NODE_TEST(test_start__configuration_postgres_refuses__is_told_as_the_cause),
        NODE_TEST(test_start__reload_before_it_has_handlers__does_not_end_it),
        NODE_TEST(test_start__zombie_of_the_last_postmaster__does_not_block),
        NODE_TEST(test_exit__killed_backend__ends_the_server_and_is_told_as_the_cause),
        NODE_TEST(test_adopt__running_server__is_found_and_its_end_is_seen),
        NODE_TEST(test_adopt__stale_pid_file_naming_another_process__is_not_believed),
        NODE_TEST(test_adopt__pid_file_naming_another_server__is_not_believed),
        NODE_TEST(test_adopt__backends_that_outlive_their_postmaster__are_remains_until_killed),
        NODE_TEST(test_fence__key_taken_and_receiver_ended__no_receiver_comes_back),
        NODE_TEST(test_access__role_not_listed__cannot_replicate_even_with_a_rule_for_all),
        NODE_TEST(test_receivers__title_updates_off__are_seen_all_the_same),
    };
    return nodes_run_tests(tests);
}
