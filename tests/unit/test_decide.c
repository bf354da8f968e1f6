/* The rules of an election that no scenario may break, one claim each. The scenarios are in
 * tests/golden/decide. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/decide_scene.h"

enum { N1, N2, N3 };

/* n1 led generation 5 and crashed; promises of 6 are asked for, and all three have given theirs. */
static void crash_n1_and_promise(struct scene *scene)
{
    scene_init(scene);
    scene_healthy(scene, N1, 5);
    scene_decide(scene);
    scene->view.nodes[N1].report.pg = PG_CRASHED;
    scene->view.nodes[N1].report.leading = false;
    scene_decide(scene);
    assert_int_equal(scene->plan.memory.phase, PHASE_PROMISING);
    for (int32_t i = 0; i < NODE_COUNT; i++)
        scene_obey(scene, i);
}

static int32_t granted(const struct scene *scene)
{
    return scene->plan.memory.phase == PHASE_GRANTED ? scene->plan.memory.granted_to : NODE_NONE;
}

static void grants_in_plan(const struct scene *scene, uint32_t generation, int *count)
{
    for (int32_t i = 0; i < NODE_COUNT; i++) {
        if (scene->plan.send[i] && scene->plan.message[i].role == ROLE_LEADER &&
            scene->plan.message[i].generation == generation)
            (*count)++;
    }
}

static void test_ballot__lower_position__is_never_granted(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 4, 0x9000);
    scene_vote(&scene, N3, 5, 0x1000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N3);

    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x1000);
    scene_vote(&scene, N3, 5, 0x0fff);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
}

static void test_ballot__one_vote__is_no_majority(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    for (int i = 0; i < 100; i++) {
        scene_advance(&scene, 100);
        scene_decide(&scene);
        assert_int_equal(granted(&scene), NODE_NONE);
    }
}

static void test_ballot__old_leader__counts_once(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N1, 5, 0x3000);
    scene_advance(&scene, 10000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N1);
}

static void test_ballot__old_leader_ahead__is_left_out_when_two_others_voted(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N1, 5, 0x3000);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x1000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
}

static void test_ballot__vote_of_another_promise__does_not_count(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x2000);
    scene.view.nodes[N3].report.vote.promise.proposer = SCENE_OLD_PROPOSER;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    scene.view.nodes[N3].report.vote.promise.proposer = SCENE_PROPOSER;
    scene.view.nodes[N3].report.vote.promise.generation = 5;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
}

static void test_ballot__older_incarnation__is_void(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x9000);
    scene.view.nodes[N2].report.incarnations[N3].number = 2;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    assert_true(scene_has_blocker(&scene, REASON_BLOCKED_VOID, N3));
}

static void test_ballot__unregistered_machine__neither_votes_nor_voids(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene.view.nodes[N3].report.registered = false;
    scene.view.nodes[N3].report.incarnations[N2].number = 9;
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x2000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    scene_vote(&scene, N1, 5, 0x2000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
}

static void test_ballot__incomplete_node__does_not_vote(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene.view.nodes[N3].report.complete = false;
    scene_vote(&scene, N3, 5, 0x9000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
}

static void test_ballot__rewound_node_behind__makes_R_legal(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene.view.nodes[N3].report.complete = false;
    scene.view.nodes[N3].report.rewound = true;
    scene_vote(&scene, N3, 5, 0x2000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
}

static void test_ballot__two_rewound__grant_nobody(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    for (int32_t i = N2; i <= N3; i++) {
        scene.view.nodes[i].report.complete = false;
        scene.view.nodes[i].report.rewound = true;
        scene_vote(&scene, i, 5, 0x2000);
    }
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    assert_true(scene_has_blocker(&scene, REASON_BLOCKED_REWOUND_AHEAD, N2) ||
                scene_has_blocker(&scene, REASON_BLOCKED_REWOUND_AHEAD, N3));
}

static void test_ballot__equal_positions__most_replayed_wins(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x2000);
    scene.view.nodes[N2].report.vote.replay_lsn = 0x1fff;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N3);
}

static void test_grant__once_made__goes_to_nobody_else(void **state)
{
    struct scene scene;
    int to_others = 0;
    int to_n2 = 0;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x1000);
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
    /* A greater position turns up, the granted one falls silent: still n2's generation. */
    scene_vote(&scene, N1, 5, 0x9000);
    scene_lose(&scene, N2, false);
    for (int i = 0; i < 200; i++) {
        scene_advance(&scene, 100);
        scene_decide(&scene);
        grants_in_plan(&scene, 6, &to_others);
        scene_obey(&scene, N1);
        scene_obey(&scene, N3);
        if (scene.plan.memory.phase == PHASE_PROMISING) {
            scene_vote(&scene, N1, 5, 0x9000);
            scene_vote(&scene, N3, 5, 0x1000);
        }
    }
    assert_int_equal(to_others, 0);
    assert_true(scene.plan.memory.generation > 6);

    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x1000);
    scene_decide(&scene);
    grants_in_plan(&scene, 6, &to_n2);
    scene_decide(&scene);
    grants_in_plan(&scene, 6, &to_n2);
    assert_int_equal(to_n2, 2); /* re-sent, to the same one */
    assert_true(scene.plan.send[N2]);
}

static void test_grant__after_a_higher_promise__is_not_made(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x2000);
    scene.view.nodes[N1].report.promise.generation = 7;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    assert_true(scene_has_event(&scene, REASON_ELECTION_OVERTAKEN));
    for (int32_t i = 0; i < NODE_COUNT; i++)
        assert_false(scene.plan.send[i]);
}

static void test_grant__names_greatest_incarnations_and_document_of_R(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x1000);
    scene.view.nodes[N3].report.incarnations[N1].number = 4;
    scene.view.nodes[N3].report.document.version.counter = 8;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), N2);
    assert_int_equal(scene.plan.message[N2].incarnations[N1].number, 4);
    assert_int_equal(scene.plan.message[N2].document.counter, 8);
    assert_int_equal(scene.plan.message[N2].leader.node, N2);
    assert_int_equal(scene.plan.message[N2].leader.proposer, SCENE_PROPOSER);
    assert_int_equal(scene.plan.message[N3].leader.generation, 6);
}

static void test_restart__healthy_cluster__is_adopted_without_a_message(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N2, 17);
    scene_decide(&scene);
    for (int32_t i = 0; i < NODE_COUNT; i++)
        assert_false(scene.plan.send[i]);
    assert_int_equal(scene.plan.leader, N2);
    assert_true(scene.plan.writable);
    assert_true(scene.plan.failover_possible);
    assert_int_equal(scene.plan.blocker_count, 0);
}

static void test_restart__open_election__takes_the_next_generation(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_vote(&scene, N3, 5, 0x2000);
    memset(&scene.view.memory, 0, sizeof(scene.view.memory));
    scene.view.proposer = 8;
    scene_decide(&scene);
    assert_int_equal(granted(&scene), NODE_NONE);
    assert_int_equal(scene.plan.memory.generation, 7);
}

static void test_rivals__wait_differs_by_chance(void **state)
{
    struct scene scene;
    int64_t wait_ms[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        crash_n1_and_promise(&scene);
        scene.view.chance = i == 0 ? 100 : 900;
        scene.view.nodes[N2].report.promise.proposer = 9;
        scene.view.nodes[N3].report.promise.proposer = 9;
        scene_decide(&scene);
        assert_int_equal(scene.plan.memory.phase, PHASE_IDLE);
        wait_ms[i] = scene.plan.memory.wait_until_ms - scene.view.now_ms;
        assert_in_range(wait_ms[i], 1000, 2000);
    }
    assert_int_not_equal(wait_ms[0], wait_ms[1]);
}

static int64_t wait_after_rival(struct scene *scene)
{
    for (int32_t n = N2; n <= N3; n++) {
        scene->view.nodes[n].report.promise.generation = scene->view.memory.generation + 1;
        scene->view.nodes[n].report.promise.proposer = 9;
    }
    scene->view.chance = 500;
    scene_decide(scene);
    assert_int_equal(scene->plan.memory.phase, PHASE_IDLE);
    return scene->plan.memory.wait_until_ms - scene->view.now_ms;
}

/* Found by tests/sim: while the election needed a node that was in recovery for minutes, two
 * orchestrators outbid each other once a second. */
static void test_rivals__elections_lost_again_and_again__wait_longer(void **state)
{
    struct scene scene;
    int64_t wait_ms[80];

    (void)state;
    crash_n1_and_promise(&scene);
    for (int i = 0; i < 80; i++) {
        wait_ms[i] = wait_after_rival(&scene);
        scene_advance(&scene, wait_ms[i] + 1);
        scene_decide(&scene);
        assert_int_equal(scene.plan.memory.phase, PHASE_PROMISING);
    }
    assert_in_range(wait_ms[0], 1000, 2000);
    assert_in_range(wait_ms[2], 1000, 2200);
    assert_in_range(wait_ms[24], 10000, 22000);
    assert_in_range(wait_ms[79], 30000, 60000);
}

static void test_rivals__a_leader_was_seen__wait_short_again(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene.view.memory.lost_elections = 50;
    scene_healthy(&scene, N2, 9);
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.lost_elections, 0);
}

/* Two orchestrators that change the document without a leader take turns, however often: their
 * generations are no lost elections. */
static void test_rivals__document_changed_without_a_leader__wait_no_longer(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene.view.memory.lost_elections = 50;
    for (int i = 0; i < 80; i++) {
        scene.view.memory.phase = PHASE_DOCUMENT;
        scene.view.request.id = (uint64_t)i + 1;
        scene.view.request.kind = REQUEST_DOCUMENT;
        scene.view.memory.request = scene.view.request.id;
        for (int32_t n = N1; n <= N3; n++)
            scene.view.nodes[n].report.document.maintenance = true;
        assert_in_range(wait_after_rival(&scene), 1000, 2000);
        assert_int_equal(scene.plan.memory.lost_elections, 50);
        scene.view.memory.generation++;
    }
}

/* Another process opened a generation a moment ago: it is given time to finish. */
static void test_rivals__open_generation_of_another__is_let_finish(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, 5);
    scene_decide(&scene);
    scene.view.nodes[N1].report.pg = PG_CRASHED;
    scene.view.nodes[N1].report.leading = false;
    scene.view.nodes[N2].report.promise.generation = 6;
    scene.view.nodes[N2].report.promise.proposer = 9;
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_IDLE);
    scene_advance(&scene, 2000);
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_PROMISING);
    assert_int_equal(scene.plan.memory.generation, 7);
}

static void test_generation__exceeds_every_timeline_and_refusal(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, 5);
    scene.view.nodes[N3].report.timeline = 8; /* somebody's pg_promote() */
    scene.view.nodes[N2].refused_message = true;
    scene.view.nodes[N2].refused_with.generation = 11;
    scene.view.nodes[N1].report.pg = PG_CRASHED;
    scene.view.nodes[N1].report.leading = false;
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.generation, 12);
}

static void test_generation__used_up__elects_nobody(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, UINT32_MAX);
    scene.view.nodes[N1].report.pg = PG_CRASHED;
    scene.view.nodes[N1].report.leading = false;
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_IDLE);
}

static void test_birth__two_promises__grant_nobody(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_blank(&scene);
    scene.view.request.id = 1;
    scene.view.request.kind = REQUEST_INIT;
    scene.view.request.cluster.bytes[0] = 0xd1;
    scene_decide(&scene);
    scene_obey(&scene, N1);
    scene_obey(&scene, N2);
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_BIRTH);
    scene_obey(&scene, N3);
    scene.view.nodes[N3].report.cluster.bytes[0] = 0xee; /* of another birth */
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_BIRTH);
}

static void test_birth__never_without_a_command(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_blank(&scene);
    for (int i = 0; i < 100; i++) {
        scene_advance(&scene, 1000);
        scene_decide(&scene);
        assert_int_equal(scene.plan.memory.phase, PHASE_IDLE);
        for (int32_t j = 0; j < NODE_COUNT; j++)
            assert_false(scene.plan.send[j]);
    }
}

static void test_request__settled__is_not_served_twice(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, 5);
    scene.view.request.id = 4;
    scene.view.request.kind = REQUEST_SWITCHOVER;
    scene.view.request.target = N1;
    scene_decide(&scene);
    assert_true(scene.plan.request_settled);
    scene.view.request.kind = REQUEST_SWITCHOVER;
    scene_decide(&scene);
    assert_false(scene.plan.request_settled);
}

/* An election that cannot end stands in nobody's way who answers for the loss. */
static void test_failover__override__replaces_a_stuck_election(void **state)
{
    struct scene scene;

    (void)state;
    crash_n1_and_promise(&scene);
    scene_lose(&scene, N1, false);
    scene_vote(&scene, N2, 5, 0x2000);
    scene_advance(&scene, 5000);
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.phase, PHASE_PROMISING);
    scene_lose(&scene, N3, false);
    scene.view.request.id = 1;
    scene.view.request.kind = REQUEST_FAILOVER;
    scene.view.request.target = N2;
    scene.view.request.destroyed[N1] = true;
    scene.view.request.destroyed[N3] = true;
    scene_decide(&scene);
    assert_int_equal(scene.plan.memory.why, REASON_FAILOVER_ASKED);
    assert_true(scene.plan.memory.generation > 6);
    assert_int_equal(scene.plan.message[N2].destroyed_number[N1], 1);
}

/* Neither can stream, for each has WAL of its own that has to go first: no fault of the leader's.
 */
static void test_leader__followers_diverged__is_not_cut_off(void **state)
{
    struct scene scene;

    (void)state;
    for (int diverged = 0; diverged < 2; diverged++) {
        scene_init(&scene);
        scene_healthy(&scene, N1, 5);
        for (int32_t i = 0; i < NODE_COUNT; i++) {
            struct report *report = &scene.view.nodes[i].report;

            report->lineage.count = i == N1 ? 2 : 1;
            report->lineage.begin[0] = (struct position){4, 0x100};
            report->lineage.begin[1] = (struct position){5, diverged ? 0x800 : 0x2000};
            report->timeline = i == N1 ? 5 : 4;
            if (i != N1)
                scene_cut(&scene, i);
        }
        for (int i = 0; i < 3; i++) {
            scene_advance(&scene, 600);
            scene_decide(&scene);
        }
        assert_int_equal(scene.plan.memory.phase, diverged ? PHASE_IDLE : PHASE_PROMISING);
    }
}

static void test_backoff__failover_of_another_orchestrator__counts(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, 5);
    scene_decide(&scene);
    scene_healthy(&scene, N2, 6);
    scene_decide(&scene);
    scene.view.nodes[N2].report.local_probe_failing_ms = 2000;
    scene_decide(&scene);
    assert_true(scene_has_event(&scene, REASON_KEEP_BACKOFF));
    scene_advance(&scene, 10000);
    scene_decide(&scene);
    assert_true(scene_has_event(&scene, REASON_LEADER_PROBE_FAILS));
}

static void test_reasons__codes_are_unique(void **state)
{
    (void)state;
    for (int i = 0; i < REASON_COUNT; i++) {
        for (int j = 0; j < i; j++)
            assert_string_not_equal(reason_code((enum reason)i), reason_code((enum reason)j));
    }
    assert_string_equal(reason_code((enum reason)REASON_COUNT), "?");
}

/* What was sent may have been taken on and followed by another job between two reports. */
static void test_job__another_came_in_between__is_not_sent_again(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene);
    scene_healthy(&scene, N1, 5);
    scene.view.nodes[N2].report.job.id = 40;
    scene.view.request = (struct request){
        .id = 50, .kind = REQUEST_JOB, .target = N2, .job = {50, JOB_RESTART}};
    scene_decide(&scene);
    assert_true(scene.plan.send[N2]);
    assert_int_equal(scene.plan.message[N2].job_after, 40);
    scene.view.nodes[N2].report.job.id = 60;
    scene_decide(&scene);
    assert_false(scene.plan.send[N2]);
    assert_true(scene.plan.request_settled && !scene.plan.request_ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ballot__lower_position__is_never_granted),
        cmocka_unit_test(test_ballot__one_vote__is_no_majority),
        cmocka_unit_test(test_ballot__old_leader__counts_once),
        cmocka_unit_test(test_ballot__old_leader_ahead__is_left_out_when_two_others_voted),
        cmocka_unit_test(test_ballot__vote_of_another_promise__does_not_count),
        cmocka_unit_test(test_ballot__older_incarnation__is_void),
        cmocka_unit_test(test_ballot__unregistered_machine__neither_votes_nor_voids),
        cmocka_unit_test(test_ballot__incomplete_node__does_not_vote),
        cmocka_unit_test(test_ballot__rewound_node_behind__makes_R_legal),
        cmocka_unit_test(test_ballot__two_rewound__grant_nobody),
        cmocka_unit_test(test_ballot__equal_positions__most_replayed_wins),
        cmocka_unit_test(test_grant__once_made__goes_to_nobody_else),
        cmocka_unit_test(test_grant__after_a_higher_promise__is_not_made),
        cmocka_unit_test(test_grant__names_greatest_incarnations_and_document_of_R),
        cmocka_unit_test(test_restart__healthy_cluster__is_adopted_without_a_message),
        cmocka_unit_test(test_restart__open_election__takes_the_next_generation),
        cmocka_unit_test(test_rivals__wait_differs_by_chance),
        cmocka_unit_test(test_rivals__elections_lost_again_and_again__wait_longer),
        cmocka_unit_test(test_rivals__a_leader_was_seen__wait_short_again),
        cmocka_unit_test(test_rivals__document_changed_without_a_leader__wait_no_longer),
        cmocka_unit_test(test_rivals__open_generation_of_another__is_let_finish),
        cmocka_unit_test(test_generation__exceeds_every_timeline_and_refusal),
        cmocka_unit_test(test_generation__used_up__elects_nobody),
        cmocka_unit_test(test_birth__two_promises__grant_nobody),
        cmocka_unit_test(test_birth__never_without_a_command),
        cmocka_unit_test(test_request__settled__is_not_served_twice),
        cmocka_unit_test(test_failover__override__replaces_a_stuck_election),
        cmocka_unit_test(test_leader__followers_diverged__is_not_cut_off),
        cmocka_unit_test(test_backoff__failover_of_another_orchestrator__counts),
        cmocka_unit_test(test_reasons__codes_are_unique),
        cmocka_unit_test(test_job__another_came_in_between__is_not_sent_again),
    };

    return cmocka_run_group_tests_name("decide", tests, NULL, NULL);
}
