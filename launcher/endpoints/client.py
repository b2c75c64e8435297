"""Requests to endpoints from this machine, on connections that are kept; an endpoint without a process gets one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from launcher.endpoints.forwarding import Answer, AnswerTimeoutError, ModelConnection, NoAnswerError
from launcher.endpoints.invocations import INVOCATION_SECONDS
from launcher.endpoints.service import LOOPBACK, ensure, failed
from launcher.errors import InvocationError, ModelError, NotFoundError
from launcher.jobs.endpoint_record import EndpointStatus
from launcher.jobs.store import EndpointStore
from launcher.settings import ACCOUNT_ID

_TRIES = 5
_PATIENCE_SECONDS = 15.0  # beyond the endpoint's own limit
_LONGEST_ANSWER = 1 << 30


class EndpointClient:
    """Asks endpoints of one home.

    A request whose connection breaks before its answer is sent again: to a process that takes the endpoint up, when the
    one before was killed. It carries an inference id, so that of two answers in the log the one that came counts.
    """

    def __init__(self, home: Path) -> None:
        self._store = EndpointStore(home)
        self._local = threading.local()

    def post(self, name: str, operation: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Return the answer to a request.

        Args:
            operation: the last part of the path, such as ``invocations``.
        Raises:
            InvocationError: the endpoint answers with an error, or not at all.
            EndpointFailedError: it has failed.
        """
        request = _request(name, operation, headers, body)
        for attempt in range(_TRIES):
            try:
                connection = self._connection(name)
                deadline = time.monotonic() + INVOCATION_SECONDS + _PATIENCE_SECONDS
                answer = connection.ask(request, deadline, _LONGEST_ANSWER)
            except AnswerTimeoutError as error:
                self._forget(name)
                raise InvocationError("ServiceUnavailable", 503, f"endpoint '{name}': {error}") from error
            except NoAnswerError as error:
                self._forget(name)
                if attempt == _TRIES - 1:
                    raise InvocationError("ServiceUnavailable", 503, f"endpoint '{name}': {error}") from error
                self._take_up(name)
                continue
            if not connection.reusable:
                self._forget(name)
            _raise_for(answer)
            return answer
        raise AssertionError

    def stream(self, name: str, headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], Iterator[bytes]]:
        """Return the headers of a streamed answer, and its bytes as AWS's event stream, as they come.

        Raises:
            InvocationError: the endpoint answers with an error.
        """
        connection = self._fresh(name)
        deadline = time.monotonic() + INVOCATION_SECONDS + _PATIENCE_SECONDS
        try:
            status, answered = connection.begin(_request(name, "invocations-response-stream", headers, body), deadline)
            if status != 200:
                _raise_for(Answer(status, answered, b"".join(connection.parts(status, answered, deadline))))
        except NoAnswerError as error:
            raise InvocationError("ServiceUnavailable", 503, f"endpoint '{name}': {error}") from error

        def parts() -> Iterator[bytes]:
            try:
                yield from connection.parts(status, answered, deadline)
            finally:
                connection.close()

        return answered, parts()

    def forward(
        self, name: str, operation: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], Iterator[bytes]]:
        """Return status, headers and body of the answer to a request, whatever it is.

        Raises:
            InvocationError: there is no such endpoint, or it does not answer.
            EndpointFailedError: it has failed.
            ConnectionError: the answer breaks off, while its body is read.
        """
        deadline = time.monotonic() + INVOCATION_SECONDS + _PATIENCE_SECONDS
        request = _request(name, operation, headers, body)
        for attempt in range(_TRIES):
            try:
                connection = self._connection(name)
                status, answered = connection.begin(request, deadline)
            except NoAnswerError as error:
                self._forget(name)
                if attempt == _TRIES - 1 or isinstance(error, AnswerTimeoutError):
                    raise InvocationError("ServiceUnavailable", 503, f"endpoint '{name}': {error}") from error
                self._take_up(name)
                continue
            return status, answered, self._parts(name, connection, status, answered, deadline)
        raise AssertionError

    def _parts(
        self, name: str, connection: ModelConnection, status: int, headers: dict[str, str], deadline: float
    ) -> Iterator[bytes]:
        is_whole = False
        try:
            yield from connection.parts(status, headers, deadline)
            is_whole = True
        except NoAnswerError as error:
            raise ConnectionError(f"endpoint '{name}': {error}") from error
        finally:
            if not (is_whole and connection.reusable):
                self._forget(name)

    def _connection(self, name: str) -> ModelConnection:
        connections: dict[str, ModelConnection] = self._local.__dict__.setdefault("connections", {})
        connection = connections.get(name)
        if connection is not None:
            if connection.usable:
                return connection
            connection.close()
        connections[name] = connection = self._fresh(name)
        return connection

    def _fresh(self, name: str) -> ModelConnection:
        try:
            return ModelConnection((LOOPBACK, self._store.load(name).port or 1))
        except NoAnswerError:
            return ModelConnection((LOOPBACK, self._take_up(name)))
        except NotFoundError as error:
            raise _not_found(name) from error

    def _take_up(self, name: str) -> int:
        """Return where an endpoint listens that a process carries now.

        Raises:
            InvocationError: there is none of that name.
            EndpointFailedError: it has failed.
        """
        try:
            record = ensure(self._store, name)
        except NotFoundError as error:
            raise _not_found(name) from error
        if record.status == EndpointStatus.FAILED:
            raise failed(self._store, name, record)
        return record.port

    def _forget(self, name: str) -> None:
        connection = self._local.__dict__.get("connections", {}).pop(name, None)
        if connection is not None:
            connection.close()


def _not_found(name: str) -> InvocationError:
    return InvocationError(
        "ValidationError",
        400,
        f"Endpoint {name} of account {ACCOUNT_ID} not found.",
        "List them with: launcher endpoints ls",
    )


def _request(name: str, operation: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
    path = f"/endpoints/{quote(name, safe='')}/{operation}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1", "replace") + body


def _raise_for(answer: Answer) -> None:
    """Raise the error that an answer is, if it is one."""
    if answer.status < 300:
        return
    try:
        values = json.loads(answer.body)
        message = str(values.get("Message", ""))
    except (ValueError, AttributeError):
        values, message = {}, answer.body.decode("utf-8", "replace")[:500]
    code = answer.headers.get("x-amzn-errortype", str(answer.status))
    if code == "ModelError":
        raise ModelError(
            code, answer.status, message, status_of_model=values["OriginalStatusCode"],
            message_of_model=values["OriginalMessage"],
        )  # fmt: skip
    raise InvocationError(code, answer.status, message)
