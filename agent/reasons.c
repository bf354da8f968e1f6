#include "agent/reconcile.h"

static const struct {
    const char *code;
    const char *text;
} reasons[AGENT_REASON_COUNT] = {
#define REASON(id, code, text) [AGENT_REASON_##id] = {code, text},
#include "agent/reasons.def"
#undef REASON
};

const char *agent_reason_code(enum agent_reason reason)
{
    return reason < AGENT_REASON_COUNT ? reasons[reason].code : "?";
}

const char *agent_reason_text(enum agent_reason reason)
{
    return reason < AGENT_REASON_COUNT ? reasons[reason].text : "unknown reason";
}
