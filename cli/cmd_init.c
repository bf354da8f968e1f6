#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/operation.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"first-leader", 0, "NODE",
     "The node that leads first; otherwise the first one, or the one that "
     "was initialised already.",
     "@node", false},
    {0},
};

static enum wait ready(const json_t *cluster, void *arg, struct err *err)
{
    json_t **last = arg;

    (void)err;
    json_decref(*last);
    *last = json_incref((json_t *)(uintptr_t)cluster);
    return view_flag(cluster, "writable") && view_flag(cluster, "failover_possible") ? WAIT_DONE
                                                                                     : WAIT_ON;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *first = args_value(args, "first-leader");
    struct progress progress;
    json_t *answer = NULL, *body = NULL, *cluster = NULL;
    enum ctl_exit rc = client_find_cluster(ctl, err);

    if (rc != CTL_OK)
        return rc;
    body = first != NULL ? json_pack("{s:s}", "first_leader", first) : json_object();
    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/init", body, NULL, &answer, err);
    if (rc == CTL_OK) {
        rc = operation_wait(ctl, &progress, ctl->timeout_ms, NULL, ready, &cluster, err);
        progress_end(&progress);
    }
    if (rc == CTL_OK && ctl->json)
        print_json(cluster);
    else if (rc == CTL_OK)
        printf("cluster %s is ready: %s leads generation %" PRId64 ", the others follow (%.1f s)\n",
               ctl->cluster, view_leader(cluster), view_number(cluster, "generation", 0),
               progress_seconds(&progress));
    json_decref(cluster);
    json_decref(answer);
    json_decref(body);
    return rc;
}

const struct ctl_command cmd_init = {
    .name = "init",
    .arguments = "[--first-leader NODE]",
    .summary = "make a new cluster of three empty nodes",
    .description =
        "Makes a new cluster: all three agents must answer and be empty, that is, have neither "
        "data "
        "nor a promise to another cluster. One node runs initdb and leads generation 2, the others "
        "are cloned from it. Nothing that exists is overwritten: a node with data makes it "
        "refuse.\n\n"
        "Where an earlier init did not come to its end, it may be given again. It ends when all "
        "three replicate.",
    .options = options,
    .run = run,
};
