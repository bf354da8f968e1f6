/* JSON from outside: bounded and strict; getters that name the field in their error. On top of
 * jansson. */
#ifndef OGEL_BASE_JSON_H
#define OGEL_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* One JSON value, with nothing after it, nested MAX_DEPTH deep at most; duplicate keys and invalid
 * UTF-8 are refused. *JSON is the caller's reference. The caller bounds LEN. ERR_INVALID with line
 * and column. */
OGEL_MUST_CHECK int json_parse_bounded(const char *data, size_t len, unsigned max_depth,
                                       json_t **json, struct err *err);

/* The same for what is read and dropped at once, without hundreds of allocations: values lie in
 * memory of this thread that is used again and again. Until json_scratch_done(), which takes the
 * place of json_decref(), *JSON is only read – no reference of it or of anything in it is kept –
 * and no other is parsed this way. */
OGEL_MUST_CHECK int json_parse_scratch(const char *data, size_t len, unsigned max_depth,
                                       const json_t **json, struct err *err);
void json_scratch_done(const json_t *json); /* NULL is allowed */

/* A line that shows whether it is as it was written: json_dump_sealed() adds a last member "sum" to
 * an object that is not empty; json_parse_sealed() takes exactly such a line, without its newline,
 * and gives the object without that member. ERR_CORRUPT where a byte is another. The caller frees
 * the text and owns the reference. */
char *json_dump_sealed(const json_t *object);
OGEL_MUST_CHECK int json_parse_sealed(const char *line, size_t len, unsigned max_depth,
                                      json_t **object, struct err *err);

enum json_need { JSON_REQUIRED, JSON_OPTIONAL };

/* The field NAME of OBJ. A missing (or null) optional field leaves the result as it is and is no
 * error. Errors are ERR_INVALID: `field "generation": expected integer 0..4294967295`. OBJ that is
 * no object is an error too. */
OGEL_MUST_CHECK int json_field_int(const json_t *obj, const char *name, enum json_need need,
                                   int64_t min, int64_t max, int64_t *value, struct err *err);
OGEL_MUST_CHECK int json_field_u32(const json_t *obj, const char *name, enum json_need need,
                                   uint32_t *value, struct err *err);
OGEL_MUST_CHECK int json_field_bool(const json_t *obj, const char *name, enum json_need need,
                                    bool *value, struct err *err);
/* Copies; too long for SIZE is an error. */
OGEL_MUST_CHECK int json_field_string(const json_t *obj, const char *name, enum json_need need,
                                      char *buf, size_t size, struct err *err);
/* Index into NAMES, which ends with NULL. */
OGEL_MUST_CHECK int json_field_enum(const json_t *obj, const char *name, enum json_need need,
                                    const char *const *names, int *value, struct err *err);
/* A WAL position as "X/X". */
OGEL_MUST_CHECK int json_field_lsn(const json_t *obj, const char *name, enum json_need need,
                                   uint64_t *lsn, struct err *err);
/* "host:port". */
struct units_address;
OGEL_MUST_CHECK int json_field_address(const json_t *obj, const char *name, enum json_need need,
                                       struct units_address *address, struct err *err);
/* Borrowed; an optional one that is missing gives NULL. */
OGEL_MUST_CHECK int json_field_object(const json_t *obj, const char *name, enum json_need need,
                                      const json_t **value, struct err *err);
OGEL_MUST_CHECK int json_field_array(const json_t *obj, const char *name, enum json_need need,
                                     size_t max_items, const json_t **value, struct err *err);

/* OBJ has no field but those of NAMES (ends with NULL). */
OGEL_MUST_CHECK int json_check_fields(const json_t *obj, const char *const *names, struct err *err);

/* A new reference. */
json_t *json_lsn(uint64_t lsn);
/* A string value whatever bytes TEXT has: invalid UTF-8 becomes U+FFFD; NULL becomes null. A new
 * reference. */
json_t *json_text(const char *text);
/* One line without spaces; the caller frees. Out of memory aborts. */
char *json_dump_line(const json_t *json);

#endif
