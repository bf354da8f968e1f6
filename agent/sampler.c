#include "agent/sampler.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"

enum {
    BURST_MS = 10, /* between samples while something changes */
    QUIET_MS = 500,
    STARTING_MS = 30000,
    CONNECT_DEADLINE_MS = 1000,
    FAILING_MS = 200, /* between fresh connections while they fail */
    EXTRAS_MS = 10000,
    EXTRAS_AGAIN_MS = 500, /* a reload takes effect in each session by itself */
    FLUSH_LATE_MS = 400,
    PAGE_HEADER_MAX = 64,  /* the insert position may be past a header that is not written yet */
    IDLE_WRITE_MS = 10000, /* a primary that writes nothing is made to, this often */
};

struct sampler {
    const struct agent_config *config;
    struct loop *loop;
    sample_fn *fn;
    void *arg;
    pthread_t thread;

    /* shared with the loop's thread */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pid_t pid;
    uint64_t life;
    int64_t burst_until_ms;
    int64_t starting_until_ms; /* until then a server without a session is looked at closely */
    bool suspect;
    bool extras;
    bool poked;

    /* the thread's own */
    struct pg_conn *conn;
    uint64_t conn_life;
    int64_t probe_due_ms;
    int64_t extras_due_ms;
    int64_t write_due_ms;
    uint64_t written_lsn; /* at the last write */
    uint64_t flushed_lsn; /* of the last sample */
    int64_t unflushed_ms; /* WAL waits and nothing is flushed since; 0: not so */
};

struct delivery {
    struct sampler *sampler;
    struct sample sample;
};

static void deliver(void *arg)
{
    struct delivery *delivery = arg;

    delivery->sampler->fn(&delivery->sample, delivery->sampler->arg);
    free(delivery);
}

static void drop_lost(struct sampler *s, uint64_t life)
{
    if (s->conn && (s->conn_life != life || !pg_is_open(s->conn))) {
        pg_close(s->conn);
        s->conn = NULL;
    }
}

static bool connected(struct sampler *s, struct sample *sample)
{
    struct local_conninfo local;
    struct pg_outcome outcome;

    drop_lost(s, sample->life);
    if (s->conn)
        return true;
    local_conninfo(&local, s->config, "ogel_agent_sampler", false);
    s->conn = pg_open(&local.info, CONNECT_DEADLINE_MS, &outcome, NULL);
    s->conn_life = sample->life;
    s->extras_due_ms = 0;
    if (s->conn)
        return true;
    sample->status = outcome.status;
    snprintf(sample->message, sizeof sample->message, "%s", outcome.message);
    return false;
}

/* A write each time where the server writes anyway; an idle one is left alone most of the time, so
 * that our own writes do not make checkpoints and WAL switches by themselves. */
static bool write_due(struct sampler *s, const struct sample *sample, int64_t now, bool suspect)
{
    if (sample->status == PG_OK && sample->in_recovery)
        return false;
    if (!suspect && sample->status == PG_OK && sample->write_lsn - s->written_lsn < 4096 &&
        now < s->write_due_ms)
        return false;
    s->written_lsn = sample->write_lsn;
    s->write_due_ms = now + IDLE_WRITE_MS;
    return true;
}

/* A disk that hangs shows here first, if anybody writes at all. */
static bool flush_hangs(struct sampler *s, const struct sample *sample, int64_t now)
{
    bool waits = sample->status == PG_OK && !sample->in_recovery &&
                 sample->write_lsn > sample->flush_lsn + PAGE_HEADER_MAX;

    if (!waits || sample->flush_lsn != s->flushed_lsn || s->unflushed_ms == 0)
        s->unflushed_ms = waits ? now : 0;
    s->flushed_lsn = sample->flush_lsn;
    return waits && now - s->unflushed_ms >= FLUSH_LATE_MS;
}

static void take(struct sampler *s, struct sample *sample, bool suspect)
{
    int64_t now = clock_boot_ms();

    sample->taken_ms = now;
    if (connected(s, sample)) {
        sample_state(s->conn, sample);
        drop_lost(s, sample->life);
        if (sample->status == PG_OK && now >= s->extras_due_ms) {
            sample_extras(s->conn, sample);
            s->extras_due_ms = now + (s->extras_due_ms == 0 ? EXTRAS_AGAIN_MS : EXTRAS_MS);
        }
    }
    /* a server that is starting up is no suspect */
    suspect = flush_hangs(s, sample, now) || suspect || sample->status == PG_TIMEOUT ||
              sample->status == PG_OTHER;
    if (sample->status == PG_STARTING_UP || sample->status == PG_REFUSED)
        return;
    if (suspect || now >= s->probe_due_ms) {
        sample_probe(s->config, write_due(s, sample, now, suspect), sample);
        s->probe_due_ms = clock_boot_ms() + (sample->probe_ok ? s->config->options.probe_interval_ms
                                                              : (int64_t)FAILING_MS);
    }
}

static void wait_until(struct sampler *s, int64_t due_ms)
{
    struct timespec ts = {.tv_sec = due_ms / 1000, .tv_nsec = due_ms % 1000 * 1000000};

    pthread_cond_timedwait(&s->changed, &s->lock, &ts);
}

/* Waits until a sample is due. */
static void wait_due(struct sampler *s, int64_t last_ms, struct sample *sample, bool *suspect)
{
    pthread_mutex_lock(&s->lock);
    for (;;) {
        int64_t now = clock_mono_ms();
        bool burst = now < s->burst_until_ms || (!s->conn && now < s->starting_until_ms);
        int64_t pause = burst ? BURST_MS : QUIET_MS;

        if (s->pid == 0) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        if (s->poked || s->suspect || now - last_ms >= pause)
            break;
        wait_until(s, last_ms + pause);
    }
    sample->life = s->life;
    *suspect = s->suspect;
    if (s->extras)
        s->extras_due_ms = 0;
    s->suspect = s->extras = s->poked = false;
    pthread_mutex_unlock(&s->lock);
}

static void *sampler_main(void *arg)
{
    struct sampler *s = arg;
    int64_t last_ms = 0;

    for (;;) {
        struct delivery *delivery = xcalloc(1, sizeof *delivery);
        bool suspect;

        delivery->sampler = s;
        wait_due(s, last_ms, &delivery->sample, &suspect);
        last_ms = clock_mono_ms();
        take(s, &delivery->sample, suspect);
        loop_post(s->loop, deliver, delivery);
    }
    return NULL;
}

int sampler_new(struct sampler **out, const struct agent_config *config, struct loop *loop,
                sample_fn *fn, void *arg, struct err *err)
{
    struct sampler *s = xcalloc(1, sizeof *s);
    pthread_condattr_t attr;
    sigset_t all, before;
    int rc;

    s->config = config;
    s->loop = loop;
    s->fn = fn;
    s->arg = arg;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&s->thread, NULL, sampler_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(s);
        return err_set_errno(err, rc, "cannot start thread sampler");
    }
    pthread_setname_np(s->thread, "sampler");
    *out = s;
    return 0;
}

void sampler_server(struct sampler *s, pid_t pid, uint64_t life)
{
    pthread_mutex_lock(&s->lock);
    s->pid = pid;
    s->life = life;
    s->starting_until_ms = clock_mono_ms() + STARTING_MS;
    s->poked = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void sampler_burst(struct sampler *s, int64_t for_ms)
{
    pthread_mutex_lock(&s->lock);
    s->burst_until_ms = clock_mono_ms() + for_ms;
    if (for_ms > 0) {
        s->poked = true;
        pthread_cond_signal(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}

void sampler_extras(struct sampler *s)
{
    pthread_mutex_lock(&s->lock);
    s->extras = s->poked = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void sampler_suspect(struct sampler *s)
{
    pthread_mutex_lock(&s->lock);
    s->suspect = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
