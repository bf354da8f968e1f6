/* Memory that is there: out of memory aborts the process. Everything returned is freed with free().
 */
#ifndef OGEL_BASE_MEM_H
#define OGEL_BASE_MEM_H

#include <stddef.h>

#include "base/err.h"

#define OGEL_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

void *xmalloc(size_t size) OGEL_MUST_CHECK __attribute__((malloc));
void *xcalloc(size_t count, size_t size) OGEL_MUST_CHECK __attribute__((malloc));
/* For arrays that grow: an overflow of COUNT * SIZE aborts too. */
void *xreallocarray(void *old, size_t count, size_t size) OGEL_MUST_CHECK;
/* NULL in, NULL out. */
char *xstrdup(const char *text) OGEL_MUST_CHECK __attribute__((malloc));
char *xstrndup(const char *text, size_t max) OGEL_MUST_CHECK __attribute__((malloc));
char *xasprintf(const char *fmt, ...) OGEL_MUST_CHECK OGEL_PRINTF(1, 2);

#endif
