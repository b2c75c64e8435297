"""TensorBoard event files with scalars, which needs two message types and a checksum, and so no package.

A file is a sequence of records: length, checksum of the length, an ``Event`` message, checksum of the message.

Source: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, summary.proto.
"""

import math
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path


def _checksum_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # CRC-32C, reflected
        table.append(value)
    return tuple(table)


_TABLE = _checksum_table()


def crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum of some bytes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


class EventFile:
    """A growing event file that TensorBoard can read at any time.

    Args:
        folder: made if it is not there; TensorBoard's ``--logdir``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._write(_text(3, "brain.Event:2"))

    def append(self, step: int, scalars: Mapping[str, object]) -> None:
        """Write the finite numbers among ``scalars`` as one event, and leave the other values out."""
        values = b""
        for tag, value in scalars.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                values += _message(1, _text(1, tag) + b"\x15" + struct.pack("<f", value))
        self._write(b"\x10" + _varint(step) + _message(5, values))

    def _write(self, content: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + content
        length = struct.pack("<Q", len(event))
        with self.path.open("ab") as file:
            file.write(length + _masked(length) + event + _masked(event))


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
