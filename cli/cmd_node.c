#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/view.h"

/* What an action will do, for a follower and for the leader; NULL: it need not be asked about. */
struct action {
    const char *name;
    const char *follower, *leader;
    const char *ended;
    bool job;
};

static const struct action actions[] = {
    {"restart",
     "This restarts Postgres on %s, a follower of cluster %s. Its connections end; commits go on "
     "as long "
     "as the other follower is there.",
     "This restarts Postgres on %s, which LEADS cluster %s: another node takes over, as if it had "
     "died. "
     "ogelctl switchover first is smoother.",
     "was restarted", true},
    {"reinit",
     "This throws away the data of %s, a follower of cluster %s, and clones it anew. Until that is "
     "done "
     "no failover is possible, unless the leader survives.",
     NULL, "was cloned anew", true},
    {"fence",
     "This fences %s in cluster %s: its Postgres accepts no clients, acknowledges no commit and "
     "will not "
     "lead, until ogelctl node unfence.",
     "This fences %s, which LEADS cluster %s: another node takes over. ogelctl switchover first is "
     "smoother.",
     "is fenced", false},
    {"unfence", NULL, NULL, "is no longer fenced", false},
};

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(actions); i++) {
        if (strcmp(actions[i].name, name) == 0)
            return &actions[i];
    }
    return NULL;
}

static enum ctl_exit ask(const struct ctl *ctl, const struct action *action, const json_t *cluster,
                         const char *node, struct err *err)
{
    bool leads = strcmp(view_leader(cluster), node) == 0;
    const char *text = leads ? action->leader : action->follower;
    enum ctl_exit rc;
    char *whole;

    if (text == NULL)
        return CTL_OK;
    whole = xasprintf(text, node, ctl->cluster);
    rc = operation_ask(ctl, whole, err);
    free(whole);
    return rc;
}

static enum ctl_exit carry_out(struct ctl *ctl, const struct action *action, const char *node,
                               struct err *err)
{
    bool endless = strcmp(action->name, "reinit") == 0 && !ctl->timeout_given;
    struct progress progress;
    json_t *answer = NULL;
    enum ctl_exit rc;

    progress_begin(&progress, ctl);
    if (action->job) {
        rc = operation_job(ctl, &progress, node, action->name, endless ? 0 : ctl->timeout_ms, err);
    } else {
        char *id = client_encode(node), *suffix = xasprintf("/nodes/%s/%s", id, action->name);

        rc = operation_post(ctl, &progress, suffix, NULL, NULL, &answer, err);
        free(suffix);
        free(id);
    }
    if (rc == CTL_OK && !ctl->json)
        printf("%s %s (%.1f s)\n", node, action->ended, progress_seconds(&progress));
    json_decref(answer);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const struct action *action = find_action(args->operands[0]);
    const char *node = args->operands[1];
    json_t *cluster = NULL;
    enum ctl_exit rc;
    char ids[80];

    if (action == NULL) {
        err_set(err, ERR_INVALID, "node: \"%s\" (allowed: restart, reinit, fence, unfence)",
                args->operands[0]);
        return CTL_USAGE;
    }
    rc = operation_cluster(ctl, &cluster, err);
    if (rc != CTL_OK)
        return rc;
    if (view_node(cluster, node) == NULL) {
        err_set(err, ERR_NOT_FOUND, "cluster %s has no node \"%s\" (it has %s)", ctl->cluster, node,
                view_node_ids(cluster, ids));
        rc = CTL_REFUSED;
    } else if (strcmp(action->name, "reinit") == 0 && strcmp(view_leader(cluster), node) == 0) {
        err_set(err, ERR_REFUSED,
                "%s leads cluster %s: its data is not thrown away; ogelctl switchover "
                "first",
                node, ctl->cluster);
        rc = CTL_REFUSED;
    } else {
        rc = ask(ctl, action, cluster, node, err);
    }
    json_decref(cluster);
    if (rc == CTL_OK)
        rc = carry_out(ctl, action, node, err);
    if (rc == CTL_OK && ctl->json && operation_cluster(ctl, &cluster, err) == CTL_OK) {
        print_json(view_node(cluster, node));
        json_decref(cluster);
    }
    return rc;
}

const struct ctl_command cmd_node = {
    .name = "node",
    .arguments = "restart|reinit|fence|unfence NODE",
    .summary = "restart, re-clone, fence or unfence one node",
    .description = "restart: Postgres on that node is stopped and started again; for a follower it "
                   "ends when it "
                   "streams again. On the leader another node takes over.\n\n"
                   "reinit: the node's data is thrown away and cloned anew, which the leader's "
                   "agent must permit: "
                   "one node at a time, and only while the other follower has complete data. "
                   "Without --timeout it "
                   "waits for as long as that takes. A leader is never re-cloned.\n\n"
                   "fence: the node neither acknowledges commits nor leads, whatever happens, "
                   "until unfence. It "
                   "holds across restarts of everything.",
    .words = "restart reinit fence unfence",
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
