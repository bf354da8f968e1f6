/* What users may not set, and why. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pgconf.h"
#include "base/mem.h"

enum { MIN_WAL_SENDERS = 10, MIN_RESERVED_CONNECTIONS = 3, MIN_CONNECTIONS = 20 };

/* --- settings -----------------------------------------------------------------------------------
 */

enum allowed {
    ALLOWED_NEVER,
    ALLOWED_ON,       /* booleans that must stay on */
    ALLOWED_OFF,      /* … off */
    ALLOWED_VALUES,   /* one of `values` */
    ALLOWED_AT_LEAST, /* a number >= `minimum` */
    ALLOWED_NOT,      /* anything but `values` */
};

struct rule {
    const char *name; /* a '*' at its end stands for anything */
    enum allowed allowed;
    const char *values; /* between blanks */
    long minimum;
    const char *reason;
};

static const struct rule rules[] = {
    /* what an acknowledged commit rests on */
    {"fsync", ALLOWED_ON, NULL, 0,
     "without fsync a crash loses acknowledged commits; for faster loading set synchronous_commit "
     "in the session"},
    {"full_page_writes", ALLOWED_ON, NULL, 0,
     "without full_page_writes a crash can damage pages; wal_compression makes them cheaper"},
    {"data_sync_retry", ALLOWED_OFF, NULL, 0,
     "after a failed fsync the data on disk is unknown; the server must recover from WAL"},
    {"synchronous_standby_names", ALLOWED_NEVER, NULL, 0,
     "the agent sets it: it decides which standbys may acknowledge a commit"},
    {"synchronous_commit", ALLOWED_VALUES, " on true yes 1 remote_apply ", 0,
     "for the whole cluster only remote_apply and on keep commits through a failover; weaker "
     "values "
     "may be set per role, database or transaction where a commit may be lost"},
    {"wal_level", ALLOWED_VALUES, " replica logical ", 0, "replication needs replica or logical"},
    {"wal_log_hints", ALLOWED_ON, NULL, 0, "pg_rewind needs it"},
    {"max_wal_senders", ALLOWED_AT_LEAST, NULL, MIN_WAL_SENDERS,
     "two standbys, clones and switchovers need 10; more is allowed"},
    {"zero_damaged_pages", ALLOWED_OFF, NULL, 0, "it destroys data; set it in a session"},
    {"ignore_invalid_pages", ALLOWED_OFF, NULL, 0, "a standby would go on with damaged data"},
    /* how a standby follows */
    {"primary_conninfo", ALLOWED_NEVER, NULL, 0, "the agent decides whom a node follows"},
    {"primary_slot_name", ALLOWED_NEVER, NULL, 0,
     "followers use no slots, which could fill the disk; set wal_keep_size to keep more WAL"},
    {"hot_standby", ALLOWED_ON, NULL, 0, "the agent and readers connect to standbys"},
    {"recovery_min_apply_delay", ALLOWED_NEVER, NULL, 0,
     "a delayed standby holds up commits and failovers; keep a delayed copy outside of the "
     "cluster"},
    {"recovery_target*", ALLOWED_NEVER, NULL, 0,
     "nodes follow the newest timeline; to go back in time restore a snapshot into a new cluster"},
    {"restore_command", ALLOWED_NEVER, NULL, 0,
     "a fenced node must not get WAL from elsewhere; archive_command is yours"},
    {"archive_cleanup_command", ALLOWED_NEVER, NULL, 0,
     "it would run on every standby; let the archive's own tool expire WAL"},
    {"recovery_end_command", ALLOWED_NEVER, NULL, 0,
     "it would delay each promotion; subscribe to the cluster's events instead"},
    {"promote_trigger_file", ALLOWED_NEVER, NULL, 0,
     "only the cluster promotes a node: ogelctl switchover"},
    {"wal_retrieve_retry_interval", ALLOWED_NEVER, NULL, 0,
     "the agent keeps it low: re-attachments wait for it"},
    {"wal_sender_timeout", ALLOWED_NEVER, NULL, 0, "the agent sets it: failovers depend on it"},
    {"wal_receiver_timeout", ALLOWED_NEVER, NULL, 0, "the agent sets it: failovers depend on it"},
    {"wal_receiver_status_interval", ALLOWED_NEVER, NULL, 0,
     "the agent sets it: commits wait for these messages"},
    {"wal_receiver_create_temp_slot", ALLOWED_OFF, NULL, 0,
     "followers use no slots; set wal_keep_size to keep more WAL"},
    {"max_standby_streaming_delay", ALLOWED_NOT, " -1 ", 0,
     "a query on a standby could hold up commits and failovers for ever; give a time"},
    {"restart_after_crash", ALLOWED_OFF, NULL, 0,
     "after a crash the agent decides as what the server comes back"},
    /* what the agent itself needs */
    {"data_directory", ALLOWED_NEVER, NULL, 0, "the agent's option datadir says where data is"},
    {"config_file", ALLOWED_NEVER, NULL, 0, "the agent writes the configuration"},
    {"hba_file", ALLOWED_NEVER, NULL, 0, "access rules are part of the cluster document: hba"},
    {"ident_file", ALLOWED_NEVER, NULL, 0, "the agent writes it"},
    {"external_pid_file", ALLOWED_NEVER, NULL, 0, "the agent watches the process itself"},
    {"port", ALLOWED_NEVER, NULL, 0, "the cluster document says where nodes listen: nodes"},
    {"listen_addresses", ALLOWED_NEVER, NULL, 0,
     "part of the cluster document beside the settings: listen_addresses"},
    {"unix_socket_*", ALLOWED_NEVER, NULL, 0,
     "the socket is the agent's own way in; clients use TCP"},
    {"cluster_name", ALLOWED_NEVER, NULL, 0, "the agent sets it"},
    {"password_encryption", ALLOWED_VALUES, " scram-sha-256 ", 0,
     "replication authenticates by SCRAM"},
    {"superuser_reserved_connections", ALLOWED_AT_LEAST, NULL, MIN_RESERVED_CONNECTIONS,
     "the agent must get in when clients use all connections; 3 or more is allowed"},
    {"max_connections", ALLOWED_AT_LEAST, NULL, MIN_CONNECTIONS,
     "the agent and its probes need some connections; 20 or more is allowed"},
    {"logging_collector", ALLOWED_ON, NULL, 0, "the agent reads the log for causes of failures"},
    {"log_directory", ALLOWED_NEVER, NULL, 0,
     "the log is bounded and stands in the state directory"},
    {"log_filename", ALLOWED_NEVER, NULL, 0, "the log is bounded by the agent"},
    {"log_rotation_*", ALLOWED_NEVER, NULL, 0, "the log is bounded by the agent"},
    {"log_truncate_on_rotation", ALLOWED_NEVER, NULL, 0, "the log is bounded by the agent"},
    {"log_file_mode", ALLOWED_NEVER, NULL, 0, "the log may hold data: it stays private"},
    {"allow_alter_system", ALLOWED_NEVER, NULL, 0,
     "settings come from the cluster document: ogelctl config set"},
    {"include*", ALLOWED_NEVER, NULL, 0, "settings are given one by one: ogelctl config set"},
};

static bool pattern_matches(const char *pattern, const char *name)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '*')
        return strncasecmp(pattern, name, length - 1) == 0;
    return strcasecmp(pattern, name) == 0;
}

/* As PostgreSQL's parse_bool(): case does not matter, unique beginnings will do. -1: no boolean. */
static int bool_value(const char *value)
{
    static const struct {
        const char *word;
        size_t least;
        int value;
    } words[] = {{"true", 1, 1},  {"yes", 1, 1}, {"on", 2, 1},  {"1", 1, 1},
                 {"false", 1, 0}, {"no", 1, 0},  {"off", 2, 0}, {"0", 1, 0}};
    size_t length = strlen(value);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(words); i++)
        if (length >= words[i].least && length <= strlen(words[i].word) &&
            strncasecmp(value, words[i].word, length) == 0)
            return words[i].value;
    return -1;
}

static bool value_listed(const char *values, const char *value)
{
    size_t length = strlen(value);
    if (length == 0 || strpbrk(value, " \t") != NULL)
        return false;
    for (const char *at = strcasestr(values, value); at != NULL; at = strcasestr(at + 1, value))
        if (at[-1] == ' ' && at[length] == ' ')
            return true;
    return false;
}

static bool rule_allows(const struct rule *rule, const char *value)
{
    char *end;
    long number;
    switch (rule->allowed) {
    case ALLOWED_NEVER: return false;
    case ALLOWED_ON: return bool_value(value) == 1;
    case ALLOWED_OFF: return bool_value(value) == 0;
    case ALLOWED_VALUES: return value_listed(rule->values, value);
    case ALLOWED_NOT: return !value_listed(rule->values, value);
    case ALLOWED_AT_LEAST:
        number = strtol(value, &end, 10);
        return end != value && *end == '\0' && number >= rule->minimum;
    }
    return false;
}

static bool text_is_one_line(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' && *text != '\t')
            return false;
    return true;
}

static bool name_is_valid(const char *name)
{
    if (!isalpha((unsigned char)name[0]) && name[0] != '_')
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("_.$", *c) == NULL)
            return false;
    return strlen(name) < 128;
}

bool pgconf_setting_refused(const char *name, const char *value, const char **reason)
{
    if (!name_is_valid(name)) {
        *reason = "not the name of a setting";
        return true;
    }
    if (value != NULL && (!text_is_one_line(value) || strlen(value) > 8192)) {
        *reason = "a value is one line of 8192 bytes at most";
        return true;
    }
    for (size_t i = 0; i < OGEL_ARRAY_LEN(rules); i++) {
        if (!pattern_matches(rules[i].name, name))
            continue;
        *reason = rules[i].reason;
        return value == NULL ? rules[i].allowed == ALLOWED_NEVER : !rule_allows(&rules[i], value);
    }
    return false;
}

/* --- access rules
 * ----------------------------------------------------------------------------------- */

enum { HBA_FIELDS_MAX = 16, HBA_LINE_MAX = 1024 };

struct hba_line {
    char text[HBA_LINE_MAX];
    char *fields[HBA_FIELDS_MAX]; /* quotes kept */
    size_t count;
};

/* Fields are separated by blanks; a field is a list of tokens between commas, blanks after a comma
 * are allowed; quotes keep blanks and commas together; # begins a comment. */
static bool hba_split(const char *line, struct hba_line *out)
{
    bool quoted = false;
    bool in_field = false;
    bool after_comma = false;
    size_t used = 0;
    out->count = 0;
    for (const char *c = line; *c != '\0' && (quoted || *c != '#'); c++) {
        bool blank = !quoted && isspace((unsigned char)*c);
        if (blank && after_comma)
            continue;
        if (blank) {
            if (in_field)
                out->text[used++] = '\0';
            in_field = false;
            continue;
        }
        if (!in_field) {
            if (out->count == HBA_FIELDS_MAX)
                return false;
            out->fields[out->count++] = out->text + used;
            in_field = true;
        }
        if (*c == '"')
            quoted = !quoted;
        after_comma = !quoted && *c == ',';
        out->text[used++] = *c;
        if (used + 2 > sizeof out->text)
            return false;
    }
    out->text[used] = '\0';
    return !quoted && !after_comma;
}

static bool listed(const char *const *words, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return false;
}

static bool is_ip(const char *text, int *bits)
{
    unsigned char buf[16];
    if (inet_pton(AF_INET, text, buf) == 1)
        *bits = 32;
    else if (inet_pton(AF_INET6, text, buf) == 1)
        *bits = 128;
    else
        return false;
    return true;
}

/* Consumes the address at fields[at]; returns the index behind it, 0 if it is none. */
static size_t hba_address(const struct hba_line *line, size_t at)
{
    char text[256];
    int bits, mask_bits;
    if (at >= line->count || strlen(line->fields[at]) >= sizeof text)
        return 0;
    snprintf(text, sizeof text, "%s", line->fields[at]);
    char *slash = strchr(text, '/');
    if (slash != NULL) {
        char *end;
        *slash = '\0';
        long length = strtol(slash + 1, &end, 10);
        return is_ip(text, &bits) && isdigit((unsigned char)slash[1]) && *end == '\0' &&
                       length <= bits
                   ? at + 1
                   : 0;
    }
    if (is_ip(text, &bits)) /* needs a mask of the same kind beside it */
        return at + 1 < line->count && is_ip(line->fields[at + 1], &mask_bits) && bits == mask_bits
                   ? at + 2
                   : 0;
    for (const char *c = text; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL)
            return 0;
    return at + 1; /* all, samehost, samenet, a host name or its suffix */
}

/* A field as a list of tokens: does one of them begin with '@' (a file) or name replication? Quoted
 * or not makes no difference here: nobody needs a database of that name. */
static bool hba_field_mentions(const char *field, const char *word)
{
    for (const char *at = field; *at != '\0';) {
        const char *end = at + strcspn(at, ",");
        const char *from = at + (*at == '"');
        size_t length = strcspn(from, "\",");
        if (word == NULL ? *from == '@'
                         : length == strlen(word) && strncasecmp(from, word, length) == 0)
            return true;
        at = *end == '\0' ? end : end + 1;
    }
    return false;
}

bool pgconf_hba_refused(const char *line, const char **reason)
{
    static const char *const types[] = {"local",     "host",       "hostssl",
                                        "hostnossl", "hostgssenc", "hostnogssenc"};
    static const char *const methods[] = {"trust",    "reject", "scram-sha-256", "md5",
                                          "password", "gss",    "ident",         "peer",
                                          "ldap",     "radius", "cert",          "pam"};
    struct hba_line parsed;

    *reason = "not an access rule: TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS]";
    if (!text_is_one_line(line) || strlen(line) + 2 > sizeof parsed.text) {
        *reason = "an access rule is one line of 1022 bytes at most";
        return true;
    }
    size_t length = strlen(line);
    if (length > 0 && line[length - 1] == '\\') {
        *reason = "a line that goes on in the next one is not taken";
        return true;
    }
    if (!hba_split(line, &parsed))
        return true;
    if (parsed.count == 0) /* a comment */
        return false;
    if (strncmp(parsed.fields[0], "include", 7) == 0) {
        *reason = "include lines could admit replication behind the agent's back; give the rules";
        return true;
    }
    if (!listed(types, OGEL_ARRAY_LEN(types), parsed.fields[0]) || parsed.count < 4)
        return true;
    if (hba_field_mentions(parsed.fields[1], "replication")) {
        *reason =
            "who may replicate is the fence, and the agent's alone; a tool that needs WAL may "
            "use archive_command";
        return true;
    }
    if (hba_field_mentions(parsed.fields[1], NULL) || hba_field_mentions(parsed.fields[2], NULL)) {
        *reason = "names out of a file (@…) are not taken; give them";
        return true;
    }
    size_t at = 3;
    if (strcmp(parsed.fields[0], "local") != 0 && (at = hba_address(&parsed, 3)) == 0) {
        *reason =
            "the address must be an address with a mask, a host name, all, samehost or samenet";
        return true;
    }
    if (at >= parsed.count || !listed(methods, OGEL_ARRAY_LEN(methods), parsed.fields[at])) {
        *reason = "unknown authentication method; scram-sha-256 is the one to take";
        return true;
    }
    for (at++; at < parsed.count; at++)
        if (strchr(parsed.fields[at], '=') == NULL) {
            *reason = "options behind the method have the form NAME=VALUE";
            return true;
        }
    return false;
}
