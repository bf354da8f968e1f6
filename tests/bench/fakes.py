"""The real orchestrator over simulated agents (fake_agents.c): no Postgres, any number of clusters."""

import http.client
import json
import os
import secrets
import subprocess
import sys

import yaml

import harness
import procs


class Fakes:
    """fake_agents, for as long as the context lasts. options: -l, -k, -f of the program, in milliseconds."""

    def __init__(self, root, count, **options):
        self.root, self.token, self.last = procs.make_dir(root, 0o755), secrets.token_hex(16), None
        argv = [harness.tool("tests/bench/fake_agents"), "-n", str(count),
                "-t", procs.write_file(os.path.join(self.root, "token"), self.token + "\n")]
        argv += [x for name, ms in options.items() if ms for x in ("-" + name, str(ms))]
        self.popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      start_new_session=True, **procs.as_postgres())
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"fake_agents: exit {self.popen.wait()}")
        hello = json.loads(line)
        self.control, self.clusters = hello["control"], hello["clusters"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.stdin.close()
        try:
            line = self.popen.stdout.readline()
            self.last = json.loads(line) if line else None
            self.status = self.popen.wait(10 * procs.SLOW)
        finally:
            self.popen.kill()
            self.popen.wait()
            self.popen.stdout.close()

    def ask(self, method, path):
        conn = http.client.HTTPConnection("127.0.0.1", self.control, timeout=10 * procs.SLOW)
        conn.request(method, path, headers={"Authorization": "Bearer " + self.token})
        reply = conn.getresponse()
        body = reply.read()
        conn.close()
        assert reply.status in (200, 204), f"{method} {path}: {reply.status} {body}"
        return json.loads(body) if body else None

    def stats(self):
        return self.ask("GET", "/stats")

    def settled(self):
        return self.stats()["settled"] == len(self.clusters)

    def kill(self, cluster=0):
        self.ask("POST", f"/kill?cluster={cluster}")

    def fault(self, kind, node=0, cluster=0, status=0):
        self.ask("POST", f"/fault?cluster={cluster}&node={node}&kind={kind}&status={status}")

    def serve(self, on, node=0, cluster=0):
        self.ask("POST", f"/serve?cluster={cluster}&node={node}&on={int(on)}")

    def measure(self, kill_ms):
        """Forgets what was measured, and lets leaders die from now on."""
        self.ask("POST", f"/start?kill_ms={kill_ms}")


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

    def __exit__(self, *_):
        self.status = self.process.stop()

    def get(self, path, token="admin"):
        """(status, JSON or None)"""
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10 * procs.SLOW)
        try:
            conn.request("GET", path, headers={"Authorization": "Bearer " + self.tokens[token]})
            reply = conn.getresponse()
            body = reply.read()
        except http.client.HTTPException as e:
            raise ConnectionError(repr(e)) from e
        finally:
            conn.close()
        return reply.status, json.loads(body) if body and "json" in reply.getheader("Content-Type", "") else None

    def clusters(self):
        status, body = self.get("/v1/clusters")
        assert status == 200, body
        return body["clusters"]

    def ready(self):
        return all(c["writable"] and c["failover_possible"] for c in self.clusters())
