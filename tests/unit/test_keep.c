/* Which snapshots retention keeps, and why. */
#include "tests/unit/tmpdir.h"

#include "base/clock.h"
#include "base/rand.h"
#include "snapshots/calendar.h"
#include "snapshots/keep.h"

enum { MAX = 400 };

#define NOW "2026-11-28T12:00:00Z"

static struct keep_entry list[MAX];
static size_t count;

static int64_t ms_of(const char *time)
{
    int64_t ms = 0;

    assert_int_equal(clock_parse_iso8601(time, &ms, NULL), 0);
    return ms;
}

static struct keep_entry *add(const char *stopped, bool verified)
{
    struct keep_entry *entry = &list[count];

    memset(entry, 0, sizeof(*entry));
    entry->system_id = 7;
    entry->stopped_ms = ms_of(stopped);
    entry->verified = verified;
    /* Ids need not sort as the stop times do. */
    snprintf(entry->id, sizeof(entry->id), "20260101T000000Z-%08x", (unsigned)(MAX - count));
    count++;
    return entry;
}

static int setup(void **state)
{
    (void)state;
    count = 0;
    return 0;
}

static const struct keep_rule defaults = KEEP_RULE_DEFAULT;

static void decide(const struct keep_rule *rule)
{
    keep_decide(list, count, rule, ms_of(NOW));
}

static const struct keep_entry *of_time(const char *stopped)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].stopped_ms == ms_of(stopped))
            return &list[i];
    }
    fail_msg("nothing of %s", stopped);
    return NULL;
}

static void assert_decided(const char *stopped, bool keep, const char *reason)
{
    const struct keep_entry *entry = of_time(stopped);

    if (entry->keep != keep || strstr(entry->reason, reason) == NULL)
        fail_msg("%s: %s, %s", stopped, entry->keep ? "kept" : "expired", entry->reason);
}

static size_t kept(void)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        kept += list[i].keep;
    return kept;
}

static struct keep_rule only(int daily, int weekly, int monthly, int least)
{
    return (struct keep_rule){daily, weekly, monthly, least};
}

static void test_keep__of_each_day__the_newest_verified_stays(void **state)
{
    const struct keep_rule rule = only(2, 0, 0, 0);

    (void)state;
    add("2026-11-26T23:59:59.999Z", true);
    add("2026-11-27T00:00:00Z", true);
    add("2026-11-27T10:00:00Z", true);
    add("2026-11-27T11:00:00Z", false);
    add("2026-11-28T01:00:00Z", true);
    add("2026-11-28T02:00:00Z", false);
    decide(&rule);
    assert_decided("2026-11-28T01:00:00Z", true, "newest verified of 2026-11-28");
    assert_decided("2026-11-28T02:00:00Z", false, "expired: not verified");
    assert_decided("2026-11-27T11:00:00Z", false, "expired: not verified");
    assert_decided("2026-11-27T10:00:00Z", true, "newest verified of 2026-11-27");
    assert_decided("2026-11-27T00:00:00Z", false, "expired: not the newest verified");
    assert_decided("2026-11-26T23:59:59.999Z", false, "expired");
}

static void test_keep__weeks__begin_on_monday_and_have_their_iso_number(void **state)
{
    const struct keep_rule rule = only(0, 2, 0, 0);

    (void)state;
    add("2026-11-15T23:00:00Z", true); /* a Sunday */
    add("2026-11-16T01:00:00Z", true);
    add("2026-11-22T23:00:00Z", true); /* a Sunday */
    add("2026-11-23T00:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-23T00:00:00Z", true, "newest verified of week 2026-W48");
    assert_decided("2026-11-22T23:00:00Z", true, "newest verified of week 2026-W47");
    assert_decided("2026-11-16T01:00:00Z", false, "expired");
    assert_decided("2026-11-15T23:00:00Z", false, "expired");
}

static void test_keep__week_across_a_new_year__is_one(void **state)
{
    const struct keep_rule rule = only(0, 3, 0, 0);

    (void)state;
    add("2024-12-29T10:00:00Z", true); /* a Sunday: W52 */
    add("2024-12-31T10:00:00Z", true);
    add("2025-01-01T10:00:00Z", true);
    decide(&rule);
    assert_decided("2025-01-01T10:00:00Z", true, "week 2025-W01");
    assert_decided("2024-12-31T10:00:00Z", false, "expired");
    assert_decided("2024-12-29T10:00:00Z", true, "week 2024-W52");
}

static void test_keep__months__are_those_of_the_calendar(void **state)
{
    const struct keep_rule rule = only(0, 0, 2, 0);

    (void)state;
    add("2026-09-30T23:59:59Z", true);
    add("2026-10-01T00:00:00Z", true);
    add("2026-10-31T23:59:59Z", true);
    add("2026-11-01T00:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-01T00:00:00Z", true, "newest verified of 2026-11");
    assert_decided("2026-10-31T23:59:59Z", true, "newest verified of 2026-10");
    assert_decided("2026-10-01T00:00:00Z", false, "expired");
    assert_decided("2026-09-30T23:59:59Z", false, "expired");
}

static void test_keep__defaults_over_a_year__leave_seven_days_four_weeks_three_months(void **state)
{
    (void)state;
    for (int day = 0; day < 330; day++) {
        char text[CLOCK_ISO8601_SIZE];

        add(clock_format_iso8601(ms_of(NOW) - day * CALENDAR_DAY_MS, text), true);
    }
    decide(&defaults);
    for (int day = 22; day <= 28; day++) {
        char text[CLOCK_ISO8601_SIZE];

        snprintf(text, sizeof(text), "2026-11-%02dT12:00:00Z", day);
        assert_decided(text, true, "newest verified of 2026-11-");
    }
    assert_decided("2026-11-21T12:00:00Z", false, "expired");
    /* Weeks 48 and 47 have a day that is kept: two more, 15 and 8 November. */
    assert_decided("2026-11-15T12:00:00Z", true, "week 2026-W46");
    assert_decided("2026-11-08T12:00:00Z", true, "week 2026-W45");
    assert_decided("2026-11-01T12:00:00Z", false, "expired");
    assert_decided("2026-10-31T12:00:00Z", true, "newest verified of 2026-10");
    assert_decided("2026-09-30T12:00:00Z", true, "newest verified of 2026-09");
    assert_int_equal(kept(), 7 + 2 + 2);
}

static void test_keep__days_without_snapshots__cost_no_place(void **state)
{
    const struct keep_rule rule = only(3, 0, 0, 0);

    (void)state;
    add("2025-03-01T10:00:00Z", true);
    add("2026-01-05T10:00:00Z", true);
    add("2026-02-01T10:00:00Z", true);
    add("2026-02-02T10:00:00Z", true);
    decide(&rule);
    assert_int_equal(kept(), 3);
    assert_decided("2025-03-01T10:00:00Z", false, "expired");
}

static void test_keep__last_few__stay_verified_or_not(void **state)
{
    const struct keep_rule rule = only(0, 0, 0, 3);

    (void)state;
    for (int i = 10; i < 18; i++) {
        char text[CLOCK_ISO8601_SIZE];

        snprintf(text, sizeof(text), "2026-11-28T%02d:00:00Z", i - 8);
        add(text, i == 17);
    }
    decide(&rule);
    assert_int_equal(kept(), 3);
    assert_decided("2026-11-28T09:00:00Z", true, "one of the last 3");
    assert_decided("2026-11-28T08:00:00Z", true, "one of the last 3");
    assert_decided("2026-11-28T07:00:00Z", true, "one of the last 3");
    assert_decided("2026-11-28T06:00:00Z", false, "not among the last 3");
}

static void test_keep__last_good_one__stays_however_old(void **state)
{
    const struct keep_rule rule = only(0, 0, 0, 1);

    (void)state;
    add("2020-01-01T00:00:00Z", true);
    add("2020-01-02T00:00:00Z", true);
    add("2026-11-27T00:00:00Z", false);
    add("2026-11-28T00:00:00Z", false);
    decide(&rule);
    assert_decided("2020-01-02T00:00:00Z", true, "the last that is known to be good");
    assert_decided("2020-01-01T00:00:00Z", false, "expired");
    assert_decided("2026-11-27T00:00:00Z", false, "expired");
    assert_int_equal(kept(), 2);
}

static void test_keep__rule_of_nothing__still_leaves_one(void **state)
{
    const struct keep_rule nothing = only(-5, 0, -1, -1);

    (void)state;
    add("2026-11-27T00:00:00Z", false);
    add("2026-11-28T00:00:00Z", false);
    decide(&nothing);
    assert_int_equal(kept(), 1);
    assert_decided("2026-11-28T00:00:00Z", true, "the newest");
}

static void test_keep__days_of_which_none_was_verified__have_a_stand_in_that_takes_no_place(
    void **state)
{
    const struct keep_rule rule = only(2, 0, 0, 0);

    (void)state;
    add("2026-11-24T10:00:00Z", true);
    add("2026-11-25T10:00:00Z", true);
    add("2026-11-26T09:00:00Z", false);
    add("2026-11-26T10:00:00Z", false);
    add("2026-11-27T10:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-27T10:00:00Z", true, "newest verified of 2026-11-27");
    assert_decided("2026-11-26T10:00:00Z", true,
                   "newest of 2026-11-26, of which none was verified");
    assert_decided("2026-11-26T09:00:00Z", false, "not verified");
    assert_decided("2026-11-25T10:00:00Z", true, "newest verified of 2026-11-25");
    assert_decided("2026-11-24T10:00:00Z", false, "expired");
}

static void test_keep__where_nothing_is_ever_verified__days_are_kept_all_the_same(void **state)
{
    const struct keep_rule rule = only(3, 0, 0, 1);

    (void)state;
    for (int day = 10; day < 20; day++) {
        char text[CLOCK_ISO8601_SIZE];

        snprintf(text, sizeof(text), "2026-11-%dT10:00:00Z", day);
        add(text, false);
        snprintf(text, sizeof(text), "2026-11-%dT11:00:00Z", day);
        add(text, false);
    }
    decide(&rule);
    assert_int_equal(kept(), 3);
    assert_decided("2026-11-17T11:00:00Z", true, "newest of 2026-11-17");
}

static void test_keep__pinned__stays_with_the_pin_as_reason_and_counts(void **state)
{
    const struct keep_rule rule = only(1, 0, 0, 0);

    (void)state;
    snprintf(add("2020-05-05T05:05:05Z", false)->pin, PIN_NAME_SIZE, "operator");
    snprintf(add("2026-11-28T05:05:05Z", true)->pin, PIN_NAME_SIZE, "operator");
    add("2026-11-27T05:05:05Z", true);
    decide(&rule);
    assert_decided("2020-05-05T05:05:05Z", true, "kept by pin operator");
    assert_decided("2026-11-28T05:05:05Z", true, "kept by pin operator");
    assert_decided("2026-11-27T05:05:05Z", false, "expired");
}

static void test_keep__parents__may_go_and_their_objects_stay(void **state)
{
    const struct keep_rule rule = only(0, 0, 0, 1);

    (void)state;
    add("2026-11-27T05:00:00Z", true)->is_parent = true;
    add("2026-11-28T05:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-27T05:00:00Z", false, "what others need of it stays");
}

static void test_keep__damaged_manifest__is_never_expired_and_no_last_good_one(void **state)
{
    const struct keep_rule rule = only(1, 1, 1, 1);

    (void)state;
    add("2026-11-28T05:00:00Z", true)->damaged = true;
    add("2026-11-27T05:00:00Z", true);
    add("2026-11-20T05:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-28T05:00:00Z", true, "cannot be read");
    assert_decided("2026-11-27T05:00:00Z", true, "newest verified of 2026-11-27");
    assert_decided("2026-11-20T05:00:00Z", false, "expired");
    assert_true(list[count - 1].damaged);
}

static void test_keep__from_the_future__is_kept_and_pushes_nobody_out(void **state)
{
    const struct keep_rule rule = only(1, 0, 0, 1);

    (void)state;
    add("2026-11-28T12:00:00.001Z", true);
    add("2026-11-28T12:00:00Z", true);
    add("2026-11-28T11:00:00Z", true);
    decide(&rule);
    assert_decided("2026-11-28T12:00:00.001Z", true, "future");
    assert_decided("2026-11-28T12:00:00Z", true, "newest verified of 2026-11-28");
    assert_decided("2026-11-28T11:00:00Z", false, "expired");
}

static void test_keep__two_systems_in_a_store__are_decided_each_on_its_own(void **state)
{
    const struct keep_rule rule = only(0, 0, 0, 1);

    (void)state;
    add("2026-11-28T05:00:00Z", true);
    add("2026-11-28T04:00:00Z", true);
    add("2020-01-02T00:00:00Z", true)->system_id = 8;
    add("2020-01-01T00:00:00Z", true)->system_id = 8;
    decide(&rule);
    assert_decided("2026-11-28T05:00:00Z", true, "");
    assert_decided("2026-11-28T04:00:00Z", false, "expired");
    assert_decided("2020-01-02T00:00:00Z", true, "");
    assert_decided("2020-01-01T00:00:00Z", false, "expired");
}

/* Chance lists under chance rules: what is promised holds, and a second run expires nothing more.
 */
static void check_promises(const struct keep_rule *rule)
{
    int last = 0;
    bool good = false;

    for (size_t i = 0; i < count; i++) {
        assert_true(list[i].reason[0] != '\0');
        assert_int_equal(list[i].keep, strncmp(list[i].reason, "expired", 7) != 0);
        assert_true(i == 0 || list[i - 1].stopped_ms >= list[i].stopped_ms);
        if (list[i].pin[0] != '\0' || last < rule->least)
            assert_true(list[i].keep);
        last++;
        if (list[i].verified && !good)
            assert_true(list[i].keep);
        good = good || list[i].verified;
    }
}

static void test_keep__any_list_and_rule__keeps_what_is_promised_and_settles(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        struct keep_rule rule = only((int)(rand_u64() % 6), (int)(rand_u64() % 4),
                                     (int)(rand_u64() % 4), (int)(rand_u64() % 4));
        size_t before, left = 0;

        count = 0;
        for (size_t i = rand_u64() % 60; i > 0; i--) {
            char text[CLOCK_ISO8601_SIZE];
            int64_t ago = (int64_t)(rand_u64() % (90 * (uint64_t)CALENDAR_DAY_MS));

            if (rand_u64() % 9 == 0)
                snprintf(add(clock_format_iso8601(ms_of(NOW) - ago, text), false)->pin,
                         PIN_NAME_SIZE, "operator");
            else
                add(clock_format_iso8601(ms_of(NOW) - ago, text), rand_u64() % 2 == 0);
        }
        decide(&rule);
        check_promises(&rule);
        before = kept();
        for (size_t i = 0; i < count; i++) {
            if (list[i].keep)
                list[left++] = list[i];
        }
        count = left;
        decide(&rule);
        assert_int_equal(kept(), before);
    }
}

#define TEST(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_keep__of_each_day__the_newest_verified_stays),
        TEST(test_keep__weeks__begin_on_monday_and_have_their_iso_number),
        TEST(test_keep__week_across_a_new_year__is_one),
        TEST(test_keep__months__are_those_of_the_calendar),
        TEST(test_keep__defaults_over_a_year__leave_seven_days_four_weeks_three_months),
        TEST(test_keep__days_without_snapshots__cost_no_place),
        TEST(test_keep__last_few__stay_verified_or_not),
        TEST(test_keep__last_good_one__stays_however_old),
        TEST(test_keep__rule_of_nothing__still_leaves_one),
        TEST(test_keep__days_of_which_none_was_verified__have_a_stand_in_that_takes_no_place),
        TEST(test_keep__where_nothing_is_ever_verified__days_are_kept_all_the_same),
        TEST(test_keep__pinned__stays_with_the_pin_as_reason_and_counts),
        TEST(test_keep__parents__may_go_and_their_objects_stay),
        TEST(test_keep__damaged_manifest__is_never_expired_and_no_last_good_one),
        TEST(test_keep__from_the_future__is_kept_and_pushes_nobody_out),
        TEST(test_keep__two_systems_in_a_store__are_decided_each_on_its_own),
        TEST(test_keep__any_list_and_rule__keeps_what_is_promised_and_settles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
