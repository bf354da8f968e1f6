#include "orchestrator/snapshots.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "orchestrator/shell.h"
#include "orchestrator/topology.h"
#include "protocol/order.h"

enum {
    TICK_MS = 500,
    OFF_TICK_MS = 5000, /* where there is no store; a new document ends the pause */
    FETCH_PAUSE_MS = 1000,
    IDLE_ASK_MS = 5000,    /* an agent is asked so often for its task while none is followed … */
    FOLLOW_WAIT_MS = 1000, /* … and of the one that is followed the answer may take so long */
    ASK_GRACE_MS = 3000,
    INDEX_GRACE_MS = 60000, /* the schedule waits so long for what the store holds */
    SLACK_MS = 5000,        /* between the clocks of the machines */
    REFUSED_MS = 90000,     /* a run of the schedule is tried again for so long */
    COLLECTED_ELSEWHERE_MS = 10000,
    TURN_MS = 1500, /* within which orchestrators of one cluster begin, each at its own time */
    ANSWER_DEPTH = 12,
    URL_SIZE = 512,
};

#define SCHEDULE_WHO "the schedule"

/* --- small things ------------------------------------------------------------------------------
 */

int64_t snapshots_ms_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

void snapshots_event(struct snapshots *s, const char *code, int32_t node, const char *fmt, ...)
{
    struct cluster *cluster = s->cluster;
    const char *id = node >= 0 ? cluster->nodes[node].id : NULL;
    char text[SNAPSHOT_TEXT_SIZE];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log_event(LOG_LEVEL_INFO, "snapshot", "{s:s,s:s,s:s?,s:o}", "cluster", cluster->name, "reason",
              code, "node", id, "text", json_text(text));
    history_note(cluster, json_pack("{s:s,s:s,s:s?,s:I,s:o}", "kind", "snapshot", "reason", code,
                                    "node", id, "generation", (json_int_t)cluster->plan.generation,
                                    "text", json_text(text)));
}

bool snapshots_healthy(const struct snapshots *s)
{
    return s->cluster->plan.leader >= 0 && s->cluster->plan.writable;
}

int32_t snapshots_choose(const struct snapshots *s, enum snapshot_kind kind, int32_t wanted,
                         int32_t avoid, bool *leads)
{
    const struct cluster *cluster = s->cluster;
    struct source_view nodes[NODE_COUNT];
    int32_t slot;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct node_view *view = &cluster->nodes[i].view;
        const struct report *report = &view->report;

        nodes[i].leads = i == cluster->plan.leader;
        /* what a collector found it deletes in a later run on the same machine */
        nodes[i].lag_bytes = kind == SNAPSHOT_GC ? 0 : cluster->topology->nodes[i].lag_bytes;
        nodes[i].usable = view->known && view->reachable &&
                          (kind != SNAPSHOT_CREATE ||
                           (report->pg == PG_UP && report->complete &&
                            (nodes[i].leads ||
                             (report->in_recovery && report->receiver.streaming))));
    }
    slot = snapshot_source(nodes, wanted, s->settings.prefer_leader, avoid);
    *leads = slot >= 0 && nodes[slot].leads && wanted != slot && !s->settings.prefer_leader;
    return slot;
}

/* --- the document ------------------------------------------------------------------------------
 */

static const char *text_of(const json_t *section, const char *name)
{
    return json_string_value(json_object_get(section, name));
}

int snapshots_check_change(const json_t *change, struct err *err)
{
    const json_t *section = json_object_get(change, "snapshots");
    struct schedule schedule;

    for (int kind = 0; kind < SNAPSHOT_TIMED; kind++) {
        const char *name = kind == SNAPSHOT_CREATE ? "schedule" : snapshot_kind_names[kind];
        const char *text = text_of(section, name);

        if (text && schedule_parse(text, &schedule, err))
            return err_context(err, "field \"snapshots.%s\"", name);
    }
    return 0;
}

/* Whoever has made the document: an agent takes any text as a schedule. */
static void read_schedules(struct snapshot_settings *settings)
{
    for (int kind = 0; kind < SNAPSHOT_TIMED; kind++) {
        const char *name = kind == SNAPSHOT_CREATE ? "schedule" : snapshot_kind_names[kind];
        const char *text = text_of(settings->section, name);
        struct err err = {0};

        settings->timed[kind] = text && schedule_parse(text, &settings->schedules[kind], &err) == 0;
        if (text && !settings->timed[kind])
            snprintf(settings->problem, sizeof settings->problem,
                     "%s \"%.80s\" of the cluster document cannot be read: %.300s", name, text,
                     err.text);
    }
}

static void read_settings(struct snapshots *s, const json_t *document,
                          struct snapshot_settings *settings)
{
    const json_t *version = json_object_get(document, "version");
    const char *node;

    memset(settings, 0, sizeof *settings);
    settings->known = true;
    settings->version.generation = (uint32_t)snapshots_ms_of(version, "generation");
    settings->version.counter = (uint32_t)snapshots_ms_of(version, "counter");
    settings->section = json_deep_copy(json_object_get(document, "snapshots"));
    settings->store = text_of(settings->section, "store");
    settings->node = NODE_NONE;
    read_schedules(settings);
    node = text_of(settings->section, "node");
    settings->prefer_leader = node && strcmp(node, "leader") == 0;
    for (int32_t slot = 0; node && slot < NODE_COUNT; slot++)
        if (strcmp(node, s->cluster->nodes[slot].id) == 0)
            settings->node = slot;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* Slots of a schedule that was not in force then were not missed. */
static void schedules_changed(struct snapshots *s, const struct snapshot_settings *before)
{
    int64_t now_ms = clock_wall_ms();

    for (int kind = 0; kind < SNAPSHOT_TIMED; kind++) {
        const char *name = kind == SNAPSHOT_CREATE ? "schedule" : snapshot_kind_names[kind];

        s->outcomes[kind].waiting_ms = 0;
        s->outcomes[kind].next_ms = 0;
        if (before->known &&
            !same_text(text_of(before->section, name), text_of(s->settings.section, name)))
            s->outcomes[kind].served_ms = now_ms;
    }
}

static void fetched(int status, const json_t *answer, const char *detail, void *arg)
{
    struct snapshots *s = arg;
    struct snapshot_settings before = s->settings;

    (void)detail;
    s->fetching = NULL;
    if (status != 200)
        return; /* asked again at the next tick */
    read_settings(s, answer, &s->settings);
    if (!before.known || !same_text(before.store, s->settings.store))
        s->since_ms = clock_mono_ms();
    if (!same_text(before.store, s->settings.store)) {
        snapshot_index_drop(s);
        for (int kind = 0; before.known && kind < SNAPSHOT_KINDS; kind++)
            memset(&s->outcomes[kind], 0, sizeof s->outcomes[kind]);
        for (int kind = 0; kind < SNAPSHOT_KINDS; kind++)
            s->outcomes[kind].last_skip = SKIP_REASONS;
    }
    schedules_changed(s, &before);
    json_decref(before.section);
    if (s->settings.store && !s->index.list)
        snapshot_index_refresh(s);
    snapshots_wake(s);
}

/* The newest version that an agent in reach reports. */
static bool document_is_newer(const struct snapshots *s)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node_view *view = &s->cluster->nodes[slot].view;

        if (view->known && view->reachable && view->report.document.version.generation > 0 &&
            (!s->settings.known ||
             document_version_compare(view->report.document.version, s->settings.version) > 0))
            return true;
    }
    return false;
}

static void fetch_document(struct snapshots *s)
{
    int64_t now_ms = clock_mono_ms();
    struct err err = {0};

    if (s->fetching || !document_is_newer(s) ||
        (s->fetched_ms && now_ms - s->fetched_ms < FETCH_PAUSE_MS))
        return;
    s->fetched_ms = now_ms;
    s->fetching = document_fetch(s->cluster, fetched, s, &err);
}

/* --- what agents say of their tasks ------------------------------------------------------------
 */

static bool followed(const struct snapshots *s, int32_t slot)
{
    return snapshot_run_active(s) && s->run.slot == slot && s->run.state == RUN_GOING;
}

/* A short snapshot of the schedule may be seen by its collection alone. */
static bool follows_a_create(const json_t *task)
{
    const char *kind = text_of(task, "kind");

    return kind && strcmp(kind, snapshot_kind_names[SNAPSHOT_GC]) == 0 &&
           snapshot_task_is_scheduled(task);
}

static void note_task(struct snapshots *s, const json_t *task)
{
    const char *kind = text_of(task, "kind");
    int64_t begun_ms = snapshots_ms_of(task, "begun_ms");

    for (int i = 0; kind && i < SNAPSHOT_TIMED; i++)
        if ((strcmp(kind, snapshot_kind_names[i]) == 0 ||
             (i == SNAPSHOT_CREATE && follows_a_create(task))) &&
            begun_ms + SLACK_MS > s->outcomes[i].served_ms)
            s->outcomes[i].served_ms = begun_ms + SLACK_MS;
    if (kind && strcmp(kind, snapshot_kind_names[SNAPSHOT_GC]) == 0 &&
        clock_wall_ms() - begun_ms < COLLECTED_ELSEWHERE_MS)
        s->gc_ms = 0;
}

static void take_task(struct snapshot_watch *watch, const char *body, size_t size)
{
    struct snapshots *s = watch->snapshots;
    struct err err = {0};
    json_t *json = NULL;
    const json_t *task = NULL;
    int64_t sequence = 0;

    if (json_parse_bounded(body, size, ANSWER_DEPTH, &json, &err) == 0 &&
        json_field_int(json, "sequence", JSON_OPTIONAL, 0, INT64_MAX, &sequence, &err) == 0 &&
        json_field_object(json, "task", JSON_REQUIRED, &task, &err) == 0) {
        watch->since = (uint64_t)sequence;
        snprintf(watch->run, sizeof watch->run, "%.*s", TASK_ID_SIZE - 1,
                 text_of(json, "run") ? text_of(json, "run") : "");
        json_decref(watch->task);
        watch->task = json_deep_copy(task);
        note_task(s, watch->task);
        snapshot_run_seen(s, watch->slot, watch->task);
    }
    json_decref(json);
}

static void task_answered(const struct http_result *result, void *arg)
{
    struct snapshot_watch *watch = arg;
    struct snapshots *s = watch->snapshots;
    bool heard = result->outcome == HTTP_CALL_OK &&
                 (result->status == 200 || result->status == 204);

    watch->call = NULL;
    watch->answered = true;
    watch->heard_ms = watch->asked_ms;
    if (!heard)
        watch->run[0] = '\0';
    if (followed(s, watch->slot) && heard)
        s->run.lost_since_ms = 0;
    else if (followed(s, watch->slot) && !s->run.lost_since_ms)
        s->run.lost_since_ms = clock_mono_ms();
    if (heard && result->status == 200)
        take_task(watch, result->body, result->body_size);
    snapshots_wake(s);
}

void snapshots_ask(struct snapshots *s, int32_t slot)
{
    struct snapshot_watch *watch = &s->watches[slot];
    int wait_ms = followed(s, slot) && s->run.certain && watch->run[0] ? FOLLOW_WAIT_MS : 0;
    char path[128] = "/v1/task", url[URL_SIZE];

    if (watch->call)
        return;
    watch->asked_ms = clock_mono_ms();
    if (wait_ms)
        snprintf(path, sizeof path, "/v1/task?since=%llu&run=%s&wait_ms=%d",
                 (unsigned long long)watch->since, watch->run, wait_ms);
    node_url(&s->cluster->nodes[slot], path, url, sizeof url);
    watch->call = http_call(s->cluster->client,
                            &(struct http_call_spec){
                                .url = url,
                                .token = s->cluster->orchestrator->peer_token,
                                .timeout_ms = wait_ms + ASK_GRACE_MS,
                            },
                            task_answered, watch);
}

void snapshots_ask_all(struct snapshots *s)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        snapshots_ask(s, slot);
}

static void ask_round(struct snapshots *s)
{
    int64_t now_ms = clock_mono_ms();

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        int64_t pause_ms = followed(s, slot) ? TICK_MS : IDLE_ASK_MS;

        if (!s->watches[slot].asked_ms || now_ms - s->watches[slot].asked_ms >= pause_ms)
            snapshots_ask(s, slot);
    }
}

/* --- the clock ---------------------------------------------------------------------------------
 */

static bool all_answered(const struct snapshots *s)
{
    return s->watches[0].answered && s->watches[1].answered && s->watches[2].answered;
}

/* What ran before this process began: without it a run would be repeated, or a missed one lost. */
static bool knows_enough(const struct snapshots *s)
{
    bool index_known = s->index.list || clock_mono_ms() - s->since_ms > INDEX_GRACE_MS;

    return index_known && all_answered(s);
}

static void skipped(struct snapshots *s, enum snapshot_kind kind, enum skip_reason reason)
{
    static const char *const texts[SKIP_REASONS] = {
        "the one before it still runs, or waits",
        "the cluster is in maintenance mode",
        "the cluster has no leader that acknowledges commits, or its agent permits none yet",
        "no node is fit for it",
        "there is no snapshot yet",
    };
    struct snapshot_outcome *outcome = &s->outcomes[kind];

    outcome->skipped_total[reason]++;
    if (outcome->last_skip != reason)
        snapshots_event(s, "A5", NODE_NONE, "a scheduled %s is skipped: %s",
                        snapshot_kind_names[kind], texts[reason]);
    outcome->last_skip = reason;
}

/* The slot is served with the attempt, whatever comes of it: the next one is another chance. */
static void begin_scheduled(struct snapshots *s, enum snapshot_kind kind, int64_t slot_ms)
{
    const json_t *newest = snapshot_index_newest(s);
    struct snapshot_wish wish = {.kind = kind,
                                 .node = s->settings.node,
                                 .scheduled = true,
                                 .slot_ms = slot_ms,
                                 .who = SCHEDULE_WHO};
    const char *id = text_of(newest, "id");
    struct err err = {0};

    if (kind != SNAPSHOT_CREATE && id)
        snprintf(wish.snapshot, sizeof wish.snapshot, "%s", id);
    s->outcomes[kind].served_ms = slot_ms;
    if (snapshot_run_begin(s, &wish, false, NULL, NULL, NULL, &err))
        skipped(s, kind, SKIP_NO_NODE);
}

/* Another orchestrator may have begun it, and it may have ended: what is known of the agents must
 * be newer than this one's own time to begin. */
static bool is_its_turn(struct snapshots *s, int64_t begin_ms, int64_t now_ms)
{
    int64_t mono_ms = clock_mono_ms();
    int64_t turn_ms = mono_ms - (now_ms - begin_ms) +
                      (int64_t)(s->cluster->orchestrator->proposer % TURN_MS);
    bool heard = true;

    if (mono_ms < turn_ms)
        return false;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        heard = heard &&
                (!s->cluster->nodes[slot].view.reachable || s->watches[slot].heard_ms >= turn_ms);
    if (!heard)
        snapshots_ask_all(s);
    return heard;
}

static void look(struct snapshots *s, enum snapshot_kind kind, int64_t now_ms)
{
    struct snapshot_outcome *outcome = &s->outcomes[kind];
    bool leads;
    struct due_view view = {
        .now_ms = now_ms,
        .spread = snapshot_spread(s->cluster->name),
        .schedule = &s->settings.schedules[kind],
        .served_ms = outcome->served_ms,
        .kind = kind,
        .running = snapshot_run_active(s) ? s->run.wish.kind : SNAPSHOT_NONE,
        .maintenance = s->cluster->plan.maintenance,
        .healthy = snapshots_healthy(s),
        .has_node = snapshots_choose(s, kind, s->settings.node, NODE_NONE, &leads) != NODE_NONE,
        .has_snapshot = snapshot_index_newest(s) != NULL,
    };
    struct due due;

    if (!outcome->served_ms)
        view.served_ms = outcome->served_ms = now_ms; /* none yet: from now on */
    due = snapshot_due(&view);
    outcome->next_ms = due.begin_ms;
    if (due.verdict == DUE_LATER)
        outcome->refused_since_ms = 0;
    if (due.verdict == DUE_WAIT && outcome->waiting_ms && outcome->waiting_ms != due.slot_ms)
        skipped(s, kind, SKIP_RUNNING);
    outcome->waiting_ms = due.verdict == DUE_WAIT ? due.slot_ms : 0;
    if (due.verdict == DUE_WAIT)
        outcome->served_ms = due.slot_ms - 1; /* the ones before it are past */
    if (due.verdict == DUE_SKIP) {
        skipped(s, kind, due.reason);
        outcome->served_ms = due.slot_ms;
    } else if (due.verdict == DUE_RUN && now_ms >= s->hold_until_ms &&
               is_its_turn(s, due.begin_ms, now_ms)) {
        if (outcome->refused_since_ms && now_ms - outcome->refused_since_ms > REFUSED_MS) {
            skipped(s, kind, SKIP_UNHEALTHY);
            outcome->served_ms = due.slot_ms;
        } else {
            begin_scheduled(s, kind, due.slot_ms);
        }
    }
}

/* Retention and collection follow a snapshot of the schedule. */
static void collect(struct snapshots *s)
{
    struct snapshot_wish wish = {
        .kind = SNAPSHOT_GC, .node = NODE_NONE, .scheduled = true, .who = SCHEDULE_WHO};
    struct err err = {0};

    if (!s->gc_ms || clock_mono_ms() < s->gc_ms || snapshot_run_active(s))
        return;
    s->gc_ms = 0;
    if (snapshot_run_begin(s, &wish, false, NULL, NULL, NULL, &err))
        skipped(s, SNAPSHOT_GC, SKIP_NO_NODE);
}

static void tick(void *arg)
{
    struct snapshots *s = arg;
    bool on = s->settings.known && s->settings.store;

    fetch_document(s);
    if (on || snapshot_run_active(s)) {
        ask_round(s);
        snapshot_run_tick(s, clock_mono_ms());
    }
    if (on) {
        snapshot_index_tick(s, clock_mono_ms());
        collect(s);
        for (int kind = 0; knows_enough(s) && kind < SNAPSHOT_TIMED; kind++)
            if (s->settings.timed[kind])
                look(s, (enum snapshot_kind)kind, clock_wall_ms());
    }
    loop_timer_start(s->timer, on || snapshot_run_active(s) ? TICK_MS : OFF_TICK_MS);
}

void snapshots_wake(struct snapshots *s)
{
    if (s->timer)
        loop_timer_start(s->timer, 0);
}

/* --- life --------------------------------------------------------------------------------------
 */

void snapshots_round(struct cluster *cluster)
{
    if (cluster->snapshots && cluster->snapshots->timer)
        fetch_document(cluster->snapshots);
}

const char *snapshots_store(const struct cluster *cluster)
{
    const struct snapshots *s = cluster->snapshots;

    return s && s->settings.known ? s->settings.store : NULL;
}

struct snapshots *snapshots_new(struct cluster *cluster)
{
    struct snapshots *s = xcalloc(1, sizeof *s);

    s->cluster = cluster;
    s->settings.node = NODE_NONE;
    for (int kind = 0; kind < SNAPSHOT_KINDS; kind++)
        s->outcomes[kind].last_skip = SKIP_REASONS;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        s->watches[slot] = (struct snapshot_watch){.snapshots = s, .slot = slot};
    return s;
}

void snapshots_start(struct cluster *cluster)
{
    struct snapshots *s = cluster->snapshots;

    if (!s)
        return;
    s->timer = loop_timer_new(cluster->orchestrator->loop, tick, s);
    loop_timer_start(s->timer, TICK_MS);
}

void snapshots_stop(struct cluster *cluster)
{
    struct snapshots *s = cluster->snapshots;

    if (!s)
        return;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        http_call_cancel(s->watches[slot].call);
        s->watches[slot].call = NULL;
    }
    snapshot_run_stop(s);
    snapshot_index_stop(s);
    s->fetching = NULL; /* document_stop() ended it */
    loop_timer_free(s->timer);
    s->timer = NULL;
}

void snapshots_free(struct snapshots *s)
{
    if (!s)
        return;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        json_decref(s->watches[slot].task);
    json_decref(s->settings.section);
    json_decref(s->run.task);
    json_decref(s->run.wish.options);
    json_decref(s->index.list);
    free(s->index.store);
    free(s);
}
