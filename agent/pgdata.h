/*
 * The data directory as files: what it is, where its WAL ends, its history files, the few files
 * that are changed in it. Nothing here talks to a running server. Functions that change something
 * return only once that is durable.
 */
#ifndef OGEL_AGENT_PGDATA_H
#define OGEL_AGENT_PGDATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "protocol/types.h"

/* --- what it is ------------------------------------------------------------------------------ */

enum pgdata_kind {
    PGDATA_ABSENT,      /* no such directory */
    PGDATA_EMPTY,       /* a directory with nothing in it */
    PGDATA_INITIALISED, /* PG_VERSION and global/pg_control are there */
    PGDATA_OTHER,       /* something else, or half of it */
};

/* MAJOR (may be NULL) is out of PG_VERSION where there is one, else 0. ERR_IO when it cannot be
 * seen. */
OGEL_MUST_CHECK int pgdata_inspect(const char *datadir, enum pgdata_kind *kind, int *major,
                                   struct err *err);

enum pgdata_state {
    PGDATA_STATE_OTHER,              /* "starting up", "shutting down" */
    PGDATA_STATE_SHUT_DOWN,          /* clean, as a primary */
    PGDATA_STATE_SHUT_DOWN_RECOVERY, /* clean, as a standby */
    PGDATA_STATE_CRASH_RECOVERY,
    PGDATA_STATE_ARCHIVE_RECOVERY, /* a standby that runs or was killed */
    PGDATA_STATE_PRODUCTION,       /* a primary that runs or was killed */
};

/* Settings that a standby must not have lower than its leader (PostgreSQL's manual, "Hot Standby",
 * administrator's overview). */
enum { PGDATA_NEEDS = 5 };
extern const char *const pgdata_need_names[PGDATA_NEEDS];

struct pgdata_control {
    uint64_t system_id;
    enum pgdata_state state;
    struct position redo; /* of the last checkpoint; its timeline */
    struct position checkpoint;
    struct position min_recovery; /* 0 on a primary */
    uint32_t wal_segment_bytes;
    bool checksums;
    bool wal_log_hints;
    uint32_t needs[PGDATA_NEEDS]; /* of pgdata_need_names: what a standby must have at least */
    uint32_t catalog_version;
};

/* Runs pg_controldata. Its timelines are old for a while after a promotion (design section 4,
 * "Position"): never an answer to "who has more". */
OGEL_MUST_CHECK int pgdata_control_read(const char *bindir, const char *datadir, int64_t timeout_ms,
                                        struct pgdata_control *control, struct err *err);
/* Its parser, for tests and fuzzers. */
OGEL_MUST_CHECK int pgdata_control_parse(const char *text, struct pgdata_control *control,
                                         struct err *err);

/* The random id that stands both in the directory (file ogel_data_id) and beside the promise. *ID
 * is 0 where the file is missing; ERR_CORRUPT where it is no id. pg_rewind and pg_basebackup copy
 * the source's: write the new one when the copy is whole. */
OGEL_MUST_CHECK int pgdata_id_read(const char *datadir, uint64_t *id, struct err *err);
OGEL_MUST_CHECK int pgdata_id_write(const char *datadir, uint64_t id, struct err *err);

/* Whose WAL it holds, as the directory itself says (file ogel_cluster_id): written before every
 * start, so that copies and snapshots have it. Clusters born of one snapshot share its system
 * identifier and may come to the same timeline ids; this tells them apart. All zero where the file
 * is missing; ERR_CORRUPT where it is no id. */
OGEL_MUST_CHECK int pgdata_cluster_read(const char *datadir, struct cluster_id *cluster,
                                        struct err *err);
OGEL_MUST_CHECK int pgdata_cluster_write(const char *datadir, const struct cluster_id *cluster,
                                         struct err *err);

/* --- where WAL ends -------------------------------------------------------------------------- */

/* The timeline of the last complete record in pg_wal and the end of that record, of a stopped
 * server; found by reading (pg_waldump) from the last redo point, or that of a backup_label, and on
 * through those timelines that descend from it and hold a record of their own. Never from file
 * names, page headers or pg_control, which all can name a timeline that has no record yet, or an
 * older one. *CONSISTENT (may be NULL) is how far WAL has to be replayed before the data is
 * consistent, 0 for a primary's: past END in a copy that pg_rewind made and that has to stream the
 * rest from the same timeline. ERR_CORRUPT when not even the redo point can be read. ERR_TIMEOUT
 * after TIMEOUT_MS. */
OGEL_MUST_CHECK int pgdata_wal_end(const char *bindir, const char *datadir, int64_t timeout_ms,
                                   struct position *end, struct position *consistent,
                                   struct err *err);

/* The parsers for it, for tests and fuzzers. What `pg_waldump --stats` says: where the first record
 * begins and the last ends. */
bool pgdata_wal_stats_parse(const char *output, uint64_t *first, uint64_t *end);
/* What pg_waldump prints of a record: where it begins, and its predecessor. */
bool pgdata_wal_record_parse(const char *output, uint64_t *lsn, uint64_t *previous);
/* A backup_label: where recovery begins. */
bool pgdata_backup_label_parse(const char *text, struct position *start);

/* --- timeline history ------------------------------------------------------------------------ */

enum { PGDATA_HISTORIES_MAX = 16384 }; /* files in one pg_wal; more is an error */

/* Parses a history file as Postgres does: lines `timeline LSN reason`, comments and blank lines
 * skipped. OUT gets those timelines and, last, TIMELINE itself. A placeholder, or "", yields
 * TIMELINE alone, beginning at 0. ERR_INVALID for anything else. */
OGEL_MUST_CHECK int pgdata_history_parse(uint32_t timeline, const char *content,
                                         struct lineage *out, struct err *err);

/* The lineage of TIMELINE by the history file that is there; timeline 1 needs none. ERR_NOT_FOUND.
 */
OGEL_MUST_CHECK int pgdata_history_read(const char *datadir, uint32_t timeline, struct lineage *out,
                                        struct err *err);

/* The content itself, for a follower. Caller frees. */
OGEL_MUST_CHECK int pgdata_history_text(const char *datadir, uint32_t timeline, char **content,
                                        struct err *err);

/* The ids of all history files, ascending; *COUNT of them, MAX at most (more is ERR_INVALID). */
OGEL_MUST_CHECK int pgdata_history_list(const char *datadir, uint32_t *timelines, size_t max,
                                        size_t *count, struct err *err);

/* The greatest timeline with a history of its own, not a placeholder; 0: none. A running standby
 * may have set out for it. */
OGEL_MUST_CHECK int pgdata_history_newest(const char *datadir, uint32_t *timeline, struct err *err);

/* Writes placeholders (one comment line) for FROM..TO, both included, where no file is; those that
 * are there stay. Only on a running standby immediately before its promotion, or for a follower
 * together with its leader's own file. FROM > TO does nothing. More than 10000 are refused. */
OGEL_MUST_CHECK int pgdata_history_plant(const char *datadir, uint32_t from, uint32_t to,
                                         struct err *err);

/* Removes the history files of every timeline above ABOVE, with what the archiver noted of them. */
OGEL_MUST_CHECK int pgdata_history_clean(const char *datadir, uint32_t above, struct err *err);

/* Puts CONTENT (parsed first) as TIMELINE's history file, in place of whatever is there. */
OGEL_MUST_CHECK int pgdata_history_install(const char *datadir, uint32_t timeline,
                                           const char *content, struct err *err);

/* --- files that are changed ------------------------------------------------------------------- */

/* standby.signal is there, recovery.signal is not. */
OGEL_MUST_CHECK int pgdata_standby_signal(const char *datadir, struct err *err);

/* Removes from postgresql.auto.conf, which overrides all included files, the settings that
 * pgconf_setting_refused() refuses and include lines; all else stays, byte for byte. The names of
 * what went, comma-separated, into REMOVED ("" if nothing). */
OGEL_MUST_CHECK int pgdata_auto_conf_strip(const char *datadir, char *removed, size_t size,
                                           struct err *err);

/* The same for what ties a restored copy to the archive of the cluster that it came from: a new
 * cluster has to be told where to archive. */
OGEL_MUST_CHECK int pgdata_auto_conf_forget(const char *datadir, char *removed, size_t size,
                                            struct err *err);

/* --- tablespaces and the preflight of a clone ---------------------------------------------------
 */

enum { PGDATA_TABLESPACES_MAX = 64, PGDATA_PATH_SIZE = 1024 };

struct pgdata_tablespace {
    uint32_t oid;
    char path[PGDATA_PATH_SIZE]; /* absolute target of the link */
};

/* Tablespaces outside of PGDATA. Returns 0 and *COUNT, MAX at most (more is ERR_INVALID). */
OGEL_MUST_CHECK int pgdata_tablespaces(const char *datadir, struct pgdata_tablespace *list,
                                       size_t max, size_t *count, struct err *err);

/* Where WAL is: PATH is the target of pg_wal where that is a link (ELSEWHERE; a clone must keep
 * it), else <datadir>/pg_wal. */
OGEL_MUST_CHECK int pgdata_wal_dir(const char *datadir, char path[PGDATA_PATH_SIZE],
                                   bool *elsewhere, struct err *err);

/* What the source of a clone says of itself (SQL at the source). */
struct pgdata_source {
    int version_num;                      /* 150020 */
    uint64_t size_bytes;                  /* of all its databases */
    const char *shared_preload_libraries; /* as shown */
    const char *libc_version;             /* collation version of its libc locales; NULL: unknown */
    const struct pgdata_tablespace *tablespaces;
    size_t tablespace_count;
};

/* Are all LIBRARIES (as shared_preload_libraries shows them; NULL: none) installed here?
 * ERR_REFUSED names the one that is not. */
OGEL_MUST_CHECK int pgdata_libraries_check(const char *bindir, const char *libraries,
                                           struct err *err);

/* May this machine hold a clone of SOURCE in DATADIR? Checks the major version of bindir's
 * postgres, that the preload libraries are installed, the libc collation version, that tablespace
 * directories can be made and hold nothing of another server, free space (what is in DATADIR now
 * counts as free). The first thing that is wrong: ERR_REFUSED, or ERR_NO_SPACE, with what to do. */
OGEL_MUST_CHECK int pgdata_clone_preflight(const char *bindir, const char *datadir,
                                           const struct pgdata_source *source, struct err *err);

#endif
