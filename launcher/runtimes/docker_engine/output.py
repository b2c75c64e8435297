"""A container's output: taken apart, and copied into a host's log."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from launcher.jobs.spec import ContainerSpec
from launcher.runtimes.base import open_log

STDOUT, STDERR = 1, 2
_FRAME_HEADER = struct.Struct(">BxxxL")
Frames = Iterable[tuple[int, bytes]]
"""Output as it came: which stream (1 stdout, 2 stderr), and a piece of it."""


class LogCopy:
    """A host's log file, which gets each byte of the container's output once, however often the output is read."""

    def __init__(self, container: ContainerSpec) -> None:
        self._container = container
        self._path = Path(container.log_path)
        self._written = {STDOUT: 0, STDERR: 0}
        self._skip = dict(self._written)
        self._begun = False
        self.incomplete = False
        self.warning = ""

    def begin_again(self) -> None:
        """Expect the output from its beginning, and skip what is written already.

        Each stream is counted by itself: the engine's copy may have the two in another order.
        """
        self._skip = dict(self._written)

    def copy(self, frames: Frames) -> None:
        """Append what is new in an output to the log, until its end; a full disk drops the rest."""
        try:
            log: IO[bytes] = self._path.open("ab", buffering=0) if self._begun else open_log(self._container)
        except OSError as error:
            self._drop(error)
            log = Path(os.devnull).open("ab", buffering=0)  # noqa: SIM115 - closed below, with either file
        else:
            self._begun, self.incomplete = True, False
        with log:
            for stream, data in frames:
                passed = min(self._skip[stream], len(data))
                self._skip[stream] -= passed
                if (rest := data[passed:]) and not self.incomplete:
                    self._append(log, stream, rest)

    def _append(self, log: IO[bytes], stream: int, data: bytes) -> None:
        try:
            while data:
                count = log.write(data)
                self._written[stream] += count
                data = data[count:]
        except OSError as error:  # a full disk; the job goes on, and the container must not block on its output
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.incomplete = True
        self.warning = f"the rest of the log was dropped: {self._path}: {error.strerror}"

    def end(self) -> str:
        """Return the last of what was written."""
        if not self._path.exists():
            return ""
        with self._path.open("rb") as log:
            log.seek(max(self._container.log_offset, self._path.stat().st_size - 4096))
            return log.read().decode("utf-8", "replace")


def frames_of(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Take the engine's multiplexed output apart: a header of 8 bytes (stream, length), then the bytes."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _FRAME_HEADER.size:
            stream, length = _FRAME_HEADER.unpack_from(buffer)
            end = _FRAME_HEADER.size + length
            if len(buffer) < end:
                break
            yield (STDERR if stream == STDERR else STDOUT), bytes(buffer[_FRAME_HEADER.size : end])
            del buffer[:end]


def pairs_of(stream: Iterable[tuple[bytes | None, bytes | None]]) -> Iterator[tuple[int, bytes]]:
    """Take docker-py's pairs of both streams apart."""
    for stdout, stderr in stream:
        if stdout:
            yield STDOUT, stdout
        if stderr:
            yield STDERR, stderr
