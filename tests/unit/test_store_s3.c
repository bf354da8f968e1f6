/* S3 as the store's backend, against a server of our own that misbehaves when told to. */
#include "tests/unit/store_contract.h"

#include <sys/stat.h>

#include "base/clock.h"
#include "tests/unit/fake_s3.h"

static struct fake_s3 fake;
static struct store *store;

static void open_store(void)
{
    char url[64];

    snprintf(url, sizeof(url), "s3+http://127.0.0.1:%d/" FAKE_BUCKET "/some/prefix", fake.port);
    must(store_open(url, NULL, &store, &err_));
}

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    setenv("AWS_ACCESS_KEY_ID", "test-access", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "test-secret", 1);
    fake_s3_start(&fake);
    open_store();
    return 0;
}

static int teardown(void **state)
{
    store_close(store);
    fake_s3_stop(&fake);
    return tmpdir_remove(state);
}

static void test_s3__object__is_read_whole_and_in_ranges(void **state)
{
    (void)state;
    contract_get(store);
    assert_memory_equal(fake.objects[0].key, "some/prefix/a/", 14);
}

static void test_s3__missing_object__is_not_found(void **state)
{
    (void)state;
    contract_missing(store);
}

static void test_s3__list__goes_through_all_pages(void **state)
{
    (void)state;
    contract_list(store);
}

static void test_s3__big_object__comes_back(void **state)
{
    (void)state;
    contract_big(store);
}

static void test_s3__put_new__is_refused_rather_than_guessed(void **state)
{
    const struct store_body body = {.data = "new", .size = 3};
    struct err err = {0};

    (void)state;
    assert_false(store_has_put_new(store));
    assert_int_equal(store_put_new(store, "a", &body, CONTRACT_MS, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_int_equal(fake_s3_requests(&fake), 0);
}

static void test_s3__passing_faults__are_tried_again(void **state)
{
    const enum fake_fault faults[] = {FAULT_SLOW_DOWN, FAULT_500, FAULT_CLOSE};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(faults); i++) {
        struct contract_list list = {0};
        uint64_t size;

        fake_s3_fault(&fake, faults[i], 2);
        put_text(store, "a", "content");
        /* Each put that libs3 takes for done is followed by a head. */
        assert_true(fake_s3_requests(&fake) >= 4);
        fake_s3_fault(&fake, faults[i], 1);
        assert_object(store, "a", "content");
        fake_s3_fault(&fake, faults[i], 1);
        must(store_head(store, "a", &size, CONTRACT_MS, &err_));
        fake_s3_fault(&fake, faults[i], 1);
        must(store_list(store, "", contract_note, &list, CONTRACT_MS, &err_));
        assert_int_equal(list.count, 1);
        fake_s3_fault(&fake, faults[i], 1);
        must(store_delete(store, "a", CONTRACT_MS, &err_));
    }
}

/* libs3 takes it for a success. */
static void test_s3__body_cut_off__is_fetched_again(void **state)
{
    char buf[10];

    (void)state;
    put_text(store, "a", "0123456789");
    fake_s3_fault(&fake, FAULT_CUT_BODY, 2);
    must(store_get(store, "a", 0, 10, buf, CONTRACT_MS, &err_));
    assert_memory_equal(buf, "0123456789", 10);
    assert_int_equal(fake_s3_requests(&fake), 3);
}

/* libs3 takes it for an object without content. */
static void test_s3__headers_cut_off__make_no_empty_object(void **state)
{
    char buf[10];
    uint64_t size;

    (void)state;
    put_text(store, "a", "0123456789");
    fake_s3_fault(&fake, FAULT_CUT_HEADERS, 2);
    must(store_head(store, "a", &size, CONTRACT_MS, &err_));
    assert_int_equal(size, 10);
    fake_s3_fault(&fake, FAULT_CUT_HEADERS, 2);
    must(store_get(store, "a", 0, 10, buf, CONTRACT_MS, &err_));
    assert_memory_equal(buf, "0123456789", 10);
    fake_s3_fault(&fake, FAULT_CUT_HEADERS, 1);
    assert_object(store, "a", "0123456789");
}

static void test_s3__listing_cut_off__names_each_object_once(void **state)
{
    struct contract_list list = {0};

    (void)state;
    for (int i = 0; i < 5; i++) {
        char key[8];

        snprintf(key, sizeof(key), "l/%d", i);
        put_text(store, key, "x");
    }
    fake_s3_fault(&fake, FAULT_CUT_BODY, 1);
    must(store_list(store, "l/", contract_note, &list, CONTRACT_MS, &err_));
    assert_int_equal(list.count, 5);
    for (int i = 0; i < 5; i++) {
        char key[8];

        snprintf(key, sizeof(key), "l/%d", i);
        assert_true(contract_listed(&list, key));
    }
}

static void test_s3__server_that_does_not_answer__ends_by_the_deadline(void **state)
{
    int64_t began_ms = clock_mono_ms();
    struct err err = {0};
    uint64_t size;

    (void)state;
    fake_s3_fault(&fake, FAULT_STALL, -1);
    assert_int_equal(store_head(store, "a", &size, 500, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - began_ms >= 500);
    assert_true(clock_mono_ms() - began_ms < 15000);
    fake_s3_fault(&fake, FAULT_NONE, 0);
    put_text(store, "a", "works again");
    assert_object(store, "a", "works again");
}

static void test_s3__server_that_stays_away__ends_by_the_deadline_and_says_why(void **state)
{
    const struct store_body body = {.data = "x", .size = 1};
    struct err err = {0};

    (void)state;
    fake_s3_fault(&fake, FAULT_SLOW_DOWN, -1);
    assert_int_equal(store_put(store, "a", &body, 1000, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_non_null(strstr(err.text, "SlowDown"));
    assert_true(fake_s3_requests(&fake) > 1);
    /* With pauses between: not as often as it can. */
    assert_true(fake_s3_requests(&fake) < 20);
}

static void test_s3__last_try_cut_by_the_deadline__says_what_the_server_said_before(void **state)
{
    const struct store_body body = {.data = "x", .size = 1};
    struct err err = {0};

    (void)state;
    fake_s3_faults(&fake, FAULT_SLOW_DOWN, 1, FAULT_STALL);
    assert_int_equal(store_put(store, "a", &body, 3000, &err), -1);
    assert_int_equal(err.code, ERR_TIMEOUT);
    assert_int_equal(fake_s3_requests(&fake), 2);
    assert_non_null(strstr(err.text, "SlowDown"));
    fake_s3_fault(&fake, FAULT_NONE, 0);
}

static void test_s3__object_that_is_not_what_was_sent__is_no_success(void **state)
{
    const enum fake_fault faults[] = {FAULT_SPOILED, FAULT_SHORTENED};
    const struct store_body body = {.data = "content", .size = 7};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(faults); i++) {
        struct err err = {0};

        fake_s3_fault(&fake, faults[i], -1);
        assert_int_equal(store_put(store, "a", &body, CONTRACT_MS, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        assert_non_null(strstr(err.text, "was taken, but"));
    }
}

static void test_s3__etag_that_is_no_md5_or_missing__makes_it_read_back(void **state)
{
    const enum fake_fault faults[] = {FAULT_OTHER_ETAG, FAULT_NO_ETAG};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(faults); i++) {
        fake_s3_fault(&fake, faults[i], 2);
        put_text(store, "a", "content");
        assert_int_equal(fake_s3_requests(&fake), 3); /* put, head, get */
        assert_object(store, "a", "content");
    }
}

/* What no retry mends is told at once, with what to do. */
static void test_s3__lasting_refusals__are_told_at_once(void **state)
{
    const struct {
        enum fake_fault fault;
        enum err_code code;
        const char *says;
    } refusals[] = {
        {FAULT_DENIED, ERR_AUTH, "secret key"},
        {FAULT_SKEWED, ERR_AUTH, "clock"},
        {FAULT_FULL, ERR_NO_SPACE, "the store is full"},
        {FAULT_NO_BUCKET, ERR_NOT_FOUND, "bucket"},
    };
    const struct store_body body = {.data = "x", .size = 1};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(refusals); i++) {
        struct err err = {0};

        fake_s3_fault(&fake, refusals[i].fault, -1);
        assert_int_equal(store_put(store, "a", &body, CONTRACT_MS, &err), -1);
        assert_int_equal(err.code, refusals[i].code);
        assert_non_null(strstr(err.text, refusals[i].says));
        assert_null(strstr(err.text, "test-secret"));
        assert_int_equal(fake_s3_requests(&fake), 1);
    }
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    must(file_write_atomic(path, text, strlen(text), mode, &err_));
}

static void test_s3__credentials__come_from_a_private_file_or_the_environment(void **state)
{
    struct store_options options = {.credentials_file = tmp_path("credentials")};
    struct store *other;
    struct err err = {0};

    (void)state;
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_int_equal(store_open("s3://host/bucket", NULL, &other, &err), -1);
    assert_int_equal(err.code, ERR_AUTH);
    write_file(options.credentials_file, "access:secret\n", 0644);
    assert_int_equal(store_open("s3://host/bucket", &options, &other, &err), -1);
    assert_int_equal(err.code, ERR_AUTH);
    write_file(options.credentials_file, "no colon\n", 0600);
    assert_int_equal(store_open("s3://host/bucket", &options, &other, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(strstr(err.text, "no colon"));
    write_file(options.credentials_file, "access:secret\n", 0600);
    must(store_open("s3://host/bucket", &options, &other, &err_));
    store_close(other);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_s3__object__is_read_whole_and_in_ranges),
        WITH_SERVER(test_s3__missing_object__is_not_found),
        WITH_SERVER(test_s3__list__goes_through_all_pages),
        WITH_SERVER(test_s3__big_object__comes_back),
        WITH_SERVER(test_s3__put_new__is_refused_rather_than_guessed),
        WITH_SERVER(test_s3__passing_faults__are_tried_again),
        WITH_SERVER(test_s3__body_cut_off__is_fetched_again),
        WITH_SERVER(test_s3__headers_cut_off__make_no_empty_object),
        WITH_SERVER(test_s3__listing_cut_off__names_each_object_once),
        WITH_SERVER(test_s3__server_that_does_not_answer__ends_by_the_deadline),
        WITH_SERVER(test_s3__server_that_stays_away__ends_by_the_deadline_and_says_why),
        WITH_SERVER(test_s3__last_try_cut_by_the_deadline__says_what_the_server_said_before),
        WITH_SERVER(test_s3__object_that_is_not_what_was_sent__is_no_success),
        WITH_SERVER(test_s3__etag_that_is_no_md5_or_missing__makes_it_read_back),
        WITH_SERVER(test_s3__lasting_refusals__are_told_at_once),
        WITH_SERVER(test_s3__credentials__come_from_a_private_file_or_the_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
