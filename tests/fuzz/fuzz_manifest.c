/* Manifests and file tables out of the store. Their checksums are mended, so that what is behind
 * them is reached. */
#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/rand.h"
#include "snapshots/bytes.h"
#include "snapshots/filetable.h"
#include "snapshots/manifest.h"
#include "snapshots/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_manifest(const char *data, size_t size)
{
    struct err err = {0};
    struct manifest manifest;
    size_t len;
    char *again;

    if (manifest_decode(data, size, &manifest, &err) < 0) {
        OGEL_CHECK(err.code == ERR_CORRUPT || err.code == ERR_INVALID);
        OGEL_CHECK(manifest.tablespaces == NULL);
        return;
    }
    OGEL_CHECK(snapshot_id_valid(manifest.id));
    again = manifest_encode(&manifest, &len);
    manifest_free(&manifest);
    OGEL_CHECK(manifest_decode(again, len, &manifest, &err) == 0);
    manifest_free(&manifest);
    free(again);
}

static void try_json(const uint8_t *data, size_t size)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char hex[2 * 32 + 1], *whole;

    OGEL_CHECK(EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1);
    whole = xasprintf("ogel-snapshot 1 %s\n%.*s", rand_hex_format(digest, 32, hex), (int)size,
                      (const char *)data);
    try_manifest(whole, strlen(whole));
    free(whole);
}

static void try_table(const char *data, size_t size)
{
    static int fd = -1;
    static struct table_entry entry;
    struct table_reader *reader;
    struct err err = {0};
    int rc;

    if (fd < 0)
        fd = memfd_create("table", MFD_CLOEXEC);
    OGEL_CHECK(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    rc = table_open(fd, size, &reader, &err);
    if (rc == 0) {
        while ((rc = table_next(reader, &entry, &err)) > 0)
            OGEL_CHECK(table_path_valid(entry.path));
        table_close(reader);
    }
    OGEL_CHECK(rc == 0 || err.code == ERR_CORRUPT || err.code == ERR_INVALID);
}

/* DATA as the entries of a block that is whole. */
static void try_entries(const uint8_t *data, size_t size)
{
    static char table[256 * 1024];
    char *at = table;
    size_t stored;

    if (size == 0 || size > 60000)
        return;
    at = bytes_put(at, "OGELFILE", 8);
    at = bytes_put_u32(at, TABLE_VERSION);
    at = bytes_put_u32(at, 0);
    stored = ZSTD_compress(at + 24, 100000, data, size, 1);
    OGEL_CHECK(!ZSTD_isError(stored));
    at = bytes_put_u32(at, (uint32_t)size);
    at = bytes_put_u32(at, (uint32_t)stored);
    slice_hash(data, size, (uint8_t *)at);
    at += SLICE_HASH_SIZE + stored;
    memset(at, 0, 24);
    try_table(table, (size_t)(at - table) + 24);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 4) {
    case 0: try_manifest((const char *)data + 1, size - 1); break;
    case 1: try_json(data + 1, size - 1); break;
    case 2: try_table((const char *)data + 1, size - 1); break;
    default: try_entries(data + 1, size - 1); break;
    }
    return 0;
}
