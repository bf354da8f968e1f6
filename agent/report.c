#include "agent/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "protocol/codec.h"
#include "protocol/names.h"
#include "protocol/order.h"

enum {
    QUIET_BUMP_MS = 1000,  /* positions and lags alone tell their news no more often */
    WORDS_BUMP_MS = 250,   /* nor words for people: a failover is twenty steps */
    FAILING_STEP_MS = 100, /* a failing probe tells its news this often */
};

static const char *step_word(enum step_kind kind)
{
    static const char *const words[] = {
        [STEP_NONE] = "wait",
        [STEP_PERSIST] = "persist",
        [STEP_REPLICATION] = "replication",
        [STEP_END_RECEIVERS] = "end receivers",
        [STEP_KILL_RECEIVERS] = "kill receivers",
        [STEP_CHECKPOINT] = "checkpoint",
        [STEP_STOP] = "stop",
        [STEP_KILL] = "kill",
        [STEP_START] = "start",
        [STEP_READ_POSITION] = "read position",
        [STEP_UNBLOCK_REPLAY] = "unblock replay",
        [STEP_PLANT] = "plant",
        [STEP_CHECK_NAMES] = "check names",
        [STEP_PROMOTE] = "promote",
        [STEP_ROLES] = "roles",
        [STEP_END_OLD_SENDERS] = "end old senders",
        [STEP_INITDB] = "initdb",
        [STEP_REWIND] = "rewind",
        [STEP_CLONE] = "clone",
        [STEP_STOP_CHILD] = "stop child",
        [STEP_REGISTER] = "register",
        [STEP_ANSWER_REGISTRATION] = "answer registration",
        [STEP_ASK_DISCARD] = "ask discard",
        [STEP_FETCH_DOCUMENT] = "fetch document",
        [STEP_APPLY_DOCUMENT] = "apply document",
    };

    return words[kind];
}

static uint32_t age_of(int64_t since_ms, int64_t now_ms)
{
    int64_t age = now_ms - since_ms;

    if (since_ms == 0)
        return AGE_NEVER;
    return age < 0 ? 0 : age < AGE_NEVER ? (uint32_t)age : AGE_NEVER - 1;
}

/* --- parts of the report
 * -------------------------------------------------------------------------------- */

static void put_durable(const struct agent *agent, struct report *report)
{
    const struct durable *d = &agent->durable;

    report->protocol = PROTOCOL_VERSION;
    report->cluster = d->cluster;
    report->node = d->node;
    report->agent_run = agent->run;
    report->promise = d->promise;
    report->leader = d->leader;
    report->grant = d->grant;
    report->role = d->role;
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        report->incarnations[slot] = d->incarnations[slot];
        report->void_number[slot] = d->void_number[slot];
    }
    report->blank = cluster_id_is_none(&d->cluster) && d->promise.generation == 0 &&
                    agent->in.looked && !agent->in.data_present && !agent->in.data_foreign;
    report->registered = d->registered;
    report->birth_promised = d->birth_promised;
    report->birth_ended = d->birth_ended;
    report->complete = d->complete;
    report->rewound = d->rewound;
    report->marker = d->marker;
    /* Data that is being given up counts no longer: that write may take longer than the leader's
     * permission is good for, and the other follower must not be allowed the same meanwhile. */
    if (agent->running && agent->running->step.kind == STEP_PERSIST) {
        const struct durable *next = &agent->running->step.durable;

        report->complete = report->complete && next->complete;
        report->rewound = report->rewound && next->rewound;
        if (next->marker != MARKER_NONE)
            report->marker = next->marker;
    }
    report->document = d->document;
    report->job = d->job;
    report->job_state = d->job_state;
}

/* Does the row belong to the standby of that slot as N lists it? */
static bool counts(const struct agent *agent, const struct sample_sender *sender, int32_t slot,
                   uint32_t incarnation, uint32_t generation, bool counted)
{
    const struct replication *r = &agent->in.replication;

    return counted && sender->priority && agent->in.replication_known && r->names &&
           generation == r->generation && incarnation == r->incarnations[slot].number;
}

static void put_standbys(const struct agent *agent, int64_t now_ms, struct report *report)
{
    for (int i = 0; i < agent->sample.sender_count; i++) {
        const struct sample_sender *sender = &agent->sample.senders[i];
        struct standby_view *view;
        char id[NODE_ID_SIZE];
        uint32_t incarnation, generation;
        bool counted;
        int32_t slot;

        if (!replication_name_parse(sender->name, id, &incarnation, &generation, &counted))
            continue;
        slot = agent_config_slot(&agent->config, id);
        if (slot == NODE_NONE || slot == agent->config.self)
            continue;
        view = &report->standbys[slot];
        /* a clone in progress has a second connection; the standby proper is the newest one */
        if (view->attached && (view->generation > generation || (view->counted && !counted)))
            continue;
        view->attached = true;
        view->streaming = sender->streaming;
        view->counted = counts(agent, sender, slot, incarnation, generation, counted);
        view->generation = generation;
        view->incarnation = incarnation;
        view->flush_lsn = sender->flush_lsn;
        view->replay_lsn = sender->replay_lsn;
        view->reply_age_ms = age_of(replies_heard(&agent->replies, sender->name), now_ms);
        view->replay_lag_ms = sender->replay_lag_ms;
    }
}

static void put_postgres(const struct agent *agent, int64_t now_ms, struct report *report)
{
    const struct inputs *in = &agent->in;
    const struct sample *sample = &agent->sample;

    report->pg = in->pg;
    report->in_recovery = in->pg == PG_UP && in->in_recovery;
    report->checkpointed = in->pg == PG_UP && !in->in_recovery && in->checkpointed;
    report->oldest_lsn = agent->oldest_lsn;
    report->local_probe_ok = in->pg == PG_UP && agent->probe_ok;
    if (in->pg == PG_UP && agent->probe_failing_ms != 0)
        report->local_probe_failing_ms = age_of(agent->probe_failing_ms, now_ms) + 1;
    report->sampled_age_ms = AGE_NEVER;
    if (agent->sampled) {
        /* not the turn's time: a report is built in between, too */
        report->sampled_age_ms = age_of(sample->taken_ms, clock_boot_ms());
        report->timeline = sample->timeline;
        report->write_lsn = sample->write_lsn;
        report->flush_lsn = sample->flush_lsn;
        report->replay_lsn = sample->replay_lsn;
        report->replay_lag_ms = sample->replay_lag_ms;
        report->receiver.streaming = in->streaming;
        report->receiver.message_age_ms = sample->receiver ? sample->message_age_ms : AGE_NEVER;
        put_standbys(agent, now_ms, report);
    } else {
        report->receiver.message_age_ms = AGE_NEVER;
    }
    report->receiver.alive = agent->sampled && sample->receiver;
    report->receiver.upstream = report->receiver.alive && in->replication_known
                                    ? in->replication.upstream
                                    : NODE_NONE;
    report->lineage = agent->lineage;
    if (in->position_valid) {
        report->lineage = in->lineage;
        if (report->timeline == 0)
            report->timeline = in->record_end.timeline;
    } else if (report->timeline == 0 && agent->lineage.count > 0) {
        report->timeline = agent->lineage.begin[agent->lineage.count - 1].timeline;
    }
    snprintf(report->postgres.host, sizeof report->postgres.host, "%s",
             agent->config.options.postgres.host);
    report->postgres.port = (uint16_t)agent->config.options.postgres.port;
    report->system_id = agent->system_id;
    report->pg_version = agent->pg_version;
    report->pending_restart = agent->pending_restart;
    report->disk_free_bytes = agent->disk_free_bytes;
    report->disk_total_bytes = agent->disk_total_bytes;
    report->progress_percent = in->child_state == CHILD_RUNNING ? agent->child_output.percent : 0;
}

static void put_standing(const struct agent *agent, struct report *report)
{
    struct standing_now now;

    reconcile_standing(&agent->in, &now);
    report->vote = now.vote;
    report->leading = now.leading;
    report->fenced = now.fenced;
    report->confirmed = now.confirmed;
    for (int slot = 0; slot < NODE_COUNT; slot++)
        report->accepts_writes = report->accepts_writes ||
                                 (now.leading && report->standbys[slot].counted &&
                                  report->standbys[slot].streaming);
}

static void put_words(const struct agent *agent, struct report *report)
{
    const struct step *step = agent->running ? &agent->running->step : &agent->step;
    const char *code = agent_reason_code(step->reason);
    bool settled = step->kind == STEP_NONE && strcmp(code, "-") == 0;

    if (!settled)
        snprintf(report->step, sizeof report->step, "%s %s", code, step_word(step->kind));
    if (agent->cause[0])
        snprintf(report->cause, sizeof report->cause, "%s", agent->cause);
    else if (agent->step_error[0])
        snprintf(report->cause, sizeof report->cause, "%s", agent->step_error);
    else if (!settled && step->kind == STEP_NONE)
        snprintf(report->cause, sizeof report->cause, "%s", agent_reason_text(step->reason));
}

static void build(struct agent *agent, struct report *report)
{
    int64_t now_ms = agent->in.now_ms;

    memset(report, 0, sizeof *report);
    put_durable(agent, report);
    put_postgres(agent, now_ms, report);
    put_standing(agent, report);
    put_words(agent, report);
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        peers_view(agent, slot, &report->peers[slot]);
    report->sequence = agent->sequence;
}

/* --- news
 * -------------------------------------------------------------------------------------------------
 */

/* How soon readers hear of a change. */
enum news { NEWS_NONE, NEWS_QUIET, NEWS_WORDS, NEWS_NOW };

/* Without what changes by itself as time goes on, and without what is worth less than LEAST: what
 * changes all the time while people write, and words for people. */
static void strip(struct report *report, enum news least)
{
    report->sequence = 0;
    report->sampled_age_ms = 0;
    report->receiver.message_age_ms = 0;
    report->local_probe_failing_ms /= FAILING_STEP_MS;
    report->disk_free_bytes = 0;
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        report->peers[slot].agent_age_ms = report->peers[slot].postgres_age_ms = 0;
        report->standbys[slot].reply_age_ms = 0;
    }
    if (least == NEWS_NOW) {
        memset(report->step, 0, sizeof report->step);
        memset(report->cause, 0, sizeof report->cause);
    }
    if (least == NEWS_QUIET)
        return;
    report->write_lsn = report->flush_lsn = report->replay_lsn = report->oldest_lsn = 0;
    report->replay_lag_ms = 0;
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        report->standbys[slot].flush_lsn = report->standbys[slot].replay_lsn = 0;
        report->standbys[slot].replay_lag_ms = 0;
    }
}

static bool differ(const struct report *a, const struct report *b, enum news least)
{
    static struct report left, right; /* the loop's thread alone */

    left = *a;
    right = *b;
    strip(&left, least);
    strip(&right, least);
    return memcmp(&left, &right, sizeof left) != 0;
}

static enum news news_between(const struct report *a, const struct report *b)
{
    enum news news = NEWS_NOW;

    while (news != NEWS_NONE && !differ(a, b, news))
        news--;
    return news;
}

int64_t report_update(struct agent *agent)
{
    static const int64_t pauses_ms[] = {
        [NEWS_QUIET] = QUIET_BUMP_MS, [NEWS_WORDS] = WORDS_BUMP_MS, [NEWS_NOW] = 0};
    int64_t now_ms = clock_boot_ms(), wait_ms;
    enum news news;

    build(agent, &agent->report);
    if (agent->report.leading != (agent->leading_since_ms != 0))
        agent->leading_since_ms = agent->report.leading ? now_ms : 0;
    news = news_between(&agent->report, &agent->report_seen);
    if (news == NEWS_NONE)
        return 0;
    wait_ms = agent->bumped_ms + pauses_ms[news] - now_ms;
    if (wait_ms > 0)
        return wait_ms;
    agent->bumped_ms = now_ms;
    agent->report.sequence = ++agent->sequence;
    agent->report_seen = agent->report;
    api_wake(agent);
    return 0;
}

char *report_text(const struct agent *agent)
{
    json_t *json = report_to_json(&agent->report);
    char *text = json_dump_line(json);

    json_decref(json);
    return text;
}
