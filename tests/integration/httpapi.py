"""A small client of the HTTP API. Every answer it sees is held against docs/openapi.yaml."""

import contextlib
import http.client
import json

import openapi
import procs


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.json = None
        if body and "json" in headers.get("content-type", ""):
            self.json = json.loads(body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Api:
    """One daemon's API. network: a context manager that puts new sockets into a namespace."""

    def __init__(self, service, host, port, token_file=None, network=contextlib.nullcontext):
        self.service, self.host, self.port = service, host, port
        self.token_file, self.network = token_file, network

    def call(self, method, path, body=None, token=True, headers=None, timeout=5, raw=None):
        """token: True = the admin's, None = none, or the token's text. body is sent as JSON, raw as it is."""
        head = dict(headers or {})
        if token is True and self.token_file:
            head["Authorization"] = "Bearer " + open(self.token_file).read().strip()
        elif isinstance(token, str):
            head["Authorization"] = "Bearer " + token
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
            head.setdefault("Content-Type", "application/json")
        conn = http.client.HTTPConnection(self.host, self.port, timeout=timeout * procs.SLOW)
        try:
            with self.network():
                conn.connect()
            conn.request(method, path, body=data, headers=head)
            got = conn.getresponse()
            reply = Reply(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        except http.client.HTTPException as e:
            raise ConnectionError(f"{self.service} {method} {path}: {e!r}") from e
        finally:
            conn.close()
        openapi.check(self.service, method, path, reply)
        return reply

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.call("POST", path, body={} if body is None and "raw" not in kw else body, **kw)

    def stream(self, path, timeout=20):
        """An open response to read line by line, for server-sent events."""
        conn = http.client.HTTPConnection(self.host, self.port, timeout=timeout * procs.SLOW)
        with self.network():
            conn.connect()
        token = open(self.token_file).read().strip()
        conn.request("GET", path, headers={"Authorization": "Bearer " + token,
                                           "Accept": "text/event-stream"})
        return conn.getresponse()
