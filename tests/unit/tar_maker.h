/* Tar headers as PostgreSQL's server writes them. */
#ifndef OGEL_TESTS_UNIT_TAR_MAKER_H
#define OGEL_TESTS_UNIT_TAR_MAKER_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "snapshots/tar.h"

static inline void tar_checksum(char header[TAR_BLOCK])
{
    unsigned sum = 0;
    char text[8];

    memset(header + 148, ' ', 8);
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)header[i];
    snprintf(text, sizeof(text), "%06o", sum & 0777777);
    memcpy(header + 148, text, 7);
}

static inline void tar_header(char header[TAR_BLOCK], const char *name, char type, uint64_t size)
{
    char text[16];

    memset(header, 0, TAR_BLOCK);
    memcpy(header, name, strlen(name));
    memcpy(header + 100, "0000600 ", 8);
    if (size < UINT64_C(1) << 33) {
        snprintf(text, sizeof(text), "%011llo", (unsigned long long)size);
        memcpy(header + 124, text, 11);
        header[135] = ' ';
    } else {
        for (int i = 11; i > 0; i--, size >>= 8)
            header[124 + i] = (char)(size & 0xff);
        header[124] = (char)0x80;
    }
    header[156] = type;
    memcpy(header + 257, "ustar\00000", 8);
    tar_checksum(header);
}

#endif
