#include "agent/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/postmaster.h"
#include "base/clock.h"
#include "base/mem.h"

enum { CMDLINE_SIZE = 16384 };

static bool state_is_living(char state)
{
    return state != 'Z' && state != 'X' && state != 'x';
}

bool proc_title(pid_t pid, char *title, size_t size)
{
    OGEL_CHECK(size > 0);
    ssize_t got = proc_read(pid, "cmdline", title, size - 1);
    if (got < 0)
        return false;
    if (got == 0) { /* a zombie, or a thread of the kernel */
        struct proc_stat stat;
        title[0] = '\0';
        return proc_stat_read(pid, &stat) && state_is_living(stat.state);
    }
    while (got > 0 && title[got - 1] == '\0')
        got--;
    for (ssize_t i = 0; i < got; i++)
        if (title[i] == '\0')
            title[i] = ' ';
    title[got] = '\0';
    return true;
}

bool proc_executable(pid_t pid, char *path, size_t size)
{
    static const char deleted[] = " (deleted)";
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    size_t cut = sizeof deleted - 1;
    if ((size_t)length > cut && strcmp(path + length - cut, deleted) == 0)
        path[(size_t)length - cut] = '\0';
    return true;
}

bool proc_cwd(pid_t pid, dev_t *dev, ino_t *ino)
{
    char link[64];
    struct stat st;
    snprintf(link, sizeof link, "/proc/%d/cwd", (int)pid);
    if (stat(link, &st) != 0)
        return false;
    *dev = st.st_dev;
    *ino = st.st_ino;
    return true;
}

/* Calls ACCEPT for each process but the caller's own and lists those it accepts. */
static int proc_list(bool (*accept)(pid_t pid, const void *arg), const void *arg, pid_t *pids,
                     int max)
{
    DIR *dir = opendir("/proc");
    if (dir == NULL)
        return -1;
    int count = 0;
    pid_t self = getpid();
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid == self || !accept(pid, arg))
            continue;
        if (count < max)
            pids[count] = pid;
        count++;
    }
    closedir(dir);
    return count;
}

static bool accept_child(pid_t pid, const void *arg)
{
    const pid_t *parent = arg;
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) && stat.ppid == *parent && state_is_living(stat.state);
}

int proc_children(pid_t parent, pid_t *pids, int max)
{
    return proc_list(accept_child, &parent, pids, max);
}

/*
 * Postgres writes its titles over the memory of argv and environment, which is what
 * /proc/PID/cmdline shows: "postgres: [<cluster_name>: ]walreceiver streaming 0/3000000". Until a
 * forked child has done so it shows the postmaster's arguments. While it is writing, the beginning
 * is new and the end still old: it fills the rest of the area with NULs only at last, so that an
 * old end says "not finished". The last bytes decide; the part with "walreceiver" is far from them
 * (the arguments name the data directory and the configuration file, the cluster name is short).
 */
bool proc_title_may_receive(const char *child, size_t child_size, const char *postmaster,
                            size_t postmaster_size)
{
    static const char prefix[] = "postgres: ";
    static const char word[] = "walreceiver";
    enum { TAIL = 5 };

    if (child_size < sizeof prefix - 1 || memcmp(child, prefix, sizeof prefix - 1) != 0)
        return true;
    if (child_size == postmaster_size && child_size > TAIL &&
        memcmp(child + child_size - TAIL, postmaster + postmaster_size - TAIL, TAIL) == 0)
        return true;

    size_t length = strnlen(child, child_size);
    const char *at = child + sizeof prefix - 1;
    const char *end = child + length;
    if ((size_t)(end - at) >= sizeof word - 1 && memcmp(at, word, sizeof word - 1) == 0)
        return true;
    /* Behind a cluster name; it may itself contain ": ". */
    for (; at + 2 < end; at++)
        if (at[0] == ':' && at[1] == ' ' && (size_t)(end - at - 2) >= sizeof word - 1 &&
            memcmp(at + 2, word, sizeof word - 1) == 0)
            return true;
    return false;
}

struct receiver_query {
    pid_t postmaster;
    const char *cmdline;
    size_t size;
    bool known; /* what follows */
    uid_t owner;
    dev_t dev;
    ino_t ino;
};

/* Is PID certainly no child of that postmaster? Its children are of its user and never leave the
 * data directory. Three times as quick as reading the parent of each process, and this is asked
 * often. */
static bool is_elsewhere(pid_t pid, const struct receiver_query *query)
{
    char path[64];
    struct stat st;
    dev_t dev;
    ino_t ino;
    if (!query->known)
        return false;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &st) != 0 || st.st_uid != query->owner)
        return true;
    return proc_cwd(pid, &dev, &ino) && (dev != query->dev || ino != query->ino);
}

static bool accept_receiver(pid_t pid, const void *arg)
{
    const struct receiver_query *query = arg;
    if (is_elsewhere(pid, query) || !accept_child(pid, &query->postmaster))
        return false;
    char cmdline[CMDLINE_SIZE];
    ssize_t size = proc_read(pid, "cmdline", cmdline, sizeof cmdline);
    if (size <= 0) {
        /* Gone, or on its way; what still lives and shows nothing is not known to be harmless. */
        struct proc_stat stat;
        return proc_stat_read(pid, &stat) && state_is_living(stat.state);
    }
    return proc_title_may_receive(cmdline, (size_t)size, query->cmdline, query->size);
}

int proc_receivers(pid_t postmaster, pid_t *pids, int max)
{
    char cmdline[CMDLINE_SIZE];
    char path[64];
    struct stat st;
    struct receiver_query query = {.postmaster = postmaster, .cmdline = cmdline};
    ssize_t size = proc_read(postmaster, "cmdline", cmdline, sizeof cmdline);
    query.size = size > 0 ? (size_t)size : 0;
    snprintf(path, sizeof path, "/proc/%d", (int)postmaster);
    query.known = stat(path, &st) == 0 && proc_cwd(postmaster, &query.dev, &query.ino);
    query.owner = st.st_uid;
    return proc_list(accept_receiver, &query, pids, max);
}

struct directory_query {
    dev_t dev;
    ino_t ino;
};

static bool accept_in_directory(pid_t pid, const void *arg)
{
    const struct directory_query *query = arg;
    dev_t dev;
    ino_t ino;
    return proc_cwd(pid, &dev, &ino) && dev == query->dev && ino == query->ino;
}

static bool accept_server(pid_t pid, const void *arg)
{
    char path[PATH_MAX];
    if (!accept_in_directory(pid, arg))
        return false;
    if (!proc_executable(pid, path, sizeof path))
        return true;
    const char *base = strrchr(path, '/');
    return strstr(base == NULL ? path : base, "postgres") != NULL;
}

int proc_in_directory(dev_t dev, ino_t ino, pid_t *pids, int max)
{
    struct directory_query query = {dev, ino};
    return proc_list(accept_in_directory, &query, pids, max);
}

int proc_servers_in_directory(dev_t dev, ino_t ino, pid_t *pids, int max)
{
    struct directory_query query = {dev, ino};
    return proc_list(accept_server, &query, pids, max);
}

/* SIGKILL to PID if it lives in the directory; through a pidfd, so that it cannot be another one by
 * then. */
static void kill_resident(pid_t pid, const struct directory_query *query)
{
    int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return;
    if (accept_in_directory(pid, query))
        pidfd_send_signal(fd, SIGKILL, NULL, 0);
    close(fd);
}

static void kill_cgroup(const char *cgroup)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/cgroup.kill", cgroup);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    /* A kernel before 5.14 has no such file; what follows does the same, only later. */
    ssize_t ignored = write(fd, "1", 1);
    (void)ignored;
    close(fd);
}

int proc_kill_directory(const char *datadir, const char *cgroup, int64_t timeout_ms,
                        struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    struct postmaster_file file;
    struct stat st;

    if (stat(datadir, &st) != 0)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot look at %s", datadir);
    struct directory_query query = {st.st_dev, st.st_ino};
    if (cgroup != NULL)
        kill_cgroup(cgroup);
    if (postmaster_file_read(datadir, &file, NULL) == 0 && file.pid != 0)
        kill_resident(file.pid < 0 ? -file.pid : file.pid, &query);

    pid_t *pids = xcalloc(PROC_MAX, sizeof *pids);
    int rc = -1;
    for (long pause_us = 2000;; pause_us = pause_us < 16000 ? pause_us * 2 : pause_us) {
        int count = proc_in_directory(st.st_dev, st.st_ino, pids, PROC_MAX);
        if (count < 0) {
            err_set_errno(err, errno, "cannot list processes");
            break;
        }
        if (count == 0) {
            rc = 0;
            break;
        }
        if (clock_mono_ms() >= deadline) {
            char title[PROC_TITLE_SIZE];
            if (!proc_title(pids[0], title, sizeof title))
                snprintf(title, sizeof title, "unknown");
            err_set(err, ERR_TIMEOUT,
                    "%d process(es) in %s did not die within %lld ms, among them %d (%.100s); a "
                    "process that waits for a hanging disk cannot be killed",
                    count, datadir, (long long)timeout_ms, (int)pids[0], title);
            break;
        }
        for (int i = 0; i < count && i < PROC_MAX; i++)
            kill_resident(pids[i], &query);
        nanosleep(&(struct timespec){.tv_nsec = pause_us * 1000}, NULL);
    }
    free(pids);
    return rc;
}

void proc_child_reset(void)
{
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL); /* fails for those that have no choice */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
}

static bool accept_zombie_child(pid_t pid, const void *arg)
{
    const pid_t *parent = arg;
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) && stat.ppid == *parent && stat.state == 'Z';
}

int proc_reap_orphans(const pid_t *keep, int count)
{
    enum { AT_ONCE = 64 };
    pid_t self = getpid();
    pid_t zombies[AT_ONCE];
    int reaped = 0;
    int found = proc_list(accept_zombie_child, &self, zombies, AT_ONCE);
    for (int i = 0; i < found && i < AT_ONCE; i++) {
        bool kept = false;
        for (int k = 0; k < count; k++)
            kept = kept || keep[k] == zombies[i];
        if (!kept && !command_owns(zombies[i]) && waitpid(zombies[i], NULL, WNOHANG) == zombies[i])
            reaped++;
    }
    return reaped;
}
