/* The command line: options by table, operands, and what stands behind "--". */
#ifndef OGEL_CLI_ARGS_H
#define OGEL_CLI_ARGS_H

#include <stdbool.h>

#include "base/err.h"

/* One option; a table ends with a row whose name is NULL. */
struct arg_row {
    const char *name;     /* without the hyphens */
    char letter;          /* 0: none */
    const char *argument; /* what its value is called; NULL: it has none */
    const char *help;     /* one sentence */
    const char *words;    /* values for completion: "table json", "@node", "@file"; NULL: free */
    bool hidden;          /* not in help, manual and completion */
};

enum { ARGS_MAX = 64 };

/* Everything points into argv and the tables. */
struct args {
    struct {
        const char *name;
        const char *value; /* NULL for an option without */
    } given[ARGS_MAX];
    int given_count;
    char *operands[ARGS_MAX];
    int operand_count;
    char **rest; /* what stands behind "--", NULL at the end; NULL without a "--" */
};

/* Takes the options of TABLES (NULL at the end) from argv[*at] on, adding to ARGS, which the caller
 * zeroed. Options and operands may be mixed; with STOP the first operand ends it and *at is its
 * index. ERR_INVALID names what is wrong; PROGRAM stands in its advice ("ogelctl failover"). */
OGEL_MUST_CHECK int args_parse(const struct arg_row *const *tables, int argc, char **argv, int *at,
                               bool stop, const char *program, struct args *args, struct err *err);

/* The last value given; NULL if the option was not given. */
const char *args_value(const struct args *args, const char *name);
bool args_given(const struct args *args, const char *name);

/* The next value of an option that may be given more than once; *AT begins at 0. NULL: no more. */
const char *args_next(const struct args *args, const char *name, int *at);

#endif
