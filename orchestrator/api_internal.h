/* What the files of the orchestrator's HTTP API share. Internal to it. */
#ifndef OGEL_ORCHESTRATOR_API_INTERNAL_H
#define OGEL_ORCHESTRATOR_API_INTERNAL_H

#include "base/http_server.h"
#include "orchestrator/cluster.h"

enum { API_WHO_SIZE = 200 };

/* By the path's {name}. Answers 404 itself and returns NULL. */
struct cluster *api_find_cluster(struct http_request *request, struct orchestrator *orchestrator);

/* Who asks: what the client says of its user, and what is proved: the token's name and the address.
 */
void api_who_asks(struct http_request *request, char who[API_WHO_SIZE]);

/* The body as an object; an empty one is {}. Answers 400 itself and returns NULL. */
json_t *api_read_body(struct http_request *request, const char *const *fields);

/* Answers 400 with what is wrong, frees the body and returns false. */
bool api_bad_field(struct http_request *request, json_t *body, const struct err *err);

/* An optional field that names a node; NODE_NONE where it is missing. Answers itself, frees the
 * body and returns false when it names none. */
bool api_read_target(struct http_request *request, struct cluster *cluster, json_t *body,
                     const char *field, int32_t *slot);

/* snapshot_api.c */
extern const struct http_route snapshot_routes[];
extern const size_t snapshot_route_count;

#endif
