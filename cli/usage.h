/* --help, the manual and the shell's completion, all from the tables of commands and options. */
#ifndef OGEL_CLI_USAGE_H
#define OGEL_CLI_USAGE_H

#include <stdio.h>

#include "cli/cli.h"

void usage_print(FILE *out);
void usage_print_command(FILE *out, const struct ctl_command *command);
void usage_print_man(FILE *out);
void usage_print_bash(FILE *out);

#endif
