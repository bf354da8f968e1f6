/* Configuration: a YAML file read into a tree that knows file, line and column, and tables of
 * options that say what may stand there. The same table yields the sample file, --help and the man
 * page.
 *
 * Errors are ERR_INVALID (ERR_NOT_FOUND for a missing file) with a text of the form
 *     FILE:LINE: option "NAME": WHAT IS WRONG (allowed: WHAT IS ALLOWED)
 * where NAME is the path to the option, "clusters[0].nodes[2].agent". */
#ifndef OGEL_BASE_CONF_H
#define OGEL_BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/units.h"

/* And the type of the field at `offset`. */
enum opt_type {
    OPT_STRING,   /* char *, allocated; min and max bound its length (max 0: 1024) */
    OPT_INT,      /* int64_t */
    OPT_BOOL,     /* bool; true/false, on/off, yes/no */
    OPT_DURATION, /* int64_t milliseconds */
    OPT_SIZE,     /* int64_t bytes */
    OPT_ENUM,     /* int, index into choices */
    OPT_PATH,     /* char *, allocated, absolute */
    OPT_ADDRESS,  /* struct units_address */
    OPT_MAP,      /* `table` is applied to target + offset; absent = all its defaults */
    OPT_LIST,     /* of maps that `table` describes, or of plain texts without one */
};

enum opt_flag {
    OPT_REQUIRED = 1,    /* for a list: at least one item */
    OPT_RELOAD = 2,      /* a reload (SIGHUP) applies a new value */
    OPT_SECRET_FILE = 4, /* the file must exist and be private, see secret_check_file() */
};

/* One row; a table ends with a row whose name is NULL. */
struct opt {
    const char *name;
    enum opt_type type;
    size_t offset;
    const char *dflt; /* as it would stand in the file; NULL = 0, false, NULL, empty */
    int64_t min, max; /* INT, DURATION, SIZE; both 0 = 0..INT64_MAX. LIST: number of items */
    const char *const *choices; /* ENUM; ends with NULL */
    unsigned flags;
    const char *help;        /* one sentence */
    const char *sample;      /* what the sample file shows where there is no default */
    const struct opt *table; /* MAP, LIST */
};

struct conf_node;

/* Limits of a file: 1 MiB, 32 levels, 20000 nodes. Anchors, aliases, tags, several documents,
 * duplicate keys, and keys that are no plain text are refused. An empty file is an empty map. The
 * caller frees *ROOT with conf_free(); all other nodes belong to it. */
OGEL_MUST_CHECK int conf_load(const char *path, struct conf_node **root, struct err *err);
/* The same from memory; NAME stands for the file in errors. */
OGEL_MUST_CHECK int conf_parse(const char *name, const char *data, size_t len,
                               struct conf_node **root, struct err *err);
void conf_free(struct conf_node *root);

/* The value of KEY in a map; NULL if it is not there, or NODE is NULL or no map. */
const struct conf_node *conf_child(const struct conf_node *node, const char *key);
/* Items of a list; 0 and NULL for anything that is none. */
size_t conf_list_len(const struct conf_node *node);
const struct conf_node *conf_list_item(const struct conf_node *node, size_t index);
/* Entries of a map, in the order of the file, for maps whose keys are free (settings); 0 for
 * anything that is none. */
size_t conf_map_len(const struct conf_node *node);
const struct conf_node *conf_map_entry(const struct conf_node *node, size_t index,
                                       const char **key);
/* The text of a scalar, NULL for anything else. */
const char *conf_string(const struct conf_node *node);
int conf_line(const struct conf_node *node);   /* from 1 */
int conf_column(const struct conf_node *node); /* from 1 */

/* Fills ERR with `FILE:LINE: option "NAME": <text>` for a check of the caller's own; returns -1
 * always. */
int conf_error(const struct conf_node *node, struct err *err, const char *fmt, ...)
    OGEL_PRINTF(3, 4);

/* Checks the map NODE against TABLE and fills TARGET, defaults first. Unknown keys are errors with
 * the nearest name. Maps in the table are applied too; of a list it checks that it is a list of
 * maps and its length, and the caller goes on: const struct conf_node *list = conf_child(root,
 * "clusters"); for (size_t i = 0; i < conf_list_len(list); i++) conf_apply(conf_list_item(list, i),
 * cluster_options, &clusters[i], err); Whatever strings TARGET held are not freed: give it zeroed.
 * On failure TARGET holds nothing that must be freed. */
OGEL_MUST_CHECK int conf_apply(const struct conf_node *node, const struct opt *table, void *target,
                               struct err *err);

/* Frees the strings and paths that conf_apply() put into TARGET. */
void conf_release(const struct opt *table, void *target);

/* Printed from the tables: an annotated YAML file that conf_load() takes once the required values
 * are right; text for
 * --help; the OPTIONS of a man page in roff. */
void conf_print_sample(FILE *out, const struct opt *table);
void conf_print_help(FILE *out, const struct opt *table);
void conf_print_man(FILE *out, const struct opt *table);

#endif
