#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

struct world world;
struct figures figures;
enum trace_mode trace_mode;

/* --- chance --- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

void chance_for(const struct event *event)
{
    int a = event->a;
    uint64_t what = (uint64_t)event->kind | (uint64_t)(unsigned)a << 8 |
                    (uint64_t)(unsigned)event->b << 16;

    if (event->kind == EVENT_FAULT) {
        world.random = mix(mix(world.seed) ^ (what | (uint64_t)event->number << 40)) | 1;
        return;
    }
    if (world.moment_ms[a] != event->at_ms) {
        world.moment_ms[a] = event->at_ms;
        world.moment_count[a] = 0;
    }
    what |= (uint64_t)world.moment_count[a]++ << 40;
    world.random = mix(mix(world.seed + 0x9e3779b97f4a7c15ULL * (uint64_t)event->at_ms) ^ what) | 1;
}

uint64_t rnd(void)
{
    uint64_t x = world.random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    world.random = x;
    return x * 0x2545f4914f6cdd1dULL;
}

uint32_t dice(uint32_t sides)
{
    return (uint32_t)((rnd() >> 32) % sides);
}

bool happens(int per_mille)
{
    return per_mille > 0 && (int)dice(1000) < per_mille;
}

int64_t between(int64_t low, int64_t high)
{
    return low + (int64_t)dice((uint32_t)(high - low + 1));
}

/* --- events: a binary heap of when and which --- */

enum { ORDER_BITS = 24 };

void post_event(int64_t in_ms, struct event event)
{
    struct ticket ticket;
    int i = world.event_count;

    if (i == EVENTS_MAX) {
        violate("too many events: the simulator itself");
        return;
    }
    event.at_ms = world.now_ms + (in_ms > 0 ? in_ms : 0);
    /* places that are free again stand behind the heap's end; at first they are just counted up */
    if (i == world.event_places) {
        world.heap[i].place = i;
        world.event_places++;
    }
    ticket.place = world.heap[i].place;
    ticket.key = (uint64_t)event.at_ms << ORDER_BITS | (world.order++ & ((1u << ORDER_BITS) - 1));
    world.events[ticket.place] = event;
    world.event_count++;
    while (i > 0 && ticket.key < world.heap[(i - 1) / 2].key) {
        world.heap[i] = world.heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    world.heap[i] = ticket;
}

/* An event of endpoint A's process is for its present life only. */
void post(int64_t in_ms, enum event_kind kind, int a, int b)
{
    struct event event = {.kind = kind, .a = a, .b = b};

    if (kind >= EVENT_OWNED)
        event.life = world.endpoints[a].life;
    post_event(in_ms, event);
}

bool next_event(struct event *event)
{
    struct ticket first = world.heap[0], last;
    int i = 0, child;

    if (world.event_count == 0)
        return false;
    *event = world.events[first.place];
    last = world.heap[--world.event_count];
    for (;;) {
        child = 2 * i + 1;
        if (child >= world.event_count)
            break;
        if (child + 1 < world.event_count && world.heap[child + 1].key < world.heap[child].key)
            child++;
        if (last.key <= world.heap[child].key)
            break;
        world.heap[i] = world.heap[child];
        i = child;
    }
    world.heap[i] = last;
    world.heap[world.event_count] = first;
    return true;
}

/* --- network --- */

bool packet(int from, int to, int64_t *delay_ms)
{
    *delay_ms = between(0, 2);
    if (happens(world.slow))
        *delay_ms += happens(100) ? between(100, 2500) : between(5, 150);
    return !world.cut[from][to] && !happens(world.loss);
}

bool linked(int from, int to)
{
    return !world.cut[from][to] && !world.cut[to][from];
}

/* --- time --- */

int64_t clock_of(int endpoint)
{
    return world.now_ms + world.endpoints[endpoint].leap_ms;
}

int64_t own_clock(const struct machine *m)
{
    return clock_of((int)(m - world.machines));
}

void count_step(void)
{
    world.measure[MEASURE_STEPS]++;
}

/* --- words --- */

/* The newest lines only: a violation is explained by what came just before it. */
enum { KEPT = 1 << 10, LINE_SIZE = 200 };

static struct {
    char text[KEPT][LINE_SIZE];
    uint64_t count;
} kept;

void trace_forget(void)
{
    kept.count = 0;
}

void trace_show(uint64_t lines)
{
    uint64_t from = kept.count > lines ? kept.count - lines : 0;

    for (uint64_t i = from; i < kept.count; i++)
        puts(kept.text[i % KEPT]);
}

void trace(const char *format, ...)
{
    char *line = kept.text[kept.count % KEPT];
    va_list args;
    int used;

    if (trace_mode == TRACE_OFF)
        return;
    used = snprintf(line, LINE_SIZE, "%7lld.%03lld  ", (long long)(world.now_ms / 1000),
                    (long long)(world.now_ms % 1000));
    va_start(args, format);
    vsnprintf(line + used, (size_t)(LINE_SIZE - used), format, args);
    va_end(args);
    if (trace_mode == TRACE_ALL)
        puts(line);
    else
        kept.count++;
}

void violate(const char *format, ...)
{
    va_list args;

    if (world.violated || (world.overridden && format[0] == 'I' && format[1] <= '3'))
        return;
    world.violated = true;
    va_start(args, format);
    vsnprintf(world.violation, sizeof world.violation, format, args);
    va_end(args);
    trace("VIOLATION %s", world.violation);
}
