#include "snapshots/plan.h"

#include <stdlib.h>

static int by_place(const void *a, const void *b)
{
    const struct plan_slice *left = a, *right = b;

    if (left->pack != right->pack)
        return left->pack < right->pack ? -1 : 1;
    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

void plan_sort(struct plan_slice *slices, size_t count)
{
    if (count > 0)
        qsort(slices, count, sizeof(slices[0]), by_place);
}

bool plan_next(const struct plan_slice *slices, size_t count, size_t *at, struct plan_range *range)
{
    uint32_t end;

    if (*at == count)
        return false;
    *range = (struct plan_range){
        .pack = slices[*at].pack, .offset = slices[*at].offset, .first = *at};
    end = range->offset;
    for (; *at < count; (*at)++) {
        const struct plan_slice *slice = &slices[*at];
        uint32_t slice_end = slice->offset + slice->stored;

        if (slice->pack != range->pack ||
            (slice->offset > end && slice->offset - end > PLAN_GAP_MAX) ||
            (range->count > 0 && slice_end - range->offset > PLAN_RANGE_MAX))
            break;
        end = slice_end > end ? slice_end : end;
        range->count++;
    }
    range->len = end - range->offset;
    return true;
}
