#include "base/prom.h"

#include <inttypes.h>
#include <math.h>

const double prom_latency_bounds[PROM_LATENCY_BOUNDS] = {
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5};
const double prom_duration_bounds[PROM_DURATION_BOUNDS] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                           1,    2,     5,    10,  30,   60};

void prom_histogram_observe(struct prom_histogram *histogram, double value)
{
    uint32_t i = 0;

    while (i < histogram->bound_count && value > histogram->bounds[i])
        i++;
    histogram->buckets[i]++;
    histogram->count++;
    histogram->sum += value;
}

void prom_family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_value(FILE *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            fputc('\\', out);
        if (*value == '\n')
            fputs("\\n", out);
        else
            fputc(*value, out);
    }
}

static void print_labels(FILE *out, const char *const *labels, const char *last_name,
                         const char *last_value)
{
    const char *separator = "{";

    for (; labels && labels[0]; labels += 2) {
        fprintf(out, "%s%s=\"", separator, labels[0]);
        print_value(out, labels[1]);
        fputc('"', out);
        separator = ",";
    }
    if (last_name) {
        fprintf(out, "%s%s=\"%s\"", separator, last_name, last_value);
        separator = ",";
    }
    if (*separator == ',')
        fputc('}', out);
}

static void print_number(FILE *out, double value)
{
    if (value == floor(value) && fabs(value) < 9e15)
        fprintf(out, " %" PRId64 "\n", (int64_t)value);
    else
        fprintf(out, " %.9g\n", value);
}

void prom_sample(FILE *out, const char *name, const char *const *labels, double value)
{
    fputs(name, out);
    print_labels(out, labels, NULL, NULL);
    print_number(out, value);
}

void prom_histogram_print(FILE *out, const char *name, const char *const *labels,
                          const struct prom_histogram *histogram)
{
    uint64_t below = 0;

    for (uint32_t i = 0; i <= histogram->bound_count; i++) {
        char bound[32] = "+Inf";

        if (i < histogram->bound_count)
            snprintf(bound, sizeof bound, "%g", histogram->bounds[i]);
        below += histogram->buckets[i];
        fprintf(out, "%s_bucket", name);
        print_labels(out, labels, "le", bound);
        print_number(out, (double)below);
    }
    fprintf(out, "%s_sum", name);
    print_labels(out, labels, NULL, NULL);
    print_number(out, histogram->sum);
    fprintf(out, "%s_count", name);
    print_labels(out, labels, NULL, NULL);
    print_number(out, (double)histogram->count);
}
