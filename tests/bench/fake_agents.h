/*
 * Agents without Postgres, many in one process: what an orchestrator sees of N clusters of three
 * nodes, at the speed of a struct. They obey the one message at once, by the ordering rules that
 * real agents obey (protocol/order.h), and their reports have full size.
 */
#ifndef OGEL_TESTS_BENCH_FAKE_AGENTS_H
#define OGEL_TESTS_BENCH_FAKE_AGENTS_H

#include "base/http_server.h"
#include "protocol/types.h"

enum { FAKE_ROUTES = 5, FAKE_EVENTS_KEPT = 16 };

/* What a misbehaving agent answers to a poll. */
enum fake_fault {
    FAULT_NONE,
    FAULT_HANG,      /* nothing */
    FAULT_STATUS,    /* this status instead */
    FAULT_EMPTY,     /* 200 without a body */
    FAULT_GARBAGE,   /* 200 with bytes that are no JSON */
    FAULT_TRUNCATED, /* the first half */
    FAULT_HUGE,      /* 10 MiB of JSON */
    FAULT_DEEP,      /* JSON nested 100,000 deep */
    FAULT_NODE,      /* another node's report */
    FAULT_CLUSTER,   /* another cluster's */
    FAULT_PROTOCOL,  /* of another version */
    FAULT_MUTATED    /* a few bytes changed at random, others each time */
};
extern const char *const fake_fault_names[];

struct fake_postgres;
struct fake_waiter;
struct fakes;

struct fake_node {
    struct fake_cluster *cluster;
    int32_t slot;
    int port;
    struct http_server *server; /* NULL: gone, nobody listens */
    struct fake_postgres *postgres;
    struct http_route routes[FAKE_ROUTES];
    struct report report;
    char *text; /* of the report as it is; NULL: not made yet */
    size_t text_size;
    struct fake_waiter *waiters;
    struct loop_timer *recovery; /* a crashed Postgres that was started as a standby */
    enum fake_fault fault;
    int fault_status;
    uint64_t events_last;
    char events[FAKE_EVENTS_KEPT][64]; /* event of sequence s at s % FAKE_EVENTS_KEPT */
    uint32_t event_generation[FAKE_EVENTS_KEPT];
};

struct fake_cluster {
    struct fakes *fakes;
    char name[CLUSTER_NAME_SIZE];
    struct fake_node nodes[NODE_COUNT];
    int64_t killed_us; /* its leader died, and nobody leads yet; 0: all is well */
    int64_t detected_us;
    uint32_t killed_generation;
};

struct fakes {
    struct loop *loop;
    char token[257];
    struct fake_cluster *clusters;
    uint32_t count, first;                      /* and the number in the first one's name */
    uint32_t next_lag;                          /* clusters take turns */
    struct fake_waiter *waiting, **waiting_end; /* polls, in the order in which they came */
    /* of each death that was answered, until the first promise request and until the grant */
    uint32_t *detection_us, *granted_us;
    size_t n_detected, n_granted, room;
    uint64_t kills, kills_skipped, flaps;
    uint64_t polls, reports, messages, refusals;
};

/* Healthy clusters, n1 leading, each agent on a port of its own. */
OGEL_MUST_CHECK int fakes_start(struct fakes *fakes, uint32_t count, struct err *err);
void fakes_stop(struct fakes *fakes);

/* Is there a leader with both others streaming? */
bool fake_cluster_settled(const struct fake_cluster *cluster);
int32_t fake_cluster_leader(const struct fake_cluster *cluster); /* NODE_NONE: nobody leads */

/* Its leader's postmaster dies; false where there is none. */
bool fake_cluster_kill(struct fake_cluster *cluster);
/* A follower's receiver ends, or streams again. */
void fake_cluster_flap(struct fake_cluster *cluster);
/* WAL grows, followers are somewhere behind. */
void fake_cluster_write(struct fake_cluster *cluster);

/* Answers polls that have waited long enough. */
void fakes_expire(struct fakes *fakes);

void fake_node_fault(struct fake_node *node, enum fake_fault fault, int status);
/* The whole agent goes, or comes back at the same port as a new process. */
OGEL_MUST_CHECK int fake_node_serve(struct fake_node *node, bool on, struct err *err);

/* fake_postgres.c: listens, and puts its port into the node's report. NULL on error. */
struct fake_postgres *fake_postgres_start(struct fake_node *node, struct err *err);
void fake_postgres_stop(struct fake_postgres *postgres);

#endif
