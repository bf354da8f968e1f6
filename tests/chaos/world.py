"""The cluster that chaos hurts: machines with a disk, a cgroup, a cable and, one of them, a clock of their own."""

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys

import harness
import netns
import procs
from clients import Writer
from harness import wait
from ledger import Ledger
from test_disk import disk_of_its_own

HERE = os.path.dirname(os.path.abspath(__file__))
DISK_SIZE = "8G"            # sparse; each election leaves 16 MB of WAL behind until wal_keep_size has passed over it
CLOCK_NODE = "n3"           # runs under libfaketime all the time
FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"
SPARE_ADDRESS = "10.77.0.{}"
DOCUMENT = {"listen_addresses": "*", "hba": ["host all all 10.77.0.0/24 scram-sha-256"]}
PREPARED = 64               # max_prepared_transactions
ACCOUNTS, BALANCE = 20, 1000

# First number and count of the writers of tests/chaos/load.py; those of tests/bench/writer begin at 1000 and 2000.
WRITERS = {"connect": (5000, 2), "prepare": (6000, 1), "direct": (7000, 3), "bank": (8000, 2), "reader": (9000, 2),
           "asker": (0, 1)}
PAUSE_MS = {"asker": 100, "connect": 15, "prepare": 30, "direct": 20, "bank": 25, "reader": 300}
HALF_OPEN = "tcp_user_timeout=5000 keepalives_idle=2 keepalives_interval=1 keepalives_count=3"


class NotPossible(Exception):
    """This machine lacks what a kind of fault needs."""


def mounts(kind, option=None):
    """Where file systems of this kind are mounted."""
    found = []
    for line in open("/proc/mounts"):
        _, place, fs, options = line.split()[:4]
        if fs == kind and (option is None or option in options.split(",")):
            found.append(place)
    return found


class Groups:
    """Where the machines' cgroups are made: the v2 hierarchy, mounted here if nobody has, and v1's blkio."""

    def __init__(self, root):
        self.name = f"ogel-chaos-{os.getpid()}"
        self.mounted = None
        places = mounts("cgroup2")
        if not places:
            self.mounted = procs.make_dir(os.path.join(root, "cgroup2"))
            if subprocess.run(["mount", "-t", "cgroup2", "none", self.mounted], capture_output=True).returncode == 0:
                places = [self.mounted]
            else:
                self.mounted = None
        self.v2 = places[0] if places else None
        self.blkio = next(iter(mounts("cgroup", "blkio")), None)
        self.made = []

    def make(self, name):
        """A group for one machine; the dict names its directories by hierarchy."""
        group = {}
        for which, place in (("v2", self.v2), ("blkio", self.blkio)):
            if place:
                group[which] = os.path.join(place, self.name, name)
                os.makedirs(group[which], exist_ok=True)
                self.made.append(group[which])
        return group

    def close(self):
        for d in self.made + [os.path.join(p, self.name) for p in (self.v2, self.blkio) if p]:
            with contextlib.suppress(OSError):
                os.rmdir(d)
        if self.mounted:
            subprocess.run(["umount", self.mounted], capture_output=True)


def enter_groups(group):
    """argv prefix: into the cgroups first, then whatever follows."""
    script = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1/cgroup.procs"; shift; n=$((n - 1)); done; exec "$@"'
    return ["sh", "-ec", script, "sh", str(len(group)), *group.values()] if group else []


def group_pids(group):
    try:
        return [int(p) for p in open(f"{group['v2']}/cgroup.procs").read().split()]
    except OSError:
        return []


def program_of(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:     # gone meanwhile
        return None


def set_group(group, file, text):
    with open(os.path.join(group["v2"], file), "w") as f:
        f.write(text)


def group_event(group, name):
    return dict(x.split() for x in open(f"{group['v2']}/cgroup.events"))[name] == "1"


class World(harness.Cluster):
    """A harness.Cluster in which machines can be hurt in every way that this machine allows."""

    def __init__(self, root):
        super().__init__(root, orchestrators=2, redis=True, network=True, start=None, document=DOCUMENT,
                         orchestrator={"failover_backoff": "1s"})
        self.groups = Groups(self.root)
        self.ports = {name: f"p{i}" for i, name in enumerate(self.network.machines)}
        self.spare = len(self.ports)
        self.cables, self.old_machines = {}, []
        self.clock_file = procs.write_file(os.path.join(self.root, "clock"), "+0\n", 0o644)
        self.faketime = next(iter(glob.glob(FAKETIME)), None)
        self.load, self.writers, self.ledger = None, [], None
        self.last_leader = self.nodes[0]
        for n in self.nodes:
            n.images = 0
            self.furnish(n)

    def furnish(self, node):
        """Disk, cgroup and clock for the machine that the node has now."""
        image = f"{self.root}/{node.id}.img"
        if os.path.exists(image):
            os.rename(image, f"{image}.{node.images}")
        node.images += 1
        disk_of_its_own(node, DISK_SIZE)
        node.group = self.groups.make(f"{node.id}.{node.images}")
        enter = enter_groups(node.group) + node.machine.enter(drop_rights=True)
        if node.id == CLOCK_NODE and self.faketime:
            enter += ["env", f"LD_PRELOAD={self.faketime}", f"FAKETIME_TIMESTAMP_FILE={self.clock_file}",
                      "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_CACHE_DURATION=1",
                      # else a wait for a condition on the monotonic clock ends at once, and whoever waits so spins
                      "FAKETIME_FORCE_MONOTONIC_FIX=0"]
        log = os.path.join(self.root, f"{node.id}.{node.images}.log")
        node.process = procs.Process(node.id, node.process.argv, log, enter=enter)

    # --- what a fault does to a machine

    def kill_node(self, node):
        """The whole machine at once."""
        self.kill_group(node.group) if "v2" in node.group else node.kill()
        node.process.reap()

    def kill_group(self, group):
        set_group(group, "cgroup.kill", "1")
        wait(lambda: not group_event(group, "populated"), 20, "killed processes are gone")

    def freeze_group(self, group):
        set_group(group, "cgroup.freeze", "1")
        wait(lambda: group_event(group, "frozen"), 10, "the cgroup is frozen")

    def thaw_group(self, group):
        set_group(group, "cgroup.freeze", "0")

    def running(self, node, program):
        """Pids of this program on the machine."""
        return [pid for pid in group_pids(node.group) if program_of(pid) == program]

    def cable_hurt(self, name, seed, **options):
        """Routes the machine's traffic through tests/chaos/relay with these options of it."""
        switch, port = self.network.switch, self.ports[name]
        a, b, bridge = f"{port}a", f"{port}b", f"{port}br"
        argv = switch.enter() + [harness.tool("tests/chaos/relay"), "--a", a, "--b", b, "--seed", str(seed)]
        argv += [x for o, v in options.items() for x in (f"--{o.replace('_', '-')}", str(v))]
        relay = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.cables[name] = relay
        assert relay.stdout.readline() == "ready\n", "the relay has not started"
        for argv in (["add", "name", bridge, "type", "bridge"], ["set", bridge, "up"],
                     ["set", a, "master", bridge, "up"], ["set", b, "master", "br0", "up"],
                     ["set", port, "master", bridge]):
            switch.run("ip", "link", *argv)

    def cable_mend(self, name):
        """Takes the relay out again; returns what it did to packets."""
        relay = self.cables.pop(name)
        port = self.ports[name]
        self.network.switch.run("ip", "link", "set", port, "master", "br0")
        relay.terminate()
        out, _ = relay.communicate(timeout=10)
        self.network.switch.run("ip", "link", "delete", f"{port}br")
        return json.loads(out)

    def set_clock(self, seconds):
        # Replaced, not rewritten: a reader sees the old text or the new.
        new = procs.write_file(self.clock_file + ".new", f"{seconds:+d}\n", 0o644)
        os.rename(new, self.clock_file)

    # --- a machine replaced

    def replace_machine(self, node):
        """Unplugs the node's machine, processes frozen, and starts an empty one in its place."""
        old = {"machine": node.machine, "group": node.group, "process": node.process, "port": self.ports[node.id]}
        self.old_machines.append(old)
        self.network.switch.run("ip", "link", "set", old["port"], "nomaster")
        del self.network.machines[node.id]
        self.network._plug(node.id, node.host, self.spare)
        self.ports[node.id] = f"p{self.spare}"
        self.spare += 1
        node.machine = self.network.machines[node.id]
        parts = self.nodes + self.orchestrators
        self.network.hide(node.id, [q.dir for q in parts if q is not node] + [self.secrets])
        self.furnish(node)
        node.process.start()
        return old

    def wake_old_machine(self, old):
        """It comes back under another address, as two machines cannot have one, and goes on where it was."""
        address = SPARE_ADDRESS.format(100 + self.spare)
        self.spare += 1
        old["machine"].run("ip", "address", "flush", "dev", "eth0")
        old["machine"].run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.network.switch.run("ip", "link", "set", old["port"], "master", "br0")
        self.thaw_group(old["group"])

    def discard_old_machine(self, old):
        self.kill_group(old["group"])
        old["process"].reap()
        old["machine"].close()
        self.old_machines.remove(old)

    # --- life

    def prepare_tables(self):
        self.command("settings", {"settings": {"max_prepared_transactions": str(PREPARED)}})
        self.ctl("restart", "--rolling", "--yes", timeout=60)
        leader = self.wait_healthy(30)
        assert leader.one("SHOW max_prepared_transactions") == str(PREPARED)
        self.owner_sql("CREATE TABLE acknowledged (writer int, sequence bigint, PRIMARY KEY (writer, sequence));"
                       "CREATE TABLE readings (reader int, sequence bigint);"
                       "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);"
                       "CREATE TABLE transfers (writer int, sequence bigint, source int, target int, amount int);"
                       f"INSERT INTO accounts SELECT i, {BALANCE} FROM generate_series(0, {ACCOUNTS - 1}) i")
        leader.sql("CREATE EXTENSION amcheck; CREATE TABLE tail (x int)", database=self.database)

    def start_clients(self):
        conninfo = f"user={self.owner} dbname={self.database} {HALF_OPEN}"
        for mode in ("libpq", "race"):
            self.writers.append(Writer(self, writers=2, mode=mode, pause_ms=5, conninfo=conninfo))
        files = {w.out: mode for w, mode in zip(self.writers, ("libpq", "race"))}
        out = procs.make_dir(os.path.join(self.root, "load"))
        numbers = [w for i in (1, 2) for w in (1000 * i, 1000 * i + 1)]
        numbers += [first + i for k in ("connect", "prepare", "direct") for first, n in [WRITERS[k]] for i in range(n)]
        self.watched = sorted(numbers)
        config = {"out": out, "writers": WRITERS, "pause_ms": PAUSE_MS, "accounts": ACCOUNTS, "watched": self.watched,
                  "nodes": [(n.host, n.port) for n in self.nodes], "user": self.owner, "database": self.database,
                  "orchestrators": [(o.host, o.port) for o in self.orchestrators], "token": self.secret_texts["read"],
                  "password": self.password("owner")}
        log = open(os.path.join(self.root, "load.log"), "w")
        self.load = subprocess.Popen(self.client_enter() + [sys.executable, os.path.join(HERE, "load.py")],
                                     stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, env=procs.clean_env(),
                                     start_new_session=True)
        self.load.stdin.write(json.dumps(config))
        self.load.stdin.close()
        files.update({os.path.join(out, f"{kind}{i + 1}.out"): kind
                      for kind, (_, n) in WRITERS.items() if kind != "asker" for i in range(n)})
        wait(lambda: all(os.path.exists(f) for f in files), 10, "the clients have started")
        self.ledger = Ledger(files)

    def stop_clients(self):
        for w in self.writers:
            w.stop()
        if self.load:
            self.load.terminate()
            try:
                status = self.load.wait(20)
            except subprocess.TimeoutExpired:
                self.load.kill()
                status = self.load.wait()
            self.load = None
            assert status == 0, f"the clients ended with {status}: see load.log"

    def acknowledged(self, more=0, deadline_s=30):
        """Counts acknowledgements; with `more`, waits for so many from now on."""
        seen = self.ledger.update()
        if more:
            wait(lambda: self.ledger.update() >= seen + more, deadline_s, f"{more} acknowledged commits")
        return self.ledger.update()

    def find_leader(self, deadline_s=3):
        """The leader, or who led last as far as we know."""
        with contextlib.suppress(TimeoutError):
            self.last_leader = wait(self.leader, deadline_s, "a leader")
        return self.last_leader

    def save_logs(self):
        """What is on the machines' own disks is out of reach once they are gone."""
        for n in self.nodes:
            to = os.path.join(self.root, "logs", n.id)
            with contextlib.suppress(OSError, shutil.Error):
                shutil.copytree(n.seen(n.state), to, ignore=shutil.ignore_patterns("socket"), dirs_exist_ok=True)

    def undo_everything(self):
        """Whatever still stands of a fault: nothing may be left that cannot be killed."""
        for n in self.nodes:
            subprocess.run(n.machine.enter() + ["fsfreeze", "-u", n.dir], capture_output=True)
            if "v2" in n.group:
                self.thaw_group(n.group)
            n.thaw()
        self.set_clock(0)
        for name in list(self.cables):
            with contextlib.suppress(RuntimeError, ValueError, subprocess.SubprocessError):
                self.cable_mend(name)

    def close(self, keep_files=False):
        with contextlib.suppress(OSError, RuntimeError):
            self.undo_everything()
        for relay in self.cables.values():
            relay.kill()
            relay.wait()
        if self.load:
            self.load.kill()
            self.load.wait()
        for w in self.writers:
            if w.summary is None:
                w.popen.kill()
                w.popen.wait()
        if keep_files:
            self.save_logs()
        for old in list(self.old_machines):
            self.thaw_group(old["group"])
            self.discard_old_machine(old)
        super().close(keep_files=True)
        self.groups.close()
        if not keep_files:
            shutil.rmtree(self.root, ignore_errors=True)


def available():
    """None, or why nothing of this can run here."""
    why = netns.available()
    if why:
        return why
    if not os.path.exists("/dev/loop-control"):
        return "needs loop devices"
    return None


def stopped(pid):
    """True while the process is stopped by a signal."""
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "T"


def stop_process(pid):
    os.kill(pid, signal.SIGSTOP)
    wait(lambda: stopped(pid), 5, f"process {pid} has stopped")
