/*
 * Slices on their way into the store: one thread fills pieces, workers hash and compress them, one
 * thread takes them in the order in which they were filled. A fixed number of pieces goes round, so
 * that whoever is fast waits for whoever is slow.
 */
#ifndef OGEL_SNAPSHOTS_PIPELINE_H
#define OGEL_SNAPSHOTS_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/pack.h"

/* One slice, or the end of a file. */
struct piece {
    /* set by who fills it */
    void *file;           /* whose it is; not looked at here */
    uint64_t index;       /* of the slice in it; of the end: how many it has */
    uint64_t same_before; /* so many slices before it are the parent's, and were not given */
    bool ends_file;       /* no slice: nothing below counts */
    size_t len;
    char *plain;        /* SLICE_SIZE bytes */
    const uint8_t *key; /* for its tag (SLICE_KEY_SIZE); NULL: it is to have none */
    bool has_old;       /* what it was in the parent is known, where its map is of the same kind: */
    uint8_t old_hash[SLICE_HASH_SIZE]; /* all zero for a zero slice */
    uint8_t old_tag[SLICE_TAG_SIZE];   /* with that key */
    /* set by a worker; up to the tag by pipeline_is_same(), where it looked at it */
    bool looked_at;
    bool zero;                     /* nothing but zeroes: not stored */
    bool same;                     /* as in the parent: not stored again */
    uint8_t hash[SLICE_HASH_SIZE]; /* of the frame where it has a tag, else of the plain content */
    uint8_t tag[SLICE_TAG_SIZE];
    size_t stored;
    char *frame; /* FRAME_MAX bytes */
};

/* Fills frame, stored and hash. */
void piece_encode(struct piece *piece, struct codec *codec);

struct pipeline;

/* Starts THREADS workers that compress with LEVEL. */
OGEL_MUST_CHECK int pipeline_new(int threads, int level, struct pipeline **pipeline,
                                 struct err *err);

/* Whether pieces may have a key. */
bool pipeline_can_tag(const struct pipeline *pipeline);

/* For the one who fills: an empty piece, as soon as there is one; NULL once the pipeline failed. */
struct piece *pipeline_take(struct pipeline *pipeline);
void pipeline_give(struct pipeline *pipeline, struct piece *piece);
/* Whether a filled piece with a key and a tag of old is as in the parent. It need not be given
 * then: it can be filled anew, while its bytes are in the processor's cache. */
bool pipeline_is_same(struct pipeline *pipeline, struct piece *piece);
void pipeline_finish(struct pipeline *pipeline); /* no more will come */
/* Does a piece's work, if the workers have more than they can do; or a part of it, if
 * pipeline_is_same() looked at it: those are few beside a parent, and a thread that wakes up for
 * one takes the processor from the filler, or from whom it reads from. False: there is none such.
 */
bool pipeline_help(struct pipeline *pipeline);

/* For the one who takes: the next piece, when it is ready; NULL at the end, or once the pipeline
 * failed. */
struct piece *pipeline_next(struct pipeline *pipeline);
void pipeline_release(struct pipeline *pipeline, struct piece *piece);

/* Wakes everybody: from now on nothing is given out. The first error counts. */
void pipeline_fail(struct pipeline *pipeline, const struct err *err);
/* True if it failed; *ERR (NULL allowed) is what it was told then. */
bool pipeline_failed(struct pipeline *pipeline, struct err *err);

/* Ends the workers, and calls DROP (NULL: nobody) for each end of a file that nobody took: its file
 * would be lost. NULL is allowed. */
typedef void pipeline_drop_fn(void *file);
void pipeline_free(struct pipeline *pipeline, pipeline_drop_fn *drop);

#endif
