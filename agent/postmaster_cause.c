/* Why a postmaster ended, for people: its exit status and the telling line of its log. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/postmaster.h"
#include "base/mem.h"

enum { TAIL_SIZE = 64 * 1024 };

/* How much a log line tells of the end of the whole server; 0: nothing. The managed log_line_prefix
 * names the kind of process, so that clients' errors and those of a receiver that was told to end
 * can be left out. */
static int line_weight(const char *line)
{
    static const char *const harmless[] = {"client backend", "walsender", "walreceiver",
                                           "due to administrator command",
                                           "the database system is "};
    if (strstr(line, "PANIC:  ") != NULL)
        return 3;
    if (strstr(line, "FATAL:  ") != NULL) {
        for (size_t i = 0; i < OGEL_ARRAY_LEN(harmless); i++)
            if (strstr(line, harmless[i]) != NULL)
                return 0;
        return 2;
    }
    if (strstr(line, "LOG:  ") == NULL)
        return 0;
    if (strstr(line, "was terminated by signal") != NULL ||
        strstr(line, "exited with exit code") != NULL)
        return 1;
    return 0;
}

/* The heaviest line of one life of the server, the last among equals; from the severity on. */
static void find_telling_line(char *text, char *out, size_t size)
{
    int best = 0;
    char *rest = text;
    char *line;
    out[0] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strstr(line, "LOG:  starting PostgreSQL") != NULL) {
            best = 0;
            out[0] = '\0';
        }
        int weight = line_weight(line);
        if (weight == 0 || weight < best)
            continue;
        static const char *const severities[] = {"PANIC:  ", "FATAL:  ", "LOG:  "};
        const char *from = strstr(line, severities[3 - weight]);
        best = weight;
        snprintf(out, size, "%s", weight == 1 ? from + 6 : from);
    }
}

static char *read_tail(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    struct stat st;
    char *text = xcalloc(1, TAIL_SIZE + 1);
    if (fstat(fd, &st) == 0) {
        off_t from = st.st_size > TAIL_SIZE ? st.st_size - TAIL_SIZE : 0;
        ssize_t got = pread(fd, text, TAIL_SIZE, from);
        text[got > 0 ? got : 0] = '\0';
        for (ssize_t i = 0; i < got; i++)
            if (text[i] == '\0')
                text[i] = '?';
    }
    close(fd);
    return text;
}

static bool newest_log(const char *log_dir, char path[PATH_MAX])
{
    DIR *dir = opendir(log_dir);
    struct dirent *entry;
    struct timespec newest = {0};
    bool found = false;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct stat st;
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode))
            continue;
        if (found && (st.st_mtim.tv_sec < newest.tv_sec ||
                      (st.st_mtim.tv_sec == newest.tv_sec && st.st_mtim.tv_nsec <= newest.tv_nsec)))
            continue;
        newest = st.st_mtim;
        found = snprintf(path, PATH_MAX, "%s/%s", log_dir, entry->d_name) < PATH_MAX;
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

const char *postmaster_describe_exit(const struct postmaster_exit *status, const char *state_dir,
                                     const char *log_dir, char out[POSTMASTER_CAUSE_SIZE])
{
    char how[64];
    char why[POSTMASTER_CAUSE_SIZE] = "";
    char path[PATH_MAX];
    char *text = newest_log(log_dir, path) ? read_tail(path) : NULL;

    if (!status->known)
        snprintf(how, sizeof how, "exited");
    else if (status->signal != 0)
        snprintf(how, sizeof how, "ended by signal %d (%s)", status->signal,
                 sigdescr_np(status->signal));
    else
        snprintf(how, sizeof how, "exited with code %d", status->code);

    /* The server that failed before its log was open said so in start.log. */
    char *early = NULL;
    snprintf(path, sizeof path, "%s/start.log", state_dir);
    early = read_tail(path);
    if (early != NULL)
        find_telling_line(early, why, sizeof why);
    if (why[0] == '\0' && text != NULL)
        find_telling_line(text, why, sizeof why);
    for (char *c = why; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
    int length = snprintf(out, POSTMASTER_CAUSE_SIZE, "%s%s%s", how, why[0] == '\0' ? "" : ": ",
                          why);
    if (length >= POSTMASTER_CAUSE_SIZE)
        memcpy(out + POSTMASTER_CAUSE_SIZE - 4, "...", 4);
    free(early);
    free(text);
    return out;
}
