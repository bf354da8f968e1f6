#include "agent/durable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slotfile.h"
#include "protocol/codec.h"
#include "protocol/fields.h"

enum { FORMAT_VERSION = 1 };

static const char *const roles[] = {"none", "fenced", "leader", "follower", NULL};
static const char *const markers[] = {"none", "init", "clone", "rewind", "restore", NULL};
static const char *const job_states[] = {"idle", "running", "done", "failed", NULL};

#define D(kind, member)         FIELD(durable, kind, member)
#define D_OF(kind, member, of_) FIELD_OF(durable, kind, member, of_)

static const struct field durable_fields[] = {
    D(FIELD_NODE, node),
    D(FIELD_CLUSTER, cluster),
    FIELD_EACH_OF(durable, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_EACH(durable, FIELD_U32, void_number),
    FIELD_EACH(durable, FIELD_BOOL, registered_at),
    D(FIELD_BOOL, registered),
    D(FIELD_BOOL, birth_promised),
    D(FIELD_BOOL, birth_ended),
    D(FIELD_NODE, birth_leader),
    D_OF(FIELD_RECORD, promise, promise_fields),
    D_OF(FIELD_RECORD, leader, leadership_fields),
    D_OF(FIELD_RECORD, grant, grant_fields),
    D_OF(FIELD_ENUM, role, roles),
    D(FIELD_BOOL, planned),
    D(FIELD_ID64, data_id),
    D_OF(FIELD_ENUM, marker, markers),
    D(FIELD_BOOL, marker_done),
    D(FIELD_BOOL, complete),
    D(FIELD_BOOL, rewound),
    D(FIELD_BOOL, whole_before_rewind),
    D(FIELD_U32, followed),
    D(FIELD_U32, rewind_tried),
    D_OF(FIELD_RECORD, fork, position_fields),
    D_OF(FIELD_RECORD, complete_target, position_fields),
    D_OF(FIELD_RECORD, floor, position_fields),
    D_OF(FIELD_RECORD, job, job_fields),
    D_OF(FIELD_ENUM, job_state, job_states),
    FIELD_END,
};

void durable_init(struct durable *durable, int32_t node)
{
    memset(durable, 0, sizeof *durable);
    durable->node = node;
    durable->leader.node = NODE_NONE;
    durable->birth_leader = NODE_NONE;
}

json_t *durable_to_json(const struct durable *durable)
{
    json_t *json = fields_to_json(durable_fields, durable);

    json_object_set_new(json, "format", json_integer(FORMAT_VERSION));
    source_put(json, "job_source", &durable->job_source);
    source_put(json, "birth_source", &durable->birth_source);
    return json;
}

int durable_from_json(const json_t *json, struct durable *durable, struct err *err)
{
    uint32_t format;

    durable_init(durable, NODE_NONE);
    if (json_field_u32(json, "format", JSON_REQUIRED, &format, err) < 0)
        return -1;
    if (format != FORMAT_VERSION)
        return err_set(err, ERR_INVALID, "format %u of another version of ogel-agent", format);
    if (fields_from_json(durable_fields, json, durable, err) < 0 ||
        source_take(json, "job_source", &durable->job_source, err) < 0)
        return -1;
    return source_take(json, "birth_source", &durable->birth_source, err);
}

static int read_record(const struct slotfile *file, int32_t node, struct durable *durable,
                       struct err *err)
{
    char *record = xmalloc(DURABLE_SLOT_BYTES);
    json_t *json = NULL;
    size_t len;
    bool found;
    int rc = -1;

    if (slotfile_read(file, record, DURABLE_SLOT_BYTES, &len, &found, err) < 0)
        goto out;
    if (!found) {
        durable_init(durable, node);
        rc = 0;
        goto out;
    }
    if (json_parse_bounded(record, len, 16, &json, err) < 0 ||
        durable_from_json(json, durable, err) < 0)
        goto out;
    rc = 0;
out:
    json_decref(json);
    free(record);
    return rc;
}

int durable_open(const char *state_directory, int32_t node, struct slotfile **file,
                 struct durable *durable, struct err *err)
{
    char path[1024];

    snprintf(path, sizeof path, "%s/promise", state_directory);
    if (slotfile_open(path, DURABLE_SLOT_BYTES, true, file, err) < 0)
        return -1;
    if (slotfile_was_damaged(*file))
        log_event(LOG_LEVEL_WARNING, "promise_slot_damaged", "{s:s}", "path", path);
    if (read_record(*file, node, durable, err) < 0) {
        slotfile_close(*file);
        *file = NULL;
        return slotfile_not_understood(path, err);
    }
    if (durable->node != node) {
        slotfile_close(*file);
        *file = NULL;
        return err_set(err, ERR_CONFLICT,
                       "%s: it belongs to node %d of the three, this is node %d; a state directory "
                       "is never copied between machines",
                       path, durable->node + 1, node + 1);
    }
    return 0;
}

int durable_write(struct slotfile *file, const struct durable *durable, struct err *err)
{
    json_t *json = durable_to_json(durable);
    char *line = json_dump_line(json);
    int rc = slotfile_write(file, line, strlen(line), err);

    free(line);
    json_decref(json);
    return rc < 0 ? err_context(err, "promise file") : 0;
}
