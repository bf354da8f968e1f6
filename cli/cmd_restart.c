#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/operation.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"rolling", 0, NULL, "One node after the other; required, as there is no other way.", NULL,
     false},
    {0},
};

enum { FOLLOWERS = 2, ID_SIZE = 32, SETTLE_MS = 10000 };

struct plan {
    char leader[ID_SIZE];
    char followers[FOLLOWERS][ID_SIZE];
};

/* Each step leaves two complete nodes only if there are three to begin with. */
static enum ctl_exit plan_make(const struct ctl *ctl, const json_t *cluster, struct plan *plan,
                               struct err *err)
{
    const json_t *node;
    size_t i, count = 0;

    snprintf(plan->leader, sizeof(plan->leader), "%s", view_leader(cluster));
    if (view_flag(cluster, "maintenance") || !view_flag(cluster, "failover_possible") ||
        !view_flag(cluster, "writable")) {
        view_print_blockers(cluster, stderr, ctl->color_err);
        err_set(err, ERR_REFUSED,
                "a rolling restart needs a leader that takes writes and two followers "
                "that could take over; nothing was done");
        return CTL_REFUSED;
    }
    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        const char *id = view_text(node, "id");

        if (!view_settled(node)) {
            err_set(err, ERR_REFUSED,
                    "%s is %s: a rolling restart begins when all three nodes are up; "
                    "nothing was done",
                    id, view_text(node, "state"));
            return CTL_REFUSED;
        }
        if (strcmp(id, plan->leader) != 0 && count < FOLLOWERS)
            snprintf(plan->followers[count++], ID_SIZE, "%s", id);
    }
    return CTL_OK;
}

/* A standby that connects anew, as after a short cut of the network, is up again in a moment; what
 * else is wrong with a node lasts. */
static enum wait nothing_passing(const json_t *cluster, void *arg, struct err *err)
{
    const json_t *node;
    size_t i;

    (void)arg;
    (void)err;
    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        const char *state = view_text(node, "state");

        if (!view_settled(node) &&
            (strcmp(state, "running") == 0 || strcmp(state, "starting") == 0 ||
             strcmp(state, "catching up") == 0))
            return WAIT_ON;
    }
    return WAIT_DONE;
}

/* The cluster, once nothing passes by itself any more; after SETTLE_MS as it is. */
static enum ctl_exit settled_cluster(struct ctl *ctl, json_t **cluster, struct err *err)
{
    struct progress progress;
    struct err late = {0}; /* what is wrong then, plan_make() says */
    bool hurry = ctl->timeout_ms > 0 && ctl->timeout_ms < SETTLE_MS;
    enum ctl_exit rc = operation_cluster(ctl, cluster, err);

    if (rc != CTL_OK || nothing_passing(*cluster, NULL, NULL) == WAIT_DONE)
        return rc;
    json_decref(*cluster);
    *cluster = NULL;
    progress_begin(&progress, ctl);
    operation_wait(ctl, &progress, hurry ? ctl->timeout_ms : SETTLE_MS, NULL, nothing_passing, NULL,
                   &late);
    progress_end(&progress);
    return operation_cluster(ctl, cluster, err);
}

static enum ctl_exit restart(struct ctl *ctl, const char *node, struct err *err)
{
    struct progress progress;
    enum ctl_exit rc;

    progress_begin(&progress, ctl);
    rc = operation_job(ctl, &progress, node, "restart", NULL, ctl->timeout_ms, err);
    if (rc != CTL_OK)
        err_context(err, "%s", node);
    else if (!ctl->json)
        printf("%s was restarted (%.1f s)\n", node, progress_seconds(&progress));
    fflush(stdout);
    return rc;
}

static enum wait all_settled(const json_t *cluster, void *arg, struct err *err)
{
    const json_t *node;
    size_t i;

    (void)arg;
    (void)err;
    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        if (!view_settled(node))
            return WAIT_ON;
    }
    return view_flag(cluster, "writable") ? WAIT_DONE : WAIT_ON;
}

static enum ctl_exit move_leader(struct ctl *ctl, const char *old, struct err *err)
{
    struct progress progress;
    json_t *body = json_object(), *answer = NULL;
    enum ctl_exit rc;

    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/switchover", body, NULL, &answer, err);
    if (rc == CTL_OK)
        rc = operation_wait(ctl, &progress, ctl->timeout_ms, old, all_settled, NULL, err);
    progress_end(&progress);
    if (rc != CTL_OK)
        err_context(err, "switchover");
    else if (!ctl->json)
        printf("%s leads no longer (%.1f s)\n", old, progress_seconds(&progress));
    fflush(stdout);
    json_decref(answer);
    json_decref(body);
    return rc;
}

static enum ctl_exit roll(struct ctl *ctl, const struct plan *plan, struct err *err)
{
    enum ctl_exit rc = CTL_OK;
    struct progress progress;

    for (int i = 0; i < FOLLOWERS && rc == CTL_OK; i++)
        rc = restart(ctl, plan->followers[i], err);
    if (rc == CTL_OK)
        rc = move_leader(ctl, plan->leader, err);
    if (rc == CTL_OK)
        rc = restart(ctl, plan->leader, err);
    if (rc != CTL_OK)
        return rc;
    progress_begin(&progress, ctl);
    rc = operation_wait(ctl, &progress, ctl->timeout_ms, NULL, all_settled, NULL, err);
    progress_end(&progress);
    return rc == CTL_OK ? operation_say_leader(ctl, &progress, "all three were restarted", err)
                        : rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    json_t *cluster = NULL;
    struct plan plan;
    enum ctl_exit rc;
    char *text;

    if (!args_given(args, "rolling")) {
        err_set(err, ERR_INVALID,
                "restart --rolling restarts all three nodes one after the other; "
                "ogelctl node restart NODE restarts one");
        return CTL_USAGE;
    }
    memset(&plan, 0, sizeof(plan));
    rc = settled_cluster(ctl, &cluster, err);
    if (rc == CTL_OK)
        rc = plan_make(ctl, cluster, &plan, err);
    json_decref(cluster);
    if (rc != CTL_OK)
        return rc;
    text = xasprintf(
        "This restarts Postgres on %s, then on %s, moves the leader away from %s, and "
        "restarts that. Each step waits until all three replicate again; writes pause once, "
        "for about half a second, and each node's connections end once.",
        plan.followers[0], plan.followers[1], plan.leader);
    rc = operation_ask(ctl, text, err);
    free(text);
    return rc == CTL_OK ? roll(ctl, &plan, err) : rc;
}

const struct ctl_command cmd_restart = {
    .name = "restart",
    .arguments = "--rolling",
    .summary = "restart all three nodes, one after the other",
    .description =
        "For settings that wait for a restart (config diff shows them) and for new versions of "
        "Postgres' programs: restarts the followers one by one, each time waiting until it streams "
        "with complete data, then moves the leader, and restarts the old one. Begins when all "
        "three are up: a node that is just connecting is waited for, for ten seconds. It stops at "
        "the first step that fails. --timeout counts for each step.",
    .options = options,
    .run = run,
};
