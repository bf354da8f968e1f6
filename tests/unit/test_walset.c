/* Which WAL came with a base backup. */
#include "tests/unit/tmpdir.h"

#include "snapshots/walset.h"

enum { SEGMENT = 16 * 1024 * 1024 };

static void note(struct wal_set *set, const char *path)
{
    wal_set_note(set, path, SEGMENT);
}

static void test_walset__all_segments_are_there(void **state)
{
    struct wal_set set = {0};
    struct err err = {0};

    (void)state;
    wal_set_begin(&set, SEGMENT, UINT64_C(0x1FE000028));
    note(&set, "pg_wal/0000000400000001000000FF"); /* whatever came before or after counts not */
    note(&set, "pg_wal/000000030000000200000000");
    note(&set, "pg_wal/0000000300000001000000FE");
    assert_int_equal(wal_set_check(&set, UINT64_C(0x200000100), &err), 0);
    assert_int_equal(wal_set_check(&set, UINT64_C(0x201000000), &err), 0); /* ends at its end */
    assert_int_equal(wal_set_check(&set, UINT64_C(0x201000001), &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    wal_set_free(&set);
}

static void test_walset__one_is_missing_or_not_whole__is_told(void **state)
{
    struct wal_set set = {0};
    struct err err = {0};

    (void)state;
    wal_set_begin(&set, SEGMENT, SEGMENT);
    note(&set, "pg_wal/000000010000000000000001");
    note(&set, "pg_wal/000000010000000000000003");
    wal_set_note(&set, "pg_wal/000000010000000000000002", SEGMENT - 1);
    note(&set, "pg_wal/000000010000000000000002.partial");
    note(&set, "pg_xact/000000010000000000000002");
    note(&set, "pg_wal/archive_status/000000010000000000000002");
    assert_int_equal(wal_set_check(&set, 3 * (uint64_t)SEGMENT + 1, &err), -1);
    assert_non_null(strstr(err.text, "segment number 2"));
    assert_int_equal(wal_set_check(&set, 2 * (uint64_t)SEGMENT, NULL), 0);
    wal_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walset__all_segments_are_there),
        cmocka_unit_test(test_walset__one_is_missing_or_not_whole__is_told),
    };

    return cmocka_run_group_tests_name("walset", tests, NULL, NULL);
}
