"""Reads the logs of a job's hosts as they grow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.jobs.folder import JobFolder
from launcher.jobs.spec import host_of_log

_CHUNK_BYTES = 1 << 20
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 20

LineSink = Callable[[str, str], None]
"""Takes the host and one line of its log, without the line's end."""


class LogReader:
    """Reads the logs of a job's hosts as they grow and hands on each whole line once.

    A sink that raises is dropped: looking at a job must not harm it.

    Args:
        folder: the job's.
        sink: takes the lines.
        purpose: what is lost without the sink, as a person would say it.
        offsets: where to begin in the log of each host, in bytes; default: at its beginning.

    Attributes:
        failure: why the sink was dropped, as a warning; empty as long as it works.
        line_end: of the line that the sink has: how many bytes of its log end with it.
    """

    def __init__(
        self,
        folder: JobFolder,
        sink: LineSink,
        purpose: str = "the log is no longer printed",
        offsets: Mapping[str, int] | None = None,
    ) -> None:
        self._folder = folder
        self._sink = sink
        self._purpose = purpose
        self._offsets = dict(offsets or {})
        self._rests: dict[str, bytes] = {}
        self.failure = ""
        self.line_end = 0

    @property
    def offsets(self) -> dict[str, int]:
        """How many bytes of each log were handed on as whole lines, by host: where another reader may begin."""
        return {host: offset - len(self._rests.get(host, b"")) for host, offset in self._offsets.items()}

    def read(self, *, final: bool = False) -> None:
        """Hand on what is new; with ``final`` also a last line that has no end."""
        for path in self._folder.log_paths():
            host = host_of_log(path.name)
            try:
                log = path.open("rb")
            except FileNotFoundError:
                continue  # the job's folder was removed at this moment
            with log:
                log.seek(self._offsets.get(host, 0))
                while not self.failure and (chunk := log.read(_CHUNK_BYTES)):
                    data = self._rests.pop(host, b"") + chunk
                    self.line_end = log.tell() - len(data)
                    self._hand_on(host, data)
                self._offsets[host] = log.tell()
            if final and (rest := self._rests.pop(host, b"")):
                self.line_end = self._offsets[host] - len(rest) - 1
                self._hand_on(host, rest + b"\n")

    def _hand_on(self, host: str, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        if len(rest) > _CHUNK_BYTES:  # a line without end would fill the memory
            lines, rest = [*lines, rest], b""
        self._rests[host] = rest
        for line in lines:
            if self.failure:
                return
            self.line_end += len(line) + 1
            try:
                self._sink(host, line.decode("utf-8", "replace").rstrip("\r"))
            except Exception as error:  # noqa: BLE001 - a viewer's own; it becomes a warning of the job
                self.failure = f"{self._purpose}: {type(error).__name__}: {error}"


def tail_begins(folder: JobFolder, limit: int) -> dict[str, int]:
    """Return where the last ``limit`` bytes of each log begin, at the begin of a line, by host."""
    begins = {}
    for path in folder.log_paths():
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - limit))
                if log.tell():
                    log.readline(limit)
                begins[host_of_log(path.name)] = log.tell()
        except FileNotFoundError:
            continue  # the job's folder was removed at this moment
    return begins


def log_tail(path: Path) -> list[str]:
    """Return the last lines of a log that are not blank; none where there is no log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    return [line.rstrip("\r") for line in lines if line.strip()][-_LOG_TAIL_LINES:]
