/*
 * A load of writers that never repeats a value and remembers what the database acknowledged.
 *
 * Each writer inserts (writer, sequence) rows into one table, reconnects on any trouble and never
 * sends a value twice, so that afterwards "acknowledged, but not on the leader" can be decided row
 * by row. One line per value goes to the file:
 *
 * <writer> <sequence> <sent, ns> <answered, ns> <A|W|E|U> <port or host that answered>
 *
 * A: acknowledged without warning. W: with a warning (a cancelled wait for the quorum). E: refused
 * with an error, not committed. U: the connection broke or was given up: unknown. Times are
 * CLOCK_MONOTONIC, comparable with Python's time.monotonic_ns() and another process's.
 *
 * Two ways to find the leader: --mode libpq is an ordinary application with a multi-host connection
 * string and target_session_attrs=read-write; --mode race tries every address at once, without
 * blocking, whenever a write has not been answered for --stall-ms: what a silent machine costs such
 * a client is not hidden in connect_timeout, which libpq 15 never lets be less than 2 s.
 */
#include <errno.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOSTS_MAX = 8, CONNINFO_SIZE = 1024, SQL_SIZE = 256 };

static struct {
    const char *hosts[HOSTS_MAX];
    const char *ports[HOSTS_MAX];
    int host_count;
    const char *common; /* dbname, user, ... of every conninfo */
    const char *table;
    bool race;
    int writers, first_writer;
    int pause_ms, retry_ms, stall_ms, lane_ms;
    FILE *out;
} opt = {.common = "",
         .table = "acknowledged",
         .writers = 1,
         .retry_ms = 2,
         .stall_ms = 200,
         .lane_ms = 1000};

static volatile sig_atomic_t stopping;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t last_ack_ns, longest_gap_ns, counts[4];

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void sleep_ms(int ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

    nanosleep(&ts, NULL);
}

static void on_signal(int sig)
{
    (void)sig;
    stopping = 1;
}

/* --- one value -------------------------------------------------------------------------------- */

struct value {
    int writer;
    uint64_t sequence;
    uint64_t sent_ns;
    bool warned;
};

static void record(const struct value *v, char verdict, const PGconn *conn)
{
    uint64_t at = now_ns();
    const char *host = PQhost(conn), *port = PQport(conn);

    pthread_mutex_lock(&out_lock);
    if (verdict == 'A') {
        if (last_ack_ns != 0 && at > last_ack_ns && at - last_ack_ns > longest_gap_ns)
            longest_gap_ns = at - last_ack_ns;
        if (at > last_ack_ns)
            last_ack_ns = at;
    }
    counts[verdict == 'A' ? 0 : verdict == 'W' ? 1 : verdict == 'E' ? 2 : 3]++;
    fprintf(opt.out, "%d %llu %llu %llu %c %s:%s\n", v->writer, (unsigned long long)v->sequence,
            (unsigned long long)v->sent_ns, (unsigned long long)at, verdict, host ? host : "?",
            port ? port : "?");
    fflush(opt.out);
    pthread_mutex_unlock(&out_lock);
}

static void on_notice(void *arg, const PGresult *res)
{
    (void)res;
    ((struct value *)arg)->warned = true;
}

/* Sends the writer's next value; false when the connection is of no use. */
static bool value_send(PGconn *conn, struct value *v, uint64_t sequence)
{
    char sql[SQL_SIZE];

    *v = (struct value){.writer = v->writer, .sequence = sequence, .sent_ns = now_ns()};
    PQsetNoticeReceiver(conn, on_notice, v);
    snprintf(sql, sizeof(sql), "INSERT INTO %s VALUES (%d, %llu)", opt.table, v->writer,
             (unsigned long long)sequence);
    return PQsendQuery(conn, sql) == 1;
}

/* The verdict over a value whose results can be read without blocking: 'A', 'W', 'E', 'U'. */
static char value_verdict(PGconn *conn, const struct value *v)
{
    char verdict = 'U';
    PGresult *res;

    while ((res = PQgetResult(conn)) != NULL) {
        const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

        if (PQresultStatus(res) == PGRES_COMMAND_OK)
            verdict = v->warned ? 'W' : 'A';
        else if (PQstatus(conn) == CONNECTION_OK && state != NULL && strncmp(state, "57", 2) != 0)
            verdict = 'E'; /* 57P0x: the server went away, which says nothing about the commit */
        PQclear(res);
    }
    return PQstatus(conn) == CONNECTION_OK || verdict == 'A' || verdict == 'W' ? verdict : 'U';
}

/* --- an ordinary application ------------------------------------------------------------------ */

static void conninfo_of_all(char out[CONNINFO_SIZE])
{
    char hosts[CONNINFO_SIZE / 3] = "", ports[CONNINFO_SIZE / 3] = "";

    for (int i = 0; i < opt.host_count; i++) {
        size_t h = strlen(hosts), p = strlen(ports);

        snprintf(hosts + h, sizeof(hosts) - h, "%s%s", i ? "," : "", opt.hosts[i]);
        snprintf(ports + p, sizeof(ports) - p, "%s%s", i ? "," : "", opt.ports[i]);
    }
    snprintf(out, CONNINFO_SIZE,
             "host=%s port=%s target_session_attrs=read-write connect_timeout=2 %s", hosts, ports,
             opt.common);
}

/* Waits for the answer, however long it takes; false when told to stop first. */
static bool wait_answer(PGconn *conn)
{
    while (!stopping) {
        struct pollfd pfd = {.fd = PQsocket(conn), .events = POLLIN};

        if (poll(&pfd, 1, 100) > 0 && (!PQconsumeInput(conn) || !PQisBusy(conn)))
            return true;
    }
    return false;
}

static void *libpq_writer(void *arg)
{
    struct value v = {.writer = (int)(intptr_t)arg};
    char conninfo[CONNINFO_SIZE];
    uint64_t sequence = 0;
    PGconn *conn = NULL;

    conninfo_of_all(conninfo);
    while (!stopping) {
        char verdict = 'U';

        if (conn == NULL) {
            conn = PQconnectdb(conninfo);
            if (PQstatus(conn) != CONNECTION_OK) {
                PQfinish(conn);
                conn = NULL;
                sleep_ms(opt.retry_ms);
                continue;
            }
        }
        if (value_send(conn, &v, ++sequence) && wait_answer(conn))
            verdict = value_verdict(conn, &v);
        record(&v, verdict, conn);
        if (verdict != 'A') {
            PQfinish(conn);
            conn = NULL;
        } else if (opt.pause_ms) {
            sleep_ms(opt.pause_ms);
        }
    }
    PQfinish(conn);
    return NULL;
}

/* --- a client that tries every address at once ------------------------------------------------ */

enum lane_state { LANE_IDLE, LANE_CONNECTING, LANE_WRITING, LANE_ANSWERED };

struct lane {
    enum lane_state state;
    PGconn *conn;
    uint64_t since_ns; /* in this state */
    short events;
    struct value value;
};

struct racer {
    uint64_t sequence;
    int current; /* lane that acknowledged last; -1: none */
    uint64_t pause_until_ns;
    struct lane lanes[HOSTS_MAX];
};

static void lane_close(struct lane *lane)
{
    if (lane->state == LANE_WRITING)
        record(&lane->value, 'U', lane->conn);
    PQfinish(lane->conn);
    lane->conn = NULL;
    lane->state = LANE_IDLE;
    lane->since_ns = now_ns();
}

static void lane_connect(struct lane *lane, int host)
{
    char conninfo[CONNINFO_SIZE];

    snprintf(conninfo, sizeof(conninfo), "hostaddr=%s port=%s target_session_attrs=read-write %s",
             opt.hosts[host], opt.ports[host], opt.common);
    lane->conn = PQconnectStart(conninfo);
    lane->state = LANE_CONNECTING;
    lane->since_ns = now_ns();
    lane->events = POLLOUT;
    if (PQstatus(lane->conn) == CONNECTION_BAD)
        lane_close(lane);
}

static void lane_write(struct lane *lane, struct racer *r)
{
    lane->state = LANE_WRITING;
    lane->since_ns = now_ns();
    lane->events = POLLIN;
    if (!value_send(lane->conn, &lane->value, ++r->sequence))
        lane_close(lane);
}

/* The lane's socket is ready. */
static void lane_advance(struct racer *r, int i)
{
    struct lane *lane = &r->lanes[i];
    PostgresPollingStatusType poll_state;
    char verdict;

    if (lane->state == LANE_CONNECTING) {
        poll_state = PQconnectPoll(lane->conn);
        lane->events = poll_state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (poll_state == PGRES_POLLING_FAILED)
            lane_close(lane);
        else if (poll_state == PGRES_POLLING_OK)
            lane_write(lane, r);
        return;
    }
    if (PQconsumeInput(lane->conn) && PQisBusy(lane->conn))
        return;
    verdict = value_verdict(lane->conn, &lane->value);
    record(&lane->value, verdict, lane->conn);
    lane->state = LANE_ANSWERED;
    if (verdict != 'A') {
        lane_close(lane);
        return;
    }
    lane->since_ns = now_ns();
    lane->events = 0;
    r->current = i;
    r->pause_until_ns = now_ns() + (uint64_t)opt.pause_ms * 1000000u;
    for (int j = 0; j < opt.host_count; j++)
        if (j != i && r->lanes[j].state != LANE_IDLE)
            lane_close(&r->lanes[j]);
}

/* Starts and gives up attempts. The lane in use is left alone until it has been silent for
 * stall_ms; from then on all run. */
static void racer_steer(struct racer *r)
{
    struct lane *mine = r->current >= 0 ? &r->lanes[r->current] : NULL;
    uint64_t now = now_ns(), ms = 1000000u;

    if (mine && mine->state == LANE_IDLE)
        mine = NULL;
    if (mine && mine->state == LANE_ANSWERED) {
        if (now < r->pause_until_ns)
            return;
        lane_write(mine, r);
        now = now_ns(); /* not before since_ns */
    }
    if (mine && mine->state == LANE_WRITING && now - mine->since_ns < (uint64_t)opt.stall_ms * ms)
        return;
    if (r->current >= 0 && !(mine && mine->state == LANE_WRITING))
        r->current = -1;
    for (int i = 0; i < opt.host_count; i++) {
        struct lane *lane = &r->lanes[i];
        uint64_t age = now - lane->since_ns;

        if (lane->state != LANE_IDLE && age > (uint64_t)opt.lane_ms * ms)
            lane_close(lane);
        else if (lane->state == LANE_IDLE && age > (uint64_t)opt.retry_ms * ms)
            lane_connect(lane, i);
    }
}

static void *race_writer(void *arg)
{
    struct racer r = {.current = -1};

    for (int i = 0; i < opt.host_count; i++)
        r.lanes[i].value.writer = (int)(intptr_t)arg;
    while (!stopping) {
        struct pollfd pfd[HOSTS_MAX];
        int wait_ms = opt.retry_ms > 0 ? opt.retry_ms : 1;

        racer_steer(&r);
        if (r.pause_until_ns > now_ns())
            wait_ms = opt.pause_ms;
        for (int i = 0; i < opt.host_count; i++) {
            struct lane *lane = &r.lanes[i];

            pfd[i] = (struct pollfd){.fd = -1};
            if (lane->state != LANE_IDLE && lane->events != 0)
                pfd[i] = (struct pollfd){.fd = PQsocket(lane->conn), .events = lane->events};
        }
        if (poll(pfd, (nfds_t)opt.host_count, wait_ms) <= 0)
            continue;
        for (int i = 0; i < opt.host_count; i++)
            if (pfd[i].revents && r.lanes[i].state != LANE_IDLE &&
                pfd[i].fd == PQsocket(r.lanes[i].conn))
                lane_advance(&r, i);
    }
    for (int i = 0; i < opt.host_count; i++)
        if (r.lanes[i].state != LANE_IDLE)
            lane_close(&r.lanes[i]);
    return NULL;
}

/* --- main ------------------------------------------------------------------------------------- */

static void usage(FILE *to)
{
    fputs("usage: writer --host HOST:PORT [--host ...] --out FILE [--conninfo 'user=... "
          "dbname=...']\n"
          "              [--table NAME] [--writers N] [--first N] [--mode libpq|race] [--pause-ms "
          "N]\n"
          "              [--retry-ms N] [--stall-ms N] [--lane-ms N]\n"
          "Inserts until SIGTERM or SIGINT, then prints a summary as JSON.\n",
          to);
}

static int parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"host", required_argument, 0, 'h'},     {"conninfo", required_argument, 0, 'c'},
        {"table", required_argument, 0, 't'},    {"writers", required_argument, 0, 'w'},
        {"mode", required_argument, 0, 'm'},     {"pause-ms", required_argument, 0, 'p'},
        {"retry-ms", required_argument, 0, 'r'}, {"stall-ms", required_argument, 0, 's'},
        {"lane-ms", required_argument, 0, 'l'},  {"out", required_argument, 0, 'o'},
        {"first", required_argument, 0, 'f'},    {0, 0, 0, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        char *colon;

        switch (c) {
        case 'h':
            colon = strrchr(optarg, ':');
            if (colon == NULL || opt.host_count == HOSTS_MAX)
                return -1;
            *colon = '\0';
            opt.hosts[opt.host_count] = optarg;
            opt.ports[opt.host_count++] = colon + 1;
            break;
        case 'c': opt.common = optarg; break;
        case 't': opt.table = optarg; break;
        case 'w': opt.writers = atoi(optarg); break;
        case 'f': opt.first_writer = atoi(optarg); break;
        case 'm': opt.race = strcmp(optarg, "race") == 0; break;
        case 'p': opt.pause_ms = atoi(optarg); break;
        case 'r': opt.retry_ms = atoi(optarg); break;
        case 's': opt.stall_ms = atoi(optarg); break;
        case 'l': opt.lane_ms = atoi(optarg); break;
        case 'o': opt.out = fopen(optarg, "a"); break;
        default: return -1;
        }
    }
    return opt.host_count > 0 && opt.out != NULL && opt.writers > 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_signal};
    pthread_t *threads;

    if (parse(argc, argv) != 0) {
        usage(stderr);
        return 2;
    }
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    threads = calloc((size_t)opt.writers, sizeof(*threads));
    if (threads == NULL)
        return 1;
    for (int i = 0; i < opt.writers; i++)
        if (pthread_create(&threads[i], NULL, opt.race ? race_writer : libpq_writer,
                           (void *)(intptr_t)(opt.first_writer + i)) != 0)
            return 1;
    for (int i = 0; i < opt.writers; i++)
        pthread_join(threads[i], NULL);
    printf("{\"acknowledged\": %llu, \"warned\": %llu, \"refused\": %llu, \"unknown\": %llu, "
           "\"longest_gap_ms\": %.1f}\n",
           (unsigned long long)counts[0], (unsigned long long)counts[1],
           (unsigned long long)counts[2], (unsigned long long)counts[3],
           (double)longest_gap_ns / 1e6);
    fclose(opt.out);
    free(threads);
    return 0;
}
