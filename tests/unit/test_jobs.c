/* What jobs say in a store, what restores pin, and how snapshots are marked and expire. */
#include "tests/unit/collect_fixture.h"

/* --- jobs ------------------------------------------------------------------------------------- */

/* A frozen job that wakes: it was buried, and finds out before it publishes or right after. */
static void test_job__taken_for_dead__finds_out_by_itself(void **state)
{
    struct job *job;
    struct err err = {0};

    (void)state;
    must(job_begin(f.store, "create", JOB, FIXTURE_ID, 3600000, &job, &err_));
    must(job_check(job, &err_));
    assert_true(there("pins/" FIXTURE_ID "/" JOB));
    collect();
    now_ms += 10 * HOUR;
    collect();
    assert_int_equal(result.dead_jobs, 1);
    assert_int_equal(job_check(job, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    job_end(job);
    assert_false(there("jobs/" JOB));
}

static void test_job__that_runs__changes_its_word_and_takes_it_away_at_the_end(void **state)
{
    char *first, *second = NULL;
    struct job *job;
    size_t len;

    (void)state;
    must(job_begin(f.store, "restore", JOB, FIXTURE_ID, JOB_RENEW_MIN_MS, &job, &err_));
    must(store_get_all(f.store, "jobs/" JOB, JOB_BYTES_MAX, &first, &len, CONTRACT_MS, &err_));
    assert_int_equal(job_renew_ms(first, len), JOB_RENEW_MIN_MS);
    assert_non_null(strstr(first, "\"kind\":\"restore\""));
    do {
        free(second);
        must(store_get_all(f.store, "jobs/" JOB, JOB_BYTES_MAX, &second, &len, CONTRACT_MS, &err_));
    } while (strcmp(first, second) == 0);
    free(first);
    free(second);
    must(job_check(job, &err_));
    job_end(job);
    assert_false(there("jobs/" JOB));
    assert_false(there("pins/" FIXTURE_ID "/" JOB));
}

static void test_job__buried_while_it_renews__stays_buried(void **state)
{
    struct job *job;
    struct err err = {0};

    (void)state;
    must(job_begin(f.store, "create", JOB, NULL, JOB_RENEW_MIN_MS, &job, &err_));
    must(store_delete(f.store, "jobs/" JOB, CONTRACT_MS, &err_));
    /* At the next turn at the latest; a turn under way may have put it back once. */
    for (int64_t end_ms = clock_mono_ms() + 20000; job_check_quick(job, &err) == 0;) {
        assert_true(clock_mono_ms() < end_ms);
        must(store_delete(f.store, "jobs/" JOB, CONTRACT_MS, &err_));
        usleep(1000);
    }
    assert_false(there("jobs/" JOB));
    job_end(job);
}

static void test_job__unreadable_word__counts_as_one_of_the_default(void **state)
{
    (void)state;
    assert_int_equal(job_renew_ms("rubbish", 7), JOB_RENEW_MS);
    assert_int_equal(job_renew_ms("{\"renew_ms\":0}", 14), JOB_RENEW_MS);
    assert_int_equal(job_renew_ms("", 0), JOB_RENEW_MS);
}

/* --- expiry and marks ------------------------------------------------------------------------- */

static void test_expire__pinned__is_refused_and_names_the_pin(void **state)
{
    struct err err = {0};

    (void)state;
    must(marks_pin(f.store, FIXTURE_ID, "mine", "me", &err_));
    assert_int_equal(expire_snapshot(f.store, FIXTURE_ID, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "unpin"));
    must(marks_unpin(f.store, FIXTURE_ID, &err_));
    put_at("pins/" FIXTURE_ID "/" JOB, "");
    err_clear(&err);
    assert_int_equal(expire_snapshot(f.store, FIXTURE_ID, &err), -1);
    assert_non_null(strstr(err.text, JOB));
    must(store_delete(f.store, "pins/" FIXTURE_ID "/" JOB, CONTRACT_MS, &err_));
    must(marks_put(f.store, VERIFIED_PREFIX, FIXTURE_ID, 1, &err_));
    must(expire_snapshot(f.store, FIXTURE_ID, &err_));
    assert_false(there("verified/" FIXTURE_ID));
    assert_true(pack_there(FIXTURE_ID));
    err_clear(&err);
    assert_int_equal(expire_snapshot(f.store, FIXTURE_ID, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    err_clear(&err);
    assert_int_equal(marks_pin(f.store, FIXTURE_ID, "late", "me", &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_false(there("pins/" FIXTURE_ID "/" PIN_OPERATOR));
}

static void test_expire__rule__takes_what_it_does_not_keep(void **state)
{
    const struct keep_rule rule = {.least = 1};
    struct keep_entry *entries;
    size_t count;

    (void)state;
    f.manifest.stopped_ms = 1000;
    fixture_publish(&f, &f.manifest);
    f.manifest.stopped_ms = 2000;
    make_child(CHILD);
    f.manifest.stopped_ms = 3000;
    make_child(OTHER);
    must(marks_put(f.store, VERIFIED_PREFIX, CHILD, 1, &err_));
    must(expire_plan(f.store, &rule, &entries, &count, &err_));
    assert_int_equal(count, 3);
    must(expire_run(f.store, entries, count, &err_));
    assert_string_equal(entries[0].id, OTHER);
    assert_true(entries[0].keep && entries[1].keep && !entries[2].keep);
    assert_true(entries[2].is_parent);
    free(entries);
    assert_false(there("manifests/" FIXTURE_ID));
    collect_all();
    assert_restorable(OTHER);
    assert_restorable(CHILD);
}

static void test_marks__verified_drilled_and_pins__are_read_back(void **state)
{
    const struct marks_entry *entry;
    struct marks marks;

    (void)state;
    must(marks_put(f.store, VERIFIED_PREFIX, FIXTURE_ID, 1.5, &err_));
    must(marks_put(f.store, DRILLED_PREFIX, FIXTURE_ID, 2.5, &err_));
    must(marks_pin(f.store, FIXTURE_ID, "note", "me", &err_));
    put_at("pins/" FIXTURE_ID "/" JOB, "");
    put_at("verified/" CHILD, "rubbish");
    must(marks_load(f.store, &marks, &err_));
    entry = marks_find(&marks, FIXTURE_ID);
    assert_true(entry->verified_ms > 0 && entry->drilled_ms >= entry->verified_ms);
    assert_true(entry->pinned);
    assert_string_equal(entry->note, "note");
    assert_string_equal(entry->job, JOB);
    assert_string_equal(entry->pin, PIN_OPERATOR);
    assert_int_equal(marks_find(&marks, CHILD)->verified_ms, 0);
    assert_int_equal(marks_find(&marks, OTHER)->verified_ms, 0);
    marks_free(&marks);
    must(marks_remove(f.store, FIXTURE_ID, &err_));
    assert_false(there("verified/" FIXTURE_ID));
    assert_false(there("drilled/" FIXTURE_ID));
}

/* --- restores ------------------------------------------------------------------------------- */

static bool pinned_while_read;

static void look_for_pin(const struct snapshot_progress *progress, void *arg)
{
    struct marks marks;

    (void)progress;
    (void)arg;
    must(marks_load(f.store, &marks, &err_));
    pinned_while_read = pinned_while_read || marks_find(&marks, FIXTURE_ID)->job[0] != '\0';
    marks_free(&marks);
}

static void test_verify__pins_for_the_time_being_and_no_longer(void **state)
{
    const struct restore_options options = {.progress = look_for_pin};
    struct manifest manifest;
    struct marks marks;

    (void)state;
    pinned_while_read = false;
    must(restore_verify(f.store, FIXTURE_ID, &options, &manifest, &err_));
    manifest_free(&manifest);
    assert_true(pinned_while_read);
    must(marks_load(f.store, &marks, &err_));
    assert_string_equal(marks_find(&marks, FIXTURE_ID)->pin, "");
    marks_free(&marks);
}

static int refuse_put(struct store *store, const char *key, const struct store_body *body,
                      bool only_new, int64_t deadline_ms, struct err *err)
{
    (void)store;
    (void)key;
    (void)body;
    (void)only_new;
    (void)deadline_ms;
    return err_set(err, ERR_REFUSED, "this store is read-only");
}

static void test_verify__of_a_store_that_takes_no_pin__warns_and_works(void **state)
{
    struct err warning = {0};
    const struct restore_options options = {.warning = &warning};
    struct store_ops ops = between_ops;
    struct store read_only = {&ops, f.store->name};
    struct manifest manifest;

    (void)state;
    ops.put = refuse_put;
    must(restore_verify(&read_only, FIXTURE_ID, &options, &manifest, &err_));
    manifest_free(&manifest);
    assert_int_equal(warning.code, ERR_REFUSED);
    assert_non_null(strstr(warning.text, "read-only"));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_job__taken_for_dead__finds_out_by_itself),
        TEST(test_job__that_runs__changes_its_word_and_takes_it_away_at_the_end),
        TEST(test_job__buried_while_it_renews__stays_buried),
        TEST(test_job__unreadable_word__counts_as_one_of_the_default),
        TEST(test_expire__pinned__is_refused_and_names_the_pin),
        TEST(test_expire__rule__takes_what_it_does_not_keep),
        TEST(test_marks__verified_drilled_and_pins__are_read_back),
        TEST(test_verify__pins_for_the_time_being_and_no_longer),
        TEST(test_verify__of_a_store_that_takes_no_pin__warns_and_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
