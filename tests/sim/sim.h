/*
 * The simulator: the compiled cores of orchestrator and agents, in virtual time, in one process,
 * against a small model of what surrounds them. One seed gives one schedule, exactly. Nothing is
 * allocated: the world is one static struct.
 *
 *   world.c     chance, the event queue, the network, the trace
 *   wal.c       WAL as a tree of branches
 *   postgres.c  servers and their receivers
 *   stream.c    replication connections
 *   clients.c   clients that commit, wait, cancel, prepare and read
 *   agent.c     the agent's shell: a turn (mirrors agent/node.c, observe.c)
 *   steps.c     what steps do and what they came to (mirrors agent/steps*.c, apply.c)
 *   peers.c     long polls, probes, registrations, permissions (mirrors agent/peers.c, api.c)
 *   documents.c the cluster document (mirrors orchestrator/document.c, agent/document_api.c)
 *   boss.c      the orchestrator's shell (mirrors orchestrator/observe.c, act.c, cluster.c)
 *   faults.c    what goes wrong with processes, links, clocks and machines
 *   themes.c    faults that belong together: what a rule was made for
 *   storage.c   what goes wrong with disks, and machines that take another's place
 *   operators.c what people ask for, at bad moments
 *   snapshots.c bases of any age
 *   check.c     the invariants
 *   cover.c     what was reached: reason codes, rows of the tables, phases
 *   project.c   the trace in the terms of the protocol's machine to model
 *   run.c       one schedule
 *   main.c      many of them, figures, options
 */
#ifndef OGEL_TESTS_SIM_SIM_H
#define OGEL_TESTS_SIM_SIM_H

#include <stddef.h>

#include "agent/reconcile.h"
#include "orchestrator/decide.h"
#include "protocol/order.h"
#include "protocol/types.h"

enum {
    MACHINES = 6, /* three, and those that replace them */
    BOSSES = 2,
    ENDPOINTS = MACHINES + BOSSES,
    EVENTS_MAX = 2048,
    BRANCHES_MAX = 320,
    CONNS_MAX = 48,
    LETTERS_MAX = 128, /* messages of orchestrators: on their way, or kept to be repeated later */
    TIMELINES_MAX = 1024,
    RECORD = 8, /* bytes; each record is one commit, or ours */
    NOBODY = -1,
    CLIENTS = 6,
    SNAPSHOTS_MAX = 4,
    FOREIGN_TIMELINES = 6,
    KINDS = 21, /* of faults */
    EDITS_MAX = 32,
    DOCUMENTS_MAX = 64,
    CHANGES_MAX = 48,
    MASK_MAX = 1024,
    STORM_SHORTEST_MS = 4000,
    STORM_LONGEST_MS = 20000,
    DISCARD_VALID_MS = 1000,
    OLD_BASES = 200, /* per mille of clones, from data that is older than the leader's */
    GOES_ON = 500,   /* per mille of machines that are replaced, and do not know */
};

/* --- WAL --- */

/* What one promotion wrote. Its contents are known by this branch's index, not by its timeline id:
 * two promotions to one id are two branches. */
struct branch {
    int parent;
    uint32_t timeline;
    uint64_t begin;
    uint64_t acked; /* commits up to here were acknowledged to clients */
    uint32_t generation;
    int machine;
};

/* WAL of BRANCH up to END, and the data that belongs there. */
struct snapshot {
    struct cluster_id cluster;
    int branch;
    uint64_t end;
};

/* Written survives a killed process, flushed survives a power cut. */
struct wal {
    int branch;
    uint64_t written, flushed;
};

/* --- a machine --- */

enum receiver { RECEIVER_NONE, RECEIVER_CONNECTING, RECEIVER_STREAMING };

struct server {
    bool running;  /* a postmaster */
    bool remains;  /* its backends outlived it */
    bool starting; /* not accepting connections yet */
    bool stopping;
    bool primary;
    bool promoting;
    bool by_hand; /* not by its agent */
    bool frozen;
    bool replay_held; /* paused, or a conflict */
    uint32_t life;
    uint32_t tick;   /* its next EVENT_SERVER; earlier ones are void */
    int64_t tick_ms; /* 0: nothing moves */
    int64_t since_ms;
    int64_t ready_ms;
    int64_t reload_ms;       /* a reload arrives then; 0: none on its way */
    struct replication conf; /* as loaded */
    int64_t list_read_ms; /* N was empty: from then on the checkpointer has read another; 0: no */
    int bound;            /* the branch that recovery has set out for */
    uint64_t applied;
    enum receiver receiver;
    int64_t receiver_since_ms;
    int64_t receiver_ends_ms; /* it was told to; 0: not */
    int32_t receiver_upstream;
    struct replication receiver_conf;
    int conn; /* of its receiver */
    bool shutdown_written;
    bool checkpointed; /* control file shows the timeline */
};

struct disk {
    struct durable durable; /* survives a power cut */
    struct durable cached;  /* written after it and not synced yet: what a new process would read */
    bool unsynced;
    bool foreign; /* somebody else's files lie in the data directory */
    struct document_facts document;
    uint64_t text; /* of that document: the changes that it holds */
    bool present;
    bool torn; /* half-copied: nothing may start from it */
    bool clean;
    bool rolled_back;
    bool spoiled, mended; /* as good as lost, its agent may not know; cloned since, not complete */
    bool primary;         /* by the control file */
    uint64_t data_id;
    struct wal wal;
    int consistent_branch; /* it starts up once it has this branch's WAL up to there */
    uint64_t consistent_at;
    bool headless;       /* the WAL where recovery would begin is missing */
    uint64_t oldest_lsn; /* WAL before is gone */
    struct replication conf;
    bool conf_written;
    uint32_t conf_digest;
    struct replication note; /* what recall finds */
    uint32_t note_digest;
    uint64_t histories[TIMELINES_MAX / 64];
};

/* One step in a worker's hands. */
struct run {
    bool active;
    bool fails, fails_late;
    uint32_t number;
    struct step step;
    struct durable durable;
    uint32_t life;
    bool had_server;
    bool in_recovery;
    enum pg_state pg;
    int64_t deadline_ms;
    /* out */
    bool effective;
    bool failed;
    bool receivers, promoted;
    bool names_shown;
    uint32_t new_life;
    struct position position, end;
    struct position consistent;
    uint64_t replay_lsn;
    struct lineage lineage;
    uint32_t timeline, newest_history;
};

enum { RUN_STEP, RUN_URGENT, RUN_CHECKPOINT, RUNS };

/* A document on its way to the disk. */
struct store {
    bool active;
    int edit;
};

struct sample {
    bool pending;
    uint32_t life;
    int64_t taken_ms;
    bool ok;
    bool starting, in_recovery, streaming, old_senders, stopping;
    struct position flushed;
    uint64_t write_lsn;
    struct standby_view standbys[NODE_COUNT];
    struct replication names;
};

struct peer {
    int64_t heard_ms, asked_ms;
    bool reachable, refuses;
    enum probe_verdict postgres;
    int64_t probed_ms;
    bool probing;
    int64_t registered_ms;
    bool registering;
};

struct machine {
    int slot;
    struct disk snapshot; /* of the data directory, for a volume that is rolled back */
    bool powered;
    bool retired;    /* another took its place */
    bool stranger;   /* of another cluster */
    bool full, slow; /* its disk */
    struct disk disk;
    struct server server;

    /* the agent, lost when it dies */
    struct durable durable;
    struct inputs in;
    struct desired message;
    struct report peer_reports[NODE_COUNT];
    struct peer peers[NODE_COUNT];
    struct run runs[RUNS];
    struct step step;
    uint32_t pm_life; /* the server it watches; 0: none */
    bool end_asked;
    bool looking;
    bool turn_posted;
    int64_t changed_ms;
    int64_t burst_until_ms;
    struct sample sample; /* on its way */
    struct sample seen;
    bool sampled;
    int64_t probe_failing_ms;
    struct lineage lineage;
    enum child child;
    uint64_t child_data_id;
    int child_source;
    struct snapshot_source child_from; /* CHILD_RESTORE */
    uint32_t child_number;
    int64_t child_wal_from;
    int64_t started_ms;
    int64_t discard_until_ms, discard_asked_ms, discard_void_ms;
    uint32_t discard_generation;
    int32_t discard_given_to;
    int64_t discard_given_ms;
    int64_t leading_since_ms;
    int registrant; /* machine that waits for its answer */
    uint32_t registrant_life;
    int64_t document_asked_ms;
    struct store store;
    enum step_kind last_kind;
    enum agent_reason last_reason;
    bool last_failed;
    uint32_t repeats;
    int64_t wake_ms, timer_ms;
    int64_t not_before_ms;
    struct report report, report_seen;
    uint64_t sequence;
    uint64_t run_id;
    int64_t bumped_ms;
    uint64_t bumped_lsn;
};

/* --- network --- */

struct endpoint {
    int64_t leap_ms; /* how far its clock is ahead of the world's */
    bool up;
    bool frozen;
    uint32_t life;
    int64_t thaw_ms;
    int route[NODE_COUNT]; /* which machine answers at that slot's address */
};

/* A long poll. */
struct poll {
    bool active;
    bool parked;
    bool news;
    bool refused;
    uint32_t number;
    int target;
    int64_t asked_ms;
    int64_t overdue_ms, expires_ms;
    bool overdue_posted;
    uint32_t expire_target_life; /* of the agent that will look; 0: none */
    uint64_t since;
    int64_t relay_age_ms[NODE_COUNT];
    uint32_t relay_generation[NODE_COUNT];
    struct report report;
};

struct letter {
    bool used;
    struct desired message;
    int from;
    uint32_t from_life;
};

/* A change of the document, or one that was made elsewhere, on its way to an agent and back. */
struct edit {
    int from;
    uint32_t from_life;
    int change;
    bool leaderless; /* under PROMISE; else the leader's own */
    struct promise promise;
    struct document_version expect;
    int32_t fence; /* NODE_NONE: maintenance */
    bool value;
    bool whole; /* FACTS and TEXT are handed over; else what came out */
    struct document_facts facts;
    uint64_t text;
};

struct document {
    struct document_version version;
    uint64_t text;
};

struct conn {
    bool used;
    int standby, leader;
    uint32_t standby_life, leader_life;
    struct replication name; /* .generation, .counted; the incarnation is the standby's own */
    uint32_t incarnation;
    bool receiver_alive, sender_alive;
    bool lazy;     /* its walsender is slow to read changed settings */
    uint32_t tick; /* its next EVENT_CONN; earlier ones are void */
    int64_t tick_ms;
    uint64_t wire; /* last flush position that the receiver sent */
    uint64_t acked;
    struct replication names; /* N as its walsender read it last */
    int64_t reply_ms, heard_ms;
};

/* --- clients --- */

enum commit { COMMIT, COMMIT_PREPARE, COMMIT_PREPARED };

struct client {
    bool waits;
    enum commit kind;
    int machine;
    uint32_t life; /* of the server that it waits on */
    int branch;
    uint64_t lsn;
    int64_t since_ms;
    bool prepared; /* acknowledged: it has to be there until it is committed */
    int prepared_branch;
    uint64_t prepared_lsn;
};

struct answer {
    bool used;
    uint32_t to_life;
    struct registration_answer answer;
};

/* --- an orchestrator --- */

struct boss_node {
    struct node_view view;
    int64_t answered_ms, failing_since_ms, reported_ms, probed_ms, postgres_failing_since_ms,
        probe_started_ms;
    bool probing;
    struct desired sent;
    int64_t sent_ms;
};

/* A change that an operator waits for. */
struct change {
    bool active;
    int number;
    uint64_t request; /* without a leader: that the core serves; 0: none, or settled */
    int32_t fence;
    bool value;
    int64_t until_ms;    /* asked again until then */
    int64_t deadline_ms; /* … and given up */
    bool sent, answered, leaderless;
    bool confirmed; /* two agents hold it; its answer is on the way */
    int32_t node;
    struct document_version version;
    struct document_facts facts;
    uint64_t text;
    bool copied[NODE_COUNT];
};

struct boss {
    uint64_t proposer;
    int64_t started_ms;
    struct memory memory;
    struct plan plan;
    struct boss_node nodes[NODE_COUNT];
    struct request request;
    int64_t request_until_ms;
    struct change change;
    bool round_posted;
    uint32_t round_number;
};

/* --- events --- */

enum event_kind {
    EVENT_NONE,
    EVENT_SERVER, /* a machine's Postgres goes on */
    EVENT_CONN,   /* a replication connection goes on */
    EVENT_CLIENT,
    EVENT_FAULT,
    EVENT_THEME,
    EVENT_STING, /* in the middle of a step */
    EVENT_AGENT_START,
    EVENT_POWER,
    EVENT_THAW,
    EVENT_THAW_SERVER,
    EVENT_DISK_WELL, /* x: what was wrong with it */
    EVENT_BOSS_START,
    /* Of a process (a: endpoint): dropped if it died, held back while it is frozen. */
    EVENT_OWNED,
    EVENT_TURN = EVENT_OWNED,
    EVENT_TIMER,
    EVENT_EFFECT,
    EVENT_DONE,
    EVENT_LOOKED,
    EVENT_SAMPLE,
    EVENT_SAMPLED,
    EVENT_EXITED,
    EVENT_CHILD,
    EVENT_POLL_START,
    EVENT_POLL_OVERDUE,
    EVENT_POLL_EXPIRE,
    EVENT_STORED,
    EVENT_CHANGE_AGAIN,
    EVENT_ROUND,
    /* and those that reach it from elsewhere */
    EVENT_MESSAGE,
    EVENT_POLL_ARRIVE = EVENT_MESSAGE, /* a: the agent that is asked, b: who asks, x: slot */
    EVENT_POLL_ANSWER,
    EVENT_PROBED,
    EVENT_LETTER,
    EVENT_REFUSED,
    EVENT_REGISTER,
    EVENT_REGISTERED,
    EVENT_DISCARD,
    EVENT_DISCARDED,
    EVENT_DOCUMENT,
    EVENT_CHANGE,
    EVENT_CHANGED,
};

struct event {
    int64_t at_ms;
    uint32_t life;
    enum event_kind kind;
    int a, b;
    uint32_t number;
    uint64_t x, y;
};

/* Of an event that waits: ordered by time, then by when it was posted. */
struct ticket {
    uint64_t key;
    int place;
};

/* What a schedule is about, if about anything in particular: a few faults, one after another, each
 * once what it waits for has come. */
struct theme {
    const struct theme_plot *plot; /* NULL: none, or over */
    int stage;
    bool due;
    int64_t since_ms;
    int leader, gone, other; /* machines: who led at first; whom it is about; the third */
    int fresh;               /* takes the place of .gone; NOBODY: none does */
    int acked;               /* commits at the last stage */
    uint32_t generation;     /* at first */
};

/* --- the world --- */

/* What a schedule came to, for the distributions. */
enum { MEASURE_STEPS, MEASURE_ELECTIONS, MEASURE_ACKED, MEASURE_FAULTS, MEASURES };

struct figures {
    uint64_t schedules, recovered, overridden, cancelled, prepared, reads;
    uint64_t total[MEASURES];
    int64_t slowest_ms;
    uint64_t slowest_seed;
};

struct world {
    uint64_t seed, random;
    int64_t now_ms;
    uint32_t order, number, life;
    int event_count, event_places;
    struct ticket heap[EVENTS_MAX];
    struct event events[EVENTS_MAX];

    struct machine machines[MACHINES];
    struct boss bosses[BOSSES];
    struct endpoint endpoints[ENDPOINTS];
    bool cut[ENDPOINTS][ENDPOINTS];
    struct poll polls[ENDPOINTS][NODE_COUNT];
    struct letter letters[LETTERS_MAX];
    struct conn conns[CONNS_MAX];
    struct client clients[CLIENTS];
    struct answer answers[MACHINES];

    int edit_count, document_count, changes;
    struct edit edits[EDITS_MAX];
    struct document documents[DOCUMENTS_MAX];
    struct document_version confirmed[CHANGES_MAX]; /* generation 0: it was not */

    int branch_count;
    struct snapshot snapshots[SNAPSHOTS_MAX]; /* by number, the newest so many */
    uint32_t snapshot_count;
    int foreign_roots[FOREIGN_TIMELINES + 1]; /* branch + 1, by timeline of another cluster's */
    struct branch branches[BRANCHES_MAX];
    int branch_of_generation[TIMELINES_MAX]; /* index + 1 */

    /* chance within one millisecond: see chance_for() */
    int64_t moment_ms[CONNS_MAX];
    uint32_t moment_count[CONNS_MAX];

    /* weather */
    bool calm;
    int share[KINDS], shares;
    int loss, slow, step_failures, sting; /* per mille */
    int old_bases;                        /* per mille */
    int busy;                             /* a machine whose agent's steps are slow, or NOBODY */
    bool thin;                            /* the network carries little WAL at a time */
    struct theme theme;
    bool born, two_lost;
    bool doomed;             /* in this schedule two machines may be lost at once */
    bool misled[NODE_COUNT]; /* a new machine of that slot registered at a retired one */
    int overrides;
    bool overridden; /* data loss was accepted: I1 to I3 say nothing any more */
    bool violated;
    char violation[200];

    /* for check_step() */
    struct promise promise_seen[MACHINES];
    struct wal wal_seen[MACHINES];
    bool wal_replaced[MACHINES]; /* by a rewind, a clone, an operator, or a disk that failed */

    uint64_t events_handled;
    int measure[MEASURES];
    int disks_lost;
    int64_t calm_ms;
    uint64_t acked_at_calm;
};

extern struct world world;
extern struct figures figures;

enum trace_mode {
    TRACE_OFF,
    TRACE_KEPT, /* in memory: trace_show() */
    TRACE_ALL,
};
extern enum trace_mode trace_mode;

/* world.c */
/* Chance depends on the seed and on what happens to whom and when, not on how much happened before:
 * a fault that is left out changes only what follows from it. */
void chance_for(const struct event *event);
uint64_t rnd(void);
uint32_t dice(uint32_t sides); /* 0 .. sides-1 */
bool happens(int per_mille);
int64_t between(int64_t low, int64_t high);
void post(int64_t in_ms, enum event_kind kind, int a, int b);
void post_event(int64_t in_ms, struct event event);
bool next_event(struct event *event);
/* Does a packet get there, and after how long? */
bool packet(int from, int to, int64_t *delay_ms);
bool linked(int from, int to); /* both ways */
void trace_forget(void);
void trace_show(uint64_t lines);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
void violate(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A message arrived, something of Postgres moved, or a fault befell. */
void count_step(void);
int64_t clock_of(int endpoint);
int64_t own_clock(const struct machine *m);

/* wal.c */
int branch_at(int branch, uint64_t lsn);
uint64_t system_of(int branch); /* whose WAL it is */
bool branch_contains(int branch, uint64_t end, int other, uint64_t lsn);
bool consistent(const struct disk *disk);          /* the WAL that its pages need is there, or */
bool consistent_possible(const struct disk *disk); /* may still come */
bool branch_descends(int branch, int ancestor);    /* or is it */
uint64_t record_end(uint64_t lsn);
struct position wal_position(const struct wal *wal, uint64_t lsn);
void wal_lineage(int branch, struct lineage *lineage);
bool history_has(const struct disk *disk, uint32_t timeline);
void history_set(struct disk *disk, uint32_t timeline, bool there);

/* postgres.c */
bool server_alive(const struct machine *m); /* some process of it works */
/* It is looked after within that time: call this whenever something of it has changed. */
void server_poke(int index, int64_t in_ms);
void server_tick(int index, uint32_t tick);
bool server_start(int index, const struct replication *conf);
void server_stop(int index);
void server_kill(int index, bool remains);
void server_power_cut(int index);
bool server_receivers(const struct machine *m);
void server_end_receiver(int index, int64_t in_ms);
/* Nobody stands in N, or the checkpointer has not heard yet that somebody does: commits do not
 * wait. */
bool server_waits_for_nobody(const struct machine *m);
enum probe_verdict server_probe(int from, int target);

/* stream.c */
/* NOBODY: it is refused. */
int conn_open(int standby, int leader);
/* Connections in which this life of a server took part. */
void conns_drop(int index, bool senders_too);
/* New WAL, or new names, at this leader. */
void conns_poke(int leader);
void conn_tick(int conn, uint32_t tick);
bool names_list(const struct replication *names, int32_t slot, uint32_t incarnation,
                uint32_t generation);

/* clients.c */
void client_tick(void);
/* ANY 1: everything up to there is at one standby that counts. */
void clients_release(int leader, int standby, uint64_t upto);

/* agent.c */
void agent_start(int index);
void agent_die(int index);
void agent_changed(int index);
void agent_gather(int index);
void agent_turn(int index);
void agent_timer(int index);
void agent_looked(int index);
void agent_sample(int index);
void agent_sampled(int index);
void agent_exited(int index, uint32_t life);
void agent_look(int index);
void agent_child_end(int index, uint32_t number);
void agent_child_stop(int index);

/* steps.c */
void step_dispatch(int index, int which, const struct step *step);
void step_effect(int index, int which, uint32_t number);
void step_done(int index, int which, uint32_t number);
void step_applied(int index, struct run *run);

/* peers.c */
void peers_start(int index);
void peers_register(int index, int32_t slot);
void peers_registration(int index, int from, uint32_t from_life,
                        const struct incarnation *incarnation);
void peers_answer_registration(int index, bool accepted);
void peers_registered(int index, int from);
void peers_ask_discard(int index);
void peers_discard(int index, int from, uint32_t generation, uint32_t from_life, int64_t asked_ms);
void peers_fetch_document(int index, int32_t slot);
void peers_document(int index, int from);
void peers_view(int index, int32_t slot, struct peer_view *view);
void peers_confirm(int index, int32_t slot, uint32_t generation, int64_t at_ms);
void peers_probe_if_due(int index, int32_t slot);
void poll_start(int owner, int32_t slot);
void poll_arrive(int target, int owner, int32_t slot, uint32_t number);
void poll_expire(int target, int owner, int32_t slot);
void poll_answer(int owner, int32_t slot, uint32_t number);
void poll_overdue(int owner, int32_t slot);
void poll_wake(int target);
void report_update(int index);

/* boss.c */
void boss_start(int which);
void boss_die(int which);
void boss_changed(int which);
void boss_round(int which);
void boss_polled(int which, int32_t slot, struct poll *poll);
void boss_silent(int which, int32_t slot, bool refuses);
void boss_probed(int which, int32_t slot, enum probe_verdict verdict);
void boss_refused(int which, int32_t slot, struct promise promise);
/* DESTROYED: the override; NULL: none. False: it is busy or down. */
bool boss_ask(int which, enum request_kind kind, int32_t target, const bool destroyed[NODE_COUNT]);
void boss_request_ends(int which);
void letter_arrive(int target, int letter);

/* documents.c */
void document_take(struct machine *m, const struct machine *from);
void document_edit(int index, int number);
void document_stored(int index);
void document_answered(int which, int number, int status);
void document_again(int which);
void document_round(int which);
void document_settled(int which, bool ok, enum reason reason);
void document_look(int which);
/* FENCE: the slot whose fence is to change; NODE_NONE: maintenance is. False: it was refused. */
bool document_ask(int which, int32_t fence, bool value);
void documents_calm(void);

/* faults.c */
void faults_begin(void);
void fault(uint32_t number);
void sting(int index);
void weather(void);
void cut_power(int index, int64_t for_ms);
void freeze(int endpoint, int64_t ms);
void freeze_server(int index, int64_t ms);
void kill_server(int index, bool remains);
void faults_end(void);
void machine_power(int index, bool on);
/* The machine that answers for a slot now; NOBODY: none yet. */
int machine_of(int32_t slot);
/* Half of all trouble befalls whoever leads. */
int victim(void);
int64_t a_while(void);
/* Says what went wrong; every fault calls this when it does something. WHAT is one word. */
void befall(const char *what, int machine, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* themes.c */
/* True if this schedule has one; it is over once world.theme.plot is NULL. */
bool theme_begin(void);
void theme_tick(void);

/* storage.c */
bool may_lose(int index);
void storage_wipe(int index);
void lose_disk(int index, const char *how, int64_t for_ms);
/* GOES_ON: per mille. */
void replace_machine(int index, int goes_on);
void lose_a_disk(void);
void lose_two(void);
void roll_back(int index);
void roll_back_a_volume(void);
void recycle_some_wal(void);
void replace_a_machine(void);
void let_a_stranger_in(void);
void fill_a_disk(void);
void slow_a_disk(void);
void disk_well(int index, uint64_t what);
void storage_calm(void);

/* operators.c */
void operate(void);
void promote_by_hand(void);
void tamper_with_names(void);
void accept_data_loss(void);
/* It was declared destroyed, and is not. */
bool is_void(const struct machine *m);
void operators_recover(void);

/* snapshots.c */
void snapshot_take(void);
void snapshot_choose(enum request_kind kind, struct snapshot_source *source);
bool snapshot_restore(int index); /* into the child's machine, as its child was told */

/* check.c */
void check_persist(int index, const struct durable *before, const struct durable *after);
void check_discard(int index);
void check_promotion(int index, int branch);
void check_ack(int index, int branch, uint64_t upto);
void check_counted(int standby, const struct conn *conn);
void check_read(int index);
void check_vote(int index);
/* What holds in every state, of all that an event can have changed. */
void check_step(const struct event *event);
bool check_whole(void);
bool check_recovery_due(void);
bool check_birth_ended(void);

/* cover.c */
void cover_agent(enum agent_reason reason);
void cover_boss(const struct view *view, const struct plan *plan);
/* What the table of docs/protocol.md says of a message. */
enum verdict cover_verdict(const struct standing *standing, const struct desired *message);
void cover_admit(const struct standing *standing, const struct desired *message,
                 enum verdict verdict);
/* Names what was not reached; false if something was not. */
bool cover_print(void);

/* project.c */
bool project_open(const char *path, uint64_t seed, const char *commit);
bool project_close(void);
void project_changes(void);
void project_send(int which, int32_t to, const struct desired *message);
void project_plan(int which, const struct plan *plan);
void project_promoted(int index, const struct branch *branch);
void project_ack(int leader, int standby, uint64_t upto);
void project_answer(int index, int registrant, const struct incarnation *incarnation);
void project_fault(const char *what, int machine);

/* run.c */
void run_schedule(uint64_t seed);

/* shrink.c */
/* Faults are numbered within their schedule; those that the shrinker leaves out do not befall. */
bool fault_masked(uint64_t id);
void fault_record(const char *text);
int shrink(uint64_t seed);
#endif
