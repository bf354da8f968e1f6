#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/tmpdir.h"

/* --- reading and writing -------------------------------------------------------------------- */

static void assert_content(const char *path, const char *expected)
{
    char *data;
    size_t len;
    struct err err;

    assert_int_equal(file_read(path, 1000, &data, &len, &err), 0);
    assert_int_equal(len, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static void test_read__more_than_the_bound__is_refused(void **state)
{
    char *data;
    struct err err;

    (void)state;
    write_text(tmp_path("f"), "12345");
    assert_int_equal(file_read(tmp_path("f"), 5, &data, NULL, &err), 0);
    assert_string_equal(data, "12345");
    free(data);
    assert_int_equal(file_read(tmp_path("f"), 4, &data, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(data);
}

static void test_read__big_and_sizeless_files__come_whole(void **state)
{
    size_t len, big = 100000;
    char *text = xmalloc(big), *data;

    (void)state;
    memset(text, 'x', big);
    assert_int_equal(file_write_atomic(tmp_path("f"), text, big, 0600, NULL), 0);
    assert_int_equal(file_read(tmp_path("f"), big, &data, &len, NULL), 0);
    assert_int_equal(len, big);
    assert_memory_equal(data, text, big);
    free(data);
    free(text);
    /* Of /proc: st_size is 0. */
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &data, &len, NULL), 0);
    assert_non_null(strstr(data, "Pid:"));
    free(data);
}

static void test_read__missing_directory_fifo__are_errors(void **state)
{
    char *data;
    struct err err;

    (void)state;
    assert_int_equal(file_read(tmp_path("none"), 10, &data, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_int_equal(file_read(tmpdir, 10, &data, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(mkfifo(tmp_path("fifo"), 0600), 0);
    assert_int_equal(file_read(tmp_path("fifo"), 10, &data, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_write__mode__does_not_depend_on_the_umask(void **state)
{
    mode_t old = umask(0777);
    struct stat st;

    (void)state;
    assert_int_equal(file_write_atomic(tmp_path("f"), "x", 1, 0640, NULL), 0);
    umask(old);
    assert_int_equal(stat(tmp_path("f"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void test_write__leftover_and_link__are_replaced(void **state)
{
    (void)state;
    write_text(tmp_path("other"), "untouched");
    assert_int_equal(symlink(tmp_path("other"), tmp_path("f")), 0);
    assert_int_equal(symlink(tmp_path("other"), tmp_path("f.tmp")), 0);
    write_text(tmp_path("f"), "new");
    assert_content(tmp_path("f"), "new");
    assert_content(tmp_path("other"), "untouched");
    assert_false(file_exists(tmp_path("f.tmp")));
}

static void append_text(const char *path, const char *text)
{
    assert_int_equal(file_append(path, text, strlen(text), NULL), 0);
}

static void test_append__after_half_a_line__begins_a_new_one(void **state)
{
    const char *path = tmp_path("lines");
    int64_t size = -1;

    (void)state;
    assert_int_equal(file_size(path, &size, NULL), 0);
    assert_int_equal(size, 0);
    append_text(path, "one\n");
    append_text(path, "tw");
    append_text(path, "three\n");
    append_text(path, "four\n");
    assert_int_equal(file_sync(path, NULL), 0);
    assert_content(path, "one\ntw\nthree\nfour\n");
    assert_int_equal(file_size(path, &size, NULL), 0);
    assert_int_equal(size, 18);
}

static void test_append__to_what_is_no_file__is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(file_append(tmpdir, "x\n", 2, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(mkfifo(tmp_path("fifo"), 0600), 0);
    assert_int_equal(file_append(tmp_path("fifo"), "x\n", 2, &err), -1);
    assert_non_null(strstr(err.text, "is no regular file"));
    assert_int_equal(file_sync(tmp_path("none"), &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_write__no_directory__is_an_error(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(file_write_atomic(tmp_path("no/f"), "x", 1, 0600, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

/* --- directories ---------------------------------------------------------------------------- */

static void test_mkdir__parents__get_the_mode(void **state)
{
    mode_t old = umask(0077);
    struct stat st;
    struct err err;

    (void)state;
    assert_int_equal(file_mkdir_p(tmp_path("a//b/c/"), 0750, &err), 0);
    umask(old);
    assert_int_equal(stat(tmp_path("a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(stat(tmp_path("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(file_mkdir_p(tmp_path("a/b/c"), 0700, &err), 0);
    assert_int_equal(stat(tmp_path("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
}

static void test_mkdir__over_a_file__is_refused(void **state)
{
    struct err err;

    (void)state;
    write_text(tmp_path("f"), "x");
    assert_int_equal(file_mkdir_p(tmp_path("f"), 0700, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(file_mkdir_p(tmp_path("f/g"), 0700, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* tree/{file, sub/deep/file, link -> ../kept, dangling} and kept/file */
static void make_tree(void)
{
    assert_int_equal(file_mkdir_p(tmp_path("tree/sub/deep"), 0700, NULL), 0);
    assert_int_equal(file_mkdir_p(tmp_path("kept"), 0700, NULL), 0);
    write_text(tmp_path("tree/file"), "x");
    write_text(tmp_path("tree/sub/deep/file"), "x");
    write_text(tmp_path("kept/file"), "kept");
    assert_int_equal(symlink("../kept", tmp_path("tree/link")), 0);
    assert_int_equal(symlink("nowhere", tmp_path("tree/dangling")), 0);
}

static void test_remove_tree__links__are_not_followed(void **state)
{
    struct err err;

    (void)state;
    make_tree();
    assert_int_equal(file_remove_tree(tmp_path("tree"), &err), 0);
    assert_false(file_exists(tmp_path("tree")));
    assert_content(tmp_path("kept/file"), "kept");
    assert_int_equal(file_remove_tree(tmp_path("tree"), &err), 0);
}

static void test_remove_tree__itself_a_link__only_the_link_goes(void **state)
{
    (void)state;
    make_tree();
    assert_int_equal(symlink("tree", tmp_path("alias")), 0);
    assert_int_equal(file_remove_tree(tmp_path("alias"), NULL), 0);
    assert_false(file_exists(tmp_path("alias")));
    assert_true(file_exists(tmp_path("tree/sub/deep/file")));
}

static void test_remove_contents__directory__stays(void **state)
{
    (void)state;
    make_tree();
    assert_int_equal(symlink("kept", tmp_path("alias")), 0);
    assert_int_equal(file_remove_contents(tmp_path("alias"), NULL), -1);
    assert_content(tmp_path("kept/file"), "kept");
    assert_int_equal(file_remove_contents(tmp_path("tree"), NULL), 0);
    assert_true(file_exists(tmp_path("tree")));
    assert_false(file_exists(tmp_path("tree/sub")));
    assert_content(tmp_path("kept/file"), "kept");
}

static void test_remove__missing_file__is_no_error(void **state)
{
    (void)state;
    write_text(tmp_path("f"), "x");
    assert_int_equal(file_remove(tmp_path("f"), NULL), 0);
    assert_false(file_exists(tmp_path("f")));
    assert_int_equal(file_remove(tmp_path("f"), NULL), 0);
}

static void test_disk_space__of_a_directory__is_plausible(void **state)
{
    int64_t free_bytes = -1, total_bytes = -1;
    struct err err;

    (void)state;
    assert_int_equal(file_disk_space(tmpdir, &free_bytes, &total_bytes, &err), 0);
    assert_true(free_bytes >= 0 && total_bytes > 0 && free_bytes <= total_bytes);
    assert_int_equal(file_disk_space(tmp_path("none"), NULL, NULL, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

/* --- locks ---------------------------------------------------------------------------------- */

static void test_lock__held__names_the_holder(void **state)
{
    char expected[64];
    int fd, second;
    struct err err;

    (void)state;
    assert_int_equal(file_lock_acquire(tmp_path("lock"), &fd, &err), 0);
    assert_int_equal(file_lock_acquire(tmp_path("lock"), &second, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    snprintf(expected, sizeof(expected), "process %d ", (int)getpid());
    assert_non_null(strstr(err.text, expected));
    close(fd);
    assert_int_equal(file_lock_acquire(tmp_path("lock"), &second, &err), 0);
    close(second);
}

/* A child that runs cat(1) until its input ends, with or without the lock. */
static pid_t start_cat(int lock, bool inherit, int *input)
{
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[0], STDIN_FILENO);
        if (inherit && file_lock_inherit(lock) < 0)
            _exit(1);
        execlp("cat", "cat", (char *)NULL);
        _exit(1);
    }
    close(fds[0]);
    *input = fds[1];
    return pid;
}

/* Whether the lock is still held once the child runs cat and the parent has let go. */
static bool outlives_parent(bool inherit)
{
    int fd, again, input, status;
    char link[64], exe[4096] = "";
    bool held;
    pid_t pid;

    assert_int_equal(file_lock_acquire(tmp_path("lock"), &fd, NULL), 0);
    pid = start_cat(fd, inherit, &input);
    snprintf(link, sizeof(link), "/proc/%d/comm", (int)pid);
    while (strcmp(exe, "cat\n") != 0) { /* exec has happened; waitpid() below bounds a failed one */
        char *comm;

        assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
        assert_int_equal(file_read(link, 100, &comm, NULL, NULL), 0);
        snprintf(exe, sizeof(exe), "%s", comm);
        free(comm);
    }
    close(fd);
    held = file_lock_acquire(tmp_path("lock"), &again, NULL) < 0;
    if (!held)
        close(again);
    close(input);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(file_lock_acquire(tmp_path("lock"), &again, NULL), 0);
    close(again);
    return held;
}

static void test_lock__inherited__outlives_the_parent(void **state)
{
    (void)state;
    assert_true(outlives_parent(true));
}

static void test_lock__not_inherited__ends_with_the_parent(void **state)
{
    (void)state;
    assert_false(outlives_parent(false));
}

#define IN_TMPDIR(test) cmocka_unit_test_setup_teardown(test, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TMPDIR(test_read__more_than_the_bound__is_refused),
        IN_TMPDIR(test_read__big_and_sizeless_files__come_whole),
        IN_TMPDIR(test_read__missing_directory_fifo__are_errors),
        IN_TMPDIR(test_write__mode__does_not_depend_on_the_umask),
        IN_TMPDIR(test_write__leftover_and_link__are_replaced),
        IN_TMPDIR(test_append__after_half_a_line__begins_a_new_one),
        IN_TMPDIR(test_append__to_what_is_no_file__is_refused),
        IN_TMPDIR(test_write__no_directory__is_an_error),
        IN_TMPDIR(test_mkdir__parents__get_the_mode),
        IN_TMPDIR(test_mkdir__over_a_file__is_refused),
        IN_TMPDIR(test_remove_tree__links__are_not_followed),
        IN_TMPDIR(test_remove_tree__itself_a_link__only_the_link_goes),
        IN_TMPDIR(test_remove_contents__directory__stays),
        IN_TMPDIR(test_remove__missing_file__is_no_error),
        IN_TMPDIR(test_disk_space__of_a_directory__is_plausible),
        IN_TMPDIR(test_lock__held__names_the_holder),
        IN_TMPDIR(test_lock__inherited__outlives_the_parent),
        IN_TMPDIR(test_lock__not_inherited__ends_with_the_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
