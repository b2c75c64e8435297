"""The client's side of a model container: requests over connections that are kept, and answers whole or in parts.

HTTP is read tolerantly: the server in a container is anybody's.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

_CONNECT_SECONDS = 5.0
_MAX_HEAD_BYTES = 64 << 10
_CHUNK = 1 << 16
_NO_BODY = (204, 304)
_TIMEOUT_PRECISION_SECONDS = 0.1


class NoAnswerError(Exception):
    """A container gave no answer to a request, or not all of it.

    Attributes:
        sent: whether it may have read the request.
    """

    def __init__(self, words: str, *, sent: bool = True) -> None:
        super().__init__(words)
        self.sent = sent


class AnswerTimeoutError(NoAnswerError):
    """The time for an answer is over."""


class AnswerTooLongError(NoAnswerError):
    """An answer is longer than an endpoint passes on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a container answered; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class ModelConnection:
    """One connection to a container.

    Args:
        address: where it listens.
    Raises:
        NoAnswerError: nobody listens there.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        try:
            self._socket = socket.create_connection(address, _CONNECT_SECONDS)
        except OSError as error:
            raise NoAnswerError(f"no connection: {error.strerror or error}", sent=False) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel keeps the time: Python's own timeout costs two more system calls for each that matters.
        self._socket.settimeout(None)
        self._timeout_seconds = 0.0
        self._buffer = b""
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.reusable = True

    @property
    def usable(self) -> bool:
        """Whether the other side has neither closed it nor said anything that nobody asked for."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def ask(self, request: bytes, deadline: float, longest: int) -> Answer:
        """Send a request, and return the whole answer.

        Args:
            request: head and body.
            deadline: of the last byte, by the monotonic clock.
            longest: how many bytes the answer may have.
        Raises:
            NoAnswerError: there is none; the connection cannot be used again.
        """
        status, headers = self.begin(request, deadline)
        parts, size = [], 0
        try:
            for part in self.parts(status, headers, deadline):
                size += len(part)
                if size > longest:
                    raise AnswerTooLongError(f"the answer has more than {longest} bytes")
                parts.append(part)
        except NoAnswerError:
            self.close()
            raise
        return Answer(status, headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def begin(self, request: bytes, deadline: float) -> tuple[int, dict[str, str]]:
        """Send a request, and return the status and the headers of the answer.

        Raises:
            NoAnswerError: there is none; the connection is closed.
        """
        try:
            return self._begin(request, deadline)
        except NoAnswerError:
            self.close()
            raise

    def _begin(self, request: bytes, deadline: float) -> tuple[int, dict[str, str]]:
        self._set_timeout(deadline)
        try:
            self._socket.sendall(request)
        except BlockingIOError:
            raise AnswerTimeoutError("the container does not read the request") from None
        except OSError:
            # A server that has answered too early, such as 413, may have closed its side: the answer is still there.
            pass
        while True:
            head = self._read_to(b"\r\n\r\n", deadline)
            status, headers = _parsed(head)
            if status >= 200:
                return status, headers

    def parts(self, status: int, headers: dict[str, str], deadline: float) -> Iterator[bytes]:
        """Yield the body of the answer as it comes.

        Raises:
            NoAnswerError: it breaks off.
        """
        if "close" in headers.get("connection", "").lower():
            self.reusable = False
        if status in _NO_BODY:
            return
        if "chunked" in headers.get("transfer-encoding", "").lower():
            yield from self._chunks(deadline)
        elif "content-length" in headers:
            yield from self._sized(headers["content-length"], deadline)
        else:
            self.reusable = False
            while part := self._receive(deadline):
                yield part

    def _sized(self, text: str, deadline: float) -> Iterator[bytes]:
        if not text.isdecimal():
            raise NoAnswerError("the answer's Content-Length is no number")
        left = int(text)
        while left:
            part = self._receive(deadline, left)
            if not part:
                raise NoAnswerError("the answer breaks off")
            left -= len(part)
            yield part

    def _chunks(self, deadline: float) -> Iterator[bytes]:
        while True:
            line = self._read_to(b"\r\n", deadline)
            try:
                left = int(line.partition(b";")[0], 16)
            except ValueError:
                raise NoAnswerError("the answer has a chunk without a size") from None
            if not left:
                while self._read_to(b"\r\n", deadline):
                    pass
                return
            while left:
                part = self._receive(deadline, left)
                if not part:
                    raise NoAnswerError("the answer breaks off")
                left -= len(part)
                yield part
            self._read_to(b"\r\n", deadline)

    def _read_to(self, end: bytes, deadline: float) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise NoAnswerError("the answer's head is too long")
            received = self._receive_more(deadline)
            if not received:
                raise NoAnswerError("the container closed the connection without an answer")
            self._buffer += received
        head, self._buffer = self._buffer[:at], self._buffer[at + len(end) :]
        return head

    def _receive(self, deadline: float, most: int = _CHUNK) -> bytes:
        if self._buffer:
            part, self._buffer = self._buffer[:most], self._buffer[most:]
            return part
        return self._receive_more(deadline, min(most, _CHUNK))

    def _receive_more(self, deadline: float, most: int = _CHUNK) -> bytes:
        self._set_timeout(deadline)
        try:
            return self._socket.recv(most)
        except BlockingIOError:
            raise AnswerTimeoutError("the container does not answer") from None
        except OSError as error:
            raise NoAnswerError(f"the connection broke: {error.strerror or error}") from error

    def _set_timeout(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise AnswerTimeoutError("the container does not answer")
        if abs(left - self._timeout_seconds) > _TIMEOUT_PRECISION_SECONDS:
            value = struct.pack("@ll", int(left), int(left % 1 * 1e6) or 1)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, value)
            self._timeout_seconds = left


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer's head."""
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise NoAnswerError("the answer is no HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if version == "HTTP/1.0" and "keep-alive" not in headers.get("connection", "").lower():
        headers["connection"] = "close"
    return int(status), headers
