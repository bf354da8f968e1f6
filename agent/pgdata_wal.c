/*
 * Where WAL ends.
 *
 * Seen on 15.20:
 * - pg_waldump --stats says "WAL statistics between A and B": A is the first record, B the end of
 * the last complete one (a segment's end after a switch), without printing every record: 250 MB a
 * second.
 * - Unless it is given segments by name it takes the size of segments from the first file that the
 * directory happens to list, and dies where that is one created in advance: all zeros.
 * - It dies without an answer when it comes to the end of the last segment ("could not find file"),
 * so it is told to stop there.
 * - After a promotion pg_control names the old timeline until a checkpoint completes, while
 * segments of the new one hold records. A segment of the new timeline also exists where none has
 * been written yet: its first part is a copy of the old one, and the page with the fork keeps the
 * old id.
 *
 * So: start from the redo point, which is in the WAL of the timeline that pg_control (or
 * backup_label) names beside it; take the greatest timeline that descends from it, by its history
 * file, and has a complete record of its own where it began; check that the WAL in between is
 * whole; read to the end.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/command.h"
#include "agent/pgdata.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum {
    WAL_PAGE_BYTES = 8192, /* the default; a larger page's boundaries are boundaries of these too */
    WAL_PAGE_HEADER_MAX = 40, /* SizeOfXLogLongPHD */
    BACKUP_LABEL_MAX = 8192,
};

/* --- what programs and files say ------------------------------------------------------------- */

/* The WORDS at *TEXT, which moves behind them. */
static bool skip(const char **text, const char *words)
{
    size_t len = strlen(words);

    if (strncmp(*text, words, len) != 0)
        return false;
    *text += len;
    return true;
}

bool pgdata_wal_stats_parse(const char *output, uint64_t *first, uint64_t *end)
{
    static const char answer[] = "WAL statistics between ";
    const char *at = strstr(output, answer);

    return at != NULL && skip(&at, answer) && units_scan_lsn(&at, first) && skip(&at, " and ") &&
           units_scan_lsn(&at, end) && *at == ':' && *first <= *end;
}

bool pgdata_wal_record_parse(const char *output, uint64_t *lsn, uint64_t *previous)
{
    const char *at = strstr(output, ", lsn: ");

    return at != NULL && skip(&at, ", lsn: ") && units_scan_lsn(&at, lsn) && skip(&at, ", prev ") &&
           units_scan_lsn(&at, previous);
}

bool pgdata_backup_label_parse(const char *text, struct position *start)
{
    /* The name of the file gives the timeline: pg_rewind writes no line of its own for it. */
    if (!skip(&text, "START WAL LOCATION: ") || !units_scan_lsn(&text, &start->lsn) ||
        !skip(&text, " (file ") || strspn(text, "0123456789ABCDEF") != 24)
        return false;
    start->timeline = 0;
    for (int i = 0; i < 8; i++)
        start->timeline = start->timeline << 4 |
                          (uint32_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'A' + 10);
    return start->timeline != 0;
}

/* --- reading --------------------------------------------------------------------------------- */

struct reader {
    const char *bindir;
    const char *datadir;
    int64_t deadline_ms;
    uint32_t segment_bytes;
};

struct extent {
    bool found;
    uint64_t first; /* where the first record begins */
    uint64_t end;   /* of the last complete one */
};

enum { SEGMENT_NAME_SIZE = 64 };

static void segment_name(const struct reader *reader, uint32_t timeline, uint64_t lsn,
                         char name[SEGMENT_NAME_SIZE])
{
    uint64_t segment = lsn / reader->segment_bytes;
    uint64_t per_id = UINT64_C(0x100000000) / reader->segment_bytes;
    snprintf(name, SEGMENT_NAME_SIZE, "%08" PRIX32 "%08" PRIX64 "%08" PRIX64, timeline,
             segment / per_id, segment % per_id);
}

static bool segment_exists(const struct reader *reader, uint32_t timeline, uint64_t lsn)
{
    char path[PATH_MAX], name[SEGMENT_NAME_SIZE];
    segment_name(reader, timeline, lsn, name);
    snprintf(path, sizeof path, "%s/pg_wal/%s", reader->datadir, name);
    return file_exists(path);
}

/* The end of the unbroken run of TIMELINE's segments that begins with the one that holds LSN. */
static uint64_t segments_end(const struct reader *reader, uint32_t timeline, uint64_t lsn)
{
    uint64_t at = lsn - lsn % reader->segment_bytes;
    while (segment_exists(reader, timeline, at))
        at += reader->segment_bytes;
    return at;
}

struct dump_arguments {
    char program[PATH_MAX], wal[PATH_MAX], timeline[16];
    char start[UNITS_TEXT_SIZE], stop[UNITS_TEXT_SIZE], first[SEGMENT_NAME_SIZE],
        last[SEGMENT_NAME_SIZE];
    const char *argv[13];
};

static const char *const *dump_make(struct dump_arguments *arguments, const struct reader *reader,
                                    uint32_t timeline, uint64_t from, uint64_t until,
                                    const char *what)
{
    struct dump_arguments *a = arguments;
    snprintf(a->program, sizeof a->program, "%s/pg_waldump", reader->bindir);
    snprintf(a->wal, sizeof a->wal, "%s/pg_wal", reader->datadir);
    snprintf(a->timeline, sizeof a->timeline, "%" PRIu32, timeline);
    segment_name(reader, timeline, from, a->first);
    segment_name(reader, timeline, until - 1, a->last);
    const char *argv[] = {a->program, what,
                          "-p",       a->wal,
                          "-t",       a->timeline,
                          "-s",       units_format_lsn(from, a->start),
                          "-e",       units_format_lsn(until, a->stop),
                          a->first,   a->last,
                          NULL};
    memcpy(a->argv, argv, sizeof argv);
    return a->argv;
}

/* Reads TIMELINE's segments from FROM to UNTIL at most. Not finding a record is no error. */
static int read_extent(const struct reader *reader, uint32_t timeline, uint64_t from,
                       uint64_t until, struct extent *extent, struct err *err)
{
    struct dump_arguments arguments;
    struct command_result result;
    int rc = -1;

    *extent = (struct extent){0};
    uint64_t last = segments_end(reader, timeline, from);
    if (last <= from)
        return 0;
    const char *const *argv = dump_make(&arguments, reader, timeline, from,
                                        until < last ? until : last, "--stats");
    if (command_run(argv, reader->deadline_ms - clock_mono_ms(), &result, err) != 0)
        return -1;
    if (pgdata_wal_stats_parse(result.output, &extent->first, &extent->end)) {
        extent->found = true;
        rc = 0;
    } else if (result.exit_code == 1 &&
               strstr(result.errors, "could not find a valid record after") != NULL) {
        rc = 0;
    } else {
        err_set(err, ERR_CORRUPT, "cannot read WAL of timeline %" PRIu32 " from %s: %s", timeline,
                arguments.start, command_last_line(&result));
    }
    command_result_free(&result);
    return rc;
}

/* A record that ends at a page boundary is followed by a page header. */
static bool follows(uint64_t next, uint64_t end)
{
    return next >= end && next - end <= (end % WAL_PAGE_BYTES == 0 ? WAL_PAGE_HEADER_MAX : 0);
}

/* Where recovery would begin. A backup_label says so before pg_control does. */
static int read_start(const struct reader *reader, const struct pgdata_control *control,
                      struct position *start, struct err *err)
{
    char path[PATH_MAX];
    char *text = NULL;
    struct err missing = {0};

    snprintf(path, sizeof path, "%s/backup_label", reader->datadir);
    if (file_read(path, BACKUP_LABEL_MAX, &text, NULL, &missing) != 0) {
        if (missing.code != ERR_NOT_FOUND)
            return err_set(err, missing.code, "%s", missing.text);
        *start = control->redo;
        return 0;
    }
    bool good = pgdata_backup_label_parse(text, start);
    free(text);
    return good ? 0 : err_set(err, ERR_CORRUPT, "cannot read %s", path);
}

/* The index of the timeline in LINEAGE whose part of WAL holds START; -1: no ancestor. */
static int ancestor_index(const struct lineage *lineage, const struct position *start)
{
    for (uint32_t i = 0; i + 1 < lineage->count; i++)
        if (lineage->begin[i].timeline == start->timeline)
            return start->lsn >= lineage->begin[i].lsn && start->lsn <= lineage->begin[i + 1].lsn
                       ? (int)i
                       : -1;
    return -1;
}

/* Where the first record at or after FROM begins on TIMELINE, and its predecessor. */
static int read_first(const struct reader *reader, uint32_t timeline, uint64_t from,
                      uint64_t *first, uint64_t *previous, struct err *err)
{
    struct command_result result;
    struct dump_arguments arguments;

    *first = *previous = 0;
    if (segments_end(reader, timeline, from) <= from)
        return 0;
    const char *const *argv = dump_make(&arguments, reader, timeline, from,
                                        segments_end(reader, timeline, from), "--limit=1");
    if (command_run(argv, reader->deadline_ms - clock_mono_ms(), &result, err) != 0)
        return -1;
    if (!pgdata_wal_record_parse(result.output, first, previous))
        *first = *previous = 0;
    command_result_free(&result);
    return 0;
}

/*
 * Is the WAL between FROM, on timeline OLD, and FORK, where NEW begins, there without a gap?
 *
 * The segment with the fork is read under its new name: that one begins with a copy of the old
 * one's bytes, which may itself be gone (renamed to .partial where WAL is archived) or never have
 * been here (a copy taken later). A record that begins before that segment and ends in it cannot be
 * read by pg_waldump; that it is there shows in the next one, which names its predecessor.
 */
static int check_hop(const struct reader *reader, uint32_t old, uint32_t new, uint64_t from,
                     uint64_t fork, bool *whole, struct err *err)
{
    uint64_t boundary = fork - fork % reader->segment_bytes;
    struct extent extent = {0};
    uint64_t first, previous;

    *whole = false;
    if (from < boundary) {
        if (read_extent(reader, old, from, boundary, &extent, err) != 0)
            return -1;
        if (!extent.found || !follows(extent.first, from))
            return 0;
        if (read_first(reader, new, boundary, &first, &previous, err) != 0)
            return -1;
        if (first == 0 || (extent.end != boundary && !follows(previous, extent.end)))
            return 0;
        from = first;
    }
    if (from < fork) {
        if (read_extent(reader, new, from, fork, &extent, err) != 0)
            return -1;
        if (!extent.found || extent.end < fork)
            return 0;
    }
    *whole = true;
    return 0;
}

/* Is the WAL from START to where the last timeline of LINEAGE begins there without a gap? */
static int check_path(const struct reader *reader, const struct lineage *lineage, int index,
                      const struct position *start, struct err *err)
{
    uint64_t from = start->lsn;
    for (uint32_t i = (uint32_t)index; i + 1 < lineage->count; i++) {
        uint32_t timeline = lineage->begin[i].timeline;
        uint64_t fork = lineage->begin[i + 1].lsn;
        bool whole;
        if (check_hop(reader, timeline, lineage->begin[i + 1].timeline, from, fork, &whole, err) !=
            0)
            return -1;
        if (!whole) {
            char a[UNITS_TEXT_SIZE], b[UNITS_TEXT_SIZE];
            return err_set(err, ERR_CORRUPT,
                           "WAL of timeline %" PRIu32 " is not whole between %s and %s", timeline,
                           units_format_lsn(from, a), units_format_lsn(fork, b));
        }
        from = fork;
    }
    return 0;
}

/* Does TIMELINE, a descendant of START's, hold a record of its own? Then END is the last one's. */
static int try_descendant(const struct reader *reader, uint32_t timeline,
                          const struct position *start, bool *found, struct position *end,
                          struct err *err)
{
    struct lineage lineage;
    struct extent extent;

    *found = false;
    if (pgdata_history_read(reader->datadir, timeline, &lineage, err) != 0)
        return -1;
    int index = ancestor_index(&lineage, start);
    if (index < 0) /* a placeholder, or of another branch */
        return 0;
    uint64_t begin = lineage.begin[lineage.count - 1].lsn;
    if (read_extent(reader, timeline, begin, UINT64_MAX, &extent, err) != 0)
        return -1;
    if (!extent.found || !follows(extent.first, begin))
        return 0;
    if (check_path(reader, &lineage, index, start, err) != 0)
        return -1;
    *found = true;
    *end = (struct position){timeline, extent.end};
    return 0;
}

int pgdata_wal_end(const char *bindir, const char *datadir, int64_t timeout_ms,
                   struct position *end, struct position *consistent, struct err *err)
{
    struct reader reader = {bindir, datadir, clock_mono_ms() + timeout_ms, 0};
    struct pgdata_control control;
    struct position start = {0};
    struct extent extent;
    uint32_t *timelines = xcalloc(PGDATA_HISTORIES_MAX, sizeof *timelines);
    size_t count = 0;
    bool found = false;
    int rc = -1;

    *end = (struct position){0};
    if (pgdata_control_read(bindir, datadir, timeout_ms, &control, err) != 0)
        goto out;
    reader.segment_bytes = control.wal_segment_bytes;
    if (consistent)
        *consistent = control.min_recovery;
    if (read_start(&reader, &control, &start, err) != 0 ||
        pgdata_history_list(datadir, timelines, PGDATA_HISTORIES_MAX, &count, err) != 0)
        goto out;
    while (!found && count > 0 && timelines[count - 1] > start.timeline)
        if (try_descendant(&reader, timelines[--count], &start, &found, end, err) != 0)
            goto out;
    if (!found) {
        char lsn[UNITS_TEXT_SIZE];
        if (read_extent(&reader, start.timeline, start.lsn, UINT64_MAX, &extent, err) != 0)
            goto out;
        if (!extent.found || extent.first != start.lsn) {
            err_set(err, ERR_CORRUPT, "there is no WAL at the redo point %s of timeline %" PRIu32,
                    units_format_lsn(start.lsn, lsn), start.timeline);
            goto out;
        }
        *end = (struct position){start.timeline, extent.end};
    }
    rc = 0;
out:
    if (rc != 0)
        err_context(err, "end of WAL in %s", datadir);
    free(timelines);
    return rc;
}
