/* The cluster document: what operators decide for the whole cluster. One versioned JSON object,
 * ordered by (generation, counter), changed by compare-and-set at the leader's agent and durable at
 * one more agent before the command returns.
 *
 * {"version": {"generation", "counter"}, "maintenance": bool, "fenced": ["n1"],
 *  "nodes": {"n1": {"host", "port"}, …}, "settings": {"work_mem": "64MB", …},
 *  "listen_addresses": "127.0.0.1", "hba": ["host all all 127.0.0.1/32 scram-sha-256", …],
 *  "database": "app", "owner": "app",
 *  "snapshots": {"store": "s3://host/bucket", "schedule": "every 15min", "verify": "every 1d",
 *                "drill": "0 4 * * 0", "node": "follower" | "leader" | "n2", "max_rate": "50MB",
 *                "level": 3, "keep": {"daily": 7, "weekly": 4, "monthly": 3, "least": 5}}}
 *
 * Names of settings are in lower case, values strings; "fenced" and "hba" may be empty. "snapshots"
 * and each of its members may be missing (no store: no snapshots); nothing else may. Source:
 * docs/protocol.md, "The cluster document"; docs/operations/backup.md. */
#ifndef OGEL_PROTOCOL_DOCUMENT_H
#define OGEL_PROTOCOL_DOCUMENT_H

#include <jansson.h>

#include "base/err.h"
#include "protocol/types.h"

enum { DOCUMENT_MAX_BYTES = 65536 }; /* in JSON without spaces */

/* Checks every field and fills *facts; node_ids are the cluster's three in slot order. Settings and
 * access rules are checked for form only; the agent refuses the ones that would break replication
 * (pgconf_setting_refused, pgconf_hba_refused). Unknown fields are ignored. ERR_INVALID names the
 * field; *facts is half filled then. */
OGEL_MUST_CHECK int document_facts_from_json(const json_t *document,
                                             const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                                             struct document_facts *facts, struct err *err);

/* A first document for a birth: addresses as the agents reported them, safe defaults for the rest.
 * A birth that begins again has a later generation, so the version is the caller's. New reference.
 */
json_t *document_new(struct document_version version, const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                     const struct address addresses[NODE_COUNT]);

/* Applies a change {"maintenance": …, "settings": {"name": "value" | null}, "fenced": [...], …} to
 * a copy and stamps it with `version`. "settings", "nodes", "snapshots" and its "keep" are merged:
 * null takes a setting or a member of "snapshots" out, and "snapshots": null all of it; the rest is
 * replaced. An empty change only stamps. New reference, or NULL with the field named in err:
 * unknown fields of a change are refused, and what comes out is a whole document. */
OGEL_MUST_CHECK json_t *document_apply(const json_t *document, const json_t *change,
                                       struct document_version version,
                                       const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                                       struct err *err);

#endif
