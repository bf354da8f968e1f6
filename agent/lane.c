#include "agent/lane.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/node.h"
#include "agent/task_child.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/http_client.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    TICK_MS = 1000,
    RENEW_MS = 5000,
    ASK_MS = 3000,    /* a question to the leader's agent */
    KILL_MS = 5000,   /* from SIGTERM to SIGKILL */
    NEWS_MS = 1000,   /* between two of progress alone */
    READ_MAX = 16384, /* of the child's pipe in one go: then the loop has its turn */
    PIPE_READS = 65536 / READ_MAX + 1, /* a pipe holds no more */
    ANSWER_DEPTH = 8,
};

struct lane {
    struct task task;
    struct task_output output;
    struct task_child child;
    struct loop_watch *exit_watch, *output_watch;
    struct loop_timer *timer; /* armed while the child runs */
    uint64_t sequence;
    int64_t bumped_ms;

    /* why this agent ends the child; NULL: it does not */
    const char *end_code;
    char end_text[TASK_TEXT_SIZE];
    int64_t kill_ms;

    /* the permit that the leader gave this task */
    struct http_call *asking, *returning;
    int32_t asked_node;
    uint32_t asked_generation;
    int64_t asked_ms;
    int64_t renew_ms; /* when to ask next */
    int64_t until_ms; /* it is good for so long */

    /* a task that waits for its permit; FN NULL: none */
    struct task_request wanted;
    lane_answer_fn *fn;
    void *fn_arg;

    struct permit given; /* as the leader's agent */

    uint64_t failures[TASK_KINDS];
    int64_t last_success_ms[TASK_KINDS];
};

/* --- looking -------------------------------------------------------------------------------- */

bool lane_idle(const struct agent *agent)
{
    return agent->lane->child.pid == 0;
}

const struct task *lane_task(const struct agent *agent)
{
    return &agent->lane->task;
}

uint64_t lane_sequence(const struct agent *agent)
{
    return agent->lane->sequence;
}

uint64_t lane_failures(const struct agent *agent, enum task_kind kind)
{
    return agent->lane->failures[kind];
}

int64_t lane_last_success_ms(const struct agent *agent, enum task_kind kind)
{
    return agent->lane->last_success_ms[kind];
}

json_t *lane_json(const struct agent *agent)
{
    const struct lane *lane = agent->lane;
    char run[24];

    snprintf(run, sizeof run, "%016llx", (unsigned long long)agent->run);
    return json_pack("{s:I,s:s,s:o}", "sequence", (json_int_t)lane->sequence, "run", run, "task",
                     task_json(&lane->task, clock_boot_ms()));
}

/* A new sequence number, for progress alone not too often. */
static void news(struct agent *agent, bool now)
{
    struct lane *lane = agent->lane;
    int64_t now_ms = clock_boot_ms();

    if (!now && now_ms - lane->bumped_ms < NEWS_MS)
        return;
    lane->sequence++;
    lane->bumped_ms = now_ms;
    task_wake(agent);
}

/* --- events --------------------------------------------------------------------------------- */

/* Of snapshots; docs/protocol.md, section 26. */
#define REASON_BEGUN  "H1"
#define REASON_DONE   "H2"
#define REASON_FAILED "H3"

static void tell(struct agent *agent, const char *code, const char *what, const char *more)
{
    const struct task_request *request = &agent->lane->task.request;
    char text[400];

    snprintf(text, sizeof text, "snapshots: %s%s%s %s%s%.200s (task %s)",
             task_kind_names[request->kind], request->snapshot[0] != '\0' ? " " : "",
             request->snapshot, what, more[0] != '\0' ? ": " : "", more, request->id);
    agent_event_by(agent, code, text, request->who);
}

/* --- the permit ----------------------------------------------------------------------------- */

static struct permit_leader self_as_leader(const struct agent *agent)
{
    return (struct permit_leader){.leads = agent->report.leading,
                                  .since_ms = agent->leading_since_ms,
                                  .generation = agent->durable.grant.generation};
}

enum permit_verdict lane_permit(struct agent *agent, const struct permit_request *request)
{
    struct permit_leader leader = self_as_leader(agent);

    return permit_ask(&agent->lane->given, request, &leader, clock_boot_ms());
}

const struct permit *lane_permit_given(const struct agent *agent)
{
    return &agent->lane->given;
}

const char *permit_reason(enum permit_verdict verdict)
{
    switch (verdict) {
    case PERMIT_HELD: return "held";
    case PERMIT_YOUNG: return "young_leader";
    case PERMIT_NO_LEADER: return "no_leader";
    case PERMIT_GENERATION: return "generation";
    default: return "";
    }
}

static enum permit_verdict verdict_of(const char *reason)
{
    for (int verdict = PERMIT_HELD; verdict <= PERMIT_GENERATION; verdict++)
        if (strcmp(reason, permit_reason((enum permit_verdict)verdict)) == 0)
            return (enum permit_verdict)verdict;
    return PERMIT_NO_LEADER;
}

static void lane_end(struct agent *agent, const char *code, const char *text);
static void lane_start(struct agent *agent);

/* The one who waits for the permit is told. */
static void give_up(struct agent *agent, const struct lane_answer *answer)
{
    struct lane *lane = agent->lane;
    lane_answer_fn *fn = lane->fn;

    lane->fn = NULL;
    fn(agent, answer, lane->fn_arg);
}

static void refused(struct agent *agent, enum permit_verdict verdict, const char *holder,
                    const char *node)
{
    struct lane_answer answer = {.reason = permit_reason(verdict)};
    struct lane *lane = agent->lane;

    answer.verdict = verdict == PERMIT_NO_LEADER || verdict == PERMIT_GENERATION ? LANE_LATER
                                                                                 : LANE_REFUSED;
    if (verdict == PERMIT_HELD) {
        snprintf(answer.holder, sizeof answer.holder, "%s", holder);
        snprintf(answer.holder_node, sizeof answer.holder_node, "%s", node);
        err_set(&answer.err, ERR_REFUSED,
                "the leader's agent has given the permit to task %s at %s: one snapshot task at a "
                "time in a cluster",
                answer.holder, answer.holder_node);
    } else if (verdict == PERMIT_YOUNG) {
        err_set(&answer.err, ERR_REFUSED,
                "the leader leads for less than %d s: a task that an earlier one permitted may "
                "still run",
                PERMIT_YOUNG_MS / 1000);
    } else {
        err_set(&answer.err, ERR_UNAVAILABLE,
                "leadership is changing: the one that was asked does not lead this node: ask "
                "again");
    }
    if (lane->fn)
        give_up(agent, &answer);
    else if (lane->child.pid != 0 && verdict == PERMIT_HELD)
        lane_end(agent, "permit_lost", answer.err.text);
    else
        lane->renew_ms = clock_boot_ms() + TICK_MS;
}

static void given(struct agent *agent)
{
    struct lane *lane = agent->lane;

    lane->until_ms = lane->asked_ms + PERMIT_MS;
    lane->renew_ms = lane->asked_ms + RENEW_MS;
    if (lane->fn)
        lane_start(agent);
}

static void unanswered(struct agent *agent, const char *text)
{
    struct lane_answer answer = {.verdict = LANE_LATER};
    struct lane *lane = agent->lane;

    lane->renew_ms = clock_boot_ms() + TICK_MS;
    if (!lane->fn)
        return;
    err_set(&answer.err, ERR_UNAVAILABLE,
            "the leader's agent cannot be asked for the permit: %.300s", text);
    give_up(agent, &answer);
}

static void answered(const struct http_result *result, void *arg)
{
    char reason[32] = "", holder[TASK_ID_SIZE] = "", node[NODE_ID_SIZE] = "";
    struct agent *agent = arg;
    json_t *json = NULL;

    agent->lane->asking = NULL;
    if (result->outcome != HTTP_CALL_OK) {
        unanswered(agent, result->error);
    } else if (result->status == 200) {
        given(agent);
    } else if (result->status != 409 ||
               json_parse_bounded(result->body, result->body_size, ANSWER_DEPTH, &json, NULL) < 0 ||
               json_field_string(json, "reason", JSON_REQUIRED, reason, sizeof reason, NULL) < 0 ||
               json_field_string(json, "task", JSON_OPTIONAL, holder, sizeof holder, NULL) < 0 ||
               json_field_string(json, "node", JSON_OPTIONAL, node, sizeof node, NULL) < 0) {
        char text[64];

        snprintf(text, sizeof text, "it answers with status %d", result->status);
        unanswered(agent, text);
    } else {
        refused(agent, verdict_of(reason), holder, node);
    }
    json_decref(json);
}

static struct http_call *ask_peer(struct agent *agent, int32_t leader,
                                  const struct permit_request *request, http_call_fn *fn)
{
    static const char *const states[] = {"new", "running", "ended"};
    char url[160], where[UNITS_ADDRESS_SIZE], *body;
    json_t *json = json_pack("{s:s,s:s,s:I,s:s}", "task", request->task, "node",
                             agent->config.options.node, "generation",
                             (json_int_t)request->generation, "state", states[request->state]);
    struct http_call *call;

    body = json_dump_line(json);
    json_decref(json);
    snprintf(url, sizeof url, "http://%.130s/v1/permit",
             units_format_address(&agent->config.agents[leader], where));
    call = http_call(agent->client,
                     &(struct http_call_spec){.method = "POST",
                                              .url = url,
                                              .token = agent->secrets->token[TOKEN_PEER],
                                              .body = body,
                                              .body_size = strlen(body),
                                              .timeout_ms = ASK_MS},
                     fn, agent);
    free(body);
    return call;
}

/* For the task that waits for it, or the one that runs. */
static void ask(struct agent *agent)
{
    struct lane *lane = agent->lane;
    int32_t leader = agent->durable.leader.node;
    struct permit_request request = {
        .task = lane->fn ? lane->wanted.id : lane->task.request.id,
        .node = agent->config.self,
        .generation = agent->durable.leader.generation,
        .state = lane->fn ? PERMIT_NEW : PERMIT_RUNNING,
    };
    enum permit_verdict verdict;

    http_call_cancel(lane->asking);
    lane->asking = NULL;
    lane->asked_node = leader;
    lane->asked_generation = request.generation;
    lane->asked_ms = clock_boot_ms();
    if (leader < 0 || leader >= NODE_COUNT || request.generation == 0) {
        unanswered(agent, "no leader is known here");
    } else if (leader != agent->config.self) {
        lane->asking = ask_peer(agent, leader, &request, answered);
    } else if ((verdict = lane_permit(agent, &request)) == PERMIT_GIVEN) {
        given(agent);
    } else {
        refused(agent, verdict, lane->given.task,
                verdict == PERMIT_HELD ? agent->config.ids[lane->given.node] : "");
    }
}

static void returned(const struct http_result *result, void *arg)
{
    struct agent *agent = arg;

    (void)result;
    agent->lane->returning = NULL;
    if (agent->lane->fn)
        ask(agent);
}

/* Given back, so that the next task need not wait for it to run out. */
static void give_back(struct agent *agent)
{
    struct lane *lane = agent->lane;
    struct permit_request request = {
        .task = lane->task.request.id,
        .node = agent->config.self,
        .generation = agent->durable.leader.generation,
        .state = PERMIT_ENDED,
    };
    int32_t leader = agent->durable.leader.node;

    http_call_cancel(lane->asking);
    http_call_cancel(lane->returning);
    lane->asking = lane->returning = NULL;
    (void)lane_permit(agent, &request);
    if (leader >= 0 && leader < NODE_COUNT && leader != agent->config.self)
        lane->returning = ask_peer(agent, leader, &request, returned);
}

/* --- the child ------------------------------------------------------------------------------ */

static void lane_end(struct agent *agent, const char *code, const char *text)
{
    struct lane *lane = agent->lane;

    if (lane->child.pid == 0 || lane->end_code)
        return;
    lane->end_code = code;
    snprintf(lane->end_text, sizeof lane->end_text, "%s", text);
    lane->kill_ms = clock_boot_ms() + KILL_MS;
    log_event(LOG_LEVEL_INFO, "snapshot_task_ending", "{s:s,s:s}", "task", lane->task.request.id,
              "why", code);
    task_child_signal(&lane->child, false);
}

bool lane_cancel(struct agent *agent, const char *id, const char *text)
{
    struct lane *lane = agent->lane;

    if (lane->child.pid == 0 || (id && strcmp(lane->task.request.id, id) != 0))
        return false;
    lane_end(agent, "cancelled", text);
    return true;
}

static void watch_progress(struct agent *agent, int64_t now_ms)
{
    struct lane *lane = agent->lane;
    int64_t timeout_ms = agent->config.options.snapshots.progress_timeout_ms;
    char text[200];

    if (now_ms - lane->task.moved_ms < timeout_ms)
        return;
    snprintf(text, sizeof text,
             "no progress for %lld s (phase \"%s\"): ended; option snapshots.progress_timeout",
             (long long)timeout_ms / 1000, lane->task.phase);
    lane_end(agent, "no_progress", text);
}

static void watch_permit(struct agent *agent, int64_t now_ms)
{
    struct lane *lane = agent->lane;
    bool other = lane->asked_node != agent->durable.leader.node ||
                 lane->asked_generation != agent->durable.leader.generation;

    /* it must be over, killed too, when the permit is */
    if (now_ms >= lane->until_ms - KILL_MS - 2 * TICK_MS)
        lane_end(agent, "permit_lost",
                 "no leader's agent could be asked to renew the permit, so that another task may "
                 "begin: ended");
    else if (other || (!lane->asking && now_ms >= lane->renew_ms))
        ask(agent);
}

static void tick(void *arg)
{
    struct agent *agent = arg;
    struct lane *lane = agent->lane;
    int64_t now_ms = clock_boot_ms();

    if (!lane->end_code)
        watch_progress(agent, now_ms);
    if (!lane->end_code)
        watch_permit(agent, now_ms);
    if (lane->end_code && now_ms >= lane->kill_ms)
        task_child_signal(&lane->child, true);
}

static void take_output(int fd, unsigned events, void *arg)
{
    struct agent *agent = arg;
    struct lane *lane = agent->lane;
    char data[READ_MAX], phase[TASK_PHASE_SIZE];
    ssize_t n = read(fd, data, sizeof data);

    (void)events;
    memcpy(phase, lane->task.phase, sizeof phase);
    if (n > 0 && task_take(&lane->task, &lane->output, data, (size_t)n, clock_boot_ms()))
        news(agent, strcmp(phase, lane->task.phase) != 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_watch_free(lane->output_watch);
        lane->output_watch = NULL;
    }
}

static void note_end(struct agent *agent)
{
    struct lane *lane = agent->lane;
    const struct task *task = &lane->task;
    enum task_kind kind = task->request.kind;
    const char *id = json_string_value(json_object_get(task->result, "id"));

    if (task->state == TASK_DONE) {
        lane->last_success_ms[kind] = task->ended_ms;
        tell(agent, REASON_DONE, "is done", id && kind == TASK_CREATE ? id : "");
    } else {
        lane->failures[kind]++;
        tell(agent, REASON_FAILED, "failed", task->error_text);
    }
}

static void exited(int fd, unsigned events, void *arg)
{
    struct agent *agent = arg;
    struct lane *lane = agent->lane;
    char how[64];

    (void)events;
    (void)fd;
    for (int i = 0; i < PIPE_READS && lane->output_watch; i++)
        take_output(lane->child.output, LOOP_READ, agent);
    loop_timer_stop(lane->timer);
    loop_watch_free(lane->exit_watch);
    loop_watch_free(lane->output_watch);
    lane->exit_watch = lane->output_watch = NULL;
    (void)task_child_reap(&lane->child, how, sizeof how);
    atomic_store(&agent->task_pid, 0);
    task_end(&lane->task, &lane->output, how, lane->end_code, lane->end_text, clock_wall_ms());
    task_output_free(&lane->output);
    give_back(agent);
    note_end(agent);
    news(agent, true);
}

static void orphan_work(void *state_directory)
{
    task_child_end_orphan(state_directory);
}

/* The permit is there for what waits for it. */
static void lane_start(struct agent *agent)
{
    struct lane *lane = agent->lane;
    struct lane_answer answer = {.verdict = LANE_BEGUN};

    if (agent->quitting) {
        answer.verdict = LANE_LATER;
        err_set(&answer.err, ERR_UNAVAILABLE, "this agent is being stopped");
    } else if (task_child_start(&agent->config, &lane->wanted, &lane->child, &answer.err) < 0) {
        answer.verdict = answer.err.code == ERR_UNAVAILABLE ? LANE_LATER : LANE_FAILED;
        if (answer.verdict == LANE_LATER)
            worker_run(agent->background, orphan_work, free,
                       xstrdup(agent->config.options.state_directory));
    }
    if (answer.verdict == LANE_BEGUN) {
        atomic_store(&agent->task_pid, lane->child.pid);
        task_begin(&lane->task, &lane->wanted, clock_wall_ms(), clock_boot_ms());
        lane->end_code = NULL;
        lane->exit_watch = loop_watch_pidfd(agent->loop, lane->child.pidfd, exited, agent);
        lane->output_watch = loop_watch_new(agent->loop, lane->child.output, LOOP_READ, take_output,
                                            agent);
        loop_timer_repeat(lane->timer, TICK_MS);
        tell(agent, REASON_BEGUN, "began", lane->task.request.store);
        news(agent, true);
    }
    give_up(agent, &answer);
}

void lane_begin(struct agent *agent, const struct task_request *request, lane_answer_fn *fn,
                void *arg)
{
    struct lane *lane = agent->lane;
    struct lane_answer answer = {.verdict = LANE_BUSY};

    if (lane->task.state != TASK_NONE && strcmp(lane->task.request.id, request->id) == 0) {
        answer.verdict = LANE_SAME;
    } else if (lane->child.pid != 0) {
        err_set(&answer.err, ERR_CONFLICT, "task %s (%s) runs here: one at a time",
                lane->task.request.id, task_kind_names[lane->task.request.kind]);
    } else if (lane->fn || agent->quitting) {
        answer.verdict = LANE_LATER;
        err_set(&answer.err, ERR_UNAVAILABLE, "%s",
                lane->fn ? "another task is being begun: ask again"
                         : "this agent is being stopped");
    } else {
        lane->wanted = *request;
        lane->fn = fn;
        lane->fn_arg = arg;
        /* not before the one of the task before is given back: the leader would refuse it */
        if (!lane->returning)
            ask(agent);
        return;
    }
    fn(agent, &answer, arg);
}

/* --- start and stop ------------------------------------------------------------------------- */

void lane_new(struct agent *agent)
{
    struct lane *lane = xcalloc(1, sizeof *lane);

    lane->child = (struct task_child){.pidfd = -1, .output = -1};
    lane->timer = loop_timer_new(agent->loop, tick, agent);
    /* as the report's: nobody may take this run for the one that he heard last */
    lane->sequence = agent->run >> 32 << 20;
    agent->lane = lane;
}

void lane_stop(struct agent *agent)
{
    struct lane_answer answer = {.verdict = LANE_LATER};
    struct lane *lane = agent->lane;

    err_set(&answer.err, ERR_UNAVAILABLE, "this agent is being stopped");
    if (lane->fn)
        give_up(agent, &answer);
    http_call_cancel(lane->asking);
    http_call_cancel(lane->returning);
    loop_watch_free(lane->exit_watch);
    loop_watch_free(lane->output_watch);
    loop_timer_free(lane->timer);
    task_child_signal(&lane->child, true);
    task_output_free(&lane->output);
    task_free(&lane->task);
    free(lane);
    agent->lane = NULL;
}
