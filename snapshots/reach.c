#include "snapshots/reach.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "snapshots/catalog.h"
#include "snapshots/spool.h"

static int reach_file(struct store *store, const struct table_entry *entry, int64_t value,
                      struct keyset *reached, struct err *err)
{
    char key[STORE_KEY_MAX];
    struct map map;

    if (entry->map == NULL) {
        map_key(entry->map_owner, entry->map_digest, key);
        if (keyset_find(reached, key) != NULL)
            return 0;
    }
    if (map_load(store, entry, &map, err) < 0)
        return -1;
    for (uint32_t i = 0; i < map.pack_count; i++) {
        pack_key(map.packs[i].snapshot, map.packs[i].number, key);
        keyset_add(reached, key, value, NULL);
    }
    map_free(&map);
    /* Last: where it is reached, so is all that it leads to, also for others that share it. */
    if (entry->map == NULL) {
        map_key(entry->map_owner, entry->map_digest, key);
        keyset_add(reached, key, value, NULL);
    }
    return 0;
}

static int reach_table(struct store *store, int fd, uint64_t size, int64_t value,
                       struct keyset *reached, struct err *err)
{
    struct table_entry *entry = xmalloc(sizeof(*entry));
    struct table_reader *reader = NULL;
    int rc = table_open(fd, size, &reader, err), more = 0;

    while (rc == 0 && (more = table_next(reader, entry, err)) > 0) {
        if (entry->type == TABLE_FILE)
            rc = reach_file(store, entry, value, reached, err);
    }
    table_close(reader);
    free(entry);
    return more < 0 ? -1 : rc;
}

int reach_snapshot(struct store *store, const char *id, const struct manifest *manifest,
                   int64_t value, struct keyset *reached, struct err *err)
{
    char key[STORE_KEY_MAX];
    struct err own = {0};
    uint64_t size = 0;
    int fd, rc;

    if (manifest != NULL) {
        size = manifest->table_bytes;
        rc = spool_file_table(store, manifest, &fd, &own);
    } else {
        rc = spool_orphan_table(store, id, &fd, &size, &own);
        if (rc < 0 && own.code == ERR_NOT_FOUND)
            return 0;
    }
    if (rc == 0) {
        file_table_key(id, key);
        keyset_add(reached, key, value, NULL);
        rc = reach_table(store, fd, size, value, reached, &own);
        close(fd);
    }
    if (rc == 0)
        return 0;
    if (err != NULL)
        *err = own;
    return err_context(err, "snapshot %s", id);
}
