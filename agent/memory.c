#include "agent/memory.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/units.h"

#define MIB UINT64_C(1048576)
#define GIB UINT64_C(1073741824)

enum { PROC_FILE_MAX = 65536 };

static void lower_to_limit(const char *path, uint64_t *bytes)
{
    char *text = NULL;
    if (file_read(path, PROC_FILE_MAX, &text, NULL, NULL) != 0)
        return;
    /* "max" in v2; v1 says "no limit" by a number beyond any machine. */
    if (isdigit((unsigned char)text[0])) {
        uint64_t limit = strtoull(text, NULL, 10);
        if (limit > 0 && limit < *bytes)
            *bytes = limit;
    }
    free(text);
}

/* A limit may stand at each level. Inside a container the named path may not exist: the mount's own
 * root then is the container's. */
static void lower_to_hierarchy(const char *root, const char *mount, const char *cgroup,
                               const char *file, uint64_t *bytes)
{
    char level[PATH_MAX];
    char path[PATH_MAX + 64];
    snprintf(level, sizeof level, "%s", cgroup);
    for (;;) {
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s/%s", root, mount, level, file);
        lower_to_limit(path, bytes);
        char *slash = strrchr(level, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

/* Lines of /proc/self/cgroup: "0::/system.slice/x" (v2), "4:memory:/x" (v1). */
static void lower_to_cgroup(const char *root, char *text, uint64_t *bytes)
{
    char *line;
    while ((line = strsep(&text, "\n")) != NULL) {
        char *path = line;
        char *id = strsep(&path, ":");
        char *controllers = path == NULL ? NULL : strsep(&path, ":");
        if (path == NULL)
            continue;
        if (strcmp(id, "0") == 0) {
            lower_to_hierarchy(root, "", path, "memory.max", bytes);
            lower_to_hierarchy(root, "/unified", path, "memory.max", bytes);
        } else if (strcmp(controllers, "memory") == 0) {
            lower_to_hierarchy(root, "/memory", path, "memory.limit_in_bytes", bytes);
        }
    }
}

int memory_available(const char *root, uint64_t *bytes, struct err *err)
{
    static const char total[] = "MemTotal:";
    char path[PATH_MAX];
    char *text = NULL;
    unsigned long long kib = 0;

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (file_read(path, PROC_FILE_MAX, &text, NULL, err) != 0)
        return -1;
    const char *line = strstr(text, total);
    if (line == NULL || sscanf(line + sizeof total - 1, "%llu kB", &kib) != 1 || kib == 0) {
        free(text);
        return err_set(err, ERR_CORRUPT, "%s does not say MemTotal", path);
    }
    free(text);
    *bytes = kib * 1024;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    text = NULL;
    if (file_read(path, PROC_FILE_MAX, &text, NULL, NULL) == 0)
        lower_to_cgroup(root, text, bytes);
    free(text);
    return 0;
}

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    value = value < low ? low : value > high ? high : value;
    return value / MIB * MIB;
}

void memory_plan_make(uint64_t available_bytes, unsigned percent, unsigned max_connections,
                      struct memory_plan *plan)
{
    OGEL_CHECK(percent >= 1 && percent <= 100 && max_connections > 0);
    uint64_t budget = available_bytes * percent / 100;
    plan->available_bytes = available_bytes;
    plan->percent = percent;
    plan->shared_buffers_bytes = clamp(budget / 4, 16 * MIB, 16 * GIB);
    plan->effective_cache_size_bytes = clamp(budget / 4 * 3, 32 * MIB, 1024 * GIB);
    plan->maintenance_work_mem_bytes = clamp(budget / 16, 16 * MIB, GIB);
    plan->work_mem_bytes = clamp(budget / 4 / max_connections, 4 * MIB, 64 * MIB);
}

const char *memory_describe(const struct memory_plan *plan, char *buf, size_t size)
{
    char text[4][UNITS_TEXT_SIZE];
    snprintf(buf, size,
             "shared_buffers %s, effective_cache_size %s, maintenance_work_mem %s, work_mem %s "
             "(derived from %u %% of %llu MiB)",
             units_format_size((int64_t)plan->shared_buffers_bytes, text[0]),
             units_format_size((int64_t)plan->effective_cache_size_bytes, text[1]),
             units_format_size((int64_t)plan->maintenance_work_mem_bytes, text[2]),
             units_format_size((int64_t)plan->work_mem_bytes, text[3]), plan->percent,
             (unsigned long long)(plan->available_bytes / MIB));
    return buf;
}
