/* Requests of any bytes to every route of the orchestrator, /connect among them, and answers of any
 * bytes from the agents that it asks, up to the next decision: each request is answered once, and
 * what is answered is whole. Two clusters: the first is healthy at the start, the second silent. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"
#include "orchestrator/topology.h"
#include "protocol/codec.h"
#include "tests/fuzz/fake_http.h"
#include "tests/unit/decide_scene.h"

enum { CLUSTERS = 2, REQUESTS_MAX = 8 };

static struct orchestrator orchestrator;
static struct orchestrator_options options = {.request_timeout_ms = 1000,
                                              .failure_timeout_ms = 1000};
static struct cluster clusters[CLUSTERS];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void begin(void)
{
    struct err err = {0};

    log_set_level(LOG_LEVEL_FATAL);
    OGEL_CHECK(loop_new(&orchestrator.loop, &err) == 0);
    orchestrator.options = &options;
    orchestrator.proposer = SCENE_PROPOSER;
    orchestrator.clusters = clusters;
    orchestrator.cluster_count = CLUSTERS;
}

static void start(int number)
{
    struct cluster *cluster = &clusters[number];
    struct scene scene;

    memset(cluster, 0, sizeof *cluster);
    scene_init(&scene);
    cluster->orchestrator = &orchestrator;
    cluster->options = scene.view.options;
    snprintf(cluster->name, sizeof cluster->name, "c%d", number + 1);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        node->cluster = cluster;
        node->slot = slot;
        snprintf(node->id, sizeof node->id, "n%d", slot + 1);
        snprintf(node->agent.host, sizeof node->agent.host, "192.0.2.%d", slot + 1);
        node->agent.port = 8008;
    }
    cluster->history = history_new();
    cluster->requests = requests_new(cluster);
    topology_new(cluster);
    cluster->snapshots = snapshots_new(cluster);
    cluster_start(cluster);
}

static void stop(struct cluster *cluster)
{
    cluster_stop(cluster);
    requests_free(cluster->requests);
    history_free(cluster->history);
    topology_free(cluster);
    snapshots_free(cluster->snapshots);
}

/* The three agents of the first cluster answer its first polls. */
static void heal(void)
{
    struct scene scene;

    scene_init(&scene);
    scene_healthy(&scene, 0, 5);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct report *report = &scene.view.nodes[slot].report;
        const uint8_t *data;
        size_t size;
        json_t *json;
        char *text, *answer;

        snprintf(report->postgres.host, sizeof report->postgres.host, "192.0.2.%d", slot + 1);
        report->postgres.port = 5432;
        json = report_to_json(report);
        text = json_dump_line(json);
        answer = xasprintf("\x08%s", text);
        data = (const uint8_t *)answer;
        size = strlen(answer);
        fake_http_answer_calls(&data, &size);
        OGEL_CHECK(clusters[0].nodes[slot].view.known);
        free(answer);
        free(text);
        json_decref(json);
    }
    OGEL_CHECK(clusters[0].topology->writable);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    bool deadline = size > 0 && data[0] & 1;

    if (orchestrator.loop == NULL)
        begin();
    for (int i = 0; i < CLUSTERS; i++)
        start(i);
    OGEL_CHECK(api_start(&orchestrator, &err) == 0);
    heal();
    for (int i = 0; i < REQUESTS_MAX && size > 0; i++) {
        fake_http_request(&data, &size);
        OGEL_CHECK(loop_run_once(orchestrator.loop, 0, &err) == 0);
        if (size > 0 && data[0] >= 0x80)
            fake_http_answer_calls(&data, &size);
        OGEL_CHECK(loop_run_once(orchestrator.loop, 0, &err) == 0);
    }
    fake_http_settle(deadline);
    OGEL_CHECK(loop_run_once(orchestrator.loop, 0, &err) == 0);
    api_stop(&orchestrator);
    for (int i = 0; i < CLUSTERS; i++)
        stop(&clusters[i]);
    fake_http_drop_calls();
    return 0;
}
