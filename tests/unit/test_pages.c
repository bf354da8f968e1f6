/* Checksums of pages, beside those of a real server. */
#include "tests/unit/tmpdir.h"

#include <string.h>

#include "snapshots/pages.h"

static char pages[2 * PAGE_SIZE_DEFAULT];

/* Of no meaning, but the same as was given to the server's own function (extension pageinspect):
 * page_checksum(). */
static void make_pattern(char *page)
{
    for (int i = 0; i < PAGE_SIZE_DEFAULT; i++)
        page[i] = (char)((i * 7 + i / 256 * 13) % 251);
}

static void test_checksum__is_the_servers(void **state)
{
    char page[PAGE_SIZE_DEFAULT];

    (void)state;
    make_pattern(page);
    assert_int_equal(page_checksum(page, 0), 17584);
    assert_int_equal(page_checksum(page, 1), 17583);
    assert_int_equal(page_checksum(page, 131072), 17586);
    assert_int_equal(page_checksum(page, UINT32_MAX - 131072), 47951);
}

/* Page NUMBER at its place, with its checksum. */
static void make_page(int place, uint32_t number, uint64_t lsn)
{
    char *page = pages + (size_t)place * PAGE_SIZE_DEFAULT;
    uint32_t halves[2] = {(uint32_t)(lsn >> 32), (uint32_t)lsn};
    uint16_t checksum;

    make_pattern(page);
    memcpy(page, halves, sizeof(halves));
    checksum = page_checksum(page, number);
    memcpy(page + 8, &checksum, sizeof(checksum));
}

static void test_fit__pages_at_their_place(void **state)
{
    uint32_t bad;

    (void)state;
    make_page(0, 16, 1000);
    make_page(1, 17, UINT64_C(0x200000000));
    assert_true(pages_fit(pages, sizeof(pages), 16, 0, UINT64_MAX, &bad));
    assert_false(pages_fit(pages, sizeof(pages), 17, 0, UINT64_MAX, &bad));
    assert_int_equal(bad, 17);
}

static void test_fit__one_bit_wrong__is_named(void **state)
{
    uint32_t bad;

    (void)state;
    make_page(0, 16, 1000);
    make_page(1, 17, 1000);
    pages[PAGE_SIZE_DEFAULT + 5000] ^= 4;
    assert_false(pages_fit(pages, sizeof(pages), 16, 0, UINT64_MAX, &bad));
    assert_int_equal(bad, 17);
}

static void test_fit__written_outside_of_the_range_of_lsns__is_not_looked_at(void **state)
{
    static const struct {
        uint64_t since, before;
        bool fits;
    } cases[] = {{0, 1000, true},
                 {0, 1001, false},
                 {1000, 1001, false},
                 {1001, 2000, true},
                 {0, UINT64_MAX, false}};
    uint32_t bad;

    (void)state;
    make_page(0, 16, 1000);
    make_page(1, 17, 1000);
    pages[5000] ^= 4;
    pages[PAGE_SIZE_DEFAULT + 5000] ^= 4;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(pages_fit(pages, sizeof(pages), 16, cases[i].since, cases[i].before, &bad),
                         cases[i].fits);
}

static void test_fit__never_initialised_or_not_whole__has_no_checksum(void **state)
{
    uint32_t bad;

    (void)state;
    memset(pages, 0, sizeof(pages));
    pages[100] = 1;
    assert_true(pages_fit(pages, PAGE_SIZE_DEFAULT, 0, 0, UINT64_MAX, &bad));
    make_page(0, 16, 1000);
    pages[5000] ^= 4;
    assert_true(pages_fit(pages, PAGE_SIZE_DEFAULT - 1, 16, 0, UINT64_MAX, &bad));
}

static void test_in__files_of_relations_and_their_segments(void **state)
{
    static const struct {
        const char *path;
        bool pages;
        uint32_t first;
    } cases[] = {
        {"base/5/16384", true, 0},
        {"base/5/16384.1", true, 131072},
        {"base/5/16384_fsm", true, 0},
        {"base/5/16384_vm.3", true, 3 * 131072},
        {"base/5/16384_init", true, 0},
        {"global/1262", true, 0},
        {"pg_tblspc/16400/PG_15_202209061/5/16401.2", true, 2 * 131072},
        {"base/5/16384.32767", true, UINT32_C(32767) * 131072},
        {"base/5/16384.99999999999999999999", false, 0},
        {"base/5/16384.", false, 0},
        {"base/5/16384.1x", false, 0},
        {"base/5/PG_VERSION", false, 0},
        {"base/5/pg_filenode.map", false, 0},
        {"global/pg_control", false, 0},
        {"pg_wal/000000010000000000000001", false, 0},
        {"pg_xact/0000", false, 0},
        {"base/5/t3_16384", false, 0},
        {"base/5/16384_old", false, 0},
        {"base/5/16384_vmx", false, 0},
        {"16384", false, 0},
        {"", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t first = 1;

        assert_int_equal(pages_in(cases[i].path, &first), cases[i].pages);
        if (cases[i].pages)
            assert_int_equal(first, cases[i].first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum__is_the_servers),
        cmocka_unit_test(test_fit__pages_at_their_place),
        cmocka_unit_test(test_fit__one_bit_wrong__is_named),
        cmocka_unit_test(test_fit__written_outside_of_the_range_of_lsns__is_not_looked_at),
        cmocka_unit_test(test_fit__never_initialised_or_not_whole__has_no_checksum),
        cmocka_unit_test(test_in__files_of_relations_and_their_segments),
    };

    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
