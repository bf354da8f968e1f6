#include "snapshots/collect_notes.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "snapshots/names.h"

enum { DEPTH_MAX = 4, VERSION = 1 };

void notes_free(struct collect_notes *notes)
{
    keyset_free(&notes->since);
}

static int read_notes(const json_t *json, struct collect_notes *notes, struct err *err)
{
    const json_t *objects, *value;
    int64_t version;
    const char *key;

    if (json_field_int(json, "version", JSON_REQUIRED, VERSION, VERSION, &version, err) < 0 ||
        json_field_object(json, "since", JSON_REQUIRED, &objects, err) < 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)objects, key, value)
    {
        if (!json_is_integer(value))
            return err_set(err, ERR_INVALID, "field \"%.100s\": expected an integer", key);
        keyset_add(&notes->since, key, json_integer_value(value), NULL);
    }
    return 0;
}

int notes_load(struct store *store, const char *observer, struct collect_notes *notes,
               struct err *err)
{
    struct err why = {0};
    char key[STORE_KEY_MAX], *data;
    json_t *json = NULL;
    size_t len;

    *notes = (struct collect_notes){0};
    prefixed_key(COLLECT_PREFIX, observer, key);
    if (store_get_all(store, key, NOTES_BYTES_MAX, &data, &len, STORE_CALL_TIMEOUT_MS, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        if (why.code != ERR_CORRUPT) {
            if (err != NULL)
                *err = why;
            return -1;
        }
        data = NULL;
    }
    if (data != NULL && (json_parse_sealed(data, len, DEPTH_MAX, &json, &why) < 0 ||
                         read_notes(json, notes, &why) < 0))
        notes_free(notes);
    if (why.code != ERR_NONE)
        log_err(LOG_LEVEL_WARNING, "snapshot_collector_notes_lost", &why);
    json_decref(json);
    free(data);
    return 0;
}

int notes_save(struct store *store, const char *observer, const struct collect_notes *notes,
               struct err *err)
{
    json_t *since = json_object(), *json;
    char key[STORE_KEY_MAX], *text;
    struct store_body body;
    int rc;

    for (size_t i = 0; i < notes->since.count && i < NOTES_MAX; i++)
        OGEL_CHECK(json_object_set_new(since, notes->since.entries[i].key,
                                       json_integer(notes->since.entries[i].value)) == 0);
    json = json_pack("{s:i,s:s,s:o}", "version", VERSION, "observer", observer, "since", since);
    OGEL_CHECK(json != NULL);
    text = json_dump_sealed(json);
    body = (struct store_body){.data = text, .size = strlen(text)};
    prefixed_key(COLLECT_PREFIX, observer, key);
    rc = store_put(store, key, &body, STORE_CALL_TIMEOUT_MS, err);
    free(text);
    json_decref(json);
    return rc;
}
