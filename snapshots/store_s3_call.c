/*
 * One call of S3 through libs3. libs3 2 (Debian's) has no timeouts, and its own retries do not sign
 * anew; so each try is driven here through a request context, with a deadline of its own, and begun
 * from the start. A context keeps its connections; one whose request ended well is kept for the
 * next call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "snapshots/store_s3_internal.h"

enum {
    TRY_TIMEOUT_MS = 30000, /* of one try; big bodies get more */
    SLOWEST_BYTES_PER_MS = 512,
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 5000,
};

struct s3_store *s3_of(struct store *store)
{
    return (struct s3_store *)store;
}

char *s3_object_name(struct store *store, const char *key)
{
    return xasprintf("%s%s", s3_of(store)->prefix, key);
}

static S3BucketContext bucket_of(const struct s3_store *s3)
{
    return (S3BucketContext){
        .hostName = s3->host,
        .bucketName = s3->bucket,
        .protocol = s3->tls ? S3ProtocolHTTPS : S3ProtocolHTTP,
        .uriStyle = S3UriStylePath,
        .accessKeyId = s3->access_key,
        .secretAccessKey = s3->secret_key,
#ifdef HAVE_LIBS3_REGION
        .authRegion = s3->region,
#endif
    };
}

S3Status s3_on_properties(const S3ResponseProperties *properties, void *arg)
{
    struct s3_request *request = arg;

    request->announced = properties->contentLength;
    if (properties->eTag != NULL)
        snprintf(request->etag, sizeof(request->etag), "%s", properties->eTag);
    return S3StatusOK;
}

void s3_on_complete(S3Status status, const S3ErrorDetails *details, void *arg)
{
    struct s3_request *request = arg;

    request->status = status;
    request->complete = true;
    if (details != NULL && details->message != NULL)
        snprintf(request->detail, sizeof(request->detail), "%s", details->message);
}

/* --- one try -------------------------------------------------------------------------------- */

static S3RequestContext *take_context(struct s3_store *s3)
{
    S3RequestContext *context = NULL;

    pthread_mutex_lock(&s3->lock);
    if (s3->idle_count > 0)
        context = s3->idle[--s3->idle_count];
    pthread_mutex_unlock(&s3->lock);
    if (context == NULL && S3_create_request_context(&context) != S3StatusOK)
        die("libs3 has no memory for a request");
    return context;
}

/* One whose request did not end well goes, with its connections. */
static void give_context(struct s3_store *s3, S3RequestContext *context, bool good)
{
    pthread_mutex_lock(&s3->lock);
    if (good && s3->idle_count < S3_CONTEXTS_MAX) {
        s3->idle[s3->idle_count++] = context;
        context = NULL;
    }
    pthread_mutex_unlock(&s3->lock);
    if (context != NULL)
        S3_destroy_request_context(context);
}

static void wait_for_context(S3RequestContext *context, int64_t wait_ms)
{
    fd_set reads, writes, excepts;
    int64_t asked_ms = S3_get_request_context_timeout(context);
    struct timeval pause;
    int max_fd = -1;

    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_ZERO(&excepts);
    if (S3_get_request_context_fdsets(context, &reads, &writes, &excepts, &max_fd) != S3StatusOK)
        max_fd = -1;
    if (asked_ms >= 0 && asked_ms < wait_ms)
        wait_ms = asked_ms;
    /* Without a descriptor libcurl wants to be asked again soon: a name is being looked up. */
    if (max_fd < 0 && wait_ms > 10)
        wait_ms = 10;
    if (wait_ms > 1000)
        wait_ms = 1000;
    pause = (struct timeval){wait_ms / 1000, wait_ms % 1000 * 1000};
    select(max_fd + 1, &reads, &writes, &excepts, &pause);
}

/* Runs what was added to CONTEXT until it is complete or the deadline passes. */
static void run_context(S3RequestContext *context, struct s3_request *request, int64_t deadline_ms)
{
    int remaining = 1;

    while (!request->complete) {
        int64_t left_ms = deadline_ms - clock_mono_ms();

        if (S3_runonce_request_context(context, &remaining) != S3StatusOK) {
            request->status = S3StatusInternalError;
            return;
        }
        if (request->complete)
            return;
        if (left_ms <= 0) {
            request->status = S3StatusInterrupted;
            return;
        }
        wait_for_context(context, left_ms);
    }
}

/* --- errors and retries --------------------------------------------------------------------- */

/* MinIO's XMinioStorageFull (507) and its quotas: codes that libs3 does not know, so that only
 * their texts come through (MinIO's cmd/api-errors.go). */
static bool is_full(const struct s3_request *request)
{
    return strstr(request->detail, "minimum free drive threshold") != NULL ||
           strstr(request->detail, "Bucket quota exceeded") != NULL;
}

bool s3_may_work_later(const struct s3_request *request)
{
    if (is_full(request))
        return false;
    switch (request->status) {
    case S3StatusErrorInternalError:
    case S3StatusErrorSlowDown:
    case S3StatusErrorOperationAborted:
    case S3StatusErrorRequestTimeout:
    case S3StatusErrorIncompleteBody:
    case S3StatusErrorBadDigest:
    case S3StatusErrorUnknown:
    case S3StatusHttpErrorUnknown:
    case S3StatusHttpErrorConflict:
    case S3StatusInternalError:
    case S3StatusInterrupted:
    case S3StatusNameLookupError:
    case S3StatusFailedToConnect:
    case S3StatusConnectionFailed:
    case S3StatusXmlParseFailure: return true;
    default: return false;
    }
}

static enum err_code code_of(S3Status status)
{
    switch (status) {
    case S3StatusErrorNoSuchKey:
    case S3StatusErrorNoSuchBucket:
    case S3StatusHttpErrorNotFound: return ERR_NOT_FOUND;
    case S3StatusErrorAccessDenied:
    case S3StatusErrorInvalidAccessKeyId:
    case S3StatusErrorSignatureDoesNotMatch:
    case S3StatusErrorExpiredToken:
    case S3StatusErrorInvalidToken:
    case S3StatusErrorRequestTimeTooSkewed:
    case S3StatusHttpErrorForbidden: return ERR_AUTH;
    case S3StatusErrorPreconditionFailed: return ERR_CONFLICT;
    case S3StatusInterrupted: return ERR_TIMEOUT;
    case S3StatusErrorInvalidRange: return ERR_CORRUPT;
    default: return ERR_UNAVAILABLE;
    }
}

static int say_failure(const struct s3_store *s3, const struct s3_request *request, struct err *err)
{
    const char *advice = "";

    if (request->status == S3StatusErrorNoSuchBucket)
        return err_set(err, ERR_NOT_FOUND, "there is no bucket \"%s\" at %s: make it first",
                       s3->bucket, s3->host);
    if (request->status == S3StatusErrorNoSuchKey || request->status == S3StatusHttpErrorNotFound)
        return err_set(err, ERR_NOT_FOUND, "is not there");
    if (is_full(request))
        return err_set(err, ERR_NO_SPACE, "the store is full: %s said %s", s3->host,
                       request->detail);
    if (request->status == S3StatusErrorRequestTimeTooSkewed)
        advice = ": this machine's clock and the server's differ too much; set the clock";
    else if (request->status == S3StatusHttpErrorForbidden) /* the answer to a HEAD has no text */
        advice = ": check access key, secret key and their rights, and this machine's clock";
    else if (code_of(request->status) == ERR_AUTH)
        advice = ": check access key, secret key and their rights";
    return err_set(err, code_of(request->status), "%s said %s%s%s%s", s3->host,
                   S3_get_status_name(request->status), request->detail[0] != '\0' ? ", " : "",
                   request->detail, advice);
}

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&pause, NULL);
}

bool s3_back_off(struct s3_store *s3, struct s3_backoff *backoff, bool slow_down,
                 int64_t deadline_ms)
{
    int64_t now_ms = clock_mono_ms(), pause_ms, slow_until_ms;

    backoff->next_ms = backoff->next_ms == 0 ? BACKOFF_FIRST_MS : backoff->next_ms * 2;
    if (backoff->next_ms > BACKOFF_MAX_MS)
        backoff->next_ms = BACKOFF_MAX_MS;
    pause_ms = backoff->next_ms / 2 + (int64_t)rand_below((uint64_t)backoff->next_ms);
    pthread_mutex_lock(&s3->lock);
    if (slow_down && now_ms + pause_ms > s3->slow_until_ms)
        s3->slow_until_ms = now_ms + pause_ms;
    slow_until_ms = s3->slow_until_ms;
    pthread_mutex_unlock(&s3->lock);
    if (now_ms + pause_ms < slow_until_ms)
        pause_ms = slow_until_ms - now_ms + (int64_t)rand_below(BACKOFF_FIRST_MS);
    if (now_ms + pause_ms >= deadline_ms)
        return false;
    sleep_ms(pause_ms);
    return true;
}

int s3_run_call(struct s3_store *s3, const char *name, const struct s3_call *call,
                struct s3_request *request, int64_t deadline_ms, struct err *err)
{
    const struct s3_request fresh = *request;
    S3BucketContext bucket = bucket_of(s3);
    struct s3_backoff backoff = {0};
    struct err answered = {0}; /* what the server said last */

    for (;;) {
        S3RequestContext *context = take_context(s3);
        int64_t now_ms = clock_mono_ms();
        int64_t try_ms = now_ms + TRY_TIMEOUT_MS + (int64_t)(call->bytes / SLOWEST_BYTES_PER_MS);
        bool again = false, cut;
        int rc;

        *request = fresh;
        call->start(&bucket, name, context, request, call->arg);
        run_context(context, request, try_ms < deadline_ms ? try_ms : deadline_ms);
        cut = !request->complete;
        if (cut) {
            S3Status status = request->status; /* the destruction completes it, as interrupted */

            give_context(s3, context, false);
            request->status = status;
        } else {
            give_context(s3, context, request->status == S3StatusOK);
        }
        if (request->status == S3StatusOK) {
            rc = call->check != NULL ? call->check(request, call->arg, &again, err) : 0;
        } else {
            again = s3_may_work_later(request);
            rc = say_failure(s3, request, err);
            if (err != NULL && !cut)
                answered = *err;
        }
        if (rc == 0)
            err_clear(err); /* of what an earlier try said */
        if (rc == 0 || !again || call->only_once)
            return rc;
        if (!s3_back_off(s3, &backoff, request->status == S3StatusErrorSlowDown, deadline_ms)) {
            if (err != NULL && cut && answered.code != ERR_NONE)
                *err = answered;
            if (err != NULL)
                err->code = ERR_TIMEOUT;
            return err_context(err, "not done in time; the last try");
        }
    }
}
