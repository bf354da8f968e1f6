#include "base/units.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* From the smallest to the greatest. */
static const struct unit durations[] = {
    {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};

static const struct unit sizes[] = {
    {"B", 1},
    {"kB", INT64_C(1) << 10},
    {"MB", INT64_C(1) << 20},
    {"GB", INT64_C(1) << 30},
    {"TB", INT64_C(1) << 40},
    {NULL, 0},
};

/* "12.5 min": WHOLE 12, FRACTION 5, SCALE 10, and what follows after blanks. False when there is no
 * number or one that is too big. */
static bool split_number(const char *text, int64_t *whole, int64_t *fraction, int64_t *scale,
                         const char **rest)
{
    const char *at = text;

    *whole = 0;
    *fraction = 0;
    *scale = 1;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(*whole, 10, whole) ||
            __builtin_add_overflow(*whole, *at - '0', whole))
            return false;
    if (at == text)
        return false;
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++) {
            if (*scale == 1000000) /* finer than any unit needs */
                return false;
            *scale *= 10;
            *fraction = *fraction * 10 + (*at - '0');
        }
        if (*scale == 1)
            return false;
    }
    while (*at == ' ')
        at++;
    *rest = at;
    return true;
}

static bool scale_number(const char *text, const struct unit *units, bool ignore_case,
                         const char **rest, int64_t *value)
{
    int64_t whole, fraction, scale, product, part;

    *rest = "";
    if (!split_number(text, &whole, &fraction, &scale, rest))
        return false;
    for (; units->name != NULL; units++) {
        if (ignore_case ? strcasecmp(*rest, units->name) : strcmp(*rest, units->name))
            continue;
        /* FRACTION is below 10^6 and the greatest factor is 2^40: no overflow. */
        part = (fraction * units->factor + scale / 2) / scale;
        if (__builtin_mul_overflow(whole, units->factor, &product) ||
            __builtin_add_overflow(product, part, &product))
            return false;
        *value = product;
        return true;
    }
    return false;
}

int units_parse_duration(const char *text, int64_t *ms, struct err *err)
{
    const char *rest;

    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return 0;
    }
    if (scale_number(text, durations, false, &rest, ms))
        return 0;
    return err_set(err, ERR_INVALID,
                   "\"%.40s\" %s (allowed: a number with ms, s, min, h or d, like 250ms)", text,
                   rest[0] == '\0' && text[0] >= '0' && text[0] <= '9' ? "has no unit"
                                                                       : "is no duration");
}

int units_parse_size(const char *text, int64_t *bytes, struct err *err)
{
    const char *rest;
    int64_t whole, fraction, scale;

    if (split_number(text, &whole, &fraction, &scale, &rest) && rest[0] == '\0' && scale == 1 &&
        rest[-1] != ' ') {
        *bytes = whole;
        return 0;
    }
    if (scale_number(text, sizes, true, &rest, bytes))
        return 0;
    return err_set(err, ERR_INVALID,
                   "\"%.40s\" is no size (allowed: a number of bytes, or one with B, kB, MB, GB or "
                   "TB, like 16MB)",
                   text);
}

static const char *format_units(int64_t value, const struct unit *units, char *buf)
{
    const struct unit *best = units;

    for (; units->name != NULL; units++)
        if (value != 0 && value % units->factor == 0)
            best = units;
    snprintf(buf, UNITS_TEXT_SIZE, "%" PRId64 "%s", value / best->factor, best->name);
    return buf;
}

const char *units_format_duration(int64_t ms, char buf[UNITS_TEXT_SIZE])
{
    return format_units(ms, durations, buf);
}

const char *units_format_size(int64_t bytes, char buf[UNITS_TEXT_SIZE])
{
    return format_units(bytes, sizes, buf);
}

static bool parse_hex32(const char **text, uint32_t *value)
{
    const char *at = *text;

    *value = 0;
    for (; at - *text < 8; at++) {
        if (*at >= '0' && *at <= '9')
            *value = *value << 4 | (uint32_t)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            *value = *value << 4 | (uint32_t)(*at - 'a' + 10);
        else if (*at >= 'A' && *at <= 'F')
            *value = *value << 4 | (uint32_t)(*at - 'A' + 10);
        else
            break;
    }
    if (at == *text)
        return false;
    *text = at;
    return true;
}

bool units_scan_lsn(const char **text, uint64_t *lsn)
{
    const char *at = *text;
    uint32_t high, low;

    if (!parse_hex32(&at, &high) || *at++ != '/' || !parse_hex32(&at, &low))
        return false;
    *lsn = (uint64_t)high << 32 | low;
    *text = at;
    return true;
}

int units_parse_lsn(const char *text, uint64_t *lsn, struct err *err)
{
    const char *at = text;
    uint64_t parsed;

    if (!units_scan_lsn(&at, &parsed) || *at != '\0')
        return err_set(err, ERR_INVALID,
                       "\"%.40s\" is no WAL position (allowed: two hex numbers, like 0/3000148)",
                       text);
    *lsn = parsed;
    return 0;
}

const char *units_format_lsn(uint64_t lsn, char buf[UNITS_TEXT_SIZE])
{
    snprintf(buf, UNITS_TEXT_SIZE, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return buf;
}

int units_parse_int(const char *text, int64_t min, int64_t max, int64_t *value, struct err *err)
{
    const char *at = text;
    bool negative = *at == '-';
    int64_t number = 0;

    if (negative)
        at++;
    if (*at == '\0')
        goto bad;
    for (; *at != '\0'; at++) {
        /* Downwards where negative: INT64_MIN has no positive counterpart. */
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(number, 10, &number) ||
            (negative ? __builtin_sub_overflow(number, *at - '0', &number)
                      : __builtin_add_overflow(number, *at - '0', &number)))
            goto bad;
    }
    if (number < min || number > max)
        return err_set(err, ERR_INVALID,
                       "%" PRId64 " is out of range (allowed: %" PRId64 " to %" PRId64 ")", number,
                       min, max);
    *value = number;
    return 0;
bad:
    return err_set(err, ERR_INVALID,
                   "\"%.40s\" is no whole number (allowed: %" PRId64 " to %" PRId64 ")", text, min,
                   max);
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

/* Copies the host without brackets and lets *REST point at ":port" or the end. */
static bool parse_host(const char *text, struct units_address *address, const char **rest)
{
    struct in6_addr v6;
    const char *start = text, *end;

    if (*text == '[') {
        start++;
        end = strchr(start, ']');
        if (end == NULL)
            return false;
        *rest = end + 1;
    } else {
        for (end = start; is_host_char(*end); end++)
            ;
        *rest = end;
    }
    if (end == start || *start == '-' || (size_t)(end - start) >= sizeof(address->host))
        return false;
    memcpy(address->host, start, (size_t)(end - start));
    address->host[end - start] = '\0';
    return *text != '[' || inet_pton(AF_INET6, address->host, &v6) == 1;
}

int units_parse_address(const char *text, uint16_t default_port, struct units_address *address,
                        struct err *err)
{
    struct units_address parsed = {.port = default_port};
    const char *rest;
    int64_t port;

    if (!parse_host(text, &parsed, &rest) || (*rest != '\0' && *rest != ':'))
        return err_set(err, ERR_INVALID,
                       "\"%.80s\" is no address (allowed: host:port, 10.0.0.1:5432 or "
                       "[2001:db8::1]:5432)",
                       text);
    if (*rest == ':') {
        if (units_parse_int(rest + 1, 1, 65535, &port, err) < 0)
            return err_context(err, "port of \"%.80s\"", text);
        parsed.port = (uint16_t)port;
    } else if (default_port == 0) {
        return err_set(err, ERR_INVALID, "\"%.80s\" has no port (allowed: host:port)", text);
    }
    *address = parsed;
    return 0;
}

const char *units_format_address(const struct units_address *address, char buf[UNITS_ADDRESS_SIZE])
{
    bool v6 = strchr(address->host, ':') != NULL;

    snprintf(buf, UNITS_ADDRESS_SIZE, "%s%s%s:%u", v6 ? "[" : "", address->host, v6 ? "]" : "",
             address->port);
    return buf;
}
