/* The verbs of ogelctl snapshot that have files of their own. Each returns how the program ends; an
 * error's code becomes that by snapshot_exit_of(). */
#ifndef OGEL_CLI_SNAPSHOT_VERBS_H
#define OGEL_CLI_SNAPSHOT_VERBS_H

#include "cli/cli.h"
#include "snapshots/catalog.h"
#include "snapshots/marks.h"
#include "snapshots/progress.h"
#include "snapshots/store.h"

/* cmd_snapshot.c */
enum ctl_exit snapshot_exit_of(const struct err *err);
OGEL_MUST_CHECK int snapshot_take_number(const struct args *args, const char *name, int max,
                                         int *value, struct err *err);
/* --renew, as ms; 0 where it was not given. */
OGEL_MUST_CHECK int snapshot_take_renew(const struct args *args, int64_t *renew_ms,
                                        struct err *err);
/* Prints "ogelctl: warning: WHAT: …" unless there is none. */
void snapshot_warn(const char *what, const struct err *warning);

/* cmd_snapshot_keep.c */
enum ctl_exit snapshot_delete(struct ctl *ctl, struct store *store, const char *id,
                              struct err *err);
enum ctl_exit snapshot_pin(const struct ctl *ctl, const struct args *args, struct store *store,
                           const char *id, struct err *err);
enum ctl_exit snapshot_unpin(const struct ctl *ctl, struct store *store, const char *id,
                             struct err *err);
enum ctl_exit snapshot_gc(struct ctl *ctl, const struct args *args, struct store *store,
                          struct err *err);

/* cmd_snapshot_drill.c; ID NULL: the newest whole one. */
enum ctl_exit snapshot_drill(struct ctl *ctl, const struct args *args, struct store *store,
                             const char *id, snapshot_progress_fn *progress, void *progress_arg,
                             struct err *err);

#endif
