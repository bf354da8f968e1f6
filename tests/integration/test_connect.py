"""/connect: where an application should go."""

import threading
import time
from urllib.parse import parse_qs, urlsplit

import psycopg2

from harness import wait

CLUSTER = {}


def ask(c, query, **kw):
    return c.orchestrators[0].api.get("/connect?" + query, **kw)


def test_connect__write__names_the_leader(c):
    leader = c.healthy()
    reply = ask(c, "intent=write")
    assert reply.status == 200, reply
    assert (reply.json["host"], reply.json["port"], reply.json["node"]) == (leader.host, leader.port, leader.id)
    assert reply.json["role"] == "leader" and reply.json["generation"] == c.generation()


def test_connect__read__takes_the_replicas_in_turn(c):
    c.healthy()
    nodes = [ask(c, "intent=read").json["node"] for _ in range(20)]
    assert {n: nodes.count(n) for n in set(nodes)} == {n.id: 10 for n in c.followers()}


def test_connect__uri__connects_and_holds_no_password(c):
    reply = ask(c, f"intent=write&format=uri&database={c.database}&user={c.owner}")
    uri = reply.body.decode().strip()
    assert c.password("owner") not in uri and uri.startswith("postgresql://"), uri
    conn = psycopg2.connect(uri, password=c.password("owner"))
    assert conn.info.port == c.leader().port
    conn.close()


def test_connect__multi_host_uri__finds_the_leader_by_itself(c):
    reply = ask(c, f"intent=write&database={c.database}&user={c.owner}")
    text = next(v for k, v in reply.json.items() if isinstance(v, str) and "target_session_attrs" in v)
    parts = urlsplit(text)
    assert parts.netloc.count(",") == 2, text
    assert parse_qs(parts.query)["target_session_attrs"] == ["read-write"], text


def test_connect__post__answers_the_same_as_get(c):
    got = c.orchestrators[0].api.post("/connect", {"intent": "write"})
    assert got.status == 200 and got.json["node"] == ask(c, "intent=write").json["node"], got


def test_connect__max_lag__leaves_out_who_is_behind_and_can_refuse_the_leader(c):
    a, b = c.followers()
    a.sql("SELECT pg_wal_replay_pause()")
    try:
        c.owner_sql("CREATE TABLE IF NOT EXISTS lagging (x text)")
        c.owner_sql("INSERT INTO lagging SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
        wait(lambda: {ask(c, "intent=read&max_lag=1MB").json["node"] for _ in range(6)} == {b.id}, 10,
             "the one behind is left out")
    finally:
        a.sql("SELECT pg_wal_replay_resume()")


def test_connect__min_lsn__gives_a_replica_that_has_it(c):
    leader = c.leader()
    c.owner_sql("CREATE TABLE IF NOT EXISTS own_writes (x int)")
    lsn = leader.one("SELECT pg_current_wal_lsn()")
    reply = ask(c, f"intent=read&min_lsn={lsn}&wait_ms=5000", timeout=10)
    assert reply.status == 200, reply
    node = c.node(reply.json["node"])
    position = "pg_current_wal_lsn()" if node is leader else "pg_last_wal_replay_lsn()"
    assert node.one(f"SELECT {position} >= '{lsn}'::pg_lsn") is True


def test_connect__min_lsn_in_the_future__is_refused_in_time(c):
    reply = ask(c, "intent=read&min_lsn=FFF/0&wait_ms=200", timeout=10)
    assert reply.status == 503 and "retry-after" in reply.headers, reply


def test_connect__wait_ms_without_a_leader__answers_as_soon_as_there_is_one(c):
    old = c.leader()
    got = []

    def waiter():
        end = time.monotonic() + 15
        while time.monotonic() < end:
            reply = ask(c, "intent=write&wait_ms=10000", timeout=15)
            if reply.status != 200 or reply.json["node"] != old.id:
                got.append(reply)
                return
    old.kill_postmaster()
    t = threading.Thread(target=waiter)
    t.start()
    t.join()
    assert got and got[0].status == 200, got
    c.wait_healthy()


def test_connect__quorum_lost__is_refused_with_the_reason_and_retry_after(c):
    followers = c.followers()
    for n in followers:
        n.kill()
    reply = wait(lambda: (r := ask(c, "intent=write")).status == 503 and r, 15, "writes are refused")
    assert "retry-after" in reply.headers and reply.json["detail"], reply
    for n in followers:
        n.process.start()
    c.wait_healthy(60)


def test_connect__bad_questions__are_answered_with_the_field(c):
    for query, field in (("intent=both", "intent"), ("intent=read&max_lag=near", "max_lag"),
                         ("intent=read&min_lsn=xyz", "min_lsn"), ("intent=write&wait_ms=-1", "wait_ms"),
                         ("intent=write&format=xml", "format")):
        reply = ask(c, query)
        assert reply.status == 400 and field.encode() in reply.body, (query, reply)
    assert ask(c, "intent=write&cluster=nonsense").status == 404


def test_connect__tokens__none_is_refused_read_is_enough(c):
    assert ask(c, "intent=write", token=None).status == 401
    assert ask(c, "intent=write", token="wrong").status == 401
    assert ask(c, "intent=write", token=c.secret_texts["read"]).status == 200


def test_connect__read_token__may_not_change_anything(c):
    reply = c.post("switchover", {}, token=c.secret_texts["read"])
    assert reply.status == 403, reply
