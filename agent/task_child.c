#include "agent/task_child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/command.h"
#include "agent/ogelctl.h"
#include "agent/proc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

enum { PROGRESS_FD = 3, LOCK_FD_MIN = 16, TASK_NICE = 10 };

/* Of this agent's tasks; -1: not held yet. */
static _Atomic int lock_fd = -1; /* taken by another thread than the one that starts children */

/* --- the command line ----------------------------------------------------------------------- */

static void add_option(struct command_line *command, const char *name, const char *value)
{
    command_add(command, xstrdup(name));
    command_add(command, xstrdup(value));
}

static void add_number(struct command_line *command, const char *name, int64_t value)
{
    command_add(command, xstrdup(name));
    command_add(command, xasprintf("%" PRId64, value));
}

/* Credentials are in a file that the child reads itself: not on its command line, which everybody
 * sees, nor in its environment or in this process. */
static void begin(struct command_line *command, const struct agent_config *config, const char *verb,
                  const char *store)
{
    const struct snapshot_options *snapshots = &config->options.snapshots;

    command_add(command, xstrdup(ogelctl_path()));
    command_add(command, xstrdup("snapshot"));
    command_add(command, xstrdup(verb));
    if (snapshots->credentials_file)
        add_option(command, "--store-credentials", snapshots->credentials_file);
    command_add_env(command, xasprintf("OGEL_STORE=%s", store));
    command_add_env(command, xstrdup("LC_ALL=C"));
    command_add_env(command, xstrdup("PATH=/usr/bin:/bin"));
    if (snapshots->temporary_directory)
        command_add_env(command, xasprintf("TMPDIR=%s", snapshots->temporary_directory));
}

/* The managed access rules admit replication of the superuser through this socket. */
static char *conninfo(const struct agent_config *config)
{
    char host[2 * sizeof config->socket_directory], *to = host;

    for (const char *at = config->socket_directory; *at != '\0'; at++) {
        if (*at == '\'' || *at == '\\')
            *to++ = '\\';
        *to++ = *at;
    }
    *to = '\0';
    return xasprintf("host='%s' port=%" PRId64 " user=postgres dbname=postgres", host,
                     config->options.postgres.port);
}

static void add_create(struct command_line *command, const struct agent_config *config,
                       const struct task_request *request)
{
    command_add(command, xstrdup("--conninfo"));
    command_add(command, conninfo(config));
    if (request->parent[0] != '\0')
        add_option(command, "--parent", request->parent);
    if (request->level > 0)
        add_number(command, "--level", request->level);
    if (request->max_rate[0] != '\0')
        add_option(command, "--max-rate", request->max_rate);
}

static void add_gc(struct command_line *command, const struct task_request *request)
{
    static const char *const names[] = {"--keep-daily", "--keep-weekly", "--keep-monthly",
                                        "--keep-least"};

    for (int i = 0; i < TASK_KEEPS; i++)
        if (request->keep[i] >= 0)
            add_number(command, names[i], request->keep[i]);
}

static void make_command(struct command_line *command, const struct agent_config *config,
                         const struct task_request *request)
{
    const struct snapshot_options *snapshots = &config->options.snapshots;

    begin(command, config, task_kind_names[request->kind], request->store);
    if (request->snapshot[0] != '\0')
        command_add(command, xstrdup(request->snapshot));
    if (request->kind == TASK_CREATE)
        add_create(command, config, request);
    else if (request->kind == TASK_GC)
        add_gc(command, request);
    if (request->kind == TASK_DRILL) {
        add_option(command, "--bindir", config->options.postgres_bindir);
        if (snapshots->scratch_directory)
            add_option(command, "--scratch", snapshots->scratch_directory);
    }
    if (snapshots->jobs > 0 && request->kind != TASK_GC)
        add_number(command, "--jobs", snapshots->jobs);
    add_number(command, "--progress-fd", PROGRESS_FD);
}

/* --- starting ------------------------------------------------------------------------------- */

static bool hold_lock(void)
{
    char line[24];
    int length = snprintf(line, sizeof line, "%d\n", (int)getpid());

    return file_lock_inherit(lock_fd) == 0 && ftruncate(lock_fd, 0) == 0 &&
           pwrite(lock_fd, line, (size_t)length, 0) == length;
}

/* Whoever is served here goes first. And the agent is among the last that the kernel should pick; a
 * snapshot can be taken again. */
static void be_expendable(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) != 1)
        dprintf(2, "cannot set oom_score_adj: errno %d\n", errno);
    if (fd >= 0)
        close(fd);
    (void)setpriority(PRIO_PROCESS, 0, TASK_NICE);
}

/* Between fork and exec: async-signal-safe calls only, and all signals blocked until they do what
 * they do in any program: the loop's handlers would tell the agent's loop. What is said to people,
 * and for a listing the answer, goes to OUTPUT; a task tells it on PROGRESS_FD. */
static void child_exec(const struct command_line *command, bool locked, int output, pid_t parent)
{
    int null;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    setsid();
    null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(locked ? null : output, 1) < 0 ||
        dup2(output, 2) < 0 || chdir("/") != 0)
        _exit(127);
    proc_child_reset();
    be_expendable();
    if (locked) {
        if (!hold_lock())
            dprintf(2, "cannot write task.lock in the state directory: errno %d\n", errno);
        if (dup2(2, PROGRESS_FD) < 0)
            _exit(127);
    }
    execve(command->argv[0], command->argv, command->env);
    dprintf(2, "cannot run %s: %s\n", command->argv[0], strerrordesc_np(errno));
    _exit(127);
}

/* LOCKED: it holds the lock, and tells on PROGRESS_FD. */
static int spawn(const struct command_line *command, bool locked, struct task_child *child,
                 struct err *err)
{
    int pipes[2];
    pid_t pid, parent = getpid();
    sigset_t all, before;

    if (pipe2(pipes, O_CLOEXEC) != 0)
        return err_set_errno(err, errno, "cannot make a pipe");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0)
        child_exec(command, locked, pipes[1], parent);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pipes[1]);
    if (pid < 0) {
        close(pipes[0]);
        return err_set_errno(err, errno, "cannot fork for %s", command->argv[0]);
    }
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    *child = (struct task_child){.pid = pid, .pidfd = pidfd_open(pid, 0), .output = pipes[0]};
    if (child->pidfd >= 0)
        return 0;
    err_set_errno(err, errno, "cannot watch %s", command->argv[0]);
    (void)kill(pid, SIGKILL);
    close(child->output);
    *child = (struct task_child){.pidfd = -1, .output = -1};
    return -1;
}

int task_child_start(const struct agent_config *config, const struct task_request *request,
                     struct task_child *child, struct err *err)
{
    struct command_line command = {.argc = 0};
    int rc;

    if (lock_fd < 0)
        return err_set(err, ERR_UNAVAILABLE,
                       "a snapshot task of an earlier agent still holds %s/task.lock: it is being "
                       "killed, ask again",
                       config->options.state_directory);
    make_command(&command, config, request);
    rc = spawn(&command, true, child, err);
    command_line_free(&command);
    return rc;
}

int task_child_list(const struct agent_config *config, const char *store, struct task_child *child,
                    struct err *err)
{
    struct command_line command = {.argc = 0};
    int rc;

    begin(&command, config, "list", store);
    add_option(&command, "-o", "json");
    rc = spawn(&command, false, child, err);
    command_line_free(&command);
    return rc;
}

/* --- ending --------------------------------------------------------------------------------- */

void task_child_signal(const struct task_child *child, bool hard)
{
    if (child->pid == 0)
        return;
    /* it may not have come to setsid() yet */
    if (kill(-child->pid, hard ? SIGKILL : SIGTERM) != 0)
        (void)pidfd_send_signal(child->pidfd, hard ? SIGKILL : SIGTERM, NULL, 0);
}

int task_child_reap(struct task_child *child, char *how, size_t how_size)
{
    siginfo_t info = {0};
    int code = -1;

    /* while it is a zombie nobody else's group can have its number */
    (void)kill(-child->pid, SIGKILL);
    if (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) {
        snprintf(how, how_size, "exit status unknown");
    } else if (info.si_code == CLD_EXITED) {
        code = info.si_status;
        snprintf(how, how_size, "exit status %d", code);
    } else {
        snprintf(how, how_size, "killed by signal %d", info.si_status);
    }
    close(child->pidfd);
    close(child->output);
    *child = (struct task_child){.pidfd = -1, .output = -1};
    return code;
}

/* The number in the lock file may be nobody's by now, or somebody else's. */
static void kill_holder(const char *path)
{
    char title[PROC_TITLE_SIZE], *text;
    struct proc_stat stat;
    int pid;

    if (file_read(path, 64, &text, NULL, NULL) < 0)
        return;
    if (sscanf(text, "%d", &pid) == 1 && pid > 1 &&
        (!proc_stat_read(pid, &stat) || !proc_title(pid, title, sizeof title) ||
         strstr(title, " snapshot "))) {
        log_event(LOG_LEVEL_WARNING, "orphan_task_killed", "{s:i}", "pid", pid);
        (void)kill(-pid, SIGKILL);
    }
    free(text);
}

void task_child_end_orphan(const char *state_directory)
{
    char *path = xasprintf("%s/task.lock", state_directory);
    struct err err = {0};
    int fd;

    if (lock_fd >= 0) {
        free(path);
        return;
    }
    if (file_lock_acquire(path, &fd, &err) == 0) {
        /* out of the way of a child's PROGRESS_FD */
        lock_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOCK_FD_MIN);
        /* it names nobody yet: this agent's own number is no task's */
        if (ftruncate(fd, 0) != 0)
            log_event(LOG_LEVEL_WARNING, "task_lock_not_emptied", "{s:i}", "errno", errno);
        close(fd);
    } else if (err.code == ERR_CONFLICT) {
        kill_holder(path);
    } else {
        log_err(LOG_LEVEL_ERROR, "task_lock_failed", &err);
    }
    free(path);
}
