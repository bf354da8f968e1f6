#!/usr/bin/python3
"""The bare floor of a failover: three plain PostgreSQL servers with the product's settings, N runs of the C program
`floor`, medians as JSON. See floor.c for what is timed."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess

import benchlib
import harness
import procs

# What a node of the product runs with, as far as it matters to a failover.
SETTINGS = {
    "wal_level": "replica", "max_wal_senders": "10", "hot_standby": "on", "hot_standby_feedback": "on",
    "synchronous_commit": "remote_apply", "wal_log_hints": "on", "wal_retrieve_retry_interval": "20ms",
    "wal_keep_size": "256MB", "restart_after_crash": "off",
    "wal_sender_timeout": "3s", "wal_receiver_timeout": "3s", "listen_addresses": "127.0.0.1",
    "logging_collector": "off", "shared_buffers": "64MB", "password_encryption": "scram-sha-256",
    "synchronous_standby_names": "ANY 1 (s0, s1, s2)",
}
PASSWORD = "floor"


def scram_verifier(password):
    """With one iteration, as fits a generated password; libpq spends 16 ms on the usual 4096."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)

    def key(name):
        return hmac.new(salted, name, "sha256").digest()

    def text(raw):
        return base64.b64encode(raw).decode()
    stored = hashlib.sha256(key(b"Client Key")).digest()
    return f"SCRAM-SHA-256$1:{text(salt)}${text(stored)}:{text(key(b'Server Key'))}"


class Plain:
    """Three servers without anything of ours beside them."""

    def __init__(self, root):
        self.root, self.bindir = procs.make_dir(root), harness.pg_bindir()
        self.ports = [procs.free_port() for _ in range(3)]
        self.procs = [None] * 3
        self.passfile = procs.write_file(f"{root}/pass", "".join(
            f"127.0.0.1:{p}:*:postgres:{PASSWORD}\n" for p in self.ports))
        self.leader = 0

    def data(self, i):
        return f"{self.root}/s{i}"

    def tool(self, *argv):
        subprocess.run([f"{self.bindir}/{argv[0]}", *argv[1:]], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, env=procs.clean_env(PGPASSFILE=self.passfile),
                       **procs.as_postgres())

    def conninfo(self, i, **more):
        words = {"host": "127.0.0.1", "port": self.ports[i], "user": "postgres", "passfile": self.passfile}
        return " ".join(f"{k}={v}" for k, v in {**words, **more}.items())

    def start(self, i):
        env = procs.clean_env(PGPASSFILE=self.passfile)
        argv = [f"{self.bindir}/postgres", "-D", self.data(i), "-p", str(self.ports[i]),
                "-c", f"unix_socket_directories={self.root}"]
        self.procs[i] = procs.Process(f"s{i}", argv, f"{self.root}/s{i}.log", env).start()

    def create(self):
        pw = procs.write_file(f"{self.root}/pw", PASSWORD)
        self.tool("initdb", "-D", self.data(0), "-U", "postgres", "-k", "--pwfile", pw, "-A", "scram-sha-256",
                  "--no-sync")
        with open(f"{self.data(0)}/postgresql.conf", "a") as f:
            f.writelines(f"{k} = '{v}'\n" for k, v in SETTINGS.items())
        with open(f"{self.data(0)}/pg_hba.conf", "a") as f:
            f.write("host replication all 127.0.0.1/32 scram-sha-256\n")
        self.start(0)
        procs.wait(lambda: self.sql(0, "SELECT 1"), 20, "the first server")
        self.sql(0, "SET synchronous_commit = local; ALTER ROLE postgres PASSWORD %s", (scram_verifier(PASSWORD),))
        for i in (1, 2):
            self.clone(i)
        self.wait_streaming()
        self.sql(0, "CREATE TABLE floor (id bigserial PRIMARY KEY)")

    def clone(self, i):
        shutil.rmtree(self.data(i), ignore_errors=True)
        self.tool("pg_basebackup", "-D", self.data(i), "-d", self.conninfo(self.leader), "-c", "fast", "-X",
                  "stream", "--no-sync")
        with open(f"{self.data(i)}/postgresql.auto.conf", "w") as f:
            f.write(f"primary_conninfo = '{self.conninfo(self.leader, application_name=f's{i}')}'\n")
        procs.write_file(f"{self.data(i)}/standby.signal", "")
        self.start(i)

    def sql(self, i, query, args=None):
        return harness.run_sql(dict(host="127.0.0.1", port=self.ports[i], user="postgres", dbname="postgres",
                                    password=PASSWORD), query, args)

    def wait_streaming(self):
        query = ("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' "
                 "AND replay_lsn = pg_current_wal_lsn()")
        procs.wait(lambda: self.sql(self.leader, query)[0][0] == 2, 30, "two streaming standbys")

    def run_once(self):
        """One failover; afterwards the old leader is cloned again. Returns the C program's numbers."""
        old, new = self.leader, (self.leader + 1) % 3
        other = 3 - old - new
        done = subprocess.run(
            [harness.tool("tests/bench/floor"), str(self.procs[old].pid), self.conninfo(new), self.conninfo(other),
             self.conninfo(new, application_name=f"s{other}")],
            check=True, capture_output=True, text=True, env=procs.clean_env(), timeout=60)
        self.procs[old].reap()
        procs.kill_all(lambda: procs.pids_in(self.data(old)))
        self.leader = new
        self.clone(old)
        self.wait_streaming()
        self.sql(new, "CHECKPOINT")
        return json.loads(done.stdout)

    def close(self):
        for i, p in enumerate(self.procs):
            if p:
                p.signal(signal.SIGQUIT)
                procs.kill_all(lambda d=self.data(i): procs.pids_in(d))
                p.reap()


@contextlib.contextmanager
def plain(root):
    servers = Plain(os.path.join(root, "plain"))
    try:
        servers.create()
        yield servers
    finally:
        servers.close()


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--runs", type=int, default=20)
    args = p.parse_args()
    harness.use_build(args.build)
    with benchlib.scratch("floor") as root, plain(root) as servers:
        runs = [servers.run_once() for _ in range(args.runs)]
    benchlib.report(args, {key: benchlib.summary([r[key] for r in runs])
                           for key in ("detach_ms", "promote_ms", "total_ms")})


if __name__ == "__main__":
    main()
