/* Manifests: what was written comes back, and no damaged one is believed. */
#include "tests/unit/tmpdir.h"

#include "snapshots/manifest.h"

static struct manifest_tablespace tablespaces[] = {{16385, "/mnt/fast"},
                                                   {16386, "pg_tblspc/16386"}};

static struct manifest example(void)
{
    struct manifest manifest = {
        .id = "20260203T040506Z-1a2b3c4d",
        .parent = "20260202T040506Z-00000000",
        .tool = "0.1.0",
        .cluster = "main",
        .system_id = UINT64_C(18446744073709551557),
        .timeline = 5,
        .start_lsn = UINT64_C(0x1600000028),
        .stop_lsn = UINT64_C(0x1700000100),
        .postgres_version = 150018,
        .started_ms = 1770091506000,
        .stopped_ms = 1770091512000,
        .files = 970,
        .logical_bytes = 1u << 30,
        .slices = 8192,
        .zero_slices = 100,
        .reused_slices = 8000,
        .stored_bytes = 12345678,
        .packs = 1,
        .table_bytes = 4711,
        .tablespaces = tablespaces,
        .tablespace_count = 2,
    };

    memset(manifest.table_digest, 0xab, sizeof(manifest.table_digest));
    return manifest;
}

static void test_manifest__every_field__comes_back(void **state)
{
    struct manifest written = example(), read;
    size_t len;
    char *data = manifest_encode(&written, &len);

    (void)state;
    assert_int_equal(manifest_decode(data, len, &read, NULL), 0);
    assert_string_equal(read.tablespaces[0].location, "/mnt/fast");
    assert_int_equal(read.tablespaces[1].oid, 16386);
    free(read.tablespaces);
    read.tablespaces = tablespaces;
    assert_memory_equal(&read, &written, sizeof(read));
    free(data);
}

static void test_manifest__any_flipped_bit__is_noticed(void **state)
{
    struct manifest manifest = example();
    size_t len;
    char *data = manifest_encode(&manifest, &len);

    (void)state;
    for (size_t bit = 0; bit < len * 8; bit++) {
        struct err err = {0};

        data[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(manifest_decode(data, len, &manifest, &err), -1);
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_INVALID);
        assert_null(manifest.tablespaces);
        data[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(data);
}

static void test_manifest__cut_anywhere_or_longer__is_noticed(void **state)
{
    struct manifest manifest = example();
    struct err err;
    size_t len;
    char *data = manifest_encode(&manifest, &len);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(manifest_decode(data, cut, &manifest, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
    /* The NUL behind it is one byte too many. */
    assert_int_equal(manifest_decode(data, len + 1, &manifest, &err), -1);
    free(data);
}

static void test_manifest__of_a_newer_format__says_so(void **state)
{
    struct manifest manifest = example();
    struct err err = {0};
    size_t len;
    char *data = manifest_encode(&manifest, &len);

    (void)state;
    data[strlen("ogel-snapshot ")] = '2';
    assert_int_equal(manifest_decode(data, len, &manifest, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "format 2"));
    free(data);
}

static void test_id__made_from_a_time__sorts_by_it(void **state)
{
    char early[SNAPSHOT_ID_SIZE], late[SNAPSHOT_ID_SIZE];

    (void)state;
    snapshot_id_make(1770091506000, early);
    snapshot_id_make(1770091507000, late);
    assert_true(snapshot_id_valid(early));
    assert_memory_equal(early, "20260203T040506Z-", 17);
    assert_true(strcmp(early, late) < 0);
}

static void test_id__of_another_form__is_not_valid(void **state)
{
    const char *const wrong[] = {"",
                                 "x",
                                 "20260203T040506Z-1a2b3c4",
                                 "20260203T040506Z-1a2b3c4d5",
                                 "20260203t040506Z-1a2b3c4d",
                                 "20260203T040506Z-1A2b3c4d",
                                 "../../../../etc/passwd/xx"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++)
        assert_false(snapshot_id_valid(wrong[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest__every_field__comes_back),
        cmocka_unit_test(test_manifest__any_flipped_bit__is_noticed),
        cmocka_unit_test(test_manifest__cut_anywhere_or_longer__is_noticed),
        cmocka_unit_test(test_manifest__of_a_newer_format__says_so),
        cmocka_unit_test(test_id__made_from_a_time__sorts_by_it),
        cmocka_unit_test(test_id__of_another_form__is_not_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
