/* Random numbers from the kernel (getrandom); no seed, safe for ids and secrets. Aborts if the
 * kernel has none. */
#ifndef OGEL_BASE_RAND_H
#define OGEL_BASE_RAND_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

void rand_bytes(void *buf, size_t len);
uint64_t rand_u64(void);
/* Uniform in [0, bound); BOUND > 0. For jitter. */
uint64_t rand_below(uint64_t bound);

/* Lower-case hex of LEN bytes and a NUL into OUT (2 * LEN + 1 bytes); returns OUT. */
const char *rand_hex_format(const void *data, size_t len, char *out);
/* TEXT must be exactly 2 * LEN hex digits of either case. */
OGEL_MUST_CHECK int rand_hex_parse(const char *text, void *data, size_t len, struct err *err);

#define RAND_UUID_BYTES 16
#define RAND_UUID_SIZE  37 /* text with its NUL */

/* A random (version 4) UUID, RFC 9562. */
void rand_uuid(uint8_t uuid[RAND_UUID_BYTES]);
const char *rand_uuid_format(const uint8_t uuid[RAND_UUID_BYTES], char out[RAND_UUID_SIZE]);
OGEL_MUST_CHECK int rand_uuid_parse(const char *text, uint8_t uuid[RAND_UUID_BYTES],
                                    struct err *err);

#endif
