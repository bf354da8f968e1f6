"""The orchestrator's shell beside agents that misbehave. They are simulated (tests/bench/fake_agents.c): no Postgres
is needed, and each test has its own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

import fakes
import harness
import procs
from procs import wait

UNREADABLE = ("empty", "garbage", "truncated", "huge", "deep", "node", "protocol", "hang")
REFUSALS = (401, 404, 500)


@contextlib.contextmanager
def setting(count=1, orchestrators=1, lag_ms=100, **more):
    """(simulated agents, orchestrator, …)"""
    with tempfile.TemporaryDirectory(prefix="ogel-shell-") as root, contextlib.ExitStack() as stack:
        os.chmod(root, 0o755)
        agents = stack.enter_context(fakes.Fakes(os.path.join(root, "f"), count, lag_ms=lag_ms))
        yield (agents, *(stack.enter_context(fakes.Orchestrator(agents, f"o{i}", **more))
                         for i in range(orchestrators)))


def cluster(o, number=0):
    return next(c for c in o.clusters() if c["name"] == f"c{number}")


def node(o, id, number=0):
    return next(n for n in cluster(o, number)["nodes"] if n["id"] == id)


def logged(o, event):
    return [json.loads(line) for line in o.process.log_text().splitlines() if f'"event":"{event}"' in line]


def events(o, number=0):
    status, body = o.get(f"/v1/clusters/c{number}/events?limit=2000")
    assert status == 200, body
    return body["events"]


def load(o, seconds, *paths):
    """http_load as a process, on /connect unless told otherwise."""
    paths = paths or ("/connect?intent=write&wait_ms=5000", "/connect?intent=read")
    argv = [harness.tool("tests/bench/http_load"), "-p", str(o.port), "-t", o.tokens["read"], "-s", str(seconds)]
    return subprocess.Popen(argv + [x for path in paths for x in ("-u", path)], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)


def test_report__that_cannot_be_read__takes_the_agent_for_silent_until_it_can():
    with setting() as (agents, o):
        for fault, status in [(f, 0) for f in UNREADABLE] + [("status", s) for s in REFUSALS]:
            before = len(logged(o, "agent_fails"))
            agents.fault(fault, node=1, status=status)
            wait(lambda: not node(o, "n2")["agent"]["reachable"], 5, f"{fault} {status} makes it unreachable")
            now = cluster(o)
            assert now["leader"] == "n1" and now["writable"] and not now["failover_possible"], now
            assert any(b["reason"] == "X7" and b["node"] == "n2" for b in now["failover_blockers"]), now
            agents.fault("none", node=1)
            wait(o.ready, 5, f"after {fault} {status} all is well again")
            assert len(logged(o, "agent_fails")) - before == 1, logged(o, "agent_fails")[before:]
        assert agents.stats()["messages"] == 0


def test_report__of_another_cluster__is_named_as_foreign():
    with setting() as (agents, o):
        agents.fault("cluster", node=2)
        wait(lambda: any(b["reason"] == "X10" and b["node"] == "n3" for b in cluster(o)["failover_blockers"]), 5,
             "the blocker is X10")
        assert cluster(o)["leader"] == "n1" and agents.stats()["messages"] == 0


def test_leader__whose_agent_answers_nonsense_while_its_postgres_is_well__is_kept():
    with setting() as (agents, o):
        agents.fault("garbage", node=0)
        wait(lambda: any(e.get("reason") == "K1" for e in events(o)), 5, "it is kept, with a reason")
        time.sleep(2)       # twice the failure_timeout: nothing may happen in it
        assert cluster(o)["leader"] == "n1" and agents.stats()["messages"] == 0


def test_report__with_random_bytes_changed__never_ends_the_orchestrator():
    with setting(count=5, lag_ms=20) as (agents, o):
        for number in range(5):
            for slot in range(3):
                agents.fault("mutated", slot, number)
        time.sleep(8)
        assert o.process.running()
        for number in range(5):
            for slot in range(3):
                agents.fault("none", slot, number)
        wait(o.ready, 20, "all is well when they are")


def test_election__with_one_voter_hanging__waits_for_it_and_says_so():
    with setting() as (agents, o):
        agents.fault("hang", node=1)
        wait(lambda: not node(o, "n2")["agent"]["reachable"], 5, "its silence is noticed")
        agents.fault("hang", node=2)
        wait(lambda: not node(o, "n3")["agent"]["reachable"], 5, "its silence is noticed")
        agents.kill()
        wait(lambda: any(b["reason"] == "X2" for b in cluster(o)["failover_blockers"]), 5, "no quorum is named")
        status, body = o.get("/connect?intent=write")
        assert status == 503 and body["reason"], body
        agents.fault("none", node=1)
        wait(lambda: cluster(o)["writable"], 10, "the one that is back leads, or lets lead")


def test_maintenance__holds_back_an_election_and_ends_without_a_leader():
    with setting() as (agents, o):
        assert o.call("POST", "/v1/clusters/c0/maintenance", {"enabled": True})[0] == 200
        wait(lambda: cluster(o)["maintenance"], 5, "it is seen")
        agents.kill()
        wait(lambda: cluster(o)["leader"] is None, 5, "the death is seen")
        time.sleep(2)       # twice the failure_timeout: nothing may happen in it
        assert agents.stats()["messages"] == 0
        status, body = o.call("POST", "/v1/clusters/c0/settings", {"settings": {"work_mem": "8MB"}})
        assert status == 200 and body["replicated"], body
        assert cluster(o)["leader"] is None and cluster(o)["maintenance"], "that elects nobody"
        status, body = o.call("POST", "/v1/clusters/c0/maintenance", {"enabled": False})
        assert status == 200, body
        wait(o.ready, 5, "another leads, and maintenance is over")
        assert not cluster(o)["maintenance"]


def test_agent__restarted_at_the_same_port__is_heard_again():
    with setting(lag_ms=0) as (agents, o):
        for _ in range(3):
            agents.serve(False, node=2)
            wait(lambda: node(o, "n3")["state"] == "agent down", 5, "the refusal is seen")
            agents.serve(True, node=2)
            wait(o.ready, 5, "it is heard again")


def test_deaths__one_after_the_other_in_many_clusters__all_get_a_leader():
    with setting(count=40, lag_ms=500) as (agents, o):
        agents.measure(50)
        wait(lambda: agents.stats()["kills"] >= 80, 60, "80 leaders died")
        agents.measure(0)
        wait(agents.settled, 20, "every cluster has a leader with two followers")
        wait(o.ready, 10, "the orchestrator sees it")
        assert agents.stats()["refusals"] == 0


def test_orchestrators__two_at_once_while_leaders_die__settle():
    with setting(count=5, orchestrators=2) as (agents, a, b):
        agents.measure(300)
        wait(lambda: agents.stats()["kills"] >= 15, 60, "15 leaders died")
        agents.measure(0)
        wait(agents.settled, 30, "every cluster has a leader with two followers")
        wait(lambda: a.ready() and b.ready(), 10, "both see it")
        assert [c["leader"] for c in a.clusters()] == [c["leader"] for c in b.clusters()]


def test_connect__whatever_was_asked_before__tells_what_is_so_now():
    with setting(lag_ms=0) as (agents, o):
        def ask(what):
            status, body = o.get("/connect?" + what)
            assert status == 200, body
            return body
        for _ in range(4):
            leader = cluster(o)["leader"]
            for name in [f"u{i}" for i in range(12)] * 2:       # more than are kept
                for suffix in ("", f"&user={name}", f"&user={name}&database=d{name}"):
                    write, read = ask("intent=write" + suffix), ask("intent=read" + suffix)
                    assert write["node"] == leader and write["role"] == "leader", write
                    assert read["node"] != leader and read["role"] == "replica", read
                    for uri in (write["uri"], read["uri"], write["multi_host_uri"]):
                        assert uri.startswith(f"postgresql://{name}@" if suffix else "postgresql://127."), uri
                        assert f"/d{name}" in uri or "database" not in suffix, uri
            agents.kill()
            wait(lambda: (lambda now: now["writable"] and now["leader"] != leader)(cluster(o)), 5, "another leads")
            assert ask("intent=write")["node"] == cluster(o)["leader"]
            wait(o.ready, 5, "two followers stream")
        lsn = ask("intent=read&max_lag=1GB")["lsn"]
        agents.write()
        wait(lambda: ask("intent=read&max_lag=1GB")["lsn"] != lsn, 5, "progress shows")


def test_sighup__under_load__takes_the_new_token_and_loses_no_request():
    with setting() as (agents, o):
        running = load(o, 4)
        for i in range(8):
            procs.write_file(os.path.join(o.dir, "admin"), f"another-token-{i:04}\n")
            o.process.signal(signal.SIGHUP)
            o.tokens["admin"] = f"another-token-{i:04}"
            wait(lambda: o.get("/v1/clusters")[0] == 200, 5, "the new token is known")
        result = json.loads(running.communicate(timeout=30)[0])
        assert result["errors"] == 0 and result["requests"] > 0, result
        procs.write_file(os.path.join(o.dir, "admin"), "short\n")
        o.process.signal(signal.SIGHUP)
        wait(lambda: logged(o, "reload_secrets"), 5, "a bad token is refused")
        assert o.get("/v1/clusters")[0] == 200


def test_sigterm__under_load_with_requests_waiting_and_streams_open__ends_cleanly():
    with setting(orchestrators=0) as (agents,):
        for _ in range(5):
            with fakes.Orchestrator(agents) as o, contextlib.ExitStack() as stack:
                head = {"Authorization": "Bearer " + o.tokens["admin"], "Accept": "text/event-stream"}
                for path in ("/v1/clusters/c0/events", "/connect?intent=read&max_lag=0&allow_leader=false&wait_ms=9000&"
                             "min_lsn=FFFFFFFF/0"):
                    conn = http.client.HTTPConnection("127.0.0.1", o.port, timeout=20)
                    conn.request("GET", path, headers=head)
                    stack.callback(conn.close)
                running = load(o, 2)
                agents.fault("hang", node=0)
                conn = http.client.HTTPConnection("127.0.0.1", o.port, timeout=20)
                conn.request("POST", "/v1/clusters/c0/maintenance", '{"enabled": true}', head)
                stack.callback(conn.close)
                time.sleep(0.3)
                assert o.process.stop(5) == 0, o.process.log_text()[-3000:]
                running.communicate(timeout=30)
                agents.fault("none", node=0)


def test_redis__absent_or_frozen__changes_nothing():
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen(1)        # connects, and never answers
        for port in (procs.free_port(), frozen.getsockname()[1]):
            with setting(redis={"address": f"127.0.0.1:{port}"}) as (agents, o):
                for _ in range(5):
                    wait(agents.settled, 10, "two followers stream")
                    agents.kill()
                    wait(lambda: cluster(o)["writable"], 5, "another leads")
                wait(lambda: agents.stats()["granted_us"][4:], 5, "five were granted")
                assert o.get("/readyz")[0] == 200


def test_history__of_agents_and_of_orchestrators__is_merged_once_and_in_order_of_time():
    with setting(orchestrators=0) as (agents,):
        with fakes.Orchestrator(agents) as o:
            for _ in range(4):
                wait(agents.settled, 10, "two followers stream")
                agents.kill()
                wait(lambda: cluster(o)["writable"], 5, "another leads")

            def told():
                seen = events(o)
                assert {e["source"] for e in seen} == {"orchestrator", "n1", "n2", "n3"}, seen
                assert sum(e["text"] == "promoted" for e in seen) == 4, seen
                return seen
            first = wait(told, 10, "the agents' logs are merged")
            assert [e["time"] for e in first] == sorted(e["time"] for e in first)
        with fakes.Orchestrator(agents, "next") as o:
            again = wait(told, 10, "another orchestrator tells the same")
            own = [(e["source"], e["run"], e["sequence"]) for e in again]
            assert len(own) == len(set(own)), own
            assert [e["time"] for e in again] == sorted(e["time"] for e in again)
