/* A directory of a test's own, made in the setup and removed with everything in it afterwards. */
#ifndef OGEL_TESTS_UNIT_TMPDIR_H
#define OGEL_TESTS_UNIT_TMPDIR_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"

static char tmpdir[256];

static inline int tmpdir_make(void **state)
{
    const char *top = getenv("TMPDIR");

    (void)state;
    snprintf(tmpdir, sizeof(tmpdir), "%s/ogel-test-XXXXXX", top != NULL ? top : "/tmp");
    return mkdtemp(tmpdir) != NULL ? 0 : -1;
}

static inline int tmpdir_remove(void **state)
{
    (void)state;
    return file_remove_tree(tmpdir, NULL);
}

/* A name in it; from four buffers in turn. */
static inline const char *tmp_path(const char *name)
{
    static char paths[4][512];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", tmpdir, name);
    return path;
}

#endif
