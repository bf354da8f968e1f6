#include "base/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/*
 * The table is shared with a thread that may hang in getaddrinfo() for minutes, so it is counted:
 * whoever lets go last, the owner or the thread, frees it. One thread asks one name after the
 * other; a name whose server hangs delays the others' refresh, never the answers that are known.
 */

enum { REFRESH_DEFAULT_MS = 30 * 1000, RETRY_MS = 1000, UNUSED_AFTER_MS = 600 * 1000 };

struct name {
    struct name *next;
    char *host;
    char address[RESOLVE_ADDRESS_SIZE]; /* "" until there was an answer */
    char why[128];                      /* what the last attempt met */
    bool asked;                         /* at least one attempt is over */
    int64_t next_ms;
    int64_t used_ms;
};

struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct name *names;
    int refresh_ms;
    int references;
    bool stopping;
};

bool resolve_is_literal(const char *host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *scope = strchr(host, '%');
    size_t len = scope != NULL ? (size_t)(scope - host) : strlen(host);

    if (len >= sizeof(text))
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    return (scope == NULL && inet_pton(AF_INET, text, &address) == 1) ||
           inet_pton(AF_INET6, text, &address) == 1;
}

/* With the lock held; releases it. */
static void release(struct resolver *resolver)
{
    bool last = --resolver->references == 0;

    pthread_mutex_unlock(&resolver->lock);
    if (!last)
        return;
    while (resolver->names != NULL) {
        struct name *name = resolver->names;

        resolver->names = name->next;
        free(name->host);
        free(name);
    }
    pthread_cond_destroy(&resolver->changed);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

static struct name *find(struct resolver *resolver, const char *host)
{
    for (struct name *name = resolver->names; name != NULL; name = name->next)
        if (strcmp(name->host, host) == 0)
            return name;
    return NULL;
}

/* Drops names nobody asked for any more, and returns the one that is due first. */
static struct name *next_due(struct resolver *resolver, int64_t now_ms)
{
    struct name *due = NULL;

    for (struct name **at = &resolver->names; *at != NULL;) {
        struct name *name = *at;

        if (name->used_ms + UNUSED_AFTER_MS < now_ms) {
            *at = name->next;
            free(name->host);
            free(name);
            continue;
        }
        if (due == NULL || name->next_ms < due->next_ms)
            due = name;
        at = &name->next;
    }
    return due;
}

/* Asks the system; "" and why on failure. A name with addresses of both kinds gives the IPv4 one:
 * what listens on that only ("localhost" is the usual case) would seem dead on the other. */
static void ask(const char *host, char address[RESOLVE_ADDRESS_SIZE], char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &list);

    address[0] = '\0';
    if (rc == 0) {
        const struct addrinfo *best = list;

        while (best->ai_family != AF_INET && best->ai_next != NULL)
            best = best->ai_next;
        if (best->ai_family != AF_INET)
            best = list;
        rc = getnameinfo(best->ai_addr, best->ai_addrlen, address, RESOLVE_ADDRESS_SIZE, NULL, 0,
                         NI_NUMERICHOST);
    }
    if (rc != 0)
        snprintf(why, why_size, "%s", rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    else
        why[0] = '\0';
    if (list != NULL)
        freeaddrinfo(list);
}

static void *resolver_main(void *arg)
{
    struct resolver *resolver = arg;

    pthread_mutex_lock(&resolver->lock);
    while (!resolver->stopping) {
        int64_t now_ms = clock_mono_ms();
        struct name *name = next_due(resolver, now_ms);

        if (name == NULL) {
            pthread_cond_wait(&resolver->changed, &resolver->lock);
            continue;
        }
        if (name->next_ms > now_ms) {
            struct timespec until = {.tv_sec = name->next_ms / 1000,
                                     .tv_nsec = name->next_ms % 1000 * 1000000};

            pthread_cond_timedwait(&resolver->changed, &resolver->lock, &until);
            continue;
        }

        char address[RESOLVE_ADDRESS_SIZE], why[sizeof(name->why)];
        char *host = xstrdup(name->host);

        pthread_mutex_unlock(&resolver->lock);
        ask(host, address, why, sizeof(why));
        pthread_mutex_lock(&resolver->lock);
        /* Only this thread removes names, so it is still there. */
        if (address[0] != '\0')
            memcpy(name->address, address, sizeof(address));
        memcpy(name->why, why, sizeof(why));
        name->asked = true;
        name->next_ms = clock_mono_ms() + (address[0] != '\0' ? resolver->refresh_ms : RETRY_MS);
        pthread_cond_broadcast(&resolver->changed);
        free(host);
    }
    release(resolver);
    return NULL;
}

int resolver_new(struct resolver **result, int refresh_ms, struct err *err)
{
    struct resolver *resolver = xcalloc(1, sizeof(*resolver));
    pthread_condattr_t monotonic;
    pthread_attr_t detached;
    sigset_t all, before;
    pthread_t thread;

    resolver->refresh_ms = refresh_ms > 0 ? refresh_ms : REFRESH_DEFAULT_MS;
    resolver->references = 2;
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&resolver->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    /* Signals belong to the loop's thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &detached, resolver_main, resolver);
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        pthread_mutex_lock(&resolver->lock);
        resolver->references = 1;
        release(resolver);
        return err_set_errno(err, rc, "cannot start the thread that resolves host names");
    }
    *result = resolver;
    return 0;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    pthread_mutex_lock(&resolver->lock);
    resolver->stopping = true;
    pthread_cond_broadcast(&resolver->changed);
    release(resolver);
}

/* With the lock held: the entry for host, made and put first in line if it is new. */
static struct name *want(struct resolver *resolver, const char *host)
{
    struct name *name = find(resolver, host);

    if (name == NULL) {
        name = xcalloc(1, sizeof(*name));
        name->host = xstrdup(host);
        snprintf(name->why, sizeof(name->why), "no answer yet");
        name->next = resolver->names;
        resolver->names = name;
        pthread_cond_broadcast(&resolver->changed);
    }
    name->used_ms = clock_mono_ms();
    return name;
}

static bool answer(const struct name *name, char address[RESOLVE_ADDRESS_SIZE], char *why,
                   size_t why_size)
{
    if (name->address[0] != '\0') {
        memcpy(address, name->address, RESOLVE_ADDRESS_SIZE);
        return true;
    }
    if (why != NULL && why_size > 0)
        snprintf(why, why_size, "%s", name->why);
    return false;
}

static bool literal(const char *host, char address[RESOLVE_ADDRESS_SIZE])
{
    if (!resolve_is_literal(host) || strlen(host) >= RESOLVE_ADDRESS_SIZE)
        return false;
    snprintf(address, RESOLVE_ADDRESS_SIZE, "%s", host);
    return true;
}

bool resolve_get(struct resolver *resolver, const char *host, char address[RESOLVE_ADDRESS_SIZE],
                 char *why, size_t why_size)
{
    if (literal(host, address))
        return true;
    pthread_mutex_lock(&resolver->lock);
    bool known = answer(want(resolver, host), address, why, why_size);
    pthread_mutex_unlock(&resolver->lock);
    return known;
}

bool resolve_wait(struct resolver *resolver, const char *host, int timeout_ms,
                  char address[RESOLVE_ADDRESS_SIZE], char *why, size_t why_size)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    struct name *name;

    if (literal(host, address))
        return true;
    pthread_mutex_lock(&resolver->lock);
    name = want(resolver, host);
    while (!name->asked) {
        /* The entry cannot vanish meanwhile: it has just been used. */
        if (pthread_cond_timedwait(&resolver->changed, &resolver->lock, &until) != 0)
            break;
    }
    bool known = answer(name, address, why, why_size);
    pthread_mutex_unlock(&resolver->lock);
    return known;
}
