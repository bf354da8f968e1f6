"""A cluster of real servers for a test: three agents with their Postgres, orchestrators, Redis, in one directory."""

import contextlib
import glob
import json
import os
import secrets as random_secrets
import select
import shutil
import signal
import subprocess
import time

import psycopg2
import psycopg2.extensions
import yaml

import httpapi
import netns
import procs
from procs import wait

BUILD = os.path.abspath(os.environ.get("OGEL_BUILD", os.path.join(os.path.dirname(__file__), "..", "..")))
NAME = "main"
SUPERUSER = "postgres"
PASSWORDS = ("superuser", "replication", "rewind", "monitor", "owner")
TOKENS = ("read", "admin", "peer")


class Skip(Exception):
    """This machine cannot run the test; the message says what it lacks."""


def own(**arguments):
    """The test gets a cluster of its own, made with these arguments of Cluster."""
    def mark(function):
        function.own = arguments
        return function
    return mark


def deadline(seconds):
    def mark(function):
        function.deadline_s = seconds
        return function
    return mark


def use_build(directory):
    global BUILD
    if directory:
        BUILD = os.path.abspath(directory)


def tool(name):
    """A program of the build; what `make` alone does not build (check programs) is built now."""
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK) and os.path.exists(os.path.join(BUILD, "Makefile")):
        subprocess.run(["make", "-s", "-C", BUILD, name], check=True, stdout=subprocess.DEVNULL)
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not built (--build DIR says where to look)")
    return path


def pg_bindir():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda p: int(p.split("/")[4]))
    return os.environ.get("PG_BINDIR") or os.path.dirname(found[-1])


SQL_DEADLINE_S = 10
_sql_deadline_s = SQL_DEADLINE_S


def _wait_for_server(conn):
    """psycopg2's waiting, in Python: libpq's own would sleep through signals and past every deadline."""
    end = time.monotonic() + _sql_deadline_s * procs.SLOW
    while (state := conn.poll()) != psycopg2.extensions.POLL_OK:
        left = max(0, end - time.monotonic())
        reading = state == psycopg2.extensions.POLL_READ
        fd = [conn.fileno()]
        if not any(select.select(fd if reading else [], [] if reading else fd, [], left)):
            raise TimeoutError("no answer from PostgreSQL")


psycopg2.extensions.set_wait_callback(_wait_for_server)


def run_sql(where, query, args=None, autocommit=True, deadline_s=SQL_DEADLINE_S):
    """One command over a fresh connection; rows or None."""
    global _sql_deadline_s
    _sql_deadline_s = deadline_s
    try:
        conn = psycopg2.connect(**where)
    except psycopg2.OperationalError as e:
        raise ConnectionError(str(e).strip()) from e
    try:
        conn.autocommit = autocommit
        with conn.cursor() as cur:
            cur.execute(query, args)
            return cur.fetchall() if cur.description else None
    except psycopg2.Error as e:
        if conn.closed or e.pgcode in ("57P01", "57P02", "57P03"):
            raise ConnectionError(str(e).strip()) from e
        raise
    finally:
        _sql_deadline_s = SQL_DEADLINE_S
        conn.close()


# --- configuration files: one function for each ------------------------------------------------------

def agent_config(c, node):
    s = node.secrets
    return {
        "cluster": c.name, "node": node.id, "listen": f"{node.host}:{node.agent_port}",
        "data_directory": node.data, "state_directory": node.state, "postgres_bindir": pg_bindir(),
        "postgres": {"host": node.host, "port": node.port},
        "peers": [{"id": p.id, "agent": f"{p.host}:{p.agent_port}"} for p in c.nodes if p is not node],
        "tokens": {t: f"{s}/{t}" for t in TOKENS}, "passwords": {p: f"{s}/{p}" for p in PASSWORDS},
        "memory_percent": 2, **c.agent_options}


def orchestrator_config(c, o):
    config = {
        "listen": f"{o.host}:{o.port}", "tokens": {t: f"{o.secrets}/{t}" for t in TOKENS},
        "passwords": {"monitor": f"{o.secrets}/monitor"},
        "clusters": [{"name": c.name,
                      "nodes": [{"id": n.id, "agent": f"{n.host}:{n.agent_port}"} for n in c.nodes]}],
        **c.orchestrator_options}
    if c.redis:
        config["redis"] = {"address": f"{c.redis.host}:{c.redis.port}",
                           "password_file": f"{o.secrets}/redis"}
    return config


def ctl_config(c):
    return {"orchestrators": [f"{o.host}:{o.port}" for o in c.orchestrators],
            "token": f"{c.secrets}/admin", "cluster": c.name}


# --- the parts --------------------------------------------------------------------------------------

class Part:
    """A daemon with its directory, configuration, secrets and, in network mode, its machine."""

    def __init__(self, cluster, id, host, machine=None):
        self.cluster, self.id, self.host, self.machine = cluster, id, host, machine
        self.dir = procs.make_dir(os.path.join(cluster.root, id))
        self.state = procs.make_dir(os.path.join(self.dir, "state"))
        self.secrets = procs.make_dir(os.path.join(self.dir, "secrets"))
        for name, text in cluster.secret_texts.items():
            procs.write_file(f"{self.secrets}/{name}", text + "\n")
        self.config = os.path.join(self.dir, f"{id}.yaml")
        self.process = None

    def prepare(self, program, config, port):
        procs.write_file(self.config, yaml.safe_dump(config, sort_keys=False))
        enter = self.machine.enter(drop_rights=True) if self.machine else []
        self.process = procs.Process(self.id, [tool(program), "--config", self.config],
                                     os.path.join(self.cluster.root, f"{self.id}.log"), enter=enter,
                                     env=procs.clean_env(OGEL_CTL=tool("ogelctl")))
        self.api = httpapi.Api(program.split("-")[-1], self.host, port,
                               os.path.join(self.cluster.secrets, "admin"), self.network)

    def network(self):
        return self.machine.network() if self.machine else contextlib.nullcontext()

    def client(self):
        return self.cluster.client_network()


class Orchestrator(Part):
    def __init__(self, cluster, id, host, machine=None):
        super().__init__(cluster, id, host, machine)
        self.port = procs.free_port() if machine is None else 7400

    def status(self):
        reply = self.api.get(f"/v1/clusters/{self.cluster.name}", timeout=2)
        assert reply.status == 200, reply
        return reply.json


class Node(Part):
    def __init__(self, cluster, id, host, machine=None):
        super().__init__(cluster, id, host, machine)
        self.data = os.path.join(self.dir, "data")
        self.port, self.agent_port = (procs.free_port(), procs.free_port()) if machine is None else (5432, 7432)

    def seen(self, path):
        """A path of this machine, also where it has mounts of its own."""
        return f"/proc/{self.machine.holder.pid}/root{path}" if self.machine else path

    @property
    def server(self):
        return f"{self.host}:{self.port}"

    def postmaster_pid(self):
        """Proven by its working directory: a stale pid file may name anybody."""
        pid = int(open(f"{self.seen(self.data)}/postmaster.pid").readline())
        if pid not in procs.pids_in(self.seen(self.data)):
            raise ProcessLookupError(f"{self.id}: postmaster.pid names {pid}, which is not its postmaster")
        return pid

    def pids(self):
        """Agent, everything it started, everything that works in its data directory."""
        agent = self.process.pid if self.process.running() else None
        own_pids = [agent] + procs.descendants(agent) if agent else []
        return list(dict.fromkeys(own_pids + procs.pids_in(self.seen(self.data))))

    def kill_postmaster(self):
        os.kill(self.postmaster_pid(), signal.SIGKILL)
        return time.monotonic_ns()

    def kill(self):
        """The whole node at once, as a power cut: nothing gets a chance to react. Returns when, in ns."""
        pids = self.pids()
        procs.send(pids, signal.SIGSTOP)
        began = time.monotonic_ns()
        procs.send(list(dict.fromkeys(pids + self.pids())), signal.SIGKILL)
        procs.kill_all(self.pids)
        self.process.reap()
        return began

    def freeze(self):
        began = time.monotonic_ns()
        before = None
        while before != (pids := self.pids()):      # a fork may have slipped through
            procs.send(pids, signal.SIGSTOP)
            before = pids
        return began

    def thaw(self):
        procs.send(self.pids(), signal.SIGCONT)

    def destroy(self):
        """The machine is gone for good: processes, data, promise. A new one may start in its place."""
        self.kill()
        for d in (self.data, self.state):
            shutil.rmtree(d, ignore_errors=True)
        procs.make_dir(self.state)

    def where(self, user=SUPERUSER, database="postgres", password="superuser"):
        return dict(host=self.host, port=self.port, user=user, dbname=database,
                    password=self.cluster.password(password))

    def connect(self, **kw):
        with self.client():
            return psycopg2.connect(**self.where(**kw))

    def sql(self, query, args=None, deadline_s=SQL_DEADLINE_S, **kw):
        with self.client():
            return run_sql(self.where(**kw), query, args, deadline_s=deadline_s)

    def one(self, query, **kw):
        return self.sql(query, **kw)[0][0]

    def streaming(self):
        """Names of the standbys that the quorum counts, seen in Postgres itself."""
        return {r[0] for r in self.sql("SELECT application_name FROM pg_stat_replication WHERE "
                                       "state = 'streaming' AND sync_state = 'quorum'")}

    def is_primary(self):
        return not self.one("SELECT pg_is_in_recovery()")


class Redis:
    def __init__(self, cluster, host="127.0.0.1", machine=None):
        self.host, self.port = host, procs.free_port() if machine is None else 6379
        self.password = cluster.secret_texts["redis"]
        d = procs.make_dir(os.path.join(cluster.root, "redis"))
        self.enter = machine.enter() if machine else []
        config = procs.write_file(f"{d}/redis.conf", f"bind {host}\nport {self.port}\nrequirepass "
                                  f"{self.password}\nsave \"\"\nappendonly no\ndir {d}\ndaemonize no\n")
        self.process = procs.Process("redis", ["redis-server", config], os.path.join(cluster.root, "redis.log"),
                                     enter=machine.enter(drop_rights=True) if machine else None)

    def cli(self, *argv):
        done = subprocess.run(self.enter + ["redis-cli", "-h", self.host, "-p", str(self.port), *argv], text=True,
                              capture_output=True, timeout=5,
                              env=procs.clean_env(REDISCLI_AUTH=self.password))
        if done.returncode:
            raise ConnectionError(done.stderr)
        return done.stdout.strip()


class Cluster:
    """orchestrators: how many. network: True puts each part on a machine of its own. start: 'init' brings it to
    health, 'daemons' only starts everything, None starts nothing."""

    def __init__(self, root, orchestrators=1, redis=False, network=False, start="init", agent=None,
                 orchestrator=None, document=None, secret_texts=None):
        self.root = procs.make_dir(root, 0o755)
        self.name, self.database, self.owner, self.how = NAME, "app", "app", start
        self.agent_options, self.orchestrator_options = agent or {}, orchestrator or {}
        self.document = document or {}
        self.secret_texts = secret_texts or {n: random_secrets.token_hex(16)
                                             for n in PASSWORDS + TOKENS + ("redis",)}
        self.secrets = procs.make_dir(os.path.join(self.root, "secrets"), 0o755)
        for name, text in self.secret_texts.items():
            procs.write_file(f"{self.secrets}/{name}", text + "\n")
        self.network, self.redis = None, None
        names, onames = ["n1", "n2", "n3"], [f"o{i + 1}" for i in range(orchestrators)]
        if network:
            why = netns.available()
            if why:
                raise Skip(f"three machines: {why}")
            self.network = netns.Network(names + onames + ["client"] + ["redis"] * redis)
        machines = self.network.machines if network else {}
        if redis:
            m = machines.get("redis")
            self.redis = Redis(self, m.address, m) if m else Redis(self)

        def part(kind, id):
            m = machines.get(id)
            return kind(self, id, m.address if m else "127.0.0.1", m)
        self.nodes = [part(Node, n) for n in names]
        self.orchestrators = [part(Orchestrator, o) for o in onames]
        for n in self.nodes:
            n.prepare("ogel-agent", agent_config(self, n), n.agent_port)
        for o in self.orchestrators:
            o.prepare("ogel-orchestrator", orchestrator_config(self, o), o.port)
        if network:
            self._hide()
        self.ctl_config = procs.write_file(os.path.join(self.root, "ctl.yaml"),
                                           yaml.safe_dump(ctl_config(self)))

    def _hide(self):
        """No machine sees another's directories."""
        parts = self.nodes + self.orchestrators
        for p in parts:
            self.network.hide(p.id, [q.dir for q in parts if q is not p] + [self.secrets])

    # --- clients

    def client_network(self):
        return self.network.machines["client"].network() if self.network else contextlib.nullcontext()

    def client_enter(self):
        return self.network.machines["client"].enter() if self.network else []

    def password(self, name):
        return self.secret_texts[name]

    def ctl(self, *argv, input=None, timeout=60, check=True):
        """ogelctl; returns the finished process."""
        done = subprocess.run(self.client_enter() + [tool("ogelctl"), "--config", self.ctl_config, *argv],
                              input=input, text=True, capture_output=True, timeout=timeout * procs.SLOW,
                              env=procs.clean_env())
        if check and done.returncode:
            raise AssertionError(f"ogelctl {' '.join(argv)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def owner_sql(self, query, args=None):
        """As the application, on the leader, for as long as it takes one to serve."""
        def attempt():
            n = self.leader()
            return n.sql(query, args, user=self.owner, database=self.database, password="owner") or True
        return wait(attempt, 20, f"a leader runs {query[:60]}")

    # --- life

    def start(self):
        for p in self.orchestrators + self.nodes:
            if not p.process.running():
                p.process.start()
        if self.redis and not self.redis.process.running():
            self.redis.process.start()

    def post(self, what, body=None, orchestrator=0, **kw):
        """A command to the cluster; path below /v1/clusters/NAME/."""
        return self.orchestrators[orchestrator].api.post(f"/v1/clusters/{self.name}/{what}", body,
                                                         **{"timeout": 60, **kw})

    def command(self, what, body=None, want=(200,), **kw):
        reply = self.post(what, body, **kw)
        assert reply.status in want, f"{what} {body}: {reply}"
        return reply

    def switchover(self, target=None, **kw):
        return self.command("switchover", {"target": target.id} if target else {}, **kw)

    def failover(self, target=None, **kw):
        return self.command("failover", {"target": target.id} if target else {}, **kw)

    def maintenance(self, on, **kw):
        return self.command("maintenance", {"enabled": on}, **kw)

    def settings(self, values, **kw):
        return self.command("settings", {"settings": values}, **kw)

    def node_command(self, node, what, body=None, **kw):
        return self.command(f"nodes/{node.id}/{what}", body, **kw)

    def init(self):
        def ask():
            reply = self.post("init")
            assert reply.status == 200, reply
            return reply
        wait(ask, 20, "init is accepted")
        if self.document:
            wait(lambda: self.command("settings", self.document), 20, "the document is changed")

    def bring_up(self):
        if self.how:
            self.start()
        if self.how == "init":
            self.init()
            self.wait_healthy(45)

    def status(self):
        """Of the first orchestrator that answers."""
        last = None
        for o in self.orchestrators:
            if o.process.running():
                try:
                    return o.status()
                except OSError as e:
                    last = e
        raise ConnectionError(f"no orchestrator answers: {last}")

    def node(self, id):
        return next(n for n in self.nodes if n.id == id)

    def leader(self):
        leader = self.status()["leader"]
        assert leader, "no leader"
        return self.node(leader)

    def followers(self):
        leader = self.leader()
        return [n for n in self.nodes if n is not leader]

    def generation(self):
        return self.status()["generation"]

    def healthy(self):
        """Three complete nodes, both standbys counted, no blocker: by the API and by Postgres itself."""
        s = self.status()
        leader = self.node(s["leader"]) if s["leader"] else None
        assert leader, f"no leader: {s['failover_blockers']}"
        assert s["writable"], f"not writable: {s['why']}"
        assert s["failover_possible"], f"failover is not possible: {s['failover_blockers']}"
        states = sorted(n["state"] for n in s["nodes"] if n["id"] != leader.id)
        assert states == ["streaming", "streaming"], states
        syncs = sorted(n["sync"] for n in s["nodes"] if n["id"] != leader.id)
        assert syncs == ["quorum", "quorum"], syncs     # one that has just become complete streams anew
        assert len(leader.streaming()) == 2, f"{leader.id} counts {leader.streaming()}"
        return leader

    def wait_healthy(self, deadline_s=30):
        return wait(self.healthy, deadline_s, "three streaming nodes")

    def wait_leader(self, deadline_s=15, other_than=None):
        """A leader on which a quorum acknowledges a write."""
        def serving():
            n = self.leader()
            assert n is not other_than, f"{n.id} leads still"
            n.sql("CREATE TABLE IF NOT EXISTS served (at timestamptz); INSERT INTO served VALUES (now())",
                  database=self.database, deadline_s=2)
            return n
        return wait(serving, deadline_s, "a leader serves writes")

    def repair(self):
        """Undoes what tests do to a shared cluster; what does not heal by itself then is an error."""
        for n in self.nodes:
            n.thaw()
        for p in self.orchestrators + ([self.redis] if self.redis else []):
            p.process.thaw()
        if self.network:
            self.network.heal()
        self.start()
        self.wait_healthy(45)

    def events(self):
        reply = self.orchestrators[0].api.get(f"/v1/clusters/{self.name}/events")
        assert reply.status == 200, reply
        return reply.json["events"]

    def describe(self, lines=12):
        """What a person wants to see of a failed test."""
        out = []
        with contextlib.suppress(Exception):
            out.append("status " + json.dumps(self.status())[:3000])
        parts = self.orchestrators + self.nodes + ([self.redis] if self.redis else [])
        for p in [p.process for p in parts]:
            state = "running" if p.running() else f"exit {p.popen.returncode}" if p.popen else "never started"
            out.append(f"--- {p.name} ({state}) {p.log}")
            out += p.log_text().splitlines()[-lines:]
        for n in self.nodes:
            for log in glob.glob(f"{n.dir}/**/*.log", recursive=True)[-1:]:
                out.append(f"--- {log}")
                with contextlib.suppress(OSError):
                    out += open(log, errors="replace").read().splitlines()[-lines:]
        return "\n".join(out)

    def close(self, keep_files=False):
        """Ends every process that the cluster started, by pid."""
        for p in self.orchestrators:
            p.process.kill()
        for n in self.nodes:
            procs.send(n.pids(), signal.SIGKILL)
        for n in self.nodes:
            procs.kill_all(n.pids)
            n.process.reap()
        if self.redis:
            self.redis.process.kill()
        if self.network:
            self.network.close()
        if not keep_files:
            shutil.rmtree(self.root, ignore_errors=True)
