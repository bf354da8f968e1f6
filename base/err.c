#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    char text[sizeof(err->text)]; /* the arguments may point into the text that is replaced */
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err->code = code;
    memcpy(err->text, text, sizeof(text));
    return -1;
}

static enum err_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT: return ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT: return ERR_NO_SPACE;
    case ETIMEDOUT: return ERR_TIMEOUT;
    case ECONNREFUSED:
    case EACCES:
    case EPERM:
    case EROFS: return ERR_REFUSED;
    case EEXIST:
    case EADDRINUSE:
    case EBUSY: return ERR_CONFLICT;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR:
    case ELOOP: return ERR_INVALID;
    case EAGAIN:
    case ECONNRESET:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EMFILE:
    case ENFILE: return ERR_UNAVAILABLE;
    default: return ERR_IO;
    }
}

int err_set_errno(struct err *err, int errnum, const char *fmt, ...)
{
    char text[sizeof(err->text)], reason[128];
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    /* The GNU variant, which is safe in threads, may return a static text instead of filling. */
    return err_set(err, code_of_errno(errnum), "%s: %s", text,
                   strerror_r(errnum, reason, sizeof(reason)));
}

int err_context(struct err *err, const char *fmt, ...)
{
    char what[sizeof(err->text)];
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    return err_set(err, err->code, "%s: %s", what, err->text);
}

void err_clear(struct err *err)
{
    if (err == NULL)
        return;
    err->code = ERR_NONE;
    err->text[0] = '\0';
}

const char *err_code_name(enum err_code code)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",           [ERR_INVALID] = "invalid",
        [ERR_NOT_FOUND] = "not_found", [ERR_IO] = "io",
        [ERR_NO_SPACE] = "no_space",   [ERR_TIMEOUT] = "timeout",
        [ERR_REFUSED] = "refused",     [ERR_CONFLICT] = "conflict",
        [ERR_CORRUPT] = "corrupt",     [ERR_UNAVAILABLE] = "unavailable",
        [ERR_AUTH] = "auth",           [ERR_INTERNAL] = "internal",
    };

    if ((size_t)code >= sizeof(names) / sizeof(names[0]))
        return "unknown";
    return names[code];
}

void die(const char *fmt, ...)
{
    char text[sizeof(((struct err *)0)->text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_emergency(text);
    abort();
}

void err_check_failed(const char *cond, const char *file, int line, const char *func)
{
    die("invariant does not hold: %s, in %s() at %s:%d", cond, func, file, line);
}
