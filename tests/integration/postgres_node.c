#include "tests/integration/postgres_node.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/pgdata.h"
#include "agent/proc.h"
#include "base/file.h"
#include "base/mem.h"
#include "tests/unit/tmpdir.h"

const char *bindir;
struct node nodes[2];
static char os_user[64];

void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

void run(const char *const *argv)
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

int nodes_group_setup(void **state)
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

int nodes_group_teardown(void **state)
{
    (void)state;
    return file_remove_tree(template_dir, NULL);
}

static void node_initdb(struct node *node)
{
    const char *argv[] = {"/bin/cp", "-a", template_dir, node->datadir, NULL};
    run(argv);
}

void node_configure(struct node *node)
{
    unsigned changed;
    check(pgconf_write(&node->conf, &changed, &err_));
}

/* A postmaster's children may outlive it for a moment. */
static void await_nobody(const struct node *node)
{
    int64_t deadline = clock_mono_ms() + 5000;
    struct stat st;
    pid_t pid;

    assert_int_equal(stat(node->datadir, &st), 0);
    while (proc_servers_in_directory(st.st_dev, st.st_ino, &pid, 1) > 0 &&
           clock_mono_ms() < deadline)
        pause_ms(5);
}

void node_start(struct node *node)
{
    char config[PGCONF_PATH_SIZE];
    struct postmaster_spec spec = {.bindir = bindir,
                                   .datadir = node->datadir,
                                   .config_file = pgconf_path(node->state_dir, config),
                                   .state_dir = node->state_dir,
                                   .socket_dir = node->socket_dir};
    await_nobody(node);
    check(postmaster_start(&spec, &node->pm, &err_));
}

PGconn *try_connect(const struct node *node, const char *more)
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

PGconn *node_connect(struct node *node)
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
const char *query(PGconn *conn, const char *sql)
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

const char *node_query(struct node *node, const char *sql)
{
    PGconn *conn = node_connect(node);
    const char *value = query(conn, sql);
    PQfinish(conn);
    return value;
}

void node_kill(struct node *node)
{
    struct postmaster_exit status;
    check(proc_kill_directory(node->datadir, NULL, DEADLINE_MS, &err_));
    check(postmaster_wait(&node->pm, DEADLINE_MS, &status, &err_));
}

struct postmaster_exit node_stop(struct node *node)
{
    struct postmaster_exit status;
    check(postmaster_send(&node->pm, POSTMASTER_FAST, &err_));
    check(postmaster_wait(&node->pm, DEADLINE_MS, &status, &err_));
    return status;
}

/* As an agent does it: a standby first, then promoted; acknowledging alone (tests write with
 * local). */
void node_lead(struct node *node, uint32_t timeline)
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

const char *const write_some =
    "SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS t (a int, b text);"
    "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 2000) i; "
    "SELECT pg_current_wal_insert_lsn()";

void node_give_key(struct node *node, unsigned port)
{
    const struct pgconf_key key = {"127.0.0.1", (uint16_t)port, ROLE_B, PASSWORD};

    check(pgconf_passfile_write(node->state_dir, &key, &err_));
}

/* b as a clone of a, following it. */
void clone_and_follow(struct node *a, struct node *b)
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
    node_give_key(b, a->port);
    check(pgdata_standby_signal(b->datadir, &err_));
    node_start(b);
}

/* How often the node's log says so. */
long log_count(struct node *node, const char *text)
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

bool streams(struct node *a)
{
    return strcmp(node_query(a,
                             "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                             "AND application_name = 'ogel_b_i1_g2'"),
                  "1") == 0;
}

/* --- fixture
 * --------------------------------------------------------------------------------------------- */

int nodes_make(void **state)
{
    if (tmpdir_make(state) != 0)
        return -1;
    node_init(&nodes[0], "a");
    node_init(&nodes[1], "b");
    node_initdb(&nodes[0]);
    return 0;
}

/* By what lives in the directories, so that a failed test leaves nothing either. */
int nodes_remove(void **state)
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

bool nodes_prepare(void)
{
    if (geteuid() == 0) {
        fprintf(stderr, "PostgreSQL refuses root: run as another user\n");
        return false;
    }
    const struct passwd *user = getpwuid(geteuid());
    snprintf(os_user, sizeof os_user, "%s", user == NULL ? "" : user->pw_name);
    bindir = getenv("OGEL_PG_BINDIR");
    if (bindir == NULL)
        bindir = "/usr/lib/postgresql/15/bin";
    if (getenv("OGEL_TEST_FILTER") != NULL)
        cmocka_set_test_filter(getenv("OGEL_TEST_FILTER"));
    return true;
}
