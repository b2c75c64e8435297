"""A small HTTP server in place of a model's container, for tests of what stands in front of it."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeModel(ThreadingHTTPServer):
    """Answers invocations with what ``answer(headers, body)`` returns: status, headers, and a body or its parts."""

    daemon_threads = True

    def __init__(self, answer, port=0):
        self.answer = answer
        self.requests = []
        self.connections = []
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1", self.server_address[1]

    def kill(self):
        """Go away as a killed container does: nobody listens, and every connection breaks."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.server.connections.append(self.connection)

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body))
        try:
            status, headers, content = self.server.answer(self.headers, body)
        except ConnectionAbortedError:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if isinstance(content, bytes):
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in content:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def policy_answer(_headers, body):
    """Answer as the bundled policy does: an action for each observation, with the probabilities it was drawn by."""
    rows = json.loads(body)["instances"]
    answer = {"predictions": [[0.25, 0.75] for _ in rows], "actions": [1 for _ in rows]}
    return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
