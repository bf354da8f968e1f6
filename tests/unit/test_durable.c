#include "tests/unit/tmpdir.h"

#include <fcntl.h>
#include <unistd.h>

#include "agent/durable.h"
#include "base/json.h"
#include "base/slotfile.h"
#include "protocol/order.h"

/* Every field away from its default, so that one that the record forgets shows. */
static void fill(struct durable *d)
{
    durable_init(d, 1);
    memset(d->cluster.bytes, 0xab, sizeof d->cluster.bytes);
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        d->incarnations[slot] = (struct incarnation){.number = 3u + (unsigned)slot,
                                                     .nonce = 0xfedcba9876543210u + (unsigned)slot};
        d->void_number[slot] = 2u + (unsigned)slot;
        d->registered_at[slot] = slot != 1;
    }
    d->registered = d->birth_promised = d->birth_ended = true;
    d->birth_leader = 2;
    d->promise = (struct promise){.generation = 9, .proposer = UINT64_MAX};
    d->leader = (struct leadership){
        .generation = 9, .node = 0, .incarnation = {.number = 3, .nonce = 77}, .proposer = 1234567};
    d->grant = (struct grant){
        .generation = 8, .proposer = 5, .incarnation = {.number = 4, .nonce = 6}, .spent = true};
    d->role = ROLE_FOLLOWER;
    d->planned = true;
    d->data_id = 0x8000000000000001u;
    d->marker = MARKER_REWIND;
    d->marker_done = d->complete = d->rewound = d->whole_before_rewind = true;
    d->followed = 7;
    d->rewind_tried = 6;
    d->fork = (struct position){.timeline = 5, .lsn = 0x1122334455667788};
    d->complete_target = (struct position){.timeline = 9, .lsn = 0xffffffff00000001};
    d->floor = (struct position){.timeline = 4, .lsn = 1};
    d->job = (struct job){.id = 0xdeadbeefcafe, .kind = JOB_REINIT};
    d->job_state = JOB_RUNNING;
    d->job_source = (struct snapshot_source){.id = "20260203T040506Z-1a2b3c4d",
                                             .timeline = 7,
                                             .stop_lsn = 0xffffffff00000002,
                                             .system_id = UINT64_MAX,
                                             .pg_version = 150018};
    memset(d->job_source.store, '"', sizeof d->job_source.store - 1); /* two bytes each in JSON */
    d->birth_source = d->job_source;
    d->birth_source.timeline = 8;
}

static void assert_durable_equal(const struct durable *a, const struct durable *b)
{
    json_t *left = durable_to_json(a), *right = durable_to_json(b);

    assert_true(json_equal(left, right));
    json_decref(left);
    json_decref(right);
}

static void test_durable__every_field__survives_the_record(void **state)
{
    struct durable before, after;
    struct err err = {0};
    json_t *json;

    (void)state;
    fill(&before);
    json = durable_to_json(&before);
    assert_int_equal(durable_from_json(json, &after, &err), 0);
    json_decref(json);
    assert_durable_equal(&before, &after);
    assert_true(promise_equal(after.promise, before.promise));
    assert_int_equal(after.incarnations[2].nonce, before.incarnations[2].nonce);
    assert_int_equal(after.data_id, before.data_id);
    assert_int_equal(after.complete_target.lsn, before.complete_target.lsn);
    assert_int_equal(after.marker, MARKER_REWIND);
    assert_int_equal(after.job_state, JOB_RUNNING);
    assert_true(after.grant.spent);
}

/* One that an agent wrote that knew of none. */
static void test_durable__record_without_a_source__has_none(void **state)
{
    struct durable before, after;
    struct err err = {0};
    json_t *json;

    (void)state;
    fill(&before);
    json = durable_to_json(&before);
    json_object_del(json, "job_source");
    json_object_del(json, "birth_source");
    assert_int_equal(durable_from_json(json, &after, &err), 0);
    assert_string_equal(after.job_source.id, "");
    assert_string_equal(after.birth_source.id, "");
    json_decref(json);
}

/* The document stands in its own file: a record must not bring an older one back. */
static void test_durable__the_document__is_not_part_of_the_record(void **state)
{
    struct durable before, after;
    struct err err = {0};
    json_t *json;

    (void)state;
    fill(&before);
    before.document.version = (struct document_version){.generation = 4, .counter = 5};
    before.document.maintenance = true;
    json = durable_to_json(&before);
    assert_int_equal(durable_from_json(json, &after, &err), 0);
    json_decref(json);
    assert_int_equal(after.document.version.generation, 0);
    assert_false(after.document.maintenance);
}

static void test_durable__a_new_machine__has_promised_nothing(void **state)
{
    struct slotfile *file;
    struct durable durable;
    struct err err = {0};

    (void)state;
    assert_int_equal(durable_open(tmpdir, 2, &file, &durable, &err), 0);
    assert_int_equal(durable.node, 2);
    assert_int_equal(durable.promise.generation, 0);
    assert_int_equal(durable.leader.node, NODE_NONE);
    assert_true(cluster_id_is_none(&durable.cluster));
    slotfile_close(file);
}

static void test_durable__what_was_written__is_read_by_the_next_agent(void **state)
{
    struct slotfile *file;
    struct durable before, after;
    struct err err = {0};

    (void)state;
    assert_int_equal(durable_open(tmpdir, 1, &file, &after, &err), 0);
    fill(&before);
    assert_int_equal(durable_write(file, &before, &err), 0);
    slotfile_close(file);
    assert_int_equal(durable_open(tmpdir, 1, &file, &after, &err), 0);
    assert_durable_equal(&before, &after);
    slotfile_close(file);
}

static void test_durable__another_nodes_record__is_refused(void **state)
{
    struct slotfile *file;
    struct durable durable;
    struct err err = {0};

    (void)state;
    assert_int_equal(durable_open(tmpdir, 1, &file, &durable, &err), 0);
    fill(&durable);
    assert_int_equal(durable_write(file, &durable, &err), 0);
    slotfile_close(file);
    assert_int_equal(durable_open(tmpdir, 0, &file, &durable, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_null(file);
}

/* Not an empty promise: a machine that forgot what it promised could promise it to somebody else.
 */
static void test_durable__a_destroyed_record__is_an_error_not_a_blank_machine(void **state)
{
    struct slotfile *file;
    struct durable durable;
    struct err err = {0};
    char noise[256];
    int fd;

    (void)state;
    assert_int_equal(durable_open(tmpdir, 1, &file, &durable, &err), 0);
    fill(&durable);
    assert_int_equal(durable_write(file, &durable, &err), 0);
    assert_int_equal(durable_write(file, &durable, &err), 0);
    slotfile_close(file);
    memset(noise, 0x5a, sizeof noise);
    fd = open(tmp_path("promise"), O_WRONLY);
    assert_int_equal(pwrite(fd, noise, sizeof noise, 100), sizeof noise);
    assert_int_equal(pwrite(fd, noise, sizeof noise, DURABLE_SLOT_BYTES + 100), sizeof noise);
    close(fd);
    assert_int_equal(durable_open(tmpdir, 1, &file, &durable, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_durable__a_record_of_another_format__is_refused(void **state)
{
    struct durable durable;
    struct err err = {0};
    json_t *json;

    (void)state;
    fill(&durable);
    json = durable_to_json(&durable);
    json_object_set_new(json, "format", json_integer(2));
    assert_int_equal(durable_from_json(json, &durable, &err), -1);
    json_object_del(json, "format");
    assert_int_equal(durable_from_json(json, &durable, &err), -1);
    json_decref(json);
}

static void test_durable__a_missing_field__is_refused(void **state)
{
    struct durable durable;
    struct err err = {0};
    json_t *json;

    (void)state;
    fill(&durable);
    json = durable_to_json(&durable);
    json_object_del(json, "promise");
    assert_int_equal(durable_from_json(json, &durable, &err), -1);
    assert_non_null(strstr(err.text, "promise"));
    json_decref(json);
}

static void test_durable__the_greatest_record__fits_its_slot(void **state)
{
    struct durable durable;
    json_t *json;
    char *line;

    (void)state;
    memset(&durable, 0xff, sizeof durable);
    durable.node = durable.birth_leader = durable.leader.node = 2;
    durable.role = ROLE_FOLLOWER;
    durable.marker = MARKER_RESTORE;
    durable.job.kind = JOB_RESTART;
    durable.job_state = JOB_RUNNING;
    durable.registered = durable.birth_promised = durable.birth_ended = durable.planned = false;
    durable.marker_done = durable.complete = durable.rewound = durable.whole_before_rewind = false;
    durable.grant.spent = false;
    for (int i = 0; i < 2; i++) {
        struct snapshot_source *source = i ? &durable.birth_source : &durable.job_source;

        source->store[sizeof source->store - 1] = source->id[sizeof source->id - 1] = '\0';
    }
    for (int slot = 0; slot < NODE_COUNT; slot++)
        durable.registered_at[slot] = false;
    json = durable_to_json(&durable);
    line = json_dump_line(json);
    assert_true(strlen(line) < (DURABLE_SLOT_BYTES - SLOTFILE_HEADER_SIZE) / 2);
    free(line);
    json_decref(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_durable__every_field__survives_the_record),
        TEST(test_durable__record_without_a_source__has_none),
        TEST(test_durable__the_document__is_not_part_of_the_record),
        TEST(test_durable__a_new_machine__has_promised_nothing),
        TEST(test_durable__what_was_written__is_read_by_the_next_agent),
        TEST(test_durable__another_nodes_record__is_refused),
        TEST(test_durable__a_destroyed_record__is_an_error_not_a_blank_machine),
        TEST(test_durable__a_record_of_another_format__is_refused),
        TEST(test_durable__a_missing_field__is_refused),
        TEST(test_durable__the_greatest_record__fits_its_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
