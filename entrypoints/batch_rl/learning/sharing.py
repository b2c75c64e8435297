"""The files of a channel that each host has a part of, gathered so that every host has all of them."""

import atexit
import shutil
import tempfile
from pathlib import Path

import torch

from batch_rl.learning.hosts import Hosts

_BLOCK_BYTES = 16 << 20


def gather_files(folder: Path, hosts: Hosts) -> Path:
    """Hand this host's files to the others, and theirs to this one.

    Args:
        folder: with this host's part; it may be empty, and is only read.
    Returns:
        A folder with the files of all hosts under their own names: a lone host's, with the whole channel. It is in the
        folder for temporary files, and goes with this process.
    Raises:
        TrainingError: a host has lost the others.
        OSError: a file cannot be read, or the disk has no room for the files of the others.
    """
    whole = Path(tempfile.mkdtemp(prefix="batch-rl-gathered-"))
    atexit.register(shutil.rmtree, whole, ignore_errors=True)
    for number in range(hosts.count):
        for name, size in hosts.once(lambda: _files(folder), by=number):
            path = whole / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if number == hosts.number:
                path.symlink_to((folder / name).resolve())
            _hand_on(path, size, hosts, by=number)
    return whole


def _files(folder: Path) -> list[tuple[str, int]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.stat().st_size) for path in paths]


def _hand_on(path: Path, size: int, hosts: Hosts, *, by: int) -> None:
    """Read a file, where this host has it, else write it, in blocks that all hosts see at the same time."""
    is_own = by == hosts.number
    with path.open("rb" if is_own else "wb") as file:
        for begin in range(0, size, _BLOCK_BYTES):
            count = min(_BLOCK_BYTES, size - begin)
            block = bytearray(file.read(count)) if is_own else bytearray(count)
            hosts.hand_on(torch.frombuffer(block, dtype=torch.uint8), by=by)
            if not is_own:
                file.write(block)
