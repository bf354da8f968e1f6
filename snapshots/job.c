#include "snapshots/job.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum { CALL_MIN_MS = 5000, BEGIN_TIMEOUT_MS = 30000, DEPTH_MAX = 4 };

struct job {
    struct store *store;
    const char *kind;
    char id[SNAPSHOT_ID_SIZE], snapshot[SNAPSHOT_ID_SIZE];
    char key[STORE_KEY_MAX], pin[STORE_KEY_MAX]; /* pin "": none */
    int64_t renew_ms;

    pthread_t thread;
    bool running;
    pthread_mutex_t io;    /* one at a time asks the store; sequence */
    pthread_mutex_t mutex; /* all below */
    pthread_cond_t wake;
    bool stop, lost;
    int64_t told_ms; /* on the boot-time clock: when the last renewal that worked began */

    int64_t sequence; /* makes each word another */
};

/* --- saying that it lives -------------------------------------------------------------------- */

static char *next_text(struct job *job)
{
    char time[CLOCK_ISO8601_SIZE], host[64] = "", *text;
    json_t *json;

    gethostname(host, sizeof(host) - 1);
    json = json_pack("{s:s,s:s,s:s,s:o,s:I,s:I,s:I,s:s}", "job", job->id, "kind", job->kind,
                     "snapshot", job->snapshot, "host", json_text(host), "pid",
                     (json_int_t)getpid(), "renew_ms", (json_int_t)job->renew_ms, "sequence",
                     (json_int_t)++job->sequence, "time",
                     clock_format_iso8601(clock_wall_ms(), time));
    OGEL_CHECK(json != NULL);
    text = json_dump_line(json);
    json_decref(json);
    return text;
}

static int64_t call_timeout(const struct job *job)
{
    return job->renew_ms > CALL_MIN_MS ? job->renew_ms : CALL_MIN_MS;
}

static int put_text(struct job *job, int64_t began_ms, int64_t timeout_ms, struct err *err)
{
    char *text = next_text(job);
    const struct store_body body = {.data = text, .size = strlen(text)};
    int rc = store_put(job->store, job->key, &body, timeout_ms, err);

    free(text);
    if (rc == 0) {
        pthread_mutex_lock(&job->mutex);
        job->told_ms = began_ms;
        pthread_mutex_unlock(&job->mutex);
    }
    return rc;
}

/* The word is there: 0. A collector took it away: 1. -1: the store does not say. */
static int look(struct job *job, int64_t timeout_ms)
{
    struct err err = {0};
    uint64_t size;

    if (store_head(job->store, job->key, &size, timeout_ms, &err) == 0)
        return 0;
    return err.code == ERR_NOT_FOUND ? 1 : -1;
}

/* The time counts from before the look: one that was frozen between the look and the word, and so
 * puts back what a collector took away, finds at the next turn that it was silent for too long. */
static void renew(struct job *job)
{
    int64_t began_ms = clock_boot_ms();
    struct err err = {0};

    pthread_mutex_lock(&job->io);
    pthread_mutex_lock(&job->mutex);
    job->lost = job->lost || began_ms - job->told_ms > JOB_LOST_FACTOR * job->renew_ms;
    pthread_mutex_unlock(&job->mutex);
    if (job->lost || look(job, call_timeout(job)) == 1) {
        pthread_mutex_lock(&job->mutex);
        job->lost = true;
        pthread_mutex_unlock(&job->mutex);
    } else if (put_text(job, began_ms, call_timeout(job), &err) < 0) {
        log_err(LOG_LEVEL_WARNING, "snapshot_job_not_renewed", &err);
    }
    pthread_mutex_unlock(&job->io);
}

static void *renew_run(void *arg)
{
    struct job *job = arg;

    pthread_mutex_lock(&job->mutex);
    while (!job->stop && !job->lost) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += job->renew_ms / 1000;
        until.tv_nsec += job->renew_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        while (!job->stop && pthread_cond_timedwait(&job->wake, &job->mutex, &until) != ETIMEDOUT)
            continue;
        if (job->stop)
            break;
        pthread_mutex_unlock(&job->mutex);
        renew(job);
        pthread_mutex_lock(&job->mutex);
    }
    pthread_mutex_unlock(&job->mutex);
    return NULL;
}

/* --- the job --------------------------------------------------------------------------------- */

static void job_free(struct job *job)
{
    pthread_mutex_destroy(&job->io);
    pthread_mutex_destroy(&job->mutex);
    pthread_cond_destroy(&job->wake);
    free(job);
}

static struct job *job_new(struct store *store, const char *kind, const char *id,
                           const char *snapshot, int64_t renew_ms)
{
    struct job *job = xcalloc(1, sizeof(*job));
    pthread_condattr_t attr;

    job->store = store;
    job->kind = kind;
    job->renew_ms = renew_ms > 0 ? renew_ms : JOB_RENEW_MS;
    if (id != NULL)
        memcpy(job->id, id, SNAPSHOT_ID_SIZE);
    else
        snapshot_id_make(clock_wall_ms(), job->id);
    job_key(job->id, job->key);
    if (snapshot != NULL) {
        memcpy(job->snapshot, snapshot, SNAPSHOT_ID_SIZE);
        pin_key(snapshot, job->id, job->pin);
    }
    OGEL_CHECK(pthread_mutex_init(&job->io, NULL) == 0);
    OGEL_CHECK(pthread_mutex_init(&job->mutex, NULL) == 0);
    OGEL_CHECK(pthread_condattr_init(&attr) == 0);
    OGEL_CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    OGEL_CHECK(pthread_cond_init(&job->wake, &attr) == 0);
    pthread_condattr_destroy(&attr);
    return job;
}

int job_begin(struct store *store, const char *kind, const char *id, const char *snapshot,
              int64_t renew_ms, struct job **out, struct err *err)
{
    const struct store_body empty = {.data = "", .size = 0};
    struct job *job;
    int rc, errnum;

    *out = NULL;
    if (snapshot != NULL && !snapshot_id_valid(snapshot))
        return err_set(err, ERR_INVALID, "\"%.64s\" is no id of a snapshot", snapshot);
    job = job_new(store, kind, id, snapshot, renew_ms);
    /* The word before the pin: a pin without one is a dead job's. */
    rc = put_text(job, clock_boot_ms(), BEGIN_TIMEOUT_MS, err);
    if (rc == 0 && job->pin[0] != '\0')
        rc = store_put(store, job->pin, &empty, BEGIN_TIMEOUT_MS, err);
    if (rc == 0) {
        errnum = pthread_create(&job->thread, NULL, renew_run, job);
        job->running = errnum == 0;
        if (errnum != 0)
            rc = err_set_errno(err, errnum, "cannot start a thread");
    }
    if (rc < 0) {
        job_free(job);
        return -1;
    }
    *out = job;
    return 0;
}

static int say_lost(const struct job *job, struct err *err)
{
    return err_set(err, ERR_CONFLICT,
                   "job %s could not say in the store for %" PRId64
                   " s that it runs, or was taken for dead: what it wrote may have been collected; "
                   "begin again",
                   job->id, job->renew_ms * JOB_LOST_FACTOR / 1000);
}

int job_check_quick(struct job *job, struct err *err)
{
    bool lost;

    pthread_mutex_lock(&job->mutex);
    lost = job->lost || clock_boot_ms() - job->told_ms > JOB_LOST_FACTOR * job->renew_ms;
    pthread_mutex_unlock(&job->mutex);
    return lost ? say_lost(job, err) : 0;
}

int job_check(struct job *job, struct err *err)
{
    int seen;

    pthread_mutex_lock(&job->io);
    seen = look(job, call_timeout(job));
    pthread_mutex_unlock(&job->io);
    if (seen == 1)
        return say_lost(job, err);
    return job_check_quick(job, err);
}

static void remove_object(struct job *job, const char *key)
{
    struct err err = {0};

    /* One that stays keeps things longer than needed: no harm. */
    if (store_delete(job->store, key, BEGIN_TIMEOUT_MS, &err) < 0)
        log_err(LOG_LEVEL_WARNING, "snapshot_pin_left", &err);
}

void job_end(struct job *job)
{
    if (job == NULL)
        return;
    pthread_mutex_lock(&job->mutex);
    job->stop = true;
    pthread_cond_signal(&job->wake);
    pthread_mutex_unlock(&job->mutex);
    pthread_join(job->thread, NULL);
    if (job->pin[0] != '\0')
        remove_object(job, job->pin);
    remove_object(job, job->key);
    job_free(job);
}

int64_t job_renew_ms(const char *data, size_t len)
{
    int64_t renew_ms = JOB_RENEW_MS;
    json_t *json = NULL;

    if (json_parse_bounded(data, len, DEPTH_MAX, &json, NULL) == 0 &&
        json_field_int(json, "renew_ms", JSON_REQUIRED, JOB_RENEW_MIN_MS, JOB_RENEW_MAX_MS,
                       &renew_ms, NULL) < 0)
        renew_ms = JOB_RENEW_MS;
    json_decref(json);
    return renew_ms;
}
