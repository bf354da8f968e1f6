/* The log: one JSON object a line, {"time","level","event",<context>,<fields>}. Thread safe. */
#ifndef OGEL_BASE_LOG_H
#define OGEL_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level {
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_INFO,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_FATAL
};

/* The names of the levels in order, NULL at the end, usable as `choices` of an option. */
extern const char *const log_level_names[];

/* Lines below LEVEL are not written; the default is info. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* Where lines go; the default is 2. The descriptor stays the caller's. Not while the writer thread
 * runs. */
void log_set_fd(int fd);

/* A constant field of every later line ("cluster", "node"); VALUE NULL removes it. Both are copied.
 */
void log_context_set(const char *key, const char *value);

/* Writes one line. EVENT is a stable snake_case name. FIELDS is a json_pack() format of an object
 * with its arguments,
 * "{s:s,s:I}", or NULL for none; a time or generation is s:I with an int64_t/json_int_t. A field
 * may not be called "time", "level" or "event". A string that is not UTF-8 is written with U+FFFD
 * in its place, a NULL string as null. A bad format aborts unless built with NDEBUG, where the
 * event is written with a "log_error" field instead. Never put a secret here. */
void log_event(enum log_level level, const char *event, const char *fields, ...);

/* The same with the error's "code" and "error" text as fields. */
void log_err(enum log_level level, const char *event, const struct err *err);

/* From here on lines are queued (QUEUE_BYTES at most) and written by a thread, so that a stuck
 * descriptor never blocks a caller. Lines that do not fit are dropped; the next line that is
 * written after that is an event "log_dropped" with their number. */
OGEL_MUST_CHECK int log_thread_start(size_t queue_bytes, struct err *err);

/* Writes what is queued, for TIMEOUT_MS at most, and ends the thread; later lines are written by
 * their callers again. */
void log_thread_stop(int64_t timeout_ms);

/* Lines dropped since the start of the process; for a metric. */
uint64_t log_dropped_total(void);

/* One line of level fatal without allocation or locks, at most a second where the descriptor is
 * stuck. For die(). */
void log_emergency(const char *text);

#endif
