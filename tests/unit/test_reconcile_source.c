/* A birth, and a clone, of a snapshot: what is marked before what, what stands in the way of it,
 * and what comes in its place then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/order.h"
#include "tests/unit/reconcile_world.h"

static const struct snapshot_source taken = {.store = "/store",
                                             .id = "S",
                                             .timeline = 5,
                                             .stop_lsn = 700,
                                             .system_id = 42,
                                             .pg_version = 150018};

/* --- a birth --- */

static void tell_birth(struct world *w, uint32_t generation, int32_t leader,
                       const struct snapshot_source *source)
{
    world_tell(w, ROLE_FENCED, generation, P);
    w->message.birth = true;
    w->message.leader.node = leader;
    if (source)
        w->message.source = *source;
    for (int32_t peer = 1; peer < NODE_COUNT; peer++) {
        w->peers[peer].birth_ended = w->peers[peer].complete = w->peers[peer].leading = false;
        w->peers[peer].promise = (struct promise){generation, P};
        w->peers[peer].leader = (struct leadership){.node = NODE_NONE};
        w->peers[peer].grant = (struct grant){0};
    }
}

static void be_born(struct world *w)
{
    world_make_blank(w);
    tell_birth(w, 6, SELF, &taken);
    world_run(w);
    world_tell_grant(w, 6, P);
    w->copy_end = (struct position){5, 720};
}

static void test_birth__of_a_snapshot__is_marked_restored_and_led_above_it(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.in.was_primary = true; /* it was taken of a leader */
    assert_string_equal(world_run(&w), "P3 N15 N16 N17 V1 G7 N2 V1 N3 N4 N5 N6 N7 N8");
    assert_int_equal(w.in.child, CHILD_RESTORE);
    assert_true(w.durable.complete);
    assert_int_equal(w.durable.marker, MARKER_NONE);
    assert_true(w.in.replication.names);
    assert_int_equal(w.in.replication.generation, FIRST_GENERATION - 1); /* counts nobody yet */
}

static void test_birth__of_a_snapshot_not_below_its_generation__is_no_message(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, 5, SELF, &taken);
    assert_string_equal(world_run(&w), "");
    tell_birth(&w, 6, SELF, &taken);
    assert_non_null(strstr(world_run(&w), "P5"));
}

/* A base backup of a standby may end on a later timeline than it began on. */
static void test_birth__snapshot_that_ends_above_its_generation__is_not_promoted(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.copy_end = (struct position){6, 720};
    w.durable.followed = 6;
    assert_null(strstr(world_run(&w), "N5"));
    assert_string_equal(agent_reason_code(w.step.reason), "N18");
}

static void test_birth__restore_fails__is_not_complete_and_pauses_before_the_next(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.child_fails = true;
    assert_string_equal(world_run(&w), "P3 N15 N16");
    assert_false(w.durable.complete);
    assert_int_equal(w.durable.marker, MARKER_RESTORE);
    w.child_fails = false;
    w.in.now_ms += 30000;
    assert_memory_equal(world_run(&w), "N16 N17 ", 8);
}

/* Killed in it: nothing of this life knows of a child, and what is there has not its data id. */
static void test_birth__agent_killed_in_a_restore__restores_once_more(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.stop_before = STEP_CLONE;
    world_run(&w);
    w.in.data_present = true;
    w.in.data_id = 4; /* the snapshot's own */
    w.stop_before = STEP_NONE;
    assert_memory_equal(world_run(&w), "N16 N17 ", 8);
    assert_int_equal(w.in.data_id, w.durable.data_id);
}

static void test_birth__begun_again_after_a_failed_restore__restores_at_once(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.child_fails = true;
    world_run(&w);
    w.child_fails = false;
    tell_birth(&w, 7, SELF, &taken);
    world_run(&w);
    world_tell_grant(&w, 7, P);
    assert_memory_equal(world_run(&w), "P3 N15 N16 N17 ", 15);
}

/* Of something else, and while the first restore still runs: that one ends first. */
static void test_birth__begun_again_of_something_else__keeps_nothing(void **state)
{
    struct snapshot_source other = taken;
    struct world w;

    (void)state;
    be_born(&w);
    world_run(&w);
    assert_true(w.durable.complete);
    other.id[0] = 'T';
    tell_birth(&w, 8, SELF, &other);
    world_run(&w);
    assert_false(w.durable.complete);
    world_tell_grant(&w, 8, P);
    w.in.child_state = CHILD_RUNNING;
    w.stop_before = STEP_STOP_CHILD;
    world_run(&w);
    assert_int_equal(w.step.kind, STEP_STOP_CHILD);
    w.stop_before = STEP_NONE;
    w.in.child_state = CHILD_FAILED;
    assert_memory_equal(world_run(&w), "N16 N17 ", 8);

    tell_birth(&w, 9, SELF, NULL); /* and of nothing */
    world_run(&w);
    world_tell_grant(&w, 9, P);
    w.wal_end = (struct position){1, 50};
    assert_non_null(strstr(world_run(&w), "N13 N1 N14"));
}

/* Found by tests/sim: the server was promoted after its data had been given up. */
static void test_birth__begun_again_of_something_else__stops_the_server_first(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.stop_before = STEP_PROMOTE;
    world_run(&w);
    assert_true(w.durable.grant.spent);
    tell_birth(&w, 8, SELF, NULL);
    w.stop_before = STEP_STOP;
    world_run(&w);
    assert_string_equal(agent_reason_code(w.step.reason), "C3");
    assert_true(w.durable.complete);
    assert_true(w.durable.promise.generation < 8);
    w.stop_before = STEP_NONE;
    world_run(&w);
    assert_false(w.durable.complete);
    assert_int_equal(w.durable.promise.generation, 8);
}

static void test_birth__begun_again_of_the_same_snapshot__keeps_what_is_there(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    world_run(&w);
    tell_birth(&w, 7, SELF, &taken);
    world_run(&w);
    assert_true(w.durable.complete);
    world_tell_grant(&w, 7, P);
    assert_null(strstr(world_run(&w), "N16"));
}

/* What the first leader restores is nothing to the others, which are cloned from it. */
static void test_birth__of_a_snapshot__other_node_clones_from_the_leader(void **state)
{
    static const struct position begin[] = {{5, 100}, {6, 720}};
    struct world w;

    (void)state;
    world_make_blank(&w);
    tell_birth(&w, 6, LEADER, &taken);
    world_run(&w);
    w.peers[LEADER].leading = true;
    w.peers[LEADER].grant = (struct grant){6, P, {1, 11}, true};
    w.peers[LEADER].lineage = w.lineage = world_lineage_of(2, begin);
    w.copy_end = (struct position){6, 800};
    w.durable.incarnations[LEADER] = (struct incarnation){1, 11};
    world_tell_follow(&w, 6, P, LEADER);
    assert_string_equal(world_run(&w), "P2 C2 C4 C5 G1 V1 T2 T4 T5 T3");
    assert_int_equal(w.in.child, CHILD_CLONE);
}

/* Found by tests/sim: what is asked of a node has nothing to do with what it is born of, nor the
 * other way round. */
static void test_birth__of_a_snapshot__a_job_does_not_change_it(void **state)
{
    struct world w;

    (void)state;
    be_born(&w);
    w.stop_before = STEP_CLONE;
    world_run(&w);
    w.message.job = (struct job){.id = 3, .kind = JOB_REINIT};
    assert_string_equal(world_run(&w), "J1");
    assert_string_equal(w.step.source.id, "S");
    w.stop_before = STEP_NONE;
    assert_non_null(strstr(world_run(&w), "N16 N17"));
}

/* --- a node --- */

static void tell_reinit(struct world *w, const struct snapshot_source *source)
{
    world_make_follower(w);
    w->peers[LEADER].system_id = 42;
    w->peers[LEADER].oldest_lsn = 600;
    world_tell_follow(w, 5, P, LEADER);
    w->message.job = (struct job){.id = 3, .kind = JOB_REINIT};
    w->message.source = *source;
    w->copy_end = (struct position){5, 710};
}

static void test_reinit__from_a_snapshot__counts_only_past_what_its_leader_had(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.stop_before = STEP_CLONE;
    assert_string_equal(world_run(&w), "J1 C1 C2 C3 G1");
    assert_string_equal(w.step.source.id, "S");
    assert_false(w.durable.complete || w.durable.rewound);
    w.stop_before = STEP_NONE;
    assert_string_equal(world_run(&w), "C8 C5 J3 V1 T2 T4 T5 T3");
    assert_int_equal(w.in.child, CHILD_RESTORE);
    assert_true(w.durable.complete);
}

static void test_reinit__from_a_snapshot__is_not_counted_and_does_not_vote_before(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.peers[LEADER].write_lsn = 100000;
    world_run(&w);
    assert_false(w.durable.complete);
    assert_false(w.in.replication.counted);
    world_tell(&w, ROLE_FENCED, 6, Q);
    world_run(&w);
    assert_false(world_voted(&w));
}

/* Of another system; of no timeline of the leader's; past the end that this timeline has there. */
static void test_reinit__snapshot_not_of_the_leaders_history__keeps_the_data_until_it_may_clone(
    void **state)
{
    struct snapshot_source wrong[3] = {taken, taken, taken};
    struct world w;

    (void)state;
    wrong[0].system_id = 43;
    wrong[1].timeline = 4;
    wrong[2].timeline = 2;
    wrong[2].stop_lsn = 501;
    for (size_t i = 0; i < 3; i++) {
        tell_reinit(&w, &wrong[i]);
        w.stop_before = STEP_ASK_DISCARD;
        assert_string_equal(world_run(&w), "J1 C9");
        assert_true(w.durable.complete);
        w.stop_before = STEP_NONE;
        assert_string_equal(world_run(&w), "C1 C2 C3 C4 C5 J3 V1 T7 T4 T5 T3");
    }
    wrong[2].stop_lsn = 500;
    w.peers[LEADER].oldest_lsn = 0;
    tell_reinit(&w, &wrong[2]);
    w.peers[LEADER].oldest_lsn = 400;
    assert_non_null(strstr(world_run(&w), "C8"));
}

static void test_reinit__snapshot_older_than_the_leaders_wal__clones(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.peers[LEADER].oldest_lsn = 701;
    assert_string_equal(world_run(&w), "J1 C10 C1 C2 C3 C4 C5 J3 V1 T7 T4 T5 T3");
}

static void test_reinit__restore_fails__clones_at_once_and_once(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.child_fails = true;
    w.stop_before = STEP_CLONE;
    world_run(&w);
    world_carry_out(&w);
    w.child_fails = false;
    w.stop_before = STEP_NONE;
    assert_string_equal(world_run(&w), "C11 C4 C5 J3 V1 T2 T4 T5 T3");
    assert_true(source_is_none(&w.durable.job_source));
}

/* The word of a manifest is one thing, what is in the directory another. */
static void test_reinit__restored_copy_that_is_no_prefix__is_cloned_from_the_leader(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.copy_end = (struct position){6, 10};
    w.stop_before = STEP_CLONE;
    world_run(&w);
    world_carry_out(&w);
    assert_string_equal(world_run(&w), "C5 J3 V1 C2");
    assert_int_equal(w.step.kind, STEP_CLONE);
    assert_true(source_is_none(&w.step.source));
}

/* The machine is new, and its clone from the leader under way: an operator knows a shorter way. */
static void test_reinit__from_a_snapshot_while_it_is_cloned__stops_that_clone(void **state)
{
    struct world w;

    (void)state;
    tell_reinit(&w, &taken);
    w.durable.marker = MARKER_CLONE;
    w.durable.complete = false;
    w.in.data_id = 0;
    w.in.pg = PG_ABSENT;
    w.in.child = CHILD_CLONE;
    w.in.child_state = CHILD_RUNNING;
    w.stop_before = STEP_STOP_CHILD;
    assert_string_equal(world_run(&w), "J1");
    w.in.child_state = CHILD_FAILED;
    w.in.child_ended_ms = w.in.now_ms;
    w.stop_before = STEP_NONE;
    assert_non_null(strstr(world_run(&w), "C8 C5 J3"));
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        T(test_birth__of_a_snapshot__is_marked_restored_and_led_above_it),
        T(test_birth__of_a_snapshot_not_below_its_generation__is_no_message),
        T(test_birth__snapshot_that_ends_above_its_generation__is_not_promoted),
        T(test_birth__restore_fails__is_not_complete_and_pauses_before_the_next),
        T(test_birth__agent_killed_in_a_restore__restores_once_more),
        T(test_birth__begun_again_after_a_failed_restore__restores_at_once),
        T(test_birth__begun_again_of_something_else__keeps_nothing),
        T(test_birth__begun_again_of_something_else__stops_the_server_first),
        T(test_birth__begun_again_of_the_same_snapshot__keeps_what_is_there),
        T(test_birth__of_a_snapshot__other_node_clones_from_the_leader),
        T(test_birth__of_a_snapshot__a_job_does_not_change_it),
        T(test_reinit__from_a_snapshot__counts_only_past_what_its_leader_had),
        T(test_reinit__from_a_snapshot__is_not_counted_and_does_not_vote_before),
        T(test_reinit__snapshot_not_of_the_leaders_history__keeps_the_data_until_it_may_clone),
        T(test_reinit__snapshot_older_than_the_leaders_wal__clones),
        T(test_reinit__restore_fails__clones_at_once_and_once),
        T(test_reinit__restored_copy_that_is_no_prefix__is_cloned_from_the_leader),
        T(test_reinit__from_a_snapshot_while_it_is_cloned__stops_that_clone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
