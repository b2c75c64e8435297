"""Connections of the embedded S3: their number, the time that a client may take, and the reader of requests.

A thread serves a connection. There are as many as descriptors allow; when there are no more, the one that has been idle
longest is closed, and if none is idle, the next client waits. A client that moves less than 1 KiB a second for more
than a minute is dropped; time in which the server itself works does not count.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, cast

IDLE_SECONDS = 120.0
_PATIENCE_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 1024
_MAX_CONNECTIONS = 1200
_DESCRIPTORS_EACH = 6  # its socket, two files and two of the index, and one to spare
_DESCRIPTORS_KEPT = 100
_EVICTABLE_SECONDS = 0.25
_MANY_DESCRIPTORS = 8192
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOG = logging.getLogger("launcher.s3_server")


def connection_limit() -> int:
    """Raise the limit of open files as far as it goes; return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MANY_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(4, min(_MAX_CONNECTIONS, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_EACH))


class Connection(io.RawIOBase):
    """A client's connection, which counts how long it keeps the server waiting.

    Attributes:
        reader: what requests are read from.
        address: of this machine, as the client asked for it.
    """

    def __init__(self, client: socket.socket) -> None:
        super().__init__()
        client.settimeout(IDLE_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = str(client.getsockname()[0])
        self.reader: BinaryIO = cast("BinaryIO", io.BufferedReader(self, 1 << 16))
        self._socket = client
        self._idle_since: float | None = time.monotonic()
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._moved = 0

    def readable(self) -> bool:
        """Return True, for the buffered reader."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what the client has sent, at least a byte unless it is at its end."""
        self._waiting_since = time.monotonic()
        try:
            count = self._socket.recv_into(buffer)
        finally:
            self._stop_waiting()
        self._moved += count
        return count

    def wait_for_request(self) -> bool:
        """Wait, as an idle connection, for the first byte of a request; return False where none comes."""
        self._idle_since = time.monotonic()
        try:
            begun = bool(cast("io.BufferedReader", self.reader).peek(1))
        except (OSError, ValueError):
            return False
        self._idle_since = None
        self._waited, self._moved = 0.0, 0
        return begun

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self._waiting_since = time.monotonic()
        try:
            self._socket.sendall(data)
        finally:
            self._stop_waiting()
        self._moved += len(data)

    def send_file(self, file: BinaryIO, offset: int, count: int) -> bool:
        """Send bytes of a file by the kernel; return False where the file has fewer."""
        target, source, left = self._socket.fileno(), file.fileno(), count
        while left:
            try:
                sent = os.sendfile(target, source, offset, min(left, 1 << 30))
            except BlockingIOError:
                self._wait_until_writable(target)
                continue
            if not sent:
                return False
            offset, left = offset + sent, left - sent
            self._moved += sent
        return True

    def _wait_until_writable(self, descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._waiting_since = time.monotonic()
        try:
            if not poll.poll(IDLE_SECONDS * 1000):
                raise TimeoutError("the client does not read")
        finally:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._waiting_since is not None:
            self._waited += time.monotonic() - self._waiting_since
            self._waiting_since = None

    def linger(self, limit: int) -> None:
        """Close the sending side, and read what the client still sends, so that the client can read the answer."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(2)
            deadline = time.monotonic() + 10
            buffer = bytearray(1 << 16)
            while limit > 0 and time.monotonic() < deadline and (count := self._socket.recv_into(buffer)):
                limit -= count

    def idle_seconds(self, now: float) -> float:
        """Return for how long no request has been under way; 0 while one is."""
        since = self._idle_since
        return 0.0 if since is None else now - since

    def too_slow(self, now: float) -> bool:
        """Return whether the client kept a request waiting for longer than the bytes it moved allow."""
        if self._idle_since is not None:
            return now - self._idle_since > IDLE_SECONDS
        since = self._waiting_since
        waited = self._waited + (now - since if since is not None else 0.0)
        return waited > _PATIENCE_SECONDS + self._moved / _SLOWEST_BYTES_PER_SECOND

    def drop(self) -> None:
        """End the connection from another thread; the thread that serves it notices."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def handed_over(self) -> tuple[socket.socket, bytes]:
        """Return the socket, for somebody who serves it from now on, and what was read of it already."""
        self._socket.setblocking(False)
        try:
            begun = cast("io.BufferedReader", self.reader).peek(1)
        except BlockingIOError:
            begun = b""
        return self._socket.dup(), begun

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(ValueError):
            cast("io.BufferedReader", self.reader).detach()  # the two would keep one another alive
        super().close()
        self._socket.close()


class Acceptor:
    """Takes connections and has each served by a thread of its own.

    Args:
        listener: a bound socket; the acceptor listens on it.
        serve: serves one connection to its end.
        limit: how many connections there may be at once.
    """

    def __init__(self, listener: socket.socket, serve: Callable[[Connection], None], limit: int) -> None:
        listener.listen(256)
        listener.setblocking(False)
        self._listener = listener
        self._serve = serve
        self._limit = limit
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._over = False

    def run(self) -> None:
        """Take connections until ``close``."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while not self._over:
            if not self._has_room():
                time.sleep(0.02)
            elif poll.poll(100) and not self._over:
                self._accept()

    def drop_slow(self) -> None:
        """Drop the connections whose clients take too long."""
        now = time.monotonic()
        for connection in self._snapshot():
            if connection.too_slow(now):
                connection.drop()

    def drop_all(self) -> None:
        """Drop every connection."""
        for connection in self._snapshot():
            connection.drop()

    def close(self) -> None:
        """Take no more connections; those that are there go on."""
        self._over = True
        self._listener.close()

    def _snapshot(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _has_room(self) -> bool:
        """Close the longest idle connection where there is no room; return whether there is room for one more."""
        if len(self._connections) < self._limit:
            return True
        now = time.monotonic()
        longest = max(self._snapshot(), key=lambda connection: connection.idle_seconds(now), default=None)
        if longest is not None and longest.idle_seconds(now) > _EVICTABLE_SECONDS:
            longest.drop()
        return len(self._connections) < self._limit

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _NO_DESCRIPTORS:
                _LOG.warning("no new connection: %s", error.strerror)
                time.sleep(0.1)
            return
        try:
            connection = Connection(client)
        except OSError:  # gone already
            client.close()
            return
        with self._lock:
            self._connections.add(connection)
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread is left
            _LOG.warning("no new connection: %s", error)
            self._end(connection)
            time.sleep(0.1)

    def _run(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        except (OSError, ValueError):  # the client went away, or was dropped
            _LOG.debug("a connection ended", exc_info=True)
        finally:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
        connection.close()
