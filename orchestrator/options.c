#include "orchestrator/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "protocol/names.h"

#define AT(member) offsetof(struct orchestrator_options, member)

static const struct opt token_table[] = {
    {.name = "read",
     .type = OPT_PATH,
     .offset = offsetof(struct orchestrator_tokens, read),
     .flags = OPT_SECRET_FILE | OPT_RELOAD,
     .sample = "/etc/ogel/token.read",
     .help = "File with the bearer token of clients that may read: /connect, /v1 GET."},
    {.name = "admin",
     .type = OPT_PATH,
     .offset = offsetof(struct orchestrator_tokens, admin),
     .flags = OPT_SECRET_FILE | OPT_RELOAD | OPT_REQUIRED,
     .sample = "/etc/ogel/token.admin",
     .help = "File with the bearer token of operators."},
    {.name = "peer",
     .type = OPT_PATH,
     .offset = offsetof(struct orchestrator_tokens, peer),
     .flags = OPT_SECRET_FILE | OPT_RELOAD | OPT_REQUIRED,
     .sample = "/etc/ogel/token.peer",
     .help = "File with the bearer token that agents and orchestrators show each other."},
    {0},
};

static const struct opt password_table[] = {
    {.name = "monitor",
     .type = OPT_PATH,
     .offset = 0,
     .flags = OPT_SECRET_FILE | OPT_RELOAD,
     .sample = "/etc/ogel/password.monitor",
     .help = "File with the password of ogel_monitor; without it Postgres is probed only for an "
             "answer."},
    {0},
};

static const struct opt redis_table[] = {
    {.name = "address",
     .type = OPT_ADDRESS,
     .offset = offsetof(struct orchestrator_redis, address),
     .sample = "127.0.0.1:6379",
     .help = "Where Redis listens; without it no topology is published."},
    {.name = "password_file",
     .type = OPT_PATH,
     .offset = offsetof(struct orchestrator_redis, password_file),
     .flags = OPT_SECRET_FILE,
     .sample = "/etc/ogel/password.redis",
     .help = "File with its password."},
    {.name = "database",
     .type = OPT_INT,
     .offset = offsetof(struct orchestrator_redis, database),
     .dflt = "0",
     .min = 0,
     .max = 1023,
     .help = "Number of its database."},
    {0},
};

static const struct opt node_table[] = {
    {.name = "id",
     .type = OPT_STRING,
     .offset = offsetof(struct node_options, id),
     .min = 1,
     .max = NODE_ID_SIZE - 1,
     .flags = OPT_REQUIRED,
     .sample = "n1",
     .help = "The node's id: a letter, then letters and digits, 16 at most, lower case."},
    {.name = "agent",
     .type = OPT_ADDRESS,
     .offset = offsetof(struct node_options, agent),
     .flags = OPT_REQUIRED,
     .sample = "10.0.0.1:8008",
     .help = "Where its agent listens."},
    {0},
};

struct cluster_header {
    char *name;
};

static const struct opt cluster_table[] = {
    {.name = "name",
     .type = OPT_STRING,
     .offset = offsetof(struct cluster_header, name),
     .min = 1,
     .max = CLUSTER_NAME_SIZE - 1,
     .flags = OPT_REQUIRED,
     .sample = "main",
     .help = "The cluster's name."},
    {.name = "nodes",
     .type = OPT_LIST,
     .flags = OPT_REQUIRED,
     .min = NODE_COUNT,
     .max = NODE_COUNT,
     .table = node_table,
     .help = "Its three nodes."},
    {0},
};

const struct opt orchestrator_option_table[] = {
    {.name = "listen",
     .type = OPT_ADDRESS,
     .offset = AT(listen),
     .dflt = "127.0.0.1:7432",
     .help = "Where the HTTP API listens."},
    {.name = "tokens",
     .type = OPT_MAP,
     .offset = AT(tokens),
     .table = token_table,
     .flags = OPT_REQUIRED,
     .help = "Bearer tokens, each in a file of mode 0600."},
    {.name = "passwords",
     .type = OPT_MAP,
     .offset = AT(monitor_password),
     .table = password_table,
     .help = "Passwords of Postgres roles, each in a file of mode 0600."},
    {.name = "redis",
     .type = OPT_MAP,
     .offset = AT(redis),
     .table = redis_table,
     .help = "Where topology and events are published; may be absent, slow or gone."},
    {.name = "failure_timeout",
     .type = OPT_DURATION,
     .offset = AT(failure_timeout_ms),
     .dflt = "1s",
     .min = 200,
     .max = 600000,
     .flags = OPT_RELOAD,
     .help =
         "Silence or failure for so long makes a leader count as dead; crashes are known at once."},
    {.name = "election_timeout",
     .type = OPT_DURATION,
     .offset = AT(election_timeout_ms),
     .dflt = "5s",
     .min = 500,
     .max = 600000,
     .flags = OPT_RELOAD,
     .help = "An open generation that finds no majority for so long is given up for the next."},
    {.name = "promotion_timeout",
     .type = OPT_DURATION,
     .offset = AT(promotion_timeout_ms),
     .dflt = "30s",
     .min = 1000,
     .max = 3600000,
     .flags = OPT_RELOAD,
     .help = "A granted node that does not lead for so long loses to the next generation."},
    {.name = "failover_backoff",
     .type = OPT_DURATION,
     .offset = AT(failover_backoff_ms),
     .dflt = "10s",
     .min = 0,
     .max = 3600000,
     .flags = OPT_RELOAD,
     .help = "One failover in this time, unless the leader is provably dead."},
    {.name = "probe_interval",
     .type = OPT_DURATION,
     .offset = AT(probe_interval_ms),
     .dflt = "10s",
     .min = 500,
     .max = 3600000,
     .flags = OPT_RELOAD,
     .help = "Fresh connection to each Postgres in quiet times; at any suspicion it is probed at "
             "once."},
    {.name = "request_timeout",
     .type = OPT_DURATION,
     .offset = AT(request_timeout_ms),
     .dflt = "60s",
     .min = 1000,
     .max = 3600000,
     .flags = OPT_RELOAD,
     .help =
         "An operator's request that is not carried out in this time is answered as undecided."},
    {.name = "metrics_open",
     .type = OPT_BOOL,
     .offset = AT(metrics_open),
     .dflt = "false",
     .help = "Serve /metrics without a token."},
    {.name = "log_level",
     .type = OPT_ENUM,
     .offset = AT(log_level),
     .dflt = "info",
     .choices = log_level_names,
     .flags = OPT_RELOAD,
     .help = "Lines below this level are not logged."},
    {.name = "clusters",
     .type = OPT_LIST,
     .flags = OPT_REQUIRED,
     .min = 1,
     .max = 10000,
     .table = cluster_table,
     .help = "The clusters that are supervised."},
    {0},
};

static int node_order(const void *a, const void *b)
{
    return strcmp(((const struct node_options *)a)->id, ((const struct node_options *)b)->id);
}

static int load_cluster(const struct conf_node *node, struct cluster_options *cluster,
                        struct err *err)
{
    struct cluster_header header = {0};
    const struct conf_node *nodes = conf_child(node, "nodes");

    if (conf_apply(node, cluster_table, &header, err))
        return -1;
    cluster->name = header.name;
    for (size_t i = 0; i < NODE_COUNT; i++) {
        const struct conf_node *item = conf_list_item(nodes, i);

        if (conf_apply(item, node_table, &cluster->nodes[i], err))
            return -1;
        if (!node_id_valid(cluster->nodes[i].id))
            return conf_error(conf_child(item, "id"), err,
                              "\"%s\" is no node id (allowed: a lower-case letter, then up to 15 "
                              "letters and digits)",
                              cluster->nodes[i].id);
        if (strlen(cluster->nodes[i].agent.host) >= HOST_SIZE)
            return conf_error(conf_child(item, "agent"), err,
                              "the host is too long (allowed: %d bytes)", HOST_SIZE - 1);
        for (size_t j = 0; j < i; j++)
            if (strcmp(cluster->nodes[i].id, cluster->nodes[j].id) == 0)
                return conf_error(conf_child(item, "id"), err,
                                  "\"%s\" is there twice (allowed: three different ids)",
                                  cluster->nodes[i].id);
    }
    qsort(cluster->nodes, NODE_COUNT, sizeof cluster->nodes[0], node_order);
    return 0;
}

int orchestrator_options_load(const char *file, struct orchestrator_options *options,
                              struct err *err)
{
    struct conf_node *root = NULL;
    const struct conf_node *list;
    int rc = -1;

    memset(options, 0, sizeof *options);
    if (conf_load(file, &root, err))
        return -1;
    if (conf_apply(root, orchestrator_option_table, options, err))
        goto out;
    list = conf_child(root, "clusters");
    options->cluster_count = (uint32_t)conf_list_len(list);
    options->clusters = xcalloc(options->cluster_count, sizeof options->clusters[0]);
    for (uint32_t i = 0; i < options->cluster_count; i++) {
        const struct conf_node *item = conf_list_item(list, i);

        if (load_cluster(item, &options->clusters[i], err))
            goto out;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(options->clusters[i].name, options->clusters[j].name) == 0) {
                conf_error(conf_child(item, "name"), err,
                           "\"%s\" is there twice (allowed: different names)",
                           options->clusters[i].name);
                goto out;
            }
    }
    rc = 0;
out:
    conf_free(root);
    if (rc)
        orchestrator_options_release(options);
    return rc;
}

void orchestrator_options_release(struct orchestrator_options *options)
{
    for (uint32_t i = 0; i < options->cluster_count; i++) {
        free(options->clusters[i].name);
        for (size_t n = 0; n < NODE_COUNT; n++)
            conf_release(node_table, &options->clusters[i].nodes[n]);
    }
    free(options->clusters);
    conf_release(orchestrator_option_table, options);
    memset(options, 0, sizeof *options);
}
