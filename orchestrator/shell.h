/*
 * Small pieces that the files of the orchestrator's shell share; see cluster.h for the large ones.
 */
#ifndef OGEL_ORCHESTRATOR_SHELL_H
#define OGEL_ORCHESTRATOR_SHELL_H

#include <stddef.h>

#include "orchestrator/cluster.h"
#include "protocol/names.h"

/* "http://host:port" and path, for a call to the node's agent. */
void node_url(const struct node *node, const char *path, char *url, size_t size);

/* Cancels messages under way. */
void act_stop(struct cluster *cluster);

/* What hangs off a cluster; made before cluster_start(), freed after cluster_stop(). */
struct requests *requests_new(struct cluster *cluster);
void requests_free(struct requests *requests);
struct history *history_new(void);
void history_free(struct history *history);
void topology_new(struct cluster *cluster);
void topology_free(struct cluster *cluster);

/* topology.c: the reason's text as a sentence about NODE (a slot, or NODE_NONE); returns buf. */
enum { SENTENCE_SIZE = 200 };
const char *reason_sentence(const struct cluster *cluster, enum reason reason, int32_t node,
                            char *buf, size_t size);

/* durations.c: what a round did to an election's clock. */
void durations_note(struct cluster *cluster, const struct memory *before, const struct plan *plan);

/* redis_publish.c. All do nothing where no Redis is configured, and never wait for one. */
int redis_publish_start(struct orchestrator *orchestrator, struct err *err);
void redis_publish_stop(struct orchestrator *orchestrator);
void redis_publish_topology(struct cluster *cluster);
void redis_publish_event(struct cluster *cluster, const json_t *event);

/* document.c. The callback gets an HTTP status, the agent's answer (borrowed, NULL if none) and,
 * unless 200, a sentence. It is called exactly once and never from within the call; not at all
 * after document_forget(). NULL with err where it cannot even be tried. */
struct document_call;
typedef void document_fn(int status, const json_t *answer, const char *detail, void *arg);
struct document_call *document_change(struct cluster *cluster, const json_t *change,
                                      const char *who, document_fn *fn, void *arg, struct err *err);
/* Fences the node at SLOT, or lifts its fence. */
struct document_call *document_fence(struct cluster *cluster, int32_t slot, bool fence,
                                     const char *who, document_fn *fn, void *arg, struct err *err);
struct document_call *document_fetch(struct cluster *cluster, document_fn *fn, void *arg,
                                     struct err *err);
/* After a round: makes the change that its plan has due. */
void document_round(struct cluster *cluster);
void document_forget(struct document_call *call); /* the caller went away; a change goes on */
/* Ends what is under way, without a word: the callers have gone. */
void document_stop(struct cluster *cluster);

/* source.c. What the manifest of snapshot ID ("latest": the newest of this cluster's system) in
 * STORE says, asked of the agent at SLOT, which is to restore it. The callback gets 200 and the
 * source (borrowed), or another HTTP status and a sentence; once, never from within the call, and
 * not after source_forget(). */
struct source_call;
typedef void source_fn(int status, const struct snapshot_source *source, const char *detail,
                       void *arg);
struct source_call *source_look_up(struct cluster *cluster, int32_t slot, const char *store,
                                   const char *id, source_fn *fn, void *arg);
void source_forget(struct source_call *call); /* NULL is allowed */
/* Who is to restore where nobody was named: one that answers. */
int32_t source_reader(const struct cluster *cluster);

/* api.c: the HTTP server of an orchestrator whose clusters have been started. */
int api_start(struct orchestrator *orchestrator, struct err *err);
void api_stop(struct orchestrator *orchestrator);
int api_reload_tokens(struct orchestrator *orchestrator, struct err *err);

#endif
