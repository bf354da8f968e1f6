#include "cli/commands.h"

#include <stdio.h>

#include "cli/client.h"
#include "cli/options.h"
#include "cli/view.h"
#include "config.h"

enum { ASK_MS = 1000 };

/* The orchestrators' versions are shown where they can be had; nothing depends on it. */
static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    char address[UNITS_ADDRESS_SIZE];
    uint32_t count;

    printf("ogelctl %s\n", PACKAGE_VERSION);
    if (options_load(ctl, args, err) < 0) {
        err_clear(err);
        return CTL_OK;
    }
    count = ctl->config_file[0] != '\0' || args_given(args, "orchestrator")
                ? ctl->orchestrator_count
                : 0;
    ctl->timeout_ms = ASK_MS;
    for (uint32_t i = 0; i < count; i++) {
        struct ctl one = *ctl;
        json_t *answer = NULL;

        one.orchestrators[0] = ctl->orchestrators[i];
        one.orchestrator_count = 1;
        if (client_get(&one, "/healthz", &answer, err) == CTL_OK)
            printf("ogel-orchestrator %s at %s\n", view_text(answer, "version"),
                   units_format_address(&one.orchestrators[0], address));
        json_decref(answer);
    }
    err_clear(err);
    return CTL_OK;
}

const struct ctl_command cmd_version = {
    .name = "version",
    .arguments = "",
    .summary = "print the versions of this program and of the orchestrators that answer",
    .description = "Prints the version of ogelctl and, where a configuration is there, of each "
                   "orchestrator that answers within a second.",
    .local = true,
    .run = run,
};
