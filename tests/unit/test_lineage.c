/* Where two histories of WAL part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "protocol/order.h"

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

/* What may be restored for a node that is to follow this history. */
static void test_lineage__end_of_a_snapshot__is_held_up_to_the_next_fork(void **state)
{
    static const struct position begin[] = {{2, 100}, {5, 500}, {6, 900}};
    struct lineage l = lineage_of(begin, 3);

    (void)state;
    assert_true(lineage_holds(&l, (struct position){2, 500}));
    assert_false(lineage_holds(&l, (struct position){2, 501}));
    assert_false(lineage_holds(&l, (struct position){2, 99}));
    assert_true(lineage_holds(&l, (struct position){5, 900}));
    assert_false(lineage_holds(&l, (struct position){5, 901}));
    assert_true(lineage_holds(&l, (struct position){6, UINT64_MAX}));
    assert_false(
        lineage_holds(&l, (struct position){4, 450})); /* another life's, or older than kept */
    assert_false(lineage_holds(&l, (struct position){7, 950}));
    l.count = 0;
    assert_false(lineage_holds(&l, (struct position){2, 300}));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lineage__fork_exactly_at_the_end__may_attach),
        cmocka_unit_test(test_lineage__leaders_own_timeline__is_open_ended),
        cmocka_unit_test(test_lineage__newest_timeline_unknown_to_theirs__diverges_where_it_began),
        cmocka_unit_test(test_lineage__timeline_above_the_last_record__is_ignored),
        cmocka_unit_test(test_lineage__ancestor_not_kept__is_unknown),
        cmocka_unit_test(test_lineage__contradiction__is_unknown_not_a_guess),
        cmocka_unit_test(test_lineage__empty_or_damaged__is_unknown),
        cmocka_unit_test(test_lineage__end_of_a_snapshot__is_held_up_to_the_next_fork),
        cmocka_unit_test(test_lineage__full_table__is_walked_to_its_end),
        cmocka_unit_test(test_lineage__all_small_histories__agree_with_the_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
