/* The commands, one file each: cmd_<name>.c. */
#ifndef OGEL_CLI_COMMANDS_H
#define OGEL_CLI_COMMANDS_H

#include "cli/cli.h"

extern const struct ctl_command cmd_completion;
extern const struct ctl_command cmd_config;
extern const struct ctl_command cmd_connect;
extern const struct ctl_command cmd_events;
extern const struct ctl_command cmd_failover;
extern const struct ctl_command cmd_init;
extern const struct ctl_command cmd_maintenance;
extern const struct ctl_command cmd_node;
extern const struct ctl_command cmd_restart;
extern const struct ctl_command cmd_snapshot;
extern const struct ctl_command cmd_status;
extern const struct ctl_command cmd_switchover;
extern const struct ctl_command cmd_version;
extern const struct ctl_command cmd_watch;

#endif
