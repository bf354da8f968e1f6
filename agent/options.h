/* The configuration of ogel-agent: one table gives each option's name, type, default, bounds and
 * help; --help, the sample file and the man page come from it. */
#ifndef OGEL_AGENT_OPTIONS_H
#define OGEL_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/reconcile.h"
#include "base/conf.h"
#include "base/err.h"
#include "protocol/types.h"

enum { SECRET_SIZE = 257 };

enum password {
    PASSWORD_SUPERUSER,
    PASSWORD_REPLICATION,
    PASSWORD_REWIND,
    PASSWORD_MONITOR,
    PASSWORD_OWNER,
    PASSWORD_COUNT
};

enum token { TOKEN_READ, TOKEN_ADMIN, TOKEN_PEER, TOKEN_COUNT };

/* What stands in the files that the options name. */
struct secrets {
    char password[PASSWORD_COUNT][SECRET_SIZE];
    char token[TOKEN_COUNT][SECRET_SIZE];
};

struct postgres_options {
    char *host;
    int64_t port;
};

/* Of snapshot tasks; all of them may change with a reload. */
struct snapshot_options {
    char *credentials_file;    /* NULL: none */
    char *temporary_directory; /* NULL: ogelctl's own default */
    int64_t jobs;              /* 0: the same */
};

struct agent_options {
    char *cluster;
    char *node;
    struct units_address listen;
    char *data_directory;
    char *state_directory;
    char *postgres_bindir;
    struct postgres_options postgres;
    struct {
        char *path[TOKEN_COUNT];
    } tokens;
    struct {
        char *path[PASSWORD_COUNT];
    } passwords;
    struct snapshot_options snapshots;
    bool metrics_open;
    int64_t memory_percent;
    char *locale;
    char *cgroup;
    int64_t fence_timeout_ms;
    int64_t stop_timeout_ms;
    int64_t checkpoint_timeout_ms;
    int64_t receiver_timeout_ms;
    int64_t position_timeout_ms;
    int64_t recheck_timeout_ms;
    int64_t start_backoff_ms;
    int64_t probe_interval_ms;
    int64_t replication_timeout_ms;
    int log_level;
};

/* Read once at the start; SIGHUP reads log_level, options.snapshots and the secrets again. */
struct agent_config {
    struct agent_options options;
    char ids[NODE_COUNT][NODE_ID_SIZE];      /* the slots: the three ids in ascending order */
    int32_t self;                            /* this node's slot */
    struct units_address agents[NODE_COUNT]; /* where each agent listens; own slot: listen */
    char socket_directory[256];              /* of Postgres, below state_directory */
    char os_user[64];
};

extern const struct opt agent_option_table[];

/* Reads and checks FILE; errors name file and line. Free with agent_config_free(), also on failure.
 */
OGEL_MUST_CHECK int agent_config_load(const char *file, struct agent_config *config,
                                      struct err *err);
void agent_config_free(struct agent_config *config);

/* Reads every password and token file. Blocks as long as the disk does. */
OGEL_MUST_CHECK int agent_secrets_load(const struct agent_config *config, struct secrets *secrets,
                                       struct err *err);

/* The timeouts as the core takes them. */
struct options agent_core_options(const struct agent_config *config);

/* Slot of a node id; NODE_NONE for any other text. */
int32_t agent_config_slot(const struct agent_config *config, const char *id);

#endif
