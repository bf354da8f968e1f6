/*
 * A thread that looks at the local Postgres and says what it sees: over a connection that stays
 * open often, over a fresh one (with a write on a primary) now and then and whenever something
 * looks wrong, because a stopped or I/O-hung server looks alive over an old connection.
 */
#ifndef OGEL_AGENT_SAMPLER_H
#define OGEL_AGENT_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/options.h"
#include "base/err.h"
#include "base/pgconn.h"

struct loop;
struct sampler;

enum { SAMPLE_SENDERS_MAX = 16, SAMPLE_NAMES_SIZE = 512 };

struct sample_sender {
    char name[64]; /* application_name */
    char user[64];
    bool streaming;
    bool priority; /* sync_priority > 0 */
    uint64_t flush_lsn;
    uint64_t replay_lsn;
    int64_t reply_us; /* when it sent its last reply, by its own clock; 0: none yet */
    uint32_t replay_lag_ms;
};

struct sample {
    uint64_t life;    /* of the server, as given to sampler_server() */
    int64_t taken_ms; /* CLOCK_BOOTTIME, when it was begun */

    enum pg_status status; /* of the lasting connection; PG_OK: what follows is filled */
    char message[256];
    bool in_recovery;
    uint32_t
        timeline; /* primary: of the WAL being written; standby: being received; 0: not known */
    uint64_t write_lsn;
    uint64_t flush_lsn;
    uint64_t replay_lsn;
    uint32_t replay_lag_ms;
    bool receiver; /* pg_stat_wal_receiver has a row */
    bool streaming;
    uint32_t message_age_ms;
    char names[SAMPLE_NAMES_SIZE]; /* synchronous_standby_names */
    int sender_count;
    struct sample_sender senders[SAMPLE_SENDERS_MAX];

    bool extras; /* what follows is filled: asked for now and then */
    uint64_t system_id;
    uint32_t version;
    bool pending_restart;
    uint64_t oldest_lsn;

    bool probed; /* a fresh connection was tried */
    bool probe_ok;
    int64_t probe_began_ms;
    char fresh_names[SAMPLE_NAMES_SIZE]; /* names as that connection shows them */
};

/* FN is called in the loop for each sample, which is only good for the time of the call. */
typedef void sample_fn(const struct sample *sample, void *arg);

OGEL_MUST_CHECK int sampler_new(struct sampler **sampler, const struct agent_config *config,
                                struct loop *loop, sample_fn *fn, void *arg, struct err *err);

/* The server to look at; PID 0: none. LIFE tells its samples from those of the one before. */
void sampler_server(struct sampler *sampler, pid_t pid, uint64_t life);

/* Something is about to change: samples follow each other closely for so long. 0: it has changed.
 */
void sampler_burst(struct sampler *sampler, int64_t for_ms);

/* Settings may have changed: what is asked now and then is asked with the next sample. */
void sampler_extras(struct sampler *sampler);

/* Something looks wrong: a fresh connection now. */
void sampler_suspect(struct sampler *sampler);

/* sampler_sql.c: connection parameters of a local superuser session, and what a sample asks. */
struct local_conninfo {
    const char *keywords[8];
    const char *values[8];
    char port[8];
    struct pg_conninfo info;
};
void local_conninfo(struct local_conninfo *out, const struct agent_config *config,
                    const char *application_name, bool replication);
void sample_state(struct pg_conn *conn, struct sample *sample);
void sample_extras(struct pg_conn *conn, struct sample *sample);
void sample_probe(const struct agent_config *config, bool write, struct sample *sample);

#endif
