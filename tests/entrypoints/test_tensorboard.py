"""Event files: the published checksum, and every record read back by hand."""

import math
import struct

from batch_rl.reporting.tensorboard import EventFile, crc32c


def test_the_checksum_is_castagnolis():
    """The check value that RFC 3720 and the catalogue of CRCs give."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def masked(data):
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(content):
    """Yield the messages of a file, both of their checksums compared."""
    while content:
        length, checksum = struct.unpack("<QI", content[:12])
        assert checksum == masked(content[:8])
        message = content[12 : 12 + length]
        assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked(message),)
        yield message
        content = content[16 + length :]


def fields(message):
    """Yield (field, value) of a protocol buffer message."""
    while message:
        field, kind = message[0] >> 3, message[0] & 7
        message = message[1:]
        if kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield field, struct.unpack("<d" if kind == 1 else "<f", message[:size])[0]
            message = message[size:]
            continue
        number, shift = 0, 0
        while True:
            byte, message = message[0], message[1:]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if kind == 0:
            yield field, number
        else:
            yield field, message[:number]
            message = message[number:]


def test_numbers_are_written_by_step_and_everything_else_is_left_out(tmp_path):
    events = EventFile(tmp_path / "runs")
    long_name = "a" * 200
    events.append(1, {"WIS": 20.5, "Epoch": 3, "Evaluated Policy": "softmax", "DM": math.nan, "none": None})
    events.append(300, {long_name: -2.0})
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    first, *others = [dict(fields(message)) for message in records(path.read_bytes())]
    assert first[3] == b"brain.Event:2"
    scalars = {
        (event[2], dict(fields(value))[1].decode()): dict(fields(value))[2]
        for event in others
        for _, value in fields(event[5])
    }
    assert scalars == {(1, "WIS"): 20.5, (1, "Epoch"): 3.0, (300, long_name): -2.0}
    assert all(event[1] > 1.7e9 for event in others)
