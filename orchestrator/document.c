/* Changing the cluster document: compare-and-set at the leader's agent, done when one more agent
 * holds it. Maintenance mode can also be ended without a leader: then one is elected first. */
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
#include "protocol/order.h"

/* WHO_MAX: what agents take of a name */
enum {
    WHO_MAX = 63,
    CALL_TIMEOUT_MS = 10000,
    SPREAD_TIMEOUT_MS = 8000,
    AGAIN_FOR_MS = 3000, /* an agent that says "not now" is asked again for so long … */
    AGAIN_MS = 100,      /* … so often */
    ELECTION_MS = 15000,
    URL_SIZE = 512,
    ANSWER_DEPTH = 16
};

struct document_call {
    struct document_call *next, **place; /* of the cluster's */
    struct cluster *cluster;
    int32_t node;   /* whose agent was asked */
    json_t *change; /* NULL: the document is fetched */
    char who[WHO_MAX + 1];
    uint64_t election; /* operator's request that goes before; 0: none, or done */
    int64_t until_ms;  /* asked again until then */
    struct loop_timer *again;
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
    loop_timer_free(call->again);
    request_forget(call->cluster, call->election);
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
    if (result->status == 503 && clock_mono_ms() < call->until_ms) {
        json_decref(call->answer);
        call->answer = NULL;
        loop_timer_start(call->again, AGAIN_MS);
        return;
    }
    if (result->status != 200) {
        const char *detail = json_string_value(json_object_get(call->answer, "detail"));

        finish(call, refusal_status(result),
               detail && *detail ? detail : "the leader's agent refused the change");
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
    call->place = &cluster->documents;
    call->next = *call->place;
    if (call->next)
        call->next->place = &call->next;
    *call->place = call;
    call->fn = fn;
    call->arg = arg;
    return call;
}

static void send_change(void *arg)
{
    struct document_call *call = arg;
    struct cluster *cluster = call->cluster;
    const struct document_version *version;
    char url[URL_SIZE];
    json_t *json;
    char *body;

    if (cluster->plan.leader < 0) {
        finish(call, 503, "the leader was lost meanwhile: ask again");
        return;
    }
    call->node = cluster->plan.leader;
    version = &cluster->nodes[call->node].view.report.document.version;
    json = json_pack("{s:{s:I,s:I},s:O,s:s}", "expect", "generation",
                     (json_int_t)version->generation, "counter", (json_int_t)version->counter,
                     "change", call->change, "who", call->who);
    body = json_dump_line(json);
    json_decref(json);
    node_url(&cluster->nodes[call->node], "/v1/document", url, sizeof url);
    call->call = http_call(cluster->client,
                           &(struct http_call_spec){.method = "POST",
                                                    .url = url,
                                                    .token = cluster->orchestrator->peer_token,
                                                    .body = body,
                                                    .body_size = strlen(body),
                                                    .timeout_ms = CALL_TIMEOUT_MS},
                           changed, call);
    free(body);
}

static void elected(const struct request_result *result, void *arg)
{
    struct document_call *call = arg;

    call->election = 0;
    if (!result->ok) {
        finish(call, result->late ? 504 : 409, result->detail);
        return;
    }
    call->until_ms = clock_mono_ms() + AGAIN_FOR_MS;
    loop_timer_start(call->again, 0);
}

static bool ends_maintenance(const struct cluster *cluster, const json_t *change)
{
    return cluster->plan.maintenance && json_object_size(change) == 1 &&
           json_is_false(json_object_get(change, "maintenance"));
}

struct document_call *document_change(struct cluster *cluster, const json_t *change,
                                      const char *who, document_fn *fn, void *arg, struct err *err)
{
    struct request election = {.kind = REQUEST_FAILOVER, .target = NODE_NONE};
    struct document_call *call;

    if (cluster->plan.leader < 0 && !ends_maintenance(cluster, change)) {
        err_set(err, ERR_UNAVAILABLE,
                "cluster %s has no leader now: the document is changed at the leader's agent",
                cluster->name);
        return NULL;
    }
    call = call_new(cluster, fn, arg);
    call->change = json_deep_copy(change);
    snprintf(call->who, sizeof call->who, "%s", who ? who : "unknown");
    call->until_ms = clock_mono_ms() + AGAIN_FOR_MS;
    call->again = loop_timer_new(cluster->orchestrator->loop, send_change, call);
    if (cluster->plan.leader >= 0) {
        send_change(call);
        return call;
    }
    call->election = request_submit(cluster, &election, call->who, ELECTION_MS, elected, call, err);
    if (call->election)
        return call;
    call_free(call);
    return NULL;
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
