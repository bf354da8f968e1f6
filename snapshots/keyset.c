#include "snapshots/keyset.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BUCKETS_MIN = 256 };

void keyset_free(struct keyset *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->entries[i].key);
    free(set->entries);
    free(set->buckets);
    *set = (struct keyset){0};
}

/* FNV-1a */
static uint64_t hash_of(const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *key != '\0'; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    return hash;
}

/* The bucket that has KEY, or the free one where it belongs. */
static uint32_t *bucket_of(const struct keyset *set, const char *key)
{
    size_t at = hash_of(key) & (set->bucket_count - 1);

    while (set->buckets[at] != 0 && strcmp(set->entries[set->buckets[at] - 1].key, key) != 0)
        at = (at + 1) & (set->bucket_count - 1);
    return &set->buckets[at];
}

static void grow(struct keyset *set)
{
    if (set->count == set->room) {
        set->room = set->room == 0 ? BUCKETS_MIN / 2 : 2 * set->room;
        set->entries = xreallocarray(set->entries, set->room, sizeof(set->entries[0]));
    }
    if (2 * (set->count + 1) <= set->bucket_count)
        return;
    set->bucket_count = set->bucket_count == 0 ? BUCKETS_MIN : 2 * set->bucket_count;
    free(set->buckets);
    set->buckets = xcalloc(set->bucket_count, sizeof(set->buckets[0]));
    for (size_t i = 0; i < set->count; i++)
        *bucket_of(set, set->entries[i].key) = (uint32_t)i + 1;
}

struct keyset_entry *keyset_find(const struct keyset *set, const char *key)
{
    uint32_t number = set->bucket_count == 0 ? 0 : *bucket_of(set, key);

    return number == 0 ? NULL : &set->entries[number - 1];
}

struct keyset_entry *keyset_add(struct keyset *set, const char *key, int64_t value, bool *added)
{
    struct keyset_entry *entry = keyset_find(set, key);

    if (added != NULL)
        *added = entry == NULL;
    if (entry != NULL)
        return entry;
    grow(set);
    OGEL_CHECK(set->count < UINT32_MAX);
    *bucket_of(set, key) = (uint32_t)set->count + 1;
    entry = &set->entries[set->count++];
    *entry = (struct keyset_entry){xstrdup(key), value};
    return entry;
}
