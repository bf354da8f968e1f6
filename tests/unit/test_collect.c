/* The collector: what it leaves, what it deletes and when, and that nobody who comes in between
 * loses anything. Time is a value; a store in between runs what a test wants at the moment it
 * wants. */
#include "tests/unit/snapshot_fixture.h"

#include "base/clock.h"
#include "snapshots/collect.h"
#include "snapshots/expire.h"
#include "snapshots/job.h"
#include "snapshots/marks.h"
#include "snapshots/restore.h"
#include "snapshots/store_internal.h"

#define CHILD  "20260203T050000Z-0000000c"
#define OTHER  "20260203T060000Z-0000000d"
#define JOB    "20260203T070000Z-0000000e"
#define READER "20260203T080000Z-0000000f"
#define HOUR   INT64_C(3600000)
#define MINUTE INT64_C(60000)

static struct fixture f;
static int64_t now_ms;
static const char *observer;

/* --- a store in between --------------------------------------------------------------------- */

/* Before the listing of PREFIX, once. */
static struct {
    struct store base;
    const char *prefix;
    void (*run)(void);
    const char *hidden; /* a name that no listing gives */
    store_list_fn *fn;
    void *arg;
} between;

static int filter(const char *key, uint64_t size, void *arg, struct err *err)
{
    (void)arg;
    return between.hidden != NULL && strcmp(key, between.hidden) == 0
               ? 0
               : between.fn(key, size, between.arg, err);
}

static int between_list(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
                        int64_t deadline_ms, struct err *err)
{
    void (*run)(void) = between.run;

    (void)store;
    if (run != NULL && strcmp(prefix, between.prefix) == 0) {
        between.run = NULL;
        run();
    }
    between.fn = fn;
    between.arg = arg;
    return f.store->ops->list(f.store, prefix, filter, NULL, deadline_ms, err);
}

static int between_put(struct store *store, const char *key, const struct store_body *body,
                       bool only_new, int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->put(f.store, key, body, only_new, deadline_ms, err);
}

static int between_get(struct store *store, const char *key, uint64_t offset, size_t len, void *buf,
                       size_t *got, int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->get(f.store, key, offset, len, buf, got, deadline_ms, err);
}

static int between_head(struct store *store, const char *key, uint64_t *size, int64_t deadline_ms,
                        struct err *err)
{
    (void)store;
    return f.store->ops->head(f.store, key, size, deadline_ms, err);
}

static int between_remove(struct store *store, const char *key, int64_t deadline_ms,
                          struct err *err)
{
    (void)store;
    return f.store->ops->remove(f.store, key, deadline_ms, err);
}

static int between_list_unfinished(struct store *store, store_list_fn *fn, void *arg,
                                   int64_t deadline_ms, struct err *err)
{
    (void)store;
    return f.store->ops->list_unfinished(f.store, fn, arg, deadline_ms, err);
}

static int between_remove_unfinished(struct store *store, const char *name, struct err *err)
{
    (void)store;
    return f.store->ops->remove_unfinished(f.store, name, err);
}

static const struct store_ops between_ops = {
    .put = between_put,
    .get = between_get,
    .head = between_head,
    .list = between_list,
    .remove = between_remove,
    .list_unfinished = between_list_unfinished,
    .remove_unfinished = between_remove_unfinished,
};

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    fixture_make(&f);
    memset(&between, 0, sizeof(between));
    between.base = (struct store){&between_ops, f.store->name};
    now_ms = 1000 * HOUR;
    observer = "here";
    return 0;
}

static int teardown(void **state)
{
    fixture_free(&f);
    return tmpdir_remove(state);
}

/* --- helpers -------------------------------------------------------------------------------- */

static bool there(const char *key)
{
    struct err err = {0};
    uint64_t size;

    if (store_head(f.store, key, &size, CONTRACT_MS, &err) == 0)
        return true;
    assert_int_equal(err.code, ERR_NOT_FOUND);
    return false;
}

static bool pack_there(const char *id)
{
    char key[STORE_KEY_MAX];

    pack_key(id, 0, key);
    return there(key);
}

static int64_t clock_of_test(void *arg)
{
    (void)arg;
    return now_ms;
}

static struct collect_result result;

static int try_collect(bool dry_run, struct err *err)
{
    const struct collect_options options = {
        .dry_run = dry_run, .observer = observer, .now_ms = clock_of_test};

    return collect_run(&between.base, &options, &result, err);
}

static void collect(void)
{
    must(try_collect(false, &err_));
}

/* A look, the whole grace, and another. */
static void collect_all(void)
{
    collect();
    now_ms += HOUR;
    collect();
}

static void assert_restorable(const char *id)
{
    const struct restore_options options = {.jobs = 2};
    struct manifest manifest;

    must(restore_verify(f.store, id, &options, &manifest, &err_));
    manifest_free(&manifest);
}

/* A snapshot ID that refers to everything of the fixture's and has a pack of its own besides. */
static void make_child(const char *id)
{
    struct table_entry entry = {.type = TABLE_FILE, .mode = 0600, .size = 5, .path = "more"};
    struct manifest manifest = f.manifest;
    struct table_writer *writer;
    struct table_reader *reader;
    struct map map = {0};
    uint8_t hash[SLICE_HASH_SIZE];
    char frame[SLICE_SIZE], key[STORE_KEY_MAX];
    int fd = spool_open(NULL), old;
    struct store_body body;
    size_t len;

    memcpy(manifest.id, id, SNAPSHOT_ID_SIZE);
    memcpy(manifest.parent, FIXTURE_ID, SNAPSHOT_ID_SIZE);
    writer = table_writer_new(fd);
    must(spool_file_table(f.store, &f.manifest, &old, &err_));
    must(table_open(old, f.manifest.table_bytes, &reader, &err_));
    for (;;) {
        struct table_entry from;
        struct err err = {0};

        if (table_next(reader, &from, &err) <= 0)
            break;
        must(table_write(writer, &from, &err_));
    }
    table_close(reader);
    close(old);
    slice_hash("child", 5, hash);
    body = (struct store_body){.data = frame, .size = codec_encode(f.codec, "child", 5, frame)};
    map_add(&map, id, 0, 0, (uint32_t)body.size, hash);
    pack_key(id, 0, key);
    must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
    entry.map = map_encode(&map, &len);
    entry.map_len = (uint32_t)len;
    must(table_write(writer, &entry, &err_));
    free((void *)(uintptr_t)entry.map);
    map_free(&map);
    manifest.files++;
    manifest.slices++;
    manifest.logical_bytes += 5;
    must(table_finish(writer, &manifest.table_bytes, manifest.table_digest, &err_));
    table_writer_free(writer);
    file_table_key(id, key);
    body = (struct store_body){.fd = fd, .size = manifest.table_bytes};
    must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
    close(fd);
    fixture_publish(&f, &manifest);
}

static void delete_manifest(const char *id)
{
    char key[STORE_KEY_MAX];

    manifest_key(id, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
}

static void put_at(const char *key, const char *text)
{
    put_text(f.store, key, text);
}

/* What a killed job leaves: its word, a pin, some packs. */
static void leave_job(void)
{
    put_at("jobs/" JOB, "{\"renew_ms\": 60000, \"sequence\": 1}");
    put_at("pins/" FIXTURE_ID "/" JOB, "");
    put_at("data/" JOB "/pack-00000000", "half of it");
}

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
        TEST(test_job__taken_for_dead__finds_out_by_itself),
        TEST(test_job__that_runs__changes_its_word_and_takes_it_away_at_the_end),
        TEST(test_job__buried_while_it_renews__stays_buried),
        TEST(test_job__unreadable_word__counts_as_one_of_the_default),
        TEST(test_collect__other_machine__begins_to_wait_anew_whatever_its_clock_says),
        TEST(test_collect__clock_that_went_back__only_waits_longer),
        TEST(test_collect__notes_that_are_damaged__make_everything_wait_anew),
        TEST(test_collect__notes_of_a_machine_that_is_gone__go_after_a_week),
        TEST(test_collect__pin_and_expiry_between_its_listings__lose_nothing),
        TEST(test_collect__job_that_ends_between_any_two_listings__is_seen),
        TEST(test_collect__second_collector_in_the_middle__does_no_harm),
        TEST(test_collect__listing_that_lacks_a_manifest_or_a_job__is_not_believed),
        TEST(test_collect__what_cannot_be_read__stops_it_and_is_named),
        TEST(test_collect__unreadable_table_under_a_dead_jobs_pin__is_no_hindrance_for_ever),
        TEST(test_expire__pinned__is_refused_and_names_the_pin),
        TEST(test_expire__rule__takes_what_it_does_not_keep),
        TEST(test_marks__verified_drilled_and_pins__are_read_back),
        TEST(test_verify__pins_for_the_time_being_and_no_longer),
        TEST(test_verify__of_a_store_that_takes_no_pin__warns_and_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
