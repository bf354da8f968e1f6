/* Real servers for tests of the agent's Postgres layer: one that leads, one that follows. */
#ifndef OGEL_TESTS_INTEGRATION_POSTGRES_NODE_H
#define OGEL_TESTS_INTEGRATION_POSTGRES_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <libpq-fe.h>
#include <sys/types.h>

#include "agent/pgconf.h"
#include "agent/postmaster.h"
#include "base/clock.h"
#include "base/err.h"

enum { DEADLINE_MS = 60000, PATH_SIZE = 512 };

#define SUPERUSER "ogel"
#define ROLE_B    "ogel_b_i1"
#define PASSWORD  "key'of\\b:1"

extern const char *bindir; /* of the server's programs: OGEL_PG_BINDIR */

struct node {
    char name[16];
    char datadir[PATH_SIZE];
    char state_dir[PATH_SIZE];
    char socket_dir[PATH_SIZE];
    uint16_t port;
    struct pgconf conf;
    struct postmaster pm;
};

extern struct node nodes[2]; /* a leads, b follows */

/* For calls that fill an error: it is told where one fails. */
#define check(call)                                                                                \
    do {                                                                                           \
        struct err err_ = {0};                                                                     \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, err_.text);                                                  \
    } while (0)

void pause_ms(long ms);

/* Waits for a condition; the deadline only ends a test that has failed. */
#define wait_until(condition)                                                                      \
    do {                                                                                           \
        int64_t deadline_ = clock_mono_ms() + DEADLINE_MS;                                         \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() > deadline_)                                                       \
                fail_msg("did not happen: %s", #condition);                                        \
            pause_ms(5);                                                                           \
        }                                                                                          \
    } while (0)

/* Setup and teardown of each test: two nodes, the first initialised; whatever lives in their
 * directories ends, also when the test failed. */
int nodes_make(void **state);
int nodes_remove(void **state);

/* Runs the group; exit status 77 (skipped) as root. OGEL_TEST_FILTER is cmocka's filter. */
#define nodes_run_tests(tests)                                                                     \
    (nodes_prepare() ? cmocka_run_group_tests(tests, nodes_group_setup, nodes_group_teardown) : 77)
bool nodes_prepare(void);
int nodes_group_setup(void **state);
int nodes_group_teardown(void **state);

/* A program that must succeed. */
void run(const char *const *argv);

void node_configure(struct node *node);
void node_start(struct node *node);
void node_kill(struct node *node);
struct postmaster_exit node_stop(struct node *node);

/* As an agent does it: a standby first, then promoted; it acknowledges alone (tests write with
 * local). */
void node_lead(struct node *node, uint32_t timeline);

/* b as a clone of a, following it. */
void clone_and_follow(struct node *a, struct node *b);
/* NODE's receiver can authenticate at the server of that port. */
void node_give_key(struct node *node, unsigned port);
bool streams(struct node *a);

/* How often the node's log says so. */
long log_count(struct node *node, const char *text);

/* As superuser through the socket; MORE is part of the connection string. NULL if it cannot be had.
 */
PGconn *try_connect(const struct node *node, const char *more);
/* Once it accepts connections. */
PGconn *node_connect(struct node *node);

/* First column of the first row, from four buffers in turn. */
const char *query(PGconn *conn, const char *sql);
const char *node_query(struct node *node, const char *sql);

/* A statement that writes and returns the insert position. */
extern const char *const write_some;

#endif
