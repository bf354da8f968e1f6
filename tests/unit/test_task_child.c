/* The child of a snapshot task, with a program of the test's own in ogelctl's place. */
#include "tests/unit/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/proc.h"
#include "agent/task_child.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

enum { DEADLINE_MS = 20000 };

static struct agent_config config;

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    config = (struct agent_config){0};
    config.options.state_directory = xstrdup(tmpdir);
    config.options.postgres_bindir = (char *)"/pg/bin";
    config.options.postgres.port = 5433;
    snprintf(config.socket_directory, sizeof config.socket_directory, "/it's/socket");
    return 0;
}

static int teardown(void **state)
{
    free(config.options.state_directory);
    unsetenv("OGEL_CTL");
    return tmpdir_remove(state);
}

/* The program that runs as ogelctl: a shell script. */
static void use(const char *script)
{
    char *text = xasprintf("#!/bin/sh\n%s\n", script);
    const char *path = tmp_path("ogelctl");
    struct err err = {0};

    assert_int_equal(file_write_atomic(path, text, strlen(text), 0700, &err), 0);
    setenv("OGEL_CTL", path, 1);
    free(text);
}

static void start(const struct task_request *request, struct task_child *child)
{
    struct err err = {0};

    task_child_end_orphan(config.options.state_directory);
    if (task_child_start(&config, request, child, &err) < 0)
        fail_msg("%s", err.text);
}

/* What it says until the end. */
static char *output_of(const struct task_child *child)
{
    char *text = xcalloc(1, 8192);
    size_t used = 0;
    ssize_t n;

    for (;;) {
        struct pollfd pfd = {.fd = child->output, .events = POLLIN};

        assert_int_equal(poll(&pfd, 1, DEADLINE_MS), 1);
        n = read(child->output, text + used, 8191 - used);
        if (n <= 0)
            return text;
        used += (size_t)n;
    }
}

static int reap(struct task_child *child, char how[64])
{
    struct pollfd pfd = {.fd = child->pidfd, .events = POLLIN};

    assert_int_equal(poll(&pfd, 1, DEADLINE_MS), 1);
    return task_child_reap(child, how, 64);
}

static void check_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

#define REQUEST(kind_, ...)                                                                        \
    (&(struct task_request){                                                                       \
        .id = "00000000000000a1", .kind = (kind_), .store = "s3://h/b", __VA_ARGS__})
#define NO_KEEP .keep = {-1, -1, -1, -1}

static char *command_line(const struct task_request *request)
{
    struct task_child child;
    char how[64], *text;

    use("for a in \"$@\"; do printf '[%s]' \"$a\" >&3; done; echo >&3; env >&3");
    start(request, &child);
    text = output_of(&child);
    assert_int_equal(reap(&child, how), 0);
    assert_string_equal(how, "exit status 0");
    return text;
}

static void test_task_child__each_kind__has_its_command_line(void **state)
{
    char *text;

    (void)state;
    text = command_line(
        REQUEST(TASK_CREATE, NO_KEEP, .level = 5, .max_rate = "50MB", .parent = "none"));
    check_has(text, "[snapshot][create][--conninfo][host='/it\\'s/socket' port=5433 user=postgres "
                    "dbname=postgres][--parent][none][--level][5][--max-rate][50MB]"
                    "[--progress-fd][3]\n");
    free(text);
    config.options.snapshots = (struct snapshot_options){.jobs = 3,
                                                         .scratch_directory = (char *)"/scratch",
                                                         .temporary_directory = (char *)"/big/tmp"};
    text = command_line(REQUEST(TASK_VERIFY, NO_KEEP, .snapshot = "20260203T040506Z-1a2b3c4d"));
    check_has(text, "[snapshot][verify][20260203T040506Z-1a2b3c4d][--jobs][3][--progress-fd][3]\n");
    check_has(text, "TMPDIR=/big/tmp\n");
    free(text);
    text = command_line(REQUEST(TASK_DRILL, NO_KEEP));
    check_has(text, "[drill][--bindir][/pg/bin][--scratch][/scratch][--jobs][3]");
    free(text);
    text = command_line(REQUEST(TASK_GC, .keep = {7, -1, 0, 5}));
    check_has(text, "[gc][--keep-daily][7][--keep-monthly][0][--keep-least][5][--progress-fd]");
    free(text);
}

/* The store is named in the environment, credentials only by their file; nothing of the agent's own
 * environment comes along. */
static void test_task_child__environment__is_its_own(void **state)
{
    char *text;

    (void)state;
    setenv("AWS_SECRET_ACCESS_KEY", "never", 1);
    setenv("PGPASSWORD", "never", 1);
    config.options.snapshots.credentials_file = (char *)"/etc/ogel/store";
    text = command_line(REQUEST(TASK_GC, NO_KEEP));
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("PGPASSWORD");
    check_has(text, "[--store-credentials][/etc/ogel/store]");
    check_has(text, "OGEL_STORE=s3://h/b\n");
    assert_null(strstr(text, "never"));
    free(text);
}

static void test_task_child__its_pid__stands_in_the_lock_that_it_holds(void **state)
{
    struct task_child child;
    char how[64], *text = NULL;
    const char *lock = tmp_path("task.lock");
    struct err err = {0};
    int fd;

    (void)state;
    use("echo ready >&3; exec sleep 100");
    start(REQUEST(TASK_GC, NO_KEEP), &child);
    for (int64_t end = clock_mono_ms() + DEADLINE_MS;;) {
        assert_int_equal(file_read(lock, 64, &text, NULL, &err), 0);
        if (strtol(text, NULL, 10) == child.pid)
            break;
        assert_true(clock_mono_ms() < end);
        free(text);
        usleep(1000);
    }
    free(text);
    assert_int_equal(file_lock_acquire(lock, &fd, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    task_child_signal(&child, false);
    assert_int_equal(reap(&child, how), -1);
    assert_string_equal(how, "killed by signal 15");
}

static void wait_gone(pid_t pid)
{
    struct proc_stat stat;

    for (int64_t end = clock_mono_ms() + DEADLINE_MS;
         proc_stat_read(pid, &stat) && stat.state != 'Z'; usleep(1000))
        assert_true(clock_mono_ms() < end);
}

/* Also one that says nothing, so that no broken pipe tells it. */
static void test_task_child__agent_killed__is_killed_with_it(void **state)
{
    struct proc_stat stat;
    int pipes[2];
    pid_t agent, pid;

    (void)state;
    use("exec sleep 100");
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    agent = fork();
    if (agent == 0) {
        struct task_child child;

        start(REQUEST(TASK_GC, NO_KEEP), &child);
        (void)!write(pipes[1], &child.pid, sizeof child.pid);
        pause();
        _exit(0);
    }
    assert_int_equal(read(pipes[0], &pid, sizeof pid), sizeof pid);
    assert_true(proc_stat_read(pid, &stat) && stat.ppid == agent);
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_int_equal(waitpid(agent, NULL, 0), agent);
    wait_gone(pid);
    close(pipes[0]);
    close(pipes[1]);
}

static int heard[2];

static void hear(int signo)
{
    assert_true(write(heard[1], &signo, sizeof signo) > 0);
}

/* The agent's loop hears of signals by a pipe, which a child that has just been forked still has.
 */
static void test_task_child__signal_before_it_has_begun__is_not_the_agents(void **state)
{
    struct task_child child;
    char how[64];
    int signo;

    (void)state;
    use("exec sleep 100");
    assert_int_equal(pipe2(heard, O_CLOEXEC | O_NONBLOCK), 0);
    signal(SIGTERM, hear);
    for (int i = 0; i < 100; i++) {
        start(REQUEST(TASK_GC, NO_KEEP), &child);
        task_child_signal(&child, false);
        assert_int_equal(reap(&child, how), -1);
        assert_string_equal(how, "killed by signal 15");
    }
    signal(SIGTERM, SIG_DFL);
    assert_int_equal(read(heard[0], &signo, sizeof signo), -1);
    close(heard[0]);
    close(heard[1]);
}

/* What it started, and what does not hear SIGTERM, ends with it. */
static void test_task_child__its_whole_group__is_ended(void **state)
{
    struct task_child child;
    char how[64], line[32];
    pid_t grandchild;
    ssize_t n;

    (void)state;
    use("trap '' TERM; sleep 100 & echo $! >&3; wait");
    start(REQUEST(TASK_GC, NO_KEEP), &child);
    assert_int_equal(poll(&(struct pollfd){.fd = child.output, .events = POLLIN}, 1, DEADLINE_MS),
                     1);
    n = read(child.output, line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    grandchild = (pid_t)strtol(line, NULL, 10);
    task_child_signal(&child, false);
    assert_int_equal(poll(&(struct pollfd){.fd = child.pidfd, .events = POLLIN}, 1, 100), 0);
    task_child_signal(&child, true);
    assert_int_equal(reap(&child, how), -1);
    assert_string_equal(how, "killed by signal 9");
    wait_gone(grandchild);
}

static void test_task_child__program_that_is_not_there__is_told(void **state)
{
    struct task_child child;
    char how[64], *text;

    (void)state;
    setenv("OGEL_CTL", "/no/such/ogelctl", 1);
    start(REQUEST(TASK_GC, NO_KEEP), &child);
    text = output_of(&child);
    check_has(text, "cannot run /no/such/ogelctl: No such file");
    free(text);
    assert_int_equal(reap(&child, how), 127);
}

static void test_task_child__listing__answers_on_its_output(void **state)
{
    struct task_child child;
    struct err err = {0};
    char how[64], *text;

    (void)state;
    use("echo \"$* $OGEL_STORE\"; exit 7");
    assert_int_equal(task_child_list(&config, "/srv/store", &child, &err), 0);
    text = output_of(&child);
    assert_string_equal(text, "snapshot list -o json /srv/store\n");
    free(text);
    assert_int_equal(reap(&child, how), 7);
}

#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* the lock is taken once in a process: in the directory of the first test that needs it */
        WITH_DIRECTORY(test_task_child__its_pid__stands_in_the_lock_that_it_holds),
        WITH_DIRECTORY(test_task_child__each_kind__has_its_command_line),
        WITH_DIRECTORY(test_task_child__environment__is_its_own),
        WITH_DIRECTORY(test_task_child__agent_killed__is_killed_with_it),
        WITH_DIRECTORY(test_task_child__signal_before_it_has_begun__is_not_the_agents),
        WITH_DIRECTORY(test_task_child__its_whole_group__is_ended),
        WITH_DIRECTORY(test_task_child__program_that_is_not_there__is_told),
        WITH_DIRECTORY(test_task_child__listing__answers_on_its_output),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
