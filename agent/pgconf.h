/*
 * The managed configuration of Postgres. It lives in <state_dir>/conf, outside PGDATA, where
 * neither pg_rewind nor pg_basebackup touches it:
 *
 *   postgresql.conf   defaults that users may override; include users.conf; what replication needs;
 *                     include ogel.conf. The last one wins.
 *   users.conf        the settings of the cluster document, without those that are refused
 *   ogel.conf         the part that changes with the node's role
 *   pg_hba.conf, pg_ident.conf
 *   passfile          the key: what the receiver authenticates with. Blank: no new receiver can.
 *
 * Files are replaced atomically and durably, and only when their content changes – except
 * ogel.conf, which failovers wait for: a crash of the machine may bring its old content back.
 * Nobody starts Postgres but the agent, and each start writes it anew; what must hold by itself
 * then is the key. postgresql.auto.conf overrides all of them: see pgdata_auto_conf_strip().
 */
#ifndef OGEL_AGENT_PGCONF_H
#define OGEL_AGENT_PGCONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/memory.h"
#include "base/err.h"

/* N where a node does not lead: a name that no standby can have (names are ogel_<node>_i…). */
#define PGCONF_NOBODY "ANY 1 (ogel_nobody)"

struct pgconf_setting {
    const char *name;
    const char *value;
};

struct pgconf {
    /* this machine */
    int pg_major; /* of the server: settings that older ones do not know are left out */
    const char *datadir;
    const char *state_dir;
    const char *socket_dir;    /* made with mode 0700 */
    const char *os_user;       /* may connect as superuser through the socket (peer) */
    uint64_t disk_total_bytes; /* of the file system of pg_wal */
    struct memory_plan memory;
    int timeout_ms; /* wal_sender_timeout, wal_receiver_timeout; 0: 5000 */

    /* the cluster */
    const char *cluster_name;     /* shown in titles and logs; <= 32 bytes */
    const char *listen_addresses; /* "127.0.0.1,::1" */
    uint16_t port;
    const struct pgconf_setting *settings; /* the document's; refused ones are left out */
    size_t setting_count;
    const uint32_t *at_least; /* of pgdata_need_names: what a standby must have; NULL: not known */
    const char *const *hba;   /* the document's; refused ones are left out */
    size_t hba_count;

    /* roles; all in access rules only */
    const char *superuser;
    const char *monitor_role;             /* probes of peers and orchestrators; NULL: none */
    const char *rewind_role;              /* NULL: none */
    const char *replication_group;        /* role all receivers' roles are members of; NULL: none */
    const char *const *replication_roles; /* that may replicate from here, exactly these */
    size_t replication_role_count;
    const char *const *replication_from; /* addresses of pg_hba; none given: "all" */
    size_t replication_from_count;

    /* the part that changes with the role */
    const char *sync_names;    /* pgconf_sync_names() or PGCONF_NOBODY; NULL is PGCONF_NOBODY */
    const char *upstream_host; /* NULL: no upstream, the fence */
    uint16_t upstream_port;
    const char *upstream_user;
    const char *application_name;
};

enum pgconf_change {
    PGCONF_CHANGED_STATIC =
        1,                    /* postgresql.conf: parts of it want a restart, see pending_restart */
    PGCONF_CHANGED_USERS = 2, /* users.conf: the same */
    PGCONF_CHANGED_DYNAMIC = 4, /* ogel.conf: a reload */
    PGCONF_CHANGED_ACCESS = 8,  /* pg_hba.conf, pg_ident.conf: a reload */
};

/* Paths below STATE_DIR into BUF; return BUF. */
enum { PGCONF_PATH_SIZE = 1024 };
const char *pgconf_path(const char *state_dir, char buf[PGCONF_PATH_SIZE]); /* postgresql.conf */
const char *pgconf_passfile_path(const char *state_dir, char buf[PGCONF_PATH_SIZE]);
const char *pgconf_log_dir(const char *state_dir, char buf[PGCONF_PATH_SIZE]);

/* Makes the directories, writes what differs and returns it in *CHANGED (enum pgconf_change,
 * or-ed). ERR_INVALID where a value cannot be written safely (line breaks, a socket path above 107
 * bytes). */
OGEL_MUST_CHECK int pgconf_write(const struct pgconf *conf, unsigned *changed, struct err *err);

/* Only ogel.conf. */
OGEL_MUST_CHECK int pgconf_write_dynamic(const struct pgconf *conf, unsigned *changed,
                                         struct err *err);

/* The key to one server: no receiver that was made for another can use it, however late. */
struct pgconf_key {
    const char *host; /* as in the conninfo */
    uint16_t port;
    const char *user, *password;
};

/* Writes the passfile with that key, or with none at all (NULL). Durable when it returns; what is
 * there already is not written again. */
OGEL_MUST_CHECK int pgconf_passfile_write(const char *state_dir, const struct pgconf_key *key,
                                          struct err *err);

/* Writes the configuration to <state_dir>/check and has `postgres -C` read it: a user's setting
 * that Postgres would not start with is ERR_INVALID with its message. Nothing that is in use
 * changes. */
OGEL_MUST_CHECK int pgconf_check(const struct pgconf *conf, const char *bindir, int64_t timeout_ms,
                                 struct err *err);

/* `ANY 1 (a, b)` of COUNT names, quoted where needed; PGCONF_NOBODY for none. Caller frees. */
char *pgconf_sync_names(const char *const *names, size_t count) OGEL_MUST_CHECK;

/* The connection string of the upstream, with its values quoted; "" without one. Caller frees. */
char *pgconf_primary_conninfo(const struct pgconf *conf) OGEL_MUST_CHECK;

/* Is this setting of a user's one that would break a guarantee or belongs to the agent? *REASON
 * then says why and what to do instead; static text. Names are compared without case. With VALUE
 * NULL only those are refused that are with every value. */
bool pgconf_setting_refused(const char *name, const char *value, const char **reason);

/* The same for a line of pg_hba.conf: lines that touch replication, includes, line breaks. */
bool pgconf_hba_refused(const char *line, const char **reason);

/* Removes the oldest log files while all together exceed MAX_BYTES; the newest always stays.
 * Postgres rotates by size and age but removes nothing: call now and then. */
OGEL_MUST_CHECK int pgconf_log_prune(const char *state_dir, uint64_t max_bytes, struct err *err);

/* wal_keep_size for a disk of that size, in MiB: a 32nd, from 64 MiB to 8 GiB. Beyond it a follower
 * is re-cloned; a slot would fill the disk instead. */
uint64_t pgconf_wal_keep_mib(uint64_t disk_total_bytes);

#endif
