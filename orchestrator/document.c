/* Changing the cluster document: compare-and-set at the leader's agent, done when one more agent
 * holds it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_client.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "orchestrator/shell.h"
#include "orchestrator/topology.h"
#include "protocol/order.h"

/* WHO_MAX: what agents take of a name */
enum {
    WHO_MAX = 63,
    CALL_TIMEOUT_MS = 10000,
    SPREAD_TIMEOUT_MS = 8000,
    URL_SIZE = 512,
    ANSWER_DEPTH = 16
};

struct document_call {
    struct document_call *next, **place; /* of the cluster's */
    struct cluster *cluster;
    int32_t node; /* whose agent was asked */
    struct http_call *call;
    struct topology_watch *watch;
    struct loop_timer *deadline;
    struct document_version version; /* that the leader's agent made */
    json_t *answer;
    document_fn *fn;
    void *arg;
};

static void call_free(struct document_call *call)
{
    *call->place = call->next;
    if (call->next)
        call->next->place = call->place;
    http_call_cancel(call->call);
    topology_watch_free(call->watch);
    loop_timer_free(call->deadline);
    json_decref(call->answer);
    free(call);
}

static void finish(struct document_call *call, int status, const char *detail)
{
    if (call->fn)
        call->fn(status, call->answer, detail, call->arg);
    call_free(call);
}

/* Does another agent hold it besides the one that was asked? */
static void look(struct cluster *cluster, void *arg)
{
    struct document_call *call = arg;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node_view *view = &cluster->nodes[slot].view;

        if (slot != call->node && view->known && view->reachable &&
            document_version_compare(view->report.document.version, call->version) >= 0) {
            finish(call, 200, "");
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

static void changed(const struct http_result *result, void *arg)
{
    struct document_call *call = arg;
    struct err err = {0};
    const json_t *version;

    call->call = NULL;
    if (result->outcome == HTTP_CALL_TIMEOUT || result->outcome == HTTP_CALL_RESET) {
        finish(call, 504,
               "the leader's agent did not answer in time, but may have made the change: "
               "look again");
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
    if (result->status != 200) {
        const char *detail = json_string_value(json_object_get(call->answer, "detail"));

        finish(call, result->status, detail ? detail : "the leader's agent refused the change");
        return;
    }
    version = json_object_get(call->answer, "version");
    if (json_field_u32(version, "generation", JSON_REQUIRED, &call->version.generation, &err) ||
        json_field_u32(version, "counter", JSON_REQUIRED, &call->version.counter, &err)) {
        finish(call, 502, err.text);
        return;
    }
    call->deadline = loop_timer_new(call->cluster->orchestrator->loop, spread_late, call);
    loop_timer_start(call->deadline, SPREAD_TIMEOUT_MS);
    call->watch = topology_watch_new(call->cluster, look, call);
    cluster_changed(call->cluster);
}

static void fetched(const struct http_result *result, void *arg)
{
    struct document_call *call = arg;
    struct err err = {0};

    call->call = NULL;
    if (result->outcome != HTTP_CALL_OK)
        finish(call, 503, result->error);
    else if (result->status != 200)
        finish(call, result->status, "the agent gave no document");
    else if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &call->answer, &err))
        finish(call, 502, err.text);
    else
        finish(call, 200, "");
}

static struct document_call *call_new(struct node *node, document_fn *fn, void *arg)
{
    struct document_call *call = xcalloc(1, sizeof *call);

    call->cluster = node->cluster;
    call->node = node->slot;
    call->place = &node->cluster->documents;
    call->next = *call->place;
    if (call->next)
        call->next->place = &call->next;
    *call->place = call;
    call->fn = fn;
    call->arg = arg;
    return call;
}

struct document_call *document_change(struct cluster *cluster, const json_t *change,
                                      const char *who, document_fn *fn, void *arg, struct err *err)
{
    const struct plan *plan = &cluster->plan;
    const struct document_version *version;
    struct document_call *call;
    struct node *node;
    char url[URL_SIZE], name[WHO_MAX + 1];
    json_t *json;
    char *body;

    if (plan->leader < 0) {
        err_set(err, ERR_UNAVAILABLE,
                "cluster %s has no leader now: the document is changed at the leader's agent",
                cluster->name);
        return NULL;
    }
    node = &cluster->nodes[plan->leader];
    version = &node->view.report.document.version;
    snprintf(name, sizeof name, "%.*s", WHO_MAX, who ? who : "unknown");
    json = json_pack("{s:{s:I,s:I},s:O,s:s}", "expect", "generation",
                     (json_int_t)version->generation, "counter", (json_int_t)version->counter,
                     "change", change, "who", name);
    body = json_dump_line(json);
    json_decref(json);
    node_url(node, "/v1/document", url, sizeof url);
    call = call_new(node, fn, arg);
    call->call = http_call(cluster->client,
                           &(struct http_call_spec){.method = "POST",
                                                    .url = url,
                                                    .token = cluster->orchestrator->peer_token,
                                                    .body = body,
                                                    .body_size = strlen(body),
                                                    .timeout_ms = CALL_TIMEOUT_MS},
                           changed, call);
    free(body);
    return call;
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
    call = call_new(best, fn, arg);
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
