"""Planned moves of the leader."""

from clients import Writer
from harness import wait

CLUSTER = {}


def test_switchover__to_each_node_under_four_writers__loses_nothing(c):
    with Writer(c) as w:
        for target in c.followers() + [c.leader()]:
            w.wait_acks(10)
            generation = c.generation()
            c.switchover(target)
            wait(lambda t=target: c.leader() is t, 15, f"{target.id} leads")
            c.wait_healthy(15)
            assert c.generation() > generation
        w.check(at_least=30)


def test_switchover__old_leader__needs_neither_rewind_nor_clone(c):
    seen = len(c.events())
    target = c.followers()[0]
    c.switchover(target)
    wait(lambda: c.leader() is target, 15, "the target leads")
    c.wait_healthy(15)
    new = [e.get("reason") for e in c.events()[seen:]]
    assert not {"W3", "C4"} & set(new), new


def test_switchover__without_target__picks_a_follower(c):
    old = c.leader()
    c.switchover()
    wait(lambda: c.leader() is not old, 15, "another leader")


def test_switchover__to_unknown_node__is_refused_by_name(c):
    leader = c.leader()
    reply = c.post("switchover", {"target": "n9"})
    assert 400 <= reply.status < 500 and b"n9" in reply.body, reply
    assert c.leader() is leader


def test_switchover__to_the_leader__changes_nothing(c):
    leader, generation = c.leader(), c.generation()
    c.post("switchover", {"target": leader.id})
    assert (c.leader(), c.generation()) == (leader, generation)


def test_switchover__target_with_frozen_agent__leaves_a_leader_that_serves(c):
    target = c.followers()[0]
    target.process.freeze()
    try:
        c.post("switchover", {"target": target.id})
        c.wait_leader(30)
    finally:
        target.process.thaw()
    c.wait_healthy(30)


def test_switchover__failover_by_an_operator__moves_the_leader(c):
    with Writer(c) as w:
        old = c.leader()
        w.wait_acks(5)
        c.failover(None)
        wait(lambda: c.leader() is not old, 15, "another leader")
        c.wait_healthy()
        w.check(at_least=5)
