/*
 * What /connect answers from: the cluster as applications need it, a plain struct in memory,
 * rebuilt after each round.
 */
#ifndef OGEL_ORCHESTRATOR_TOPOLOGY_H
#define OGEL_ORCHESTRATOR_TOPOLOGY_H

#include "orchestrator/cluster.h"

struct topology_node {
    bool known;             /* its agent has reported since this orchestrator started */
    struct address address; /* of its Postgres */
    enum role role; /* LEADER only while it leads; FOLLOWER while it streams or could; else FENCED,
                       NONE */
    bool reads; /* may be handed to readers: reachable, up, in recovery and streaming, or the leader
                 */
    bool sync;  /* counted: it may acknowledge commits */
    uint64_t flush_lsn;
    uint64_t replay_lsn;
    uint64_t lag_bytes; /* behind the leader, in replay; UINT64_MAX: not known */
    uint32_t lag_ms;    /* UINT32_MAX: not known */
};

struct topology {
    uint64_t version;  /* grows with each change of anything but lags and LSNs */
    uint64_t revision; /* grows with each change */
    int32_t leader;    /* slot or NODE_NONE */
    uint32_t generation;
    bool writable;
    enum reason not_writable;
    bool maintenance;
    struct topology_node nodes[NODE_COUNT];
};

/* Called from the loop after each update (lags and LSNs too): waiting /connect requests look again.
 */
typedef void topology_fn(struct cluster *cluster, void *arg);
struct topology_watch;
struct topology_watch *topology_watch_new(struct cluster *cluster, topology_fn *fn, void *arg);
void topology_watch_free(
    struct topology_watch *watch); /* NULL is allowed; also from within its own callback */

#endif
