"""When the lines of a log came: a file of moments beside each log, for logs that carry no times themselves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from array import array
from bisect import bisect_left
from pathlib import Path

from launcher.jobs.folder import JobFolder
from launcher.jobs.spec import host_of_log

_ENTRY = struct.Struct("=QQ")


class LogMoments:
    """The moments of a log as they were at one look; the same bytes have the same moment at every later look.

    Args:
        entries: pairs of a moment (ms since 1970) and the log's length at that moment, as the file holds them.
    """

    def __init__(self, entries: bytes) -> None:
        numbers = array("Q", entries)
        self._moments, self._lengths = numbers[0::2], numbers[1::2]

    @property
    def size(self) -> int:
        """How many bytes of the log have a moment."""
        return self._lengths[-1] if self._lengths else 0

    def at(self, length: int) -> int:
        """Return when the log had grown to ``length`` bytes, in ms since 1970.

        Raises:
            IndexError: it is longer than ``size``.
        """
        return self._moments[bisect_left(self._lengths, length)]

    def length_before(self, moment: int) -> int:
        """Return how many bytes came before a moment (ms since 1970)."""
        number = bisect_left(self._moments, moment)
        return self._lengths[number - 1] if number else 0


class LogTimes:
    """Notes how a log grows: 16 bytes a look that finds it longer. Moments and lengths never decrease.

    A log is written by the job itself, which may outlive its driver. So whoever looks at the log notes its growth, the
    driver while it follows the job, a reader for what no driver saw; the moment is that of the log's last change.

    Args:
        log_path: the log; it need not be there yet.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._path = log_path.with_name(f"{log_path.name}.times")
        self._noted = 0

    def note(self) -> None:
        """Note the log's length, if it has grown.

        Raises:
            OSError: the file beside it cannot be written.
        """
        about = self._look()
        if about is None or about.st_size <= self._noted:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # A full disk may have cut the last entry short.
            end = os.fstat(descriptor).st_size // _ENTRY.size * _ENTRY.size
            last = os.pread(descriptor, _ENTRY.size, end - _ENTRY.size) if end else b""
            if entry := _next_entry(last, about):
                os.pwrite(descriptor, entry, end)
        finally:
            os.close(descriptor)
        self._noted = about.st_size

    def moments(self) -> LogMoments:
        """Return the moments of all that the log holds now, noted where that can be done."""
        try:
            self.note()
        except OSError:  # another user's job, a full disk: the moments hold for this look
            about = self._look()
            entries = self._entries()
            return LogMoments(entries + (_next_entry(entries[-_ENTRY.size :], about) if about else b""))
        return LogMoments(self._entries())

    def _look(self) -> os.stat_result | None:
        try:
            return self._log_path.stat()
        except FileNotFoundError:
            return None

    def _entries(self) -> bytes:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        return data[: len(data) // _ENTRY.size * _ENTRY.size]


def _next_entry(last: bytes, about: os.stat_result) -> bytes:
    """Return the entry for a log's state; empty where the log is no longer than the last one says."""
    moment, length = _ENTRY.unpack(last) if last else (0, 0)
    if about.st_size <= length:
        return b""
    return _ENTRY.pack(max(moment, about.st_mtime_ns // 1_000_000), about.st_size)


class FolderTimes:
    """Notes how all logs of a job's folder grow; a log that cannot be noted is left to its readers.

    Args:
        folder: the job's.
    """

    def __init__(self, folder: JobFolder) -> None:
        self._folder = folder
        self._times: dict[str, LogTimes] = {}

    def note(self) -> None:
        """Note every log that has grown."""
        for path in self._folder.log_paths():
            with contextlib.suppress(OSError):  # a full disk, or a folder that was removed at this moment
                self._times.setdefault(path.name, LogTimes(path)).note()

    def moments(self) -> dict[str, LogMoments]:
        """Return the moments of every log, by host."""
        return {host_of_log(path.name): LogTimes(path).moments() for path in self._folder.log_paths()}
