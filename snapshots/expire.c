#include "snapshots/expire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "snapshots/catalog.h"
#include "snapshots/marks.h"

/* A name of a pin, a person's rather than a job's. */
static int note_pin(const char *key, uint64_t size, void *arg, struct err *err)
{
    char id[SNAPSHOT_ID_SIZE], *pin = arg;
    const char *name;

    (void)size;
    (void)err;
    if (key_split(key, PIN_PREFIX, id, &name) && strlen(name) < PIN_NAME_SIZE &&
        (pin[0] == '\0' || !snapshot_id_valid(name)))
        memcpy(pin, name, strlen(name) + 1);
    return 0;
}

int expire_snapshot(struct store *store, const char *id, struct err *err)
{
    char key[STORE_KEY_MAX], pins[STORE_KEY_MAX], pin[PIN_NAME_SIZE] = "";
    uint64_t size;

    if (!snapshot_id_valid(id))
        return err_set(err, ERR_INVALID, "\"%.64s\" is no id of a snapshot", id);
    snprintf(pins, sizeof(pins), PIN_PREFIX "%s/", id);
    manifest_key(id, key);
    if (store_head(store, key, &size, STORE_CALL_TIMEOUT_MS, err) < 0 ||
        store_list(store, pins, note_pin, pin, STORE_CALL_TIMEOUT_MS, err) < 0)
        return err_context(err, "snapshot %s", id);
    if (pin[0] != '\0')
        return err_set(err, ERR_REFUSED, "snapshot %s is pinned by %s: %s", id, pin,
                       snapshot_id_valid(pin)
                           ? "a job needs it; wait until that has ended (a dead one's pin is taken "
                             "away by gc)"
                           : "unpin it first");
    /* A job that pins it from here on finds no manifest, or has read it: then its pin keeps the
     * objects. */
    if (store_delete(store, key, STORE_CALL_TIMEOUT_MS, err) < 0)
        return -1;
    return marks_remove(store, id, err);
}

static void fill(struct keep_entry *entry, const struct catalog_entry *from,
                 const struct marks_entry *marks)
{
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->id, from->id, SNAPSHOT_ID_SIZE);
    entry->damaged = from->damage.code != ERR_NONE;
    entry->system_id = from->manifest.system_id;
    entry->stopped_ms = from->manifest.stopped_ms;
    entry->verified = marks->verified_ms != 0;
    memcpy(entry->pin, marks->pin, PIN_NAME_SIZE);
}

static bool has_children(const struct catalog *catalog, const char *id)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (strcmp(catalog->entries[i].manifest.parent, id) == 0)
            return true;
    }
    return false;
}

int expire_plan(struct store *store, const struct keep_rule *rule, struct keep_entry **entries,
                size_t *count, struct err *err)
{
    struct catalog catalog;
    struct marks marks;

    *entries = NULL;
    *count = 0;
    if (catalog_load(store, &catalog, err) < 0)
        return -1;
    if (marks_load(store, &marks, err) < 0) {
        catalog_free(&catalog);
        return -1;
    }
    *entries = xcalloc(catalog.count + 1, sizeof((*entries)[0]));
    *count = catalog.count;
    for (size_t i = 0; i < catalog.count; i++) {
        fill(&(*entries)[i], &catalog.entries[i], marks_find(&marks, catalog.entries[i].id));
        (*entries)[i].is_parent = has_children(&catalog, catalog.entries[i].id);
    }
    keep_decide(*entries, *count, rule, clock_wall_ms());
    marks_free(&marks);
    catalog_free(&catalog);
    return 0;
}

int expire_run(struct store *store, struct keep_entry *entries, size_t count, struct err *err)
{
    for (size_t i = count; i > 0; i--) {
        struct keep_entry *entry = &entries[i - 1];
        struct err why = {0};

        if (entry->keep || expire_snapshot(store, entry->id, &why) == 0 ||
            why.code == ERR_NOT_FOUND)
            continue;
        if (why.code != ERR_REFUSED) {
            if (err != NULL)
                *err = why;
            return -1;
        }
        entry->keep = true;
        snprintf(entry->reason, sizeof(entry->reason), "%.*s", KEEP_REASON_SIZE - 1, why.text);
    }
    return 0;
}
