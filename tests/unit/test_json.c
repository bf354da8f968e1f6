#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/units.h"

static json_t *parse(const char *text)
{
    json_t *json;
    struct err err;

    if (json_parse_bounded(text, strlen(text), 4, &json, &err) < 0)
        fail_msg("%s", err.text);
    return json;
}

static void test_json__deeper_than_the_bound__is_refused(void **state)
{
    json_t *json;
    struct err err;

    (void)state;
    json_decref(parse("[[[[1]]]]"));
    json_decref(parse("{\"a\":\"[[[[[\\\"[\",\"b\":[[],[],[]]}"));
    assert_int_equal(json_parse_bounded("[[[[[1]]]]]", 11, 4, &json, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.text, "JSON is nested too deep (allowed: 4 levels)");
    assert_null(json);
}

static void test_json__anything_but_one_strict_value__is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,\"a\":2}",
                                      "{} {}",
                                      "{\"a\":}",
                                      "\"\xff\"",
                                      "{'a':1}",
                                      "[1,]",
                                      "nul",
                                      "\"\\u0000\"",
                                      "99999999999999999999"};
    json_t *json;
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bad); i++) {
        assert_int_equal(json_parse_bounded(bad[i], strlen(bad[i]), 4, &json, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(json);
    }
    assert_int_equal(json_parse_bounded("{}\0{}", 5, 4, &json, &err), -1);
}

/* Larger than what is set aside for it, malformed, and small again: one after the other. */
static void test_json__scratch__reads_what_fits_and_what_does_not(void **state)
{
    enum { MANY = 20000 };
    const json_t *json;
    struct err err;
    char *large = xmalloc(MANY * 8), *at = large;

    (void)state;
    at += sprintf(at, "[\"0\"");
    for (int i = 1; i < MANY; i++)
        at += sprintf(at, ",\"%d\"", i);
    sprintf(at, "]");
    for (int round = 0; round < 3; round++) {
        assert_int_equal(json_parse_scratch("{\"a\":[7]}", 9, 4, &json, &err), 0);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(json, "a"), 0)), 7);
        json_scratch_done(json);
        assert_int_equal(json_parse_scratch(large, strlen(large), 4, &json, &err), 0);
        assert_int_equal(json_array_size(json), MANY);
        assert_string_equal(json_string_value(json_array_get(json, MANY - 1)), "19999");
        json_scratch_done(json);
        assert_int_equal(json_parse_scratch(large, strlen(large) - 1, 4, &json, &err), -1);
        assert_null(json);
        json_scratch_done(json);
        json_decref(parse("[[\"of malloc()\"]]"));
    }
    free(large);
}

static void test_json__fields__are_read_by_type(void **state)
{
    static const char *const roles[] = {"leader", "follower", NULL};
    json_t *obj = parse("{\"i\":-5,\"u\":4294967295,\"b\":true,\"s\":\"abc\",\"e\":\"follower\","
                        "\"l\":\"1/A\",\"h\":\"x:5\",\"o\":{},\"a\":[1,2]}");
    const json_t *value;
    struct units_address address;
    int64_t i;
    uint32_t u;
    uint64_t lsn;
    bool b;
    char s[4];
    int e;

    (void)state;
    assert_int_equal(json_field_int(obj, "i", JSON_REQUIRED, -5, 5, &i, NULL), 0);
    assert_true(i == -5);
    assert_int_equal(json_field_u32(obj, "u", JSON_REQUIRED, &u, NULL), 0);
    assert_true(u == UINT32_MAX);
    assert_int_equal(json_field_bool(obj, "b", JSON_REQUIRED, &b, NULL), 0);
    assert_true(b);
    assert_int_equal(json_field_string(obj, "s", JSON_REQUIRED, s, sizeof(s), NULL), 0);
    assert_string_equal(s, "abc");
    assert_int_equal(json_field_enum(obj, "e", JSON_REQUIRED, roles, &e, NULL), 0);
    assert_int_equal(e, 1);
    assert_int_equal(json_field_lsn(obj, "l", JSON_REQUIRED, &lsn, NULL), 0);
    assert_true(lsn == UINT64_C(0x10000000A));
    assert_int_equal(json_field_address(obj, "h", JSON_REQUIRED, &address, NULL), 0);
    assert_int_equal(address.port, 5);
    assert_int_equal(json_field_object(obj, "o", JSON_REQUIRED, &value, NULL), 0);
    assert_true(json_is_object(value));
    assert_int_equal(json_field_array(obj, "a", JSON_REQUIRED, 2, &value, NULL), 0);
    assert_int_equal(json_array_size(value), 2);
    json_decref(obj);
}

static void test_json__wrong_fields__are_named_with_what_is_expected(void **state)
{
    static const char *const roles[] = {"leader", "follower", NULL};
    json_t *obj = parse("{\"generation\":-1,\"big\":4294967296,\"text\":\"abc\",\"real\":1.5}");
    const json_t *value;
    struct units_address address;
    uint32_t u = 7;
    uint64_t lsn;
    bool b;
    char s[3] = "x";
    int e;
    struct err err;

    (void)state;
    assert_int_equal(json_field_u32(obj, "generation", JSON_REQUIRED, &u, &err), -1);
    assert_string_equal(err.text, "field \"generation\": expected integer 0..4294967295");
    assert_int_equal(json_field_u32(obj, "big", JSON_OPTIONAL, &u, &err), -1);
    assert_int_equal(json_field_u32(obj, "real", JSON_REQUIRED, &u, &err), -1);
    assert_int_equal(json_field_u32(obj, "text", JSON_REQUIRED, &u, &err), -1);
    assert_int_equal(u, 7);
    assert_int_equal(json_field_bool(obj, "text", JSON_REQUIRED, &b, &err), -1);
    assert_string_equal(err.text, "field \"text\": expected true or false");
    assert_int_equal(json_field_string(obj, "text", JSON_REQUIRED, s, sizeof(s), &err), -1);
    assert_string_equal(err.text, "field \"text\": expected string of at most 2 bytes");
    assert_string_equal(s, "x");
    assert_int_equal(json_field_enum(obj, "text", JSON_REQUIRED, roles, &e, &err), -1);
    assert_string_equal(err.text, "field \"text\": expected one of leader, follower");
    assert_int_equal(json_field_lsn(obj, "text", JSON_REQUIRED, &lsn, &err), -1);
    assert_string_equal(err.text, "field \"text\": expected WAL position like \"0/3000148\"");
    assert_int_equal(json_field_address(obj, "text", JSON_REQUIRED, &address, &err), -1);
    assert_int_equal(json_field_object(obj, "text", JSON_REQUIRED, &value, &err), -1);
    assert_string_equal(err.text, "field \"text\": expected object");
    assert_int_equal(json_field_array(obj, "text", JSON_REQUIRED, 1, &value, &err), -1);
    assert_string_equal(err.text, "field \"text\": expected array of at most 1 items");
    json_decref(obj);
}

static void test_json__missing_or_null__only_where_optional(void **state)
{
    json_t *obj = parse("{\"n\":null}");
    const json_t *value;
    uint32_t u = 7;
    struct err err;

    (void)state;
    assert_int_equal(json_field_u32(obj, "n", JSON_OPTIONAL, &u, &err), 0);
    assert_int_equal(json_field_u32(obj, "none", JSON_OPTIONAL, &u, &err), 0);
    assert_int_equal(u, 7);
    value = obj;
    assert_int_equal(json_field_object(obj, "none", JSON_OPTIONAL, &value, &err), 0);
    assert_null(value);
    assert_int_equal(json_field_u32(obj, "none", JSON_REQUIRED, &u, &err), -1);
    assert_string_equal(err.text, "field \"none\": is missing");
    assert_int_equal(json_field_u32(NULL, "none", JSON_OPTIONAL, &u, &err), -1);
    json_decref(obj);
}

static void test_json__array_longer_than_allowed__is_refused(void **state)
{
    json_t *obj = parse("{\"a\":[1,2,3]}");
    const json_t *value;

    (void)state;
    assert_int_equal(json_field_array(obj, "a", JSON_REQUIRED, 2, &value, NULL), -1);
    assert_int_equal(json_field_array(obj, "a", JSON_REQUIRED, 3, &value, NULL), 0);
    json_decref(obj);
}

static void test_json__unknown_field__is_named(void **state)
{
    static const char *const names[] = {"a", "b", NULL};
    json_t *obj = parse("{\"a\":1,\"c\":2}");
    struct err err;

    (void)state;
    assert_int_equal(json_check_fields(obj, names, &err), -1);
    assert_string_equal(err.text, "field \"c\": is unknown");
    json_object_del(obj, "c");
    assert_int_equal(json_check_fields(obj, names, &err), 0);
    json_decref(obj);
}

static void test_json__any_bytes__become_text(void **state)
{
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xc3", "a\xef\xbf\xbd"},                               /* cut off */
        {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xff\xf0\x9f\x98\x80", "\xef\xbf\xbd\xf0\x9f\x98\x80"}, /* four bytes */
        {"\xf4\x90\x80\x80x", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx"},
    };

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        json_t *text = json_text(cases[i][0]);

        assert_string_equal(json_string_value(text), cases[i][1]);
        json_decref(text);
    }
    assert_true(json_is_null(json_text(NULL)));
}

static void test_json__dump__is_one_line(void **state)
{
    json_t *obj = json_pack("{s:o,s:s}", "lsn", json_lsn(0x3000148), "text", "a\nb");
    char *line = json_dump_line(obj);

    (void)state;
    assert_string_equal(line, "{\"lsn\":\"0/3000148\",\"text\":\"a\\nb\"}");
    free(line);
    json_decref(obj);
}

static void test_sealed__line__comes_back_without_its_sum(void **state)
{
    json_t *object = json_pack("{s:s,s:i}", "text", "a \"b\" \xc3\xa9\n", "n", 7), *back;
    char *line = json_dump_sealed(object);

    (void)state;
    assert_int_equal(json_parse_sealed(line, strlen(line), 4, &back, NULL), 0);
    assert_true(json_equal(object, back));
    json_decref(back);
    json_decref(object);
    free(line);
}

static void test_sealed__any_flipped_bit_or_length__is_corrupt(void **state)
{
    json_t *object = json_pack("{s:s,s:i}", "text", "some", "n", 7), *back;
    char *line = json_dump_sealed(object);
    size_t len = strlen(line);
    struct err err;

    (void)state;
    for (size_t bit = 0; bit < 8 * len; bit++) {
        line[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(json_parse_sealed(line, len, 4, &back, &err), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        line[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(json_parse_sealed(line, cut, 4, &back, NULL), -1);
    free(line);
    json_decref(object);
}

/* The sum is right, but of something else. */
static void test_sealed__what_is_no_object__is_refused(void **state)
{
    static const char *const bodies[] = {"", "[1", "{\"a\":1,\"sum\":2", "{\"a\":{\"b\":{\"c\":1}"};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(bodies); i++) {
        uint8_t digest[32];
        char hex[17], line[128];
        json_t *back;

        SHA256((const unsigned char *)bodies[i], strlen(bodies[i]), digest);
        snprintf(line, sizeof(line), "%s,\"sum\":\"%s\"}", bodies[i],
                 rand_hex_format(digest, 8, hex));
        assert_int_equal(json_parse_sealed(line, strlen(line), 2, &back, NULL), -1);
        assert_null(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed__line__comes_back_without_its_sum),
        cmocka_unit_test(test_sealed__any_flipped_bit_or_length__is_corrupt),
        cmocka_unit_test(test_sealed__what_is_no_object__is_refused),
        cmocka_unit_test(test_json__deeper_than_the_bound__is_refused),
        cmocka_unit_test(test_json__anything_but_one_strict_value__is_refused),
        cmocka_unit_test(test_json__scratch__reads_what_fits_and_what_does_not),
        cmocka_unit_test(test_json__fields__are_read_by_type),
        cmocka_unit_test(test_json__wrong_fields__are_named_with_what_is_expected),
        cmocka_unit_test(test_json__missing_or_null__only_where_optional),
        cmocka_unit_test(test_json__array_longer_than_allowed__is_refused),
        cmocka_unit_test(test_json__unknown_field__is_named),
        cmocka_unit_test(test_json__any_bytes__become_text),
        cmocka_unit_test(test_json__dump__is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
