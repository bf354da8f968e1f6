#include "base/http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/resolve.h"

enum {
    TIMEOUT_DEFAULT_MS = 10 * 1000,
    CONNECT_TIMEOUT_DEFAULT_MS = 2000,
    BODY_DEFAULT_MAX = 4 << 20,
    USER_TIMEOUT_MS = 5000, /* sent and not acknowledged for so long: the connection is dead */
    KEEPALIVE_IDLE_S = 5,
    KEEPALIVE_INTERVAL_S = 2,
    IDLE_AGE_MAX_S =
        45, /* reuse of a kept connection; below the 60 s after which our server closes it */
    CONNECTIONS_KEPT_MAX = 4096,
    /* libcurl allocates it for each call. So small it comes from malloc()'s cache; what is larger
     * makes malloc() tidy up all that is free. */
    BUFFER_SIZE = 1024,
    SPARES_MAX = 32,
    SPARE_BODY_MAX = 64 << 10,
    RESOLVE_POLL_MS = 20
};

enum call_state {
    CALL_WAITING, /* for an address, or to report that it cannot be started */
    CALL_RUNNING, /* libcurl has it */
    CALL_DONE     /* within its callback */
};

struct http_call {
    struct http_call *prev, *next;
    struct http_client *client; /* NULL: blocking */
    enum call_state state;
    uint64_t number; /* counts the client's calls */
    http_call_fn *fn;
    void *arg;

    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
    char curl_error[CURL_ERROR_SIZE];
    char *what; /* "GET http://host:port/path", for errors */
    char *host; /* to be resolved; NULL if the URL has a literal */
    int64_t started_us;
    int64_t give_up_ms; /* waiting for an address */
    bool (*on_data)(void *arg, const char *data, size_t size);
    void *on_data_arg;

    char *body;
    size_t body_size, body_capacity, body_max;
    bool too_large;
    enum http_call_status failed; /* before libcurl had it; HTTP_CALL_OK: not */
    char why[128];
};

struct http_client {
    struct loop *loop;
    struct resolver *resolver;
    CURLM *multi;
    struct loop_timer *timer;  /* libcurl's */
    struct loop_timer *waiter; /* calls that wait */
    struct http_call *calls;
    uint64_t calls_total;
    CURL *spares[SPARES_MAX]; /* easy handles to be used again */
    int n_spares;
    char *spare_body; /* of a call that has ended; for BUFFER_SIZE's reason */
    size_t spare_body_capacity;
    bool started; /* libcurl has got calls that it has not looked at yet */
};

const char *http_call_status_name(enum http_call_status status)
{
    static const char *const names[] = {"ok",    "refused",    "unreachable", "timeout",
                                        "reset", "unresolved", "too_large",   "other"};

    return (size_t)status < OGEL_ARRAY_LEN(names) ? names[status] : "unknown";
}

void http_client_global_init(void)
{
    OGEL_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

/* ---- preparing a call: shared by both kinds */

static void take_spare_body(struct http_call *call)
{
    struct http_client *client = call->client;

    if (client == NULL || client->spare_body == NULL)
        return;
    call->body = client->spare_body;
    call->body_capacity = client->spare_body_capacity;
    client->spare_body = NULL;
}

static size_t take_data(char *data, size_t one, size_t size, void *arg)
{
    struct http_call *call = arg;

    (void)one;
    if (call->on_data != NULL)
        return call->on_data(call->on_data_arg, data, size) ? size : CURL_WRITEFUNC_ERROR;
    if (call->body_size + size > call->body_max) {
        call->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (call->body == NULL)
        take_spare_body(call);
    if (call->body_size + size + 1 > call->body_capacity) {
        size_t capacity = call->body_capacity == 0 ? 2048 : call->body_capacity * 2;

        while (capacity < call->body_size + size + 1)
            capacity *= 2;
        call->body = xreallocarray(call->body, capacity, 1);
        call->body_capacity = capacity;
    }
    memcpy(call->body + call->body_size, data, size);
    call->body_size += size;
    call->body[call->body_size] = '\0';
    return size;
}

static int set_socket_options(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    unsigned timeout_ms = USER_TIMEOUT_MS;

    (void)arg;
    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    return CURL_SOCKOPT_OK;
}

static void add_header(struct http_call *call, const char *line)
{
    call->headers = curl_slist_append(call->headers, line);
    OGEL_CHECK(call->headers != NULL);
}

static void set_headers(struct http_call *call, const struct http_call_spec *spec)
{
    char line[512];

    /* Without this libcurl waits a second for "100 Continue" before a large body. */
    add_header(call, "Expect:");
    if (spec->token != NULL) {
        snprintf(line, sizeof(line), "Authorization: Bearer %s", spec->token);
        add_header(call, line);
        explicit_bzero(line, sizeof(line));
    }
    if (spec->body != NULL) {
        snprintf(line, sizeof(line), "Content-Type: %s",
                 spec->content_type != NULL ? spec->content_type : "application/json");
        add_header(call, line);
    }
    for (size_t i = 0; spec->headers != NULL && spec->headers[i] != NULL; i++)
        add_header(call, spec->headers[i]);
}

static void set_method(CURL *easy, const struct http_call_spec *spec)
{
    const char *method = spec->method != NULL ? spec->method : "GET";

    if (spec->body != NULL || strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)spec->body_size);
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, spec->body != NULL ? spec->body : "");
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(method, "GET") != 0 || spec->body != NULL)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

/* With what is the same in all calls, so that a handle that is used again has it already. */
static CURL *easy_new(void)
{
    CURL *easy = curl_easy_init();

    OGEL_CHECK(easy != NULL);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "ogel");
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, set_socket_options);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_AGE_MAX_S);
    /* libcurl sees literal addresses only. Its cache of names is walked through with each call,
     * all of it, unless nothing in it ever grows old. */
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_data);
    return easy;
}

/* Takes back what a call has set: nothing of it may be in the next one. */
static void easy_forget(CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_PRIVATE, NULL);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, NULL);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)-1);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); /* and neither HEAD nor POST */
}

static void set_options(struct http_call *call, const struct http_call_spec *spec)
{
    CURL *easy = call->easy;
    long timeout_ms = spec->timeout_ms > 0 ? spec->timeout_ms : TIMEOUT_DEFAULT_MS;
    long connect_ms = spec->connect_timeout_ms > 0 ? spec->connect_timeout_ms
                                                   : CONNECT_TIMEOUT_DEFAULT_MS;

    curl_easy_setopt(easy, CURLOPT_URL, spec->url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->curl_error);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     connect_ms < timeout_ms ? connect_ms : timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, spec->no_reuse ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, spec->no_reuse ? 1L : 0L);
}

static void fail(struct http_call *call, enum http_call_status how, const char *why)
{
    call->failed = how;
    snprintf(call->why, sizeof(call->why), "%s", why);
}

/* The most frequent kind, told without taking the URL apart: "http://10.0.0.1:8008/…". */
static bool has_plain_literal(const char *url)
{
    static const char scheme[] = "http://";
    char host[sizeof "255.255.255.255"];
    const char *begin = url + sizeof(scheme) - 1;
    size_t length;

    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0)
        return false;
    length = strspn(begin, "0123456789.");
    if (length >= sizeof(host) || (begin[length] != ':' && begin[length] != '/'))
        return false;
    memcpy(host, begin, length);
    host[length] = '\0';
    return resolve_is_literal(host);
}

/* Finds the host in the URL; call->host stays NULL for a literal. */
static void read_host(struct http_call *call, const char *url)
{
    CURLU *parsed;
    char *host = NULL;

    if (has_plain_literal(url))
        return;
    parsed = curl_url();
    OGEL_CHECK(parsed != NULL);
    if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        fail(call, HTTP_CALL_OTHER, "this is not a URL");
    else if (host[0] != '[' && !resolve_is_literal(host))
        call->host = xstrdup(host);
    curl_free(host);
    curl_url_cleanup(parsed);
}

static void connect_to(struct http_call *call, const char *address)
{
    char entry[RESOLVE_ADDRESS_SIZE + 8];

    snprintf(entry, sizeof(entry), strchr(address, ':') != NULL ? "::[%s]:" : "::%s:", address);
    call->connect_to = curl_slist_append(NULL, entry);
    OGEL_CHECK(call->connect_to != NULL);
    curl_easy_setopt(call->easy, CURLOPT_CONNECT_TO, call->connect_to);
}

static struct http_call *call_new(CURL *easy, const struct http_call_spec *spec)
{
    struct http_call *call = xcalloc(1, sizeof(*call));
    int connect_ms = spec->connect_timeout_ms > 0 ? spec->connect_timeout_ms
                                                  : CONNECT_TIMEOUT_DEFAULT_MS;

    call->easy = easy;
    call->started_us = clock_mono_us();
    call->give_up_ms = call->started_us / 1000 + connect_ms;
    call->body_max = spec->max_body > 0 ? spec->max_body : BODY_DEFAULT_MAX;
    call->on_data = spec->on_data;
    call->on_data_arg = spec->on_data_arg;
    call->what = xasprintf("%s %.*s", spec->method != NULL ? spec->method : "GET",
                           (int)strcspn(spec->url, "?"), spec->url);
    set_headers(call, spec);
    set_options(call, spec);
    set_method(easy, spec);
    read_host(call, spec->url);
    return call;
}

/* All but the easy handle, which belongs to a client or to the blocking call. */
static void call_free(struct http_call *call)
{
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->connect_to);
    free(call->what);
    free(call->host);
    free(call->body);
    free(call);
}

/* ---- what came of it */

static enum http_call_status classify_errno(long errnum)
{
    switch (errnum) {
    case ECONNREFUSED: return HTTP_CALL_REFUSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case EHOSTDOWN: return HTTP_CALL_UNREACHABLE;
    case ETIMEDOUT: return HTTP_CALL_TIMEOUT;
    case ECONNRESET: return HTTP_CALL_RESET;
    default: return HTTP_CALL_OTHER;
    }
}

static enum http_call_status classify(const struct http_call *call, CURLcode code)
{
    long errnum = 0;
    enum http_call_status how;

    switch (code) {
    case CURLE_OK: return HTTP_CALL_OK;
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &errnum);
        return classify_errno(errnum);
    case CURLE_OPERATION_TIMEDOUT: return HTTP_CALL_TIMEOUT;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
        /* A machine that vanished ends a connection too, after the keep-alive's patience. */
        curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &errnum);
        how = classify_errno(errnum);
        return how == HTTP_CALL_TIMEOUT || how == HTTP_CALL_UNREACHABLE ? how : HTTP_CALL_RESET;
    case CURLE_COULDNT_RESOLVE_HOST: return HTTP_CALL_UNRESOLVED;
    case CURLE_WRITE_ERROR: return call->too_large ? HTTP_CALL_TOO_LARGE : HTTP_CALL_OTHER;
    default: return HTTP_CALL_OTHER;
    }
}

static void describe(const struct http_call *call, CURLcode code, struct http_result *result)
{
    const char *why = call->why;

    if (result->outcome == HTTP_CALL_OK)
        return;
    if (call->too_large)
        why = "the answer is too large";
    else if (call->failed == HTTP_CALL_OK)
        why = call->curl_error[0] != '\0' ? call->curl_error : curl_easy_strerror(code);
    snprintf(result->error, sizeof(result->error), "%.140s: %s: %.90s", call->what,
             http_call_status_name(result->outcome), why);
}

/* What result points to lives as long as the call and its easy handle. */
static void fill_result(const struct http_call *call, CURLcode code, struct http_result *result)
{
    long status = 0, connects = 0;
    curl_off_t connect_us = 0, retry_after_s = 0;
    char *content_type = NULL;

    *result = (struct http_result){.body = "", .content_type = "", .retry_after_s = -1};
    result->total_us = clock_mono_us() - call->started_us;
    result->outcome = call->failed != HTTP_CALL_OK ? call->failed : classify(call, code);
    describe(call, code, result);
    if (call->failed != HTTP_CALL_OK)
        return;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &content_type);
    curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    result->status = (int)status;
    result->connect_us = connects > 0 ? connect_us : 0;
    if (content_type != NULL)
        result->content_type = content_type;
    if (retry_after_s > 0)
        result->retry_after_s = retry_after_s < INT32_MAX ? (int)retry_after_s : INT32_MAX;
    if (call->body != NULL)
        result->body = call->body;
    result->body_size = call->body_size;
}

/* ---- in the loop */

static void give_back(struct http_client *client, CURL *easy)
{
    if (client->n_spares == SPARES_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    easy_forget(easy);
    client->spares[client->n_spares++] = easy;
}

static void keep_body(struct http_client *client, struct http_call *call)
{
    if (client->spare_body != NULL || call->body == NULL || call->body_capacity > SPARE_BODY_MAX)
        return;
    client->spare_body = call->body;
    client->spare_body_capacity = call->body_capacity;
    call->body = NULL;
}

static void forget(struct http_call *call)
{
    struct http_client *client = call->client;

    if (call->state == CALL_RUNNING)
        curl_multi_remove_handle(client->multi, call->easy);
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        client->calls = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    give_back(client, call->easy);
    keep_body(client, call);
    call_free(call);
}

static void finish(struct http_call *call, CURLcode code)
{
    struct http_result result;

    fill_result(call, code, &result);
    if (call->state == CALL_RUNNING)
        curl_multi_remove_handle(call->client->multi, call->easy);
    call->state = CALL_DONE;
    call->fn(&result, call->arg);
    forget(call);
}

static void finish_done(struct http_client *client)
{
    CURLMsg *message;
    int left;

    /* A callback may start and cancel calls, which changes the queue: so one at a time. */
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        struct http_call *call = NULL;

        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        finish(call, code);
    }
}

/* What callbacks start is sent at once; libcurl's timer would let it wait for the loop's next
 * round. Not what their callbacks start in turn: calls that fail at once could keep us here. */
static void drive(struct http_client *client, curl_socket_t fd, int mask)
{
    int running;

    client->started = false;
    curl_multi_socket_action(client->multi, fd, mask, &running);
    finish_done(client);
    if (!client->started)
        return;
    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish_done(client);
}

static void socket_ready(int fd, unsigned events, void *arg)
{
    drive(arg, fd,
          (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
              (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct http_client *client = arg;
    struct loop_watch *watch = socket_arg;
    unsigned events = (what & CURL_POLL_IN ? LOOP_READ : 0u) |
                      (what & CURL_POLL_OUT ? LOOP_WRITE : 0u);

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        loop_watch_free(watch);
        curl_multi_assign(client->multi, fd, NULL);
    } else if (watch != NULL) {
        loop_watch_set(watch, events);
    } else {
        watch = loop_watch_new(client->loop, fd, events, socket_ready, client);
        curl_multi_assign(client->multi, fd, watch);
    }
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http_client *client = arg;

    (void)multi;
    if (timeout_ms < 0)
        loop_timer_stop(client->timer);
    else
        loop_timer_start(client->timer, timeout_ms);
    return 0;
}

static void timer_fired(void *arg)
{
    drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void start(struct http_call *call)
{
    call->state = CALL_RUNNING;
    call->client->started = true;
    OGEL_CHECK(curl_multi_add_handle(call->client->multi, call->easy) == CURLM_OK);
}

/* True once the call need not wait any longer: it is running, or it has failed. */
static bool try_start(struct http_call *call)
{
    char address[RESOLVE_ADDRESS_SIZE], why[sizeof(call->why)];

    if (call->failed != HTTP_CALL_OK)
        return true;
    if (call->host != NULL) {
        struct resolver *resolver = call->client->resolver;

        if (resolver == NULL) {
            fail(call, HTTP_CALL_UNRESOLVED, "a numeric address is needed here");
            return true;
        }
        if (!resolve_get(resolver, call->host, address, why, sizeof(why))) {
            if (clock_mono_ms() < call->give_up_ms)
                return false;
            fail(call, HTTP_CALL_UNRESOLVED, why);
            return true;
        }
        connect_to(call, address);
    }
    start(call);
    return true;
}

/* Reports calls that failed before they began, and starts those that have an address now. Those
 * that callbacks start meanwhile get their turn in the next round, or a caller that tries again at
 * once would keep us here. */
static void waiter_fired(void *arg)
{
    struct http_client *client = arg;
    struct http_call *call = client->calls;
    uint64_t last = client->calls_total;
    bool left = false;

    while (call != NULL) {
        if (call->state != CALL_WAITING || call->number > last) {
            call = call->next;
        } else if (!try_start(call)) {
            left = true;
            call = call->next;
        } else if (call->failed != HTTP_CALL_OK) {
            finish(call, CURLE_OK);
            call = client->calls; /* the callback may have changed anything */
        } else {
            call = call->next;
        }
    }
    if (left && !loop_timer_armed(client->waiter))
        loop_timer_start(client->waiter, RESOLVE_POLL_MS);
}

int http_client_new(struct http_client **result, struct loop *loop, struct resolver *resolver,
                    struct err *err)
{
    struct http_client *client = xcalloc(1, sizeof(*client));

    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        free(client);
        return err_set(err, ERR_INTERNAL, "cannot start the HTTP client");
    }
    client->loop = loop;
    client->resolver = resolver;
    client->timer = loop_timer_new(loop, timer_fired, client);
    client->waiter = loop_timer_new(loop, waiter_fired, client);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT_MAX);
    *result = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    while (client->calls != NULL)
        forget(client->calls);
    for (int i = 0; i < client->n_spares; i++)
        curl_easy_cleanup(client->spares[i]);
    free(client->spare_body);
    curl_multi_cleanup(client->multi);
    loop_timer_free(client->timer);
    loop_timer_free(client->waiter);
    free(client);
}

struct http_call *http_call(struct http_client *client, const struct http_call_spec *spec,
                            http_call_fn *fn, void *arg)
{
    CURL *easy = client->n_spares > 0 ? client->spares[--client->n_spares] : easy_new();
    struct http_call *call = call_new(easy, spec);

    call->client = client;
    call->number = ++client->calls_total;
    call->fn = fn;
    call->arg = arg;
    call->next = client->calls;
    if (call->next != NULL)
        call->next->prev = call;
    client->calls = call;
    if (!try_start(call) && !loop_timer_armed(client->waiter))
        loop_timer_start(client->waiter, RESOLVE_POLL_MS);
    if (call->failed != HTTP_CALL_OK)
        loop_timer_start(client->waiter, 0);
    return call;
}

void http_call_cancel(struct http_call *call)
{
    if (call != NULL && call->state != CALL_DONE)
        forget(call);
}

/* ---- blocking */

void http_call_blocking(struct resolver *resolver, const struct http_call_spec *spec,
                        struct http_result *result)
{
    CURL *easy = easy_new();
    struct http_call *call = call_new(easy, spec);
    char address[RESOLVE_ADDRESS_SIZE], why[sizeof(call->why)];
    CURLcode code = CURLE_OK;

    if (call->failed == HTTP_CALL_OK && call->host != NULL && resolver != NULL) {
        int64_t wait_ms = call->give_up_ms - clock_mono_ms();

        if (resolve_wait(resolver, call->host, (int)(wait_ms > 0 ? wait_ms : 0), address, why,
                         sizeof(why)))
            connect_to(call, address);
        else
            fail(call, HTTP_CALL_UNRESOLVED, why);
    }
    if (call->failed == HTTP_CALL_OK)
        code = curl_easy_perform(easy);
    fill_result(call, code, result);
    result->body = call->body != NULL ? call->body : xstrdup("");
    call->body = NULL;
    result->content_type = xstrdup(result->content_type);
    curl_easy_cleanup(easy);
    call_free(call);
}

void http_result_free(struct http_result *result)
{
    free((char *)(uintptr_t)result->body);
    free((char *)(uintptr_t)result->content_type);
    result->body = result->content_type = NULL;
}
