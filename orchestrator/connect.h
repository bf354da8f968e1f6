/*
 * GET and POST /connect: where an application should connect now. Answered from the topology in
 * memory.
 */
#ifndef OGEL_ORCHESTRATOR_CONNECT_H
#define OGEL_ORCHESTRATOR_CONNECT_H

struct cluster;
struct http_request;

/* Handler of both methods; arg is the struct orchestrator. */
void connect_handle(struct http_request *request, void *arg);

/* Frees the answers that are kept for a cluster. */
void connect_forget(struct cluster *cluster);

#endif
