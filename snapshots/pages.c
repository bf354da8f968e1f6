#include "snapshots/pages.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Of a page's header. */
enum { CHECKSUM_AT = 8, UPPER_AT = 14, CHECKSUM_END = 10 };

/* The page is summed up in as many columns of 32-bit words, so that many are done at once. */
enum { COLUMNS = 32, ROWS = PAGE_SIZE_DEFAULT / (int)sizeof(uint32_t) / COLUMNS, ROUNDS_AFTER = 2 };

static const uint32_t prime = 16777619;

static const uint32_t offsets[COLUMNS] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
};

static inline __attribute__((always_inline)) uint32_t mix(uint32_t sum, uint32_t word)
{
    sum ^= word;
    return (sum * prime) ^ (sum >> 17);
}

static inline __attribute__((always_inline)) uint32_t sum_up(const uint32_t words[ROWS][COLUMNS])
{
    uint32_t sums[COLUMNS], result = 0;

    memcpy(sums, offsets, sizeof(sums));
    for (int row = 0; row < ROWS; row++) {
        for (int column = 0; column < COLUMNS; column++)
            sums[column] = mix(sums[column], words[row][column]);
    }
    for (int round = 0; round < ROUNDS_AFTER; round++) {
        for (int column = 0; column < COLUMNS; column++)
            sums[column] = mix(sums[column], 0);
    }
    for (int column = 0; column < COLUMNS; column++)
        result ^= sums[column];
    return result;
}

#if defined(__x86_64__) && defined(__GNUC__)
/* The same for the compiler to make eight columns at once of. */
__attribute__((target("avx2"))) static uint32_t sum_up_wide(const uint32_t words[ROWS][COLUMNS])
{
    return sum_up(words);
}

static uint32_t sum_of(const uint32_t words[ROWS][COLUMNS])
{
    return __builtin_cpu_supports("avx2") ? sum_up_wide(words) : sum_up(words);
}
#else
static uint32_t sum_of(const uint32_t words[ROWS][COLUMNS])
{
    return sum_up(words);
}
#endif

uint16_t page_checksum(const char *page, uint32_t number)
{
    uint32_t words[ROWS][COLUMNS];

    OGEL_CHECK(sizeof(words) == PAGE_SIZE_DEFAULT);
    memcpy(words, page, sizeof(words));
    memset((char *)words + CHECKSUM_AT, 0, CHECKSUM_END - CHECKSUM_AT);
    return (uint16_t)((sum_of((const uint32_t(*)[COLUMNS])words) ^ number) % 65535 + 1);
}

static uint16_t read_16(const char *from)
{
    uint16_t value;

    memcpy(&value, from, sizeof(value));
    return value;
}

/* Two words, the high one first, each in the machine's order. */
static uint64_t page_lsn(const char *page)
{
    uint32_t halves[2];

    memcpy(halves, page, sizeof(halves));
    return (uint64_t)halves[0] << 32 | halves[1];
}

bool pages_fit(const char *data, size_t len, uint32_t first, uint64_t since, uint64_t before,
               uint32_t *bad)
{
    for (size_t at = 0; at + PAGE_SIZE_DEFAULT <= len; at += PAGE_SIZE_DEFAULT) {
        const char *page = data + at;
        uint64_t lsn = page_lsn(page);
        uint32_t number = first + (uint32_t)(at / PAGE_SIZE_DEFAULT);

        if (read_16(page + UPPER_AT) == 0 || lsn < since || lsn >= before ||
            read_16(page + CHECKSUM_AT) == page_checksum(page, number))
            continue;
        *bad = number;
        return false;
    }
    return true;
}

/* "_vm" and the like, or nothing. */
static size_t fork_length(const char *at)
{
    static const char *const forks[] = {"_fsm", "_vm", "_init"};

    for (size_t i = 0; i < sizeof(forks) / sizeof(forks[0]); i++) {
        if (strncmp(at, forks[i], strlen(forks[i])) == 0)
            return strlen(forks[i]);
    }
    return 0;
}

/* "16384", "16384_vm", "16384.1" */
bool pages_in(const char *path, uint32_t *first)
{
    const char *slash = strrchr(path, '/'), *at;
    unsigned long segment = 0;
    size_t digits;

    *first = 0;
    if (slash == NULL || (strncmp(path, "base/", 5) != 0 && strncmp(path, "global/", 7) != 0 &&
                          strncmp(path, "pg_tblspc/", 10) != 0))
        return false;
    at = slash + 1;
    digits = strspn(at, "0123456789");
    if (digits == 0)
        return false;
    at += digits;
    at += fork_length(at);
    if (*at == '.') {
        char *end;

        if (strspn(at + 1, "0123456789") == 0)
            return false;
        segment = strtoul(at + 1, &end, 10);
        at = end;
    }
    if (*at != '\0' || segment > UINT32_MAX / PAGES_PER_SEGMENT)
        return false;
    *first = (uint32_t)segment * PAGES_PER_SEGMENT;
    return true;
}
