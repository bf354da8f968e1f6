#include "protocol/codec.h"

#include <string.h>

#include "base/json.h"
#include "protocol/names.h"

/* --- tables --- */

const struct field incarnation_fields[] = {
    FIELD(incarnation, FIELD_U32, number),
    FIELD(incarnation, FIELD_ID64, nonce),
    FIELD_END,
};

const struct field promise_fields[] = {
    FIELD(promise, FIELD_U32, generation),
    FIELD(promise, FIELD_ID64, proposer),
    FIELD_END,
};

const struct field leadership_fields[] = {
    FIELD(leadership, FIELD_U32, generation),
    FIELD(leadership, FIELD_NODE, node),
    FIELD_OF(leadership, FIELD_RECORD, incarnation, incarnation_fields),
    FIELD(leadership, FIELD_ID64, proposer),
    FIELD_END,
};

const struct field grant_fields[] = {
    FIELD(grant, FIELD_U32, generation),
    FIELD(grant, FIELD_ID64, proposer),
    FIELD_OF(grant, FIELD_RECORD, incarnation, incarnation_fields),
    FIELD(grant, FIELD_BOOL, spent),
    FIELD_END,
};

const struct field position_fields[] = {
    FIELD(position, FIELD_U32, timeline),
    FIELD(position, FIELD_LSN, lsn),
    FIELD_END,
};

const struct field document_version_fields[] = {
    FIELD(document_version, FIELD_U32, generation),
    FIELD(document_version, FIELD_U32, counter),
    FIELD_END,
};

const struct field address_fields[] = {
    FIELD(address, FIELD_TEXT, host),
    FIELD(address, FIELD_U16, port),
    FIELD_END,
};

const struct field document_facts_fields[] = {
    FIELD_OF(document_facts, FIELD_RECORD, version, document_version_fields),
    FIELD(document_facts, FIELD_BOOL, maintenance),
    FIELD_EACH(document_facts, FIELD_BOOL, fenced),
    FIELD_EACH_OF(document_facts, FIELD_RECORD, address, address_fields),
    FIELD_END,
};

const struct field job_fields[] = {
    FIELD(job, FIELD_ID64, id),
    FIELD_OF(job, FIELD_ENUM, kind, job_kind_names),
    FIELD_END,
};

static const struct field desired_fields[] = {
    FIELD(desired, FIELD_U32, protocol),
    FIELD_AS(desired, FIELD_CLUSTER, cluster, "cluster_id", NULL),
    FIELD(desired, FIELD_NODE, node),
    FIELD(desired, FIELD_U32, generation),
    FIELD(desired, FIELD_ID64, proposer),
    FIELD_OF(desired, FIELD_ENUM, role, role_names),
    FIELD(desired, FIELD_BOOL, birth),
    FIELD(desired, FIELD_BOOL, planned),
    FIELD_OF(desired, FIELD_RECORD, leader, leadership_fields),
    FIELD_EACH_OF(desired, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_EACH(desired, FIELD_U32, destroyed_number),
    FIELD_OF(desired, FIELD_RECORD, job, job_fields),
    FIELD(desired, FIELD_ID64, job_after),
    FIELD_AS(desired, FIELD_RECORD, document, "document_version", document_version_fields),
    FIELD_END,
};

static const struct field source_fields[] = {
    FIELD(snapshot_source, FIELD_TEXT, store),
    FIELD(snapshot_source, FIELD_TEXT, id),
    FIELD(snapshot_source, FIELD_U32, timeline),
    FIELD(snapshot_source, FIELD_LSN, stop_lsn),
    FIELD(snapshot_source, FIELD_ID64, system_id),
    FIELD(snapshot_source, FIELD_U32, pg_version),
    FIELD_END,
};

static const struct field vote_fields[] = {
    FIELD(vote, FIELD_BOOL, valid),
    FIELD_OF(vote, FIELD_RECORD, promise, promise_fields),
    FIELD_OF(vote, FIELD_RECORD, position, position_fields),
    FIELD(vote, FIELD_LSN, replay_lsn),
    FIELD(vote, FIELD_BOOL, complete),
    FIELD_END,
};

static const struct field peer_fields[] = {
    FIELD(peer_view, FIELD_BOOL, agent_reachable),
    FIELD(peer_view, FIELD_BOOL, agent_refuses),
    FIELD(peer_view, FIELD_AGE, agent_age_ms),
    FIELD(peer_view, FIELD_U32, generation),
    FIELD_OF(peer_view, FIELD_ENUM, postgres, probe_verdict_names),
    FIELD(peer_view, FIELD_AGE, postgres_age_ms),
    FIELD_END,
};

static const struct field standby_fields[] = {
    FIELD(standby_view, FIELD_BOOL, attached),     FIELD(standby_view, FIELD_BOOL, streaming),
    FIELD(standby_view, FIELD_BOOL, counted),      FIELD(standby_view, FIELD_U32, generation),
    FIELD(standby_view, FIELD_U32, incarnation),   FIELD(standby_view, FIELD_LSN, flush_lsn),
    FIELD(standby_view, FIELD_LSN, replay_lsn),    FIELD(standby_view, FIELD_AGE, reply_age_ms),
    FIELD(standby_view, FIELD_U32, replay_lag_ms), FIELD_END,
};

static const struct field receiver_fields[] = {
    FIELD(receiver_view, FIELD_BOOL, alive),
    FIELD(receiver_view, FIELD_BOOL, streaming),
    FIELD(receiver_view, FIELD_NODE, upstream),
    FIELD(receiver_view, FIELD_AGE, message_age_ms),
    FIELD_END,
};

static const struct field report_fields[] = {
    FIELD(report, FIELD_U32, protocol),
    FIELD_AS(report, FIELD_CLUSTER, cluster, "cluster_id", NULL),
    FIELD(report, FIELD_NODE, node),
    FIELD(report, FIELD_U64, sequence),
    FIELD(report, FIELD_ID64, agent_run),

    FIELD_OF(report, FIELD_RECORD, promise, promise_fields),
    FIELD_OF(report, FIELD_RECORD, leader, leadership_fields),
    FIELD_OF(report, FIELD_RECORD, grant, grant_fields),
    FIELD_OF(report, FIELD_ENUM, role, role_names),
    FIELD_EACH_OF(report, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_EACH(report, FIELD_U32, void_number),
    FIELD(report, FIELD_BOOL, blank),
    FIELD(report, FIELD_BOOL, registered),
    FIELD(report, FIELD_BOOL, birth_promised),
    FIELD(report, FIELD_BOOL, birth_ended),
    FIELD(report, FIELD_BOOL, complete),
    FIELD(report, FIELD_BOOL, rewound),
    FIELD_OF(report, FIELD_ENUM, marker, marker_names),
    FIELD_OF(report, FIELD_RECORD, document, document_facts_fields),

    FIELD_OF(report, FIELD_ENUM, pg, pg_state_names),
    FIELD(report, FIELD_BOOL, in_recovery),
    FIELD(report, FIELD_BOOL, leading),
    FIELD(report, FIELD_BOOL, checkpointed),
    FIELD(report, FIELD_BOOL, fenced),
    FIELD(report, FIELD_BOOL, confirmed),
    FIELD(report, FIELD_BOOL, accepts_writes),
    FIELD(report, FIELD_BOOL, local_probe_ok),
    FIELD(report, FIELD_U32, local_probe_failing_ms),
    FIELD(report, FIELD_AGE, sampled_age_ms),
    FIELD(report, FIELD_U32, timeline),
    FIELD(report, FIELD_LSN, write_lsn),
    FIELD(report, FIELD_LSN, flush_lsn),
    FIELD(report, FIELD_LSN, replay_lsn),
    FIELD(report, FIELD_LSN, oldest_lsn),
    FIELD(report, FIELD_U32, replay_lag_ms),
    FIELD(report, FIELD_LINEAGE, lineage),
    FIELD_OF(report, FIELD_RECORD, vote, vote_fields),
    FIELD_OF(report, FIELD_RECORD, receiver, receiver_fields),
    FIELD_EACH_OF(report, FIELD_RECORD, standbys, standby_fields),
    FIELD_EACH_OF(report, FIELD_RECORD, peers, peer_fields),

    FIELD_OF(report, FIELD_RECORD, postgres, address_fields),
    FIELD(report, FIELD_ID64, system_id),
    FIELD(report, FIELD_U32, pg_version),
    FIELD(report, FIELD_BOOL, pending_restart),
    FIELD(report, FIELD_U64, disk_free_bytes),
    FIELD(report, FIELD_U64, disk_total_bytes),
    FIELD_OF(report, FIELD_RECORD, job, job_fields),
    FIELD_OF(report, FIELD_ENUM, job_state, job_state_names),
    FIELD(report, FIELD_U32, progress_percent),
    FIELD(report, FIELD_TEXT, step),
    FIELD(report, FIELD_TEXT, cause),
    FIELD_END,
};

/* --- messages --- */

/* Looks before anything else: of a later version the rest may mean something else. */
static int check_protocol(const json_t *json, struct err *err)
{
    uint32_t protocol = 0;

    if (json_field_u32(json, "protocol", JSON_REQUIRED, &protocol, err) < 0)
        return -1;
    if (protocol != PROTOCOL_VERSION)
        return err_set(err, ERR_REFUSED,
                       "field \"protocol\": the sender speaks version %u, this program %u: run the "
                       "same release everywhere",
                       protocol, PROTOCOL_VERSION);
    return 0;
}

/* Left out where there is none: most messages have none, and earlier programs know of none. */
void source_put(json_t *object, const char *name, const struct snapshot_source *source)
{
    if (source->id[0] != '\0')
        OGEL_CHECK(json_object_set_new(object, name, fields_to_json(source_fields, source)) == 0);
}

int source_take(const json_t *object, const char *name, struct snapshot_source *out,
                struct err *err)
{
    const json_t *json = json_object_get(object, name);

    memset(out, 0, sizeof(*out));
    if (json == NULL || json_is_null(json))
        return 0;
    if (fields_from_json(source_fields, json, out, err) < 0)
        return err_context(err, "field \"%s\"", name);
    return 0;
}

json_t *desired_to_json(const struct desired *desired)
{
    json_t *json = fields_to_json(desired_fields, desired);

    source_put(json, "source", &desired->source);
    return json;
}

int desired_from_json(const json_t *json, struct desired *out, struct err *err)
{
    if (check_protocol(json, err) < 0)
        return -1;
    if (fields_from_json(desired_fields, json, out, err) < 0)
        return -1;
    return source_take(json, "source", &out->source, err);
}

json_t *report_to_json(const struct report *report)
{
    return fields_to_json(report_fields, report);
}

int report_from_json(const json_t *json, struct report *out, struct err *err)
{
    if (check_protocol(json, err) < 0)
        return -1;
    return fields_from_json(report_fields, json, out, err);
}

/* --- parts --- */

json_t *promise_to_json(const struct promise *promise)
{
    return fields_to_json(promise_fields, promise);
}

int promise_from_json(const json_t *json, struct promise *out, struct err *err)
{
    return fields_from_json(promise_fields, json, out, err);
}

json_t *grant_to_json(const struct grant *grant)
{
    return fields_to_json(grant_fields, grant);
}

int grant_from_json(const json_t *json, struct grant *out, struct err *err)
{
    return fields_from_json(grant_fields, json, out, err);
}

json_t *leadership_to_json(const struct leadership *leader)
{
    return fields_to_json(leadership_fields, leader);
}

int leadership_from_json(const json_t *json, struct leadership *out, struct err *err)
{
    return fields_from_json(leadership_fields, json, out, err);
}

json_t *position_to_json(struct position position)
{
    return fields_to_json(position_fields, &position);
}

int position_from_json(const json_t *json, struct position *out, struct err *err)
{
    return fields_from_json(position_fields, json, out, err);
}

/* Values that are no object of their own: wrapped into one for the tables. */
struct incarnation_list {
    struct incarnation incarnations[NODE_COUNT];
};

static const struct field incarnation_list_fields[] = {
    FIELD_EACH_OF(incarnation_list, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_END,
};

struct lineage_holder {
    struct lineage lineage;
};

static const struct field lineage_holder_fields[] = {
    FIELD(lineage_holder, FIELD_LINEAGE, lineage),
    FIELD_END,
};

static json_t *unwrap(json_t *object, const char *name)
{
    json_t *value = json_incref(json_object_get(object, name));

    json_decref(object);
    return value;
}

static int parse_wrapped(const struct field *fields, const json_t *json, void *record,
                         struct err *err)
{
    json_t *object = json_object();
    int rc;

    /* The value is only borrowed: jansson's reference counts are the one thing not const here. */
    if (json != NULL)
        OGEL_CHECK(json_object_set(object, fields->name, (json_t *)(uintptr_t)json) == 0);
    rc = fields_from_json(fields, object, record, err);
    json_decref(object);
    return rc;
}

json_t *incarnations_to_json(const struct incarnation incarnations[NODE_COUNT])
{
    struct incarnation_list list;

    memcpy(list.incarnations, incarnations, sizeof(list.incarnations));
    return unwrap(fields_to_json(incarnation_list_fields, &list), "incarnations");
}

int incarnations_from_json(const json_t *json, struct incarnation out[NODE_COUNT], struct err *err)
{
    return parse_wrapped(incarnation_list_fields, json, out, err);
}

json_t *lineage_to_json(const struct lineage *lineage)
{
    return unwrap(fields_to_json(lineage_holder_fields, lineage), "lineage");
}

int lineage_from_json(const json_t *json, struct lineage *out, struct err *err)
{
    return parse_wrapped(lineage_holder_fields, json, out, err);
}
