/* Slices through the pipeline: all of them, once, in order, whoever is fast or slow; and nobody is
 * left asleep. A thread that nobody wakes makes a test hang, which alarm() ends. */
#include "tests/unit/tmpdir.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/rand.h"
#include "snapshots/pipeline.h"

enum { LEVEL = 1, DEADLINE_S = 50, LEN = 40 * 1024, LONG = 300 };

static const int thread_counts[] = {1, 2, 3, 5};

struct taker {
    struct pipeline *pipeline;
    uint64_t taken;
    uint64_t not_given; /* of these */
    uint64_t fail_at;   /* as the taker's own failure, at this or up to two later; 0: never */
    uint64_t failed_at;
    bool slow;
};

/* What slice number INDEX holds. Every third is of zeroes. */
static void fill(uint64_t index, char *plain)
{
    memset(plain, 0, LEN);
    if (index % 3 != 0)
        snprintf(plain, LEN, "slice %ju", (uintmax_t)index);
}

static void pause_at_random(void)
{
    const struct timespec pause = {.tv_nsec = (long)rand_below(200000)};

    if (rand_below(4) == 0)
        nanosleep(&pause, NULL);
}

static void check_slice(const struct piece *piece)
{
    char want[LEN];
    uint8_t hash[SLICE_HASH_SIZE];

    fill(piece->index, want);
    if (piece->key != NULL && !piece->same)
        slice_hash(piece->frame, piece->stored, hash);
    else
        slice_hash(want, LEN, hash);
    OGEL_CHECK(piece->zero == (piece->index % 3 == 0));
    OGEL_CHECK(piece->zero || memcmp(piece->hash, hash, SLICE_HASH_SIZE) == 0);
    OGEL_CHECK(piece->zero || piece->same == (piece->index % 4 > 1));
}

static void *take_all(void *arg)
{
    const struct err failure = {.code = ERR_NO_SPACE, .text = "the store is full"};
    struct taker *taker = arg;
    struct piece *piece;

    while ((piece = pipeline_next(taker->pipeline)) != NULL) {
        taker->taken += piece->same_before;
        taker->not_given += piece->same_before;
        OGEL_CHECK(piece->index == taker->taken);
        if (!piece->ends_file) {
            check_slice(piece);
            taker->taken++;
        }
        if (taker->slow)
            pause_at_random();
        pipeline_release(taker->pipeline, piece);
        if (taker->fail_at != 0 && taker->taken >= taker->fail_at) {
            pipeline_fail(taker->pipeline, &failure);
            taker->fail_at = 0;
            taker->failed_at = taker->taken;
        }
    }
    return NULL;
}

/* What PIECE was in the parent: the same, or with OTHER something else. */
static void give_old(struct tagger *tagger, struct piece *piece, bool other)
{
    static const uint8_t key[SLICE_KEY_SIZE] = {1, 2, 3};

    piece->key = key;
    piece->has_old = true;
    slice_hash(piece->plain, LEN, piece->old_hash);
    slice_tag(tagger, key, piece->plain, LEN, piece->old_tag);
    piece->old_hash[0] ^= other;
    piece->old_tag[0] ^= other;
}

/* Fills COUNT slices; returns how many were wanted. Of those that are as in the parent it keeps
 * some. */
static uint64_t fill_all(struct pipeline *pipeline, uint64_t count, bool slow)
{
    struct tagger *tagger = tagger_new();
    struct piece *piece = NULL;

    for (uint64_t i = 0; i <= count; i++) {
        if (piece == NULL && (piece = pipeline_take(pipeline)) == NULL) {
            tagger_free(tagger);
            return i;
        }
        piece->index = i;
        piece->ends_file = i == count;
        piece->len = LEN;
        fill(i, piece->plain);
        piece->key = NULL;
        piece->has_old = false;
        if (i % 4 != 0)
            give_old(tagger, piece, i % 4 == 1);
        if (slow)
            pause_at_random();
        if (i < count && i % 4 != 0 && rand_below(3) > 0 && pipeline_is_same(pipeline, piece)) {
            piece->same_before++;
            continue;
        }
        pipeline_give(pipeline, piece);
        piece = NULL;
        while (rand_below(4) == 0 && pipeline_help(pipeline))
            continue;
    }
    pipeline_finish(pipeline);
    tagger_free(tagger);
    return count;
}

static uint64_t go(int threads, uint64_t count, bool slow_filler, struct taker *taker)
{
    pthread_t thread;
    uint64_t filled;

    assert_int_equal(pipeline_new(threads, LEVEL, &taker->pipeline, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, take_all, taker), 0);
    filled = fill_all(taker->pipeline, count, slow_filler);
    pthread_join(thread, NULL);
    return filled;
}

static void test_pipeline__any_number_of_slices__come_once_and_in_order(void **state)
{
    (void)state;
    for (size_t t = 0; t < OGEL_ARRAY_LEN(thread_counts); t++) {
        for (uint64_t count = 0; count < 100; count += 1 + count / 20) {
            struct taker taker = {0};

            assert_int_equal(go(thread_counts[t], count, false, &taker), count);
            assert_int_equal(taker.taken, count);
            assert_false(pipeline_failed(taker.pipeline, NULL));
            pipeline_free(taker.pipeline, NULL);
        }
    }
}

static void test_pipeline__whoever_is_slow__nobody_is_left_asleep(void **state)
{
    (void)state;
    for (size_t t = 0; t < OGEL_ARRAY_LEN(thread_counts); t++) {
        for (int slow = 0; slow < 4; slow++) {
            struct taker taker = {.slow = (slow & 1) != 0};

            assert_int_equal(go(thread_counts[t], LONG, (slow & 2) != 0, &taker), LONG);
            assert_int_equal(taker.taken, LONG);
            assert_true(taker.not_given > 0);
            pipeline_free(taker.pipeline, NULL);
        }
    }
}

static void test_pipeline__that_fails__wakes_all_and_keeps_the_first_error(void **state)
{
    const struct err later = {.code = ERR_IO, .text = "later"};
    struct err err = {0};

    (void)state;
    for (size_t t = 0; t < OGEL_ARRAY_LEN(thread_counts); t++) {
        struct taker taker = {.fail_at = 50};

        assert_true(go(thread_counts[t], LONG, false, &taker) < LONG);
        assert_in_range(taker.failed_at, 50, 52);
        assert_int_equal(taker.taken, taker.failed_at); /* nothing is given out from then on */
        pipeline_fail(taker.pipeline, &later);
        assert_true(pipeline_failed(taker.pipeline, &err));
        assert_int_equal(err.code, ERR_NO_SPACE);
        pipeline_free(taker.pipeline, NULL);
    }
}

/* One slice through a pipeline; what it became, but for its buffers. */
static struct piece one(const struct piece *given)
{
    struct pipeline *pipeline;
    struct piece *piece, made;

    assert_int_equal(pipeline_new(1, LEVEL, &pipeline, NULL), 0);
    piece = pipeline_take(pipeline);
    fill(1, piece->plain);
    piece->len = LEN;
    piece->key = given->key;
    piece->has_old = given->has_old;
    memcpy(piece->old_hash, given->old_hash, SLICE_HASH_SIZE);
    memcpy(piece->old_tag, given->old_tag, SLICE_TAG_SIZE);
    pipeline_give(pipeline, piece);
    pipeline_finish(pipeline);
    made = *pipeline_next(pipeline);
    pipeline_free(pipeline, NULL);
    return made;
}

static void test_pipeline__slice_that_has_the_parents_tag__is_the_parents(void **state)
{
    static const uint8_t none[SLICE_TAG_SIZE];
    const uint8_t key[SLICE_KEY_SIZE] = {1, 2, 3};
    struct piece given = {.key = key}, first, made;
    uint8_t hash[SLICE_HASH_SIZE];
    char plain[LEN];

    (void)state;
    first = one(&given);
    assert_false(first.same);
    assert_true(first.stored > 0);
    assert_memory_not_equal(first.tag, none, SLICE_TAG_SIZE);

    /* the same tag: its hash in the parent, whatever that is, is taken over */
    given.has_old = true;
    memcpy(given.old_tag, first.tag, SLICE_TAG_SIZE);
    memset(given.old_hash, 7, SLICE_HASH_SIZE);
    made = one(&given);
    assert_true(made.same);
    assert_memory_equal(made.hash, given.old_hash, SLICE_HASH_SIZE);
    assert_memory_equal(made.tag, first.tag, SLICE_TAG_SIZE);

    /* another tag: another slice, also where the hash is the same */
    given.old_tag[SLICE_TAG_SIZE - 1] ^= 1;
    memcpy(given.old_hash, first.hash, SLICE_HASH_SIZE);
    made = one(&given);
    assert_false(made.same);
    assert_memory_equal(made.hash, first.hash, SLICE_HASH_SIZE);

    /* without a key the hash is that of the plain content, and tells */
    fill(1, plain);
    slice_hash(plain, LEN, hash);
    given = (struct piece){.key = NULL};
    made = one(&given);
    assert_false(made.same);
    assert_memory_equal(made.tag, none, SLICE_TAG_SIZE);
    assert_memory_equal(made.hash, hash, SLICE_HASH_SIZE);
    given.has_old = true;
    memcpy(given.old_hash, hash, SLICE_HASH_SIZE);
    assert_true(one(&given).same);
}

static void count_drop(void *file)
{
    ++*(int *)file;
}

static void test_pipeline__ended_early__gives_back_each_file_that_nobody_took(void **state)
{
    struct pipeline *pipeline;
    int dropped = 0;

    (void)state;
    assert_int_equal(pipeline_new(2, LEVEL, &pipeline, NULL), 0);
    for (int i = 0; i < 6; i++) {
        struct piece *piece = pipeline_take(pipeline);

        piece->ends_file = i % 2 == 1;
        piece->file = &dropped;
        piece->len = LEN;
        fill((uint64_t)i, piece->plain);
        pipeline_give(pipeline, piece);
    }
    pipeline_free(pipeline, count_drop);
    assert_int_equal(dropped, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipeline__any_number_of_slices__come_once_and_in_order),
        cmocka_unit_test(test_pipeline__whoever_is_slow__nobody_is_left_asleep),
        cmocka_unit_test(test_pipeline__that_fails__wakes_all_and_keeps_the_first_error),
        cmocka_unit_test(test_pipeline__slice_that_has_the_parents_tag__is_the_parents),
        cmocka_unit_test(test_pipeline__ended_early__gives_back_each_file_that_nobody_took),
    };

    alarm(DEADLINE_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
