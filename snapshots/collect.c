#include "snapshots/collect.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/units.h"
#include "snapshots/catalog.h"
#include "snapshots/collect_notes.h"
#include "snapshots/job.h"
#include "snapshots/keyset.h"
#include "snapshots/reach.h"

enum { DIGEST_BYTES = 16, REASON_SIZE = 160, OBSERVER_SIZE = 64, BOOT_ID_MAX = 64 };

#define NOTES_OF_OTHERS_MS                                                                         \
    (7 * INT64_C(86400000)) /* unchanged for so long: their machine is gone */
#define UNFINISHED "incoming/"

const char *const collect_verdict_names[] = {"kept", "waits", "deleted"};

/* An object that somebody must lead to, or half of one. */
struct thing {
    char *key;
    char owner[SNAPSHOT_ID_SIZE]; /* "": it was never finished */
    uint64_t size;
    enum collect_verdict verdict;
};

struct job_seen {
    char id[SNAPSHOT_ID_SIZE];
    char digest[2 * DIGEST_BYTES + 1]; /* of its word; "": there is none, only a pin */
    int64_t renew_ms;
    bool dead;
};

struct group {
    char *what, *reason;
    enum collect_verdict verdict;
    uint64_t count, bytes;
};

struct run {
    struct store *store;
    const struct collect_options *options;
    struct collect_result *result;
    char observer[OBSERVER_SIZE];
    int64_t now_ms, grace_ms;
    struct collect_notes before, after;

    struct thing *things;
    size_t thing_count, thing_room;
    struct job_seen *jobs;
    size_t job_count, job_room;
    struct keyset pins;   /* whole names */
    struct keyset others; /* notes of other observers */

    struct catalog catalog;
    struct keyset kept;    /* ids all of whose objects stay; the value is of enum kept_why */
    struct keyset reached; /* objects; the value is an index into snapshots */
    struct keyset snapshots;

    struct keyset group_keys; /* indexes into groups */
    struct group *groups;
    size_t group_room;
};

enum kept_why { BY_SNAPSHOT, BY_PIN, BY_JOB };

static const char *const kept_reasons[] = {"its snapshot exists", "a pin needs it",
                                           "the job that writes it runs"};

/* --- telling -------------------------------------------------------------------------------- */

static void count(struct run *run, const char *what, uint64_t bytes, enum collect_verdict verdict,
                  const char *reason)
{
    char *key = xasprintf("%s|%d|%s", what, verdict, reason);
    size_t before = run->group_keys.count;
    struct group *group;
    bool added;
    int64_t number = keyset_add(&run->group_keys, key, (int64_t)before, &added)->value;

    free(key);
    if (added) {
        if (before == run->group_room) {
            run->group_room = before == 0 ? 64 : 2 * before;
            run->groups = xreallocarray(run->groups, run->group_room, sizeof(run->groups[0]));
        }
        run->groups[before] = (struct group){xstrdup(what), xstrdup(reason), verdict, 0, 0};
    }
    group = &run->groups[number];
    group->count++;
    group->bytes += bytes;
    run->result->objects[verdict]++;
    run->result->bytes[verdict] += bytes;
}

static void tell_all(struct run *run)
{
    for (size_t i = 0; i < run->group_keys.count; i++) {
        const struct group *group = &run->groups[i];
        const struct collect_item item = {group->what, group->count, group->bytes, group->verdict,
                                          group->reason};

        if (run->options->tell != NULL)
            run->options->tell(&item, run->options->tell_arg);
    }
}

/* --- what there is -------------------------------------------------------------------------- */

static struct thing *add_thing(struct run *run, char *key, uint64_t size)
{
    struct thing *thing;

    if (run->thing_count == run->thing_room) {
        run->thing_room = run->thing_room == 0 ? 256 : 2 * run->thing_room;
        run->things = xreallocarray(run->things, run->thing_room, sizeof(run->things[0]));
    }
    thing = &run->things[run->thing_count++];
    *thing = (struct thing){.key = key, .size = size};
    return thing;
}

/* Names of another form are nobody's that is known here: they are never touched. */
static int note_thing(const char *key, uint64_t size, void *arg, struct err *err)
{
    char owner[SNAPSHOT_ID_SIZE];
    const char *rest;

    (void)err;
    if ((key_split(key, DATA_PREFIX, owner, &rest) && rest[0] != '\0') ||
        ((key_split(key, VERIFIED_PREFIX, owner, &rest) ||
          key_split(key, DRILLED_PREFIX, owner, &rest)) &&
         rest[0] == '\0'))
        memcpy(add_thing(arg, xstrdup(key), size)->owner, owner, SNAPSHOT_ID_SIZE);
    return 0;
}

static int note_unfinished(const char *name, uint64_t size, void *arg, struct err *err)
{
    (void)err;
    add_thing(arg, xasprintf(UNFINISHED "%s", name), size);
    return 0;
}

static struct job_seen *find_job(const struct run *run, const char *id)
{
    for (size_t i = 0; i < run->job_count; i++) {
        if (strcmp(run->jobs[i].id, id) == 0)
            return &run->jobs[i];
    }
    return NULL;
}

static void add_job(struct run *run, const char *id)
{
    if (find_job(run, id) != NULL)
        return;
    if (run->job_count == run->job_room) {
        run->job_room = run->job_room == 0 ? 16 : 2 * run->job_room;
        run->jobs = xreallocarray(run->jobs, run->job_room, sizeof(run->jobs[0]));
    }
    run->jobs[run->job_count] = (struct job_seen){.renew_ms = JOB_RENEW_MS};
    memcpy(run->jobs[run->job_count++].id, id, SNAPSHOT_ID_SIZE);
}

static int note_job(const char *key, uint64_t size, void *arg, struct err *err)
{
    char id[SNAPSHOT_ID_SIZE];
    const char *rest;

    (void)size;
    (void)err;
    if (key_split(key, JOB_PREFIX, id, &rest) && rest[0] == '\0')
        add_job(arg, id);
    return 0;
}

static int note_pin(const char *key, uint64_t size, void *arg, struct err *err)
{
    struct run *run = arg;
    char id[SNAPSHOT_ID_SIZE];
    const char *name;

    (void)size;
    (void)err;
    if (!key_split(key, PIN_PREFIX, id, &name) || name[0] == '\0')
        return 0;
    keyset_add(&run->pins, key, 0, NULL);
    if (snapshot_id_valid(name))
        add_job(run, name);
    return 0;
}

static int note_other(const char *key, uint64_t size, void *arg, struct err *err)
{
    struct run *run = arg;

    (void)size;
    (void)err;
    if (strcmp(key + strlen(COLLECT_PREFIX), run->observer) != 0)
        keyset_add(&run->others, key, 0, NULL);
    return 0;
}

/* *DIGEST "": it is not there. */
static int digest_object(struct run *run, const char *key, size_t max, char *digest,
                         int64_t *renew_ms, struct err *err)
{
    uint8_t whole[MAP_DIGEST_SIZE];
    struct err own = {0};
    char *data;
    size_t len;

    digest[0] = '\0';
    if (store_get_all(run->store, key, max, &data, &len, STORE_CALL_TIMEOUT_MS, &own) < 0) {
        if (own.code == ERR_NOT_FOUND)
            return 0;
        if (err != NULL)
            *err = own;
        return -1;
    }
    map_digest(data, len, whole);
    rand_hex_format(whole, DIGEST_BYTES, digest);
    if (renew_ms != NULL)
        *renew_ms = job_renew_ms(data, len);
    free(data);
    return 0;
}

/* Objects before jobs and pins, and these before manifests: whose objects were seen has a job that
 * is seen, or a manifest that will be. */
static int look(struct run *run, struct err *err)
{
    const int64_t timeout_ms = 5 * STORE_CALL_TIMEOUT_MS;
    char key[STORE_KEY_MAX];

    if (store_list_unfinished(run->store, note_unfinished, run, timeout_ms, err) < 0 ||
        store_list(run->store, DATA_PREFIX, note_thing, run, timeout_ms, err) < 0 ||
        store_list(run->store, VERIFIED_PREFIX, note_thing, run, timeout_ms, err) < 0 ||
        store_list(run->store, DRILLED_PREFIX, note_thing, run, timeout_ms, err) < 0 ||
        store_list(run->store, COLLECT_PREFIX, note_other, run, timeout_ms, err) < 0 ||
        store_list(run->store, JOB_PREFIX, note_job, run, timeout_ms, err) < 0 ||
        store_list(run->store, PIN_PREFIX, note_pin, run, timeout_ms, err) < 0)
        return -1;
    for (size_t i = 0; i < run->job_count; i++) {
        job_key(run->jobs[i].id, key);
        if (digest_object(run, key, JOB_BYTES_MAX, run->jobs[i].digest, &run->jobs[i].renew_ms,
                          err) < 0)
            return -1;
    }
    return 0;
}

/* --- time ----------------------------------------------------------------------------------- */

/* For how long KEY has been seen like this, which is noted anew. */
static int64_t seen_for(struct run *run, const char *key)
{
    const struct keyset_entry *old = keyset_find(&run->before.since, key);
    int64_t since_ms = old != NULL && old->value <= run->now_ms ? old->value : run->now_ms;

    keyset_add(&run->after.since, key, since_ms, NULL);
    return run->now_ms - since_ms;
}

static int64_t at_least(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* --- jobs ----------------------------------------------------------------------------------- */

/* The word first, then its pins: from the moment when the word is gone the job publishes nothing.
 */
static int bury(struct run *run, const struct job_seen *job, struct err *err)
{
    char key[STORE_KEY_MAX], id[SNAPSHOT_ID_SIZE];
    const char *name;

    job_key(job->id, key);
    if (store_delete(run->store, key, STORE_CALL_TIMEOUT_MS, err) < 0)
        return -1;
    for (size_t i = 0; i < run->pins.count; i++) {
        if (key_split(run->pins.entries[i].key, PIN_PREFIX, id, &name) &&
            strcmp(name, job->id) == 0 &&
            store_delete(run->store, run->pins.entries[i].key, STORE_CALL_TIMEOUT_MS, err) < 0)
            return -1;
    }
    return 0;
}

static int judge_job(struct run *run, struct job_seen *job, struct err *err)
{
    int64_t limit_ms = at_least(run->grace_ms, JOB_DEAD_FACTOR * job->renew_ms), seen_ms;
    char key[STORE_KEY_MAX], *noted, reason[REASON_SIZE];
    char seen[UNITS_TEXT_SIZE], limit[UNITS_TEXT_SIZE];

    job_key(job->id, key);
    noted = xasprintf("%s#%s", key, job->digest[0] != '\0' ? job->digest : "none");
    seen_ms = seen_for(run, noted);
    free(noted);
    job->dead = seen_ms >= limit_ms;
    snprintf(reason, sizeof(reason), "%s: it has said nothing for %s, and %s are allowed",
             job->dead ? "the job is dead" : "the job runs", units_format_duration(seen_ms, seen),
             units_format_duration(limit_ms, limit));
    count(run, key, 0, job->dead ? COLLECT_DELETED : COLLECT_KEPT, reason);
    if (job->dead)
        run->result->dead_jobs++;
    else
        run->result->live_jobs++;
    return job->dead && !run->options->dry_run ? bury(run, job, err) : 0;
}

static int judge_jobs(struct run *run, struct err *err)
{
    for (size_t i = 0; i < run->job_count; i++) {
        if (judge_job(run, &run->jobs[i], err) < 0)
            return -1;
    }
    return 0;
}

/* --- what leads to what --------------------------------------------------------------------- */

static int follow(struct run *run, const char *id, const struct manifest *manifest, struct err *err)
{
    size_t number = run->snapshots.count;

    keyset_add(&run->snapshots, id, 0, NULL);
    return reach_snapshot(run->store, id, manifest, (int64_t)number, &run->reached, err);
}

/* KEY led to a snapshot that cannot be followed, as something of it is missing. Where KEY was
 * deleted since it was listed, and another collector has begun to take the rest away, that is no
 * damage. */
static int forgive_deleted(struct run *run, const char *key, const struct err *why, struct err *err)
{
    struct err own = {0};
    uint64_t size;

    if ((why->code == ERR_CORRUPT || why->code == ERR_NOT_FOUND) &&
        store_head(run->store, key, &size, STORE_CALL_TIMEOUT_MS, &own) < 0 &&
        own.code == ERR_NOT_FOUND)
        return 0;
    if (err != NULL)
        *err = *why;
    return -1;
}

static int follow_catalog(struct run *run, struct err *err)
{
    if (catalog_load(run->store, &run->catalog, err) < 0)
        return -1;
    run->result->snapshots = run->catalog.count;
    for (size_t i = 0; i < run->catalog.count; i++) {
        const struct catalog_entry *entry = &run->catalog.entries[i];
        char key[STORE_KEY_MAX];
        struct err own = {0};

        if (entry->damage.code != ERR_NONE) {
            if (err != NULL)
                *err = entry->damage;
            return -1;
        }
        manifest_key(entry->id, key);
        if (follow(run, entry->id, &entry->manifest, &own) == 0)
            keyset_add(&run->kept, entry->id, BY_SNAPSHOT, NULL);
        else if (forgive_deleted(run, key, &own, err) < 0)
            return -1;
    }
    return 0;
}

/* A snapshot whose manifest went while somebody had it pinned is followed without. */
static int follow_pins(struct run *run, struct err *err)
{
    for (size_t i = 0; i < run->pins.count; i++) {
        const char *key = run->pins.entries[i].key, *name;
        char id[SNAPSHOT_ID_SIZE];
        const struct job_seen *job;
        struct err own = {0};

        OGEL_CHECK(key_split(key, PIN_PREFIX, id, &name));
        job = find_job(run, name);
        if ((job != NULL && job->dead) || keyset_find(&run->kept, id) != NULL)
            continue;
        if (follow(run, id, NULL, &own) == 0)
            keyset_add(&run->kept, id, BY_PIN, NULL);
        else if (forgive_deleted(run, key, &own, err) < 0)
            return -1;
    }
    return 0;
}

/* What a listing lacks is not proven to be missing: each owner without manifest or job is asked for
 * by its name before anything of it goes. */
static int ask_for_owner(struct run *run, const char *id, struct err *err)
{
    const struct job_seen *job = find_job(run, id);
    struct err own = {0};
    struct manifest manifest;
    char key[STORE_KEY_MAX];
    uint64_t size;
    int rc = 0;

    manifest_key(id, key);
    if (store_head(run->store, key, &size, STORE_CALL_TIMEOUT_MS, &own) == 0) {
        keyset_add(&run->kept, id, BY_SNAPSHOT, NULL);
        if (manifest_load(run->store, id, &manifest, err) < 0)
            return -1;
        rc = follow(run, id, &manifest, err);
        manifest_free(&manifest);
        return rc;
    }
    job_key(id, key);
    if (own.code == ERR_NOT_FOUND && job == NULL) {
        err_clear(&own);
        if (store_head(run->store, key, &size, STORE_CALL_TIMEOUT_MS, &own) == 0)
            keyset_add(&run->kept, id, BY_JOB, NULL);
    }
    if (own.code == ERR_NONE || own.code == ERR_NOT_FOUND)
        return 0;
    if (err != NULL)
        *err = own;
    return -1;
}

static int follow_owners(struct run *run, struct err *err)
{
    struct keyset asked = {0};
    int rc = 0;

    for (size_t i = 0; i < run->job_count; i++) {
        if (!run->jobs[i].dead && run->jobs[i].digest[0] != '\0')
            keyset_add(&run->kept, run->jobs[i].id, BY_JOB, NULL);
    }
    for (size_t i = 0; rc == 0 && i < run->thing_count; i++) {
        const char *owner = run->things[i].owner;
        bool added;

        if (owner[0] == '\0' || keyset_find(&run->kept, owner) != NULL)
            continue;
        keyset_add(&asked, owner, 0, &added);
        if (added)
            rc = ask_for_owner(run, owner, err);
    }
    keyset_free(&asked);
    return rc;
}

/* --- judging -------------------------------------------------------------------------------- */

static void judge_thing(struct run *run, struct thing *thing)
{
    const struct keyset_entry *kept = keyset_find(&run->kept, thing->owner);
    const struct keyset_entry *reached = keyset_find(&run->reached, thing->key);
    int64_t grace_ms = thing->owner[0] != '\0'
                           ? run->grace_ms
                           : at_least(run->grace_ms, COLLECT_UNFINISHED_GRACE_MS);
    char reason[REASON_SIZE], seen[UNITS_TEXT_SIZE], grace[UNITS_TEXT_SIZE];
    char what[STORE_KEY_MAX];
    int64_t seen_ms;

    snprintf(what, sizeof(what), "%s", thing->key);
    if (strncmp(what, DATA_PREFIX, strlen(DATA_PREFIX)) == 0)
        what[strlen(DATA_PREFIX) + SNAPSHOT_ID_LEN] = '\0';
    thing->verdict = COLLECT_KEPT;
    if (kept != NULL) {
        snprintf(reason, sizeof(reason), "%s", kept_reasons[kept->value]);
    } else if (reached != NULL) {
        snprintf(reason, sizeof(reason), "snapshot %s refers to it",
                 run->snapshots.entries[reached->value].key);
    } else {
        seen_ms = seen_for(run, thing->key);
        thing->verdict = seen_ms >= grace_ms ? COLLECT_DELETED : COLLECT_WAITS;
        snprintf(reason, sizeof(reason), "nothing has led to it for %s, and %s are waited",
                 units_format_duration(seen_ms, seen), units_format_duration(grace_ms, grace));
    }
    count(run, what, thing->size, thing->verdict, reason);
}

static int judge_others(struct run *run, struct err *err)
{
    for (size_t i = 0; i < run->others.count; i++) {
        const char *key = run->others.entries[i].key;
        char digest[2 * DIGEST_BYTES + 1], *noted;
        bool old;

        if (digest_object(run, key, NOTES_BYTES_MAX, digest, NULL, err) < 0)
            return -1;
        noted = xasprintf("%s#%s", key, digest);
        old = seen_for(run, noted) >= NOTES_OF_OTHERS_MS;
        free(noted);
        count(run, key, 0, old ? COLLECT_DELETED : COLLECT_KEPT,
              old ? "another collector's notes, unchanged for 7d" : "another collector's notes");
        if (old && !run->options->dry_run &&
            store_delete(run->store, key, STORE_CALL_TIMEOUT_MS, err) < 0)
            return -1;
    }
    return 0;
}

static int delete_garbage(struct run *run, struct err *err)
{
    for (size_t i = 0; i < run->thing_count; i++) {
        const struct thing *thing = &run->things[i];
        int rc;

        if (thing->verdict != COLLECT_DELETED)
            continue;
        rc = thing->owner[0] == '\0'
                 ? store_delete_unfinished(run->store, thing->key + strlen(UNFINISHED), err)
                 : store_delete(run->store, thing->key, STORE_CALL_TIMEOUT_MS, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* A boot of a machine is one clock. */
static int find_observer(struct run *run, struct err *err)
{
    const struct collect_options *options = run->options;
    char *id;

    run->now_ms = options->now_ms != NULL ? options->now_ms(options->now_arg) : clock_boot_ms();
    if (options->observer != NULL) {
        snprintf(run->observer, sizeof(run->observer), "%s", options->observer);
        return 0;
    }
    if (file_read("/proc/sys/kernel/random/boot_id", BOOT_ID_MAX, &id, NULL, err) < 0)
        return -1;
    id[strcspn(id, "\n")] = '\0';
    snprintf(run->observer, sizeof(run->observer), "%s", id);
    free(id);
    return 0;
}

static int decide(struct run *run, struct err *err)
{
    if (judge_jobs(run, err) < 0 || follow_catalog(run, err) < 0 || follow_pins(run, err) < 0 ||
        follow_owners(run, err) < 0)
        return -1;
    for (size_t i = 0; i < run->thing_count; i++)
        judge_thing(run, &run->things[i]);
    return judge_others(run, err);
}

static void run_free(struct run *run)
{
    for (size_t i = 0; i < run->thing_count; i++)
        free(run->things[i].key);
    for (size_t i = 0; i < run->group_keys.count; i++) {
        free(run->groups[i].what);
        free(run->groups[i].reason);
    }
    free(run->things);
    free(run->groups);
    free(run->jobs);
    keyset_free(&run->group_keys);
    keyset_free(&run->pins);
    keyset_free(&run->others);
    keyset_free(&run->kept);
    keyset_free(&run->reached);
    keyset_free(&run->snapshots);
    catalog_free(&run->catalog);
    notes_free(&run->before);
    notes_free(&run->after);
}

static int collect(struct run *run, struct err *err)
{
    bool changes = !run->options->dry_run;
    struct err own = {0};
    int rc;

    if (find_observer(run, err) < 0 ||
        notes_load(run->store, run->observer, &run->before, err) < 0 || look(run, err) < 0)
        return -1;
    rc = decide(run, &own);
    /* What was seen of the jobs is noted also where nothing could be followed: a dead one's pin on
     * what cannot be read must not stand in the way for ever. */
    if (changes && notes_save(run->store, run->observer, &run->after, rc == 0 ? &own : NULL) < 0)
        rc = -1;
    if (rc == 0) {
        tell_all(run);
        rc = changes ? delete_garbage(run, &own) : 0;
    }
    if (rc < 0 && err != NULL)
        *err = own;
    return rc;
}

int collect_run(struct store *store, const struct collect_options *options,
                struct collect_result *result, struct err *err)
{
    struct run run = {.store = store, .options = options, .result = result};
    int rc;

    *result = (struct collect_result){0};
    run.grace_ms = options->grace_ms > 0 ? options->grace_ms : COLLECT_GRACE_MS;
    rc = collect(&run, err);
    run_free(&run);
    if (rc < 0 && err != NULL && (err->code == ERR_CORRUPT || err->code == ERR_INVALID))
        return err_context(err, "nothing was collected, because it cannot be seen what is needed "
                                "(delete that snapshot if it cannot be restored)");
    return rc;
}
