/* ogelctl snapshot through an orchestrator: it has an agent of the cluster do it. Where --store,
 * $OGEL_STORE or --conninfo is given, cmd_snapshot.c does it itself. */
#ifndef OGEL_CLI_SNAPSHOT_ORDERS_H
#define OGEL_CLI_SNAPSHOT_ORDERS_H

#include "cli/cli.h"

/* Whether the orchestrator is meant. */
bool snapshot_is_order(const struct args *args);

/* Reads the configuration of ogelctl itself. */
enum ctl_exit snapshot_order(struct ctl *ctl, const struct args *args, struct err *err);

#endif
