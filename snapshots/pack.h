/*
 * Slices and packs. A file is cut into slices of 128 KiB at fixed offsets; each slice is one zstd
 * frame; frames stand one behind the other in packs, so that a pack is itself what `zstd -d` reads.
 * Each slice is checked by a hash. docs/snapshot-format.md, "Slices" and "Packs".
 */
#ifndef OGEL_SNAPSHOTS_PACK_H
#define OGEL_SNAPSHOTS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SLICE_SIZE = 128 * 1024,
    SLICE_HASH_SIZE = 16,           /* SHA-256, its first half */
    SLICE_TAG_SIZE = 16,            /* Poly1305 */
    SLICE_KEY_SIZE = 32,            /* … and its key */
    FRAME_MAX = SLICE_SIZE + 1024,  /* a slice that does not compress, with what zstd adds */
    PACK_TARGET = 16 * 1024 * 1024, /* a pack is closed once it has this many bytes */
    PACK_MAX = PACK_TARGET + FRAME_MAX,
};

/* Where a slice is. All-zero slices are stored nowhere: `stored` is 0, and all else too. */
struct slice_ref {
    uint32_t pack;                 /* index into a table of packs */
    uint32_t offset;               /* of its frame */
    uint32_t stored;               /* bytes of its frame */
    uint8_t hash[SLICE_HASH_SIZE]; /* of its plain content; where the map has tags, of its frame */
    uint8_t tag[SLICE_TAG_SIZE];   /* of its plain content */
};

/* Slices of a file of SIZE bytes, and the bytes of the slice INDEX of it. */
uint64_t slice_count(uint64_t size);
size_t slice_len(uint64_t size, uint64_t index);

bool slice_is_zero(const void *data, size_t len);
void slice_hash(const void *data, size_t len, uint8_t hash[SLICE_HASH_SIZE]);

/* A keyed sum, several times as fast as the hash: two slices with the same one are the same, for
 * whoever does not know the key cannot make others. docs/adr/0011. */
struct tagger;
struct tagger *tagger_new(void); /* for one thread; NULL where OpenSSL has none, as under FIPS */
void tagger_free(struct tagger *tagger);
void slice_tag(struct tagger *tagger, const uint8_t key[SLICE_KEY_SIZE], const void *data,
               size_t len, uint8_t tag[SLICE_TAG_SIZE]);

/* What one thread needs to compress and to read. */
struct codec;
struct codec *codec_new(int level); /* of zstd: 1 to 19 */
void codec_free(struct codec *codec);

/* DATA as a frame in FRAME (FRAME_MAX bytes); returns its length. LEN is SLICE_SIZE at most. */
size_t codec_encode(struct codec *codec, const void *data, size_t len, void *frame);

/* The same in steps of STEP_SIZE of DATA, for a thread that is needed elsewhere in between; until
 * the last one CODEC encodes nothing else. *DONE bytes have become *STORED bytes of FRAME, both 0
 * at first. True: the frame is complete. */
bool codec_encode_step(struct codec *codec, const void *data, size_t len, void *frame, size_t *done,
                       size_t *stored);

/* The slice that FRAME is, into DATA (LEN bytes). ERR_CORRUPT if FRAME is not one whole frame of
 * LEN bytes, or its hash (OF_FRAME), or that of the bytes, is another. */
OGEL_MUST_CHECK int codec_decode(struct codec *codec, const void *frame, size_t frame_len,
                                 const uint8_t hash[SLICE_HASH_SIZE], bool of_frame, void *data,
                                 size_t len, struct err *err);

#endif
