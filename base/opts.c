#include "base/opts.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/roff.h"

static const struct {
    struct option option;
    const char *argument;
    const char *help;
} options[] = {
    {{"config", required_argument, NULL, 'c'}, "FILE", "read the configuration from FILE"},
    {{"check-config", no_argument, NULL, 'C'}, NULL, "check the configuration and exit"},
    {{"print-sample-config", no_argument, NULL, 'S'}, NULL, "print an annotated configuration"},
    {{"print-man", no_argument, NULL, 'M'}, NULL, "print the manual page in roff"},
    {{"help", no_argument, NULL, 'h'}, NULL, "print this text and exit"},
    {{"version", no_argument, NULL, 'V'}, NULL, "print the version and exit"},
};

static void print_help(const struct opts_program *program)
{
    printf("%s - %s\n\nUsage: %s --config FILE\n\nOptions:\n", program->name, program->summary,
           program->name);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(options); i++) {
        char left[64];

        snprintf(left, sizeof(left), "--%s%s%s", options[i].option.name,
                 options[i].argument != NULL ? " " : "",
                 options[i].argument != NULL ? options[i].argument : "");
        printf("  %-22s %s\n", left, options[i].help);
    }
    printf("\nConfiguration (YAML):\n");
    conf_print_help(stdout, program->table);
}

static void print_man(const struct opts_program *program)
{
    printf(".TH %s 8 \"\" \"ogel %s\" \"ogel\"\n.SH NAME\n%s \\- %s\n", program->name,
           program->version, program->name, program->summary);
    printf(".SH SYNOPSIS\n.B %s\n\\fB\\-\\-config\\fR \\fIFILE\\fR\n.SH DESCRIPTION\n",
           program->name);
    for (const char *at = program->description; *at != '\0';) {
        const char *end = strstr(at, "\n\n");
        size_t len = end != NULL ? (size_t)(end - at) : strlen(at);
        char *paragraph = xstrndup(at, len);

        printf(".PP\n");
        roff_text(stdout, paragraph);
        printf("\n");
        free(paragraph);
        at += len;
        at += strspn(at, "\n");
    }
    printf(".SH OPTIONS\n");
    for (size_t i = 0; i < OGEL_ARRAY_LEN(options); i++) {
        printf(".TP\n\\fB\\-\\-%s\\fR", options[i].option.name);
        if (options[i].argument != NULL)
            printf(" \\fI%s\\fR", options[i].argument);
        printf("\n");
        roff_text(stdout, options[i].help);
        printf("\n");
    }
    printf(".SH CONFIGURATION\nThe file is YAML. Durations have a unit (ms, s, min, h, d), sizes "
           "too (B, kB, MB, GB, TB).\n");
    conf_print_man(stdout, program->table);
}

int opts_parse(const struct opts_program *program, int argc, char **argv, struct opts *opts,
               struct err *err)
{
    struct option table[OGEL_ARRAY_LEN(options) + 1] = {{0}};
    bool check = false;
    int c;

    *opts = (struct opts){.action = OPTS_EXIT};
    for (size_t i = 0; i < OGEL_ARRAY_LEN(options); i++)
        table[i] = options[i].option;
    opterr = 0;
    optind = 0;
    while ((c = getopt_long(argc, argv, "+:c:hV", table, NULL)) != -1) {
        switch (c) {
        case 'c': opts->config = optarg; break;
        case 'C': check = true; break;
        case 'S': conf_print_sample(stdout, program->table); return 0;
        case 'M': print_man(program); return 0;
        case 'h': print_help(program); return 0;
        case 'V': printf("%s %s\n", program->name, program->version); return 0;
        case ':':
            return err_set(err, ERR_INVALID, "option \"%s\" needs a value; see %s --help",
                           argv[optind - 1], program->name);
        default:
            return err_set(err, ERR_INVALID, "option \"%s\" is unknown; see %s --help",
                           argv[optind - 1], program->name);
        }
    }
    if (optind < argc)
        return err_set(err, ERR_INVALID, "\"%s\" is one argument too many; see %s --help",
                       argv[optind], program->name);
    if (opts->config == NULL)
        return err_set(err, ERR_INVALID, "option \"--config\" is required; see %s --help",
                       program->name);
    opts->action = check ? OPTS_CHECK_CONFIG : OPTS_RUN;
    return 0;
}
