#include "snapshots/pack.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { STEP_SIZE = 32 * 1024 };

struct codec {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
};

uint64_t slice_count(uint64_t size)
{
    return size / SLICE_SIZE + (size % SLICE_SIZE != 0);
}

size_t slice_len(uint64_t size, uint64_t index)
{
    uint64_t begin = index * SLICE_SIZE;

    return begin >= size ? 0 : size - begin < SLICE_SIZE ? (size_t)(size - begin) : SLICE_SIZE;
}

bool slice_is_zero(const void *data, size_t len)
{
    const char *bytes = data;

    /* Each byte equals the one before it, and the first is zero. */
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

void slice_hash(const void *data, size_t len, uint8_t hash[SLICE_HASH_SIZE])
{
    uint8_t digest[EVP_MAX_MD_SIZE];

    OGEL_CHECK(EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) == 1);
    memcpy(hash, digest, SLICE_HASH_SIZE);
}

#define WRONG_HASH "has other content than was stored: its hash is wrong"

struct tagger {
    EVP_MAC *mac;
    EVP_MAC_CTX *context;
};

struct tagger *tagger_new(void)
{
    struct tagger *tagger = xcalloc(1, sizeof(*tagger));

    tagger->mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    if (tagger->mac == NULL) {
        free(tagger);
        return NULL;
    }
    tagger->context = EVP_MAC_CTX_new(tagger->mac);
    OGEL_CHECK(tagger->context != NULL);
    return tagger;
}

void tagger_free(struct tagger *tagger)
{
    if (tagger == NULL)
        return;
    EVP_MAC_CTX_free(tagger->context);
    EVP_MAC_free(tagger->mac);
    free(tagger);
}

void slice_tag(struct tagger *tagger, const uint8_t key[SLICE_KEY_SIZE], const void *data,
               size_t len, uint8_t tag[SLICE_TAG_SIZE])
{
    size_t got = 0;

    OGEL_CHECK(EVP_MAC_init(tagger->context, key, SLICE_KEY_SIZE, NULL) == 1 &&
               EVP_MAC_update(tagger->context, data, len) == 1 &&
               EVP_MAC_final(tagger->context, tag, &got, SLICE_TAG_SIZE) == 1 &&
               got == SLICE_TAG_SIZE);
}

struct codec *codec_new(int level)
{
    struct codec *codec = xcalloc(1, sizeof(*codec));

    codec->compressor = ZSTD_createCCtx();
    codec->decompressor = ZSTD_createDCtx();
    OGEL_CHECK(codec->compressor != NULL && codec->decompressor != NULL);
    /* zstd's own sum of the plain content: what was compressed wrongly is noticed when it is read
     */
    ZSTD_CCtx_setParameter(codec->compressor, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(codec->compressor, ZSTD_c_checksumFlag, 1);
    return codec;
}

void codec_free(struct codec *codec)
{
    if (codec == NULL)
        return;
    ZSTD_freeCCtx(codec->compressor);
    ZSTD_freeDCtx(codec->decompressor);
    free(codec);
}

size_t codec_encode(struct codec *codec, const void *data, size_t len, void *frame)
{
    size_t stored;

    OGEL_CHECK(len <= SLICE_SIZE && ZSTD_compressBound(SLICE_SIZE) <= FRAME_MAX);
    stored = ZSTD_compress2(codec->compressor, frame, FRAME_MAX, data, len);
    OGEL_CHECK(!ZSTD_isError(stored));
    return stored;
}

bool codec_encode_step(struct codec *codec, const void *data, size_t len, void *frame, size_t *done,
                       size_t *stored)
{
    bool last = len - *done <= STEP_SIZE;
    ZSTD_inBuffer in = {data, last ? len : *done + STEP_SIZE, *done};
    ZSTD_outBuffer out = {frame, FRAME_MAX, *stored};

    OGEL_CHECK(len <= SLICE_SIZE);
    if (*done == 0) {
        ZSTD_CCtx_reset(codec->compressor, ZSTD_reset_session_only);
        ZSTD_CCtx_setPledgedSrcSize(codec->compressor, len);
    }
    OGEL_CHECK(
        ZSTD_compressStream2(codec->compressor, &out, &in, last ? ZSTD_e_end : ZSTD_e_flush) == 0 &&
        in.pos == in.size);
    *done = in.pos;
    *stored = out.pos;
    return last;
}

int codec_decode(struct codec *codec, const void *frame, size_t frame_len,
                 const uint8_t hash[SLICE_HASH_SIZE], bool of_frame, void *data, size_t len,
                 struct err *err)
{
    uint8_t got[SLICE_HASH_SIZE];
    size_t plain;

    if (of_frame) {
        slice_hash(frame, frame_len, got);
        if (memcmp(got, hash, SLICE_HASH_SIZE) != 0)
            return err_set(err, ERR_CORRUPT, WRONG_HASH);
    }
    /* One frame to its last byte: what follows it would belong to another slice. */
    if (ZSTD_findFrameCompressedSize(frame, frame_len) != frame_len)
        return err_set(err, ERR_CORRUPT, "is no whole zstd frame");
    plain = ZSTD_decompressDCtx(codec->decompressor, data, len, frame, frame_len);
    if (ZSTD_isError(plain))
        return err_set(err, ERR_CORRUPT, "does not decompress: %s", ZSTD_getErrorName(plain));
    if (plain != len)
        return err_set(err, ERR_CORRUPT, "holds %zu bytes instead of %zu", plain, len);
    if (of_frame)
        return 0;
    slice_hash(data, len, got);
    if (memcmp(got, hash, SLICE_HASH_SIZE) != 0)
        return err_set(err, ERR_CORRUPT, WRONG_HASH);
    return 0;
}
