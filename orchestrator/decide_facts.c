/*
 * What the reports say together. The order matters: first which cluster this is, then which
 * incarnations are void, then which are the latest; only what remains is heard.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

uint32_t age_add(uint32_t a, uint32_t b)
{
    return a > AGE_NEVER - b ? AGE_NEVER : a + b;
}

static const struct report *report_of(const struct core *core, int32_t node)
{
    return &core->view->nodes[node].report;
}

static int cluster_holders(const struct view *view, const struct cluster_id *id)
{
    int count = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        count += view->nodes[i].known && cluster_id_equal(&view->nodes[i].report.cluster, id);
    return count;
}

/* Two that agree settle it, and it is remembered. Otherwise what was remembered, else the only id
 * there is: of two single ones nobody can tell which is the stranger. */
static void find_cluster(struct core *core)
{
    const struct view *view = core->view;
    struct memory *memory = core->memory;
    struct cluster_id sole = {{0}};
    bool several = false;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct cluster_id *id = &view->nodes[i].report.cluster;

        if (!view->nodes[i].known || cluster_id_is_none(id))
            continue;
        if (cluster_holders(view, id) >= QUORUM) {
            core->facts.cluster = *id;
            if (memory->phase != PHASE_BIRTH)
                memory->cluster = *id;
            return;
        }
        several = several || (!cluster_id_is_none(&sole) && !cluster_id_equal(&sole, id));
        sole = *id;
    }
    if (cluster_holders(view, &memory->cluster) > 0)
        core->facts.cluster = memory->cluster;
    else if (!several)
        core->facts.cluster = sole;
}

static bool is_void(const struct facts *facts, int32_t node, struct incarnation incarnation)
{
    return incarnation.number != 0 && incarnation.number <= facts->void_number[node];
}

static bool is_older(struct incarnation a, struct incarnation b)
{
    struct incarnation later = incarnation_later(a, b);

    return !incarnation_equal(a, b) && incarnation_equal(later, b);
}

static void find_void(struct core *core)
{
    struct facts *facts = &core->facts;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (core->memory->phase != PHASE_IDLE)
            facts->void_number[i] = core->memory->destroyed_number[i];
        for (int32_t j = 0; j < NODE_COUNT; j++) {
            if (facts->speaks[j] && report_of(core, j)->void_number[i] > facts->void_number[i])
                facts->void_number[i] = report_of(core, j)->void_number[i];
        }
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (facts->speaks[i] && is_void(facts, i, report_of(core, i)->incarnations[i])) {
            facts->outdated[i] = true;
            facts->speaks[i] = false;
        }
    }
}

/* A machine that has not finished registering claims a number that nobody has confirmed. */
static void find_latest(struct core *core)
{
    struct facts *facts = &core->facts;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct report *report = report_of(core, i);

        if (!facts->speaks[i] || !report->registered)
            continue;
        for (int32_t j = 0; j < NODE_COUNT; j++)
            facts->latest[j] = incarnation_later(facts->latest[j], report->incarnations[j]);
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (facts->speaks[i] && is_older(report_of(core, i)->incarnations[i], facts->latest[i])) {
            facts->outdated[i] = true;
            facts->speaks[i] = false;
        }
    }
}

static void raise_to(uint32_t *highest, uint32_t generation)
{
    if (generation > *highest)
        *highest = generation;
}

/* Also what a void report says: a generation above all of them costs nothing, a timeline id used
 * twice costs data. */
static void find_highest(struct core *core)
{
    uint32_t *highest = &core->facts.highest;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct node_view *node = &core->view->nodes[i];
        const struct report *report = &node->report;

        if (node->refused_message && !core->facts.foreign[i])
            raise_to(highest, node->refused_with.generation);
        if (!node->known || core->facts.foreign[i])
            continue;
        raise_to(highest, report->promise.generation);
        raise_to(highest, report->leader.generation);
        raise_to(highest, report->grant.generation);
        raise_to(highest, report->timeline);
        raise_to(highest, report->vote.promise.generation);
        raise_to(highest, report->vote.position.timeline);
        for (uint32_t j = 0; j < report->lineage.count && j < LINEAGE_MAX; j++)
            raise_to(highest, report->lineage.begin[j].timeline);
        for (int32_t j = 0; j < NODE_COUNT; j++) {
            raise_to(highest, report->peers[j].generation);
            raise_to(highest, report->standbys[j].generation);
        }
    }
}

static void consider_fact(struct facts *facts, const struct leadership *leadership)
{
    if (leadership->generation > facts->fact.generation && leadership->node >= 0 &&
        leadership->node < NODE_COUNT)
        facts->fact = *leadership;
}

static void find_fact(struct core *core)
{
    struct facts *facts = &core->facts;
    const struct memory *memory = core->memory;
    struct incarnation incarnation;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct report *report = report_of(core, i);
        struct leadership own = {report->grant.generation, i, report->grant.incarnation,
                                 report->grant.proposer};

        if (!facts->speaks[i])
            continue;
        consider_fact(facts, &own);
        consider_fact(facts, &report->leader);
    }
    if (memory->phase == PHASE_GRANTED)
        consider_fact(facts, &memory->grant.leader);

    facts->incumbent = NODE_NONE;
    if (facts->fact.generation == 0)
        return;
    incarnation = facts->fact.incarnation;
    if (!is_older(incarnation, facts->latest[facts->fact.node]) &&
        !is_void(facts, facts->fact.node, incarnation))
        facts->incumbent = facts->fact.node;
}

static void find_document(struct core *core)
{
    struct facts *facts = &core->facts;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct document_facts *document = &report_of(core, i)->document;

        if (facts->speaks[i] &&
            document_version_compare(document->version, facts->document.version) > 0)
            facts->document = *document;
    }
}

void facts_gather(struct core *core)
{
    struct facts *facts = &core->facts;

    memset(facts, 0, sizeof(*facts));
    find_cluster(core);
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        const struct node_view *node = &core->view->nodes[i];
        bool none = cluster_id_is_none(&node->report.cluster);

        if (!node->known)
            continue;
        facts->foreign[i] = node->report.node != i || node->report.protocol != PROTOCOL_VERSION ||
                            (!none && !cluster_id_equal(&node->report.cluster, &facts->cluster));
        facts->speaks[i] = !facts->foreign[i] && !none;
    }
    find_void(core);
    find_latest(core);
    find_highest(core);
    find_fact(core);
    find_document(core);
    if (facts->highest > core->memory->highest_generation)
        core->memory->highest_generation = facts->highest;
}

bool node_answers(const struct core *core, int32_t node)
{
    return core->facts.speaks[node] && core->view->nodes[node].reachable;
}

bool node_may_vote(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);

    return node_answers(core, node) && report->registered && (report->complete || report->rewound);
}

bool node_may_lead(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);

    return node_may_vote(core, node) && report->complete && report->marker == MARKER_NONE &&
           !core->facts.document.fenced[node];
}

bool node_leads(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);

    return core->facts.speaks[node] && core->facts.incumbent == node && report->leading &&
           report->grant.spent && report->grant.generation == core->facts.fact.generation &&
           report->promise.generation == core->facts.fact.generation &&
           incarnation_equal(report->grant.incarnation, core->facts.fact.incarnation);
}

int voter_count(const struct core *core)
{
    int count = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++)
        count += node_may_vote(core, i);
    return count;
}

bool node_streams(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);

    return node_answers(core, node) && report->receiver.streaming &&
           report->receiver.upstream == core->facts.incumbent &&
           leadership_equal(&report->leader, &core->facts.fact);
}
