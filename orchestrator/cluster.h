/*
 * One supervised cluster inside the orchestrator: what was last heard of its nodes, the core's
 * memory and plan, the operators' requests, the event history. Everything hangs off struct cluster;
 * the orchestrator itself (struct orchestrator) is only the loop, the HTTP pieces and the list of
 * clusters. One thread, the loop's.
 *
 *   observe.c   long polls and probes → struct node_view
 *   cluster.c   view → decide() → plan: one round
 *   act.c       plan → messages, probes, timers
 *   operator.c  operators' requests and their outcome
 *   history.c   events, merged from the agents' logs
 *   topology.c  the plan as JSON, and what /connect answers from
 *   snapshots.h snapshots on demand and on a schedule, beside all of this
 */
#ifndef OGEL_ORCHESTRATOR_CLUSTER_H
#define OGEL_ORCHESTRATOR_CLUSTER_H

#include <jansson.h>

#include "base/err.h"
#include "base/prom.h"
#include "orchestrator/decide.h"

struct history;
struct http_call;
struct http_client;
struct http_server;
struct loop;
struct loop_timer;
struct orchestrator;
struct pg_probe;
struct redis;
struct resolver;
struct snapshots;

/* One node: where its agent is, and what is known of it. */
struct node {
    struct cluster *cluster;
    int32_t slot;
    char id[NODE_ID_SIZE];
    struct address agent;
    struct node_view view;    /* ages are filled in just before decide() */
    int64_t answered_ms;      /* last answer of its agent; 0: never */
    int64_t failing_since_ms; /* its calls fail since; 0: they do not */
    int64_t reported_ms;
    int64_t probed_ms;
    int64_t postgres_failing_since_ms;
    uint64_t since;        /* report.sequence the long poll waits on */
    uint64_t events_since; /* of its log, merged so far */
    int64_t events_ms;     /* when it was asked for last */
    int64_t probe_started_ms;
    bool events_wanted; /* it may have written something since */
    int complaint;      /* what was logged about its answers; 0: all is well */
    struct {
        uint32_t generation;
        int status;
    } rejected; /* message that was logged */
    struct http_call *poll;
    struct http_call *events_call;
    struct http_call *command;
    struct pg_probe *probe;
    struct loop_timer *retry;
    struct desired sent; /* last message; resent no more often than resend_ms unless it differs */
    int64_t sent_ms;
};

struct cluster {
    struct orchestrator *orchestrator;
    char name[CLUSTER_NAME_SIZE];
    struct node nodes[NODE_COUNT]; /* in ascending order of id: the slots */
    struct decide_options options;
    struct memory memory;
    struct plan plan; /* of the last round */
    struct history *history;
    struct loop_timer *timer;
    bool round_due;             /* a round is queued; many changes make one */
    bool held;                  /* by whoever runs it then */
    struct http_client *client; /* shared with some other clusters */
    struct requests *requests;
    struct snapshots *snapshots;
    struct topology *topology;
    struct watches *watches;                 /* on the topology */
    struct document_call *documents;         /* calls under way */
    uint32_t next_read;                      /* replicas take turns */
    struct connect_replies *connect_replies; /* of connect.c; NULL: none yet */
    uint64_t failovers_by_reason[REASON_COUNT];
    int64_t sign_ms, decided_ms, granted_ms; /* of the election under way */
    struct prom_histogram durations[4];      /* enum part */
};

enum part { PART_DETECTION, PART_FENCING, PART_PROMOTION, PART_TOTAL, PART_COUNT };
extern const char *const part_names[PART_COUNT];

struct orchestrator {
    struct loop *loop;
    struct http_server *server;
    struct resolver *resolver;
    struct redis *redis; /* NULL: not configured */
    bool redis_missed;   /* its absence has been logged */
    struct loop_timer *redis_timer;
    uint32_t redis_next; /* cluster whose turn it is */
    struct api *api;
    struct orchestrator_options *options;
    char peer_token[257];
    char monitor_password[257]; /* "": none */
    uint64_t proposer;          /* fresh for each start */
    struct cluster *clusters;
    uint32_t cluster_count;
    int64_t started_ms;
};

/* cluster.c. A round is run soon (never within this call): views are filled, decide() is called,
 * the plan carried out. */
void cluster_changed(struct cluster *cluster);
/* For what comes out of the loop itself: changes between the two make one round, and it is run
 * by cluster_release(). */
void cluster_hold(struct cluster *cluster);
void cluster_release(struct cluster *cluster);
struct cluster *orchestrator_cluster(struct orchestrator *orchestrator, const char *name);
struct node *cluster_node(struct cluster *cluster, const char *id); /* NULL: no such node */

/* Once its names, nodes and options are filled in; history, requests and topology exist. */
void cluster_start(struct cluster *cluster);
void cluster_stop(struct cluster *cluster);

/* observe.c */
void observe_start(struct cluster *cluster);
void observe_stop(struct cluster *cluster);
void observe_probe(
    struct node *node); /* a fresh connection to its Postgres now, unless one is under way */

/* act.c */
void act(struct cluster *cluster, const struct plan *plan);

/* operator.c: operators' requests, one at a time and cluster, each settled by the core or by a
 * deadline. The callback gets the outcome and a JSON object for the answer (borrowed). */
struct request_result {
    bool ok;
    bool late; /* its time ran out: what was begun may still come to its end */
    enum reason reason;
    const char *detail; /* one sentence */
};
typedef void request_fn(const struct request_result *result, void *arg);
/* Queues a copy; returns its id, or 0 with err when one is under way already (ERR_CONFLICT).
 * who: for the audit event. */
uint64_t request_submit(struct cluster *cluster, const struct request *request, const char *who,
                        int64_t timeout_ms, request_fn *fn, void *arg, struct err *err);
void request_forget(struct cluster *cluster,
                    uint64_t id); /* the caller went away; the request goes on */
void request_withdraw(struct cluster *cluster, uint64_t id); /* it is no longer offered; 0: none */
void request_offer(struct cluster *cluster, struct request *out); /* for the view */
void request_settled(struct cluster *cluster, const struct plan *plan);

/* history.c: bounded, in time order, each entry known by (node or orchestrator, run, sequence)
 * so that merging the agents' logs again changes nothing. Too large an event, or one that is no
 * object, is dropped. */
void history_add(struct cluster *cluster, const char *source,
                 json_t *event); /* takes the reference */
/* What this orchestrator did; time, run and sequence are added. Takes the reference. */
void history_note(struct cluster *cluster, json_t *event);
void history_event(struct cluster *cluster, const struct plan_event *event);
void history_audit(struct cluster *cluster, const char *who, const char *action, json_t *details);
json_t *history_list(const struct cluster *cluster, uint64_t since,
                     uint32_t limit); /* new reference */
/* False when there are too many subscribers already. */
typedef void history_fn(uint64_t number, const json_t *event, void *arg);
bool history_subscribe(struct cluster *cluster, history_fn *fn, void *arg);
void history_unsubscribe(struct cluster *cluster, history_fn *fn, void *arg);

/* topology.c: rebuilt after each round that changed something. */
void topology_update(struct cluster *cluster);
json_t *topology_json(
    struct cluster *cluster); /* the object of GET /v1/clusters/NAME; new reference */

#endif
