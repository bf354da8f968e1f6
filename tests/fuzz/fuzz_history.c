/* Any bytes as a timeline's history file: refused, or a lineage that ascends and that a file made
 * of it yields again. The first byte is the timeline. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pgdata.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *as_file(const struct lineage *lineage)
{
    char *text = xstrdup("# made again\n");

    for (uint32_t i = 0; i + 1 < lineage->count; i++) {
        uint64_t end = lineage->begin[i + 1].lsn;
        char *longer = xasprintf("%s%" PRIu32 "\t%" PRIX32 "/%08" PRIX32 "\tno reason\n", text,
                                 lineage->begin[i].timeline, (uint32_t)(end >> 32), (uint32_t)end);

        free(text);
        text = longer;
    }
    return text;
}

static bool same(const struct lineage *a, const struct lineage *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->begin[i].timeline != b->begin[i].timeline || a->begin[i].lsn != b->begin[i].lsn)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lineage lineage, again;
    struct err err = {0};
    uint32_t timeline;
    char *text;

    if (size == 0)
        return 0;
    timeline = data[0] < 0xff ? data[0] + 1u : UINT32_MAX;
    text = xstrndup((const char *)data + 1, size - 1);
    if (pgdata_history_parse(timeline, text, &lineage, &err) < 0) {
        OGEL_CHECK(err.code == ERR_INVALID && err.text[0] != '\0');
    } else {
        OGEL_CHECK(lineage.count >= 1 && lineage.count <= LINEAGE_MAX);
        OGEL_CHECK(lineage.begin[lineage.count - 1].timeline == timeline);
        for (uint32_t i = 1; i < lineage.count; i++)
            OGEL_CHECK(lineage.begin[i - 1].timeline < lineage.begin[i].timeline &&
                       lineage.begin[i - 1].lsn <= lineage.begin[i].lsn);
        if (!lineage.truncated) {
            char *file = as_file(&lineage);

            OGEL_CHECK(pgdata_history_parse(timeline, file, &again, &err) == 0);
            OGEL_CHECK(same(&lineage, &again));
            free(file);
        }
    }
    free(text);
    return 0;
}
