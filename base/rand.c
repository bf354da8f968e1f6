#include "base/rand.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

void rand_bytes(void *buf, size_t len)
{
    char *at = buf;

    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);

        if (got < 0) {
            if (errno == EINTR)
                continue;
            die("no random numbers from the kernel: %s", strerror(errno));
        }
        at += got;
        len -= (size_t)got;
    }
}

uint64_t rand_u64(void)
{
    uint64_t value;

    rand_bytes(&value, sizeof(value));
    return value;
}

uint64_t rand_below(uint64_t bound)
{
    uint64_t value, unfair;

    OGEL_CHECK(bound > 0);
    unfair = -bound % bound; /* 2^64 mod bound: as many values are one too many */
    do
        value = rand_u64();
    while (value < unfair);
    return value % bound;
}

const char *rand_hex_format(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int rand_hex_parse(const char *text, void *data, size_t len, struct err *err)
{
    uint8_t *bytes = data;

    if (strlen(text) != 2 * len)
        goto bad;
    for (size_t i = 0; i < 2 * len; i++)
        if (hex_value(text[i]) < 0)
            goto bad;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    return 0;
bad:
    return err_set(err, ERR_INVALID, "\"%.80s\" is wrong (allowed: %zu hex digits)", text, 2 * len);
}

void rand_uuid(uint8_t uuid[RAND_UUID_BYTES])
{
    rand_bytes(uuid, RAND_UUID_BYTES);
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

/* Bytes of the five groups: 8-4-4-4-12 digits. */
static const size_t uuid_groups[] = {4, 2, 2, 2, 6};

const char *rand_uuid_format(const uint8_t uuid[RAND_UUID_BYTES], char out[RAND_UUID_SIZE])
{
    char *at = out;

    for (size_t group = 0; group < 5; group++) {
        if (group > 0)
            *at++ = '-';
        rand_hex_format(uuid, uuid_groups[group], at);
        at += 2 * uuid_groups[group];
        uuid += uuid_groups[group];
    }
    return out;
}

int rand_uuid_parse(const char *text, uint8_t uuid[RAND_UUID_BYTES], struct err *err)
{
    char hex[2 * RAND_UUID_BYTES + 1];
    const char *at = text;
    size_t have = 0;

    if (strlen(text) != RAND_UUID_SIZE - 1)
        goto bad;
    for (size_t group = 0; group < 5; group++) {
        if (group > 0 && *at++ != '-')
            goto bad;
        memcpy(hex + have, at, 2 * uuid_groups[group]);
        have += 2 * uuid_groups[group];
        at += 2 * uuid_groups[group];
    }
    hex[have] = '\0';
    if (rand_hex_parse(hex, uuid, RAND_UUID_BYTES, NULL) == 0)
        return 0;
bad:
    return err_set(err, ERR_INVALID,
                   "\"%.80s\" is no UUID (allowed: 8-4-4-4-12 hex digits with dashes)", text);
}
