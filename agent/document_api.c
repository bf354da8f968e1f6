/* The cluster document: handed out, and changed by compare-and-set at the leader's agent, or, while
 * there is no leader, at one that has promised its generation to the very orchestrator that asks. A
 * change is durable here before anything else happens; at a leader the answer waits until a second
 * agent holds it, too. */
#include "agent/api_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "agent/worker.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "protocol/codec.h"
#include "protocol/order.h"

enum { SPREAD_MS = 4000 };

/* --- storing
 * ------------------------------------------------------------------------------------------- */

struct store {
    struct agent *agent;
    struct step_run *run; /* a STEP_FETCH_DOCUMENT with the new document */
    bool check;           /* have Postgres read its settings first */
    document_stored_fn *fn;
    void *arg;
};

static void store_work(void *arg)
{
    struct store *store = arg;

    store->run->rc = store->check ? conf_check(store->run) : 0;
    if (store->run->rc == 0)
        step_execute(store->run);
}

static void store_done(void *arg)
{
    struct store *store = arg;
    struct agent *agent = store->agent;
    struct err err = store->run->err;
    int rc = store->run->rc;

    agent->fetching_document = false;
    if (rc == 0)
        rc = document_facts_from_json(store->run->document, agent->config.ids,
                                      &agent->durable.document, &err);
    if (rc == 0) {
        json_decref(agent->document);
        agent->document = json_incref(store->run->document);
    }
    store->fn(agent, rc, &err, store->arg);
    step_run_free(store->run);
    free(store);
    agent_changed(agent);
}

static void store_start(struct agent *agent, json_t *document, bool check, document_stored_fn *fn,
                        void *arg)
{
    struct store *store = xcalloc(1, sizeof *store);
    struct step step = {.kind = STEP_FETCH_DOCUMENT, .peer = NODE_NONE};

    step.replication.upstream = NODE_NONE;
    store->agent = agent;
    store->run = step_run_new(agent, &step);
    json_decref(store->run->document);
    store->run->document = document;
    store->check = check;
    store->fn = fn;
    store->arg = arg;
    agent->fetching_document = true;
    worker_run(agent->steps, store_work, store_done, store);
}

void document_store(struct agent *agent, json_t *document, document_stored_fn *fn, void *arg)
{
    store_start(agent, document, false, fn, arg);
}

/* --- the first one
 * -------------------------------------------------------------------------------------- */

static void begun(struct agent *agent, int rc, const struct err *err, void *arg)
{
    (void)arg;
    if (rc < 0)
        log_err(LOG_LEVEL_ERROR, "document_not_stored", err);
    else
        agent_event(agent, AGENT_REASON_DOCUMENT_APPLY, "the cluster's first document is made");
}

void document_begin(struct agent *agent)
{
    struct document_version version = {.generation = agent->durable.grant.generation, .counter = 1};
    struct address addresses[NODE_COUNT];

    if (agent->document || agent->fetching_document || agent->running || !agent->report.leading)
        return;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (slot == agent->config.self)
            addresses[slot] = agent->report.postgres;
        else if (agent->in.peers[slot].known &&
                 agent->peer_reports[slot].document.version.generation == 0)
            addresses[slot] = agent->peer_reports[slot].postgres;
        else
            return;
    }
    store_start(agent, document_new(version, agent->config.ids, addresses), false, begun, NULL);
}

/* --- changing
 * -----------------------------------------------------------------------------------------------
 */

struct document_waiter {
    struct document_waiter *next;
    struct agent *agent;
    struct http_request *request; /* NULL: the client went away */
    struct document_version version;
    struct promise promise; /* that the change rests on */
    bool leaderless;
    char who[64];
    json_t *change; /* NULL: a whole document was handed over */
    bool stored;
};

static void waiter_unlink(struct document_waiter *waiter)
{
    struct document_waiter **place = &waiter->agent->api->document_waiters;

    while (*place != waiter)
        place = &(*place)->next;
    *place = waiter->next;
    json_decref(waiter->change);
    free(waiter);
}

static void answer(struct document_waiter *waiter, bool spread)
{
    struct agent *agent = waiter->agent;
    json_t *version = json_pack("{s:I,s:I}", "generation", (json_int_t)waiter->version.generation,
                                "counter", (json_int_t)waiter->version.counter);

    http_respond_json(waiter->request, 200,
                      json_pack("{s:o,s:b,s:O}", "version", version, "replicated", spread,
                                "document", agent->document));
}

void document_spread(struct agent *agent)
{
    struct document_waiter *waiter, *next;

    if (!agent->api)
        return;
    for (waiter = agent->api->document_waiters; waiter; waiter = next) {
        bool spread = false;

        next = waiter->next;
        for (int32_t slot = 0; slot < NODE_COUNT; slot++)
            spread = spread || (slot != agent->config.self && agent->in.peers[slot].known &&
                                document_version_compare(agent->peer_reports[slot].document.version,
                                                         waiter->version) >= 0);
        if (!waiter->stored || !spread || !waiter->request)
            continue;
        answer(waiter, true);
        waiter_unlink(waiter);
    }
}

static void change_waited(struct http_request *request, enum http_wake why, void *arg)
{
    struct document_waiter *waiter = arg;

    if (why == HTTP_WAKE_DEADLINE && waiter->stored)
        answer(waiter, false);
    else if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL,
                             "the change is not on this node's disk yet, but may come to be");
    waiter->request = NULL;
    if (waiter->stored)
        waiter_unlink(waiter);
}

static void change_failed(struct document_waiter *waiter, int status, const char *why)
{
    if (waiter->request)
        http_respond_problem(waiter->request, status, NULL, "%s", why);
    waiter_unlink(waiter);
}

static void change_event(struct document_waiter *waiter)
{
    char text[400], *dump;

    if (!waiter->change) {
        agent_event(waiter->agent, AGENT_REASON_DOCUMENT_FETCH, NULL);
        return;
    }
    dump = json_dump_line(waiter->change);
    snprintf(text, sizeof text, "the cluster document was changed: %.300s", dump);
    free(dump);
    agent_event_by(waiter->agent, agent_reason_code(AGENT_REASON_DOCUMENT_APPLY), text,
                   waiter->who);
}

static void change_stored(struct agent *agent, int rc, const struct err *err, void *arg)
{
    struct document_waiter *waiter = arg;

    if (rc < 0) {
        /* not certain to be undone, and without a leader it is not to be made at another agent */
        change_failed(waiter,
                      err->code == ERR_INVALID ? 422
                      : waiter->leaderless     ? 504
                                               : 503,
                      err->text);
        return;
    }
    change_event(waiter);
    /* the promise may have been on its way to the disk before the change: an election that rests
     * on it may have looked in between */
    if (!promise_equal(waiter->promise, agent->durable.promise)) {
        change_failed(waiter, 504,
                      "a later generation was promised meanwhile: the change may be lost, look "
                      "again");
        return;
    }
    waiter->stored = true;
    if (waiter->request && !waiter->leaderless) {
        document_spread(agent);
        return;
    }
    if (waiter->request)
        answer(waiter, false); /* the orchestrator takes it to the next one */
    waiter_unlink(waiter);
}

/* False: it is answered. */
static bool may_write(struct agent *agent, struct http_request *request,
                      const struct document_waiter *change)
{
    const char *why = change->leaderless
                          ? document_obstacle_leaderless(&agent->durable, change->promise)
                          : document_obstacle(&agent->in);

    if (!why && agent->fetching_document)
        why = "another change is under way: ask again";
    if (why)
        http_respond_problem(request, 503, NULL, "%s", why);
    return !why;
}

static void refuse_version(const struct agent *agent, struct http_request *request)
{
    http_respond_problem_with(
        request, 409, NULL,
        json_pack("{s:o}", "version",
                  fields_to_json(document_version_fields, &agent->durable.document.version)),
        "the document has changed meanwhile: look at it and try again");
}

/* Is the version that the sender expects the one that is held, and none that this generation wrote
 * without a leader already? False: it is answered. */
static bool expected(const struct agent *agent, struct http_request *request, const json_t *body,
                     const struct document_waiter *change)
{
    const struct document_version *own = &agent->durable.document.version;
    struct document_version version;
    struct err err = {0};

    if (fields_from_json(document_version_fields, json_object_get(body, "expect"), &version, &err) <
        0) {
        err_context(&err, "expect");
        http_respond_problem(request, 400, NULL, "%s", err.text);
        return false;
    }
    if (!agent->document) {
        http_respond_problem(request, 503, NULL, "this node holds no cluster document yet");
        return false;
    }
    if (document_version_compare(version, *own) != 0 ||
        (change->leaderless && own->generation >= change->promise.generation)) {
        refuse_version(agent, request);
        return false;
    }
    return true;
}

/* Takes over the reference to DOCUMENT. CHANGE is copied. */
static void write_begin(struct agent *agent, struct http_request *request,
                        const struct document_waiter *change, json_t *document)
{
    struct document_waiter *waiter = xmalloc(sizeof *waiter);

    *waiter = *change;
    waiter->next = agent->api->document_waiters;
    waiter->agent = agent;
    waiter->request = request;
    waiter->change = change->change ? json_deep_copy(change->change) : NULL;
    agent->api->document_waiters = waiter;
    http_suspend(request, SPREAD_MS, change_waited, waiter);
    store_start(agent, document, json_object_get(waiter->change, "settings") != NULL, change_stored,
                waiter);
}

static void change(struct agent *agent, struct http_request *request, const json_t *body,
                   struct document_waiter *change)
{
    struct err err = {0};
    json_t *document = NULL;

    if (!expected(agent, request, body, change))
        return;
    change->change = json_object_get(body, "change");
    change->version = agent->durable.document.version;
    if (change->version.generation < change->promise.generation)
        change->version.generation = change->promise.generation;
    change->version.counter++;
    snprintf(change->who, sizeof change->who, "unknown");
    if (json_field_string(body, "who", JSON_OPTIONAL, change->who, sizeof change->who, &err) < 0 ||
        !(document = document_apply(agent->document, change->change, change->version,
                                    agent->config.ids, &err))) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
    } else if (document_check_rules(document, &err) < 0) {
        json_decref(document);
        http_respond_problem(request, 422, NULL, "%s", err.text);
    } else {
        write_begin(agent, request, change, document);
    }
}

/* What was made at another agent without a leader. */
static void take_over(struct agent *agent, struct http_request *request, json_t *document,
                      struct document_waiter *change)
{
    struct document_facts facts;
    struct err err = {0};
    int order;

    if (document_facts_from_json(document, agent->config.ids, &facts, &err) < 0) {
        http_respond_problem(request, 400, NULL, "field \"document\": %s", err.text);
        return;
    }
    if (facts.version.generation != change->promise.generation) {
        http_respond_problem(request, 400, NULL,
                             "field \"document\": its generation is not the promised one");
        return;
    }
    change->version = facts.version;
    order = document_version_compare(facts.version, agent->durable.document.version);
    if (order < 0) {
        refuse_version(agent, request);
    } else if (order == 0) {
        change->agent = agent;
        change->request = request;
        answer(change, false);
    } else {
        write_begin(agent, request, change, json_incref(document));
    }
}

void api_document_post(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct document_waiter change_of = {.promise = agent->durable.promise};
    json_t *body, *document, *promise;
    struct err err = {0};

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    promise = json_object_get(body, "promise");
    document = json_object_get(body, "document");
    change_of.leaderless = promise != NULL;
    if (promise && promise_from_json(promise, &change_of.promise, &err) < 0) {
        http_respond_problem(request, 400, NULL, "field \"promise\": %s", err.text);
    } else if (document && !promise) {
        http_respond_problem(request, 400, NULL,
                             "field \"promise\": is missing, and a whole document is handed over "
                             "under one only");
    } else if (may_write(agent, request, &change_of)) {
        if (document)
            take_over(agent, request, document, &change_of);
        else
            change(agent, request, body, &change_of);
    }
    json_decref(body);
}

void api_document_get(struct http_request *request, void *arg)
{
    struct agent *agent = arg;

    if (agent->document)
        http_respond_json(request, 200, json_incref(agent->document));
    else
        http_respond_problem(request, 404, NULL, "this node holds no cluster document yet");
}
