/*
 * A cluster on a stage: a view for decide() that tests change by hand, with agents that obey when
 * told to.
 */
#ifndef OGEL_TESTS_UNIT_DECIDE_SCENE_H
#define OGEL_TESTS_UNIT_DECIDE_SCENE_H

#include "orchestrator/decide.h"

enum { SCENE_PROPOSER = 7, SCENE_OLD_PROPOSER = 3 };

struct scene {
    struct view view;
    struct plan plan; /* of the last decide() */
};

/* Nobody has been heard of. Options: failure 1000, election 3000, promotion 5000, back-off 10000
 * ms. */
void scene_init(struct scene *scene);
/* Three empty machines answer. */
void scene_blank(struct scene *scene);
/* LEADER leads GENERATION by another process's grant, both others stream, everybody reaches
 * everybody. */
void scene_healthy(struct scene *scene, int32_t leader, uint32_t generation);

/* Time passes; what is silent or failing gets older. */
void scene_advance(struct scene *scene, uint32_t ms);
/* Calls decide() and keeps what it remembers. */
void scene_decide(struct scene *scene);

/* NODE is up, consistent, and attached to the leader it was told to follow. */
void scene_stream(struct scene *scene, int32_t node);
/* Nothing streams to NODE any more. */
void scene_cut(struct scene *scene, int32_t node);
/* NODE does what the last plan sent it, as far as promises and roles go. */
void scene_obey(struct scene *scene, int32_t node);
/* NODE answers its promise: fenced, with this position. */
void scene_vote(struct scene *scene, int32_t node, uint32_t timeline, uint64_t lsn);
/* NODE leads by the grant it holds. */
void scene_lead(struct scene *scene, int32_t node);
/* Its agent and Postgres are gone; REFUSES: its machine still answers with resets. */
void scene_lose(struct scene *scene, int32_t node, bool refuses);
/* The others' view of NODE. */
void scene_peers_see(struct scene *scene, int32_t node, bool agent, enum probe_verdict postgres);

bool scene_has_event(const struct scene *scene, enum reason reason);
bool scene_has_blocker(const struct scene *scene, enum reason reason, int32_t node);

#endif
