"""The cluster document while there is no leader to change it at."""

import random
import threading
import time

import procs
from clients import Writer
from harness import deadline, own, wait

WEIGHT = 17


def document(c, orchestrator=0):
    reply = c.orchestrators[orchestrator].api.get(f"/v1/clusters/{c.name}/settings")
    assert reply.status == 200, reply
    return reply.json


def held(node):
    reply = node.api.get("/v1/document")
    assert reply.status == 200, reply
    return reply.json


def leaderless(c):
    """Maintenance mode, and nothing to lead: what is asked next finds no leader for as long as it stands."""
    c.maintenance(True)
    wait(lambda: all(held(n)["maintenance"] for n in c.nodes), 10, "every agent knows")
    c.leader().kill_postmaster()
    wait(lambda: all(o.status()["leader"] in (None, "") for o in c.orchestrators), 10, "the death is seen")
    wait(lambda: "X1" in str(c.status()["failover_blockers"]), 10, "maintenance blocks")


@own()
@deadline(120)
def test_document__both_followers_fenced_and_the_leader_lost__unfence_brings_a_leader(c):
    leader, (a, b) = c.leader(), c.followers()
    with Writer(c) as w:
        w.wait_acks(20)
        for n in (a, b):
            c.ctl("node", "fence", n.id, "--yes")
        leader.kill()
        wait(lambda: "X5" in str(c.status()["failover_blockers"]) and not c.status()["leader"], 20,
             "nobody may be granted")
        done = c.ctl("node", "unfence", b.id, "--yes")      # fenced last, it holds what was acknowledged last
        assert "no longer fenced" in done.stdout, done
        wait(lambda: c.status()["leader"] == b.id, 20, "the unfenced node leads")
        c.ctl("node", "unfence", a.id, "--yes")
        w.wait_acks(5, 30)
        leader.process.start()
        c.wait_healthy(60)
        w.check(at_least=25)
    assert document(c)["fenced"] == []
    assert "O9" in str(c.events()), "the history says how"


@own()
@deadline(90)
def test_document__changed_without_a_leader_in_maintenance_mode__stands_and_elects_nobody(c):
    leaderless(c)
    generation = c.generation()
    done = c.ctl("config", "set", "work_mem=7MB")
    assert done.returncode == 0, done
    assert document(c)["settings"]["work_mem"] == "7MB"
    c.node_command(c.nodes[2], "fence")
    assert document(c)["fenced"] == [c.nodes[2].id]
    c.node_command(c.nodes[2], "unfence")
    reply = c.post("settings", {"settings": {"fsync": "off"}})
    assert reply.status == 422 and "fsync" in str(reply.json), reply
    assert c.status()["maintenance"] and not c.status()["leader"] and c.generation() == generation
    holders = [n for n in c.nodes if held(n)["version"] == document(c)["version"]]
    assert len(holders) >= 2, [held(n)["version"] for n in c.nodes]
    c.ctl("maintenance", "off")
    leader = c.wait_healthy(45)
    wait(lambda: leader.one("SHOW work_mem") == "7MB", 10, "the setting is in force on the new leader")
    assert document(c)["settings"]["work_mem"] == "7MB" and document(c)["fenced"] == []


@own()
@deadline(90)
def test_document__one_agent_alone__is_refused_and_says_that_two_are_needed(c):
    leaderless(c)
    before = document(c)["version"]
    for n in c.nodes[:2]:
        n.kill()
    wait(lambda: str(c.status()["failover_blockers"]).count("X7") >= 2, 15, "two are silent")
    done = c.ctl("maintenance", "off", check=False)
    assert done.returncode != 0 and "two agents" in done.stderr, done
    assert held(c.nodes[2])["version"] == before
    for n in c.nodes[:2]:
        n.process.start()
    wait(lambda: c.ctl("maintenance", "off", check=False).returncode == 0, 20, "with two it is done")
    c.wait_healthy(60)


@own(orchestrators=2)
@deadline(150)
def test_document__two_orchestrators_change_it_without_a_leader__no_confirmed_change_is_lost(c):
    """Each counts in a setting of its own; an agent dies now and then. What one was told stands, stands."""
    confirmed, refused = [0, 0], [0, 0]

    def count(i):
        until, value = time.monotonic() + 20 * procs.SLOW, 0
        while time.monotonic() < until:
            time.sleep(random.uniform(0, 2 * procs.SLOW))       # they meet, and neither is all there is
            value += 1
            reply = c.post("settings", {"settings": {f"ogel_test.counter{i}": str(value)}}, orchestrator=i)
            if reply.status == 200:
                confirmed[i] = value
            else:
                assert reply.status in (409, 503, 504), reply
                refused[i] += 1

    leaderless(c)
    counters = [threading.Thread(target=count, args=(i,)) for i in (0, 1)]
    for t in counters:
        t.start()
    for _ in range(4):
        time.sleep(4 * procs.SLOW)
        dead = c.nodes[2]
        dead.process.kill()
        dead.process.start()
    for t in counters:
        t.join()
    assert min(confirmed) >= 3, (confirmed, refused)

    def stand():
        settings = document(c)["settings"]
        for i in (0, 1):
            assert int(settings[f"ogel_test.counter{i}"]) >= confirmed[i], (settings, confirmed)
    stand()
    by_version = {}
    for n in c.nodes:
        mine = held(n)
        version = (mine["version"]["generation"], mine["version"]["counter"])
        assert by_version.setdefault(version, mine) == mine, "one version is one text"
    c.maintenance(False)
    c.wait_healthy(60)
    stand()
