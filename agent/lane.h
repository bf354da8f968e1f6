/*
 * Snapshots on this node: one task at a time, asked for by an orchestrator, carried out by a child
 * (task_child.h), with the permit of the leader's agent (permit.h). All of it belongs to the loop's
 * thread, and none of it to the core: no promise, step or report depends on a snapshot.
 *
 * The permit is renewed while the task runs; without one the child is ended in time for the next
 * holder. Nothing is armed while no task runs.
 */
#ifndef OGEL_AGENT_LANE_H
#define OGEL_AGENT_LANE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/permit.h"
#include "agent/task.h"
#include "base/err.h"
#include "protocol/types.h"

struct agent;

void lane_new(struct agent *agent);
/* Ends what runs, at once, and frees. */
void lane_stop(struct agent *agent);

/* What became of a request for a task; all but LANE_BEGUN changed nothing. */
enum lane_verdict {
    LANE_BEGUN,
    LANE_SAME,    /* that task is the one that runs, or was the last */
    LANE_BUSY,    /* another one runs here */
    LANE_REFUSED, /* the leader gives no permit: REASON, and who holds it */
    LANE_LATER,   /* cannot be decided now: ask again */
    LANE_FAILED,  /* the child cannot be started */
};

struct lane_answer {
    enum lane_verdict verdict;
    const char *reason; /* REFUSED: "held", "young_leader", …; static */
    char holder[TASK_ID_SIZE];
    char holder_node[NODE_ID_SIZE];
    struct err err; /* what people are told, unless it has begun */
};

typedef void lane_answer_fn(struct agent *agent, const struct lane_answer *answer, void *arg);

/* Asks for the permit and starts REQUEST. FN is called once, at once or later. */
void lane_begin(struct agent *agent, const struct task_request *request, lane_answer_fn *fn,
                void *arg);

/* Ends the task ID that runs, politely first; false if it does not run. */
bool lane_cancel(struct agent *agent, const char *id, const char *text);

/* As the leader: what it answers to a question for the permit. */
enum permit_verdict lane_permit(struct agent *agent, const struct permit_request *request);
const struct permit *lane_permit_given(const struct agent *agent);
/* "held", "young_leader", "no_leader", "generation"; "" for one that is given. */
const char *permit_reason(enum permit_verdict verdict);

/* The task that runs or was the last, {"sequence", "run", "task"}; the sequence grows with it. */
json_t *lane_json(const struct agent *agent);
uint64_t lane_sequence(const struct agent *agent);
bool lane_idle(const struct agent *agent);

/* For metrics. */
const struct task *lane_task(const struct agent *agent);
uint64_t lane_failures(const struct agent *agent, enum task_kind kind);
int64_t lane_last_success_ms(const struct agent *agent, enum task_kind kind); /* UTC; 0: none */

/* --- task_api.c --------------------------------------------------------------------------------
 */
struct http_request;
void task_post(struct http_request *request, void *agent);
void task_get(struct http_request *request, void *agent);
void task_delete(struct http_request *request, void *agent);
void permit_post(struct http_request *request, void *agent);
/* Answers those who wait for news of the task. */
void task_wake(struct agent *agent);

/* --- listing.c: GET /v1/snapshots ---------------------------------------------------------------
 */
void snapshots_get(struct http_request *request, void *agent);
void listing_stop(struct agent *agent);

#endif
