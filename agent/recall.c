/* An agent that is restarted or upgraded must find its standby attached and its leader's names in
 * force. What was written is noted beside the files, with a digest of them: where the two do not
 * fit, nothing is believed and the standby is detached until everything is written anew. Where they
 * do, the same is written and loaded once more, which disturbs neither. */
#include "agent/node.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/worker.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/codec.h"
#include "protocol/fields.h"

enum { NOTE_MAX_BYTES = 16384, PATH_SIZE = 1024, DIGEST_BYTES = 32 };

struct note {
    struct replication replication;
    char names[STEP_NAMES_SIZE];
    char digest[2 * DIGEST_BYTES + 1];
};

static const struct field replication_fields[] = {
    FIELD(replication, FIELD_NODE, upstream),
    FIELD_OF(replication, FIELD_RECORD, upstream_incarnation, incarnation_fields),
    FIELD(replication, FIELD_U32, generation),
    FIELD(replication, FIELD_BOOL, counted),
    FIELD(replication, FIELD_BOOL, names),
    FIELD_EACH_OF(replication, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_END,
};

static const struct field note_fields[] = {
    FIELD_OF(note, FIELD_RECORD, replication, replication_fields),
    FIELD(note, FIELD_TEXT, names),
    FIELD(note, FIELD_TEXT, digest),
    FIELD_END,
};

struct note_run {
    char path[PATH_SIZE];
    char *text;
    int rc;
    struct err err;
};

static void note_path(const struct agent *agent, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/replication", agent->config.options.state_directory);
}

static void note_work(void *arg)
{
    struct note_run *run = arg;

    run->rc = file_write_atomic(run->path, run->text, strlen(run->text), 0600, &run->err);
}

static void note_done(void *arg)
{
    struct note_run *run = arg;

    if (run->rc < 0)
        log_err(LOG_LEVEL_WARNING, "replication_note_failed", &run->err);
    free(run->text);
    free(run);
}

void replication_note(struct agent *agent, const uint8_t digest[DIGEST_BYTES])
{
    struct note_run *run = xcalloc(1, sizeof *run);
    struct note note = {.replication = agent->in.replication};
    json_t *json;

    memcpy(note.names, agent->names, sizeof note.names);
    rand_hex_format(digest, DIGEST_BYTES, note.digest);
    json = fields_to_json(note_fields, &note);
    note_path(agent, run->path);
    run->text = json_dump_line(json);
    json_decref(json);
    worker_run(agent->background, note_work, note_done, run);
}

static int read_note(const char *path, struct note *note)
{
    json_t *json = NULL;
    size_t len;
    char *text;
    int rc;

    if (file_read(path, NOTE_MAX_BYTES, &text, &len, NULL) < 0)
        return -1;
    rc = json_parse_bounded(text, len, 8, &json, NULL);
    if (rc == 0)
        rc = fields_from_json(note_fields, json, note, NULL);
    json_decref(json);
    free(text);
    return rc;
}

void replication_recall(struct agent *agent)
{
    static const uint8_t nothing[DIGEST_BYTES];
    uint8_t noted[DIGEST_BYTES], found[DIGEST_BYTES];
    struct inputs *in = &agent->in;
    char path[PATH_SIZE];
    struct note note;

    note_path(agent, path);
    if (read_note(path, &note) < 0 || rand_hex_parse(note.digest, noted, DIGEST_BYTES, NULL) < 0)
        return;
    conf_digest(agent->config.options.state_directory, found);
    if (CRYPTO_memcmp(found, nothing, DIGEST_BYTES) == 0 ||
        CRYPTO_memcmp(found, noted, DIGEST_BYTES) != 0)
        return;
    in->replication = note.replication;
    in->replication_known = true;
    /* What was written is known; that the server that runs now has read it is not. It is told once
     * more, and the key is written with the password of today. */
    in->replication_loaded = false;
    in->replication_since_ms = clock_boot_ms();
    memcpy(agent->names, note.names, sizeof agent->names);
    agent->names_known = true;
}
