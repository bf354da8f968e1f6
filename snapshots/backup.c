#include "snapshots/backup.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "config.h"
#include "snapshots/job.h"
#include "snapshots/packset.h"
#include "snapshots/pages.h"
#include "snapshots/parent.h"
#include "snapshots/pgmanifest.h"
#include "snapshots/pipeline.h"
#include "snapshots/source.h"
#include "snapshots/spool.h"
#include "snapshots/tar.h"
#include "snapshots/uploads.h"
#include "snapshots/walset.h"

enum {
    UPLOAD_THREADS = 3,
    UPLOAD_TIMEOUT_MS = 300000, /* a store that is away for a minute is waited for */
    JOBS_DEFAULT_MAX = 8,
    MANIFEST_MODE = 0600,
    SLICE_PAGES = SLICE_SIZE / PAGE_SIZE_DEFAULT,
};

/* A file or directory on its way: made by the thread that reads, freed by the one that packs. */
struct file_job {
    struct table_entry entry;
    struct map map;
    bool has_old; /* the parent has a file of that name: */
    struct table_entry old;
    struct map old_map;
    _Atomic uint64_t *old_sizes; /* of each pack of old_map, once it has been asked for */
    bool has_pages;
    uint32_t first_page;
};

struct backup {
    struct store *store;
    const struct backup_options *options;
    struct manifest *manifest;
    struct job *job;
    struct parent *parent;
    struct pipeline *pipeline;
    struct uploads *uploads;
    bool can_tag;
    bool server_checks;          /* all pages; else what is stored anew is checked here */
    atomic_bool misfit;          /* a page did not fit its checksum here */
    uint8_t key[SLICE_KEY_SIZE]; /* of tags, where the parent has none */
    int level;

    /* the thread that reads */
    struct tar tar;
    uint32_t tablespace;
    struct file_job *file; /* whose content comes */
    struct piece *piece;   /* being filled */
    uint64_t index;        /* of that slice in its file */
    struct pg_manifest *list;
    uint32_t sum; /* of the file at hand */
    struct wal_set wal;
    struct err *warning;
    struct snapshot_progress progress;
    int64_t shown_ms;

    /* the thread that packs; its counts go into the manifest once it has ended */
    pthread_t packer;
    char *pack;
    uint32_t pack_len, pack_number;
    int table_fd;
    struct table_writer *table;
    uint64_t files, logical, slices, zero, reused, stored;
    struct pack_set old_packs; /* of the parent and its ancestors, that slices are taken from */
    uint64_t *old_sizes;       /* of each; 0: it is gone */
    struct codec *codec;       /* for what is stored although the parent had it */
    struct err old_warning;
};

/* --- packing -------------------------------------------------------------------------------- */

static int close_pack(struct backup *backup, struct err *err)
{
    char key[STORE_KEY_MAX], *pack = backup->pack;
    uint32_t len = backup->pack_len;

    if (pack == NULL)
        return 0;
    pack_key(backup->manifest->id, backup->pack_number++, key);
    backup->pack = NULL;
    backup->pack_len = 0;
    backup->stored += len;
    return uploads_put(backup->uploads, key, pack, len, err);
}

static int store_slice(struct backup *backup, struct file_job *file, const struct piece *piece,
                       struct err *err)
{
    if (backup->pack_len + piece->stored > PACK_TARGET && close_pack(backup, err) < 0)
        return -1;
    if (backup->pack == NULL)
        backup->pack = xmalloc(PACK_TARGET);
    memcpy(backup->pack + backup->pack_len, piece->frame, piece->stored);
    map_add(&file->map, backup->manifest->id, backup->pack_number, backup->pack_len,
            (uint32_t)piece->stored, piece->hash, piece->tag);
    backup->pack_len += (uint32_t)piece->stored;
    return 0;
}

/* The size of a pack that is to be referred to, asked for once: 0 if it is gone. */
static int old_pack_size(struct backup *backup, const struct pack_name *pack, uint64_t *size,
                         struct err *err)
{
    uint32_t before = backup->old_packs.count;
    uint32_t number = pack_set_number(&backup->old_packs, pack);
    char key[STORE_KEY_MAX];

    if (number == before) {
        uint64_t *have;

        backup->old_sizes = xreallocarray(backup->old_sizes, backup->old_packs.room,
                                          sizeof(backup->old_sizes[0]));
        have = &backup->old_sizes[number];
        *have = 0;
        pack_key(pack->snapshot, pack->number, key);
        if (store_head(backup->store, key, have, UPLOAD_TIMEOUT_MS, err) < 0) {
            if (err->code != ERR_NOT_FOUND)
                return -1;
            backup->old_warning = *err;
            err_clear(err);
        }
    }
    *size = backup->old_sizes[number];
    return 0;
}

/* A slice that the parent has at the same place. Where its pack is gone or cut off, it is stored
 * anew: whoever looks after the store must not make every later snapshot worthless. */
static int add_same_slice(struct backup *backup, struct piece *piece, struct err *err)
{
    struct file_job *file = piece->file;
    const struct slice_ref *old = &file->old_map.slices[piece->index];
    const struct pack_name *pack = &file->old_map.packs[old->pack];
    uint64_t size;

    if (old_pack_size(backup, pack, &size, err) < 0)
        return -1;
    atomic_store(&file->old_sizes[old->pack], size);
    if ((uint64_t)old->offset + old->stored <= size) {
        backup->reused++;
        map_add(&file->map, pack->snapshot, pack->number, old->offset, old->stored, old->hash,
                piece->tag);
        return 0;
    }
    if (backup->old_warning.code == ERR_NONE)
        err_set(&backup->old_warning, ERR_CORRUPT, "pack %08" PRIu32 " of snapshot %s is cut off",
                pack->number, pack->snapshot);
    if (backup->codec == NULL)
        backup->codec = codec_new(backup->level);
    piece_encode(piece, backup->codec);
    return store_slice(backup, file, piece, err);
}

/* What the parent has was checked when it was taken, unless it had been written since that began,
 * or the file did not end with a page: the server then leaves out what it read together with its
 * end. The server would read a page that does not fit once more, which it may have read half; here
 * the whole is taken once more, with the server's check. */
static int check_pages(struct backup *backup, const struct piece *piece, struct err *err)
{
    const struct file_job *file = piece->file;
    bool was_checked = piece->same && file->old.size % PAGE_SIZE_DEFAULT == 0;
    uint64_t since = was_checked ? parent_start_lsn(backup->parent) : 0;
    uint32_t bad;

    if (backup->server_checks || !file->has_pages || piece->zero ||
        pages_fit(piece->plain, piece->len, file->first_page + (uint32_t)piece->index * SLICE_PAGES,
                  since, backup->manifest->start_lsn, &bad))
        return 0;
    atomic_store(&backup->misfit, true);
    return err_set(err, ERR_CORRUPT, "page %" PRIu32 " of file %s does not fit its checksum", bad,
                   file->entry.path);
}

/* Slices of the parent that the thread that reads has recognised, in packs that are there. */
static void add_same_before(struct backup *backup, const struct piece *piece)
{
    struct file_job *file = piece->file;

    for (uint64_t i = piece->index - piece->same_before; i < piece->index; i++) {
        const struct slice_ref *old = &file->old_map.slices[i];
        const struct pack_name *pack = &file->old_map.packs[old->pack];

        map_add(&file->map, pack->snapshot, pack->number, old->offset, old->stored, old->hash,
                old->tag);
        backup->logical += slice_len(file->entry.size, i);
    }
    backup->slices += piece->same_before;
    backup->reused += piece->same_before;
}

static int add_slice(struct backup *backup, struct piece *piece, struct err *err)
{
    struct file_job *file = piece->file;

    backup->slices++;
    backup->logical += piece->len;
    if (!piece->looked_at && check_pages(backup, piece, err) < 0)
        return -1;
    if (piece->same)
        return add_same_slice(backup, piece, err);
    if (!piece->zero)
        return store_slice(backup, file, piece, err);
    backup->zero++;
    map_add(&file->map, NULL, 0, 0, 0, NULL, NULL);
    return 0;
}

/* The map into an object of its own, unless the parent has the same. DATA is taken over. */
static int store_map(struct backup *backup, struct file_job *file, char *data, size_t len,
                     struct err *err)
{
    struct table_entry *entry = &file->entry;
    char key[STORE_KEY_MAX];

    map_digest(data, len, entry->map_digest);
    if (file->has_old && file->old.map_owner[0] != '\0' &&
        memcmp(file->old.map_digest, entry->map_digest, MAP_DIGEST_SIZE) == 0) {
        memcpy(entry->map_owner, file->old.map_owner, SNAPSHOT_ID_SIZE);
        free(data);
        return 0;
    }
    memcpy(entry->map_owner, backup->manifest->id, SNAPSHOT_ID_SIZE);
    backup->stored += len;
    map_key(entry->map_owner, entry->map_digest, key);
    return uploads_put(backup->uploads, key, data, len, err);
}

static int end_file(struct backup *backup, struct file_job *file, struct err *err)
{
    struct table_entry *entry = &file->entry;
    char *data = NULL;
    size_t len;
    int rc;

    if (entry->type == TABLE_FILE) {
        backup->files++;
        OGEL_CHECK(file->map.slice_count == slice_count(entry->size));
        data = map_encode(&file->map, &len);
        entry->map_len = (uint32_t)len;
        if (file->map.slice_count > TABLE_INLINE_SLICES) {
            if (store_map(backup, file, data, len, err) < 0)
                return -1;
            data = NULL;
        }
        entry->map = data;
    }
    rc = table_write(backup->table, entry, err);
    free(data);
    return rc;
}

static void file_free(void *arg)
{
    struct file_job *file = arg;

    if (file == NULL)
        return;
    map_free(&file->map);
    map_free(&file->old_map);
    free(file->old_sizes);
    free(file);
}

static void *pack_run(void *arg)
{
    struct backup *backup = arg;
    struct err err = {0};
    struct piece *piece;
    int rc = 0;

    while (rc == 0 && (piece = pipeline_next(backup->pipeline)) != NULL) {
        add_same_before(backup, piece);
        rc = piece->ends_file ? end_file(backup, piece->file, &err)
                              : add_slice(backup, piece, &err);
        if (piece->ends_file) {
            file_free(piece->file);
            piece->file = NULL;
        }
        pipeline_release(backup->pipeline, piece);
    }
    if (rc == 0 && !pipeline_failed(backup->pipeline, NULL))
        rc = close_pack(backup, &err);
    if (rc < 0)
        pipeline_fail(backup->pipeline, &err);
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------- */

static void show(struct backup *backup, const char *phase)
{
    int64_t now_ms = clock_mono_ms();

    if (backup->options->progress == NULL ||
        (phase == backup->progress.phase && now_ms - backup->shown_ms < SNAPSHOT_PROGRESS_MS))
        return;
    backup->shown_ms = now_ms;
    backup->progress.phase = phase;
    if (backup->uploads != NULL)
        backup->progress.stored_bytes = uploads_bytes(backup->uploads);
    backup->options->progress(&backup->progress, backup->options->progress_arg);
}

static int take_piece(struct backup *backup, struct err *err)
{
    backup->piece = pipeline_take(backup->pipeline);
    if (backup->piece == NULL) {
        pipeline_failed(backup->pipeline, err);
        return -1;
    }
    backup->piece->file = backup->file;
    return 0;
}

/* Whether the parent has that slice in a pack that is known to be there: if PIECE is the same,
 * nothing of it is needed any more. */
static bool can_look(const struct piece *piece)
{
    const struct file_job *file = piece->file;
    const struct slice_ref *old;

    if (piece->key == NULL || !piece->has_old)
        return false;
    old = &file->old_map.slices[piece->index];
    return (uint64_t)old->offset + old->stored <= atomic_load(&file->old_sizes[old->pack]);
}

/* Full, or the last of its file. */
static int end_slice(struct backup *backup, struct err *err)
{
    struct piece *piece = backup->piece;
    const struct map *old = &backup->file->old_map;

    piece->index = backup->index++;
    piece->key = backup->file->map.tagged ? backup->file->map.key : NULL;
    piece->has_old = old->tagged == backup->file->map.tagged && piece->index < old->slice_count &&
                     old->slices[piece->index].stored > 0;
    if (piece->has_old) {
        memcpy(piece->old_hash, old->slices[piece->index].hash, SLICE_HASH_SIZE);
        memcpy(piece->old_tag, old->slices[piece->index].tag, SLICE_TAG_SIZE);
    }
    if (can_look(piece)) {
        bool same = pipeline_is_same(backup->pipeline, piece);

        if (check_pages(backup, piece, err) < 0)
            return -1;
        if (same) {
            piece->same_before++;
            piece->len = 0;
            return 0;
        }
    }
    backup->piece = NULL;
    pipeline_give(backup->pipeline, piece);
    return 0;
}

static int add_content(struct backup *backup, const char *data, size_t len, struct err *err)
{
    while (len > 0) {
        size_t part;

        if (backup->piece == NULL && take_piece(backup, err) < 0)
            return -1;
        part = SLICE_SIZE - backup->piece->len < len ? SLICE_SIZE - backup->piece->len : len;
        memcpy(backup->piece->plain + backup->piece->len, data, part);
        backup->piece->len += part;
        data += part;
        len -= part;
        if (backup->piece->len == SLICE_SIZE && end_slice(backup, err) < 0)
            return -1;
    }
    return 0;
}

/* Its last slice, and that it is whole. The file belongs to the packing thread from then on. */
static int end_content(struct backup *backup, struct err *err)
{
    struct piece *piece;

    if (backup->piece != NULL && backup->piece->len > 0 && end_slice(backup, err) < 0)
        return -1;
    if (backup->piece == NULL && take_piece(backup, err) < 0)
        return -1;
    piece = backup->piece;
    piece->index = backup->index;
    piece->ends_file = true;
    backup->piece = NULL;
    backup->file = NULL;
    pipeline_give(backup->pipeline, piece);
    return 0;
}

/* Where the map is an object, as for all that is big, slices get tags; with the parent's key, so
 * that they can be compared, and so that the map of an unchanged file stays what it was. What the
 * parent has without tags stays so: its hashes are others. */
static void choose_key(const struct backup *backup, struct file_job *file)
{
    const struct map *old = &file->old_map;

    file->map.tagged = backup->can_tag && slice_count(file->entry.size) > TABLE_INLINE_SLICES &&
                       (old->tagged || !file->has_old ||
                        slice_count(file->old.size) <= TABLE_INLINE_SLICES);
    if (file->map.tagged)
        memcpy(file->map.key, old->tagged ? old->key : backup->key, SLICE_KEY_SIZE);
}

/* The parent's file of that name. What is damaged there is told once, and stored anew. */
static void find_old(struct backup *backup, struct file_job *file)
{
    struct err err = {0};
    int rc;

    if (backup->parent == NULL)
        return;
    rc = parent_find(backup->parent, file->entry.path, &file->old, &file->old_map, &err);
    file->has_old = rc > 0;
    file->old_sizes = xcalloc((size_t)file->old_map.pack_count + 1, sizeof(file->old_sizes[0]));
    if (rc < 0 && backup->warning->code == ERR_NONE)
        *backup->warning = err;
}

static int begin_entry(struct backup *backup, enum table_type type, const char *path, uint32_t mode,
                       uint64_t size, struct err *err)
{
    struct file_job *file = xcalloc(1, sizeof(*file));

    backup->file = file;
    backup->index = 0;
    backup->sum = (uint32_t)FILE_SUM_INIT;
    file->entry.type = type;
    file->entry.mode = mode;
    file->entry.size = size;
    snprintf(file->entry.path, sizeof(file->entry.path), "%s", path);
    if (type == TABLE_DIRECTORY)
        return end_content(backup, err);
    if (slice_count(size) > MAP_SLICES_MAX)
        return err_set(err, ERR_INVALID, "file %s is too big", path);
    file->has_pages = pages_in(path, &file->first_page);
    wal_set_note(&backup->wal, path, size);
    find_old(backup, file);
    choose_key(backup, file);
    return 0;
}

static int on_entry(void *arg, const struct tar_entry *entry, struct err *err)
{
    struct backup *backup = arg;
    char path[TABLE_PATH_MAX + 1];

    /* Links to tablespaces: the manifest has them. */
    if (entry->type == TAR_LINK)
        return 0;
    if (backup->tablespace != 0)
        snprintf(path, sizeof(path), "pg_tblspc/%" PRIu32 "/%s", backup->tablespace, entry->name);
    else
        snprintf(path, sizeof(path), "%s", entry->name);
    return begin_entry(backup, entry->type == TAR_DIRECTORY ? TABLE_DIRECTORY : TABLE_FILE, path,
                       entry->mode, entry->size, err);
}

static int on_data(void *arg, const char *data, size_t len, struct err *err)
{
    struct backup *backup = arg;

    backup->sum = file_sum(backup->sum, data, len);
    return add_content(backup, data, len, err);
}

static int on_end(void *arg, struct err *err)
{
    struct backup *backup = arg;
    const struct table_entry *entry = &backup->file->entry;

    pg_manifest_note(backup->list, entry->path, entry->size, backup->sum);
    return end_content(backup, err);
}

static int on_archive(void *arg, uint32_t tablespace, struct err *err)
{
    struct backup *backup = arg;

    if (tar_end(&backup->tar, err) < 0)
        return -1;
    memset(&backup->tar, 0, sizeof(backup->tar));
    backup->tablespace = tablespace;
    return 0;
}

static int on_content(void *arg, const char *data, size_t len, struct err *err)
{
    static const struct tar_handler handler = {on_entry, on_data, on_end};
    struct backup *backup = arg;

    backup->progress.done_bytes += len;
    show(backup, "copying");
    if (job_check_quick(backup->job, err) < 0)
        return -1;
    return tar_feed(&backup->tar, data, len, &handler, backup, err);
}

static int put_manifest(void *arg, const char *data, size_t len, struct err *err)
{
    struct backup *backup = arg;

    backup->file->entry.size += len;
    return add_content(backup, data, len, err);
}

/* The server's own list of files, which pg_verifybackup reads, with what they were summed up to. */
static int on_manifest(void *arg, const char *data, size_t len, struct err *err)
{
    struct backup *backup = arg;

    if (backup->file == NULL) {
        if (tar_end(&backup->tar, err) < 0 ||
            begin_entry(backup, TABLE_FILE, "backup_manifest", MANIFEST_MODE, 0, err) < 0)
            return -1;
    }
    return pg_manifest_feed(backup->list, data, len, put_manifest, backup, err);
}

static bool on_meanwhile(void *arg)
{
    struct backup *backup = arg;

    return pipeline_help(backup->pipeline);
}

/* --- the whole ------------------------------------------------------------------------------ */

/* From here on the threads run. */
static int start_threads(struct backup *backup, struct err *err)
{
    const struct backup_options *options = backup->options;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int jobs = options->jobs > 0               ? options->jobs
               : processors < 1                ? 1
               : processors > JOBS_DEFAULT_MAX ? JOBS_DEFAULT_MAX
                                               : (int)processors;
    int errnum;

    if ((backup->table_fd = spool_open(err)) < 0)
        return -1;
    backup->table = table_writer_new(backup->table_fd);
    backup->list = pg_manifest_new();
    if (uploads_new(backup->store, UPLOAD_THREADS, UPLOAD_TIMEOUT_MS, &backup->uploads, err) < 0 ||
        pipeline_new(jobs, backup->level, &backup->pipeline, err) < 0)
        return -1;
    backup->can_tag = pipeline_can_tag(backup->pipeline);
    errnum = pthread_create(&backup->packer, NULL, pack_run, backup);
    if (errnum != 0) {
        pipeline_free(backup->pipeline, NULL);
        backup->pipeline = NULL;
        return err_set_errno(err, errnum, "cannot start a thread");
    }
    return 0;
}

/* Everything the server sends, through the pipeline, to its end. */
static int copy(struct backup *backup, struct source *source, struct err *err)
{
    static const struct source_handler handler = {on_archive, on_content, on_manifest,
                                                  on_meanwhile};
    struct err failure = {.code = ERR_INTERNAL, .text = "the base backup failed"};
    int rc;

    if (start_threads(backup, err) < 0)
        return -1;
    rc = source_run(source, &handler, backup, backup->manifest, err);
    if (rc == 0)
        rc = tar_end(&backup->tar, err);
    if (rc == 0)
        rc = pg_manifest_end(backup->list, err);
    if (rc == 0)
        rc = end_content(backup, err);
    if (rc == 0)
        pipeline_finish(backup->pipeline);
    else
        pipeline_fail(backup->pipeline, &failure);
    pthread_join(backup->packer, NULL);
    if (backup->warning->code == ERR_NONE)
        *backup->warning = backup->old_warning;
    if (rc == 0 && pipeline_failed(backup->pipeline, err))
        rc = -1;
    if (rc == 0)
        rc = uploads_wait(backup->uploads, err);
    return rc;
}

static int publish_manifest(struct backup *backup, struct err *err)
{
    struct manifest *manifest = backup->manifest;
    char key[STORE_KEY_MAX], *seen = NULL;
    size_t len, seen_len;
    char *data = manifest_encode(manifest, &len);
    const struct store_body body = {.data = data, .size = len};
    int rc;

    manifest_key(manifest->id, key);
    rc = store_has_put_new(backup->store)
             ? store_put_new(backup->store, key, &body, UPLOAD_TIMEOUT_MS, err)
             : store_put(backup->store, key, &body, UPLOAD_TIMEOUT_MS, err);
    if (rc == 0)
        rc = store_get_all(backup->store, key, MANIFEST_BYTES_MAX, &seen, &seen_len,
                           STORE_CALL_TIMEOUT_MS, err);
    if (rc == 0 && (seen_len != len || memcmp(seen, data, len) != 0))
        rc = err_set(err, ERR_CORRUPT, "store %s: %s: reads otherwise than it was written",
                     store_name(backup->store), key);
    free(seen);
    free(data);
    return rc;
}

/* Where a collector has taken this job for dead meanwhile (it was frozen, or cut off from the
 * store) what the manifest leads to may be gone: it must go too. Either the collector, which takes
 * away the job's word before it looks for the manifest, sees the manifest, or this sees the word
 * gone. */
static int check_published(struct backup *backup, struct err *err)
{
    char key[STORE_KEY_MAX];
    struct err why = {0};

    if (job_check(backup->job, err) == 0)
        return 0;
    manifest_key(backup->manifest->id, key);
    if (store_delete(backup->store, key, UPLOAD_TIMEOUT_MS, &why) < 0)
        err_context(err, "snapshot %s is listed and may lack pieces; delete it (%.200s)",
                    backup->manifest->id, why.text);
    return -1;
}

/* Packs and maps are there: the file table, the WAL, and only then what makes it a snapshot. */
static int publish(struct backup *backup, struct err *err)
{
    struct manifest *manifest = backup->manifest;
    struct store_body body = {.fd = backup->table_fd};
    char key[STORE_KEY_MAX];
    int seen;

    show(backup, "publishing");
    if (table_finish(backup->table, &manifest->table_bytes, manifest->table_digest, err) < 0)
        return -1;
    body.size = manifest->table_bytes;
    file_table_key(manifest->id, key);
    if (store_put(backup->store, key, &body, UPLOAD_TIMEOUT_MS, err) < 0 ||
        spool_file_table(backup->store, manifest, &seen, err) < 0)
        return -1;
    close(seen);
    if (wal_set_check(&backup->wal, manifest->stop_lsn, err) < 0)
        return -1;
    manifest->files = backup->files;
    manifest->logical_bytes = backup->logical;
    manifest->slices = backup->slices;
    manifest->zero_slices = backup->zero;
    manifest->reused_slices = backup->reused;
    manifest->stored_bytes = backup->stored + manifest->table_bytes;
    manifest->packs = backup->pack_number;
    manifest->stopped_ms = clock_wall_ms();
    if (job_check(backup->job, err) < 0 || publish_manifest(backup, err) < 0)
        return -1;
    return check_published(backup, err);
}

static int run(struct backup *backup, struct source *source, struct err *err)
{
    struct manifest *manifest = backup->manifest;
    char label[64];

    show(backup, "looking for the parent");
    if (job_begin(backup->store, "create", manifest->id, NULL, backup->options->renew_ms,
                  &backup->job, err) < 0 ||
        parent_choose(backup->store, backup->options->parent, manifest, &backup->parent,
                      backup->warning, err) < 0)
        return -1;
    show(backup, "waiting for the server's checkpoint");
    snprintf(label, sizeof(label), "ogel %s", manifest->id);
    if (backup->parent == NULL || !source_has_checksums(source))
        backup->server_checks = true;
    if (source_start(source, label, backup->server_checks, manifest, &backup->progress.total_bytes,
                     err) < 0)
        return -1;
    wal_set_begin(&backup->wal, source_wal_segment_size(source), manifest->start_lsn);
    if (copy(backup, source, err) < 0)
        return -1;
    return publish(backup, err);
}

static void backup_free(struct backup *backup)
{
    pipeline_free(backup->pipeline, file_free);
    uploads_free(backup->uploads);
    file_free(backup->file);
    table_writer_free(backup->table);
    if (backup->table_fd >= 0)
        close(backup->table_fd);
    parent_close(backup->parent);
    job_end(backup->job);
    codec_free(backup->codec);
    pack_set_free(&backup->old_packs);
    free(backup->old_sizes);
    free(backup->pack);
    wal_set_free(&backup->wal);
    pg_manifest_free(backup->list);
}

static int attempt(struct store *store, const struct backup_options *options, bool server_checks,
                   bool *misfit, struct manifest *manifest, struct err *warning, struct err *err)
{
    const struct source_options source_options = {
        .conninfo = options->conninfo,
        .max_rate_kb = options->max_rate_kb,
        .spread_checkpoint = options->spread_checkpoint,
    };
    struct backup backup = {.store = store,
                            .options = options,
                            .manifest = manifest,
                            .warning = warning,
                            .server_checks = server_checks,
                            .level = options->level > 0 ? options->level : BACKUP_LEVEL,
                            .table_fd = -1};
    struct source *source = NULL;
    int rc;

    *manifest = (struct manifest){.started_ms = clock_wall_ms()};
    err_clear(warning);
    snapshot_id_make(manifest->started_ms, manifest->id);
    rand_bytes(backup.key, sizeof(backup.key));
    snprintf(manifest->tool, sizeof(manifest->tool), "%s", PACKAGE_VERSION);
    show(&backup, "connecting");
    rc = source_open(&source_options, &source, manifest, err);
    if (rc == 0)
        rc = run(&backup, source, err);
    source_close(source);
    backup_free(&backup);
    if (rc < 0)
        manifest_free(manifest);
    *misfit = backup.misfit;
    return rc;
}

int backup_run(struct store *store, const struct backup_options *options, struct manifest *manifest,
               struct err *warning, struct err *err)
{
    struct err why = {0};
    bool misfit = false;
    int rc = attempt(store, options, false, &misfit, manifest, warning, &why);

    if (rc < 0 && misfit) {
        struct err first = why;

        log_err(LOG_LEVEL_WARNING, "snapshot_taken_anew", &first);
        err_clear(&why);
        rc = attempt(store, options, true, &misfit, manifest, warning, &why);
        if (rc < 0)
            err_context(&why, "once more, as %s", first.text);
    }
    if (rc < 0 && err != NULL)
        *err = why;
    return rc;
}
