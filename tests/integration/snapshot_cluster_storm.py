"""The storm on a whole cluster: the orchestrators order the snapshots, agents take them into a MinIO, while rows are
committed, snapshots expire, are collected, verified and restored elsewhere; and agents, orchestrators, leaders and
MinIO are killed at moments that a seed chooses. In the end every snapshot that is listed must come back whole, with
every row that was acknowledged before its stop.

    tests/integration/snapshot_cluster_storm.py --build DIR --count 200 --seed 7"""

import contextlib
import json
import os
import sys
import tempfile
import threading
import time

import psycopg2

import harness
import procs
import snapshot_storm
from harness import wait
from test_snapshots import lsn, pg
from test_snapshots_minio import MinioPlace, give_credentials

GIVE_UP_S = 240         # for one snapshot: a young leader gives no permit for 35 s, a second try waits for up to 90 s
INEXCUSABLE = ("corrupt", "invalid", "auth", "no_space", "conflict", "not_found")      # whoever is killed
KEPT_LEAST = 2          # by whichever collector
# A new leader, or one whose agent was killed, gives no permit for 35 s: not too often.
KILLED = {"follower's agent": 12, "orchestrator": 8, "leader's agent": 1, "leader": 1}
EVERY_S = (6, 20)       # between two kills
FORGOTTEN = 100         # looks at a task: whoever knew of it was killed


class Rows:
    """Commits rows through whatever leads, and remembers how far the WAL was when each was acknowledged. LSNs go on
    growing over a failover, and a leader has all that was acknowledged before it."""

    def __init__(self, cluster):
        self.cluster, self.acknowledged, self.stopping = cluster, [], threading.Event()
        cluster.owner_sql("CREATE TABLE written (sequence bigint, noise text)")
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def connect(self):
        c = self.cluster
        return psycopg2.connect(host=",".join(n.host for n in c.nodes), port=",".join(str(n.port) for n in c.nodes),
                                user=c.owner, dbname=c.database, password=c.password("owner"), connect_timeout=2,
                                target_session_attrs="read-write", tcp_user_timeout=3000)

    def loop(self):
        sequence = 0
        while not self.stopping.is_set():
            with contextlib.suppress(psycopg2.Error, OSError), contextlib.closing(self.connect()) as conn:
                conn.autocommit = True
                with conn.cursor() as cursor:
                    while not self.stopping.wait(0.01):
                        sequence += 1       # before: what failed may be there all the same
                        cursor.execute("INSERT INTO written VALUES (%s, repeat(md5(%s::text), 30))",
                                       (sequence, sequence))
                        if conn.notices:    # its wait for a standby was cancelled: not acknowledged
                            conn.notices.clear()
                            continue
                        cursor.execute("SELECT pg_current_wal_flush_lsn() - '0/0'")
                        self.acknowledged.append((sequence, int(cursor.fetchone()[0])))
            self.stopping.wait(0.2)

    def __enter__(self):
        self.thread.start()
        wait(lambda: len(self.acknowledged) > 50, 20, "rows are written")
        return self

    def __exit__(self, *_):
        alive = self.thread.is_alive()
        self.stopping.set()
        self.thread.join()
        assert alive, "no rows were written any more"

    def before(self, stop):
        return {sequence for sequence, at in self.acknowledged if at <= stop}


class ClusterStorm(snapshot_storm.Storm):
    def __init__(self, cluster, place, count, seed, say=print):
        super().__init__(place, count, seed, say)
        self.cluster, self.followed, self.taken = cluster, set(), []
        self.counts = dict.fromkeys((
            "created", "second_tries", "forgotten", "tasks_failed", "orders_not_taken",
            *(f"{what} killed" for what in KILLED), *(k for k in self.counts if not k.startswith("create"))), 0)

    # --- ordering ------------------------------------------------------------------------------

    def ask(self, method, path, body=None):
        """Of an orchestrator that answers; None if none does."""
        orchestrators = self.cluster.orchestrators[:]
        with self.lock:
            self.random.shuffle(orchestrators)
        for o in orchestrators:
            with contextlib.suppress(OSError):
                return o.api.call(method, f"/v1/clusters/{self.cluster.name}/snapshots{path}", body, timeout=10)
        return None

    def order(self, until):
        """Asks until one is begun; its task's id, or None where none is within the time."""
        while time.monotonic() < until and not self.stopping.is_set():
            reply = self.ask("POST", "", {"max_rate": "16MB"} if self.chance(0.25) else {})
            if reply is not None and reply.status == 202:
                return reply.json["task"]["id"]
            assert reply is None or reply.status in (409, 500, 502, 503, 504), reply
            self.add("orders_not_taken")
            self.stopping.wait(0.5)
        return None

    def create(self, source):
        """One more, ordered and followed to its end; a second try of it is followed as well."""
        until = time.monotonic() + GIVE_UP_S * procs.SLOW
        id, others = self.order(until), 0
        self.followed.add(id)
        while id and time.monotonic() < until and not self.stopping.is_set():
            self.stopping.wait(0.1)
            reply = self.ask("GET", "/task")
            if reply is None or reply.status != 200:
                continue
            task = reply.json["task"]
            if task and task["id"] != id and task.get("second_try") and task["id"] not in self.followed:
                id = task["id"]
                self.followed.add(id)
                self.add("second_tries")
            elif not task or task["id"] != id:      # one that has not heard of it yet; or forgot it, and it has failed
                others += 1
                if others > FORGOTTEN:
                    self.add("forgotten")
                    return
            elif task["state"] == "done":
                self.taken.append(task["snapshot"]["id"])
                self.add("created")
                return
            elif task["state"] == "failed":
                if task["error"]["code"] in INEXCUSABLE:
                    self.fail(f"task failed: {task}")
                self.add("tasks_failed")
                return
        if not self.stopping.is_set():
            self.fail(f"no snapshot within {GIVE_UP_S} s: {self.ask('GET', '/task')}")

    # --- killing -------------------------------------------------------------------------------

    def victim(self, what):
        """None: there is none at this moment."""
        with contextlib.suppress(OSError, AssertionError):
            leader = self.cluster.leader()
            followers = [n for n in self.cluster.nodes if n is not leader]
            with self.lock:
                return self.random.choice({"follower's agent": followers, "leader's agent": [leader],
                                           "leader": [leader], "orchestrator": self.cluster.orchestrators}[what])
        return None

    def kill(self):
        while not self.stopping.wait(self.between(*EVERY_S)):
            with self.lock:
                [what] = self.random.choices(list(KILLED), KILLED.values())
                away_s = self.random.choice((0, 0.5, 2))
            victim = self.victim(what)
            if victim is None:
                continue
            if what == "leader":
                try:
                    victim.kill_postmaster()
                except (OSError, ValueError):       # it is down already
                    continue
            else:
                victim.process.kill()
                self.stopping.wait(away_s)
                victim.process.start()
            self.add(f"{what} killed")

    def disturbers(self):
        return [*super().disturbers(), self.guarded(self.kill)]

    # --- the end -------------------------------------------------------------------------------

    def started(self, snapshot, name):
        """A server of what is restored, apart from the cluster: its configuration is not what the snapshot brought."""
        server = self.place.server(name)
        self.place.ctl("restore", snapshot, "--target", server.data)
        pg("pg_verifybackup", server.data)
        empty = procs.write_file(f"{self.place.root}/empty.conf", "")
        hba = procs.write_file(f"{self.place.root}/hba.conf", "local all all trust\n")
        server.options = f"-c config_file={empty} -c hba_file={hba} -c ident_file={empty}"
        return server.start()

    def check(self, rows):
        self.stopping.clear()
        self.cluster.wait_healthy(90)
        listed = self.listed()
        assert listed and not any("damage" in s for s in listed), listed
        lost = set(self.taken[-KEPT_LEAST:]) - {s["id"] for s in listed}
        assert not lost, f"seed {self.seed}: {lost} were taken, and are the newest, and are not listed"
        assert len(rows.before(2 ** 63)) > len(rows.before(lsn(listed[-1]["stop_lsn"]))), "rows after the newest"
        for number, snapshot in enumerate(listed):
            must = rows.before(lsn(snapshot["stop_lsn"]))
            server = self.started(snapshot["id"], f"back-{number}")
            try:
                have = {row[0] for row in server.sql("SELECT sequence FROM written", dbname=self.cluster.database,
                                                     user=harness.SUPERUSER)}
            finally:
                server.stop("immediate")
            assert must, snapshot
            assert not must - have, f"seed {self.seed}: {len(must - have)} acknowledged rows missing: {snapshot['id']}"
        self.counts["restored_and_whole_at_the_end"] = len(listed)
        self.counts["rows_acknowledged"] = len(rows.acknowledged)


def storm(cluster, count, seed, say=lambda text: None):
    """The cluster has two orchestrators, and nothing of it has been started."""
    with MinioPlace() as place:
        give_credentials(cluster, place)
        cluster.start()
        cluster.init()
        cluster.wait_healthy(45)
        cluster.command("settings", {"snapshots": {"store": place.store, "level": 1}})
        blowing = ClusterStorm(cluster, place, count, seed, say)
        with Rows(cluster) as rows:
            blowing.blow(None)
            cluster.start()
        blowing.check(rows)
        return blowing.counts


def main():
    args = snapshot_storm.arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="ogel-storm-", ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o755)
        cluster = harness.Cluster(f"{root}/c", orchestrators=2)
        try:
            counts = storm(cluster, args.count, args.seed, lambda text: print(text, flush=True))
        except BaseException:
            print(cluster.describe(40), file=sys.stderr)
            raise
        finally:
            cluster.close()
    print(json.dumps({"seed": args.seed, **counts}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
