/* The store's names and URLs, and a directory as its backend. */
#include "tests/unit/store_contract.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/io_ops.h"
#include "snapshots/store_internal.h"

static struct store *store;

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    return store_open(tmp_path("store"), NULL, &store, NULL);
}

static int teardown(void **state)
{
    io_ops = &io_ops_system;
    store_close(store);
    return tmpdir_remove(state);
}

static void test_url__of_no_known_kind__is_refused_with_what_is_allowed(void **state)
{
    const char *const wrong[] = {"",
                                 "relative/dir",
                                 "ftp://x/y",
                                 "file://relative",
                                 "file:///",
                                 "/",
                                 "s3://",
                                 "s3://host",
                                 "s3://host/",
                                 "s3:///bucket",
                                 "s3://h/b/../x",
                                 "s3+http://h/b/ x",
                                 "s3://key:secret@host/bucket"};
    struct store *none;
    struct err err;

    (void)state;
    setenv("AWS_ACCESS_KEY_ID", "key", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++) {
        err_clear(&err);
        assert_int_equal(store_open(wrong[i], NULL, &none, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(strstr(err.text, "key:secret"));
    }
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
}

static void test_key__that_could_leave_the_store__is_not_valid(void **state)
{
    const char *const wrong[] = {"",     "/",      "/a",    "a/",  "a//b", ".",    "..",
                                 "../a", "a/../b", "a/./b", "a b", "a\n",  "a%2f", "a*"};
    const char *const right[] = {"a", "a/b", "a.b/c-d_e", ".a/..b"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++)
        assert_false(store_key_valid(wrong[i]));
    for (size_t i = 0; i < OGEL_ARRAY_LEN(right); i++)
        assert_true(store_key_valid(right[i]));
}

static void test_file__object__is_read_whole_and_in_ranges(void **state)
{
    (void)state;
    contract_get(store);
}

static void test_file__missing_object__is_not_found(void **state)
{
    (void)state;
    contract_missing(store);
}

static void test_file__list__names_what_is_below_the_prefix(void **state)
{
    (void)state;
    contract_list(store);
}

static void test_file__big_object__comes_back(void **state)
{
    (void)state;
    contract_big(store);
}

static void test_file__put__replaces_and_put_new_does_not(void **state)
{
    const struct store_body body = {.data = "new", .size = 3};
    struct err err = {0};

    (void)state;
    put_text(store, "a", "old");
    put_text(store, "a", "newer");
    assert_object(store, "a", "newer");
    assert_true(store_has_put_new(store));
    assert_int_equal(store_put_new(store, "a", &body, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_object(store, "a", "newer");
    must(store_put_new(store, "b", &body, CONTRACT_MS, &err_));
    assert_object(store, "b", "new");
}

static void test_file__objects__are_private(void **state)
{
    struct stat st;

    (void)state;
    put_text(store, "a/b", "x");
    assert_int_equal(stat(tmp_path("store/objects/a/b"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(tmp_path("store/objects/a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_file__link_in_place_of_an_object__is_not_followed(void **state)
{
    struct err err = {0};
    uint64_t size;

    (void)state;
    put_text(store, "a/b", "x");
    assert_int_equal(symlink("/etc/passwd", tmp_path("store/objects/a/link")), 0);
    assert_int_equal(store_head(store, "a/link", &size, CONTRACT_MS, &err), -1);
}

/* --- every call that makes it durable, failing ---------------------------------------------- */

static int calls_left, fail_errno;

static bool fails(void)
{
    if (calls_left-- != 0)
        return false;
    errno = fail_errno;
    return true;
}

static ssize_t failing_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return fails() ? -1 : pwrite(fd, buf, len, offset);
}

static int failing_fsync(int fd)
{
    return fails() ? -1 : fsync(fd);
}

static int failing_rename(const char *from, const char *to)
{
    return fails() ? -1 : rename(from, to);
}

static void test_file__put_that_fails_anywhere__leaves_the_old_object_or_the_new(void **state)
{
    const struct store_body body = {.data = "new", .size = 3};
    struct io_ops failing = io_ops_system;
    int failures = 0;

    (void)state;
    failing.pwrite = failing_pwrite;
    failing.fsync = failing_fsync;
    failing.rename = failing_rename;
    for (int call = 0; call < 8; call++) {
        struct contract_list list = {0};
        struct err err = {0};
        int rc;

        put_text(store, "a/b", "old");
        calls_left = call;
        fail_errno = call % 2 ? EIO : ENOSPC;
        io_ops = &failing;
        rc = store_put(store, "a/b", &body, CONTRACT_MS, &err);
        io_ops = &io_ops_system;
        if (rc < 0) {
            failures++;
            assert_int_equal(err.code, call % 2 ? ERR_IO : ERR_NO_SPACE);
        } else {
            assert_object(store, "a/b", "new");
        }
        must(store_list(store, "", contract_note, &list, CONTRACT_MS, &err_));
        assert_int_equal(list.count, 1);
        assert_int_equal(list.bytes, 3);
    }
    /* Write, sync, rename, sync of the directory. */
    assert_int_equal(failures, 4);
}

#define IN_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url__of_no_known_kind__is_refused_with_what_is_allowed),
        cmocka_unit_test(test_key__that_could_leave_the_store__is_not_valid),
        IN_STORE(test_file__object__is_read_whole_and_in_ranges),
        IN_STORE(test_file__missing_object__is_not_found),
        IN_STORE(test_file__list__names_what_is_below_the_prefix),
        IN_STORE(test_file__big_object__comes_back),
        IN_STORE(test_file__put__replaces_and_put_new_does_not),
        IN_STORE(test_file__objects__are_private),
        IN_STORE(test_file__link_in_place_of_an_object__is_not_followed),
        IN_STORE(test_file__put_that_fails_anywhere__leaves_the_old_object_or_the_new),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
