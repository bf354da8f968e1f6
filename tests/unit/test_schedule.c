/* When snapshots are due. */
#include "tests/unit/tmpdir.h"

#include <time.h>

#include "base/clock.h"
#include "base/rand.h"
#include "snapshots/calendar.h"
#include "snapshots/schedule.h"

static struct schedule parsed(const char *text)
{
    struct schedule schedule;
    struct err err = {0};

    if (schedule_parse(text, &schedule, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    return schedule;
}

static int64_t ms_of(const char *time)
{
    int64_t ms = 0;

    assert_int_equal(clock_parse_iso8601(time, &ms, NULL), 0);
    return ms;
}

static void assert_next(const char *text, const char *after, const char *expected)
{
    struct schedule schedule = parsed(text);
    char found[CLOCK_ISO8601_SIZE];

    clock_format_iso8601(schedule_next(&schedule, ms_of(after)), found);
    if (ms_of(expected) != ms_of(found))
        fail_msg("%s after %s: %s, not %s", text, after, found, expected);
}

static void test_schedule__every__is_due_at_multiples_whenever_it_is_asked(void **state)
{
    (void)state;
    assert_next("every 5min", "2026-11-27T10:02:00Z", "2026-11-27T10:05:00Z");
    assert_next("every 5min", "2026-11-27T10:04:59.999Z", "2026-11-27T10:05:00Z");
    assert_next("every 5min", "2026-11-27T10:05:00Z", "2026-11-27T10:10:00Z");
    assert_next(" every \t 1h", "2026-11-27T23:59:00Z", "2026-11-28T00:00:00Z");
    assert_next("every 1d", "2026-11-27T10:00:00Z", "2026-11-28T00:00:00Z");
    assert_next("every 1.5 min", "1970-01-01T00:00:00Z", "1970-01-01T00:01:30Z");
    assert_next("every 31d", "1970-01-01T00:00:00Z", "1970-02-01T00:00:00Z");
}

static void test_schedule__cron_fields__are_due_as_cron_says(void **state)
{
    (void)state;
    assert_next("0 3 * * *", "2026-11-27T02:59:59Z", "2026-11-27T03:00:00Z");
    assert_next("0 3 * * *", "2026-11-27T03:00:00Z", "2026-11-28T03:00:00Z");
    assert_next("*/15 * * * *", "2026-11-27T10:16:00Z", "2026-11-27T10:30:00Z");
    assert_next("5/20 * * * *", "2026-11-27T10:26:00Z", "2026-11-27T10:45:00Z");
    assert_next("10,20,40-50/5 8-10 * * *", "2026-11-27T10:46:00Z", "2026-11-27T10:50:00Z");
    assert_next("10,20,40-50/5 8-10 * * *", "2026-11-27T10:50:00Z", "2026-11-28T08:10:00Z");
    assert_next("30 2 * * 7", "2026-11-27T00:00:00Z", "2026-11-29T02:30:00Z"); /* a Sunday */
    assert_next("30 2 * * 0", "2026-11-27T00:00:00Z", "2026-11-29T02:30:00Z");
    assert_next("0 0 1 1 *", "2026-11-27T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_next("59 23 31 12 *", "2026-12-31T23:58:59Z", "2026-12-31T23:59:00Z");
    assert_next("0 0 31 * *", "2026-11-27T00:00:00Z", "2026-12-31T00:00:00Z");
    assert_next("\t0  3 *\t* * ", "2026-11-27T00:00:00Z", "2026-11-27T03:00:00Z");
}

static void test_schedule__day_and_weekday_both_named__are_alternatives(void **state)
{
    (void)state;
    assert_next("0 0 13 * 5", "2026-11-08T00:00:00Z", "2026-11-13T00:00:00Z");
    assert_next("0 0 13 * 5", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"); /* a Friday */
    assert_next("0 0 13 * 5", "2026-12-12T00:00:00Z", "2026-12-13T00:00:00Z"); /* a Sunday */
    /* A field that begins with "*" is no restriction of its own kind: both must hold. */
    assert_next("0 0 */2 * 1", "2026-11-27T00:00:00Z", "2026-12-07T00:00:00Z");
}

static void test_schedule__leap_days__come_when_they_come(void **state)
{
    (void)state;
    assert_next("0 12 29 2 *", "2026-11-27T00:00:00Z", "2028-02-29T12:00:00Z");
    assert_next("0 12 29 2 *", "2096-02-29T12:00:00Z", "2104-02-29T12:00:00Z"); /* 2100 has none */
    assert_next("0 0 29 2 1", "2026-01-31T00:00:00Z", "2026-02-02T00:00:00Z");
}

static void test_schedule__what_is_none__is_refused_and_leaves_the_old_one(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "MINUTE HOUR"},
        {"hourly", "MINUTE HOUR"},
        {"0 3 * *", "MINUTE HOUR"},
        {"0 3 * * * *", "MINUTE HOUR"},
        {"every", "MINUTE HOUR"},
        {"every 5", "unit"},
        {"every 59s", "1min to 31d"},
        {"every 32d", "1min to 31d"},
        {"every5min", "MINUTE HOUR"},
        {"60 * * * *", "minute"},
        {"* 24 * * *", "hour"},
        {"* * 0 * *", "day"},
        {"* * 32 * *", "day"},
        {"* * * 13 *", "month"},
        {"* * * 0 *", "month"},
        {"* * * * 8", "weekday"},
        {"* * * * mon", "weekday"},
        {"5-1 * * * *", "minute"},
        {"*/0 * * * *", "minute"},
        {"1,,2 * * * *", "minute"},
        {"1, * * * *", "minute"},
        {"1- * * * *", "minute"},
        {"*5 * * * *", "minute"},
        {"-1 * * * *", "minute"},
        {"99999999999 * * * *", "minute"},
        {"0 0 31 2 *", "never comes"},
        {"0 0 31 4,6,9,11 *", "never comes"},
    };

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        struct schedule schedule = {.every_ms = 77};
        struct err err = {0};

        assert_int_equal(schedule_parse(cases[i].text, &schedule, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        if (strstr(err.text, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, err.text);
        assert_int_equal(schedule.every_ms, 77);
    }
}

/* Against the C library, minute by minute, on chance schedules: nothing in between is skipped. */
static bool due(const struct schedule *schedule, int64_t ms)
{
    time_t seconds = ms / 1000;
    bool day, weekday;
    struct tm tm;

    gmtime_r(&seconds, &tm);
    day = schedule->days >> tm.tm_mday & 1;
    weekday = schedule->weekdays >> tm.tm_wday & 1;
    return (schedule->minutes >> tm.tm_min & 1) && (schedule->hours >> tm.tm_hour & 1) &&
           (schedule->months >> (tm.tm_mon + 1) & 1) &&
           (schedule->any_day || schedule->any_weekday ? day && weekday : day || weekday);
}

static void test_schedule__next__is_the_first_minute_that_matches(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        char text[80];
        struct schedule schedule;
        int64_t from = (int64_t)(rand_u64() % 4102444800) * 1000, next, at;

        snprintf(text, sizeof(text), "%d-59/%d %d,%d %s %d-12 %s", (int)(rand_u64() % 60),
                 (int)(rand_u64() % 20 + 1), (int)(rand_u64() % 24), (int)(rand_u64() % 24),
                 rand_u64() % 2 ? "*" : "5,28", (int)(rand_u64() % 12 + 1),
                 rand_u64() % 2 ? "*" : "2-4");
        schedule = parsed(text);
        next = schedule_next(&schedule, from);
        assert_true(next > from && due(&schedule, next));
        /* Two weeks of minutes are looked at one by one. */
        for (at = (from / 60000 + 1) * 60000; at < next && at < from + 14 * CALENDAR_DAY_MS;
             at += 60000) {
            if (due(&schedule, at))
                fail_msg("%s: %lld is due and was skipped", text, (long long)at);
        }
    }
}

static void test_calendar__every_day_until_2200__is_that_of_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 84006; day++) {
        struct calendar_date date = calendar_date_of(day);
        time_t seconds = day * 86400;
        char week[16], iso[32];
        struct tm tm;
        int year, number;

        gmtime_r(&seconds, &tm);
        assert_int_equal(date.year, tm.tm_year + 1900);
        assert_int_equal(date.month, tm.tm_mon + 1);
        assert_int_equal(date.day, tm.tm_mday);
        assert_int_equal(calendar_weekday(day), tm.tm_wday);
        calendar_iso_week(day, &year, &number);
        snprintf(week, sizeof(week), "%04d-%02d", year, number);
        strftime(iso, sizeof(iso), "%G-%V", &tm);
        if (day >= 4) /* the first week began in 1969 */
            assert_string_equal(week, iso);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule__every__is_due_at_multiples_whenever_it_is_asked),
        cmocka_unit_test(test_schedule__cron_fields__are_due_as_cron_says),
        cmocka_unit_test(test_schedule__day_and_weekday_both_named__are_alternatives),
        cmocka_unit_test(test_schedule__leap_days__come_when_they_come),
        cmocka_unit_test(test_schedule__what_is_none__is_refused_and_leaves_the_old_one),
        cmocka_unit_test(test_schedule__next__is_the_first_minute_that_matches),
        cmocka_unit_test(test_calendar__every_day_until_2200__is_that_of_the_c_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
