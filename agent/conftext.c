#include "agent/conftext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    FILE_MAX = 1024 * 1024,
    BLOCK_BYTES = 4096, /* of the file system */
};

void conftext_open(struct conftext *text, struct err *err)
{
    *text = (struct conftext){.err = err};
    text->out = open_memstream(&text->data, &text->size);
    OGEL_CHECK(text->out != NULL);
}

bool conftext_is_one_line(const char *value)
{
    for (; *value != '\0'; value++)
        if ((unsigned char)*value < ' ' && *value != '\t')
            return false;
    return true;
}

void conftext_put(struct conftext *text, const char *name, const char *value)
{
    if (!conftext_is_one_line(value)) {
        if (!text->failed)
            err_set(text->err, ERR_INVALID, "the value of %s has a line break", name);
        text->failed = true;
        return;
    }
    fprintf(text->out, "%s = '", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            fputc(*value, text->out);
        fputc(*value, text->out);
    }
    fputs("'\n", text->out);
}

void conftext_put_format(struct conftext *text, const char *name, const char *fmt, ...)
{
    char *value = NULL;
    va_list args;
    va_start(args, fmt);
    OGEL_CHECK(vasprintf(&value, fmt, args) >= 0);
    va_end(args);
    conftext_put(text, name, value);
    free(value);
}

void conftext_put_size(struct conftext *text, const char *name, uint64_t bytes)
{
    char value[UNITS_TEXT_SIZE];
    conftext_put(text, name, units_format_size((int64_t)bytes, value));
}

void conftext_fill(struct conftext *text, size_t size)
{
    OGEL_CHECK(fflush(text->out) == 0);
    for (size_t i = text->size; i < size; i++)
        fputc('\n', text->out);
}

void conftext_pad(struct conftext *text, size_t spare)
{
    OGEL_CHECK(fflush(text->out) == 0);
    conftext_fill(text, (text->size + spare + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES);
}

static bool write_whole(int fd, const struct conftext *text)
{
    ssize_t n = pwrite(fd, text->data, text->size, 0);

    if (n >= 0 && (size_t)n != text->size)
        errno = ENOSPC;
    return n == (ssize_t)text->size;
}

/* On a full disk: into the blocks that the old content has. A server that reads it in this very
 * moment keeps its settings and is told to read it again right after; one that is started later
 * finds it written anew. */
static int replace_inside(const char *path, const struct conftext *text, bool durable)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    int rc = 0;

    if (fd < 0 || fstat(fd, &st) != 0)
        rc = err_set_errno(text->err, errno, "cannot open %s", path);
    else if ((size_t)st.st_blocks * 512 < text->size)
        rc = err_set_errno(text->err, ENOSPC, "cannot write %s", path);
    else if (!write_whole(fd, text) || ftruncate(fd, (off_t)text->size) != 0 ||
             (durable && fdatasync(fd) != 0))
        rc = err_set_errno(text->err, errno, "cannot write %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int replace_volatile(const char *path, const struct conftext *text)
{
    char *tmp = xasprintf("%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = 0;

    if (fd < 0 || !write_whole(fd, text) || rename(tmp, path) != 0) {
        bool full = errno == ENOSPC || errno == EDQUOT;

        rc = err_set_errno(text->err, errno, "cannot write %s", tmp);
        unlink(tmp);
        if (full)
            rc = replace_inside(path, text, false);
    }
    if (fd >= 0)
        close(fd);
    free(tmp);
    return rc;
}

static int replace_durable(const char *path, const struct conftext *text)
{
    struct err err = {0};

    if (file_write_atomic(path, text->data, text->size, 0600, &err) == 0)
        return 0;
    if (err.code == ERR_NO_SPACE)
        return replace_inside(path, text, true);
    if (text->err != NULL)
        *text->err = err;
    return -1;
}

/* False where there is no file of that very size. */
static bool overwrite(const char *path, const struct conftext *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    bool done = fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)text->size &&
                write_whole(fd, text) && fdatasync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return done;
}

static int store(const struct conftext *text, const char *path, enum conftext_how how)
{
    if (how == CONFTEXT_VOLATILE)
        return replace_volatile(path, text);
    if (how == CONFTEXT_IN_PLACE && overwrite(path, text))
        return 0;
    return replace_durable(path, text);
}

int conftext_store(struct conftext *text, const char *path, enum conftext_how how, unsigned flag,
                   unsigned *changed)
{
    char *old = NULL;
    size_t old_size = 0;
    int rc = -1;

    OGEL_CHECK(fclose(text->out) == 0);
    if (text->failed)
        goto out;
    bool same = file_read(path, FILE_MAX, &old, &old_size, NULL) == 0 && old_size == text->size &&
                memcmp(old, text->data, old_size) == 0;
    if (!same) {
        if (store(text, path, how) != 0)
            goto out;
        *changed |= flag;
    }
    rc = 0;
out:
    free(old);
    free(text->data);
    return rc;
}
