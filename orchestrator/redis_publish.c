/* The topology in Redis, for applications that subscribe: a copy that may be lost at any moment and
 * is written again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/redis.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"

enum { REWRITE_MS = 3000, REWRITE_TURNS = 30, KEY_SIZE = CLUSTER_NAME_SIZE + 32 };

/* Nothing is made for a Redis that would not get it: what it missed it gets when it is back. */
static bool is_up(const struct redis *redis)
{
    struct redis_status status;

    if (!redis)
        return false;
    redis_status(redis, &status);
    return status.state == REDIS_UP;
}

static void write_topology(struct cluster *cluster)
{
    char key[KEY_SIZE];
    json_t *json = topology_json(cluster);
    char *text = json_dump_line(json);

    snprintf(key, sizeof key, "ogel:%s:topology", cluster->name);
    redis_set(cluster->orchestrator->redis, key, text, strlen(text), NULL, NULL);
    free(text);
    json_decref(json);
}

void redis_publish_topology(struct cluster *cluster)
{
    json_t *event;

    if (!is_up(cluster->orchestrator->redis))
        return;
    write_topology(cluster);
    event = json_pack("{s:s,s:o}", "kind", "topology", "topology", topology_json(cluster));
    redis_publish_event(cluster, event);
    json_decref(event);
}

void redis_publish_event(struct cluster *cluster, const json_t *event)
{
    struct redis *redis = cluster->orchestrator->redis;
    char channel[KEY_SIZE];
    char *text;

    if (!is_up(redis))
        return;
    text = json_dump_line(event);
    snprintf(channel, sizeof channel, "ogel:%s:events", cluster->name);
    redis_publish(redis, channel, text, strlen(text), NULL, NULL);
    free(text);
}

static uint32_t rewrite_turns(const struct orchestrator *orchestrator)
{
    return orchestrator->cluster_count < REWRITE_TURNS ? orchestrator->cluster_count
                                                       : REWRITE_TURNS;
}

/* Once when it goes, or was never there, and once when it is back. */
static void tell(struct orchestrator *orchestrator)
{
    struct redis_status status;

    redis_status(orchestrator->redis, &status);
    if (status.state == REDIS_UP && orchestrator->redis_missed)
        log_event(LOG_LEVEL_INFO, "redis_answers", NULL);
    else if (status.state != REDIS_UP && !orchestrator->redis_missed && status.error[0])
        log_event(LOG_LEVEL_WARNING, "redis_missing", "{s:s}", "error", status.error);
    else
        return;
    orchestrator->redis_missed = status.state != REDIS_UP;
}

/* A flushed or restarted Redis has the topology back without anybody asking. The clusters take
 * turns: hundreds at once would keep the loop from a leader that dies meanwhile. */
static void rewrite(void *arg)
{
    struct orchestrator *orchestrator = arg;
    uint32_t turns = rewrite_turns(orchestrator);

    tell(orchestrator);
    for (uint32_t i = 0; is_up(orchestrator->redis) && i < orchestrator->cluster_count;
         i += turns) {
        struct cluster *cluster =
            &orchestrator->clusters[orchestrator->redis_next++ % orchestrator->cluster_count];

        write_topology(cluster);
        snapshots_check_redis(cluster);
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
    loop_timer_repeat(orchestrator->redis_timer, REWRITE_MS / rewrite_turns(orchestrator));
    return 0;
}

void redis_publish_stop(struct orchestrator *orchestrator)
{
    loop_timer_free(orchestrator->redis_timer);
    redis_free(orchestrator->redis);
    orchestrator->redis_timer = NULL;
    orchestrator->redis = NULL;
}
