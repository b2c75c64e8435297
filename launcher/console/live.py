"""Streams of events: what of a page has changed since it was made, as HTML of its parts, and new lines of logs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from launcher.console.html import joined, log_line, markup
from launcher.console.pages import PAGE_LINES, job_line, job_lines, job_parts
from launcher.console.places import endpoint_parts
from launcher.console.reading import endpoint_view, job_view, listed_jobs
from launcher.errors import LauncherError
from launcher.jobs.folder import JobFolder
from launcher.jobs.kinds import KINDS
from launcher.jobs.store import EndpointStore, Store
from launcher.running.following import LogReader

_LOOK_SECONDS = 0.1
_PARTS_SECONDS = 1.0
_SILENCE_SECONDS = 15.0
_MOST_LINES = 2000  # of one event


def job_events(home: Path, folder: str, name: str, place: str) -> Iterator[bytes]:
    """Yield what happens to a job until it has ended.

    Args:
        place: where its logs were read to, as ``place_of`` wrote it.
    """
    ended = False

    def parts() -> Mapping[str, str]:
        nonlocal ended
        view = job_view(home, folder, name)
        ended = view.record.terminal
        return job_parts(view)

    yield from _parts_and_log(parts, Store(home, KINDS[folder]).folder(name), place, lambda: ended)


def endpoint_events(home: Path, name: str, place: str) -> Iterator[bytes]:
    """Yield what happens to an endpoint, for as long as it is there and somebody looks."""
    yield from _parts_and_log(
        lambda: endpoint_parts(*endpoint_view(home, name)), EndpointStore(home).folder(name), place, lambda: False
    )


def _parts_and_log(
    parts: Callable[[], Mapping[str, str]], folder: JobFolder, place: str, ended: Callable[[], bool]
) -> Iterator[bytes]:
    lines: dict[str, list[str]] = {}
    reader = LogReader(folder, lambda host, line: lines.setdefault(host, []).append(line), offsets=read_place(place))
    changes = _Changes(parts)
    while not ended():
        try:
            yield changes.look()
        except LauncherError:  # removed at this moment
            break
        reader.read(final=ended())
        for host, new in lines.items():
            text = joined(markup("{}\n", log_line(line)) for line in new[-_MOST_LINES:])
            yield event("log", f"log-{host}", str(text), place_of(reader.offsets))
        lines.clear()
        time.sleep(_LOOK_SECONDS)
    yield event("end")


def list_events(home: Path, asked: Mapping[str, str], begin: int) -> Iterator[bytes]:
    """Yield what happens to the jobs of a page of the list, for as long as somebody looks."""
    before: list[str] = []

    def parts() -> Mapping[str, str]:
        nonlocal before
        lines, total = listed_jobs(
            home, folder=asked["kind"], text=asked["text"], status=asked["status"], begin=begin, limit=PAGE_LINES
        )
        names = [line.identity for line in lines]
        if before and names == before:
            return {line.identity: job_line(line) for line in lines}
        before = names
        whole = {"lines": job_lines(lines, asked, total, begin)}
        return whole | {line.identity: job_line(line) for line in lines}

    changes = _Changes(parts)
    while True:
        yield changes.look()
        time.sleep(_LOOK_SECONDS)


class _Changes:
    """Looks every second which parts of a page are others than they were.

    Args:
        parts: makes them, by their ids.
    """

    def __init__(self, parts: Callable[[], Mapping[str, str]]) -> None:
        self._parts = parts
        self._before: Mapping[str, str] = {}
        self._next = 0.0
        self._silent_since = time.monotonic()

    def look(self) -> bytes:
        """Return the events for what has changed; nothing for nothing, but a word when it was silent for long.

        Raises:
            LauncherError: the parts cannot be made any more.
        """
        now = time.monotonic()
        changed = b""
        if now >= self._next:
            parts = self._parts()
            changed = b"".join(
                event("part", name, str(html)) for name, html in parts.items() if self._before.get(name) != html
            )
            self._before, self._next = parts, now + _PARTS_SECONDS
        if changed or now - self._silent_since > _SILENCE_SECONDS:
            self._silent_since = now
            return changed or b":\n\n"
        return b""


def event(kind: str, name: str = "", html: str = "", identity: str = "") -> bytes:
    """Return an event; its data are JSON, so that no line end in them can make another."""
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {kind}\ndata: {json.dumps([name, html])}\n\n".encode()


def place_of(offsets: Mapping[str, int]) -> str:
    """Return how far logs were read, as a word."""
    return ",".join(f"{host}:{offset}" for host, offset in sorted(offsets.items()))


def read_place(word: str) -> dict[str, int]:
    """Return what ``place_of`` wrote; what is no such word is left out."""
    pairs = (part.rpartition(":") for part in word.split(","))
    return {host: int(offset) for host, _, offset in pairs if offset.isdecimal() and len(offset) < 16}
