#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

struct world world;
struct figures figures;
bool trace_on;

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

/* --- events: a binary heap --- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

void post_event(int64_t in_ms, struct event event)
{
    int i = world.event_count;

    if (i == EVENTS_MAX) {
        violate("too many events: the simulator itself");
        return;
    }
    world.event_count++;
    event.at_ms = world.now_ms + (in_ms > 0 ? in_ms : 0);
    event.order = world.order++;
    while (i > 0 && sooner(&event, &world.events[(i - 1) / 2])) {
        world.events[i] = world.events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    world.events[i] = event;
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
    struct event last;
    int i = 0, child;

    if (world.event_count == 0)
        return false;
    *event = world.events[0];
    last = world.events[--world.event_count];
    for (;;) {
        child = 2 * i + 1;
        if (child >= world.event_count)
            break;
        if (child + 1 < world.event_count && sooner(&world.events[child + 1], &world.events[child]))
            child++;
        if (!sooner(&world.events[child], &last))
            break;
        world.events[i] = world.events[child];
        i = child;
    }
    world.events[i] = last;
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

/* --- words --- */

void trace(const char *format, ...)
{
    va_list args;

    if (!trace_on)
        return;
    printf("%7lld.%03lld  ", (long long)(world.now_ms / 1000), (long long)(world.now_ms % 1000));
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void violate(const char *format, ...)
{
    va_list args;

    if (world.violated)
        return;
    world.violated = true;
    va_start(args, format);
    vsnprintf(world.violation, sizeof world.violation, format, args);
    va_end(args);
    trace("VIOLATION %s", world.violation);
}
