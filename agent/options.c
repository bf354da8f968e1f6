#include "agent/options.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "protocol/names.h"

#ifdef HAVE_CONFIG_H
#    include "config.h"
#endif
#ifndef OGEL_PG_BINDIR
#    define OGEL_PG_BINDIR "/usr/lib/postgresql/15/bin"
#endif

struct peer_options {
    char *id;
    struct units_address agent;
};

static const struct opt peer_table[] = {
    {.name = "id",
     .type = OPT_STRING,
     .offset = offsetof(struct peer_options, id),
     .min = 1,
     .max = NODE_ID_SIZE - 1,
     .flags = OPT_REQUIRED,
     .help = "Node id of the peer.",
     .sample = "n2"},
    {.name = "agent",
     .type = OPT_ADDRESS,
     .offset = offsetof(struct peer_options, agent),
     .flags = OPT_REQUIRED,
     .help = "Where its agent listens.",
     .sample = "10.0.0.2:7432"},
    {.name = NULL},
};

static const struct opt postgres_table[] = {
    {.name = "host",
     .type = OPT_STRING,
     .offset = offsetof(struct postgres_options, host),
     .min = 1,
     .max = HOST_SIZE - 1,
     .flags = OPT_REQUIRED,
     .help = "Address under which the other nodes and the applications reach this Postgres.",
     .sample = "10.0.0.1"},
    {.name = "port",
     .type = OPT_INT,
     .offset = offsetof(struct postgres_options, port),
     .dflt = "5432",
     .min = 1,
     .max = 65535,
     .help = "Its port."},
    {.name = NULL},
};

#define SECRET(name_, field, index, text, path_)                                                   \
    {                                                                                              \
        .name = name_, .type = OPT_PATH,                                                           \
        .offset = offsetof(struct agent_options, field.path[index]) -                              \
                  offsetof(struct agent_options, field),                                           \
        .flags = OPT_REQUIRED | OPT_SECRET_FILE | OPT_RELOAD, .help = text, .sample = path_        \
    }

static const struct opt token_table[] = {
    SECRET("read", tokens, TOKEN_READ, "File with the token that may read.",
           "/etc/ogel/token-read"),
    SECRET("admin", tokens, TOKEN_ADMIN, "File with the token that may change things.",
           "/etc/ogel/token-admin"),
    SECRET("peer", tokens, TOKEN_PEER, "File with the token that agents and orchestrators share.",
           "/etc/ogel/token-peer"),
    {.name = NULL},
};

static const struct opt password_table[] = {
    SECRET("superuser", passwords, PASSWORD_SUPERUSER, "File with the password of postgres.",
           "/etc/ogel/password-superuser"),
    SECRET("replication", passwords, PASSWORD_REPLICATION,
           "File with the password of the replication roles.", "/etc/ogel/password-replication"),
    SECRET("rewind", passwords, PASSWORD_REWIND, "File with the password of ogel_rewind.",
           "/etc/ogel/password-rewind"),
    SECRET("monitor", passwords, PASSWORD_MONITOR, "File with the password of ogel_monitor.",
           "/etc/ogel/password-monitor"),
    SECRET("owner", passwords, PASSWORD_OWNER, "File with the password of the application's owner.",
           "/etc/ogel/password-owner"),
    {.name = NULL},
};

static const struct opt snapshot_table[] = {
    {.name = "credentials_file",
     .type = OPT_PATH,
     .offset = offsetof(struct snapshot_options, credentials_file),
     .flags = OPT_SECRET_FILE | OPT_RELOAD,
     .help = "File with the one line ACCESS_KEY:SECRET_KEY for an S3 store, mode 0600; it is read "
             "anew for each task.",
     .sample = "/etc/ogel/store-credentials"},
    {.name = "temporary_directory",
     .type = OPT_PATH,
     .offset = offsetof(struct snapshot_options, temporary_directory),
     .flags = OPT_RELOAD,
     .help = "Where a task keeps lists of files for the time being; without it /var/tmp.",
     .sample = "/var/tmp"},
    {.name = "jobs",
     .type = OPT_INT,
     .offset = offsetof(struct snapshot_options, jobs),
     .dflt = "0",
     .max = 64,
     .flags = OPT_RELOAD,
     .help = "How many threads compress or fetch; 0 leaves it to ogelctl."},
    {.name = NULL},
};

#define FIELD_AT(field) offsetof(struct agent_options, field)
#define TIMEOUT(name_, field, dflt_, min_, max_, text)                                             \
    {                                                                                              \
        .name = name_, .type = OPT_DURATION, .offset = FIELD_AT(field), .dflt = dflt_,             \
        .min = min_, .max = max_, .help = text                                                     \
    }

const struct opt agent_option_table[] = {
    {.name = "cluster",
     .type = OPT_STRING,
     .offset = FIELD_AT(cluster),
     .min = 1,
     .max = 32,
     .flags = OPT_REQUIRED,
     .help = "Name of the cluster; the same at all three nodes.",
     .sample = "main"},
    {.name = "node",
     .type = OPT_STRING,
     .offset = FIELD_AT(node),
     .min = 1,
     .max = NODE_ID_SIZE - 1,
     .flags = OPT_REQUIRED,
     .help = "Id of this node: a lower-case letter, then up to 15 letters and digits.",
     .sample = "n1"},
    {.name = "listen",
     .type = OPT_ADDRESS,
     .offset = FIELD_AT(listen),
     .dflt = "127.0.0.1:8008",
     .help = "Where this agent's HTTP API listens."},
    {.name = "data_directory",
     .type = OPT_PATH,
     .offset = FIELD_AT(data_directory),
     .flags = OPT_REQUIRED,
     .help = "Postgres' data directory. Its contents belong to the agent, which may clone it anew.",
     .sample = "/var/lib/ogel/data"},
    {.name = "state_directory",
     .type = OPT_PATH,
     .offset = FIELD_AT(state_directory),
     .flags = OPT_REQUIRED,
     .help = "What the agent must not forget: promise, cluster document, events, configuration of "
             "Postgres. On a disk of this machine, never copied to another one.",
     .sample = "/var/lib/ogel/state"},
    {.name = "postgres_bindir",
     .type = OPT_PATH,
     .offset = FIELD_AT(postgres_bindir),
     .dflt = OGEL_PG_BINDIR,
     .help =
         "Directory of postgres, initdb, pg_rewind, pg_basebackup, pg_waldump, pg_controldata."},
    {.name = "postgres",
     .type = OPT_MAP,
     .offset = FIELD_AT(postgres),
     .flags = OPT_REQUIRED,
     .table = postgres_table,
     .help = "This node's Postgres."},
    {.name = "peers",
     .type = OPT_LIST,
     .min = NODE_COUNT - 1,
     .max = NODE_COUNT - 1,
     .flags = OPT_REQUIRED,
     .table = peer_table,
     .help = "The other two nodes."},
    {.name = "tokens",
     .type = OPT_MAP,
     .offset = FIELD_AT(tokens),
     .flags = OPT_REQUIRED,
     .table = token_table,
     .help = "Bearer tokens of the HTTP API. One line each, mode 0600, at least 16 bytes."},
    {.name = "passwords",
     .type = OPT_MAP,
     .offset = FIELD_AT(passwords),
     .flags = OPT_REQUIRED,
     .table = password_table,
     .help = "Passwords of the roles that the agent keeps in Postgres. One line each, mode 0600. "
             "Change the file at all nodes, then SIGHUP: the leader's agent applies it."},
    {.name = "snapshots",
     .type = OPT_MAP,
     .offset = FIELD_AT(snapshots),
     .table = snapshot_table,
     .help = "Snapshots that this node is made of."},
    {.name = "metrics_open",
     .type = OPT_BOOL,
     .offset = FIELD_AT(metrics_open),
     .dflt = "true",
     .help = "Serve /metrics without a token."},
    {.name = "memory_percent",
     .type = OPT_INT,
     .offset = FIELD_AT(memory_percent),
     .dflt = "100",
     .min = 1,
     .max = 100,
     .help = "Share of this machine's memory from which Postgres' memory settings are derived."},
    {.name = "locale",
     .type = OPT_STRING,
     .offset = FIELD_AT(locale),
     .dflt = "C.UTF-8",
     .max = 63,
     .help = "Locale of a new cluster; only read when the first leader runs initdb."},
    {.name = "cgroup",
     .type = OPT_PATH,
     .offset = FIELD_AT(cgroup),
     .help = "A delegated cgroup directory that only this Postgres runs in, so that all of it can "
             "be killed at once. Without it processes are found by their working directory.",
     .sample = "/sys/fs/cgroup/system.slice/ogel-agent.service/postgres"},
    TIMEOUT("fence_timeout", fence_timeout_ms, "3s", 500, 60000,
            "A leader that saw no other node at its generation for so long stops leading."),
    TIMEOUT("stop_timeout", stop_timeout_ms, "5s", 200, 3600000,
            "From a fast shutdown to the kill that follows it."),
    TIMEOUT(
        "checkpoint_timeout", checkpoint_timeout_ms, "3s", 100, 600000,
        "How long a switchover waits for the checkpoint before the leader is stopped; then it is "
        "stopped all the same."),
    TIMEOUT("receiver_timeout", receiver_timeout_ms, "300ms", 20, 60000,
            "From the SIGTERM of a walreceiver that is fenced to its SIGKILL."),
    TIMEOUT("position_timeout", position_timeout_ms, "2s", 100, 600000,
            "How long replay may take to come to its end before Postgres is stopped to read its "
            "position."),
    TIMEOUT("recheck_timeout", recheck_timeout_ms, "5s", 500, 600000,
            "A follower that has not streamed for so long compares its history with the leader's "
            "again."),
    TIMEOUT("start_backoff", start_backoff_ms, "500ms", 50, 60000,
            "Between failed starts of Postgres; doubled up to 32 times that."),
    TIMEOUT("probe_interval", probe_interval_ms, "2s", 200, 60000,
            "A fresh connection to the own Postgres at least this often, with a write now and "
            "then."),
    TIMEOUT("replication_timeout", replication_timeout_ms, "5s", 1000, 600000,
            "wal_sender_timeout and wal_receiver_timeout."),
    {.name = "log_level",
     .type = OPT_ENUM,
     .offset = FIELD_AT(log_level),
     .dflt = "info",
     .choices = log_level_names,
     .flags = OPT_RELOAD,
     .help = "Least level that is logged."},
    {.name = NULL},
};

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

int32_t agent_config_slot(const struct agent_config *config, const char *id)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (strcmp(config->ids[slot], id) == 0)
            return slot;
    return NODE_NONE;
}

/* Peers and this node make the three slots. */
static int load_nodes(const struct conf_node *root, struct agent_config *config, struct err *err)
{
    const struct conf_node *list = conf_child(root, "peers");
    struct peer_options peers[NODE_COUNT - 1];
    size_t count = 0;
    int rc = -1;

    memset(peers, 0, sizeof peers);
    for (; count < NODE_COUNT - 1; count++) {
        const struct conf_node *item = conf_list_item(list, count);

        if (conf_apply(item, peer_table, &peers[count], err) < 0)
            goto out;
        if (!node_id_valid(peers[count].id)) {
            conf_error(conf_child(item, "id"), err,
                       "is no node id (allowed: a lower-case letter, then up to 15 lower-case "
                       "letters and digits)");
            count++;
            goto out;
        }
        memcpy(config->ids[count], peers[count].id, strlen(peers[count].id) + 1);
    }
    memcpy(config->ids[count], config->options.node, strlen(config->options.node) + 1);
    qsort(config->ids, NODE_COUNT, sizeof config->ids[0], compare_ids);
    for (int slot = 1; slot < NODE_COUNT; slot++)
        if (strcmp(config->ids[slot], config->ids[slot - 1]) == 0) {
            conf_error(list, err, "node id %s stands there twice (allowed: three different ids)",
                       config->ids[slot]);
            goto out;
        }
    config->self = agent_config_slot(config, config->options.node);
    config->agents[config->self] = config->options.listen;
    for (size_t i = 0; i < NODE_COUNT - 1; i++)
        config->agents[agent_config_slot(config, peers[i].id)] = peers[i].agent;
    rc = 0;
out:
    for (size_t i = 0; i < count; i++)
        conf_release(peer_table, &peers[i]);
    return rc;
}

static int load_user(struct agent_config *config, struct err *err)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) != 0 || !found)
        return err_set(err, ERR_INVALID, "user id %u has no name; Postgres needs one", geteuid());
    if (strlen(found->pw_name) >= sizeof config->os_user)
        return err_set(err, ERR_INVALID, "user name %s is too long", found->pw_name);
    snprintf(config->os_user, sizeof config->os_user, "%s", found->pw_name);
    return 0;
}

int agent_config_load(const char *file, struct agent_config *config, struct err *err)
{
    struct agent_options *options = &config->options;
    struct conf_node *root = NULL;
    int rc = -1;

    memset(config, 0, sizeof *config);
    if (conf_load(file, &root, err) < 0)
        return -1;
    if (conf_apply(root, agent_option_table, options, err) < 0)
        goto out;
    if (!node_id_valid(options->node)) {
        conf_error(conf_child(root, "node"), err,
                   "is no node id (allowed: a lower-case letter, then up to 15 lower-case letters "
                   "and digits)");
        goto out;
    }
    if (strcmp(options->data_directory, options->state_directory) == 0 ||
        (strncmp(options->state_directory, options->data_directory,
                 strlen(options->data_directory)) == 0 &&
         options->state_directory[strlen(options->data_directory)] == '/')) {
        conf_error(conf_child(root, "state_directory"), err,
                   "lies in data_directory, which is emptied before a clone (allowed: a directory "
                   "outside of it)");
        goto out;
    }
    if (load_nodes(root, config, err) < 0 || load_user(config, err) < 0)
        goto out;
    if (snprintf(config->socket_directory, sizeof config->socket_directory, "%s/socket",
                 options->state_directory) >= 90) {
        conf_error(conf_child(root, "state_directory"), err,
                   "is too long for the socket below it (allowed: 82 bytes)");
        goto out;
    }
    rc = 0;
out:
    conf_free(root);
    return rc;
}

void agent_config_free(struct agent_config *config)
{
    conf_release(agent_option_table, &config->options);
    memset(config, 0, sizeof *config);
}

int agent_secrets_load(const struct agent_config *config, struct secrets *secrets, struct err *err)
{
    for (int i = 0; i < PASSWORD_COUNT; i++)
        if (secret_read_file(config->options.passwords.path[i], secrets->password[i], SECRET_SIZE,
                             err) < 0)
            return -1;
    for (int i = 0; i < TOKEN_COUNT; i++)
        if (secret_read_file(config->options.tokens.path[i], secrets->token[i], SECRET_SIZE, err) <
            0)
            return -1;
    return 0;
}

struct options agent_core_options(const struct agent_config *config)
{
    const struct agent_options *o = &config->options;

    return (struct options){.fence_timeout_ms = (uint32_t)o->fence_timeout_ms,
                            .receiver_timeout_ms = (uint32_t)o->receiver_timeout_ms,
                            .stop_timeout_ms = (uint32_t)o->stop_timeout_ms,
                            .checkpoint_timeout_ms = (uint32_t)o->checkpoint_timeout_ms,
                            .position_timeout_ms = (uint32_t)o->position_timeout_ms,
                            .recheck_timeout_ms = (uint32_t)o->recheck_timeout_ms,
                            .start_backoff_ms = (uint32_t)o->start_backoff_ms};
}
