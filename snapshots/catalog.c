#include "snapshots/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "snapshots/pack.h"

void catalog_free(struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->count; i++)
        manifest_free(&catalog->entries[i].manifest);
    free(catalog->entries);
    *catalog = (struct catalog){0};
}

static int note(const char *key, uint64_t size, void *arg, struct err *err)
{
    struct catalog *catalog = arg;
    const char *id = key + sizeof(MANIFEST_PREFIX) - 1;

    (void)size;
    (void)err;
    if (!snapshot_id_valid(id))
        return 0; /* nobody of ours put it there */
    if (catalog->count == catalog->room) {
        catalog->room = catalog->room == 0 ? 16 : 2 * catalog->room;
        catalog->entries = xreallocarray(catalog->entries, catalog->room,
                                         sizeof(catalog->entries[0]));
    }
    memset(&catalog->entries[catalog->count], 0, sizeof(catalog->entries[0]));
    memcpy(catalog->entries[catalog->count++].id, id, SNAPSHOT_ID_SIZE);
    return 0;
}

/* Ids tell seconds apart, manifests milliseconds; damaged ones come last in their second. */
static int by_begin(const void *a, const void *b)
{
    const struct catalog_entry *left = a, *right = b;
    int64_t left_ms = left->damage.code == ERR_NONE ? left->manifest.started_ms : INT64_MAX;
    int64_t right_ms = right->damage.code == ERR_NONE ? right->manifest.started_ms : INT64_MAX;
    int by_second = strncmp(left->id, right->id, SNAPSHOT_ID_SECOND_LEN);

    if (by_second != 0)
        return by_second;
    if (left_ms != right_ms)
        return left_ms < right_ms ? -1 : 1;
    return strcmp(left->id, right->id);
}

int catalog_load(struct store *store, struct catalog *catalog, struct err *err)
{
    size_t left = 0;

    *catalog = (struct catalog){0};
    if (store_list(store, MANIFEST_PREFIX, note, catalog, STORE_CALL_TIMEOUT_MS, err) < 0) {
        catalog_free(catalog);
        return -1;
    }
    for (size_t i = 0; i < catalog->count; i++) {
        struct catalog_entry *entry = &catalog->entries[i];

        if (manifest_load(store, entry->id, &entry->manifest, &entry->damage) == 0 ||
            entry->damage.code == ERR_CORRUPT || entry->damage.code == ERR_INVALID) {
            catalog->entries[left++] = *entry;
            continue;
        }
        if (entry->damage.code == ERR_NOT_FOUND) /* deleted since it was listed */
            continue;
        if (err != NULL)
            *err = entry->damage;
        catalog->count = left;
        catalog_free(catalog);
        return -1;
    }
    catalog->count = left;
    if (catalog->count > 0)
        qsort(catalog->entries, catalog->count, sizeof(catalog->entries[0]), by_begin);
    return 0;
}

const struct catalog_entry *catalog_newest(const struct catalog *catalog, uint64_t system_id,
                                           uint32_t postgres_version)
{
    for (size_t i = catalog->count; i > 0; i--) {
        const struct catalog_entry *entry = &catalog->entries[i - 1];

        if (entry->damage.code == ERR_NONE && entry->manifest.system_id == system_id &&
            entry->manifest.postgres_version / 10000 == postgres_version / 10000)
            return entry;
    }
    return NULL;
}

int map_load(struct store *store, const struct table_entry *entry, struct map *map, struct err *err)
{
    uint8_t digest[MAP_DIGEST_SIZE];
    char key[STORE_KEY_MAX];
    char *data = NULL;
    size_t len = 0;
    int rc;

    if (entry->map != NULL) {
        rc = map_decode(entry->map, entry->map_len, slice_count(entry->size), map, err);
        return rc < 0 ? err_context(err, "file %s", entry->path) : 0;
    }
    *map = (struct map){0};
    map_key(entry->map_owner, entry->map_digest, key);
    rc = store_get_all(store, key, MAP_BYTES_MAX, &data, &len, STORE_CALL_TIMEOUT_MS, err);
    if (rc == 0) {
        map_digest(data, len, digest);
        if (memcmp(digest, entry->map_digest, MAP_DIGEST_SIZE) != 0)
            rc = err_set(err, ERR_CORRUPT,
                         "store %s: %s: has other content than was written: its SHA-256 is wrong",
                         store_name(store), key);
    }
    if (rc == 0)
        rc = map_decode(data, len, slice_count(entry->size), map, err);
    free(data);
    if (rc < 0 && err != NULL && err->code == ERR_NOT_FOUND)
        err->code = ERR_CORRUPT; /* the file table names it, so it must be there */
    return rc < 0 ? err_context(err, "map of file %s", entry->path) : 0;
}
