#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/units.h"

static void test_duration__each_unit__is_milliseconds(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"250ms", 250}, {"1s", 1000},    {"5min", 300000}, {"2h", 7200000},    {"1d", 86400000},
        {"1.5s", 1500}, {"10 s", 10000}, {"0", 0},         {"0.25min", 15000}, {"0s", 0},
    };

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        int64_t ms = -1;

        assert_int_equal(units_parse_duration(cases[i].text, &ms, NULL), 0);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void test_duration__bare_number__is_refused_with_the_units(void **state)
{
    int64_t ms = 7;
    struct err err;

    (void)state;
    assert_int_equal(units_parse_duration("10", &ms, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.text, "\"10\" has no unit (allowed: a number with ms, s, min, h or d, "
                                  "like 250ms)");
    assert_int_equal(ms, 7);
}

static void test_duration__anything_else__is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "s",
                                      "-1s",
                                      "1m",
                                      "1 minute",
                                      "1S",
                                      "1s ",
                                      " 1s",
                                      "1..5s",
                                      "1.s",
                                      ".5s",
                                      "0x10s",
                                      "1e3s",
                                      "1s1ms",
                                      "nan",
                                      "99999999999999999999s",
                                      "9223372036854775807d"};
    int64_t ms = 7;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        assert_int_equal(units_parse_duration(bad[i], &ms, NULL), -1);
        assert_int_equal(ms, 7);
    }
}

static void test_duration__formatted__parses_back(void **state)
{
    static const int64_t cases[] = {0,     1,      250,     1000,     1500,
                                    60000, 300000, 7200000, 86400000, 86400001};
    char text[UNITS_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        int64_t ms = -1;

        assert_int_equal(units_parse_duration(units_format_duration(cases[i], text), &ms, NULL), 0);
        assert_int_equal(ms, cases[i]);
    }
    assert_string_equal(units_format_duration(300000, text), "5min");
    assert_string_equal(units_format_duration(1500, text), "1500ms");
}

static void test_size__spellings_of_the_field__are_bytes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"16MB", 16777216}, {"1GB", 1073741824},   {"512 kB", 524288},
        {"512KB", 524288},  {"1mb", 1048576},      {"1048576", 1048576},
        {"8192B", 8192},    {"1.5GB", 1610612736}, {"1TB", INT64_C(1) << 40},
        {"0", 0},
    };

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        int64_t bytes = -1;

        assert_int_equal(units_parse_size(cases[i].text, &bytes, NULL), 0);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void test_size__anything_else__is_refused(void **state)
{
    static const char *const bad[] = {"",          "MB", "-1",    "1.5", "1 ",
                                      "1MiB",      "1M", "16MBx", "1XB", "9223372036854775808",
                                      "99999999TB"};
    int64_t bytes = 7;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        assert_int_equal(units_parse_size(bad[i], &bytes, NULL), -1);
        assert_int_equal(bytes, 7);
    }
}

static void test_size__formatted__parses_back(void **state)
{
    static const int64_t cases[] = {0, 1, 1000, 1024, 16777216, 1610612736, INT64_C(5) << 40};
    char text[UNITS_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        int64_t bytes = -1;

        assert_int_equal(units_parse_size(units_format_size(cases[i], text), &bytes, NULL), 0);
        assert_int_equal(bytes, cases[i]);
    }
    assert_string_equal(units_format_size(16777216, text), "16MB");
}

static void test_lsn__as_postgres_writes_it__goes_both_ways(void **state)
{
    char text[UNITS_TEXT_SIZE];
    uint64_t lsn;

    (void)state;
    assert_int_equal(units_parse_lsn("16/B374D848", &lsn, NULL), 0);
    assert_true(lsn == UINT64_C(0x16B374D848));
    assert_string_equal(units_format_lsn(lsn, text), "16/B374D848");
    assert_int_equal(units_parse_lsn("ffffffff/ffffffff", &lsn, NULL), 0);
    assert_true(lsn == UINT64_MAX);
    assert_string_equal(units_format_lsn(0, text), "0/0");
}

static void test_lsn__anything_else__is_refused(void **state)
{
    static const char *const bad[] = {
        "", "0", "0/", "/0", "0/0 ", "0/0/0", "123456789/0", "0/123456789", "0/-1", "0x1/0", "g/0"};
    uint64_t lsn = 7;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        assert_int_equal(units_parse_lsn(bad[i], &lsn, NULL), -1);
        assert_true(lsn == 7);
    }
}

static void test_int__limits_of_the_type__are_numbers(void **state)
{
    int64_t value;

    (void)state;
    assert_int_equal(units_parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &value, NULL),
                     0);
    assert_true(value == INT64_MIN);
    assert_int_equal(units_parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &value, NULL), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(units_parse_int("9223372036854775808", INT64_MIN, INT64_MAX, &value, NULL),
                     -1);
    assert_int_equal(units_parse_int("-", INT64_MIN, INT64_MAX, &value, NULL), -1);
    assert_int_equal(units_parse_int("1 ", 0, 10, &value, NULL), -1);
}

static void test_address__name_v4_and_v6__go_both_ways(void **state)
{
    static const char *const good[] = {"localhost:5432", "10.0.0.1:1", "[2001:db8::1]:65535",
                                       "node_1.example-x.org:80"};
    struct units_address address;
    char text[UNITS_ADDRESS_SIZE];

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(good); i++) {
        assert_int_equal(units_parse_address(good[i], 0, &address, NULL), 0);
        assert_string_equal(units_format_address(&address, text), good[i]);
    }
    assert_int_equal(units_parse_address("[::1]:5432", 0, &address, NULL), 0);
    assert_string_equal(address.host, "::1");
    assert_int_equal(address.port, 5432);
    assert_int_equal(units_parse_address("db", 5432, &address, NULL), 0);
    assert_int_equal(address.port, 5432);
}

static void test_address__anything_else__is_refused(void **state)
{
    static const char *const bad[] = {"",        "host",     ":1",        "host:",     "host:0",
                                      "h:65536", "::1:5432", "[::1]5432", "[::1:5432", "[zz]:1",
                                      "h o:1",   "-h:1",     "h:1x",      "h/x:1",     "a'b:1"};
    struct units_address address = {.port = 7};
    char longer[400];

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++)
        assert_int_equal(units_parse_address(bad[i], 0, &address, NULL), -1);
    memset(longer, 'a', sizeof(longer));
    strcpy(longer + 300, ":1");
    assert_int_equal(units_parse_address(longer, 0, &address, NULL), -1);
    assert_int_equal(address.port, 7);
}

static void test_clock__iso8601__goes_both_ways(void **state)
{
    char text[CLOCK_ISO8601_SIZE];
    int64_t ms;

    (void)state;
    assert_string_equal(clock_format_iso8601(1770091506789, text), "2026-02-03T04:05:06.789Z");
    assert_int_equal(clock_parse_iso8601(text, &ms, NULL), 0);
    assert_true(ms == 1770091506789);
    assert_int_equal(clock_parse_iso8601("2024-02-29T00:00:00Z", &ms, NULL), 0);
    assert_string_equal(clock_format_iso8601(-5, text), "1970-01-01T00:00:00.000Z");
    assert_string_equal(clock_format_iso8601(INT64_MAX, text), "1970-01-01T00:00:00.000Z");
}

static void test_clock__no_such_time__is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "2026-02-03",
                                      "2026-02-03T04:05:06",
                                      "2026-02-03T04:05:06.Z",
                                      "2026-02-30T04:05:06Z",
                                      "2026-02-03T24:05:06Z",
                                      "2026-02-03T04:05:06+01:00",
                                      "2026-02-03 04:05:06Z"};
    int64_t ms = 7;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++)
        assert_int_equal(clock_parse_iso8601(bad[i], &ms, NULL), -1);
    assert_true(ms == 7);
}

static void test_clock__time__goes_forward(void **state)
{
    int64_t us = clock_mono_us(), ms = clock_mono_ms(), boot_ms = clock_boot_ms();

    (void)state;
    assert_true(clock_mono_us() >= us);
    assert_true(clock_mono_ms() >= ms && ms >= us / 1000);
    assert_true(clock_boot_ms() >= boot_ms);
    assert_true(clock_wall_ms() > 1700000000000);
}

static void test_rand__two_draws__differ(void **state)
{
    (void)state;
    assert_true(rand_u64() != rand_u64());
    for (int i = 0; i < 1000; i++)
        assert_true(rand_below(3) < 3);
    assert_true(rand_below(1) == 0);
}

static void test_rand__hex__goes_both_ways(void **state)
{
    uint8_t bytes[4] = {0};
    char text[9];

    (void)state;
    assert_int_equal(rand_hex_parse("00fFa910", bytes, 4, NULL), 0);
    assert_string_equal(rand_hex_format(bytes, 4, text), "00ffa910");
    assert_int_equal(rand_hex_parse("00ffa91", bytes, 4, NULL), -1);
    assert_int_equal(rand_hex_parse("00ffa9100", bytes, 4, NULL), -1);
    assert_int_equal(rand_hex_parse("00ffa91x", bytes, 4, NULL), -1);
}

static void test_rand__uuid__goes_both_ways(void **state)
{
    uint8_t uuid[RAND_UUID_BYTES], again[RAND_UUID_BYTES];
    char text[RAND_UUID_SIZE];

    (void)state;
    rand_uuid(uuid);
    rand_uuid_format(uuid, text);
    assert_int_equal(strlen(text), 36);
    assert_int_equal(text[14], '4');
    assert_int_equal(rand_uuid_parse(text, again, NULL), 0);
    assert_memory_equal(uuid, again, RAND_UUID_BYTES);
    text[8] = '0';
    assert_int_equal(rand_uuid_parse(text, again, NULL), -1);
    assert_int_equal(rand_uuid_parse("", again, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_duration__each_unit__is_milliseconds),
        cmocka_unit_test(test_duration__bare_number__is_refused_with_the_units),
        cmocka_unit_test(test_duration__anything_else__is_refused),
        cmocka_unit_test(test_duration__formatted__parses_back),
        cmocka_unit_test(test_size__spellings_of_the_field__are_bytes),
        cmocka_unit_test(test_size__anything_else__is_refused),
        cmocka_unit_test(test_size__formatted__parses_back),
        cmocka_unit_test(test_lsn__as_postgres_writes_it__goes_both_ways),
        cmocka_unit_test(test_lsn__anything_else__is_refused),
        cmocka_unit_test(test_int__limits_of_the_type__are_numbers),
        cmocka_unit_test(test_address__name_v4_and_v6__go_both_ways),
        cmocka_unit_test(test_address__anything_else__is_refused),
        cmocka_unit_test(test_clock__iso8601__goes_both_ways),
        cmocka_unit_test(test_clock__no_such_time__is_refused),
        cmocka_unit_test(test_clock__time__goes_forward),
        cmocka_unit_test(test_rand__two_draws__differ),
        cmocka_unit_test(test_rand__hex__goes_both_ways),
        cmocka_unit_test(test_rand__uuid__goes_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
