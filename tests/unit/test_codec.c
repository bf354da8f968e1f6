/* The one message and the report as JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "protocol/codec.h"

static const struct cluster_id CLUSTER = {{0xde, 0xad, [15] = 0x01}};

/* Every field has a value that no other way of filling it would give. */
static struct report full_report(void)
{
    struct report r = {
        .protocol = PROTOCOL_VERSION,
        .cluster = CLUSTER,
        .node = 2,
        .sequence = 1234567890123,
        .agent_run = 0xfedcba9876543210,
        .promise = {5, 0x8000000000000001},
        .leader = {5, 1, {3, 33}, 0x8000000000000001},
        .grant = {4, 9, {2, 22}, true},
        .role = ROLE_FOLLOWER,
        .incarnations = {{1, 10}, {3, 33}, {2, 22}},
        .void_number = {0, 2, 1},
        .registered = true,
        .birth_ended = true,
        .complete = true,
        .marker = MARKER_REWIND,
        .document = {.version = {5, 6},
                     .maintenance = true,
                     .fenced = {false, true, false},
                     .address = {{"10.0.0.1", 5432}, {"db.example", 5433}, {"::1", 65535}}},
        .pg = PG_UP,
        .in_recovery = true,
        .local_probe_ok = true,
        .timeline = 5,
        .write_lsn = 0x16b374d848,
        .flush_lsn = UINT64_MAX,
        .lineage = {.count = 2, .truncated = true, .begin = {{2, 0x1000}, {5, 0x100002000}}},
        .vote = {true, {5, 7}, {5, 0xabc}, 0xabb, true},
        .receiver = {true, true, 1, AGE_NEVER},
        .peers = {{.agent_age_ms = AGE_NEVER},
                  {true, false, 12, 5, PROBE_PRIMARY, 34},
                  {.postgres = PROBE_BROKEN}},
        .standbys = {{true, true, true, 5, 1, 0xa, 0xb, 100, 200}},
        .postgres = {"10.0.0.3", 5432},
        .system_id = 0x6123456789abcdef,
        .pg_version = 150020,
        .disk_free_bytes = 1ull << 40,
        .job = {77, JOB_REINIT},
        .job_state = JOB_FAILED,
        .progress_percent = 42,
        .step = "C4 cloning",
        .cause = "went away — \"at once\"",
    };

    return r;
}

static struct desired full_desired(void)
{
    struct desired d = {
        .protocol = PROTOCOL_VERSION,
        .cluster = CLUSTER,
        .node = 0,
        .generation = UINT32_MAX,
        .proposer = UINT64_MAX,
        .role = ROLE_FENCED,
        .birth = true,
        .planned = true,
        .leader = {0, NODE_NONE, {0, 0}, 0},
        .incarnations = {{1, 10}, {3, 33}, {2, 22}},
        .destroyed_number = {1, 0, 2},
        .job = {9, JOB_RESTART},
        .job_after = 8,
        .document = {4, 3},
        .source = {"s3://minio:9000/b", "20260203T040506Z-1a2b3c4d", 7, 0x1C0000F8, 42, 150018},
    };

    return d;
}

static FILE *open_source(const char *name)
{
    const char *srcdir = getenv("srcdir");
    char path[1024];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", srcdir != NULL ? srcdir : ".", name);
    file = fopen(path, "r");
    assert_non_null(file);
    return file;
}

/* The members of struct TAG as types.h declares them, one a line; each must be a field of JSON. */
static void assert_members_are_fields(const char *tag, const json_t *json)
{
    FILE *types = open_source("protocol/types.h");
    char line[256], opening[64];
    unsigned members = 0;
    bool inside = false;

    snprintf(opening, sizeof(opening), "struct %s {\n", tag);
    while (fgets(line, sizeof(line), types) != NULL) {
        char *end = strpbrk(line, ";[/*"), *name;

        if (strcmp(line, opening) == 0)
            inside = true;
        else if (inside && line[0] == '}')
            break;
        else if (inside && end != NULL && *end != '/' && *end != '*') {
            *end = '\0';
            name = strrchr(line, ' ') + 1;
            if (strcmp(name, "cluster") == 0)
                name = strcpy(line, "cluster_id");
            if (strcmp(tag, "desired") == 0 && strcmp(name, "document") == 0)
                name = strcpy(line, "document_version");
            if (json_object_get(json, name) == NULL)
                fail_msg("struct %s has %s, its JSON has not", tag, name);
            members++;
        }
    }
    fclose(types);
    assert_int_equal(members, json_object_size(json));
}

static void test_codec__every_member_of_the_types__is_a_field(void **state)
{
    struct report report = full_report();
    struct desired desired = full_desired();
    json_t *r = report_to_json(&report), *d = desired_to_json(&desired);
    const struct {
        const char *tag;
        const json_t *json;
    } records[] = {
        {"report", r},
        {"desired", d},
        {"snapshot_source", json_object_get(d, "source")},
        {"promise", json_object_get(r, "promise")},
        {"leadership", json_object_get(r, "leader")},
        {"grant", json_object_get(r, "grant")},
        {"incarnation", json_array_get(json_object_get(r, "incarnations"), 0)},
        {"document_facts", json_object_get(r, "document")},
        {"document_version", json_object_get(d, "document_version")},
        {"vote", json_object_get(r, "vote")},
        {"position", json_object_get(json_object_get(r, "vote"), "position")},
        {"receiver_view", json_object_get(r, "receiver")},
        {"standby_view", json_array_get(json_object_get(r, "standbys"), 0)},
        {"peer_view", json_array_get(json_object_get(r, "peers"), 0)},
        {"address", json_object_get(r, "postgres")},
        {"job", json_object_get(r, "job")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        assert_members_are_fields(records[i].tag, records[i].json);
    json_decref(r);
    json_decref(d);
}

static void test_report__encoded_and_decoded__is_the_same(void **state)
{
    struct report report = full_report(), decoded;
    json_t *json = report_to_json(&report), *again;

    (void)state;
    memset(&decoded, 0xff, sizeof(decoded));
    assert_int_equal(report_from_json(json, &decoded, NULL), 0);
    again = report_to_json(&decoded);
    assert_true(json_equal(json, again));
    assert_string_equal(decoded.cause, report.cause);
    assert_int_equal(decoded.receiver.message_age_ms, AGE_NEVER);
    assert_int_equal(decoded.leader.node, 1);
    assert_int_equal(decoded.document.address[2].port, 65535);
    assert_true(decoded.flush_lsn == UINT64_MAX);
    assert_int_equal(decoded.peers[1].postgres, PROBE_PRIMARY);
    json_decref(again);
    json_decref(json);
}

static void test_desired__encoded_and_decoded__is_the_same(void **state)
{
    struct desired desired = full_desired(), decoded;
    json_t *json = desired_to_json(&desired), *again;

    (void)state;
    memset(&decoded, 0xff, sizeof(decoded));
    assert_int_equal(desired_from_json(json, &decoded, NULL), 0);
    again = desired_to_json(&decoded);
    assert_true(json_equal(json, again));
    assert_int_equal(decoded.leader.node, NODE_NONE);
    assert_memory_equal(&decoded.cluster, &CLUSTER, sizeof(CLUSTER));
    json_decref(again);
    json_decref(json);
}

static void test_desired__as_text__has_this_form(void **state)
{
    struct desired desired = full_desired();
    json_t *json = desired_to_json(&desired);
    char *text = json_dump_line(json);

    (void)state;
    assert_string_equal(
        text, "{\"protocol\":1,\"cluster_id\":\"dead0000000000000000000000000001\",\"node\":0,"
              "\"generation\":4294967295,\"proposer\":\"ffffffffffffffff\",\"role\":\"fenced\","
              "\"birth\":true,\"planned\":true,"
              "\"leader\":{\"generation\":0,\"node\":null,"
              "\"incarnation\":{\"number\":0,\"nonce\":\"0000000000000000\"},"
              "\"proposer\":\"0000000000000000\"},"
              "\"incarnations\":[{\"number\":1,\"nonce\":\"000000000000000a\"},"
              "{\"number\":3,\"nonce\":\"0000000000000021\"},"
              "{\"number\":2,\"nonce\":\"0000000000000016\"}],"
              "\"destroyed_number\":[1,0,2],"
              "\"job\":{\"id\":\"0000000000000009\",\"kind\":\"restart\"},"
              "\"job_after\":\"0000000000000008\","
              "\"document_version\":{\"generation\":4,\"counter\":3},"
              "\"source\":{\"store\":\"s3://minio:9000/b\","
              "\"id\":\"20260203T040506Z-1a2b3c4d\",\"timeline\":7,"
              "\"stop_lsn\":\"0/1C0000F8\",\"system_id\":\"000000000000002a\","
              "\"pg_version\":150018}}");
    free(text);
    json_decref(json);
}

/* Of an orchestrator that knows of no snapshots, or of a birth that names none. */
static void test_desired__without_a_source__has_none(void **state)
{
    struct desired desired = full_desired(), decoded;
    json_t *json;

    (void)state;
    desired.source.id[0] = '\0';
    json = desired_to_json(&desired);
    assert_null(json_object_get(json, "source"));
    memset(&decoded, 0xff, sizeof(decoded));
    assert_int_equal(desired_from_json(json, &decoded, NULL), 0);
    assert_string_equal(decoded.source.id, "");
    assert_int_equal(decoded.source.timeline, 0);
    json_object_set_new(json, "source", json_pack("{s:s}", "id", "S"));
    assert_int_equal(desired_from_json(json, &decoded, NULL), -1);
    json_decref(json);
}

/* docs/protocol.md shows one message: a follower's, with every field there is. */
static void test_desired__example_in_the_docs__is_one(void **state)
{
    FILE *docs = open_source("docs/protocol.md");
    char line[1024], text[4096] = "";
    struct desired desired;
    struct err err = {0};
    bool inside = false;
    json_t *json, *again;

    (void)state;
    while (fgets(line, sizeof(line), docs) != NULL) {
        if (inside && strcmp(line, "```\n") == 0)
            break;
        if (inside)
            strncat(text, line, sizeof(text) - strlen(text) - 1);
        inside = inside || strcmp(line, "```json\n") == 0;
    }
    fclose(docs);
    assert_int_equal(json_parse_bounded(text, strlen(text), 16, &json, &err), 0);
    assert_int_equal(desired_from_json(json, &desired, &err), 0);
    assert_int_equal(desired.role, ROLE_FOLLOWER);
    again = desired_to_json(&desired);
    assert_true(json_equal(json, again));
    json_decref(json);
    json_decref(again);
}

static void assert_text_refused(const char *text, const char *expected)
{
    struct report report;
    struct err err = {0};
    json_t *json;

    assert_int_equal(json_parse_bounded(text, strlen(text), 32, &json, NULL), 0);
    assert_int_equal(report_from_json(json, &report, &err), -1);
    assert_string_equal(err.text, expected);
    json_decref(json);
}

static void test_report__no_object_or_no_protocol__is_refused(void **state)
{
    (void)state;
    assert_text_refused("[]", "field \"protocol\": expected inside of an object");
    assert_text_refused("{}", "field \"protocol\": is missing");
    assert_text_refused("{\"protocol\":1}", "field \"cluster_id\": is missing");
}

static void test_report__another_protocol__is_refused_before_anything_else(void **state)
{
    struct report report;
    struct err err = {0};
    json_t *json = json_pack("{s:i}", "protocol", PROTOCOL_VERSION + 1);

    (void)state;
    assert_int_equal(report_from_json(json, &report, &err), -1);
    assert_int_equal(err.code, ERR_REFUSED);
    assert_non_null(strstr(err.text, "speaks version 2"));
    json_decref(json);
}

/* Puts VALUE (JSON text, NULL to leave the field out) at PATH ("peers/1/postgres") of a report. */
static void assert_field_refused(const char *path, const char *value, const char *expected)
{
    struct report report = full_report();
    json_t *json = report_to_json(&report), *at = json;
    struct err err = {0};
    char name[64];

    for (const char *rest = path; rest != NULL;) {
        const char *slash = strchr(rest, '/');
        size_t length = slash != NULL ? (size_t)(slash - rest) : strlen(rest);

        memcpy(name, rest, length);
        name[length] = '\0';
        rest = slash != NULL ? slash + 1 : NULL;
        if (rest != NULL)
            at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10))
                                   : json_object_get(at, name);
    }
    assert_non_null(at);
    if (value == NULL)
        assert_int_equal(json_object_del(at, name), 0);
    else if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, strtoul(name, NULL, 10),
                                            json_loads(value, JSON_DECODE_ANY, NULL)),
                         0);
    else
        assert_int_equal(json_object_set_new(at, name, json_loads(value, JSON_DECODE_ANY, NULL)),
                         0);

    assert_int_equal(report_from_json(json, &report, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.text, expected);
    json_decref(json);
}

static void test_report__bad_field__is_named_with_its_place(void **state)
{
    static const struct {
        const char *path, *value, *expected;
    } cases[] = {
        {"node", "3", "field \"node\": expected integer 0..2"},
        {"node", "-1", "field \"node\": expected integer 0..2"},
        {"promise", NULL, "field \"promise\": is missing"},
        {"promise", "7", "field \"promise\": expected an object"},
        {"promise/generation", "-1",
         "field \"promise.generation\": expected integer 0..4294967295"},
        {"promise/generation", "4294967296",
         "field \"promise.generation\": expected integer 0..4294967295"},
        {"promise/generation", "5.0",
         "field \"promise.generation\": expected integer 0..4294967295"},
        {"promise/generation", "null",
         "field \"promise.generation\": expected integer 0..4294967295"},
        {"promise/proposer", "5", "field \"promise.proposer\": expected 16 lower-case hex digits"},
        {"promise/proposer", "\"5\"",
         "field \"promise.proposer\": expected 16 lower-case hex digits"},
        {"promise/proposer", "\"000000000000000G\"",
         "field \"promise.proposer\": expected 16 lower-case hex digits"},
        {"cluster_id", "\"00\"", "field \"cluster_id\": expected 32 lower-case hex digits or null"},
        {"complete", "1", "field \"complete\": expected true or false"},
        {"flush_lsn", "\"0/100000000\"",
         "field \"flush_lsn\": expected WAL position such as \"16/B374D848\""},
        {"flush_lsn", "16", "field \"flush_lsn\": expected WAL position such as \"16/B374D848\""},
        {"sequence", "-1", "field \"sequence\": expected integer 0..9223372036854775807"},
        {"peers/1/postgres", "\"fine\"",
         "field \"peers[1].postgres\": expected one of unknown, primary, standby, refused, "
         "starting, silent, broken"},
        {"peers/1/agent_age_ms", "4294967295",
         "field \"peers[1].agent_age_ms\": expected integer 0..4294967294"},
        {"peers", "[]", "field \"peers\": expected array of 3"},
        {"peers/0", "null", "field \"peers[0]\": expected an object"},
        {"document/fenced/2", "0", "field \"document.fenced[2]\": expected true or false"},
        {"document/address/0/port", "65536",
         "field \"document.address[0].port\": expected integer 0..65535"},
        {"step", "\"0123456789012345678901234567890123456789012345678\"",
         "field \"step\": expected string of at most 47 bytes"},
        {"step", "7", "field \"step\": expected string of at most 47 bytes"},
        {"lineage", "{\"truncated\":false}",
         "field \"lineage\": expected {\"truncated\", \"begin\"}"},
        {"lineage/begin", "[]", "field \"lineage\": expected {\"truncated\", \"begin\"}"},
        {"lineage/begin", "\"2:0/0 2:0/0\"",
         "field \"lineage.begin[1]\": expected a later timeline than the one before"},
        {"lineage/begin", "\"2:0/1000 3:0/FFF\"",
         "field \"lineage.begin[1]\": expected a later timeline than the one before"},
        {"lineage/begin", "\"0:0/0\"",
         "field \"lineage.begin[0]\": expected a later timeline than the one before"},
        {"lineage/begin", "\"2:0/0 3\"",
         "field \"lineage.begin[1]\": expected up to 32 positions such as \"5:16/B374D848\""},
        {"lineage/begin", "\"2:0/0 \"",
         "field \"lineage.begin[0]\": expected up to 32 positions such as \"5:16/B374D848\""},
        {"lineage/begin", "\"2:0/0,3:0/0\"",
         "field \"lineage.begin[0]\": expected up to 32 positions such as \"5:16/B374D848\""},
        {"lineage/begin", "\"4294967296:0/0\"",
         "field \"lineage.begin[0]\": expected up to 32 positions such as \"5:16/B374D848\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_field_refused(cases[i].path, cases[i].value, cases[i].expected);
}

static void test_report__field_of_a_newer_release__is_ignored(void **state)
{
    struct report report = full_report();
    json_t *json = report_to_json(&report);

    (void)state;
    json_object_set_new(json, "mood", json_string("fine"));
    json_object_set_new(json_object_get(json, "vote"), "mood", json_string("fine"));
    assert_int_equal(report_from_json(json, &report, NULL), 0);
    json_decref(json);
}

static void test_lineage__more_timelines_than_are_kept__is_refused(void **state)
{
    struct lineage lineage = {.count = LINEAGE_MAX}, decoded;
    struct err err = {0};
    json_t *json;
    char *longer;

    (void)state;
    for (uint32_t i = 0; i < LINEAGE_MAX; i++)
        lineage.begin[i] = (struct position){i + 1, i};
    json = lineage_to_json(&lineage);
    assert_int_equal(lineage_from_json(json, &decoded, NULL), 0);
    assert_int_equal(decoded.count, LINEAGE_MAX);
    assert_int_equal(decoded.begin[LINEAGE_MAX - 1].timeline, LINEAGE_MAX);
    longer = xasprintf("%s 99:F/0", json_string_value(json_object_get(json, "begin")));
    json_object_set_new(json, "begin", json_string(longer));
    free(longer);
    assert_int_equal(lineage_from_json(json, &decoded, &err), -1);
    json_decref(json);
}

/* An error message may quote anything, and may have been cut in the middle of a character. */
static void test_report__text_that_is_no_utf8__can_still_be_read_by_its_receiver(void **state)
{
    struct report report = full_report(), decoded;
    json_t *json;

    (void)state;
    memset(report.cause, 0xe4, sizeof(report.cause) - 1); /* Latin-1 */
    memset(report.step, 'a', sizeof(report.step) - 1);
    report.step[sizeof(report.step) - 2] = (char)0xc3; /* half of an "ä" */
    json = report_to_json(&report);
    assert_int_equal(report_from_json(json, &decoded, NULL), 0);
    assert_int_equal(strspn(decoded.step, "a"), sizeof(report.step) - 2);
    assert_true(strlen(decoded.cause) > 100);
    json_decref(json);
}

static void test_parts__encoded_and_decoded__are_the_same(void **state)
{
    const struct report r = full_report();
    struct promise promise;
    struct grant grant;
    struct leadership leader;
    struct incarnation incarnations[NODE_COUNT];
    struct position position;
    json_t *json;

    (void)state;
    json = promise_to_json(&r.promise);
    assert_int_equal(promise_from_json(json, &promise, NULL), 0);
    assert_int_equal(promise.generation, 5);
    assert_true(promise.proposer == r.promise.proposer);
    json_decref(json);

    json = grant_to_json(&r.grant);
    assert_int_equal(grant_from_json(json, &grant, NULL), 0);
    assert_true(grant.spent && grant.generation == 4 && grant.incarnation.nonce == 22);
    json_decref(json);

    json = leadership_to_json(&r.leader);
    assert_int_equal(leadership_from_json(json, &leader, NULL), 0);
    assert_true(leader.node == 1 && leader.incarnation.number == 3);
    json_decref(json);

    json = incarnations_to_json(r.incarnations);
    assert_int_equal(incarnations_from_json(json, incarnations, NULL), 0);
    assert_memory_equal(incarnations, r.incarnations, sizeof(incarnations[0].number));
    assert_true(incarnations[2].nonce == 22);
    json_decref(json);

    json = position_to_json(r.vote.position);
    assert_int_equal(position_from_json(json, &position, NULL), 0);
    assert_true(position.timeline == 5 && position.lsn == 0xabc);
    json_decref(json);
}

static void test_parts__nothing_there__is_an_error(void **state)
{
    struct incarnation incarnations[NODE_COUNT];
    struct lineage lineage;
    struct promise promise;

    (void)state;
    assert_int_equal(promise_from_json(NULL, &promise, NULL), -1);
    assert_int_equal(incarnations_from_json(NULL, incarnations, NULL), -1);
    assert_int_equal(lineage_from_json(NULL, &lineage, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codec__every_member_of_the_types__is_a_field),
        cmocka_unit_test(test_report__encoded_and_decoded__is_the_same),
        cmocka_unit_test(test_desired__encoded_and_decoded__is_the_same),
        cmocka_unit_test(test_desired__as_text__has_this_form),
        cmocka_unit_test(test_desired__without_a_source__has_none),
        cmocka_unit_test(test_desired__example_in_the_docs__is_one),
        cmocka_unit_test(test_report__no_object_or_no_protocol__is_refused),
        cmocka_unit_test(test_report__another_protocol__is_refused_before_anything_else),
        cmocka_unit_test(test_report__bad_field__is_named_with_its_place),
        cmocka_unit_test(test_report__field_of_a_newer_release__is_ignored),
        cmocka_unit_test(test_lineage__more_timelines_than_are_kept__is_refused),
        cmocka_unit_test(test_report__text_that_is_no_utf8__can_still_be_read_by_its_receiver),
        cmocka_unit_test(test_parts__encoded_and_decoded__are_the_same),
        cmocka_unit_test(test_parts__nothing_there__is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
