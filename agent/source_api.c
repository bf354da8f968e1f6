/* POST /v1/source: what a snapshot's manifest says of it, for an orchestrator that is to have a
 * node made of one. The store is asked by `ogelctl snapshot`, as everywhere: what may hang or die
 * with it is a process of its own. One question at a time. */
#include "agent/api_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"
#include "agent/ogelctl.h"
#include "agent/worker.h"
#include "base/json.h"
#include "base/mem.h"
#include "protocol/codec.h"

enum { LOOKUP_MS = 30000, ANSWER_MARGIN_MS = 5000, OUTPUT_DEPTH = 8, SYSTEM_ID_SIZE = 24 };

struct lookup {
    struct agent *agent;
    struct http_request *request; /* NULL: the client went away */
    char *credentials_file;       /* NULL: none */
    char store[STORE_URL_SIZE];
    char id[SOURCE_ID_SIZE];        /* or "latest" */
    char system_id[SYSTEM_ID_SIZE]; /* of which system the latest; decimal, "" for an id */
    json_t *manifest;
    int status; /* of the answer, where there is no manifest */
    struct err err;
};

static void lookup_free(struct lookup *lookup)
{
    json_decref(lookup->manifest);
    free(lookup->credentials_file);
    free(lookup);
}

static bool is_latest(const struct lookup *lookup)
{
    return strcmp(lookup->id, "latest") == 0;
}

/* --- asking the store --- */

static int run_ogelctl(struct lookup *lookup, struct command_result *result)
{
    char *store = xasprintf("--store=%s", lookup->store), *credentials = NULL;
    const char *argv[12] = {ogelctl_path(), "snapshot", is_latest(lookup) ? "list" : "show", store,
                            "--output=json"};
    size_t argc = 5;
    int rc;

    if (lookup->credentials_file) {
        credentials = xasprintf("--store-credentials=%s", lookup->credentials_file);
        argv[argc++] = credentials;
    }
    if (!is_latest(lookup))
        argv[argc++] = lookup->id;
    rc = command_run(argv, LOOKUP_MS, result, &lookup->err);
    free(credentials);
    free(store);
    return rc;
}

/* The list is in the order of their beginnings; damaged ones have no system. */
static const json_t *newest_of(const json_t *list, const char *system_id)
{
    for (size_t i = json_array_size(list); i > 0; i--) {
        const json_t *entry = json_array_get(list, i - 1);
        const char *of = json_string_value(json_object_get(entry, "system_id"));

        if (of && strcmp(of, system_id) == 0)
            return entry;
    }
    return NULL;
}

static int take_output(struct lookup *lookup, const char *output)
{
    const json_t *found;
    json_t *json = NULL;

    if (json_parse_bounded(output, strlen(output), OUTPUT_DEPTH, &json, &lookup->err) < 0)
        return err_context(&lookup->err, "what %s says", ogelctl_path());
    found = is_latest(lookup) ? newest_of(json, lookup->system_id) : json;
    if (found)
        lookup->manifest = json_incref((json_t *)(uintptr_t)found);
    json_decref(json);
    if (found)
        return 0;
    lookup->status = 404;
    return err_set(&lookup->err, ERR_NOT_FOUND, "store %s has no snapshot of this cluster",
                   lookup->store);
}

static void lookup_work(void *arg)
{
    static const char prefix[] = "ogelctl: ";
    struct lookup *lookup = arg;
    struct command_result result;
    const char *said;

    if (run_ogelctl(lookup, &result) < 0)
        return;
    if (result.exit_code == 0 || (is_latest(lookup) && result.output[0] == '[')) {
        (void)!take_output(lookup, result.output);
    } else {
        said = command_last_line(&result);
        if (strncmp(said, prefix, sizeof prefix - 1) == 0)
            said += sizeof prefix - 1;
        err_set(&lookup->err, ERR_REFUSED, "%s", said);
    }
    command_result_free(&result);
}

/* --- answering --- */

/* A manifest as struct snapshot_source, and what people want to know before they agree. */
static int source_of(const struct lookup *lookup, json_t **out, struct err *err)
{
    const json_t *manifest = lookup->manifest;
    char system_id[SYSTEM_ID_SIZE];
    struct snapshot_source source = {.id = ""};
    static const char *const more[] = {"cluster", "logical_bytes", "stopped_ms"};

    if (json_field_string(manifest, "id", JSON_REQUIRED, source.id, sizeof source.id, err) < 0 ||
        json_field_string(manifest, "system_id", JSON_REQUIRED, system_id, sizeof system_id, err) <
            0 ||
        json_field_u32(manifest, "timeline", JSON_REQUIRED, &source.timeline, err) < 0 ||
        json_field_lsn(manifest, "stop_lsn", JSON_REQUIRED, &source.stop_lsn, err) < 0 ||
        json_field_u32(manifest, "postgres_version", JSON_REQUIRED, &source.pg_version, err) < 0)
        return -1;
    source.system_id = strtoull(system_id, NULL, 10);
    memcpy(source.store, lookup->store, sizeof source.store);
    *out = json_object();
    source_put(*out, "source", &source);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(more); i++)
        json_object_set(*out, more[i], json_object_get(manifest, more[i]));
    return 0;
}

static void lookup_done(void *arg)
{
    struct lookup *lookup = arg;
    struct http_request *request = lookup->request;
    json_t *answer = NULL;

    lookup->agent->api->source_lookup = NULL;
    if (request && lookup->manifest && source_of(lookup, &answer, &lookup->err) == 0)
        http_respond_json(request, 200, answer);
    else if (request)
        http_respond_problem(request, lookup->status, NULL, "%s", lookup->err.text);
    lookup_free(lookup);
}

static void lookup_over(struct http_request *request, enum http_wake why, void *arg)
{
    struct lookup *lookup = arg;

    lookup->request = NULL;
    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL, "the store %s did not answer in time",
                             lookup->store);
}

/* Whether there is such a snapshot the store says; but it is to be no option of ogelctl's. */
static bool id_is_plausible(const char *id)
{
    return id[0] != '-' && id[0] != '\0' &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") ==
               strlen(id);
}

static int parse(const json_t *body, struct lookup *lookup, struct err *err)
{
    if (json_field_string(body, "store", JSON_REQUIRED, lookup->store, sizeof lookup->store, err) <
            0 ||
        json_field_string(body, "id", JSON_REQUIRED, lookup->id, sizeof lookup->id, err) < 0 ||
        json_field_string(body, "system_id", JSON_OPTIONAL, lookup->system_id,
                          sizeof lookup->system_id, err) < 0)
        return -1;
    if (lookup->store[0] == '-' || lookup->store[0] == '\0')
        return err_set(err, ERR_INVALID, "field \"store\": expected the URL of a store");
    if (is_latest(lookup) && lookup->system_id[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "field \"id\": the latest of which system? Name the snapshot");
    if (!is_latest(lookup) && !id_is_plausible(lookup->id))
        return err_set(err, ERR_INVALID, "field \"id\": \"%s\" is no snapshot's id", lookup->id);
    return 0;
}

void api_source_post(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    const char *credentials = agent->config.options.snapshots.credentials_file;
    struct lookup *lookup;
    struct err err = {0};
    json_t *body;

    if (!api_may_change(request) || !(body = api_body(request)))
        return;
    lookup = xcalloc(1, sizeof *lookup);
    if (parse(body, lookup, &err) < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text);
        lookup_free(lookup);
    } else if (agent->api->source_lookup || agent->quitting) {
        http_respond_problem(request, 503, NULL, "another question is put to a store: ask again");
        lookup_free(lookup);
    } else {
        lookup->agent = agent;
        lookup->request = request;
        lookup->status = 502; /* unless the work learns more */
        err_set(&lookup->err, ERR_UNAVAILABLE, "the store was not asked");
        lookup->credentials_file = credentials ? xstrdup(credentials) : NULL;
        agent->api->source_lookup = lookup;
        http_suspend(request, LOOKUP_MS + ANSWER_MARGIN_MS, lookup_over, lookup);
        worker_run(agent->store_worker, lookup_work, lookup_done, lookup);
    }
    json_decref(body);
}
