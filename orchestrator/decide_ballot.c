/*
 * R and its candidate. Any two votes make R legal, so a vote that would stand in the way may be
 * left out as if it had not come yet; whoever is in R binds the choice.
 */
#include <string.h>

#include "orchestrator/decide_internal.h"

static const struct report *report_of(const struct core *core, int32_t node)
{
    return &core->view->nodes[node].report;
}

static struct promise own_promise(const struct core *core)
{
    struct promise promise = {core->memory->generation, core->view->proposer};

    return promise;
}

/* Only the answer to exactly this request counts, of the latest incarnation that anyone knows. A
 * vote stays good when its agent falls silent: the promise is durable. */
bool node_voted(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);
    struct promise promise = own_promise(core);

    return core->facts.speaks[node] && report->registered && report->vote.valid &&
           promise_equal(report->vote.promise, promise) &&
           promise_equal(report->promise, promise) && report->vote.position.timeline != 0 &&
           (report->complete || report->rewound);
}

bool node_lost(const struct core *core, int32_t node)
{
    const struct node_view *view = &core->view->nodes[node];
    struct promise promise = own_promise(core);
    struct promise theirs = view->report.promise;

    if (core->facts.speaks[node] &&
        (theirs.generation > promise.generation ||
         (theirs.generation == promise.generation && theirs.proposer != promise.proposer)))
        return true;
    return view->refused_message && view->refused_with.generation >= promise.generation &&
           !promise_equal(view->refused_with, promise);
}

static bool could_lead(const struct core *core, int32_t node)
{
    const struct report *report = report_of(core, node);

    return report->vote.complete && report->complete && report->marker == MARKER_NONE;
}

/* Two, or – an operator has answered for the rest – every node that is not in R was declared
 * destroyed. */
static bool is_legal(const struct core *core, const bool member[NODE_COUNT])
{
    int members = 0;
    int destroyed = 0;

    for (int32_t i = 0; i < NODE_COUNT; i++) {
        members += member[i];
        destroyed += !member[i] && core->memory->destroyed_number[i] != 0;
    }
    return members >= QUORUM || (members > 0 && members + destroyed == NODE_COUNT);
}

/* Among equal flushed ends: the operator's choice, then one that need not be started again, then
 * the one that has replayed most, then the lowest slot. */
static bool is_preferred(const struct core *core, int32_t a, int32_t b)
{
    const struct memory *memory = core->memory;

    if ((a == memory->target) != (b == memory->target))
        return a == memory->target;
    if ((a == memory->old_leader) != (b == memory->old_leader))
        return b == memory->old_leader;
    if (report_of(core, a)->vote.replay_lsn != report_of(core, b)->vote.replay_lsn)
        return report_of(core, a)->vote.replay_lsn > report_of(core, b)->vote.replay_lsn;
    return a < b;
}

/* Nobody behind the greatest position of R is ever chosen. */
static void choose(const struct core *core, struct ballot *ballot)
{
    struct position greatest = {0, 0};
    bool fenced_ahead = false;

    ballot->candidate = NODE_NONE;
    ballot->blocker = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (ballot->member[i] && position_compare(report_of(core, i)->vote.position, greatest) > 0)
            greatest = report_of(core, i)->vote.position;
    }
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (!ballot->member[i] ||
            position_compare(report_of(core, i)->vote.position, greatest) != 0)
            continue;
        if (could_lead(core, i) && !core->facts.document.fenced[i]) {
            if (ballot->candidate == NODE_NONE || is_preferred(core, i, ballot->candidate))
                ballot->candidate = i;
        } else {
            fenced_ahead = could_lead(core, i);
            ballot->blocker = i;
        }
    }
    ballot->blocked = REASON_NONE;
    if (ballot->candidate == NODE_NONE)
        ballot->blocked = fenced_ahead ? REASON_BLOCKED_OPERATOR_FENCE
                                       : REASON_BLOCKED_REWOUND_AHEAD;
}

/* The same without one member, if the others make R legal and one of them can be granted. */
static void try_without(const struct core *core, struct ballot *ballot, int32_t node)
{
    struct ballot rest = *ballot;

    if (node == NODE_NONE || !ballot->member[node])
        return;
    rest.member[node] = false;
    if (!is_legal(core, rest.member))
        return;
    choose(core, &rest);
    if (rest.candidate != NODE_NONE)
        *ballot = rest;
}

void ballot_count(const struct core *core, struct ballot *ballot)
{
    memset(ballot, 0, sizeof(*ballot));
    ballot->candidate = NODE_NONE;
    ballot->blocker = NODE_NONE;
    for (int32_t i = 0; i < NODE_COUNT; i++)
        ballot->member[i] = node_voted(core, i);
    if (!is_legal(core, ballot->member)) {
        ballot->blocked = REASON_BLOCKED_NO_QUORUM;
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            if (!ballot->member[i] && node_may_vote(core, i) && !node_lost(core, i)) {
                ballot->blocked = REASON_BLOCKED_POSITION;
                ballot->blocker = i;
            }
        }
        return;
    }
    choose(core, ballot);
    /* A leader that failed is left out where the others suffice: a running standby takes over at
     * once. */
    if (!election_planned(core->memory) || core->memory->why == REASON_LEADER_CUT_OFF)
        try_without(core, ballot, core->memory->old_leader);
    if (ballot->candidate == NODE_NONE)
        try_without(core, ballot, ballot->blocker);
}
