#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tmpdir.h"

#include "base/slotfile.h"

#define SLOT 4096

/* --- faults --------------------------------------------------------------------------------- */

/* Counts calls and fails the chosen one. */
static struct {
    int calls, fail_at;
    int err;
    size_t chunk;      /* most that one pwrite() takes; 0 = all */
    off_t last_offset; /* of the last pwrite() */
    bool no_sync;      /* fast: tests that only look at the content */
} fault;

static bool faulty(void)
{
    if (fault.calls++ != fault.fail_at)
        return false;
    errno = fault.err;
    return true;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    return faulty() ? -1 : io_ops_system.open(path, flags, mode);
}

static ssize_t faulty_pread(int fd, void *buf, size_t len, off_t offset)
{
    if (fault.chunk > 0 && len > fault.chunk)
        len = fault.chunk;
    return faulty() ? -1 : io_ops_system.pread(fd, buf, len, offset);
}

static ssize_t faulty_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    fault.last_offset = offset;
    if (fault.chunk > 0 && len > fault.chunk)
        len = fault.chunk;
    return faulty() ? -1 : io_ops_system.pwrite(fd, buf, len, offset);
}

static int faulty_fsync(int fd)
{
    return faulty() ? -1 : fault.no_sync ? 0 : io_ops_system.fsync(fd);
}

static const struct io_ops faulty_ops = {
    .open = faulty_open,
    .pread = faulty_pread,
    .pwrite = faulty_pwrite,
    .fsync = faulty_fsync,
    .fdatasync = faulty_fsync,
    .rename = rename,
    .unlink = unlink,
    .close = close,
};

static void set_fault(int fail_at, int errnum, size_t chunk)
{
    fault.calls = 0;
    fault.fail_at = fail_at;
    fault.err = errnum;
    fault.chunk = chunk;
    fault.no_sync = true;
    io_ops = &faulty_ops;
}

static int teardown(void **state)
{
    io_ops = &io_ops_system;
    return tmpdir_remove(state);
}

/* --- helpers -------------------------------------------------------------------------------- */

static struct slotfile *must_open(void)
{
    struct slotfile *sf;
    struct err err;

    if (slotfile_open(tmp_path("promise"), SLOT, true, &sf, &err) < 0)
        fail_msg("%s", err.text);
    return sf;
}

static void must_write(struct slotfile *sf, const char *text)
{
    struct err err;

    if (slotfile_write(sf, text, strlen(text), &err) < 0)
        fail_msg("%s", err.text);
}

/* The record as a string; "" with *FOUND false when there is none. */
static const char *content(const struct slotfile *sf, bool *found)
{
    static char buf[SLOT];
    size_t len;

    assert_int_equal(slotfile_read(sf, buf, sizeof(buf) - 1, &len, found, NULL), 0);
    buf[len] = '\0';
    return buf;
}

static void assert_record(const struct slotfile *sf, const char *expected)
{
    bool found;

    assert_string_equal(content(sf, &found), expected);
    assert_true(found);
}

static void assert_reopened(const char *expected)
{
    struct slotfile *sf = must_open();

    assert_record(sf, expected);
    slotfile_close(sf);
}

static void read_image(char image[2 * SLOT])
{
    char *data;
    size_t len;

    assert_int_equal(file_read(tmp_path("promise"), 2 * SLOT, &data, &len, NULL), 0);
    assert_int_equal(len, 2 * SLOT);
    memcpy(image, data, 2 * SLOT);
    free(data);
}

static void write_image(const char image[2 * SLOT])
{
    int fd = open(tmp_path("promise"), O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, image, 2 * SLOT, 0), 2 * SLOT);
    close(fd);
}

static void flip(off_t offset)
{
    char image[2 * SLOT];

    read_image(image);
    image[offset] ^= 1;
    write_image(image);
}

static int try_open(struct err *err)
{
    struct slotfile *sf;
    int rc = slotfile_open(tmp_path("promise"), SLOT, false, &sf, err);

    if (rc == 0)
        slotfile_close(sf);
    else
        assert_null(sf);
    return rc;
}

/* --- the good days -------------------------------------------------------------------------- */

static void test_slotfile__never_written__is_not_found(void **state)
{
    struct slotfile *sf = must_open();
    bool found = true;

    (void)state;
    assert_string_equal(content(sf, &found), "");
    assert_false(found);
    slotfile_close(sf);
    sf = must_open();
    assert_string_equal(content(sf, &found), "");
    assert_false(found);
    assert_false(slotfile_was_damaged(sf));
    slotfile_close(sf);
}

static void test_slotfile__each_write__is_read_back_and_survives(void **state)
{
    struct slotfile *sf = must_open();
    char text[32];

    (void)state;
    for (int i = 1; i <= 5; i++) {
        snprintf(text, sizeof(text), "record %d", i);
        must_write(sf, text);
        assert_record(sf, text);
        assert_int_equal(slotfile_sequence(sf), i);
        slotfile_close(sf);
        sf = must_open();
        assert_record(sf, text);
        assert_int_equal(slotfile_sequence(sf), i);
        assert_false(slotfile_was_damaged(sf));
    }
    slotfile_close(sf);
}

static void test_slotfile__empty_record__counts_as_written(void **state)
{
    struct slotfile *sf = must_open();

    (void)state;
    must_write(sf, "");
    assert_record(sf, "");
    slotfile_close(sf);
    assert_reopened("");
}

static void test_slotfile__greatest_record__fits_and_one_more_does_not(void **state)
{
    struct slotfile *sf = must_open();
    char data[SLOT], back[SLOT];
    size_t len;
    bool found;
    struct err err;

    (void)state;
    memset(data, 'x', sizeof(data));
    must_write(sf, "old");
    assert_int_equal(slotfile_write(sf, data, SLOT - SLOTFILE_HEADER_SIZE + 1, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_record(sf, "old");
    assert_int_equal(slotfile_write(sf, data, SLOT - SLOTFILE_HEADER_SIZE, &err), 0);
    slotfile_close(sf);
    sf = must_open();
    assert_int_equal(slotfile_read(sf, back, 10, &len, &found, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(slotfile_read(sf, back, sizeof(back), &len, &found, &err), 0);
    assert_int_equal(len, SLOT - SLOTFILE_HEADER_SIZE);
    assert_memory_equal(back, data, len);
    slotfile_close(sf);
}

static void test_slotfile__file__is_private_and_has_all_its_blocks(void **state)
{
    struct slotfile *sf = must_open();
    struct stat st;

    (void)state;
    assert_int_equal(stat(tmp_path("promise"), &st), 0);
    assert_int_equal(st.st_size, 2 * SLOT);
    assert_true(st.st_blocks * 512 >= 2 * SLOT);
    assert_int_equal(st.st_mode & 07777, 0600);
    slotfile_close(sf);
}

static void test_slotfile__short_reads_and_writes__are_continued(void **state)
{
    struct slotfile *sf;

    (void)state;
    set_fault(-1, 0, 7);
    sf = must_open();
    must_write(sf, "a record that is longer than one piece of it");
    slotfile_close(sf);
    assert_reopened("a record that is longer than one piece of it");
}

/* --- failures ------------------------------------------------------------------------------- */

static void test_slotfile__failed_write__keeps_the_record_and_reuses_the_slot(void **state)
{
    struct slotfile *sf = must_open();

    (void)state;
    must_write(sf, "one");
    must_write(sf, "two");
    for (int call = 0; call < 2; call++) { /* pwrite, fdatasync */
        off_t offset;
        struct err err;

        set_fault(call, ENOSPC, 0);
        assert_int_equal(slotfile_write(sf, "lost", 4, &err), -1);
        assert_int_equal(err.code, ERR_NO_SPACE);
        assert_non_null(strstr(err.text, tmp_path("promise")));
        assert_record(sf, "two");
        assert_int_equal(slotfile_sequence(sf), 2);
        offset = fault.last_offset;

        set_fault(0, EIO, 0);
        assert_int_equal(slotfile_write(sf, "lost", 4, &err), -1);
        assert_int_equal(err.code, ERR_IO);
        assert_int_equal(fault.last_offset, offset);
        assert_record(sf, "two");
    }
    set_fault(-1, 0, 0);
    must_write(sf, "three");
    assert_record(sf, "three");
    slotfile_close(sf);
    assert_reopened("three");
}

static void test_slotfile__failed_sync__leaves_old_or_new_to_the_next_reader(void **state)
{
    struct slotfile *sf = must_open();
    bool found;
    const char *text;

    (void)state;
    must_write(sf, "old");
    set_fault(1, EIO, 0);
    assert_int_equal(slotfile_write(sf, "new", 3, NULL), -1);
    slotfile_close(sf);
    set_fault(-1, 0, 0);
    sf = must_open();
    text = content(sf, &found);
    assert_true(found && (!strcmp(text, "old") || !strcmp(text, "new")));
    slotfile_close(sf);
}

/* After a failed sync the kernel holds the new pages as clean: unless they are written again, what
 * the next process reads and acts on is not on the disk. */
static void test_slotfile__open__makes_durable_what_it_reads(void **state)
{
    struct slotfile *sf = must_open();
    struct err err;
    int calls;

    (void)state;
    must_write(sf, "one");
    slotfile_close(sf);
    set_fault(-1, 0, 0);
    fault.last_offset = -1;
    sf = must_open();
    calls = fault.calls;
    assert_int_equal(fault.last_offset, SLOT); /* the slot of record 1, and only that */
    slotfile_close(sf);
    for (int call = 0; call < calls; call++) { /* open, 2×pread, pwrite, fdatasync */
        set_fault(call, EIO, 0);
        assert_int_equal(try_open(&err), -1);
        assert_int_equal(err.code, ERR_IO);
    }
    set_fault(-1, 0, 0);
    assert_reopened("one");
}

static void test_slotfile__crash_in_a_write__leaves_old_or_new(void **state)
{
    char before[2 * SLOT], after[2 * SLOT], image[2 * SLOT];
    char old[1500], new[1500];
    int seen_old = 0, seen_new = 0;
    struct slotfile *sf;

    (void)state;
    set_fault(-1, 0, 0);
    memset(old, 'o', sizeof(old) - 1);
    memset(new, 'n', sizeof(new) - 1);
    old[sizeof(old) - 1] = new[sizeof(new) - 1] = '\0';
    sf = must_open();
    must_write(sf, "older");
    must_write(sf, old);
    read_image(before);
    must_write(sf, new);
    read_image(after);
    slotfile_close(sf);
    /* Four sectors differ, and each may or may not have reached the disk; so may a fifth one, which
     * has the same content before and after. */
    for (unsigned reached = 0; reached < 32; reached++) {
        bool found;
        const char *text;

        memcpy(image, before, sizeof(image));
        for (unsigned sector = 0; sector < 5; sector++)
            if (reached >> sector & 1)
                memcpy(image + SLOT + 512 * sector, after + SLOT + 512 * sector, 512);
        write_image(image);
        sf = must_open();
        text = content(sf, &found);
        assert_true(found);
        if (strcmp(text, old) == 0)
            seen_old++;
        else if (strcmp(text, new) == 0)
            seen_new++;
        else
            fail_msg("neither old nor new: %.40s", text);
        /* And life goes on. */
        must_write(sf, "next");
        slotfile_close(sf);
        assert_reopened("next");
    }
    assert_int_equal(seen_new, 2);
    assert_int_equal(seen_old, 30);
}

static void test_slotfile__crash_in_the_first_write__is_never_written(void **state)
{
    struct slotfile *sf = must_open();
    bool found;

    (void)state;
    must_write(sf, "first");
    slotfile_close(sf);
    flip(SLOT + SLOTFILE_HEADER_SIZE);
    sf = must_open();
    assert_string_equal(content(sf, &found), "");
    assert_false(found);
    assert_true(slotfile_was_damaged(sf));
    slotfile_close(sf);
}

static void test_slotfile__failed_creation__leaves_no_file(void **state)
{
    struct slotfile *sf;
    struct err err;
    int calls;

    (void)state;
    set_fault(-1, 0, 0);
    slotfile_close(must_open());
    calls = fault.calls;
    for (int call = 0; call < calls; call++) {
        assert_int_equal(file_remove(tmp_path("promise"), NULL), 0);
        set_fault(call, EIO, 0);
        assert_int_equal(slotfile_open(tmp_path("promise"), SLOT, true, &sf, &err), -1);
        set_fault(-1, 0, 0);
        /* Either nothing is there or, where only a later step failed, all of it. */
        sf = must_open();
        assert_int_equal(slotfile_sequence(sf), 0);
        assert_false(slotfile_was_damaged(sf));
        slotfile_close(sf);
    }
}

/* --- what is refused ------------------------------------------------------------------------ */

static void test_slotfile__any_flipped_bit__is_noticed(void **state)
{
    struct slotfile *sf;
    struct err err;

    (void)state;
    set_fault(-1, 0, 0);
    sf = must_open();
    must_write(sf, "one");
    must_write(sf, "two"); /* in slot 0 */
    slotfile_close(sf);
    for (off_t at = 0; at < SLOTFILE_HEADER_SIZE + 3; at++) {
        flip(at);
        if (try_open(&err) == 0) {
            sf = must_open();
            assert_true(slotfile_was_damaged(sf));
            assert_record(sf, "one");
            slotfile_close(sf);
        } else {
            assert_true(at >= 8 && at < 12); /* the version: may be a newer program's */
            assert_int_equal(err.code, ERR_INVALID);
        }
        flip(at);
    }
    assert_reopened("two");
}

static void test_slotfile__both_slots_damaged__is_corrupt_and_says_what_to_do(void **state)
{
    struct slotfile *sf = must_open();
    struct err err;

    (void)state;
    must_write(sf, "one");
    slotfile_close(sf);
    flip(SLOTFILE_HEADER_SIZE - 1);
    flip(SLOT + SLOTFILE_HEADER_SIZE);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, tmp_path("promise")));
    assert_non_null(strstr(err.text, "move it away only if"));
}

static void test_slotfile__zeroes__are_corrupt_not_new(void **state)
{
    char image[2 * SLOT] = {0};
    struct err err;

    (void)state;
    slotfile_close(must_open());
    write_image(image);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_slotfile__one_record_in_both_slots__is_corrupt(void **state)
{
    struct slotfile *sf = must_open();
    char image[2 * SLOT];
    struct err err;

    (void)state;
    must_write(sf, "one");
    slotfile_close(sf);
    read_image(image);
    memcpy(image, image + SLOT, SLOT);
    write_image(image);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_slotfile__other_size__is_refused(void **state)
{
    struct slotfile *sf = must_open();
    struct err err;

    (void)state;
    slotfile_close(sf);
    assert_int_equal(slotfile_open(tmp_path("promise"), 2 * SLOT, true, &sf, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "8192 bytes instead of 16384"));
    assert_int_equal(truncate(tmp_path("promise"), SLOT), 0);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_slotfile__other_version__is_refused_even_if_one_slot_is_ours(void **state)
{
    struct slotfile *sf = must_open();
    struct err err;

    (void)state;
    must_write(sf, "one");
    slotfile_close(sf);
    flip(8);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "another version"));
}

static void test_slotfile__link_directory_fifo__are_refused(void **state)
{
    struct slotfile *sf;
    struct err err;

    (void)state;
    slotfile_close(must_open());
    assert_int_equal(symlink("promise", tmp_path("link")), 0);
    assert_int_equal(slotfile_open(tmp_path("link"), SLOT, true, &sf, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "symbolic link"));
    assert_int_equal(symlink("nowhere", tmp_path("dangling")), 0);
    assert_int_equal(slotfile_open(tmp_path("dangling"), SLOT, true, &sf, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(mkfifo(tmp_path("fifo"), 0600), 0);
    assert_int_equal(slotfile_open(tmp_path("fifo"), SLOT, true, &sf, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(slotfile_open(tmpdir, SLOT, true, &sf, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_slotfile__missing_and_not_to_be_made__is_not_found(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_false(file_exists(tmp_path("promise")));
}

#define IN_TMPDIR(test) cmocka_unit_test_setup_teardown(test, tmpdir_make, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TMPDIR(test_slotfile__never_written__is_not_found),
        IN_TMPDIR(test_slotfile__each_write__is_read_back_and_survives),
        IN_TMPDIR(test_slotfile__empty_record__counts_as_written),
        IN_TMPDIR(test_slotfile__greatest_record__fits_and_one_more_does_not),
        IN_TMPDIR(test_slotfile__file__is_private_and_has_all_its_blocks),
        IN_TMPDIR(test_slotfile__short_reads_and_writes__are_continued),
        IN_TMPDIR(test_slotfile__failed_write__keeps_the_record_and_reuses_the_slot),
        IN_TMPDIR(test_slotfile__failed_sync__leaves_old_or_new_to_the_next_reader),
        IN_TMPDIR(test_slotfile__open__makes_durable_what_it_reads),
        IN_TMPDIR(test_slotfile__crash_in_a_write__leaves_old_or_new),
        IN_TMPDIR(test_slotfile__crash_in_the_first_write__is_never_written),
        IN_TMPDIR(test_slotfile__failed_creation__leaves_no_file),
        IN_TMPDIR(test_slotfile__any_flipped_bit__is_noticed),
        IN_TMPDIR(test_slotfile__both_slots_damaged__is_corrupt_and_says_what_to_do),
        IN_TMPDIR(test_slotfile__zeroes__are_corrupt_not_new),
        IN_TMPDIR(test_slotfile__one_record_in_both_slots__is_corrupt),
        IN_TMPDIR(test_slotfile__other_size__is_refused),
        IN_TMPDIR(test_slotfile__other_version__is_refused_even_if_one_slot_is_ours),
        IN_TMPDIR(test_slotfile__link_directory_fifo__are_refused),
        IN_TMPDIR(test_slotfile__missing_and_not_to_be_made__is_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
