"""Snapshots that orchestrators order: on demand and on a schedule, with a directory as the store, while orchestrators
and nodes die and Redis forgets."""

import contextlib
import json
import time

import procs
from harness import deadline, wait
from test_tasks import store

CLUSTER = {"orchestrators": 2, "redis": True}
WEIGHT = 50         # schedules go by the minute: most of it is waiting
SLOW = "2MB"        # an empty cluster's snapshot then takes some fifteen seconds
YOUNG_S = 45        # a new leader permits nothing for 35 s
KEY = "ogel:main:snapshots"


def section(c, members):
    c.command("settings", {"snapshots": members})


def shown(o):
    return o.status()["snapshots"]


def last(o, what="last"):
    return ((shown(o) or {}).get(what) or {}).get("id")


@contextlib.contextmanager
def snapshots(c, **members):
    """Turned on for as long as the context lasts; the store."""
    with store() as where:
        section(c, {"store": where, **members})
        try:
            for o in c.orchestrators:
                wait(lambda: (shown(o) or {}).get("store") == where, 15, f"{o.id} has read the document")
            yield where
        finally:
            section(c, None)


def api(c, what="", orchestrator=0, **kw):
    return c.orchestrators[orchestrator].api.get(f"/v1/clusters/{c.name}/snapshots{what}", timeout=30, **kw)


def post(c, what="", body=None, orchestrator=0):
    return c.post("snapshots" + what, body, orchestrator=orchestrator)


def task(c, orchestrator=0):
    reply = api(c, "/task", orchestrator)
    assert reply.status == 200, reply
    return reply.json["task"]


def begin(c, what="", body=None, orchestrator=0):
    """Asks until it is permitted; the task."""
    def ask():
        reply = post(c, what, body, orchestrator)
        if reply.status == 503:
            time.sleep(0.5)         # each question is an event of every agent
        assert reply.status == 202, reply
        return reply.json["task"]
    return wait(ask, YOUNG_S, f"POST snapshots{what} is taken")


def ended(c, id=None, within_s=60, orchestrator=0):
    def look():
        now = task(c, orchestrator)
        assert now and now["state"] in ("done", "failed") and (id is None or now["id"] == id), now
        return now
    return wait(look, within_s, "the task ends")


def copying(c, id):
    def look():
        now = task(c)
        assert now and now["id"] == id and now["state"] == "running" and now["done_bytes"] > 0, now
        return now
    return wait(look, 30, "it copies")


def listed(c, orchestrator=0, refresh=True):
    reply = api(c, "?refresh=1" if refresh else "", orchestrator)
    assert reply.status == 200, reply
    return [s["id"] for s in reply.json["snapshots"]]


def told(o, code, since=""):
    reply = o.api.get(f"/v1/clusters/main/events?limit=2000")
    return [e for e in reply.json["events"] if e.get("reason") == code and e["time"] > since]


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def metric(o, name, *labels):
    for line in o.api.get("/metrics").body.decode().splitlines():
        if line.startswith(name + "{") and all(label in line for label in labels):
            return float(line.split()[-1])
    return None


@deadline(60)
def test_snapshots__off__every_route_says_how_to_turn_them_on(c):
    assert c.status()["snapshots"] is None
    for reply in (api(c), api(c, "/task"), post(c), post(c, "/gc"), api(c, "/20260203T040506Z-1a2b3c4d")):
        assert reply.status == 409 and b"config set snapshots.store=" in reply.body, reply
    done = c.ctl("snapshot", "create", check=False)
    assert done.returncode == 1 and "snapshots.store=" in done.stderr, done
    done = c.ctl("snapshot", "schedule", "set", "every 1y", check=False)
    assert done.returncode == 2, done
    reply = c.command("settings", {"snapshots": {"schedule": "every 1y"}}, want=(400,))
    assert b"snapshots.schedule" in reply.body, reply
    reply = c.command("settings", {"snapshots": {"store": "s3://key:secret@host/b"}}, want=(422, 400))
    assert b"snapshots.store" in reply.body, reply


@deadline(150)
def test_snapshots__ordered__are_taken_of_a_follower_listed_and_verified(c):
    with snapshots(c) as where:
        assert listed(c) == []
        begun = begin(c)
        assert begun["node"] in {n.id for n in c.followers()} and not begun["scheduled"], begun
        done = ended(c, begun["id"])
        assert done["state"] == "done" and done["snapshot"]["logical_bytes"] > 20 << 20, done
        id = done["snapshot"]["id"]
        for i in (0, 1):
            wait(lambda: listed(c, i, refresh=False) == [id], 15, f"o{i + 1} lists it by itself")
            wait(lambda: last(c.orchestrators[i]) == id, 15, f"o{i + 1} shows it")
        assert api(c, f"/{id}").json["timeline"] == c.generation()
        assert api(c, "/20260203T040506Z-1a2b3c4d").status == 404
        assert api(c, "/nonsense").status == 404
        assert post(c, "/20260203T040506Z-1a2b3c4d/verify").status == 404
        assert post(c, body={"levle": 3}).status == 400
        assert post(c, body={"level": 20}).status == 400
        assert post(c, body={"node": "n9"}).status == 404
        reader = open(f"{c.secrets}/read").read().strip()
        assert c.post("snapshots", token=reader).status == 403
        assert api(c, token=reader).status == 200

        asked = post(c, f"/{id}/verify", {"wait": True})
        assert asked.status == 200 and asked.json["task"]["snapshot"]["id"] == id, asked
        assert metric(c.orchestrators[0], "ogel_snapshot_last_success_timestamp_seconds", 'kind="verify"') > 0
        assert metric(c.orchestrators[0], "ogel_snapshot_size_bytes") > 20 << 20
        assert {e["node"] for e in told(c.orchestrators[0], "A2") if id in e["text"]}
        assert where == c.status()["snapshots"]["store"]


@deadline(150)
def test_ctl__snapshot__goes_through_the_orchestrator_with_a_bar(c):
    with store() as where:
        c.ctl("config", "set", f"snapshots.store={where}", "snapshots.level=1", "snapshots.keep.daily=3")
        try:
            shown = c.ctl("config", "show").stdout
            assert f"snapshots.store={where}" in shown and "snapshots.keep.daily=3" in shown, shown
            wait(lambda: c.status()["snapshots"], 15, "the document is read")
            done = wait(lambda: c.ctl("snapshot", "create", timeout=90), YOUNG_S, "it is taken")
            assert "new in the store" in done.stdout, done
            assert "[####" in done.stderr, "a bar"
            [id] = [s["id"] for s in json.loads(c.ctl("snapshot", "list", "-o", "json").stdout)]
            assert id in done.stdout and id in c.ctl("snapshot", "list").stdout
            assert id in c.ctl("snapshot", "show", id).stdout
            leader = c.leader()
            done = c.ctl("snapshot", "create", "--node", leader.id, "--no-wait", "--max-rate", SLOW)
            assert leader.id in done.stdout, done
            refused = c.ctl("snapshot", "verify", id, check=False)
            assert refused.returncode == 1 and "one task at a time" in refused.stderr, refused
            assert f"now: create on {leader.id}" in c.ctl("status").stdout
            ended(c)
            assert "passed on" in c.ctl("snapshot", "verify", id).stdout
            c.ctl("snapshot", "schedule", "set", "0 3 * * *")
            wait(lambda: "next " in c.ctl("snapshot", "schedule").stdout, 15, "the next run is known")
            assert "T03:00:" in c.ctl("snapshot", "schedule", "show").stdout
            c.ctl("snapshot", "schedule", "off")
            assert "schedule" not in json.loads(c.ctl("snapshot", "schedule", "-o", "json").stdout)
        finally:
            c.ctl("config", "unset", "snapshots.store", "snapshots.level", "snapshots.keep")


@deadline(300)
def test_schedule__every_minute_with_two_orchestrators__takes_one_in_each_minute(c):
    began = now()
    with snapshots(c, schedule="every 1min"):
        def three():
            taken = [s for s in api(c, "?refresh=1").json["snapshots"]]
            assert len(taken) >= 3, taken
            return taken
        taken = wait(three, 240, "three minutes' snapshots")
        minutes = [s["started_ms"] // 60000 for s in taken]
        assert len(set(minutes)) == len(minutes), f"one in each minute: {minutes}"
        assert minutes == list(range(minutes[0], minutes[0] + len(minutes))), f"none left out: {minutes}"
        spans = sorted((s["started_ms"], s["stopped_ms"]) for s in taken)
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])), spans
        for o in c.orchestrators:
            assert not told(o, "A3", began) and not told(o, "A4", began), told(o, "A3") + told(o, "A4")
            assert not [e for e in told(o, "A5", began) if "still runs" in e["text"]], told(o, "A5")
            assert metric(o, "ogel_snapshot_failed_total", 'kind="create"') == 0
            assert metric(o, "ogel_snapshot_next_run_timestamp_seconds", 'kind="create"') > time.time() - 10
        collected = {e["time"][:16] for o in c.orchestrators for e in told(o, "A2", began)
                     if "no snapshot needs" in e["text"]}       # minutes: both may tell of one
        assert len(collected) >= len(taken) - 1, f"each was followed by a collection: {collected}"


@deadline(200)
def test_schedule__in_maintenance__is_skipped_reported_and_taken_up_again(c):
    with snapshots(c, schedule="every 1min"):
        c.maintenance(True)
        began = now()
        try:
            wait(lambda: all(told(o, "A5", began) for o in c.orchestrators), 80, "both report a skip")
            assert metric(c.orchestrators[0], "ogel_snapshot_skipped_total", 'reason="maintenance"') >= 1
            assert listed(c) == []
        finally:
            c.maintenance(False)
        wait(lambda: len(listed(c)) >= 1, 80, "the next one is taken")


@deadline(200)
def test_drill_and_gc__ordered__are_told_and_shown(c):
    with snapshots(c, keep={"daily": 1, "weekly": 0, "monthly": 0, "least": 1}):
        first = ended(c, begin(c)["id"])["snapshot"]["id"]
        drilled = post(c, f"/{first}/drill", {"wait": True})
        assert drilled.status in (200, 202), drilled
        done = ended(c, drilled.json["task"]["id"])
        assert done["state"] == "done" and done["node"] in {n.id for n in c.followers()}, done
        wait(lambda: last(c.orchestrators[0], "last_drill") == first, 15, "the drill is shown")
        wait(lambda: (api(c, f"/{first}").json["drilled_ms"] or 0) > 0, 15, "and marked in the store")
        second = ended(c, begin(c)["id"])["snapshot"]["id"]
        assert post(c, f"/{second}/verify", {"wait": True}).status == 200
        collected = post(c, "/gc", {"wait": True})
        assert collected.status == 200, collected
        assert collected.json["task"]["result"], "what it did"
        wait(lambda: listed(c, refresh=False) == [second], 15, "the first one is expired by the document's numbers")


@deadline(200)
def test_orchestrator__killed_in_the_middle__is_no_end_of_the_task(c):
    first, second = c.orchestrators
    with snapshots(c):
        id = begin(c, body={"max_rate": SLOW})["id"]
        copying(c, id)
        first.process.kill()
        began = now()
        wait(lambda: (task(c, 1) or {}).get("id") == id, 10, "the other one follows it")
        assert task(c, 1)["state"] == "running"
        reply = post(c, orchestrator=1)
        assert reply.status == 409 and reply.json["task"]["id"] == id, reply
        first.process.start()
        wait(lambda: (task(c) or {}).get("id") == id and told(first, "A6", began), 20, "it finds it running")
        done = ended(c, id)
        assert done["state"] == "done", done
        wait(lambda: last(first) == done["snapshot"]["id"], 15, "and counts it")
        assert listed(c) == [done["snapshot"]["id"]]


@deadline(300)
def test_source__killed_in_the_middle__is_tried_once_more_on_another_node(c):
    began = now()
    with snapshots(c):
        begun = begin(c, body={"max_rate": SLOW})
        copying(c, begun["id"])
        source = c.node(begun["node"])
        source.kill()
        try:
            def second():
                at = task(c)
                assert at["second_try"] and at["id"] != begun["id"] and at["node"] != source.id, at
                return at
            again = wait(second, 60, "another node begins it")
            done = ended(c, again["id"], 90)
            assert done["state"] == "done", done
            assert listed(c) == [done["snapshot"]["id"]]
            assert told(c.orchestrators[0], "A4", began), "it is reported"
            assert metric(c.orchestrators[0], "ogel_snapshot_failed_total", 'kind="create"') == 0
        finally:
            source.process.start()
        c.wait_healthy(45)


@deadline(150)
def test_redis__flushed_or_frozen__costs_nothing(c):
    with snapshots(c):
        id = ended(c, begin(c)["id"])["snapshot"]["id"]

        def copy():
            index = json.loads(c.redis.cli("GET", KEY))
            assert [s["id"] for s in index["snapshots"]] == [id], index
            return index
        wait(copy, 15, "the index is in Redis")
        c.redis.cli("FLUSHALL")
        assert listed(c, refresh=False) == [id]
        wait(copy, 15, "it is written again")
        wait(lambda: listed(c, 1, refresh=False) == [id], 15, "the other orchestrator has seen that a task ended")
        c.redis.process.freeze()
        try:
            began = time.monotonic()
            assert listed(c, refresh=False) == [id] and listed(c, 1, refresh=False) == [id]
            assert time.monotonic() - began < 1 * procs.SLOW, "nobody waits for Redis"
            another = ended(c, begin(c)["id"])["snapshot"]["id"]
            wait(lambda: listed(c, 0, refresh=False) == [id, another], 15, "the index goes on")
        finally:
            c.redis.process.thaw()
        wait(lambda: len(json.loads(c.redis.cli("GET", KEY))["snapshots"]) == 2, 30, "Redis catches up")
