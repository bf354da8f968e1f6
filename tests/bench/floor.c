/*
 * The bare floor of a failover: what PostgreSQL itself needs, with nothing to detect and nothing to
 * prove.
 *
 * Given three servers, one leading with ANY 1 of both others: opens its connections, SIGKILLs the
 * leader's postmaster, detaches both standbys, promotes one, re-points the other, and times the
 * first write that the new leader's quorum acknowledges. One run for each start of the program;
 * floor.py builds the servers and repeats it. Prints
 *
 *     {"detach_ms": …, "promote_ms": …, "total_ms": …}        each since the kill
 *
 * usage: floor LEADER_PID PROMOTE_CONNINFO FOLLOW_CONNINFO NEW_PRIMARY_CONNINFO
 */
#include <libpq-fe.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void die(const char *what, PGconn *conn)
{
    fprintf(stderr, "floor: %s: %s", what, conn ? PQerrorMessage(conn) : "\n");
    exit(1);
}

static PGconn *open_conn(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
        die(conninfo, conn);
    return conn;
}

static void send_sql(PGconn *conn, const char *sql)
{
    if (!PQsendQuery(conn, sql))
        die(sql, conn);
}

/* Reads all results; returns whether the first column of the last row is true. */
static int finish(PGconn *conn, const char *what)
{
    PGresult *res;
    int yes = 0;

    while ((res = PQgetResult(conn)) != NULL) {
        ExecStatusType status = PQresultStatus(res);

        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
            die(what, conn);
        yes = PQntuples(res) > 0 && PQgetvalue(res, 0, 0)[0] == 't';
        PQclear(res);
    }
    return yes;
}

static int ask(PGconn *conn, const char *sql)
{
    send_sql(conn, sql);
    return finish(conn, sql);
}

static void run(PGconn *const conn[], size_t n, const char *const sql[])
{
    for (size_t i = 0; i < n; i++)
        send_sql(conn[i], sql[i]);
    for (size_t i = 0; i < n; i++)
        finish(conn[i], sql[i]);
}

int main(int argc, char **argv)
{
    const struct timespec pause = {0, 200000};
    PGconn *standby[2]; /* the one to promote, the other */
    double killed, detached, promoted, written;
    char follow[1024];

    if (argc != 5)
        die("usage: floor LEADER_PID PROMOTE_CONNINFO FOLLOW_CONNINFO NEW_PRIMARY_CONNINFO", NULL);
    standby[0] = open_conn(argv[2]);
    standby[1] = open_conn(argv[3]);
    snprintf(follow, sizeof(follow), "ALTER SYSTEM SET primary_conninfo = '%s'", argv[4]);

    killed = now_ms();
    if (kill((pid_t)atol(argv[1]), SIGKILL) != 0)
        die("kill", NULL);
    run(standby, 2,
        (const char *const[]){"ALTER SYSTEM SET primary_conninfo = ''",
                              "ALTER SYSTEM SET primary_conninfo = ''"});
    run(standby, 2, (const char *const[]){"SELECT pg_reload_conf()", "SELECT pg_reload_conf()"});
    for (int i = 0; i < 2; i++)
        while (!ask(standby[i], "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_wal_receiver)"))
            nanosleep(&pause, NULL);
    detached = now_ms();
    run(standby, 2, (const char *const[]){"SELECT pg_promote(wait => false)", follow});
    ask(standby[1], "SELECT pg_reload_conf()");
    while (!ask(standby[0], "SELECT NOT pg_is_in_recovery()"))
        nanosleep(&pause, NULL);
    promoted = now_ms();
    ask(standby[0], "INSERT INTO floor DEFAULT VALUES");
    written = now_ms();
    printf("{\"detach_ms\": %.1f, \"promote_ms\": %.1f, \"total_ms\": %.1f}\n", detached - killed,
           promoted - killed, written - killed);
    PQfinish(standby[0]);
    PQfinish(standby[1]);
    return 0;
}
