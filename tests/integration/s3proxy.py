"""A proxy before an object store that misbehaves: every few requests one of its faults, in turn."""

import http.client
import http.server
import itertools
import socket
import threading
import time

FAULTS = ("503", "close", "cut", "delay", "500", "wrong_etag", "cut_head")
DELAY_S = 0.5
ERROR = (b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>asked for by a test</Message></Error>')


class Proxy:
    """Listens on loopback, passes on to (host, port). Use as a context manager."""

    def __init__(self, host, port, every=3):
        self.target, self.every = (host, port), every
        self.count, self.faults, self.done = itertools.count(1), itertools.cycle(FAULTS), []
        self.lock = threading.Lock()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.serve(self, body)
            do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def next_fault(self):
        with self.lock:
            if next(self.count) % self.every:
                return None
            self.done.append(next(self.faults))
            return self.done[-1]

    def serve(self, handler, body):
        fault = self.next_fault()
        if fault == "delay":
            time.sleep(DELAY_S)         # the fault itself
        if fault in ("503", "500"):
            return self.answer(handler, int(fault), [], ERROR if fault == "503" else b"")
        if fault == "close":
            return self.hang_up(handler)
        status, headers, content = self.forward(handler, body)
        if fault == "wrong_etag":
            headers = [(k, '"' + "0" * 32 + '"' if k.lower() == "etag" else v) for k, v in headers]
        return self.answer(handler, status, headers, content, fault)

    def hang_up(self, handler):
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def forward(self, handler, body):
        conn = http.client.HTTPConnection(*self.target, timeout=60)
        try:
            conn.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in ("connection", "expect"):
                    conn.putheader(name, value)
            conn.endheaders(body or None)
            response = conn.getresponse()
            return response.status, response.getheaders(), response.read()
        except OSError:
            return 503, [], ERROR
        finally:
            conn.close()

    def answer(self, handler, status, headers, content, fault=None):
        handler.send_response_only(status)
        length = None
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length if handler.command == "HEAD" and length else str(len(content)))
        try:
            if fault == "cut_head":
                return self.hang_up(handler)    # done there, and the answer lost
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(content[:len(content) // 2] if fault == "cut" else content)
            handler.wfile.flush()
        except OSError:
            handler.close_connection = True
        if fault == "cut":
            handler.close_connection = True
        return None
