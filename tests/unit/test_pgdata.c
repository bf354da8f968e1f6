#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gnu/libc-version.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/pgdata.h"
#include "tests/unit/tmpdir.h"

static int make_pgdata(void **state)
{
    struct err err;
    if (tmpdir_make(state) != 0)
        return -1;
    return file_mkdir_p(tmp_path("pg_wal/archive_status"), 0700, &err) != 0 ||
           file_mkdir_p(tmp_path("pg_tblspc"), 0700, &err) != 0 ||
           file_mkdir_p(tmp_path("global"), 0700, &err) != 0;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(tmp_path(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void write_bytes(const char *name, const char *bytes, size_t size)
{
    FILE *file = fopen(tmp_path(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void assert_content(const char *name, const char *wanted)
{
    char *text = NULL;
    struct err err = {0};
    if (file_read(tmp_path(name), 1 << 20, &text, NULL, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(text, wanted);
    free(text);
}

/* --- history
 * -------------------------------------------------------------------------------------------- */

static void test_history__lines_of_postgres_and_comments__become_the_lineage(void **state)
{
    struct lineage lineage;
    struct err err = {0};
    (void)state;
    assert_int_equal(pgdata_history_parse(5,
                                          "# a comment\n"
                                          "1\t0/1800060\tno recovery target specified\n"
                                          "\n"
                                          "  2\t16/B374D848\tno recovery target specified\n",
                                          &lineage, &err),
                     0);
    assert_int_equal(lineage.count, 3);
    assert_false(lineage.truncated);
    assert_int_equal(lineage.begin[0].timeline, 1);
    assert_true(lineage.begin[0].lsn == 0);
    assert_int_equal(lineage.begin[1].timeline, 2);
    assert_true(lineage.begin[1].lsn == 0x1800060);
    assert_int_equal(lineage.begin[2].timeline, 5);
    assert_true(lineage.begin[2].lsn == UINT64_C(0x16B374D848));
}

static void test_history__placeholder__has_no_ancestors(void **state)
{
    struct lineage lineage;
    struct err err = {0};
    (void)state;
    assert_int_equal(pgdata_history_parse(4, "# ogel\n", &lineage, &err), 0);
    assert_int_equal(lineage.count, 1);
    assert_int_equal(lineage.begin[0].timeline, 4);
    assert_int_equal(pgdata_history_parse(4, "", &lineage, &err), 0);
    assert_int_equal(lineage.count, 1);
}

static void test_history__anything_else__is_refused(void **state)
{
    static const char *const contents[] = {
        "x\n",
        "1\n",
        "1 0/\n",
        "1\t0/123456789\tx\n",    /* nine digits */
        "5\t0/1\tx\n",            /* itself */
        "2\t0/1\tx\n1\t0/2\tx\n", /* falling ids */
        "1\t0/2\tx\n2\t0/1\tx\n", /* falling positions */
        "-1\t0/2\tx\n",
        "99999999999\t0/2\tx\n",
        "4294967297\t0/2\tx\n", /* 1 in 32 bits */
        "1\t-1/2\tx\n",
        "1\t0/ 2\tx\n",
        "1\t0x0/2\tx\n",
    };
    struct lineage lineage;
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(contents); i++) {
        struct err err = {0};
        if (pgdata_history_parse(5, contents[i], &lineage, &err) == 0)
            fail_msg("taken: %s", contents[i]);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

static void test_history__longer_than_is_kept__keeps_the_newest_and_says_so(void **state)
{
    char content[4096] = "";
    struct lineage lineage;
    struct err err = {0};
    (void)state;
    for (unsigned i = 1; i <= LINEAGE_MAX + 3; i++)
        snprintf(content + strlen(content), 32, "%u\t0/%X\tx\n", i, i * 16);
    assert_int_equal(pgdata_history_parse(LINEAGE_MAX + 4, content, &lineage, &err), 0);
    assert_int_equal(lineage.count, LINEAGE_MAX);
    assert_true(lineage.truncated);
    assert_int_equal(lineage.begin[LINEAGE_MAX - 1].timeline, LINEAGE_MAX + 4);
    assert_int_equal(lineage.begin[0].timeline, 5);
    assert_true(lineage.begin[0].lsn == 4 * 16);
}

static void test_history_plant__missing_ids__get_placeholders_and_real_ones_stay(void **state)
{
    struct err err = {0};
    uint32_t list[8];
    size_t count;
    struct lineage lineage;
    (void)state;
    write_file("pg_wal/00000003.history", "1\t0/10\tx\n");
    assert_int_equal(pgdata_history_plant(tmpdir, 2, 4, &err), 0);
    assert_content("pg_wal/00000003.history", "1\t0/10\tx\n");
    assert_int_equal(pgdata_history_list(tmpdir, list, 8, &count, &err), 0);
    assert_int_equal(count, 3);
    assert_int_equal(list[0], 2);
    assert_int_equal(list[2], 4);
    assert_int_equal(pgdata_history_read(tmpdir, 4, &lineage, &err), 0);
    assert_int_equal(lineage.count, 1);
    write_bytes("pg_wal/00000004.history", "\0\0\0\0", 4); /* a power cut made that of it */
    assert_int_equal(pgdata_history_read(tmpdir, 4, &lineage, &err), 0);
    assert_int_equal(lineage.count, 1);
    write_bytes("pg_wal/00000004.history", "1\t0/1\0", 7);
    assert_int_equal(pgdata_history_read(tmpdir, 4, &lineage, &err), -1);
    assert_int_equal(pgdata_history_plant(tmpdir, 5, 4, &err), 0);
    assert_int_equal(pgdata_history_plant(tmpdir, 2, 10002, &err), -1);
}

static void test_history_newest__placeholders_above_it__are_passed_over(void **state)
{
    uint32_t newest = 99;
    struct err err = {0};

    (void)state;
    assert_int_equal(pgdata_history_newest(tmpdir, &newest, &err), 0);
    assert_int_equal(newest, 0);
    write_file("pg_wal/00000003.history", "1\t0/10\tx\n");
    write_file("pg_wal/0000000A.history", "# ogel\n");
    assert_int_equal(pgdata_history_newest(tmpdir, &newest, &err), 0);
    assert_int_equal(newest, 3);
    write_file("pg_wal/0000000B.history", "what is this\n");
    assert_int_equal(pgdata_history_newest(tmpdir, &newest, &err), 0);
    assert_int_equal(newest, 11);
}

static void test_history_clean__above_a_timeline__removes_files_and_archive_notes(void **state)
{
    struct err err = {0};
    uint32_t list[8];
    size_t count;
    (void)state;
    write_file("pg_wal/00000002.history", "1\t0/10\tx\n");
    write_file("pg_wal/0000000A.history", "1\t0/10\tx\n");
    write_file("pg_wal/FFFFFFFF.history", "x");
    write_file("pg_wal/00000002.history.tmp", "x");
    write_file("pg_wal/0000000A0000000000000001", "x");
    write_file("pg_wal/archive_status/0000000A.history.done", "");
    write_file("pg_wal/archive_status/00000002.history.done", "");
    assert_int_equal(pgdata_history_clean(tmpdir, 2, &err), 0);
    assert_int_equal(pgdata_history_list(tmpdir, list, 8, &count, &err), 0);
    assert_int_equal(count, 1);
    assert_int_equal(list[0], 2);
    assert_false(file_exists(tmp_path("pg_wal/00000002.history.tmp")));
    assert_true(file_exists(tmp_path("pg_wal/0000000A0000000000000001")));
    assert_false(file_exists(tmp_path("pg_wal/archive_status/0000000A.history.done")));
    assert_true(file_exists(tmp_path("pg_wal/archive_status/00000002.history.done")));
}

static void test_history_install__bad_content__is_refused_and_good_replaces_a_placeholder(
    void **state)
{
    struct err err = {0};
    char *text = NULL;
    (void)state;
    assert_int_equal(pgdata_history_plant(tmpdir, 5, 5, &err), 0);
    assert_int_equal(pgdata_history_install(tmpdir, 5, "no history\n", &err), -1);
    assert_int_equal(pgdata_history_install(tmpdir, 5, "1\t0/10\tx\n", &err), 0);
    assert_int_equal(pgdata_history_text(tmpdir, 5, &text, &err), 0);
    assert_string_equal(text, "1\t0/10\tx\n");
    free(text);
    assert_int_equal(pgdata_history_text(tmpdir, 6, &text, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

/* --- pg_control
 * ------------------------------------------------------------------------------------------- */

static const char control_text[] =
    "pg_control version number:            1300\n"
    "Catalog version number:               202209061\n"
    "Database system identifier:           7710457634482724902\n"
    "Database cluster state:               in archive recovery\n"
    "Latest checkpoint location:           0/2000060\n"
    "Latest checkpoint's REDO location:    0/2000028\n"
    "Latest checkpoint's REDO WAL file:    000000010000000000000002\n"
    "Latest checkpoint's TimeLineID:       3\n"
    "Latest checkpoint's PrevTimeLineID:   1\n"
    "Minimum recovery ending location:     1/F\n"
    "Min recovery ending loc's timeline:   4\n"
    "wal_log_hints setting:                on\n"
    "max_connections setting:              100\n"
    "max_worker_processes setting:         8\n"
    "max_wal_senders setting:              10\n"
    "max_prepared_xacts setting:           2\n"
    "max_locks_per_xact setting:           64\n"
    "Bytes per WAL segment:                16777216\n"
    "Data page checksum version:           1\n";

static void test_control__output_of_pg_controldata__is_read(void **state)
{
    struct pgdata_control control;
    struct err err = {0};
    (void)state;
    assert_int_equal(pgdata_control_parse(control_text, &control, &err), 0);
    assert_true(control.system_id == UINT64_C(7710457634482724902));
    assert_int_equal(control.state, PGDATA_STATE_ARCHIVE_RECOVERY);
    assert_int_equal(control.redo.timeline, 3);
    assert_true(control.redo.lsn == 0x2000028);
    assert_true(control.checkpoint.lsn == 0x2000060);
    assert_int_equal(control.min_recovery.timeline, 4);
    assert_true(control.min_recovery.lsn == UINT64_C(0x10000000F));
    assert_int_equal(control.wal_segment_bytes, 16 << 20);
    assert_true(control.checksums && control.wal_log_hints);
    assert_int_equal(control.needs[0], 100);
    assert_int_equal(control.needs[1], 8);
    assert_int_equal(control.needs[2], 10);
    assert_int_equal(control.needs[3], 2);
    assert_int_equal(control.needs[4], 64);
}

/* The text with FROM (which must be there) replaced by TO. */
static bool parses_with(const char *from, const char *to)
{
    char text[4096];
    struct pgdata_control control;
    struct err err = {0};
    const char *at = strstr(control_text, from);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - control_text), control_text, to,
             at + strlen(from));
    int rc = pgdata_control_parse(text, &control, &err);
    assert_true(rc == 0 || err.code == ERR_CORRUPT);
    return rc == 0;
}

static void test_control__anything_missing_doubled_or_odd__is_corrupt(void **state)
{
    (void)state;
    assert_true(parses_with("in archive recovery", "something new"));
    assert_false(parses_with("Database system identifier: ", "Database identifier: "));
    assert_false(parses_with("7710457634482724902", "-7710457634482724902"));
    assert_false(parses_with("7710457634482724902", "99999999999999999999999"));
    assert_false(parses_with("0/2000028", "0/2000028 x"));
    assert_false(parses_with("0/2000028", ""));
    assert_false(parses_with("16777216", "16777217"));
    assert_false(parses_with("16777216", "0"));
    assert_false(parses_with("Latest checkpoint's PrevTimeLineID:   1",
                             "Latest checkpoint's TimeLineID: 9"));
    assert_false(
        parses_with("pg_control version", "WARNING: Calculated CRC checksum does not match value"));
}

/* --- small files
 * ------------------------------------------------------------------------------------------- */

static void test_inspect__each_kind__is_told_apart(void **state)
{
    enum pgdata_kind kind;
    struct err err = {0};
    int major = -1;
    char path[300];
    (void)state;
    assert_int_equal(pgdata_inspect(tmp_path("nothing"), &kind, &major, &err), 0);
    assert_int_equal(kind, PGDATA_ABSENT);
    assert_int_equal(mkdir(tmp_path("empty"), 0700), 0);
    snprintf(path, sizeof path, "%s/empty", tmpdir);
    assert_int_equal(pgdata_inspect(path, &kind, &major, &err), 0);
    assert_int_equal(kind, PGDATA_EMPTY);
    assert_int_equal(pgdata_inspect(tmpdir, &kind, &major, &err), 0);
    assert_int_equal(kind, PGDATA_OTHER);
    write_file("PG_VERSION", "15\n");
    assert_int_equal(pgdata_inspect(tmpdir, &kind, &major, &err), 0);
    assert_int_equal(kind, PGDATA_OTHER);
    write_file("global/pg_control", "x");
    assert_int_equal(pgdata_inspect(tmpdir, &kind, &major, &err), 0);
    assert_int_equal(kind, PGDATA_INITIALISED);
    assert_int_equal(major, 15);
}

static void test_data_id__written__is_read_and_damage_is_no_id(void **state)
{
    static const char *const bad[] = {"",
                                      "x\n",
                                      "0000000000000000\n",
                                      "12345678\n",
                                      "123456789abcdef0",
                                      "123456789abcdef01\n",
                                      "123456789ABCDEF0\n"};
    struct err err = {0};
    uint64_t id = 1;
    (void)state;
    assert_int_equal(pgdata_id_read(tmpdir, &id, &err), 0);
    assert_true(id == 0);
    assert_int_equal(pgdata_id_write(tmpdir, UINT64_C(0x23456789abcdef01), &err), 0);
    assert_int_equal(pgdata_id_read(tmpdir, &id, &err), 0);
    assert_true(id == UINT64_C(0x23456789abcdef01));
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        write_file("ogel_data_id", bad[i]);
        assert_int_equal(pgdata_id_read(tmpdir, &id, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

static void test_cluster__written__is_read_and_damage_is_no_id(void **state)
{
    static const char *const bad[] = {"", "00", "0123456789abcdef0123456789abcdeg\n",
                                      "0123456789abcdef0123456789abcdef",
                                      "0123456789abcdef0123456789abcdef0\n"};
    struct cluster_id written, read;
    struct err err = {0};
    (void)state;
    assert_int_equal(pgdata_cluster_read(tmpdir, &read, &err), 0);
    assert_int_equal(read.bytes[0], 0);
    for (size_t i = 0; i < sizeof written.bytes; i++)
        written.bytes[i] = (uint8_t)(255 - 16 * i);
    assert_int_equal(pgdata_cluster_write(tmpdir, &written, &err), 0);
    assert_int_equal(pgdata_cluster_read(tmpdir, &read, &err), 0);
    assert_memory_equal(&written, &read, sizeof written);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        write_file("ogel_cluster_id", bad[i]);
        assert_int_equal(pgdata_cluster_read(tmpdir, &read, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

/* A cluster that is born of another one's snapshot must not archive into that one's archive. */
static void test_auto_conf__of_another_cluster__forgets_its_archive(void **state)
{
    struct err err = {0};
    char removed[256];
    (void)state;
    write_file("postgresql.auto.conf", "work_mem = '1MB'\narchive_mode = 'on'\n"
                                       "Archive_Command = 'cp %p /old/%f'\narchive_library='x'\n");
    assert_int_equal(pgdata_auto_conf_strip(tmpdir, removed, sizeof removed, &err), 0);
    assert_string_equal(removed, "");
    assert_int_equal(pgdata_auto_conf_forget(tmpdir, removed, sizeof removed, &err), 0);
    assert_string_equal(removed, "archive_mode, Archive_Command, archive_library");
    assert_content("postgresql.auto.conf", "work_mem = '1MB'\n");
}

static void test_standby_signal__after_it__is_there_and_recovery_signal_is_not(void **state)
{
    struct err err = {0};
    (void)state;
    write_file("recovery.signal", "");
    assert_int_equal(pgdata_standby_signal(tmpdir, &err), 0);
    assert_int_equal(pgdata_standby_signal(tmpdir, &err), 0);
    assert_true(file_exists(tmp_path("standby.signal")));
    assert_false(file_exists(tmp_path("recovery.signal")));
}

static void test_auto_conf__reserved_names_in_any_form__go_and_all_else_stays(void **state)
{
    struct err err = {0};
    char removed[256];
    (void)state;
    assert_int_equal(pgdata_auto_conf_strip(tmpdir, removed, sizeof removed, &err), 0);
    write_file("postgresql.auto.conf", "# Do not edit this file manually!\n"
                                       "work_mem = '1MB'\n"
                                       "synchronous_standby_names = ''\n"
                                       "  Primary_ConnInfo 'host=x'\n"
                                       "fsync = 'on'\n"
                                       "fsync=off # for a while\n"
                                       "include '/etc/x'\n"
                                       "\n"
                                       "log_line_prefix = 'it''s = \\' fsync = off'");
    assert_int_equal(pgdata_auto_conf_strip(tmpdir, removed, sizeof removed, &err), 0);
    assert_string_equal(removed, "synchronous_standby_names, Primary_ConnInfo, fsync, include");
    assert_content("postgresql.auto.conf", "# Do not edit this file manually!\n"
                                           "work_mem = '1MB'\n"
                                           "fsync = 'on'\n"
                                           "\n"
                                           "log_line_prefix = 'it''s = \\' fsync = off'");
    assert_int_equal(pgdata_auto_conf_strip(tmpdir, removed, sizeof removed, &err), 0);
    assert_string_equal(removed, "");
}

/* --- preflight
 * ------------------------------------------------------------------------------------------------
 */

static char fake_bin[300], target[300];

static struct pgdata_source fake_source(void)
{
    snprintf(fake_bin, sizeof fake_bin, "%s/bin", tmpdir);
    snprintf(target, sizeof target, "%s/data", tmpdir);
    (void)mkdir(fake_bin, 0700);
    (void)mkdir(tmp_path("lib"), 0700);
    write_file("bin/postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 15.20 (Debian)'\n");
    write_file("lib/good.so", "");
    assert_int_equal(chmod(tmp_path("bin/postgres"), 0700), 0);
    return (struct pgdata_source){.version_num = 150020, .size_bytes = 1000};
}

static enum err_code preflight(const struct pgdata_source *source)
{
    struct err err = {0};
    return pgdata_clone_preflight(fake_bin, target, source, &err) == 0 ? ERR_NONE : err.code;
}

static void test_preflight__each_thing_that_is_wrong__is_found(void **state)
{
    struct pgdata_source source = fake_source();
    (void)state;
    assert_int_equal(preflight(&source), ERR_NONE);
    source.version_num = 160001;
    assert_int_equal(preflight(&source), ERR_REFUSED);
    source = fake_source();
    source.shared_preload_libraries = "good, \"$libdir/good\"";
    assert_int_equal(preflight(&source), ERR_NONE);
    source.shared_preload_libraries = "good, missing";
    assert_int_equal(preflight(&source), ERR_REFUSED);
    source = fake_source();
    source.libc_version = gnu_get_libc_version();
    assert_int_equal(preflight(&source), ERR_NONE);
    source.libc_version = "1.0";
    assert_int_equal(preflight(&source), ERR_REFUSED);
    source = fake_source();
    source.size_bytes = UINT64_C(1) << 60;
    assert_int_equal(preflight(&source), ERR_NO_SPACE);
}

static void test_preflight__tablespace_directory__may_be_missing_empty_or_ours(void **state)
{
    struct pgdata_source source = fake_source();
    struct pgdata_tablespace space = {.oid = 16384};
    struct err err = {0};
    (void)state;
    source.tablespaces = &space;
    source.tablespace_count = 1;
    snprintf(space.path, sizeof space.path, "%s/space", tmpdir);
    assert_int_equal(preflight(&source), ERR_NONE);
    assert_int_equal(mkdir(space.path, 0700), 0);
    assert_int_equal(preflight(&source), ERR_NONE);
    write_file("space/PG_15_202209061", "");
    assert_int_equal(preflight(&source), ERR_REFUSED);
    assert_int_equal(file_mkdir_p(tmp_path("data/pg_tblspc"), 0700, &err), 0);
    assert_int_equal(symlink(space.path, tmp_path("data/pg_tblspc/16384")), 0);
    assert_int_equal(preflight(&source), ERR_NONE);
    snprintf(space.path, sizeof space.path, "/nowhere/at/all");
    assert_int_equal(preflight(&source), ERR_REFUSED);
}

static void test_wal_dir__link__is_told_from_a_directory(void **state)
{
    char path[PGDATA_PATH_SIZE];
    bool elsewhere;
    struct err err = {0};
    (void)state;
    assert_int_equal(pgdata_wal_dir(tmpdir, path, &elsewhere, &err), 0);
    assert_false(elsewhere);
    assert_int_equal(mkdir(tmp_path("d"), 0700), 0);
    assert_int_equal(symlink("/fast/wal", tmp_path("d/pg_wal")), 0);
    assert_int_equal(pgdata_wal_dir(tmp_path("d"), path, &elsewhere, &err), 0);
    assert_true(elsewhere);
    assert_string_equal(path, "/fast/wal");
}

static void test_waldump__what_it_says__is_read_and_nothing_else(void **state)
{
    static const char *const refused[] = {
        "", "WAL statistics between 0/10", "WAL statistics between 0/20 and 0/10:",
        "WAL statistics between -1/10 and 0/20:", "WAL statistics between 0/10 and 0/20"};
    uint64_t a, b;
    (void)state;
    assert_true(
        pgdata_wal_stats_parse("WAL statistics between 0/3000028 and 1/1C0:\nType", &a, &b));
    assert_true(a == 0x3000028 && b == 0x1000001C0);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(refused); i++)
        assert_false(pgdata_wal_stats_parse(refused[i], &a, &b));
    assert_true(pgdata_wal_record_parse(
        "rmgr: XLOG tx: 0, lsn: 0/03000028, prev 0/02FFFFA0, desc: X", &a, &b));
    assert_true(a == 0x3000028 && b == 0x2FFFFA0);
    assert_false(pgdata_wal_record_parse("rmgr: XLOG tx: 0, lsn: 0/03000028, desc: X", &a, &b));
}

static void test_backup_label__first_line__gives_where_recovery_begins(void **state)
{
    static const char *const refused[] = {
        "", "START WAL LOCATION: 0/2000028 (file 00000003000000000000000)",
        "START WAL LOCATION: 0/2000028 (file 000000000000000000000002)",
        "START WAL LOCATION: -1/2000028 (file 000000030000000000000002)",
        "CHECKPOINT LOCATION: 0/2000060\n"};
    struct position start;
    (void)state;
    assert_true(pgdata_backup_label_parse(
        "START WAL LOCATION: 0/2000028 (file 0000000A0000000000000002)\nCHECKPOINT", &start));
    assert_int_equal(start.timeline, 10);
    assert_true(start.lsn == 0x2000028);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(refused); i++)
        assert_false(pgdata_backup_label_parse(refused[i], &start));
}

int main(void)
{
#define IN_PGDATA(f) cmocka_unit_test_setup_teardown(f, make_pgdata, tmpdir_remove)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_history__lines_of_postgres_and_comments__become_the_lineage),
        cmocka_unit_test(test_history__placeholder__has_no_ancestors),
        cmocka_unit_test(test_history__anything_else__is_refused),
        cmocka_unit_test(test_history__longer_than_is_kept__keeps_the_newest_and_says_so),
        IN_PGDATA(test_history_plant__missing_ids__get_placeholders_and_real_ones_stay),
        IN_PGDATA(test_history_newest__placeholders_above_it__are_passed_over),
        IN_PGDATA(test_history_clean__above_a_timeline__removes_files_and_archive_notes),
        IN_PGDATA(test_history_install__bad_content__is_refused_and_good_replaces_a_placeholder),
        cmocka_unit_test(test_control__output_of_pg_controldata__is_read),
        cmocka_unit_test(test_control__anything_missing_doubled_or_odd__is_corrupt),
        cmocka_unit_test(test_waldump__what_it_says__is_read_and_nothing_else),
        cmocka_unit_test(test_backup_label__first_line__gives_where_recovery_begins),
        IN_PGDATA(test_inspect__each_kind__is_told_apart),
        IN_PGDATA(test_data_id__written__is_read_and_damage_is_no_id),
        IN_PGDATA(test_cluster__written__is_read_and_damage_is_no_id),
        IN_PGDATA(test_auto_conf__of_another_cluster__forgets_its_archive),
        IN_PGDATA(test_standby_signal__after_it__is_there_and_recovery_signal_is_not),
        IN_PGDATA(test_auto_conf__reserved_names_in_any_form__go_and_all_else_stays),
        IN_PGDATA(test_preflight__each_thing_that_is_wrong__is_found),
        IN_PGDATA(test_preflight__tablespace_directory__may_be_missing_empty_or_ours),
        IN_PGDATA(test_wal_dir__link__is_told_from_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
