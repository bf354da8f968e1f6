/*
 * Shared by the files that make up the agent's core (reconcile*.c); nobody else includes it.
 *
 * Each part returns true when it has chosen: a step, or (kind STEP_NONE) that there is nothing to
 * do but wait.
 */
#ifndef OGEL_AGENT_RECONCILE_INTERNAL_H
#define OGEL_AGENT_RECONCILE_INTERNAL_H

#include "agent/reconcile.h"

enum {
    WAKE_MS = 1000, /* a settled node looks again after this long */
    WAKE_SOON_MS = 50,
    CRASH_PAUSE_MS = 300,       /* a crashed server leaves the processor to the election first */
    CHILD_BACKOFF_MS = 3000,    /* between failed clones */
    RESTORE_BACKOFF_MS = 30000, /* … restores of a birth: a store that is away may come back */
    START_BACKOFF_STEPS = 5,
};

/* choosing */
bool choose(struct step *step, enum step_kind kind, enum agent_reason reason);
bool choose_wait(struct step *step, enum agent_reason reason, int64_t wake_ms);
bool choose_persist(struct step *step, const struct durable *durable, enum agent_reason reason);
bool choose_start(const struct inputs *in, struct step *step, const struct replication *replication,
                  enum agent_reason reason);
bool choose_stop(const struct inputs *in, struct step *step, enum agent_reason reason);

/* looking */
bool is_primary(const struct inputs *in); /* up and out of recovery */
bool is_running(const struct inputs *in); /* some postmaster exists */
bool is_leader(
    const struct inputs *in); /* primary by its own spent grant of the promised generation */
bool peer_of_cluster(const struct inputs *in,
                     int32_t peer); /* fresh, same cluster, not an older or void machine */
const struct report *leader_report(
    const struct inputs *in); /* of the promised leader while it leads; else NULL */
bool data_usable(const struct durable *durable); /* a copy is there that Postgres may start from */
/* Somebody else's data. What a marked init or copy has left half done is this node's own. */
bool data_is_foreign(const struct inputs *in);
bool superseded(const struct inputs *in);

/* replication as it ought to be */
struct replication replication_locked(const struct durable *durable);
struct replication replication_names(const struct durable *durable);
struct replication replication_attached(const struct durable *durable);
bool replication_equal(const struct replication *a, const struct replication *b);
bool replication_ensure(const struct inputs *in, struct step *step, const struct replication *want,
                        enum agent_reason reason);

/* reconcile_identity.c: who this machine is, what it knows, what it promised */
bool identity_learn(const struct inputs *in, struct step *step);
bool identity_register(const struct inputs *in, struct step *step);
bool identity_check_data(const struct inputs *in, struct step *step);
bool identity_admit_peer(const struct inputs *in, struct step *step);
bool declared_destroyed(const struct durable *durable, int32_t slot);
bool promise_admit(const struct inputs *in, struct step *step);

/* reconcile_fence.c: the proof, and the vote that rests on it */
bool fence(const struct inputs *in, struct step *step);
bool fence_shown(const struct inputs *in);
bool position_read(const struct inputs *in, struct step *step);
bool position_known(const struct inputs *in);
bool disown_wal(const struct inputs *in, struct step *step);
bool disown_primary(const struct inputs *in, struct step *step);
bool role_fenced(const struct inputs *in, struct step *step);

/* reconcile_lead.c */
bool leads_unopposed(const struct inputs *in);
bool self_fence(const struct inputs *in, struct step *step);
bool role_leader(const struct inputs *in, struct step *step);

/* reconcile_follow.c */
bool child_results(const struct inputs *in, struct step *step);
bool role_follower(const struct inputs *in, struct step *step);

#endif
