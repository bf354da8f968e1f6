#!/usr/bin/python3
"""Outage by kind of fault, beside the bare floor of the same run.

The outage is the time from the fault to the first write that another leader's quorum acknowledged, seen by a client
that does nothing but write: through a libpq multi-host connection, or, where a machine is silent, by a client that
tries every address at once (libpq 15's connect_timeout is never below 2 s). For a switchover it is the longest gap
between two acknowledged writes. After each run every acknowledged value is looked for on the new leader, row by row.

Prints a table, and JSON with the parts: detection (from the first sign to the decision), fencing (until the grant) and
promotion as the orchestrator measured them; the rest of the outage is re-attachment: a standby streams from the new
leader, and the client finds it. Before each run, the floor's too, the machine is given time to become quiet."""

import json
import os
import random
import sys
import time

import benchlib
import floor
import harness
import netns
import plot
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


def last_election(c):
    """{detection, fencing, promotion} in ms, of the last election that the orchestrator won."""
    last = None
    for line in c.orchestrators[0].process.log_text().splitlines():
        if '"election_done"' in line:
            last = json.loads(line)
    return {part: last[f"{part}_ms"] for part in ("detection", "fencing", "promotion")} if last else {}


def one_run(c, fault, pace):
    """{outage_ms, back_ms, errors, lost, acknowledged, parts}"""
    mode, strike, undo = FAULTS[fault]
    old = c.wait_healthy(60)
    if fault.startswith("silent"):
        pace.out_of_backoff()
    benchlib.wait_quiet()
    with Writer(c, writers=1, mode=mode, pause_ms=1, retry_ms=5 if mode == "libpq" else 10) as w:
        w.wait_acks(50)
        time.sleep(random.uniform(0, 0.3))      # the phase
        if strike is None:
            at = time.monotonic_ns()
            c.switchover(c.followers()[0])
            wait(lambda: c.leader() is not old, 30, "another leader")
            w.wait_acks(50)
            outage = w.longest_gap_ms(at)
        else:
            at = strike(c, old)
            # Looking costs time on the same cores: not while the outage lasts.
            ack = wait(lambda: time.sleep(0.25) or w.first_ack_after(at, old.server), 60, f"a write after {fault}")
            outage = (ack.answered_ns - at) / 1e6
        began = time.monotonic_ns() if undo or strike is None else at
        if undo:
            undo(c, old)
        pace.changed = time.monotonic()
        wait(lambda: any(s.startswith(f"ogel_{old.id}_") for s in c.leader().streaming()), 60,
             "the old leader streams again")
        back = (time.monotonic_ns() - began) / 1e6
        w.stop()
        records = w.records()
        return {"outage_ms": outage, "back_ms": back, "lost": len(w.lost()), "parts": last_election(c),
                "errors": sum(r.verdict in "EU" and r.answered_ns >= at for r in records),
                "acknowledged": sum(r.verdict == "A" for r in records)}


def measure(c, faults, runs, servers=None):
    """Interleaved: one floor, one of each fault, again. Returns {fault: [run]} and the floor's runs."""
    results, floors, pace = {f: [] for f in faults}, [], Pace()
    for i in range(runs):
        if servers:
            benchlib.wait_quiet()
            floors.append(servers.run_once()["total_ms"])
        for fault in faults:
            r = one_run(c, fault, pace)
            results[fault].append(r)
            progress(f"{i + 1}/{runs} {fault}: {r['outage_ms']:.0f} ms, back after {r['back_ms']:.0f} ms, "
                     f"{r['lost']} of {r['acknowledged']} lost"
                     + (f" (floor {floors[-1]:.0f} ms)" if floors else ""))
    return results, floors


def parts_of(runs):
    """Medians of what an outage is made of; re-attachment is what is left of each run."""
    parts = {name: summary([r["parts"][name] for r in runs if r["parts"]]) for name in
             ("detection", "fencing", "promotion")}
    parts["re-attachment"] = summary([r["outage_ms"] - sum(r["parts"].values()) for r in runs if r["parts"]])
    return parts


def evaluate(results, floors):
    out = {"floor_ms": summary(floors), "faults": {}}
    for fault, runs in results.items():
        row = {"outage_ms": summary([r["outage_ms"] for r in runs]), "back_ms": summary([r["back_ms"] for r in runs]),
               "parts_ms": parts_of(runs), "errors": summary([r["errors"] for r in runs]),
               "acknowledged": sum(r["acknowledged"] for r in runs), "lost": sum(r["lost"] for r in runs)}
        if floors:
            row["ratio_to_floor"] = round(row["outage_ms"]["median"] / out["floor_ms"]["median"], 2)
        out["faults"][fault] = row
    return out


def table(result):
    """As people read it; times in ms."""
    line = "{:18} {:>5} {:>7} {:>7} {:>7} {:>6} {:>7} {:>6} {:>5} {:>5} {:>5} {:>5}  {}".format
    rows = [line("fault", "runs", "median", "min", "max", "floor", "whole", "client", "det.", "fenc.", "prom.",
                 "att.", "lost of acknowledged"),
            line("", "", "", "", "", "x", "again", "errors", "", "", "", "", "")]
    if result["floor_ms"]:
        f = result["floor_ms"]
        rows.append(line("bare floor", f["runs"], f["median"], f["min"], f["max"], 1, "", "", "", "", "", "", ""))
    for fault, row in result["faults"].items():
        o = row["outage_ms"]
        parts = [round(p["median"]) if p else "" for p in row["parts_ms"].values()]
        rows.append(line(fault, o["runs"], o["median"], o["min"], o["max"], row.get("ratio_to_floor", ""),
                         round(row["back_ms"]["median"]), round(row["errors"]["median"]), *parts,
                         f"{row['lost']} of {row['acknowledged']}"))
    return "\n".join(rows)


def picture(result):
    rows = [("bare floor", {"all of it": result["floor_ms"]["median"]})] if result["floor_ms"] else []
    for fault, row in result["faults"].items():
        rows.append((fault, {name: p["median"] for name, p in row["parts_ms"].items() if p}))
    return plot.bars("Outage by fault: medians of its parts", rows)


def main():
    p = benchlib.parser(__doc__)
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--fault", action="append", choices=FAULTS, help="only these (may be repeated)")
    p.add_argument("--no-floor", action="store_true")
    p.add_argument("--plot", metavar="FILE", help="write what the outages are made of there, as SVG")
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
    result = evaluate(results, floors)
    progress(table(result))
    if args.plot:
        with open(args.plot, "w") as f:
            f.write(picture(result))
    benchlib.report(args, result)
    return 1 if any(row["lost"] for row in result["faults"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
