/* Files and directories: bounded reads, durable replacement, removal that never follows a link,
 * locks. */
#ifndef OGEL_BASE_FILE_H
#define OGEL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/io_ops.h"

/* The whole regular file into *DATA (caller frees) with a NUL added that *LEN (may be NULL) does
 * not count. More than MAX_BYTES is ERR_INVALID; a missing file ERR_NOT_FOUND. Links are followed;
 * files of /proc (size 0) work. */
OGEL_MUST_CHECK int file_read(const char *path, size_t max_bytes, char **data, size_t *len,
                              struct err *err);

/* Replaces PATH by DATA so that a crash at any moment leaves the old or the new content, and
 * returns only once the new one is durable: "PATH.tmp" beside it, fsync, rename, fsync of the
 * directory. MODE is set whatever the umask. On failure the old content stands (or, where only the
 * last fsync failed, old or new) and the temporary file is gone. */
OGEL_MUST_CHECK int file_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                                      struct err *err);

/* Bytes in the file; 0 where there is none. */
OGEL_MUST_CHECK int file_size(const char *path, int64_t *size, struct err *err);

/* Adds LINES (each ends with a newline) at the end of PATH, made if missing (mode 0600). Where an
 * earlier call was cut off in the middle of a line, that line is ended first: it spoils itself and
 * no other. A failure may leave some of LINES, the last of them in part. Durable only after
 * file_sync(). One writer at a time. */
OGEL_MUST_CHECK int file_append(const char *path, const char *lines, size_t len, struct err *err);

/* What stands in the file, and its name, survive a power cut from here on. */
OGEL_MUST_CHECK int file_sync(const char *path, struct err *err);

/* fsync of a directory, or of the directory that holds PATH. */
OGEL_MUST_CHECK int file_sync_dir(const char *dir, struct err *err);
OGEL_MUST_CHECK int file_sync_parent(const char *path, struct err *err);

/* mkdir -p; MODE goes to the directories it makes (parents too), whatever the umask. Existing ones
 * are left as they are; a last component that is no directory is ERR_INVALID. What was made is
 * durable. */
OGEL_MUST_CHECK int file_mkdir_p(const char *path, mode_t mode, struct err *err);

/* Removes PATH with everything below it; a symbolic link is removed, never followed, also if PATH
 * itself is one or a directory is swapped for one meanwhile. What is not there is no error.
 * file_remove_contents() keeps the directory itself (it may be a mount point) and refuses a link.
 */
OGEL_MUST_CHECK int file_remove_tree(const char *path, struct err *err);
OGEL_MUST_CHECK int file_remove_contents(const char *path, struct err *err);

/* unlink; a missing file is no error. Not durable before file_sync_parent(). */
OGEL_MUST_CHECK int file_remove(const char *path, struct err *err);

bool file_exists(const char *path); /* of whatever kind; false also when it cannot be seen */

/* Space on PATH's file system in bytes; FREE is what an unprivileged process may use. Either may be
 * NULL. May block for as long as the disk hangs. */
OGEL_MUST_CHECK int file_disk_space(const char *path, int64_t *free_bytes, int64_t *total_bytes,
                                    struct err *err);

/* Takes the exclusive lock on PATH (made if missing, mode 0600, never removed) without waiting; *FD
 * holds it until it and every descriptor inherited from it are closed. ERR_CONFLICT when another
 * process has it; the text names the pid that wrote itself there last. *FD is close-on-exec: a
 * child that is meant to hold the lock on after its parent's death (pg_basebackup, pg_rewind; not
 * postgres) calls file_lock_inherit() between fork and exec. */
OGEL_MUST_CHECK int file_lock_acquire(const char *path, int *fd, struct err *err);

/* Clears close-on-exec. Async-signal-safe. Returns 0 or -1 with errno. */
int file_lock_inherit(int fd);

#endif
