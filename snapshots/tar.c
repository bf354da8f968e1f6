#include "snapshots/tar.h"

#include <stdbool.h>
#include <string.h>

#include "snapshots/pack.h"

/* POSIX.1-1988 (ustar), "Archive format". */
enum {
    AT_MODE = 100,
    AT_SIZE = 124,
    AT_CHECKSUM = 148,
    AT_TYPE = 156,
    AT_MAGIC = 257,
    NAME_LEN = 100,
};

/* Octal digits, ended by a blank or a NUL; or, what does not fit into them, with the first bit set,
 * base 256. */
static bool read_number(const char *field, size_t len, uint64_t *value)
{
    *value = 0;
    if ((unsigned char)field[0] & 0x80) {
        for (size_t i = 1; i < len; i++) {
            if (*value >> 55 != 0)
                return false;
            *value = *value << 8 | (unsigned char)field[i];
        }
        return field[0] == (char)0x80;
    }
    for (size_t i = 0; i < len && field[i] != ' ' && field[i] != '\0'; i++) {
        if (field[i] < '0' || field[i] > '7')
            return false;
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    }
    return true;
}

static bool checksum_right(const char *header)
{
    uint64_t said, sum = 0;

    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : (unsigned char)header[i];
    return read_number(header + AT_CHECKSUM, 8, &said) && said == sum;
}

static int read_header(const char *header, struct tar_entry *entry, struct err *err)
{
    uint64_t mode;
    size_t len, begin;

    if (memcmp(header + AT_MAGIC, "ustar", 5) != 0 || !checksum_right(header))
        return err_set(err, ERR_CORRUPT, "the base backup's stream is no tar archive here");
    memset(entry, 0, sizeof(*entry));
    /* The server writes some names as "./pg_wal". */
    begin = memcmp(header, "./", 2) == 0 ? 2 : 0;
    memcpy(entry->name, header + begin, NAME_LEN - begin);
    len = strlen(entry->name);
    while (len > 0 && entry->name[len - 1] == '/')
        entry->name[--len] = '\0';
    if (len == 0 || len == NAME_LEN || !read_number(header + AT_MODE, 8, &mode) ||
        !read_number(header + AT_SIZE, 12, &entry->size))
        return err_set(err, ERR_CORRUPT, "the base backup has an entry with a damaged header");
    entry->mode = (uint32_t)(mode & 07777);
    switch (header[AT_TYPE]) {
    case '\0':
    case TAR_FILE: entry->type = TAR_FILE; return 0;
    case TAR_LINK:
    case TAR_DIRECTORY:
        entry->type = (enum tar_type)header[AT_TYPE];
        entry->size = 0;
        return 0;
    default:
        return err_set(err, ERR_CORRUPT,
                       "the base backup has an entry \"%s\" of the unknown type %d", entry->name,
                       header[AT_TYPE]);
    }
}

static int take_header(struct tar *tar, const struct tar_handler *handler, void *arg,
                       struct err *err)
{
    struct tar_entry entry;

    tar->have = 0;
    if (slice_is_zero(tar->header, TAR_BLOCK)) {
        tar->zero_blocks++;
        return 0;
    }
    if (tar->zero_blocks > 0)
        return err_set(err, ERR_CORRUPT, "the base backup goes on behind its end");
    if (read_header(tar->header, &entry, err) < 0 || handler->begin(arg, &entry, err) < 0)
        return -1;
    if (entry.type != TAR_FILE)
        return 0;
    tar->content = entry.size;
    tar->padding = (uint32_t)((TAR_BLOCK - entry.size % TAR_BLOCK) % TAR_BLOCK);
    return entry.size == 0 ? handler->end(arg, err) : 0;
}

static int take_content(struct tar *tar, const char *data, size_t len,
                        const struct tar_handler *handler, void *arg, struct err *err)
{
    if (handler->data(arg, data, len, err) < 0)
        return -1;
    tar->content -= len;
    return tar->content == 0 ? handler->end(arg, err) : 0;
}

int tar_feed(struct tar *tar, const char *data, size_t len, const struct tar_handler *handler,
             void *arg, struct err *err)
{
    while (len > 0) {
        size_t part;

        if (tar->content > 0) {
            part = tar->content < len ? (size_t)tar->content : len;
            if (take_content(tar, data, part, handler, arg, err) < 0)
                return -1;
        } else if (tar->padding > 0) {
            part = tar->padding < len ? tar->padding : len;
            tar->padding -= (uint32_t)part;
        } else {
            part = TAR_BLOCK - tar->have < len ? TAR_BLOCK - tar->have : len;
            memcpy(tar->header + tar->have, data, part);
            tar->have += part;
            if (tar->have == TAR_BLOCK && take_header(tar, handler, arg, err) < 0)
                return -1;
        }
        data += part;
        len -= part;
    }
    return 0;
}

int tar_end(const struct tar *tar, struct err *err)
{
    if (tar->content > 0 || tar->padding > 0 || tar->have > 0)
        return err_set(err, ERR_CORRUPT, "the base backup ends in the middle of a file");
    return 0;
}
