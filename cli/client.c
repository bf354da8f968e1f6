#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_client.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    ANSWER_DEPTH = 16,
    CONNECT_MS = 2000,
    STREAM_MS = 24 * 3600 * 1000,
    URL_SIZE = 2048,
};

struct call {
    const char *method;
    const char *path;
    const char *body;
    const char *accept;
    int64_t timeout_ms;
    bool again;      /* may be asked of several: it changes nothing */
    int64_t wait_ms; /* that the orchestrator itself waits before it answers */
    client_data_fn *on_data;
    void *on_data_arg;
};

char *client_encode(const char *text)
{
    char *out = xmalloc(strlen(text) * 3 + 1), *at = out;

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            strchr("-._~", c) != NULL)
            *at++ = (char)c;
        else
            at += snprintf(at, 4, "%%%02X", c);
    }
    *at = '\0';
    return out;
}

char *client_cluster_path(const struct ctl *ctl, const char *suffix)
{
    char *name = client_encode(ctl->cluster);
    char *path = xasprintf("/v1/clusters/%s%s", name, suffix);

    free(name);
    return path;
}

/* --- one call, one orchestrator ------------------------------------------------------------- */

static void call_one(const struct ctl *ctl, uint32_t which, const struct call *call,
                     int64_t timeout_ms, struct http_result *result)
{
    char who[WHO_SIZE + 32], accept[64], address[UNITS_ADDRESS_SIZE], url[URL_SIZE];
    const char *headers[] = {who, accept, NULL};

    snprintf(who, sizeof(who), "X-Ogel-Operator: %s", ctl->who);
    snprintf(accept, sizeof(accept), "Accept: %s", call->accept);
    snprintf(url, sizeof(url), "http://%s%s",
             units_format_address(&ctl->orchestrators[which], address), call->path);
    http_call_blocking(NULL,
                       &(struct http_call_spec){
                           .method = call->method,
                           .url = url,
                           .token = ctl->token[0] != '\0' ? ctl->token : NULL,
                           .body = call->body,
                           .body_size = call->body != NULL ? strlen(call->body) : 0,
                           .headers = headers,
                           .timeout_ms = (int)timeout_ms,
                           .connect_timeout_ms = CONNECT_MS,
                           .on_data = call->on_data,
                           .on_data_arg = call->on_data_arg,
                       },
                       result);
}

static const char *failure_text(const struct http_result *result)
{
    switch (result->outcome) {
    case HTTP_CALL_REFUSED: return "connection refused";
    case HTTP_CALL_UNREACHABLE: return "no route to the host";
    case HTTP_CALL_TIMEOUT: return "no answer in time";
    case HTTP_CALL_RESET: return "the connection broke";
    case HTTP_CALL_UNRESOLVED: return "the host name is not known";
    default: return result->error;
    }
}

/* Nothing has been carried out there: it was never reached. */
static bool never_arrived(const struct http_result *result)
{
    return result->outcome == HTTP_CALL_REFUSED || result->outcome == HTTP_CALL_UNREACHABLE ||
           result->outcome == HTTP_CALL_UNRESOLVED;
}

/* A frozen orchestrator must not keep us from the next one. */
static int64_t try_timeout(const struct ctl *ctl, const struct call *call)
{
    int64_t try_ms = ctl->try_ms + call->wait_ms;

    return call->again && call->timeout_ms > try_ms ? try_ms : call->timeout_ms;
}

/* Asks from the current one on, until one answers. RESULT is the caller's to free where CTL_OK is
 * returned; otherwise ERR names all that were tried. */
static enum ctl_exit call_any(struct ctl *ctl, struct call *call, struct http_result *result,
                              struct err *err)
{
    char failures[ORCHESTRATORS_MAX * 128] = ""; /* err_set() cuts it */

    for (uint32_t i = 0; i < ctl->orchestrator_count; i++) {
        uint32_t which = (ctl->current + i) % ctl->orchestrator_count;
        char address[UNITS_ADDRESS_SIZE];
        size_t used = strlen(failures);

        units_format_address(&ctl->orchestrators[which], address);
        call_one(ctl, which, call, try_timeout(ctl, call), result);
        if (result->outcome == HTTP_CALL_OK) {
            ctl->current = which;
            return CTL_OK;
        }
        if (!call->again && !never_arrived(result)) {
            err_set(err, ERR_TIMEOUT,
                    "%s: %s\nwhether it was carried out is not known: see ogelctl status and "
                    "ogelctl events",
                    address, failure_text(result));
            http_result_free(result);
            return CTL_UNDECIDED;
        }
        if (used < sizeof(failures) - 1)
            snprintf(failures + used, sizeof(failures) - used, "\n  %.120s: %.200s", address,
                     failure_text(result));
        http_result_free(result);
    }
    err_set(err, ERR_UNAVAILABLE, "no orchestrator answers:%s\n%s", failures,
            ctl->config_file[0] != '\0' || ctl->orchestrator_count > 1
                ? "is ogel-orchestrator running there? The databases run on without it"
                : "no configuration file was found; say where one is: --orchestrator HOST:PORT");
    return CTL_UNREACHABLE;
}

/* --- what an answer means ------------------------------------------------------------------- */

static const char *token_advice(const struct ctl *ctl)
{
    return ctl->token_file[0] != '\0' ? ctl->token_file
                                      : "none: give --token-file FILE, or token: in the file";
}

static enum ctl_exit judge(const struct ctl *ctl, const struct http_result *result,
                           const json_t *answer, struct err *err)
{
    const char *detail = json_string_value(json_object_get(answer, "detail"));

    if (result->status >= 200 && result->status < 300)
        return CTL_OK;
    switch (result->status) {
    case 401:
        err_set(err, ERR_AUTH, "the orchestrator does not accept the token (%s)",
                token_advice(ctl));
        return CTL_UNREACHABLE;
    case 403:
        err_set(err, ERR_AUTH, "this token may only look; changes need the admin token (%s)",
                token_advice(ctl));
        return CTL_UNREACHABLE;
    case 504:
        err_set(err, ERR_TIMEOUT, "%s", detail != NULL ? detail : "not done in time");
        return CTL_UNDECIDED;
    default:
        if (detail != NULL)
            err_set(err, ERR_REFUSED, "%s", detail);
        else
            err_set(err, ERR_REFUSED, "the orchestrator answered with status %d: %.200s",
                    result->status, result->body);
        return CTL_REFUSED;
    }
}

static enum ctl_exit call_json(struct ctl *ctl, struct call *call, json_t **answer, struct err *err)
{
    struct http_result result = {0};
    struct err bad = {0};
    enum ctl_exit rc;

    *answer = NULL;
    call->accept = "application/json";
    rc = call_any(ctl, call, &result, err);
    if (rc != CTL_OK)
        return rc;
    if (json_parse_bounded(result.body, result.body_size, ANSWER_DEPTH, answer, &bad) < 0)
        *answer = NULL;
    rc = judge(ctl, &result, *answer, err);
    if (rc == CTL_OK && !json_is_object(*answer)) {
        char address[UNITS_ADDRESS_SIZE];

        err_set(err, ERR_INVALID, "%s is no orchestrator: its answer is no JSON object (%s)",
                units_format_address(&ctl->orchestrators[ctl->current], address), bad.text);
        rc = CTL_UNREACHABLE;
    }
    http_result_free(&result);
    return rc;
}

enum ctl_exit client_get_waiting(struct ctl *ctl, const char *path, int64_t wait_ms,
                                 json_t **answer, struct err *err)
{
    struct call call = {.method = "GET",
                        .path = path,
                        .timeout_ms = ctl->timeout_ms + wait_ms,
                        .again = true,
                        .wait_ms = wait_ms};
    enum ctl_exit rc = call_json(ctl, &call, answer, err);

    if (rc == CTL_OK)
        return rc;
    json_decref(*answer);
    *answer = NULL;
    return rc;
}

enum ctl_exit client_get(struct ctl *ctl, const char *path, json_t **answer, struct err *err)
{
    return client_get_waiting(ctl, path, 0, answer, err);
}

enum ctl_exit client_post(struct ctl *ctl, const char *path, const json_t *body, json_t **answer,
                          struct err *err)
{
    char *text = body != NULL ? json_dump_line(body) : xstrdup("{}");
    struct call call = {
        .method = "POST", .path = path, .body = text, .timeout_ms = ctl->timeout_ms};
    enum ctl_exit rc = call_json(ctl, &call, answer, err);

    free(text);
    return rc;
}

/* --- streams -------------------------------------------------------------------------------- */

enum ctl_exit client_stream(struct ctl *ctl, const char *path, client_data_fn *fn, void *arg,
                            struct err *err)
{
    struct call call = {.method = "GET",
                        .path = path,
                        .accept = "text/event-stream",
                        .on_data = fn,
                        .on_data_arg = arg};
    struct http_result result = {0};
    enum ctl_exit rc = CTL_OK;

    call_one(ctl, ctl->current, &call, STREAM_MS, &result);
    if (result.status != 0)
        rc = judge(ctl, &result, NULL, err);
    else if (result.outcome != HTTP_CALL_OK) {
        err_set(err, ERR_UNAVAILABLE, "%s", failure_text(&result));
        rc = CTL_UNREACHABLE;
    }
    http_result_free(&result);
    return rc;
}

void client_next(struct ctl *ctl)
{
    ctl->current = (ctl->current + 1) % ctl->orchestrator_count;
}

/* --- which cluster -------------------------------------------------------------------------- */

enum ctl_exit client_find_cluster(struct ctl *ctl, struct err *err)
{
    const json_t *list, *item;
    json_t *answer = NULL;
    enum ctl_exit rc;
    size_t i;

    if (ctl->cluster[0] != '\0')
        return CTL_OK;
    rc = client_get(ctl, "/v1/clusters", &answer, err);
    if (rc != CTL_OK)
        return rc;
    list = json_object_get(answer, "clusters");
    if (json_array_size(list) == 1) {
        const char *name = json_string_value(json_object_get(json_array_get(list, 0), "name"));

        snprintf(ctl->cluster, sizeof(ctl->cluster), "%s", name != NULL ? name : "");
    } else {
        char names[300] = "";

        json_array_foreach(list, i, item)
        {
            const char *name = json_string_value(json_object_get(item, "name"));
            size_t used = strlen(names);

            snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "",
                     name != NULL ? name : "?");
        }
        err_set(err, ERR_INVALID, "which cluster? Name one with --cluster: %s", names);
        rc = CTL_USAGE;
    }
    json_decref(answer);
    return rc;
}
