#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/reconcile.h"
#include "protocol/order.h"
#include "tests/unit/reconcile_world.h"

const struct cluster_id world_cluster = {{7}};

struct lineage world_lineage_of(uint32_t count, const struct position *begin)
{
    struct lineage l = {.count = count};

    memcpy(l.begin, begin, count * sizeof *begin);
    return l;
}

/* A follower of generation 5, whole and attached to LEADER, which leads. */
void world_make_follower(struct world *w)
{
    static const struct position mine[] = {{2, 100}, {5, 500}};

    memset(w, 0, sizeof *w);
    w->stop_before = STEP_NONE;
    w->in.now_ms = 1000000;
    w->in.nonce = 4711;
    w->in.options = (struct options){.fence_timeout_ms = 3000,
                                     .receiver_timeout_ms = 200,
                                     .stop_timeout_ms = 3000,
                                     .checkpoint_timeout_ms = 1000,
                                     .position_timeout_ms = 1000,
                                     .recheck_timeout_ms = 2000,
                                     .start_backoff_ms = 100};
    w->in.durable = &w->durable;
    w->in.message = &w->message;
    w->in.looked = w->in.data_present = true;
    w->in.pg = PG_UP;
    w->in.in_recovery = true;
    w->in.pg_since_ms = 1;
    w->in.names_at_start = true;
    w->in.streaming = true;
    w->in.receivers = true;
    w->in.confirmed_ms = w->in.now_ms;
    w->in.registration.node = NODE_NONE;
    w->wal_end = (struct position){5, 900};
    w->copy_end = (struct position){5, 800};
    w->lineage = world_lineage_of(2, mine);
    w->in.flushed = w->wal_end;
    w->durable = (struct durable){.node = SELF,
                                  .cluster = world_cluster,
                                  .registered = true,
                                  .birth_promised = true,
                                  .birth_ended = true,
                                  .promise = {5, P},
                                  .leader = {5, LEADER, {1, 11}, P},
                                  .role = ROLE_FOLLOWER,
                                  .data_id = 99,
                                  .complete = true,
                                  .followed = 5,
                                  .floor = {5, 600},
                                  .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
    w->in.data_id = 99;
    w->in.replication = (struct replication){.upstream = LEADER,
                                             .upstream_incarnation = {1, 11},
                                             .generation = 5,
                                             .counted = true,
                                             .incarnations = {{1, 10}}};
    w->in.replication_known = w->in.replication_loaded = true;
    for (int32_t peer = 1; peer < NODE_COUNT; peer++) {
        struct report *r = &w->peers[peer];

        *r = (struct report){.cluster = world_cluster,
                             .node = peer,
                             .registered = true,
                             .birth_ended = true,
                             .promise = {5, P},
                             .leader = {5, LEADER, {1, 11}, P},
                             .role = ROLE_FOLLOWER,
                             .complete = true,
                             .pg = PG_UP,
                             .in_recovery = true,
                             .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
        w->in.peers[peer] = (struct peer_input){
            .known = true, .fresh = true, .asked_ms = w->in.now_ms, .report = r};
    }
    w->peers[LEADER].role = ROLE_LEADER;
    w->peers[LEADER].leading = true;
    w->peers[LEADER].in_recovery = false;
    w->peers[LEADER].checkpointed = true;
    w->peers[LEADER].grant = (struct grant){5, P, {1, 11}, true};
    w->peers[LEADER].write_lsn = 950;
    w->peers[LEADER].lineage = world_lineage_of(2, mine);
}

/* The same node as the leader of generation 5. */
void world_make_leader(struct world *w)
{
    world_make_follower(w);
    w->durable.leader = (struct leadership){5, SELF, {1, 10}, P};
    w->durable.grant = (struct grant){5, P, {1, 10}, true};
    w->durable.role = ROLE_LEADER;
    w->in.in_recovery = false;
    w->in.streaming = w->in.receivers = false;
    w->in.planted = w->in.names_shown = w->in.checkpointed = w->in.roles_done = true;
    w->in.replication = (struct replication){.upstream = NODE_NONE,
                                             .generation = 5,
                                             .names = true,
                                             .incarnations = {{1, 10}, {1, 11}, {1, 12}}};
    w->peers[LEADER].role = ROLE_FOLLOWER;
    w->peers[LEADER].leading = false;
    w->peers[LEADER].in_recovery = true;
    w->peers[LEADER].grant = (struct grant){0};
    for (int32_t peer = 1; peer < NODE_COUNT; peer++)
        w->peers[peer].leader = w->durable.leader;
}

void world_make_blank(struct world *w)
{
    world_make_follower(w);
    memset(&w->durable, 0, sizeof w->durable);
    w->durable.node = SELF;
    w->durable.leader.node = NODE_NONE;
    w->in.pg = PG_ABSENT;
    w->in.data_present = w->in.receivers = w->in.streaming = false;
    w->in.replication_known = false;
    w->in.data_id = 0;
}

void world_tell(struct world *w, enum role role, uint32_t generation, uint64_t proposer)
{
    w->in.has_message = true;
    w->message = (struct desired){.protocol = PROTOCOL_VERSION,
                                  .cluster = world_cluster,
                                  .node = SELF,
                                  .generation = generation,
                                  .proposer = proposer,
                                  .role = role};
    w->message.leader.node = NODE_NONE;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        w->message.incarnations[slot] = w->durable.incarnations[slot];
}

void world_tell_follow(struct world *w, uint32_t generation, uint64_t proposer, int32_t leader)
{
    world_tell(w, ROLE_FOLLOWER, generation, proposer);
    w->message.leader = (struct leadership){generation, leader, w->durable.incarnations[leader],
                                            proposer};
}

void world_lead_elsewhere(struct world *w, uint32_t generation, uint64_t begin_lsn)
{
    struct report *r = &w->peers[OTHER];
    struct position begin[] = {{2, 100}, {5, 500}, {generation, begin_lsn}};

    w->peers[LEADER].leading = false;
    r->promise = (struct promise){generation, Q};
    r->role = ROLE_LEADER;
    r->leading = r->checkpointed = true;
    r->in_recovery = false;
    r->grant = (struct grant){generation, Q, {1, 12}, true};
    r->lineage = world_lineage_of(3, begin);
    r->write_lsn = begin_lsn + 100;
}

void world_tell_grant(struct world *w, uint32_t generation, uint64_t proposer)
{
    world_tell(w, ROLE_LEADER, generation, proposer);
    w->message.leader = (struct leadership){generation, SELF, w->durable.incarnations[SELF],
                                            proposer};
}

static void start_server(struct world *w)
{
    w->in.pg = PG_UP;
    w->in.in_recovery = true;
    w->in.pg_since_ms = w->in.now_ms;
    w->in.replication = w->step.replication;
    w->in.replication_known = w->in.replication_loaded = w->in.names_at_start = true;
    w->in.replication_since_ms = w->in.now_ms;
    w->in.planted = w->in.names_shown = w->in.position_valid = false;
    w->in.receivers = w->in.streaming = w->step.replication.upstream != NODE_NONE;
    if (w->in.streaming)
        w->in.flushed = (struct position){w->step.replication.generation, 2000};
}

void world_end_server(struct world *w, enum pg_state state, bool clean)
{
    w->in.pg = state;
    w->in.pg_clean = clean;
    w->in.pg_since_ms = w->in.now_ms;
    w->in.receivers = w->in.streaming = false;
    w->in.in_recovery = false;
}

static void do_replication(struct world *w)
{
    bool upstream = w->step.replication.upstream != NODE_NONE;

    w->in.replication = w->step.replication;
    w->in.replication_known = w->in.replication_loaded = true;
    w->in.replication_since_ms = w->in.now_ms;
    w->in.names_shown = false;
    if (upstream && w->in.pg == PG_UP) {
        w->in.receivers = w->in.streaming = true;
        w->in.flushed = (struct position){w->step.replication.generation, 2000};
    }
}

static void do_child(struct world *w, enum child child)
{
    w->in.child = child;
    w->in.child_state = w->child_fails ? CHILD_FAILED : CHILD_OK;
    w->in.child_ended_ms = w->in.now_ms;
    w->in.child_data_id = w->step.data_id;
    w->in.data_present = true;
    w->in.data_id = w->child_fails ? 1 : w->step.data_id;
    w->in.position_valid = false;
    w->in.nonce++;
    if (child != CHILD_INITDB) {
        w->wal_end = w->copy_end;
        w->lineage.count = w->lineage.count > 2 ? 2 : w->lineage.count;
    }
    if (w->in.pg == PG_ABSENT)
        world_end_server(w, PG_DOWN, true);
}

void world_do_read_position(struct world *w)
{
    if (w->position_fails) {
        if (!w->in.position_failing_ms)
            w->in.position_failing_ms = w->in.now_ms;
        w->in.now_ms += 100;
        return;
    }
    w->in.position_valid = true;
    w->in.position_promise = w->durable.promise;
    w->in.position = w->in.record_end = w->wal_end;
    w->in.consistent = w->in.pg == PG_UP ? (struct position){0} : w->consistent;
    w->in.lineage = w->lineage;
    w->in.replay_lsn = w->wal_end.lsn;
}

void world_carry_out(struct world *w)
{
    switch (w->step.kind) {
    case STEP_PERSIST:
        if (w->step.durable.job.id != w->durable.job.id)
            w->in.job_stopped = false;
        w->durable = w->step.durable;
        if (w->step.reason == AGENT_REASON_SPEND || w->step.reason == AGENT_REASON_REWIND_MARK)
            w->in.due = true;
        if (w->step.reason == AGENT_REASON_PROMISE)
            w->in.checkpointed = false;
        break;
    case STEP_REPLICATION: do_replication(w); break;
    case STEP_END_RECEIVERS:
        w->in.receivers = w->receiver_sticks;
        w->in.now_ms += w->receiver_sticks ? 200 : 1;
        break;
    case STEP_KILL_RECEIVERS: world_end_server(w, PG_CRASHED, false); break;
    case STEP_KILL: world_end_server(w, PG_CRASHED, false); break;
    case STEP_CHECKPOINT: w->in.checkpointed = true; break;
    case STEP_STOP:
        world_end_server(w, PG_DOWN, true);
        w->in.job_stopped |= w->step.reason == AGENT_REASON_JOB_RESTART;
        break;
    case STEP_START: start_server(w); break;
    case STEP_READ_POSITION: world_do_read_position(w); break;
    case STEP_UNBLOCK_REPLAY: w->in.replay_unblocked = true; break;
    case STEP_PLANT: w->in.planted = true; break;
    case STEP_CHECK_NAMES: w->in.names_shown = true; break;
    case STEP_PROMOTE:
        w->in.due = false;
        w->in.in_recovery = false;
        w->in.confirmed_ms = w->in.now_ms;
        w->in.flushed = (struct position){w->durable.grant.generation, 2000};
        break;
    case STEP_ROLES: w->in.roles_done = true; break;
    case STEP_END_OLD_SENDERS: w->in.old_senders = false; break;
    case STEP_INITDB: do_child(w, CHILD_INITDB); break;
    case STEP_REWIND:
        w->in.due = false;
        do_child(w, CHILD_REWIND);
        break;
    case STEP_CLONE:
        do_child(w, source_is_none(&w->step.source) ? CHILD_CLONE : CHILD_RESTORE);
        break;
    case STEP_REGISTER: {
        struct registration_answer *a = &w->in.answers[w->step.peer];

        *a = (struct registration_answer){.valid = true,
                                          .accepted = true,
                                          .cluster = world_cluster,
                                          .self = w->durable.incarnations[SELF],
                                          .promise = {5, P},
                                          .birth_ended = true};
        memcpy(a->incarnations, w->peers[w->step.peer].incarnations, sizeof a->incarnations);
        break;
    }
    case STEP_ANSWER_REGISTRATION: w->in.registration.pending = false; break;
    case STEP_ASK_DISCARD: w->in.discard_allowed = true; break;
    case STEP_APPLY_DOCUMENT: w->in.document_applied = w->durable.document.version; break;
    default: fail_msg("step %d has no meaning here", w->step.kind);
    }
}

/* Runs until nothing is left to do. Waiting lets time pass a few times, so that what only waits
 * for time goes on. */
const char *world_run(struct world *w)
{
    int waits = 0;

    w->trace[0] = '\0';
    for (int i = 0; i < 200; i++) {
        w->in.now_ms += 1;
        reconcile(&w->in, &w->step);
        if (w->step.kind != STEP_NONE && w->step.kind == w->stop_before)
            return w->trace;
        if (w->step.kind == STEP_NONE) {
            if (waits++ == 3)
                return w->trace;
            w->in.now_ms += 400;
            w->in.confirmed_ms = w->in.now_ms;
            for (int32_t peer = 0; peer < NODE_COUNT; peer++)
                w->in.peers[peer].asked_ms = w->in.now_ms;
            continue;
        }
        snprintf(w->trace + strlen(w->trace), sizeof w->trace - strlen(w->trace), "%s%s",
                 w->trace[0] ? " " : "", agent_reason_code(w->step.reason));
        world_carry_out(w);
    }
    fail_msg("never settles: %s", w->trace);
    return "";
}

bool world_voted(struct world *w)
{
    struct standing_now now;

    reconcile_standing(&w->in, &now);
    return now.vote.valid && promise_equal(now.vote.promise, w->durable.promise);
}
