#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tmpdir.h"

#include "base/slotfile.h"

#define SLOT 4096

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

/* --- crashes -------------------------------------------------------------------------------- */

static void test_slotfile__crash_in_a_write__leaves_old_or_new(void **state)
{
    char before[2 * SLOT], after[2 * SLOT], image[2 * SLOT];
    char old[1500], new[1500];
    int seen_old = 0, seen_new = 0;
    struct slotfile *sf;

    (void)state;
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
    char before[2 * SLOT], image[2 * SLOT];
    struct slotfile *sf = must_open();
    bool found;

    (void)state;
    read_image(before);
    must_write(sf, "first");
    slotfile_close(sf);
    /* cut off in the middle, so that it was not copied to the other slot either */
    read_image(image);
    memcpy(image, before, SLOT);
    image[SLOT + SLOTFILE_HEADER_SIZE] ^= 1;
    write_image(image);
    sf = must_open();
    assert_string_equal(content(sf, &found), "");
    assert_false(found);
    assert_true(slotfile_was_damaged(sf));
    slotfile_close(sf);
}

/* --- what is refused ------------------------------------------------------------------------ */

static void test_slotfile__any_flipped_bit__is_noticed(void **state)
{
    struct slotfile *sf;
    struct err err;

    (void)state;
    sf = must_open();
    must_write(sf, "one");
    must_write(sf, "two"); /* in slot 0 */
    slotfile_close(sf);
    for (off_t at = 0; at < SLOTFILE_HEADER_SIZE + 3; at++) {
        flip(at);
        if (try_open(&err) == 0) {
            /* opening it has made that good */
            sf = must_open();
            assert_false(slotfile_was_damaged(sf));
            assert_record(sf, "two");
            slotfile_close(sf);
        } else {
            assert_true(at >= 8 && at < 12); /* the version: may be a newer program's */
            assert_int_equal(err.code, ERR_INVALID);
            flip(at);
        }
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

static void test_slotfile__two_records_of_one_number__are_corrupt(void **state)
{
    char image[2 * SLOT], other[2 * SLOT];
    struct slotfile *sf = must_open();
    struct err err;

    (void)state;
    must_write(sf, "one");
    slotfile_close(sf);
    read_image(image);
    assert_int_equal(file_remove(tmp_path("promise"), NULL), 0);
    sf = must_open();
    must_write(sf, "uno");
    slotfile_close(sf);
    read_image(other);
    memcpy(image, other, SLOT);
    write_image(image);
    assert_int_equal(try_open(&err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "two records claim to be number 1"));
}

/* The copy need not have reached the disk. */
static void test_slotfile__copy_that_was_cut_off__is_made_again(void **state)
{
    char before[2 * SLOT], image[2 * SLOT];
    struct slotfile *sf = must_open();

    (void)state;
    must_write(sf, "one");
    read_image(before);
    must_write(sf, "two"); /* in slot 0, and then in slot 1 */
    slotfile_close(sf);
    read_image(image);
    memcpy(image + SLOT, before + SLOT, 512);
    image[SLOT + 1024] ^= 1;
    write_image(image);
    assert_reopened("two");
    read_image(image);
    assert_memory_equal(image, image + SLOT, SLOT);
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

#define IN_TMPDIR(test) cmocka_unit_test_setup_teardown(test, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TMPDIR(test_slotfile__never_written__is_not_found),
        IN_TMPDIR(test_slotfile__each_write__is_read_back_and_survives),
        IN_TMPDIR(test_slotfile__empty_record__counts_as_written),
        IN_TMPDIR(test_slotfile__greatest_record__fits_and_one_more_does_not),
        IN_TMPDIR(test_slotfile__file__is_private_and_has_all_its_blocks),
        IN_TMPDIR(test_slotfile__crash_in_a_write__leaves_old_or_new),
        IN_TMPDIR(test_slotfile__crash_in_the_first_write__is_never_written),
        IN_TMPDIR(test_slotfile__any_flipped_bit__is_noticed),
        IN_TMPDIR(test_slotfile__both_slots_damaged__is_corrupt_and_says_what_to_do),
        IN_TMPDIR(test_slotfile__zeroes__are_corrupt_not_new),
        IN_TMPDIR(test_slotfile__two_records_of_one_number__are_corrupt),
        IN_TMPDIR(test_slotfile__copy_that_was_cut_off__is_made_again),
        IN_TMPDIR(test_slotfile__other_size__is_refused),
        IN_TMPDIR(test_slotfile__other_version__is_refused_even_if_one_slot_is_ours),
        IN_TMPDIR(test_slotfile__link_directory_fifo__are_refused),
        IN_TMPDIR(test_slotfile__missing_and_not_to_be_made__is_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
