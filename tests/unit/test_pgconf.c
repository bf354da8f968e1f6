#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/memory.h"
#include "agent/pgconf.h"
#include "tests/unit/tmpdir.h"

static char datadir[300], state_dir[300], socket_dir[300];

static struct pgconf conf_make(void)
{
    struct pgconf conf = {
        .pg_major = 15,
        .datadir = datadir,
        .state_dir = state_dir,
        .socket_dir = socket_dir,
        .os_user = "postgres",
        .disk_total_bytes = UINT64_C(100) << 30,
        .cluster_name = "main",
        .listen_addresses = "127.0.0.1",
        .port = 5432,
        .superuser = "postgres",
    };
    snprintf(datadir, sizeof datadir, "%s/data", tmpdir);
    snprintf(state_dir, sizeof state_dir, "%s/state", tmpdir);
    snprintf(socket_dir, sizeof socket_dir, "%s/s", tmpdir);
    memory_plan_make(UINT64_C(1) << 30, 100, 100, &conf.memory);
    return conf;
}

static char *content(const char *name)
{
    char *text = NULL;
    struct err err = {0};
    char path[100];
    snprintf(path, sizeof path, "state/conf/%s", name);
    if (file_read(tmp_path(path), 1 << 20, &text, NULL, &err) != 0)
        fail_msg("%s", err.text);
    return text;
}

static bool has(const char *name, const char *text)
{
    char *all = content(name);
    bool found = strstr(all, text) != NULL;
    free(all);
    return found;
}

static unsigned written(const struct pgconf *conf)
{
    struct err err = {0};
    unsigned changed = 99;
    if (pgconf_write(conf, &changed, &err) != 0)
        fail_msg("%s", err.text);
    return changed;
}

static void test_write__again_without_a_change__writes_nothing(void **state)
{
    struct pgconf conf = conf_make();
    (void)state;
    assert_int_equal(written(&conf), PGCONF_CHANGED_STATIC | PGCONF_CHANGED_USERS |
                                         PGCONF_CHANGED_DYNAMIC | PGCONF_CHANGED_ACCESS);
    assert_int_equal(written(&conf), 0);
}

static void test_write__each_part__is_named_when_it_changes(void **state)
{
    struct pgconf conf = conf_make();
    struct pgconf_setting setting = {"work_mem", "8MB"};
    const char *rule = "host all all 10.0.0.0/8 scram-sha-256";
    (void)state;
    written(&conf);
    conf.port = 5433;
    assert_int_equal(written(&conf), PGCONF_CHANGED_STATIC);
    conf.settings = &setting;
    conf.setting_count = 1;
    assert_int_equal(written(&conf), PGCONF_CHANGED_USERS);
    conf.hba = &rule;
    conf.hba_count = 1;
    assert_int_equal(written(&conf), PGCONF_CHANGED_ACCESS);
    conf.sync_names = "ANY 1 (x)";
    assert_int_equal(written(&conf), PGCONF_CHANGED_DYNAMIC);
}

static void test_write__files__are_private(void **state)
{
    static const char *const names[] = {"postgresql.conf", "users.conf", "ogel.conf", "pg_hba.conf",
                                        "pg_ident.conf"};
    struct pgconf conf = conf_make();
    struct stat st;
    char path[100];
    (void)state;
    written(&conf);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "state/conf/%s", names[i]);
        assert_int_equal(stat(tmp_path(path), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(stat(socket_dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static int open_on_a_full_disk(const char *path, int flags, mode_t mode)
{
    if ((flags & O_CREAT) == 0)
        return open(path, flags, mode);
    errno = ENOSPC;
    return -1;
}

/* A follower that is granted admits the other nodes' receivers: its rules grow. Whatever else
 * stands in the file, they must fit into its blocks. */
static void test_write__rules_of_a_new_leader_on_a_full_disk__fit_where_a_followers_were(
    void **state)
{
    static const char *const roles[] = {"ogel_abcdefghijklmnop_i4294967295",
                                        "ogel_bcdefghijklmnopq_i4294967295"};
    static const char *rules[64];
    struct io_ops full = io_ops_system;

    (void)state;
    full.open = open_on_a_full_disk;
    for (size_t count = 0; count <= OGEL_ARRAY_LEN(rules); count++) {
        struct pgconf conf = conf_make();
        struct err err = {0};
        unsigned changed;
        int rc;

        if (count > 0)
            rules[count - 1] = "host all all 10.77.100.100/32 scram-sha-256 # a rule of the user's";
        conf.replication_group = "ogel_replication";
        conf.hba = rules;
        conf.hba_count = count;
        written(&conf);
        conf.replication_roles = roles;
        conf.replication_role_count = 2;
        io_ops = &full;
        rc = pgconf_write(&conf, &changed, &err);
        io_ops = &io_ops_system;
        if (rc != 0)
            fail_msg("%zu rules: %s", count, err.text);
        assert_true(
            has("pg_hba.conf", "host replication \"ogel_bcdefghijklmnopq_i4294967295\" all"));
        if (count > 0)
            assert_true(has("pg_hba.conf", rules[0]));
    }
}

static void test_write__more_than_the_blocks_hold_on_a_full_disk__is_refused_and_changes_nothing(
    void **state)
{
    static const char *rules[200];
    struct io_ops full = io_ops_system;
    struct pgconf conf = conf_make();
    struct err err = {0};
    unsigned changed;
    char *before, *after;

    (void)state;
    written(&conf);
    before = content("pg_hba.conf");
    for (size_t i = 0; i < OGEL_ARRAY_LEN(rules); i++)
        rules[i] = "host all all 10.77.100.100/32 scram-sha-256 # a rule of the user's";
    conf.hba = rules;
    conf.hba_count = OGEL_ARRAY_LEN(rules);
    full.open = open_on_a_full_disk;
    io_ops = &full;
    assert_int_equal(pgconf_write(&conf, &changed, &err), -1);
    io_ops = &io_ops_system;
    assert_int_equal(err.code, ERR_NO_SPACE);
    after = content("pg_hba.conf");
    assert_string_equal(before, after);
    free(before);
    free(after);
}

static void test_write__without_upstream_and_names__fences(void **state)
{
    struct pgconf conf = conf_make();
    (void)state;
    written(&conf);
    assert_true(has("ogel.conf", "primary_conninfo = ''\n"));
    assert_true(has("ogel.conf", "restore_command = ''\n"));
    assert_true(has("ogel.conf", "synchronous_standby_names = 'ANY 1 (ogel_nobody)'\n"));
}

static void test_write__order__lets_users_override_defaults_and_ours_override_users(void **state)
{
    struct pgconf conf = conf_make();
    (void)state;
    written(&conf);
    char *text = content("postgresql.conf");
    const char *defaults = strstr(text, "max_connections = ");
    const char *users = strstr(text, "include 'users.conf'");
    const char *required = strstr(text, "restart_after_crash = 'off'");
    const char *dynamic = strstr(text, "include 'ogel.conf'");
    assert_non_null(defaults);
    assert_true(defaults < users && users < required && required < dynamic);
    assert_null(strstr(text, "allow_alter_system"));
    free(text);
    conf.pg_major = 17;
    written(&conf);
    assert_true(has("postgresql.conf", "allow_alter_system = 'off'\n"));
}

static void test_write__standby_that_needs_more__gets_that_and_no_less(void **state)
{
    const uint32_t needs[] = {300, 8, 10, 5, 64};
    struct pgconf conf = conf_make();
    struct pgconf_setting settings[] = {{"max_connections", "250"},
                                        {"max_prepared_transactions", "50"}};
    (void)state;
    conf.settings = settings;
    conf.setting_count = 2;
    written(&conf);
    assert_false(has("users.conf", "max_connections = '300'\n"));
    conf.at_least = needs;
    written(&conf);
    assert_true(has("users.conf", "max_connections = '250'\n"));
    assert_true(has("users.conf", "max_connections = '300'\n"));
    assert_false(has("users.conf", "max_prepared_transactions = '5'\n"));
    assert_false(has("users.conf", "max_wal_senders"));
}

static void test_check__setting_below_what_standbys_need__is_refused(void **state)
{
    const uint32_t needs[] = {300, 8, 10, 0, 64};
    struct pgconf conf = conf_make();
    struct pgconf_setting setting = {"Max_Connections", "250"};
    struct err err = {0};
    (void)state;
    conf.settings = &setting;
    conf.setting_count = 1;
    conf.at_least = needs;
    assert_int_equal(pgconf_check(&conf, "/no/such/bindir", 1000, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "max_connections: 250 is less than 300"));
}

static void test_write__value_with_quote_and_backslash__is_quoted(void **state)
{
    struct pgconf conf = conf_make();
    struct pgconf_setting setting = {"log_line_prefix", "it's \\ '\\'' #"};
    (void)state;
    conf.settings = &setting;
    conf.setting_count = 1;
    written(&conf);
    assert_true(has("users.conf", "log_line_prefix = 'it''s \\\\ ''\\\\'''' #'\n"));
}

static void test_write__value_with_a_line_break__is_refused_and_nothing_changes(void **state)
{
    struct pgconf conf = conf_make();
    struct err err = {0};
    unsigned changed;
    (void)state;
    written(&conf);
    conf.listen_addresses = "127.0.0.1'\nfsync = off #";
    assert_int_equal(pgconf_write(&conf, &changed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_false(has("postgresql.conf", "fsync = off"));
}

static void test_write__refused_settings_and_rules__are_left_out(void **state)
{
    struct pgconf conf = conf_make();
    const struct pgconf_setting settings[] = {{"fsync", "off"}, {"work_mem", "1MB"}, {"a\nb", "x"}};
    const char *const rules[] = {"host replication all all trust",
                                 "host all all ::/0 scram-sha-256"};
    (void)state;
    conf.settings = settings;
    conf.setting_count = 3;
    conf.hba = rules;
    conf.hba_count = 2;
    written(&conf);
    assert_false(has("users.conf", "fsync"));
    assert_true(has("users.conf", "work_mem = '1MB'\n"));
    assert_false(has("pg_hba.conf", "trust"));
    assert_true(has("pg_hba.conf", "host all all ::/0 scram-sha-256\n"));
}

static void test_write__socket_path_too_long__is_refused_with_the_limit(void **state)
{
    struct pgconf conf = conf_make();
    struct err err = {0};
    unsigned changed;
    (void)state;
    memset(socket_dir, 'x', 93);
    socket_dir[0] = '/';
    socket_dir[93] = '\0'; /* 93 + "/.s.PGSQL.65535" = 108 */
    assert_int_equal(pgconf_write(&conf, &changed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "107"));
}

static void test_access__replication__comes_first_lists_roles_and_ends_in_reject(void **state)
{
    struct pgconf conf = conf_make();
    const char *const roles[] = {"ogel_n2_i1", "ogel_n3_i4"};
    const char *const from[] = {"10.0.0.0/8", "samenet"};
    const char *const rules[] = {"host all all all trust"};
    (void)state;
    conf.replication_roles = roles;
    conf.replication_role_count = 2;
    conf.replication_from = from;
    conf.replication_from_count = 2;
    conf.replication_group = "ogel_replication";
    conf.monitor_role = "ogel_monitor";
    conf.hba = rules;
    conf.hba_count = 1;
    written(&conf);
    char *text = content("pg_hba.conf");
    const char *first = strstr(text, "host replication \"ogel_n2_i1\" 10.0.0.0/8 scram-sha-256\n");
    const char *last = strstr(text, "host replication \"ogel_n3_i4\" samenet scram-sha-256\n");
    const char *reject = strstr(text, "host replication all all reject\n");
    const char *group = strstr(text, "host all +\"ogel_replication\" all reject\n");
    const char *monitor = strstr(text, "host all \"ogel_monitor\" all scram-sha-256\n");
    const char *user = strstr(text, "host all all all trust\n");
    assert_non_null(first);
    assert_true(first < last && last < reject && reject < group && group < monitor &&
                monitor < user);
    free(text);
    assert_true(has("pg_ident.conf", "ogel \"postgres\" \"postgres\"\n"));
}

static void test_access__name_that_would_break_the_line__is_refused(void **state)
{
    struct pgconf conf = conf_make();
    struct err err = {0};
    unsigned changed;
    const char *role = "x\" all trust\nhost all \"y";
    const char *from = "all trust\nhost replication all all";
    (void)state;
    conf.replication_roles = &role;
    conf.replication_role_count = 1;
    assert_int_equal(pgconf_write(&conf, &changed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    role = "ogel_n1_i1";
    conf.replication_from = &from;
    conf.replication_from_count = 1;
    assert_int_equal(pgconf_write(&conf, &changed, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_conninfo__values__are_quoted_for_libpq_and_for_the_file(void **state)
{
    struct pgconf conf = conf_make();
    (void)state;
    conf.upstream_host = "h'o\\st";
    conf.upstream_port = 5433;
    conf.upstream_user = "ogel_n1_i1";
    conf.application_name = "ogel_n1_i1_g3";
    char *conninfo = pgconf_primary_conninfo(&conf);
    assert_int_equal(strncmp(conninfo, "host='h\\'o\\\\st' port=5433 user='ogel_n1_i1' ", 44), 0);
    assert_non_null(strstr(conninfo, "application_name='ogel_n1_i1_g3' passfile='/"));
    free(conninfo);
    written(&conf);
    assert_true(has("ogel.conf", "primary_conninfo = 'host=''h\\\\''o\\\\\\\\st'' port=5433"));
}

static void test_sync_names__list__is_any_one_of_it(void **state)
{
    const char *const names[] = {"ogel_n2_i1_g3", "*", "ogel-x", "2nd", "a\"b"};
    (void)state;
    char *text = pgconf_sync_names(names, 1);
    assert_string_equal(text, "ANY 1 (ogel_n2_i1_g3)");
    free(text);
    text = pgconf_sync_names(names, 5);
    assert_string_equal(text, "ANY 1 (ogel_n2_i1_g3, \"*\", \"ogel-x\", \"2nd\", \"a\"\"b\")");
    free(text);
    text = pgconf_sync_names(NULL, 0);
    assert_string_equal(text, PGCONF_NOBODY);
    free(text);
}

static void test_passfile__with_and_without_a_key__is_private_and_escaped(void **state)
{
    const struct pgconf_key key = {"fd00::7", 5433, "ogel_n1_i1", "a:b\\c"};
    const struct pgconf_key two_lines = {"h", 1, "u", "p\n*:*:*:v:w"};
    struct err err = {0};
    struct stat st;
    (void)state;
    conf_make();
    assert_int_equal(pgconf_passfile_write(state_dir, &key, &err), 0);
    assert_true(has("passfile", "fd00\\:\\:7:5433:*:ogel_n1_i1:a\\:b\\\\c\n"));
    assert_int_equal(chmod(tmp_path("state/conf/passfile"), 0644), 0);
    assert_int_equal(pgconf_passfile_write(state_dir, &key, &err), 0);
    assert_int_equal(stat(tmp_path("state/conf/passfile"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(pgconf_passfile_write(state_dir, NULL, &err), 0);
    assert_false(has("passfile", ":"));
    assert_false(has("passfile", "ogel"));
    assert_int_equal(pgconf_passfile_write(state_dir, &two_lines, &err), -1);
}

/* --- refusals
 * --------------------------------------------------------------------------------------------- */

static void test_refused__each_of_these_values__with_a_reason(void **state)
{
    static const struct pgconf_setting settings[] = {
        {"fsync", "off"},
        {"FSYNC", "f"},
        {"full_page_writes", "no"},
        {"fsync", "nonsense"},
        {"synchronous_standby_names", ""},
        {"synchronous_commit", "off"},
        {"synchronous_commit", "local"},
        {"synchronous_commit", "remote_write"},
        {"synchronous_commit", "on remote_apply"},
        {"wal_level", "minimal"},
        {"wal_log_hints", "off"},
        {"max_wal_senders", "9"},
        {"max_wal_senders", "10 x"},
        {"primary_conninfo", "host=x"},
        {"primary_slot_name", "s"},
        {"hot_standby", "off"},
        {"recovery_min_apply_delay", "1min"},
        {"recovery_target", "immediate"},
        {"recovery_target_timeline", "current"},
        {"restore_command", "x"},
        {"archive_cleanup_command", "x"},
        {"promote_trigger_file", "/x"},
        {"restart_after_crash", "on"},
        {"data_directory", "/x"},
        {"hba_file", "/x"},
        {"port", "1"},
        {"listen_addresses", "*"},
        {"unix_socket_directories", "/tmp"},
        {"unix_socket_permissions", "0777"},
        {"include", "/x"},
        {"include_if_exists", "/x"},
        {"include_dir", "/x"},
        {"allow_alter_system", "on"},
        {"max_standby_streaming_delay", "-1"},
        {"superuser_reserved_connections", "0"},
        {"password_encryption", "md5"},
        {"max_connections", "3"},
        {"logging_collector", "0"},
        {"work_mem", "1MB\nfsync = off"},
        {"work mem", "1MB"},
        {"", "x"},
        {"work_mem = 1 #", "x"},
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(settings); i++) {
        const char *reason = NULL;
        if (!pgconf_setting_refused(settings[i].name, settings[i].value, &reason))
            fail_msg("taken: %s = %s", settings[i].name, settings[i].value);
        assert_non_null(reason);
        assert_true(strlen(reason) > 10);
    }
}

static void test_refused__none_of_these(void **state)
{
    static const struct pgconf_setting settings[] = {
        {"fsync", "on"},
        {"fsync", "TRUE"},
        {"fsync", "t"},
        {"synchronous_commit", "on"},
        {"synchronous_commit", "remote_apply"},
        {"wal_level", "logical"},
        {"wal_level", "replica"},
        {"max_wal_senders", "10"},
        {"max_wal_senders", "20"},
        {"archive_command", "pgbackrest %p"},
        {"archive_mode", "on"},
        {"archive_library", "x"},
        {"restart_after_crash", "off"},
        {"shared_buffers", "1GB"},
        {"max_connections", "500"},
        {"pg_stat_statements.track", "all"},
        {"shared_preload_libraries", "pg_stat_statements"},
        {"max_standby_streaming_delay", "30s"},
        {"wal_keep_size", "1GB"},
        {"hot_standby_feedback", "off"},
        {"recovery_init_sync_method", "fsync"},
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(settings); i++) {
        const char *reason = "";
        if (pgconf_setting_refused(settings[i].name, settings[i].value, &reason))
            fail_msg("refused: %s = %s: %s", settings[i].name, settings[i].value, reason);
    }
}

static void test_refused__without_a_value__only_what_always_is(void **state)
{
    const char *reason;
    (void)state;
    assert_true(pgconf_setting_refused("primary_conninfo", NULL, &reason));
    assert_false(pgconf_setting_refused("fsync", NULL, &reason));
    assert_false(pgconf_setting_refused("work_mem", NULL, &reason));
}

static void test_hba_refused__each_of_these_lines__with_a_reason(void **state)
{
    static const char *const lines[] = {
        "host replication all all trust",
        "host all,replication all all trust",
        "host all, replication all all trust",
        "host \"replication\" all all trust",
        "host REPLICATION all all trust",
        "local replication all trust",
        "include /etc/x",
        "include_dir /etc/x",
        "@/etc/x",
        "host @/etc/x all all trust",
        "host all @/etc/x all trust",
        "host all a,@/etc/x all trust",
        "host all all all trust\nhost replication all all trust",
        "host all all all trust \\",
        "host all all all",
        "host all all",
        "host all all 10.0.0.0 trust",
        "host all all 10.0.0.0/33 trust",
        "host all all 10.0.0.0/ trust",
        "host all all ::1/129 trust",
        "host all all 10.0.0.0 ffff:: trust",
        "host all all a/b trust",
        "host all all all magic",
        "host all all all ldap nonsense",
        "hosts all all all trust",
        "host \"all all all trust",
        "trust",
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(lines); i++) {
        const char *reason = NULL;
        if (!pgconf_hba_refused(lines[i], &reason))
            fail_msg("taken: %s", lines[i]);
        assert_non_null(reason);
    }
}

static void test_hba_refused__none_of_these_lines(void **state)
{
    static const char *const lines[] = {
        "",
        "# host replication all all trust",
        "host all all 127.0.0.1/32 scram-sha-256",
        "hostssl app,shop \"Some One\",+team 10.0.0.0 255.0.0.0 scram-sha-256",
        "host all all ::1/128 scram-sha-256 # comment",
        "host sameuser all .example.com cert map=x",
        "local all all peer",
        "host replication_log all samenet md5",
        "host all all db-1.example.com ldap ldapserver=x ldapprefix=\"cn=\"",
        "\thost\tall\tall\tall\treject",
    };
    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(lines); i++) {
        const char *reason = "";
        if (pgconf_hba_refused(lines[i], &reason))
            fail_msg("refused: %s: %s", lines[i], reason);
    }
}

/* --- log, sizes, memory
 * -------------------------------------------------------------------------------------- */

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(tmp_path(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_log_prune__too_many_bytes__removes_the_oldest_and_keeps_the_newest(void **state)
{
    struct err err = {0};
    (void)state;
    conf_make();
    assert_int_equal(pgconf_log_prune(state_dir, 10, &err), 0);
    assert_int_equal(file_mkdir_p(tmp_path("state/log"), 0700, &err), 0);
    write_file("state/log/postgresql-20260101-000000.log", "12345678");
    write_file("state/log/postgresql-20260102-000000.log", "12345678");
    write_file("state/log/postgresql-20260103-000000.log", "12345678");
    write_file("state/log/other", "12345678");
    assert_int_equal(pgconf_log_prune(state_dir, 16, &err), 0);
    assert_false(file_exists(tmp_path("state/log/postgresql-20260101-000000.log")));
    assert_true(file_exists(tmp_path("state/log/postgresql-20260102-000000.log")));
    assert_int_equal(pgconf_log_prune(state_dir, 0, &err), 0);
    assert_false(file_exists(tmp_path("state/log/postgresql-20260102-000000.log")));
    assert_true(file_exists(tmp_path("state/log/postgresql-20260103-000000.log")));
    assert_true(file_exists(tmp_path("state/log/other")));
}

static void test_wal_keep__any_disk__leaves_it_room(void **state)
{
    (void)state;
    assert_int_equal(pgconf_wal_keep_mib(0), 64);
    assert_int_equal(pgconf_wal_keep_mib(UINT64_C(32) << 30), 1024);
    assert_int_equal(pgconf_wal_keep_mib(UINT64_C(10) << 40), 8192);
}

static void fake_machine(const char *cgroup)
{
    struct err err = {0};
    assert_int_equal(file_mkdir_p(tmp_path("proc/self"), 0700, &err), 0);
    assert_int_equal(file_mkdir_p(tmp_path("sys/fs/cgroup/a/b"), 0700, &err), 0);
    assert_int_equal(file_mkdir_p(tmp_path("sys/fs/cgroup/memory/x"), 0700, &err), 0);
    write_file("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
    write_file("proc/self/cgroup", cgroup);
}

static uint64_t available(void)
{
    struct err err = {0};
    uint64_t bytes = 0;
    assert_int_equal(memory_available(tmpdir, &bytes, &err), 0);
    return bytes;
}

static void test_memory__limit_of_any_level__counts(void **state)
{
    (void)state;
    fake_machine("0::/a/b\n");
    assert_true(available() == UINT64_C(8) << 30);
    write_file("sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_true(available() == UINT64_C(8) << 30);
    write_file("sys/fs/cgroup/a/memory.max", "1073741824\n");
    assert_true(available() == UINT64_C(1) << 30);
    write_file("sys/fs/cgroup/a/b/memory.max", "536870912\n");
    assert_true(available() == UINT64_C(512) << 20);
}

static void test_memory__old_cgroups_without_the_path__have_the_root_limit(void **state)
{
    (void)state;
    fake_machine("5:memory:/docker/abc\n0::/\n");
    write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    assert_true(available() == UINT64_C(2) << 30);
    write_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(available() == UINT64_C(8) << 30);
}

static void test_memory__plan__is_a_share_within_bounds_and_says_so(void **state)
{
    struct memory_plan plan;
    char text[256];
    (void)state;
    memory_plan_make(UINT64_C(8) << 30, 50, 100, &plan);
    assert_true(plan.shared_buffers_bytes == UINT64_C(1) << 30);
    assert_true(plan.work_mem_bytes == UINT64_C(10) << 20);
    assert_string_equal(memory_describe(&plan, text, sizeof text),
                        "shared_buffers 1GB, effective_cache_size 3GB, maintenance_work_mem 256MB, "
                        "work_mem 10MB (derived from 50 % of 8192 MiB)");
    memory_plan_make(UINT64_C(1) << 20, 1, 1000, &plan);
    assert_true(plan.shared_buffers_bytes == UINT64_C(16) << 20);
    memory_plan_make(UINT64_C(4) << 40, 100, 1, &plan);
    assert_true(plan.shared_buffers_bytes == UINT64_C(16) << 30);
}

int main(void)
{
#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_write__again_without_a_change__writes_nothing),
        IN_DIRECTORY(test_write__each_part__is_named_when_it_changes),
        IN_DIRECTORY(test_write__files__are_private),
        IN_DIRECTORY(test_write__rules_of_a_new_leader_on_a_full_disk__fit_where_a_followers_were),
        IN_DIRECTORY(
            test_write__more_than_the_blocks_hold_on_a_full_disk__is_refused_and_changes_nothing),
        IN_DIRECTORY(test_write__without_upstream_and_names__fences),
        IN_DIRECTORY(test_write__order__lets_users_override_defaults_and_ours_override_users),
        IN_DIRECTORY(test_write__standby_that_needs_more__gets_that_and_no_less),
        IN_DIRECTORY(test_check__setting_below_what_standbys_need__is_refused),
        IN_DIRECTORY(test_write__value_with_quote_and_backslash__is_quoted),
        IN_DIRECTORY(test_write__value_with_a_line_break__is_refused_and_nothing_changes),
        IN_DIRECTORY(test_write__refused_settings_and_rules__are_left_out),
        IN_DIRECTORY(test_write__socket_path_too_long__is_refused_with_the_limit),
        IN_DIRECTORY(test_access__replication__comes_first_lists_roles_and_ends_in_reject),
        IN_DIRECTORY(test_access__name_that_would_break_the_line__is_refused),
        IN_DIRECTORY(test_conninfo__values__are_quoted_for_libpq_and_for_the_file),
        cmocka_unit_test(test_sync_names__list__is_any_one_of_it),
        IN_DIRECTORY(test_passfile__with_and_without_a_key__is_private_and_escaped),
        cmocka_unit_test(test_refused__each_of_these_values__with_a_reason),
        cmocka_unit_test(test_refused__none_of_these),
        cmocka_unit_test(test_refused__without_a_value__only_what_always_is),
        cmocka_unit_test(test_hba_refused__each_of_these_lines__with_a_reason),
        cmocka_unit_test(test_hba_refused__none_of_these_lines),
        IN_DIRECTORY(test_log_prune__too_many_bytes__removes_the_oldest_and_keeps_the_newest),
        cmocka_unit_test(test_wal_keep__any_disk__leaves_it_room),
        IN_DIRECTORY(test_memory__limit_of_any_level__counts),
        IN_DIRECTORY(test_memory__old_cgroups_without_the_path__have_the_root_limit),
        IN_DIRECTORY(test_memory__plan__is_a_share_within_bounds_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
