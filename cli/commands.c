#include "cli/commands.h"

#include <string.h>

const struct arg_row ctl_global_options[] = {
    {"config", 'c', "FILE",
     "Configuration file, instead of $OGELCTL_CONFIG, "
     "~/.config/ogel/ctl.yaml or /etc/ogel/ctl.yaml.",
     "@file", false},
    {"orchestrator", 0, "HOST:PORT",
     "Where an orchestrator listens, instead of those in the file; "
     "may be given more than once: the next is asked when one does not answer.",
     NULL, false},
    {"token-file", 0, "FILE", "File with the bearer token, instead of the one in the file.",
     "@file", false},
    {"cluster", 0, "NAME", "The cluster that is meant; not needed where there is only one.", NULL,
     false},
    {"output", 'o', "FORMAT", "table, for people (the default), or json, for programs.",
     "table json", false},
    {"timeout", 0, "DURATION", "How long to wait for an action or an answer (default 60s).", NULL,
     false},
    {"yes", 'y', NULL, "Do not ask: the answer is yes.", NULL, false},
    {"no-color", 0, NULL, "No colours, also on a terminal.", NULL, false},
    {"help", 'h', NULL, "Print help, on a command where one is named, and exit.", NULL, false},
    {"version", 'V', NULL, "Print the version and exit.", NULL, false},
    {"print-man", 0, NULL, "Print the manual page in roff and exit.", NULL, true},
    {0},
};

const struct ctl_command *const ctl_commands[] = {
    &cmd_init,       &cmd_status,   &cmd_watch,      &cmd_connect, &cmd_events,
    &cmd_switchover, &cmd_failover, &cmd_restart,    &cmd_node,    &cmd_maintenance,
    &cmd_config,     &cmd_snapshot, &cmd_completion, &cmd_version, NULL,
};

const struct ctl_command *ctl_command_find(const char *name)
{
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        if (strcmp(ctl_commands[i]->name, name) == 0)
            return ctl_commands[i];
    }
    return NULL;
}
