/* A report off the network: whatever is accepted can be sent on and is the same there. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "protocol/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct report report, again;
    json_t *json, *sent, *resent;
    struct err err = {0};

    if (json_parse_bounded((const char *)data, size, 16, &json, NULL) < 0)
        return 0;
    if (report_from_json(json, &report, &err) < 0) {
        OGEL_CHECK(err.code == ERR_INVALID || err.code == ERR_REFUSED);
        OGEL_CHECK(err.text[0] != '\0');
    } else {
        sent = report_to_json(&report);
        OGEL_CHECK(report_from_json(sent, &again, &err) == 0);
        resent = report_to_json(&again);
        OGEL_CHECK(json_equal(sent, resent));
        json_decref(sent);
        json_decref(resent);
    }
    json_decref(json);
    return 0;
}
