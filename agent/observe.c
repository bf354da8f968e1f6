#include "agent/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pgconf.h"
#include "agent/pgdata.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "protocol/names.h"
#include "protocol/order.h"

enum {
    BURST_MS = 2000,
    NAMES_SETTLE_MS = 2000,
    LOG_KEEP_BYTES = 512 * 1024 * 1024,
};

/* --- Postgres' state
 * ----------------------------------------------------------------------------------- */

void observe_set_pg(struct agent *agent, enum pg_state state)
{
    struct inputs *in = &agent->in;

    if (in->pg != state)
        log_event(LOG_LEVEL_INFO, "postgres_state", "{s:s,s:s}", "state", pg_state_name(state),
                  "before", pg_state_name(in->pg));
    in->pg = state;
    in->pg_since_ms = clock_boot_ms();
    if (state == PG_UP) {
        in->failed_starts = 0;
        agent->cause[0] = '\0';
    }
    agent_changed(agent);
}

/* What rested on the life of a server that is over. */
static void forget_life(struct agent *agent)
{
    struct inputs *in = &agent->in;

    in->receivers = in->streaming = in->old_senders = false;
    in->planted = in->names_shown = in->names_violated = false;
    in->position_valid = false;
    in->position_failing_ms = 0;
    in->checkpointed = in->roles_done = false;
    in->in_recovery = true;
    in->pg_clean = false;
    in->not_streaming_since_ms = clock_boot_ms();
    agent->sampled = false;
    memset(&agent->replies, 0, sizeof agent->replies);
    agent->probe_failing_ms = 0;
    agent->lineage = (struct lineage){0};
    agent->changed_ms = clock_boot_ms();
}

struct autopsy {
    struct agent *agent;
    uint64_t life;
    struct postmaster_exit status;
    char cause[POSTMASTER_CAUSE_SIZE];
};

static void autopsy_work(void *arg)
{
    struct autopsy *autopsy = arg;
    const char *state_directory = autopsy->agent->config.options.state_directory;
    char log_dir[PGCONF_PATH_SIZE];

    postmaster_describe_exit(&autopsy->status, state_directory,
                             pgconf_log_dir(state_directory, log_dir), autopsy->cause);
}

static void autopsy_done(void *arg)
{
    struct autopsy *autopsy = arg;
    struct agent *agent = autopsy->agent;

    if (autopsy->life == agent->life && agent->in.pg != PG_UP) {
        snprintf(agent->cause, sizeof agent->cause, "%s", autopsy->cause);
        log_event(LOG_LEVEL_WARNING, "postgres_exited", "{s:s}", "cause", agent->cause);
        agent_changed(agent);
    }
    free(autopsy);
}

static void exited(int fd, unsigned events, void *arg)
{
    struct agent *agent = arg;
    struct postmaster_exit status = {0};
    struct autopsy *autopsy;
    struct err err = {0};
    bool starting = agent->in.pg == PG_STARTING;

    (void)fd;
    (void)events;
    if (postmaster_wait(&agent->pm, 0, &status, &err) < 0)
        return; /* fires again */
    loop_watch_free(agent->pm_watch);
    agent->pm_watch = NULL;
    sampler_server(agent->sampler, 0, agent->life);
    forget_life(agent);
    if (starting && !agent->end_asked)
        agent->in.failed_starts++;
    if (agent->end_asked)
        agent->cause[0] = '\0';
    else
        snprintf(agent->cause, sizeof agent->cause, "Postgres exited");
    observe_set_pg(agent, agent->end_asked ? PG_DOWN : PG_CRASHED);
    if (!agent->end_asked) {
        autopsy = xcalloc(1, sizeof *autopsy);
        autopsy->agent = agent;
        autopsy->life = agent->life;
        autopsy->status = status;
        worker_run(agent->background, autopsy_work, autopsy_done, autopsy);
    }
    observe_look(agent);
}

void observe_server(struct agent *agent, struct postmaster *pm, bool adopted)
{
    agent->pm = *pm;
    agent->life++;
    forget_life(agent);
    /* one that was started with the key taken away never had a receiver; any other may have */
    agent->in.receivers = adopted || agent->in.replication.upstream != NODE_NONE;
    agent->pm_watch = loop_watch_pidfd(agent->loop, agent->pm.pidfd, exited, agent);
    observe_set_pg(agent, PG_STARTING);
    sampler_server(agent->sampler, agent->pm.pid, agent->life);
}

/* --- looking at the directory
 * ---------------------------------------------------------------------------- */

struct look_run {
    struct agent *agent;
    struct look look;
    int rc;
    struct err err;
};

static void look_work(void *arg)
{
    struct look_run *run = arg;

    run->rc = step_look(&run->agent->hands, true, &run->look, &run->err);
}

static void look_done(void *arg)
{
    struct look_run *run = arg;
    struct agent *agent = run->agent;

    agent->looking = false;
    if (run->rc < 0) {
        /* nothing may be concluded from what cannot be seen: a vanished mount is not an empty disk
         */
        snprintf(agent->step_error, sizeof agent->step_error, "%.159s", run->err.text);
        log_err(LOG_LEVEL_ERROR, "data_directory_unseen", &run->err);
        agent->look_failed_ms = clock_boot_ms();
    } else {
        observe_looked(agent, &run->look);
    }
    free(run);
    agent_changed(agent);
}

void observe_look(struct agent *agent)
{
    struct look_run *run;

    agent->in.looked = false;
    if (agent->looking)
        return;
    agent->looking = true;
    run = xcalloc(1, sizeof *run);
    run->agent = agent;
    worker_run(agent->steps, look_work, look_done, run);
}

void observe_looked(struct agent *agent, struct look *look)
{
    struct inputs *in = &agent->in;

    in->looked = true;
    in->data_present = look->present;
    agent->looks_foreign = look->foreign;
    in->data_id = look->data_id;
    if (look->system_id != 0)
        agent->system_id = look->system_id;
    if (look->found == POSTMASTER_RUNNING && agent->pm.pid == 0) {
        log_event(LOG_LEVEL_INFO, "postgres_adopted", "{s:i}", "pid", (int)look->pm.pid);
        in->names_at_start = true; /* as any that was started with the managed configuration */
        agent->end_asked = false;
        observe_server(agent, &look->pm, true);
        return;
    }
    if (look->found == POSTMASTER_RUNNING)
        postmaster_release(&look->pm);
    if (agent->pm.pid != 0)
        return;
    in->pg_clean = look->clean;
    in->was_primary = look->was_primary;
    if (!look->present)
        observe_set_pg(agent, PG_ABSENT);
    else if (in->pg != PG_CRASHED)
        in->pg = PG_DOWN;
}

/* --- samples --- */

static bool older_machine(const struct agent *agent, const struct sample_sender *sender)
{
    char id[NODE_ID_SIZE];
    uint32_t incarnation, generation;
    bool counted;
    int32_t slot;

    if (!replication_name_parse(sender->name, id, &incarnation, &generation, &counted))
        return false;
    slot = agent_config_slot(&agent->config, id);
    return slot != NODE_NONE && incarnation < agent->durable.incarnations[slot].number;
}

static int streaming_senders(const struct sample *sample)
{
    int count = 0;

    for (int i = 0; i < sample->sender_count; i++)
        count += sample->senders[i].streaming && sample->senders[i].priority;
    return count;
}

/* A standby that replies stands at the generation in its name. When it did, its own clock says, and
 * that may be any: what counts is when the reply was seen here not to be there yet. */
static void confirm_by_senders(struct agent *agent, const struct sample *sample)
{
    for (int i = 0; i < sample->sender_count; i++) {
        const struct sample_sender *sender = &sample->senders[i];
        char id[NODE_ID_SIZE];
        uint32_t incarnation, generation;
        bool counted;

        if (!sender->streaming)
            continue;
        replies_note(&agent->replies, sender->name, sender->reply_us, sample->taken_ms);
        if (!older_machine(agent, sender) &&
            replication_name_parse(sender->name, id, &incarnation, &generation, &counted))
            peers_confirm(agent, agent_config_slot(&agent->config, id), generation,
                          replies_heard(&agent->replies, sender->name));
    }
}

/* A step that changes the names has told the server before the loop hears of it. */
static bool names_are_changing(const struct agent *agent)
{
    return agent->running && agent->running->step.kind == STEP_REPLICATION;
}

static void check_names(struct agent *agent, const struct sample *sample)
{
    struct inputs *in = &agent->in;

    if (names_are_changing(agent) || !agent->names_known || !in->replication_known ||
        sample->taken_ms - in->replication_since_ms < NAMES_SETTLE_MS)
        return;
    in->names_violated = (sample->status == PG_OK && strcmp(sample->names, agent->names) != 0) ||
                         (sample->probed && sample->probe_ok &&
                          strcmp(sample->fresh_names, agent->names) != 0);
}

static void take_state(struct agent *agent, const struct sample *sample)
{
    struct inputs *in = &agent->in;
    bool changed;

    if (sample->taken_ms <= agent->changed_ms) {
        if (in->pg != PG_STARTING)
            return; /* taken before the last step showed something newer */
    }
    if (in->pg == PG_STARTING) {
        observe_set_pg(agent, PG_UP);
        /* a leader that was found running has one fence timeout to be confirmed */
        if (!sample->in_recovery)
            in->confirmed_ms = clock_boot_ms();
        if (!sample->in_recovery || in->replication.upstream != NODE_NONE)
            sampler_burst(agent->sampler, BURST_MS);
    }
    in->in_recovery = sample->in_recovery;
    if (!in->in_recovery)
        in->position_valid = false; /* a promotion that outlasted its step: WAL has gone on since */
    in->flushed = (struct position){.timeline = sample->timeline, .lsn = sample->flush_lsn};
    changed = in->streaming != sample->streaming;
    in->streaming = sample->streaming;
    if (sample->streaming)
        in->not_streaming_since_ms = 0;
    else if (in->not_streaming_since_ms == 0)
        in->not_streaming_since_ms = sample->taken_ms;
    in->old_senders = false;
    for (int i = 0; i < sample->sender_count; i++)
        in->old_senders = in->old_senders || older_machine(agent, &sample->senders[i]);
    if ((changed && sample->streaming) || streaming_senders(sample) >= NODE_COUNT - 1)
        sampler_burst(agent->sampler, 0); /* what was waited for is there */
    agent->sample = *sample;
    agent->sampled = true;
    confirm_by_senders(agent, sample);
}

static void take_probe(struct agent *agent, const struct sample *sample)
{
    if (!sample->probed)
        return;
    agent->probe_ok = sample->probe_ok;
    if (sample->probe_ok)
        agent->probe_failing_ms = 0;
    else if (agent->probe_failing_ms == 0)
        agent->probe_failing_ms = sample->probe_began_ms;
}

/* --- lineage --- */

struct lineage_run {
    struct agent *agent;
    uint64_t life;
    uint32_t timeline;
    struct lineage lineage;
    int rc;
};

static void lineage_work(void *arg)
{
    struct lineage_run *run = arg;

    run->rc = pgdata_history_read(run->agent->config.options.data_directory, run->timeline,
                                  &run->lineage, NULL);
}

static void lineage_done(void *arg)
{
    struct lineage_run *run = arg;
    struct agent *agent = run->agent;

    agent->lineage_asked = false;
    if (run->rc == 0 && run->life == agent->life) {
        agent->lineage = run->lineage;
        agent_changed(agent);
    }
    free(run);
}

/* The history of the timeline that is written or received, read whenever that is another one. */
static void follow_lineage(struct agent *agent)
{
    const struct lineage *known = &agent->lineage;
    uint32_t timeline = agent->sample.timeline;
    struct lineage_run *run;

    if (timeline == 0 || agent->lineage_asked ||
        (known->count > 0 && known->begin[known->count - 1].timeline == timeline))
        return;
    agent->lineage_asked = true;
    run = xcalloc(1, sizeof *run);
    run->agent = agent;
    run->life = agent->life;
    run->timeline = timeline;
    worker_run(agent->background, lineage_work, lineage_done, run);
}

void observe_sample(const struct sample *sample, void *arg)
{
    struct agent *agent = arg;

    if (sample->life != agent->life || agent->pm.pid == 0)
        return;
    if (sample->status == PG_OK)
        take_state(agent, sample);
    else if (sample->status == PG_STARTING_UP && agent->in.pg == PG_UP)
        observe_set_pg(agent, PG_STOPPING); /* somebody else stops it */
    if (sample->extras) {
        agent->system_id = sample->system_id;
        agent->pg_version = sample->version;
        agent->pending_restart = sample->pending_restart;
        agent->oldest_lsn = sample->oldest_lsn;
    }
    take_probe(agent, sample);
    check_names(agent, sample);
    follow_lineage(agent);
    agent_changed(agent);
}

/* --- children --- */

struct finish_run {
    struct agent *agent;
    struct child_process child;
    int rc;
    struct err err;
};

static void finish_work(void *arg)
{
    struct finish_run *run = arg;

    run->rc = child_finish(run->agent->config.options.data_directory, &run->child, &run->err);
}

static enum agent_reason failed_reason(const struct agent *agent)
{
    switch (agent->in.child) {
    case CHILD_CLONE: return AGENT_REASON_CLONE_FAILED;
    case CHILD_REWIND: return AGENT_REASON_REWIND_FAILED;
    case CHILD_RESTORE:
        return agent->durable.marker == MARKER_RESTORE ? AGENT_REASON_RESTORE
                                                       : AGENT_REASON_CLONE_RESTORE;
    default: return AGENT_REASON_INITDB;
    }
}

static void child_over(struct agent *agent, bool ok, const char *error)
{
    agent->in.child_state = ok ? CHILD_OK : CHILD_FAILED;
    agent->in.child_ended_ms = clock_boot_ms();
    snprintf(agent->cause, sizeof agent->cause, "%s%.140s",
             !ok && agent->in.child == CHILD_RESTORE ? "restore failed: " : "", ok ? "" : error);
    if (!ok)
        agent_event(agent, failed_reason(agent), error);
    observe_look(agent);
    agent_changed(agent);
}

static void finish_done(void *arg)
{
    struct finish_run *run = arg;

    child_over(run->agent, run->rc == 0, run->err.text);
    free(run);
}

static void child_read(int fd, unsigned events, void *arg)
{
    struct agent *agent = arg;
    uint32_t percent = agent->child_output.percent;
    char data[4096];
    ssize_t n;

    (void)events;
    while ((n = read(fd, data, sizeof data)) > 0)
        child_output_take(&agent->child_output, data, (size_t)n);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_watch_free(agent->child_output_watch);
        agent->child_output_watch = NULL;
    }
    if (agent->child_output.percent != percent)
        agent_changed(agent);
}

static void child_exited(int fd, unsigned events, void *arg)
{
    struct agent *agent = arg;
    struct child_process child = agent->child;
    struct finish_run *run;
    char error[CAUSE_SIZE];
    siginfo_t info = {0};
    bool ok;

    (void)events;
    if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return;
    child_read(child.output, LOOP_READ, agent);
    loop_watch_free(agent->child_watch);
    loop_watch_free(agent->child_output_watch);
    agent->child_watch = agent->child_output_watch = NULL;
    close(child.pidfd);
    close(child.output);
    agent->child = (struct child_process){.pidfd = -1, .output = -1};
    ok = info.si_code == CLD_EXITED && info.si_status == 0;
    if (ok && child.kind == CHILD_REWIND && agent->child_output.no_rewind_required) {
        /* histories say otherwise: two promotions shared a timeline id, or something of the kind */
        child_over(agent, false, "pg_rewind saw nothing to rewind although the histories differ");
        return;
    }
    if (!ok) {
        snprintf(error, sizeof error, "%s %d: %.120s",
                 info.si_code == CLD_EXITED ? "exit code" : "signal", info.si_status,
                 agent->child_output.last);
        child_over(agent, false, error);
        return;
    }
    run = xcalloc(1, sizeof *run);
    run->agent = agent;
    run->child = child;
    worker_run(agent->steps, finish_work, finish_done, run);
}

void observe_child(struct agent *agent, const struct child_process *child)
{
    agent->child = *child;
    memset(&agent->child_output, 0, sizeof agent->child_output);
    agent->child_watch = loop_watch_pidfd(agent->loop, child->pidfd, child_exited, agent);
    agent->child_output_watch = loop_watch_new(agent->loop, child->output, LOOP_READ, child_read,
                                               agent);
    agent_changed(agent);
}

/* --- now and then --- */

struct beat {
    struct agent *agent;
    int64_t free_bytes, total_bytes;
    int rc;
    bool sync_events;
    int sync_rc;
    struct err sync_err;
};

static void beat_work(void *arg)
{
    struct beat *beat = arg;
    const struct agent_options *options = &beat->agent->config.options;

    beat->rc = file_disk_space(options->data_directory, &beat->free_bytes, &beat->total_bytes,
                               NULL);
    if (beat->rc < 0)
        beat->rc = file_disk_space(options->state_directory, &beat->free_bytes, &beat->total_bytes,
                                   NULL);
    if (beat->sync_events)
        beat->sync_rc = events_sync(options->state_directory, &beat->sync_err);
    if (pgconf_log_prune(options->state_directory, LOG_KEEP_BYTES, NULL) < 0)
        return; /* tried again at the next beat */
}

static void beat_done(void *arg)
{
    struct beat *beat = arg;
    struct agent *agent = beat->agent;

    if (beat->rc == 0) {
        agent->disk_free_bytes = (uint64_t)beat->free_bytes;
        agent->disk_total_bytes = (uint64_t)beat->total_bytes;
    }
    if (beat->sync_rc < 0) {
        log_err(LOG_LEVEL_ERROR, "event_log_failed", &beat->sync_err);
        agent->events_unsynced = true;
    }
    free(beat);
}

void observe_beat(void *arg)
{
    struct agent *agent = arg;
    struct beat *beat;

    if (!worker_idle(agent->background))
        return; /* the disk hangs */
    beat = xcalloc(1, sizeof *beat);
    beat->agent = agent;
    beat->sync_events = agent->events_unsynced;
    agent->events_unsynced = false;
    worker_run(agent->background, beat_work, beat_done, beat);
}
