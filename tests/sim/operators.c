/*
 * What people ask for, at bad moments.
 */
#include <string.h>

#include "tests/sim/sim.h"

/* The opposite of what stands in the greatest document. */
static void change_document(bool maintenance)
{
    const struct document_facts *facts = &world.machines[0].disk.document;
    int32_t fence = maintenance ? NODE_NONE : (int32_t)dice(NODE_COUNT);

    for (int i = 1; i < MACHINES; i++)
        if (document_version_compare(world.machines[i].disk.document.version, facts->version) > 0)
            facts = &world.machines[i].disk.document;
    document_ask((int)dice(BOSSES), fence,
                 maintenance ? !facts->maintenance : !facts->fenced[fence]);
}

static void ask(enum request_kind kind, int32_t target, const char *what)
{
    if (boss_ask((int)dice(BOSSES), kind, target, NULL))
        befall("operator_asks", NOBODY, "an operator asks for %s, n%d", what, target + 1);
}

void operate(void)
{
    int32_t target = (int32_t)dice(NODE_COUNT + 1) - 1;

    snapshot_take();
    switch (dice(16)) {
    case 0:
    case 1:
    case 2: ask(REQUEST_FAILOVER, target, "a failover"); break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7: ask(REQUEST_SWITCHOVER, target, "a switchover"); break;
    case 8:
    case 9: ask(REQUEST_JOB, (int32_t)dice(NODE_COUNT), "a job"); break;
    case 10: ask(REQUEST_INIT, target, "a new cluster"); break;
    case 11:
    case 12: change_document(true); break;
    default: change_document(false); break;
    }
}

/* Somebody's pg_promote(), on a standby that nobody granted anything, before its agent's eyes: the
 * copy is as good as lost. */
void promote_by_hand(void)
{
    int index = victim();
    struct machine *m = &world.machines[index];

    /* both at once, on the copy of a leader, can look like the leader itself */
    if (m->disk.rolled_back || !world.endpoints[index].up || world.endpoints[index].frozen ||
        !may_lose(index) || !m->server.running || m->server.starting || m->server.primary ||
        m->server.conf.names || m->disk.conf.names)
        return;
    befall("promoted_by_hand", index, "promoted by hand");
    m->disk.spoiled = true;
    m->server.promoting = m->server.by_hand = true;
    server_poke(index, 1);
}

/* Somebody's ALTER SYSTEM, to a name that no standby has: writes wait, and the leader may not go on
 * so. (An empty list would end the guarantee; nothing helps against a superuser.) */
void tamper_with_names(void)
{
    int index = victim();
    struct machine *m = &world.machines[index];

    if (!m->server.primary || !m->server.conf.names)
        return;
    befall("names_changed", index, "synchronous_standby_names changed by a superuser");
    m->server.conf.names = false;
    conns_poke(index);
}

enum { OVERRIDES_MAX = 3 };

/* --accept-data-loss: two are said to be destroyed, and often are. */
void accept_data_loss(void)
{
    bool destroyed[NODE_COUNT] = {false};
    int32_t survivor = NODE_NONE;
    int others = 0;

    if (!world.doomed || !world.born || world.overrides == OVERRIDES_MAX)
        return;
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct machine *m = &world.machines[machine_of(slot)];

        destroyed[slot] = !m->powered || !m->disk.durable.complete || !m->disk.durable.registered;
        others += destroyed[slot];
        if (!destroyed[slot])
            survivor = slot;
    }
    if (others != NODE_COUNT - 1 ||
        !boss_ask((int)dice(BOSSES), REQUEST_FAILOVER, survivor, destroyed))
        return;
    befall("override", NOBODY, "an operator declares all but n%d destroyed", survivor + 1);
    world.overridden = true;
    world.overrides++;
}

bool is_void(const struct machine *m)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        const struct durable *d = &world.machines[machine_of(slot)].disk.durable;

        if (slot != m->slot && cluster_id_equal(&d->cluster, &m->disk.durable.cluster) &&
            m->disk.durable.incarnations[m->slot].number <= d->void_number[m->slot])
            return m->disk.durable.incarnations[m->slot].number > 0;
    }
    return false;
}

/* What was declared destroyed and is not has to be emptied before it is of use again. */
static void empty_void_machines(void)
{
    for (int32_t slot = 0; slot < NODE_COUNT; slot++) {
        int index = machine_of(slot);

        if (!is_void(&world.machines[index]))
            continue;
        trace("n%d/%d is emptied by an operator", slot + 1, index);
        project_fault("machine_emptied", index);
        machine_power(index, false);
        storage_wipe(index);
        machine_power(index, true);
    }
}

/* After the storm somebody sees to it. */
void operators_recover(void)
{
    if (!world.doomed)
        return;
    if (world.overridden)
        empty_void_machines();
    accept_data_loss();
}
