"""The leader dies in every way there is; what was acknowledged stays."""

import os
import random
import signal
import time

import procs
from clients import Writer
from harness import deadline, wait

CLUSTER = {}


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
    receivers = [n.one("SELECT pid FROM pg_stat_wal_receiver") for n in c.followers()]
    procs.send(receivers, signal.SIGSTOP)
    try:
        old.sql("SET synchronous_commit = local; INSERT INTO tail SELECT generate_series(1, 10000)",
                database=c.database)
        old.kill_postmaster()
    finally:
        procs.send(receivers, signal.SIGCONT)
    wait(lambda: c.leader() is not old, 15, "another leader")
    c.wait_healthy()
    for n in c.nodes:
        wait(lambda n=n: n.one("SELECT count(*) FROM tail", database=c.database) == 0, 10,
             f"no tail on {n.id}")


def test_failover__generation__is_the_timeline(c):
    c.leader().kill_postmaster()
    c.wait_healthy()
    s = c.status()
    assert {n["timeline"] for n in s["nodes"]} == {s["generation"]}, s


def test_failover__events__give_a_stable_reason(c):
    old = c.leader()
    old.kill_postmaster()
    wait(lambda: c.leader() is not old, 15, "another leader")
    codes = [e["reason"] for e in c.events()]
    assert "L1" in codes and "E2" in codes, codes[-20:]
