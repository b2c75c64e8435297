"""A request's body: taken out of its framing, and checked against every digest that came with it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

from launcher.s3_server.access import ChunkSigner
from launcher.s3_server.checksums import ALGORITHMS, Checksum, new_checksum
from launcher.s3_server.errors import S3Error
from launcher.s3_server.wire import ChunkedStream, Head, SizedStream, bad_request, chunk_size, incomplete_body

_CHUNK = 1 << 16  # 1 MiB costs twice the time: memory that malloc gives back and gets anew for every chunk
MAX_CONTENT_BYTES = 5 << 30  # of one put, and of one part
_COUNT = re.compile(r"[0-9]{1,18}")
_MAX_XML_BYTES = 8 << 20


class Body:
    """What a client sends.

    Args:
        before: called once before the first read; a client may wait to be asked for the body.
        signer: checks the signatures of chunks; None where they are not checked.
    """

    def __init__(
        self, stream: BinaryIO, head: Head, before: Callable[[], None] = lambda: None, signer: ChunkSigner | None = None
    ) -> None:
        self._headers = head.headers
        self._trailers: dict[str, str] = {}
        self._signer = signer
        self._signature = ""
        self._waits = head.expects_continue
        self.has_length = head.chunked or head.length is not None
        self._sent: SizedStream | ChunkedStream
        self._sent = ChunkedStream(stream, before) if head.chunked else SizedStream(stream, head.length or 0, before)
        self._aws_chunked = self._headers.get("x-amz-content-sha256", "").startswith("STREAMING-") or (
            "aws-chunked" in self._headers.get("Content-Encoding", "")
        )

    @property
    def announced(self) -> int:
        """How many bytes of content the client says it sends; 0 where it does not say."""
        decoded = self._headers.get("x-amz-decoded-content-length", "")
        if self._aws_chunked and decoded:
            if not _COUNT.fullmatch(decoded):
                raise bad_request("x-amz-decoded-content-length is not a number of bytes.")
            return int(decoded)
        return self._sent.left if isinstance(self._sent, SizedStream) else 0

    def receive(self, write: Callable[[bytes], None], *, checksums_are_of_body: bool = True) -> dict[str, str]:
        """Hand all of the content to ``write`` and check it.

        Args:
            checksums_are_of_body: whether checksums in the headers belong to this body; in each request but
            CompleteMultipartUpload they do.
        Returns:
            The checksums that the client gave, in base64, by algorithm.
        Raises:
            S3Error: BadDigest, InvalidDigest, XAmzContentSHA256Mismatch, IncompleteBody.
        """
        checksums = {name: new_checksum(name) for name in self._announced() if checksums_are_of_body}
        md5 = hashlib.md5(usedforsecurity=False) if "Content-MD5" in self._headers else None
        signed = self._headers.get("x-amz-content-sha256", "")
        sha256 = checksums.get("SHA256") or hashlib.sha256() if _is_sha256(signed) else None
        fed: list[Checksum] = [*checksums.values(), *([md5] if md5 else [])]
        fed += [sha256] if sha256 is not None and sha256 not in fed else []
        size = 0
        announced = self.announced
        if announced > MAX_CONTENT_BYTES:
            raise too_large()
        for chunk in self._content():
            size += len(chunk)
            if size > MAX_CONTENT_BYTES:
                raise too_large()
            for checksum in fed:
                checksum.update(chunk)
            write(chunk)
        if self._aws_chunked and "x-amz-decoded-content-length" in self._headers and announced != size:
            raise incomplete_body()
        if md5 is not None and _decoded(self._headers["Content-MD5"], 16) != md5.digest():
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
        if sha256 is not None and signed.lower() != sha256.digest().hex():
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        return {name: self._compared(name, checksum) for name, checksum in checksums.items()}

    def text(self, *, checksums_are_of_body: bool = True, limit: int = _MAX_XML_BYTES) -> bytes:
        """Return a short body, such as XML, checked.

        Raises:
            S3Error: MaxMessageLengthExceeded: it has more than ``limit`` bytes; and as ``receive``.
        """
        text = bytearray()

        def take(chunk: bytes) -> None:
            text.extend(chunk)
            if len(text) > limit:
                raise _too_big()

        if self.announced > limit:
            raise _too_big()
        self.receive(take, checksums_are_of_body=checksums_are_of_body)
        return bytes(text)

    def drain(self, limit: int) -> bool:
        """Read the rest of the body; return whether all of it was read, so that the connection can be used again.

        A client that still waits for ``100 Continue`` is not asked for its body.
        """
        if isinstance(self._sent, SizedStream) and self._sent.left > limit:
            return False
        if self._waits and not self._sent.begun:
            return False
        while limit > 0 and (chunk := self._sent.read(_CHUNK)):
            limit -= len(chunk)
        return self._sent.over

    def _content(self) -> Iterator[bytes]:
        if not self._aws_chunked:
            while chunk := self._sent.read(_CHUNK):
                yield chunk
            return
        while left := self._next_chunk():
            digest = hashlib.sha256() if self._signer is not None else None
            while left:
                chunk = self._sent.read(min(left, _CHUNK))
                if not chunk:
                    raise incomplete_body()
                left -= len(chunk)
                if digest is not None:
                    digest.update(chunk)
                yield chunk
            if self._sent.readline() != b"\r\n":
                raise bad_request("A chunk does not end where its size says.")
            if self._signer is not None and digest is not None:
                self._signer.check_chunk(self._signature, digest.hexdigest())
        if self._signer is not None:
            self._signer.check_chunk(self._signature, hashlib.sha256().hexdigest())
        self._read_trailers()

    def _next_chunk(self) -> int:
        """Read a chunk's first line; return its size."""
        line = self._sent.readline()
        if not line:
            raise incomplete_body()
        size, extensions = chunk_size(line)
        self._signature = extensions.decode("latin-1").rpartition("chunk-signature=")[2].strip()
        return size

    def _read_trailers(self) -> None:
        signed = b""
        while line := self._sent.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            self._trailers[name.strip().lower()] = value.strip()
            if name.strip().lower() != "x-amz-trailer-signature":
                signed += f"{name.strip().lower()}:{value.strip()}\n".encode("latin-1")
        if self._signer is not None and self._signer.with_trailers:
            self._signer.check_trailers(self._trailers.get("x-amz-trailer-signature", ""), signed)
        if self._sent.read(1):
            raise bad_request("Something follows the last chunk.")

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
            raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
        return given


def _decoded(text: str, length: int) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:  # not ASCII, or not base64
        digest = b""
    if len(digest) != length:
        raise S3Error("InvalidDigest", "The Content-MD5 or checksum value that you specified is not valid.")
    return digest


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _too_big() -> S3Error:
    return S3Error("MaxMessageLengthExceeded", "Your request was too big.")


def too_large() -> S3Error:
    """Return S3's error for content that is larger than one put may send."""
    return S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
