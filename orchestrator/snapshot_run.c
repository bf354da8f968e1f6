/* One task at a time: begun at an agent, followed by its answers, tried once more on another node
 * when its own is lost. The two lowest bits of a task's id say whether the schedule wanted it and
 * whether it is the second try, so that an orchestrator that finds it running knows as much as the
 * one that began it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rand.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"
#include "snapshots/keep.h"

enum {
    ID_SECOND = 1,
    ID_SCHEDULED = 2,
    BEGIN_TIMEOUT_MS = 15000, /* the agent asks the leader's for the permit */
    AGAIN_PAUSE_MS = 2000,
    AGAIN_FOR_MS = 90000,    /* longer than a permit lasts that nobody renews, and than a new leader
                                gives none */
    LOST_MS = 10000,         /* an agent is silent so long: its task is given up … */
    LOST_REFUSED_MS = 3000,  /* … or nobody listens there */
    OTHERS_FIRST_MS = 10000, /* who did not begin a task leaves the second try to whoever did */
    ADOPTED_WITHIN_MS = 15000,
    ANSWER_DEPTH = 12,
    URL_SIZE = 512,
};

struct snapshot_call {
    struct snapshot_call *next;
    bool wait; /* until the task has ended */
    bool gone; /* the caller */
    snapshot_fn *fn;
    void *arg;
};

/* --- who waits ---------------------------------------------------------------------------------
 */

/* Answers those who wait for this, all where the run has ended. */
static void answer(struct snapshots *s, int status, const json_t *task, const char *detail)
{
    struct snapshot_call **link = &s->calls;

    while (*link) {
        struct snapshot_call *call = *link;

        if (status == 202 && call->wait) {
            link = &call->next;
            continue;
        }
        *link = call->next;
        if (!call->gone)
            call->fn(status, task, detail, call->arg);
        free(call);
    }
}

void snapshot_call_forget(struct snapshot_call *call)
{
    if (call)
        call->gone = true;
}

/* --- the task as JSON --------------------------------------------------------------------------
 */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

/* SNAPSHOT_NONE: an agent of a later release may know more. */
static enum snapshot_kind kind_of(const json_t *task)
{
    for (int kind = 0; kind < SNAPSHOT_KINDS; kind++)
        if (strcmp(text_of(task, "kind"), snapshot_kind_names[kind]) == 0)
            return (enum snapshot_kind)kind;
    return SNAPSHOT_NONE;
}

static uint64_t bits_of(const char *id)
{
    return strtoull(id, NULL, 16);
}

bool snapshot_task_is_scheduled(const json_t *task)
{
    const char *id = text_of(task, "id");

    return id && (bits_of(id) & ID_SCHEDULED);
}

/* As the agent tells it, and what only we know. */
static json_t *dressed(const struct snapshots *s, int32_t slot, const json_t *task)
{
    json_t *json = json_deep_copy(task);
    uint64_t bits = bits_of(text_of(task, "id"));

    json_object_set_new(json, "node", json_string(s->cluster->nodes[slot].id));
    json_object_set_new(json, "scheduled", json_boolean(bits & ID_SCHEDULED));
    json_object_set_new(json, "second_try", json_boolean(bits & ID_SECOND));
    return json;
}

static json_t *starting(const struct snapshots *s)
{
    const struct snapshot_run *run = &s->run;
    json_t *plain = json_pack("{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:I}", "id", run->id, "kind",
                              snapshot_kind_names[run->wish.kind], "state", "starting", "phase", "",
                              "done_bytes", 0, "total_bytes", 0, "stored_bytes", 0, "begun_ms",
                              (json_int_t)run->begun_ms);
    json_t *json = dressed(s, run->slot, plain);

    json_decref(plain);
    return json;
}

/* Between the two tries: what is known of the first, but nobody shall take it for the end. */
static json_t *waiting(const struct snapshots *s)
{
    json_t *json = s->run.task ? json_deep_copy(s->run.task) : starting(s);

    json_object_set_new(json, "state", json_string("starting"));
    json_object_set_new(json, "phase", json_string("waits for its second try"));
    json_object_set_new(json, "second_try", json_true());
    json_object_del(json, "ended_ms");
    return json;
}

json_t *snapshot_run_json(const struct snapshots *s)
{
    const struct snapshot_watch *newest = NULL;

    if (s->run.state == RUN_AGAIN)
        return waiting(s);
    if (snapshot_run_active(s))
        return s->run.task ? json_incref(s->run.task) : starting(s);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct snapshot_watch *watch = &s->watches[slot];

        if (watch->task && text_of(watch->task, "id")[0] &&
            (!newest ||
             snapshots_ms_of(watch->task, "begun_ms") > snapshots_ms_of(newest->task, "begun_ms")))
            newest = watch;
    }
    if (s->run.task && (!newest || snapshots_ms_of(s->run.task, "begun_ms") >=
                                       snapshots_ms_of(newest->task, "begun_ms")))
        return json_incref(s->run.task);
    return newest ? dressed(s, newest->slot, newest->task) : json_null();
}

bool snapshot_run_active(const struct snapshots *s)
{
    return s->run.state != RUN_NONE;
}

/* --- how it ends -------------------------------------------------------------------------------
 */

static void clear(struct snapshots *s)
{
    s->run.state = RUN_NONE;
    json_decref(s->run.wish.options);
    s->run.wish.options = NULL;
    snapshots_wake(s);
}

static void tell_success(struct snapshots *s, const struct snapshot_outcome *outcome)
{
    static const char *const verbs[SNAPSHOT_KINDS] = {"taken", "verified", "restored and started",
                                                      "collected"};
    const struct snapshot_run *run = &s->run;
    double seconds = (double)outcome->duration_ms / 1000;

    if (run->wish.kind == SNAPSHOT_CREATE)
        snapshots_event(
            s, "A2", run->slot,
            "snapshot %s is taken: %lld bytes, %lld of them new in the store, in %.1f s",
            outcome->id, (long long)outcome->logical_bytes, (long long)outcome->stored_bytes,
            seconds);
    else if (run->wish.kind == SNAPSHOT_GC)
        snapshots_event(s, "A2", run->slot, "what no snapshot needs is %s, in %.1f s",
                        verbs[run->wish.kind], seconds);
    else
        snapshots_event(s, "A2", run->slot, "snapshot %s is %s, in %.1f s", outcome->id,
                        verbs[run->wish.kind], seconds);
}

static void note_success(struct snapshot_outcome *outcome, const json_t *task, const char *wanted)
{
    const json_t *snapshot = json_object_get(task, "snapshot");
    const char *id = text_of(snapshot, "id")[0] ? text_of(snapshot, "id") : wanted;

    outcome->ended_ms = snapshots_ms_of(task, "ended_ms");
    outcome->duration_ms = outcome->ended_ms - snapshots_ms_of(task, "begun_ms");
    outcome->logical_bytes = snapshots_ms_of(snapshot, "logical_bytes");
    outcome->stored_bytes = snapshots_ms_of(snapshot, "stored_bytes");
    snprintf(outcome->id, sizeof outcome->id, "%.*s", SNAPSHOT_ID_LEN, id);
    outcome->failed_ms = 0;
    outcome->last_skip = SKIP_REASONS;
}

/* Another orchestrator's, begun and done between two looks. */
static void seen_done(struct snapshots *s, const json_t *task)
{
    enum snapshot_kind kind = kind_of(task);
    const char *store = text_of(task, "store");
    struct snapshot_outcome *outcome;

    if (kind == SNAPSHOT_NONE || strcmp(text_of(task, "state"), "done") != 0 ||
        !s->settings.store || (*store && strcmp(store, s->settings.store) != 0))
        return;
    outcome = &s->outcomes[kind];
    if (snapshots_ms_of(task, "ended_ms") <= outcome->ended_ms)
        return;
    note_success(outcome, task, "");
    snapshot_index_note(s, kind, task);
    snapshot_index_refresh(s);
}

static void succeeded(struct snapshots *s)
{
    struct snapshot_run *run = &s->run;
    struct snapshot_outcome *outcome = &s->outcomes[run->wish.kind];
    enum snapshot_kind kind = run->wish.kind;
    json_t *task = json_incref(run->task);

    note_success(outcome, task, run->wish.snapshot);
    tell_success(s, outcome);
    if (kind == SNAPSHOT_CREATE && run->wish.scheduled)
        s->gc_ms = clock_mono_ms() + (run->own ? 0 : OTHERS_FIRST_MS);
    clear(s);
    snapshot_index_note(s, kind, task);
    snapshot_index_refresh(s);
    answer(s, 200, task, "");
    json_decref(task);
}

static void failed_for_good(struct snapshots *s, int status)
{
    struct snapshot_run *run = &s->run;
    struct snapshot_outcome *outcome = &s->outcomes[run->wish.kind];
    json_t *task = json_incref(run->task);

    outcome->failed_ms = clock_wall_ms();
    outcome->failed_total++;
    snprintf(outcome->failure, sizeof outcome->failure, "%s", run->failure);
    snapshots_event(s, "A3", run->slot, "a %s failed: %s", snapshot_kind_names[run->wish.kind],
                    run->failure);
    clear(s);
    answer(s, status, task, outcome->failure);
    json_decref(task);
}

/* Another node would find the same. */
static bool is_hopeless(const struct snapshot_run *run, const char *code)
{
    static const char *const codes[] = {"invalid",   "auth",     "no_space",
                                        "not_found", "conflict", "cancelled"};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(codes); i++)
        if (strcmp(code, codes[i]) == 0)
            return true;
    /* of a snapshot that is damaged; a node whose own pages are is another matter */
    return run->wish.kind != SNAPSHOT_CREATE && strcmp(code, "corrupt") == 0;
}

static void failed(struct snapshots *s, int status, const char *code, const char *text)
{
    struct snapshot_run *run = &s->run;
    int64_t now_ms = clock_mono_ms();

    snprintf(run->failure, sizeof run->failure, "%s", text);
    /* of a verify that was found running it is not known what it verifies */
    if (run->second || run->wish.node != NODE_NONE || is_hopeless(run, code) ||
        (run->wish.kind == SNAPSHOT_VERIFY && !run->wish.snapshot[0])) {
        failed_for_good(s, status);
        return;
    }
    snapshots_event(s, "A4", run->slot, "a %s failed and is tried once more on another node: %s",
                    snapshot_kind_names[run->wish.kind], text);
    run->state = RUN_AGAIN;
    run->second = true;
    run->avoid = run->slot;
    run->again_ms = run->own ? now_ms : now_ms + OTHERS_FIRST_MS;
    run->until_ms = run->again_ms + AGAIN_FOR_MS;
    snapshots_wake(s);
}

/* --- beginning ---------------------------------------------------------------------------------
 */

/* All numbers: what the document does not say is the default, not "keep everything". */
static json_t *keep_of(const struct snapshots *s)
{
    json_t *keep = json_pack("{s:i,s:i,s:i,s:i}", "daily", KEEP_DAILY, "weekly", KEEP_WEEKLY,
                             "monthly", KEEP_MONTHLY, "least", KEEP_LEAST);

    json_object_update_existing(keep, json_object_get(s->settings.section, "keep"));
    return keep;
}

static json_t *options_of(const struct snapshots *s, const struct snapshot_wish *wish)
{
    static const char *const of_create[] = {"level", "max_rate"};
    json_t *options = json_object();

    for (size_t i = 0; wish->kind == SNAPSHOT_CREATE && i < OGEL_ARRAY_LEN(of_create); i++) {
        json_t *value = json_object_get(s->settings.section, of_create[i]);

        if (value)
            json_object_set(options, of_create[i], value);
    }
    if (wish->kind == SNAPSHOT_GC)
        json_object_set_new(options, "keep", keep_of(s));
    if (wish->options)
        json_object_update(options, wish->options);
    return options;
}

static void refused(struct snapshots *s, int status, const json_t *json, const char *detail)
{
    const json_t *task = json_object_get(json, "task"); /* whole, or its id alone */
    struct snapshot_run *run = &s->run;
    int64_t now_ms = clock_mono_ms();
    json_t *other;

    snapshots_ask_all(s);
    if (run->second && now_ms < run->until_ms) {
        run->state = RUN_AGAIN;
        run->again_ms = now_ms + AGAIN_PAUSE_MS;
        return;
    }
    if (run->second) {
        failed_for_good(s, 502);
        return;
    }
    if (run->wish.scheduled) {
        struct snapshot_outcome *outcome = &s->outcomes[run->wish.kind];
        int64_t wall_ms = clock_wall_ms();

        /* whether it is served after all, or skipped, shows once the other task is known */
        if (run->wish.slot_ms && outcome->served_ms == run->wish.slot_ms)
            outcome->served_ms = run->wish.slot_ms - 1;
        s->hold_until_ms = wall_ms + AGAIN_PAUSE_MS;
        if (!outcome->refused_since_ms)
            outcome->refused_since_ms = wall_ms;
    }
    other = json_is_object(task) ? dressed(s, run->slot, task) : NULL;
    clear(s);
    answer(s, status, other, detail);
    json_decref(other);
}

static void begun(struct snapshots *s, const json_t *task)
{
    struct snapshot_run *run = &s->run;

    json_decref(run->task);
    run->task = dressed(s, run->slot, task);
    run->state = RUN_GOING;
    run->certain = true;
    run->lost_since_ms = 0;
    s->watches[run->slot].run[0] = '\0';
    snapshots_event(s, "A1", run->slot, "a %s begins%s", snapshot_kind_names[run->wish.kind],
                    run->second ? ", the second try" : "");
    answer(s, 202, run->task, "");
    snapshots_ask(s, run->slot);
}

static void took(struct snapshots *s, const struct http_result *result)
{
    struct err err = {0};
    json_t *json = NULL;
    const char *detail, *reason;
    char text[SNAPSHOT_TEXT_SIZE];

    if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, &err))
        json = json_object();
    detail = text_of(json, "detail");
    reason = text_of(json, "reason");
    snprintf(text, sizeof text, "the agent of %s: %.400s", s->cluster->nodes[s->run.slot].id,
             *detail ? detail : "it gave no reason");
    if (result->status >= 200 && result->status < 300 &&
        json_is_object(json_object_get(json, "task")))
        begun(s, json_object_get(json, "task"));
    else if (result->status == 409 || (result->status == 403 && strcmp(reason, "held") == 0))
        refused(s, 409, json, text);
    else if (result->status == 503 || (result->status == 403 && *reason))
        refused(s, 503, json, text);
    else
        failed(s, 502, result->status < 500 ? "invalid" : "unavailable", text);
    json_decref(json);
}

static void posted(const struct http_result *result, void *arg)
{
    struct snapshots *s = arg;
    struct snapshot_run *run = &s->run;
    char text[SNAPSHOT_TEXT_SIZE];

    run->call = NULL;
    switch (result->outcome) {
    case HTTP_CALL_OK: took(s, result); return;
    case HTTP_CALL_REFUSED:
    case HTTP_CALL_UNREACHABLE:
    case HTTP_CALL_UNRESOLVED:
        snprintf(text, sizeof text, "the agent of %s: %.400s", s->cluster->nodes[run->slot].id,
                 result->error);
        failed(s, 503, "unavailable", text);
        return;
    default:
        /* it may have begun: what the agent says of its task tells */
        run->state = RUN_GOING;
        run->lost_since_ms = 0;
        s->watches[run->slot].run[0] = '\0';
        snapshots_ask(s, run->slot);
    }
}

/* One id for each try, however often it is asked for. */
static void draw_id(struct snapshot_run *run)
{
    uint64_t bits = rand_u64() & ~(uint64_t)(ID_SECOND | ID_SCHEDULED);

    if (run->second && bits_of(run->id) & ID_SECOND)
        return;
    bits |= (run->second ? ID_SECOND : 0) | (run->wish.scheduled ? ID_SCHEDULED : 0);
    snprintf(run->id, sizeof run->id, "%016llx", (unsigned long long)bits);
}

static void send_task(struct snapshots *s)
{
    struct snapshot_run *run = &s->run;
    char url[URL_SIZE], *body;
    json_t *json;

    draw_id(run);
    run->state = RUN_STARTING;
    run->own = true;
    run->certain = false;
    run->begun_ms = clock_wall_ms();
    json_decref(run->task);
    run->task = NULL;
    json = json_pack("{s:s,s:s,s:s,s:o}", "id", run->id, "kind",
                     snapshot_kind_names[run->wish.kind], "store", s->settings.store, "options",
                     options_of(s, &run->wish));
    if (run->wish.snapshot[0])
        json_object_set_new(json, "snapshot", json_string(run->wish.snapshot));
    if (run->wish.who[0])
        json_object_set_new(json, "who", json_string(run->wish.who));
    body = json_dump_line(json);
    json_decref(json);
    node_url(&s->cluster->nodes[run->slot], "/v1/task", url, sizeof url);
    run->call = http_call(s->cluster->client,
                          &(struct http_call_spec){.method = "POST",
                                                   .url = url,
                                                   .token = s->cluster->orchestrator->peer_token,
                                                   .body = body,
                                                   .body_size = strlen(body),
                                                   .timeout_ms = BEGIN_TIMEOUT_MS,
                                                   .no_reuse = true},
                          posted, s);
    free(body);
}

static int cannot(const struct snapshots *s, const struct snapshot_wish *wish, struct err *err)
{
    const char *needs = wish->kind == SNAPSHOT_CREATE
                            ? "its agent must answer, and its Postgres lead, or stream with "
                              "complete data"
                            : "its agent must answer";

    if (wish->node != NODE_NONE)
        err_set(err, ERR_UNAVAILABLE, "%s is not fit for a %s: %s",
                s->cluster->nodes[wish->node].id, snapshot_kind_names[wish->kind], needs);
    else
        err_set(err, ERR_UNAVAILABLE, "no node of cluster %s is fit for a %s: %s", s->cluster->name,
                snapshot_kind_names[wish->kind], needs);
    return 503;
}

int snapshot_run_begin(struct snapshots *s, const struct snapshot_wish *wish, bool wait,
                       snapshot_fn *fn, void *arg, struct snapshot_call **call, struct err *err)
{
    struct snapshot_run *run = &s->run;
    bool leads;
    int32_t slot;

    if (snapshot_run_active(s)) {
        err_set(err, ERR_CONFLICT,
                "a %s is under way on %s: one task at a time in a cluster; wait for it to end",
                snapshot_kind_names[run->wish.kind], s->cluster->nodes[run->slot].id);
        return 409;
    }
    slot = snapshots_choose(s, wish->kind, wish->node, NODE_NONE, &leads);
    if (slot == NODE_NONE)
        return cannot(s, wish, err);
    json_decref(run->task);
    memset(run, 0, sizeof *run);
    run->wish = *wish;
    run->wish.options = wish->options ? json_deep_copy(wish->options) : NULL;
    run->slot = slot;
    run->avoid = NODE_NONE;
    if (leads)
        snapshots_event(s, "A7", slot, "no follower is fit for a %s: the leader does it",
                        snapshot_kind_names[wish->kind]);
    if (fn) {
        *call = xcalloc(1, sizeof **call);
        **call = (struct snapshot_call){.next = s->calls, .wait = wait, .fn = fn, .arg = arg};
        s->calls = *call;
    }
    send_task(s);
    return 0;
}

/* --- following ---------------------------------------------------------------------------------
 */

static void ended(struct snapshots *s)
{
    const json_t *error = json_object_get(s->run.task, "error");

    if (strcmp(text_of(s->run.task, "state"), "done") == 0)
        succeeded(s);
    else
        failed(s, 502, text_of(error, "code"),
               text_of(error, "text")[0] ? text_of(error, "text") : "the agent gave no reason");
}

/* Found running: another orchestrator began it, or this one before it was restarted. */
static void adopt(struct snapshots *s, int32_t slot, const json_t *task)
{
    struct snapshot_run *run = &s->run;
    const char *id = text_of(task, "id"), *kind = text_of(task, "kind");
    const char *snapshot = text_of(json_object_get(task, "snapshot"), "id");
    uint64_t bits = bits_of(id);

    json_decref(run->task);
    json_decref(run->wish.options);
    memset(run, 0, sizeof *run);
    run->wish.node = NODE_NONE;
    run->wish.scheduled = bits & ID_SCHEDULED;
    run->wish.kind = kind_of(task);
    if (run->wish.kind != SNAPSHOT_CREATE)
        snprintf(run->wish.snapshot, sizeof run->wish.snapshot, "%.*s", SNAPSHOT_ID_LEN, snapshot);
    snprintf(run->wish.who, sizeof run->wish.who, "%.*s", SNAPSHOT_WHO_SIZE - 1,
             text_of(task, "who"));
    snprintf(run->id, sizeof run->id, "%.*s", TASK_ID_SIZE - 1, id);
    run->state = RUN_GOING;
    run->slot = slot;
    run->avoid = NODE_NONE;
    run->second = bits & ID_SECOND;
    run->certain = true;
    run->begun_ms = snapshots_ms_of(task, "begun_ms");
    run->task = dressed(s, slot, task);
    if (clock_mono_ms() - s->since_ms < ADOPTED_WITHIN_MS)
        snapshots_event(s, "A6", slot, "a %s that runs already is followed", kind);
}

static void seen_own(struct snapshots *s, const json_t *task)
{
    struct snapshot_run *run = &s->run;
    bool running = strcmp(text_of(task, "state"), "running") == 0;

    if (run->state == RUN_STARTING || (run->state == RUN_AGAIN && !running))
        return;
    if (run->state == RUN_AGAIN) {
        run->second = bits_of(run->id) & ID_SECOND; /* it was only out of reach */
        run->state = RUN_GOING;
        run->lost_since_ms = 0;
    }
    if (!run->certain) {
        begun(s, task);
        if (running)
            return;
    }
    json_decref(run->task);
    run->task = dressed(s, run->slot, task);
    if (!running)
        ended(s);
}

/* Its agent tells of no task at all, or of another one: then ours has ended, and how shows only in
 * what the store holds. */
static void not_ours(struct snapshots *s, bool another)
{
    struct snapshot_run *run = &s->run;
    const char *id = s->cluster->nodes[run->slot].id;
    char text[SNAPSHOT_TEXT_SIZE];

    if (run->certain && another) {
        clear(s);
        snapshot_index_refresh(s);
        answer(s, 502, run->task,
               "its agent has begun another task since: whether it was done shows in the list of "
               "snapshots");
        return;
    }
    snprintf(text, sizeof text,
             run->certain ? "the agent of %s was restarted in the middle of it"
                          : "the agent of %s did not answer in time, and has not begun it",
             id);
    failed(s, 502, "unavailable", text);
}

void snapshot_run_seen(struct snapshots *s, int32_t slot, const json_t *task)
{
    struct snapshot_run *run = &s->run;
    const char *id = text_of(task, "id");
    bool running = strcmp(text_of(task, "state"), "running") == 0;
    bool same_kind = snapshot_run_active(s) && kind_of(task) == run->wish.kind;

    if (snapshot_run_active(s) && slot == run->slot && strcmp(id, run->id) == 0) {
        seen_own(s, task);
        return;
    }
    if (run->state == RUN_GOING && slot == run->slot)
        not_ours(s, *id != '\0');
    if (!running)
        seen_done(s, task);
    else if (kind_of(task) != SNAPSHOT_NONE &&
             (run->state == RUN_NONE || (run->state == RUN_AGAIN && same_kind)))
        adopt(s, slot, task);
}

static void check_lost(struct snapshots *s, int64_t now_ms)
{
    struct snapshot_run *run = &s->run;
    const struct node *node = &s->cluster->nodes[run->slot];
    int64_t patience_ms = node->view.refuses ? LOST_REFUSED_MS : LOST_MS;
    char text[SNAPSHOT_TEXT_SIZE];

    if (!run->lost_since_ms || now_ms - run->lost_since_ms < patience_ms)
        return;
    snprintf(text, sizeof text, "the agent of %s does not answer any more", node->id);
    failed(s, 502, "unavailable", text);
}

static void choose_and_send(struct snapshots *s)
{
    struct snapshot_run *run = &s->run;
    bool leads;
    int32_t slot = snapshots_choose(s, run->wish.kind, run->wish.node, run->avoid, &leads);

    if (slot == NODE_NONE || !s->settings.store) {
        run->again_ms = clock_mono_ms() + AGAIN_PAUSE_MS;
        return;
    }
    run->slot = slot;
    if (leads)
        snapshots_event(s, "A7", slot, "no other follower is fit for a %s: the leader does it",
                        snapshot_kind_names[run->wish.kind]);
    send_task(s);
}

void snapshot_run_tick(struct snapshots *s, int64_t now_ms)
{
    struct snapshot_run *run = &s->run;

    if (run->state == RUN_GOING)
        check_lost(s, now_ms);
    if (run->state != RUN_AGAIN || now_ms < run->again_ms)
        return;
    if (now_ms < run->until_ms)
        choose_and_send(s);
    else
        failed_for_good(s, 502);
}

void snapshot_run_stop(struct snapshots *s)
{
    http_call_cancel(s->run.call);
    s->run.call = NULL;
    while (s->calls) {
        struct snapshot_call *call = s->calls;

        s->calls = call->next;
        free(call);
    }
}
