/*
 * A load generator for keep-alive HTTP/1.1 on one core: as much as the server takes, or a fixed
 * rate with the latencies counted from the moment each request was due (so that a stalled server
 * cannot hide behind unsent requests).
 *
 *   http_load -p PORT [-a ADDRESS] [-u /path]... [-t TOKEN] [-c CONNECTIONS] [-r RATE] [-s SECONDS]
 *
 * Several -u are asked in turn. Prints one JSON object; answers other than 200 are counted as
 * errors. Ends with 1 if there were any.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { URLS_MAX = 8, BUFFER_SIZE = 16384, CONNECTIONS_MAX = 4096 };

struct conn {
    int fd;
    bool busy;
    int64_t due_ns;
    size_t have;
    char buffer[BUFFER_SIZE];
};

struct load {
    const char *address, *token;
    const char *urls[URLS_MAX];
    char *requests[URLS_MAX];
    size_t sizes[URLS_MAX];
    int n_urls, next_url;
    int port, n_conns;
    double rate, seconds;

    int epoll_fd, timer_fd;
    struct conn *conns;
    int *idle, n_idle;
    int64_t start_ns, end_ns;
    uint64_t due; /* requests whose time has come, in rate mode */
    uint64_t sent, done, errors;
    uint32_t *latencies_us;
    size_t latencies_max;
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void give_up(const char *what)
{
    fprintf(stderr, "http_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void build_requests(struct load *load)
{
    for (int i = 0; i < load->n_urls; i++) {
        char text[2048];
        int size = snprintf(
            text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s%s\r\n", load->urls[i],
            load->address, load->port, load->token != NULL ? "Authorization: Bearer " : "",
            load->token != NULL ? load->token : "", load->token != NULL ? "\r\n" : "");

        load->requests[i] = strdup(text);
        load->sizes[i] = (size_t)size;
    }
}

static void open_conn(struct load *load, int i)
{
    struct conn *conn = &load->conns[i];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    int on = 1;

    if (inet_pton(AF_INET, load->address, &address.sin_addr) != 1)
        give_up(load->address);
    conn->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (conn->fd < 0 || connect(conn->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        give_up("connect");
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(conn->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0)
        give_up("epoll_ctl");
    conn->busy = false;
    conn->have = 0;
    load->idle[load->n_idle++] = i;
}

/* The server closed, or answered nonsense: counts once, and a new connection takes over. */
static void replace_conn(struct load *load, int i)
{
    struct conn *conn = &load->conns[i];

    if (conn->busy) {
        load->errors++;
    } else {
        for (int k = 0; k < load->n_idle; k++)
            if (load->idle[k] == i)
                load->idle[k] = load->idle[--load->n_idle];
    }
    close(conn->fd);
    open_conn(load, i);
}

static void send_next(struct load *load, int64_t due_ns)
{
    int i = load->idle[--load->n_idle];
    struct conn *conn = &load->conns[i];
    int url = load->next_url;

    load->next_url = (url + 1) % load->n_urls;
    conn->busy = true;
    conn->due_ns = due_ns;
    load->sent++;
    if (send(conn->fd, load->requests[url], load->sizes[url], MSG_NOSIGNAL) !=
        (ssize_t)load->sizes[url])
        replace_conn(load, i);
}

/* The size of a complete answer at the start of the buffer; 0: more to come; -1: nonsense. */
static long answer_size(struct conn *conn, int *status)
{
    conn->buffer[conn->have] = '\0';
    char *end = strstr(conn->buffer, "\r\n\r\n");
    char *length;

    if (end == NULL)
        return conn->have >= BUFFER_SIZE - 1 ? -1 : 0;
    if (sscanf(conn->buffer, "HTTP/1.1 %d", status) != 1)
        return -1;
    length = strcasestr(conn->buffer, "\r\ncontent-length:");
    if (length == NULL || length > end)
        return -1;
    long total = end + 4 - conn->buffer + strtol(length + 17, NULL, 10);

    if (total >= BUFFER_SIZE)
        return -1;
    return (size_t)total <= conn->have ? total : 0;
}

static void receive(struct load *load, int i)
{
    struct conn *conn = &load->conns[i];
    ssize_t n = recv(conn->fd, conn->buffer + conn->have, BUFFER_SIZE - 1 - conn->have, 0);
    int status = 0;
    long size;

    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        conn->have += (size_t)n;
    size = n > 0 ? answer_size(conn, &status) : -1;
    if (size < 0) {
        replace_conn(load, i);
        return;
    }
    if (size == 0)
        return;
    if (status != 200)
        load->errors++;
    if (load->done < load->latencies_max)
        load->latencies_us[load->done] = (uint32_t)((now_ns() - conn->due_ns) / 1000);
    load->done++;
    conn->have = 0;
    conn->busy = false;
    load->idle[load->n_idle++] = i;
}

static int64_t due_at(const struct load *load, uint64_t k)
{
    return load->start_ns + (int64_t)((double)k * 1e9 / load->rate);
}

/* Sends what may be sent now, and sets the alarm for what comes next. */
static void pace(struct load *load)
{
    int64_t now = now_ns();

    if (load->rate <= 0) {
        while (load->n_idle > 0)
            send_next(load, now_ns());
        return;
    }
    while (load->n_idle > 0 && due_at(load, load->due) <= now)
        send_next(load, due_at(load, load->due++));
    if (load->n_idle == 0)
        return;
    int64_t next = due_at(load, load->due);
    struct itimerspec at = {
        .it_value = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000}};

    timerfd_settime(load->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void run(struct load *load)
{
    struct epoll_event events[256];

    load->start_ns = now_ns();
    load->end_ns = load->start_ns + (int64_t)(load->seconds * 1e9);
    while (now_ns() < load->end_ns) {
        pace(load);
        int n = epoll_wait(load->epoll_fd, events, 256, 100);

        for (int k = 0; k < n; k++) {
            uint64_t ticks;

            if (events[k].data.u32 == UINT32_MAX)
                (void)!read(load->timer_fd, &ticks, sizeof(ticks));
            else
                receive(load, (int)events[k].data.u32);
        }
    }
    load->end_ns = now_ns();
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

static uint32_t percentile(const struct load *load, size_t n, double part)
{
    if (n == 0)
        return 0;
    return load->latencies_us[(size_t)((double)(n - 1) * part)];
}

static void report(struct load *load)
{
    size_t n = load->done < load->latencies_max ? load->done : load->latencies_max;
    double seconds = (double)(load->end_ns - load->start_ns) / 1e9;

    qsort(load->latencies_us, n, sizeof(*load->latencies_us), compare);
    printf("{\"requests\":%llu,\"errors\":%llu,\"seconds\":%.3f,\"per_second\":%.0f,"
           "\"p50_us\":%u,\"p90_us\":%u,\"p99_us\":%u,\"p999_us\":%u,\"max_us\":%u}\n",
           (unsigned long long)load->done, (unsigned long long)load->errors, seconds,
           (double)load->done / seconds, percentile(load, n, 0.5), percentile(load, n, 0.9),
           percentile(load, n, 0.99), percentile(load, n, 0.999), percentile(load, n, 1));
}

static void usage(void)
{
    fprintf(stderr, "usage: http_load -p PORT [-a ADDRESS] [-u /path]... [-t TOKEN] "
                    "[-c CONNECTIONS] [-r RATE] [-s SECONDS]\n");
    exit(64);
}

static void read_arguments(struct load *load, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "p:a:u:t:c:r:s:")) != -1) {
        switch (option) {
        case 'p': load->port = atoi(optarg); break;
        case 'a': load->address = optarg; break;
        case 'u':
            if (load->n_urls == URLS_MAX)
                usage();
            load->urls[load->n_urls++] = optarg;
            break;
        case 't': load->token = optarg; break;
        case 'c': load->n_conns = atoi(optarg); break;
        case 'r': load->rate = atof(optarg); break;
        case 's': load->seconds = atof(optarg); break;
        default: usage();
        }
    }
    if (load->port <= 0 || load->n_conns <= 0 || load->n_conns > CONNECTIONS_MAX ||
        load->seconds <= 0 || optind != argc)
        usage();
    if (load->n_urls == 0)
        load->urls[load->n_urls++] = "/";
}

int main(int argc, char **argv)
{
    struct load load = {.address = "127.0.0.1", .n_conns = 16, .seconds = 5};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};

    read_arguments(&load, argc, argv);
    build_requests(&load);
    load.latencies_max = (size_t)(load.seconds * 400000) + 1000;
    load.latencies_us = calloc(load.latencies_max, sizeof(*load.latencies_us));
    load.conns = calloc((size_t)load.n_conns, sizeof(*load.conns));
    load.idle = calloc((size_t)load.n_conns, sizeof(*load.idle));
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    load.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load.latencies_us == NULL || load.conns == NULL || load.idle == NULL ||
        epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, load.timer_fd, &event) != 0)
        give_up("cannot start");
    for (int i = 0; i < load.n_conns; i++)
        open_conn(&load, i);
    run(&load);
    report(&load);
    for (int i = 0; i < load.n_urls; i++)
        free(load.requests[i]);
    free(load.latencies_us);
    free(load.conns);
    free(load.idle);
    return load.errors > 0 ? 1 : 0;
}
