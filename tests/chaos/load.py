#!/usr/bin/python3
"""Clients of a cluster that is being hurt, in one process on the client's machine. Configuration: JSON on stdin.

Each thread writes what it learnt to a file of its own, <out>/<name>.out, a line per value:

    <writer> <sequence> <sent, ns> <answered, ns> <verdict> <server> <generation>

Verdicts are those of tests/bench/writer.c: A acknowledged without warning, W with one, E refused, U unknown; and P:
PREPARE TRANSACTION was acknowledged, what became of COMMIT PREPARED is in a later line, if it is known. The generation
is the timeline that the server wrote when it answered, 0 if it is not known. Ends on SIGTERM.

Kinds of clients:
    connect   appends; asks /connect where to
    asker     asks each orchestrator again and again, and writes nothing
    prepare   appends by PREPARE TRANSACTION and COMMIT PREPARED; a multi-host connection string
    direct    appends, one for each node, which it never leaves
    bank      moves money between accounts; a multi-host connection string
    reader    reads the greatest value of each writer and the bank's total, and confirms what it saw by a commit of its
              own, which lies behind it in WAL; asks /connect where to"""

import http.client
import json
import os
import random
import select
import signal
import sys
import threading
import time

import psycopg2
import psycopg2.extensions

ANSWER_S = 3            # a client that hears nothing for so long gives up; but see Direct
RETRY_S = 0.05
GENERATION = "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
UNDEFINED_OBJECT = "42704"

stopping = threading.Event()
local = threading.local()


def wait_for_server(conn):
    while (state := conn.poll()) != psycopg2.extensions.POLL_OK:
        left = max(0, local.end - time.monotonic())
        fd, reading = [conn.fileno()], state == psycopg2.extensions.POLL_READ
        if stopping.is_set() or not any(select.select(fd if reading else [], [] if reading else fd, [], left)):
            raise TimeoutError("no answer")


class Client(threading.Thread):
    """One thread: a name, a writer's number, a file of results."""

    answer_s = ANSWER_S

    def __init__(self, config, name, writer, pause_ms):
        super().__init__(name=name)
        self.config, self.writer, self.pause_s = config, writer, pause_ms / 1000
        self.random = random.Random(writer)
        self.out = open(os.path.join(config["out"], f"{name}.out"), "w")
        self.conn, self.server = None, "?"
        self.sequence = 0
        self.failed = None      # the code of the last error

    # --- connections

    def where(self):
        """Addresses to try, each (host, port); none: ask again later."""
        raise NotImplementedError

    def by_connect(self, orchestrator=None):
        host, port = orchestrator or self.random.choice(self.config["orchestrators"])
        conn = http.client.HTTPConnection(host, port, timeout=1)
        try:
            conn.request("GET", "/connect?intent=write", headers={"Authorization": "Bearer " + self.config["token"]})
            reply = conn.getresponse()
            body = json.loads(reply.read())
            return [(body["host"], body["port"])] if reply.status == 200 else []
        except (OSError, ValueError, http.client.HTTPException):
            return []
        finally:
            conn.close()

    def any_of_all(self):
        return self.random.sample(self.config["nodes"], len(self.config["nodes"]))

    def connected(self):
        if self.conn is not None:
            return True
        hosts = self.where()
        if not hosts:
            return False
        local.end = time.monotonic() + self.answer_s
        try:
            self.conn = psycopg2.connect(host=",".join(h for h, _ in hosts), port=",".join(str(p) for _, p in hosts),
                                         user=self.config["user"], dbname=self.config["database"],
                                         password=self.config["password"], target_session_attrs="read-write")
            self.conn.autocommit = True
            self.server = f"{self.conn.info.host}:{self.conn.info.port}"
            return True
        except (psycopg2.Error, TimeoutError):
            return False

    def disconnect(self):
        if self.conn is not None:
            self.conn.close()
        self.conn = None

    # --- values

    def execute(self, sql, args=None):
        local.end = time.monotonic() + self.answer_s
        with self.conn.cursor() as cur:
            cur.execute(sql, args)
            return cur.statusmessage, cur.fetchall() if cur.description else None

    def attempt(self, *commands):
        """(verdict, rows of the last command); the last command is the commit."""
        try:
            self.conn.notices.clear()
            for command in commands:
                said, rows = self.execute(*command)
            if said == "ROLLBACK":
                return "E", None
            return ("W" if any("WARNING" in n for n in self.conn.notices) else "A"), rows
        except psycopg2.Error as e:
            self.failed = e.pgcode
            refused = e.pgcode and not e.pgcode.startswith(("57", "08")) and not self.conn.closed
            return ("E" if refused else "U"), None
        except TimeoutError:
            self.failed = None
            return "U", None

    def record(self, sequence, sent_ns, verdict, generation=0, more=""):
        self.out.write(f"{self.writer} {sequence} {sent_ns} {time.monotonic_ns()} {verdict} {self.server} "
                       f"{generation}{more}\n")
        self.out.flush()

    def one(self):
        """One value; False if the connection is of no use any more."""
        raise NotImplementedError

    def run(self):
        while not stopping.is_set():
            if not self.connected():
                stopping.wait(RETRY_S)
            elif self.one():
                stopping.wait(self.pause_s)
            else:
                self.disconnect()
                stopping.wait(RETRY_S)
        self.disconnect()
        self.out.close()


class Appender(Client):
    def one(self):
        self.sequence += 1
        sent = time.monotonic_ns()
        verdict, rows = self.attempt((f"INSERT INTO acknowledged VALUES (%s, %s) RETURNING {GENERATION}",
                                      (self.writer, self.sequence)))
        self.record(self.sequence, sent, verdict, rows[0][0] if rows else 0)
        return verdict == "A"


class Connect(Appender):
    where = Client.by_connect


class Asker(Client):
    """Keeps something flowing between clients and orchestrators; what it is told is of no interest."""

    def run(self):
        while not stopping.is_set():
            self.by_connect(self.config["orchestrators"][self.sequence % len(self.config["orchestrators"])])
            self.sequence += 1
            stopping.wait(self.pause_s)
        self.out.close()


class Direct(Appender):
    answer_s = 1        # an old leader is to be asked more than once

    def where(self):
        return [self.config["nodes"][self.writer - self.config["writers"]["direct"][0]]]


class Prepare(Client):
    where = Client.any_of_all

    def __init__(self, *args):
        super().__init__(*args)
        self.pending = None     # a transaction whose end is not known yet

    def finish(self):
        """Commits what was prepared, as often as it takes."""
        sequence, gid = self.pending
        sent = time.monotonic_ns()
        verdict, _ = self.attempt(("COMMIT PREPARED %s", (gid,)))
        if verdict == "E" and self.failed == UNDEFINED_OBJECT:
            self.pending = None     # an earlier attempt succeeded, or it was never prepared
        elif verdict in "AW":
            self.record(sequence, sent, verdict)
            self.pending = None
        return self.pending is None

    def one(self):
        if self.pending:
            return self.finish()
        self.sequence += 1
        gid = f"chaos_{self.writer}_{self.sequence}"
        sent = time.monotonic_ns()
        verdict, _ = self.attempt(("BEGIN",),
                                  ("INSERT INTO acknowledged VALUES (%s, %s)", (self.writer, self.sequence)),
                                  ("PREPARE TRANSACTION %s", (gid,)))
        if verdict != "E":
            self.record(self.sequence, sent, "P" if verdict == "A" else verdict)
            self.pending = (self.sequence, gid)
        return self.finish() if verdict == "A" else False


class Bank(Client):
    where = Client.any_of_all

    def one(self):
        self.sequence += 1
        a, b = sorted(self.random.sample(range(self.config["accounts"]), 2))
        amount = self.random.randint(-50, 50)
        sent = time.monotonic_ns()
        change = "UPDATE accounts SET balance = balance + %s WHERE id = %s"
        verdict, _ = self.attempt(
            ("BEGIN",), (change, (-amount, a)), (change, (amount, b)),
            ("INSERT INTO transfers VALUES (%s, %s, %s, %s, %s)", (self.writer, self.sequence, a, b, amount)),
            ("COMMIT",))
        self.record(self.sequence, sent, verdict)
        return verdict == "A"


class Reader(Client):
    where = Client.by_connect

    def one(self):
        self.sequence += 1
        sent = time.monotonic_ns()
        verdict, rows = self.attempt((
            f"INSERT INTO readings VALUES (%s, %s) RETURNING {GENERATION}, (SELECT sum(balance) FROM accounts), "
            "(SELECT array_agg(coalesce((SELECT max(sequence) FROM acknowledged WHERE writer = w), 0) ORDER BY w) "
            "FROM unnest(%s) w)", (self.writer, self.sequence, self.config["watched"])))
        generation, total, seen = rows[0] if rows else (0, None, [])
        self.record(self.sequence, sent, verdict, generation,
                    f" {total} {','.join(map(str, seen))}" if rows else "")
        return verdict == "A"


KINDS = {"asker": Asker, "connect": Connect, "prepare": Prepare, "direct": Direct, "bank": Bank, "reader": Reader}


def main():
    config = json.load(sys.stdin)
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stopping.set())
    psycopg2.extensions.set_wait_callback(wait_for_server)
    clients = [KINDS[kind](config, f"{kind}{i + 1}", first + i, config["pause_ms"][kind])
               for kind, (first, count) in config["writers"].items() for i in range(count)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
