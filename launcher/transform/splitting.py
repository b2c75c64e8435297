"""Takes a file apart into records, a few at a time: whole, by lines, by RecordIO or by TFRecord.

Memory is bounded by the longest record, and that by the payload that a request may have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_RECORD_IO = struct.Struct("<II")
_TF_LENGTH = struct.Struct("<Q")
_TF_HEADER, _TF_FOOTER = 12, 4  # length and its checksum; the data's checksum
_BLOCK_BYTES = 1 << 20
_NO_LIMIT = 1 << 62


class SplitError(ValueError):
    """A file is not what its SplitType says, or has a record that fits into no request."""


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        data: what a request of this record alone holds: no wrapper, no padding, no line's end.
        raw: what the file has of it, as a request of several records holds it.
    """

    data: bytes
    raw: bytes


def records_of(file: IO[bytes], split_type: str, limit: int) -> Iterator[Record]:
    """Yield the records of a file in their order; blank lines are none.

    Args:
        file: at its beginning.
        split_type: ``None``, ``Line``, ``RecordIO`` or ``TFRecord``.
        limit: of one record, in bytes; 0 sets none.
    Raises:
        SplitError: a record is longer, or the file is damaged.
    """
    splitters = {"None": _whole, "Line": _lines, "RecordIO": _record_io, "TFRecord": _tf_records}
    return splitters[split_type](file, limit or _NO_LIMIT)


def _whole(file: IO[bytes], limit: int) -> Iterator[Record]:
    data = file.read(min(limit + 1, _NO_LIMIT - 1) if limit < _NO_LIMIT else -1)
    if len(data) > limit:
        raise _too_long(limit)
    yield Record(data, data)


def _lines(file: IO[bytes], limit: int) -> Iterator[Record]:
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        lines = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if len(line) >= limit and len(line.rstrip(b"\r")) > limit:
                raise _too_long(limit)
            data = line[:-1] if line.endswith(b"\r") else line
            if data:
                yield Record(data, line + b"\n")
        if len(rest) > limit + 1:
            raise _too_long(limit)
    data = rest[:-1] if rest.endswith(b"\r") else rest
    if len(data) > limit:
        raise _too_long(limit)
    if data:
        yield Record(data, rest)


def _record_io(file: IO[bytes], limit: int) -> Iterator[Record]:
    """Yield MXNet's records; one whose data hold the magic number is written in parts, which belong together."""
    parts: list[bytes] = []
    raw: list[bytes] = []
    while header := _exactly(file, _RECORD_IO.size, "a RecordIO header", may_end=not parts):
        magic, word = _RECORD_IO.unpack(header)
        flag, length = word >> 29, word & ((1 << 29) - 1)
        if magic != MAGIC:
            raise SplitError(f"it is no RecordIO: a record begins with {header[:4].hex()}, not {_MAGIC_BYTES.hex()}")
        if (flag in (0, 1)) != (not parts) or flag > 3:
            raise SplitError("it is no RecordIO: the parts of a record are not in their order")
        if sum(map(len, parts)) + length > limit:
            raise _too_long(limit)
        padded = _exactly(file, length + -length % 4, "a RecordIO record")
        parts += [_MAGIC_BYTES, padded[:length]] if parts else [padded[:length]]
        raw += [header, padded]
        if flag in (0, 3):
            yield Record(b"".join(parts), b"".join(raw))
            parts, raw = [], []


def _tf_records(file: IO[bytes], limit: int) -> Iterator[Record]:
    while header := _exactly(file, _TF_HEADER, "a TFRecord header", may_end=True):
        (length,) = _TF_LENGTH.unpack_from(header)
        if length > limit:
            raise _too_long(limit)
        rest = _exactly(file, length + _TF_FOOTER, "a TFRecord")
        yield Record(rest[:length], header + rest)


def _exactly(file: IO[bytes], count: int, unit: str, *, may_end: bool = False) -> bytes:
    data = file.read(count)
    while 0 < len(data) < count and (piece := file.read(count - len(data))):
        data += piece
    if len(data) < count and not (may_end and not data):
        raise SplitError(f"it ends in the middle of {unit}")
    return data


def _too_long(limit: int) -> SplitError:
    return SplitError(f"a record is longer than the {limit:,} bytes of MaxPayloadInMB")
