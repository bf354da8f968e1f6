/* The one message and the report as JSON, the only wire format between orchestrator, agents and
 * peers; also the form of what an agent keeps on disk. Unknown fields are ignored (a newer peer may
 * send more), missing ones are errors. The tables are in the form of fields.h, so that records of
 * others can be built from them. */
#ifndef OGEL_PROTOCOL_CODEC_H
#define OGEL_PROTOCOL_CODEC_H

#include <jansson.h>

#include "base/err.h"
#include "protocol/fields.h"
#include "protocol/types.h"

/* Each *_to_json returns a new reference; each *_from_json fills *out or returns -1, names the
 * field in err (ERR_INVALID) and leaves *out half filled. 64-bit ids travel as hex strings, LSNs as
 * "X/X", slots and ages as numbers or null, incarnations as {"number", "nonce"}.
 *
 * A message or report of another PROTOCOL_VERSION is ERR_REFUSED: its fields are not to be trusted.
 * "document_version" of a message says which document came along; its text is the sender's to add,
 * as "document", and the receiver's to read. */
json_t *desired_to_json(const struct desired *desired);
OGEL_MUST_CHECK int desired_from_json(const json_t *json, struct desired *out, struct err *err);

/* The member NAME of OBJECT: put there unless there is none, and taken from there; a missing one is
 * none. */
void source_put(json_t *object, const char *name, const struct snapshot_source *source);
OGEL_MUST_CHECK int source_take(const json_t *object, const char *name, struct snapshot_source *out,
                                struct err *err);

json_t *report_to_json(const struct report *report);
OGEL_MUST_CHECK int report_from_json(const json_t *json, struct report *out, struct err *err);

/* The parts, for durable state and for tests. */
json_t *promise_to_json(const struct promise *promise);
OGEL_MUST_CHECK int promise_from_json(const json_t *json, struct promise *out, struct err *err);
json_t *grant_to_json(const struct grant *grant);
OGEL_MUST_CHECK int grant_from_json(const json_t *json, struct grant *out, struct err *err);
json_t *leadership_to_json(const struct leadership *leader);
OGEL_MUST_CHECK int leadership_from_json(const json_t *json, struct leadership *out,
                                         struct err *err);
json_t *incarnations_to_json(const struct incarnation incarnations[NODE_COUNT]);
OGEL_MUST_CHECK int incarnations_from_json(const json_t *json, struct incarnation out[NODE_COUNT],
                                           struct err *err);
json_t *position_to_json(struct position position);
OGEL_MUST_CHECK int position_from_json(const json_t *json, struct position *out, struct err *err);
json_t *lineage_to_json(const struct lineage *lineage);
OGEL_MUST_CHECK int lineage_from_json(const json_t *json, struct lineage *out, struct err *err);

/* For FIELD_RECORD in tables of others. */
extern const struct field incarnation_fields[];
extern const struct field promise_fields[];
extern const struct field leadership_fields[];
extern const struct field grant_fields[];
extern const struct field position_fields[];
extern const struct field document_version_fields[];
extern const struct field document_facts_fields[];
extern const struct field address_fields[];
extern const struct field job_fields[];

#endif
