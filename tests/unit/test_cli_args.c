#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "cli/args.h"

static const struct arg_row global[] = {
    {"output", 'o', "FORMAT", "", NULL, false},
    {"host", 0, "HOST", "", NULL, false},
    {"yes", 'y', NULL, "", NULL, false},
    {0},
};

static const struct arg_row own[] = {
    {"to", 0, "NODE", "", NULL, false},
    {0},
};

static const struct arg_row *const tables[] = {global, own, NULL};

static int parse(struct args *args, struct err *err, bool stop, int *at, const char *const *argv)
{
    int argc = 0;

    while (argv[argc] != NULL)
        argc++;
    *args = (struct args){0};
    *err = (struct err){0};
    *at = 1;
    return args_parse(tables, argc, (char **)(uintptr_t)argv, at, stop, "ogelctl test", args, err);
}

#define PARSE(args, err, stop, at, ...)                                                            \
    parse(args, err, stop, at, (const char *const[]){"ogelctl", __VA_ARGS__, NULL})

static void test_args__options_and_operands_mixed__are_told_apart(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "restart", "--to", "n1", "n2", "-ojson", "-y"),
                     0);
    assert_int_equal(args.operand_count, 2);
    assert_string_equal(args.operands[0], "restart");
    assert_string_equal(args.operands[1], "n2");
    assert_string_equal(args_value(&args, "to"), "n1");
    assert_string_equal(args_value(&args, "output"), "json");
    assert_true(args_given(&args, "yes"));
    assert_null(args.rest);
}

static void test_args__stop__ends_at_the_first_operand(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, true, &at, "-o", "json", "status", "--to", "n1"), 0);
    assert_int_equal(at, 3);
    assert_false(args_given(&args, "to"));
}

static void test_args__what_stands_behind_two_hyphens__is_left_alone(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "--yes", "--", "psql", "--to", "-X"), 0);
    assert_int_equal(args.operand_count, 0);
    assert_string_equal(args.rest[0], "psql");
    assert_string_equal(args.rest[1], "--to");
    assert_string_equal(args.rest[2], "-X");
    assert_null(args.rest[3]);
}

static void test_args__two_hyphens_as_a_value__are_the_value(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "--to", "--", "n2"), 0);
    assert_string_equal(args_value(&args, "to"), "--");
    assert_null(args.rest);
    assert_string_equal(args.operands[0], "n2");
}

static void test_args__repeated_option__gives_all_and_the_last(void **state)
{
    struct args args;
    struct err err;
    int at, next = 0;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "--host", "a", "--yes", "--host=b"), 0);
    assert_string_equal(args_value(&args, "host"), "b");
    assert_string_equal(args_next(&args, "host", &next), "a");
    assert_string_equal(args_next(&args, "host", &next), "b");
    assert_null(args_next(&args, "host", &next));
}

static void test_args__unknown_option__is_named_with_the_program(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "--frobnicate"), -1);
    assert_non_null(strstr(err.text, "\"--frobnicate\""));
    assert_non_null(strstr(err.text, "ogelctl test --help"));
    assert_int_equal(PARSE(&args, &err, false, &at, "-x"), -1);
    assert_non_null(strstr(err.text, "\"-x\""));
}

static void test_args__missing_value__is_named(void **state)
{
    struct args args;
    struct err err;
    int at;

    (void)state;
    assert_int_equal(PARSE(&args, &err, false, &at, "--to"), -1);
    assert_non_null(strstr(err.text, "\"--to\" needs a value"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args__options_and_operands_mixed__are_told_apart),
        cmocka_unit_test(test_args__stop__ends_at_the_first_operand),
        cmocka_unit_test(test_args__what_stands_behind_two_hyphens__is_left_alone),
        cmocka_unit_test(test_args__two_hyphens_as_a_value__are_the_value),
        cmocka_unit_test(test_args__repeated_option__gives_all_and_the_last),
        cmocka_unit_test(test_args__unknown_option__is_named_with_the_program),
        cmocka_unit_test(test_args__missing_value__is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
