"""Snapshots taken, verified, restored, expired and collected all at once, while their processes and the store are
killed and frozen at moments that a seed chooses. In the end every snapshot that is listed must come back whole, and
once all are deleted nothing may be left.

    tests/integration/snapshot_storm.py --build DIR --count 200 --seed 7 [--store minio]

prints what happened as JSON. The program's own rules are short here (--renew, --grace), so that minutes stand for
days."""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import harness
import procs
from test_snapshots import Place, Writers, lsn, pg
from test_snapshots_minio import MinioPlace

RENEW = "500ms"         # a job gives itself up after 2.5 s of silence, a collector after 5 s
GRACE = "2s"
FROZEN_S = 9            # longer than both, and a collection besides
GAVE_UP = "taken for dead"
GONE = "is not there"   # what a job says of a snapshot that expired before it could pin it


class Failure(Exception):
    pass


class Storm:
    def __init__(self, place, count, seed, say=print):
        self.place, self.count, self.seed, self.say = place, count, seed, say
        self.random = random.Random(seed)
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.failures = []
        self.store_killed = threading.Event()   # since the last look of a job: what it says then is not held against it
        self.counts = dict.fromkeys((
            "created", "create_killed", "create_frozen", "create_frozen_gave_up", "create_gave_up",
            "create_failed_while_store_away", "verified", "restored", "read_killed", "read_expired_before",
            "read_lost_its_pin", "read_failed_while_store_away", "collections", "collect_killed", "collect_frozen",
            "collect_failed_while_store_away", "expired", "objects_deleted", "bytes_deleted", "dead_jobs",
            "store_kills"), 0)

    def add(self, name, number=1):
        with self.lock:
            self.counts[name] += number

    def chance(self, probability):
        with self.lock:
            return self.random.random() < probability

    def between(self, low, high):
        with self.lock:
            return self.random.uniform(low, high)

    def fail(self, text):
        with self.lock:
            self.failures.append(text)
        self.stopping.set()

    # --- one command ---------------------------------------------------------------------------

    def start(self, *argv):
        argv = [self.place.tool, "snapshot", *argv, "--store", self.place.store, "-o", "json"]
        if isinstance(self.place, MinioPlace):
            argv += ["--store-credentials", self.place.credentials]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                                stdin=subprocess.DEVNULL, env=procs.clean_env(TMPDIR=self.place.root),
                                **procs.as_postgres())

    def run(self, *argv, kill=0.0, freeze=0.0, within=1.5):
        """(exit code, stdout, stderr, "killed" | "frozen" | ""): with these chances something happens to it."""
        hit = "killed" if self.chance(kill) else "frozen" if self.chance(freeze) else ""
        kills = self.counts["store_kills"]
        popen = self.start(*argv)
        try:
            if hit:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    popen.wait(self.between(0, within))
                if popen.poll() is not None:
                    hit = ""
                elif hit == "killed":
                    popen.kill()
                else:
                    popen.send_signal(signal.SIGSTOP)
                    time.sleep(FROZEN_S)    # the fault itself
                    popen.send_signal(signal.SIGCONT)
            out, err = popen.communicate(timeout=180 * procs.SLOW)
        finally:
            popen.kill()
            popen.wait()
        away = popen.returncode == 8 and self.counts["store_kills"] > 0 and \
            (self.counts["store_kills"] > kills or self.store_killed.is_set())
        return popen.returncode, out, err, "away" if away and not hit else hit

    # --- who is at work ------------------------------------------------------------------------

    def create(self, source):
        argv = ["create", "--conninfo", source.conninfo, "--renew", RENEW, "--level", "1", "-j", "1"]
        if self.chance(0.5):
            argv += ["--max-rate", "16MB"]
        code, out, err, hit = self.run(*argv, kill=0.2, freeze=0.06)
        if code == 0:
            self.add("created")
            if hit == "frozen":
                self.add("create_frozen")
        elif hit == "killed":
            self.add("create_killed")
        elif hit == "frozen":
            self.add("create_frozen")
            self.add("create_frozen_gave_up")
        elif hit == "away":
            self.add("create_failed_while_store_away")
        elif code == 1 and GAVE_UP in err:  # the machine, or the store, was slower than --renew allows
            self.add("create_gave_up")
        else:
            self.fail(f"create: exit {code}: {err}")

    def listed(self):
        code, out, err, hit = self.run("list")
        if code != 0:
            if hit != "away":
                damage = [(s["id"], s["damage"]) for s in json.loads(out or "[]") if "damage" in s]
                self.fail(f"list: exit {code}: {err} {damage}; once more: {self.run('list')[0]}")
            return []
        return json.loads(out)

    def read(self, number):
        """Verifies or restores some snapshot, over and over."""
        while not self.stopping.is_set():
            listed = self.listed()
            if not listed:
                self.stopping.wait(0.3)
                continue
            with self.lock:
                snapshot = self.random.choice(listed)["id"]
            target = f"{self.place.root}/read-{number}"
            restores = self.chance(0.5)
            argv = ["restore", snapshot, "--target", target] if restores else ["verify", snapshot]
            code, out, err, hit = self.run(*argv, "--renew", RENEW, "-j", "2", kill=0.2)
            if code == 0 and restores:
                pg("pg_verifybackup", "-n", target)
                self.add("restored")
            elif code == 0:
                self.add("verified")
            elif hit == "killed":
                self.add("read_killed")
            elif hit == "away":
                self.add("read_failed_while_store_away")
            elif code == 1 and GONE in err:
                self.add("read_expired_before")
            elif code == 7 and GAVE_UP in err:
                self.add("read_lost_its_pin")
            else:
                self.fail(f"{argv[0]} {snapshot}: exit {code}: {err}")
            shutil.rmtree(target, ignore_errors=True)

    def collect_once(self, *argv, kill=0.0, freeze=0.0):
        code, out, err, hit = self.run("gc", "--grace", GRACE, *argv, kill=kill, freeze=freeze, within=0.3)
        if hit == "frozen":
            self.add("collect_frozen")
        if code == 0:
            done = json.loads(out)
            self.add("collections")
            self.add("expired", done["expired"])
            self.add("objects_deleted", done["deleted_objects"])
            self.add("bytes_deleted", done["deleted_bytes"])
            self.add("dead_jobs", done["dead_jobs"])
            return done
        if hit == "killed":
            self.add("collect_killed")
        elif hit == "away":
            self.add("collect_failed_while_store_away")
        else:
            self.fail(f"gc: exit {code}: {err}")
        return None

    def collect(self, number):
        while not self.stopping.is_set():
            self.collect_once("--keep-daily", "1", "--keep-weekly", "1", "--keep-monthly", "0", "--keep-least",
                              str(int(self.between(2, 6))), kill=0.15, freeze=0.03)
            self.stopping.wait(self.between(0, 1.0))

    def kill_store(self):
        while not self.stopping.wait(self.between(5, 20)):
            self.store_killed.set()
            self.add("store_kills")
            self.place.minio.stop()
            self.stopping.wait(self.between(0.2, 2.0))
            self.place.minio.start()
            self.store_killed.clear()

    # --- the whole -----------------------------------------------------------------------------

    def guarded(self, function, *argv):
        def body():
            try:
                function(*argv)
            except Exception as e:      # of any kind: it must end the storm, and be told
                self.fail(f"{function.__name__}: {type(e).__name__}: {e}")
        return threading.Thread(target=body, daemon=True)

    def disturbers(self):
        """Threads that do all but take snapshots."""
        threads = [self.guarded(self.read, i) for i in range(2)] + [self.guarded(self.collect, i) for i in range(2)]
        if isinstance(self.place, MinioPlace):
            threads.append(self.guarded(self.kill_store))
        return threads

    def blow(self, source):
        threads = self.disturbers()
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while self.counts["created"] < self.count and not self.stopping.is_set():
            before = self.counts["created"]
            self.guarded(self.create, source).run()
            if self.counts["created"] % 20 == 0 and self.counts["created"] != before:
                self.say(f"{self.counts['created']} snapshots after {time.monotonic() - began:.0f} s")
        self.stopping.set()
        for thread in threads:
            thread.join()
        self.counts["seconds"] = round(time.monotonic() - began, 1)
        if self.failures:
            raise Failure(f"seed {self.seed}: " + "\n".join(self.failures))

    def check(self, source, writers):
        """Everything that is listed is whole; the newest starts with every row acknowledged before its stop."""
        self.stopping.clear()
        listed = self.listed()
        assert listed and not any("damage" in s for s in listed), listed
        for snapshot in listed:
            self.place.ctl("verify", snapshot["id"])
        for snapshot in (listed[-1], self.random.choice(listed)):
            server = self.place.restore(snapshot["id"], f"back-{snapshot['id']}-{self.random.random()}")
            must = {(w, s) for w, s, at in writers.acknowledged if at <= lsn(snapshot["stop_lsn"])}
            missing = must - set(server.sql("SELECT writer, sequence FROM written"))
            assert not missing, f"seed {self.seed}: {len(missing)} acknowledged rows are missing in {snapshot['id']}"
            server.stop("immediate")
        self.counts["listed_and_whole_at_the_end"] = len(listed)
        self.clear(listed)

    def clear(self, listed):
        """Without snapshots nothing stays, whoever was killed."""
        harness.wait(lambda: self.collect_once()["live_jobs"] == 0, 60, "dead jobs are found out")
        for snapshot in listed:
            self.place.ctl("delete", snapshot["id"], "--yes")
        harness.wait(lambda: not self.left(), 60, "all is collected")

    def left(self):
        """Halves of killed puts wait an hour, whatever the grace."""
        done = self.collect_once()
        assert not self.failures, self.failures
        halves = [d for d in done["decisions"] if d["what"].startswith("incoming/")]
        self.counts["halves_of_puts_that_wait"] = len(halves)
        return [d for d in done["decisions"] if d not in halves and not d["what"].startswith("gc/")]


def storm(place, count, seed, say=lambda text: None):
    source = place.server("source").copy().start()
    try:
        blowing = Storm(place, count, seed, say)
        with Writers(source, 1) as writers:
            blowing.blow(source)
        blowing.check(source, writers)
    finally:
        source.stop("immediate")
    return blowing.counts


def arguments(doc, **stores):
    """What a storm that is started by hand is told; a seed is drawn where none is given, and printed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    if stores:
        parser.add_argument("--store", choices=stores, default=next(iter(stores)))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    harness.use_build(args.build)
    print(f"seed {args.seed}", flush=True)
    return args


def main():
    places = {"file": Place, "minio": MinioPlace}
    args = arguments(__doc__, **places)
    with places[args.store]() as place:
        counts = storm(place, args.count, args.seed, lambda text: print(text, flush=True))
    print(json.dumps({"store": args.store, "seed": args.seed, **counts}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
