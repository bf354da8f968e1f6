#include "base/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

struct post {
    struct post *next;
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *wake_event;
    struct event *limit; /* bounds one round of loop_run_once() */
    int wake_fd;
    bool stopping;

    pthread_mutex_t lock; /* guards the posts */
    struct post *posts;
    struct post **posts_end;
};

struct loop_timer {
    struct event *event;
    loop_fn *fn;
    void *arg;
    int64_t interval_ms; /* 0: one shot */
    struct loop *loop;
};

struct loop_watch {
    struct event *event;
    loop_watch_fn *fn;
    void *arg;
    unsigned events;
};

struct loop_signal {
    struct event *event;
    loop_fn *fn;
    void *arg;
};

static void libevent_log(int severity, const char *text)
{
    enum log_level level = severity >= EVENT_LOG_ERR    ? LOG_LEVEL_ERROR
                           : severity == EVENT_LOG_WARN ? LOG_LEVEL_WARNING
                                                        : LOG_LEVEL_DEBUG;

    log_event(level, "libevent", "{s:s}", "text", text);
}

static void libevent_fatal(int code)
{
    die("libevent gave up (code %d)", code);
}

/* Runs what was posted until now; what these post in turn waits for the next round, so that
 * descriptors and timers get theirs. */
static void wake_fired(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    struct post *list;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) < 0) {
        /* spurious: the list below is what counts */
    }
    pthread_mutex_lock(&loop->lock);
    list = loop->posts;
    loop->posts = NULL;
    loop->posts_end = &loop->posts;
    pthread_mutex_unlock(&loop->lock);

    while (list != NULL) {
        struct post *post = list;

        list = post->next;
        post->fn(post->arg);
        free(post);
    }
}

static void limit_fired(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

int loop_new(struct loop **result, struct err *err)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    struct event_config *config = event_config_new();
    int status = -1;

    OGEL_CHECK(config != NULL);
    event_set_log_callback(libevent_log);
    event_set_fatal_callback(libevent_fatal);
    pthread_mutex_init(&loop->lock, NULL);
    loop->posts_end = &loop->posts;

    /* PRECISE_TIMER costs a system call in each round; without it the clock is that of the kernel's
     * last tick, and a timer early or late by as much as 10 ms. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV |
                                      EVENT_BASE_FLAG_PRECISE_TIMER);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        err_set_errno(err, errno, "cannot make an event loop");
        goto out;
    }
    loop->base = event_base_new_with_config(config);
    if (loop->base == NULL) {
        err_set_errno(err, errno, "cannot make an event loop");
        goto out;
    }
    loop->wake_event = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, wake_fired, loop);
    loop->limit = event_new(loop->base, -1, 0, limit_fired, NULL);
    OGEL_CHECK(loop->wake_event != NULL && loop->limit != NULL);
    OGEL_CHECK(event_add(loop->wake_event, NULL) == 0);
    *result = loop;
    status = 0;

out:
    event_config_free(config);
    if (status != 0)
        loop_free(loop);
    return status;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    if (loop->wake_event != NULL)
        event_free(loop->wake_event);
    if (loop->limit != NULL)
        event_free(loop->limit);
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    while (loop->posts != NULL) {
        struct post *post = loop->posts;

        loop->posts = post->next;
        free(post);
    }
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

int loop_run(struct loop *loop, struct err *err)
{
    while (!loop->stopping) {
        if (event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0)
            return err_set_errno(err, errno, "the event loop cannot wait for events");
    }
    loop->stopping = false;
    return 0;
}

static struct timeval timeval_of_ms(int64_t ms)
{
    if (ms < 0)
        ms = 0;
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

int loop_run_once(struct loop *loop, int timeout_ms, struct err *err)
{
    int flags = EVLOOP_ONCE;

    if (timeout_ms == 0) {
        flags = EVLOOP_NONBLOCK;
    } else if (timeout_ms > 0) {
        struct timeval tv = timeval_of_ms(timeout_ms);

        event_add(loop->limit, &tv);
    }
    int rc = event_base_loop(loop->base, flags);

    event_del(loop->limit);
    if (rc < 0)
        return err_set_errno(err, errno, "the event loop cannot wait for events");
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    event_base_loopbreak(loop->base);
}

void loop_wake(struct loop *loop)
{
    uint64_t one = 1;

    /* Fails only when the counter is full, and then the loop is awake anyway. */
    if (write(loop->wake_fd, &one, sizeof(one)) < 0)
        OGEL_CHECK(errno == EAGAIN);
}

void loop_post(struct loop *loop, loop_fn *fn, void *arg)
{
    struct post *post = xmalloc(sizeof(*post));
    bool first;

    *post = (struct post){.fn = fn, .arg = arg};
    pthread_mutex_lock(&loop->lock);
    first = loop->posts == NULL;
    *loop->posts_end = post;
    loop->posts_end = &post->next;
    pthread_mutex_unlock(&loop->lock);
    if (first)
        loop_wake(loop);
}

/* ---- timers */

static void timer_add(struct loop_timer *timer, int64_t delay_ms)
{
    struct timeval tv = timeval_of_ms(delay_ms);

    /* Within a callback libevent counts from the moment the round began: after a long one that is
     * too early. */
    event_base_update_cache_time(timer->loop->base);
    OGEL_CHECK(event_add(timer->event, &tv) == 0);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;

    (void)fd;
    (void)what;
    if (timer->interval_ms > 0)
        timer_add(timer, timer->interval_ms);
    timer->fn(timer->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_fn *fn, void *arg)
{
    struct loop_timer *timer = xcalloc(1, sizeof(*timer));

    *timer = (struct loop_timer){.fn = fn, .arg = arg, .loop = loop};
    timer->event = event_new(loop->base, -1, 0, timer_fired, timer);
    OGEL_CHECK(timer->event != NULL);
    return timer;
}

void loop_timer_free(struct loop_timer *timer)
{
    if (timer == NULL)
        return;
    event_free(timer->event);
    free(timer);
}

void loop_timer_start(struct loop_timer *timer, int64_t delay_ms)
{
    timer->interval_ms = 0;
    timer_add(timer, delay_ms);
}

void loop_timer_repeat(struct loop_timer *timer, int64_t interval_ms)
{
    OGEL_CHECK(interval_ms > 0);
    timer->interval_ms = interval_ms;
    timer_add(timer, interval_ms);
}

void loop_timer_stop(struct loop_timer *timer)
{
    event_del(timer->event);
    timer->interval_ms = 0;
}

bool loop_timer_armed(const struct loop_timer *timer)
{
    return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

/* ---- descriptors */

/* Whether a socket is at its end (or broken) right now; bytes still to be read hide a shutdown,
 * which is why this is only asked when the kernel did not say so itself. */
static bool socket_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void watch_fired(evutil_socket_t fd, short what, void *arg)
{
    struct loop_watch *watch = arg;
    unsigned events = 0;

    if (what & EV_READ)
        events |= LOOP_READ;
    if (what & EV_WRITE)
        events |= LOOP_WRITE;
    if (what & EV_CLOSED)
        events |= LOOP_CLOSED;
    if (watch->events == LOOP_CLOSED) {
        if (!(events & LOOP_CLOSED) && !socket_ended(fd))
            return;
        events = LOOP_CLOSED;
    }
    events &= watch->events | LOOP_CLOSED;
    if (events != 0)
        watch->fn(fd, events, watch->arg);
}

/* libevent reports a reset connection as readable and writable, never as closed: an event that
 * asked for EV_CLOSED alone would not be called, and poll would spin. So closing is watched
 * edge-triggered together with reading. */
static short watch_flags(unsigned events)
{
    if (events == LOOP_CLOSED)
        return EV_PERSIST | EV_ET | EV_READ | EV_CLOSED;
    return (short)(EV_PERSIST | (events & LOOP_READ ? EV_READ : 0) |
                   (events & LOOP_WRITE ? EV_WRITE : 0) | (events & LOOP_CLOSED ? EV_CLOSED : 0));
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events, loop_watch_fn *fn,
                                  void *arg)
{
    struct loop_watch *watch = xcalloc(1, sizeof(*watch));

    *watch = (struct loop_watch){.fn = fn, .arg = arg, .events = events};
    watch->event = event_new(loop->base, fd, watch_flags(events), watch_fired, watch);
    OGEL_CHECK(watch->event != NULL);
    if (events != 0)
        OGEL_CHECK(event_add(watch->event, NULL) == 0);
    return watch;
}

void loop_watch_set(struct loop_watch *watch, unsigned events)
{
    struct event_base *base = event_get_base(watch->event);
    int fd = event_get_fd(watch->event);

    if (watch->events == events)
        return;
    event_del(watch->event);
    watch->events = events;
    if (events == 0)
        return;
    OGEL_CHECK(event_assign(watch->event, base, fd, watch_flags(events), watch_fired, watch) == 0);
    OGEL_CHECK(event_add(watch->event, NULL) == 0);
}

void loop_watch_free(struct loop_watch *watch)
{
    if (watch == NULL)
        return;
    event_free(watch->event);
    free(watch);
}

struct loop_watch *loop_watch_pidfd(struct loop *loop, int pidfd, loop_watch_fn *fn, void *arg)
{
    return loop_watch_new(loop, pidfd, LOOP_READ, fn, arg);
}

/* ---- signals */

static void signal_fired(evutil_socket_t signo, short what, void *arg)
{
    struct loop_signal *signal = arg;

    (void)signo;
    (void)what;
    signal->fn(signal->arg);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signo, loop_fn *fn, void *arg)
{
    struct loop_signal *signal = xcalloc(1, sizeof(*signal));

    *signal = (struct loop_signal){.fn = fn, .arg = arg};
    signal->event = evsignal_new(loop->base, signo, signal_fired, signal);
    OGEL_CHECK(signal->event != NULL);
    OGEL_CHECK(event_add(signal->event, NULL) == 0);
    return signal;
}

void loop_signal_free(struct loop_signal *signal)
{
    if (signal == NULL)
        return;
    event_free(signal->event);
    free(signal);
}
