/* A map out of the store: whatever is accepted encodes to the same bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshots/bytes.h"
#include "snapshots/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct map map;
    size_t len;
    char *again;

    /* As many slices as it says itself, so that more than the first check is reached. */
    if (map_decode(data, size, size >= 20 ? bytes_get_u32(data + 16) : 0, &map, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT || err.code == ERR_INVALID);
        OGEL_CHECK(map.slices == NULL && map.packs == NULL);
        return 0;
    }
    again = map_encode(&map, &len);
    /* Any older version is written as today's. */
    OGEL_CHECK(len == size && memcmp(again, data, len) == 0);
    free(again);
    map_free(&map);
    return 0;
}
