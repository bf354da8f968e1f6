/* A fault at every call of the event log: what is read back are entries as they were written, in
 * their order, none of them twice; none that was synced is missing, and where only the process died
 * none that was appended. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "agent/events.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "tests/unit/faulty_disk.h"

enum { CUTS_MAX = 80, LATER_CUTS_MAX = 4, CALLS_MAX = 100, DEEPER = 16, TEXT_SIZE = 700 };

/* An entry is known by its letter; its text is longer than a sector. */
static const char *text_of(char letter)
{
    static char text[TEXT_SIZE];

    memset(text, letter, sizeof text - 1);
    return text;
}

static int append(const char *letters, bool sync, struct err *err)
{
    struct events *events;
    char *lines;
    int rc;

    if (events_open(DISK_DIRECTORY, 1, &events, err) < 0)
        return -1;
    for (; *letters != '\0'; letters++)
        events_add(events,
                   &(struct event){
                       .node = "n1", .generation = 3, .reason = "N6", .text = text_of(*letters)});
    lines = events_take_lines(events);
    rc = events_append(DISK_DIRECTORY, lines, err);
    if (rc == 0 && sync)
        rc = events_sync(DISK_DIRECTORY, err);
    free(lines);
    events_free(events);
    return rc;
}

/* The letters of what is read back. Every entry is whole, and its text as it was written. */
static int read_back(char *letters, struct err *err)
{
    struct events *events;
    json_t *answer, *entry;
    size_t i;

    if (events_open(DISK_DIRECTORY, 2, &events, err) < 0)
        return -1;
    answer = events_list(events, 0, EVENTS_KEPT);
    json_array_foreach(json_object_get(answer, "events"), i, entry)
    {
        const char *text = json_string_value(json_object_get(entry, "text"));

        assert_string_equal(text, text_of(text[0]));
        assert_int_equal(json_object_size(entry), 8);
        assert_string_equal(json_string_value(json_object_get(entry, "node")), "n1");
        assert_int_equal(json_integer_value(json_object_get(entry, "generation")), 3);
        *letters++ = text[0];
    }
    *letters = '\0';
    json_decref(answer);
    events_free(events);
    return 0;
}

/* Entries are written in the order of their letters. ALL: those up to the last may be there, those
 * of MUST are; without GAPS none before one that is there is missing, but for what may be rotated
 * away. */
static void check(const char *must, const char *all, bool gaps)
{
    char got[64], *at = got;
    struct err err = {0};

    if (read_back(got, &err) < 0)
        fail_msg("%s", err.text);
    for (const char *letter = all; *letter != '\0'; letter++) {
        if (*at == *letter)
            at++;
        else if (strchr(must, *letter) != NULL || (!gaps && *at != '\0' && *letter >= 'a'))
            fail_msg("read back \"%s\": %c is missing", got, *letter);
    }
    if (*at != '\0')
        fail_msg("read back \"%s\" of \"%s\"", got, all);
}

struct scene {
    void (*prepare)(void);
    const char *synced, *appended; /* afterwards */
};

/* "ab" synced, "c" only appended. */
static void prepare_half_synced(void)
{
    assert_int_equal(append("ab", true, NULL), 0);
    assert_int_equal(append("c", false, NULL), 0);
}

static void prepare_nothing(void)
{
}

/* Up to LEFT bytes before its bound: with a line that is none, which is quick to be read over. */
static void fill_up(size_t left)
{
    size_t len = EVENTS_FILE_BYTES - disk_size("events.jsonl") - left;
    char *filler = xmalloc(len);

    memset(filler, 'x', len - 1);
    filler[len - 1] = '\n';
    disk_fill("events.jsonl", filler, len);
    free(filler);
}

/* An older file, and one that is all but full. */
static void prepare_full(void)
{
    assert_int_equal(append("AB", true, NULL), 0);
    fill_up(TEXT_SIZE);
    assert_int_equal(append("ab", true, NULL), 0);
    assert_true(disk_size("events.jsonl.1") > 0);
    fill_up(2 * TEXT_SIZE);
    assert_int_equal(append("c", false, NULL), 0);
    assert_true(disk_size("events.jsonl") > EVENTS_FILE_BYTES - 2 * TEXT_SIZE);
}

static const struct scene half_synced = {prepare_half_synced, "ab", "abc"};
static const struct scene nothing = {prepare_nothing, "", ""};
static const struct scene full = {prepare_full, "ab", "ABabc"};

static unsigned cuts;

/* "def" was being added. */
static void check_def(const struct scene *scene, bool acknowledged, bool cut)
{
    char all[64];

    snprintf(all, sizeof all, "%sdef", scene->appended);
    check(scene->synced, all, cut);
    if (!cut && scene->appended[0] != '\0')
        check("c", all, false);
    if (acknowledged)
        check("cdef", all, false);
}

static void goes_on(const struct scene *scene)
{
    struct disk_state *later;
    char all[64];

    disk_next_process();
    assert_int_equal(append("g", true, NULL), 0);
    later = disk_save();
    snprintf(all, sizeof all, "%sdefg", scene->appended);
    for (unsigned i = 0; disk_power_cut(later, i, LATER_CUTS_MAX); i++) {
        check("g", all, true);
        check(scene->synced, all, true);
    }
    disk_state_free(later);
}

static void after_power_cut(const struct scene *scene, bool acknowledged)
{
    struct disk_state *left = disk_save();

    for (unsigned i = 0; disk_power_cut(left, i, CUTS_MAX); i++, cuts++) {
        check_def(scene, acknowledged, true);
        if (i % DEEPER == 0)
            goes_on(scene);
    }
    disk_load(left);
    disk_state_free(left);
}

static int append_with(const struct scene *scene, enum disk_fault fault, int errnum)
{
    struct disk_state *old;

    disk_make();
    scene->prepare();
    disk_next_process();
    old = disk_save();
    for (int n = 0; n < CALLS_MAX; n++) {
        struct err err = {0};
        bool acknowledged, met;

        disk_load(old);
        disk_fault_after(n, fault, errnum);
        acknowledged = append("def", true, &err) == 0;
        met = disk_fault_met();
        if (!acknowledged)
            assert_non_null(strstr(err.text, DISK_DIRECTORY));
        if (!met || fault == DISK_SHORT)
            assert_true(acknowledged);
        after_power_cut(scene, acknowledged);
        disk_next_process();
        check_def(scene, acknowledged, false);
        goes_on(scene);
        if (!met) {
            disk_state_free(old);
            return n;
        }
    }
    fail_msg("no end of calls");
    return 0;
}

static void fault_at_every_call(const struct scene *scene)
{
    int calls = 0;

    cuts = 0;
    calls += append_with(scene, DISK_FAIL, EIO);
    calls += append_with(scene, DISK_FAIL, ENOSPC);
    calls += append_with(scene, DISK_FAIL, EINTR);
    calls += append_with(scene, DISK_SHORT, 0);
    calls += append_with(scene, DISK_FULL, 0);
    calls += append_with(scene, DISK_DIE, 0);
    assert_true(calls > 6 * 10);
    print_message("%d faults, %u power cuts\n", calls, cuts);
    disk_remove();
}

static void test_events__fault_at_every_call__loses_nothing_synced_and_alters_nothing(void **state)
{
    (void)state;
    fault_at_every_call(&half_synced);
}

static void test_first_events__fault_at_every_call__leaves_none_or_some_of_them(void **state)
{
    (void)state;
    fault_at_every_call(&nothing);
}

static void test_rotation__fault_at_every_call__loses_nothing_synced_and_alters_nothing(
    void **state)
{
    (void)state;
    fault_at_every_call(&full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events__fault_at_every_call__loses_nothing_synced_and_alters_nothing),
        cmocka_unit_test(test_first_events__fault_at_every_call__leaves_none_or_some_of_them),
        cmocka_unit_test(
            test_rotation__fault_at_every_call__loses_nothing_synced_and_alters_nothing),
    };

    log_set_level(LOG_LEVEL_FATAL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
