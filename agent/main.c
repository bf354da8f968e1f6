/* ogel-agent: one beside each Postgres. Reads what is durable, finds out whether Postgres runs,
 * serves, and turns. SIGTERM ends the agent and leaves Postgres running, SIGINT stops both. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/document.h"
#include "agent/durable.h"
#include "agent/lane.h"
#include "agent/node.h"
#include "agent/proc.h"
#include "agent/task_child.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/file.h"
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
#include "base/slotfile.h"

#ifdef HAVE_CONFIG_H
#    include "config.h"
#else
#    define PACKAGE_VERSION "unknown"
#endif

enum {
    EXIT_CONFIG = 2,
    LOG_QUEUE_BYTES = 1 << 20,
    LOG_STOP_MS = 1000,
    PG_MAJOR_MIN = 15,
    BEAT_MS = 10000,
    ORPHANS_MS = 15000,
    FIRST_SAMPLE_MS = 3000,
    QUIT_MS = 2000,
    QUIT_POLL_MS = 10,
    MAX_CONNECTIONS_DEFAULT = 200,
};

static const char summary[] = "keeps one node's PostgreSQL in the state its cluster needs";
static const char description[] =
    "The agent runs beside one PostgreSQL server, as the server's own user. It starts and stops "
    "it, "
    "carries out what an orchestrator decides, keeps its node's promise durable, and tells what "
    "is: to "
    "orchestrators, to the other two agents, to load balancers and to Prometheus.\n\n"
    "It runs in the foreground and logs JSON lines to standard error. SIGTERM ends the agent and "
    "leaves "
    "PostgreSQL running; the next agent takes it over without a blip, so that an agent can be "
    "upgraded "
    "under a live database. SIGINT stops PostgreSQL (a fast shutdown, after stop_timeout a kill) "
    "and then "
    "the agent. SIGHUP reads log_level, snapshots, tokens and passwords again; the leader's agent "
    "gives "
    "changed "
    "passwords to PostgreSQL.";

static struct agent agent;
static int lock_fd = -1;

/* --- reading what is there
 * ------------------------------------------------------------------------------ */

static int read_version(const char *bindir, int *major, struct err *err)
{
    char *program = xasprintf("%s/postgres", bindir);
    const char *argv[] = {program, "--version", NULL};
    struct command_result result;
    int rc = command_run(argv, 10000, &result, err);

    if (rc == 0) {
        const char *digits = strpbrk(result.output, "0123456789");

        *major = digits ? (int)strtol(digits, NULL, 10) : 0;
        if (result.exit_code != 0 || *major < PG_MAJOR_MIN)
            rc = err_set(err, ERR_INVALID,
                         "%s is version %d; PostgreSQL %d or newer is needed: option "
                         "\"postgres_bindir\"",
                         program, *major, PG_MAJOR_MIN);
        command_result_free(&result);
    } else {
        err_context(err, "option \"postgres_bindir\"");
    }
    free(program);
    return rc;
}

static int plan_memory(struct err *err)
{
    uint64_t available;
    char text[256];

    if (memory_available("", &available, err) < 0)
        return -1;
    memory_plan_make(available, (unsigned)agent.config.options.memory_percent,
                     MAX_CONNECTIONS_DEFAULT, &agent.hands.memory);
    log_event(LOG_LEVEL_INFO, "memory_plan", "{s:s}", "plan",
              memory_describe(&agent.hands.memory, text, sizeof text));
    return 0;
}

static int lock_directories(struct err *err)
{
    const struct agent_options *options = &agent.config.options;
    char path[1024];

    if (file_mkdir_p(options->state_directory, 0700, err) < 0)
        return err_context(err, "option \"state_directory\"");
    snprintf(path, sizeof path, "%s/agent.lock", options->state_directory);
    if (file_lock_acquire(path, &lock_fd, err) < 0)
        return err_context(err, "another agent uses this state directory");
    task_child_end_orphan(options->state_directory);
    return child_end_orphans(options->state_directory, ORPHANS_MS, err);
}

static int read_state(struct err *err)
{
    const struct agent_options *options = &agent.config.options;
    struct document_facts facts;
    int64_t total = 0;

    if (durable_open(options->state_directory, agent.config.self, &agent.hands.promise,
                     &agent.durable, err) < 0 ||
        document_open(options->state_directory, agent.config.ids, &agent.hands.document,
                      &agent.document, &facts, err) < 0 ||
        events_open(options->state_directory, agent.run, &agent.events, err) < 0)
        return -1;
    agent.durable.document = facts;
    if (file_disk_space(options->state_directory, NULL, &total, err) < 0)
        return -1;
    agent.hands.disk_total_bytes = (uint64_t)total;
    agent.discard_given_to = NODE_NONE;
    agent.in.options = agent_core_options(&agent.config);
    agent.in.replication.upstream = NODE_NONE;
    agent.in.in_recovery = true;
    agent.message.leader.node = NODE_NONE;
    agent.pm.pidfd = -1;
    agent.child = (struct child_process){.pidfd = -1, .output = -1};
    replication_recall(&agent);
    return 0;
}

/* --- signals --- */

static struct loop_timer *quit_timer;

/* A step under way is waited for, as long as it does not hang: what it started is better known. */
static void quit_when_idle(void *arg)
{
    bool late = clock_boot_ms() >= agent.quit_by_ms;

    (void)arg;
    if (agent.stop_postgres && agent.pm.pid != 0) {
        /* one that was being started is stopped now; past the deadline everything is killed */
        if ((late || agent.in.pg != PG_STOPPING) && !agent.urgent_running)
            agent_stop_postgres(&agent);
        return;
    }
    if (late || (worker_idle(agent.steps) && worker_idle(agent.background) && lane_idle(&agent)))
        loop_stop(agent.loop);
}

static void quit(bool stop_postgres)
{
    log_event(LOG_LEVEL_INFO, "stopping", "{s:b}", "postgres", stop_postgres);
    notify_stopping();
    agent.quitting = true;
    agent.stop_postgres = agent.stop_postgres || stop_postgres;
    agent.quit_by_ms = clock_boot_ms() +
                       (stop_postgres ? agent.config.options.stop_timeout_ms : (int64_t)QUIT_MS);
    (void)lane_cancel(&agent, NULL, "the agent was stopped");
    if (stop_postgres)
        agent_stop_postgres(&agent);
    loop_timer_repeat(quit_timer, QUIT_POLL_MS);
}

static void on_terminate(void *arg)
{
    (void)arg;
    quit(false);
}

static void on_interrupt(void *arg)
{
    (void)arg;
    quit(true);
}

struct reload {
    struct agent_config config;
    struct secrets *secrets;
    int rc;
    struct err err;
};

static void reload_work(void *arg)
{
    struct reload *reload = arg;

    reload->rc = agent_config_load(agent.config_file, &reload->config, &reload->err);
    if (reload->rc == 0)
        reload->rc = agent_secrets_load(&reload->config, reload->secrets, &reload->err);
}

static void secrets_free(void *arg)
{
    secret_wipe(arg, sizeof(struct secrets));
    free(arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void reload_done(void *arg)
{
    struct reload *reload = arg;
    struct secrets *old = agent.secrets;

    if (reload->rc == 0) {
        agent.secrets = reload->secrets;
        reload->secrets = old;
        reload->rc = api_set_tokens(&agent, &reload->err);
        if (reload->rc < 0) {
            agent.secrets = old;
            reload->secrets = NULL;
        }
    }
    if (reload->rc == 0) {
        struct snapshot_options snapshots = agent.config.options.snapshots;

        agent.config.options.snapshots = reload->config.options.snapshots;
        reload->config.options.snapshots = snapshots; /* freed with it */
        log_set_level((enum log_level)reload->config.options.log_level);
        log_event(LOG_LEVEL_INFO, "reloaded", NULL);
        agent.in.roles_done = false;
        agent.in.replication_loaded = false; /* the key has the replication password */
        agent_changed(&agent);
        /* behind every step that may still read the old ones */
        worker_run(agent.steps, nothing, secrets_free, reload->secrets);
    } else {
        log_err(LOG_LEVEL_ERROR, "reload_refused", &reload->err);
        free(reload->secrets);
    }
    agent_config_free(&reload->config);
    free(reload);
}

static void on_reload(void *arg)
{
    struct reload *reload = xcalloc(1, sizeof *reload);

    (void)arg;
    reload->secrets = xcalloc(1, sizeof *reload->secrets);
    worker_run(agent.background, reload_work, reload_done, reload);
}

/* Backends of a dead postmaster come to this process as orphans. Collected in the thread that runs
 * programs of its own, so that it never collects one of those. */
static bool reaping;

static void reap_work(void *arg)
{
    const pid_t keep[] = {agent.hands.server_pid, agent.hands.child_pid,
                          atomic_load(&agent.task_pid), atomic_load(&agent.listing_pid)};

    (void)arg;
    proc_reap_orphans(keep, OGEL_ARRAY_LEN(keep));
}

static void reap_done(void *arg)
{
    (void)arg;
    reaping = false;
}

static void on_child(void *arg)
{
    (void)arg;
    if (reaping)
        return;
    reaping = true;
    worker_run(agent.steps, reap_work, reap_done, NULL);
}

/* --- running --- */

static void on_timer(void *arg)
{
    agent_changed(arg);
}

static int start_threads(struct err *err)
{
    if (loop_new(&agent.loop, err) < 0 || resolver_new(&agent.resolver, 0, err) < 0 ||
        http_client_new(&agent.client, agent.loop, agent.resolver, err) < 0 ||
        worker_new(&agent.steps, "steps", agent.loop, err) < 0 ||
        worker_new(&agent.urgent, "urgent", agent.loop, err) < 0 ||
        worker_new(&agent.slow, "checkpoints", agent.loop, err) < 0 ||
        worker_new(&agent.background, "background", agent.loop, err) < 0 ||
        worker_new(&agent.store_worker, "store", agent.loop, err) < 0 ||
        sampler_new(&agent.sampler, &agent.config, agent.loop, observe_sample, &agent, err) < 0)
        return -1;
    agent.timer = loop_timer_new(agent.loop, on_timer, &agent);
    agent.beat = loop_timer_new(agent.loop, observe_beat, &agent);
    quit_timer = loop_timer_new(agent.loop, quit_when_idle, NULL);
    peers_new(&agent);
    lane_new(&agent);
    return 0;
}

/* A server that runs is adopted before anything is served: an agent that answers before it has
 * looked would report a leader as down. */
static int first_look(struct err *err)
{
    int64_t deadline = clock_boot_ms() + FIRST_SAMPLE_MS;
    struct look look;

    if (step_look(&agent.hands, true, &look, err) < 0)
        return err_context(err, "option \"data_directory\"");
    if (look.found == POSTMASTER_RUNNING)
        agent.hands.server_pid = look.pm.pid;
    observe_looked(&agent, &look);
    while (agent.pm.pid != 0 && !agent.sampled && clock_boot_ms() < deadline)
        if (loop_run_once(agent.loop, 100, err) < 0)
            return -1;
    return 0;
}

static int start(struct err *err)
{
    if (postmaster_become_subreaper(err) < 0 || lock_directories(err) < 0 ||
        read_version(agent.config.options.postgres_bindir, &agent.hands.pg_major, err) < 0 ||
        plan_memory(err) < 0 || read_state(err) < 0 || log_thread_start(LOG_QUEUE_BYTES, err) < 0 ||
        start_threads(err) < 0)
        return -1;
    loop_signal_new(agent.loop, SIGTERM, on_terminate, NULL);
    loop_signal_new(agent.loop, SIGINT, on_interrupt, NULL);
    loop_signal_new(agent.loop, SIGHUP, on_reload, NULL);
    loop_signal_new(agent.loop, SIGCHLD, on_child, NULL);
    if (first_look(err) < 0 || api_start(&agent, err) < 0)
        return -1;
    peers_start(&agent);
    observe_beat(&agent);
    loop_timer_repeat(agent.beat, BEAT_MS);
    agent_changed(&agent);
    return 0;
}

static void run(void)
{
    struct err err = {0};

    log_event(LOG_LEVEL_INFO, "started", "{s:s,s:I,s:s}", "version", PACKAGE_VERSION, "generation",
              (json_int_t)agent.durable.promise.generation, "data_directory",
              agent.config.options.data_directory);
    notify_ready();
    if (loop_run(agent.loop, &err) < 0)
        log_err(LOG_LEVEL_ERROR, "loop_failed", &err);
    api_stop(&agent);
    listing_stop(&agent);
    lane_stop(&agent);
    peers_stop(&agent);
    log_event(LOG_LEVEL_INFO, "stopped", NULL);
    log_thread_stop(LOG_STOP_MS);
}

static int load(const char *file, struct err *err)
{
    agent.config_file = file;
    agent.secrets = xcalloc(1, sizeof *agent.secrets);
    agent.run = rand_u64();
    /* nobody who polls may take this run, or another machine at this address, for the one that he
     * heard last; below 2^53 for readers of JSON */
    agent.sequence = agent.run >> 32 << 20;
    agent.started_ms = clock_boot_ms();
    if (agent_config_load(file, &agent.config, err) < 0 ||
        agent_secrets_load(&agent.config, agent.secrets, err) < 0)
        return -1;
    agent.hands.config = &agent.config;
    return 0;
}

int main(int argc, char **argv)
{
    struct opts_program program = {.name = "ogel-agent",
                                   .summary = summary,
                                   .description = description,
                                   .version = PACKAGE_VERSION,
                                   .table = agent_option_table};
    struct opts opts;
    struct err err = {0};

    pg_environment_clear();
    http_client_global_init();
    json_object_seed(0);
    signal(SIGPIPE, SIG_IGN);
    if (opts_parse(&program, argc, argv, &opts, &err) < 0) {
        fprintf(stderr, "ogel-agent: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (opts.action == OPTS_EXIT)
        return EXIT_SUCCESS;
    if (load(opts.config, &err) < 0) {
        fprintf(stderr, "ogel-agent: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (opts.action == OPTS_CHECK_CONFIG) {
        printf("%s: configuration is correct\n", opts.config);
        return EXIT_SUCCESS;
    }
    if (geteuid() == 0) {
        fprintf(stderr, "ogel-agent: runs as the user of PostgreSQL, never as root\n");
        return EXIT_CONFIG;
    }
    log_set_level((enum log_level)agent.config.options.log_level);
    log_context_set("cluster", agent.config.options.cluster);
    log_context_set("node", agent.config.options.node);
    if (start(&err) < 0) {
        log_err(LOG_LEVEL_FATAL, "start_failed", &err);
        log_thread_stop(LOG_STOP_MS);
        _exit(EXIT_FAILURE);
    }
    run();
    /* threads that hang in a system call cannot be joined */
    _exit(EXIT_SUCCESS);
}
