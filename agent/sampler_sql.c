#include "agent/sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"

enum { STATE_DEADLINE_MS = 1000, PROBE_DEADLINE_MS = 1000 };

void local_conninfo(struct local_conninfo *out, const struct agent_config *config,
                    const char *application_name, bool replication)
{
    const char *keywords[] = {"host",
                              "port",
                              "user",
                              "dbname",
                              "application_name",
                              replication ? "replication" : "options",
                              NULL};
    const char *values[] = {config->socket_directory,
                            out->port,
                            "postgres",
                            "postgres",
                            application_name,
                            replication ? "true"
                                        : "-c synchronous_commit=local "
                                          "-c statement_timeout=0 -c lock_timeout=5s "
                                          "-c default_transaction_read_only=off "
                                          "-c search_path=pg_catalog",
                            NULL};

    snprintf(out->port, sizeof out->port, "%d", (int)config->options.postgres.port);
    memcpy(out->keywords, keywords, sizeof keywords);
    memcpy(out->values, values, sizeof values);
    out->info = (struct pg_conninfo){.keywords = out->keywords, .values = out->values};
}

static uint64_t lsn_of(const char *text)
{
    uint64_t lsn = 0;

    if (!text || units_parse_lsn(text, &lsn, NULL) < 0)
        return 0;
    return lsn;
}

static uint32_t ms_of(const char *text, uint32_t fallback)
{
    double ms;

    if (!text)
        return fallback;
    ms = strtod(text, NULL);
    if (ms < 0)
        return 0;
    return ms < 4e9 ? (uint32_t)ms : UINT32_MAX - 1;
}

static int64_t number_of(const char *text)
{
    return text ? strtoll(text, NULL, 10) : 0;
}

static bool is_true(const char *text)
{
    return text && text[0] == 't';
}

static const char state_sql[] =
    "SELECT r, CASE WHEN r THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_insert_lsn() END,"
    " CASE WHEN NOT r THEN pg_current_wal_flush_lsn() END,"
    " CASE WHEN r THEN pg_last_wal_replay_lsn() END,"
    " CASE WHEN NOT r THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,"
    " CASE WHEN r AND pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() THEN"
    "  extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000 END,"
    " w.status, w.received_tli, w.flushed_lsn,"
    " extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time) * 1000,"
    " current_setting('synchronous_standby_names')"
    " FROM (SELECT pg_is_in_recovery() AS r) one LEFT JOIN pg_stat_wal_receiver w ON true";

static const char senders_sql[] =
    "SELECT application_name, usename, state = 'streaming', sync_priority > 0, flush_lsn, "
    "replay_lsn,"
    " (extract(epoch FROM reply_time) * 1000000)::bigint,"
    " extract(epoch FROM replay_lag) * 1000"
    " FROM pg_stat_replication WHERE application_name LIKE 'ogel\\_%' LIMIT 16";

static void read_senders(const struct pg_result *result, struct sample *sample)
{
    for (int i = 0; i < pg_result_rows(result) && i < SAMPLE_SENDERS_MAX; i++) {
        struct sample_sender *sender = &sample->senders[sample->sender_count];
        const char *name = pg_result_value(result, i, 0), *user = pg_result_value(result, i, 1);

        if (!name || !user)
            continue;
        snprintf(sender->name, sizeof sender->name, "%s", name);
        snprintf(sender->user, sizeof sender->user, "%s", user);
        sender->streaming = is_true(pg_result_value(result, i, 2));
        sender->priority = is_true(pg_result_value(result, i, 3));
        sender->flush_lsn = lsn_of(pg_result_value(result, i, 4));
        sender->replay_lsn = lsn_of(pg_result_value(result, i, 5));
        sender->reply_us = number_of(pg_result_value(result, i, 6));
        sender->replay_lag_ms = ms_of(pg_result_value(result, i, 7), 0);
        sample->sender_count++;
    }
}

static void read_state(const struct pg_result *result, struct sample *sample)
{
    const char *status = pg_result_value(result, 0, 6);
    const char *timeline = pg_result_value(result, 0, 4);
    const char *received = pg_result_value(result, 0, 7);

    sample->in_recovery = is_true(pg_result_value(result, 0, 0));
    sample->write_lsn = lsn_of(pg_result_value(result, 0, 1));
    sample->flush_lsn = lsn_of(pg_result_value(result, 0, 2));
    sample->replay_lsn = lsn_of(pg_result_value(result, 0, 3));
    if (timeline)
        sample->timeline = (uint32_t)strtoul(timeline, NULL, 16);
    else if (received)
        sample->timeline = (uint32_t)strtoul(received, NULL, 10);
    sample->replay_lag_ms = ms_of(pg_result_value(result, 0, 5), 0);
    sample->receiver = status != NULL;
    sample->streaming = status && strcmp(status, "streaming") == 0;
    sample->message_age_ms = ms_of(pg_result_value(result, 0, 9), UINT32_MAX);
    snprintf(sample->names, sizeof sample->names, "%s", pg_result_value(result, 0, 10));
    if (sample->in_recovery) {
        /* after a restart the received position starts anew: what was replayed is flushed as well
         */
        sample->flush_lsn = sample->write_lsn > sample->replay_lsn ? sample->write_lsn
                                                                   : sample->replay_lsn;
        sample->write_lsn = sample->flush_lsn;
    }
}

static void note(struct sample *sample, const struct pg_outcome *outcome)
{
    sample->status = outcome->status;
    snprintf(sample->message, sizeof sample->message, "%s", outcome->message);
}

void sample_state(struct pg_conn *conn, struct sample *sample)
{
    struct pg_outcome outcome = {.status = PG_OK};
    struct pg_result *result = NULL;

    if (pg_exec(conn, STATE_DEADLINE_MS, state_sql, 0, NULL, &result, &outcome, NULL) < 0) {
        note(sample, &outcome);
        return;
    }
    read_state(result, sample);
    pg_result_free(result);
    result = NULL;
    if (!sample->in_recovery) {
        if (pg_exec(conn, STATE_DEADLINE_MS, senders_sql, 0, NULL, &result, &outcome, NULL) < 0) {
            note(sample, &outcome);
            return;
        }
        read_senders(result, sample);
        pg_result_free(result);
    }
    sample->status = PG_OK;
}

static const char extras_sql[] =
    "SELECT (SELECT system_identifier FROM pg_control_system()),"
    " EXISTS (SELECT FROM pg_settings WHERE pending_restart),"
    " (SELECT min(substr(name, 9)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'),"
    " (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')";

/* "0000000100000042" (log, segment) is where that segment begins. */
static uint64_t segment_start(const char *name, const char *segment_bytes)
{
    unsigned log, segment;

    if (!name || !segment_bytes || sscanf(name, "%8x%8x", &log, &segment) != 2)
        return 0;
    return ((uint64_t)log << 32) + (uint64_t)segment * strtoull(segment_bytes, NULL, 10);
}

void sample_extras(struct pg_conn *conn, struct sample *sample)
{
    struct pg_result *result = NULL;
    const char *id;

    if (pg_exec(conn, STATE_DEADLINE_MS, extras_sql, 0, NULL, &result, NULL, NULL) < 0)
        return;
    id = pg_result_value(result, 0, 0);
    sample->extras = true;
    sample->system_id = id ? strtoull(id, NULL, 10) : 0;
    sample->version = (uint32_t)pg_server_version(conn);
    sample->pending_restart = is_true(pg_result_value(result, 0, 1));
    sample->oldest_lsn = segment_start(pg_result_value(result, 0, 2),
                                       pg_result_value(result, 0, 3));
    pg_result_free(result);
}

void sample_probe(const struct agent_config *config, bool write, struct sample *sample)
{
    struct local_conninfo local;
    struct pg_outcome outcome;
    struct pg_result *result = NULL;
    struct pg_conn *conn;

    sample->probed = true;
    sample->probe_ok = false;
    sample->probe_began_ms = clock_boot_ms();
    local_conninfo(&local, config, "ogel_agent_probe", false);
    conn = pg_open(&local.info, PROBE_DEADLINE_MS, &outcome, NULL);
    if (!conn)
        return;
    if (pg_exec(conn, PROBE_DEADLINE_MS, "SHOW synchronous_standby_names", 0, NULL, &result, NULL,
                NULL) == 0) {
        snprintf(sample->fresh_names, sizeof sample->fresh_names, "%s",
                 pg_result_value(result, 0, 0));
        pg_result_free(result);
        sample->probe_ok = !write || pg_exec(conn, PROBE_DEADLINE_MS,
                                             "SELECT CASE WHEN NOT pg_is_in_recovery() THEN"
                                             " pg_logical_emit_message(true, 'ogel', 'probe') END",
                                             0, NULL, NULL, NULL, NULL) == 0;
    }
    pg_close(conn);
}
