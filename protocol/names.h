/*
 * Names that carry meaning between nodes, and the words for the enums of types.h.
 */
#ifndef OGEL_PROTOCOL_NAMES_H
#define OGEL_PROTOCOL_NAMES_H

#include "protocol/types.h"

enum { REPLICATION_NAME_SIZE = 64 };

/* [a-z][a-z0-9]{0,15} */
bool node_id_valid(const char *id);

/* application_name of a standby: ogel_<node>_i<incarnation>_g<generation>, with _x appended when
 * it may not be counted (a clone in progress, data not complete). Such a name stands in no
 * synchronous_standby_names. */
void replication_name(char out[REPLICATION_NAME_SIZE], const char *node_id, uint32_t incarnation,
                      uint32_t generation, bool counted);

/* The inverse; false, with the results untouched, for any other name. Incarnation and generation
 * 0 ("unknown", "none") are no name. */
bool replication_name_parse(const char *name, char node_id[NODE_ID_SIZE], uint32_t *incarnation,
                            uint32_t *generation, bool *counted);

/* The login role a node's receiver uses: ogel_<node>_i<incarnation>. Leaders admit only known
 * incarnations' roles. */
void replication_role(char out[REPLICATION_NAME_SIZE], const char *node_id, uint32_t incarnation);

/* The words for the enums, as they stand in JSON, logs and metrics: lists by value, ended by
 * NULL … */
extern const char *const role_names[];
extern const char *const pg_state_names[];
extern const char *const marker_names[];
extern const char *const probe_verdict_names[];
extern const char *const job_kind_names[];
extern const char *const job_state_names[];

/* … and one word; "unknown" for a value out of range. */
const char *role_name(enum role role);
const char *pg_state_name(enum pg_state state);
const char *marker_name(enum marker marker);
const char *probe_verdict_name(enum probe_verdict verdict);
const char *job_kind_name(enum job_kind kind);
const char *job_state_name(enum job_state state);

#endif
