/* The cluster document: handed out, and changed by compare-and-set at the leader's agent. A change
 * is durable here before anything else happens, and the answer waits until a second agent holds it.
 */
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
        else if (agent->in.peers[slot].known)
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
    char who[64];
    json_t *change;
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

    (void)request;
    if (why == HTTP_WAKE_DEADLINE && waiter->stored)
        answer(waiter, false);
    waiter->request = NULL;
    if (waiter->stored)
        waiter_unlink(waiter);
}

static void change_stored(struct agent *agent, int rc, const struct err *err, void *arg)
{
    struct document_waiter *waiter = arg;
    char text[400], *dump;

    if (rc < 0) {
        if (waiter->request)
            http_respond_problem(waiter->request, err->code == ERR_INVALID ? 422 : 503, NULL, "%s",
                                 err->text);
        waiter_unlink(waiter);
        return;
    }
    dump = json_dump_line(waiter->change);
    snprintf(text, sizeof text, "the cluster document was changed: %.300s", dump);
    free(dump);
    agent_event_by(agent, agent_reason_code(AGENT_REASON_DOCUMENT_APPLY), text, waiter->who);
    waiter->stored = true;
    if (!waiter->request)
        waiter_unlink(waiter);
    else
        document_spread(agent);
}

/* Why a change cannot be made here now; NULL: it can. */
static const char *unfit(const struct agent *agent)
{
    if (!agent->report.leading || !agent->document)
        return "this node does not lead: the document is changed at the leader's agent";
    if (agent->fetching_document)
        return "another change is under way: ask again";
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot != agent->config.self && agent->in.peers[slot].known &&
            document_version_compare(agent->peer_reports[slot].document.version,
                                     agent->durable.document.version) > 0)
            return "a peer holds a newer document, which is being fetched: ask again";
    return NULL;
}

static bool expected(const struct agent *agent, const json_t *body, struct err *err)
{
    const json_t *expect = json_object_get(body, "expect");
    struct document_version version;

    if (fields_from_json(document_version_fields, expect, &version, err) < 0) {
        err_context(err, "expect");
        return false;
    }
    return document_version_compare(version, agent->durable.document.version) == 0;
}

static struct document_version next_version(const struct agent *agent)
{
    struct document_version version = agent->durable.document.version;

    if (version.generation < agent->durable.grant.generation)
        version.generation = agent->durable.grant.generation;
    version.counter++;
    return version;
}

static void change(struct agent *agent, struct http_request *request, const json_t *body)
{
    struct document_version version = next_version(agent);
    const json_t *wanted = json_object_get(body, "change");
    struct document_waiter *waiter;
    struct err err = {0};
    char who[64] = "unknown";
    json_t *document;

    if (json_field_string(body, "who", JSON_OPTIONAL, who, sizeof who, &err) < 0 ||
        !(document = document_apply(agent->document, wanted, version, agent->config.ids, &err))) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        return;
    }
    if (document_check_rules(document, &err) < 0) {
        json_decref(document);
        http_respond_problem(request, 422, NULL, "%s", err.text);
        return;
    }
    waiter = xcalloc(1, sizeof *waiter);
    *waiter = (struct document_waiter){.next = agent->api->document_waiters,
                                       .agent = agent,
                                       .request = request,
                                       .version = version,
                                       .change = json_deep_copy(wanted)};
    memcpy(waiter->who, who, sizeof who);
    agent->api->document_waiters = waiter;
    http_suspend(request, SPREAD_MS, change_waited, waiter);
    store_start(agent, document, json_object_get(wanted, "settings") != NULL, change_stored,
                waiter);
}

void api_document_post(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    struct err err = {0};
    const char *why;
    json_t *body;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    why = unfit(agent);
    if (why) {
        http_respond_problem(request, 503, NULL, "%s", why);
    } else if (!expected(agent, body, &err)) {
        if (err.code != ERR_NONE)
            http_respond_problem(request, 400, NULL, "%s", err.text);
        else
            http_respond_problem_with(
                request, 409, NULL,
                json_pack(
                    "{s:o}", "version",
                    fields_to_json(document_version_fields, &agent->durable.document.version)),
                "the document has changed meanwhile: look at it and try again");
    } else {
        change(agent, request, body);
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
