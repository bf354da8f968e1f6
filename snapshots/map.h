/*
 * A map says where each slice of one file is. It is addressed by its content: an unchanged file has
 * the same map in the next snapshot, which is then not stored again. Maps of small files stand in
 * the file table itself. docs/snapshot-format.md, "Maps".
 */
#ifndef OGEL_SNAPSHOTS_MAP_H
#define OGEL_SNAPSHOTS_MAP_H

#include "snapshots/names.h"
#include "snapshots/pack.h"

enum {
    MAP_VERSION = 2,                  /* 1: without tags */
    MAP_SLICES_MAX = 1024 * 1024,     /* a file of 128 GiB: PostgreSQL's own have 1 GiB */
    MAP_BYTES_MAX = 80 * 1024 * 1024, /* as encoded */
};

struct pack_name {
    char snapshot[SNAPSHOT_ID_SIZE];
    uint32_t number;
};

/* Zero-initialised it is an empty one without tags. */
struct map {
    bool tagged; /* slices have tags, made with this key: */
    uint8_t key[SLICE_KEY_SIZE];
    struct pack_name *packs; /* in the order of their first use */
    uint32_t pack_count, pack_room;
    struct slice_ref *slices;
    uint32_t slice_count, slice_room;
};

void map_free(struct map *map); /* what it holds; it is empty afterwards */

/* Adds the next slice: its frame in pack NUMBER of SNAPSHOT, or, with SNAPSHOT NULL, all zero. A
 * map with tags needs TAG too. */
void map_add(struct map *map, const char *snapshot, uint32_t number, uint32_t offset,
             uint32_t stored, const uint8_t hash[SLICE_HASH_SIZE],
             const uint8_t tag[SLICE_TAG_SIZE]);

/* The encoded form, which the caller frees. The same slices give the same bytes. */
char *map_encode(const struct map *map, size_t *len);

/* Fills MAP, which must have COUNT slices. ERR_CORRUPT; ERR_INVALID for a newer version. On failure
 * MAP is empty. */
OGEL_MUST_CHECK int map_decode(const void *data, size_t len, uint64_t count, struct map *map,
                               struct err *err);

void map_digest(const void *data, size_t len, uint8_t digest[MAP_DIGEST_SIZE]);

#endif
