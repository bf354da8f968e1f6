/* Names that carry meaning between nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "protocol/names.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const LONGEST_ID = "n123456789abcdef";

static void test_node_id__lower_case_letter_then_letters_and_digits__is_valid(void **state)
{
    const char *const good[] = {"n1", "a", "db7eu", LONGEST_ID};
    const char *const bad[] = {
        "", "1n", "N1", "n-1", "n_1", "n 1", "n1\n", "nä1", "n.1", "_n", "n123456789abcdefg"};

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++)
        assert_true(node_id_valid(good[i]));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(node_id_valid(bad[i]));
}

static void test_replication_name__counted_or_not__differs_in_its_end(void **state)
{
    char name[REPLICATION_NAME_SIZE];

    (void)state;
    replication_name(name, "n1", 2, 17, true);
    assert_string_equal(name, "ogel_n1_i2_g17");
    replication_name(name, "n1", 2, 17, false);
    assert_string_equal(name, "ogel_n1_i2_g17_x");
    replication_role(name, "n1", 2);
    assert_string_equal(name, "ogel_n1_i2");
}

static void test_replication_name__longest__is_not_cut_by_postgres(void **state)
{
    char name[REPLICATION_NAME_SIZE];

    (void)state;
    replication_name(name, LONGEST_ID, UINT32_MAX, UINT32_MAX, false);
    assert_string_equal(name, "ogel_n123456789abcdef_i4294967295_g4294967295_x");
    assert_true(strlen(name) <= 63);
}

static void test_replication_name__parsed__gives_what_went_in(void **state)
{
    const char *const ids[] = {"n1", "a", LONGEST_ID, "i1", "g2", "x"};
    const uint32_t numbers[] = {1, 9, 10, 4294967295u};

    (void)state;
    for (size_t i = 0; i < COUNT(ids) * COUNT(numbers) * COUNT(numbers) * 2; i++) {
        const char *id = ids[i % COUNT(ids)];
        uint32_t incarnation = numbers[i / COUNT(ids) % COUNT(numbers)];
        uint32_t generation = numbers[i / COUNT(ids) / COUNT(numbers) % COUNT(numbers)];
        bool counted = i % 2 == 0, parsed_counted = !counted;
        char name[REPLICATION_NAME_SIZE], parsed_id[NODE_ID_SIZE];
        uint32_t parsed_incarnation, parsed_generation;

        replication_name(name, id, incarnation, generation, counted);
        assert_true(replication_name_parse(name, parsed_id, &parsed_incarnation, &parsed_generation,
                                           &parsed_counted));
        assert_string_equal(parsed_id, id);
        assert_int_equal(parsed_incarnation, incarnation);
        assert_int_equal(parsed_generation, generation);
        assert_int_equal(parsed_counted, counted);
    }
}

static void test_replication_name__any_other_name__is_refused_and_touches_nothing(void **state)
{
    const char *const bad[] = {
        "",
        "ogel_",
        "walreceiver",
        "pg_basebackup",
        "ogel_nobody",
        "ogel_n1",
        "ogel_n1_i2",
        "ogel_n1_i2_g",
        "ogel_n1_i_g3",
        "ogel_n1_i0_g3",
        "ogel_n1_i2_g0",
        "ogel_n1_i02_g3",
        "ogel_n1_i2_g03",
        "ogel_n1_i-2_g3",
        "ogel_n1_i+2_g3",
        "ogel_n1_i2_g3_",
        "ogel_n1_i2_g3_y",
        "ogel_n1_i2_g3_xx",
        "ogel_n1_i2_g3 ",
        " ogel_n1_i2_g3",
        "ogel_N1_i2_g3",
        "OGEL_n1_i2_g3",
        "ogel_1n_i2_g3",
        "ogel__i2_g3",
        "ogel_n1_g3_i2",
        "ogel_n1_i4294967296_g3",
        "ogel_n1_i2_g4294967296",
        "ogel_n1_i2_g99999999999999999999999999999999999",
        "ogel_n123456789abcdefg_i2_g3",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        char id[NODE_ID_SIZE] = "untouched";
        uint32_t incarnation = 77, generation = 88;
        bool counted = true;

        assert_false(replication_name_parse(bad[i], id, &incarnation, &generation, &counted));
        assert_string_equal(id, "untouched");
        assert_int_equal(incarnation, 77);
        assert_int_equal(generation, 88);
        assert_true(counted);
    }
}

static void test_words__last_value_of_each_enum__has_the_last_word(void **state)
{
    (void)state;
    assert_string_equal(role_name(ROLE_NONE), "none");
    assert_string_equal(role_name(ROLE_FOLLOWER), "follower");
    assert_null(role_names[ROLE_FOLLOWER + 1]);
    assert_string_equal(pg_state_name(PG_CRASHED), "crashed");
    assert_null(pg_state_names[PG_CRASHED + 1]);
    assert_string_equal(marker_name(MARKER_RESTORE), "restore");
    assert_null(marker_names[MARKER_RESTORE + 1]);
    assert_string_equal(probe_verdict_name(PROBE_BROKEN), "broken");
    assert_null(probe_verdict_names[PROBE_BROKEN + 1]);
    assert_string_equal(job_kind_name(JOB_REINIT), "reinit");
    assert_null(job_kind_names[JOB_REINIT + 1]);
    assert_string_equal(job_state_name(JOB_FAILED), "failed");
    assert_null(job_state_names[JOB_FAILED + 1]);
}

static void test_words__value_out_of_range__is_unknown(void **state)
{
    (void)state;
    assert_string_equal(role_name((enum role)(ROLE_FOLLOWER + 1)), "unknown");
    assert_string_equal(pg_state_name((enum pg_state)1000), "unknown");
    assert_string_equal(marker_name((enum marker) - 1), "unknown");
    assert_string_equal(job_state_name((enum job_state)(JOB_FAILED + 1)), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_id__lower_case_letter_then_letters_and_digits__is_valid),
        cmocka_unit_test(test_replication_name__counted_or_not__differs_in_its_end),
        cmocka_unit_test(test_replication_name__longest__is_not_cut_by_postgres),
        cmocka_unit_test(test_replication_name__parsed__gives_what_went_in),
        cmocka_unit_test(test_replication_name__any_other_name__is_refused_and_touches_nothing),
        cmocka_unit_test(test_words__last_value_of_each_enum__has_the_last_word),
        cmocka_unit_test(test_words__value_out_of_range__is_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
