/* The leader's permit for one snapshot task at a time, on a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/permit.h"

static const char first[] = "00000000000000a1", second[] = "00000000000000b2";

enum { GENERATION = 5, LED_SINCE = 1000, OLD = LED_SINCE + PERMIT_YOUNG_MS };

static const struct permit_leader leader = {true, LED_SINCE, GENERATION};

static enum permit_verdict ask(struct permit *permit, const char *task, int32_t node,
                               enum permit_state state, int64_t now_ms)
{
    return permit_ask(permit, &(struct permit_request){task, node, GENERATION, state}, &leader,
                      now_ms);
}

static void test_permit__one_task__gets_it_and_a_second_does_not(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, OLD + 1), PERMIT_HELD);
    assert_string_equal(permit.task, first);
    assert_int_equal(permit.node, 1);
    /* nor does one that claims to run already */
    assert_int_equal(ask(&permit, second, 2, PERMIT_RUNNING, OLD + 1), PERMIT_HELD);
}

static void test_permit__renewed__lasts(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    for (int64_t at = OLD + 5000; at < OLD + 200000; at += PERMIT_MS - 1) {
        assert_int_equal(ask(&permit, first, 1, PERMIT_RUNNING, at), PERMIT_GIVEN);
        assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, at + PERMIT_MS - 1), PERMIT_HELD);
    }
}

static void test_permit__not_renewed__runs_out_to_the_millisecond(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, OLD + PERMIT_MS - 1), PERMIT_HELD);
    assert_true(permit_held(&permit, OLD + PERMIT_MS - 1));
    assert_false(permit_held(&permit, OLD + PERMIT_MS));
    assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, OLD + PERMIT_MS), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, first, 1, PERMIT_RUNNING, OLD + PERMIT_MS), PERMIT_HELD);
}

static void test_permit__given_back__is_free_at_once_but_only_by_its_holder(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, second, 2, PERMIT_ENDED, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, first, 2, PERMIT_ENDED, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, OLD), PERMIT_HELD);
    assert_int_equal(ask(&permit, first, 1, PERMIT_ENDED, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, second, 2, PERMIT_NEW, OLD), PERMIT_GIVEN);
}

static void test_permit__another_node__does_not_take_the_tasks_over(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, first, 2, PERMIT_NEW, OLD), PERMIT_HELD);
    assert_int_equal(ask(&permit, first, 2, PERMIT_NEW, OLD + PERMIT_MS), PERMIT_GIVEN);
    assert_int_equal(permit.node, 2);
}

/* What an earlier leader gave has run out before a new one gives anything new. */
static void test_permit__young_leader__gives_it_only_to_the_first_that_runs(void **state)
{
    struct permit permit = {0};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, LED_SINCE), PERMIT_YOUNG);
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD - 1), PERMIT_YOUNG);
    assert_int_equal(ask(&permit, second, 2, PERMIT_RUNNING, LED_SINCE), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, first, 1, PERMIT_RUNNING, LED_SINCE), PERMIT_HELD);
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD - 6000), PERMIT_HELD);
    /* the one that ran is over: still too young for a new one */
    assert_int_equal(ask(&permit, second, 2, PERMIT_ENDED, OLD - 2), PERMIT_GIVEN);
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD - 1), PERMIT_YOUNG);
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
}

static void test_permit__other_generation_or_no_leader__is_refused_and_changes_nothing(void **state)
{
    struct permit permit = {0}, before;
    const struct permit_leader follower = {false, 0, GENERATION};

    (void)state;
    assert_int_equal(ask(&permit, first, 1, PERMIT_NEW, OLD), PERMIT_GIVEN);
    before = permit;
    for (uint32_t generation = GENERATION - 1; generation <= GENERATION + 1; generation += 2)
        assert_int_equal(permit_ask(&permit,
                                    &(struct permit_request){first, 1, generation, PERMIT_RUNNING},
                                    &leader, OLD + 1),
                         PERMIT_GENERATION);
    assert_int_equal(permit_ask(&permit,
                                &(struct permit_request){first, 1, GENERATION, PERMIT_RUNNING},
                                &follower, OLD + 1),
                     PERMIT_NO_LEADER);
    assert_memory_equal(&permit, &before, sizeof permit);
}

static void test_permit__task_id__is_sixteen_lower_case_digits(void **state)
{
    static const char *const wrong[] = {
        "",
        "0",
        "00000000000000g1",
        "00000000000000A1",
        "0000000000000001 ",
        "000000000000000",
        "00000000000000001",
    };

    (void)state;
    assert_true(task_id_valid(first));
    assert_true(task_id_valid("0123456789abcdef"));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(task_id_valid(wrong[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permit__one_task__gets_it_and_a_second_does_not),
        cmocka_unit_test(test_permit__renewed__lasts),
        cmocka_unit_test(test_permit__not_renewed__runs_out_to_the_millisecond),
        cmocka_unit_test(test_permit__given_back__is_free_at_once_but_only_by_its_holder),
        cmocka_unit_test(test_permit__another_node__does_not_take_the_tasks_over),
        cmocka_unit_test(test_permit__young_leader__gives_it_only_to_the_first_that_runs),
        cmocka_unit_test(
            test_permit__other_generation_or_no_leader__is_refused_and_changes_nothing),
        cmocka_unit_test(test_permit__task_id__is_sixteen_lower_case_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
