"""Who takes part in the measurements of snapshots: a database, `ogelctl snapshot`, pgBackRest, PostgreSQL's own
pg_basebackup as the floor, and the stores that both write to. Every command is run as the servers' user and gives a
Cost."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import threading

import benchlib  # noqa: F401  (the path of the modules below)
import harness
import procs
from test_snapshots import Server, pg
from test_snapshots_minio import BUCKET, Minio

SAMPLE_S = 0.25         # how often memory is looked at; it costs time that is measured
MIB = 1024 * 1024


@dataclasses.dataclass
class Cost:
    seconds: float
    cpu_seconds: float      # of the command and its children, not of the server
    server_seconds: float   # of the database server's
    peak_mib: float         # resident, of the biggest process
    text: str               # what it printed


def peaks(pid, peak):
    """The greatest VmHWM of the process and its children so far."""
    for p in [pid] + procs.descendants(pid):
        with contextlib.suppress(OSError):
            for line in open(f"/proc/{p}/status"):
                if line.startswith("VmHWM:"):
                    peak[0] = max(peak[0], int(line.split()[1]) / 1024)


def run(argv, server=None, enter=(), **env):
    """Timed. What the file system still has to write from before is not its cost."""
    rights = {} if enter else procs.as_postgres()
    os.sync()
    server_before = server.cpu_s() if server else 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = benchlib.time.monotonic()
    popen = subprocess.Popen([*enter, *map(str, argv)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=procs.clean_env(**env), cwd="/", **rights)
    peak, done = [0.0], threading.Event()

    def sample():
        while not done.wait(SAMPLE_S):
            peaks(popen.pid, peak)
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        out, err = popen.communicate()
    finally:
        done.set()
        sampler.join()
    seconds = benchlib.time.monotonic() - began
    if popen.returncode:
        raise RuntimeError(f"exit {popen.returncode}: {' '.join(map(str, argv))}\n{out[-2000:]}\n{err[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Cost(seconds, cpu, server.cpu_s() - server_before if server else 0, peak[0], out)


class Database(Server):
    """pgbench's tables, with room on every page, so that a changed row stays on its own."""

    def __init__(self, root, name="data"):
        super().__init__(root, name)
        self.port = 5432        # the socket's name; it listens nowhere

    def initdb(self, **settings):
        pg("initdb", "-D", self.data, "-U", "postgres", "-k", "--no-sync", "-A", "trust")
        values = {"wal_level": "replica", "archive_mode": "on", "archive_command": "/bin/true", "autovacuum": "off",
                  "fsync": "off", "max_wal_size": "2GB", "min_wal_size": "80MB", "shared_buffers": "512MB", **settings}
        with open(f"{self.data}/postgresql.conf", "a") as f:
            f.writelines(f"{k} = '{v}'\n" for k, v in values.items())
        return self

    def fill(self, scale):
        self.start()
        subprocess.run([f"{harness.pg_bindir()}/pgbench", "-h", self.socket, "-U", "postgres", "-i", "-q", "-F", "90",
                        "-s", str(scale), "postgres"], check=True, capture_output=True, env=procs.clean_env(), cwd="/")
        self.sql("CHECKPOINT")
        self.stop()     # a restart leaves no recycled WAL of the load, and the pages in the kernel's cache
        return self.start()

    def pages(self):
        return int(self.value("SELECT sum(pg_database_size(oid)) / 8192 FROM pg_database"))

    def change(self, share):
        """One row on each of so many of all pages, at random; returns how many pages that were."""
        wanted = int(self.pages() * share)
        self.sql("CREATE TEMP TABLE chosen AS SELECT DISTINCT 1 + (random() * (SELECT max(aid) - 1 FROM"
                 f" pgbench_accounts))::int AS aid FROM generate_series(1, {wanted});"
                 " UPDATE pgbench_accounts a SET abalance = abalance + 1 FROM chosen c WHERE a.aid = c.aid",
                 "CHECKPOINT")
        return wanted

    def archive(self, command):
        self.sql(f"ALTER SYSTEM SET archive_command = '{command}'", "SELECT pg_reload_conf()")

    def postmaster(self):
        return int(open(f"{self.data}/postmaster.pid").readline())

    def cpu_s(self):
        """Of the server and all its processes, ended ones too."""
        total = 0
        for pid in [self.postmaster()] + procs.descendants(self.postmaster()):
            with contextlib.suppress(OSError):
                fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
                total += sum(int(x) for x in fields[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    def checked(self, name, directory):
        """A restored directory starts, stops, and has no damaged page."""
        copy = Server(self.root, name)
        copy.data = directory
        copy.start()
        try:
            rows = copy.value("SELECT count(*) FROM pgbench_accounts") if self.value(
                "SELECT to_regclass('pgbench_accounts')") else None
        finally:
            copy.stop()
        subprocess.run([f"{harness.pg_bindir()}/pg_checksums", "--check", "-D", directory], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, **procs.as_postgres())
        return rows


# --- stores ------------------------------------------------------------------------------------


class Local:
    """Directories on the disk."""
    name = "local disk"

    def __init__(self, root):
        self.root = root

    def __enter__(self):
        self.url, self.repository = f"{self.root}/store", procs.make_dir(f"{self.root}/repository")
        return self

    def __exit__(self, *_):
        for path in (self.url, self.repository):
            shutil.rmtree(path, ignore_errors=True)

    def options(self):
        return []

    def environment(self):
        return {}

    def settings(self):
        return {"repo1-path": self.repository}


class Bucket:
    """A bucket of a MinIO of its own, over TLS: pgBackRest speaks S3 no other way. With plain=True without, for
    ogelctl alone."""

    def __init__(self, root, plain=False):
        self.root, self.plain = root, plain
        self.name = "MinIO without TLS" if plain else "MinIO over TLS"

    def __enter__(self):
        place = procs.make_dir(f"{self.root}/s3", 0o755)
        self.certificates = None if self.plain else certificates(place)
        self.minio = Minio(place, self.certificates).start()
        scheme = "s3+http" if self.plain else "s3"
        self.url = f"{scheme}://127.0.0.1:{self.minio.port}/{BUCKET}/ogel"
        self.credentials = procs.write_file(f"{place}/credentials", f"{self.minio.access}:{self.minio.secret}\n")
        return self

    def __exit__(self, *_):
        self.minio.stop()
        shutil.rmtree(self.minio.root, ignore_errors=True)

    def options(self):
        return ["--store-credentials", self.credentials]

    def settings(self):
        return {"repo1-type": "s3", "repo1-path": "/peer", "repo1-s3-bucket": BUCKET, "repo1-s3-endpoint": "127.0.0.1",
                "repo1-s3-region": "us-east-1", "repo1-s3-uri-style": "path", "repo1-storage-host": "127.0.0.1",
                "repo1-storage-port": self.minio.port, "repo1-storage-verify-tls": "n",
                "repo1-s3-key": self.minio.access, "repo1-s3-key-secret": self.minio.secret}


def certificates(place):
    """A certificate that nobody has signed but itself, as MinIO wants it to lie."""
    directory = procs.make_dir(f"{place}/certificates")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", f"{directory}/private.key", "-out", f"{directory}/public.crt"], check=True,
                   capture_output=True, **procs.as_postgres())
    return directory


# --- who takes snapshots -----------------------------------------------------------------------


class Ogel:
    name = "ogel"

    def __init__(self, root, database, store, jobs, level):
        self.database, self.store, self.jobs, self.level = database, store, jobs, level
        self.tool = shutil.copy(harness.tool("ogelctl"), root)
        self.temporary = root

    def ctl(self, *argv, server=None):
        return run([self.tool, "snapshot", *argv, "--store", self.store.url, *self.store.options(),
                    "-j", self.jobs], server, TMPDIR=self.temporary)

    def create(self, *more):
        cost = self.ctl("create", "--conninfo", self.database.conninfo, "--level", self.level, "-o", "json", *more,
                        server=self.database)
        return cost, json.loads(cost.text)

    def first(self):
        return self.create("--parent", "none")

    def second(self):
        return self.create()

    def verify(self, snapshot):
        return self.ctl("verify", snapshot["id"])

    def restore(self, snapshot, target):
        return self.ctl("restore", snapshot["id"], "--target", target)


class PgBackRest:
    name = "pgBackRest"

    def __init__(self, root, database, store, jobs, level, bundle):
        self.database = database
        place = procs.make_dir(f"{root}/pgbackrest")
        settings = {"process-max": jobs, "compress-type": "zst", "compress-level": level, "start-fast": "y",
                    "repo1-bundle": "y" if bundle else "n", "repo1-retention-full": 9, "log-level-console": "warn",
                    "log-level-file": "off", "lock-path": f"{place}/lock", "log-path": f"{place}/log",
                    "spool-path": f"{place}/spool", **store.settings()}
        stanza = {"pg1-path": database.data, "pg1-socket-path": database.socket, "pg1-port": database.port,
                  "pg1-user": "postgres"}
        self.config = procs.write_file(f"{place}/pgbackrest.conf", "".join(
            f"[{section}]\n" + "".join(f"{k}={v}\n" for k, v in values.items())
            for section, values in (("global", settings), ("bench", stanza))))

    def tool(self, command, *options, server=None):
        return run(["pgbackrest", f"--config={self.config}", "--stanza=bench", *options, command], server)

    @contextlib.contextmanager
    def archiving(self):
        """It keeps the WAL that a backup needs by archiving it."""
        self.database.archive(f"pgbackrest --config={self.config} --stanza=bench archive-push %p")
        try:
            yield
        finally:
            self.database.archive("/bin/true")

    def prepare(self):
        self.tool("stanza-create")

    def backup(self, kind):
        with self.archiving():
            return self.tool("backup", f"--type={kind}", server=self.database)

    def stored_bytes(self):
        """New in the repository, of the last backup."""
        backups = json.loads(self.tool("info", "--output=json").text)[0]["backup"]
        return backups[-1]["info"]["repository"]["delta"]

    def restore(self, target):
        procs.make_dir(target)
        return self.tool("restore", f"--pg1-path={target}", "--archive-mode=off", "--type=immediate")


def base_backup(database, *options):
    """PostgreSQL's own program: what comes through BASE_BACKUP at most."""
    return run([f"{harness.pg_bindir()}/pg_basebackup", "-c", "fast", "-X", "fetch", "-d", database.conninfo,
                *options], database)


def stream_floor(database):
    """The same stream as ogelctl asks for, thrown away."""
    script = f"exec {harness.pg_bindir()}/pg_basebackup -D - -F t -c fast -X fetch -d '{database.conninfo}' >/dev/null"
    return run(["sh", "-c", script], database)


def server_floor(database):
    """The server reads and checks all pages, and sends none."""
    return base_backup(database, "-t", "blackhole")


def copy_floor(source, target):
    """A data directory written once and synced: what the disk does at most."""
    return run(["sh", "-c", f"cp -r --reflink=never '{source}' '{target}' && sync -f '{target}'"])
