"""A cluster that is born of a snapshot, and a node that is cloned from one: real servers, directories as stores."""

import contextlib
import json
import os
import subprocess

import clients
import harness
import procs
from harness import deadline, own, wait

CLUSTER = {}
WEIGHT = 16
HOLD = "hold"       # a restore stops half-way where the store has a file of this name


def as_postgres(argv, check=True, **env):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=80 * procs.SLOW, cwd="/",
                          env=procs.clean_env(**env), stdin=subprocess.DEVNULL, **procs.as_postgres())
    assert not check or done.returncode == 0, f"{argv}: exit {done.returncode}: {done.stderr[-2000:]}"
    return done


def store_of(c):
    return f"{c.root}/store"


def snapshot(c, node, store=None):
    conninfo = f"host={node.state}/socket port={node.port} user={harness.SUPERUSER} dbname=postgres"
    done = as_postgres([harness.tool("ogelctl"), "snapshot", "create", "--conninfo", conninfo, "--store",
                        store or store_of(c), "-o", "json"], TMPDIR=c.root)
    return json.loads(done.stdout)


def make_store(c):
    """A directory where servers' users may make one; the store itself is made by the first snapshot."""
    procs.give(c.root)
    return store_of(c)


@contextlib.contextmanager
def another_cluster(c, **arguments):
    other = harness.Cluster(os.path.join(c.root, "other"), **arguments)
    try:
        other.bring_up()
        make_store(other)
        yield other
    finally:
        other.close(keep_files=True)


def fill(c, rows=20000):
    c.owner_sql("CREATE TABLE kept (id int PRIMARY KEY, text text)")
    c.owner_sql(f"INSERT INTO kept SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, {rows}) i")


def content(c, node):
    where = dict(database=c.database)
    return node.sql("SELECT count(*), md5(string_agg(id || text, ',' ORDER BY id)) FROM kept", **where)


def flip(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 0xff]))


def packs(store, snapshot_id):
    found = []
    for directory, _, files in os.walk(f"{store}/objects"):
        found += [f"{directory}/{f}" for f in files if f"/{snapshot_id}/pack-" in f"{directory}/{f}"]
    assert found, f"{store} has no packs of {snapshot_id}"
    return found


def reasons(c, node):
    return [e["reason"] for e in c.events() if e.get("node") == node.id]


def holding_ctl(root):
    """What agents run as ogelctl: a restore into a node stops half-way while ROOT has a file HOLD."""
    path = procs.write_file(f"{root}-ctl", f"""#!/bin/sh
if [ "$2" = restore ] && [ -e {root}/{HOLD} ]; then
    {harness.tool("ogelctl")} "$@" &
    pid=$!
    for word; do case "$word" in --target=*) target=${{word#--target=}};; esac; done
    while kill -0 $pid 2>/dev/null && [ ! -e "$target/base" ]; do :; done
    kill -STOP $pid
    touch {root}/held
    wait $pid
    exit 1
fi
exec {harness.tool("ogelctl")} "$@"
""", 0o755)
    return path


# --- a cluster ------------------------------------------------------------------------------------------


@own(start="daemons")
@deadline(240)
def test_from_snapshot__taken_under_load__is_a_cluster_of_its_own_above_its_timeline(c):
    with another_cluster(c) as old:
        fill(old)
        old.switchover()
        old.wait_healthy()
        leader = old.leader()
        leader.sql("ALTER SYSTEM SET archive_command = 'touch /nowhere/%f'")
        leader.sql("ALTER SYSTEM SET work_mem = '7MB'")
        leader.sql("CREATE ROLE ogel_x9_i4 LOGIN REPLICATION PASSWORD 'known'")     # of a node that is not here
        leader.sql("CREATE ROLE ogel_mine_i1 LOGIN")                                # somebody's, who likes the name
        leader.sql("SELECT pg_create_physical_replication_slot('of_the_old')")
        with clients.Writer(old) as writer:
            writer.wait_acks(50)
            before = set((r.writer, r.sequence) for r in writer.acknowledged())
            taken = snapshot(old, leader)       # the leader's has its slots, its auto.conf, its state
            writer.wait_acks(50)
            c.ctl("init", "--from-snapshot", taken["id"], "--store", store_of(old), "--yes", timeout=120)
            new_leader = c.wait_healthy()
            writer.wait_acks(20)                # the old one goes on, untouched
            writer.check()
        born = c.generation()
        assert 2 < taken["timeline"] < born, (taken["timeline"], born)
        assert {n["timeline"] for n in c.status()["nodes"]} == {born}
        rows = set(new_leader.sql(f"SELECT writer, sequence FROM {writer.table}", database=c.database))
        assert before <= rows, f"{len(before - rows)} rows acknowledged before the snapshot are missing"
        for n in c.nodes:
            assert content(c, n) == content(old, leader), n.id
            assert n.one("SELECT system_identifier FROM pg_control_system()") == int(taken["system_id"])
            assert n.one("SELECT count(*) FROM pg_replication_slots") == 0, n.id
            assert n.one("SHOW archive_command") in ("", "(disabled)"), n.id
            assert "of_the_old" not in os.listdir(f"{n.data}/pg_replslot")
        assert new_leader.one("SHOW work_mem") == "7MB"
        assert new_leader.streaming() == {f"ogel_{n.id}_i1_g{born}" for n in c.followers()}
        like_ours = [r[0] for r in new_leader.sql("SELECT rolname FROM pg_roles WHERE rolname ~ '^ogel_(x9|mine)_'")]
        assert like_ours == ["ogel_mine_i1"], like_ours
        for password in ("superuser", "owner"):
            user = harness.SUPERUSER if password == "superuser" else c.owner
            stale = dict(host=new_leader.host, port=new_leader.port, user=user, dbname=c.database,
                         password=old.password(password))
            try:
                harness.run_sql(stale, "SELECT 1")
            except ConnectionError as e:
                assert "password" in str(e)
            else:
                raise AssertionError(f"the old cluster's password of {user} still opens the new one")
        ids = {open(f"{n.data}/ogel_cluster_id").read() for n in c.nodes}
        assert len(ids) == 1 and ids != {open(f"{leader.data}/ogel_cluster_id").read()}

        # what it was born of is the beginning of what it has; but it might as well be the old cluster's future
        node = c.followers()[0]
        done = c.ctl("node", "reinit", node.id, "--from-snapshot", taken["id"], "--store", store_of(old), "--yes",
                     timeout=120)
        assert "could not be restored" in done.stdout, done.stdout
        assert {"C8", "C11"} <= set(reasons(c, node)), reasons(c, node)
        c.wait_healthy()

        new_leader.kill_postmaster()
        wait(lambda: c.generation() > born, 30, "a failover")
        c.wait_healthy()
        with clients.Writer(c, table="after") as after:
            after.wait_acks(50)
            after.check()
        assert c.leader().sql("SELECT count(*) FROM kept", database=c.database)[0][0] == 20000



@own(start=None)
@deadline(240)
def test_from_snapshot__killed_half_way__is_begun_again_and_counts_nothing_before(c):
    ctl = holding_ctl(c.root)
    for n in c.nodes:
        n.process.env["OGEL_CTL"] = ctl
    with another_cluster(c) as old:
        fill(old)
        taken = snapshot(old, old.followers()[0])
    hold = procs.write_file(f"{c.root}/{HOLD}", "")
    procs.give(c.root)
    c.start()
    asked = dict(first_leader="n1", from_snapshot=taken["id"], store=store_of(old))
    wait(lambda: all(n["agent"]["reachable"] for n in c.status()["nodes"]), 20, "all agents answer")
    c.command("init", asked)
    n1 = c.node("n1")
    wait(lambda: os.path.exists(f"{c.root}/held"), 30, "the restore is half-way")
    assert not os.path.exists(f"{n1.data}/global/pg_control"), "a half restored directory could be started"
    assert not c.status()["leader"]

    os.unlink(f"{c.root}/held")
    n1.process.kill()                       # the agent alone: its child's child goes on, stopped
    n1.process.start()
    wait(lambda: os.path.exists(f"{c.root}/held"), 30, "a restarted agent restores once more")
    assert not c.status()["leader"]

    os.unlink(f"{c.root}/held")
    wait(lambda: c.command("init", dict(asked, first_leader="n2")), 30, "init is begun again with another leader")
    wait(lambda: os.path.exists(f"{c.root}/held"), 30, "the other one restores")
    os.unlink(hold)
    c.node("n2").kill()                     # agent and child, as a power cut
    c.node("n2").process.start()
    leader = c.wait_healthy(60)
    assert leader.id == "n2"
    assert c.generation() == taken["timeline"] + 2, c.generation()
    assert leader.one("SELECT count(*) FROM kept", database=c.database) == 20000
    assert not [n.id for n in c.nodes if os.path.exists(f"{n.data}/ogel_restore_unfinished")]


@own(start="daemons")
@deadline(240)
def test_from_snapshot__bad_or_damaged__is_told_and_another_one_works(c):
    with another_cluster(c) as old:
        fill(old)
        bad = snapshot(old, old.followers()[0])
        good = snapshot(old, old.followers()[0], f"{old.root}/second")

    def init(id, store, check=False):
        return c.ctl("init", "--from-snapshot", id, "--store", store, "--yes", timeout=120, check=check)
    wait(lambda: all(n["agent"]["reachable"] for n in c.status()["nodes"]), 20, "all agents answer")
    done = init("20260203T040506Z-00000000", store_of(old))
    assert done.returncode != 0 and "is not there" in done.stderr, done.stderr
    done = init(good["id"], "s3://nobody.invalid/bucket")
    assert done.returncode != 0 and "cannot read that snapshot" in done.stderr, done.stderr
    assert c.status()["nodes"][0]["generation"] == 0, "a birth was begun for a snapshot that nobody can read"

    for pack in packs(store_of(old), bad["id"]):
        flip(pack)
    done = init(bad["id"], store_of(old))
    assert done.returncode == 1 and "restore failed" in done.stderr and "ogelctl init" in done.stderr, done.stderr
    assert not c.status()["leader"]

    init(good["id"], f"{old.root}/second", check=True)
    leader = c.wait_healthy()
    assert leader.one("SELECT count(*) FROM kept", database=c.database) == 20000
    assert c.generation() == max(bad["timeline"] + 1, good["timeline"]) + 1, "the second birth's generation"
    done = init(good["id"], f"{old.root}/second")
    assert done.returncode != 0, "a cluster that is born was born again"


# --- a node ---------------------------------------------------------------------------------------------


def test_reinit_from_snapshot__enough_wal__catches_up_and_then_counts(c):
    leader = c.healthy()
    store = make_store(c)
    c.owner_sql("DROP TABLE IF EXISTS kept")
    fill(c)
    node, other = c.followers()
    taken = snapshot(c, other)
    c.owner_sql("INSERT INTO kept SELECT i, 'after' FROM generate_series(30001, 31000) i")
    c.switchover(node)                          # another timeline in between
    leader, node = node, leader
    c.wait_healthy()
    refused = c.ctl("node", "reinit", node.id, "--from-snapshot", "latest", "--yes", check=False)
    assert refused.returncode != 0 and "no store of its own (snapshots.store" in refused.stderr, refused
    c.ctl("config", "set", f"snapshots.store={store}")
    procs.wait(lambda: c.status()["snapshots"], 15, "the document is read")
    with clients.Writer(c) as writer:
        writer.wait_acks(20)
        done = c.ctl("node", "reinit", node.id, "--from-snapshot", "latest", "--yes", timeout=90)
        c.ctl("config", "unset", "snapshots.store")
        assert "cloned from the leader" not in done.stdout, done.stdout
        c.wait_healthy()
        writer.wait_acks(20)
        writer.check()
    seen = reasons(c, node)
    assert "C8" in seen and "C4" not in seen[seen.index("C8"):], seen
    assert content(c, node) == content(c, leader)
    assert taken["timeline"] < c.generation()
    c.switchover(node)                          # it is as good as any other
    c.wait_healthy()


@own(document={"settings": {"wal_keep_size": "0", "max_wal_size": "64MB", "min_wal_size": "32MB"}})
@deadline(200)
def test_reinit_from_snapshot__wal_gone_or_damaged__is_cloned_from_the_leader_and_says_so(c):
    leader = c.healthy()
    store = make_store(c)
    fill(c, 2000)
    node = c.followers()[0]
    taken = snapshot(c, node)
    for _ in range(6):
        leader.sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000)); SELECT pg_switch_wal()")
        leader.sql("CHECKPOINT")
    start = int(leader.one("SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'")[8:], 16)
    assert start, "WAL was not recycled"

    def reinit():
        return c.ctl("node", "reinit", node.id, "--from-snapshot", taken["id"], "--store", store, "--yes", timeout=90)

    def gone():
        done = reinit()
        assert "no longer has the WAL" in done.stdout, done.stdout
        return True
    wait(gone, 60, "the leader's agent has seen that the WAL is gone")
    c.wait_healthy()
    assert "C10" in reasons(c, node)

    taken = snapshot(c, node)
    for pack in packs(store, taken["id"]):
        flip(pack)
    done = reinit()
    assert "could not be restored" in done.stdout, done.stdout
    c.wait_healthy()
    assert content(c, node) == content(c, leader)


@deadline(150)
def test_reinit_from_snapshot__agent_killed_half_way__is_cloned_all_the_same(c):
    leader = c.healthy()
    node = c.followers()[0]
    node.process.kill()
    node.process.env["OGEL_CTL"] = holding_ctl(node.state)
    node.process.start()
    c.wait_healthy()
    store = make_store(c)
    snapshot(c, c.followers()[1])
    hold = procs.write_file(f"{node.state}/{HOLD}", "")
    taken = json.loads(as_postgres([harness.tool("ogelctl"), "snapshot", "list", "--store", store, "-o",
                                    "json"]).stdout)[-1]
    with clients.Writer(c) as writer:
        writer.wait_acks(20)
        c.node_command(node, "reinit", {"from_snapshot": taken["id"], "store": store})
        wait(lambda: os.path.exists(f"{node.state}/held"), 30, "the restore is half-way")
        state = next(n for n in c.status()["nodes"] if n["id"] == node.id)
        assert not state["complete"], state
        assert len(leader.streaming()) == 1, "a node without data is counted"
        os.unlink(hold)
        node.kill()
        node.process.start()
        c.wait_healthy(60)
        writer.wait_acks(20)
        writer.check()
    assert "C8" in reasons(c, node)


def test_reinit_from_snapshot__of_another_system__is_refused_by_what_its_manifest_says(c):
    c.healthy()
    node = c.followers()[0]
    with another_cluster(c) as other:
        taken = snapshot(other, other.leader())
        done = c.ctl("node", "reinit", node.id, "--from-snapshot", taken["id"], "--store", store_of(other), "--yes",
                     timeout=90)
        assert "not of this leader's history" in done.stdout, done.stdout
        done = c.ctl("node", "reinit", node.id, "--from-snapshot", "latest", "--store", store_of(other), "--yes",
                     check=False)
        assert done.returncode != 0 and "no snapshot of this cluster" in done.stderr, done.stderr
    c.wait_healthy()
    seen = reasons(c, node)
    assert "C9" in seen and "C8" not in seen[seen.index("C9"):], seen
