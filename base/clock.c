#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t now_us(clockid_t clock)
{
    struct timespec ts;

    OGEL_CHECK(clock_gettime(clock, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

int64_t clock_boot_ms(void)
{
    return now_us(CLOCK_BOOTTIME) / 1000;
}

int64_t clock_wall_ms(void)
{
    return now_us(CLOCK_REALTIME) / 1000;
}

const char *clock_format_iso8601(int64_t wall_ms, char buf[CLOCK_ISO8601_SIZE])
{
    const int64_t end_of_9999_ms = 253402300800000;
    struct tm tm;
    time_t seconds;

    if (wall_ms < 0 || wall_ms >= end_of_9999_ms)
        wall_ms = 0;
    seconds = wall_ms / 1000;
    OGEL_CHECK(gmtime_r(&seconds, &tm) != NULL);
    snprintf(buf, CLOCK_ISO8601_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100, (unsigned)(wall_ms % 1000));
    return buf;
}

/* Exactly COUNT digits; -1 otherwise. */
static int digits(const char **text, int count)
{
    int value = 0;

    for (int i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9')
            return -1;
        value = value * 10 + (**text - '0');
    }
    return value;
}

int clock_parse_iso8601(const char *text, int64_t *wall_ms, struct err *err)
{
    static const char separators[] = "--T::";
    static const int widths[] = {4, 2, 2, 2, 2, 2};
    int parts[6], ms = 0;
    const char *at = text;
    struct tm tm = {0}, back;
    time_t seconds;

    for (int i = 0; i < 6; i++) {
        parts[i] = digits(&at, widths[i]);
        if (parts[i] < 0 || (i < 5 && *at++ != separators[i]))
            goto bad;
    }
    if (*at == '.') {
        int scale = 100;

        for (at++; *at >= '0' && *at <= '9'; at++, scale /= 10)
            ms += (*at - '0') * scale;
        if (at[-1] == '.')
            goto bad;
    }
    if (strcmp(at, "Z") != 0)
        goto bad;
    tm.tm_year = parts[0] - 1900;
    tm.tm_mon = parts[1] - 1;
    tm.tm_mday = parts[2];
    tm.tm_hour = parts[3];
    tm.tm_min = parts[4];
    tm.tm_sec = parts[5];
    seconds = timegm(&tm);
    /* timegm() takes the 31st of February for a day in March: it must come back as it went in. */
    if (gmtime_r(&seconds, &back) == NULL || back.tm_year != parts[0] - 1900 ||
        back.tm_mon != parts[1] - 1 || back.tm_mday != parts[2] || back.tm_hour != parts[3] ||
        back.tm_min != parts[4] || back.tm_sec != parts[5])
        goto bad;
    *wall_ms = (int64_t)seconds * 1000 + ms;
    return 0;
bad:
    return err_set(err, ERR_INVALID, "\"%.40s\" is no time (allowed: 2026-02-03T04:05:06.789Z)",
                   text);
}
