/*
 * Just enough of PostgreSQL's protocol (manual, "Frontend/Backend Protocol") for a probe: anybody
 * is let in, and every query is answered with one row that says whether the server is in recovery.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/mem.h"
#include "tests/bench/fake_agents.h"

enum { BACKLOG = 64, BUFFER_BYTES = 2048 };

struct fake_postgres {
    struct fake_node *node;
    int fd;
    struct loop_watch *watch;
};

struct session {
    struct fake_node *node;
    int fd;
    struct loop_watch *watch;
    bool started;
    size_t have;
    unsigned char buffer[BUFFER_BYTES];
};

static void session_free(struct session *session)
{
    loop_watch_free(session->watch);
    close(session->fd);
    free(session);
}

static uint32_t length_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool reply(const struct session *session, const void *bytes, size_t size)
{
    return send(session->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static bool let_in(const struct session *session)
{
    static const char welcome[] = "R\0\0\0\10\0\0\0\0"
                                  "Z\0\0\0\5I";

    return reply(session, welcome, sizeof(welcome) - 1);
}

static bool answer(const struct session *session)
{
    static const char before[] =
        "T\0\0\0\32\0\1?\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0"
        "D\0\0\0\13\0\1\0\0\0\1";
    static const char after[] = "C\0\0\0\15SELECT 1\0"
                                "Z\0\0\0\5I";
    char bytes[sizeof(before) + sizeof(after)];
    size_t size = sizeof(before) - 1;

    memcpy(bytes, before, size);
    bytes[size++] = session->node->report.in_recovery ? 't' : 'f';
    memcpy(bytes + size, after, sizeof(after) - 1);
    return reply(session, bytes, size + sizeof(after) - 1);
}

/* One whole message, if it is there; false: the session is over. */
static bool take_message(struct session *session, size_t *used)
{
    size_t head = session->started ? 1 : 0;
    size_t size;

    *used = 0;
    if (session->have < head + 4)
        return true;
    size = head + length_at(session->buffer + head);
    if (size < head + 4 || size > sizeof(session->buffer))
        return false;
    if (session->have < size)
        return true;
    *used = size;
    if (!session->started) {
        session->started = true;
        return let_in(session);
    }
    return session->buffer[0] == 'Q' ? answer(session) : false;
}

static void on_session(int fd, unsigned events, void *arg)
{
    struct session *session = arg;
    ssize_t n = recv(fd, session->buffer + session->have, sizeof(session->buffer) - session->have,
                     MSG_DONTWAIT);
    size_t used;

    (void)events;
    if (n <= 0) {
        session_free(session);
        return;
    }
    session->have += (size_t)n;
    do {
        if (!take_message(session, &used)) {
            session_free(session);
            return;
        }
        session->have -= used;
        memmove(session->buffer, session->buffer + used, session->have);
    } while (used > 0);
}

/* A server that is down has a listener here all the same; it hangs up. */
static void on_connection(int listener, unsigned events, void *arg)
{
    struct fake_postgres *postgres = arg;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct session *session;

    (void)events;
    if (fd < 0)
        return;
    if (postgres->node->report.pg != PG_UP) {
        close(fd);
        return;
    }
    session = xcalloc(1, sizeof(*session));
    session->node = postgres->node;
    session->fd = fd;
    session->watch = loop_watch_new(postgres->node->cluster->fakes->loop, fd, LOOP_READ, on_session,
                                    session);
}

struct fake_postgres *fake_postgres_start(struct fake_node *node, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    struct fake_postgres *postgres;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fd, BACKLOG) != 0 || getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        err_set(err, ERR_IO, "cannot listen for a simulated Postgres: %m");
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    postgres = xcalloc(1, sizeof(*postgres));
    postgres->node = node;
    postgres->fd = fd;
    postgres->watch = loop_watch_new(node->cluster->fakes->loop, fd, LOOP_READ, on_connection,
                                     postgres);
    node->report.postgres.port = ntohs(address.sin_port);
    return postgres;
}

void fake_postgres_stop(struct fake_postgres *postgres)
{
    if (postgres == NULL)
        return;
    loop_watch_free(postgres->watch);
    close(postgres->fd);
    free(postgres);
}
