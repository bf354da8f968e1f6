#include "cli/commands.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/operation.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"to", 0, "NODE", "The node that shall lead; otherwise the one that has most.", "@node", false},
    {0},
};

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *to = args_value(args, "to");
    json_t *before = NULL, *body = NULL, *answer = NULL;
    struct progress progress;
    enum ctl_exit rc = operation_cluster(ctl, &before, err);
    char *text = NULL, *what = NULL;

    if (rc != CTL_OK)
        return rc;
    text = xasprintf(
        "This moves the leader of cluster %s from %s to %s. Writes pause for about half a "
        "second, and open connections to the old leader end; no commit is lost.",
        ctl->cluster, view_leader(before)[0] != '\0' ? view_leader(before) : "nobody",
        to != NULL ? to : "the follower that has most");
    rc = operation_ask(ctl, text, err);
    if (rc != CTL_OK)
        goto out;
    body = to != NULL ? json_pack("{s:s}", "target", to) : json_object();
    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/switchover", body, NULL, &answer, err);
    if (rc != CTL_OK)
        goto out;
    /* O2 tells that another node than the one asked for took over */
    what = xstrdup(strcmp(view_text(answer, "reason"), "O2") == 0 ? view_text(answer, "text")
                                                                  : "switchover done");
    rc = operation_say_leader(ctl, &progress, what, err);
out:
    free(what);
    free(text);
    json_decref(answer);
    json_decref(body);
    json_decref(before);
    return rc;
}

const struct ctl_command cmd_switchover = {
    .name = "switchover",
    .arguments = "[--to NODE]",
    .summary = "move the leader politely",
    .description =
        "The leader writes a checkpoint and stops; the follower that was named, or the one that "
        "has "
        "most, takes over once it has everything; the old leader follows it. No commit is lost. If "
        "another follower turns out to have more than the one that was named, it takes over "
        "instead, "
        "and the text says so.",
    .options = options,
    .run = run,
};
