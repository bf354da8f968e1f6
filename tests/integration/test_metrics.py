"""/metrics of both daemons."""

import re
import signal
import subprocess

import procs
from harness import wait

CLUSTER = {}


def scrape(part):
    reply = part.api.get("/metrics")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain"), reply
    return reply.body.decode()


def values(text, name):
    """{labels: value} of one metric."""
    out = {}
    for line in text.splitlines():
        m = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
        if m:
            out[m.group(1) or ""] = float(m.group(2))
    return out


def test_metrics__promtool__finds_nothing_to_say(c):
    for part in c.orchestrators + c.nodes:
        done = subprocess.run(["promtool", "check", "metrics"], input=scrape(part), text=True, capture_output=True)
        assert done.returncode == 0 and not done.stderr.strip(), f"{part.id}: {done.stdout}{done.stderr}"


def test_metrics__names__begin_with_ogel(c):
    for part in c.orchestrators + c.nodes:
        for line in scrape(part).splitlines():
            assert line.startswith(("#", "ogel_")) or not line, f"{part.id}: {line}"


def test_metrics__failover__is_counted_by_reason_and_timed(c):
    def total():
        return sum(values(scrape(c.orchestrators[0]), "ogel_failovers_total").values())
    before = total()
    old = c.leader()
    old.kill_postmaster()
    wait(lambda: c.leader() is not old, 15, "another leader")
    wait(lambda: total() == before + 1, 10, "one more failover")
    c.wait_healthy()
    text = scrape(c.orchestrators[0])
    assert 'reason="L1"' in text, text[:2000]
    counts = [k for k in re.findall(r"^(ogel_\w*failover\w*_seconds)_count", text, re.M)]
    assert counts, "no histogram of a failover's durations"


def test_metrics__generation_and_role__follow_the_cluster(c):
    generation = c.generation()
    for n in c.nodes:
        text = scrape(n)
        assert generation in values(text, "ogel_node_generation").values(), f"{n.id}: {text[:1500]}"


def test_metrics__postgres_frozen__up_is_zero_until_it_is_back(c):
    n = c.followers()[0]

    def up():
        return list(values(scrape(n), "ogel_up").values())
    assert up() == [1], up()
    pids = [p for p in procs.pids_in(n.data) if p != n.process.pid]
    procs.send(pids, signal.SIGSTOP)
    try:
        wait(lambda: up() == [0], 15, "it is not up")
    finally:
        procs.send(pids, signal.SIGCONT)
    wait(lambda: up() == [1], 15, "it is up again")


def test_metrics__without_token__as_configured(c):
    assert c.orchestrators[0].api.get("/metrics", token=None).status == 401     # metrics_open: false
    assert c.nodes[0].api.get("/metrics", token=None).status == 200             # its default: open
