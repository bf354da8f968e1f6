/*
 * A directory as a store. An object is a file below objects/; it is written under another name in
 * incoming/, synced, and linked or renamed into its place, whose directory is synced too: a crash
 * leaves all of it or nothing. What is left in incoming/ belongs to nobody.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/io_ops.h"
#include "base/mem.h"
#include "base/rand.h"
#include "snapshots/store_internal.h"

enum { COPY_CHUNK = 1024 * 1024, LEVELS_MAX = 8 };

struct file_store {
    struct store base;
    char *directory;
};

static struct file_store *mine(struct store *store)
{
    return (struct file_store *)store;
}

static char *path_of(struct store *store, const char *key)
{
    return xasprintf("%s/objects/%s", mine(store)->directory, key);
}

static int in_time(int64_t deadline_ms, struct err *err)
{
    return clock_mono_ms() < deadline_ms
               ? 0
               : err_set(err, ERR_TIMEOUT, "the disk did not get it done in time");
}

/* --- put ------------------------------------------------------------------------------------ */

static int write_chunk(int fd, const char *data, size_t len, uint64_t at, struct err *err)
{
    while (len > 0) {
        ssize_t put = io_ops->pwrite(fd, data, len, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set_errno(err, put < 0 ? errno : ENOSPC, "cannot write");
        data += put;
        len -= (size_t)put;
        at += (uint64_t)put;
    }
    return 0;
}

static int read_chunk(int fd, char *buf, size_t len, uint64_t at, size_t *got, struct err *err)
{
    *got = 0;
    while (*got < len) {
        ssize_t n = io_ops->pread(fd, buf + *got, len - *got, (off_t)(at + *got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(err, errno, "cannot read");
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return 0;
}

static int copy_from_fd(int from, int to, uint64_t size, int64_t deadline_ms, struct err *err)
{
    char *chunk = xmalloc(COPY_CHUNK);
    uint64_t at = 0;
    int rc = 0;

    while (rc == 0 && at < size) {
        size_t want = size - at < COPY_CHUNK ? (size_t)(size - at) : COPY_CHUNK, got;

        rc = in_time(deadline_ms, err);
        if (rc == 0)
            rc = read_chunk(from, chunk, want, at, &got, err);
        if (rc == 0 && got < want)
            rc = err_set(err, ERR_IO, "what was to be stored is shorter than it said");
        if (rc == 0)
            rc = write_chunk(to, chunk, want, at, err);
        at += want;
    }
    free(chunk);
    return rc;
}

static int write_incoming(const char *path, const struct store_body *body, int64_t deadline_ms,
                          struct err *err)
{
    int fd = io_ops->open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc;

    if (fd < 0)
        return err_set_errno(err, errno, "cannot create %s", path);
    rc = body->data != NULL ? write_chunk(fd, body->data, (size_t)body->size, 0, err)
                            : copy_from_fd(body->fd, fd, body->size, deadline_ms, err);
    if (rc == 0 && io_ops->fsync(fd) < 0)
        rc = err_set_errno(err, errno, "cannot sync");
    if (io_ops->close(fd) < 0 && rc == 0)
        rc = err_set_errno(err, errno, "cannot close");
    return rc;
}

/* link() fails where the name is taken; rename() replaces. */
static int put_in_place(const char *incoming, const char *path, bool only_new, struct err *err)
{
    if (!only_new)
        return io_ops->rename(incoming, path) == 0
                   ? 0
                   : err_set_errno(err, errno, "cannot put it in place");
    if (link(incoming, path) < 0)
        return errno == EEXIST ? err_set(err, ERR_CONFLICT, "is there already")
                               : err_set_errno(err, errno, "cannot put it in place");
    io_ops->unlink(incoming);
    return 0;
}

static int file_put(struct store *store, const char *key, const struct store_body *body,
                    bool only_new, int64_t deadline_ms, struct err *err)
{
    char *path = path_of(store, key), *parent = xstrdup(path), *incoming;
    uint8_t nonce[8];
    char hex[2 * sizeof(nonce) + 1];
    int rc;

    *strrchr(parent, '/') = '\0';
    rand_bytes(nonce, sizeof(nonce));
    incoming = xasprintf("%s/incoming/%s", mine(store)->directory,
                         rand_hex_format(nonce, sizeof(nonce), hex));
    rc = file_mkdir_p(parent, 0700, err);
    if (rc == 0) {
        rc = write_incoming(incoming, body, deadline_ms, err);
        if (rc == 0)
            rc = put_in_place(incoming, path, only_new, err);
        if (rc < 0)
            io_ops->unlink(incoming);
    }
    if (rc == 0)
        rc = file_sync_dir(parent, err);
    free(incoming);
    free(parent);
    free(path);
    return rc;
}

/* --- get, head, delete ---------------------------------------------------------------------- */

static int open_object(struct store *store, const char *key, int *fd, struct err *err)
{
    char *path = path_of(store, key);

    *fd = io_ops->open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0);
    free(path);
    if (*fd >= 0)
        return 0;
    return errno == ENOENT || errno == ENOTDIR ? err_set(err, ERR_NOT_FOUND, "is not there")
                                               : err_set_errno(err, errno, "cannot open");
}

static int file_get(struct store *store, const char *key, uint64_t offset, size_t len, void *buf,
                    size_t *got, int64_t deadline_ms, struct err *err)
{
    int fd, rc;

    if (open_object(store, key, &fd, err) < 0)
        return -1;
    rc = read_chunk(fd, buf, len, offset, got, err);
    io_ops->close(fd);
    return rc == 0 ? in_time(deadline_ms, err) : rc;
}

static int file_head(struct store *store, const char *key, uint64_t *size, int64_t deadline_ms,
                     struct err *err)
{
    struct stat st;
    int fd, rc = 0;

    (void)deadline_ms;
    if (open_object(store, key, &fd, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        rc = err_set_errno(err, errno, "cannot look at it");
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_NOT_FOUND, "is no object");
    else
        *size = (uint64_t)st.st_size;
    io_ops->close(fd);
    return rc;
}

static int file_delete(struct store *store, const char *key, int64_t deadline_ms, struct err *err)
{
    char *path = path_of(store, key);
    int rc = 0;

    (void)deadline_ms;
    if (io_ops->unlink(path) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            rc = err_set_errno(err, errno, "cannot delete");
    } else {
        rc = file_sync_parent(path, err);
    }
    free(path);
    return rc;
}

/* --- list ----------------------------------------------------------------------------------- */

struct listing {
    store_list_fn *fn;
    void *arg;
    int64_t deadline_ms;
};

static int list_dir(const char *dir, const char *prefix, int level, const struct listing *listing,
                    struct err *err);

static int list_entry(const char *dir, const char *prefix, const char *name, int level,
                      const struct listing *listing, struct err *err)
{
    char *path = xasprintf("%s/%s", dir, name), *key = xasprintf("%s%s", prefix, name), *below;
    struct stat st;
    int rc = 0;

    /* What went away meanwhile, or was never an object, is not listed. */
    if (lstat(path, &st) < 0) {
        if (errno != ENOENT)
            rc = err_set_errno(err, errno, "cannot look at %s", path);
    } else if (S_ISDIR(st.st_mode) && level < LEVELS_MAX) {
        below = xasprintf("%s/", key);
        rc = list_dir(path, below, level + 1, listing, err);
        free(below);
    } else if (S_ISREG(st.st_mode) && store_key_valid(key)) {
        rc = listing->fn(key, (uint64_t)st.st_size, listing->arg, err);
    }
    free(key);
    free(path);
    return rc;
}

static int list_dir(const char *dir, const char *prefix, int level, const struct listing *listing,
                    struct err *err)
{
    DIR *open = opendir(dir);
    struct dirent *entry;
    int rc = 0;

    if (open == NULL)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot read directory %s", dir);
    while (rc == 0) {
        errno = 0;
        entry = readdir(open);
        if (entry == NULL) {
            if (errno != 0)
                rc = err_set_errno(err, errno, "cannot read directory %s", dir);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        rc = in_time(listing->deadline_ms, err);
        if (rc == 0)
            rc = list_entry(dir, prefix, entry->d_name, level, listing, err);
    }
    closedir(open);
    return rc;
}

static int file_list(struct store *store, const char *prefix, store_list_fn *fn, void *arg,
                     int64_t deadline_ms, struct err *err)
{
    struct listing listing = {fn, arg, deadline_ms};
    char *dir = xasprintf("%s/objects/%s", mine(store)->directory, prefix);
    int rc;

    rc = list_dir(dir, prefix, 0, &listing, err);
    free(dir);
    return rc;
}

/* --- what was never finished ---------------------------------------------------------------- */

static int file_list_unfinished(struct store *store, store_list_fn *fn, void *arg,
                                int64_t deadline_ms, struct err *err)
{
    struct listing listing = {fn, arg, deadline_ms};
    char *dir = xasprintf("%s/incoming", mine(store)->directory);
    int rc = list_dir(dir, "", LEVELS_MAX, &listing, err);

    free(dir);
    return rc;
}

static int file_remove_unfinished(struct store *store, const char *name, struct err *err)
{
    char *path = xasprintf("%s/incoming/%s", mine(store)->directory, name);
    int rc = io_ops->unlink(path) == 0 || errno == ENOENT
                 ? 0
                 : err_set_errno(err, errno, "cannot delete");

    free(path);
    return rc;
}

/* --- the store ------------------------------------------------------------------------------ */

static void file_close(struct store *store)
{
    free(mine(store)->directory);
    free(store);
}

static const struct store_ops file_ops = {
    .has_put_new = true,
    .put = file_put,
    .get = file_get,
    .head = file_head,
    .list = file_list,
    .remove = file_delete,
    .list_unfinished = file_list_unfinished,
    .remove_unfinished = file_remove_unfinished,
    .close = file_close,
};

int store_file_open(const char *directory, struct store **store, struct err *err)
{
    struct file_store *fs;
    char *incoming;
    int rc;

    if (directory[0] != '/' || strspn(directory, "/") == strlen(directory))
        return err_set(err, ERR_INVALID,
                       "store: \"%.200s\" (allowed: the absolute path of a directory)", directory);
    incoming = xasprintf("%s/incoming", directory);
    rc = file_mkdir_p(incoming, 0700, err);
    free(incoming);
    if (rc < 0)
        return err_context(err, "store");
    fs = xcalloc(1, sizeof(*fs));
    fs->base.ops = &file_ops;
    fs->directory = xstrdup(directory);
    *store = &fs->base;
    return 0;
}
