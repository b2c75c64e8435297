"""An S3 that misbehaves on demand: a real HTTP server in front of moto that lets a fault happen, or passes on."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

ANSWERS = {
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "403": (403, "AccessDenied", "Access Denied"),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "bucket gone": (404, "NoSuchBucket", "The specified bucket does not exist"),
    "changed": (412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
}
BROKEN_CONNECTIONS = ("hang", "reset")
BROKEN_CONTENTS = ("hang in content", "reset in content", "truncated", "wrong bytes", "too short")
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "server", "date"}


@dataclass
class Fault:
    """What happens to the requests of one operation.

    Attributes:
        kind: a key of ``ANSWERS``, or one of ``BROKEN_CONNECTIONS`` or ``BROKEN_CONTENTS``.
        skip: how many requests go well before.
        times: how many then do not.
    """

    operation: str
    kind: str
    skip: int
    times: float


class FaultServer:
    """Use as ``with FaultServer(moto_url) as server: server.fail("GetObject", "503")``.

    Attributes:
        seen: (operation, key) of every request, in the order in which they came.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.released = threading.Event()
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(_Handler):
            owner = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, operation: str, kind: str, *, skip: int = 0, times: float = float("inf")) -> None:
        """Let a fault happen to requests of ``operation``, from now on."""
        assert kind in ANSWERS or kind in BROKEN_CONNECTIONS + BROKEN_CONTENTS, kind
        self._faults.append(Fault(operation, kind, skip, times))

    def mend(self) -> None:
        """Let everything go well again, let go of who hangs, and forget what was seen."""
        self._faults.clear()
        self.released.set()
        self.released = threading.Event()
        self.seen.clear()

    def count(self, operation: str) -> int:
        """Return how often ``operation`` was asked for."""
        return sum(seen == operation for seen, _ in self.seen)

    def take_fault(self, operation: str, key: str) -> str:
        with self._lock:
            self.seen.append((operation, key))
            for fault in self._faults:
                if fault.operation != operation:
                    continue
                if fault.skip:
                    fault.skip -= 1
                elif fault.times:
                    fault.times -= 1
                    return fault.kind
        return ""

    def ask_upstream(self, method: str, path: str, headers: dict[str, str], body: bytes):
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation, key = _name_of(self.command, self.path)
        fault = self.owner.take_fault(operation, key)
        if fault in ANSWERS:
            status, code, message = ANSWERS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self.send(status, [("Content-Type", "application/xml")], text)
        elif fault == "hang":
            self.owner.released.wait()
            self.close_connection = True
        elif fault == "reset":
            self.reset()
        else:
            status, headers, content = self.owner.ask_upstream(self.command, self.path, dict(self.headers), body)
            self.send(status, headers, content, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def send(self, status: int, headers: list[tuple[str, str]], content: bytes, fault: str = "") -> None:
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        if fault == "too short":
            content = content[: len(content) // 2]
            length = str(len(content))
        if fault == "wrong bytes" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_HEADERS | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("truncated", "reset in content", "hang in content"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "hang in content":
                self.owner.released.wait()
            if fault == "reset in content":
                self.reset()
            self.close_connection = True
            return
        self.wfile.write(content)

    def reset(self) -> None:
        """Close so that the other side is told that the connection was reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            return  # the connection was reset on purpose

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the client went away, or the connection was reset on purpose

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def _name_of(method: str, target: str) -> tuple[str, str]:
    """Return operation and key of a request in path style."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    key = unquote(parts.path.lstrip("/").partition("/")[2])
    if not key:
        listing = "ListMultipartUploads" if "uploads" in query else "ListObjectsV2"
        names = {"GET": listing, "PUT": "CreateBucket", "POST": "DeleteObjects"}
        return names.get(method, method), query.get("prefix", [""])[0]
    if "uploads" in query:
        return "CreateMultipartUpload", key
    if "uploadId" in query:
        names = {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}
        return names.get(method, method), key
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[method], key


@contextmanager
def moto_server():
    """Run moto on a free port of the loopback interface; yields its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
