/* Reading /proc/PID. */
#ifndef OGEL_BASE_PROCFS_H
#define OGEL_BASE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads /proc/PID/NAME, as much as there is room for. Returns its size, -1 if it cannot be read. */
ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size);

struct proc_stat {
    pid_t ppid;
    char state;           /* as in /proc/PID/stat: 'R', 'S', 'D', 'T', 'Z', … */
    uint64_t start_ticks; /* since boot; (pid, start_ticks) names a process for good */
};

/* False if there is no such process (any more). */
bool proc_stat_read(pid_t pid, struct proc_stat *stat);

#endif
