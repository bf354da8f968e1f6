/* The ordering rules: what comes first, and which message is obeyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "protocol/order.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- order --- */

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static void test_position__later_timeline_at_a_lower_lsn__is_greater(void **state)
{
    /* ascending */
    const struct position p[] = {{0, 0}, {1, 0}, {1, 900}, {2, 100}, {2, UINT64_MAX}, {3, 0}};

    (void)state;
    for (size_t i = 0; i < COUNT(p); i++)
        for (size_t j = 0; j < COUNT(p); j++)
            assert_int_equal(position_compare(p[i], p[j]), sign((int)i - (int)j));
}

static void test_document_version__generation__counts_before_counter(void **state)
{
    const struct document_version v[] = {{0, 0}, {2, 1}, {2, 9}, {3, 0}, {3, UINT32_MAX}};

    (void)state;
    for (size_t i = 0; i < COUNT(v); i++)
        for (size_t j = 0; j < COUNT(v); j++)
            assert_int_equal(document_version_compare(v[i], v[j]), sign((int)i - (int)j));
}

static void test_incarnation__tie_of_numbers__every_node_settles_on_one(void **state)
{
    const struct incarnation old = {1, 900}, a = {2, 10}, b = {2, 20};

    (void)state;
    assert_true(incarnation_equal(incarnation_later(old, a), a));
    assert_true(incarnation_equal(incarnation_later(a, old), a));
    assert_true(incarnation_equal(incarnation_later(a, b), b));
    assert_true(incarnation_equal(incarnation_later(b, a), b));
    assert_false(incarnation_equal(a, b));
}

static void test_leadership__any_field_differs__is_not_equal(void **state)
{
    const struct leadership base = {5, 1, {2, 77}, 42};
    struct leadership other[5];

    (void)state;
    for (size_t i = 0; i < COUNT(other); i++)
        other[i] = base;
    other[0].generation = 6;
    other[1].node = 2;
    other[2].incarnation.number = 3;
    other[3].incarnation.nonce = 78;
    other[4].proposer = 43;
    assert_true(leadership_equal(&base, &base));
    for (size_t i = 0; i < COUNT(other); i++)
        assert_false(leadership_equal(&base, &other[i]));
}

static void test_promise__other_proposer_or_generation__is_not_equal(void **state)
{
    (void)state;
    assert_true(promise_equal((struct promise){5, 7}, (struct promise){5, 7}));
    assert_false(promise_equal((struct promise){5, 7}, (struct promise){5, 8}));
    assert_false(promise_equal((struct promise){5, 7}, (struct promise){6, 7}));
}

static void test_cluster_id__one_byte_set__is_not_none(void **state)
{
    struct cluster_id none, id;

    (void)state;
    memset(&none, 0, sizeof(none));
    assert_true(cluster_id_is_none(&none));
    for (size_t i = 0; i < sizeof(id.bytes); i++) {
        id = none;
        id.bytes[i] = 1;
        assert_false(cluster_id_is_none(&id));
        assert_false(cluster_id_equal(&id, &none));
        assert_true(cluster_id_equal(&id, &id));
    }
}

/* --- admission --- */

enum { SELF = 1, OTHER = 0, THIRD = 2 };
enum { MINE = 7, YOURS = 8 }; /* proposers */

static struct cluster_id cluster(uint8_t number)
{
    struct cluster_id id = {{0}};

    id.bytes[15] = number;
    return id;
}

/* A settled member that promised generation 5 to MINE and knows no leader of it yet. */
static struct standing member(void)
{
    return (struct standing){
        .cluster = cluster(1),
        .node = SELF,
        .promise = {5, MINE},
        .leader = {.generation = 4, .node = OTHER, .incarnation = {1, 10}, .proposer = YOURS},
        .incarnations = {{1, 10}, {2, 20}, {3, 30}},
        .registered = true,
        .birth_promised = true,
        .birth_ended = true,
    };
}

static struct desired message(enum role role, uint32_t generation, uint64_t proposer,
                              int32_t leader)
{
    struct standing known = member();
    struct desired m = {
        .protocol = PROTOCOL_VERSION,
        .cluster = cluster(1),
        .node = SELF,
        .generation = generation,
        .proposer = proposer,
        .role = role,
        .leader = {.node = NODE_NONE},
    };

    memcpy(m.incarnations, known.incarnations, sizeof(m.incarnations));
    if (role == ROLE_LEADER || role == ROLE_FOLLOWER)
        m.leader = (struct leadership){generation, leader, known.incarnations[leader], proposer};
    return m;
}

static struct desired birth(uint8_t id, uint32_t generation, uint64_t proposer)
{
    struct desired m = message(ROLE_FENCED, generation, proposer, NODE_NONE);

    m.cluster = cluster(id);
    m.birth = true;
    m.leader.node = OTHER;
    return m;
}

#define assert_verdict(standing, message, verdict)                                                 \
    assert_string_equal(verdict_name(desired_admit(&(standing), &(message))), verdict_name(verdict))

static void test_admit__lower_generation__is_stale(void **state)
{
    const enum role roles[] = {ROLE_FENCED, ROLE_LEADER, ROLE_FOLLOWER};
    struct standing s = member();

    (void)state;
    for (size_t i = 0; i < COUNT(roles); i++) {
        struct desired m = message(roles[i], 4, MINE, roles[i] == ROLE_LEADER ? SELF : OTHER);

        assert_verdict(s, m, VERDICT_STALE);
    }
}

static void test_admit__higher_promise_request__is_promised(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FENCED, 6, YOURS, NODE_NONE);

    (void)state;
    assert_verdict(s, m, VERDICT_PROMISE);
    m.generation = UINT32_MAX;
    assert_verdict(s, m, VERDICT_PROMISE);
}

static void test_admit__promise_request_repeated__only_by_its_proposer(void **state)
{
    struct standing s = member();
    struct desired again = message(ROLE_FENCED, 5, MINE, NODE_NONE);
    struct desired other = message(ROLE_FENCED, 5, YOURS, NODE_NONE);

    (void)state;
    assert_verdict(s, again, VERDICT_OBEY);
    assert_verdict(s, other, VERDICT_PROPOSER);
}

static void test_admit__promise_request_after_the_grant__is_stale(void **state)
{
    struct standing s = member();
    struct desired late = message(ROLE_FENCED, 5, MINE, NODE_NONE);

    (void)state;
    s.leader = (struct leadership){5, SELF, {2, 20}, MINE};
    assert_verdict(s, late, VERDICT_STALE);
    s.leader = (struct leadership){5, OTHER, {1, 10}, MINE};
    assert_verdict(s, late, VERDICT_STALE);
}

static void test_admit__grant__needs_the_promise_to_its_proposer(void **state)
{
    struct standing s = member();
    struct desired granted = message(ROLE_LEADER, 5, MINE, SELF);
    struct desired other = message(ROLE_LEADER, 5, YOURS, SELF);
    struct desired ahead = message(ROLE_LEADER, 6, MINE, SELF);
    struct desired borrowed = granted;

    (void)state;
    assert_verdict(s, granted, VERDICT_OBEY);
    assert_verdict(s, other, VERDICT_PROPOSER);
    assert_verdict(s, ahead, VERDICT_PROPOSER);
    /* another's message naming the promised proposer is no grant while it is no fact */
    borrowed.proposer = YOURS;
    assert_verdict(s, borrowed, VERDICT_PROPOSER);
    borrowed = granted;
    borrowed.leader.proposer = YOURS;
    assert_verdict(s, borrowed, VERDICT_PROPOSER);
}

static void test_admit__grant_to_another_life__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_LEADER, 5, MINE, SELF);

    (void)state;
    m.leader.incarnation.nonce = 21;
    assert_verdict(s, m, VERDICT_INCARNATION);
    m.leader.incarnation = (struct incarnation){1, 20};
    assert_verdict(s, m, VERDICT_INCARNATION);
    m = message(ROLE_LEADER, 5, MINE, OTHER);
    assert_verdict(s, m, VERDICT_INCARNATION);
}

static void test_admit__grant_repeated__is_obeyed_from_anyone_once_a_fact(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_LEADER, 5, MINE, SELF);

    (void)state;
    s.leader = m.leader;
    assert_verdict(s, m, VERDICT_OBEY);
    m.proposer = YOURS;
    assert_verdict(s, m, VERDICT_OBEY);
    m.leader.proposer = YOURS;
    assert_verdict(s, m, VERDICT_SECOND_LEADER);
}

static void test_admit__grant_of_a_generation_with_another_leader__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_LEADER, 5, MINE, SELF);

    (void)state;
    s.leader = (struct leadership){5, OTHER, {1, 10}, MINE};
    assert_verdict(s, m, VERDICT_SECOND_LEADER);
}

static void test_admit__follow_in_a_higher_generation__is_promised_to_any_sender(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FOLLOWER, 6, MINE, OTHER);

    (void)state;
    assert_verdict(s, m, VERDICT_PROMISE);
    m.proposer = 12345;
    assert_verdict(s, m, VERDICT_PROMISE);
}

static void test_admit__follow_under_another_grant__is_promised_again(void **state)
{
    struct standing s = member();
    struct desired same = message(ROLE_FOLLOWER, 5, MINE, OTHER);
    struct desired other = message(ROLE_FOLLOWER, 5, YOURS, OTHER);

    (void)state;
    assert_verdict(s, same, VERDICT_OBEY);
    /* what counts is whose grant it is, not who says so */
    same.proposer = YOURS;
    assert_verdict(s, same, VERDICT_OBEY);
    assert_verdict(s, other, VERDICT_PROMISE);
    other.proposer = MINE;
    assert_verdict(s, other, VERDICT_PROMISE);
}

static void test_admit__follow_a_second_leader__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FOLLOWER, 5, MINE, OTHER), second;

    (void)state;
    s.leader = m.leader;
    assert_verdict(s, m, VERDICT_OBEY);
    second = message(ROLE_FOLLOWER, 5, MINE, THIRD);
    assert_verdict(s, second, VERDICT_SECOND_LEADER);
    second = m;
    second.leader.incarnation = (struct incarnation){2, 11};
    assert_verdict(s, second, VERDICT_SECOND_LEADER);
    second = m;
    second.leader.proposer = YOURS;
    assert_verdict(s, second, VERDICT_SECOND_LEADER);
}

static void test_admit__follow_oneself__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FOLLOWER, 5, MINE, SELF);

    (void)state;
    assert_verdict(s, m, VERDICT_SECOND_LEADER);
    s.leader = m.leader;
    assert_verdict(s, m, VERDICT_SECOND_LEADER);
    m = message(ROLE_FOLLOWER, 6, MINE, SELF);
    assert_verdict(s, m, VERDICT_SECOND_LEADER);
}

static void test_admit__follow_a_replaced_machine__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FOLLOWER, 6, MINE, OTHER);

    (void)state;
    s.incarnations[OTHER] = (struct incarnation){2, 5}; /* known here */
    assert_verdict(s, m, VERDICT_INCARNATION);
    s = member();
    m.incarnations[OTHER] = (struct incarnation){2, 5}; /* known to the sender */
    assert_verdict(s, m, VERDICT_INCARNATION);
    s.incarnations[OTHER] = (struct incarnation){1, 11}; /* two claimed one number */
    assert_verdict(s, m, VERDICT_INCARNATION);
    m = message(ROLE_FOLLOWER, 6, MINE, OTHER);
    m.leader.incarnation = (struct incarnation){2, 5}; /* newer than known here */
    s = member();
    assert_verdict(s, m, VERDICT_PROMISE);
}

static void test_admit__follow_a_machine_declared_destroyed__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FOLLOWER, 6, MINE, OTHER);

    (void)state;
    s.void_number[OTHER] = 1;
    assert_verdict(s, m, VERDICT_INCARNATION);
    s = member();
    m.destroyed_number[OTHER] = 1;
    assert_verdict(s, m, VERDICT_INCARNATION);
}

static void test_admit__message_that_knows_a_newer_machine_here__is_refused(void **state)
{
    const enum role roles[] = {ROLE_FENCED, ROLE_LEADER, ROLE_FOLLOWER};
    struct standing s = member();

    (void)state;
    for (size_t i = 0; i < COUNT(roles); i++) {
        struct desired m = message(roles[i], roles[i] == ROLE_LEADER ? 5 : 6, MINE,
                                   roles[i] == ROLE_LEADER ? SELF : OTHER);

        m.incarnations[SELF] = (struct incarnation){3, 1};
        assert_verdict(s, m, VERDICT_INCARNATION);
        m.incarnations[SELF] = (struct incarnation){2, 21};
        assert_verdict(s, m, VERDICT_INCARNATION);
        m.incarnations[SELF] = (struct incarnation){2, 20};
        m.destroyed_number[SELF] = 2;
        assert_verdict(s, m, VERDICT_INCARNATION);
    }
}

static void test_admit__sender_that_knows_an_older_machine_here__is_obeyed(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FENCED, 6, MINE, NODE_NONE);

    (void)state;
    memset(m.incarnations, 0, sizeof(m.incarnations));
    assert_verdict(s, m, VERDICT_PROMISE);
    m.incarnations[SELF] = (struct incarnation){1, 99};
    m.destroyed_number[SELF] = 1;
    assert_verdict(s, m, VERDICT_PROMISE);
}

static void test_admit__unregistered_machine__promises_nothing(void **state)
{
    struct standing s = member();
    struct desired fenced = message(ROLE_FENCED, 6, MINE, NODE_NONE);
    struct desired again = message(ROLE_FENCED, 5, MINE, NODE_NONE);
    struct desired leader = message(ROLE_LEADER, 5, MINE, SELF);
    struct desired higher = message(ROLE_FOLLOWER, 6, MINE, OTHER);
    struct desired other_grant = message(ROLE_FOLLOWER, 5, YOURS, OTHER);
    struct desired settled = message(ROLE_FOLLOWER, 5, MINE, OTHER);
    struct desired born = birth(1, 6, MINE);

    (void)state;
    s.registered = false;
    assert_verdict(s, fenced, VERDICT_UNREGISTERED);
    assert_verdict(s, again, VERDICT_UNREGISTERED);
    assert_verdict(s, leader, VERDICT_UNREGISTERED);
    assert_verdict(s, higher, VERDICT_UNREGISTERED);
    assert_verdict(s, other_grant, VERDICT_UNREGISTERED);
    assert_verdict(s, born, VERDICT_UNREGISTERED);
    assert_verdict(s, settled, VERDICT_OBEY);
    settled.cluster = cluster(2);
    assert_verdict(s, settled, VERDICT_CLUSTER);
}

static void test_admit__another_cluster_node_or_protocol__is_refused(void **state)
{
    struct standing s = member();
    struct desired m = message(ROLE_FENCED, 6, MINE, NODE_NONE), wrong;

    (void)state;
    wrong = m;
    wrong.protocol = PROTOCOL_VERSION + 1;
    assert_verdict(s, wrong, VERDICT_PROTOCOL);
    wrong = m;
    wrong.cluster = cluster(2);
    assert_verdict(s, wrong, VERDICT_CLUSTER);
    wrong = m;
    wrong.node = OTHER;
    assert_verdict(s, wrong, VERDICT_NODE);
    /* protocol, then cluster, then node */
    wrong.cluster = cluster(2);
    assert_verdict(s, wrong, VERDICT_CLUSTER);
    wrong.protocol = PROTOCOL_VERSION + 1;
    assert_verdict(s, wrong, VERDICT_PROTOCOL);
}

static void test_admit__message_that_contradicts_itself__is_refused(void **state)
{
    struct standing s = member();
    struct desired m[12];

    (void)state;
    for (size_t i = 0; i < COUNT(m); i++)
        m[i] = message(ROLE_FOLLOWER, 6, MINE, OTHER);
    m[0].leader.generation = 5;
    m[1].leader.generation = 7;
    m[2].leader.node = NODE_NONE;
    m[3].leader.node = NODE_COUNT;
    m[4].leader.incarnation.number = 0;
    m[5].role = ROLE_NONE;
    m[6].role = (enum role)77;
    m[7].generation = m[7].leader.generation = FIRST_GENERATION - 1;
    m[8].cluster = cluster(0);
    m[9] = birth(1, 6, MINE);
    m[9].leader.node = NODE_NONE;
    m[10] = message(ROLE_LEADER, 5, MINE, SELF);
    m[10].leader.generation = 4;
    m[11] = message(ROLE_LEADER, 5, MINE, SELF);
    m[11].leader.node = NODE_NONE;
    for (size_t i = 0; i < COUNT(m); i++)
        assert_verdict(s, m[i], VERDICT_PROTOCOL);
}

static void test_admit__blank_machine__takes_part_in_births_only(void **state)
{
    struct standing s = {.node = SELF};
    struct desired fenced = message(ROLE_FENCED, 6, MINE, NODE_NONE);
    struct desired follower = message(ROLE_FOLLOWER, 6, MINE, OTHER);
    struct desired leader = message(ROLE_LEADER, 6, MINE, SELF);
    struct desired born = birth(9, FIRST_GENERATION, MINE);
    struct desired elsewhere = born;

    (void)state;
    assert_verdict(s, fenced, VERDICT_UNREGISTERED);
    assert_verdict(s, follower, VERDICT_UNREGISTERED);
    assert_verdict(s, leader, VERDICT_UNREGISTERED);
    assert_verdict(s, born, VERDICT_PROMISE);
    elsewhere.node = OTHER;
    assert_verdict(s, elsewhere, VERDICT_NODE);
    leader.birth = true; /* only a promise request can be one */
    assert_verdict(s, leader, VERDICT_UNREGISTERED);
}

static void test_admit__birth_at_a_member__is_refused(void **state)
{
    struct standing ended = member(), never = member();
    struct desired same = birth(1, 6, MINE), other = birth(2, 6, MINE);

    (void)state;
    never.birth_promised = never.birth_ended = false; /* a registered replacement */
    assert_verdict(ended, same, VERDICT_BIRTH);
    assert_verdict(ended, other, VERDICT_BIRTH);
    assert_verdict(never, same, VERDICT_BIRTH);
    assert_verdict(never, other, VERDICT_BIRTH);
}

static void test_admit__birth_begun_again__replaces_the_earlier(void **state)
{
    struct standing s = member();
    struct desired m;

    (void)state;
    s.birth_ended = false;
    m = birth(1, 6, YOURS);
    assert_verdict(s, m, VERDICT_PROMISE);
    m = birth(2, 6, YOURS);
    assert_verdict(s, m, VERDICT_PROMISE);
    m = birth(1, 5, MINE);
    assert_verdict(s, m, VERDICT_OBEY);
    m = birth(1, 5, YOURS);
    assert_verdict(s, m, VERDICT_PROPOSER);
    m = birth(2, 5, MINE);
    assert_verdict(s, m, VERDICT_BIRTH);
    m = birth(1, 4, MINE);
    assert_verdict(s, m, VERDICT_STALE);
    m = birth(2, 4, MINE);
    assert_verdict(s, m, VERDICT_STALE);
    s.leader = (struct leadership){5, OTHER, {1, 10}, MINE};
    m = birth(1, 5, MINE);
    assert_verdict(s, m, VERDICT_STALE);
}

static void test_verdict_name__each__is_its_own_word(void **state)
{
    (void)state;
    for (int a = 0; a <= VERDICT_BIRTH; a++) {
        assert_string_not_equal(verdict_name((enum verdict)a), "unknown");
        for (int b = 0; b < a; b++)
            assert_string_not_equal(verdict_name((enum verdict)a), verdict_name((enum verdict)b));
    }
    assert_string_equal(verdict_name((enum verdict)(VERDICT_BIRTH + 1)), "unknown");
}

/* Whatever is sent: a promise never goes backwards, and never without cause. */
static void test_admit__all_small_messages__keep_the_promise_monotonic(void **state)
{
    const enum role roles[] = {ROLE_NONE, ROLE_FENCED, ROLE_LEADER, ROLE_FOLLOWER};
    unsigned promised = 0;

    (void)state;
    for (uint32_t bits = 0; bits < 1u << 14; bits++) {
        struct standing s = member();
        struct desired m = message(roles[bits & 3], 4 + (bits >> 2 & 3) % 3,
                                   bits & 16 ? MINE : YOURS, (int32_t)(bits >> 5 & 3) % 3);
        enum verdict verdict;

        m.birth = bits & 128;
        if (m.role == ROLE_FENCED)
            m.leader.node = OTHER;
        s.birth_ended = bits & 256;
        s.registered = bits & 512;
        if (bits & 1024)
            s.leader = (struct leadership){5, (int32_t)(bits >> 11 & 3) % 3, {1, 10}, MINE};
        if (bits & 8192)
            s.cluster = cluster(0);
        if (m.role == ROLE_FOLLOWER || m.role == ROLE_LEADER)
            m.leader.proposer = MINE;
        verdict = desired_admit(&s, &m);
        if (verdict != VERDICT_PROMISE && verdict != VERDICT_OBEY)
            continue;
        assert_true(m.generation >= s.promise.generation);
        if (verdict == VERDICT_PROMISE) {
            promised++;
            assert_true(m.generation > 5 || m.role == ROLE_FOLLOWER);
            assert_true(s.registered || cluster_id_is_none(&s.cluster));
        }
        if (s.leader.generation == m.generation && m.role != ROLE_FENCED)
            assert_true(leadership_equal(&s.leader, &m.leader));
    }
    assert_true(promised > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_position__later_timeline_at_a_lower_lsn__is_greater),
        cmocka_unit_test(test_document_version__generation__counts_before_counter),
        cmocka_unit_test(test_incarnation__tie_of_numbers__every_node_settles_on_one),
        cmocka_unit_test(test_leadership__any_field_differs__is_not_equal),
        cmocka_unit_test(test_promise__other_proposer_or_generation__is_not_equal),
        cmocka_unit_test(test_cluster_id__one_byte_set__is_not_none),
        cmocka_unit_test(test_admit__lower_generation__is_stale),
        cmocka_unit_test(test_admit__higher_promise_request__is_promised),
        cmocka_unit_test(test_admit__promise_request_repeated__only_by_its_proposer),
        cmocka_unit_test(test_admit__promise_request_after_the_grant__is_stale),
        cmocka_unit_test(test_admit__grant__needs_the_promise_to_its_proposer),
        cmocka_unit_test(test_admit__grant_to_another_life__is_refused),
        cmocka_unit_test(test_admit__grant_repeated__is_obeyed_from_anyone_once_a_fact),
        cmocka_unit_test(test_admit__grant_of_a_generation_with_another_leader__is_refused),
        cmocka_unit_test(test_admit__follow_in_a_higher_generation__is_promised_to_any_sender),
        cmocka_unit_test(test_admit__follow_under_another_grant__is_promised_again),
        cmocka_unit_test(test_admit__follow_a_second_leader__is_refused),
        cmocka_unit_test(test_admit__follow_oneself__is_refused),
        cmocka_unit_test(test_admit__follow_a_replaced_machine__is_refused),
        cmocka_unit_test(test_admit__follow_a_machine_declared_destroyed__is_refused),
        cmocka_unit_test(test_admit__message_that_knows_a_newer_machine_here__is_refused),
        cmocka_unit_test(test_admit__sender_that_knows_an_older_machine_here__is_obeyed),
        cmocka_unit_test(test_admit__unregistered_machine__promises_nothing),
        cmocka_unit_test(test_admit__another_cluster_node_or_protocol__is_refused),
        cmocka_unit_test(test_admit__message_that_contradicts_itself__is_refused),
        cmocka_unit_test(test_admit__blank_machine__takes_part_in_births_only),
        cmocka_unit_test(test_admit__birth_at_a_member__is_refused),
        cmocka_unit_test(test_admit__birth_begun_again__replaces_the_earlier),
        cmocka_unit_test(test_verdict_name__each__is_its_own_word),
        cmocka_unit_test(test_admit__all_small_messages__keep_the_promise_monotonic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
