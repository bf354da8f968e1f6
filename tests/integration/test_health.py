"""The health endpoints that load balancers know, with Patroni's meanings."""

import json
import signal

import procs
from harness import wait

CLUSTER = {}
OPEN = ("/primary", "/leader", "/read-write", "/replica", "/read-only", "/synchronous", "/health",
        "/liveness", "/readiness")


def status(node, path, method="GET"):
    return node.api.call(method, path, token=None).status


def test_health__leader__answers_as_primary_and_not_as_replica(c):
    leader = c.wait_healthy()
    want = {
        "/primary": 200, "/leader": 200, "/read-write": 200, "/replica": 503, "/read-only": 200,
        "/synchronous": 503, "/health": 200, "/liveness": 200, "/readiness": 200}
    wait(lambda: {p: status(leader, p) for p in OPEN} == want, 5, "it answers as the primary")


def test_health__followers__answer_as_replicas_and_not_as_primary(c):
    c.healthy()
    want = {"/primary": 503, "/leader": 503, "/read-write": 503, "/replica": 200, "/read-only": 200,
            "/synchronous": 200, "/health": 200, "/liveness": 200, "/readiness": 200}
    for n in c.followers():
        # that its leader counts it, a follower's agent hears with that leader's next report
        wait(lambda: {p: status(n, p) for p in OPEN} == want, 5, f"{n.id} answers as a replica")


def test_health__head_and_options__answer_like_get_without_a_body(c):
    for n in c.nodes:
        for path in OPEN:
            want = status(n, path)
            for method in ("HEAD", "OPTIONS"):
                reply = n.api.call(method, path, token=None)
                assert reply.status == want, f"{method} {path} of {n.id}: {reply}"
                if method == "HEAD":
                    assert reply.body == b"", reply


def test_health__body__is_json_that_names_the_role(c):
    for n in c.nodes:
        reply = n.api.get("/health", token=None)
        body = json.loads(reply.body)
        assert body["role"] == ("primary" if n is c.leader() else "replica"), body


def test_health__replica_with_lag_limit__refuses_one_that_is_behind(c):
    n = c.followers()[0]
    assert n.api.get("/replica?lag=10MB", token=None).status == 200
    n.sql("SELECT pg_wal_replay_pause()")
    try:
        c.owner_sql("CREATE TABLE IF NOT EXISTS lagging (x text)")
        c.owner_sql("INSERT INTO lagging SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        wait(lambda: n.api.get("/replica?lag=1MB", token=None).status == 503, 10, "too far behind")
        assert n.api.get("/replica?lag=1GB", token=None).status == 200
        assert n.api.get("/replica", token=None).status == 200
    finally:
        n.sql("SELECT pg_wal_replay_resume()")
    wait(lambda: n.api.get("/replica?lag=1MB", token=None).status == 200, 10, "it has caught up")


def test_health__malformed_lag__is_a_clear_error(c):
    reply = c.nodes[0].api.get("/replica?lag=soon", token=None)
    assert reply.status == 400 and b"lag" in reply.body, reply


def test_health__postgres_of_a_follower_down__only_liveness_stays_good(c):
    n = c.followers()[0]
    c.maintenance(True)
    try:
        wait(lambda: all(m["id"] for m in c.status()["nodes"]) and c.status()["maintenance"], 10, "maintenance")
        pids = procs.pids_in(n.data)
        pids.remove(n.process.pid) if n.process.pid in pids else None
        procs.send(pids, signal.SIGSTOP)
        wait(lambda: status(n, "/health") == 503, 15, "/health sees it")
        assert status(n, "/liveness") == 200
        assert status(n, "/replica") == 503
        procs.send(pids, signal.SIGCONT)
    finally:
        c.maintenance(False)
    wait(lambda: status(n, "/replica") == 200, 15, "it is back")


def test_health__unknown_path__is_404_with_a_problem(c):
    reply = c.nodes[0].api.get("/nonsense")
    assert reply.status == 404 and reply.headers["content-type"].startswith("application/problem+json")


def test_health__follower_becomes_leader__endpoints_follow(c):
    target = c.followers()[0]
    c.switchover(target)
    wait(lambda: status(target, "/primary") == 200, 15, "/primary of the new leader")
    wait(lambda: sum(status(n, "/primary") == 200 for n in c.nodes) == 1, 15, "one primary only")
