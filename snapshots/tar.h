/* The tar archives of BASE_BACKUP, read as they come: ustar as PostgreSQL's server writes it (names
 * of at most 99 bytes, files, directories and symbolic links). */
#ifndef OGEL_SNAPSHOTS_TAR_H
#define OGEL_SNAPSHOTS_TAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { TAR_BLOCK = 512 };

enum tar_type { TAR_FILE = '0', TAR_LINK = '2', TAR_DIRECTORY = '5' };

struct tar_entry {
    enum tar_type type;
    char name[101]; /* without a slash at its end */
    uint32_t mode;  /* permission bits */
    uint64_t size;  /* of a file */
};

/* Each returns 0, or -1 with err, which ends the reading. */
struct tar_handler {
    int (*begin)(void *arg, const struct tar_entry *entry, struct err *err);
    int (*data)(void *arg, const char *data, size_t len, struct err *err); /* of a file */
    int (*end)(void *arg, struct err *err);                                /* of a file */
};

/* One archive; zero-initialised it is at its begin. */
struct tar {
    char header[TAR_BLOCK];
    size_t have;      /* of the header */
    uint64_t content; /* of the file at hand that is still to come */
    uint32_t padding; /* after it */
    int zero_blocks;  /* two end an archive */
};

/* LEN more bytes of the archive. ERR_CORRUPT for what is no such archive. */
OGEL_MUST_CHECK int tar_feed(struct tar *tar, const char *data, size_t len,
                             const struct tar_handler *handler, void *arg, struct err *err);

/* The archive ends here: ERR_CORRUPT if it should not. */
OGEL_MUST_CHECK int tar_end(const struct tar *tar, struct err *err);

#endif
