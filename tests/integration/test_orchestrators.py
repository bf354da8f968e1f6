"""Orchestrators die, freeze, come in pairs; the cluster does not care."""

import random
import time

import procs
from clients import Writer
from harness import deadline, wait

CLUSTER = {"orchestrators": 2}
WEIGHT = 11


def one_leader_per_generation(c):
    """I2, from the histories that Postgres itself wrote: one begin of each timeline."""
    begins = {}
    for n in c.nodes:
        for name, text in n.sql("SELECT f, pg_read_file('pg_wal/' || f) FROM pg_ls_dir('pg_wal') f "
                                "WHERE f LIKE '%%.history'"):
            lines = [x for x in text.splitlines() if x.strip() and not x.startswith("#")]
            if lines:
                begins.setdefault(name, set()).add(tuple(tuple(x.split("\t")[:2]) for x in lines))
    return [f"{k}: {v}" for k, v in begins.items() if len(v) > 1]


def test_orchestrators__started_beside_a_healthy_cluster__adopt_it_without_touching_it(c):
    before = ([n.postmaster_pid() for n in c.nodes], c.leader(), c.generation())
    for o in c.orchestrators:
        o.process.kill()
    for o in c.orchestrators:
        o.process.start()
    for o in c.orchestrators:
        wait(lambda o=o: o.status()["failover_possible"], 15, f"{o.id} sees a healthy cluster")
    assert ([n.postmaster_pid() for n in c.nodes], c.leader(), c.generation()) == before


def test_orchestrators__none_runs__leader_serves_writes_past_every_timeout(c):
    leader, generation = c.leader(), c.generation()
    for o in c.orchestrators:
        o.process.kill()
    with Writer(c, leader=leader) as w:
        until = time.monotonic() + 5 * procs.SLOW       # longer than fence_timeout
        while time.monotonic() < until:
            w.wait_acks(1, 5)
        for o in c.orchestrators:
            o.process.start()
        c.wait_healthy()
        assert (c.leader(), c.generation()) == (leader, generation)
        w.check(at_least=5)


@deadline(240)
def test_orchestrators__killed_in_the_middle_of_a_failover__the_next_one_completes_it(c):
    """With both killed, whichever starts first has only the agents to learn from."""
    with Writer(c) as w:
        for _ in range(8):
            leader = c.wait_healthy(30)
            leader.kill_postmaster()
            time.sleep(random.uniform(0, 0.12))         # anywhere from detection to re-attachment
            for o in c.orchestrators:
                o.process.kill()
            for o in c.orchestrators:
                o.process.start()
            c.wait_leader(30)
        c.wait_healthy(30)
        assert not one_leader_per_generation(c)
        w.check(at_least=8)


@deadline(240)
def test_orchestrators__frozen_in_mid_election_and_resumed__elect_no_second_leader(c):
    with Writer(c) as w:
        for _ in range(8):
            leader, before = c.wait_healthy(30), c.generation()
            frozen, other = random.sample(c.orchestrators, 2)
            leader.kill_postmaster()
            time.sleep(random.uniform(0, 0.08))
            frozen.process.freeze()
            try:
                # It may be the old one again: where one follower promised to the frozen orchestrator,
                # the other and the old leader are the majority.
                wait(lambda o=other, g=before: o.status()["leader"] and o.status()["generation"] > g, 30,
                     "the other orchestrator has a leader of a new generation")
                w.wait_acks(5)
            finally:
                frozen.process.thaw()
            wait(lambda: len({(o.status()["leader"], o.status()["generation"])
                              for o in c.orchestrators}) == 1, 15, "both orchestrators agree")
        c.wait_healthy(30)
        assert not one_leader_per_generation(c)
        w.check(at_least=40)


@deadline(120)
def test_orchestrators__two_switchovers_asked_at_once__leave_one_leader(c):
    import threading
    with Writer(c) as w:
        w.wait_acks(5)
        a, b = c.followers()
        asked = [threading.Thread(target=lambda i=i, n=n: c.post("switchover", {"target": n.id},
                                                                 orchestrator=i))
                 for i, n in enumerate((a, b))]
        for t in asked:
            t.start()
        for t in asked:
            t.join()
        c.wait_healthy(30)
        assert not one_leader_per_generation(c)
        w.check(at_least=5)


def test_orchestrators__maintenance__holds_for_every_orchestrator_and_across_restarts(c):
    leader, generation = c.leader(), c.generation()
    c.maintenance(True)
    try:
        for o in c.orchestrators:
            wait(lambda o=o: o.status()["maintenance"], 10, f"{o.id} says so")
        for o in c.orchestrators:
            o.process.kill()
            o.process.start()
        for o in c.orchestrators:
            wait(lambda o=o: o.status()["maintenance"], 10, f"{o.id} says so after its restart")
        leader.kill_postmaster()
        wait(lambda: "X1" in str(c.status()["failover_blockers"]), 10, "maintenance blocks")
        time.sleep(2 * procs.SLOW)      # nothing may happen: twice the failure timeout
        assert c.generation() == generation
    finally:
        c.maintenance(False)
    c.wait_healthy(30)
