#include "agent/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { PATH_SIZE = 1024 };

struct events {
    json_t *ring[EVENTS_KEPT]; /* entry of sequence s at s % EVENTS_KEPT */
    char run[17];
    uint64_t last;
    uint64_t first; /* oldest in the ring; last + 1: none */
    char *pending;
    size_t pending_len;
};

static void file_path(const char *state_directory, const char *suffix, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/events.jsonl%s", state_directory, suffix);
}

static void ring_put(struct events *events, json_t *entry, uint64_t sequence)
{
    json_t **place = &events->ring[sequence % EVENTS_KEPT];

    json_decref(*place);
    *place = entry;
    if (events->first == 0 || sequence != events->last + 1) {
        /* a gap (lines lost with a crash): what is before it is not kept in memory */
        events->first = sequence;
    } else if (sequence - events->first >= EVENTS_KEPT) {
        events->first = sequence - EVENTS_KEPT + 1;
    }
    events->last = sequence;
}

static void load_line(struct events *events, const char *line, size_t len)
{
    json_t *entry = NULL;
    int64_t sequence;

    if (len == 0 || json_parse_bounded(line, len, 8, &entry, NULL) < 0)
        return;
    if (json_field_int(entry, "sequence", JSON_REQUIRED, 1, INT64_MAX, &sequence, NULL) < 0 ||
        (uint64_t)sequence <= events->last) {
        json_decref(entry);
        return;
    }
    ring_put(events, entry, (uint64_t)sequence);
}

static int load_file(struct events *events, const char *path, struct err *err)
{
    char *data, *line, *end;

    if (file_read(path, 2 * EVENTS_FILE_BYTES, &data, NULL, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    for (line = data; (end = strchr(line, '\n')) != NULL; line = end + 1)
        load_line(events, line, (size_t)(end - line));
    free(data);
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
    return err_context(err, "event log");
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < EVENTS_KEPT; i++)
        json_decref(events->ring[i]);
    free(events->pending);
    free(events);
}

static void pending_add(struct events *events, const json_t *entry)
{
    char *line = json_dump_line(entry);
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
    uint64_t at = since + 1 > events->first ? since + 1 : events->first;

    for (; events->first && at <= events->last && json_array_size(list) < limit; at++)
        json_array_append(list, events->ring[at % EVENTS_KEPT]);
    json_object_set_new(answer, "events", list);
    json_object_set_new(answer, "first", json_integer((json_int_t)events->first));
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

int events_append(const char *state_directory, const char *lines, struct err *err)
{
    char path[PATH_SIZE], old[PATH_SIZE];
    size_t len = strlen(lines);
    struct stat st;
    ssize_t n;
    int fd, rc = 0;

    file_path(state_directory, "", path);
    file_path(state_directory, ".1", old);
    if (stat(path, &st) == 0 && (size_t)st.st_size + len > EVENTS_FILE_BYTES &&
        rename(path, old) != 0)
        return err_set_errno(err, errno, "cannot rename %s", path);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    n = write(fd, lines, len);
    if (n < 0)
        rc = err_set_errno(err, errno, "cannot write %s", path);
    else if ((size_t)n < len)
        rc = err_set(err, ERR_NO_SPACE, "cannot write all of %zu bytes to %s", len, path);
    close(fd);
    return rc;
}
