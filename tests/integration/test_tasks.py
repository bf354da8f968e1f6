"""Snapshot tasks: what an agent does when an orchestrator asks it for one, with the leader's permit, a real server and
a directory as the store; and what is left when somebody dies, stops or is stopped in the middle."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time

import harness
import procs
from harness import deadline, own, wait
from test_snapshots_minio import MinioPlace

CLUSTER = {"agent": {"snapshots": {"progress_timeout": "20s"}}}
WEIGHT = 18

YOUNG_S = 40            # a new leader gives nothing new for 35 s
SLOW = {"max_rate": "1MB"}      # a snapshot of an empty cluster then takes half a minute
ENDED = ("done", "failed")
AWAY_S = int(os.environ.get("OGEL_TEST_AWAY_S", 10))     # of a store; 65 once in a while


@contextlib.contextmanager
def store():
    """A directory for a store, of the servers' user."""
    with tempfile.TemporaryDirectory(prefix="ogel-store-", ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o755)
        procs.give(root)
        yield f"{root}/store"


def new_id():
    return secrets.token_hex(8)


def post(node, where, kind="create", id=None, snapshot=None, **options):
    body = {"id": id or new_id(), "kind": kind, "store": where, "who": "test@here"}
    if snapshot:
        body["snapshot"] = snapshot
    if options:
        body["options"] = options
    return node.api.post("/v1/task", body, timeout=15)


def begin(node, where, kind="create", id=None, within_s=YOUNG_S, **more):
    """Asks until it is permitted; the task's id."""
    id = id or new_id()

    def ask():
        reply = post(node, where, kind, id, **more)
        assert reply.status == 202 and reply.json["task"]["id"] == id, reply
        return id
    return wait(ask, within_s, f"{node.id} begins")


def task(node, path="/v1/task"):
    reply = node.api.get(path, timeout=10)
    assert reply.status == 200, reply
    return reply.json["task"]


def ended(node, id, within_s=60):
    """The task, once it has ended."""
    def look():
        now = task(node)
        assert now.get("id") == id and now["state"] in ENDED, now
        return now
    return wait(look, within_s, f"task {id} ends")


def copying(node, id):
    """It has begun to read the server's files."""
    def look():
        now = task(node)
        assert now["id"] == id and now["state"] == "running" and now["done_bytes"] > 0, now
        return now
    return wait(look, 30, f"task {id} copies")


def children(node):
    """ogelctl below the agent: [(pid, command line)]."""
    found = []
    for pid in procs.descendants(node.process.pid):
        with contextlib.suppress(OSError):
            argv = open(f"/proc/{pid}/cmdline").read().split("\0")
            if argv[0].endswith("ogelctl"):
                found.append((pid, argv))
    return found


def ctl(where, *argv, check=True):
    done = subprocess.run([harness.tool("ogelctl"), "snapshot", *argv], capture_output=True, text=True, timeout=60,
                          cwd="/", env=procs.clean_env(OGEL_STORE=where), **procs.as_postgres())
    if check:
        assert done.returncode == 0, done
    return done


def snapshots_in(where):
    return [s["id"] for s in json.loads(ctl(where, "list", "-o", "json").stdout)]


def cancel(node, id):
    reply = node.api.call("DELETE", f"/v1/task?id={id}")
    assert reply.status in (200, 202), reply
    return ended(node, id, 15)


@deadline(150)
def test_task__create_at_a_follower__is_followed_to_a_snapshot_that_verifies(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, max_rate="8MB")
        seen = [copying(follower, id)]
        assert post(follower, where, id=id).status == 202, "the same task is no second one"
        reader = int(follower.one("SELECT pid FROM pg_stat_activity WHERE application_name = 'ogelctl-snapshot'"))
        nices = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (children(follower)[0][0], reader,
                                                                  follower.postmaster_pid())]
        assert nices == [10, 10, 0], nices
        at = follower.api.get("/v1/task").json
        while at["task"]["state"] == "running":
            reply = follower.api.get(f"/v1/task?since={at['sequence']}&run={at['run']}&wait_ms=10000", timeout=15)
            assert reply.status in (200, 204), reply
            if reply.status == 200:
                assert reply.json["sequence"] > at["sequence"]
                at = reply.json
                seen.append(at["task"])
        done = seen[-1]
        assert done["state"] == "done", done
        moving = [t["done_bytes"] for t in seen if t["state"] == "running"]
        assert len(set(moving)) > 2 and moving == sorted(moving), moving
        assert any(t["bytes_per_second"] > 0 for t in seen[:-1]), seen
        snapshot = done["snapshot"]
        assert snapshots_in(where) == [snapshot["id"]]
        assert snapshot["logical_bytes"] > 20 << 20 and 0 < snapshot["ratio"] < 1, snapshot
        assert snapshot["timeline"] == c.generation()
        assert done["ended_ms"] >= done["begun_ms"]
        again = post(follower, where, id=id)
        assert again.status == 200 and again.json["task"] == done, "an ended task is shown, not run again"
        for text in ("create began", f"create is done: {snapshot['id']}"):
            wait(lambda: any(text in e["text"] and id in e["text"] and e["who"] == "test@here" for e in c.events()),
                 10, f"an event says {text}")
        checked = ended(follower, begin(follower, where, "verify", snapshot=snapshot["id"]))
        assert checked["state"] == "done" and checked["snapshot"]["id"] == snapshot["id"], checked
        listed = follower.api.get(f"/v1/snapshots?store={where}", timeout=20)
        assert listed.status == 200 and [s["id"] for s in listed.json] == [snapshot["id"]], listed
        metrics = follower.api.get("/metrics").body.decode()
        assert 'ogel_snapshot_task_running{kind="create"} 0' in metrics
        assert 'ogel_snapshot_last_success_timestamp_seconds{kind="verify"} ' in metrics, metrics
        # A path that was asked for by several methods is one sample.
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, text=True, capture_output=True)
        assert checked.returncode == 0, checked
        routes = [line.split("}")[0] for line in metrics.splitlines() if line.startswith("ogel_http_requests_total{")]
        assert len(routes) == len(set(routes)), routes
        assert not children(follower)
    c.healthy()


@deadline(150)
def test_task__second_one__waits_for_the_permit_of_the_first(c):
    leader, (first, second) = c.leader(), c.followers()
    with store() as where:
        id = begin(first, where, **SLOW)
        reply = post(first, where)
        assert reply.status == 409 and reply.json["task"]["id"] == id, reply
        for node in (second, leader):
            reply = post(node, where)
            assert reply.status == 403 and reply.json["reason"] == "held", reply
            assert (reply.json["task"], reply.json["node"]) == (id, first.id), reply
        stopped = cancel(first, id)
        assert (stopped["state"], stopped["error"]["code"]) == ("failed", "cancelled"), stopped
        wait(lambda: not children(first), 5, "the child is gone")
        # The permit came back with the end of the task: no 30 s.
        begin(second, where, within_s=5, **SLOW)
        cancel(second, task(second)["id"])
        cancel(leader, begin(leader, where, within_s=5, **SLOW))
        assert snapshots_in(where) == [], "a cancelled task leaves no snapshot"
        assert 'ogel_snapshot_failures_total{kind="create"} ' in first.api.get("/metrics").body.decode()


@deadline(150)
def test_task__cancelled_as_soon_as_it_began__ends_the_task_and_not_the_agent(c):
    follower = c.followers()[0]
    pid = follower.process.pid
    with store() as where:
        for _ in range(20):
            id = begin(follower, where)
            assert cancel(follower, id)["error"]["code"] == "cancelled"
        assert follower.process.running() and follower.process.pid == pid
        assert snapshots_in(where) == [] and not children(follower)


@deadline(200)
def test_task__leader_dies__is_permitted_by_the_next_one(c):
    old, (busy, other) = c.leader(), c.followers()
    with store() as where:
        id = begin(busy, where, **SLOW)
        copying(busy, id)
        # Not to the busy node, whose backup a promotion ends.
        c.switchover(other)
        assert c.wait_leader(15) is other
        killed = time.monotonic()
        old.kill()
        try:
            # 30 s without a renewal would have ended it.
            wait(lambda: post(other, where).json.get("task") == id, 20, "the new leader has renewed the permit")
            reply = other.api.post("/v1/permit", {"task": new_id(), "node": "n1", "generation": c.generation(),
                                                  "state": "running"})
            assert reply.status == 409 and reply.json["task"] == id, reply
            assert task(busy)["state"] == "running"

            def longer_than_a_permit():
                assert task(busy)["state"] == "running"
                return time.monotonic() - killed > 32
            wait(longer_than_a_permit, 40, "it runs on with the permit of the new leader")
            cancel(busy, id)
        finally:
            old.process.start()
        c.wait_healthy(45)


@deadline(200)
def test_task__no_leader_for_long__is_ended_before_its_permit_is_anothers(c):
    leader, (busy, other) = c.leader(), c.followers()
    with store() as where:
        id = begin(busy, where, max_rate="256kB")
        copying(busy, id)
        c.orchestrators[0].process.kill()       # nobody elects another
        leader.kill()
        try:
            lost = ended(busy, id, 40)
            assert lost["state"] == "failed" and lost["error"]["code"] == "permit_lost", lost
            assert not children(busy)
            reply = post(busy, where)
            assert reply.status == 503 and b"cannot be asked" in reply.body, reply
        finally:
            c.start()
        c.wait_healthy(45)


@deadline(200)
def test_task__agent_killed_in_the_middle__leaves_no_child_and_no_snapshot(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, **SLOW)
        copying(follower, id)
        pids = [pid for pid, _ in children(follower)]
        assert pids
        follower.process.kill()
        wait(lambda: not any(procs.alive(p) for p in pids), 5, "the child has died with its agent")
        follower.process.start()
        wait(lambda: follower.api.get("/v1/task").json["task"]["state"] == "none", 20, "the agent is back")
        assert snapshots_in(where) == []
        # What is left of the permit runs out.
        done = ended(follower, begin(follower, where, within_s=45))
        assert done["state"] == "done", done
        assert snapshots_in(where) == [done["snapshot"]["id"]]
    c.wait_healthy()


@deadline(200)
def test_task__orphan_that_outlived_its_agent__is_ended_by_the_next(c):
    follower = c.followers()[0]
    with store() as where:
        begin(follower, where, **SLOW)
        pid = children(follower)[0][0]
        assert open(f"{follower.state}/task.lock").read().strip() == str(pid)
        # As if it had not been told of its agent's death: somebody who holds the lock under another agent.
        cancel(follower, task(follower)["id"])
        follower.process.kill()
        orphan = subprocess.Popen(["flock", f"{follower.state}/task.lock", "sh", "-c",
                                   "sleep 100 # snapshot "], start_new_session=True, **procs.as_postgres())
        try:
            wait(lambda: procs.descendants(orphan.pid), 5, "the lock is held")
            procs.write_file(f"{follower.state}/task.lock", f"{orphan.pid}\n")
            follower.process.start()
            wait(lambda: orphan.poll() is not None, 10, "the orphan is killed")
            assert ended(follower, begin(follower, where, within_s=45))["state"] == "done"
        finally:
            procs.send(procs.descendants(orphan.pid) + [orphan.pid], signal.SIGKILL)
            orphan.wait()
    c.wait_healthy()


@deadline(150)
def test_task__agent_stopped__is_cancelled_and_told(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, **SLOW)
        copying(follower, id)
        pids = [pid for pid, _ in children(follower)]
        follower.process.stop()
        assert not any(procs.alive(p) for p in pids)
        follower.process.start()
        wait(lambda: any(id in e["text"] and "the agent was stopped" in e["text"] for e in c.events()), 20,
             "the event log says why")
        assert snapshots_in(where) == []
    c.wait_healthy()


@deadline(150)
def test_task__postmaster_killed_in_the_middle__fails_and_says_so(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, **SLOW)
        copying(follower, id)
        follower.kill_postmaster()
        failed = ended(follower, id, 20)
        assert failed["state"] == "failed" and failed["error"]["code"] == "unavailable", failed
        assert "the server is lost" in failed["error"]["text"] or "ended early" in failed["error"]["text"], failed
        assert snapshots_in(where) == []
    c.wait_healthy()


@deadline(150)
def test_task__node_promoted_during_its_backup__fails_cleanly(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, max_rate="2MB")
        copying(follower, id)
        c.switchover(follower)
        failed = ended(follower, id, 60)
        assert failed["state"] == "failed" and failed["error"]["code"] in ("refused", "unavailable"), failed
        assert snapshots_in(where) == []
    c.wait_healthy()


@deadline(150)
def test_task__child_that_hangs__is_ended_with_its_phase_named(c):
    follower = c.followers()[0]
    with store() as where:
        id = begin(follower, where, **SLOW)
        copying(follower, id)
        procs.send([pid for pid, _ in children(follower)], signal.SIGSTOP)
        failed = ended(follower, id, 45)
        assert failed["error"]["code"] == "no_progress" and "copying" in failed["error"]["text"], failed
        wait(lambda: not children(follower), 10, "a child that does not hear SIGTERM is killed")
    c.healthy()


@deadline(150)
def test_task__store_that_fails__is_named(c):
    follower = c.followers()[0]
    with store() as where:
        procs.write_file(f"{where}", "no directory")
        failed = ended(follower, begin(follower, where))
        assert failed["state"] == "failed" and where in failed["error"]["text"], failed
        reply = follower.api.get(f"/v1/snapshots?store={where}", timeout=20)
        assert reply.status == 502 and where in reply.json["error"]["text"], reply
        reply = follower.api.get("/v1/snapshots?store=s3%2Bhttp://127.0.0.1:1/b", timeout=20)
        assert reply.status == 502 and b"credentials" in reply.body.lower(), reply


@contextlib.contextmanager
def credentials(node, path):
    """The agent reads its configuration again, which names this file now."""
    config = open(node.config).read()
    before = node.process.log_text().count('"reloaded"')
    try:
        procs.write_file(node.config, config.replace("snapshots:", f"snapshots:\n  credentials_file: {path}"))
        node.process.signal(signal.SIGHUP)
        wait(lambda: node.process.log_text().count('"reloaded"') > before, 10, "the configuration is read again")
        yield
    finally:
        procs.write_file(node.config, config)
        node.process.signal(signal.SIGHUP)


@own(**({"agent": {"snapshots": {"progress_timeout": "3min"}}} if AWAY_S > 10 else CLUSTER))
@deadline(200)
def test_task__store_away_for_a_while__goes_on_when_it_is_back(c):
    follower = c.followers()[0]
    with MinioPlace() as place, credentials(follower, place.credentials):
        id = begin(follower, place.store, max_rate="4MB")
        wait(lambda: task(follower)["stored_bytes"] > 0, 30, "something is in the store")
        place.minio.stop()
        stopped = time.monotonic()

        def away_long_enough():
            assert task(follower)["state"] == "running", task(follower)
            return time.monotonic() - stopped > AWAY_S
        wait(away_long_enough, AWAY_S + 10, "the task outlasts it")
        place.minio.start()
        done = ended(follower, id, 60)
        assert done["state"] == "done", done
        checked = ended(follower, begin(follower, place.store, "verify", snapshot=done["snapshot"]["id"]))
        assert checked["state"] == "done", checked
        listed = follower.api.get(f"/v1/snapshots?store={place.store.replace('+', '%2B')}", timeout=20)
        assert listed.status == 200 and [s["id"] for s in listed.json] == [done["snapshot"]["id"]], listed


@deadline(150)
def test_task__credentials__are_seen_nowhere(c):
    """In no command line, environment, event, answer or log of anybody; and a reload takes another file."""
    follower = c.followers()[0]
    access, secret = "AK" + secrets.token_hex(8), secrets.token_hex(20)
    path = procs.write_file(f"{follower.secrets}/store", f"{access}:{secret}\n")
    where = f"s3+http://127.0.0.1:{procs.free_port()}/bucket"
    with credentials(follower, path):
        id = begin(follower, where)
        argvs, environments = [], []

        def looked():
            for pid, argv in children(follower):
                argvs.append(argv)
                environments.append(open(f"/proc/{pid}/environ").read())
            return argvs and environments[-1]
        wait(looked, 10, "the child is seen")
        assert path in argvs[-1] and f"OGEL_STORE={where}" in environments[-1], (argvs, environments)
        cancel(follower, id)
        everything = str(argvs) + str(environments) + str(c.events()) + json.dumps(task(follower)) + \
            follower.process.log_text()
        for pid in procs.all_pids():
            with contextlib.suppress(OSError):
                everything += open(f"/proc/{pid}/cmdline").read()
        assert access not in everything and secret not in everything
        os.chmod(path, 0o644)
        failed = ended(follower, begin(follower, where))
        assert failed["error"]["code"] == "auth" and "chmod 600" in failed["error"]["text"], failed


def test_task__malformed_request__is_answered_with_the_field(c):
    follower = c.followers()[0]
    good = {"id": new_id(), "kind": "create", "store": "/srv/store"}
    for change, says in (({"id": "1"}, b"id"), ({"id": "A" * 16}, b"id"), ({"id": 5}, b"id"),
                         ({"kind": "all"}, b"kind"), ({"kind": "verify"}, b"snapshot"),
                         ({"snapshot": "x"}, b"snapshot"),
                         ({"snapshot": "20260203T040506Z-1a2b3c4d"}, b"snapshot"), ({"store": None}, b"store"),
                         ({"store": "ftp://x"}, b"store"), ({"store": "s3://key:secret@h/b"}, b"credentials"),
                         ({"store": "/" + "x" * 600}, b"store"), ({"store": "/a b"}, b"store"),
                         ({"options": {"level": 20}}, b"level"), ({"options": {"max_rate": "1kB"}}, b"max_rate"),
                         ({"options": {"parent": "../x"}}, b"parent"), ({"options": {"keep": {"daily": -1}}}, b"daily"),
                         ({"options": {"keep": {"hourly": 1}}}, b"hourly"), ({"nonsense": 1}, b"nonsense")):
        reply = follower.api.post("/v1/task", {**good, **change})
        assert reply.status == 400 and says in reply.body, (change, reply)
    assert follower.api.get("/v1/task?since=x").status == 400
    assert follower.api.get("/v1/snapshots").status == 400
    assert follower.api.call("DELETE", "/v1/task?id=x").status == 400
    assert follower.api.call("DELETE", f"/v1/task?id={new_id()}").status == 404
    read = c.secret_texts["read"]
    assert follower.api.post("/v1/task", good, token=read).status == 403
    assert follower.api.get("/v1/task", token=read).status == 200
    generation = c.generation()
    for change in ({"task": "x"}, {"node": "n9"}, {"generation": -1}, {"state": "old"}, {"more": 1}):
        body = {"task": new_id(), "node": "n1", "generation": generation, **change}
        assert c.leader().api.post("/v1/permit", body).status == 400, change
    reply = follower.api.post("/v1/permit", {"task": new_id(), "node": "n1", "generation": generation})
    assert reply.status == 409 and reply.json["reason"] == "no_leader", reply
    reply = c.leader().api.post("/v1/permit", {"task": new_id(), "node": "n1", "generation": generation - 1})
    assert reply.status == 409 and reply.json["reason"] == "generation", reply
    c.healthy()
