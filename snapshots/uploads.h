/* Objects on their way into the store while their maker goes on: a few threads, and a queue as long
 * as they are many. */
#ifndef OGEL_SNAPSHOTS_UPLOADS_H
#define OGEL_SNAPSHOTS_UPLOADS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/store.h"

struct uploads;

OGEL_MUST_CHECK int uploads_new(struct store *store, int threads, int64_t timeout_ms,
                                struct uploads **uploads, struct err *err);

/* Puts DATA, which is freed afterwards whatever happens, under KEY. Waits while the queue is full.
 * Once one has failed, this and all later calls say so. */
OGEL_MUST_CHECK int uploads_put(struct uploads *uploads, const char *key, void *data, size_t len,
                                struct err *err);

/* Until all that was put is in the store. */
OGEL_MUST_CHECK int uploads_wait(struct uploads *uploads, struct err *err);

uint64_t uploads_bytes(struct uploads *uploads); /* that are in the store */

/* Lets go of what is queued, waits for what is under way. NULL is allowed. */
void uploads_free(struct uploads *uploads);

#endif
