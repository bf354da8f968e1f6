/*
 * When snapshots are due: "every 15min", or five fields as in cron. Pure: the time comes in as a
 * value, and a schedule is a plain struct without memory of its own. All times are UTC.
 * docs/operations/backup.md, "The text of a schedule".
 */
#ifndef OGEL_SNAPSHOTS_SCHEDULE_H
#define OGEL_SNAPSHOTS_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define SCHEDULE_EVERY_MIN_MS INT64_C(60000)
#define SCHEDULE_EVERY_MAX_MS (31 * INT64_C(86400000))
#define SCHEDULE_NEVER        INT64_MAX

/* Filled by schedule_parse(). Bit N of a field stands for the number N; days count from 1, Sunday
 * is weekday 0. */
struct schedule {
    int64_t every_ms; /* > 0: multiples of it since 1970, and no field counts */
    uint64_t minutes;
    uint32_t hours, days, months, weekdays;
    bool any_day, any_weekday; /* the field begins with "*" */
};

/*
 * TEXT is either "every DURATION", from 1min to 31d, or "MINUTE HOUR DAY MONTH WEEKDAY", each "*",
 * a number, a range "1-5" or a list of those, with a step behind "/" ("8-20/2"); weekdays are 0 to
 * 7, both ends Sunday. As in cron a day and a weekday that are both named are alternatives.
 * ERR_INVALID says which field and what is allowed; also for a date that never comes, 31 February.
 * On failure SCHEDULE is left alone.
 */
OGEL_MUST_CHECK int schedule_parse(const char *text, struct schedule *schedule, struct err *err);

/* The first time strictly after AFTER_WALL_MS, in ms since 1970. It does not depend on when the
 * program was started, so that a restart shifts nothing. SCHEDULE_NEVER: there is none within forty
 * years, which no parsed schedule says before the year 9900. */
int64_t schedule_next(const struct schedule *schedule, int64_t after_wall_ms);

#endif
