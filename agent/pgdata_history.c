/* Timeline history files. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/pgdata.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    HISTORY_MAX_BYTES = 1024 * 1024,
    PLANT_MAX = 10000,
};

static void lineage_push(struct lineage *lineage, uint32_t timeline, uint64_t lsn)
{
    if (lineage->count == LINEAGE_MAX) {
        memmove(lineage->begin, lineage->begin + 1, (LINEAGE_MAX - 1) * sizeof lineage->begin[0]);
        lineage->count--;
        lineage->truncated = true;
    }
    lineage->begin[lineage->count++] = (struct position){timeline, lsn};
}

/* `timeline LSN reason`: where the named timeline ended. */
static bool parse_line(const char *line, uint32_t *timeline, uint64_t *lsn)
{
    size_t digits = strspn(line, "0123456789");
    uint64_t number = 0;

    if (digits == 0 || digits > 10)
        return false;
    for (; digits > 0; digits--)
        number = 10 * number + (uint64_t)(*line++ - '0');
    if (number > UINT32_MAX || strspn(line, " \t") == 0)
        return false;
    *timeline = (uint32_t)number;
    line += strspn(line, " \t");
    return units_scan_lsn(&line, lsn) && (*line == '\0' || *line == '\t' || *line == ' ');
}

int pgdata_history_parse(uint32_t timeline, const char *content, struct lineage *out,
                         struct err *err)
{
    char *copy = xstrdup(content);
    char *rest = copy;
    char *line;
    uint32_t last_timeline = 0;
    uint64_t last_lsn = 0;
    int rc = -1;

    *out = (struct lineage){0};
    while ((line = strsep(&rest, "\n")) != NULL) {
        uint32_t parent;
        uint64_t lsn;
        line += strspn(line, " \t\r");
        if (*line == '\0' || *line == '#')
            continue;
        if (!parse_line(line, &parent, &lsn) || parent <= last_timeline || parent >= timeline ||
            lsn < last_lsn) {
            err_set(err, ERR_INVALID, "history of timeline %" PRIu32 ": bad line \"%.60s\"",
                    timeline, line);
            goto out;
        }
        lineage_push(out, parent, last_lsn);
        last_timeline = parent;
        last_lsn = lsn;
    }
    lineage_push(out, timeline, last_lsn);
    rc = 0;
out:
    free(copy);
    return rc;
}

static const char *history_path(const char *datadir, uint32_t timeline, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/pg_wal/%08" PRIX32 ".history", datadir, timeline);
    return path;
}

/* What a placeholder, which nobody syncs, may have become in a power cut. */
static bool all_zeroes(const char *content, size_t length)
{
    return length > 0 && content[0] == '\0' && memcmp(content, content + 1, length - 1) == 0;
}

int pgdata_history_text(const char *datadir, uint32_t timeline, char **content, struct err *err)
{
    char path[PATH_MAX];
    size_t length = 0;
    if (file_read(history_path(datadir, timeline, path), HISTORY_MAX_BYTES, content, &length,
                  err) != 0)
        return -1;
    if (strlen(*content) == length || all_zeroes(*content, length))
        return 0;
    free(*content);
    *content = NULL;
    return err_set(err, ERR_CORRUPT, "%s holds NUL bytes", path);
}

int pgdata_history_read(const char *datadir, uint32_t timeline, struct lineage *out,
                        struct err *err)
{
    char *content = NULL;
    int rc;
    if (timeline == 1) {
        *out = (struct lineage){0};
        lineage_push(out, 1, 0);
        return 0;
    }
    if (pgdata_history_text(datadir, timeline, &content, err) != 0)
        return -1;
    rc = pgdata_history_parse(timeline, content, out, err);
    free(content);
    return rc;
}

/* The id in "0000000A.history" with SUFFIX behind it; 0 for any other name. */
static uint32_t history_name_parse(const char *name, const char *suffix)
{
    static const char history[] = ".history";
    if (strspn(name, "0123456789ABCDEF") != 8 ||
        strncmp(name + 8, history, sizeof history - 1) != 0 ||
        strcmp(name + 8 + sizeof history - 1, suffix) != 0)
        return 0;
    return (uint32_t)strtoul(name, NULL, 16);
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

int pgdata_history_list(const char *datadir, uint32_t *timelines, size_t max, size_t *count,
                        struct err *err)
{
    char path[PATH_MAX];
    struct dirent *entry;
    snprintf(path, sizeof path, "%s/pg_wal", datadir);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return err_set_errno(err, errno, "cannot read %s", path);
    *count = 0;
    while ((entry = readdir(dir)) != NULL) {
        uint32_t timeline = history_name_parse(entry->d_name, "");
        if (timeline == 0)
            continue;
        if (*count == max) {
            closedir(dir);
            return err_set(err, ERR_INVALID, "%s holds more than %zu history files", path, max);
        }
        timelines[(*count)++] = timeline;
    }
    closedir(dir);
    qsort(timelines, *count, sizeof *timelines, compare_u32);
    return 0;
}

/* A placeholder names no parent. What cannot be read as a history is none. */
static bool is_placeholder(uint32_t timeline, const char *content)
{
    struct lineage lineage;
    struct err err = {0};
    bool placeholder = pgdata_history_parse(timeline, content, &lineage, &err) == 0 &&
                       lineage.count == 1;

    err_clear(&err);
    return placeholder;
}

int pgdata_history_newest(const char *datadir, uint32_t *timeline, struct err *err)
{
    uint32_t *timelines = xcalloc(PGDATA_HISTORIES_MAX, sizeof *timelines);
    char *content;
    size_t count;
    int rc = -1;

    *timeline = 0;
    if (pgdata_history_list(datadir, timelines, PGDATA_HISTORIES_MAX, &count, err) < 0)
        goto out;
    while (count-- > 0 && *timeline == 0) {
        if (pgdata_history_text(datadir, timelines[count], &content, err) < 0)
            goto out;
        if (!is_placeholder(timelines[count], content))
            *timeline = timelines[count];
        free(content);
    }
    rc = 0;
out:
    free(timelines);
    return rc;
}

int pgdata_history_plant(const char *datadir, uint32_t from, uint32_t to, struct err *err)
{
    if (from > to)
        return 0;
    if (to - from >= PLANT_MAX)
        return err_set(err, ERR_INVALID,
                       "timelines %" PRIu32 " to %" PRIu32 " are missing: more than %d", from, to,
                       PLANT_MAX);
    for (uint32_t timeline = from; timeline <= to; timeline++) {
        char path[PATH_MAX];
        char text[96];
        if (file_exists(history_path(datadir, timeline, path)))
            continue;
        int length = snprintf(text, sizeof text,
                              "# ogel: no server was promoted to timeline %" PRIu32 "\n", timeline);
        /* Not synced: it is for the running server, and what is left of it says the same. */
        if (file_append(path, text, (size_t)length, err) != 0)
            return -1;
    }
    return 0;
}

/* Removes from DIR_PATH what names the history of a timeline above ABOVE, with SUFFIX or (temporary
 * files of a run that died) of any timeline with OTHER. */
static int clean_directory(const char *dir_path, uint32_t above, const char *const *suffixes,
                           struct err *err)
{
    struct dirent *entry;
    int rc = 0;
    DIR *dir = opendir(dir_path);
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot read %s", dir_path);
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        for (size_t i = 0; rc == 0 && suffixes[i] != NULL; i++) {
            uint32_t timeline = history_name_parse(entry->d_name, suffixes[i]);
            bool temporary = strcmp(suffixes[i], ".tmp") == 0;
            if (timeline == 0 || (timeline <= above && !temporary))
                continue;
            if (unlinkat(dirfd(dir), entry->d_name, 0) != 0 && errno != ENOENT)
                rc = err_set_errno(err, errno, "cannot remove %s/%s", dir_path, entry->d_name);
        }
    }
    closedir(dir);
    return rc != 0 ? rc : file_sync_dir(dir_path, err);
}

int pgdata_history_clean(const char *datadir, uint32_t above, struct err *err)
{
    static const char *const files[] = {"", ".tmp", NULL};
    /* A note that is left would keep the later, real file of that timeline out of the archive. */
    static const char *const notes[] = {".ready", ".done", NULL};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pg_wal/archive_status", datadir);
    if (clean_directory(path, above, notes, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/pg_wal", datadir);
    return clean_directory(path, above, files, err);
}

int pgdata_history_install(const char *datadir, uint32_t timeline, const char *content,
                           struct err *err)
{
    char path[PATH_MAX];
    struct lineage lineage;
    if (pgdata_history_parse(timeline, content, &lineage, err) != 0)
        return -1;
    return file_write_atomic(history_path(datadir, timeline, path), content, strlen(content), 0600,
                             err);
}
