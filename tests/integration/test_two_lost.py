"""Machines that never come back."""

import os
import shutil
import subprocess

from clients import Writer
from harness import deadline, own, wait

WEIGHT = 14


@own()
@deadline(150)
def test_two_lost__one_after_the_other_with_a_clone_in_between__lose_nothing(c):
    with Writer(c) as w:
        w.wait_acks(50)
        first = c.followers()[0]
        first.destroy()
        w.wait_acks(50)
        first.process.start()           # a new machine in its place
        c.wait_healthy(60)
        second = c.leader()
        second.destroy()
        w.wait_acks(50)
        second.process.start()
        c.wait_healthy(60)
        w.check(at_least=150)
    names = c.leader().streaming()
    assert names <= {f"ogel_{n.id}_i{i}_g{c.generation()}" for n in c.nodes for i in (1, 2)}, names


@own()
@deadline(150)
def test_two_lost__both_followers_down__writes_wait_and_say_so_until_one_returns(c):
    leader, (a, b) = c.leader(), c.followers()
    with Writer(c) as w:
        w.wait_acks(10)
        a.kill()
        b.kill()
        wait(lambda: c.orchestrators[0].api.get("/connect?intent=write").status == 503, 15,
             "writes are refused")
        assert not c.status()["failover_possible"]
        assert leader.one("SELECT 1") == 1      # reads go on
        acked = len(w.acknowledged())
        a.process.start()
        w.wait_acks(5, 45)
        assert len(w.acknowledged()) > acked
        b.process.start()
        c.wait_healthy(60)
        w.check(at_least=15)


@own()
@deadline(200)
def test_two_lost__at_once__wait_for_an_operator_who_accepts_the_loss(c):
    survivor = c.followers()[0]
    lost = [n for n in c.nodes if n is not survivor]
    with Writer(c) as w:
        w.wait_acks(20)
    for n in lost:
        n.destroy()
    wait(lambda: not c.status()["leader"], 20, "the leader is missed")
    plain = c.post("failover", {"target": survivor.id})
    assert plain.status in (409, 503), plain
    names = ",".join(n.id for n in lost)
    refused = c.ctl("failover", "--to", survivor.id, "--accept-data-loss", "--destroyed", names,
                    input="no\n", check=False)
    assert refused.returncode != 0 and not c.status()["leader"]
    c.ctl("failover", "--to", survivor.id, "--accept-data-loss", "--destroyed", names, "--yes")
    wait(survivor.is_primary, 30, "the survivor leads")
    assert "O6" in str(c.events())
    for n in lost:
        n.process.start()
    c.wait_healthy(90)
    w.check(at_least=20)        # the survivor had followed: here nothing was lost


@own()
@deadline(150)
def test_two_lost__machine_that_was_replaced_wakes_up__is_void(c):
    """The old machine of a slot comes back beside its replacement: it may neither vote nor acknowledge."""
    n = c.followers()[0]
    n.kill()
    old_state, old_data = n.state + ".old", n.data + ".old"
    for now, old in ((n.state, old_state), (n.data, old_data)):
        subprocess.run(["cp", "-a", now, old], check=True)
    n.destroy()
    n.process.start()
    c.wait_healthy(60)
    generation = c.generation()
    n.kill()
    for old, now in ((old_state, n.state), (old_data, n.data)):
        shutil.rmtree(now)
        os.rename(old, now)
    n.process.start()
    with Writer(c) as w:
        w.wait_acks(20)
        wait(lambda: "X14" in str(c.status()["failover_blockers"]) or "I8" in str(c.events()), 20,
             "the old incarnation is named")
        assert not [s for s in c.leader().streaming() if s.startswith(f"ogel_{n.id}_i1_")]
        assert c.generation() == generation
        w.check(at_least=20)
