/*
 * How each step of the core is carried out. Runs in worker threads, may block, knows nothing of the
 * loop: what it needs comes in with struct step_run, what it found goes out with it.
 *
 *   steps.c        which step is done how; the promise file, processes, history files
 *   steps_conf.c   the managed configuration that belongs to a struct replication
 *   steps_sql.c    what needs the running server
 *   roles.c        roles and the application's database
 *   child.c        initdb, pg_rewind, pg_basebackup
 */
#ifndef OGEL_AGENT_STEPS_H
#define OGEL_AGENT_STEPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/child.h"
#include "agent/memory.h"
#include "agent/options.h"
#include "agent/postmaster.h"
#include "agent/reconcile.h"
#include "base/err.h"

struct pg_conn;
struct slotfile;

enum { STEP_NAMES_SIZE = 512 };

/* What outlasts a step, in the thread of the steps alone. */
struct hands {
    const struct agent_config *config;
    int pg_major;
    struct memory_plan memory;
    uint64_t disk_total_bytes;
    struct slotfile *promise;
    struct slotfile *document;
    struct pg_conn *sql;       /* local superuser; kept open so that no step waits for a fork */
    struct pg_conn *walsender; /* the same for replication commands */
    uint64_t life;             /* of the server those belong to */
    struct roles_cache *roles;
    pid_t server_pid, child_pid; /* last started: not orphans */
};

/* What the data directory and its processes look like. */
struct look {
    bool present;
    bool foreign;
    uint64_t data_id;
    bool clean;       /* stopped after a clean shutdown */
    bool was_primary; /* stopped, and was one before */
    uint64_t system_id;
    enum postmaster_found found;
    struct postmaster pm; /* found == POSTMASTER_RUNNING; the receiver's to release */
};

struct step_run {
    void *owner; /* the dispatcher's */

    /* in */
    struct hands *hands;
    struct step step;
    struct durable durable; /* as it is while the step runs */
    json_t *document;       /* borrowed, never changed; NULL: none */
    const struct secrets *secrets;
    uint64_t life;        /* of the server */
    struct postmaster pm; /* its pidfd is this run's own; pid 0: none */
    enum pg_state pg;
    bool in_recovery;
    bool clean;                     /* not running, after a clean shutdown */
    struct replication replication; /* as written */
    const uint32_t *at_least;       /* of pgdata_need_names; NULL: not known */
    struct position record_end;
    struct address upstream; /* of step.replication.upstream, or the clone's source */
    /* a CLONE from a snapshot; copies, for a reload may change the options meanwhile */
    struct snapshot_options snapshots;
    bool leader_known;
    struct lineage leader_lineage; /* as the leader reports it */

    /* out */
    int rc;
    struct err err;
    struct look look; /* STEP_START: .pm of the new server */
    struct position position;
    struct position end;
    struct position consistent; /* READ_POSITION of a stopped server */
    uint64_t replay_lsn;
    struct lineage lineage;
    uint32_t newest_history; /* READ_POSITION of a running server */
    bool receivers;
    bool promoted;
    bool names_ok;
    char names[STEP_NAMES_SIZE]; /* REPLICATION, START: as written; CHECK_NAMES: as shown */
    unsigned conf_changed;
    uint8_t digest[32]; /* of the files that REPLICATION and START wrote */
    struct child_process child;
    char note[CAUSE_SIZE]; /* for the event's text; "" if there is nothing to add */
};

/* Carries out run->step; arg is a struct step_run. For worker_run(). */
void step_execute(void *run);

/* Opens the sessions that a fence and an election will need, of a standby that is well now: then no
 * step has to wait for a fork while nobody leads. Nothing is lost where it fails. arg as above. */
void step_warm_up(void *run);

/* Looks at the data directory; with KILL_REMAINS it first ends what a dead postmaster left behind,
 * and a server that was not started with the managed configuration. */
OGEL_MUST_CHECK int step_look(struct hands *hands, bool kill_remains, struct look *look,
                              struct err *err);

/* --- for the step files themselves
 * ------------------------------------------------------------------ */

/* Writes the whole managed configuration for REPLICATION; run->names and run->conf_changed say what
 * came of it. The key is taken first and given last. */
OGEL_MUST_CHECK int conf_write(struct step_run *run, const struct replication *replication);

/* SHA-256 of the files in STATE_DIRECTORY that say where to stream from and who may: all zero where
 * one cannot be read. */
void conf_digest(const char *state_directory, uint8_t digest[32]);

/* Has Postgres read DOCUMENT's settings without using them. */
OGEL_MUST_CHECK int conf_check(struct step_run *run);

/* A local session that stays open: run->hands->sql or ->walsender. NULL with run->err. */
struct pg_conn *step_sql(struct step_run *run);
struct pg_conn *step_walsender(struct step_run *run);

OGEL_MUST_CHECK int step_read_position_online(struct step_run *run);
OGEL_MUST_CHECK int step_unblock_replay(struct step_run *run);
OGEL_MUST_CHECK int step_check_names(struct step_run *run);
OGEL_MUST_CHECK int step_promote(struct step_run *run);
OGEL_MUST_CHECK int step_end_old_senders(struct step_run *run);
OGEL_MUST_CHECK int step_checkpoint(struct step_run *run);
void step_nudge(struct step_run *run); /* a local commit: waiters see changed names */

/* roles.c. Idempotent; a few statements where nothing is to do. */
OGEL_MUST_CHECK int step_roles(struct step_run *run);

#define STEP_CALL_MS 5000 /* deadline of a statement that ought to be quick */

#endif
