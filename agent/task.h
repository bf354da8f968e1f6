/*
 * A snapshot task: what an orchestrator asked for, how far its child is (what that says on its
 * pipe), and both as JSON. No I/O and no clock in here.
 *
 * The child is `ogelctl snapshot VERB --progress-fd 1`: a line for each step
 * {"phase", "done_bytes", "total_bytes", "stored_bytes"}, at last one {"result", "error"}
 * (cli/report.h). Any other line is what it said to people; the last of them is kept as the cause
 * of an end without a last line.
 */
#ifndef OGEL_AGENT_TASK_H
#define OGEL_AGENT_TASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/permit.h"
#include "base/err.h"
#include "snapshots/names.h"

enum {
    TASK_STORE_SIZE = 513,
    TASK_WHO_SIZE = 64,
    TASK_TEXT_SIZE = 512,
    TASK_LINE_MAX = 16384, /* a longer one is no line of ours: skipped */
    TASK_PHASE_SIZE = 64,
};

enum task_kind { TASK_CREATE, TASK_VERIFY, TASK_DRILL, TASK_GC, TASK_KINDS };
extern const char *const task_kind_names[]; /* ends with NULL */

enum task_keep { KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY, KEEP_LEAST, TASK_KEEPS };

struct task_request {
    char id[TASK_ID_SIZE];
    enum task_kind kind;
    char snapshot[SNAPSHOT_ID_SIZE]; /* "": none named */
    char store[TASK_STORE_SIZE];     /* URL, without credentials */
    char who[TASK_WHO_SIZE];
    int64_t level;     /* 0: the default */
    char max_rate[32]; /* "": none */
    char parent[SNAPSHOT_ID_SIZE];
    int64_t keep[TASK_KEEPS]; /* -1: not said */
};

/* The body of POST /v1/task. ERR_INVALID names the field and what is allowed. */
OGEL_MUST_CHECK int task_request_parse(const json_t *body, struct task_request *request,
                                       struct err *err);

/* A store's URL as far as it can be told without opening it; a secret in it is refused. */
OGEL_MUST_CHECK int task_store_check(const char *url, struct err *err);

enum task_state { TASK_NONE, TASK_RUNNING, TASK_DONE, TASK_FAILED };

struct task {
    struct task_request request;
    enum task_state state;
    char phase[TASK_PHASE_SIZE];
    uint64_t done_bytes, total_bytes, stored_bytes;
    int64_t begun_ms, ended_ms; /* UTC, for people */
    int64_t phase_ms;           /* since when it is in this phase, by the clock of task_take() */
    uint64_t phase_bytes;       /* done_bytes then */
    int64_t moved_ms;           /* when it last said something new */
    char error_code[24];        /* "": none */
    char error_text[TASK_TEXT_SIZE];
    json_t *result; /* NULL: none */
};

/* What is read of the child's pipe. Zeroed to begin with; task_output_free() at the end. */
struct task_output {
    char *line; /* being read; NULL before the first byte */
    size_t used;
    bool skipping; /* a line that was too long */
    bool ended;    /* the last line has come */
    char said[TASK_TEXT_SIZE];
};

/* Forgets the task before; REQUEST runs from now on. */
void task_begin(struct task *task, const struct task_request *request, int64_t wall_ms,
                int64_t now_ms);

/* Takes DATA of the child's output; true if TASK has changed. */
bool task_take(struct task *task, struct task_output *output, const char *data, size_t size,
               int64_t now_ms);
void task_output_free(struct task_output *output);

/* The child has ended: TASK is done, or failed with the error that came, or else with HOW it ended
 * ("exit status 1"). CODE (NULL: none) is why this agent ended it, and TEXT says it: that comes
 * first, unless the task was done by then. */
void task_end(struct task *task, const struct task_output *output, const char *how,
              const char *code, const char *text, int64_t wall_ms);

/* For the API: {"id", "kind", "state", …}; only "state" where there has been none. NOW_MS as in
 * task_take(). */
json_t *task_json(const struct task *task, int64_t now_ms);

void task_free(struct task *task); /* what it holds */

#endif
