/* A configuration file of Postgres in the making: put together in memory, stored where it differs
 * from what is there. */
#ifndef OGEL_AGENT_CONFTEXT_H
#define OGEL_AGENT_CONFTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/* Write to OUT between conftext_open() and conftext_store(), which frees what there is. The first
 * error sticks. */
struct conftext {
    FILE *out;
    char *data;
    size_t size;
    bool failed;
    struct err *err;
};

/* How a file is replaced. */
enum conftext_how {
    CONFTEXT_DURABLE,  /* atomically (on a full disk in place), and on disk when it returns */
    CONFTEXT_VOLATILE, /* the same; a crash of the machine may bring the old one back */
    CONFTEXT_IN_PLACE, /* on disk when it returns; of a fixed size, so that no metadata has to be
                          written, which takes ten times as long */
};

void conftext_open(struct conftext *text, struct err *err);

/* name = 'value', with quote and backslash doubled: both mean something inside the quotes. A value
 * with a line break is ERR_INVALID. */
void conftext_put(struct conftext *text, const char *name, const char *value);
void conftext_put_format(struct conftext *text, const char *name, const char *fmt, ...)
    OGEL_PRINTF(3, 4);
void conftext_put_size(struct conftext *text, const char *name, uint64_t bytes);

/* Blank lines, until SPARE bytes more would still fit into as many whole blocks of the file system
 * as the file then takes: a later version that is longer by so much can be written on a full disk.
 */
void conftext_pad(struct conftext *text, size_t spare);

/* Blank lines up to SIZE bytes. */
void conftext_fill(struct conftext *text, size_t size);

/* Writes PATH, mode 0600, where its content differs; then FLAG is set in *CHANGED. On a full disk
 * the blocks of the old content are used: with less in them, ERR_NO_SPACE and nothing changes.
 * Returns 0 or -1; TEXT is freed. */
OGEL_MUST_CHECK int conftext_store(struct conftext *text, const char *path, enum conftext_how how,
                                   unsigned flag, unsigned *changed);

/* Without line breaks or other control characters. */
bool conftext_is_one_line(const char *value);

#endif
