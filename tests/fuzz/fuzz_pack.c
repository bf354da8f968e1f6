/* A frame out of a pack: what is not the slice that was asked for is refused, and nothing else is.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshots/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct codec *codec;
static char plain[SLICE_SIZE], frame[FRAME_MAX];

/* Whatever comes out must have that hash. */
static int try_frame(const void *data, size_t size, const uint8_t hash[SLICE_HASH_SIZE], size_t len)
{
    uint8_t got[SLICE_HASH_SIZE];
    struct err err = {0};

    if (codec_decode(codec, data, size, hash, false, plain, len, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT && err.text[0] != '\0');
        return -1;
    }
    slice_hash(plain, len, got);
    OGEL_CHECK(memcmp(got, hash, SLICE_HASH_SIZE) == 0);
    return 0;
}

/* Its hash is right, and whatever it is: one frame of LEN bytes, or refused. */
static void try_known_frame(const void *data, size_t size, size_t len)
{
    uint8_t hash[SLICE_HASH_SIZE];
    struct err err = {0};

    slice_hash(data, size, hash);
    OGEL_CHECK(codec_decode(codec, data, size, hash, true, plain, len, &err) == 0 ||
               err.code == ERR_CORRUPT);
    hash[0] ^= 1;
    OGEL_CHECK(codec_decode(codec, data, size, hash, true, plain, len, &err) < 0);
}

/* DATA as a slice: its own frame is good, the same with changes is refused or changes nothing. */
static void try_changes(const uint8_t *data, size_t size)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t count, stored;

    if (size < 8 || size > SLICE_SIZE)
        return;
    count = data[0] % 3;
    stored = codec_encode(codec, data, size, frame);
    slice_hash(data, size, hash);
    OGEL_CHECK(try_frame(frame, stored, hash, size) == 0);
    for (size_t i = 0; i <= count; i++)
        frame[(data[1 + 2 * i] << 8 | data[2 + 2 * i]) % stored] ^= (char)(1 << data[7] % 8);
    try_frame(frame, stored, hash, size);
    try_known_frame(frame, stored, size);
    try_frame(frame, stored - data[7] % stored, hash, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t len;

    if (codec == NULL)
        codec = codec_new(1);
    if (size < 4)
        return 0;
    if (data[0] % 2 == 0) {
        try_changes(data + 1, size - 1);
        return 0;
    }
    len = ((size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3]) % (SLICE_SIZE + 1);
    data += 4;
    size -= 4;
    slice_hash(data, size < len ? size : len, hash);
    try_frame(data, size, hash, len);
    try_known_frame(data, size, len);
    return 0;
}
