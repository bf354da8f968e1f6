/*
 * What /proc says of processes: who belongs to a postmaster, who lives in a data directory; and how
 * to end them all. The process table is the witness here, never a view of the server's: a receiver
 * that is connecting does not show in pg_stat_wal_receiver (design section 4, "Fencing a standby").
 *
 * Functions that list processes never count zombies: those hold nothing any more.
 */
#ifndef OGEL_AGENT_PROC_H
#define OGEL_AGENT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/procfs.h"

enum { PROC_TITLE_SIZE = 512, PROC_MAX = 4096 };

/* The command line as ps shows it: arguments joined by blanks, "" for none. False if the process is
 * gone or is a zombie. */
bool proc_title(pid_t pid, char *title, size_t size);

/* The executable's path, with " (deleted)" cut off. False if it cannot be seen. */
bool proc_executable(pid_t pid, char *path, size_t size);

/* The inode of the working directory. False if it cannot be seen. */
bool proc_cwd(pid_t pid, dev_t *dev, ino_t *ino);

/* Living children of PARENT into PIDS, MAX at most. Returns how many there are, which may exceed
 * MAX; -1 if /proc cannot be read. A child that exists when the call begins and still when it ends
 * is found. */
int proc_children(pid_t parent, pid_t *pids, int max);

/* The same for children of POSTMASTER that receive WAL, or may be about to: the title says
 * walreceiver, or is not set yet (a child just forked still shows the postmaster's own command
 * line). A postmaster that is gone has none. */
int proc_receivers(pid_t postmaster, pid_t *pids, int max);

/* Does the command line CHILD (raw, NUL-separated) belong to a walreceiver, or to a child that has
 * not set its title, of a postmaster whose raw command line is POSTMASTER? Pure; for
 * proc_receivers(). */
bool proc_title_may_receive(const char *child, size_t child_size, const char *postmaster,
                            size_t postmaster_size);

/* The same for all processes, other than the caller's own, whose working directory is this inode.
 */
int proc_in_directory(dev_t dev, ino_t ino, pid_t *pids, int max);

/* The same, only those that run a program called postgres, or one that cannot be seen: a shell that
 * a person has opened there is no server. */
int proc_servers_in_directory(dev_t dev, ino_t ino, pid_t *pids, int max);

/* Ends everything that lives in DATADIR: SIGKILL to the postmaster that postmaster.pid names (if it
 * is one of them) so that nobody can fork any more, then to every process whose working directory
 * is this directory's inode, again until none is left: each backend is a session of its own and
 * outlives its postmaster. CGROUP (NULL: none) is a delegated cgroup directory that holds only this
 * server; its cgroup.kill is used first where the kernel has it. Returns 0 once nobody is left;
 * ERR_TIMEOUT after TIMEOUT_MS, which names one that would not die. A directory that is not there
 * has nobody.
 *
 * A shell that a person of the same user has opened inside PGDATA dies too: telling it from a
 * backend by its name would be a guess. */
OGEL_MUST_CHECK int proc_kill_directory(const char *datadir, const char *cgroup, int64_t timeout_ms,
                                        struct err *err);

/* In a child between fork and exec: all signals back to their defaults and unblocked, every
 * descriptor above 2 close-on-exec. Async-signal-safe. */
void proc_child_reset(void);

/* Collects children of this process that have exited and are none of KEEP: orphans that came to it
 * as a subreaper. Returns how many. Call after SIGCHLD. */
int proc_reap_orphans(const pid_t *keep, int count);

#endif
