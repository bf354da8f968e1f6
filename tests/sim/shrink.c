/*
 * The shrinker: leaves out faults, half of them at first, then fewer, as long as the same invariant
 * is violated. Because each fault has chance of its own, and chance depends on what happens when,
 * what remains stays much as it was.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { TRIES_MAX = 3000, LINES_SHOWN = 60 };

struct befallen {
    uint64_t id;
    int64_t at_ms;
    char text[160];
};

static struct befallen befallen[MASK_MAX];
static int befallen_count;
static bool recording;
static uint64_t present; /* whose fault is befalling */

/* Only these may befall. */
static uint64_t allowed[MASK_MAX];
static int allowed_count;
static bool masking;

bool fault_masked(uint64_t id)
{
    present = id;
    if (!masking)
        return false;
    for (int i = 0; i < allowed_count; i++)
        if (allowed[i] == id)
            return false;
    return true;
}

void fault_record(const char *text)
{
    struct befallen *fault = &befallen[befallen_count];

    if (!recording || befallen_count == MASK_MAX)
        return;
    fault->id = present;
    fault->at_ms = world.now_ms;
    snprintf(fault->text, sizeof fault->text, "%s", text);
    befallen_count++;
}

/* Does what is allowed still violate the invariant that begins with WORD? */
static bool still_violates(uint64_t seed, const char *word)
{
    run_schedule(seed);
    return world.violated && strncmp(world.violation, word, strcspn(word, " :")) == 0;
}

static void allow_what_befell(void)
{
    allowed_count = 0;
    for (int i = 0; i < befallen_count; i++)
        if (i == 0 || befallen[i].id != befallen[i - 1].id)
            allowed[allowed_count++] = befallen[i].id;
}

/* One pass with chunks of SIZE; true if something could be left out. */
static bool leave_out(uint64_t seed, const char *word, int size, int *tries)
{
    bool progress = false;

    for (int at = 0; at < allowed_count && *tries < TRIES_MAX;) {
        static uint64_t before[MASK_MAX];
        int count = allowed_count, cut = count - at < size ? count - at : size;

        memcpy(before, allowed, sizeof before);
        memmove(allowed + at, allowed + at + cut, (size_t)(count - at - cut) * sizeof *allowed);
        allowed_count -= cut;
        (*tries)++;
        if (still_violates(seed, word)) {
            progress = true;
        } else {
            memcpy(allowed, before, sizeof before);
            allowed_count = count;
            at += cut;
        }
    }
    return progress;
}

int shrink(uint64_t seed)
{
    char word[200];
    int tries = 0, faults;

    recording = true;
    run_schedule(seed);
    recording = false;
    if (!world.violated) {
        printf("seed %" PRIu64 " violates nothing\n", seed);
        return 0;
    }
    snprintf(word, sizeof word, "%s", world.violation);
    faults = befallen_count;
    allow_what_befell();
    masking = true;
    for (int size = allowed_count / 2 > 0 ? allowed_count / 2 : 1;; size = size > 1 ? size / 2 : 1)
        if (!leave_out(seed, word, size, &tries) && size == 1)
            break;
    befallen_count = 0;
    recording = true;
    trace_mode = TRACE_KEPT;
    trace_forget();
    run_schedule(seed);
    printf("seed %" PRIu64 ": %s\n%d faults of %d remain after %d tries:\n", seed, world.violation,
           befallen_count, faults, tries);
    for (int i = 0; i < befallen_count; i++)
        printf("%7lld.%03lld  %s\n", (long long)(befallen[i].at_ms / 1000),
               (long long)(befallen[i].at_ms % 1000), befallen[i].text);
    printf("and the end of it:\n");
    trace_show(LINES_SHOWN);
    return 1;
}
