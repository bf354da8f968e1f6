/* A map out of the store: whatever is accepted encodes to the same bytes, and whatever was encoded
 * is accepted. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshots/bytes.h"
#include "snapshots/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 0 if it is accepted. */
static int try_map(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct map map;
    size_t len;
    char *again;

    /* As many slices as it says itself, so that more than the first check is reached. */
    if (map_decode(data, size, size >= 20 ? bytes_get_u32(data + 16) : 0, &map, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT || err.code == ERR_INVALID);
        OGEL_CHECK(map.slices == NULL && map.packs == NULL);
        return -1;
    }
    again = map_encode(&map, &len);
    OGEL_CHECK(len == size && memcmp(again, data, len) == 0);
    free(again);
    map_free(&map);
    return 0;
}

/* DATA as what a backup does, and then a byte that changes. */
static void try_made(const uint8_t *data, size_t size)
{
    static const char *const owners[] = {"20260203T040506Z-00000001", "20260204T040506Z-00000002",
                                         "20260205T040506Z-00000003", NULL};
    struct map map = {0};
    size_t len, at;
    char *made;

    if (size < 4)
        return;
    map.tagged = data[3] % 2 != 0;
    for (size_t i = 4; i + 20 <= size; i += 20)
        map_add(&map, owners[data[i] % 4], data[i + 1], bytes_get_u16(data + i + 2),
                data[i + 4] + 1u, data + i + 4, data + i + 4);
    made = map_encode(&map, &len);
    OGEL_CHECK(try_map((uint8_t *)made, len) == 0);
    at = bytes_get_u16(data) % len;
    made[at] = (char)(made[at] ^ data[2]);
    try_map((uint8_t *)made, len);
    free(made);
    map_free(&map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        try_made(data + 1, size - 1);
    else
        try_map(data + 1, size - 1);
    return 0;
}
