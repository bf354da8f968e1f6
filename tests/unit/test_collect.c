/* The collector: what it leaves, what it deletes and when, and that nobody who comes in between
 * loses anything. */
#include "tests/unit/collect_fixture.h"

/* --- what is kept and what goes --------------------------------------------------------------- */

static void test_collect__whole_snapshots__are_never_touched(void **state)
{
    (void)state;
    make_child(CHILD);
    collect_all();
    collect_all();
    assert_int_equal(result.objects[COLLECT_WAITS] + result.objects[COLLECT_DELETED], 0);
    assert_int_equal(result.snapshots, 2);
    assert_restorable(FIXTURE_ID);
    assert_restorable(CHILD);
}

static void test_collect__expired_snapshot__goes_after_the_grace_and_not_before(void **state)
{
    (void)state;
    must(expire_snapshot(f.store, FIXTURE_ID, &err_));
    collect();
    assert_int_equal(result.objects[COLLECT_DELETED], 0);
    assert_true(pack_there(FIXTURE_ID));
    now_ms += HOUR - 1;
    collect();
    assert_int_equal(result.objects[COLLECT_DELETED], 0);
    assert_true(pack_there(FIXTURE_ID));
    now_ms += 1;
    collect();
    assert_int_equal(result.objects[COLLECT_DELETED], 3); /* pack, map, table */
    assert_true(result.bytes[COLLECT_DELETED] > f.pack_len);
    assert_false(pack_there(FIXTURE_ID));
    assert_false(there("data/" FIXTURE_ID "/files"));
    collect();
    assert_int_equal(result.objects[COLLECT_KEPT] + result.objects[COLLECT_WAITS] +
                         result.objects[COLLECT_DELETED],
                     0);
}

static void test_collect__objects_of_an_expired_parent__stay_while_a_child_refers_to_them(
    void **state)
{
    (void)state;
    make_child(CHILD);
    must(expire_snapshot(f.store, FIXTURE_ID, &err_));
    collect_all();
    assert_true(pack_there(FIXTURE_ID));
    assert_false(there("data/" FIXTURE_ID "/files")); /* nobody needs the table */
    assert_restorable(CHILD);
    must(expire_snapshot(f.store, CHILD, &err_));
    collect_all();
    assert_false(pack_there(FIXTURE_ID));
    assert_false(pack_there(CHILD));
}

static void test_collect__dry_run__changes_nothing_and_tells_the_same(void **state)
{
    struct collect_result dry;

    (void)state;
    delete_manifest(FIXTURE_ID);
    leave_job();
    must(try_collect(true, &err_));
    now_ms += HOUR;
    must(try_collect(true, &err_));
    assert_int_equal(result.objects[COLLECT_DELETED], 0); /* nothing was noted */
    assert_false(there("gc/here"));
    collect();
    now_ms += HOUR;
    must(try_collect(true, &err_));
    dry = result;
    assert_true(there("jobs/" JOB));
    assert_true(pack_there(FIXTURE_ID));
    collect();
    assert_memory_equal(&dry, &result, sizeof(dry));
    assert_false(there("jobs/" JOB));
}

static void test_collect__names_of_another_form__are_never_touched(void **state)
{
    (void)state;
    put_at("data/readme", "x");
    put_at("data/20260203T040506Z-1a2b3cXX/pack-00000000", "x");
    put_at("elsewhere/" FIXTURE_ID "/pack-00000000", "x");
    put_at("data/" JOB "x/y", "x");
    collect_all();
    assert_true(there("data/readme"));
    assert_true(there("data/20260203T040506Z-1a2b3cXX/pack-00000000"));
    assert_true(there("elsewhere/" FIXTURE_ID "/pack-00000000"));
    assert_true(there("data/" JOB "x/y"));
}

static void test_collect__marks_of_what_is_gone__go_too(void **state)
{
    (void)state;
    must(marks_put(f.store, VERIFIED_PREFIX, FIXTURE_ID, 1.5, &err_));
    put_at("verified/" CHILD, "{}");
    put_at("drilled/" CHILD, "{}");
    collect_all();
    assert_true(there("verified/" FIXTURE_ID));
    assert_false(there("verified/" CHILD));
    assert_false(there("drilled/" CHILD));
}

static void test_collect__half_a_put__waits_an_hour_whatever_the_grace(void **state)
{
    const struct collect_options hasty = {
        .grace_ms = 1, .observer = "here", .now_ms = clock_of_test};
    const char *half = tmp_path("store/incoming/0011223344556677");

    (void)state;
    must(file_write_atomic(half, "x", 1, 0600, &err_));
    must(collect_run(&between.base, &hasty, &result, &err_));
    now_ms += HOUR - 1;
    must(collect_run(&between.base, &hasty, &result, &err_));
    assert_true(file_exists(tmp_path("store/incoming/0011223344556677")));
    now_ms += 1;
    must(collect_run(&between.base, &hasty, &result, &err_));
    assert_false(file_exists(tmp_path("store/incoming/0011223344556677")));
}

/* --- jobs and pins -------------------------------------------------------------------------- */

static void test_collect__running_job__keeps_what_it_wrote_and_what_it_pins(void **state)
{
    char word[64];

    (void)state;
    leave_job();
    delete_manifest(FIXTURE_ID);
    for (int i = 0; i < 20; i++) {
        snprintf(word, sizeof(word), "{\"renew_ms\": 60000, \"sequence\": %d}", i);
        put_at("jobs/" JOB, word);
        collect();
        assert_int_equal(result.live_jobs, 1);
        now_ms += HOUR;
    }
    assert_true(there("data/" JOB "/pack-00000000"));
    assert_true(there("pins/" FIXTURE_ID "/" JOB));
    assert_true(pack_there(FIXTURE_ID));
    assert_true(there("data/" FIXTURE_ID "/files"));
}

static void test_collect__killed_job__is_found_dead_and_leaves_nothing(void **state)
{
    (void)state;
    leave_job();
    delete_manifest(FIXTURE_ID);
    collect();
    now_ms += HOUR;
    collect();
    assert_int_equal(result.dead_jobs, 1);
    assert_false(there("jobs/" JOB));
    assert_false(there("pins/" FIXTURE_ID "/" JOB));
    /* From here on its things wait, and what it pinned. */
    assert_true(there("data/" JOB "/pack-00000000"));
    assert_true(pack_there(FIXTURE_ID));
    now_ms += HOUR;
    collect();
    assert_false(there("data/" JOB "/pack-00000000"));
    assert_false(pack_there(FIXTURE_ID));
}

static void test_collect__job_that_speaks_rarely__is_given_ten_times_as_long(void **state)
{
    (void)state;
    put_at("jobs/" JOB, "{\"renew_ms\": 3600000}");
    collect();
    now_ms += 10 * HOUR - 1;
    collect();
    assert_int_equal(result.live_jobs, 1);
    now_ms += 1;
    collect();
    assert_int_equal(result.dead_jobs, 1);
}

static void test_collect__pin_without_a_job__is_a_dead_ones(void **state)
{
    (void)state;
    put_at("pins/" FIXTURE_ID "/" JOB, "");
    collect();
    assert_int_equal(result.live_jobs, 1);
    now_ms += HOUR;
    collect();
    assert_int_equal(result.dead_jobs, 1);
    assert_false(there("pins/" FIXTURE_ID "/" JOB));
}

static void test_collect__persons_pin__keeps_for_ever_also_without_a_manifest(void **state)
{
    (void)state;
    must(marks_pin(f.store, FIXTURE_ID, "before the upgrade", "me", &err_));
    delete_manifest(FIXTURE_ID);
    collect_all();
    now_ms += 1000 * HOUR;
    collect();
    assert_true(pack_there(FIXTURE_ID));
    assert_true(there("data/" FIXTURE_ID "/files"));
    assert_true(there("pins/" FIXTURE_ID "/" PIN_OPERATOR));
}

/* --- clocks --------------------------------------------------------------------------------- */

static void test_collect__other_machine__begins_to_wait_anew_whatever_its_clock_says(void **state)
{
    (void)state;
    delete_manifest(FIXTURE_ID);
    leave_job();
    collect();
    observer = "there";
    now_ms += 5000 * HOUR;
    collect();
    assert_int_equal(result.objects[COLLECT_DELETED], 0);
    assert_true(pack_there(FIXTURE_ID));
    assert_true(there("jobs/" JOB));
    observer = "here";
    now_ms -= 5000 * HOUR - 1;
    collect();
    assert_int_equal(result.objects[COLLECT_DELETED], 0);
    assert_true(there("jobs/" JOB));
}

static void test_collect__clock_that_went_back__only_waits_longer(void **state)
{
    (void)state;
    delete_manifest(FIXTURE_ID);
    collect();
    now_ms -= 10 * HOUR;
    collect();
    now_ms += HOUR - 1;
    collect();
    assert_true(pack_there(FIXTURE_ID));
    now_ms += 1;
    collect();
    assert_false(pack_there(FIXTURE_ID));
}

static void test_collect__notes_that_are_damaged__make_everything_wait_anew(void **state)
{
    (void)state;
    delete_manifest(FIXTURE_ID);
    collect();
    put_at("gc/here", "{\"version\":1,\"since\":{}}");
    now_ms += HOUR;
    collect();
    assert_true(pack_there(FIXTURE_ID));
    now_ms += HOUR;
    collect();
    assert_false(pack_there(FIXTURE_ID));
}

static void test_collect__notes_of_a_machine_that_is_gone__go_after_a_week(void **state)
{
    (void)state;
    put_at("gc/gone", "something");
    collect();
    now_ms += 7 * 24 * HOUR - 1;
    collect();
    assert_true(there("gc/gone"));
    now_ms += 1;
    collect();
    assert_false(there("gc/gone"));
    assert_true(there("gc/here"));
}

/* --- races ---------------------------------------------------------------------------------- */

static void reader_pins_and_expiry_follows(void)
{
    put_at("jobs/" READER, "{\"renew_ms\": 60000}");
    put_at("pins/" FIXTURE_ID "/" READER, "");
    delete_manifest(FIXTURE_ID);
}

/* A restore pins after the pins were listed, and the manifest that it has read goes before the
 * manifests are: this look sees nothing that leads to the objects, though the restore needs them.
 */
static void test_collect__pin_and_expiry_between_its_listings__lose_nothing(void **state)
{
    (void)state;
    collect();
    now_ms += 2 * HOUR;
    between.prefix = MANIFEST_PREFIX;
    between.run = reader_pins_and_expiry_follows;
    collect();
    assert_null(between.run);
    assert_true(pack_there(FIXTURE_ID));
    assert_true(there("data/" FIXTURE_ID "/files"));
    /* And from then on the pin counts. */
    put_at("jobs/" READER, "{\"renew_ms\": 60000, \"sequence\": 2}");
    now_ms += 2 * HOUR;
    collect();
    assert_true(pack_there(FIXTURE_ID));
}

static void job_publishes(void)
{
    make_child(CHILD);
    must(store_delete(f.store, "pins/" FIXTURE_ID "/" CHILD, CONTRACT_MS, &err_));
    must(store_delete(f.store, "jobs/" CHILD, CONTRACT_MS, &err_));
}

/* The other way round: a job ends while the collector looks. Wherever that happens, it is seen
 * either as running or as published. */
static void test_collect__job_that_ends_between_any_two_listings__is_seen(void **state)
{
    static const char *const prefixes[] = {DATA_PREFIX, VERIFIED_PREFIX, COLLECT_PREFIX,
                                           JOB_PREFIX,  PIN_PREFIX,      MANIFEST_PREFIX};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(prefixes); i++) {
        put_at("jobs/" CHILD, "{\"renew_ms\": 60000}");
        put_at("pins/" FIXTURE_ID "/" CHILD, "");
        put_at("data/" CHILD "/pack-00000000", "some");
        collect();
        now_ms += MINUTE;
        between.prefix = prefixes[i];
        between.run = job_publishes;
        collect();
        assert_null(between.run);
        now_ms += HOUR;
        collect();
        assert_restorable(CHILD);
        must(expire_snapshot(f.store, CHILD, &err_));
        collect_all();
        assert_false(pack_there(CHILD));
    }
    assert_restorable(FIXTURE_ID);
}

/* Two at once, the second within the first one's run: they decide alike and delete the same. */
static void second_collector(void)
{
    struct store *first = &between.base;

    (void)first;
    collect();
}

static void test_collect__second_collector_in_the_middle__does_no_harm(void **state)
{
    (void)state;
    make_child(CHILD);
    make_child(OTHER);
    must(expire_snapshot(f.store, FIXTURE_ID, &err_));
    must(expire_snapshot(f.store, OTHER, &err_));
    collect();
    now_ms += HOUR;
    between.prefix = PIN_PREFIX;
    between.run = second_collector;
    collect();
    assert_null(between.run);
    assert_false(pack_there(OTHER));
    assert_true(pack_there(FIXTURE_ID));
    assert_restorable(CHILD);
}

static void child_goes(void)
{
    char key[STORE_KEY_MAX];

    must(expire_snapshot(f.store, CHILD, &err_));
    file_table_key(CHILD, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
    pack_key(CHILD, 0, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
}

/* Found by the storm of snapshots on a cluster: a collector that stood still for longer than the
 * grace called a snapshot damaged that another one had taken away meanwhile. */
static void test_collect__snapshot_taken_away_since_it_was_listed__is_no_damage(void **state)
{
    char key[STORE_KEY_MAX];

    (void)state;
    make_child(CHILD);
    file_table_key(CHILD, key);
    between.prefix = key;
    between.run = child_goes;
    collect();
    assert_null(between.run);
    assert_restorable(FIXTURE_ID);
    now_ms += HOUR;
    collect();
    assert_int_equal(result.snapshots, 1);
}

/* A listing that was cut off: the manifest is there, only the listing lacks it. */
static void test_collect__listing_that_lacks_a_manifest_or_a_job__is_not_believed(void **state)
{
    (void)state;
    between.hidden = "manifests/" FIXTURE_ID;
    collect_all();
    collect_all();
    assert_restorable(FIXTURE_ID);
    put_at("jobs/" JOB, "{\"renew_ms\": 60000}");
    put_at("data/" JOB "/pack-00000000", "some");
    between.hidden = "jobs/" JOB;
    collect_all();
    collect_all();
    assert_true(there("data/" JOB "/pack-00000000"));
}

/* --- damage --------------------------------------------------------------------------------- */

static void test_collect__what_cannot_be_read__stops_it_and_is_named(void **state)
{
    char *saved;
    size_t len;

    (void)state;
    make_child(CHILD);
    delete_manifest(FIXTURE_ID);
    collect();
    now_ms += HOUR;
    for (int what = 0; what < 3; what++) {
        char key[STORE_KEY_MAX];
        struct err err = {0};
        struct store_body body;

        if (what == 0)
            manifest_key(CHILD, key);
        else if (what == 1)
            file_table_key(CHILD, key);
        else
            map_key(FIXTURE_ID, f.map_digest, key);
        must(store_get_all(f.store, key, 1 << 20, &saved, &len, CONTRACT_MS, &err_));
        put_at(key, "rubbish");
        assert_int_equal(try_collect(false, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        assert_non_null(strstr(err.text, CHILD));
        assert_non_null(strstr(err.text, "nothing was collected"));
        assert_true(pack_there(FIXTURE_ID));
        body = (struct store_body){.data = saved, .size = len};
        must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
        free(saved);
        now_ms += HOUR;
    }
    assert_restorable(CHILD);
}

static void test_collect__unreadable_table_under_a_dead_jobs_pin__is_no_hindrance_for_ever(
    void **state)
{
    struct err err = {0};

    (void)state;
    leave_job();
    delete_manifest(FIXTURE_ID);
    put_at("data/" FIXTURE_ID "/files", "rubbish");
    assert_int_equal(try_collect(false, &err), -1);
    now_ms += HOUR;
    collect();
    assert_int_equal(result.dead_jobs, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_collect__whole_snapshots__are_never_touched),
        TEST(test_collect__expired_snapshot__goes_after_the_grace_and_not_before),
        TEST(test_collect__objects_of_an_expired_parent__stay_while_a_child_refers_to_them),
        TEST(test_collect__dry_run__changes_nothing_and_tells_the_same),
        TEST(test_collect__names_of_another_form__are_never_touched),
        TEST(test_collect__marks_of_what_is_gone__go_too),
        TEST(test_collect__half_a_put__waits_an_hour_whatever_the_grace),
        TEST(test_collect__running_job__keeps_what_it_wrote_and_what_it_pins),
        TEST(test_collect__killed_job__is_found_dead_and_leaves_nothing),
        TEST(test_collect__job_that_speaks_rarely__is_given_ten_times_as_long),
        TEST(test_collect__pin_without_a_job__is_a_dead_ones),
        TEST(test_collect__persons_pin__keeps_for_ever_also_without_a_manifest),
        TEST(test_collect__other_machine__begins_to_wait_anew_whatever_its_clock_says),
        TEST(test_collect__clock_that_went_back__only_waits_longer),
        TEST(test_collect__notes_that_are_damaged__make_everything_wait_anew),
        TEST(test_collect__notes_of_a_machine_that_is_gone__go_after_a_week),
        TEST(test_collect__pin_and_expiry_between_its_listings__lose_nothing),
        TEST(test_collect__job_that_ends_between_any_two_listings__is_seen),
        TEST(test_collect__second_collector_in_the_middle__does_no_harm),
        TEST(test_collect__snapshot_taken_away_since_it_was_listed__is_no_damage),
        TEST(test_collect__listing_that_lacks_a_manifest_or_a_job__is_not_believed),
        TEST(test_collect__what_cannot_be_read__stops_it_and_is_named),
        TEST(test_collect__unreadable_table_under_a_dead_jobs_pin__is_no_hindrance_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
