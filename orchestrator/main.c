/* ogel-orchestrator: reads its options, starts the loop and everything in it, ends cleanly on
 * SIGTERM and SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/http_client.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/notify.h"
#include "base/opts.h"
#include "base/pgconn.h"
#include "base/rand.h"
#include "base/resolve.h"
#include "base/secret.h"
#include "config.h"
#include "orchestrator/options.h"
#include "orchestrator/shell.h"
#include "orchestrator/snapshots.h"

enum {
    LOG_QUEUE_BYTES = 1 << 20,
    LOG_STOP_MS = 1000,
    EXIT_CONFIG = 2,
    CLUSTERS_PER_CLIENT = 16,
    DESCRIPTORS_PER_NODE = 4,
    DESCRIPTORS_OTHER = 1200,
};

static const char summary[] = "supervises PostgreSQL clusters of three nodes and fails them over";
static const char description[] =
    "The orchestrator watches the agents of each cluster by long poll and Postgres itself by fresh "
    "connections. It "
    "elects a leader when there is none, tells each node whom to follow, answers applications that "
    "ask where to "
    "connect, and carries out what operators ask for.\n\n"
    "It keeps nothing that cannot be read back from the agents: it may be killed, restarted, or "
    "run more than once "
    "at any moment. It runs in the foreground, logs JSON lines to standard error and ends on "
    "SIGTERM or SIGINT; the "
    "databases run on. SIGHUP reads the reloadable options, tokens and passwords again.";

struct daemon {
    struct orchestrator orchestrator;
    struct orchestrator_options options;
    const char *config;
    struct loop_signal *signals[3];
};

/* Each cluster holds several sockets; the usual soft limit of 1024 is there for select(2), which
 * nobody uses here. */
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int read_secrets(struct orchestrator *o, struct err *err)
{
    if (secret_read_file(o->options->tokens.peer, o->peer_token, sizeof o->peer_token, err))
        return -1;
    o->monitor_password[0] = '\0';
    if (!o->options->monitor_password)
        return 0;
    return secret_read_file(o->options->monitor_password, o->monitor_password,
                            sizeof o->monitor_password, err);
}

static void apply_timeouts(struct orchestrator *o)
{
    const struct orchestrator_options *options = o->options;

    for (uint32_t i = 0; i < o->cluster_count; i++)
        o->clusters[i].options = (struct decide_options){
            .failure_timeout_ms = (uint32_t)options->failure_timeout_ms,
            .election_timeout_ms = (uint32_t)options->election_timeout_ms,
            .promotion_timeout_ms = (uint32_t)options->promotion_timeout_ms,
            .failover_backoff_ms = (uint32_t)options->failover_backoff_ms,
            .probe_interval_ms = (uint32_t)options->probe_interval_ms,
        };
}

static void cluster_fill(struct orchestrator *o, struct cluster *cluster,
                         const struct cluster_options *options)
{
    cluster->orchestrator = o;
    snprintf(cluster->name, sizeof cluster->name, "%s", options->name);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        struct node *node = &cluster->nodes[slot];

        node->cluster = cluster;
        node->slot = slot;
        snprintf(node->id, sizeof node->id, "%s", options->nodes[slot].id);
        snprintf(node->agent.host, sizeof node->agent.host, "%.*s", HOST_SIZE - 1,
                 options->nodes[slot].agent.host);
        node->agent.port = options->nodes[slot].agent.port;
    }
    cluster->history = history_new();
    cluster->requests = requests_new(cluster);
    cluster->snapshots = snapshots_new(cluster);
    topology_new(cluster);
}

static void on_stop(void *arg)
{
    struct daemon *daemon = arg;

    log_event(LOG_LEVEL_INFO, "stopping", NULL);
    loop_stop(daemon->orchestrator.loop);
}

/* Only what is marked reloadable is taken over; the rest of a changed file waits for a restart. */
static void on_reload(void *arg)
{
    struct daemon *daemon = arg;
    struct orchestrator *o = &daemon->orchestrator;
    struct orchestrator_options fresh;
    struct err err = {0};

    if (orchestrator_options_load(daemon->config, &fresh, &err)) {
        log_err(LOG_LEVEL_ERROR, "reload_refused", &err);
        return;
    }
    o->options->failure_timeout_ms = fresh.failure_timeout_ms;
    o->options->election_timeout_ms = fresh.election_timeout_ms;
    o->options->promotion_timeout_ms = fresh.promotion_timeout_ms;
    o->options->failover_backoff_ms = fresh.failover_backoff_ms;
    o->options->probe_interval_ms = fresh.probe_interval_ms;
    o->options->request_timeout_ms = fresh.request_timeout_ms;
    o->options->log_level = fresh.log_level;
    orchestrator_options_release(&fresh);
    apply_timeouts(o);
    log_set_level((enum log_level)o->options->log_level);
    if (read_secrets(o, &err) || api_reload_tokens(o, &err))
        log_err(LOG_LEVEL_ERROR, "reload_secrets", &err);
    else
        log_event(LOG_LEVEL_INFO, "reloaded", NULL);
}

/* With each call libcurl walks through all connections that it keeps: those of hundreds of clusters
 * are not kept in one place. */
static int make_clients(struct orchestrator *o, struct err *err)
{
    for (uint32_t i = 0; i < o->cluster_count; i++) {
        struct cluster *first = &o->clusters[i - i % CLUSTERS_PER_CLIENT];

        if (first == &o->clusters[i] && http_client_new(&first->client, o->loop, o->resolver, err))
            return -1;
        o->clusters[i].client = first->client;
    }
    return 0;
}

/* A poll, a message, an event log and a probe of each node, and clients. */
static void raise_descriptor_limit(const struct orchestrator *o)
{
    rlim_t wanted = DESCRIPTORS_OTHER +
                    (rlim_t)o->cluster_count * NODE_COUNT * DESCRIPTORS_PER_NODE;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < wanted)
        log_event(LOG_LEVEL_WARNING, "few_descriptors", "{s:I,s:I,s:s}", "limit",
                  (json_int_t)limit.rlim_cur, "wanted", (json_int_t)wanted, "text",
                  "so many clusters may need more open files than this process may have: raise "
                  "LimitNOFILE of its unit");
}

static int start(struct daemon *daemon, struct err *err)
{
    struct orchestrator *o = &daemon->orchestrator;

    if (loop_new(&o->loop, err) || resolver_new(&o->resolver, 0, err))
        return -1;
    daemon->signals[0] = loop_signal_new(o->loop, SIGTERM, on_stop, daemon);
    daemon->signals[1] = loop_signal_new(o->loop, SIGINT, on_stop, daemon);
    daemon->signals[2] = loop_signal_new(o->loop, SIGHUP, on_reload, daemon);
    o->cluster_count = o->options->cluster_count;
    o->clusters = xcalloc(o->cluster_count, sizeof o->clusters[0]);
    for (uint32_t i = 0; i < o->cluster_count; i++)
        cluster_fill(o, &o->clusters[i], &o->options->clusters[i]);
    apply_timeouts(o);
    raise_descriptor_limit(o);
    if (make_clients(o, err))
        return -1;
    if (api_start(o, err) || redis_publish_start(o, err))
        return -1;
    for (uint32_t i = 0; i < o->cluster_count; i++)
        cluster_start(&o->clusters[i]);
    return 0;
}

static void stop(struct daemon *daemon)
{
    struct orchestrator *o = &daemon->orchestrator;

    api_stop(o);
    for (uint32_t i = 0; i < o->cluster_count; i++)
        if (o->clusters[i].timer)
            cluster_stop(&o->clusters[i]);
    redis_publish_stop(o);
    for (uint32_t i = 0; i < o->cluster_count; i++) {
        requests_free(o->clusters[i].requests);
        history_free(o->clusters[i].history);
        topology_free(&o->clusters[i]);
        snapshots_free(o->clusters[i].snapshots);
    }
    for (uint32_t i = 0; i < o->cluster_count; i += CLUSTERS_PER_CLIENT)
        http_client_free(o->clusters[i].client);
    free(o->clusters);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(daemon->signals); i++)
        loop_signal_free(daemon->signals[i]);
    resolver_free(o->resolver);
    loop_free(o->loop);
    secret_wipe(o->peer_token, sizeof o->peer_token);
    secret_wipe(o->monitor_password, sizeof o->monitor_password);
}

int main(int argc, char **argv)
{
    static struct daemon daemon;
    struct opts_program program = {.name = "ogel-orchestrator",
                                   .summary = summary,
                                   .description = description,
                                   .version = PACKAGE_VERSION,
                                   .table = orchestrator_option_table};
    struct orchestrator *o = &daemon.orchestrator;
    struct opts opts;
    struct err err = {0};
    int rc = EXIT_FAILURE;

    pg_environment_clear();
    raise_file_limit();
    http_client_global_init();
    if (opts_parse(&program, argc, argv, &opts, &err)) {
        fprintf(stderr, "ogel-orchestrator: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (opts.action == OPTS_EXIT)
        return EXIT_SUCCESS;
    if (orchestrator_options_load(opts.config, &daemon.options, &err)) {
        fprintf(stderr, "ogel-orchestrator: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (opts.action == OPTS_CHECK_CONFIG) {
        printf("%s: configuration is correct\n", opts.config);
        orchestrator_options_release(&daemon.options);
        return EXIT_SUCCESS;
    }
    daemon.config = opts.config;
    o->options = &daemon.options;
    o->proposer = rand_u64();
    o->started_ms = clock_mono_ms();
    log_set_level((enum log_level)daemon.options.log_level);
    signal(SIGPIPE, SIG_IGN);
    if (read_secrets(o, &err) || log_thread_start(LOG_QUEUE_BYTES, &err) || start(&daemon, &err)) {
        log_err(LOG_LEVEL_FATAL, "start_failed", &err);
    } else {
        log_event(LOG_LEVEL_INFO, "started", "{s:s,s:I,s:i}", "version", PACKAGE_VERSION,
                  "clusters", (json_int_t)o->cluster_count, "pid", (int)getpid());
        notify_ready();
        if (loop_run(o->loop, &err))
            log_err(LOG_LEVEL_FATAL, "loop_failed", &err);
        else
            rc = EXIT_SUCCESS;
        notify_stopping();
    }
    stop(&daemon);
    log_thread_stop(LOG_STOP_MS);
    orchestrator_options_release(&daemon.options);
    return rc;
}
