/*
 * Reads a snapshot back: walks its file table, fetches the packs that hold its slices in parallel,
 * and checks each slice. Restoring and verifying differ only in what is done with the content.
 * Memory is bounded: what a few hundred thousand slices need is planned and fetched at a time.
 */
#ifndef OGEL_SNAPSHOTS_FETCH_H
#define OGEL_SNAPSHOTS_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshots/filetable.h"
#include "snapshots/manifest.h"
#include "snapshots/progress.h"
#include "snapshots/store.h"

enum { FETCH_JOBS_DEFAULT = 4, FETCH_JOBS_MAX = 64 };

struct fetch_file {
    char *path;
    uint64_t size;
};

/* What a thread keeps from slice to slice, for the ops to use as they like; file and memory are let
 * go of when the thread ends. */
struct fetch_hand {
    const struct fetch_file *file;
    int fd;      /* -1: none */
    bool direct; /* it is written past the kernel's cache */
    char *data;  /* NULL, or of malloc(): LEN bytes that go to OFFSET of FILE */
    uint64_t offset;
    size_t len;
};

struct fetch_ops {
    /* Each entry of the table, in its order; *WANTED false: its content is not. NULL: all is. */
    int (*entry)(void *arg, const struct table_entry *entry, bool *wanted, struct err *err);
    /* LEN bytes of FILE from OFFSET on, checked. Slices of zeroes are never given. Called by
     * several threads at once, each with a hand of its own; after the file's entry(). NULL:
     * checking is all. */
    int (*slice)(void *arg, struct fetch_hand *hand, const struct fetch_file *file, uint64_t offset,
                 const void *data, size_t len, struct err *err);
    /* A thread has given all its slices. NULL: nothing is left to do then. */
    int (*done)(void *arg, struct fetch_hand *hand, struct err *err);
};

struct fetch_options {
    int jobs; /* 0: FETCH_JOBS_DEFAULT */
    const char *phase;
    snapshot_progress_fn *progress; /* NULL: nobody looks */
    void *progress_arg;
};

/* ERR_CORRUPT for whatever is damaged, truncated or missing, with the file it belongs to; the
 * store's errors; those of the ops. */
OGEL_MUST_CHECK int fetch_run(struct store *store, const struct manifest *manifest,
                              const struct fetch_options *options, const struct fetch_ops *ops,
                              void *arg, struct err *err);

#endif
