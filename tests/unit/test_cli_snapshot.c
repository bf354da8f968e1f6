/* ogelctl snapshot, without a server: what it prints, and how it ends. */
#include "tests/unit/snapshot_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include "cli/commands.h"

static struct fixture f;

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    fixture_make(&f);
    setenv("OGEL_STORE", tmp_path("store"), 1);
    return 0;
}

static int teardown(void **state)
{
    unsetenv("OGEL_STORE");
    fixture_free(&f);
    return tmpdir_remove(state);
}

struct ran {
    enum ctl_exit rc;
    struct err err;
    char *out;
};

static struct ran ran;

/* The program's own order: options, then the command. */
static void run(const char *const *argv)
{
    const struct arg_row *tables[] = {ctl_global_options, cmd_snapshot.options, NULL};
    FILE *out = stdout, *errors = stderr;
    struct args args = {0};
    struct ctl ctl = {0};
    int argc = 0, at = 1;
    size_t size;

    while (argv[argc] != NULL)
        argc++;
    free(ran.out);
    memset(&ran, 0, sizeof(ran));
    assert_int_equal(
        args_parse(tables, argc, (char **)(uintptr_t)argv, &at, false, "ogelctl", &args, &ran.err),
        0);
    stdout = open_memstream(&ran.out, &size);
    stderr = fopen("/dev/null", "w");
    ran.rc = cmd_snapshot.run(&ctl, &args, &ran.err);
    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = errors;
}

#define RUN(...) run((const char *const[]){"snapshot", __VA_ARGS__, NULL})

static void test_snapshot__wrong_command_line__is_told_as_such(void **state)
{
    (void)state;
    RUN("make");
    assert_int_equal(ran.rc, CTL_USAGE);
    assert_non_null(strstr(ran.err.text, "create"));
    RUN("show");
    assert_int_equal(ran.rc, CTL_USAGE);
    RUN("list", "--store", "ftp://somewhere");
    assert_int_equal(ran.rc, CTL_USAGE);
    RUN("create");
    assert_int_equal(ran.rc, CTL_USAGE);
    assert_non_null(strstr(ran.err.text, "--conninfo"));
    RUN("create", "--conninfo", "host=/nowhere", "--level", "20");
    assert_int_equal(ran.rc, CTL_USAGE);
    RUN("create", "--conninfo", "host=/nowhere", "--max-rate", "1kB");
    assert_int_equal(ran.rc, CTL_USAGE);
    RUN("restore", FIXTURE_ID);
    assert_int_equal(ran.rc, CTL_USAGE);
    assert_non_null(strstr(ran.err.text, "--target"));
    RUN("restore", FIXTURE_ID, "--target", "/x", "--tablespace-mapping", "/only");
    assert_int_equal(ran.rc, CTL_USAGE);
    unsetenv("OGEL_STORE");
    RUN("list");
    assert_int_equal(ran.rc, CTL_USAGE);
    assert_non_null(strstr(ran.err.text, "OGEL_STORE"));
}

static void test_snapshot__list_and_show__tell_what_there_is(void **state)
{
    (void)state;
    RUN("list");
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(ran.out, FIXTURE_ID));
    RUN("show", FIXTURE_ID);
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(ran.out, "16385 at "));
    RUN("show", FIXTURE_ID, "-o", "json");
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(ran.out, "\"system_id\": \"7123456789012345678\""));
    RUN("verify", FIXTURE_ID);
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(ran.out, "verified"));
}

static void test_snapshot__each_end__has_its_exit_code(void **state)
{
    char key[STORE_KEY_MAX];

    (void)state;
    RUN("show", "20260203T040506Z-00000000");
    assert_int_equal(ran.rc, CTL_REFUSED);
    RUN("restore", FIXTURE_ID, "--target", tmpdir);
    assert_int_equal(ran.rc, CTL_REFUSED);
    RUN("create", "--conninfo", "host=/nowhere/at/all");
    assert_int_equal(ran.rc, CTL_STORE);
    pack_key(FIXTURE_ID, 0, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
    RUN("verify", FIXTURE_ID);
    assert_int_equal(ran.rc, CTL_DAMAGED);
    manifest_key(FIXTURE_ID, key);
    put_text(f.store, key, "rubbish");
    RUN("list");
    assert_int_equal(ran.rc, CTL_DAMAGED);
    assert_non_null(strstr(ran.out, FIXTURE_ID));
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
    RUN("list");
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(ran.out, "no snapshots"));
}

/* The lines that a command wrote to --progress-fd, whose number is put in place of the "%". */
static char *told(const char *const *argv)
{
    const char *with_fd[16] = {0};
    char number[16], *text = xcalloc(1, 65536);
    size_t used = 0;
    int pipes[2];
    ssize_t n;

    assert_int_equal(pipe(pipes), 0);
    assert_true(fcntl(pipes[1], F_SETPIPE_SZ, 65536) >= 65536);
    snprintf(number, sizeof(number), "%d", pipes[1]);
    for (int i = 0; argv[i] != NULL; i++)
        with_fd[i] = strcmp(argv[i], "%") == 0 ? number : argv[i];
    run(with_fd);
    while ((n = read(pipes[0], text + used, 65535 - used)) > 0)
        used += (size_t)n;
    close(pipes[0]);
    return text;
}

#define TOLD(...) told((const char *const[]){"snapshot", __VA_ARGS__, "--progress-fd", "%", NULL})

/* The last line, which must be the only one with a result. */
static json_t *last_line(const char *text)
{
    const char *end = strrchr(text, '\n'), *begin = end;
    json_t *json;

    assert_non_null(end);
    assert_int_equal(end[1], '\0');
    while (begin > text && begin[-1] != '\n')
        begin--;
    assert_ptr_equal(strstr(text, "{\"result\""), begin);
    json = json_loads(begin, 0, NULL);
    assert_non_null(json);
    return json;
}

static void test_snapshot__progress_fd__gets_progress_and_the_result_last(void **state)
{
    char *text = TOLD("verify", FIXTURE_ID);
    json_t *json = last_line(text), *result = json_object_get(json, "result");

    (void)state;
    assert_int_equal(ran.rc, CTL_OK);
    assert_non_null(strstr(text, "{\"phase\""));
    assert_true(json_is_null(json_object_get(json, "error")));
    assert_string_equal(json_string_value(json_object_get(result, "id")), FIXTURE_ID);
    assert_true(json_is_number(json_object_get(result, "ratio")));
    assert_null(json_object_get(result, "tablespaces"));
    json_decref(json);
    free(text);
}

static void test_snapshot__progress_fd__tells_every_failure(void **state)
{
    static const struct {
        const char *verb, *operand, *code;
    } cases[] = {
        {"verify", "20260203T040506Z-00000000", "not_found"},
        {"nonsense", FIXTURE_ID, "invalid"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = TOLD(cases[i].verb, cases[i].operand);
        json_t *json = last_line(text), *error = json_object_get(json, "error");

        assert_int_not_equal(ran.rc, CTL_OK);
        assert_true(json_is_null(json_object_get(json, "result")));
        assert_string_equal(json_string_value(json_object_get(error, "code")), cases[i].code);
        assert_string_equal(json_string_value(json_object_get(error, "text")), ran.err.text);
        json_decref(json);
        free(text);
    }
}

static void test_snapshot__progress_fd_that_is_none__is_refused(void **state)
{
    (void)state;
    RUN("list", "--progress-fd", "2");
    assert_int_equal(ran.rc, CTL_USAGE);
    RUN("list", "--progress-fd", "9999");
    assert_int_equal(ran.rc, CTL_USAGE);
    assert_non_null(strstr(ran.err.text, "9999"));
}

static int forget(void **state)
{
    (void)state;
    free(ran.out);
    ran.out = NULL;
    return 0;
}

#define WITH_SNAPSHOT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SNAPSHOT(test_snapshot__wrong_command_line__is_told_as_such),
        WITH_SNAPSHOT(test_snapshot__list_and_show__tell_what_there_is),
        WITH_SNAPSHOT(test_snapshot__each_end__has_its_exit_code),
        WITH_SNAPSHOT(test_snapshot__progress_fd__gets_progress_and_the_result_last),
        WITH_SNAPSHOT(test_snapshot__progress_fd__tells_every_failure),
        WITH_SNAPSHOT(test_snapshot__progress_fd_that_is_none__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, forget);
}
