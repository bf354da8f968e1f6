/* Small parts of the agent's shell: SCRAM verifiers, what children print, options. */
#include "tests/unit/tmpdir.h"

#include "agent/child.h"
#include "agent/node.h"
#include "agent/options.h"
#include "agent/replies.h"
#include "agent/scram.h"
#include "base/loop.h"

/* RFC 7677's example: user "user", password "pencil", this salt and iteration count; the keys
 * follow from its proofs (StoredKey and ServerKey as PostgreSQL stores them). */
static const char rfc7677[] = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
                              "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                              "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

static void test_scram__the_rfcs_example__matches_its_password_only(void **state)
{
    (void)state;
    assert_true(scram_matches(rfc7677, "pencil"));
    assert_false(scram_matches(rfc7677, "Pencil"));
    assert_false(scram_matches(rfc7677, ""));
}

static void test_scram__a_new_verifier__matches_and_is_salted(void **state)
{
    char *a = scram_verifier("s3cret", false), *b = scram_verifier("s3cret", false);

    (void)state;
    assert_true(scram_matches(a, "s3cret"));
    assert_false(scram_matches(a, "s3cret "));
    assert_string_not_equal(a, b);
    free(a);
    free(b);
}

/* Stretching protects passwords that can be guessed: all but long ones of programs. */
static void test_scram__only_a_generated_password_of_a_program__is_not_stretched(void **state)
{
    static const struct {
        const char *password;
        bool machine, stretched;
    } cases[] = {
        {"0123456789abcdefghijkl", true, false},
        {"0123456789abcdefghijk", true, true},
        {"0123456789abcdefghijkl", false, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *verifier = scram_verifier(cases[i].password, cases[i].machine);

        assert_int_equal(strncmp(verifier, "SCRAM-SHA-256$4096:", 19) == 0, cases[i].stretched);
        assert_true(scram_matches(verifier, cases[i].password));
        free(verifier);
    }
}

static void test_scram__anything_else__matches_nothing(void **state)
{
    static const char *const others[] = {
        "",
        "md5d41d8cd98f00b204e9800998ecf8427e",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$4096:$:",
        "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$x:y",
        "SCRAM-SHA-256$999999999:W22ZaJ0SNY7soEsUEjb6gQ==$x:y",
        "SCRAM-SHA-256$4096:***$x:y",
    };

    (void)state;
    assert_false(scram_matches(NULL, "x"));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(scram_matches(others[i], "x"));
}

static void take(struct child_output *output, const char *text)
{
    child_output_take(output, text, strlen(text));
}

static void test_child_output__progress_in_pieces__is_read(void **state)
{
    struct child_output output = {.percent = 0};

    (void)state;
    take(&output, "waiting for checkpoint\n 1234/567");
    assert_int_equal(output.percent, 0);
    assert_string_equal(output.last, "waiting for checkpoint");
    take(&output, "8 kB (21%), 0/1 tablespace\r");
    assert_int_equal(output.percent, 21);
    take(&output, "5678/5678 kB (100%) copied\r\npg_rewind: Done!\n");
    assert_int_equal(output.percent, 100);
    assert_string_equal(output.last, "pg_rewind: Done!");
}

static void test_child_output__of_ogelctl__is_read_and_no_message(void **state)
{
    struct child_output output = {.percent = 0};

    (void)state;
    take(&output, "{\"phase\": \"restoring\", \"done_bytes\": 1000, \"total_bytes\": 4000}\n");
    assert_int_equal(output.percent, 25);
    take(&output, "{\"phase\":\"restoring\",\"done_bytes\":9000,\"total_bytes\":4000}\n");
    assert_int_equal(output.percent, 100);
    take(&output, "{\"done_bytes\": -4, \"total_bytes\": 0}\n{\"total_bytes\": 5}\n");
    assert_int_equal(output.percent, 100);
    assert_string_equal(output.last, "");
    take(&output, "{\"result\": null, \"error\": {}}\nogelctl: pack 3 is damaged\n");
    assert_string_equal(output.last, "ogelctl: pack 3 is damaged");
}

static void test_child_output__nonsense__is_no_progress(void **state)
{
    struct child_output output = {.percent = 7};
    char longer[1000];

    (void)state;
    take(&output, "(101%)\n(x%)\n(%)\n)50%(\n");
    assert_int_equal(output.percent, 7);
    memset(longer, 'y', sizeof longer);
    child_output_take(&output, longer, sizeof longer);
    take(&output, "\n");
    assert_int_equal(strlen(output.last), CHILD_LINE_SIZE - 1);
}

/* pg_rewind says it with exit code 0 (design section 5, trap 4). */
static void test_child_output__no_rewind_required__is_noticed(void **state)
{
    struct child_output output = {.percent = 0};

    (void)state;
    take(&output, "pg_rewind: servers diverged at WAL location 0/3000060 on timeline 1\n");
    assert_false(output.no_rewind_required);
    take(&output, "pg_rewind: no rewind required\n");
    assert_true(output.no_rewind_required);
}

/* --- replies
 * ----------------------------------------------------------------------------------------- */

/* The standby's clock is an hour off, either way, or jumps: nothing of it reaches this machine's.
 */
static void test_replies__clock_of_the_standby__does_not_matter(void **state)
{
    static const int64_t offsets_us[] = {0, 3600000000, -3600000000};
    static const char name[] = "ogel_n2_i1_g5";

    (void)state;
    for (size_t i = 0; i < sizeof offsets_us / sizeof offsets_us[0]; i++) {
        struct replies replies = {.reply = {{.seen_ms = 0}}};
        int64_t sent_us = 7000000 + offsets_us[i];

        replies_note(&replies, name, sent_us, 1000);
        assert_int_equal(replies_heard(&replies, name), 0); /* of now, or of an hour ago */
        replies_note(&replies, name, sent_us, 1500);
        assert_int_equal(replies_heard(&replies, name), 0);
        replies_note(&replies, name, sent_us + 1, 2000);
        assert_int_equal(replies_heard(&replies, name), 1500);
        replies_note(&replies, name, sent_us + 1, 9000); /* it has died */
        assert_int_equal(replies_heard(&replies, name), 1500);
        replies_note(&replies, name, sent_us - 5, 9500);
        assert_int_equal(replies_heard(&replies, name), 9000);
    }
}

static void test_replies__of_several__are_kept_apart_and_the_oldest_makes_room(void **state)
{
    struct replies replies = {.reply = {{.seen_ms = 0}}};
    char name[REPLY_NAME_SIZE];

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < REPLIES_MAX; i++) {
            snprintf(name, sizeof name, "ogel_n%d_i1_g5", i);
            replies_note(&replies, name, 100 * round + i, 1000 * (round + 1) + i);
        }
    assert_int_equal(replies_heard(&replies, "ogel_n3_i1_g5"), 1003);
    replies_note(&replies, "ogel_n1_i1_g6", 1, 5000);
    assert_int_equal(replies_heard(&replies, "ogel_n1_i1_g6"), 0);
    assert_int_equal(replies_heard(&replies, "ogel_n0_i1_g5"), 0);
    assert_int_equal(replies_heard(&replies, "ogel_n3_i1_g5"), 1003);
}

/* --- options
 * ----------------------------------------------------------------------------------------- */

static void write_config(const char *peer_a, const char *peer_b, const char *more)
{
    char text[4096], *at = text;
    static const char *const secrets[] = {"read",        "admin",  "peer",    "superuser",
                                          "replication", "rewind", "monitor", "owner"};
    char path[512];

    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", tmpdir, secrets[i]);
        assert_int_equal(file_write_atomic(path, "0123456789abcdef\n", 17, 0600, NULL), 0);
    }
    at += sprintf(at, "cluster: main\nnode: n2\ndata_directory: %s/data\n", tmpdir);
    at += sprintf(at, "postgres: {host: 127.0.0.1, port: 6000}\npeers:\n");
    at += sprintf(at, "- {id: %s, agent: \"127.0.0.1:7001\"}\n", peer_a);
    at += sprintf(at, "- {id: %s, agent: \"127.0.0.1:7003\"}\n", peer_b);
    at += sprintf(at, "tokens: {read: %s/read, admin: %s/admin, peer: %s/peer}\n", tmpdir, tmpdir,
                  tmpdir);
    at += sprintf(at,
                  "passwords: {superuser: %s/superuser, replication: %s/replication,"
                  " rewind: %s/rewind, monitor: %s/monitor, owner: %s/owner}\n",
                  tmpdir, tmpdir, tmpdir, tmpdir, tmpdir);
    sprintf(at, "%s\n", more);
    assert_int_equal(file_write_atomic(tmp_path("agent.yaml"), text, strlen(text), 0600, NULL), 0);
}

static void test_options__slots__are_the_ids_in_order(void **state)
{
    static struct agent_config config;
    static struct secrets secrets;
    struct err err = {0};
    char state_directory[300];

    (void)state;
    snprintf(state_directory, sizeof state_directory, "state_directory: %s/state", tmpdir);
    write_config("n3", "n1", state_directory);
    assert_int_equal(agent_config_load(tmp_path("agent.yaml"), &config, &err), 0);
    assert_string_equal(config.ids[0], "n1");
    assert_string_equal(config.ids[2], "n3");
    assert_int_equal(config.self, 1);
    assert_int_equal(config.agents[0].port, 7003);
    assert_int_equal(config.agents[2].port, 7001);
    assert_int_equal(agent_config_slot(&config, "n9"), NODE_NONE);
    assert_int_equal(agent_core_options(&config).fence_timeout_ms, 3000);
    assert_int_equal(agent_secrets_load(&config, &secrets, &err), 0);
    assert_string_equal(secrets.password[PASSWORD_OWNER], "0123456789abcdef");
    agent_config_free(&config);
}

static void assert_refused(const char *peer_a, const char *peer_b, const char *more,
                           const char *names)
{
    static struct agent_config config;
    struct err err = {0};

    write_config(peer_a, peer_b, more);
    assert_int_equal(agent_config_load(tmp_path("agent.yaml"), &config, &err), -1);
    assert_non_null(strstr(err.text, names));
    assert_non_null(strstr(err.text, "agent.yaml:"));
    agent_config_free(&config);
}

static void test_options__mistakes__name_file_line_and_option(void **state)
{
    char inside[300], outside[300];

    (void)state;
    snprintf(inside, sizeof inside, "state_directory: %s/data/state", tmpdir);
    snprintf(outside, sizeof outside, "state_directory: %s/state\nfence_timeout: 5", tmpdir);
    assert_refused("n1", "n3", inside, "state_directory");
    assert_refused("n1", "n3", outside, "fence_timeout");
    snprintf(outside, sizeof outside, "state_directory: %s/state", tmpdir);
    assert_refused("n1", "n1", outside, "twice");
    assert_refused("n1", "n2", outside, "twice");
    assert_refused("N1", "n3", outside, "no node id");
    assert_refused("n1", "n3", "state_directory: state", "state_directory");
}

/* --- what a step came to --- */

static struct agent agent;

static void agent_reset(void)
{
    memset(&agent, 0, sizeof agent);
    agent.in.durable = &agent.durable;
    agent.in.message = &agent.message;
    agent.in.pg = PG_UP;
    agent.in.in_recovery = true;
    agent.in.position_valid = agent.in.replication_known = true;
    agent.names_known = true;
    snprintf(agent.names, sizeof agent.names, "ANY 1 (new)");
}

/* While it streams its WAL goes on; what was read before says nothing once it is fenced again. */
static void test_applied__an_upstream__voids_the_position_that_was_read(void **state)
{
    struct step_run run = {.step.kind = STEP_REPLICATION, .rc = -1};

    (void)state;
    agent_reset();
    run.step.replication.upstream = NODE_NONE;
    step_applied(&agent, &run);
    assert_true(agent.in.position_valid);
    run.step.replication.upstream = 1; /* also where it got half-way only */
    step_applied(&agent, &run);
    assert_false(agent.in.position_valid);
    assert_false(agent.in.replication_known);
}

static void test_applied__names_shown_on_a_leader__has_old_senders_looked_for_again(void **state)
{
    struct step_run run = {.step.kind = STEP_CHECK_NAMES};

    (void)state;
    agent_reset();
    agent.in.replication_since_ms = INT64_MAX;
    agent.in.in_recovery = false;
    snprintf(run.names, sizeof run.names, "ANY 1 (old)");
    step_applied(&agent, &run);
    assert_false(agent.in.names_shown);
    assert_false(agent.in.old_senders);
    snprintf(run.names, sizeof run.names, "ANY 1 (new)");
    step_applied(&agent, &run);
    assert_true(agent.in.names_shown);
    assert_true(agent.in.old_senders);
    assert_true(agent.changed_ms > 0); /* what was sampled before does not clear it */
}

/* --- what is reported --- */

static void test_report__data_about_to_be_given_up__is_not_called_complete(void **state)
{
    struct step_run run = {.step.kind = STEP_PERSIST};
    char host[] = "db.example";
    struct err err = {0};

    (void)state;
    agent_reset();
    assert_int_equal(loop_new(&agent.loop, &err), 0);
    peers_new(&agent);
    agent.config.options.postgres.host = host;
    agent.durable.complete = true;
    report_update(&agent);
    assert_true(agent.report.complete);
    run.step.durable.marker = MARKER_CLONE;
    agent.running = &run; /* the disk hangs */
    report_update(&agent);
    assert_false(agent.report.complete);
    assert_int_equal(agent.report.marker, MARKER_CLONE);
    agent.running = NULL;
    peers_stop(&agent);
    loop_free(agent.loop);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tmpdir_make, tmpdir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies__clock_of_the_standby__does_not_matter),
        cmocka_unit_test(test_replies__of_several__are_kept_apart_and_the_oldest_makes_room),
        cmocka_unit_test(test_scram__the_rfcs_example__matches_its_password_only),
        cmocka_unit_test(test_scram__a_new_verifier__matches_and_is_salted),
        cmocka_unit_test(test_scram__only_a_generated_password_of_a_program__is_not_stretched),
        cmocka_unit_test(test_scram__anything_else__matches_nothing),
        cmocka_unit_test(test_child_output__progress_in_pieces__is_read),
        cmocka_unit_test(test_child_output__of_ogelctl__is_read_and_no_message),
        cmocka_unit_test(test_child_output__nonsense__is_no_progress),
        cmocka_unit_test(test_child_output__no_rewind_required__is_noticed),
        cmocka_unit_test(test_applied__an_upstream__voids_the_position_that_was_read),
        cmocka_unit_test(test_applied__names_shown_on_a_leader__has_old_senders_looked_for_again),
        cmocka_unit_test(test_report__data_about_to_be_given_up__is_not_called_complete),
        TEST(test_options__slots__are_the_ids_in_order),
        TEST(test_options__mistakes__name_file_line_and_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
