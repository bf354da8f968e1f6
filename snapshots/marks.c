#include "snapshots/marks.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "snapshots/manifest.h"

enum { DEPTH_MAX = 4 };

void marks_free(struct marks *marks)
{
    free(marks->entries);
    *marks = (struct marks){0};
}

static struct marks_entry *find(const struct marks *marks, const char *id)
{
    for (size_t i = marks->count; i > 0; i--) {
        if (strcmp(marks->entries[i - 1].id, id) == 0)
            return &marks->entries[i - 1];
    }
    return NULL;
}

const struct marks_entry *marks_find(const struct marks *marks, const char *id)
{
    static const struct marks_entry none;
    const struct marks_entry *found = find(marks, id);

    return found != NULL ? found : &none;
}

static struct marks_entry *find_or_add(struct marks *marks, const char *id)
{
    struct marks_entry *entry = find(marks, id);

    if (entry != NULL)
        return entry;
    if (marks->count == marks->room) {
        marks->room = marks->room == 0 ? 16 : 2 * marks->room;
        marks->entries = xreallocarray(marks->entries, marks->room, sizeof(marks->entries[0]));
    }
    entry = &marks->entries[marks->count++];
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->id, id, SNAPSHOT_ID_SIZE);
    return entry;
}

/* --- reading -------------------------------------------------------------------------------- */

static int note_mark(const char *key, uint64_t size, void *arg, struct err *err)
{
    char id[SNAPSHOT_ID_SIZE];
    const char *rest;

    (void)size;
    (void)err;
    if ((key_split(key, VERIFIED_PREFIX, id, &rest) || key_split(key, DRILLED_PREFIX, id, &rest)) &&
        rest[0] == '\0')
        find_or_add(arg, id);
    return 0;
}

static int note_pin(const char *key, uint64_t size, void *arg, struct err *err)
{
    struct marks_entry *entry;
    char id[SNAPSHOT_ID_SIZE];
    const char *name;

    (void)size;
    (void)err;
    if (!key_split(key, PIN_PREFIX, id, &name) || name[0] == '\0' || strlen(name) >= PIN_NAME_SIZE)
        return 0;
    entry = find_or_add(arg, id);
    if (!snapshot_id_valid(name)) {
        entry->pinned = true;
        memcpy(entry->pin, name, strlen(name) + 1);
    } else {
        memcpy(entry->job, name, strlen(name) + 1);
        if (entry->pin[0] == '\0')
            memcpy(entry->pin, name, strlen(name) + 1);
    }
    return 0;
}

/* The object, if it is there: an empty one is NULL too. */
static int read_object(struct store *store, const char *key, json_t **json, struct err *err)
{
    char *data;
    size_t len;

    *json = NULL;
    if (store_get_all(store, key, MARK_BYTES_MAX, &data, &len, STORE_CALL_TIMEOUT_MS, err) < 0) {
        bool gone = err->code == ERR_NOT_FOUND || err->code == ERR_CORRUPT;

        if (gone)
            err_clear(err);
        return gone ? 0 : -1;
    }
    if (json_parse_bounded(data, len, DEPTH_MAX, json, NULL) < 0)
        *json = NULL;
    free(data);
    return 0;
}

static int read_time(struct store *store, const char *prefix, const char *id, int64_t *ms,
                     struct err *err)
{
    char key[STORE_KEY_MAX], time[CLOCK_ISO8601_SIZE];
    json_t *json;
    int rc;

    prefixed_key(prefix, id, key);
    rc = read_object(store, key, &json, err);
    if (json == NULL ||
        json_field_string(json, "time", JSON_REQUIRED, time, sizeof(time), NULL) < 0 ||
        clock_parse_iso8601(time, ms, NULL) < 0)
        *ms = 0;
    json_decref(json);
    return rc;
}

static int read_note(struct store *store, struct marks_entry *entry, struct err *err)
{
    char key[STORE_KEY_MAX];
    json_t *json;
    int rc;

    pin_key(entry->id, PIN_OPERATOR, key);
    rc = read_object(store, key, &json, err);
    if (json == NULL ||
        json_field_string(json, "note", JSON_REQUIRED, entry->note, sizeof(entry->note), NULL) < 0)
        entry->note[0] = '\0';
    json_decref(json);
    return rc;
}

int marks_load(struct store *store, struct marks *marks, struct err *err)
{
    const int64_t timeout_ms = STORE_CALL_TIMEOUT_MS;
    struct err own = {0};
    int rc;

    *marks = (struct marks){0};
    rc = store_list(store, VERIFIED_PREFIX, note_mark, marks, timeout_ms, &own);
    if (rc == 0)
        rc = store_list(store, DRILLED_PREFIX, note_mark, marks, timeout_ms, &own);
    if (rc == 0)
        rc = store_list(store, PIN_PREFIX, note_pin, marks, timeout_ms, &own);
    for (size_t i = 0; rc == 0 && i < marks->count; i++) {
        struct marks_entry *entry = &marks->entries[i];

        rc = read_time(store, VERIFIED_PREFIX, entry->id, &entry->verified_ms, &own);
        if (rc == 0)
            rc = read_time(store, DRILLED_PREFIX, entry->id, &entry->drilled_ms, &own);
        if (rc == 0 && entry->pinned)
            rc = read_note(store, entry, &own);
    }
    if (rc < 0) {
        marks_free(marks);
        if (err != NULL)
            *err = own;
    }
    return rc;
}

/* --- writing -------------------------------------------------------------------------------- */

static int put_json(struct store *store, const char *key, json_t *json, struct err *err)
{
    char *text = json_dump_line(json);
    const struct store_body body = {.data = text, .size = strlen(text)};
    int rc = store_put(store, key, &body, STORE_CALL_TIMEOUT_MS, err);

    json_decref(json);
    free(text);
    return rc;
}

int marks_put(struct store *store, const char *prefix, const char *id, double seconds,
              struct err *err)
{
    char key[STORE_KEY_MAX], time[CLOCK_ISO8601_SIZE];
    json_t *json = json_pack("{s:s,s:s,s:f}", "id", id, "time",
                             clock_format_iso8601(clock_wall_ms(), time), "seconds", seconds);

    OGEL_CHECK(json != NULL);
    prefixed_key(prefix, id, key);
    return put_json(store, key, json, err);
}

int marks_remove(struct store *store, const char *id, struct err *err)
{
    char key[STORE_KEY_MAX];

    prefixed_key(VERIFIED_PREFIX, id, key);
    if (store_delete(store, key, STORE_CALL_TIMEOUT_MS, err) < 0)
        return -1;
    prefixed_key(DRILLED_PREFIX, id, key);
    return store_delete(store, key, STORE_CALL_TIMEOUT_MS, err);
}

int marks_pin(struct store *store, const char *id, const char *note, const char *who,
              struct err *err)
{
    char key[STORE_KEY_MAX], time[CLOCK_ISO8601_SIZE];
    struct manifest manifest;
    json_t *json;

    if (strlen(note) > PIN_NOTE_MAX)
        return err_set(err, ERR_INVALID, "the note is too long (allowed: %d bytes)", PIN_NOTE_MAX);
    if (manifest_load(store, id, &manifest, err) < 0)
        return -1;
    manifest_free(&manifest);
    pin_key(id, PIN_OPERATOR, key);
    json = json_pack("{s:o,s:o,s:s}", "note", json_text(note), "who", json_text(who), "time",
                     clock_format_iso8601(clock_wall_ms(), time));
    OGEL_CHECK(json != NULL);
    if (put_json(store, key, json, err) < 0)
        return -1;
    /* It may have been deleted in between; after this look it stays. */
    if (manifest_load(store, id, &manifest, err) == 0) {
        manifest_free(&manifest);
        return 0;
    }
    if (err->code == ERR_NOT_FOUND && store_delete(store, key, STORE_CALL_TIMEOUT_MS, NULL) < 0)
        return err_context(err, "its pin could not be taken away again");
    return -1;
}

int marks_unpin(struct store *store, const char *id, struct err *err)
{
    char key[STORE_KEY_MAX];
    uint64_t size;

    if (!snapshot_id_valid(id))
        return err_set(err, ERR_INVALID, "\"%.64s\" is no id of a snapshot", id);
    pin_key(id, PIN_OPERATOR, key);
    if (store_head(store, key, &size, STORE_CALL_TIMEOUT_MS, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, "snapshot %s is not pinned", id)
                   : -1;
    return store_delete(store, key, STORE_CALL_TIMEOUT_MS, err);
}
