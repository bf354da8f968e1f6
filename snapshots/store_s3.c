/*
 * S3 as a store, through libs3.
 *
 * What counts as done: a put after which a head gives the size, and as ETag the MD5, of what was
 * sent (libs3 2 keeps a put's own ETag to itself), or else a read of the object gives what was
 * sent: the ETag of a server that encrypts is no MD5. And a get that brought as many bytes as its
 * answer announced. libs3 itself takes a body that was cut off, and a put whose connection ended
 * without an answer, for a success.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rand.h"
#include "base/secret.h"
#include "snapshots/store_s3_internal.h"

enum {
    PUTS_MAX = 3, /* that are taken and then are not there as they were sent */
    MD5_SIZE = 16,
};

static const S3ResponseHandler plain_handler = {s3_on_properties, s3_on_complete};

/* --- head ----------------------------------------------------------------------------------- */

static void start_head(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                       struct s3_request *request, const void *arg)
{
    (void)arg;
    S3_head_object(bucket, name, context, S3_NO_TIMEOUT & plain_handler, request);
}

/* Where the server died in the middle of its headers, libs3 takes those that came for all: an
 * object without a length would be an empty one. The length comes before or with the ETag. */
static int check_headers(struct s3_request *request, const void *arg, bool *again, struct err *err)
{
    (void)arg;
    *again = true;
    return request->etag[0] != '\0' ? 0 : err_set(err, ERR_UNAVAILABLE, "the answer was cut off");
}

static int head_request(struct s3_store *s3, const char *name, struct s3_request *request,
                        int64_t deadline_ms, struct err *err)
{
    const struct s3_call call = {.start = start_head, .check = check_headers};

    memset(request, 0, sizeof(*request));
    return s3_run_call(s3, name, &call, request, deadline_ms, err);
}

static int s3_head(struct store *store, const char *key, uint64_t *size, int64_t deadline_ms,
                   struct err *err)
{
    char *name = s3_object_name(store, key);
    struct s3_request request;
    int rc = head_request(s3_of(store), name, &request, deadline_ms, err);

    if (rc == 0)
        *size = request.announced;
    free(name);
    return rc;
}

/* --- get ------------------------------------------------------------------------------------ */

static S3Status on_receive(int size, const char *data, void *arg)
{
    struct s3_request *request = arg;

    if ((uint64_t)size > request->room - request->moved)
        return S3StatusAbortedByCallback; /* more than was asked for */
    memcpy(request->buf + request->moved, data, (size_t)size);
    request->moved += (uint64_t)size;
    return S3StatusOK;
}

struct get_call {
    uint64_t offset;
    uint64_t len;
};

static void start_get(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                      struct s3_request *request, const void *arg)
{
    static const S3GetObjectHandler handler = {{s3_on_properties, s3_on_complete}, on_receive};
    const struct get_call *get = arg;

    S3_get_object(bucket, name, NULL, get->offset, get->len, context, S3_NO_TIMEOUT & handler,
                  request);
}

static int check_get(struct s3_request *request, const void *arg, bool *again, struct err *err)
{
    if (check_headers(request, arg, again, err) < 0)
        return -1;
    if (request->moved == request->announced || request->moved == request->room)
        return 0;
    *again = true;
    return err_set(err, ERR_UNAVAILABLE, "%" PRIu64 " of %" PRIu64 " bytes came", request->moved,
                   request->announced);
}

static int s3_get(struct store *store, const char *key, uint64_t offset, size_t len, void *buf,
                  size_t *got, int64_t deadline_ms, struct err *err)
{
    struct get_call get = {offset, len};
    const struct s3_call call = {start_get, check_get, &get, len, false};
    struct s3_request request = {.buf = buf, .room = len};
    char *name = s3_object_name(store, key);
    int rc = s3_run_call(s3_of(store), name, &call, &request, deadline_ms, err);

    *got = (size_t)request.moved;
    if (rc < 0 && request.status == S3StatusErrorInvalidRange) {
        *got = 0; /* the object ends before: the caller says so */
        rc = 0;
    }
    free(name);
    return rc;
}

/* --- put ------------------------------------------------------------------------------------ */

static int on_send(int size, char *buf, void *arg)
{
    struct s3_request *request = arg;
    uint64_t left = request->body->size - request->moved;
    size_t len = left < (uint64_t)size ? (size_t)left : (size_t)size;

    if (request->body->data != NULL) {
        memcpy(buf, (const char *)request->body->data + request->moved, len);
    } else {
        ssize_t got;

        do
            got = pread(request->body->fd, buf, len, (off_t)request->moved);
        while (got < 0 && errno == EINTR);
        if (got < 0 || (got == 0 && len > 0))
            return -1;
        len = (size_t)got;
    }
    request->moved += len;
    return (int)len;
}

struct put_call {
    const struct store_body *body;
    char md5_base64[EVP_ENCODE_LENGTH(MD5_SIZE)];
    char md5_hex[2 * MD5_SIZE + 1];
};

static int digest_body(const struct store_body *body, uint8_t md5[MD5_SIZE], struct err *err)
{
    enum { CHUNK = 65536 };
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    char *chunk = NULL;
    uint64_t at = 0;
    int rc = 0;

    OGEL_CHECK(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1);
    if (body->data != NULL) {
        OGEL_CHECK(EVP_DigestUpdate(ctx, body->data, (size_t)body->size) == 1);
        at = body->size;
    }
    if (at < body->size)
        chunk = xmalloc(CHUNK);
    while (rc == 0 && at < body->size) {
        size_t want = body->size - at < CHUNK ? (size_t)(body->size - at) : CHUNK;
        ssize_t got = pread(body->fd, chunk, want, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            rc = err_set_errno(err, got < 0 ? errno : EIO, "cannot read what is to be stored");
        else
            OGEL_CHECK(EVP_DigestUpdate(ctx, chunk, (size_t)got) == 1);
        at += got > 0 ? (uint64_t)got : 0;
    }
    OGEL_CHECK(EVP_DigestFinal_ex(ctx, md5, NULL) == 1);
    EVP_MD_CTX_free(ctx);
    free(chunk);
    return rc;
}

static void start_put(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                      struct s3_request *request, const void *arg)
{
    static const S3PutObjectHandler handler = {{s3_on_properties, s3_on_complete}, on_send};
    const struct put_call *put = arg;
    const S3PutProperties properties = {
        .contentType = "application/octet-stream",
        .md5 = put->md5_base64,
        .expires = -1,
    };

    S3_put_object(bucket, name, put->body->size, &properties, context, S3_NO_TIMEOUT & handler,
                  request);
}

static int check_put(struct s3_request *request, const void *arg, bool *again, struct err *err)
{
    const struct put_call *put = arg;

    *again = true;
    if (request->moved != put->body->size)
        return err_set(err, ERR_UNAVAILABLE, "was taken before it was whole");
    return 0;
}

/* The MD5 of what the store has, read anew. */
static int digest_object(struct s3_store *s3, const char *key, uint64_t size, char *hex,
                         int64_t deadline_ms, struct err *err)
{
    enum { CHUNK = 4 * 1024 * 1024 };
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t md5[EVP_MAX_MD_SIZE];
    char *chunk = xmalloc(CHUNK);
    int rc = 0;

    OGEL_CHECK(ctx != NULL && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1);
    for (uint64_t at = 0; rc == 0 && at < size;) {
        size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK, got;

        rc = s3_get(&s3->base, key, at, want, chunk, &got, deadline_ms, err);
        if (rc == 0)
            OGEL_CHECK(EVP_DigestUpdate(ctx, chunk, got) == 1);
        at += want;
    }
    OGEL_CHECK(EVP_DigestFinal_ex(ctx, md5, NULL) == 1);
    rand_hex_format(md5, MD5_SIZE, hex);
    EVP_MD_CTX_free(ctx);
    free(chunk);
    return rc;
}

static int confirm_put(struct s3_store *s3, const char *key, const char *name,
                       const struct put_call *put, int64_t deadline_ms, struct err *err)
{
    char hex[2 * MD5_SIZE + 1] = "";
    struct s3_request seen;

    if (head_request(s3, name, &seen, deadline_ms, err) < 0) {
        if (err != NULL && err->code == ERR_NOT_FOUND)
            err->code = ERR_UNAVAILABLE;
        return err_context(err, "was taken, but");
    }
    if (seen.announced != put->body->size)
        return err_set(err, ERR_CORRUPT, "was taken, but has %" PRIu64 " bytes instead of %" PRIu64,
                       seen.announced, put->body->size);
    if (strstr(seen.etag, put->md5_hex) != NULL)
        return 0;
    if (digest_object(s3, key, put->body->size, hex, deadline_ms, err) < 0)
        return err_context(err, "was taken, but cannot be read back");
    if (strcmp(hex, put->md5_hex) != 0)
        return err_set(err, ERR_CORRUPT, "was taken, but reads otherwise than it was sent");
    return 0;
}

static int s3_put(struct store *store, const char *key, const struct store_body *body,
                  bool only_new, int64_t deadline_ms, struct err *err)
{
    struct s3_store *s3 = s3_of(store);
    struct put_call put = {.body = body};
    const struct s3_call call = {start_put, check_put, &put, body->size, false};
    struct s3_backoff backoff = {0};
    char *name = s3_object_name(store, key);
    uint8_t md5[MD5_SIZE];
    int rc = digest_body(body, md5, err);
    bool done = rc < 0;

    OGEL_CHECK(!only_new);
    EVP_EncodeBlock((unsigned char *)put.md5_base64, md5, MD5_SIZE);
    rand_hex_format(md5, MD5_SIZE, put.md5_hex);
    for (int puts = 1; !done; puts++) {
        struct s3_request request = {.body = body};

        rc = s3_run_call(s3, name, &call, &request, deadline_ms, err);
        done = rc < 0;
        if (rc == 0)
            rc = confirm_put(s3, key, name, &put, deadline_ms, err);
        done = done || rc == 0 || puts == PUTS_MAX ||
               !s3_back_off(s3, &backoff, false, deadline_ms);
    }
    free(name);
    return rc;
}

/* --- delete --------------------------------------------------------------------------------- */

static void start_delete(const S3BucketContext *bucket, const char *name, S3RequestContext *context,
                         struct s3_request *request, const void *arg)
{
    (void)arg;
    S3_delete_object(bucket, name, context, S3_NO_TIMEOUT & plain_handler, request);
}

static int s3_delete(struct store *store, const char *key, int64_t deadline_ms, struct err *err)
{
    const struct s3_call call = {.start = start_delete};
    struct s3_request request = {0};
    char *name = s3_object_name(store, key);
    int rc = s3_run_call(s3_of(store), name, &call, &request, deadline_ms, err);

    if (rc < 0 &&
        (request.status == S3StatusErrorNoSuchKey || request.status == S3StatusHttpErrorNotFound))
        rc = 0;
    free(name);
    return rc;
}

/* --- the store ------------------------------------------------------------------------------ */

static void s3_close(struct store *store)
{
    struct s3_store *s3 = s3_of(store);

    while (s3->idle_count > 0)
        S3_destroy_request_context(s3->idle[--s3->idle_count]);
    pthread_mutex_destroy(&s3->lock);
    secret_wipe(s3->secret_key, sizeof(s3->secret_key));
    free(s3->host);
    free(s3->bucket);
    free(s3->prefix);
    free(s3->region);
    free(s3);
    S3_deinitialize();
}

static const struct store_ops s3_ops = {
    .has_put_new = false,
    .put = s3_put,
    .get = s3_get,
    .head = s3_head,
    .list = s3_list,
    .remove = s3_delete,
    .close = s3_close,
};

static int read_credentials(struct s3_store *s3, const char *file, struct err *err)
{
    char line[sizeof(s3->access_key) + sizeof(s3->secret_key)] = "";
    const char *access = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
    char *colon;
    int rc = 0;

    if (file != NULL) {
        if (secret_read_file(file, line, sizeof(line), err) < 0)
            return err_context(err, "the store's credentials");
        colon = strchr(line, ':');
        if (colon == NULL)
            rc = err_set(err, ERR_INVALID, "%s: has no line ACCESS_KEY:SECRET_KEY", file);
        else
            *colon = '\0';
        access = line;
        secret = colon != NULL ? colon + 1 : "";
    }
    if (rc == 0 && (access == NULL || secret == NULL || access[0] == '\0' || secret[0] == '\0'))
        rc = err_set(err, ERR_AUTH,
                     "the store's credentials are missing: name a file with the line "
                     "ACCESS_KEY:SECRET_KEY, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    if (rc == 0 &&
        (strlen(access) >= sizeof(s3->access_key) || strlen(secret) >= sizeof(s3->secret_key)))
        rc = err_set(err, ERR_INVALID, "the store's credentials are too long");
    if (rc == 0) {
        snprintf(s3->access_key, sizeof(s3->access_key), "%s", access);
        snprintf(s3->secret_key, sizeof(s3->secret_key), "%s", secret);
    }
    secret_wipe(line, sizeof(line));
    return rc;
}

/* HOST[:PORT]/BUCKET[/PREFIX] into its parts; the prefix gets its slash. */
static int read_place(struct s3_store *s3, const char *place, struct err *err)
{
    size_t host = strcspn(place, "/"), bucket;
    const char *rest = place + host;

    if (strchr(place, '@') != NULL)
        return err_set(err, ERR_INVALID,
                       "store: credentials do not belong into the URL, where everybody sees them");
    rest += *rest == '/';
    bucket = strcspn(rest, "/");
    s3->host = xstrndup(place, host);
    s3->bucket = xstrndup(rest, bucket);
    rest += bucket + (rest[bucket] == '/');
    s3->prefix = rest[0] != '\0' ? xasprintf("%s%s", rest, rest[strlen(rest) - 1] == '/' ? "" : "/")
                                 : xstrdup("");
    if (host == 0 || bucket == 0)
        return err_set(err, ERR_INVALID, "store: \"%.200s\" (allowed: HOST[:PORT]/BUCKET[/PREFIX])",
                       place);
    if (s3->prefix[0] != '\0') {
        char *bare = xstrndup(s3->prefix, strlen(s3->prefix) - 1);
        bool valid = store_key_valid(bare);

        free(bare);
        if (!valid)
            return err_set(err, ERR_INVALID,
                           "store: prefix \"%.200s\" (allowed: letters, digits, \".\", \"_\", "
                           "\"-\", between single slashes)",
                           s3->prefix);
    }
    return 0;
}

/* libs3 2 (Debian's) looks at no certificate, and cannot be told to. */
#ifdef S3_INIT_VERIFY_PEER
enum { INIT_FLAGS = S3_INIT_ALL | S3_INIT_VERIFY_PEER };
#else
enum { INIT_FLAGS = S3_INIT_ALL };
#endif

int store_s3_open(const char *place, bool tls, const struct store_options *options,
                  struct store **store, struct err *err)
{
    struct s3_store *s3;
    S3Status status = S3_initialize("ogel", INIT_FLAGS, NULL);

    if (status != S3StatusOK)
        return err_set(err, ERR_INTERNAL, "libs3 does not start: %s", S3_get_status_name(status));
    s3 = xcalloc(1, sizeof(*s3));
    s3->base.ops = &s3_ops;
    s3->tls = tls;
    s3->region = xstrdup(options->region != NULL ? options->region : "us-east-1");
    pthread_mutex_init(&s3->lock, NULL);
    if (read_place(s3, place, err) < 0 ||
        read_credentials(s3, options->credentials_file, err) < 0) {
        s3_close(&s3->base);
        return -1;
    }
    *store = &s3->base;
    return 0;
}
