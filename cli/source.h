/* --from-snapshot and --store of the commands that have a node made of a snapshot. */
#ifndef OGEL_CLI_SOURCE_H
#define OGEL_CLI_SOURCE_H

#include <jansson.h>

#include "cli/args.h"

/* Rows of an option table. */
#define SOURCE_ROWS(from_help)                                                                     \
    {"from-snapshot", 0, "ID", from_help, NULL, false},                                            \
    {                                                                                              \
        "store", 0, "URL",                                                                         \
            "With --from-snapshot: where it is kept, as for ogelctl snapshot; default "            \
            "$OGEL_STORE, "                                                                        \
            "else the store of the cluster document. The agents read it, with the file that "      \
            "their "                                                                               \
            "option snapshots.credentials_file names.",                                            \
            NULL, false                                                                            \
    }

/* What was asked for as the body of a request: {"from_snapshot", "store"}, the latter only if it
 * was named; a new reference, an empty object where no snapshot was. ERR_INVALID, and NULL. */
OGEL_MUST_CHECK json_t *source_body(const struct args *args, struct err *err);

#endif
