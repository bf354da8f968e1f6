"""Three machines: three addresses, one port, no shared directory; links are cut one way and both ways."""

import os
import subprocess
import time

from clients import Writer
from harness import deadline, wait

CLUSTER = {"network": True, "orchestrators": 2,
           "document": {"listen_addresses": "*", "hba": ["host all all 10.77.0.0/24 scram-sha-256"]}}
WEIGHT = 8


def test_namespaces__three_addresses_one_port_no_shared_directory__form_a_cluster(c):
    c.healthy()
    assert len({n.host for n in c.nodes}) == 3 and {n.port for n in c.nodes} == {5432}
    for n in c.nodes:
        for other in c.nodes:
            if other is not n:
                done = subprocess.run(n.machine.enter() + ["ls", os.path.join(other.dir, "state")],
                                      capture_output=True)
                assert done.returncode != 0, f"{n.id} sees the directory of {other.id}"


@deadline(120)
def test_namespaces__leader_cut_off_from_everybody__is_replaced_and_fences_itself(c):
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        old = c.leader()
        at = time.monotonic_ns()
        c.network.isolate(old.id)
        wait(lambda: w.first_ack_after(at, old.server), 15, "writes elsewhere")
        wait(lambda: recovery_inside(old), 15, "the old leader has become a standby by itself")
        c.network.heal()
        c.wait_healthy(30)
        w.check(at_least=11)


@deadline(120)
def test_namespaces__leader_reachable_by_clients_only__acknowledges_nothing(c):
    """The worst place for an old leader: applications still talk to it."""
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        old = c.leader()
        at = time.monotonic_ns()
        c.network.isolate(old.id, but=("client",))
        first = wait(lambda: w.first_ack_after(at, old.server), 15, "writes elsewhere")
        c.network.heal()
        c.wait_healthy(30)
        late = [r for r in w.acknowledged() if r.server == old.server
                and r.answered_ns > first.answered_ns and r.sent_ns > at]
        assert not late or c.leader() is old, late[:3]
        w.check(at_least=11)


def test_namespaces__orchestrator_cut_from_the_leader_only__keeps_it_and_names_the_link(c):
    leader, generation = c.leader(), c.generation()
    for o in c.orchestrators:
        c.network.cut(o.id, leader.id)
    with Writer(c, leader=leader) as w:
        wait(lambda: "K2" in str(c.status()) + str(c.events()), 15, "the cut link is named")
        w.wait_acks(100, 20)
        c.network.heal()
        c.wait_healthy()
        assert (c.leader(), c.generation()) == (leader, generation)
        w.check(at_least=100)


@deadline(120)
def test_namespaces__standbys_cut_from_the_leader__elect_without_it(c):
    old, (a, b) = c.leader(), c.followers()
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        at = time.monotonic_ns()
        c.network.cut(old.id, a.id)
        c.network.cut(old.id, b.id)
        wait(lambda: w.first_ack_after(at, old.server), 45, "writes elsewhere")
        c.network.heal()
        c.wait_healthy(30)
        w.check(at_least=11)


def test_namespaces__one_follower_cut_one_way__writes_go_on(c):
    leader, follower = c.leader(), c.followers()[0]
    with Writer(c) as w:
        w.wait_acks(10)
        c.network.cut_one_way(leader.id, follower.id)
        w.wait_acks(100)
        c.network.heal()
        c.wait_healthy(30)
        assert c.leader() is leader
        w.check(at_least=110)


@deadline(120)
def test_namespaces__leader_deaf_but_not_dumb__loses_nothing(c):
    """One-way cuts towards the leader: it sends, and hears nobody."""
    old = c.leader()
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        for name in [n.id for n in c.nodes if n is not old] + [o.id for o in c.orchestrators]:
            c.network.cut_one_way(name, old.id)
        c.wait_leader(30, other_than=old)
        w.wait_acks(10)
        c.network.heal()
        c.wait_healthy(30)
        w.check(at_least=20)


@deadline(120)
def test_namespaces__orchestrators_cut_from_each_other__fail_over_once_for_each_fault(c):
    a, b = c.orchestrators
    c.network.cut(a.id, b.id)
    with Writer(c) as w:
        for _ in range(3):
            old, generation = c.wait_healthy(30), c.generation()
            old.kill_postmaster()
            # The next leader may be the old one: where each orchestrator has one follower's promise, the old
            # leader's is the majority's.
            wait(lambda g=generation: c.generation() > g, 20, "a leader of a new generation")
            c.wait_leader(20)
            c.wait_healthy(30)
            assert len({(o.status()["leader"], o.status()["generation"]) for o in (a, b)}) == 1
        c.network.heal()
        w.check(at_least=3)


@deadline(150)
def test_namespaces__leader_and_one_orchestrator_on_one_side__the_other_side_serves(c):
    old = c.leader()
    a, b = c.orchestrators
    with Writer(c, mode="race") as w:
        w.wait_acks(10)
        at = time.monotonic_ns()
        c.network.isolate(old.id, but=(a.id,))
        for other in [n.id for n in c.nodes if n is not old] + [b.id]:
            c.network.cut(a.id, other)
        wait(lambda: b.status()["leader"] not in (None, "", old.id), 30, "the majority's side has a leader")
        wait(lambda: w.first_ack_after(at, old.server), 15, "writes there")
        c.network.heal()
        c.wait_healthy(30)
        wait(lambda: a.status()["leader"] == b.status()["leader"], 15, "both agree")
        w.check(at_least=11)


def recovery_inside(node):
    """Asks over the node's own loopback, whatever is cut."""
    import psycopg2
    with node.machine.network():
        where = dict(node.where(), host=node.host)
        try:
            conn = psycopg2.connect(**where)
            with conn.cursor() as cur:
                cur.execute("SELECT pg_is_in_recovery()")
                got = cur.fetchone()[0]
        except psycopg2.OperationalError:
            return False            # it is being stopped, or started
        conn.close()
        return got
