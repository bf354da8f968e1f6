/* What a step came to, put into the core's inputs. A step that failed changes nothing, except where
 * it may have got half-way: then what it touched is unknown from here on. */
#include "agent/node.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "protocol/order.h"

enum {
    BURST_MS = 2000,        /* how long samples follow closely after a change */
    NAMES_SETTLE_MS = 2000, /* a reload that has not arrived by then never will */
};

static bool incarnations_equal(const struct durable *a, const struct durable *b)
{
    for (int slot = 0; slot < NODE_COUNT; slot++)
        if (!incarnation_equal(a->incarnations[slot], b->incarnations[slot]) ||
            a->void_number[slot] != b->void_number[slot])
            return false;
    return true;
}

static void persisted(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;
    const struct durable *next = &run->step.durable;
    struct document_facts facts = agent->durable.document;

    if (!promise_equal(next->promise, agent->durable.promise)) {
        in->checkpointed = false;
        in->position_failing_ms = 0;
        in->replay_unblocked = false;
        peers_forget_discard(agent);
    }
    if (next->data_id != agent->durable.data_id) {
        in->position_failing_ms = 0; /* that was another copy */
        peers_forget_discard(agent);
    }
    if (next->job.id != agent->durable.job.id)
        in->job_stopped = false;
    if (!incarnations_equal(next, &agent->durable)) {
        in->roles_done = false;
        peers_forget_discard(agent); /* it may have rested on what a lost disk held */
    }
    if (next->grant.generation != agent->durable.grant.generation)
        in->planted = false; /* those were for another one */
    agent->durable = *next;
    agent->durable.document = facts;
    if (run->step.reason == AGENT_REASON_RESTORE_MARK)
        agent->cause[0] = '\0'; /* what an earlier birth came to says nothing of this one */
    if (run->step.reason == AGENT_REASON_SPEND || run->step.reason == AGENT_REASON_REWIND_MARK)
        in->due = true;
}

static void written(struct agent *agent, const struct step_run *run, bool running)
{
    struct inputs *in = &agent->in;

    in->names_shown = in->names_violated = false;
    if (run->step.replication.upstream != NODE_NONE)
        in->position_valid = false; /* WAL may come from here on */
    /* A start as a standby erased it. What was written for a server that is gone meanwhile did not:
     * somebody may have promoted that one. */
    if (running)
        in->was_primary = false;
    if (run->rc < 0) {
        in->replication_known = false;
        agent->names_known = false;
        return;
    }
    in->replication = run->step.replication;
    in->replication_known = true;
    in->replication_loaded = running;
    in->replication_since_ms = clock_boot_ms();
    in->document_applied = run->durable.document.version;
    memcpy(agent->names, run->names, sizeof agent->names);
    agent->names_known = true;
    if (in->not_streaming_since_ms == 0)
        in->not_streaming_since_ms = in->replication_since_ms;
    replication_note(agent, run->digest);
    /* until it streams, or until its standbys are counted; a fence is looked at by its own steps */
    if (in->replication.upstream != NODE_NONE || (in->pg == PG_UP && !in->in_recovery))
        sampler_burst(agent->sampler, BURST_MS);
}

static void receivers_seen(struct agent *agent, const struct step_run *run)
{
    agent->in.receivers = run->receivers;
    agent->changed_ms = clock_boot_ms();
}

static void started(struct agent *agent, const struct step_run *run)
{
    struct postmaster pm = run->look.pm;

    if (run->rc < 0) {
        /* as a start that ended at once: the core's back-off applies */
        agent->in.failed_starts++;
        observe_set_pg(agent, agent->in.pg == PG_CRASHED ? PG_CRASHED : PG_DOWN);
        snprintf(agent->cause, sizeof agent->cause, "%.150s", run->err.text);
        observe_look(agent); /* somebody else's server may run there: it is adopted, and fenced */
        return;
    }
    agent->in.names_at_start = true;
    agent->end_asked = false;
    observe_server(agent, &pm, false);
}

static void position_read(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;

    if (run->rc < 0) {
        in->position_unreadable = run->err.code == ERR_CORRUPT;
        if (in->position_failing_ms == 0)
            in->position_failing_ms = clock_boot_ms();
        return;
    }
    /* read in an earlier life of the server, or before it was started: says nothing now */
    if (run->life != agent->life || (run->pm.pid == 0) != (agent->pm.pid == 0))
        return;
    in->position_valid = true;
    in->position_promise = run->durable.promise;
    in->position = run->position;
    in->record_end = run->end;
    in->consistent = run->consistent;
    in->replay_lsn = run->replay_lsn;
    in->lineage = run->lineage;
    in->newest_history = run->newest_history;
    in->position_failing_ms = 0;
    in->replay_unblocked = false;
}

static void names_checked(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;

    if (run->rc < 0 || !agent->names_known)
        return;
    in->names_shown = strcmp(run->names, agent->names) == 0;
    if (in->names_shown && in->pg == PG_UP && !in->in_recovery) {
        /* A replaced machine's connection may have come until just now, and what was sampled before
         * says nothing of it: they are looked for once more. */
        in->old_senders = true;
        agent->changed_ms = clock_boot_ms();
    }
    if (!in->names_shown && clock_boot_ms() - in->replication_since_ms > NAMES_SETTLE_MS)
        in->names_violated = true;
}

static void promoted(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;

    in->planted = false;
    if (!run->promoted || run->life != agent->life)
        return;
    in->in_recovery = false;
    in->flushed.timeline = run->position.timeline;
    in->confirmed_ms = agent->promoted_ms = clock_boot_ms();
    in->checkpointed = in->roles_done = false;
    in->position_valid = false;
    agent->changed_ms = clock_boot_ms();
    agent->sample.timeline = run->position.timeline;
    if (run->rc == 0)
        agent->lineage = run->lineage;
    sampler_burst(agent->sampler, BURST_MS);
}

static void checkpointed(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;

    if (run->life != agent->life || run->in_recovery != in->in_recovery ||
        !promise_equal(run->durable.promise, agent->durable.promise))
        return;
    /* before a planned stop it only saves time: a failed one must not hold that up */
    in->checkpointed = run->rc == 0 || agent->durable.role == ROLE_FENCED;
}

static void child_started(struct agent *agent, const struct step_run *run, enum child kind)
{
    struct inputs *in = &agent->in;

    in->child = kind;
    in->child_data_id = run->step.data_id;
    in->position_valid = false; /* other data from here on */
    if (run->rc < 0) {
        /* nothing ran (its source was not ready, or it would not fit): tried again like any step */
        in->child_state = CHILD_ABSENT;
        observe_look(agent);
        return;
    }
    in->child_state = CHILD_RUNNING;
    observe_child(agent, &run->child);
}

void step_applied(struct agent *agent, const struct step_run *run)
{
    struct inputs *in = &agent->in;
    bool ok = run->rc == 0;

    switch (run->step.kind) {
    case STEP_PERSIST:
        if (ok)
            persisted(agent, run);
        break;
    case STEP_REPLICATION:
        written(agent, run, run->pm.pid != 0 && agent->pm.pid != 0 && run->life == agent->life);
        if (ok)
            receivers_seen(agent, run);
        break;
    case STEP_END_RECEIVERS:
    case STEP_KILL_RECEIVERS: receivers_seen(agent, run); break;
    case STEP_CHECKPOINT: checkpointed(agent, run); break;
    case STEP_STOP:
        if (ok && agent->pm.pid != 0 && run->life == agent->life)
            observe_set_pg(agent, PG_STOPPING);
        if (ok && run->step.reason == AGENT_REASON_JOB_RESTART)
            in->job_stopped = true;
        break;
    case STEP_START:
        written(agent, run, ok);
        started(agent, run);
        break;
    case STEP_READ_POSITION: position_read(agent, run); break;
    case STEP_UNBLOCK_REPLAY: in->replay_unblocked = true; break;
    case STEP_PLANT: in->planted = ok && run->life == agent->life; break;
    case STEP_CHECK_NAMES: names_checked(agent, run); break;
    case STEP_PROMOTE: promoted(agent, run); break;
    case STEP_ROLES:
        in->roles_done = ok && incarnations_equal(&run->durable, &agent->durable) &&
                         run->secrets == agent->secrets;
        break;
    case STEP_END_OLD_SENDERS:
        in->old_senders = in->old_senders && !ok;
        sampler_burst(agent->sampler, BURST_MS);
        break;
    case STEP_INITDB: child_started(agent, run, CHILD_INITDB); break;
    case STEP_REWIND: child_started(agent, run, CHILD_REWIND); break;
    case STEP_CLONE:
        child_started(agent, run, source_is_none(&run->step.source) ? CHILD_CLONE : CHILD_RESTORE);
        break;
    case STEP_APPLY_DOCUMENT:
        if (ok) {
            in->document_applied = run->durable.document.version;
            replication_note(agent, run->digest); /* the access rules are part of what was noted */
            in->roles_done = false;
            sampler_extras(agent->sampler);
        }
        break;
    default: break;
    }
}
