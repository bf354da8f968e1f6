/*
 * The permit for a snapshot task, which the leader's agent gives: at most one task in a cluster,
 * whoever asked for it. It is held in memory only and lasts as long as it is renewed: each time
 * PERMIT_MS, counted here from the answer and at the task's agent from the question, so that the
 * task is over before another one may begin.
 *
 * A new leader knows of no permit, and a restarted agent has forgotten its own. Until every one
 * given before has run out it gives none, except to what says that it runs already: the first of
 * those gets it.
 *
 * It orders work and protects nothing: data is safe with two tasks at once, too
 * (docs/snapshot-format.md). Pure: time comes in as a value, on any one clock.
 */
#ifndef OGEL_AGENT_PERMIT_H
#define OGEL_AGENT_PERMIT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PERMIT_MS = 30000,
    /* A leader that was cut off may have given permits until it felt that: fence_timeout at its
     * default, with room. */
    PERMIT_YOUNG_MS = PERMIT_MS + 5000,
    TASK_ID_SIZE = 17, /* 16 hexadecimal digits, lower case */
};

struct permit {
    char task[TASK_ID_SIZE]; /* "": given to nobody */
    int32_t node;            /* slot */
    int64_t until_ms;
};

enum permit_state { PERMIT_NEW, PERMIT_RUNNING, PERMIT_ENDED };

struct permit_request {
    const char *task;
    int32_t node;
    uint32_t generation; /* which the node follows */
    enum permit_state state;
};

/* Who is asked. */
struct permit_leader {
    bool leads;
    int64_t since_ms; /* leads, in this run of the agent */
    uint32_t generation;
};

enum permit_verdict {
    PERMIT_GIVEN,
    PERMIT_HELD,       /* by another one; permit->task and node name it */
    PERMIT_YOUNG,      /* ask again later */
    PERMIT_NO_LEADER,  /* this node does not lead */
    PERMIT_GENERATION, /* the asker follows another leader than this one */
};

/* What the leader answers at NOW_MS; PERMIT becomes the one in force. PERMIT_ENDED gives it back,
 * and is PERMIT_GIVEN also where there was nothing to give back. */
enum permit_verdict permit_ask(struct permit *permit, const struct permit_request *request,
                               const struct permit_leader *leader, int64_t now_ms);

/* Is somebody's permit in force at NOW_MS? */
bool permit_held(const struct permit *permit, int64_t now_ms);

/* Sixteen lower-case hexadecimal digits? */
bool task_id_valid(const char *text);

#endif
