#include "agent/node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/order.h"

enum {
    TURN_MS = 1000, /* one at least in so long */
    PEER_FRESH_MS = 2500,
    LOOK_RETRY_MS = 500,
    SETTLE_MS = 300, /* after a promotion */
    TURNS_MAX = 20,  /* in one go; then the loop has its turn */
};

static void turn_soon(struct agent *agent);

/* --- events
 * ------------------------------------------------------------------------------------------- */

struct append {
    struct agent *agent;
    char *lines;
    int rc;
    struct err err;
};

static void append_work(void *arg)
{
    struct append *append = arg;

    append->rc = events_append(append->agent->config.options.state_directory, append->lines,
                               &append->err);
}

static void append_done(void *arg)
{
    struct append *append = arg;

    if (append->rc < 0)
        log_err(LOG_LEVEL_ERROR, "event_log_failed", &append->err);
    free(append->lines);
    free(append);
}

static void events_flush(struct agent *agent)
{
    char *lines = events_take_lines(agent->events);
    struct append *append;

    if (!lines)
        return;
    append = xcalloc(1, sizeof *append);
    append->agent = agent;
    append->lines = lines;
    agent->events_unsynced = true;
    worker_run(agent->background, append_work, append_done, append);
}

void agent_event_by(struct agent *agent, const char *code, const char *text, const char *who)
{
    struct event event = {.node = agent->config.options.node,
                          .generation = agent->durable.promise.generation,
                          .reason = code,
                          .text = text,
                          .who = who};

    log_event(LOG_LEVEL_INFO, "agent_event", "{s:I,s:s,s:s,s:s?}", "generation",
              (json_int_t)event.generation, "reason", code, "text", text, "who", who);
    events_add(agent->events, &event);
    events_flush(agent);
    api_wake(agent);
}

void agent_event(struct agent *agent, enum agent_reason reason, const char *text)
{
    agent_event_by(agent, agent_reason_code(reason), text ? text : agent_reason_text(reason), NULL);
}

/* --- runs
 * --------------------------------------------------------------------------------------------- */

static int32_t upstream_of(const struct agent *agent, const struct step *step)
{
    switch (step->kind) {
    case STEP_REWIND:
    case STEP_CLONE: return agent->durable.leader.node;
    case STEP_APPLY_DOCUMENT: return agent->in.replication.upstream;
    default: return step->replication.upstream;
    }
}

static void copy_options(struct snapshot_options *out, const struct snapshot_options *in)
{
    *out = *in;
    out->credentials_file = in->credentials_file ? xstrdup(in->credentials_file) : NULL;
    out->temporary_directory = in->temporary_directory ? xstrdup(in->temporary_directory) : NULL;
}

struct step_run *step_run_new(struct agent *agent, const struct step *step)
{
    struct step_run *run = xcalloc(1, sizeof *run);
    int32_t leader = agent->durable.leader.node;

    run->owner = agent;
    run->hands = &agent->hands;
    run->step = *step;
    run->durable = agent->durable;
    run->document = agent->document ? json_incref(agent->document) : NULL;
    run->secrets = agent->secrets;
    run->life = agent->life;
    run->pm = agent->pm;
    if (run->pm.pid != 0)
        run->pm.pidfd = fcntl(agent->pm.pidfd, F_DUPFD_CLOEXEC, 3);
    run->pg = agent->in.pg;
    run->in_recovery = agent->in.in_recovery;
    run->clean = agent->in.pg_clean;
    run->replication = agent->in.replication;
    run->record_end = agent->in.record_end;
    run->child.pidfd = run->child.output = -1;
    if (step->kind == STEP_CLONE)
        copy_options(&run->snapshots, &agent->config.options.snapshots);
    (void)peers_postgres(agent, upstream_of(agent, step), &run->upstream);
    if (leader >= 0 && leader < NODE_COUNT && leader != agent->config.self &&
        agent->in.peers[leader].known && agent->peer_reports[leader].leading &&
        agent->peer_reports[leader].grant.generation == agent->durable.leader.generation) {
        run->leader_known = true;
        run->leader_lineage = agent->peer_reports[leader].lineage;
    }
    return run;
}

void step_run_free(struct step_run *run)
{
    if (run->pm.pid != 0)
        close(run->pm.pidfd);
    json_decref(run->document);
    free(run->snapshots.credentials_file);
    free(run->snapshots.temporary_directory);
    free(run);
}

/* --- after a step
 * ------------------------------------------------------------------------------------- */

static void note_retry(struct agent *agent, const struct step_run *run)
{
    bool failed = run->rc < 0;

    retry_note(&agent->retry, &run->step, run->durable.promise.generation, failed, clock_boot_ms());
    if (failed)
        snprintf(agent->step_error, sizeof agent->step_error, "%.159s", run->err.text);
    else if (agent->retry.failing.count == 0)
        agent->step_error[0] = '\0';
}

static void note_event(struct agent *agent, const struct step_run *run, bool repeated)
{
    const char *code = agent_reason_code(run->step.reason);
    char text[400];

    if (run->rc < 0) {
        if (repeated)
            return;
        log_event(LOG_LEVEL_WARNING, "step_failed", "{s:I,s:s,s:s,s:s}", "generation",
                  (json_int_t)agent->durable.promise.generation, "reason", code, "text",
                  agent_reason_text(run->step.reason), "error", run->err.text);
        if (run->step.kind == STEP_READ_POSITION)
            return; /* replay takes its time: no news */
        snprintf(text, sizeof text, "%.100s: failed: %.280s", agent_reason_text(run->step.reason),
                 run->err.text);
        agent_event(agent, run->step.reason, text);
        return;
    }
    if (strcmp(code, "-") == 0 || repeated)
        return;
    if (run->note[0]) {
        snprintf(text, sizeof text, "%.100s (%s)", agent_reason_text(run->step.reason), run->note);
        agent_event(agent, run->step.reason, text);
    } else {
        agent_event(agent, run->step.reason, NULL);
    }
}

static void finish(struct agent *agent, struct step_run *run)
{
    bool repeated = retry_is_known(&agent->retry, &run->step, run->durable.promise.generation,
                                   run->rc < 0);

    step_applied(agent, run);
    note_event(agent, run, repeated && run->step.kind != STEP_PERSIST);
    note_retry(agent, run);
    step_run_free(run);
    turn_soon(agent);
}

static void step_done(void *arg)
{
    struct step_run *run = arg;
    struct agent *agent = run->owner;

    agent->running = NULL;
    finish(agent, run);
}

static void urgent_done(void *arg)
{
    struct step_run *run = arg;
    struct agent *agent = run->owner;

    agent->urgent_running = NULL;
    finish(agent, run);
}

static void checkpoint_done(void *arg)
{
    struct step_run *run = arg;
    struct agent *agent = run->owner;

    agent->checkpoint = NULL;
    agent->in.checkpoint_running = false;
    finish(agent, run);
}

/* --- a turn
 * ------------------------------------------------------------------------------------------- */

static bool is_urgent(enum step_kind kind)
{
    return kind == STEP_STOP || kind == STEP_KILL;
}

static void dispatch_urgent(struct agent *agent, const struct step *step)
{
    if (agent->urgent_running)
        return;
    if (agent->pm.pid != 0)
        agent->end_asked = true;
    agent->urgent_running = step_run_new(agent, step);
    worker_run(agent->urgent, step_execute, urgent_done, agent->urgent_running);
}

static void dispatch_checkpoint(struct agent *agent, const struct step *step)
{
    if (agent->checkpoint)
        return;
    agent->in.checkpoint_running = true;
    agent->in.checkpoint_since_ms = clock_boot_ms();
    agent->checkpoint = step_run_new(agent, step);
    worker_run(agent->slow, step_execute, checkpoint_done, agent->checkpoint);
}

/* True if another look may bring another step at once. */
static bool dispatch(struct agent *agent, const struct step *step)
{
    switch (step->kind) {
    case STEP_NONE: return false;
    case STEP_STOP:
    case STEP_KILL: dispatch_urgent(agent, step); return false;
    case STEP_CHECKPOINT: dispatch_checkpoint(agent, step); return true;
    case STEP_STOP_CHILD: child_signal(&agent->child, false); return false;
    case STEP_REGISTER: peers_register(agent, step->peer); return false;
    case STEP_ASK_DISCARD: peers_ask_discard(agent); return false;
    case STEP_FETCH_DOCUMENT: peers_fetch_document(agent, step->peer); return false;
    case STEP_ANSWER_REGISTRATION: api_answer_registration(agent, step->accepted); return true;
    case STEP_PROMOTE:
    case STEP_REWIND: agent->in.due = false; break;
    default: break;
    }
    agent->running = step_run_new(agent, step);
    agent->running_since_ms = clock_boot_ms();
    worker_run(agent->steps, step_execute, step_done, agent->running);
    return false;
}

/* What an initdb or a clone of this node's left when it was cut off is no stranger's: the core
 * marks a directory, with a data id to come, only after it saw that it was not foreign. */
static bool is_foreign(const struct agent *agent)
{
    const struct durable *d = &agent->durable;

    return agent->looks_foreign && (d->marker == MARKER_NONE || d->data_id == 0);
}

void agent_gather(struct agent *agent)
{
    struct inputs *in = &agent->in;

    in->now_ms = clock_boot_ms();
    in->nonce = rand_u64();
    in->durable = &agent->durable;
    in->message = &agent->message;
    in->data_foreign = is_foreign(agent);
    in->discard_allowed = in->now_ms < agent->discard_until_ms;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        in->peers[slot].report = &agent->peer_reports[slot];
        /* an answer may have lain in the socket for as long as this process was stopped */
        in->peers[slot].fresh = in->peers[slot].known &&
                                in->now_ms - agent->peer_asked_ms[slot] < PEER_FRESH_MS;
    }
}

/* What a new leader does for later: the standby that its first commits wait for goes first. */
static bool may_wait(const struct step *step)
{
    return step->kind == STEP_ROLES ||
           (step->kind == STEP_CHECKPOINT && step->reason == AGENT_REASON_CHECKPOINT_AFTER);
}

/* A step that is not to be run yet: how long to wait for it; 0: it may run. */
static int64_t held_back(const struct agent *agent, const struct step *step)
{
    if (may_wait(step) && agent->durable.birth_ended &&
        agent->in.now_ms < agent->promoted_ms + SETTLE_MS)
        return agent->promoted_ms + SETTLE_MS - agent->in.now_ms;
    if (step->kind == STEP_NONE)
        return 0;
    return retry_wait_ms(&agent->retry, step, agent->durable.promise.generation, agent->in.now_ms);
}

/* While a step is under way only what cannot wait is done: stopping and killing. */
static bool may_dispatch(const struct agent *agent, const struct step *step)
{
    if (agent->quitting)
        return false;
    if (!agent->running && !agent->looking && !agent->fetching_document)
        return !agent->urgent_running;
    return is_urgent(step->kind);
}

static int64_t turn_once(struct agent *agent, bool *again)
{
    struct step *step = &agent->step;
    int64_t held;

    *again = false;
    agent_gather(agent);
    reconcile(&agent->in, step);
    if (step->kind == STEP_NONE && retry_rest(&agent->retry))
        agent->step_error[0] = '\0';
    held = held_back(agent, step);
    if (held > 0)
        return held;
    if (may_dispatch(agent, step))
        *again = dispatch(agent, step);
    return step->kind == STEP_NONE && step->wake_ms > 0 ? step->wake_ms : TURN_MS;
}

static void warmed_up(void *run)
{
    step_run_free(run);
}

/* Once for each server, when it streams and nothing is to be done. */
static void warm_up(struct agent *agent)
{
    const struct step none = {.kind = STEP_NONE, .replication.upstream = NODE_NONE};

    if (agent->warm_life == agent->life || agent->in.pg != PG_UP || !agent->in.in_recovery ||
        !agent->in.streaming || agent->step.kind != STEP_NONE || !may_dispatch(agent, &none))
        return;
    agent->warm_life = agent->life;
    worker_run(agent->steps, step_warm_up, warmed_up, step_run_new(agent, &none));
}

static void turn(void *arg)
{
    struct agent *agent = arg;
    int64_t wake_ms = TURN_MS, report_ms;
    bool again = true;

    agent->turn_posted = false;
    if (!agent->in.looked && !agent->looking &&
        clock_boot_ms() - agent->look_failed_ms >= LOOK_RETRY_MS)
        observe_look(agent);
    for (int i = 0; again && i < TURNS_MAX; i++)
        wake_ms = turn_once(agent, &again);
    warm_up(agent);
    agent->turned_ms = clock_boot_ms();
    report_ms = report_update(agent);
    document_begin(agent);
    document_spread(agent);
    if (report_ms > 0 && report_ms < wake_ms)
        wake_ms = report_ms;
    if (!agent->turn_posted)
        loop_timer_start(agent->timer, wake_ms > 0 ? wake_ms : 1);
}

static void turn_soon(struct agent *agent)
{
    if (agent->turn_posted)
        return;
    agent->turn_posted = true;
    loop_post(agent->loop, turn, agent);
}

void agent_changed(struct agent *agent)
{
    turn_soon(agent);
}

void agent_stop_postgres(struct agent *agent)
{
    struct step step = {.kind = STEP_STOP, .peer = NODE_NONE};

    if (agent->pm.pid == 0)
        return;
    step.replication.upstream = NODE_NONE;
    if (agent->in.pg == PG_STOPPING)
        step.kind = STEP_KILL;
    dispatch_urgent(agent, &step);
}
