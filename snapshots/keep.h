/*
 * Which snapshots stay: retention, decided from what is known of each. Pure: no store, no clock, no
 * allocation of its own. docs/operations/backup.md, "What is kept".
 *
 * Of each system (a store may hold several) the newest verified snapshot of each of the last so
 * many UTC days, ISO weeks and months that have one; where a day, week or month has none that was
 * verified, the newest stands in for it and takes no other's place. Besides, always: the last few,
 * the last good one (verified, or where none was the newest), whatever is pinned, and what cannot
 * be judged: a damaged manifest, a time in the future.
 */
#ifndef OGEL_SNAPSHOTS_KEEP_H
#define OGEL_SNAPSHOTS_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshots/names.h"

enum {
    KEEP_DAILY = 7,
    KEEP_WEEKLY = 4,
    KEEP_MONTHLY = 3,
    KEEP_LEAST = 5,
    KEEP_MAX = 10000, /* of each number */
    KEEP_REASON_SIZE = 160,
};

/* How many days, weeks and months; and how many of the last at least. */
struct keep_rule {
    int daily, weekly, monthly, least;
};

#define KEEP_RULE_DEFAULT                                                                          \
    {                                                                                              \
        KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY, KEEP_LEAST                                          \
    }

struct keep_entry {
    /* What is known. */
    char id[SNAPSHOT_ID_SIZE];
    uint64_t system_id;
    int64_t stopped_ms;
    bool damaged;            /* the manifest cannot be read: the two above mean nothing */
    bool verified;           /* it was read as a whole and nothing was wrong */
    bool is_parent;          /* another one builds on it: its objects stay, it may go */
    char pin[PIN_NAME_SIZE]; /* the name of a pin; "": none */

    /* What is decided. */
    bool keep;
    char reason[KEEP_REASON_SIZE]; /* "newest verified of 2026-11-27", "expired: …" */
};

/* Decides on all COUNT entries, and sorts them: the newest by stop time first, damaged ones last.
 * Numbers of RULE below 0 count as 0; at least one whole snapshot of each system stays whatever
 * RULE says. Those that stopped later than NOW_MS are kept and counted nowhere: some clock is
 * wrong. */
void keep_decide(struct keep_entry *entries, size_t count, const struct keep_rule *rule,
                 int64_t now_ms);

#endif
