/* GET /v1/snapshots: what a store holds, from a child that lists it. One at a time; the answer is
 * handed on as the child printed it, so that a long one does not hold the loop up. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/api_internal.h"
#include "agent/lane.h"
#include "agent/task_child.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/mem.h"

enum {
    LISTING_MS = 60000,
    LISTING_BYTES_MAX = 16 * 1024 * 1024, /* some twenty thousand snapshots */
    READ_MAX = 65536,
    /* of ogelctl */
    EXIT_USAGE = 2,
    EXIT_DAMAGED = 7,
    EXIT_STORE = 8,
};

struct listing {
    struct agent *agent;
    struct http_request *request; /* NULL: gone, or answered */
    struct task_child child;
    struct loop_watch *exit_watch, *output_watch;
    char *data;
    size_t used, room;
    bool too_long;
};

static void listing_free(struct listing *listing)
{
    listing->agent->listing = NULL;
    atomic_store(&listing->agent->listing_pid, 0);
    loop_watch_free(listing->exit_watch);
    loop_watch_free(listing->output_watch);
    free(listing->data);
    free(listing);
}

static void take_output(int fd, unsigned events, void *arg)
{
    struct listing *listing = arg;
    ssize_t n;

    (void)events;
    if (listing->room - listing->used < READ_MAX) {
        listing->room = 2 * listing->room + READ_MAX;
        listing->data = xreallocarray(listing->data, listing->room, 1);
    }
    n = read(fd, listing->data + listing->used, READ_MAX);
    if (n > 0)
        listing->used += (size_t)n;
    if (listing->used > LISTING_BYTES_MAX && !listing->too_long) {
        listing->too_long = true;
        task_child_signal(&listing->child, true);
    }
    if (n == 0 || listing->too_long || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        loop_watch_free(listing->output_watch);
        listing->output_watch = NULL;
    }
}

static void answer_failure(struct listing *listing, int code, const char *how)
{
    const char *text = listing->data ? listing->data : "";
    size_t length = listing->used < 400 ? listing->used : 400;
    struct err err = {0};

    while (length > 0 && text[length - 1] == '\n')
        length--;
    if (listing->too_long)
        err_set(&err, ERR_INVALID, "the store holds more than can be listed at once");
    else if (length == 0)
        err_set(&err, ERR_INTERNAL, "ogelctl snapshot list ended (%s)", how);
    else
        err_set(&err,
                code == EXIT_STORE   ? ERR_UNAVAILABLE
                : code == EXIT_USAGE ? ERR_INVALID
                                     : ERR_REFUSED,
                "%.*s", (int)length, text);
    http_respond_problem_with(listing->request, 502, NULL,
                              json_pack("{s:{s:s,s:o}}", "error", "code", err_code_name(err.code),
                                        "text", json_text(err.text)),
                              "the store cannot be listed: %s", err.text);
}

static void exited(int fd, unsigned events, void *arg)
{
    struct listing *listing = arg;
    char how[64];
    int code;

    (void)fd;
    (void)events;
    for (int i = 0; i < 2 && listing->output_watch; i++)
        take_output(listing->child.output, LOOP_READ, listing);
    loop_watch_free(listing->exit_watch);
    loop_watch_free(listing->output_watch);
    listing->exit_watch = listing->output_watch = NULL;
    code = task_child_reap(&listing->child, how, sizeof how);
    if (!listing->request) {
        /* nobody waits any more */
    } else if ((code == 0 || code == EXIT_DAMAGED) && listing->used > 0 && !listing->too_long &&
               listing->data[0] == '[') {
        /* damaged ones are listed as such */
        http_respond_take(listing->request, 200, "application/json", listing->data, listing->used);
        listing->data = NULL;
    } else {
        answer_failure(listing, code, how);
    }
    listing_free(listing);
}

static void gave_up(struct http_request *request, enum http_wake why, void *arg)
{
    struct listing *listing = arg;

    listing->request = NULL;
    if (why == HTTP_WAKE_DEADLINE)
        http_respond_problem(request, 504, NULL, "the store was not listed within %d s",
                             LISTING_MS / 1000);
    task_child_signal(&listing->child, true);
}

void snapshots_get(struct http_request *request, void *arg)
{
    struct agent *agent = arg;
    const char *store = http_request_query(request, "store");
    struct listing *listing;
    struct err err = {0};

    if (!store || store[0] == '\0') {
        http_respond_problem(request, 400, NULL, "store: which one?");
    } else if (strlen(store) >= TASK_STORE_SIZE || task_store_check(store, &err) < 0) {
        http_respond_problem(request, 400, NULL, "%s", err.text[0] ? err.text : "store: too long");
    } else if (agent->listing || agent->quitting) {
        http_respond_problem(request, 503, NULL, "another listing is under way: ask again");
    } else {
        listing = xcalloc(1, sizeof *listing);
        *listing = (struct listing){.agent = agent, .request = request};
        agent->listing = listing;
        if (task_child_list(&agent->config, store, &listing->child, &err) < 0) {
            http_respond_problem(request, 500, NULL, "%s", err.text);
            listing_free(listing);
            return;
        }
        atomic_store(&agent->listing_pid, listing->child.pid);
        listing->exit_watch = loop_watch_pidfd(agent->loop, listing->child.pidfd, exited, listing);
        listing->output_watch = loop_watch_new(agent->loop, listing->child.output, LOOP_READ,
                                               take_output, listing);
        http_suspend(request, LISTING_MS, gave_up, listing);
    }
}

void listing_stop(struct agent *agent)
{
    if (!agent->listing)
        return;
    task_child_signal(&agent->listing->child, true);
    listing_free(agent->listing);
}
