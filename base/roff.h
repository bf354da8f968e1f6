/* Manual pages: text as roff wants it. */
#ifndef OGEL_BASE_ROFF_H
#define OGEL_BASE_ROFF_H

#include <stdio.h>

/* Writes TEXT so that roff prints it as it stands: backslashes, hyphens, and what would be a
 * request at the beginning of a line. */
void roff_text(FILE *out, const char *text);

#endif
