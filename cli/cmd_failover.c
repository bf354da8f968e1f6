#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/operation.h"
#include "cli/table.h"
#include "cli/view.h"

static const struct arg_row options[] = {
    {"to", 0, "NODE", "The node that shall lead; otherwise the one that has most.", "@node", false},
    {"accept-data-loss", 0, NULL,
     "Elect although fewer than two nodes that may vote are left; needs "
     "--destroyed.",
     NULL, false},
    {"destroyed", 0, "NODE[,NODE]",
     "The nodes that are destroyed for good: they will never run again "
     "with the data they had.",
     "@node", false},
    {0},
};

/* --- what is at stake ----------------------------------------------------------------------- */

static bool is_listed(const json_t *list, const char *id)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
    {
        if (strcmp(json_string_value(item), id) == 0)
            return true;
    }
    return false;
}

/* The position that is known of a node: (timeline, LSN); false: nothing is. */
static bool position_of(const json_t *node, uint32_t *timeline, uint64_t *lsn)
{
    int64_t number = view_number(node, "timeline", 0);

    *timeline = number > 0 ? (uint32_t)number : 0;
    return *timeline > 0 && units_parse_lsn(view_text(node, "flush_lsn"), lsn, NULL) == 0;
}

static void tell_loss(const json_t *node, uint32_t timeline, uint64_t lsn, FILE *out)
{
    const char *id = view_text(node, "id");
    uint32_t its_timeline;
    uint64_t its_lsn;
    char from[UNITS_TEXT_SIZE], to[UNITS_TEXT_SIZE], size[32];

    if (!position_of(node, &its_timeline, &its_lsn)) {
        fprintf(out,
                "  %s  destroyed; its last position is NOT KNOWN here: what only it had is lost\n",
                id);
        return;
    }
    units_format_lsn(its_lsn, to);
    fprintf(out, "  %s  destroyed; last known: timeline %" PRIu32 ", WAL flushed to %s\n", id,
            its_timeline, to);
    if (its_timeline != timeline)
        fprintf(out,
                "      another timeline than the survivor's: what only it had cannot be told\n");
    else if (its_lsn > lsn)
        fprintf(out, "      WAL from %s to %s (%s), and all since then, is LOST with it\n",
                units_format_lsn(lsn, from), to, size_text(its_lsn - lsn, size));
    else
        fprintf(out, "      no more than the survivor when last seen; all since then is LOST\n");
}

/* The survivors with their positions, then the nodes declared destroyed with what they may take
 * along. */
static char *loss_text(const struct ctl *ctl, const json_t *cluster, const json_t *destroyed)
{
    uint32_t timeline, best_timeline = 0;
    uint64_t lsn, best_lsn = 0;
    char *text = NULL, lsn_text[UNITS_TEXT_SIZE];
    const json_t *node, *nodes = json_object_get(cluster, "nodes");
    size_t size, i;
    FILE *out = open_memstream(&text, &size);

    OGEL_CHECK(out != NULL);
    fprintf(
        out,
        "This gives up data. You declare that these nodes of cluster %s are destroyed for good, "
        "and a survivor leads with what it has:\n\n",
        ctl->cluster);
    json_array_foreach(nodes, i, node)
    {
        if (is_listed(destroyed, view_text(node, "id")))
            continue;
        if (!position_of(node, &timeline, &lsn)) {
            fprintf(out, "  %s  survives; its position is not known here\n", view_text(node, "id"));
            continue;
        }
        fprintf(out, "  %s  survives; timeline %" PRIu32 ", WAL flushed to %s\n",
                view_text(node, "id"), timeline, units_format_lsn(lsn, lsn_text));
        if (timeline > best_timeline || (timeline == best_timeline && lsn > best_lsn)) {
            best_timeline = timeline;
            best_lsn = lsn;
        }
    }
    json_array_foreach(nodes, i, node)
    {
        if (is_listed(destroyed, view_text(node, "id")))
            tell_loss(node, best_timeline, best_lsn, out);
    }
    fputs(
        "\nCommits that were acknowledged to applications may be among what is lost. If one of "
        "these "
        "nodes is\nNOT destroyed but only cut off, it may go on taking writes: then there are TWO "
        "HISTORIES of your data\nthat nothing can merge. Be sure that their machines are off or "
        "their "
        "disks are gone.\n",
        out);
    OGEL_CHECK(fclose(out) == 0);
    return text;
}

/* --- the command ---------------------------------------------------------------------------- */

static char *plain_text(const struct ctl *ctl, const json_t *cluster, const char *to)
{
    const char *leader = view_leader(cluster);
    char *target = to != NULL ? xstrdup(to) : xstrdup("the node that has most");
    char *text;

    if (leader[0] == '\0')
        text = xasprintf(
            "Cluster %s has no leader. This elects %s now, if two nodes that may vote answer; "
            "no acknowledged commit is lost.",
            ctl->cluster, target);
    else if (view_flag(cluster, "writable"))
        text = xasprintf(
            "The leader of cluster %s, %s, is healthy: a switchover is smoother (ogelctl "
            "switchover%s%s). A failover fences it at once and elects %s; open transactions "
            "end, no acknowledged commit is lost.",
            ctl->cluster, leader, to != NULL ? " --to " : "", to != NULL ? to : "", target);
    else
        text = xasprintf("This fences %s, the leader of cluster %s, at once and elects %s; open "
                         "transactions end, no acknowledged commit is lost.",
                         leader, ctl->cluster, target);
    free(target);
    return text;
}

/* "n1,n3" as a list; NULL with err for one that is no node. */
static json_t *read_destroyed(const json_t *cluster, const char *text, struct err *err)
{
    json_t *list = json_array();
    char ids[80];

    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        char *id = xstrndup(text, len);
        bool known = view_node(cluster, id) != NULL;

        if (known && !is_listed(list, id))
            json_array_append_new(list, json_string(id));
        if (!known)
            err_set(err, ERR_INVALID,
                    "option \"--destroyed\": there is no node \"%s\" (allowed: %s)", id,
                    view_node_ids(cluster, ids));
        free(id);
        if (!known) {
            json_decref(list);
            return NULL;
        }
        text += len + (text[len] == ',');
    }
    return list;
}

static enum ctl_exit check_options(const struct args *args, struct err *err)
{
    const char *destroyed = args_value(args, "destroyed");

    if (args_given(args, "accept-data-loss") == (destroyed != NULL && destroyed[0] != '\0'))
        return CTL_OK;
    err_set(err, ERR_INVALID,
            "--accept-data-loss and --destroyed go together: name the nodes that are "
            "destroyed for good");
    return CTL_USAGE;
}

static enum ctl_exit failover(struct ctl *ctl, const json_t *body, struct err *err)
{
    struct progress progress;
    json_t *answer = NULL;
    enum ctl_exit rc;

    progress_begin(&progress, ctl);
    rc = operation_post(ctl, &progress, "/failover", body, NULL, &answer, err);
    json_decref(answer);
    if (rc != CTL_OK)
        return rc;
    /* One survivor alone takes no writes: that needs a second node, which may be hours away. */
    if (json_object_get(body, "destroyed") == NULL)
        return operation_say_leader(ctl, &progress, "failover done", err);
    rc = operation_cluster(ctl, &answer, err);
    if (rc == CTL_OK && ctl->json)
        print_json(answer);
    else if (rc == CTL_OK)
        printf(
            "failover done: %s leads generation %" PRId64 " (%.1f s); it takes writes once another "
            "node replicates from it: give it new machines in place of those destroyed\n",
            view_leader(answer), view_number(answer, "generation", 0), progress_seconds(&progress));
    json_decref(answer);
    return rc;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *to = args_value(args, "to"), *destroyed = args_value(args, "destroyed");
    json_t *before = NULL, *body = json_object(), *list = NULL;
    char *text = NULL;
    enum ctl_exit rc = check_options(args, err);

    if (rc == CTL_OK)
        rc = operation_cluster(ctl, &before, err);
    if (rc != CTL_OK)
        goto out;
    if (to != NULL)
        json_object_set_new(body, "target", json_string(to));
    if (destroyed != NULL) {
        list = read_destroyed(before, destroyed, err);
        if (list == NULL) {
            rc = CTL_USAGE;
            goto out;
        }
        json_object_set_new(body, "accept_data_loss", json_true());
        json_object_set(body, "destroyed", list);
    }
    text = list != NULL ? loss_text(ctl, before, list) : plain_text(ctl, before, to);
    rc = operation_ask(ctl, text, err);
    if (rc == CTL_OK)
        rc = failover(ctl, body, err);
out:
    free(text);
    json_decref(list);
    json_decref(body);
    json_decref(before);
    return rc;
}

const struct ctl_command cmd_failover = {
    .name = "failover",
    .arguments = "[--to NODE] [--accept-data-loss --destroyed NODE[,NODE]]",
    .summary = "elect a leader now, without the polite part",
    .description = "Fences the leader, if there is one, and elects the node that has most (or the "
                   "one named, if none "
                   "has more). It needs two nodes that may vote, and loses no acknowledged commit. "
                   "While the leader "
                   "is healthy, switchover does the same more smoothly. A leader that dies is "
                   "failed over without "
                   "this command.\n\n"
                   "Where two of three nodes are destroyed for good, no election is possible, "
                   "because commits may "
                   "have been acknowledged by the two that are gone. --accept-data-loss "
                   "--destroyed NODE[,NODE] is the "
                   "only way past that: it shows what is known of the WAL at stake, asks, elects "
                   "the survivor, and "
                   "leaves an event in the history. The nodes declared destroyed never take part "
                   "again with the data "
                   "they had. A false declaration makes two histories of your data.",
    .options = options,
    .run = run,
};
