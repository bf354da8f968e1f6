/* An agent that is restarted or upgraded must find its standby attached and its leader's names in
 * force. What was written is noted beside the files, with a digest of them: where the two do not
 * fit, nothing is believed and the standby is detached until everything is written anew. Where they
 * do, the same is written and loaded once more, which disturbs neither. */
#include "agent/recall.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/node.h"
#include "agent/worker.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"
#include "protocol/codec.h"
#include "protocol/fields.h"

enum { NOTE_MAX_BYTES = 16384, PATH_SIZE = 1024, DIGEST_BYTES = RECALL_DIGEST_BYTES };

static const struct field replication_fields[] = {
    FIELD(replication, FIELD_NODE, upstream),
    FIELD_OF(replication, FIELD_RECORD, upstream_incarnation, incarnation_fields),
    FIELD(replication, FIELD_U32, generation),
    FIELD(replication, FIELD_BOOL, counted),
    FIELD(replication, FIELD_BOOL, names),
    FIELD_EACH_OF(replication, FIELD_RECORD, incarnations, incarnation_fields),
    FIELD_END,
};

static const struct field recall_fields[] = {
    FIELD_OF(recall, FIELD_RECORD, replication, replication_fields),
    FIELD(recall, FIELD_TEXT, names),
    FIELD(recall, FIELD_TEXT, digest),
    FIELD_END,
};

static const char *note_path(const char *state_directory, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/replication", state_directory);
    return path;
}

int recall_write(const char *state_directory, const struct recall *recall, struct err *err)
{
    json_t *json = fields_to_json(recall_fields, recall);
    char *text = json_dump_sealed(json);
    char path[PATH_SIZE];
    int rc = file_write_atomic(note_path(state_directory, path), text, strlen(text), 0600, err);

    free(text);
    json_decref(json);
    return rc;
}

int recall_read(const char *state_directory, struct recall *recall, struct err *err)
{
    json_t *json = NULL;
    char path[PATH_SIZE];
    size_t len;
    char *text;
    int rc;

    if (file_read(note_path(state_directory, path), NOTE_MAX_BYTES, &text, &len, err) < 0)
        return -1;
    rc = json_parse_sealed(text, len, 8, &json, err);
    if (rc == 0)
        rc = fields_from_json(recall_fields, json, recall, err);
    json_decref(json);
    free(text);
    return rc < 0 ? err_context(err, "%s", path) : 0;
}

struct note_run {
    struct agent *agent;
    struct recall recall;
    int rc;
    struct err err;
};

static void note_work(void *arg)
{
    struct note_run *run = arg;

    run->rc = recall_write(run->agent->config.options.state_directory, &run->recall, &run->err);
}

static void note_done(void *arg)
{
    struct note_run *run = arg;

    if (run->rc < 0)
        log_err(LOG_LEVEL_WARNING, "replication_note_failed", &run->err);
    free(run);
}

void replication_note(struct agent *agent, const uint8_t digest[DIGEST_BYTES])
{
    struct note_run *run = xcalloc(1, sizeof *run);

    run->agent = agent;
    run->recall.replication = agent->in.replication;
    memcpy(run->recall.names, agent->names, sizeof run->recall.names);
    rand_hex_format(digest, DIGEST_BYTES, run->recall.digest);
    worker_run(agent->background, note_work, note_done, run);
}

void replication_recall(struct agent *agent)
{
    const char *state_directory = agent->config.options.state_directory;
    static const uint8_t nothing[DIGEST_BYTES];
    uint8_t noted[DIGEST_BYTES], found[DIGEST_BYTES];
    struct inputs *in = &agent->in;
    struct err err = {0};
    struct recall recall;

    if (recall_read(state_directory, &recall, &err) < 0 ||
        rand_hex_parse(recall.digest, noted, DIGEST_BYTES, &err) < 0) {
        if (err.code != ERR_NOT_FOUND)
            log_err(LOG_LEVEL_WARNING, "replication_note_not_believed", &err);
        return;
    }
    conf_digest(state_directory, found);
    if (CRYPTO_memcmp(found, nothing, DIGEST_BYTES) == 0 ||
        CRYPTO_memcmp(found, noted, DIGEST_BYTES) != 0)
        return;
    in->replication = recall.replication;
    in->replication_known = true;
    /* What was written is known; that the server that runs now has read it is not. It is told once
     * more, and the key is written with the password of today. */
    in->replication_loaded = false;
    in->replication_since_ms = clock_boot_ms();
    memcpy(agent->names, recall.names, sizeof agent->names);
    agent->names_known = true;
}
