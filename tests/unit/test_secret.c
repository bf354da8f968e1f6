#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tmpdir.h"

#include "base/secret.h"

static const char *make(const char *content, mode_t mode)
{
    const char *path = tmp_path("token");
    struct err err;

    assert_int_equal(file_write_atomic(path, content, strlen(content), mode, &err), 0);
    return path;
}

static void test_secret__private_file__gives_its_line(void **state)
{
    static const char *const contents[] = {"s3cret:\\x y", "s3cret:\\x y\n", "s3cret:\\x y\r\n"};
    char buf[64];
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(contents); i++) {
        assert_int_equal(secret_read_file(make(contents[i], 0600), buf, sizeof(buf), &err), 0);
        assert_string_equal(buf, "s3cret:\\x y");
    }
}

static void test_secret__open_mode__is_refused_with_the_cure(void **state)
{
    static const mode_t modes[] = {0604, 0602, 0601, 0620, 0610, 0666};
    char buf[64];
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(modes); i++) {
        const char *path = make("s3cret", modes[i]);

        strcpy(buf, "x");
        assert_int_equal(secret_read_file(path, buf, sizeof(buf), &err), -1);
        assert_int_equal(err.code, ERR_AUTH);
        assert_non_null(strstr(err.text, "chmod 600"));
        assert_non_null(strstr(err.text, path));
        assert_null(strstr(err.text, "s3cret"));
        assert_string_equal(buf, "");
    }
}

static void test_secret__group_read__only_where_root_owns_it(void **state)
{
    char buf[64];
    struct err err;
    const char *path = make("s3cret", 0640);

    (void)state;
    if (geteuid() != 0) {
        assert_int_equal(secret_read_file(path, buf, sizeof(buf), &err), -1);
        assert_int_equal(err.code, ERR_AUTH);
        return;
    }
    assert_int_equal(secret_read_file(path, buf, sizeof(buf), &err), 0);
    assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
    assert_int_equal(secret_read_file(path, buf, sizeof(buf), &err), -1);
    assert_int_equal(err.code, ERR_AUTH);
}

static void test_secret__bad_content__is_refused_without_quoting_it(void **state)
{
    static const char *const contents[] = {"", "\n", "two\nlines\n", "tab\there",
                                           "0123456789abcdef"};
    char buf[16];
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(contents); i++) {
        assert_int_equal(secret_read_file(make(contents[i], 0600), buf, sizeof(buf), &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(strstr(err.text, "lines\n"));
        assert_null(strstr(err.text, "0123456789abcdef"));
        for (size_t j = 0; j < sizeof(buf); j++)
            assert_int_equal(buf[j], 0);
    }
}

static void test_secret__longest_that_fits__is_read(void **state)
{
    char buf[16];

    (void)state;
    assert_int_equal(secret_read_file(make("0123456789abcde", 0600), buf, sizeof(buf), NULL), 0);
    assert_string_equal(buf, "0123456789abcde");
}

static void test_secret__no_file_or_no_regular_one__is_an_error(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(secret_check_file(tmp_path("none"), &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(mkfifo(tmp_path("fifo"), 0600), 0);
    assert_int_equal(secret_check_file(tmp_path("fifo"), &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(secret_check_file(make("x", 0600), &err), 0);
}

static void test_secret__equal__compares_the_whole_text(void **state)
{
    (void)state;
    assert_true(secret_equal("abc", "abc"));
    assert_true(secret_equal("", ""));
    assert_false(secret_equal("abc", "abd"));
    assert_false(secret_equal("abc", "abcd"));
    assert_false(secret_equal("", "a"));
}

static void test_secret__generated__is_long_plain_and_new(void **state)
{
    char a[33], b[33];

    (void)state;
    secret_generate(a, sizeof(a));
    secret_generate(b, sizeof(b));
    assert_int_equal(strlen(a), 32);
    assert_int_equal(strspn(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"),
                     32);
    assert_string_not_equal(a, b);
}

#define IN_TMPDIR(test) cmocka_unit_test_setup_teardown(test, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TMPDIR(test_secret__private_file__gives_its_line),
        IN_TMPDIR(test_secret__open_mode__is_refused_with_the_cure),
        IN_TMPDIR(test_secret__group_read__only_where_root_owns_it),
        IN_TMPDIR(test_secret__bad_content__is_refused_without_quoting_it),
        IN_TMPDIR(test_secret__longest_that_fits__is_read),
        IN_TMPDIR(test_secret__no_file_or_no_regular_one__is_an_error),
        cmocka_unit_test(test_secret__equal__compares_the_whole_text),
        cmocka_unit_test(test_secret__generated__is_long_plain_and_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
