/*
 * fake_agents -n CLUSTERS -t TOKENFILE [-b FIRST] [-l MS] [-f MS]
 *
 * Serves the agents of CLUSTERS clusters, the first one named c<FIRST>, on loopback ports
 * (fake_agents.h). First prints one line of JSON: {"control": port, "clusters": [{"name", "nodes":
 * [{"id", "agent"}]}]}; at the end of its standard input another one, what was measured. Every -l
 * milliseconds the WAL of each cluster grows; every -f one follower leaves or comes back.
 *
 * The control port takes POST /kill, /flap, /write, /fault?kind=…&status=…, /serve?on=0|1 (each
 * with cluster=N, the latter two with node=N), /start?kill_ms=… (from now on a leader dies each so
 * many milliseconds), and GET /stats.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/secret.h"
#include "tests/bench/fake_agents.h"

enum { TICK_NS = 1000000, SAMPLES_MAX = 1 << 20 };

struct program {
    struct fakes fakes;
    struct http_server *control;
    struct loop_watch *tick;
    int tick_fd;
    int64_t lag_ms, flap_ms, kill_ms; /* 0: never */
    int64_t written_us, flapped_us, killed_us;
    const char *token_file;
    uint32_t count;
};

/* --- what happens by itself --- */

/* A leader at random, of a cluster that is ready for it. */
static void kill_one(struct fakes *fakes)
{
    uint32_t first = (uint32_t)rand_below(fakes->count);

    for (uint32_t i = 0; i < fakes->count; i++) {
        struct fake_cluster *cluster = &fakes->clusters[(first + i) % fakes->count];

        if (fake_cluster_settled(cluster) && fake_cluster_kill(cluster)) {
            fakes->kills++;
            return;
        }
    }
    fakes->kills_skipped++;
}

/* How many of what happens EVERY_US are due since the last call, whose time is in *LAST_US. */
static uint64_t due(int64_t now_us, int64_t every_us, int64_t *last_us)
{
    uint64_t n = every_us > 0 ? (uint64_t)((now_us - *last_us) / every_us) : 0;

    *last_us += (int64_t)n * every_us;
    return n;
}

/* Writes are spread over the time, as those of clusters that know nothing of each other. */
static void on_tick(int fd, unsigned events, void *arg)
{
    struct program *program = arg;
    struct fakes *fakes = &program->fakes;
    int64_t now_us = clock_mono_us();
    uint64_t ticks;

    (void)events;
    if (read(fd, &ticks, sizeof(ticks)) < 0)
        return;
    for (uint64_t n = due(now_us, program->lag_ms * 1000 / fakes->count, &program->written_us);
         n > 0; n--)
        fake_cluster_write(&fakes->clusters[fakes->next_lag++ % fakes->count]);
    if (due(now_us, program->flap_ms * 1000, &program->flapped_us) > 0)
        fake_cluster_flap(&fakes->clusters[rand_below(fakes->count)]);
    if (due(now_us, program->kill_ms * 1000, &program->killed_us) > 0)
        kill_one(fakes);
    fakes_expire(fakes);
}

static int start_ticking(struct program *program, struct err *err)
{
    struct itimerspec every = {.it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0 || timerfd_settime(fd, 0, &every, NULL) != 0)
        return err_set(err, ERR_IO, "no timer: %m");
    program->written_us = program->flapped_us = clock_mono_us();
    program->tick_fd = fd;
    program->tick = loop_watch_new(program->fakes.loop, fd, LOOP_READ, on_tick, program);
    return 0;
}

/* --- what was measured --- */

static json_t *list(const uint32_t *samples, size_t n)
{
    json_t *json = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(json, json_integer(samples[i]));
    return json;
}

static json_t *stats(const struct fakes *fakes)
{
    uint32_t settled = 0;

    for (uint32_t i = 0; i < fakes->count; i++)
        settled += fake_cluster_settled(&fakes->clusters[i]);
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "settled", (json_int_t)settled,
                     "kills", (json_int_t)fakes->kills, "kills_skipped",
                     (json_int_t)fakes->kills_skipped, "flaps", (json_int_t)fakes->flaps, "polls",
                     (json_int_t)fakes->polls, "reports", (json_int_t)fakes->reports, "messages",
                     (json_int_t)fakes->messages, "refusals", (json_int_t)fakes->refusals,
                     "detection_us", list(fakes->detection_us, fakes->n_detected), "granted_us",
                     list(fakes->granted_us, fakes->n_granted));
}

/* --- the control port --- */

static int64_t number(const struct http_request *request, const char *name)
{
    const char *text = http_request_query(request, name);

    return text != NULL ? strtoll(text, NULL, 10) : 0;
}

static struct fake_cluster *cluster_of(struct program *program, struct http_request *request)
{
    return &program->fakes.clusters[(uint64_t)number(request, "cluster") % program->fakes.count];
}

static struct fake_node *node_of(struct program *program, struct http_request *request)
{
    return &cluster_of(program, request)->nodes[(uint64_t)number(request, "node") % NODE_COUNT];
}

static void post_kill(struct http_request *request, void *arg)
{
    struct program *program = arg;
    bool killed = fake_cluster_kill(cluster_of(program, request));

    program->fakes.kills += killed;
    http_respond(request, killed ? 204 : 409, NULL, NULL, 0);
}

static void post_flap(struct http_request *request, void *arg)
{
    fake_cluster_flap(cluster_of(arg, request));
    http_respond(request, 204, NULL, NULL, 0);
}

static void post_write(struct http_request *request, void *arg)
{
    fake_cluster_write(cluster_of(arg, request));
    http_respond(request, 204, NULL, NULL, 0);
}

static void post_fault(struct http_request *request, void *arg)
{
    const char *kind = http_request_query(request, "kind");

    for (int i = 0; kind != NULL && fake_fault_names[i] != NULL; i++) {
        if (strcmp(kind, fake_fault_names[i]) != 0)
            continue;
        fake_node_fault(node_of(arg, request), (enum fake_fault)i, (int)number(request, "status"));
        http_respond(request, 204, NULL, NULL, 0);
        return;
    }
    http_respond_problem(request, 400, NULL, "no such kind of fault");
}

static void post_serve(struct http_request *request, void *arg)
{
    struct err err = {0};

    if (fake_node_serve(node_of(arg, request), number(request, "on") != 0, &err) != 0)
        http_respond_problem(request, 500, NULL, "%s", err.text);
    else
        http_respond(request, 204, NULL, NULL, 0);
}

/* Deaths from now on, so that a start is not measured. */
static void post_start(struct http_request *request, void *arg)
{
    struct program *program = arg;

    program->fakes.n_detected = program->fakes.n_granted = 0;
    program->fakes.kills = program->fakes.kills_skipped = 0;
    program->fakes.polls = program->fakes.reports = program->fakes.messages = 0;
    program->kill_ms = number(request, "kill_ms");
    program->killed_us = clock_mono_us();
    http_respond(request, 204, NULL, NULL, 0);
}

static void get_stats(struct http_request *request, void *arg)
{
    http_respond_json(request, 200, stats(&((struct program *)arg)->fakes));
}

static int serve_control(struct program *program, struct err *err)
{
    static struct http_route routes[] = {
        {HTTP_POST, "/kill", HTTP_PEER, post_kill, NULL},
        {HTTP_POST, "/flap", HTTP_PEER, post_flap, NULL},
        {HTTP_POST, "/write", HTTP_PEER, post_write, NULL},
        {HTTP_POST, "/fault", HTTP_PEER, post_fault, NULL},
        {HTTP_POST, "/serve", HTTP_PEER, post_serve, NULL},
        {HTTP_POST, "/start", HTTP_PEER, post_start, NULL},
        {HTTP_GET, "/stats", HTTP_PEER, get_stats, NULL},
    };
    const struct http_token token = {"peer", HTTP_ROLE_PEER, program->fakes.token};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(routes); i++)
        routes[i].arg = program;
    return http_server_start(
        &program->control, program->fakes.loop,
        &(struct http_server_config){
            .routes = routes, .n_routes = OGEL_ARRAY_LEN(routes), .tokens = &token, .n_tokens = 1},
        err);
}

/* --- the program --- */

static void print_line(json_t *json)
{
    char *text = json_dump_line(json);

    puts(text);
    fflush(stdout);
    free(text);
    json_decref(json);
}

static void introduce(const struct program *program)
{
    json_t *clusters = json_array();

    for (uint32_t i = 0; i < program->fakes.count; i++) {
        const struct fake_cluster *cluster = &program->fakes.clusters[i];
        json_t *nodes = json_array();

        for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
            char *id = xasprintf("n%d", slot + 1);
            char *agent = xasprintf("127.0.0.1:%d", cluster->nodes[slot].port);

            json_array_append_new(nodes, json_pack("{s:s,s:s}", "id", id, "agent", agent));
            free(id);
            free(agent);
        }
        json_array_append_new(clusters,
                              json_pack("{s:s,s:o}", "name", cluster->name, "nodes", nodes));
    }
    print_line(json_pack("{s:i,s:o}", "control", http_server_port(program->control), "clusters",
                         clusters));
}

static void input_ended(int fd, unsigned events, void *arg)
{
    char bytes[64];

    (void)events;
    if (read(fd, bytes, sizeof(bytes)) <= 0)
        loop_stop(arg);
}

static void usage(void)
{
    fprintf(stderr, "usage: fake_agents -n CLUSTERS -t TOKENFILE [-b FIRST] [-l MS] [-f MS]\n");
    exit(64);
}

static void read_arguments(struct program *program, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "n:t:b:l:f:")) != -1) {
        switch (option) {
        case 'n': program->count = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 't': program->token_file = optarg; break;
        case 'l': program->lag_ms = strtoll(optarg, NULL, 10); break;
        case 'b': program->fakes.first = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'f': program->flap_ms = strtoll(optarg, NULL, 10); break;
        default: usage();
        }
    }
    if (program->count == 0 || program->token_file == NULL || optind != argc)
        usage();
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int start(struct program *program, struct err *err)
{
    struct fakes *fakes = &program->fakes;

    if (secret_read_file(program->token_file, fakes->token, sizeof(fakes->token), err) != 0 ||
        loop_new(&fakes->loop, err) != 0)
        return -1;
    fakes->room = SAMPLES_MAX;
    fakes->detection_us = xcalloc(fakes->room, sizeof(*fakes->detection_us));
    fakes->granted_us = xcalloc(fakes->room, sizeof(*fakes->granted_us));
    if (fakes_start(fakes, program->count, err) != 0 || serve_control(program, err) != 0)
        return -1;
    return start_ticking(program, err);
}

int main(int argc, char **argv)
{
    static struct program program;
    struct loop_watch *input;
    struct err err = {0};

    read_arguments(&program, argc, argv);
    raise_descriptor_limit();
    if (start(&program, &err) != 0) {
        fprintf(stderr, "fake_agents: %s\n", err.text);
        return 1;
    }
    introduce(&program);
    input = loop_watch_new(program.fakes.loop, STDIN_FILENO, LOOP_READ, input_ended,
                           program.fakes.loop);
    if (loop_run(program.fakes.loop, &err) != 0)
        fprintf(stderr, "fake_agents: %s\n", err.text);
    print_line(stats(&program.fakes));
    loop_watch_free(input);
    loop_watch_free(program.tick);
    close(program.tick_fd);
    http_server_stop(program.control);
    fakes_stop(&program.fakes);
    free(program.fakes.detection_us);
    free(program.fakes.granted_us);
    loop_free(program.fakes.loop);
    return err.code != 0;
}
