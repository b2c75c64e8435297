"""AWS's event stream, as it is written: each message with its length, its headers and two checksums.

Source: the encoding ``application/vnd.amazon.eventstream``: prelude (total length, length of the headers, CRC-32 of the
two), headers, payload, CRC-32 of all before it; numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7  # the type of a header's value


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
