/*
 * ogelctl as a child of the agent: for a snapshot task, and for a listing of a store. Started from
 * the loop's thread, so that PR_SET_PDEATHSIG means the death of the agent and not of one of its
 * threads; nothing here waits for a disk. It leads a session and a process group of its own; a
 * signal goes to the whole group.
 *
 * A task's child holds a lock on the state directory and writes its pid into it. So one that
 * outlives its agent all the same, or what it had started, is found by the next agent.
 */
#ifndef OGEL_AGENT_TASK_CHILD_H
#define OGEL_AGENT_TASK_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/options.h"
#include "agent/task.h"
#include "base/err.h"

struct task_child {
    pid_t pid; /* 0: none */
    int pidfd;
    int output; /* non-blocking, to be read until its end */
};

/* Starts REQUEST; what it says on OUTPUT is for task_take(). ERR_UNAVAILABLE while an earlier
 * agent's child may still be there: task_child_end_orphan() has not taken the lock yet. */
OGEL_MUST_CHECK int task_child_start(const struct agent_config *config,
                                     const struct task_request *request, struct task_child *child,
                                     struct err *err);

/* Starts `ogelctl snapshot list -o json`: OUTPUT has the array, or after another exit code than 0
 * and 7 what it said to people. */
OGEL_MUST_CHECK int task_child_list(const struct agent_config *config, const char *store,
                                    struct task_child *child, struct err *err);

/* SIGTERM, or with HARD SIGKILL, to all of it. */
void task_child_signal(const struct task_child *child, bool hard);

/* Once its pidfd is readable: ends what it left behind and takes the descriptors back. HOW is what
 * came of it, for people; returns its exit code, -1 where it has none. */
int task_child_reap(struct task_child *child, char *how, size_t how_size);

/* At the start of the agent, and again where task_child_start() asks for it: takes the lock, or
 * kills who holds it, and does not wait. Uses the disk: not for the loop's thread. */
void task_child_end_orphan(const char *state_directory);

#endif
