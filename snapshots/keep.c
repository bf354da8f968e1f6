#include "snapshots/keep.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "snapshots/calendar.h"

/* Days, weeks and months, in the order in which their reasons are preferred. */
enum period { DAY, WEEK, MONTH, PERIODS };

/* The newest first; damaged ones last, by id. */
static bool comes_before(const struct keep_entry *a, const struct keep_entry *b)
{
    if (a->damaged != b->damaged)
        return b->damaged;
    if (!a->damaged && a->stopped_ms != b->stopped_ms)
        return a->stopped_ms > b->stopped_ms;
    return strcmp(a->id, b->id) > 0;
}

/* In place, and as a rule they come nearly sorted, the oldest first or the newest. (qsort() may
 * allocate.) */
static void sort(struct keep_entry *entries, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < count; i++) {
            struct keep_entry entry = entries[i];
            size_t at = i;

            for (; at >= gap && comes_before(&entry, &entries[at - gap]); at -= gap)
                entries[at] = entries[at - gap];
            entries[at] = entry;
        }
    }
}

static int64_t day_of(const struct keep_entry *entry)
{
    int64_t ms = entry->stopped_ms < 0                 ? 0
                 : entry->stopped_ms > CALENDAR_MAX_MS ? CALENDAR_MAX_MS
                                                       : entry->stopped_ms;

    return ms / CALENDAR_DAY_MS;
}

/* A number that all of one period share, and no others. */
static int64_t number_of(enum period period, const struct keep_entry *entry)
{
    int64_t day = day_of(entry);
    struct calendar_date date;

    if (period == DAY)
        return day;
    if (period == WEEK)
        return calendar_monday(day);
    date = calendar_date_of(day);
    return (int64_t)date.year * 12 + date.month;
}

/* "2026-11-27", "week 2026-W48", "2026-11" */
static void name_of(enum period period, const struct keep_entry *entry, char out[48])
{
    struct calendar_date date = calendar_date_of(day_of(entry));
    int year, week;

    if (period == DAY) {
        snprintf(out, 48, "%04d-%02d-%02d", date.year, date.month, date.day);
    } else if (period == WEEK) {
        calendar_iso_week(day_of(entry), &year, &week);
        snprintf(out, 48, "week %04d-W%02d", year, week);
    } else {
        snprintf(out, 48, "%04d-%02d", date.year, date.month);
    }
}

/* The first reason stays: it is the strongest. */
#define KEEP(entry, ...)                                                                           \
    do {                                                                                           \
        if (!(entry)->keep)                                                                        \
            snprintf((entry)->reason, sizeof((entry)->reason), __VA_ARGS__);                       \
        (entry)->keep = true;                                                                      \
    } while (0)

/* One system's whole snapshots up to now are all that counts. */
static bool counts(const struct keep_entry *entry, uint64_t system_id, int64_t now_ms)
{
    return !entry->damaged && entry->system_id == system_id && entry->stopped_ms <= now_ms;
}

static void keep_last(struct keep_entry *entries, size_t count, uint64_t system_id, int least,
                      int64_t now_ms)
{
    struct keep_entry *good = NULL, *newest = NULL;
    int left = least;

    for (size_t i = 0; i < count; i++) {
        struct keep_entry *entry = &entries[i];

        if (!counts(entry, system_id, now_ms))
            continue;
        if (newest == NULL)
            newest = entry;
        if (good == NULL && entry->verified)
            good = entry;
        if (left-- > 0)
            KEEP(entry, "one of the last %d", least);
    }
    if (good != NULL)
        KEEP(good, "the last that is known to be good");
    else if (newest != NULL)
        KEEP(newest, "the newest, and none is known to be good");
}

/* From the newest period to the oldest until WANTED of them had a verified snapshot; such as have
 * none are no more than WANTED either. */
static void keep_period(struct keep_entry *entries, size_t count, uint64_t system_id,
                        enum period period, int wanted, int64_t now_ms)
{
    int verified_left = wanted, others_left = wanted;

    for (size_t i = 0; i < count && verified_left > 0;) {
        struct keep_entry *newest = NULL, *good = NULL;
        int64_t number = 0;
        char name[48];

        for (; i < count; i++) {
            struct keep_entry *entry = &entries[i];

            if (!counts(entry, system_id, now_ms))
                continue;
            if (newest != NULL && number_of(period, entry) != number)
                break;
            if (newest == NULL) {
                newest = entry;
                number = number_of(period, entry);
            }
            if (good == NULL && entry->verified)
                good = entry;
        }
        if (newest == NULL)
            return;
        name_of(period, newest, name);
        if (good != NULL) {
            verified_left--;
            KEEP(good, "newest verified of %s", name);
        } else if (others_left-- > 0) {
            KEEP(newest, "newest of %s, of which none was verified", name);
        }
    }
}

static void say_expired(struct keep_entry *entry, const struct keep_rule *rule)
{
    snprintf(entry->reason, sizeof(entry->reason), "expired: %s, and not among the last %d%s",
             entry->verified ? "not the newest verified of a day, week or month that is kept"
                             : "not verified",
             rule->least, entry->is_parent ? "; what others need of it stays" : "");
}

static void decide_system(struct keep_entry *entries, size_t count, uint64_t system_id,
                          const struct keep_rule *rule, int64_t now_ms)
{
    const int wanted[PERIODS] = {rule->daily, rule->weekly, rule->monthly};

    for (int period = DAY; period < PERIODS; period++)
        keep_period(entries, count, system_id, (enum period)period, wanted[period], now_ms);
    keep_last(entries, count, system_id, rule->least, now_ms);
    for (size_t i = 0; i < count; i++) {
        if (counts(&entries[i], system_id, now_ms) && !entries[i].keep)
            say_expired(&entries[i], rule);
    }
}

void keep_decide(struct keep_entry *entries, size_t count, const struct keep_rule *given,
                 int64_t now_ms)
{
    const struct keep_rule rule = {
        .daily = given->daily > 0 ? given->daily : 0,
        .weekly = given->weekly > 0 ? given->weekly : 0,
        .monthly = given->monthly > 0 ? given->monthly : 0,
        .least = given->least > 0 ? given->least : 0,
    };

    sort(entries, count);
    for (size_t i = 0; i < count; i++) {
        struct keep_entry *entry = &entries[i];

        entry->keep = false;
        entry->reason[0] = '\0';
        if (entry->pin[0] != '\0')
            KEEP(entry, "kept by pin %s", entry->pin);
        if (entry->damaged)
            KEEP(entry, "its manifest cannot be read: look at it, then delete it by its id");
        else if (entry->stopped_ms > now_ms)
            KEEP(entry, "its time is in the future: a clock is wrong");
    }
    /* Each system once, at the first of its entries that count. */
    for (size_t i = 0; i < count; i++) {
        bool seen = false;

        if (!counts(&entries[i], entries[i].system_id, now_ms))
            continue;
        for (size_t k = 0; k < i && !seen; k++)
            seen = counts(&entries[k], entries[i].system_id, now_ms);
        if (!seen)
            decide_system(entries, count, entries[i].system_id, &rule, now_ms);
    }
}
