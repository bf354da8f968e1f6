"""Whatever is wrong is said with its place, breaks nothing, and leaves the daemon running where it can."""

import copy
import os
import socket
import subprocess

import yaml

import harness
import procs
from harness import own, wait

CLUSTER = {}


def run_with(part, change, program=None):
    """The daemon with its configuration changed by change(dict or text), until it ends; stderr with the exit code."""
    config = yaml.safe_load(open(part.config))
    changed = change(config)
    text = changed if isinstance(changed, str) else yaml.safe_dump(changed or config, sort_keys=False)
    path = procs.write_file(f"{part.dir}/changed.yaml", text)
    argv = [program or part.process.argv[0], "--config", path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=15 * procs.SLOW, env=procs.clean_env(),
                          stdin=subprocess.DEVNULL, **procs.as_postgres())
    return done, path


def refused(part, change, *says):
    done, path = run_with(part, change)
    assert done.returncode not in (0, None) and done.returncode > 0, f"exit {done.returncode}: {done.stderr}"
    for text in says:
        assert text in done.stderr, f"{text!r} is not in: {done.stderr}"
    return done, path


@own(start=None)
def test_bad_input__configuration__is_refused_with_file_and_line(c):
    for part in (c.nodes[0], c.orchestrators[0]):
        def unknown(config):
            config["no_such_option"] = 1
        done, path = refused(part, unknown, "no_such_option")
        line = [i for i, x in enumerate(open(path), 1) if "no_such_option" in x][0]
        assert f"{path}:{line}" in done.stderr, done.stderr
    agent, orchestrator = c.nodes[0], c.orchestrators[0]
    refused(agent, lambda f: f.update(fence_timeout="3 parsecs"), "fence_timeout")
    refused(agent, lambda f: f.update(fence_timeout="1ms"), "fence_timeout", "500")
    refused(orchestrator, lambda f: f.update(failure_timeout="900000s"), "failure_timeout")
    refused(agent, lambda f: f.update(node="No-Such Id"), "node")
    refused(agent, lambda f: f["peers"].pop() and None, "peers")
    refused(agent, lambda f: f["tokens"].update(admin="/no/such/file"), "/no/such/file")
    refused(agent, lambda f: f.update(state_directory=f["data_directory"] + "/state"), "state_directory")
    refused(agent, lambda f: f.pop("data_directory") and None, "data_directory")
    refused(agent, lambda f: "cluster: [unclosed\n", "changed.yaml")
    refused(orchestrator, lambda f: "clusters: {a: b\n", "changed.yaml")
    refused(orchestrator, lambda f: f["clusters"][0]["nodes"].pop() and None, "nodes")
    refused(orchestrator, lambda f: f["clusters"].append(copy.deepcopy(f["clusters"][0])), "name")


@own(start=None)
def test_bad_input__missing_configuration_file__is_named(c):
    for program in ("ogel-agent", "ogel-orchestrator", "ogelctl"):
        argv = [harness.tool(program), "--config", "/no/such.yaml"] + (["status"] if program == "ogelctl" else [])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, env=procs.clean_env())
        assert done.returncode > 0 and "/no/such.yaml" in done.stderr, done


@own(start=None)
def test_bad_input__port_taken__is_named(c):
    for part in (c.nodes[0], c.orchestrators[0]):
        port = part.agent_port if part in c.nodes else part.port
        with socket.socket() as s:
            s.bind((part.host, port))
            s.listen()
            refused(part, lambda f: None, str(port))


@own(start=None)
def test_bad_input__secret_readable_by_others__is_refused(c):
    part = c.nodes[0]
    os.chmod(f"{part.secrets}/admin", 0o644)
    refused(part, lambda f: None, f"{part.secrets}/admin")


@own(start=None)
def test_bad_input__wrong_postgres_directory__is_named(c):
    refused(c.nodes[0], lambda f: f.update(postgres_bindir="/usr/lib"), "/usr/lib")


@own(start=None)
def test_bad_input__read_only_state_directory__is_named(c):
    part = c.nodes[0]
    os.chown(part.state, 0, 0)
    os.chmod(part.state, 0o555)
    refused(part, lambda f: None, part.state)


def everything_fine(c, before):
    c.healthy()
    assert [p.process.pid for p in c.nodes + c.orchestrators] == before


def test_bad_input__requests__are_answered_with_the_reason_and_harm_nothing(c):
    before = [p.process.pid for p in c.nodes + c.orchestrators]
    paths = {"orchestrator": "/v1/clusters/main/switchover", "agent": "/v1/desired"}
    for part, path in [(c.orchestrators[0], paths["orchestrator"])] + [(n, paths["agent"]) for n in c.nodes]:
        admin = c.secret_texts["peer" if part in c.nodes else "admin"]
        for raw in (b"{", b"[]", b"\xff\xfe", b'{"target": 17}', b'{"target": "' + b"x" * 5000 + b'"}',
                    b"[" * 10000, b"null", b"\x00"):
            reply = part.api.call("POST", path, raw=raw, token=admin, headers={"Content-Type": "application/json"})
            assert 400 <= reply.status < 500, (part.id, raw[:40], reply)
        for token in (None, "wrong", "", "x" * 3000):
            reply = part.api.call("POST", path, body={}, token=token)
            assert reply.status in (401, 431, 400), (part.id, token, reply)
    everything_fine(c, before)


def test_bad_input__ten_mebibytes_of_json__are_refused(c):
    before = [p.process.pid for p in c.nodes + c.orchestrators]
    body = b'{"x": "' + b"y" * (10 << 20) + b'"}'
    for part, path in ((c.orchestrators[0], "/v1/clusters/main/settings"), (c.nodes[0], "/v1/desired")):
        try:
            reply = part.api.call("POST", path, raw=body, headers={"Content-Type": "application/json"},
                                  token=c.secret_texts["peer" if part in c.nodes else "admin"])
            assert reply.status == 413, reply
        except ConnectionError:
            pass        # closed while we were still sending: as good a refusal
    everything_fine(c, before)


def test_bad_input__slow_client__is_dropped_and_others_are_served(c):
    o = c.orchestrators[0]
    slow = socket.create_connection((o.host, o.port))
    slow.sendall(b"GET /connect?intent=write HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    try:
        assert o.api.get("/connect?intent=write").status == 200
        slow.settimeout(40 * procs.SLOW)
        assert slow.recv(4096) == b"" or b"408" in slow.recv(1)
    except ConnectionError:
        pass
    finally:
        slow.close()


def test_bad_input__other_protocol_version__is_refused_by_name(c):
    n = c.followers()[0]
    report = n.api.get("/v1/report", token=c.secret_texts["peer"]).json
    reply = n.api.post("/v1/desired", {"protocol": 999, "cluster_id": report["cluster_id"], "role": "fenced",
                                       "generation": 99, "proposer": "1"}, token=c.secret_texts["peer"])
    assert 400 <= reply.status < 500 and b"protocol" in reply.body, reply
    c.healthy()


def test_bad_input__machine_of_another_cluster_that_registers__is_refused_and_supersedes_nobody(c):
    """It knows the token, and has our address for its peer's."""
    n, other = c.followers()[:2]
    token = c.secret_texts["peer"]
    before = n.api.get("/v1/report", token=token).json
    newer = dict(before["incarnations"][c.nodes.index(other)])
    newer["number"] += 1
    stranger = before["cluster_id"][::-1]
    assert stranger != before["cluster_id"]
    reply = n.api.post("/v1/register", {"node": other.id, "cluster_id": stranger, "incarnation": newer}, token=token)
    assert reply.status == 409 and "another cluster" in reply.json["detail"], reply
    reply = n.api.post("/v1/register", {"node": other.id, "incarnation": newer}, token=token)
    assert reply.status == 400 and "cluster" in reply.json["detail"], reply
    assert n.api.get("/v1/report", token=token).json["incarnations"] == before["incarnations"]


def test_bad_input__unknown_cluster_and_node__are_404(c):
    api = c.orchestrators[0].api
    assert api.get("/v1/clusters/nonsense").status == 404
    assert api.post("/v1/clusters/main/nodes/n9/restart", {}).status == 404


def test_bad_input__setting_with_an_unknown_name_or_value__is_refused_and_postgres_lives(c):
    pids = [n.postmaster_pid() for n in c.nodes]
    for values in ({"no_such_setting": "1"}, {"work_mem": "many"}, {"max_connections": "-5"}):
        reply = c.post("settings", {"settings": values})
        assert 400 <= reply.status < 500 and next(iter(values)).encode() in reply.body, (values, reply)
    c.healthy()
    assert [n.postmaster_pid() for n in c.nodes] == pids


@own(start="daemons")
def test_bad_input__data_directory_with_foreign_data__is_left_alone(c):
    n = c.nodes[0]
    n.kill()
    procs.make_dir(n.data)
    keep = procs.write_file(f"{n.data}/precious.txt", "do not delete")
    n.process.start()
    wait(lambda: n.api.get("/liveness").status == 200, 15, "the agent answers")
    reply = c.post("init", {})
    assert not (reply.status == 200 and c.status()["leader"]), reply
    assert open(keep).read() == "do not delete"
    wait(lambda: n.data in n.process.log_text() or "C7" in str(c.events()) + n.process.log_text(), 15,
         "the foreign data is named")


@own()
def test_bad_input__node_of_another_cluster__is_named_and_not_touched(c):
    """An agent whose promise belongs elsewhere answers at our address."""
    import tempfile
    with tempfile.TemporaryDirectory(prefix="ogel-") as d:
        os.chmod(d, 0o755)
        other = harness.Cluster(os.path.join(d, "c"), secret_texts=c.secret_texts)
        try:
            other.bring_up()
            n = c.followers()[0]
            stranger = other.followers()[0]
            n.kill()
            stranger.kill()
            for kind in ("state", "data"):
                ours, theirs = getattr(n, kind), getattr(stranger, kind)
                os.rename(ours, ours + ".kept")
                subprocess.run(["cp", "-a", theirs, ours], check=True)
            n.process.start()
            wait(lambda: "X10" in str(c.status()["failover_blockers"]), 20, "the foreign node is named")
            assert len(c.leader().streaming()) == 1
        finally:
            other.close()
