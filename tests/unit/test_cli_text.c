/* What ogelctl shows: tables, event streams, help and completion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/sse.h"
#include "cli/table.h"
#include "cli/usage.h"

/* --- tables --------------------------------------------------------------------------------- */

static const char *const headings[] = {"NAME", ">SIZE", "NOTE", NULL};

static char *printed(const struct table *table, bool color)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    table_print(table, out, color);
    fclose(out);
    return text;
}

static void test_table__columns__are_aligned_by_characters_not_bytes(void **state)
{
    struct table *table = table_new(headings);
    char *text;

    (void)state;
    table_row(table);
    table_cell(table, STYLE_PLAIN, "é");
    table_cell(table, STYLE_PLAIN, "7");
    table_cell(table, STYLE_PLAIN, "x");
    table_row(table);
    table_cell(table, STYLE_PLAIN, "longer");
    table_cell(table, STYLE_PLAIN, "1234567");
    text = printed(table, false);
    assert_string_equal(text, "NAME       SIZE  NOTE\n"
                              "é             7  x\n"
                              "longer  1234567\n");
    free(text);
    table_free(table);
}

static void test_table__column_empty_everywhere__is_left_out(void **state)
{
    struct table *table = table_new(headings);
    char *text;

    (void)state;
    table_row(table);
    table_cell(table, STYLE_PLAIN, "a");
    table_cell(table, STYLE_PLAIN, "1");
    table_cell(table, STYLE_PLAIN, "%s", "");
    text = printed(table, false);
    assert_string_equal(text, "NAME  SIZE\na        1\n");
    free(text);
    table_free(table);
}

static void test_table__control_characters__do_not_reach_the_terminal(void **state)
{
    struct table *table = table_new(headings);
    char *text;

    (void)state;
    table_row(table);
    table_cell(table, STYLE_PLAIN, "a\033[2Jb\nc");
    text = printed(table, false);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "a?[2Jb?c"));
    free(text);
    table_free(table);
}

static void test_table__colours__change_no_width(void **state)
{
    struct table *table = table_new(headings);
    char *text;

    (void)state;
    table_row(table);
    table_cell(table, STYLE_BAD, "bad");
    table_cell(table, STYLE_PLAIN, "1");
    text = printed(table, true);
    assert_non_null(strstr(text, "\033[1;31mbad\033[0m      1\n"));
    free(text);
    table_free(table);
}

static void test_size__text__has_the_unit_that_fits(void **state)
{
    char buf[32];

    (void)state;
    assert_string_equal(size_text(0, buf), "0 B");
    assert_string_equal(size_text(1023, buf), "1023 B");
    assert_string_equal(size_text(1536, buf), "1.5 kB");
    assert_string_equal(size_text(3UL << 30, buf), "3.0 GB");
}

/* --- event streams -------------------------------------------------------------------------- */

struct heard {
    char text[256];
    int count;
    int stop_after;
};

static bool hear(void *arg, const char *data)
{
    struct heard *heard = arg;

    snprintf(heard->text + strlen(heard->text), sizeof(heard->text) - strlen(heard->text), "[%s]",
             data);
    return ++heard->count != heard->stop_after;
}

static void test_sse__any_split__gives_the_same_events(void **state)
{
    static const char stream[] = ": hello\n\nid: 1\nevent: audit\ndata: {\"a\":1}\n\n"
                                 "data: two\r\ndata:lines\r\n\r\nid: 3\n\ndata: lost";

    (void)state;
    for (size_t step = 1; step <= sizeof(stream); step++) {
        struct heard heard = {0};
        struct sse sse = {.fn = hear, .arg = &heard};

        for (size_t at = 0; at < sizeof(stream) - 1; at += step) {
            size_t left = sizeof(stream) - 1 - at;

            assert_true(sse_feed(&sse, stream + at, left < step ? left : step));
        }
        assert_string_equal(heard.text, "[{\"a\":1}][two\nlines]");
        sse_reset(&sse);
    }
}

static void test_sse__callback_that_has_enough__ends_it(void **state)
{
    struct heard heard = {.stop_after = 1};
    struct sse sse = {.fn = hear, .arg = &heard};

    (void)state;
    assert_false(sse_feed(&sse, "data: a\n\ndata: b\n\n", 18));
    assert_int_equal(heard.count, 1);
    sse_reset(&sse);
}

static void test_sse__event_without_end__is_bounded(void **state)
{
    struct heard heard = {0};
    struct sse sse = {.fn = hear, .arg = &heard};
    char piece[4096];
    bool more = true;

    (void)state;
    memset(piece, 'x', sizeof(piece));
    for (int i = 0; more && i < 2 * SSE_EVENT_MAX / (int)sizeof(piece); i++)
        more = sse_feed(&sse, piece, sizeof(piece));
    assert_false(more);
    sse_reset(&sse);
}

/* --- tables of commands --------------------------------------------------------------------- */

static char *said(void (*print)(FILE *))
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    print(out);
    fclose(out);
    return text;
}

static void test_commands__each__stands_in_help_manual_and_completion(void **state)
{
    char *help = said(usage_print), *man = said(usage_print_man), *bash = said(usage_print_bash);

    (void)state;
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        const struct ctl_command *command = ctl_commands[i];
        char *heading = xasprintf(".SS %s ", command->name);
        char *line = xasprintf("  %s ", command->name);
        char *label = xasprintf("    %s) options='", command->name);

        assert_non_null(strstr(man, heading));
        assert_non_null(strstr(help, line));
        assert_non_null(strstr(bash, label));
        assert_true(strlen(command->description) > strlen(command->summary));
        assert_ptr_equal(ctl_command_find(command->name), command);
        free(heading);
        free(line);
        free(label);
    }
    free(help);
    free(man);
    free(bash);
}

/* Completion does not look at the command: one name means one kind of value. */
static void test_commands__option_of_one_name__takes_the_same_values_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        for (size_t j = 0; ctl_commands[j] != NULL; j++) {
            const struct arg_row *a = ctl_commands[i]->options;

            for (; a != NULL && a->name != NULL; a++) {
                const struct arg_row *b = ctl_commands[j]->options;

                for (; b != NULL && b->name != NULL; b++) {
                    if (strcmp(a->name, b->name) != 0)
                        continue;
                    assert_int_equal(a->argument == NULL, b->argument == NULL);
                    assert_int_equal(a->words == NULL, b->words == NULL);
                    if (a->words != NULL)
                        assert_string_equal(a->words, b->words);
                }
            }
        }
    }
}

static void test_commands__options__do_not_hide_the_global_ones(void **state)
{
    (void)state;
    for (size_t i = 0; ctl_commands[i] != NULL; i++) {
        const struct arg_row *own = ctl_commands[i]->options;

        for (; own != NULL && own->name != NULL; own++) {
            for (const struct arg_row *row = ctl_global_options; row->name != NULL; row++) {
                assert_string_not_equal(own->name, row->name);
                assert_true(own->letter == 0 || own->letter != row->letter);
            }
        }
    }
}

static void test_exits__codes__are_the_documented_ones_in_order(void **state)
{
    static const enum ctl_exit codes[] = {
        CTL_OK,       CTL_REFUSED,      CTL_USAGE,   CTL_UNREACHABLE, CTL_UNDECIDED,
        CTL_DEGRADED, CTL_NOT_WRITABLE, CTL_DAMAGED, CTL_STORE,       CTL_NO_SPACE};

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(codes); i++) {
        assert_int_equal(codes[i], i);
        assert_int_equal(ctl_exit_table[i].code, i);
        assert_non_null(ctl_exit_table[i].meaning);
    }
    assert_null(ctl_exit_table[OGEL_ARRAY_LEN(codes)].meaning);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table__columns__are_aligned_by_characters_not_bytes),
        cmocka_unit_test(test_table__column_empty_everywhere__is_left_out),
        cmocka_unit_test(test_table__control_characters__do_not_reach_the_terminal),
        cmocka_unit_test(test_table__colours__change_no_width),
        cmocka_unit_test(test_size__text__has_the_unit_that_fits),
        cmocka_unit_test(test_sse__any_split__gives_the_same_events),
        cmocka_unit_test(test_sse__callback_that_has_enough__ends_it),
        cmocka_unit_test(test_sse__event_without_end__is_bounded),
        cmocka_unit_test(test_commands__each__stands_in_help_manual_and_completion),
        cmocka_unit_test(test_commands__option_of_one_name__takes_the_same_values_everywhere),
        cmocka_unit_test(test_commands__options__do_not_hide_the_global_ones),
        cmocka_unit_test(test_exits__codes__are_the_documented_ones_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
