#include "agent/task.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    LINE_DEPTH = 8,
    LEVEL_MAX = 19,
    KEEP_MAX = 10000,
    RATE_MIN = 32 * 1024,
    RATE_MAX = 1024 * 1024 * 1024,
};

const char *const task_kind_names[] = {"create", "verify", "drill", "gc", NULL};

static const char *const state_names[] = {"none", "running", "done", "failed"};
static const char *const keep_names[] = {"daily", "weekly", "monthly", "least", NULL};

/* --- the request --------------------------------------------------------------------------- */

int task_store_check(const char *url, struct err *err)
{
    static const char *const schemes[] = {"/", "file:///", "s3://", "s3+http://"};
    size_t i;

    for (const char *at = url; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 127)
            return err_set(err, ERR_INVALID,
                           "field \"store\": blanks and other than ASCII must be escaped");
    for (i = 0; i < OGEL_ARRAY_LEN(schemes); i++)
        if (strncmp(url, schemes[i], strlen(schemes[i])) == 0)
            break;
    if (i == OGEL_ARRAY_LEN(schemes))
        return err_set(err, ERR_INVALID,
                       "field \"store\": is no place to keep snapshots (allowed: /DIRECTORY, "
                       "file:///DIRECTORY, s3://HOST[:PORT]/BUCKET[/PREFIX], s3+http://…)");
    if (url[0] == 's' && strchr(url, '@') != NULL)
        return err_set(err, ERR_INVALID,
                       "field \"store\": credentials do not belong in a URL; they are in the file "
                       "that the agents' option snapshots.credentials_file names");
    return 0;
}

static int snapshot_field(const json_t *body, const char *name, char id[SNAPSHOT_ID_SIZE],
                          bool or_none, struct err *err)
{
    if (json_field_string(body, name, JSON_OPTIONAL, id, SNAPSHOT_ID_SIZE, err) < 0)
        return -1;
    if (id[0] == '\0' || snapshot_id_valid(id) || (or_none && strcmp(id, "none") == 0))
        return 0;
    return err_set(
        err, ERR_INVALID,
        "field \"%s\": \"%s\" is no snapshot's id (allowed: 20260203T040506Z-1a2b3c4d%s)", name, id,
        or_none ? ", none" : "");
}

static int rate_field(const json_t *options, char *rate, size_t size, struct err *err)
{
    int64_t bytes;

    if (json_field_string(options, "max_rate", JSON_OPTIONAL, rate, size, err) < 0)
        return -1;
    if (rate[0] == '\0')
        return 0;
    if (units_parse_size(rate, &bytes, err) < 0)
        return err_context(err, "field \"max_rate\"");
    if (bytes < RATE_MIN || bytes > RATE_MAX)
        return err_set(err, ERR_INVALID, "field \"max_rate\": \"%s\" (allowed: 32kB to 1GB)", rate);
    return 0;
}

static int keep_fields(const json_t *options, int64_t keep[TASK_KEEPS], struct err *err)
{
    const json_t *object;

    if (json_field_object(options, "keep", JSON_OPTIONAL, &object, err) < 0)
        return -1;
    if (object == NULL)
        return 0;
    if (json_check_fields(object, keep_names, err) < 0)
        return err_context(err, "field \"keep\"");
    for (int i = 0; i < TASK_KEEPS; i++)
        if (json_field_int(object, keep_names[i], JSON_OPTIONAL, 0, KEEP_MAX, &keep[i], err) < 0)
            return err_context(err, "field \"keep\"");
    return 0;
}

static int option_fields(const json_t *body, struct task_request *request, struct err *err)
{
    static const char *const names[] = {"level", "max_rate", "parent", "keep", NULL};
    const json_t *options;

    if (json_field_object(body, "options", JSON_OPTIONAL, &options, err) < 0)
        return -1;
    if (options == NULL)
        return 0;
    if (json_check_fields(options, names, err) < 0 ||
        json_field_int(options, "level", JSON_OPTIONAL, 1, LEVEL_MAX, &request->level, err) < 0 ||
        rate_field(options, request->max_rate, sizeof request->max_rate, err) < 0 ||
        snapshot_field(options, "parent", request->parent, true, err) < 0 ||
        keep_fields(options, request->keep, err) < 0)
        return err_context(err, "field \"options\"");
    return 0;
}

static int check_snapshot(const struct task_request *request, struct err *err)
{
    bool named = request->snapshot[0] != '\0';

    if (request->kind == TASK_VERIFY && !named)
        return err_set(err, ERR_INVALID, "field \"snapshot\": is missing: verify which one?");
    if ((request->kind == TASK_CREATE || request->kind == TASK_GC) && named)
        return err_set(err, ERR_INVALID, "field \"snapshot\": a task of kind %s has none",
                       task_kind_names[request->kind]);
    return 0;
}

int task_request_parse(const json_t *body, struct task_request *request, struct err *err)
{
    static const char *const names[] = {"id", "kind", "snapshot", "store", "who", "options", NULL};
    int kind = 0;

    *request = (struct task_request){.who = "unknown"};
    for (int i = 0; i < TASK_KEEPS; i++)
        request->keep[i] = -1;
    if (json_check_fields(body, names, err) < 0 ||
        json_field_string(body, "id", JSON_REQUIRED, request->id, sizeof request->id, err) < 0)
        return -1;
    if (!task_id_valid(request->id))
        return err_set(err, ERR_INVALID,
                       "field \"id\": expected 16 hexadecimal digits in lower case");
    if (json_field_enum(body, "kind", JSON_REQUIRED, task_kind_names, &kind, err) < 0 ||
        snapshot_field(body, "snapshot", request->snapshot, false, err) < 0 ||
        json_field_string(body, "store", JSON_REQUIRED, request->store, sizeof request->store,
                          err) < 0 ||
        task_store_check(request->store, err) < 0 ||
        json_field_string(body, "who", JSON_OPTIONAL, request->who, sizeof request->who, err) < 0 ||
        option_fields(body, request, err) < 0)
        return -1;
    request->kind = (enum task_kind)kind;
    return check_snapshot(request, err);
}

/* --- what the child says -------------------------------------------------------------------- */

void task_begin(struct task *task, const struct task_request *request, int64_t wall_ms,
                int64_t now_ms)
{
    task_free(task);
    *task = (struct task){.request = *request,
                          .state = TASK_RUNNING,
                          .begun_ms = wall_ms,
                          .phase_ms = now_ms,
                          .moved_ms = now_ms};
}

static void take_progress(struct task *task, const json_t *json, int64_t now_ms)
{
    char phase[TASK_PHASE_SIZE];
    int64_t done = 0, total = 0, stored = 0;

    if (json_field_string(json, "phase", JSON_REQUIRED, phase, sizeof phase, NULL) < 0 ||
        json_field_int(json, "done_bytes", JSON_OPTIONAL, 0, INT64_MAX, &done, NULL) < 0 ||
        json_field_int(json, "total_bytes", JSON_OPTIONAL, 0, INT64_MAX, &total, NULL) < 0 ||
        json_field_int(json, "stored_bytes", JSON_OPTIONAL, 0, INT64_MAX, &stored, NULL) < 0)
        return;
    if (strcmp(phase, task->phase) != 0) {
        memcpy(task->phase, phase, sizeof phase);
        task->phase_ms = now_ms;
        task->phase_bytes = (uint64_t)done;
    } else if ((uint64_t)done == task->done_bytes && (uint64_t)stored == task->stored_bytes) {
        return; /* nothing new: a sign of life is no progress */
    }
    task->done_bytes = (uint64_t)done;
    task->total_bytes = (uint64_t)total;
    task->stored_bytes = (uint64_t)stored;
    task->moved_ms = now_ms;
}

static void take_end(struct task *task, struct task_output *output, json_t *json)
{
    const json_t *error = json_object_get(json, "error");
    json_t *result = json_object_get(json, "result");

    output->ended = true;
    if (json_is_object(result)) {
        json_decref(task->result);
        task->result = json_incref(result);
    }
    if (!json_is_object(error))
        return;
    if (json_field_string(error, "code", JSON_REQUIRED, task->error_code, sizeof task->error_code,
                          NULL) < 0)
        snprintf(task->error_code, sizeof task->error_code, "internal");
    if (json_field_string(error, "text", JSON_REQUIRED, task->error_text, sizeof task->error_text,
                          NULL) < 0)
        snprintf(task->error_text, sizeof task->error_text, "it failed and does not say why");
}

static bool take_line(struct task *task, struct task_output *output, int64_t now_ms)
{
    json_t *json = NULL;

    if (output->used == 0 || output->ended)
        return false;
    if (output->line[0] != '{' ||
        json_parse_bounded(output->line, output->used, LINE_DEPTH, &json, NULL) < 0) {
        snprintf(output->said, sizeof output->said, "%.*s", (int)output->used, output->line);
        return false;
    }
    if (json_object_get(json, "phase") != NULL)
        take_progress(task, json, now_ms);
    else if (json_object_get(json, "result") != NULL || json_object_get(json, "error") != NULL)
        take_end(task, output, json);
    json_decref(json);
    return true;
}

bool task_take(struct task *task, struct task_output *output, const char *data, size_t size,
               int64_t now_ms)
{
    bool changed = false;

    if (output->line == NULL)
        output->line = xmalloc(TASK_LINE_MAX);
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n') {
            if (!output->skipping)
                changed = take_line(task, output, now_ms) || changed;
            output->used = 0;
            output->skipping = false;
        } else if (output->used < TASK_LINE_MAX) {
            output->line[output->used++] = data[i];
        } else {
            output->skipping = true;
        }
    }
    return changed;
}

void task_output_free(struct task_output *output)
{
    free(output->line);
    *output = (struct task_output){0};
}

void task_end(struct task *task, const struct task_output *output, const char *how,
              const char *code, const char *text, int64_t wall_ms)
{
    bool done = output->ended && task->error_code[0] == '\0';

    task->ended_ms = wall_ms;
    task->state = done ? TASK_DONE : TASK_FAILED;
    if (!done && code != NULL) {
        snprintf(task->error_code, sizeof task->error_code, "%s", code);
        snprintf(task->error_text, sizeof task->error_text, "%s", text);
    } else if (!output->ended) {
        snprintf(task->error_code, sizeof task->error_code, "died");
        snprintf(task->error_text, sizeof task->error_text,
                 "ogelctl ended in the middle (%.60s)%s%.380s", how,
                 output->said[0] != '\0' ? ", its last words: " : "", output->said);
    }
    if (!done) {
        json_decref(task->result);
        task->result = NULL;
    }
}

/* --- telling -------------------------------------------------------------------------------- */

/* Within the phase that it is in: the one before may have run at another pace. */
static void put_speed(const struct task *task, int64_t now_ms, json_t *json)
{
    int64_t spent_ms = now_ms - task->phase_ms;
    uint64_t moved = task->done_bytes > task->phase_bytes ? task->done_bytes - task->phase_bytes
                                                          : 0;
    double rate = spent_ms > 0 ? (double)moved * 1000 / (double)spent_ms : 0;
    json_t *left = json_null();

    if (rate >= 1 && task->total_bytes > task->done_bytes)
        left = json_integer(
            (json_int_t)((double)(task->total_bytes - task->done_bytes) / rate + 0.5));
    json_object_set_new(json, "bytes_per_second", json_integer((json_int_t)rate));
    json_object_set_new(json, "seconds_left", left);
}

json_t *task_json(const struct task *task, int64_t now_ms)
{
    const struct task_request *request = &task->request;
    json_t *json;

    if (task->state == TASK_NONE)
        return json_pack("{s:s}", "state", state_names[TASK_NONE]);
    json = json_pack("{s:s,s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:I}", "id", request->id, "kind",
                     task_kind_names[request->kind], "state", state_names[task->state], "store",
                     request->store, "phase", json_text(task->phase), "done_bytes",
                     (json_int_t)task->done_bytes, "total_bytes", (json_int_t)task->total_bytes,
                     "stored_bytes", (json_int_t)task->stored_bytes, "begun_ms",
                     (json_int_t)task->begun_ms);
    OGEL_CHECK(json != NULL);
    json_object_set_new(json, "who", json_text(request->who));
    if (task->state == TASK_RUNNING)
        put_speed(task, now_ms, json);
    else
        json_object_set_new(json, "ended_ms", json_integer((json_int_t)task->ended_ms));
    if (task->result != NULL)
        json_object_set(json, request->kind == TASK_GC ? "result" : "snapshot", task->result);
    if (task->error_code[0] != '\0')
        json_object_set_new(json, "error",
                            json_pack("{s:o,s:o}", "code", json_text(task->error_code), "text",
                                      json_text(task->error_text)));
    return json;
}

void task_free(struct task *task)
{
    json_decref(task->result);
    *task = (struct task){0};
}
