#!/usr/bin/python3
"""/connect under load: latency at a fixed rate while the topology changes once a second, and the most requests a
second beside a bare libmicrohttpd "hello", in pairs whose order alternates."""

import json
import subprocess
import sys
import threading

import benchlib
import harness
from benchlib import progress, summary

PATHS = ("/connect?intent=write", "/connect?intent=read")


def load(port, seconds, token=None, rate=None, connections=16, paths=PATHS):
    argv = [harness.tool("tests/bench/http_load"), "-p", str(port), "-s", str(seconds), "-c", str(connections)]
    argv += [x for path in paths for x in ("-u", path)]
    argv += ["-t", token] if token else []
    argv += ["-r", str(rate)] if rate else []
    done = subprocess.run(argv, capture_output=True, text=True)
    if not done.stdout:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


class Changing:
    """The topology changes once a second for as long as the context lasts: maintenance mode, on and off."""

    def __init__(self, c):
        self.c, self.stop, self.changes = c, threading.Event(), 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        on = True
        while not self.stop.wait(1):
            self.c.maintenance(on)
            self.changes += 1
            on = not on

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.c.maintenance(False)


def bare(seconds, connections):
    """Requests a second of the bare server."""
    server = subprocess.Popen([harness.tool("tests/bench/http_floor"), "bare"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        return load(int(server.stdout.readline()), seconds, connections=connections)
    finally:
        server.stdin.close()
        server.wait()


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--rate", type=int, default=2000)
    p.add_argument("--seconds", type=int, default=20, help="of the run at a fixed rate")
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--pair-seconds", type=int, default=4)
    p.add_argument("--connections", type=int, default=16)
    args = p.parse_args()
    harness.use_build(args.build)
    with benchlib.scratch("connect") as root, benchlib.cluster(root) as c:
        o, token = c.orchestrators[0], c.secret_texts["read"]
        with Changing(c) as changing:
            fixed = load(o.port, args.seconds, token, args.rate, args.connections)
        ours, floor = [], []

        def of_ours():
            ours.append(load(o.port, args.pair_seconds, token, connections=args.connections))

        def of_floor():
            floor.append(bare(args.pair_seconds, args.connections))
        for i in range(args.pairs):
            for one in (of_ours, of_floor) if i % 2 == 0 else (of_floor, of_ours):
                one()
            progress(f"{i + 1}/{args.pairs}: {ours[-1]} beside {floor[-1]}")
    rate = "per_second"
    benchlib.report(args, {
        "fixed_rate": {**fixed, "topology_changes": changing.changes},
        "connect_per_s": summary([x[rate] for x in ours], 0), "bare_per_s": summary([x[rate] for x in floor], 0),
        "ratio": summary([a[rate] / b[rate] for a, b in zip(ours, floor)], 2)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
