#!/usr/bin/python3
"""Chaos on the real system: three nodes with real Postgres, clients, orchestrators and Redis on machines of their own,
faults from a seed one by one and mixed, and the check that nothing acknowledged was lost. See docs/testing.md, "Chaos".

    tests/chaos/chaos.py --build DIR [--minutes N] [--seed S] [--only KIND ...]
    tests/chaos/chaos.py --plan 60 --seed S      prints the first faults of a seed's plan and ends

A seed's plan is always the same; when what happens is not. Ends with "N passed, N failed"; each fault that happened and
from which all three nodes came back is one, and so is each check at the end. Exit codes: 0 none failed, 1 some did, 2
usage."""

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types

HERE = os.path.dirname(os.path.abspath(__file__))
for room in (HERE, os.path.join(HERE, "..", "integration"), os.path.join(HERE, "..", "bench")):
    sys.path.insert(0, room)

import harness              # noqa: E402
import procs                # noqa: E402
import check                # noqa: E402
import forgery              # noqa: E402
import world                # noqa: E402
from faults import KINDS, NotInjected   # noqa: E402

RECOVERY_S = 60             # until three nodes stream again, by themselves
ACKS_BETWEEN = 200          # acknowledged commits between one fault and the next
FAULTS_A_MINUTE = 8         # at least; five minutes are forty
MIXED_SHARE = 0.8           # of what follows once each kind was there alone
OFTEN = {"cut-both-ways": 3, "cut-one-way": 3}      # there are many pairs
CHECK_EVERY = 25            # faults, after which all that was acknowledged so far is looked for
FIRST = "bootstrap-restart"
OVERTIME = 2                # a slow machine gets so many times the minutes to reach its counts


class Plan:
    """An endless list of groups of faults; each fault is (kind, parameters)."""

    def __init__(self, seed, only=None):
        self.random = random.Random(seed)
        self.bags = {}
        self.alone = [k for k in KINDS if k != FIRST and (not only or k in only)]
        self.mixable = [k for k in self.alone if not KINDS[k].alone for _ in range(OFTEN.get(k, 1))]

    def draw(self, name, choices):
        """From a list each once in a random order, again and again; from a pair a number between."""
        if isinstance(choices, tuple):
            least, most = choices
            return self.random.randint(least, most) if isinstance(most, int) \
                else round(self.random.uniform(least, most), 2)
        bag = self.bags.setdefault(name, [])
        if not bag:
            bag += choices
            self.random.shuffle(bag)
        return bag.pop()

    def fault(self, kind):
        return kind, types.SimpleNamespace(**{name: self.draw((kind, name), choices)
                                              for name, choices in sorted(KINDS[kind].parameters.items())})

    def mix(self, most):
        """Kinds that can be there together."""
        chosen, parts = [], set()
        for kind in self.random.sample(self.mixable, min(most, len(self.mixable))):
            part = KINDS[kind].part
            if part is None or part not in parts:
                chosen.append(kind)
                parts.add(part)
        return chosen

    def groups(self):
        yield [self.fault(FIRST)]
        first = list(self.alone)
        self.random.shuffle(first)
        for kind in first:
            yield [self.fault(kind)]
        while True:
            if len(self.mixable) > 1 and self.random.random() < MIXED_SHARE:
                yield [self.fault(k) for k in self.mix(self.random.choice([2, 2, 3]))]
            else:
                yield [self.fault(self.draw("alone", self.alone))]


def text(kind, p):
    return f"{kind}({', '.join(f'{k}={v}' for k, v in vars(p).items())})"


def finish(fault):
    """Undoes it; what it says then."""
    try:
        next(fault)
    except StopIteration as e:
        return e.value
    raise AssertionError("a fault yields once")


class Run:
    def __init__(self, args, root):
        self.args, self.root, self.world = args, root, None
        self.plan = Plan(args.seed, args.only)
        self.began = time.monotonic()
        self.passed = self.failed = 0
        self.count = collections.Counter()                  # (kind, mixed): faults
        self.gaps = collections.defaultdict(list)           # (kind, mixed): ms
        self.between = collections.defaultdict(set)         # kind of cut: pairs
        self.commits = []                                   # acknowledged between one fault and the next
        self.violated = []
        self.impossible = set()                             # kinds that this machine cannot do

    def say(self, line):
        print(f"{time.monotonic() - self.began:6.1f} s  {line}", flush=True)

    def fail(self, what, error):
        self.failed += 1
        self.violated.append(f"{what}: {error}")
        self.say(f"FAIL {what}: {error}")

    # --- faults

    def strike(self, group):
        """Injects, lets stand, undoes. Returns what was said of each fault."""
        w = self.world
        w.taken, w.after, w.mixed = set(), [], len(group) > 1
        standing, said = [], []
        try:
            for kind, p in group:
                fault = KINDS[kind](w, p)
                done = next(fault)
                standing.append((fault, kind, time.monotonic() + p.hold, done))
            # orchestrators go on first: a cut is lifted once a packet ran into it, which may have to be one of theirs
            for fault, kind, until, done in sorted(standing, key=lambda x: (
                    KINDS[x[1]].last, KINDS[x[1]].part != "orchestrator", x[2])):
                while (left := until - time.monotonic()) > 0:   # the fault stands for so long
                    time.sleep(min(left, 0.2))
                    if w.ledger:
                        w.ledger.update()
                undone = finish(fault)
                said.append(f"{kind}: {done}" + (f"; {undone}" if undone else ""))
        finally:
            for fault, *_ in standing:
                fault.close()
        return said

    def recover(self):
        w = self.world
        w.last_leader = w.wait_healthy(RECOVERY_S)      # a fault that comes next may find nobody to ask
        for look in w.after:
            look(w)
        return time.monotonic_ns()

    def group(self, group):
        """One fault alone or several mixed; False if the run cannot go on."""
        w, mixed = self.world, len(group) > 1
        what = " + ".join(text(k, p) for k, p in group)
        since, acked = time.monotonic_ns(), w.acknowledged() if w.ledger else 0
        try:
            said = self.strike(group)
            until = self.recover()
        except NotInjected as e:
            self.fail(f"not injected: {what}", e)
            w.undo_everything()
            w.repair()
            return True
        except Exception as e:
            self.fail(what, f"{type(e).__name__}: {e}")
            print(traceback.format_exc().rstrip())
            print(w.describe(), flush=True)
            return False
        self.passed += len(group)
        gap = None
        if w.ledger:
            self.commits.append(w.acknowledged(ACKS_BETWEEN) - acked)
            gap = w.ledger.longest_gap_ms(since, until)
        for kind, p in group:
            self.count[kind, mixed] += 1
            if hasattr(p, "between"):
                self.between[kind].add(tuple(p.between))
            if gap is not None:
                self.gaps[kind, mixed].append(gap)
        shown = "" if gap is None else f"gap {gap:.0f} ms, {self.commits[-1]} commits, "
        self.say(f"{shown}{(until - since) / 1e9:.1f} s: {' + '.join(said)}")
        if w.ledger and sum(self.count.values()) % CHECK_EVERY < len(group):
            return self.look_now()
        return True

    def look_now(self):
        """So that a loss is found near the fault that made it."""
        self.world.ledger.update()
        try:
            check.acknowledged_values_are_on_the_leader(self.world)
        except AssertionError as e:
            self.fail("acknowledged values are on the leader", e)
            return False
        return True

    def wanted(self):
        """The plan's groups, without kinds that this machine cannot do, until time and counts are reached."""
        end = self.began + 60 * self.args.minutes
        for group in self.plan.groups():
            left = []
            for kind, p in group:
                why = KINDS[kind].possible(self.world)
                if why is None:
                    left.append((kind, p))
                elif kind not in self.impossible:
                    self.impossible.add(kind)
                    self.say(f"NOT POSSIBLE HERE {kind}: {why}")
            if time.monotonic() >= end and (self.enough() or time.monotonic() >= end + 60 * self.args.minutes *
                                            (OVERTIME - 1)):
                return
            if left:
                yield left

    def enough(self):
        kinds = {k for k, _ in self.count}
        missing = set(self.plan.alone) - kinds - self.impossible
        return not missing and sum(self.count.values()) >= FAULTS_A_MINUTE * self.args.minutes

    # --- the whole

    def run(self):
        with self.checked(f"the checks find each of {len(forgery.FORGERIES)} forgeries"):
            wrong = forgery.undetected(self.root)
            assert not wrong, wrong
        self.world = world.World(os.path.join(self.root, "world"))
        goes_on = True
        for group in self.wanted():
            goes_on = self.group(group)
            if not goes_on:
                break
            if not self.world.ledger:
                self.world.prepare_tables()
                self.world.start_clients()
                self.world.acknowledged(ACKS_BETWEEN)
        if not goes_on:
            return
        self.say("faults are over")
        with self.checked("enough faults, each kind once"):
            assert self.enough(), f"{sum(self.count.values())} faults; missing: " \
                f"{set(self.plan.alone) - {k for k, _ in self.count} - self.impossible}"
        with self.checked("three nodes stream"):
            self.world.wait_healthy(RECOVERY_S)
        with self.checked("the clients end"):
            self.world.stop_clients()
        self.world.ledger.update()
        for one in check.CHECKS:
            with self.checked(one.__name__.replace("_", " ")):
                one(self.world)

    @contextlib.contextmanager
    def checked(self, what):
        try:
            yield
            self.passed += 1
            self.say(f"ok {what}")
        except Exception as e:
            self.fail(what, f"{type(e).__name__}: {e}")

    def table(self):
        def gap(kind, mixed):
            found = self.gaps.get((kind, mixed))
            return f"{max(found):.0f}" if found else "-"
        print(f"\n{'kind':<22}{'alone':>7}{'mixed':>7}{'longest gap, ms: alone':>25}{'mixed':>8}")
        for kind in sorted({k for k, _ in self.count}):
            print(f"{kind:<22}{self.count[kind, False]:>7}{self.count[kind, True]:>7}{gap(kind, False):>25}"
                  f"{gap(kind, True):>8}")
        total = sum(self.count.values())
        print(f"{'all':<22}{sum(n for (_, m), n in self.count.items() if not m):>7}"
              f"{sum(n for (_, m), n in self.count.items() if m):>7}")
        ledger = self.world.ledger if self.world else None
        if ledger:
            kinds = sorted(ledger.acknowledged)
            print(f"\nacknowledged: {sum(len(v) for v in ledger.acknowledged.values())} commits ("
                  + ", ".join(f"{k} {len(ledger.acknowledged[k])}" for k in kinds)
                  + f"), {len(ledger.prepared)} prepared transactions, {len(ledger.readings)} readings")
            by = collections.Counter()
            for (_, verdict), n in ledger.verdicts.items():
                by[verdict] += n
            print(f"with a warning {by['W']}, refused {by['E']}, unknown {by['U']}")
        for kind, pairs in sorted(self.between.items()):
            print(f"{kind}: {len(pairs)} of {len(KINDS[kind].parameters['between'])} pairs")
        if self.commits:
            print(f"acknowledged from one fault to the next: least {min(self.commits)}, "
                  f"median {sorted(self.commits)[len(self.commits) // 2]}")
        print(f"{total} faults in {(time.monotonic() - self.began) / 60:.1f} minutes, seed {self.args.seed}")


def print_plan(args):
    shown = 0
    for group in Plan(args.seed, args.only).groups():
        if shown >= args.plan:
            return 0
        shown += len(group)
        print(" + ".join(text(k, p) for k, p in group))
    return 0


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=5)
    p.add_argument("--seed", type=int, help="default: drawn, and printed")
    p.add_argument("--only", metavar="KIND", action="append", choices=sorted(KINDS), help="these kinds only")
    p.add_argument("--plan", metavar="N", type=int, help="print the plan's first N faults and end")
    p.add_argument("--keep", action="store_true", help="leave the files also when nothing failed")
    p.add_argument("--build", metavar="DIR", help="where the binaries are (default: the source tree)")
    args = p.parse_args()
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1, 1 << 31)
    harness.use_build(args.build)
    return args


def main():
    args = parse()
    if args.plan:
        return print_plan(args)
    why = world.available()
    if why:
        print(f"skip chaos: {why}\n0 passed, 0 failed, 1 skipped")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    procs.POLL_S = 0.05         # the machine has other things to do than to be asked
    root = tempfile.mkdtemp(prefix="ogel-chaos-")
    os.chmod(root, 0o755)
    print(f"seed {args.seed}, {args.minutes:g} minutes", flush=True)
    run = Run(args, root)
    try:
        run.run()
    except Exception as e:
        run.fail("the run", f"{type(e).__name__}: {e}")
        print(traceback.format_exc().rstrip(), flush=True)
    finally:
        keep = args.keep or run.failed > 0
        if run.world:
            run.world.close(keep_files=keep)
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
        run.table()
        if run.failed:
            print(f"seed {args.seed}; logs and disks: {root}")
            for line in run.violated:
                print(f"violated: {line}")
        print(f"{run.passed} passed, {run.failed} failed", flush=True)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
