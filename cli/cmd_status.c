#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/client.h"
#include "cli/operation.h"
#include "cli/view.h"

/* {"clusters": [...]}: of the one that was named, else all. */
static enum ctl_exit fetch(struct ctl *ctl, json_t **clusters, struct err *err)
{
    json_t *answer = NULL;
    enum ctl_exit rc;
    char *path;

    *clusters = NULL;
    if (ctl->cluster[0] == '\0') {
        rc = client_get(ctl, "/v1/clusters", &answer, err);
        if (rc == CTL_OK)
            *clusters = json_incref(json_object_get(answer, "clusters"));
    } else {
        path = client_cluster_path(ctl, "");
        rc = client_get(ctl, path, &answer, err);
        if (rc == CTL_OK)
            *clusters = json_pack("[O]", answer);
        free(path);
    }
    json_decref(answer);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    json_t *clusters, *cluster;
    enum ctl_exit rc = fetch(ctl, &clusters, err), worst = CTL_OK;
    size_t i;

    (void)args;
    if (rc != CTL_OK)
        return rc;
    if (ctl->json) {
        json_t *all = json_pack("{s:o}", "clusters", clusters);

        print_json(all);
        json_decref(all);
        return CTL_OK;
    }
    json_array_foreach(clusters, i, cluster)
    {
        enum ctl_exit health = view_health(cluster);

        if (i > 0)
            putchar('\n');
        view_print_cluster(cluster, stdout, ctl->color_out);
        if (health > worst)
            worst = health;
    }
    json_decref(clusters);
    return worst;
}

const struct ctl_command cmd_status = {
    .name = "status",
    .arguments = "",
    .summary = "show how the clusters are, problems first",
    .description = "The first line says who leads, whether commits are acknowledged, and whether a "
                   "failover would "
                   "succeed now; below it what is wrong and what may be done; then a line for each "
                   "node. SYNC says "
                   "whether the node's acknowledgement completes a commit (quorum), LAG how much "
                   "WAL it has still "
                   "to replay, NOTE what it is doing or what stands in its way.\n\n"
                   "The exit code tells scripts the worst of all clusters shown: 0, 5 (no failover "
                   "is possible; "
                   "also in maintenance mode) or 6 (no leader takes writes). With -o json the "
                   "health is in the "
                   "answer, and the code is 0 whenever there is one.",
    .run = run,
};
