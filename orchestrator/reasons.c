#include "orchestrator/decide.h"

struct reason_entry {
    const char *code;
    const char *text;
};

static const struct reason_entry reasons[REASON_COUNT] = {
#define REASON(id, code, text) {code, text},
#include "orchestrator/reasons.def"
#undef REASON
};

const char *reason_code(enum reason reason)
{
    return (unsigned)reason < REASON_COUNT ? reasons[reason].code : "?";
}

const char *reason_text(enum reason reason)
{
    return (unsigned)reason < REASON_COUNT ? reasons[reason].text : "unknown reason";
}
