/*
 * The agent: what it knows, gathered into the core's inputs, and the core's steps handed to worker
 * threads. All of this belongs to the loop's thread, which never touches the disk and never blocks,
 * so that health checks, peers and self-fencing go on while the disk hangs.
 *
 *   node.c      a turn: inputs → reconcile() → one step; what a step came to
 *   observe.c   the postmaster's end, samples of Postgres, looks at the data directory, children
 *   report.c    the report and its sequence number
 *   peers.c     the other two agents and their Postgres
 *   lane.c      snapshot tasks, which are none of the core's business
 *   api.c       HTTP
 */
#ifndef OGEL_AGENT_NODE_H
#define OGEL_AGENT_NODE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/events.h"
#include "agent/options.h"
#include "agent/reconcile.h"
#include "agent/replies.h"
#include "agent/retry.h"
#include "agent/sampler.h"
#include "agent/steps.h"
#include "base/err.h"
#include "protocol/fields.h"

struct api;
struct http_client;
struct http_server;
struct lane;
struct listing;
struct loop;
struct loop_timer;
struct loop_watch;
struct peers;
struct resolver;
struct worker;

struct agent {
    struct agent_config config;
    const char *config_file;
    struct secrets *secrets;
    uint64_t run; /* fresh for each start */
    int64_t started_ms;

    struct loop *loop;
    struct loop_timer *timer;    /* next turn */
    struct loop_timer *beat;     /* disk space, log files */
    struct worker *steps;        /* one step at a time */
    struct worker *urgent;       /* stopping and killing, also while a step hangs */
    struct worker *slow;         /* checkpoints */
    struct worker *background;   /* event log, secrets, disk space */
    struct worker *store_worker; /* questions to a store of snapshots */
    struct sampler *sampler;
    struct resolver *resolver;
    struct http_client *client;
    struct http_server *server;
    struct api *api;
    struct peers *peers;
    struct lane *lane;       /* snapshot tasks */
    struct listing *listing; /* of a store, under way; NULL: none */
    /* their children, for the thread that collects others; 0: none */
    _Atomic pid_t task_pid, listing_pid;
    struct hands hands; /* the steps' thread's, once that runs */
    struct events *events;
    bool events_unsynced; /* appended since events_sync() */

    /* what is durable, as last written */
    struct durable durable;
    json_t *document; /* never changed once it stands here; NULL: none */

    /* the core's inputs and what they point to */
    struct inputs in;
    struct desired message;
    struct report peer_reports[NODE_COUNT];
    int64_t discard_until_ms; /* in.discard_allowed ends */
    int64_t peer_heard_ms[NODE_COUNT];
    int64_t peer_asked_ms[NODE_COUNT]; /* the call whose answer that was: what it says held since */

    /* Postgres */
    struct postmaster pm; /* pid 0: none */
    struct loop_watch *pm_watch;
    uint64_t life;        /* of the server; samples of an earlier one are dropped */
    uint64_t warm_life;   /* of the one that step_warm_up() has been at */
    int64_t changed_ms;   /* samples begun before are older than what is known */
    bool end_asked;       /* its end is ours: no crash */
    struct sample sample; /* the last good one */
    bool sampled;
    struct replies replies;      /* of this server's standbys */
    char names[STEP_NAMES_SIZE]; /* synchronous_standby_names as written */
    bool names_known;
    struct lineage lineage; /* of the timeline that is written or received */
    bool lineage_asked;
    bool probe_ok;
    int64_t probe_failing_ms; /* since; 0: it does not */
    uint64_t system_id;
    uint32_t pg_version;
    bool pending_restart;
    uint64_t oldest_lsn;
    uint64_t disk_free_bytes, disk_total_bytes;
    char cause[CAUSE_SIZE]; /* how Postgres ended */

    struct child_process child;
    struct child_output child_output;
    struct loop_watch *child_watch, *child_output_watch;

    /* under way */
    struct step_run *running;
    int64_t running_since_ms;
    struct step_run *urgent_running;
    struct step_run *checkpoint;
    bool looking;
    int64_t look_failed_ms;
    bool looks_foreign; /* the directory is not empty and has no data id */
    bool fetching_document;
    struct retry retry;
    struct step step;            /* what the core said last */
    char step_error[CAUSE_SIZE]; /* of the step that keeps failing */
    bool in_turn, turn_again, turn_posted;

    /* the discard permission this node, as leader, has given */
    int32_t discard_given_to;
    int64_t discard_given_ms;
    int64_t promoted_ms;
    int64_t leading_since_ms; /* 0: it does not lead */

    /* report */
    struct report report;
    struct report report_seen; /* at the last sequence number, without what changes all the time */
    uint64_t sequence;
    int64_t bumped_ms;
    int64_t turned_ms; /* last turn, for /liveness */

    bool quitting;
    bool stop_postgres;
    int64_t quit_by_ms; /* then it ends, whatever still hangs */
};

/* --- node.c -------------------------------------------------------------------------------------
 */

/* Stops Postgres, politely first, then lets the loop end. */
void agent_stop_postgres(struct agent *agent);

/* Something changed: a turn follows soon, never within this call. */
void agent_changed(struct agent *agent);

/* The core's inputs as of now; who asks it something between two turns does this first. */
void agent_gather(struct agent *agent);

/* A new run of KIND with everything it may need; freed by step_run_free(). */
struct step_run *step_run_new(struct agent *agent, const struct step *step);
void step_run_free(struct step_run *run);

/* An entry in the event log. TEXT NULL: the reason's own. */
void agent_event(struct agent *agent, enum agent_reason reason, const char *text);
void agent_event_by(struct agent *agent, const char *code, const char *text, const char *who);

/* --- apply.c: what a step came to ---------------------------------------------------------------
 */
void step_applied(struct agent *agent, const struct step_run *run);

/* --- observe.c ----------------------------------------------------------------------------------
 */
void observe_set_pg(struct agent *agent, enum pg_state state);
/* Takes over PM: watches it, samples it. ADOPTED: an earlier agent started it. */
void observe_server(struct agent *agent, struct postmaster *pm, bool adopted);
void observe_child(struct agent *agent, const struct child_process *child);
void observe_sample(const struct sample *sample, void *agent);
/* Looks at the data directory, after ending what a dead postmaster left behind. */
void observe_look(struct agent *agent);
/* The result of a look, also of the one before the loop runs. */
void observe_looked(struct agent *agent, struct look *look);
void observe_beat(void *agent);

/* --- recall.c: an agent that is restarted knows what its predecessor wrote -----------------------
 */

/* Notes agent->in.replication together with DIGEST of the files it was written to. */
void replication_note(struct agent *agent, const uint8_t digest[32]);
/* Takes it up again if the files are still as they were left. Blocks: before the loop runs. */
void replication_recall(struct agent *agent);

/* --- report.c -----------------------------------------------------------------------------------
 */

/* Builds agent->report anew; bumps the sequence and wakes those who wait where something changed.
 * Returns after how many ms it should be called again because of changes held back; 0: none. */
int64_t report_update(struct agent *agent);
/* The present report as JSON text; malloc()ed. */
char *report_text(const struct agent *agent);

/* --- peers.c ------------------------------------------------------------------------------------
 */
void peers_new(struct agent *agent);
void peers_start(struct agent *agent);
void peers_stop(struct agent *agent);
void peers_view(struct agent *agent, int32_t slot, struct peer_view *view);
void peers_register(struct agent *agent, int32_t slot);
void peers_ask_discard(struct agent *agent);
/* What was permitted, or will be on the last question, is over. */
void peers_forget_discard(struct agent *agent);
void peers_fetch_document(struct agent *agent, int32_t slot);
/* What a machine says when it registers, beside its node's name. */
struct registering {
    struct cluster_id cluster;
    struct incarnation incarnation;
};
extern const struct field registering_fields[], registration_answer_fields[];
/* Another node stood at GENERATION at AT_MS. */
void peers_confirm(struct agent *agent, int32_t slot, uint32_t generation, int64_t at_ms);
/* Address of a node's Postgres; false while it is not known. */
bool peers_postgres(const struct agent *agent, int32_t slot, struct address *address);

/* --- api.c --------------------------------------------------------------------------------------
 */
OGEL_MUST_CHECK int api_start(struct agent *agent, struct err *err);
void api_stop(struct agent *agent);
/* Answers those who wait for a newer report or event. */
void api_wake(struct agent *agent);
void api_answer_registration(struct agent *agent, bool accepted);
OGEL_MUST_CHECK int api_set_tokens(struct agent *agent, struct err *err);

/* May this request change something? Otherwise it is answered 403. */
struct http_request;
bool api_may_change(struct http_request *request);
/* The body as a JSON object, a new reference; NULL: it is answered 400. */
json_t *api_body(struct http_request *request);
/* A number of the query; false: it is answered 400. */
bool api_query_number(struct http_request *request, const char *name, int64_t max, int64_t *value);
/* Does the reader, by its "run", count in another life of this agent? */
bool api_other_run(const struct agent *agent, const struct http_request *request);

/* --- document_api.c: the document's own routes
 * ----------------------------------------------------- */
void api_document_get(struct http_request *request, void *agent);
void api_document_post(struct http_request *request, void *agent);
/* Makes DOCUMENT (a reference taken over) the agent's own once it is durable; then FN. */
typedef void document_stored_fn(struct agent *agent, int rc, const struct err *err, void *arg);
void document_store(struct agent *agent, json_t *document, document_stored_fn *fn, void *arg);
/* A cluster's first leader makes its first document. */
void document_begin(struct agent *agent);
/* Wakes those whose change waits for a second agent to hold it. */
void document_spread(struct agent *agent);

/* --- metrics.c ----------------------------------------------------------------------------------
 */
/* The text of GET /metrics; malloc()ed. */
char *metrics_text(struct agent *agent);

#endif
