/* An operator's change of the cluster document: what comes out is a whole document or an error. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "protocol/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ids[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "n3"};
    static const struct address addresses[NODE_COUNT] = {
        {"10.0.0.1", 5432}, {"::1", 5433}, {"db3.example", 5434}};
    struct document_facts facts;
    json_t *input, *document, *result;
    struct err err = {0};

    if (json_parse_bounded((const char *)data, size, 16, &input, NULL) < 0)
        return 0;
    /* as a document that a peer sent */
    if (document_facts_from_json(input, ids, &facts, &err) < 0)
        OGEL_CHECK(err.code == ERR_INVALID && err.text[0] != '\0');
    else
        OGEL_CHECK(facts.version.generation > 0);

    /* as a change */
    err_clear(&err);
    document = document_new((struct document_version){2, 1}, ids, addresses);
    result = document_apply(document, input, (struct document_version){3, 1}, ids, &err);
    if (result == NULL)
        OGEL_CHECK(err.code == ERR_INVALID && err.text[0] != '\0');
    else
        OGEL_CHECK(document_facts_from_json(result, ids, &facts, NULL) == 0 &&
                   facts.version.generation == 3);
    json_decref(result);
    json_decref(document);
    json_decref(input);
    return 0;
}
