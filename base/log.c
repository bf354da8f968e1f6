#include "base/log.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

const char *const log_level_names[] = {"debug", "info", "warning", "error", "fatal", NULL};

static struct {
    atomic_int level;
    atomic_int fd;
    atomic_uint_fast64_t dropped_total;

    pthread_mutex_t context_lock;
    json_t *context;

    pthread_mutex_t write_lock; /* one whole line at a time, while there is no thread */

    /* The queue: a ring of bytes. The thread alone moves `start`, callers add at start + used. */
    pthread_mutex_t queue_lock;
    pthread_cond_t filled;
    pthread_t thread;
    enum { DIRECT, THREADED, STUCK } mode; /* STUCK: the thread hangs and was given up */
    bool stopping;
    char *ring;
    size_t size, start;
    atomic_size_t used;
    uint64_t dropped; /* since the last "log_dropped" */
} state = {
    .level = LOG_LEVEL_INFO,
    .fd = STDERR_FILENO,
    .context_lock = PTHREAD_MUTEX_INITIALIZER,
    .write_lock = PTHREAD_MUTEX_INITIALIZER,
    .queue_lock = PTHREAD_MUTEX_INITIALIZER,
    .filled = PTHREAD_COND_INITIALIZER,
};

void log_set_level(enum log_level level)
{
    atomic_store(&state.level, (int)level);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load(&state.level);
}

void log_set_fd(int fd)
{
    atomic_store(&state.fd, fd);
}

uint64_t log_dropped_total(void)
{
    return atomic_load(&state.dropped_total);
}

void log_context_set(const char *key, const char *value)
{
    pthread_mutex_lock(&state.context_lock);
    if (state.context == NULL)
        state.context = json_object();
    if (value == NULL)
        json_object_del(state.context, key);
    else
        json_object_set_new(state.context, key, json_text(value));
    if (json_object_size(state.context) == 0) {
        json_decref(state.context);
        state.context = NULL;
    }
    pthread_mutex_unlock(&state.context_lock);
}

/* --- a line --------------------------------------------------------------------------------- */

/* What json_pack() refuses because a string is NULL or no UTF-8: the same format read again with
 * less rigour, flat objects only. What it cannot read ends it. */
static json_t *pack_tolerant(const char *fmt, va_list ap)
{
    json_t *obj = json_object();
    const char *key = NULL;

    for (; *fmt != '\0'; fmt++) {
        json_t *value = NULL;

        if (strchr(" \t\n,:{}", *fmt) != NULL)
            continue;
        if (key == NULL && *fmt == 's') {
            key = va_arg(ap, const char *);
            if (key == NULL)
                break;
            continue;
        }
        if (*fmt == 's')
            value = json_text(va_arg(ap, const char *));
        else if (*fmt == 'i')
            value = json_integer(va_arg(ap, int));
        else if (*fmt == 'I')
            value = json_integer(va_arg(ap, json_int_t));
        else if (*fmt == 'b')
            value = json_boolean(va_arg(ap, int));
        else if (*fmt == 'f')
            value = json_real(va_arg(ap, double));
        else if (*fmt == 'n')
            value = json_null();
        else if (*fmt == 'O')
            value = json_incref(va_arg(ap, json_t *));
        else if (*fmt == 'o') /* the first reading has taken it already */
            va_arg(ap, json_t *), value = json_null();
        else
            break;
        if (fmt[1] == '?' || fmt[1] == '*')
            fmt++;
        else if (*fmt == 's' && (fmt[1] == '#' || fmt[1] == '%' || fmt[1] == '+'))
            break;
        json_object_set_new(obj, key, value != NULL ? value : json_null());
        key = NULL;
    }
    if (*fmt != '\0')
        json_object_set_new(obj, "log_error", json_string("fields after this one are lost"));
    return obj;
}

static json_t *pack_fields(const char *event, const char *fmt, va_list ap)
{
    json_error_t error;
    json_t *fields;
    va_list again;

    va_copy(again, ap);
    fields = json_vpack_ex(&error, 0, fmt, ap);
    if (fields == NULL && (json_error_code(&error) == json_error_invalid_utf8 ||
                           json_error_code(&error) == json_error_null_value))
        fields = pack_tolerant(fmt, again);
    va_end(again);
    if (json_is_object(fields))
        return fields;
    json_decref(fields);
#ifndef NDEBUG
    die("event \"%s\" has a bad format \"%s\": %s", event, fmt, error.text);
#else
    (void)event;
    return json_pack("{s:s}", "log_error", "bad format of the fields");
#endif
}

/* The line with its end; the caller frees. Takes FIELDS (may be NULL) over. */
static char *render(enum log_level level, const char *event, json_t *fields)
{
    char now[CLOCK_ISO8601_SIZE], *text, *line;
    json_t *obj = json_pack("{s:s,s:s,s:o}", "time", clock_format_iso8601(clock_wall_ms(), now),
                            "level", log_level_names[level], "event", json_text(event));

    pthread_mutex_lock(&state.context_lock);
    if (state.context != NULL) {
        json_t *copy = json_deep_copy(state.context);

        json_object_update(obj, copy);
        json_decref(copy);
    }
    pthread_mutex_unlock(&state.context_lock);
    if (fields != NULL)
        json_object_update(obj, fields);
    json_decref(fields);
    text = json_dump_line(obj);
    json_decref(obj);
    line = xasprintf("%s\n", text);
    free(text);
    return line;
}

/* --- writing -------------------------------------------------------------------------------- */

/* Returns false when the descriptor takes nothing any more: closed, a broken pipe, or one that does
 * not block and stays full for a second. */
static bool write_fully(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t put = write(fd, data, len);
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN && poll(&poll_fd, 1, 1000) == 1)
            continue;
        if (put <= 0)
            return false;
        data += put;
        len -= (size_t)put;
    }
    return true;
}

static void count_dropped(const char *data, size_t len)
{
    uint64_t lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += data[i] == '\n';
    atomic_fetch_add(&state.dropped_total, lines);
}

/* Under queue_lock. */
static bool enqueue(const char *line, size_t len)
{
    size_t used = atomic_load(&state.used), end, first;

    if (len > state.size - used)
        return false;
    end = (state.start + used) % state.size;
    first = len < state.size - end ? len : state.size - end;
    memcpy(state.ring + end, line, first);
    memcpy(state.ring, line + first, len - first);
    atomic_fetch_add(&state.used, len);
    pthread_cond_signal(&state.filled);
    return true;
}

/* Under queue_lock, with room for both: first what was lost, then LINE. */
static bool enqueue_after_gap(const char *line)
{
    size_t len = strlen(line), gap_len;
    char *gap;
    bool done;

    if (state.dropped == 0)
        return enqueue(line, len);
    gap = render(LOG_LEVEL_WARNING, "log_dropped",
                 json_pack("{s:I}", "lines", (json_int_t)state.dropped));
    gap_len = strlen(gap);
    done = gap_len + len <= state.size - atomic_load(&state.used) && enqueue(gap, gap_len) &&
           enqueue(line, len);
    if (done)
        state.dropped = 0;
    free(gap);
    return done;
}

static void emit(const char *line)
{
    bool direct = false;

    pthread_mutex_lock(&state.queue_lock);
    if (state.mode == DIRECT) {
        direct = true;
    } else if (state.mode == STUCK || !enqueue_after_gap(line)) {
        state.dropped++;
        count_dropped(line, strlen(line));
    }
    pthread_mutex_unlock(&state.queue_lock);
    if (!direct)
        return;
    pthread_mutex_lock(&state.write_lock);
    if (!write_fully(atomic_load(&state.fd), line, strlen(line)))
        count_dropped(line, strlen(line));
    pthread_mutex_unlock(&state.write_lock);
}

void log_event(enum log_level level, const char *event, const char *fields, ...)
{
    json_t *packed = NULL;
    char *line;
    va_list ap;
    int saved_errno = errno;

    /* Read also when the line is not wanted: a reference given by "o" must go somewhere. */
    if (fields != NULL) {
        va_start(ap, fields);
        packed = pack_fields(event, fields, ap);
        va_end(ap);
    }
    if (log_enabled(level)) {
        line = render(level, event, packed);
        emit(line);
        free(line);
    } else {
        json_decref(packed);
    }
    errno = saved_errno;
}

void log_err(enum log_level level, const char *event, const struct err *err)
{
    log_event(level, event, "{s:s,s:s}", "code", err_code_name(err->code), "error", err->text);
}

/* --- the thread ----------------------------------------------------------------------------- */

/* Under queue_lock, which is let go while writing. */
static void write_queued(void)
{
    for (size_t len; (len = atomic_load(&state.used)) > 0;) {
        const char *data = state.ring + state.start;

        if (len > state.size - state.start)
            len = state.size - state.start;
        /* Nobody touches these bytes until `start` has moved past them. */
        pthread_mutex_unlock(&state.queue_lock);
        if (!write_fully(atomic_load(&state.fd), data, len))
            count_dropped(data, len);
        pthread_mutex_lock(&state.queue_lock);
        state.start = (state.start + len) % state.size;
        atomic_fetch_sub(&state.used, len);
    }
}

static void *writer_main(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&state.queue_lock);
    for (;;) {
        write_queued();
        if (state.stopping)
            break;
        pthread_cond_wait(&state.filled, &state.queue_lock);
    }
    pthread_mutex_unlock(&state.queue_lock);
    return NULL;
}

int log_thread_start(size_t queue_bytes, struct err *err)
{
    sigset_t all, old;
    int rc;

    OGEL_CHECK(state.mode == DIRECT && queue_bytes > 0);
    state.ring = xmalloc(queue_bytes);
    state.size = queue_bytes;
    state.start = 0;
    atomic_store(&state.used, 0);
    state.stopping = false;
    /* Signals belong to the main loop. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&state.thread, NULL, writer_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        free(state.ring);
        state.ring = NULL;
        return err_set_errno(err, rc, "cannot start the log's thread");
    }
    pthread_mutex_lock(&state.queue_lock);
    state.mode = THREADED;
    pthread_mutex_unlock(&state.queue_lock);
    return 0;
}

void log_thread_stop(int64_t timeout_ms)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    struct timespec deadline = {.tv_sec = deadline_ms / 1000,
                                .tv_nsec = deadline_ms % 1000 * 1000000};

    pthread_mutex_lock(&state.queue_lock);
    if (state.mode != THREADED) {
        pthread_mutex_unlock(&state.queue_lock);
        return;
    }
    state.stopping = true;
    pthread_cond_signal(&state.filled);
    pthread_mutex_unlock(&state.queue_lock);
    if (pthread_clockjoin_np(state.thread, NULL, CLOCK_MONOTONIC, &deadline) != 0) {
        /* It hangs in write(): whoever wrote now would hang as well. */
        pthread_mutex_lock(&state.queue_lock);
        state.mode = STUCK;
        pthread_mutex_unlock(&state.queue_lock);
        pthread_detach(state.thread);
        return;
    }
    pthread_mutex_lock(&state.queue_lock);
    write_queued(); /* lines of other threads since its last look */
    state.mode = DIRECT;
    free(state.ring);
    state.ring = NULL;
    pthread_mutex_unlock(&state.queue_lock);
}

/* --- the end -------------------------------------------------------------------------------- */

void log_emergency(const char *text)
{
    char line[1024], now[CLOCK_ISO8601_SIZE];
    const struct timespec pause = {.tv_nsec = 10000000};
    struct pollfd poll_fd = {.fd = atomic_load(&state.fd), .events = POLLOUT};
    size_t used;

    /* What is queued tells how it came to this. */
    for (int i = 0; i < 50 && atomic_load(&state.used) > 0; i++)
        nanosleep(&pause, NULL);
    used = (size_t)snprintf(line, sizeof(line),
                            "{\"time\":\"%s\",\"level\":\"fatal\",\"event\":\"died\",\"error\":\"",
                            clock_format_iso8601(clock_wall_ms(), now));
    for (; *text != '\0' && used < sizeof(line) - 4; text++) {
        if (*text == '"' || *text == '\\')
            line[used++] = '\\';
        line[used++] = (unsigned char)*text < ' ' || (unsigned char)*text > '~' ? '?' : *text;
    }
    memcpy(line + used, "\"}\n", 3);
    if (poll(&poll_fd, 1, 500) == 1)
        write_fully(poll_fd.fd, line, used + 3);
}
