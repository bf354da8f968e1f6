#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/source.h"
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

static const struct arg_row options[] = {
    SOURCE_ROWS(
        "reinit: clone the node from this snapshot, or from the latest of this cluster, and "
        "let it catch up from the leader."),
    {0},
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

/* Why the snapshot was of no use after all, of the events since SINCE; "": it was. */
static void tell_way(struct ctl *ctl, const char *node, const char *since)
{
    static const char *const reasons[] = {"C9", "C10", "C11"};
    char *path = client_cluster_path(ctl, "/events?limit=200");
    const json_t *event;
    json_t *answer = NULL;
    struct err ignored = {0};
    const char *why = NULL;
    size_t i;

    if (client_get(ctl, path, &answer, &ignored) == CTL_OK)
        json_array_foreach(json_object_get(answer, "events"), i, event)
        {
            if (strcmp(view_text(event, "node"), node) != 0 ||
                strcmp(view_text(event, "time"), since) < 0)
                continue;
            for (size_t k = 0; k < OGEL_ARRAY_LEN(reasons); k++)
                if (strcmp(view_text(event, "reason"), reasons[k]) == 0)
                    why = view_text(event, "text");
        }
    if (why != NULL)
        printf("%s: %s\n", node, why);
    json_decref(answer);
    free(path);
}

static enum ctl_exit carry_out(struct ctl *ctl, const struct action *action, const char *node,
                               const json_t *body, struct err *err)
{
    char since[CLOCK_ISO8601_SIZE];
    bool endless = strcmp(action->name, "reinit") == 0 && !ctl->timeout_given;
    struct progress progress;
    json_t *answer = NULL;
    enum ctl_exit rc;

    clock_format_iso8601(clock_wall_ms(), since);
    progress_begin(&progress, ctl);
    if (action->job) {
        rc = operation_job(ctl, &progress, node, action->name,
                           json_object_size(body) > 0 ? body : NULL, endless ? 0 : ctl->timeout_ms,
                           err);
    } else {
        char *id = client_encode(node), *suffix = xasprintf("/nodes/%s/%s", id, action->name);

        rc = operation_post(ctl, &progress, suffix, NULL, NULL, &answer, err);
        free(suffix);
        free(id);
    }
    if (rc == CTL_OK && !ctl->json)
        printf("%s %s (%.1f s)\n", node, action->ended, progress_seconds(&progress));
    if (rc == CTL_OK && !ctl->json && json_object_size(body) > 0)
        tell_way(ctl, node, since);
    json_decref(answer);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const struct action *action = find_action(args->operands[0]);
    const char *node = args->operands[1];
    json_t *cluster = NULL, *body = NULL;
    enum ctl_exit rc;
    char ids[80];

    if (action == NULL) {
        err_set(err, ERR_INVALID, "node: \"%s\" (allowed: restart, reinit, fence, unfence)",
                args->operands[0]);
        return CTL_USAGE;
    }
    body = source_body(args, err);
    if (body == NULL)
        return CTL_USAGE;
    if (json_object_size(body) > 0 && strcmp(action->name, "reinit") != 0) {
        err_set(err, ERR_INVALID, "node %s: --from-snapshot goes with reinit only", action->name);
        json_decref(body);
        return CTL_USAGE;
    }
    rc = operation_cluster(ctl, &cluster, err);
    if (rc != CTL_OK) {
        json_decref(body);
        return rc;
    }
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
        rc = carry_out(ctl, action, node, body, err);
    json_decref(body);
    if (rc == CTL_OK && ctl->json && operation_cluster(ctl, &cluster, err) == CTL_OK) {
        print_json(view_node(cluster, node));
        json_decref(cluster);
    }
    return rc;
}

const struct ctl_command cmd_node = {
    .name = "node",
    .arguments = "restart|reinit|fence|unfence NODE [--from-snapshot ID [--store URL]]",
    .summary = "restart, re-clone, fence or unfence one node",
    .description = "restart: Postgres on that node is stopped and started again; for a follower it "
                   "ends when it "
                   "streams again. On the leader another node takes over.\n\n"
                   "reinit: the node's data is thrown away and cloned anew, which the leader's "
                   "agent must permit: "
                   "one node at a time, and only while the other follower has complete data. "
                   "Without --timeout it "
                   "waits for as long as that takes. A leader is never re-cloned. With "
                   "--from-snapshot the bulk comes from the store and spares the leader, which has "
                   "to send only what was written since. Where it no longer has that, or the "
                   "snapshot is not the beginning of what it has, or cannot be restored, the node "
                   "is cloned from the leader all the same, and it is said why.\n\n"
                   "fence: the node neither acknowledges commits nor leads, whatever happens, "
                   "until unfence. It "
                   "holds across restarts of everything.",
    .options = options,
    .words = "restart reinit fence unfence",
    .operands_min = 2,
    .operands_max = 2,
    .run = run,
};
