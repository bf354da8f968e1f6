#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { GAP = 2 };

struct cell {
    char *text;
    enum style style;
};

struct row {
    struct cell cells[TABLE_COLUMNS_MAX];
    int count;
};

struct table {
    const char *headings[TABLE_COLUMNS_MAX];
    bool right[TABLE_COLUMNS_MAX];
    int columns;
    struct row *rows;
    size_t row_count;
};

struct table *table_new(const char *const *headings)
{
    struct table *table = xcalloc(1, sizeof(*table));

    for (; headings[table->columns] != NULL; table->columns++) {
        const char *heading = headings[table->columns];

        OGEL_CHECK(table->columns < TABLE_COLUMNS_MAX);
        table->right[table->columns] = heading[0] == '>';
        table->headings[table->columns] = heading[0] == '>' ? heading + 1 : heading;
    }
    return table;
}

void table_free(struct table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->row_count; i++) {
        for (int c = 0; c < table->rows[i].count; c++)
            free(table->rows[i].cells[c].text);
    }
    free(table->rows);
    free(table);
}

void table_row(struct table *table)
{
    table->rows = xreallocarray(table->rows, table->row_count + 1, sizeof(table->rows[0]));
    memset(&table->rows[table->row_count++], 0, sizeof(table->rows[0]));
}

static void tame(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 127)
            *text = '?';
    }
}

void table_cell(struct table *table, enum style style, const char *fmt, ...)
{
    struct row *row = &table->rows[table->row_count - 1];
    char *text = NULL;
    va_list args;

    OGEL_CHECK(row->count < table->columns);
    va_start(args, fmt);
    OGEL_CHECK(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    tame(text);
    row->cells[row->count++] = (struct cell){text, style};
}

int text_width(const char *text)
{
    int width = 0;

    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static const char *escape_of(enum style style)
{
    switch (style) {
    case STYLE_PLAIN: return "";
    case STYLE_GOOD: return "\033[32m";
    case STYLE_WARN: return "\033[33m";
    case STYLE_BAD: return "\033[1;31m";
    case STYLE_BOLD: return "\033[1m";
    case STYLE_FAINT: return "\033[2m";
    }
    return "";
}

void style_print(FILE *out, bool color, enum style style, const char *text)
{
    char *copy = xstrdup(text);

    tame(copy);
    if (color && style != STYLE_PLAIN)
        fprintf(out, "%s%s\033[0m", escape_of(style), copy);
    else
        fputs(copy, out);
    free(copy);
}

static const char *cell_text(const struct row *row, int column)
{
    return column < row->count ? row->cells[column].text : "";
}

static void print_line(const struct table *table, const int *widths, const struct row *row,
                       FILE *out, bool color)
{
    int column = 0, written = 0; /* where the cell begins; where the line ends so far */

    for (int c = 0; c < table->columns; c++) {
        const char *text = row != NULL ? cell_text(row, c) : table->headings[c];
        enum style style = STYLE_FAINT;
        int begin = column, width = text_width(text);

        if (widths[c] == 0)
            continue;
        column += widths[c] + GAP;
        if (width == 0)
            continue;
        if (row != NULL)
            style = row->cells[c].style;
        if (table->right[c])
            begin += widths[c] - width;
        fprintf(out, "%*s", begin - written, "");
        style_print(out, color, style, text);
        written = begin + width;
    }
    fputc('\n', out);
}

void table_print(const struct table *table, FILE *out, bool color)
{
    int widths[TABLE_COLUMNS_MAX] = {0};

    for (int c = 0; c < table->columns; c++) {
        for (size_t i = 0; i < table->row_count; i++) {
            int width = text_width(cell_text(&table->rows[i], c));

            if (width > widths[c])
                widths[c] = width;
        }
        if (widths[c] > 0 && text_width(table->headings[c]) > widths[c])
            widths[c] = text_width(table->headings[c]);
    }
    print_line(table, widths, NULL, out, color);
    for (size_t i = 0; i < table->row_count; i++)
        print_line(table, widths, &table->rows[i], out, color);
}

const char *size_text(uint64_t bytes, char buf[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < OGEL_ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(buf, 32, "%llu B", (unsigned long long)bytes);
    else
        snprintf(buf, 32, "%.1f %s", value, units[unit]);
    return buf;
}
