/* Durations, sizes, WAL positions and addresses as people write them. All parsers refuse trailing
 * text, leave the result alone on failure, and fill ERR with ERR_INVALID and what is allowed. */
#ifndef OGEL_BASE_UNITS_H
#define OGEL_BASE_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define UNITS_TEXT_SIZE 32 /* enough for every formatted duration, size and LSN */

/* "250ms", "1s", "1.5 min", "2h", "1d"; a bare number is refused, but 0 is 0. */
OGEL_MUST_CHECK int units_parse_duration(const char *text, int64_t *ms, struct err *err);
/* The shortest exact form: "1500ms", "5min". Returns BUF. */
const char *units_format_duration(int64_t ms, char buf[UNITS_TEXT_SIZE]);

/* "16MB", "1GB", "512 kB", "8192B", "1.5GB"; powers of 1024 as in PostgreSQL; a bare number is
 * bytes (as Patroni's lag=). The case of the unit does not matter. */
OGEL_MUST_CHECK int units_parse_size(const char *text, int64_t *bytes, struct err *err);
/* The shortest exact form: "16MB", "1000B". Returns BUF. */
const char *units_format_size(int64_t bytes, char buf[UNITS_TEXT_SIZE]);

/* A WAL position, "16/B374D848": two hex numbers of up to 8 digits. */
OGEL_MUST_CHECK int units_parse_lsn(const char *text, uint64_t *lsn, struct err *err);
/* One at *TEXT, which moves behind it; false where there is none. */
bool units_scan_lsn(const char **text, uint64_t *lsn);
const char *units_format_lsn(uint64_t lsn, char buf[UNITS_TEXT_SIZE]);

/* A whole decimal number within [MIN, MAX]. */
OGEL_MUST_CHECK int units_parse_int(const char *text, int64_t min, int64_t max, int64_t *value,
                                    struct err *err);

struct units_address {
    char host[256]; /* name or address, without brackets */
    uint16_t port;
};

#define UNITS_ADDRESS_SIZE 272

/* "host:port", "10.0.0.1:5432", "[::1]:5432". With DEFAULT_PORT > 0 the port may be left out. A
 * host is letters, digits,
 * "-", "_", "." or what inet_pton() takes between brackets. */
OGEL_MUST_CHECK int units_parse_address(const char *text, uint16_t default_port,
                                        struct units_address *address, struct err *err);
/* Brackets put back where the host has a colon. Returns BUF. */
const char *units_format_address(const struct units_address *address, char buf[UNITS_ADDRESS_SIZE]);

#endif
