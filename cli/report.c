#include "cli/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/units.h"
#include "cli/args.h"

enum { FD_FIRST = 3, FD_MAX = 65535 };

int report_open(struct report *report, const struct args *args, struct err *err)
{
    const char *text = args_value(args, "progress-fd");
    int64_t fd;
    int flags;

    *report = (struct report){0};
    if (text == NULL)
        return 0;
    if (units_parse_int(text, FD_FIRST, FD_MAX, &fd, err) < 0)
        return err_context(err, "option \"--progress-fd\"");
    flags = fcntl((int)fd, F_GETFD);
    if (flags < 0 || fcntl((int)fd, F_SETFD, flags | FD_CLOEXEC) != 0 ||
        (report->out = fdopen((int)fd, "w")) == NULL)
        return err_set_errno(err, errno,
                             "option \"--progress-fd\": descriptor %d cannot be written", (int)fd);
    setvbuf(report->out, NULL, _IOLBF, 0);
    return 0;
}

bool report_wanted(const struct report *report)
{
    return report != NULL && report->out != NULL;
}

/* Takes over the reference. */
static void put_line(struct report *report, json_t *json)
{
    char *line = json_dump_line(json);

    json_decref(json);
    fprintf(report->out, "%s\n", line);
    fflush(report->out);
    free(line);
}

void report_progress(struct report *report, const struct snapshot_progress *progress)
{
    if (report_wanted(report))
        put_line(report, json_pack("{s:s,s:I,s:I,s:I}", "phase", progress->phase, "done_bytes",
                                   (json_int_t)progress->done_bytes, "total_bytes",
                                   (json_int_t)progress->total_bytes, "stored_bytes",
                                   (json_int_t)progress->stored_bytes));
}

void report_result(struct report *report, const json_t *result)
{
    if (!report_wanted(report))
        return;
    json_decref(report->result);
    report->result = json_deep_copy(result);
}

void report_snapshot(struct report *report, const struct manifest *manifest)
{
    double ratio = manifest->logical_bytes == 0
                       ? 0
                       : (double)manifest->stored_bytes / (double)manifest->logical_bytes;
    json_t *json;

    if (!report_wanted(report))
        return;
    json = manifest_json(manifest);
    json_object_del(json, "tablespaces");
    json_object_set_new(json, "ratio", json_real(ratio));
    report_result(report, json);
    json_decref(json);
}

void report_end(struct report *report, const struct err *err)
{
    json_t *result, *error = json_null();

    if (!report_wanted(report))
        return;
    result = report->result != NULL ? report->result : json_null();
    if (err->code != ERR_NONE)
        error = json_pack("{s:s,s:o}", "code", err_code_name(err->code), "text",
                          json_text(err->text));
    put_line(report, json_pack("{s:o,s:o}", "result", result, "error", error));
    fclose(report->out);
    *report = (struct report){0};
}
