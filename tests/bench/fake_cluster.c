#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/codec.h"
#include "protocol/order.h"
#include "tests/bench/fake_agents.h"

enum {
    GENERATION = LINEAGE_MAX + 8, /* so that lineages have full size */
    FIRST_LSN = 0x3000000,
    WRITE_MAX = 1 << 20,
    HUGE_BYTES = 10 << 20,
    DEEP_LEVELS = 100000,
    HANG_MS = 600000,
    RECOVERY_MS = 200,
    WAIT_GRACE_MS = 50,
    BODY_DEPTH = 16
};

struct fake_waiter {
    struct fake_waiter *next, **place;     /* of the node */
    struct fake_waiter *after, **position; /* of all */
    struct http_request *request;
    struct fake_node *node;
    int64_t due_us;
};

const char *const fake_fault_names[] = {"none",      "hang",    "status", "empty", "garbage",
                                        "truncated", "huge",    "deep",   "node",  "cluster",
                                        "protocol",  "mutated", NULL};

/* --- what a node says --- */

/* Faults that are in the report itself. */
static json_t *report_json(const struct fake_node *node)
{
    struct report report = node->report;

    if (node->fault == FAULT_NODE)
        report.node = (report.node + 1) % NODE_COUNT;
    if (node->fault == FAULT_CLUSTER)
        report.cluster.bytes[0] ^= 0xff;
    if (node->fault == FAULT_PROTOCOL)
        report.protocol = PROTOCOL_VERSION + 1;
    return report_to_json(&report);
}

static void make_text(struct fake_node *node)
{
    if (node->text == NULL) {
        json_t *json = report_json(node);

        node->text = json_dump_line(json);
        node->text_size = strlen(node->text);
        json_decref(json);
    }
}

static void respond_nested(struct http_request *request)
{
    char *text = xmalloc(2 * DEEP_LEVELS);

    memset(text, '[', DEEP_LEVELS);
    memset(text + DEEP_LEVELS, ']', DEEP_LEVELS);
    http_respond_take(request, 200, "application/json", text, 2 * DEEP_LEVELS);
}

static void respond_huge(struct http_request *request)
{
    char *text = xmalloc(HUGE_BYTES);

    memset(text, ' ', HUGE_BYTES);
    memcpy(text, "{}", 2);
    http_respond_take(request, 200, "application/json", text, HUGE_BYTES);
}

static void respond_mutated(struct fake_node *node, struct http_request *request)
{
    char *text = xstrdup(node->text);

    for (uint64_t n = 1 + rand_below(3); n > 0; n--)
        text[rand_below(node->text_size)] = (char)(' ' + rand_below(95));
    http_respond_take(request, 200, "application/json", text, node->text_size);
}

static void respond_report(struct fake_node *node, struct http_request *request)
{
    node->cluster->fakes->reports++;
    make_text(node);
    switch (node->fault) {
    case FAULT_EMPTY: http_respond(request, 200, "application/json", NULL, 0); break;
    case FAULT_GARBAGE: http_respond(request, 200, "text/html", "<html>\xff\x01", 8); break;
    case FAULT_TRUNCATED:
        http_respond(request, 200, "application/json", node->text, node->text_size / 2);
        break;
    case FAULT_HUGE: respond_huge(request); break;
    case FAULT_DEEP: respond_nested(request); break;
    case FAULT_MUTATED: respond_mutated(node, request); break;
    default: http_respond(request, 200, "application/json", node->text, node->text_size);
    }
}

static void waiter_free(struct fake_waiter *waiter)
{
    *waiter->place = waiter->next;
    if (waiter->next != NULL)
        waiter->next->place = waiter->place;
    *waiter->position = waiter->after;
    if (waiter->after != NULL)
        waiter->after->position = waiter->position;
    else
        waiter->node->cluster->fakes->waiting_end = waiter->position;
    free(waiter);
}

/* Something is new: whoever waits for it is told. */
static void changed(struct fake_node *node)
{
    node->report.sequence++;
    free(node->text);
    node->text = NULL;
    while (node->waiters != NULL) {
        struct http_request *request = node->waiters->request;

        waiter_free(node->waiters);
        respond_report(node, request);
    }
}

static void note_event(struct fake_node *node, uint32_t generation, const char *text)
{
    uint64_t i = ++node->events_last % FAKE_EVENTS_KEPT;

    snprintf(node->events[i], sizeof(node->events[i]), "%s", text);
    node->event_generation[i] = generation;
}

/* --- the state machine --- */

static void take_timeline(struct report *report, uint32_t timeline, uint64_t lsn)
{
    struct lineage *lineage = &report->lineage;

    if (lineage->count == LINEAGE_MAX) {
        lineage->truncated = true;
        lineage->count--;
        memmove(&lineage->begin[0], &lineage->begin[1], lineage->count * sizeof(lineage->begin[0]));
    }
    lineage->begin[lineage->count++] = (struct position){timeline, lsn};
    report->timeline = timeline;
}

int32_t fake_cluster_leader(const struct fake_cluster *cluster)
{
    int32_t leader = NODE_NONE;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct report *report = &cluster->nodes[i].report;

        if (report->leading &&
            (leader == NODE_NONE ||
             report->grant.generation > cluster->nodes[leader].report.grant.generation))
            leader = i;
    }
    return leader;
}

bool fake_cluster_settled(const struct fake_cluster *cluster)
{
    int32_t leader = fake_cluster_leader(cluster);

    for (int32_t i = 0; i < NODE_COUNT; i++)
        if (leader == NODE_NONE || (i != leader && !cluster->nodes[i].report.receiver.streaming))
            return false;
    return true;
}

/* One follower and the leader it was told of, as far as both are there. */
static void attach(struct fake_node *leader, struct fake_node *node)
{
    struct report *mine = &node->report, *theirs = &leader->report;
    struct standby_view *row = &theirs->standbys[node->slot];
    bool streams = mine->role == ROLE_FOLLOWER && mine->pg == PG_UP &&
                   leadership_equal(&mine->leader, &theirs->leader);

    if (streams == mine->receiver.streaming && streams == row->streaming)
        return;
    mine->receiver = (struct receiver_view){
        .alive = streams, .streaming = streams, .upstream = streams ? leader->slot : NODE_NONE};
    *row = (struct standby_view){.attached = streams,
                                 .streaming = streams,
                                 .counted = streams,
                                 .generation = theirs->grant.generation,
                                 .incarnation = 1,
                                 .flush_lsn = theirs->flush_lsn,
                                 .replay_lsn = theirs->flush_lsn};
    if (streams) {
        mine->fenced = false;
        mine->timeline = theirs->timeline;
        mine->lineage = theirs->lineage;
        mine->write_lsn = mine->flush_lsn = mine->replay_lsn = theirs->flush_lsn;
    }
    theirs->accepts_writes = false;
    for (int32_t i = 0; i < NODE_COUNT; i++)
        theirs->accepts_writes = theirs->accepts_writes || theirs->standbys[i].streaming;
    changed(node);
    changed(leader);
}

static void attach_all(struct fake_cluster *cluster)
{
    int32_t leader = fake_cluster_leader(cluster);

    for (int32_t i = 0; i < NODE_COUNT && leader != NODE_NONE; i++)
        if (i != leader)
            attach(&cluster->nodes[leader], &cluster->nodes[i]);
}

static void stop_leading(struct report *report)
{
    report->leading = report->accepts_writes = false;
    memset(report->standbys, 0, sizeof(report->standbys));
}

static void stop_receiving(struct fake_cluster *cluster, int32_t leader)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct report *report = &cluster->nodes[i].report;

        if (i == leader || !report->receiver.streaming)
            continue;
        report->receiver = (struct receiver_view){.upstream = NODE_NONE,
                                                  .message_age_ms = AGE_NEVER};
        changed(&cluster->nodes[i]);
    }
}

static void vote(struct report *report)
{
    report->in_recovery = true;
    report->vote = (struct vote){.valid = true,
                                 .promise = report->promise,
                                 .position = {report->timeline, report->flush_lsn},
                                 .replay_lsn = report->replay_lsn,
                                 .complete = true};
}

static void recovered(void *arg)
{
    struct fake_node *node = arg;
    struct report *report = &node->report;

    if (report->pg != PG_STARTING)
        return;
    report->pg = PG_UP;
    report->local_probe_ok = true;
    report->cause[0] = '\0';
    vote(report);
    changed(node);
}

/* A standby votes at once; a crashed leader is started as one first. */
static void fence(struct fake_node *node, const struct desired *message)
{
    struct report *report = &node->report;
    struct fake_cluster *cluster = node->cluster;
    struct fakes *fakes = cluster->fakes;

    if (cluster->killed_us != 0 && cluster->detected_us == 0 &&
        message->generation > cluster->killed_generation) {
        cluster->detected_us = clock_mono_us();
        if (fakes->n_detected < fakes->room)
            fakes->detection_us[fakes->n_detected++] = (uint32_t)(cluster->detected_us -
                                                                  cluster->killed_us);
    }
    if (report->leading) {
        stop_leading(report);
        stop_receiving(cluster, node->slot);
    }
    report->role = ROLE_FENCED;
    report->leader = (struct leadership){.node = NODE_NONE};
    report->receiver = (struct receiver_view){.upstream = NODE_NONE, .message_age_ms = AGE_NEVER};
    report->fenced = true;
    memset(&report->vote, 0, sizeof(report->vote));
    if (report->pg == PG_UP) {
        vote(report);
    } else if (report->pg == PG_CRASHED) {
        report->pg = PG_STARTING;
        loop_timer_start(node->recovery, RECOVERY_MS);
    }
    note_event(node, message->generation, "promised, and fenced");
}

static void lead(struct fake_node *node, const struct desired *message)
{
    struct report *report = &node->report;
    struct fake_cluster *cluster = node->cluster;
    struct fakes *fakes = cluster->fakes;

    report->role = ROLE_LEADER;
    report->leader = message->leader;
    if (report->grant.generation == message->generation)
        return; /* the same again */
    report->grant = (struct grant){.generation = message->generation,
                                   .proposer = message->leader.proposer,
                                   .incarnation = message->leader.incarnation,
                                   .spent = true};
    report->pg = PG_UP;
    report->cause[0] = '\0';
    report->leading = report->confirmed = report->checkpointed = true;
    report->in_recovery = report->fenced = false;
    take_timeline(report, message->generation, report->flush_lsn);
    if (cluster->killed_us != 0 && message->generation > cluster->killed_generation) {
        if (fakes->n_granted < fakes->room)
            fakes->granted_us[fakes->n_granted++] = (uint32_t)(clock_mono_us() -
                                                               cluster->killed_us);
        cluster->killed_us = cluster->detected_us = 0;
    }
    note_event(node, message->generation, "promoted");
}

static void follow(struct fake_node *node, const struct desired *message)
{
    struct report *report = &node->report;

    if (report->leading)
        stop_leading(report);
    report->role = ROLE_FOLLOWER;
    report->leader = message->leader;
    report->pg = PG_UP;
    report->in_recovery = report->local_probe_ok = true;
    report->cause[0] = '\0';
    note_event(node, message->generation, "follows");
}

static void obey(struct fake_node *node, const struct desired *message, bool promise)
{
    struct report *report = &node->report;

    if (promise)
        report->promise = (struct promise){message->generation, message->role == ROLE_FOLLOWER
                                                                    ? message->leader.proposer
                                                                    : message->proposer};
    if (message->job.id != 0) {
        report->job = message->job;
        report->job_state = JOB_DONE;
    }
    if (message->role == ROLE_FENCED)
        fence(node, message);
    else if (message->role == ROLE_LEADER)
        lead(node, message);
    else
        follow(node, message);
    changed(node);
    attach_all(node->cluster);
}

bool fake_cluster_kill(struct fake_cluster *cluster)
{
    int32_t leader = fake_cluster_leader(cluster);
    struct report *report;

    if (leader == NODE_NONE)
        return false;
    report = &cluster->nodes[leader].report;
    cluster->killed_us = clock_mono_us();
    cluster->detected_us = 0;
    cluster->killed_generation = report->grant.generation;
    stop_leading(report);
    report->pg = PG_CRASHED;
    report->local_probe_ok = false;
    snprintf(report->cause, sizeof(report->cause), "the postmaster was killed by signal 9");
    note_event(&cluster->nodes[leader], report->grant.generation, "Postgres died");
    changed(&cluster->nodes[leader]);
    stop_receiving(cluster, leader);
    return true;
}

void fake_cluster_flap(struct fake_cluster *cluster)
{
    int32_t leader = fake_cluster_leader(cluster);
    struct report *report;

    if (leader == NODE_NONE)
        return;
    report = &cluster->nodes[(leader + 1) % NODE_COUNT].report;
    report->pg = report->pg == PG_UP ? PG_DOWN : PG_UP;
    cluster->fakes->flaps++;
    attach_all(cluster);
}

void fake_cluster_write(struct fake_cluster *cluster)
{
    int32_t leader = fake_cluster_leader(cluster);
    struct report *theirs;

    if (leader == NODE_NONE)
        return;
    theirs = &cluster->nodes[leader].report;
    theirs->flush_lsn += 8 * (1 + rand_below(WRITE_MAX));
    theirs->write_lsn = theirs->replay_lsn = theirs->flush_lsn;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        struct report *mine = &cluster->nodes[i].report;

        if (i == leader || !mine->receiver.streaming)
            continue;
        mine->write_lsn = mine->flush_lsn = theirs->flush_lsn;
        mine->replay_lsn = mine->flush_lsn - 8 * rand_below(1000);
        mine->replay_lag_ms = (uint32_t)rand_below(20);
        theirs->standbys[i].flush_lsn = mine->flush_lsn;
        theirs->standbys[i].replay_lsn = mine->replay_lsn;
        theirs->standbys[i].replay_lag_ms = mine->replay_lag_ms;
        changed(&cluster->nodes[i]);
    }
    changed(&cluster->nodes[leader]);
}

/* --- HTTP --- */

static void waited(struct http_request *request, enum http_wake why, void *arg)
{
    waiter_free(arg);
    if (why == HTTP_WAKE_DEADLINE)
        http_respond(request, 204, NULL, NULL, 0);
}

/* The loop's timers go by a coarse clock: all would come at once, every few milliseconds, as those
 * of agents on machines of their own never do. */
void fakes_expire(struct fakes *fakes)
{
    int64_t now_us = clock_mono_us();

    while (fakes->waiting != NULL && fakes->waiting->due_us <= now_us) {
        struct http_request *request = fakes->waiting->request;

        waiter_free(fakes->waiting);
        http_respond(request, 204, NULL, NULL, 0);
    }
}

static int64_t query_number(const struct http_request *request, const char *name)
{
    const char *text = http_request_query(request, name);

    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static void wait_for_news(struct fake_node *node, struct http_request *request, int64_t wait_ms)
{
    struct fakes *fakes = node->cluster->fakes;
    struct fake_waiter *waiter = xcalloc(1, sizeof(*waiter));

    *waiter = (struct fake_waiter){.next = node->waiters,
                                   .place = &node->waiters,
                                   .position = fakes->waiting_end,
                                   .request = request,
                                   .node = node,
                                   .due_us = clock_mono_us() + wait_ms * 1000};
    if (node->waiters != NULL)
        node->waiters->place = &waiter->next;
    node->waiters = waiter;
    *fakes->waiting_end = waiter;
    fakes->waiting_end = &waiter->after;
    http_suspend(request, wait_ms + WAIT_GRACE_MS, waited, waiter);
}

static void hung(struct http_request *request, enum http_wake why, void *arg)
{
    (void)request;
    (void)why;
    (void)arg;
}

static bool misbehaves(struct fake_node *node, struct http_request *request)
{
    if (node->fault == FAULT_HANG)
        http_suspend(request, HANG_MS, hung, NULL);
    else if (node->fault == FAULT_STATUS)
        http_respond_problem(request, node->fault_status, NULL, "on request");
    return node->fault == FAULT_HANG || node->fault == FAULT_STATUS;
}

static void get_report(struct http_request *request, void *arg)
{
    struct fake_node *node = arg;
    int64_t wait_ms = query_number(request, "wait_ms");
    bool news = (uint64_t)query_number(request, "since") != node->report.sequence;

    node->cluster->fakes->polls++;
    if (misbehaves(node, request))
        return;
    if (news || node->fault != FAULT_NONE)
        respond_report(node, request);
    else if (wait_ms <= 0)
        http_respond(request, 204, NULL, NULL, 0);
    else
        wait_for_news(node, request, wait_ms);
}

static void get_events(struct http_request *request, void *arg)
{
    struct fake_node *node = arg;
    uint64_t since = (uint64_t)query_number(request, "since");
    json_t *list;

    if (misbehaves(node, request))
        return;
    list = json_array();
    if (since + FAKE_EVENTS_KEPT < node->events_last)
        since = node->events_last - FAKE_EVENTS_KEPT;
    for (uint64_t s = since + 1; s <= node->events_last; s++) {
        char time[CLOCK_ISO8601_SIZE], run[24];
        uint64_t i = s % FAKE_EVENTS_KEPT;

        snprintf(run, sizeof(run), "%016llx", (unsigned long long)node->report.agent_run);
        json_array_append_new(
            list, json_pack("{s:I,s:s,s:s,s:s,s:I,s:s,s:s}", "sequence", (json_int_t)s, "run", run,
                            "time", clock_format_iso8601(clock_wall_ms(), time), "kind", "step",
                            "generation", (json_int_t)node->event_generation[i], "reason", "P1",
                            "text", node->events[i]));
    }
    http_respond_json(
        request, 200,
        json_pack("{s:o,s:I}", "events", list, "last", (json_int_t)node->events_last));
}

static void standing_of(const struct report *report, struct standing *standing)
{
    *standing = (struct standing){.cluster = report->cluster,
                                  .node = report->node,
                                  .promise = report->promise,
                                  .leader = report->leader,
                                  .registered = report->registered,
                                  .birth_promised = report->birth_promised,
                                  .birth_ended = report->birth_ended};
    memcpy(standing->incarnations, report->incarnations, sizeof(standing->incarnations));
}

static void take_message(struct fake_node *node, struct http_request *request,
                         const struct desired *message)
{
    struct standing standing;
    enum verdict verdict;
    json_t *answer;
    bool admitted;

    standing_of(&node->report, &standing);
    verdict = desired_admit(&standing, message);
    admitted = verdict == VERDICT_OBEY || verdict == VERDICT_PROMISE;
    if (admitted)
        obey(node, message, verdict == VERDICT_PROMISE);
    else
        node->cluster->fakes->refusals++;
    answer = json_pack("{s:s,s:o}", "verdict", verdict_name(verdict), "promise",
                       promise_to_json(&node->report.promise));
    http_respond_json(request, admitted ? 200 : 409, answer);
}

static void post_desired(struct http_request *request, void *arg)
{
    struct fake_node *node = arg;
    struct desired message;
    struct err err = {0};
    json_t *json = NULL;

    node->cluster->fakes->messages++;
    if (misbehaves(node, request))
        return;
    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &json, &err) != 0 ||
        desired_from_json(json, &message, &err) != 0)
        http_respond_problem(request, 400, NULL, "%s", err.text);
    else
        take_message(node, request, &message);
    json_decref(json);
}

/* As much of the cluster document as the core knows. */
static void respond_version(struct fake_node *node, struct http_request *request)
{
    struct document_version version = node->report.document.version;

    http_respond_json(request, 200,
                      json_pack("{s:{s:I,s:I},s:b,s:{}}", "version", "generation",
                                (json_int_t)version.generation, "counter",
                                (json_int_t)version.counter, "replicated", 1, "document"));
}

static void get_document(struct http_request *request, void *arg)
{
    if (!misbehaves(arg, request))
        respond_version(arg, request);
}

static void post_document(struct http_request *request, void *arg)
{
    struct fake_node *node = arg;
    struct fake_cluster *cluster = node->cluster;
    struct err err = {0};
    json_t *json = NULL;
    bool maintenance = node->report.document.maintenance;

    if (misbehaves(node, request))
        return;
    if (json_parse_bounded(request->body, request->body_size, BODY_DEPTH, &json, &err) != 0 ||
        (json_object_get(json, "change") &&
         json_field_bool(json_object_get(json, "change"), "maintenance", JSON_OPTIONAL,
                         &maintenance, &err) != 0)) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
    } else if (!json_object_get(json, "change")) {
        respond_version(node, request); /* they share one document */
    } else {
        node->report.document.maintenance = maintenance;
        node->report.document.version.generation = node->report.promise.generation;
        node->report.document.version.counter++;
        respond_version(node, request);
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            cluster->nodes[i].report.document = node->report.document;
            changed(&cluster->nodes[i]);
        }
    }
    json_decref(json);
}

void fake_node_fault(struct fake_node *node, enum fake_fault fault, int status)
{
    node->fault = fault;
    node->fault_status = status;
    changed(node);
}

int fake_node_serve(struct fake_node *node, bool on, struct err *err)
{
    const struct http_token token = {"peer", HTTP_ROLE_PEER, node->cluster->fakes->token};

    if (!on || node->server != NULL) {
        http_server_stop(node->server);
        node->server = NULL;
    }
    if (!on)
        return 0;
    node->report.agent_run = rand_u64();
    if (http_server_start(&node->server, node->cluster->fakes->loop,
                          &(struct http_server_config){.port = node->port,
                                                       .routes = node->routes,
                                                       .n_routes = FAKE_ROUTES,
                                                       .tokens = &token,
                                                       .n_tokens = 1},
                          err) != 0)
        return -1;
    node->port = http_server_port(node->server);
    return 0;
}

/* --- clusters --- */

static void fill_report(struct fake_node *node)
{
    struct report *report = &node->report;
    bool leads = node->slot == 0;

    *report = (struct report){.protocol = PROTOCOL_VERSION,
                              .cluster = node->cluster->nodes[0].report.cluster,
                              .node = node->slot,
                              .sequence = 1,
                              .promise = {GENERATION, 1},
                              .leader = {GENERATION, 0, {1, 1}, 1},
                              .role = leads ? ROLE_LEADER : ROLE_FOLLOWER,
                              .incarnations = {{1, 1}, {1, 2}, {1, 3}},
                              .registered = true,
                              .birth_ended = true,
                              .complete = true,
                              .pg = PG_UP,
                              .in_recovery = !leads,
                              .leading = leads,
                              .confirmed = leads,
                              .checkpointed = leads,
                              .local_probe_ok = true,
                              .write_lsn = FIRST_LSN,
                              .flush_lsn = FIRST_LSN,
                              .replay_lsn = FIRST_LSN,
                              .receiver = {.upstream = NODE_NONE, .message_age_ms = AGE_NEVER},
                              .postgres = {.host = "127.0.0.1"},
                              .system_id = 7400000000000000000,
                              .pg_version = 150020,
                              .disk_free_bytes = 50ULL << 30,
                              .disk_total_bytes = 100ULL << 30};
    if (leads)
        report->grant = (struct grant){GENERATION, 1, {1, 1}, true};
    report->document.version = (struct document_version){GENERATION, 1};
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        snprintf(report->document.address[i].host, HOST_SIZE, "node-%d.%s.example.net", i + 1,
                 node->cluster->name);
        report->document.address[i].port = 5432;
        if (i != node->slot)
            report->peers[i] = (struct peer_view){.agent_reachable = true,
                                                  .generation = GENERATION,
                                                  .postgres = i == 0 ? PROBE_PRIMARY
                                                                     : PROBE_STANDBY};
    }
    for (uint32_t timeline = 1; timeline <= GENERATION; timeline++)
        take_timeline(report, timeline, (timeline - 1) * (uint64_t)FIRST_LSN / GENERATION);
}

static int cluster_start(struct fakes *fakes, uint32_t number, struct err *err)
{
    static const struct http_route routes[FAKE_ROUTES] = {
        {HTTP_GET, "/v1/report", HTTP_PEER, get_report, NULL},
        {HTTP_GET, "/v1/events", HTTP_PEER, get_events, NULL},
        {HTTP_POST, "/v1/desired", HTTP_PEER, post_desired, NULL},
        {HTTP_GET, "/v1/document", HTTP_PEER, get_document, NULL},
        {HTTP_POST, "/v1/document", HTTP_PEER, post_document, NULL}};
    struct fake_cluster *cluster = &fakes->clusters[number];
    struct cluster_id id;

    cluster->fakes = fakes;
    snprintf(cluster->name, sizeof(cluster->name), "c%u", fakes->first + number);
    rand_bytes(id.bytes, sizeof(id.bytes));
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct fake_node *node = &cluster->nodes[slot];

        node->cluster = cluster;
        node->slot = slot;
        node->recovery = loop_timer_new(fakes->loop, recovered, node);
        memcpy(node->routes, routes, sizeof(routes));
        for (int i = 0; i < FAKE_ROUTES; i++)
            node->routes[i].arg = node;
        cluster->nodes[0].report.cluster = id;
        fill_report(node);
        node->postgres = fake_postgres_start(node, err);
        if (node->postgres == NULL || fake_node_serve(node, true, err) != 0)
            return -1;
    }
    attach_all(cluster);
    return 0;
}

int fakes_start(struct fakes *fakes, uint32_t count, struct err *err)
{
    fakes->clusters = xcalloc(count, sizeof(*fakes->clusters));
    fakes->count = count;
    fakes->waiting_end = &fakes->waiting;
    for (uint32_t i = 0; i < count; i++)
        if (cluster_start(fakes, i, err) != 0)
            return -1;
    return 0;
}

void fakes_stop(struct fakes *fakes)
{
    for (uint32_t i = 0; i < fakes->count; i++) {
        for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
            struct fake_node *node = &fakes->clusters[i].nodes[slot];

            http_server_stop(node->server);
            fake_postgres_stop(node->postgres);
            loop_timer_free(node->recovery);
            free(node->text);
        }
    }
    free(fakes->clusters);
    fakes->count = 0;
}
