#include "agent/scram.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/secret.h"

enum {
    KEY_BYTES = SHA256_DIGEST_LENGTH,
    BASE64_SIZE = (KEY_BYTES + 2) / 3 * 4 + 1,
    SALT_BYTES = 16,
    SALT_MAX = 64,
    ITERATIONS = 4096,  /* PostgreSQL's default */
    GENERATED_MIN = 22, /* characters that hold 128 bits at 6 bits each */
};

static void hmac(const uint8_t *key, const char *text, uint8_t out[KEY_BYTES])
{
    OGEL_CHECK(HMAC(EVP_sha256(), key, KEY_BYTES, (const unsigned char *)text, strlen(text), out,
                    NULL) != NULL);
}

/* Both keys of a verifier, as text. */
static void keys_make(const char *password, const uint8_t *salt, int salt_bytes, int iterations,
                      char stored[BASE64_SIZE], char server[BASE64_SIZE])
{
    uint8_t salted[KEY_BYTES], client_key[KEY_BYTES], key[KEY_BYTES];

    OGEL_CHECK(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, salt_bytes, iterations,
                                 EVP_sha256(), KEY_BYTES, salted) == 1);
    hmac(salted, "Client Key", client_key);
    SHA256(client_key, KEY_BYTES, key);
    EVP_EncodeBlock((unsigned char *)stored, key, KEY_BYTES);
    hmac(salted, "Server Key", key);
    EVP_EncodeBlock((unsigned char *)server, key, KEY_BYTES);
    secret_wipe(salted, sizeof salted);
    secret_wipe(client_key, sizeof client_key);
}

static int salt_decode(const char *text, uint8_t salt[SALT_MAX])
{
    size_t len = strlen(text);
    int bytes;

    if (len == 0 || len % 4 != 0 || len / 4 * 3 > SALT_MAX)
        return -1;
    bytes = EVP_DecodeBlock(salt, (const unsigned char *)text, (int)len);
    if (bytes < 0)
        return -1;
    for (size_t i = len; i > 0 && text[i - 1] == '='; i--)
        bytes--;
    return bytes;
}

bool scram_matches(const char *verifier, const char *password)
{
    char salt_text[96], stored[64], server[64];
    char want_stored[BASE64_SIZE], want_server[BASE64_SIZE];
    uint8_t salt[SALT_MAX];
    int iterations, salt_bytes;

    if (!verifier || sscanf(verifier, "SCRAM-SHA-256$%9d:%95[A-Za-z0-9+/=]$%63[^:]:%63s",
                            &iterations, salt_text, stored, server) != 4)
        return false;
    salt_bytes = salt_decode(salt_text, salt);
    if (salt_bytes < 0 || iterations < 1 || iterations > 1000000)
        return false;
    keys_make(password, salt, salt_bytes, iterations, want_stored, want_server);
    return secret_equal(stored, want_stored) && secret_equal(server, want_server);
}

char *scram_verifier(const char *password, bool machine)
{
    char salt_text[(SALT_BYTES + 2) / 3 * 4 + 1], stored[BASE64_SIZE], server[BASE64_SIZE];
    bool generated = machine && strlen(password) >= GENERATED_MIN;
    int iterations = generated ? 1 : ITERATIONS;
    uint8_t salt[SALT_BYTES];

    rand_bytes(salt, sizeof salt);
    EVP_EncodeBlock((unsigned char *)salt_text, salt, sizeof salt);
    keys_make(password, salt, sizeof salt, iterations, stored, server);
    return xasprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, salt_text, stored, server);
}
