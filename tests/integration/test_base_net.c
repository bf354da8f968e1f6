/*
 * The connections of base/ against a real PostgreSQL and a real Redis: what each state of a server
 * looks like from outside.
 *
 * Not as root. OGEL_PG_BINDIR names PostgreSQL's programs, TMPDIR where to work. Exit status 77:
 * skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
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

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "base/redis.h"
#include "tests/unit/tmpdir.h"

enum { PATIENCE_MS = 60000, DEADLINE_MS = 5000 };

#define PASSWORD "it's a secret"

static const char *bindir;
static char datadir[512];
static char port[8], redis_port[8];
static pid_t postgres_pid, redis_pid;

/* ---- processes */

/* Ends with this program, however that ends. Its output goes to a file. */
static pid_t spawn(const char *log, const char *const *argv)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(tmp_path(log), O_WRONLY | O_CREAT | O_APPEND, 0600);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fd, 1);
        dup2(fd, 2);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static void stop(pid_t *pid, int signo)
{
    int status;

    if (*pid == 0)
        return;
    kill(*pid, SIGCONT);
    kill(*pid, signo);
    assert_int_equal(waitpid(*pid, &status, 0), *pid);
    *pid = 0;
}

static void pick_port(char text[8])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(text, 8, "%d", ntohs(address.sin_port));
    close(fd);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, 0600), 0);
}

/* ---- asking */

struct target {
    const char *user, *password, *database, *replication, *host;
};

static const struct target good = {"ogel", PASSWORD, "postgres", NULL, NULL};

static void conninfo(const struct target *target, const char **keywords, const char **values)
{
    const char *const list[][2] = {{target->host != NULL ? "host" : "hostaddr",
                                    target->host != NULL ? target->host : "127.0.0.1"},
                                   {"port", port},
                                   {"user", target->user},
                                   {"password", target->password},
                                   {"dbname", target->database},
                                   {"replication", target->replication}};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(list); i++) {
        keywords[i] = list[i][0];
        values[i] = list[i][1];
    }
    keywords[OGEL_ARRAY_LEN(list)] = values[OGEL_ARRAY_LEN(list)] = NULL;
}

struct probed {
    bool done;
    struct pg_outcome outcome;
    char value[64];
};

static void note(const struct pg_outcome *outcome, const struct pg_result *result,
                 int64_t duration_us, void *arg)
{
    struct probed *probed = arg;

    (void)duration_us;
    probed->done = true;
    probed->outcome = *outcome;
    if (result != NULL && pg_result_rows(result) > 0 && pg_result_value(result, 0, 0) != NULL)
        snprintf(probed->value, sizeof(probed->value), "%s", pg_result_value(result, 0, 0));
}

static struct probed probe(const struct target *target, const char *sql, int deadline_ms)
{
    const char *keywords[8], *values[8];
    struct pg_conninfo info = {keywords, values};
    struct probed probed = {0};
    int64_t begin_ms = clock_mono_ms();
    struct loop *loop;

    conninfo(target, keywords, values);
    assert_int_equal(loop_new(&loop, NULL), 0);
    pg_probe_start(loop, &info, sql, deadline_ms, note, &probed);
    while (!probed.done) {
        int64_t round_ms = clock_mono_ms();

        assert_int_equal(loop_run_once(loop, 50, NULL), 0);
        assert_true(clock_mono_ms() - round_ms < DEADLINE_MS); /* it never blocks */
        assert_true(clock_mono_ms() - begin_ms < deadline_ms + DEADLINE_MS);
    }
    loop_free(loop);
    return probed;
}

static struct pg_conn *try_open(const struct target *target, struct pg_outcome *outcome)
{
    const char *keywords[8], *values[8];
    struct pg_conninfo info = {keywords, values};

    conninfo(target, keywords, values);
    return pg_open(&info, DEADLINE_MS, outcome, NULL);
}

static struct pg_conn *open_good(void)
{
    struct pg_outcome outcome;
    struct pg_conn *conn = try_open(&good, &outcome);

    if (conn == NULL)
        fail_msg("%s", outcome.message);
    return conn;
}

static void assert_status(const struct pg_outcome *outcome, enum pg_status status,
                          const char *sqlstate)
{
    if (outcome->status != status || strcmp(outcome->sqlstate, sqlstate) != 0)
        fail_msg("%s %s: %s", pg_status_name(outcome->status), outcome->sqlstate, outcome->message);
}

/* ---- the server */

static void postgres_start(void)
{
    char program[512];
    const char *argv[] = {program, "-D", datadir, "-p", port, NULL};

    snprintf(program, sizeof(program), "%s/postgres", bindir);
    postgres_pid = spawn("postgres.log", argv);
}

static void postgres_await(enum pg_status status)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct probed probed;

    do {
        assert_true(clock_mono_ms() < until_ms);
        probed = probe(&good, "SELECT 1", 1000);
        if (probed.outcome.status != status)
            nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    } while (probed.outcome.status != status);
}

static int group_setup(void **state)
{
    char program[512], pwfile[512];
    const char *argv[] = {program,         "-D",       datadir, "-U", "ogel", "--no-sync", "-A",
                          "scram-sha-256", "--pwfile", pwfile,  NULL};
    int status;

    if (tmpdir_make(state) != 0)
        return -1;
    snprintf(program, sizeof(program), "%s/initdb", bindir);
    snprintf(datadir, sizeof(datadir), "%s", tmp_path("data"));
    snprintf(pwfile, sizeof(pwfile), "%s", tmp_path("password"));
    write_file(pwfile, PASSWORD "\n");
    pid_t pid = spawn("initdb.log", argv);

    if (waitpid(pid, &status, 0) != pid || status != 0)
        return -1;
    FILE *conf = fopen(tmp_path("data/postgresql.conf"), "a");

    fprintf(conf,
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nfsync = off\n"
            "log_min_messages = fatal\nshared_buffers = 16MB\n",
            tmpdir);
    fclose(conf);
    pick_port(port);
    postgres_start();
    postgres_await(PG_OK);
    return 0;
}

static int group_teardown(void **state)
{
    stop(&postgres_pid, SIGQUIT);
    stop(&redis_pid, SIGKILL);
    return tmpdir_remove(state);
}

/* ---- PostgreSQL */

static void test_probe__password_by_scram__gets_its_row(void **state)
{
    struct target by_socket = good;
    struct probed probed = probe(&good, "SELECT version()", DEADLINE_MS);

    (void)state;
    assert_status(&probed.outcome, PG_OK, "");
    assert_non_null(strstr(probed.value, "PostgreSQL"));
    by_socket.host = tmpdir;
    probed = probe(&by_socket, "SELECT 1; SELECT 2", DEADLINE_MS);
    assert_status(&probed.outcome, PG_OK, "");
    assert_string_equal(probed.value, "2");
}

static void test_probe__refusals__are_told_apart(void **state)
{
    struct target wrong = good;
    struct probed probed;

    (void)state;
    wrong.password = "wrong";
    probed = probe(&wrong, "SELECT 1", DEADLINE_MS);
    assert_status(&probed.outcome, PG_AUTH, "28P01");
    wrong.password = NULL;
    probed = probe(&wrong, "SELECT 1", DEADLINE_MS);
    assert_status(&probed.outcome, PG_AUTH, "");
    wrong = good;
    wrong.database = "nowhere";
    probed = probe(&wrong, "SELECT 1", DEADLINE_MS);
    assert_status(&probed.outcome, PG_OTHER, "3D000");
    probed = probe(&good, "SELECT 1/0", DEADLINE_MS);
    assert_status(&probed.outcome, PG_SQL_ERROR, "22012");
    probed = probe(&good, "SELECT pg_sleep(10)", 200);
    assert_status(&probed.outcome, PG_TIMEOUT, "");
}

/* Its kernel still accepts: only silence tells. */
static void test_probe__stopped_postmaster__is_a_timeout(void **state)
{
    struct pg_conn *conn = open_good();
    struct pg_outcome outcome;
    struct probed probed;

    (void)state;
    kill(postgres_pid, SIGSTOP);
    probed = probe(&good, "SELECT 1", 300);
    assert_status(&probed.outcome, PG_TIMEOUT, "");
    /* An old connection does not notice: why probes are fresh. */
    assert_int_equal(pg_exec(conn, DEADLINE_MS, "SELECT 1", 0, NULL, NULL, &outcome, NULL), 0);
    pg_close(conn);
    kill(postgres_pid, SIGCONT);
    postgres_await(PG_OK);
}

static void test_probe__server_that_recovers__is_starting_up(void **state)
{
    struct probed probed;

    (void)state;
    stop(&postgres_pid, SIGINT);
    probed = probe(&good, "SELECT 1", DEADLINE_MS);
    assert_status(&probed.outcome, PG_REFUSED, "");
    write_file(tmp_path("data/standby.signal"), "");
    write_file(tmp_path("data/postgresql.auto.conf"), "hot_standby = off\n");
    postgres_start();
    postgres_await(PG_STARTING_UP);
    probed = probe(&good, "SELECT 1", DEADLINE_MS);
    assert_status(&probed.outcome, PG_STARTING_UP, "57P03");
    stop(&postgres_pid, SIGINT);
    write_file(tmp_path("data/postgresql.auto.conf"), "");
    postgres_start();
    postgres_await(PG_OK);
}

static void test_replication__position_and_history__come_through_exec(void **state)
{
    struct pg_conn *conn = open_good();
    struct target replication = good;
    struct pg_result *result = NULL;
    struct pg_outcome outcome;

    (void)state;
    /* The test before left a standby. */
    assert_int_equal(pg_exec(conn, 30000, "SELECT pg_promote()", 0, NULL, NULL, NULL, NULL), 0);
    pg_close(conn);
    replication.replication = "true";
    replication.database = NULL;
    conn = try_open(&replication, &outcome);
    assert_status(&outcome, PG_OK, "");
    assert_int_equal(pg_exec(conn, DEADLINE_MS, "IDENTIFY_SYSTEM", 0, NULL, &result, NULL, NULL),
                     0);
    assert_string_equal(pg_result_value(result, 0, pg_result_column(result, "timeline")), "2");
    assert_non_null(strchr(pg_result_value(result, 0, pg_result_column(result, "xlogpos")), '/'));
    pg_result_free(result);
    assert_int_equal(pg_exec(conn, DEADLINE_MS, "TIMELINE_HISTORY 2", 0, NULL, &result, NULL, NULL),
                     0);
    assert_string_equal(pg_result_value(result, 0, 0), "00000002.history");
    assert_int_equal(strncmp(pg_result_value(result, 0, 1), "1\t", 2), 0);
    pg_result_free(result);
    assert_int_equal(
        pg_exec(conn, DEADLINE_MS, "TIMELINE_HISTORY 9", 0, NULL, &result, &outcome, NULL), -1);
    assert_int_equal(outcome.status, PG_SQL_ERROR);
    assert_true(pg_is_open(conn));
    pg_close(conn);
}

static void test_exec__parameters_errors_and_counts(void **state)
{
    const char *params[] = {"it's", NULL};
    struct pg_conn *conn = open_good();
    struct pg_result *result = NULL;
    struct pg_outcome outcome;

    (void)state;
    assert_int_equal(
        pg_exec(conn, DEADLINE_MS, "SELECT $1::text, $2::text", 2, params, &result, NULL, NULL), 0);
    assert_string_equal(pg_result_value(result, 0, 0), "it's");
    assert_null(pg_result_value(result, 0, 1));
    pg_result_free(result);
    assert_int_equal(pg_exec(conn, DEADLINE_MS,
                             "CREATE TEMP TABLE t (a int UNIQUE); INSERT INTO t VALUES (1), (2)", 0,
                             NULL, &result, NULL, NULL),
                     0);
    assert_int_equal(pg_result_affected(result), 2);
    pg_result_free(result);
    assert_int_equal(
        pg_exec(conn, DEADLINE_MS, "INSERT INTO t VALUES (1)", 0, NULL, NULL, &outcome, NULL), -1);
    assert_status(&outcome, PG_SQL_ERROR, "23505");
    assert_int_equal(pg_exec(conn, DEADLINE_MS, "COPY t TO STDOUT", 0, NULL, NULL, &outcome, NULL),
                     -1);
    assert_false(pg_is_open(conn));
    pg_close(conn);
}

static void test_exec__backend_ended__is_lost_and_says_by_what(void **state)
{
    struct pg_conn *conn = open_good(), *other = open_good();
    struct pg_outcome outcome;
    char pid[16];
    const char *params[] = {pid};

    (void)state;
    snprintf(pid, sizeof(pid), "%d", pg_backend_pid(conn));
    assert_int_equal(pg_exec(other, DEADLINE_MS, "SELECT pg_terminate_backend($1::int, 5000)", 1,
                             params, NULL, NULL, NULL),
                     0);
    assert_int_equal(pg_exec(conn, DEADLINE_MS, "SELECT 1", 0, NULL, NULL, &outcome, NULL), -1);
    assert_status(&outcome, PG_LOST, "57P01");
    assert_false(pg_is_open(conn));
    pg_close(conn);
    pg_close(other);
}

static void test_exec__frozen_backend__ends_at_the_deadline(void **state)
{
    struct pg_conn *conn = open_good();
    struct pg_outcome outcome;
    int64_t begin_ms = clock_mono_ms();
    pid_t backend = pg_backend_pid(conn);

    (void)state;
    kill(backend, SIGSTOP);
    assert_int_equal(pg_exec(conn, 200, "SELECT 1", 0, NULL, NULL, &outcome, NULL), -1);
    assert_status(&outcome, PG_TIMEOUT, "");
    assert_in_range(clock_mono_ms() - begin_ms, 195, DEADLINE_MS);
    pg_close(conn);
    kill(backend, SIGCONT);
}

/* ---- Redis */

struct seen {
    int ups, downs, replies;
    bool ok;
    char value[64];
};

static void redis_start(void)
{
    const char *const argv[] = {
        "/usr/bin/redis-server", "--port",      redis_port, "--bind", "127.0.0.1", "--save", "",
        "--requirepass",         "open sesame", NULL};

    redis_pid = spawn("redis.log", argv);
}

static void on_state(struct redis *redis, enum redis_state state, void *arg)
{
    struct seen *seen = arg;

    (void)redis;
    if (state == REDIS_UP)
        seen->ups++;
    else
        seen->downs++;
}

static void reply(bool ok, const char *value, size_t size, const char *error, void *arg)
{
    struct seen *seen = arg;

    (void)error;
    seen->replies++;
    seen->ok = ok;
    if (value != NULL)
        snprintf(seen->value, sizeof(seen->value), "%.*s", (int)size, value);
}

#define RUN_UNTIL(loop, condition)                                                                 \
    do {                                                                                           \
        int64_t until_ms_ = clock_mono_ms() + PATIENCE_MS;                                         \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ms() < until_ms_);                                              \
            assert_int_equal(loop_run_once(loop, 50, NULL), 0);                                    \
        }                                                                                          \
    } while (0)

static void test_redis__restarted_frozen_and_back__costs_nothing(void **state)
{
    struct seen seen = {0};
    struct redis *redis;
    struct loop *loop;
    char password_file[512];

    (void)state;
    pick_port(redis_port);
    snprintf(password_file, sizeof(password_file), "%s", tmp_path("redis-password"));
    write_file(password_file, "open sesame\n");
    struct redis_config config = {.port = atoi(redis_port),
                                  .password_file = password_file,
                                  .database = 2,
                                  .deadline_ms = 300,
                                  .backoff_max_ms = 200,
                                  .on_state = on_state,
                                  .arg = &seen};

    assert_int_equal(loop_new(&loop, NULL), 0);
    assert_int_equal(redis_new(&redis, loop, &config, NULL), 0);
    assert_int_equal(loop_run_once(loop, 100, NULL), 0); /* nobody there yet */
    redis_start();
    RUN_UNTIL(loop, seen.ups == 1);
    redis_set(redis, "ogel:test", "a\0b", 3, reply, &seen);
    redis_get(redis, "ogel:test", reply, &seen);
    redis_publish(redis, "ogel:events", "x", 1, reply, &seen);
    RUN_UNTIL(loop, seen.replies == 3);
    assert_true(seen.ok);
    assert_string_equal(seen.value, "a");

    kill(redis_pid, SIGSTOP);
    int64_t begin_ms = clock_mono_ms();

    redis_set(redis, "ogel:test", "c", 1, reply, &seen);
    assert_true(clock_mono_ms() - begin_ms < 250);
    RUN_UNTIL(loop, seen.replies == 4);
    assert_false(seen.ok);
    assert_int_equal(seen.downs, 1);
    kill(redis_pid, SIGCONT);
    RUN_UNTIL(loop, seen.ups == 2);

    stop(&redis_pid, SIGKILL);
    RUN_UNTIL(loop, seen.downs == 2);
    redis_start();
    RUN_UNTIL(loop, seen.ups == 3);
    redis_free(redis);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe__password_by_scram__gets_its_row),
        cmocka_unit_test(test_probe__refusals__are_told_apart),
        cmocka_unit_test(test_probe__stopped_postmaster__is_a_timeout),
        cmocka_unit_test(test_exec__parameters_errors_and_counts),
        cmocka_unit_test(test_exec__backend_ended__is_lost_and_says_by_what),
        cmocka_unit_test(test_exec__frozen_backend__ends_at_the_deadline),
        cmocka_unit_test(test_probe__server_that_recovers__is_starting_up),
        cmocka_unit_test(test_replication__position_and_history__come_through_exec),
        cmocka_unit_test(test_redis__restarted_frozen_and_back__costs_nothing),
    };

    if (geteuid() == 0) {
        fprintf(stderr, "PostgreSQL refuses root: run as another user\n");
        return 77;
    }
    bindir = getenv("OGEL_PG_BINDIR");
    if (bindir == NULL)
        bindir = "/usr/lib/postgresql/15/bin";
    if (getenv("OGEL_TEST_FILTER") != NULL)
        cmocka_set_test_filter(getenv("OGEL_TEST_FILTER"));
    pg_environment_clear();
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
