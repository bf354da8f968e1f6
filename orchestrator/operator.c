#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "orchestrator/shell.h"

/* The one request under way. What more could be asked while a switchover runs would only race with
 * it. */
struct requests {
    struct cluster *cluster;
    struct request current; /* id 0: none */
    struct loop_timer *deadline;
    request_fn *fn; /* NULL: the caller went away */
    void *arg;
};

static void finish(struct requests *requests, const struct request_result *result)
{
    request_fn *fn = requests->fn;
    void *arg = requests->arg;

    loop_timer_stop(requests->deadline);
    memset(&requests->current, 0, sizeof requests->current);
    requests->fn = NULL;
    if (fn)
        fn(result, arg);
}

/* What has been decided is not taken back: an election under way goes on. */
static void deadline_passed(void *arg)
{
    struct requests *requests = arg;
    const struct plan *plan = &requests->cluster->plan;
    struct request_result result = {.late = true, .reason = plan->not_writable};
    char text[SENTENCE_SIZE], detail[SENTENCE_SIZE + 64];
    int32_t node = NODE_NONE;

    if (plan->blocker_count > 0) {
        result.reason = plan->blockers[0].reason;
        node = plan->blockers[0].node;
    }
    reason_sentence(requests->cluster, result.reason, node, text, sizeof text);
    snprintf(detail, sizeof detail, "not carried out in time; last known: %s", text);
    result.detail = detail;
    finish(requests, &result);
    cluster_changed(requests->cluster);
}

struct requests *requests_new(struct cluster *cluster)
{
    struct requests *requests = xcalloc(1, sizeof *requests);

    requests->cluster = cluster;
    requests->deadline = loop_timer_new(cluster->orchestrator->loop, deadline_passed, requests);
    return requests;
}

void requests_free(struct requests *requests)
{
    if (!requests)
        return;
    loop_timer_free(requests->deadline);
    free(requests);
}

static const char *action_name(const struct request *request)
{
    static const char *const names[] = {"nothing",    "init", "failover",
                                        "switchover", "job",  "document"};

    if (request->kind == REQUEST_JOB)
        return job_kind_name(request->job.kind);
    return names[request->kind];
}

static json_t *action_details(const struct cluster *cluster, const struct request *request)
{
    json_t *details = json_object(), *destroyed = json_array();

    if (request->target >= 0)
        json_object_set_new(details, "target", json_string(cluster->nodes[request->target].id));
    if (request->source.id[0]) {
        json_object_set_new(details, "from_snapshot", json_string(request->source.id));
        json_object_set_new(details, "store", json_string(request->source.store));
    }
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (request->destroyed[slot])
            json_array_append_new(destroyed, json_string(cluster->nodes[slot].id));
    if (json_array_size(destroyed) > 0) {
        json_object_set_new(details, "accept_data_loss", json_true());
        json_object_set(details, "destroyed", destroyed);
    }
    json_decref(destroyed);
    return details;
}

uint64_t request_submit(struct cluster *cluster, const struct request *request, const char *who,
                        int64_t timeout_ms, request_fn *fn, void *arg, struct err *err)
{
    struct requests *requests = cluster->requests;

    if (requests->current.id) {
        err_set(err, ERR_CONFLICT,
                "another operation (%s) is under way on cluster %s: wait for it to end",
                action_name(&requests->current), cluster->name);
        return 0;
    }
    requests->current = *request;
    do
        requests->current.id = rand_u64() >> 1; /* fits a JSON integer */
    while (requests->current.id == 0);
    if (requests->current.kind == REQUEST_JOB)
        requests->current.job.id = requests->current.id;
    requests->fn = fn;
    requests->arg = arg;
    loop_timer_start(requests->deadline, timeout_ms);
    if (request->kind != REQUEST_DOCUMENT) /* what is changed has been noted */
        history_audit(cluster, who, action_name(request), action_details(cluster, request));
    cluster_changed(cluster);
    return requests->current.id;
}

void request_forget(struct cluster *cluster, uint64_t id)
{
    if (cluster->requests->current.id == id)
        cluster->requests->fn = NULL;
}

void request_withdraw(struct cluster *cluster, uint64_t id)
{
    struct requests *requests = cluster->requests;

    if (id == 0 || requests->current.id != id)
        return;
    requests->fn = NULL;
    loop_timer_stop(requests->deadline);
    memset(&requests->current, 0, sizeof requests->current);
    cluster_changed(cluster);
}

void request_offer(struct cluster *cluster, struct request *out)
{
    *out = cluster->requests->current;
}

void request_settled(struct cluster *cluster, const struct plan *plan)
{
    struct requests *requests = cluster->requests;
    struct request_result result = {.ok = plan->request_ok, .reason = plan->request_reason};
    char detail[SENTENCE_SIZE];

    if (!plan->request_settled || !requests->current.id ||
        plan->memory.last_settled_request != requests->current.id)
        return;
    result.detail = reason_sentence(cluster, plan->request_reason, plan->request_node, detail,
                                    sizeof detail);
    finish(requests, &result);
}
