#include "protocol/order.h"

#include <string.h>

int position_compare(struct position a, struct position b)
{
    if (a.timeline != b.timeline)
        return a.timeline < b.timeline ? -1 : 1;
    if (a.lsn != b.lsn)
        return a.lsn < b.lsn ? -1 : 1;
    return 0;
}

int document_version_compare(struct document_version a, struct document_version b)
{
    if (a.generation != b.generation)
        return a.generation < b.generation ? -1 : 1;
    if (a.counter != b.counter)
        return a.counter < b.counter ? -1 : 1;
    return 0;
}

bool promise_equal(struct promise a, struct promise b)
{
    return a.generation == b.generation && a.proposer == b.proposer;
}

bool incarnation_equal(struct incarnation a, struct incarnation b)
{
    return a.number == b.number && a.nonce == b.nonce;
}

struct incarnation incarnation_later(struct incarnation a, struct incarnation b)
{
    if (a.number != b.number)
        return a.number > b.number ? a : b;
    return a.nonce > b.nonce ? a : b;
}

static bool incarnation_older(struct incarnation a, struct incarnation b)
{
    return !incarnation_equal(a, b) && incarnation_equal(incarnation_later(a, b), b);
}

bool source_is_none(const struct snapshot_source *source)
{
    return source->id[0] == '\0';
}

bool source_equal(const struct snapshot_source *a, const struct snapshot_source *b)
{
    return strncmp(a->id, b->id, SOURCE_ID_SIZE) == 0 &&
           strncmp(a->store, b->store, STORE_URL_SIZE) == 0;
}

bool leadership_equal(const struct leadership *a, const struct leadership *b)
{
    return a->generation == b->generation && a->node == b->node &&
           incarnation_equal(a->incarnation, b->incarnation) && a->proposer == b->proposer;
}

bool cluster_id_equal(const struct cluster_id *a, const struct cluster_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool cluster_id_is_none(const struct cluster_id *id)
{
    static const struct cluster_id none;

    return cluster_id_equal(id, &none);
}

/* --- lineage --- */

/* The first entry of a that b may know too. Entries before it are older than what b keeps, which is
 * fine only if b says that it dropped some. */
static bool lineage_first_common(const struct lineage *a, const struct lineage *b, uint32_t *at)
{
    uint32_t i = 0;

    while (i < a->count && a->begin[i].timeline < b->begin[0].timeline)
        i++;
    *at = i;
    return i < a->count && (i == 0 || b->truncated);
}

/* Does any timeline from i on in a occur from j on in b? */
static bool lineage_meets_again(const struct lineage *a, uint32_t i, const struct lineage *b,
                                uint32_t j)
{
    while (i < a->count && j < b->count) {
        if (a->begin[i].timeline == b->begin[j].timeline)
            return true;
        if (a->begin[i].timeline < b->begin[j].timeline)
            i++;
        else
            j++;
    }
    return false;
}

bool lineage_holds(const struct lineage *lineage, struct position end)
{
    for (uint32_t i = 0; i < lineage->count && i < LINEAGE_MAX; i++)
        if (lineage->begin[i].timeline == end.timeline)
            return lineage->begin[i].lsn <= end.lsn &&
                   (i + 1 == lineage->count || end.lsn <= lineage->begin[i + 1].lsn);
    return false;
}

enum fork lineage_fork(const struct lineage *mine, struct position end,
                       const struct lineage *theirs, struct position *fork)
{
    struct lineage own = *mine;
    uint32_t i, j;
    uint64_t own_end, their_end;

    if (mine->count > LINEAGE_MAX || theirs->count > LINEAGE_MAX || theirs->count == 0)
        return FORK_UNKNOWN;

    /* A timeline that holds no complete record yet is no history of this WAL. */
    while (own.count > 0 && own.begin[own.count - 1].timeline > end.timeline)
        own.count--;
    if (own.count == 0 || own.begin[own.count - 1].timeline != end.timeline ||
        own.begin[own.count - 1].lsn > end.lsn)
        return FORK_UNKNOWN;

    if (!lineage_first_common(&own, theirs, &i) || !lineage_first_common(theirs, &own, &j) ||
        own.begin[i].timeline != theirs->begin[j].timeline)
        return FORK_UNKNOWN;
    for (; i < own.count && j < theirs->count; i++, j++) {
        if (own.begin[i].timeline != theirs->begin[j].timeline)
            break;
        if (own.begin[i].lsn != theirs->begin[j].lsn)
            return FORK_UNKNOWN; /* two promotions to one id: nothing can be concluded */
    }
    if (lineage_meets_again(&own, i, theirs, j))
        return FORK_UNKNOWN;

    /* Entries i-1 and j-1 are the last timeline of both; where does it end, here and there? */
    own_end = i < own.count ? own.begin[i].lsn : end.lsn;
    their_end = j < theirs->count ? theirs->begin[j].lsn : UINT64_MAX;
    if (i == own.count && own_end <= their_end)
        return FORK_PREFIX;
    fork->timeline = own.begin[i - 1].timeline;
    fork->lsn = own_end < their_end ? own_end : their_end;
    return FORK_DIVERGED;
}

/* --- admission --- */

static bool slot_valid(int32_t node)
{
    return node >= 0 && node < NODE_COUNT;
}

/* A message that contradicts itself is nobody's order. */
static bool message_sound(const struct desired *message)
{
    const struct leadership *leader = &message->leader;

    if (message->generation < FIRST_GENERATION || cluster_id_is_none(&message->cluster))
        return false;
    switch (message->role) {
    case ROLE_FENCED:
        /* its leader's timeline is above those of the snapshot that it restores */
        return !message->birth ||
               (slot_valid(leader->node) && message->generation > message->source.timeline);
    case ROLE_LEADER:
    case ROLE_FOLLOWER:
        return slot_valid(leader->node) && leader->generation == message->generation &&
               leader->incarnation.number > 0;
    case ROLE_NONE: break;
    }
    return false;
}

static bool incarnation_void(struct incarnation incarnation, uint32_t up_to)
{
    return up_to > 0 && incarnation.number <= up_to;
}

/* Is this life of that slot over, as far as the agent or the sender knows? */
static bool incarnation_is_over(const struct standing *standing, const struct desired *message,
                                int32_t node, struct incarnation incarnation)
{
    return incarnation_older(incarnation, standing->incarnations[node]) ||
           incarnation_older(incarnation, message->incarnations[node]) ||
           incarnation_void(incarnation, standing->void_number[node]) ||
           incarnation_void(incarnation, message->destroyed_number[node]);
}

/* Has somebody else been granted this generation? */
static bool contradicts_fact(const struct standing *standing, const struct desired *message)
{
    return standing->leader.generation == message->generation &&
           !leadership_equal(&standing->leader, &message->leader);
}

static enum verdict admit_fenced(const struct standing *standing, const struct desired *message)
{
    if (message->generation > standing->promise.generation)
        return VERDICT_PROMISE;
    if (message->proposer != standing->promise.proposer)
        return VERDICT_PROPOSER;
    /* Its votes are in and it was granted: a request that was delayed must not depose its leader.
     */
    if (standing->leader.generation == message->generation)
        return VERDICT_STALE;
    return VERDICT_OBEY;
}

static enum verdict admit_birth(const struct standing *standing, const struct desired *message)
{
    enum verdict verdict;

    if (cluster_id_is_none(&standing->cluster))
        return message->generation > standing->promise.generation ? VERDICT_PROMISE : VERDICT_STALE;
    if (!standing->birth_promised || standing->birth_ended)
        return VERDICT_BIRTH;
    verdict = admit_fenced(standing, message);
    /* Within one generation there is one birth; only a later one may name another cluster. */
    if (verdict == VERDICT_OBEY && !cluster_id_equal(&standing->cluster, &message->cluster))
        return VERDICT_BIRTH;
    return verdict;
}

static enum verdict admit_leader(const struct standing *standing, const struct desired *message)
{
    const struct leadership *leader = &message->leader;

    if (leader->node != standing->node ||
        !incarnation_equal(leader->incarnation, standing->incarnations[standing->node]))
        return VERDICT_INCARNATION;
    if (message->generation > standing->promise.generation)
        return VERDICT_PROPOSER;
    if (contradicts_fact(standing, message))
        return VERDICT_SECOND_LEADER;
    /* Not a grant but the fact itself, which any orchestrator may repeat, with a job for example.
     */
    if (standing->leader.generation == message->generation)
        return VERDICT_OBEY;
    if (message->proposer != standing->promise.proposer || message->proposer != leader->proposer)
        return VERDICT_PROPOSER;
    return VERDICT_OBEY;
}

static enum verdict admit_follower(const struct standing *standing, const struct desired *message)
{
    const struct leadership *leader = &message->leader;

    /* Nobody follows itself; a leader is told so by ROLE_LEADER, and knows it first of all. */
    if (leader->node == standing->node || contradicts_fact(standing, message))
        return VERDICT_SECOND_LEADER;
    if (incarnation_is_over(standing, message, leader->node, leader->incarnation))
        return VERDICT_INCARNATION;
    if (message->generation == standing->promise.generation &&
        leader->proposer == standing->promise.proposer)
        return VERDICT_OBEY;
    return standing->registered ? VERDICT_PROMISE : VERDICT_UNREGISTERED;
}

enum verdict desired_admit(const struct standing *standing, const struct desired *message)
{
    bool birth = message->role == ROLE_FENCED && message->birth;
    bool member = !cluster_id_is_none(&standing->cluster);
    int32_t self = standing->node;

    if (message->protocol != PROTOCOL_VERSION || !message_sound(message))
        return VERDICT_PROTOCOL;
    if (member && !birth && !cluster_id_equal(&standing->cluster, &message->cluster))
        return VERDICT_CLUSTER;
    if (message->node != self || !slot_valid(self))
        return VERDICT_NODE;
    if (!member)
        return birth ? admit_birth(standing, message) : VERDICT_UNREGISTERED;
    if (incarnation_is_over(standing, message, self, standing->incarnations[self]))
        return VERDICT_INCARNATION;
    if (!standing->registered && message->role != ROLE_FOLLOWER)
        return VERDICT_UNREGISTERED;
    if (message->generation < standing->promise.generation)
        return VERDICT_STALE;
    if (birth)
        return admit_birth(standing, message);
    switch (message->role) {
    case ROLE_LEADER: return admit_leader(standing, message);
    case ROLE_FOLLOWER: return admit_follower(standing, message);
    case ROLE_FENCED:
    case ROLE_NONE: break;
    }
    return admit_fenced(standing, message);
}

const char *verdict_name(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_OBEY: return "obey";
    case VERDICT_PROMISE: return "promise";
    case VERDICT_PROTOCOL: return "protocol";
    case VERDICT_CLUSTER: return "cluster";
    case VERDICT_NODE: return "node";
    case VERDICT_STALE: return "stale";
    case VERDICT_PROPOSER: return "proposer";
    case VERDICT_SECOND_LEADER: return "second_leader";
    case VERDICT_INCARNATION: return "incarnation";
    case VERDICT_UNREGISTERED: return "unregistered";
    case VERDICT_BIRTH: return "birth";
    }
    return "unknown";
}
