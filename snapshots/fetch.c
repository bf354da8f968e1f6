#include "snapshots/fetch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "snapshots/catalog.h"
#include "snapshots/map.h"
#include "snapshots/packset.h"
#include "snapshots/plan.h"
#include "snapshots/spool.h"

enum {
    WINDOW_SLICES = 256 * 1024, /* planned at a time: 32 GiB of content, 10 MiB of memory */
    GET_TIMEOUT_MS = 300000,    /* a store that is away for a minute is waited for */
};

struct fetch {
    struct store *store;
    const struct manifest *manifest;
    const struct fetch_options *options;
    const struct fetch_ops *ops;
    void *arg;

    /* the window: what is planned and then fetched */
    struct plan_slice *slices;
    size_t slice_count, slice_room;
    struct fetch_file *files;
    size_t file_count, file_room;
    struct pack_set packs;

    /* shared with the threads, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    size_t at; /* of the plan */
    int running;
    bool failed;
    struct err err;
    struct snapshot_progress progress;
    int64_t shown_ms;

    uint64_t files_seen, bytes_seen;
};

/* --- the window ----------------------------------------------------------------------------- */

static void window_empty(struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->file_count; i++)
        free(fetch->files[i].path);
    fetch->slice_count = fetch->file_count = 0;
    pack_set_empty(&fetch->packs);
}

static void window_add_slice(struct fetch *fetch, const struct map *map, uint32_t index,
                             uint64_t size)
{
    const struct slice_ref *ref = &map->slices[index];
    struct plan_slice *slice;

    if (fetch->slice_count == fetch->slice_room) {
        fetch->slice_room = fetch->slice_room == 0 ? 1024 : 2 * fetch->slice_room;
        fetch->slices = xreallocarray(fetch->slices, fetch->slice_room, sizeof(fetch->slices[0]));
    }
    slice = &fetch->slices[fetch->slice_count++];
    *slice = (struct plan_slice){
        .pack = pack_set_number(&fetch->packs, &map->packs[ref->pack]),
        .offset = ref->offset,
        .stored = ref->stored,
        .file = (uint32_t)fetch->file_count,
        .index = index,
        .len = (uint32_t)slice_len(size, index),
        .of_frame = map->tagged,
    };
    memcpy(slice->hash, ref->hash, SLICE_HASH_SIZE);
}

static int window_add(struct fetch *fetch, const struct table_entry *entry, struct err *err)
{
    size_t before = fetch->slice_count;
    uint64_t zero = 0;
    struct map map;

    if (map_load(fetch->store, entry, &map, err) < 0)
        return -1;
    for (uint32_t i = 0; i < map.slice_count; i++) {
        if (map.slices[i].stored > 0)
            window_add_slice(fetch, &map, i, entry->size);
        else
            zero += slice_len(entry->size, i);
    }
    map_free(&map);
    fetch->progress.done_bytes += zero;
    if (fetch->slice_count == before)
        return 0;
    if (fetch->file_count == fetch->file_room) {
        fetch->file_room = fetch->file_room == 0 ? 256 : 2 * fetch->file_room;
        fetch->files = xreallocarray(fetch->files, fetch->file_room, sizeof(fetch->files[0]));
    }
    fetch->files[fetch->file_count++] = (struct fetch_file){xstrdup(entry->path), entry->size};
    return 0;
}

/* --- the threads ---------------------------------------------------------------------------- */

static int take_slice(struct fetch *fetch, struct codec *codec, struct fetch_hand *hand,
                      const struct plan_range *range, const char *bytes, size_t number, char *plain,
                      struct err *err)
{
    const struct plan_slice *slice = &fetch->slices[number];
    const struct fetch_file *file = &fetch->files[slice->file];
    const struct pack_name *name = &fetch->packs.entries[slice->pack].name;
    char key[STORE_KEY_MAX];

    if (codec_decode(codec, bytes + (slice->offset - range->offset), slice->stored, slice->hash,
                     slice->of_frame, plain, slice->len, err) < 0) {
        pack_key(name->snapshot, name->number, key);
        return err_context(err, "file %s: slice %" PRIu32 ", at byte %" PRIu32 " of %s", file->path,
                           slice->index, slice->offset, key);
    }
    if (fetch->ops->slice == NULL)
        return 0;
    return fetch->ops->slice(fetch->arg, hand, file, (uint64_t)slice->index * SLICE_SIZE, plain,
                             slice->len, err);
}

static int take_range(struct fetch *fetch, struct codec *codec, struct fetch_hand *hand,
                      const struct plan_range *range, char *bytes, char *plain, struct err *err)
{
    const struct pack_name *name = &fetch->packs.entries[range->pack].name;
    uint64_t done = 0;
    char key[STORE_KEY_MAX];

    pack_key(name->snapshot, name->number, key);
    if (store_get(fetch->store, key, range->offset, range->len, bytes, GET_TIMEOUT_MS, err) < 0) {
        if (err->code == ERR_NOT_FOUND)
            err->code = ERR_CORRUPT; /* a map names it, so it must be there */
        return err_context(err, "file %s", fetch->files[fetch->slices[range->first].file].path);
    }
    for (size_t i = range->first; i < range->first + range->count; i++) {
        if (take_slice(fetch, codec, hand, range, bytes, i, plain, err) < 0)
            return -1;
        done += fetch->slices[i].len;
    }
    pthread_mutex_lock(&fetch->lock);
    fetch->progress.done_bytes += done;
    fetch->progress.stored_bytes += range->len;
    pthread_mutex_unlock(&fetch->lock);
    return 0;
}

/* With the lock held. The first one counts. */
static void note_failure(struct fetch *fetch, int rc, const struct err *err)
{
    if (rc < 0 && !fetch->failed)
        fetch->err = *err;
    fetch->failed = fetch->failed || rc < 0;
}

static void *fetch_thread(void *arg)
{
    struct fetch *fetch = arg;
    struct codec *codec = codec_new(1);
    char *bytes = xmalloc(PLAN_RANGE_MAX + FRAME_MAX), *plain = xmalloc(SLICE_SIZE);
    struct fetch_hand hand = {.fd = -1};
    struct err err = {0};
    int rc = 0;

    for (;;) {
        struct plan_range range;
        bool more;

        pthread_mutex_lock(&fetch->lock);
        note_failure(fetch, rc, &err);
        more = !fetch->failed && plan_next(fetch->slices, fetch->slice_count, &fetch->at, &range);
        pthread_mutex_unlock(&fetch->lock);
        if (!more)
            break;
        rc = take_range(fetch, codec, &hand, &range, bytes, plain, &err);
    }
    if (rc == 0 && fetch->ops->done != NULL)
        rc = fetch->ops->done(fetch->arg, &hand, &err);
    if (hand.fd >= 0)
        close(hand.fd);
    free(hand.data);
    codec_free(codec);
    free(bytes);
    free(plain);
    pthread_mutex_lock(&fetch->lock);
    note_failure(fetch, rc, &err);
    fetch->running--;
    pthread_cond_signal(&fetch->ended);
    pthread_mutex_unlock(&fetch->lock);
    return NULL;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* With the lock held, or while no thread runs. */
static void show(struct fetch *fetch)
{
    int64_t now_ms = clock_mono_ms();

    if (fetch->options->progress == NULL || now_ms - fetch->shown_ms < SNAPSHOT_PROGRESS_MS)
        return;
    fetch->shown_ms = now_ms;
    fetch->options->progress(&fetch->progress, fetch->options->progress_arg);
}

static void wait_for_threads(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    while (fetch->running > 0) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += SNAPSHOT_PROGRESS_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&fetch->ended, &fetch->lock, &until);
        show(fetch);
    }
    pthread_mutex_unlock(&fetch->lock);
}

static int window_fetch(struct fetch *fetch, struct err *err)
{
    pthread_t threads[FETCH_JOBS_MAX];
    int jobs = fetch->options->jobs > 0 ? fetch->options->jobs : FETCH_JOBS_DEFAULT, started = 0;
    int errnum = 0;

    OGEL_CHECK(jobs <= FETCH_JOBS_MAX);
    plan_sort(fetch->slices, fetch->slice_count);
    fetch->at = 0;
    while (started < jobs && errnum == 0 && fetch->slice_count > 0) {
        pthread_mutex_lock(&fetch->lock);
        fetch->running++;
        pthread_mutex_unlock(&fetch->lock);
        errnum = pthread_create(&threads[started], NULL, fetch_thread, fetch);
        if (errnum == 0)
            started++;
    }
    if (errnum != 0) {
        pthread_mutex_lock(&fetch->lock);
        fetch->running--;
        pthread_mutex_unlock(&fetch->lock);
    }
    wait_for_threads(fetch);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    window_empty(fetch);
    if (started == 0 && errnum != 0)
        return err_set_errno(err, errnum, "cannot start a thread");
    if (fetch->failed && err != NULL)
        *err = fetch->err;
    return fetch->failed ? -1 : 0;
}

static int take_entry(struct fetch *fetch, const struct table_entry *entry, struct err *err)
{
    bool wanted = true;

    if (fetch->ops->entry != NULL && fetch->ops->entry(fetch->arg, entry, &wanted, err) < 0)
        return -1;
    if (entry->type != TABLE_FILE)
        return 0;
    fetch->files_seen++;
    fetch->bytes_seen += entry->size;
    if (!wanted)
        fetch->progress.done_bytes += entry->size;
    else if (window_add(fetch, entry, err) < 0)
        return -1;
    show(fetch);
    return fetch->slice_count >= WINDOW_SLICES ? window_fetch(fetch, err) : 0;
}

static int walk(struct fetch *fetch, struct table_reader *table, struct err *err)
{
    struct table_entry *entry = xmalloc(sizeof(*entry));
    int rc;

    while ((rc = table_next(table, entry, err)) > 0) {
        if (take_entry(fetch, entry, err) < 0) {
            rc = -1;
            break;
        }
    }
    free(entry);
    if (rc == 0)
        rc = window_fetch(fetch, err);
    if (rc == 0 && (fetch->files_seen != fetch->manifest->files ||
                    fetch->bytes_seen != fetch->manifest->logical_bytes))
        rc = err_set(err, ERR_CORRUPT,
                     "the file table has %" PRIu64 " files of %" PRIu64
                     " bytes where the manifest says %" PRIu64 " of %" PRIu64,
                     fetch->files_seen, fetch->bytes_seen, fetch->manifest->files,
                     fetch->manifest->logical_bytes);
    return rc;
}

int fetch_run(struct store *store, const struct manifest *manifest,
              const struct fetch_options *options, const struct fetch_ops *ops, void *arg,
              struct err *err)
{
    struct fetch *fetch = xcalloc(1, sizeof(*fetch));
    struct table_reader *table = NULL;
    int fd = -1, rc;

    fetch->store = store;
    fetch->manifest = manifest;
    fetch->options = options;
    fetch->ops = ops;
    fetch->arg = arg;
    fetch->progress = (struct snapshot_progress){.phase = options->phase,
                                                 .total_bytes = manifest->logical_bytes};
    pthread_mutex_init(&fetch->lock, NULL);
    pthread_cond_init(&fetch->ended, NULL);
    rc = spool_file_table(store, manifest, &fd, err);
    if (rc == 0)
        rc = table_open(fd, manifest->table_bytes, &table, err);
    if (rc == 0)
        rc = walk(fetch, table, err);
    table_close(table);
    if (fd >= 0)
        close(fd);
    window_empty(fetch);
    pthread_mutex_destroy(&fetch->lock);
    pthread_cond_destroy(&fetch->ended);
    free(fetch->slices);
    free(fetch->files);
    pack_set_free(&fetch->packs);
    free(fetch);
    return rc;
}
