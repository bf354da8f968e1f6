/* The system calls that durable files are read and written with, replaceable by tests that fail,
 * shorten or cut off each of them. */
#ifndef OGEL_BASE_IO_OPS_H
#define OGEL_BASE_IO_OPS_H

#include <sys/stat.h>
#include <sys/types.h>

struct io_ops {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*fstat)(int fd, struct stat *st);
    int (*fchmod)(int fd, mode_t mode);
    ssize_t (*pread)(int fd, void *buf, size_t len, off_t offset);
    ssize_t (*pwrite)(int fd, const void *buf, size_t len, off_t offset);
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*close)(int fd);
};

extern const struct io_ops io_ops_system;

/* What slotfile.c, file_read(), file_write_atomic(), file_append() and file_sync_dir() call;
 * io_ops_system unless a test says otherwise. */
extern const struct io_ops *io_ops;

#endif
