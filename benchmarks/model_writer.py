"""The job of the artifact row: writes a model, half float32 noise and half CSV text, and ends."""

from __future__ import annotations

import argparse
import os
import random
from array import array
from pathlib import Path

_BLOCK_BYTES = 1 << 20
# A block is far larger than gzip's window of 32 KiB, so repeating it does not help any compressor.
_DIFFERENT_BLOCKS = 4


def write_model(folder: Path, size_mib: int) -> None:
    """Write ``size_mib`` MiB below ``folder``: ``weights.f32`` and ``table.csv``, half each; the same every time."""
    generator = random.Random(1)
    half = size_mib * _BLOCK_BYTES // 2
    _write_blocks(folder / "weights.f32", [_weights(generator) for _ in range(_DIFFERENT_BLOCKS)], half)
    _write_blocks(folder / "table.csv", [_table(generator) for _ in range(_DIFFERENT_BLOCKS)], half)


def _weights(generator: random.Random) -> bytes:
    return array("f", (generator.gauss(0.0, 0.1) for _ in range(_BLOCK_BYTES // 4))).tobytes()


def _table(generator: random.Random) -> bytes:
    lines, length = [], 0
    while length < _BLOCK_BYTES:
        values = ",".join(f"{generator.gauss(0.0, 1.0):.6f}" for _ in range(4))
        lines.append(f"{generator.randrange(2)},{generator.randrange(500)},1.0,{values}\n")
        length += len(lines[-1])
    return "".join(lines).encode()[:_BLOCK_BYTES]


def _write_blocks(path: Path, blocks: list[bytes], size: int) -> None:
    with path.open("wb") as file:
        written = 0
        while written < size:
            written += file.write(blocks[written // _BLOCK_BYTES % len(blocks)][: size - written])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--size_mib", type=int, required=True)
    write_model(Path(os.environ["SM_MODEL_DIR"]), parser.parse_args().size_mib)
