/* Three agents of which only the routes for snapshots are there, real HTTP on both sides and
 * nothing behind it; and a cluster of an orchestrator over them: n1 leads, n3 has less lag than n2.
 */
#ifndef OGEL_TESTS_UNIT_SNAPSHOT_AGENTS_H
#define OGEL_TESTS_UNIT_SNAPSHOT_AGENTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"
#include "orchestrator/topology.h"

#define PEER_TOKEN "peer-token-0123456789"
#define SYSTEM_ID  UINT64_C(7300000000000000001)
#define ID_OLD     "20260203T040506Z-1a2b3c4d"
#define ID_NEW     "20260203T050607Z-5e6f7a8b"

enum { PATIENCE_MS = 8000, QUIET_MS = 1000 };

struct fake {
    struct http_server *server;
    struct http_route routes[4];
    json_t *task; /* what it tells; NULL: {"state": "none"} */
    int post_status;
    json_t *post_task; /* of a refusal */
    int posts;
    json_t *posted; /* the last one */
    int list_status;
    const char *list; /* JSON */
    int lists;
};

struct fixture {
    struct orchestrator orchestrator;
    struct orchestrator_options options;
    struct cluster cluster;
    struct snapshots *s;
    struct fake agents[NODE_COUNT];
    const char *section; /* JSON */
    /* of the last callbacks */
    int answers, status;
    json_t *answer;
    char detail[SNAPSHOT_TEXT_SIZE];
};

static struct fixture *fx;

/* --- the agents ------------------------------------------------------------------------------ */

static inline json_t *parsed(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    return json;
}

static inline void get_task(struct http_request *request, void *arg)
{
    struct fake *fake = arg;
    static int sequence;

    http_respond_json(
        request, 200,
        json_pack("{s:i,s:s,s:o}", "sequence", ++sequence, "run", "0123456789abcdef", "task",
                  fake->task ? json_deep_copy(fake->task) : json_pack("{s:s}", "state", "none")));
}

static inline void post_task(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    fake->posts++;
    json_decref(fake->posted);
    fake->posted = parsed(request->body);
    if (fake->post_status != 202) {
        http_respond_problem_with(
            request, fake->post_status, NULL,
            json_pack("{s:o,s:s}", "task",
                      fake->post_task ? json_incref(fake->post_task) : json_null(), "reason",
                      "held"),
            "one task at a time");
        return;
    }
    json_decref(fake->task);
    fake->task = json_pack("{s:O,s:O,s:s,s:s,s:I}", "id", json_object_get(fake->posted, "id"),
                           "kind", json_object_get(fake->posted, "kind"), "state", "running",
                           "phase", "copying", "begun_ms", (json_int_t)clock_wall_ms());
    http_respond_json(request, 202, json_pack("{s:O}", "task", fake->task));
}

static inline void get_list(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    fake->lists++;
    assert_string_equal(http_request_query(request, "store"), "/srv/b & more");
    if (fake->list_status == 200)
        http_respond_json(request, 200, parsed(fake->list));
    else
        http_respond_problem(request, fake->list_status, NULL, "the store does not answer");
}

static inline void get_document(struct http_request *request, void *arg)
{
    json_t *json = json_pack("{s:{s:i,s:i}}", "version", "generation", 5, "counter", 1);

    (void)arg;
    if (fx->section)
        json_object_set_new(json, "snapshots", parsed(fx->section));
    http_respond_json(request, 200, json);
}

static inline void fake_serve(struct fake *fake)
{
    const struct http_token token = {"peer", HTTP_ROLE_PEER, PEER_TOKEN};

    fake->routes[0] = (struct http_route){HTTP_GET, "/v1/task", HTTP_PEER, get_task, fake};
    fake->routes[1] = (struct http_route){HTTP_POST, "/v1/task", HTTP_PEER, post_task, fake};
    fake->routes[2] = (struct http_route){HTTP_GET, "/v1/snapshots", HTTP_PEER, get_list, fake};
    fake->routes[3] = (struct http_route){HTTP_GET, "/v1/document", HTTP_PEER, get_document, fake};
    assert_int_equal(http_server_start(&fake->server, fx->orchestrator.loop,
                                       &(struct http_server_config){.routes = fake->routes,
                                                                    .n_routes = 4,
                                                                    .tokens = &token,
                                                                    .n_tokens = 1},
                                       NULL),
                     0);
}

/* What the agent tells from now on of the task that it was given. */
static inline void fake_ends(int slot, const char *state, const char *more)
{
    struct fake *fake = &fx->agents[slot];
    json_t *json = parsed(more);

    json_object_set_new(fake->task, "state", json_string(state));
    json_object_set_new(fake->task, "ended_ms", json_integer(clock_wall_ms()));
    json_object_update(fake->task, json);
    json_decref(json);
}

static inline void fake_succeeds(int slot)
{
    fake_ends(slot, "done",
              "{\"snapshot\": {\"id\": \"" ID_NEW "\", \"logical_bytes\": 1000, \"stored_bytes\": "
              "10}}");
}

static inline void fake_fails(int slot, const char *code)
{
    char text[100];

    snprintf(text, sizeof(text), "{\"error\": {\"code\": \"%s\", \"text\": \"it broke\"}}", code);
    fake_ends(slot, "failed", text);
}

/* --- the cluster: n1 leads, n3 has less lag than n2 ------------------------------------------- */

static inline void node_fill(int32_t slot)
{
    struct node *node = &fx->cluster.nodes[slot];
    struct report *report = &node->view.report;

    node->cluster = &fx->cluster;
    node->slot = slot;
    snprintf(node->id, sizeof(node->id), "n%d", slot + 1);
    snprintf(node->agent.host, sizeof(node->agent.host), "127.0.0.1");
    node->agent.port = (uint16_t)http_server_port(fx->agents[slot].server);
    node->view.known = node->view.reachable = true;
    report->pg = PG_UP;
    report->complete = true;
    report->in_recovery = report->receiver.streaming = slot != 0;
    report->system_id = SYSTEM_ID;
    report->document.version = (struct document_version){5, 1};
    fx->cluster.topology->nodes[slot].lag_bytes = slot == 0 ? 0 : slot == 1 ? 5000 : 100;
}

static inline int setup(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_FATAL);
    fx = xcalloc(1, sizeof(*fx));
    assert_int_equal(loop_new(&fx->orchestrator.loop, NULL), 0);
    fx->section = "{\"store\": \"/srv/b & more\", \"level\": 7, \"keep\": {\"daily\": 2}}";
    fx->options.request_timeout_ms = 60000;
    fx->orchestrator.options = &fx->options;
    fx->orchestrator.clusters = &fx->cluster;
    fx->orchestrator.cluster_count = 1;
    snprintf(fx->orchestrator.peer_token, sizeof(fx->orchestrator.peer_token), PEER_TOKEN);
    fx->cluster.orchestrator = &fx->orchestrator;
    snprintf(fx->cluster.name, sizeof(fx->cluster.name), "main");
    fx->cluster.history = history_new();
    topology_new(&fx->cluster);
    assert_int_equal(http_client_new(&fx->cluster.client, fx->orchestrator.loop, NULL, NULL), 0);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        fx->agents[slot].post_status = 202;
        fx->agents[slot].list_status = 200;
        fx->agents[slot].list = "[]";
        fake_serve(&fx->agents[slot]);
        node_fill(slot);
    }
    fx->cluster.plan.leader = 0;
    fx->cluster.plan.writable = true;
    fx->s = fx->cluster.snapshots = snapshots_new(&fx->cluster);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    document_stop(&fx->cluster);
    snapshots_stop(&fx->cluster);
    snapshots_free(fx->s);
    http_client_free(fx->cluster.client);
    for (int i = 0; i < NODE_COUNT; i++) {
        http_server_stop(fx->agents[i].server);
        json_decref(fx->agents[i].task);
        json_decref(fx->agents[i].post_task);
        json_decref(fx->agents[i].posted);
    }
    json_decref(fx->answer);
    topology_free(&fx->cluster);
    history_free(fx->cluster.history);
    loop_free(fx->orchestrator.loop);
    free(fx);
    return 0;
}

static inline void turn(void)
{
    assert_int_equal(loop_run_once(fx->orchestrator.loop, 20, NULL), 0);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        int64_t until_ms = clock_mono_ms() + PATIENCE_MS;                                          \
                                                                                                   \
        while (!(condition)) {                                                                     \
            if (clock_mono_ms() > until_ms)                                                        \
                fail_msg("not in time: %s", #condition);                                           \
            turn();                                                                                \
        }                                                                                          \
    } while (0)

/* Nothing more happens than what the caller looks at afterwards. */
static inline void stay(void)
{
    int64_t until_ms = clock_mono_ms() + QUIET_MS;

    while (clock_mono_ms() < until_ms)
        turn();
}

static inline void begin_watching(void)
{
    snapshots_start(&fx->cluster);
    UNTIL(fx->s->settings.known &&
          (!fx->s->settings.store || fx->s->index.list || fx->s->index.failed));
}

static inline void answered(int status, const json_t *task, const char *detail, void *arg)
{
    (void)arg;
    fx->answers++;
    fx->status = status;
    json_decref(fx->answer);
    fx->answer = task ? json_deep_copy(task) : NULL;
    snprintf(fx->detail, sizeof(fx->detail), "%s", detail);
}

static inline int create(bool wait, int32_t node)
{
    struct snapshot_wish wish = {.kind = SNAPSHOT_CREATE, .node = node};
    struct snapshot_call *call;
    struct err err = {0};
    int status = snapshot_run_begin(fx->s, &wish, wait, answered, NULL, &call, &err);

    snprintf(fx->detail, sizeof(fx->detail), "%s", err.text);
    return status;
}

static inline bool told(const char *code)
{
    json_t *events = history_list(&fx->cluster, 0, 100), *event;
    bool found = false;
    size_t i;

    json_array_foreach(events, i, event)
    {
        found = found || strcmp(json_string_value(json_object_get(event, "reason")), code) == 0;
    }
    json_decref(events);
    return found;
}

static inline int posts(void)
{
    return fx->agents[0].posts + fx->agents[1].posts + fx->agents[2].posts;
}

static inline const char *text(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));

    return value ? value : "";
}

#endif
