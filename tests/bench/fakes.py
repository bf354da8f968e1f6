"""The real orchestrator over simulated agents (fake_agents.c): no Postgres, any number of clusters."""

import http.client
import json
import os
import secrets
import subprocess
import sys
import time

import yaml

import harness
import procs


class Program:
    """One fake_agents. options: -b, -l, -f of the program."""

    def __init__(self, root, token_file, count, **options):
        argv = [harness.tool("tests/bench/fake_agents"), "-n", str(count), "-t", token_file]
        argv += [x for name, value in options.items() if value for x in ("-" + name, str(value))]
        self.popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      start_new_session=True, **procs.as_postgres())
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"fake_agents: exit {self.popen.wait()}")
        hello = json.loads(line)
        self.control, self.clusters = hello["control"], hello["clusters"]

    def close(self):
        """Exit status; it is a bug of the simulation if that is not 0."""
        self.popen.stdin.close()
        try:
            self.popen.stdout.read()
            return self.popen.wait(10 * procs.SLOW)
        finally:
            self.popen.kill()
            self.popen.wait()
            self.popen.stdout.close()

    def ask(self, token, method, path):
        conn = http.client.HTTPConnection("127.0.0.1", self.control, timeout=10 * procs.SLOW)
        conn.request(method, path, headers={"Authorization": "Bearer " + token})
        reply = conn.getresponse()
        body = reply.read()
        conn.close()
        assert reply.status in (200, 204), f"{method} {path}: {reply.status} {body}"
        return json.loads(body) if body else None


class Fakes:
    """Clusters of simulated agents for as long as the context lasts, so many to a process, so that one that is busy
    does not make the others look slow. lag_ms: how often their WAL grows; flap_ms: a follower leaves or comes back."""

    def __init__(self, root, count, lag_ms=0, flap_ms=0, per_process=50):
        self.root, self.token = procs.make_dir(root, 0o755), secrets.token_hex(16)
        self.per_process, self.programs = per_process, []
        token_file = procs.write_file(os.path.join(self.root, "token"), self.token + "\n")
        try:
            for first in range(0, count, per_process):
                self.programs.append(Program(self.root, token_file, min(per_process, count - first), b=first,
                                             l=lag_ms, f=flap_ms))
        except BaseException:
            self.close()
            raise
        self.clusters = [c for p in self.programs for c in p.clusters]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        done = [p.close() for p in self.programs]
        assert not any(done), f"fake_agents: exit {done}"

    def pids(self):
        return [p.popen.pid for p in self.programs]

    def stats(self):
        total = {}
        for program in self.programs:
            for name, value in program.ask(self.token, "GET", "/stats").items():
                total[name] = total[name] + value if name in total else value
        return total

    def settled(self):
        return self.stats()["settled"] == len(self.clusters)

    def _post(self, cluster, what):
        program = self.programs[cluster // self.per_process]
        program.ask(self.token, "POST", f"{what}cluster={cluster % self.per_process}")

    def kill(self, cluster=0):
        self._post(cluster, "/kill?")

    def write(self, cluster=0):
        self._post(cluster, "/write?")

    def fault(self, kind, node=0, cluster=0, status=0):
        self._post(cluster, f"/fault?kind={kind}&status={status}&node={node}&")

    def serve(self, on, node=0, cluster=0):
        self._post(cluster, f"/serve?on={int(on)}&node={node}&")

    def measure(self, kill_ms):
        """Forgets what was measured, and lets a leader die each so many milliseconds from now on (0: none)."""
        for program in self.programs:
            program.ask(self.token, "POST", f"/start?kill_ms={kill_ms * len(self.programs)}")
            time.sleep(kill_ms / 1000)


class Orchestrator:
    """ogel-orchestrator over these fakes; more goes into its configuration."""

    def __init__(self, fakes, name="o", **more):
        self.port, self.fakes = procs.free_port(), fakes
        self.dir = procs.make_dir(os.path.join(fakes.root, name), 0o755)
        self.tokens = {"read": secrets.token_hex(16), "admin": secrets.token_hex(16), "peer": fakes.token}
        files = {t: procs.write_file(os.path.join(self.dir, t), text + "\n") for t, text in self.tokens.items()}
        self.config = procs.write_file(os.path.join(self.dir, "config.yaml"), yaml.safe_dump({
            "listen": f"127.0.0.1:{self.port}", "tokens": files, "clusters": fakes.clusters,
            "passwords": {"monitor": procs.write_file(os.path.join(self.dir, "monitor"), "monitor\n")}, **more}))
        self.process = procs.Process(name, [harness.tool("ogel-orchestrator"), "--config", self.config],
                                     os.path.join(self.dir, "log"))

    def __enter__(self):
        self.process.start()
        try:
            procs.wait(self.ready, 30, "the orchestrator sees a leader in each cluster")
        except BaseException:
            print(self.process.log_text()[-3000:], file=sys.stderr)
            self.process.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        status = self.process.stop()
        if kind is None:
            assert status == 0, f"exit {status}: {self.process.log_text()[-3000:]}"
        else:
            print(self.process.log_text()[-3000:], file=sys.stderr)

    def call(self, method, path, body=None):
        """(status, JSON or None)"""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10 * procs.SLOW)
        try:
            conn.request(method, path, body=None if body is None else json.dumps(body),
                         headers={"Authorization": "Bearer " + self.tokens["admin"]})
            reply = conn.getresponse()
            body = reply.read()
        except http.client.HTTPException as e:
            raise ConnectionError(repr(e)) from e
        finally:
            conn.close()
        return reply.status, json.loads(body) if body and "json" in reply.getheader("Content-Type", "") else None

    def get(self, path):
        return self.call("GET", path)

    def clusters(self):
        status, body = self.get("/v1/clusters")
        assert status == 200, body
        return body["clusters"]

    def ready(self):
        return all(c["writable"] and c["failover_possible"] for c in self.clusters())
