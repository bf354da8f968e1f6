/* Packs that were met, each with a number of its own. */
#ifndef OGEL_SNAPSHOTS_PACKSET_H
#define OGEL_SNAPSHOTS_PACKSET_H

#include "snapshots/map.h"

enum { PACK_SET_BUCKETS = 4096 };

/* Zero-initialised it is empty. */
struct pack_set {
    struct pack_set_entry {
        struct pack_name name;
        uint32_t next; /* in its bucket, plus 1; 0: the last */
    } * entries;
    uint32_t count, room;
    uint32_t buckets[PACK_SET_BUCKETS]; /* the first of each, plus 1 */
};

/* The number of NAME, counted from 0 in the order in which they are met first. */
uint32_t pack_set_number(struct pack_set *set, const struct pack_name *name);
void pack_set_empty(struct pack_set *set);
void pack_set_free(struct pack_set *set); /* what it holds */

#endif
