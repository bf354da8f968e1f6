/* The topology in Redis, for applications that subscribe: a copy that may be lost at any moment and
 * is written again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/redis.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"

enum { REWRITE_MS = 3000, KEY_SIZE = CLUSTER_NAME_SIZE + 32 };

void redis_publish_topology(struct cluster *cluster)
{
    struct redis *redis = cluster->orchestrator->redis;
    char key[KEY_SIZE];
    json_t *json, *event;
    char *text;

    if (!redis)
        return;
    json = topology_json(cluster);
    text = json_dump_line(json);
    snprintf(key, sizeof key, "ogel:%s:topology", cluster->name);
    redis_set(redis, key, text, strlen(text), NULL, NULL);
    free(text);
    event = json_pack("{s:s,s:o}", "kind", "topology", "topology", json);
    redis_publish_event(cluster, event);
    json_decref(event);
}

void redis_publish_event(struct cluster *cluster, const json_t *event)
{
    struct redis *redis = cluster->orchestrator->redis;
    char channel[KEY_SIZE];
    char *text;

    if (!redis)
        return;
    text = json_dump_line(event);
    snprintf(channel, sizeof channel, "ogel:%s:events", cluster->name);
    redis_publish(redis, channel, text, strlen(text), NULL, NULL);
    free(text);
}

/* A flushed or restarted Redis has the topology back without anybody asking. */
static void rewrite(void *arg)
{
    struct orchestrator *orchestrator = arg;
    struct redis_status status;

    redis_status(orchestrator->redis, &status);
    if (status.state != REDIS_UP)
        return;
    for (uint32_t i = 0; i < orchestrator->cluster_count; i++) {
        struct cluster *cluster = &orchestrator->clusters[i];
        char key[KEY_SIZE];
        json_t *json = topology_json(cluster);
        char *text = json_dump_line(json);

        snprintf(key, sizeof key, "ogel:%s:topology", cluster->name);
        redis_set(orchestrator->redis, key, text, strlen(text), NULL, NULL);
        free(text);
        json_decref(json);
    }
}

static void redis_state(struct redis *redis, enum redis_state state, void *arg)
{
    struct orchestrator *orchestrator = arg;

    if (state == REDIS_UP && orchestrator->redis == redis)
        rewrite(orchestrator);
}

int redis_publish_start(struct orchestrator *orchestrator, struct err *err)
{
    const struct orchestrator_redis *options = &orchestrator->options->redis;

    if (options->address.port == 0)
        return 0;
    if (redis_new(&orchestrator->redis, orchestrator->loop,
                  &(struct redis_config){.host = options->address.host,
                                         .port = options->address.port,
                                         .password_file = options->password_file,
                                         .database = (int)options->database,
                                         .resolver = orchestrator->resolver,
                                         .on_state = redis_state,
                                         .arg = orchestrator},
                  err))
        return -1;
    orchestrator->redis_timer = loop_timer_new(orchestrator->loop, rewrite, orchestrator);
    loop_timer_repeat(orchestrator->redis_timer, REWRITE_MS);
    return 0;
}

void redis_publish_stop(struct orchestrator *orchestrator)
{
    loop_timer_free(orchestrator->redis_timer);
    redis_free(orchestrator->redis);
    orchestrator->redis_timer = NULL;
    orchestrator->redis = NULL;
}
