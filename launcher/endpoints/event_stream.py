"""AWS's event stream, as it is written: each message with its length, its headers and two checksums.

Source: the encoding ``application/vnd.amazon.eventstream``: prelude (total length, length of the headers, CRC-32 of the
two), headers, payload, CRC-32 of all before it; numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7  # the type of a header's value
_PRELUDE_BYTES = 12


def payload_part(data: bytes) -> bytes:
    """Return the message that carries a part of an answer."""
    headers = {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
    return message(headers, data)


def stream_error(kind: str, values: Mapping[str, str]) -> bytes:
    """Return the message by which a stream ends that could not be finished."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    return message(headers, json.dumps(dict(values)).encode())


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(block) + len(payload), len(block))
    start = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return start + struct.pack(">I", crc32(start))


def _header(name: str, value: str) -> bytes:
    name_bytes, value_bytes = name.encode(), value.encode()
    return struct.pack(">B", len(name_bytes)) + name_bytes + struct.pack(">BH", _TEXT, len(value_bytes)) + value_bytes


def read_messages(parts: Iterable[bytes]) -> Iterator[tuple[dict[str, str], bytes]]:
    """Yield headers and payload of each message of a stream that comes in parts.

    Raises:
        ValueError: a checksum is wrong, or the stream ends within a message.
    """
    buffer = b""
    for part in parts:
        buffer += part
        while len(buffer) >= _PRELUDE_BYTES:
            total, header_bytes = struct.unpack(">II", buffer[:8])
            if len(buffer) < total:
                break
            whole, buffer = buffer[:total], buffer[total:]
            if crc32(whole[:8]) != int.from_bytes(whole[8:12]) or crc32(whole[:-4]) != int.from_bytes(whole[-4:]):
                raise ValueError("a message of the stream is damaged")
            end = _PRELUDE_BYTES + header_bytes
            yield dict(_headers(whole[_PRELUDE_BYTES:end])), whole[end:-4]
    if buffer:
        raise ValueError("the stream ends within a message")


def _headers(block: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and value of each header; all of ours are text."""
    while block:
        length = block[0]
        name, rest = block[1 : 1 + length].decode(), block[2 + length :]
        size = int.from_bytes(rest[:2])
        yield name, rest[2 : 2 + size].decode()
        block = rest[2 + size :]
