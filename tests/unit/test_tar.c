/* The tar stream of a base backup: the same whatever pieces it comes in. */
#include "tests/unit/tar_maker.h"
#include "tests/unit/tmpdir.h"

struct heard {
    char text[512];
    uint64_t bytes;
};

static void hear(struct heard *heard, const char *text)
{
    size_t len = strlen(heard->text);

    snprintf(heard->text + len, sizeof(heard->text) - len, "%s", text);
}

static int on_begin(void *arg, const struct tar_entry *entry, struct err *err)
{
    char text[200];

    (void)err;
    snprintf(text, sizeof(text), "<%c %s %llu", entry->type, entry->name,
             (unsigned long long)entry->size);
    hear(arg, text);
    return 0;
}

static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct heard *heard = arg;

    (void)err;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(data[i], 'a' + (char)(heard->bytes++ % 26));
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    struct heard *heard = arg;
    char text[32];

    (void)err;
    snprintf(text, sizeof(text), " %llu>", (unsigned long long)heard->bytes);
    heard->bytes = 0;
    hear(heard, text);
    return 0;
}

static const struct tar_handler handler = {on_begin, on_data, on_end};

static size_t add_file(char *at, const char *name, size_t size)
{
    size_t padded = (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;

    tar_header(at, name, '0', size);
    memset(at + TAR_BLOCK, 0, padded);
    for (size_t i = 0; i < size; i++)
        at[TAR_BLOCK + i] = (char)('a' + i % 26);
    return TAR_BLOCK + padded;
}

static size_t make_archive(char *at)
{
    char *begin = at;

    tar_header(at, "base/", '5', 0);
    at += TAR_BLOCK;
    at += add_file(at, "base/1", 700);
    at += add_file(at, "./empty", 0);
    tar_header(at, "pg_tblspc/16385", '2', 0);
    at += TAR_BLOCK;
    at += add_file(at, "full", 1024);
    memset(at, 0, 2 * TAR_BLOCK);
    return (size_t)(at - begin) + 2 * TAR_BLOCK;
}

static void test_tar__any_split__gives_the_same_entries(void **state)
{
    static char archive[16 * TAR_BLOCK];
    size_t len = make_archive(archive);

    (void)state;
    for (size_t step = 1; step <= len; step += step < 20 ? 1 : 37) {
        struct heard heard = {0};
        struct tar tar = {0};

        for (size_t at = 0; at < len; at += step)
            assert_int_equal(tar_feed(&tar, archive + at, len - at < step ? len - at : step,
                                      &handler, &heard, NULL),
                             0);
        assert_int_equal(tar_end(&tar, NULL), 0);
        assert_string_equal(heard.text,
                            "<5 base 0<0 base/1 700 700><0 empty 0 0><2 pg_tblspc/16385 0"
                            "<0 full 1024 1024>");
    }
}

static void test_tar__file_of_more_than_eight_gigabytes__has_its_size(void **state)
{
    char header[TAR_BLOCK];
    struct heard heard = {0};
    struct tar tar = {0};

    (void)state;
    tar_header(header, "big", '0', UINT64_C(1) << 33);
    assert_int_equal(tar_feed(&tar, header, sizeof(header), &handler, &heard, NULL), 0);
    assert_string_equal(heard.text, "<0 big 8589934592");
}

static void test_tar__cut_in_a_file__is_noticed(void **state)
{
    static char archive[16 * TAR_BLOCK];
    struct heard heard = {0};
    struct tar tar = {0};
    struct err err = {0};

    (void)state;
    make_archive(archive);
    assert_int_equal(tar_feed(&tar, archive, 2 * TAR_BLOCK + 100, &handler, &heard, NULL), 0);
    assert_int_equal(tar_end(&tar, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_tar__header_with_any_damaged_byte__is_refused(void **state)
{
    char header[TAR_BLOCK];

    (void)state;
    tar_header(header, "base/1", '0', 700);
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        struct heard heard = {0};
        struct tar tar = {0};
        struct err err = {0};

        header[i] ^= 1;
        /* The end of the checksum's own field says nothing. */
        if (tar_feed(&tar, header, TAR_BLOCK, &handler, &heard, &err) == 0)
            assert_true(i == 155);
        else
            assert_int_equal(err.code, ERR_CORRUPT);
        header[i] ^= 1;
    }
}

static void test_tar__entry_that_a_server_never_sends__is_refused(void **state)
{
    struct heard heard = {0};
    char header[TAR_BLOCK];
    struct err err = {0};

    (void)state;
    tar_header(header, "device", '4', 0);
    assert_int_equal(tar_feed(&(struct tar){0}, header, TAR_BLOCK, &handler, &heard, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    tar_header(header, "", '0', 0);
    assert_int_equal(tar_feed(&(struct tar){0}, header, TAR_BLOCK, &handler, &heard, &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tar__any_split__gives_the_same_entries),
        cmocka_unit_test(test_tar__file_of_more_than_eight_gigabytes__has_its_size),
        cmocka_unit_test(test_tar__cut_in_a_file__is_noticed),
        cmocka_unit_test(test_tar__header_with_any_damaged_byte__is_refused),
        cmocka_unit_test(test_tar__entry_that_a_server_never_sends__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
