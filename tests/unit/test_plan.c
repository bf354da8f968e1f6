/* In which requests slices are fetched. */
#include "tests/unit/tmpdir.h"

#include "snapshots/plan.h"

enum { KB = 1024 };

static void test_plan__neighbours_in_a_pack__are_one_request(void **state)
{
    struct plan_slice slices[] = {
        {.pack = 1, .offset = 300 * KB, .stored = 10},
        {.pack = 1, .offset = 100, .stored = 50},
        {.pack = 1, .offset = 0, .stored = 100},
        {.pack = 1, .offset = 150 + PLAN_GAP_MAX, .stored = 10}, /* as far as is fetched along */
        {.pack = 0, .offset = 100, .stored = 50},
    };
    struct plan_range range;
    size_t at = 0;

    (void)state;
    plan_sort(slices, 5);
    assert_true(plan_next(slices, 5, &at, &range));
    assert_int_equal(range.pack, 0);
    assert_int_equal(range.offset, 100);
    assert_int_equal(range.len, 50);
    assert_true(plan_next(slices, 5, &at, &range));
    assert_int_equal(range.pack, 1);
    assert_int_equal(range.first, 1);
    assert_int_equal(range.count, 3);
    assert_int_equal(range.offset, 0);
    assert_int_equal(range.len, 160 + PLAN_GAP_MAX);
    assert_true(plan_next(slices, 5, &at, &range));
    assert_int_equal(range.offset, 300 * KB);
    assert_int_equal(range.count, 1);
    assert_false(plan_next(slices, 5, &at, &range));
}

static void test_plan__any_slices__are_each_in_one_range_that_holds_them(void **state)
{
    enum { COUNT = 2000 };
    static struct plan_slice slices[COUNT];
    struct plan_range range;
    uint32_t random = 1;
    size_t at = 0, next = 0;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        random = random * 1103515245 + 12345;
        slices[i] = (struct plan_slice){.pack = random >> 8 & 7,
                                        .offset = random >> 4 & 0xffffff,
                                        .stored = (random >> 12 & 0x1ffff) + 1};
    }
    plan_sort(slices, COUNT);
    while (plan_next(slices, COUNT, &at, &range)) {
        assert_int_equal(range.first, next);
        assert_true(range.count > 0);
        assert_true(range.len <= PLAN_RANGE_MAX + FRAME_MAX);
        for (size_t i = range.first; i < range.first + range.count; i++) {
            assert_int_equal(slices[i].pack, range.pack);
            assert_true(slices[i].offset >= range.offset);
            assert_true(slices[i].offset + slices[i].stored <= range.offset + range.len);
        }
        next += range.count;
    }
    assert_int_equal(next, COUNT);
}

static void test_plan__of_nothing__is_empty(void **state)
{
    struct plan_range range;
    size_t at = 0;

    (void)state;
    plan_sort(NULL, 0);
    assert_false(plan_next(NULL, 0, &at, &range));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan__neighbours_in_a_pack__are_one_request),
        cmocka_unit_test(test_plan__any_slices__are_each_in_one_range_that_holds_them),
        cmocka_unit_test(test_plan__of_nothing__is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
