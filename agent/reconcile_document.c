/* Who may change the cluster document, and when. Source: docs/protocol.md, "The cluster document".
 */
#include "agent/reconcile_internal.h"

#include <stddef.h>

#include "protocol/order.h"

/* What was confirmed before this leader's generation is held by one of any two agents that promised
 * it: this one, and a peer that said so. (By none but this one where an operator has declared both
 * others destroyed.) */
static bool heard_of_peer(const struct inputs *in)
{
    const struct durable *d = in->durable;
    int destroyed = 0;

    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct report *report = in->peers[slot].report;

        if (slot == d->node)
            continue;
        if (in->peers[slot].known && report->registered &&
            cluster_id_equal(&report->cluster, &d->cluster) &&
            report->promise.generation >= d->grant.generation &&
            report->incarnations[slot].number >= d->incarnations[slot].number)
            return true;
        destroyed += d->incarnations[slot].number <= d->void_number[slot];
    }
    return destroyed == NODE_COUNT - 1;
}

static bool peer_holds_newer(const struct inputs *in)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++)
        if (slot != in->durable->node && in->peers[slot].known &&
            document_version_compare(in->peers[slot].report->document.version,
                                     in->durable->document.version) > 0)
            return true;
    return false;
}

const char *document_obstacle(const struct inputs *in)
{
    if (!is_leader(in))
        return "this node does not lead: the document is changed at the leader's agent";
    if (in->durable->document.version.generation > in->durable->grant.generation)
        return "a later generation than this leader's has changed the document: ask again once it "
               "has its leader";
    if (peer_holds_newer(in))
        return "a peer holds a newer document, which is being fetched: ask again";
    if (!heard_of_peer(in))
        return "no other node has been heard of at this leader's generation: the document is "
               "changed at two agents";
    return NULL;
}

/* Only the process that opened a generation writes in it, and only while it granted it to nobody. A
 * node without complete data may have its promise from the peer that it registered at. */
const char *document_obstacle_leaderless(const struct durable *durable, struct promise promise)
{
    if (!promise_equal(durable->promise, promise) || durable->role != ROLE_FENCED ||
        durable->leader.generation == durable->promise.generation)
        return "this node has not promised this generation to this proposer, or knows its leader";
    if (!durable->registered || !(durable->complete || durable->rewound))
        return "this node may not vote: it has no complete data";
    return NULL;
}
