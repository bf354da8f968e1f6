/*
 * What this agent did: a bounded log as JSON lines in <state_directory>/events.jsonl (and the file
 * before it, events.jsonl.1), and its newest entries in memory for the API. The three agents' logs
 * together are the cluster's history, which survives the loss of any orchestrator.
 *
 * Nothing waits for an entry to be on the disk: a crash of the agent loses none that were appended,
 * a power cut those since events_sync() at most. What is read back later are entries as they were
 * written, in their order: a line that was cut off or damaged is skipped.
 *
 * Everything but events_append() and events_sync() belongs to the loop's thread and touches no
 * disk.
 */
#ifndef OGEL_AGENT_EVENTS_H
#define OGEL_AGENT_EVENTS_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

enum { EVENTS_KEPT = 1000, EVENTS_FILE_BYTES = 1024 * 1024 };

struct events;

struct event {
    const char *node; /* id of the node that it happened at */
    uint32_t generation;
    const char *reason; /* stable code: "N6" */
    const char *text;   /* one sentence */
    const char *who;    /* an operator, where one asked for it; NULL otherwise */
};

/* Reads what is there; damaged lines are skipped and counted in the log. RUN, fresh for each start
 * of the agent, stands in each new entry: with the sequence it names an entry also where the end of
 * the file was lost. Blocks: before the loop runs. */
OGEL_MUST_CHECK int events_open(const char *state_directory, uint64_t run, struct events **events,
                                struct err *err);
void events_free(struct events *events);

/* Adds an entry with the next sequence number and the present time; returns that number. */
uint64_t events_add(struct events *events, const struct event *event);

/* Of the newest entry ever; 0: none. Goes on over restarts. */
uint64_t events_last(const struct events *events);

/* {"events": [entries above SINCE, oldest first, LIMIT at most], "last": N, "first": oldest kept}.
 * A new reference. */
json_t *events_list(const struct events *events, uint64_t since, size_t limit);

/* Lines that are not on disk yet, as one malloc()ed text; NULL if there are none. They are then the
 * caller's to hand to events_append(). */
char *events_take_lines(struct events *events);

/* Appends LINES to the file, which is rotated when full; after a failure some of LINES may be
 * there. From a worker, one at a time, like events_sync(): what was appended before survives a
 * power cut. */
OGEL_MUST_CHECK int events_append(const char *state_directory, const char *lines, struct err *err);
OGEL_MUST_CHECK int events_sync(const char *state_directory, struct err *err);

#endif
