"""Snapshots of real servers into a directory: taken under load, incremental, verified, restored, started, compared; and
what happens to those who damage, kill or stop something. No cluster and no orchestrator: the commands need none."""

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

import psycopg2

import harness
import procs
import clients
from harness import deadline, own, wait

ROW_BYTES = 400         # of what does not compress
PAGES = 2000            # about; 16 MB: 125 slices
WEIGHT = 9


def run(*argv, expect=0, **env):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=80 * procs.SLOW, cwd="/",
                          env=procs.clean_env(**env), stdin=subprocess.DEVNULL, **procs.as_postgres())
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"exit {done.returncode}, not {expect}: {' '.join(map(str, argv))}\n{done.stderr[-2000:]}")
    return done


def pg(program, *argv, **options):
    return run(f"{harness.pg_bindir()}/{program}", *argv, **options)


class Server:
    """A PostgreSQL of its own, on a socket in its directory."""

    def __init__(self, root, name):
        self.root, self.data, self.name = root, f"{root}/{name}", name
        self.socket, self.options = procs.make_dir(f"{root}/{name}.s"), ""
        self.log = f"{root}/{name}.log"

    def initdb(self):
        pg("initdb", "-D", self.data, "-U", "postgres", "-k", "--no-sync", "-A", "trust", "--wal-segsize=1")
        with open(f"{self.data}/postgresql.conf", "a") as f:
            f.write("fsync = off\nmax_wal_size = 64MB\nfull_page_writes = on\ncluster_name = 'snapped'\n")
        return self

    def copy(self):
        """One that is initialised and filled already; all copies are the same system."""
        run("cp", "-a", template(), self.data)
        return self

    def start(self):
        pg("pg_ctl", "-D", self.data, "-l", self.log, "-w", "start",
           "-o", f"-c listen_addresses='' -c unix_socket_directories='{self.socket}' {self.options}")
        return self

    def stop(self, mode="fast"):
        pg("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop", expect=None)

    @property
    def conninfo(self):
        return f"host={self.socket} user=postgres dbname=postgres"

    def connect(self, **where):
        conn = psycopg2.connect(**{**psycopg2.extensions.parse_dsn(self.conninfo), **where})
        conn.autocommit = True
        return conn

    def sql(self, *statements, **where):
        with contextlib.closing(self.connect(**where)) as conn, conn.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def value(self, statement):
        return self.sql(statement)[0][0]


class Place:
    """A directory for a test, with a store in it; servers made here are stopped at the end."""

    def __enter__(self):
        self.root = tempfile.mkdtemp(prefix="ogel-snap-")
        os.chmod(self.root, 0o755)
        procs.give(self.root)
        self.store, self.servers = f"{self.root}/store", []
        self.tool = shutil.copy(harness.tool("ogelctl"), self.root)
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop("immediate")
        shutil.rmtree(self.root, ignore_errors=True)

    def server(self, name):
        self.servers.append(Server(self.root, name))
        return self.servers[-1]

    def ctl(self, *argv, expect=0):
        return run(self.tool, "snapshot", *argv, expect=expect, OGEL_STORE=self.store, TMPDIR=self.root)

    def create(self, server, *options):
        return json.loads(self.ctl("create", "--conninfo", server.conninfo, "-o", "json", *options).stdout)

    def list(self):
        return json.loads(self.ctl("list", "-o", "json", expect=None).stdout)

    def restore(self, snapshot, name, *options):
        """Restored, checked as pg_verifybackup does it, and running."""
        server = self.server(name)
        self.ctl("restore", snapshot, "--target", server.data, *options)
        pg("pg_verifybackup", server.data)
        return server.start()

    def objects(self, part):
        found = []
        for directory, _, files in os.walk(f"{self.store}/objects"):
            found += [f"{directory}/{f}" for f in files if part in f"{directory}/{f}"]
        return sorted(found)


def fill(server):
    """A table whose rows do not compress, and whose pages are known."""
    server.sql("CREATE EXTENSION amcheck",
               "CREATE TABLE kept (id int, n int, noise text) WITH (fillfactor = 80)",
               "INSERT INTO kept SELECT i, 0, (SELECT string_agg(md5(i::text || j), '') FROM"
               f" generate_series(1, {ROW_BYTES // 32}) j) FROM generate_series(1, {PAGES * 14}) i",
               "VACUUM ANALYZE kept", "CHECKPOINT")


@functools.cache
def template():
    root = tempfile.mkdtemp(prefix="ogel-snap-")
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    os.chmod(root, 0o755)
    procs.give(root)
    server = Server(root, "template").initdb().start()
    try:
        fill(server)
    finally:
        server.stop()
    return server.data


def contents(server, table="kept"):
    return server.value(f"SELECT md5(string_agg(id || ':' || n || ':' || noise, ',' ORDER BY id)) FROM {table}")


def amcheck(server):
    pg("pg_amcheck", "-h", server.socket, "-U", "postgres", "-d", "postgres", "--install-missing")


class Writers:
    """Threads that commit rows, and remember where in the WAL each commit was when it was acknowledged."""

    def __init__(self, server, count=3):
        self.acknowledged, self.stopping = [], threading.Event()
        server.sql("CREATE TABLE written (writer int, sequence bigint)")
        self.threads = [threading.Thread(target=self.write, args=(server, i), daemon=True) for i in range(count)]

    def write(self, server, writer):
        with contextlib.closing(server.connect()) as conn, conn.cursor() as cursor:
            sequence = 0
            while not self.stopping.is_set():
                cursor.execute("INSERT INTO written VALUES (%s, %s)", (writer, sequence))
                cursor.execute("SELECT pg_current_wal_flush_lsn() - '0/0'")
                self.acknowledged.append((writer, sequence, int(cursor.fetchone()[0])))
                sequence += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait(lambda: len(self.acknowledged) > 50, 20, "rows are written")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_snapshot__under_write_load__restores_every_row_acknowledged_before_its_stop():
    with Place() as place:
        source = place.server("source").copy().start()
        space = procs.make_dir(f"{place.root}/space")
        source.sql(f"CREATE TABLESPACE apart LOCATION '{space}'",
                   "CREATE TABLE elsewhere TABLESPACE apart AS SELECT i AS id, i AS n, md5(i::text) AS noise"
                   " FROM generate_series(1, 50000) i")
        with Writers(source) as writers:
            before = len(writers.acknowledged)
            taken = place.create(source)
            wait(lambda: lsn(taken["stop_lsn"]) < writers.acknowledged[-1][2], 20, "writing goes on")
        assert len(writers.acknowledged) > before
        place.ctl("verify", taken["id"])
        restored = place.restore(taken["id"], "restored", "--tablespace-mapping", f"{space}={place.root}/moved")
        must = {(w, s) for w, s, at in writers.acknowledged if at <= lsn(taken["stop_lsn"])}
        has = set(restored.sql("SELECT writer, sequence FROM written"))
        assert len(must) > 50 and not must - has, f"{len(must - has)} acknowledged rows are missing"
        assert contents(restored) == contents(source)
        assert contents(restored, "elsewhere") == contents(source, "elsewhere")
        assert restored.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'apart'") == \
            f"{place.root}/moved"
        assert not restored.value("SELECT pg_is_in_recovery()")
        amcheck(restored)


def test_snapshot__after_one_percent_of_pages_changed__stores_a_fifth_at_most():
    with Place() as place:
        source = place.server("source").copy().start()
        first, first_contents = place.create(source), contents(source)
        assert first["parent"] == "" and first["reused_slices"] == 0
        source.sql("UPDATE kept SET n = n + 1 WHERE id IN (SELECT min(id) FROM kept"
                   " GROUP BY (ctid::text::point)[0]::int / 100)")
        second_contents = contents(source)  # reading leaves hint bits on the changed pages: before the snapshot
        source.sql("CHECKPOINT")
        second = place.create(source)
        assert second["parent"] == first["id"]
        assert 0 < second["stored_bytes"] <= 0.2 * first["stored_bytes"], (first, second)
        third = place.create(source)
        assert third["parent"] == second["id"] and third["stored_bytes"] < 0.02 * first["stored_bytes"], third
        full = place.create(source, "--parent", "none")
        assert full["reused_slices"] == 0 and full["stored_bytes"] > 0.9 * first["stored_bytes"]
        assert [s["id"] for s in place.list()] == [s["id"] for s in (first, second, third, full)]
        assert not place.objects("/pins/"), "pins are left"
        # The third one refers to both before it.
        for snapshot, expected in ((first, first_contents), (third, second_contents)):
            restored = place.restore(snapshot["id"], snapshot["id"])
            assert contents(restored) == expected
            restored.stop("immediate")


def test_snapshot__of_a_standby__starts_on_its_own():
    with Place() as place:
        source = place.server("source").copy().start()
        standby = place.server("standby")
        pg("pg_basebackup", "-D", standby.data, "-R", "-c", "fast", "--no-sync", "-d", source.conninfo)
        standby.start()
        with Writers(source) as writers:
            taken = place.create(standby)
        restored = place.restore(taken["id"], "restored")
        must = {(w, s) for w, s, at in writers.acknowledged if at <= lsn(taken["start_lsn"])}
        assert not must - set(restored.sql("SELECT writer, sequence FROM written"))
        assert contents(restored) == contents(source)
        assert not restored.value("SELECT pg_is_in_recovery()")


@own()
@deadline(120)
def test_snapshot__of_a_clusters_follower__disturbs_nobody_and_comes_back(c):
    follower = c.followers()[0]
    with Place() as place, clients.Writer(c) as writer:
        conninfo = f"host={follower.state}/socket port={follower.port} user={harness.SUPERUSER}"
        taken = json.loads(place.ctl("create", "--conninfo", conninfo, "-o", "json").stdout)
        again = json.loads(place.ctl("create", "--conninfo", conninfo, "-o", "json").stdout)
        assert taken["timeline"] == c.generation() and again["parent"] == taken["id"]
        place.ctl("verify", again["id"])
        server = place.server("restored")
        place.ctl("restore", again["id"], "--target", server.data)
        pg("pg_verifybackup", server.data)
        writer.check()
        c.wait_healthy()
        assert c.generation() == taken["timeline"], "the cluster failed over"


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of so many bytes, for the servers' user."""
    if os.geteuid() != 0:
        raise harness.Skip("needs root, to mount a small disk")
    os.mkdir(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_snapshot__full_disk__is_named_and_leaves_nothing_to_start_from():
    with Place() as place, small_disk(f"{place.root}/disk", 6 << 20) as disk:
        source = place.server("source").copy().start()
        good, place.store = place.store, f"{disk}/store"
        done = place.ctl("create", "--conninfo", source.conninfo, expect=9)
        assert "No space left" in done.stderr, done.stderr
        assert place.list() == []
        place.store = good
        taken = place.create(source)
        shutil.rmtree(f"{disk}/store")
        done = place.ctl("restore", taken["id"], "--target", f"{disk}/target", expect=9)
        assert "MB free" in done.stderr, done.stderr
        shutil.rmtree(f"{disk}/target", ignore_errors=True)
        # With tablespaces it is not known beforehand where the space is needed.
        space = procs.make_dir(f"{place.root}/space")
        source.sql(f"CREATE TABLESPACE apart LOCATION '{space}'")
        taken = place.create(source)
        done = place.ctl("restore", taken["id"], "--target", f"{disk}/target", "--tablespace-mapping",
                         f"{space}={place.root}/moved", expect=9)
        assert "No space left" in done.stderr, done.stderr
        assert os.path.exists(f"{disk}/target/ogel_restore_unfinished")
        assert not os.path.exists(f"{disk}/target/global/pg_control")


def flip(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 1]))


def test_snapshot__damaged_in_any_part__is_told_and_never_starts():
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        parts = {"pack": place.objects("/pack-")[0], "map": place.objects("/map-")[0],
                 "table": place.objects("/files")[0], "manifest": place.objects("/manifests/")[0]}
        hows = {"pack": ("flip", "cut", "missing"), "map": ("flip", "missing"), "table": ("flip",),
                "manifest": ("flip", "missing")}
        for what, path in parts.items():
            saved = open(path, "rb").read()
            for how in hows[what]:
                if how == "flip":
                    flip(path)
                elif how == "cut":
                    os.truncate(path, len(saved) - 1)
                else:
                    os.unlink(path)
                expect = 1 if (what, how) == ("manifest", "missing") else 7
                for verb, more in (("verify", ()), ("restore", ("--target", f"{place.root}/target"))):
                    done = place.ctl(verb, taken["id"], *more, expect=expect)
                    assert taken["id"] in done.stderr, f"{what}, {how}: {done.stderr}"
                assert not os.path.exists(f"{place.root}/target/global/pg_control")
                shutil.rmtree(f"{place.root}/target", ignore_errors=True)
                procs.write_file(path, "")
                with open(path, "wb") as f:
                    f.write(saved)
        # One that is damaged is no parent: the next one stands on its own.
        flip(parts["manifest"])
        assert "damage" in place.list()[0]
        again = place.create(source)
        assert again["parent"] == "" and again["reused_slices"] == 0
        place.ctl("verify", again["id"])


def test_snapshot__with_a_damaged_parent__is_whole_all_the_same():
    with Place() as place:
        source = place.server("source").copy().start()
        for damage in ("map flipped", "table flipped", "table missing", "pack cut", "pack missing"):
            place.create(source, "--parent", "none")
            what, how = damage.split()
            if how == "flipped":
                flip(place.objects({"map": "/map-", "table": "/files"}[what])[0])
            elif damage == "table missing":
                os.unlink(place.objects("/files")[0])
            else:
                pack = max(place.objects("/pack-"), key=os.path.getmtime)
                os.truncate(pack, os.path.getsize(pack) // 2) if damage == "pack cut" else os.unlink(pack)
            done = place.ctl("create", "--conninfo", source.conninfo, "-o", "json")
            assert "parent is damaged" in done.stderr, f"{damage}: {done.stderr}"
            place.ctl("verify", json.loads(done.stdout)["id"])
            shutil.rmtree(place.store)


@deadline(120)
def test_snapshot__interrupted__leaves_none_and_the_next_one_works():
    with Place() as place:
        source = place.server("source").copy().start()
        argv = [place.tool, "snapshot", "create", "--store", place.store, "--max-rate", "4MB", "--level", "1"]
        for victim in ("program", "server"):
            popen = subprocess.Popen(argv + ["--conninfo", source.conninfo], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True, env=procs.clean_env(TMPDIR=place.root), cwd="/",
                                     **procs.as_postgres())
            try:
                wait(lambda: source.value("SELECT count(*) FROM pg_stat_progress_basebackup WHERE"
                                          " backup_streamed > 2000000"), 20, "the backup is under way")
                if victim == "program":
                    popen.send_signal(signal.SIGKILL)
                else:
                    source.stop("immediate")
                _, said = popen.communicate(timeout=30 * procs.SLOW)
            finally:
                popen.kill()
            assert popen.returncode == (-9 if victim == "program" else 8), said
            assert place.list() == []
        source.start()
        place.ctl("verify", place.create(source)["id"])


def test_snapshot__of_a_server_with_a_damaged_page__is_refused_and_names_the_file():
    with Place() as place:
        source = place.server("source").copy().start()
        path = source.value("SELECT pg_relation_filepath('kept')")
        source.stop()
        flip(f"{source.data}/{path}")
        source.start()
        done = place.ctl("create", "--conninfo", source.conninfo, expect=1)
        assert path in done.stderr and "WARNING" not in done.stderr.split("ogelctl:")[0], done.stderr
        assert place.list() == []


def test_snapshot__beside_a_parent__of_a_server_with_a_damaged_page__is_refused_and_names_the_file():
    """What the parent has is not checked by the server again, nor what it has not; so these look themselves."""
    with Place() as place:
        source = place.server("source").copy().start()
        taken = place.create(source)
        path = source.value("SELECT pg_relation_filepath('kept')")
        source.stop()
        flip(f"{source.data}/{path}")
        source.start()
        done = place.ctl("create", "--conninfo", source.conninfo, expect=1)
        assert "snapshot_taken_anew" in done.stderr and "page " in done.stderr, done.stderr
        assert path in done.stderr.split("ogelctl:")[1], done.stderr
        assert [s["id"] for s in place.list()] == [taken["id"]]


def test_snapshot__beside_a_parent__page_that_the_server_left_out_there__is_checked():
    """What was written after the parent's start counts as mended by WAL there, so nobody has checked it. A slice at a
    file's beginning goes another way than one at its end, where the pack is known to be there."""
    for at_end in (False, True):
        with Place() as place:
            source = place.server("source").copy().start()
            path = f"{source.data}/" + source.value("SELECT pg_relation_filepath('kept')")
            later = source.value("SELECT pg_current_wal_lsn() - '0/0' + 8 * 1024 * 1024")
            source.stop()
            page = os.path.getsize(path) // 8192 - 1 if at_end else 0
            with open(path, "r+b") as f:
                f.seek(page * 8192)
                f.write(struct.pack("II", int(later) >> 32, int(later) & 0xFFFFFFFF))
            source.start()
            taken = place.create(source)
            for _ in range(12):         # segments are 1 MB here
                source.sql("SELECT txid_current()", "SELECT pg_switch_wal()")
            done = place.ctl("create", "--conninfo", source.conninfo, expect=1)
            assert "snapshot_taken_anew" in done.stderr and f"page {page} of" in done.stderr, done.stderr
            assert [s["id"] for s in place.list()] == [taken["id"]]


def test_snapshot__beside_a_parent__of_files_that_grew_and_shrank__is_whole():
    """Whatever follows a run of the parent's slices: a new one, one that became zeroes, the end."""
    with Place() as place:
        source = place.server("source").copy().start()
        source.sql(*(f"CREATE TABLE {t} AS SELECT id + 100000 * g AS id, n, noise FROM kept, generate_series(1, 4) g"
                     for t in ("grown", "shrunk", "emptied")), "VACUUM (FREEZE) grown, shrunk, emptied", "CHECKPOINT")
        path = f"{source.data}/" + source.value("SELECT pg_relation_filepath('emptied')")
        assert os.path.getsize(path) > 100 * 128 * 1024, "slices have no tags"
        place.create(source)
        source.sql("INSERT INTO grown SELECT id + 1000000, n, noise FROM kept LIMIT 20000",
                   "DELETE FROM shrunk WHERE ctid > (SELECT format('(%s,1)', max((ctid::text::point)[0])::int / 2)::tid"
                   " FROM shrunk)", "VACUUM shrunk", "CHECKPOINT")

        def write_slices(data):
            """Some of the file's; returns what they were."""
            source.stop()
            with open(path, "r+b") as f:
                f.seek(50 * 128 * 1024)
                before = f.read(len(data))
                f.seek(50 * 128 * 1024)
                f.write(data)
            source.start()
            return before

        def look(server):
            return [contents(server, t) for t in ("kept", "grown", "shrunk", "emptied")]

        before = write_slices(bytes(3 * 128 * 1024))    # pages that were never initialised have no checksum
        expected, second = look(source), place.create(source)
        write_slices(before)
        filled, third = look(source), place.create(source)
        assert filled[-1] != expected[-1] and filled[:-1] == expected[:-1]
        for taken, what in ((second, expected), (third, filled)):
            assert taken["parent"] and taken["reused_slices"] > 300, taken
            restored = place.restore(taken["id"], taken["id"])
            assert look(restored) == what
            restored.stop()
        assert second["zero_slices"] >= 3 + third["zero_slices"], (second, third)


def test_snapshot__beside_a_parent__pages_are_checked_where_they_changed():
    """Every kind of file, and none of them is taken anew: the checksums are as the server computes them."""
    with Place() as place:
        source = place.server("source").copy().start()
        place.create(source)
        source.sql("UPDATE kept SET n = n + 1", "CREATE INDEX ON kept (n)", "VACUUM kept",
                   "CREATE TABLE more AS SELECT * FROM kept", "CREATE UNLOGGED TABLE unlogged AS SELECT 1")
        done = place.ctl("create", "--conninfo", source.conninfo, "-o", "json")
        assert "snapshot_taken_anew" not in done.stderr, done.stderr
        taken = json.loads(done.stdout)
        assert taken["parent"] and taken["slices"] - taken["reused_slices"] - taken["zero_slices"] > 100, taken
        restored = place.restore(taken["id"], "restored")
        assert contents(restored) == contents(source)


def test_snapshot__refusals__say_what_is_wrong():
    with Place() as place:
        source, other = place.server("source").copy().start(), place.server("other").initdb().start()
        taken = place.create(source)
        done = place.ctl("restore", taken["id"], "--target", source.data, expect=1)
        assert "postmaster.pid" in done.stderr
        os.mkdir(f"{place.root}/full")
        open(f"{place.root}/full/x", "w").close()
        procs.give(f"{place.root}/full")
        assert "not empty" in place.ctl("restore", taken["id"], "--target", f"{place.root}/full", expect=1).stderr
        done = place.ctl("create", "--conninfo", other.conninfo, "--parent", taken["id"], expect=1)
        assert "another system" in done.stderr
        assert place.create(other)["parent"] == "", "snapshots of another system were taken for a parent"
        done = place.ctl("create", "--conninfo", source.conninfo + " password=secret", expect=1)
        assert "passfile" in done.stderr
        assert "No such file" in place.ctl("create", "--conninfo", "host=/no/where user=x", expect=8).stderr
        assert "is not there" in place.ctl("show", "20260203T040506Z-00000000", expect=1).stderr
        assert "no id" in place.ctl("show", "rubbish", expect=1).stderr
        manifest = place.objects("/manifests/" + taken["id"])[0]
        text = open(manifest).read()
        procs.write_file(manifest, text.replace("ogel-snapshot 1 ", "ogel-snapshot 2 "))
        assert "newer" in place.ctl("verify", taken["id"], expect=1).stderr


def peak_mib(place, *argv):
    """The most memory that the command had; what it must print goes unread."""
    popen = subprocess.Popen([place.tool, "snapshot", *argv, "--store", place.store], stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True, cwd="/", stdin=subprocess.DEVNULL,
                             env=procs.clean_env(TMPDIR=place.root), **procs.as_postgres())
    peak = 0
    try:
        while popen.poll() is None:
            with contextlib.suppress(OSError):
                found = [line for line in open(f"/proc/{popen.pid}/status") if line.startswith("VmHWM:")]
                peak = max(peak, *[int(line.split()[1]) / 1024 for line in found], 0)
            time.sleep(0.005)       # how often it is looked at
        assert popen.returncode == 0, popen.stderr.read()
    finally:
        popen.kill()
        popen.communicate()
    return peak


MANY = 8000             # files; to keep the entry of each would take 9 MiB more
GROWTH_MIB = 8          # what is planned at a time takes some hundred bytes a file, of 256 Ki slices at most


@deadline(240)
def test_snapshot__of_thousands_of_files__takes_no_more_memory_than_of_a_few():
    with Place() as place:
        source = place.server("source").copy().start()

        def peaks(target):
            got = {"first": peak_mib(place, "create", "--conninfo", source.conninfo, "--parent", "none"),
                   "second": peak_mib(place, "create", "--conninfo", source.conninfo)}
            newest = place.list()[-1]
            got["verify"] = peak_mib(place, "verify", newest["id"], "-j", "1")
            got["restore"] = peak_mib(place, "restore", newest["id"], "-j", "1", "--target", f"{place.root}/{target}")
            return newest, got
        _, few = peaks("few")
        directory = os.path.dirname(f"{source.data}/" + source.value("SELECT pg_relation_filepath('kept')"))
        with open(f"{source.data}/" + source.value("SELECT pg_relation_filepath('kept')"), "rb") as f:
            page = f.read(8192)
        for number in range(1000000, 1000000 + MANY):   # relation files like any other, but no table has them
            with open(f"{directory}/{number}", "wb") as f:
                f.write(page)
            procs.give(f.name)
        place.create(source)
        newest, many = peaks("many")
        assert newest["files"] > MANY
        assert sum(len(files) for _, _, files in os.walk(f"{place.root}/many")) > MANY
        assert max(many.values()) < 256, many
        for what in ("second", "verify", "restore"):    # a first one has packs of 16 MiB under way, now more, now fewer
            assert many[what] - few[what] < GROWTH_MIB, (few, many)
