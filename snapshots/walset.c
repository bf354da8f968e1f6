#include "snapshots/walset.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define DIRECTORY "pg_wal/"

enum { NAME_LEN = 24, SEGMENTS_MAX = 1024 * 1024 };

void wal_set_begin(struct wal_set *set, int64_t segment_size, uint64_t start_lsn)
{
    set->segment_size = segment_size;
    set->first = start_lsn / (uint64_t)segment_size;
}

bool wal_is_segment(const char *path)
{
    if (strncmp(path, DIRECTORY, strlen(DIRECTORY)) != 0)
        return false;
    path += strlen(DIRECTORY);
    return strlen(path) == NAME_LEN && strspn(path, "0123456789ABCDEF") == NAME_LEN;
}

/* By number, whatever timeline stands in the name. */
void wal_set_note(struct wal_set *set, const char *path, uint64_t size)
{
    const char *name;
    uint64_t per_id = UINT64_C(0x100000000) / (uint64_t)set->segment_size, number;
    char digits[9] = "";

    if (!wal_is_segment(path) || size != (uint64_t)set->segment_size)
        return;
    name = path + strlen(DIRECTORY);
    memcpy(digits, name + 8, 8);
    number = strtoull(digits, NULL, 16) * per_id;
    memcpy(digits, name + 16, 8);
    number += strtoull(digits, NULL, 16);
    if (number < set->first || number - set->first >= SEGMENTS_MAX)
        return;
    number -= set->first;
    if (number >= set->room) {
        uint64_t room = 2 * number + 16;

        set->seen = xreallocarray(set->seen, room, sizeof(set->seen[0]));
        memset(set->seen + set->room, 0, room - set->room);
        set->room = room;
    }
    set->seen[number] = true;
}

int wal_set_check(const struct wal_set *set, uint64_t stop_lsn, struct err *err)
{
    uint64_t end = (stop_lsn - 1) / (uint64_t)set->segment_size;

    for (uint64_t number = set->first; number <= end; number++) {
        if (number - set->first >= set->room || !set->seen[number - set->first])
            return err_set(err, ERR_CORRUPT,
                           "the base backup lacks WAL that it needs (segment number %" PRIu64 ")",
                           number);
    }
    return 0;
}

void wal_set_free(struct wal_set *set)
{
    free(set->seen);
    set->seen = NULL;
    set->room = 0;
}
