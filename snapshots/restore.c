#include "snapshots/restore.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "snapshots/fetch.h"
#include "snapshots/job.h"
#include "snapshots/pack.h"

#define PG_CONTROL            "global/pg_control"
#define PG_CONTROL_UNFINISHED "global/pg_control.unfinished"

enum {
    WRITE_MAX = 1024 * 1024, /* of one write, and the smallest file that is written direct */
    DIRECT_ALIGN = 4096,     /* of memory, place and length of what is */
};

/* The server's own, of the place it came from. */
static const char *const left_out[] = {"standby.signal", "recovery.signal", "postmaster.pid",
                                       "postmaster.opts", NULL};

struct restore {
    const struct restore_options *options;
    const struct manifest *manifest;
    int target;       /* the directory */
    int *tablespaces; /* directories, -1 for those inside the target */
    bool control_seen;
};

/* --- the target ----------------------------------------------------------------------------- */

static int check_empty(const char *path, const char *what, struct err *err)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    char found[256] = "";

    if (dir == NULL)
        return err_set_errno(err, errno, "cannot read %s %s", what, path);
    while (found[0] == '\0' && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            snprintf(found, sizeof(found), "%s", entry->d_name);
    }
    closedir(dir);
    if (found[0] == '\0')
        return 0;
    return err_set(err, ERR_REFUSED,
                   "%s %s is not empty (it has \"%s\"): nothing was touched; name another "
                   "directory, or empty it yourself",
                   what, path, found);
}

/* A directory that is there, empty, and ours. */
static int make_empty(const char *path, const char *what, int *fd, struct err *err)
{
    char *pid_file = xasprintf("%s/postmaster.pid", path);
    bool live = file_exists(pid_file);

    free(pid_file);
    *fd = -1;
    if (live)
        return err_set(err, ERR_REFUSED,
                       "%s %s belongs to a server that runs or did not stop well (it has "
                       "postmaster.pid): nothing was touched",
                       what, path);
    if (file_mkdir_p(path, 0700, err) < 0 || check_empty(path, what, err) < 0)
        return -1;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd >= 0 ? 0 : err_set_errno(err, errno, "cannot open %s %s", what, path);
}

/* Two restores into one directory do not meet behind it. */
static int claim(const struct restore *restore, struct err *err)
{
    int fd = openat(restore->target, RESTORE_MARKER,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_set_errno(err, errno, "cannot create %s/%s", restore->options->target,
                             RESTORE_MARKER);
    close(fd);
    return 0;
}

static int check_space(const struct restore *restore, struct err *err)
{
    const struct manifest *manifest = restore->manifest;
    int64_t free_bytes;

    if (manifest->tablespace_count > 0) /* they may be on other disks */
        return 0;
    if (file_disk_space(restore->options->target, &free_bytes, NULL, err) < 0)
        return -1;
    /* Slices of zeroes are holes. */
    if ((manifest->slices - manifest->zero_slices) * SLICE_SIZE <= (uint64_t)free_bytes ||
        manifest->logical_bytes <= (uint64_t)free_bytes)
        return 0;
    return err_set(err, ERR_NO_SPACE,
                   "%s has %" PRId64 " MB free, the snapshot needs about %" PRIu64 " MB",
                   restore->options->target, free_bytes >> 20, manifest->logical_bytes >> 20);
}

/* --- tablespaces ---------------------------------------------------------------------------- */

static const char *mapped(const struct restore_options *options, const char *location)
{
    for (size_t i = 0; i < options->mapping_count; i++) {
        if (strcmp(options->mappings[i].from, location) == 0)
            return options->mappings[i].to;
    }
    return location;
}

static int check_mappings(const struct restore *restore, struct err *err)
{
    const struct manifest *manifest = restore->manifest;

    for (size_t i = 0; i < restore->options->mapping_count; i++) {
        const struct restore_mapping *mapping = &restore->options->mappings[i];
        bool found = false;

        if (mapping->from[0] != '/' || mapping->to[0] != '/')
            return err_set(err, ERR_INVALID, "tablespace mapping %s=%s (allowed: absolute paths)",
                           mapping->from, mapping->to);
        for (uint32_t t = 0; t < manifest->tablespace_count; t++)
            found = found || strcmp(manifest->tablespaces[t].location, mapping->from) == 0;
        if (!found)
            return err_set(err, ERR_INVALID,
                           "tablespace mapping: the snapshot has no tablespace at %s",
                           mapping->from);
    }
    return 0;
}

/* One directory inside the target, which may be there. */
static int make_dir(const struct restore *restore, const char *path, mode_t mode, struct err *err)
{
    if (mkdirat(restore->target, path, 0700) < 0 && errno != EEXIST)
        return err_set_errno(err, errno, "cannot create directory %s/%s", restore->options->target,
                             path);
    if (fchmodat(restore->target, path, mode, 0) < 0)
        return err_set_errno(err, errno, "cannot set the mode of directory %s/%s",
                             restore->options->target, path);
    return 0;
}

static int make_tablespace(struct restore *restore, uint32_t number, struct err *err)
{
    const struct manifest_tablespace *one = &restore->manifest->tablespaces[number];
    const char *place = mapped(restore->options, one->location);
    char link[32];

    snprintf(link, sizeof(link), "pg_tblspc/%" PRIu32, one->oid);
    if (place[0] != '/') /* allow_in_place_tablespaces */
        return make_dir(restore, link, 0700, err);
    if (make_empty(place, "the tablespace's directory", &restore->tablespaces[number], err) < 0)
        return -1;
    if (symlinkat(place, restore->target, link) < 0)
        return err_set_errno(err, errno, "cannot link %s/%s to %s", restore->options->target, link,
                             place);
    return 0;
}

static int make_tablespaces(struct restore *restore, struct err *err)
{
    uint32_t count = restore->manifest->tablespace_count;

    restore->tablespaces = xcalloc(count + 1, sizeof(restore->tablespaces[0]));
    for (uint32_t i = 0; i < count; i++)
        restore->tablespaces[i] = -1;
    if (count > 0 && make_dir(restore, "pg_tblspc", 0700, err) < 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        if (make_tablespace(restore, i, err) < 0)
            return -1;
    }
    return 0;
}

/* --- files ---------------------------------------------------------------------------------- */

/* pg_control has another name until all the rest is durable. */
static const char *name_of(const char *path)
{
    return strcmp(path, PG_CONTROL) == 0 ? PG_CONTROL_UNFINISHED : path;
}

static int make_file(const struct restore *restore, const struct table_entry *entry,
                     struct err *err)
{
    int fd = openat(restore->target, name_of(entry->path),
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, errno, "cannot create %s/%s", restore->options->target,
                             entry->path);
    if (fchmod(fd, (mode_t)entry->mode) < 0)
        rc = err_set_errno(err, errno, "cannot set the mode of %s/%s", restore->options->target,
                           entry->path);
    else if (ftruncate(fd, (off_t)entry->size) < 0)
        rc = err_set_errno(err, errno, "cannot give %s/%s its size", restore->options->target,
                           entry->path);
    close(fd);
    return rc;
}

static int on_entry(void *arg, const struct table_entry *entry, bool *wanted, struct err *err)
{
    struct restore *restore = arg;

    if (entry->type == TABLE_DIRECTORY)
        return make_dir(restore, entry->path, (mode_t)entry->mode, err);
    for (size_t i = 0; left_out[i] != NULL; i++)
        *wanted = *wanted && strcmp(entry->path, left_out[i]) != 0;
    restore->control_seen = restore->control_seen || strcmp(entry->path, PG_CONTROL) == 0;
    return *wanted ? make_file(restore, entry, err) : 0;
}

/* --- content -------------------------------------------------------------------------------- */

static int open_file(const struct restore *restore, struct fetch_hand *hand,
                     const struct fetch_file *file, struct err *err)
{
    const char *name = name_of(file->path);
    const int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;

    if (hand->fd >= 0)
        close(hand->fd);
    hand->file = file;
    hand->fd = -1;
    hand->direct = false;
    /* Not every file system can. */
    if (file->size >= WRITE_MAX)
        hand->fd = openat(restore->target, name, flags | O_DIRECT);
    hand->direct = hand->fd >= 0;
    if (hand->fd < 0)
        hand->fd = openat(restore->target, name, flags);
    if (hand->fd < 0)
        return err_set_errno(err, errno, "cannot open %s/%s", restore->options->target, file->path);
    if (hand->data == NULL && posix_memalign((void **)&hand->data, DIRECT_ALIGN, WRITE_MAX) != 0)
        die("out of memory");
    return 0;
}

static void through_the_cache(struct fetch_hand *hand)
{
    fcntl(hand->fd, F_SETFL, fcntl(hand->fd, F_GETFL) & ~O_DIRECT);
    hand->direct = false;
}

/* What was collected. A file's end that is no whole block goes through the kernel's cache. */
static int write_out(const struct restore *restore, struct fetch_hand *hand, struct err *err)
{
    size_t done = 0;

    while (done < hand->len) {
        size_t part = hand->len - done, whole = part - part % DIRECT_ALIGN;
        ssize_t put;

        if (hand->direct && (whole == 0 || done % DIRECT_ALIGN != 0))
            through_the_cache(hand);
        put = pwrite(hand->fd, hand->data + done, hand->direct ? whole : part,
                     (off_t)(hand->offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EINVAL && hand->direct) {
            through_the_cache(hand); /* the disk has bigger blocks */
            continue;
        }
        if (put <= 0)
            return err_set_errno(err, put < 0 ? errno : ENOSPC, "cannot write %s/%s",
                                 restore->options->target, hand->file->path);
        done += (size_t)put;
    }
    hand->len = 0;
    return 0;
}

/* Neighbours are written together. Big files past the kernel's cache: what a restore writes would
 * push out of it what others need, and be copied once more. */
static int on_slice(void *arg, struct fetch_hand *hand, const struct fetch_file *file,
                    uint64_t offset, const void *data, size_t len, struct err *err)
{
    const struct restore *restore = arg;

    if (hand->len > 0 &&
        (hand->file != file || offset != hand->offset + hand->len || hand->len + len > WRITE_MAX)) {
        if (write_out(restore, hand, err) < 0)
            return -1;
    }
    if (hand->file != file && open_file(restore, hand, file, err) < 0)
        return -1;
    if (hand->len == 0)
        hand->offset = offset;
    memcpy(hand->data + hand->len, data, len);
    hand->len += len;
    return 0;
}

static int on_done(void *arg, struct fetch_hand *hand, struct err *err)
{
    return write_out(arg, hand, err);
}

/* --- the end -------------------------------------------------------------------------------- */

static int sync_all(const struct restore *restore, struct err *err)
{
    if (syncfs(restore->target) < 0)
        return err_set_errno(err, errno, "cannot sync %s", restore->options->target);
    for (uint32_t i = 0; i < restore->manifest->tablespace_count; i++) {
        if (restore->tablespaces[i] >= 0 && syncfs(restore->tablespaces[i]) < 0)
            return err_set_errno(err, errno, "cannot sync tablespace %" PRIu32,
                                 restore->manifest->tablespaces[i].oid);
    }
    return 0;
}

/* pg_control begins with the system identifier (PostgreSQL's catalog/pg_control.h). */
static int check_control(const struct restore *restore, struct err *err)
{
    int fd = openat(restore->target, PG_CONTROL_UNFINISHED, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t system_id = 0;
    ssize_t got = fd >= 0 ? pread(fd, &system_id, sizeof(system_id), 0) : -1;

    if (fd >= 0)
        close(fd);
    if (got != (ssize_t)sizeof(system_id))
        return err_set(err, ERR_CORRUPT, "the snapshot has no usable pg_control");
    if (system_id != restore->manifest->system_id)
        return err_set(err, ERR_CORRUPT,
                       "the files are of system %" PRIu64 ", the manifest of %" PRIu64, system_id,
                       restore->manifest->system_id);
    return 0;
}

static int finish(const struct restore *restore, struct err *err)
{
    char *global;
    int rc;

    if (!restore->control_seen)
        return err_set(err, ERR_CORRUPT, "the snapshot has no pg_control");
    if (check_control(restore, err) < 0 || sync_all(restore, err) < 0)
        return -1;
    if (renameat(restore->target, PG_CONTROL_UNFINISHED, restore->target, PG_CONTROL) < 0)
        return err_set_errno(err, errno, "cannot rename %s/" PG_CONTROL_UNFINISHED,
                             restore->options->target);
    global = xasprintf("%s/global", restore->options->target);
    rc = file_sync_dir(global, err);
    free(global);
    if (rc < 0)
        return -1;
    if (unlinkat(restore->target, RESTORE_MARKER, 0) < 0)
        return err_set_errno(err, errno, "cannot remove %s/" RESTORE_MARKER,
                             restore->options->target);
    return file_sync_dir(restore->options->target, err);
}

static int restore_into(struct restore *restore, struct store *store, struct err *err)
{
    static const struct fetch_ops ops = {on_entry, on_slice, on_done};
    const struct restore_options *options = restore->options;
    const struct fetch_options fetch = {
        .jobs = options->jobs,
        .phase = "restoring",
        .progress = options->progress,
        .progress_arg = options->progress_arg,
    };
    int rc;

    if (check_mappings(restore, err) < 0 ||
        make_empty(options->target, "the target", &restore->target, err) < 0 ||
        check_space(restore, err) < 0 || claim(restore, err) < 0)
        return -1;
    rc = make_tablespaces(restore, err);
    if (rc == 0)
        rc = fetch_run(store, restore->manifest, &fetch, &ops, restore, err);
    if (rc == 0)
        rc = finish(restore, err);
    return rc;
}

/* From here on the snapshot stays, as far as the store lets it. */
static struct job *begin_job(struct store *store, const char *kind, const char *id,
                             const struct restore_options *options)
{
    struct err why = {0};
    struct job *job;

    if (job_begin(store, kind, NULL, id, options->renew_ms, &job, &why) < 0 &&
        options->warning != NULL && why.code != ERR_INVALID)
        *options->warning = why;
    return job;
}

/* What is missing because the pin did not hold is told as such. */
static void end_job(struct job *job, int rc, struct err *err)
{
    struct err why = {0};

    if (job != NULL && rc < 0 && err != NULL && err->code == ERR_CORRUPT &&
        job_check(job, &why) < 0)
        err_context(err, "%s", why.text);
    job_end(job);
}

static void close_all(struct restore *restore, uint32_t tablespaces)
{
    for (uint32_t i = 0; restore->tablespaces != NULL && i < tablespaces; i++) {
        if (restore->tablespaces[i] >= 0)
            close(restore->tablespaces[i]);
    }
    free(restore->tablespaces);
    if (restore->target >= 0)
        close(restore->target);
}

int restore_run(struct store *store, const char *id, const struct restore_options *options,
                struct manifest *manifest, struct err *err)
{
    struct restore restore = {.options = options, .manifest = manifest, .target = -1};
    struct job *job;
    int rc;

    memset(manifest, 0, sizeof(*manifest));
    if (options->target[0] != '/')
        return err_set(err, ERR_INVALID, "target \"%s\" (allowed: an absolute path)",
                       options->target);
    job = begin_job(store, "restore", id, options);
    rc = manifest_load(store, id, manifest, err);
    if (rc == 0)
        rc = restore_into(&restore, store, err);
    close_all(&restore, manifest->tablespace_count);
    end_job(job, rc, err);
    if (rc < 0)
        manifest_free(manifest);
    return rc;
}

int restore_verify(struct store *store, const char *id, const struct restore_options *options,
                   struct manifest *manifest, struct err *err)
{
    static const struct fetch_ops ops = {NULL, NULL, NULL};
    const struct fetch_options fetch = {.jobs = options->jobs,
                                        .phase = "verifying",
                                        .progress = options->progress,
                                        .progress_arg = options->progress_arg};
    struct job *job = begin_job(store, "verify", id, options);
    int rc = manifest_load(store, id, manifest, err);

    if (rc == 0)
        rc = fetch_run(store, manifest, &fetch, &ops, NULL, err);
    end_job(job, rc, err);
    if (rc < 0)
        manifest_free(manifest);
    return rc;
}
