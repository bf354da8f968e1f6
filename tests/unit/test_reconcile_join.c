/* The agent's core: following a leader, clone, rewind, complete data. reconcile_world.h has the
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

/* --- follow ----------------------------------------------------------------------------------- */

/* Found by tests/sim: a promotion that outlasted its step left the old history in the leader's
 * report, and a fresh copy was cloned again for ever. */
static void test_follow__leader_that_does_not_tell_its_own_timeline_yet__is_waited_for(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.peers[LEADER].lineage.count--;
    w.in.replication.upstream = NODE_NONE;
    w.in.receivers = false;
    assert_string_equal(world_run(&w), "G1 V1");
    assert_string_equal(agent_reason_code(w.step.reason), "T6");
    w.peers[LEADER].lineage.count++;
    assert_string_equal(world_run(&w), "T1");
}

static void test_follow__prefix__attaches_without_rewind(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_lead_elsewhere(&w, 6, 900);
    world_tell_follow(&w, 6, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G2 V1 T11 T1");
    assert_int_equal(w.in.replication.upstream, OTHER);
    assert_true(w.in.replication.counted);
}

/* Found by tests/chaos: a follower had learnt of timeline 6 and got nothing of it when its leader
 * fell; it asked the leader of 7 for timeline 6 for ever. */
static void test_follow__set_out_for_a_timeline_that_the_leader_lacks__is_restarted(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.newest_history = 6;
    world_lead_elsewhere(&w, 7, 900);
    world_tell_follow(&w, 7, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G2 V1 T12 T11 T1");

    world_make_follower(&w);
    w.in.newest_history = 7;
    world_lead_elsewhere(&w, 7, 900);
    world_tell_follow(&w, 7, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G2 V1 T11 T1");
}

static void test_follow__crashed_leader_that_diverged__rewinds_once_and_counts_past_its_lsn(
    void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_lead_elsewhere(&w, 6, 800);
    world_tell_follow(&w, 6, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G7 V1 W1 W2 W3 W4 V1 T2 T4 T5 T3");
    assert_true(w.durable.complete);
    assert_int_equal(w.durable.marker, MARKER_NONE);
}

/* A report that was asked for after the copy was made may bear a sample of before. */
static void test_follow__leader_whose_lsn_was_read_before_the_copy__gives_no_target(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_lead_elsewhere(&w, 6, 800);
    w.peers[OTHER].sampled_age_ms = 60000;
    world_tell_follow(&w, 6, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G7 V1 W1 W2 W3 W4 V1 T2");
    assert_false(w.durable.complete);
    w.peers[OTHER].sampled_age_ms = AGE_NEVER;
    assert_string_equal(world_run(&w), "");
    w.peers[OTHER].sampled_age_ms = 5;
    assert_string_equal(world_run(&w), "T4 T5 T3");
}

static void test_follow__rewind_fails__is_cloned(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_lead_elsewhere(&w, 6, 800);
    world_tell_follow(&w, 6, Q, OTHER);
    w.child_fails = true;
    w.stop_before = STEP_CLONE;
    assert_non_null(strstr(world_run(&w), "W2 W3 W5"));
}

static void test_follow__agent_killed_in_a_rewind__does_not_rewind_again(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_lead_elsewhere(&w, 6, 800);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_REWIND;
    world_run(&w);
    w.in.due = false; /* a fresh agent knows nothing of it */
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "W5");
}

/* Its new leader has removed what would come next. */
static void make_follower_without_the_wal(struct world *w)
{
    world_make_follower(w);
    world_lead_elsewhere(w, 6, 900);
    w->peers[OTHER].oldest_lsn = 901;
}

static void test_follow__wal_gone_from_the_leader__asks_before_it_discards(void **state)
{
    struct world w;

    (void)state;
    make_follower_without_the_wal(&w);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "P2 G1 G2 V1 T10 C2 C3");
}

static void make_rewound(struct world *w)
{
    world_make_follower(w);
    world_end_server(w, PG_DOWN, false);
    w->durable.marker = MARKER_REWIND;
    w->durable.complete = false;
    w->durable.rewound = w->durable.marker_done = true;
    w->consistent = (struct position){5, 950};
}

/* Found by tests/chaos: pg_rewind had copied pages of a leader that went on writing and was lost;
 * the next one had no WAL to start them up with, and Postgres was started again and again. */
static void test_follow__copy_that_no_wal_of_the_leader_can_start__is_cloned(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    world_lead_elsewhere(&w, 6, 940);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
}

/* Found by tests/sim: the same, where each start had ended in a crash already. */
static void test_follow__copy_that_crashes_at_each_start__is_read_as_it_lies(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_lead_elsewhere(&w, 6, 940);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    assert_null(strstr(world_run(&w), "G7"));
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);

    /* what cannot be read is started all the same: remains of the old server end by that */
    make_rewound(&w);
    world_end_server(&w, PG_CRASHED, false);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_READ_POSITION;
    world_run(&w);
    w.in.position_failing_ms = w.in.now_ms;
    w.in.now_ms += w.in.options.position_timeout_ms;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_START);
}

static void test_follow__copy_that_more_wal_of_the_leader_can_start__is_attached(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    world_lead_elsewhere(&w, 6, 960);
    world_tell_follow(&w, 6, Q, OTHER);
    assert_non_null(strstr(world_run(&w), "T2"));
}

static void test_follow__copy_whose_wal_cannot_be_read__is_cloned(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    world_lead_elsewhere(&w, 6, 960);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_READ_POSITION;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_READ_POSITION);
    w.in.position_failing_ms = w.in.now_ms;
    w.in.now_ms += w.in.options.position_timeout_ms + 1;
    reconcile(&w.in, &w.step); /* a disk that hangs is no reason */
    assert_int_equal(w.step.kind, STEP_READ_POSITION);
    w.in.position_unreadable = true;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);

    /* complete data is more than a copy: an operator has to say that it may go */
    w.durable.complete = true;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_READ_POSITION);
}

/* Found by tests/sim: the WAL that a rewound copy needed to start up was removed at its leader
 * while it was starting, and it waited for ever. */
static void test_standby__starts_in_vain__is_looked_at_again(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    world_lead_elsewhere(&w, 6, 960);
    world_tell_follow(&w, 6, Q, OTHER);
    world_run(&w);
    w.durable.complete = false;
    w.durable.marker = MARKER_REWIND;
    w.durable.rewound = w.durable.marker_done = true;
    w.in.pg = PG_STARTING;
    w.in.streaming = false;
    w.in.now_ms += w.in.options.recheck_timeout_ms + 1;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_NONE);
    w.peers[OTHER].oldest_lsn = w.in.record_end.lsn + 1;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_REPLICATION);
    assert_string_equal(agent_reason_code(w.step.reason), "T8");
}

/* Found by tests/sim: both followers had to be cloned; one was down while it waited for leave, and
 * so the other was refused as well. */
static void test_follow__waits_for_leave_to_discard__is_up_meanwhile(void **state)
{
    struct world w;

    (void)state;
    make_follower_without_the_wal(&w);
    world_end_server(&w, PG_DOWN, true);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    assert_int_equal(w.in.pg, PG_UP);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
}

/* Found by tests/sim: the leader gave it on a report from before the third machine was lost. */
static void test_follow__leave_while_the_third_is_known_to_have_no_data__is_not_taken(void **state)
{
    struct world w;

    (void)state;
    make_follower_without_the_wal(&w);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    w.in.discard_allowed = true;
    w.peers[LEADER].complete = false;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
    w.peers[LEADER].complete = true;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_PERSIST);
    assert_string_equal(agent_reason_code(w.step.reason), "C2");
}

/* Found by tests/sim: it streamed from a deposed leader the WAL of the next one, and gave it up as
 * nobody's. */
static void test_follower__admits_no_replication_connection__a_granted_node_does(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_lead_elsewhere(&w, 6, 900);
    world_tell_follow(&w, 6, Q, OTHER);
    world_run(&w);
    assert_int_equal(w.in.replication.upstream, OTHER);
    assert_int_equal(w.in.replication.incarnations[LEADER].number, 0);
    world_make_follower(&w);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_int_equal(w.in.replication.incarnations[OTHER].number, 0);
    world_tell_grant(&w, 6, Q);
    world_run(&w);
    assert_int_equal(w.in.replication.incarnations[OTHER].number, 1);
}

/* Found by tests/sim: a copy that was not complete yet had been promoted by hand to the id that was
 * granted next, and was attached as if its WAL were that leader's. */
static void test_follow__copy_with_wal_that_nobody_granted__is_given_up(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.was_primary = true;
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.durable.marker_done = true;
    world_lead_elsewhere(&w, 6, 900);
    world_tell_follow(&w, 6, Q, OTHER);
    w.wal_end = (struct position){6, 950};
    w.stop_before = STEP_CLONE;
    assert_non_null(strstr(world_run(&w), "V1 S3"));
}

/* Found by tests/sim: promoted by hand and killed before it was sampled, it was started where it
 * had been attached; or started fenced, which erases the trace, before an agent that died looked.
 */
static void test_standby__promoted_by_hand_and_crashed__is_looked_at_before_it_streams(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_end_server(&w, PG_CRASHED, false);
    w.in.was_primary = true;
    w.wal_end = (struct position){6, 950};
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "V1 S3");
}

static void test_clone__is_not_counted_until_complete(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.durable.marker_done = true;
    w.in.replication.counted = false;
    w.in.streaming = false;
    assert_string_equal(world_run(&w), "");
    assert_false(w.in.replication.counted);
    w.in.streaming = true;
    w.in.flushed = (struct position){5, 949};
    assert_string_equal(world_run(&w), "T4");
    w.in.flushed.lsn = 950;
    assert_string_equal(world_run(&w), "T5 T3");
    assert_true(w.in.replication.counted);
}

/* A volume that went back to before the copy was made: nothing of it may be compared, streamed on
 * or voted with. */
static void test_marker__another_directory_after_the_step__makes_it_unfinished(void **state)
{
    static const enum marker markers[] = {MARKER_CLONE, MARKER_REWIND};
    static const char *const wants[] = {"C6 ", "W5 "};
    struct world w;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        world_make_follower(&w);
        w.durable.marker = markers[i];
        w.durable.complete = false;
        w.durable.rewound = markers[i] == MARKER_REWIND;
        w.durable.marker_done = true;
        w.in.data_id = 98;
        w.stop_before = STEP_CLONE;
        assert_memory_equal(world_run(&w), wants[i], 3);
        assert_int_equal(w.durable.marker, MARKER_CLONE);
        assert_false(w.durable.rewound || w.durable.marker_done);
        assert_int_equal(w.step.kind, STEP_CLONE);
    }
}

static void test_complete__lsn_of_an_older_generation__does_not_count(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.durable.marker_done = true;
    w.in.replication.counted = false;
    w.durable.complete_target = (struct position){4, 10};
    w.in.flushed = (struct position){5, 949};
    world_run(&w);
    assert_false(w.durable.complete);
}

static void test_follow__operator_fence__has_no_upstream_and_still_votes(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.durable.document.fenced[SELF] = true;
    assert_string_equal(world_run(&w), "G1 G2");
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_true(world_voted(&w));
}

static void test_standby__crashed__is_started_at_once(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_end_server(&w, PG_CRASHED, false);
    assert_string_equal(world_run(&w), "T7");
}

static void test_discard__both_followers_at_once__only_one_may(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    assert_true(discard_permitted(&w.in, 1, 5, NODE_NONE));
    assert_false(discard_permitted(&w.in, 2, 5, 1));
    w.peers[2].complete = false;
    assert_false(discard_permitted(&w.in, 1, 5, NODE_NONE));
    assert_false(discard_permitted(&w.in, 2, 4, NODE_NONE));
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        T(test_follow__leader_that_does_not_tell_its_own_timeline_yet__is_waited_for),
        T(test_follow__prefix__attaches_without_rewind),
        T(test_follow__set_out_for_a_timeline_that_the_leader_lacks__is_restarted),
        T(test_follow__crashed_leader_that_diverged__rewinds_once_and_counts_past_its_lsn),
        T(test_follow__leader_whose_lsn_was_read_before_the_copy__gives_no_target),
        T(test_follow__rewind_fails__is_cloned),
        T(test_follow__agent_killed_in_a_rewind__does_not_rewind_again),
        T(test_follow__wal_gone_from_the_leader__asks_before_it_discards),
        T(test_follow__copy_that_no_wal_of_the_leader_can_start__is_cloned),
        T(test_follow__copy_that_crashes_at_each_start__is_read_as_it_lies),
        T(test_follow__copy_that_more_wal_of_the_leader_can_start__is_attached),
        T(test_follow__copy_whose_wal_cannot_be_read__is_cloned),
        T(test_standby__starts_in_vain__is_looked_at_again),
        T(test_follow__waits_for_leave_to_discard__is_up_meanwhile),
        T(test_follow__leave_while_the_third_is_known_to_have_no_data__is_not_taken),
        T(test_follower__admits_no_replication_connection__a_granted_node_does),
        T(test_follow__copy_with_wal_that_nobody_granted__is_given_up),
        T(test_standby__promoted_by_hand_and_crashed__is_looked_at_before_it_streams),
        T(test_clone__is_not_counted_until_complete),
        T(test_marker__another_directory_after_the_step__makes_it_unfinished),
        T(test_complete__lsn_of_an_older_generation__does_not_count),
        T(test_follow__operator_fence__has_no_upstream_and_still_votes),
        T(test_standby__crashed__is_started_at_once),
        T(test_discard__both_followers_at_once__only_one_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
