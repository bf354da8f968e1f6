/* A thread that does what may block, one job after the other, for the loop that never does. */
#ifndef OGEL_AGENT_WORKER_H
#define OGEL_AGENT_WORKER_H

#include <stdbool.h>

#include "base/err.h"

struct loop;
struct worker;

typedef void worker_fn(void *arg);

/* NAME (at most 15 bytes) shows in the process table. */
OGEL_MUST_CHECK int worker_new(struct worker **worker, const char *name, struct loop *loop,
                               struct err *err);

/* Queues WORK for the thread; afterwards DONE(ARG) runs in the loop. From any thread. */
void worker_run(struct worker *worker, worker_fn *work, worker_fn *done, void *arg);

/* Nothing queued, nothing under way, nothing whose DONE is still to run. Loop's thread only. */
bool worker_idle(struct worker *worker);

#endif
