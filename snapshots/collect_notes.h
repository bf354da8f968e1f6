/* What a collector noted for its next run, in an object gc/OBSERVER of its own: since when it has
 * seen each thing as it is now. docs/snapshot-format.md, "Notes of a collector". */
#ifndef OGEL_SNAPSHOTS_COLLECT_NOTES_H
#define OGEL_SNAPSHOTS_COLLECT_NOTES_H

#include "base/err.h"
#include "snapshots/keyset.h"
#include "snapshots/store.h"

enum { NOTES_MAX = 200000, NOTES_BYTES_MAX = 64 * 1024 * 1024 };

/* Names of objects, and the observer's time since when. What can change has a digest of its content
 * behind its name and a "#". */
struct collect_notes {
    struct keyset since;
};

void notes_free(struct collect_notes *notes); /* what it holds */

/* Those of OBSERVER; none where there are none, or where they cannot be read: then all waits anew.
 */
OGEL_MUST_CHECK int notes_load(struct store *store, const char *observer,
                               struct collect_notes *notes, struct err *err);

/* No more than NOTES_MAX; what is left out waits longer. */
OGEL_MUST_CHECK int notes_save(struct store *store, const char *observer,
                               const struct collect_notes *notes, struct err *err);

#endif
