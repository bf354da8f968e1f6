/* Slices: what is compressed comes back, and nothing else is taken for it. */
#include "tests/unit/tmpdir.h"

#include "base/rand.h"
#include "snapshots/pack.h"

static struct codec *codec;
static char frame[FRAME_MAX], plain[SLICE_SIZE];

static int setup(void **state)
{
    (void)state;
    codec = codec_new(3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    codec_free(codec);
    return 0;
}

static void test_slices__of_any_size__cover_it_once(void **state)
{
    const uint64_t sizes[] = {0, 1, SLICE_SIZE - 1, SLICE_SIZE, SLICE_SIZE + 1, 3 * SLICE_SIZE};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(sizes); i++) {
        uint64_t sum = 0;

        for (uint64_t n = 0; n < slice_count(sizes[i]); n++) {
            assert_true(slice_len(sizes[i], n) > 0);
            sum += slice_len(sizes[i], n);
        }
        assert_int_equal(sum, sizes[i]);
        assert_int_equal(slice_len(sizes[i], slice_count(sizes[i])), 0);
    }
}

static void test_slice__one_byte_set_anywhere__is_not_zero(void **state)
{
    static char zeroes[4099];

    (void)state;
    assert_true(slice_is_zero(zeroes, sizeof(zeroes)));
    for (size_t i = 0; i < sizeof(zeroes); i++) {
        zeroes[i] = 1;
        assert_false(slice_is_zero(zeroes, sizeof(zeroes)));
        zeroes[i] = 0;
    }
}

static size_t encode_in_steps(const char *data, size_t len)
{
    size_t done = 0, stored = 0, before;

    do {
        before = done;
        assert_true(done < len);
    } while (!codec_encode_step(codec, data, len, frame, &done, &stored));
    assert_true(done == len && done > before);
    return stored;
}

/* At once or in steps, in turn with the same codec; the second kind of content does not compress.
 */
static void test_codec__any_content__comes_back(void **state)
{
    static char data[SLICE_SIZE];
    const size_t sizes[] = {1, 8192, 32768, 32769, SLICE_SIZE - 1, SLICE_SIZE};
    uint8_t hash[SLICE_HASH_SIZE];

    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        if (kind / 2 == 1)
            rand_bytes(data, sizeof(data));
        else
            memset(data, 'x', sizeof(data));
        for (size_t i = 0; i < OGEL_ARRAY_LEN(sizes); i++) {
            size_t stored = kind % 2 == 0 ? codec_encode(codec, data, sizes[i], frame)
                                          : encode_in_steps(data, sizes[i]);

            memset(plain, 0, sizeof(plain));
            slice_hash(data, sizes[i], hash);
            assert_int_equal(codec_decode(codec, frame, stored, hash, false, plain, sizes[i], NULL),
                             0);
            assert_memory_equal(plain, data, sizes[i]);
        }
    }
}

static void test_tag__of_a_text_whose_tag_is_known__is_that(void **state)
{
    static const char text[] = "Cryptographic Forum Research Group"; /* RFC 8439, 2.5.2 */
    uint8_t key[SLICE_KEY_SIZE], want[SLICE_TAG_SIZE], tag[SLICE_TAG_SIZE];
    struct tagger *tagger = tagger_new();

    (void)state;
    assert_int_equal(
        rand_hex_parse("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b", key,
                       sizeof(key), NULL),
        0);
    assert_int_equal(rand_hex_parse("a8061dc1305136c6c22b8baf0c0127a9", want, sizeof(want), NULL),
                     0);
    for (int i = 0; i < 2; i++) { /* a tagger is used many times */
        slice_tag(tagger, key, text, sizeof(text) - 1, tag);
        assert_memory_equal(tag, want, SLICE_TAG_SIZE);
    }
    key[0] ^= 1;
    slice_tag(tagger, key, text, sizeof(text) - 1, tag);
    assert_memory_not_equal(tag, want, SLICE_TAG_SIZE);
    tagger_free(tagger);
}

/* A small page-like slice: every bit of its frame can be tried. */
static size_t small_frame(uint8_t hash[SLICE_HASH_SIZE], size_t *len)
{
    static char data[600];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i % 37 * i);
    *len = sizeof(data);
    slice_hash(data, sizeof(data), hash);
    return codec_encode(codec, data, sizeof(data), frame);
}

static void test_frame__any_flipped_bit__is_noticed_or_changes_nothing(void **state)
{
    uint8_t hash[SLICE_HASH_SIZE], got[SLICE_HASH_SIZE];
    size_t len, stored = small_frame(hash, &len), noticed = 0;

    (void)state;
    for (size_t bit = 0; bit < stored * 8; bit++) {
        struct err err = {0};

        frame[bit / 8] ^= (char)(1 << bit % 8);
        if (codec_decode(codec, frame, stored, hash, false, plain, len, &err) < 0) {
            assert_int_equal(err.code, ERR_CORRUPT);
            noticed++;
        } else {
            slice_hash(plain, len, got);
            assert_memory_equal(got, hash, SLICE_HASH_SIZE);
        }
        frame[bit / 8] ^= (char)(1 << bit % 8);
    }
    /* A few bits of a frame's header mean nothing. */
    assert_true(noticed > stored * 8 - 16);
}

static void test_frame__known_by_its_own_hash__any_flipped_bit_or_cut_is_noticed(void **state)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t len, stored = small_frame(hash, &len);
    struct err err = {0};

    (void)state;
    slice_hash(frame, stored, hash);
    assert_int_equal(codec_decode(codec, frame, stored, hash, true, plain, len, NULL), 0);
    assert_int_equal(codec_decode(codec, frame, stored, hash, true, plain, len - 1, NULL), -1);
    assert_int_equal(codec_decode(codec, frame, stored, hash, false, plain, len, NULL), -1);
    for (size_t cut = 0; cut < stored; cut++)
        assert_int_equal(codec_decode(codec, frame, cut, hash, true, plain, len, NULL), -1);
    for (size_t bit = 0; bit < stored * 8; bit++) {
        frame[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(codec_decode(codec, frame, stored, hash, true, plain, len, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        assert_non_null(strstr(err.text, "hash"));
        frame[bit / 8] ^= (char)(1 << bit % 8);
    }
}

static void test_frame__compressed_wrongly__is_noticed(void **state)
{
    uint8_t hash[SLICE_HASH_SIZE];
    char before;
    size_t len, stored = small_frame(hash, &len);
    struct err err = {0};

    (void)state;
    /* the frame's last four bytes are zstd's sum of what was to be compressed */
    before = frame[stored - 1];
    frame[stored - 1] ^= 1;
    slice_hash(frame, stored, hash);
    assert_int_equal(codec_decode(codec, frame, stored, hash, true, plain, len, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "decompress"));
    frame[stored - 1] = before;
}

static void test_frame__cut_or_longer__is_noticed(void **state)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t len, stored = small_frame(hash, &len);
    struct err err;

    (void)state;
    for (size_t cut = 0; cut < stored; cut++)
        assert_int_equal(codec_decode(codec, frame, cut, hash, false, plain, len, NULL), -1);
    assert_int_equal(codec_decode(codec, frame, stored + 1, hash, false, plain, len, NULL), -1);
    assert_int_equal(codec_decode(codec, frame, stored, hash, false, plain, len - 1, NULL), -1);
    assert_int_equal(codec_decode(codec, frame, stored, hash, false, plain, len + 1, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

static void test_frame__whole_but_another_slices__is_noticed(void **state)
{
    uint8_t hash[SLICE_HASH_SIZE];
    size_t len, stored = small_frame(hash, &len);
    struct err err = {0};

    (void)state;
    hash[SLICE_HASH_SIZE - 1] ^= 1;
    assert_int_equal(codec_decode(codec, frame, stored, hash, false, plain, len, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "hash"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices__of_any_size__cover_it_once),
        cmocka_unit_test(test_slice__one_byte_set_anywhere__is_not_zero),
        cmocka_unit_test(test_codec__any_content__comes_back),
        cmocka_unit_test(test_tag__of_a_text_whose_tag_is_known__is_that),
        cmocka_unit_test(test_frame__any_flipped_bit__is_noticed_or_changes_nothing),
        cmocka_unit_test(test_frame__known_by_its_own_hash__any_flipped_bit_or_cut_is_noticed),
        cmocka_unit_test(test_frame__compressed_wrongly__is_noticed),
        cmocka_unit_test(test_frame__cut_or_longer__is_noticed),
        cmocka_unit_test(test_frame__whole_but_another_slices__is_noticed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
