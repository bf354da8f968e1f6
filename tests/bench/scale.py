#!/usr/bin/python3
"""One orchestrator over many clusters beside the same over one: its CPU, and the time from the death of a leader to
the first request for a promise. Agents are simulated (fake_agents.c), with reports of full size, lags that change once
a second, and one death a second. Rounds of one and many alternate."""

import os
import statistics
import sys
import time

import benchlib
import fakes
import procs
from benchlib import progress
from idle import cpu_s, pss_mib


def times(samples):
    ordered = sorted(samples)
    return {"count": len(ordered), "median_us": ordered[len(ordered) // 2],
            "p99_us": ordered[(len(ordered) - 1) * 99 // 100], "max_us": ordered[-1]}


def run(root, count, seconds, kill_ms):
    with fakes.Fakes(root, count, lag_ms=1000) as agents, fakes.Orchestrator(agents) as o:
        procs.wait(agents.settled, 30, "every cluster is settled")
        time.sleep(2)       # what a start costs is not counted
        agents.measure(kill_ms)
        cpu, agents_cpu, began = cpu_s(o.process.pid), sum(map(cpu_s, agents.pids())), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        percent = 100 * (cpu_s(o.process.pid) - cpu) / took
        agents_percent = 100 * (sum(map(cpu_s, agents.pids())) - agents_cpu) / took
        stats, memory = agents.stats(), pss_mib(o.process.pid)
        agents.measure(0)
        procs.wait(agents.settled, 60, "every cluster is settled again")
    return {"clusters": count, "seconds": round(took, 1), "cpu_percent": round(percent, 1),
            "agents_cpu_percent": round(agents_percent, 1), "pss_mib": round(memory, 1),
            "reports_per_s": round(stats["reports"] / took), "polls_per_s": round(stats["polls"] / took),
            "deaths": stats["kills"], "deaths_skipped": stats["kills_skipped"],
            "detection": times(stats["detection_us"]), "granted": times(stats["granted_us"]),
            "refusals": stats["refusals"]}


def main():
    p = benchlib.latency_parser(__doc__)
    p.add_argument("--clusters", type=int, default=300)
    p.add_argument("--seconds", type=int, default=30, help="of each run")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--kill-ms", type=int, default=997,
                   help="time between deaths; no multiple of the time between writes, or all come at one phase of them")
    args = p.parse_args()
    fakes.harness.use_build(args.build)
    one, many = [], []
    with benchlib.scratch("scale") as root, benchlib.awake(args):
        for i in range(args.rounds):
            for runs, count in ((one, 1), (many, args.clusters))[::1 if i % 2 == 0 else -1]:
                runs.append(run(os.path.join(root, f"r{i}-{count}"), count, args.seconds, args.kill_ms))
                progress(str(runs[-1]))

    def median(runs, what):
        return statistics.median(r["detection"][what] for r in runs)
    benchlib.report(args, {
        "one": one, "many": many,
        "cpu_percent": benchlib.summary([r["cpu_percent"] for r in many]),
        "detection_median_us": {"one": median(one, "median_us"), "many": median(many, "median_us")},
        "detection_ratio": round(median(many, "median_us") / median(one, "median_us"), 2)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
