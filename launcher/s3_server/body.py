"""A request's body: taken out of its framing, and checked against every digest that came with it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from launcher.errors import StorageError
from launcher.s3_server.checksums import ALGORITHMS, Checksum, new_checksum

_CHUNK = 1 << 16  # 1 MiB costs twice the time: memory that malloc gives back and gets anew for every chunk
_MAX_LINE = 8192
_MAX_XML_BYTES = 8 << 20


class _Sized:
    """A body of a known length."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        if not data and self._left and size:
            raise _incomplete()
        return data

    def readline(self) -> bytes:
        line = self._stream.readline(min(_MAX_LINE, self._left))
        self._left -= len(line)
        return line


class _Chunked:
    """A body in HTTP's chunks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = 0
        self._over = False

    def _next(self) -> None:
        line = self._stream.readline(_MAX_LINE)
        self._left = _hexadecimal(line)
        if not self._left:
            while self._stream.readline(_MAX_LINE).strip():
                pass  # HTTP's own trailers
            self._over = True

    def read(self, size: int) -> bytes:
        if not self._left and not self._over:
            self._next()
        data = self._stream.read(min(size, self._left))
        if self._left and not data:
            raise _incomplete()
        self._left -= len(data)
        if data and not self._left:
            self._stream.readline(_MAX_LINE)
        return data

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MAX_LINE:
            byte = self.read(1)
            if not byte:
                break
            line += byte
        return bytes(line)


class Body:
    """What a client sends; ``headers`` are the request's."""

    def __init__(self, stream: BinaryIO, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._trailers: dict[str, str] = {}
        self._sent: _Sized | _Chunked
        self.has_length = True
        if "chunked" in headers.get("Transfer-Encoding", "").lower():
            self._sent = _Chunked(stream)
        else:
            length = headers.get("Content-Length", "")
            if length and not length.isdecimal():
                raise StorageError("InvalidRequest", f"Content-Length is {length!r}.")
            self.has_length = bool(length)
            self._sent = _Sized(stream, int(length or 0))
        self._aws_chunked = headers.get("x-amz-content-sha256", "").startswith("STREAMING-") or (
            "aws-chunked" in headers.get("Content-Encoding", "")
        )

    def receive(self, write: Callable[[bytes], None]) -> dict[str, str]:
        """Hand all of the content to ``write`` and check it.

        Returns:
            The checksums that the client gave, in base64, by algorithm.
        Raises:
            StorageError: BadDigest, InvalidDigest, XAmzContentSHA256Mismatch, IncompleteBody.
        """
        checksums = {name: new_checksum(name) for name in self._announced()}
        md5 = hashlib.md5(usedforsecurity=False) if "Content-MD5" in self._headers else None
        signed = self._headers.get("x-amz-content-sha256", "")
        sha256 = checksums.get("SHA256") or hashlib.sha256() if _is_sha256(signed) else None
        fed: list[Checksum] = [*checksums.values(), *([md5] if md5 else [])]
        fed += [sha256] if sha256 is not None and sha256 not in fed else []
        size = 0
        for chunk in self._content():
            for one in fed:
                one.update(chunk)
            write(chunk)
            size += len(chunk)
        decoded = self._headers.get("x-amz-decoded-content-length", "")
        if self._aws_chunked and decoded.isdecimal() and int(decoded) != size:
            raise _incomplete()
        if md5 is not None and _decoded(self._headers["Content-MD5"], 16) != md5.digest():
            raise StorageError("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if sha256 is not None and signed.lower() != sha256.digest().hex():
            raise StorageError(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        return {name: self._compared(name, one) for name, one in checksums.items()}

    def text(self) -> bytes:
        """Return a short body, such as XML, checked."""
        text = bytearray()

        def take(chunk: bytes) -> None:
            text.extend(chunk)
            if len(text) > _MAX_XML_BYTES:
                raise StorageError("MaxMessageLengthExceeded", "Your request was too big.")

        self.receive(take)
        return bytes(text)

    def drain(self) -> None:
        """Read what nobody wanted, so that the connection can be used again."""
        while self._sent.read(_CHUNK):
            pass

    def _content(self) -> Iterator[bytes]:
        if not self._aws_chunked:
            while chunk := self._sent.read(_CHUNK):
                yield chunk
            return
        while left := _hexadecimal(self._sent.readline()):
            while left:
                chunk = self._sent.read(min(left, _CHUNK))
                if not chunk:
                    raise _incomplete()
                left -= len(chunk)
                yield chunk
            self._sent.readline()
        while line := self._sent.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            self._trailers[name.strip().lower()] = value.strip()
        self.drain()

    def _announced(self) -> list[str]:
        trailing = self._headers.get("x-amz-trailer", "").lower()
        names = (f"x-amz-checksum-{name.lower()}" for name in ALGORITHMS)
        return [
            name
            for name, header in zip(ALGORITHMS, names, strict=True)
            if header in self._headers or header in trailing
        ]

    def _compared(self, algorithm: str, checksum: Checksum) -> str:
        header = f"x-amz-checksum-{algorithm.lower()}"
        given = self._headers.get(header) or self._trailers.get(header, "")
        digest = checksum.digest()
        if _decoded(given, len(digest)) != digest:
            raise StorageError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
        return given


def _decoded(text: str, length: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != length:
        raise StorageError("InvalidDigest", "The Content-MD5 or checksum value that you specified is not valid.")
    return digest


def _hexadecimal(line: bytes) -> int:
    try:
        return int(line.split(b";", 1)[0].strip(), 16)
    except ValueError:
        raise _incomplete() from None


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _incomplete() -> StorageError:
    return StorageError(
        "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header."
    )
