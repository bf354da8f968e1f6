#include "orchestrator/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "orchestrator/connect.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"

struct topology_watch {
    struct cluster *cluster;
    topology_fn *fn;
    void *arg;
    bool dead; /* freed from within a callback: removed once the round is over */
    struct topology_watch *next;
};

/* Watches of one cluster; `calling` guards the list while callbacks run. */
struct watches {
    struct topology_watch *first;
    bool calling;
};

/* --- the struct /connect answers from --------------------------------------------------------- */

static uint64_t lag_bytes(const struct plan *plan, const struct cluster *cluster,
                          const struct report *report)
{
    const struct report *leader;

    if (plan->leader < 0 || report->replay_lsn == 0)
        return UINT64_MAX;
    leader = &cluster->nodes[plan->leader].view.report;
    return leader->write_lsn > report->replay_lsn ? leader->write_lsn - report->replay_lsn : 0;
}

static void fill_node(const struct cluster *cluster, int32_t slot, struct topology_node *out)
{
    const struct node_view *view = &cluster->nodes[slot].view;
    const struct report *report = &view->report;
    const struct plan *plan = &cluster->plan;

    memset(out, 0, sizeof *out);
    out->lag_bytes = UINT64_MAX;
    out->lag_ms = UINT32_MAX;
    out->known = view->known;
    if (!view->known)
        return;
    out->address = report->postgres;
    out->flush_lsn = report->flush_lsn;
    out->replay_lsn = report->replay_lsn;
    if (slot == plan->leader) {
        out->role = ROLE_LEADER;
        out->reads = true;
        out->replay_lsn = report->flush_lsn;
        out->lag_bytes = 0;
        out->lag_ms = 0;
        return;
    }
    out->role = report->role == ROLE_FOLLOWER ? ROLE_FOLLOWER
                : report->role == ROLE_NONE   ? ROLE_NONE
                                              : ROLE_FENCED;
    out->reads = view->reachable && report->pg == PG_UP && report->in_recovery && report->complete;
    out->lag_bytes = lag_bytes(plan, cluster, report);
    if (report->receiver.streaming)
        out->lag_ms = report->replay_lag_ms;
    if (plan->leader >= 0)
        out->sync = cluster->nodes[plan->leader].view.report.standbys[slot].counted;
}

static bool same_shape(const struct topology *a, const struct topology *b)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct topology_node *x = &a->nodes[slot], *y = &b->nodes[slot];

        if (x->known != y->known || x->role != y->role || x->reads != y->reads ||
            x->sync != y->sync || x->address.port != y->address.port ||
            strcmp(x->address.host, y->address.host) != 0)
            return false;
    }
    return a->leader == b->leader && a->generation == b->generation && a->writable == b->writable &&
           a->maintenance == b->maintenance && (a->writable || a->not_writable == b->not_writable);
}

static void call_watches(struct cluster *cluster)
{
    struct watches *watches = cluster->watches;
    struct topology_watch **link;

    watches->calling = true;
    for (struct topology_watch *watch = watches->first; watch; watch = watch->next)
        if (!watch->dead)
            watch->fn(cluster, watch->arg);
    watches->calling = false;
    for (link = &watches->first; *link;) {
        struct topology_watch *watch = *link;

        if (watch->dead) {
            *link = watch->next;
            free(watch);
        } else {
            link = &watch->next;
        }
    }
}

void topology_update(struct cluster *cluster)
{
    const struct plan *plan = &cluster->plan;
    struct topology fresh;
    bool changed;

    memset(&fresh, 0, sizeof fresh);
    fresh.leader = plan->leader;
    fresh.generation = plan->generation;
    fresh.writable = plan->writable;
    fresh.not_writable = plan->not_writable;
    fresh.maintenance = plan->maintenance;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        fill_node(cluster, slot, &fresh.nodes[slot]);
    changed = !same_shape(&fresh, cluster->topology);
    fresh.version = cluster->topology->version;
    fresh.revision = cluster->topology->revision;
    if (memcmp(&fresh, cluster->topology, sizeof fresh) != 0)
        fresh.revision++;
    fresh.version += changed;
    *cluster->topology = fresh;
    if (changed)
        redis_publish_topology(cluster);
    call_watches(cluster);
}

void topology_new(struct cluster *cluster)
{
    cluster->topology = xcalloc(1, sizeof *cluster->topology);
    cluster->topology->leader = NODE_NONE;
    cluster->watches = xcalloc(1, sizeof *cluster->watches);
}

void topology_free(struct cluster *cluster)
{
    connect_forget(cluster);
    free(cluster->topology);
    free(cluster->watches);
}

struct topology_watch *topology_watch_new(struct cluster *cluster, topology_fn *fn, void *arg)
{
    struct topology_watch *watch = xcalloc(1, sizeof *watch);

    watch->cluster = cluster;
    watch->fn = fn;
    watch->arg = arg;
    watch->next = cluster->watches->first;
    cluster->watches->first = watch;
    return watch;
}

void topology_watch_free(struct topology_watch *watch)
{
    struct topology_watch **link;

    if (!watch)
        return;
    if (watch->cluster->watches->calling) {
        watch->dead = true;
        return;
    }
    for (link = &watch->cluster->watches->first; *link != watch;)
        link = &(*link)->next;
    *link = watch->next;
    free(watch);
}

/* --- the same for people ---------------------------------------------------------------------- */

/* One word that says how a node is; problems win over roles. */
static const char *node_state(const struct cluster *cluster, int32_t slot)
{
    const struct node_view *view = &cluster->nodes[slot].view;
    const struct report *report = &view->report;

    if (!view->known)
        return "unknown";
    if (!view->reachable)
        return view->refuses ? "agent down" : "unreachable";
    if (report->blank)
        return "blank";
    if (!report->registered)
        return "registering";
    if (report->marker == MARKER_CLONE && report->pg != PG_UP)
        return "cloning";
    if (report->marker == MARKER_REWIND && report->pg != PG_UP)
        return "rewinding";
    if (report->pg != PG_UP)
        return pg_state_name(report->pg);
    if (slot == cluster->plan.leader)
        return "running";
    if (report->document.fenced[slot])
        return "fenced";
    if (report->receiver.streaming)
        return report->complete ? "streaming" : "catching up";
    return report->role == ROLE_FENCED ? "fenced" : "running";
}

static const char *node_role(const struct cluster *cluster, int32_t slot)
{
    if (slot == cluster->plan.leader)
        return "leader";
    return cluster->nodes[slot].view.known ? role_name(cluster->topology->nodes[slot].role)
                                           : "unknown";
}

static const char *node_sync(const struct cluster *cluster, int32_t slot)
{
    if (slot == cluster->plan.leader)
        return "leader";
    return cluster->topology->nodes[slot].sync ? "quorum" : "no";
}

static json_t *number_or_null(uint64_t value, uint64_t none)
{
    return value == none ? json_null() : json_integer((json_int_t)value);
}

static json_t *node_json(const struct cluster *cluster, int32_t slot)
{
    const struct node *node = &cluster->nodes[slot];
    const struct report *report = &node->view.report;
    const struct topology_node *t = &cluster->topology->nodes[slot];
    json_t *json = json_pack("{s:s,s:s,s:s,s:s}", "id", node->id, "role", node_role(cluster, slot),
                             "state", node_state(cluster, slot), "sync", node_sync(cluster, slot));

    json_object_set_new(json, "agent",
                        json_pack("{s:s,s:i,s:b,s:o}", "host", node->agent.host, "port",
                                  node->agent.port, "reachable", node->view.reachable, "age_ms",
                                  number_or_null(node->view.report_age_ms, AGE_NEVER)));
    if (!node->view.known) {
        json_object_set_new(json, "host", json_null());
        json_object_set_new(json, "port", json_null());
        json_object_set_new(json, "lag_bytes", json_null());
        json_object_set_new(json, "timeline", json_null());
        json_object_set_new(json, "generation", json_null());
        return json;
    }
    json_object_set_new(json, "host", json_text(t->address.host));
    json_object_set_new(json, "port", json_integer(t->address.port));
    json_object_set_new(json, "lag_bytes", number_or_null(t->lag_bytes, UINT64_MAX));
    json_object_set_new(json, "lag_ms", number_or_null(t->lag_ms, UINT32_MAX));
    json_object_set_new(json, "timeline", json_integer(report->timeline));
    json_object_set_new(json, "generation", json_integer(report->promise.generation));
    json_object_set_new(json, "incarnation", json_integer(report->incarnations[slot].number));
    json_object_set_new(json, "complete", json_boolean(report->complete));
    json_object_set_new(json, "postgres", json_string(pg_state_name(report->pg)));
    json_object_set_new(json, "flush_lsn", json_lsn(report->flush_lsn));
    json_object_set_new(json, "replay_lsn", json_lsn(report->replay_lsn));
    json_object_set_new(json, "version", json_integer(report->pg_version));
    json_object_set_new(json, "system_id",
                        json_sprintf("%llu", (unsigned long long)report->system_id));
    json_object_set_new(json, "pending_restart", json_boolean(report->pending_restart));
    json_object_set_new(json, "fenced", json_boolean(report->document.fenced[slot]));
    json_object_set_new(json, "document",
                        json_pack("{s:I,s:I}", "generation",
                                  (json_int_t)report->document.version.generation, "counter",
                                  (json_int_t)report->document.version.counter));
    json_object_set_new(json, "disk_free_bytes", json_integer((json_int_t)report->disk_free_bytes));
    json_object_set_new(json, "disk_total_bytes",
                        json_integer((json_int_t)report->disk_total_bytes));
    json_object_set_new(json, "step", json_text(report->step));
    json_object_set_new(json, "cause", json_text(report->cause));
    json_object_set_new(json, "progress_percent", json_integer(report->progress_percent));
    json_object_set_new(json, "job",
                        json_pack("{s:o,s:s,s:s}", "id", number_or_null(report->job.id, 0), "kind",
                                  job_kind_name(report->job.kind), "state",
                                  job_state_name(report->job_state)));
    return json;
}

const char *reason_sentence(const struct cluster *cluster, enum reason reason, int32_t node,
                            char *buf, size_t size)
{
    static const char nameless[] = "a node";
    const char *text = reason_text(reason);

    if (node < 0)
        snprintf(buf, size, "%s", text);
    else if (strncmp(text, nameless, strlen(nameless)) == 0)
        snprintf(buf, size, "%s%s", cluster->nodes[node].id, text + strlen(nameless));
    else
        snprintf(buf, size, "%s: %s", cluster->nodes[node].id, text);
    return buf;
}

static json_t *blockers_json(const struct cluster *cluster)
{
    const struct plan *plan = &cluster->plan;
    json_t *list = json_array();

    for (uint32_t i = 0; i < plan->blocker_count; i++) {
        const struct blocker *blocker = &plan->blockers[i];
        char text[SENTENCE_SIZE];

        reason_sentence(cluster, blocker->reason, blocker->node, text, sizeof text);
        json_array_append_new(
            list,
            json_pack("{s:s,s:s?,s:s}", "reason", reason_code(blocker->reason), "node",
                      blocker->node >= 0 ? cluster->nodes[blocker->node].id : NULL, "text", text));
    }
    return list;
}

static const char *phase_name(enum phase phase)
{
    switch (phase) {
    case PHASE_IDLE: return "idle";
    case PHASE_BIRTH: return "birth";
    case PHASE_LEADER_FIRST: return "fencing leader";
    case PHASE_PROMISING: return "electing";
    case PHASE_GRANTED: return "promoting";
    case PHASE_DOCUMENT: return "changing document";
    }
    return "";
}

json_t *topology_json(struct cluster *cluster)
{
    const struct plan *plan = &cluster->plan;
    json_t *nodes = json_array();
    json_t *json = json_pack("{s:s,s:s?,s:I,s:b,s:b,s:b,s:s,s:s,s:I}", "name", cluster->name,
                             "leader", plan->leader >= 0 ? cluster->nodes[plan->leader].id : NULL,
                             "generation", (json_int_t)plan->generation, "writable", plan->writable,
                             "failover_possible", plan->failover_possible, "maintenance",
                             plan->maintenance, "phase", phase_name(plan->memory.phase), "why",
                             plan->writable ? "" : reason_text(plan->not_writable), "version",
                             (json_int_t)cluster->topology->version);

    json_object_set_new(json, "failover_blockers", blockers_json(cluster));
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        json_array_append_new(nodes, node_json(cluster, slot));
    json_object_set_new(json, "nodes", nodes);
    json_object_set_new(json, "snapshots", snapshots_status_json(cluster));
    return json;
}
