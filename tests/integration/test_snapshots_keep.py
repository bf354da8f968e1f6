"""What is kept of snapshots of real servers: retention, pins, collection, drills; and that none of it loses a snapshot,
whoever is killed when."""

import contextlib
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import psycopg2

import harness
import procs
import snapshot_cluster_storm
import snapshot_storm
from harness import deadline, own, wait
from test_snapshots import Place, amcheck, contents, pg
from test_snapshots_minio import MinioPlace

SEED = int(os.environ.get("OGEL_TEST_SEED", random.randrange(1 << 32)))
WEIGHT = 12


def gc(place, *options):
    return json.loads(place.ctl("gc", "--grace", "1s", "-o", "json", *options).stdout)


def collect_all(place):
    """Until nothing waits any more but halves of killed puts, which do for an hour."""
    def done():
        return not [d for d in gc(place)["decisions"]
                    if d["verdict"] != "kept" and not d["what"].startswith("incoming/")]
    wait(done, 30, "all is collected")


def entry(place, snapshot):
    return next((s for s in place.list() if s["id"] == snapshot["id"]), None)


def change(server):
    server.sql("UPDATE kept SET n = n + 1 WHERE id % 200 = 0", "CHECKPOINT")


def add_noise(server):
    """28 MB that do not compress: more than a pack, so that one is stored while the rest still comes."""
    with contextlib.closing(server.connect()) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE noise (n bytea); ALTER TABLE noise ALTER n SET STORAGE EXTERNAL")
        for _ in range(28):
            cursor.execute("INSERT INTO noise VALUES (%s)", (psycopg2.Binary(os.urandom(1 << 20)),))
        cursor.execute("CHECKPOINT")


def check_life(place):
    """Snapshots are verified, pinned, expired, and what nobody needs is given back; what is left comes back."""
    source = place.server("source").copy().start()
    taken = []
    for _ in range(4):
        taken.append(place.create(source))
        change(source)
    wanted = contents(source)
    taken.append(place.create(source))
    first, second, third, fourth, last = taken
    assert [entry(place, s)["verified_ms"] for s in taken] == [None] * 5
    place.ctl("verify", third["id"])
    assert entry(place, third)["verified_ms"] > 0
    place.ctl("pin", first["id"], "--note", "before the upgrade")
    shown = place.ctl("list").stdout
    assert "before the upgrade" in shown and "VERIFIED" in shown and "DRILLED" not in shown, shown
    refused = place.ctl("delete", first["id"], "--yes", expect=1)
    assert "unpin" in refused.stderr
    keep = ("--keep-daily", "1", "--keep-weekly", "0", "--keep-monthly", "0", "--keep-least", "1")
    plan = {d["what"]: d for d in gc(place, "--dry-run", *keep)["decisions"]}
    why = {s["id"]: plan["manifests/" + s["id"]] for s in taken}
    assert why[first["id"]]["reason"] == "kept by pin operator"
    assert why[third["id"]]["reason"].startswith("newest verified of "), why
    assert why[last["id"]]["reason"] == "one of the last 1"
    assert why[second["id"]]["verdict"] == why[fourth["id"]]["verdict"] == "expired"
    assert len(place.list()) == 5, "a dry run changed something"
    assert gc(place, *keep)["expired"] == 2
    assert [s["id"] for s in place.list()] == [first["id"], third["id"], last["id"]]
    collect_all(place)
    for snapshot in (first, third, last):
        place.ctl("verify", snapshot["id"])
    place.ctl("unpin", first["id"])
    place.ctl("delete", first["id"], "--yes")
    place.ctl("delete", third["id"], "--yes")
    collect_all(place)
    restored = place.restore(last["id"], "restored")    # of five, and only it is left
    assert contents(restored) == wanted
    amcheck(restored)
    place.ctl("delete", last["id"], "--yes")
    collect_all(place)
    done = gc(place)
    assert done["snapshots"] == done["kept_objects"] == done["deleted_objects"] == 0, done


@deadline(150)
def test_keep__expired_pinned_and_deleted__leave_what_others_need_and_no_more():
    with Place() as place:
        check_life(place)
        assert not place.objects("/data/") and not place.objects("/verified/"), "something is left"


@deadline(150)
def test_minio_keep__expired_pinned_and_deleted__leave_what_others_need_and_no_more():
    with MinioPlace() as place:
        check_life(place)


def test_keep__delete_without_a_terminal__wants_yes():
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        place.ctl("delete", taken["id"], expect=2)
        assert entry(place, taken)
        assert "is not there" in place.ctl("delete", "20260203T040506Z-00000000", "--yes", expect=1).stderr
        assert "not pinned" in place.ctl("unpin", taken["id"], expect=1).stderr


def test_keep__snapshot_found_damaged__loses_its_mark_and_stops_collection_only_where_it_hides_what_is_needed():
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        place.ctl("verify", taken["id"])
        pack = place.objects("/pack-")[0]
        os.truncate(pack, os.path.getsize(pack) // 2)
        place.ctl("verify", taken["id"], expect=7)
        assert entry(place, taken)["verified_ms"] is None
        gc(place)
        os.truncate(place.objects("/files")[0], 100)
        done = place.ctl("gc", expect=7)
        assert taken["id"] in done.stderr and "nothing was collected" in done.stderr, done.stderr
        place.ctl("delete", taken["id"], "--yes")
        collect_all(place)
        assert not place.objects("/data/")


@deadline(150)
def test_keep__job_killed_in_the_middle__leaves_nothing_in_the_end():
    with Place() as place:
        source = place.server("source").copy().start()
        first = place.create(source)
        add_noise(source)
        argv = [place.tool, "snapshot", "create", "--store", place.store, "--max-rate", "4MB", "--renew", "1s",
                "--parent", "none", "--conninfo", source.conninfo]
        popen = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                 env=procs.clean_env(TMPDIR=place.root), **procs.as_postgres())
        try:
            wait(lambda: [o for o in place.objects("/pack-") if first["id"] not in o], 60, "a pack is there")
            # Longer than the grace and than a dead job is waited for: what a running one writes is no garbage.
            began = time.monotonic()
            while time.monotonic() < began + 3:
                done = gc(place)
                assert done["deleted_objects"] == done["dead_jobs"] == 0, done
            assert popen.poll() is None, f"the snapshot ended too early for this test: {popen.poll()}"
        finally:
            popen.kill()
            popen.wait()
        assert len(place.objects("/jobs/")) == 1
        wait(lambda: gc(place)["dead_jobs"] == 1, 60, "the dead job is found out")
        collect_all(place)
        assert not place.objects("/jobs/") and not place.objects("/pins/")
        assert {os.path.basename(os.path.dirname(o)) for o in place.objects("/data/")} == {first["id"]}
        place.ctl("verify", first["id"])


@deadline(120)
def test_keep__job_frozen_until_it_was_taken_for_dead__publishes_nothing_broken():
    with Place() as place:
        source = place.server("source").copy().start()
        add_noise(source)
        argv = [place.tool, "snapshot", "create", "--store", place.store, "--max-rate", "4MB", "--renew", "500ms",
                "--conninfo", source.conninfo]
        popen = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/",
                                 env=procs.clean_env(TMPDIR=place.root), **procs.as_postgres())
        try:
            wait(lambda: place.objects("/pack-"), 30, "a pack is there")
            popen.send_signal(signal.SIGSTOP)
            wait(lambda: gc(place)["dead_jobs"] == 1, 60, "the frozen job is taken for dead")
            collect_all(place)
            assert not place.objects("/pack-")
            popen.send_signal(signal.SIGCONT)
            _, said = popen.communicate(timeout=60 * procs.SLOW)
        finally:
            popen.kill()
        assert popen.returncode == 1 and "taken for dead" in said, said
        assert place.list() == []


# --- drills ------------------------------------------------------------------------------------

def drill(place, *argv, expect=0):
    scratch = procs.make_dir(f"{place.root}/d")
    done = place.ctl("drill", *argv, "--scratch", scratch, "--bindir", harness.pg_bindir(), "-o", "json", expect=expect)
    assert not procs.pids_in(f"{scratch}/x") and os.listdir(scratch) == [], os.listdir(scratch)
    return done


@deadline(150)
def test_drill__good_snapshot__is_started_checked_counted_and_marked():
    with Place() as place:
        source = place.server("source").copy().start()
        space = procs.make_dir(f"{place.root}/space")
        source.sql(f"CREATE TABLESPACE apart LOCATION '{space}'", "CREATE TABLE elsewhere (i int) TABLESPACE apart",
                   "INSERT INTO elsewhere SELECT generate_series(1, 1000)", "CREATE DATABASE other",
                   "ALTER SYSTEM SET archive_command = 'touch /nowhere'", "ALTER SYSTEM SET listen_addresses = '*'")
        with open(f"{source.data}/postgresql.conf", "a") as f:
            f.write("max_prepared_transactions = 50\n")     # a server that allows fewer would not start
        source.stop()
        source.start().sql("BEGIN", "INSERT INTO elsewhere VALUES (0)", "PREPARE TRANSACTION 'left'")
        old, taken = place.create(source), place.create(source)
        rows = source.value("SELECT count(*) FROM kept")
        done = json.loads(drill(place).stdout)
        assert done["id"] == taken["id"], "not the newest"
        tables = {(t["database"], t["table"]): t["rows"] for t in done["tables"]}
        assert tables == {("postgres", "public.kept"): rows, ("postgres", "public.elsewhere"): 1000}, tables
        assert entry(place, taken)["drilled_ms"] > 0 and entry(place, taken)["verified_ms"] > 0
        assert entry(place, old)["drilled_ms"] is None
        assert not place.objects("/jobs/") and not place.objects("/pins/")
        assert os.listdir(space), "the drill touched the tablespace of the source"
        if os.geteuid() == 0:
            refused = subprocess.run([place.tool, "snapshot", "drill", "--store", place.store], capture_output=True,
                                     text=True, cwd="/")
            assert refused.returncode == 1 and "root" in refused.stderr, refused.stderr


@deadline(150)
def test_drill__broken_index__is_found_and_takes_the_marks_away():
    with Place() as place:
        source = place.server("source").copy().start()
        # An index whose order is another one now: every page is what was written, and it is wrong all the same.
        mycmp = ("CREATE OR REPLACE FUNCTION mycmp(int, int) RETURNS int IMMUTABLE LANGUAGE sql"
                 " AS 'SELECT btint4cmp(${})'")
        source.sql(mycmp.format("1, $2"),
                   "CREATE OPERATOR CLASS mine_ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=,"
                   " OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 mycmp(int, int)",
                   "CREATE INDEX broken ON kept (id mine_ops)", mycmp.format("2, $1"))
        taken = place.create(source)
        place.ctl("verify", taken["id"])
        done = drill(place, taken["id"], expect=7)
        assert "pg_amcheck found damage" in done.stderr and "broken" in done.stderr, done.stderr
        assert entry(place, taken)["drilled_ms"] is None and entry(place, taken)["verified_ms"] is None


@deadline(150)
def test_drill__killed__leaves_no_server_and_the_next_one_cleans_up():
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        scratch = procs.make_dir(f"{place.root}/d")
        argv = [place.tool, "snapshot", "drill", "--store", place.store, "--scratch", scratch, "--bindir",
                harness.pg_bindir()]
        popen = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                                 env=procs.clean_env(TMPDIR=place.root), **procs.as_postgres())
        try:
            wait(lambda: glob.glob(f"{scratch}/*/data/postmaster.pid"), 60, "the server starts")
            data = glob.glob(f"{scratch}/*/data")[0]
            assert procs.pids_in(data)
        finally:
            popen.kill()
            popen.wait()
        wait(lambda: not procs.pids_in(data), 20, "the server ends with the drill")
        assert os.path.isdir(data)
        drill(place, taken["id"])
        shutil.rmtree(scratch)


def test_drill__what_cannot_be_tried__is_refused_and_says_how():
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        place.ctl("verify", taken["id"])
        assert "--bindir" in place.ctl("drill", "--bindir", "/usr", "--scratch", f"{place.root}/d", expect=1).stderr
        assert "--user" in drill(place, "--user", "nobody_of_that_name", expect=1).stderr
        assert "too long" in place.ctl("drill", "--scratch", f"{place.root}/{'long' * 30}", expect=1).stderr
        assert entry(place, taken)["verified_ms"], "a drill that could not be tried took the mark away"


# --- all at once -------------------------------------------------------------------------------

@deadline(240)
def test_keep__storm_of_jobs_killed_and_frozen_at_random__every_listed_snapshot_comes_back():
    with Place() as place:
        print(f"seed {SEED}")
        counts = snapshot_storm.storm(place, 12, SEED)
        assert counts["expired"] and counts["objects_deleted"] and counts["collections"], counts


@deadline(240)
def test_minio_keep__storm_of_jobs_and_store_killed_at_random__every_listed_snapshot_comes_back():
    with MinioPlace() as place:
        print(f"seed {SEED}")
        counts = snapshot_storm.storm(place, 6, SEED)
        assert counts["collections"], counts


@own(orchestrators=2, start=None)
@deadline(300)
def test_minio_keep__storm_on_a_cluster__every_listed_snapshot_comes_back(c):
    print(f"seed {SEED}")
    counts = snapshot_cluster_storm.storm(c, 5, SEED)
    assert counts["restored_and_whole_at_the_end"] and counts["rows_acknowledged"] > 100, counts


def test_keep__two_collectors_in_a_loop_while_snapshots_and_restores_run__lose_nothing():
    with Place() as place:
        source = place.server("source").copy().start()
        stopping, failures = threading.Event(), []

        def loop():
            while not stopping.is_set():
                try:
                    gc(place, "--keep-daily", "1", "--keep-least", "2")
                except AssertionError as e:
                    failures.append(e)
                    return
        collectors = [threading.Thread(target=loop) for _ in range(2)]
        for thread in collectors:
            thread.start()
        try:
            for i in range(3):
                change(source)
                taken = place.create(source)
                target = f"{place.root}/target-{i}"
                place.ctl("restore", taken["id"], "--target", target)
                pg("pg_verifybackup", target)
                shutil.rmtree(target)
        finally:
            stopping.set()
            for thread in collectors:
                thread.join()
        assert not failures, failures
        for snapshot in place.list():
            place.ctl("verify", snapshot["id"])
