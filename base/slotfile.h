/* A small durable record in a file of fixed size: two slots, written in turn, each with its own
 * sequence number and SHA-256. The file is made once, really filled and synced; a write then
 * overwrites blocks that are there, so that a full disk cannot stop it (on file systems that
 * overwrite in place: ext4, xfs; not btrfs or zfs).
 *
 * Slot (little endian): magic "OGELSLOT", u32 format version, u32 slot size, u64 sequence, u32
 * length, u32 zero, SHA-256 of these 32 bytes and the payload; then the payload.
 *
 * A write goes to the slot that is not current and is current once fdatasync() has returned. A
 * crash in it, or its failure, leaves the previous record whole. After a failed write the record in
 * memory is the previous one, the next write reuses the same slot, and whoever opens the file later
 * finds the previous record or the one that failed, never anything else; opening writes the record
 * found once more and syncs it, so that what has been read once is durable.
 *
 * Once synced, the record is copied to the other slot as well, without waiting: so one slot that
 * rots later is damage that the other makes good, and not a step back to the previous record. Only
 * where the machine lost its power before the copy had reached the disk is a slot that rots before
 * the file is next opened taken for a write that was cut off.
 *
 * What is relied on: a sector of 512 bytes is written whole or not at all. */
#ifndef OGEL_BASE_SLOTFILE_H
#define OGEL_BASE_SLOTFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io_ops.h"

#define SLOTFILE_HEADER_SIZE 64 /* a record holds slot_size - this */

struct slotfile;

/* Opens PATH, a regular file of two slots of SLOT_SIZE bytes (a multiple of 4096, at most 16 MiB);
 * where it is missing and CREATE is set, makes it (mode 0600; through file_write_atomic(), so
 * that it is there whole or not at all). Reads and checks both slots. *SF is freed by
 * slotfile_close(). Errors: ERR_NOT_FOUND; ERR_INVALID for a symbolic link, no regular file,
 * another size or format version; ERR_CORRUPT when neither slot is whole; ERR_IO, ERR_NO_SPACE. One
 * process at a time: take a lock (file_lock_acquire) first. */
OGEL_MUST_CHECK int slotfile_open(const char *path, size_t slot_size, bool create,
                                  struct slotfile **sf, struct err *err);

/* Copies the current record to BUF, from memory. *FOUND is false, and *LEN 0, while nothing has
 * ever been written. ERR_INVALID when SIZE is too small. */
OGEL_MUST_CHECK int slotfile_read(const struct slotfile *sf, void *buf, size_t size, size_t *len,
                                  bool *found, struct err *err);

/* Makes DATA the record; returns 0 only once it is durable. ERR_INVALID when LEN is above
 * slot_size - SLOTFILE_HEADER_SIZE. */
OGEL_MUST_CHECK int slotfile_write(struct slotfile *sf, const void *data, size_t len,
                                   struct err *err);

/* Grows by one with each write that succeeded; 0 = never written. */
uint64_t slotfile_sequence(const struct slotfile *sf);

/* Completes ERR, which says why a record that was read cannot be used: names the file and what to
 * do. Returns -1 always. */
int slotfile_not_understood(const char *path, struct err *err);

/* True if opening found one of the slots damaged: a write that a crash cut off (harmless), or the
 * disk lost something. Worth a line in the log. */
bool slotfile_was_damaged(const struct slotfile *sf);

void slotfile_close(struct slotfile *sf); /* NULL allowed */

#endif
