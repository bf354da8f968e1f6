/* Any bytes as a stream of events, in pieces of any size: the same events come out as in one piece.
 * The first byte is the size of the pieces. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "cli/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    uint32_t events;
    uint64_t hash;
};

static bool hear(void *arg, const char *data)
{
    struct heard *heard = arg;

    heard->events++;
    for (; *data != '\0'; data++)
        heard->hash = (heard->hash ^ (unsigned char)*data) * 0x100000001b3;
    return true;
}

static struct heard read_in_pieces(const char *text, size_t size, size_t piece)
{
    struct heard heard = {0};
    struct sse sse = {.fn = hear, .arg = &heard};

    while (size > 0) {
        size_t part = piece < size ? piece : size;

        OGEL_CHECK(sse_feed(&sse, text, part));
        text += part;
        size -= part;
    }
    sse_reset(&sse);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, pieces;

    if (size < 2)
        return 0;
    whole = read_in_pieces((const char *)data + 1, size - 1, size);
    pieces = read_in_pieces((const char *)data + 1, size - 1, data[0] % 16 + 1u);
    OGEL_CHECK(whole.events == pieces.events && whole.hash == pieces.hash);
    return 0;
}
