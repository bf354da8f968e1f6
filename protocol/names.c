#include "protocol/names.h"

#include <stddef.h>
#include <string.h>

const char *const role_names[] = {"none", "fenced", "leader", "follower", NULL};
const char *const pg_state_names[] = {"absent",   "down",    "starting", "up",
                                      "stopping", "crashed", NULL};
const char *const marker_names[] = {"none", "init", "clone", "rewind", "restore", NULL};
const char *const probe_verdict_names[] = {"unknown",  "primary", "standby", "refused",
                                           "starting", "silent",  "broken",  NULL};
const char *const job_kind_names[] = {"none", "restart", "reinit", NULL};
const char *const job_state_names[] = {"idle", "running", "done", "failed", NULL};

#define WORD(names, value)                                                                         \
    ((size_t)(value) < sizeof(names) / sizeof(*(names)) - 1 ? (names)[value] : "unknown")

const char *role_name(enum role role)
{
    return WORD(role_names, role);
}

const char *pg_state_name(enum pg_state state)
{
    return WORD(pg_state_names, state);
}

const char *marker_name(enum marker marker)
{
    return WORD(marker_names, marker);
}

const char *probe_verdict_name(enum probe_verdict verdict)
{
    return WORD(probe_verdict_names, verdict);
}

const char *job_kind_name(enum job_kind kind)
{
    return WORD(job_kind_names, kind);
}

const char *job_state_name(enum job_state state)
{
    return WORD(job_state_names, state);
}

/* Not ctype.h: what is a letter must not depend on a locale. */
static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t node_id_length(const char *text)
{
    size_t length = 0;

    if (!is_lower(text[0]))
        return 0;
    while (length < NODE_ID_SIZE && (is_lower(text[length]) || is_digit(text[length])))
        length++;
    return length < NODE_ID_SIZE ? length : 0;
}

bool node_id_valid(const char *id)
{
    size_t length = node_id_length(id);

    return length > 0 && id[length] == '\0';
}

/* All return the new end of what is written; the longest name fits REPLICATION_NAME_SIZE. */
static char *put_bytes(char *at, const char *bytes, size_t length)
{
    memcpy(at, bytes, length);
    at[length] = '\0';
    return at + length;
}

static char *put_text(char *at, const char *text)
{
    return put_bytes(at, text, strlen(text));
}

static char *put_number(char *at, uint32_t number)
{
    char digits[10];
    size_t first = sizeof(digits);

    do {
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put_bytes(at, &digits[first], sizeof(digits) - first);
}

static char *put_role(char *at, const char *node_id, uint32_t incarnation)
{
    at = put_text(at, "ogel_");
    at = put_bytes(at, node_id, node_id_length(node_id));
    return put_number(put_text(at, "_i"), incarnation);
}

void replication_role(char out[REPLICATION_NAME_SIZE], const char *node_id, uint32_t incarnation)
{
    put_role(out, node_id, incarnation);
}

void replication_name(char out[REPLICATION_NAME_SIZE], const char *node_id, uint32_t incarnation,
                      uint32_t generation, bool counted)
{
    char *at = put_role(out, node_id, incarnation);

    at = put_number(put_text(at, "_g"), generation);
    put_text(at, counted ? "" : "_x");
}

/* A number of 1 to UINT32_MAX as put_number() writes it: one name has one spelling. */
static bool take_number(const char **at, uint32_t *number)
{
    uint64_t value = 0;
    const char *text = *at;

    if (*text == '0')
        return false;
    for (; is_digit(*text) && value <= UINT32_MAX; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    if (value == 0 || value > UINT32_MAX)
        return false;
    *at = text;
    *number = (uint32_t)value;
    return true;
}

static bool take_text(const char **at, const char *text)
{
    size_t length = strlen(text);

    if (strncmp(*at, text, length) != 0)
        return false;
    *at += length;
    return true;
}

bool replication_name_parse(const char *name, char node_id[NODE_ID_SIZE], uint32_t *incarnation,
                            uint32_t *generation, bool *counted)
{
    uint32_t of_incarnation, of_generation;
    const char *id;
    size_t id_length;
    bool is_counted;

    if (!take_text(&name, "ogel_"))
        return false;
    id = name;
    id_length = node_id_length(name);
    name += id_length;
    if (id_length == 0 || !take_text(&name, "_i") || !take_number(&name, &of_incarnation) ||
        !take_text(&name, "_g") || !take_number(&name, &of_generation))
        return false;
    is_counted = !take_text(&name, "_x");
    if (*name != '\0')
        return false;

    memcpy(node_id, id, id_length);
    node_id[id_length] = '\0';
    *incarnation = of_incarnation;
    *generation = of_generation;
    *counted = is_counted;
    return true;
}
