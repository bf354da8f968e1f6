#include "cli/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/operation.h"
#include "cli/sse.h"
#include "cli/table.h"
#include "cli/view.h"

enum { LIMIT = 100, FOLLOW_LIMIT = 10, LIMIT_MAX = 2000, EVENT_DEPTH = 16, AGAIN_MS = 1000 };

static const struct arg_row options[] = {
    {"follow", 'f', NULL, "Go on with what happens from now on, until stopped.", NULL, false},
    {"since", 0, "WHEN",
     "Only what is newer: a duration back from now (2h), or a time "
     "(2026-02-03T04:05:06Z).",
     NULL, false},
    {"limit", 'n', "COUNT",
     "At most so many of the newest (default 100, with --follow 10; at most 2000).", NULL, false},
    {0},
};

struct events {
    struct ctl *ctl;
    char since[CLOCK_ISO8601_SIZE]; /* "": from the beginning */
    json_t *seen; /* identities of what was shown: another orchestrator tells the same again */
};

/* --- one event ------------------------------------------------------------------------------ */

static void print_event(const struct events *events, const json_t *event)
{
    const char *code = view_text(event, "reason"), *source = view_text(event, "source");
    const char *node = view_text(event, "node");
    int64_t generation = view_number(event, "generation", -1);
    const char *who = view_text(event, "who");
    char *line, in[32] = "-";

    if (events->ctl->json) {
        line = json_dump_line(event);
        puts(line);
        free(line);
        return;
    }
    if (generation >= 0)
        snprintf(in, sizeof(in), "g%" PRId64, generation);
    line = xasprintf("%-24s  %-5s  %-4s  %-4s  %s%s%s", view_text(event, "time"), in,
                     node[0] != '\0'    ? node
                     : source[0] != 'o' ? source
                                        : "-",
                     code[0] != '\0' ? code : "-", view_text(event, "text"),
                     who[0] != '\0' ? "; by " : "", who);
    style_print(stdout, events->ctl->color_out, code[0] == 'L' ? STYLE_WARN : STYLE_PLAIN, line);
    putchar('\n');
    free(line);
}

/* False when it was shown before. */
static bool is_new(struct events *events, const json_t *event)
{
    const json_t *run = json_object_get(event, "run");
    char *run_text = run != NULL ? json_dumps(run, JSON_ENCODE_ANY) : xstrdup("");
    char *key = xasprintf("%s/%s/%" PRId64, view_text(event, "source"), run_text,
                          view_number(event, "sequence", 0));
    bool fresh = json_object_get(events->seen, key) == NULL;

    json_object_set_new(events->seen, key, json_true());
    free(key);
    free(run_text);
    return fresh;
}

static bool is_wanted(const struct events *events, const json_t *event)
{
    /* ISO 8601 in UTC sorts as text */
    return strcmp(view_text(event, "time"), events->since) >= 0;
}

/* --- the list ------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    const json_t *const *x = a, *const *y = b;
    int order = strcmp(view_text(*x, "time"), view_text(*y, "time"));
    int64_t first = view_number(*x, "number", 0), second = view_number(*y, "number", 0);

    return order != 0 ? order : (first > second) - (first < second);
}

static void print_list(struct events *events, json_t *const *sorted, size_t count, bool lines)
{
    json_t *all = NULL, *list = json_array();

    for (size_t i = 0; i < count; i++) {
        if (events->ctl->json && !lines)
            json_array_append(list, sorted[i]);
        else
            print_event(events, sorted[i]);
    }
    all = json_pack("{s:o}", "events", list);
    if (events->ctl->json && !lines)
        print_json(all);
    json_decref(all);
}

/* Takes note of all there are and prints the newest LIMIT of those wanted. */
static enum ctl_exit list(struct events *events, int64_t limit, bool lines, struct err *err)
{
    char *suffix = xasprintf("/events?limit=%d", LIMIT_MAX);
    char *path = client_cluster_path(events->ctl, suffix);
    json_t *answer = NULL, *event, **sorted = NULL;
    enum ctl_exit rc = client_get(events->ctl, path, &answer, err);
    size_t i, count = 0, skip;

    if (rc == CTL_OK) {
        sorted = xcalloc(json_array_size(json_object_get(answer, "events")) + 1, sizeof(sorted[0]));
        json_array_foreach(json_object_get(answer, "events"), i, event)
        {
            if (is_new(events, event) && is_wanted(events, event))
                sorted[count++] = event;
        }
        qsort(sorted, count, sizeof(sorted[0]), by_time);
        skip = count > (size_t)limit ? count - (size_t)limit : 0;
        print_list(events, sorted + skip, count - skip, lines);
        fflush(stdout);
    }
    free(sorted);
    json_decref(answer);
    free(path);
    free(suffix);
    return rc;
}

/* --- the stream ----------------------------------------------------------------------------- */

static bool take_event(void *arg, const char *data)
{
    struct events *events = arg;
    json_t *event = NULL;

    if (json_parse_bounded(data, strlen(data), EVENT_DEPTH, &event, NULL) == 0 &&
        is_new(events, event) && is_wanted(events, event)) {
        print_event(events, event);
        fflush(stdout);
    }
    json_decref(event);
    return true;
}

static bool take_piece(void *arg, const char *data, size_t size)
{
    return sse_feed(arg, data, size);
}

/* Goes from one orchestrator to the next when a stream ends; each tells its history anew. */
static enum ctl_exit follow(struct events *events, struct err *err)
{
    const struct timespec pause = {.tv_sec = AGAIN_MS / 1000};
    struct sse sse = {.fn = take_event, .arg = events};
    char *path = client_cluster_path(events->ctl, "/events");
    bool told = false; /* of an interruption, once */
    enum ctl_exit rc;

    while (true) {
        struct err failure = {0};

        rc = client_stream(events->ctl, path, take_piece, &sse, &failure);
        sse_reset(&sse);
        if (failure.code == ERR_AUTH || failure.code == ERR_REFUSED) {
            *err = failure;
            break;
        }
        if (rc != CTL_OK && !told)
            fprintf(stderr, "ogelctl: %s; trying again\n", failure.text);
        told = rc != CTL_OK;
        client_next(events->ctl);
        nanosleep(&pause, NULL);
    }
    free(path);
    return rc;
}

/* --- the command ---------------------------------------------------------------------------- */

static int read_since(struct events *events, const char *text, struct err *err)
{
    int64_t ms, back_ms;

    if (text == NULL)
        return 0;
    if (units_parse_duration(text, &back_ms, NULL) == 0)
        ms = clock_wall_ms() - back_ms;
    else if (clock_parse_iso8601(text, &ms, NULL) < 0)
        return err_set(err, ERR_INVALID,
                       "option \"--since\": \"%s\" (allowed: a duration such as 2h, or "
                       "a time such as 2026-02-03T04:05:06Z)",
                       text);
    clock_format_iso8601(ms, events->since);
    return 0;
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *limit_text = args_value(args, "limit");
    bool following = args_given(args, "follow");
    struct events events = {.ctl = ctl};
    int64_t limit = following ? FOLLOW_LIMIT : LIMIT;
    enum ctl_exit rc;

    if (read_since(&events, args_value(args, "since"), err) < 0)
        return CTL_USAGE;
    if (events.since[0] != '\0')
        limit = LIMIT_MAX;
    if (limit_text != NULL && units_parse_int(limit_text, 0, LIMIT_MAX, &limit, err) < 0) {
        err_context(err, "option \"--limit\"");
        return CTL_USAGE;
    }
    rc = client_find_cluster(ctl, err);
    if (rc != CTL_OK)
        return rc;
    events.seen = json_object();
    rc = list(&events, limit, following, err);
    if (rc == CTL_OK && following)
        rc = follow(&events, err);
    json_decref(events.seen);
    return rc;
}

const struct ctl_command cmd_events = {
    .name = "events",
    .arguments = "[--follow] [--since WHEN] [--limit COUNT]",
    .summary = "show what happened, and why",
    .description = "The history of the cluster, merged from the agents' logs and the "
                   "orchestrator's: each decision "
                   "with its reason code, and what operators asked for, with who and when. Times "
                   "are UTC. g5 stands "
                   "for generation 5.\n\n"
                   "With --follow it goes on until stopped, and passes to another orchestrator "
                   "when one ends. With "
                   "-o json there is one object, or one a line when following.",
    .options = options,
    .run = run,
};
