#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "orchestrator/shell.h"
#include "protocol/codec.h"
#include "protocol/order.h"

enum {
    COMMAND_TIMEOUT_MS = 1000,
    RESEND_MS = 200, /* a message whose effect is not seen yet is sent again after so long */
    URL_SIZE = 512,
    ANSWER_DEPTH = 8,
};

/* A message is sent again and again; what came of it is logged once. */
static bool rejected_anew(struct node *node, int status)
{
    bool anew = node->rejected.generation != node->sent.generation ||
                node->rejected.status != status;

    node->rejected.generation = node->sent.generation;
    node->rejected.status = status;
    return anew;
}

/* An agent that refuses says where it stands: that is how two orchestrators learn of each other. */
static int take_refusal(struct node *node, const char *body, size_t size)
{
    struct promise promise;
    struct err err = {0};
    json_t *json = NULL;
    int rc = json_parse_bounded(body, size, ANSWER_DEPTH, &json, &err) ||
             promise_from_json(json_object_get(json, "promise"), &promise, &err);

    if (rc == 0) {
        if (rejected_anew(node, 409))
            log_event(LOG_LEVEL_WARNING, "message_refused", "{s:s,s:s,s:I,s:I,s:s?}", "cluster",
                      node->cluster->name, "node", node->id, "generation",
                      (json_int_t)node->sent.generation, "promised", (json_int_t)promise.generation,
                      "verdict", json_string_value(json_object_get(json, "verdict")));
        node->view.refused_message = true;
        node->view.refused_with = promise;
        cluster_changed(node->cluster);
    }
    json_decref(json);
    return rc;
}

static void command_done(const struct http_result *result, void *arg)
{
    struct node *node = arg;
    char body[200];

    node->command = NULL;
    if (result->outcome != HTTP_CALL_OK) {
        cluster_changed(node->cluster);
        return;
    }
    if ((result->status == 409 && take_refusal(node, result->body, result->body_size) == 0) ||
        result->status < 400 || !rejected_anew(node, result->status))
        return;
    snprintf(body, sizeof body, "%s", result->body);
    log_event(LOG_LEVEL_ERROR, "message_rejected", "{s:s,s:s,s:i,s:s}", "cluster",
              node->cluster->name, "node", node->id, "status", result->status, "error", body);
}

static bool same_message(const struct desired *a, const struct desired *b)
{
    return a->generation == b->generation && a->proposer == b->proposer && a->role == b->role &&
           a->birth == b->birth && a->planned == b->planned && a->job.id == b->job.id &&
           a->job_after == b->job_after && source_equal(&a->source, &b->source) &&
           leadership_equal(&a->leader, &b->leader) &&
           memcmp(a->destroyed_number, b->destroyed_number, sizeof a->destroyed_number) == 0;
}

static void send_message(struct node *node, const struct desired *message)
{
    struct orchestrator *orchestrator = node->cluster->orchestrator;
    int64_t now_ms = clock_mono_ms();
    bool same = same_message(message, &node->sent);
    char url[URL_SIZE];
    json_t *json;
    char *body;

    if (same && (node->command || now_ms - node->sent_ms < RESEND_MS))
        return;
    http_call_cancel(node->command);
    node->sent = *message;
    node->sent_ms = now_ms;
    json = desired_to_json(message);
    body = json_dump_line(json);
    json_decref(json);
    node_url(node, "/v1/desired", url, sizeof url);
    node->command = http_call(node->cluster->client,
                              &(struct http_call_spec){.method = "POST",
                                                       .url = url,
                                                       .token = orchestrator->peer_token,
                                                       .body = body,
                                                       .body_size = strlen(body),
                                                       .timeout_ms = COMMAND_TIMEOUT_MS},
                              command_done, node);
    free(body);
}

void act(struct cluster *cluster, const struct plan *plan)
{
    int64_t wake_ms = plan->wake_ms;
    bool sent = false;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        if (plan->send[slot]) {
            send_message(node, &plan->message[slot]);
            sent = true;
        }
        if (plan->probe[slot] ||
            clock_mono_ms() - node->probed_ms > cluster->options.probe_interval_ms)
            observe_probe(node);
    }
    if (sent && wake_ms > RESEND_MS)
        wake_ms = RESEND_MS;
    loop_timer_start(cluster->timer, wake_ms > 0 ? wake_ms : 1);
}

void act_stop(struct cluster *cluster)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        http_call_cancel(cluster->nodes[slot].command);
        cluster->nodes[slot].command = NULL;
    }
}
