#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory, size_t size)
{
    if (memory == NULL)
        die("out of memory, %zu bytes wanted", size);
    return memory;
}

void *xmalloc(size_t size)
{
    return must(malloc(size > 0 ? size : 1), size);
}

void *xcalloc(size_t count, size_t size)
{
    return must(calloc(count > 0 ? count : 1, size > 0 ? size : 1), size);
}

void *xreallocarray(void *old, size_t count, size_t size)
{
    return must(reallocarray(old, count > 0 ? count : 1, size > 0 ? size : 1), size);
}

char *xstrdup(const char *text)
{
    return text == NULL ? NULL : must(strdup(text), strlen(text));
}

char *xstrndup(const char *text, size_t max)
{
    return text == NULL ? NULL : must(strndup(text, max), max);
}

char *xasprintf(const char *fmt, ...)
{
    char *text;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return must(text, strlen(fmt));
}
