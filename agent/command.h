/*
 * One short-lived program, run to its end: PostgreSQL's tools that answer a question
 * (pg_controldata, pg_waldump). Not for clones and rewinds, which take long and are watched.
 */
#ifndef OGEL_AGENT_COMMAND_H
#define OGEL_AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { COMMAND_OUTPUT_MAX = 1024 * 1024 };

struct command_result {
    int exit_code; /* -1: ended by a signal */
    int signal;    /* 0: it exited */
    char *output;  /* stdout as a string; what is above COMMAND_OUTPUT_MAX bytes is cut */
    char *errors;  /* stderr, the same */
};

/* Runs ARGV (its first entry is a path) in the working directory "/", with stdin from /dev/null and
 * an environment of LC_ALL=C and PATH alone. A program that has not ended after TIMEOUT_MS is
 * killed: ERR_TIMEOUT. It dies with the calling thread. Returns 0 whatever its exit code was;
 * RESULT is then freed with command_result_free(). ERR_NOT_FOUND when there is no such program. */
OGEL_MUST_CHECK int command_run(const char *const *argv, int64_t timeout_ms,
                                struct command_result *result, struct err *err);

/* Is PID a program that some thread runs by command_run()? Then it is that one's to wait for. */
bool command_owns(pid_t pid);

void command_result_free(struct command_result *result);

/* The last line of its stderr (else of its stdout) without line end, for an error text; points into
 * RESULT, which is changed. */
const char *command_last_line(struct command_result *result);

#endif
