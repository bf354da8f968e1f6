/* Snapshot tasks: what is asked for, what the child says, what is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/task.h"
#include "base/json.h"

#define ID "00000000000000a1"

static struct task task;
static struct task_output output;

static int setup(void **state)
{
    struct task_request request = {.id = ID, .kind = TASK_CREATE, .store = "/srv/store"};

    (void)state;
    task_begin(&task, &request, 5000, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    task_output_free(&output);
    task_free(&task);
    return 0;
}

static int parse(const char *text, struct task_request *request, struct err *err)
{
    json_t *json = json_loads(text, 0, NULL);
    int rc;

    assert_non_null(json);
    *err = (struct err){0};
    rc = task_request_parse(json, request, err);
    json_decref(json);
    return rc;
}

static void test_task_request__all_of_it__is_read(void **state)
{
    struct task_request request;
    struct err err;

    (void)state;
    assert_int_equal(parse("{\"id\":\"" ID
                           "\",\"kind\":\"gc\",\"store\":\"s3://h:9000/b/p\",\"who\":\"me\","
                           "\"options\":{\"level\":7,\"max_rate\":\"50MB\",\"parent\":\"none\","
                           "\"keep\":{\"daily\":7,\"least\":0}}}",
                           &request, &err),
                     0);
    assert_int_equal(request.kind, TASK_GC);
    assert_int_equal(request.level, 7);
    assert_string_equal(request.max_rate, "50MB");
    assert_string_equal(request.parent, "none");
    assert_string_equal(request.who, "me");
    assert_int_equal(request.keep[KEEP_DAILY], 7);
    assert_int_equal(request.keep[KEEP_WEEKLY], -1);
    assert_int_equal(request.keep[KEEP_LEAST], 0);
}

static void test_task_request__anything_wrong__names_its_field(void **state)
{
    static const struct {
        const char *body, *says;
    } cases[] = {
        {"{}", "\"id\""},
        {"{\"id\":\"xyz\",\"kind\":\"gc\",\"store\":\"/s\"}", "\"id\""},
        {"{\"id\":\"" ID "\",\"store\":\"/s\"}", "\"kind\""},
        {"{\"id\":\"" ID "\",\"kind\":\"restore\",\"store\":\"/s\"}", "\"kind\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\"}", "\"store\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"relative\"}", "\"store\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"/with blank\"}", "\"store\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"s3://k:s@h/b\"}", "credentials_file"},
        {"{\"id\":\"" ID "\",\"kind\":\"verify\",\"store\":\"/s\"}", "\"snapshot\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"/s\",\"snapshot\":"
         "\"20260203T040506Z-1a2b3c4d\"}",
         "\"snapshot\""},
        {"{\"id\":\"" ID "\",\"kind\":\"drill\",\"store\":\"/s\",\"snapshot\":\"--store\"}",
         "\"snapshot\""},
        {"{\"id\":\"" ID "\",\"kind\":\"create\",\"store\":\"/s\",\"options\":{\"parent\":\"-x\"}}",
         "\"parent\""},
        {"{\"id\":\"" ID "\",\"kind\":\"create\",\"store\":\"/s\",\"options\":{\"level\":0}}",
         "\"level\""},
        {"{\"id\":\"" ID "\",\"kind\":\"create\",\"store\":\"/s\",\"options\":{\"max_rate\":"
         "\"2GB\"}}",
         "\"max_rate\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"/s\",\"options\":{\"keep\":{\"least\":"
         "\"5\"}}}",
         "\"least\""},
        {"{\"id\":\"" ID "\",\"kind\":\"gc\",\"store\":\"/s\",\"extra\":1}", "\"extra\""},
    };
    struct task_request request;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].body, &request, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].body, err.text);
    }
}

static bool take(const char *text, int64_t now_ms)
{
    return task_take(&task, &output, text, strlen(text), now_ms);
}

static int64_t shown(const char *name, int64_t now_ms)
{
    json_t *json = task_json(&task, now_ms);
    int64_t value = json_is_integer(json_object_get(json, name))
                        ? json_integer_value(json_object_get(json, name))
                        : -1;

    json_decref(json);
    return value;
}

static void test_task__progress__gives_speed_and_time_left_of_its_phase(void **state)
{
    (void)state;
    assert_true(take("{\"phase\":\"copying\",\"done_bytes\":1000,\"total_bytes\":9000,"
                     "\"stored_bytes\":10}\n",
                     2000));
    assert_int_equal(shown("seconds_left", 3000), -1);
    assert_true(take("{\"phase\":\"copying\",\"done_bytes\":5000,\"total_bytes\":9000,"
                     "\"stored_bytes\":20}\n",
                     4000));
    assert_int_equal(shown("bytes_per_second", 4000), 2000);
    assert_int_equal(shown("seconds_left", 4000), 2);
    assert_int_equal(shown("stored_bytes", 4000), 20);
    /* another phase begins anew */
    assert_true(take("{\"phase\":\"reading back\",\"done_bytes\":0,\"total_bytes\":9000}\n", 5000));
    assert_int_equal(shown("bytes_per_second", 6000), 0);
    assert_int_equal(task.moved_ms, 5000);
}

static void test_task__the_same_again__is_no_progress(void **state)
{
    static const char line[] = "{\"phase\":\"a\",\"done_bytes\":1,\"total_bytes\":2,"
                               "\"stored_bytes\":3}\n";

    (void)state;
    (void)take(line, 2000);
    (void)take(line, 9000);
    assert_int_equal(task.moved_ms, 2000);
    (void)take("not even that\n", 9500);
    assert_int_equal(task.moved_ms, 2000);
}

static void test_task__line_in_pieces_or_too_long__is_put_together_or_skipped(void **state)
{
    static const char line[] = "{\"phase\":\"a\",\"done_bytes\":77}\n";
    char *longer = malloc(TASK_LINE_MAX + 100);

    (void)state;
    for (size_t i = 0; i < strlen(line); i++)
        (void)task_take(&task, &output, line + i, 1, 2000);
    assert_int_equal(task.done_bytes, 77);
    memset(longer, '{', TASK_LINE_MAX + 100);
    assert_false(task_take(&task, &output, longer, TASK_LINE_MAX + 100, 3000));
    assert_false(take("\"phase\":\"b\"}\n", 3000));
    assert_true(take("{\"phase\":\"c\",\"done_bytes\":1}\n", 3000));
    assert_string_equal(task.phase, "c");
    free(longer);
}

static void test_task__result__is_what_is_shown_of_it(void **state)
{
    json_t *json;

    (void)state;
    (void)take("{\"result\":{\"id\":\"x\",\"ratio\":0.5},\"error\":null}\nogelctl: farewell\n",
               2000);
    task_end(&task, &output, "exit status 0", NULL, "", 7000);
    assert_int_equal(task.state, TASK_DONE);
    json = task_json(&task, 0);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "done");
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "snapshot"), "id")),
                        "x");
    assert_null(json_object_get(json, "error"));
    assert_int_equal(json_integer_value(json_object_get(json, "begun_ms")), 5000);
    assert_int_equal(json_integer_value(json_object_get(json, "ended_ms")), 7000);
    json_decref(json);
}

static void check_error(const char *code, const char *text)
{
    assert_int_equal(task.state, TASK_FAILED);
    assert_string_equal(task.error_code, code);
    assert_non_null(strstr(task.error_text, text));
    assert_null(task.result);
}

static void test_task__error__is_the_childs_own(void **state)
{
    (void)state;
    (void)take("{\"result\":null,\"error\":{\"code\":\"no_space\",\"text\":\"the disk\"}}\n", 2000);
    task_end(&task, &output, "exit status 9", NULL, "", 7000);
    check_error("no_space", "the disk");
}

static void test_task__end_without_a_last_line__is_told_with_its_last_words(void **state)
{
    (void)state;
    (void)take("{\"phase\":\"a\",\"done_bytes\":1}\nogelctl: Speicherzugriffsfehler\n{\"resu",
               2000);
    task_end(&task, &output, "killed by signal 11", NULL, "", 7000);
    check_error("died", "signal 11");
    assert_non_null(strstr(task.error_text, "Speicherzugriffsfehler"));
}

static void test_task__ended_by_the_agent__says_why_unless_it_was_done(void **state)
{
    (void)state;
    task_end(&task, &output, "killed by signal 15", "cancelled", "it was cancelled", 7000);
    check_error("cancelled", "it was cancelled");
    (void)setup(state);
    (void)take("{\"result\":{\"id\":\"x\"},\"error\":null}\n", 2000);
    task_end(&task, &output, "killed by signal 15", "cancelled", "it was cancelled", 7000);
    assert_int_equal(task.state, TASK_DONE);
}

static void test_task__rubbish_of_any_kind__changes_nothing(void **state)
{
    static const char *const lines[] = {
        "{}\n",
        "[]\n",
        "\n",
        "{\"phase\":7}\n",
        "{\"phase\":\"x\",\"done_bytes\":-1}\n",
        "{\"phase\":\"x\",\"done_bytes\":\"1\"}\n",
        "{\"phase\":\"a phase whose name is longer than any that ogelctl has, by far it is\"}\n",
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        (void)take(lines[i], 2000);
    assert_string_equal(task.phase, "");
    assert_int_equal(task.done_bytes, 0);
    assert_int_equal(task.moved_ms, 1000);
    (void)take("{\"result\":7,\"error\":{\"code\":5}}\n", 2000);
    task_end(&task, &output, "exit status 1", NULL, "", 7000);
    check_error("internal", "does not say why");
}

static void test_task__none_yet__is_shown_as_such(void **state)
{
    struct task none = {0};
    json_t *json = task_json(&none, 0);

    (void)state;
    assert_int_equal(json_object_size(json), 1);
    assert_string_equal(json_string_value(json_object_get(json, "state")), "none");
    json_decref(json);
}

#define WITH_TASK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_task_request__all_of_it__is_read),
        cmocka_unit_test(test_task_request__anything_wrong__names_its_field),
        WITH_TASK(test_task__progress__gives_speed_and_time_left_of_its_phase),
        WITH_TASK(test_task__the_same_again__is_no_progress),
        WITH_TASK(test_task__line_in_pieces_or_too_long__is_put_together_or_skipped),
        WITH_TASK(test_task__result__is_what_is_shown_of_it),
        WITH_TASK(test_task__error__is_the_childs_own),
        WITH_TASK(test_task__end_without_a_last_line__is_told_with_its_last_words),
        WITH_TASK(test_task__ended_by_the_agent__says_why_unless_it_was_done),
        WITH_TASK(test_task__rubbish_of_any_kind__changes_nothing),
        cmocka_unit_test(test_task__none_yet__is_shown_as_such),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
