/* Actions that take a while: they ask first where they are dangerous, show progress, and say how
 * they ended. */
#ifndef OGEL_CLI_OPERATION_H
#define OGEL_CLI_OPERATION_H

#include <jansson.h>

#include "cli/cli.h"

/* Says TEXT (what will happen) on stderr and asks. CTL_OK to go on: answered with y, or --yes.
 * Without a terminal and without --yes, CTL_USAGE. */
enum ctl_exit operation_ask(const struct ctl *ctl, const char *text, struct err *err);

/* What is under way, on stderr: one line in place on a terminal, one line for each change
 * elsewhere. */
struct progress {
    const struct ctl *ctl;
    int64_t began_ms;
    char last[200];
    bool terminal;
    bool shown; /* a line stands on the terminal */
};

void progress_begin(struct progress *progress, const struct ctl *ctl);
void progress_show(struct progress *progress, const char *text);
void progress_end(struct progress *progress); /* clears the line */
double progress_seconds(const struct progress *progress);

/* The object of GET /v1/clusters/NAME; names the cluster where it was not. *cluster is the
 * caller's. */
enum ctl_exit operation_cluster(struct ctl *ctl, json_t **cluster, struct err *err);

/* POSTs to the cluster's path SUFFIX and shows meanwhile what happens to the cluster, and to NODE
 * (NULL: none). *answer as client_post(). A refusal's blockers are printed here. */
enum ctl_exit operation_post(struct ctl *ctl, struct progress *progress, const char *suffix,
                             const json_t *body, const char *node, json_t **answer,
                             struct err *err);

/* Looks at the cluster until DONE says so: CTL_OK, or CTL_UNDECIDED after TIMEOUT_MS with the last
 * it saw in err. DONE may end it with another code. */
enum wait { WAIT_ON, WAIT_DONE, WAIT_FAILED };
typedef enum wait operation_done_fn(const json_t *cluster, void *arg, struct err *err);
enum ctl_exit operation_wait(struct ctl *ctl, struct progress *progress, int64_t timeout_ms,
                             const char *node, operation_done_fn *done, void *arg, struct err *err);

/* Waits until a leader takes writes, and says who leads on stdout (-o json: the cluster). WHAT: "n2
 * leads" becomes "<what>: n2 leads generation 5 and takes writes (0.4 s)". */
enum ctl_exit operation_say_leader(struct ctl *ctl, struct progress *progress, const char *what,
                                   struct err *err);

/* Restarts or re-clones NODE (KIND: "restart", "reinit"; BODY: of that request, or NULL) and waits
 * until that is done and, for a follower, it streams again with complete data. */
enum ctl_exit operation_job(struct ctl *ctl, struct progress *progress, const char *node,
                            const char *kind, const json_t *body, int64_t timeout_ms,
                            struct err *err);

/* An answer as JSON on stdout. */
void print_json(const json_t *json);

#endif
