/* The cluster document: what is a whole one, and how it changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "protocol/document.h"

static const char IDS[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "n3"};
static const struct address ADDRESSES[NODE_COUNT] = {
    {"10.0.0.1", 5432}, {"db2.example", 5433}, {"2001:db8::3", 5434}};

static json_t *json(const char *text)
{
    json_t *value;

    assert_int_equal(json_parse_bounded(text, strlen(text), 16, &value, NULL), 0);
    return value;
}

static json_t *fresh(void)
{
    return document_new((struct document_version){2, 1}, IDS, ADDRESSES);
}

/* fresh() with CHANGE at version 3.7; ERR says why not. */
static json_t *changed(const char *change_text, struct err *err)
{
    json_t *document = fresh(), *change = json(change_text), *result;

    result = document_apply(document, change, (struct document_version){3, 7}, IDS, err);
    json_decref(document);
    json_decref(change);
    return result;
}

static void assert_change_refused(const char *change_text, const char *expected)
{
    struct err err = {0};

    assert_null(changed(change_text, &err));
    assert_int_equal(err.code, ERR_INVALID);
    if (strncmp(err.text, expected, strlen(expected)) != 0)
        assert_string_equal(err.text, expected);
}

static void assert_setting(const json_t *document, const char *name, const char *expected)
{
    const json_t *value = json_object_get(json_object_get(document, "settings"), name);

    if (expected == NULL)
        assert_null(value);
    else
        assert_string_equal(json_string_value(value), expected);
}

static void test_document__new_one__is_whole_and_safe(void **state)
{
    struct document_facts facts;
    json_t *document = fresh();

    (void)state;
    memset(&facts, 0xff, sizeof(facts));
    assert_int_equal(document_facts_from_json(document, IDS, &facts, NULL), 0);
    assert_int_equal(facts.version.generation, 2);
    assert_int_equal(facts.version.counter, 1);
    assert_false(facts.maintenance);
    for (int slot = 0; slot < NODE_COUNT; slot++) {
        assert_false(facts.fenced[slot]);
        assert_string_equal(facts.address[slot].host, ADDRESSES[slot].host);
        assert_int_equal(facts.address[slot].port, ADDRESSES[slot].port);
    }
    assert_string_equal(json_string_value(json_object_get(document, "listen_addresses")),
                        "127.0.0.1");
    assert_string_equal(json_string_value(json_array_get(json_object_get(document, "hba"), 0)),
                        "host all all 127.0.0.1/32 scram-sha-256");
    json_decref(document);
}

static void test_apply__empty_change__only_stamps(void **state)
{
    json_t *before = fresh(), *after = changed("{}", NULL);

    (void)state;
    assert_false(json_equal(before, after));
    json_object_set(after, "version", json_object_get(before, "version"));
    assert_true(json_equal(before, after));
    json_decref(before);
    json_decref(after);
}

static void test_apply__settings__are_merged_without_case_and_null_removes(void **state)
{
    json_t *document = changed(
        "{\"settings\": {\"work_mem\": \"64MB\", \"Max_Connections\": \"9\", "
        "\"pg_stat_statements.track\": \"all\", \"DateStyle\": \"\"}}",
        NULL);
    json_t *change = json("{\"settings\": {\"WORK_MEM\": null, \"max_connections\": \"10\", "
                          "\"never_there\": null}}");
    json_t *result;

    (void)state;
    assert_setting(document, "work_mem", "64MB");
    assert_setting(document, "max_connections", "9");
    assert_setting(document, "pg_stat_statements.track", "all");
    assert_setting(document, "datestyle", "");
    result = document_apply(document, change, (struct document_version){3, 8}, IDS, NULL);
    assert_non_null(result);
    assert_setting(result, "work_mem", NULL);
    assert_setting(result, "max_connections", "10");
    assert_setting(result, "pg_stat_statements.track", "all");
    assert_setting(document, "max_connections", "9"); /* the original is left alone */
    json_decref(document);
    json_decref(change);
    json_decref(result);
}

static void test_apply__other_parts__are_replaced(void **state)
{
    struct document_facts facts;
    json_t *document = changed("{\"maintenance\": true, \"fenced\": [\"n3\", \"n1\"], \"hba\": [],"
                               " \"nodes\": {\"n2\": {\"host\": \"::1\", \"port\": 1}},"
                               " \"listen_addresses\": \"*\", \"database\": \"my-app\"}",
                               NULL);

    (void)state;
    assert_non_null(document);
    assert_int_equal(document_facts_from_json(document, IDS, &facts, NULL), 0);
    assert_int_equal(facts.version.generation, 3);
    assert_int_equal(facts.version.counter, 7);
    assert_true(facts.maintenance);
    assert_true(facts.fenced[0]);
    assert_false(facts.fenced[1]);
    assert_true(facts.fenced[2]);
    assert_string_equal(facts.address[0].host, "10.0.0.1");
    assert_string_equal(facts.address[1].host, "::1");
    assert_int_equal(facts.address[1].port, 1);
    assert_int_equal(json_array_size(json_object_get(document, "hba")), 0);
    json_decref(document);
}

static void test_apply__bad_change__is_refused_and_names_the_field(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "expected an object"},
        {"{\"mood\": 1}", "field \"mood\": is unknown"},
        {"{\"version\": {\"generation\": 9, \"counter\": 9}}", "field \"version\": is unknown"},
        {"{\"maintenance\": 1}", "field \"maintenance\": expected true or false"},
        {"{\"maintenance\": null}", "field \"maintenance\": expected true or false"},
        {"{\"fenced\": \"n1\"}", "field \"fenced\": expected array of node ids"},
        {"{\"fenced\": [\"n4\"]}", "field \"fenced[0]\": expected one of n1, n2, n3"},
        {"{\"fenced\": [\"n1\", \"n1\"]}", "field \"fenced[1]\": expected one of n1, n2, n3"},
        {"{\"fenced\": [null]}", "field \"fenced[0]\""},
        {"{\"nodes\": []}", "field \"nodes\": expected an object"},
        {"{\"nodes\": {\"n4\": {\"host\": \"a\", \"port\": 1}}}",
         "field \"nodes.n4\": this cluster has n1, n2, n3"},
        {"{\"nodes\": {\"n1\": null}}", "field \"nodes.n1\": expected an object"},
        {"{\"nodes\": {\"n1\": {\"host\": \"a\"}}}",
         "field \"nodes.n1\": field \"port\": is missing"},
        {"{\"nodes\": {\"n1\": {\"host\": \"a\", \"port\": 0}}}", "field \"nodes.n1\": expected {"},
        {"{\"nodes\": {\"n1\": {\"host\": \"\", \"port\": 1}}}", "field \"nodes.n1\": expected {"},
        {"{\"nodes\": {\"n1\": {\"host\": \"a b\", \"port\": 1}}}",
         "field \"nodes.n1\": expected {"},
        {"{\"nodes\": {\"n1\": {\"host\": \"a' host=b\", \"port\": 1}}}", "field \"nodes.n1\""},
        {"{\"nodes\": {\"n1\": {\"host\": \"[::1]\", \"port\": 1}}}", "field \"nodes.n1\""},
        {"{\"nodes\": {\"n1\": {\"host\": \"a:b\", \"port\": 1}}}", "field \"nodes.n1\""},
        {"{\"settings\": null}", "field \"settings\": expected an object"},
        {"{\"settings\": {\"work_mem\": 64}}", "field \"settings.work_mem\": expected a string"},
        {"{\"settings\": {\"work_mem\": \"1\\nfsync = off\"}}", "field \"settings.work_mem\""},
        {"{\"settings\": {\"\": \"1\"}}", "field \"settings\": \"\" is no name"},
        {"{\"settings\": {\"a b\": \"1\"}}", "field \"settings\": \"a b\" is no name"},
        {"{\"settings\": {\"1a\": \"1\"}}", "field \"settings\": \"1a\" is no name"},
        {"{\"settings\": {\"a.b.c\": \"1\"}}", "field \"settings\": \"a.b.c\" is no name"},
        {"{\"settings\": {\"a.\": \"1\"}}", "field \"settings\": \"a.\" is no name"},
        {"{\"settings\": {\"a=1 b\": null, \"c=\": \"\"}}",
         "field \"settings\": \"c=\" is no name"},
        {"{\"listen_addresses\": \"\"}", "field \"listen_addresses\": expected names"},
        {"{\"listen_addresses\": \"a'b\"}", "field \"listen_addresses\": expected names"},
        {"{\"listen_addresses\": [\"a\"]}", "field \"listen_addresses\": expected names"},
        {"{\"hba\": \"host all all all trust\"}", "field \"hba\": expected array"},
        {"{\"hba\": [\"host all all all trust\", \"host all all trust\"]}",
         "field \"hba[1]\": expected a line"},
        {"{\"hba\": [\"include x\"]}", "field \"hba[0]\": expected a line"},
        {"{\"hba\": [\"hosts all all all trust\"]}", "field \"hba[0]\": expected a line"},
        {"{\"hba\": [\"# host all all all trust\"]}", "field \"hba[0]\": expected a line"},
        {"{\"hba\": [\"local all all\"]}", "field \"hba[0]\": expected a line"},
        {"{\"hba\": [\"local all all peer\\nlocal replication all trust\"]}",
         "field \"hba[0]\": expected a line"},
        {"{\"database\": \"\"}", "field \"database\": expected letters"},
        {"{\"database\": \"a\\\"b\"}", "field \"database\": expected letters"},
        {"{\"database\": \"template1\"}", "field \"database\": expected letters"},
        {"{\"database\": "
         "\"a234567890123456789012345678901234567890123456789012345678901234\"}",
         "field \"database\": expected letters"},
        {"{\"owner\": \"pg_monitor\"}", "field \"owner\": expected letters"},
        {"{\"owner\": \"ogel_n1_i1\"}", "field \"owner\": expected letters"},
        {"{\"owner\": \"1a\"}", "field \"owner\": expected letters"},
        {"{\"owner\": 7}", "field \"owner\": expected letters"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_change_refused(cases[i][0], cases[i][1]);
}

static void test_apply__lines_of_pg_hba__of_each_type_are_taken(void **state)
{
    json_t *document = changed("{\"hba\": [\"local all all peer\", \"local a b scram-sha-256 x=y\","
                               " \"hostssl \\\"my db\\\" all ::1/128 cert\","
                               " \"hostnossl a,b c  10.0.0.0 255.0.0.0 reject\"]}",
                               NULL);

    (void)state;
    assert_non_null(document);
    assert_int_equal(json_array_size(json_object_get(document, "hba")), 4);
    json_decref(document);
}

static void test_document__part_missing__is_refused(void **state)
{
    static const char *const parts[] = {"version", "maintenance", "fenced",
                                        "nodes",   "settings",    "listen_addresses",
                                        "hba",     "database",    "owner"};

    (void)state;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct document_facts facts;
        struct err err = {0};
        json_t *document = fresh();

        json_object_del(document, parts[i]);
        assert_int_equal(document_facts_from_json(document, IDS, &facts, &err), -1);
        assert_non_null(strstr(err.text, parts[i]));
        json_decref(document);
    }
}

static void test_document__version_zero__is_refused(void **state)
{
    struct document_facts facts;
    json_t *document = document_new((struct document_version){0, 0}, IDS, ADDRESSES);

    (void)state;
    assert_int_equal(document_facts_from_json(document, IDS, &facts, NULL), -1);
    json_decref(document);
}

static void test_document__part_of_a_newer_release__survives_a_change(void **state)
{
    json_t *document = fresh(), *change = json("{\"maintenance\": true}"), *result;

    (void)state;
    json_object_set_new(document, "mood", json_string("fine"));
    result = document_apply(document, change, (struct document_version){3, 1}, IDS, NULL);
    assert_non_null(result);
    assert_string_equal(json_string_value(json_object_get(result, "mood")), "fine");
    json_decref(document);
    json_decref(change);
    json_decref(result);
}

static void test_document__nodes_of_another_cluster__are_refused(void **state)
{
    static const char others[NODE_COUNT][NODE_ID_SIZE] = {"n1", "n2", "x3"};
    struct document_facts facts;
    struct err err = {0};
    json_t *document = fresh();

    (void)state;
    assert_int_equal(document_facts_from_json(document, others, &facts, &err), -1);
    assert_string_equal(err.text, "field \"nodes.x3\": expected an object");
    json_decref(document);
}

static void test_document__larger_than_its_file__is_refused(void **state)
{
    json_t *document = fresh(), *change = json_object(), *settings = json_object(), *result;
    struct err err = {0};
    char name[32], value[4097];

    (void)state;
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof(name), "ext.setting_%d", i);
        json_object_set_new(settings, name, json_string(value));
    }
    json_object_set_new(change, "settings", settings);
    assert_null(document_apply(document, change, (struct document_version){3, 1}, IDS, &err));
    assert_non_null(strstr(err.text, "larger than 65536 bytes"));
    json_object_del(settings, "ext.setting_15");
    result = document_apply(document, change, (struct document_version){3, 1}, IDS, &err);
    assert_non_null(result);
    json_decref(result);
    json_decref(document);
    json_decref(change);
}

static const json_t *snapshots_of(const json_t *document)
{
    return json_object_get(document, "snapshots");
}

static void assert_snapshots(const json_t *document, const char *expected_text)
{
    json_t *expected = json(expected_text);

    assert_true(json_equal(snapshots_of(document), expected));
    json_decref(expected);
}

static void test_apply__snapshots__are_merged_and_null_takes_members_out(void **state)
{
    const struct document_version later = {3, 8};
    json_t *first = changed("{\"snapshots\": {\"store\": \"s3://h:9000/b/p\", \"schedule\": "
                            "\"every 15min\", \"node\": \"n2\", \"keep\": {\"daily\": 3}}}",
                            NULL);
    json_t *change = json("{\"snapshots\": {\"schedule\": null, \"max_rate\": \"50MB\", "
                          "\"level\": 19, \"keep\": {\"daily\": null, \"least\": 2}}}");
    json_t *off = json("{\"snapshots\": null}");
    json_t *second, *third;

    (void)state;
    assert_non_null(first);
    second = document_apply(first, change, later, IDS, NULL);
    assert_non_null(second);
    assert_snapshots(second, "{\"store\": \"s3://h:9000/b/p\", \"node\": \"n2\", \"max_rate\": "
                             "\"50MB\", \"level\": 19, \"keep\": {\"least\": 2}}");
    assert_snapshots(first, "{\"store\": \"s3://h:9000/b/p\", \"schedule\": \"every 15min\", "
                            "\"node\": \"n2\", \"keep\": {\"daily\": 3}}");
    third = document_apply(second, off, later, IDS, NULL);
    assert_non_null(third);
    assert_null(snapshots_of(third));
    json_decref(first);
    json_decref(second);
    json_decref(third);
    json_decref(change);
    json_decref(off);
}

static void test_apply__bad_snapshots__are_refused_and_name_the_field(void **state)
{
    static const struct {
        const char *change, *expected;
    } cases[] = {
        {"{\"snapshots\": 3}", "field \"snapshots\": expected an object"},
        {"{\"snapshots\": {\"stroe\": \"/b\"}}", "field \"snapshots\": "},
        {"{\"snapshots\": {\"store\": \"ftp://h/b\"}}", "field \"snapshots.store\": expected "},
        {"{\"snapshots\": {\"store\": \"\"}}", "field \"snapshots.store\": expected "},
        {"{\"snapshots\": {\"store\": \"s3://\"}}", "field \"snapshots.store\": expected "},
        {"{\"snapshots\": {\"store\": \"s3://key:secret@h/b\"}}",
         "field \"snapshots.store\": credentials do not belong here"},
        {"{\"snapshots\": {\"schedule\": \"\"}}", "field \"snapshots.schedule\": expected "},
        {"{\"snapshots\": {\"verify\": 5}}", "field \"snapshots.verify\": expected "},
        {"{\"snapshots\": {\"drill\": \"a\\nb\"}}", "field \"snapshots.drill\": expected "},
        {"{\"snapshots\": {\"node\": \"n4\"}}",
         "field \"snapshots.node\": expected \"follower\", \"leader\" or one of n1, n2, n3"},
        {"{\"snapshots\": {\"max_rate\": \"31kB\"}}", "field \"snapshots.max_rate\": expected "},
        {"{\"snapshots\": {\"max_rate\": 5}}", "field \"snapshots.max_rate\": expected "},
        {"{\"snapshots\": {\"level\": 20}}", "field \"snapshots.level\": expected 1 to 19"},
        {"{\"snapshots\": {\"keep\": []}}", "field \"snapshots.keep\": expected an object"},
        {"{\"snapshots\": {\"keep\": {\"yearly\": 1}}}", "field \"snapshots.keep\": "},
        {"{\"snapshots\": {\"keep\": {\"daily\": -1}}}",
         "field \"snapshots.keep.daily\": expected 0 to 10000"},
        {"{\"snapshots\": {\"keep\": {\"least\": 0}}}",
         "field \"snapshots.keep.least\": expected 1 to 10000"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_change_refused(cases[i].change, cases[i].expected);
}

static void test_document__snapshots_of_a_newer_release__are_kept(void **state)
{
    json_t *document = fresh(), *change = json("{\"snapshots\": {\"level\": 5}}"), *result;

    (void)state;
    json_object_set_new(document, "snapshots", json("{\"store\": \"/srv/b\", \"mirror\": \"x\"}"));
    result = document_apply(document, change, (struct document_version){3, 1}, IDS, NULL);
    assert_non_null(result);
    assert_snapshots(result, "{\"store\": \"/srv/b\", \"mirror\": \"x\", \"level\": 5}");
    json_decref(document);
    json_decref(change);
    json_decref(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_document__new_one__is_whole_and_safe),
        cmocka_unit_test(test_apply__empty_change__only_stamps),
        cmocka_unit_test(test_apply__settings__are_merged_without_case_and_null_removes),
        cmocka_unit_test(test_apply__other_parts__are_replaced),
        cmocka_unit_test(test_apply__bad_change__is_refused_and_names_the_field),
        cmocka_unit_test(test_apply__lines_of_pg_hba__of_each_type_are_taken),
        cmocka_unit_test(test_document__part_missing__is_refused),
        cmocka_unit_test(test_document__version_zero__is_refused),
        cmocka_unit_test(test_document__part_of_a_newer_release__survives_a_change),
        cmocka_unit_test(test_document__nodes_of_another_cluster__are_refused),
        cmocka_unit_test(test_document__larger_than_its_file__is_refused),
        cmocka_unit_test(test_apply__snapshots__are_merged_and_null_takes_members_out),
        cmocka_unit_test(test_apply__bad_snapshots__are_refused_and_name_the_field),
        cmocka_unit_test(test_document__snapshots_of_a_newer_release__are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
