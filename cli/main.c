/* ogelctl: finds the command, reads the options, and says at the end what went wrong. */
#include <stdio.h>
#include <string.h>

#include "base/http_client.h"
#include "base/log.h"
#include "cli/options.h"
#include "cli/usage.h"
#include "config.h"

static enum ctl_exit failed(enum ctl_exit rc, const struct err *err)
{
    if (err->code != ERR_NONE)
        fprintf(stderr, "ogelctl: %s\n", err->text);
    return rc;
}

/* What needs no command: help, version, the manual. True when that was it. */
static bool answered(const struct args *args, const struct ctl_command *command)
{
    if (args_given(args, "print-man"))
        usage_print_man(stdout);
    else if (args_given(args, "version"))
        printf("ogelctl %s\n", PACKAGE_VERSION);
    else if (args_given(args, "help") && command != NULL)
        usage_print_command(stdout, command);
    else if (args_given(args, "help"))
        usage_print(stdout);
    else
        return false;
    return true;
}

static int check_operands(const struct ctl_command *command, const struct args *args,
                          struct err *err)
{
    if (args->operand_count > command->operands_max)
        return err_set(err, ERR_INVALID, "\"%s\" is one argument too many; see ogelctl %s --help",
                       args->operands[command->operands_max], command->name);
    if (args->operand_count < command->operands_min)
        return err_set(err, ERR_INVALID, "an argument is missing: ogelctl %s %s", command->name,
                       command->arguments);
    return 0;
}

static enum ctl_exit run(int argc, char **argv, struct err *err)
{
    const struct arg_row *tables[] = {ctl_global_options, NULL, NULL};
    const struct ctl_command *command;
    struct args args = {0};
    struct ctl ctl;
    char program[64];
    int at = 1;

    if (args_parse(tables, argc, argv, &at, true, "ogelctl", &args, err) < 0)
        return CTL_USAGE;
    if (answered(&args, NULL))
        return CTL_OK;
    if (at >= argc) {
        usage_print(stderr);
        return CTL_USAGE;
    }
    command = ctl_command_find(argv[at]);
    if (command == NULL) {
        err_set(err, ERR_INVALID, "there is no command \"%.64s\"; ogelctl --help lists them",
                argv[at]);
        return CTL_USAGE;
    }
    at++;
    tables[1] = command->options;
    snprintf(program, sizeof(program), "ogelctl %s", command->name);
    if (args_parse(tables, argc, argv, &at, false, program, &args, err) < 0)
        return CTL_USAGE;
    if (answered(&args, command))
        return CTL_OK;
    if (check_operands(command, &args, err) < 0)
        return CTL_USAGE;
    if (command->local)
        memset(&ctl, 0, sizeof(ctl));
    else if (options_load(&ctl, &args, err) < 0)
        return CTL_USAGE;
    return command->run(&ctl, &args, err);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    enum ctl_exit rc;

    http_client_global_init();
    rc = run(argc, argv, &err);
    if (fflush(stdout) != 0 && rc == CTL_OK)
        rc = CTL_REFUSED; /* a full disk, or a reader that went away */
    return (int)failed(rc, &err);
}
