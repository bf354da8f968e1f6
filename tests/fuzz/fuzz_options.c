/* Any bytes as the configuration of each daemon: refused by a text that names the file, or settings
 * that keep what the rest of the program relies on. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "agent/options.h"
#include "base/err.h"
#include "orchestrator/options.h"
#include "protocol/names.h"
#include "tests/unit/faulty_disk.h"

#define FILE_NAME "daemon.yaml"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_agent(void)
{
    struct agent_config config;
    struct err err = {0};

    if (agent_config_load(DISK_DIRECTORY "/" FILE_NAME, &config, &err) < 0) {
        OGEL_CHECK(strstr(err.text, FILE_NAME) != NULL);
    } else {
        OGEL_CHECK(config.self >= 0 && config.self < NODE_COUNT);
        OGEL_CHECK(strcmp(config.ids[config.self], config.options.node) == 0);
        for (int slot = 0; slot < NODE_COUNT; slot++)
            OGEL_CHECK(node_id_valid(config.ids[slot]) &&
                       (slot == 0 || strcmp(config.ids[slot - 1], config.ids[slot]) < 0));
    }
    agent_config_free(&config);
}

static void as_orchestrator(void)
{
    struct orchestrator_options options;
    struct err err = {0};

    if (orchestrator_options_load(DISK_DIRECTORY "/" FILE_NAME, &options, &err) < 0) {
        OGEL_CHECK(strstr(err.text, FILE_NAME) != NULL);
        return;
    }
    for (uint32_t i = 0; i < options.cluster_count; i++)
        for (int slot = 0; slot < NODE_COUNT; slot++)
            OGEL_CHECK(node_id_valid(options.clusters[i].nodes[slot].id) &&
                       (slot == 0 || strcmp(options.clusters[i].nodes[slot - 1].id,
                                            options.clusters[i].nodes[slot].id) < 0));
    orchestrator_options_release(&options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    disk_make();
    disk_put(FILE_NAME, data, size);
    as_agent();
    as_orchestrator();
    disk_remove();
    return 0;
}
