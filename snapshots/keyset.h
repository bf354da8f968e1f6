/* Names of objects, each with a number that its owner chooses. */
#ifndef OGEL_SNAPSHOTS_KEYSET_H
#define OGEL_SNAPSHOTS_KEYSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keyset_entry {
    char *key;
    int64_t value;
};

/* Zero-initialised it is empty. Entries stand in the order in which they were added. */
struct keyset {
    struct keyset_entry *entries;
    size_t count, room;
    uint32_t *buckets; /* index + 1, open addressing; 0: free */
    size_t bucket_count;
};

void keyset_free(struct keyset *set); /* what it holds; it is empty afterwards */

/* NULL: it is not there. Valid until the next call of keyset_add(). */
struct keyset_entry *keyset_find(const struct keyset *set, const char *key);

/* The entry of KEY, which is added with VALUE unless it is there; *ADDED (may be NULL) says which.
 */
struct keyset_entry *keyset_add(struct keyset *set, const char *key, int64_t value, bool *added);

#endif
