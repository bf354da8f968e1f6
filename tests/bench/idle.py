#!/usr/bin/python3
"""What one orchestrator and three agents cost while nothing happens: CPU of one core and proportional memory (PSS),
with the configuration of the failover figures."""

import os
import re
import sys
import time

import benchlib
import harness


def cpu_s(pid):
    """User and system time of the process and of the children it has waited for."""
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return sum(int(x) for x in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def pss_mib(pid):
    return int(re.search(r"^Pss:\s+(\d+) kB", open(f"/proc/{pid}/smaps_rollup").read(), re.M).group(1)) / 1024


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--seconds", type=int, default=120)
    p.add_argument("--settle", type=int, default=10, help="seconds after the birth that are not counted")
    args = p.parse_args()
    harness.use_build(args.build)
    with benchlib.scratch("idle") as root, benchlib.cluster(root) as c:
        pids = {part.id: part.process.pid for part in c.orchestrators + c.nodes}
        time.sleep(args.settle)
        before, began = {i: cpu_s(p) for i, p in pids.items()}, time.monotonic()
        time.sleep(args.seconds)
        took = time.monotonic() - began
        percent = {i: 100 * (cpu_s(p) - before[i]) / took for i, p in pids.items()}
        memory = {i: pss_mib(p) for i, p in pids.items()}
        c.healthy()
    benchlib.report(args, {
        "seconds": round(took, 1),
        "cpu_percent": {**{i: round(v, 2) for i, v in percent.items()}, "total": round(sum(percent.values()), 2)},
        "pss_mib": {**{i: round(v, 1) for i, v in memory.items()}, "total": round(sum(memory.values()), 1)}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
