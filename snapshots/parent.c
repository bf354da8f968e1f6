#include "snapshots/parent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "snapshots/catalog.h"
#include "snapshots/spool.h"

enum { CHOOSE_TRIES = 5 };

/* A file of the table: 24 bytes of memory for each. */
struct indexed {
    uint64_t hash; /* of the path */
    struct table_place place;
};

struct parent {
    struct store *store;
    char pin[STORE_KEY_MAX];
    uint64_t start_lsn;
    int fd;
    struct table_reader *table;
    struct indexed *index; /* by hash */
    size_t count, room;
};

/* --- opening -------------------------------------------------------------------------------- */

static int by_hash(const void *a, const void *b)
{
    const struct indexed *left = a, *right = b;

    return left->hash < right->hash ? -1 : left->hash > right->hash;
}

static int build_index(struct parent *parent, struct err *err)
{
    struct table_entry *entry = xmalloc(sizeof(*entry));
    struct table_place place = table_tell(parent->table);
    int rc;

    while ((rc = table_next(parent->table, entry, err)) > 0) {
        if (entry->type == TABLE_FILE) {
            if (parent->count == parent->room) {
                parent->room = parent->room == 0 ? 1024 : 2 * parent->room;
                parent->index = xreallocarray(parent->index, parent->room,
                                              sizeof(parent->index[0]));
            }
            parent->index[parent->count++] = (struct indexed){path_hash(entry->path), place};
        }
        place = table_tell(parent->table);
    }
    free(entry);
    if (parent->count > 0)
        qsort(parent->index, parent->count, sizeof(parent->index[0]), by_hash);
    return rc;
}

int parent_open(struct store *store, const char *id, const char *job, struct parent **out,
                struct err *err)
{
    struct parent *parent = xcalloc(1, sizeof(*parent));
    const struct store_body pin = {.data = "", .size = 0};
    struct manifest manifest = {0};
    int rc;

    *out = NULL;
    parent->store = store;
    parent->fd = -1;
    pin_key(id, job, parent->pin);
    /* The pin comes first: what is read afterwards stays. */
    rc = store_put(store, parent->pin, &pin, STORE_CALL_TIMEOUT_MS, err);
    if (rc == 0)
        rc = manifest_load(store, id, &manifest, err);
    if (rc == 0)
        rc = spool_file_table(store, &manifest, &parent->fd, err);
    if (rc == 0)
        rc = table_open(parent->fd, manifest.table_bytes, &parent->table, err);
    if (rc == 0)
        rc = build_index(parent, err);
    parent->start_lsn = manifest.start_lsn;
    manifest_free(&manifest);
    if (rc < 0) {
        parent_close(parent);
        return err_context(err, "parent");
    }
    *out = parent;
    return 0;
}

/* --- which ---------------------------------------------------------------------------------- */

static int check_related(const struct manifest *parent, const struct manifest *manifest,
                         struct err *err)
{
    if (parent->system_id != manifest->system_id)
        return err_set(err, ERR_REFUSED,
                       "snapshot %s is of another system (%" PRIu64 ", the server is %" PRIu64
                       "): it can be no parent",
                       parent->id, parent->system_id, manifest->system_id);
    if (parent->postgres_version / 10000 != manifest->postgres_version / 10000)
        return err_set(err, ERR_REFUSED,
                       "snapshot %s is of PostgreSQL %" PRIu32 ": it can be no parent", parent->id,
                       parent->postgres_version / 10000);
    return 0;
}

static int open_asked(struct store *store, const char *asked, struct manifest *manifest,
                      struct parent **out, struct err *err)
{
    struct manifest parent = {0};
    int rc = manifest_load(store, asked, &parent, err);

    if (rc == 0)
        rc = check_related(&parent, manifest, err);
    if (rc == 0)
        memcpy(manifest->parent, parent.id, SNAPSHOT_ID_SIZE);
    manifest_free(&parent);
    return rc < 0 ? -1 : parent_open(store, manifest->parent, manifest->id, out, err);
}

/* Whether it is there still, its opening says. */
static int find_newest(struct store *store, struct manifest *manifest, struct err *err)
{
    const struct catalog_entry *newest;
    struct catalog catalog;

    manifest->parent[0] = '\0';
    if (catalog_load(store, &catalog, err) < 0)
        return -1;
    newest = catalog_newest(&catalog, manifest->system_id, manifest->postgres_version);
    if (newest != NULL)
        memcpy(manifest->parent, newest->id, SNAPSHOT_ID_SIZE);
    catalog_free(&catalog);
    return 0;
}

int parent_choose(struct store *store, const char *asked, struct manifest *manifest,
                  struct parent **out, struct err *warning, struct err *err)
{
    *out = NULL;
    if (asked != NULL && strcmp(asked, "none") == 0)
        return 0;
    if (asked != NULL)
        return open_asked(store, asked, manifest, out, err);
    /* One that was deleted between the look and its pin is none: the next newest. */
    for (int tries = 1;; tries++) {
        struct err own = {0};

        if (find_newest(store, manifest, err) < 0)
            return -1;
        if (manifest->parent[0] == '\0' ||
            parent_open(store, manifest->parent, manifest->id, out, &own) == 0)
            return 0;
        if (own.code == ERR_CORRUPT) {
            manifest->parent[0] = '\0';
            *warning = own;
            return 0;
        }
        if (own.code != ERR_NOT_FOUND || tries == CHOOSE_TRIES) {
            if (err != NULL)
                *err = own;
            return -1;
        }
    }
}

/* --- what it has ---------------------------------------------------------------------------- */

uint64_t parent_start_lsn(const struct parent *parent)
{
    return parent->start_lsn;
}

int parent_find(struct parent *parent, const char *path, struct table_entry *entry, struct map *map,
                struct err *err)
{
    uint64_t hash = path_hash(path);
    size_t low = 0, high = parent->count;
    int rc;

    *map = (struct map){0};
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (parent->index[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < parent->count && parent->index[low].hash == hash; low++) {
        if (table_seek(parent->table, parent->index[low].place, err) < 0 ||
            table_next(parent->table, entry, err) < 0)
            return -1;
        if (strcmp(entry->path, path) != 0)
            continue;
        rc = map_load(parent->store, entry, map, err);
        return rc < 0 ? -1 : 1;
    }
    return 0;
}

void parent_close(struct parent *parent)
{
    struct err err = {0};

    if (parent == NULL)
        return;
    /* One that stays keeps a snapshot longer than needed: no harm. */
    if (store_delete(parent->store, parent->pin, STORE_CALL_TIMEOUT_MS, &err) < 0)
        log_err(LOG_LEVEL_WARNING, "snapshot_pin_left", &err);
    table_close(parent->table);
    if (parent->fd >= 0)
        close(parent->fd);
    free(parent->index);
    free(parent);
}
