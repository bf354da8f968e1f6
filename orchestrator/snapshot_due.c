#include "orchestrator/snapshot_due.h"

enum { SPREAD_MAX_MS = 30000, SPREAD_SHARE = 10 };

const char *const snapshot_kind_names[SNAPSHOT_KINDS + 1] = {"create", "verify", "drill", "gc",
                                                             NULL};
const char *const skip_reason_names[SKIP_REASONS] = {"running", "maintenance", "unhealthy",
                                                     "no_node", "no_snapshot"};

/* FNV-1a. */
uint64_t snapshot_spread(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3;
    return hash ^ hash >> 32;
}

/* When a slot's run begins; AFTER is the slot that follows it. */
static int64_t begin_of(const struct due_view *view, int64_t slot_ms, int64_t after_ms)
{
    int64_t share_ms = (after_ms - slot_ms) / SPREAD_SHARE;
    int64_t spread_ms = share_ms < SPREAD_MAX_MS ? share_ms : SPREAD_MAX_MS;

    return slot_ms + (int64_t)(view->spread % (uint64_t)(spread_ms + 1));
}

static enum due_verdict judge(const struct due_view *view, enum skip_reason *reason)
{
    *reason = SKIP_REASONS;
    if (view->running == view->kind)
        *reason = SKIP_RUNNING;
    else if (view->maintenance)
        *reason = SKIP_MAINTENANCE;
    else if (!view->healthy)
        *reason = SKIP_UNHEALTHY;
    else if (view->running != SNAPSHOT_NONE)
        return DUE_WAIT;
    else if (!view->has_node)
        *reason = SKIP_NO_NODE;
    else if (!view->has_snapshot && view->kind != SNAPSHOT_CREATE)
        *reason = SKIP_NO_SNAPSHOT;
    return *reason == SKIP_REASONS ? DUE_RUN : DUE_SKIP;
}

struct due snapshot_due(const struct due_view *view)
{
    /* a clock that was set back must not stop snapshots until it has caught up */
    int64_t served_ms = view->served_ms < view->now_ms ? view->served_ms : view->now_ms;
    int64_t slot_ms = schedule_next(view->schedule, served_ms), after_ms, begin_ms;
    struct due due = {.verdict = DUE_LATER};

    if (slot_ms == SCHEDULE_NEVER)
        return due;
    after_ms = schedule_next(view->schedule, slot_ms);
    due.begin_ms = begin_of(view, slot_ms, after_ms);
    if (due.begin_ms > view->now_ms)
        return due;
    while (after_ms <= view->now_ms) {
        int64_t next_ms = schedule_next(view->schedule, after_ms);

        begin_ms = begin_of(view, after_ms, next_ms);
        if (begin_ms > view->now_ms)
            break;
        due.begin_ms = begin_ms;
        slot_ms = after_ms;
        after_ms = next_ms;
    }
    due.slot_ms = slot_ms;
    due.verdict = judge(view, &due.reason);
    return due;
}

int32_t snapshot_source(const struct source_view nodes[NODE_COUNT], int32_t wanted,
                        bool prefer_leader, int32_t avoid)
{
    int32_t best = NODE_NONE;

    if (wanted != NODE_NONE)
        return nodes[wanted].usable && wanted != avoid ? wanted : NODE_NONE;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct source_view *node = &nodes[slot];

        if (!node->usable || slot == avoid)
            continue;
        if (best == NODE_NONE || node->leads != nodes[best].leads) {
            if (best == NODE_NONE || node->leads == prefer_leader)
                best = slot;
        } else if (node->lag_bytes < nodes[best].lag_bytes) {
            best = slot;
        }
    }
    return best;
}
