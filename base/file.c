#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

static int sys_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

const struct io_ops io_ops_system = {
    .open = sys_open,
    .fstat = fstat,
    .fchmod = fchmod,
    .pread = pread,
    .pwrite = pwrite,
    .fsync = fsync,
    .fdatasync = fdatasync,
    .rename = rename,
    .unlink = unlink,
    .close = close,
};

const struct io_ops *io_ops = &io_ops_system;

/* --- reading -------------------------------------------------------------------------------- */

int file_read(const char *path, size_t max_bytes, char **data, size_t *len, struct err *err)
{
    size_t have = 0, room = 4096;
    char *buf = NULL;
    struct stat st;
    int rc = -1;
    /* Not blocking: somebody may have put a pipe there. */
    int fd = io_ops->open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);

    *data = NULL;
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (io_ops->fstat(fd, &st) < 0) {
        err_set_errno(err, errno, "cannot look at %s", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(err, ERR_INVALID, "%s: is no regular file", path);
        goto out;
    }
    /* The size is only a hint: it may grow, and files of /proc have none. */
    if (st.st_size > 0 && (uintmax_t)st.st_size <= max_bytes)
        room = (size_t)st.st_size + 1;
    buf = xmalloc(room + 1);
    for (;;) {
        ssize_t got = io_ops->pread(fd, buf + have, room - have, (off_t)have);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            err_set_errno(err, errno, "cannot read %s", path);
            goto out;
        }
        if (got == 0)
            break;
        have += (size_t)got;
        if (have > max_bytes) {
            err_set(err, ERR_INVALID, "%s: is too big: at most %zu bytes", path, max_bytes);
            goto out;
        }
        if (have == room) {
            room *= 2;
            buf = xreallocarray(buf, room + 1, 1);
        }
    }
    buf[have] = '\0';
    *data = buf;
    buf = NULL;
    if (len != NULL)
        *len = have;
    rc = 0;
out:
    free(buf);
    io_ops->close(fd);
    return rc;
}

int file_size(const char *path, int64_t *size, struct err *err)
{
    struct stat st;
    int rc = 0;
    int fd = io_ops->open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);

    *size = 0;
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot open %s", path);
    if (io_ops->fstat(fd, &st) < 0)
        rc = err_set_errno(err, errno, "cannot look at %s", path);
    else
        *size = st.st_size;
    io_ops->close(fd);
    return rc;
}

bool file_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

int file_disk_space(const char *path, int64_t *free_bytes, int64_t *total_bytes, struct err *err)
{
    struct statvfs fs;

    if (statvfs(path, &fs) < 0)
        return err_set_errno(err, errno, "cannot see the disk space of %s", path);
    if (free_bytes != NULL)
        *free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    if (total_bytes != NULL)
        *total_bytes = (int64_t)fs.f_blocks * (int64_t)fs.f_frsize;
    return 0;
}

/* --- writing -------------------------------------------------------------------------------- */

int file_sync_dir(const char *dir, struct err *err)
{
    int fd = io_ops->open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, errno, "cannot open directory %s", dir);
    if (io_ops->fsync(fd) < 0)
        rc = err_set_errno(err, errno, "cannot sync directory %s", dir);
    io_ops->close(fd);
    return rc;
}

/* The directory that holds PATH; the caller frees. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    if (len == 0)
        return xstrdup(".");
    while (len > 1 && path[len - 1] == '/')
        len--;
    return xstrndup(path, len);
}

int file_sync_parent(const char *path, struct err *err)
{
    char *dir = parent_of(path);
    int rc = file_sync_dir(dir, err);

    free(dir);
    return rc;
}

static int write_all(int fd, const char *data, size_t len, off_t at, const char *path,
                     struct err *err)
{
    size_t done = 0;

    while (done < len) {
        ssize_t put = io_ops->pwrite(fd, data + done, len - done, at + (off_t)done);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set_errno(err, put < 0 ? errno : ENOSPC, "cannot write %s", path);
        done += (size_t)put;
    }
    return 0;
}

/* A new, synced file of that content. */
static int write_new(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    int rc = -1;
    int fd = io_ops->open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_set_errno(err, errno, "cannot create %s", path);
    if (io_ops->fchmod(fd, mode) < 0) {
        err_set_errno(err, errno, "cannot set the mode of %s", path);
        goto out;
    }
    if (write_all(fd, data, len, 0, path, err) < 0)
        goto out;
    if (io_ops->fsync(fd) < 0) {
        err_set_errno(err, errno, "cannot sync %s", path);
        goto out;
    }
    rc = 0;
out:
    if (io_ops->close(fd) < 0 && rc == 0)
        rc = err_set_errno(err, errno, "cannot close %s", path);
    return rc;
}

int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
    char *tmp = xasprintf("%s.tmp", path);
    int rc = -1;

    /* Left over from a crash. */
    if (io_ops->unlink(tmp) < 0 && errno != ENOENT) {
        err_set_errno(err, errno, "cannot remove %s", tmp);
        goto out;
    }
    if (write_new(tmp, data, len, mode, err) < 0) {
        io_ops->unlink(tmp);
        goto out;
    }
    if (io_ops->rename(tmp, path) < 0) {
        err_set_errno(err, errno, "cannot rename %s to %s", tmp, path);
        io_ops->unlink(tmp);
        goto out;
    }
    rc = file_sync_parent(path, err);
out:
    free(tmp);
    return rc;
}

/* Whether what stands before SIZE ends within a line. */
static int in_a_line(int fd, off_t size, const char *path, bool *within, struct err *err)
{
    char last = '\n';
    ssize_t got = 0;

    while (size > 0 && (got = io_ops->pread(fd, &last, 1, size - 1)) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return err_set_errno(err, errno, "cannot read %s", path);
    *within = last != '\n';
    return 0;
}

int file_append(const char *path, const char *lines, size_t len, struct err *err)
{
    bool within = false;
    struct stat st;
    int rc = -1;
    int fd = io_ops->open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);

    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (io_ops->fstat(fd, &st) < 0) {
        err_set_errno(err, errno, "cannot look at %s", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(err, ERR_INVALID, "%s: is no regular file", path);
        goto out;
    }
    if (in_a_line(fd, st.st_size, path, &within, err) < 0 ||
        (within && write_all(fd, "\n", 1, st.st_size, path, err) < 0) ||
        write_all(fd, lines, len, st.st_size + within, path, err) < 0)
        goto out;
    rc = 0;
out:
    if (io_ops->close(fd) < 0 && rc == 0)
        rc = err_set_errno(err, errno, "cannot close %s", path);
    return rc;
}

int file_sync(const char *path, struct err *err)
{
    int fd = io_ops->open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (io_ops->fsync(fd) < 0)
        rc = err_set_errno(err, errno, "cannot sync %s", path);
    io_ops->close(fd);
    return rc < 0 ? rc : file_sync_parent(path, err);
}

/* One level; PATH is cut at the level to make. */
static int make_dir(const char *path, mode_t mode, struct err *err)
{
    struct stat st;

    if (mkdir(path, 0700) == 0) {
        if (chmod(path, mode) < 0)
            return err_set_errno(err, errno, "cannot set the mode of directory %s", path);
        return file_sync_parent(path, err);
    }
    if (errno != EEXIST)
        return err_set_errno(err, errno, "cannot create directory %s", path);
    if (stat(path, &st) < 0)
        return err_set_errno(err, errno, "cannot look at %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s: is no directory", path);
    return 0;
}

int file_mkdir_p(const char *path, mode_t mode, struct err *err)
{
    char *copy = xstrdup(path);
    int rc = 0;

    for (char *at = copy; rc == 0 && *at != '\0';) {
        char saved;

        at += strspn(at, "/");
        at += strcspn(at, "/");
        saved = *at;
        *at = '\0';
        rc = make_dir(copy, mode, err);
        *at = saved;
        if (at[strspn(at, "/")] == '\0')
            break;
    }
    free(copy);
    return rc;
}

/* --- removal -------------------------------------------------------------------------------- */

/* Deeper than any data directory; each level holds a descriptor. */
#define MAX_DEPTH 64

static int remove_entry(int dir_fd, const char *name, const char *path, int depth, struct err *err);

/* Empties the open directory; takes FD over. PATH is for errors. */
static int empty_dir(int fd, const char *path, int depth, struct err *err)
{
    DIR *dir = fdopendir(fd);
    struct dirent *entry;
    int rc = 0;

    if (dir == NULL) {
        err_set_errno(err, errno, "cannot read directory %s", path);
        close(fd);
        return -1;
    }
    while (rc == 0) {
        char *below;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0)
                rc = err_set_errno(err, errno, "cannot read directory %s", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        below = xasprintf("%s/%s", path, entry->d_name);
        rc = remove_entry(fd, entry->d_name, below, depth, err);
        free(below);
    }
    closedir(dir);
    return rc;
}

static int remove_entry(int dir_fd, const char *name, const char *path, int depth, struct err *err)
{
    int fd;

    /* On Linux this never removes a directory; it says EISDIR, also to root. */
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR)
        return err_set_errno(err, errno, "cannot remove %s", path);
    if (depth >= MAX_DEPTH)
        return err_set(err, ERR_INVALID, "%s: is more than %d directories deep", path, MAX_DEPTH);
    fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot open directory %s", path);
    if (empty_dir(fd, path, depth + 1, err) < 0)
        return -1;
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_set_errno(err, errno, "cannot remove directory %s", path);
    return 0;
}

int file_remove_tree(const char *path, struct err *err)
{
    return remove_entry(AT_FDCWD, path, path, 0, err);
}

int file_remove_contents(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot open directory %s", path);
    return empty_dir(fd, path, 0, err);
}

int file_remove(const char *path, struct err *err)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return err_set_errno(err, errno, "cannot remove %s", path);
    return 0;
}

/* --- locks ---------------------------------------------------------------------------------- */

int file_lock_acquire(const char *path, int *fd, struct err *err)
{
    char holder[24] = "";
    ssize_t len;
    int lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (lock < 0)
        return err_set_errno(err, errno, "cannot open lock file %s", path);
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK) {
            err_set_errno(err, errno, "cannot lock %s", path);
        } else {
            len = pread(lock, holder, sizeof(holder) - 1, 0);
            holder[len > 0 ? strspn(holder, "0123456789") : 0] = '\0';
            err_set(err, ERR_CONFLICT,
                    "%s is locked: process %s or a child of it is still running; stop it first",
                    path, holder[0] != '\0' ? holder : "(unknown)");
        }
        close(lock);
        return -1;
    }
    /* Only for the message above: not worth an error, on a full disk neither. */
    len = snprintf(holder, sizeof(holder), "%d\n", (int)getpid());
    if (ftruncate(lock, 0) == 0 && pwrite(lock, holder, (size_t)len, 0) < 0)
        holder[0] = '\0';
    *fd = lock;
    return 0;
}

int file_lock_inherit(int fd)
{
    int flags = fcntl(fd, F_GETFD);

    return flags < 0 ? -1 : fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
}
