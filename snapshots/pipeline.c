#include "snapshots/pipeline.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Enough that the server's stream and the workers seldom wait for each other: with 8 slots a thread
 * two cores stood idle for a seventh of the time. In all they take 64 MiB at most. */
enum { SLOTS_PER_THREAD = 32, SLOTS_MAX = 256, THREADS_MAX = 64 };

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FILLED, SLOT_WORKING, SLOT_READY, SLOT_TAKEN };

struct slot {
    struct piece piece; /* first: a piece is its slot */
    enum slot_state state;
};

/* The slots are a ring: piece number n is in slot n modulo their count. */
struct pipeline {
    pthread_mutex_t lock;
    pthread_cond_t freed, filled, ready;
    struct slot *slots;
    uint64_t slot_count;
    uint64_t next_fill, next_work, next_take;
    uint64_t ready_count, free_count; /* slots in that state */
    uint64_t batch;                   /* see below */
    bool finished, failed;
    struct err err;
    int level;
    pthread_t threads[THREADS_MAX];
    int thread_count;
    struct codec *codec; /* of the filler, */
    struct tagger *tagger;
    struct slot *begun; /* … what it has begun to encode, and how much of it is done */
    size_t begun_len;
};

/* To wake a thread for each slice would cost about as much as to hash it. So who waits is woken for
 * a batch: a worker for as many filled slots, the taker for as many ready ones, the filler for
 * twice as many free ones. Nobody waits for ever: slots go through the ring in order, and while the
 * filler waits, all four batches of it are filled or ready; too few filled ones leave enough ready
 * ones, and once these are taken enough are free. Once all has been filled, each slot counts. */
enum { BATCHES = 4, BATCHES_FREE = 2 };

static struct slot *slot_of(struct pipeline *pipeline, uint64_t number)
{
    return &pipeline->slots[number % pipeline->slot_count];
}

/* --- workers -------------------------------------------------------------------------------- */

/* What needs neither the hash nor a frame: false if this slice needs both. The tag alone tells that
 * one is the parent's; to hash it would cost several times as much. */
static bool look_at(struct tagger *tagger, struct piece *piece)
{
    piece->same = false;
    piece->stored = 0;
    piece->zero = slice_is_zero(piece->plain, piece->len);
    memset(piece->hash, 0, SLICE_HASH_SIZE);
    memset(piece->tag, 0, SLICE_TAG_SIZE);
    if (piece->zero)
        return true;
    if (piece->key == NULL)
        return false;
    slice_tag(tagger, piece->key, piece->plain, piece->len, piece->tag);
    piece->same = piece->has_old && memcmp(piece->tag, piece->old_tag, SLICE_TAG_SIZE) == 0;
    if (piece->same)
        memcpy(piece->hash, piece->old_hash, SLICE_HASH_SIZE);
    return piece->same;
}

void piece_encode(struct piece *piece, struct codec *codec)
{
    piece->stored = codec_encode(codec, piece->plain, piece->len, piece->frame);
    if (piece->key != NULL)
        slice_hash(piece->frame, piece->stored, piece->hash);
    else
        slice_hash(piece->plain, piece->len, piece->hash);
}

static void hash_and_encode(struct codec *codec, struct piece *piece)
{
    if (piece->key == NULL && piece->has_old) {
        slice_hash(piece->plain, piece->len, piece->hash);
        piece->same = memcmp(piece->hash, piece->old_hash, SLICE_HASH_SIZE) == 0;
    }
    if (!piece->same)
        piece_encode(piece, codec);
}

static void made_ready(struct pipeline *pipeline, struct slot *slot)
{
    slot->state = SLOT_READY;
    if (++pipeline->ready_count >= pipeline->batch || pipeline->finished)
        pthread_cond_signal(&pipeline->ready);
}

/* The next slot that is filled, in state SLOT_WORKING from now on; NULL if there is none. */
static struct slot *next_filled(struct pipeline *pipeline)
{
    struct slot *slot = slot_of(pipeline, pipeline->next_work);

    if (pipeline->next_work == pipeline->next_fill || slot->state != SLOT_FILLED)
        return NULL;
    pipeline->next_work++;
    slot->state = SLOT_WORKING;
    return slot;
}

/* With the lock held, which is given up meanwhile; false if there is nothing to do. */
static bool work(struct pipeline *pipeline, struct codec *codec, struct tagger *tagger)
{
    struct slot *slot = next_filled(pipeline);
    struct piece *piece;

    if (slot == NULL)
        return false;
    piece = &slot->piece;
    if (!piece->ends_file) {
        pthread_mutex_unlock(&pipeline->lock);
        if (piece->looked_at ? !piece->zero : !look_at(tagger, piece))
            hash_and_encode(codec, piece);
        pthread_mutex_lock(&pipeline->lock);
    }
    made_ready(pipeline, slot);
    return true;
}

static void *worker(void *arg)
{
    struct pipeline *pipeline = arg;
    struct codec *codec = codec_new(pipeline->level);
    struct tagger *tagger = tagger_new();

    pthread_mutex_lock(&pipeline->lock);
    while (!pipeline->failed) {
        if (work(pipeline, codec, tagger))
            continue;
        if (pipeline->finished)
            break;
        pthread_cond_wait(&pipeline->filled, &pipeline->lock);
    }
    pthread_mutex_unlock(&pipeline->lock);
    tagger_free(tagger);
    codec_free(codec);
    return NULL;
}

int pipeline_new(int threads, int level, struct pipeline **out, struct err *err)
{
    struct pipeline *pipeline = xcalloc(1, sizeof(*pipeline));

    OGEL_CHECK(threads > 0 && threads <= THREADS_MAX);
    pthread_mutex_init(&pipeline->lock, NULL);
    pthread_cond_init(&pipeline->freed, NULL);
    pthread_cond_init(&pipeline->filled, NULL);
    pthread_cond_init(&pipeline->ready, NULL);
    pipeline->level = level;
    pipeline->codec = codec_new(level);
    pipeline->tagger = tagger_new();
    pipeline->slot_count = (uint64_t)threads * SLOTS_PER_THREAD;
    if (pipeline->slot_count > SLOTS_MAX)
        pipeline->slot_count = SLOTS_MAX;
    pipeline->free_count = pipeline->slot_count;
    pipeline->batch = pipeline->slot_count / BATCHES;
    pipeline->slots = xcalloc(pipeline->slot_count, sizeof(pipeline->slots[0]));
    for (uint64_t i = 0; i < pipeline->slot_count; i++) {
        pipeline->slots[i].piece.plain = xmalloc(SLICE_SIZE);
        pipeline->slots[i].piece.frame = xmalloc(FRAME_MAX);
    }
    for (; pipeline->thread_count < threads; pipeline->thread_count++) {
        int errnum = pthread_create(&pipeline->threads[pipeline->thread_count], NULL, worker,
                                    pipeline);

        if (errnum != 0) {
            err_set_errno(err, errnum, "cannot start a thread");
            pipeline_free(pipeline, NULL);
            return -1;
        }
    }
    *out = pipeline;
    return 0;
}

bool pipeline_can_tag(const struct pipeline *pipeline)
{
    return pipeline->tagger != NULL;
}

/* --- who fills ------------------------------------------------------------------------------ */

/* With the lock held. A slice that the filler has looked at is not the parent's: all that is left
 * is to encode it. */
static bool begin_to_encode(struct pipeline *pipeline)
{
    struct slot *slot = next_filled(pipeline);

    if (slot == NULL)
        return false;
    if (slot->piece.zero) {
        made_ready(pipeline, slot);
        return true;
    }
    pipeline->begun = slot;
    pipeline->begun_len = slot->piece.stored = 0;
    return true;
}

static void encode_step(struct pipeline *pipeline)
{
    struct slot *slot = pipeline->begun;
    struct piece *piece = &slot->piece;

    if (!codec_encode_step(pipeline->codec, piece->plain, piece->len, piece->frame,
                           &pipeline->begun_len, &piece->stored))
        return;
    slice_hash(piece->frame, piece->stored, piece->hash);
    pipeline->begun = NULL;
    pthread_mutex_lock(&pipeline->lock);
    made_ready(pipeline, slot);
    pthread_mutex_unlock(&pipeline->lock);
}

/* Before the filler waits for others, or goes: they may wait for this. */
static void end_begun(struct pipeline *pipeline)
{
    while (pipeline->begun != NULL)
        encode_step(pipeline);
}

struct piece *pipeline_take(struct pipeline *pipeline)
{
    struct slot *slot;

    pthread_mutex_lock(&pipeline->lock);
    slot = slot_of(pipeline, pipeline->next_fill);
    if (slot->state != SLOT_FREE && pipeline->begun != NULL) {
        pthread_mutex_unlock(&pipeline->lock);
        end_begun(pipeline);
        pthread_mutex_lock(&pipeline->lock);
    }
    while (slot->state != SLOT_FREE && !pipeline->failed)
        pthread_cond_wait(&pipeline->freed, &pipeline->lock);
    if (pipeline->failed)
        slot = NULL;
    else
        slot->state = SLOT_FILLING;
    pipeline->free_count--;
    pthread_mutex_unlock(&pipeline->lock);
    if (slot == NULL)
        return NULL;
    slot->piece.file = NULL;
    slot->piece.index = slot->piece.same_before = 0;
    slot->piece.ends_file = slot->piece.has_old = slot->piece.looked_at = false;
    slot->piece.key = NULL;
    slot->piece.len = 0;
    return &slot->piece;
}

void pipeline_give(struct pipeline *pipeline, struct piece *piece)
{
    struct slot *slot = (struct slot *)piece;

    pthread_mutex_lock(&pipeline->lock);
    slot->state = SLOT_FILLED;
    pipeline->next_fill++;
    if (pipeline->next_fill - pipeline->next_work >= pipeline->batch)
        pthread_cond_signal(&pipeline->filled);
    pthread_mutex_unlock(&pipeline->lock);
}

bool pipeline_is_same(struct pipeline *pipeline, struct piece *piece)
{
    look_at(pipeline->tagger, piece);
    piece->looked_at = !piece->same; /* else it is filled with something else now */
    return piece->same;
}

bool pipeline_help(struct pipeline *pipeline)
{
    bool helped = pipeline->begun != NULL;

    if (helped) {
        encode_step(pipeline);
        return true;
    }
    pthread_mutex_lock(&pipeline->lock);
    if (pipeline->next_fill > pipeline->next_work &&
        slot_of(pipeline, pipeline->next_work)->piece.looked_at)
        helped = begin_to_encode(pipeline);
    else if (pipeline->next_fill - pipeline->next_work >= pipeline->batch)
        helped = work(pipeline, pipeline->codec, pipeline->tagger);
    pthread_mutex_unlock(&pipeline->lock);
    return helped;
}

void pipeline_finish(struct pipeline *pipeline)
{
    end_begun(pipeline);
    pthread_mutex_lock(&pipeline->lock);
    pipeline->finished = true;
    pthread_cond_broadcast(&pipeline->filled);
    pthread_cond_broadcast(&pipeline->ready);
    pthread_mutex_unlock(&pipeline->lock);
}

/* --- who takes ------------------------------------------------------------------------------ */

struct piece *pipeline_next(struct pipeline *pipeline)
{
    struct slot *slot = NULL;

    pthread_mutex_lock(&pipeline->lock);
    while (!pipeline->failed) {
        struct slot *next = slot_of(pipeline, pipeline->next_take);

        if (pipeline->next_take < pipeline->next_fill && next->state == SLOT_READY) {
            slot = next;
            slot->state = SLOT_TAKEN;
            pipeline->ready_count--;
            pipeline->next_take++;
            break;
        }
        if (pipeline->finished && pipeline->next_take == pipeline->next_fill)
            break;
        pthread_cond_wait(&pipeline->ready, &pipeline->lock);
    }
    pthread_mutex_unlock(&pipeline->lock);
    return slot != NULL ? &slot->piece : NULL;
}

void pipeline_release(struct pipeline *pipeline, struct piece *piece)
{
    pthread_mutex_lock(&pipeline->lock);
    ((struct slot *)piece)->state = SLOT_FREE;
    if (++pipeline->free_count >= BATCHES_FREE * pipeline->batch)
        pthread_cond_signal(&pipeline->freed);
    pthread_mutex_unlock(&pipeline->lock);
}

/* --- the end -------------------------------------------------------------------------------- */

void pipeline_fail(struct pipeline *pipeline, const struct err *err)
{
    pthread_mutex_lock(&pipeline->lock);
    if (!pipeline->failed)
        pipeline->err = *err;
    pipeline->failed = true;
    pthread_cond_broadcast(&pipeline->freed);
    pthread_cond_broadcast(&pipeline->filled);
    pthread_cond_broadcast(&pipeline->ready);
    pthread_mutex_unlock(&pipeline->lock);
}

bool pipeline_failed(struct pipeline *pipeline, struct err *err)
{
    bool failed;

    pthread_mutex_lock(&pipeline->lock);
    failed = pipeline->failed;
    if (failed && err != NULL)
        *err = pipeline->err;
    pthread_mutex_unlock(&pipeline->lock);
    return failed;
}

void pipeline_free(struct pipeline *pipeline, pipeline_drop_fn *drop)
{
    const struct err ended = {.code = ERR_INTERNAL, .text = "the pipeline was ended"};

    if (pipeline == NULL)
        return;
    pipeline_fail(pipeline, &ended);
    for (int i = 0; i < pipeline->thread_count; i++)
        pthread_join(pipeline->threads[i], NULL);
    for (uint64_t i = 0; i < pipeline->slot_count; i++) {
        struct slot *slot = &pipeline->slots[i];

        if (drop != NULL && slot->piece.ends_file &&
            (slot->state == SLOT_FILLED || slot->state == SLOT_READY))
            drop(slot->piece.file);
        free(slot->piece.plain);
        free(slot->piece.frame);
    }
    free(pipeline->slots);
    codec_free(pipeline->codec);
    tagger_free(pipeline->tagger);
    pthread_mutex_destroy(&pipeline->lock);
    pthread_cond_destroy(&pipeline->freed);
    pthread_cond_destroy(&pipeline->filled);
    pthread_cond_destroy(&pipeline->ready);
    free(pipeline);
}
