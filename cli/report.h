/*
 * What a program that runs a command wants to know of it, as JSON lines on a descriptor of its own
 * (--progress-fd): each {"phase", "done_bytes", "total_bytes", "stored_bytes"}, and at the end one
 * {"result": {…} or null, "error": {"code", "text"} or null}. The code is err_code_name()'s.
 * Nothing more is said after the last line; a command that ends without it was ended by somebody.
 *
 * A reader that has gone away ends the command (SIGPIPE); one that does not read holds it up.
 */
#ifndef OGEL_CLI_REPORT_H
#define OGEL_CLI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"
#include "snapshots/manifest.h"
#include "snapshots/progress.h"

struct args;

struct report {
    FILE *out;      /* NULL: nobody wants to know */
    json_t *result; /* NULL: none */
};

/* Takes the descriptor that --progress-fd names, if it was given: then it is this program's alone,
 * and no other program that it starts inherits it. ERR_INVALID. */
OGEL_MUST_CHECK int report_open(struct report *report, const struct args *args, struct err *err);

/* Is somebody told this way? Then the terminal is not. */
bool report_wanted(const struct report *report);

void report_progress(struct report *report, const struct snapshot_progress *progress);

/* Keeps RESULT, whose reference it does not take over, for the last line. */
void report_result(struct report *report, const json_t *result);
/* The same for a snapshot: its manifest without the tablespaces, and "ratio", how much of its size
 * it brought into the store. */
void report_snapshot(struct report *report, const struct manifest *manifest);

/* The last line. ERR->code ERR_NONE: it went well. */
void report_end(struct report *report, const struct err *err);

#endif
