"""The HTTP side of an endpoint: SageMaker Runtime's three operations, rewards, and a door for the launcher itself.

A thread serves a connection, with the reader of HTTP that the built-in S3 has. A request goes to a container, is
captured with its answer, and only then answered: whoever has an answer finds it in the log.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from launcher.endpoints.invocations import INVOKED_VARIANT, MAX_PAYLOAD_BYTES, Invocations
from launcher.endpoints.replies import RefusedError, Reply, error_reply, json_reply, send
from launcher.errors import LauncherError
from launcher.s3_server.access import check_host, check_origin, prove
from launcher.s3_server.connections import Acceptor, Connection, connection_limit
from launcher.s3_server.errors import S3Error
from launcher.s3_server.wire import ChunkedStream, Head, SizedStream, read_head
from launcher.settings import ACCOUNT_ID

CONTROL_PATH = "/_launcher/"
REQUEST_FIELDS = ("time", "operation", "variant", "status", "seconds", "bytes_in", "bytes_out")
"""What is remembered of the last requests, for the launcher; a body that came in chunks, or goes in parts, counts 0."""
_MOST_RECENT = 100
_DRAINED_BYTES = 64 << 20
_CHUNK = 1 << 16
_REWARD_MEMBERS: Mapping[str, tuple[type, ...]] = {
    "InferenceId": (str,),
    "Reward": (int, float),
    "Terminated": (bool,),
    "Truncated": (bool,),
    "Action": (int,),
}
_LOG = logging.getLogger("launcher.endpoint")


class Surroundings(Protocol):
    """The process that a router is in, as the router sees it."""

    def state(self) -> Mapping[str, Any]:
        """Return how the endpoint is, for the launcher."""

    def wake(self) -> None:
        """Look at once what is wanted of the endpoint."""

    def accept_later(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Take a request that is answered in S3.

        Raises:
            RefusedError: the endpoint answers none such.
        """


class Router:
    """Serves one endpoint.

    Args:
        name: of the endpoint.
        listener: bound to a loopback address.
        token: what the launcher's own questions prove to have.
        invocations: who answers.
        surroundings: the process around it.
    """

    def __init__(
        self, name: str, listener: socket.socket, token: str, invocations: Invocations, surroundings: Surroundings
    ) -> None:
        self.acceptor = Acceptor(listener, self._serve, connection_limit())
        self._name = name
        self._token = token
        self._invocations = invocations
        self._surroundings = surroundings
        self._operations: Mapping[str, Callable[[Mapping[str, str], bytes], Reply]] = {
            "invocations": invocations.invoke,
            "invocations-response-stream": invocations.stream,
            "async-invocations": surroundings.accept_later,
            "rewards": self._reward,
        }
        self._recent: deque[tuple[Any, ...]] = deque(maxlen=_MOST_RECENT)
        self._lock = threading.Lock()
        self._busy = 0
        self._ending = False

    def start(self) -> None:
        """Take connections, in threads of their own."""
        threading.Thread(target=self.acceptor.run, name="acceptor", daemon=True).start()

    def end(self, seconds: float) -> None:
        """Take no more connections, and wait for the requests that are under way."""
        self._ending = True
        self.acceptor.close()
        deadline = time.monotonic() + seconds
        while self._busy and time.monotonic() < deadline:
            time.sleep(0.01)
        self.acceptor.drop_all()

    def _serve(self, connection: Connection) -> None:
        keep_alive = True
        while keep_alive and not self._ending and connection.wait_for_request():
            self._count(+1)
            try:
                keep_alive = self._answer(connection)
            finally:
                self._count(-1)

    def _count(self, step: int) -> None:
        with self._lock:
            self._busy += step

    def _answer(self, connection: Connection) -> bool:
        """Answer a request; return whether the connection may be used for another."""
        try:
            head = read_head(connection.reader)
        except S3Error as error:
            send(connection, error_reply(_refusal(error)), keep_alive=False)
            connection.linger(_DRAINED_BYTES)
            return False
        if head is None:
            return False
        stream, begin = _stream(connection, head), time.time()
        try:
            check_host(head.headers.get("Host", ""))
            check_origin(head.headers)
            reply = self._reply(head, stream)
        except RefusedError as error:
            reply = error_reply(error)
        except S3Error as error:
            reply = error_reply(_refusal(error))
        except (ConnectionError, TimeoutError):
            raise
        except LauncherError as error:
            reply = error_reply(RefusedError(400 if error.exit_code == 2 else 500, error.aws_code, str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told and the log has it
            _LOG.error("%s %s", head.method, head.target, exc_info=error)
            reply = error_reply(RefusedError(500, "InternalFailure", f"{type(error).__name__}: {error}"))
        if not head.target.startswith(CONTROL_PATH) and head.target != "/ping":
            operation, variant = head.target.rpartition("/")[2][:60], reply.headers.get(INVOKED_VARIANT, "")
            seconds, sizes = time.time() - begin, (head.length or 0, len(reply.body))
            self._recent.append((begin, operation, variant, reply.status, seconds, *sizes))
        keep_alive = head.keep_alive and not self._ending and _is_read(stream, head)
        whole = send(connection, reply, keep_alive=keep_alive)
        if head.keep_alive and not keep_alive:
            connection.linger(_DRAINED_BYTES)
        return keep_alive and whole

    def _reply(self, head: Head, stream: SizedStream | ChunkedStream) -> Reply:
        path = head.target.partition("?")[0]
        if path.startswith(CONTROL_PATH):
            return self._control(head.method, path.removeprefix(CONTROL_PATH))
        if path == "/ping" and head.method == "GET":
            return Reply(200 if self._invocations.routes.any_up else 503)
        root, _, rest = path.removeprefix("/").partition("/")
        name, _, operation = rest.partition("/")
        if root != "endpoints" or operation not in self._operations:
            raise RefusedError(404, "UnknownOperationException", f"There is no {head.method} {path[:200]}.")
        if head.method != "POST":
            raise RefusedError(405, "ValidationError", f"{operation} is asked for by POST.")
        if unquote(name) != self._name:
            raise RefusedError(
                400, "ValidationError", f"Endpoint {unquote(name)} of account {ACCOUNT_ID} not found."
            )  # fmt: skip
        return self._operations[operation](head.headers.as_dict(), _body(stream, head))

    def _reward(self, _headers: Mapping[str, str], body: bytes) -> Reply:
        """Take what became of a request."""
        capture = self._invocations.capture
        if capture is None:
            raise RefusedError(
                400, "ValidationError", f"Endpoint {self._name} captures nothing; deploy it with a data capture config."
            )
        values = _reward_values(body)
        identity = values.pop("InferenceId")
        try:
            capture.reward(values, identity)
        except OSError as error:
            raise RefusedError(500, "InternalFailure", f"the reward could not be written: {error}") from error
        return json_reply({"InferenceId": identity})

    def _control(self, method: str, question: str) -> Reply:
        """Answer the launcher, which has the endpoint's token to show for it."""
        action, _, rest = question.partition("/")
        nonce, _, proof = rest.partition("/")
        if proof != prove(self._token, action, nonce):
            return Reply(404)
        if action == "state" and method == "GET":
            answer = {"proof": prove(self._token, "answer", nonce), "pid": os.getpid()}
            return json_reply({**self._surroundings.state(), **answer})
        if action == "requests" and method == "GET":
            return json_reply({"requests": [dict(zip(REQUEST_FIELDS, values, strict=True)) for values in self._recent]})
        if action == "wake" and method == "POST":
            self._surroundings.wake()
            return Reply()
        return Reply(404)


def _refusal(error: S3Error) -> RefusedError:
    """Return the error for what is no valid HTTP, or comes from somewhere that it must not."""
    is_denied = error.code == "AccessDenied"
    message = error.message.replace("The embedded S3", "This endpoint")
    return RefusedError(403 if is_denied else 400, "AccessDeniedException" if is_denied else "ValidationError", message)


def _stream(connection: Connection, head: Head) -> SizedStream | ChunkedStream:
    def ask() -> None:
        if head.expects_continue:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    return ChunkedStream(connection.reader, ask) if head.chunked else SizedStream(
        connection.reader, head.length or 0, ask
    )  # fmt: skip


def _body(stream: SizedStream | ChunkedStream, head: Head) -> bytes:
    """Return the body of an invocation.

    Raises:
        RefusedError: it is too long.
    """
    if head.length is None and not head.chunked:
        return b""
    if head.length is not None and head.length <= MAX_PAYLOAD_BYTES:
        parts, size = [], 0
        while size < head.length:
            parts.append(stream.read(head.length - size))
            size += len(parts[-1])
        return b"".join(parts)
    body = bytearray()
    if head.length is None:
        while part := stream.read(_CHUNK):
            body += part
            if len(body) > MAX_PAYLOAD_BYTES:
                break
        else:
            return bytes(body)
    raise RefusedError(413, "", f"HTTP content length exceeded {MAX_PAYLOAD_BYTES} bytes.")


def _is_read(stream: SizedStream | ChunkedStream, head: Head) -> bool:
    """Read what nobody wanted of a body; return whether the connection is at the next request."""
    if head.expects_continue and not stream.begun:
        return False
    if isinstance(stream, SizedStream) and stream.left > _DRAINED_BYTES:
        return False
    left = _DRAINED_BYTES
    try:
        while not stream.over and left > 0:
            part = stream.read(_CHUNK)
            if not part:
                break
            left -= len(part)
    except S3Error:
        return False
    return stream.over


def _reward_values(body: bytes) -> dict[str, Any]:
    """Return what a reward says, checked.

    Raises:
        RefusedError: it is none.
    """
    try:
        values = json.loads(body)
    except ValueError:
        raise RefusedError(400, "ValidationError", "The body is not JSON.") from None
    if not isinstance(values, dict) or not {"InferenceId", "Reward"} <= values.keys() <= _REWARD_MEMBERS.keys():
        names = ", ".join(_REWARD_MEMBERS)
        raise RefusedError(400, "ValidationError", f"A reward needs InferenceId and Reward; its members are {names}.")
    for name, kinds in _REWARD_MEMBERS.items():
        value = values.get(name)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise RefusedError(400, "ValidationError", f"{name}={value!r:.60} is of the wrong type.")
    reward = values["Reward"]
    if reward is None or reward != reward or reward in (float("inf"), float("-inf")):
        raise RefusedError(400, "ValidationError", f"Reward={reward!r} is no finite number.")
    if not values["InferenceId"]:
        raise RefusedError(400, "ValidationError", "InferenceId is empty.")
    return {name: value for name, value in values.items() if value is not None}
