/*
 * Listening, connections, and the way of a request to its handler. libmicrohttpd runs in "external
 * epoll" mode: its epoll descriptor is one descriptor of the loop.
 *
 * libmicrohttpd's own timeout counts from the last byte, so a client that sends one byte now and
 * then is never late; here each stage of a request has a deadline of its own and a sweep shuts the
 * sockets of those that passed it.
 */
#include "base/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/http_internal.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/secret.h"

enum {
    LISTEN_BACKLOG = 511,
    KEEPALIVE_IDLE_S = 15, /* a client that vanished without a word is noticed after 15 + 3 × 5 s */
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_PROBES = 3,
    USER_TIMEOUT_MS = 20 * 1000,
    DRAIN_MAX_BYTES = 16 << 20, /* of a refused body, so that its sender reads the answer */
    SPARE_CONNECTIONS = 32,     /* accepted beyond the limit while others make room */
    ROUNDS_MAX = 16             /* of libmicrohttpd in one round of the loop */
};

/* ---- connections */

int64_t http_conn_enter(struct http_conn *conn, enum http_stage stage)
{
    int64_t now_us = clock_mono_us();

    conn->stage = stage;
    conn->since_ms = now_us / 1000;
    return now_us;
}

void http_conn_shut(struct http_conn *conn)
{
    if (!conn->shut)
        shutdown(conn->fd, SHUT_RDWR);
    conn->shut = true;
}

void http_conn_resume(struct http_conn *conn)
{
    MHD_resume_connection(conn->mhd);
    if (!loop_timer_armed(conn->request.server->again))
        loop_timer_start(conn->request.server->again, 0);
}

static void client_closed(int fd, unsigned events, void *arg)
{
    struct http_conn *conn = arg;

    (void)fd;
    (void)events;
    http_conn_watch_closed(conn, false);
    if (conn->stage == HTTP_STAGE_SUSPENDED) {
        http_conn_wake(conn, HTTP_WAKE_CLOSED);
        return;
    }
    http_conn_shut(conn);
    http_stream_unpark(conn);
}

void http_conn_watch_closed(struct http_conn *conn, bool on)
{
    if (conn->closed != NULL)
        loop_watch_set(conn->closed, on ? LOOP_CLOSED : 0);
    else if (on)
        conn->closed = loop_watch_new(conn->request.server->loop, conn->fd, LOOP_CLOSED,
                                      client_closed, conn);
}

static void note_peer(struct http_conn *conn, const struct sockaddr *address)
{
    const char *text = NULL;

    if (address->sa_family == AF_INET) {
        text = inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr,
                         conn->peer, sizeof(conn->peer));
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *ip6 = &((const struct sockaddr_in6 *)(const void *)address)
                                          ->sin6_addr;

        if (IN6_IS_ADDR_V4MAPPED(ip6))
            text = inet_ntop(AF_INET, &ip6->s6_addr[12], conn->peer, sizeof(conn->peer));
        else
            text = inet_ntop(AF_INET6, ip6, conn->peer, sizeof(conn->peer));
    }
    if (text == NULL)
        snprintf(conn->peer, sizeof(conn->peer), "unknown");
}

/* Over the limit: the connection that waits longest for its client to ask something goes; if all
 * are busy, the newcomer. */
static void make_room(struct http_server *server, struct http_conn *newcomer)
{
    struct http_conn *victim = newcomer;

    for (struct http_conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if ((conn->stage == HTTP_STAGE_IDLE || conn->stage == HTTP_STAGE_HEADER) && !conn->shut &&
            conn->since_ms < victim->since_ms)
            victim = conn;
    }
    server->stats.overflow_dropped_total++;
    http_conn_shut(victim);
}

static void sweep(void *arg);

static void connection_opened(struct http_server *server, struct MHD_Connection *mhd,
                              void **context)
{
    struct http_conn *conn = xcalloc(1, sizeof(*conn));

    conn->mhd = mhd;
    conn->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    note_peer(conn, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    conn->request.server = server;
    http_conn_enter(conn, HTTP_STAGE_IDLE);
    conn->next = server->conns;
    if (conn->next != NULL)
        conn->next->prev = conn;
    server->conns = conn;
    *context = conn;

    if (server->stats.connections++ == 0) {
        int shortest_ms = server->config.request_timeout_ms < server->config.idle_timeout_ms
                              ? server->config.request_timeout_ms
                              : server->config.idle_timeout_ms;

        loop_timer_repeat(server->sweep, shortest_ms / 4 > 1000 ? 1000 : shortest_ms / 4 + 1);
    }
    if (server->stats.connections > server->config.connections_max)
        make_room(server, conn);
}

static void connection_closed(struct http_server *server, struct http_conn *conn)
{
    loop_watch_free(conn->closed);
    loop_timer_free(conn->timer);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    free(conn->body);
    free(conn);
    if (--server->stats.connections == 0)
        loop_timer_stop(server->sweep);
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_opened(arg, mhd, context);
    else
        connection_closed(arg, *context);
}

static bool too_slow(const struct http_conn *conn, int64_t now_ms)
{
    const struct http_server_config *config = &conn->request.server->config;
    int64_t age_ms = now_ms - conn->since_ms;

    switch (conn->stage) {
    case HTTP_STAGE_IDLE:
        /* status != 0: it has been served before and is kept. */
        return age_ms > (conn->status != 0 ? config->idle_timeout_ms : config->request_timeout_ms);
    case HTTP_STAGE_HEADER:
    case HTTP_STAGE_BODY:
    case HTTP_STAGE_ANSWERED: return age_ms > config->request_timeout_ms;
    case HTTP_STAGE_HANDLING:
    case HTTP_STAGE_SUSPENDED:
    case HTTP_STAGE_STREAMING:
    case HTTP_STAGE_GONE: break;
    }
    return false;
}

static void sweep(void *arg)
{
    struct http_server *server = arg;
    int64_t now_ms = clock_mono_ms();

    for (struct http_conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->shut || !too_slow(conn, now_ms))
            continue;
        if (conn->stage != HTTP_STAGE_IDLE)
            server->stats.slow_dropped_total++;
        http_conn_shut(conn);
    }
}

/* ---- the way of a request */

/* Called for each request line, with what stands in it. Its result is handed to on_request(). */
static void *on_request_line(void *arg, const char *uri, struct MHD_Connection *mhd)
{
    struct http_conn *conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
                                 ->socket_context;

    (void)arg;
    http_conn_enter(conn, HTTP_STAGE_HEADER);
    conn->refusal = strlen(uri) > HTTP_URI_MAX ? 414 : 0;
    /* A decoded NUL would end the path or the value early. */
    conn->bad_uri = strstr(uri, "%00") != NULL;
    return conn;
}

static enum http_method parse_method(const char *text)
{
    static const struct {
        const char *text;
        enum http_method method;
    } methods[] = {{"GET", HTTP_GET},    {"POST", HTTP_POST},     {"HEAD", HTTP_HEAD},
                   {"PUT", HTTP_PUT},    {"DELETE", HTTP_DELETE}, {"OPTIONS", HTTP_OPTIONS},
                   {"PATCH", HTTP_PATCH}};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(methods); i++)
        if (strcmp(text, methods[i].text) == 0)
            return methods[i].method;
    return 0;
}

/* Compares with every token, and all of its buffer, so that the time says nothing about any of
 * them. */
static void authenticate(struct http_conn *conn)
{
    struct http_server *server = conn->request.server;
    const char *header = http_request_header(&conn->request, "Authorization");
    const struct http_secret *found = NULL;
    char given[HTTP_SECRET_SIZE] = {0};

    conn->request.role = HTTP_ROLE_NONE;
    conn->request.token_name = NULL;
    if (header == NULL || strncasecmp(header, "Bearer ", 7) != 0)
        return;
    header += 7;
    header += strspn(header, " ");
    if (strlen(header) >= sizeof(given))
        return;
    memcpy(given, header, strlen(header));
    for (size_t i = 0; i < server->n_tokens; i++)
        if (CRYPTO_memcmp(given, server->tokens[i].secret, sizeof(given)) == 0)
            found = &server->tokens[i];
    if (found == NULL)
        return;
    memcpy(conn->token_name, found->name, sizeof(conn->token_name));
    conn->request.token_name = conn->token_name;
    conn->request.role = found->role;
}

static int check_access(const struct http_conn *conn, enum http_access access)
{
    enum http_role role = conn->request.role;

    if (access == HTTP_OPEN)
        return 0;
    if (role == HTTP_ROLE_NONE)
        return 401;
    if ((access == HTTP_ADMIN && role != HTTP_ROLE_ADMIN) ||
        (access == HTTP_PEER && role != HTTP_ROLE_PEER))
        return 403;
    return 0;
}

/* The header is complete: decides who asks what, and whether to refuse it. */
static int judge(struct http_conn *conn, const char *path, const char *method_text)
{
    const struct http_server_config *config = &conn->request.server->config;
    enum http_method method = parse_method(method_text);
    size_t header_size = MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)
                             ->header_size;

    conn->is_head = method == HTTP_HEAD;
    conn->request.path = path;
    conn->request.method = method;
    conn->request.peer = conn->peer;
    conn->request.user = NULL;
    http_routes_match(conn->request.server->routes, method, path, &conn->match);
    conn->request.route = conn->match.route;
    authenticate(conn);

    if (conn->bad_uri)
        return 400;
    if (conn->refusal != 0)
        return conn->refusal;
    if (header_size > config->header_max_bytes)
        return 431;
    if (conn->match.allowed == 0)
        return strlen(path) >= HTTP_PATH_SIZE ? 414 : 404;
    if (conn->match.route < 0 && method == HTTP_OPTIONS)
        return 204;
    if (conn->match.route < 0)
        return 405;

    const struct http_route *route = &config->routes[conn->match.route];

    if (conn->is_head && !(route->methods & HTTP_HEAD))
        conn->request.method = HTTP_GET;
    return check_access(conn, route->access);
}

static void begin(struct http_conn *conn, const char *path, const char *method)
{
    conn->started_us = http_conn_enter(conn, HTTP_STAGE_BODY);
    conn->waited = false;
    conn->status = 0;
    conn->body_capacity = conn->received_bytes = 0;
    conn->request.body = "";
    conn->request.body_size = 0;
    conn->request.server->stats.requests_total++;
    conn->refusal = judge(conn, path, method);
    if (conn->refusal == 401 || conn->refusal == 403)
        conn->request.server->stats.refused_tokens_total++;
}

/* Whether to refuse before the body has come: only if the client waits for our word, or if it
 * announced more than would be read to its end. libmicrohttpd closes the connection then; in all
 * other cases the body is read first, so that the answer is not lost in a reset. */
static bool refuse_early(struct http_conn *conn)
{
    const char *length = http_request_header(&conn->request, "Content-Length");
    unsigned long long size = length != NULL ? strtoull(length, NULL, 10) : 0;

    if (conn->refusal == 0 && size > conn->request.server->config.body_max_bytes)
        conn->refusal = 413;
    if (conn->refusal == 0)
        return false;
    if (size == 0 && http_request_header(&conn->request, "Transfer-Encoding") == NULL)
        return false;
    return size > DRAIN_MAX_BYTES || http_request_header(&conn->request, "Expect") != NULL;
}

/* Takes a piece of the body; false to drop the connection. */
static bool take_body(struct http_conn *conn, const char *data, size_t size)
{
    size_t max = conn->request.server->config.body_max_bytes;

    conn->received_bytes += size;
    if (conn->received_bytes > max && conn->refusal == 0)
        conn->refusal = 413;
    if (conn->refusal != 0)
        return conn->received_bytes <= DRAIN_MAX_BYTES;
    if (conn->received_bytes + 1 > conn->body_capacity) {
        size_t capacity = conn->body_capacity == 0 ? 4096 : conn->body_capacity * 2;

        while (capacity < conn->received_bytes + 1)
            capacity *= 2;
        conn->body = xreallocarray(conn->body, capacity, 1);
        conn->body_capacity = capacity;
    }
    memcpy(conn->body + conn->received_bytes - size, data, size);
    conn->body[conn->received_bytes] = '\0';
    conn->request.body = conn->body;
    conn->request.body_size = conn->received_bytes;
    return true;
}

static void handle(struct http_conn *conn)
{
    const struct http_route *route;

    conn->stage = HTTP_STAGE_HANDLING;
    if (conn->refusal != 0) {
        http_respond_refusal(conn);
        return;
    }
    route = &conn->request.server->config.routes[conn->match.route];
    route->handler(&conn->request, route->arg);
    if (conn->response == NULL && conn->stage == HTTP_STAGE_HANDLING) {
        log_event(LOG_LEVEL_ERROR, "http_no_answer", "{s:s}", "route", route->pattern);
        http_respond_problem(&conn->request, 500, NULL, "this request was left without an answer");
    }
}

static enum MHD_Result queue(struct http_conn *conn)
{
    enum MHD_Result result;

    if (conn->stream != NULL)
        http_conn_enter(conn, HTTP_STAGE_STREAMING);
    else
        http_conn_enter(conn, HTTP_STAGE_ANSWERED);
    result = MHD_queue_response(conn->mhd, (unsigned)conn->status, conn->response);
    http_conn_forget_answer(conn);
    return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    struct http_conn *conn = *context;

    (void)arg;
    (void)mhd;
    (void)version;
    if (conn->request.server->stopping || conn->stage == HTTP_STAGE_GONE)
        return MHD_NO;
    if (conn->stage == HTTP_STAGE_HEADER) {
        begin(conn, path, method);
        if (conn->request.method != HTTP_GET && refuse_early(conn)) {
            handle(conn);
            return queue(conn);
        }
        return MHD_YES;
    }
    if (*size > 0) {
        bool taken = take_body(conn, data, *size);

        *size = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (conn->stage == HTTP_STAGE_BODY)
        handle(conn);
    if (conn->response != NULL)
        return queue(conn);
    http_conn_park(conn);
    return MHD_YES;
}

/* The answer is out, or the client is. */
static void on_completed(void *arg, struct MHD_Connection *mhd, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_server *server = arg;
    struct http_conn *conn = *context;

    (void)mhd;
    (void)code;
    OGEL_CHECK(conn->stage != HTTP_STAGE_SUSPENDED);
    http_stream_finish(conn);
    if (conn->stage == HTTP_STAGE_GONE || conn->status == 0)
        conn->status = 499;
    http_conn_forget_answer(conn);
    free(conn->body);
    conn->body = NULL;
    int64_t now_us = http_conn_enter(conn, HTTP_STAGE_IDLE);
    if (server->config.observe != NULL)
        server->config.observe(server->config.observe_arg, conn->match.route, conn->status,
                               now_us - conn->started_us, conn->waited);
}

/* ---- reading a request */

const char *http_request_param(const struct http_request *request, const char *name)
{
    const struct http_match *match = &http_conn_of(request)->match;

    for (int i = 0; i < match->n_params; i++)
        if (strcmp(match->names[i], name) == 0)
            return match->values[i];
    return NULL;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
    const char *value = NULL;

    if (MHD_lookup_connection_value_n(http_conn_of(request)->mhd, MHD_GET_ARGUMENT_KIND, name,
                                      strlen(name), &value, NULL) != MHD_YES)
        return NULL;
    return value != NULL ? value : "";
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(http_conn_of(request)->mhd, MHD_HEADER_KIND, name);
}

struct each {
    bool (*fn)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result each_value(void *arg, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    const struct each *each = arg;

    (void)kind;
    return each->fn(each->arg, name, value != NULL ? value : "") ? MHD_YES : MHD_NO;
}

void http_request_query_each(const struct http_request *request,
                             bool (*fn)(void *arg, const char *name, const char *value), void *arg)
{
    struct each each = {.fn = fn, .arg = arg};

    MHD_get_connection_values(http_conn_of(request)->mhd, MHD_GET_ARGUMENT_KIND, each_value, &each);
}

/* ---- the server */

static void run(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;

    for (int i = 0; i < ROUNDS_MAX; i++) {
        MHD_run(server->daemon);
        if (MHD_get_timeout(server->daemon, &wait_ms) != MHD_YES || wait_ms > 0)
            return;
    }
    loop_timer_start(server->again, 0);
}

static void on_ready(int fd, unsigned events, void *arg)
{
    (void)fd;
    (void)events;
    run(arg);
}

static void on_again(void *arg)
{
    run(arg);
}

static int listen_failed(const struct http_server_config *config, int errnum, struct err *err)
{
    if (errnum == EADDRINUSE)
        return err_set(err, ERR_CONFLICT,
                       "cannot listen on %s port %d: another process listens there; stop it or "
                       "choose another port",
                       config->address, config->port);
    if (errnum == EADDRNOTAVAIL)
        return err_set(err, ERR_INVALID,
                       "cannot listen on %s port %d: this machine has no such address",
                       config->address, config->port);
    if (errnum == EACCES)
        return err_set(err, ERR_REFUSED,
                       "cannot listen on %s port %d: ports below 1024 need a privilege; choose a "
                       "higher one",
                       config->address, config->port);
    return err_set_errno(err, errnum, "cannot listen on %s port %d", config->address, config->port);
}

static void set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_REUSEADDR, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1}, /* this and what follows is inherited by accept() */
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
        {IPPROTO_TCP, TCP_NODELAY, 1}};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         sizeof(options[i].value));
}

static int open_listener(const struct http_server_config *config, int *port, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    struct sockaddr_storage bound;
    socklen_t bound_size = sizeof(bound);
    char port_text[12];
    int fd = -1;

    snprintf(port_text, sizeof(port_text), "%d", config->port);
    if (config->port < 0 || config->port > 65535 ||
        getaddrinfo(config->address, port_text, &hints, &list) != 0)
        return err_set(err, ERR_INVALID,
                       "cannot listen on \"%s\" port %d: not an IPv4 or IPv6 address and a port",
                       config->address, config->port);
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        listen_failed(config, errno, err);
        goto out;
    }
    set_options(fd);
    if (bind(fd, list->ai_addr, list->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &bound_size) != 0) {
        listen_failed(config, errno, err);
        close(fd);
        fd = -1;
        goto out;
    }
    *port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                              : ((struct sockaddr_in *)&bound)->sin_port);

out:
    freeaddrinfo(list);
    return fd;
}

static void set_defaults(struct http_server_config *config)
{
    if (config->address == NULL)
        config->address = "127.0.0.1";
    if (config->body_max_bytes == 0)
        config->body_max_bytes = 1 << 20;
    if (config->header_max_bytes == 0)
        config->header_max_bytes = 8 << 10;
    if (config->connections_max <= 0)
        config->connections_max = 1024;
    if (config->idle_timeout_ms <= 0)
        config->idle_timeout_ms = 60 * 1000;
    if (config->request_timeout_ms <= 0)
        config->request_timeout_ms = 10 * 1000;
    if (config->stream_backlog_max_bytes == 0)
        config->stream_backlog_max_bytes = 256 << 10;
}

int http_server_set_tokens(struct http_server *server, const struct http_token *tokens, size_t n,
                           struct err *err)
{
    struct http_secret *copies = xcalloc(n + 1, sizeof(*copies));

    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(tokens[i].secret);

        if (len < 16 || len >= sizeof(copies[i].secret) || tokens[i].role == HTTP_ROLE_NONE ||
            strlen(tokens[i].name) >= sizeof(copies[i].name)) {
            secret_wipe(copies, n * sizeof(*copies));
            free(copies);
            return err_set(err, ERR_INVALID,
                           "token \"%s\": needs 16 to 256 characters, a role and a name of at "
                           "most %d characters",
                           tokens[i].name, HTTP_TOKEN_NAME_SIZE - 1);
        }
        memcpy(copies[i].secret, tokens[i].secret, len);
        memcpy(copies[i].name, tokens[i].name, strlen(tokens[i].name));
        copies[i].role = tokens[i].role;
    }
    if (server->tokens != NULL)
        secret_wipe(server->tokens, server->n_tokens * sizeof(*server->tokens));
    free(server->tokens);
    server->tokens = copies;
    server->n_tokens = n;
    return 0;
}

static int start_daemon(struct http_server *server, int listen_fd, struct err *err)
{
    const struct http_server_config *config = &server->config;
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, config->connections_max + SPARE_CONNECTIONS, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, config->connections_per_peer_max, NULL},
        /* The request's header, its index, and the answer's header share it. */
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)(config->header_max_bytes + 8192), NULL},
        {MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
        {MHD_OPTION_END, 0, NULL}};

    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, server,
        MHD_OPTION_ARRAY, options, MHD_OPTION_URI_LOG_CALLBACK, on_request_line, server,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_END);
    if (server->daemon == NULL) {
        err_set_errno(err, errno, "cannot serve HTTP on %s port %d", config->address, config->port);
        close(listen_fd);
        return -1;
    }
    server->watch = loop_watch_new(
        server->loop, MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
        LOOP_READ, on_ready, server);
    return 0;
}

int http_server_start(struct http_server **result, struct loop *loop,
                      const struct http_server_config *config, struct err *err)
{
    struct http_server *server = xcalloc(1, sizeof(*server));
    int listen_fd;

    server->loop = loop;
    server->config = *config;
    set_defaults(&server->config);
    server->config.tokens = NULL; /* copied, and the caller's may go */
    server->again = loop_timer_new(loop, on_again, server);
    server->sweep = loop_timer_new(loop, sweep, server);
    if (config->tls != NULL) {
        err_set(err, ERR_INVALID, "TLS is not available yet");
        goto fail;
    }
    if (server->config.header_max_bytes > 64 << 10) {
        err_set(err, ERR_INVALID, "request headers may have at most 64 KiB");
        goto fail;
    }
    if (http_routes_new(&server->routes, config->routes, config->n_routes, err) != 0 ||
        http_server_set_tokens(server, config->tokens, config->n_tokens, err) != 0)
        goto fail;
    listen_fd = open_listener(&server->config, &server->port, err);
    if (listen_fd < 0 || start_daemon(server, listen_fd, err) != 0)
        goto fail;
    /* The address may be the caller's buffer; it was needed for errors only. */
    server->config.address = NULL;
    run(server);
    *result = server;
    return 0;

fail:
    http_server_stop(server);
    return -1;
}

void http_server_stop(struct http_server *server)
{
    if (server == NULL)
        return;
    server->stopping = true;
    for (struct http_conn *conn = server->conns; conn != NULL; conn = conn->next) {
        http_conn_shut(conn);
        if (conn->stage == HTTP_STAGE_SUSPENDED)
            http_conn_wake(conn, HTTP_WAKE_CLOSED);
        else if (conn->stage == HTTP_STAGE_STREAMING)
            http_stream_unpark(conn);
    }
    if (server->daemon != NULL) {
        /* It must have no suspended connection left when it stops; resuming takes it a round. */
        MHD_run(server->daemon);
        MHD_run(server->daemon);
        loop_watch_free(server->watch);
        MHD_stop_daemon(server->daemon);
    }
    OGEL_CHECK(server->conns == NULL);
    loop_timer_free(server->again);
    loop_timer_free(server->sweep);
    http_routes_free(server->routes);
    if (server->tokens != NULL)
        secret_wipe(server->tokens, server->n_tokens * sizeof(*server->tokens));
    free(server->tokens);
    free(server);
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stats(const struct http_server *server, struct http_server_stats *stats)
{
    *stats = server->stats;
}
