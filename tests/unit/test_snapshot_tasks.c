/* Snapshots as the orchestrator orders them, at three agents of which only the routes for tasks are
 * there: real HTTP on both sides, nothing behind it. */
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

static json_t *parsed(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    return json;
}

static void get_task(struct http_request *request, void *arg)
{
    struct fake *fake = arg;
    static int sequence;

    http_respond_json(
        request, 200,
        json_pack("{s:i,s:s,s:o}", "sequence", ++sequence, "run", "0123456789abcdef", "task",
                  fake->task ? json_deep_copy(fake->task) : json_pack("{s:s}", "state", "none")));
}

static void post_task(struct http_request *request, void *arg)
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

static void get_list(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    fake->lists++;
    assert_string_equal(http_request_query(request, "store"), "/srv/b & more");
    if (fake->list_status == 200)
        http_respond_json(request, 200, parsed(fake->list));
    else
        http_respond_problem(request, fake->list_status, NULL, "the store does not answer");
}

static void get_document(struct http_request *request, void *arg)
{
    json_t *json = json_pack("{s:{s:i,s:i}}", "version", "generation", 5, "counter", 1);

    (void)arg;
    if (fx->section)
        json_object_set_new(json, "snapshots", parsed(fx->section));
    http_respond_json(request, 200, json);
}

static void fake_serve(struct fake *fake)
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
static void fake_ends(int slot, const char *state, const char *more)
{
    struct fake *fake = &fx->agents[slot];
    json_t *json = parsed(more);

    json_object_set_new(fake->task, "state", json_string(state));
    json_object_set_new(fake->task, "ended_ms", json_integer(clock_wall_ms()));
    json_object_update(fake->task, json);
    json_decref(json);
}

static void fake_succeeds(int slot)
{
    fake_ends(slot, "done",
              "{\"snapshot\": {\"id\": \"" ID_NEW "\", \"logical_bytes\": 1000, \"stored_bytes\": "
              "10}}");
}

static void fake_fails(int slot, const char *code)
{
    char text[100];

    snprintf(text, sizeof(text), "{\"error\": {\"code\": \"%s\", \"text\": \"it broke\"}}", code);
    fake_ends(slot, "failed", text);
}

/* --- the cluster: n1 leads, n3 has less lag than n2 ------------------------------------------- */

static void node_fill(int32_t slot)
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

static int setup(void **state)
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

static int teardown(void **state)
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

static void turn(void)
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
static void stay(void)
{
    int64_t until_ms = clock_mono_ms() + QUIET_MS;

    while (clock_mono_ms() < until_ms)
        turn();
}

static void begin_watching(void)
{
    snapshots_start(&fx->cluster);
    UNTIL(fx->s->settings.known &&
          (!fx->s->settings.store || fx->s->index.list || fx->s->index.failed));
}

static void answered(int status, const json_t *task, const char *detail, void *arg)
{
    (void)arg;
    fx->answers++;
    fx->status = status;
    json_decref(fx->answer);
    fx->answer = task ? json_deep_copy(task) : NULL;
    snprintf(fx->detail, sizeof(fx->detail), "%s", detail);
}

static int create(bool wait, int32_t node)
{
    struct snapshot_wish wish = {.kind = SNAPSHOT_CREATE, .node = node};
    struct snapshot_call *call;
    struct err err = {0};
    int status = snapshot_run_begin(fx->s, &wish, wait, answered, NULL, &call, &err);

    snprintf(fx->detail, sizeof(fx->detail), "%s", err.text);
    return status;
}

static bool told(const char *code)
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

static int posts(void)
{
    return fx->agents[0].posts + fx->agents[1].posts + fx->agents[2].posts;
}

static const char *text(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));

    return value ? value : "";
}

/* --- on demand ------------------------------------------------------------------------------- */

static void test_create__follower_with_least_lag__is_asked_with_the_documents_options(void **state)
{
    const json_t *options;

    (void)state;
    begin_watching();
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 202);
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->agents[2].posts, 1);
    assert_string_equal(text(fx->answer, "node"), "n3");
    assert_string_equal(text(fx->answer, "state"), "running");
    assert_string_equal(text(fx->agents[2].posted, "kind"), "create");
    assert_string_equal(text(fx->agents[2].posted, "store"), "/srv/b & more");
    assert_int_equal(strlen(text(fx->agents[2].posted, "id")), 16);
    options = json_object_get(fx->agents[2].posted, "options");
    assert_int_equal(json_integer_value(json_object_get(options, "level")), 7);
    assert_null(json_object_get(options, "keep"));
}

static void test_create__that_waits__is_answered_at_the_end_and_the_index_read_again(void **state)
{
    int lists;

    (void)state;
    begin_watching();
    lists = fx->agents[2].lists + fx->agents[1].lists;
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    stay();
    assert_int_equal(fx->answers, 0);
    fake_succeeds(2);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
    assert_string_equal(text(fx->answer, "state"), "done");
    assert_string_equal(fx->s->outcomes[SNAPSHOT_CREATE].id, ID_NEW);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].logical_bytes, 1000);
    assert_non_null(snapshot_index_entry(fx->s, ID_NEW)); /* before the store has been read */
    UNTIL(fx->agents[2].lists + fx->agents[1].lists > lists);
    stay();
    assert_int_equal(posts(), 1); /* nobody asked for a collection */
    assert_true(told("A1") && told("A2"));
}

static void test_create__that_failed__is_tried_once_more_on_another_node(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "unavailable");
    UNTIL(fx->agents[1].posts == 1);
    assert_true(told("A4"));
    assert_string_not_equal(text(fx->agents[1].posted, "id"), text(fx->agents[2].posted, "id"));
    UNTIL(fx->s->run.certain);
    fake_fails(1, "unavailable");
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 502);
    assert_string_equal(fx->detail, "it broke");
    stay();
    assert_int_equal(posts(), 2);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 1);
    assert_true(told("A3"));
}

static void test_create__that_any_node_would_fail__is_not_tried_again(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "no_space");
    UNTIL(fx->answers == 1);
    stay();
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->status, 502);
}

static void test_create__at_a_named_node__stays_there(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, 1), 0);
    UNTIL(fx->s->run.certain);
    assert_int_equal(fx->agents[1].posts, 1);
    fake_fails(1, "unavailable");
    UNTIL(fx->answers == 1);
    assert_int_equal(posts(), 1);
    fx->cluster.nodes[1].view.report.receiver.streaming = false;
    assert_int_equal(create(true, 1), 503);
    assert_non_null(strstr(fx->detail, "n2 is not fit"));
}

static void test_create__no_follower_fit__is_the_leaders_and_said(void **state)
{
    (void)state;
    begin_watching();
    fx->cluster.nodes[1].view.reachable = false;
    fx->cluster.nodes[2].view.report.complete = false;
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->agents[0].posts, 1);
    assert_true(told("A7"));
}

static void test_create__while_one_runs__is_refused_at_once(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(false, NODE_NONE), 0);
    assert_int_equal(create(false, NODE_NONE), 409);
    assert_non_null(strstr(fx->detail, "one task at a time"));
    UNTIL(fx->answers == 1);
    assert_int_equal(posts(), 1);
}

static void test_create__refused_by_an_agent__is_409_and_no_failure(void **state)
{
    (void)state;
    begin_watching();
    fx->agents[2].post_status = 403;
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 409);
    assert_non_null(strstr(fx->detail, "the agent of n3: one task at a time"));
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 0);
    assert_false(snapshot_run_active(fx->s));
}

static void test_create__agent_gone_for_good__is_tried_on_another(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    http_server_stop(fx->agents[2].server);
    fx->agents[2].server = NULL;
    fx->cluster.nodes[2].view.reachable = false;
    fx->cluster.nodes[2].view.refuses = true;
    UNTIL(fx->agents[1].posts == 1);
    UNTIL(fx->s->run.certain);
    fake_succeeds(1);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
    assert_string_equal(text(fx->answer, "node"), "n2");
    assert_true(json_is_true(json_object_get(fx->answer, "second_try")));
}

static void test_create__agent_restarted_in_the_middle__is_tried_on_another(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    json_decref(fx->agents[2].task);
    fx->agents[2].task = NULL;
    UNTIL(fx->agents[1].posts == 1);
}

static void test_second_try__refused_while_the_permit_is_held__is_asked_for_again(void **state)
{
    char id[TASK_ID_SIZE];
    json_t *task;

    (void)state;
    begin_watching();
    fx->agents[1].post_status = 403;
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "unavailable");
    UNTIL(fx->agents[1].posts == 1 && fx->s->run.state == RUN_AGAIN);
    task = snapshot_run_json(fx->s); /* nobody takes the first one's failure for the end */
    assert_string_equal(text(task, "state"), "starting");
    assert_true(json_is_true(json_object_get(task, "second_try")));
    json_decref(task);
    snprintf(id, sizeof(id), "%s", text(fx->agents[1].posted, "id"));
    UNTIL(fx->agents[1].posts == 2);
    assert_string_equal(text(fx->agents[1].posted, "id"), id);
    fx->agents[1].post_status = 202;
    UNTIL(fx->s->run.certain);
    fake_succeeds(1);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
}

/* --- found running --------------------------------------------------------------------------- */

static json_t *running(const char *id, const char *kind)
{
    return json_pack("{s:s,s:s,s:s,s:I}", "id", id, "kind", kind, "state", "running", "begun_ms",
                     (json_int_t)clock_wall_ms());
}

static void test_task__found_running__is_followed_to_its_end(void **state)
{
    (void)state;
    fx->agents[1].task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(snapshot_run_active(fx->s));
    assert_int_equal(create(false, NODE_NONE), 409);
    fake_succeeds(1);
    UNTIL(fx->s->outcomes[SNAPSHOT_CREATE].ended_ms > 0);
    assert_false(snapshot_run_active(fx->s));
    assert_true(told("A6") && told("A2"));
    assert_true(fx->s->gc_ms >
                clock_mono_ms()); /* the schedule's: whoever began it collects first */
    assert_int_equal(posts(), 0);
}

static void test_task__followed_by_another_at_once__is_taken_for_ended(void **state)
{
    (void)state;
    fx->agents[1].task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(snapshot_run_active(fx->s));
    json_decref(fx->agents[1].task);
    fx->agents[1].task = running("0123456789abcdf2", "gc");
    UNTIL(snapshot_run_active(fx->s) && fx->s->run.wish.kind == SNAPSHOT_GC);
    fake_ends(1, "done", "{}");
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 0);
    assert_false(told("A3") || told("A4"));
}

static void test_task__begun_and_done_between_two_looks__has_the_index_read_again(void **state)
{
    int lists;

    (void)state;
    begin_watching();
    UNTIL(fx->s->watches[1].answered);
    lists = fx->agents[1].lists + fx->agents[2].lists;
    fx->agents[1].task = running("0123456789abcde2", "create");
    fake_succeeds(1);
    snapshots_ask(fx->s, 1);
    UNTIL(fx->agents[1].lists + fx->agents[2].lists > lists);
    assert_string_equal(fx->s->outcomes[SNAPSHOT_CREATE].id, ID_NEW);
    lists = fx->agents[1].lists + fx->agents[2].lists;
    snapshots_ask(fx->s, 1);
    stay();
    assert_int_equal(fx->agents[1].lists + fx->agents[2].lists, lists); /* once */
}

static void test_task__that_ended_before__is_shown_and_not_repeated(void **state)
{
    json_t *task;

    (void)state;
    fx->agents[1].task = running("0123456789abcde0", "create");
    fake_fails(1, "unavailable");
    begin_watching();
    stay();
    task = snapshot_run_json(fx->s);
    assert_string_equal(text(task, "state"), "failed");
    assert_string_equal(text(task, "node"), "n2");
    json_decref(task);
    assert_int_equal(posts(), 0);
}

/* --- on a schedule --------------------------------------------------------------------------- */

/* One of two hours ago: slots have been missed since. */
static const char *old_list(void)
{
    static char list[400];
    int64_t then_ms = clock_wall_ms() - 7200000;

    snprintf(list, sizeof(list),
             "{\"snapshots\": [{\"id\": \"" ID_OLD "\", \"system_id\": \"%llu\", \"started_ms\": "
             "%lld, \"stopped_ms\": %lld, \"logical_bytes\": 500, \"stored_bytes\": 5}]}",
             (unsigned long long)SYSTEM_ID, (long long)then_ms, (long long)then_ms + 1000);
    return list;
}

static void schedule_missed(void)
{
    fx->section = "{\"store\": \"/srv/b & more\", \"schedule\": \"every 30min\", "
                  "\"keep\": {\"daily\": 2}}";
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list = old_list();
}

static void test_schedule__missed_runs__are_one_that_collects_afterwards(void **state)
{
    const json_t *keep;

    (void)state;
    schedule_missed();
    begin_watching();
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].logical_bytes, 500);
    UNTIL(fx->agents[2].posts == 1 && fx->s->run.certain);
    fake_succeeds(2);
    UNTIL(fx->agents[1].posts == 1); /* always the same follower, whatever its lag */
    UNTIL(fx->s->run.certain);
    assert_string_equal(text(fx->agents[1].posted, "kind"), "gc");
    keep = json_object_get(json_object_get(fx->agents[1].posted, "options"), "keep");
    assert_int_equal(json_integer_value(json_object_get(keep, "daily")), 2);
    assert_int_equal(json_integer_value(json_object_get(keep, "weekly")), 4); /* a default */
    fake_ends(1, "done", "{}");
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 2);
    assert_true(fx->s->outcomes[SNAPSHOT_CREATE].next_ms > clock_wall_ms());
}

static void test_schedule__collection_refused__holds_no_later_snapshot_against_it(void **state)
{
    (void)state;
    schedule_missed();
    begin_watching();
    UNTIL(fx->agents[2].posts == 1 && fx->s->run.certain);
    fx->agents[1].post_status = 403;
    fake_succeeds(2);
    UNTIL(fx->agents[1].posts == 1 && !snapshot_run_active(fx->s));
    stay();
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].refused_since_ms, 0);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_GC].failed_total, 0);
    assert_int_equal(posts(), 2);
}

static void test_schedule__served_by_another_orchestrator__is_left_alone(void **state)
{
    (void)state;
    schedule_missed();
    fx->agents[1].task = running("0123456789abcde2", "create");
    fake_succeeds(1);
    begin_watching();
    stay();
    assert_int_equal(posts(), 0);
    assert_false(told("A5"));
}

static void test_schedule__refused_for_another_orchestrators_run__is_no_failure(void **state)
{
    (void)state;
    schedule_missed();
    fx->agents[2].post_status = 409;
    fx->agents[2].post_task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(fx->agents[2].posts == 1);
    fx->agents[1].task = json_incref(fx->agents[2].post_task);
    UNTIL(snapshot_run_active(fx->s) && !fx->s->run.own);
    fake_succeeds(1);
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 0);
    assert_false(told("A3") || told("A5"));
}

static void test_schedule__in_maintenance__is_skipped_and_said_once(void **state)
{
    (void)state;
    schedule_missed();
    fx->cluster.plan.maintenance = true;
    begin_watching();
    UNTIL(told("A5"));
    stay();
    assert_int_equal(posts(), 0);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].skipped_total[SKIP_MAINTENANCE], 1);
    fx->cluster.plan.maintenance = false;
    stay();
    assert_int_equal(posts(), 0); /* the slot is past */
}

static void test_schedule__that_cannot_be_read__is_said_and_runs_nothing(void **state)
{
    json_t *status;

    (void)state;
    fx->section = "{\"store\": \"/srv/b & more\", \"schedule\": \"now and then\"}";
    begin_watching();
    status = snapshots_status_json(&fx->cluster);
    assert_non_null(strstr(text(status, "problem"), "now and then"));
    json_decref(status);
}

/* --- the index ------------------------------------------------------------------------------- */

static void listed(int status, const json_t *list, const char *detail, void *arg)
{
    (void)arg;
    fx->answers++;
    fx->status = status;
    json_decref(fx->answer);
    fx->answer = list ? json_deep_copy(list) : NULL;
    snprintf(fx->detail, sizeof(fx->detail), "%s", detail);
}

static void test_index__one_agent_cannot_read_the_store__another_does(void **state)
{
    (void)state;
    fx->agents[1].list_status = fx->agents[2].list_status = 502;
    fx->agents[0].list = old_list();
    begin_watching();
    UNTIL(fx->s->index.list);
    assert_int_equal(json_array_size(fx->s->index.list), 1);
    assert_non_null(snapshot_index_entry(fx->s, ID_OLD));
    assert_null(snapshot_index_entry(fx->s, ID_NEW));
}

static void test_index__no_agent_can_read_the_store__says_why(void **state)
{
    json_t *status;

    (void)state;
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list_status = 502;
    begin_watching();
    UNTIL(fx->s->index.failed);
    (void)snapshot_index_get(fx->s, true, listed, NULL);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 503);
    assert_non_null(strstr(fx->detail, "the store does not answer"));
    status = snapshots_status_json(&fx->cluster);
    assert_non_null(strstr(text(status, "problem"), "the store does not answer"));
    json_decref(status);
}

static void test_index__snapshots_of_another_system__are_listed_and_count_for_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list = "[{\"id\": \"" ID_OLD "\", \"system_id\": \"5\", \"started_ms\": 1, "
                             "\"stopped_ms\": 2}]";
    begin_watching();
    assert_int_equal(json_array_size(fx->s->index.list), 1);
    assert_null(snapshot_index_newest(fx->s));
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].ended_ms, 0);
}

static void test_document__without_a_store__turns_snapshots_off(void **state)
{
    json_t *status;

    (void)state;
    fx->section = NULL;
    begin_watching();
    stay();
    status = snapshots_status_json(&fx->cluster);
    assert_true(json_is_null(status));
    json_decref(status);
    assert_int_equal(fx->agents[0].lists + fx->agents[1].lists + fx->agents[2].lists, 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_create__follower_with_least_lag__is_asked_with_the_documents_options),
        CASE(test_create__that_waits__is_answered_at_the_end_and_the_index_read_again),
        CASE(test_create__that_failed__is_tried_once_more_on_another_node),
        CASE(test_create__that_any_node_would_fail__is_not_tried_again),
        CASE(test_create__at_a_named_node__stays_there),
        CASE(test_create__no_follower_fit__is_the_leaders_and_said),
        CASE(test_create__while_one_runs__is_refused_at_once),
        CASE(test_create__refused_by_an_agent__is_409_and_no_failure),
        CASE(test_create__agent_gone_for_good__is_tried_on_another),
        CASE(test_create__agent_restarted_in_the_middle__is_tried_on_another),
        CASE(test_second_try__refused_while_the_permit_is_held__is_asked_for_again),
        CASE(test_task__found_running__is_followed_to_its_end),
        CASE(test_task__followed_by_another_at_once__is_taken_for_ended),
        CASE(test_task__begun_and_done_between_two_looks__has_the_index_read_again),
        CASE(test_task__that_ended_before__is_shown_and_not_repeated),
        CASE(test_schedule__missed_runs__are_one_that_collects_afterwards),
        CASE(test_schedule__collection_refused__holds_no_later_snapshot_against_it),
        CASE(test_schedule__served_by_another_orchestrator__is_left_alone),
        CASE(test_schedule__refused_for_another_orchestrators_run__is_no_failure),
        CASE(test_schedule__in_maintenance__is_skipped_and_said_once),
        CASE(test_schedule__that_cannot_be_read__is_said_and_runs_nothing),
        CASE(test_index__one_agent_cannot_read_the_store__another_does),
        CASE(test_index__no_agent_can_read_the_store__says_why),
        CASE(test_index__snapshots_of_another_system__are_listed_and_count_for_nothing),
        CASE(test_document__without_a_store__turns_snapshots_off),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
