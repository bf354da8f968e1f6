/*
 * The one message and the report as JSON, the only wire format between orchestrator, agents and peers; also the form
 * of what an agent keeps on disk. Unknown fields are ignored (a newer peer may send more), missing ones are errors.
 */
#ifndef OGEL_PROTOCOL_CODEC_H
#define OGEL_PROTOCOL_CODEC_H

#include <jansson.h>

#include "base/err.h"
#include "protocol/types.h"

/* Each *_to_json returns a new reference; each *_from_json fills *out or returns -1 and names the field in err.
 * 64-bit ids travel as hex strings, LSNs as "X/X", incarnations as {"number","nonce"}. */
json_t *desired_to_json(const struct desired *desired);
int desired_from_json(const json_t *json, struct desired *out, struct err *err);

json_t *report_to_json(const struct report *report);
int report_from_json(const json_t *json, struct report *out, struct err *err);

/* The parts, for durable state and for tests. */
json_t *promise_to_json(const struct promise *promise);
int promise_from_json(const json_t *json, struct promise *out, struct err *err);
json_t *grant_to_json(const struct grant *grant);
int grant_from_json(const json_t *json, struct grant *out, struct err *err);
json_t *leadership_to_json(const struct leadership *leader);
int leadership_from_json(const json_t *json, struct leadership *out, struct err *err);
json_t *incarnations_to_json(const struct incarnation incarnations[NODE_COUNT]);
int incarnations_from_json(const json_t *json, struct incarnation out[NODE_COUNT], struct err *err);
json_t *position_to_json(struct position position);
int position_from_json(const json_t *json, struct position *out, struct err *err);
json_t *lineage_to_json(const struct lineage *lineage);
int lineage_from_json(const json_t *json, struct lineage *out, struct err *err);

#endif
