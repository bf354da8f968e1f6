/*
 * Postgres as a process: started directly, adopted from an earlier agent, signalled through a
 * pidfd, its end and the cause of it. Stateless but for struct postmaster, which the caller owns.
 *
 * Adoption takes the pidfd first and then proves that what it holds is this directory's postmaster:
 * a stale pid file can name another one, and pg_ctl believes it (design section 5, trap 14).
 */
#ifndef OGEL_AGENT_POSTMASTER_H
#define OGEL_AGENT_POSTMASTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { POSTMASTER_CAUSE_SIZE = 160 };

struct postmaster_spec {
    const char *bindir;
    const char *datadir;
    const char *config_file;
    const char *state_dir; /* HOME becomes <state_dir>/home, early stderr <state_dir>/start.log */
    const char
        *socket_dir;    /* where a stale socket's lock file of this server is removed, or NULL */
    const char *cgroup; /* delegated cgroup directory for the server, or NULL */
    int oom_score_adj;  /* of the postmaster; refused without privilege, which is no error */
};

struct postmaster {
    pid_t pid;  /* 0: none */
    int pidfd;  /* readable once it has exited; valid while pid != 0 */
    bool child; /* started by this process: its exit status can be had */
    uint64_t start_ticks;
};

/* All that the caller wants to watch the moment of: PR_SET_CHILD_SUBREAPER for this process, so
 * that no slow reaper's zombie blocks a restart. */
OGEL_MUST_CHECK int postmaster_become_subreaper(struct err *err);

/* Forks and execs `postgres -D datadir --config-file=…` in a session of its own with umask 0077,
 * its own HOME, without PG*, locale and systemd variables, stdin from /dev/null, stdout and stderr
 * to start.log (truncated at each start; the logging collector takes over from there). Its backends
 * get OOM score 0 back. Returns once the exec has succeeded, not when connections are accepted:
 * watch postmaster_file_read() or connect. */
OGEL_MUST_CHECK int postmaster_start(const struct postmaster_spec *spec, struct postmaster *pm,
                                     struct err *err);

enum postmaster_found {
    POSTMASTER_NONE,    /* nobody lives in the directory; a pid file that is there is stale */
    POSTMASTER_RUNNING, /* PM is filled */
    POSTMASTER_REMAINS, /* no postmaster, but processes of one (or of a single-user server): kill
                            the directory before a start */
};

/* Who runs in DATADIR? RUNNING is proved on the process that the pidfd holds: its working directory
 * is this inode, it runs a program called postgres and is no child of a server in this directory,
 * and the shared memory segment named in postmaster.pid (where it still exists) was created by it.
 */
OGEL_MUST_CHECK int postmaster_adopt(const char *datadir, enum postmaster_found *found,
                                     struct postmaster *pm, struct err *err);

/* Closes the pidfd and forgets; the server runs on. */
void postmaster_release(struct postmaster *pm);

enum postmaster_signal {
    POSTMASTER_RELOAD,    /* SIGHUP */
    POSTMASTER_SMART,     /* SIGTERM: waits for clients */
    POSTMASTER_FAST,      /* SIGINT */
    POSTMASTER_IMMEDIATE, /* SIGQUIT: no shutdown checkpoint */
    POSTMASTER_KILL,      /* SIGKILL: the postmaster alone; see proc_kill_directory() */
};

/* ERR_NOT_FOUND when it has exited. */
OGEL_MUST_CHECK int postmaster_send(const struct postmaster *pm, enum postmaster_signal how,
                                    struct err *err);

/* True once it has exited (collected or not). Never blocks. */
bool postmaster_exited(const struct postmaster *pm);

struct postmaster_exit {
    bool known; /* false: it was adopted, its status cannot be had */
    int code;   /* exit code; -1 when a signal ended it */
    int signal; /* 0: it exited */
};

/* Waits until it has exited, collects it if it is a child, and releases PM. ERR_TIMEOUT leaves PM
 * as it was. Children may live on for a while: see proc_in_directory(). */
OGEL_MUST_CHECK int postmaster_wait(struct postmaster *pm, int64_t timeout_ms,
                                    struct postmaster_exit *status, struct err *err);

/* One line for people: how it exited, and the last line of the log that tells why. LOG_DIR is where
 * the managed configuration sends the log; lines that clients caused (FATAL of a client backend) do
 * not count. Returns OUT. */
const char *postmaster_describe_exit(const struct postmaster_exit *status, const char *state_dir,
                                     const char *log_dir, char out[POSTMASTER_CAUSE_SIZE]);

/* postmaster.pid as Postgres writes it. Fields it has not written yet are 0 or "". */
struct postmaster_file {
    pid_t pid;          /* negative: a single-user server */
    int64_t start_time; /* seconds since 1970 */
    uint16_t port;
    unsigned long shm_key;
    int shm_id;      /* -1: not written */
    char status[16]; /* "starting", "ready", "standby", "stopping" */
};

/* ERR_NOT_FOUND when there is none. */
OGEL_MUST_CHECK int postmaster_file_read(const char *datadir, struct postmaster_file *file,
                                         struct err *err);
/* Its parser, for tests and fuzzers; TEXT is taken apart. What is no number counts as not written.
 */
void postmaster_file_parse(char *text, struct postmaster_file *file);

/* Removes a left-over postmaster.pid, and the lock files in SOCKET_DIR (may be NULL) that name this
 * DATADIR, but only while no server lives in the directory (ERR_CONFLICT otherwise): Postgres
 * itself refuses to start when the pid in either has been taken by another process of the same
 * user. postmaster_start() calls it. */
OGEL_MUST_CHECK int postmaster_file_remove_stale(const char *datadir, const char *socket_dir,
                                                 struct err *err);

#endif
