/*
 * What all commands share: what was asked for on the command line, and the entry that each command
 * exports. A command returns how the program ends; an error that people shall read stands in err
 * and is printed once, by main.
 */
#ifndef OGEL_CLI_CLI_H
#define OGEL_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/units.h"
#include "cli/args.h"

/* Exit codes. Stable: scripts rely on them; exit_table says the same to people. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_REFUSED = 1,
    CTL_USAGE = 2,
    CTL_UNREACHABLE = 3,
    CTL_UNDECIDED = 4,
    CTL_DEGRADED = 5,
    CTL_NOT_WRITABLE = 6,
    CTL_DAMAGED = 7,
    CTL_STORE = 8,
    CTL_NO_SPACE = 9,
};

struct ctl_exit_row {
    enum ctl_exit code;
    const char *meaning;
};
extern const struct ctl_exit_row ctl_exit_table[]; /* ends with a row whose meaning is NULL */

enum {
    ORCHESTRATORS_MAX = 16,
    TOKEN_SIZE = 257,
    CLUSTER_SIZE = 64,
    WHO_SIZE = 128,
    PATH_SIZE = 1024
};

struct report;

struct ctl {
    struct units_address orchestrators[ORCHESTRATORS_MAX];
    uint32_t orchestrator_count;
    uint32_t current;            /* the one that answered last is asked first */
    char token[TOKEN_SIZE];      /* "": none */
    char token_file[PATH_SIZE];  /* "": none */
    char config_file[PATH_SIZE]; /* "": none was found */
    char cluster[CLUSTER_SIZE];  /* "": not named */
    char who[WHO_SIZE];          /* user@host, for the audit event */
    int64_t timeout_ms;
    int64_t try_ms; /* for an answer of one orchestrator, before the next is asked */
    bool timeout_given;
    bool json;
    bool yes;
    bool color_out, color_err;
    struct report *report; /* snapshot: who else is told; report.h */
};

struct ctl_command {
    const char *name;
    const char *arguments;         /* of the usage line: "[--to NODE]"; "" for none */
    const char *summary;           /* one line without a full stop */
    const char *description;       /* paragraphs, separated by an empty line */
    const struct arg_row *options; /* NULL: only the global ones */
    const char
        *words; /* what the first operand may be, for the shell's completion: "on off", "@node" */
    int operands_min, operands_max;
    bool local; /* works without any orchestrator or configuration */
    enum ctl_exit (*run)(struct ctl *ctl, const struct args *args, struct err *err);
};

/* All of them, in the order of the manual; NULL at the end. commands.c */
extern const struct ctl_command *const ctl_commands[];
extern const struct arg_row ctl_global_options[];

const struct ctl_command *ctl_command_find(const char *name); /* NULL: there is none */

#endif
