#include "snapshots/source.h"

#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/procfs.h"
#include "base/rand.h"
#include "base/units.h"

enum { IDLE_TIMEOUT_MS = 300000, OLDEST_SERVER = 150000 };

struct source {
    PGconn *conn;
    int64_t idle_timeout_ms;
    int64_t max_rate_kb;
    int64_t wal_segment_size;
    bool has_checksums;
    bool spread_checkpoint;
    char warning[256]; /* the server's first: it says more than the error that follows */
};

/* --- talking -------------------------------------------------------------------------------- */

static int conn_failed(const struct source *source, const char *what, struct err *err)
{
    const char *text = PQerrorMessage(source->conn);

    return err_set(err, PQstatus(source->conn) == CONNECTION_OK ? ERR_REFUSED : ERR_UNAVAILABLE,
                   "%s: %.*s%s%s", what, (int)strcspn(text, "\n"), text,
                   source->warning[0] != '\0' ? "; before that: " : "", source->warning);
}

/* libpq's own way would be to print it. */
static void keep_warning(void *arg, const char *text)
{
    struct source *source = arg;

    if (source->warning[0] == '\0' && strncmp(text, "NOTICE", strlen("NOTICE")) != 0)
        snprintf(source->warning, sizeof(source->warning), "%.*s", (int)strcspn(text, "\n"), text);
}

static bool input_waits(const struct source *source)
{
    struct pollfd pfd = {.fd = PQsocket(source->conn), .events = POLLIN};

    return poll(&pfd, 1, 0) > 0;
}

/* Takes what has come, if anything has. */
static int take_input(const struct source *source, struct err *err)
{
    return PQconsumeInput(source->conn) == 0 ? conn_failed(source, "the server is lost", err) : 0;
}

/* Until the server has sent something. */
static int wait_for_input(const struct source *source, int64_t deadline_ms, struct err *err)
{
    struct pollfd pfd = {.fd = PQsocket(source->conn), .events = POLLIN};
    int64_t left_ms = deadline_ms - clock_mono_ms();
    int rc;

    if (left_ms <= 0)
        return err_set(err, ERR_TIMEOUT, "the server sent nothing for %" PRId64 " s",
                       source->idle_timeout_ms / 1000);
    rc = poll(&pfd, 1, left_ms > 1000 ? 1000 : (int)left_ms);
    if (rc < 0 && errno != EINTR)
        return err_set_errno(err, errno, "cannot wait for the server");
    /* also after a silence: what TLS has decrypted already does not show in the socket */
    return rc < 0 ? 0 : take_input(source, err);
}

/* The next result of the command under way; NULL with err set on failure, NULL without at the
 * command's end. */
static PGresult *next_result(const struct source *source, struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + source->idle_timeout_ms;
    PGresult *result;
    ExecStatusType status;

    while (PQisBusy(source->conn)) {
        if (wait_for_input(source, deadline_ms, err) < 0)
            return NULL;
    }
    result = PQgetResult(source->conn);
    status = PQresultStatus(result);
    if (result == NULL || status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK ||
        status == PGRES_COPY_OUT)
        return result;
    PQclear(result);
    conn_failed(source, "the server refuses", err);
    return NULL;
}

/* The result that must come next. */
static PGresult *expect(const struct source *source, ExecStatusType status, struct err *err)
{
    PGresult *result;

    err_clear(err);
    result = next_result(source, err);
    if (result == NULL && err->code == ERR_NONE)
        err_set(err, ERR_CORRUPT, "the server ended a command early");
    if (result != NULL && PQresultStatus(result) != status) {
        err_set(err, ERR_CORRUPT, "the server answered with %s instead of %s",
                PQresStatus(PQresultStatus(result)), PQresStatus(status));
        PQclear(result);
        return NULL;
    }
    return result;
}

/* A command with rows, to its end; NULL with err. */
static PGresult *ask(const struct source *source, const char *command, struct err *err)
{
    PGresult *result, *end;

    if (PQsendQuery(source->conn, command) == 0) {
        conn_failed(source, "cannot ask the server", err);
        return NULL;
    }
    result = expect(source, PGRES_TUPLES_OK, err);
    while (result != NULL && (end = next_result(source, err)) != NULL)
        PQclear(end);
    if (result != NULL && err->code != ERR_NONE) {
        PQclear(result);
        return NULL;
    }
    return result;
}

static const char *value(const PGresult *result, int row, int column)
{
    return row < PQntuples(result) && column < PQnfields(result) &&
                   !PQgetisnull(result, row, column)
               ? PQgetvalue(result, row, column)
               : "";
}

/* --- opening -------------------------------------------------------------------------------- */

static int check_conninfo(const char *conninfo, struct err *err)
{
    char *message = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &message);
    int rc = 0;

    if (options == NULL) {
        rc = err_set(err, ERR_INVALID, "conninfo: %.*s",
                     message != NULL ? (int)strcspn(message, "\n") : 0,
                     message != NULL ? message : "");
        PQfreemem(message);
        return rc;
    }
    for (PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (strcmp(option->keyword, "password") == 0 && option->val != NULL)
            rc = err_set(err, ERR_INVALID,
                         "conninfo: a password on a command line can be read by everybody; put it "
                         "into a passfile (passfile=FILE, or ~/.pgpass)");
    }
    PQconninfoFree(options);
    return rc;
}

static int connect_to(struct source *source, const char *conninfo, struct err *err)
{
    const char *const keywords[] = {"fallback_application_name",
                                    "connect_timeout",
                                    "tcp_user_timeout",
                                    "dbname",
                                    "replication",
                                    NULL};
    const char *const values[] = {"ogelctl-snapshot", "15", "60000", conninfo, "true", NULL};

    source->conn = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(source->conn) != CONNECTION_OK)
        return conn_failed(source, "cannot connect to the server", err);
    PQsetNoticeProcessor(source->conn, keep_warning, source);
    if (PQserverVersion(source->conn) < OLDEST_SERVER)
        return err_set(err, ERR_REFUSED, "the server is PostgreSQL %d, 15 is the oldest that works",
                       PQserverVersion(source->conn) / 10000);
    return 0;
}

/* Where this process was made nice, so is the server's process that reads for it: both work for the
 * snapshot. Only one that is proven to be ours, by the server on the other side of the socket,
 * which has to be of this machine and user; nothing rests on it. */
static void share_priority(const struct source *source)
{
    struct ucred server = {0};
    struct proc_stat stat;
    socklen_t size = sizeof(server);
    int mine = getpriority(PRIO_PROCESS, 0), pid = PQbackendPID(source->conn);

    if (mine > 0 &&
        getsockopt(PQsocket(source->conn), SOL_SOCKET, SO_PEERCRED, &server, &size) == 0 &&
        proc_stat_read(pid, &stat) && stat.ppid == server.pid)
        (void)setpriority(PRIO_PROCESS, (id_t)pid, mine);
}

static int ask_setting(struct source *source, const char *name, char *text, size_t size,
                       struct err *err)
{
    char command[64];
    PGresult *result;

    snprintf(command, sizeof(command), "SHOW %s", name);
    result = ask(source, command, err);
    if (result == NULL)
        return -1;
    snprintf(text, size, "%s", value(result, 0, 0));
    PQclear(result);
    return 0;
}

static int ask_pages(struct source *source, struct err *err)
{
    char checksums[8], page[16], segment[16];

    if (ask_setting(source, "data_checksums", checksums, sizeof(checksums), err) < 0 ||
        ask_setting(source, "block_size", page, sizeof(page), err) < 0 ||
        ask_setting(source, "segment_size", segment, sizeof(segment), err) < 0)
        return -1;
    source->has_checksums = strcmp(checksums, "on") == 0 && strcmp(page, "8192") == 0 &&
                            strcmp(segment, "1GB") == 0;
    return 0;
}

static int identify(struct source *source, struct manifest *manifest, struct err *err)
{
    PGresult *result = ask(source, "IDENTIFY_SYSTEM", err);
    char size[32];

    if (result == NULL)
        return -1;
    manifest->system_id = strtoull(value(result, 0, 0), NULL, 10);
    manifest->timeline = (uint32_t)strtoul(value(result, 0, 1), NULL, 10);
    manifest->postgres_version = (uint32_t)PQserverVersion(source->conn);
    PQclear(result);
    if (manifest->system_id == 0 || manifest->timeline == 0)
        return err_set(err, ERR_CORRUPT, "the server does not say who it is");
    if (ask_setting(source, "cluster_name", manifest->cluster, sizeof(manifest->cluster), err) <
            0 ||
        ask_setting(source, "wal_segment_size", size, sizeof(size), err) < 0)
        return -1;
    if (units_parse_size(size, &source->wal_segment_size, err) < 0 || source->wal_segment_size <= 0)
        return err_set(err, ERR_CORRUPT, "the server's wal_segment_size makes no sense");
    return ask_pages(source, err);
}

/* Without it a busy server may recycle WAL that the backup needs before it is sent. It ends with
 * the session. */
static int keep_wal(struct source *source, struct err *err)
{
    char command[128];
    PGresult *result;

    snprintf(command, sizeof(command),
             "CREATE_REPLICATION_SLOT ogel_snapshot_%016" PRIx64
             " TEMPORARY PHYSICAL (RESERVE_WAL)",
             rand_u64());
    result = ask(source, command, err);
    if (result == NULL)
        return err_context(err, "cannot keep the WAL that the backup needs");
    PQclear(result);
    return 0;
}

int source_open(const struct source_options *options, struct source **out,
                struct manifest *manifest, struct err *err)
{
    struct source *source = xcalloc(1, sizeof(*source));
    struct err none = {0};

    *out = NULL;
    err = err != NULL ? err : &none;
    err_clear(err);
    source->idle_timeout_ms = options->idle_timeout_ms > 0 ? options->idle_timeout_ms
                                                           : IDLE_TIMEOUT_MS;
    source->max_rate_kb = options->max_rate_kb;
    source->spread_checkpoint = options->spread_checkpoint;
    if (check_conninfo(options->conninfo, err) < 0 ||
        connect_to(source, options->conninfo, err) < 0 || identify(source, manifest, err) < 0) {
        source_close(source);
        return -1;
    }
    share_priority(source);
    *out = source;
    return 0;
}

int64_t source_wal_segment_size(const struct source *source)
{
    return source->wal_segment_size;
}

bool source_has_checksums(const struct source *source)
{
    return source->has_checksums;
}

void source_close(struct source *source)
{
    if (source == NULL)
        return;
    PQfinish(source->conn);
    free(source);
}

/* --- the backup ----------------------------------------------------------------------------- */

static int read_start(struct source *source, struct manifest *manifest, struct err *err)
{
    PGresult *result = expect(source, PGRES_TUPLES_OK, err);
    int rc;

    if (result == NULL)
        return -1;
    rc = units_parse_lsn(value(result, 0, 0), &manifest->start_lsn, err);
    manifest->timeline = (uint32_t)strtoul(value(result, 0, 1), NULL, 10);
    PQclear(result);
    return rc;
}

static int read_tablespaces(struct source *source, struct manifest *manifest, uint64_t *total,
                            struct err *err)
{
    PGresult *result = expect(source, PGRES_TUPLES_OK, err);
    int rows, rc = 0;

    if (result == NULL)
        return -1;
    rows = PQntuples(result);
    *total = 0;
    manifest->tablespaces = xcalloc((size_t)rows + 1, sizeof(manifest->tablespaces[0]));
    if (rows > MANIFEST_TABLESPACES_MAX)
        rc = err_set(err, ERR_INVALID, "%d tablespaces are too many", rows);
    for (int i = 0; rc == 0 && i < rows; i++) {
        struct manifest_tablespace *one = &manifest->tablespaces[manifest->tablespace_count];
        const char *oid = value(result, i, 0), *location = value(result, i, 1);

        *total += strtoull(value(result, i, 2), NULL, 10) * 1024;
        if (oid[0] == '\0')
            continue; /* the data directory itself */
        one->oid = (uint32_t)strtoul(oid, NULL, 10);
        if (strlen(location) >= sizeof(one->location))
            rc = err_set(err, ERR_INVALID, "the path of tablespace %s is too long", oid);
        snprintf(one->location, sizeof(one->location), "%s", location);
        manifest->tablespace_count++;
    }
    PQclear(result);
    return rc;
}

int source_start(struct source *source, const char *label, bool checks, struct manifest *manifest,
                 uint64_t *total, struct err *err)
{
    char rate[48] = "", command[256];
    PGresult *result;

    if (keep_wal(source, err) < 0)
        return -1;
    if (source->max_rate_kb > 0)
        snprintf(rate, sizeof(rate), ", MAX_RATE %" PRId64, source->max_rate_kb);
    snprintf(command, sizeof(command),
             "BASE_BACKUP (LABEL '%s', PROGRESS, CHECKPOINT '%s', WAL, WAIT false, MANIFEST 'yes', "
             "MANIFEST_CHECKSUMS 'NONE', TARGET 'client', VERIFY_CHECKSUMS %s%s)",
             label, source->spread_checkpoint ? "spread" : "fast", checks ? "true" : "false", rate);
    if (PQsendQuery(source->conn, command) == 0)
        return conn_failed(source, "cannot ask for a base backup", err);
    if (read_start(source, manifest, err) < 0 || read_tablespaces(source, manifest, total, err) < 0)
        return err_context(err, "cannot begin a base backup");
    result = expect(source, PGRES_COPY_OUT, err);
    if (result == NULL)
        return err_context(err, "cannot begin a base backup");
    PQclear(result);
    return 0;
}

/* "base.tar" or "16385.tar", then where it was, both with their NULs. */
static int begin_archive(const struct source_handler *handler, void *arg, const char *data,
                         size_t len, struct err *err)
{
    char *end;
    unsigned long oid = 0;

    if (memchr(data, '\0', len) == NULL)
        return err_set(err, ERR_CORRUPT, "the server names an archive without an end");
    if (strcmp(data, "base.tar") != 0) {
        oid = strtoul(data, &end, 10);
        if (oid == 0 || oid > UINT32_MAX || strcmp(end, ".tar") != 0)
            return err_set(err, ERR_CORRUPT, "the server sends an unknown archive \"%.64s\"", data);
    }
    return handler->archive(arg, (uint32_t)oid, err);
}

/* One message of the stream; *IN_MANIFEST is where its content goes. */
static int take_message(const struct source_handler *handler, void *arg, const char *data,
                        size_t len, bool *in_manifest, struct err *err)
{
    switch (data[0]) {
    case 'n':
        if (*in_manifest)
            return err_set(err, ERR_CORRUPT, "the server sends an archive behind its manifest");
        return begin_archive(handler, arg, data + 1, len - 1, err);
    case 'm': *in_manifest = true; return 0;
    case 'd':
        return *in_manifest ? handler->manifest(arg, data + 1, len - 1, err)
                            : handler->content(arg, data + 1, len - 1, err);
    case 'p': return 0; /* our own count is finer */
    default:
        return err_set(err, ERR_CORRUPT, "the server sends messages of the unknown type %d",
                       data[0]);
    }
}

/* A socket of the same machine holds a tenth of a millisecond's worth. To sleep whenever it is
 * empty, and be woken by the server, which sleeps whenever it is full, let both processors stand
 * idle for a fifth of the time. */
static int more_input(const struct source *source, const struct source_handler *handler, void *arg,
                      int64_t deadline_ms, struct err *err)
{
    if (input_waits(source))
        return take_input(source, err);
    if (handler->meanwhile(arg))
        return 0;
    return wait_for_input(source, deadline_ms, err);
}

static int take_stream(struct source *source, const struct source_handler *handler, void *arg,
                       struct err *err)
{
    int64_t deadline_ms = clock_mono_ms() + source->idle_timeout_ms;
    bool in_manifest = false;

    for (;;) {
        char *data = NULL;
        int len = PQgetCopyData(source->conn, &data, 1), rc;

        if (len == -1)
            return 0;
        if (len == -2)
            return conn_failed(source, "the base backup ended early", err);
        if (len == 0) {
            if (more_input(source, handler, arg, deadline_ms, err) < 0)
                return -1;
            continue;
        }
        rc = take_message(handler, arg, data, (size_t)len, &in_manifest, err);
        PQfreemem(data);
        if (rc < 0)
            return -1;
        /* What the handler took is not the server's silence. */
        deadline_ms = clock_mono_ms() + source->idle_timeout_ms;
    }
}

int source_run(struct source *source, const struct source_handler *handler, void *arg,
               struct manifest *manifest, struct err *err)
{
    struct err none = {0};
    PGresult *result;
    int rc;

    err = err != NULL ? err : &none;
    if (take_stream(source, handler, arg, err) < 0)
        return -1;
    result = expect(source, PGRES_TUPLES_OK, err);
    if (result == NULL)
        return err_context(err, "the base backup did not end well");
    rc = units_parse_lsn(value(result, 0, 0), &manifest->stop_lsn, err);
    PQclear(result);
    while (rc == 0 && (result = next_result(source, err)) != NULL)
        PQclear(result);
    if (rc == 0 && err->code != ERR_NONE)
        rc = err_context(err, "the base backup did not end well");
    return rc;
}
