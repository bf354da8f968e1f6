/* Snapshots that go: deleted one by one, or those that retention gives up. Only the manifest goes
 * here, and with it the snapshot; what it stored is left to the collector (collect.h), because
 * later snapshots may refer to it. */
#ifndef OGEL_SNAPSHOTS_EXPIRE_H
#define OGEL_SNAPSHOTS_EXPIRE_H

#include <stddef.h>

#include "base/err.h"
#include "snapshots/keep.h"
#include "snapshots/store.h"

/* Deletes the snapshot ID, whole or damaged. ERR_REFUSED: it is pinned, and the text says by what.
 * ERR_NOT_FOUND. */
OGEL_MUST_CHECK int expire_snapshot(struct store *store, const char *id, struct err *err);

/* What RULE says about all snapshots of the store: *ENTRIES, which the caller frees. */
OGEL_MUST_CHECK int expire_plan(struct store *store, const struct keep_rule *rule,
                                struct keep_entry **entries, size_t *count, struct err *err);

/* Deletes what the plan does not keep, the oldest first. What got a pin meanwhile is left, and
 * marked as kept. */
OGEL_MUST_CHECK int expire_run(struct store *store, struct keep_entry *entries, size_t count,
                               struct err *err);

#endif
