#include "agent/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/proc.h"
#include "base/clock.h"
#include "base/mem.h"

void command_add(struct command_line *line, char *arg)
{
    OGEL_CHECK(line->argc < COMMAND_ARGS_MAX - 1);
    line->argv[line->argc++] = arg;
}

void command_add_env(struct command_line *line, char *entry)
{
    OGEL_CHECK(line->envc < COMMAND_ENV_MAX - 1);
    line->env[line->envc++] = entry;
}

void command_line_free(struct command_line *line)
{
    for (int i = 0; i < line->argc; i++)
        free(line->argv[i]);
    for (int i = 0; i < line->envc; i++)
        free(line->env[i]);
}

struct pipe_end {
    int fd;
    char *data;
    size_t size;
};

/* --- who waits for whom: orphans are collected in another thread --- */

enum { OWNED_MAX = 8 };

static pthread_mutex_t owned_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t owned[OWNED_MAX];

/* Puts NEW_PID in the place of OLD_PID; 0: a free one. Under the lock. */
static void own(pid_t old_pid, pid_t new_pid)
{
    for (int i = 0; i < OWNED_MAX; i++)
        if (owned[i] == old_pid) {
            owned[i] = new_pid;
            return;
        }
    OGEL_CHECK(old_pid != 0); /* no more threads than that run programs */
}

bool command_owns(pid_t pid)
{
    bool found = false;

    pthread_mutex_lock(&owned_lock);
    for (int i = 0; i < OWNED_MAX; i++)
        found = found || owned[i] == pid;
    pthread_mutex_unlock(&owned_lock);
    return found;
}

/* Known before anybody can see it dead. */
static pid_t fork_owned(void)
{
    pid_t pid;

    pthread_mutex_lock(&owned_lock);
    pid = fork();
    if (pid > 0)
        own(0, pid);
    if (pid != 0)
        pthread_mutex_unlock(&owned_lock);
    return pid;
}

static void disown(pid_t pid)
{
    pthread_mutex_lock(&owned_lock);
    own(pid, 0);
    pthread_mutex_unlock(&owned_lock);
}

/* Between fork and exec of a threaded process: async-signal-safe calls only. */
static void child_exec(char *const *argv, char *const *env, int out, int errors, int failed)
{
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(errors, 2) < 0 || chdir("/") != 0)
        goto out;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    proc_child_reset();
    execve(argv[0], argv, env);
out:;
    int errnum = errno;
    ssize_t ignored = write(failed, &errnum, sizeof errnum);
    (void)ignored;
    _exit(127);
}

/* Reads what is there; closes the end at EOF. Returns false once it is closed. */
static bool drain(struct pipe_end *end)
{
    char scrap[4096];
    for (;;) {
        size_t room = COMMAND_OUTPUT_MAX - end->size;
        ssize_t n = room > 0 ? read(end->fd, end->data + end->size, room)
                             : read(end->fd, scrap, sizeof scrap);
        if (n > 0) {
            end->size += room > 0 ? (size_t)n : 0;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        close(end->fd);
        end->fd = -1;
        return false;
    }
}

/* Until it has exited and both pipes are at their end: a grandchild that keeps one open is waited
 * for as well. Returns false at the deadline. */
static bool collect(int pidfd, struct pipe_end ends[2], int64_t deadline)
{
    bool exited = false;
    while (!exited || ends[0].fd >= 0 || ends[1].fd >= 0) {
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0)
            return false;
        struct pollfd fds[3] = {
            {.fd = ends[0].fd, .events = POLLIN},
            {.fd = ends[1].fd, .events = POLLIN},
            {.fd = exited ? -1 : pidfd, .events = POLLIN},
        };
        if (poll(fds, 3, left > INT32_MAX ? INT32_MAX : (int)left) < 0 && errno != EINTR)
            return false;
        for (int i = 0; i < 2; i++)
            if (ends[i].fd >= 0)
                drain(&ends[i]);
        if (fds[2].revents != 0)
            exited = true;
    }
    return true;
}

static int spawn(const char *const *argv, int out[2], int errors[2], pid_t *pid, struct err *err)
{
    /* A PostgreSQL outside of the system's directories may need its libraries named. */
    char *libraries = getenv("LD_LIBRARY_PATH") == NULL
                          ? NULL
                          : xasprintf("LD_LIBRARY_PATH=%s", getenv("LD_LIBRARY_PATH"));
    char *env[] = {"LC_ALL=C", "PATH=/usr/bin:/bin", libraries, NULL};
    int failed[2] = {-1, -1};
    int errnum = 0;
    int rc = -1;

    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0 ||
        pipe2(failed, O_CLOEXEC) != 0) {
        err_set_errno(err, errno, "cannot make a pipe");
        goto out;
    }
    *pid = fork_owned();
    if (*pid < 0) {
        err_set_errno(err, errno, "cannot fork for %s", argv[0]);
        goto out;
    }
    if (*pid == 0)
        child_exec((char *const *)(uintptr_t)argv, env, out[1], errors[1], failed[1]);
    close(failed[1]);
    failed[1] = -1;
    if (read(failed[0], &errnum, sizeof errnum) == (ssize_t)sizeof errnum) {
        waitpid(*pid, NULL, 0);
        disown(*pid);
        *pid = 0;
        err_set_errno(err, errnum, "cannot run %s", argv[0]);
        goto out;
    }
    rc = 0;
out:
    if (failed[0] >= 0)
        close(failed[0]);
    if (failed[1] >= 0)
        close(failed[1]);
    free(libraries);
    return rc;
}

int command_run(const char *const *argv, int64_t timeout_ms, struct command_result *result,
                struct err *err)
{
    int64_t deadline = clock_mono_ms() + timeout_ms;
    int out[2] = {-1, -1};
    int errors[2] = {-1, -1};
    struct pipe_end ends[2] = {{.fd = -1}, {.fd = -1}};
    pid_t pid = 0;
    int pidfd = -1;
    int status = 0;
    int rc = -1;

    *result = (struct command_result){0};
    if (spawn(argv, out, errors, &pid, err) != 0)
        goto out;
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        err_set_errno(err, errno, "cannot watch %s", argv[0]);
        goto out;
    }
    close(out[1]);
    close(errors[1]);
    out[1] = errors[1] = -1;
    ends[0] = (struct pipe_end){out[0], xmalloc(COMMAND_OUTPUT_MAX + 1), 0};
    ends[1] = (struct pipe_end){errors[0], xmalloc(COMMAND_OUTPUT_MAX + 1), 0};
    out[0] = errors[0] = -1;
    fcntl(ends[0].fd, F_SETFL, O_NONBLOCK);
    fcntl(ends[1].fd, F_SETFL, O_NONBLOCK);
    if (!collect(pidfd, ends, deadline)) {
        err_set(err, ERR_TIMEOUT, "%s did not end within %lld ms", argv[0], (long long)timeout_ms);
        goto out;
    }
    rc = 0;
out:
    if (pid > 0) {
        if (rc != 0)
            kill(-pid, SIGKILL);
        if (rc != 0)
            kill(pid, SIGKILL); /* where it had not become a group yet */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        disown(pid);
    }
    for (int i = 0; i < 2; i++) {
        int fds[] = {out[i], errors[i], ends[i].fd};
        for (size_t k = 0; k < OGEL_ARRAY_LEN(fds); k++)
            if (fds[k] >= 0)
                close(fds[k]);
        if (ends[i].data != NULL)
            ends[i].data[ends[i].size] = '\0';
    }
    if (pidfd >= 0)
        close(pidfd);
    result->output = ends[0].data;
    result->errors = ends[1].data;
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (rc != 0)
        command_result_free(result);
    return rc;
}

void command_result_free(struct command_result *result)
{
    free(result->output);
    free(result->errors);
    *result = (struct command_result){0};
}

const char *command_last_line(struct command_result *result)
{
    char *text = result->errors != NULL && result->errors[0] != '\0' ? result->errors
                                                                     : result->output;
    if (text == NULL)
        return "";
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    char *line = strrchr(text, '\n');
    return line == NULL ? text : line + 1;
}
