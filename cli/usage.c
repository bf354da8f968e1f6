#include "cli/usage.h"

#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/mem.h"
#include "base/roff.h"
#include "cli/options.h"
#include "config.h"

enum { WIDTH = 96, LEFT = 28 };

#define SUMMARY "looks after PostgreSQL clusters of three nodes"

static const char description[] =
    "ogelctl shows how clusters are, tells programs where to connect, and asks the orchestrator "
    "for "
    "what operators decide: a new cluster, a switchover, a failover, maintenance, settings. It "
    "talks to "
    "one of the orchestrators over HTTP and keeps nothing itself.\n\n"
    "Actions that are dangerous say what they will do and ask; --yes answers for you. Without a "
    "terminal and without --yes they do nothing. Long actions show on standard error what is "
    "happening and end with what came of it.";

const struct ctl_exit_row ctl_exit_table[] = {
    {CTL_OK, "done; status: writes are taken and a failover is possible"},
    {CTL_REFUSED, "refused or failed; the text says why and what may be done"},
    {CTL_USAGE, "wrong command line or configuration, or --yes is missing"},
    {CTL_UNREACHABLE, "no orchestrator answers, or it does not accept the token"},
    {CTL_UNDECIDED, "not done in time: whether it will be is not known, look again"},
    {CTL_DEGRADED, "status: writes are taken, but no failover is possible (not with -o json)"},
    {CTL_NOT_WRITABLE, "status: no leader takes writes (not with -o json)"},
    {CTL_DAMAGED, "snapshot: what the store holds is damaged or incomplete; the text says what"},
    {CTL_STORE, "snapshot: the store or the server does not answer, or refuses the credentials"},
    {CTL_NO_SPACE, "snapshot: no space is left in the store or in the target"},
    {0, NULL},
};

static const struct {
    const char *command;
    const char *what;
} examples[] = {
    {"ogelctl status", "How the cluster is, problems first."},
    {"ogelctl connect -- psql",
     "psql at the leader; after a failover its next command finds the new one."},
    {"ogelctl switchover --to n2 --yes", "Moves the leader without asking."},
    {"ogelctl config set work_mem=64MB max_connections=300",
     "Changes settings on all three nodes."},
    {"ogelctl status -o json | jq -r '.clusters[].leader'", "For scripts."},
};

/* --- help ----------------------------------------------------------------------------------- */

/* LEFT, then TEXT in lines that begin below each other. */
static void print_entry(FILE *out, const char *left, const char *text)
{
    int column = fprintf(out, "  %s", left);

    if (column > LEFT - 2) {
        fputc('\n', out);
        column = 0;
    }
    column += fprintf(out, "%*s", LEFT - column, "");
    for (const char *at = text; *at != '\0';) {
        int word = (int)strcspn(at, " ");

        if (column + 1 + word > WIDTH && at != text)
            column = fprintf(out, "\n%*s", LEFT, "") - 1;
        else if (at != text)
            column += fprintf(out, " ");
        column += fprintf(out, "%.*s", word, at);
        at += word + strspn(at + word, " ");
    }
    fputc('\n', out);
}

static void print_paragraphs(FILE *out, const char *text)
{
    int column = 0;

    for (; *text != '\0'; text++) {
        int word = (int)strcspn(text, " \n");

        if (column > 0 && column + 1 + word > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column > 0)
            column += fprintf(out, " ");
        column += fprintf(out, "%.*s", word, text);
        text += word;
        if (*text == '\0')
            break;
        if (*text == '\n') {
            fputs("\n\n", out);
            text += strspn(text, "\n") - 1;
            column = 0;
        }
    }
    fputc('\n', out);
}

static char *option_text(const struct arg_row *row)
{
    char letter[6] = "";

    if (row->letter != 0)
        snprintf(letter, sizeof(letter), "-%c, ", row->letter);
    return xasprintf("%s--%s%s%s", letter, row->name, row->argument != NULL ? " " : "",
                     row->argument != NULL ? row->argument : "");
}

static void print_options(FILE *out, const struct arg_row *table)
{
    for (; table != NULL && table->name != NULL; table++) {
        char *left = option_text(table);

        if (!table->hidden)
            print_entry(out, left, table->help);
        free(left);
    }
}

static void print_exits(FILE *out)
{
    fputs("\nExit codes:\n", out);
    for (const struct ctl_exit_row *row = ctl_exit_table; row->meaning != NULL; row++) {
        char code[8];

        snprintf(code, sizeof(code), "%d", row->code);
        print_entry(out, code, row->meaning);
    }
}

void usage_print(FILE *out)
{
    fprintf(out, "ogelctl - %s\n\nUsage: ogelctl [OPTION]... COMMAND [ARGUMENT]...\n\nCommands:\n",
            SUMMARY);
    for (size_t i = 0; ctl_commands[i] != NULL; i++)
        print_entry(out, ctl_commands[i]->name, ctl_commands[i]->summary);
    fputs("\nOptions:\n", out);
    print_options(out, ctl_global_options);
    print_exits(out);
    fputs("\nogelctl COMMAND --help says more about a command; ogelctl(1) says all.\n", out);
}

void usage_print_command(FILE *out, const struct ctl_command *command)
{
    fprintf(out, "ogelctl %s - %s\n\nUsage: ogelctl [OPTION]... %s %s\n\n", command->name,
            command->summary, command->name, command->arguments);
    print_paragraphs(out, command->description);
    if (command->options != NULL) {
        fputs("\nOptions:\n", out);
        print_options(out, command->options);
    }
    fputs("\nOptions of all commands:\n", out);
    print_options(out, ctl_global_options);
}

/* --- the manual ----------------------------------------------------------------------------- */

static void man_paragraphs(FILE *out, const char *text, const char *request)
{
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        char *paragraph = end != NULL ? xstrndup(text, (size_t)(end - text)) : xstrdup(text);

        fprintf(out, "%s\n", request);
        roff_text(out, paragraph);
        fputc('\n', out);
        text += strlen(paragraph);
        text += strspn(text, "\n");
        free(paragraph);
    }
}

static void man_options(FILE *out, const struct arg_row *table)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (table->hidden)
            continue;
        fputs(".TP\n\\fB", out);
        if (table->letter != 0)
            fprintf(out, "\\-%c\\fR, \\fB", table->letter);
        fputs("\\-\\-", out);
        roff_text(out, table->name);
        fputs("\\fR", out);
        if (table->argument != NULL) {
            fputs(" \\fI", out);
            roff_text(out, table->argument);
            fputs("\\fR", out);
        }
        fputc('\n', out);
        roff_text(out, table->help);
        fputc('\n', out);
    }
}

static void man_commands(FILE *out)
{
    fputs(".SH COMMANDS\n", out);
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        const struct ctl_command *command = ctl_commands[i];

        fprintf(out, ".SS %s ", command->name);
        roff_text(out, command->arguments);
        fputc('\n', out);
        man_paragraphs(out, command->description, ".PP");
        man_options(out, command->options);
    }
}

static void man_surroundings(FILE *out)
{
    fputs(".SH EXIT STATUS\n", out);
    for (const struct ctl_exit_row *row = ctl_exit_table; row->meaning != NULL; row++) {
        fprintf(out, ".TP\n\\fB%d\\fR\n", row->code);
        roff_text(out, row->meaning);
        fputc('\n', out);
    }
    fputs(".SH ENVIRONMENT\n.TP\n\\fBOGELCTL_CONFIG\\fR\nConfiguration file, as "
          "\\fB\\-\\-config\\fR.\n"
          ".TP\n\\fBNO_COLOR\\fR\nNo colours, whatever its value.\n"
          ".TP\n\\fBPGDATABASE\\fR, \\fBPGUSER\\fR, \\fBPGPASSFILE\\fR, \\fBPGPASSWORD\\fR\n"
          "As libpq has them, for the program that \\fBconnect\\fR runs.\n"
          ".SH FILES\n.TP\n\\fI~/.config/ogel/ctl.yaml\\fR, \\fI/etc/ogel/ctl.yaml\\fR\n"
          "The first that exists is read, unless \\fB\\-\\-config\\fR or \\fBOGELCTL_CONFIG\\fR "
          "names "
          "one.\n.SH EXAMPLES\n",
          out);
    for (size_t i = 0; i < OGEL_ARRAY_LEN(examples); i++) {
        fputs(".TP\n\\fB", out);
        roff_text(out, examples[i].command);
        fputs("\\fR\n", out);
        roff_text(out, examples[i].what);
        fputc('\n', out);
    }
    fputs(".SH SEE ALSO\n.BR ogel\\-orchestrator (8),\n.BR ogel\\-agent (8)\n", out);
}

void usage_print_man(FILE *out)
{
    fprintf(out, ".TH ogelctl 1 \"\" \"ogel %s\" \"ogel\"\n.SH NAME\nogelctl \\- %s\n",
            PACKAGE_VERSION, SUMMARY);
    fputs(".SH SYNOPSIS\n.B ogelctl\n[\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...\n"
          ".SH DESCRIPTION\n",
          out);
    man_paragraphs(out, description, ".PP");
    man_commands(out);
    fputs(".SH OPTIONS\nOf all commands, before or after the command's name.\n", out);
    man_options(out, ctl_global_options);
    fputs(".SH CONFIGURATION\nThe file is YAML.\n", out);
    conf_print_man(out, ctl_option_table);
    man_surroundings(out);
}

/* --- completion ----------------------------------------------------------------------------- */

static void bash_options(FILE *out, const struct arg_row *table)
{
    for (; table != NULL && table->name != NULL; table++)
        if (!table->hidden)
            fprintf(out, " --%s", table->name);
}

/* Lines of the case that completes an option's value. */
static void bash_values(FILE *out, const struct arg_row *table)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (table->argument == NULL || table->hidden)
            continue;
        fprintf(out, "        --%s", table->name);
        if (table->letter != 0)
            fprintf(out, "|-%c", table->letter);
        if (table->words == NULL)
            fputs(") return ;;\n", out);
        else if (strcmp(table->words, "@file") == 0)
            fputs(") COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n", out);
        else if (strcmp(table->words, "@node") == 0)
            fputs(") COMPREPLY=($(compgen -W \"$(_ogelctl_nodes)\" -- \"$word\")); return ;;\n",
                  out);
        else
            fprintf(out, ") COMPREPLY=($(compgen -W \"%s\" -- \"$word\")); return ;;\n",
                    table->words);
    }
}

/* Options of one name take the same values in every command: a test holds the tables to it. */
static void bash_all_values(FILE *out)
{
    bash_values(out, ctl_global_options);
    for (size_t i = 0; ctl_commands[i] != NULL; i++)
        bash_values(out, ctl_commands[i]->options);
}

void usage_print_bash(FILE *out)
{
    fputs("# bash completion for ogelctl: source <(ogelctl completion bash)\n"
          "_ogelctl_nodes() {\n"
          "    ogelctl status -o json --timeout 1s 2>/dev/null |\n"
          "        sed -n 's/^ *\"id\": \"\\([a-z0-9]*\\)\".*/\\1/p'\n"
          "}\n\n"
          "_ogelctl() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local command= options= words= i\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "        --) return ;;\n",
          out);
    fputs("        ", out);
    for (size_t i = 0; ctl_commands[i] != NULL; i++)
        fprintf(out, "%s%s", i > 0 ? "|" : "", ctl_commands[i]->name);
    fputs(") command=${COMP_WORDS[i]}; break ;;\n"
          "        esac\n"
          "    done\n"
          "    case $before in\n",
          out);
    bash_all_values(out);
    fputs("    esac\n    case $command in\n    '') words='", out);
    for (size_t i = 0; ctl_commands[i] != NULL; i++)
        fprintf(out, "%s%s", i > 0 ? " " : "", ctl_commands[i]->name);
    fputs("' ;;\n", out);
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        const struct ctl_command *command = ctl_commands[i];

        fprintf(out, "    %s) options='", command->name);
        bash_options(out, command->options);
        if (command->words != NULL)
            fprintf(out, "'; words='%s", command->words);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    [[ $before == restart || $before == reinit || $before == fence || $before == "
          "unfence ]] &&\n"
          "        [[ $command == node ]] && words=$(_ogelctl_nodes)\n"
          "    [[ $word == -* ]] && words=\"$options",
          out);
    bash_options(out, ctl_global_options);
    fputs("\"\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "}\n\n"
          "complete -o default -F _ogelctl ogelctl\n",
          out);
}
