/*
 * The file table of a snapshot: each directory and file of the cluster, with its mode, its size and
 * its map, in the order in which they came. Written and read as a stream, so that memory does not
 * grow with the number of files. docs/snapshot-format.md, "File table".
 */
#ifndef OGEL_SNAPSHOTS_FILETABLE_H
#define OGEL_SNAPSHOTS_FILETABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/names.h"

enum {
    TABLE_VERSION = 1,
    TABLE_PATH_MAX = 1023,
    TABLE_INLINE_SLICES = 64, /* a file of more slices has its map in an object of its own */
    TABLE_INLINE_MAX = 8192,  /* bytes of a map in the table */
    TABLE_DIGEST_SIZE = 32,
};

enum table_type { TABLE_DIRECTORY = 'D', TABLE_FILE = 'F' };

struct table_entry {
    enum table_type type;
    uint32_t mode; /* permission bits */
    char path[TABLE_PATH_MAX + 1];
    uint64_t size;                    /* of a file; a directory has no more than the above */
    const void *map;                  /* encoded, in the table itself; NULL: in an object */
    uint32_t map_len;                 /* of either */
    char map_owner[SNAPSHOT_ID_SIZE]; /* the snapshot whose object it is */
    uint8_t map_digest[MAP_DIGEST_SIZE];
};

/* A relative path that stays below its directory: no empty component, "." or "..". */
bool table_path_valid(const char *path);

struct table_writer;
struct table_reader;

/* ---- writing: into FD, from its begin on; FD stays the caller's */
struct table_writer *table_writer_new(int fd);
OGEL_MUST_CHECK int table_write(struct table_writer *writer, const struct table_entry *entry,
                                struct err *err);
/* Ends the table, and says how long it is and what its SHA-256. */
OGEL_MUST_CHECK int table_finish(struct table_writer *writer, uint64_t *size,
                                 uint8_t digest[TABLE_DIGEST_SIZE], struct err *err);
void table_writer_free(struct table_writer *writer); /* NULL is allowed */

/* ---- reading: a table of SIZE bytes in FD, which stays the caller's */

/* ERR_CORRUPT, or ERR_INVALID for a newer version. */
OGEL_MUST_CHECK int table_open(int fd, uint64_t size, struct table_reader **reader,
                               struct err *err);
/* 1 with the next entry, 0 at the end, -1 with ERR_CORRUPT. entry->map is valid until the next
 * call. */
OGEL_MUST_CHECK int table_next(struct table_reader *reader, struct table_entry *entry,
                               struct err *err);
/* Where the entry is that table_next() gives next; and back there. */
struct table_place {
    uint64_t block;
    uint32_t within;
};
struct table_place table_tell(const struct table_reader *reader);
OGEL_MUST_CHECK int table_seek(struct table_reader *reader, struct table_place place,
                               struct err *err);
void table_close(struct table_reader *reader); /* NULL is allowed */

#endif
