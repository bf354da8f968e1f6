"""The leader dies in every way there is; what was acknowledged stays."""

import os
import random
import shutil
import signal
import time

import yaml

import procs
from clients import Writer
from harness import deadline, own, pg_bindir, wait

CLUSTER = {}
WEIGHT = 8


@deadline(400)
def test_failover__twenty_kills_at_random_phases_under_four_writers__lose_nothing(c):
    with Writer(c, writers=4) as w:
        for _ in range(20):
            leader = c.wait_healthy(10)         # the old leader streams again, without help
            time.sleep(random.uniform(0, 0.4))  # the phase
            leader.kill_postmaster()
            w.wait_acks(1, 15)
            wait(lambda old=leader: c.leader() is not old, 15, f"{leader.id} is replaced")
        c.wait_healthy(10)
        w.check(at_least=200)


def test_failover__whole_node_killed__another_leads_and_the_node_returns(c):
    with Writer(c) as w:
        w.wait_acks(10)
        old = c.leader()
        at = old.kill()
        wait(lambda: w.first_ack_after(at, old.server), 15, "writes elsewhere")
        old.process.start()
        c.wait_healthy()
        w.check(at_least=10)


@deadline(120)
def test_failover__frozen_leader__is_replaced_and_acknowledges_nothing_when_it_wakes(c):
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        old = c.leader()
        at = old.freeze()
        wait(lambda: w.first_ack_after(at, old.server), 15, "writes elsewhere")
        woke = time.monotonic_ns()
        old.thaw()
        c.wait_healthy()
        assert c.leader() is not old
        late = [r for r in w.acknowledged() if r.server == old.server and r.answered_ns > woke]
        assert not late, late[:5]
        w.check(at_least=10)


@deadline(120)
def test_failover__only_postgres_frozen__is_replaced_though_its_agent_answers(c):
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        old = c.leader()
        at = time.monotonic_ns()
        pids = procs.pids_in(old.data)
        procs.send([p for p in pids if p != old.process.pid], signal.SIGSTOP)
        wait(lambda: w.first_ack_after(at, old.server), 15, "writes elsewhere")
        procs.send(pids, signal.SIGCONT)
        c.wait_healthy()
        w.check(at_least=10)


def test_failover__follower_killed__leader_and_generation_stay_and_writes_go_on(c):
    with Writer(c) as w:
        w.wait_acks(10)
        leader, generation = c.leader(), c.generation()
        victim = c.followers()[0]
        victim.kill_postmaster()
        w.wait_acks(20)
        c.wait_healthy()
        assert (c.leader(), c.generation()) == (leader, generation)
        w.check(at_least=30)


def test_failover__backend_killed_on_a_follower__its_postgres_is_started_again(c):
    """restart_after_crash is off: one lost backend ends the postmaster."""
    victim, generation = c.followers()[0], c.generation()
    conn = victim.connect()
    pid, postmaster = conn.info.backend_pid, victim.postmaster_pid()
    os.kill(pid, signal.SIGKILL)
    wait(lambda: victim.postmaster_pid() != postmaster, 15, "a new postmaster")
    c.wait_healthy()
    assert c.generation() == generation


def test_failover__backend_killed_on_the_leader__never_recovers_in_place_as_primary(c):
    with Writer(c) as w:
        w.wait_acks(10)
        old, generation = c.leader(), c.generation()
        conn = old.connect()
        os.kill(conn.info.backend_pid, signal.SIGKILL)
        w.wait_acks(10)
        c.wait_healthy()
        assert c.generation() > generation
        w.check(at_least=20)


@deadline(120)
def test_failover__tail_that_no_standby_has__is_rewound_away(c):
    old = c.leader()
    old.sql("CREATE TABLE IF NOT EXISTS tail (x int)", database=c.database)
    # The senders, not the receivers, are stopped: what is in a socket's buffer still arrives.
    procs.send([r[0] for r in old.sql("SELECT pid FROM pg_stat_replication")], signal.SIGSTOP)
    old.sql("SET synchronous_commit = local; INSERT INTO tail SELECT generate_series(1, 10000)", database=c.database)
    old.kill_postmaster()
    wait(lambda: c.leader() is not old, 15, "another leader")
    c.wait_healthy()
    for n in c.nodes:
        wait(lambda n=n: n.one("SELECT count(*) FROM tail", database=c.database) == 0, 10,
             f"no tail on {n.id}")


def test_failover__generation__is_the_timeline(c):
    old = c.leader()
    old.kill_postmaster()
    c.wait_leader(15, other_than=old)
    c.wait_healthy()

    def agree():
        s = c.status()
        return {n["timeline"] for n in s["nodes"]} == {s["generation"]}
    wait(agree, 10, "every node is on the timeline of its generation")


def test_failover__events__give_a_stable_reason(c):
    old = c.leader()
    old.kill_postmaster()
    wait(lambda: c.leader() is not old, 15, "another leader")
    codes = [e.get("reason") for e in c.events()]
    assert "L1" in codes and "E2" in codes, codes[-20:]


def test_failover__replay_paused_on_both_standbys__does_not_hold_up_the_election(c):
    with Writer(c) as w:
        w.wait_acks(10)
        old = c.leader()
        for n in c.followers():
            n.sql("SELECT pg_wal_replay_pause()")
        old.kill_postmaster()
        w.wait_acks(5, 20)
        c.wait_healthy()
        for n in c.nodes:
            assert n.is_primary() or not n.one("SELECT pg_is_wal_replay_paused()"), n.id
        w.check(at_least=15)


@deadline(120)
def test_failover__sessions_that_block_replay_on_both_standbys__do_not_hold_up_the_election(c):
    old = c.leader()
    old.sql("CREATE TABLE IF NOT EXISTS locked (x int)", database=c.database)
    sessions = []
    for n in c.followers():
        conn = n.connect(database=c.database)
        with conn.cursor() as cur:
            wait(lambda n=n: n.one("SELECT to_regclass('locked') IS NOT NULL", database=c.database), 10, "the table")
            cur.execute("SELECT count(*) FROM locked")      # keeps its lock until the transaction ends
        sessions.append(conn)
    old.sql("SET synchronous_commit = local; DROP TABLE locked", database=c.database)
    old.kill_postmaster()
    c.wait_leader(20, other_than=old)
    c.wait_healthy()
    for n in c.nodes:
        assert n.one("SELECT to_regclass('locked') IS NULL", database=c.database), n.id


@deadline(120)
def test_failover__follower_away_for_longer_than_wal_is_kept__is_cloned_again(c):
    c.settings({"wal_keep_size": "16MB", "max_wal_size": "48MB"})
    leader, away = c.leader(), c.followers()[0]
    wait(lambda: leader.one("SHOW wal_keep_size") == "16MB", 10, "the setting")
    away.kill()
    gone = leader.one("SELECT pg_walfile_name(pg_current_wal_lsn())")
    # in small transactions: the other follower has applied each of them before the next begins, and must not be outrun
    for _ in range(24):
        leader.sql("CREATE TABLE IF NOT EXISTS filler (x text); INSERT INTO filler SELECT repeat('x', 1000) FROM "
                   "generate_series(1, 4000)", database=c.database)
    leader.sql("DROP TABLE filler", database=c.database)
    leader.sql("CHECKPOINT")
    wait(lambda: gone not in {r[0] for r in leader.sql("SELECT name FROM pg_ls_waldir()")}, 20, "old WAL is gone")
    seen = len(c.events())
    away.process.start()
    c.wait_healthy(60)
    assert c.leader() is leader
    assert "C4" in [e.get("reason") for e in c.events()[seen:]] + [e.get("reason") for e in c.events()[-100:]]
    c.settings({"wal_keep_size": None, "max_wal_size": None})


@own()      # a program of this node's is another from then on
@deadline(180)
def test_failover__source_of_a_rewind_lost_with_wal_that_the_copy_needs__copy_is_made_anew(c):
    """pg_rewind copies WAL and pages of a server that goes on writing, each at its time. When that server falls with
    what only the pages have, Postgres cannot start the copy, not even as the next leader's standby."""
    old = c.leader()
    old.sql("CREATE TABLE IF NOT EXISTS tail (x int)", database=c.database)
    stop_senders(old)
    old.sql("SET synchronous_commit = local; INSERT INTO tail SELECT generate_series(1, 10000)", database=c.database)
    seen = max(e["number"] for e in c.events())
    old.kill()
    source = c.wait_leader(15, other_than=old)
    heir = next(n for n in c.nodes if n not in (old, source))
    wait(lambda: source.streaming() and happened(c, seen, source, "N8"), 15, f"{source.id} leads and has settled")
    wal = f"pg_wal/{source.one('SELECT pg_walfile_name(pg_current_wal_lsn())')}"
    copied_early = procs.give(shutil.copy(f"{source.data}/{wal}", f"{old.dir}/segment"))
    stop_senders(source)
    source.sql("SET synchronous_commit = local; INSERT INTO tail SELECT generate_series(1, 1000)", database=c.database)
    config = yaml.safe_load(open(old.config))
    config["postgres_bindir"] = bindir_with(c, "pg_rewind", f"cat {copied_early} >{old.data}/{wal}; rm {copied_early}; "
                                            f"until test -e {old.dir}/go; do sleep 0.05; done")
    procs.write_file(old.config, yaml.safe_dump(config))
    old.process.start()
    wait(lambda: not os.path.exists(copied_early), 15, f"{old.id} is rewound")
    source.kill()
    procs.write_file(f"{old.dir}/go", "")
    wait(heir.is_primary, 15, f"{heir.id} leads")
    source.process.start()
    c.wait_healthy(30)
    assert c.leader() is heir and happened(c, seen, old, "C2"), c.events()


@deadline(120)
def test_failover__follower_that_comes_back_without_its_newest_wal__is_a_new_machine(c):
    """Nothing that was asked of it since it last voted shows the loss; the pages that were written with that WAL do."""
    victim = c.followers()[0]
    victim.sql("CHECKPOINT")
    c.owner_sql("CREATE TABLE lost AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 40000)")
    end, newest = c.leader().sql("SELECT lsn, pg_walfile_name(lsn) FROM pg_current_wal_lsn() AS lsn")[0]
    wait(lambda: victim.one(f"SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn"), 10, "it has replayed that")
    postmaster, seen = victim.postmaster_pid(), max(e["number"] for e in c.events())
    victim.process.kill()
    os.kill(postmaster, signal.SIGINT)      # pg_control speaks of what is replayed now
    wait(lambda: not procs.alive(postmaster), 15, "it is stopped")
    os.unlink(f"{victim.data}/pg_wal/{newest}")
    victim.process.start()
    wait(lambda: happened(c, seen, victim, "I3"), 15, "it is taken for another machine")
    c.wait_healthy(60)


def stop_senders(node):
    procs.send([r[0] for r in node.sql("SELECT pid FROM pg_stat_replication")], signal.SIGSTOP)


def bindir_with(c, program, afterwards):
    """Postgres' programs; after this one has done its work a command of the shell runs."""
    bindir = procs.make_dir(f"{c.root}/bindir", 0o755)
    for name in os.listdir(pg_bindir()):
        os.symlink(f"{pg_bindir()}/{name}", f"{bindir}/{name}")
    os.unlink(f"{bindir}/{program}")
    procs.write_file(f"{bindir}/{program}", f"#!/bin/sh -e\n{pg_bindir()}/{program} \"$@\"\n{afterwards}\n", 0o755)
    return bindir


def happened(c, seen, node, reason):
    return any(e["number"] > seen and e.get("node") == node.id and e.get("reason") == reason for e in c.events())


@deadline(120)
def test_failover__follower_that_set_out_for_a_lost_timeline__streams_again(c):
    """As after a leader that fell before this follower had any of its WAL: its history is there, and the running
    server is bound for it, but nobody leads there any more."""
    leader, victim = c.leader(), c.followers()[0]
    lost = c.generation() + 1
    fork = leader.one("SELECT pg_current_wal_lsn() + 1048576")
    history = leader.one(f"SELECT pg_read_file('pg_wal/{lost - 1:08X}.history')")
    procs.write_file(f"{victim.data}/pg_wal/{lost:08X}.history", f"{history}{lost - 1}\t{fork}\tlost\n")

    def end_receiver():
        os.kill(victim.one("SELECT pid FROM pg_stat_wal_receiver"), signal.SIGTERM)
    end_receiver()      # it looks for a newer timeline then
    c.owner_sql("CREATE TABLE beyond AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 3000)")
    wait(lambda: victim.one(f"SELECT pg_last_wal_replay_lsn() > '{fork}'::pg_lsn"), 15, "WAL from beyond the fork")
    end_receiver()      # from here on it asks for the lost one
    began = victim.postmaster_pid()
    wait(lambda: victim.postmaster_pid() != began, 30, "its Postgres is restarted")
    c.wait_healthy(30)
    assert c.leader() is leader and c.generation() == lost - 1


def test_failover__unlogged_table__is_empty_afterwards_as_documented(c):
    c.owner_sql("CREATE UNLOGGED TABLE IF NOT EXISTS scratchpad (x int)")
    c.owner_sql("INSERT INTO scratchpad SELECT generate_series(1, 10)")
    old = c.leader()
    c.switchover()
    new = c.wait_leader(20, other_than=old)
    assert new.one("SELECT count(*) FROM scratchpad", database=c.database) == 0
