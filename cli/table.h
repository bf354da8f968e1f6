/* Aligned columns for people, and colours where a terminal shows them. */
#ifndef OGEL_CLI_TABLE_H
#define OGEL_CLI_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum style { STYLE_PLAIN, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_BOLD, STYLE_FAINT };

enum { TABLE_COLUMNS_MAX = 16 };

/* A new table with these headings (NULL at the end; "" leaves one empty). A heading that begins
 * with
 * ">" makes its column align to the right. Never NULL; free it with table_free(). */
struct table *table_new(const char *const *headings);
void table_free(struct table *table); /* NULL is allowed */

/* Adds a row; cells are added from left to right, missing ones are empty. Text is copied; control
 * characters in it are shown as "?", so that what a server says cannot steer the terminal. */
void table_row(struct table *table);
void table_cell(struct table *table, enum style style, const char *fmt, ...) OGEL_PRINTF(3, 4);

/* Headings and rows; columns that are empty in every row are left out. */
void table_print(const struct table *table, FILE *out, bool color);

/* TEXT in a style; without colour it is only the text. Control characters as in cells. */
void style_print(FILE *out, bool color, enum style style, const char *text);

/* Columns that TEXT takes on a screen: UTF-8 characters count once. */
int text_width(const char *text);

/* Sizes for people: "512 B", "16.3 kB", "1.2 GB". Returns BUF. */
const char *size_text(uint64_t bytes, char buf[32]);

#endif
