#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "cli/usage.h"

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    (void)ctl;
    if (strcmp(args->operands[0], "bash") != 0) {
        err_set(err, ERR_INVALID, "completion: \"%s\" (allowed: bash)", args->operands[0]);
        return CTL_USAGE;
    }
    usage_print_bash(stdout);
    return CTL_OK;
}

const struct ctl_command cmd_completion = {
    .name = "completion",
    .arguments = "bash",
    .summary = "print completion for a shell",
    .description =
        "Prints a script that makes bash complete commands, options and the names of nodes: "
        "source <(ogelctl completion bash).",
    .words = "bash",
    .operands_min = 1,
    .operands_max = 1,
    .local = true,
    .run = run,
};
