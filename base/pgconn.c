/*
 * One engine for both kinds: a link is a connection that is being made or used, and link_step()
 * does what can be done now and says what to wait for. The loop waits by a watch, a worker by
 * poll().
 */
#include "base/pgconn.h"

#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/resolve.h"

enum link_state { LINK_CONNECTING, LINK_IDLE, LINK_QUERYING, LINK_BROKEN };

struct link {
    PGconn *conn;
    enum link_state state;
    PGresult *result; /* the last one of the statement under way */
    struct pg_outcome outcome;
};

struct pg_result {
    PGresult *rows;
};

struct pg_conn {
    struct link link;
};

struct pg_probe {
    struct loop *loop;
    struct link link;
    char *sql;
    pg_probe_fn *fn;
    void *arg;
    struct loop_watch *watch;
    struct loop_timer *deadline;
    struct loop_timer *soon; /* an outcome that was known at the start is told from the loop */
    int deadline_ms;
    int64_t started_us;
};

const char *pg_status_name(enum pg_status status)
{
    static const char *const names[] = {"ok",   "refused", "unreachable", "timeout", "starting_up",
                                        "auth", "lost",    "sql_error",   "other"};

    return (size_t)status < OGEL_ARRAY_LEN(names) ? names[status] : "unknown";
}

void pg_environment_clear(void)
{
    for (size_t i = 0; environ[i] != NULL;) {
        size_t len = strcspn(environ[i], "=");

        if (strncmp(environ[i], "PG", 2) != 0) {
            i++;
            continue;
        }
        char *name = xstrndup(environ[i], len);

        unsetenv(name);
        free(name);
    }
}

/* ---- outcomes */

static int outcome_set(struct pg_outcome *outcome, enum pg_status status, const char *sqlstate,
                       const char *message)
{
    size_t len = 0;

    outcome->status = status;
    snprintf(outcome->sqlstate, sizeof(outcome->sqlstate), "%s", sqlstate);
    /* One line: libpq puts each hint and each address tried on its own. */
    for (const char *at = message; *at != '\0' && len < sizeof(outcome->message) - 1; at++) {
        bool space = isspace((unsigned char)*at) != 0;

        if (space && (len == 0 || outcome->message[len - 1] == ' '))
            continue;
        outcome->message[len++] = space ? ' ' : *at;
    }
    while (len > 0 && outcome->message[len - 1] == ' ')
        len--;
    outcome->message[len] = '\0';
    return -1;
}

static int err_from_outcome(struct err *err, const struct pg_outcome *outcome)
{
    static const enum err_code codes[] = {
        [PG_OK] = ERR_NONE,
        [PG_REFUSED] = ERR_UNAVAILABLE,
        [PG_UNREACHABLE] = ERR_UNAVAILABLE,
        [PG_TIMEOUT] = ERR_TIMEOUT,
        [PG_STARTING_UP] = ERR_UNAVAILABLE,
        [PG_AUTH] = ERR_AUTH,
        [PG_LOST] = ERR_UNAVAILABLE,
        [PG_SQL_ERROR] = ERR_REFUSED,
        [PG_OTHER] = ERR_IO,
    };

    return err_set(err, codes[outcome->status], "%s", outcome->message);
}

/* libpq keeps the SQLSTATE of a refused connection to itself, but writes it into a verbose message:
 * "FATAL:  57P03: the database system is starting up\nLOCATION:  …". Severity and text may be
 * translated, this form is not. */
static void find_sqlstate(const char *message, char sqlstate[6])
{
    sqlstate[0] = '\0';
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        const char *code = at + 3;
        size_t len = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");

        if (len == 5 && code[5] == ':') {
            memcpy(sqlstate, code, 5);
            sqlstate[5] = '\0';
            return;
        }
    }
}

static bool says(const char *message, int errnum)
{
    return strstr(message, strerror(errnum)) != NULL;
}

static enum pg_status classify_connect(PGconn *conn, const char *message, const char *sqlstate)
{
    if (strcmp(sqlstate, "57P03") == 0)
        return PG_STARTING_UP;
    if (strncmp(sqlstate, "28", 2) == 0 || PQconnectionNeedsPassword(conn))
        return PG_AUTH;
    if (sqlstate[0] != '\0')
        return PG_OTHER;
    /* No such socket is what a postmaster leaves that ended. */
    if (says(message, ECONNREFUSED) || says(message, ENOENT))
        return PG_REFUSED;
    if (says(message, EHOSTUNREACH) || says(message, ENETUNREACH))
        return PG_UNREACHABLE;
    /* A Unix socket whose backlog is full answers EAGAIN: somebody holds it and does not accept. */
    if (says(message, ETIMEDOUT) || says(message, EAGAIN))
        return PG_TIMEOUT;
    if (says(message, ECONNRESET) || strstr(message, "server closed the connection") != NULL)
        return PG_LOST;
    return PG_OTHER;
}

static void connect_failed(struct link *link)
{
    const char *text = PQerrorMessage(link->conn);
    char sqlstate[6];
    char *message = xstrdup(text);
    char *location = strstr(message, "\nLOCATION:");

    if (location != NULL)
        *location = '\0';
    find_sqlstate(message, sqlstate);
    outcome_set(&link->outcome, classify_connect(link->conn, message, sqlstate), sqlstate, message);
    free(message);
    link->state = LINK_BROKEN;
}

static void query_failed(struct link *link, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool lost = PQstatus(link->conn) != CONNECTION_OK ||
                (severity != NULL && strcmp(severity, "ERROR") != 0);
    enum pg_status status = lost ? PG_LOST : sqlstate != NULL ? PG_SQL_ERROR : PG_OTHER;

    if (link->outcome.status == PG_OK)
        outcome_set(&link->outcome, status, sqlstate != NULL ? sqlstate : "",
                    result != NULL ? PQresultErrorMessage(result) : PQerrorMessage(link->conn));
    if (lost)
        link->state = LINK_BROKEN;
}

/* ---- the engine */

static void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static const char *conninfo_value(const struct pg_conninfo *info, const char *keyword)
{
    const char *value = "";

    for (size_t i = 0; info->keywords[i] != NULL; i++)
        if (strcmp(info->keywords[i], keyword) == 0 && info->values[i] != NULL)
            value = info->values[i];
    return value;
}

/* Anything that would make libpq look up a name is refused; hostaddr it takes as a number only. */
static bool never_blocks(const struct pg_conninfo *info)
{
    const char *host = conninfo_value(info, "host");

    return conninfo_value(info, "hostaddr")[0] != '\0' || host[0] == '/' || host[0] == '@' ||
           resolve_is_literal(host);
}

static void link_start(struct link *link, const struct pg_conninfo *info, int deadline_ms)
{
    enum { DEFAULTS = 8 };
    bool replication = conninfo_value(info, "replication")[0] != '\0';
    char timeout[16];
    const char *const defaults[DEFAULTS][2] = {
        {"gssencmode", "disable"},
        {"sslmode", "disable"},
        {"passfile", "/nonexistent"}, /* /dev/null makes libpq warn on stderr */
        {"tcp_user_timeout", timeout},
        {"keepalives_idle", "5"},
        {"keepalives_interval", "2"},
        {"keepalives_count", "3"},
        {"client_encoding", replication ? NULL : "UTF8"}};
    const char **keywords, **values;
    size_t n = 0;

    *link = (struct link){.state = LINK_BROKEN};
    if (!never_blocks(info)) {
        outcome_set(&link->outcome, PG_OTHER, "",
                    "a numeric address (hostaddr) or a socket directory is needed to connect");
        return;
    }
    snprintf(timeout, sizeof(timeout), "%d", deadline_ms);
    while (info->keywords[n] != NULL)
        n++;
    keywords = xcalloc(DEFAULTS + n + 1, sizeof(*keywords));
    values = xcalloc(DEFAULTS + n + 1, sizeof(*values));
    for (size_t i = 0; i < DEFAULTS + n; i++) {
        keywords[i] = i < DEFAULTS ? defaults[i][0] : info->keywords[i - DEFAULTS];
        values[i] = i < DEFAULTS ? defaults[i][1] : info->values[i - DEFAULTS];
    }
    link->conn = PQconnectStartParams(keywords, values, 0);
    free(keywords);
    free(values);
    OGEL_CHECK(link->conn != NULL);
    PQsetErrorVerbosity(link->conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
    if (PQstatus(link->conn) == CONNECTION_BAD)
        connect_failed(link);
    else
        link->state = LINK_CONNECTING;
}

static void link_close(struct link *link)
{
    PQclear(link->result);
    link->result = NULL;
    PQfinish(link->conn);
    link->conn = NULL;
    link->state = LINK_BROKEN;
}

static unsigned step_connecting(struct link *link)
{
    switch (PQconnectPoll(link->conn)) {
    case PGRES_POLLING_READING: return LOOP_READ;
    case PGRES_POLLING_WRITING: return LOOP_WRITE;
    case PGRES_POLLING_OK:
        /* From here on nothing that libpq sends may block, not even its good-bye. */
        PQsetnonblocking(link->conn, 1);
        PQsetErrorVerbosity(link->conn, PQERRORS_DEFAULT);
        link->state = LINK_IDLE;
        return 0;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE: break;
    }
    connect_failed(link);
    return 0;
}

static void take_result(struct link *link, PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        PQclear(link->result);
        link->result = result;
        return;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE: query_failed(link, result); break;
    case PGRES_EMPTY_QUERY: break;
    default:
        /* COPY would keep the connection in a mode that nothing here leaves. */
        outcome_set(&link->outcome, PG_OTHER, "", "this statement cannot be used here");
        link->state = LINK_BROKEN;
        break;
    }
    PQclear(result);
}

static unsigned step_querying(struct link *link)
{
    int unsent = PQflush(link->conn);

    if (unsent < 0 || PQconsumeInput(link->conn) == 0) {
        /* What the server said before it hung up is worth more than that it did. */
        PGresult *last = PQisBusy(link->conn) ? NULL : PQgetResult(link->conn);

        query_failed(link, last);
        PQclear(last);
        link->state = LINK_BROKEN;
        return 0;
    }
    while (PQisBusy(link->conn) == 0) {
        PGresult *result = PQgetResult(link->conn);

        if (result == NULL) {
            link->state = LINK_IDLE;
            return 0;
        }
        take_result(link, result);
        if (link->state == LINK_BROKEN)
            return 0;
    }
    return LOOP_READ | (unsent > 0 ? LOOP_WRITE : 0u);
}

/* Does what can be done without waiting. Returns the LOOP_* events to wait for, or 0: idle or
 * broken. */
static unsigned link_step(struct link *link)
{
    switch (link->state) {
    case LINK_CONNECTING: return step_connecting(link);
    case LINK_QUERYING: return step_querying(link);
    case LINK_IDLE:
    case LINK_BROKEN: break;
    }
    return 0;
}

/* Simple protocol without parameters: several statements, and replication commands, need it. */
static void link_send(struct link *link, const char *sql, int n_params, const char *const *params)
{
    int sent;

    link->outcome = (struct pg_outcome){.status = PG_OK};
    link->state = LINK_QUERYING;
    if (n_params == 0)
        sent = PQsendQuery(link->conn, sql);
    else
        sent = PQsendQueryParams(link->conn, sql, n_params, NULL, params, NULL, NULL, 0);
    if (sent == 0)
        query_failed(link, NULL);
    if (sent == 0 && link->state == LINK_QUERYING)
        link->state = LINK_IDLE;
}

static void link_timed_out(struct link *link, int deadline_ms)
{
    char message[96];

    snprintf(message, sizeof(message), "%s within %d ms",
             link->state == LINK_CONNECTING ? "no connection" : "no result", deadline_ms);
    outcome_set(&link->outcome, PG_TIMEOUT, "", message);
    link->state = LINK_BROKEN;
}

/* ---- results */

int pg_result_rows(const struct pg_result *result)
{
    return PQntuples(result->rows);
}

int pg_result_columns(const struct pg_result *result)
{
    return PQnfields(result->rows);
}

int pg_result_column(const struct pg_result *result, const char *name)
{
    return PQfnumber(result->rows, name);
}

const char *pg_result_value(const struct pg_result *result, int row, int column)
{
    if (row < 0 || column < 0 || row >= PQntuples(result->rows) ||
        column >= PQnfields(result->rows) || PQgetisnull(result->rows, row, column))
        return NULL;
    return PQgetvalue(result->rows, row, column);
}

int64_t pg_result_affected(const struct pg_result *result)
{
    return strtoll(PQcmdTuples(result->rows), NULL, 10);
}

void pg_result_free(struct pg_result *result)
{
    if (result == NULL)
        return;
    PQclear(result->rows);
    free(result);
}

/* ---- in the loop */

static void probe_free(struct pg_probe *probe)
{
    loop_watch_free(probe->watch);
    loop_timer_free(probe->deadline);
    loop_timer_free(probe->soon);
    link_close(&probe->link);
    free(probe->sql);
    free(probe);
}

/* Closed before the callback: it may be the last thing the caller's process does with this server.
 */
static void probe_finish(struct pg_probe *probe)
{
    struct pg_result result = {.rows = probe->link.result};
    struct pg_outcome outcome = probe->link.outcome;

    probe->link.result = NULL;
    loop_watch_free(probe->watch);
    probe->watch = NULL;
    loop_timer_stop(probe->deadline);
    link_close(&probe->link);
    probe->fn(&outcome, outcome.status == PG_OK && result.rows != NULL ? &result : NULL,
              clock_mono_us() - probe->started_us, probe->arg);
    PQclear(result.rows);
    probe_free(probe);
}

static void probe_ready(int fd, unsigned events, void *arg);

static void probe_step(struct pg_probe *probe)
{
    bool was_connecting = probe->link.state == LINK_CONNECTING;
    unsigned events;

    /* libpq may close its socket and open another one under the same number. */
    loop_watch_free(probe->watch);
    probe->watch = NULL;
    events = link_step(&probe->link);
    if (events == 0 && was_connecting && probe->link.state == LINK_IDLE && probe->sql != NULL) {
        link_send(&probe->link, probe->sql, 0, NULL);
        events = link_step(&probe->link);
    }
    if (events == 0)
        probe_finish(probe);
    else
        probe->watch = loop_watch_new(probe->loop, PQsocket(probe->link.conn), events, probe_ready,
                                      probe);
}

static void probe_ready(int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    probe_step(arg);
}

static void probe_deadline(void *arg)
{
    struct pg_probe *probe = arg;

    link_timed_out(&probe->link, probe->deadline_ms);
    probe_finish(probe);
}

static void probe_failed(void *arg)
{
    probe_finish(arg);
}

struct pg_probe *pg_probe_start(struct loop *loop, const struct pg_conninfo *conninfo,
                                const char *sql, int deadline_ms, pg_probe_fn *fn, void *arg)
{
    struct pg_probe *probe = xcalloc(1, sizeof(*probe));

    probe->loop = loop;
    probe->fn = fn;
    probe->arg = arg;
    probe->deadline_ms = deadline_ms;
    probe->started_us = clock_mono_us();
    probe->sql = sql != NULL ? xstrdup(sql) : NULL;
    probe->deadline = loop_timer_new(loop, probe_deadline, probe);
    probe->soon = loop_timer_new(loop, probe_failed, probe);
    link_start(&probe->link, conninfo, deadline_ms);
    if (probe->link.state == LINK_BROKEN) {
        loop_timer_start(probe->soon, 0);
        return probe;
    }
    probe->watch = loop_watch_new(loop, PQsocket(probe->link.conn), LOOP_WRITE, probe_ready, probe);
    loop_timer_start(probe->deadline, deadline_ms);
    return probe;
}

void pg_probe_cancel(struct pg_probe *probe)
{
    /* Within its own callback the connection is gone already, and the rest follows. */
    if (probe == NULL || (probe->link.conn == NULL && !loop_timer_armed(probe->soon)))
        return;
    probe_free(probe);
}

/* ---- blocking */

/* Runs the link until it is idle or broken, or the deadline has passed. */
static void link_wait(struct link *link, unsigned events, int deadline_ms)
{
    int64_t until_ms = clock_mono_ms() + deadline_ms;

    while (events != 0) {
        struct pollfd fd = {.fd = PQsocket(link->conn),
                            .events = (short)((events & LOOP_READ ? POLLIN : 0) |
                                              (events & LOOP_WRITE ? POLLOUT : 0))};
        int64_t left_ms = until_ms - clock_mono_ms();
        int ready = left_ms > 0 ? poll(&fd, 1, (int)left_ms) : 0;

        if (ready > 0) {
            events = link_step(link);
        } else if (left_ms <= 0) {
            link_timed_out(link, deadline_ms);
            return;
        }
    }
}

struct pg_conn *pg_open(const struct pg_conninfo *conninfo, int deadline_ms,
                        struct pg_outcome *outcome, struct err *err)
{
    struct pg_conn *conn = xcalloc(1, sizeof(*conn));

    link_start(&conn->link, conninfo, deadline_ms);
    if (conn->link.state == LINK_CONNECTING)
        link_wait(&conn->link, LOOP_WRITE, deadline_ms);
    *outcome = conn->link.outcome;
    if (conn->link.state == LINK_IDLE)
        return conn;
    err_from_outcome(err, outcome);
    pg_close(conn);
    return NULL;
}

void pg_close(struct pg_conn *conn)
{
    if (conn == NULL)
        return;
    link_close(&conn->link);
    free(conn);
}

int pg_exec(struct pg_conn *conn, int deadline_ms, const char *sql, int n_params,
            const char *const *params, struct pg_result **result, struct pg_outcome *outcome,
            struct err *err)
{
    struct link *link = &conn->link;

    if (link->conn == NULL) {
        outcome_set(&link->outcome, PG_LOST, "", "the connection is closed");
    } else {
        link_send(link, sql, n_params, params);
        link_wait(link, link_step(link), deadline_ms);
    }
    if (outcome != NULL)
        *outcome = link->outcome;
    if (link->outcome.status == PG_OK && result != NULL) {
        *result = xcalloc(1, sizeof(**result));
        (*result)->rows = link->result;
        link->result = NULL;
    }
    PQclear(link->result);
    link->result = NULL;
    if (link->state == LINK_BROKEN)
        link_close(link);
    if (link->outcome.status != PG_OK)
        return err_from_outcome(err, &link->outcome);
    return 0;
}

bool pg_is_open(const struct pg_conn *conn)
{
    return conn->link.conn != NULL;
}

int pg_backend_pid(const struct pg_conn *conn)
{
    return PQbackendPID(conn->link.conn);
}

int pg_server_version(const struct pg_conn *conn)
{
    return PQserverVersion(conn->link.conn);
}

char *pg_quote_literal(struct pg_conn *conn, const char *text)
{
    return conn->link.conn != NULL ? PQescapeLiteral(conn->link.conn, text, strlen(text)) : NULL;
}

char *pg_quote_identifier(struct pg_conn *conn, const char *name)
{
    return conn->link.conn != NULL ? PQescapeIdentifier(conn->link.conn, name, strlen(name)) : NULL;
}
