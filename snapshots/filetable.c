#include "snapshots/filetable.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/mem.h"
#include "snapshots/bytes.h"
#include "snapshots/pack.h"

/* As it stands in the file:
 *   magic, u32 version, u32 zero
 *   blocks × { u32 plain, u32 stored, hash[16], frame[stored] }: entries, none of them split
 *   end { u32 0, u32 0, u64 entries, u64 0 }
 * An entry:
 *   u8 type, u16 path length, u32 mode, path
 *   of a file: u64 size, u32 map length, u8 where; the map, or owner[25] and digest[32] */
#define MAGIC "OGELFILE"

enum {
    HEADER = 16,
    BLOCK_HEADER = 24,
    BLOCK_TARGET = 64 * 1024,
    ENTRY_MAX = 7 + TABLE_PATH_MAX + 13 + TABLE_INLINE_MAX,
    BLOCK_MAX = BLOCK_TARGET + ENTRY_MAX,
    LEVEL = 3,
    MAP_HERE = 0,
    MAP_ELSEWHERE = 1,
};

bool table_path_valid(const char *path)
{
    size_t total = strlen(path);

    if (total == 0 || total > TABLE_PATH_MAX)
        return false;
    for (;;) {
        size_t len = strcspn(path, "/");

        if (len == 0 || (len == 1 && path[0] == '.') || (len == 2 && memcmp(path, "..", 2) == 0))
            return false;
        if (path[len] == '\0')
            return true;
        path += len + 1;
    }
}

/* --- writing -------------------------------------------------------------------------------- */

struct table_writer {
    int fd;
    uint64_t at;
    uint64_t entries;
    EVP_MD_CTX *digest;
    size_t used;
    char plain[BLOCK_MAX];
    char stored[BLOCK_HEADER + BLOCK_MAX + 1024];
    bool begun;
};

struct table_writer *table_writer_new(int fd)
{
    struct table_writer *writer = xcalloc(1, sizeof(*writer));

    writer->fd = fd;
    writer->digest = EVP_MD_CTX_new();
    OGEL_CHECK(writer->digest != NULL &&
               EVP_DigestInit_ex(writer->digest, EVP_sha256(), NULL) == 1);
    return writer;
}

void table_writer_free(struct table_writer *writer)
{
    if (writer == NULL)
        return;
    EVP_MD_CTX_free(writer->digest);
    free(writer);
}

static int put_out(struct table_writer *writer, const char *data, size_t len, struct err *err)
{
    OGEL_CHECK(EVP_DigestUpdate(writer->digest, data, len) == 1);
    while (len > 0) {
        ssize_t put = pwrite(writer->fd, data, len, (off_t)writer->at);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return err_set_errno(err, put < 0 ? errno : ENOSPC, "cannot write the file table");
        data += put;
        len -= (size_t)put;
        writer->at += (uint64_t)put;
    }
    return 0;
}

static int begin(struct table_writer *writer, struct err *err)
{
    char header[HEADER] = {0};

    if (writer->begun)
        return 0;
    writer->begun = true;
    bytes_put_u32(bytes_put(header, MAGIC, 8), TABLE_VERSION);
    return put_out(writer, header, sizeof(header), err);
}

static int flush(struct table_writer *writer, struct err *err)
{
    char *at = writer->stored;
    size_t stored;

    if (writer->used == 0)
        return 0;
    stored = ZSTD_compress(writer->stored + BLOCK_HEADER, sizeof(writer->stored) - BLOCK_HEADER,
                           writer->plain, writer->used, LEVEL);
    OGEL_CHECK(!ZSTD_isError(stored));
    at = bytes_put_u32(at, (uint32_t)writer->used);
    at = bytes_put_u32(at, (uint32_t)stored);
    slice_hash(writer->plain, writer->used, (uint8_t *)at);
    writer->used = 0;
    return put_out(writer, writer->stored, BLOCK_HEADER + stored, err);
}

int table_write(struct table_writer *writer, const struct table_entry *entry, struct err *err)
{
    size_t path_len = strlen(entry->path);
    char *at = writer->plain + writer->used;

    if (!table_path_valid(entry->path))
        return err_set(err, ERR_INVALID, "file \"%.200s\" has a name that cannot be stored",
                       entry->path);
    OGEL_CHECK(entry->map == NULL || entry->map_len <= TABLE_INLINE_MAX);
    if (begin(writer, err) < 0)
        return -1;
    *at++ = (char)entry->type;
    at = bytes_put_u16(at, (uint16_t)path_len);
    at = bytes_put_u32(at, entry->mode);
    at = bytes_put(at, entry->path, path_len);
    if (entry->type == TABLE_FILE) {
        at = bytes_put_u64(at, entry->size);
        at = bytes_put_u32(at, entry->map_len);
        *at++ = entry->map != NULL ? MAP_HERE : MAP_ELSEWHERE;
        if (entry->map != NULL) {
            at = bytes_put(at, entry->map, entry->map_len);
        } else {
            at = bytes_put(at, entry->map_owner, SNAPSHOT_ID_LEN);
            at = bytes_put(at, entry->map_digest, MAP_DIGEST_SIZE);
        }
    }
    writer->entries++;
    writer->used = (size_t)(at - writer->plain);
    return writer->used >= BLOCK_TARGET ? flush(writer, err) : 0;
}

int table_finish(struct table_writer *writer, uint64_t *size, uint8_t digest[TABLE_DIGEST_SIZE],
                 struct err *err)
{
    char end[BLOCK_HEADER] = {0};

    bytes_put_u64(end + 8, writer->entries);
    if (begin(writer, err) < 0 || flush(writer, err) < 0 ||
        put_out(writer, end, sizeof(end), err) < 0)
        return -1;
    OGEL_CHECK(EVP_DigestFinal_ex(writer->digest, digest, NULL) == 1);
    *size = writer->at;
    return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

struct table_reader {
    int fd;
    uint64_t size;
    uint64_t block;   /* where the block at hand begins; 0: none is */
    uint64_t next;    /* where the one after it begins */
    uint64_t entries; /* given since the begin, unless somebody sought */
    bool sought;
    size_t len, at; /* of the block at hand */
    char plain[BLOCK_MAX];
    char stored[BLOCK_MAX + 1024];
};

static int damaged(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the file table %s", what);
}

static int read_at(const struct table_reader *reader, uint64_t at, void *buf, size_t len,
                   struct err *err)
{
    size_t have = 0;

    if (at + len > reader->size)
        return damaged(err, "is truncated");
    while (have < len) {
        ssize_t got = pread(reader->fd, (char *)buf + have, len - have, (off_t)(at + have));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set_errno(err, errno, "cannot read the file table");
        if (got == 0)
            return damaged(err, "is truncated");
        have += (size_t)got;
    }
    return 0;
}

int table_open(int fd, uint64_t size, struct table_reader **out, struct err *err)
{
    struct table_reader *reader = xcalloc(1, sizeof(*reader));
    char header[HEADER];
    uint32_t version;
    int rc;

    *out = NULL;
    reader->fd = fd;
    reader->size = size;
    reader->next = HEADER;
    rc = read_at(reader, 0, header, sizeof(header), err);
    version = rc == 0 ? bytes_get_u32(header + 8) : 0;
    if (rc == 0 && memcmp(header, MAGIC, 8) != 0)
        rc = damaged(err, "does not begin like one");
    else if (rc == 0 && version > TABLE_VERSION)
        rc = err_set(err, ERR_INVALID,
                     "the file table has format %" PRIu32 ", this program reads up to %d: use a "
                     "newer one",
                     version, TABLE_VERSION);
    else if (rc == 0 && (version == 0 || bytes_get_u32(header + 12) != 0))
        rc = damaged(err, "has a damaged header");
    if (rc < 0)
        table_close(reader);
    else
        *out = reader;
    return rc;
}

void table_close(struct table_reader *reader)
{
    free(reader);
}

static int check_end(const struct table_reader *reader, const char *header, struct err *err)
{
    if (reader->next + BLOCK_HEADER != reader->size)
        return damaged(err, "goes on behind its end");
    if (bytes_get_u32(header + 4) != 0 || bytes_get_u64(header + 16) != 0)
        return damaged(err, "has a damaged end");
    if (!reader->sought && bytes_get_u64(header + 8) != reader->entries)
        return damaged(err, "lacks entries");
    return 0;
}

/* 1 with the next block at hand, 0 at the end. */
static int read_block(struct table_reader *reader, struct err *err)
{
    char header[BLOCK_HEADER];
    uint8_t hash[SLICE_HASH_SIZE];
    uint32_t plain, stored;
    size_t got;

    if (read_at(reader, reader->next, header, sizeof(header), err) < 0)
        return -1;
    plain = bytes_get_u32(header);
    stored = bytes_get_u32(header + 4);
    if (plain == 0)
        return check_end(reader, header, err);
    if (plain > sizeof(reader->plain) || stored > sizeof(reader->stored))
        return damaged(err, "has a block with a damaged length");
    if (read_at(reader, reader->next + BLOCK_HEADER, reader->stored, stored, err) < 0)
        return -1;
    got = ZSTD_decompress(reader->plain, sizeof(reader->plain), reader->stored, stored);
    if (ZSTD_isError(got) || got != plain)
        return damaged(err, "has a block that does not decompress");
    slice_hash(reader->plain, plain, hash);
    if (memcmp(hash, header + 8, SLICE_HASH_SIZE) != 0)
        return damaged(err, "has a block with other content than was written: its hash is wrong");
    reader->block = reader->next;
    reader->next += BLOCK_HEADER + stored;
    reader->len = plain;
    reader->at = 0;
    return 1;
}

/* LEN more bytes of the entry, or NULL where the block ends before. */
static const char *take(struct table_reader *reader, size_t len)
{
    const char *at = reader->plain + reader->at;

    if (len > reader->len - reader->at)
        return NULL;
    reader->at += len;
    return at;
}

static int read_map(struct table_reader *reader, struct table_entry *entry)
{
    const char *at = take(reader, 13);

    if (at == NULL)
        return -1;
    entry->size = bytes_get_u64(at);
    entry->map_len = bytes_get_u32(at + 8);
    if (at[12] == MAP_HERE) {
        if (entry->map_len > TABLE_INLINE_MAX)
            return -1;
        entry->map = take(reader, entry->map_len);
        return entry->map != NULL ? 0 : -1;
    }
    if (at[12] != MAP_ELSEWHERE || (at = take(reader, SNAPSHOT_ID_LEN + MAP_DIGEST_SIZE)) == NULL)
        return -1;
    memcpy(entry->map_owner, at, SNAPSHOT_ID_LEN);
    memcpy(entry->map_digest, at + SNAPSHOT_ID_LEN, MAP_DIGEST_SIZE);
    return snapshot_id_valid(entry->map_owner) ? 0 : -1;
}

int table_next(struct table_reader *reader, struct table_entry *entry, struct err *err)
{
    const char *at;
    size_t path_len;

    memset(entry, 0, sizeof(*entry));
    if (reader->at == reader->len) {
        int rc = read_block(reader, err);

        if (rc <= 0)
            return rc;
    }
    at = take(reader, 7);
    if (at == NULL || (at[0] != TABLE_DIRECTORY && at[0] != TABLE_FILE))
        return damaged(err, "has a damaged entry");
    entry->type = (enum table_type)at[0];
    path_len = bytes_get_u16(at + 1);
    entry->mode = bytes_get_u32(at + 3);
    if (path_len > TABLE_PATH_MAX || (at = take(reader, path_len)) == NULL)
        return damaged(err, "has an entry with a damaged name");
    memcpy(entry->path, at, path_len);
    if (strlen(entry->path) != path_len || !table_path_valid(entry->path) || entry->mode > 07777)
        return damaged(err, "has an entry whose name or mode is not allowed");
    if (entry->type == TABLE_FILE && read_map(reader, entry) < 0)
        return damaged(err, "has an entry with a damaged map");
    reader->entries++;
    return 1;
}

struct table_place table_tell(const struct table_reader *reader)
{
    if (reader->at == reader->len)
        return (struct table_place){reader->next, 0};
    return (struct table_place){reader->block, (uint32_t)reader->at};
}

int table_seek(struct table_reader *reader, struct table_place place, struct err *err)
{
    reader->sought = true;
    if (reader->block != place.block || reader->len == 0) {
        int rc;

        reader->next = place.block;
        rc = read_block(reader, err);
        if (rc <= 0) {
            reader->len = reader->at = 0;
            return rc < 0 ? -1 : damaged(err, "was left at a place where it has no entry");
        }
    }
    if (place.within >= reader->len)
        return damaged(err, "was left at a place where it has no entry");
    reader->at = place.within;
    return 0;
}
