#include "agent/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/api_internal.h"
#include "agent/lane.h"
#include "base/clock.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "protocol/codec.h"
#include "protocol/names.h"
#include "protocol/order.h"

enum {
    BODY_DEPTH = 16,
    WAIT_MAX_MS = 60000,
    EVENTS_LIMIT = 1000,
    REGISTRATION_MS = 9000,
    DISCARD_SETTLE_MS = 2000, /* longer than a permission is good for */
    CONNECTIONS_MAX = 256,
};

/* A request that waits for news. */
struct waiter {
    struct waiter *next, **place;
    struct http_request *request;
    struct agent *agent;
    bool events;
    uint64_t since;
    size_t limit;
};

/* --- common
 * -------------------------------------------------------------------------------------------- */

bool api_may_change(struct http_request *request)
{
    if (request->role == HTTP_ROLE_PEER || request->role == HTTP_ROLE_ADMIN)
        return true;
    http_respond_problem(request, 403, NULL,
                         "this needs the token of a peer or of an administrator");
    return false;
}

json_t *api_body(struct http_request *request)
{
    struct err err = {0};
    json_t *json = NULL;

    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &json, &err) == 0 &&
        json_is_object(json))
        return json;
    json_decref(json);
    http_respond_problem(request, 400, NULL, "the body is no JSON object: %s", err.text);
    return NULL;
}

bool api_query_number(struct http_request *request, const char *name, int64_t max, int64_t *value)
{
    const char *text = http_request_query(request, name);
    struct err err = {0};

    if (!text || units_parse_int(text, 0, max, value, &err) == 0)
        return true;
    http_respond_problem(request, 400, NULL, "%s: %s", name, err.text);
    return false;
}

/* --- waiting
 * --------------------------------------------------------------------------------------------- */

static void waiter_free(struct waiter *waiter)
{
    *waiter->place = waiter->next;
    if (waiter->next)
        waiter->next->place = waiter->place;
    free(waiter);
}

static void waited(struct http_request *request, enum http_wake why, void *arg)
{
    struct waiter *waiter = arg;

    if (why == HTTP_WAKE_DEADLINE) {
        if (waiter->events)
            http_respond_json(request, 200,
                              events_list(waiter->agent->events, waiter->since, waiter->limit));
        else
            http_respond(request, 204, NULL, NULL, 0); /* no news: what was said last still holds */
    }
    waiter_free(waiter);
}

static void wait_for_news(struct agent *agent, struct http_request *request, int64_t wait_ms,
                          bool events, uint64_t since, size_t limit)
{
    struct waiter *waiter = xcalloc(1, sizeof *waiter), **place = &agent->api->waiters;

    *waiter = (struct waiter){.next = *place,
                              .place = place,
                              .request = request,
                              .agent = agent,
                              .events = events,
                              .since = since,
                              .limit = limit};
    if (*place)
        (*place)->place = &waiter->next;
    *place = waiter;
    http_suspend(request, wait_ms, waited, waiter);
}

static void respond_report(struct http_request *request, char *text)
{
    http_respond_take(request, 200, "application/json", text, strlen(text));
}

void api_wake(struct agent *agent)
{
    struct waiter *waiter, *next;
    char *text = NULL;

    if (!agent->api)
        return;
    for (waiter = agent->api->waiters; waiter; waiter = next) {
        struct http_request *request = waiter->request;

        next = waiter->next;
        if (waiter->events) {
            if (events_last(agent->events) <= waiter->since)
                continue;
            http_respond_json(request, 200,
                              events_list(agent->events, waiter->since, waiter->limit));
        } else {
            if (agent->sequence <= waiter->since)
                continue;
            if (!text)
                text = report_text(agent);
            http_respond(request, 200, "application/json", text, strlen(text));
        }
        waiter_free(waiter);
    }
    free(text);
}

/* --- report --- */

/* relay=n2:7:120,n3:7:80 — an orchestrator heard 120 ms ago that n2 stood at generation 7. */
static void take_relay(struct agent *agent, const struct http_request *request)
{
    const char *at = http_request_query(request, "relay");
    int64_t now = clock_boot_ms();

    if (!at || (request->role != HTTP_ROLE_PEER && request->role != HTTP_ROLE_ADMIN))
        return;
    while (*at) {
        unsigned generation;
        long long age_ms;
        char id[NODE_ID_SIZE];
        int used = 0;

        if (sscanf(at, "%16[a-z0-9]:%u:%lld%n", id, &generation, &age_ms, &used) != 3 || age_ms < 0)
            return;
        peers_confirm(agent, agent_config_slot(&agent->config, id), generation, now - age_ms);
        at += used;
        if (*at == ',')
            at++;
    }
}

/* Its sequence may well have come to the same number again. */
bool api_other_run(const struct agent *agent, const struct http_request *request)
{
    const char *text = http_request_query(request, "run");
    char own[24];

    snprintf(own, sizeof own, "%016llx", (unsigned long long)agent->run);
    return text && strcmp(text, own) != 0;
}

static void get_report(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    int64_t since = -1, wait_ms = 0;

    if (!api_query_number(request, "since", INT64_MAX, &since) ||
        !api_query_number(request, "wait_ms", WAIT_MAX_MS, &wait_ms))
        return;
    take_relay(agent, request);
    /* a sequence of an earlier run of this agent is no news that was heard already */
    if (since < 0 || (uint64_t)since != agent->sequence || api_other_run(agent, request)) {
        /* as of now: the last turn may be long over, or none may have been yet */
        agent_gather(agent);
        (void)report_update(agent);
        respond_report(request, report_text(agent));
    } else if (wait_ms == 0) {
        http_respond(request, 204, NULL, NULL, 0);
    } else {
        wait_for_news(agent, request, wait_ms, false, (uint64_t)since, 0);
    }
}

static void get_events(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    int64_t since = 0, wait_ms = 0, limit = EVENTS_LIMIT;

    if (!api_query_number(request, "since", INT64_MAX, &since) ||
        !api_query_number(request, "wait_ms", WAIT_MAX_MS, &wait_ms) ||
        !api_query_number(request, "limit", EVENTS_LIMIT, &limit))
        return;
    if (wait_ms == 0 || events_last(agent->events) > (uint64_t)since)
        http_respond_json(request, 200, events_list(agent->events, (uint64_t)since, (size_t)limit));
    else
        wait_for_news(agent, request, wait_ms, true, (uint64_t)since, (size_t)limit);
}

/* An orchestrator has an operator's action kept where its own disk is not needed. */
static void post_event(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    char reason[16] = "O0", text[300], who[64] = "unknown";
    struct err err = {0};
    json_t *body;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    if (json_field_string(body, "text", JSON_REQUIRED, text, sizeof text, &err) < 0 ||
        json_field_string(body, "reason", JSON_OPTIONAL, reason, sizeof reason, &err) < 0 ||
        json_field_string(body, "who", JSON_OPTIONAL, who, sizeof who, &err) < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
    } else {
        agent_event_by(agent, reason, text, who);
        http_respond_json(request, 200,
                          json_pack("{s:I}", "sequence", (json_int_t)events_last(agent->events)));
    }
    json_decref(body);
}

/* --- the one message
 * ------------------------------------------------------------------------------------------ */

static void refuse(struct agent *agent, struct http_request *request, const char *verdict)
{
    const struct durable *d = &agent->durable;
    json_t *members = json_pack("{s:s,s:o,s:o}", "verdict", verdict, "promise",
                                promise_to_json(&d->promise), "leader",
                                leadership_to_json(&d->leader));

    http_respond_problem_with(request, 409, NULL, members, "the message is refused: %s", verdict);
}

static void take_message(struct agent *agent, struct http_request *request,
                         const struct desired *message)
{
    struct standing standing;
    enum verdict verdict;

    durable_standing(&agent->durable, &standing);
    verdict = desired_admit(&standing, message);
    if (message_learn(&agent->in, &agent->durable, message))
        agent_changed(agent);
    if (verdict != VERDICT_OBEY && verdict != VERDICT_PROMISE) {
        log_event(LOG_LEVEL_INFO, "message_refused", "{s:s,s:I,s:s}", "verdict",
                  verdict_name(verdict), "generation", (json_int_t)message->generation, "role",
                  role_name(message->role));
        refuse(agent, request, verdict_name(verdict));
        return;
    }
    agent->message = *message;
    agent->in.has_message = true;
    agent_changed(agent);
    http_respond_json(request, 200,
                      json_pack("{s:s,s:o}", "verdict", verdict_name(verdict), "promise",
                                promise_to_json(&agent->durable.promise)));
}

static void post_desired(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct desired message;
    struct err err = {0};
    json_t *body;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    if (desired_from_json(body, &message, &err) < 0) {
        if (err.code == ERR_REFUSED)
            refuse(agent, request, verdict_name(VERDICT_PROTOCOL));
        else
            http_respond_problem(request, 400, NULL, "%s", err.text);
    } else {
        take_message(agent, request, &message);
    }
    json_decref(body);
}

/* --- registration --- */

static void registration_over(struct http_request *request, enum http_wake why, void *arg)
{
    struct agent *agent = arg;

    if (agent->api->registration != request)
        return;
    agent->api->registration = NULL;
    agent->in.registration.pending = false;
    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 503, NULL, "the registration is not finished yet: ask again");
}

void api_answer_registration(struct agent *agent, bool accepted)
{
    struct http_request *request = agent->api->registration;
    const struct durable *d = &agent->durable;
    struct registration_answer answer = {
        .accepted = accepted,
        .self = agent->in.registration.incarnation,
        .cluster = d->cluster,
        .promise = d->promise,
        .birth_ended = d->birth_ended,
    };

    for (int slot = 0; slot < NODE_COUNT; slot++) {
        answer.incarnations[slot] = d->incarnations[slot];
        answer.void_number[slot] = d->void_number[slot];
    }
    agent->in.registration.pending = false;
    agent->api->registration = NULL;
    if (request)
        http_respond_json(request, 200, fields_to_json(registration_answer_fields, &answer));
}

static int parse_node(const struct agent *agent, const json_t *body, int32_t *slot, struct err *err)
{
    char id[NODE_ID_SIZE];

    if (json_field_string(body, "node", JSON_REQUIRED, id, sizeof id, err) < 0)
        return -1;
    *slot = agent_config_slot(&agent->config, id);
    if (*slot == NODE_NONE || *slot == agent->config.self)
        return err_set(err, ERR_INVALID, "field \"node\": %s is no peer of this node", id);
    return 0;
}

/* An agent of another cluster that knows our token, and has our address for its peer's, would make
 * the machine in that place superseded: it says to which cluster it belongs. */
static void post_register(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct registration registration = {.pending = true};
    struct registering registering = {0};
    struct err err = {0};
    json_t *body;
    int rc;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    rc = parse_node(agent, body, &registration.node, &err);
    if (rc == 0)
        rc = fields_from_json(registering_fields, body, &registering, &err);
    json_decref(body);
    registration.incarnation = registering.incarnation;
    if (rc < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
    } else if (!agent->durable.registered || agent->quitting) {
        http_respond_problem(request, 503, NULL,
                             "this machine has not finished registering itself");
    } else if (!cluster_id_equal(&registering.cluster, &agent->durable.cluster)) {
        http_respond_problem(request, 409, NULL,
                             "this node belongs to another cluster: do the addresses of the nodes "
                             "in the configuration of %s belong together?",
                             agent->config.ids[registration.node]);
    } else if (agent->api->registration) {
        http_respond_problem(request, 503, NULL, "another registration is under way: ask again");
    } else {
        agent->in.registration = registration;
        agent->api->registration = request;
        http_suspend(request, REGISTRATION_MS, registration_over, agent);
        agent_changed(agent);
    }
}

/* --- permission to discard
 * ------------------------------------------------------------------------------------------ */

/* The node that was allowed last and has not become complete since. Its report must be younger than
 * the permission was good for: until then it may still begin. */
static int32_t outstanding(struct agent *agent)
{
    int32_t slot = agent->discard_given_to;
    const struct report *report;

    if (slot == NODE_NONE)
        return NODE_NONE;
    report = &agent->peer_reports[slot];
    if (agent->in.peers[slot].known &&
        agent->in.peers[slot].asked_ms > agent->discard_given_ms + DISCARD_SETTLE_MS &&
        report->complete && report->marker == MARKER_NONE)
        agent->discard_given_to = NODE_NONE;
    return agent->discard_given_to;
}

static void post_discard(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    int64_t now = clock_boot_ms();
    struct err err = {0};
    uint32_t generation;
    int32_t slot;
    json_t *body;
    int rc;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    rc = parse_node(agent, body, &slot, &err);
    if (rc == 0)
        rc = json_field_u32(body, "generation", JSON_REQUIRED, &generation, &err);
    json_decref(body);
    if (rc < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        return;
    }
    agent_gather(agent);
    /* what an earlier run, or an earlier leader, allowed is over by then, and shows in the reports
     */
    if (now - agent->started_ms < DISCARD_SETTLE_MS || agent->leading_since_ms == 0 ||
        now - agent->leading_since_ms < DISCARD_SETTLE_MS ||
        !discard_permitted(&agent->in, slot, generation, outstanding(agent))) {
        http_respond_problem(request, 409, NULL,
                             "not now: the other follower must have complete data, one node at a "
                             "time discards its own, and this node must lead for a while");
        return;
    }
    agent->discard_given_to = slot;
    agent->discard_given_ms = now;
    http_respond_json(request, 200, json_pack("{s:b}", "allowed", 1));
}

/* --- the table --- */

static const struct http_route fixed_routes[] = {
    {HTTP_GET, "/v1/report", HTTP_READ, get_report, NULL},
    {HTTP_GET, "/v1/events", HTTP_READ, get_events, NULL},
    {HTTP_POST, "/v1/events", HTTP_READ, post_event, NULL},
    {HTTP_POST, "/v1/desired", HTTP_READ, post_desired, NULL},
    {HTTP_POST, "/v1/register", HTTP_READ, post_register, NULL},
    {HTTP_POST, "/v1/discard", HTTP_READ, post_discard, NULL},
    {HTTP_GET, "/v1/document", HTTP_READ, api_document_get, NULL},
    {HTTP_POST, "/v1/document", HTTP_READ, api_document_post, NULL},
    {HTTP_GET, "/v1/task", HTTP_READ, task_get, NULL},
    {HTTP_POST, "/v1/task", HTTP_READ, task_post, NULL},
    {HTTP_DELETE, "/v1/task", HTTP_READ, task_delete, NULL},
    {HTTP_POST, "/v1/permit", HTTP_READ, permit_post, NULL},
    {HTTP_GET, "/v1/snapshots", HTTP_READ, snapshots_get, NULL},
    {HTTP_POST, "/v1/source", HTTP_READ, api_source_post, NULL},
};

static void observe_request(void *arg, int route, int status, int64_t duration_us,
                            bool was_suspended)
{
    struct agent *agent = arg;

    if (!was_suspended)
        metrics_request(agent, route, status, duration_us);
}

int api_set_tokens(struct agent *agent, struct err *err)
{
    const struct secrets *s = agent->secrets;
    const struct http_token tokens[] = {
        {"read", HTTP_ROLE_READ, s->token[TOKEN_READ]},
        {"admin", HTTP_ROLE_ADMIN, s->token[TOKEN_ADMIN]},
        {"peer", HTTP_ROLE_PEER, s->token[TOKEN_PEER]},
    };

    return http_server_set_tokens(agent->server, tokens, OGEL_ARRAY_LEN(tokens), err);
}

int api_start(struct agent *agent, struct err *err)
{
    const struct secrets *s = agent->secrets;
    const struct http_token tokens[] = {
        {"read", HTTP_ROLE_READ, s->token[TOKEN_READ]},
        {"admin", HTTP_ROLE_ADMIN, s->token[TOKEN_ADMIN]},
        {"peer", HTTP_ROLE_PEER, s->token[TOKEN_PEER]},
    };
    struct api *api = xcalloc(1, sizeof *api);
    char address[RESOLVE_ADDRESS_SIZE];
    struct http_server_config config;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(fixed_routes); i++) {
        api->routes[i] = fixed_routes[i];
        api->routes[i].arg = agent;
    }
    api->latency.bounds = prom_latency_bounds;
    api->latency.bound_count = PROM_LATENCY_BOUNDS;
    api->route_count = OGEL_ARRAY_LEN(fixed_routes);
    health_routes(agent, api);
    agent->api = api;
    if (!resolve_wait(agent->resolver, agent->config.options.listen.host, 5000, address, NULL, 0))
        return err_set(err, ERR_INVALID, "option \"listen\": %s has no address",
                       agent->config.options.listen.host);
    config = (struct http_server_config){.address = address,
                                         .port = agent->config.options.listen.port,
                                         .routes = api->routes,
                                         .n_routes = api->route_count,
                                         .tokens = tokens,
                                         .n_tokens = OGEL_ARRAY_LEN(tokens),
                                         .connections_max = CONNECTIONS_MAX,
                                         .observe = observe_request,
                                         .observe_arg = agent};
    return http_server_start(&agent->server, agent->loop, &config, err);
}

void api_stop(struct agent *agent)
{
    http_server_stop(agent->server);
    agent->server = NULL;
    free(agent->api);
    agent->api = NULL;
}
