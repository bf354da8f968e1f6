/*
 * The cluster document, and operators who wait until a change of it is confirmed: at the leader's
 * agent, or, while there is no leader, at two that promised. Mirrors orchestrator/document.c and
 * agent/document_api.c. A document is known by the changes that it holds, one bit each.
 *
 * Checked (D): what was confirmed is in every greater document that is made, and no two documents
 * have one version.
 */
#include <string.h>

#include "tests/sim/sim.h"

enum {
    CALL_TIMEOUT_MS = 10000,
    SPREAD_TIMEOUT_MS = 8000,
    AGAIN_FOR_MS = 3000,
    AGAIN_MS = 100,
};

/* --- the invariant --- */

static void check_pair(const struct document *document, int change)
{
    const struct document_version *since = &world.confirmed[change];

    /* of two machines that were lost at once, or said to be, nobody can tell what they held */
    if (since->generation != 0 && !world.two_lost && !world.overridden &&
        document_version_compare(document->version, *since) > 0 && !(document->text >> change & 1))
        violate("D: document %u.%u lacks the change that was confirmed as %u.%u",
                document->version.generation, document->version.counter, since->generation,
                since->counter);
}

static void made(struct document_version version, uint64_t text)
{
    struct document *document = &world.documents[world.document_count];

    for (int i = 0; i < world.document_count; i++)
        if (document_version_compare(world.documents[i].version, version) == 0) {
            if (world.documents[i].text != text && !world.two_lost && !world.overridden)
                violate("D: two documents are version %u.%u", version.generation, version.counter);
            return;
        }
    if (world.document_count == DOCUMENTS_MAX)
        return;
    *document = (struct document){version, text};
    world.document_count++;
    for (int change = 0; change < world.changes; change++)
        check_pair(document, change);
}

static void confirmed(const struct change *change)
{
    trace("the change of the document is confirmed as %u.%u", change->version.generation,
          change->version.counter);
    world.confirmed[change->number] = change->version;
    for (int i = 0; i < world.document_count; i++)
        check_pair(&world.documents[i], change->number);
}

void document_take(struct machine *m, const struct machine *from)
{
    m->disk.document = m->durable.document = from->disk.document;
    m->disk.text = from->disk.text;
}

/* --- the agent: POST /v1/document --- */

enum { MADE = 200, CONFLICT = 409, NOT_NOW = 503, UNKNOWN = 504 };

static void answer(int index, const struct edit *edit, int status)
{
    int64_t delay;

    if (packet(index, MACHINES + edit->from, &delay))
        post_event(delay, (struct event){.kind = EVENT_CHANGED,
                                         .a = MACHINES + edit->from,
                                         .life = edit->from_life,
                                         .number = (uint32_t)status,
                                         .x = (uint64_t)(edit - world.edits)});
}

/* Status, or 0: it may be written. */
static int refusal(const struct machine *m, const struct edit *edit)
{
    const struct document_version *own = &m->durable.document.version;

    if ((edit->leaderless ? document_obstacle_leaderless(&m->durable, edit->promise)
                          : document_obstacle(&m->in)) ||
        m->store.active)
        return NOT_NOW;
    if (edit->whole)
        return document_version_compare(edit->facts.version, *own) < 0 ? CONFLICT : 0;
    if (document_version_compare(edit->expect, *own) != 0 ||
        (edit->leaderless && own->generation >= edit->promise.generation))
        return CONFLICT;
    return 0;
}

static void apply(const struct machine *m, struct edit *edit)
{
    edit->facts = m->durable.document;
    edit->text = m->disk.text | UINT64_C(1) << edit->change;
    if (edit->facts.version.generation < edit->promise.generation)
        edit->facts.version.generation = edit->promise.generation;
    edit->facts.version.counter++;
    if (edit->fence == NODE_NONE)
        edit->facts.maintenance = edit->value;
    else
        edit->facts.fenced[edit->fence] = edit->value;
}

void document_edit(int index, int number)
{
    struct machine *m = &world.machines[index];
    struct edit *edit = &world.edits[number];
    int status;

    if (world.calm_ms != 0)
        return; /* on its way since before documents_calm(): nobody would take it back */
    if (!edit->leaderless)
        edit->promise = m->durable.promise;
    status = refusal(m, edit);
    if (status != 0) {
        answer(index, edit, status);
        return;
    }
    if (!edit->whole)
        apply(m, edit);
    m->store = (struct store){.active = true, .edit = number};
    post(m->slow ? between(20, 900) : between(1, 4), EVENT_STORED, index, 0);
}

/* The promise may have been on its way to the disk before the change. */
void document_stored(int index)
{
    struct machine *m = &world.machines[index];
    const struct edit *edit = &world.edits[m->store.edit];

    if (!m->store.active)
        return;
    m->store.active = false;
    if (m->full) {
        answer(index, edit, edit->leaderless ? UNKNOWN : NOT_NOW);
        return;
    }
    if (document_version_compare(edit->facts.version, m->durable.document.version) > 0) {
        befall("document_changed", index, "has document %u.%u: maintenance %d, fences %d%d%d",
               edit->facts.version.generation, edit->facts.version.counter, edit->facts.maintenance,
               edit->facts.fenced[0], edit->facts.fenced[1], edit->facts.fenced[2]);
        m->disk.document = m->durable.document = edit->facts;
        m->disk.text = edit->text;
        made(edit->facts.version, edit->text);
    }
    agent_changed(index);
    answer(index, edit, promise_equal(edit->promise, m->durable.promise) ? MADE : UNKNOWN);
}

/* --- the orchestrator --- */

static int64_t own_now(int which)
{
    return clock_of(MACHINES + which);
}

static void finish(struct change *change)
{
    change->active = false;
}

static void post_edit(int which, int32_t slot, struct edit edit)
{
    int number = world.edit_count++ % EDITS_MAX, endpoint = MACHINES + which,
        target = world.endpoints[endpoint].route[slot];
    int64_t delay;

    edit.from = which;
    edit.from_life = world.endpoints[endpoint].life;
    world.edits[number] = edit;
    if (world.endpoints[target].up && packet(endpoint, target, &delay))
        post_event(delay, (struct event){.kind = EVENT_CHANGE,
                                         .a = target,
                                         .b = number,
                                         .life = world.endpoints[target].life});
}

static void send_change(int which, int32_t slot, const struct promise *promise)
{
    struct boss *boss = &world.bosses[which];
    struct change *change = &boss->change;

    change->node = slot;
    change->deadline_ms = own_now(which) + CALL_TIMEOUT_MS;
    post_edit(which, slot,
              (struct edit){.change = change->number,
                            .expect = boss->nodes[slot].view.report.document.version,
                            .leaderless = promise != NULL,
                            .promise = promise ? *promise : (struct promise){0},
                            .fence = change->fence,
                            .value = change->value});
}

static void send_copies(int which, const struct promise *promise)
{
    struct boss *boss = &world.bosses[which];
    struct change *change = &boss->change;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        if (slot == change->node || !boss->plan.write.promised[slot] || change->copied[slot])
            continue;
        change->copied[slot] = true;
        post_edit(which, slot,
                  (struct edit){.whole = true,
                                .facts = change->facts,
                                .text = change->text,
                                .leaderless = true,
                                .promise = *promise});
    }
}

void document_round(int which)
{
    struct boss *boss = &world.bosses[which];
    struct change *change = &boss->change;
    struct promise promise = {boss->plan.memory.generation, boss->proposer};

    if (change->active && own_now(which) > change->deadline_ms)
        finish(change);
    if (!change->active || !boss->plan.write.due || change->request == 0 ||
        change->request != boss->plan.memory.request)
        return;
    if (change->answered) {
        send_copies(which, &promise);
    } else if (!change->sent) {
        change->sent = true;
        if (change->until_ms == 0)
            change->until_ms = own_now(which) + AGAIN_FOR_MS;
        send_change(which, boss->plan.write.at, &promise);
    }
}

void document_again(int which)
{
    struct boss *boss = &world.bosses[which];

    if (!boss->change.active)
        return;
    if (boss->change.request != 0) {
        boss->change.sent = false;
        boss_changed(which);
    } else if (boss->plan.leader < 0) {
        finish(&boss->change);
    } else {
        send_change(which, boss->plan.leader, NULL);
    }
}

/* The core has settled it, or (not OK) it took too long. */
void document_settled(int which, bool ok, enum reason reason)
{
    struct change *change = &world.bosses[which].change;

    if (!change->active)
        return;
    change->request = 0;
    if (ok && reason == REASON_DOCUMENT_AT_LEADER) {
        change->until_ms = own_now(which) + AGAIN_FOR_MS;
        document_again(which);
    } else if (ok && !change->answered) {
        change->confirmed = true;
    } else {
        if (ok)
            confirmed(change);
        finish(change);
    }
}

/* A member of the leader's cluster that holds it and has promised no later generation. */
static bool holds_change(const struct report *report, const struct report *leader,
                         struct document_version version)
{
    uint32_t number = report->incarnations[report->node].number;

    return report->registered && cluster_id_equal(&report->cluster, &leader->cluster) &&
           number >= leader->incarnations[report->node].number &&
           number > leader->void_number[report->node] &&
           report->promise.generation <= version.generation &&
           report->document.version.generation == version.generation &&
           report->document.version.counter >= version.counter;
}

void document_look(int which)
{
    struct boss *boss = &world.bosses[which];
    struct change *change = &boss->change;

    if (!change->active || !change->answered || change->leaderless)
        return;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct node_view *view = &boss->nodes[slot].view;

        if (slot == change->node || !view->known || !view->reachable ||
            !holds_change(&view->report, &boss->nodes[change->node].view.report, change->version))
            continue;
        confirmed(change);
        finish(change);
        return;
    }
}

void document_answered(int which, int number, int status)
{
    struct change *change = &world.bosses[which].change;
    const struct edit *edit = &world.edits[number];

    if (!change->active || edit->whole || edit->change != change->number || change->answered)
        return;
    if ((status == NOT_NOW || (status == CONFLICT && change->request != 0)) &&
        own_now(which) < change->until_ms) {
        post(AGAIN_MS, EVENT_CHANGE_AGAIN, MACHINES + which, 0);
        return;
    }
    if (status != MADE) {
        finish(change);
        return;
    }
    change->answered = true;
    change->leaderless = edit->leaderless;
    change->facts = edit->facts;
    change->text = edit->text;
    change->version = edit->facts.version;
    change->deadline_ms = own_now(which) + SPREAD_TIMEOUT_MS;
    if (change->confirmed) {
        confirmed(change);
        finish(change);
    } else {
        document_look(which);
    }
    boss_changed(which);
}

/* FENCE: the slot whose fence is to change; NODE_NONE: maintenance is. */
bool document_ask(int which, int32_t fence, bool value)
{
    struct boss *boss = &world.bosses[which];
    struct change *change = &boss->change;

    if (!world.endpoints[MACHINES + which].up || change->active || world.changes == CHANGES_MAX)
        return false;
    *change = (struct change){.active = true,
                              .number = world.changes++,
                              .fence = fence,
                              .value = value,
                              .deadline_ms = INT64_MAX};
    befall("operator_asks", NOBODY, "an operator asks orchestrator %d for a change: %s %d is %d",
           which, fence == NODE_NONE ? "maintenance" : "fence of node", fence + 1, value);
    if (boss->plan.leader >= 0) {
        change->until_ms = own_now(which) + AGAIN_FOR_MS;
        document_again(which);
    } else if (boss_ask(which, REQUEST_DOCUMENT, NODE_NONE, NULL)) {
        change->request = boss->request.id;
    } else {
        finish(change);
    }
    return change->active;
}

/* --- the calm --- */

/* All are put right, whatever was asked for; nobody is fenced, nothing in maintenance. */
void documents_calm(void)
{
    struct document_facts calm = {0};

    for (int i = 0; i < MACHINES; i++)
        if (document_version_compare(world.machines[i].disk.document.version, calm.version) > 0)
            calm.version = world.machines[i].disk.document.version;
    calm.version.counter++;
    for (int i = 0; i < MACHINES; i++) {
        world.machines[i].disk.document = world.machines[i].durable.document = calm;
        world.machines[i].store.active = false;
    }
    for (int b = 0; b < BOSSES; b++) {
        world.bosses[b].change.active = false;
        if (world.bosses[b].request.kind == REQUEST_DOCUMENT)
            boss_request_ends(b);
    }
    memset(world.confirmed, 0, sizeof world.confirmed);
    world.document_count = 0;
    world.changes = CHANGES_MAX;
}
