/*
 * The cluster document: what operators decide for the whole cluster. One versioned JSON object, ordered by
 * (generation, counter), changed by compare-and-set at the leader's agent and durable at one more agent before the
 * command returns.
 *
 * {"version": {"generation","counter"}, "maintenance": bool, "fenced": ["n1"],
 *  "nodes": {"n1": {"host","port"}, …}, "settings": {"work_mem": "64MB", …},
 *  "listen_addresses": "127.0.0.1", "hba": ["host all all 127.0.0.1/32 scram-sha-256", …],
 *  "database": "app", "owner": "app"}
 */
#ifndef OGEL_PROTOCOL_DOCUMENT_H
#define OGEL_PROTOCOL_DOCUMENT_H

#include <jansson.h>

#include "base/err.h"
#include "protocol/types.h"

enum { DOCUMENT_MAX_BYTES = 65536 };

/* Checks every field and fills facts; node_ids are the cluster's three in slot order. Settings are checked for form
 * only; the agent refuses the ones that would break replication (pgconf_setting_refused). */
int document_facts_from_json(const json_t *document, const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                             struct document_facts *facts, struct err *err);

/* A first document for a birth: addresses as the agents reported them, safe defaults for the rest. New reference. */
json_t *document_new(const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                     const struct address addresses[NODE_COUNT]);

/* Applies a change {"maintenance": …, "settings": {"name": "value" | null}, "fenced": [...], "hba": [...], …} to a copy
 * and stamps it with `version`. New reference, or NULL with the field named in err. */
json_t *document_apply(const json_t *document, const json_t *change, struct document_version version,
                       const char node_ids[NODE_COUNT][NODE_ID_SIZE], struct err *err);

#endif
