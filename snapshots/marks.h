/*
 * What is known of snapshots besides their manifests: small objects in the store that say that one
 * was verified or drilled, and pins. docs/snapshot-format.md, "Marks" and "Pins".
 */
#ifndef OGEL_SNAPSHOTS_MARKS_H
#define OGEL_SNAPSHOTS_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/names.h"
#include "snapshots/store.h"

enum { MARK_BYTES_MAX = 16384, PIN_NOTE_MAX = 400 };

/* Of one snapshot. */
struct marks_entry {
    char id[SNAPSHOT_ID_SIZE];
    int64_t verified_ms, drilled_ms; /* when; 0: never */
    bool pinned;                     /* by a person */
    char note[PIN_NOTE_MAX + 1];     /* of that pin */
    char job[PIN_NAME_SIZE];         /* a job that pins it; "": none */
    char pin[PIN_NAME_SIZE];         /* some pin, a person's rather than a job's; "": none */
};

struct marks {
    struct marks_entry *entries;
    size_t count, room;
};

/* Reads all of them. One that cannot be read counts as not verified, but as pinned. */
OGEL_MUST_CHECK int marks_load(struct store *store, struct marks *marks, struct err *err);
void marks_free(struct marks *marks); /* what it holds */

/* Never NULL: a snapshot without any has an entry of zeroes. Valid until the next call. */
const struct marks_entry *marks_find(const struct marks *marks, const char *id);

/* Says that the snapshot ID was read as a whole without a fault (PREFIX VERIFIED_PREFIX), or
 * restored, started and looked through (DRILLED_PREFIX). The other way round where it was found to
 * be damaged: both are taken away. */
OGEL_MUST_CHECK int marks_put(struct store *store, const char *prefix, const char *id,
                              double seconds, struct err *err);
OGEL_MUST_CHECK int marks_remove(struct store *store, const char *id, struct err *err);

/* A person's pin: nothing expires or deletes the snapshot ID until it is taken away. ERR_NOT_FOUND:
 * there is no such snapshot (then no pin is left), or no pin. ERR_INVALID: NOTE is too long. */
OGEL_MUST_CHECK int marks_pin(struct store *store, const char *id, const char *note,
                              const char *who, struct err *err);
OGEL_MUST_CHECK int marks_unpin(struct store *store, const char *id, struct err *err);

#endif
