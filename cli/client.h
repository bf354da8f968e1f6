/* Calls to the orchestrators, one after the other until one answers. */
#ifndef OGEL_CLI_CLIENT_H
#define OGEL_CLI_CLIENT_H

#include <jansson.h>

#include "cli/cli.h"

/* TEXT as one segment of a path or one value of a query; the caller frees. */
char *client_encode(const char *text);

/* "/v1/clusters/NAME" and SUFFIX; the caller frees. */
char *client_cluster_path(const struct ctl *ctl, const char *suffix);

/* GET PATH. *answer is the caller's reference; NULL unless CTL_OK. An orchestrator that does not
 * answer in time is passed over for the next. */
enum ctl_exit client_get(struct ctl *ctl, const char *path, json_t **answer, struct err *err);

/* The same where the orchestrator itself may wait so long before it answers. */
enum ctl_exit client_get_waiting(struct ctl *ctl, const char *path, int64_t wait_ms,
                                 json_t **answer, struct err *err);

/* POST of BODY (borrowed, NULL: none). The next orchestrator is asked only where it is certain that
 * the last one has not carried it out; otherwise CTL_UNDECIDED. *answer is the caller's reference,
 * also of a refusal; NULL if there was none. */
enum ctl_exit client_post(struct ctl *ctl, const char *path, const json_t *body, json_t **answer,
                          struct err *err);

/* GET PATH as a stream of server-sent events, at the current orchestrator only: FN gets each piece
 * until it returns false or the connection ends (CTL_OK). */
typedef bool client_data_fn(void *arg, const char *data, size_t size);
enum ctl_exit client_stream(struct ctl *ctl, const char *path, client_data_fn *fn, void *arg,
                            struct err *err);

/* Makes the next orchestrator the current one. */
void client_next(struct ctl *ctl);

/* Fills ctl->cluster where it was not named: the only one there is. */
enum ctl_exit client_find_cluster(struct ctl *ctl, struct err *err);

#endif
