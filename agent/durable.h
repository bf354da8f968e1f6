/*
 * The promise file: all that outlives the agent besides the cluster document and the event log, as
 * one JSON record in <state_directory>/promise. Its space is allocated when it is made: a full disk
 * does not stop a promise.
 */
#ifndef OGEL_AGENT_DURABLE_H
#define OGEL_AGENT_DURABLE_H

#include <jansson.h>

#include "agent/reconcile.h"
#include "base/err.h"

struct slotfile;

enum { DURABLE_SLOT_BYTES = 16384 };

/* What a machine knows that has never promised anything. */
void durable_init(struct durable *durable, int32_t node);

/* The record without .document, which stands in its own file. A new reference. */
json_t *durable_to_json(const struct durable *durable);
OGEL_MUST_CHECK int durable_from_json(const json_t *json, struct durable *durable, struct err *err);

/* Opens the promise file, making it where there is none, and reads it into *DURABLE (durable_init()
 * where nothing was ever written). The record of another node is ERR_CONFLICT: a state directory
 * was copied. */
OGEL_MUST_CHECK int durable_open(const char *state_directory, int32_t node, struct slotfile **file,
                                 struct durable *durable, struct err *err);

/* Durable when it returns 0; otherwise the previous record stands. Blocks as long as the disk does.
 */
OGEL_MUST_CHECK int durable_write(struct slotfile *file, const struct durable *durable,
                                  struct err *err);

#endif
