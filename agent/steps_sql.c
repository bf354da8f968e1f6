#include "agent/steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/pgdata.h"
#include "agent/sampler.h"
#include "base/clock.h"
#include "base/pgconn.h"
#include "base/units.h"
#include "protocol/names.h"

enum {
    CONNECT_MS = 2000,
    WARM_MS = 300,     /* a step may have to wait for so long behind it */
    POSITION_MS = 100, /* one attempt; the core asks again */
    QUIET_MS = 70,     /* more than three times wal_retrieve_retry_interval */
    PROMOTE_MS = 5000,
    CHECKPOINT_MS = 600000,
};

/* Between two looks at what is about to change. */
static void pause_short(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

/* --- sessions that stay open
 * -------------------------------------------------------------------------- */

static struct pg_conn *session(struct step_run *run, struct pg_conn **conn, bool replication,
                               int connect_ms)
{
    struct hands *hands = run->hands;
    struct local_conninfo local;
    struct pg_outcome outcome;

    if (hands->life != run->life) {
        pg_close(hands->sql);
        pg_close(hands->walsender);
        hands->sql = hands->walsender = NULL;
        hands->life = run->life;
    }
    if (*conn && !pg_is_open(*conn)) {
        pg_close(*conn);
        *conn = NULL;
    }
    if (!*conn) {
        local_conninfo(&local, hands->config, "ogel_agent", replication);
        *conn = pg_open(&local.info, connect_ms, &outcome, &run->err);
    }
    return *conn;
}

struct pg_conn *step_sql(struct step_run *run)
{
    return session(run, &run->hands->sql, false, CONNECT_MS);
}

struct pg_conn *step_walsender(struct step_run *run)
{
    return session(run, &run->hands->walsender, true, CONNECT_MS);
}

void step_warm_up(void *arg)
{
    struct step_run *run = arg;

    if (session(run, &run->hands->sql, false, WARM_MS))
        (void)session(run, &run->hands->walsender, true, WARM_MS);
}

static int query(struct step_run *run, const char *sql, struct pg_result **result)
{
    struct pg_conn *conn = step_sql(run);

    if (!conn)
        return -1;
    return pg_exec(conn, STEP_CALL_MS, sql, 0, NULL, result, NULL, &run->err);
}

static uint64_t lsn_of(const char *text)
{
    uint64_t lsn = 0;

    if (!text || units_parse_lsn(text, &lsn, NULL) < 0)
        return 0;
    return lsn;
}

/* --- position
 * ------------------------------------------------------------------------------------------ */

struct replay {
    bool waits;
    uint64_t received;
    uint64_t replayed;
};

static int read_replay(struct step_run *run, struct replay *replay)
{
    struct pg_result *result = NULL;
    const char *waits;

    if (query(run,
              "SELECT (SELECT wait_event IN ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')"
              " FROM pg_stat_activity WHERE backend_type = 'startup'),"
              " pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()",
              &result) < 0)
        return -1;
    waits = pg_result_value(result, 0, 0);
    replay->waits = waits && waits[0] == 't';
    replay->received = lsn_of(pg_result_value(result, 0, 1));
    replay->replayed = lsn_of(pg_result_value(result, 0, 2));
    pg_result_free(result);
    return 0;
}

/* Replay has come to its end: the startup process waits for WAL, and has either replayed just what
 * was received, or found nothing more through several rounds of looking (after a restart the
 * received position says nothing; a record cut off at the end is never replayed). */
static int wait_for_end(struct step_run *run, uint64_t *replayed)
{
    int64_t deadline = clock_mono_ms() + POSITION_MS, quiet_since = 0;
    struct replay now, before = {.waits = false};

    for (;;) {
        if (read_replay(run, &now) < 0)
            return -1;
        *replayed = now.replayed;
        if (now.waits && now.received == now.replayed)
            return 0;
        if (!now.waits || now.replayed != before.replayed)
            quiet_since = 0;
        else if (quiet_since == 0)
            quiet_since = clock_mono_ms();
        else if (clock_mono_ms() - quiet_since >= QUIET_MS)
            return 0;
        before = now;
        if (clock_mono_ms() >= deadline && quiet_since == 0)
            return err_set(&run->err, ERR_UNAVAILABLE, "replay has not come to its end");
        pause_short();
    }
}

int step_read_position_online(struct step_run *run)
{
    struct pg_result *result = NULL;
    struct pg_conn *conn = step_walsender(run);
    struct replay after;

    if (!conn || wait_for_end(run, &run->replay_lsn) < 0)
        return -1;
    if (pg_exec(conn, STEP_CALL_MS, "IDENTIFY_SYSTEM", 0, NULL, &result, NULL, &run->err) < 0)
        return -1;
    run->position.timeline = (uint32_t)strtoul(pg_result_value(result, 0, 1), NULL, 10);
    run->position.lsn = lsn_of(pg_result_value(result, 0, 2));
    pg_result_free(result);
    if (read_replay(run, &after) < 0)
        return -1;
    if (!after.waits || after.replayed != run->replay_lsn)
        return err_set(&run->err, ERR_UNAVAILABLE, "replay went on while the position was read");
    run->end = (struct position){.timeline = run->position.timeline, .lsn = run->replay_lsn};
    if (pgdata_history_newest(run->hands->config->options.data_directory, &run->newest_history,
                              &run->err) < 0)
        return -1;
    return pgdata_history_read(run->hands->config->options.data_directory, run->position.timeline,
                               &run->lineage, &run->err);
}

/* Resumes paused replay; ends what it waits for, and only that. */
int step_unblock_replay(struct step_run *run)
{
    return query(run,
                 "SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused();"
                 "WITH startup AS (SELECT pid, wait_event_type AS type, wait_event AS event"
                 " FROM pg_stat_activity WHERE backend_type = 'startup')"
                 "SELECT pg_terminate_backend(a.pid) FROM startup s, pg_stat_activity a"
                 " WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()"
                 " AND a.application_name NOT LIKE 'ogel\\_agent%'"
                 " AND (a.pid = ANY (pg_blocking_pids(s.pid))"
                 " OR (s.event IN ('RecoveryConflictSnapshot', 'RecoveryConflictTablespace',"
                 " 'BufferPin') AND (a.backend_xmin IS NOT NULL OR a.state <> 'idle')))",
                 NULL);
}

/* --- leading
 * -------------------------------------------------------------------------------------------- */

void step_nudge(struct step_run *run)
{
    struct err kept = run->err;

    /* waiters are released only at a standby's next reply, and this makes one; if it fails, some
     * other commit will */
    if (query(run, "SELECT pg_logical_emit_message(true, 'ogel', 'names')", NULL) < 0)
        run->err = kept;
}

int step_check_names(struct step_run *run)
{
    struct local_conninfo local;
    struct pg_outcome outcome;
    struct pg_result *result = NULL;
    struct pg_conn *conn;

    local_conninfo(&local, run->hands->config, "ogel_agent_names", false);
    conn = pg_open(&local.info, CONNECT_MS, &outcome, &run->err);
    if (!conn)
        return -1;
    if (pg_exec(conn, STEP_CALL_MS, "SHOW synchronous_standby_names", 0, NULL, &result, NULL,
                &run->err) < 0) {
        pg_close(conn);
        return -1;
    }
    snprintf(run->names, sizeof run->names, "%s", pg_result_value(result, 0, 0));
    pg_result_free(result);
    pg_close(conn);
    if (run->pg == PG_UP && !run->in_recovery)
        step_nudge(run);
    return 0;
}

/* True once it is out of recovery; *TIMELINE is then the one it writes. */
static bool promoted(struct step_run *run, uint32_t *timeline)
{
    struct pg_result *result = NULL;
    const char *text;

    if (query(run,
              "SELECT CASE WHEN NOT pg_is_in_recovery() THEN"
              " substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
              &result) < 0)
        return false;
    text = pg_result_value(result, 0, 0);
    if (text)
        *timeline = (uint32_t)strtoul(text, NULL, 16);
    pg_result_free(result);
    return text != NULL;
}

int step_promote(struct step_run *run)
{
    int64_t deadline = clock_mono_ms() + PROMOTE_MS, unblock_at = 0;
    uint32_t timeline = 0;
    struct replay replay;

    if (read_replay(run, &replay) < 0)
        return -1;
    if ((!replay.waits || replay.replayed < replay.received) && step_unblock_replay(run) < 0)
        return -1;
    if (query(run, "SELECT pg_promote(false)", NULL) < 0)
        return -1;
    unblock_at = clock_mono_ms() + 100;
    while (!promoted(run, &timeline)) {
        int64_t now = clock_mono_ms();

        if (!run->hands->sql || !pg_is_open(run->hands->sql))
            return -1;
        if (now >= deadline)
            return err_set(&run->err, ERR_TIMEOUT, "the promotion takes longer than %d s",
                           PROMOTE_MS / 1000);
        if (now >= unblock_at) {
            /* fails where the promotion has ended meanwhile: promoted() tells */
            if (step_unblock_replay(run) < 0)
                err_clear(&run->err);
            unblock_at = now + 100;
        }
        pause_short();
    }
    run->promoted = true;
    /* only a standby's position is asked for over it; on a leader people would wonder who that is
     */
    pg_close(run->hands->walsender);
    run->hands->walsender = NULL;
    run->position = (struct position){.timeline = timeline};
    if (timeline != run->durable.grant.generation)
        return err_set(&run->err, ERR_INTERNAL, "promoted to timeline %u instead of %u", timeline,
                       run->durable.grant.generation);
    return pgdata_history_read(run->hands->config->options.data_directory, timeline, &run->lineage,
                               &run->err);
}

/* Is it a connection of a machine that has been replaced? */
static bool is_old(const struct step_run *run, const char *name)
{
    uint32_t incarnation, generation;
    char id[NODE_ID_SIZE];
    bool counted;
    int32_t slot;

    if (!name || !replication_name_parse(name, id, &incarnation, &generation, &counted))
        return false;
    slot = agent_config_slot(run->hands->config, id);
    return slot != NODE_NONE && incarnation < run->durable.incarnations[slot].number;
}

int step_end_old_senders(struct step_run *run)
{
    struct pg_result *result = NULL, *ended = NULL;
    char sql[96];
    int rc = 0;

    if (query(run, "SELECT pid, application_name FROM pg_stat_replication", &result) < 0)
        return -1;
    for (int i = 0; i < pg_result_rows(result) && rc == 0; i++) {
        if (!is_old(run, pg_result_value(result, i, 1)))
            continue;
        snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%s, 1000)",
                 pg_result_value(result, i, 0));
        rc = query(run, sql, &ended);
        /* false: it is there still, or went by itself; the next look tells */
        if (rc == 0 && strcmp(pg_result_value(ended, 0, 0), "t") != 0)
            rc = err_set(&run->err, ERR_TIMEOUT, "a walsender of %s has not ended yet",
                         pg_result_value(result, i, 1));
        pg_result_free(ended);
        ended = NULL;
    }
    pg_result_free(result);
    return rc;
}

/* In a thread and a session of its own: it may take minutes. */
int step_checkpoint(struct step_run *run)
{
    struct local_conninfo local;
    struct pg_outcome outcome;
    struct pg_conn *conn;
    int rc;

    local_conninfo(&local, run->hands->config, "ogel_agent_checkpoint", false);
    conn = pg_open(&local.info, CONNECT_MS, &outcome, &run->err);
    if (!conn)
        return -1;
    rc = pg_exec(conn, CHECKPOINT_MS, "CHECKPOINT", 0, NULL, NULL, NULL, &run->err);
    pg_close(conn);
    return rc;
}
