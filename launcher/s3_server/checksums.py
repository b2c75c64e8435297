"""The checksums of S3: the two SHA and the three CRC, of which the standard library has one."""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
_LANES = 2048
_ENOUGH = 1 << 20  # bytes to cut into lanes at once: joining the lanes costs the same for few as for many
_CRCS = {"CRC32": (32, 0xEDB88320), "CRC32C": (32, 0x82F63B78), "CRC64NVME": (64, 0x9A6C9329AC4BC9B5)}


class Checksum(Protocol):
    """The methods that hashlib's objects and the ones here share."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Take more data."""

    def digest(self) -> bytes:
        """Return the checksum of all of them."""


def new_checksum(algorithm: str) -> Checksum:
    """Return an object to feed; ``algorithm`` is one of ``ALGORITHMS``."""
    if algorithm == "SHA1":
        return hashlib.sha1(usedforsecurity=False)
    if algorithm == "SHA256":
        return hashlib.sha256()
    return _Crc32() if algorithm == "CRC32" else _LaneCrc(algorithm)


def checksum_of_file(algorithm: str, path: Path) -> str:
    """Return a file's checksum in base64."""
    checksum = new_checksum(algorithm)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()


def is_crc(algorithm: str) -> bool:
    """Return whether the checksum of a whole can be computed from those of its parts."""
    return algorithm in _CRCS


def combine(algorithm: str, parts: Sequence[tuple[bytes, int]]) -> bytes:
    """Return the CRC of a whole from the CRCs and the lengths of its parts, in their order."""
    width, _ = _CRCS[algorithm]
    value = 0
    for digest, length in parts:
        value = _apply(_zeros_operator(algorithm, length), value) ^ int.from_bytes(digest)
    return value.to_bytes(width // 8)


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview | bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4)


class _LaneCrc:
    """A CRC in numpy: the data are cut into lanes that go side by side, byte for byte, and are joined at the end."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._width, _ = _CRCS[algorithm]
        self._mask = (1 << self._width) - 1
        self._table = _byte_table(algorithm)
        self._state = self._mask
        self._waiting = bytearray()

    def update(self, data: memoryview | bytes, /) -> None:
        self._waiting += data
        if len(self._waiting) >= _ENOUGH:
            self._take()

    def digest(self) -> bytes:
        self._take()
        return (self._state ^ self._mask).to_bytes(self._width // 8)

    def _take(self) -> None:
        view = memoryview(self._waiting)
        self._waiting = bytearray()
        if len(view) >= 4 * _LANES:
            self._update_lanes(view[: len(view) // _LANES * _LANES])
            view = view[len(view) // _LANES * _LANES :]
        state, table = self._state, self._table
        for byte in view:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        self._state = state

    def _update_lanes(self, view: memoryview) -> None:
        import numpy as np

        table = np.array(self._table, dtype=np.uint64)
        columns = np.ascontiguousarray(np.frombuffer(view, dtype=np.uint8).reshape(_LANES, -1).T)
        lanes = np.zeros(_LANES, dtype=np.uint64)
        for column in columns:
            lanes = table[(lanes ^ column) & np.uint64(0xFF)] ^ (lanes >> np.uint64(8))
        tables = _shift_tables(self._algorithm, len(columns))
        state = self._state
        for lane in lanes.tolist():
            shifted = lane
            for number, shift in enumerate(tables):
                shifted ^= shift[(state >> (8 * number)) & 0xFF]
            state = shifted
        self._state = state


@functools.cache
def _byte_table(algorithm: str) -> list[int]:
    _, polynomial = _CRCS[algorithm]
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


@functools.lru_cache(maxsize=64)
def _zeros_operator(algorithm: str, length: int) -> tuple[int, ...]:
    """Return the matrix over GF(2) that takes a CRC past ``length`` bytes of zero; a column for each bit."""
    width, polynomial = _CRCS[algorithm]
    result = tuple(1 << bit for bit in range(width))
    power = (polynomial, *(1 << bit for bit in range(width - 1)))
    bits = length * 8
    while bits:
        if bits & 1:
            result = tuple(_apply(power, column) for column in result)
        power = tuple(_apply(power, column) for column in power)
        bits >>= 1
    return result


@functools.lru_cache(maxsize=8)
def _shift_tables(algorithm: str, length: int) -> list[list[int]]:
    operator = _zeros_operator(algorithm, length)
    return [[_apply(operator, value << (8 * number)) for value in range(256)] for number in range(len(operator) // 8)]


def _apply(operator: tuple[int, ...], value: int) -> int:
    answer = 0
    for column in operator:
        if not value:
            break
        if value & 1:
            answer ^= column
        value >>= 1
    return answer
