/* What people see of a cluster: the object of GET /v1/clusters/NAME, read and shown. */
#ifndef OGEL_CLI_VIEW_H
#define OGEL_CLI_VIEW_H

#include <jansson.h>
#include <stdio.h>

#include "cli/cli.h"

/* Fields of an object, whatever is in it: "" , false or OTHERWISE for one that is missing or of
 * another type. */
const char *view_text(const json_t *object, const char *name);
bool view_flag(const json_t *object, const char *name);
int64_t view_number(const json_t *object, const char *name, int64_t otherwise);

const json_t *view_node(const json_t *cluster, const char *id); /* borrowed; NULL: no such node */
const char *view_leader(const json_t *cluster);                 /* its id; "": none */
bool view_settled(const json_t *node); /* leads and runs, or streams with complete data */

/* The three ids, "n1, n2, n3", for advice. Returns BUF. */
const char *view_node_ids(const json_t *cluster, char buf[80]);

/* One cluster: what is wrong first, then a line for each node. */
void view_print_cluster(const json_t *cluster, FILE *out, bool color);

/* Why no failover is possible, one line each with what may be done, indented by two. */
void view_print_blockers(const json_t *cluster, FILE *out, bool color);

/* CTL_OK, CTL_DEGRADED or CTL_NOT_WRITABLE. */
enum ctl_exit view_health(const json_t *cluster);

#endif
