/* Tablespaces, and whether this machine can hold a clone. */
#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/pgdata.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum { TOOL_TIMEOUT_MS = 10000 };

#define CLONE_MARGIN_BYTES (INT64_C(256) << 20) /* WAL that is written meanwhile */

int pgdata_tablespaces(const char *datadir, struct pgdata_tablespace *list, size_t max,
                       size_t *count, struct err *err)
{
    char path[PATH_MAX];
    struct dirent *entry;
    int rc = -1;

    *count = 0;
    snprintf(path, sizeof path, "%s/pg_tblspc", datadir);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot read %s", path);
    while ((entry = readdir(dir)) != NULL) {
        char *end;
        struct pgdata_tablespace found = {0};
        unsigned long oid = strtoul(entry->d_name, &end, 10);
        if (oid == 0 || oid > UINT32_MAX || *end != '\0')
            continue;
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, found.path, sizeof found.path - 1);
        if (length < 0 && errno == EINVAL) /* allow_in_place_tablespaces: inside of PGDATA */
            continue;
        if (length < 0) {
            err_set_errno(err, errno, "cannot read %s/%s", path, entry->d_name);
            goto out;
        }
        if (*count == max || (size_t)length == sizeof found.path - 1) {
            err_set(err, ERR_INVALID, "%s: more than %zu tablespaces, or a path too long", path,
                    max);
            goto out;
        }
        found.oid = (uint32_t)oid;
        list[(*count)++] = found;
    }
    rc = 0;
out:
    closedir(dir);
    return rc;
}

int pgdata_wal_dir(const char *datadir, char path[PGDATA_PATH_SIZE], bool *elsewhere,
                   struct err *err)
{
    char link[PGDATA_PATH_SIZE];
    snprintf(link, sizeof link, "%s/pg_wal", datadir);
    ssize_t length = readlink(link, path, PGDATA_PATH_SIZE - 1);
    *elsewhere = length >= 0;
    if (length < 0) {
        if (errno != EINVAL && errno != ENOENT)
            return err_set_errno(err, errno, "cannot look at %s", link);
        memcpy(path, link, sizeof link);
        return 0;
    }
    path[length] = '\0';
    return 0;
}

/* --- preflight
 * ------------------------------------------------------------------------------------ */

static int check_version(const char *bindir, const struct pgdata_source *source, struct err *err)
{
    struct command_result result;
    char program[PATH_MAX];
    int major = 0;

    snprintf(program, sizeof program, "%s/postgres", bindir);
    const char *argv[] = {program, "--version", NULL};
    if (command_run(argv, TOOL_TIMEOUT_MS, &result, err) != 0)
        return -1;
    int fields = sscanf(result.output, "postgres (PostgreSQL) %d", &major);
    command_result_free(&result);
    if (fields != 1)
        return err_set(err, ERR_INVALID, "%s does not say its version", program);
    if (major == source->version_num / 10000)
        return 0;
    return err_set(err, ERR_REFUSED,
                   "%s is PostgreSQL %d, the source %d: install the source's major version and set "
                   "postgres_bindir",
                   program, major, source->version_num / 10000);
}

/* Debian and most others keep pg_config beside the server; where it is missing the library
 * directory is that beside bin. */
static void library_dir(const char *bindir, char dir[PATH_MAX])
{
    struct command_result result;
    char program[PATH_MAX];
    snprintf(dir, PATH_MAX, "%s/../lib", bindir);
    snprintf(program, sizeof program, "%s/pg_config", bindir);
    const char *argv[] = {program, "--pkglibdir", NULL};
    if (command_run(argv, TOOL_TIMEOUT_MS, &result, NULL) != 0)
        return;
    result.output[strcspn(result.output, "\n")] = '\0';
    if (result.exit_code == 0 && result.output[0] == '/')
        snprintf(dir, PATH_MAX, "%s", result.output);
    command_result_free(&result);
}

int pgdata_libraries_check(const char *bindir, const char *libraries, struct err *err)
{
    static const char variable[] = "$libdir/";
    char dir[PATH_MAX];
    char path[PATH_MAX + 64];
    int rc = 0;

    if (libraries == NULL || libraries[0] == '\0')
        return 0;
    library_dir(bindir, dir);
    char *list = xstrdup(libraries);
    char *rest = list;
    char *name;
    while (rc == 0 && (name = strsep(&rest, ",")) != NULL) {
        name += strspn(name, " \t\"");
        name[strcspn(name, " \t\"")] = '\0';
        if (name[0] == '\0')
            continue;
        if (strncmp(name, variable, sizeof variable - 1) == 0)
            name += sizeof variable - 1;
        size_t length = strlen(name);
        const char *suffix = length > 3 && strcmp(name + length - 3, ".so") == 0 ? "" : ".so";
        if (name[0] == '/')
            snprintf(path, sizeof path, "%s%s", name, suffix);
        else
            snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
        if (!file_exists(path))
            rc = err_set(err, ERR_REFUSED,
                         "shared_preload_libraries names %s and there is no %s: install the "
                         "extension's package on this machine",
                         name, path);
    }
    free(list);
    return rc;
}

static int check_collation(const struct pgdata_source *source, struct err *err)
{
    const char *here = gnu_get_libc_version();
    if (source->libc_version == NULL || source->libc_version[0] == '\0' ||
        strcmp(source->libc_version, here) == 0)
        return 0;
    return err_set(err, ERR_REFUSED,
                   "collations are of glibc %s at the source and %s here: indexes on text would be "
                   "damaged; use the same release of the operating system on all nodes",
                   source->libc_version, here);
}

/* A directory may be missing, empty, or ours: then the clone replaces it. Another node on this
 * machine may be using it: three nodes that share a host cannot share a tablespace's path. */
static int check_tablespaces(const char *datadir, const struct pgdata_source *source,
                             struct err *err)
{
    struct pgdata_tablespace *own = xcalloc(PGDATA_TABLESPACES_MAX, sizeof *own);
    size_t count = 0;
    int rc = pgdata_tablespaces(datadir, own, PGDATA_TABLESPACES_MAX, &count, err);
    for (size_t i = 0; rc == 0 && i < source->tablespace_count; i++) {
        const char *path = source->tablespaces[i].path;
        enum pgdata_kind kind;
        bool ours = false;
        for (size_t k = 0; k < count; k++)
            ours = ours || strcmp(own[k].path, path) == 0;
        if (ours)
            continue;
        rc = pgdata_inspect(path, &kind, NULL, err);
        if (rc == 0 && kind == PGDATA_ABSENT) {
            char parent[PGDATA_PATH_SIZE];
            snprintf(parent, sizeof parent, "%s", path);
            char *slash = strrchr(parent, '/');
            if (slash != NULL && slash != parent)
                *slash = '\0';
            if (access(parent, W_OK) != 0)
                rc = err_set(err, ERR_REFUSED,
                             "the tablespace directory %s cannot be made here; make it, owned by "
                             "this user",
                             path);
        } else if (rc == 0 && kind != PGDATA_EMPTY) {
            rc = err_set(err, ERR_REFUSED,
                         "the tablespace directory %s is in use here; empty it, or, where it "
                         "belongs to another node, put the nodes on different machines",
                         path);
        }
    }
    free(own);
    return rc;
}

/* Bytes on disk below DATADIR on its own file system; what goes away meanwhile does not count. */
static int64_t used_bytes(const char *datadir)
{
    char *const paths[] = {(char *)(uintptr_t)datadir, NULL};
    int64_t total = 0;
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    while (tree != NULL && (entry = fts_read(tree)) != NULL)
        if (entry->fts_info == FTS_F)
            total += (int64_t)entry->fts_statp->st_blocks * 512;
    if (tree != NULL)
        fts_close(tree);
    return total;
}

static int check_space(const char *datadir, const struct pgdata_source *source, struct err *err)
{
    char existing[PATH_MAX];
    char text[2][UNITS_TEXT_SIZE];
    int64_t free_bytes = 0;
    int64_t need = (int64_t)(source->size_bytes + source->size_bytes / 10) + CLONE_MARGIN_BYTES;

    snprintf(existing, sizeof existing, "%s", datadir);
    while (!file_exists(existing) && strrchr(existing, '/') > existing)
        *strrchr(existing, '/') = '\0';
    if (file_disk_space(existing, &free_bytes, NULL, err) != 0)
        return -1;
    if (free_bytes < need && file_exists(datadir))
        free_bytes += used_bytes(datadir);
    if (free_bytes >= need)
        return 0;
    return err_set(err, ERR_NO_SPACE,
                   "a clone needs %s in %s and there would be %s free: make room or use a larger "
                   "disk",
                   units_format_size(need / 1048576 * 1048576, text[0]), datadir,
                   units_format_size(free_bytes / 1048576 * 1048576, text[1]));
}

int pgdata_clone_preflight(const char *bindir, const char *datadir,
                           const struct pgdata_source *source, struct err *err)
{
    if (check_version(bindir, source, err) != 0 ||
        pgdata_libraries_check(bindir, source->shared_preload_libraries, err) != 0 ||
        check_collation(source, err) != 0 || check_tablespaces(datadir, source, err) != 0 ||
        check_space(datadir, source, err) != 0)
        return err_context(err, "clone");
    return 0;
}
