/* The routes of snapshot tasks: /v1/task, and at the leader's agent /v1/permit. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api_internal.h"
#include "agent/lane.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    WAIT_MAX_MS = 60000,
    BEGIN_MS = 10000, /* longer than the leader's agent is given to answer */
};

/* --- a task is asked for -------------------------------------------------------------------- */

/* Whoever asked for a task that waits for its permit. */
struct asker {
    struct agent *agent;
    struct http_request *request; /* NULL: gone */
    bool suspended, answered;
};

static json_t *present_task(const struct agent *agent)
{
    json_t *shown = lane_json(agent), *task = json_incref(json_object_get(shown, "task"));

    json_decref(shown);
    return json_pack("{s:o}", "task", task);
}

static void answer_refused(struct http_request *request, const struct lane_answer *answer)
{
    json_t *members = json_pack("{s:s}", "reason", answer->reason);

    if (answer->holder[0] != '\0') {
        json_object_set_new(members, "task", json_text(answer->holder));
        json_object_set_new(members, "node", json_text(answer->holder_node));
    }
    http_respond_problem_with(request, 403, NULL, members, "%s", answer->err.text);
}

static void answer(const struct agent *agent, struct http_request *request,
                   const struct lane_answer *answer)
{
    bool runs = lane_task(agent)->state == TASK_RUNNING;

    switch (answer->verdict) {
    case LANE_BEGUN: http_respond_json(request, 202, present_task(agent)); break;
    case LANE_SAME: http_respond_json(request, runs ? 202 : 200, present_task(agent)); break;
    case LANE_BUSY:
        http_respond_problem_with(request, 409, NULL, present_task(agent), "%s", answer->err.text);
        break;
    case LANE_REFUSED: answer_refused(request, answer); break;
    case LANE_LATER: http_respond_problem(request, 503, NULL, "%s", answer->err.text); break;
    default: http_respond_problem(request, 500, NULL, "%s", answer->err.text); break;
    }
}

static void asker_gone(struct http_request *request, enum http_wake why, void *arg)
{
    struct asker *asker = arg;

    asker->request = NULL;
    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 503, NULL,
                             "the leader's agent has not answered yet: ask again");
}

static void begun(struct agent *agent, const struct lane_answer *verdict, void *arg)
{
    struct asker *asker = arg;

    asker->answered = true;
    if (asker->request)
        answer(agent, asker->request, verdict);
    if (asker->suspended)
        free(asker);
}

void task_post(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct task_request wanted;
    struct asker *asker;
    struct err err = {0};
    json_t *body;
    int rc;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    rc = task_request_parse(body, &wanted, &err);
    json_decref(body);
    if (rc < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        return;
    }
    asker = xcalloc(1, sizeof *asker);
    *asker = (struct asker){.agent = agent, .request = request};
    lane_begin(agent, &wanted, begun, asker);
    if (asker->answered) {
        free(asker);
        return;
    }
    asker->suspended = true;
    http_suspend(request, BEGIN_MS, asker_gone, asker);
}

/* --- it is looked at, or ended -------------------------------------------------------------- */

struct task_waiter {
    struct task_waiter *next, **place;
    struct http_request *request;
};

static void waiter_free(struct task_waiter *waiter)
{
    *waiter->place = waiter->next;
    if (waiter->next)
        waiter->next->place = waiter->place;
    free(waiter);
}

static void waited(struct http_request *request, enum http_wake why, void *arg)
{
    if (why == HTTP_WAKE_DEADLINE)
        http_respond(request, 204, NULL, NULL, 0);
    waiter_free(arg);
}

void task_wake(struct agent *agent)
{
    while (agent->api && agent->api->task_waiters) {
        struct task_waiter *waiter = agent->api->task_waiters;

        http_respond_json(waiter->request, 200, lane_json(agent));
        waiter_free(waiter);
    }
}

void task_get(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    int64_t since = -1, wait_ms = 0;
    struct task_waiter *waiter, **place = &agent->api->task_waiters;

    if (!api_query_number(request, "since", INT64_MAX, &since) ||
        !api_query_number(request, "wait_ms", WAIT_MAX_MS, &wait_ms))
        return;
    if (since < 0 || (uint64_t)since != lane_sequence(agent) || api_other_run(agent, request)) {
        http_respond_json(request, 200, lane_json(agent));
        return;
    }
    if (wait_ms == 0) {
        http_respond(request, 204, NULL, NULL, 0);
        return;
    }
    waiter = xcalloc(1, sizeof *waiter);
    *waiter = (struct task_waiter){.next = *place, .place = place, .request = request};
    if (*place)
        (*place)->place = &waiter->next;
    *place = waiter;
    http_suspend(request, wait_ms, waited, waiter);
}

void task_delete(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    const char *id = http_request_query(request, "id");
    const struct task *task = lane_task(agent);

    if (!api_may_change(request))
        return;
    if (!id || !task_id_valid(id))
        http_respond_problem(request, 400, NULL,
                             "id: which task? expected 16 hexadecimal digits in lower case");
    else if (task->state == TASK_NONE || strcmp(task->request.id, id) != 0)
        http_respond_problem(request, 404, NULL, "this agent knows no task %s", id);
    else
        http_respond_json(request, lane_cancel(agent, id, "it was cancelled") ? 202 : 200,
                          present_task(agent));
}

/* --- the leader's permit -------------------------------------------------------------------- */

static int parse_permit(const struct agent *agent, const json_t *body, char task[TASK_ID_SIZE],
                        struct permit_request *request, struct err *err)
{
    static const char *const names[] = {"task", "node", "generation", "state", NULL};
    static const char *const states[] = {"new", "running", "ended", NULL};
    char node[NODE_ID_SIZE];
    int state = PERMIT_NEW;

    if (json_check_fields(body, names, err) < 0 ||
        json_field_string(body, "task", JSON_REQUIRED, task, TASK_ID_SIZE, err) < 0 ||
        json_field_string(body, "node", JSON_REQUIRED, node, sizeof node, err) < 0 ||
        json_field_u32(body, "generation", JSON_REQUIRED, &request->generation, err) < 0 ||
        json_field_enum(body, "state", JSON_OPTIONAL, states, &state, err) < 0)
        return -1;
    request->state = (enum permit_state)state;
    request->task = task;
    request->node = agent_config_slot(&agent->config, node);
    if (!task_id_valid(task))
        return err_set(err, ERR_INVALID,
                       "field \"task\": expected 16 hexadecimal digits in lower case");
    if (request->node == NODE_NONE)
        return err_set(err, ERR_INVALID, "field \"node\": %s is no node of this cluster", node);
    return 0;
}

static void refuse_permit(const struct agent *agent, struct http_request *request,
                          enum permit_verdict verdict)
{
    static const char *const texts[] = {
        [PERMIT_HELD] = "another snapshot task has the permit",
        [PERMIT_YOUNG] = "this node leads for too short a time: an earlier task may still run",
        [PERMIT_NO_LEADER] = "this node does not lead",
        [PERMIT_GENERATION] = "this node leads another generation than the one named",
    };
    const struct permit *permit = lane_permit_given(agent);
    json_t *members = json_pack("{s:b,s:s}", "granted", 0, "reason", permit_reason(verdict));

    if (verdict == PERMIT_HELD) {
        json_object_set_new(members, "task", json_string(permit->task));
        json_object_set_new(members, "node", json_string(agent->config.ids[permit->node]));
    }
    http_respond_problem_with(request, 409, NULL, members, "%s", texts[verdict]);
}

void permit_post(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct permit_request wanted = {0};
    enum permit_verdict verdict;
    char task[TASK_ID_SIZE];
    struct err err = {0};
    json_t *body;
    int rc;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    rc = parse_permit(agent, body, task, &wanted, &err);
    json_decref(body);
    if (rc < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        return;
    }
    verdict = lane_permit(agent, &wanted);
    if (verdict == PERMIT_GIVEN)
        http_respond_json(request, 200,
                          json_pack("{s:b,s:i}", "granted", wanted.state != PERMIT_ENDED, "for_ms",
                                    wanted.state != PERMIT_ENDED ? PERMIT_MS : 0));
    else
        refuse_permit(agent, request, verdict);
}
