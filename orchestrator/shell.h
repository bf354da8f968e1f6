/*
 * Small pieces that the files of the orchestrator's shell share; see cluster.h for the large ones.
 */
#ifndef OGEL_ORCHESTRATOR_SHELL_H
#define OGEL_ORCHESTRATOR_SHELL_H

#include <stddef.h>

#include "orchestrator/cluster.h"
#include "protocol/names.h"

/* "http://host:port" and path, for a call to the node's agent. */
void node_url(const struct node *node, const char *path, char *url, size_t size);

/* Cancels messages under way. */
void act_stop(struct cluster *cluster);

#endif
