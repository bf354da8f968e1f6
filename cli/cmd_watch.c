#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/view.h"

enum { INTERVAL_MS = 1000, LOOK_TIMEOUT_MS = 3000 };

static const struct arg_row options[] = {
    {"interval", 0, "DURATION", "How often to look (default 1s).", NULL, false},
    {0},
};

/* All clusters that are meant, as text; an error as text too: whoever watches waits for its end. */
static char *picture(struct ctl *ctl)
{
    char *text = NULL, *path;
    json_t *answer = NULL, *cluster;
    struct err err = {0};
    size_t size, i;
    FILE *out = open_memstream(&text, &size);

    OGEL_CHECK(out != NULL);
    path = ctl->cluster[0] != '\0' ? client_cluster_path(ctl, "") : xstrdup("/v1/clusters");
    if (client_get(ctl, path, &answer, &err) != CTL_OK)
        fprintf(out, "ogelctl: %s\n", err.text);
    else if (ctl->cluster[0] != '\0')
        view_print_cluster(answer, out, ctl->color_out);
    json_array_foreach(json_object_get(answer, "clusters"), i, cluster)
    {
        if (i > 0)
            fputc('\n', out);
        view_print_cluster(cluster, out, ctl->color_out);
    }
    OGEL_CHECK(fclose(out) == 0);
    json_decref(answer);
    free(path);
    return text;
}

static void show(const char *text, const char *last, bool terminal)
{
    char now[CLOCK_ISO8601_SIZE];

    clock_format_iso8601(clock_wall_ms(), now);
    if (terminal)
        printf("\033[H\033[J%s  every moment anew; Ctrl-C ends it\n\n%s", now, text);
    else if (last == NULL || strcmp(text, last) != 0)
        printf("%s\n%s\n", now, text);
    fflush(stdout);
}

static enum ctl_exit run(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *given = args_value(args, "interval");
    int64_t interval_ms = INTERVAL_MS;
    bool terminal = isatty(STDOUT_FILENO);
    struct timespec pause;
    char *last = NULL;

    if (given != NULL &&
        (units_parse_duration(given, &interval_ms, err) < 0 || interval_ms < 100)) {
        err_set(err, ERR_INVALID, "option \"--interval\": \"%s\" (allowed: 100ms and more)", given);
        return CTL_USAGE;
    }
    if (!ctl->timeout_given)
        ctl->timeout_ms = LOOK_TIMEOUT_MS;
    pause.tv_sec = interval_ms / 1000;
    pause.tv_nsec = interval_ms % 1000 * 1000000;
    while (true) {
        char *text = picture(ctl);

        show(text, last, terminal);
        free(last);
        last = text;
        nanosleep(&pause, NULL);
    }
}

const struct ctl_command cmd_watch = {
    .name = "watch",
    .arguments = "[--interval DURATION]",
    .summary = "show the status again and again",
    .description =
        "Shows what status shows until it is stopped: on a terminal in place, elsewhere each "
        "time something has changed. It goes on when no orchestrator answers.",
    .options = options,
    .run = run,
};
