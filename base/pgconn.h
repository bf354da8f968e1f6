/*
 * Connections to PostgreSQL, over libpq, with a deadline on everything: probes in the loop, and
 * blocking statements for worker threads. No PG* variable, no service file, no .pgpass and no GSS
 * ticket has a say; hosts must be literals, socket directories, or come with hostaddr, because
 * libpq's own lookup would block.
 */
#ifndef OGEL_BASE_PGCONN_H
#define OGEL_BASE_PGCONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct pg_conn;
struct pg_probe;
struct pg_result;

enum pg_status {
    PG_OK,
    PG_REFUSED,     /* the host answers, nobody listens there (or no such socket) */
    PG_UNREACHABLE, /* no route: says as little as silence, only sooner */
    PG_TIMEOUT,     /* silence, or too slow for the deadline */
    PG_STARTING_UP, /* 57P03: a postmaster is there and does not serve now: starting, stopping, not
                       yet consistent */
    PG_AUTH,        /* 28xxx, or a password was wanted and there is none */
    PG_LOST,        /* the connection broke: a statement under way may have been carried out */
    PG_SQL_ERROR,   /* the server refused a statement, see sqlstate; the connection is fine */
    PG_OTHER /* anything else, see sqlstate (53300 too many connections, 3D000 no such database, …)
                and message */
};

/* How something ended. */
struct pg_outcome {
    enum pg_status status;
    char sqlstate[6];  /* "" if the server said none */
    char message[256]; /* for people; one line, "" when OK */
};

const char *pg_status_name(enum pg_status status); /* "starting_up" */

/* Connection parameters as for PQconnectdbParams(): both arrays end with NULL; entries with a NULL
 * value are skipped. Defaults added before them: gssencmode=disable, sslmode=disable,
 * passfile=/dev/null, tcp_user_timeout and connect deadlines. Use "hostaddr" (or a literal or a
 * socket directory as "host"), "port", "user", "dbname", "password", "application_name",
 * "replication" ("true" for physical), "options". */
struct pg_conninfo {
    const char *const *keywords;
    const char *const *values;
};

/* Removes every PG* variable that libpq reads. Once, at start-up, before any thread. */
void pg_environment_clear(void);

/* ---- results: all text. Rows and columns count from 0. */
int pg_result_rows(const struct pg_result *result);
int pg_result_columns(const struct pg_result *result);
int pg_result_column(const struct pg_result *result, const char *name); /* -1 if there is none */
const char *pg_result_value(const struct pg_result *result, int row,
                            int column);                    /* NULL for SQL's NULL */
int64_t pg_result_affected(const struct pg_result *result); /* rows a command touched */
void pg_result_free(struct pg_result *result);              /* NULL is allowed */

/* ---- (a) in the loop: a fresh connection, one statement (or several, ';' between; the last one's
 * rows), closed. */

/* result is NULL unless outcome->status is PG_OK; both belong to the caller of the callback and end
 * with it. duration_us is since the start. */
typedef void pg_probe_fn(const struct pg_outcome *outcome, const struct pg_result *result,
                         int64_t duration_us, void *arg);

/* sql NULL: only connect. conninfo and sql are copied. The deadline covers everything. Exactly one
 * callback, never from within this call; the handle is valid until the callback returns or it is
 * cancelled. */
struct pg_probe *pg_probe_start(struct loop *loop, const struct pg_conninfo *conninfo,
                                const char *sql, int deadline_ms, pg_probe_fn *fn, void *arg);
void pg_probe_cancel(struct pg_probe *probe); /* NULL is allowed */

/* ---- (b) blocking, for worker threads. One thread at a time per connection. */

/* Connects within deadline_ms. Returns NULL on failure; outcome (never NULL) says how, err (NULL
 * allowed) in words. */
struct pg_conn *pg_open(const struct pg_conninfo *conninfo, int deadline_ms,
                        struct pg_outcome *outcome, struct err *err);
void pg_close(struct pg_conn *conn); /* NULL is allowed */

/* Runs one statement with n_params text parameters ($1…; NULL values are SQL's NULL), or, with
 * n_params 0, one simple query: several statements, or a replication command (IDENTIFY_SYSTEM,
 * TIMELINE_HISTORY n). result (NULL allowed) gets the last result's rows, to be freed; untouched on
 * failure. Returns 0, or -1 with outcome (NULL allowed) and err (NULL allowed). After PG_TIMEOUT or
 * PG_LOST the connection is closed and pg_is_open() false: what a server goes on doing is unknown
 * then. */
OGEL_MUST_CHECK int pg_exec(struct pg_conn *conn, int deadline_ms, const char *sql, int n_params,
                            const char *const *params, struct pg_result **result,
                            struct pg_outcome *outcome, struct err *err);
bool pg_is_open(const struct pg_conn *conn);
int pg_backend_pid(const struct pg_conn *conn);
int pg_server_version(const struct pg_conn *conn); /* 150020 */

/* Quotes for use within a statement; malloc()ed results. NULL if the text is not valid in the
 * connection's encoding. */
char *pg_quote_literal(struct pg_conn *conn, const char *text);
char *pg_quote_identifier(struct pg_conn *conn, const char *name);

#endif
