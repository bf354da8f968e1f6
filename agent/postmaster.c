#include "agent/postmaster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/proc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/units.h"

enum { PIDFILE_MAX = 8192 };

int postmaster_become_subreaper(struct err *err)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return err_set_errno(err, errno, "cannot become a subreaper");
    return 0;
}

/* --- start -------------------------------------------------------------------------------------
 */

/* What must not reach the server: libpq's variables (a passfile is the key of the fence), the
 * locale (the configuration names it), systemd's handles (the server would report itself ready
 * in the agent's name). */
static bool environment_drops(const char *entry)
{
    static const char *const prefixes[] = {
        "PG",      "HOME=",     "LC_",     "LANG=", "LANGUAGE=",
        "NOTIFY_", "WATCHDOG_", "LISTEN_", "PWD=",  "OLDPWD=",
    };
    for (size_t i = 0; i < OGEL_ARRAY_LEN(prefixes); i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static void environment_free(char **env)
{
    for (size_t i = 0; env != NULL && env[i] != NULL; i++)
        free(env[i]);
    free(env);
}

/* The rest stays: archive commands and extensions may want it. */
static char **environment_make(const char *state_dir)
{
    size_t count = 0;
    size_t used = 0;
    while (environ != NULL && environ[count] != NULL)
        count++;
    char **env = xcalloc(count + 5, sizeof *env);
    for (size_t i = 0; i < count; i++)
        if (!environment_drops(environ[i]))
            env[used++] = xstrdup(environ[i]);
    env[used++] = xasprintf("HOME=%s/home", state_dir);
    env[used++] = xstrdup("LANG=C.UTF-8");
    env[used++] = xstrdup("PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj");
    env[used++] = xstrdup("PG_OOM_ADJUST_VALUE=0");
    return env;
}

struct launch {
    const char *datadir;
    char *program;
    char *argv[5];
    char **env;
    char *cgroup_procs; /* NULL: none */
    char oom_score_adj[16];
    int log_fd;
    int failed[2];
    pid_t parent;
    sigset_t held;
};

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, text, strlen(text));
    (void)ignored;
    close(fd);
}

/* Between fork and exec: async-signal-safe calls only. */
static void launch_exec(const struct launch *launch)
{
    /* Until it stands in the data directory nobody could find it there, so it dies with the agent.
     */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launch->parent)
        _exit(127);
    setsid();
    umask(0077);
    write_text("/proc/self/oom_score_adj", launch->oom_score_adj);
    if (launch->cgroup_procs != NULL)
        write_text(launch->cgroup_procs, "0");
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(launch->log_fd, 1) < 0 ||
        dup2(launch->log_fd, 2) < 0 || chdir(launch->datadir) != 0)
        goto out;
    proc_child_reset();
    sigprocmask(SIG_BLOCK, &launch->held, NULL);
    prctl(PR_SET_PDEATHSIG, 0);
    execve(launch->program, launch->argv, launch->env);
out:;
    int errnum = errno;
    ssize_t ignored = write(launch->failed[1], &errnum, sizeof errnum);
    (void)ignored;
    _exit(127);
}

static int launch_prepare(const struct postmaster_spec *spec, struct launch *launch,
                          struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/home", spec->state_dir);
    if (file_mkdir_p(path, 0700, err) != 0)
        return -1;
    snprintf(path, sizeof path, "%s/start.log", spec->state_dir);
    launch->log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (launch->log_fd < 0)
        return err_set_errno(err, errno, "cannot write %s", path);
    if (pipe2(launch->failed, O_CLOEXEC) != 0)
        return err_set_errno(err, errno, "cannot make a pipe");
    launch->datadir = spec->datadir;
    launch->program = xasprintf("%s/postgres", spec->bindir);
    launch->argv[0] = xstrdup(launch->program);
    launch->argv[1] = xstrdup("-D");
    launch->argv[2] = xstrdup(spec->datadir);
    launch->argv[3] = xasprintf("--config-file=%s", spec->config_file);
    launch->env = environment_make(spec->state_dir);
    if (spec->cgroup != NULL)
        launch->cgroup_procs = xasprintf("%s/cgroup.procs", spec->cgroup);
    snprintf(launch->oom_score_adj, sizeof launch->oom_score_adj, "%d", spec->oom_score_adj);
    launch->parent = getpid();
    /* Until it has handlers a reload would end it; Postgres unblocks them itself. */
    sigemptyset(&launch->held);
    sigaddset(&launch->held, SIGHUP);
    sigaddset(&launch->held, SIGINT);
    sigaddset(&launch->held, SIGTERM);
    sigaddset(&launch->held, SIGQUIT);
    return 0;
}

int postmaster_start(const struct postmaster_spec *spec, struct postmaster *pm, struct err *err)
{
    struct launch launch = {.log_fd = -1, .failed = {-1, -1}};
    struct proc_stat stat;
    int errnum = 0;
    pid_t pid = 0;
    int rc = -1;

    *pm = (struct postmaster){.pidfd = -1};
    if (postmaster_file_remove_stale(spec->datadir, spec->socket_dir, err) != 0)
        goto out;
    if (launch_prepare(spec, &launch, err) != 0)
        goto out;
    pid = fork();
    if (pid < 0) {
        err_set_errno(err, errno, "cannot fork for %s", launch.program);
        goto out;
    }
    if (pid == 0)
        launch_exec(&launch);
    close(launch.failed[1]);
    launch.failed[1] = -1;
    if (read(launch.failed[0], &errnum, sizeof errnum) == (ssize_t)sizeof errnum) {
        err_set_errno(err, errnum, "cannot run %s in %s", launch.program, spec->datadir);
        waitpid(pid, NULL, 0);
        goto out;
    }
    /* It cannot be another process: nobody but this one collects it. */
    pm->pidfd = pidfd_open(pid, 0);
    if (pm->pidfd < 0) {
        err_set_errno(err, errno, "cannot watch process %d", (int)pid);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        goto out;
    }
    pm->pid = pid;
    pm->child = true;
    pm->start_ticks = proc_stat_read(pid, &stat) ? stat.start_ticks : 0;
    rc = 0;
out:
    if (launch.log_fd >= 0)
        close(launch.log_fd);
    for (int i = 0; i < 2; i++)
        if (launch.failed[i] >= 0)
            close(launch.failed[i]);
    for (size_t i = 0; launch.argv[i] != NULL; i++)
        free(launch.argv[i]);
    free(launch.program);
    free(launch.cgroup_procs);
    environment_free(launch.env);
    return rc;
}

/* --- postmaster.pid ------------------------------------------------------------------------------
 */

/* 0 for what is no number from MIN to MAX; Postgres pads some with blanks. */
static int64_t file_number(char *value, int64_t min, int64_t max)
{
    int64_t number = 0;

    value += strspn(value, " ");
    value[strcspn(value, " ")] = '\0';
    return units_parse_int(value, min, max, &number, NULL) == 0 ? number : 0;
}

static void file_shm(char *value, struct postmaster_file *file)
{
    int64_t key, id;
    char *second;

    value += strspn(value, " ");
    second = value + strcspn(value, " ");
    second += strspn(second, " ");
    if (*second == '\0')
        return;
    id = file_number(second, 0, INT32_MAX);
    key = file_number(value, 0, INT64_MAX);
    if (key > 0) {
        file->shm_key = (unsigned long)key;
        file->shm_id = (int)id;
    }
}

void postmaster_file_parse(char *text, struct postmaster_file *file)
{
    char *rest = text;

    *file = (struct postmaster_file){.shm_id = -1};
    /* miscadmin.h: pid, data directory, start time, port, socket directory, listen address,
     * "key id" of the shared memory, status. */
    for (int line = 1; rest != NULL && line <= 8; line++) {
        char *value = strsep(&rest, "\n");
        switch (line) {
        case 1: file->pid = (pid_t)file_number(value, INT32_MIN + 1, INT32_MAX); break;
        case 3: file->start_time = file_number(value, 0, INT64_MAX); break;
        case 4: file->port = (uint16_t)file_number(value, 0, UINT16_MAX); break;
        case 7: file_shm(value, file); break;
        case 8: sscanf(value, "%15s", file->status); break;
        default: break;
        }
    }
}

int postmaster_file_read(const char *datadir, struct postmaster_file *file, struct err *err)
{
    char path[PATH_MAX];
    char *text = NULL;

    *file = (struct postmaster_file){.shm_id = -1};
    snprintf(path, sizeof path, "%s/postmaster.pid", datadir);
    if (file_read(path, PIDFILE_MAX, &text, NULL, err) != 0)
        return -1;
    postmaster_file_parse(text, file);
    free(text);
    return 0;
}

/* Lock files of sockets name pid and data directory in their first two lines, like postmaster.pid.
 */
static void remove_socket_locks(const char *datadir, const char *socket_dir)
{
    DIR *dir = opendir(socket_dir);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (strncmp(entry->d_name, ".s.PGSQL.", 9) != 0 || length < 5 ||
            strcmp(entry->d_name + length - 5, ".lock") != 0)
            continue;
        char path[PATH_MAX];
        char *text = NULL;
        snprintf(path, sizeof path, "%s/%s", socket_dir, entry->d_name);
        if (file_read(path, PIDFILE_MAX, &text, NULL, NULL) != 0)
            continue;
        char *rest = text;
        strsep(&rest, "\n");
        char *owner = strsep(&rest, "\n");
        if (owner != NULL && strcmp(owner, datadir) == 0) {
            unlink(path);
            path[strlen(path) - 5] = '\0';
            unlink(path);
        }
        free(text);
    }
    if (dir != NULL)
        closedir(dir);
}

int postmaster_file_remove_stale(const char *datadir, const char *socket_dir, struct err *err)
{
    char path[PATH_MAX];
    struct stat st;
    pid_t pid = 0;

    if (stat(datadir, &st) != 0)
        return err_set_errno(err, errno, "cannot look at %s", datadir);
    int count = proc_servers_in_directory(st.st_dev, st.st_ino, &pid, 1);
    if (count != 0)
        return err_set(err, ERR_CONFLICT, "a Postgres process (%d) runs in %s", (int)pid, datadir);
    snprintf(path, sizeof path, "%s/postmaster.pid", datadir);
    if (unlink(path) != 0 && errno != ENOENT)
        return err_set_errno(err, errno, "cannot remove %s", path);
    if (socket_dir != NULL)
        remove_socket_locks(datadir, socket_dir);
    return 0;
}

/* --- adopt ---------------------------------------------------------------------------------------
 */

static bool is_server_in(pid_t pid, const struct stat *dir)
{
    char path[PATH_MAX];
    dev_t dev;
    ino_t ino;
    if (!proc_cwd(pid, &dev, &ino) || dev != dir->st_dev || ino != dir->st_ino ||
        !proc_executable(pid, path, sizeof path))
        return false;
    const char *base = strrchr(path, '/');
    return base != NULL && strstr(base, "postgres") != NULL;
}

/* Is PID the postmaster of the directory, and not one of its children, nor what is left of an
 * earlier one? */
static bool is_postmaster_of(pid_t pid, const struct postmaster_file *file, const struct stat *dir)
{
    char title[PROC_TITLE_SIZE];
    struct proc_stat stat;
    struct shmid_ds segment;

    if (!is_server_in(pid, dir) || !proc_stat_read(pid, &stat) || is_server_in(stat.ppid, dir))
        return false;
    if (!proc_title(pid, title, sizeof title) || strncmp(title, "postgres: ", 10) == 0)
        return false;
    /* systemd's RemoveIPC may have taken the segment away (trap 23), and an id may be in use again:
     * only a segment with our key tells. */
    if (file->shm_id >= 0 && shmctl(file->shm_id, IPC_STAT, &segment) == 0 &&
        (unsigned long)(unsigned)segment.shm_perm.__key == (file->shm_key & UINT32_MAX) &&
        segment.shm_cpid != pid)
        return false;
    return true;
}

int postmaster_adopt(const char *datadir, enum postmaster_found *found, struct postmaster *pm,
                     struct err *err)
{
    struct postmaster_file file = {0};
    struct proc_stat stat_now;
    struct stat dir;

    *pm = (struct postmaster){.pidfd = -1};
    *found = POSTMASTER_NONE;
    if (stat(datadir, &dir) != 0)
        return errno == ENOENT ? 0 : err_set_errno(err, errno, "cannot look at %s", datadir);

    struct err missing = {0};
    if (postmaster_file_read(datadir, &file, &missing) != 0 && missing.code != ERR_NOT_FOUND) {
        return err_set(err, missing.code, "%s", missing.text);
    }
    if (file.pid > 0) {
        int fd = pidfd_open(file.pid, 0);
        if (fd >= 0 && is_postmaster_of(file.pid, &file, &dir) &&
            proc_stat_read(file.pid, &stat_now)) {
            /* The proofs read /proc by number; that it still lives ties them to what fd holds. */
            *pm = (struct postmaster){.pid = file.pid,
                                      .pidfd = fd,
                                      .child = stat_now.ppid == getpid(),
                                      .start_ticks = stat_now.start_ticks};
            if (!postmaster_exited(pm)) {
                *found = POSTMASTER_RUNNING;
                return 0;
            }
            *pm = (struct postmaster){.pidfd = -1};
        }
        if (fd >= 0)
            close(fd);
    }
    pid_t pid;
    int count = proc_servers_in_directory(dir.st_dev, dir.st_ino, &pid, 1);
    if (count < 0)
        return err_set_errno(err, errno, "cannot list processes");
    *found = count > 0 ? POSTMASTER_REMAINS : POSTMASTER_NONE;
    return 0;
}

void postmaster_release(struct postmaster *pm)
{
    if (pm->pid != 0 && pm->pidfd >= 0)
        close(pm->pidfd);
    *pm = (struct postmaster){.pidfd = -1};
}

/* --- signal and end
 * -------------------------------------------------------------------------------- */

int postmaster_send(const struct postmaster *pm, enum postmaster_signal how, struct err *err)
{
    static const int signals[] = {
        [POSTMASTER_RELOAD] = SIGHUP,     [POSTMASTER_SMART] = SIGTERM, [POSTMASTER_FAST] = SIGINT,
        [POSTMASTER_IMMEDIATE] = SIGQUIT, [POSTMASTER_KILL] = SIGKILL,
    };
    OGEL_CHECK(how >= POSTMASTER_RELOAD && how <= POSTMASTER_KILL);
    if (pm->pid == 0)
        return err_set(err, ERR_NOT_FOUND, "no postmaster runs");
    if (pidfd_send_signal(pm->pidfd, signals[how], NULL, 0) == 0)
        return 0;
    if (errno == ESRCH)
        return err_set(err, ERR_NOT_FOUND, "the postmaster %d has exited", (int)pm->pid);
    return err_set_errno(err, errno, "cannot signal the postmaster %d", (int)pm->pid);
}

bool postmaster_exited(const struct postmaster *pm)
{
    struct pollfd fd = {.fd = pm->pidfd, .events = POLLIN};
    return pm->pid == 0 || poll(&fd, 1, 0) > 0;
}

int postmaster_wait(struct postmaster *pm, int64_t timeout_ms, struct postmaster_exit *status,
                    struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    *status = (struct postmaster_exit){0};
    while (!postmaster_exited(pm)) {
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0)
            return err_set(err, ERR_TIMEOUT, "the postmaster %d did not exit within %lld ms",
                           (int)pm->pid, (long long)timeout_ms);
        struct pollfd fd = {.fd = pm->pidfd, .events = POLLIN};
        poll(&fd, 1, left > INT32_MAX ? INT32_MAX : (int)left);
    }
    siginfo_t info = {0};
    if (pm->pid != 0 && waitid(P_PIDFD, (id_t)pm->pidfd, &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid == pm->pid) {
        status->known = true;
        status->code = info.si_code == CLD_EXITED ? info.si_status : -1;
        status->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    }
    postmaster_release(pm);
    return 0;
}
