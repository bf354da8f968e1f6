#include "agent/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/slotfile.h"

enum { SLOT_BYTES = DOCUMENT_MAX_BYTES + 4096 };

static int read_record(const struct slotfile *file, const char ids[NODE_COUNT][NODE_ID_SIZE],
                       json_t **document, struct document_facts *facts, struct err *err)
{
    char *record = xmalloc(SLOT_BYTES);
    size_t len;
    bool found;
    int rc = -1;

    if (slotfile_read(file, record, SLOT_BYTES, &len, &found, err) < 0)
        goto out;
    if (found && (json_parse_bounded(record, len, 16, document, err) < 0 ||
                  document_facts_from_json(*document, ids, facts, err) < 0))
        goto out;
    rc = 0;
out:
    free(record);
    return rc;
}

int document_open(const char *state_directory, const char ids[NODE_COUNT][NODE_ID_SIZE],
                  struct slotfile **file, json_t **document, struct document_facts *facts,
                  struct err *err)
{
    char path[1024];

    *document = NULL;
    memset(facts, 0, sizeof *facts);
    snprintf(path, sizeof path, "%s/document", state_directory);
    if (slotfile_open(path, SLOT_BYTES, true, file, err) < 0)
        return -1;
    if (read_record(*file, ids, document, facts, err) < 0) {
        json_decref(*document);
        *document = NULL;
        slotfile_close(*file);
        *file = NULL;
        return slotfile_not_understood(path, err);
    }
    return 0;
}

int document_write(struct slotfile *file, const json_t *document, struct err *err)
{
    char *line = json_dump_line(document);
    int rc = slotfile_write(file, line, strlen(line), err);

    free(line);
    return rc < 0 ? err_context(err, "cluster document") : 0;
}

int document_check_rules(const json_t *document, struct err *err)
{
    const char *name, *reason;
    json_t *value;
    size_t index;

    json_object_foreach(json_object_get(document, "settings"), name, value)
    {
        if (pgconf_setting_refused(name, json_string_value(value), &reason))
            return err_set(err, ERR_REFUSED, "setting %s: %s", name, reason);
    }
    json_array_foreach(json_object_get(document, "hba"), index, value)
    {
        if (pgconf_hba_refused(json_string_value(value), &reason))
            return err_set(err, ERR_REFUSED, "access rule \"%.200s\": %s", json_string_value(value),
                           reason);
    }
    return 0;
}

static const char *text_or(const json_t *document, const char *name, const char *fallback)
{
    const char *text = json_string_value(json_object_get(document, name));

    return text && *text ? text : fallback;
}

void document_rules(const json_t *document, struct document_rules *rules)
{
    const char *name;
    json_t *value;
    size_t index;

    memset(rules, 0, sizeof *rules);
    rules->listen_addresses = text_or(document, "listen_addresses", NULL);
    rules->database = text_or(document, "database", "app");
    rules->owner = text_or(document, "owner", "app");
    json_object_foreach(json_object_get(document, "settings"), name, value)
    {
        if (rules->setting_count < DOCUMENT_SETTINGS_MAX && json_is_string(value))
            rules->settings[rules->setting_count++] = (struct pgconf_setting){
                .name = name, .value = json_string_value(value)};
    }
    json_array_foreach(json_object_get(document, "hba"), index, value)
    {
        if (rules->hba_count < DOCUMENT_HBA_MAX && json_is_string(value))
            rules->hba[rules->hba_count++] = json_string_value(value);
    }
}
