#include "snapshots/packset.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

uint32_t pack_set_number(struct pack_set *set, const struct pack_name *name)
{
    uint32_t bucket = name->number, *link;

    for (const char *at = name->snapshot; *at != '\0'; at++)
        bucket = bucket * 31 + (unsigned char)*at;
    link = &set->buckets[bucket % PACK_SET_BUCKETS];
    for (uint32_t i = *link; i != 0; i = set->entries[i - 1].next) {
        const struct pack_name *have = &set->entries[i - 1].name;

        if (have->number == name->number && strcmp(have->snapshot, name->snapshot) == 0)
            return i - 1;
    }
    if (set->count == set->room) {
        set->room = set->room == 0 ? 256 : 2 * set->room;
        set->entries = xreallocarray(set->entries, set->room, sizeof(set->entries[0]));
    }
    set->entries[set->count] = (struct pack_set_entry){*name, *link};
    *link = ++set->count;
    return set->count - 1;
}

void pack_set_empty(struct pack_set *set)
{
    set->count = 0;
    memset(set->buckets, 0, sizeof(set->buckets));
}

void pack_set_free(struct pack_set *set)
{
    free(set->entries);
    *set = (struct pack_set){0};
}
