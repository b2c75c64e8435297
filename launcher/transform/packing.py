"""Packs records into requests: one by one, or as many as fit, in their order and never across files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from launcher.requests.json_path import FilterError
from launcher.transform.processing import Processing
from launcher.transform.splitting import Record, SplitError, records_of

MIB = 1 << 20


class Payload(NamedTuple):
    """What one request holds.

    Attributes:
        body: its bytes; lines are separated in it, and its last line has no end.
        first: the number of its first record in the file, from 1.
        records: how many it holds.
        originals: the records before they were filtered, to be joined with their answers; empty where nothing is.
    """

    body: bytes
    first: int
    records: int
    originals: tuple[bytes, ...] = ()


def payloads_of(
    file: IO[bytes], *, split_type: str, single: bool, limit_bytes: int, processing: Processing
) -> Iterator[Payload]:
    """Yield the requests that a file becomes, in order; at least one, also for an empty file that is sent whole.

    Args:
        file: decompressed, at its beginning.
        split_type: how it is taken apart.
        single: whether each request holds one record.
        limit_bytes: of a request; 0 sets none.
        processing: how records are filtered; what is sent counts, not what was read.
    Raises:
        SplitError: a record fits into no request, the file is damaged, or a record cannot be filtered.
    """
    if split_type == "Line" and not single and not processing.reads_records and limit_bytes:
        yield from _blocks_of_lines(file, limit_bytes)
        return
    # A filter makes records shorter: what was read may be longer than what is sent.
    records = records_of(file, split_type, 0 if processing.filters_input else limit_bytes)
    if single or split_type == "None":
        for number, record in enumerate(records, 1):
            body = _filtered(processing, record.data, number)
            if limit_bytes and len(body) > limit_bytes:
                raise _too_long(number, limit_bytes)
            yield Payload(body, number, 1, (record.data,) if processing.keeps_records else ())
    else:
        yield from _packed(records, b"\n" if split_type == "Line" else b"", limit_bytes, processing)


def _packed(records: Iterator[Record], separator: bytes, limit_bytes: int, processing: Processing) -> Iterator[Payload]:
    """Append records in order for as long as the request stays within its limit."""
    parts: list[bytes] = []
    originals: list[bytes] = []
    size, first, number = 0, 1, 0
    for number, record in enumerate(records, 1):
        part = _filtered(processing, record.data, number) if separator else record.raw
        if limit_bytes and len(part) > limit_bytes:
            raise _too_long(number, limit_bytes)
        if parts and limit_bytes and size + len(separator) + len(part) > limit_bytes:
            yield Payload(separator.join(parts), first, number - first, tuple(originals))
            parts, originals, size, first = [], [], 0, number
        size += len(part) + (len(separator) if parts else 0)
        parts.append(part)
        if processing.keeps_records:
            originals.append(record.data)
    if parts:
        yield Payload(separator.join(parts), first, number - first + 1, tuple(originals))


def _blocks_of_lines(file: IO[bytes], limit_bytes: int) -> Iterator[Payload]:
    """Cut a file at the last line's end within the limit; the same as packing line by line, and much faster."""
    rest, first, ended = b"", 1, False
    while rest or not ended:
        while not ended and len(rest) <= limit_bytes:
            block = file.read(limit_bytes + 1 - len(rest))
            rest += block
            ended = not block
        if len(rest) <= limit_bytes:
            end = len(rest)
        else:
            # A line's end at the very limit belongs to the line before it.
            end = rest.rfind(b"\n", 0, limit_bytes + 1) + 1
            if end == 0:
                raise _too_long(first, limit_bytes)
        body, rest = rest[:end].removesuffix(b"\n"), rest[end:]
        if body.strip(b"\r\n"):
            records = body.count(b"\n") + 1
            yield Payload(body, first, records)
            first += records


def _filtered(processing: Processing, data: bytes, number: int) -> bytes:
    try:
        return processing.filtered(data)
    except (FilterError, ValueError) as error:
        raise SplitError(f"record {number}: {error}") from error


def _too_long(number: int, limit_bytes: int) -> SplitError:
    return SplitError(f"record {number} is longer than the {limit_bytes / MIB:g} MB of MaxPayloadInMB")
