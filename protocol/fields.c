#include "protocol/fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/units.h"
#include "protocol/order.h"

/* Enums are handled as unsigned int, whichever they are. */
_Static_assert(sizeof(enum field_kind) == sizeof(unsigned), "enums are as wide as int");

static const char HEX_DIGITS[] = "0123456789abcdef";

static json_t *hex_to_json(const uint8_t *bytes, size_t length)
{
    char text[33];

    OGEL_CHECK(2 * length < sizeof(text));
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = HEX_DIGITS[bytes[i] >> 4];
        text[2 * i + 1] = HEX_DIGITS[bytes[i] & 15];
    }
    return json_stringn_nocheck(text, 2 * length);
}

static bool hex_from_json(const json_t *json, uint8_t *bytes, size_t length)
{
    const char *text = json_string_value(json);

    if (text == NULL || json_string_length(json) != 2 * length)
        return false;
    for (size_t i = 0; i < 2 * length; i++) {
        const char *digit = strchr(HEX_DIGITS, text[i]);

        if (text[i] == '\0' || digit == NULL)
            return false;
        bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (digit - HEX_DIGITS));
    }
    return true;
}

static json_t *id64_to_json(uint64_t id)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(id >> (56 - 8 * i));
    return hex_to_json(bytes, sizeof(bytes));
}

static bool id64_from_json(const json_t *json, uint64_t *id)
{
    uint8_t bytes[8];

    if (!hex_from_json(json, bytes, sizeof(bytes)))
        return false;
    *id = 0;
    for (size_t i = 0; i < sizeof(bytes); i++)
        *id = *id << 8 | bytes[i];
    return true;
}

/* Whoever reads it has `size` bytes for it too; a character cut in half, or replaced because it
 * was no UTF-8, may have made it longer. */
static json_t *text_to_json(const char *text, size_t size)
{
    json_t *json = json_text(text);
    const char *value = json_string_value(json);
    size_t length = json_string_length(json);
    json_t *cut;

    if (length < size)
        return json;
    for (length = size - 1; length > 0 && ((unsigned char)value[length] & 0xC0) == 0x80; length--)
        ;
    cut = json_stringn_nocheck(value, length);
    json_decref(json);
    return cut;
}

/* "1:0/0 2:0/3000060": half of a report, were each an object. */
static json_t *lineage_as_json(const struct lineage *lineage)
{
    char begin[LINEAGE_MAX * (UNITS_TEXT_SIZE + 12)] = "", lsn[UNITS_TEXT_SIZE];
    size_t used = 0;

    OGEL_CHECK(lineage->count <= LINEAGE_MAX);
    for (uint32_t i = 0; i < lineage->count; i++)
        used += (size_t)snprintf(begin + used, sizeof(begin) - used, "%s%" PRIu32 ":%s",
                                 i > 0 ? " " : "", lineage->begin[i].timeline,
                                 units_format_lsn(lineage->begin[i].lsn, lsn));
    return json_pack("{s:b, s:s}", "truncated", (int)lineage->truncated, "begin", begin);
}

/* A table that names the wrong kind must not survive its first test. */
static void check_size(const struct field *field)
{
    static const size_t sizes[] = {
        [FIELD_BOOL] = sizeof(bool),
        [FIELD_U16] = sizeof(uint16_t),
        [FIELD_U32] = sizeof(uint32_t),
        [FIELD_AGE] = sizeof(uint32_t),
        [FIELD_U64] = sizeof(uint64_t),
        [FIELD_I64] = sizeof(int64_t),
        [FIELD_ID64] = sizeof(uint64_t),
        [FIELD_LSN] = sizeof(uint64_t),
        [FIELD_NODE] = sizeof(int32_t),
        [FIELD_ENUM] = sizeof(enum role),
        [FIELD_CLUSTER] = sizeof(struct cluster_id),
        [FIELD_LINEAGE] = sizeof(struct lineage),
        [FIELD_RECORD] = 0,
    };

    OGEL_CHECK(sizes[field->kind] == 0 || sizes[field->kind] == field->size);
}

static json_t *word_to_json(const char *const *words, uint32_t value)
{
    uint32_t i = 0;

    while (i < value && words[i] != NULL)
        i++;
    OGEL_CHECK(words[i] != NULL);
    return json_string_nocheck(words[i]);
}

static json_t *value_to_json(const struct field *field, const void *value)
{
    uint32_t u32 = 0;
    uint64_t u64 = 0;
    uint16_t u16;
    int32_t node;

    check_size(field);
    if (field->size == sizeof(u32))
        memcpy(&u32, value, sizeof(u32));
    if (field->size == sizeof(u64))
        memcpy(&u64, value, sizeof(u64));

    switch (field->kind) {
    case FIELD_BOOL: return json_boolean(*(const bool *)value);
    case FIELD_U16: memcpy(&u16, value, sizeof(u16)); return json_integer(u16);
    case FIELD_U32: return json_integer(u32);
    case FIELD_AGE: return u32 == AGE_NEVER ? json_null() : json_integer(u32);
    case FIELD_U64: return json_integer(u64 > INT64_MAX ? INT64_MAX : (json_int_t)u64);
    case FIELD_I64: return json_integer((json_int_t)u64);
    case FIELD_ID64: return id64_to_json(u64);
    case FIELD_LSN: return json_lsn(u64);
    case FIELD_NODE:
        memcpy(&node, value, sizeof(node));
        return node == NODE_NONE ? json_null() : json_integer(node);
    case FIELD_ENUM: return word_to_json(field->of, u32);
    case FIELD_TEXT: return text_to_json(value, field->size);
    case FIELD_CLUSTER:
        return cluster_id_is_none(value) ? json_null() : hex_to_json(value, field->size);
    case FIELD_LINEAGE: return lineage_as_json(value);
    case FIELD_RECORD: return fields_to_json(field->of, value);
    }
    return NULL;
}

json_t *fields_to_json(const struct field *fields, const void *record)
{
    json_t *object = json_object();

    for (const struct field *field = fields; field->name != NULL; field++) {
        const char *at = (const char *)record + field->offset;
        json_t *value;

        if (field->count == 0) {
            value = value_to_json(field, at);
        } else {
            value = json_array();
            for (uint32_t i = 0; i < field->count; i++)
                OGEL_CHECK(
                    json_array_append_new(value, value_to_json(field, at + i * field->size)) == 0);
        }
        OGEL_CHECK(json_object_set_new_nocheck(object, field->name, value) == 0);
    }
    return object;
}

/* Where in the whole an error is; lives on the stack of those who went down. */
struct path {
    const struct path *up;
    const char *name;
    int index; /* -1: not in an array */
};

static size_t path_print(const struct path *path, char *out, size_t size)
{
    size_t used = path->up == NULL ? 0 : path_print(path->up, out, size);
    const char *dot = used > 0 ? "." : "";
    int length;

    if (used >= size)
        return used;
    if (path->index < 0)
        length = snprintf(out + used, size - used, "%s%s", dot, path->name);
    else
        length = snprintf(out + used, size - used, "%s%s[%d]", dot, path->name, path->index);
    return used + (size_t)length;
}

static int refuse(const struct path *path, struct err *err, const char *expected)
{
    char where[160];

    path_print(path, where, sizeof(where));
    return err_set(err, ERR_INVALID, "field \"%s\": %s", where, expected);
}

static int refuse_word(const struct path *path, struct err *err, const char *const *words)
{
    char expected[256] = "expected one of ";

    for (size_t i = 0; words[i] != NULL; i++) {
        size_t used = strlen(expected);

        snprintf(expected + used, sizeof(expected) - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return refuse(path, err, expected);
}

static int integer_from_json(const json_t *json, json_int_t min, json_int_t max, json_int_t *value,
                             const struct path *path, struct err *err)
{
    char expected[80];

    *value = json_integer_value(json);
    if (json_is_integer(json) && *value >= min && *value <= max)
        return 0;
    snprintf(expected, sizeof(expected), "expected integer %" PRId64 "..%" PRId64, (int64_t)min,
             (int64_t)max);
    return refuse(path, err, expected);
}

static int record_from_json(const struct field *fields, const json_t *json, void *record,
                            const struct path *path, struct err *err);

/* TIMELINE:LSN at *TEXT, which moves behind it and behind the space that follows. */
static bool scan_begin(const char **text, struct position *position)
{
    uint64_t timeline = 0;
    const char *at = *text;

    for (; *at >= '0' && *at <= '9' && timeline <= UINT32_MAX; at++)
        timeline = 10 * timeline + (uint64_t)(*at - '0');
    if (at == *text || timeline > UINT32_MAX || *at++ != ':' ||
        !units_scan_lsn(&at, &position->lsn))
        return false;
    position->timeline = (uint32_t)timeline;
    *text = *at == ' ' && at[1] != '\0' ? at + 1 : at;
    return *at == '\0' || *text != at;
}

static int lineage_from_value(const json_t *json, struct lineage *lineage, const struct path *path,
                              struct err *err)
{
    const json_t *truncated = json_object_get(json, "truncated");
    const char *begin = json_string_value(json_object_get(json, "begin"));
    struct path inner = {path, "begin", 0};

    if (!json_is_boolean(truncated) || begin == NULL)
        return refuse(path, err, "expected {\"truncated\", \"begin\"}");
    memset(lineage, 0, sizeof(*lineage));
    lineage->truncated = json_is_true(truncated);
    for (; *begin != '\0'; lineage->count++) {
        struct position *position = &lineage->begin[lineage->count], before = {0};

        inner.index = (int)lineage->count;
        if (lineage->count == LINEAGE_MAX || !scan_begin(&begin, position))
            return refuse(&inner, err, "expected up to 32 positions such as \"5:16/B374D848\"");
        if (lineage->count > 0)
            before = lineage->begin[lineage->count - 1];
        if (position->timeline <= before.timeline || position->lsn < before.lsn)
            return refuse(&inner, err, "expected a later timeline than the one before");
    }
    return 0;
}

static int text_from_json(const json_t *json, char *text, size_t size, const struct path *path,
                          struct err *err)
{
    char expected[64];

    if (!json_is_string(json) || json_string_length(json) >= size ||
        strlen(json_string_value(json)) != json_string_length(json)) {
        snprintf(expected, sizeof(expected), "expected string of at most %zu bytes", size - 1);
        return refuse(path, err, expected);
    }
    memset(text, 0, size);
    memcpy(text, json_string_value(json), json_string_length(json));
    return 0;
}

/* Kinds that are integers in JSON. */
static int number_from_json(const struct field *field, const json_t *json, void *value,
                            const struct path *path, struct err *err)
{
    static const struct {
        json_int_t min, max;
    } bounds[] = {
        [FIELD_U16] = {0, UINT16_MAX},        [FIELD_U32] = {0, UINT32_MAX},
        [FIELD_AGE] = {0, AGE_NEVER - 1},     [FIELD_U64] = {0, INT64_MAX},
        [FIELD_I64] = {INT64_MIN, INT64_MAX}, [FIELD_NODE] = {0, NODE_COUNT - 1},
    };
    json_int_t number;

    if (json_is_null(json) && field->kind == FIELD_AGE)
        number = AGE_NEVER;
    else if (json_is_null(json) && field->kind == FIELD_NODE)
        number = NODE_NONE;
    else if (integer_from_json(json, bounds[field->kind].min, bounds[field->kind].max, &number,
                               path, err) < 0)
        return -1;
    if (field->size == sizeof(uint16_t))
        *(uint16_t *)value = (uint16_t)number;
    else if (field->size == sizeof(uint32_t))
        *(uint32_t *)value = (uint32_t)number;
    else
        *(uint64_t *)value = (uint64_t)number;
    return 0;
}

static int word_from_json(const struct field *field, const json_t *json, void *value,
                          const struct path *path, struct err *err)
{
    const char *const *words = field->of;

    for (unsigned i = 0; json_is_string(json) && words[i] != NULL; i++) {
        if (strcmp(words[i], json_string_value(json)) == 0) {
            memcpy(value, &i, sizeof(i));
            return 0;
        }
    }
    return refuse_word(path, err, words);
}

static int value_from_json(const struct field *field, const json_t *json, void *value,
                           const struct path *path, struct err *err)
{
    switch (field->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(json))
            return refuse(path, err, "expected true or false");
        *(bool *)value = json_is_true(json);
        return 0;
    case FIELD_U16:
    case FIELD_U32:
    case FIELD_AGE:
    case FIELD_U64:
    case FIELD_I64:
    case FIELD_NODE: return number_from_json(field, json, value, path, err);
    case FIELD_ID64:
        if (!id64_from_json(json, value))
            return refuse(path, err, "expected 16 lower-case hex digits");
        return 0;
    case FIELD_LSN:
        if (!json_is_string(json) || units_parse_lsn(json_string_value(json), value, NULL) < 0)
            return refuse(path, err, "expected WAL position such as \"16/B374D848\"");
        return 0;
    case FIELD_ENUM: return word_from_json(field, json, value, path, err);
    case FIELD_TEXT: return text_from_json(json, value, field->size, path, err);
    case FIELD_CLUSTER:
        memset(value, 0, field->size);
        if (!json_is_null(json) && !hex_from_json(json, value, field->size))
            return refuse(path, err, "expected 32 lower-case hex digits or null");
        return 0;
    case FIELD_LINEAGE: return lineage_from_value(json, value, path, err);
    case FIELD_RECORD: return record_from_json(field->of, json, value, path, err);
    }
    return refuse(path, err, "is of a kind that nobody knows");
}

static int array_from_json(const struct field *field, const json_t *json, char *at,
                           struct path *path, struct err *err)
{
    char expected[64];

    if (!json_is_array(json) || json_array_size(json) != field->count) {
        snprintf(expected, sizeof(expected), "expected array of %" PRIu32, field->count);
        return refuse(path, err, expected);
    }
    for (uint32_t i = 0; i < field->count; i++) {
        path->index = (int)i;
        if (value_from_json(field, json_array_get(json, i), at + i * field->size, path, err) < 0)
            return -1;
    }
    return 0;
}

static int record_from_json(const struct field *fields, const json_t *json, void *record,
                            const struct path *path, struct err *err)
{
    if (!json_is_object(json))
        return path == NULL ? err_set(err, ERR_INVALID, "expected an object")
                            : refuse(path, err, "expected an object");
    for (const struct field *field = fields; field->name != NULL; field++) {
        struct path here = {path, field->name, -1};
        const json_t *value = json_object_get(json, field->name);
        char *at = (char *)record + field->offset;
        int rc;

        if (value == NULL)
            return refuse(&here, err, "is missing");
        rc = field->count == 0 ? value_from_json(field, value, at, &here, err)
                               : array_from_json(field, value, at, &here, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

int fields_from_json(const struct field *fields, const json_t *json, void *record, struct err *err)
{
    return record_from_json(fields, json, record, NULL, err);
}
