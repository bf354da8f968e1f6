/* The HTTP API of the orchestrator; docs/openapi.yaml describes it, and the tests hold one against
 * the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_server.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/secret.h"
#include "base/units.h"
#include "config.h"
#include "orchestrator/api_internal.h"
#include "orchestrator/connect.h"
#include "orchestrator/metrics.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"
#include "orchestrator/topology.h"

enum {
    BODY_DEPTH = 8,
    EVENTS_DEFAULT = 100,
    EVENTS_MAX = 2000,
    DOCUMENT_WAIT_MS = 20000,
    SOURCE_WAIT_MS = 40000, /* a store is asked */
    STREAM_BACKLOG_BYTES = 4 << 20,
    TOKEN_SIZE = 257,
    ROUTES_MAX = 48
};

struct api {
    struct orchestrator *orchestrator;
    struct http_route routes[ROUTES_MAX];
    size_t route_count;
};

/* --- what all handlers share ------------------------------------------------------------------ */

struct cluster *api_find_cluster(struct http_request *request, struct orchestrator *orchestrator)
{
    const char *name = http_request_param(request, "name");
    struct cluster *cluster = orchestrator_cluster(orchestrator, name);

    if (!cluster)
        http_respond_problem(request, 404, NULL, "no cluster \"%s\": GET /v1/clusters lists them",
                             name);
    return cluster;
}

static struct node *find_node(struct http_request *request, struct cluster *cluster, const char *id)
{
    struct node *node = cluster_node(cluster, id);

    if (!node)
        http_respond_problem(request, 404, NULL,
                             "cluster %s has no node \"%s\" (it has %s, %s, %s)", cluster->name, id,
                             cluster->nodes[0].id, cluster->nodes[1].id, cluster->nodes[2].id);
    return node;
}

void api_who_asks(struct http_request *request, char who[API_WHO_SIZE])
{
    const char *user = http_request_header(request, "X-Ogel-Operator");

    snprintf(who, API_WHO_SIZE, "%.100s (token %s, %s)", user && *user ? user : "unnamed",
             request->token_name ? request->token_name : "-", request->peer);
    for (char *at = who; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
}

json_t *api_read_body(struct http_request *request, const char *const *fields)
{
    struct err err = {0};
    json_t *json = NULL;

    if (request->body_size == 0)
        return json_object();
    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &json, &err) ||
        json_check_fields(json, fields, &err)) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        json_decref(json);
        return NULL;
    }
    return json;
}

bool api_bad_field(struct http_request *request, json_t *body, const struct err *err)
{
    http_respond_problem(request, 400, NULL, "%s", err->text);
    json_decref(body);
    return false;
}

bool api_read_target(struct http_request *request, struct cluster *cluster, json_t *body,
                     const char *field, int32_t *slot)
{
    char id[NODE_ID_SIZE] = "";
    struct err err = {0};
    struct node *node;

    *slot = NODE_NONE;
    if (json_field_string(body, field, JSON_OPTIONAL, id, sizeof id, &err))
        return api_bad_field(request, body, &err);
    if (!id[0])
        return true;
    node = find_node(request, cluster, id);
    if (!node) {
        json_decref(body);
        return false;
    }
    *slot = node->slot;
    return true;
}

/* --- operators' requests ---------------------------------------------------------------------- */

struct operation {
    struct cluster *cluster;
    struct http_request *request; /* NULL: the client went away */
    struct request wish;
    struct source_call *lookup; /* the snapshot that it names is looked up first */
    char who[API_WHO_SIZE];
    uint64_t id; /* 0: not submitted yet */
};

static void operation_done(const struct request_result *result, void *arg)
{
    struct operation *operation = arg;
    struct http_request *request = operation->request;

    if (request && result->late)
        http_respond_problem(request, 504, NULL, "%s", result->detail);
    else if (request && result->ok)
        http_respond_json(request, 200,
                          json_pack("{s:b,s:s,s:s,s:o}", "ok", 1, "reason",
                                    reason_code(result->reason), "text", result->detail, "cluster",
                                    topology_json(operation->cluster)));
    else if (request)
        http_respond_problem_with(request, 409, "Not carried out",
                                  json_pack("{s:b,s:s,s:o}", "ok", 0, "reason",
                                            reason_code(result->reason), "cluster",
                                            topology_json(operation->cluster)),
                                  "%s", result->detail);
    free(operation);
}

static void operation_woken(struct http_request *request, enum http_wake why, void *arg)
{
    struct operation *operation = arg;

    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(
            request, 504, NULL,
            "the operation is still under way: look at GET /v1/clusters/%s and its events",
            operation->cluster->name);
    operation->request = NULL;
    source_forget(operation->lookup);
    request_forget(operation->cluster, operation->id);
    free(operation);
}

/* False: it is answered, and over. */
static bool operation_submit(struct operation *operation)
{
    int64_t timeout_ms = operation->cluster->orchestrator->options->request_timeout_ms;
    struct http_request *request = operation->request;
    struct err err = {0};

    operation->id = request_submit(operation->cluster, &operation->wish, operation->who, timeout_ms,
                                   operation_done, operation, &err);
    if (operation->id != 0)
        return true;
    http_respond_problem(request, 409, NULL, "%s", err.text);
    free(operation);
    return false;
}

static struct operation *operation_new(struct http_request *request, struct cluster *cluster,
                                       const struct request *wish)
{
    struct operation *operation = xcalloc(1, sizeof *operation);

    api_who_asks(request, operation->who);
    operation->cluster = cluster;
    operation->request = request;
    operation->wish = *wish;
    return operation;
}

static void submit(struct http_request *request, struct cluster *cluster,
                   const struct request *wish)
{
    int64_t timeout_ms = cluster->orchestrator->options->request_timeout_ms;
    struct operation *operation = operation_new(request, cluster, wish);

    if (operation_submit(operation))
        http_suspend(request, timeout_ms + 1000, operation_woken, operation);
}

static void looked_up(int status, const struct snapshot_source *source, const char *detail,
                      void *arg)
{
    struct operation *operation = arg;

    operation->lookup = NULL;
    if (source) {
        operation->wish.source = *source;
        (void)operation_submit(operation);
        return;
    }
    http_respond_problem(operation->request, status, NULL, "%s", detail);
    free(operation);
}

/* The request, of the snapshot ID in STORE. */
static void submit_with_source(struct http_request *request, struct cluster *cluster,
                               const struct request *wish, const char *store, const char *id)
{
    int64_t timeout_ms = cluster->orchestrator->options->request_timeout_ms;
    struct operation *operation = operation_new(request, cluster, wish);

    if (operation->wish.target == NODE_NONE)
        operation->wish.target = source_reader(cluster);
    operation->lookup = source_look_up(cluster, operation->wish.target, store, id, looked_up,
                                       operation);
    http_suspend(request, SOURCE_WAIT_MS + timeout_ms, operation_woken, operation);
}

/* "from_snapshot" and "store" of BODY; the store is the cluster's own unless it names one. Answers
 * itself and returns false where they make no sense. */
static bool read_source(struct http_request *request, const struct cluster *cluster, json_t *body,
                        char store[STORE_URL_SIZE], char id[SOURCE_ID_SIZE])
{
    const char *own = snapshots_store(cluster);
    struct err err = {0};

    store[0] = id[0] = '\0';
    if (json_field_string(body, "from_snapshot", JSON_OPTIONAL, id, SOURCE_ID_SIZE, &err) ||
        json_field_string(body, "store", JSON_OPTIONAL, store, STORE_URL_SIZE, &err))
        return api_bad_field(request, body, &err);
    if (id[0] && !store[0] && own)
        snprintf(store, STORE_URL_SIZE, "%s", own);
    if ((id[0] == '\0') == (store[0] == '\0'))
        return true;
    err_set(&err, ERR_INVALID,
            id[0] ? "field \"store\": where is the snapshot? The cluster has no store of its own "
                    "(snapshots.store of its document)"
                  : "field \"from_snapshot\": which snapshot of that store?");
    return api_bad_field(request, body, &err);
}

static void handle_init(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"first_leader", "from_snapshot", "store", NULL};
    struct cluster *cluster = api_find_cluster(request, arg);
    struct request wish = {.kind = REQUEST_INIT};
    char store[STORE_URL_SIZE], id[SOURCE_ID_SIZE];
    json_t *body;

    if (!cluster || !(body = api_read_body(request, fields)) ||
        !api_read_target(request, cluster, body, "first_leader", &wish.target) ||
        !read_source(request, cluster, body, store, id))
        return;
    json_decref(body);
    rand_bytes(wish.cluster.bytes, sizeof wish.cluster.bytes);
    if (id[0])
        submit_with_source(request, cluster, &wish, store, id);
    else
        submit(request, cluster, &wish);
}

static bool read_destroyed(struct http_request *request, struct cluster *cluster, json_t *body,
                           struct request *wish)
{
    bool accepted = false;
    const json_t *list = NULL, *item;
    struct err err = {0};
    size_t i, count = 0;

    if (json_field_bool(body, "accept_data_loss", JSON_OPTIONAL, &accepted, &err) ||
        json_field_array(body, "destroyed", JSON_OPTIONAL, NODE_COUNT - 1, &list, &err))
        return api_bad_field(request, body, &err);
    json_array_foreach(list, i, item)
    {
        struct node *node = json_is_string(item) ? cluster_node(cluster, json_string_value(item))
                                                 : NULL;

        if (!node) {
            err_set(&err, ERR_INVALID, "field \"destroyed\": expected ids of this cluster's nodes");
            return api_bad_field(request, body, &err);
        }
        wish->destroyed[node->slot] = true;
        count++;
    }
    if (accepted != (count > 0)) {
        err_set(&err, ERR_INVALID,
                "\"accept_data_loss\" and \"destroyed\" go together: name the nodes that are "
                "destroyed for good");
        return api_bad_field(request, body, &err);
    }
    return true;
}

static void handle_failover(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"target", "accept_data_loss", "destroyed", NULL};
    struct cluster *cluster = api_find_cluster(request, arg);
    struct request wish = {.kind = REQUEST_FAILOVER};
    json_t *body;

    if (!cluster || !(body = api_read_body(request, fields)) ||
        !api_read_target(request, cluster, body, "target", &wish.target) ||
        !read_destroyed(request, cluster, body, &wish))
        return;
    json_decref(body);
    submit(request, cluster, &wish);
}

static void handle_switchover(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"target", NULL};
    struct cluster *cluster = api_find_cluster(request, arg);
    struct request wish = {.kind = REQUEST_SWITCHOVER};
    json_t *body;

    if (!cluster || !(body = api_read_body(request, fields)) ||
        !api_read_target(request, cluster, body, "target", &wish.target))
        return;
    json_decref(body);
    submit(request, cluster, &wish);
}

static void submit_job(struct http_request *request, struct orchestrator *orchestrator,
                       enum job_kind kind)
{
    struct cluster *cluster = api_find_cluster(request, orchestrator);
    struct node *node = cluster ? find_node(request, cluster, http_request_param(request, "id"))
                                : NULL;

    if (node)
        submit(request, cluster,
               &(struct request){.kind = REQUEST_JOB, .target = node->slot, .job.kind = kind});
}

static void handle_restart(struct http_request *request, void *arg)
{
    submit_job(request, arg, JOB_RESTART);
}

static void handle_reinit(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"from_snapshot", "store", NULL};
    struct cluster *cluster = api_find_cluster(request, arg);
    struct node *node = cluster ? find_node(request, cluster, http_request_param(request, "id"))
                                : NULL;
    char store[STORE_URL_SIZE], id[SOURCE_ID_SIZE];
    struct request wish = {.kind = REQUEST_JOB, .job.kind = JOB_REINIT};
    json_t *body;

    if (!node || !(body = api_read_body(request, fields)) ||
        !read_source(request, cluster, body, store, id))
        return;
    json_decref(body);
    wish.target = node->slot;
    if (id[0])
        submit_with_source(request, cluster, &wish, store, id);
    else
        submit(request, cluster, &wish);
}

/* --- the cluster document --------------------------------------------------------------------- */

struct document_wait {
    struct http_request *request;
    struct document_call *call;
};

static void document_done(int status, const json_t *answer, const char *detail, void *arg)
{
    struct document_wait *wait = arg;

    if (wait->request && status == 200)
        http_respond_json(wait->request, 200, json_incref((json_t *)answer));
    else if (wait->request)
        http_respond_problem(wait->request, status, NULL, "%s", detail);
    free(wait);
}

static void document_woken(struct http_request *request, enum http_wake why, void *arg)
{
    struct document_wait *wait = arg;

    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL, "no agent answered in time");
    document_forget(wait->call);
    free(wait);
}

static void await_document(struct http_request *request, struct document_wait *wait,
                           struct err *err)
{
    if (!wait->call) {
        http_respond_problem(request, 503, NULL, "%s", err->text);
        free(wait);
        return;
    }
    http_suspend(request, DOCUMENT_WAIT_MS, document_woken, wait);
}

/* Takes over the reference to change. */
static void change_document(struct http_request *request, struct cluster *cluster,
                            const char *action, json_t *change)
{
    struct document_wait *wait = xcalloc(1, sizeof *wait);
    struct err err = {0};
    char who[API_WHO_SIZE];

    api_who_asks(request, who);
    history_audit(cluster, who, action, json_incref(change));
    wait->request = request;
    wait->call = document_change(cluster, change, who, document_done, wait, &err);
    json_decref(change);
    await_document(request, wait, &err);
}

static void handle_settings(struct http_request *request, void *arg)
{
    struct cluster *cluster = api_find_cluster(request, arg);
    struct err err = {0};
    json_t *change = NULL;

    if (!cluster)
        return;
    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &change, &err) ||
        !json_is_object(change)) {
        http_respond_problem(
            request, 400, NULL, "%s",
            err.code ? err.text : "the body must be a JSON object such as {\"settings\": {…}}");
        json_decref(change);
        return;
    }
    if (snapshots_check_change(change, &err)) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        json_decref(change);
        return;
    }
    change_document(request, cluster, "settings", change);
}

static void handle_settings_get(struct http_request *request, void *arg)
{
    struct cluster *cluster = api_find_cluster(request, arg);
    struct document_wait *wait;
    struct err err = {0};

    if (!cluster)
        return;
    wait = xcalloc(1, sizeof *wait);
    wait->request = request;
    wait->call = document_fetch(cluster, document_done, wait, &err);
    await_document(request, wait, &err);
}

static void handle_maintenance(struct http_request *request, void *arg)
{
    static const char *const fields[] = {"enabled", NULL};
    struct cluster *cluster = api_find_cluster(request, arg);
    struct err err = {0};
    bool enabled = false;
    json_t *body;

    if (!cluster || !(body = api_read_body(request, fields)))
        return;
    if (json_field_bool(body, "enabled", JSON_REQUIRED, &enabled, &err)) {
        api_bad_field(request, body, &err);
        return;
    }
    json_decref(body);
    change_document(request, cluster, enabled ? "maintenance on" : "maintenance off",
                    json_pack("{s:b}", "maintenance", enabled));
}

static void change_fence(struct http_request *request, struct orchestrator *orchestrator,
                         bool fence)
{
    struct cluster *cluster = api_find_cluster(request, orchestrator);
    struct node *node = cluster ? find_node(request, cluster, http_request_param(request, "id"))
                                : NULL;
    struct document_wait *wait;
    struct err err = {0};
    char who[API_WHO_SIZE];

    if (!node)
        return;
    api_who_asks(request, who);
    history_audit(cluster, who, fence ? "fence" : "unfence", json_pack("{s:s}", "node", node->id));
    wait = xcalloc(1, sizeof *wait);
    wait->request = request;
    wait->call = document_fence(cluster, node->slot, fence, who, document_done, wait, &err);
    await_document(request, wait, &err);
}

static void handle_fence(struct http_request *request, void *arg)
{
    change_fence(request, arg, true);
}

static void handle_unfence(struct http_request *request, void *arg)
{
    change_fence(request, arg, false);
}

/* --- looking ---------------------------------------------------------------------------------- */

static void handle_clusters(struct http_request *request, void *arg)
{
    struct orchestrator *orchestrator = arg;
    json_t *list = json_array();

    for (uint32_t i = 0; i < orchestrator->cluster_count; i++)
        json_array_append_new(list, topology_json(&orchestrator->clusters[i]));
    http_respond_json(request, 200,
                      json_pack("{s:s,s:o}", "version", PACKAGE_VERSION, "clusters", list));
}

static void handle_cluster(struct http_request *request, void *arg)
{
    struct cluster *cluster = api_find_cluster(request, arg);

    if (cluster)
        http_respond_json(request, 200, topology_json(cluster));
}

struct follower {
    struct cluster *cluster;
    struct http_stream *stream;
};

static void follow_send(struct http_stream *stream, uint64_t number, const json_t *event)
{
    char *text = json_dump_line(event);
    char *message = xasprintf("id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)number,
                              json_string_value(json_object_get(event, "kind"))
                                  ? json_string_value(json_object_get(event, "kind"))
                                  : "event",
                              text);

    /* a reader that is too slow is closed by the server; on_close cleans up */
    (void)http_stream_send(stream, message, strlen(message));
    free(message);
    free(text);
}

static void follow_event(uint64_t number, const json_t *event, void *arg)
{
    struct follower *follower = arg;

    follow_send(follower->stream, number, event);
}

static void follow_closed(struct http_stream *stream, void *arg)
{
    struct follower *follower = arg;

    (void)stream;
    history_unsubscribe(follower->cluster, follow_event, follower);
    free(follower);
}

static void follow(struct http_request *request, struct cluster *cluster, uint64_t since)
{
    struct follower *follower = xcalloc(1, sizeof *follower);
    json_t *list = history_list(cluster, since, EVENTS_MAX);
    json_t *event;
    size_t i;

    follower->cluster = cluster;
    if (!history_subscribe(cluster, follow_event, follower)) {
        http_respond_problem(request, 503, NULL, "too many event streams are open");
        json_decref(list);
        free(follower);
        return;
    }
    follower->stream = http_stream_start(request, "text/event-stream", follow_closed, follower);
    (void)http_stream_send(follower->stream, ": ogel events\n\n", strlen(": ogel events\n\n"));
    json_array_foreach(list, i, event) follow_send(
        follower->stream, (uint64_t)json_integer_value(json_object_get(event, "number")), event);
    json_decref(list);
}

static bool read_number(struct http_request *request, const char *name, int64_t max, int64_t *out)
{
    const char *text = http_request_query(request, name);
    struct err err = {0};

    if (!text || units_parse_int(text, 0, max, out, &err) == 0)
        return true;
    http_respond_problem(request, 400, NULL, "parameter \"%s\": %s", name, err.text);
    return false;
}

static void handle_events(struct http_request *request, void *arg)
{
    struct cluster *cluster = api_find_cluster(request, arg);
    int64_t since = 0, limit = EVENTS_DEFAULT;
    const char *accept, *last;

    if (!cluster)
        return;
    accept = http_request_header(request, "Accept");
    last = http_request_header(request, "Last-Event-ID");
    if (last && units_parse_int(last, 0, INT64_MAX, &since, NULL))
        since = 0; /* of another server, perhaps: all may be news */
    if (!read_number(request, "since", INT64_MAX, &since) ||
        !read_number(request, "limit", EVENTS_MAX, &limit))
        return;
    if (accept && strstr(accept, "text/event-stream"))
        follow(request, cluster, since);
    else
        http_respond_json(
            request, 200,
            json_pack("{s:o}", "events", history_list(cluster, since, (uint32_t)limit)));
}

static void handle_healthz(struct http_request *request, void *arg)
{
    (void)arg;
    http_respond_json(request, 200,
                      json_pack("{s:s,s:s}", "status", "ok", "version", PACKAGE_VERSION));
}

/* Ready: it has heard of every cluster it supervises, so that its answers are not a start-up's. */
static void handle_readyz(struct http_request *request, void *arg)
{
    struct orchestrator *orchestrator = arg;

    for (uint32_t i = 0; i < orchestrator->cluster_count; i++) {
        struct cluster *cluster = &orchestrator->clusters[i];

        if (cluster->nodes[0].view.known || cluster->nodes[1].view.known ||
            cluster->nodes[2].view.known)
            continue;
        http_response_header(request, "Retry-After", "1");
        http_respond_problem(request, 503, NULL, "no agent of cluster %s has answered yet",
                             cluster->name);
        return;
    }
    http_respond_json(request, 200, json_pack("{s:s}", "status", "ready"));
}

static void handle_metrics(struct http_request *request, void *arg)
{
    size_t size;
    char *text = metrics_text(arg, &size);

    http_respond_take(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
}

/* --- the server ------------------------------------------------------------------------------- */

static const struct http_route route_table[] = {
    {HTTP_GET | HTTP_POST, "/connect", HTTP_READ, connect_handle, NULL},
    {HTTP_GET, "/v1/clusters", HTTP_READ, handle_clusters, NULL},
    {HTTP_GET, "/v1/clusters/{name}", HTTP_READ, handle_cluster, NULL},
    {HTTP_GET, "/v1/clusters/{name}/events", HTTP_READ, handle_events, NULL},
    {HTTP_POST, "/v1/clusters/{name}/init", HTTP_ADMIN, handle_init, NULL},
    {HTTP_POST, "/v1/clusters/{name}/failover", HTTP_ADMIN, handle_failover, NULL},
    {HTTP_POST, "/v1/clusters/{name}/switchover", HTTP_ADMIN, handle_switchover, NULL},
    {HTTP_POST, "/v1/clusters/{name}/maintenance", HTTP_ADMIN, handle_maintenance, NULL},
    {HTTP_GET, "/v1/clusters/{name}/settings", HTTP_READ, handle_settings_get, NULL},
    {HTTP_POST, "/v1/clusters/{name}/settings", HTTP_ADMIN, handle_settings, NULL},
    {HTTP_POST, "/v1/clusters/{name}/nodes/{id}/restart", HTTP_ADMIN, handle_restart, NULL},
    {HTTP_POST, "/v1/clusters/{name}/nodes/{id}/reinit", HTTP_ADMIN, handle_reinit, NULL},
    {HTTP_POST, "/v1/clusters/{name}/nodes/{id}/fence", HTTP_ADMIN, handle_fence, NULL},
    {HTTP_POST, "/v1/clusters/{name}/nodes/{id}/unfence", HTTP_ADMIN, handle_unfence, NULL},
    {HTTP_GET, "/healthz", HTTP_OPEN, handle_healthz, NULL},
    {HTTP_GET, "/readyz", HTTP_OPEN, handle_readyz, NULL},
    {HTTP_GET, "/metrics", HTTP_READ, handle_metrics, NULL},
};

static void add_routes(struct api *api, const struct http_route *table, size_t count)
{
    OGEL_CHECK(api->route_count + count <= ROUTES_MAX);
    for (size_t i = 0; i < count; i++) {
        struct http_route *route = &api->routes[api->route_count++];

        *route = table[i];
        route->arg = api->orchestrator;
        if (api->orchestrator->options->metrics_open && route->handler == handle_metrics)
            route->access = HTTP_OPEN;
    }
}

static void observe(void *arg, int route, int status, int64_t duration_us, bool waited)
{
    const struct api *api = arg;

    metrics_observe_request(route < 0 ? NULL : &api->routes[route], route, status, duration_us,
                            waited);
}

/* Reads the token files; secrets live in buffers of the caller's, wiped by it. */
static int read_tokens(const struct orchestrator_tokens *files, struct http_token tokens[3],
                       char secrets[3][TOKEN_SIZE], size_t *count, struct err *err)
{
    const struct {
        const char *name;
        const char *file;
        enum http_role role;
    } kinds[] = {{"read", files->read, HTTP_ROLE_READ},
                 {"admin", files->admin, HTTP_ROLE_ADMIN},
                 {"peer", files->peer, HTTP_ROLE_PEER}};

    *count = 0;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(kinds); i++) {
        if (!kinds[i].file)
            continue;
        if (secret_read_file(kinds[i].file, secrets[*count], TOKEN_SIZE, err))
            return err_context(err, "token \"%s\"", kinds[i].name);
        tokens[*count] = (struct http_token){
            .name = kinds[i].name, .role = kinds[i].role, .secret = secrets[*count]};
        (*count)++;
    }
    return 0;
}

int api_start(struct orchestrator *orchestrator, struct err *err)
{
    const struct orchestrator_options *options = orchestrator->options;
    struct api *api = xcalloc(1, sizeof *api);
    struct http_token tokens[3];
    char secrets[3][TOKEN_SIZE];
    size_t token_count;
    int rc = -1;

    orchestrator->api = api;
    api->orchestrator = orchestrator;
    add_routes(api, route_table, OGEL_ARRAY_LEN(route_table));
    add_routes(api, snapshot_routes, snapshot_route_count);
    if (read_tokens(&options->tokens, tokens, secrets, &token_count, err) == 0)
        rc = http_server_start(
            &orchestrator->server, orchestrator->loop,
            &(struct http_server_config){.address = options->listen.host,
                                         .port = options->listen.port,
                                         .routes = api->routes,
                                         .n_routes = api->route_count,
                                         .tokens = tokens,
                                         .n_tokens = token_count,
                                         .stream_backlog_max_bytes = STREAM_BACKLOG_BYTES,
                                         .observe = observe,
                                         .observe_arg = api},
            err);
    secret_wipe(secrets, sizeof secrets);
    return rc;
}

int api_reload_tokens(struct orchestrator *orchestrator, struct err *err)
{
    struct http_token tokens[3];
    char secrets[3][TOKEN_SIZE];
    size_t count;
    int rc = -1;

    if (read_tokens(&orchestrator->options->tokens, tokens, secrets, &count, err) == 0)
        rc = http_server_set_tokens(orchestrator->server, tokens, count, err);
    secret_wipe(secrets, sizeof secrets);
    return rc;
}

void api_stop(struct orchestrator *orchestrator)
{
    http_server_stop(orchestrator->server);
    orchestrator->server = NULL;
    free(orchestrator->api);
    orchestrator->api = NULL;
}
