/* Errors: a status is returned, the caller's error object says what, on what, why and what to do.
 */
#ifndef OGEL_BASE_ERR_H
#define OGEL_BASE_ERR_H

#include <stddef.h>

#define OGEL_MUST_CHECK         __attribute__((warn_unused_result))
#define OGEL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

enum err_code {
    ERR_NONE,
    ERR_INVALID, /* bad input: a person or a peer has to change something */
    ERR_NOT_FOUND,
    ERR_IO,
    ERR_NO_SPACE,    /* disk full or quota */
    ERR_TIMEOUT,     /* a deadline passed */
    ERR_REFUSED,     /* the other side, or a rule, says no */
    ERR_CONFLICT,    /* somebody else holds or did it already */
    ERR_CORRUPT,     /* what was read is not what was written */
    ERR_UNAVAILABLE, /* may work later */
    ERR_AUTH,
    ERR_INTERNAL,
};

/* Passed by value and by pointer, never allocated; zero-initialised means "no error". */
struct err {
    enum err_code code;
    char text[512]; /* valid UTF-8 is not promised: it may quote input */
};

/* Fills ERR (which may be NULL) and returns -1 always, so that callers write `return err_set(...)`.
 * Text that does not fit is cut. The arguments may point into ERR->text. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) OGEL_PRINTF(3, 4);

/* As err_set(), with the code taken from ERRNUM (an errno value: ENOSPC and EDQUOT are
 * ERR_NO_SPACE, ENOENT is ERR_NOT_FOUND, ETIMEDOUT is ERR_TIMEOUT, …, all others ERR_IO) and ":
 * <strerror>" appended. */
int err_set_errno(struct err *err, int errnum, const char *fmt, ...) OGEL_PRINTF(3, 4);

/* Puts "<what>: " before the text that is there; the code stays. Returns -1 always. */
int err_context(struct err *err, const char *fmt, ...) OGEL_PRINTF(2, 3);

/* Forgets the error, so that ERR can be used again. */
void err_clear(struct err *err);

/* A stable lower-case name for logs and the API: "not_found". Static; "unknown" for a value out of
 * range. */
const char *err_code_name(enum err_code code);

/* Logs a line of level "fatal" (without allocating, at most a second where the log is stuck) and
 * aborts. */
void die(const char *fmt, ...) OGEL_PRINTF(1, 2) __attribute__((noreturn));

/* An invariant of the program; stays on in releases. */
#define OGEL_CHECK(cond) ((cond) ? (void)0 : err_check_failed(#cond, __FILE__, __LINE__, __func__))

void err_check_failed(const char *cond, const char *file, int line, const char *func)
    __attribute__((noreturn, cold));

#endif
