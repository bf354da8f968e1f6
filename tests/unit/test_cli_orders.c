/* ogelctl snapshot through an orchestrator that says what it is told to. */
#include "tests/unit/cli_fixture.h"

#include <unistd.h>

#define ID "20260203T040506Z-1a2b3c4d"

static const char cluster[] =
    "{\"name\": \"main\", \"leader\": \"n1\", \"generation\": 5, \"writable\": true, \"why\": \"\","
    " \"failover_possible\": true, \"maintenance\": false, \"phase\": \"idle\", \"version\": 1,"
    " \"failover_blockers\": [], \"nodes\": [], \"snapshots\": {\"store\": \"/srv/b\", \"problem\":"
    " \"the last create failed\", \"schedule\": \"every 1h\", \"next\": "
    "\"2026-02-03T05:00:00.000Z\","
    " \"last\": {\"id\": \"" ID "\", \"age_s\": 7500}, \"last_verify\": null, \"last_drill\":"
    " {\"id\": \"" ID "\", \"age_s\": 90}, \"task\": {\"kind\": \"create\", \"node\": \"n2\","
    " \"done_bytes\": 50, \"total_bytes\": 200}}}";

static const char running[] =
    "{\"id\": \"00000000000000a0\", \"kind\": \"create\", \"node\": \"n3\", \"state\": \"running\","
    " \"phase\": \"copying\", \"done_bytes\": 50, \"total_bytes\": 200, \"seconds_left\": 7}";
static const char done[] =
    "{\"id\": \"00000000000000a0\", \"kind\": \"create\", \"node\": \"n3\", \"state\": \"done\","
    " \"begun_ms\": 1000, \"ended_ms\": 3500, \"snapshot\": {\"id\": \"" ID "\", \"logical_bytes\":"
    " 2000, \"stored_bytes\": 100}}";
static const char failed[] =
    "{\"id\": \"00000000000000a0\", \"kind\": \"create\", \"node\": \"n3\", \"state\": \"failed\","
    " \"error\": {\"code\": \"no_space\", \"text\": \"the bucket is full\"}}";
static const char second_done[] =
    "{\"id\": \"00000000000000b1\", \"kind\": \"create\", \"node\": \"n2\", \"state\": \"done\","
    " \"second_try\": true, \"begun_ms\": 1000, \"ended_ms\": 2000, \"snapshot\": {\"id\": \"" ID
    "\", \"logical_bytes\": 2000, \"stored_bytes\": 100}}";

struct fixture {
    struct fake fake;
    struct ran ran;
    char address[32], token_file[64], config_file[64];
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    int fd;

    unsetenv("OGEL_STORE");
    fake_start(&f->fake, cluster);
    f->fake.tasks = json_array();
    snprintf(f->address, sizeof(f->address), "127.0.0.1:%d", f->fake.port);
    snprintf(f->token_file, sizeof(f->token_file), "/tmp/ogel-token-XXXXXX");
    fd = mkstemp(f->token_file);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, CLI_TOKEN "\n", strlen(CLI_TOKEN) + 1), strlen(CLI_TOKEN) + 1);
    close(fd);
    snprintf(f->config_file, sizeof(f->config_file), "/tmp/ogel-config-XXXXXX");
    fd = mkstemp(f->config_file); /* empty, so that none of this machine is found */
    assert_true(fd >= 0);
    close(fd);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->token_file);
    unlink(f->config_file);
    fake_stop(&f->fake);
    free(f);
    return 0;
}

static void tell(struct fixture *f, const char *task)
{
    json_t *json = json_loads(task, 0, NULL);

    assert_non_null(json);
    json_array_append_new(f->fake.tasks, json);
}

static void run(struct fixture *f, const char *const *words)
{
    const char *argv[24] = {"snapshot"};
    struct ctl ctl;
    int n = 1;

    for (; *words != NULL; words++)
        argv[n++] = *words;
    argv[n++] = "--config";
    argv[n++] = f->config_file;
    argv[n++] = "--orchestrator";
    argv[n++] = f->address;
    argv[n++] = "--token-file";
    argv[n++] = f->token_file;
    memset(&ctl, 0, sizeof(ctl));
    ran_command(&f->ran, &ctl, n, argv);
}

#define RUN(f, ...) run(f, (const char *const[]){__VA_ARGS__, NULL})

static void test_create__without_store_and_conninfo__is_ordered_and_followed(void **state)
{
    struct fixture *f = *state;

    tell(f, running);
    tell(f, running);
    tell(f, done);
    RUN(f, "create", "--node", "n3", "--level", "7", "--max-rate", "50MB", "--parent", "none");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_string_equal(f->fake.path, "/v1/clusters/main/snapshots");
    assert_string_equal(f->fake.body, "{\"node\":\"n3\",\"parent\":\"none\",\"max_rate\":\"50MB\","
                                      "\"level\":7}");
    assert_non_null(strstr(f->ran.out, "snapshot " ID ": taken on n3 in 2.5 s"));
    assert_non_null(strstr(f->ran.out, "(5.0 %) new"));
    assert_non_null(strstr(f->ran.errors, "copying [######"));
    assert_non_null(strstr(f->ran.errors, "7 s left"));
    ran_free(&f->ran);
}

static void test_create__no_wait__comes_back_at_once(void **state)
{
    struct fixture *f = *state;

    tell(f, running);
    RUN(f, "create", "--no-wait");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_non_null(strstr(f->ran.out, "begins on n3"));
    assert_int_equal(f->fake.task, 0);
    ran_free(&f->ran);
    RUN(f, "create", "--no-wait", "--wait", "1s");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "create", "--wait", "long");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "create", "--wait", "300ms");
    assert_int_equal(f->ran.rc, CTL_UNDECIDED);
    assert_non_null(strstr(f->ran.err.text, "it goes on"));
    ran_free(&f->ran);
}

static void test_create__that_failed__has_the_exit_code_of_its_cause(void **state)
{
    struct fixture *f = *state;

    tell(f, failed);
    RUN(f, "create");
    assert_int_equal(f->ran.rc, CTL_NO_SPACE);
    assert_non_null(strstr(f->ran.err.text, "failed on n3: the bucket is full"));
    ran_free(&f->ran);
}

static void test_create__tried_once_more__is_followed_there(void **state)
{
    struct fixture *f = *state;

    tell(f, running);
    tell(f, failed);
    tell(f, second_done);
    RUN(f, "create");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_non_null(strstr(f->ran.out, "taken on n2"));
    ran_free(&f->ran);
}

static void test_create__refused__tells_why(void **state)
{
    struct fixture *f = *state;

    tell(f, running);
    f->fake.post_status = 409;
    RUN(f, "create");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_non_null(strstr(f->ran.err.text, "the reason of the test"));
    ran_free(&f->ran);
}

static void test_orders__of_each_kind__go_to_their_routes(void **state)
{
    struct fixture *f = *state;

    tell(f, done);
    RUN(f, "verify", ID);
    assert_string_equal(f->fake.path, "/v1/clusters/main/snapshots/" ID "/verify");
    ran_free(&f->ran);
    RUN(f, "drill");
    assert_string_equal(f->fake.path, "/v1/clusters/main/snapshots/" ID "/drill");
    ran_free(&f->ran);
    RUN(f, "gc");
    assert_string_equal(f->fake.path, "/v1/clusters/main/snapshots/gc");
    ran_free(&f->ran);
    RUN(f, "gc", "--dry-run");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_non_null(strstr(f->ran.err.text, "--dry-run"));
    ran_free(&f->ran);
    RUN(f, "verify", "../../x");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    assert_int_equal(f->fake.posts, 3);
}

static void test_list__through_the_orchestrator__shows_damage_and_exits_so(void **state)
{
    struct fixture *f = *state;

    f->fake.snapshots = "{\"store\": \"/srv/b\", \"snapshots\": []}";
    RUN(f, "list");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_non_null(strstr(f->ran.out, "no snapshots in /srv/b"));
    ran_free(&f->ran);
    f->fake.snapshots = "{\"store\": \"/srv/b\", \"snapshots\": [{\"id\": \"" ID
                        "\", \"stopped_ms\":"
                        " 1000, \"logical_bytes\": 1}, {\"id\": \"x\", \"damage\": \"torn\"}]}";
    RUN(f, "list");
    assert_int_equal(f->ran.rc, CTL_DAMAGED);
    assert_non_null(strstr(f->ran.out, ID "  1970-01-01T00:00:01Z"));
    assert_non_null(strstr(f->ran.out, "torn"));
    ran_free(&f->ran);
}

static void test_schedule__set_and_off__change_the_document(void **state)
{
    struct fixture *f = *state;

    RUN(f, "schedule", "set", "every 15min");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_string_equal(f->fake.body, "{\"snapshots\":{\"schedule\":\"every 15min\"}}");
    ran_free(&f->ran);
    RUN(f, "schedule", "off");
    assert_string_equal(f->fake.body, "{\"snapshots\":{\"schedule\":null}}");
    ran_free(&f->ran);
    RUN(f, "schedule", "set", "every now");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "schedule", "stop");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    assert_int_equal(f->fake.posts, 2);
}

static void test_status__of_snapshots__tells_ages_and_the_problem_first(void **state)
{
    struct fixture *f = *state;
    struct ctl ctl = {.orchestrator_count = 1, .timeout_ms = 5000, .try_ms = 5000};

    snprintf(ctl.orchestrators[0].host, sizeof(ctl.orchestrators[0].host), "127.0.0.1");
    ctl.orchestrators[0].port = (uint16_t)f->fake.port;
    snprintf(ctl.token, sizeof(ctl.token), CLI_TOKEN);
    ran_command(&f->ran, &ctl, 1, (const char *const[]){"status", NULL});
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_non_null(strstr(f->ran.out,
                           "snapshots: last 2 h ago, verified none, drilled 90 s ago, every "
                           "1h, next 2026-02-03T05:00:00Z, now: create on n2 25 %"));
    assert_true(strstr(f->ran.out, "snapshots: the last create failed") <
                strstr(f->ran.out, "snapshots: last 2 h ago"));
    ran_free(&f->ran);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create__without_store_and_conninfo__is_ordered_and_followed),
        TEST(test_create__no_wait__comes_back_at_once),
        TEST(test_create__that_failed__has_the_exit_code_of_its_cause),
        TEST(test_create__tried_once_more__is_followed_there),
        TEST(test_create__refused__tells_why),
        TEST(test_orders__of_each_kind__go_to_their_routes),
        TEST(test_list__through_the_orchestrator__shows_damage_and_exits_so),
        TEST(test_schedule__set_and_off__change_the_document),
        TEST(test_status__of_snapshots__tells_ages_and_the_problem_first),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
