/*
 * sim: schedules until the time is over. See usage() for the options.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sim/sim.h"

#ifndef SIM_COMMIT
#    include "tests/sim/commit.h"
#endif

enum { VALUES_MAX = 1 << 15, LINES_SHOWN = 80, PATIENCE = 20 };

static void usage(void)
{
    puts("sim [OPTION]...   the cores of orchestrator and agents under fault schedules\n"
         "\n"
         "  --seconds S, --minutes M  how long, in processor time (15 s)\n"
         "  --from N                  the first seed (1)\n"
         "  --schedules N             no more than that\n"
         "  --all-reached             fail also where a reason code or a row was not reached\n"
         "  --seed N                  only this one, with its trace\n"
         "  --seed N --shrink         its violation with as few faults as possible\n"
         "  --seed N --project FILE   its trace for a model checker (docs/testing.md)\n"
         "\n"
         "Exit codes: 0 no violation, 1 a violation (or something not reached), 2 usage.");
}

struct choice {
    uint64_t seed, schedules;
    double seconds;
    bool one, shrink, all_reached;
    const char *project;
};

static bool parse_valued(struct choice *choice, const char *name, const char *value)
{
    if (strcmp(name, "--seed") == 0) {
        choice->seed = strtoull(value, NULL, 10);
        choice->one = true;
    } else if (strcmp(name, "--from") == 0) {
        choice->seed = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--seconds") == 0) {
        choice->seconds = strtod(value, NULL);
    } else if (strcmp(name, "--minutes") == 0) {
        choice->seconds = 60 * strtod(value, NULL);
    } else if (strcmp(name, "--schedules") == 0) {
        choice->schedules = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--project") == 0) {
        choice->project = value;
    } else {
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct choice *choice)
{
    *choice = (struct choice){.seed = 1, .schedules = UINT64_MAX, .seconds = 15};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--shrink") == 0)
            choice->shrink = true;
        else if (strcmp(argv[i], "--all-reached") == 0)
            choice->all_reached = true;
        else if (i + 1 < argc && parse_valued(choice, argv[i], argv[i + 1]))
            i++;
        else
            return false;
    }
    return choice->one || !(choice->shrink || choice->project);
}

/* --- distributions --- */

static uint32_t values[MEASURES][VALUES_MAX];

static void count_values(void)
{
    for (int i = 0; i < MEASURES; i++)
        values[i][world.measure[i] < VALUES_MAX ? world.measure[i] : VALUES_MAX - 1]++;
}

static int percentile(int measure, int percent)
{
    uint64_t below = 0, wanted = (figures.schedules * (uint64_t)percent + 99) / 100;
    int value = 0;

    while (value < VALUES_MAX - 1 && (below += values[measure][value]) < wanted)
        value++;
    return value;
}

static void print_figures(double processor, double elapsed)
{
    static const char *const names[MEASURES] = {"steps", "elections", "acknowledged", "faults"};

    printf("%" PRIu64 " schedules in %.1f s of processor time (%.1f s), %.0f a minute; commit %s\n",
           figures.schedules, processor, elapsed, (double)figures.schedules * 60 / processor,
           SIM_COMMIT);
    for (int i = 0; i < MEASURES; i++)
        printf("  %-12s  p10 %5d  median %5d  p90 %5d  in all %" PRIu64 "\n", names[i],
               percentile(i, 10), percentile(i, 50), percentile(i, 90), figures.total[i]);
    printf("  %" PRIu64 " became whole again, the slowest in %.1f s (seed %" PRIu64 "); %" PRIu64
           " were left with fewer than two complete nodes; in %" PRIu64 " data loss was accepted\n",
           figures.recovered, (double)figures.slowest_ms / 1e3, figures.slowest_seed,
           figures.schedules - figures.recovered, figures.overridden);
    printf("  %" PRIu64 " waits cancelled, %" PRIu64 " transactions prepared, %" PRIu64
           " reads on leaders\n",
           figures.cancelled, figures.prepared, figures.reads);
}

/* --- the whole --- */

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Processor time, so that a busy machine tries no fewer schedules; but not for ever. */
static bool time_left(double limit, double started)
{
    return seconds(CLOCK_PROCESS_CPUTIME_ID) < limit &&
           seconds(CLOCK_MONOTONIC) - started < PATIENCE * limit;
}

static void print_violation(uint64_t seed)
{
    printf("seed %" PRIu64 ": %s (commit %s)\n", seed, world.violation, SIM_COMMIT);
}

/* Once more, so that what led to it can be shown. */
static void explain(uint64_t seed)
{
    print_violation(seed);
    trace_mode = TRACE_KEPT;
    run_schedule(seed);
    trace_show(LINES_SHOWN);
    printf("replay: sim --seed %" PRIu64 "   with fewer faults: sim --seed %" PRIu64 " --shrink\n",
           seed, seed);
}

static int run_one(const struct choice *choice)
{
    if (choice->shrink)
        return shrink(choice->seed);
    trace_mode = choice->project ? TRACE_OFF : TRACE_ALL;
    if (choice->project && !project_open(choice->project, choice->seed, SIM_COMMIT)) {
        perror(choice->project);
        return 2;
    }
    run_schedule(choice->seed);
    if (choice->project && !project_close()) {
        perror(choice->project);
        return 2;
    }
    if (world.violated)
        print_violation(choice->seed);
    return world.violated;
}

static int run_many(const struct choice *choice)
{
    double started = seconds(CLOCK_MONOTONIC);
    uint64_t seed = choice->seed;
    bool reached;

    for (uint64_t n = 0; n < choice->schedules && time_left(choice->seconds, started); n++) {
        run_schedule(seed);
        if (world.violated) {
            explain(seed);
            return 1;
        }
        count_values();
        seed++;
    }
    print_figures(seconds(CLOCK_PROCESS_CPUTIME_ID), seconds(CLOCK_MONOTONIC) - started);
    reached = cover_print();
    return choice->all_reached && !reached;
}

int main(int argc, char **argv)
{
    struct choice choice;

    if (!parse(argc, argv, &choice)) {
        usage();
        return 2;
    }
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    return choice.one ? run_one(&choice) : run_many(&choice);
}
