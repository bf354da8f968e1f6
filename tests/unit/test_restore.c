/* Restoring and verifying: what was stored comes back, and whatever is wrong is named and leaves
 * nothing that a server would start from. */
#include "tests/unit/snapshot_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "snapshots/catalog.h"
#include "snapshots/restore.h"

static struct fixture f;

static int setup(void **state)
{
    if (tmpdir_make(state) < 0)
        return -1;
    fixture_make(&f);
    return 0;
}

static int teardown(void **state)
{
    fixture_free(&f);
    return tmpdir_remove(state);
}

static int try_restore(struct err *err)
{
    const struct restore_mapping mapping = {f.tablespaces[0].location, tmp_path("new-space")};
    const struct restore_options options = {
        .target = tmp_path("target"), .mappings = &mapping, .mapping_count = 1, .jobs = 2};
    struct manifest manifest;
    int rc = restore_run(f.store, FIXTURE_ID, &options, &manifest, err);

    if (rc == 0)
        manifest_free(&manifest);
    return rc;
}

static int try_verify(struct err *err)
{
    const struct restore_options options = {.jobs = 2};
    struct manifest manifest;
    int rc = restore_verify(f.store, FIXTURE_ID, &options, &manifest, err);

    if (rc == 0)
        manifest_free(&manifest);
    return rc;
}

static void assert_file(const char *path, uint64_t size)
{
    char *data, name[128], want[SLICE_SIZE];
    size_t len;

    snprintf(name, sizeof(name), "target/%s", path);
    must(file_read(tmp_path(name), 1 << 30, &data, &len, &err_));
    assert_int_equal(len, size);
    for (uint64_t i = 0; i < slice_count(size); i++) {
        fixture_fill(path, size, i, want);
        assert_memory_equal(data + i * SLICE_SIZE, want, slice_len(size, i));
    }
    free(data);
}

static void test_restore__whole_snapshot__gives_every_file(void **state)
{
    char link[512] = "";
    struct stat st;

    (void)state;
    must(try_restore(&err_));
    assert_file("PG_VERSION", 3);
    assert_file("empty", 0);
    assert_file("base/1", 3 * SLICE_SIZE + 100);
    assert_file("base/2", (uint64_t)FIXTURE_BIG_SLICES * SLICE_SIZE);
    assert_file("base/3", FIXTURE_ODD_SIZE);
    assert_file("global/pg_control", 8192);
    assert_file("pg_tblspc/16385/PG_15_202209061/5", 9000);
    assert_true(readlink(tmp_path("target/pg_tblspc/16385"), link, sizeof(link) - 1) > 0);
    assert_string_equal(link, tmp_path("new-space"));
    assert_int_equal(stat(tmp_path("target/base/1"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(tmp_path("target"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_false(file_exists(tmp_path("target/standby.signal")));
    assert_false(file_exists(tmp_path("target/" RESTORE_MARKER)));
    assert_false(file_exists(tmp_path("target/global/pg_control.unfinished")));
}

static void test_restore__slices_of_zeroes__take_no_space(void **state)
{
    struct stat st;

    (void)state;
    must(try_restore(&err_));
    assert_int_equal(stat(tmp_path("target/base/2"), &st), 0);
    assert_true(st.st_blocks * 512 <
                (FIXTURE_BIG_SLICES - FIXTURE_BIG_SLICES / 5 + 2) * (blkcnt_t)SLICE_SIZE);
}

static void test_restore__target_that_is_not_empty__is_refused_and_untouched(void **state)
{
    struct err err = {0};

    (void)state;
    must(file_mkdir_p(tmp_path("target"), 0700, &err_));
    must(file_write_atomic(tmp_path("target/mine"), "x", 1, 0600, &err_));
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "mine"));
    assert_int_equal(rmdir(tmp_path("target")), -1);
    must(file_remove(tmp_path("target/mine"), &err_));
    assert_int_equal(rmdir(tmp_path("target")), 0);
}

static void test_restore__target_of_a_server__is_refused_as_such(void **state)
{
    struct err err = {0};

    (void)state;
    must(file_mkdir_p(tmp_path("target"), 0700, &err_));
    must(file_write_atomic(tmp_path("target/postmaster.pid"), "1\n", 2, 0600, &err_));
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "server"));
}

static void test_restore__tablespace_directory_that_is_not_empty__is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    must(file_mkdir_p(tmp_path("new-space/PG_14"), 0700, &err_));
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "new-space"));
    assert_false(file_exists(tmp_path("target/global/pg_control")));
}

static void test_restore__mapping_of_what_is_not_there__is_refused_before_anything(void **state)
{
    const struct restore_mapping mapping = {"/no/such/space", "/else/where"};
    const struct restore_options options = {
        .target = tmp_path("target"), .mappings = &mapping, .mapping_count = 1};
    struct manifest manifest;
    struct err err = {0};

    (void)state;
    assert_int_equal(restore_run(f.store, FIXTURE_ID, &options, &manifest, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "/no/such/space"));
    assert_false(file_exists(tmp_path("target")));
}

static void test_restore__second_one_into_what_failed__is_refused(void **state)
{
    char key[STORE_KEY_MAX];
    struct err err = {0};

    (void)state;
    pack_key(FIXTURE_ID, 0, key);
    must(store_delete(f.store, key, CONTRACT_MS, &err_));
    assert_int_equal(try_restore(&err), -1);
    assert_true(file_exists(tmp_path("target/" RESTORE_MARKER)));
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
}

/* --- damage --------------------------------------------------------------------------------- */

static const char *object_path(const char *key)
{
    char name[256];

    snprintf(name, sizeof(name), "store/objects/%.200s", key);
    return tmp_path(name);
}

static void flip(const char *key, off_t at)
{
    int fd = open(object_path(key), O_RDWR);
    char byte;

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Both notice it, name what is told, and leave nothing to start from. */
static void assert_noticed(enum err_code code, const char *says)
{
    struct err err = {0};

    assert_int_equal(try_verify(&err), -1);
    assert_int_equal(err.code, code);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" is not in: %s", says, err.text);
    err_clear(&err);
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, code);
    assert_false(file_exists(tmp_path("target/global/pg_control")));
    must(file_remove_tree(tmp_path("target"), &err_));
    must(file_remove_tree(tmp_path("new-space"), &err_));
}

static void test_damage__of_nothing__is_not_found(void **state)
{
    (void)state;
    must(try_verify(&err_));
}

static void test_damage__flipped_bit_anywhere_in_a_pack__names_file_and_slice(void **state)
{
    char key[STORE_KEY_MAX];

    (void)state;
    pack_key(FIXTURE_ID, 0, key);
    for (uint32_t at = 5; at < f.pack_len; at += f.pack_len / 9) {
        flip(key, at);
        assert_noticed(ERR_CORRUPT, ": slice ");
        flip(key, at);
    }
    must(try_verify(&err_));
}

static void test_damage__truncated_pack__says_where_it_ends(void **state)
{
    char key[STORE_KEY_MAX];

    (void)state;
    pack_key(FIXTURE_ID, 0, key);
    assert_int_equal(truncate(object_path(key), f.pack_len - 1), 0);
    assert_noticed(ERR_CORRUPT, "is truncated");
    assert_int_equal(truncate(object_path(key), 0), 0);
    assert_noticed(ERR_CORRUPT, "is truncated");
}

static void test_damage__missing_objects__are_named(void **state)
{
    char keys[3][STORE_KEY_MAX];

    (void)state;
    pack_key(FIXTURE_ID, 0, keys[0]);
    map_key(FIXTURE_ID, f.map_digest, keys[1]);
    file_table_key(FIXTURE_ID, keys[2]);
    for (int i = 0; i < 3; i++) {
        char *away = xasprintf("%s.away", object_path(keys[i]));

        assert_int_equal(rename(object_path(keys[i]), away), 0);
        assert_noticed(ERR_CORRUPT, keys[i]);
        assert_int_equal(rename(away, object_path(keys[i])), 0);
        free(away);
    }
    must(try_verify(&err_));
}

static void test_damage__flipped_bit_in_a_map__is_noticed(void **state)
{
    char key[STORE_KEY_MAX];
    uint64_t size;

    (void)state;
    map_key(FIXTURE_ID, f.map_digest, key);
    must(store_head(f.store, key, &size, CONTRACT_MS, &err_));
    for (uint64_t at = 0; at < size; at += 307) {
        flip(key, (off_t)at);
        assert_noticed(ERR_CORRUPT, "base/2");
        flip(key, (off_t)at);
    }
}

static void test_damage__flipped_bit_in_the_file_table__is_noticed(void **state)
{
    char key[STORE_KEY_MAX];

    (void)state;
    file_table_key(FIXTURE_ID, key);
    for (uint64_t at = 0; at < f.manifest.table_bytes; at += 97) {
        flip(key, (off_t)at);
        assert_noticed(ERR_CORRUPT, "file table");
        flip(key, (off_t)at);
    }
}

static void test_damage__manifest_of_another_snapshot__is_noticed(void **state)
{
    const char *other = "20260203T040507Z-00000000";
    char key[STORE_KEY_MAX];
    struct manifest manifest;
    struct err err = {0};
    size_t len;
    char *data = manifest_encode(&f.manifest, &len);
    const struct store_body body = {.data = data, .size = len};

    (void)state;
    manifest_key(other, key);
    must(store_put(f.store, key, &body, CONTRACT_MS, &err_));
    assert_int_equal(manifest_load(f.store, other, &manifest, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    free(data);
}

static void test_damage__files_of_another_system_than_the_manifests__are_not_restored(void **state)
{
    struct err err = {0};

    (void)state;
    f.manifest.system_id++;
    fixture_publish(&f, &f.manifest);
    assert_int_equal(try_restore(&err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "system"));
    assert_false(file_exists(tmp_path("target/global/pg_control")));
}

static void test_damage__files_that_the_manifest_does_not_count__are_noticed(void **state)
{
    (void)state;
    f.manifest.files++;
    fixture_publish(&f, &f.manifest);
    assert_noticed(ERR_CORRUPT, "manifest says");
}

/* --- the catalog ---------------------------------------------------------------------------- */

static void test_catalog__damaged_manifest__is_listed_as_such_and_never_a_parent(void **state)
{
    char key[STORE_KEY_MAX];
    struct catalog catalog;

    (void)state;
    put_text(f.store, "manifests/20260203T040507Z-00000000", "rubbish");
    put_text(f.store, "manifests/somebody-elses", "x");
    must(catalog_load(f.store, &catalog, &err_));
    assert_int_equal(catalog.count, 2);
    assert_int_equal(catalog.entries[0].damage.code, ERR_NONE);
    assert_int_equal(catalog.entries[1].damage.code, ERR_CORRUPT);
    assert_string_equal(catalog_newest(&catalog, FIXTURE_SYSTEM, 150007)->id, FIXTURE_ID);
    assert_null(catalog_newest(&catalog, FIXTURE_SYSTEM + 1, 150007));
    assert_null(catalog_newest(&catalog, FIXTURE_SYSTEM, 160000));
    catalog_free(&catalog);
    manifest_key(FIXTURE_ID, key);
    flip(key, 100);
    must(catalog_load(f.store, &catalog, &err_));
    assert_null(catalog_newest(&catalog, FIXTURE_SYSTEM, 150007));
    catalog_free(&catalog);
}

static void test_catalog__two_of_the_same_second__are_in_the_order_of_their_begin(void **state)
{
    struct manifest manifest = f.manifest;
    struct catalog catalog;

    (void)state;
    /* Its id sorts before the first one's. */
    memcpy(manifest.id, "20260203T040506Z-00000000", SNAPSHOT_ID_SIZE);
    manifest.started_ms = f.manifest.started_ms + 1;
    fixture_publish(&f, &manifest);
    must(catalog_load(f.store, &catalog, &err_));
    assert_string_equal(catalog.entries[0].id, FIXTURE_ID);
    assert_string_equal(catalog_newest(&catalog, FIXTURE_SYSTEM, 150007)->id, manifest.id);
    catalog_free(&catalog);
}

#define WITH_SNAPSHOT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SNAPSHOT(test_restore__whole_snapshot__gives_every_file),
        WITH_SNAPSHOT(test_restore__slices_of_zeroes__take_no_space),
        WITH_SNAPSHOT(test_restore__target_that_is_not_empty__is_refused_and_untouched),
        WITH_SNAPSHOT(test_restore__target_of_a_server__is_refused_as_such),
        WITH_SNAPSHOT(test_restore__tablespace_directory_that_is_not_empty__is_refused),
        WITH_SNAPSHOT(test_restore__mapping_of_what_is_not_there__is_refused_before_anything),
        WITH_SNAPSHOT(test_restore__second_one_into_what_failed__is_refused),
        WITH_SNAPSHOT(test_damage__of_nothing__is_not_found),
        WITH_SNAPSHOT(test_damage__flipped_bit_anywhere_in_a_pack__names_file_and_slice),
        WITH_SNAPSHOT(test_damage__truncated_pack__says_where_it_ends),
        WITH_SNAPSHOT(test_damage__missing_objects__are_named),
        WITH_SNAPSHOT(test_damage__flipped_bit_in_a_map__is_noticed),
        WITH_SNAPSHOT(test_damage__flipped_bit_in_the_file_table__is_noticed),
        WITH_SNAPSHOT(test_damage__manifest_of_another_snapshot__is_noticed),
        WITH_SNAPSHOT(test_damage__files_of_another_system_than_the_manifests__are_not_restored),
        WITH_SNAPSHOT(test_damage__files_that_the_manifest_does_not_count__are_noticed),
        WITH_SNAPSHOT(test_catalog__damaged_manifest__is_listed_as_such_and_never_a_parent),
        WITH_SNAPSHOT(test_catalog__two_of_the_same_second__are_in_the_order_of_their_begin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
