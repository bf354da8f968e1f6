#include "cli/options.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/secret.h"

#define DEFAULT_ORCHESTRATOR "127.0.0.1:7432"
#define SYSTEM_FILE          "/etc/ogel/ctl.yaml"

enum { DEFAULT_PORT = 7432, DEFAULT_TIMEOUT_MS = 60000, DEFAULT_TRY_MS = 5000 };

struct file_options {
    char *token;
    char *cluster;
};

const struct opt ctl_option_table[] = {
    {.name = "orchestrators",
     .type = OPT_LIST,
     .max = ORCHESTRATORS_MAX,
     .sample = DEFAULT_ORCHESTRATOR,
     .help = "Where orchestrators listen, host:port; the next is asked when one does not answer. "
             "Without any: " DEFAULT_ORCHESTRATOR "."},
    {.name = "token",
     .type = OPT_PATH,
     .offset = offsetof(struct file_options, token),
     .sample = "/etc/ogel/token.admin",
     .help = "File with the bearer token, mode 0600: the read token is enough to look, the admin "
             "token is needed to change anything."},
    {.name = "cluster",
     .type = OPT_STRING,
     .offset = offsetof(struct file_options, cluster),
     .max = CLUSTER_SIZE - 1,
     .sample = "main",
     .help = "The cluster that is meant where the orchestrator supervises several."},
    {0},
};

/* --- the file ------------------------------------------------------------------------------- */

static const char *home_directory(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user;

    if (home != NULL && home[0] != '\0')
        return home;
    user = getpwuid(getuid());
    return user != NULL ? user->pw_dir : "/";
}

static void find_file(struct ctl *ctl, const char *given)
{
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *variable = getenv("OGELCTL_CONFIG");

    if (given == NULL && variable != NULL && variable[0] != '\0')
        given = variable;
    if (given != NULL) {
        snprintf(ctl->config_file, sizeof(ctl->config_file), "%s", given);
        return;
    }
    if (base != NULL && base[0] == '/')
        snprintf(ctl->config_file, sizeof(ctl->config_file), "%s/ogel/ctl.yaml", base);
    else
        snprintf(ctl->config_file, sizeof(ctl->config_file), "%s/.config/ogel/ctl.yaml",
                 home_directory());
    if (!file_exists(ctl->config_file))
        snprintf(ctl->config_file, sizeof(ctl->config_file), "%s", SYSTEM_FILE);
    if (!file_exists(ctl->config_file))
        ctl->config_file[0] = '\0';
}

static int read_orchestrators(struct ctl *ctl, const struct conf_node *list, struct err *err)
{
    for (size_t i = 0; i < conf_list_len(list); i++) {
        const struct conf_node *item = conf_list_item(list, i);
        struct err why = {0};

        if (units_parse_address(conf_string(item), DEFAULT_PORT,
                                &ctl->orchestrators[ctl->orchestrator_count++], &why) < 0)
            return conf_error(item, err, "%s", why.text);
    }
    return 0;
}

static int read_file(struct ctl *ctl, struct err *err)
{
    struct file_options options = {0};
    struct conf_node *root = NULL;
    int rc = -1;

    if (conf_load(ctl->config_file, &root, err) < 0 ||
        conf_apply(root, ctl_option_table, &options, err) < 0)
        goto out;
    if (options.token != NULL)
        snprintf(ctl->token_file, sizeof(ctl->token_file), "%s", options.token);
    if (options.cluster != NULL)
        snprintf(ctl->cluster, sizeof(ctl->cluster), "%s", options.cluster);
    rc = read_orchestrators(ctl, conf_child(root, "orchestrators"), err);
    conf_release(ctl_option_table, &options);
out:
    conf_free(root);
    return rc;
}

/* --- the command line ----------------------------------------------------------------------- */

static int take_orchestrators(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *text;
    int at = 0;

    if (args_given(args, "orchestrator"))
        ctl->orchestrator_count = 0;
    while ((text = args_next(args, "orchestrator", &at)) != NULL) {
        if (ctl->orchestrator_count == ORCHESTRATORS_MAX)
            return err_set(err, ERR_INVALID, "option \"--orchestrator\": too many (allowed: %d)",
                           ORCHESTRATORS_MAX);
        if (units_parse_address(text, DEFAULT_PORT, &ctl->orchestrators[ctl->orchestrator_count++],
                                err) < 0)
            return err_context(err, "option \"--orchestrator\"");
    }
    if (ctl->orchestrator_count == 0)
        return units_parse_address(DEFAULT_ORCHESTRATOR, 0,
                                   &ctl->orchestrators[ctl->orchestrator_count++], err);
    return 0;
}

static int take_output(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *format = args_value(args, "output");
    const char *timeout = args_value(args, "timeout");

    if (format != NULL && strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
        return err_set(err, ERR_INVALID, "option \"--output\": \"%s\" (allowed: table, json)",
                       format);
    ctl->json = format != NULL && strcmp(format, "json") == 0;
    ctl->yes = args_given(args, "yes");
    ctl->timeout_ms = DEFAULT_TIMEOUT_MS;
    ctl->try_ms = DEFAULT_TRY_MS;
    if (timeout != NULL) {
        if (units_parse_duration(timeout, &ctl->timeout_ms, err) < 0)
            return err_context(err, "option \"--timeout\"");
        if (ctl->timeout_ms < 100 || ctl->timeout_ms > 86400000)
            return err_set(err, ERR_INVALID, "option \"--timeout\": \"%s\" (allowed: 100ms to 1d)",
                           timeout);
        ctl->timeout_given = true;
    }
    return 0;
}

static bool wants_color(int fd, bool refused)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return !refused && isatty(fd) && (no_color == NULL || no_color[0] == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

/* Behind sudo the person counts, not root. */
static void find_who(struct ctl *ctl)
{
    const struct passwd *user = getpwuid(getuid());
    const char *name = getenv("SUDO_USER");
    char host[64] = "";

    if (getuid() != 0 || name == NULL || name[0] == '\0')
        name = user != NULL ? user->pw_name : "unknown";
    gethostname(host, sizeof(host) - 1);
    snprintf(ctl->who, sizeof(ctl->who), "%.60s@%s", name, host);
    for (char *at = ctl->who; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 127)
            *at = '?';
    }
}

int options_load_local(struct ctl *ctl, const struct args *args, struct err *err)
{
    bool no_color = args_given(args, "no-color");

    memset(ctl, 0, sizeof(*ctl));
    ctl->color_out = wants_color(STDOUT_FILENO, no_color);
    ctl->color_err = wants_color(STDERR_FILENO, no_color);
    find_who(ctl);
    return take_output(ctl, args, err);
}

int options_load(struct ctl *ctl, const struct args *args, struct err *err)
{
    const char *cluster = args_value(args, "cluster");
    const char *token_file = args_value(args, "token-file");

    if (options_load_local(ctl, args, err) < 0)
        return -1;
    find_file(ctl, args_value(args, "config"));
    if (ctl->config_file[0] != '\0' && read_file(ctl, err) < 0)
        return -1;
    if (take_orchestrators(ctl, args, err) < 0)
        return -1;
    if (cluster != NULL && strlen(cluster) >= sizeof(ctl->cluster))
        return err_set(err, ERR_INVALID, "option \"--cluster\": the name is too long (allowed: %d)",
                       CLUSTER_SIZE - 1);
    if (cluster != NULL)
        snprintf(ctl->cluster, sizeof(ctl->cluster), "%s", cluster);
    if (token_file != NULL)
        snprintf(ctl->token_file, sizeof(ctl->token_file), "%s", token_file);
    if (ctl->token_file[0] != '\0' &&
        secret_read_file(ctl->token_file, ctl->token, sizeof(ctl->token), err) < 0)
        return err_context(err, "token");
    return 0;
}
