/* Changing the cluster document: by compare-and-set at the leader's agent, done when one more agent
 * holds it. While there is no leader the core takes promises for it (decide_document.c); then it is
 * changed at one of the agents that gave them, and what comes out is written at the others. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "orchestrator/shell.h"
#include "orchestrator/topology.h"
#include "protocol/codec.h"
#include "protocol/order.h"

/* WHO_MAX: what agents take of a name */
enum {
    WHO_MAX = 63,
    CALL_TIMEOUT_MS = 10000,
    SPREAD_TIMEOUT_MS = 8000,
    AGAIN_FOR_MS = 3000, /* an agent that says "not now" is asked again for so long … */
    AGAIN_MS = 100,      /* … so often */
    WITHOUT_LEADER_MS = 15000,
    URL_SIZE = 512,
    ANSWER_DEPTH = 16
};

/* What was made without a leader, on its way to another agent. */
struct copy {
    struct http_call *call;
    bool sent;
};

struct document_call {
    struct document_call *next, **place; /* of the cluster's */
    struct cluster *cluster;
    int32_t node;   /* whose agent was asked */
    json_t *change; /* NULL: the document is fetched, or a fence is set or lifted */
    int32_t fence_slot;
    bool fence;
    char who[WHO_MAX + 1];
    uint64_t request; /* without a leader: that the core serves; 0: none, or settled */
    int64_t until_ms; /* asked again until then */
    struct loop_timer *again;
    struct http_call *call;
    struct topology_watch *watch;
    struct loop_timer *deadline;
    struct document_version version; /* that the agent made */
    json_t *answer;
    /* without a leader */
    bool sent;
    bool confirmed; /* two agents hold it; its answer is on the way */
    struct copy copies[NODE_COUNT];
    document_fn *fn;
    void *arg;
};

static void call_free(struct document_call *call)
{
    *call->place = call->next;
    if (call->next)
        call->next->place = call->place;
    http_call_cancel(call->call);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        http_call_cancel(call->copies[slot].call);
    topology_watch_free(call->watch);
    loop_timer_free(call->deadline);
    loop_timer_free(call->again);
    request_withdraw(call->cluster, call->request);
    json_decref(call->change);
    json_decref(call->answer);
    free(call);
}

static void finish(struct document_call *call, int status, const char *detail)
{
    if (call->fn)
        call->fn(status, call->answer, detail, call->arg);
    call_free(call);
}

/* The status of an agent's refusal, for the client; what is none of HTTP's for that is ours. */
static int refusal_status(const struct http_result *result)
{
    return result->status >= 400 && result->status < 600 ? result->status : 502;
}

static void finish_changed(struct document_call *call)
{
    json_object_set_new(call->answer, "replicated", json_true());
    finish(call, 200, "");
}

/* A member of the leader's cluster, and not a machine that has been replaced. */
static bool is_member(const struct report *report, const struct report *leader)
{
    uint32_t number = report->incarnations[report->node].number;

    return report->registered && cluster_id_equal(&report->cluster, &leader->cluster) &&
           number >= leader->incarnations[report->node].number &&
           number > leader->void_number[report->node];
}

/* It counts while that agent has not promised a later generation: the election of that one may rest
 * on what it said before. And a later leader's document may lack it. */
static bool holds_change(const struct report *report, struct document_version version)
{
    return report->promise.generation <= version.generation &&
           report->document.version.generation == version.generation &&
           report->document.version.counter >= version.counter;
}

/* Does another agent hold it besides the leader's? */
static void look(struct cluster *cluster, void *arg)
{
    struct document_call *call = arg;
    const struct report *leader = &cluster->nodes[call->node].view.report;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node_view *view = &cluster->nodes[slot].view;

        if (slot != call->node && view->known && view->reachable &&
            is_member(&view->report, leader) && holds_change(&view->report, call->version)) {
            finish_changed(call);
            return;
        }
    }
}

static void spread_late(void *arg)
{
    finish(
        arg, 504,
        "the leader's agent holds the change, but no other agent confirmed it in time: look again");
}

/* Says "not now" what has changed nothing. Without a leader nor has "another version": the core
 * names the newest. */
static bool asks_again(const struct document_call *call, int status)
{
    return (status == 503 || (status == 409 && call->request)) && clock_mono_ms() < call->until_ms;
}

static void made(struct document_call *call)
{
    if (call->confirmed) {
        finish_changed(call);
        return;
    }
    if (!call->request) {
        call->deadline = loop_timer_new(call->cluster->orchestrator->loop, spread_late, call);
        loop_timer_start(call->deadline, SPREAD_TIMEOUT_MS);
        call->watch = topology_watch_new(call->cluster, look, call);
    }
    cluster_changed(call->cluster);
}

static void changed(const struct http_result *result, void *arg)
{
    struct document_call *call = arg;
    struct err err = {0};
    const json_t *version, *document;

    call->call = NULL;
    if (result->outcome == HTTP_CALL_TIMEOUT || result->outcome == HTTP_CALL_RESET) {
        finish(call, 504,
               "the agent did not answer in time, but may have made the change: look again");
        return;
    }
    if (result->outcome != HTTP_CALL_OK) {
        finish(call, 503, result->error);
        return;
    }
    if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &call->answer, &err)) {
        finish(call, 502, err.text);
        return;
    }
    if (asks_again(call, result->status)) {
        json_decref(call->answer);
        call->answer = NULL;
        loop_timer_start(call->again, AGAIN_MS);
        return;
    }
    if (result->status != 200) {
        const char *detail = json_string_value(json_object_get(call->answer, "detail"));

        finish(call, refusal_status(result),
               detail && *detail ? detail : "the agent refused the change");
        return;
    }
    version = json_object_get(call->answer, "version");
    if (json_field_object(call->answer, "document", JSON_REQUIRED, &document, &err) ||
        json_field_u32(version, "generation", JSON_REQUIRED, &call->version.generation, &err) ||
        json_field_u32(version, "counter", JSON_REQUIRED, &call->version.counter, &err))
        finish(call, 502, err.text);
    else
        made(call);
}

static void fetched(const struct http_result *result, void *arg)
{
    struct document_call *call = arg;
    struct err err = {0};

    call->call = NULL;
    if (result->outcome != HTTP_CALL_OK)
        finish(call, 503, result->error);
    else if (result->status != 200)
        finish(call, refusal_status(result), "the agent gave no document");
    else if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &call->answer, &err))
        finish(call, 502, err.text);
    else
        finish(call, 200, "");
}

static struct document_call *call_new(struct cluster *cluster, document_fn *fn, void *arg)
{
    struct document_call *call = xcalloc(1, sizeof *call);

    call->cluster = cluster;
    call->fence_slot = NODE_NONE;
    call->place = &cluster->documents;
    call->next = *call->place;
    if (call->next)
        call->next->place = &call->next;
    *call->place = call;
    call->fn = fn;
    call->arg = arg;
    return call;
}

static struct http_call *post(struct cluster *cluster, int32_t slot, json_t *json,
                              http_call_fn *done, void *arg)
{
    char url[URL_SIZE], *body = json_dump_line(json);
    struct http_call *call;

    json_decref(json);
    node_url(&cluster->nodes[slot], "/v1/document", url, sizeof url);
    call = http_call(cluster->client,
                     &(struct http_call_spec){.method = "POST",
                                              .url = url,
                                              .token = cluster->orchestrator->peer_token,
                                              .body = body,
                                              .body_size = strlen(body),
                                              .timeout_ms = CALL_TIMEOUT_MS},
                     done, arg);
    free(body);
    return call;
}

/* A fence is a member of a list, so its change is made of the list that stands there. */
static json_t *change_of(const struct document_call *call, const struct document_facts *facts)
{
    json_t *list;

    if (call->fence_slot == NODE_NONE)
        return json_incref(call->change);
    list = json_array();
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot == call->fence_slot ? call->fence : facts->fenced[slot])
            json_array_append_new(list, json_string(call->cluster->nodes[slot].id));
    return json_pack("{s:o}", "fenced", list);
}

static void send_change(struct document_call *call, int32_t slot, const struct promise *promise)
{
    const struct document_facts *facts = &call->cluster->nodes[slot].view.report.document;
    json_t *json = json_pack("{s:{s:I,s:I},s:o,s:s}", "expect", "generation",
                             (json_int_t)facts->version.generation, "counter",
                             (json_int_t)facts->version.counter, "change", change_of(call, facts),
                             "who", call->who);

    if (promise)
        json_object_set_new(json, "promise", promise_to_json(promise));
    call->node = slot;
    call->call = post(call->cluster, slot, json, changed, call);
}

/* --- without a leader
 * -------------------------------------------------------------------------------------------- */

/* What it came to shows in the reports; agents fetch it from each other, too. */
static void copy_sent(const struct http_result *result, void *arg)
{
    struct copy *copy = arg;

    (void)result;
    copy->call = NULL;
}

static void send_copies(struct document_call *call, const struct promise *promise)
{
    const json_t *document = json_object_get(call->answer, "document");

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct copy *copy = &call->copies[slot];

        if (slot == call->node || !call->cluster->plan.write.promised[slot] || copy->sent)
            continue;
        copy->sent = true;
        copy->call = post(
            call->cluster, slot,
            json_pack("{s:o,s:O}", "promise", promise_to_json(promise), "document", document),
            copy_sent, copy);
    }
}

void document_round(struct cluster *cluster)
{
    const struct plan *plan = &cluster->plan;
    struct promise promise = {plan->memory.generation, cluster->orchestrator->proposer};

    for (struct document_call *call = cluster->documents; call; call = call->next) {
        if (!plan->write.due || !call->request || call->request != plan->memory.request)
            continue;
        if (call->answer) {
            send_copies(call, &promise);
        } else if (!call->sent) {
            call->sent = true;
            if (call->until_ms == 0)
                call->until_ms = clock_mono_ms() + AGAIN_FOR_MS;
            send_change(call, plan->write.at, &promise);
        }
    }
}

static void settled(const struct request_result *result, void *arg)
{
    struct document_call *call = arg;
    char detail[2 * SENTENCE_SIZE];

    call->request = 0;
    if (result->ok && result->reason == REASON_DOCUMENT_AT_LEADER) {
        call->until_ms = clock_mono_ms() + AGAIN_FOR_MS;
        loop_timer_start(call->again, 0);
        return;
    }
    if (result->ok) {
        call->confirmed = true;
        if (call->answer)
            finish_changed(call);
        return;
    }
    snprintf(detail, sizeof detail,
             "there is no leader to change the document at, and two agents to change it at without "
             "one were not found: %s",
             result->detail);
    finish(call,
           result->late                                  ? 504
           : result->reason == REASON_ELECTION_OVERTAKEN ? 409
                                                         : 503,
           detail);
}

/* --- the two ways
 * ------------------------------------------------------------------------------------------------
 */

static void ask(void *arg)
{
    struct document_call *call = arg;

    if (call->request) {
        call->sent = false; /* document_round() */
        cluster_changed(call->cluster);
    } else if (call->cluster->plan.leader < 0) {
        finish(call, 503, "the leader was lost meanwhile: ask again");
    } else {
        send_change(call, call->cluster->plan.leader, NULL);
    }
}

static struct document_call *begin(struct document_call *call, const char *who, struct err *err)
{
    struct request request = {.kind = REQUEST_DOCUMENT, .target = NODE_NONE};
    struct cluster *cluster = call->cluster;

    snprintf(call->who, sizeof call->who, "%s", who ? who : "unknown");
    call->again = loop_timer_new(cluster->orchestrator->loop, ask, call);
    if (cluster->plan.leader >= 0) {
        call->until_ms = clock_mono_ms() + AGAIN_FOR_MS;
        ask(call);
        return call;
    }
    call->request = request_submit(cluster, &request, call->who, WITHOUT_LEADER_MS, settled, call,
                                   err);
    if (call->request)
        return call;
    call_free(call);
    return NULL;
}

struct document_call *document_change(struct cluster *cluster, const json_t *change,
                                      const char *who, document_fn *fn, void *arg, struct err *err)
{
    struct document_call *call = call_new(cluster, fn, arg);

    call->change = json_deep_copy(change);
    return begin(call, who, err);
}

struct document_call *document_fence(struct cluster *cluster, int32_t slot, bool fence,
                                     const char *who, document_fn *fn, void *arg, struct err *err)
{
    struct document_call *call = call_new(cluster, fn, arg);

    call->fence_slot = slot;
    call->fence = fence;
    return begin(call, who, err);
}

struct document_call *document_fetch(struct cluster *cluster, document_fn *fn, void *arg,
                                     struct err *err)
{
    struct document_call *call;
    struct node *best = NULL;
    char url[URL_SIZE];

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        if (node->view.known && node->view.reachable &&
            (!best || document_version_compare(node->view.report.document.version,
                                               best->view.report.document.version) > 0))
            best = node;
    }
    if (!best) {
        err_set(err, ERR_UNAVAILABLE, "no agent of cluster %s answers", cluster->name);
        return NULL;
    }
    node_url(best, "/v1/document", url, sizeof url);
    call = call_new(cluster, fn, arg);
    call->call = http_call(cluster->client,
                           &(struct http_call_spec){.url = url,
                                                    .token = cluster->orchestrator->peer_token,
                                                    .timeout_ms = CALL_TIMEOUT_MS},
                           fetched, call);
    return call;
}

void document_forget(struct document_call *call)
{
    call->fn = NULL;
}

void document_stop(struct cluster *cluster)
{
    while (cluster->documents)
        call_free(cluster->documents);
}
