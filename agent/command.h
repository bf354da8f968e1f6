/*
 * One short-lived program, run to its end: PostgreSQL's tools that answer a question
 * (pg_controldata, pg_waldump). Clones, rewinds and snapshots take long and are watched; their
 * command lines are put together here, too.
 */
#ifndef OGEL_AGENT_COMMAND_H
#define OGEL_AGENT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { COMMAND_OUTPUT_MAX = 1024 * 1024, COMMAND_ARGS_MAX = 32, COMMAND_ENV_MAX = 8 };

/* Ended by NULLs, as execve() takes them; begins as {.argc = 0}. */
struct command_line {
    char *argv[COMMAND_ARGS_MAX];
    int argc;
    char *env[COMMAND_ENV_MAX]; /* "NAME=value" */
    int envc;
};

/* Take over a malloc()ed string. */
void command_add(struct command_line *line, char *arg);
void command_add_env(struct command_line *line, char *entry);
/* What it holds. */
void command_line_free(struct command_line *line);

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
