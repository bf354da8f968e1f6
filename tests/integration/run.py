#!/usr/bin/python3
"""Runs the tests of real servers: functions test_<claim> of the files test_*.py beside this one.

With --jobs N so many modules at a time, each in a process of its own.

A module may name a cluster that its tests share (CLUSTER = {...}, arguments of harness.Cluster); a test that takes
an argument gets it, healthy; after a failure the next test gets a new one. @own(...) gives a test its own."""

import argparse
import glob
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "bench"))

import harness  # noqa: E402
import procs    # noqa: E402

DEADLINE_S = 90


class Deadline(BaseException):
    """Not an Exception: nothing on the way up may take it for an ordinary failure."""


def on_alarm(signum, frame):
    raise Deadline("the test's deadline passed")


def discover(patterns):
    """[(module, function)] in the order of the files' names and of the functions in them."""
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        module = importlib.import_module(os.path.basename(path)[:-3])
        functions = [f for n, f in vars(module).items()
                     if n.startswith("test_") and callable(f) and f.__module__ == module.__name__]
        for f in sorted(functions, key=lambda f: f.__code__.co_firstlineno):
            name = f"{module.__name__}.{f.__name__}"
            if not patterns or any(re.search(p, name) for p in patterns):
                found.append((module, f))
    return found


class Runner:
    def __init__(self, root, keep):
        self.root, self.keep = root, keep
        self.cluster, self.cluster_of = None, None
        self.passed = self.failed = self.skipped = self.late = 0
        self.made = 0

    def new_cluster(self, arguments):
        self.made += 1
        return harness.Cluster(os.path.join(self.root, f"c{self.made}"), **arguments)

    def drop(self, keep_files=False):
        if self.cluster is not None:
            self.cluster.close(keep_files=keep_files)
        self.cluster, self.cluster_of = None, None

    def cluster_for(self, module, function):
        """The cluster this test is to have, or None; one that it shares is brought back to health first."""
        if function.__code__.co_argcount == 0:
            return None
        own = getattr(function, "own", None)
        shared = module.__name__ if own is None else None
        if self.cluster is not None and (shared is None or self.cluster_of != shared):
            self.drop()
        if self.cluster is None:
            self.cluster = self.new_cluster(module.CLUSTER if own is None else own)
            self.cluster_of = shared
            self.cluster.bring_up()
        else:
            self.cluster.repair()
        return self.cluster

    def one(self, module, function, again=False):
        name = f"{module.__name__}.{function.__name__}"
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, getattr(function, "deadline_s", DEADLINE_S) * procs.SLOW)
        try:
            cluster = self.cluster_for(module, function)
            function(*([cluster] if function.__code__.co_argcount else []))
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
            if getattr(function, "own", None) is not None:
                self.drop()
        except harness.Skip as e:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.skipped += 1
            print(f"skip {name}: {e}", flush=True)
        except (TimeoutError, Deadline) if not again else () as e:
            # Late is not wrong: a machine that others use too may miss a deadline once. It is printed, tried
            # once more on a cluster of its own, and counts then. A wrong result is never tried again.
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.late += 1
            print(f"LATE {name} ({time.monotonic() - began:.1f} s): {e}")
            print(traceback.format_exc().rstrip())
            if self.cluster is not None:
                print(self.cluster.describe())
            sys.stdout.flush()
            self.drop(keep_files=self.keep)
            self.one(module, function, again=True)
        except (Exception, Deadline):
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.failed += 1
            print(f"FAIL {name} ({time.monotonic() - began:.1f} s)")
            print(traceback.format_exc().rstrip())
            if self.cluster is not None:
                print(self.cluster.describe())
            sys.stdout.flush()
            self.drop(keep_files=self.keep)

    def summary(self):
        if self.late:
            print(f"{self.late} tests missed a deadline and were tried again: see LATE above")
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


def c_programs(patterns):
    """[(name, tests of its source that match)]: tests written in C, on cmocka, that need real servers."""
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.c"))):
        name = os.path.basename(path)[:-2]
        tests = sorted(set(re.findall(r"^static void (test_\w+)\(", open(path).read(), re.M)))
        wanted = [t for t in tests if not patterns or any(re.search(p, f"{name}.{t}") for p in patterns)]
        if wanted:
            found.append((name, wanted, len(wanted) == len(tests)))
    return found


def run_c(runner, name, wanted, whole):
    """One program, as the user that servers run as; each of its tests counts."""
    program = shutil.copy(harness.tool(f"tests/integration/{name}"), runner.root)
    work = procs.make_dir(os.path.join(runner.root, "w"))
    for one in [None] if whole else wanted:
        env = procs.clean_env(TMPDIR=work, OGEL_PG_BINDIR=harness.pg_bindir())
        if one:
            env["OGEL_TEST_FILTER"] = one
        done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=work,
                              env=env, timeout=240 * procs.SLOW, errors="replace", **procs.as_postgres())
        ok = re.findall(r"^\[ +OK +\] (test_\w+)", done.stdout, re.M)
        bad = sorted(set(re.findall(r"^\[ +FAILED +\] (test_\w+)", done.stdout, re.M)))
        if done.returncode and not bad:
            bad = [f"(exit {done.returncode})"]
        for test in ok:
            print(f"ok {name}.{test}")
        for test in bad:
            print(f"FAIL {name}.{test}")
        if bad:
            print(done.stdout[-6000:])
        sys.stdout.flush()
        runner.passed += len(ok)
        runner.failed += len(bad)


# --- several modules at a time ---


class Lanes:
    """Modules in processes of their own, so many at a time. One's output comes when it has ended, in one piece."""

    def __init__(self, jobs, args):
        self.jobs, self.args = jobs, args
        self.running = {}   # process: (lane, file of its output)

    def start(self, module, lane):
        argv = [sys.executable, os.path.abspath(__file__), "--module", module]
        for name, value in (("--build", self.args.build), *(("-k", k) for k in self.args.k or [])):
            argv += [name, value] if value else []
        argv += ["--keep"] if self.args.keep else []
        out = tempfile.TemporaryFile("w+")
        env = dict(os.environ, OGEL_TEST_LANE=f"{lane}/{self.jobs}")
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env)
        self.running[child] = (lane, out, module)

    def ended(self):
        """Waits for one; (its lane, its counts)."""
        while True:
            for child, (lane, out, module) in list(self.running.items()):
                if child.poll() is None:
                    continue
                del self.running[child]
                out.seek(0)
                text = out.read()
                print(text, end="", flush=True)
                counts = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", text, re.M)
                if not counts:
                    print(f"FAIL {module}: ended with code {child.returncode} before its tests did", flush=True)
                    return lane, (0, 1, 0)
                return lane, tuple(int(n or 0) for n in counts[-1])
            time.sleep(0.1)

    def run(self, modules):
        total, free = [0, 0, 0], list(range(self.jobs))
        try:
            while modules or self.running:
                while modules and free:
                    self.start(modules.pop(0), free.pop(0))
                lane, counts = self.ended()
                free.append(lane)
                total = [a + b for a, b in zip(total, counts)]
                if self.args.x and total[1]:
                    modules = []
        finally:
            for child in self.running:
                child.terminate()
                child.wait()
        skipped = f", {total[2]} skipped" if total[2] else ""
        print(f"{total[0]} passed, {total[1]} failed{skipped}", flush=True)
        return 1 if total[1] else 0


def by_length(tests):
    """Names of the modules; those that take longest first, so that none of them is the last to end. A module whose
    tests take long says so (WEIGHT, about the seconds that one of them takes)."""
    counts = {}
    for module, _ in tests:
        counts[module.__name__] = counts.get(module.__name__, 0) + getattr(module, "WEIGHT", 2)
    return sorted(counts, key=lambda name: -counts[name])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-k", metavar="PATTERN", action="append", help="only tests whose name matches")
    p.add_argument("--module", metavar="NAME", help="only this module's")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="so many modules at a time (default 1)")
    p.add_argument("--no-c", action="store_true",
                   help="without the tests that are written in C (./runtests has them in its stage modules)")
    p.add_argument("--list", action="store_true", help="name the tests and end")
    p.add_argument("--keep", action="store_true", help="leave the files of failed tests")
    p.add_argument("--build", metavar="DIR", help="where the binaries are (default: the source tree)")
    p.add_argument("-x", action="store_true", help="end at the first failure")
    args = p.parse_args()
    if args.build:
        harness.BUILD = os.path.abspath(args.build)
    tests = [(m, f) for m, f in discover(args.k) if args.module in (None, m.__name__)]
    programs = [] if args.no_c or args.module else c_programs(args.k)
    if args.list:
        for name, wanted, _ in programs:
            for test in wanted:
                print(f"{name}.{test}")
        for module, function in tests:
            print(f"{module.__name__}.{function.__name__}")
        return 0
    if not tests and not programs:
        print("0 passed, 0 failed: no test has such a name")
        return 0 if args.no_c else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.jobs > 1 and not programs:
        return Lanes(args.jobs, args).run(by_length(tests))
    signal.signal(signal.SIGALRM, on_alarm)
    root = tempfile.mkdtemp(prefix="ogel-")
    os.chmod(root, 0o755)
    runner = Runner(root, args.keep)
    try:
        for name, wanted, whole in programs:
            try:
                run_c(runner, name, wanted, whole)
            except (subprocess.SubprocessError, OSError) as e:
                runner.failed += 1
                print(f"FAIL {name}: {e}", flush=True)
        for module, function in tests:
            runner.one(module, function)
            if args.x and runner.failed:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        runner.drop()
        if runner.failed and args.keep:
            print(f"files: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
        print(runner.summary(), flush=True)
    return 1 if runner.failed else 0


if __name__ == "__main__":
    sys.exit(main())
