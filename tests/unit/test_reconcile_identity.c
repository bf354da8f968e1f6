/* The agent's core: identity and registration, birth. reconcile_world.h has the
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

/* Found by tests/sim: the machine before it had registered at one that was no peer any more, under
 * the same number; an orchestrator passed it on, and the new one ended as superseded. */
static void test_register__number_is_taken_by_a_machine_unknown_to_peers__a_higher_one(void **state)
{
    struct world w;

    (void)state;
    world_make_blank(&w);
    w.in.peers[2].fresh = false;
    world_run(&w);
    assert_int_equal(w.durable.incarnations[SELF].number, 2);
    w.in.self_known = (struct incarnation){2, UINT64_MAX};
    w.in.peers[2].fresh = true;
    world_run(&w);
    assert_int_equal(w.durable.incarnations[SELF].number, 3);
    assert_true(w.durable.registered);
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

/* Found by tests/sim: a leader's volume went back to a rewound copy that wanted more WAL. Its
 * record said that it was complete, so it was started, and waited for without end. */
static void test_data__rolled_back_to_a_copy_that_lacks_wal__is_seen_before_it_starts(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    world_end_server(&w, PG_DOWN, false);
    w.consistent = (struct position){w.wal_end.timeline, w.wal_end.lsn + 1};
    w.stop_before = STEP_REGISTER;
    assert_string_equal(world_run(&w), "V1 I3");

    /* pages that need all the WAL there is, and no more, are a standby's that was killed */
    world_make_leader(&w);
    world_end_server(&w, PG_DOWN, false);
    w.consistent = w.wal_end;
    assert_string_equal(world_run(&w), "V1 G7");
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
    assert_string_equal(world_run(&w), "P3 N13 N1 N14 V1 G7 N2 V1 N3 N4 N5 N6 N7 N8");
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
    world_lead_elsewhere(&w, 6, 900);
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

/* Found by tests/sim: its birth had ended a moment ago at a follower, and it gave its data up for
 * another birth, which that follower refused. */
static void test_birth__first_leader_that_leads__promises_no_other_birth(void **state)
{
    struct world w;

    (void)state;
    world_make_leader(&w);
    w.durable.birth_promised = true;
    w.durable.birth_ended = false;
    w.durable.birth_leader = SELF;
    for (int peer = 1; peer < NODE_COUNT; peer++) {
        w.peers[peer].birth_promised = true;
        w.peers[peer].birth_ended = false;
    }
    tell_birth(&w, LEADER);
    w.message.generation = w.durable.promise.generation + 1;
    world_run(&w);
    assert_true(w.durable.promise.generation < w.message.generation);
    assert_true(w.durable.complete);
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
        T(test_blank__next_to_unborn_peers__waits),
        T(test_blank__next_to_a_cluster__registers_at_both_and_promises_nothing_before),
        T(test_birth__of_another_cluster_than_the_peers_are_of_now__is_forgotten),
        T(test_birth__of_another_cluster__is_kept_where_data_was_made_for_it),
        T(test_register__one_peer_silent__is_not_finished),
        T(test_register__number_is_taken_by_a_machine_unknown_to_peers__a_higher_one),
        T(test_register__peer_holds_a_greater_document__is_fetched_before_the_answer_counts),
        T(test_data__swapped__is_a_new_incarnation),
        T(test_data__rolled_back_below_the_floor__is_a_new_incarnation),
        T(test_data__rolled_back_while_the_machine_was_off__is_seen_before_it_streams),
        T(test_data__rolled_back_to_a_copy_that_lacks_wal__is_seen_before_it_starts),
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
        T(test_birth__first_leader_that_leads__promises_no_other_birth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
