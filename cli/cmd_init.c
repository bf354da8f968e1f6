#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/source.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"first-leader", 0, "NODE",
     "The node that leads first; otherwise the first one, or the one that "
     "was initialised already.",
     "@node", false},
    SOURCE_ROWS("The snapshot that the new cluster begins with, rather than empty."),
    {0},
};

static const char question[] =
    "This makes a new cluster %s of snapshot %s. What was committed after that snapshot is not in "
    "it. "
    "Where "
    "the cluster that it was taken of still runs, the two go separate ways from here.";

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* What stands in the way of the restore; "": nothing. It is tried again for as long as nobody asks
 * for something else, but nobody should wait for it without knowing. */
static const char *restore_failure(const json_t *cluster, const char **node)
{
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(cluster, "nodes"), i, one)
    {
        const char *step = view_text(one, "step"), *cause = view_text(one, "cause");

        *node = view_text(one, "id");
        if ((begins(step, "N16") && begins(cause, "restore failed: ")) || begins(step, "N18"))
            return cause;
    }
    return "";
}

static enum wait ready(const json_t *cluster, void *arg, struct err *err)
{
    json_t **last = arg;
    const char *node = "", *failure = restore_failure(cluster, &node);

    json_decref(*last);
    *last = json_incref((json_t *)(uintptr_t)cluster);
    if (failure[0] != '\0') {
        err_set(err, ERR_REFUSED,
                "%s: %s; its agent goes on trying, until ogelctl init is given again for it or for "
                "another snapshot",
                node, failure);
        return WAIT_FAILED;
    }
    return view_flag(cluster, "writable") && view_flag(cluster, "failover_possible") ? WAIT_DONE
                                                                                     : WAIT_ON;
}

static enum ctl_exit ask(const struct ctl *ctl, const char *snapshot, struct err *err)
{
    char *text = xasprintf(question, ctl->cluster, snapshot);
    enum ctl_exit rc = operation_ask(ctl, text, err);

    free(text);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *first = args_value(args, "first-leader");
    const char *snapshot = args_value(args, "from-snapshot");
    int64_t timeout_ms = snapshot != NULL && !ctl->timeout_given ? 0 : ctl->timeout_ms;
    struct progress progress;
    json_t *answer = NULL, *body = source_body(args, err), *cluster = NULL;
    enum ctl_exit rc = CTL_USAGE;

    if (body == NULL)
        return rc;
    rc = client_find_cluster(ctl, err);
    if (rc == CTL_OK && snapshot != NULL)
        rc = ask(ctl, snapshot, err);
    if (rc != CTL_OK) {
        json_decref(body);
        return rc;
    }
    if (first != NULL)
        json_object_set_new(body, "first_leader", json_string(first));
    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/init", body, NULL, &answer, err);
    if (rc == CTL_OK) {
        rc = operation_wait(ctl, &progress, timeout_ms, NULL, ready, &cluster, err);
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
    .arguments = "[--first-leader NODE] [--from-snapshot ID [--store URL]]",
    .summary = "make a new cluster of three empty nodes",
    .description =
        "Makes a new cluster: all three agents must answer and be empty, that is, have neither "
        "data "
        "nor a promise to another cluster. One node runs initdb and leads generation 2, the others "
        "are cloned from it. Nothing that exists is overwritten: a node with data makes it "
        "refuse.\n\n"
        "With --from-snapshot the first leader restores a snapshot rather than running initdb, and "
        "leads a generation above those that the snapshot has seen. Users and databases are the "
        "snapshot's; the passwords of postgres, of the owner and of the roles for replication "
        "become this cluster's; settings and access rules are the new cluster's own. Without "
        "--timeout it waits for as long as that takes.\n\n"
        "Where an earlier init did not come to its end, it may be given again. It ends when all "
        "three replicate.",
    .options = options,
    .run = run,
};
