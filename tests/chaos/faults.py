"""The kinds of faults. Each is a generator: it hurts the world, proves that it did, yields what it did to whom, and
after the runner has let that stand for a while, undoes it. What it returns is said about the fault afterwards.

    @kind("name", parameter=[choices] or (least, most), ...)

Parameters are drawn when the plan is made, so a seed's plan is always the same: lists are gone through in a random
order until all was had, pairs of numbers give a number between. `hold` is for how many seconds the fault stands.
`alone` marks kinds that are never mixed with others; two of the same `part` are not mixed with each other; `last` is
undone after all others; `possible` says why this machine cannot do it, or None."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
import time
from email.utils import parsedate_to_datetime

import harness
import procs
from harness import wait
from world import CLOCK_NODE, enter_groups, group_pids, program_of, stop_process

KINDS = {}
ROLES = ["leader", "leader", "follower"]
NODES = ["n1", "n2", "n3"]
# Every pair of hosts between which something flows.
PAIRS = ([list(p) for p in itertools.combinations(NODES, 2)] + [[n, o] for n in NODES for o in ("o1", "o2")]
         + [[n, "client"] for n in NODES] + [[o, x] for o in ("o1", "o2") for x in ("client", "redis")])
ARROWS = PAIRS + [[b, a] for a, b in PAIRS]
CUT_S = 8                           # some talk to each other every five seconds only
STORM_S, STORM_PAUSE_S = 4, 0.1     # how long a switchover is asked for again
COMMANDS_S = 15                     # no command of a fault begins later than this after the first
SLOW_IOPS, SLOW_WRITES, SLOW_LEAST_S = 20, 8, 0.25


class NotInjected(Exception):
    """The fault was to happen, and did not."""


def kind(name, alone=False, possible=None, part=None, last=False, **parameters):
    def mark(function):
        function.alone, function.part, function.last, function.parameters = alone, part, last, parameters
        function.possible = possible or (lambda w: None)
        KINDS[name] = function
        return function
    return mark


def need_v2(w):
    return None if w.groups.v2 else "no cgroup v2 can be mounted"


def target(w, p):
    """The node of this role, and if another fault has that already, one that is still well."""
    leader = w.find_leader()
    followers = [n for n in w.nodes if n is not leader]
    if p.pick:
        followers.reverse()
    order = [leader] + followers if p.who == "leader" else followers + [leader]
    node = next((n for n in order if n.id not in w.taken), order[0])
    w.taken.add(node.id)
    return node


def role(w, node):
    return f"{node.id} ({'leader' if node is w.last_leader else 'follower'})"


def catch(w, nodes, program, deadline_s):
    """The first node on which this program runs, as soon as it does."""
    end = time.monotonic() + deadline_s * procs.SLOW
    while time.monotonic() < end:
        for n in nodes:
            if w.running(n, program):
                return n
        time.sleep(0.001)
    raise NotInjected(f"{program} did not run within {deadline_s} s")


def kill_part(w, node, what):
    if what == "node":
        w.kill_node(node)
    else:
        node.process.kill()


# --- killed -------------------------------------------------------------------------------------------------------

@kind("kill-postmaster", who=ROLES, pick=[0, 1], hold=(0.2, 0.5))
def kill_postmaster(w, p):
    n = target(w, p)
    pid = wait(n.postmaster_pid, 15, f"{n.id} has a postmaster")
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not procs.alive(pid), 10, "the postmaster is dead")
    yield f"postmaster {pid} of {role(w, n)}"


@kind("kill-agent", who=ROLES, pick=[0, 1], hold=(0.2, 4.0))
def kill_agent(w, p):
    n = target(w, p)
    n.process.kill()
    yield f"agent of {role(w, n)}"
    n.process.start()


@kind("kill-node", who=ROLES, pick=[0, 1], hold=(0.2, 3.0))
def kill_node(w, p):
    n = target(w, p)
    count = len(n.pids())
    w.kill_node(n)
    yield f"all {count} processes of {role(w, n)}"
    n.process.start()


@kind("kill-orchestrator", part="orchestrator", which=[["o1"], ["o2"], ["o1", "o2"]], hold=(0.2, 3.0))
def kill_orchestrator(w, p):
    killed = [o for o in w.orchestrators if o.id in p.which]
    for o in killed:
        o.process.kill()
    yield " and ".join(p.which)
    for o in killed:
        o.process.start()


# --- frozen -------------------------------------------------------------------------------------------------------

@kind("stop-postmaster", who=ROLES, pick=[0, 1], hold=(2.0, 4.5))
def stop_postmaster(w, p):
    n = target(w, p)
    pid = wait(n.postmaster_pid, 15, f"{n.id} has a postmaster")
    stop_process(pid)
    yield f"postmaster {pid} of {role(w, n)}"
    procs.send([pid], signal.SIGCONT)     # its agent may have killed it meanwhile


@kind("stop-agent", who=ROLES, pick=[0, 1], hold=(1.5, 4.5))
def stop_agent(w, p):
    n = target(w, p)
    stop_process(n.process.pid)
    yield f"agent of {role(w, n)}"
    n.process.thaw()


@kind("freeze-node", who=ROLES, pick=[0, 1], hold=(2.0, 5.0), possible=need_v2)
def freeze_node(w, p):
    n = target(w, p)
    w.freeze_group(n.group)
    yield f"all {len(group_pids(n.group))} processes of {role(w, n)}"
    w.thaw_group(n.group)


@kind("stop-orchestrator", part="orchestrator", which=[["o1", "o2"], ["o1"], ["o2"]], hold=(1.0, 3.0))
def stop_orchestrator(w, p):
    for o in w.orchestrators:
        if o.id in p.which:
            stop_process(o.process.pid)
    yield " and ".join(p.which)
    for o in w.orchestrators:
        o.process.thaw()


# --- cut off ------------------------------------------------------------------------------------------------------

def cut_lifted(w, dropped_before, undo):
    """Lifts a cut once something ran into it; without that nothing was cut."""
    try:
        wait(lambda: w.network.dropped() > dropped_before, CUT_S, "a packet ran into the cut")
        return f"{w.network.dropped() - dropped_before} packets dropped"
    except TimeoutError as e:
        raise NotInjected(str(e)) from e
    finally:
        undo()


@kind("cut-both-ways", between=PAIRS, hold=(1.2, 3.0))
def cut_both_ways(w, p):
    before = w.network.dropped()
    w.network.cut(*p.between)
    yield " and ".join(p.between)

    def undo():
        w.network.mend_one_way(*p.between)
        w.network.mend_one_way(*reversed(p.between))
    return cut_lifted(w, before, undo)


@kind("cut-one-way", between=ARROWS, hold=(1.2, 3.0))
def cut_one_way(w, p):
    before = w.network.dropped()
    w.network.cut_one_way(*p.between)
    yield " to ".join(p.between)
    return cut_lifted(w, before, lambda: w.network.mend_one_way(*p.between))


@kind("isolate-but-clients", who=ROLES, pick=[0, 1], hold=(2.0, 4.5))
def isolate_but_clients(w, p):
    """The worst place for an old leader: applications still talk to it, and try to write."""
    n = target(w, p)
    led, before, since = n is w.last_leader, w.network.dropped(), time.monotonic_ns()
    w.network.isolate(n.id, but=("client",))
    yield role(w, n)
    said = cut_lifted(w, before, lambda: w.network.join(n.id))
    w.ledger.update()
    tried = [verdict for sent, server, verdict in w.ledger.direct if sent > since and server == n.server]
    if led and not tried and not w.mixed:   # the other fault may have cut the clients off, or stopped it
        raise NotInjected(f"no client tried to write to {n.id}")
    return f"{said}; {len(tried)} writes tried there, {tried.count('A')} acknowledged"


# --- a bad cable --------------------------------------------------------------------------------------------------

def need_tun(w):
    return None if os.path.exists("/dev/net/tun") else "no /dev/net/tun"


def bad_cable(w, p, counted, **options):
    n = target(w, p)
    w.cable_hurt(n.id, p.seed, **options)
    yield f"{role(w, n)}: {', '.join(f'{o} {v}' for o, v in options.items())}"
    did = w.cable_mend(n.id)
    if did[counted] == 0:
        raise NotInjected(f"no packet was {counted}: {did}")
    return f"{did[counted]} of {did['seen']} packets {counted}"


CABLE = {"who": ROLES, "pick": [0, 1], "seed": (1, 1 << 30), "possible": need_tun}


@kind("packet-loss", percent=(5, 30), hold=(2.0, 4.0), **CABLE)
def packet_loss(w, p):
    return (yield from bad_cable(w, p, "lost", loss=p.percent))


@kind("packet-delay", least=(50, 150), most=(200, 500), hold=(2.5, 4.0), **CABLE)
def packet_delay(w, p):
    return (yield from bad_cable(w, p, "delayed", delay_ms=f"{p.least}-{p.most}"))


@kind("packet-duplication", percent=(5, 50), hold=(1.5, 3.0), **CABLE)
def packet_duplication(w, p):
    return (yield from bad_cable(w, p, "duplicated", duplicate=p.percent))


@kind("packet-reordering", percent=(5, 30), hold=(1.5, 3.0), **CABLE)
def packet_reordering(w, p):
    return (yield from bad_cable(w, p, "reordered", reorder=p.percent))


# --- disks --------------------------------------------------------------------------------------------------------

@kind("disk-full", who=ROLES, pick=[0, 1], hold=(1.5, 3.0))
def disk_full(w, p):
    n = target(w, p)
    filler = f"{n.dir}/filler"
    # What is left for everybody, then what is left for root as well.
    n.machine.run("sh", "-c", f"fallocate -l $(df --output=avail -B1 {n.dir} | tail -n 1) {filler};"
                  f"cat /dev/zero >>{filler} 2>/dev/null; true")
    try:
        if os.statvfs(n.seen(n.dir)).f_bavail:
            raise NotInjected(f"{n.id}: {os.statvfs(n.seen(n.dir)).f_bavail} blocks are free")
        if n is w.last_leader:      # makes it need a new segment of WAL
            with contextlib.suppress(Exception):
                n.sql("SELECT pg_switch_wal()", deadline_s=1)
        yield f"disk of {role(w, n)}"
    finally:
        n.machine.run("rm", filler)


@kind("disk-hang", who=ROLES, pick=[0, 1], hold=(2.0, 4.5))
def disk_hang(w, p):
    n = target(w, p)
    n.machine.run("fsfreeze", "-f", n.dir)
    try:
        with contextlib.suppress(RuntimeError):
            n.machine.run("fsfreeze", "-f", n.dir)
            raise NotInjected("the disk could be frozen once more")
        yield f"disk of {role(w, n)}"
    finally:
        n.machine.run("fsfreeze", "-u", n.dir)


def need_blkio(w):
    return None if w.groups.blkio else "no cgroup v1 with blkio"


@kind("disk-slow", who=ROLES, pick=[0, 1], hold=(1.5, 3.5), possible=need_blkio)
def disk_slow(w, p):
    n = target(w, p)
    st = os.stat(n.seen(n.dir))
    device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
    limit = f"{n.group['blkio']}/blkio.throttle.write_iops_device"

    def throttle(iops):
        with open(limit, "w") as f:
            f.write(f"{device} {iops}\n")
    throttle(SLOW_IOPS)
    try:
        yield f"disk of {role(w, n)}: {SLOW_IOPS} writes a second"
        took = timed_writes(n)
    finally:
        throttle(0)
    if took < SLOW_LEAST_S:
        raise NotInjected(f"{SLOW_WRITES} synchronous writes took {took:.3f} s: the disk was not slow")
    return f"{SLOW_WRITES} synchronous writes took {took:.2f} s"


def timed_writes(n):
    """As one more process of the node's machine and cgroup."""
    probe = f"{n.dir}/probe"
    began = time.monotonic()
    subprocess.run(enter_groups({"blkio": n.group["blkio"]}) + n.machine.enter() +
                   ["dd", "if=/dev/zero", f"of={probe}", "bs=4k", f"count={SLOW_WRITES}", "oflag=dsync"],
                   check=True, capture_output=True)
    took = time.monotonic() - began
    n.machine.run("rm", probe)
    return took


# --- the clock ----------------------------------------------------------------------------------------------------

def need_faketime(w):
    return None if w.faketime else "no libfaketime (package faketime)"


@kind("clock-step", last=True, seconds=[3600, -3600, 86400 * 400, -86400 * 30, 30, -30], hold=(2.0, 3.5),
      possible=need_faketime)
def clock_step(w, p):
    n = w.node(CLOCK_NODE)
    w.taken.add(n.id)
    w.set_clock(p.seconds)
    yield f"{role(w, n)}: {p.seconds:+d} s"
    try:
        def stepped():
            with n.machine.network():
                where = dict(n.where(), connect_timeout=2)
                [[shown]] = harness.run_sql(where, "SELECT extract(epoch FROM clock_timestamp())::float8")
            by_agent = parsedate_to_datetime(n.api.get("/liveness", token=None).headers["date"]).timestamp()
            off = round(shown - time.time())
            return abs(off - p.seconds) < 10 and abs(by_agent - shown) < 10 and off
        try:
            seen = wait(stepped, 20, f"the clock of {n.id} is another")
        except TimeoutError as e:
            raise NotInjected(str(e)) from e
    finally:
        w.set_clock(0)
    return f"its Postgres and its agent were {seen:+d} s off"


# --- restarts at bad moments --------------------------------------------------------------------------------------

@kind("bootstrap-restart", alone=True, during=["initdb", "pg_basebackup"], what=["node", "agent"], hold=(0.2, 1.0))
def bootstrap_restart(w, p):
    """Runs before there is a cluster, and makes it."""
    w.start()
    trouble = []

    def init():
        try:
            w.init()
        except Exception as e:      # said by the thread that waits
            trouble.append(e)
    asked = threading.Thread(target=init)
    asked.start()
    n = catch(w, w.nodes, p.during, 30)
    kill_part(w, n, p.what)
    yield f"{p.what} of {n.id} killed while {p.during} ran"
    n.process.start()
    asked.join(90)
    if trouble:
        raise trouble[0]
    w.wait_healthy(60)


@kind("rewind-restart", alone=True, what=["agent", "node"], hold=(0.2, 1.0))
def rewind_restart(w, p):
    """A leader gets a tail that no standby has, and is struck again while it is rewound."""
    old = w.wait_healthy(30)
    for [pid] in old.sql("SELECT pid FROM pg_stat_replication"):
        stop_process(pid)
    old.sql("SET synchronous_commit = local; INSERT INTO tail SELECT generate_series(1, 20000)", database=w.database)
    w.kill_node(old)            # as a whole: a crashed leader that votes may be elected again, tail and all
    w.wait_leader(30, other_than=old)
    old.process.start()
    catch(w, [old], "pg_rewind", 30)
    kill_part(w, old, p.what)
    yield f"{p.what} of {old.id} killed while pg_rewind ran"
    old.process.start()


@kind("clone-restart", alone=True, what=["node", "agent"], hold=(0.2, 1.0))
def clone_restart(w, p):
    leader = w.wait_healthy(30)
    n = next(n for n in w.nodes if n is not leader)
    w.node_command(n, "reinit")
    catch(w, [n], "pg_basebackup", 30)
    kill_part(w, n, p.what)
    yield f"{p.what} of {n.id} killed while pg_basebackup ran"
    n.process.start()


@kind("machine-replaced", alone=True, who=ROLES, pick=[0, 1], hold=(0.1, 0.2), possible=need_v2)
def machine_replaced(w, p):
    """The old machine wakes beside its replacement: void, it neither leads, nor votes, nor acknowledges."""
    n = target(w, p)
    was = role(w, n)
    w.freeze_group(n.group)
    if n is w.last_leader:
        w.wait_leader(30, other_than=n)
    number = next(x["incarnation"] for x in w.status()["nodes"] if x["id"] == n.id)
    void, name = f"ogel_{n.id}_i{number}_", f"ogel_{n.id}_i{number + 1}_"
    old = w.replace_machine(n)
    wait(lambda: counted(w, name), 60, f"the replacement of {n.id} is counted")
    w.wait_healthy(30)
    generation = w.generation()
    w.wake_old_machine(old)

    def superseded():
        assert not counted(w, void), "the old machine is counted again"
        left = [pid for pid in group_pids(old["group"]) if program_of(pid) == "postgres"]
        assert not left, f"{len(left)} processes of its Postgres"
        return '"I8"' in open(old["process"].log).read()
    wait(superseded, 30, f"the old machine of {n.id} knows that it is void, and has stopped its Postgres")
    assert w.generation() == generation, f"generation {w.generation()} after {generation}: the old machine took part"
    yield f"{was}; incarnation {number} woke beside {number + 1}, which is counted"
    w.discard_old_machine(old)


def counted(w, prefix):
    """Whether the leader counts a standby of a name that begins so."""
    return any(x.startswith(prefix) for x in w.leader().streaming())


# --- commands -----------------------------------------------------------------------------------------------------

# Mixed with others, a command may be refused with good reason; it must have been answered. Where they let no answer
# through in time, one is asked for once they are undone.

def answered_in_the_end(w, what, body):
    try:
        wait(lambda: w.post(what, body, timeout=15).status, 60, f"an orchestrator answers a {what}")
    except TimeoutError as e:
        raise NotInjected(str(e)) from e


@kind("switchover-storm", part="orchestrator", last=True, count=(3, 5), first=(0, 1), hold=(0, 0))
def switchover_storm(w, p):
    w.find_leader()
    before, done, answers, last = w.generation(), 0, 0, time.monotonic() + COMMANDS_S
    for i in range(p.count):
        end = min(last, time.monotonic() + STORM_S)
        moved = False
        while not moved and time.monotonic() < end:     # refused while the last one is not over
            followers = [n for n in w.nodes if n is not w.find_leader()]
            with contextlib.suppress(OSError):
                status = w.post("switchover", {"target": followers[(p.first + i) % 2].id}, orchestrator=i % 2,
                                timeout=15).status
                answers, moved = answers + 1, status == 200
            time.sleep(STORM_PAUSE_S)
        done += moved
    yield f"{done} of {p.count} carried out, {answers} answers"
    if not done and not w.mixed:
        raise NotInjected("no switchover came about")
    if not answers:
        answered_in_the_end(w, "switchover", {})
    return f"generation {before} and then {w.generation()}"


@kind("config-change", part="orchestrator", last=True, count=(4, 8), first=(0, 40), hold=(0, 0))
def config_change(w, p):
    done = answers = 0
    last = time.monotonic() + COMMANDS_S
    for i in range(p.count):
        if time.monotonic() > last:
            break
        values = {"work_mem": f"{4 + (p.first + i) % 50}MB", "log_checkpoints": "on" if i % 2 else "off"}
        with contextlib.suppress(OSError):
            done += w.post("settings", {"settings": values}, orchestrator=i % 2, timeout=5).status == 200
            answers += 1
    yield f"{p.count} changes, {done} confirmed"
    if not done and not w.mixed:
        raise NotInjected("no change was confirmed")
    if not answers:
        answered_in_the_end(w, "settings", {"settings": {"log_checkpoints": "on"}})
    if done == p.count:
        want = f"{4 + (p.first + p.count - 1) % 50}MB"
        w.after.append(lambda w: [wait(lambda n=n: n.one("SHOW work_mem") == want, 15, f"work_mem on {n.id}")
                                  for n in w.nodes])


@kind("rolling-restart", alone=True, hold=(0, 0))
def rolling_restart(w, p):
    before = {n.id: n.postmaster_pid() for n in w.nodes}
    connections = int(w.leader().one("SHOW max_connections")) + 1
    w.settings({"max_connections": str(connections)})
    w.ctl("restart", "--rolling", "--yes", timeout=60)
    after = {n.id: wait(n.postmaster_pid, 15, f"{n.id} has a postmaster") for n in w.nodes}
    same = [i for i in after if after[i] == before[i]]
    yield "all three, one after the other"
    if same:
        raise NotInjected(f"not restarted: {same}")


# --- Redis --------------------------------------------------------------------------------------------------------

def redis_right(w):
    wait(lambda: json.loads(w.redis.cli("GET", "ogel:main:topology"))["leader"] == w.leader().id, 20,
         "the topology in Redis names the leader")


@kind("kill-redis", part="redis", hold=(0.5, 2.0))
def kill_redis(w, p):
    w.redis.process.kill()
    yield "Redis"
    w.redis.process.start()
    w.after.append(redis_right)


@kind("stop-redis", part="redis", hold=(1.0, 3.0))
def stop_redis(w, p):
    stop_process(w.redis.process.pid)
    yield "Redis"
    w.redis.process.thaw()
    w.after.append(redis_right)

