#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/roff.h"

#define WIDTH 96

static const char *type_name(const struct opt *opt)
{
    switch (opt->type) {
    case OPT_STRING: return "text";
    case OPT_INT: return "number";
    case OPT_BOOL: return "true or false";
    case OPT_DURATION: return "duration";
    case OPT_SIZE: return "size";
    case OPT_ENUM: return "choice";
    case OPT_PATH: return "absolute path";
    case OPT_ADDRESS: return "host:port";
    case OPT_MAP: return "map";
    case OPT_LIST: return "list";
    default: die("option \"%s\" has an unknown type", opt->name);
    }
}

static void print_bounds(FILE *out, const struct opt *opt)
{
    char low[UNITS_TEXT_SIZE], high[UNITS_TEXT_SIZE];

    if (opt->min == 0 && opt->max == 0)
        return;
    if (opt->type == OPT_DURATION)
        fprintf(out, ", %s to %s", units_format_duration(opt->min, low),
                units_format_duration(opt->max, high));
    else if (opt->type == OPT_SIZE)
        fprintf(out, ", %s to %s", units_format_size(opt->min, low),
                units_format_size(opt->max, high));
    else if (opt->type == OPT_INT || opt->type == OPT_LIST)
        fprintf(out, ", %" PRId64 " to %" PRId64, opt->min, opt->max);
}

/* What is in force when the option is not in the file; NULL = nothing. */
static const char *default_of(const struct opt *opt)
{
    if (opt->dflt != NULL)
        return opt->dflt;
    switch (opt->type) {
    case OPT_BOOL: return "false";
    case OPT_INT:
    case OPT_DURATION:
    case OPT_SIZE: return "0";
    case OPT_ENUM: return opt->choices[0];
    default: return NULL;
    }
}

/* "Help. Type, bounds, default, required, reload." as one line of text; the caller frees. */
static char *describe(const struct opt *opt)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    OGEL_CHECK(out != NULL);
    fprintf(out, "%s (%s", opt->help, type_name(opt));
    for (int i = 0; opt->type == OPT_ENUM && opt->choices[i] != NULL; i++)
        fprintf(out, "%s%s", i > 0 ? ", " : ": ", opt->choices[i]);
    print_bounds(out, opt);
    if (opt->flags & OPT_REQUIRED)
        fputs("; required", out);
    else if (default_of(opt) != NULL)
        fprintf(out, "; default %s", default_of(opt));
    if (opt->flags & OPT_SECRET_FILE)
        fputs("; mode 0600", out);
    if (opt->flags & OPT_RELOAD)
        fputs("; reloadable", out);
    fputc(')', out);
    OGEL_CHECK(fclose(out) == 0);
    return text;
}

/* TEXT in lines of WIDTH columns that begin with INDENT blanks and PREFIX. */
static void print_wrapped(FILE *out, int indent, const char *prefix, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (column > 0 && column + 1 + word > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = (size_t)fprintf(out, "%*s%s", indent, "", prefix);
        else
            column += (size_t)fprintf(out, " ");
        column += fwrite(text, 1, word, out);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* --- the sample file ------------------------------------------------------------------------ */

/* What stands behind the colon, in quotes where YAML would read it otherwise. */
static void print_sample_value(FILE *out, const char *value)
{
    bool quote = value[0] == '\0' || strchr("[]{}*&!|>'\"%@`#,?-:~", value[0]) != NULL ||
                 strstr(value, ": ") != NULL || strstr(value, " #") != NULL;

    if (!quote) {
        fprintf(out, " %s\n", value);
        return;
    }
    fputs(" '", out);
    for (; *value != '\0'; value++)
        fprintf(out, *value == '\'' ? "''" : "%c", *value);
    fputs("'\n", out);
}

/* BULLET: the first line that is no comment begins an item of a list. */
static void print_sample_map(FILE *out, const struct opt *table, int indent, bool bullet)
{
    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        bool nested = opt->type == OPT_MAP || opt->type == OPT_LIST;
        bool active = nested || (opt->flags & OPT_REQUIRED);
        const char *value = default_of(opt);
        char *text = describe(opt);
        int margin = bullet ? indent - 2 : indent;

        if (opt != table && indent == 0)
            fputc('\n', out);
        print_wrapped(out, margin, "# ", text);
        free(text);
        fprintf(out, "%*s%s%s:", margin, "", active ? (bullet ? "- " : "") : "#", opt->name);
        if (active)
            bullet = false;
        if (!nested) {
            if (value == NULL || (active && opt->sample != NULL))
                value = opt->sample != NULL ? opt->sample : "";
            print_sample_value(out, value);
            continue;
        }
        fputc('\n', out);
        if (opt->type == OPT_MAP)
            print_sample_map(out, opt->table, indent + 2, false);
        else if (opt->table != NULL)
            print_sample_map(out, opt->table, indent + 4, true);
        else if (opt->sample != NULL)
            fprintf(out, "%*s- %s\n", indent + 2, "", opt->sample);
    }
}

void conf_print_sample(FILE *out, const struct opt *table)
{
    print_sample_map(out, table, 0, false);
}

/* --- help and manual ------------------------------------------------------------------------ */

static void print_table(FILE *out, const struct opt *table, const char *prefix, bool roff)
{
    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        char name[256], *text = describe(opt);

        snprintf(name, sizeof(name), "%s%s", prefix, opt->name);
        if (roff) {
            fputs(".TP\n\\fB", out);
            roff_text(out, name);
            fputs("\\fR\n", out);
            roff_text(out, text);
            fputc('\n', out);
        } else {
            fprintf(out, "  %s\n", name);
            print_wrapped(out, 6, "", text);
        }
        free(text);
        if (opt->table == NULL)
            continue;
        snprintf(name, sizeof(name), "%s%s%s", prefix, opt->name,
                 opt->type == OPT_LIST ? "[]." : ".");
        print_table(out, opt->table, name, roff);
    }
}

void conf_print_help(FILE *out, const struct opt *table)
{
    print_table(out, table, "", false);
}

void conf_print_man(FILE *out, const struct opt *table)
{
    print_table(out, table, "", true);
}
