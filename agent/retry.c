#include "agent/retry.h"

enum {
    FIRST_MS = 10,
    MAX_MS = 1000,
    MAX_POSITION_MS = 50,
    REPEAT_FREE = 3, /* the same step may succeed so often in a row without a pause */
};

static bool is(const struct retry_step *known, const struct step *step, uint32_t generation)
{
    return known->count > 0 && known->kind == step->kind && known->reason == step->reason &&
           known->generation == generation;
}

static void count(struct retry_step *known, const struct step *step, uint32_t generation,
                  bool pauses, int64_t now_ms)
{
    int64_t max = step->kind == STEP_READ_POSITION ? MAX_POSITION_MS : MAX_MS;
    uint32_t before = is(known, step, generation) ? known->count : 0;
    int64_t pause = 0;

    *known = (struct retry_step){step->kind, step->reason, generation, before + 1, now_ms};
    if (pauses || known->count > REPEAT_FREE) {
        pause = (int64_t)FIRST_MS << (known->count < 8 ? known->count : 8);
        known->not_before_ms += pause < max ? pause : max;
    }
}

void retry_note(struct retry *retry, const struct step *step, uint32_t generation, bool failed,
                int64_t now_ms)
{
    if (failed)
        count(&retry->failing, step, generation, true, now_ms);
    else if (is(&retry->failing, step, generation))
        retry->failing.count = 0;
    count(&retry->last, step, generation, false, now_ms);
}

bool retry_is_known(const struct retry *retry, const struct step *step, uint32_t generation,
                    bool failed)
{
    if (failed || is(&retry->failing, step, generation))
        return failed && is(&retry->failing, step, generation);
    return is(&retry->last, step, generation);
}

int64_t retry_wait_ms(const struct retry *retry, const struct step *step, uint32_t generation,
                      int64_t now_ms)
{
    int64_t until_ms = 0;

    if (is(&retry->last, step, generation))
        until_ms = retry->last.not_before_ms;
    if (is(&retry->failing, step, generation) && retry->failing.not_before_ms > until_ms)
        until_ms = retry->failing.not_before_ms;
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

bool retry_rest(struct retry *retry)
{
    bool failing = retry->failing.count > 0;

    retry->failing.count = 0;
    return failing;
}
