/* The command line of the daemons: --config FILE, --check-config, --print-sample-config,
 * --print-man, --help, --version. */
#ifndef OGEL_BASE_OPTS_H
#define OGEL_BASE_OPTS_H

#include "base/conf.h"
#include "base/err.h"

struct opts_program {
    const char *name;        /* "ogel-agent" */
    const char *summary;     /* one line for --help and the man page's NAME, without a full stop */
    const char *description; /* paragraphs, separated by an empty line */
    const char *version;     /* PACKAGE_VERSION */
    const struct opt *table; /* of the configuration file */
};

enum opts_action {
    OPTS_RUN,
    OPTS_CHECK_CONFIG, /* load and check the configuration, say so, exit */
    OPTS_EXIT,         /* all is done (help was printed): exit 0 */
};

struct opts {
    enum opts_action action;
    const char *config; /* points into argv; set for OPTS_RUN and OPTS_CHECK_CONFIG */
};

/* ERR_INVALID for a wrong command line; the text names the option and --help. Prints to stdout
 * where asked to. */
OGEL_MUST_CHECK int opts_parse(const struct opts_program *program, int argc, char **argv,
                               struct opts *opts, struct err *err);

#endif
