/* Clocks. Deadlines are on the monotonic clock; what must see a suspended machine is on the
 * boot-time clock. */
#ifndef OGEL_BASE_CLOCK_H
#define OGEL_BASE_CLOCK_H

#include <stdint.h>

#include "base/err.h"

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_boot_ms(void); /* goes on while the machine is suspended */
int64_t clock_wall_ms(void); /* since 1970 UTC; may jump: for people only */

#define CLOCK_ISO8601_SIZE 32

/* "2026-02-03T04:05:06.789Z" into BUF; returns BUF. A time outside of years 0–9999 is clamped to
 * 1970. */
const char *clock_format_iso8601(int64_t wall_ms, char buf[CLOCK_ISO8601_SIZE]);

/* The inverse: UTC with "Z" only, fraction optional (digits past milliseconds are ignored). */
OGEL_MUST_CHECK int clock_parse_iso8601(const char *text, int64_t *wall_ms, struct err *err);

#endif
