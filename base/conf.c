#include "base/conf.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/secret.h"

#define MAX_FILE_BYTES (1u << 20)
#define MAX_DEPTH      32
#define MAX_NODES      20000
#define MAX_NAME       256

enum kind { SCALAR, MAP, LIST };

struct conf_node {
    enum kind kind;
    int line, column;
    const char *file; /* owned by the root */
    const struct conf_node *parent;
    char *key;    /* in a map; NULL otherwise */
    size_t index; /* in the parent */
    char *text;   /* SCALAR */
    bool empty;   /* SCALAR: nothing, ~ or null, without quotes */
    struct conf_node **items;
    size_t len, room;
};

/* --- errors --------------------------------------------------------------------------------- */

/* "clusters[0].nodes[2].agent" at the end of BUF; returns where it starts. What does not fit is cut
 * off in front. */
static const char *node_name(const struct conf_node *node, const char *suffix, char buf[MAX_NAME])
{
    char piece[MAX_NAME];
    char *start = buf + MAX_NAME - 1;

    *start = '\0';
    snprintf(piece, sizeof(piece), "%s", suffix != NULL ? suffix : "");
    for (;; node = node->parent) {
        size_t len = strlen(piece);

        if (len > (size_t)(start - buf))
            return start;
        start -= len;
        memcpy(start, piece, len);
        if (node == NULL || node->parent == NULL)
            return *start == '.' ? start + 1 : start;
        /* A dot before whatever follows, but a list's index. */
        if (start > buf && *start != '\0' && *start != '[' && *start != '.')
            *--start = '.';
        if (node->key != NULL)
            snprintf(piece, sizeof(piece), ".%.*s", MAX_NAME / 2, node->key);
        else
            snprintf(piece, sizeof(piece), "[%zu]", node->index);
    }
}

static int option_error(const struct conf_node *where, const char *suffix, struct err *err,
                        const char *fmt, ...) OGEL_PRINTF(4, 5);

/* WHERE gives the line; SUFFIX (may be NULL) names an option below it that is not in the file. */
static int option_error(const struct conf_node *where, const char *suffix, struct err *err,
                        const char *fmt, ...)
{
    char name[MAX_NAME], text[sizeof(err->text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_set(err, ERR_INVALID, "%s:%d: option \"%s\": %s", where->file, where->line,
                   node_name(where, suffix, name), text);
}

int conf_error(const struct conf_node *node, struct err *err, const char *fmt, ...)
{
    char text[sizeof(err->text)];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return option_error(node, NULL, err, "%s", text);
}

/* --- the tree ------------------------------------------------------------------------------- */

struct reader {
    yaml_parser_t parser;
    const char *file, *data;
    size_t nodes;
    struct err *err;
};

void conf_free(struct conf_node *node)
{
    if (node == NULL)
        return;
    for (size_t i = 0; i < node->len; i++)
        conf_free(node->items[i]);
    if (node->parent == NULL)
        free((char *)node->file);
    free(node->items);
    free(node->key);
    free(node->text);
    free(node);
}

static int syntax_error(struct reader *in, size_t line, const char *what)
{
    return err_set(in->err, ERR_INVALID, "%s:%zu: %s", in->file, line + 1, what);
}

/* The next event, which the caller deletes. */
static int next_event(struct reader *in, yaml_event_t *event)
{
    const yaml_parser_t *parser = &in->parser;
    char what[256];
    size_t line;

    if (yaml_parser_parse(&in->parser, event))
        return 0;
    if (parser->error == YAML_MEMORY_ERROR)
        die("out of memory for a configuration file");
    line = parser->problem_mark.line;
    if (parser->error == YAML_READER_ERROR) { /* it reads ahead and knows the offset only */
        line = 0;
        for (size_t i = 0; i < parser->problem_offset; i++)
            line += in->data[i] == '\n';
    }
    snprintf(what, sizeof(what), "is not valid YAML: %s%s%s",
             parser->problem != NULL ? parser->problem : "unknown error",
             parser->context != NULL ? ", " : "", parser->context != NULL ? parser->context : "");
    return syntax_error(in, line, what);
}

static int check_plain(struct reader *in, const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    size_t line = event->start_mark.line;

    if (event->type == YAML_ALIAS_EVENT)
        return syntax_error(in, line, "aliases (*name) are not supported: write the value again");
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
            return syntax_error(in, line, "a text must not contain a NUL character");
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (anchor != NULL)
        return syntax_error(in, line, "anchors (&name) are not supported: write the value again");
    if (tag != NULL)
        return syntax_error(in, line, "tags (!name) are not supported: write a plain value");
    return 0;
}

static struct conf_node *new_node(struct reader *in, const yaml_event_t *event,
                                  struct conf_node *parent)
{
    struct conf_node *node = xcalloc(1, sizeof(*node));

    in->nodes++;
    node->file = in->file;
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    node->parent = parent;
    return node;
}

static void append(struct conf_node *parent, struct conf_node *node)
{
    if (parent->len == parent->room) {
        parent->room = parent->room > 0 ? 2 * parent->room : 8;
        parent->items = xreallocarray(parent->items, parent->room, sizeof(struct conf_node *));
    }
    node->index = parent->len;
    parent->items[parent->len++] = node;
}

static int read_items(struct reader *in, struct conf_node *parent, int depth);

/* Fills NODE from EVENT, its first one, and from those that belong to it. */
static int read_value(struct reader *in, const yaml_event_t *event, struct conf_node *node,
                      int depth)
{
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL"};
    const char *text;

    if (check_plain(in, event) < 0)
        return -1;
    if (in->nodes > MAX_NODES)
        return syntax_error(in, event->start_mark.line,
                            "has too much in it (allowed: 20000 values)");
    if (event->type == YAML_SCALAR_EVENT) {
        text = (const char *)event->data.scalar.value;
        node->kind = SCALAR;
        node->text = xstrdup(text);
        for (size_t i = 0; i < OGEL_ARRAY_LEN(nothing); i++)
            if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !strcmp(text, nothing[i]))
                node->empty = true;
        return 0;
    }
    node->kind = event->type == YAML_MAPPING_START_EVENT ? MAP : LIST;
    if (depth >= MAX_DEPTH)
        return syntax_error(in, event->start_mark.line, "is nested too deep (allowed: 32 levels)");
    return read_items(in, node, depth + 1);
}

static int check_key(struct reader *in, const struct conf_node *map, const yaml_event_t *event)
{
    const struct conf_node *same;
    char what[256];
    const char *key;

    if (check_plain(in, event) < 0)
        return -1;
    if (event->type != YAML_SCALAR_EVENT || event->data.scalar.length == 0)
        return syntax_error(in, event->start_mark.line, "an option's name must be a plain text");
    key = (const char *)event->data.scalar.value;
    same = conf_child(map, key);
    if (same == NULL)
        return 0;
    snprintf(what, sizeof(what), "stands here twice, first on line %d (allowed: once)", same->line);
    return err_set(in->err, ERR_INVALID, "%s:%zu: option \"%.64s\": %s", in->file,
                   event->start_mark.line + 1, key, what);
}

static int read_items(struct reader *in, struct conf_node *parent, int depth)
{
    for (;;) {
        struct conf_node *node;
        yaml_event_t event;
        char *key = NULL;
        bool end;
        int rc = 0;

        if (next_event(in, &event) < 0)
            return -1;
        end = event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT;
        if (!end && parent->kind == MAP) {
            rc = check_key(in, parent, &event);
            if (rc == 0)
                key = xstrdup((const char *)event.data.scalar.value);
            yaml_event_delete(&event);
            if (rc < 0 || next_event(in, &event) < 0) {
                free(key);
                return -1;
            }
        }
        if (!end) {
            node = new_node(in, &event, parent);
            node->key = key;
            append(parent, node);
            rc = read_value(in, &event, node, depth);
        }
        yaml_event_delete(&event);
        if (end || rc < 0)
            return rc;
    }
}

/* Stream start, at most one document, stream end. */
static int read_stream(struct reader *in, struct conf_node *root)
{
    bool seen = false;

    for (;;) {
        yaml_event_t event;
        int rc = 0;
        bool end;

        if (next_event(in, &event) < 0)
            return -1;
        end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT && seen) {
            rc = syntax_error(in, event.start_mark.line, "has a second document (allowed: one)");
        } else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_END_EVENT &&
                   event.type != YAML_DOCUMENT_START_EVENT && !end) {
            seen = true;
            root->line = (int)event.start_mark.line + 1;
            rc = read_value(in, &event, root, 0);
            if (rc == 0 && root->kind == SCALAR && root->empty)
                root->kind = MAP;
            if (rc == 0 && root->kind != MAP)
                rc = syntax_error(in, event.start_mark.line,
                                  "has no options (allowed: lines like `name: value`)");
        }
        yaml_event_delete(&event);
        if (end || rc < 0)
            return rc;
    }
}

int conf_parse(const char *name, const char *data, size_t len, struct conf_node **root,
               struct err *err)
{
    struct reader in = {.file = xstrdup(name), .data = data, .err = err};
    struct conf_node *node = xcalloc(1, sizeof(*node));
    int rc;

    *root = NULL;
    *node = (struct conf_node){.kind = MAP, .line = 1, .column = 1, .file = in.file};
    if (len > MAX_FILE_BYTES) {
        conf_free(node);
        return err_set(err, ERR_INVALID, "%s:1: is too big (allowed: 1 MiB)", name);
    }
    if (!yaml_parser_initialize(&in.parser))
        die("out of memory for a configuration file");
    yaml_parser_set_encoding(&in.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&in.parser, (const unsigned char *)data, len);
    rc = read_stream(&in, node);
    yaml_parser_delete(&in.parser);
    if (rc < 0)
        conf_free(node);
    else
        *root = node;
    return rc;
}

int conf_load(const char *path, struct conf_node **root, struct err *err)
{
    char *data;
    size_t len;
    int rc;

    *root = NULL;
    if (file_read(path, MAX_FILE_BYTES, &data, &len, err) < 0)
        return err_context(err, "configuration file");
    rc = conf_parse(path, data, len, root, err);
    free(data);
    return rc;
}

const struct conf_node *conf_child(const struct conf_node *node, const char *key)
{
    if (node == NULL || node->kind != MAP)
        return NULL;
    for (size_t i = 0; i < node->len; i++)
        if (strcmp(node->items[i]->key, key) == 0)
            return node->items[i];
    return NULL;
}

size_t conf_list_len(const struct conf_node *node)
{
    return node != NULL && node->kind == LIST ? node->len : 0;
}

const struct conf_node *conf_list_item(const struct conf_node *node, size_t index)
{
    return index < conf_list_len(node) ? node->items[index] : NULL;
}

size_t conf_map_len(const struct conf_node *node)
{
    return node != NULL && node->kind == MAP ? node->len : 0;
}

const struct conf_node *conf_map_entry(const struct conf_node *node, size_t index, const char **key)
{
    if (index >= conf_map_len(node))
        return NULL;
    *key = node->items[index]->key;
    return node->items[index];
}

const char *conf_string(const struct conf_node *node)
{
    return node != NULL && node->kind == SCALAR ? node->text : NULL;
}

int conf_line(const struct conf_node *node)
{
    return node->line;
}

int conf_column(const struct conf_node *node)
{
    return node->column;
}

/* --- one value ------------------------------------------------------------------------------ */

static int in_range(const struct opt *opt, int64_t value, struct err *err)
{
    char low[UNITS_TEXT_SIZE], high[UNITS_TEXT_SIZE], is[UNITS_TEXT_SIZE];
    bool size = opt->type == OPT_SIZE;

    if ((opt->min == 0 && opt->max == 0) || (value >= opt->min && value <= opt->max))
        return 0;
    return err_set(err, ERR_INVALID, "%s is out of range (allowed: %s to %s)",
                   size ? units_format_size(value, is) : units_format_duration(value, is),
                   size ? units_format_size(opt->min, low) : units_format_duration(opt->min, low),
                   size ? units_format_size(opt->max, high)
                        : units_format_duration(opt->max, high));
}

static int parse_bool(const char *text, bool *value, struct err *err)
{
    static const char *const names[] = {"false", "true", "off", "on", "no", "yes"};

    for (size_t i = 0; i < OGEL_ARRAY_LEN(names); i++) {
        if (strcasecmp(text, names[i]) == 0) {
            *value = i % 2 == 1;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID,
                   "\"%.40s\" is neither true nor false (allowed: true, false, on, off, yes, no)",
                   text);
}

static int parse_enum(const struct opt *opt, const char *text, int *value, struct err *err)
{
    char allowed[256] = "";

    for (int i = 0; opt->choices[i] != NULL; i++) {
        size_t used = strlen(allowed);

        if (strcmp(text, opt->choices[i]) == 0) {
            *value = i;
            return 0;
        }
        snprintf(allowed + used, sizeof(allowed) - used, "%s%s", i > 0 ? ", " : "",
                 opt->choices[i]);
    }
    return err_set(err, ERR_INVALID, "\"%.40s\" is not known (allowed: %s)", text, allowed);
}

static int parse_text(const struct opt *opt, const char *text, char **value, struct err *err)
{
    int64_t len = (int64_t)strlen(text), max = opt->max > 0 ? opt->max : 1024;

    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return err_set(err, ERR_INVALID,
                           "has a control character (allowed: one line of plain text)");
    if (opt->type == OPT_PATH) {
        if (text[0] != '/' || len >= PATH_MAX)
            return err_set(err, ERR_INVALID, "\"%.80s\" is no absolute path (allowed: /…)", text);
    } else if (len < opt->min || len > max) {
        return err_set(err, ERR_INVALID,
                       "has %" PRId64 " characters (allowed: %" PRId64 " to %" PRId64 ")", len,
                       opt->min, max);
    }
    free(*value);
    *value = xstrdup(text);
    return 0;
}

/* TEXT into the field. The error's text says only what is wrong and what is allowed. */
static int parse_value(const struct opt *opt, const char *text, void *target, struct err *err)
{
    void *field = (char *)target + opt->offset;
    int64_t number;

    switch (opt->type) {
    case OPT_STRING:
    case OPT_PATH: return parse_text(opt, text, field, err);
    case OPT_BOOL: return parse_bool(text, field, err);
    case OPT_ENUM: return parse_enum(opt, text, field, err);
    case OPT_ADDRESS: return units_parse_address(text, 0, field, err);
    case OPT_INT: {
        bool unbounded = opt->min == 0 && opt->max == 0;

        return units_parse_int(text, opt->min, unbounded ? INT64_MAX : opt->max, field, err);
    }
    case OPT_DURATION:
        if (units_parse_duration(text, &number, err) < 0 || in_range(opt, number, err) < 0)
            return -1;
        break;
    case OPT_SIZE:
        if (units_parse_size(text, &number, err) < 0 || in_range(opt, number, err) < 0)
            return -1;
        break;
    case OPT_MAP:
    case OPT_LIST:
    default: die("option \"%s\" has no value", opt->name);
    }
    *(int64_t *)field = number;
    return 0;
}

/* --- a table -------------------------------------------------------------------------------- */

/* Levenshtein distance, for names up to 63 bytes. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], len = strlen(b);

    if (len >= 64 || strlen(a) >= 64)
        return SIZE_MAX;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; *a != '\0'; a++, i++) {
        size_t corner = row[0];

        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = corner + (*a != b[j - 1]);

            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

static int unknown_option(const struct conf_node *node, const struct opt *table, struct err *err)
{
    const char *nearest = NULL;
    size_t best = strlen(node->key) / 2 + 1;
    char allowed[256] = "";

    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        size_t used = strlen(allowed), d = distance(node->key, opt->name);

        if (d < best) {
            best = d;
            nearest = opt->name;
        }
        snprintf(allowed + used, sizeof(allowed) - used, "%s%s", opt != table ? ", " : "",
                 opt->name);
    }
    if (nearest == NULL)
        return option_error(node, NULL, err, "is unknown (allowed: %s)", allowed);
    return option_error(node, NULL, err, "is unknown, did you mean \"%s\"? (allowed: %s)", nearest,
                        allowed);
}

static int check_list(const struct opt *opt, const struct conf_node *node, struct err *err)
{
    int64_t max = opt->max > 0 ? opt->max : MAX_NODES;

    if (node->kind != LIST && !node->empty)
        return option_error(node, NULL, err,
                            "is no list (allowed: a list, lines that begin with -)");
    if ((int64_t)node->len < opt->min || (int64_t)node->len > max ||
        ((opt->flags & OPT_REQUIRED) && node->len == 0))
        return option_error(node, NULL, err, "has %zu items (allowed: %" PRId64 " to %" PRId64 ")",
                            node->len, opt->min > 0 ? opt->min : (opt->flags & OPT_REQUIRED) != 0,
                            max);
    for (size_t i = 0; i < node->len; i++) {
        if (opt->table != NULL && node->items[i]->kind != MAP)
            return option_error(node->items[i], NULL, err,
                                "has no options (allowed: `%s: …` and so on)", opt->table->name);
        if (opt->table == NULL && (node->items[i]->kind != SCALAR || node->items[i]->empty))
            return option_error(node->items[i], NULL, err, "is no plain text (allowed: one value)");
    }
    return 0;
}

static int apply_scalar(const struct opt *opt, const struct conf_node *node, void *target,
                        struct err *err)
{
    struct err why;

    if (node->kind != SCALAR)
        return option_error(node, NULL, err, "is a %s (allowed: one value)",
                            node->kind == MAP ? "map" : "list");
    if (node->empty)
        return option_error(node, NULL, err,
                            "has no value (allowed: a value, or leave the line out)");
    if (parse_value(opt, node->text, target, &why) == 0 &&
        (!(opt->flags & OPT_SECRET_FILE) || secret_check_file(node->text, &why) == 0))
        return 0;
    return option_error(node, NULL, err, "%s", why.text);
}

static void set_defaults(const struct opt *table, void *target)
{
    struct err why;

    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        if (opt->type == OPT_MAP)
            set_defaults(opt->table, (char *)target + opt->offset);
        else if (opt->dflt != NULL && parse_value(opt, opt->dflt, target, &why) < 0)
            die("default of option \"%s\": %s", opt->name, why.text);
    }
}

/* The map NODE, or an absent one (NULL) called SUFFIX below WHERE. */
static int apply_map(const struct conf_node *node, const struct conf_node *where,
                     const char *suffix, const struct opt *table, void *target, struct err *err)
{
    for (size_t i = 0; i < conf_map_len(node); i++) {
        const struct opt *opt = table;

        while (opt->name != NULL && strcmp(opt->name, node->items[i]->key) != 0)
            opt++;
        if (opt->name == NULL)
            return unknown_option(node->items[i], table, err);
    }
    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        const struct conf_node *child = conf_child(node, opt->name);
        char below[MAX_NAME];
        int rc = 0;

        snprintf(below, sizeof(below), "%s%s%s", suffix, *suffix != '\0' ? "." : "", opt->name);
        if (opt->type == OPT_MAP) {
            if (child != NULL && child->kind != MAP && !child->empty)
                return option_error(child, NULL, err, "is no map (allowed: `%s: …` and so on)",
                                    opt->table->name);
            rc = apply_map(child, child != NULL ? child : where, child != NULL ? "" : below,
                           opt->table, (char *)target + opt->offset, err);
        } else if (child == NULL) {
            if (opt->flags & OPT_REQUIRED)
                return option_error(where, below, err, "is required (allowed: %s)",
                                    opt->sample != NULL ? opt->sample : opt->help);
        } else if (opt->type == OPT_LIST) {
            rc = check_list(opt, child, err);
        } else {
            rc = apply_scalar(opt, child, target, err);
        }
        if (rc < 0)
            return -1;
    }
    return 0;
}

int conf_apply(const struct conf_node *node, const struct opt *table, void *target, struct err *err)
{
    OGEL_CHECK(node != NULL);
    if (node->kind != MAP)
        return option_error(node, NULL, err, "has no options (allowed: `%s: …` and so on)",
                            table->name);
    set_defaults(table, target);
    if (apply_map(node, node, "", table, target, err) == 0)
        return 0;
    conf_release(table, target);
    return -1;
}

void conf_release(const struct opt *table, void *target)
{
    for (const struct opt *opt = table; opt->name != NULL; opt++) {
        char *at = (char *)target + opt->offset;

        if (opt->type == OPT_MAP) {
            conf_release(opt->table, at);
        } else if (opt->type == OPT_STRING || opt->type == OPT_PATH) {
            free(*(char **)at);
            *(char **)at = NULL;
        }
    }
}
