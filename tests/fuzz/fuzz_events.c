/* Any bytes as the event log and as the replication note: what is damaged is skipped or refused,
 * and the log goes on behind it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/events.h"
#include "agent/recall.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/unit/faulty_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Lines that are objects, sealed; all others as they are. */
static void put_lines(const char *data, size_t size)
{
    disk_put("events.jsonl", "", 0);
    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t len = end == NULL ? size : (size_t)(end - data) + 1;
        json_t *object;

        if (json_parse_bounded(data, len, 8, &object, NULL) == 0 && json_object_size(object) > 0) {
            char *line = json_dump_sealed(object);

            disk_fill("events.jsonl", line, strlen(line));
            disk_fill("events.jsonl", "\n", end != NULL);
            free(line);
        } else {
            disk_fill("events.jsonl", data, len);
        }
        json_decref(object);
        data += len;
        size -= len;
    }
}

static size_t listed(const struct events *events, const char *last_text)
{
    json_t *answer = events_list(events, 0, EVENTS_KEPT), *list, *entry;
    int64_t before = 0, sequence;
    size_t i, count;

    list = json_object_get(answer, "events");
    count = json_array_size(list);
    json_array_foreach(list, i, entry)
    {
        OGEL_CHECK(json_field_int(entry, "sequence", JSON_REQUIRED, before + 1, INT64_MAX,
                                  &sequence, NULL) == 0);
        before = sequence;
    }
    OGEL_CHECK((uint64_t)before == events_last(events));
    if (last_text != NULL)
        OGEL_CHECK(
            strcmp(json_string_value(json_object_get(json_array_get(list, count - 1), "text")),
                   last_text) == 0);
    json_decref(answer);
    return count;
}

static void as_log(void)
{
    struct events *events;
    struct err err = {0};
    size_t count;
    char *lines;

    OGEL_CHECK(events_open(DISK_DIRECTORY, 1, &events, &err) == 0);
    count = listed(events, NULL);
    if (events_last(events) < INT64_MAX) {
        events_add(events, &(struct event){.node = "n1", .reason = "N6", .text = "later"});
        lines = events_take_lines(events);
        OGEL_CHECK(events_append(DISK_DIRECTORY, lines, &err) == 0);
        free(lines);
        events_free(events);
        OGEL_CHECK(events_open(DISK_DIRECTORY, 2, &events, &err) == 0);
        OGEL_CHECK(listed(events, "later") == (count < EVENTS_KEPT ? count + 1 : count));
    }
    events_free(events);
}

static void as_note(const uint8_t *data, size_t size)
{
    struct recall recall, again;
    struct err err = {0};
    json_t *object;

    if (json_parse_bounded((const char *)data, size, 8, &object, NULL) == 0 &&
        json_object_size(object) > 0) {
        char *line = json_dump_sealed(object);

        disk_put("replication", line, strlen(line));
        free(line);
    } else {
        disk_put("replication", data, size);
    }
    json_decref(object);
    if (recall_read(DISK_DIRECTORY, &recall, &err) < 0) {
        OGEL_CHECK(strncmp(err.text, DISK_DIRECTORY "/replication", 22) == 0);
        return;
    }
    OGEL_CHECK(recall_write(DISK_DIRECTORY, &recall, &err) == 0);
    OGEL_CHECK(recall_read(DISK_DIRECTORY, &again, &err) == 0);
    OGEL_CHECK(strcmp(recall.names, again.names) == 0 &&
               recall.replication.generation == again.replication.generation);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_set_level(LOG_LEVEL_FATAL);
    disk_make();
    put_lines((const char *)data, size);
    as_log();
    as_note(data, size);
    disk_remove();
    return 0;
}
