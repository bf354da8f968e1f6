#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"

static void test_err__set__fills_and_returns_minus_one(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(err_set(&err, ERR_TIMEOUT, "node %s is silent", "a"), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_string_equal(err.text, "node a is silent");
    err_clear(&err);
    assert_int_equal(err.code, ERR_NONE);
    assert_string_equal(err.text, "");
}

static void test_err__null__is_allowed_everywhere(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "x"), -1);
    assert_int_equal(err_set_errno(NULL, EIO, "x"), -1);
    assert_int_equal(err_context(NULL, "x"), -1);
    err_clear(NULL);
}

static void test_err__context__comes_before_and_keeps_the_code(void **state)
{
    struct err err;

    (void)state;
    err_set(&err, ERR_NO_SPACE, "disk full");
    assert_int_equal(err_context(&err, "promise of %s", "b"), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.text, "promise of b: disk full");
}

static void test_err__own_text_as_argument__is_safe(void **state)
{
    struct err err;

    (void)state;
    err_set(&err, ERR_IO, "inner");
    err_set(&err, ERR_INTERNAL, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
}

static void test_err__long_text__is_cut(void **state)
{
    char text[2000];
    struct err err;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    err_set(&err, ERR_IO, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    err_context(&err, "%s", text);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_err__errno__is_mapped_and_spelled_out(void **state)
{
    struct err err;

    (void)state;
    err_set_errno(&err, ENOSPC, "cannot write %s", "/x");
    assert_int_equal(err.code, ERR_NO_SPACE);
    assert_string_equal(err.text, "cannot write /x: No space left on device");
    err_set_errno(&err, ENOENT, "x");
    assert_int_equal(err.code, ERR_NOT_FOUND);
    err_set_errno(&err, EDQUOT, "x");
    assert_int_equal(err.code, ERR_NO_SPACE);
    err_set_errno(&err, EIO, "x");
    assert_int_equal(err.code, ERR_IO);
}

static void test_err__every_code__has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = ERR_NONE; a <= ERR_INTERNAL; a++) {
        assert_string_not_equal(err_code_name((enum err_code)a), "unknown");
        for (int b = ERR_NONE; b < a; b++)
            assert_string_not_equal(err_code_name((enum err_code)a),
                                    err_code_name((enum err_code)b));
    }
    assert_string_equal(err_code_name((enum err_code)1000), "unknown");
}

/* Runs ACT in a child; what it wrote to stderr goes to TEXT. */
static int child_status(void (*act)(void), char *text, size_t size)
{
    int fds[2], status;
    ssize_t got, len = 0;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka's handler would run the teardown twice */
        dup2(fds[1], STDERR_FILENO);
        act();
        _exit(0);
    }
    close(fds[1]);
    while ((got = read(fds[0], text + len, size - 1 - (size_t)len)) > 0)
        len += got;
    text[len] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void fail_check(void)
{
    OGEL_CHECK(1 + 1 == 3);
}

static void fail_die(void)
{
    die("a \"quoted\" %s", "reason");
}

/* Or it would report the overflow itself, in a sanitizer build. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void fail_memory(void)
{
    /* Not a constant, or the compiler would refuse it. */
    volatile size_t huge = SIZE_MAX / 4;

    free(xreallocarray(NULL, huge, 8));
}

static void test_check__false__logs_and_aborts(void **state)
{
    char text[2048];
    int status = child_status(fail_check, text, sizeof(text));

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "\"level\":\"fatal\""));
    assert_non_null(strstr(text, "1 + 1 == 3"));
}

static void test_die__quotes__are_escaped(void **state)
{
    char text[2048];
    int status = child_status(fail_die, text, sizeof(text));

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "\"error\":\"a \\\"quoted\\\" reason\"}\n"));
}

static void test_mem__size_overflow__aborts(void **state)
{
    char text[2048];
    int status = child_status(fail_memory, text, sizeof(text));

    (void)state;
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "out of memory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err__set__fills_and_returns_minus_one),
        cmocka_unit_test(test_err__null__is_allowed_everywhere),
        cmocka_unit_test(test_err__context__comes_before_and_keeps_the_code),
        cmocka_unit_test(test_err__own_text_as_argument__is_safe),
        cmocka_unit_test(test_err__long_text__is_cut),
        cmocka_unit_test(test_err__errno__is_mapped_and_spelled_out),
        cmocka_unit_test(test_err__every_code__has_a_name_of_its_own),
        cmocka_unit_test(test_check__false__logs_and_aborts),
        cmocka_unit_test(test_die__quotes__are_escaped),
        cmocka_unit_test(test_mem__size_overflow__aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
