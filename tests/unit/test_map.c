/* Maps: the same slices give the same bytes, and bytes that make no sense are no map. */
#include "tests/unit/tmpdir.h"

#include "snapshots/bytes.h"
#include "snapshots/map.h"

#define FIRST  "20260203T040506Z-00000001"
#define SECOND "20260204T040506Z-00000002"

enum { AT_VERSION = 8, AT_PACKS = 12, AT_COUNT = 16, AT_NAMES = 20 };

static void fill_as(struct map *map, bool tagged)
{
    const uint8_t tag[SLICE_TAG_SIZE] = {4, 5, 6};
    uint8_t hash[SLICE_HASH_SIZE] = {1, 2, 3};

    *map = (struct map){.tagged = tagged, .key = {7, 8}};
    map_add(map, FIRST, 7, 0, 100, hash, tag);
    map_add(map, NULL, 0, 0, 0, NULL, NULL);
    map_add(map, SECOND, 7, 4096, 200, hash, tag);
    hash[0] = 9;
    map_add(map, FIRST, 7, 100, 300, hash, tag);
    map_add(map, FIRST, 8, 0, FRAME_MAX, hash, tag);
}

static void fill(struct map *map)
{
    fill_as(map, false);
}

enum { SLICES = 5, PACKS = 3 };

static void test_map__slices_of_several_packs__come_back(void **state)
{
    struct map map, back;
    char *data;
    size_t len;

    (void)state;
    fill(&map);
    assert_int_equal(map.pack_count, PACKS);
    data = map_encode(&map, &len);
    assert_int_equal(map_decode(data, len, SLICES, &back, NULL), 0);
    assert_int_equal(back.slice_count, SLICES);
    assert_int_equal(back.pack_count, PACKS);
    assert_string_equal(back.packs[1].snapshot, SECOND);
    assert_int_equal(back.slices[1].stored, 0);
    assert_int_equal(back.slices[3].pack, 0);
    assert_int_equal(back.slices[3].offset, 100);
    assert_int_equal(back.slices[3].hash[0], 9);
    map_free(&back);
    map_free(&map);
    free(data);
}

static void test_map__with_tags__gives_them_and_their_key_back(void **state)
{
    const uint8_t none[SLICE_TAG_SIZE] = {0};
    struct map map, back;
    char *data;
    size_t len;

    (void)state;
    fill_as(&map, true);
    data = map_encode(&map, &len);
    assert_int_equal(map_decode(data, len, SLICES, &back, NULL), 0);
    assert_true(back.tagged);
    assert_memory_equal(back.key, map.key, SLICE_KEY_SIZE);
    for (int i = 0; i < SLICES; i++) {
        assert_memory_equal(back.slices[i].tag, map.slices[i].tag, SLICE_TAG_SIZE);
        assert_int_equal(back.slices[i].tag[0], i == 1 ? 0 : 4);
        assert_int_equal(back.slices[i].offset, map.slices[i].offset);
    }
    assert_memory_equal(back.slices[1].tag, none, SLICE_TAG_SIZE);
    map_free(&back);
    map_free(&map);
    free(data);

    fill(&map);
    data = map_encode(&map, &len);
    assert_int_equal(map_decode(data, len, SLICES, &back, NULL), 0);
    assert_false(back.tagged);
    map_free(&back);
    map_free(&map);
    free(data);
}

static void test_map__of_an_empty_file__is_one(void **state)
{
    struct map map = {0}, back;
    size_t len;
    char *data = map_encode(&map, &len);

    (void)state;
    assert_int_equal(map_decode(data, len, 0, &back, NULL), 0);
    assert_int_equal(back.slice_count, 0);
    map_free(&back);
    free(data);
}

static void test_map__the_same_slices__have_the_same_digest_and_others_another(void **state)
{
    uint8_t digests[3][MAP_DIGEST_SIZE];
    struct map map;
    char *data;
    size_t len;

    (void)state;
    for (int i = 0; i < 3; i++) {
        fill(&map);
        map.slices[0].offset = i == 2;
        data = map_encode(&map, &len);
        map_digest(data, len, digests[i]);
        free(data);
        map_free(&map);
    }
    assert_memory_equal(digests[0], digests[1], MAP_DIGEST_SIZE);
    assert_memory_not_equal(digests[0], digests[2], MAP_DIGEST_SIZE);
}

static void refused(const char *data, size_t len, enum err_code code)
{
    struct err err = {0};
    struct map map;

    assert_int_equal(map_decode(data, len, SLICES, &map, &err), -1);
    assert_int_equal(err.code, code);
    assert_null(map.slices);
}

static void test_map__cut_anywhere_or_longer__is_refused(void **state)
{
    struct map map;
    size_t len;
    char *data, *longer;

    (void)state;
    for (int tagged = 0; tagged < 2; tagged++) {
        fill_as(&map, tagged != 0);
        data = map_encode(&map, &len);
        for (size_t cut = 0; cut < len; cut++)
            refused(data, cut, ERR_CORRUPT);
        longer = xcalloc(1, len + 1);
        memcpy(longer, data, len);
        refused(longer, len + 1, ERR_CORRUPT);
        free(longer);
        /* of the other of the two versions, which has another length */
        bytes_put_u32(data + AT_VERSION, tagged ? 1 : 2);
        refused(data, len, ERR_CORRUPT);
        free(data);
        map_free(&map);
    }
}

static void test_map__zero_slice_with_a_tag__is_refused(void **state)
{
    struct map map;
    size_t len;
    char *data;

    (void)state;
    fill_as(&map, true);
    data = map_encode(&map, &len);
    data[AT_NAMES + SLICE_KEY_SIZE + PACKS * 32 + 2 * (28 + SLICE_TAG_SIZE) - 1] = 1;
    refused(data, len, ERR_CORRUPT);
    free(data);
    map_free(&map);
}

static void test_map__of_a_newer_version__says_so(void **state)
{
    struct err err = {0};
    struct map map, back;
    char *data;
    size_t len;

    (void)state;
    fill(&map);
    data = map_encode(&map, &len);
    bytes_put_u32(data + AT_VERSION, MAP_VERSION + 1);
    assert_int_equal(map_decode(data, len, SLICES, &back, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "newer"));
    free(data);
    map_free(&map);
}

static void test_map__with_another_number_of_slices_than_the_file__is_refused(void **state)
{
    struct err err = {0};
    struct map map, back;
    char *data;
    size_t len;

    (void)state;
    fill(&map);
    data = map_encode(&map, &len);
    assert_int_equal(map_decode(data, len, SLICES + 1, &back, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    free(data);
    map_free(&map);
}

/* Each field with a value that it cannot have. */
static void test_map__field_out_of_its_range__is_refused(void **state)
{
    const size_t slices = AT_NAMES + PACKS * 32;
    const struct {
        size_t at;
        uint32_t value;
    } wrong[] = {
        {0, 0},                          /* magic */
        {AT_VERSION, 0},                 /* version */
        {AT_PACKS, PACKS - 1},           /* and so a length that does not fit */
        {AT_PACKS, 0xffffffff},          /* */
        {AT_COUNT, 0xffffffff},          /* */
        {AT_NAMES, 0x2f2e2e2f},          /* a name "/../" */
        {AT_NAMES + 25, 1},              /* behind a name */
        {slices, 1},                     /* the first slice is not of the first pack */
        {slices + 8, FRAME_MAX + 1},     /* longer than a frame can be */
        {slices + 8, 0},                 /* of zeroes, but with a hash */
        {slices + 28, 1},                /* of zeroes, but in a pack */
        {slices + 28 + 4, 1},            /* of zeroes, but at a place */
        {slices + 2 * 28, PACKS},        /* in no pack */
        {slices + 3 * 28 + 4, PACK_MAX}, /* behind a pack's end */
        {slices + 4 * 28, 0},            /* a pack that nothing is in */
    };
    struct map map;
    char *data;
    size_t len;

    (void)state;
    fill(&map);
    data = map_encode(&map, &len);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(wrong); i++) {
        char saved[4];

        memcpy(saved, data + wrong[i].at, 4);
        bytes_put_u32(data + wrong[i].at, wrong[i].value);
        refused(data, len, ERR_CORRUPT);
        memcpy(data + wrong[i].at, saved, 4);
    }
    free(data);
    map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map__slices_of_several_packs__come_back),
        cmocka_unit_test(test_map__with_tags__gives_them_and_their_key_back),
        cmocka_unit_test(test_map__of_an_empty_file__is_one),
        cmocka_unit_test(test_map__the_same_slices__have_the_same_digest_and_others_another),
        cmocka_unit_test(test_map__cut_anywhere_or_longer__is_refused),
        cmocka_unit_test(test_map__zero_slice_with_a_tag__is_refused),
        cmocka_unit_test(test_map__of_a_newer_version__says_so),
        cmocka_unit_test(test_map__with_another_number_of_slices_than_the_file__is_refused),
        cmocka_unit_test(test_map__field_out_of_its_range__is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
