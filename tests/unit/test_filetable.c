/* File tables: written as a stream, read back, and every damage noticed. */
#include "tests/unit/tmpdir.h"

#include <unistd.h>

#include "base/rand.h"
#include "snapshots/bytes.h"
#include "snapshots/filetable.h"
#include "snapshots/spool.h"

#define OWNER "20260203T040506Z-00000001"

static void make_entry(struct table_entry *entry, unsigned number)
{
    static char map[TABLE_INLINE_MAX];

    memset(entry, 0, sizeof(*entry));
    entry->type = number % 10 == 0 ? TABLE_DIRECTORY : TABLE_FILE;
    entry->mode = 0600 + number % 8;
    snprintf(entry->path, sizeof(entry->path), "base/%u/%0*u", number / 100, (int)(number % 60 + 1),
             number);
    if (entry->type == TABLE_DIRECTORY)
        return;
    entry->size = (uint64_t)number << 20;
    if (number % 3 == 0) {
        memset(map, (int)(number % 251), sizeof(map));
        entry->map = map;
        entry->map_len = number % TABLE_INLINE_MAX;
    } else {
        entry->map_len = number;
        memcpy(entry->map_owner, OWNER, sizeof(OWNER));
        memset(entry->map_digest, (int)(number % 251), MAP_DIGEST_SIZE);
    }
}

/* A table of COUNT entries in a new spool. */
static int write_table(unsigned count, uint64_t *size, uint8_t digest[TABLE_DIGEST_SIZE])
{
    int fd = spool_open(NULL);
    struct table_writer *writer = table_writer_new(fd);
    struct table_entry entry;

    for (unsigned i = 0; i < count; i++) {
        make_entry(&entry, i);
        assert_int_equal(table_write(writer, &entry, NULL), 0);
    }
    assert_int_equal(table_finish(writer, size, digest, NULL), 0);
    table_writer_free(writer);
    return fd;
}

static void assert_entry(const struct table_entry *got, unsigned number)
{
    struct table_entry want;

    make_entry(&want, number);
    assert_int_equal(got->type, want.type);
    assert_int_equal(got->mode, want.mode);
    assert_string_equal(got->path, want.path);
    assert_int_equal(got->size, want.size);
    assert_int_equal(got->map_len, want.map_len);
    assert_string_equal(got->map_owner, want.map_owner);
    assert_memory_equal(got->map_digest, want.map_digest, MAP_DIGEST_SIZE);
    if (want.map != NULL)
        assert_memory_equal(got->map, want.map, want.map_len);
    else
        assert_null(got->map);
}

static void test_table__many_entries__come_back_in_order(void **state)
{
    enum { COUNT = 3000 };
    uint8_t digest[TABLE_DIGEST_SIZE];
    uint64_t size;
    int fd = write_table(COUNT, &size, digest);
    struct table_reader *reader;
    struct table_entry entry;

    (void)state;
    assert_int_equal(table_open(fd, size, &reader, NULL), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(table_next(reader, &entry, NULL), 1);
        assert_entry(&entry, i);
    }
    assert_int_equal(table_next(reader, &entry, NULL), 0);
    table_close(reader);
    close(fd);
}

static void test_table__sought_in_any_order__gives_the_entry_that_was_there(void **state)
{
    enum { COUNT = 1000 };
    static struct table_place places[COUNT];
    uint8_t digest[TABLE_DIGEST_SIZE];
    uint64_t size;
    int fd = write_table(COUNT, &size, digest);
    struct table_reader *reader;
    struct table_entry entry;

    (void)state;
    assert_int_equal(table_open(fd, size, &reader, NULL), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        places[i] = table_tell(reader);
        assert_int_equal(table_next(reader, &entry, NULL), 1);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned number = i * 617 % COUNT;

        assert_int_equal(table_seek(reader, places[number], NULL), 0);
        assert_int_equal(table_next(reader, &entry, NULL), 1);
        assert_entry(&entry, number);
    }
    assert_int_equal(table_seek(reader, (struct table_place){17, 0}, NULL), -1);
    table_close(reader);
    close(fd);
}

static void test_table__without_entries__is_one(void **state)
{
    uint8_t digest[TABLE_DIGEST_SIZE];
    uint64_t size;
    int fd = write_table(0, &size, digest);
    struct table_reader *reader;
    struct table_entry entry;

    (void)state;
    assert_int_equal(table_open(fd, size, &reader, NULL), 0);
    assert_int_equal(table_next(reader, &entry, NULL), 0);
    table_close(reader);
    close(fd);
}

/* Reads all of it: 0, or -1 with what was noticed. */
static int read_all(int fd, uint64_t size, struct err *err)
{
    struct table_reader *reader;
    struct table_entry entry;
    unsigned number = 0;
    int rc;

    if (table_open(fd, size, &reader, err) < 0)
        return -1;
    while ((rc = table_next(reader, &entry, err)) > 0)
        assert_entry(&entry, number++);
    table_close(reader);
    return rc;
}

static void test_table__any_flipped_bit__is_noticed_or_changes_nothing(void **state)
{
    enum { COUNT = 12 };
    uint8_t digest[TABLE_DIGEST_SIZE], byte;
    uint64_t size, noticed = 0;
    int fd = write_table(COUNT, &size, digest);

    (void)state;
    for (uint64_t bit = 0; bit < size * 8; bit++) {
        struct err err = {0};

        assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
        byte ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
        if (read_all(fd, size, &err) < 0) {
            bool version = bit / 8 >= 8 && bit / 8 < 12;

            assert_int_equal(err.code,
                             version && err.code != ERR_CORRUPT ? ERR_INVALID : ERR_CORRUPT);
            noticed++;
        }
        byte ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
    }
    assert_true(noticed > size * 8 - 16);
    assert_int_equal(read_all(fd, size, NULL), 0);
    close(fd);
}

static void test_table__cut_anywhere_or_longer__is_noticed(void **state)
{
    uint8_t digest[TABLE_DIGEST_SIZE];
    uint64_t size;
    int fd = write_table(12, &size, digest);
    struct err err;

    (void)state;
    for (uint64_t cut = 0; cut < size; cut++) {
        assert_int_equal(read_all(fd, cut, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
    assert_int_equal(pwrite(fd, "x", 1, (off_t)size), 1);
    assert_int_equal(read_all(fd, size + 1, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    close(fd);
}

static void test_table__of_a_newer_version__says_so(void **state)
{
    uint8_t digest[TABLE_DIGEST_SIZE];
    char version[4];
    uint64_t size;
    int fd = write_table(3, &size, digest);
    struct err err = {0};

    (void)state;
    bytes_put_u32(version, TABLE_VERSION + 1);
    assert_int_equal(pwrite(fd, version, 4, 8), 4);
    assert_int_equal(read_all(fd, size, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "newer"));
    close(fd);
}

static void test_path__that_could_leave_the_directory__is_not_valid(void **state)
{
    const char *const wrong[] = {"",       "/",    "/etc",  "..", "../x", "a/..",
                                 "a/../b", "a//b", "a/./b", ".",  "a/",   "./a"};
    const char *const right[] = {"a", "a/b", "base/1/.hidden", "..a/b..", "pg_tblspc/1/PG_15/x"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++)
        assert_false(table_path_valid(wrong[i]));
    for (size_t i = 0; i < OGEL_ARRAY_LEN(right); i++)
        assert_true(table_path_valid(right[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table__many_entries__come_back_in_order),
        cmocka_unit_test(test_table__sought_in_any_order__gives_the_entry_that_was_there),
        cmocka_unit_test(test_table__without_entries__is_one),
        cmocka_unit_test(test_table__any_flipped_bit__is_noticed_or_changes_nothing),
        cmocka_unit_test(test_table__cut_anywhere_or_longer__is_noticed),
        cmocka_unit_test(test_table__of_a_newer_version__says_so),
        cmocka_unit_test(test_path__that_could_leave_the_directory__is_not_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
