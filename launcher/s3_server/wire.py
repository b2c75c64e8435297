"""HTTP/1.1 as it comes over the wire, read strictly: whatever two programs might read in two ways is refused.

A request whose end is not certain is answered with 400, and its connection is closed, so that nothing behind it is
taken for a request. Source: RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from launcher.s3_server.errors import S3Error

MAX_HEAD_BYTES = 64 << 10
_MAX_LINE_BYTES = 32 << 10
_MAX_CHUNK_LINE_BYTES = 4096
_MAX_HEADERS = 200
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([!-~]+) HTTP/1\.([01])\r\n")
_HEADER_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*\r\n"
)
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?)\r\n")
_SINGLE = ("content-length", "host", "transfer-encoding", "authorization", "x-amz-content-sha256")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(moment: float) -> str:
    """Return a time of the Unix clock as headers hold it; the names are English, whatever the locale."""
    at = time.gmtime(moment)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04} {time.strftime('%T', at)} GMT"
    )


class Headers(Mapping[str, str]):
    """The headers of a request by name, whatever the case; names are in lower case, values are Latin-1.

    Repeated headers are joined by a comma.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def as_dict(self) -> dict[str, str]:
        """Return the values by their names in lower case: quicker to look up, for callers that have such names."""
        return self._values


class Head(NamedTuple):
    """A request without its body.

    Attributes:
        target: as it stood in the request line.
        keep_alive: whether the connection may be used again.
        length: of the body in bytes; None where no length was given.
        chunked: whether the body comes in HTTP's chunks.
        expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
    """

    method: str
    target: str
    headers: Headers
    keep_alive: bool
    length: int | None
    chunked: bool
    expects_continue: bool


def read_head(stream: BinaryIO) -> Head | None:
    """Read a request up to its body; None where the connection ended before a request began.

    Raises:
        S3Error: InvalidRequest, RequestHeaderSectionTooLarge, NotImplemented: the connection cannot be used again.
    """
    line = b"\r\n"
    for _ in range(3):  # some clients end a body with an empty line too many
        if line != b"\r\n":
            break
        line = stream.readline(_MAX_LINE_BYTES)
        if not line:
            return None
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _too_large() if len(line) >= _MAX_LINE_BYTES else bad_request("The request line is not valid HTTP/1.1.")
    headers = _read_headers(stream, MAX_HEAD_BYTES - len(line))
    newest = match[3] == b"1"
    length, chunked = _framing(headers, newest)
    connection = headers.get("Connection", "").lower()
    return Head(
        method=match[1].decode(),
        target=match[2].decode(),
        headers=headers,
        keep_alive="close" not in connection if newest else "keep-alive" in connection,
        length=length,
        chunked=chunked,
        expects_continue=newest and headers.get("Expect", "").lower() == "100-continue",
    )


def _read_headers(stream: BinaryIO, room: int) -> Headers:
    values: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = stream.readline(_MAX_LINE_BYTES)
        if line == b"\r\n":
            return Headers(values)
        if not line:
            raise bad_request("The request ends within its headers.")
        room -= len(line)
        if room < 0 or len(line) >= _MAX_LINE_BYTES:
            raise _too_large()
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise bad_request("A header is not valid HTTP/1.1.")
        name, value = match[1].decode().lower(), match[2].decode("latin-1")
        if name not in values:
            values[name] = value
        elif name in _SINGLE:
            raise bad_request(f"The header {name} is given twice.")
        else:
            values[name] += f",{value}"
    raise _too_large()


def _framing(headers: Headers, newest: bool) -> tuple[int | None, bool]:
    """Return the body's length, and whether it is chunked."""
    coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    if newest and "Host" not in headers:
        raise bad_request("The header Host is missing.")
    if coding is not None:
        if coding.lower() != "chunked":
            raise S3Error("NotImplemented", "A header you provided implies functionality that is not implemented")
        if length is not None or not newest:
            raise bad_request("Transfer-Encoding cannot be combined with Content-Length or HTTP/1.0.")
        return None, True
    if length is None:
        return None, False
    if not _LENGTH.fullmatch(length):
        raise bad_request("Content-Length is not a number of bytes.")
    return int(length), False


def chunk_size(line: bytes) -> tuple[int, bytes]:
    """Return the size that a chunk's first line states, and its extensions.

    Raises:
        S3Error: InvalidRequest.
    """
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise bad_request("A chunk's size is not valid.")
    return int(match[1], 16), match[2]


class SizedStream:
    """A body of a known length.

    Args:
        before: is called once, before the first byte is read.
    """

    def __init__(self, stream: BinaryIO, length: int, before: Callable[[], None]) -> None:
        self._stream = stream
        self._before: Callable[[], None] | None = before
        self.left = length

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        self._begin()
        data = self._stream.read(min(size, self.left))
        self.left -= len(data)
        if not data and self.left and size:
            raise incomplete_body()
        return data

    def readline(self) -> bytes:
        """Return a line of the body."""
        self._begin()
        line = self._stream.readline(min(_MAX_CHUNK_LINE_BYTES, self.left))
        self.left -= len(line)
        return line

    def _begin(self) -> None:
        if self._before is not None and self.left:
            self._before()
            self._before = None

    @property
    def begun(self) -> bool:
        """Whether any of it was asked for."""
        return self._before is None or not self.left

    @property
    def over(self) -> bool:
        """Whether all of it was read."""
        return not self.left


class ChunkedStream:
    """A body in HTTP's chunks; ``before`` as for a SizedStream."""

    def __init__(self, stream: BinaryIO, before: Callable[[], None]) -> None:
        self._stream = stream
        self._before: Callable[[], None] | None = before
        self._left = 0
        self.over = False

    @property
    def begun(self) -> bool:
        """Whether any of it was asked for."""
        return self._before is None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        if self._before is not None:
            self._before()
            self._before = None
        if not self._left and not self.over:
            self._next()
        if self.over:
            return b""
        data = self._stream.read(min(size, self._left))
        if not data and size:
            raise incomplete_body()
        self._left -= len(data)
        if not self._left:
            self._end_of_chunk()
        return data

    def readline(self) -> bytes:
        """Return a line of the body."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MAX_CHUNK_LINE_BYTES:
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return bytes(line)

    def _next(self) -> None:
        line = self._stream.readline(_MAX_CHUNK_LINE_BYTES)
        if not line:
            raise incomplete_body()
        self._left, _ = chunk_size(line)
        if not self._left:
            _read_headers(self._stream, MAX_HEAD_BYTES)  # HTTP's own trailers; nothing here uses them
            self.over = True

    def _end_of_chunk(self) -> None:
        if self._stream.read(2) != b"\r\n":
            raise bad_request("A chunk does not end where its size says.")


def bad_request(words: str) -> S3Error:
    """Return the error for what is no valid HTTP."""
    return S3Error("InvalidRequest", words)


def incomplete_body() -> S3Error:
    """Return S3's error for a body that ends too early."""
    return S3Error(
        "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header."
    )


def _too_large() -> S3Error:
    return S3Error("RequestHeaderSectionTooLarge", "Your request header section exceeds the maximum allowed size.")
