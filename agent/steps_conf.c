#include "agent/steps.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/document.h"
#include "agent/pgconf.h"
#include "agent/pgdata.h"
#include "base/file.h"
#include "base/mem.h"
#include "protocol/names.h"

enum { CHECK_TIMEOUT_MS = 10000, FILE_MAX_BYTES = 1024 * 1024 };

/* A struct pgconf and the texts it points to. */
struct conf {
    struct pgconf pg;
    struct document_rules rules;
    char names[NODE_COUNT][REPLICATION_NAME_SIZE];
    char roles[NODE_COUNT][REPLICATION_NAME_SIZE];
    const char *role_list[NODE_COUNT];
    char own_name[REPLICATION_NAME_SIZE];
    char own_role[REPLICATION_NAME_SIZE];
    char listen[1200];
    char *sync_names;
};

/* The own address is listened on whatever the document says: the other nodes use it. */
static void set_listen(struct conf *conf, const char *host)
{
    const char *listen = conf->rules.listen_addresses;

    if (!listen || strcmp(listen, host) == 0)
        snprintf(conf->listen, sizeof conf->listen, "%s", host);
    else if (strchr(listen, '*') || strstr(listen, host))
        snprintf(conf->listen, sizeof conf->listen, "%s", listen);
    else
        snprintf(conf->listen, sizeof conf->listen, "%s,%s", listen, host);
    conf->pg.listen_addresses = conf->listen;
}

static void set_names(struct conf *conf, const struct agent_config *config,
                      const struct replication *r)
{
    const char *list[NODE_COUNT];
    size_t count = 0;

    for (int slot = 0; slot < NODE_COUNT; slot++) {
        if (slot == config->self || r->incarnations[slot].number == 0)
            continue;
        replication_role(conf->roles[slot], config->ids[slot], r->incarnations[slot].number);
        conf->role_list[conf->pg.replication_role_count++] = conf->roles[slot];
        if (!r->names)
            continue;
        replication_name(conf->names[slot], config->ids[slot], r->incarnations[slot].number,
                         r->generation, true);
        list[count++] = conf->names[slot];
    }
    conf->pg.replication_roles = conf->role_list;
    conf->sync_names = pgconf_sync_names(list, count);
    conf->pg.sync_names = conf->sync_names;
}

static void set_upstream(struct conf *conf, const struct step_run *run, const struct replication *r)
{
    const struct agent_config *config = run->hands->config;
    uint32_t own = r->incarnations[config->self].number;

    if (r->upstream == NODE_NONE)
        return;
    replication_role(conf->own_role, config->ids[config->self], own);
    replication_name(conf->own_name, config->ids[config->self], own, r->generation, r->counted);
    conf->pg.upstream_host = run->upstream.host;
    conf->pg.upstream_port = run->upstream.port;
    conf->pg.upstream_user = conf->own_role;
    conf->pg.application_name = conf->own_name;
}

static void conf_make(struct conf *conf, const struct step_run *run, const struct replication *r)
{
    const struct agent_config *config = run->hands->config;
    const struct agent_options *options = &config->options;

    memset(conf, 0, sizeof *conf);
    document_rules(run->document, &conf->rules);
    conf->pg = (struct pgconf){
        .pg_major = run->hands->pg_major,
        .datadir = options->data_directory,
        .state_dir = options->state_directory,
        .socket_dir = config->socket_directory,
        .os_user = config->os_user,
        .disk_total_bytes = run->hands->disk_total_bytes,
        .memory = run->hands->memory,
        .timeout_ms = (int)options->replication_timeout_ms,
        .cluster_name = options->cluster,
        .port = (uint16_t)options->postgres.port,
        .settings = conf->rules.settings,
        .setting_count = conf->rules.setting_count,
        .hba = conf->rules.hba,
        .hba_count = conf->rules.hba_count,
        .superuser = "postgres",
        .monitor_role = "ogel_monitor",
        .rewind_role = "ogel_rewind",
        .replication_group = "ogel_replication",
    };
    set_listen(conf, options->postgres.host);
    set_names(conf, config, r);
    set_upstream(conf, run, r);
}

void conf_digest(const char *state_directory, uint8_t digest[32])
{
    static const char *const names[] = {"ogel.conf", "passfile", "pg_hba.conf"};
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char path[PGCONF_PATH_SIZE], *data;
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    size_t len;

    for (size_t i = 0; ok && i < OGEL_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/conf/%s", state_directory, names[i]);
        ok = file_read(path, FILE_MAX_BYTES, &data, &len, NULL) == 0;
        if (ok) {
            /* with the NUL: nothing slides from one file into the next */
            ok = EVP_DigestUpdate(context, data, len + 1) == 1;
            explicit_bzero(data, len);
            free(data);
        }
    }
    if (!ok || EVP_DigestFinal_ex(context, digest, NULL) != 1)
        memset(digest, 0, 32);
    EVP_MD_CTX_free(context);
}

int conf_write(struct step_run *run, const struct replication *r)
{
    const char *state_directory = run->hands->config->options.state_directory;
    struct pgconf_key key;
    struct conf conf;
    int rc = -1;

    conf_make(&conf, run, r);
    conf.pg.at_least = run->at_least;
    if (r->upstream != NODE_NONE && run->upstream.port == 0) {
        err_set(&run->err, ERR_UNAVAILABLE, "the address of %s's Postgres is not known yet",
                run->hands->config->ids[r->upstream]);
        goto out;
    }
    if (r->upstream == NODE_NONE && pgconf_passfile_write(state_directory, NULL, &run->err) < 0)
        goto out;
    if (pgconf_write(&conf.pg, &run->conf_changed, &run->err) < 0)
        goto out;
    key = (struct pgconf_key){.host = run->upstream.host,
                              .port = run->upstream.port,
                              .user = conf.own_role,
                              .password = run->secrets->password[PASSWORD_REPLICATION]};
    if (r->upstream != NODE_NONE && pgconf_passfile_write(state_directory, &key, &run->err) < 0)
        goto out;
    snprintf(run->names, sizeof run->names, "%s", conf.sync_names);
    conf_digest(state_directory, run->digest);
    rc = 0;
out:
    free(conf.sync_names);
    return rc;
}

int conf_check(struct step_run *run)
{
    const struct agent_options *options = &run->hands->config->options;
    struct pgdata_control control;
    struct conf conf;
    int rc;

    conf_make(&conf, run, &run->replication);
    if (run->upstream.port == 0)
        conf.pg.upstream_host = NULL;
    if (pgdata_control_read(options->postgres_bindir, options->data_directory, CHECK_TIMEOUT_MS,
                            &control, NULL) == 0)
        conf.pg.at_least = control.needs;
    rc = pgconf_check(&conf.pg, run->hands->config->options.postgres_bindir, CHECK_TIMEOUT_MS,
                      &run->err);
    free(conf.sync_names);
    return rc;
}
