"""Asks a model's container many things at once: one thread, several keep-alive connections, answers as they come.

The answers of a container of this machine take less time than a general client needs to write and read the messages;
this one knows only what it has to: POST with a length, and answers with a length, in chunks, or until the end.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from launcher.errors import BadInputError

_RECEIVE_BYTES = 1 << 18
_TICK_SECONDS = 0.1
_CONNECT_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.1
_SERVER_ERROR = 500
_MAX_HEAD_BYTES = 1 << 20

Item = TypeVar("Item")


class Answer(NamedTuple):
    """How a container answered a request.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        body: what it sent.
        error: why there was no answer; empty where there was one.
        attempts: how often it was asked.
    """

    status: int
    body: bytes
    error: str = ""
    attempts: int = 1

    @property
    def is_good(self) -> bool:
        """Whether the container did what it was asked."""
        return self.status // 100 == 2


class BrokenAnswerError(Exception):
    """The other side closed the connection, or does not speak HTTP."""


class Parser:
    """Takes one answer at a time out of the bytes of a connection."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._status = 0
        self._length: int | None = None
        self._body_at = 0
        self._chunked = False
        self._until_end = False
        self._parts: list[bytes] = []
        self._chunk_at = 0
        self.keeps_alive = True

    @property
    def has_begun(self) -> bool:
        """Whether a part of the answer has come."""
        return bool(self._data)

    def feed(self, data: bytes) -> Answer | None:
        """Take what was received; return the answer when it is whole.

        Args:
            data: empty where the other side has ended the connection.
        Raises:
            BrokenAnswerError: the answer can never be whole.
        """
        if not data:
            return self._ended()
        self._data += data
        while not self._body_at:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                if len(self._data) > _MAX_HEAD_BYTES:
                    raise BrokenAnswerError("its headers have no end")
                return None
            self._read_head(bytes(self._data[:end]), end + 4)
        if self._chunked:
            return self._whole_chunks()
        if self._length is not None and len(self._data) - self._body_at >= self._length:
            return self._answer(bytes(self._data[self._body_at : self._body_at + self._length]))
        return None

    def _read_head(self, head: bytes, body_at: int) -> None:
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise BrokenAnswerError(f"it does not speak HTTP: {head[:40]!r}")
        status = int(head[9:12])
        if status // 100 == 1:  # 100 Continue: the answer is yet to come
            del self._data[:body_at]
            return
        fields = head.lower()
        self._status, self._body_at = status, body_at
        connection = _field(fields, b"connection")
        self.keeps_alive = b"keep-alive" in connection if head[7:8] == b"0" else b"close" not in connection
        if b"chunked" in _field(fields, b"transfer-encoding"):
            self._chunked = True
        elif length := _field(fields, b"content-length"):
            if not length.isdigit():
                raise BrokenAnswerError(f"its Content-Length is {length!r}")
            self._length = int(length)
        elif status in (204, 304):
            self._length = 0
        else:
            self._until_end, self.keeps_alive = True, False

    def _whole_chunks(self) -> Answer | None:
        while True:
            at = self._chunk_at = self._chunk_at or self._body_at
            line_end = self._data.find(b"\r\n", at)
            if line_end < 0:
                return None
            try:
                size = int(bytes(self._data[at:line_end]).partition(b";")[0], 16)
            except ValueError as error:
                raise BrokenAnswerError("one of its chunks has no length") from error
            at = line_end + 2
            if size == 0:
                end = self._data.find(b"\r\n", at)
                while end > at:  # trailers
                    at, end = end + 2, self._data.find(b"\r\n", end + 2)
                return self._answer(b"".join(self._parts)) if end == at else None
            if len(self._data) < at + size + 2:
                return None
            self._parts.append(bytes(self._data[at : at + size]))
            self._chunk_at = at + size + 2

    def _ended(self) -> Answer:
        if self._until_end:
            return self._answer(bytes(self._data[self._body_at :]))
        raise BrokenAnswerError("it closed the connection before its answer was whole")

    def _answer(self, body: bytes) -> Answer:
        answer, keeps_alive = Answer(self._status, body), self.keeps_alive
        self.__init__()  # type: ignore[misc]  # begins anew
        self.keeps_alive = keeps_alive
        return answer


def _field(lowered_head: bytes, name: bytes) -> bytes:
    at = lowered_head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    begin = at + len(name) + 3
    end = lowered_head.find(b"\r\n", begin)
    return lowered_head[begin : end if end >= 0 else None].strip()


class _Request(Generic[Item]):
    """Something that is asked, until it is answered for good."""

    __slots__ = ("attempts", "body", "deadline", "item")

    def __init__(self, item: Item, body: bytes) -> None:
        self.item, self.body = item, body
        self.attempts = 0
        self.deadline = 0.0


class _Connection(Generic[Item]):
    """A connection, and what is asked over it."""

    __slots__ = ("parser", "request", "socket", "unsent", "was_used")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.parser = Parser()
        self.request: _Request[Item] | None = None
        self.unsent = memoryview(b"")
        self.was_used = False


class Invoker(Generic[Item]):
    """Sends requests to ``/invocations`` and hands on the answers.

    Args:
        address: host and port of the container.
        connections: requests under way at once.
        timeout_seconds: for the whole of one answer.
        retries: of a request that was answered by a 5xx, too late, or not at all.
        headers: of every request.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        connections: int,
        timeout_seconds: float,
        retries: int,
        headers: Mapping[str, str],
    ) -> None:
        self._address = address
        self._most = connections
        self._timeout = timeout_seconds
        self._retries = retries
        lines = "".join(f"{name}: {checked_header(name, value)}\r\n" for name, value in headers.items())
        head = f"POST /invocations HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n{lines}Content-Length: "
        self._head = head.encode("latin-1")
        self._selector = selectors.DefaultSelector()
        self._idle: list[_Connection[Item]] = []
        self._all: set[_Connection[Item]] = set()
        self._busy = 0
        self._due: list[tuple[float, int, _Request[Item]]] = []
        self._numbers = itertools.count()
        self._ready: deque[_Request[Item]] = deque()
        self.retried = 0

    def run(
        self,
        items: Iterator[tuple[Item, bytes] | None],
        on_answer: Callable[[Item, Answer], None],
        *,
        may_send: Callable[[], bool] = lambda: True,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask everything, and hand on each answer; returns when all is answered.

        Args:
            items: what is asked, and the body; None where nothing is ready for the moment.
            on_answer: takes an item and its answer, good or bad, in any order.
            may_send: whether there is room for another answer; what is asked already is always finished.
            on_tick: is called about ten times a second; it may raise to give up.
        """
        exhausted = False
        next_tick = 0.0
        try:
            while True:
                now = time.monotonic()
                if now >= next_tick:
                    next_tick = now + _TICK_SECONDS
                    on_tick()
                    self._expire(now, on_answer)
                while self._due and self._due[0][0] <= now:
                    self._ready.append(heapq.heappop(self._due)[2])
                waiting = False
                while self._busy < self._most:
                    if self._ready:
                        self._send(self._ready.popleft(), on_answer)
                    elif exhausted or not may_send():
                        break
                    else:
                        entry = next(items, _END)
                        if entry is _END:
                            exhausted = True
                        elif entry is None:
                            waiting = True
                            break
                        else:
                            self._send(_Request(*entry), on_answer)
                if exhausted and not self._busy and not self._ready and not self._due:
                    return
                pause = 0.005 if waiting and not self._busy else _TICK_SECONDS
                if self._due:
                    pause = min(pause, max(0.0, self._due[0][0] - now))
                self._wait(pause, on_answer)
        finally:
            for connection in list(self._all):
                self._drop(connection)

    def close(self) -> None:
        """Close what is left."""
        self._selector.close()

    def _wait(self, seconds: float, on_answer: Callable[[Item, Answer], None]) -> None:
        if not self._all:
            time.sleep(seconds)
            return
        for key, events in self._selector.select(seconds):
            connection: _Connection[Item] = key.data
            if events & selectors.EVENT_WRITE:
                self._write(connection, on_answer)
            if events & selectors.EVENT_READ and connection in self._all:
                self._read(connection, on_answer)

    def _send(self, request: _Request[Item], on_answer: Callable[[Item, Answer], None]) -> None:
        if self._idle:
            connection = self._idle.pop()
        else:
            try:
                connected = socket.create_connection(self._address, _CONNECT_SECONDS)
            except OSError as error:
                self._busy += 1
                self._failed(request, f"no connection to the container: {error.strerror or error}", on_answer)
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setblocking(False)
            connection = _Connection(connected)
            self._all.add(connection)
            self._selector.register(connected, selectors.EVENT_READ, connection)
        self._busy += 1
        request.deadline = time.monotonic() + self._timeout
        connection.request = request
        message = b"%b%d\r\n\r\n%b" % (self._head, len(request.body), request.body)
        try:
            sent = connection.socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broken(connection, error.strerror or str(error), on_answer)
            return
        if sent < len(message):
            connection.unsent = memoryview(message)[sent:]
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _write(self, connection: _Connection[Item], on_answer: Callable[[Item, Answer], None]) -> None:
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            # A server that refuses a body answers before it has read it: the answer may be there.
            connection.unsent = memoryview(b"")
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
            self._read(connection, on_answer, otherwise=error.strerror or str(error))
            return
        if not connection.unsent:
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _read(
        self, connection: _Connection[Item], on_answer: Callable[[Item, Answer], None], otherwise: str = ""
    ) -> None:
        try:
            data = connection.socket.recv(_RECEIVE_BYTES)
            request = connection.request
            if request is None:  # the server has closed a connection that nobody uses, or talks out of turn
                self._idle.remove(connection)
                self._drop(connection)
                return
            answer = connection.parser.feed(data)
        except BlockingIOError:
            if otherwise:
                self._broken(connection, otherwise, on_answer)
            return
        except (OSError, BrokenAnswerError) as error:
            self._broken(connection, otherwise or str(error), on_answer)
            return
        if answer is None:
            return
        connection.request = None
        if connection.parser.keeps_alive and not connection.unsent:
            connection.was_used = True
            self._idle.append(connection)
        else:
            self._drop(connection)
        if answer.status >= _SERVER_ERROR and request.attempts < self._retries:
            self._again(request)
            return
        self._busy -= 1
        on_answer(request.item, answer._replace(attempts=request.attempts + 1) if request.attempts else answer)

    def _broken(self, connection: _Connection[Item], why: str, on_answer: Callable[[Item, Answer], None]) -> None:
        request, stale = connection.request, connection.was_used and not connection.parser.has_begun
        connection.request = None
        self._drop(connection)
        if request is None:
            return
        if stale:  # the server had just ended an idle connection: that was no attempt
            self._busy -= 1
            self._ready.append(request)
        else:
            self._failed(request, f"the container gave no answer: {why}", on_answer)

    def _failed(self, request: _Request[Item], why: str, on_answer: Callable[[Item, Answer], None]) -> None:
        if request.attempts < self._retries:
            self._again(request)
            return
        self._busy -= 1
        on_answer(request.item, Answer(0, b"", why, request.attempts + 1))

    def _again(self, request: _Request[Item]) -> None:
        due = time.monotonic() + _FIRST_RETRY_SECONDS * 2**request.attempts
        request.attempts += 1
        self.retried += 1
        self._busy -= 1
        heapq.heappush(self._due, (due, next(self._numbers), request))

    def _expire(self, now: float, on_answer: Callable[[Item, Answer], None]) -> None:
        for connection in list(self._all):
            request = connection.request
            if request is not None and now > request.deadline:
                connection.request = None
                self._drop(connection)
                self._failed(request, f"the container gave no answer within {self._timeout:g} s", on_answer)

    def _drop(self, connection: _Connection[Item]) -> None:
        self._all.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


_END = (None, None)  # told apart by identity; no item is this very tuple


def checked_header(name: str, value: str) -> str:
    """Return the value of a header if it can be one.

    Raises:
        BadInputError: it holds a control character, or one that HTTP has not.
    """
    if not value.isprintable() or not value.isascii():
        raise BadInputError(f"{name}={value!r:.80} cannot be a header of HTTP.", "Use printable ASCII.")
    return value
