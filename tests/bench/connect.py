#!/usr/bin/python3
"""/connect under load, both intents, with a token: latency at a fixed rate while the topology changes once a second
(a follower leaves or comes back; its agents are simulated) beside a bare libmicrohttpd "hello" at that rate, the same
while a leader dies once a second (requests wait for the next one), and the most requests a second beside the bare
server; in pairs whose order alternates."""

import json
import os
import subprocess
import sys

import benchlib
import fakes
import harness
from benchlib import progress, summary

PATHS = ("/connect?intent=write", "/connect?intent=read")
WAITING = tuple(path + "&wait_ms=5000" for path in PATHS)


def load(port, seconds, token=None, rate=None, connections=16, paths=PATHS):
    argv = [harness.tool("tests/bench/http_load"), "-p", str(port), "-s", str(seconds), "-c", str(connections)]
    argv += [x for path in paths for x in ("-u", path)]
    argv += ["-t", token] if token else []
    argv += ["-r", str(rate)] if rate else []
    done = subprocess.run(argv, capture_output=True, text=True)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def bare(seconds, connections, rate=None):
    server = subprocess.Popen([harness.tool("tests/bench/http_floor"), "bare"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        return load(int(server.stdout.readline()), seconds, connections=connections, rate=rate)
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


def quantiles(runs):
    return {name: summary([x[name] for x in runs], 0) for name in ("p50_us", "p90_us", "p99_us", "p999_us")}


def main():
    p = benchlib.latency_parser(__doc__)
    p.add_argument("--rate", type=int, default=2000)
    p.add_argument("--seconds", type=int, default=10, help="of each run at a fixed rate")
    p.add_argument("--runs", type=int, default=5, help="at a fixed rate")
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--pair-seconds", type=int, default=4)
    p.add_argument("--connections", type=int, default=16)
    args = p.parse_args()
    harness.use_build(args.build)
    ours, floor, changing, steady = [], [], [], []
    with benchlib.scratch("connect") as root, benchlib.awake(args):
        with fakes.Fakes(os.path.join(root, "flap"), 1, lag_ms=1000, flap_ms=1000) as agents, \
                fakes.Orchestrator(agents) as o:
            token = o.tokens["read"]

            def of_ours():
                ours.append(load(o.port, args.pair_seconds, token, connections=args.connections))

            def of_floor():
                floor.append(bare(args.pair_seconds, args.connections))
            for i in range(args.runs):
                changing.append(load(o.port, args.seconds, token, args.rate, args.connections))
                steady.append(bare(args.seconds, args.connections, args.rate))
                progress(f"{i + 1}/{args.runs}: {changing[-1]} beside {steady[-1]}")
            changes = agents.stats()["flaps"]
            for i in range(args.pairs):
                for one in (of_ours, of_floor) if i % 2 == 0 else (of_floor, of_ours):
                    one()
                progress(f"{i + 1}/{args.pairs}: {ours[-1]} beside {floor[-1]}")
        with fakes.Fakes(os.path.join(root, "kill"), 1, lag_ms=1000) as agents, fakes.Orchestrator(agents) as o:
            agents.measure(1000)
            dying = load(o.port, args.seconds, o.tokens["read"], args.rate, 4 * args.connections, WAITING)
            deaths = agents.stats()["kills"]
    rate = "per_second"
    benchlib.report(args, {
        "topology_changes": {**quantiles(changing), "errors": sum(x["errors"] for x in changing), "changes": changes},
        "bare_at_that_rate": quantiles(steady),
        "leaders_die": {**dying, "deaths": deaths},
        "connect_per_s": summary([x[rate] for x in ours], 0), "bare_per_s": summary([x[rate] for x in floor], 0),
        "ratio": summary([a[rate] / b[rate] for a, b in zip(ours, floor)], 2)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
