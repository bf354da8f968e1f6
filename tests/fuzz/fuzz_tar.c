/* A base backup's tar stream: every file's content is as long as its header said, whatever pieces
 * it comes in. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "snapshots/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t announced, came, files;
};

static int on_begin(void *arg, const struct tar_entry *entry, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    OGEL_CHECK(entry->name[0] != '\0' && strlen(entry->name) < 100);
    seen->announced = entry->type == TAR_FILE ? entry->size : 0;
    seen->came = 0;
    return 0;
}

static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct seen *seen = arg;

    (void)data;
    (void)err;
    seen->came += len;
    OGEL_CHECK(len > 0 && seen->came <= seen->announced);
    return 0;
}

static int on_end(void *arg, struct err *err)
{
    struct seen *seen = arg;

    (void)err;
    OGEL_CHECK(seen->came == seen->announced);
    seen->files++;
    return 0;
}

static int feed(const char *data, size_t size, size_t step, struct seen *seen)
{
    static const struct tar_handler handler = {on_begin, on_data, on_end};
    struct tar tar = {0};
    struct err err = {0};

    for (size_t at = 0; at < size; at += step) {
        if (tar_feed(&tar, data + at, size - at < step ? size - at : step, &handler, seen, &err) <
            0) {
            OGEL_CHECK(err.code == ERR_CORRUPT);
            return -1;
        }
    }
    return tar_end(&tar, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole = {0}, pieces = {0};
    static char copy[64 * 1024];

    if (size > sizeof(copy))
        return 0;
    /* Checksums are mended, so that what is behind them is reached. */
    memcpy(copy, data, size);
    for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
        unsigned sum = 8 * ' ';

        if (memcmp(copy + at + 257, "ustar", 5) != 0)
            continue;
        for (size_t i = 0; i < TAR_BLOCK; i++)
            sum += i >= 148 && i < 156 ? 0 : (unsigned char)copy[at + i];
        for (size_t i = 6; i > 0; i--, sum >>= 3)
            copy[at + 148 + i - 1] = (char)('0' + (sum & 7));
        copy[at + 154] = '\0';
    }
    OGEL_CHECK(feed(copy, size, size + 1, &whole) == feed(copy, size, 7, &pieces));
    OGEL_CHECK(whole.files == pieces.files);
    return 0;
}
