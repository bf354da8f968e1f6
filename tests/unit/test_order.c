/* The ordering rules: what comes first, where two histories part, which message is obeyed. */
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

/* --- lineage --- */

static struct lineage lineage_of(const struct position *begin, uint32_t count)
{
    struct lineage lineage;

    memset(&lineage, 0, sizeof(lineage));
    lineage.count = count;
    memcpy(lineage.begin, begin, count * sizeof(*begin));
    return lineage;
}

#define LINEAGE(...)                                                                               \
    lineage_of((struct position[]){__VA_ARGS__},                                                   \
               sizeof((struct position[]){__VA_ARGS__}) / sizeof(struct position))

static void assert_fork(struct lineage mine, struct position end, struct lineage theirs,
                        enum fork expected, struct position at)
{
    const struct position untouched = {99, 99};
    struct position fork = untouched;

    assert_int_equal(lineage_fork(&mine, end, &theirs, &fork), expected);
    if (expected != FORK_DIVERGED)
        at = untouched;
    assert_int_equal(fork.timeline, at.timeline);
    assert_int_equal(fork.lsn, at.lsn);
}

static const struct position NOWHERE;

static void test_lineage__fork_exactly_at_the_end__may_attach(void **state)
{
    const struct position begin[] = {{1, 0}, {2, 100}, {5, 500}};

    (void)state;
    assert_fork(lineage_of(begin, 2), (struct position){2, 500}, lineage_of(begin, 3), FORK_PREFIX,
                NOWHERE);
    assert_fork(lineage_of(begin, 2), (struct position){2, 501}, lineage_of(begin, 3),
                FORK_DIVERGED, (struct position){2, 500});
    assert_fork(lineage_of(begin, 2), (struct position){2, 499}, lineage_of(begin, 3), FORK_PREFIX,
                NOWHERE);
}

static void test_lineage__leaders_own_timeline__is_open_ended(void **state)
{
    const struct position begin[] = {{1, 0}, {2, 100}, {5, 500}};

    (void)state;
    assert_fork(lineage_of(begin, 3), (struct position){5, UINT64_MAX}, lineage_of(begin, 3),
                FORK_PREFIX, NOWHERE);
}

static void test_lineage__newest_timeline_unknown_to_theirs__diverges_where_it_began(void **state)
{
    (void)state;
    /* somebody's pg_promote(): 6 came out of 5 at 700, the leader is still on 5 */
    assert_fork(LINEAGE({1, 0}, {5, 500}, {6, 700}), (struct position){6, 900},
                LINEAGE({1, 0}, {5, 500}), FORK_DIVERGED, (struct position){5, 700});
    /* a leader that nobody followed on 6; 7 came out of 5 later, at the same place, earlier */
    assert_fork(LINEAGE({1, 0}, {5, 500}, {6, 700}), (struct position){6, 900},
                LINEAGE({1, 0}, {5, 500}, {7, 800}), FORK_DIVERGED, (struct position){5, 700});
    assert_fork(LINEAGE({1, 0}, {5, 500}, {6, 700}), (struct position){6, 900},
                LINEAGE({1, 0}, {5, 500}, {7, 700}), FORK_DIVERGED, (struct position){5, 700});
    assert_fork(LINEAGE({1, 0}, {5, 500}, {6, 700}), (struct position){6, 900},
                LINEAGE({1, 0}, {5, 500}, {7, 600}), FORK_DIVERGED, (struct position){5, 600});
}

static void test_lineage__timeline_above_the_last_record__is_ignored(void **state)
{
    (void)state;
    /* a history file of 7 is there, its first record is not */
    assert_fork(LINEAGE({1, 0}, {5, 500}, {7, 700}), (struct position){5, 650},
                LINEAGE({1, 0}, {5, 500}, {8, 700}), FORK_PREFIX, NOWHERE);
}

static void test_lineage__ancestor_not_kept__is_unknown(void **state)
{
    struct lineage mine = LINEAGE({1, 0}, {2, 100}, {4, 300});
    struct lineage theirs = LINEAGE({3, 200}, {5, 500});

    (void)state;
    theirs.truncated = true;
    assert_fork(mine, (struct position){4, 400}, theirs, FORK_UNKNOWN, NOWHERE);
    assert_fork(theirs, (struct position){5, 600}, mine, FORK_UNKNOWN, NOWHERE);
    /* all of mine is older than what they keep */
    assert_fork(LINEAGE({1, 0}), (struct position){1, 50}, theirs, FORK_UNKNOWN, NOWHERE);
}

static void test_lineage__contradiction__is_unknown_not_a_guess(void **state)
{
    (void)state;
    /* two promotions to one id */
    assert_fork(LINEAGE({1, 0}, {2, 100}), (struct position){2, 200}, LINEAGE({1, 0}, {2, 150}),
                FORK_UNKNOWN, NOWHERE);
    /* parted, and met again */
    assert_fork(LINEAGE({1, 0}, {2, 100}, {4, 300}), (struct position){4, 400},
                LINEAGE({1, 0}, {3, 200}, {4, 300}), FORK_UNKNOWN, NOWHERE);
    /* an older beginning that nobody says was dropped */
    assert_fork(LINEAGE({2, 100}), (struct position){2, 200}, LINEAGE({1, 0}, {2, 100}),
                FORK_UNKNOWN, NOWHERE);
    /* the end lies on no timeline of its own lineage, or before that timeline began */
    assert_fork(LINEAGE({1, 0}, {4, 300}), (struct position){3, 400}, LINEAGE({1, 0}), FORK_UNKNOWN,
                NOWHERE);
    assert_fork(LINEAGE({1, 0}, {4, 300}), (struct position){4, 299}, LINEAGE({1, 0}), FORK_UNKNOWN,
                NOWHERE);
}

static void test_lineage__empty_or_damaged__is_unknown(void **state)
{
    struct lineage none = {0}, some = LINEAGE({1, 0}), damaged = LINEAGE({1, 0});
    const struct position end = {1, 10};

    (void)state;
    damaged.count = LINEAGE_MAX + 1;
    assert_fork(none, end, some, FORK_UNKNOWN, NOWHERE);
    assert_fork(some, end, none, FORK_UNKNOWN, NOWHERE);
    assert_fork(damaged, end, some, FORK_UNKNOWN, NOWHERE);
    assert_fork(some, end, damaged, FORK_UNKNOWN, NOWHERE);
}

static void test_lineage__full_table__is_walked_to_its_end(void **state)
{
    struct position begin[LINEAGE_MAX];
    struct lineage mine, theirs;

    (void)state;
    for (uint32_t i = 0; i < LINEAGE_MAX; i++)
        begin[i] = (struct position){i + 10, 100 * i};
    mine = theirs = lineage_of(begin, LINEAGE_MAX);
    mine.truncated = theirs.truncated = true;
    assert_fork(mine, (struct position){41, 5000}, theirs, FORK_PREFIX, NOWHERE);
    theirs.begin[LINEAGE_MAX - 1].timeline = 77;
    assert_fork(mine, (struct position){41, 5000}, theirs, FORK_DIVERGED,
                (struct position){40, 3100});
}

/* All histories of four promotions, on LSNs 0 … 4, against what the WAL's bytes would say. */
enum { PROMOTIONS = 4, LSN_MAX = 4 };

static const uint32_t IDS[PROMOTIONS] = {1, 2, 5, 9}; /* generations leave gaps */

struct tree {
    int parent[PROMOTIONS];
    uint64_t begin[PROMOTIONS];
};

static struct lineage path_to(const struct tree *tree, int leaf)
{
    struct position reversed[PROMOTIONS];
    struct lineage lineage = {0};
    uint32_t count = 0;

    for (int at = leaf; at >= 0; at = tree->parent[at])
        reversed[count++] = (struct position){IDS[at], tree->begin[at]};
    for (; lineage.count < count; lineage.count++)
        lineage.begin[lineage.count] = reversed[count - 1 - lineage.count];
    return lineage;
}

/* Who wrote the WAL from lsn to lsn + 1? */
static uint32_t writer(const struct lineage *lineage, uint64_t lsn)
{
    uint32_t at = lineage->count - 1;

    while (lineage->begin[at].lsn > lsn)
        at--;
    return lineage->begin[at].timeline;
}

static struct lineage newest(const struct lineage *lineage, uint32_t keep)
{
    struct lineage cut = {0};

    cut.truncated = keep < lineage->count;
    cut.count = cut.truncated ? keep : lineage->count;
    memcpy(cut.begin, &lineage->begin[lineage->count - cut.count],
           cut.count * sizeof(cut.begin[0]));
    return cut;
}

static bool has(const struct lineage *lineage, uint32_t timeline)
{
    for (uint32_t i = 0; i < lineage->count; i++) {
        if (lineage->begin[i].timeline == timeline)
            return true;
    }
    return false;
}

static uint32_t last_common(const struct lineage *a, const struct lineage *b)
{
    uint32_t common = 0;

    for (uint32_t i = 0; i < a->count; i++) {
        if (has(b, a->begin[i].timeline))
            common = a->begin[i].timeline;
    }
    return common;
}

static void check_pair(const struct tree *tree, int mine_leaf, int theirs_leaf, uint64_t end_lsn)
{
    const struct lineage mine = path_to(tree, mine_leaf), theirs = path_to(tree, theirs_leaf);
    const struct position end = {IDS[mine_leaf], end_lsn};
    uint32_t common = last_common(&mine, &theirs);
    uint64_t same = 0;

    while (same < end_lsn && writer(&mine, same) == writer(&theirs, same))
        same++;
    for (uint32_t keep_mine = 1; keep_mine <= mine.count; keep_mine++) {
        for (uint32_t keep_theirs = 1; keep_theirs <= theirs.count; keep_theirs++) {
            struct lineage a = newest(&mine, keep_mine), b = newest(&theirs, keep_theirs);

            if (!has(&a, common) || !has(&b, common))
                assert_fork(a, end, b, FORK_UNKNOWN, NOWHERE);
            else if (same == end_lsn)
                assert_fork(a, end, b, FORK_PREFIX, NOWHERE);
            else
                assert_fork(a, end, b, FORK_DIVERGED, (struct position){common, same});
        }
    }
}

static unsigned check_tree(struct tree *tree, int next)
{
    unsigned checked = 0;

    if (next < PROMOTIONS) {
        for (int parent = 0; parent < next; parent++) {
            for (uint64_t lsn = tree->begin[parent]; lsn < LSN_MAX; lsn++) {
                tree->parent[next] = parent;
                tree->begin[next] = lsn;
                checked += check_tree(tree, next + 1);
            }
        }
        return checked;
    }
    for (int mine = 0; mine < PROMOTIONS; mine++) {
        for (int theirs = 0; theirs < PROMOTIONS; theirs++) {
            for (uint64_t end = tree->begin[mine] + 1; end <= LSN_MAX; end++, checked++)
                check_pair(tree, mine, theirs, end);
        }
    }
    return checked;
}

static void test_lineage__all_small_histories__agree_with_the_bytes(void **state)
{
    struct tree tree = {.parent = {-1}, .begin = {0}};

    (void)state;
    assert_true(check_tree(&tree, 1) > 5000);
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
        cmocka_unit_test(test_lineage__fork_exactly_at_the_end__may_attach),
        cmocka_unit_test(test_lineage__leaders_own_timeline__is_open_ended),
        cmocka_unit_test(test_lineage__newest_timeline_unknown_to_theirs__diverges_where_it_began),
        cmocka_unit_test(test_lineage__timeline_above_the_last_record__is_ignored),
        cmocka_unit_test(test_lineage__ancestor_not_kept__is_unknown),
        cmocka_unit_test(test_lineage__contradiction__is_unknown_not_a_guess),
        cmocka_unit_test(test_lineage__empty_or_damaged__is_unknown),
        cmocka_unit_test(test_lineage__full_table__is_walked_to_its_end),
        cmocka_unit_test(test_lineage__all_small_histories__agree_with_the_bytes),
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
