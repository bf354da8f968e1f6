#include "tests/unit/fake_s3.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rand.h"

enum { HEAD_MAX = 16384, MD5 = 16 };

struct request {
    char head[HEAD_MAX];
    char method[8], path[512], query[512];
    char *body;
    size_t body_len;
    uint64_t range_begin, range_end; /* end included */
    bool ranged;
};

static void send_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL);

        if (put <= 0)
            return;
        at += put;
        len -= (size_t)put;
    }
}

static const char *header(const struct request *request, const char *name)
{
    const char *line = strstr(request->head, "\r\n");

    for (; line != NULL; line = strstr(line + 2, "\r\n")) {
        size_t len = strlen(name);

        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':')
            return line + 3 + len + strspn(line + 3 + len, " ");
    }
    return NULL;
}

/* "%2F" into "/", in place. */
static void decode(char *text)
{
    char *out = text;

    for (; *text != '\0'; text++) {
        unsigned value;

        if (*text == '%' && sscanf(text + 1, "%2x", &value) == 1) {
            *out++ = (char)value;
            text += 2;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
}

static bool read_request(int fd, struct request *request)
{
    size_t have = 0;
    const char *length, *range;
    char *end = NULL;

    memset(request, 0, sizeof(*request));
    while (end == NULL) {
        ssize_t got = have < HEAD_MAX - 1 ? recv(fd, request->head + have, HEAD_MAX - 1 - have, 0)
                                          : 0;

        if (got <= 0)
            return false;
        have += (size_t)got;
        end = strstr(request->head, "\r\n\r\n");
    }
    end += 4;
    if (sscanf(request->head, "%7s %511[^? ]?%511s", request->method, request->path,
               request->query) < 2)
        return false;
    decode(request->path);
    length = header(request, "Content-Length");
    request->body_len = length != NULL ? strtoul(length, NULL, 10) : 0;
    request->body = xmalloc(request->body_len + 1);
    if (header(request, "Expect") != NULL)
        send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    have -= (size_t)(end - request->head);
    memcpy(request->body, end, have);
    while (have < request->body_len) {
        ssize_t got = recv(fd, request->body + have, request->body_len - have, 0);

        if (got <= 0)
            return false;
        have += (size_t)got;
    }
    range = header(request, "Range");
    request->ranged = range != NULL && sscanf(range, "bytes=%lu-%lu", &request->range_begin,
                                              &request->range_end) == 2;
    return true;
}

static void answer(int fd, const char *status, const char *more, const char *body, size_t len,
                   bool cut)
{
    char *head = xasprintf("HTTP/1.1 %s\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                           status, more, len);

    send_all(fd, head, strlen(head));
    if (body != NULL)
        send_all(fd, body, cut ? len / 2 : len);
    free(head);
}

static void answer_error_text(int fd, const char *status, const char *code, const char *text)
{
    char *body = xasprintf("<?xml version=\"1.0\"?><Error><Code>%s</Code>"
                           "<Message>%s</Message></Error>",
                           code, text);

    answer(fd, status, "Content-Type: application/xml\r\n", body, strlen(body), false);
    free(body);
}

static void answer_error(int fd, const char *status, const char *code)
{
    answer_error_text(fd, status, code, "as asked for");
}

static struct fake_object *find(struct fake_s3 *fake, const char *key)
{
    for (int i = 0; i < fake->count; i++) {
        if (strcmp(fake->objects[i].key, key) == 0)
            return &fake->objects[i];
    }
    return NULL;
}

static char *etag_line(const char *data, size_t len, enum fake_fault fault)
{
    uint8_t md5[EVP_MAX_MD_SIZE];
    char hex[2 * MD5 + 1];

    if (fault == FAULT_NO_ETAG)
        return xstrdup("");
    if (EVP_Digest(data, len, md5, NULL, EVP_md5(), NULL) != 1)
        abort();
    if (fault == FAULT_OTHER_ETAG)
        memset(md5, 0x11, sizeof(md5));
    return xasprintf("ETag: \"%s\"\r\n", rand_hex_format(md5, MD5, hex));
}

static void put(struct fake_s3 *fake, int fd, struct request *request, const char *key,
                enum fake_fault fault)
{
    struct fake_object *object = find(fake, key);
    char *etag = etag_line(request->body, request->body_len, fault);

    if (object == NULL) {
        object = &fake->objects[fake->count++];
        memset(object, 0, sizeof(*object));
        snprintf(object->key, sizeof(object->key), "%s", key);
    }
    free(object->data);
    object->data = request->body;
    object->len = request->body_len - (fault == FAULT_SHORTENED);
    if (fault == FAULT_SPOILED)
        object->data[object->len / 2] ^= 1;
    request->body = NULL;
    answer(fd, "200 OK", etag, NULL, 0, false);
    free(etag);
}

static void get(struct fake_s3 *fake, int fd, const struct request *request, const char *key,
                enum fake_fault fault)
{
    const struct fake_object *object = find(fake, key);
    size_t begin = request->ranged ? request->range_begin : 0, len;
    char *etag;

    if (object == NULL) {
        answer_error(fd, "404 Not Found", "NoSuchKey");
        return;
    }
    if (request->ranged && begin >= object->len) {
        answer_error(fd, "416 Range", "InvalidRange");
        return;
    }
    len = object->len - begin;
    if (request->ranged && request->range_end - begin + 1 < len)
        len = request->range_end - begin + 1;
    etag = etag_line(object->data, object->len, fault);
    answer(fd, request->ranged ? "206 Partial Content" : "200 OK", etag,
           strcmp(request->method, "HEAD") == 0 ? NULL : object->data + begin, len,
           fault == FAULT_CUT_BODY);
    free(etag);
}

static void delete_object(struct fake_s3 *fake, int fd, const char *key)
{
    struct fake_object *object = find(fake, key);

    if (object != NULL) {
        free(object->data);
        *object = fake->objects[--fake->count];
    }
    answer(fd, "204 No Content", "", NULL, 0, false);
}

static void parameter(const char *query, const char *name, char *out, size_t size)
{
    const char *at = strstr(query, name);

    out[0] = '\0';
    if (at == NULL)
        return;
    at += strlen(name);
    snprintf(out, size, "%.*s", (int)strcspn(at, "&"), at);
    decode(out);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct fake_object *)a)->key, ((const struct fake_object *)b)->key);
}

static void list(struct fake_s3 *fake, int fd, const struct request *request, enum fake_fault fault)
{
    char prefix[256], marker[256], *body;
    bool truncated = false;
    size_t len;
    FILE *out = open_memstream(&body, &len);
    int shown = 0;

    parameter(request->query, "prefix=", prefix, sizeof(prefix));
    parameter(request->query, "marker=", marker, sizeof(marker));
    qsort(fake->objects, (size_t)fake->count, sizeof(fake->objects[0]), by_key);
    fputs("<?xml version=\"1.0\"?><ListBucketResult><Name>" FAKE_BUCKET "</Name>", out);
    for (int i = 0; i < fake->count; i++) {
        const struct fake_object *object = &fake->objects[i];

        if (strncmp(object->key, prefix, strlen(prefix)) != 0 || strcmp(object->key, marker) <= 0)
            continue;
        truncated = shown == FAKE_PAGE;
        if (truncated)
            break;
        shown++;
        fprintf(out,
                "<Contents><Key>%s</Key><LastModified>2026-02-03T04:05:06.000Z</LastModified>"
                "<ETag>x</ETag><Size>%zu</Size></Contents>",
                object->key, object->len);
    }
    fprintf(out, "<IsTruncated>%s</IsTruncated></ListBucketResult>", truncated ? "true" : "false");
    fclose(out);
    answer(fd, "200 OK", "Content-Type: application/xml\r\n", body, len, fault == FAULT_CUT_BODY);
    free(body);
}

/* True if the fault was all of the answer. */
static bool fault_answered(int fd, enum fake_fault fault)
{
    struct pollfd pfd = {.fd = fd, .events = POLLIN | POLLRDHUP};

    static const char cut[] = "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\n";

    switch (fault) {
    case FAULT_CUT_HEADERS: send_all(fd, cut, sizeof(cut) - 1); return true;
    case FAULT_SLOW_DOWN: answer_error(fd, "503 Slow Down", "SlowDown"); return true;
    case FAULT_500: answer(fd, "500 Oops", "", NULL, 0, false); return true;
    case FAULT_DENIED: answer_error(fd, "403 Forbidden", "SignatureDoesNotMatch"); return true;
    case FAULT_SKEWED: answer_error(fd, "403 Forbidden", "RequestTimeTooSkewed"); return true;
    case FAULT_FULL:
        answer_error_text(fd, "507 Insufficient Storage", "XMinioStorageFull",
                          "Storage backend has reached its minimum free drive threshold. Please "
                          "delete a few objects to proceed.");
        return true;
    case FAULT_NO_BUCKET: answer_error(fd, "404 Not Found", "NoSuchBucket"); return true;
    case FAULT_STALL: poll(&pfd, 1, 30000); return true;
    case FAULT_CLOSE: return true;
    default: return false;
    }
}

static void serve(struct fake_s3 *fake, int fd)
{
    static struct request request; /* one thread serves */
    enum fake_fault fault = FAULT_NONE;
    const char *key;

    if (read_request(fd, &request)) {
        pthread_mutex_lock(&fake->lock);
        fake->requests++;
        fault = fake->then;
        if (fake->fault_count != 0) {
            fault = fake->fault;
            fake->fault_count -= fake->fault_count > 0;
        }
        pthread_mutex_unlock(&fake->lock);
        key = request.path + strlen("/" FAKE_BUCKET);
        key += *key == '/';
        if (!fault_answered(fd, fault)) {
            if (strcmp(request.method, "PUT") == 0)
                put(fake, fd, &request, key, fault);
            else if (strcmp(request.method, "DELETE") == 0)
                delete_object(fake, fd, key);
            else if (*key == '\0')
                list(fake, fd, &request, fault);
            else
                get(fake, fd, &request, key, fault);
        }
    }
    free(request.body);
    request.body = NULL;
}

static void *run(void *arg)
{
    struct fake_s3 *fake = arg;
    bool stop = false;

    while (!stop) {
        int fd = accept(fake->listener, NULL, NULL);

        if (fd < 0)
            break;
        serve(fake, fd);
        close(fd);
        pthread_mutex_lock(&fake->lock);
        stop = fake->stop;
        pthread_mutex_unlock(&fake->lock);
    }
    return NULL;
}

void fake_s3_start(struct fake_s3 *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    memset(fake, 0, sizeof(*fake));
    pthread_mutex_init(&fake->lock, NULL);
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listener, (struct sockaddr *)&address, size) < 0 ||
        listen(fake->listener, 16) < 0 ||
        getsockname(fake->listener, (struct sockaddr *)&address, &size) < 0 ||
        pthread_create(&fake->thread, NULL, run, fake) != 0)
        abort();
    fake->port = ntohs(address.sin_port);
}

void fake_s3_stop(struct fake_s3 *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->stop = true;
    pthread_mutex_unlock(&fake->lock);
    shutdown(fake->listener, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->listener);
    for (int i = 0; i < fake->count; i++)
        free(fake->objects[i].data);
    pthread_mutex_destroy(&fake->lock);
}

void fake_s3_fault(struct fake_s3 *fake, enum fake_fault fault, int count)
{
    fake_s3_faults(fake, fault, count, FAULT_NONE);
}

void fake_s3_faults(struct fake_s3 *fake, enum fake_fault fault, int count, enum fake_fault then)
{
    pthread_mutex_lock(&fake->lock);
    fake->fault = fault;
    fake->fault_count = count;
    fake->then = then;
    fake->requests = 0;
    pthread_mutex_unlock(&fake->lock);
}

int fake_s3_requests(struct fake_s3 *fake)
{
    int requests;

    pthread_mutex_lock(&fake->lock);
    requests = fake->requests;
    pthread_mutex_unlock(&fake->lock);
    return requests;
}
