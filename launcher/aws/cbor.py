"""CBOR, as CloudWatch's clients speak it: maps, lists, texts, bytes, numbers, booleans, null, and times by tag 1.

Source: RFC 8949; of it, what Smithy's RPC v2 protocol uses.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any

_MAX_DEPTH = 64
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_TIME_TAG = 1
_INDEFINITE, _BREAK = 31, 0xFF


def encoded(value: Any) -> bytes:
    """Return a value of JSON, or one with bytes and ``datetime`` in it, as CBOR; members that are None are left out."""
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case float():
            return b"\xfb" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return _head(3, len(text)) + text
        case bytes():
            return _head(2, len(value)) + value
        case datetime():
            return _head(6, _TIME_TAG) + encoded(value.timestamp())
        case list() | tuple():
            return _head(4, len(value)) + b"".join(map(encoded, value))
        case dict():
            members = {name: member for name, member in value.items() if member is not None}
            parts = (encoded(str(name)) + encoded(member) for name, member in members.items())
            return _head(5, len(members)) + b"".join(parts)
    raise TypeError(f"{type(value).__name__} has no form in CBOR here")


def _head(major: int, number: int) -> bytes:
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * size:
            return bytes([major << 5 | info]) + number.to_bytes(size, "big")
    raise ValueError(f"{number} is too large for CBOR")


def decoded(data: bytes) -> Any:
    """Return the value that ``data`` is; a time is its seconds since 1970.

    Raises:
        ValueError: it is not CBOR, or has parts that no client of AWS sends.
    """
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise ValueError("something follows the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def _take(self, count: int) -> bytes:
        part = self._data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("the value breaks off")
        self.at += count
        return part

    def item(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("the value is nested too deeply")
        initial = self._take(1)[0]
        major, info = initial >> 5, initial & 31
        if major == 7:
            return self._simple(info)
        if info == _INDEFINITE and major in (2, 3, 4, 5):
            return self._indefinite(major, depth)
        number = self._number(info)
        match major:
            case 0:
                return number
            case 1:
                return -1 - number
            case 2:
                return self._take(number)
            case 3:
                return self._take(number).decode()
            case 4:
                return [self.item(depth + 1) for _ in range(self._count(number))]
            case 5:
                return dict(self._pair(depth) for _ in range(self._count(number)))
        value = self.item(depth + 1)
        if number != _TIME_TAG or not isinstance(value, int | float):
            raise ValueError(f"tag {number} is not used here")
        return value

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise ValueError("a length is not valid")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _count(self, number: int) -> int:
        if number > len(self._data) - self.at:  # an item has a byte at least
            raise ValueError("the value breaks off")
        return number

    def _pair(self, depth: int) -> tuple[str, Any]:
        name = self.item(depth + 1)
        if not isinstance(name, str):
            raise ValueError("a member's name is no text")
        return name, self.item(depth + 1)

    def _over(self) -> bool:
        over = self._data[self.at : self.at + 1] == bytes([_BREAK])
        self.at += over
        return over

    def _indefinite(self, major: int, depth: int) -> Any:
        items: list[Any] = []
        while not self._over():
            items.append(self._pair(depth) if major == 5 else self.item(depth + 1))
        if major == 5:
            return dict(items)
        if major == 4:
            return items
        kind: type[bytes] | type[str] = bytes if major == 2 else str
        if not all(isinstance(item, kind) for item in items):
            raise ValueError("a part of a text is none")
        return kind().join(items)

    def _simple(self, info: int) -> Any:
        if info in _SIMPLE:
            return _SIMPLE[info]
        if info not in _FLOATS:
            raise ValueError("a simple value is not used here")
        form, size = _FLOATS[info]
        return struct.unpack(form, self._take(size))[0]
