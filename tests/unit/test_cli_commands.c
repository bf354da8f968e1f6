/* Commands against an orchestrator that says what it is told to: exit codes, questions, what is
 * sent. */
#include "tests/unit/cli_fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static const char healthy[] =
    "{\"name\": \"main\", \"leader\": \"n1\", \"generation\": 5, \"writable\": true, \"why\": \"\","
    " \"failover_possible\": true, \"maintenance\": false, \"phase\": \"idle\", \"version\": 1,"
    " \"failover_blockers\": [], \"nodes\": ["
    "  {\"id\": \"n1\", \"role\": \"leader\", \"state\": \"running\", \"sync\": \"leader\","
    "   \"host\": \"127.0.0.1\", \"port\": 5432, \"lag_bytes\": 0, \"timeline\": 5, "
    "\"generation\": 5,"
    "   \"flush_lsn\": \"0/5000300\", \"agent\": {\"reachable\": true, \"age_ms\": 3}},"
    "  {\"id\": \"n2\", \"role\": \"follower\", \"state\": \"streaming\", \"sync\": \"quorum\","
    "   \"host\": \"127.0.0.1\", \"port\": 5433, \"lag_bytes\": 16777216, \"timeline\": 5,"
    "   \"generation\": 5, \"flush_lsn\": \"0/5000148\", \"agent\": {\"reachable\": true}},"
    "  {\"id\": \"n3\", \"role\": \"unknown\", \"state\": \"unknown\", \"sync\": \"no\","
    "   \"host\": null, \"port\": null, \"lag_bytes\": null, \"timeline\": null,"
    "   \"generation\": null, \"agent\": {\"reachable\": false, \"age_ms\": null}}]}";

struct fixture {
    struct fake fake;
    struct ctl ctl;
    struct ran ran;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    /* Nobody sits at the terminal. */
    assert_non_null(freopen("/dev/null", "r", stdin));
    fake_start(&f->fake, healthy);
    snprintf(f->ctl.orchestrators[0].host, sizeof(f->ctl.orchestrators[0].host), "127.0.0.1");
    f->ctl.orchestrators[0].port = (uint16_t)f->fake.port;
    f->ctl.orchestrator_count = 1;
    f->ctl.timeout_ms = f->ctl.try_ms = 5000;
    snprintf(f->ctl.token, sizeof(f->ctl.token), CLI_TOKEN);
    snprintf(f->ctl.who, sizeof(f->ctl.who), "alice@host");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fake_stop(&f->fake);
    free(f);
    return 0;
}

#define RUN(f, ...)                                                                                \
    ran_command(&(f)->ran, &(f)->ctl, (int)OGEL_ARRAY_LEN(((const char *const[]){__VA_ARGS__})),   \
                (const char *const[]){__VA_ARGS__, NULL})

static void set_flag(struct fixture *f, const char *name, bool value)
{
    json_object_set_new(f->fake.cluster, name, json_boolean(value));
}

/* A port where nobody listens. */
static uint16_t dead_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* --- status --------------------------------------------------------------------------------- */

static void test_status__exit_code__tells_the_health(void **state)
{
    struct fixture *f = *state;

    RUN(f, "status");
    assert_int_equal(f->ran.rc, CTL_OK);
    ran_free(&f->ran);
    set_flag(f, "failover_possible", false);
    RUN(f, "status");
    assert_int_equal(f->ran.rc, CTL_DEGRADED);
    assert_non_null(strstr(f->ran.out, "failover: not possible"));
    ran_free(&f->ran);
    set_flag(f, "writable", false);
    RUN(f, "status");
    assert_int_equal(f->ran.rc, CTL_NOT_WRITABLE);
    ran_free(&f->ran);
}

static void test_status__table__shows_leader_lag_and_what_is_unknown(void **state)
{
    struct fixture *f = *state;

    RUN(f, "status");
    assert_non_null(strstr(f->ran.out, "cluster main: leader n1, generation 5, writes: ok"));
    assert_non_null(strstr(f->ran.out, "16.0 MB"));
    assert_non_null(strstr(f->ran.out, "127.0.0.1:5433"));
    assert_non_null(strstr(f->ran.out, "n3    unknown"));
    ran_free(&f->ran);
}

static void test_status__maintenance__is_loud(void **state)
{
    struct fixture *f = *state;

    set_flag(f, "maintenance", true);
    RUN(f, "status");
    assert_non_null(strstr(f->ran.out, "MAINTENANCE MODE is on"));
    ran_free(&f->ran);
}

static void test_status__json__is_an_object_of_clusters_and_exits_0(void **state)
{
    struct fixture *f = *state;
    json_t *json;

    set_flag(f, "writable", false);
    RUN(f, "status", "-o", "json");
    assert_int_equal(f->ran.rc, CTL_OK);
    json = json_loads(f->ran.out, 0, NULL);
    assert_int_equal(json_object_size(json), 1);
    assert_true(json_equal(json_array_get(json_object_get(json, "clusters"), 0), f->fake.cluster));
    json_decref(json);
    ran_free(&f->ran);
}

/* --- which orchestrator --------------------------------------------------------------------- */

static void test_client__orchestrator_that_is_down__is_passed_over(void **state)
{
    struct fixture *f = *state;

    f->ctl.orchestrators[1] = f->ctl.orchestrators[0];
    f->ctl.orchestrators[0].port = dead_port();
    f->ctl.orchestrator_count = 2;
    RUN(f, "switchover", "--yes");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_int_equal(f->fake.posts, 1);
    ran_free(&f->ran);
}

static void test_client__none_answers__names_each(void **state)
{
    struct fixture *f = *state;
    char first[32], second[32];

    f->ctl.orchestrators[1] = f->ctl.orchestrators[0];
    f->ctl.orchestrators[0].port = dead_port();
    f->ctl.orchestrators[1].port = dead_port();
    f->ctl.orchestrator_count = 2;
    snprintf(first, sizeof(first), "127.0.0.1:%u", f->ctl.orchestrators[0].port);
    snprintf(second, sizeof(second), "127.0.0.1:%u", f->ctl.orchestrators[1].port);
    RUN(f, "status");
    assert_int_equal(f->ran.rc, CTL_UNREACHABLE);
    assert_non_null(strstr(f->ran.err.text, first));
    assert_non_null(strstr(f->ran.err.text, second));
    ran_free(&f->ran);
}

static void test_client__wrong_token__is_told_from_a_dead_orchestrator(void **state)
{
    struct fixture *f = *state;

    snprintf(f->ctl.token, sizeof(f->ctl.token), "another-token-0123456789");
    RUN(f, "status");
    assert_int_equal(f->ran.rc, CTL_UNREACHABLE);
    assert_non_null(strstr(f->ran.err.text, "does not accept the token"));
    ran_free(&f->ran);
}

/* Takes one connection and ends it without an answer. */
static void *break_one(void *arg)
{
    int fd = accept(*(int *)arg, NULL, NULL);
    char buf[4096];

    (void)!read(fd, buf, sizeof(buf));
    close(fd);
    return NULL;
}

static void test_client__change_that_got_no_answer__is_not_sent_to_the_next(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    f->ctl.orchestrators[1] = f->ctl.orchestrators[0];
    f->ctl.orchestrators[0].port = ntohs(address.sin_port);
    f->ctl.orchestrator_count = 2;
    snprintf(f->ctl.cluster, sizeof(f->ctl.cluster), "main");
    assert_int_equal(pthread_create(&thread, NULL, break_one, &fd), 0);
    RUN(f, "config", "set", "work_mem=1MB");
    assert_int_equal(f->ran.rc, CTL_UNDECIDED);
    assert_int_equal(f->fake.posts, 0);
    ran_free(&f->ran);
    pthread_join(thread, NULL);
    close(fd);
}

static void test_connect__wait__outlasts_the_patience_with_one_orchestrator(void **state)
{
    struct fixture *f = *state;

    f->ctl.try_ms = 150;
    f->fake.connect_after_ms = 400;
    RUN(f, "connect", "--wait", "2s");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_string_equal(f->ran.out, "postgresql://late:1/\n");
    ran_free(&f->ran);
}

static void test_connect__program_without_hyphens__is_a_usage_error(void **state)
{
    struct fixture *f = *state;

    RUN(f, "connect", "psql");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_non_null(strstr(f->ran.err.text, "ogelctl connect -- psql"));
    ran_free(&f->ran);
}

/* --- actions -------------------------------------------------------------------------------- */

static void test_switchover__without_terminal_and_yes__does_nothing(void **state)
{
    struct fixture *f = *state;

    RUN(f, "switchover");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_int_equal(f->fake.posts, 0);
    assert_non_null(strstr(f->ran.err.text, "--yes"));
    ran_free(&f->ran);
}

static void test_switchover__done__says_who_leads_and_was_asked_by_whom(void **state)
{
    struct fixture *f = *state;

    RUN(f, "switchover", "--to", "n2", "--yes");
    assert_int_equal(f->ran.rc, CTL_OK);
    assert_string_equal(f->fake.path, "/v1/clusters/main/switchover");
    assert_string_equal(f->fake.body, "{\"target\":\"n2\"}");
    assert_string_equal(f->fake.who, "alice@host");
    assert_non_null(strstr(f->ran.out, "n1 leads generation 5"));
    ran_free(&f->ran);
}

static void test_switchover__refused__tells_why(void **state)
{
    struct fixture *f = *state;

    f->fake.post_status = 409;
    RUN(f, "switchover", "--yes");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_non_null(strstr(f->ran.err.text, "the reason of the test"));
    ran_free(&f->ran);
}

static void test_switchover__out_of_time__is_undecided(void **state)
{
    struct fixture *f = *state;

    f->fake.post_status = 504;
    RUN(f, "switchover", "--yes");
    assert_int_equal(f->ran.rc, CTL_UNDECIDED);
    ran_free(&f->ran);
}

static void test_failover__healthy_leader__names_the_smoother_way(void **state)
{
    struct fixture *f = *state;

    RUN(f, "failover");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_non_null(strstr(f->ran.errors, "switchover is smoother"));
    ran_free(&f->ran);
}

static void test_failover__data_loss__names_nodes_range_and_danger(void **state)
{
    struct fixture *f = *state;

    RUN(f, "failover", "--accept-data-loss", "--destroyed", "n1,n3", "--yes");
    assert_non_null(strstr(f->ran.errors, "n2  survives; timeline 5, WAL flushed to 0/5000148"));
    assert_non_null(strstr(f->ran.errors, "WAL from 0/5000148 to 0/5000300 (440 B)"));
    assert_non_null(strstr(f->ran.errors, "n3  destroyed; its last position is NOT KNOWN"));
    assert_non_null(strstr(f->ran.errors, "TWO HISTORIES"));
    assert_string_equal(f->fake.body, "{\"accept_data_loss\":true,\"destroyed\":[\"n1\",\"n3\"]}");
    ran_free(&f->ran);
}

static void test_failover__data_loss_without_nodes__is_a_usage_error(void **state)
{
    struct fixture *f = *state;

    RUN(f, "failover", "--accept-data-loss", "--yes");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "failover", "--destroyed", "n1", "--yes");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "failover", "--accept-data-loss", "--destroyed", "n1,n9", "--yes");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_non_null(strstr(f->ran.err.text, "n9"));
    ran_free(&f->ran);
    assert_int_equal(f->fake.posts, 0);
}

static void test_config__set__sends_names_in_lower_case_and_values_as_they_are(void **state)
{
    struct fixture *f = *state;

    RUN(f, "config", "set", "Work_Mem=64MB", "search_path=\"$user\", public=x");
    assert_string_equal(f->fake.body, "{\"settings\":{\"work_mem\":\"64MB\",\"search_path\":"
                                      "\"\\\"$user\\\", public=x\"}}");
    ran_free(&f->ran);
    RUN(f, "config", "unset", "work_mem");
    assert_string_equal(f->fake.body, "{\"settings\":{\"work_mem\":null}}");
    ran_free(&f->ran);
}

static void test_config__set_of_snapshots__goes_to_their_part_of_the_document(void **state)
{
    struct fixture *f = *state;

    RUN(f, "config", "set", "snapshots.store=s3://h/b", "snapshots.level=5",
        "snapshots.keep.daily=3", "snapshots.keep.least=2", "work_mem=1MB");
    assert_string_equal(f->fake.body,
                        "{\"snapshots\":{\"store\":\"s3://h/b\",\"level\":5,\"keep\":{\"daily\":3,"
                        "\"least\":2}},\"settings\":{\"work_mem\":\"1MB\"}}");
    ran_free(&f->ran);
    RUN(f, "config", "unset", "snapshots.schedule", "snapshots.keep.daily");
    assert_string_equal(f->fake.body,
                        "{\"snapshots\":{\"schedule\":null,\"keep\":{\"daily\":null}}}");
    ran_free(&f->ran);
}

static void test_config__set_without_value__is_a_usage_error(void **state)
{
    struct fixture *f = *state;

    RUN(f, "config", "set", "work_mem");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "config", "set");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    assert_int_equal(f->fake.posts, 0);
}

static void test_restart__not_all_nodes_up__does_nothing(void **state)
{
    struct fixture *f = *state;

    RUN(f, "restart", "--rolling", "--yes");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_non_null(strstr(f->ran.err.text, "n3 is unknown"));
    ran_free(&f->ran);
}

static void test_restart__node_that_connects_anew__is_waited_for(void **state)
{
    struct fixture *f = *state;
    json_t *node = json_array_get(json_object_get(f->fake.cluster, "nodes"), 2);

    json_object_set_new(node, "state", json_string("streaming"));
    f->fake.later = json_deep_copy(f->fake.cluster);
    json_object_set_new(node, "state", json_string("running"));
    RUN(f, "restart", "--rolling");
    assert_int_equal(f->ran.rc, CTL_USAGE); /* nobody there to be asked: it would begin */
    assert_non_null(strstr(f->ran.errors, "restarts Postgres on n2, then on n3"));
    assert_int_equal(f->fake.posts, 0);
    ran_free(&f->ran);
}

static void test_node__reinit_of_the_leader__is_refused_before_anything_is_asked(void **state)
{
    struct fixture *f = *state;

    RUN(f, "node", "reinit", "n1", "--yes");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_int_equal(f->fake.posts, 0);
    ran_free(&f->ran);
}

static void test_init__from_a_snapshot__says_where_it_is_and_asks(void **state)
{
    struct fixture *f = *state;

    unsetenv("OGEL_STORE");
    RUN(f, "init", "--store", "/store");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    ran_free(&f->ran);
    RUN(f, "init", "--from-snapshot", "20260203T040506Z-1a2b3c4d", "--store", "/store");
    assert_int_equal(f->ran.rc, CTL_USAGE); /* nobody there to be asked */
    ran_free(&f->ran);
    assert_int_equal(f->fake.posts, 0);
    RUN(f, "init", "--from-snapshot", "20260203T040506Z-1a2b3c4d", "--store", "/store", "--yes");
    assert_int_equal(f->fake.posts, 1);
    assert_non_null(strstr(f->fake.body, "\"from_snapshot\""));
    assert_non_null(strstr(f->fake.body, "\"/store\""));
    ran_free(&f->ran);
    RUN(f, "init", "--from-snapshot", "20260203T040506Z-1a2b3c4d", "--yes"); /* the document's */
    assert_int_equal(f->fake.posts, 2);
    assert_null(strstr(f->fake.body, "\"store\""));
    ran_free(&f->ran);
}

static void test_init__restore_that_fails__is_told_with_its_cause(void **state)
{
    struct fixture *f = *state;
    json_t *node = json_array_get(json_object_get(f->fake.cluster, "nodes"), 1);

    set_flag(f, "writable", false);
    json_object_set_new(node, "step", json_string("N16 wait"));
    json_object_set_new(node, "cause",
                        json_string("restore failed: exit code 7: pack 3 is damaged"));
    RUN(f, "init", "--from-snapshot", "20260203T040506Z-1a2b3c4d", "--store", "/store", "--yes");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_non_null(strstr(f->ran.err.text, "pack 3 is damaged"));
    ran_free(&f->ran);
    json_object_set_new(node, "step", json_string("N18 wait"));
    json_object_set_new(node, "cause", json_string("the snapshot's WAL ends above"));
    RUN(f, "init", "--from-snapshot", "20260203T040506Z-1a2b3c4d", "--store", "/store", "--yes");
    assert_int_equal(f->ran.rc, CTL_REFUSED);
    assert_non_null(strstr(f->ran.err.text, "ends above"));
    ran_free(&f->ran);
}

static void test_node__from_a_snapshot__goes_with_reinit_only(void **state)
{
    struct fixture *f = *state;

    RUN(f, "node", "restart", "n2", "--from-snapshot", "latest", "--store", "/store", "--yes");
    assert_int_equal(f->ran.rc, CTL_USAGE);
    assert_int_equal(f->fake.posts, 0);
    ran_free(&f->ran);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_status__exit_code__tells_the_health),
        TEST(test_status__table__shows_leader_lag_and_what_is_unknown),
        TEST(test_status__maintenance__is_loud),
        TEST(test_status__json__is_an_object_of_clusters_and_exits_0),
        TEST(test_client__orchestrator_that_is_down__is_passed_over),
        TEST(test_client__none_answers__names_each),
        TEST(test_client__wrong_token__is_told_from_a_dead_orchestrator),
        TEST(test_client__change_that_got_no_answer__is_not_sent_to_the_next),
        TEST(test_connect__wait__outlasts_the_patience_with_one_orchestrator),
        TEST(test_connect__program_without_hyphens__is_a_usage_error),
        TEST(test_switchover__without_terminal_and_yes__does_nothing),
        TEST(test_switchover__done__says_who_leads_and_was_asked_by_whom),
        TEST(test_switchover__refused__tells_why),
        TEST(test_switchover__out_of_time__is_undecided),
        TEST(test_failover__healthy_leader__names_the_smoother_way),
        TEST(test_failover__data_loss__names_nodes_range_and_danger),
        TEST(test_failover__data_loss_without_nodes__is_a_usage_error),
        TEST(test_config__set__sends_names_in_lower_case_and_values_as_they_are),
        TEST(test_config__set_of_snapshots__goes_to_their_part_of_the_document),
        TEST(test_config__set_without_value__is_a_usage_error),
        TEST(test_restart__not_all_nodes_up__does_nothing),
        TEST(test_restart__node_that_connects_anew__is_waited_for),
        TEST(test_node__reinit_of_the_leader__is_refused_before_anything_is_asked),
        TEST(test_init__from_a_snapshot__says_where_it_is_and_asks),
        TEST(test_init__restore_that_fails__is_told_with_its_cause),
        TEST(test_node__from_a_snapshot__goes_with_reinit_only),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
