/* What of a cluster's snapshots is due, and which node takes one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orchestrator/snapshot_due.h"

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)
#define NOON   INT64_C(1795867200000) /* a full hour */

static struct schedule every_hour;

/* Healthy, nothing runs, the slot of NOON is served, no spread. */
static struct due_view view_at(int64_t now_ms)
{
    assert_int_equal(schedule_parse("every 1h", &every_hour, NULL), 0);
    return (struct due_view){.now_ms = now_ms,
                             .schedule = &every_hour,
                             .served_ms = NOON,
                             .kind = SNAPSHOT_CREATE,
                             .running = SNAPSHOT_NONE,
                             .healthy = true,
                             .has_node = true,
                             .has_snapshot = true};
}

static void assert_due(const struct due_view *view, enum due_verdict verdict, int64_t slot_ms)
{
    struct due due = snapshot_due(view);

    assert_int_equal(due.verdict, verdict);
    assert_int_equal(due.slot_ms, slot_ms);
}

static void test_due__before_the_slot__is_later_and_says_when(void **state)
{
    struct due_view view = view_at(NOON + HOUR - 1);

    (void)state;
    assert_due(&view, DUE_LATER, 0);
    assert_int_equal(snapshot_due(&view).begin_ms, NOON + HOUR);
}

static void test_due__at_the_slot__runs_once(void **state)
{
    struct due_view view = view_at(NOON + HOUR);

    (void)state;
    assert_due(&view, DUE_RUN, NOON + HOUR);
    view.served_ms = NOON + HOUR;
    assert_due(&view, DUE_LATER, 0);
}

static void test_due__many_missed_slots__are_one_run(void **state)
{
    struct due_view view = view_at(NOON + 100 * HOUR + 5 * MINUTE);

    (void)state;
    assert_due(&view, DUE_RUN, NOON + 100 * HOUR);
    view.served_ms = NOON + 100 * HOUR;
    assert_due(&view, DUE_LATER, 0);
    assert_int_equal(snapshot_due(&view).begin_ms, NOON + 101 * HOUR);
}

static void test_due__snapshot_begun_after_the_slot__serves_it(void **state)
{
    struct due_view view = view_at(NOON + HOUR + MINUTE);

    (void)state;
    view.served_ms = NOON + HOUR + 1;
    assert_due(&view, DUE_LATER, 0);
    view.served_ms = NOON + HOUR - 1; /* one begun before it does not */
    assert_due(&view, DUE_RUN, NOON + HOUR);
}

static void test_due__spread__delays_by_a_tenth_or_thirty_seconds_at_most(void **state)
{
    struct schedule every_minute;
    struct due_view view = view_at(NOON);
    int64_t most_ms = 0;

    (void)state;
    assert_int_equal(schedule_parse("every 1min", &every_minute, NULL), 0);
    for (uint64_t spread = 0; spread < 100000; spread += 7) {
        int64_t late_ms;

        view.spread = spread;
        view.schedule = &every_hour;
        late_ms = snapshot_due(&view).begin_ms - (NOON + HOUR);
        assert_in_range(late_ms, 0, 30000);
        most_ms = late_ms > most_ms ? late_ms : most_ms;
        view.schedule = &every_minute;
        assert_in_range(snapshot_due(&view).begin_ms - (NOON + MINUTE), 0, 6000);
    }
    assert_true(most_ms > 29000);
}

static void test_due__spread_not_over__is_not_due_yet(void **state)
{
    struct due_view view = view_at(NOON + HOUR + 4999);

    (void)state;
    view.spread = 5000;
    assert_due(&view, DUE_LATER, 0);
    view.now_ms++;
    assert_due(&view, DUE_RUN, NOON + HOUR);
}

static void test_spread__of_a_name__is_stable_and_differs_between_names(void **state)
{
    (void)state;
    assert_true(snapshot_spread("main") == snapshot_spread("main"));
    assert_true(snapshot_spread("main") % 30001 != snapshot_spread("main2") % 30001);
    assert_true(snapshot_spread("c1") % 6001 != snapshot_spread("c2") % 6001);
}

static void test_due__what_stands_in_the_way__is_skipped_by_reason(void **state)
{
    const struct due_view fine = view_at(NOON + HOUR);
    struct due_view view;

    (void)state;
    view = fine;
    view.maintenance = true;
    assert_due(&view, DUE_SKIP, NOON + HOUR);
    assert_int_equal(snapshot_due(&view).reason, SKIP_MAINTENANCE);
    view = fine;
    view.healthy = false;
    assert_int_equal(snapshot_due(&view).verdict, DUE_SKIP);
    assert_int_equal(snapshot_due(&view).reason, SKIP_UNHEALTHY);
    view = fine;
    view.has_node = false;
    assert_int_equal(snapshot_due(&view).reason, SKIP_NO_NODE);
    view = fine;
    view.running = SNAPSHOT_CREATE;
    assert_int_equal(snapshot_due(&view).verdict, DUE_SKIP);
    assert_int_equal(snapshot_due(&view).reason, SKIP_RUNNING);
    view = fine;
    view.has_snapshot = false;
    assert_int_equal(snapshot_due(&view).verdict, DUE_RUN);
    view.kind = SNAPSHOT_DRILL;
    assert_int_equal(snapshot_due(&view).verdict, DUE_SKIP);
    assert_int_equal(snapshot_due(&view).reason, SKIP_NO_SNAPSHOT);
}

static void test_due__while_a_task_of_another_kind_runs__waits(void **state)
{
    struct due_view view = view_at(NOON + HOUR);

    (void)state;
    view.running = SNAPSHOT_DRILL;
    assert_due(&view, DUE_WAIT, NOON + HOUR);
    view.running = SNAPSHOT_NONE;
    assert_due(&view, DUE_RUN, NOON + HOUR);
}

static void test_due__clock_set_back__goes_on_with_the_next_slot(void **state)
{
    struct due_view view = view_at(NOON);

    (void)state;
    view.served_ms = NOON + 1000 * HOUR;
    assert_due(&view, DUE_LATER, 0);
    assert_int_equal(snapshot_due(&view).begin_ms, NOON + HOUR);
}

/* n1 leads. */
static void fill(struct source_view nodes[NODE_COUNT])
{
    nodes[0] = (struct source_view){.usable = true, .leads = true};
    nodes[1] = (struct source_view){.usable = true, .lag_bytes = 500};
    nodes[2] = (struct source_view){.usable = true, .lag_bytes = 20};
}

static void test_source__least_lag_of_the_followers__is_chosen(void **state)
{
    struct source_view nodes[NODE_COUNT];

    (void)state;
    fill(nodes);
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, NODE_NONE), 2);
    nodes[2].lag_bytes = UINT64_MAX;
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, NODE_NONE), 1);
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, 1), 2);
}

static void test_source__leader__is_the_last_resort_unless_preferred(void **state)
{
    struct source_view nodes[NODE_COUNT];

    (void)state;
    fill(nodes);
    assert_int_equal(snapshot_source(nodes, NODE_NONE, true, NODE_NONE), 0);
    nodes[1].usable = nodes[2].usable = false;
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, NODE_NONE), 0);
    nodes[0].usable = false;
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, NODE_NONE), NODE_NONE);
    nodes[2].usable = true;
    assert_int_equal(snapshot_source(nodes, NODE_NONE, true, NODE_NONE), 2);
}

static void test_source__leader_in_the_last_slot__gives_way_to_followers(void **state)
{
    struct source_view nodes[NODE_COUNT] = {{.usable = true, .lag_bytes = 9},
                                            {.usable = true, .lag_bytes = 5},
                                            {.usable = true, .leads = true}};

    (void)state;
    assert_int_equal(snapshot_source(nodes, NODE_NONE, false, NODE_NONE), 1);
    assert_int_equal(snapshot_source(nodes, NODE_NONE, true, NODE_NONE), 2);
}

static void test_source__node_that_was_named__is_that_one_or_none(void **state)
{
    struct source_view nodes[NODE_COUNT];

    (void)state;
    fill(nodes);
    assert_int_equal(snapshot_source(nodes, 1, false, NODE_NONE), 1);
    assert_int_equal(snapshot_source(nodes, 0, false, NODE_NONE), 0);
    nodes[1].usable = false;
    assert_int_equal(snapshot_source(nodes, 1, false, NODE_NONE), NODE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due__before_the_slot__is_later_and_says_when),
        cmocka_unit_test(test_due__at_the_slot__runs_once),
        cmocka_unit_test(test_due__many_missed_slots__are_one_run),
        cmocka_unit_test(test_due__snapshot_begun_after_the_slot__serves_it),
        cmocka_unit_test(test_due__spread__delays_by_a_tenth_or_thirty_seconds_at_most),
        cmocka_unit_test(test_due__spread_not_over__is_not_due_yet),
        cmocka_unit_test(test_spread__of_a_name__is_stable_and_differs_between_names),
        cmocka_unit_test(test_due__what_stands_in_the_way__is_skipped_by_reason),
        cmocka_unit_test(test_due__while_a_task_of_another_kind_runs__waits),
        cmocka_unit_test(test_due__clock_set_back__goes_on_with_the_next_slot),
        cmocka_unit_test(test_source__least_lag_of_the_followers__is_chosen),
        cmocka_unit_test(test_source__leader__is_the_last_resort_unless_preferred),
        cmocka_unit_test(test_source__leader_in_the_last_slot__gives_way_to_followers),
        cmocka_unit_test(test_source__node_that_was_named__is_that_one_or_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
