#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "orchestrator/shell.h"

/* The one request under way. What more could be asked while a switchover runs would only race with it. */
struct requests {
    struct cluster *cluster;
    struct request current;             /* id 0: none */
    struct loop_timer *deadline;
    request_fn *fn;                     /* NULL: the caller went away */
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

static void deadline_passed(void *arg)
{
    struct requests *requests = arg;
    const struct plan *plan = &requests->cluster->plan;
    char detail[200];

    snprintf(detail, sizeof detail, "not carried out in time; last known: %s",
             reason_text(plan->blocker_count ? plan->blockers[0].reason : plan->not_writable));
    finish(requests, &(struct request_result) {
                         .ok = false,
                         .reason = plan->blocker_count ? plan->blockers[0].reason : plan->not_writable,
                         .detail = detail});
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

uint64_t request_submit(struct cluster *cluster, const struct request *request, const char *who,
                        int64_t timeout_ms, request_fn *fn, void *arg, struct err *err)
{
    struct requests *requests = cluster->requests;
    static const char *const actions[] = {"none", "init", "failover", "switchover", "job"};

    if (requests->current.id) {
        err_set(err, ERR_CONFLICT, "another operation (%s) is under way on cluster %s: wait for it to end",
                actions[requests->current.kind], cluster->name);
        return 0;
    }
    requests->current = *request;
    do
        requests->current.id = rand_u64() >> 1;     /* fits a JSON integer */
    while (requests->current.id == 0);
    if (requests->current.kind == REQUEST_JOB)
        requests->current.job.id = requests->current.id;
    requests->fn = fn;
    requests->arg = arg;
    loop_timer_start(requests->deadline, timeout_ms);
    history_audit(cluster, who, actions[request->kind],
                  request->target >= 0 ? json_pack("{s:s}", "target", cluster->nodes[request->target].id) : NULL);
    cluster_changed(cluster);
    return requests->current.id;
}

void request_forget(struct cluster *cluster, uint64_t id)
{
    if (cluster->requests->current.id == id)
        cluster->requests->fn = NULL;
}

void request_offer(struct cluster *cluster, struct request *out)
{
    *out = cluster->requests->current;
}

void request_settled(struct cluster *cluster, const struct plan *plan)
{
    struct requests *requests = cluster->requests;

    if (!plan->request_settled || !requests->current.id ||
        plan->memory.last_settled_request != requests->current.id)
        return;
    finish(requests, &(struct request_result) {.ok = plan->request_ok,
                                               .reason = plan->request_reason,
                                               .detail = reason_text(plan->request_reason)});
}
