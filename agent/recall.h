/* The note of what replication was last told, in <state_directory>/replication: what lets an agent
 * that is restarted leave its standby and its leader's names as they are. recall.c says when it is
 * believed. */
#ifndef OGEL_AGENT_RECALL_H
#define OGEL_AGENT_RECALL_H

#include "agent/reconcile.h"
#include "agent/steps.h"
#include "base/err.h"

enum { RECALL_DIGEST_BYTES = 32 };

struct recall {
    struct replication replication;
    char names[STEP_NAMES_SIZE];
    char digest[2 * RECALL_DIGEST_BYTES + 1]; /* of the files that it was written to */
};

/* Durable when it returns 0; otherwise the previous note stands, or, where only its directory could
 * not be synced, either. */
OGEL_MUST_CHECK int recall_write(const char *state_directory, const struct recall *recall,
                                 struct err *err);

/* ERR_NOT_FOUND where there is none; ERR_CORRUPT where it is not as it was written. */
OGEL_MUST_CHECK int recall_read(const char *state_directory, struct recall *recall,
                                struct err *err);

#endif
