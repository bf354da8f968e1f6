/* What the agent keeps, damaged, cut short or put away by somebody: what is read is what was
 * written, or it is refused by an error that names the file and says what to do. It is never taken
 * for another state, the previous one included. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "agent/events.h"
#include "agent/recall.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slotfile.h"
#include "tests/unit/faulty_disk.h"

static const char ids[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "n3"};

/* --- what is kept --------------------------------------------------------------------------- */

/* Opens and describes; the caller frees. */
typedef int look_fn(char **text, struct err *err);

static void write_promise(uint32_t generation)
{
    struct durable durable;
    struct slotfile *file;

    assert_int_equal(durable_open(DISK_DIRECTORY, 1, &file, &durable, NULL), 0);
    durable.promise = (struct promise){.generation = generation, .proposer = 77};
    assert_int_equal(durable_write(file, &durable, NULL), 0);
    slotfile_close(file);
}

static int look_promise(char **text, struct err *err)
{
    struct durable durable;
    struct slotfile *file;
    json_t *json;

    if (durable_open(DISK_DIRECTORY, 1, &file, &durable, err) < 0)
        return -1;
    slotfile_close(file);
    json = durable_to_json(&durable);
    *text = json_dump_line(json);
    json_decref(json);
    return 0;
}

static void write_document(uint32_t counter)
{
    static const struct address addresses[NODE_COUNT] = {{"a", 1}, {"b", 2}, {"c", 3}};
    json_t *document = document_new((struct document_version){2, counter}, ids, addresses);
    struct document_facts facts;
    struct slotfile *file;
    json_t *before;

    assert_int_equal(document_open(DISK_DIRECTORY, ids, &file, &before, &facts, NULL), 0);
    assert_int_equal(document_write(file, document, NULL), 0);
    slotfile_close(file);
    json_decref(before);
    json_decref(document);
}

static int look_document(char **text, struct err *err)
{
    struct document_facts facts;
    struct slotfile *file;
    json_t *document;

    if (document_open(DISK_DIRECTORY, ids, &file, &document, &facts, err) < 0)
        return -1;
    slotfile_close(file);
    *text = document ? json_dump_line(document) : xstrdup("none");
    json_decref(document);
    return 0;
}

static void write_note(void)
{
    struct recall recall = {.replication = {.upstream = 2, .generation = 5},
                            .names = "ANY 1 (ogel_n2_i1_g5)",
                            .digest = "00ff"};

    assert_int_equal(recall_write(DISK_DIRECTORY, &recall, NULL), 0);
}

static int look_note(char **text, struct err *err)
{
    struct recall recall;

    if (recall_read(DISK_DIRECTORY, &recall, err) < 0)
        return -1;
    *text = xasprintf("%d %u %s %s", recall.replication.upstream, recall.replication.generation,
                      recall.names, recall.digest);
    return 0;
}

static void write_events(void)
{
    struct events *events;
    char *lines;

    assert_int_equal(events_open(DISK_DIRECTORY, 1, &events, NULL), 0);
    for (int i = 0; i < 3; i++)
        events_add(events, &(struct event){.node = "n1", .reason = "N6", .text = "it happened"});
    lines = events_take_lines(events);
    assert_int_equal(events_append(DISK_DIRECTORY, lines, NULL), 0);
    assert_int_equal(events_sync(DISK_DIRECTORY, NULL), 0);
    free(lines);
    events_free(events);
}

/* One line for each entry. */
static int look_events(char **text, struct err *err)
{
    struct events *events;
    json_t *answer, *entry;
    size_t i;

    if (events_open(DISK_DIRECTORY, 2, &events, err) < 0)
        return -1;
    answer = events_list(events, 0, EVENTS_KEPT);
    *text = xstrdup("");
    json_array_foreach(json_object_get(answer, "events"), i, entry)
    {
        char *line = json_dump_line(entry), *longer = xasprintf("%s%s\n", *text, line);

        free(line);
        free(*text);
        *text = longer;
    }
    json_decref(answer);
    events_free(events);
    return 0;
}

/* Both with an earlier state before it. */
static void prepare_promise(void)
{
    write_promise(5);
    write_promise(6);
}

static void prepare_document(void)
{
    write_document(1);
    write_document(2);
}

static const struct kept {
    const char *file;
    void (*write)(void);
    look_fn *look;
    const char *advice;
    size_t parts[2]; /* slots begin there; of each, so many bytes matter … */
    size_t bytes;
    size_t stride; /* … of which each so-manieth bit is flipped */
} promise = {"promise", prepare_promise, look_promise, "; ", {0, DURABLE_SLOT_BYTES}, 1300, 1},
  document =
      {"document", prepare_document, look_document, "; ", {0, DOCUMENT_MAX_BYTES + 4096}, 500, 9},
  note = {.file = "replication",
          .write = write_note,
          .look = look_note,
          .advice = "not as it was written"},
  event_log = {.file = "events.jsonl", .write = write_events, .look = look_events, .advice = "; "};

static struct disk_state *made;
static char *written;

static void make(const struct kept *kept)
{
    struct err err = {0};

    disk_make();
    kept->write();
    disk_next_process();
    if (kept->look(&written, &err) < 0)
        fail_msg("%s", err.text);
    made = disk_save();
}

static void unmake(void)
{
    disk_state_free(made);
    free(written);
    disk_remove();
}

static void expect_refusal(const struct kept *kept, enum err_code code, const char *words)
{
    char *text = NULL;
    struct err err = {0};

    if (kept->look(&text, &err) == 0)
        fail_msg("taken for %s", text);
    if (code != ERR_NONE)
        assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, DISK_DIRECTORY));
    assert_non_null(strstr(err.text, kept->file));
    if (strstr(err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

/* True: as it was written. */
static bool whole_or_refused(const struct kept *kept)
{
    char *text = NULL;
    struct err err = {0};

    if (kept->look(&text, &err) == 0) {
        assert_string_equal(text, written);
        free(text);
        return true;
    }
    assert_non_null(strstr(err.text, DISK_DIRECTORY));
    if (strstr(err.text, kept->advice) == NULL)
        fail_msg("\"%s\" does not say what to do", err.text);
    return false;
}

/* --- flipped bits --------------------------------------------------------------------------- */

static void test_slots__any_flipped_bit__changes_nothing_or_is_refused(void **state)
{
    static const struct kept *const slots[] = {&promise, &document};
    unsigned whole = 0, refused = 0;

    (void)state;
    for (int k = 0; k < 2; k++) {
        make(slots[k]);
        for (int part = 0; part < 2; part++) {
            for (size_t bit = 0; bit < 8 * slots[k]->bytes; bit += slots[k]->stride) {
                disk_load(made);
                disk_flip(slots[k]->file, 8 * slots[k]->parts[part] + bit);
                if (whole_or_refused(slots[k]))
                    whole++;
                else
                    refused++;
            }
        }
        unmake();
    }
    /* the format's version is what no other slot makes good */
    assert_int_equal(refused, 2 * (32 + 3));
    assert_true(whole > 10000);
}

static void test_note__any_flipped_bit__is_refused(void **state)
{
    (void)state;
    make(&note);
    for (size_t bit = 0; bit < 8 * disk_size(note.file); bit++) {
        disk_load(made);
        disk_flip(note.file, bit);
        assert_false(whole_or_refused(&note));
    }
    unmake();
}

/* One line, or two where it was the newline between them, is skipped; the others stand. */
static void test_events__any_flipped_bit__costs_the_lines_it_touches(void **state)
{
    (void)state;
    make(&event_log);
    for (size_t bit = 0; bit < 8 * disk_size(event_log.file); bit++) {
        char *text, *rest;
        unsigned lines = 0;

        disk_load(made);
        disk_flip(event_log.file, bit);
        assert_int_equal(look_events(&text, NULL), 0);
        rest = text;
        for (char *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; lines++)
            assert_non_null(strstr(written, line));
        assert_true(lines == 1 || lines == 2);
        free(text);
    }
    unmake();
}

/* --- cut short ------------------------------------------------------------------------------ */

static void test_slots__any_other_size__is_refused(void **state)
{
    static const struct kept *const slots[] = {&promise, &document};

    (void)state;
    for (int k = 0; k < 2; k++) {
        size_t whole;

        make(slots[k]);
        whole = disk_size(slots[k]->file);
        for (size_t size = 0; size < whole; size += 97) {
            disk_load(made);
            disk_cut(slots[k]->file, size);
            expect_refusal(slots[k], ERR_INVALID, "put the right file or version back");
        }
        disk_load(made);
        disk_fill(slots[k]->file, "", 1);
        expect_refusal(slots[k], ERR_INVALID, "put the right file or version back");
        unmake();
    }
}

static void test_note__cut_short_anywhere__is_refused(void **state)
{
    size_t whole;

    (void)state;
    make(&note);
    whole = disk_size(note.file);
    for (size_t size = 0; size < whole; size++) {
        disk_load(made);
        disk_cut(note.file, size);
        expect_refusal(&note, ERR_CORRUPT, "not as it was written");
    }
    unmake();
}

static void test_events__cut_short_anywhere__keep_the_lines_before(void **state)
{
    size_t whole, lines_seen = 0;

    (void)state;
    make(&event_log);
    whole = disk_size(event_log.file);
    for (size_t size = 0; size < whole; size++) {
        char *text;

        disk_load(made);
        disk_cut(event_log.file, size);
        assert_int_equal(look_events(&text, NULL), 0);
        assert_int_equal(strncmp(written, text, strlen(text)), 0);
        assert_true(strlen(text) >= lines_seen); /* more of the file, no less of the log */
        lines_seen = strlen(text);
        free(text);
    }
    assert_int_equal(lines_seen, strlen(written)); /* the last newline is not missed */
    unmake();
}

/* --- what cannot be used -------------------------------------------------------------------- */

static void test_slots__both_damaged__are_refused(void **state)
{
    static const struct kept *const slots[] = {&promise, &document};

    (void)state;
    for (int k = 0; k < 2; k++) {
        make(slots[k]);
        disk_flip(slots[k]->file, 8 * 70);
        disk_flip(slots[k]->file, 8 * (slots[k]->parts[1] + 20));
        expect_refusal(slots[k], ERR_CORRUPT, "move it away only if its record may be lost");
        unmake();
    }
}

/* Byte 8 is the format's version. */
static void test_slots__of_a_newer_format__are_refused_also_by_half(void **state)
{
    static const struct kept *const slots[] = {&promise, &document};

    (void)state;
    for (int k = 0; k < 2; k++) {
        for (int part = 0; part < 2; part++) {
            make(slots[k]);
            disk_flip(slots[k]->file, 8 * (slots[k]->parts[part] + 8) + 1);
            expect_refusal(slots[k], ERR_INVALID, "start that version");
            unmake();
        }
    }
}

static void write_record(const char *path, size_t slot_bytes, const char *record)
{
    struct slotfile *file;

    assert_int_equal(slotfile_open(path, slot_bytes, true, &file, NULL), 0);
    assert_int_equal(slotfile_write(file, record, strlen(record), NULL), 0);
    slotfile_close(file);
}

static void test_records__whole_but_not_understood__are_refused(void **state)
{
    static const char *const records[] = {"",
                                          "{}",
                                          "{\"format\":2}",
                                          "{\"format\":1}",
                                          "[1,",
                                          "{\"version\":{\"generation\":0,"
                                          "\"counter\":0}}"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(records); i++) {
        disk_make();
        write_record(DISK_DIRECTORY "/promise", DURABLE_SLOT_BYTES, records[i]);
        expect_refusal(&promise, ERR_INVALID, "start the version of this program that wrote it");
        write_record(DISK_DIRECTORY "/document", DOCUMENT_MAX_BYTES + 4096, records[i]);
        expect_refusal(&document, ERR_INVALID, "start the version of this program that wrote it");
        disk_remove();
    }
}

static void test_any_file__no_regular_file__is_refused(void **state)
{
    static const struct kept *const all[] = {&promise, &document, &note, &event_log};

    (void)state;
    for (size_t k = 0; k < OGEL_ARRAY_LEN(all); k++) {
        make(all[k]);
        disk_set_mode(all[k]->file, S_IFIFO | 0600);
        expect_refusal(all[k], ERR_INVALID, "is no regular file");
        unmake();
    }
}

/* Each call of the reader fails with each error in turn, or is cut short. */
static void test_any_file__call_of_the_reader_fails__refused_or_as_written(void **state)
{
    static const struct kept *const all[] = {&promise, &document, &note, &event_log};
    static const int errors[] = {EIO, EACCES, EINTR, EMFILE, 0};

    (void)state;
    for (size_t k = 0; k < OGEL_ARRAY_LEN(all); k++) {
        for (size_t e = 0; e < OGEL_ARRAY_LEN(errors); e++) {
            bool met = true;

            make(all[k]);
            for (int n = 0; met; n++) {
                char *text = NULL;
                struct err err = {0};

                disk_load(made);
                disk_fault_after(n, errors[e] == 0 ? DISK_SHORT : DISK_FAIL, errors[e]);
                if (all[k]->look(&text, &err) == 0)
                    assert_string_equal(text, written);
                else
                    assert_non_null(strstr(err.text, DISK_DIRECTORY));
                met = disk_fault_met();
                assert_true(text != NULL || (met && errors[e] != 0));
                free(text);
            }
            unmake();
        }
    }
}

static void test_slots__reader_that_may_not_or_cannot__says_what_to_do(void **state)
{
    (void)state;
    make(&promise);
    disk_fault_after(0, DISK_FAIL, EACCES);
    expect_refusal(&promise, ERR_REFUSED, "give it back to the user that runs this program");
    disk_load(made);
    disk_fault_after(2, DISK_FAIL, EIO);
    expect_refusal(&promise, ERR_IO, "check the disk");
    unmake();
    make(&event_log);
    disk_fault_after(3, DISK_FAIL, EIO);
    expect_refusal(&event_log, ERR_IO, "move the file away: only this node's history");
    unmake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots__any_flipped_bit__changes_nothing_or_is_refused),
        cmocka_unit_test(test_note__any_flipped_bit__is_refused),
        cmocka_unit_test(test_events__any_flipped_bit__costs_the_lines_it_touches),
        cmocka_unit_test(test_slots__any_other_size__is_refused),
        cmocka_unit_test(test_note__cut_short_anywhere__is_refused),
        cmocka_unit_test(test_events__cut_short_anywhere__keep_the_lines_before),
        cmocka_unit_test(test_slots__both_damaged__are_refused),
        cmocka_unit_test(test_slots__of_a_newer_format__are_refused_also_by_half),
        cmocka_unit_test(test_records__whole_but_not_understood__are_refused),
        cmocka_unit_test(test_any_file__no_regular_file__is_refused),
        cmocka_unit_test(test_any_file__call_of_the_reader_fails__refused_or_as_written),
        cmocka_unit_test(test_slots__reader_that_may_not_or_cannot__says_what_to_do),
    };

    log_set_level(LOG_LEVEL_FATAL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
