"""A full outage: whoever comes back first, nobody stale leads."""

import itertools

import procs
from clients import Writer
from harness import deadline, wait

CLUSTER = {}
WEIGHT = 8


def kill_everything(c):
    for n in c.nodes:
        procs.send(n.pids(), 19)        # SIGSTOP: none reacts to another's end
    for n in c.nodes:
        n.kill()


@deadline(300)
def test_boot_order__all_three_killed_and_started_in_every_order__lose_nothing(c):
    for order in itertools.permutations(range(3)):
        with Writer(c) as w:
            w.wait_acks(20)
            kill_everything(c)
            for i in order:
                c.nodes[i].process.start()
                wait(lambda n=c.nodes[i]: n.api.get("/liveness").status == 200, 15, "agent answers")
            c.wait_healthy(45)
            w.check(at_least=20)


@deadline(120)
def test_boot_order__stale_node_that_starts_first__does_not_lead(c):
    stale = c.followers()[0]
    stale.kill()
    with Writer(c) as w:
        w.wait_acks(100)
        w.stop()
        kill_everything(c)
        stale.process.start()
        other = next(n for n in c.nodes if n is not stale)
        other.process.start()
        assert c.wait_leader(45) is other
        next(n for n in c.nodes if not n.process.running()).process.start()
        c.wait_healthy(45)
        w.check(at_least=100)


@deadline(120)
def test_boot_order__one_node_alone__does_not_lead_and_says_why(c):
    kill_everything(c)
    alone = c.nodes[0]
    alone.process.start()
    wait(lambda: not c.status()["leader"] and "X2" in str(c.status()["failover_blockers"]), 20,
         "the lack of a quorum is shown")
    wait(lambda: not alone.is_primary(), 20, "it reads as a standby")
    reply = c.orchestrators[0].api.get("/connect?intent=write")
    assert reply.status == 503 and "retry-after" in reply.headers, reply


@deadline(120)
def test_boot_order__orchestrator_and_all_nodes_killed__come_back_by_themselves(c):
    with Writer(c) as w:
        w.wait_acks(10)
        c.orchestrators[0].process.kill()
        kill_everything(c)
        c.start()
        c.wait_healthy(45)
        w.check(at_least=10)
