/* The routes of a cluster's snapshots; docs/openapi.yaml describes them. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/units.h"
#include "orchestrator/api_internal.h"
#include "orchestrator/options.h"
#include "orchestrator/snapshots.h"

enum { TASK_WAIT_MS = 120000, INDEX_WAIT_MS = 200000, OPTION_SIZE = 64, LEVEL_MAX = 19 };

/* The cluster's, where snapshots are on. Answers itself and returns NULL otherwise. */
static struct snapshots *find_snapshots(struct http_request *request, void *arg)
{
    struct cluster *cluster = api_find_cluster(request, arg);
    struct snapshots *s = cluster ? cluster->snapshots : NULL;

    if (!s)
        return NULL;
    if (s->settings.known && s->settings.store)
        return s;
    if (!s->settings.known)
        http_respond_problem(request, 503, NULL,
                             "no agent of cluster %s has given its document yet", cluster->name);
    else
        http_respond_problem(request, 409, "Not carried out",
                             "snapshots of cluster %s are off, because its document names no "
                             "store: ogelctl config set snapshots.store=URL turns them on",
                             cluster->name);
    return NULL;
}

/* --- tasks -------------------------------------------------------------------------------------
 */

struct task_wait {
    struct http_request *request;
    struct snapshots *snapshots;
    struct snapshot_wish wish;
    bool for_end;
    struct snapshot_index_call *reading; /* whether there is such a snapshot */
    struct snapshot_call *call;
};

static void respond_task(struct http_request *request, int status, json_t *task, const char *detail)
{
    json_t *members = json_pack("{s:o}", "task", task);

    if (status == 200 || status == 202)
        http_respond_json(request, status, members);
    else
        http_respond_problem_with(request, status, status == 409 ? "Not carried out" : NULL,
                                  members, "%s", detail);
}

static void task_done(int status, const json_t *task, const char *detail, void *arg)
{
    struct task_wait *wait = arg;

    respond_task(wait->request, status, task ? json_incref((json_t *)(uintptr_t)task) : json_null(),
                 detail);
    free(wait);
}

static void task_woken(struct http_request *request, enum http_wake why, void *arg)
{
    struct task_wait *wait = arg;

    if (why == HTTP_WAKE_DEADLINE && snapshot_run_active(wait->snapshots) &&
        wait->snapshots->run.certain)
        respond_task(request, 202, snapshot_run_json(wait->snapshots), "");
    else if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL,
                             "no agent has taken it yet: look at GET "
                             "/v1/clusters/%s/snapshots/task",
                             wait->snapshots->cluster->name);
    snapshot_index_forget(wait->reading);
    snapshot_call_forget(wait->call);
    free(wait);
}

/* The request is suspended by now. */
static void begin_now(struct task_wait *wait)
{
    struct snapshots *s = wait->snapshots;
    struct err err = {0};
    int status = snapshot_run_begin(s, &wait->wish, wait->for_end, task_done, wait, &wait->call,
                                    &err);

    if (status == 0)
        return;
    respond_task(wait->request, status, snapshot_run_active(s) ? snapshot_run_json(s) : json_null(),
                 err.text);
    free(wait);
}

static void begin_if_there(int status, const json_t *list, const char *detail, void *arg)
{
    struct task_wait *wait = arg;

    (void)list;
    wait->reading = NULL;
    if (status == 200 && snapshot_index_entry(wait->snapshots, wait->wish.snapshot)) {
        begin_now(wait);
        return;
    }
    if (status == 200)
        http_respond_problem(wait->request, 404, NULL, "there is no snapshot %s in %s",
                             wait->wish.snapshot, wait->snapshots->settings.store);
    else
        http_respond_problem(wait->request, status, NULL, "%s", detail);
    free(wait);
}

static void begin(struct http_request *request, struct snapshots *s,
                  const struct snapshot_wish *wish, bool wait_for_end)
{
    struct task_wait *wait = xcalloc(1, sizeof *wait);
    struct snapshot_index_call *reading;
    char who[API_WHO_SIZE], action[32];

    api_who_asks(request, who);
    snprintf(action, sizeof action, "snapshot %s", snapshot_kind_names[wish->kind]);
    history_audit(s->cluster, who, action,
                  wish->snapshot[0] ? json_pack("{s:s}", "snapshot", wish->snapshot)
                  : wish->options   ? json_deep_copy(wish->options)
                                    : json_object());
    *wait = (struct task_wait){
        .request = request, .snapshots = s, .wish = *wish, .for_end = wait_for_end};
    snprintf(wait->wish.who, sizeof wait->wish.who, "%.*s", SNAPSHOT_WHO_SIZE - 1, who);
    http_suspend(request,
                 wait_for_end ? s->cluster->orchestrator->options->request_timeout_ms
                              : TASK_WAIT_MS,
                 task_woken, wait);
    if (!wish->snapshot[0] || snapshot_index_entry(s, wish->snapshot)) {
        begin_now(wait);
        return;
    }
    reading = snapshot_index_get(s, true, begin_if_there, wait);
    if (reading)
        wait->reading = reading; /* else it is answered, and gone */
}

static int read_options(const json_t *body, json_t *options, struct err *err)
{
    char text[OPTION_SIZE] = "";
    int64_t level = 0, bytes;

    if (json_field_int(body, "level", JSON_OPTIONAL, 1, LEVEL_MAX, &level, err))
        return -1;
    if (level)
        json_object_set_new(options, "level", json_integer(level));
    if (json_field_string(body, "max_rate", JSON_OPTIONAL, text, sizeof text, err))
        return -1;
    if (text[0] && units_parse_size(text, &bytes, err))
        return err_context(err, "field \"max_rate\"");
    if (text[0])
        json_object_set_new(options, "max_rate", json_string(text));
    text[0] = '\0';
    if (json_field_string(body, "parent", JSON_OPTIONAL, text, sizeof text, err))
        return -1;
    if (text[0] && strcmp(text, "none") != 0 && !snapshot_id_valid(text))
        return err_set(err, ERR_INVALID,
                       "field \"parent\": expected the id of a snapshot, or \"none\"");
    if (text[0])
        json_object_set_new(options, "parent", json_string(text));
    return 0;
}

static void handle_create(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"node", "parent", "level", "max_rate", "wait", NULL};
    struct snapshots *s = find_snapshots(request, arg);
    struct snapshot_wish wish = {.kind = SNAPSHOT_CREATE};
    struct err err = {0};
    bool wait = false;
    json_t *body;

    if (!s || !(body = api_read_body(request, fields)) ||
        !api_read_target(request, s->cluster, body, "node", &wish.node))
        return;
    wish.options = json_object();
    if (wish.node == NODE_NONE)
        wish.node = s->settings.node;
    if (json_field_bool(body, "wait", JSON_OPTIONAL, &wait, &err) ||
        read_options(body, wish.options, &err)) {
        (void)api_bad_field(request, body, &err);
    } else {
        json_decref(body);
        begin(request, s, &wish, wait);
    }
    json_decref(wish.options);
}

static bool read_id(struct http_request *request, char id[SNAPSHOT_ID_SIZE])
{
    const char *text = http_request_param(request, "id");

    if (!snapshot_id_valid(text)) {
        http_respond_problem(request, 404, NULL, "\"%.60s\" is no id of a snapshot", text);
        return false;
    }
    snprintf(id, SNAPSHOT_ID_SIZE, "%s", text);
    return true;
}

static void begin_on(struct http_request *request, void *arg, enum snapshot_kind kind)
{
    static const char *const fields[] = {"node", "wait", NULL};
    struct snapshots *s = find_snapshots(request, arg);
    struct snapshot_wish wish = {.kind = kind};
    struct err err = {0};
    bool wait = false;
    json_t *body;

    if (!s || (kind != SNAPSHOT_GC && !read_id(request, wish.snapshot)) ||
        !(body = api_read_body(request, fields)) ||
        !api_read_target(request, s->cluster, body, "node", &wish.node))
        return;
    if (json_field_bool(body, "wait", JSON_OPTIONAL, &wait, &err)) {
        (void)api_bad_field(request, body, &err);
        return;
    }
    json_decref(body);
    if (wish.node == NODE_NONE && kind != SNAPSHOT_GC)
        wish.node = s->settings.node;
    begin(request, s, &wish, wait);
}

static void handle_verify(struct http_request *request, void *arg)
{
    begin_on(request, arg, SNAPSHOT_VERIFY);
}

static void handle_drill(struct http_request *request, void *arg)
{
    begin_on(request, arg, SNAPSHOT_DRILL);
}

static void handle_gc(struct http_request *request, void *arg)
{
    begin_on(request, arg, SNAPSHOT_GC);
}

static void handle_task(struct http_request *request, void *arg)
{
    struct snapshots *s = find_snapshots(request, arg);

    if (s)
        respond_task(request, 200, snapshot_run_json(s), "");
}

/* --- the index ---------------------------------------------------------------------------------
 */

struct index_wait {
    struct http_request *request;
    struct snapshots *snapshots;
    struct snapshot_index_call *call;
    char id[SNAPSHOT_ID_SIZE]; /* "": all */
};

static void respond_list(struct http_request *request, const struct snapshots *s,
                         const json_t *list)
{
    char time[CLOCK_ISO8601_SIZE];

    http_respond_json(request, 200,
                      json_pack("{s:s,s:s,s:O}", "store", s->settings.store, "read",
                                clock_format_iso8601(s->index.read_ms, time), "snapshots", list));
}

static void respond_one(struct http_request *request, const struct snapshots *s, const char *id)
{
    const json_t *entry = snapshot_index_entry(s, id);

    if (entry)
        http_respond_json(request, 200, json_deep_copy(entry));
    else
        http_respond_problem(request, 404, NULL, "there is no snapshot %s in %s", id,
                             s->settings.store);
}

static void index_read(int status, const json_t *list, const char *detail, void *arg)
{
    struct index_wait *wait = arg;

    if (status != 200)
        http_respond_problem(wait->request, status, NULL, "%s", detail);
    else if (wait->id[0])
        respond_one(wait->request, wait->snapshots, wait->id);
    else
        respond_list(wait->request, wait->snapshots, list);
    free(wait);
}

static void index_woken(struct http_request *request, enum http_wake why, void *arg)
{
    struct index_wait *wait = arg;

    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL, "no agent has read the store in time");
    snapshot_index_forget(wait->call);
    free(wait);
}

static void read_index(struct http_request *request, struct snapshots *s, bool refresh,
                       const char *id)
{
    struct index_wait *wait = xcalloc(1, sizeof *wait);
    struct snapshot_index_call *call;

    wait->request = request;
    wait->snapshots = s;
    snprintf(wait->id, sizeof wait->id, "%s", id);
    http_suspend(request, INDEX_WAIT_MS, index_woken, wait);
    call = snapshot_index_get(s, refresh, index_read, wait);
    if (call)
        wait->call = call; /* else it is answered, and gone */
}

static void handle_list(struct http_request *request, void *arg)
{
    struct snapshots *s = find_snapshots(request, arg);
    const char *refresh;

    if (!s)
        return;
    refresh = http_request_query(request, "refresh");
    read_index(request, s, refresh && strcmp(refresh, "0") != 0, "");
}

/* One that is not known may have been taken by somebody else meanwhile. */
static void handle_show(struct http_request *request, void *arg)
{
    struct snapshots *s = find_snapshots(request, arg);
    char id[SNAPSHOT_ID_SIZE];

    if (s && read_id(request, id))
        read_index(request, s, !snapshot_index_entry(s, id), id);
}

#define SNAPSHOTS "/v1/clusters/{name}/snapshots"

const struct http_route snapshot_routes[] = {
    {HTTP_GET, SNAPSHOTS, HTTP_READ, handle_list, NULL},
    {HTTP_POST, SNAPSHOTS, HTTP_ADMIN, handle_create, NULL},
    {HTTP_GET, SNAPSHOTS "/task", HTTP_READ, handle_task, NULL},
    {HTTP_POST, SNAPSHOTS "/gc", HTTP_ADMIN, handle_gc, NULL},
    {HTTP_GET, SNAPSHOTS "/{id}", HTTP_READ, handle_show, NULL},
    {HTTP_POST, SNAPSHOTS "/{id}/verify", HTTP_ADMIN, handle_verify, NULL},
    {HTTP_POST, SNAPSHOTS "/{id}/drill", HTTP_ADMIN, handle_drill, NULL},
};
const size_t snapshot_route_count = OGEL_ARRAY_LEN(snapshot_routes);
