#include "agent/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/io_ops.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum { PATH_SIZE = 1024 };

struct kept {
    uint64_t sequence; /* ascending; where lines were lost, with gaps */
    json_t *entry;
};

struct events {
    struct kept ring[EVENTS_KEPT];
    size_t oldest, count; /* in the ring */
    char run[17];
    uint64_t last;
    char *pending;
    size_t pending_len;
};

static void file_path(const char *state_directory, const char *suffix, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/events.jsonl%s", state_directory, suffix);
}

/* The I-th oldest. */
static const struct kept *kept_at(const struct events *events, size_t i)
{
    return &events->ring[(events->oldest + i) % EVENTS_KEPT];
}

static void ring_put(struct events *events, json_t *entry, uint64_t sequence)
{
    struct kept *place = &events->ring[(events->oldest + events->count) % EVENTS_KEPT];

    if (events->count < EVENTS_KEPT)
        events->count++;
    else
        events->oldest = (events->oldest + 1) % EVENTS_KEPT;
    json_decref(place->entry);
    *place = (struct kept){sequence, entry};
    events->last = sequence;
}

/* False: it is damaged. */
static bool load_line(struct events *events, const char *line, size_t len)
{
    json_t *entry = NULL;
    int64_t sequence;

    if (len == 0)
        return true; /* ended a line that was cut off */
    if (json_parse_sealed(line, len, 8, &entry, NULL) < 0)
        return false;
    if (json_field_int(entry, "sequence", JSON_REQUIRED, 1, INT64_MAX, &sequence, NULL) < 0) {
        json_decref(entry);
        return false;
    }
    if ((uint64_t)sequence <= events->last)
        json_decref(entry);
    else
        ring_put(events, entry, (uint64_t)sequence);
    return true;
}

static int load_file(struct events *events, const char *path, struct err *err)
{
    struct err why = {0};
    size_t len, damaged = 0;
    char *data;

    if (file_read(path, 2 * EVENTS_FILE_BYTES, &data, &len, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        return err_set(err, why.code,
                       "event log: %s; put right what is wrong, or move the file away: only this "
                       "node's history is lost with it",
                       why.text);
    }
    for (const char *line = data, *end = data + len; line < end;) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((stop ? stop : end) - line);

        damaged += !load_line(events, line, size);
        line += size + 1;
    }
    free(data);
    if (damaged > 0)
        log_event(LOG_LEVEL_WARNING, "event_log_damaged", "{s:s,s:I}", "path", path,
                  "lines_skipped", (json_int_t)damaged);
    return 0;
}

int events_open(const char *state_directory, uint64_t run, struct events **out, struct err *err)
{
    struct events *events = xcalloc(1, sizeof *events);
    char path[PATH_SIZE];

    snprintf(events->run, sizeof events->run, "%016llx", (unsigned long long)run);
    file_path(state_directory, ".1", path);
    if (load_file(events, path, err) < 0)
        goto fail;
    file_path(state_directory, "", path);
    if (load_file(events, path, err) < 0)
        goto fail;
    *out = events;
    return 0;
fail:
    events_free(events);
    return -1;
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < EVENTS_KEPT; i++)
        json_decref(events->ring[i].entry);
    free(events->pending);
    free(events);
}

static void pending_add(struct events *events, const json_t *entry)
{
    char *line = json_dump_sealed(entry);
    size_t len = strlen(line);

    events->pending = xreallocarray(events->pending, 1, events->pending_len + len + 2);
    memcpy(events->pending + events->pending_len, line, len);
    events->pending_len += len;
    events->pending[events->pending_len++] = '\n';
    events->pending[events->pending_len] = '\0';
    free(line);
}

uint64_t events_add(struct events *events, const struct event *event)
{
    char time[CLOCK_ISO8601_SIZE];
    json_t *entry = json_object();

    json_object_set_new(entry, "sequence", json_integer((json_int_t)events->last + 1));
    json_object_set_new(entry, "run", json_string(events->run));
    json_object_set_new(entry, "kind", json_string(event->who ? "audit" : "step"));
    json_object_set_new(entry, "time", json_string(clock_format_iso8601(clock_wall_ms(), time)));
    json_object_set_new(entry, "node", json_text(event->node));
    json_object_set_new(entry, "generation", json_integer(event->generation));
    json_object_set_new(entry, "reason", json_text(event->reason));
    json_object_set_new(entry, "text", json_text(event->text));
    if (event->who)
        json_object_set_new(entry, "who", json_text(event->who));
    pending_add(events, entry);
    ring_put(events, entry, events->last + 1);
    return events->last;
}

uint64_t events_last(const struct events *events)
{
    return events->last;
}

json_t *events_list(const struct events *events, uint64_t since, size_t limit)
{
    json_t *answer = json_object(), *list = json_array();
    uint64_t first = events->count > 0 ? kept_at(events, 0)->sequence : 0;
    size_t at = events->count;

    while (at > 0 && kept_at(events, at - 1)->sequence > since)
        at--;
    for (; at < events->count && json_array_size(list) < limit; at++)
        json_array_append(list, kept_at(events, at)->entry);
    json_object_set_new(answer, "events", list);
    json_object_set_new(answer, "first", json_integer((json_int_t)first));
    json_object_set_new(answer, "last", json_integer((json_int_t)events->last));
    return answer;
}

char *events_take_lines(struct events *events)
{
    char *lines = events->pending;

    events->pending = NULL;
    events->pending_len = 0;
    return lines;
}

/* The full file becomes the older one. Each step is durable before the next: whatever a power cut
 * leaves of them, no name stands for fewer lines than it did. */
static int rotate(const char *path, struct err *err)
{
    char *old = xasprintf("%s.1", path);
    int rc = file_sync(path, err);

    if (rc == 0 && io_ops->rename(path, old) < 0)
        rc = err_set_errno(err, errno, "cannot rename %s", path);
    if (rc == 0)
        rc = file_sync_parent(path, err);
    free(old);
    return rc;
}

int events_append(const char *state_directory, const char *lines, struct err *err)
{
    size_t len = strlen(lines);
    char path[PATH_SIZE];
    int64_t size;

    file_path(state_directory, "", path);
    if (file_size(path, &size, err) < 0)
        return -1;
    if (size > 0 && (size_t)size + len >= EVENTS_FILE_BYTES && rotate(path, err) < 0)
        return -1;
    return file_append(path, lines, len, err);
}

int events_sync(const char *state_directory, struct err *err)
{
    struct err why = {0};
    char path[PATH_SIZE];

    file_path(state_directory, "", path);
    if (file_sync(path, &why) < 0 && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, "%s", why.text);
    return 0;
}
