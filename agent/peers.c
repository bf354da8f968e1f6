/* The other two agents: their reports by long poll, their Postgres by a fresh connection where
 * there is reason to look, registrations, permissions and the document. */
#include "agent/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/pgconn.h"
#include "base/resolve.h"
#include "base/units.h"
#include "protocol/codec.h"
#include "protocol/order.h"

enum {
    WAIT_MS = 400,  /* of a long poll */
    GRACE_MS = 200, /* beyond that a peer counts as silent */
    RETRY_MS = 100,
    RETRY_CALL_MS = 500,
    PAUSE_MS = 200,     /* between requests of one kind to a peer */
    FULL_MS = 2000,     /* a report is asked for anew at least this often: it has positions */
    FULL_SOON_MS = 200, /* … while this node waits for one */
    PROBE_DEADLINE_MS = 500,
    PROBE_SUSPECT_MS = 200, /* between probes of a Postgres there is reason to look at */
    PROBE_QUIET_MS = 10000, /* … of a leader in quiet times: a password costs milliseconds */
    MESSAGE_LATE_MS = 3500, /* a leader says something at least this often */
    REGISTER_MS = 10000,
    DISCARD_MS = 3000,
    DISCARD_VALID_MS = 1000, /* of a permission, from when it was asked for */
    DOCUMENT_MS = 5000,
    REPORT_DEPTH = 16,
    URL_SIZE = 512,
};

struct peer {
    struct agent *agent;
    int32_t slot;
    struct http_call *poll;
    struct loop_timer *timer; /* retry, or: the call under way is overdue */
    int64_t asked_ms;         /* of the call under way */
    bool full;                /* … it asked for a report whether there is news or not */
    bool reachable;
    bool refuses;
    uint64_t since;
    int64_t full_ms; /* when the last whole report came */
    int complained;  /* status logged last */
    struct pg_probe *probe;
    enum probe_verdict postgres;
    int64_t probed_ms;
    struct http_call *registering;
    int64_t register_asked_ms;
    int register_complained; /* status logged last */
};

struct peers {
    struct peer peer[NODE_COUNT];
    struct http_call *discard;
    int64_t discard_asked_ms;
    uint32_t discard_generation;
    struct http_call *document;
    int64_t document_asked_ms;
};

static void poll_start(struct peer *peer);

static void peer_url(const struct peer *peer, const char *path, char url[URL_SIZE])
{
    char where[UNITS_ADDRESS_SIZE];

    snprintf(url, URL_SIZE, "http://%s%s",
             units_format_address(&peer->agent->config.agents[peer->slot], where), path);
}

/* --- confirmation
 * ------------------------------------------------------------------------------------------ */

void peers_confirm(struct agent *agent, int32_t slot, uint32_t generation, int64_t at_ms)
{
    if (slot < 0 || slot >= NODE_COUNT || slot == agent->config.self || generation == 0 ||
        generation != agent->durable.grant.generation || at_ms <= agent->in.confirmed_ms ||
        at_ms > clock_boot_ms())
        return;
    agent->in.confirmed_ms = at_ms;
}

static void confirm_by_report(struct peer *peer)
{
    struct agent *agent = peer->agent;
    const struct report *report = &agent->peer_reports[peer->slot];

    if (!cluster_id_equal(&report->cluster, &agent->durable.cluster) || !report->registered ||
        report->incarnations[peer->slot].number < agent->durable.incarnations[peer->slot].number)
        return;
    peers_confirm(agent, peer->slot, report->promise.generation, peer->asked_ms);
}

/* --- their Postgres
 * ---------------------------------------------------------------------------------------- */

bool peers_postgres(const struct agent *agent, int32_t slot, struct address *address)
{
    memset(address, 0, sizeof *address);
    if (slot < 0 || slot >= NODE_COUNT)
        return false;
    if (agent->durable.document.version.generation != 0)
        *address = agent->durable.document.address[slot];
    if (address->port == 0 && agent->in.peers[slot].known)
        *address = agent->peer_reports[slot].postgres;
    return address->port != 0;
}

static enum probe_verdict verdict_of(const struct pg_outcome *outcome,
                                     const struct pg_result *result)
{
    const char *text;

    switch (outcome->status) {
    case PG_OK:
        text = result && pg_result_rows(result) == 1 ? pg_result_value(result, 0, 0) : NULL;
        if (!text)
            return PROBE_BROKEN;
        return text[0] == 't' ? PROBE_STANDBY : PROBE_PRIMARY;
    case PG_REFUSED: return PROBE_REFUSED;
    case PG_STARTING_UP: return PROBE_STARTING;
    case PG_TIMEOUT:
    case PG_UNREACHABLE: return PROBE_SILENT;
    default: return PROBE_BROKEN;
    }
}

static bool suspicious(const struct peer *peer)
{
    const struct agent *agent = peer->agent;
    const struct report *report = &agent->peer_reports[peer->slot];

    if (!agent->in.peers[peer->slot].known)
        return false;
    return !peer->reachable || (report->leading && report->local_probe_failing_ms > 0) ||
           (peer->postgres != PROBE_UNKNOWN && peer->postgres != PROBE_PRIMARY &&
            peer->postgres != PROBE_STANDBY && report->pg == PG_UP) ||
           (agent->durable.leader.node == peer->slot && agent->durable.role == ROLE_FOLLOWER &&
            report->leading &&
            (agent->in.not_streaming_since_ms != 0 ||
             (agent->sampled && agent->sample.message_age_ms > MESSAGE_LATE_MS)));
}

static void probe_done(const struct pg_outcome *outcome, const struct pg_result *result,
                       int64_t duration_us, void *arg)
{
    struct peer *peer = arg;
    enum probe_verdict verdict = verdict_of(outcome, result);

    (void)duration_us;
    peer->probe = NULL;
    peer->probed_ms = clock_boot_ms();
    if (verdict != peer->postgres) {
        peer->postgres = verdict;
        agent_changed(peer->agent);
    }
}

/* In recovery: 't'. Else 'f', on suspicion after a real write, so that a server whose disk hangs
 * does not look fine; in quiet times an idle cluster is left idle. */
static const char look_sql[] = "SELECT pg_is_in_recovery()";
static const char write_sql[] = "SELECT CASE WHEN pg_is_in_recovery() THEN 't' ELSE"
                                " (SELECT 'f' FROM pg_logical_emit_message(true, 'ogel', 'probe'))"
                                " END";

static void probe_start(struct peer *peer)
{
    struct agent *agent = peer->agent;
    char port[8], where[RESOLVE_ADDRESS_SIZE];
    struct address address;

    if (peer->probe || !peers_postgres(agent, peer->slot, &address) ||
        !resolve_get(agent->resolver, address.host, where, NULL, 0))
        return;
    snprintf(port, sizeof port, "%u", address.port);
    peer->probe = pg_probe_start(
        agent->loop,
        &(struct pg_conninfo){
            .keywords = (const char *const[]){"hostaddr", "port", "user", "dbname", "password",
                                              "application_name", "options", NULL},
            .values = (const char *const[]){where, port, "ogel_monitor", "postgres",
                                            agent->secrets->password[PASSWORD_MONITOR],
                                            "ogel_probe", "-c synchronous_commit=local", NULL}},
        suspicious(peer) ? write_sql : look_sql, PROBE_DEADLINE_MS, probe_done, peer);
}

/* Looks at once where there is reason to, and now and then at a leader. */
static void probe_if_due(struct peer *peer)
{
    const struct agent *agent = peer->agent;
    int64_t pause = suspicious(peer) ? PROBE_SUSPECT_MS : PROBE_QUIET_MS;
    bool leads = agent->in.peers[peer->slot].known && agent->peer_reports[peer->slot].leading;

    if ((suspicious(peer) || leads) && clock_boot_ms() - peer->probed_ms >= pause)
        probe_start(peer);
}

/* --- their reports
 * ------------------------------------------------------------------------------------------- */

static void set_reachable(struct peer *peer, bool reachable, bool refuses)
{
    if (peer->reachable == reachable && peer->refuses == refuses)
        return;
    peer->reachable = reachable;
    peer->refuses = refuses;
    agent_changed(peer->agent);
}

static void heard(struct peer *peer)
{
    peer->agent->peer_heard_ms[peer->slot] = clock_boot_ms();
    peer->agent->peer_asked_ms[peer->slot] = peer->asked_ms;
}

static void take_report(struct peer *peer, const struct http_result *result)
{
    struct agent *agent = peer->agent;
    struct report report;
    struct err err = {0};
    const json_t *json = NULL;
    int rc = json_parse_scratch(result->body, result->body_size, REPORT_DEPTH, &json, &err);

    if (rc == 0)
        rc = report_from_json(json, &report, &err);
    json_scratch_done(json);
    if (rc == 0 && report.node != peer->slot)
        rc = err_set(&err, ERR_INVALID,
                     "the agent at this address is another node: check the ids of both "
                     "configurations");
    if (rc < 0) {
        if (peer->complained != result->status)
            log_event(LOG_LEVEL_ERROR, "peer_report_unusable", "{s:s,s:s}", "peer",
                      agent->config.ids[peer->slot], "error", err.text);
        peer->complained = result->status;
        peer->since = 0;
        return;
    }
    peer->complained = 0;
    if (peer->since != report.sequence || !agent->in.peers[peer->slot].known)
        agent_changed(agent);
    agent->peer_reports[peer->slot] = report;
    agent->in.peers[peer->slot].known = true;
    agent->in.peers[peer->slot].asked_ms = peer->asked_ms;
    heard(peer);
    peer->since = report.sequence;
    peer->full_ms = clock_boot_ms();
    confirm_by_report(peer);
}

static void complain(struct peer *peer, const struct http_result *result)
{
    if (peer->complained != result->status)
        log_event(LOG_LEVEL_ERROR, "peer_refuses_poll", "{s:s,s:i,s:s}", "peer",
                  peer->agent->config.ids[peer->slot], "status", result->status, "error",
                  result->status == 401 || result->status == 403
                      ? "it does not accept this agent's peer token: both must hold the same"
                      : result->body);
    peer->complained = result->status;
}

static void poll_done(const struct http_result *result, void *arg)
{
    struct peer *peer = arg;

    peer->poll = NULL;
    loop_timer_stop(peer->timer);
    if (result->outcome != HTTP_CALL_OK) {
        set_reachable(peer, false, result->outcome == HTTP_CALL_REFUSED);
        peer->since = 0;
        loop_timer_start(peer->timer, RETRY_MS);
        probe_if_due(peer);
        return;
    }
    set_reachable(peer, true, false);
    if (result->status == 200) {
        take_report(peer, result);
    } else if (result->status == 204) {
        heard(peer);
        confirm_by_report(peer); /* no news: it stands where it stood */
    } else {
        complain(peer, result);
        loop_timer_start(peer->timer, WAIT_MS);
        return;
    }
    probe_if_due(peer);
    if (peer->complained)
        loop_timer_start(peer->timer, WAIT_MS);
    else
        poll_start(peer);
}

static void on_timer(void *arg)
{
    struct peer *peer = arg;

    if (!peer->poll) {
        poll_start(peer);
        return;
    }
    /* overdue: silence */
    set_reachable(peer, false, false);
    probe_if_due(peer);
}

/* Is this the leader whose insert LSN the copy here has to flush past? */
static bool target_wanted(const struct peer *peer)
{
    const struct durable *d = &peer->agent->durable;

    return d->marker_done && !d->complete && d->leader.node == peer->slot &&
           d->complete_target.timeline != d->promise.generation;
}

static void poll_start(struct peer *peer)
{
    struct agent *agent = peer->agent;
    int64_t full_every_ms = target_wanted(peer) ? FULL_SOON_MS : FULL_MS;
    bool failing = !peer->reachable;
    char path[128], url[URL_SIZE];

    peer->asked_ms = clock_boot_ms();
    peer->full = failing || peer->asked_ms - peer->full_ms >= full_every_ms;
    if (peer->full)
        snprintf(path, sizeof path, "/v1/report");
    else
        snprintf(path, sizeof path, "/v1/report?since=%llu&run=%016llx&wait_ms=%d",
                 (unsigned long long)peer->since,
                 (unsigned long long)agent->peer_reports[peer->slot].agent_run, WAIT_MS);
    peer_url(peer, path, url);
    peer->poll = http_call(
        agent->client,
        &(struct http_call_spec){.url = url,
                                 .token = agent->secrets->token[TOKEN_PEER],
                                 .timeout_ms = failing ? RETRY_CALL_MS : WAIT_MS + 2 * GRACE_MS,
                                 .connect_timeout_ms = failing ? RETRY_CALL_MS : GRACE_MS,
                                 .no_reuse = failing},
        poll_done, peer);
    loop_timer_start(peer->timer, peer->full ? GRACE_MS : WAIT_MS + GRACE_MS);
}

void peers_view(struct agent *agent, int32_t slot, struct peer_view *view)
{
    const struct peer *peer = &agent->peers->peer[slot];
    int64_t now = clock_boot_ms(), heard = agent->peer_heard_ms[slot];

    view->agent_age_ms = view->postgres_age_ms = AGE_NEVER;
    if (slot == agent->config.self)
        return;
    view->agent_reachable = peer->reachable;
    view->agent_refuses = peer->refuses;
    if (heard != 0)
        view->agent_age_ms = (uint32_t)(now - heard);
    if (agent->in.peers[slot].known)
        view->generation = agent->peer_reports[slot].promise.generation;
    view->postgres = peer->postgres;
    if (peer->probed_ms != 0)
        view->postgres_age_ms = (uint32_t)(now - peer->probed_ms);
}

/* --- registration
 * ---------------------------------------------------------------------------------------------- */

const struct field registering_fields[] = {
    FIELD_AS(registering, FIELD_CLUSTER, cluster, "cluster_id", NULL),
    FIELD_OF(registering, FIELD_RECORD, incarnation, incarnation_fields),
    FIELD_END,
};

const struct field registration_answer_fields[] = {
    FIELD(registration_answer, FIELD_BOOL, accepted),
    FIELD_OF(registration_answer, FIELD_RECORD, self, incarnation_fields),
    FIELD_EACH_OF(registration_answer, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_EACH(registration_answer, FIELD_U32, void_number),
    FIELD(registration_answer, FIELD_CLUSTER, cluster),
    FIELD_OF(registration_answer, FIELD_RECORD, promise, promise_fields),
    FIELD(registration_answer, FIELD_BOOL, birth_ended),
    FIELD_END,
};

static int answer_parse(const struct http_result *result, struct registration_answer *answer)
{
    struct err err = {0};
    json_t *json = NULL;
    int rc = json_parse_bounded(result->body, result->body_size, REPORT_DEPTH, &json, &err);

    if (rc == 0)
        rc = fields_from_json(registration_answer_fields, json, answer, &err);
    json_decref(json);
    if (rc < 0)
        log_err(LOG_LEVEL_ERROR, "registration_answer_unusable", &err);
    return rc;
}

static void registered(const struct http_result *result, void *arg)
{
    struct peer *peer = arg;
    struct agent *agent = peer->agent;
    struct registration_answer answer = {.valid = true};

    peer->registering = NULL;
    if (result->outcome == HTTP_CALL_OK && result->status == 200 &&
        answer_parse(result, &answer) == 0)
        agent->in.answers[peer->slot] = answer;
    else if (result->outcome == HTTP_CALL_OK && result->status != 503 &&
             result->status != peer->register_complained)
        log_event(LOG_LEVEL_ERROR, "peer_refuses_registration", "{s:s,s:i,s:s}", "peer",
                  agent->config.ids[peer->slot], "status", result->status, "error", result->body);
    if (result->outcome == HTTP_CALL_OK)
        peer->register_complained = result->status;
    agent_changed(agent);
}

void peers_register(struct agent *agent, int32_t slot)
{
    struct peer *peer = &agent->peers->peer[slot];
    const struct durable *d = &agent->durable;
    char url[URL_SIZE], *body;
    struct registering self = {d->cluster, d->incarnations[d->node]};
    json_t *json;

    if (peer->registering || clock_boot_ms() - peer->register_asked_ms < PAUSE_MS)
        return;
    peer->register_asked_ms = clock_boot_ms();
    agent->in.answers[slot].valid = false;
    json = fields_to_json(registering_fields, &self);
    json_object_set_new(json, "node", json_string(agent->config.options.node));
    body = json_dump_line(json);
    json_decref(json);
    peer_url(peer, "/v1/register", url);
    peer->registering = http_call(
        agent->client,
        &(struct http_call_spec){.method = "POST",
                                 .url = url,
                                 .token = agent->secrets->token[TOKEN_PEER],
                                 .body = body,
                                 .body_size = strlen(body),
                                 .timeout_ms = REGISTER_MS},
        registered, peer);
    free(body);
}

/* --- permission to discard
 * ---------------------------------------------------------------------------------------- */

static void discard_answered(const struct http_result *result, void *arg)
{
    struct agent *agent = arg;

    agent->peers->discard = NULL;
    /* the permission of a leader that this node has left meanwhile counts for nothing */
    if (result->outcome == HTTP_CALL_OK && result->status == 200 &&
        agent->peers->discard_generation == agent->durable.promise.generation)
        agent->discard_until_ms = agent->peers->discard_asked_ms + DISCARD_VALID_MS;
    agent_changed(agent);
}

void peers_forget_discard(struct agent *agent)
{
    http_call_cancel(agent->peers->discard);
    agent->peers->discard = NULL;
    agent->discard_until_ms = 0;
}

void peers_ask_discard(struct agent *agent)
{
    struct peers *peers = agent->peers;
    int32_t leader = agent->durable.leader.node;
    char url[URL_SIZE], *body;
    json_t *json;

    if (peers->discard || leader < 0 || leader == agent->config.self ||
        clock_boot_ms() - peers->discard_asked_ms < PAUSE_MS)
        return;
    json = json_pack("{s:s,s:I}", "node", agent->config.options.node, "generation",
                     (json_int_t)agent->durable.promise.generation);
    body = json_dump_line(json);
    json_decref(json);
    peer_url(&peers->peer[leader], "/v1/discard", url);
    peers->discard_asked_ms = clock_boot_ms();
    peers->discard_generation = agent->durable.promise.generation;
    peers->discard = http_call(agent->client,
                               &(struct http_call_spec){.method = "POST",
                                                        .url = url,
                                                        .token = agent->secrets->token[TOKEN_PEER],
                                                        .body = body,
                                                        .body_size = strlen(body),
                                                        .timeout_ms = DISCARD_MS},
                               discard_answered, agent);
    free(body);
}

/* --- the document --- */

static void document_stored(struct agent *agent, int rc, const struct err *err, void *arg)
{
    (void)arg;
    if (rc < 0)
        log_err(LOG_LEVEL_ERROR, "document_not_stored", err);
    else
        agent_event(agent, AGENT_REASON_DOCUMENT_FETCH, NULL);
}

static void document_fetched(const struct http_result *result, void *arg)
{
    struct agent *agent = arg;
    struct document_facts facts;
    struct err err = {0};
    json_t *json = NULL;

    agent->peers->document = NULL;
    if (result->outcome == HTTP_CALL_OK && result->status == 200) {
        if (json_parse_bounded(result->body, result->body_size, REPORT_DEPTH, &json, &err) == 0 &&
            document_facts_from_json(json, agent->config.ids, &facts, &err) == 0 &&
            document_version_compare(facts.version, agent->durable.document.version) > 0)
            document_store(agent, json_incref(json), document_stored, NULL);
        else if (err.code != ERR_NONE)
            log_err(LOG_LEVEL_ERROR, "peer_document_unusable", &err);
    }
    json_decref(json);
    agent_changed(agent);
}

void peers_fetch_document(struct agent *agent, int32_t slot)
{
    char url[URL_SIZE];

    if (agent->peers->document || agent->fetching_document ||
        clock_boot_ms() - agent->peers->document_asked_ms < PAUSE_MS)
        return;
    agent->peers->document_asked_ms = clock_boot_ms();
    peer_url(&agent->peers->peer[slot], "/v1/document", url);
    agent->peers->document = http_call(
        agent->client,
        &(struct http_call_spec){
            .url = url, .token = agent->secrets->token[TOKEN_PEER], .timeout_ms = DOCUMENT_MS},
        document_fetched, agent);
}

/* --- start and stop --- */

void peers_new(struct agent *agent)
{
    agent->peers = xcalloc(1, sizeof *agent->peers);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct peer *peer = &agent->peers->peer[slot];

        peer->agent = agent;
        peer->slot = slot;
        peer->timer = loop_timer_new(agent->loop, on_timer, peer);
    }
}

void peers_start(struct agent *agent)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot != agent->config.self)
            poll_start(&agent->peers->peer[slot]);
}

void peers_stop(struct agent *agent)
{
    http_call_cancel(agent->peers->discard);
    http_call_cancel(agent->peers->document);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct peer *peer = &agent->peers->peer[slot];

        http_call_cancel(peer->poll);
        http_call_cancel(peer->registering);
        pg_probe_cancel(peer->probe);
        loop_timer_free(peer->timer);
    }
    free(agent->peers);
    agent->peers = NULL;
}
