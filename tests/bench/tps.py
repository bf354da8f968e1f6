#!/usr/bin/python3
"""What orchestrator and agents cost the database: pgbench on one and the same three PostgreSQL servers, with the
daemons running and with all of them killed (Postgres keeps running, an agent adopts it again), in pairs whose order
alternates. The ratio is taken pair by pair."""

import re
import subprocess
import sys

import benchlib
import harness
import procs
from benchlib import progress, summary


def pgbench(c, leader, *argv):
    done = subprocess.run([f"{harness.pg_bindir()}/pgbench", "-h", leader.host, "-p", str(leader.port), "-U", c.owner,
                           *argv, c.database], capture_output=True, text=True,
                          env=procs.clean_env(PGPASSWORD=c.password("owner")))
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def tps(c, leader, args):
    leader.sql("CHECKPOINT")
    text = pgbench(c, leader, "-n", "-T", str(args.seconds), "-c", str(args.clients), "-j", "2")
    return float(re.search(r"tps = ([0-9.]+)", text).group(1))


def kill_daemons(c):
    for part in c.orchestrators + c.nodes:
        part.process.kill()


def one_pair(c, leader, args, managed_first):
    got = {}
    for managed in ([True, False] if managed_first else [False, True]):
        if managed:
            c.start()
            assert c.wait_healthy(60) is leader, "the leader moved"
        else:
            kill_daemons(c)
        got[managed] = tps(c, leader, args)
    return got[True], got[False]


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--pairs", type=int, default=9)
    p.add_argument("--seconds", type=int, default=15)
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--scale", type=int, default=20)
    args = p.parse_args()
    harness.use_build(args.build)
    with benchlib.scratch("tps") as root, benchlib.cluster(root) as c:
        leader = c.wait_healthy()
        pgbench(c, leader, "-i", "-q", "-s", str(args.scale))
        tps(c, leader, args)        # the first run fills caches
        pairs = []
        for i in range(args.pairs):
            pairs.append(one_pair(c, leader, args, i % 2 == 0))
            progress(f"{i + 1}/{args.pairs}: {pairs[-1][0]:.0f} tps with, {pairs[-1][1]:.0f} without, "
                     f"ratio {pairs[-1][0] / pairs[-1][1]:.3f}")
        c.start()
        c.wait_healthy(60)
    benchlib.report(args, {"ratio": summary([a / b for a, b in pairs], 3),
                           "managed_tps": summary([a for a, _ in pairs]),
                           "unmanaged_tps": summary([b for _, b in pairs])})
    return 0


if __name__ == "__main__":
    sys.exit(main())
