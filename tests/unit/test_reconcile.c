/* The agent's core: promise, fence, vote, grant, self-fencing, jobs. reconcile_world.h has the
 * shell around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/reconcile.h"
#include "protocol/order.h"
#include "tests/unit/reconcile_world.h"

/* --- settled ---------------------------------------------------------------------------------- */

static void test_follower__attached_and_whole__is_left_alone(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    assert_string_equal(world_run(&w), "");
}

static void test_leader__confirmed__is_left_alone(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    assert_string_equal(world_run(&w), "");
}

/* --- promise, fence, vote --------------------------------------------------------------------- */

static void test_promise__follower__is_durable_before_the_fence_and_the_position(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(world_run(&w), "P1 G1 G2 V1 V4");
    assert_true(world_voted(&w));
    assert_int_equal(w.durable.promise.generation, 6);
}

static void test_vote__position_read_before_the_promise__does_not_count(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_do_read_position(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    assert_non_null(strstr(world_run(&w), "V1"));
}

static void test_fence__receiver_that_outlives_sigterm__costs_the_server_and_then_votes(
    void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.receiver_sticks = true;
    world_tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(world_run(&w), "P1 G1 G2 G3 G7 V1 V4");
    assert_true(world_voted(&w));
}

static void test_vote__replay_that_never_ends__is_read_from_the_stopped_directory(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.position_fails = true;
    w.stop_before = STEP_STOP;
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_string_equal(agent_reason_code(w.step.reason), "V3");
    world_carry_out(&w);
    w.stop_before = STEP_START;
    w.position_fails = false;
    assert_string_equal(world_run(&w), "V1 V4");
}

static void test_promise__leader__is_stopped_before_it_votes(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.stop_before = STEP_START;
    assert_string_equal(world_run(&w), "P1 G4 G1 V1 V4");
    assert_true(world_voted(&w));
}

static void test_promise__planned__checkpoints_first(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.message.planned = true;
    w.stop_before = STEP_START;
    assert_string_equal(world_run(&w), "P1 G6 G4 G1 V1 V4");
}

static void test_promise__planned_with_a_checkpoint_that_does_not_end__stops_in_time(void **state)
{
    struct world w;
    int64_t began_ms;

    (void)state;
    world_make_leader(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.message.planned = true;
    w.stop_before = STEP_CHECKPOINT;
    assert_string_equal(world_run(&w), "P1");
    w.in.checkpoint_running = true;
    w.in.checkpoint_since_ms = began_ms = w.in.now_ms;
    w.stop_before = STEP_STOP;
    assert_string_equal(world_run(&w), "");
    assert_int_equal(w.step.kind, STEP_STOP);
    assert_true(w.in.now_ms - began_ms >= w.in.options.checkpoint_timeout_ms);
    w.stop_before = STEP_START;
    assert_string_equal(world_run(&w), "G4 G1 V1 V4");
}

static void test_promise__that_declares_machines_destroyed__says_so_and_keeps_it(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.message.destroyed_number[OTHER] = 1;
    assert_string_equal(world_run(&w), "P6 G1 G2 V1 V4");
    assert_int_equal(w.durable.void_number[OTHER], 1);
    assert_int_equal(w.durable.promise.generation, 6);
}

static void test_promise__late_copy_after_the_generation_has_its_leader__is_ignored(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_tell(&w, ROLE_FENCED, 5, P);
    assert_string_equal(world_run(&w), "");
    assert_int_equal(w.durable.role, ROLE_LEADER);
}

static void test_promise__lower_generation__is_refused(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 4, Q);
    assert_string_equal(world_run(&w), "");
}

static void test_vote__not_complete__is_withheld(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.complete = false;
    w.durable.marker = MARKER_CLONE;
    w.durable.marker_done = true;
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_false(world_voted(&w));
}

static void test_vote__rewound__reports_at_least_the_fork_and_cannot_lead(void **state)
{
    struct standing_now now;
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = true;
    w.durable.marker = MARKER_REWIND;
    w.durable.marker_done = true;
    w.durable.fork = (struct position){5, 5000};
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    reconcile_standing(&w.in, &now);
    assert_true(now.vote.valid);
    assert_false(now.vote.complete);
    assert_int_equal(now.vote.position.lsn, 5000);
}

static void test_vote__wal_of_a_timeline_nobody_granted__is_given_up(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true;
    w.wal_end = (struct position){6, 1200};
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    assert_false(world_voted(&w));
    assert_false(w.durable.complete);
}

/* Found by tests/sim: it led, was granted a later generation and could not be promoted. */
static void test_vote__wal_that_it_led_before_a_grant_that_failed__counts(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true;
    w.durable.grant = (struct grant){6, P, w.durable.incarnations[SELF], true};
    w.durable.floor = (struct position){5, 1100}; /* it voted with it */
    w.wal_end = (struct position){5, 1200};
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    assert_true(world_voted(&w));
    assert_true(w.durable.complete);
}

/* Found by tests/sim: a standby, granted a generation, was promoted by hand to a lower one that
 * others had been granted, while the agent marked its own as spent; then stopped as a primary
 * without a grant. That it had a later grant by then made its WAL look like an earlier leader's. */
static void test_vote__wal_by_hand_below_a_grant_that_was_spent_meanwhile__is_given_up(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true;
    w.durable.grant = (struct grant){6, P, w.durable.incarnations[SELF], true};
    w.durable.followed = 6;
    w.durable.floor = (struct position){4, 1100};
    w.wal_end = (struct position){5, 1200};
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    assert_false(world_voted(&w));
    assert_false(w.durable.complete);
}

/* Found by tests/sim: promoted by hand to the very timeline of the leader that it was about to
 * follow, and killed before it was seen. */
static void test_vote__wal_that_it_wrote_on_its_leaders_timeline__is_given_up(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true;
    w.wal_end = (struct position){5, 1200};
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    assert_false(world_voted(&w));
    assert_false(w.durable.complete);
}

/* --- grant ------------------------------------------------------------------------------------ */

static void test_grant__spent_is_durable_and_names_are_shown_before_the_promotion(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_tell_grant(&w, 6, Q);
    assert_string_equal(world_run(&w), "P3 N2 N3 N4 N5 N6 N7 N8");
    assert_true(w.durable.grant.spent);
}

/* Found by tests/chaos: it had fetched the history of a leader that fell before it had any of its
 * WAL, and forked off that timeline. No other node could come past the fork. */
static void test_grant__set_out_for_a_timeline_without_its_wal__is_restarted_first(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    w.in.newest_history = 6;
    world_tell_grant(&w, 7, Q);
    w.stop_before = STEP_STOP;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_STOP);
    assert_string_equal(agent_reason_code(w.step.reason), "N19");
    assert_false(w.durable.grant.spent);
}

static void test_grant__of_another_proposer__is_refused(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_tell_grant(&w, 6, P);
    assert_string_equal(world_run(&w), "");
    assert_int_equal(w.durable.role, ROLE_FENCED);
}

static void test_grant__data_not_complete__is_not_taken(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = true;
    w.durable.marker = MARKER_REWIND;
    w.durable.marker_done = true;
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_tell_grant(&w, 6, Q);
    world_run(&w);
    assert_int_equal(w.durable.grant.generation, 0);
}

static void test_grant__spent_and_agent_restarted__is_never_promoted_again(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_CRASHED, false);
    assert_string_equal(world_run(&w), "G7");
    assert_true(w.in.in_recovery);
    world_tell_grant(&w, 5, P);
    assert_string_equal(world_run(&w), "");
}

static void test_grant__server_restarted_between_spend_and_promotion__waits_for_an_election(
    void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_tell_grant(&w, 6, Q);
    w.stop_before = STEP_PROMOTE;
    world_run(&w);
    world_end_server(&w, PG_CRASHED, false);
    w.stop_before = STEP_NONE;
    assert_string_equal(world_run(&w), "G7");
}

/* Found by tests/sim: between the reading and the new incarnation there was a vote with the
 * position of long ago. */
static void test_vote__data_that_ends_below_its_floor__is_withheld(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_true(world_voted(&w));
    w.in.record_end = w.in.position = (struct position){5, 300};
    assert_false(world_voted(&w));
}

/* Found by tests/sim: a power cut between vote and promotion took WAL that had been voted with. */
static void test_grant__data_shorter_than_what_was_voted_with__is_not_promoted(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_end_server(&w, PG_CRASHED, false);
    w.in.position_valid = false;
    w.wal_end.lsn -= 10;
    world_tell_grant(&w, 6, Q);
    w.stop_before = STEP_REGISTER;
    assert_non_null(strstr(world_run(&w), "V1 I3"));
    assert_null(strstr(w.trace, "N6"));
}

/* Found by tests/sim: promoted by hand to the very timeline it had been granted, stopped, and
 * promoted once more. */
static void test_grant__wal_of_a_timeline_nobody_granted__is_not_promoted(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true; /* it led until now */
    w.durable.grant = (struct grant){5, P, w.durable.incarnations[SELF], true};
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    world_tell_grant(&w, 6, Q);
    w.stop_before = STEP_PLANT;
    world_run(&w);
    w.stop_before = STEP_NONE;
    w.wal_end = (struct position){6, 2000};
    w.in.position_valid = false;
    assert_non_null(strstr(world_run(&w), "V1 S3"));
    assert_null(strstr(w.trace, "N6"));
}

/* Found by tests/sim: promoted by hand between its vote and its own promotion, to an id below the
 * one that it was granted, it led, and no follower ever found its leader's timeline. */
static void test_grant__promoted_by_hand_to_a_lower_timeline__is_disowned(void **state)
{
    struct world w;
    struct standing_now now;

    (void)state;
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 7, Q);
    world_run(&w);
    world_tell_grant(&w, 7, Q);
    w.stop_before = STEP_PROMOTE;
    world_run(&w);
    assert_true(w.durable.grant.spent);
    w.stop_before = STEP_KILL;
    w.in.in_recovery = false;
    w.in.flushed = (struct position){6, 2000};
    reconcile_standing(&w.in, &now);
    assert_false(now.leading);
    assert_non_null(strstr(world_run(&w), "S3"));
    assert_null(strstr(w.trace, "N7"));
    assert_int_equal(w.durable.marker, MARKER_CLONE);
    assert_false(w.durable.complete);
}

/* Found by tests/sim: a rewound copy that needs its leader's WAL to start up was fenced, and
 * waited for its start for ever. */
static void test_fence__rewound_copy_that_cannot_start_up__is_stopped_and_votes(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.complete = false;
    w.durable.rewound = w.durable.marker_done = true;
    w.durable.marker = MARKER_REWIND;
    w.in.pg = PG_STARTING;
    w.in.streaming = w.in.receivers = false;
    world_tell(&w, ROLE_FENCED, 6, Q);
    assert_string_equal(world_run(&w), "P1 G1 V3 V1 V4");
    assert_true(world_voted(&w));
}

/* --- self-fencing ----------------------------------------------------------------------------- */

static void test_leader__unconfirmed__stops_and_comes_back_as_a_standby(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.in.confirmed_ms = w.in.now_ms - 3001;
    assert_string_equal(world_run(&w), "S1 G7");
    assert_true(w.in.in_recovery);
}

static void test_leader__unconfirmed_with_the_others_declared_destroyed__goes_on(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    for (int32_t peer = 0; peer < NODE_COUNT; peer++) {
        w.in.peers[peer].fresh = false;
        if (peer != w.durable.node)
            w.durable.void_number[peer] = w.durable.incarnations[peer].number;
    }
    world_run(&w);
    w.in.confirmed_ms = w.in.now_ms - 3001;
    assert_string_equal(world_run(&w), "");
    assert_false(w.in.in_recovery);
}

static void test_leader__unconfirmed_in_maintenance__is_left_alone(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.durable.document.maintenance = true;
    w.in.confirmed_ms = w.in.now_ms - 3001;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_NONE);
}

static void test_leader__both_peers_higher__stops(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
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

    (void)state;
    world_make_leader(&w);
    w.in.names_violated = true;
    reconcile(&w.in, &w.step);
    assert_string_equal(agent_reason_code(w.step.reason), "S4");
}

/* Found by tests/sim: its followers' names were put in force, and commits acknowledged on a
 * timeline nobody granted. */
static void test_leader__promoted_by_hand_in_maintenance__is_waited_for_by_nobody(void **state)
{
    struct world w;
    struct standing_now now;

    (void)state;
    world_make_leader(&w);
    w.durable.document.maintenance = true;
    w.in.flushed = (struct position){6, 1000};
    assert_string_equal(world_run(&w), "S3 S3");
    assert_false(w.durable.complete);
    assert_false(w.in.replication.names);
    reconcile_standing(&w.in, &now);
    assert_false(now.leading);
}

static void test_follower__promoted_by_hand__is_stopped(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.in_recovery = false;
    w.in.flushed = w.wal_end = (struct position){6, 950};
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "S3 S3");
    assert_false(w.durable.complete);
}

/* --- the document ----------------------------------------------------------------------------- */

static void test_document__leader__must_have_heard_of_a_peer_at_its_generation(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    assert_null(document_obstacle(&w.in));
    w.in.peers[1].known = false;
    assert_null(document_obstacle(&w.in));
    w.peers[2].promise.generation = 4; /* it may yet confirm a change of an earlier leader's */
    assert_non_null(document_obstacle(&w.in));
    w.peers[2].promise.generation = 6;
    assert_null(document_obstacle(&w.in));
    w.durable.incarnations[2].number = 2; /* another machine is in its place */
    assert_non_null(document_obstacle(&w.in));
    w.durable.void_number[2] = 2;
    assert_non_null(document_obstacle(&w.in));
    w.durable.void_number[1] = 1; /* an operator answers for both */
    assert_null(document_obstacle(&w.in));
}

static void test_document__leader__does_not_change_what_others_changed_since(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.durable.document.version = (struct document_version){5, 3};
    w.peers[2].document.version = (struct document_version){5, 4};
    assert_non_null(document_obstacle(&w.in));
    w.durable.document.version = (struct document_version){5, 4};
    assert_null(document_obstacle(&w.in));
    /* made without this leader, which is about to be replaced: counting on would make its numbers
     */
    w.durable.document.version = (struct document_version){6, 5};
    assert_non_null(document_obstacle(&w.in));
    world_make_follower(&w);
    assert_non_null(document_obstacle(&w.in));
}

static void test_document__without_a_leader__only_under_exactly_the_promise(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){5, P}));
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_null(document_obstacle_leaderless(&w.durable, (struct promise){6, Q}));
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){6, P}));
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){5, P}));
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){7, Q}));
    w.durable.complete = false;
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){6, Q}));
    w.durable.rewound = true;
    assert_null(document_obstacle_leaderless(&w.durable, (struct promise){6, Q}));
    world_tell_follow(&w, 6, Q, OTHER);
    w.durable.leader = w.message.leader;
    assert_non_null(document_obstacle_leaderless(&w.durable, (struct promise){6, Q}));
}

/* --- an agent that was restarted ---------------------------------------------------------------
 */

/* It knows what its predecessor wrote, and not what the server has read of it. */
static void test_restarted__what_was_written_before__is_loaded_once_more(void **state)
{
    struct standing_now now;
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.replication_loaded = false;
    assert_string_equal(world_run(&w), "D3");
    world_make_leader(&w);
    w.in.replication_loaded = false;
    reconcile_standing(&w.in, &now);
    assert_true(now.leading);
    assert_string_equal(world_run(&w), "D3");
    world_make_follower(&w);
    w.in.replication = (struct replication){.upstream = NODE_NONE, .incarnations = {{1, 10}}};
    w.in.receivers = w.in.streaming = w.in.replication_loaded = false;
    world_tell(&w, ROLE_FENCED, 6, Q);
    reconcile_standing(&w.in, &now);
    assert_false(now.fenced);
    assert_string_equal(world_run(&w), "P1 D3 V1 V4");
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void test_job__restart__is_done_once(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job){.id = 3, .kind = JOB_RESTART};
    assert_string_equal(world_run(&w), "J1 J2 T7 J3");
    assert_string_equal(world_run(&w), "");
}

/* Messages are repeated and delayed: one job comes back after another was done. */
static void test_job__late_copy_of_an_earlier_one__is_not_done_again(void **state)
{
    struct desired first;
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job){.id = 3, .kind = JOB_RESTART};
    assert_string_equal(world_run(&w), "J1 J2 T7 J3");
    first = w.message;
    w.message.job = (struct job){.id = 4, .kind = JOB_RESTART};
    w.message.job_after = 3;
    assert_string_equal(world_run(&w), "J1 J2 T7 J3");
    w.message = first;
    assert_string_equal(world_run(&w), "");
    assert_int_equal(w.durable.job.id, 4);
}

static void test_job__reinit__asks_and_clones(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job){.id = 3, .kind = JOB_REINIT};
    assert_string_equal(world_run(&w), "J1 C1 C2 C3 C4 C5 J3 V1 T7 T4 T5 T3");
    assert_true(w.durable.complete);
}

/* Found by tests/sim: it asked on as the primary that maintenance had left running, and so never
 * answered the new machine whose data the leave waited for. */
static void test_job__reinit_of_an_old_leader_that_gets_no_leave__is_no_primary_meanwhile(
    void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.durable.document.maintenance = true;
    world_lead_elsewhere(&w, 6, 900);
    world_tell_follow(&w, 6, Q, OTHER);
    w.message.job = (struct job){.id = 3, .kind = JOB_REINIT};
    w.stop_before = STEP_ASK_DISCARD;
    assert_string_equal(world_run(&w), "J1 G4 V1 G7");
    assert_true(w.in.in_recovery);
    assert_true(w.durable.complete);
}

/* A node whose WAL cannot be read, and that was a primary, is not started; what the operator orders
 * for it is done all the same. */
static void test_job__reinit_of_data_that_cannot_be_read__asks(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_end_server(&w, PG_CRASHED, false);
    w.in.was_primary = true;
    w.position_fails = true;
    world_tell_follow(&w, 5, P, LEADER);
    w.message.job = (struct job){.id = 3, .kind = JOB_REINIT};
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
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
        T(test_promise__planned_with_a_checkpoint_that_does_not_end__stops_in_time),
        T(test_promise__that_declares_machines_destroyed__says_so_and_keeps_it),
        T(test_promise__late_copy_after_the_generation_has_its_leader__is_ignored),
        T(test_promise__lower_generation__is_refused),
        T(test_vote__not_complete__is_withheld),
        T(test_vote__rewound__reports_at_least_the_fork_and_cannot_lead),
        T(test_vote__wal_of_a_timeline_nobody_granted__is_given_up),
        T(test_vote__wal_that_it_led_before_a_grant_that_failed__counts),
        T(test_vote__wal_by_hand_below_a_grant_that_was_spent_meanwhile__is_given_up),
        T(test_vote__wal_that_it_wrote_on_its_leaders_timeline__is_given_up),
        T(test_grant__spent_is_durable_and_names_are_shown_before_the_promotion),
        T(test_grant__set_out_for_a_timeline_without_its_wal__is_restarted_first),
        T(test_grant__of_another_proposer__is_refused),
        T(test_grant__data_not_complete__is_not_taken),
        T(test_grant__spent_and_agent_restarted__is_never_promoted_again),
        T(test_grant__server_restarted_between_spend_and_promotion__waits_for_an_election),
        T(test_vote__data_that_ends_below_its_floor__is_withheld),
        T(test_grant__data_shorter_than_what_was_voted_with__is_not_promoted),
        T(test_grant__wal_of_a_timeline_nobody_granted__is_not_promoted),
        T(test_grant__promoted_by_hand_to_a_lower_timeline__is_disowned),
        T(test_fence__rewound_copy_that_cannot_start_up__is_stopped_and_votes),
        T(test_leader__unconfirmed__stops_and_comes_back_as_a_standby),
        T(test_leader__unconfirmed_with_the_others_declared_destroyed__goes_on),
        T(test_leader__unconfirmed_in_maintenance__is_left_alone),
        T(test_leader__both_peers_higher__stops),
        T(test_leader__names_changed_behind_its_back__stops),
        T(test_leader__promoted_by_hand_in_maintenance__is_waited_for_by_nobody),
        T(test_follower__promoted_by_hand__is_stopped),
        T(test_document__leader__must_have_heard_of_a_peer_at_its_generation),
        T(test_document__leader__does_not_change_what_others_changed_since),
        T(test_document__without_a_leader__only_under_exactly_the_promise),
        T(test_restarted__what_was_written_before__is_loaded_once_more),
        T(test_job__restart__is_done_once),
        T(test_job__late_copy_of_an_earlier_one__is_not_done_again),
        T(test_job__reinit__asks_and_clones),
        T(test_job__reinit_of_an_old_leader_that_gets_no_leave__is_no_primary_meanwhile),
        T(test_job__reinit_of_data_that_cannot_be_read__asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
