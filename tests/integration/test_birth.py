"""Birth: what a new cluster is, and that nothing but `init` makes one."""

import contextlib
import os
import stat

from harness import own, wait

CLUSTER = {}


def test_birth__init__gives_three_streaming_nodes_on_timeline_two(c):
    leader = c.healthy()
    s = c.status()
    assert s["generation"] == 2, s
    assert all(n["timeline"] == 2 for n in s["nodes"]), s
    assert leader.one("SELECT timeline_id FROM pg_control_checkpoint()") == 2
    assert len({n.one("SELECT system_identifier FROM pg_control_system()") for n in c.nodes}) == 1


def test_birth__defaults__are_those_that_lose_nothing(c):
    want = {"synchronous_commit": "remote_apply", "fsync": "on", "full_page_writes": "on",
            "data_checksums": "on", "wal_log_hints": "on", "restart_after_crash": "off",
            "hot_standby_feedback": "on", "wal_level": "replica", "max_wal_senders": "10",
            "password_encryption": "scram-sha-256"}
    for n in c.nodes:
        have = dict(n.sql("SELECT name, setting FROM pg_settings"))
        assert {k: have[k] for k in want} == want, n.id
        assert have["synchronous_standby_names"], f"{n.id}: N is empty"


def test_birth__names_of_each_generation__name_both_others_and_their_incarnations(c):
    names = c.leader().streaming()
    want = {f"ogel_{n.id}_i1_g{c.generation()}" for n in c.followers()}
    assert names == want, names


def test_birth__second_init__is_refused_and_changes_nothing(c):
    before, generation = c.leader().postmaster_pid(), c.generation()
    reply = c.post("init", {})
    assert reply.status == 409, reply
    assert (c.leader().postmaster_pid(), c.generation()) == (before, generation)


def test_birth__secrets__are_not_in_any_log_or_process_list(c):
    secrets = [t for n, t in c.secret_texts.items()]
    for part in c.nodes + c.orchestrators:
        log = part.process.log_text()
        assert not [t for t in secrets if t in log], part.id
    for n in c.nodes:
        for pid in n.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    line = f.read().decode(errors="replace")
                assert not [t for t in secrets if t in line], line


def test_birth__files_of_a_node__are_closed_to_others(c):
    for n in c.nodes:
        for d in (n.data, n.state):
            mode = stat.S_IMODE(os.stat(d).st_mode)
            assert mode & 0o077 == 0, f"{d}: {mode:o}"


def test_birth__application_owner__can_work_and_is_no_superuser(c):
    leader = c.leader()
    who = dict(user=c.owner, database=c.database, password="owner")
    assert leader.one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", **who) is False
    leader.sql("CREATE TABLE of_owner (x int)", **who)
    leader.sql("DROP TABLE of_owner", **who)


@own(start="daemons")
def test_birth__without_init__nothing_is_created(c):
    def all_answer():
        s = c.status()
        assert not s["leader"], s
        return all(n["agent"]["reachable"] for n in s["nodes"]) and "X11" in str(s["failover_blockers"])
    wait(all_answer, 15, "the unborn cluster is shown")
    c.orchestrators[0].process.kill()       # a new one looks at three empty disks
    c.orchestrators[0].process.start()
    wait(all_answer, 15, "the unborn cluster is shown")
    assert not [n.id for n in c.nodes if os.path.exists(f"{n.data}/PG_VERSION")]
    assert c.orchestrators[0].api.get("/connect?intent=write").status == 503
