/* Snapshots as the orchestrator orders them, at agents that fail, vanish and refuse. */
#include "tests/unit/snapshot_agents.h"

/* --- on demand ------------------------------------------------------------------------------- */

static void test_create__follower_with_least_lag__is_asked_with_the_documents_options(void **state)
{
    const json_t *options;

    (void)state;
    begin_watching();
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 202);
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->agents[2].posts, 1);
    assert_string_equal(text(fx->answer, "node"), "n3");
    assert_string_equal(text(fx->answer, "state"), "running");
    assert_string_equal(text(fx->agents[2].posted, "kind"), "create");
    assert_string_equal(text(fx->agents[2].posted, "store"), "/srv/b & more");
    assert_int_equal(strlen(text(fx->agents[2].posted, "id")), 16);
    options = json_object_get(fx->agents[2].posted, "options");
    assert_int_equal(json_integer_value(json_object_get(options, "level")), 7);
    assert_null(json_object_get(options, "keep"));
}

static void test_create__that_waits__is_answered_at_the_end_and_the_index_read_again(void **state)
{
    int lists;

    (void)state;
    begin_watching();
    lists = fx->agents[2].lists + fx->agents[1].lists;
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    stay();
    assert_int_equal(fx->answers, 0);
    fake_succeeds(2);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
    assert_string_equal(text(fx->answer, "state"), "done");
    assert_string_equal(fx->s->outcomes[SNAPSHOT_CREATE].id, ID_NEW);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].logical_bytes, 1000);
    assert_non_null(snapshot_index_entry(fx->s, ID_NEW)); /* before the store has been read */
    UNTIL(fx->agents[2].lists + fx->agents[1].lists > lists);
    stay();
    assert_int_equal(posts(), 1); /* nobody asked for a collection */
    assert_true(told("A1") && told("A2"));
}

static void test_create__that_failed__is_tried_once_more_on_another_node(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "unavailable");
    UNTIL(fx->agents[1].posts == 1);
    assert_true(told("A4"));
    assert_string_not_equal(text(fx->agents[1].posted, "id"), text(fx->agents[2].posted, "id"));
    UNTIL(fx->s->run.certain);
    fake_fails(1, "unavailable");
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 502);
    assert_string_equal(fx->detail, "it broke");
    stay();
    assert_int_equal(posts(), 2);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 1);
    assert_true(told("A3"));
}

static void test_create__that_any_node_would_fail__is_not_tried_again(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "no_space");
    UNTIL(fx->answers == 1);
    stay();
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->status, 502);
}

static void test_create__at_a_named_node__stays_there(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, 1), 0);
    UNTIL(fx->s->run.certain);
    assert_int_equal(fx->agents[1].posts, 1);
    fake_fails(1, "unavailable");
    UNTIL(fx->answers == 1);
    assert_int_equal(posts(), 1);
    fx->cluster.nodes[1].view.report.receiver.streaming = false;
    assert_int_equal(create(true, 1), 503);
    assert_non_null(strstr(fx->detail, "n2 is not fit"));
}

static void test_create__no_follower_fit__is_the_leaders_and_said(void **state)
{
    (void)state;
    begin_watching();
    fx->cluster.nodes[1].view.reachable = false;
    fx->cluster.nodes[2].view.report.complete = false;
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->agents[0].posts, 1);
    assert_true(told("A7"));
}

static void test_create__while_one_runs__is_refused_at_once(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(false, NODE_NONE), 0);
    assert_int_equal(create(false, NODE_NONE), 409);
    assert_non_null(strstr(fx->detail, "one task at a time"));
    UNTIL(fx->answers == 1);
    assert_int_equal(posts(), 1);
}

static void test_create__refused_by_an_agent__is_409_and_no_failure(void **state)
{
    (void)state;
    begin_watching();
    fx->agents[2].post_status = 403;
    assert_int_equal(create(false, NODE_NONE), 0);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 409);
    assert_non_null(strstr(fx->detail, "the agent of n3: one task at a time"));
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 0);
    assert_false(snapshot_run_active(fx->s));
}

static void test_create__agent_gone_for_good__is_tried_on_another(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    http_server_stop(fx->agents[2].server);
    fx->agents[2].server = NULL;
    fx->cluster.nodes[2].view.reachable = false;
    fx->cluster.nodes[2].view.refuses = true;
    UNTIL(fx->agents[1].posts == 1);
    UNTIL(fx->s->run.certain);
    fake_succeeds(1);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
    assert_string_equal(text(fx->answer, "node"), "n2");
    assert_true(json_is_true(json_object_get(fx->answer, "second_try")));
}

static void test_create__agent_restarted_in_the_middle__is_tried_on_another(void **state)
{
    (void)state;
    begin_watching();
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    json_decref(fx->agents[2].task);
    fx->agents[2].task = NULL;
    UNTIL(fx->agents[1].posts == 1);
}

static void test_second_try__refused_while_the_permit_is_held__is_asked_for_again(void **state)
{
    char id[TASK_ID_SIZE];
    json_t *task;

    (void)state;
    begin_watching();
    fx->agents[1].post_status = 403;
    assert_int_equal(create(true, NODE_NONE), 0);
    UNTIL(fx->s->run.certain);
    fake_fails(2, "unavailable");
    UNTIL(fx->agents[1].posts == 1 && fx->s->run.state == RUN_AGAIN);
    task = snapshot_run_json(fx->s); /* nobody takes the first one's failure for the end */
    assert_string_equal(text(task, "state"), "starting");
    assert_true(json_is_true(json_object_get(task, "second_try")));
    json_decref(task);
    snprintf(id, sizeof(id), "%s", text(fx->agents[1].posted, "id"));
    UNTIL(fx->agents[1].posts == 2);
    assert_string_equal(text(fx->agents[1].posted, "id"), id);
    fx->agents[1].post_status = 202;
    UNTIL(fx->s->run.certain);
    fake_succeeds(1);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 200);
}

/* --- found running --------------------------------------------------------------------------- */

static json_t *running(const char *id, const char *kind)
{
    return json_pack("{s:s,s:s,s:s,s:I}", "id", id, "kind", kind, "state", "running", "begun_ms",
                     (json_int_t)clock_wall_ms());
}

static void test_task__found_running__is_followed_to_its_end(void **state)
{
    (void)state;
    fx->agents[1].task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(snapshot_run_active(fx->s));
    assert_int_equal(create(false, NODE_NONE), 409);
    fake_succeeds(1);
    UNTIL(fx->s->outcomes[SNAPSHOT_CREATE].ended_ms > 0);
    assert_false(snapshot_run_active(fx->s));
    assert_true(told("A6") && told("A2"));
    assert_true(fx->s->gc_ms >
                clock_mono_ms()); /* the schedule's: whoever began it collects first */
    assert_int_equal(posts(), 0);
}

static void test_task__followed_by_another_at_once__is_taken_for_ended(void **state)
{
    (void)state;
    fx->agents[1].task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(snapshot_run_active(fx->s));
    json_decref(fx->agents[1].task);
    fx->agents[1].task = running("0123456789abcdf2", "gc");
    UNTIL(snapshot_run_active(fx->s) && fx->s->run.wish.kind == SNAPSHOT_GC);
    fake_ends(1, "done", "{}");
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 0);
    assert_false(told("A3") || told("A4"));
}

static void test_task__begun_and_done_between_two_looks__has_the_index_read_again(void **state)
{
    int lists;

    (void)state;
    begin_watching();
    UNTIL(fx->s->watches[1].answered);
    lists = fx->agents[1].lists + fx->agents[2].lists;
    fx->agents[1].task = running("0123456789abcde2", "create");
    fake_succeeds(1);
    snapshots_ask(fx->s, 1);
    UNTIL(fx->agents[1].lists + fx->agents[2].lists > lists);
    assert_string_equal(fx->s->outcomes[SNAPSHOT_CREATE].id, ID_NEW);
    lists = fx->agents[1].lists + fx->agents[2].lists;
    snapshots_ask(fx->s, 1);
    stay();
    assert_int_equal(fx->agents[1].lists + fx->agents[2].lists, lists); /* once */
}

static void test_task__that_ended_before__is_shown_and_not_repeated(void **state)
{
    json_t *task;

    (void)state;
    fx->agents[1].task = running("0123456789abcde0", "create");
    fake_fails(1, "unavailable");
    begin_watching();
    stay();
    task = snapshot_run_json(fx->s);
    assert_string_equal(text(task, "state"), "failed");
    assert_string_equal(text(task, "node"), "n2");
    json_decref(task);
    assert_int_equal(posts(), 0);
}

/* --- on a schedule --------------------------------------------------------------------------- */

/* One of two hours ago: slots have been missed since. */
static const char *old_list(void)
{
    static char list[400];
    int64_t then_ms = clock_wall_ms() - 7200000;

    snprintf(list, sizeof(list),
             "{\"snapshots\": [{\"id\": \"" ID_OLD "\", \"system_id\": \"%llu\", \"started_ms\": "
             "%lld, \"stopped_ms\": %lld, \"logical_bytes\": 500, \"stored_bytes\": 5}]}",
             (unsigned long long)SYSTEM_ID, (long long)then_ms, (long long)then_ms + 1000);
    return list;
}

static void schedule_missed(void)
{
    fx->section = "{\"store\": \"/srv/b & more\", \"schedule\": \"every 30min\", "
                  "\"keep\": {\"daily\": 2}}";
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list = old_list();
}

static void test_schedule__missed_runs__are_one_that_collects_afterwards(void **state)
{
    const json_t *keep;

    (void)state;
    schedule_missed();
    begin_watching();
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].logical_bytes, 500);
    UNTIL(fx->agents[2].posts == 1 && fx->s->run.certain);
    fake_succeeds(2);
    UNTIL(fx->agents[1].posts == 1); /* always the same follower, whatever its lag */
    UNTIL(fx->s->run.certain);
    assert_string_equal(text(fx->agents[1].posted, "kind"), "gc");
    keep = json_object_get(json_object_get(fx->agents[1].posted, "options"), "keep");
    assert_int_equal(json_integer_value(json_object_get(keep, "daily")), 2);
    assert_int_equal(json_integer_value(json_object_get(keep, "weekly")), 4); /* a default */
    fake_ends(1, "done", "{}");
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 2);
    assert_true(fx->s->outcomes[SNAPSHOT_CREATE].next_ms > clock_wall_ms());
}

static void test_schedule__collection_refused__holds_no_later_snapshot_against_it(void **state)
{
    (void)state;
    schedule_missed();
    begin_watching();
    UNTIL(fx->agents[2].posts == 1 && fx->s->run.certain);
    fx->agents[1].post_status = 403;
    fake_succeeds(2);
    UNTIL(fx->agents[1].posts == 1 && !snapshot_run_active(fx->s));
    stay();
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].refused_since_ms, 0);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_GC].failed_total, 0);
    assert_int_equal(posts(), 2);
}

static void test_schedule__served_by_another_orchestrator__is_left_alone(void **state)
{
    (void)state;
    schedule_missed();
    fx->agents[1].task = running("0123456789abcde2", "create");
    fake_succeeds(1);
    begin_watching();
    stay();
    assert_int_equal(posts(), 0);
    assert_false(told("A5"));
}

static void test_schedule__refused_for_another_orchestrators_run__is_no_failure(void **state)
{
    (void)state;
    schedule_missed();
    fx->agents[2].post_status = 409;
    fx->agents[2].post_task = running("0123456789abcde2", "create");
    begin_watching();
    UNTIL(fx->agents[2].posts == 1);
    fx->agents[1].task = json_incref(fx->agents[2].post_task);
    UNTIL(snapshot_run_active(fx->s) && !fx->s->run.own);
    fake_succeeds(1);
    UNTIL(!snapshot_run_active(fx->s));
    stay();
    assert_int_equal(posts(), 1);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].failed_total, 0);
    assert_false(told("A3") || told("A5"));
}

static void test_schedule__in_maintenance__is_skipped_and_said_once(void **state)
{
    (void)state;
    schedule_missed();
    fx->cluster.plan.maintenance = true;
    begin_watching();
    UNTIL(told("A5"));
    stay();
    assert_int_equal(posts(), 0);
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].skipped_total[SKIP_MAINTENANCE], 1);
    fx->cluster.plan.maintenance = false;
    stay();
    assert_int_equal(posts(), 0); /* the slot is past */
}

static void test_schedule__that_cannot_be_read__is_said_and_runs_nothing(void **state)
{
    json_t *status;

    (void)state;
    fx->section = "{\"store\": \"/srv/b & more\", \"schedule\": \"now and then\"}";
    begin_watching();
    status = snapshots_status_json(&fx->cluster);
    assert_non_null(strstr(text(status, "problem"), "now and then"));
    json_decref(status);
}

/* --- the index ------------------------------------------------------------------------------- */

static void listed(int status, const json_t *list, const char *detail, void *arg)
{
    (void)arg;
    fx->answers++;
    fx->status = status;
    json_decref(fx->answer);
    fx->answer = list ? json_deep_copy(list) : NULL;
    snprintf(fx->detail, sizeof(fx->detail), "%s", detail);
}

static void test_index__one_agent_cannot_read_the_store__another_does(void **state)
{
    (void)state;
    fx->agents[1].list_status = fx->agents[2].list_status = 502;
    fx->agents[0].list = old_list();
    begin_watching();
    UNTIL(fx->s->index.list);
    assert_int_equal(json_array_size(fx->s->index.list), 1);
    assert_non_null(snapshot_index_entry(fx->s, ID_OLD));
    assert_null(snapshot_index_entry(fx->s, ID_NEW));
}

static void test_index__no_agent_can_read_the_store__says_why(void **state)
{
    json_t *status;

    (void)state;
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list_status = 502;
    begin_watching();
    UNTIL(fx->s->index.failed);
    (void)snapshot_index_get(fx->s, true, listed, NULL);
    UNTIL(fx->answers == 1);
    assert_int_equal(fx->status, 503);
    assert_non_null(strstr(fx->detail, "the store does not answer"));
    status = snapshots_status_json(&fx->cluster);
    assert_non_null(strstr(text(status, "problem"), "the store does not answer"));
    json_decref(status);
}

static void test_index__snapshots_of_another_system__are_listed_and_count_for_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < NODE_COUNT; i++)
        fx->agents[i].list = "[{\"id\": \"" ID_OLD "\", \"system_id\": \"5\", \"started_ms\": 1, "
                             "\"stopped_ms\": 2}]";
    begin_watching();
    assert_int_equal(json_array_size(fx->s->index.list), 1);
    assert_null(snapshot_index_newest(fx->s));
    assert_int_equal(fx->s->outcomes[SNAPSHOT_CREATE].ended_ms, 0);
}

static void test_document__without_a_store__turns_snapshots_off(void **state)
{
    json_t *status;

    (void)state;
    fx->section = NULL;
    begin_watching();
    stay();
    status = snapshots_status_json(&fx->cluster);
    assert_true(json_is_null(status));
    json_decref(status);
    assert_int_equal(fx->agents[0].lists + fx->agents[1].lists + fx->agents[2].lists, 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_create__follower_with_least_lag__is_asked_with_the_documents_options),
        CASE(test_create__that_waits__is_answered_at_the_end_and_the_index_read_again),
        CASE(test_create__that_failed__is_tried_once_more_on_another_node),
        CASE(test_create__that_any_node_would_fail__is_not_tried_again),
        CASE(test_create__at_a_named_node__stays_there),
        CASE(test_create__no_follower_fit__is_the_leaders_and_said),
        CASE(test_create__while_one_runs__is_refused_at_once),
        CASE(test_create__refused_by_an_agent__is_409_and_no_failure),
        CASE(test_create__agent_gone_for_good__is_tried_on_another),
        CASE(test_create__agent_restarted_in_the_middle__is_tried_on_another),
        CASE(test_second_try__refused_while_the_permit_is_held__is_asked_for_again),
        CASE(test_task__found_running__is_followed_to_its_end),
        CASE(test_task__followed_by_another_at_once__is_taken_for_ended),
        CASE(test_task__begun_and_done_between_two_looks__has_the_index_read_again),
        CASE(test_task__that_ended_before__is_shown_and_not_repeated),
        CASE(test_schedule__missed_runs__are_one_that_collects_afterwards),
        CASE(test_schedule__collection_refused__holds_no_later_snapshot_against_it),
        CASE(test_schedule__served_by_another_orchestrator__is_left_alone),
        CASE(test_schedule__refused_for_another_orchestrators_run__is_no_failure),
        CASE(test_schedule__in_maintenance__is_skipped_and_said_once),
        CASE(test_schedule__that_cannot_be_read__is_said_and_runs_nothing),
        CASE(test_index__one_agent_cannot_read_the_store__another_does),
        CASE(test_index__no_agent_can_read_the_store__says_why),
        CASE(test_index__snapshots_of_another_system__are_listed_and_count_for_nothing),
        CASE(test_document__without_a_store__turns_snapshots_off),
    };

    http_client_global_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
