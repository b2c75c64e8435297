"""An object on its way into a file: written by ranges in any order, checked against what the S3 says of its content."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_READ_BYTES = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_MD5_OF_PARTS = re.compile(r"([0-9a-f]{32})-([0-9]+)")


class WrongContentError(Exception):
    """The content that arrived is not the content that the S3 stores."""


@dataclass(frozen=True)
class Digest:
    """What a content must add up to.

    Attributes:
        kind: ``crc32`` or ``md5``, or of an upload by parts ``crc32 of parts`` or ``md5 of parts``, which is its ETag.
        expected: the value, as hexadecimal digits, without a number of parts.
        part_bytes: of each part but the last; 0 where there are no parts.
    """

    kind: str
    expected: str
    part_bytes: int = 0


def part_count(etag: str) -> int:
    """Return of how many parts an ETag is made; 0 for one that was not uploaded by parts."""
    match = _MD5_OF_PARTS.fullmatch(etag)
    return int(match[2]) if match else 0


def digest_of(etag: str, head: Mapping[str, Any], part_bytes: int = 0) -> Digest | None:
    """Return how the content can be checked, or None when the S3 tells too little.

    Args:
        etag: without quotation marks.
        head: the answer to HeadObject or GetObject.
        part_bytes: the size of the first part, for an object that was uploaded by parts.
    """
    checksum = head.get("ChecksumCRC32") or ""
    # Without a word on its type, that of an upload by parts may be a checksum of checksums.
    if checksum and "-" not in checksum and (head.get("ChecksumType") == "FULL_OBJECT" or not part_count(etag)):
        return Digest("crc32", base64.b64decode(checksum).hex())
    parts = part_count(etag)
    parts_known = parts and part_bytes and -(-int(head["ContentLength"]) // part_bytes) == parts
    if parts_known and checksum.endswith(f"-{parts}"):  # what boto3 sends; many times as fast to check as an MD5
        return Digest("crc32 of parts", base64.b64decode(checksum.partition("-")[0]).hex(), part_bytes)
    # With a customer's or a managed key an ETag is no MD5.
    if str(head.get("ServerSideEncryption", "")).startswith("aws:kms") or head.get("SSECustomerAlgorithm"):
        return None
    if _MD5.fullmatch(etag):
        return Digest("md5", etag)
    match = _MD5_OF_PARTS.fullmatch(etag)
    if match and parts_known:
        return Digest("md5 of parts", match[1], part_bytes)
    return None


class Incoming:
    """The file of one object.

    Args:
        path: an empty file.
        size: of the object, in bytes.
        range_bytes: of each range but the last, about; whole parts of an object that was uploaded by parts.
        digest: what the content must add up to, where that is known before the first answer.
    """

    def __init__(self, path: Path, size: int, range_bytes: int, digest: Digest | None = None) -> None:
        self.path = path
        if digest is not None and digest.part_bytes:
            range_bytes = digest.part_bytes * max(1, range_bytes // digest.part_bytes)
        self.ranges = [(start, min(start + range_bytes, size)) for start in range(0, size, range_bytes)] or [(0, 0)]
        self._file = path.open("r+b", buffering=0)
        self._digest = digest
        self._arrived = [False] * len(self.ranges)
        self._checked = 0
        self._lock = threading.Lock()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32 = self._crc32_of_parts = 0
        self._md5_of_parts = hashlib.md5(usedforsecurity=False)

    def expect(self, digest: Digest | None) -> None:
        """Say what the content must add up to, if that was not known; None checks its size alone."""
        self._digest = self._digest or digest

    def write(self, offset: int, data: bytes) -> None:
        """Write a piece at its place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def finish_range(self, number: int) -> bool:
        """Note that a range is complete, and add up what is complete from the beginning.

        The thread that completed the next range checks it and every finished range after it, while other threads go on
        downloading: with a slow network the check takes no extra time. Checking in all threads at once was slower
        where threads outnumber processors.

        Returns:
            Whether this was the last: the content is complete and right.
        Raises:
            WrongContentError: the content is complete, and wrong.
        """
        self._arrived[number] = True
        while self._checked < len(self.ranges) and self._arrived[self._checked]:
            if not self._lock.acquire(blocking=False):
                return False  # another thread is checking, and looks again when it is done
            try:
                while self._checked < len(self.ranges) and self._arrived[self._checked]:
                    self._add(*self.ranges[self._checked])
                    self._checked += 1
                if self._checked == len(self.ranges):
                    self._check()
                    return True
            finally:
                self._lock.release()
        return False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, start: int, stop: int) -> None:
        if self._digest is None:
            return
        part_bytes = self._digest.part_bytes or stop - start
        while start < stop:  # a range is a number of whole parts
            for data in self._read(start, min(start + part_bytes, stop)):
                if self._digest.kind.startswith("crc32"):
                    self._crc32 = zlib.crc32(data, self._crc32)
                else:
                    self._md5.update(data)
            start += part_bytes
            if self._digest.part_bytes:
                self._crc32_of_parts = zlib.crc32(self._crc32.to_bytes(4, "big"), self._crc32_of_parts)
                self._md5_of_parts.update(self._md5.digest())
                self._crc32, self._md5 = 0, hashlib.md5(usedforsecurity=False)

    def _read(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            data = os.pread(self._file.fileno(), min(_READ_BYTES, stop - start), start)
            yield data
            start += len(data)

    def _check(self) -> None:
        if self._digest is None:
            return
        actual = {
            "crc32": f"{self._crc32:08x}",
            "crc32 of parts": f"{self._crc32_of_parts:08x}",
            "md5": self._md5.hexdigest(),
            "md5 of parts": self._md5_of_parts.hexdigest(),
        }[self._digest.kind]
        if actual != self._digest.expected:
            raise WrongContentError(f"its {self._digest.kind} is {actual} and not {self._digest.expected}")
