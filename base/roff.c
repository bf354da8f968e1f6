#include "base/roff.h"

#include <stdbool.h>

void roff_text(FILE *out, const char *text)
{
    bool line_begins = true;

    for (; *text != '\0'; text++) {
        /* A leading dot or quote would be a request, a bare hyphen becomes a typographic one. */
        if (line_begins && (*text == '.' || *text == '\''))
            fputs("\\&", out);
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
        line_begins = *text == '\n';
    }
}
