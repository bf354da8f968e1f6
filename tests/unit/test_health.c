#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/health.h"

enum { ANY_LAG = -1, CHECKS = HEALTH_READINESS + 1 };

static struct report leader(void)
{
    return (struct report){.pg = PG_UP, .leading = true, .timeline = 7};
}

static struct report standby(void)
{
    return (struct report){.pg = PG_UP, .in_recovery = true, .receiver = {.streaming = true}};
}

static struct health view(const struct report *report)
{
    return (struct health){.report = report, .beat_max_ms = 1000};
}

static void assert_passes(const struct health *health, const char *expected)
{
    static const char letters[CHECKS + 1] = "plrosahLR";
    char got[CHECKS + 1] = "";
    size_t n = 0;

    for (int check = 0; check < CHECKS; check++)
        if (health_status(health, (enum health_check)check, ANY_LAG) == 200)
            got[n++] = letters[check];
    got[n] = '\0';
    assert_string_equal(got, expected);
}

static void test_health__a_leader__passes_primary_and_never_replica(void **state)
{
    struct report report = leader();
    struct health health = view(&report);

    (void)state;
    assert_passes(&health, "plohLR");
}

/* A frozen server has a process and a listening socket, and answers nobody. */
static void test_health__postgres_that_answers_nobody__is_alive_and_nothing_else(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    health.counted = true;
    report.local_probe_failing_ms = HEALTH_FAILING_MS - 1;
    assert_passes(&health, "roshLR");
    report.local_probe_failing_ms = HEALTH_FAILING_MS;
    assert_passes(&health, "L");
    report = leader();
    report.local_probe_failing_ms = HEALTH_FAILING_MS;
    assert_passes(&health, "L");
}

/* Out of recovery is not enough: a primary nobody granted must get no writes. */
static void test_health__a_primary_that_does_not_lead__gets_no_traffic(void **state)
{
    struct report report = leader();
    struct health health = view(&report);

    (void)state;
    report.leading = false;
    assert_passes(&health, "hL");
}

static void test_health__a_counted_standby__is_synchronous(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    health.counted = true;
    assert_passes(&health, "roshLR");
}

static void test_health__a_standby_that_is_not_counted__is_asynchronous(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    assert_passes(&health, "roahLR");
}

static void test_health__a_standby_that_does_not_stream__is_not_ready(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    report.receiver.streaming = false;
    assert_int_equal(health_status(&health, HEALTH_READINESS, ANY_LAG), 503);
    assert_int_equal(health_status(&health, HEALTH_REPLICA, ANY_LAG), 200);
}

static void test_health__a_stopped_postgres__passes_liveness_alone(void **state)
{
    static const enum pg_state states[] = {PG_ABSENT, PG_DOWN, PG_STARTING, PG_STOPPING,
                                           PG_CRASHED};
    struct report report = leader();
    struct health health = view(&report);

    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        report.pg = states[i];
        report.in_recovery = true;
        assert_passes(&health, "L");
    }
}

static void test_health__lag__is_compared_in_bytes(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    health.lag_known = true;
    health.lag_bytes = 16777216;
    assert_int_equal(health_status(&health, HEALTH_REPLICA, 16777216), 200);
    assert_int_equal(health_status(&health, HEALTH_REPLICA, 16777215), 503);
    assert_int_equal(health_status(&health, HEALTH_READ_ONLY, 16777215), 503);
    assert_int_equal(health_status(&health, HEALTH_ASYNCHRONOUS, 0), 503);
    assert_int_equal(health_status(&health, HEALTH_READINESS, 0), 503);
}

static void test_health__a_lag_that_is_not_known__is_too_great(void **state)
{
    struct report report = standby();
    struct health health = view(&report);

    (void)state;
    assert_int_equal(health_status(&health, HEALTH_REPLICA, INT64_MAX), 503);
}

/* A leader has no lag: ?lag= must not take it out of read-only. */
static void test_health__a_leader__is_read_only_whatever_the_lag(void **state)
{
    struct report report = leader();
    struct health health = view(&report);

    (void)state;
    assert_int_equal(health_status(&health, HEALTH_READ_ONLY, 0), 200);
}

static void test_health__liveness__fails_when_the_agent_stands_still(void **state)
{
    struct report report = leader();
    struct health health = view(&report);

    (void)state;
    health.beat_age_ms = 1000;
    assert_int_equal(health_status(&health, HEALTH_LIVENESS, ANY_LAG), 200);
    health.beat_age_ms = 1001;
    assert_int_equal(health_status(&health, HEALTH_LIVENESS, ANY_LAG), 503);
}

static void test_health__lag_parameter__takes_patronis_forms(void **state)
{
    int64_t lag = 0;
    struct err err = {0};

    (void)state;
    assert_int_equal(health_parse_lag(NULL, &lag, &err), 0);
    assert_int_equal(lag, -1);
    assert_int_equal(health_parse_lag("1048576", &lag, &err), 0);
    assert_int_equal(lag, 1048576);
    assert_int_equal(health_parse_lag("16MB", &lag, &err), 0);
    assert_int_equal(lag, 16777216);
    assert_int_equal(health_parse_lag("16 parsecs", &lag, &err), -1);
}

static void test_health__the_body__has_patronis_names(void **state)
{
    struct report report = standby();
    struct health health = view(&report);
    json_t *body, *xlog;

    (void)state;
    report.flush_lsn = 0x100000000;
    report.replay_lsn = 0xff;
    body = health_body(&health, "main", "n2");
    xlog = json_object_get(body, "xlog");
    assert_string_equal(json_string_value(json_object_get(body, "state")), "streaming");
    assert_string_equal(json_string_value(json_object_get(body, "role")), "replica");
    assert_string_equal(json_string_value(json_object_get(xlog, "received_location")), "1/0");
    assert_string_equal(json_string_value(json_object_get(xlog, "replayed_location")), "0/FF");
    json_decref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health__a_leader__passes_primary_and_never_replica),
        cmocka_unit_test(test_health__postgres_that_answers_nobody__is_alive_and_nothing_else),
        cmocka_unit_test(test_health__a_primary_that_does_not_lead__gets_no_traffic),
        cmocka_unit_test(test_health__a_counted_standby__is_synchronous),
        cmocka_unit_test(test_health__a_standby_that_is_not_counted__is_asynchronous),
        cmocka_unit_test(test_health__a_standby_that_does_not_stream__is_not_ready),
        cmocka_unit_test(test_health__a_stopped_postgres__passes_liveness_alone),
        cmocka_unit_test(test_health__lag__is_compared_in_bytes),
        cmocka_unit_test(test_health__a_lag_that_is_not_known__is_too_great),
        cmocka_unit_test(test_health__a_leader__is_read_only_whatever_the_lag),
        cmocka_unit_test(test_health__liveness__fails_when_the_agent_stands_still),
        cmocka_unit_test(test_health__lag_parameter__takes_patronis_forms),
        cmocka_unit_test(test_health__the_body__has_patronis_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
