"""ogelctl, as a person or a script uses it."""

import json
import os
import subprocess
import time

import procs
from harness import deadline, tool, wait

CLUSTER = {}


def status(c):
    return json.loads(c.ctl("status", "-o", "json").stdout)["clusters"][0]


def test_ctl__status_json__has_the_fields_promised(c):
    c.healthy()
    s = status(c)
    for field in ("name", "leader", "generation", "failover_possible", "failover_blockers", "maintenance", "nodes"):
        assert field in s, field
    for n in s["nodes"]:
        for field in ("id", "host", "port", "role", "state", "sync", "lag_bytes", "timeline", "generation"):
            assert field in n, field
    assert s["leader"] == c.leader().id


def test_ctl__status_table__names_each_node_and_the_leader(c):
    text = c.ctl("status").stdout
    for n in c.nodes:
        assert n.id in text and str(n.port) in text, text
    assert "leader" in text


def test_ctl__status__problems_come_first(c):
    n = c.followers()[0]
    n.kill()
    wait(lambda: not status(c)["failover_possible"], 15, "the problem is known")
    text = c.ctl("status", check=False).stdout
    where = text.find(n.id)
    assert 0 <= where < text.find("leader") or "not possible" in text.split("\n\n")[0], text
    n.process.start()
    c.wait_healthy()


@deadline(60)
def test_ctl__switchover__shows_what_happened(c):
    target = c.followers()[0]
    done = c.ctl("switchover", "--to", target.id, "--yes")
    assert target.id in done.stdout + done.stderr
    assert c.leader() is target
    c.wait_healthy()


@deadline(60)
def test_ctl__failover_on_a_healthy_leader__asks_and_names_the_smoother_way(c):
    leader = c.leader()
    done = c.ctl("failover", input="no\n", check=False)
    assert done.returncode != 0 and "switchover" in done.stdout + done.stderr, done
    assert c.leader() is leader
    c.ctl("failover", "--yes")
    wait(lambda: c.leader() is not leader, 15, "another leader")
    c.wait_healthy()


def test_ctl__connect__prints_a_uri_without_password_and_runs_a_program(c):
    uri = c.ctl("connect", "--database", c.database, "--user", c.owner).stdout.strip()
    assert uri.startswith("postgresql://") and c.password("owner") not in uri, uri
    done = subprocess.run([tool("ogelctl"), "--config", c.ctl_config, "connect", "--database", c.database,
                           "--user", c.owner, "--", "psql", "-XAtc", "SELECT pg_is_in_recovery()"],
                          capture_output=True, text=True, timeout=20,
                          env=procs.clean_env(PGPASSWORD=c.password("owner")))
    assert done.stdout.strip() == "f", done


def test_ctl__maintenance__on_and_off(c):
    c.ctl("maintenance", "on")
    wait(lambda: status(c)["maintenance"], 10, "maintenance")
    assert "maintenance" in c.ctl("status", check=False).stdout.lower()
    c.ctl("maintenance", "off")
    wait(lambda: not status(c)["maintenance"], 10, "maintenance ends")


def test_ctl__config_set__reaches_every_node_and_shows(c):
    c.ctl("config", "set", "work_mem=7MB")
    for n in c.nodes:
        wait(lambda n=n: n.one("SHOW work_mem") == "7MB", 15, f"work_mem on {n.id}")
    assert "work_mem" in c.ctl("config", "show").stdout


def test_ctl__config_set__refuses_what_breaks_the_guarantees_with_a_reason(c):
    for setting in ("fsync=off", "synchronous_standby_names=''", "recovery_min_apply_delay=5s",
                    "full_page_writes=off", "restart_after_crash=on", "primary_conninfo=x"):
        done = c.ctl("config", "set", setting, check=False)
        text = done.stdout + done.stderr
        assert done.returncode != 0 and setting.split("=")[0] in text, text
    assert c.leader().one("SHOW fsync") == "on"


@deadline(180)
def test_ctl__setting_that_needs_a_restart__is_pending_and_a_rolling_restart_applies_it(c):
    old = c.leader()
    c.ctl("config", "set", "max_connections=237")
    wait(lambda: any(n.get("pending_restart") for n in status(c)["nodes"]), 15, "a pending restart is shown")
    assert "max_connections" in c.ctl("config", "diff").stdout
    c.ctl("restart", "--rolling", "--yes", timeout=120)
    c.wait_healthy(30)
    for n in c.nodes:
        assert n.one("SHOW max_connections") == "237", n.id
    assert c.leader() is not old, "it ends in a switchover"


def test_ctl__setting_that_standbys_need__can_be_raised_and_not_lowered(c):
    now = c.leader().one("SHOW max_connections")
    done = c.ctl("config", "set", f"max_connections={int(now) - 1}", check=False)
    assert done.returncode == 1 and "can only be raised" in done.stderr, done
    c.healthy()


@deadline(90)
def test_ctl__node_restart__restarts_that_postgres_only(c):
    n = c.followers()[0]
    before = {m.id: m.postmaster_pid() for m in c.nodes}
    c.ctl("node", "restart", n.id, "--yes")
    wait(lambda: n.postmaster_pid() != before[n.id], 20, "a new postmaster")
    c.wait_healthy()
    assert {m.id for m in c.nodes if m.postmaster_pid() != before[m.id]} == {n.id}


@deadline(120)
def test_ctl__node_reinit__clones_anew(c):
    n = c.followers()[0]
    with open(f"{n.data}/marker_of_the_test", "w") as f:
        f.write("x")
    c.ctl("node", "reinit", n.id, "--yes", timeout=90)
    wait(lambda: not os.path.exists(f"{n.data}/marker_of_the_test"), 60, "the old data is gone")
    c.wait_healthy(60)


def test_ctl__node_reinit_of_the_leader__is_refused(c):
    done = c.ctl("node", "reinit", c.leader().id, "--yes", check=False)
    assert done.returncode != 0, done
    c.healthy()


@deadline(120)
def test_ctl__fenced_node__does_not_acknowledge_and_is_no_candidate(c):
    n = c.followers()[0]
    c.ctl("node", "fence", n.id, "--yes")
    try:
        leader = c.leader()
        wait(lambda: not [s for s in leader.streaming() if s.startswith(f"ogel_{n.id}_")], 15, "it is detached")
        c.ctl("switchover", "--to", n.id, "--yes", check=False)
        assert c.leader() is not n
    finally:
        c.ctl("node", "unfence", n.id, "--yes")
    c.wait_healthy()


def test_ctl__events__are_listed_and_followed(c):
    follow = subprocess.Popen([tool("ogelctl"), "--config", c.ctl_config, "events", "--follow"],
                              stdout=open(f"{c.root}/follow.log", "w"), stdin=subprocess.DEVNULL,
                              env=procs.clean_env())
    try:
        target = c.followers()[0]
        c.ctl("switchover", "--to", target.id, "--yes")
        wait(lambda: "O3" in open(f"{c.root}/follow.log").read(), 15, "the event is followed")
        text = c.ctl("events").stdout
        assert "O1" in text and "O3" in text, text
    finally:
        follow.terminate()
        follow.wait(10)


def test_ctl__watch__shows_the_cluster_until_it_is_stopped(c):
    log = f"{c.root}/watch.log"
    watch = subprocess.Popen([tool("ogelctl"), "--config", c.ctl_config, "watch"], stdout=open(log, "w"),
                             stdin=subprocess.DEVNULL, env=procs.clean_env())
    try:
        wait(lambda: c.leader().id in open(log).read(), 10, "the table")
    finally:
        watch.terminate()
        watch.wait(10)


def test_ctl__version_completion_help__need_no_cluster(c):
    for argv in (("version",), ("completion", "bash"), ("--help",), ("switchover", "--help")):
        done = subprocess.run([tool("ogelctl"), *argv], capture_output=True, text=True, timeout=10,
                              env=procs.clean_env())
        assert done.returncode == 0 and done.stdout, (argv, done)
    text = subprocess.run([tool("ogelctl"), "completion", "bash"], capture_output=True, text=True).stdout
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_ctl__unknown_command__is_a_usage_error(c):
    done = c.ctl("frobnicate", check=False)
    assert done.returncode == 2 and "frobnicate" in done.stderr, done


def test_ctl__no_orchestrator_answers__says_which_it_tried(c):
    o = c.orchestrators[0]
    o.process.kill()
    began = time.monotonic()
    done = c.ctl("status", check=False)
    assert done.returncode not in (0, 2) and str(o.port) in done.stderr, done
    assert time.monotonic() - began < 15 * procs.SLOW
    o.process.start()
    c.wait_healthy()


def test_ctl__operators_action__stands_in_the_history_with_who(c):
    c.ctl("maintenance", "on")
    c.ctl("maintenance", "off")
    who = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    wait(lambda: any("maintenance" in str(e) and (who in str(e) or "admin" in str(e)) for e in c.events()), 10,
         "the action with who stands in the history")
