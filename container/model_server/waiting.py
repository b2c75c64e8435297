"""What answers before a worker does: 503 and the reason, to any request."""

import json
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

REQUEST_SECONDS = 5
READ_BYTES = 8 << 20  # of a body: a client that is still sending would not see the answer


def answer_not_ready(listener: socket.socket, state: dict[str, str]) -> None:
    """Answer every request with 503 and ``state`` as JSON until SIGTERM; those that have begun are still answered."""
    body = json.dumps(state).encode()

    class NotReady(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        wbufsize = -1  # an answer leaves in one piece

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
        def handle_error(self, request: object, client_address: object) -> None:
            """Print nothing: a client may go away."""

    server = Server(("", 0), NotReady, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    signal.signal(signal.SIGTERM, lambda _number, _frame: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.02)
    server.server_close()  # waits for the answers
