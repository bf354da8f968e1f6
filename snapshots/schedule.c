#include "snapshots/schedule.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "snapshots/calendar.h"

enum { FIELDS = 5, FIELD_SIZE = 128, MINUTE_MS = 60000, SEARCH_DAYS = 40 * 366 };

#define SCHEDULE_ALLOWED                                                                           \
    "allowed: \"every 15min\", from 1min to 31d, or \"MINUTE HOUR DAY MONTH WEEKDAY\" as in cron"

static const struct field {
    const char *name;
    int min, max;
} fields[FIELDS] = {
    {"minute", 0, 59}, {"hour", 0, 23}, {"day", 1, 31}, {"month", 1, 12}, {"weekday", 0, 7}};

/* --- reading -------------------------------------------------------------------------------- */

static int refuse(const struct field *field, const char *text, struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "schedule: %s \"%.60s\" (allowed: *, numbers %d to %d, ranges 1-5, lists 1,2,3, "
                   "each with a step such as */2)",
                   field->name, text, field->min, field->max);
}

/* A number at *AT, which moves behind it; -1 where there is none. */
static int scan_number(const char **at)
{
    int value = 0, digits = 0;

    for (; isdigit((unsigned char)**at) && digits < 4; (*at)++, digits++)
        value = 10 * value + (**at - '0');
    return digits > 0 ? value : -1;
}

/* "*", "5" or "1-5", and what may stand behind: "/2". */
static int read_part(const struct field *field, const char **at, uint64_t *bits)
{
    int from = field->min, to = field->max, step = 1;

    if (**at == '*') {
        (*at)++;
    } else {
        from = to = scan_number(at);
        if (**at == '-') {
            (*at)++;
            to = scan_number(at);
        } else if (**at == '/') {
            to = field->max; /* "5/15" is "5-59/15", as in cron */
        }
    }
    if (**at == '/') {
        (*at)++;
        step = scan_number(at);
    }
    if (from < field->min || to > field->max || from > to || step < 1)
        return -1;
    for (int i = from; i <= to; i += step)
        *bits |= UINT64_C(1) << i;
    return 0;
}

static int read_field(const struct field *field, const char *text, uint64_t *bits, struct err *err)
{
    const char *at = text;

    *bits = 0;
    for (;;) {
        if (read_part(field, &at, bits) < 0)
            return refuse(field, text, err);
        if (*at == '\0')
            return 0;
        if (*at++ != ',')
            return refuse(field, text, err);
    }
}

/* Splits at blanks; the number of fields, FIELDS + 1 for more, or -1 if one is too long. */
static int split(const char *text, char parts[FIELDS][FIELD_SIZE])
{
    int count = 0;

    for (;;) {
        size_t len;

        text += strspn(text, " \t");
        len = strcspn(text, " \t");
        if (len == 0)
            return count;
        if (count == FIELDS)
            return FIELDS + 1;
        if (len >= FIELD_SIZE)
            return -1;
        memcpy(parts[count], text, len);
        parts[count++][len] = '\0';
        text += len;
    }
}

static int parse_every(const char *text, struct schedule *schedule, struct err *err)
{
    int64_t ms;

    text += strspn(text, " \t");
    if (units_parse_duration(text, &ms, err) < 0)
        return err_context(err, "schedule: every");
    if (ms < SCHEDULE_EVERY_MIN_MS || ms > SCHEDULE_EVERY_MAX_MS)
        return err_set(err, ERR_INVALID, "schedule: every \"%.60s\" (allowed: 1min to 31d)", text);
    *schedule = (struct schedule){.every_ms = ms};
    return 0;
}

static int parse_cron(const char *text, struct schedule *schedule, struct err *err)
{
    char parts[FIELDS][FIELD_SIZE];
    uint64_t bits[FIELDS];
    struct schedule made;

    if (split(text, parts) != FIELDS)
        return err_set(err, ERR_INVALID, "schedule: \"%.60s\" (" SCHEDULE_ALLOWED ")", text);
    for (int i = 0; i < FIELDS; i++) {
        if (read_field(&fields[i], parts[i], &bits[i], err) < 0)
            return -1;
    }
    made = (struct schedule){
        .minutes = bits[0],
        .hours = (uint32_t)bits[1],
        .days = (uint32_t)bits[2],
        .months = (uint32_t)bits[3],
        .weekdays = (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f),
        .any_day = parts[2][0] == '*',
        .any_weekday = parts[4][0] == '*',
    };
    if (schedule_next(&made, 0) == SCHEDULE_NEVER)
        return err_set(err, ERR_INVALID, "schedule: \"%.60s\": that date never comes", text);
    *schedule = made;
    return 0;
}

int schedule_parse(const char *text, struct schedule *schedule, struct err *err)
{
    static const char every[] = "every";

    text += strspn(text, " \t");
    if (strncmp(text, every, sizeof(every) - 1) == 0 && strspn(text + sizeof(every) - 1, " \t") > 0)
        return parse_every(text + sizeof(every) - 1, schedule, err);
    return parse_cron(text, schedule, err);
}

/* --- when ----------------------------------------------------------------------------------- */

static bool day_matches(const struct schedule *schedule, int64_t day)
{
    struct calendar_date date = calendar_date_of(day);
    bool by_day = (schedule->days >> date.day & 1) != 0;
    bool by_weekday = (schedule->weekdays >> calendar_weekday(day) & 1) != 0;

    if ((schedule->months >> date.month & 1) == 0)
        return false;
    /* cron's rule: two restrictions are alternatives, "*" is none. */
    return schedule->any_day || schedule->any_weekday ? by_day && by_weekday : by_day || by_weekday;
}

/* The first matching minute of a day from MINUTE on; -1: none. */
static int minute_of_day(const struct schedule *schedule, int minute)
{
    for (; minute < 24 * 60; minute++) {
        if ((schedule->hours >> (minute / 60) & 1) != 0 &&
            (schedule->minutes >> (minute % 60) & 1) != 0)
            return minute;
    }
    return -1;
}

int64_t schedule_next(const struct schedule *schedule, int64_t after_wall_ms)
{
    int64_t after = after_wall_ms < 0                 ? 0
                    : after_wall_ms > CALENDAR_MAX_MS ? CALENDAR_MAX_MS
                                                      : after_wall_ms;
    int64_t minute, day;

    if (schedule->every_ms > 0)
        return (after / schedule->every_ms + 1) * schedule->every_ms;
    minute = after / MINUTE_MS + 1;
    day = minute / (24 * 60);
    for (int64_t last = day + SEARCH_DAYS; day <= last; day++, minute = day * 24 * 60) {
        int found = day_matches(schedule, day)
                        ? minute_of_day(schedule, (int)(minute - day * 24 * 60))
                        : -1;

        if (found >= 0)
            return (day * 24 * 60 + found) * MINUTE_MS;
    }
    return SCHEDULE_NEVER;
}
