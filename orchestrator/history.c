#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "orchestrator/shell.h"

enum {
    HISTORY_MAX = 2000,
    EVENT_BYTES_MAX = 4096,
    EVENT_DEPTH = 16,
    SUBSCRIBERS_MAX = 64,
    KEEP_TIMEOUT_MS = 5000,
    COPIES_WITHIN_MS = 10000,
    STALE_MS = 60000, /* older than this it is history, no news to publish */
    WHO_MAX = 63,     /* what agents take of a name, */
    TEXT_MAX = 280,   /* and of a text */
};

/* Of an operator's action as the agents keep it for us. */
#define REASON_AUDIT "O0"

/* Kept as text, which takes a fifth of what JSON in memory would: there may be hundreds of
 * clusters. Identities are compared as hashes: a start merges thousands of events at once. */
struct entry {
    uint64_t number; /* in the order it became known here; what `since` speaks of */
    int64_t time_ms;
    uint64_t identity;
    uint64_t action; /* of an operator's action: who and what; 0: it is none */
    uint64_t source;
    char *text;
};

struct subscriber {
    history_fn *fn;
    void *arg;
};

struct history {
    uint64_t next_number;
    uint64_t next_own; /* sequence of this orchestrator's own events */
    uint32_t count, capacity;
    struct entry *entries; /* ascending by time, then number */
    uint32_t subscriber_count;
    struct subscriber subscribers[SUBSCRIBERS_MAX];
};

struct history *history_new(void)
{
    struct history *history = xcalloc(1, sizeof *history);

    history->next_number = 1;
    history->next_own = 1;
    return history;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    for (uint32_t i = 0; i < history->count; i++)
        free(history->entries[i].text);
    free(history->entries);
    free(history);
}

/* --- identity --------------------------------------------------------------------------------- */

/* FNV-1a; the NUL that ends TEXT is part of it, so that fields do not run into each other. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    do
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    while (*text++);
    return hash;
}

static uint64_t hash_field(uint64_t hash, const json_t *event, const char *name)
{
    const json_t *value = json_object_get(event, name);
    const char *text = json_string_value(value);
    char number[24];

    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        text = number;
    }
    return hash_text(hash, text ? text : "");
}

static uint64_t hash_fields(const json_t *event, const char *const *names)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (; *names; names++)
        hash = hash_field(hash, event, *names);
    return hash;
}

static int64_t time_of(const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "time"));
    int64_t ms;

    return text && clock_parse_iso8601(text, &ms, NULL) == 0 ? ms : clock_wall_ms();
}

/* (source, run, sequence), and its time, for a replaced machine counts anew: agents number what
 * they log, and a merged one is never added twice. */
static void identify(struct entry *entry, const json_t *event)
{
    static const char *const identity[] = {"source", "run", "sequence", "time", NULL};
    static const char *const action[] = {"who", "text", NULL};
    static const char *const source[] = {"source", NULL};
    const char *reason = json_string_value(json_object_get(event, "reason"));

    entry->time_ms = time_of(event);
    entry->identity = hash_fields(event, identity);
    entry->source = hash_fields(event, source);
    if (reason && strcmp(reason, REASON_AUDIT) == 0)
        entry->action = hash_fields(event, action);
}

/* Each agent that can be reached keeps an operator's action: one of them is enough to tell of it.
 */
static bool is_copy(const struct entry *a, const struct entry *b)
{
    int64_t apart_ms = a->time_ms - b->time_ms;

    return a->action && a->action == b->action && a->source != b->source &&
           apart_ms < COPIES_WITHIN_MS && apart_ms > -COPIES_WITHIN_MS;
}

static bool is_known(const struct history *history, const struct entry *entry)
{
    for (uint32_t i = history->count; i > 0; i--)
        if (history->entries[i - 1].identity == entry->identity ||
            is_copy(&history->entries[i - 1], entry))
            return true;
    return false;
}

/* --- keeping ---------------------------------------------------------------------------------- */

/* The oldest makes room; false where that is the new one itself. */
static bool make_room(struct history *history, const struct entry *entry)
{
    if (history->count == HISTORY_MAX) {
        if (entry->time_ms < history->entries[0].time_ms)
            return false;
        free(history->entries[0].text);
        memmove(&history->entries[0], &history->entries[1],
                --history->count * sizeof history->entries[0]);
    }
    if (history->count == history->capacity) {
        history->capacity = history->capacity ? 2 * history->capacity : 32;
        history->entries = xreallocarray(history->entries, history->capacity,
                                         sizeof history->entries[0]);
    }
    return true;
}

/* Agents' logs arrive one after the other, so the order of arrival is not that of time. */
static void insert(struct history *history, const struct entry *entry)
{
    uint32_t at = history->count;

    while (at > 0 && history->entries[at - 1].time_ms > entry->time_ms)
        at--;
    memmove(&history->entries[at + 1], &history->entries[at],
            (history->count - at) * sizeof history->entries[0]);
    history->entries[at] = *entry;
    history->count++;
}

void history_add(struct cluster *cluster, const char *source, json_t *event)
{
    struct history *history = cluster->history;
    struct entry entry = {0};

    if (json_object_set_new(event, "source", json_string(source)))
        goto out; /* no object: nothing of ours */
    identify(&entry, event);
    if (is_known(history, &entry))
        goto out;
    entry.text = json_dump_line(event);
    if (strlen(entry.text) > EVENT_BYTES_MAX || !make_room(history, &entry)) {
        free(entry.text);
        goto out;
    }
    entry.number = history->next_number++;
    insert(history, &entry);
    for (uint32_t i = 0; i < history->subscriber_count; i++)
        history->subscribers[i].fn(entry.number, event, history->subscribers[i].arg);
    if (clock_wall_ms() - entry.time_ms < STALE_MS)
        redis_publish_event(cluster, event);
out:
    json_decref(event);
}

void history_note(struct cluster *cluster, json_t *event)
{
    char now[CLOCK_ISO8601_SIZE], run[24];

    snprintf(run, sizeof run, "%016llx", (unsigned long long)cluster->orchestrator->proposer);
    json_object_set_new(event, "time", json_string(clock_format_iso8601(clock_wall_ms(), now)));
    json_object_set_new(event, "run", json_string(run));
    json_object_set_new(event, "sequence", json_integer((json_int_t)cluster->history->next_own++));
    history_add(cluster, "orchestrator", event);
}

void history_event(struct cluster *cluster, const struct plan_event *event)
{
    history_note(cluster,
                 json_pack("{s:s,s:s,s:s?,s:I,s:s}", "kind", "decision", "reason",
                           reason_code(event->reason), "node",
                           event->node >= 0 ? cluster->nodes[event->node].id : NULL, "generation",
                           (json_int_t)event->generation, "text", reason_text(event->reason)));
}

/* Where this orchestrator's end does not reach: at every agent that answers. It need not succeed.
 */
static void kept(const struct http_result *result, void *arg)
{
    (void)result;
    (void)arg;
}

static void keep_at_agents(struct cluster *cluster, const char *who, const char *text)
{
    json_t *json = json_pack("{s:s,s:s,s:s}", "reason", REASON_AUDIT, "who", who, "text", text);
    char *body = json_dump_line(json), url[512];

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (!cluster->nodes[slot].view.reachable)
            continue;
        node_url(&cluster->nodes[slot], "/v1/events", url, sizeof url);
        (void)http_call(cluster->client,
                        &(struct http_call_spec){.method = "POST",
                                                 .url = url,
                                                 .token = cluster->orchestrator->peer_token,
                                                 .body = body,
                                                 .body_size = strlen(body),
                                                 .timeout_ms = KEEP_TIMEOUT_MS},
                        kept, NULL);
    }
    free(body);
    json_decref(json);
}

void history_audit(struct cluster *cluster, const char *who, const char *action, json_t *details)
{
    char name[WHO_MAX + 1], text[TEXT_MAX + 1];
    char *dump = json_object_size(details) > 0 ? json_dump_line(details) : NULL;
    json_t *event;

    snprintf(name, sizeof name, "%.*s", WHO_MAX, who ? who : "unknown");
    snprintf(text, sizeof text, "an operator asked for: %s%s%s", action, dump ? " " : "",
             dump ? dump : "");
    free(dump);
    event = json_pack("{s:s,s:s,s:s,s:s,s:o,s:o}", "kind", "audit", "reason", REASON_AUDIT, "who",
                      name, "action", action, "details", details ? details : json_object(), "text",
                      json_text(text));
    log_event(LOG_LEVEL_INFO, "audit", "{s:s,s:s,s:s,s:O}", "cluster", cluster->name, "who", name,
              "action", action, "details", json_object_get(event, "details"));
    keep_at_agents(cluster, name, json_string_value(json_object_get(event, "text")));
    history_note(cluster, event);
}

json_t *history_list(const struct cluster *cluster, uint64_t since, uint32_t limit)
{
    const struct history *history = cluster->history;
    json_t *list = json_array();
    uint32_t begin = history->count, found = 0;

    for (; begin > 0 && found < limit; begin--)
        found += history->entries[begin - 1].number > since;
    for (; begin < history->count; begin++) {
        const struct entry *entry = &history->entries[begin];
        json_t *event = NULL;

        if (entry->number <= since ||
            json_parse_bounded(entry->text, strlen(entry->text), EVENT_DEPTH, &event, NULL))
            continue;
        json_object_set_new(event, "number", json_integer((json_int_t)entry->number));
        json_array_append_new(list, event);
    }
    return list;
}

bool history_subscribe(struct cluster *cluster, history_fn *fn, void *arg)
{
    struct history *history = cluster->history;

    if (history->subscriber_count == SUBSCRIBERS_MAX)
        return false;
    history->subscribers[history->subscriber_count++] = (struct subscriber){.fn = fn, .arg = arg};
    return true;
}

void history_unsubscribe(struct cluster *cluster, history_fn *fn, void *arg)
{
    struct history *history = cluster->history;

    for (uint32_t i = 0; i < history->subscriber_count; i++) {
        if (history->subscribers[i].fn != fn || history->subscribers[i].arg != arg)
            continue;
        history->subscribers[i] = history->subscribers[--history->subscriber_count];
        return;
    }
}
