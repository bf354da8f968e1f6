#include "tests/unit/tmpdir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/events.h"
#include "base/json.h"

static struct events *open_log(uint64_t run)
{
    struct events *events = NULL;
    struct err err = {0};

    assert_int_equal(events_open(tmpdir, run, &events, &err), 0);
    return events;
}

static void add(struct events *events, const char *text)
{
    events_add(events,
               &(struct event){.node = "n1", .generation = 3, .reason = "N6", .text = text});
}

static void flush(struct events *events)
{
    char *lines = events_take_lines(events);
    struct err err = {0};

    assert_non_null(lines);
    assert_int_equal(events_append(tmpdir, lines, &err), 0);
    free(lines);
}

/* "a b c": the texts of what is listed, in order. */
static void assert_listed(const struct events *events, uint64_t since, size_t limit,
                          const char *expected)
{
    json_t *answer = events_list(events, since, limit), *entry;
    char got[1024] = "";
    size_t i;

    json_array_foreach(json_object_get(answer, "events"), i, entry)
    {
        if (i > 0)
            strcat(got, " ");
        strncat(got, json_string_value(json_object_get(entry, "text")), 100);
    }
    assert_string_equal(got, expected);
    json_decref(answer);
}

static void test_events__entries__are_listed_oldest_first_after_since(void **state)
{
    struct events *events = open_log(1);

    (void)state;
    assert_int_equal(events_last(events), 0);
    assert_listed(events, 0, 10, "");
    add(events, "a");
    add(events, "b");
    add(events, "c");
    assert_int_equal(events_last(events), 3);
    assert_listed(events, 0, 10, "a b c");
    assert_listed(events, 1, 10, "b c");
    assert_listed(events, 1, 1, "b");
    assert_listed(events, 3, 10, "");
    assert_listed(events, UINT64_MAX - 1, 10, "");
    events_free(events);
}

static void test_events__what_was_appended__survives_a_restart(void **state)
{
    struct events *events = open_log(1);
    json_t *answer, *first;

    (void)state;
    add(events, "before");
    flush(events);
    assert_null(events_take_lines(events));
    events_free(events);
    events = open_log(2);
    add(events, "after");
    assert_listed(events, 0, 10, "before after");
    assert_int_equal(events_last(events), 2);
    answer = events_list(events, 0, 10);
    first = json_array_get(json_object_get(answer, "events"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "run")), "0000000000000001");
    json_decref(answer);
    events_free(events);
}

/* The end of the file may be lost with the machine: its numbers come again, under another run. */
static void test_events__lost_lines__do_not_stop_the_next_run(void **state)
{
    struct events *events = open_log(1);
    char *lost;

    (void)state;
    add(events, "kept");
    flush(events);
    add(events, "lost");
    lost = events_take_lines(events);
    assert_non_null(lost);
    free(lost);
    events_free(events);
    events = open_log(2);
    add(events, "again");
    assert_int_equal(events_last(events), 2);
    assert_listed(events, 0, 10, "kept again");
    events_free(events);
}

static void append(const char *lines)
{
    struct err err = {0};

    assert_int_equal(events_append(tmpdir, lines, &err), 0);
}

static void append_sealed(const char *text)
{
    json_t *entry = json_loads(text, 0, NULL);
    char *line = json_dump_sealed(entry), *whole = xasprintf("%s\n", line);

    append(whole);
    free(whole);
    free(line);
    json_decref(entry);
}

static void test_events__damaged_lines__are_skipped_and_hide_no_other(void **state)
{
    struct events *events = open_log(1);

    (void)state;
    add(events, "a");
    flush(events);
    append("{\"sequence\": 2, \"te\n\n[]\n\xff\xff\n{}\n{\"sequence\":3,\"text\":\"unsealed\"}\n");
    append_sealed("{\"text\": \"without a number\"}");
    append_sealed("{\"sequence\": 7, \"text\": \"b\"}");
    append("{\"sequence\": 8");
    append_sealed("{\"sequence\": 9, \"text\": \"c\"}");
    events_free(events);
    events = open_log(2);
    assert_int_equal(events_last(events), 9);
    assert_listed(events, 0, 10, "a b c");
    assert_listed(events, 6, 10, "b c");
    assert_listed(events, 7, 10, "c");
    events_free(events);
}

/* A block that never reached the disk reads as zeroes. */
static void test_events__hole_in_the_file__hides_nothing_behind_it(void **state)
{
    struct events *events = open_log(1);
    int fd;

    (void)state;
    add(events, "a");
    flush(events);
    fd = open(tmp_path("events.jsonl"), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 8192), 0);
    close(fd);
    add(events, "b");
    flush(events);
    events_free(events);
    events = open_log(2);
    assert_listed(events, 0, 10, "a b");
    events_free(events);
}

static void test_events__memory__keeps_the_newest(void **state)
{
    struct events *events = open_log(1);
    json_t *answer;
    char text[16];

    (void)state;
    for (int i = 1; i <= EVENTS_KEPT + 5; i++) {
        snprintf(text, sizeof text, "%d", i);
        add(events, text);
    }
    answer = events_list(events, 0, 2 * EVENTS_KEPT);
    assert_int_equal(json_array_size(json_object_get(answer, "events")), EVENTS_KEPT);
    assert_int_equal(json_integer_value(json_object_get(answer, "first")), 6);
    assert_int_equal(json_integer_value(json_object_get(answer, "last")), EVENTS_KEPT + 5);
    json_decref(answer);
    events_free(events);
}

static void test_events__the_files__never_exceed_twice_their_bound(void **state)
{
    struct events *events = open_log(1);
    char text[4000];
    struct stat now, old;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < 3 * EVENTS_FILE_BYTES / 4000; i++) {
        add(events, text);
        flush(events);
    }
    assert_int_equal(stat(tmp_path("events.jsonl"), &now), 0);
    assert_int_equal(stat(tmp_path("events.jsonl.1"), &old), 0);
    assert_true(now.st_size <= EVENTS_FILE_BYTES);
    assert_true(old.st_size <= EVENTS_FILE_BYTES);
    assert_true(old.st_size > EVENTS_FILE_BYTES / 2);
    events_free(events);
}

/* Entries hold what came from outside: it must stay one line of JSON. */
static void test_events__hostile_text__stays_one_entry(void **state)
{
    struct events *events = open_log(1);

    (void)state;
    events_add(events, &(struct event){.node = "n1",
                                       .reason = "O1",
                                       .text = "a\n{\"sequence\": 99}\n\xff",
                                       .who = "eve\n"});
    flush(events);
    events_free(events);
    events = open_log(2);
    assert_int_equal(events_last(events), 1);
    events_free(events);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_events__entries__are_listed_oldest_first_after_since),
        TEST(test_events__what_was_appended__survives_a_restart),
        TEST(test_events__lost_lines__do_not_stop_the_next_run),
        TEST(test_events__damaged_lines__are_skipped_and_hide_no_other),
        TEST(test_events__hole_in_the_file__hides_nothing_behind_it),
        TEST(test_events__memory__keeps_the_newest),
        TEST(test_events__the_files__never_exceed_twice_their_bound),
        TEST(test_events__hostile_text__stays_one_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
