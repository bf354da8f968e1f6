/* A message off the network, up to the decision whether to obey it: a promise never goes back, and
 * a generation never gets a second leader. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "protocol/codec.h"
#include "protocol/order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void admit(const struct desired *message, uint32_t generation, bool member)
{
    struct standing standing = {
        .node = 1,
        .promise = {generation, message->proposer},
        .leader = {generation, 0, {1, 1}, message->proposer},
        .incarnations = {{1, 1}, {1, 2}, {1, 3}},
        .registered = true,
        .birth_promised = true,
    };
    enum verdict verdict;

    if (member)
        standing.cluster = message->cluster;
    verdict = desired_admit(&standing, message);
    if (verdict != VERDICT_OBEY && verdict != VERDICT_PROMISE)
        return;
    OGEL_CHECK(message->generation >= generation);
    OGEL_CHECK(message->node == standing.node);
    OGEL_CHECK(message->role == ROLE_FENCED || message->generation != generation ||
               leadership_equal(&standing.leader, &message->leader));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct desired desired, again;
    json_t *json, *sent, *resent;
    struct err err = {0};

    if (json_parse_bounded((const char *)data, size, 16, &json, NULL) < 0)
        return 0;
    if (desired_from_json(json, &desired, &err) < 0) {
        OGEL_CHECK(err.code == ERR_INVALID || err.code == ERR_REFUSED);
        OGEL_CHECK(err.text[0] != '\0');
    } else {
        sent = desired_to_json(&desired);
        OGEL_CHECK(desired_from_json(sent, &again, &err) == 0);
        resent = desired_to_json(&again);
        OGEL_CHECK(json_equal(sent, resent));
        json_decref(sent);
        json_decref(resent);
        for (uint32_t step = 0; step < 3; step++) {
            admit(&desired, desired.generation + 1 - step, true);
            admit(&desired, desired.generation + 1 - step, false);
        }
    }
    json_decref(json);
    return 0;
}
