"""The embedded S3 behind HTTP: a thread for each connection, and files sent by the kernel.

It keeps nothing of its own but what moto keeps: two servers of one store, or one that was killed and another, are the
same to a client.
"""

from __future__ import annotations

import fcntl
import http.server
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from launcher.errors import StorageError
from launcher.s3_server.api import S3Api
from launcher.s3_server.body import Body
from launcher.s3_server.documents import STATUS, error_document
from launcher.s3_server.messages import Request, Response, split_target
from launcher.s3_server.moto_bridge import MotoBridge
from launcher.s3_server.store import ObjectStore

CONTROL_PATH = "/_launcher/"
_CONNECTION_IDLE_SECONDS = 120
_LAST_REQUESTS_SECONDS = 5
_LOG = logging.getLogger("launcher.s3_server")


class S3Server(http.server.ThreadingHTTPServer):
    """Serves a store on an address; ``serve_forever`` runs it.

    Args:
        token: what a ping is answered with, so that a caller knows whose server it has found.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, listener: socket.socket, store: ObjectStore, token: str) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_activate()
        self.api = S3Api(store, MotoBridge())
        self.token = token
        self.stop_wanted = threading.Event()
        self._busy = 0
        self._ending = False
        self._last_use = time.monotonic()
        self._lock = threading.Lock()

    def working(self, step: int) -> None:
        """Count the requests in work up or down."""
        with self._lock:
            self._busy += step
            self._last_use = time.monotonic()

    def claim(self) -> str:
        """Return the token and count as a use; nothing once the server has decided to end."""
        with self._lock:
            self._last_use = time.monotonic()
            return "" if self._ending else self.token

    def end(self, idle_seconds: float = 0) -> bool:
        """Decide to end if nothing was asked for ``idle_seconds``; return whether that is so."""
        with self._lock:
            idle = not self._busy and time.monotonic() - self._last_use >= idle_seconds
            self._ending = self._ending or idle
            return self._ending

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what ended a connection; a client that went away is nothing to speak of."""
        _LOG.debug("connection from %s ended", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"
    server_version = "launcher-s3"
    sys_version = ""
    timeout = _CONNECTION_IDLE_SECONDS
    rbufsize = 1 << 16
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        if self.path.startswith(CONTROL_PATH):
            self._send(self._control(self.path.removeprefix(CONTROL_PATH)))
            return
        self.server.working(+1)
        try:
            self._answer_s3()
        finally:
            self.server.working(-1)

    def _answer_s3(self) -> None:
        # http.server turns "//key" into "/key"; the request line still has it.
        target = self.requestline.split(" ")[1]
        body: Body | None = None
        with ExitStack() as cleanup:
            try:
                body = Body(self.rfile, self.headers)  # type: ignore[arg-type]
                host = self.headers.get("Host", "")
                bucket, key, query = split_target(target, host)
                request = Request(self.command, bucket, key, query, self.headers, body, f"http://{host}", cleanup)  # type: ignore[arg-type]
                response = self.server.api.answer(request)
            except StorageError as error:
                response = self._refusal(error, target)
            except (ConnectionError, TimeoutError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and the log has it
                _LOG.error("%s %s", self.command, target, exc_info=error)
                response = self._refusal(StorageError("InternalError", f"{type(error).__name__}: {error}"), target)
            try:
                if body is not None:
                    body.drain()
            except StorageError:
                self.close_connection = True
            self._send(response)

    def _control(self, what: str) -> Response:
        """Answer whoever started this server, or looks for it."""
        token = self.server.claim()
        if what == "ping" and token:
            answer = json.dumps({"token": token, "pid": os.getpid()}).encode()
            return Response(headers={"Content-Type": "application/json"}, body=answer)
        if what == f"stop/{self.server.token}":
            self.server.stop_wanted.set()
            return Response()
        return Response(404)

    def _refusal(self, error: StorageError, target: str) -> Response:
        status = STATUS.get(error.aws_code, 400)
        if status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED:
            _LOG.error("%s %s: %s", self.command, target, error)
        if status == HTTPStatus.NOT_MODIFIED:
            return Response(status)
        text = error_document(error, target.partition("?")[0], uuid.uuid4().hex)
        return Response(status, {"Content-Type": "application/xml"}, text)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _answer  # noqa: N815 - names that http.server looks for

    def _send(self, response: Response) -> None:
        headers = {"Date": formatdate(usegmt=True), "Server": self.server_version, "x-amz-request-id": uuid.uuid4().hex}
        if response.body:
            headers["Content-Type"] = "application/xml"
        headers |= response.headers
        length = response.length if response.file is not None else len(response.body)
        if response.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            headers["Content-Length"] = str(length)
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"{self.protocol_version} {response.status} {HTTPStatus(response.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if any("\r" in line or "\n" in line for line in lines):
            lines = [line.replace("\r", " ").replace("\n", " ") for line in lines]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        if self.command == "HEAD" or response.file is None:
            self.wfile.write(head + (b"" if self.command == "HEAD" else response.body))
            return
        self.wfile.write(head)
        sent = 0
        if length:
            sent = self.connection.sendfile(response.file, response.offset, length)
        if sent != length:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        _LOG.debug(format, *arguments)


def listen(address: str, port: int = 0) -> socket.socket:
    """Return a socket bound to an address, and to the port if it is free, else to any."""
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listener.bind((address, port))
        except OSError:
            if not port:
                raise
            listener.bind((address, 0))
    except OSError:
        listener.close()
        raise
    return listener


def serve(store: ObjectStore, listener: socket.socket, token: str, idle_seconds: float, use_path: Path) -> None:
    """Serve until a stop is wanted, or nobody asks for ``idle_seconds`` and nobody holds a lock on ``use_path``."""
    server = S3Server(listener, store, token)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop_wanted.set())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    _LOG.info("pid %d serves %s on %s:%d", os.getpid(), store.root, *server.server_address[:2])
    try:
        store.clean()
    except StorageError as error:
        _LOG.warning("left-over files stay: %s", error)
    while not server.stop_wanted.wait(max(0.05, min(1.0, idle_seconds / 4))):
        if not _held(use_path) and server.end(idle_seconds):
            break
    server.shutdown()
    deadline = time.monotonic() + _LAST_REQUESTS_SECONDS
    while not server.end() and time.monotonic() < deadline:
        time.sleep(0.01)
    store.close()
    _LOG.info("pid %d ends", os.getpid())


def _held(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main(arguments: list[str]) -> None:
    """Run as a process of its own: what ``service`` starts, with its descriptors."""
    root, use_path, listener, lock, token, idle_seconds = arguments
    if os.fork():
        os._exit(0)  # whoever waits for this process need not wait for the server
    os.set_inheritable(int(lock), False)  # held until this process ends
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve(ObjectStore(Path(root)), socket.socket(fileno=int(listener)), token, float(idle_seconds), Path(use_path))


if __name__ == "__main__":
    main(sys.argv[1:])
