/* A frame out of a pack: what is not the slice that was asked for is refused. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshots/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char plain[SLICE_SIZE];
    static struct codec *codec;
    uint8_t hash[SLICE_HASH_SIZE], got[SLICE_HASH_SIZE];
    struct err err = {0};
    size_t len;

    if (codec == NULL)
        codec = codec_new(1);
    if (size < sizeof(uint16_t))
        return 0;
    /* The first bytes say how long the slice should be; its hash is that of what comes first. */
    len = ((size_t)data[0] << 8 | data[1]) % (SLICE_SIZE + 1);
    data += 2;
    size -= 2;
    slice_hash(data, size < len ? size : len, hash);
    if (codec_decode(codec, data, size, hash, plain, len, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT && err.text[0] != '\0');
    } else {
        slice_hash(plain, len, got);
        OGEL_CHECK(memcmp(got, hash, SLICE_HASH_SIZE) == 0);
    }
    return 0;
}
