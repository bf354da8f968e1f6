/*
 * A bad cable for one machine: takes Ethernet frames from one TAP device and puts them out at
 * another, in both directions, and loses, delays, duplicates and reorders some of them on the way,
 * as a seed says. Only IPv4 is hurt; ARP passes.
 *
 * Makes both devices in the network namespace it runs in (Documentation/networking/tuntap.rst of
 * Linux), prints "ready", and works until SIGTERM or SIGINT; then prints as JSON what it has done.
 * What it counts as reordered was really overtaken by a later packet.
 *
 * A delay is drawn anew every DELAY_NS for each direction, and packets keep their order under it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 2048, QUEUE_MAX = 65536, BURST = 64, ETHER_TYPE_AT = 12, ETHER_HEADER = 14 };

static const uint64_t SECOND_NS = 1000000000, MS_NS = 1000000;
static const uint64_t DELAY_NS = 250000000; /* between two draws of the delay */
static const uint64_t HOLD_MIN_NS = 5000000, HOLD_NS = 40000000; /* of a packet to be overtaken */

static struct {
    const char *device[2];
    double loss, duplicate, reorder; /* share of packets, 0 to 1 */
    uint64_t delay_min_ns, delay_max_ns;
    uint64_t seed;
} opt;

struct packet {
    uint64_t due_ns;
    uint64_t order; /* of arrival, of all directions */
    int to;
    size_t len;
    unsigned char data[];
};

/* One direction of the cable, named by the device that packets leave at. */
struct lane {
    uint64_t delay_ns, delay_until_ns;
    uint64_t last_due_ns;
    uint64_t last_order; /* the latest arrival that has left */
};

static struct packet *queue[QUEUE_MAX]; /* a binary heap, the earliest first */
static size_t queued;
static struct lane lanes[2];
static struct {
    uint64_t seen, lost, delayed, duplicated, reordered, overflow;
} count;
static volatile sig_atomic_t stopping;

static void on_signal(int sig)
{
    (void)sig;
    stopping = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t random_next(void)
{
    uint64_t z = opt.seed += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool chance(double share)
{
    return (double)(random_next() >> 11) * 0x1.0p-53 < share;
}

/* --- the queue -------------------------------------------------------------------------------- */

static bool earlier(const struct packet *a, const struct packet *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void queue_swap(size_t i, size_t j)
{
    struct packet *p = queue[i];

    queue[i] = queue[j];
    queue[j] = p;
}

static void queue_push(int to, const unsigned char *data, size_t len, uint64_t due_ns)
{
    static uint64_t order;
    struct packet *p;
    size_t i = queued;

    if (queued == QUEUE_MAX) {
        count.overflow++;
        return;
    }
    p = malloc(sizeof(*p) + len);
    if (p == NULL)
        abort();
    *p = (struct packet){.due_ns = due_ns, .order = ++order, .to = to, .len = len};
    memcpy(p->data, data, len);
    queue[queued++] = p;
    for (; i > 0 && earlier(queue[i], queue[(i - 1) / 2]); i = (i - 1) / 2)
        queue_swap(i, (i - 1) / 2);
}

static struct packet *queue_pop(void)
{
    struct packet *first = queue[0];
    size_t i = 0;

    queue[0] = queue[--queued];
    for (;;) {
        size_t least = i;

        for (size_t kid = 2 * i + 1; kid <= 2 * i + 2 && kid < queued; kid++)
            if (earlier(queue[kid], queue[least]))
                least = kid;
        if (least == i)
            return first;
        queue_swap(i, least);
        i = least;
    }
}

/* --- what happens to a packet ----------------------------------------------------------------- */

static uint64_t lane_delay_ns(struct lane *lane, uint64_t now)
{
    if (opt.delay_max_ns == 0)
        return 0;
    if (now >= lane->delay_until_ns) {
        uint64_t span = opt.delay_max_ns - opt.delay_min_ns + 1;

        lane->delay_ns = opt.delay_min_ns + random_next() % span;
        lane->delay_until_ns = now + DELAY_NS;
    }
    return lane->delay_ns;
}

static void packet_arrived(int to, const unsigned char *data, size_t len)
{
    struct lane *lane = &lanes[to];
    uint64_t now = now_ns(), due = now + lane_delay_ns(lane, now);

    if (len < ETHER_HEADER || data[ETHER_TYPE_AT] != 0x08 || data[ETHER_TYPE_AT + 1] != 0x00) {
        queue_push(to, data, len, now);
        return;
    }
    count.seen++;
    if (chance(opt.loss)) {
        count.lost++;
        return;
    }
    if (due > now)
        count.delayed++;
    if (due < lane->last_due_ns)
        due = lane->last_due_ns;
    if (chance(opt.reorder)) {
        due += HOLD_MIN_NS + random_next() % HOLD_NS;
    } else {
        lane->last_due_ns = due;
    }
    queue_push(to, data, len, due);
    if (chance(opt.duplicate)) {
        count.duplicated++;
        queue_push(to, data, len, due);
    }
}

static void send_due(const int fd[2])
{
    while (queued > 0 && queue[0]->due_ns <= now_ns()) {
        struct packet *p = queue_pop();
        struct lane *lane = &lanes[p->to];

        if (p->order < lane->last_order)
            count.reordered++;
        else
            lane->last_order = p->order;
        if (write(fd[p->to], p->data, p->len) < 0 && errno != EAGAIN && errno != EIO)
            die("write");
        free(p);
    }
}

static void receive(const int fd[2], int from)
{
    unsigned char frame[FRAME_MAX];

    for (int i = 0; i < BURST; i++) {
        ssize_t len = read(fd[from], frame, sizeof(frame));

        if (len <= 0)
            return;
        packet_arrived(!from, frame, (size_t)len);
    }
}

/* --- main ------------------------------------------------------------------------------------- */

static int device_open(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        die("/dev/net/tun");
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        die(name);
    return fd;
}

static void work(const int fd[2])
{
    struct pollfd pfd[2] = {{.fd = fd[0], .events = POLLIN}, {.fd = fd[1], .events = POLLIN}};

    while (!stopping) {
        struct timespec left = {1, 0};

        if (queued > 0) {
            uint64_t now = now_ns(), due = queue[0]->due_ns, ns = due > now ? due - now : 0;

            left = (struct timespec){(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
        }
        if (ppoll(pfd, 2, &left, NULL) > 0)
            for (int i = 0; i < 2; i++)
                if (pfd[i].revents)
                    receive(fd, i);
        send_due(fd);
    }
}

static void usage(void)
{
    fputs("usage: relay --a DEVICE --b DEVICE [--loss PERCENT] [--delay-ms MIN-MAX]\n"
          "             [--duplicate PERCENT] [--reorder PERCENT] [--seed N]\n",
          stderr);
    exit(2);
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"a", required_argument, 0, 'a'},         {"b", required_argument, 0, 'b'},
        {"loss", required_argument, 0, 'l'},      {"delay-ms", required_argument, 0, 'd'},
        {"duplicate", required_argument, 0, 'u'}, {"reorder", required_argument, 0, 'r'},
        {"seed", required_argument, 0, 's'},      {0, 0, 0, 0}};
    unsigned min_ms, max_ms;
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'a': opt.device[0] = optarg; break;
        case 'b': opt.device[1] = optarg; break;
        case 'l': opt.loss = strtod(optarg, NULL) / 100; break;
        case 'u': opt.duplicate = strtod(optarg, NULL) / 100; break;
        case 'r': opt.reorder = strtod(optarg, NULL) / 100; break;
        case 's': opt.seed = strtoull(optarg, NULL, 10); break;
        case 'd':
            if (sscanf(optarg, "%u-%u", &min_ms, &max_ms) != 2 || min_ms > max_ms)
                usage();
            opt.delay_min_ns = min_ms * MS_NS;
            opt.delay_max_ns = max_ms * MS_NS;
            break;
        default: usage();
        }
    }
    if (opt.device[0] == NULL || opt.device[1] == NULL)
        usage();
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_signal};
    int fd[2];

    parse(argc, argv);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    for (int i = 0; i < 2; i++)
        fd[i] = device_open(opt.device[i]);
    puts("ready");
    fflush(stdout);
    work(fd);
    printf("{\"seen\": %llu, \"lost\": %llu, \"delayed\": %llu, \"duplicated\": %llu, "
           "\"reordered\": %llu, \"overflow\": %llu}\n",
           (unsigned long long)count.seen, (unsigned long long)count.lost,
           (unsigned long long)count.delayed, (unsigned long long)count.duplicated,
           (unsigned long long)count.reordered, (unsigned long long)count.overflow);
    while (queued > 0)
        free(queue_pop());
    return 0;
}
