/* What is too big for memory, in a file without a name that goes away with its descriptor. */
#ifndef OGEL_SNAPSHOTS_SPOOL_H
#define OGEL_SNAPSHOTS_SPOOL_H

#include "base/err.h"
#include "snapshots/manifest.h"
#include "snapshots/store.h"

/* In $TMPDIR or /var/tmp. The descriptor, or -1 with err. */
int spool_open(struct err *err);

/* The file table of a snapshot, as its manifest describes it, into a new spool; ERR_CORRUPT if it
 * is not the one. */
OGEL_MUST_CHECK int spool_file_table(struct store *store, const struct manifest *manifest, int *fd,
                                     struct err *err);

/* The same where the manifest is gone: *SIZE is the table's, whose blocks' own hashes are all that
 * a reader has. ERR_NOT_FOUND: there is none. */
OGEL_MUST_CHECK int spool_orphan_table(struct store *store, const char *id, int *fd, uint64_t *size,
                                       struct err *err);

#endif
