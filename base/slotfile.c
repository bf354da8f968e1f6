#include "base/slotfile.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"

#define FORMAT_VERSION 1
#define PAGE           4096
#define MAX_SLOT_SIZE  (16u << 20)
#define DIGEST_SIZE    32
#define HASHED_HEADER  (SLOTFILE_HEADER_SIZE - DIGEST_SIZE)

static const char magic[8] = {'O', 'G', 'E', 'L', 'S', 'L', 'O', 'T'};

/* As it stands in the file. */
struct header {
    char magic[8];
    uint32_t version;
    uint32_t slot_size;
    uint64_t seq;
    uint32_t len;
    uint32_t zero;
    uint8_t digest[DIGEST_SIZE];
};

_Static_assert(sizeof(struct header) == SLOTFILE_HEADER_SIZE, "the header is part of the format");

enum slot_state { SLOT_WHOLE, SLOT_DAMAGED, SLOT_OTHER_VERSION };

struct slotfile {
    char *path;
    int fd;
    size_t slot_size;
    int current;   /* slot that holds the record */
    uint64_t seq;  /* of the record; 0 = never written */
    size_t len;    /* of the record */
    bool damaged;  /* a slot was damaged at opening */
    char *record;  /* the current slot's content, header and all */
    char *scratch; /* the slot being written: nothing is allocated then */
};

/* --- one slot in memory --------------------------------------------------------------------- */

static void digest_slot(const char *slot, size_t len, uint8_t out[DIGEST_SIZE])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    OGEL_CHECK(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
               EVP_DigestUpdate(ctx, slot, HASHED_HEADER) == 1 &&
               EVP_DigestUpdate(ctx, slot + SLOTFILE_HEADER_SIZE, len) == 1 &&
               EVP_DigestFinal_ex(ctx, out, NULL) == 1);
    EVP_MD_CTX_free(ctx);
}

/* Builds a slot; returns the bytes that must be written: whole pages, so that the kernel has no
 * reason to read the old ones first. */
static size_t encode_slot(char *slot, size_t slot_size, uint64_t seq, const void *data, size_t len)
{
    struct header header = {
        .version = htole32(FORMAT_VERSION),
        .slot_size = htole32((uint32_t)slot_size),
        .seq = htole64(seq),
        .len = htole32((uint32_t)len),
    };
    size_t used = SLOTFILE_HEADER_SIZE + len, padded = (used + PAGE - 1) / PAGE * PAGE;

    memcpy(header.magic, magic, sizeof(magic));
    memcpy(slot, &header, sizeof(header));
    if (len > 0)
        memcpy(slot + SLOTFILE_HEADER_SIZE, data, len);
    memset(slot + used, 0, padded - used);
    digest_slot(slot, len, header.digest);
    memcpy(slot, &header, sizeof(header));
    return padded;
}

static enum slot_state decode_slot(const char *slot, size_t slot_size, uint64_t *seq, size_t *len)
{
    struct header header;
    uint8_t digest[DIGEST_SIZE];

    memcpy(&header, slot, sizeof(header));
    if (memcmp(header.magic, magic, sizeof(magic)) != 0)
        return SLOT_DAMAGED;
    if (le32toh(header.version) != FORMAT_VERSION)
        return SLOT_OTHER_VERSION;
    *seq = le64toh(header.seq);
    *len = le32toh(header.len);
    if (le32toh(header.slot_size) != slot_size || *len > slot_size - SLOTFILE_HEADER_SIZE)
        return SLOT_DAMAGED;
    digest_slot(slot, *len, digest);
    return memcmp(digest, header.digest, DIGEST_SIZE) == 0 ? SLOT_WHOLE : SLOT_DAMAGED;
}

/* --- the file ------------------------------------------------------------------------------- */

/* An error of the system, with what to do. */
static int refuse(struct err *err, int errnum, const char *what, const char *path)
{
    struct err why;

    err_set_errno(&why, errnum, "%s %s", what, path);
    return err_set(err, why.code, "%s%s", why.text,
                   errnum == EACCES || errnum == EPERM
                       ? "; give it back to the user that runs this program"
                   : errnum == EIO ? "; check the disk"
                                   : "");
}

static int fill_slot(struct slotfile *sf, int slot, const char *content, size_t len,
                     struct err *err)
{
    off_t base = (off_t)slot * (off_t)sf->slot_size;
    size_t done = 0;

    while (done < len) {
        ssize_t put = io_ops->pwrite(sf->fd, content + done, len - done, base + (off_t)done);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return refuse(err, put < 0 ? errno : EIO, "cannot write", sf->path);
        done += (size_t)put;
    }
    return 0;
}

/* The first LEN bytes of CONTENT become the slot, durably. */
static int write_slot(struct slotfile *sf, int slot, const char *content, size_t len,
                      struct err *err)
{
    if (fill_slot(sf, slot, content, len, err) < 0)
        return -1;
    if (io_ops->fdatasync(sf->fd) < 0)
        return refuse(err, errno, "cannot sync", sf->path);
    return 0;
}

/* What has become durable in one slot goes to the other as well, so that one that rots later is not
 * mistaken for one that a crash cut off and the record before it for the newest. It is not waited
 * for: until the copy has reached the disk the first stands alone. Nor does its failure matter: the
 * next record overwrites it. */
static void copy_slot(struct slotfile *sf, int slot, const char *content, size_t len)
{
    (void)fill_slot(sf, slot, content, len, NULL);
}

static int read_slot(struct slotfile *sf, int slot, char *content, struct err *err)
{
    off_t base = (off_t)slot * (off_t)sf->slot_size;
    size_t have = 0;

    while (have < sf->slot_size) {
        ssize_t got = io_ops->pread(sf->fd, content + have, sf->slot_size - have,
                                    base + (off_t)have);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return refuse(err, errno, "cannot read", sf->path);
        if (got == 0)
            return err_set(err, ERR_CORRUPT, "%s: ends early; check the disk", sf->path);
        have += (size_t)got;
    }
    return 0;
}

/* Two whole, empty slots: from the first moment on one of them is whole whatever is cut off. */
static int create_file(const char *path, size_t slot_size, struct err *err)
{
    char *image = xcalloc(2, slot_size);
    int rc;

    encode_slot(image, slot_size, 0, NULL, 0);
    encode_slot(image + slot_size, slot_size, 0, NULL, 0);
    rc = file_write_atomic(path, image, 2 * slot_size, 0600, err);
    free(image);
    return rc;
}

static int check_file(const struct slotfile *sf, struct err *err)
{
    struct stat st;

    if (io_ops->fstat(sf->fd, &st) < 0)
        return refuse(err, errno, "cannot look at", sf->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "%s: is no regular file; put the file itself there",
                       sf->path);
    if (st.st_size != (off_t)(2 * sf->slot_size))
        return err_set(err, ERR_INVALID,
                       "%s: has %jd bytes instead of %zu: cut off, or made by another version of "
                       "this program; put the right file or version back",
                       sf->path, (intmax_t)st.st_size, 2 * sf->slot_size);
    return 0;
}

/* Takes the newest whole slot as the record. COPIED: both hold it. */
static int load(struct slotfile *sf, bool *copied, struct err *err)
{
    char *slots[2] = {sf->record, sf->scratch};
    enum slot_state state[2];
    uint64_t seq[2] = {0, 0};
    size_t len[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        if (read_slot(sf, i, slots[i], err) < 0)
            return -1;
        state[i] = decode_slot(slots[i], sf->slot_size, &seq[i], &len[i]);
    }
    /* Also when the other slot is whole: it may be the older one. */
    if (state[0] == SLOT_OTHER_VERSION || state[1] == SLOT_OTHER_VERSION)
        return err_set(err, ERR_INVALID,
                       "%s: was written by another version of this program (format %d is read "
                       "here); start that version",
                       sf->path, FORMAT_VERSION);
    if (state[0] == SLOT_DAMAGED && state[1] == SLOT_DAMAGED)
        return err_set(err, ERR_CORRUPT,
                       "%s: both copies of the record are damaged; check the disk, keep the file "
                       "for analysis, and move it away only if its record may be lost",
                       sf->path);
    *copied = state[0] == SLOT_WHOLE && state[1] == SLOT_WHOLE && seq[0] == seq[1];
    if (*copied &&
        (len[0] != len[1] || memcmp(slots[0], slots[1], SLOTFILE_HEADER_SIZE + len[0]) != 0))
        return err_set(err, ERR_CORRUPT,
                       "%s: two records claim to be number %" PRIu64 "; put the file back as this "
                       "program left it",
                       sf->path, seq[0]);
    sf->damaged = state[0] != SLOT_WHOLE || state[1] != SLOT_WHOLE;
    sf->current = state[0] != SLOT_WHOLE || (state[1] == SLOT_WHOLE && seq[1] > seq[0]);
    sf->record = slots[sf->current];
    sf->scratch = slots[1 - sf->current];
    sf->seq = seq[sf->current];
    sf->len = len[sf->current];
    return 0;
}

/* What was read may be a record whose sync failed: it is in the kernel's cache, looks clean there
 * and is not on the disk. Written again it is dirty again; with the same bytes, so that no crash
 * can spoil it. Also where both slots have it: one of them may be a copy that has not reached the
 * disk yet, and the next record must not overwrite the other. */
static int make_durable(struct slotfile *sf, bool copied, struct err *err)
{
    size_t used = SLOTFILE_HEADER_SIZE + sf->len, padded = (used + PAGE - 1) / PAGE * PAGE;

    if (sf->seq == 0 && copied)
        return 0; /* as it was made */
    if (write_slot(sf, sf->current, sf->record, padded, err) < 0)
        return -1;
    if (!copied)
        copy_slot(sf, 1 - sf->current, sf->record, padded);
    return 0;
}

static int open_file(const char *path, int flags)
{
    return io_ops->open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

int slotfile_open(const char *path, size_t slot_size, bool create, struct slotfile **out,
                  struct err *err)
{
    struct slotfile *sf;
    bool copied;

    OGEL_CHECK(slot_size >= PAGE && slot_size % PAGE == 0 && slot_size <= MAX_SLOT_SIZE);
    *out = NULL;
    sf = xcalloc(1, sizeof(*sf));
    sf->path = xstrdup(path);
    sf->slot_size = slot_size;
    sf->record = xmalloc(slot_size);
    sf->scratch = xmalloc(slot_size);
    sf->fd = open_file(path, O_RDWR);
    if (sf->fd < 0 && errno == ENOENT && create) {
        if (create_file(path, slot_size, err) < 0)
            goto fail;
        sf->fd = open_file(path, O_RDWR);
    }
    if (sf->fd < 0) {
        if (errno == ELOOP)
            err_set(err, ERR_INVALID, "%s: is a symbolic link; put the file itself there", path);
        else
            refuse(err, errno, "cannot open", path);
        goto fail;
    }
    /* The directory too: whoever made the file may have died before its name was durable. */
    if (check_file(sf, err) < 0 || load(sf, &copied, err) < 0 ||
        make_durable(sf, copied, err) < 0 || file_sync_parent(path, err) < 0)
        goto fail;
    *out = sf;
    return 0;
fail:
    slotfile_close(sf);
    return -1;
}

int slotfile_read(const struct slotfile *sf, void *buf, size_t size, size_t *len, bool *found,
                  struct err *err)
{
    *len = 0;
    *found = sf->seq != 0;
    if (sf->len > size)
        return err_set(err, ERR_INVALID, "%s: has a record of %zu bytes, at most %zu expected",
                       sf->path, sf->len, size);
    if (sf->len > 0)
        memcpy(buf, sf->record + SLOTFILE_HEADER_SIZE, sf->len);
    *len = sf->len;
    return 0;
}

int slotfile_write(struct slotfile *sf, const void *data, size_t len, struct err *err)
{
    int target = 1 - sf->current;
    char *written;
    size_t padded;

    if (len > sf->slot_size - SLOTFILE_HEADER_SIZE)
        return err_set(err, ERR_INVALID, "%s: a record of %zu bytes does not fit, at most %zu do",
                       sf->path, len, sf->slot_size - SLOTFILE_HEADER_SIZE);
    padded = encode_slot(sf->scratch, sf->slot_size, sf->seq + 1, data, len);
    if (write_slot(sf, target, sf->scratch, padded, err) < 0)
        return -1;
    copy_slot(sf, 1 - target, sf->scratch, padded);
    written = sf->scratch;
    sf->scratch = sf->record;
    sf->record = written;
    sf->current = target;
    sf->seq++;
    sf->len = len;
    return 0;
}

int slotfile_not_understood(const char *path, struct err *err)
{
    err_context(err, "%s: the record is whole but not understood here", path);
    return err == NULL ? -1
                       : err_set(err, err->code,
                                 "%s; start the version of this program that wrote it, or put this "
                                 "node's own file back",
                                 err->text);
}

uint64_t slotfile_sequence(const struct slotfile *sf)
{
    return sf->seq;
}

bool slotfile_was_damaged(const struct slotfile *sf)
{
    return sf->damaged;
}

void slotfile_close(struct slotfile *sf)
{
    if (sf == NULL)
        return;
    if (sf->fd >= 0)
        io_ops->close(sf->fd);
    free(sf->record);
    free(sf->scratch);
    free(sf->path);
    free(sf);
}
