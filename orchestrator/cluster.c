#include "orchestrator/cluster.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/rand.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"

enum { AGE_MAX = UINT32_MAX - 1 };

static uint32_t age(int64_t now_ms, int64_t then_ms)
{
    int64_t ms = now_ms - then_ms;

    if (then_ms == 0)
        return AGE_NEVER;
    return ms > (int64_t)AGE_MAX ? AGE_MAX : ms < 0 ? 0 : (uint32_t)ms;
}

static uint32_t lasting(int64_t now_ms, int64_t since_ms)
{
    return since_ms == 0 ? 0 : age(now_ms, since_ms);
}

static void fill_view(struct cluster *cluster, struct view *view)
{
    int64_t now_ms = clock_mono_ms();

    memset(view, 0, sizeof *view);
    view->now_ms = now_ms;
    view->proposer = cluster->orchestrator->proposer;
    view->chance = (uint32_t)rand_u64();
    view->options = cluster->options;
    view->memory = cluster->memory;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        node->view.report_age_ms = age(now_ms, node->reported_ms);
        node->view.unreachable_ms = node->view.reachable ? 0
                                                         : lasting(now_ms, node->failing_since_ms);
        node->view.postgres_age_ms = age(now_ms, node->probed_ms);
        node->view.postgres_failing_ms = lasting(now_ms, node->postgres_failing_since_ms);
        view->nodes[slot] = node->view;
    }
    request_offer(cluster, &view->request);
}

static void tell_events(struct cluster *cluster, const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->event_count; i++) {
        const struct plan_event *event = &plan->events[i];

        log_event(LOG_LEVEL_INFO, "decision", "{s:s,s:s,s:s?,s:I,s:s}", "cluster", cluster->name,
                  "reason", reason_code(event->reason), "node",
                  event->node >= 0 ? cluster->nodes[event->node].id : NULL, "generation",
                  (json_int_t)event->generation, "text", reason_text(event->reason));
        history_event(cluster, event);
    }
}

static void round_run(struct cluster *cluster)
{
    struct view view;
    struct plan plan;

    cluster->round_due = false;
    fill_view(cluster, &view);
    decide(&view, &plan);
    durations_note(cluster, &view.memory, &plan);
    cluster->memory = plan.memory;
    cluster->plan = plan;
    act(cluster, &plan);
    tell_events(cluster, &plan);
    topology_update(cluster);
    document_round(cluster);
    snapshots_round(cluster);
    request_settled(cluster, &plan);
}

static void round_posted(void *arg)
{
    struct cluster *cluster = arg;

    if (cluster->round_due)
        round_run(cluster);
}

static void round_timer(void *arg)
{
    round_run(arg);
}

void cluster_changed(struct cluster *cluster)
{
    if (cluster->round_due)
        return;
    cluster->round_due = true;
    if (!cluster->held)
        loop_post(cluster->orchestrator->loop, round_posted, cluster);
}

void cluster_hold(struct cluster *cluster)
{
    cluster->held = true;
}

void cluster_release(struct cluster *cluster)
{
    cluster->held = false;
    if (cluster->round_due)
        round_run(cluster);
}

struct cluster *orchestrator_cluster(struct orchestrator *orchestrator, const char *name)
{
    if (!name)
        return orchestrator->cluster_count == 1 ? &orchestrator->clusters[0] : NULL;
    for (uint32_t i = 0; i < orchestrator->cluster_count; i++)
        if (strcmp(orchestrator->clusters[i].name, name) == 0)
            return &orchestrator->clusters[i];
    return NULL;
}

struct node *cluster_node(struct cluster *cluster, const char *id)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (strcmp(cluster->nodes[slot].id, id) == 0)
            return &cluster->nodes[slot];
    return NULL;
}

void cluster_start(struct cluster *cluster)
{
    cluster->plan.leader = NODE_NONE;
    cluster->timer = loop_timer_new(cluster->orchestrator->loop, round_timer, cluster);
    observe_start(cluster);
    snapshots_start(cluster);
    loop_timer_start(cluster->timer, 0);
}

void cluster_stop(struct cluster *cluster)
{
    observe_stop(cluster);
    act_stop(cluster);
    document_stop(cluster);
    snapshots_stop(cluster);
    loop_timer_free(cluster->timer);
    cluster->timer = NULL;
}
