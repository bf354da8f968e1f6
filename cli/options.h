/* Where the orchestrators are and which token to show: command line over file over defaults. */
#ifndef OGEL_CLI_OPTIONS_H
#define OGEL_CLI_OPTIONS_H

#include "base/conf.h"
#include "cli/cli.h"

/* Fills CTL from the global options and the configuration file: --config or $OGELCTL_CONFIG, which
 * must be there, else the first of $XDG_CONFIG_HOME/ogel/ctl.yaml (~/.config where that is not set)
 * and /etc/ogel/ctl.yaml that exists. ERR_INVALID, ERR_NOT_FOUND or ERR_AUTH names file and line,
 * or the option. */
OGEL_MUST_CHECK int options_load(struct ctl *ctl, const struct args *args, struct err *err);

/* The same for a command that needs no orchestrator: output, timeout and colours; no file is looked
 * for. */
OGEL_MUST_CHECK int options_load_local(struct ctl *ctl, const struct args *args, struct err *err);

/* What may stand in the file, for the manual. */
extern const struct opt ctl_option_table[];

#endif
