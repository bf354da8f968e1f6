#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/operation.h"

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    bool on = strcmp(args->operands[0], "on") == 0;
    json_t *body, *answer = NULL;
    struct progress progress;
    enum ctl_exit rc;

    if (!on && strcmp(args->operands[0], "off") != 0) {
        err_set(err, ERR_INVALID, "maintenance: \"%s\" (allowed: on, off)", args->operands[0]);
        return CTL_USAGE;
    }
    rc = client_find_cluster(ctl, err);
    if (rc != CTL_OK)
        return rc;
    body = json_pack("{s:b}", "enabled", on);
    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/maintenance", body, NULL, &answer, err);
    if (rc == CTL_OK && ctl->json)
        print_json(answer);
    else if (rc == CTL_OK && on)
        printf(
            "maintenance mode of cluster %s is on: nothing is failed over, stopped or moved, until "
            "ogelctl maintenance off\n",
            ctl->cluster);
    else if (rc == CTL_OK)
        printf("maintenance mode of cluster %s is off: the orchestrator acts again\n",
               ctl->cluster);
    json_decref(answer);
    json_decref(body);
    return rc;
}

const struct ctl_command cmd_maintenance = {
    .name = "maintenance",
    .arguments = "on|off",
    .summary = "keep the orchestrator from acting, or let it act again",
    .description =
        "In maintenance mode every orchestrator observes and touches nothing: a leader that dies "
        "is not "
        "replaced. It holds across restarts of everything, and is ended without a leader, too. "
        "status, "
        "watch and the metrics say so.",
    .words = "on off",
    .operands_min = 1,
    .operands_max = 1,
    .run = run,
};
