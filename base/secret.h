/* Secrets: token and password files, comparison, generation. */
#ifndef OGEL_BASE_SECRET_H
#define OGEL_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* The one line of PATH, without its line end, into BUF as a string. The file must be regular, not
 * empty, without control characters, and private: no access for others, and group read only where
 * root owns it (0640 root:postgres). ERR_AUTH when its mode is too open (the text says `chmod
 * 600`), ERR_NOT_FOUND, ERR_INVALID when empty or too long for SIZE. */
OGEL_MUST_CHECK int secret_read_file(const char *path, char *buf, size_t size, struct err *err);

/* The same without giving out the content. */
OGEL_MUST_CHECK int secret_check_file(const char *path, struct err *err);

/* Takes the same time wherever the strings differ. */
bool secret_equal(const char *a, const char *b);

/* SIZE - 1 random characters of [A-Za-z0-9_-], 6 bits each, and a NUL: needs no quoting in a URI,
 * passfile or SQL. */
void secret_generate(char *buf, size_t size);

/* Overwrites, and is not optimised away. */
void secret_wipe(void *buf, size_t size);

#endif
