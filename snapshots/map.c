#include "snapshots/map.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/mem.h"
#include "snapshots/bytes.h"

/* As encoded; what is in brackets version 2 has, and a map without tags is of version 1:
 *   magic, u32 version, u32 packs, u32 slices [, key[32]]
 *   packs × { char snapshot[28], zero-padded; u32 number }
 *   slices × { u32 pack, u32 offset, u32 stored, hash[16] [, tag[16]] } */
#define MAGIC "OGELMAP\n"

enum { HEADER = 20, PACK_ENTRY = 32, SLICE_ENTRY = 12 + SLICE_HASH_SIZE, ID_FIELD = 28 };
enum { VERSION_UNTAGGED = 1, VERSION_TAGGED = 2 };

static size_t encoded_size(bool tagged, uint32_t packs, uint32_t slices)
{
    return HEADER + (tagged ? SLICE_KEY_SIZE : 0) + (size_t)packs * PACK_ENTRY +
           (size_t)slices * (SLICE_ENTRY + (tagged ? SLICE_TAG_SIZE : 0));
}

void map_free(struct map *map)
{
    free(map->packs);
    free(map->slices);
    *map = (struct map){0};
}

static uint32_t find_pack(struct map *map, const char *snapshot, uint32_t number)
{
    /* The last one first: slices are laid one behind the other. */
    for (uint32_t i = map->pack_count; i > 0; i--) {
        const struct pack_name *pack = &map->packs[i - 1];

        if (pack->number == number && strcmp(pack->snapshot, snapshot) == 0)
            return i - 1;
    }
    if (map->pack_count == map->pack_room) {
        map->pack_room = map->pack_room == 0 ? 4 : 2 * map->pack_room;
        map->packs = xreallocarray(map->packs, map->pack_room, sizeof(map->packs[0]));
    }
    memset(&map->packs[map->pack_count], 0, sizeof(map->packs[0]));
    memcpy(map->packs[map->pack_count].snapshot, snapshot, SNAPSHOT_ID_SIZE);
    map->packs[map->pack_count].number = number;
    return map->pack_count++;
}

void map_add(struct map *map, const char *snapshot, uint32_t number, uint32_t offset,
             uint32_t stored, const uint8_t hash[SLICE_HASH_SIZE],
             const uint8_t tag[SLICE_TAG_SIZE])
{
    struct slice_ref *slice;

    if (map->slice_count == map->slice_room) {
        map->slice_room = map->slice_room == 0 ? 4 : 2 * map->slice_room;
        map->slices = xreallocarray(map->slices, map->slice_room, sizeof(map->slices[0]));
    }
    slice = &map->slices[map->slice_count++];
    memset(slice, 0, sizeof(*slice));
    if (snapshot == NULL)
        return;
    slice->pack = find_pack(map, snapshot, number);
    slice->offset = offset;
    slice->stored = stored;
    memcpy(slice->hash, hash, SLICE_HASH_SIZE);
    if (map->tagged)
        memcpy(slice->tag, tag, SLICE_TAG_SIZE);
}

char *map_encode(const struct map *map, size_t *len)
{
    size_t size = encoded_size(map->tagged, map->pack_count, map->slice_count);
    char *data = xcalloc(1, size), *at = data;

    at = bytes_put(at, MAGIC, sizeof(MAGIC) - 1);
    at = bytes_put_u32(at, map->tagged ? VERSION_TAGGED : VERSION_UNTAGGED);
    at = bytes_put_u32(at, map->pack_count);
    at = bytes_put_u32(at, map->slice_count);
    if (map->tagged)
        at = bytes_put(at, map->key, SLICE_KEY_SIZE);
    for (uint32_t i = 0; i < map->pack_count; i++) {
        memcpy(at, map->packs[i].snapshot, SNAPSHOT_ID_LEN);
        at = bytes_put_u32(at + ID_FIELD, map->packs[i].number);
    }
    for (uint32_t i = 0; i < map->slice_count; i++) {
        at = bytes_put_u32(at, map->slices[i].pack);
        at = bytes_put_u32(at, map->slices[i].offset);
        at = bytes_put_u32(at, map->slices[i].stored);
        at = bytes_put(at, map->slices[i].hash, SLICE_HASH_SIZE);
        if (map->tagged)
            at = bytes_put(at, map->slices[i].tag, SLICE_TAG_SIZE);
    }
    *len = size;
    return data;
}

static int decode_packs(const char *at, struct map *map, struct err *err)
{
    static const char padding[ID_FIELD - SNAPSHOT_ID_LEN];

    for (uint32_t i = 0; i < map->pack_count; i++, at += PACK_ENTRY) {
        struct pack_name *pack = &map->packs[i];

        memcpy(pack->snapshot, at, SNAPSHOT_ID_LEN);
        pack->snapshot[SNAPSHOT_ID_LEN] = '\0';
        pack->number = bytes_get_u32(at + ID_FIELD);
        if (!snapshot_id_valid(pack->snapshot) ||
            memcmp(at + SNAPSHOT_ID_LEN, padding, sizeof(padding)) != 0)
            return err_set(err, ERR_CORRUPT, "pack %" PRIu32 " of the map has no valid name", i);
    }
    return 0;
}

static bool slice_valid(const struct slice_ref *slice, uint32_t pack_count)
{
    static const struct slice_ref zero;

    if (slice->stored == 0)
        return slice->pack == 0 && slice->offset == 0 &&
               memcmp(slice->hash, zero.hash, SLICE_HASH_SIZE) == 0 &&
               memcmp(slice->tag, zero.tag, SLICE_TAG_SIZE) == 0;
    return slice->pack < pack_count && slice->stored <= FRAME_MAX && slice->offset <= PACK_MAX &&
           slice->offset + slice->stored <= PACK_MAX;
}

static int decode_slices(const char *at, struct map *map, struct err *err)
{
    uint32_t used = 0; /* packs so far: the table is in the order of first use */

    for (uint32_t i = 0; i < map->slice_count; i++, at += SLICE_ENTRY) {
        struct slice_ref *slice = &map->slices[i];

        slice->pack = bytes_get_u32(at);
        slice->offset = bytes_get_u32(at + 4);
        slice->stored = bytes_get_u32(at + 8);
        memcpy(slice->hash, at + 12, SLICE_HASH_SIZE);
        if (map->tagged) {
            memcpy(slice->tag, at + SLICE_ENTRY, SLICE_TAG_SIZE);
            at += SLICE_TAG_SIZE;
        }
        if (!slice_valid(slice, map->pack_count) || slice->pack > used)
            return err_set(err, ERR_CORRUPT, "slice %" PRIu32 " of the map makes no sense", i);
        if (slice->stored != 0 && slice->pack == used)
            used++;
    }
    return used == map->pack_count
               ? 0
               : err_set(err, ERR_CORRUPT, "the map names packs that it does not use");
}

int map_decode(const void *data, size_t len, uint64_t count, struct map *map, struct err *err)
{
    const char *bytes = data;
    uint32_t version;

    *map = (struct map){0};
    if (len < HEADER || memcmp(bytes, MAGIC, sizeof(MAGIC) - 1) != 0)
        return err_set(err, ERR_CORRUPT, "is no map");
    version = bytes_get_u32(bytes + 8);
    if (version > MAP_VERSION)
        return err_set(err, ERR_INVALID,
                       "the map has format %" PRIu32 ", this program reads up to %d: use a newer "
                       "one",
                       version, MAP_VERSION);
    map->pack_count = map->pack_room = bytes_get_u32(bytes + 12);
    map->slice_count = map->slice_room = bytes_get_u32(bytes + 16);
    map->tagged = version == VERSION_TAGGED;
    if (version == 0 || map->slice_count > MAP_SLICES_MAX || map->pack_count > map->slice_count ||
        len != encoded_size(map->tagged, map->pack_count, map->slice_count)) {
        *map = (struct map){0};
        return err_set(err, ERR_CORRUPT, "the map is cut off or its header is damaged");
    }
    if (map->slice_count != count) {
        uint32_t has = map->slice_count;

        *map = (struct map){0};
        return err_set(err, ERR_CORRUPT,
                       "the map has %" PRIu32 " slices where the file has %" PRIu64, has, count);
    }
    map->packs = xcalloc(map->pack_count + 1, sizeof(map->packs[0]));
    map->slices = xcalloc(map->slice_count + 1, sizeof(map->slices[0]));
    bytes += HEADER;
    if (map->tagged) {
        memcpy(map->key, bytes, SLICE_KEY_SIZE);
        bytes += SLICE_KEY_SIZE;
    }
    if (decode_packs(bytes, map, err) == 0 &&
        decode_slices(bytes + (size_t)map->pack_count * PACK_ENTRY, map, err) == 0)
        return 0;
    map_free(map);
    return -1;
}

void map_digest(const void *data, size_t len, uint8_t digest[MAP_DIGEST_SIZE])
{
    OGEL_CHECK(EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) == 1);
}
