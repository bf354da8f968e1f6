#include "agent/pgdata.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/pgconf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

#define ID_FILE      "ogel_data_id"
#define CLUSTER_FILE "ogel_cluster_id"

enum { AUTO_CONF_MAX = 1024 * 1024 };

/* --- what it is --------------------------------------------------------------------------------
 */

static int directory_is_empty(const char *path, bool *empty, struct err *err)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    if (dir == NULL)
        return err_set_errno(err, errno, "cannot read directory %s", path);
    *empty = true;
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            *empty = false;
    closedir(dir);
    return 0;
}

int pgdata_inspect(const char *datadir, enum pgdata_kind *kind, int *major, struct err *err)
{
    char path[PATH_MAX];
    struct stat st;
    char *text = NULL;
    struct err missing = {0};
    int64_t number = 0;
    bool empty = false;

    if (major != NULL)
        *major = 0;
    if (stat(datadir, &st) != 0) {
        if (errno != ENOENT)
            return err_set_errno(err, errno, "cannot look at %s", datadir);
        *kind = PGDATA_ABSENT;
        return 0;
    }
    *kind = PGDATA_OTHER;
    if (!S_ISDIR(st.st_mode))
        return 0;
    if (directory_is_empty(datadir, &empty, err) != 0)
        return -1;
    if (empty) {
        *kind = PGDATA_EMPTY;
        return 0;
    }
    snprintf(path, sizeof path, "%s/PG_VERSION", datadir);
    if (file_read(path, 64, &text, NULL, &missing) != 0)
        return missing.code == ERR_NOT_FOUND ? 0 : err_set(err, missing.code, "%s", missing.text);
    text[strcspn(text, "\n")] = '\0';
    bool known = units_parse_int(text, 1, 1000, &number, NULL) == 0;
    free(text);
    snprintf(path, sizeof path, "%s/global/pg_control", datadir);
    if (!known || stat(path, &st) != 0 || st.st_size == 0)
        return 0;
    if (major != NULL)
        *major = (int)number;
    *kind = PGDATA_INITIALISED;
    return 0;
}

/* --- pg_control ---------------------------------------------------------------------------------
 */

const char *const pgdata_need_names[PGDATA_NEEDS] = {"max_connections", "max_worker_processes",
                                                     "max_wal_senders", "max_prepared_transactions",
                                                     "max_locks_per_transaction"};
static const char *const need_labels[PGDATA_NEEDS] = {
    "max_connections setting", "max_worker_processes setting", "max_wal_senders setting",
    "max_prepared_xacts setting", "max_locks_per_xact setting"};

/* The value of a line `LABEL:   value`; it must be there once. */
static int control_value(const char *text, const char *label, char *value, size_t size,
                         struct err *err)
{
    size_t length = strlen(label);
    bool found = false;
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchrnul(line, '\n');
        if ((size_t)(end - line) > length && strncmp(line, label, length) == 0 &&
            line[length] == ':') {
            const char *from = line + length + 1;
            while (from < end && *from == ' ')
                from++;
            if (found || (size_t)(end - from) >= size)
                return err_set(err, ERR_CORRUPT, "pg_controldata: cannot read \"%s\"", label);
            memcpy(value, from, (size_t)(end - from));
            value[end - from] = '\0';
            found = true;
        }
        line = *end == '\0' ? end : end + 1;
    }
    if (!found)
        return err_set(err, ERR_CORRUPT, "pg_controldata does not say \"%s\"", label);
    return 0;
}

static int control_number(const char *text, const char *label, uint64_t max, uint64_t *number,
                          struct err *err)
{
    char value[64];
    char *end;
    if (control_value(text, label, value, sizeof value, err) != 0)
        return -1;
    errno = 0;
    *number = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0 || *number > max)
        return err_set(err, ERR_CORRUPT, "pg_controldata: \"%s\" is \"%s\"", label, value);
    return 0;
}

static int control_u32(const char *text, const char *label, uint32_t *number, struct err *err)
{
    uint64_t value;
    if (control_number(text, label, UINT32_MAX, &value, err) != 0)
        return -1;
    *number = (uint32_t)value;
    return 0;
}

static int control_lsn(const char *text, const char *label, uint64_t *lsn, struct err *err)
{
    char value[64];
    if (control_value(text, label, value, sizeof value, err) != 0)
        return -1;
    if (units_parse_lsn(value, lsn, err) != 0)
        return err_set(err, ERR_CORRUPT, "pg_controldata: \"%s\" is \"%s\"", label, value);
    return 0;
}

static enum pgdata_state state_by_name(const char *name)
{
    static const struct {
        const char *name;
        enum pgdata_state state;
    } states[] = {
        {"shut down", PGDATA_STATE_SHUT_DOWN},
        {"shut down in recovery", PGDATA_STATE_SHUT_DOWN_RECOVERY},
        {"in crash recovery", PGDATA_STATE_CRASH_RECOVERY},
        {"in archive recovery", PGDATA_STATE_ARCHIVE_RECOVERY},
        {"in production", PGDATA_STATE_PRODUCTION},
    };
    for (size_t i = 0; i < OGEL_ARRAY_LEN(states); i++)
        if (strcmp(name, states[i].name) == 0)
            return states[i].state;
    return PGDATA_STATE_OTHER;
}

int pgdata_control_parse(const char *text, struct pgdata_control *control, struct err *err)
{
    char state[64];
    char hints[16];
    uint32_t checksums;

    *control = (struct pgdata_control){0};
    /* A torn file is reported by a warning only, with values that mean nothing. */
    if (strstr(text, "WARNING:") != NULL)
        return err_set(err, ERR_CORRUPT, "global/pg_control is damaged (pg_controldata warns)");
    if (control_number(text, "Database system identifier", UINT64_MAX, &control->system_id, err) !=
            0 ||
        control_value(text, "Database cluster state", state, sizeof state, err) != 0 ||
        control_lsn(text, "Latest checkpoint's REDO location", &control->redo.lsn, err) != 0 ||
        control_lsn(text, "Latest checkpoint location", &control->checkpoint.lsn, err) != 0 ||
        control_u32(text, "Latest checkpoint's TimeLineID", &control->redo.timeline, err) != 0 ||
        control_lsn(text, "Minimum recovery ending location", &control->min_recovery.lsn, err) !=
            0 ||
        control_u32(text, "Min recovery ending loc's timeline", &control->min_recovery.timeline,
                    err) != 0 ||
        control_u32(text, "Bytes per WAL segment", &control->wal_segment_bytes, err) != 0 ||
        control_u32(text, "Data page checksum version", &checksums, err) != 0 ||
        control_value(text, "wal_log_hints setting", hints, sizeof hints, err) != 0 ||
        control_u32(text, "Catalog version number", &control->catalog_version, err) != 0)
        return -1;
    uint32_t segment = control->wal_segment_bytes;
    if (segment < 1024 * 1024 || segment > 1024 * 1024 * 1024 || (segment & (segment - 1)) != 0)
        return err_set(err, ERR_CORRUPT, "pg_controldata: WAL segments of %" PRIu32 " bytes",
                       segment);
    for (size_t i = 0; i < PGDATA_NEEDS; i++)
        if (control_u32(text, need_labels[i], &control->needs[i], err) != 0)
            return -1;
    control->state = state_by_name(state);
    control->checkpoint.timeline = control->redo.timeline;
    control->checksums = checksums != 0;
    control->wal_log_hints = strcmp(hints, "on") == 0;
    return 0;
}

int pgdata_control_read(const char *bindir, const char *datadir, int64_t timeout_ms,
                        struct pgdata_control *control, struct err *err)
{
    struct command_result result;
    char program[PATH_MAX];
    int rc = -1;

    snprintf(program, sizeof program, "%s/pg_controldata", bindir);
    const char *argv[] = {program, "-D", datadir, NULL};
    if (command_run(argv, timeout_ms, &result, err) != 0)
        return -1;
    if (result.exit_code != 0)
        err_set(err, ERR_CORRUPT, "%s", command_last_line(&result));
    else
        rc = pgdata_control_parse(result.output, control, err);
    if (rc != 0)
        err_context(err, "%s", datadir);
    command_result_free(&result);
    return rc;
}

/* --- data id -------------------------------------------------------------------------------------
 */

int pgdata_id_read(const char *datadir, uint64_t *id, struct err *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    struct err missing = {0};
    int used = 0;

    *id = 0;
    snprintf(path, sizeof path, "%s/" ID_FILE, datadir);
    if (file_read(path, 64, &text, NULL, &missing) != 0)
        return missing.code == ERR_NOT_FOUND ? 0 : err_set(err, missing.code, "%s", missing.text);
    bool good = strspn(text, "0123456789abcdef") == 16 && text[16] == '\n' && text[17] == '\0' &&
                sscanf(text, "%16" SCNx64 "%n", id, &used) == 1 && used == 16 && *id != 0;
    free(text);
    if (good)
        return 0;
    *id = 0;
    return err_set(err, ERR_CORRUPT, "%s is not a data id", path);
}

int pgdata_id_write(const char *datadir, uint64_t id, struct err *err)
{
    char path[PATH_MAX];
    char text[32];
    OGEL_CHECK(id != 0);
    snprintf(path, sizeof path, "%s/" ID_FILE, datadir);
    int length = snprintf(text, sizeof text, "%016" PRIx64 "\n", id);
    return file_write_atomic(path, text, (size_t)length, 0600, err);
}

/* --- whose it is
 * ----------------------------------------------------------------------------------- */

static bool cluster_parse(const char *text, struct cluster_id *cluster)
{
    char hex[3] = "";

    if (strspn(text, "0123456789abcdef") != 2 * sizeof cluster->bytes ||
        strcmp(text + 2 * sizeof cluster->bytes, "\n") != 0)
        return false;
    for (size_t i = 0; i < sizeof cluster->bytes; i++) {
        memcpy(hex, text + 2 * i, 2);
        cluster->bytes[i] = (uint8_t)strtoul(hex, NULL, 16);
    }
    return true;
}

int pgdata_cluster_read(const char *datadir, struct cluster_id *cluster, struct err *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    struct err missing = {0};
    bool good;

    memset(cluster, 0, sizeof *cluster);
    snprintf(path, sizeof path, "%s/" CLUSTER_FILE, datadir);
    if (file_read(path, 64, &text, NULL, &missing) != 0)
        return missing.code == ERR_NOT_FOUND ? 0 : err_set(err, missing.code, "%s", missing.text);
    good = cluster_parse(text, cluster);
    free(text);
    return good ? 0 : err_set(err, ERR_CORRUPT, "%s is not a cluster id", path);
}

int pgdata_cluster_write(const char *datadir, const struct cluster_id *cluster, struct err *err)
{
    char path[PATH_MAX];
    char text[2 * sizeof cluster->bytes + 2];
    size_t length = 0;

    for (size_t i = 0; i < sizeof cluster->bytes; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%02x", cluster->bytes[i]);
    text[length++] = '\n';
    snprintf(path, sizeof path, "%s/" CLUSTER_FILE, datadir);
    return file_write_atomic(path, text, length, 0600, err);
}

/* --- signal files
 * ---------------------------------------------------------------------------------- */

int pgdata_standby_signal(const char *datadir, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/standby.signal", datadir);
    if (!file_exists(path) && file_write_atomic(path, "", 0, 0600, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/recovery.signal", datadir);
    if (file_remove(path, err) != 0)
        return -1;
    /* Also where both were right: an earlier run may have died before its fsync. */
    return file_sync_dir(datadir, err);
}

/* --- postgresql.auto.conf
 * --------------------------------------------------------------------------- */

/* Splits `name = value`, `name value`, `name 'it''s'`; false for a line without a setting. */
static bool auto_conf_parse(const char *line, char *name, size_t name_size, char *value,
                            size_t value_size)
{
    size_t used = 0;
    while (isspace((unsigned char)*line))
        line++;
    while (isalnum((unsigned char)*line) || (*line != '\0' && strchr("_.$", *line) != NULL) ||
           (unsigned char)*line >= 0x80) {
        if (used + 1 < name_size)
            name[used++] = *line;
        line++;
    }
    name[used] = '\0';
    if (used == 0)
        return false;
    while (isspace((unsigned char)*line) || *line == '=')
        line++;
    bool quoted = *line == '\'';
    used = 0;
    for (line += quoted; *line != '\0'; line++) {
        if (quoted && *line == '\'') {
            if (line[1] != '\'')
                break;
            line++;
        } else if (quoted && *line == '\\' && line[1] != '\0') {
            line++;
        } else if (!quoted && (isspace((unsigned char)*line) || *line == '#')) {
            break;
        }
        if (used + 1 < value_size)
            value[used++] = *line;
    }
    value[used] = '\0';
    return true;
}

typedef bool auto_conf_drops_fn(const char *name, const char *value);

static bool is_refused(const char *name, const char *value)
{
    const char *reason;

    return strncasecmp(name, "include", 7) == 0 || pgconf_setting_refused(name, value, &reason);
}

static bool is_archiving(const char *name, const char *value)
{
    (void)value;
    return strncasecmp(name, "archive_", 8) == 0;
}

/* Takes out the lines whose setting DROPS says yes to. */
static int auto_conf_filter(const char *datadir, auto_conf_drops_fn *drops, char *removed,
                            size_t size, struct err *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    char *kept = NULL;
    size_t kept_size = 0;
    size_t removed_size = 0;
    struct err missing = {0};
    int rc = -1;

    OGEL_CHECK(size > 0);
    removed[0] = '\0';
    snprintf(path, sizeof path, "%s/postgresql.auto.conf", datadir);
    if (file_read(path, AUTO_CONF_MAX, &text, NULL, &missing) != 0)
        return missing.code == ERR_NOT_FOUND ? 0 : err_set(err, missing.code, "%s", missing.text);
    kept = xmalloc(strlen(text) + 1);
    for (char *line = text; *line != '\0';) {
        char *end = strchrnul(line, '\n');
        char *next = *end == '\0' ? end : end + 1;
        char saved = *end;
        char name[128], value[1024];
        *end = '\0';
        bool drop = auto_conf_parse(line, name, sizeof name, value, sizeof value) &&
                    drops(name, value);
        *end = saved;
        if (!drop) {
            memcpy(kept + kept_size, line, (size_t)(next - line));
            kept_size += (size_t)(next - line);
        } else if (removed_size < size) {
            removed_size += (size_t)snprintf(removed + removed_size, size - removed_size, "%s%s",
                                             removed_size > 0 ? ", " : "", name);
        }
        line = next;
    }
    rc = removed_size == 0 ? 0 : file_write_atomic(path, kept, kept_size, 0600, err);
    free(kept);
    free(text);
    return rc;
}

int pgdata_auto_conf_strip(const char *datadir, char *removed, size_t size, struct err *err)
{
    return auto_conf_filter(datadir, is_refused, removed, size, err);
}

int pgdata_auto_conf_forget(const char *datadir, char *removed, size_t size, struct err *err)
{
    return auto_conf_filter(datadir, is_archiving, removed, size, err);
}
