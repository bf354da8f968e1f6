/* Any bytes as a configuration file: refused with a text, or a tree that the tables can be applied
 * to. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/conf.h"

struct target {
    char *text, *path;
    int64_t number, duration_ms, size_bytes;
    bool flag;
    int choice;
    struct units_address address;
};

static const char *const choices[] = {"a", "b", NULL};

static const struct opt table[] = {
    {.name = "text", .type = OPT_STRING, .offset = offsetof(struct target, text)},
    {.name = "path", .type = OPT_PATH, .offset = offsetof(struct target, path)},
    {.name = "number",
     .type = OPT_INT,
     .offset = offsetof(struct target, number),
     .min = -5,
     .max = 5},
    {.name = "duration", .type = OPT_DURATION, .offset = offsetof(struct target, duration_ms)},
    {.name = "size", .type = OPT_SIZE, .offset = offsetof(struct target, size_bytes)},
    {.name = "flag", .type = OPT_BOOL, .offset = offsetof(struct target, flag)},
    {.name = "choice",
     .type = OPT_ENUM,
     .offset = offsetof(struct target, choice),
     .choices = choices},
    {.name = "address", .type = OPT_ADDRESS, .offset = offsetof(struct target, address)},
    {.name = "list", .type = OPT_LIST, .table = table},
    {.name = "words", .type = OPT_LIST},
    {.name = NULL},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target target = {0}, item = {0};
    const struct conf_node *list;
    struct conf_node *root;
    struct err err = {0};

    if (conf_parse("fuzz.yaml", (const char *)data, size, &root, &err) < 0) {
        OGEL_CHECK(err.code == ERR_INVALID && strncmp(err.text, "fuzz.yaml:", 10) == 0);
        return 0;
    }
    if (conf_apply(root, table, &target, &err) == 0) {
        list = conf_child(root, "list");
        for (size_t i = 0; i < conf_list_len(list); i++) {
            if (conf_apply(conf_list_item(list, i), table, &item, &err) == 0)
                conf_release(table, &item);
            memset(&item, 0, sizeof(item));
        }
        conf_release(table, &target);
    } else {
        OGEL_CHECK(err.code == ERR_INVALID && strncmp(err.text, "fuzz.yaml:", 10) == 0);
    }
    conf_free(root);
    return 0;
}
