#include "snapshots/uploads.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { THREADS_MAX = 16 };

struct upload {
    char key[STORE_KEY_MAX];
    void *data;
    size_t len;
};

struct uploads {
    struct store *store;
    int64_t timeout_ms;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct upload queue[THREADS_MAX];
    int queued, room;
    int under_way;
    bool ending, failed;
    struct err err;
    uint64_t bytes;
    pthread_t threads[THREADS_MAX];
    int thread_count;
};

static void *run(void *arg)
{
    struct uploads *uploads = arg;

    pthread_mutex_lock(&uploads->lock);
    while (!uploads->ending) {
        struct err err = {0};
        struct upload upload;
        struct store_body body;
        int rc;

        if (uploads->queued == 0 || uploads->failed) {
            pthread_cond_wait(&uploads->changed, &uploads->lock);
            continue;
        }
        upload = uploads->queue[0];
        memmove(&uploads->queue[0], &uploads->queue[1],
                (size_t)--uploads->queued * sizeof(uploads->queue[0]));
        uploads->under_way++;
        pthread_cond_broadcast(&uploads->changed);
        pthread_mutex_unlock(&uploads->lock);
        body = (struct store_body){.data = upload.data, .size = upload.len};
        rc = store_put(uploads->store, upload.key, &body, uploads->timeout_ms, &err);
        free(upload.data);
        pthread_mutex_lock(&uploads->lock);
        uploads->under_way--;
        if (rc == 0)
            uploads->bytes += upload.len;
        else if (!uploads->failed)
            uploads->err = err;
        uploads->failed = uploads->failed || rc < 0;
        pthread_cond_broadcast(&uploads->changed);
    }
    pthread_mutex_unlock(&uploads->lock);
    return NULL;
}

int uploads_new(struct store *store, int threads, int64_t timeout_ms, struct uploads **out,
                struct err *err)
{
    struct uploads *uploads = xcalloc(1, sizeof(*uploads));

    OGEL_CHECK(threads > 0 && threads <= THREADS_MAX);
    uploads->store = store;
    uploads->timeout_ms = timeout_ms;
    uploads->room = threads;
    pthread_mutex_init(&uploads->lock, NULL);
    pthread_cond_init(&uploads->changed, NULL);
    for (; uploads->thread_count < threads; uploads->thread_count++) {
        int errnum = pthread_create(&uploads->threads[uploads->thread_count], NULL, run, uploads);

        if (errnum != 0) {
            err_set_errno(err, errnum, "cannot start a thread");
            uploads_free(uploads);
            return -1;
        }
    }
    *out = uploads;
    return 0;
}

static int outcome(const struct uploads *uploads, struct err *err)
{
    if (uploads->failed && err != NULL)
        *err = uploads->err;
    return uploads->failed ? -1 : 0;
}

int uploads_put(struct uploads *uploads, const char *key, void *data, size_t len, struct err *err)
{
    struct upload *upload;
    int rc;

    pthread_mutex_lock(&uploads->lock);
    while (uploads->queued == uploads->room && !uploads->failed)
        pthread_cond_wait(&uploads->changed, &uploads->lock);
    rc = outcome(uploads, err);
    if (rc == 0) {
        upload = &uploads->queue[uploads->queued++];
        memcpy(upload->key, key, strlen(key) + 1);
        upload->data = data;
        upload->len = len;
        pthread_cond_broadcast(&uploads->changed);
    } else {
        free(data);
    }
    pthread_mutex_unlock(&uploads->lock);
    return rc;
}

int uploads_wait(struct uploads *uploads, struct err *err)
{
    int rc;

    pthread_mutex_lock(&uploads->lock);
    while ((uploads->queued > 0 || uploads->under_way > 0) && !uploads->failed)
        pthread_cond_wait(&uploads->changed, &uploads->lock);
    rc = outcome(uploads, err);
    pthread_mutex_unlock(&uploads->lock);
    return rc;
}

uint64_t uploads_bytes(struct uploads *uploads)
{
    uint64_t bytes;

    pthread_mutex_lock(&uploads->lock);
    bytes = uploads->bytes;
    pthread_mutex_unlock(&uploads->lock);
    return bytes;
}

void uploads_free(struct uploads *uploads)
{
    if (uploads == NULL)
        return;
    pthread_mutex_lock(&uploads->lock);
    uploads->ending = true;
    pthread_cond_broadcast(&uploads->changed);
    pthread_mutex_unlock(&uploads->lock);
    for (int i = 0; i < uploads->thread_count; i++)
        pthread_join(uploads->threads[i], NULL);
    for (int i = 0; i < uploads->queued; i++)
        free(uploads->queue[i].data);
    pthread_mutex_destroy(&uploads->lock);
    pthread_cond_destroy(&uploads->changed);
    free(uploads);
}
