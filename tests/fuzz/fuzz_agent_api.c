/* Requests of any bytes to every route of a leader's agent, and answers of any bytes from its
 * peers: each request is answered once, and what is promised never goes back. What blocks (steps,
 * the event log) is skipped and counts as done. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "agent/lane.h"
#include "agent/node.h"
#include "agent/task_child.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "protocol/order.h"
#include "tests/fuzz/fake_http.h"
#include "tests/unit/faulty_disk.h"

enum { REQUESTS_MAX = 8, GENERATION = 5, LED_FOR_MS = 60000 };

static struct agent agent;
static struct loop *loop;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- workers whose work is skipped ----------------------------------------------------------- */

static struct done {
    struct done *next;
    worker_fn *fn;
    void *arg;
} * queue;

int worker_new(struct worker **worker, const char *name, struct loop *of, struct err *err)
{
    (void)worker;
    (void)name;
    (void)of;
    return err_set(err, ERR_INTERNAL, "there are no threads here");
}

void worker_run(struct worker *worker, worker_fn *work, worker_fn *done, void *arg)
{
    struct done *entry = xcalloc(1, sizeof *entry), **place = &queue;

    (void)worker;
    (void)work;
    entry->fn = done;
    entry->arg = arg;
    while (*place != NULL)
        place = &(*place)->next;
    *place = entry;
}

bool worker_idle(struct worker *worker)
{
    (void)worker;
    return queue == NULL;
}

static void finish_work(void)
{
    while (queue != NULL) {
        struct done *entry = queue;

        queue = entry->next;
        entry->fn(entry->arg);
        free(entry);
    }
}

/* --- children that are not there: what they say, and their end, is the input's --------------- */

enum { CHILDREN = 2, SPEECH_MAX = 4096 };

/* The other ends of what a child's owner watches; a child's pid is its place and 1. */
static struct speaker {
    int output, end;
    int code;
} speakers[CHILDREN];

static int child_make(int place, struct task_child *child)
{
    int output[2], end[2];

    OGEL_CHECK(pipe2(output, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(end, O_CLOEXEC) == 0);
    speakers[place] = (struct speaker){.output = output[1], .end = end[1]};
    *child = (struct task_child){.pid = place + 1, .pidfd = end[0], .output = output[0]};
    return 0;
}

int task_child_start(const struct agent_config *config, const struct task_request *request,
                     struct task_child *child, struct err *err)
{
    (void)config;
    OGEL_CHECK(task_id_valid(request->id) && task_store_check(request->store, err) == 0);
    return child_make(0, child);
}

int task_child_list(const struct agent_config *config, const char *store, struct task_child *child,
                    struct err *err)
{
    (void)config;
    OGEL_CHECK(task_store_check(store, err) == 0);
    return child_make(1, child);
}

void task_child_signal(const struct task_child *child, bool hard)
{
    (void)child;
    (void)hard;
}

int task_child_reap(struct task_child *child, char *how, size_t how_size)
{
    struct speaker *speaker = &speakers[child->pid - 1];
    int code = speaker->code;

    snprintf(how, how_size, "exit status %d", code);
    close(child->output);
    close(child->pidfd);
    close(speaker->output);
    close(speaker->end);
    *speaker = (struct speaker){0};
    *child = (struct task_child){.pidfd = -1, .output = -1};
    return code;
}

void task_child_end_orphan(const char *state_directory)
{
    (void)state_directory;
}

static void run_loop(void)
{
    struct err err = {0};

    for (int i = 0; i < 4; i++)
        OGEL_CHECK(loop_run_once(loop, 0, &err) == 0);
}

/* The next bytes up to a NUL are said by a child; the last of them may be its end. */
static void speak(const uint8_t **data, size_t *size)
{
    struct speaker *speaker = &speakers[(*data)[0] & 1];
    bool ends = (*data)[0] & 2;
    size_t len;

    speaker->code = (*data)[0] >> 2 & 7;
    ++*data;
    --*size;
    len = strnlen((const char *)*data, *size < SPEECH_MAX ? *size : SPEECH_MAX);
    if (speaker->output > 0) {
        OGEL_CHECK(write(speaker->output, *data, len) >= 0 || errno == EAGAIN);
        if (ends)
            OGEL_CHECK(write(speaker->end, "", 1) == 1);
        run_loop();
    }
    len += len < *size; /* its end */
    *data += len;
    *size -= len;
}

static void end_children(void)
{
    for (int place = 0; place < CHILDREN; place++)
        if (speakers[place].end > 0)
            OGEL_CHECK(write(speakers[place].end, "", 1) == 1);
    run_loop();
    OGEL_CHECK(lane_idle(&agent) && agent.listing == NULL);
}

/* --- the agent ------------------------------------------------------------------------------- */

static void configure(void)
{
    struct agent_config *config = &agent.config;

    config->options.cluster = (char *)"c1";
    config->options.node = (char *)"n1";
    config->options.state_directory = (char *)DISK_DIRECTORY;
    config->options.data_directory = (char *)"/nowhere";
    config->options.postgres_bindir = (char *)"/nowhere";
    config->options.snapshots.progress_timeout_ms = 300000;
    config->self = 0;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        snprintf(config->ids[slot], sizeof config->ids[slot], "n%d", slot + 1);
        snprintf(config->agents[slot].host, sizeof config->agents[slot].host, "192.0.2.%d",
                 slot + 1);
        config->agents[slot].port = 8008;
    }
    config->options.listen = config->agents[0];
}

/* It leads generation 5, confirmed, with both others behind it. */
static void lead(void)
{
    static const struct address addresses[NODE_COUNT] = {
        {"192.0.2.1", 5432}, {"192.0.2.2", 5432}, {"192.0.2.3", 5432}};
    struct durable *d = &agent.durable;

    durable_init(d, 0);
    memset(d->cluster.bytes, 0xc1, sizeof d->cluster.bytes);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        d->incarnations[slot] = (struct incarnation){.number = 1, .nonce = 11};
    d->registered = d->birth_promised = d->birth_ended = d->complete = true;
    d->promise = (struct promise){GENERATION, 7};
    d->leader = (struct leadership){GENERATION, 0, d->incarnations[0], 7};
    d->grant = (struct grant){GENERATION, 7, d->incarnations[0], true};
    d->role = ROLE_LEADER;
    agent.document = document_new((struct document_version){GENERATION, 1}, agent.config.ids,
                                  addresses);
    OGEL_CHECK(document_facts_from_json(agent.document, agent.config.ids, &d->document, NULL) == 0);
    agent.in.pg = PG_UP;
    agent.report.leading = true;
    agent.leading_since_ms = clock_boot_ms() - LED_FOR_MS;
}

static void start(void)
{
    struct err err = {0};

    memset(&agent, 0, sizeof agent);
    disk_make();
    configure();
    agent.loop = loop;
    agent.secrets = xcalloc(1, sizeof *agent.secrets);
    agent.started_ms = clock_boot_ms() - LED_FOR_MS;
    agent.in.now_ms = clock_boot_ms();
    agent.in.durable = &agent.durable;
    agent.in.message = &agent.message;
    agent.in.replication.upstream = NODE_NONE;
    agent.discard_given_to = NODE_NONE;
    agent.message.leader.node = NODE_NONE;
    agent.pm.pidfd = agent.child.pidfd = agent.child.output = -1;
    agent.turn_posted = true; /* the core never has its turn here */
    lead();
    OGEL_CHECK(events_open(DISK_DIRECTORY, 1, &agent.events, &err) == 0);
    peers_new(&agent);
    lane_new(&agent);
    OGEL_CHECK(api_start(&agent, &err) == 0);
    peers_start(&agent);
}

static void stop(void)
{
    finish_work();
    end_children();
    finish_work();
    api_stop(&agent);
    lane_stop(&agent);
    peers_stop(&agent);
    fake_http_drop_calls();
    events_free(agent.events);
    json_decref(agent.document);
    free(agent.secrets);
    free(agent.peers);
    disk_remove();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool deadline = size > 0 && data[0] & 1;
    struct err err = {0};

    if (loop == NULL) {
        log_set_level(LOG_LEVEL_FATAL);
        OGEL_CHECK(loop_new(&loop, &err) == 0);
    }
    start();
    for (int i = 0; i < REQUESTS_MAX && size > 0; i++) {
        struct document_version before = agent.durable.document.version;
        struct document_facts facts;

        fake_http_request(&data, &size);
        if (size > 0 && data[0] >= 0x80)
            fake_http_answer_calls(&data, &size);
        if (size > 0 && data[0] >= 0x40)
            speak(&data, &size);
        finish_work();
        OGEL_CHECK(document_version_compare(agent.durable.document.version, before) >= 0);
        OGEL_CHECK(document_facts_from_json(agent.document, agent.config.ids, &facts, &err) == 0);
        OGEL_CHECK(agent.durable.promise.generation == GENERATION);
        OGEL_CHECK(!agent.in.has_message || agent.message.generation >= GENERATION);
    }
    fake_http_settle(deadline);
    stop();
    return 0;
}
