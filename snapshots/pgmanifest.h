/*
 * The backup manifest that PostgreSQL's server sends after a base backup, and pg_verifybackup
 * reads: a list of the files. The server can sum up each file for it, while it sends; as it is what
 * a snapshot waits for, this is done here instead, of what has come, and put into the list.
 * (PostgreSQL's manual, "Backup Manifest Format"; backup_manifest.c writes a line for each file.)
 */
#ifndef OGEL_SNAPSHOTS_PGMANIFEST_H
#define OGEL_SNAPSHOTS_PGMANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { FILE_SUM_INIT = -1 };

/* CRC-32C as it grows with a file's content; SUM is FILE_SUM_INIT at first. */
uint32_t file_sum(uint32_t sum, const void *data, size_t len);

struct pg_manifest;
struct pg_manifest *pg_manifest_new(void);
void pg_manifest_free(struct pg_manifest *manifest); /* NULL is allowed */

/* A file that has come; SUM is of all of it. Takes 24 bytes. */
void pg_manifest_note(struct pg_manifest *manifest, const char *path, uint64_t size, uint32_t sum);

/* Takes the finished lines of it; returns -1 with err to end it. */
typedef int pg_manifest_fn(void *arg, const char *data, size_t len, struct err *err);

/* More of the server's text. ERR_CORRUPT: it is no manifest, its own checksum does not fit, or it
 * names a file that has not come, or not in that size, or twice. */
OGEL_MUST_CHECK int pg_manifest_feed(struct pg_manifest *manifest, const char *data, size_t len,
                                     pg_manifest_fn *put, void *arg, struct err *err);

/* Its end: ERR_CORRUPT if there should be more, or if it has left out a file that came and is no
 * WAL. */
OGEL_MUST_CHECK int pg_manifest_end(const struct pg_manifest *manifest, struct err *err);

#endif
