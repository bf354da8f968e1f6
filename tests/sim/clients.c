/*
 * Clients. Each writes to some primary that it can still reach, deposed or not, and waits until a
 * standby that counts has the commit. Some cancel: that commit is visible and unprotected, and
 * counts as not acknowledged. Some prepare a transaction and commit it later, perhaps on the next
 * leader. Some read where a client is sent to.
 */
#include "tests/sim/sim.h"

static bool takes_commits(const struct machine *m)
{
    return server_alive(m) && m->server.primary && !m->server.stopping;
}

/* Some primary; NOBODY: none. */
static int find_primary(void)
{
    int first = (int)dice(MACHINES);

    for (int i = 0; i < MACHINES; i++) {
        int index = (first + i) % MACHINES;

        if (takes_commits(&world.machines[index]))
            return index;
    }
    return NOBODY;
}

/* --- the end of a wait --- */

static void acknowledge(struct client *client)
{
    client->waits = false;
    world.measure[MEASURE_ACKED]++;
    if (client->kind == COMMIT_PREPARE) {
        client->prepared = true;
        client->prepared_branch = client->branch;
        client->prepared_lsn = client->lsn;
        figures.prepared++;
    } else if (client->kind == COMMIT_PREPARED) {
        client->prepared = false;
    }
}

void clients_release(int leader, int standby, uint64_t upto)
{
    const struct machine *m = &world.machines[leader];
    struct branch *branch = &world.branches[m->disk.wal.branch];
    uint64_t acked = 0;

    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &world.clients[i];

        if (!client->waits || client->machine != leader || client->life != m->server.life ||
            client->branch != m->disk.wal.branch || client->lsn > upto)
            continue;
        acked = client->lsn > acked ? client->lsn : acked;
        acknowledge(client);
    }
    if (acked <= branch->acked)
        return;
    check_ack(leader, m->disk.wal.branch, acked);
    branch->acked = acked;
    if (standby != NOBODY)
        project_ack(leader, standby, acked);
}

/* A frozen server keeps its connections. */
static bool is_connected(const struct client *client)
{
    const struct machine *m = &world.machines[client->machine];

    return m->powered && (m->server.running || m->server.remains) && m->server.primary &&
           m->server.life == client->life;
}

/* Its connection broke (it will never know), or it gives up waiting and is warned. */
static void stop_waiting(struct client *client)
{
    if (!is_connected(client)) {
        client->waits = false;
    } else if (takes_commits(&world.machines[client->machine]) &&
               world.now_ms - client->since_ms > 100 && happens(20)) {
        client->waits = false;
        figures.cancelled++;
    }
    if (!client->waits && client->kind == COMMIT_PREPARED)
        client->prepared = false; /* done, as far as the client can tell */
}

/* --- a commit --- */

/* What was prepared with an acknowledgement is there on every later leader. */
static void look_for_prepared(struct client *client, int index)
{
    const struct wal *wal = &world.machines[index].disk.wal;
    const struct branch *here = &world.branches[wal->branch],
                        *there = &world.branches[client->prepared_branch];

    client->kind = COMMIT_PREPARED;
    if (branch_contains(wal->branch, wal->written, client->prepared_branch, client->prepared_lsn))
        return;
    client->kind = COMMIT;
    if (here->generation > there->generation && there->generation != 0 && !world.overridden)
        violate("I1: what was prepared at %u:%llu is not there on the leader of generation %u",
                there->timeline, (unsigned long long)client->prepared_lsn, here->generation);
}

static void commit(struct client *client, int index)
{
    struct machine *m = &world.machines[index];
    struct wal *wal = &m->disk.wal;

    if (m->full) { /* cannot write to WAL: the server gives up */
        server_kill(index, false);
        return;
    }
    if (client->prepared && happens(300))
        look_for_prepared(client, index);
    else
        client->kind = !client->prepared && happens(150) ? COMMIT_PREPARE : COMMIT;
    wal->written += RECORD;
    client->waits = true;
    client->machine = index;
    client->life = m->server.life;
    client->branch = wal->branch;
    client->lsn = wal->written;
    client->since_ms = world.now_ms;
    count_step();
}

static void flush(void)
{
    for (int i = 0; i < MACHINES; i++) {
        struct machine *m = &world.machines[i];

        if (!takes_commits(m) || m->disk.wal.flushed == m->disk.wal.written ||
            !happens(m->slow ? 80 : 950))
            continue;
        m->disk.wal.flushed = m->disk.wal.written;
        conns_poke(i);
        if (server_waits_for_nobody(m))
            clients_release(i, NOBODY, m->disk.wal.flushed);
    }
}

void client_tick(void)
{
    struct client *client = &world.clients[dice(CLIENTS)];
    int index = find_primary();

    post(between(10, 90), EVENT_CLIENT, 0, 0);
    if (client->waits)
        stop_waiting(client);
    else if (index != NOBODY && happens(900))
        commit(client, index);
    else if (index != NOBODY)
        check_read(index);
    flush();
}
