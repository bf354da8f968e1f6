#include "cli/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/table.h"

/* --- fields --------------------------------------------------------------------------------- */

const char *view_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

bool view_flag(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

int64_t view_number(const json_t *object, const char *name, int64_t otherwise)
{
    const json_t *value = json_object_get(object, name);

    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

const json_t *view_node(const json_t *cluster, const char *id)
{
    const json_t *node;
    size_t i;

    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        if (strcmp(view_text(node, "id"), id) == 0)
            return node;
    }
    return NULL;
}

const char *view_leader(const json_t *cluster)
{
    return view_text(cluster, "leader");
}

bool view_settled(const json_t *node)
{
    const char *state = view_text(node, "state");

    return strcmp(state, "streaming") == 0 ||
           (strcmp(view_text(node, "role"), "leader") == 0 && strcmp(state, "running") == 0);
}

const char *view_node_ids(const json_t *cluster, char buf[80])
{
    const json_t *node;
    size_t i, used = 0;

    buf[0] = '\0';
    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        snprintf(buf + used, 80 - used, "%s%.20s", i > 0 ? ", " : "", view_text(node, "id"));
        used = strlen(buf);
    }
    return buf;
}

enum ctl_exit view_health(const json_t *cluster)
{
    if (!view_flag(cluster, "writable"))
        return CTL_NOT_WRITABLE;
    return view_flag(cluster, "failover_possible") ? CTL_OK : CTL_DEGRADED;
}

/* --- what is wrong, and what may be done ---------------------------------------------------- */

/* By the stable codes of orchestrator/reasons.def; docs/protocol.md explains them. */
static const struct {
    const char *code;
    const char *advice;
} advices[] = {
    {"X1", "ogelctl maintenance off ends it"},
    {"X2", "start the nodes that are down; the way out if they are destroyed for good: ogelctl "
           "failover --help"},
    {"X5", "ogelctl node unfence lets it take part again"},
    {"X7", "is ogel-agent running there, and can the orchestrator reach it?"},
    {"X10", "its agent's state directory is another cluster's: move it away and restart the agent"},
    {"X11", "ogelctl init makes a new cluster of three empty nodes"},
    {"X14", "move its state directory away and restart its agent: it comes back as a new machine"},
};

static const char *advice_for(const char *code)
{
    for (size_t i = 0; i < OGEL_ARRAY_LEN(advices); i++) {
        if (strcmp(advices[i].code, code) == 0)
            return advices[i].advice;
    }
    return NULL;
}

void view_print_blockers(const json_t *cluster, FILE *out, bool color)
{
    const json_t *blocker;
    size_t i;

    json_array_foreach(json_object_get(cluster, "failover_blockers"), i, blocker)
    {
        const char *code = view_text(blocker, "reason"), *advice = advice_for(code);
        char *line = xasprintf("%s (%s)", view_text(blocker, "text"), code);

        fputs("  ", out);
        style_print(out, color, STYLE_WARN, line);
        fputc('\n', out);
        free(line);
        /* once, below the last of those it is for */
        if (advice != NULL &&
            strcmp(code,
                   view_text(json_array_get(json_object_get(cluster, "failover_blockers"), i + 1),
                             "reason")) != 0)
            fprintf(out, "    %s\n", advice);
    }
}

static void print_headline(const json_t *cluster, FILE *out, bool color)
{
    const char *leader = view_leader(cluster), *phase = view_text(cluster, "phase");
    bool writable = view_flag(cluster, "writable");
    bool possible = view_flag(cluster, "failover_possible");
    char *text = xasprintf("cluster %s: ", view_text(cluster, "name"));

    style_print(out, color, STYLE_BOLD, text);
    free(text);
    if (leader[0] != '\0')
        text = xasprintf("leader %s", leader);
    else
        text = xstrdup("NO LEADER");
    style_print(out, color, leader[0] != '\0' ? STYLE_BOLD : STYLE_BAD, text);
    free(text);
    fprintf(out, ", generation %" PRId64 ", writes: ", view_number(cluster, "generation", 0));
    text = writable ? xstrdup("ok") : xasprintf("NO (%s)", view_text(cluster, "why"));
    style_print(out, color, writable ? STYLE_GOOD : STYLE_BAD, text);
    free(text);
    fputs(", failover: ", out);
    style_print(out, color, possible ? STYLE_GOOD : STYLE_BAD,
                possible ? "possible" : "not possible");
    if (phase[0] != '\0' && strcmp(phase, "idle") != 0) {
        fputs(", now: ", out);
        style_print(out, color, STYLE_WARN, phase);
    }
    fputc('\n', out);
    if (view_flag(cluster, "maintenance")) {
        fputs("  ", out);
        style_print(out, color, STYLE_BAD,
                    "MAINTENANCE MODE is on: nothing is failed over, "
                    "stopped or moved, whatever happens");
        fputc('\n', out);
    }
}

/* --- the table ------------------------------------------------------------------------------ */

static enum style state_style(const json_t *node)
{
    const char *state = view_text(node, "state");

    if (view_settled(node))
        return STYLE_GOOD;
    if (strcmp(state, "crashed") == 0 || strcmp(state, "unreachable") == 0 ||
        strcmp(state, "agent down") == 0 || strcmp(state, "down") == 0)
        return STYLE_BAD;
    return STYLE_WARN;
}

static void number_cell(struct table *table, const json_t *node, const char *name)
{
    int64_t number = view_number(node, name, -1);

    if (number < 0)
        table_cell(table, STYLE_FAINT, "-");
    else
        table_cell(table, STYLE_PLAIN, "%" PRId64, number);
}

static void lag_cell(struct table *table, const json_t *node)
{
    int64_t lag = view_number(node, "lag_bytes", -1);
    char text[32];

    if (strcmp(view_text(node, "role"), "leader") == 0 || lag < 0)
        table_cell(table, STYLE_FAINT, "-");
    else
        table_cell(table, STYLE_PLAIN, "%s", size_text((uint64_t)lag, text));
}

/* What it is doing, or what stands in its way. */
static void note_cell(struct table *table, const json_t *node)
{
    const json_t *agent = json_object_get(node, "agent");
    const char *step = view_text(node, "step"), *cause = view_text(node, "cause");
    int64_t percent = view_number(node, "progress_percent", 0);
    int64_t age_ms = view_number(agent, "age_ms", -1);
    char progress[16] = "", pending[32] = "", silent[64] = "";

    if (!view_flag(agent, "reachable") && age_ms >= 0)
        snprintf(silent, sizeof(silent), "agent silent for %.1f s", (double)age_ms / 1000);
    if (step[0] != '\0' && percent > 0 && percent < 100)
        snprintf(progress, sizeof(progress), " %" PRId64 " %%", percent);
    if (view_flag(node, "pending_restart"))
        snprintf(pending, sizeof(pending), "settings wait for a restart");
    table_cell(table, STYLE_WARN, "%s%s%s%s%s%s%s%s", silent, silent[0] && step[0] ? ", " : "",
               step, progress, (silent[0] || step[0]) && cause[0] ? ": " : "", cause,
               (silent[0] || step[0] || cause[0]) && pending[0] ? "; " : "", pending);
}

static void address_cell(struct table *table, const json_t *node)
{
    struct units_address address = {0};
    char text[UNITS_ADDRESS_SIZE];
    int64_t port = view_number(node, "port", 0);

    if (port <= 0 || port > UINT16_MAX) {
        table_cell(table, STYLE_FAINT, "-");
        return;
    }
    snprintf(address.host, sizeof(address.host), "%s", view_text(node, "host"));
    address.port = (uint16_t)port;
    table_cell(table, STYLE_PLAIN, "%s", units_format_address(&address, text));
}

static void print_nodes(const json_t *cluster, FILE *out, bool color)
{
    static const char *const headings[] = {"NODE",      "ROLE",        "STATE",   "SYNC", ">LAG",
                                           ">TIMELINE", ">GENERATION", "ADDRESS", "NOTE", NULL};
    struct table *table = table_new(headings);
    const json_t *node;
    size_t i;

    json_array_foreach(json_object_get(cluster, "nodes"), i, node)
    {
        bool leads = strcmp(view_text(node, "role"), "leader") == 0;

        table_row(table);
        table_cell(table, leads ? STYLE_BOLD : STYLE_PLAIN, "%s", view_text(node, "id"));
        table_cell(table, leads ? STYLE_BOLD : STYLE_PLAIN, "%s", view_text(node, "role"));
        table_cell(table, state_style(node), "%s", view_text(node, "state"));
        table_cell(table, STYLE_PLAIN, "%s",
                   leads || view_number(node, "generation", -1) < 0 ? "-"
                                                                    : view_text(node, "sync"));
        lag_cell(table, node);
        number_cell(table, node, "timeline");
        number_cell(table, node, "generation");
        address_cell(table, node);
        note_cell(table, node);
    }
    table_print(table, out, color);
    table_free(table);
}

/* --- snapshots ------------------------------------------------------------------------------ */

static void age_text(const json_t *outcome, char *out, size_t size)
{
    int64_t age = view_number(outcome, "age_s", -1);

    if (age < 0)
        snprintf(out, size, "none");
    else if (age < 120)
        snprintf(out, size, "%" PRId64 " s ago", age);
    else if (age < 7200)
        snprintf(out, size, "%" PRId64 " min ago", age / 60);
    else if (age < 172800)
        snprintf(out, size, "%" PRId64 " h ago", age / 3600);
    else
        snprintf(out, size, "%" PRId64 " d ago", age / 86400);
}

static void print_task(const json_t *task, FILE *out)
{
    int64_t done = view_number(task, "done_bytes", 0), total = view_number(task, "total_bytes", 0);

    fprintf(out, ", now: %s on %s", view_text(task, "kind"), view_text(task, "node"));
    if (total > 0 && done > 0)
        fprintf(out, " %" PRId64 " %%", done >= total ? 100 : done * 100 / total);
}

static void print_snapshots(const json_t *snapshots, FILE *out)
{
    const char *schedule = view_text(snapshots, "schedule"), *next = view_text(snapshots, "next");
    const json_t *task = json_object_get(snapshots, "task");
    char last[32], verify[32], drill[32];

    age_text(json_object_get(snapshots, "last"), last, sizeof(last));
    age_text(json_object_get(snapshots, "last_verify"), verify, sizeof(verify));
    age_text(json_object_get(snapshots, "last_drill"), drill, sizeof(drill));
    fprintf(out, "\nsnapshots: last %s, verified %s, drilled %s, ", last, verify, drill);
    if (schedule[0] == '\0')
        fputs("no schedule", out);
    else
        fprintf(out, "%s%s%.19s%s", schedule, next[0] != '\0' ? ", next " : "", next,
                next[0] != '\0' ? "Z" : "");
    if (json_is_object(task))
        print_task(task, out);
    fputc('\n', out);
}

void view_print_cluster(const json_t *cluster, FILE *out, bool color)
{
    const json_t *snapshots = json_object_get(cluster, "snapshots");
    const char *problem = view_text(snapshots, "problem");

    print_headline(cluster, out, color);
    view_print_blockers(cluster, out, color);
    if (problem[0] != '\0') {
        char *line = xasprintf("  snapshots: %s", problem);

        style_print(out, color, STYLE_WARN, line);
        fputc('\n', out);
        free(line);
    }
    fputc('\n', out);
    print_nodes(cluster, out, color);
    if (json_is_object(snapshots))
        print_snapshots(snapshots, out);
}
