"""Snapshots of a real server into a real MinIO, where there is one (build-aux/minio --build makes one)."""

import contextlib
import glob
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

import yaml

import harness
import procs
import s3proxy
from harness import deadline, own, wait
from test_snapshots import Place, Writers, contents, lsn, run, small_disk

BUCKET = "snapshots"
MINIO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build-aux", "minio")
WEIGHT = 9


class Minio:
    """On loopback, with credentials and a data directory of its own. `certificates`: where public.crt and private.key
    are, for TLS."""

    def __init__(self, root, certificates=None, data=None):
        found = subprocess.run([MINIO], capture_output=True, text=True)
        if found.returncode:
            raise harness.Skip("there is no minio (build-aux/minio --build)")
        self.root, self.port = root, procs.free_port()
        self.access, self.secret = "ogel-test", os.urandom(16).hex()
        self.data = data or procs.make_dir(f"{root}/minio")
        procs.make_dir(f"{self.data}/{BUCKET}")     # a bucket is a directory there
        program = shutil.copy(found.stdout.strip(), root)
        self.tls = certificates is not None
        argv = [program, "server", self.data, "--address", f"127.0.0.1:{self.port}", "--console-address",
                f"127.0.0.1:{procs.free_port()}", "--quiet"]
        self.process = procs.Process(
            "minio", argv + ["--certs-dir", certificates] * self.tls, f"{root}/minio.log",
            env=procs.clean_env(MINIO_ROOT_USER=self.access, MINIO_ROOT_PASSWORD=self.secret, HOME=root,
                                MINIO_UPDATE="off"))

    def start(self):
        self.process.start()

        def live():
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                url = f"http{'s' * self.tls}://127.0.0.1:{self.port}/minio/health/ready"
                trusting = ssl._create_unverified_context() if self.tls else None
                return urllib.request.urlopen(url, timeout=2, context=trusting).status == 200
            return False
        wait(live, 30, "minio answers")
        return self

    def stop(self):
        self.process.kill()


class MinioPlace(Place):
    """A place whose store is a bucket."""

    def data(self):
        """Where the objects lie; None: in a directory as any other."""

    def __enter__(self):
        super().__enter__()
        try:
            self.minio = Minio(self.root, data=self.data()).start()
        except BaseException:
            super().__exit__()
            raise
        self.store = f"s3+http://127.0.0.1:{self.minio.port}/{BUCKET}/main"
        self.credentials = procs.write_file(f"{self.root}/credentials", f"{self.minio.access}:{self.minio.secret}\n")
        return self

    def __exit__(self, *_):
        self.minio.stop()
        super().__exit__()

    def ctl(self, *argv, expect=0):
        return super().ctl(*argv, "--store-credentials", self.credentials, expect=expect)


def test_minio__snapshots_under_load__are_incremental_and_come_back():
    with MinioPlace() as place:
        source = place.server("source").copy().start()
        with Writers(source) as writers:
            first = place.create(source)
            second = place.create(source)
        assert second["parent"] == first["id"] and second["stored_bytes"] < first["stored_bytes"] / 2
        assert [s["id"] for s in place.list()] == [first["id"], second["id"]]
        place.ctl("verify", first["id"])
        restored = place.restore(second["id"], "restored")
        must = {(w, s) for w, s, at in writers.acknowledged if at <= lsn(second["stop_lsn"])}
        assert not must - set(restored.sql("SELECT writer, sequence FROM written"))
        assert contents(restored) == contents(source)


def test_minio__killed_in_the_middle_and_started_again__is_waited_for():
    with MinioPlace() as place:
        source = place.server("source").copy().start()
        came_back = []

        def kill_and_start():
            wait(lambda: source.value("SELECT count(*) FROM pg_stat_progress_basebackup WHERE"
                                      " backup_streamed > 4000000"), 20, "the backup is under way")
            place.minio.stop()
            time.sleep(2)       # how long it is away: the fault itself
            place.minio.start()
            came_back.append(True)
        killer = threading.Thread(target=kill_and_start)
        killer.start()
        done = place.ctl("create", "--conninfo", source.conninfo, "-o", "json", "--max-rate", "16MB")
        killer.join()
        assert came_back
        taken = json.loads(done.stdout)
        place.ctl("verify", taken["id"])
        assert contents(place.restore(taken["id"], "restored")) == contents(source)


@deadline(180)
def test_minio__behind_a_proxy_that_fails_every_third_request__loses_nothing():
    with MinioPlace() as place, s3proxy.Proxy("127.0.0.1", place.minio.port) as proxy:
        source = place.server("source").copy().start()
        straight, faulty = place.store, place.store.replace(str(place.minio.port), str(proxy.port))
        place.store = faulty
        taken = place.create(source)
        again = place.create(source)
        place.ctl("verify", taken["id"])
        restored = place.restore(again["id"], "restored")
        assert contents(restored) == contents(source)
        assert set(proxy.done) == set(s3proxy.FAULTS), proxy.done
        for _ in s3proxy.FAULTS:        # what came at the second try is not damaged
            assert [s["id"] for s in place.list() if "damage" not in s] == [taken["id"], again["id"]]
        place.store = straight
        assert [s["id"] for s in place.list()] == [taken["id"], again["id"]]
        place.ctl("verify", again["id"])


def test_minio__wrong_credentials_and_missing_bucket__are_named():
    with MinioPlace() as place:
        source = place.server("source").copy().start()
        procs.write_file(place.credentials, f"{place.minio.access}:wrong\n")
        done = place.ctl("create", "--conninfo", source.conninfo, expect=8)
        assert "secret key" in done.stderr and "wrong" not in done.stderr, done.stderr
        procs.write_file(place.credentials, f"{place.minio.access}:{place.minio.secret}\n")
        place.store = place.store.replace(BUCKET, "nobodys")
        done = place.ctl("create", "--conninfo", source.conninfo, expect=1)
        assert "bucket" in done.stderr and place.minio.secret not in done.stderr, done.stderr


def give_credentials(cluster, place):
    """Each agent a file of its own."""
    for n in cluster.nodes:
        path = procs.write_file(f"{n.secrets}/store", f"{place.minio.access}:{place.minio.secret}\n")
        with open(n.config) as f:
            config = yaml.safe_load(f)
        config["snapshots"] = {"credentials_file": path, "jobs": 2, "temporary_directory": place.root}
        procs.write_file(n.config, yaml.safe_dump(config))


@own(start=None)
@deadline(200)
def test_minio__node_and_cluster__come_from_it_with_the_agents_own_credentials(c):
    with MinioPlace() as place:
        give_credentials(c, place)
        c.start()
        c.init()
        leader = c.wait_healthy(45)
        c.owner_sql("CREATE TABLE kept AS SELECT i FROM generate_series(1, 1000) i")
        node, other = c.followers()
        conninfo = f"host={other.state}/socket port={other.port} user={harness.SUPERUSER} dbname=postgres"
        taken = json.loads(place.ctl("create", "--conninfo", conninfo, "-o", "json").stdout)
        c.ctl("node", "reinit", node.id, "--from-snapshot", "latest", "--store", place.store, "--yes", timeout=90)
        c.wait_healthy()
        assert "C8" in [e["reason"] for e in c.events() if e.get("node") == node.id]
        for n in c.nodes:
            assert place.minio.secret not in n.process.log_text(), n.id

        for n in c.nodes:
            n.destroy()                     # and the disks with them: everything from nothing
        for n in c.nodes:
            n.process.start()
        wait(lambda: all(n["agent"]["reachable"] and not n["generation"] for n in c.status()["nodes"]), 20,
             "three empty machines answer")
        c.ctl("init", "--from-snapshot", taken["id"], "--store", place.store, "--yes", timeout=90)
        leader = c.wait_healthy()
        assert leader.one("SELECT count(*) FROM kept", database=c.database) == 1000
        assert c.generation() > taken["timeline"]


class FullPlace(MinioPlace):
    """One whose disk is too small for a snapshot."""

    def data(self):
        self.disk = contextlib.ExitStack()
        return self.disk.enter_context(small_disk(f"{self.root}/disk", 16 << 20))

    def __exit__(self, *_):
        self.minio.stop()
        self.disk.close()
        super().__exit__()


def test_minio__full_store__is_named_and_leaves_no_snapshot():
    with FullPlace() as place:
        source = place.server("source").copy().start()
        done = place.ctl("create", "--conninfo", source.conninfo, expect=9)
        assert "the store is full" in done.stderr, done.stderr
        assert place.list() == []


def test_minio__clock_an_hour_off__is_named_and_nothing_is_written():
    library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not library:
        raise harness.Skip("there is no faketime")
    with MinioPlace() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        before = {path: os.stat(path).st_mtime_ns for path in stored(place)}
        for offset in ("+1h", "-1h"):
            for verb in (("create", "--conninfo", source.conninfo), ("list",), ("verify", taken["id"])):
                done = run(place.tool, "snapshot", *verb, "--store-credentials", place.credentials, expect=8,
                           OGEL_STORE=place.store, TMPDIR=place.root, LD_PRELOAD=library[0], FAKETIME=offset,
                           FAKETIME_DONT_FAKE_MONOTONIC="1")
                assert "clock" in done.stderr, done.stderr
        assert {path: os.stat(path).st_mtime_ns for path in stored(place)} == before
        assert [s["id"] for s in place.list()] == [taken["id"]]


def stored(place):
    """What MinIO has in the bucket, as files."""
    return [f"{directory}/{name}" for directory, _, names in os.walk(f"{place.minio.data}/{BUCKET}") for name in names]
