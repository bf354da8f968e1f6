#!/usr/bin/python3
"""What snapshots and restores cost, beside pgBackRest: the same database, the same compression (zstd at one level), as
many processes as threads, the same store, in one run whose order alternates; and the floors: the stream of BASE_BACKUP
thrown away, the same without being sent, and a plain copy of the data directory.

    disk     both to directories, and the floors
    minio    both to a MinIO over TLS (pgBackRest speaks S3 no other way), ogelctl without it as well
    memory   100,000 small files
    tps      pgbench on a leader while snapshots of a follower are taken, and while none are: all on the same
             processors, then that follower on a half of them, as if it were another machine

Ratios are taken run by run; each figure is a median. Every snapshot is verified, every restored directory is started,
stopped, and checked page by page."""

import argparse
import contextlib
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading

import benchlib
import harness
import procs
import snapshot_peers as peers
import tps
from benchlib import progress, summary

PARTS = ("disk", "minio", "memory", "tps")
CHANGED = 0.01          # of all pages, before the second snapshot
MB = 1000 * 1000


def ratio(runs, mine, other):
    return summary([run[mine] / run[other] for run in runs], 3)


# --- speed -------------------------------------------------------------------------------------


class Run:
    """All that is timed once against one store. `costs` by name, `sizes` in bytes."""

    def __init__(self, root, database, store, args):
        self.root, self.database = root, database
        self.ogel = peers.Ogel(root, database, store, args.jobs, args.level)
        self.peer = peers.PgBackRest(root, database, store, args.jobs, args.level, args.bundle)
        self.costs, self.sizes, self.compare = {}, {}, not getattr(store, "plain", False)
        self.floors = isinstance(store, peers.Local)

    def note(self, name, cost):
        self.costs[name] = cost
        progress(f"    {name:22} {cost.seconds:7.2f} s, {cost.cpu_seconds:6.2f} s of CPU, server's "
                 f"{cost.server_seconds:5.2f} s, {cost.peak_mib:4.0f} MiB")
        return cost

    def in_turn(self, mine_first, mine, other):
        for step in ((mine, other) if mine_first else (other, mine)):
            if step is mine or self.compare:
                step()

    def first(self):
        cost, self.snapshot = self.ogel.first()
        self.note("ogel first", cost)
        self.sizes["logical"], self.sizes["first"] = self.snapshot["logical_bytes"], self.snapshot["stored_bytes"]

    def peer_first(self):
        self.note("pgbackrest full", self.peer.backup("full"))
        self.sizes["pgbackrest full"] = self.peer.stored_bytes()

    def restored(self, name, restore):
        """Restores, checks, and removes it again."""
        target = f"{self.root}/restored"
        self.note(name, restore(target))
        if self.floors and name == "ogel restore":
            self.note("floor copy", peers.copy_floor(target, f"{self.root}/copied"))
            shutil.rmtree(f"{self.root}/copied")
        self.database.checked("restored.server", target)
        shutil.rmtree(target)

    def second(self):
        cost, self.changed = self.ogel.second()
        self.note("ogel second", cost)
        assert self.changed["parent"] == self.snapshot["id"]
        self.sizes["second"] = self.changed["stored_bytes"]
        self.sizes["dirty slices"] = self.changed["slices"] - self.changed["reused_slices"] - \
            self.changed["zero_slices"]
        self.sizes["slices"] = self.changed["slices"]

    def peer_second(self):
        self.note("pgbackrest incremental", self.peer.backup("incr"))
        self.sizes["pgbackrest incremental"] = self.peer.stored_bytes()

    def go(self, mine_first):
        if self.compare:
            self.peer.prepare()
        if self.floors:
            self.note("floor server", peers.server_floor(self.database))
            self.note("floor stream", peers.stream_floor(self.database))
        self.in_turn(mine_first, self.first, self.peer_first)
        self.in_turn(mine_first,
                     lambda: self.restored("ogel restore", lambda t: self.ogel.restore(self.snapshot, t)),
                     lambda: self.restored("pgbackrest restore", self.peer.restore))
        self.database.change(CHANGED)
        self.in_turn(mine_first, self.second, self.peer_second)
        self.note("ogel verify", self.ogel.verify(self.changed))
        return self


def medians(runs, of):
    return {name: summary([of(r.costs[name]) for r in runs], 2) for name in runs[0].costs}


def told(runs, store):
    """The table of one store."""
    seconds = [{name: cost.seconds for name, cost in r.costs.items()} for r in runs]
    sizes = {name: statistics.median(r.sizes[name] for r in runs) for name in runs[0].sizes}
    rate = {name: summary([r.sizes["logical"] / MB / r.costs[name].seconds for r in runs], 0)
            for name in runs[0].costs}
    ratios = {"second / first": ratio(seconds, "ogel second", "ogel first"),
              "stored second / first": summary([r.sizes["second"] / r.sizes["first"] for r in runs], 3)}
    if runs[0].compare:
        ratios["first / pgbackrest full"] = ratio(seconds, "ogel first", "pgbackrest full")
        ratios["second / pgbackrest incremental"] = ratio(seconds, "ogel second", "pgbackrest incremental")
        ratios["restore / pgbackrest restore"] = ratio(seconds, "ogel restore", "pgbackrest restore")
    if runs[0].floors:
        ratios["first / stream floor"] = ratio(seconds, "ogel first", "floor stream")
        ratios["second / stream floor"] = ratio(seconds, "ogel second", "floor stream")
        ratios["restore / copy floor"] = ratio(seconds, "ogel restore", "floor copy")
    return {"store": store, "ratios": ratios, "seconds": medians(runs, lambda c: c.seconds), "mb_per_second": rate,
            "cpu_seconds": medians(runs, lambda c: c.cpu_seconds),
            "server_cpu_seconds": medians(runs, lambda c: c.server_seconds),
            "peak_mib": medians(runs, lambda c: c.peak_mib), "bytes": sizes}


def speed(root, database, make_store, count, args):
    runs = []
    for i in range(count):
        with make_store() as store:
            progress(f"  {store.name}, run {i + 1} of {count}")
            runs.append(Run(root, database, store, args).go(i % 2 == 0))
    return told(runs, store.name)


def measure_speed(root, args):
    result = {}
    progress(f"a pgbench database of scale {args.scale}")
    database = peers.Database(root).initdb().fill(args.scale)
    try:
        result["database_mb"] = database.pages() * 8192 // MB
        if "disk" in args.only:
            result["disk"] = speed(root, database, lambda: peers.Local(root), args.runs, args)
        if "minio" in args.only:
            try:
                result["minio"] = speed(root, database, lambda: peers.Bucket(root), args.minio_runs, args)
                result["minio_plain"] = speed(root, database, lambda: peers.Bucket(root, plain=True), args.minio_runs,
                                              args)
            except harness.Skip as why:
                result["minio"] = f"not measured: {why}"
                progress(f"  MinIO: {why}")
    finally:
        database.stop("immediate")
        shutil.rmtree(database.data)
    return result


# --- memory ------------------------------------------------------------------------------------


def many_files(database, files):
    """Relation files of one page each: the server sends them as any other, whether a table has them or not; to have
    25,000 real tables with their indexes made takes longer than all else here."""
    database.sql("CREATE TABLE page AS SELECT 1 AS id, repeat('x', 100) AS note", "CHECKPOINT")
    path = f"{database.data}/" + database.value("SELECT pg_relation_filepath('page')")
    with open(path, "rb") as f:
        page = f.read(8192)
    for number in range(1000000, 1000000 + files):
        with open(f"{os.path.dirname(path)}/{number}", "wb") as f:
            f.write(page)
        procs.give(f.name)


def measure_memory(root, args):
    progress(f"memory: {args.files} files")
    place = procs.make_dir(f"{root}/many", 0o755)
    database = peers.Database(place).initdb()
    costs = {}
    try:
        many_files(database.start(), args.files)
        with peers.Local(place) as store:
            ogel = peers.Ogel(place, database, store, args.jobs, args.level)
            costs["first"], snapshot = ogel.first()
            costs["second"], snapshot = ogel.second()
            costs["verify"] = ogel.verify(snapshot)
            costs["restore"] = ogel.restore(snapshot, f"{place}/restored")
            database.checked("restored.server", f"{place}/restored")
    finally:
        database.stop("immediate")
        shutil.rmtree(place)
    return {"files": snapshot["files"], "table_mib": round(snapshot["table_bytes"] / peers.MIB, 1),
            "peak_mib": {k: round(v.peak_mib) for k, v in costs.items()},
            "seconds": {k: round(v.seconds, 1) for k, v in costs.items()}}


# --- the leader meanwhile ----------------------------------------------------------------------


class Snapshots:
    """One snapshot of a follower after the other, each a first one, into memory: another machine's disk is not the
    leader's."""

    def __init__(self, root, follower, args, cpus, max_rate):
        # at the priority that an agent gives it
        self.argv = ["taskset", "--cpu-list", ",".join(map(str, cpus)), "nice", "-n", "10",
                     harness.tool("ogelctl"), "snapshot", "create", "--parent", "none",
                     "--store", f"{root}/store", "--conninfo",
                     f"host={follower.state}/socket port={follower.port} user={harness.SUPERUSER}",
                     "-j", str(args.jobs), "--level", str(args.level)]
        if max_rate:
            self.argv += ["--max-rate", max_rate]
        self.store, self.taken, self.failure, self.ending = f"{root}/store", 0, None, threading.Event()
        self.thread = threading.Thread(target=self.loop)

    def loop(self):
        while not self.ending.is_set():
            done = subprocess.run(self.argv, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL,
                                  env=procs.clean_env(TMPDIR=os.path.dirname(self.store)), **procs.as_postgres())
            if done.returncode:
                self.failure = done.stderr
                return
            self.taken += 1
            shutil.rmtree(self.store)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        if self.failure:
            raise RuntimeError(self.failure)


def tie(pid, cpus):
    """A process, and all that come of it, to these processors."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cpus)
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        for child in children.read().split():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                tie(int(child), cpus)


def tps_round(c, leader, root, args, ways, cpus):
    """pgbench once for each of WAYS, in any order: the snapshots' --max-rate, "" for none, None for no snapshots."""
    got = {}
    for name, max_rate in random.sample(list(ways.items()), len(ways)):
        benchlib.wait_quiet(5)
        if max_rate is None:
            got[name] = tps.tps(c, leader, args)
            continue
        with Snapshots(root, c.followers()[0], args, cpus, max_rate) as snapshots:
            procs.wait(lambda s=snapshots: os.path.exists(s.store) or s.failure, 20, "a snapshot is under way")
            got[name] = tps.tps(c, leader, args)
    progress("  " + ", ".join(f"{name} {got[name]:.0f}" for name in ways) + " tps")
    return got


def tps_rounds(c, leader, root, args, ways, cpus):
    tps.tps(c, leader, args)        # the first run fills caches
    rounds = [tps_round(c, leader, root, args, ways, cpus) for _ in range(args.rounds)]
    return {"tps": {name: summary([r[name] for r in rounds]) for name in ways},
            "ratios": {name: summary([r[name] / r["none"] for r in rounds], 3) for name in ways if name != "none"}}


def measure_tps(root, args):
    progress("the leader while a follower is snapshotted")
    memory, everywhere = procs.make_dir(f"/dev/shm/{os.path.basename(root)}"), sorted(os.sched_getaffinity(0))
    half = len(everywhere) // 2
    its_own, others = everywhere[:half], everywhere[half:]
    limited = {"none": None, "full speed": "", f"at {args.max_rate}": args.max_rate}
    result = {}
    try:
        with benchlib.cluster(root) as c:
            leader = c.wait_healthy()
            tps.pgbench(c, leader, "-i", "-q", "-s", str(args.tps_scale))
            progress("all on the same processors")
            result["same processors"] = tps_rounds(c, leader, memory, args, limited, everywhere)
            if half > 0:
                progress("that follower on processors of its own")
                for n in c.nodes:
                    tie(n.postmaster_pid(), its_own if n is c.followers()[0] else others)
                os.sched_setaffinity(0, others)     # and with it pgbench
                result["own processors"] = tps_rounds(c, leader, memory, args, {"none": None, "full speed": ""},
                                                      its_own)
            assert c.wait_healthy(60) is leader, "the leader moved"
    finally:
        os.sched_setaffinity(0, everywhere)
        shutil.rmtree(memory, ignore_errors=True)
    return result


# --- the whole ---------------------------------------------------------------------------------


def peer_version():
    if shutil.which("pgbackrest") is None:
        sys.exit("snapshots.py: there is no pgbackrest (build-aux/install-packages --bench installs it)")
    return re.search(r"[0-9.]+", subprocess.run(["pgbackrest", "version"], capture_output=True, text=True).stdout)[0]


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (default: all)")
    p.add_argument("--scale", type=int, default=280, help="of pgbench; 280 is about 4.5 GB")
    p.add_argument("--runs", type=int, default=3, help="against directories")
    p.add_argument("--minio-runs", type=int, default=3, help="against MinIO")
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="threads and processes (default: one per core)")
    p.add_argument("--level", type=int, default=3, help="of zstd")
    p.add_argument("--bundle", action=argparse.BooleanOptionalAction, default=True, help="pgBackRest's repo1-bundle")
    p.add_argument("--files", type=int, default=100000, help="of the memory part")
    p.add_argument("--rounds", type=int, default=7, help="of the tps part")
    p.add_argument("--seconds", type=int, default=15, help="of each pgbench")
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--tps-scale", type=int, default=50)
    p.add_argument("--max-rate", default="50MB", help="of the tps part's snapshots, where they are limited")
    args = p.parse_args()
    harness.use_build(args.build)
    result = {"pgbackrest": peer_version(), "jobs": args.jobs, "level": args.level, "bundle": args.bundle}
    with benchlib.scratch("snapshots") as root:
        procs.make_dir(root, 0o755)     # the servers' user writes there
        if {"disk", "minio"} & set(args.only):
            result.update(measure_speed(root, args))
        if "memory" in args.only:
            result["memory"] = measure_memory(root, args)
        if "tps" in args.only:
            result["tps"] = measure_tps(root, args)
    benchlib.report(args, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
