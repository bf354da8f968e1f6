#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rand.h"

static int check_private(const char *path, const struct stat *st, struct err *err)
{
    mode_t open_bits = st->st_mode & (st->st_uid == 0 ? 037 : 077);

    if (!S_ISREG(st->st_mode))
        return err_set(err, ERR_INVALID, "%s: is no regular file", path);
    if (open_bits != 0)
        return err_set(err, ERR_AUTH,
                       "%s: others than its owner can use it (mode %04o): chmod 600 %s", path,
                       (unsigned)(st->st_mode & 07777), path);
    return 0;
}

static ssize_t read_all(int fd, char *buf, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t got = read(fd, buf + have, size - have);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

int secret_read_file(const char *path, char *buf, size_t size, struct err *err)
{
    struct stat st;
    ssize_t len;
    int rc = -1;
    /* Not blocking: somebody may have put a pipe there. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    OGEL_CHECK(size > 0);
    buf[0] = '\0';
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    if (fstat(fd, &st) < 0) {
        err_set_errno(err, errno, "cannot look at %s", path);
        goto out;
    }
    if (check_private(path, &st, err) < 0)
        goto out;
    len = read_all(fd, buf, size);
    if (len < 0) {
        err_set_errno(err, errno, "cannot read %s", path);
        goto out;
    }
    if (len > 0 && buf[len - 1] == '\n')
        len--;
    if (len > 0 && buf[len - 1] == '\r')
        len--;
    if (len == 0) {
        err_set(err, ERR_INVALID, "%s: is empty: write the secret into it, on one line", path);
        goto out;
    }
    if ((size_t)len == size) {
        err_set(err, ERR_INVALID, "%s: is too long: at most %zu characters", path, size - 1);
        goto out;
    }
    for (ssize_t i = 0; i < len; i++) {
        if ((unsigned char)buf[i] < ' ' || buf[i] == 0x7f) {
            err_set(err, ERR_INVALID, "%s: has control characters or more than one line", path);
            goto out;
        }
    }
    buf[len] = '\0';
    rc = 0;
out:
    if (rc < 0)
        secret_wipe(buf, size);
    close(fd);
    return rc;
}

int secret_check_file(const char *path, struct err *err)
{
    char buf[1024];
    int rc = secret_read_file(path, buf, sizeof(buf), err);

    secret_wipe(buf, sizeof(buf));
    return rc;
}

static void digest(const char *text, unsigned char out[EVP_MAX_MD_SIZE])
{
    unsigned int len;

    memset(out, 0, EVP_MAX_MD_SIZE);
    OGEL_CHECK(EVP_Digest(text, strlen(text), out, &len, EVP_sha256(), NULL) == 1);
}

bool secret_equal(const char *a, const char *b)
{
    unsigned char da[EVP_MAX_MD_SIZE], db[EVP_MAX_MD_SIZE];

    /* Of the digests, so that neither lengths nor the first difference show in the time. */
    digest(a, da);
    digest(b, db);
    return CRYPTO_memcmp(da, db, sizeof(da)) == 0;
}

void secret_generate(char *buf, size_t size)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

    OGEL_CHECK(size > 0);
    rand_bytes(buf, size);
    for (size_t i = 0; i < size - 1; i++)
        buf[i] = alphabet[(unsigned char)buf[i] & 63];
    buf[size - 1] = '\0';
}

void secret_wipe(void *buf, size_t size)
{
    OPENSSL_cleanse(buf, size);
}
