/* Server-sent events, read piece by piece (WHATWG HTML, "Server-sent events"): of each event only
 * its data counts here. */
#ifndef OGEL_CLI_SSE_H
#define OGEL_CLI_SSE_H

#include <stdbool.h>
#include <stddef.h>

enum { SSE_EVENT_MAX = 1 << 20 };

/* Gets the data of one event, lines joined by "\n". False ends the reading. */
typedef bool sse_fn(void *arg, const char *data);

struct sse {
    sse_fn *fn;
    void *arg;
    char *line; /* not ended yet */
    size_t line_size;
    char *data; /* of the event under way; NULL: none yet */
    size_t data_size;
};

/* Zero the struct, set fn and arg; sse_reset() begins anew, as after a lost connection, and frees.
 */
void sse_reset(struct sse *sse);

/* The next piece of the body. False when fn said so, or an event is larger than SSE_EVENT_MAX. */
bool sse_feed(struct sse *sse, const char *piece, size_t size);

#endif
