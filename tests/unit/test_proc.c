#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/postmaster.h"
#include "agent/proc.h"
#include "base/clock.h"
#include "tests/unit/tmpdir.h"

/* What /proc/PID/cmdline shows of a postmaster. */
static const char postmaster[] = "/usr/lib/postgresql/15/bin/postgres\0-D\0/var/lib/ogel/data\0"
                                 "--config-file=/var/lib/ogel/state/conf/postgresql.conf";

/* A child's title over the same memory, WRITTEN bytes of it, the rest NULs once it is FINISHED. */
static bool may_receive(const char *title, size_t written, bool finished)
{
    char area[sizeof postmaster];
    memcpy(area, postmaster, sizeof area);
    if (finished)
        memset(area, 0, sizeof area);
    memcpy(area, title, written);
    return proc_title_may_receive(area, sizeof area, postmaster, sizeof postmaster);
}

static void test_title__of_a_walreceiver__is_one(void **state)
{
    static const char *const titles[] = {
        "postgres: walreceiver ",
        "postgres: walreceiver streaming 0/3000148",
        "postgres: layer: walreceiver ",
        "postgres: a: b: walreceiver streaming 16/B374D848",
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(titles); i++)
        assert_true(may_receive(titles[i], strlen(titles[i]), true));
}

static void test_title__of_any_other_child__is_none(void **state)
{
    static const char *const titles[] = {
        "postgres: layer: startup recovering 000000010000000000000003",
        "postgres: layer: walsender ogel_n2_i1 127.0.0.1(40000) streaming 0/3000148",
        "postgres: layer: checkpointer ",
        "postgres: layer: app app 127.0.0.1(40000) SELECT",
        "postgres: layer: app walreceiver_stats [local] idle",
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(titles); i++)
        assert_false(may_receive(titles[i], strlen(titles[i]), true));
}

static void test_title__not_set_yet__counts(void **state)
{
    (void)state;
    assert_true(may_receive("", 0, false));
    assert_true(proc_title_may_receive("", 0, postmaster, sizeof postmaster));
}

static void test_title__of_a_receiver_at_any_moment_of_being_written__counts(void **state)
{
    static const char title[] = "postgres: a cluster with a long name 12345: walreceiver ";
    (void)state;
    for (size_t written = 0; written < sizeof title; written++)
        assert_true(may_receive(title, written, false));
    assert_true(may_receive(title, sizeof title - 1, true));
}

static void test_title__longer_than_the_arguments__is_judged_by_its_beginning(void **state)
{
    char title[sizeof postmaster + 64];
    (void)state;
    memset(title, 'x', sizeof title);
    memcpy(title, "postgres: layer: app ", 21);
    assert_false(proc_title_may_receive(title, sizeof title, postmaster, sizeof postmaster));
    memcpy(title, "postgres: layer: walreceiver ", 29);
    assert_true(proc_title_may_receive(title, sizeof title, postmaster, sizeof postmaster));
}

/* --- real processes
 * ------------------------------------------------------------------------------------- */

/* A child that stands in DIR (NULL: here), has run FIRST, and waits to be killed. */
static pid_t start_child(const char *dir, bool ignore_signals)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ignore_signals)
            for (int sig = 1; sig < NSIG; sig++)
                signal(sig, SIG_IGN);
        if (dir != NULL && chdir(dir) != 0)
            _exit(1);
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static bool contains(const pid_t *pids, int count, pid_t pid)
{
    for (int i = 0; i < count; i++)
        if (pids[i] == pid)
            return true;
    return false;
}

static void wait_for_state(pid_t pid, char wanted)
{
    struct proc_stat stat;
    int64_t deadline = clock_mono_ms() + 10000;
    do {
        assert_true(proc_stat_read(pid, &stat));
        assert_true(clock_mono_ms() < deadline);
    } while (stat.state != wanted);
}

static void test_stat__name_with_brackets_and_blanks__does_not_confuse(void **state)
{
    struct proc_stat stat;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, ") S 1 (x");
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        raise(SIGSTOP);
        _exit(0);
    }
    wait_for_state(pid, 'T');
    assert_true(proc_stat_read(pid, &stat));
    assert_int_equal(stat.ppid, getpid());
    assert_true(stat.start_ticks > 0);
    end_child(pid);
    assert_false(proc_stat_read(pid, &stat));
}

static void test_children__living_ones__are_found_and_zombies_are_not(void **state)
{
    pid_t pids[64];
    (void)state;
    pid_t child = start_child(NULL, false);
    assert_true(contains(pids, proc_children(getpid(), pids, 64), child));
    kill(child, SIGKILL);
    wait_for_state(child, 'Z');
    assert_false(contains(pids, proc_children(getpid(), pids, 64), child));
    waitpid(child, NULL, 0);
}

static void test_children__more_than_fit__are_counted_all(void **state)
{
    pid_t pids[1];
    (void)state;
    pid_t a = start_child(NULL, false);
    pid_t b = start_child(NULL, false);
    assert_true(proc_children(getpid(), pids, 1) >= 2);
    end_child(a);
    end_child(b);
}

static void test_receivers__child_with_its_parents_title__counts(void **state)
{
    pid_t pids[64];
    (void)state;
    pid_t child = start_child(NULL, false);
    assert_true(contains(pids, proc_receivers(getpid(), pids, 64), child));
    end_child(child);
    assert_false(contains(pids, proc_receivers(getpid(), pids, 64), child));
}

static void test_kill_directory__everything_in_it__dies_and_nothing_else(void **state)
{
    char other[300];
    struct err err = {0};
    struct stat st;
    pid_t pids[8];
    (void)state;
    snprintf(other, sizeof other, "%s/data", tmpdir);
    assert_int_equal(mkdir(other, 0700), 0);
    pid_t inside = start_child(other, true);
    pid_t outside = start_child(tmpdir, false);
    assert_int_equal(stat(other, &st), 0);
    assert_int_equal(proc_in_directory(st.st_dev, st.st_ino, pids, 8), 1);
    assert_int_equal(pids[0], inside);
    assert_int_equal(proc_kill_directory(other, NULL, 10000, &err), 0);
    wait_for_state(inside, 'Z');
    assert_int_equal(proc_in_directory(st.st_dev, st.st_ino, pids, 8), 0);
    assert_int_equal(waitpid(outside, NULL, WNOHANG), 0);
    waitpid(inside, NULL, 0);
    end_child(outside);
}

static void test_kill_directory__postmaster_pid_naming_a_process_elsewhere__leaves_that_alone(
    void **state)
{
    char path[300];
    struct err err = {0};
    (void)state;
    pid_t stranger = start_child("/", false);
    snprintf(path, sizeof path, "%s/postmaster.pid", tmpdir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "%d\n%s\n", stranger, tmpdir);
    fclose(file);
    assert_int_equal(proc_kill_directory(tmpdir, NULL, 10000, &err), 0);
    assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0);
    end_child(stranger);
}

static void test_kill_directory__missing_directory__has_nobody(void **state)
{
    struct err err = {0};
    (void)state;
    assert_int_equal(proc_kill_directory(tmp_path("nothing"), NULL, 0, &err), 0);
}

static void test_orphans__that_are_not_kept__are_collected(void **state)
{
    (void)state;
    pid_t kept = start_child(NULL, false);
    pid_t orphan = start_child(NULL, false);
    kill(kept, SIGKILL);
    kill(orphan, SIGKILL);
    wait_for_state(kept, 'Z');
    wait_for_state(orphan, 'Z');
    assert_int_equal(proc_reap_orphans(&kept, 1), 1);
    assert_int_equal(waitpid(orphan, NULL, WNOHANG), -1);
    assert_int_equal(waitpid(kept, NULL, WNOHANG), kept);
}

/* --- commands and small files
 * --------------------------------------------------------------------------- */

static void test_command__output_errors_and_exit_code__are_returned(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3",
                                NULL};
    struct command_result result;
    struct err err = {0};
    (void)state;
    assert_int_equal(command_run(argv, 10000, &result, &err), 0);
    assert_int_equal(result.exit_code, 3);
    assert_string_equal(result.output, "out\n");
    assert_string_equal(result.errors, "one\ntwo\n");
    assert_string_equal(command_last_line(&result), "two");
    command_result_free(&result);
}

static void test_command__that_does_not_end__is_killed_with_its_children(void **state)
{
    char text[400];
    const char *const argv[] = {"/bin/sh", "-c", text, NULL};
    struct command_result result;
    struct err err = {0};
    struct stat st;
    pid_t pid;
    (void)state;
    snprintf(text, sizeof text, "cd %s; sleep 600 & sleep 600", tmpdir);
    assert_int_equal(command_run(argv, 200, &result, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(stat(tmpdir, &st), 0);
    int64_t deadline = clock_mono_ms() + 10000;
    while (proc_in_directory(st.st_dev, st.st_ino, &pid, 1) > 0)
        assert_true(clock_mono_ms() < deadline);
}

static void test_command__more_output_than_is_kept__is_cut_and_ends(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x", NULL};
    struct command_result result;
    struct err err = {0};
    (void)state;
    assert_int_equal(command_run(argv, 10000, &result, &err), 0);
    assert_int_equal(result.exit_code, 0);
    assert_int_equal(strlen(result.output), COMMAND_OUTPUT_MAX);
    command_result_free(&result);
}

static void *collect_orphans(void *arg)
{
    const atomic_bool *stop = arg;
    while (!atomic_load(stop))
        (void)proc_reap_orphans(NULL, 0);
    return NULL;
}

/* Another thread collects orphans meanwhile: none of what a command came to is lost to it. */
static void test_command__beside_a_collector_of_orphans__keeps_its_exit_code(void **state)
{
    const char *const argv[] = {"/bin/sh", "-c", "exit 3", NULL};
    struct command_result result;
    struct err err = {0};
    atomic_bool stop = false;
    pthread_t collector;
    (void)state;
    assert_int_equal(pthread_create(&collector, NULL, collect_orphans, &stop), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(command_run(argv, 10000, &result, &err), 0);
        assert_int_equal(result.exit_code, 3);
        command_result_free(&result);
    }
    atomic_store(&stop, true);
    pthread_join(collector, NULL);
}

static void test_command__that_is_missing__is_not_found(void **state)
{
    const char *const argv[] = {"/nowhere/pg_waldump", NULL};
    struct command_result result;
    struct err err = {0};
    (void)state;
    assert_int_equal(command_run(argv, 10000, &result, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(tmp_path(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_pid_file__each_line__is_read(void **state)
{
    struct postmaster_file file;
    struct err err = {0};
    (void)state;
    assert_int_equal(postmaster_file_read(tmpdir, &file, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    write_file("postmaster.pid",
               "1234\n/data\n1700000000\n6543\n/run/x\n127.0.0.1\n  1048577    32769\n"
               "standby \n");
    assert_int_equal(postmaster_file_read(tmpdir, &file, &err), 0);
    assert_int_equal(file.pid, 1234);
    assert_int_equal(file.start_time, 1700000000);
    assert_int_equal(file.port, 6543);
    assert_int_equal(file.shm_key, 1048577);
    assert_int_equal(file.shm_id, 32769);
    assert_string_equal(file.status, "standby");
}

static void test_pid_file__half_written__has_empty_fields(void **state)
{
    struct postmaster_file file;
    struct err err = {0};
    (void)state;
    write_file("postmaster.pid", "1234\n/data\n17");
    assert_int_equal(postmaster_file_read(tmpdir, &file, &err), 0);
    assert_int_equal(file.pid, 1234);
    assert_int_equal(file.shm_id, -1);
    assert_string_equal(file.status, "");
    write_file("postmaster.pid", "");
    assert_int_equal(postmaster_file_read(tmpdir, &file, &err), 0);
    assert_int_equal(file.pid, 0);
}

/* Cut to 32 bits the first would be the pid of init. */
static void test_pid_file__number_out_of_range__counts_as_not_written(void **state)
{
    char too_large[] = "4294967297\n/data\n-5\n65537\n\n\n  99999999999999999999 4294967297\n";
    char single_user[] = "-1234\n/data\n";
    struct postmaster_file file;
    (void)state;
    postmaster_file_parse(too_large, &file);
    assert_int_equal(file.pid, 0);
    assert_int_equal(file.start_time, 0);
    assert_int_equal(file.port, 0);
    assert_int_equal(file.shm_id, -1);
    postmaster_file_parse(single_user, &file);
    assert_int_equal(file.pid, -1234);
}

static void test_stale_files__pid_file_and_own_socket_locks__go_and_others_stay(void **state)
{
    char text[400];
    struct err err = {0};
    (void)state;
    snprintf(text, sizeof text, "1\n%s\n", tmpdir);
    write_file("postmaster.pid", text);
    write_file(".s.PGSQL.1.lock", text);
    write_file(".s.PGSQL.1", "");
    write_file(".s.PGSQL.2.lock", "1\n/other\n");
    write_file(".s.PGSQL.2", "");
    assert_int_equal(postmaster_file_remove_stale(tmpdir, tmpdir, &err), 0);
    assert_false(file_exists(tmp_path("postmaster.pid")));
    assert_false(file_exists(tmp_path(".s.PGSQL.1.lock")));
    assert_false(file_exists(tmp_path(".s.PGSQL.1")));
    assert_true(file_exists(tmp_path(".s.PGSQL.2.lock")));
    assert_true(file_exists(tmp_path(".s.PGSQL.2")));
}

/* --- cause
 * -------------------------------------------------------------------------------------------------
 */

static const char *cause_of(const char *log, const struct postmaster_exit *status)
{
    static char cause[POSTMASTER_CAUSE_SIZE];
    (void)mkdir(tmp_path("log"), 0700);
    write_file("log/postgresql-1.log", log);
    return postmaster_describe_exit(status, tmpdir, tmp_path("log"), cause);
}

static void test_cause__panic__outweighs_what_follows_from_it(void **state)
{
    const struct postmaster_exit status = {.known = true, .code = 1};
    (void)state;
    assert_string_equal(
        cause_of("T UTC [9] postmaster LOG:  starting PostgreSQL 15.20\n"
                 "T UTC [5] checkpointer PANIC:  could not write to file: No space left on device\n"
                 "T UTC [9] postmaster LOG:  checkpointer process (PID 5) was terminated by signal "
                 "6: Aborted\n",
                 &status),
        "exited with code 1: PANIC:  could not write to file: No space left on device");
}

static void test_cause__clients_errors_and_earlier_lives__do_not_count(void **state)
{
    const struct postmaster_exit status = {.known = true, .code = -1, .signal = 9};
    (void)state;
    assert_string_equal(
        cause_of("T UTC [7] startup FATAL:  of an earlier life\n"
                 "T UTC [9] postmaster LOG:  starting PostgreSQL 15.20\n"
                 "T UTC [5] client backend app@app FATAL:  password authentication failed\n"
                 "T UTC [5] walreceiver FATAL:  terminating walreceiver process due to "
                 "administrator command\n",
                 &status),
        "ended by signal 9 (Killed)");
}

static void test_cause__long_and_with_control_characters__is_one_bounded_line(void **state)
{
    const struct postmaster_exit status = {0};
    char log[1000] = "T UTC [5] startup FATAL:  a\tb";
    (void)state;
    memset(log + strlen(log), 'x', 900);
    const char *cause = cause_of(log, &status);
    assert_int_equal(strlen(cause), POSTMASTER_CAUSE_SIZE - 1);
    assert_string_equal(cause + strlen(cause) - 3, "...");
    assert_null(strchr(cause, '\t'));
    assert_int_equal(strncmp(cause, "exited: FATAL:  a bxxx", 22), 0);
}

int main(void)
{
#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_title__of_a_walreceiver__is_one),
        cmocka_unit_test(test_title__of_any_other_child__is_none),
        cmocka_unit_test(test_title__not_set_yet__counts),
        cmocka_unit_test(test_title__of_a_receiver_at_any_moment_of_being_written__counts),
        cmocka_unit_test(test_title__longer_than_the_arguments__is_judged_by_its_beginning),
        cmocka_unit_test(test_stat__name_with_brackets_and_blanks__does_not_confuse),
        cmocka_unit_test(test_children__living_ones__are_found_and_zombies_are_not),
        cmocka_unit_test(test_children__more_than_fit__are_counted_all),
        cmocka_unit_test(test_receivers__child_with_its_parents_title__counts),
        IN_DIRECTORY(test_kill_directory__everything_in_it__dies_and_nothing_else),
        IN_DIRECTORY(
            test_kill_directory__postmaster_pid_naming_a_process_elsewhere__leaves_that_alone),
        IN_DIRECTORY(test_kill_directory__missing_directory__has_nobody),
        cmocka_unit_test(test_orphans__that_are_not_kept__are_collected),
        cmocka_unit_test(test_command__output_errors_and_exit_code__are_returned),
        IN_DIRECTORY(test_command__that_does_not_end__is_killed_with_its_children),
        cmocka_unit_test(test_command__more_output_than_is_kept__is_cut_and_ends),
        cmocka_unit_test(test_command__beside_a_collector_of_orphans__keeps_its_exit_code),
        cmocka_unit_test(test_command__that_is_missing__is_not_found),
        IN_DIRECTORY(test_pid_file__each_line__is_read),
        IN_DIRECTORY(test_pid_file__half_written__has_empty_fields),
        cmocka_unit_test(test_pid_file__number_out_of_range__counts_as_not_written),
        IN_DIRECTORY(test_stale_files__pid_file_and_own_socket_locks__go_and_others_stay),
        IN_DIRECTORY(test_cause__panic__outweighs_what_follows_from_it),
        IN_DIRECTORY(test_cause__clients_errors_and_earlier_lives__do_not_count),
        IN_DIRECTORY(test_cause__long_and_with_control_characters__is_one_bounded_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
