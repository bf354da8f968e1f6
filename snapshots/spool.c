#include "snapshots/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { CHUNK = 4 * 1024 * 1024 };

int spool_open(struct err *err)
{
    const char *top = getenv("TMPDIR");
    char *name = xasprintf("%s/ogel-spool-XXXXXX", top != NULL && top[0] == '/' ? top : "/var/tmp");
    int fd = mkostemp(name, O_CLOEXEC);

    if (fd < 0)
        err_set_errno(err, errno, "cannot create the temporary file %s", name);
    else
        unlink(name);
    free(name);
    return fd;
}

static int write_all(int fd, const char *data, size_t len, uint64_t at, struct err *err)
{
    while (len > 0) {
        ssize_t put = pwrite(fd, data, len, (off_t)at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set_errno(err, put < 0 ? errno : ENOSPC, "cannot write a temporary file");
        data += put;
        len -= (size_t)put;
        at += (uint64_t)put;
    }
    return 0;
}

/* DIGEST may be NULL. */
static int download(struct store *store, const char *key, uint64_t size, int fd, EVP_MD_CTX *digest,
                    struct err *err)
{
    char *chunk = xmalloc(CHUNK);
    int rc = 0;

    for (uint64_t at = 0; rc == 0 && at < size;) {
        uint64_t left = size - at;
        size_t part = left < CHUNK ? (size_t)left : CHUNK;

        rc = store_get(store, key, at, part, chunk, STORE_CALL_TIMEOUT_MS, err);
        if (rc == 0)
            rc = write_all(fd, chunk, part, at, err);
        if (rc == 0 && digest != NULL)
            OGEL_CHECK(EVP_DigestUpdate(digest, chunk, part) == 1);
        at += part;
    }
    free(chunk);
    return rc;
}

int spool_file_table(struct store *store, const struct manifest *manifest, int *fd, struct err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t digest[EVP_MAX_MD_SIZE];
    char key[STORE_KEY_MAX];
    uint64_t size;
    int rc;

    OGEL_CHECK(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
    file_table_key(manifest->id, key);
    *fd = -1;
    rc = store_head(store, key, &size, STORE_CALL_TIMEOUT_MS, err);
    if (rc == 0 && size != manifest->table_bytes)
        rc = err_set(err, ERR_CORRUPT, "store %s: %s: has another length than was written",
                     store_name(store), key);
    if (rc == 0)
        rc = (*fd = spool_open(err)) >= 0 ? 0 : -1;
    if (rc == 0)
        rc = download(store, key, manifest->table_bytes, *fd, ctx, err);
    OGEL_CHECK(EVP_DigestFinal_ex(ctx, digest, NULL) == 1);
    EVP_MD_CTX_free(ctx);
    if (rc == 0 && memcmp(digest, manifest->table_digest, TABLE_DIGEST_SIZE) != 0)
        rc = err_set(err, ERR_CORRUPT,
                     "store %s: %s: has other content than was written: its SHA-256 is wrong",
                     store_name(store), key);
    if (rc < 0 && err != NULL && err->code == ERR_NOT_FOUND)
        err->code = ERR_CORRUPT; /* its manifest is there, so it must be */
    if (rc < 0 && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return rc < 0 ? err_context(err, "file table of snapshot %s", manifest->id) : 0;
}

int spool_orphan_table(struct store *store, const char *id, int *fd, uint64_t *size,
                       struct err *err)
{
    char key[STORE_KEY_MAX];

    *fd = -1;
    file_table_key(id, key);
    if (store_head(store, key, size, STORE_CALL_TIMEOUT_MS, err) < 0 || (*fd = spool_open(err)) < 0)
        return -1;
    if (download(store, key, *size, *fd, NULL, err) == 0)
        return 0;
    close(*fd);
    *fd = -1;
    return -1;
}
