#include "snapshots/pgmanifest.h"

#include <inttypes.h>
#include <isa-l/crc.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rand.h"
#include "snapshots/bytes.h"
#include "snapshots/names.h"
#include "snapshots/walset.h"

enum { LINE_MAX_BYTES = 16 * 1024, SHA256_SIZE = 32 };

struct noted {
    uint64_t hash; /* of the path */
    uint64_t size;
    uint32_t sum;
    bool listed;
    bool is_wal; /* which the server lists never */
};

struct pg_manifest {
    struct noted *noted;
    size_t count, room;
    bool sorted;
    EVP_MD_CTX *theirs, *ours; /* digests of all lines but the last */
    char line[LINE_MAX_BYTES]; /* as far as it has come */
    size_t len;
    bool ended;
};

/* crc32_iscsi() turns the bits neither before nor after. */
uint32_t file_sum(uint32_t sum, const void *data, size_t len)
{
    unsigned char *from = (unsigned char *)(uintptr_t)data; /* which it only reads */

    OGEL_CHECK(len <= INT_MAX);
    return crc32_iscsi(from, (int)len, sum);
}

static EVP_MD_CTX *digest_new(void)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    OGEL_CHECK(digest != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1);
    return digest;
}

struct pg_manifest *pg_manifest_new(void)
{
    struct pg_manifest *manifest = xcalloc(1, sizeof(*manifest));

    manifest->theirs = digest_new();
    manifest->ours = digest_new();
    return manifest;
}

void pg_manifest_free(struct pg_manifest *manifest)
{
    if (manifest == NULL)
        return;
    EVP_MD_CTX_free(manifest->theirs);
    EVP_MD_CTX_free(manifest->ours);
    free(manifest->noted);
    free(manifest);
}

/* --- what has come -------------------------------------------------------------------------- */

void pg_manifest_note(struct pg_manifest *manifest, const char *path, uint64_t size, uint32_t sum)
{
    if (manifest->count == manifest->room) {
        manifest->room = manifest->room == 0 ? 1024 : 2 * manifest->room;
        manifest->noted = xreallocarray(manifest->noted, manifest->room,
                                        sizeof(manifest->noted[0]));
    }
    manifest->noted[manifest->count++] = (struct noted){
        .hash = path_hash(path), .size = size, .sum = ~sum, .is_wal = wal_is_segment(path)};
    manifest->sorted = false;
}

static int by_hash(const void *a, const void *b)
{
    const struct noted *left = a, *right = b;

    return left->hash < right->hash ? -1 : left->hash > right->hash;
}

static struct noted *find(struct pg_manifest *manifest, const char *path)
{
    const struct noted wanted = {.hash = path_hash(path)};

    if (manifest->count == 0)
        return NULL;
    if (!manifest->sorted)
        qsort(manifest->noted, manifest->count, sizeof(manifest->noted[0]), by_hash);
    manifest->sorted = true;
    return bsearch(&wanted, manifest->noted, manifest->count, sizeof(wanted), by_hash);
}

/* --- lines ---------------------------------------------------------------------------------- */

static int put_line(struct pg_manifest *manifest, const char *data, size_t len, pg_manifest_fn *put,
                    void *arg, struct err *err)
{
    OGEL_CHECK(EVP_DigestUpdate(manifest->ours, data, len) == 1);
    return put(arg, data, len, err);
}

static bool begins(const struct pg_manifest *manifest, const char *with)
{
    return manifest->len >= strlen(with) && memcmp(manifest->line, with, strlen(with)) == 0;
}

/* Names that are no UTF-8 come as hexadecimal digits. */
static bool read_path(const json_t *file, char *path, size_t size)
{
    const char *text = json_string_value(json_object_get(file, "Path"));
    const char *digits = json_string_value(json_object_get(file, "Encoded-Path"));
    size_t len;

    if (text != NULL)
        return (size_t)snprintf(path, size, "%s", text) < size;
    if (digits == NULL)
        return false;
    len = strlen(digits) / 2;
    if (len >= size || rand_hex_parse(digits, path, len, NULL) < 0)
        return false;
    path[len] = '\0';
    return true;
}

/* "{ "Path": …, "Size": …, "Last-Modified": … }", and a comma if another one follows. */
static int take_file(struct pg_manifest *manifest, pg_manifest_fn *put, void *arg, struct err *err)
{
    char path[1024], bytes[sizeof(uint32_t)], hex[2 * sizeof(bytes) + 1], sum[96];
    struct noted *noted;
    size_t end = manifest->len;
    json_int_t size;
    bool readable;
    json_t *file;
    int len;

    while (end > 0 && manifest->line[end - 1] != '}')
        end--;
    file = json_loadb(manifest->line, end, 0, NULL);
    readable = file != NULL && read_path(file, path, sizeof(path)) &&
               json_is_integer(json_object_get(file, "Size")) &&
               json_object_get(file, "Checksum") == NULL;
    size = json_integer_value(json_object_get(file, "Size"));
    json_decref(file);
    if (!readable || end < 2 || manifest->line[end - 2] != ' ')
        return err_set(err, ERR_CORRUPT, "the server's backup manifest has an unknown line: %.*s",
                       (int)strcspn(manifest->line, "\n"), manifest->line);
    noted = find(manifest, path);
    if (noted == NULL)
        return err_set(err, ERR_CORRUPT,
                       "the server's backup manifest names %s, which did not come", path);
    if (noted->listed)
        return err_set(err, ERR_CORRUPT, "the server's backup manifest names %s twice", path);
    noted->listed = true;
    if (size < 0 || noted->size != (uint64_t)size)
        return err_set(err, ERR_CORRUPT,
                       "%s came with %" PRIu64 " bytes, the server's backup manifest says %" PRId64,
                       path, noted->size, (int64_t)size);
    bytes_put_u32(bytes, noted->sum);
    len = snprintf(sum, sizeof(sum), ", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%s\"",
                   rand_hex_format(bytes, sizeof(bytes), hex));
    return put_line(manifest, manifest->line, end - 2, put, arg, err) < 0 ||
                   put_line(manifest, sum, (size_t)len, put, arg, err) < 0 ||
                   put_line(manifest, manifest->line + end - 2, manifest->len - end + 2, put, arg,
                            err) < 0
               ? -1
               : 0;
}

static void finish(EVP_MD_CTX *digest, char *text)
{
    uint8_t sum[EVP_MAX_MD_SIZE];

    OGEL_CHECK(EVP_DigestFinal_ex(digest, sum, NULL) == 1);
    rand_hex_format(sum, SHA256_SIZE, text);
}

static int take_checksum(struct pg_manifest *manifest, pg_manifest_fn *put, void *arg,
                         struct err *err)
{
    char theirs[2 * SHA256_SIZE + 1], ours[2 * SHA256_SIZE + 1], line[160];
    int len;

    finish(manifest->theirs, theirs);
    snprintf(line, sizeof(line), "\"Manifest-Checksum\": \"%s\"}\n", theirs);
    if (manifest->len != strlen(line) || memcmp(manifest->line, line, manifest->len) != 0)
        return err_set(err, ERR_CORRUPT, "the server's backup manifest has a wrong checksum");
    finish(manifest->ours, ours);
    len = snprintf(line, sizeof(line), "\"Manifest-Checksum\": \"%s\"}\n", ours);
    manifest->ended = true;
    return put(arg, line, (size_t)len, err);
}

static int take_line(struct pg_manifest *manifest, pg_manifest_fn *put, void *arg, struct err *err)
{
    int rc;

    if (manifest->ended)
        return err_set(err, ERR_CORRUPT, "the server's backup manifest goes on behind its end");
    if (begins(manifest, "\"Manifest-Checksum\"")) {
        rc = take_checksum(manifest, put, arg, err);
    } else {
        OGEL_CHECK(EVP_DigestUpdate(manifest->theirs, manifest->line, manifest->len) == 1);
        rc = begins(manifest, "{ \"Path\"") || begins(manifest, "{ \"Encoded-Path\"")
                 ? take_file(manifest, put, arg, err)
                 : put_line(manifest, manifest->line, manifest->len, put, arg, err);
    }
    manifest->len = 0;
    return rc;
}

int pg_manifest_feed(struct pg_manifest *manifest, const char *data, size_t len,
                     pg_manifest_fn *put, void *arg, struct err *err)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t part = end != NULL ? (size_t)(end - data) + 1 : len;

        if (manifest->len + part >= sizeof(manifest->line))
            return err_set(err, ERR_CORRUPT, "the server's backup manifest has too long a line");
        memcpy(manifest->line + manifest->len, data, part);
        manifest->len += part;
        manifest->line[manifest->len] = '\0';
        if (end != NULL && take_line(manifest, put, arg, err) < 0)
            return -1;
        data += part;
        len -= part;
    }
    return 0;
}

int pg_manifest_end(const struct pg_manifest *manifest, struct err *err)
{
    size_t left_out = 0;

    if (!manifest->ended || manifest->len != 0)
        return err_set(err, ERR_CORRUPT, "the server's backup manifest ends early");
    for (size_t i = 0; i < manifest->count; i++)
        left_out += !manifest->noted[i].listed && !manifest->noted[i].is_wal;
    if (left_out > 0)
        return err_set(err, ERR_CORRUPT,
                       "the server's backup manifest leaves out files that came: %zu", left_out);
    return 0;
}
