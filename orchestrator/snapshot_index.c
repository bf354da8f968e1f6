/* What the store holds, as an agent read it: kept here, with a copy in Redis for whoever likes and
 * for the next orchestrator. Read again after each task, on demand, and when it is lost. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/redis.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"

enum {
    READ_TIMEOUT_MS = 65000, /* an agent gives its child 60 s */
    AGAIN_MS = 15000,
    ANSWER_MAX = 64 << 20,
    ANSWER_DEPTH = 12,
    URL_SIZE = 2048,
    KEY_SIZE = CLUSTER_NAME_SIZE + 32,
    SLACK_MS = 5000, /* between the clocks of the machines */
};

struct snapshot_index_call {
    struct snapshot_index_call *next;
    bool gone;
    snapshot_index_fn *fn;
    void *arg;
};

static void read_from_next(struct snapshots *s);

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

/* --- who waits ---------------------------------------------------------------------------------
 */

static void answer(struct snapshots *s, int status, const char *detail)
{
    struct snapshot_index_call *call = s->index.waiting;

    s->index.waiting = NULL;
    while (call) {
        struct snapshot_index_call *next = call->next;

        if (!call->gone)
            call->fn(status, status == 200 ? s->index.list : NULL, detail, call->arg);
        free(call);
        call = next;
    }
}

void snapshot_index_forget(struct snapshot_index_call *call)
{
    if (call)
        call->gone = true;
}

/* --- what is in it -----------------------------------------------------------------------------
 */

/* Several clusters may share a store; a cluster's own have its system id. */
static bool is_own(const struct snapshots *s, const json_t *entry)
{
    char system_id[24];

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node_view *view = &s->cluster->nodes[slot].view;

        if (!view->known || view->report.system_id == 0)
            continue;
        snprintf(system_id, sizeof system_id, "%llu", (unsigned long long)view->report.system_id);
        return strcmp(text_of(entry, "system_id"), system_id) == 0;
    }
    return true;
}

static bool is_whole(const json_t *entry)
{
    return json_is_string(json_object_get(entry, "id")) && !json_object_get(entry, "damage");
}

const json_t *snapshot_index_newest(const struct snapshots *s)
{
    const json_t *entry, *newest = NULL;
    size_t i;

    json_array_foreach(s->index.list, i, entry)
    {
        if (is_whole(entry) && is_own(s, entry) &&
            (!newest ||
             snapshots_ms_of(entry, "stopped_ms") > snapshots_ms_of(newest, "stopped_ms")))
            newest = entry;
    }
    return newest;
}

const json_t *snapshot_index_entry(const struct snapshots *s, const char *id)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(s->index.list, i, entry)
    {
        if (strcmp(text_of(entry, "id"), id) == 0)
            return entry;
    }
    return NULL;
}

static void note_served(struct snapshots *s, enum snapshot_kind kind, int64_t begun_ms)
{
    if (begun_ms + SLACK_MS > s->outcomes[kind].served_ms)
        s->outcomes[kind].served_ms = begun_ms + SLACK_MS;
}

/* What a success of long ago left in the store; this process may not have been there. */
static void note_outcome(struct snapshots *s, enum snapshot_kind kind, const json_t *entry,
                         int64_t ended_ms, int64_t duration_ms)
{
    struct snapshot_outcome *outcome = &s->outcomes[kind];

    if (ended_ms <= outcome->ended_ms)
        return;
    outcome->ended_ms = ended_ms;
    outcome->duration_ms = duration_ms;
    outcome->logical_bytes = snapshots_ms_of(entry, "logical_bytes");
    outcome->stored_bytes = snapshots_ms_of(entry, "stored_bytes");
    snprintf(outcome->id, sizeof outcome->id, "%.*s", SNAPSHOT_ID_LEN, text_of(entry, "id"));
}

static const char *const marks[SNAPSHOT_KINDS] = {
    [SNAPSHOT_VERIFY] = "verified_ms", [SNAPSHOT_DRILL] = "drilled_ms"};

void snapshot_index_note(struct snapshots *s, enum snapshot_kind kind, const json_t *task)
{
    const json_t *snapshot = json_object_get(task, "snapshot");
    const char *id = text_of(snapshot, "id");
    json_t *entry = (json_t *)(uintptr_t)snapshot_index_entry(s, id);

    if (!s->index.list || !*id)
        return;
    if (kind == SNAPSHOT_CREATE && !entry)
        json_array_append_new(s->index.list, json_deep_copy(snapshot));
    else if (marks[kind] && entry)
        json_object_set_new(entry, marks[kind], json_integer(snapshots_ms_of(task, "ended_ms")));
}

static void note_entries(struct snapshots *s)
{
    const json_t *newest = snapshot_index_newest(s), *entry;
    size_t i;

    if (newest) {
        int64_t begun_ms = snapshots_ms_of(newest, "started_ms");
        int64_t ended_ms = snapshots_ms_of(newest, "stopped_ms");

        note_served(s, SNAPSHOT_CREATE, begun_ms);
        note_outcome(s, SNAPSHOT_CREATE, newest, ended_ms, ended_ms - begun_ms);
    }
    json_array_foreach(s->index.list, i, entry)
    {
        for (int kind = SNAPSHOT_VERIFY; kind < SNAPSHOT_TIMED && is_own(s, entry); kind++) {
            int64_t ms = snapshots_ms_of(entry, marks[kind]);

            if (ms > 0) {
                note_served(s, (enum snapshot_kind)kind, ms);
                note_outcome(s, (enum snapshot_kind)kind, entry, ms, 0);
            }
        }
    }
}

/* --- Redis -------------------------------------------------------------------------------------
 */

static void key_of(const struct snapshots *s, const char *suffix, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "ogel:%s:snapshots%s", s->cluster->name, suffix);
}

static bool redis_is_up(const struct snapshots *s)
{
    struct redis_status status;

    if (!s->cluster->orchestrator->redis)
        return false;
    redis_status(s->cluster->orchestrator->redis, &status);
    return status.state == REDIS_UP;
}

static json_t *copy_of(const struct snapshots *s)
{
    return json_pack("{s:s,s:I,s:O}", "store", s->index.store, "read_ms",
                     (json_int_t)s->index.read_ms, "snapshots", s->index.list);
}

/* The index, and beside it only its time: small, so that it may be looked at often. */
static void write_copy(struct snapshots *s)
{
    struct redis *redis = s->cluster->orchestrator->redis;
    char key[KEY_SIZE], time[24], *text;
    json_t *json;

    if (!redis_is_up(s) || !s->index.list)
        return;
    json = copy_of(s);
    text = json_dump_line(json);
    json_decref(json);
    key_of(s, "", key);
    redis_set(redis, key, text, strlen(text), NULL, NULL);
    free(text);
    key_of(s, ":read_ms", key);
    snprintf(time, sizeof time, "%lld", (long long)s->index.read_ms);
    redis_set(redis, key, time, strlen(time), NULL, NULL);
}

/* Takes over what another orchestrator has read since, or this one's predecessor. */
static void copy_read(bool ok, const char *value, size_t size, const char *error, void *arg)
{
    struct snapshots *s = arg;
    const json_t *list = NULL;
    struct err err = {0};
    int64_t read_ms = 0;
    json_t *json = NULL;

    (void)error;
    if (!ok || !value || !s->timer || !s->settings.store ||
        json_parse_bounded(value, size, ANSWER_DEPTH, &json, &err) ||
        json_field_int(json, "read_ms", JSON_REQUIRED, 0, INT64_MAX, &read_ms, &err) ||
        json_field_array(json, "snapshots", JSON_REQUIRED, SIZE_MAX, &list, &err) ||
        strcmp(text_of(json, "store"), s->settings.store) != 0 || read_ms <= s->index.read_ms)
        goto out;
    json_decref(s->index.list);
    free(s->index.store);
    s->index.list = json_deep_copy(list);
    s->index.store = xstrdup(s->settings.store);
    s->index.read_ms = read_ms;
    s->index.failed = false;
    note_entries(s);
    if (!s->index.call)
        answer(s, 200, "");
out:
    json_decref(json);
}

static void read_copy(struct snapshots *s)
{
    char key[KEY_SIZE];

    if (!redis_is_up(s))
        return;
    key_of(s, "", key);
    redis_get(s->cluster->orchestrator->redis, key, copy_read, s);
}

static void time_read(bool ok, const char *value, size_t size, const char *error, void *arg)
{
    struct snapshots *s = arg;
    char text[24] = "0";
    int64_t read_ms;

    (void)error;
    if (!ok || !s->timer || !s->settings.store || !s->index.list)
        return;
    if (value && size < sizeof text)
        snprintf(text, sizeof text, "%.*s", (int)size, value);
    read_ms = strtoll(text, NULL, 10);
    if (read_ms < s->index.read_ms)
        write_copy(s);
    else if (read_ms > s->index.read_ms)
        read_copy(s);
}

void snapshots_check_redis(struct cluster *cluster)
{
    struct snapshots *s = cluster->snapshots;
    char key[KEY_SIZE];

    if (!s || !s->settings.store || !s->index.list || !redis_is_up(s))
        return;
    key_of(s, ":read_ms", key);
    redis_get(cluster->orchestrator->redis, key, time_read, s);
}

/* --- reading -----------------------------------------------------------------------------------
 */

static void read_ended(struct snapshots *s, int status, const char *detail)
{
    s->index.tried_ms = clock_mono_ms();
    s->index.failed = status != 200;
    snprintf(s->index.error, sizeof s->index.error, "%s", detail);
    answer(s, status, detail);
    snapshots_wake(s);
}

/* The array itself, or {"snapshots": […]}. */
static int take_list(struct snapshots *s, const struct http_result *result, struct err *err)
{
    const json_t *list;
    json_t *json = NULL;

    if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, err))
        return -1;
    list = json_is_array(json) ? json : json_object_get(json, "snapshots");
    if (!json_is_array(list)) {
        json_decref(json);
        return err_set(err, ERR_INVALID, "its answer is no list of snapshots");
    }
    json_decref(s->index.list);
    free(s->index.store);
    s->index.list = json_deep_copy(list);
    s->index.store = xstrdup(s->settings.store);
    s->index.read_ms = clock_wall_ms();
    json_decref(json);
    return 0;
}

static void read_done(const struct http_result *result, void *arg)
{
    struct snapshots *s = arg;
    struct err err = {0};
    json_t *json = NULL;
    bool again = s->index.again;

    s->index.call = NULL;
    s->index.again = false;
    if (again) {
        snapshot_index_refresh(s);
        return;
    }
    if (result->outcome == HTTP_CALL_OK && result->status == 200 &&
        take_list(s, result, &err) == 0) {
        note_entries(s);
        write_copy(s);
        read_ended(s, 200, "");
        return;
    }
    if (result->outcome != HTTP_CALL_OK) {
        snprintf(s->index.error, sizeof s->index.error, "%s", result->error);
    } else if (result->status == 200) {
        snprintf(s->index.error, sizeof s->index.error, "%s", err.text);
    } else {
        if (json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, &err))
            json = NULL;
        snprintf(s->index.error, sizeof s->index.error, "%s",
                 text_of(json, "detail")[0] ? text_of(json, "detail") : "it gave no reason");
        json_decref(json);
    }
    read_from_next(s);
}

/* A follower before the leader, each once. */
static int32_t next_reader(const struct snapshots *s)
{
    int32_t best = NODE_NONE;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (!s->index.asked[slot] && s->cluster->nodes[slot].view.reachable &&
            (best == NODE_NONE || best == s->cluster->plan.leader))
            best = slot;
    return best;
}

static void read_from_next(struct snapshots *s)
{
    int32_t slot = next_reader(s);
    char detail[SNAPSHOT_TEXT_SIZE], path[URL_SIZE - 256], url[URL_SIZE];
    size_t used;

    if (slot == NODE_NONE) {
        snprintf(detail, sizeof detail, "what the store holds could not be read: %.400s",
                 s->index.error[0] ? s->index.error : "no agent answers");
        read_ended(s, 503, detail);
        return;
    }
    used = (size_t)snprintf(path, sizeof path, "/v1/snapshots?store=");
    for (const char *at = s->settings.store; *at && used < sizeof path - 4; at++)
        used += (size_t)snprintf(path + used, sizeof path - used, "%%%02X", (unsigned char)*at);
    s->index.asked[slot] = true;
    node_url(&s->cluster->nodes[slot], path, url, sizeof url);
    s->index.call = http_call(s->cluster->client,
                              &(struct http_call_spec){
                                  .url = url,
                                  .token = s->cluster->orchestrator->peer_token,
                                  .timeout_ms = READ_TIMEOUT_MS,
                                  .max_body = ANSWER_MAX,
                              },
                              read_done, s);
}

void snapshot_index_refresh(struct snapshots *s)
{
    if (!s->settings.store)
        return;
    if (s->index.call) {
        s->index.again = true;
        return;
    }
    if (!s->index.list)
        read_copy(s);
    memset(s->index.asked, 0, sizeof s->index.asked);
    s->index.error[0] = '\0';
    read_from_next(s);
}

/* What could not be read may be readable later. */
void snapshot_index_tick(struct snapshots *s, int64_t now_ms)
{
    if (s->index.failed && !s->index.call && now_ms - s->index.tried_ms > AGAIN_MS)
        snapshot_index_refresh(s);
}

struct snapshot_index_call *snapshot_index_get(struct snapshots *s, bool refresh,
                                               snapshot_index_fn *fn, void *arg)
{
    struct snapshot_index_call *call;

    if (s->index.list && !refresh) {
        fn(200, s->index.list, "", arg);
        return NULL;
    }
    call = xcalloc(1, sizeof *call);
    *call = (struct snapshot_index_call){.next = s->index.waiting, .fn = fn, .arg = arg};
    s->index.waiting = call;
    if (!s->index.call || refresh)
        snapshot_index_refresh(s);
    return s->index.waiting ? call : NULL; /* no agent may answer: then it is answered already */
}

void snapshot_index_drop(struct snapshots *s)
{
    http_call_cancel(s->index.call);
    s->index.call = NULL;
    s->index.again = false;
    json_decref(s->index.list);
    free(s->index.store);
    s->index.list = NULL;
    s->index.store = NULL;
    s->index.read_ms = 0;
    s->index.failed = false;
    s->index.error[0] = '\0';
    answer(s, 503, "the store was changed meanwhile: ask again");
}

void snapshot_index_stop(struct snapshots *s)
{
    http_call_cancel(s->index.call);
    s->index.call = NULL;
    while (s->index.waiting) {
        struct snapshot_index_call *call = s->index.waiting;

        s->index.waiting = call->next;
        free(call);
    }
}
