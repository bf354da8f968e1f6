#include "cli/source.h"

#include <stdlib.h>

json_t *source_body(const struct args *args, struct err *err)
{
    const char *id = args_value(args, "from-snapshot"), *store = args_value(args, "store");

    if (id == NULL && store == NULL)
        return json_object();
    if (id == NULL) {
        err_set(err, ERR_INVALID, "option \"--store\" goes with --from-snapshot ID");
        return NULL;
    }
    if (store == NULL)
        store = getenv("OGEL_STORE");
    if (store == NULL || store[0] == '\0')
        return json_pack("{s:s}", "from_snapshot", id);
    return json_pack("{s:s,s:s}", "from_snapshot", id, "store", store);
}
