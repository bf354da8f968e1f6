/* The agent's core: following a leader, identity and registration, birth. reconcile_world.h has the
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

static void lead_elsewhere(struct world *w, uint32_t generation, uint64_t begin_lsn)
{
    struct report *r = &w->peers[OTHER];
    struct position begin[] = {{2, 100}, {5, 500}, {generation, begin_lsn}};

    w->peers[LEADER].leading = false;
    r->promise = (struct promise){generation, Q};
    r->role = ROLE_LEADER;
    r->leading = r->checkpointed = true;
    r->in_recovery = false;
    r->grant = (struct grant){generation, Q, {1, 12}, true};
    r->lineage = world_lineage_of(3, begin);
    r->write_lsn = begin_lsn + 100;
}

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
    lead_elsewhere(&w, 6, 900);
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
    lead_elsewhere(&w, 7, 900);
    world_tell_follow(&w, 7, Q, OTHER);
    assert_string_equal(world_run(&w), "P2 G1 G2 V1 T12 T11 T1");

    world_make_follower(&w);
    w.in.newest_history = 7;
    lead_elsewhere(&w, 7, 900);
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
    lead_elsewhere(&w, 6, 800);
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
    lead_elsewhere(&w, 6, 800);
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
    lead_elsewhere(&w, 6, 800);
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
    lead_elsewhere(&w, 6, 800);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_REWIND;
    world_run(&w);
    w.in.due = false; /* a fresh agent knows nothing of it */
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "W5");
}

static void test_follow__wal_gone_from_the_leader__asks_before_it_discards(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    lead_elsewhere(&w, 6, 900);
    w.peers[OTHER].oldest_lsn = 901;
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
    lead_elsewhere(&w, 6, 940);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
}

static void test_follow__copy_that_more_wal_of_the_leader_can_start__is_attached(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    lead_elsewhere(&w, 6, 960);
    world_tell_follow(&w, 6, Q, OTHER);
    assert_non_null(strstr(world_run(&w), "T2"));
}

static void test_follow__copy_whose_wal_cannot_be_read__is_cloned(void **state)
{
    struct world w;

    (void)state;
    make_rewound(&w);
    lead_elsewhere(&w, 6, 960);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_READ_POSITION;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_READ_POSITION);
    w.in.position_failing_ms = w.in.now_ms;
    w.in.now_ms += w.in.options.position_timeout_ms + 1;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);

    /* complete data is more than a copy: an operator has to say that it may go */
    w.durable.complete = true;
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_READ_POSITION);
}

/* Found by tests/sim: both followers had to be cloned; one was down while it waited for leave, and
 * so the other was refused as well. */
static void test_follow__waits_for_leave_to_discard__is_up_meanwhile(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    lead_elsewhere(&w, 6, 900);
    w.peers[OTHER].oldest_lsn = 901;
    world_end_server(&w, PG_DOWN, true);
    world_tell_follow(&w, 6, Q, OTHER);
    w.stop_before = STEP_ASK_DISCARD;
    world_run(&w);
    assert_int_equal(w.in.pg, PG_UP);
    assert_int_equal(w.step.kind, STEP_ASK_DISCARD);
}

/* Found by tests/sim: it streamed from a deposed leader the WAL of the next one, and gave it up as
 * nobody's. */
static void test_follower__admits_no_replication_connection__a_granted_node_does(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    lead_elsewhere(&w, 6, 900);
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
    lead_elsewhere(&w, 6, 900);
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

/* --- identity --------------------------------------------------------------------------------- */

static void test_blank__next_to_unborn_peers__waits(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.peers[1].birth_ended = w.peers[2].birth_ended = false;
    assert_string_equal(world_run(&w), "");
    assert_string_equal(agent_reason_code(w.step.reason), "I7");
}

static void test_blank__next_to_a_cluster__registers_at_both_and_promises_nothing_before(
    void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.stop_before = STEP_REGISTER;
    world_tell(&w, ROLE_FENCED, 9, Q);
    assert_string_equal(world_run(&w), "I1 P4");
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    assert_int_equal(w.durable.promise.generation, 0);
    w.stop_before = STEP_NONE;
    w.in.has_message = false;
    assert_string_equal(world_run(&w), "I4 I4 I4 I4 I5");
    assert_true(w.durable.registered);
    assert_int_equal(w.durable.promise.generation, 5);
    assert_false(w.durable.complete);
}

/* Found by tests/sim: two births were begun at once; the one that this node promised last came to
 * nothing, the other one to a cluster, and nobody could make it a member of that. */
static void test_birth__of_another_cluster_than_the_peers_are_of_now__is_forgotten(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.durable.cluster.bytes[0] = 77;
    w.durable.birth_promised = w.durable.registered = true;
    w.durable.birth_leader = LEADER;
    w.durable.promise = (struct promise){9, Q};
    w.durable.incarnations[SELF] = (struct incarnation){.number = 1, .nonce = 5};
    w.durable.role = ROLE_FENCED;
    assert_string_equal(world_run(&w), "I1 P4 I4 I4 I4 I4 I5");
    assert_true(w.durable.registered && w.durable.birth_ended && !w.durable.birth_promised);
    assert_true(cluster_id_equal(&w.durable.cluster, &w.peers[LEADER].cluster));
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    assert_int_equal(w.durable.promise.generation, 9);
}

static void test_birth__of_another_cluster__is_kept_where_data_was_made_for_it(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.durable.cluster.bytes[0] = 77;
    w.durable.birth_promised = w.durable.registered = w.durable.complete = true;
    w.durable.promise = (struct promise){9, Q};
    world_run(&w);
    assert_int_equal(w.durable.cluster.bytes[0], 77);
    assert_true(w.durable.birth_promised);
}

static void test_register__one_peer_silent__is_not_finished(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.in.peers[2].fresh = false;
    world_run(&w);
    assert_false(w.durable.registered);
    assert_string_equal(agent_reason_code(w.step.reason), "I9");
}

/* The machine it replaces may have confirmed a change of the document; one peer at least has it. */
static void test_register__peer_holds_a_greater_document__is_fetched_before_the_answer_counts(
    void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.peers[LEADER].document.version = (struct document_version){5, 3};
    w.stop_before = STEP_FETCH_DOCUMENT;
    assert_string_equal(world_run(&w), "I1 P4 I4");
    assert_int_equal(w.step.peer, LEADER);
    assert_false(w.durable.registered_at[LEADER]);
    w.durable.document.version = (struct document_version){5, 3};
    world_run(&w);
    assert_true(w.durable.registered);
}

static void test_data__swapped__is_a_new_incarnation(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.data_id = 98;
    w.stop_before = STEP_REGISTER;
    assert_string_equal(world_run(&w), "I2 I2");
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    assert_int_equal(w.in.pg, PG_CRASHED);
}

static void test_data__rolled_back_below_the_floor__is_a_new_incarnation(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.wal_end = (struct position){5, 599};
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.stop_before = STEP_KILL;
    assert_non_null(strstr(world_run(&w), "I3"));
    assert_false(world_voted(&w));
}

/* Found by tests/sim: it was started where it had been attached, and streamed past its floor before
 * anybody looked. */
static void test_data__rolled_back_while_the_machine_was_off__is_seen_before_it_streams(
    void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    world_end_server(&w, PG_DOWN, false);
    w.wal_end = (struct position){5, 300};
    w.stop_before = STEP_REGISTER;
    assert_string_equal(world_run(&w), "V1 I3");
}

static void test_peer__new_incarnation__leaves_n_before_it_is_answered(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.in.registration = (struct registration){
        .pending = true, .node = OTHER, .incarnation = {2, 22}};
    w.in.old_senders = true;
    assert_string_equal(world_run(&w), "I6 N9 N4 N10 I6");
    assert_true(w.step.kind == STEP_NONE);
    assert_int_equal(w.in.replication.incarnations[OTHER].number, 2);
}

/* A reload that was sent is not one that was read: until a fresh session shows the new names the
 * old machine's connection may still release a commit. */
static void test_peer__new_incarnation__waits_until_a_session_shows_the_names(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.in.registration = (struct registration){
        .pending = true, .node = OTHER, .incarnation = {2, 22}};
    w.stop_before = STEP_CHECK_NAMES;
    assert_string_equal(world_run(&w), "I6 N9");
    assert_int_equal(w.step.kind, STEP_CHECK_NAMES);
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_CHECK_NAMES);
    assert_true(w.in.registration.pending);
}

/* An agent that was restarted beside its leader does not know yet what runs there. */
static void test_peer__new_incarnation__waits_until_a_leader_found_running_is_seen(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.in.registration = (struct registration){
        .pending = true, .node = OTHER, .incarnation = {2, 22}};
    w.in.pg = PG_STARTING;
    w.in.in_recovery = true;
    w.in.names_shown = false;
    reconcile(&w.in, &w.step);
    while (w.step.kind == STEP_PERSIST) {
        w.durable = w.step.durable;
        reconcile(&w.in, &w.step);
    }
    assert_int_equal(w.durable.incarnations[OTHER].number, 2);
    assert_int_equal(w.step.kind, STEP_NONE);
    assert_true(w.in.registration.pending);
    w.in.pg = PG_UP;
    w.in.in_recovery = false;
    w.in.old_senders = true;
    assert_string_equal(world_run(&w), "N9 N4 N10 I6");
    assert_false(w.in.registration.pending);
}

static void test_peer__new_incarnation__does_not_hold_up_a_leaders_fence(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.in.registration = (struct registration){
        .pending = true, .node = OTHER, .incarnation = {2, 22}};
    world_tell(&w, ROLE_FENCED, 6, Q);
    w.stop_before = STEP_STOP;
    assert_null(strstr(world_run(&w), "N9"));
    assert_int_equal(w.step.kind, STEP_STOP);
    w.stop_before = STEP_ANSWER_REGISTRATION;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_ANSWER_REGISTRATION);
    assert_true(w.in.pg != PG_UP || w.in.in_recovery);
}

static void test_peer__older_incarnation__is_answered_with_a_refusal(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    w.in.registration = (struct registration){
        .pending = true, .node = OTHER, .incarnation = {1, 99}};
    reconcile(&w.in, &w.step);
    assert_int_equal(w.step.kind, STEP_ANSWER_REGISTRATION);
    assert_false(w.step.accepted);
}

static void test_machine__whose_place_was_taken__stays_stopped(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.peers[1].incarnations[SELF] = (struct incarnation){2, 5};
    world_run(&w);
    assert_int_equal(w.in.pg, PG_CRASHED);
    assert_string_equal(agent_reason_code(w.step.reason), "I8");
}

/* No peer can be asked: only a message says so, and it is refused for that very reason. */
static void test_machine__that_hears_of_its_successor_by_a_message__stays_stopped(void **state)
{
    struct standing standing;
    struct world w;

    (void)state;
    for (int destroyed = 0; destroyed < 2; destroyed++) {
        world_make_leader(&w);
        w.in.peers[1].fresh = w.in.peers[2].fresh = false;
        world_tell_follow(&w, 6, Q, OTHER);
        w.in.has_message = false;
        if (destroyed)
            w.message.destroyed_number[SELF] = 1;
        else
            w.message.incarnations[SELF] = (struct incarnation){2, 5};
        durable_standing(&w.durable, &standing);
        assert_int_equal(desired_admit(&standing, &w.message), VERDICT_INCARNATION);
        assert_true(message_learn(&w.in, &w.durable, &w.message));
        assert_false(message_learn(&w.in, &w.durable, &w.message));
        world_run(&w);
        assert_int_equal(w.in.pg, PG_CRASHED);
        assert_string_equal(agent_reason_code(w.step.reason), "I8");
    }
}

static void test_machine__that_is_the_latest_a_message_knows__goes_on(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_tell_follow(&w, 5, P, OTHER);
    message_learn(&w.in, &w.durable, &w.message);
    w.message.cluster.bytes[0]++;
    w.message.incarnations[SELF] = (struct incarnation){2, 5};
    assert_false(message_learn(&w.in, &w.durable, &w.message));
    w.in.has_message = false;
    assert_string_equal(world_run(&w), "");
    assert_int_equal(w.in.pg, PG_UP);
}

/* --- birth ------------------------------------------------------------------------------------ */

static void tell_birth(struct world *w, int32_t first)
{
    world_tell(w, ROLE_FENCED, FIRST_GENERATION, P);
    w->message.birth = true;
    w->message.leader.node = first;
    for (int32_t peer = 1; peer < NODE_COUNT; peer++) {
        w->peers[peer].birth_ended = false;
        w->peers[peer].complete = false;
        w->peers[peer].promise = (struct promise){FIRST_GENERATION, P};
        w->peers[peer].leader = (struct leadership){.node = NODE_NONE};
        w->peers[peer].grant = (struct grant){0};
        w->peers[peer].incarnations[SELF] = (struct incarnation){0, 0};
    }
    w->message.incarnations[SELF] = (struct incarnation){0, 0};
}

/* Found by tests/sim: a request of long ago reached a machine whose disk had been lost. */
static void test_birth__peer_silent_or_born__is_not_promised(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, SELF);
    w.in.peers[OTHER].fresh = false;
    assert_string_equal(world_run(&w), "");
    w.in.peers[OTHER].fresh = true;
    w.peers[OTHER].birth_ended = true;
    w.stop_before = STEP_REGISTER;
    assert_null(strstr(world_run(&w), "P5"));
}

/* Found by tests/model: this machine had promised that birth, voted for the next generation, and
 * lost its disk before anybody knew that the birth had ended. */
static void test_birth__granted_or_followed_by_an_election__is_not_promised_again(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, SELF);
    w.peers[OTHER].grant.generation = FIRST_GENERATION;
    assert_null(strstr(world_run(&w), "P5"));
    w.peers[OTHER].grant.generation = 0;
    w.peers[OTHER].promise.generation = FIRST_GENERATION + 1;
    assert_null(strstr(world_run(&w), "P5"));
    w.peers[OTHER].promise.generation = FIRST_GENERATION;
    assert_non_null(strstr(world_run(&w), "P5"));
}

/* A lower nonce under the same number would make it the older one of the two, for ever. */
static void test_birth__begun_again_after_a_lost_disk__is_a_later_incarnation(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, SELF);
    world_run(&w);
    assert_int_equal(w.durable.incarnations[SELF].number, 1);
    world_make_blank(&w);
    tell_birth(&w, SELF);
    w.message.incarnations[SELF] = (struct incarnation){3, 1};
    world_run(&w);
    assert_int_equal(w.durable.incarnations[SELF].number, 4);
    world_make_blank(&w);
    tell_birth(&w, SELF);
    w.peers[OTHER].incarnations[SELF] = (struct incarnation){5, 1};
    world_run(&w);
    assert_int_equal(w.durable.incarnations[SELF].number, 6);
}

static void test_birth__first_leader__initialises_and_leads_generation_two(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.wal_end = (struct position){1, 50};
    tell_birth(&w, SELF);
    assert_string_equal(world_run(&w), "P5 P4");
    world_tell_grant(&w, FIRST_GENERATION, P);
    assert_string_equal(world_run(&w), "P3 N13 N1 N14 G7 N2 V1 N3 N4 N5 N6 N7 N8");
    assert_true(w.durable.complete);
    assert_int_equal(w.durable.incarnations[SELF].number, 1);
}

/* Found by tests/model: the first follower lost its disk before anybody had heard from it that the
 * birth had ended, and the birth began again over a commit that it had acknowledged. */
static void test_birth__first_leader__counts_nobody_before_it_knows_of_the_end(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.wal_end = (struct position){1, 50};
    tell_birth(&w, SELF);
    world_run(&w);
    world_tell_grant(&w, FIRST_GENERATION, P);
    world_run(&w);
    assert_true(w.in.replication.names);
    assert_int_equal(w.in.replication.generation, FIRST_GENERATION - 1);
    w.peers[OTHER].birth_ended = true;
    world_run(&w);
    assert_true(w.durable.birth_ended);
    assert_int_equal(w.in.replication.generation, FIRST_GENERATION);
}

/* The same, once another leads. */
static void test_birth__first_leader_that_follows__is_not_counted_before_it_knows(void **state)
{
    struct world w;

    (void)state;
    world_make_follower(&w);
    lead_elsewhere(&w, 6, 900);
    w.durable.birth_promised = true;
    w.durable.birth_ended = w.peers[LEADER].birth_ended = w.peers[OTHER].birth_ended = false;
    w.durable.birth_leader = SELF;
    world_tell_follow(&w, 6, Q, OTHER);
    world_run(&w);
    assert_int_equal(w.in.replication.upstream, OTHER);
    assert_false(w.in.replication.counted);
    w.peers[OTHER].birth_ended = true;
    world_run(&w);
    assert_true(w.in.replication.counted);
}

static void test_birth__other_node__clones_without_asking_and_ends_the_birth_when_complete(
    void **state)
{
    struct world w;
    static const struct position begin[] = {{2, 100}};

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, LEADER);
    world_run(&w);
    w.peers[LEADER].grant = (struct grant){FIRST_GENERATION, P, {1, 11}, true};
    w.peers[LEADER].lineage = world_lineage_of(1, begin);
    w.lineage = world_lineage_of(1, begin);
    w.copy_end = (struct position){2, 300};
    w.durable.incarnations[LEADER] = (struct incarnation){1, 11};
    world_tell_follow(&w, FIRST_GENERATION, P, LEADER);
    assert_string_equal(world_run(&w), "P2 C2 C4 C5 G1 V1 T2 T4 T5 T3");
    assert_true(w.durable.birth_ended);
}

static void test_birth__foreign_data__is_left_alone(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, SELF);
    world_run(&w);
    w.in.data_foreign = true;
    world_tell_grant(&w, FIRST_GENERATION, P);
    assert_string_equal(world_run(&w), "P3");
    assert_string_equal(agent_reason_code(w.step.reason), "C7");
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
        T(test_follow__copy_that_more_wal_of_the_leader_can_start__is_attached),
        T(test_follow__copy_whose_wal_cannot_be_read__is_cloned),
        T(test_follow__waits_for_leave_to_discard__is_up_meanwhile),
        T(test_follower__admits_no_replication_connection__a_granted_node_does),
        T(test_follow__copy_with_wal_that_nobody_granted__is_given_up),
        T(test_standby__promoted_by_hand_and_crashed__is_looked_at_before_it_streams),
        T(test_clone__is_not_counted_until_complete),
        T(test_marker__another_directory_after_the_step__makes_it_unfinished),
        T(test_complete__lsn_of_an_older_generation__does_not_count),
        T(test_follow__operator_fence__has_no_upstream_and_still_votes),
        T(test_standby__crashed__is_started_at_once),
        T(test_discard__both_followers_at_once__only_one_may),
        T(test_blank__next_to_unborn_peers__waits),
        T(test_blank__next_to_a_cluster__registers_at_both_and_promises_nothing_before),
        T(test_birth__of_another_cluster_than_the_peers_are_of_now__is_forgotten),
        T(test_birth__of_another_cluster__is_kept_where_data_was_made_for_it),
        T(test_register__one_peer_silent__is_not_finished),
        T(test_register__peer_holds_a_greater_document__is_fetched_before_the_answer_counts),
        T(test_data__swapped__is_a_new_incarnation),
        T(test_data__rolled_back_below_the_floor__is_a_new_incarnation),
        T(test_data__rolled_back_while_the_machine_was_off__is_seen_before_it_streams),
        T(test_peer__new_incarnation__leaves_n_before_it_is_answered),
        T(test_peer__new_incarnation__waits_until_a_session_shows_the_names),
        T(test_peer__new_incarnation__waits_until_a_leader_found_running_is_seen),
        T(test_peer__new_incarnation__does_not_hold_up_a_leaders_fence),
        T(test_peer__older_incarnation__is_answered_with_a_refusal),
        T(test_machine__whose_place_was_taken__stays_stopped),
        T(test_machine__that_hears_of_its_successor_by_a_message__stays_stopped),
        T(test_machine__that_is_the_latest_a_message_knows__goes_on),
        T(test_birth__peer_silent_or_born__is_not_promised),
        T(test_birth__granted_or_followed_by_an_election__is_not_promised_again),
        T(test_birth__begun_again_after_a_lost_disk__is_a_later_incarnation),
        T(test_birth__first_leader__initialises_and_leads_generation_two),
        T(test_birth__first_leader__counts_nobody_before_it_knows_of_the_end),
        T(test_birth__first_leader_that_follows__is_not_counted_before_it_knows),
        T(test_birth__other_node__clones_without_asking_and_ends_the_birth_when_complete),
        T(test_birth__foreign_data__is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
