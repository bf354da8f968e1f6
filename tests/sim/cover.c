/*
 * What a run has reached: the reason codes of both cores, the steps of the agent, the rows of the
 * table of what an agent admits (docs/protocol.md, section 7), the rows of the table of dead
 * leaders (section 18), and the moves between an orchestrator's phases.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/* --- what an agent admits --- */

static const struct {
    const char *row;
    enum verdict verdict;
} admit_rows[] = {
    {"another version", VERDICT_PROTOCOL},
    {"contradicts itself", VERDICT_PROTOCOL},
    {"another cluster", VERDICT_CLUSTER},
    {"another node", VERDICT_NODE},
    {"blank", VERDICT_UNREGISTERED},
    {"a later incarnation", VERDICT_INCARNATION},
    {"declared destroyed", VERDICT_INCARNATION},
    {"not registered", VERDICT_UNREGISTERED},
    {"a lower generation", VERDICT_STALE},
    {"fenced: higher", VERDICT_PROMISE},
    {"fenced: another proposer", VERDICT_PROPOSER},
    {"fenced: after the grant", VERDICT_STALE},
    {"fenced: again", VERDICT_OBEY},
    {"birth: blank", VERDICT_PROMISE},
    {"birth: of a member", VERDICT_BIRTH},
    {"birth: ended", VERDICT_BIRTH},
    {"birth: higher", VERDICT_PROMISE},
    {"birth: another proposer", VERDICT_PROPOSER},
    {"birth: after the grant", VERDICT_STALE},
    {"birth: another id within a generation", VERDICT_BIRTH},
    {"birth: again", VERDICT_OBEY},
    {"leader: another machine", VERDICT_INCARNATION},
    {"leader: not promised", VERDICT_PROPOSER},
    {"leader: a second one", VERDICT_SECOND_LEADER},
    {"leader: the fact again", VERDICT_OBEY},
    {"leader: another proposer", VERDICT_PROPOSER},
    {"leader: granted", VERDICT_OBEY},
    {"follower: of itself", VERDICT_SECOND_LEADER},
    {"follower: of a second leader", VERDICT_SECOND_LEADER},
    {"follower: of a machine that is over", VERDICT_INCARNATION},
    {"follower: as promised", VERDICT_OBEY},
    {"follower: not registered", VERDICT_UNREGISTERED},
    {"follower: higher", VERDICT_PROMISE},
    {"follower: promised to another proposer", VERDICT_PROMISE},
};

enum { ADMIT_ROWS = sizeof admit_rows / sizeof *admit_rows };

static int row(const char *name)
{
    for (int i = 0; i < ADMIT_ROWS; i++)
        if (strcmp(admit_rows[i].row, name) == 0)
            return i;
    return 0;
}

static bool is_older(struct incarnation a, struct incarnation b)
{
    return a.number != b.number ? a.number < b.number : a.nonce < b.nonce;
}

static int row_fenced(const struct standing *s, const struct desired *m)
{
    if (m->generation > s->promise.generation)
        return row("fenced: higher");
    if (m->proposer != s->promise.proposer)
        return row("fenced: another proposer");
    return row(s->leader.generation == m->generation ? "fenced: after the grant" : "fenced: again");
}

static int row_birth(const struct standing *s, const struct desired *m)
{
    if (cluster_id_is_none(&s->cluster))
        return row("birth: blank");
    if (!s->birth_promised)
        return row("birth: of a member");
    if (s->birth_ended)
        return row("birth: ended");
    if (m->generation > s->promise.generation)
        return row("birth: higher");
    if (m->proposer != s->promise.proposer)
        return row("birth: another proposer");
    if (s->leader.generation == m->generation)
        return row("birth: after the grant");
    return row(cluster_id_equal(&s->cluster, &m->cluster)
                   ? "birth: again"
                   : "birth: another id within a generation");
}

static bool known_fact(const struct standing *s, const struct desired *m)
{
    return s->leader.generation == m->generation;
}

static int row_leader(const struct standing *s, const struct desired *m)
{
    if (m->leader.node != s->node ||
        !incarnation_equal(m->leader.incarnation, s->incarnations[s->node]))
        return row("leader: another machine");
    if (m->generation > s->promise.generation)
        return row("leader: not promised");
    if (known_fact(s, m))
        return row(leadership_equal(&s->leader, &m->leader) ? "leader: the fact again"
                                                            : "leader: a second one");
    return row(m->proposer != s->promise.proposer || m->leader.proposer != m->proposer
                   ? "leader: another proposer"
                   : "leader: granted");
}

static int row_follower(const struct standing *s, const struct desired *m)
{
    int32_t node = m->leader.node;

    if (node == s->node)
        return row("follower: of itself");
    if (known_fact(s, m) && !leadership_equal(&s->leader, &m->leader))
        return row("follower: of a second leader");
    if (is_older(m->leader.incarnation, s->incarnations[node]) ||
        is_older(m->leader.incarnation, m->incarnations[node]) ||
        m->leader.incarnation.number <= s->void_number[node] ||
        m->leader.incarnation.number <= m->destroyed_number[node])
        return row("follower: of a machine that is over");
    if (m->generation == s->promise.generation && m->leader.proposer == s->promise.proposer)
        return row("follower: as promised");
    if (!s->registered)
        return row("follower: not registered");
    return row(m->generation > s->promise.generation ? "follower: higher"
                                                     : "follower: promised to another proposer");
}

/* The table of section 7 once more, written from the text and not from the code. */
static int admit_row(const struct standing *s, const struct desired *m)
{
    bool birth = m->role == ROLE_FENCED && m->birth;
    uint32_t self = s->incarnations[s->node].number;

    if (m->protocol != PROTOCOL_VERSION)
        return row("another version");
    if (m->role == ROLE_NONE || m->generation < FIRST_GENERATION ||
        cluster_id_is_none(&m->cluster) ||
        (m->role != ROLE_FENCED &&
         (m->leader.generation != m->generation || m->leader.node < 0 ||
          m->leader.node >= NODE_COUNT || m->leader.incarnation.number == 0)))
        return row("contradicts itself");
    if (!birth && !cluster_id_is_none(&s->cluster) && !cluster_id_equal(&s->cluster, &m->cluster))
        return row("another cluster");
    if (m->node != s->node)
        return row("another node");
    if (cluster_id_is_none(&s->cluster))
        return birth ? row_birth(s, m) : row("blank");
    if (self <= s->void_number[s->node] || self <= m->destroyed_number[s->node])
        return row("declared destroyed");
    if (is_older(s->incarnations[s->node], m->incarnations[s->node]))
        return row("a later incarnation");
    if (!s->registered && m->role != ROLE_FOLLOWER)
        return row("not registered");
    if (m->generation < s->promise.generation)
        return row("a lower generation");
    if (birth)
        return row_birth(s, m);
    if (m->role == ROLE_FENCED)
        return row_fenced(s, m);
    return m->role == ROLE_LEADER ? row_leader(s, m) : row_follower(s, m);
}

enum verdict cover_verdict(const struct standing *standing, const struct desired *message)
{
    return admit_rows[admit_row(standing, message)].verdict;
}

/* --- when a leader counts as dead --- */

static const char *const death_rows[] = {
    "exited",  "in recovery",     "its machine is empty",    "local probe fails",
    "cut off", "frozen to all",   "agent down, writes fine", "both refuse",
    "silent",  "one link is cut",
};

enum {
    DEATH_ROWS = sizeof death_rows / sizeof *death_rows,
    DEATH_EXITED = 0,
    DEATH_EMPTY = 2,
};

static int death_row(enum reason reason, const struct view *view, int32_t node)
{
    switch (reason) {
    case REASON_LEADER_EXITED:
        return node >= 0 && view->nodes[node].report.pg == PG_ABSENT ? DEATH_EMPTY : DEATH_EXITED;
    case REASON_LEADER_IN_RECOVERY: return 1;
    case REASON_LEADER_PROBE_FAILS: return 3;
    case REASON_LEADER_CUT_OFF: return 4;
    case REASON_LEADER_FROZEN: return 5;
    case REASON_KEEP_AGENT_DOWN: return 6;
    case REASON_LEADER_REFUSES: return 7;
    case REASON_LEADER_SILENT: return 8;
    case REASON_KEEP_LINK_CUT: return 9;
    default: return NOBODY;
    }
}

/* --- phases --- */

static const struct {
    enum phase from, to;
    const char *move;
} moves[] = {
    {PHASE_IDLE, PHASE_BIRTH, "idle to birth"},
    {PHASE_IDLE, PHASE_LEADER_FIRST, "idle to leader first"},
    {PHASE_IDLE, PHASE_PROMISING, "idle to promising"},
    {PHASE_IDLE, PHASE_DOCUMENT, "idle to document"},
    {PHASE_PROMISING, PHASE_DOCUMENT, "promising to document"},
    {PHASE_DOCUMENT, PHASE_IDLE, "document to idle"},
    {PHASE_BIRTH, PHASE_GRANTED, "birth to granted"},
    {PHASE_BIRTH, PHASE_IDLE, "birth to idle"},
    {PHASE_LEADER_FIRST, PHASE_PROMISING, "leader first to promising"},
    {PHASE_LEADER_FIRST, PHASE_IDLE, "leader first to idle"},
    {PHASE_PROMISING, PHASE_GRANTED, "promising to granted"},
    {PHASE_PROMISING, PHASE_IDLE, "promising to idle"},
    {PHASE_GRANTED, PHASE_IDLE, "granted to idle"},
    {PHASE_GRANTED, PHASE_PROMISING, "granted to promising (the next generation)"},
};

enum { MOVES = sizeof moves / sizeof *moves };

/* --- counting --- */

static uint64_t agent_reasons[AGENT_REASON_COUNT], boss_reasons[REASON_COUNT], admits[ADMIT_ROWS],
    deaths[DEATH_ROWS], moved[MOVES];

void cover_agent(enum agent_reason reason)
{
    agent_reasons[reason]++;
}

static void cover_reason(enum reason reason, const struct view *view, int32_t node)
{
    int at = death_row(reason, view, node);

    boss_reasons[reason]++;
    if (at != NOBODY)
        deaths[at]++;
}

void cover_boss(const struct view *view, const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->event_count; i++)
        cover_reason(plan->events[i].reason, view, plan->events[i].node);
    for (uint32_t i = 0; i < plan->blocker_count; i++)
        boss_reasons[plan->blockers[i].reason]++;
    boss_reasons[plan->not_writable]++;
    if (plan->request_settled)
        boss_reasons[plan->request_reason]++;
    for (int i = 0; i < MOVES; i++)
        moved[i] += view->memory.phase == moves[i].from && plan->memory.phase == moves[i].to;
}

/* Counts only where code and table agree. */
void cover_admit(const struct standing *standing, const struct desired *message,
                 enum verdict verdict)
{
    int at = admit_row(standing, message);

    admits[at] += admit_rows[at].verdict == verdict;
}

/* --- the end --- */

/* What cannot be reached here, and why. */
static const struct {
    const char *what, *why;
} beyond[] = {
    {"N11", "every server that an agent starts or adopts was started with names"},
    {"N18",
     "its snapshots end on the timeline that they began on: test_birth__snapshot_that_ends_*"},
    {"birth: another id within a generation",
     "a proposer opens one birth in a generation; only a stray says so"},
};

static bool is_beyond(const char *what)
{
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
        if (strcmp(beyond[i].what, what) == 0)
            return true;
    return false;
}

struct tally {
    int reached, missing;
    const char *rarest;
    uint64_t count;
};

static void look(struct tally *tally, const char *what, uint64_t count)
{
    tally->reached += count > 0;
    if (count > 0 && (!tally->rarest || count < tally->count)) {
        tally->rarest = what;
        tally->count = count;
    }
    if (count == 0 && !is_beyond(what))
        printf("%s%s", tally->missing++ ? ", " : "  not reached: ", what);
}

static bool tell(struct tally tally, const char *what)
{
    printf("%s  %d %s reached, most seldom %s: %" PRIu64 " times\n", tally.missing ? "\n" : "",
           tally.reached, what, tally.rarest ? tally.rarest : "-", tally.count);
    return tally.missing == 0;
}

bool cover_print(void)
{
    struct tally codes = {0}, rows = {0}, dead = {0}, phases = {0};
    bool all;

    for (int i = 0; i < AGENT_REASON_COUNT; i++)
        look(&codes, agent_reason_code((enum agent_reason)i), agent_reasons[i]);
    for (int i = 1; i < REASON_COUNT; i++)
        look(&codes, reason_code((enum reason)i), boss_reasons[i]);
    all = tell(codes, "reason codes");
    for (int i = 0; i < ADMIT_ROWS; i++)
        look(&rows, admit_rows[i].row, admits[i]);
    all &= tell(rows, "rows of what an agent admits");
    for (int i = 0; i < DEATH_ROWS; i++)
        look(&dead, death_rows[i], deaths[i]);
    all &= tell(dead, "rows of when a leader is dead");
    for (int i = 0; i < MOVES; i++)
        look(&phases, moves[i].move, moved[i]);
    all &= tell(phases, "moves between phases");
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++)
        printf("  beyond reach: %s: %s\n", beyond[i].what, beyond[i].why);
    return all;
}
