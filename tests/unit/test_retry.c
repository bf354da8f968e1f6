/* When steps may be tried again. */
#include "tests/unit/tmpdir.h"

#include "agent/retry.h"

static const struct step fence = {.kind = STEP_REPLICATION, .reason = AGENT_REASON_LOCK_KEY};
static const struct step names = {.kind = STEP_REPLICATION, .reason = AGENT_REASON_NAMES};

static void test_retry__first_failure__is_tried_again_soon_and_each_later_one_waits_longer(
    void **state)
{
    struct retry retry = {0};
    int64_t before = 0;

    (void)state;
    assert_int_equal(retry_wait_ms(&retry, &names, 5, 1000), 0);
    for (int i = 0; i < 20; i++) {
        int64_t wait;

        retry_note(&retry, &names, 5, true, 1000);
        wait = retry_wait_ms(&retry, &names, 5, 1000);
        assert_true(wait >= before && wait > 0 && wait <= 1000);
        assert_int_equal(retry_wait_ms(&retry, &names, 5, 1000 + wait), 0);
        before = wait;
    }
    assert_int_equal(before, 1000);
}

/* A fence is written anew before each attempt: with the disk full both went round a thousand times
 * a second. */
static void test_retry__another_step_succeeds_in_between__does_not_make_the_failed_one_ready(
    void **state)
{
    struct retry retry = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        retry_note(&retry, &names, 5, true, 1000);
        retry_note(&retry, &fence, 5, false, 1000);
    }
    assert_int_equal(retry_wait_ms(&retry, &fence, 5, 1000), 0);
    assert_int_equal(retry_wait_ms(&retry, &names, 5, 1000), 1000);
    assert_true(retry_is_known(&retry, &names, 5, true));
}

static void test_retry__new_generation__is_tried_at_once(void **state)
{
    struct retry retry = {0};

    (void)state;
    for (int i = 0; i < 10; i++)
        retry_note(&retry, &names, 5, true, 1000);
    assert_int_equal(retry_wait_ms(&retry, &names, 6, 1000), 0);
    assert_false(retry_is_known(&retry, &names, 6, true));
}

static void test_retry__success__ends_it_and_is_news(void **state)
{
    struct retry retry = {0};

    (void)state;
    retry_note(&retry, &names, 5, true, 1000);
    assert_false(retry_is_known(&retry, &names, 5, false));
    retry_note(&retry, &names, 5, false, 1100);
    assert_int_equal(retry.failing.count, 0);
    assert_int_equal(retry_wait_ms(&retry, &names, 5, 1100), 0);
}

static void test_retry__what_succeeds_again_and_again__is_slowed_down(void **state)
{
    struct retry retry = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        retry_note(&retry, &fence, 5, false, 1000);
    assert_int_equal(retry_wait_ms(&retry, &fence, 5, 1000), 0);
    for (int i = 0; i < 10; i++)
        retry_note(&retry, &fence, 5, false, 1000);
    assert_int_equal(retry_wait_ms(&retry, &fence, 5, 1000), 1000);
}

static void test_retry__nothing_to_do__forgets_what_failed(void **state)
{
    struct retry retry = {0};

    (void)state;
    assert_false(retry_rest(&retry));
    retry_note(&retry, &names, 5, true, 1000);
    retry_note(&retry, &fence, 5, false, 1000);
    assert_true(retry_rest(&retry));
    assert_int_equal(retry_wait_ms(&retry, &names, 5, 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_retry__first_failure__is_tried_again_soon_and_each_later_one_waits_longer),
        cmocka_unit_test(
            test_retry__another_step_succeeds_in_between__does_not_make_the_failed_one_ready),
        cmocka_unit_test(test_retry__new_generation__is_tried_at_once),
        cmocka_unit_test(test_retry__success__ends_it_and_is_news),
        cmocka_unit_test(test_retry__what_succeeds_again_and_again__is_slowed_down),
        cmocka_unit_test(test_retry__nothing_to_do__forgets_what_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
