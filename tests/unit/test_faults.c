/* A fault at every call of what the agent keeps: for each n the n-th call fails, is cut short,
 * finds the disk full, or is the last before the process or the machine dies. What is read back is
 * the old or the new state, and the new one where it was acknowledged. */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "agent/recall.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slotfile.h"
#include "tests/unit/faulty_disk.h"

enum { CUTS_MAX = 300, LATER_CUTS_MAX = 8, CALLS_MAX = 200, DEEPER = 64 };

/* What is kept, and one change of it. */
struct subject {
    void (*prepare)(void); /* the old state, durable; NULL: nothing there */
    int (*change)(int what,
                  struct err *err); /* opens and makes state WHAT: 0 old, 1 new, 2 later */
    int (*look)(char **text, struct err *err); /* opens and describes; the caller frees */
    bool looking_settles;                      /* what was read once survives a power cut */
    bool allocated;                            /* a full disk stops no change */
    unsigned cuts_max;                         /* 0: CUTS_MAX */
};

static const struct subject *subject;
static char *texts[3]; /* of the states */
static unsigned cuts, saw_old, saw_new;

static unsigned cuts_max(void)
{
    return subject->cuts_max > 0 ? subject->cuts_max : CUTS_MAX;
}

static char *look(void)
{
    char *text = NULL;
    struct err err = {0};

    if (subject->look(&text, &err) < 0)
        fail_msg("what is there is refused: %s", err.text);
    return text;
}

static void expect(int what)
{
    char *text = look();

    assert_string_equal(text, texts[what]);
    free(text);
}

/* Old or new, and new if ACKNOWLEDGED; which. */
static int old_or_new(bool acknowledged)
{
    char *text = look();
    int what = strcmp(text, texts[1]) == 0 ? 1 : 0;

    if (strcmp(text, texts[what]) != 0)
        fail_msg("neither old nor new: %.2000s", text);
    if (acknowledged)
        assert_int_equal(what, 1);
    saw_old += what == 0;
    saw_new += what == 1;
    free(text);
    return what;
}

/* After whatever happened the next change is made and stays. */
static void goes_on(void)
{
    struct disk_state *later;
    struct err err = {0};

    disk_next_process();
    if (subject->change(2, &err) < 0)
        fail_msg("the next change is refused: %s", err.text);
    later = disk_save();
    for (unsigned i = 0; disk_power_cut(later, i, LATER_CUTS_MAX); i++)
        expect(2);
    disk_state_free(later);
}

/* The next process dies at each of its calls, and the power with it; the one after that looks. */
static void dies_again(bool acknowledged)
{
    struct disk_state *before = disk_save(), *after;
    bool met = true;

    for (int n = 0; met && n < CALLS_MAX; n++) {
        char *text = NULL;
        int rc;

        disk_load(before);
        disk_fault_after(n, DISK_DIE, 0);
        rc = subject->look(&text, NULL);
        met = disk_fault_met();
        assert_true(met || rc == 0);
        disk_next_process();
        after = disk_save();
        for (unsigned i = 0; disk_power_cut(after, i, LATER_CUTS_MAX); i++) {
            if (rc == 0 && subject->looking_settles)
                assert_string_equal(text, texts[old_or_new(acknowledged)]);
            else
                (void)old_or_new(acknowledged);
        }
        disk_state_free(after);
        free(text);
    }
    assert_false(met);
    disk_load(before);
    disk_state_free(before);
}

/* What the disk may hold after what just happened, if the power goes now. */
static void after_power_cut(bool acknowledged)
{
    struct disk_state *cut = disk_save();

    for (unsigned i = 0; disk_power_cut(cut, i, cuts_max()); i++, cuts++) {
        if (i % DEEPER == 0) {
            struct disk_state *image = disk_save();

            dies_again(acknowledged);
            disk_load(image);
            disk_state_free(image);
        }
        (void)old_or_new(acknowledged);
        if (i % DEEPER == 0)
            goes_on();
    }
    disk_load(cut);
    disk_state_free(cut);
}

/* … and if only the process ends. */
static void after_process(bool acknowledged)
{
    struct disk_state *left;
    int what;

    disk_next_process();
    what = old_or_new(acknowledged);
    if (subject->looking_settles) {
        left = disk_save();
        for (unsigned i = 0; disk_power_cut(left, i, cuts_max()); i++)
            expect(what);
        disk_load(left);
        disk_state_free(left);
    }
    goes_on();
}

/* Returns how many calls the change makes. */
static int change_with(const struct disk_state *old, enum disk_fault fault, int errnum)
{
    for (int n = 0; n < CALLS_MAX; n++) {
        struct disk_state *left;
        struct err err = {0};
        bool acknowledged, met;

        disk_load(old);
        disk_fault_after(n, fault, errnum);
        acknowledged = subject->change(1, &err) == 0;
        met = disk_fault_met();
        if (!acknowledged)
            assert_non_null(strstr(err.text, DISK_DIRECTORY));
        if (!met || fault == DISK_SHORT || (fault == DISK_FULL && subject->allocated))
            assert_true(acknowledged);
        left = disk_save();
        after_power_cut(acknowledged);
        disk_load(left);
        after_process(acknowledged);
        disk_state_free(left);
        if (!met)
            return n;
    }
    fail_msg("no end of calls");
    return 0;
}

static void learn_texts(struct disk_state **old)
{
    struct err err = {0};

    disk_make();
    if (subject->prepare != NULL)
        subject->prepare();
    disk_next_process();
    *old = disk_save();
    texts[0] = look();
    for (int what = 1; what < 3; what++) {
        if (subject->change(what, &err) < 0)
            fail_msg("%s", err.text);
        texts[what] = look();
        assert_string_not_equal(texts[what], texts[what - 1]);
    }
}

static void fault_at_every_call(const struct subject *what)
{
    struct disk_state *old;
    int calls = 0;

    subject = what;
    cuts = saw_old = saw_new = 0;
    learn_texts(&old);
    calls += change_with(old, DISK_FAIL, EIO);
    calls += change_with(old, DISK_FAIL, ENOSPC);
    calls += change_with(old, DISK_FAIL, EINTR);
    calls += change_with(old, DISK_SHORT, 0);
    calls += change_with(old, DISK_FULL, 0);
    calls += change_with(old, DISK_DIE, 0);
    assert_true(calls >= 6 * 4 && saw_old > 0 && saw_new > 0);
    print_message("%d faults, %u power cuts, read back: %u old, %u new\n", calls, cuts, saw_old,
                  saw_new);
    disk_state_free(old);
    for (int i = 0; i < 3; i++)
        free(texts[i]);
    disk_remove();
}

/* --- promise and grant ---------------------------------------------------------------------- */

/* They differ in every sector of the record, so that a torn one is seen. */
static void promise_state(int what, struct durable *durable)
{
    uint32_t number = (uint32_t)(5 + what);

    durable_init(durable, 1);
    durable->registered = true;
    for (int slot = 0; slot < NODE_COUNT; slot++)
        durable->incarnations[slot] = (struct incarnation){.number = number, .nonce = 7};
    durable->promise = (struct promise){.generation = number, .proposer = 77};
    durable->leader = (struct leadership){number, 0, durable->incarnations[0], 77};
    durable->floor = (struct position){.timeline = number, .lsn = 0x5000000};
    durable->job = (struct job){.id = number, .kind = JOB_RESTART};
}

static void grant_state(int what, struct durable *durable)
{
    promise_state(what, durable);
    durable->grant = (struct grant){.generation = 5,
                                    .proposer = 77,
                                    .incarnation = {.number = 1, .nonce = 9},
                                    .spent = what > 0};
    durable->role = what > 1 ? ROLE_LEADER : ROLE_FENCED;
}

static int write_durable(void (*state)(int, struct durable *), int what, struct err *err)
{
    struct durable durable, before;
    struct slotfile *file;
    int rc;

    if (durable_open(DISK_DIRECTORY, 1, &file, &before, err) < 0)
        return -1;
    state(what, &durable);
    rc = durable_write(file, &durable, err);
    slotfile_close(file);
    return rc;
}

static int change_promise(int what, struct err *err)
{
    return write_durable(promise_state, what, err);
}

/* Right behind the old one, which the same process wrote: its copy may not have reached the disk,
 * and below that is a third one. */
static int change_promise_soon(int what, struct err *err)
{
    struct durable durable;
    struct slotfile *file;
    int rc;

    disk_fault_hold(true);
    assert_int_equal(durable_open(DISK_DIRECTORY, 1, &file, &durable, NULL), 0);
    for (int state = -1; state <= 0; state++) {
        promise_state(state, &durable);
        assert_int_equal(durable_write(file, &durable, NULL), 0);
    }
    disk_fault_hold(false);
    promise_state(what, &durable);
    rc = durable_write(file, &durable, err);
    slotfile_close(file);
    return rc;
}

static int change_grant(int what, struct err *err)
{
    return write_durable(grant_state, what, err);
}

static void prepare_promise(void)
{
    assert_int_equal(change_promise(0, NULL), 0);
}

static void prepare_grant(void)
{
    assert_int_equal(change_promise(0, NULL), 0);
    assert_int_equal(change_grant(0, NULL), 0);
}

static int look_durable(char **text, struct err *err)
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

static const struct subject promise = {.prepare = prepare_promise,
                                       .change = change_promise,
                                       .look = look_durable,
                                       .looking_settles = true,
                                       .allocated = true};
static const struct subject second_promise = {.prepare = prepare_promise,
                                              .change = change_promise_soon,
                                              .look = look_durable,
                                              .looking_settles = true,
                                              .allocated = true};
static const struct subject grant = {.prepare = prepare_grant,
                                     .change = change_grant,
                                     .look = look_durable,
                                     .looking_settles = true,
                                     .allocated = true};
static const struct subject first_promise = {
    .change = change_promise, .look = look_durable, .looking_settles = true};

static void test_promise__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&promise);
}

static void test_second_promise__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&second_promise);
}

static void test_grant__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&grant);
}

static void test_first_promise__fault_at_every_call__leaves_none_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&first_promise);
}

/* The process that failed to write goes on with what it had, and writes again. */
static void test_promise__failed_write__leaves_the_process_its_old_one(void **state)
{
    static const enum disk_fault faults[] = {DISK_FAIL, DISK_SHORT};
    struct durable durable, seen;
    struct slotfile *file;
    bool met = true;

    (void)state;
    for (int n = 0; met && n < CALLS_MAX; n++) {
        char record[DURABLE_SLOT_BYTES], before[DURABLE_SLOT_BYTES];
        size_t len, len_before;
        bool found;
        int rc;

        disk_make();
        prepare_promise();
        assert_int_equal(durable_open(DISK_DIRECTORY, 1, &file, &seen, NULL), 0);
        assert_int_equal(slotfile_read(file, before, sizeof before, &len_before, &found, NULL), 0);
        promise_state(1, &durable);
        disk_fault_after(n / 2, faults[n % 2], EIO);
        rc = durable_write(file, &durable, NULL);
        met = disk_fault_met() || n % 2 == 0;
        disk_fault_after(-1, DISK_FAIL, 0);
        assert_int_equal(slotfile_read(file, record, sizeof record, &len, &found, NULL), 0);
        assert_int_equal(rc == 0, len != len_before || memcmp(record, before, len) != 0);
        promise_state(2, &durable);
        assert_int_equal(durable_write(file, &durable, NULL), 0);
        slotfile_close(file);
        assert_int_equal(durable_open(DISK_DIRECTORY, 1, &file, &seen, NULL), 0);
        assert_int_equal(seen.promise.generation, 7);
        slotfile_close(file);
    }
    assert_false(met);
    disk_remove();
}

/* --- the cluster document ------------------------------------------------------------------- */

static const char ids[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "n3"};

static json_t *document_state(int what, int settings)
{
    static const struct address addresses[NODE_COUNT] = {
        {"10.0.0.1", 5432}, {"10.0.0.2", 5432}, {"10.0.0.3", 5432}};
    struct document_version version = {.generation = 2, .counter = 1u + (unsigned)what};
    json_t *document = document_new(version, ids, addresses);
    char name[16], value[1501];

    memset(value, 'a' + what, sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < settings; i++) {
        snprintf(name, sizeof name, "x.s%d", i);
        json_object_set_new(json_object_get(document, "settings"), name, json_string(value));
    }
    return document;
}

static int write_document(int what, int settings, struct err *err)
{
    struct document_facts facts;
    struct slotfile *file;
    json_t *before, *document;
    int rc;

    if (document_open(DISK_DIRECTORY, ids, &file, &before, &facts, err) < 0)
        return -1;
    document = document_state(what, settings);
    rc = document_write(file, document, err);
    slotfile_close(file);
    json_decref(document);
    json_decref(before);
    return rc;
}

static int change_document(int what, struct err *err)
{
    return write_document(what, 1, err);
}

/* More sectors than can be tried in every combination. */
static int change_large_document(int what, struct err *err)
{
    return write_document(what, what == 0 ? 3 : 7, err);
}

static void prepare_document(void)
{
    assert_int_equal(change_document(0, NULL), 0);
}

static void prepare_large_document(void)
{
    assert_int_equal(change_large_document(0, NULL), 0);
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

static const struct subject document = {.prepare = prepare_document,
                                        .change = change_document,
                                        .look = look_document,
                                        .looking_settles = true,
                                        .allocated = true};
/* Too large to be tried in every combination: a sample. */
static const struct subject large_document = {.prepare = prepare_large_document,
                                              .change = change_large_document,
                                              .look = look_document,
                                              .looking_settles = true,
                                              .allocated = true,
                                              .cuts_max = 24};

static void test_document__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&document);
}

static void test_large_document__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&large_document);
}

/* --- the replication note ------------------------------------------------------------------- */

static int change_note(int what, struct err *err)
{
    struct recall recall = {.replication = {.upstream = 2, .generation = 5u + (unsigned)what}};

    snprintf(recall.names, sizeof recall.names, "ANY 1 (ogel_n2_i1_g%d)", 5 + what);
    memset(recall.digest, 'a' + what, sizeof recall.digest - 1);
    return recall_write(DISK_DIRECTORY, &recall, err);
}

static void prepare_note(void)
{
    assert_int_equal(change_note(0, NULL), 0);
}

static int look_note(char **text, struct err *err)
{
    struct recall recall;
    struct err why = {0};

    if (recall_read(DISK_DIRECTORY, &recall, &why) < 0) {
        *text = xstrdup("none");
        return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, "%s", why.text);
    }
    *text = xasprintf("%d %u %s %s", recall.replication.upstream, recall.replication.generation,
                      recall.names, recall.digest);
    return 0;
}

static const struct subject note = {
    .prepare = prepare_note, .change = change_note, .look = look_note};
static const struct subject first_note = {.change = change_note, .look = look_note};

static void test_note__fault_at_every_call__leaves_old_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&note);
}

static void test_first_note__fault_at_every_call__leaves_none_or_new(void **state)
{
    (void)state;
    fault_at_every_call(&first_note);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promise__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_second_promise__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_grant__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_first_promise__fault_at_every_call__leaves_none_or_new),
        cmocka_unit_test(test_promise__failed_write__leaves_the_process_its_old_one),
        cmocka_unit_test(test_document__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_large_document__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_note__fault_at_every_call__leaves_old_or_new),
        cmocka_unit_test(test_first_note__fault_at_every_call__leaves_none_or_new),
    };

    log_set_level(LOG_LEVEL_FATAL); /* damaged slots are what this is about */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
