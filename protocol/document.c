#include "protocol/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/units.h"
#include "protocol/codec.h"

enum {
    SETTINGS_MAX = 256,
    SETTING_VALUE_MAX = 4096,
    HBA_LINES_MAX = 256,
    LINE_MAX_BYTES = 1024,
    PG_NAME_MAX = 63, /* bytes; PostgreSQL cuts longer ones */
    STORE_URL_MAX = 512,
    SCHEDULE_MAX = 200,
    SNAPSHOT_LEVEL_MAX = 19, /* zstd's */
    KEEP_MAX = 10000,
};
#define SNAPSHOT_RATE_MIN ((int64_t)32 * 1024) /* PostgreSQL's bounds of a base backup's */
#define SNAPSHOT_RATE_MAX ((int64_t)1024 * 1024 * 1024)

/* What the check of a part reads and fills. */
struct scope {
    const char (*node_ids)[NODE_ID_SIZE]; /* of the cluster, in slot order */
    struct document_facts *facts;
    struct err *err;
};

static int refuse(struct err *err, const char *field, const char *expected)
{
    return err_set(err, ERR_INVALID, "field \"%s\": %s", field, expected);
}

/* One line of text for a configuration file: what could end a line or hide in it is refused. */
static bool is_line(const json_t *json, size_t min, size_t max)
{
    const char *text = json_string_value(json);

    if (text == NULL || json_string_length(json) < min || json_string_length(json) > max)
        return false;
    for (size_t i = 0; i < json_string_length(json); i++) {
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    }
    return true;
}

static bool only(const char *text, const char *allowed)
{
    return text[strspn(text, allowed)] == '\0';
}

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int slot_of(const struct scope *scope, const char *id)
{
    for (int slot = 0; id != NULL && slot < NODE_COUNT; slot++) {
        if (strcmp(scope->node_ids[slot], id) == 0)
            return slot;
    }
    return NODE_NONE;
}

/* --- parts --- */

static int check_maintenance(const json_t *value, const struct scope *scope)
{
    if (!json_is_boolean(value))
        return refuse(scope->err, "maintenance", "expected true or false");
    scope->facts->maintenance = json_is_true(value);
    return 0;
}

static int check_fenced(const json_t *value, const struct scope *scope)
{
    memset(scope->facts->fenced, 0, sizeof(scope->facts->fenced));
    if (!json_is_array(value))
        return refuse(scope->err, "fenced", "expected array of node ids");
    for (size_t i = 0; i < json_array_size(value); i++) {
        int slot = slot_of(scope, json_string_value(json_array_get(value, i)));

        if (slot == NODE_NONE || scope->facts->fenced[slot])
            return err_set(scope->err, ERR_INVALID,
                           "field \"fenced[%zu]\": expected one of %s, %s, %s, each once", i,
                           scope->node_ids[0], scope->node_ids[1], scope->node_ids[2]);
        scope->facts->fenced[slot] = true;
    }
    return 0;
}

/* A name or address that stands in connection strings and files without further quoting. */
static bool is_host(const struct address *address)
{
    char text[UNITS_ADDRESS_SIZE];
    struct units_address parsed, given = {.port = address->port};

    snprintf(given.host, sizeof(given.host), "%s", address->host);
    return address->host[0] != '\0' &&
           units_parse_address(units_format_address(&given, text), 0, &parsed, NULL) == 0 &&
           strcmp(parsed.host, given.host) == 0;
}

static int check_nodes(const json_t *value, const struct scope *scope)
{
    const char *id;
    json_t *node;

    for (int slot = 0; slot < NODE_COUNT; slot++) {
        struct address *address = &scope->facts->address[slot];

        id = scope->node_ids[slot];
        if (fields_from_json(address_fields, json_object_get(value, id), address, scope->err) < 0)
            return err_context(scope->err, "field \"nodes.%s\"", id);
        if (!is_host(address) || address->port == 0)
            return err_set(scope->err, ERR_INVALID,
                           "field \"nodes.%s\": expected {\"host\": name or address, "
                           "\"port\": 1..65535}",
                           id);
    }
    json_object_foreach((json_t *)(uintptr_t)value, id, node)
    {
        if (slot_of(scope, id) == NODE_NONE)
            return err_set(scope->err, ERR_INVALID,
                           "field \"nodes.%.40s\": this cluster has %s, %s, %s", id,
                           scope->node_ids[0], scope->node_ids[1], scope->node_ids[2]);
    }
    return 0;
}

/* work_mem, or of an extension: pg_stat_statements.track */
static bool is_setting_name(const char *name)
{
    const char *dot = strchr(name, '.');

    return strlen(name) <= PG_NAME_MAX && only(name, LOWER DIGITS "_$.") &&
           strchr(LOWER "_", name[0]) != NULL && name[0] != '\0' &&
           (dot == NULL ||
            (strchr(dot + 1, '.') == NULL && dot[1] != '\0' && strchr(LOWER "_", dot[1]) != NULL));
}

static int check_settings(const json_t *value, const struct scope *scope)
{
    const char *name;
    json_t *setting;

    if (!json_is_object(value) || json_object_size(value) > SETTINGS_MAX)
        return refuse(scope->err, "settings", "expected object of at most 256 settings");
    json_object_foreach((json_t *)(uintptr_t)value, name, setting)
    {
        if (!is_setting_name(name))
            return err_set(scope->err, ERR_INVALID,
                           "field \"settings\": \"%.80s\" is no name of a setting in lower case",
                           name);
        if (!is_line(setting, 0, SETTING_VALUE_MAX))
            return err_set(scope->err, ERR_INVALID,
                           "field \"settings.%s\": expected a string of one line, as \"64MB\" or "
                           "\"on\"",
                           name);
    }
    return 0;
}

static int check_listen_addresses(const json_t *value, const struct scope *scope)
{
    if (!is_line(value, 1, LINE_MAX_BYTES) ||
        !only(json_string_value(value), LOWER UPPER DIGITS "-_.:*, "))
        return refuse(scope->err, "listen_addresses",
                      "expected names or addresses, as \"127.0.0.1, ::1\"");
    return 0;
}

/* Types of records that pg_hba.conf knows and how many words the shortest one has. */
static bool is_hba_line(const char *line)
{
    static const struct {
        const char *type;
        size_t words;
    } types[] = {{"local", 4},     {"host", 5},       {"hostssl", 5},
                 {"hostnossl", 5}, {"hostgssenc", 5}, {"hostnogssenc", 5}};
    size_t type_length = strcspn(line, " ");
    size_t words = 0;

    for (const char *at = line + strspn(line, " "); *at != '\0'; words++) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    for (size_t i = 0; i < OGEL_ARRAY_LEN(types); i++) {
        if (strlen(types[i].type) == type_length && strncmp(line, types[i].type, type_length) == 0)
            return words >= types[i].words;
    }
    return false;
}

static int check_hba(const json_t *value, const struct scope *scope)
{
    if (!json_is_array(value) || json_array_size(value) > HBA_LINES_MAX)
        return refuse(scope->err, "hba", "expected array of at most 256 lines of pg_hba.conf");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *line = json_array_get(value, i);

        if (!is_line(line, 1, LINE_MAX_BYTES) || !is_hba_line(json_string_value(line)))
            return err_set(scope->err, ERR_INVALID,
                           "field \"hba[%zu]\": expected a line of pg_hba.conf, as \"host all all "
                           "10.0.0.0/8 scram-sha-256\", words apart by blanks",
                           i);
    }
    return 0;
}

static bool is_pg_name(const json_t *value)
{
    const char *name = json_string_value(value);

    return name != NULL && json_string_length(value) <= PG_NAME_MAX &&
           only(name, LOWER UPPER DIGITS "_-") && name[0] != '\0' &&
           strchr(DIGITS "-", name[0]) == NULL;
}

static int check_database(const json_t *value, const struct scope *scope)
{
    if (!is_pg_name(value) || strncmp(json_string_value(value), "template", 8) == 0)
        return refuse(scope->err, "database",
                      "expected letters, digits, \"_\", \"-\", at most 63, not \"template…\"");
    return 0;
}

static int check_owner(const json_t *value, const struct scope *scope)
{
    if (!is_pg_name(value) || strncmp(json_string_value(value), "pg_", 3) == 0 ||
        strncmp(json_string_value(value), "ogel_", 5) == 0 ||
        strcmp(json_string_value(value), "public") == 0 ||
        strcmp(json_string_value(value), "none") == 0)
        return refuse(scope->err, "owner",
                      "expected letters, digits, \"_\", \"-\", at most 63; \"pg_…\", \"ogel_…\", "
                      "\"public\" and \"none\" are taken");
    return 0;
}

/* --- snapshots --- */

/* A path, or an address without credentials: those never stand in the document. */
static int check_store(const json_t *value, const struct scope *scope)
{
    static const char *const schemes[] = {"file:///", "s3://", "s3+http://"};
    const char *url = json_string_value(value);
    bool known = is_line(value, 2, STORE_URL_MAX) && url[0] == '/';

    for (size_t i = 0; is_line(value, 2, STORE_URL_MAX) && i < OGEL_ARRAY_LEN(schemes); i++)
        known = known || (strncmp(url, schemes[i], strlen(schemes[i])) == 0 &&
                          url[strlen(schemes[i])] != '\0');
    if (!known)
        return refuse(scope->err, "snapshots.store",
                      "expected /DIRECTORY, s3://HOST[:PORT]/BUCKET[/PREFIX], or the same with "
                      "s3+http://");
    if (url[0] == 's' && strpbrk(url, "@?#") != NULL)
        return refuse(scope->err, "snapshots.store",
                      "credentials do not belong here: each agent's option "
                      "snapshots.credentials_file names a file with them");
    return 0;
}

/* Form only: what the words mean is known where they are carried out (snapshots/schedule.h). */
static int check_times(const json_t *value, const struct scope *scope)
{
    return is_line(value, 1, SCHEDULE_MAX) ? 0
                                           : err_set(scope->err, ERR_INVALID,
                                                     "expected a text, as \"every 15min\" or "
                                                     "\"0 3 * * *\"");
}

static int check_source(const json_t *value, const struct scope *scope)
{
    const char *text = json_string_value(value);

    if (text != NULL && (strcmp(text, "follower") == 0 || strcmp(text, "leader") == 0 ||
                         slot_of(scope, text) != NODE_NONE))
        return 0;
    return err_set(scope->err, ERR_INVALID,
                   "field \"snapshots.node\": expected \"follower\", \"leader\" or one of %s, %s, "
                   "%s",
                   scope->node_ids[0], scope->node_ids[1], scope->node_ids[2]);
}

static int check_rate(const json_t *value, const struct scope *scope)
{
    int64_t bytes;

    if (json_is_string(value) && units_parse_size(json_string_value(value), &bytes, NULL) == 0 &&
        bytes >= SNAPSHOT_RATE_MIN && bytes <= SNAPSHOT_RATE_MAX)
        return 0;
    return refuse(scope->err, "snapshots.max_rate", "expected a size, \"32kB\" to \"1GB\"");
}

static int check_level(const json_t *value, const struct scope *scope)
{
    json_int_t level = json_integer_value(value);

    return json_is_integer(value) && level >= 1 && level <= SNAPSHOT_LEVEL_MAX
               ? 0
               : refuse(scope->err, "snapshots.level", "expected 1 to 19");
}

static const char *const keep_names[] = {"daily", "weekly", "monthly", "least", NULL};

static int check_keep(const json_t *value, const struct scope *scope)
{
    if (!json_is_object(value))
        return refuse(scope->err, "snapshots.keep", "expected an object of numbers");
    for (size_t i = 0; keep_names[i] != NULL; i++) {
        const json_t *number = json_object_get(value, keep_names[i]);
        json_int_t least = strcmp(keep_names[i], "least") == 0;

        if (number != NULL && (!json_is_integer(number) || json_integer_value(number) < least ||
                               json_integer_value(number) > KEEP_MAX))
            return err_set(scope->err, ERR_INVALID,
                           "field \"snapshots.keep.%s\": expected %d to %d", keep_names[i],
                           (int)least, KEEP_MAX);
    }
    return 0;
}

static const struct member {
    const char *name;
    int (*check)(const json_t *value, const struct scope *scope);
} snapshot_members[] = {
    {"store", check_store}, {"schedule", check_times}, {"verify", check_times},
    {"drill", check_times}, {"node", check_source},    {"max_rate", check_rate},
    {"level", check_level}, {"keep", check_keep},
};

static int check_snapshots(const json_t *value, const struct scope *scope)
{
    if (!json_is_object(value))
        return refuse(scope->err, "snapshots", "expected an object");
    for (size_t i = 0; i < OGEL_ARRAY_LEN(snapshot_members); i++) {
        const struct member *member = &snapshot_members[i];
        const json_t *item = json_object_get(value, member->name);

        if (item == NULL || member->check(item, scope) == 0)
            continue;
        return member->check != check_times
                   ? -1
                   : err_context(scope->err, "field \"snapshots.%s\"", member->name);
    }
    return 0;
}

/* A change names no member that nobody knows: it would be kept and do nothing. */
static int check_snapshots_change(const json_t *change, struct err *err)
{
    const char *names[OGEL_ARRAY_LEN(snapshot_members) + 1] = {NULL};
    const json_t *keep = json_object_get(change, "keep");

    for (size_t i = 0; i < OGEL_ARRAY_LEN(snapshot_members); i++)
        names[i] = snapshot_members[i].name;
    if (json_is_object(change) && json_check_fields(change, names, err) < 0)
        return err_context(err, "field \"snapshots\"");
    if (json_is_object(keep) && json_check_fields(keep, keep_names, err) < 0)
        return err_context(err, "field \"snapshots.keep\"");
    return 0;
}

static const struct part {
    const char *name;
    int (*check)(const json_t *value, const struct scope *scope);
    bool merged;   /* a change names single members */
    bool optional; /* may be missing; null takes it out */
    int (*check_change)(const json_t *change, struct err *err); /* NULL: none of its own */
} parts[] = {
    {"maintenance", check_maintenance, false, false, NULL},
    {"fenced", check_fenced, false, false, NULL},
    {"nodes", check_nodes, true, false, NULL},
    {"settings", check_settings, true, false, NULL},
    {"listen_addresses", check_listen_addresses, false, false, NULL},
    {"hba", check_hba, false, false, NULL},
    {"database", check_database, false, false, NULL},
    {"owner", check_owner, false, false, NULL},
    {"snapshots", check_snapshots, true, true, check_snapshots_change},
};

/* --- the whole --- */

int document_facts_from_json(const json_t *document, const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                             struct document_facts *facts, struct err *err)
{
    const struct scope scope = {node_ids, facts, err};
    const json_t *version;

    if (json_field_object(document, "version", JSON_REQUIRED, &version, err) < 0)
        return -1;
    if (fields_from_json(document_version_fields, version, &facts->version, err) < 0)
        return err_context(err, "field \"version\"");
    if (facts->version.generation == 0)
        return refuse(err, "version", "expected a generation above 0");
    for (size_t i = 0; i < OGEL_ARRAY_LEN(parts); i++) {
        const json_t *value = json_object_get(document, parts[i].name);

        if (value == NULL && parts[i].optional)
            continue;
        if (value == NULL)
            return refuse(err, parts[i].name, "is missing");
        if (parts[i].check(value, &scope) < 0)
            return -1;
    }
    if (json_dumpb(document, NULL, 0, JSON_COMPACT) > DOCUMENT_MAX_BYTES)
        return err_set(err, ERR_INVALID,
                       "the document is larger than %d bytes: fewer settings or "
                       "access rules",
                       DOCUMENT_MAX_BYTES);
    return 0;
}

static void set(json_t *object, const char *name, json_t *value)
{
    OGEL_CHECK(json_object_set_new(object, name, value) == 0);
}

json_t *document_new(struct document_version version, const char node_ids[NODE_COUNT][NODE_ID_SIZE],
                     const struct address addresses[NODE_COUNT])
{
    json_t *document = json_object(), *nodes = json_object();

    for (int slot = 0; slot < NODE_COUNT; slot++)
        set(nodes, node_ids[slot], fields_to_json(address_fields, &addresses[slot]));
    set(document, "version", fields_to_json(document_version_fields, &version));
    set(document, "maintenance", json_false());
    set(document, "fenced", json_array());
    set(document, "nodes", nodes);
    set(document, "settings", json_object());
    set(document, "listen_addresses", json_string("127.0.0.1"));
    set(document, "hba", json_pack("[s]", "host all all 127.0.0.1/32 scram-sha-256"));
    set(document, "database", json_string("app"));
    set(document, "owner", json_string("app"));
    return document;
}

/* PostgreSQL compares names of settings without case; one spelling makes a change find them. */
static char *in_lower_case(const char *name)
{
    char *lower = xstrdup(name);

    for (char *at = lower; *at != '\0'; at++) {
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
    }
    return lower;
}

static void merge_members(json_t *into, const json_t *change)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)change, name, value)
    {
        if (json_is_null(value))
            json_object_del(into, name);
        else
            set(into, name, json_deep_copy(value));
    }
}

static json_t *add_object(json_t *into, const char *name)
{
    set(into, name, json_object());
    return json_object_get(into, name);
}

static int merge(json_t *into, const struct part *part, const json_t *change, struct err *err)
{
    const char *name;
    json_t *value;

    if (!json_is_object(change) || !json_is_object(into))
        return refuse(err, part->name, "expected an object");
    if (part->check_change != NULL && part->check_change(change, err) < 0)
        return -1;
    json_object_foreach((json_t *)(uintptr_t)change, name, value)
    {
        char *lower = in_lower_case(name);
        json_t *old = json_object_get(into, lower);

        if (json_is_null(value))
            json_object_del(into, lower);
        else if (part->optional && json_is_object(value) && json_is_object(old))
            merge_members(old, value);
        else if (part->optional && json_is_object(value))
            merge_members(add_object(into, lower), value);
        else
            set(into, lower, json_deep_copy(value));
        free(lower);
    }
    return 0;
}

json_t *document_apply(const json_t *document, const json_t *change,
                       struct document_version version,
                       const char node_ids[NODE_COUNT][NODE_ID_SIZE], struct err *err)
{
    const char *names[OGEL_ARRAY_LEN(parts) + 1] = {NULL};
    struct document_facts facts;
    json_t *result = NULL;

    for (size_t i = 0; i < OGEL_ARRAY_LEN(parts); i++)
        names[i] = parts[i].name;
    if (!json_is_object(document) || !json_is_object(change)) {
        err_set(err, ERR_INVALID, "expected an object");
        return NULL;
    }
    if (json_check_fields(change, names, err) < 0)
        return NULL;

    result = json_deep_copy(document);
    OGEL_CHECK(result != NULL);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(parts); i++) {
        const json_t *value = json_object_get(change, parts[i].name);

        if (value == NULL)
            continue;
        if (parts[i].optional && json_is_null(value)) {
            json_object_del(result, parts[i].name);
            continue;
        }
        if (parts[i].optional && json_object_get(result, parts[i].name) == NULL)
            set(result, parts[i].name, json_object());
        if (!parts[i].merged)
            set(result, parts[i].name, json_deep_copy(value));
        else if (merge(json_object_get(result, parts[i].name), &parts[i], value, err) < 0)
            goto failed;
    }
    set(result, "version", fields_to_json(document_version_fields, &version));
    if (document_facts_from_json(result, node_ids, &facts, err) == 0)
        return result;
failed:
    json_decref(result);
    return NULL;
}
