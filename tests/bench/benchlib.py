"""What the measurements share."""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import harness  # noqa: E402


def summary(values, digits=1):
    """Median and spread, as the tables show them."""
    if not values:
        return None
    ordered = sorted(values)
    return {"median": round(statistics.median(ordered), digits), "min": round(ordered[0], digits),
            "max": round(ordered[-1], digits), "runs": len(ordered)}


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", metavar="DIR", help="where the programs were built (default: the source tree)")
    p.add_argument("--out", metavar="FILE", help="write the JSON there as well")
    return p


def latency_parser(doc):
    p = parser(doc)
    p.add_argument("--halt", action="store_true", help="let cores halt that have nothing to do (see benchlib.awake)")
    return p


@contextlib.contextmanager
def scratch(name):
    """A directory that goes when the measurement ends, however it ends."""
    root = tempfile.mkdtemp(prefix=f"ogel-{name}-")
    os.chmod(root, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"
SPINNER = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == int(sys.argv[2]):
    for _ in range(1000):
        os.sched_yield()
"""


@contextlib.contextmanager
def awake(args):
    """A core that has nothing to do halts, and on a virtual machine the host takes milliseconds to wake it whenever it
    is busy: for a bare server as for ours. So each core is given something that gives way at once; within groups of
    the scheduler it would not, so these are off meanwhile (which takes root)."""
    spinners, before = [], None
    if args.halt or not os.access(AUTOGROUP, os.W_OK):
        _machine["cores_kept_awake"] = False
        yield
        return
    try:
        with open(AUTOGROUP, "r+") as f:
            before = f.read()
            f.seek(0)
            f.write("0")
        for core in os.sched_getaffinity(0):
            spinners.append(subprocess.Popen([sys.executable, "-c", SPINNER, str(core), str(os.getpid())]))
        _machine["cores_kept_awake"] = True
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
        with open(AUTOGROUP, "w") as f:
            f.write(before)


@contextlib.contextmanager
def cluster(root, **arguments):
    c = harness.Cluster(os.path.join(root, "c"), **arguments)
    try:
        c.bring_up()
        yield c
    except BaseException:
        print(c.describe(), file=sys.stderr)
        raise
    finally:
        c.close()


def _cpu():
    """(busy, stolen, all) seconds of all cores since the machine started. Stolen: the host gave them to others."""
    with open("/proc/stat") as f:
        fields = [int(x) / os.sysconf("SC_CLK_TCK") for x in f.readline().split()[1:9]]
    return sum(fields[:3]) + sum(fields[5:8]), fields[7], sum(fields)


_began = _cpu()
_machine = {"cores": os.cpu_count()}        # what is said of it beside the figures


def wait_quiet(deadline_s=15, window_s=0.3, share=0.1):
    """Until all cores together work for less than `share` of one: what a run left behind (checkpoints, a clone, the
    end of a rewind) is not the next one's cost. Other work on the machine may never let it be quiet."""
    end, calm = time.monotonic() + deadline_s, 0
    while calm < 2 and time.monotonic() < end:
        before = _cpu()[0]
        time.sleep(window_s)
        calm = calm + 1 if (_cpu()[0] - before) / window_s < share else 0


def report(args, result):
    now = _cpu()
    stolen = 100 * (now[1] - _began[1]) / max(now[2] - _began[2], 0.01)
    result = {**result, "machine": {**_machine, "stolen_percent": round(stolen, 1)}}
    text = json.dumps(result, indent=1)
    if args.out:
        with open(args.out, "w") as f:
            f.write(text + "\n")
    print(text)


def progress(text):
    print(text, file=sys.stderr, flush=True)
