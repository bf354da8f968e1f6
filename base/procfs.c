#include "base/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, buf + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) { /* ESRCH: it went meanwhile */
            close(fd);
            return -1;
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    close(fd);
    return (ssize_t)got;
}

bool proc_stat_read(pid_t pid, struct proc_stat *stat)
{
    char buf[1024];
    ssize_t size = proc_read(pid, "stat", buf, sizeof buf - 1);
    if (size <= 0)
        return false;
    buf[size] = '\0';
    /* The program's name stands in brackets and may itself contain brackets and blanks. */
    const char *rest = strrchr(buf, ')');
    int ppid = 0;
    unsigned long long start = 0;
    if (rest == NULL || sscanf(rest + 1,
                               " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                               "%*d %*d %llu",
                               &stat->state, &ppid, &start) != 3)
        return false;
    stat->ppid = ppid;
    stat->start_ticks = start;
    return true;
}
