"""The agent dies, the database does not notice."""

import random
import subprocess
import threading
import time

import procs
from clients import Writer
from harness import deadline, own, wait

CLUSTER = {}
WEIGHT = 6


def agent_answers(node):
    return node.api.get("/liveness").status == 200


def test_adopt__agent_killed_and_restarted_under_live_primary__drops_no_connection(c):
    leader, generation = c.leader(), c.generation()
    postmaster = leader.postmaster_pid()
    conn = leader.connect()
    backend = conn.info.backend_pid
    with Writer(c) as w:
        w.wait_acks(10)
        leader.process.kill()
        w.wait_acks(50)
        leader.process.start()
        wait(lambda: agent_answers(leader), 15, "the new agent answers")
        c.wait_healthy()
        w.wait_acks(50)
        w.stop()
        assert not [r for r in w.records() if r.verdict in "UE"][4:], "a writer lost its connection"
        w.check()
    with conn.cursor() as cur:
        cur.execute("SELECT pg_backend_pid(), pg_is_in_recovery()")
        assert cur.fetchone() == (backend, False)
    assert (leader.postmaster_pid(), c.leader(), c.generation()) == (postmaster, leader, generation)


def test_adopt__agent_of_a_follower_killed__its_postgres_streams_on(c):
    n = c.followers()[0]
    postmaster = n.postmaster_pid()
    n.process.kill()
    assert n.postmaster_pid() == postmaster
    n.process.start()
    wait(lambda: agent_answers(n), 15, "the new agent answers")
    c.wait_healthy()
    assert n.postmaster_pid() == postmaster


@deadline(60)
def test_adopt__leaders_agent_stays_down__leader_is_kept_and_said_so(c):
    leader, generation = c.leader(), c.generation()
    with Writer(c) as w:
        leader.process.kill()
        wait(lambda: "K1" in str(c.events()[-10:]), 15, "agent down is shown")
        until = time.monotonic() + 4 * procs.SLOW       # longer than failure_timeout and fence_timeout
        while time.monotonic() < until:
            w.wait_acks(1, 5)
        assert (c.leader(), c.generation()) == (leader, generation)
    leader.process.start()
    c.wait_healthy()
    assert c.generation() == generation


def test_adopt__postmaster_died_while_no_agent_ran__is_noticed_and_replaced(c):
    leader = c.leader()
    with Writer(c) as w:
        w.wait_acks(5)
        leader.process.kill()
        leader.kill_postmaster()
        wait(lambda: c.leader() is not leader, 15, "another leader")
        leader.process.start()
        c.wait_healthy()
        w.check(at_least=5)


def test_adopt__stale_pid_file_naming_a_stranger__is_not_believed(c):
    n = c.followers()[0]
    n.kill()
    stranger = subprocess.Popen(["sleep", "600"], cwd="/")
    try:
        with open(f"{n.data}/postmaster.pid") as f:
            lines = f.read().split("\n")
        lines[0] = str(stranger.pid)
        procs.write_file(f"{n.data}/postmaster.pid", "\n".join(lines))
        n.process.start()
        c.wait_healthy()
        assert stranger.poll() is None, "the stranger was killed"
    finally:
        stranger.kill()
        stranger.wait()


def test_adopt__second_agent_on_the_same_state__is_refused(c):
    n = c.leader()
    done = subprocess.run(n.process.argv, capture_output=True, text=True, timeout=20,
                          env=procs.clean_env(), **procs.as_postgres())
    assert done.returncode != 0
    assert n.state in done.stderr, done.stderr
    c.healthy()


@deadline(240)
def test_adopt__agents_killed_at_random_moments_of_a_failover__pick_up_again(c):
    with Writer(c) as w:
        for _ in range(6):
            leader = c.wait_healthy(45)
            survivors = [n for n in c.nodes if n is not leader]
            leader.kill_postmaster()
            time.sleep(random.uniform(0, 0.15))     # anywhere between promise and re-attachment
            for n in random.sample(survivors, random.choice((1, 2))):
                n.process.kill()
                n.process.start()
            c.wait_leader(30)
        c.wait_healthy(45)
        w.check(at_least=6)


@deadline(240)
def test_adopt__agent_killed_at_random_moments_of_a_clone__picks_up_again(c):
    for _ in range(4):
        n = c.followers()[0]
        n.destroy()
        n.process.start()
        time.sleep(random.uniform(0, 1.5))
        n.process.kill()
        n.process.start()
        c.wait_healthy(60)


@own(start="daemons")
@deadline(240)
def test_adopt__agents_killed_at_random_moments_of_a_birth__init_can_be_repeated(c):
    wait(lambda: all(n["agent"]["reachable"] for n in c.status()["nodes"]), 15, "all agents answer")
    asking = threading.Thread(target=lambda: c.post("init"), daemon=True)
    asking.start()
    time.sleep(random.uniform(0, 2))
    for n in c.nodes:
        n.process.kill()
        n.process.start()

    asking.join()

    def born():
        if not c.status()["leader"]:
            c.post("init")      # refused once birth has ended; needed again if it had not
        return c.healthy()
    wait(born, 90, "the cluster is born")


def test_adopt__agent_stopped_politely__leaves_postgres_running(c):
    leader, generation = c.leader(), c.generation()
    postmaster = leader.postmaster_pid()
    assert leader.process.stop() == 0
    assert leader.postmaster_pid() == postmaster
    leader.process.start()
    c.wait_healthy()
    assert c.generation() == generation


def test_adopt__primary_without_a_grant__is_stopped_and_taken_back_as_a_follower(c):
    """Somebody's pg_promote(): the timeline it took is burnt."""
    leader, n = c.leader(), c.followers()[0]
    n.sql("SELECT pg_promote(wait => false)")
    wait(lambda: n.is_primary() or "S3" in str(c.events()), 10, "the promotion is seen")
    c.wait_healthy(45)
    assert c.leader() is leader or not n.is_primary()
    wait(lambda: {m["timeline"] for m in c.status()["nodes"]} == {c.generation()}, 10,
         "every node is on the timeline of its generation")


def test_adopt__promoted_by_hand_and_crashed_unseen__is_given_up_for_a_copy(c):
    """While its agent stands still, which then has a configuration to write: what that server wrote itself must not be
    taken for its leader's WAL."""
    leader, n = c.leader(), c.followers()[0]
    before = len(c.events())
    n.process.freeze()
    n.sql("SELECT pg_promote(wait => true)")
    n.sql("SET synchronous_commit = local; CREATE TABLE by_hand (x int)")
    n.sql("CHECKPOINT")
    c.settings({"work_mem": "5MB"})
    n.kill_postmaster()
    n.process.thaw()
    c.wait_healthy(45)
    assert c.leader() is leader
    assert any("S3" in str(e) and n.id in str(e) for e in c.events()[before:]), c.events()[before:]
    assert n.one("SELECT to_regclass('by_hand') IS NULL"), "its own WAL is gone"
    wait(lambda: n.one("SHOW work_mem") == "5MB", 10, "and it has the configuration")


def test_adopt__sync_names_emptied_by_a_superuser__demotes_and_names_the_cause(c):
    old = c.leader()
    conn = old.connect()
    conn.autocommit = True
    with conn.cursor() as cur:
        cur.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        cur.execute("SELECT pg_reload_conf()")
    wait(lambda: "S4" in str(c.events()), 15, "the violation is named")
    c.wait_healthy()
    assert c.leader().one("SHOW synchronous_standby_names")
    with open(f"{old.data}/postgresql.auto.conf") as f:
        assert "synchronous_standby_names" not in f.read()


def test_adopt__reader_that_counted_in_an_earlier_run__is_answered_in_full_at_the_same_sequence(c):
    n = c.followers()[0]

    def ask():
        report = n.api.get("/v1/report").json
        since = f"/v1/report?since={report['sequence']}&wait_ms=0&run="
        assert n.api.get(since + report["agent_run"]).status == 204, "there is news: ask again"
        other = n.api.get(since + "0123456789abcdef")
        assert other.status == 200 and other.json["agent_run"] == report["agent_run"], other
        return True
    wait(ask, 10, "a reader of this run hears no news, one of another run all of it")
