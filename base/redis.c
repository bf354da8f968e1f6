#include "base/redis.h"

#include <fcntl.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/resolve.h"
#include "base/secret.h"

enum {
    DEADLINE_DEFAULT_MS = 1000,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_DEFAULT_MS = 5000,
    OUTSTANDING_DEFAULT_MAX = 256,
    OUTSTANDING_DEFAULT_MAX_BYTES = 4 << 20,
    HEARTBEAT_MS = 5000, /* a frozen Redis is known, and shown, also when nobody writes */
    PASSWORD_SIZE = 513
};

/* One sent to Redis, or dropped and waiting to be told so. */
struct command {
    struct command *prev, *next;
    struct redis *redis;
    redis_reply_fn *fn;
    void *arg;
    size_t size;
    int64_t sent_ms;
    bool greeting; /* one of ours, on a new connection */
};

struct queue {
    struct command *first, *last;
};

struct redis {
    struct loop *loop;
    struct redis_config config;
    char *host;
    char *password_file;
    char password[PASSWORD_SIZE]; /* from its reading to its use only */
    enum redis_state state;
    int64_t since_ms;
    redisAsyncContext *context; /* NULL while down */
    struct loop_watch *watch;
    unsigned events;
    struct queue sent;
    struct queue dropped;
    int n_sent;
    size_t sent_bytes;
    int greetings; /* answers still to come before the connection is ready */
    int backoff_ms;
    struct loop_timer *retry;
    struct loop_timer *deadline;
    struct loop_timer *heartbeat;
    struct loop_timer *tell; /* of dropped commands */
    int64_t connects_total;
    int64_t dropped_total;
    char error[256];
};

/* ---- commands */

static void queue_add(struct queue *queue, struct command *command)
{
    command->prev = queue->last;
    command->next = NULL;
    if (queue->last != NULL)
        queue->last->next = command;
    else
        queue->first = command;
    queue->last = command;
}

static void queue_remove(struct queue *queue, struct command *command)
{
    if (command->prev != NULL)
        command->prev->next = command->next;
    else
        queue->first = command->next;
    if (command->next != NULL)
        command->next->prev = command->prev;
    else
        queue->last = command->prev;
}

static void tell_dropped(void *arg)
{
    struct redis *redis = arg;

    while (redis->dropped.first != NULL) {
        struct command *command = redis->dropped.first;

        queue_remove(&redis->dropped, command);
        command->fn(false, NULL, 0, "not sent: Redis is not connected or does not keep up",
                    command->arg);
        free(command);
    }
}

static void drop(struct redis *redis, redis_reply_fn *fn, void *arg)
{
    struct command *command;

    redis->dropped_total++;
    if (fn == NULL)
        return;
    command = xcalloc(1, sizeof(*command));
    command->fn = fn;
    command->arg = arg;
    queue_add(&redis->dropped, command);
    loop_timer_start(redis->tell, 0);
}

static void fail(struct redis *redis, const char *error);

static void greeted(struct redis *redis, const redisReply *reply);

static void on_reply(redisAsyncContext *context, void *answer, void *arg)
{
    struct command *command = arg;
    struct redis *redis = command->redis;
    const redisReply *reply = answer;
    bool ok = reply != NULL && reply->type != REDIS_REPLY_ERROR;
    const char *value = NULL;

    (void)context;
    queue_remove(&redis->sent, command);
    redis->n_sent--;
    redis->sent_bytes -= command->size;
    if (redis->sent.first == NULL)
        loop_timer_stop(redis->deadline);
    if (reply == NULL)
        redis->dropped_total++;
    if (ok && (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS))
        value = reply->str;
    if (command->greeting)
        greeted(redis, reply);
    else if (command->fn != NULL)
        command->fn(ok, value, value != NULL ? (size_t)reply->len : 0,
                    ok              ? NULL
                    : reply != NULL ? reply->str
                                    : "the connection to Redis was lost",
                    command->arg);
    free(command);
}

/* Queues within hiredis; what was sent first is answered first. */
static void put(struct redis *redis, int n, const char **words, const size_t *sizes, bool greeting,
                redis_reply_fn *fn, void *arg)
{
    struct command *command;
    size_t size = 0;

    for (int i = 0; i < n; i++)
        size += sizes[i] + 16;
    if (!greeting && (redis->state != REDIS_UP || redis->n_sent >= redis->config.outstanding_max ||
                      redis->sent_bytes + size > redis->config.outstanding_max_bytes)) {
        drop(redis, fn, arg);
        return;
    }
    command = xcalloc(1, sizeof(*command));
    *command = (struct command){.redis = redis,
                                .fn = fn,
                                .arg = arg,
                                .size = size,
                                .sent_ms = clock_mono_ms(),
                                .greeting = greeting};
    if (redisAsyncCommandArgv(redis->context, on_reply, command, n, words, sizes) != REDIS_OK) {
        free(command);
        drop(redis, fn, arg);
        return;
    }
    if (redis->sent.first == NULL)
        loop_timer_start(redis->deadline, redis->config.deadline_ms);
    queue_add(&redis->sent, command);
    redis->n_sent++;
    redis->sent_bytes += size;
}

/* The oldest command has waited too long, or, if that one was answered meanwhile, the next one may
 * have. */
static void deadline_passed(void *arg)
{
    struct redis *redis = arg;
    int64_t left_ms = 0;
    char error[64];

    if (redis->state != REDIS_CONNECTING && redis->sent.first != NULL)
        left_ms = redis->sent.first->sent_ms + redis->config.deadline_ms - clock_mono_ms();
    if (left_ms > 0) {
        loop_timer_start(redis->deadline, left_ms);
        return;
    }
    snprintf(error, sizeof(error), "no answer within %d ms", redis->config.deadline_ms);
    fail(redis, error);
}

static void greet(struct redis *redis, const char *verb, const char *word)
{
    const char *words[] = {verb, word};
    const size_t sizes[] = {strlen(verb), word != NULL ? strlen(word) : 0};

    redis->greetings++;
    put(redis, word != NULL ? 2 : 1, words, sizes, true, NULL, NULL);
}

static void heartbeat(void *arg)
{
    struct redis *redis = arg;
    const char *words[] = {"PING"};
    const size_t sizes[] = {4};

    if (redis->state == REDIS_UP && redis->sent.first == NULL)
        put(redis, 1, words, sizes, false, NULL, NULL);
}

/* ---- hiredis in the loop */

/* hiredis aborts the process over an answer to nothing, unless it is an error. */
static bool unasked(const struct redis *redis, int fd)
{
    char byte;

    return redis->state == REDIS_UP && redis->sent.first == NULL &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1 && byte != '-';
}

static void socket_ready(int fd, unsigned events, void *arg)
{
    struct redis *redis = arg;

    /* One at a time: either may free the context. What is left is reported again. */
    if (!(events & LOOP_READ))
        redisAsyncHandleWrite(redis->context);
    else if (unasked(redis, fd))
        fail(redis, "it answers what was not asked");
    else
        redisAsyncHandleRead(redis->context);
}

static void want(struct redis *redis, unsigned add, unsigned remove)
{
    redis->events = (redis->events | add) & ~remove;
    if (redis->watch != NULL)
        loop_watch_set(redis->watch, redis->events);
}

static void add_read(void *arg)
{
    want(arg, LOOP_READ, 0);
}

static void del_read(void *arg)
{
    want(arg, 0, LOOP_READ);
}

static void add_write(void *arg)
{
    want(arg, LOOP_WRITE, 0);
}

static void del_write(void *arg)
{
    want(arg, 0, LOOP_WRITE);
}

static void clean_up(void *arg)
{
    struct redis *redis = arg;

    loop_watch_free(redis->watch);
    redis->watch = NULL;
    redis->events = 0;
}

/* ---- states */

static void enter(struct redis *redis, enum redis_state state)
{
    bool tell = state == REDIS_UP || redis->state == REDIS_UP;

    redis->state = state;
    redis->since_ms = clock_mono_ms();
    if (tell && redis->config.on_state != NULL)
        redis->config.on_state(redis, state, redis->config.arg);
}

/* The connection, or the attempt, is over. Commands under way get their callbacks. */
static void fail(struct redis *redis, const char *error)
{
    redisAsyncContext *context = redis->context;
    int wait_ms = redis->backoff_ms / 2 + (int)rand_below((uint64_t)redis->backoff_ms);

    if (redis->state == REDIS_DOWN && context == NULL && loop_timer_armed(redis->retry))
        return;
    snprintf(redis->error, sizeof(redis->error), "Redis at %s port %d: %s", redis->host,
             redis->config.port, error);
    redis->context = NULL;
    secret_wipe(redis->password, sizeof(redis->password));
    loop_timer_stop(redis->deadline);
    loop_timer_stop(redis->heartbeat);
    loop_timer_start(redis->retry, wait_ms);
    redis->backoff_ms = redis->backoff_ms * 2 < redis->config.backoff_max_ms
                            ? redis->backoff_ms * 2
                            : redis->config.backoff_max_ms;
    clean_up(redis);
    enter(redis, REDIS_DOWN);
    if (context != NULL) {
        context->data = NULL;
        context->ev.data = NULL;
        context->ev.addRead = context->ev.delRead = NULL;
        context->ev.addWrite = context->ev.delWrite = context->ev.cleanup = NULL;
        redisAsyncFree(context);
    }
}

static void greeted(struct redis *redis, const redisReply *reply)
{
    if (redis->state != REDIS_CONNECTING || reply == NULL)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        fail(redis, reply->str);
        return;
    }
    if (--redis->greetings > 0)
        return;
    if (reply->type != REDIS_REPLY_STATUS || strcmp(reply->str, "PONG") != 0) {
        fail(redis, "what answers there is not Redis");
        return;
    }
    redis->error[0] = '\0';
    redis->backoff_ms = BACKOFF_MIN_MS;
    redis->connects_total++;
    loop_timer_repeat(redis->heartbeat, HEARTBEAT_MS);
    enter(redis, REDIS_UP);
}

/* Must not free the context: hiredis goes on using it. */
static void on_connect(const redisAsyncContext *context, int status)
{
    struct redis *redis = context->data;
    char number[16];

    if (redis == NULL)
        return;
    if (status != REDIS_OK) {
        char error[sizeof(context->c.errstr)];

        memcpy(error, context->c.errstr, sizeof(error));
        redis->context = NULL; /* hiredis frees it after this call */
        fail(redis, error);
        return;
    }
    redis->greetings = 0;
    if (redis->password[0] != '\0')
        greet(redis, "AUTH", redis->password);
    secret_wipe(redis->password, sizeof(redis->password));
    if (redis->config.database != 0) {
        snprintf(number, sizeof(number), "%d", redis->config.database);
        greet(redis, "SELECT", number);
    }
    /* A frozen Redis connects too, its kernel does it: only an answer counts. */
    greet(redis, "PING", NULL);
}

static void on_disconnect(const redisAsyncContext *context, int status)
{
    struct redis *redis = context->data;

    if (redis == NULL)
        return;
    redis->context = NULL; /* hiredis frees it after this call */
    fail(redis, status != REDIS_OK && context->errstr != NULL && context->errstr[0] != '\0'
                    ? context->errstr
                    : "the connection was closed");
}

static void attach(struct redis *redis, redisAsyncContext *context)
{
    unsigned timeout_ms = (unsigned)redis->config.deadline_ms;

    redis->context = context;
    redis->watch = loop_watch_new(redis->loop, context->c.fd, 0, socket_ready, redis);
    (void)fcntl(context->c.fd, F_SETFD, FD_CLOEXEC);
    (void)setsockopt(context->c.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
    context->data = redis;
    context->ev.data = redis;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = clean_up;
    redisAsyncSetConnectCallback(context, on_connect);
    redisAsyncSetDisconnectCallback(context, on_disconnect);
}

static void connect_now(void *arg)
{
    struct redis *redis = arg;
    char address[RESOLVE_ADDRESS_SIZE], why[128];
    redisAsyncContext *context;
    struct err err = {0};

    if (redis->config.resolver == NULL) {
        snprintf(address, sizeof(address), "%s", redis->host);
    } else if (!resolve_get(redis->config.resolver, redis->host, address, why, sizeof(why))) {
        fail(redis, why);
        return;
    }
    if (redis->password_file != NULL && secret_read_file(redis->password_file, redis->password,
                                                         sizeof(redis->password), &err) != 0) {
        fail(redis, err.text);
        return;
    }
    context = redisAsyncConnect(address, redis->config.port);
    OGEL_CHECK(context != NULL);
    if (context->err != 0) {
        snprintf(why, sizeof(why), "%s", context->errstr);
        redisAsyncFree(context);
        fail(redis, why);
        return;
    }
    attach(redis, context);
    enter(redis, REDIS_CONNECTING);
    loop_timer_start(redis->deadline, redis->config.deadline_ms);
}

/* ---- the interface */

int redis_new(struct redis **result, struct loop *loop, const struct redis_config *config,
              struct err *err)
{
    struct redis *redis;
    const char *host = config->host != NULL ? config->host : "127.0.0.1";

    if (config->port < 0 || config->port > 65535)
        return err_set(err, ERR_INVALID, "Redis: port %d is not between 1 and 65535", config->port);
    if (config->resolver == NULL && !resolve_is_literal(host))
        return err_set(err, ERR_INVALID, "Redis: \"%s\" is not a numeric address", host);
    redis = xcalloc(1, sizeof(*redis));
    redis->loop = loop;
    redis->config = *config;
    redis->host = xstrdup(host);
    redis->password_file = config->password_file != NULL ? xstrdup(config->password_file) : NULL;
    if (redis->config.port == 0)
        redis->config.port = 6379;
    if (redis->config.deadline_ms <= 0)
        redis->config.deadline_ms = DEADLINE_DEFAULT_MS;
    if (redis->config.backoff_max_ms <= 0)
        redis->config.backoff_max_ms = BACKOFF_MAX_DEFAULT_MS;
    if (redis->config.outstanding_max <= 0)
        redis->config.outstanding_max = OUTSTANDING_DEFAULT_MAX;
    if (redis->config.outstanding_max_bytes == 0)
        redis->config.outstanding_max_bytes = OUTSTANDING_DEFAULT_MAX_BYTES;
    redis->backoff_ms = BACKOFF_MIN_MS;
    redis->since_ms = clock_mono_ms();
    redis->retry = loop_timer_new(loop, connect_now, redis);
    redis->deadline = loop_timer_new(loop, deadline_passed, redis);
    redis->heartbeat = loop_timer_new(loop, heartbeat, redis);
    redis->tell = loop_timer_new(loop, tell_dropped, redis);
    loop_timer_start(redis->retry, 0);
    *result = redis;
    return 0;
}

void redis_free(struct redis *redis)
{
    if (redis == NULL)
        return;
    redis->config.on_state = NULL;
    fail(redis, "no longer used");
    tell_dropped(redis);
    loop_timer_free(redis->retry);
    loop_timer_free(redis->deadline);
    loop_timer_free(redis->heartbeat);
    loop_timer_free(redis->tell);
    free(redis->host);
    free(redis->password_file);
    free(redis);
}

void redis_status(const struct redis *redis, struct redis_status *status)
{
    *status = (struct redis_status){.state = redis->state,
                                    .outstanding = redis->n_sent,
                                    .connects_total = redis->connects_total,
                                    .dropped_total = redis->dropped_total,
                                    .state_age_ms = clock_mono_ms() - redis->since_ms};
    memcpy(status->error, redis->error, sizeof(status->error));
}

void redis_set(struct redis *redis, const char *key, const void *value, size_t size,
               redis_reply_fn *fn, void *arg)
{
    const char *words[] = {"SET", key, value};
    const size_t sizes[] = {3, strlen(key), size};

    put(redis, 3, words, sizes, false, fn, arg);
}

void redis_get(struct redis *redis, const char *key, redis_reply_fn *fn, void *arg)
{
    const char *words[] = {"GET", key};
    const size_t sizes[] = {3, strlen(key)};

    put(redis, 2, words, sizes, false, fn, arg);
}

void redis_publish(struct redis *redis, const char *channel, const void *value, size_t size,
                   redis_reply_fn *fn, void *arg)
{
    const char *words[] = {"PUBLISH", channel, value};
    const size_t sizes[] = {7, strlen(channel), size};

    put(redis, 3, words, sizes, false, fn, arg);
}
