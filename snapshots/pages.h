/*
 * PostgreSQL's pages and their checksums: whether what a base backup brought is what the server
 * once wrote. For what is stored beside a parent; the server checks by itself what has none. (Page
 * layout and algorithm: PostgreSQL's bufpage.h and checksum_impl.h, unchanged since version 9.3.)
 * Pure.
 */
#ifndef OGEL_SNAPSHOTS_PAGES_H
#define OGEL_SNAPSHOTS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGE_SIZE_DEFAULT = 8192, PAGES_PER_SEGMENT = 131072 }; /* segments of 1 GB */

/* Whether a file of the data directory consists of pages ("base/5/16384_fsm.2"); *FIRST is the
 * number of its first one. */
bool pages_in(const char *path, uint32_t *first);

/* As the server computes it; PAGE holds PAGE_SIZE_DEFAULT bytes. */
uint16_t page_checksum(const char *page, uint32_t number);

/* Checks each whole page of DATA that was written from the LSN SINCE on and before BEFORE: a later
 * one may have been read half, and is mended by WAL. FIRST is the number of the first page. False:
 * *BAD does not fit. One that never was initialised has no checksum. */
bool pages_fit(const char *data, size_t len, uint32_t first, uint64_t since, uint64_t before,
               uint32_t *bad);

#endif
