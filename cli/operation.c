#include "cli/operation.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/view.h"

enum { LOOK_MS = 100, LOOK_TIMEOUT_MS = 3000, WRITES_WITHIN_MS = 20000 };

void print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* --- asking --------------------------------------------------------------------------------- */

enum ctl_exit operation_ask(const struct ctl *ctl, const char *text, struct err *err)
{
    char answer[16] = "";

    fprintf(stderr, "%s\n", text);
    if (ctl->yes)
        return CTL_OK;
    if (!isatty(STDIN_FILENO)) {
        err_set(err, ERR_REFUSED,
                "nothing was done: there is no terminal to ask at; --yes says that "
                "you mean it");
        return CTL_USAGE;
    }
    fputs("Go on? [y/N] ", stderr);
    if (fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y'))
        return CTL_OK;
    err_set(err, ERR_REFUSED, "nothing was done");
    return CTL_REFUSED;
}

/* --- progress ------------------------------------------------------------------------------- */

void progress_begin(struct progress *progress, const struct ctl *ctl)
{
    const char *term = getenv("TERM");

    *progress = (struct progress){.ctl = ctl,
                                  .began_ms = clock_mono_ms(),
                                  .terminal = isatty(STDERR_FILENO) && term != NULL &&
                                              strcmp(term, "dumb") != 0};
}

double progress_seconds(const struct progress *progress)
{
    return (double)(clock_mono_ms() - progress->began_ms) / 1000;
}

void progress_show(struct progress *progress, const char *text)
{
    bool changed = strcmp(text, progress->last) != 0;

    if (progress->terminal)
        fprintf(stderr, "\r\033[K%6.1f s  %.120s", progress_seconds(progress), text);
    else if (changed)
        fprintf(stderr, "%6.1f s  %s\n", progress_seconds(progress), text);
    if (changed)
        snprintf(progress->last, sizeof(progress->last), "%s", text);
    progress->shown = progress->terminal;
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
    fflush(stderr);
}

/* --- looking -------------------------------------------------------------------------------- */

static void describe(const json_t *cluster, const char *id, char *out, size_t size)
{
    const json_t *node = id != NULL ? view_node(cluster, id) : NULL;
    const char *phase = view_text(cluster, "phase"), *leader = view_leader(cluster);
    size_t used;

    if (phase[0] != '\0' && strcmp(phase, "idle") != 0)
        snprintf(out, size, "%s", phase);
    else if (leader[0] == '\0')
        snprintf(out, size, "no leader: %s", view_text(cluster, "why"));
    else if (view_flag(cluster, "writable"))
        snprintf(out, size, "%s leads generation %" PRId64 ", writes ok", leader,
                 view_number(cluster, "generation", 0));
    else
        snprintf(out, size, "%s leads generation %" PRId64 ", no writes yet: %s", leader,
                 view_number(cluster, "generation", 0), view_text(cluster, "why"));
    used = strlen(out);
    if (node == NULL)
        return;
    snprintf(out + used, size - used, "; %s: %s%s%s", id, view_text(node, "state"),
             view_text(node, "step")[0] != '\0' ? ", " : "", view_text(node, "step"));
    used = strlen(out);
    if (view_number(node, "progress_percent", 0) > 0 &&
        view_number(node, "progress_percent", 0) < 100)
        snprintf(out + used, size - used, " %" PRId64 " %%",
                 view_number(node, "progress_percent", 0));
}

/* A look that fails is no news: the next one may succeed. */
static json_t *look(struct ctl *ctl, struct progress *progress, const char *node, struct err *err)
{
    struct ctl looker = *ctl;
    char *path = client_cluster_path(ctl, "");
    json_t *cluster = NULL;
    char text[160];

    looker.timeout_ms = LOOK_TIMEOUT_MS;
    err_clear(err);
    if (client_get(&looker, path, &cluster, err) == CTL_OK) {
        describe(cluster, node, text, sizeof(text));
        progress_show(progress, text);
    }
    free(path);
    return cluster;
}

enum ctl_exit operation_cluster(struct ctl *ctl, json_t **cluster, struct err *err)
{
    enum ctl_exit rc = client_find_cluster(ctl, err);
    char *path;

    *cluster = NULL;
    if (rc != CTL_OK)
        return rc;
    path = client_cluster_path(ctl, "");
    rc = client_get(ctl, path, cluster, err);
    free(path);
    return rc;
}

enum ctl_exit operation_wait(struct ctl *ctl, struct progress *progress, int64_t timeout_ms,
                             const char *node, operation_done_fn *done, void *arg, struct err *err)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    int64_t began_ms = clock_mono_ms();

    while (true) {
        struct err failure = {0};
        json_t *cluster = look(ctl, progress, node, &failure);
        enum wait state = WAIT_ON;

        if (cluster != NULL)
            state = done(cluster, arg, err);
        json_decref(cluster);
        if (state != WAIT_ON)
            return state == WAIT_DONE ? CTL_OK : CTL_REFUSED;
        if (timeout_ms > 0 && clock_mono_ms() - began_ms >= timeout_ms) {
            err_set(err, ERR_TIMEOUT, "not done after %.0f s; last seen: %s",
                    (double)timeout_ms / 1000, failure.code ? failure.text : progress->last);
            return CTL_UNDECIDED;
        }
        nanosleep(&pause, NULL);
    }
}

/* --- acting --------------------------------------------------------------------------------- */

/* The call that changes something waits in a thread of its own, so that this one can look. */
struct post {
    struct ctl ctl;
    char *path;
    const json_t *body;
    json_t *answer;
    enum ctl_exit rc;
    struct err err;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
};

static void *post_run(void *arg)
{
    struct post *post = arg;

    post->rc = client_post(&post->ctl, post->path, post->body, &post->answer, &post->err);
    pthread_mutex_lock(&post->lock);
    post->done = true;
    pthread_cond_signal(&post->ended);
    pthread_mutex_unlock(&post->lock);
    return NULL;
}

static bool post_ended(struct post *post, int64_t wait_ms)
{
    struct timespec until;
    bool done;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += wait_ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&post->lock);
    if (!post->done)
        pthread_cond_timedwait(&post->ended, &post->lock, &until);
    done = post->done;
    pthread_mutex_unlock(&post->lock);
    return done;
}

enum ctl_exit operation_post(struct ctl *ctl, struct progress *progress, const char *suffix,
                             const json_t *body, const char *node, json_t **answer, struct err *err)
{
    struct post post = {.ctl = *ctl,
                        .body = body,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .ended = PTHREAD_COND_INITIALIZER};
    pthread_t thread;
    int errnum;

    post.path = client_cluster_path(ctl, suffix);
    errnum = pthread_create(&thread, NULL, post_run, &post);
    if (errnum != 0) {
        free(post.path);
        *answer = NULL;
        err_set_errno(err, errnum, "cannot start a thread");
        return CTL_REFUSED;
    }
    while (!post_ended(&post, LOOK_MS)) {
        struct err ignored = {0};

        json_decref(look(ctl, progress, node, &ignored));
    }
    pthread_join(thread, NULL);
    progress_end(progress);
    free(post.path);
    ctl->current = post.ctl.current;
    *answer = post.answer;
    *err = post.err;
    if (post.rc == CTL_REFUSED && json_is_object(json_object_get(post.answer, "cluster")) &&
        !view_flag(json_object_get(post.answer, "cluster"), "failover_possible"))
        view_print_blockers(json_object_get(post.answer, "cluster"), stderr, ctl->color_err);
    if (post.rc == CTL_REFUSED)
        err_context(err, "refused");
    return post.rc;
}

/* --- how it ended --------------------------------------------------------------------------- */

static enum wait takes_writes(const json_t *cluster, void *arg, struct err *err)
{
    json_t **last = arg;

    (void)err;
    json_decref(*last);
    *last = json_incref((json_t *)(uintptr_t)cluster);
    return view_flag(cluster, "writable") ? WAIT_DONE : WAIT_ON;
}

enum ctl_exit operation_say_leader(struct ctl *ctl, struct progress *progress, const char *what,
                                   struct err *err)
{
    json_t *cluster = NULL;
    enum ctl_exit rc = operation_wait(ctl, progress, WRITES_WITHIN_MS, NULL, takes_writes, &cluster,
                                      err);

    progress_end(progress);
    if (rc == CTL_OK && ctl->json)
        print_json(cluster);
    else if (rc == CTL_OK)
        printf("%s: %s leads generation %" PRId64 " and takes writes (%.1f s)\n", what,
               view_leader(cluster), view_number(cluster, "generation", 0),
               progress_seconds(progress));
    else
        err_context(err, "%s, but it does not take writes", what);
    json_decref(cluster);
    return rc;
}

struct job_wait {
    const char *node;
    int64_t id;
};

static enum wait job_done(const json_t *cluster, void *arg, struct err *err)
{
    const struct job_wait *wait = arg;
    const json_t *node = view_node(cluster, wait->node);
    const json_t *job = json_object_get(node, "job");
    const char *state = view_text(job, "state");

    if (view_number(job, "id", 0) != wait->id)
        return WAIT_ON;
    if (strcmp(state, "failed") == 0) {
        const char *cause = view_text(node, "cause");

        err_set(err, ERR_REFUSED, "%s: the %s failed%s%s", wait->node, view_text(job, "kind"),
                cause[0] != '\0' ? ": " : "", cause);
        return WAIT_FAILED;
    }
    return strcmp(state, "done") == 0 && view_settled(node) ? WAIT_DONE : WAIT_ON;
}

enum ctl_exit operation_job(struct ctl *ctl, struct progress *progress, const char *node,
                            const char *kind, const json_t *body, int64_t timeout_ms,
                            struct err *err)
{
    char *id = client_encode(node);
    char *suffix = xasprintf("/nodes/%s/%s", id, kind);
    struct job_wait wait = {.node = node};
    json_t *answer = NULL;
    enum ctl_exit rc = operation_post(ctl, progress, suffix, body, node, &answer, err);

    if (rc == CTL_OK) {
        const json_t *handed = view_node(json_object_get(answer, "cluster"), node);

        wait.id = view_number(json_object_get(handed, "job"), "id", 0);
        rc = operation_wait(ctl, progress, timeout_ms, node, job_done, &wait, err);
        progress_end(progress);
    }
    json_decref(answer);
    free(suffix);
    free(id);
    return rc;
}
