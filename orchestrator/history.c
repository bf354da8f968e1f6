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
    SUBSCRIBERS_MAX = 64,
    KEEP_TIMEOUT_MS = 5000,
    COPIES_WITHIN_MS = 10000,
    WHO_MAX = 63,   /* what agents take of a name, */
    TEXT_MAX = 280, /* and of a text */
};

/* Of an operator's action as the agents keep it for us. */
#define REASON_AUDIT "O0"

/* An event's identity is (source, run, sequence), and its time, for a replaced machine counts anew:
 * agents number what they log, and a merged one is never added twice. */
struct entry {
    uint64_t number; /* in the order it became known here; what `since` speaks of */
    json_t *event;
};

struct subscriber {
    history_fn *fn;
    void *arg;
};

struct history {
    uint64_t next_number;
    uint64_t next_own; /* sequence of this orchestrator's own events */
    uint32_t count;
    uint32_t first; /* ring */
    struct entry entries[HISTORY_MAX];
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
        json_decref(history->entries[(history->first + i) % HISTORY_MAX].event);
    free(history);
}

static struct entry *entry_at(struct history *history, uint32_t i)
{
    return &history->entries[(history->first + i) % HISTORY_MAX];
}

static bool equal_field(const json_t *a, const json_t *b, const char *name)
{
    return json_equal(json_object_get(a, name), json_object_get(b, name)) ||
           (!json_object_get(a, name) && !json_object_get(b, name));
}

static int64_t time_of(const json_t *event)
{
    const char *text = json_string_value(json_object_get(event, "time"));
    int64_t ms = 0;

    return text && clock_parse_iso8601(text, &ms, NULL) == 0 ? ms : 0;
}

/* Each agent that can be reached keeps an operator's action: one of them is enough to tell of it.
 */
static bool same_audit(const json_t *a, const json_t *b)
{
    const char *reason = json_string_value(json_object_get(b, "reason"));
    int64_t apart_ms = time_of(a) - time_of(b);

    return reason && strcmp(reason, REASON_AUDIT) == 0 && equal_field(a, b, "reason") &&
           !equal_field(a, b, "source") && equal_field(a, b, "text") && equal_field(a, b, "who") &&
           apart_ms < COPIES_WITHIN_MS && apart_ms > -COPIES_WITHIN_MS;
}

static bool same_event(const json_t *a, const json_t *b)
{
    return (equal_field(a, b, "sequence") && equal_field(a, b, "source") &&
            equal_field(a, b, "run") && equal_field(a, b, "time")) ||
           same_audit(a, b);
}

void history_add(struct cluster *cluster, const char *source, json_t *event)
{
    struct history *history = cluster->history;
    struct entry *entry;

    json_object_set_new(event, "source", json_string(source));
    for (uint32_t i = history->count; i > 0; i--) {
        if (same_event(entry_at(history, i - 1)->event, event)) {
            json_decref(event);
            return;
        }
    }
    if (history->count == HISTORY_MAX) {
        json_decref(entry_at(history, 0)->event);
        history->first = (history->first + 1) % HISTORY_MAX;
        history->count--;
    }
    entry = entry_at(history, history->count++);
    entry->number = history->next_number++;
    entry->event = event;
    for (uint32_t i = 0; i < history->subscriber_count; i++)
        history->subscribers[i].fn(entry->number, event, history->subscribers[i].arg);
    redis_publish_event(cluster, event);
}

static void add_own(struct cluster *cluster, json_t *event)
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
    add_own(cluster,
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
        (void)http_call(cluster->orchestrator->client,
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
    add_own(cluster, event);
}

static int by_time(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    int64_t first = time_of((*x)->event), second = time_of((*y)->event);

    if (first != second)
        return first < second ? -1 : 1;
    return ((*x)->number > (*y)->number) - ((*x)->number < (*y)->number);
}

/* Agents' logs arrive one after the other, so the order of arrival is not that of time. */
json_t *history_list(const struct cluster *cluster, uint64_t since, uint32_t limit)
{
    struct history *history = cluster->history;
    struct entry **found = xcalloc(history->count + 1, sizeof(found[0]));
    json_t *list = json_array();
    uint32_t count = 0;

    for (uint32_t i = 0; i < history->count; i++)
        if (entry_at(history, i)->number > since)
            found[count++] = entry_at(history, i);
    qsort(found, count, sizeof(found[0]), by_time);
    for (uint32_t i = count > limit ? count - limit : 0; i < count; i++) {
        json_t *copy = json_copy(found[i]->event);

        json_object_set_new(copy, "number", json_integer((json_int_t)found[i]->number));
        json_array_append_new(list, copy);
    }
    free(found);
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
