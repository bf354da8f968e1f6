/*
 * The agent's core against an ideal shell: every step succeeds, and what it did is written down as
 * a line of reason codes. What a test claims is that line, or that a code is missing from it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/reconcile.h"
#include "protocol/order.h"

enum { SELF = 0, LEADER = 1, OTHER = 2, P = 77, Q = 88 };

struct world {
    struct inputs in;
    struct durable durable;
    struct desired message;
    struct report peers[NODE_COUNT];
    struct step step;
    char trace[1024];
    struct position wal_end;    /* what READ_POSITION finds */
    struct position copy_end;   /* … after a clone or rewind */
    struct lineage lineage;
    bool receiver_sticks;       /* outlives SIGTERM */
    bool position_fails;
    bool child_fails;
    enum step_kind stop_before; /* the run ends when this is asked for */
};

static const struct cluster_id cluster = {{7}};

static struct lineage lineage_of(uint32_t count, const struct position *begin)
{
    struct lineage l = {.count = count};

    memcpy(l.begin, begin, count * sizeof *begin);
    return l;
}

/* A follower of generation 5, whole and attached to LEADER, which leads. */
static void make_follower(struct world *w)
{
    static const struct position mine[] = {{2, 100}, {5, 500}};

    memset(w, 0, sizeof *w);
    w->stop_before = STEP_NONE;
    w->in.now_ms = 1000000;
    w->in.nonce = 4711;
    w->in.options = (struct options) {.fence_timeout_ms = 3000, .receiver_timeout_ms = 200,
                                      .stop_timeout_ms = 3000, .position_timeout_ms = 1000,
                                      .recheck_timeout_ms = 2000, .start_backoff_ms = 100};
    w->in.durable = &w->durable;
    w->in.message = &w->message;
    w->in.looked = w->in.data_present = true;
    w->in.pg = PG_UP;
    w->in.in_recovery = true;
    w->in.pg_since_ms = 1;
    w->in.names_at_start = true;
    w->in.streaming = true;
    w->in.receivers = true;
    w->in.confirmed_ms = w->in.now_ms;
    w->in.registration.node = NODE_NONE;
    w->wal_end = (struct position) {5, 900};
    w->copy_end = (struct position) {5, 800};
    w->lineage = lineage_of(2, mine);
    w->in.flushed = w->wal_end;
    w->durable = (struct durable) {
        .node = SELF, .cluster = cluster, .registered = true, .birth_promised = true, .birth_ended = true,
        .promise = {5, P}, .leader = {5, LEADER, {1, 11}, P}, .role = ROLE_FOLLOWER, .data_id = 99,
        .complete = true, .followed = 5, .floor = {5, 600},
        .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
    w->in.data_id = 99;
    w->in.replication = (struct replication) {
        .upstream = LEADER, .upstream_incarnation = {1, 11}, .generation = 5, .counted = true,
        .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
    w->in.replication_known = w->in.replication_loaded = true;
    for (int32_t peer = 1; peer < NODE_COUNT; peer++) {
        struct report *r = &w->peers[peer];

        *r = (struct report) {.cluster = cluster, .node = peer, .registered = true, .birth_ended = true,
                              .promise = {5, P}, .leader = {5, LEADER, {1, 11}, P}, .role = ROLE_FOLLOWER,
                              .complete = true, .pg = PG_UP, .in_recovery = true,
                              .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
        w->in.peers[peer] = (struct peer_input) {.known = true, .fresh = true, .asked_ms = w->in.now_ms, .report = r};
    }
    w->peers[LEADER].role = ROLE_LEADER;
    w->peers[LEADER].leading = true;
    w->peers[LEADER].in_recovery = false;
    w->peers[LEADER].checkpointed = true;
    w->peers[LEADER].grant = (struct grant) {5, P, {1, 11}, true};
    w->peers[LEADER].write_lsn = 950;
    w->peers[LEADER].lineage = lineage_of(2, mine);
}

/* The same node as the leader of generation 5. */
static void make_leader(struct world *w)
{
    make_follower(w);
    w->durable.leader = (struct leadership) {5, SELF, {1, 10}, P};
    w->durable.grant = (struct grant) {5, P, {1, 10}, true};
    w->durable.role = ROLE_LEADER;
    w->in.in_recovery = false;
    w->in.streaming = w->in.receivers = false;
    w->in.planted = w->in.names_shown = w->in.checkpointed = w->in.roles_done = true;
    w->in.replication = (struct replication) {.upstream = NODE_NONE, .generation = 5, .names = true,
                                              .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
    w->peers[LEADER].role = ROLE_FOLLOWER;
    w->peers[LEADER].leading = false;
    w->peers[LEADER].in_recovery = true;
    w->peers[LEADER].grant = (struct grant) {0};
    for (int32_t peer = 1; peer < NODE_COUNT; peer++)
        w->peers[peer].leader = w->durable.leader;
}

static void make_blank(struct world *w)
{
    make_follower(w);
    memset(&w->durable, 0, sizeof w->durable);
    w->durable.node = SELF;
    w->durable.leader.node = NODE_NONE;
    w->in.pg = PG_ABSENT;
    w->in.data_present = w->in.receivers = w->in.streaming = false;
    w->in.replication_known = false;
    w->in.data_id = 0;
}

static void tell(struct world *w, enum role role, uint32_t generation, uint64_t proposer)
{
    w->in.has_message = true;
    w->message = (struct desired) {.protocol = PROTOCOL_VERSION, .cluster = cluster, .node = SELF,
                                   .generation = generation, .proposer = proposer, .role = role};
    w->message.leader.node = NODE_NONE;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        w->message.incarnations[slot] = w->durable.incarnations[slot];
}

static void tell_follow(struct world *w, uint32_t generation, uint64_t proposer, int32_t leader)
{
    tell(w, ROLE_FOLLOWER, generation, proposer);
    w->message.leader = (struct leadership) {generation, leader, w->durable.incarnations[leader], proposer};
}

static void tell_grant(struct world *w, uint32_t generation, uint64_t proposer)
{
    tell(w, ROLE_LEADER, generation, proposer);
    w->message.leader = (struct leadership) {generation, SELF, w->durable.incarnations[SELF], proposer};
}

static void start_server(struct world *w)
{
    w->in.pg = PG_UP;
    w->in.in_recovery = true;
    w->in.pg_since_ms = w->in.now_ms;
    w->in.replication = w->step.replication;
    w->in.replication_known = w->in.replication_loaded = w->in.names_at_start = true;
    w->in.replication_since_ms = w->in.now_ms;
    w->in.planted = w->in.names_shown = w->in.position_valid = false;
    w->in.receivers = w->in.streaming = w->step.replication.upstream != NODE_NONE;
    if (w->in.streaming)
        w->in.flushed = (struct position) {w->step.replication.generation, 2000};
}

static void end_server(struct world *w, enum pg_state state, bool clean)
{
    w->in.pg = state;
    w->in.pg_clean = clean;
    w->in.pg_since_ms = w->in.now_ms;
    w->in.receivers = w->in.streaming = false;
    w->in.in_recovery = false;
}

static void do_replication(struct world *w)
{
    bool upstream = w->step.replication.upstream != NODE_NONE;

    w->in.replication = w->step.replication;
    w->in.replication_known = w->in.replication_loaded = true;
    w->in.replication_since_ms = w->in.now_ms;
    w->in.names_shown = false;
    if (upstream && w->in.pg == PG_UP) {
        w->in.receivers = w->in.streaming = true;
        w->in.flushed = (struct position) {w->step.replication.generation, 2000};
    }
}

static void do_child(struct world *w, enum child child)
{
    w->in.child = child;
    w->in.child_state = w->child_fails ? CHILD_FAILED : CHILD_OK;
    w->in.child_ended_ms = w->in.now_ms;
    w->in.data_present = true;
    w->in.data_id = w->child_fails ? 1 : w->step.data_id;
    w->in.position_valid = false;
    w->in.nonce++;
    if (child == CHILD_CLONE || child == CHILD_REWIND) {
        w->wal_end = w->copy_end;
        w->lineage.count = w->lineage.count > 2 ? 2 : w->lineage.count;
    }
    if (w->in.pg == PG_ABSENT)
        end_server(w, PG_DOWN, true);
}

static void do_read_position(struct world *w)
{
    if (w->position_fails) {
        if (!w->in.position_failing_ms)
            w->in.position_failing_ms = w->in.now_ms;
        w->in.now_ms += 100;
        return;
    }
    w->in.position_valid = true;
    w->in.position_promise = w->durable.promise;
    w->in.position = w->in.record_end = w->wal_end;
    w->in.lineage = w->lineage;
    w->in.replay_lsn = w->wal_end.lsn;
}

static void carry_out(struct world *w)
{
    switch (w->step.kind) {
    case STEP_PERSIST:
        w->durable = w->step.durable;
        if (w->step.reason == AGENT_REASON_SPEND || w->step.reason == AGENT_REASON_REWIND_MARK)
            w->in.due = true;
        if (w->step.reason == AGENT_REASON_PROMISE)
            w->in.checkpointed = false;
        break;
    case STEP_REPLICATION:
        do_replication(w);
        break;
    case STEP_END_RECEIVERS:
        w->in.receivers = w->receiver_sticks;
        w->in.now_ms += w->receiver_sticks ? 200 : 1;
        break;
    case STEP_KILL_RECEIVERS:
        end_server(w, PG_CRASHED, false);
        break;
    case STEP_KILL:
        end_server(w, PG_CRASHED, false);
        break;
    case STEP_CHECKPOINT:
        w->in.checkpointed = true;
        break;
    case STEP_STOP:
        end_server(w, PG_DOWN, true);
        w->in.job_stopped |= w->step.reason == AGENT_REASON_JOB_RESTART;
        break;
    case STEP_START:
        start_server(w);
        break;
    case STEP_READ_POSITION:
        do_read_position(w);
        break;
    case STEP_UNBLOCK_REPLAY:
        w->in.replay_unblocked = true;
        break;
    case STEP_PLANT:
        w->in.planted = true;
        break;
    case STEP_CHECK_NAMES:
        w->in.names_shown = true;
        break;
    case STEP_PROMOTE:
        w->in.due = false;
        w->in.in_recovery = false;
        w->in.confirmed_ms = w->in.now_ms;
        w->in.flushed = (struct position) {w->durable.grant.generation, 2000};
        break;
    case STEP_ROLES:
        w->in.roles_done = true;
        break;
    case STEP_END_OLD_SENDERS:
        w->in.old_senders = false;
        break;
    case STEP_INITDB:
        do_child(w, CHILD_INITDB);
        break;
    case STEP_REWIND:
        w->in.due = false;
        do_child(w, CHILD_REWIND);
        break;
    case STEP_CLONE:
        do_child(w, CHILD_CLONE);
        break;
    case STEP_REGISTER: {
        struct registration_answer *a = &w->in.answers[w->step.peer];

        *a = (struct registration_answer) {.valid = true, .accepted = true, .cluster = cluster,
                                           .self = w->durable.incarnations[SELF], .promise = {5, P},
                                           .birth_ended = true};
        memcpy(a->incarnations, w->peers[w->step.peer].incarnations, sizeof a->incarnations);
        break;
    }
    case STEP_ANSWER_REGISTRATION:
        w->in.registration.pending = false;
        break;
    case STEP_ASK_DISCARD:
        w->in.discard_allowed = true;
        break;
    case STEP_APPLY_DOCUMENT:
        w->in.document_applied = w->durable.document.version;
        break;
    default:
        fail_msg("step %d has no meaning here", w->step.kind);
    }
}

/* Runs until nothing is left to do. Waiting lets time pass a few times, so that what only waits
 * for time goes on. */
static const char *run(struct world *w)
{
    int waits = 0;

    w->trace[0] = '\0';
    for (int i = 0; i < 200; i++) {
        w->in.now_ms += 1;
        reconcile(&w->in, &w->step);
        if (w->step.kind != STEP_NONE && w->step.kind == w->stop_before)
            return w->trace;
        if (w->step.kind == STEP_NONE) {
            if (waits++ == 3)
                return w->trace;
            w->in.now_ms += 400;
            w->in.confirmed_ms = w->in.now_ms;
            for (int32_t peer = 0; peer < NODE_COUNT; peer++)
                w->in.peers[peer].asked_ms = w->in.now_ms;
            continue;
        }
        snprintf(w->trace + strlen(w->trace), sizeof w->trace - strlen(w->trace), "%s%s", w->trace[0] ? " " : "",
                 agent_reason_code(w->step.reason));
        carry_out(w);
    }
    fail_msg("never settles: %s", w->trace);
    return "";
}

static bool voted(struct world *w)
{
    struct standing_now now;

    reconcile_standing(&w->in, &now);
    return now.vote.valid && promise_equal(now.vote.promise, w->durable.promise);
}

/* --- settled ---------------------------------------------------------------------------------- */

static void test_follower__attached_and_whole__is_left_alone(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    assert_string_equal(run(&w), "");
}

static void test_leader__confirmed__is_left_alone(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    assert_string_equal(run(&w), "");
}

/* --- promise, fence, vote --------------------------------------------------------------------- */

static void test_promise__follower__is_durable_before_the_fence_and_the_position(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(run(&w), "P1 G1 G2 V1 V4");
    assert_true(voted(&w));
    assert_int_equal(w.durable.promise.generation, 6);
}

static void test_vote__position_read_before_the_promise__does_not_count(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    do_read_position(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    assert_non_null(strstr(run(&w), "V1"));
}

static void test_fence__receiver_that_outlives_sigterm__costs_the_server_and_then_votes(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.receiver_sticks = true;
    tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(run(&w), "P1 G1 G2 G3 G7 V1 V4");
    assert_true(voted(&w));
}

static void test_vote__replay_that_never_ends__is_read_from_the_stopped_directory(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.position_fails = true;
    w.stop_before = STEP_STOP;
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    assert_string_equal(agent_reason_code(w.step.reason), "V3");
    carry_out(&w);
    w.stop_before = STEP_START;
    w.position_fails = false;
    assert_string_equal(run(&w), "V1 V4");
}

static void test_promise__leader__is_stopped_before_it_votes(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    w.stop_before = STEP_START;
    assert_string_equal(run(&w), "P1 G4 G1 V1 V4");
    assert_true(voted(&w));
}

static void test_promise__planned__checkpoints_first(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    w.message.planned = true;
    w.stop_before = STEP_START;
    assert_string_equal(run(&w), "P1 G6 G4 G1 V1 V4");
}

static void test_promise__late_copy_after_the_generation_has_its_leader__is_ignored(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    tell(&w, ROLE_FENCED, 5, P);
    assert_string_equal(run(&w), "");
    assert_int_equal(w.durable.role, ROLE_LEADER);
}

static void test_promise__lower_generation__is_refused(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 4, Q);
    assert_string_equal(run(&w), "");
}

static void test_vote__not_complete__is_withheld(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.complete = false;
    w.durable.marker = MARKER_CLONE;
    w.durable.marker_done = true;
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    assert_false(voted(&w));
}

static void test_vote__rewound__reports_at_least_the_fork_and_cannot_lead(void **state)
{
    struct standing_now now;
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = true;
    w.durable.marker = MARKER_REWIND;
    w.durable.marker_done = true;
    w.durable.fork = (struct position) {5, 5000};
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    reconcile_standing(&w.in, &now);
    assert_true(now.vote.valid);
    assert_false(now.vote.complete);
    assert_int_equal(now.vote.position.lsn, 5000);
}

static void test_vote__wal_of_a_timeline_nobody_granted__is_given_up(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.wal_end = (struct position) {6, 1200};
    tell(&w, ROLE_FENCED, 7, Q);
    run(&w);
    assert_false(voted(&w));
    assert_false(w.durable.complete);
}

/* --- grant ------------------------------------------------------------------------------------ */

static void test_grant__spent_is_durable_and_names_are_shown_before_the_promotion(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    tell_grant(&w, 6, Q);
    assert_string_equal(run(&w), "P3 N2 N3 N4 N5 N6 N7 N8");
    assert_true(w.durable.grant.spent);
}

static void test_grant__of_another_proposer__is_refused(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    tell_grant(&w, 6, P);
    assert_string_equal(run(&w), "");
    assert_int_equal(w.durable.role, ROLE_FENCED);
}

static void test_grant__data_not_complete__is_not_taken(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = true;
    w.durable.marker = MARKER_REWIND;
    w.durable.marker_done = true;
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    tell_grant(&w, 6, Q);
    run(&w);
    assert_int_equal(w.durable.grant.generation, 0);
}

static void test_grant__spent_and_agent_restarted__is_never_promoted_again(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    end_server(&w, PG_CRASHED, false);
    assert_string_equal(run(&w), "G7");
    assert_true(w.in.in_recovery);
    tell_grant(&w, 5, P);
    assert_string_equal(run(&w), "");
}

static void test_grant__server_restarted_between_spend_and_promotion__waits_for_an_election(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    tell_grant(&w, 6, Q);
    w.stop_before = STEP_PROMOTE;
    run(&w);
    end_server(&w, PG_CRASHED, false);
    w.stop_before = STEP_NONE;
    assert_string_equal(run(&w), "G7");
}

/* Found by tests/sim: between the reading and the new incarnation there was a vote with the position of long ago. */
static void test_vote__data_that_ends_below_its_floor__is_withheld(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    assert_true(voted(&w));
    w.in.record_end = w.in.position = (struct position) {5, 300};
    assert_false(voted(&w));
}

/* Found by tests/sim: a power cut between vote and promotion took WAL that had been voted with. */
static void test_grant__data_shorter_than_what_was_voted_with__is_not_promoted(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    end_server(&w, PG_CRASHED, false);
    w.in.position_valid = false;
    w.wal_end.lsn -= 10;
    tell_grant(&w, 6, Q);
    w.stop_before = STEP_REGISTER;
    assert_non_null(strstr(run(&w), "V1 I3"));
    assert_null(strstr(w.trace, "N6"));
}

/* Found by tests/sim: a rewound copy that needs its leader's WAL to start up was fenced, and
 * waited for its start for ever. */
static void test_fence__rewound_copy_that_cannot_start_up__is_stopped_and_votes(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = w.durable.marker_done = true;
    w.durable.marker = MARKER_REWIND;
    w.in.pg = PG_STARTING;
    w.in.streaming = w.in.receivers = false;
    tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(run(&w), "P1 G1 V3 V1 V4");
    assert_true(voted(&w));
}

/* --- follow ----------------------------------------------------------------------------------- */

static void lead_elsewhere(struct world *w, uint32_t generation, uint64_t begin_lsn)
{
    struct report *r = &w->peers[OTHER];
    struct position begin[] = {{2, 100}, {5, 500}, {generation, begin_lsn}};

    w->peers[LEADER].leading = false;
    r->promise = (struct promise) {generation, Q};
    r->role = ROLE_LEADER;
    r->leading = r->checkpointed = true;
    r->in_recovery = false;
    r->grant = (struct grant) {generation, Q, {1, 12}, true};
    r->lineage = lineage_of(3, begin);
    r->write_lsn = begin_lsn + 100;
}

/* Found by tests/sim: a promotion that outlasted its step left the old history in the leader's
 * report, and a fresh copy was cloned again for ever. */
static void test_follow__leader_that_does_not_tell_its_own_timeline_yet__is_waited_for(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.peers[LEADER].lineage.count--;
    w.in.replication.upstream = NODE_NONE;
    w.in.receivers = false;
    assert_string_equal(run(&w), "G1 V1");
    assert_string_equal(agent_reason_code(w.step.reason), "T6");
    w.peers[LEADER].lineage.count++;
    assert_string_equal(run(&w), "T1");
}

static void test_follow__prefix__attaches_without_rewind(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    lead_elsewhere(&w, 6, 900);
    tell_follow(&w, 6, Q, OTHER);
    assert_string_equal(run(&w), "P2 G1 G2 V1 T11 T1");
    assert_int_equal(w.in.replication.upstream, OTHER);
    assert_true(w.in.replication.counted);
}

static void test_follow__crashed_leader_that_diverged__rewinds_once_and_counts_only_past_the_leaders_lsn(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    end_server(&w, PG_CRASHED, false);
    lead_elsewhere(&w, 6, 800);
    tell_follow(&w, 6, Q, OTHER);
    assert_string_equal(run(&w), "P2 G1 G7 V1 W1 W2 W3 W4 V1 T11 T2 T4 T5 T3");
    assert_true(w.durable.complete);
    assert_int_equal(w.durable.marker, MARKER_NONE);
}

static void test_follow__rewind_fails__is_cloned(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    end_server(&w, PG_CRASHED, false);
    lead_elsewhere(&w, 6, 800);
    tell_follow(&w, 6, Q, OTHER);
    w.child_fails = true;
    w.stop_before = STEP_CLONE;
    assert_non_null(strstr(run(&w), "W2 W3 W5"));
}

static void test_follow__agent_killed_in_a_rewind__does_not_rewind_again(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    end_server(&w, PG_CRASHED, false);
    lead_elsewhere(&w, 6, 800);
    tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_REWIND;
    run(&w);
    w.in.due = false;           /* a fresh agent knows nothing of it */
    w.stop_before = STEP_CLONE;
    assert_string_equal(run(&w), "W5");
}

static void test_follow__wal_gone_from_the_leader__asks_before_it_discards(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    lead_elsewhere(&w, 6, 900);
    w.peers[OTHER].oldest_lsn = 901;
    tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_CLONE;
    assert_string_equal(run(&w), "P2 G1 G2 V1 C1 C2 C3");
}

static void test_clone__is_not_counted_until_complete(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.durable.marker_done = true;
    w.in.replication.counted = false;
    w.in.streaming = false;
    assert_string_equal(run(&w), "");
    assert_false(w.in.replication.counted);
    w.in.streaming = true;
    w.in.flushed = (struct position) {5, 949};
    assert_string_equal(run(&w), "T4");
    w.in.flushed.lsn = 950;
    assert_string_equal(run(&w), "T5 T3");
    assert_true(w.in.replication.counted);
}

static void test_complete__lsn_of_an_older_generation__does_not_count(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.durable.marker_done = true;
    w.in.replication.counted = false;
    w.durable.complete_target = (struct position) {4, 10};
    w.in.flushed = (struct position) {5, 949};
    run(&w);
    assert_false(w.durable.complete);
}

static void test_follow__operator_fence__has_no_upstream_and_still_votes(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.durable.document.fenced[SELF] = true;
    assert_string_equal(run(&w), "G1 G2");
    tell(&w, ROLE_FENCED, 6, Q);
    run(&w);
    assert_true(voted(&w));
}

static void test_standby__crashed__is_started_at_once(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    end_server(&w, PG_CRASHED, false);
    assert_string_equal(run(&w), "T7");
}

static void test_discard__both_followers_at_once__only_one_may(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    assert_true(discard_permitted(&w.in, 1, 5, NODE_NONE));
    assert_false(discard_permitted(&w.in, 2, 5, 1));
    w.peers[2].complete = false;
    assert_false(discard_permitted(&w.in, 1, 5, NODE_NONE));
    assert_false(discard_permitted(&w.in, 2, 4, NODE_NONE));
}

/* --- self-fencing ----------------------------------------------------------------------------- */

static void test_leader__unconfirmed__stops_and_comes_back_as_a_standby(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.in.confirmed_ms = w.in.now_ms - 3001;
    assert_string_equal(run(&w), "S1 G7");
    assert_true(w.in.in_recovery);
}

static void test_leader__unconfirmed_in_maintenance__is_left_alone(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.durable.document.maintenance = true;
    w.in.confirmed_ms = w.in.now_ms - 3001;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_NONE);
}

static void test_leader__both_peers_higher__stops(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.peers[1].promise.generation = 6;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_NONE);
    w.peers[2].promise.generation = 6;
    reconcile(&w.in, &w.step);
    assert_string_equal(agent_reason_code(w.step.reason), "S2");
}

static void test_leader__names_changed_behind_its_back__stops(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.in.names_violated = true;
    reconcile(&w.in, &w.step);
    assert_string_equal(agent_reason_code(w.step.reason), "S4");
}

static void test_follower__promoted_by_hand__is_stopped(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.in.in_recovery = false;
    w.in.flushed = w.wal_end = (struct position) {6, 950};
    w.stop_before = STEP_CLONE;
    assert_string_equal(run(&w), "S3 S3");
    assert_false(w.durable.complete);
}

/* --- identity --------------------------------------------------------------------------------- */

static void test_blank__next_to_unborn_peers__waits(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    w.peers[1].birth_ended = w.peers[2].birth_ended = false;
    assert_string_equal(run(&w), "");
    assert_string_equal(agent_reason_code(w.step.reason), "I7");
}

static void test_blank__next_to_a_cluster__registers_at_both_and_promises_nothing_before(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    w.stop_before = STEP_REGISTER;
    tell(&w, ROLE_FENCED, 9, Q);
    assert_string_equal(run(&w), "I1 P4");
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    assert_int_equal(w.durable.promise.generation, 0);
    w.stop_before = STEP_NONE;
    w.in.has_message = false;
    assert_string_equal(run(&w), "I4 I4 I4 I4 I5");
    assert_true(w.durable.registered);
    assert_int_equal(w.durable.promise.generation, 5);
    assert_false(w.durable.complete);
}

static void test_register__one_peer_silent__is_not_finished(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    w.in.peers[2].fresh = false;
    run(&w);
    assert_false(w.durable.registered);
    assert_string_equal(agent_reason_code(w.step.reason), "I9");
}

static void test_data__swapped__is_a_new_incarnation(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.in.data_id = 98;
    w.stop_before = STEP_REGISTER;
    assert_string_equal(run(&w), "I2 I2");
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    assert_int_equal(w.in.pg, PG_CRASHED);
}

static void test_data__rolled_back_below_the_floor__is_a_new_incarnation(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.wal_end = (struct position) {5, 599};
    tell(&w, ROLE_FENCED, 6, Q);
    w.stop_before = STEP_KILL;
    assert_non_null(strstr(run(&w), "I3"));
    assert_false(voted(&w));
}

static void test_peer__new_incarnation__leaves_n_before_it_is_answered(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.in.registration = (struct registration) {.pending = true, .node = OTHER, .incarnation = {2, 22}};
    w.in.old_senders = true;
    assert_string_equal(run(&w), "I6 N9 N10 I6");
    assert_true(w.step.kind == STEP_NONE);
    assert_int_equal(w.in.replication.incarnations[OTHER].number, 2);
}

static void test_peer__older_incarnation__is_answered_with_a_refusal(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    w.in.registration = (struct registration) {.pending = true, .node = OTHER, .incarnation = {1, 99}};
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_ANSWER_REGISTRATION);
    assert_false(w.step.accepted);
}

static void test_machine__whose_place_was_taken__stays_stopped(void **state)
{
    struct world w;

    (void) state;
    make_leader(&w);
    w.peers[1].incarnations[SELF] = (struct incarnation) {2, 5};
    run(&w);
    assert_int_equal(w.in.pg, PG_CRASHED);
    assert_string_equal(agent_reason_code(w.step.reason), "I8");
}

/* --- birth ------------------------------------------------------------------------------------ */

static void tell_birth(struct world *w, int32_t first)
{
    tell(w, ROLE_FENCED, FIRST_GENERATION, P);
    w->message.birth = true;
    w->message.leader.node = first;
    for (int32_t peer = 1; peer < NODE_COUNT; peer++) {
        w->peers[peer].birth_ended = false;
        w->peers[peer].complete = false;
        w->peers[peer].promise = (struct promise) {FIRST_GENERATION, P};
    }
}

/* Found by tests/sim: a request of long ago reached a machine whose disk had been lost. */
static void test_birth__peer_silent_or_born__is_not_promised(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    tell_birth(&w, SELF);
    w.in.peers[OTHER].fresh = false;
    assert_string_equal(run(&w), "");
    w.in.peers[OTHER].fresh = true;
    w.peers[OTHER].birth_ended = true;
    w.stop_before = STEP_REGISTER;
    assert_null(strstr(run(&w), "P5"));
}

static void test_birth__first_leader__initialises_and_leads_generation_two(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    w.wal_end = (struct position) {1, 50};
    tell_birth(&w, SELF);
    assert_string_equal(run(&w), "P5 P4");
    tell_grant(&w, FIRST_GENERATION, P);
    assert_string_equal(run(&w), "P3 N13 N1 N14 G7 N2 V1 N3 N4 N5 N6 N7 N8");
    assert_true(w.durable.complete);
    assert_int_equal(w.durable.incarnations[SELF].number, 1);
}

static void test_birth__other_node__clones_without_asking_and_ends_the_birth_when_complete(void **state)
{
    struct world w;
    static const struct position begin[] = {{2, 100}};

    (void) state;
    make_blank(&w);
    tell_birth(&w, LEADER);
    run(&w);
    w.peers[LEADER].grant = (struct grant) {FIRST_GENERATION, P, {1, 11}, true};
    w.peers[LEADER].lineage = lineage_of(1, begin);
    w.lineage = lineage_of(1, begin);
    w.copy_end = (struct position) {2, 300};
    w.durable.incarnations[LEADER] = (struct incarnation) {1, 11};
    tell_follow(&w, FIRST_GENERATION, P, LEADER);
    assert_string_equal(run(&w), "P2 C2 C4 C5 G1 V1 T11 T2 T4 T5 T3");
    assert_true(w.durable.birth_ended);
}

static void test_birth__foreign_data__is_left_alone(void **state)
{
    struct world w;

    (void) state;
    make_blank(&w);
    tell_birth(&w, SELF);
    run(&w);
    w.in.data_foreign = true;
    tell_grant(&w, FIRST_GENERATION, P);
    assert_string_equal(run(&w), "P3");
    assert_string_equal(agent_reason_code(w.step.reason), "C7");
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void test_job__restart__is_done_once(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job) {.id = 3, .kind = JOB_RESTART};
    assert_string_equal(run(&w), "J1 J2 T7 J3");
    assert_string_equal(run(&w), "");
}

static void test_job__reinit__asks_and_clones(void **state)
{
    struct world w;

    (void) state;
    make_follower(&w);
    tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job) {.id = 3, .kind = JOB_REINIT};
    assert_string_equal(run(&w), "J1 C1 C2 C3 C4 C5 J3 T7 T4 T5 T3");
    assert_true(w.durable.complete);
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        T(test_follower__attached_and_whole__is_left_alone),
        T(test_leader__confirmed__is_left_alone),
        T(test_promise__follower__is_durable_before_the_fence_and_the_position),
        T(test_vote__position_read_before_the_promise__does_not_count),
        T(test_fence__receiver_that_outlives_sigterm__costs_the_server_and_then_votes),
        T(test_vote__replay_that_never_ends__is_read_from_the_stopped_directory),
        T(test_promise__leader__is_stopped_before_it_votes),
        T(test_promise__planned__checkpoints_first),
        T(test_promise__late_copy_after_the_generation_has_its_leader__is_ignored),
        T(test_promise__lower_generation__is_refused),
        T(test_vote__not_complete__is_withheld),
        T(test_vote__rewound__reports_at_least_the_fork_and_cannot_lead),
        T(test_vote__wal_of_a_timeline_nobody_granted__is_given_up),
        T(test_grant__spent_is_durable_and_names_are_shown_before_the_promotion),
        T(test_grant__of_another_proposer__is_refused),
        T(test_grant__data_not_complete__is_not_taken),
        T(test_grant__spent_and_agent_restarted__is_never_promoted_again),
        T(test_grant__server_restarted_between_spend_and_promotion__waits_for_an_election),
        T(test_vote__data_that_ends_below_its_floor__is_withheld),
        T(test_grant__data_shorter_than_what_was_voted_with__is_not_promoted),
        T(test_fence__rewound_copy_that_cannot_start_up__is_stopped_and_votes),
        T(test_follow__leader_that_does_not_tell_its_own_timeline_yet__is_waited_for),
        T(test_follow__prefix__attaches_without_rewind),
        T(test_follow__crashed_leader_that_diverged__rewinds_once_and_counts_only_past_the_leaders_lsn),
        T(test_follow__rewind_fails__is_cloned),
        T(test_follow__agent_killed_in_a_rewind__does_not_rewind_again),
        T(test_follow__wal_gone_from_the_leader__asks_before_it_discards),
        T(test_clone__is_not_counted_until_complete),
        T(test_complete__lsn_of_an_older_generation__does_not_count),
        T(test_follow__operator_fence__has_no_upstream_and_still_votes),
        T(test_standby__crashed__is_started_at_once),
        T(test_discard__both_followers_at_once__only_one_may),
        T(test_leader__unconfirmed__stops_and_comes_back_as_a_standby),
        T(test_leader__unconfirmed_in_maintenance__is_left_alone),
        T(test_leader__both_peers_higher__stops),
        T(test_leader__names_changed_behind_its_back__stops),
        T(test_follower__promoted_by_hand__is_stopped),
        T(test_blank__next_to_unborn_peers__waits),
        T(test_blank__next_to_a_cluster__registers_at_both_and_promises_nothing_before),
        T(test_register__one_peer_silent__is_not_finished),
        T(test_data__swapped__is_a_new_incarnation),
        T(test_data__rolled_back_below_the_floor__is_a_new_incarnation),
        T(test_peer__new_incarnation__leaves_n_before_it_is_answered),
        T(test_peer__older_incarnation__is_answered_with_a_refusal),
        T(test_machine__whose_place_was_taken__stays_stopped),
        T(test_birth__peer_silent_or_born__is_not_promised),
        T(test_birth__first_leader__initialises_and_leads_generation_two),
        T(test_birth__other_node__clones_without_asking_and_ends_the_birth_when_complete),
        T(test_birth__foreign_data__is_left_alone),
        T(test_job__restart__is_done_once),
        T(test_job__reinit__asks_and_clones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
