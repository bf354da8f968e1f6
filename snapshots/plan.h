/* In which order slices are fetched: by pack, neighbours in one request. Pure. */
#ifndef OGEL_SNAPSHOTS_PLAN_H
#define OGEL_SNAPSHOTS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshots/pack.h"

enum {
    PLAN_RANGE_MAX = 8 * 1024 * 1024, /* of one request */
    PLAN_GAP_MAX = 64 * 1024,         /* that is fetched along rather than asked for around */
};

/* A slice that is wanted. */
struct plan_slice {
    uint32_t pack, offset, stored;
    uint32_t file, index;
    uint32_t len;  /* of its plain content */
    bool of_frame; /* the hash is: */
    uint8_t hash[SLICE_HASH_SIZE];
};

/* One request: LEN bytes from OFFSET on, which hold the slices FIRST to FIRST + COUNT - 1. */
struct plan_range {
    uint32_t pack, offset, len;
    size_t first, count;
};

/* By pack, then by place in it. */
void plan_sort(struct plan_slice *slices, size_t count);

/* The next range of sorted slices; *AT begins at 0. False: no more. */
bool plan_next(const struct plan_slice *slices, size_t count, size_t *at, struct plan_range *range);

#endif
