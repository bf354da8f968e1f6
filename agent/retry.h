/* When a step may be tried again. A failed one waits longer each time, also where other steps
 * succeed in between (a fence that is written anew before each attempt at a promotion); one that
 * succeeds and is asked for all the same is slowed down. Pure. */
#ifndef OGEL_AGENT_RETRY_H
#define OGEL_AGENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/reconcile.h"

struct retry_step {
    enum step_kind kind;
    enum agent_reason reason;
    uint32_t generation; /* promised: in a new one everything may be tried at once */
    uint32_t count;      /* in a row */
    int64_t not_before_ms;
};

/* All zero: nothing was tried yet. */
struct retry {
    struct retry_step last;    /* that ended, however */
    struct retry_step failing; /* that failed last, until it succeeds; count 0: none */
};

/* STEP ended now. Call retry_is_known() before, if it is wanted. */
void retry_note(struct retry *retry, const struct step *step, uint32_t generation, bool failed,
                int64_t now_ms);

/* Whether STEP has just ended in this way before: then its end is no news. */
bool retry_is_known(const struct retry *retry, const struct step *step, uint32_t generation,
                    bool failed);

/* Milliseconds that STEP is to wait for; 0: it may run. */
int64_t retry_wait_ms(const struct retry *retry, const struct step *step, uint32_t generation,
                      int64_t now_ms);

/* The core wants nothing: what failed is over. True if something had. */
bool retry_rest(struct retry *retry);

#endif
