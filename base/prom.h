/*
 * Prometheus' text format 0.0.4, written to a stdio stream, and histograms with fixed bounds.
 */
#ifndef OGEL_BASE_PROM_H
#define OGEL_BASE_PROM_H

#include <stdint.h>
#include <stdio.h>

enum { PROM_BUCKETS_MAX = 16 };

/* bounds: upper limits in ascending order, without +Inf. */
struct prom_histogram {
    const double *bounds;
    uint32_t bound_count;
    uint64_t buckets[PROM_BUCKETS_MAX + 1];
    uint64_t count;
    double sum;
};

/* For latencies of answers, and of failovers and their parts; in seconds. */
extern const double prom_latency_bounds[];
extern const double prom_duration_bounds[];
enum { PROM_LATENCY_BOUNDS = 12, PROM_DURATION_BOUNDS = 12 };

void prom_histogram_observe(struct prom_histogram *histogram, double value);

/* # HELP and # TYPE; type is "gauge", "counter" or "histogram". Once for each name, before its
 * samples. */
void prom_family(FILE *out, const char *name, const char *type, const char *help);

/* One sample. labels: pairs of name and value, NULL at the end; values are escaped here. */
void prom_sample(FILE *out, const char *name, const char *const *labels, double value);

/* All samples of a histogram: _bucket, _sum, _count. */
void prom_histogram_print(FILE *out, const char *name, const char *const *labels,
                          const struct prom_histogram *histogram);

/* PROM_LABELS("cluster", name, "node", id) */
#define PROM_LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
