#include "cli/sse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void sse_reset(struct sse *sse)
{
    free(sse->line);
    free(sse->data);
    sse->line = sse->data = NULL;
    sse->line_size = sse->data_size = 0;
}

static bool append(char **text, size_t *size, const char *piece, size_t len)
{
    if (*size + len > SSE_EVENT_MAX)
        return false;
    *text = xreallocarray(*text, *size + len + 1, 1);
    memcpy(*text + *size, piece, len);
    *size += len;
    (*text)[*size] = '\0';
    return true;
}

static bool take_line(struct sse *sse, const char *line)
{
    bool more = true;

    if (line[0] == '\0') {
        if (sse->data != NULL)
            more = sse->fn(sse->arg, sse->data);
        free(sse->data);
        sse->data = NULL;
        sse->data_size = 0;
        return more;
    }
    if (strncmp(line, "data:", 5) != 0)
        return true; /* comments, and fields that do not matter here */
    line += line[5] == ' ' ? 6 : 5;
    if (sse->data != NULL && !append(&sse->data, &sse->data_size, "\n", 1))
        return false;
    return append(&sse->data, &sse->data_size, line, strlen(line));
}

bool sse_feed(struct sse *sse, const char *piece, size_t size)
{
    while (size > 0) {
        const char *end = memchr(piece, '\n', size);
        size_t len = end != NULL ? (size_t)(end - piece) : size;
        bool more;

        if (!append(&sse->line, &sse->line_size, piece, len))
            return false;
        if (end == NULL)
            return true;
        if (sse->line_size > 0 && sse->line[sse->line_size - 1] == '\r')
            sse->line[--sse->line_size] = '\0';
        more = take_line(sse, sse->line);
        sse->line_size = 0;
        if (!more)
            return false;
        piece += len + 1;
        size -= len + 1;
    }
    return true;
}
