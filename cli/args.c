#include "cli/args.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_MAX = 64, FIRST_LONG = 256 };

struct parser {
    const struct arg_row *rows[ROWS_MAX];
    struct option options[ROWS_MAX + 1];
    char letters[2 * ROWS_MAX + 3];
    int count;
};

static void parser_fill(struct parser *parser, const struct arg_row *const *tables)
{
    size_t used = 2;

    memset(parser, 0, sizeof(*parser));
    /* "+": no reordering, "--" would be lost; ":": a missing value is told from an unknown option
     */
    memcpy(parser->letters, "+:", 3);
    for (; *tables != NULL; tables++) {
        for (const struct arg_row *row = *tables; row->name != NULL; row++) {
            int has = row->argument != NULL ? required_argument : no_argument;

            OGEL_CHECK(parser->count < ROWS_MAX);
            parser->rows[parser->count] = row;
            parser->options[parser->count] = (struct option){row->name, has, NULL,
                                                             FIRST_LONG + parser->count};
            parser->count++;
            if (row->letter == 0)
                continue;
            parser->letters[used++] = row->letter;
            if (has == required_argument)
                parser->letters[used++] = ':';
        }
    }
}

static const struct arg_row *row_of(const struct parser *parser, int c)
{
    if (c >= FIRST_LONG)
        return parser->rows[c - FIRST_LONG];
    for (int i = 0; i < parser->count; i++) {
        if (parser->rows[i]->letter == c)
            return parser->rows[i];
    }
    die("option %d is in no table", c);
}

static int wrong_option(int c, char **argv, const char *program, struct err *err)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    bool by_letter = optopt > 0 && optopt < FIRST_LONG && strncmp(argv[optind - 1], "--", 2) != 0;

    return err_set(err, ERR_INVALID, "option \"%s\" %s; see %s --help",
                   by_letter ? letter : argv[optind - 1],
                   c == ':' ? "needs a value" : "is unknown or takes no value", program);
}

static int add_operand(struct args *args, char *text, struct err *err)
{
    if (args->operand_count == ARGS_MAX)
        return err_set(err, ERR_INVALID, "too many arguments (allowed: %d)", ARGS_MAX);
    args->operands[args->operand_count++] = text;
    return 0;
}

int args_parse(const struct arg_row *const *tables, int argc, char **argv, int *at, bool stop,
               const char *program, struct args *args, struct err *err)
{
    struct parser parser;

    parser_fill(&parser, tables);
    opterr = 0;
    /* glibc begins anew with 0 only, and then at 1; so argv is shown from the word before */
    argv += *at - 1;
    argc -= *at - 1;
    optind = 0;
    while (true) {
        int before = optind == 0 ? 1 : optind;
        int c = getopt_long(argc, argv, parser.letters, parser.options, NULL);

        if (c == ':' || c == '?')
            return wrong_option(c, argv, program, err);
        if (c != -1) {
            if (args->given_count == ARGS_MAX)
                return err_set(err, ERR_INVALID, "too many options (allowed: %d)", ARGS_MAX);
            args->given[args->given_count].name = row_of(&parser, c)->name;
            args->given[args->given_count++].value = optarg;
            continue;
        }
        if (optind == before + 1 && strcmp(argv[before], "--") == 0) {
            args->rest = argv + optind;
            break;
        }
        if (optind >= argc || stop)
            break;
        if (add_operand(args, argv[optind++], err) < 0)
            return -1;
    }
    *at += optind - 1;
    return 0;
}

const char *args_value(const struct args *args, const char *name)
{
    for (int i = args->given_count - 1; i >= 0; i--) {
        if (strcmp(args->given[i].name, name) == 0)
            return args->given[i].value;
    }
    return NULL;
}

bool args_given(const struct args *args, const char *name)
{
    for (int i = 0; i < args->given_count; i++) {
        if (strcmp(args->given[i].name, name) == 0)
            return true;
    }
    return false;
}

const char *args_next(const struct args *args, const char *name, int *at)
{
    while (*at < args->given_count) {
        int i = (*at)++;

        if (strcmp(args->given[i].name, name) == 0)
            return args->given[i].value;
    }
    return NULL;
}
