/*
 * The event loop: one per thread that waits. Timers, file descriptors, signals, processes, and work
 * handed over from other threads. A thin layer over libevent_core, so that nothing else in the
 * project names libevent.
 *
 * Everything here belongs to the thread that runs the loop, except loop_post() and loop_wake(),
 * which any thread may call. Callbacks never run inside the call that armed them. A callback may
 * free the very object it was called for.
 */
#ifndef OGEL_BASE_LOOP_H
#define OGEL_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_timer;
struct loop_watch;
struct loop_signal;

enum {
    LOOP_READ = 1,
    LOOP_WRITE = 2,
    LOOP_CLOSED = 4 /* the peer shut down its side; reported also while data is still unread */
};

typedef void loop_fn(void *arg);
typedef void loop_watch_fn(int fd, unsigned events, void *arg);

/* Makes a loop. Fails only where the kernel refuses descriptors. Free it with loop_free(), after
 * everything in it. */
OGEL_MUST_CHECK int loop_new(struct loop **loop, struct err *err);
void loop_free(struct loop *loop);

/* Runs until loop_stop(). Returns -1 if the kernel's poll fails. */
OGEL_MUST_CHECK int loop_run(struct loop *loop, struct err *err);

/* Waits for events at most timeout_ms (0: only what is ready, -1: until one comes), runs them,
 * returns. For tests and for code that drives the loop from within something else. */
OGEL_MUST_CHECK int loop_run_once(struct loop *loop, int timeout_ms, struct err *err);

/* Ends loop_run() after the callback that is running now. */
void loop_stop(struct loop *loop);

/* Runs fn(arg) once in the loop's thread, in the order of posting. Any thread may call it, the
 * loop's own too ("later, outside of this call stack"). What is posted after the loop ended runs
 * when it runs again or never. */
void loop_post(struct loop *loop, loop_fn *fn, void *arg);

/* Makes a waiting loop go round once. Any thread. */
void loop_wake(struct loop *loop);

/* A timer on CLOCK_MONOTONIC, not armed yet. It never fires early. */
struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg);
void loop_timer_free(struct loop_timer *timer); /* NULL is allowed */

/* Arms for one shot delay_ms from now, or for a shot each interval_ms; either replaces what was
 * armed before. */
void loop_timer_start(struct loop_timer *timer, int64_t delay_ms);
void loop_timer_repeat(struct loop_timer *timer, int64_t interval_ms);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_armed(const struct loop_timer *timer);

/* Watches fd (level-triggered) for the given LOOP_* events, until changed or freed. The descriptor
 * stays the caller's; free the watch before closing it. */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events, loop_watch_fn *fn,
                                  void *arg);
void loop_watch_set(struct loop_watch *watch, unsigned events); /* 0 pauses */
void loop_watch_free(struct loop_watch *watch);                 /* NULL is allowed */

/* Calls fn when the process behind pidfd has exited (a zombie counts). Fires again and again until
 * freed. */
struct loop_watch *loop_watch_pidfd(struct loop *loop, int pidfd, loop_watch_fn *fn, void *arg);

/* Calls fn in the loop, not in signal context, for each delivery of signo. One loop of a process
 * may have signals. */
struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_fn *fn, void *arg);
void loop_signal_free(struct loop_signal *signal); /* NULL is allowed */

#endif
