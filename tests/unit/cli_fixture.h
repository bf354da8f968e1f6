/* What the tests of ogelctl share: an orchestrator that says what it is told to, in a thread of its
 * own, and what a command wrote. */
#ifndef OGEL_TESTS_UNIT_CLI_FIXTURE_H
#define OGEL_TESTS_UNIT_CLI_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/http_client.h"
#include "base/http_server.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/options.h"

#define CLI_TOKEN "admin-token-0123456789"

/* What is answered to POSTs, and what came. Handlers run in the server's thread while the test
 * waits for the command, so nothing is touched by both at once. */
struct fake {
    struct loop *loop;
    struct http_server *server;
    pthread_t thread;
    int port;
    json_t *cluster;
    json_t *later; /* what the cluster is from the third look on; NULL: no change */
    int looks;
    int post_status; /* of the answer to every POST */
    int posts;
    int connect_after_ms; /* how long /connect waits for a leader */
    json_t *tasks;        /* told one after the other, the last again and again */
    size_t task;
    const char *snapshots; /* JSON */
    char path[256];        /* of the last POST */
    char body[1024];
    char who[128];
};

static inline void fake_get(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    if (++fake->looks == 3 && fake->later != NULL) {
        json_decref(fake->cluster);
        fake->cluster = json_incref(fake->later);
    }
    if (strcmp(request->path, "/v1/clusters") == 0)
        http_respond_json(request, 200, json_pack("{s:[O]}", "clusters", fake->cluster));
    else
        http_respond_json(request, 200, json_incref(fake->cluster));
}

static inline void fake_woken(struct http_request *request, enum http_wake why, void *arg)
{
    (void)arg;
    if (why == HTTP_WAKE_DEADLINE)
        http_respond_json(request, 200, json_pack("{s:s}", "uri", "postgresql://late:1/"));
}

static inline void fake_connect(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    if (fake->connect_after_ms > 0)
        http_suspend(request, fake->connect_after_ms, fake_woken, NULL);
    else
        fake_woken(request, HTTP_WAKE_DEADLINE, NULL);
}

static inline void fake_post(struct http_request *request, void *arg)
{
    struct fake *fake = arg;
    const char *who = http_request_header(request, "X-Ogel-Operator");

    fake->posts++;
    snprintf(fake->path, sizeof(fake->path), "%s", request->path);
    snprintf(fake->body, sizeof(fake->body), "%s", request->body);
    snprintf(fake->who, sizeof(fake->who), "%s", who != NULL ? who : "");
    if (fake->post_status == 200)
        http_respond_json(request, 200,
                          json_pack("{s:b,s:s,s:s,s:O}", "ok", 1, "reason", "O3", "text",
                                    "switchover done", "cluster", fake->cluster));
    else
        http_respond_problem(request, fake->post_status, NULL, "the reason of the test");
}

static inline void fake_task(struct http_request *request, void *arg)
{
    struct fake *fake = arg;
    size_t last = json_array_size(fake->tasks) - 1, at = fake->task < last ? fake->task : last;

    fake->task++;
    http_respond_json(request, 200, json_pack("{s:O}", "task", json_array_get(fake->tasks, at)));
}

static inline void fake_order(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    fake->post_status = fake->post_status == 200 ? 202 : fake->post_status;
    if (fake->post_status != 202) {
        fake_post(request, fake);
        return;
    }
    fake->posts++;
    snprintf(fake->path, sizeof(fake->path), "%s", request->path);
    snprintf(fake->body, sizeof(fake->body), "%s", request->body);
    http_respond_json(request, 202, json_pack("{s:O}", "task", json_array_get(fake->tasks, 0)));
}

static inline void fake_snapshots(struct http_request *request, void *arg)
{
    struct fake *fake = arg;

    http_respond_json(request, 200, json_loads(fake->snapshots, 0, NULL));
}

static inline void *fake_run(void *arg)
{
    struct fake *fake = arg;
    struct err err = {0};

    assert_int_equal(loop_run(fake->loop, &err), 0);
    return NULL;
}

static inline void fake_halt(void *arg)
{
    loop_stop(arg);
}

static inline void fake_start(struct fake *fake, const char *cluster)
{
    static struct http_route routes[] = {
        {HTTP_GET, "/connect", HTTP_READ, fake_connect, NULL},
        {HTTP_GET, "/v1/clusters/{name}/settings", HTTP_READ, fake_get, NULL},
        {HTTP_GET, "/v1/clusters", HTTP_READ, fake_get, NULL},
        {HTTP_GET, "/v1/clusters/{name}", HTTP_READ, fake_get, NULL},
        {HTTP_POST, "/v1/clusters/{name}/init", HTTP_ADMIN, fake_post, NULL},
        {HTTP_POST, "/v1/clusters/{name}/switchover", HTTP_ADMIN, fake_post, NULL},
        {HTTP_POST, "/v1/clusters/{name}/failover", HTTP_ADMIN, fake_post, NULL},
        {HTTP_POST, "/v1/clusters/{name}/settings", HTTP_ADMIN, fake_post, NULL},
        {HTTP_GET, "/v1/clusters/{name}/snapshots", HTTP_READ, fake_snapshots, NULL},
        {HTTP_GET, "/v1/clusters/{name}/snapshots/task", HTTP_READ, fake_task, NULL},
        {HTTP_POST, "/v1/clusters/{name}/snapshots", HTTP_ADMIN, fake_order, NULL},
        {HTTP_POST, "/v1/clusters/{name}/snapshots/gc", HTTP_ADMIN, fake_order, NULL},
        {HTTP_POST, "/v1/clusters/{name}/snapshots/{id}/{kind}", HTTP_ADMIN, fake_order, NULL},
    };
    static const struct http_token tokens[] = {{"admin", HTTP_ROLE_ADMIN, CLI_TOKEN}};
    struct http_server_config config = {
        .routes = routes, .n_routes = OGEL_ARRAY_LEN(routes), .tokens = tokens, .n_tokens = 1};
    struct err err = {0};

    memset(fake, 0, sizeof(*fake));
    fake->post_status = 200;
    fake->cluster = json_loads(cluster, 0, NULL);
    assert_non_null(fake->cluster);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(routes); i++)
        routes[i].arg = fake;
    assert_int_equal(loop_new(&fake->loop, &err), 0);
    assert_int_equal(http_server_start(&fake->server, fake->loop, &config, &err), 0);
    fake->port = http_server_port(fake->server);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

static inline void fake_stop(struct fake *fake)
{
    loop_post(fake->loop, fake_halt, fake->loop);
    pthread_join(fake->thread, NULL);
    http_server_stop(fake->server);
    loop_free(fake->loop);
    json_decref(fake->cluster);
    json_decref(fake->later);
    json_decref(fake->tasks);
}

/* A command with what it printed. */
struct ran {
    enum ctl_exit rc;
    struct err err;
    char *out, *errors;
};

/* As main does it, without reading a configuration: `ctl` says where and as whom. */
static inline void ran_command(struct ran *ran, struct ctl *ctl, int argc, const char *const *argv)
{
    const struct ctl_command *command = ctl_command_find(argv[0]);
    const struct arg_row *tables[] = {ctl_global_options, NULL, NULL};
    FILE *out = stdout, *errors = stderr;
    struct args args = {0};
    size_t size;
    int at = 1;

    memset(ran, 0, sizeof(*ran));
    assert_non_null(command);
    tables[1] = command->options;
    assert_int_equal(
        args_parse(tables, argc, (char **)(uintptr_t)argv, &at, false, "ogelctl", &args, &ran->err),
        0);
    ctl->yes = args_given(&args, "yes");
    ctl->json = args_value(&args, "output") != NULL;
    stdout = open_memstream(&ran->out, &size);
    stderr = open_memstream(&ran->errors, &size);
    ran->rc = command->run(ctl, &args, &ran->err);
    fclose(stdout);
    fclose(stderr);
    stdout = out;
    stderr = errors;
}

static inline void ran_free(struct ran *ran)
{
    free(ran->out);
    free(ran->errors);
}

#endif
