#include "orchestrator/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "orchestrator/shell.h"

enum { HISTORY_MAX = 2000, SUBSCRIBERS_MAX = 64 };

/* An event's identity is (source, run, sequence): agents number what they log, and a merged one is never added twice. */
struct entry {
    uint64_t number;            /* in the order it became known here; what `since` speaks of */
    json_t *event;
};

struct subscriber {
    history_fn *fn;
    void *arg;
};

struct history {
    uint64_t next_number;
    uint64_t next_own;          /* sequence of this orchestrator's own events */
    uint32_t count;
    uint32_t first;             /* ring */
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

static bool same_event(const json_t *a, const json_t *b)
{
    return json_equal(json_object_get(a, "sequence"), json_object_get(b, "sequence")) &&
           json_equal(json_object_get(a, "source"), json_object_get(b, "source")) &&
           json_equal(json_object_get(a, "run"), json_object_get(b, "run"));
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

    snprintf(run, sizeof run, "%016llx", (unsigned long long) cluster->orchestrator->proposer);
    json_object_set_new(event, "time", json_string(clock_format_iso8601(clock_wall_ms(), now)));
    json_object_set_new(event, "run", json_string(run));
    json_object_set_new(event, "sequence", json_integer((json_int_t) cluster->history->next_own++));
    history_add(cluster, "orchestrator", event);
}

void history_event(struct cluster *cluster, const struct plan_event *event)
{
    add_own(cluster, json_pack("{s:s,s:s,s:s?,s:I,s:s}", "kind", "decision", "reason", reason_code(event->reason),
                               "node", event->node >= 0 ? cluster->nodes[event->node].id : NULL, "generation",
                               (json_int_t) event->generation, "text", reason_text(event->reason)));
}

void history_audit(struct cluster *cluster, const char *who, const char *action, json_t *details)
{
    json_t *event = json_pack("{s:s,s:s,s:s,s:o}", "kind", "audit", "who", who ? who : "unknown", "action", action,
                              "details", details ? details : json_object());
    char *text = xasprintf("%s asked for: %s", who ? who : "unknown", action);

    json_object_set_new(event, "text", json_string(text));
    free(text);
    log_event(LOG_LEVEL_INFO, "audit", "{s:s,s:s,s:s,s:O}", "cluster", cluster->name, "who",
              who ? who : "unknown", "action", action, "details", json_object_get(event, "details"));
    add_own(cluster, event);
}

json_t *history_list(const struct cluster *cluster, uint64_t since, uint32_t limit)
{
    struct history *history = cluster->history;
    json_t *list = json_array();
    uint32_t begin = history->count;

    while (begin > 0 && history->count - begin < limit && entry_at(history, begin - 1)->number > since)
        begin--;
    for (; begin < history->count; begin++) {
        struct entry *entry = entry_at(history, begin);
        json_t *copy = json_copy(entry->event);

        json_object_set_new(copy, "number", json_integer((json_int_t) entry->number));
        json_array_append_new(list, copy);
    }
    return list;
}

bool history_subscribe(struct cluster *cluster, history_fn *fn, void *arg)
{
    struct history *history = cluster->history;

    if (history->subscriber_count == SUBSCRIBERS_MAX)
        return false;
    history->subscribers[history->subscriber_count++] = (struct subscriber) {.fn = fn, .arg = arg};
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
