#include <unistd.h>

#include "tests/unit/tmpdir.h"

#include "base/conf.h"
#include "base/opts.h"

static const char *const colours[] = {"red", "green", NULL};

struct inner {
    struct units_address listen;
    char *token;
};

struct node {
    char *id;
    struct units_address agent;
};

struct options {
    char *name;
    int64_t number;
    bool flag;
    int64_t timeout_ms;
    int64_t size_bytes;
    int colour;
    char *dir;
    struct inner http;
};

static const struct opt http_options[] = {
    {.name = "listen",
     .type = OPT_ADDRESS,
     .offset = offsetof(struct inner, listen),
     .dflt = "127.0.0.1:8080",
     .help = "Where the API listens."},
    {.name = "token_file",
     .type = OPT_PATH,
     .offset = offsetof(struct inner, token),
     .flags = OPT_SECRET_FILE,
     .sample = "/etc/ogel/token",
     .help = "The token."},
    {.name = NULL},
};

static const struct opt node_options[] = {
    {.name = "id",
     .type = OPT_STRING,
     .offset = offsetof(struct node, id),
     .min = 1,
     .max = 16,
     .flags = OPT_REQUIRED,
     .sample = "a",
     .help = "The node's id."},
    {.name = "agent",
     .type = OPT_ADDRESS,
     .offset = offsetof(struct node, agent),
     .flags = OPT_REQUIRED,
     .sample = "10.0.0.1:8008",
     .help = "Where its agent listens."},
    {.name = NULL},
};

static const struct opt options[] = {
    {.name = "name",
     .type = OPT_STRING,
     .offset = offsetof(struct options, name),
     .flags = OPT_REQUIRED,
     .sample = "main",
     .help = "The cluster's name."},
    {.name = "number",
     .type = OPT_INT,
     .offset = offsetof(struct options, number),
     .dflt = "5",
     .min = -3,
     .max = 10,
     .help = "A number."},
    {.name = "flag",
     .type = OPT_BOOL,
     .offset = offsetof(struct options, flag),
     .help = "A switch."},
    {.name = "failure_timeout",
     .type = OPT_DURATION,
     .offset = offsetof(struct options, timeout_ms),
     .dflt = "1s",
     .min = 100,
     .max = 60000,
     .flags = OPT_RELOAD,
     .help = "How long a leader may be silent."},
    {.name = "max_lag",
     .type = OPT_SIZE,
     .offset = offsetof(struct options, size_bytes),
     .dflt = "16MB",
     .max = 1 << 30,
     .help = "How far a replica may be behind."},
    {.name = "colour",
     .type = OPT_ENUM,
     .offset = offsetof(struct options, colour),
     .dflt = "green",
     .choices = colours,
     .help = "A choice."},
    {.name = "dir",
     .type = OPT_PATH,
     .offset = offsetof(struct options, dir),
     .dflt = "/var/lib/ogel",
     .help = "A directory."},
    {.name = "http",
     .type = OPT_MAP,
     .offset = offsetof(struct options, http),
     .table = http_options,
     .help = "The API."},
    {.name = "nodes",
     .type = OPT_LIST,
     .min = 1,
     .max = 3,
     .table = node_options,
     .help = "The nodes."},
    {.name = "tags", .type = OPT_LIST, .max = 2, .sample = "blue", .help = "Words."},
    {.name = NULL},
};

/* Parses and applies; on success the caller frees both. */
static int load(const char *text, struct conf_node **root, struct options *target, struct err *err)
{
    memset(target, 0, sizeof(*target));
    if (conf_parse("f.yaml", text, strlen(text), root, err) < 0)
        return -1;
    if (conf_apply(*root, options, target, err) == 0)
        return 0;
    conf_free(*root);
    *root = NULL;
    return -1;
}

static void assert_error(const char *text, const char *expected)
{
    struct options target;
    struct conf_node *root;
    struct err err = {0};

    if (load(text, &root, &target, &err) == 0)
        fail_msg("accepted: %s", text);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.text, expected);
    assert_null(root);
}

/* --- what is accepted ----------------------------------------------------------------------- */

static void test_conf__absent_options__have_their_defaults(void **state)
{
    struct options target;
    struct conf_node *root;
    struct err err;

    (void)state;
    assert_int_equal(load("name: main\n", &root, &target, &err), 0);
    assert_string_equal(target.name, "main");
    assert_int_equal(target.number, 5);
    assert_false(target.flag);
    assert_int_equal(target.timeout_ms, 1000);
    assert_int_equal(target.size_bytes, 16777216);
    assert_int_equal(target.colour, 1);
    assert_string_equal(target.dir, "/var/lib/ogel");
    assert_string_equal(target.http.listen.host, "127.0.0.1");
    assert_int_equal(target.http.listen.port, 8080);
    assert_null(target.http.token);
    conf_release(options, &target);
    assert_null(target.name);
    conf_free(root);
}

static void test_conf__every_type__is_read(void **state)
{
    struct options target;
    struct conf_node *root;
    struct err err;
    const char *path = tmp_path("token");
    char *text = xasprintf("# comment\n"
                           "name: 'it''s'\n"
                           "number: -3\n"
                           "flag: on\n"
                           "failure_timeout: 250ms\n"
                           "max_lag: 1GB\n"
                           "colour: red\n"
                           "dir: /srv/x y\n"
                           "http: {listen: '[::1]:99', token_file: %s}\n",
                           path);

    (void)state;
    assert_int_equal(file_write_atomic(path, "t", 1, 0600, NULL), 0);
    if (load(text, &root, &target, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(target.name, "it's");
    assert_int_equal(target.number, -3);
    assert_true(target.flag);
    assert_int_equal(target.timeout_ms, 250);
    assert_int_equal(target.size_bytes, 1 << 30);
    assert_int_equal(target.colour, 0);
    assert_string_equal(target.dir, "/srv/x y");
    assert_string_equal(target.http.listen.host, "::1");
    assert_string_equal(target.http.token, path);
    conf_release(options, &target);
    conf_free(root);
    free(text);
}

static void test_conf__list_of_maps__is_walked_with_its_own_table(void **state)
{
    struct options target;
    struct conf_node *root;
    struct node node = {0};
    const struct conf_node *nodes;
    struct err err;

    (void)state;
    assert_int_equal(load("name: x\n"
                          "nodes:\n"
                          "  - {id: a, agent: '10.0.0.1:1'}\n"
                          "  - id: b\n"
                          "    agent: host\n"
                          "tags: [one, two]\n",
                          &root, &target, &err),
                     0);
    nodes = conf_child(root, "nodes");
    assert_int_equal(conf_list_len(nodes), 2);
    assert_int_equal(conf_apply(conf_list_item(nodes, 0), node_options, &node, &err), 0);
    assert_string_equal(node.id, "a");
    assert_int_equal(node.agent.port, 1);
    conf_release(node_options, &node);
    assert_int_equal(conf_apply(conf_list_item(nodes, 1), node_options, &node, &err), -1);
    assert_string_equal(err.text, "f.yaml:5: option \"nodes[1].agent\": \"host\" has no port "
                                  "(allowed: host:port)");
    assert_null(node.id);
    assert_null(conf_list_item(nodes, 2));
    assert_string_equal(conf_string(conf_list_item(conf_child(root, "tags"), 1)), "two");
    conf_release(options, &target);
    conf_free(root);
}

static void test_conf__tree__knows_lines_columns_and_order(void **state)
{
    static const char text[] = "b: 1\n\na:\n  deep: [x,\n    {k: v}]\n";
    struct conf_node *root;
    const struct conf_node *deep;
    const char *key;
    struct err err;

    (void)state;
    assert_int_equal(conf_parse("f.yaml", text, strlen(text), &root, &err), 0);
    assert_int_equal(conf_map_len(root), 2);
    assert_string_equal(conf_string(conf_map_entry(root, 0, &key)), "1");
    assert_string_equal(key, "b");
    deep = conf_child(conf_child(root, "a"), "deep");
    assert_int_equal(conf_line(deep), 4);
    assert_int_equal(conf_column(deep), 9);
    deep = conf_child(conf_list_item(deep, 1), "k");
    assert_int_equal(conf_line(deep), 5);
    assert_int_equal(conf_error(deep, &err, "is %s (allowed: nothing)", "wrong"), -1);
    assert_string_equal(err.text, "f.yaml:5: option \"a.deep[1].k\": is wrong (allowed: nothing)");
    assert_null(conf_child(deep, "x"));
    assert_null(conf_child(NULL, "x"));
    assert_int_equal(conf_list_len(root), 0);
    assert_null(conf_string(root));
    conf_free(root);
}

static void test_conf__empty_file__is_an_empty_map(void **state)
{
    static const char *const empty[] = {"", "# nothing\n", "---\n", "~\n", "\xef\xbb\xbf"};
    struct conf_node *root;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(empty); i++) {
        assert_int_equal(conf_parse("f.yaml", empty[i], strlen(empty[i]), &root, NULL), 0);
        assert_int_equal(conf_map_len(root), 0);
        conf_free(root);
    }
    assert_error("", "f.yaml:1: option \"name\": is required (allowed: main)");
}

static void test_conf__map_or_list_without_content__is_empty(void **state)
{
    struct options target;
    struct conf_node *root;
    struct err err;

    (void)state;
    assert_int_equal(load("name: x\nhttp:\ntags:\n", &root, &target, &err), 0);
    assert_int_equal(target.http.listen.port, 8080);
    assert_int_equal(conf_list_len(conf_child(root, "tags")), 0);
    conf_release(options, &target);
    conf_free(root);
}

/* --- what is refused ------------------------------------------------------------------------ */

static void test_conf__unknown_option__names_the_nearest(void **state)
{
    (void)state;
    assert_error("name: x\nfailure_timout: 1s\n",
                 "f.yaml:2: option \"failure_timout\": is unknown, did you mean "
                 "\"failure_timeout\"? (allowed: name, number, flag, failure_timeout, max_lag, "
                 "colour, dir, http, nodes, tags)");
    assert_error("name: x\nhttp:\n  lisen: a:1\n",
                 "f.yaml:3: option \"http.lisen\": is unknown, did you mean \"listen\"? "
                 "(allowed: listen, token_file)");
    assert_error("zzzzzzzz: x\n",
                 "f.yaml:1: option \"zzzzzzzz\": is unknown (allowed: name, number, flag, "
                 "failure_timeout, max_lag, colour, dir, http, nodes, tags)");
}

static void test_conf__bad_values__say_what_is_allowed(void **state)
{
    static const char *const cases[][2] = {
        {"number: 11", "option \"number\": 11 is out of range (allowed: -3 to 10)"},
        {"number: x", "option \"number\": \"x\" is no whole number (allowed: -3 to 10)"},
        {"flag: 1", "option \"flag\": \"1\" is neither true nor false (allowed: true, false, on, "
                    "off, yes, no)"},
        {"failure_timeout: 10", "option \"failure_timeout\": \"10\" has no unit (allowed: a number "
                                "with ms, s, min, h or d, like 250ms)"},
        {"failure_timeout: 10ms",
         "option \"failure_timeout\": 10ms is out of range (allowed: 100ms to 1min)"},
        {"max_lag: 2GB", "option \"max_lag\": 2GB is out of range (allowed: 0B to 1GB)"},
        {"max_lag: 1s", "option \"max_lag\": \"1s\" is no size (allowed: a number of bytes, or one "
                        "with B, kB, MB, GB or TB, like 16MB)"},
        {"colour: blue", "option \"colour\": \"blue\" is not known (allowed: red, green)"},
        {"dir: data", "option \"dir\": \"data\" is no absolute path (allowed: /…)"},
        {"dir: \"/a\\nb\"",
         "option \"dir\": has a control character (allowed: one line of plain text)"},
        {"dir:", "option \"dir\": has no value (allowed: a value, or leave the line out)"},
        {"dir: [/a]", "option \"dir\": is a list (allowed: one value)"},
        {"dir: {a: b}", "option \"dir\": is a map (allowed: one value)"},
        {"http: 5", "option \"http\": is no map (allowed: `listen: …` and so on)"},
        {"http: {listen: ':5'}",
         "option \"http.listen\": \":5\" is no address (allowed: host:port, 10.0.0.1:5432 or "
         "[2001:db8::1]:5432)"},
        {"nodes: 5", "option \"nodes\": is no list (allowed: a list, lines that begin with -)"},
        {"nodes: []", "option \"nodes\": has 0 items (allowed: 1 to 3)"},
        {"nodes: [a]", "option \"nodes[0]\": has no options (allowed: `id: …` and so on)"},
        {"tags: [a, b, c]", "option \"tags\": has 3 items (allowed: 0 to 2)"},
        {"tags: [a, {b: c}]", "option \"tags[1]\": is no plain text (allowed: one value)"},
    };

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        char *text = xasprintf("name: x\n%s\n", cases[i][0]);
        char *expected = xasprintf("f.yaml:2: %s", cases[i][1]);

        assert_error(text, expected);
        free(text);
        free(expected);
    }
}

static void test_conf__secret_that_others_can_read__is_refused_with_its_line(void **state)
{
    const char *path = tmp_path("token");
    char *text = xasprintf("name: x\nhttp:\n  token_file: %s\n", path);
    char *expected = xasprintf(
        "f.yaml:3: option \"http.token_file\": %s: others than its owner can "
        "use it (mode 0644): chmod 600 %s",
        path, path);

    (void)state;
    assert_int_equal(file_write_atomic(path, "t", 1, 0644, NULL), 0);
    assert_error(text, expected);
    free(text);
    free(expected);
}

static void test_conf__what_yaml_can_do_and_we_do_not__is_refused_with_its_line(void **state)
{
    static const char *const cases[][2] = {
        {"a: 1\nb: 2\na: 3\n",
         "f.yaml:3: option \"a\": stands here twice, first on line 1 (allowed: once)"},
        {"a: &x 1\n", "f.yaml:1: anchors (&name) are not supported: write the value again"},
        {"a: &x {b: c}\n", "f.yaml:1: anchors (&name) are not supported: write the value again"},
        {"a: 1\nb: *x\n", "f.yaml:2: aliases (*name) are not supported: write the value again"},
        {"a: !!str 1\n", "f.yaml:1: tags (!name) are not supported: write a plain value"},
        {"a: 1\n---\nb: 2\n", "f.yaml:2: has a second document (allowed: one)"},
        {"[1, 2]: 3\n", "f.yaml:1: an option's name must be a plain text"},
        {"'': 3\n", "f.yaml:1: an option's name must be a plain text"},
        {"- a\n- b\n", "f.yaml:1: has no options (allowed: lines like `name: value`)"},
        {"just text\n", "f.yaml:1: has no options (allowed: lines like `name: value`)"},
        {"a: \"x\\0y\"\n", "f.yaml:1: a text must not contain a NUL character"},
    };
    struct conf_node *root;
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(cases); i++) {
        assert_int_equal(conf_parse("f.yaml", cases[i][0], strlen(cases[i][0]), &root, &err), -1);
        assert_string_equal(err.text, cases[i][1]);
        assert_null(root);
    }
}

static void test_conf__broken_yaml__names_the_line(void **state)
{
    static const char *const broken[] = {"a: 1\nb: [1, 2\n", "a: 1\n\tb: 2\n", "a: 1\nb: \"open\n",
                                         "a: 1\nb: \xff\xfe\n", "a: 1\n  b: 2\n"};
    struct conf_node *root;
    struct err err;

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(broken); i++) {
        assert_int_equal(conf_parse("f.yaml", broken[i], strlen(broken[i]), &root, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(!strncmp(err.text, "f.yaml:2: is not valid YAML: ", 29) ||
                    !strncmp(err.text, "f.yaml:3: is not valid YAML: ", 29));
    }
}

static void test_conf__too_much__is_refused(void **state)
{
    size_t len = (1 << 20) + 1;
    char *text = xmalloc(len + 1);
    struct conf_node *root;
    struct err err;

    (void)state;
    memset(text, '#', len);
    assert_int_equal(conf_parse("f.yaml", text, len, &root, &err), -1);
    assert_string_equal(err.text, "f.yaml:1: is too big (allowed: 1 MiB)");
    memcpy(text, "a: ", 3);
    memset(text + 3, '[', 40);
    assert_int_equal(conf_parse("f.yaml", text, 43, &root, &err), -1);
    assert_string_equal(err.text, "f.yaml:1: is nested too deep (allowed: 32 levels)");
    memcpy(text, "a: [", 4);
    for (size_t i = 4; i < 50000; i += 2)
        memcpy(text + i, "1,", 2);
    assert_int_equal(conf_parse("f.yaml", text, 50000, &root, &err), -1);
    assert_string_equal(err.text, "f.yaml:1: has too much in it (allowed: 20000 values)");
    free(text);
}

static void test_conf__file__missing_or_not__is_named(void **state)
{
    struct conf_node *root;
    struct err err;

    (void)state;
    assert_int_equal(conf_load(tmp_path("none.yaml"), &root, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, tmp_path("none.yaml")));
    assert_int_equal(file_write_atomic(tmp_path("f.yaml"), "a: b\n", 5, 0600, NULL), 0);
    assert_int_equal(conf_load(tmp_path("f.yaml"), &root, &err), 0);
    assert_string_equal(conf_string(conf_child(root, "a")), "b");
    conf_free(root);
}

/* --- what is printed ------------------------------------------------------------------------ */

/* Not inlined: gcc 12 takes the stream's buffer for a variable of this function that dangles. */
__attribute__((noinline)) static char *printed(void (*print)(FILE *, const struct opt *))
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    print(out, options);
    fclose(out);
    return text;
}

static void test_conf__sample__is_accepted_and_names_every_option(void **state)
{
    char *text = printed(conf_print_sample);
    struct options target;
    struct conf_node *root;
    struct node node = {0};
    struct err err;

    (void)state;
    if (load(text, &root, &target, &err) < 0)
        fail_msg("%s\n%s", err.text, text);
    assert_string_equal(target.name, "main");
    assert_int_equal(
        conf_apply(conf_list_item(conf_child(root, "nodes"), 0), node_options, &node, &err), 0);
    assert_string_equal(node.id, "a");
    assert_non_null(strstr(text, "# How long a leader may be silent. (duration, 100ms to 1min; "
                                 "default 1s; reloadable)\n#failure_timeout: 1s\n"));
    assert_non_null(strstr(text, "  #token_file: /etc/ogel/token\n"));
    assert_non_null(strstr(text, "  - id: a\n"));
    conf_release(node_options, &node);
    conf_release(options, &target);
    conf_free(root);
    free(text);
}

static void test_conf__sample_with_all_lines_active__is_accepted(void **state)
{
    char *text = printed(conf_print_sample), *to = text;
    struct options target;
    struct conf_node *root;
    struct err err;

    (void)state;
    /* "#name: value" is an option that is off, "# Text" a comment. */
    for (const char *from = text; *from != '\0'; from++)
        if (*from != '#' || from[1] == ' ')
            *to++ = *from;
    *to = '\0';
    to = strstr(text, "token_file: /etc/ogel/token");
    assert_non_null(to);
    *to = '#'; /* the one value that must exist on the machine */
    if (load(text, &root, &target, &err) < 0)
        fail_msg("%s\n%s", err.text, text);
    assert_int_equal(target.timeout_ms, 1000);
    conf_release(options, &target);
    conf_free(root);
    free(text);
}

static void test_conf__help_and_manual__name_every_option(void **state)
{
    static const char *const names[] = {
        "name",  "failure_timeout", "http.listen",   "http.token_file",
        "nodes", "nodes[].id",      "nodes[].agent", "tags"};
    char *help = printed(conf_print_help), *man = printed(conf_print_man);

    (void)state;
    for (size_t i = 0; i < OGEL_ARRAY_LEN(names); i++) {
        char *line = xasprintf("  %s\n", names[i]),
             *item = xasprintf(".TP\n\\fB%s\\fR\n", names[i]);

        assert_non_null(strstr(help, line));
        assert_non_null(strstr(man, item));
        free(line);
        free(item);
    }
    free(help);
    free(man);
}

/* --- the command line ----------------------------------------------------------------------- */

static const struct opts_program program = {
    .name = "ogel-test",
    .summary = "a test",
    .description = "Text.",
    .version = "1",
    .table = options,
};

static int parse(const char *a, const char *b, struct opts *opts, struct err *err)
{
    char *argv[] = {(char *)"ogel-test", (char *)a, (char *)b, NULL};

    return opts_parse(&program, b != NULL ? 3 : a != NULL ? 2 : 1, argv, opts, err);
}

static void test_opts__config__is_run_or_checked(void **state)
{
    struct opts opts;
    struct err err;

    (void)state;
    assert_int_equal(parse("--config", "/f", &opts, &err), 0);
    assert_int_equal(opts.action, OPTS_RUN);
    assert_string_equal(opts.config, "/f");
    assert_int_equal(parse("--config=/f", "--check-config", &opts, &err), 0);
    assert_int_equal(opts.action, OPTS_CHECK_CONFIG);
}

static void test_opts__wrong_line__is_refused_with_the_word(void **state)
{
    struct opts opts;
    struct err err;

    (void)state;
    assert_int_equal(parse(NULL, NULL, &opts, &err), -1);
    assert_string_equal(err.text, "option \"--config\" is required; see ogel-test --help");
    assert_int_equal(parse("--confg", "/f", &opts, &err), -1);
    assert_string_equal(err.text, "option \"--confg\" is unknown; see ogel-test --help");
    assert_int_equal(parse("--config", NULL, &opts, &err), -1);
    assert_string_equal(err.text, "option \"--config\" needs a value; see ogel-test --help");
    assert_int_equal(parse("--config=/f", "more", &opts, &err), -1);
    assert_string_equal(err.text, "\"more\" is one argument too many; see ogel-test --help");
}

#define IN_TMPDIR(test) cmocka_unit_test_setup_teardown(test, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conf__absent_options__have_their_defaults),
        IN_TMPDIR(test_conf__every_type__is_read),
        cmocka_unit_test(test_conf__list_of_maps__is_walked_with_its_own_table),
        cmocka_unit_test(test_conf__tree__knows_lines_columns_and_order),
        cmocka_unit_test(test_conf__empty_file__is_an_empty_map),
        cmocka_unit_test(test_conf__map_or_list_without_content__is_empty),
        cmocka_unit_test(test_conf__unknown_option__names_the_nearest),
        cmocka_unit_test(test_conf__bad_values__say_what_is_allowed),
        IN_TMPDIR(test_conf__secret_that_others_can_read__is_refused_with_its_line),
        cmocka_unit_test(test_conf__what_yaml_can_do_and_we_do_not__is_refused_with_its_line),
        cmocka_unit_test(test_conf__broken_yaml__names_the_line),
        cmocka_unit_test(test_conf__too_much__is_refused),
        IN_TMPDIR(test_conf__file__missing_or_not__is_named),
        cmocka_unit_test(test_conf__sample__is_accepted_and_names_every_option),
        cmocka_unit_test(test_conf__sample_with_all_lines_active__is_accepted),
        cmocka_unit_test(test_conf__help_and_manual__name_every_option),
        cmocka_unit_test(test_opts__config__is_run_or_checked),
        cmocka_unit_test(test_opts__wrong_line__is_refused_with_the_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
