"""Load that remembers what was acknowledged, and the check that nothing of it is lost."""

import collections
import json
import os
import signal
import subprocess

import harness
import procs

Record = collections.namedtuple("Record", "writer sequence sent_ns answered_ns verdict server")


class Writer:
    """tests/bench/writer running against a cluster. Use as a context manager; result() stops it."""

    count = 0

    def __init__(self, cluster, writers=4, mode="libpq", table="acknowledged", pause_ms=2, leader=None,
                 **options):
        Writer.count += 1
        self.cluster, self.table = cluster, table
        self.out = os.path.join(cluster.root, f"writer{Writer.count}.out")
        argv = [harness.tool("tests/bench/writer"), "--out", self.out, "--mode", mode,
                "--writers", str(writers), "--first", str(Writer.count * 1000), "--table", table,
                "--pause-ms", str(pause_ms), "--conninfo",
                f"user={cluster.owner} dbname={cluster.database}"]
        for name, value in options.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        for node in cluster.nodes:
            argv += ["--host", f"{node.host}:{node.port}"]
        create = (f"CREATE TABLE IF NOT EXISTS {table} (writer int, sequence bigint,"
                  " PRIMARY KEY (writer, sequence))")
        if leader:          # named because no orchestrator can be asked
            leader.sql(create, user=cluster.owner, database=cluster.database, password="owner")
        else:
            cluster.owner_sql(create)
        env = procs.clean_env(PGPASSWORD=cluster.password("owner"))
        self.popen = subprocess.Popen(cluster.client_enter() + argv, stdout=subprocess.PIPE, text=True,
                                      env=env, start_new_session=True)
        self.summary = None
        procs.wait(lambda: os.path.exists(self.out), 10, "the writer has started")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.summary is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                out, _ = self.popen.communicate(timeout=30)
                self.summary = json.loads(out) if out else {"exit": self.popen.returncode}
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.communicate()
                raise
        return self.summary

    def records(self):
        out = []
        with open(self.out) as f:
            for line in f:
                if not line.endswith("\n"):
                    break
                w, s, sent, at, verdict, server = line.split()
                out.append(Record(int(w), int(s), int(sent), int(at), verdict, server))
        return out

    def acknowledged(self):
        return [r for r in self.records() if r.verdict == "A"]

    def wait_acks(self, more=1, deadline_s=20, server=None):
        """Waits for `more` acknowledgements from now on, of that server if named."""
        def count():
            return sum(1 for r in self.acknowledged() if server is None or r.server == server)
        seen = count()
        procs.wait(lambda: count() >= seen + more, deadline_s, f"{more} acknowledged writes")

    def first_ack_after(self, when_ns, not_from):
        """The first acknowledgement after a moment by another server than `not_from`, or None."""
        after = [r for r in self.acknowledged() if r.answered_ns > when_ns and r.server != not_from]
        return min(after, key=lambda r: r.answered_ns) if after else None

    def longest_gap_ms(self, since_ns=0, until_ns=None):
        times = sorted(r.answered_ns for r in self.acknowledged()
                       if r.answered_ns >= since_ns and (until_ns is None or r.answered_ns <= until_ns))
        return max((b - a for a, b in zip(times, times[1:])), default=0) / 1e6

    def lost(self, node=None):
        """Values acknowledged without warning that the leader (or that node) does not have."""
        node = node or self.cluster.leader()
        rows = node.sql(f"SELECT writer, sequence FROM {self.table}", database=self.cluster.database)
        return {(r.writer, r.sequence) for r in self.acknowledged()} - set(rows)

    def check(self, at_least=1):
        """Stops, and asserts that every acknowledged value is on the leader."""
        self.stop()
        acked = self.acknowledged()
        assert len(acked) >= at_least, f"only {len(acked)} acknowledged writes: {self.summary}"
        lost = self.lost()
        assert not lost, f"{len(lost)} of {len(acked)} acknowledged commits lost: {sorted(lost)[:10]}"
        return self.summary
