#include "agent/permit.h"

#include <string.h>

bool permit_held(const struct permit *permit, int64_t now_ms)
{
    return permit->task[0] != '\0' && now_ms < permit->until_ms;
}

bool task_id_valid(const char *text)
{
    return strnlen(text, TASK_ID_SIZE) == TASK_ID_SIZE - 1 &&
           strspn(text, "0123456789abcdef") == TASK_ID_SIZE - 1;
}

static bool is_holder(const struct permit *permit, const struct permit_request *request)
{
    return strcmp(permit->task, request->task) == 0 && permit->node == request->node;
}

enum permit_verdict permit_ask(struct permit *permit, const struct permit_request *request,
                               const struct permit_leader *leader, int64_t now_ms)
{
    if (request->state == PERMIT_ENDED) {
        /* also at one that leads no longer: nobody else holds it then */
        if (is_holder(permit, request))
            permit->task[0] = '\0';
        return PERMIT_GIVEN;
    }
    if (!leader->leads)
        return PERMIT_NO_LEADER;
    if (request->generation != leader->generation)
        return PERMIT_GENERATION;
    if (permit_held(permit, now_ms)) {
        if (!is_holder(permit, request))
            return PERMIT_HELD;
    } else if (request->state == PERMIT_NEW && now_ms - leader->since_ms < PERMIT_YOUNG_MS) {
        return PERMIT_YOUNG;
    }
    memcpy(permit->task, request->task, TASK_ID_SIZE);
    permit->node = request->node;
    permit->until_ms = now_ms + PERMIT_MS;
    return PERMIT_GIVEN;
}
