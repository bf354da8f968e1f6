/*
 * What the agent does to a Postgres on its own machine, against real servers: where WAL
 * ends, and history files. Each fact about PostgreSQL that
 * this code rests on has its test here.
 *
 * Not as root. OGEL_PG_BINDIR names the server's programs, TMPDIR where to work. Exit status 77:
 * skipped.
 */
#include "tests/integration/postgres_node.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/pgdata.h"
#include "base/file.h"
#include "base/units.h"
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
    check(pgdata_wal_end(bindir, node->datadir, DEADLINE_MS, &end, NULL, &err_));
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

/* A promotion asks for a checkpoint and does not wait for it: this one never completes. */
static void freeze_checkpointer(PGconn *conn)
{
    const char *pid = query(conn,
                            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    assert_int_equal(kill((pid_t)strtol(pid, NULL, 10), SIGSTOP), 0);
}

/* Not FROM generate_series: that would be put into a file first. */
static const char *const write_on = "SET synchronous_commit = off; INSERT INTO t SELECT "
                                    "generate_series(1, 100000000), repeat('y', 500)";

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
    assert_int_equal(PQsendQuery(conn, write_on), 1);
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

/* The name of the first segment that a program sees which reads the directory. */
static void first_listed_segment(const struct node *node, char name[64])
{
    char path[PATH_SIZE + 16];
    struct dirent *entry;

    snprintf(path, sizeof path, "%s/pg_wal", node->datadir);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    name[0] = '\0';
    while ((entry = readdir(dir)) != NULL && name[0] == '\0')
        if (strlen(entry->d_name) == 24 && strspn(entry->d_name, "0123456789ABCDEF") == 24)
            snprintf(name, 64, "%s", entry->d_name);
    closedir(dir);
}

/* Segments are created in advance, all zeros; which one a directory lists first is chance. */
static void test_wal_end__segment_created_in_advance_and_listed_first__is_no_obstacle(void **state)
{
    struct node *a = &nodes[0];
    struct pgdata_control control;
    char path[PATH_SIZE + 64], listed[64];
    unsigned number = 16;
    (void)state;
    node_lead(a, 2);
    node_query(a, write_some);
    node_kill(a);
    struct position before = wal_end(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    do {
        assert_true(number < 2000);
        snprintf(path, sizeof path, "%s/pg_wal/0000000200000000%08X", a->datadir, number++);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, control.wal_segment_bytes), 0);
        close(fd);
        first_listed_segment(a, listed);
    } while (strtoul(listed + 16, NULL, 16) < 16);
    struct position end = wal_end(a);
    assert_int_equal(end.timeline, before.timeline);
    assert_int_equal(end.lsn, before.lsn);
}

static void test_wal_end__killed_right_after_promotion__is_on_a_timeline_pg_control_does_not_name(
    void **state)
{
    struct node *a = &nodes[0];
    struct pgdata_control control;
    (void)state;
    node_configure(a);
    check(pgdata_standby_signal(a->datadir, &err_));
    node_start(a);
    PGconn *conn = node_connect(a);
    check(pgdata_history_plant(a->datadir, 2, 4, &err_));
    freeze_checkpointer(conn);
    assert_string_equal(query(conn, "SELECT pg_promote(true)"), "t");
    PQfinish(conn);
    node_query(a, "SET synchronous_commit = local; CREATE TABLE promoted ()");
    node_kill(a);
    check(pgdata_control_read(bindir, a->datadir, DEADLINE_MS, &control, &err_));
    assert_int_equal(control.redo.timeline, 1);
    assert_end(a, 5, control.redo.lsn);
}

static void test_wal_end__old_segment_renamed_by_archiving__is_found_through_its_copy(void **state)
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
    freeze_checkpointer(conn);
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

static void test_wal_end__history_of_an_earlier_fork_without_records__changes_nothing(void **state)
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
static void test_wal_end__new_timeline_without_a_record__is_on_the_old_one(void **state)
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
    assert_int_equal(PQsendQuery(conn, write_on), 1);
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
    assert_int_equal(pgdata_wal_end(bindir, a->datadir, DEADLINE_MS, &end, NULL, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(end.timeline, 0);
}

/* --- history files
 * -----------------------------------------------------------------------------------------------
 */

static void test_history__placeholders__let_a_promotion_take_its_generation(void **state)
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
#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, nodes_make, nodes_remove)
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_wal_end__old_segment_renamed_by_archiving__is_found_through_its_copy),
        NODE_TEST(test_wal_end__history_of_an_earlier_fork_without_records__changes_nothing),
        NODE_TEST(test_wal_end__rewound_node__holds_what_pg_rewind_copied_of_the_leader),
        NODE_TEST(test_wal_end__clean_shutdown__is_the_end_of_the_shutdown_checkpoint),
        NODE_TEST(test_wal_end__killed_while_it_writes__is_what_recovery_finds),
        NODE_TEST(test_wal_end__segment_just_switched__is_its_end),
        NODE_TEST(test_wal_end__segment_created_in_advance_and_listed_first__is_no_obstacle),
        NODE_TEST(
            test_wal_end__killed_right_after_promotion__is_on_a_timeline_pg_control_does_not_name),
        NODE_TEST(test_wal_end__new_timeline_without_a_record__is_on_the_old_one),
        NODE_TEST(test_wal_end__standby_stopped_in_mid_stream__is_the_last_complete_record_it_got),
        NODE_TEST(test_wal_end__standby_that_followed_a_switch__is_on_the_leaders_timeline),
        NODE_TEST(test_wal_end__fresh_clone_never_started__begins_at_its_backup_label),
        NODE_TEST(test_wal_end__segment_missing_in_between__is_an_error_and_no_position),
        NODE_TEST(test_history__placeholders__let_a_promotion_take_its_generation),
        NODE_TEST(test_history__left_over_placeholder_above_the_wal__is_poison_and_cleaned),
    };
    return nodes_run_tests(tests);
}
