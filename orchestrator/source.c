/* What a snapshot is, asked of the agent of a node that may have to restore it: the core decides by
 * what its manifest says, and a store that this agent cannot read is found out before anything is
 * begun. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_client.h"
#include "base/json.h"
#include "base/mem.h"
#include "orchestrator/shell.h"
#include "protocol/codec.h"

enum { LOOKUP_TIMEOUT_MS = 36000, URL_SIZE = 512, ANSWER_DEPTH = 8 };

struct source_call {
    struct node *node;
    struct http_call *call;
    source_fn *fn;
    void *arg;
};

/* The agent's own sentence where it gave one. */
static void refused(const struct source_call *call, const struct http_result *result)
{
    char detail[SENTENCE_SIZE * 2];
    struct err ignored = {0};
    json_t *json = NULL;
    const char *said = NULL;
    int status = result->status;

    if (result->outcome == HTTP_CALL_OK &&
        json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, &ignored) == 0)
        said = json_string_value(json_object_get(json, "detail"));
    snprintf(detail, sizeof detail, "%.16s cannot read that snapshot: %.300s", call->node->id,
             said ? said : result->error);
    json_decref(json);
    if (result->outcome != HTTP_CALL_OK || status < 400 || status >= 600)
        status = 503;
    call->fn(status, NULL, detail, call->arg);
}

static void answered(const struct http_result *result, void *arg)
{
    struct source_call *call = arg;
    struct snapshot_source source;
    struct err err = {0};
    json_t *json = NULL;

    call->call = NULL;
    if (result->outcome != HTTP_CALL_OK || result->status != 200)
        refused(call, result);
    else if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, &err) < 0 ||
             source_take(json, "source", &source, &err) < 0)
        call->fn(502, NULL, err.text, call->arg);
    else
        call->fn(200, &source, "", call->arg);
    json_decref(json);
    free(call);
}

/* The system of the cluster as it is; "": it has none yet. */
static void find_system(const struct cluster *cluster, char text[24])
{
    uint64_t id = 0;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (cluster->nodes[slot].view.known && (id == 0 || slot == cluster->plan.leader))
            id = cluster->nodes[slot].view.report.system_id;
    text[0] = '\0';
    if (id != 0)
        snprintf(text, 24, "%" PRIu64, id);
}

int32_t source_reader(const struct cluster *cluster)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (cluster->nodes[slot].view.reachable)
            return slot;
    return 0;
}

struct source_call *source_look_up(struct cluster *cluster, int32_t slot, const char *store,
                                   const char *id, source_fn *fn, void *arg)
{
    struct source_call *call = xcalloc(1, sizeof *call);
    char url[URL_SIZE], system_id[24], *body;
    json_t *json;

    find_system(cluster, system_id);
    json = json_pack("{s:s,s:s,s:s}", "store", store, "id", id, "system_id", system_id);
    body = json_dump_line(json);
    json_decref(json);
    call->node = &cluster->nodes[slot];
    call->fn = fn;
    call->arg = arg;
    node_url(call->node, "/v1/source", url, sizeof url);
    call->call = http_call(cluster->client,
                           &(struct http_call_spec){.method = "POST",
                                                    .url = url,
                                                    .token = cluster->orchestrator->peer_token,
                                                    .body = body,
                                                    .body_size = strlen(body),
                                                    .timeout_ms = LOOKUP_TIMEOUT_MS},
                           answered, call);
    free(body);
    return call;
}

void source_forget(struct source_call *call)
{
    if (!call)
        return;
    http_call_cancel(call->call);
    free(call);
}
