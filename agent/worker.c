#include "agent/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mem.h"

struct job {
    struct worker *worker;
    struct job *next;
    worker_fn *work;
    worker_fn *done;
    void *arg;
};

struct worker {
    struct loop *loop;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct job *head, **tail;
    int outstanding;
};

static void job_done(void *arg)
{
    struct job *job = arg;
    struct worker *worker = job->worker;

    pthread_mutex_lock(&worker->lock);
    worker->outstanding--;
    pthread_mutex_unlock(&worker->lock);
    job->done(job->arg);
    free(job);
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct job *job;

    for (;;) {
        pthread_mutex_lock(&worker->lock);
        while (!worker->head)
            pthread_cond_wait(&worker->some, &worker->lock);
        job = worker->head;
        worker->head = job->next;
        if (!worker->head)
            worker->tail = &worker->head;
        pthread_mutex_unlock(&worker->lock);
        job->work(job->arg);
        loop_post(worker->loop, job_done, job);
    }
    return NULL;
}

int worker_new(struct worker **out, const char *name, struct loop *loop, struct err *err)
{
    struct worker *worker = xcalloc(1, sizeof *worker);
    sigset_t all, before;
    int rc;

    worker->loop = loop;
    worker->tail = &worker->head;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->some, NULL);
    /* signals belong to the loop's thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&worker->thread, NULL, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(worker);
        return err_set_errno(err, rc, "cannot start thread %s", name);
    }
    pthread_setname_np(worker->thread, name);
    *out = worker;
    return 0;
}

void worker_run(struct worker *worker, worker_fn *work, worker_fn *done, void *arg)
{
    struct job *job = xcalloc(1, sizeof *job);

    *job = (struct job){.worker = worker, .work = work, .done = done, .arg = arg};
    pthread_mutex_lock(&worker->lock);
    worker->outstanding++;
    *worker->tail = job;
    worker->tail = &job->next;
    pthread_cond_signal(&worker->some);
    pthread_mutex_unlock(&worker->lock);
}

bool worker_idle(struct worker *worker)
{
    bool idle;

    pthread_mutex_lock(&worker->lock);
    idle = worker->outstanding == 0;
    pthread_mutex_unlock(&worker->lock);
    return idle;
}
