/* Requests of any bytes to every route of a leader's agent, and answers of any bytes from its
 * peers: each request is answered once, and what is promised never goes back. What blocks (steps,
 * the event log) is skipped and counts as done. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "agent/durable.h"
#include "agent/node.h"
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

/* --- the agent ------------------------------------------------------------------------------- */

static void configure(void)
{
    struct agent_config *config = &agent.config;

    config->options.cluster = (char *)"c1";
    config->options.node = (char *)"n1";
    config->options.state_directory = (char *)DISK_DIRECTORY;
    config->options.data_directory = (char *)"/nowhere";
    config->options.postgres_bindir = (char *)"/nowhere";
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
    OGEL_CHECK(api_start(&agent, &err) == 0);
    peers_start(&agent);
}

static void stop(void)
{
    finish_work();
    api_stop(&agent);
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
