"""The log streams of CloudWatch Logs, read from the log files of jobs and endpoints; nothing is copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from launcher.errors import LauncherError
from launcher.jobs.endpoint_record import EndpointRecord
from launcher.jobs.folder import JobFolder
from launcher.jobs.kinds import ENDPOINTS, KINDS
from launcher.jobs.log_times import LogTimes
from launcher.jobs.record import DrivenRecord, Record
from launcher.jobs.spec import host_of_log
from launcher.jobs.store import Store

EVENT_BYTES = 256 << 10
"""The longest event; a longer line becomes several."""
PAGE_BYTES = 1 << 20
"""The most that one answer holds."""

_EVENT_OVERHEAD_BYTES = 26
_FIRST_READ_BYTES, _LONGEST_READ_BYTES = 32 << 10, 1 << 20
_JOB_GROUPS = {
    "/aws/sagemaker/TrainingJobs": "jobs",
    "/aws/sagemaker/ProcessingJobs": "processing-jobs",
    "/aws/sagemaker/TransformJobs": "transform-jobs",
}
_ENDPOINTS = "/aws/sagemaker/Endpoints/"
# As the containers of an endpoint are named: variant, its position, number, deployment, and how often started again.
_ENDPOINT_HOST = re.compile(r"(.+)-(\d+)-\d+-[0-9a-f]{6}(?:-\d+)?")


def _matches_all(_message: str) -> bool:
    return True


@dataclass(frozen=True)
class Stream:
    """A log stream: the log file of one host.

    Attributes:
        name: in its group.
        path: of the file.
        created: when its job was, in ms since 1970.
        ended: whether nothing more will be written to it.
    """

    name: str
    path: Path
    created: int
    ended: bool


class Event(NamedTuple):
    """One line of a log, or a part of a long one; in order by time, then by stream and place.

    Attributes:
        timestamp: ms since 1970.
        stream: the stream's name.
        begin: of its bytes in the file.
        end: the same; the next event begins there or later.
        size: what it counts in an answer, in bytes.
    """

    timestamp: int
    stream: str
    begin: int
    end: int
    message: str
    size: int


@dataclass(frozen=True)
class Window:
    """Which events are wanted.

    Attributes:
        count: at most.
        start: the first moment, in ms since 1970.
        stop: the first moment that is too late; None for no limit.
        matches: whether a message is wanted.
    """

    count: int
    start: int = 0
    stop: int | None = None
    matches: Callable[[str], bool] = _matches_all

    def page(self, events: Iterable[Event]) -> tuple[list[Event], bool]:
        """Return as many events, from the first on, as one answer holds, and whether there are more."""
        page: list[Event] = []
        size = 0
        for event in events:
            size += event.size
            if len(page) == self.count or (page and size > PAGE_BYTES):
                return page, True
            page.append(event)
        return page, False


def is_own(group: str) -> bool:
    """Return whether a log group is one that SageMaker writes to."""
    return group in _JOB_GROUPS or group.startswith(_ENDPOINTS)


def groups(home: Path) -> list[tuple[str, int]]:
    """Return the names of all groups that have a stream, and when each was made, in ms since 1970."""
    names = [*_JOB_GROUPS, *(f"{_ENDPOINTS}{name}" for name in _folder_names(home / ENDPOINTS.folder))]
    times = [(name, [path.stat().st_mtime_ns // 1_000_000 for path in _logs(name, home)]) for name in sorted(names)]
    return [(name, min(moments)) for name, moments in times if moments]


def exists(group: str, home: Path) -> bool:
    """Return whether a group has a stream: it is made with the first one."""
    return any(True for _ in _logs(group, home))


def streams(group: str, home: Path, prefix: str = "") -> list[Stream]:
    """Return the streams of a group whose names begin with ``prefix``, in the order of their names.

    A record that cannot be read has no streams.
    """
    name, slash, _ = prefix.partition("/")
    result: list[Stream] = []
    for folder, job_names in _places(group, home):
        for job_name in job_names:
            of_endpoint = folder == ENDPOINTS.folder
            if of_endpoint or job_name == name or (not slash and job_name.startswith(name)):
                result += _streams_of(folder, job_name, home)
    return sorted((stream for stream in result if stream.name.startswith(prefix)), key=lambda stream: stream.name)


class EventLog:
    """The events of a stream as they are at one look.

    Empty lines are no events, because CloudWatch has none without a message. A line that is still being written becomes
    one when it is whole, or when its job has ended.
    """

    def __init__(self, stream: Stream) -> None:
        self._name, self._path = stream.name, stream.path
        self._ended = stream.ended
        self._moments = LogTimes(stream.path).moments()
        # The engine's copy of a log is written again when a driver takes a job up: it may be shorter for a moment.
        self.size = min(self._moments.size, stream.path.stat().st_size)

    @property
    def last_timestamp(self) -> int:
        """When it last grew, in ms since 1970; 0 for an empty log."""
        return self._moments.at(self.size) if self.size else 0

    @property
    def end(self) -> int:
        """Where the next line begins that is not whole yet."""
        return self.size if self._ended else self._line_begin(self.size)

    def after(self, offset: int, window: Window) -> Iterator[Event]:
        """Yield the events from an offset on that a window wants, whatever its count."""
        first = self._line_begin(self._moments.length_before(window.start)) if window.start else 0
        for event in self._events(max(offset, first), window.matches):
            if window.stop is not None and event.timestamp >= window.stop:
                return
            if event.timestamp >= window.start:
                yield event

    def page_before(self, offset: int, window: Window) -> list[Event]:
        """Return the last events before an offset that one answer holds."""
        end = min(offset, self.size)
        if window.stop is not None:
            end = min(end, self._moments.length_before(window.stop))
        span = _FIRST_READ_BYTES
        while True:
            begin = self._line_begin(max(0, end - span))
            events = []
            for event in self._events(begin):
                if event.end > end:
                    break
                if event.timestamp >= window.start:
                    events.append(event)
            enough = len(events) > window.count or sum(event.size for event in events) > PAGE_BYTES
            if enough or begin == 0 or self._moments.at(begin) < window.start:
                return window.page(reversed(events))[0][::-1]
            span *= 4

    def _events(self, offset: int, matches: Callable[[str], bool] = _matches_all) -> Iterator[Event]:
        span = _FIRST_READ_BYTES
        while offset < self.size:
            with self._path.open("rb") as log:  # not for longer: a group may have more streams than a process has files
                log.seek(offset)
                data = log.read(min(span, self.size - offset))
            begin = 0
            while begin < len(data):
                at_end = offset + len(data) == self.size
                piece = _piece(data, begin, is_last=self._ended and at_end)
                if not piece:
                    break
                end = begin + len(piece)
                text = piece.removesuffix(b"\n").rstrip(b"\r")
                if text and matches(message := text.decode("utf-8", "replace")):
                    yield Event(
                        self._moments.at(offset + end),
                        self._name,
                        offset + begin,
                        offset + end,
                        message,
                        len(text) + _EVENT_OVERHEAD_BYTES,
                    )
                begin = end
            if not begin and (not data or offset + len(data) == self.size):
                return
            offset += begin
            span = min(2 * span, _LONGEST_READ_BYTES)

    def _line_begin(self, offset: int) -> int:
        """Return where the line begins that the byte before ``offset`` belongs to, or ``offset`` after a line's end."""
        with self._path.open("rb") as log:
            while offset > 0:
                begin = max(0, offset - _FIRST_READ_BYTES)
                log.seek(begin)
                position = log.read(offset - begin).rfind(b"\n")
                if position >= 0:
                    return begin + position + 1
                offset = begin
        return 0


def _piece(data: bytes, begin: int, *, is_last: bool) -> bytes:
    """Return the bytes of the next event, with the line's end; none where they are not all there."""
    end = data.find(b"\n", begin, begin + EVENT_BYTES)
    if end >= 0:
        return data[begin : end + 1]
    piece = data[begin : begin + EVENT_BYTES]
    if len(piece) == EVENT_BYTES:
        return _whole_characters(piece)
    return piece if is_last else b""


def _whole_characters(data: bytes) -> bytes:
    """Cut off a character of UTF-8 whose last bytes are missing."""
    for back in (1, 2, 3):
        lead = data[-back]
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[:-back] if length > back else data
        if lead < 0x80:
            break
    return data


def _places(group: str, home: Path) -> list[tuple[str, list[str]]]:
    """Return the folders of the home that a group's logs lie in, with the names below each."""
    if group in _JOB_GROUPS:
        folder = _JOB_GROUPS[group]
        return [(folder, _folder_names(home / folder))] if folder in KINDS else []
    name = group.removeprefix(_ENDPOINTS)
    return [(ENDPOINTS.folder, [name])] if name in _folder_names(home / ENDPOINTS.folder) else []


def _logs(group: str, home: Path) -> Iterator[Path]:
    for folder, names in _places(group, home):
        for name in names:
            yield from JobFolder(home / folder / name).log_paths()


def _folder_names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []


def _streams_of(folder: str, name: str, home: Path) -> list[Stream]:
    logs = JobFolder(home / folder / name).log_paths()
    if not logs:
        return []
    store: Store[Any] = Store(home, KINDS[folder])
    try:
        record: Record = store.load(name)
    except LauncherError:
        return []
    created = int(record.created * 1000)
    result = []
    for path in logs:
        host = host_of_log(path.name)
        if isinstance(record, EndpointRecord):
            result.append(Stream(_endpoint_stream(record, host), path, created, record.terminal))
        elif isinstance(record, DrivenRecord):
            ended = record.terminal or host in record.exit_codes
            result.append(Stream(f"{name}/{host}-{int(record.created)}", path, created, ended))
    return result


def _endpoint_stream(record: EndpointRecord, host: str) -> str:
    match = _ENDPOINT_HOST.fullmatch(host)
    variant = match.group(1) if match else host
    for deployment in (record.deployment, record.coming, *record.leaving.values()):
        # The names of containers cut those of variants short.
        for number, settings in enumerate(deployment.get("config", {}).get("variants", ()), 1):
            if match and int(match.group(2)) == number and str(settings["name"]).startswith(variant):
                return f"{settings['name']}/{host}"
    return f"{variant}/{host}"
