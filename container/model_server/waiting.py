"""What answers before a worker does: 503 and the reason, to any request."""

import json
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

REQUEST_SECONDS = 5
READ_BYTES = 8 << 20  # of a body: a client that is still sending would not see the answer


def answer_not_ready(listener: socket.socket, state: dict[str, str]) -> None:
    """Answer every request with 503 and ``state`` as JSON, until this process is ended."""
    body = json.dumps(state).encode()

    class NotReady(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def answer(self) -> None:
            length = self.headers.get("Content-Length", "")
            if length.isdecimal():
                self.rfile.read(min(int(length), READ_BYTES))
            self.send_response_only(503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - names of the standard library

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing: a request that comes too early is no failure."""

    class Server(ThreadingMixIn, HTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Print nothing: a client may go away."""

    server = Server(("", 0), NotReady, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever(poll_interval=60)
