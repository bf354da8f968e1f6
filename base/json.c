#include "base/json.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "base/units.h"

/* --- parsing -------------------------------------------------------------------------------- */

/* Whether brackets nest deeper than MAX; what is no JSON is left to the parser. */
static bool too_deep(const char *data, size_t len, unsigned max)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = data[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > max)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

int json_parse_bounded(const char *data, size_t len, unsigned max_depth, json_t **json,
                       struct err *err)
{
    json_error_t error;

    *json = NULL;
    if (too_deep(data, len, max_depth))
        return err_set(err, ERR_INVALID, "JSON is nested too deep (allowed: %u levels)", max_depth);
    *json = json_loadb(data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (*json == NULL)
        return err_set(err, ERR_INVALID, "not valid JSON at line %d, column %d: %s", error.line,
                       error.column, error.text);
    return 0;
}

/* --- parsing what is dropped at once -------------------------------------------------------- */

enum { SCRATCH_SIZE = 256 << 10 };

/* What jansson is given while it parses is cut off one large piece. What does not fit comes from
 * malloc() as ever. */
static _Thread_local struct {
    char *memory;
    size_t used;
    bool taken;
    bool open; /* what is asked for now is cut off */
    bool spilled;
} scratch;

static pthread_key_t scratch_key;

static void *scratch_malloc(size_t size)
{
    size_t rounded = (size + 15) & ~(size_t)15;

    if (!scratch.open)
        return malloc(size);
    if (size > SCRATCH_SIZE || rounded > SCRATCH_SIZE - scratch.used) {
        scratch.spilled = true;
        return malloc(size);
    }
    scratch.used += rounded;
    return scratch.memory + scratch.used - rounded;
}

static void scratch_free(void *memory)
{
    uintptr_t at = (uintptr_t)memory, begin = (uintptr_t)scratch.memory;

    if (begin == 0 || at < begin || at >= begin + SCRATCH_SIZE)
        free(memory);
}

/* Before there are threads: jansson does not expect its functions to be changed under it. */
__attribute__((constructor)) static void scratch_setup(void)
{
    OGEL_CHECK(pthread_key_create(&scratch_key, free) == 0);
    json_set_alloc_funcs(scratch_malloc, scratch_free);
}

int json_parse_scratch(const char *data, size_t len, unsigned max_depth, const json_t **json,
                       struct err *err)
{
    json_t *parsed = NULL;
    int rc;

    OGEL_CHECK(!scratch.taken);
    if (scratch.memory == NULL) {
        scratch.memory = xmalloc(SCRATCH_SIZE);
        OGEL_CHECK(pthread_setspecific(scratch_key, scratch.memory) == 0);
    }
    scratch.used = 0;
    scratch.spilled = false;
    scratch.taken = scratch.open = true;
    rc = json_parse_bounded(data, len, max_depth, &parsed, err);
    scratch.open = false;
    *json = parsed;
    return rc;
}

void json_scratch_done(const json_t *json)
{
    if (scratch.spilled)
        json_decref((json_t *)(uintptr_t)json);
    scratch.taken = false;
}

/* --- fields --------------------------------------------------------------------------------- */

enum found { FIELD_BAD = -1, FIELD_ABSENT = 0, FIELD_THERE = 1 };

/* The value of NAME, or what its absence means. */
static enum found find(const json_t *obj, const char *name, enum json_need need,
                       const json_t **value, struct err *err)
{
    if (!json_is_object(obj)) {
        err_set(err, ERR_INVALID, "field \"%s\": expected inside of an object", name);
        return FIELD_BAD;
    }
    *value = json_object_get(obj, name);
    if (*value != NULL && !json_is_null(*value))
        return FIELD_THERE;
    if (need == JSON_OPTIONAL)
        return FIELD_ABSENT;
    err_set(err, ERR_INVALID, "field \"%s\": is missing", name);
    return FIELD_BAD;
}

int json_field_int(const json_t *obj, const char *name, enum json_need need, int64_t min,
                   int64_t max, int64_t *value, struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    if (!json_is_integer(field) || json_integer_value(field) < min ||
        json_integer_value(field) > max)
        return err_set(err, ERR_INVALID, "field \"%s\": expected integer %" PRId64 "..%" PRId64,
                       name, min, max);
    *value = json_integer_value(field);
    return 0;
}

int json_field_u32(const json_t *obj, const char *name, enum json_need need, uint32_t *value,
                   struct err *err)
{
    int64_t wide = *value;

    if (json_field_int(obj, name, need, 0, UINT32_MAX, &wide, err) < 0)
        return -1;
    *value = (uint32_t)wide;
    return 0;
}

int json_field_bool(const json_t *obj, const char *name, enum json_need need, bool *value,
                    struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    if (!json_is_boolean(field))
        return err_set(err, ERR_INVALID, "field \"%s\": expected true or false", name);
    *value = json_is_true(field);
    return 0;
}

int json_field_string(const json_t *obj, const char *name, enum json_need need, char *buf,
                      size_t size, struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    if (!json_is_string(field) || json_string_length(field) >= size)
        return err_set(err, ERR_INVALID, "field \"%s\": expected string of at most %zu bytes", name,
                       size - 1);
    memcpy(buf, json_string_value(field), json_string_length(field) + 1);
    return 0;
}

int json_field_enum(const json_t *obj, const char *name, enum json_need need,
                    const char *const *names, int *value, struct err *err)
{
    char allowed[256] = "";
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    for (int i = 0; json_is_string(field) && names[i] != NULL; i++) {
        if (strcmp(json_string_value(field), names[i]) == 0) {
            *value = i;
            return 0;
        }
    }
    for (int i = 0; names[i] != NULL; i++) {
        size_t used = strlen(allowed);

        snprintf(allowed + used, sizeof(allowed) - used, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    return err_set(err, ERR_INVALID, "field \"%s\": expected one of %s", name, allowed);
}

int json_field_lsn(const json_t *obj, const char *name, enum json_need need, uint64_t *lsn,
                   struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    if (!json_is_string(field) || units_parse_lsn(json_string_value(field), lsn, NULL) < 0)
        return err_set(err, ERR_INVALID, "field \"%s\": expected WAL position like \"0/3000148\"",
                       name);
    return 0;
}

int json_field_address(const json_t *obj, const char *name, enum json_need need,
                       struct units_address *address, struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    if (found != FIELD_THERE)
        return found;
    if (!json_is_string(field) ||
        units_parse_address(json_string_value(field), 0, address, NULL) < 0)
        return err_set(err, ERR_INVALID, "field \"%s\": expected address like \"host:port\"", name);
    return 0;
}

int json_field_object(const json_t *obj, const char *name, enum json_need need,
                      const json_t **value, struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    *value = NULL;
    if (found != FIELD_THERE)
        return found;
    if (!json_is_object(field))
        return err_set(err, ERR_INVALID, "field \"%s\": expected object", name);
    *value = field;
    return 0;
}

int json_field_array(const json_t *obj, const char *name, enum json_need need, size_t max_items,
                     const json_t **value, struct err *err)
{
    const json_t *field;
    enum found found = find(obj, name, need, &field, err);

    *value = NULL;
    if (found != FIELD_THERE)
        return found;
    if (!json_is_array(field) || json_array_size(field) > max_items)
        return err_set(err, ERR_INVALID, "field \"%s\": expected array of at most %zu items", name,
                       max_items);
    *value = field;
    return 0;
}

int json_check_fields(const json_t *obj, const char *const *names, struct err *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "expected an object");
    /* The macro wants it without const and only reads. */
    json_object_foreach((json_t *)obj, key, value)
    {
        const char *const *name = names;

        while (*name != NULL && strcmp(*name, key) != 0)
            name++;
        if (*name == NULL)
            return err_set(err, ERR_INVALID, "field \"%.64s\": is unknown", key);
    }
    return 0;
}

/* --- writing -------------------------------------------------------------------------------- */

static json_t *must(json_t *json)
{
    if (json == NULL)
        die("out of memory for a JSON value");
    return json;
}

json_t *json_lsn(uint64_t lsn)
{
    char text[UNITS_TEXT_SIZE];

    return must(json_string(units_format_lsn(lsn, text)));
}

/* Length of the valid UTF-8 sequence at TEXT, 0 for an invalid one (RFC 3629, table 3-7 of
 * Unicode). Reads no byte after the first wrong one, so that the final NUL stops it. */
static size_t utf8_sequence(const unsigned char *text)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t len;

    if (text[0] < 0x80)
        return 1;
    if (text[0] >= 0xc2 && text[0] <= 0xdf)
        len = 2;
    else if ((text[0] & 0xf0) == 0xe0)
        len = 3;
    else if (text[0] >= 0xf0 && text[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (text[0] == 0xe0)
        low = 0xa0; /* overlong */
    else if (text[0] == 0xed)
        high = 0x9f; /* surrogates */
    else if (text[0] == 0xf0)
        low = 0x90; /* overlong */
    else if (text[0] == 0xf4)
        high = 0x8f; /* above U+10FFFF */
    for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
        if (text[i] < low || text[i] > high)
            return 0;
    return len;
}

json_t *json_text(const char *text)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *clean, *at;
    json_t *json;

    if (text == NULL)
        return json_null();
    json = json_string(text);
    if (json != NULL)
        return json;
    clean = at = xmalloc(3 * strlen(text) + 1);
    while (*text != '\0') {
        size_t len = utf8_sequence((const unsigned char *)text);

        memcpy(at, len > 0 ? text : replacement, len > 0 ? len : 3);
        at += len > 0 ? len : 3;
        text += len > 0 ? len : 1;
    }
    *at = '\0';
    json = must(json_string(clean));
    free(clean);
    return json;
}

char *json_dump_line(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);

    if (text == NULL)
        die("out of memory for a JSON text");
    return text;
}

/* --- sealed lines --------------------------------------------------------------------------- */

enum { SUM_BYTES = 8 };

static const char seal_head[] = ",\"sum\":\"", seal_tail[] = "\"}";

/* Against accidents, not against forgers: a quarter of a SHA-256 will do. */
static const char *sum_of(const char *text, size_t len, char hex[2 * SUM_BYTES + 1])
{
    uint8_t digest[EVP_MAX_MD_SIZE];

    OGEL_CHECK(EVP_Digest(text, len, digest, NULL, EVP_sha256(), NULL) == 1);
    return rand_hex_format(digest, SUM_BYTES, hex);
}

char *json_dump_sealed(const json_t *object)
{
    char hex[2 * SUM_BYTES + 1];
    char *text, *sealed;
    size_t len;

    OGEL_CHECK(json_object_size(object) > 0);
    text = json_dump_line(object);
    len = strlen(text) - 1; /* without its brace */
    sealed = xasprintf("%.*s%s%s%s", (int)len, text, seal_head, sum_of(text, len, hex), seal_tail);
    free(text);
    return sealed;
}

/* Whether LINE ends in the seal of what is before it. */
static bool seal_fits(const char *line, size_t len)
{
    size_t head = sizeof(seal_head) - 1, tail = sizeof(seal_tail) - 1;
    char hex[2 * SUM_BYTES + 1];
    size_t body;

    if (len < head + 2 * SUM_BYTES + tail)
        return false;
    body = len - (head + 2 * SUM_BYTES + tail);
    return memcmp(line + body, seal_head, head) == 0 &&
           memcmp(line + len - tail, seal_tail, tail) == 0 &&
           memcmp(line + body + head, sum_of(line, body, hex), 2 * SUM_BYTES) == 0;
}

int json_parse_sealed(const char *line, size_t len, unsigned max_depth, json_t **object,
                      struct err *err)
{
    *object = NULL;
    if (!seal_fits(line, len))
        return err_set(err, ERR_CORRUPT, "it is not as it was written: its sum does not fit");
    if (json_parse_bounded(line, len, max_depth, object, err) < 0)
        return -1;
    if (json_object_del(*object, "sum") == 0)
        return 0;
    json_decref(*object);
    *object = NULL;
    return err_set(err, ERR_CORRUPT, "it is no sealed object");
}
