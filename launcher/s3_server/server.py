"""The embedded S3 behind HTTP: a thread for each connection, and files sent by the kernel.

It keeps no state but moto's. To a client two servers of one store are the same, and so is the next server after one
that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from launcher.s3_server.access import (
    Access,
    ChunkSigner,
    Key,
    SignedRequest,
    check_host,
    check_origin,
    check_proxy_key,
    check_signature,
    home_key,
    needs_key,
    prove,
)
from launcher.s3_server.body import Body
from launcher.s3_server.connections import Acceptor, Connection, connection_limit
from launcher.s3_server.documents import STATUS, error_document
from launcher.s3_server.errors import S3Error
from launcher.s3_server.messages import Request, Response, bucket_of_host, split_target
from launcher.s3_server.store import ObjectStore
from launcher.s3_server.wire import Head, http_date, read_head

if TYPE_CHECKING:
    from launcher.s3_server.api import S3Api

CONTROL_PATH = "/_launcher/"
_LAST_REQUESTS_SECONDS = 5
_ANSWERED_SECONDS = 0.05  # by then whoever has started this server knows that it is up
_DRAINED_BYTES = 64 << 20  # of a body that nobody wants, to keep the connection
_SERVER = "launcher-s3"
_LOG = logging.getLogger("launcher.s3_server")


class OtherServices(Protocol):
    """What is served on the port besides S3."""

    def service_of(self, head: Head) -> str:
        """Return the name of the service that a request is for; empty where it is S3's."""

    def answer(self, service: str, head: Head, body: Body, key: Key | None, address: str) -> Response:
        """Answer a request, and refuse it in the service's own words.

        Args:
            key: the key that must have signed the request; None where any will do.
            address: of this machine, as the client asked for it.
        Raises:
            S3Error: it is not well-formed, or not signed.
        """

    def refusal(self, service: str, head: Head, error: S3Error, status: int) -> Response:
        """Return the answer to a request that was refused, in the shape in which this service says so."""

    def relay(self, head: Head, client: socket.socket, begun: bytes) -> None:
        """Serve a client to its end that asked this server as a proxy.

        Args:
            client: its connection, which is to be closed in the end.
            begun: what was read of it behind the head.
        """


class S3Server:
    """Serves a store on an address.

    Args:
        others: what is served besides; None for S3 alone.
        token: proved in the answer to a ping, so that a caller knows whose server answers.
        access: whether callers on a loopback address have to sign with the key; all others always have to.
        names: host names to answer to besides addresses and ``localhost``; with a dot in front, all below.
    """

    def __init__(
        self,
        listener: socket.socket,
        store: ObjectStore,
        token: str,
        access: Access = "any",
        names: Sequence[str] = (),
        others: OtherServices | None = None,
    ) -> None:
        self.acceptor = Acceptor(listener, self._serve, connection_limit())
        self._loaded_api: S3Api | None = None
        self.stop_wanted = threading.Event()
        self._store = store
        self._token = token
        self._access = access
        self._names = names
        self._others = others
        self._busy = 0
        self._ending = False
        self._last_use = time.monotonic()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def api(self) -> S3Api:
        """What answers S3's requests; it is loaded when the first of them comes, or when nothing else is to do."""
        with self._loading:
            if self._loaded_api is None:
                from launcher.s3_server.api import S3Api
                from launcher.s3_server.moto_bridge import MotoBridge

                self._loaded_api = S3Api(self._store, MotoBridge())
            return self._loaded_api

    def end(self, idle_seconds: float = 0) -> bool:
        """Decide to end if no request came for ``idle_seconds``; return the decision."""
        with self._lock:
            idle = not self._busy and time.monotonic() - self._last_use >= idle_seconds
            self._ending = self._ending or idle
            return self._ending

    def _working(self, step: int) -> None:
        """Count the requests in work up or down."""
        with self._lock:
            self._busy += step
            self._last_use = time.monotonic()

    def _claimed(self) -> bool:
        """Count as a use; return False once the server has decided to end."""
        with self._lock:
            self._last_use = time.monotonic()
            return not self._ending

    def _serve(self, connection: Connection) -> None:
        """Answer the requests of a connection, one after the other."""
        keep_alive = True
        while keep_alive and connection.wait_for_request():
            try:
                head = read_head(connection.reader)
            except S3Error as error:
                _send(connection, _refusal(error, "/"), is_head=False, keep_alive=False)
                connection.linger(_DRAINED_BYTES)
                return
            if head is None:
                return
            self._working(+1)
            try:
                if self._others is not None and _asks_a_proxy(head):
                    self._relay(connection, head, self._others)
                    return
                keep_alive = self._answer(connection, head)
            finally:
                self._working(-1)

    def _relay(self, connection: Connection, head: Head, others: OtherServices) -> None:
        """Hand a connection over, where its client may use a proxy."""
        if needs_key(connection.address, self._access):
            try:
                check_proxy_key(head.headers, home_key(self._store.root))
            except S3Error as error:
                response = _refusal(error, "/")
                response.headers["Proxy-Authenticate"] = 'Basic realm="launcher"'
                _send(connection, response, is_head=False, keep_alive=False)
                connection.linger(_DRAINED_BYTES)
                return
        others.relay(head, *connection.handed_over())

    def _answer(self, connection: Connection, head: Head) -> bool:
        """Answer a request; return whether the connection may be used for another."""
        target, body = head.target, None
        service = self._others.service_of(head) if self._others is not None else ""
        ask = (lambda: connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")) if head.expects_continue else _nothing
        with ExitStack() as cleanup:
            try:
                host = head.headers.get("Host", "")
                check_host(host, self._names)
                check_origin(head.headers)
                if target.startswith(CONTROL_PATH):
                    response = self._control(head.method, target.removeprefix(CONTROL_PATH))
                elif service and self._others is not None:
                    body = Body(connection.reader, head, ask)
                    asked_key = home_key(self._store.root) if needs_key(connection.address, self._access) else None
                    response = self._others.answer(service, head, body, asked_key, connection.address)
                    if response.endless and response.parts is not None:
                        response.parts = self._until_stopped(response.parts)
                else:
                    signer = self._check_key(connection, head, host)
                    body = Body(connection.reader, head, ask, signer)
                    bucket, key, query = split_target(target, host, self._names)
                    request = Request(head.method, bucket, key, query, head.headers, body, f"http://{host}", cleanup)
                    response = self.api.answer(request)
            except S3Error as error:
                response = self._refusal(error, head, service)
            except (ConnectionError, TimeoutError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and the log has it
                _LOG.error("%s %s", head.method, target, exc_info=error)
                response = self._refusal(_internal(error), head, service)
            keep_alive = head.keep_alive and self._drained(connection, head, body)
            whole = _send(connection, response, is_head=head.method == "HEAD", keep_alive=keep_alive)
        if head.keep_alive and not keep_alive:
            connection.linger(_DRAINED_BYTES)
        return keep_alive and whole

    def _until_stopped(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Yield parts until this server is to end."""
        with closing(parts):  # type: ignore[type-var]
            for part in parts:
                if self.stop_wanted.is_set():
                    return
                yield part

    def _refusal(self, error: S3Error, head: Head, service: str) -> Response:
        if service and self._others is not None:
            return self._others.refusal(service, head, error, STATUS.get(error.code, 400))
        return _refusal(error, head.target)

    def _check_key(self, connection: Connection, head: Head, host: str) -> ChunkSigner | None:
        """Check the request's signature, where this server asks for the key."""
        if not needs_key(connection.address, self._access):
            return None
        signed = SignedRequest(head.method, head.target, head.headers, bucket_of_host(host, self._names))
        return check_signature(signed, home_key(self._store.root))

    def _drained(self, connection: Connection, head: Head, body: Body | None) -> bool:
        """Read the rest of the body; return whether that was done."""
        if body is None:
            body = Body(connection.reader, head)
        try:
            return body.drain(_DRAINED_BYTES)
        except S3Error:
            return False

    def _control(self, method: str, question: str) -> Response:
        """Answer a process that started this server, or looks for it, and proves that it has the token."""
        action, _, rest = question.partition("/")
        nonce, _, proof = rest.partition("/")
        if proof != prove(self._token, action, nonce) or not self._claimed():
            return Response(404)
        if action == "ping" and method == "GET":
            answer = {"proof": prove(self._token, "answer", nonce), "pid": os.getpid()}
            return Response(headers={"Content-Type": "application/json"}, body=json.dumps(answer).encode())
        if action == "stop" and method == "POST":
            self.stop_wanted.set()
            return Response()
        return Response(404)


def _asks_a_proxy(head: Head) -> bool:
    """Return whether a request is one to a proxy: it names the server that it is for in its first line."""
    return head.method == "CONNECT" or head.target.lower().startswith(("http://", "https://"))


def _nothing() -> None:
    """Do nothing: the body is on its way already."""


def _internal(error: Exception) -> S3Error:
    """Return the error for an unforeseen exception; without descriptors or memory a client may try again."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        return S3Error("SlowDown", "Please reduce your request rate.")
    return S3Error("InternalError", f"{type(error).__name__}: {error}")


def _refusal(error: S3Error, target: str) -> Response:
    status = STATUS.get(error.code, 400)
    if status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED:
        _LOG.error("%s: %s", target, error)
    if status == HTTPStatus.NOT_MODIFIED:
        return Response(status, error.headers)
    request_id = os.urandom(16).hex()
    text = error_document(error, target.partition("?")[0], request_id)
    return Response(status, {"Content-Type": "application/xml", "x-amz-request-id": request_id, **error.headers}, text)


def _send(connection: Connection, response: Response, *, is_head: bool, keep_alive: bool) -> bool:
    """Send an answer; return whether all of it could be sent."""
    headers = {"Date": http_date(time.time()), "Server": _SERVER, "x-amz-request-id": os.urandom(16).hex()}
    # A stored page may not act in the name of this server.
    headers |= {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
    if response.body and "content-type" not in response.headers:
        headers["Content-Type"] = "application/xml"
    headers |= response.headers
    length = response.length if response.file is not None else len(response.body)
    if response.parts is not None:
        headers["Transfer-Encoding"] = "chunked"
    elif response.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        headers["Content-Length"] = str(length)
    if not keep_alive:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        lines = [line.replace("\r", " ").replace("\n", " ") for line in lines]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    if response.parts is not None:
        with closing(response.parts):  # type: ignore[type-var]
            connection.send(head)
            for part in () if is_head else response.parts:
                connection.send(b"%x\r\n%b\r\n" % (len(part), part) if part else b"")
            connection.send(b"" if is_head else b"0\r\n\r\n")
        return True
    if is_head or response.file is None:
        connection.send(head + (b"" if is_head else response.body))
        return True
    connection.send(head)
    return connection.send_file(response.file, response.offset, length)


def serve(
    store: ObjectStore,
    listener: socket.socket,
    token: str,
    idle_seconds: float,
    use_path: Path,
    access: Access = "any",
    names: Sequence[str] = (),
    others: OtherServices | None = None,
) -> None:
    """Serve until a stop is asked for, or no request came for ``idle_seconds`` and nobody holds a lock on
    ``use_path``.

    A file ``ADDRESS.stay`` beside ``ADDRESS.use`` keeps it up however long it is idle.
    """
    address = listener.getsockname()[:2]
    server = S3Server(listener, store, token, access, names, others)
    stay_path = use_path.with_name(f"{use_path.name.removesuffix('.use')}.stay")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop_wanted.set())
    threading.Thread(target=server.acceptor.run, daemon=True).start()
    _LOG.info("pid %d serves %s on %s:%d", os.getpid(), store.root, *address)
    try:
        store.clean()
    except S3Error as error:
        _LOG.warning("left-over files stay: %s", error)
    if not server.stop_wanted.wait(_ANSWERED_SECONDS):
        _ = server.api
    while not server.stop_wanted.wait(max(0.05, min(1.0, idle_seconds / 4))):
        server.acceptor.drop_slow()
        if not _held(use_path) and not stay_path.exists() and server.end(idle_seconds):
            break
    server.acceptor.close()
    deadline = time.monotonic() + _LAST_REQUESTS_SECONDS
    while not server.end() and time.monotonic() < deadline:
        time.sleep(0.01)
    store.close()
    _LOG.info("pid %d ends", os.getpid())


def _held(path: Path) -> bool:
    """Return whether a process holds a lock on a file; True where nobody can say now, as without descriptors."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # it is locked, or there is no descriptor left to find out with
        return True
    return False


def main(
    arguments: list[str], make_others: Callable[[Path], OtherServices] | None = None, names: Sequence[str] = ()
) -> None:
    """Run as a process of its own: what ``service`` starts, with its descriptors.

    Args:
        make_others: given the store's folder, makes what is served besides S3.
        names: host names to answer to besides addresses and ``localhost``; with a dot in front, all below.
    """
    root, use_path, listener, lock, token, idle_seconds, access = arguments
    if os.fork():
        os._exit(0)  # whoever waits for this process need not wait for the server
    for descriptor in (listener, lock):  # the lock is held until this process ends, and by no child of it
        os.set_inheritable(int(descriptor), False)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve(
        ObjectStore(Path(root)), socket.socket(fileno=int(listener)), token, float(idle_seconds), Path(use_path),
        cast("Access", access), names,
        make_others(Path(root)) if make_others else None,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
