#!/usr/bin/python3
"""Outage by kind of fault, beside the bare floor of the same run.

The outage is the time from the fault to the first write that another leader's quorum acknowledged, seen by a client
that does nothing but write: through a libpq multi-host connection, or, where a machine is silent, by a client that
tries every address at once (libpq 15's connect_timeout is never below 2 s). For a switchover it is the longest gap
between two acknowledged writes. After each run every acknowledged value is looked for on the new leader, row by row."""

import os
import random
import sys
import time

import benchlib
import floor
import harness
import netns
from benchlib import progress, summary
from clients import Writer
from harness import wait

# fault: (mode of the client, how it is done, how it is undone)
FAULTS = {
    "postmaster_killed": ("libpq", lambda c, n: n.kill_postmaster(), None),
    "node_killed": ("libpq", lambda c, n: n.kill(), lambda c, n: n.process.start()),
    "silent_stopped": ("race", lambda c, n: n.freeze(), lambda c, n: n.thaw()),
    "silent_cut": ("race", lambda c, n: cut(c, n), lambda c, n: c.network.heal()),
    "switchover": ("libpq", None, None),
}
NETWORKED = {"silent_cut"}
# One failover in the orchestrator's failover_backoff, unless the leader is provably dead; one that is merely silent
# is not, and would be given the rest of that time.
BACKOFF_S = 10


def cut(c, node):
    at = time.monotonic_ns()
    c.network.isolate(node.id)
    return at


class Pace:
    """When the leader last changed."""

    def __init__(self):
        self.changed = time.monotonic()

    def out_of_backoff(self):
        time.sleep(max(0.0, self.changed + BACKOFF_S + 0.5 - time.monotonic()))


def one_run(c, fault, pace):
    """{outage_ms, back_ms, lost, acknowledged}"""
    mode, strike, undo = FAULTS[fault]
    old = c.wait_healthy(60)
    if fault.startswith("silent"):
        pace.out_of_backoff()
    with Writer(c, writers=1, mode=mode, pause_ms=1, retry_ms=2 if mode == "libpq" else 10) as w:
        w.wait_acks(50)
        time.sleep(random.uniform(0, 0.3))      # the phase
        if strike is None:
            since = time.monotonic_ns()
            c.switchover(c.followers()[0])
            wait(lambda: c.leader() is not old, 30, "another leader")
            w.wait_acks(50)
            outage = w.longest_gap_ms(since)
        else:
            at = strike(c, old)
            # Looking costs time on the same cores: not while the outage lasts.
            ack = wait(lambda: time.sleep(0.25) or w.first_ack_after(at, old.server), 60, f"a write after {fault}")
            outage = (ack.answered_ns - at) / 1e6
            at = time.monotonic_ns() if undo else at
            if undo:
                undo(c, old)
        pace.changed = time.monotonic()
        began = time.monotonic_ns() if strike is None else at
        wait(lambda: any(s.startswith(f"ogel_{old.id}_") for s in c.leader().streaming()), 60,
             "the old leader streams again")
        back = (time.monotonic_ns() - began) / 1e6
        w.stop()
        lost = w.lost()
        return {"outage_ms": outage, "back_ms": back, "lost": len(lost), "acknowledged": len(w.acknowledged())}


def measure(c, faults, runs, servers=None):
    """Interleaved: one floor, one of each fault, again. Returns {fault: [run]} and the floor's runs."""
    results, floors, pace = {f: [] for f in faults}, [], Pace()
    for i in range(runs):
        if servers:
            floors.append(servers.run_once()["total_ms"])
        for fault in faults:
            r = one_run(c, fault, pace)
            results[fault].append(r)
            progress(f"{i + 1}/{runs} {fault}: {r['outage_ms']:.0f} ms, back after {r['back_ms']:.0f} ms, "
                     f"{r['lost']} of {r['acknowledged']} lost"
                     + (f" (floor {floors[-1]:.0f} ms)" if floors else ""))
    return results, floors


def table(results, floors):
    out = {"floor_ms": summary(floors), "faults": {}}
    for fault, runs in results.items():
        row = {"outage_ms": summary([r["outage_ms"] for r in runs]), "back_ms": summary([r["back_ms"] for r in runs]),
               "acknowledged": sum(r["acknowledged"] for r in runs), "lost": sum(r["lost"] for r in runs)}
        if floors:
            row["ratio_to_floor"] = round(row["outage_ms"]["median"] / out["floor_ms"]["median"], 2)
        out["faults"][fault] = row
    return out


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--fault", action="append", choices=FAULTS, help="only these (may be repeated)")
    p.add_argument("--no-floor", action="store_true")
    args = p.parse_args()
    harness.use_build(args.build)
    faults = args.fault or list(FAULTS)
    here = [f for f in faults if f not in NETWORKED]
    apart = [f for f in faults if f in NETWORKED and not netns.available()]
    with benchlib.scratch("failover") as root:
        results, floors = {}, []
        with floor.plain(root) as servers, benchlib.cluster(root) as c:
            results, floors = measure(c, here, args.runs, None if args.no_floor else servers)
        if apart:
            document = {"listen_addresses": "*", "hba": ["host all all 10.77.0.0/24 scram-sha-256"]}
            with benchlib.cluster(os.path.join(root, "net"), network=True, document=document) as c:
                results.update(measure(c, apart, args.runs)[0])
    result = table(results, floors)
    benchlib.report(args, result)
    return 1 if any(row["lost"] for row in result["faults"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
