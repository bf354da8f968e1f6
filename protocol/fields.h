/* Plain structs as JSON objects, by tables: one line gives a field's name, kind and place. To add a
 * field is to add its line. */
#ifndef OGEL_PROTOCOL_FIELDS_H
#define OGEL_PROTOCOL_FIELDS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum field_kind {
    FIELD_BOOL,    /* bool: true, false */
    FIELD_U16,     /* uint16_t: 5432 */
    FIELD_U32,     /* uint32_t: 7 */
    FIELD_AGE,     /* uint32_t, milliseconds: 120, null for AGE_NEVER */
    FIELD_U64,     /* uint64_t up to INT64_MAX, an amount: 7 */
    FIELD_I64,     /* int64_t: -7 */
    FIELD_ID64,    /* uint64_t, an id: "00000000deadbeef", 16 digits */
    FIELD_LSN,     /* uint64_t: "16/B374D848" */
    FIELD_NODE,    /* int32_t, a slot: 0..2, null for NODE_NONE */
    FIELD_ENUM,    /* an enum: its word */
    FIELD_TEXT,    /* char[]: as UTF-8; cut where it does not fit, tail zeroed */
    FIELD_CLUSTER, /* struct cluster_id: 32 hex digits, null for none */
    FIELD_LINEAGE, /* struct lineage: {"truncated": false, "begin": "1:0/0 2:0/3000060"} */
    FIELD_RECORD,  /* a struct: an object, by its own table */
};

struct field {
    const char *name; /* in JSON; NULL ends a table */
    enum field_kind kind;
    size_t offset;
    size_t size;    /* of one element */
    uint32_t count; /* 0: one value; else an array of exactly so many */
    const void *of; /* FIELD_ENUM: its words, ended by NULL; FIELD_RECORD: its table */
};

#define FIELDS_MEMBER(record, member) (((struct record *)0)->member)

/* `record` is a struct's tag. FIELD names the value as the member is named; FIELD_AS by another
 * name; FIELD_EACH is for arrays; *_OF for enums and records. */
#define FIELD_AS(record, kind, member, json_name, of)                                              \
    {                                                                                              \
        json_name, kind, offsetof(struct record, member), sizeof(FIELDS_MEMBER(record, member)),   \
            0, of                                                                                  \
    }
#define FIELD_OF(record, kind, member, of) FIELD_AS(record, kind, member, #member, of)
#define FIELD(record, kind, member)        FIELD_AS(record, kind, member, #member, NULL)
#define FIELD_EACH_OF(record, kind, member, of)                                                    \
    {                                                                                              \
#        member, kind, offsetof(struct record, member), sizeof(FIELDS_MEMBER(record, member)[0]),  \
            sizeof(FIELDS_MEMBER(record, member)) / sizeof(FIELDS_MEMBER(record, member)[0]), of   \
    }
#define FIELD_EACH(record, kind, member) FIELD_EACH_OF(record, kind, member, NULL)
#define FIELD_END                                                                                  \
    {                                                                                              \
        NULL, FIELD_BOOL, 0, 0, 0, NULL                                                            \
    }

/* RECORD as a JSON object. A new reference. */
json_t *fields_to_json(const struct field *fields, const void *record);

/* Fills every field of RECORD; what the table does not know is ignored, what is missing or of
 * another kind is ERR_INVALID: `field "peers[1].postgres": expected one of unknown, primary, …`.
 * RECORD is half filled then. */
OGEL_MUST_CHECK int fields_from_json(const struct field *fields, const json_t *json, void *record,
                                     struct err *err);

#endif
