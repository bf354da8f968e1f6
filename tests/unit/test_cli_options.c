/* Where ogelctl looks for its configuration, and what wins. */
#include "tests/unit/tmpdir.h"

#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/options.h"

static const char *const environment[] = {"HOME", "XDG_CONFIG_HOME", "OGELCTL_CONFIG"};

static int setup(void **state)
{
    if (tmpdir_make(state) != 0)
        return -1;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(environment); i++)
        unsetenv(environment[i]);
    return setenv("HOME", tmpdir, 1);
}

static void write_file(const char *name, const char *text)
{
    struct err err = {0};

    assert_int_equal(file_write_atomic(tmp_path(name), text, strlen(text), 0600, &err), 0);
}

static int load(struct ctl *ctl, struct err *err, const char *const *argv)
{
    const struct arg_row *const tables[] = {ctl_global_options, NULL};
    struct args args = {0};
    int argc = 0, at = 1;

    while (argv[argc] != NULL)
        argc++;
    *err = (struct err){0};
    assert_int_equal(
        args_parse(tables, argc, (char **)(uintptr_t)argv, &at, false, "ogelctl", &args, err), 0);
    return options_load(ctl, &args, err);
}

#define LOAD(ctl, err, ...) load(ctl, err, (const char *const[]){"ogelctl", __VA_ARGS__, NULL})

static void test_options__file_in_the_home_directory__is_found(void **state)
{
    struct err err = {0};
    struct ctl ctl;

    (void)state;
    assert_int_equal(file_mkdir_p(tmp_path(".config/ogel"), 0700, &err), 0);
    write_file(".config/ogel/ctl.yaml",
               "orchestrators: [\"10.0.0.1:7432\", \"[::1]:99\"]\ncluster: main\n");
    assert_int_equal(LOAD(&ctl, &err, "--yes"), 0);
    assert_int_equal(ctl.orchestrator_count, 2);
    assert_string_equal(ctl.orchestrators[0].host, "10.0.0.1");
    assert_string_equal(ctl.orchestrators[1].host, "::1");
    assert_int_equal(ctl.orchestrators[1].port, 99);
    assert_string_equal(ctl.cluster, "main");
    assert_true(ctl.yes);
}

static void test_options__command_line__wins_over_the_file(void **state)
{
    struct err err = {0};
    struct ctl ctl;

    (void)state;
    write_file("token", "admin-token-0123456789\n");
    write_file("ctl.yaml", "orchestrators: [\"10.0.0.1:1\"]\ncluster: main\ntoken: /no/such\n");
    assert_int_equal(LOAD(&ctl, &err, "--config", tmp_path("ctl.yaml"), "--cluster", "other",
                          "--orchestrator", "h:2", "--orchestrator", "h:3", "--token-file",
                          tmp_path("token"), "--timeout", "5s", "-o", "json"),
                     0);
    assert_string_equal(ctl.cluster, "other");
    assert_int_equal(ctl.orchestrator_count, 2);
    assert_int_equal(ctl.orchestrators[1].port, 3);
    assert_string_equal(ctl.token, "admin-token-0123456789");
    assert_int_equal(ctl.timeout_ms, 5000);
    assert_true(ctl.json);
}

static void test_options__nothing_at_all__means_the_orchestrator_of_this_machine(void **state)
{
    struct err err;
    struct ctl ctl;

    (void)state;
    assert_int_equal(LOAD(&ctl, &err, "--no-color"), 0);
    assert_int_equal(ctl.orchestrator_count, 1);
    assert_string_equal(ctl.orchestrators[0].host, "127.0.0.1");
    assert_int_equal(ctl.orchestrators[0].port, 7432);
    assert_string_equal(ctl.token, "");
}

static void test_options__file_of_the_environment_that_is_missing__is_an_error(void **state)
{
    struct err err;
    struct ctl ctl;

    (void)state;
    setenv("OGELCTL_CONFIG", "/no/such/ctl.yaml", 1);
    assert_int_equal(LOAD(&ctl, &err, "--no-color"), -1);
    assert_non_null(strstr(err.text, "/no/such/ctl.yaml"));
}

static void test_options__mistake_in_the_file__is_named_with_its_line(void **state)
{
    struct err err;
    struct ctl ctl;

    (void)state;
    write_file("ctl.yaml", "cluster: main\norchestrators: [\"not an address\"]\n");
    assert_int_equal(LOAD(&ctl, &err, "--config", tmp_path("ctl.yaml")), -1);
    assert_non_null(strstr(err.text, "ctl.yaml:2: option \"orchestrators[0]\""));
    write_file("ctl.yaml", "cluster: main\norchestrator: x\n");
    assert_int_equal(LOAD(&ctl, &err, "--config", tmp_path("ctl.yaml")), -1);
    assert_non_null(strstr(err.text, "ctl.yaml:2"));
}

static void test_options__token_that_others_may_read__is_refused(void **state)
{
    struct err err;
    struct ctl ctl;

    (void)state;
    write_file("token", "admin-token-0123456789\n");
    assert_int_equal(chmod(tmp_path("token"), 0644), 0);
    assert_int_equal(LOAD(&ctl, &err, "--token-file", tmp_path("token")), -1);
    assert_int_equal(err.code, ERR_AUTH);
    assert_non_null(strstr(err.text, "chmod 600"));
}

static void test_options__values_out_of_bounds__are_named(void **state)
{
    static const char *const wrong[][2] = {
        {"--output", "xml"}, {"--timeout", "5"}, {"--timeout", "10ms"}, {"--orchestrator", "a b"}};
    struct err err;
    struct ctl ctl;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++) {
        assert_int_equal(LOAD(&ctl, &err, wrong[i][0], wrong[i][1]), -1);
        assert_non_null(strstr(err.text, wrong[i][0]));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, tmpdir_remove)
    const struct CMUnitTest tests[] = {
        TEST(test_options__file_in_the_home_directory__is_found),
        TEST(test_options__command_line__wins_over_the_file),
        TEST(test_options__nothing_at_all__means_the_orchestrator_of_this_machine),
        TEST(test_options__file_of_the_environment_that_is_missing__is_an_error),
        TEST(test_options__mistake_in_the_file__is_named_with_its_line),
        TEST(test_options__token_that_others_may_read__is_refused),
        TEST(test_options__values_out_of_bounds__are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
