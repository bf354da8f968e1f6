/* Days, weeks and months in UTC, by arithmetic alone: no time zone, no clock. A day is counted from
 * 1 January 1970, a Thursday. */
#ifndef OGEL_SNAPSHOTS_CALENDAR_H
#define OGEL_SNAPSHOTS_CALENDAR_H

#include <stdint.h>

#define CALENDAR_DAY_MS INT64_C(86400000)
#define CALENDAR_MAX_MS INT64_C(253402300799999) /* the last of the year 9999 */

struct calendar_date {
    int year, month, day; /* month and day from 1 on */
};

/* Of a day >= 0. (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.) */
static inline struct calendar_date calendar_date_of(int64_t day)
{
    int64_t shifted = day + 719468; /* since 1 March of the year 0 */
    int64_t era = shifted / 146097, of_era = shifted % 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; /* from March on */
    struct calendar_date date;

    date.day = (int)(of_year - (153 * month + 2) / 5 + 1);
    date.month = (int)(month < 10 ? month + 3 : month - 9);
    date.year = (int)(year + era * 400 + (date.month <= 2 ? 1 : 0));
    return date;
}

/* 0 is Sunday. */
static inline int calendar_weekday(int64_t day)
{
    return (int)((day + 4) % 7);
}

/* The Monday of its week; of the first three days of 1970 it is before that, and negative. */
static inline int64_t calendar_monday(int64_t day)
{
    return day - (day + 3) % 7;
}

/* Of ISO 8601: a week belongs to the year that its Thursday is in. */
static inline void calendar_iso_week(int64_t day, int *year, int *week)
{
    int64_t thursday = calendar_monday(day) + 3;
    struct calendar_date date = calendar_date_of(thursday);
    int64_t first = thursday;

    while (first > 0 && calendar_date_of(first - 1).year == date.year)
        first--;
    *year = date.year;
    *week = (int)((thursday - first) / 7 + 1);
}

#endif
